/* The list of TLS contexts. */
#include "proxy/net/tls_list.h"

#include "base/arena.h"
#include "base/list.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

struct tls_list_node {
    struct list link;
    const struct tls_conf *conf;
    struct stat_group **gauges; /* of expirations: static certificates, secrets, the CA */
    size_t gauge_count;
};

static void tls_list_remove(void *arg)
{
    struct tls_list_node *n = arg;
    list_remove(&n->link);
    for (size_t i = 0; i < n->gauge_count; i++)
        stat_group_unref(&n->gauges[i]);
}

static const struct tls_secret *tls_list_secret(struct runtime *rt, struct str name)
{
    return name.len
               ? (const struct tls_secret *)(const void *)runtime_published(rt, TABLE_SECRETS, name)
               : NULL;
}

/* "ssl.certificate.<name>.expiration_unix_time_seconds", known from its first value on. */
static void gauge_set(struct runtime *rt, struct tls_list_node *n, size_t at, struct str name,
                      int64_t until_s)
{
    struct sb text = {0};
    sb_fmt(&text, "%.*sssl.certificate.%.*s.expiration_unix_time_seconds", STR_ARG(n->conf->scope),
           STR_ARG(name));
    stat_group_unref(&n->gauges[at]);
    n->gauges[at] = stat_single_get(rt->stats, sb_str(&text), STAT_GAUGE, 0);
    stat_set(n->gauges[at], 0, (uint64_t)until_s);
    sb_release(&text);
}

static void gauges_of(struct runtime *rt, struct tls_list_node *n)
{
    const struct tls_conf *c = n->conf;
    size_t at = 0;
    for (size_t i = 0; i < c->cert_count; i++, at++)
        gauge_set(rt, n, at, c->certs[i]->stat_name, c->certs[i]->info.valid_to);
    for (size_t i = 0; i < c->cert_secret_count; i++, at++) {
        const struct tls_secret *s = tls_list_secret(rt, c->cert_secrets[i].name);
        if (s && s->cert) gauge_set(rt, n, at, s->obj.name, s->cert->info.valid_to);
    }
    const struct tls_secret *s = tls_list_secret(rt, c->validation_secret.name);
    const struct tls_validation *v = s && s->validation ? s->validation : c->validation;
    if (v && v->ca_until_s) gauge_set(rt, n, at, v->stat_name, v->ca_until_s);
}

void tls_list_add(struct runtime *rt, struct arena *a, const struct tls_conf *c)
{
    struct tls_list_node *n = ARENA_NEW(a, struct tls_list_node);
    if (!rt->tls_contexts.next) list_init(&rt->tls_contexts);
    n->conf = c;
    n->gauge_count = c->cert_count + c->cert_secret_count + 1;
    n->gauges = ARENA_ARRAY(a, struct stat_group *, n->gauge_count);
    list_push_back(&rt->tls_contexts, &n->link);
    arena_on_free(a, tls_list_remove, n);
    gauges_of(rt, n);
}

static bool tls_list_uses(const struct tls_conf *c, struct str secret)
{
    for (size_t i = 0; i < c->cert_secret_count; i++) {
        if (str_eq(c->cert_secrets[i].name, secret)) return true;
    }
    return str_eq(c->validation_secret.name, secret) || str_eq(c->ticket_secret.name, secret);
}

void tls_list_secret_changed(struct runtime *rt, struct str name)
{
    if (!rt->tls_contexts.next) return;
    LIST_FOREACH (&rt->tls_contexts, link) {
        struct tls_list_node *n = CONTAINER_OF(link, struct tls_list_node, link);
        if (!tls_list_uses(n->conf, name)) continue;
        stat_inc(n->conf->factory_stats, TLS_FACTORY_UPDATED);
        gauges_of(rt, n);
    }
}

/* The certificates, static ones first. */
static size_t tls_list_certs(struct runtime *rt, const struct tls_conf *c,
                             struct tls_list_cert *out)
{
    size_t count = 0;
    for (size_t i = 0; i < c->cert_count; i++)
        out[count++] = (struct tls_list_cert){c->certs[i]->path, c->certs[i]->info};
    for (size_t i = 0; i < c->cert_secret_count; i++) {
        const struct tls_secret *s = tls_list_secret(rt, c->cert_secrets[i].name);
        if (s && s->cert) out[count++] = (struct tls_list_cert){s->cert->path, s->cert->info};
    }
    return count;
}

/* Envoy shows the first CA of a bundle. */
static size_t tls_list_ca(struct runtime *rt, struct arena *a, const struct tls_conf *c,
                          struct tls_list_cert *out)
{
    const struct tls_secret *s = tls_list_secret(rt, c->validation_secret.name);
    const struct tls_validation *v = s && s->validation ? s->validation : c->validation;
    if (!v || !v->store || v->c.system_roots) return 0;
    const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(v->store);
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        X509 *x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
        if (!x) continue;
        out->path = v->c.ca_name;
        tls_cert_facts(a, x, &out->info);
        return 1;
    }
    return 0;
}

void tls_list_each(struct runtime *rt, struct arena *a,
                   void (*fn)(void *arg, const struct tls_list_view *v), void *arg)
{
    if (!rt->tls_contexts.next) return;
    LIST_FOREACH (&rt->tls_contexts, link) {
        const struct tls_conf *c = CONTAINER_OF(link, struct tls_list_node, link)->conf;
        struct tls_list_cert *certs =
            ARENA_ARRAY(a, struct tls_list_cert, c->cert_count + c->cert_secret_count + 1);
        struct tls_list_cert *ca = ARENA_NEW(a, struct tls_list_cert);
        struct tls_list_view v = {.cas = ca, .certs = certs};
        v.cert_count = tls_list_certs(rt, c, certs);
        v.ca_count = tls_list_ca(rt, a, c, ca);
        fn(arg, &v);
    }
}
