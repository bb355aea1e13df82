/* The list of TLS contexts. */
#include "proxy/net/tls_list.h"

#include "base/arena.h"
#include "base/list.h"
#include "proxy/net/tls_internal.h"

struct tls_list_node {
    struct list link;
    const struct tls_conf *conf;
};

static void tls_list_remove(void *node)
{
    list_remove(&((struct tls_list_node *)node)->link);
}

void tls_list_add(struct runtime *rt, struct arena *a, const struct tls_conf *c)
{
    struct tls_list_node *n = ARENA_NEW(a, struct tls_list_node);
    if (!rt->tls_contexts.next) list_init(&rt->tls_contexts);
    n->conf = c;
    list_push_back(&rt->tls_contexts, &n->link);
    arena_on_free(a, tls_list_remove, n);
}

static const struct tls_secret *tls_list_secret(struct runtime *rt, struct str name)
{
    return name.len
               ? (const struct tls_secret *)(const void *)runtime_published(rt, TABLE_SECRETS, name)
               : NULL;
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
