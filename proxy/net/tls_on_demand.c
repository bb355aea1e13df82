/* A handshake asks for its certificate by a name (custom_tls_certificate_selector). Worker thread.
 */
#include "base/arena.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

static const struct stat_def on_demand_defs[TLS_ON_DEMAND_COUNT] = {
    [TLS_ON_DEMAND_ACTIVE] = {"cert_active", STAT_GAUGE, 0},
    [TLS_ON_DEMAND_REQUESTED] = {"cert_requested", STAT_COUNTER, 0},
    [TLS_ON_DEMAND_UPDATED] = {"cert_updated", STAT_COUNTER, 0},
};

struct stat_group *tls_on_demand_stats_get(struct stats *s, struct str scope)
{
    struct sb prefix = {0};
    sb_fmt(&prefix, "%.*son_demand_secret.", STR_ARG(scope));
    struct stat_group *g =
        stat_group_get(s, sb_str(&prefix), on_demand_defs, ARRAY_LEN(on_demand_defs));
    sb_release(&prefix);
    return g;
}

struct str tls_on_demand_key(struct arena *a, const struct tls_on_demand *who, struct str name)
{
    return str_fmt(a, "%p/%.*s", (const void *)who, STR_ARG(name));
}

/* What a client says goes to the control plane as a resource's name: only host names, so that it
 * is no wildcard, no xdstp: URL and valid text. */
static bool name_fits(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_') return false;
    }
    return name.len > 0;
}

static void answered(struct on_demand *d, bool found)
{
    struct tls_conn *t = CONTAINER_OF(d, struct tls_conn, question);
    (void)found; /* the table tells */
    t->asked = true;
    conn_handshake_go(t->conn);
}

int tls_on_demand_take(struct tls_conn *t)
{
    const struct tls_on_demand *o = t->conf->on_demand;
    struct str name = o->mapper.name;
    const char *sni = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
    if (t->taken) return 1; /* a second hello, after a retry request */
    if (t->question.call) return -1;
    t->cert_count = 0;
    if (o->mapper.by_sni && sni && sni[0]) {
        name = str_of(sni);
        if (!name_fits(name)) return 0;
    }
    struct str key = tls_on_demand_key(t->worker->scratch, o, name);
    struct pin *p = worker_find(t->worker, TABLE_ASKED_SECRETS, key, hash_str(key));
    if (p) {
        const struct tls_secret *s = (const struct tls_secret *)(const void *)p->obj;
        if (s->kind != TLS_SECRET_CERT) return 0;
        t->pins[t->pin_count++] = pin_hold(p);
        t->certs[t->cert_count++] = s->cert;
        t->taken = true;
        return 1;
    }
    struct on_demand_question q = {.kind = ON_DEMAND_SECRET, .name = name, .source = o};
    return !t->asked && on_demand_ask(t->worker, &t->question, &q, answered) ? -1 : 0;
}
