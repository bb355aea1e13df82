/* /certs: the certificates of every TLS context. */
#include "base/arena.h"
#include "base/loop.h"
#include "envoy/admin/v3/certs.pb-c.h"
#include "proxy/net/tls_list.h"
#include "proxy/runtime/runtime.h"
#include "server/admin.h"
#include "server/admin_internal.h"
#include "server/server.h"

enum { SECONDS_PER_DAY = 86400 };

struct certs {
    struct arena *arena;
    uint64_t now_s;
    Envoy__Admin__V3__Certificate **v;
    size_t count, cap;
};

static Google__Protobuf__Timestamp *time_of(struct arena *a, int64_t seconds)
{
    Google__Protobuf__Timestamp *t = ARENA_NEW(a, Google__Protobuf__Timestamp);
    google__protobuf__timestamp__init(t);
    t->seconds = seconds;
    return t;
}

static void add_names(struct certs *c, Envoy__Admin__V3__CertificateDetails *d,
                      const struct tls_names *names,
                      Envoy__Admin__V3__SubjectAlternateName__NameCase kind)
{
    for (size_t i = 0; i < names->count; i++) {
        Envoy__Admin__V3__SubjectAlternateName *n =
            ARENA_NEW(c->arena, Envoy__Admin__V3__SubjectAlternateName);
        envoy__admin__v3__subject_alternate_name__init(n);
        n->name_case = kind;
        n->dns = str_z(c->arena, names->v[i]); /* all members of the oneof share the place */
        d->subject_alt_names[d->n_subject_alt_names++] = n;
    }
}

static Envoy__Admin__V3__CertificateDetails *details(struct certs *c,
                                                     const struct tls_list_cert *from)
{
    const struct tls_cert_info *info = &from->info;
    Envoy__Admin__V3__CertificateDetails *d =
        ARENA_NEW(c->arena, Envoy__Admin__V3__CertificateDetails);
    size_t names = info->dns_san.count + info->uri_san.count + info->ip_san.count;
    envoy__admin__v3__certificate_details__init(d);
    d->path = str_z(c->arena, from->path);
    d->serial_number = str_z(c->arena, info->serial);
    d->subject_alt_names = ARENA_ARRAY(c->arena, Envoy__Admin__V3__SubjectAlternateName *, names);
    add_names(c, d, &info->dns_san, ENVOY__ADMIN__V3__SUBJECT_ALTERNATE_NAME__NAME_DNS);
    add_names(c, d, &info->uri_san, ENVOY__ADMIN__V3__SUBJECT_ALTERNATE_NAME__NAME_URI);
    add_names(c, d, &info->ip_san, ENVOY__ADMIN__V3__SUBJECT_ALTERNATE_NAME__NAME_IP_ADDRESS);
    if (info->valid_to > (int64_t)c->now_s)
        d->days_until_expiration = ((uint64_t)info->valid_to - c->now_s) / SECONDS_PER_DAY;
    d->valid_from = time_of(c->arena, info->valid_from);
    d->expiration_time = time_of(c->arena, info->valid_to);
    return d;
}

static void count_one(void *arg, const struct tls_list_view *v)
{
    (void)v;
    ((struct certs *)arg)->cap++;
}

static void add_one(void *arg, const struct tls_list_view *v)
{
    struct certs *c = arg;
    Envoy__Admin__V3__Certificate *m = ARENA_NEW(c->arena, Envoy__Admin__V3__Certificate);
    envoy__admin__v3__certificate__init(m);
    m->ca_cert = ARENA_ARRAY(c->arena, Envoy__Admin__V3__CertificateDetails *, v->ca_count);
    m->cert_chain = ARENA_ARRAY(c->arena, Envoy__Admin__V3__CertificateDetails *, v->cert_count);
    for (size_t i = 0; i < v->ca_count; i++)
        m->ca_cert[m->n_ca_cert++] = details(c, &v->cas[i]);
    for (size_t i = 0; i < v->cert_count; i++)
        m->cert_chain[m->n_cert_chain++] = details(c, &v->certs[i]);
    c->v[c->count++] = m;
}

void admin_page_certs(struct admin_request *r)
{
    struct runtime *rt = r->server->rt;
    struct certs c = {.arena = r->arena, .now_s = clock_wall_us() / 1000000};
    Envoy__Admin__V3__Certificates all = ENVOY__ADMIN__V3__CERTIFICATES__INIT;
    tls_list_each(rt, r->arena, count_one, &c);
    c.v = ARENA_ARRAY(r->arena, Envoy__Admin__V3__Certificate *, c.cap);
    tls_list_each(rt, r->arena, add_one, &c);
    all.certificates = c.v;
    all.n_certificates = c.count;
    admin_json(r, &all.base, true);
}

/* --- server.days_until_first_cert_expiring
 * ---------------------------------------------------------------------------- */

static void earliest(void *arg, const struct tls_list_view *v)
{
    int64_t *until = arg;
    for (size_t i = 0; i < v->ca_count; i++)
        if (v->cas[i].info.valid_to < *until) *until = v->cas[i].info.valid_to;
    for (size_t i = 0; i < v->cert_count; i++)
        if (v->certs[i].info.valid_to < *until) *until = v->certs[i].info.valid_to;
}

uint64_t admin_days_until_expiry(struct server *s)
{
    struct arena *a = arena_new("certs", 0);
    int64_t until = INT64_MAX, now = (int64_t)(clock_wall_us() / 1000000);
    tls_list_each(s->rt, a, earliest, &until);
    arena_free(&a);
    if (until == INT64_MAX) return UINT32_MAX;
    return until > now ? (uint64_t)(until - now) / SECONDS_PER_DAY : 0;
}
