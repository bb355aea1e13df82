/* SPIFFE: each trust domain has its own authorities, and only they vouch for names in it. Loading
 * runs on main, the rest in workers. */
#include <openssl/x509v3.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proxy/net/tls_internal.h"

bool tls_load_domains(const struct conf_at *at, const struct tls_validation_source *s,
                      struct tls_validation *v)
{
    struct arena *a = conf_arena(at);
    struct conf_at place = conf_field(at, "custom_validator_config");
    struct tls_domain *domains = ARENA_ARRAY(a, struct tls_domain, s->domain_count);
    struct map seen = {0};
    bool ok = true;
    for (size_t i = 0; i < s->domain_count && ok; i++) {
        const struct tls_trust_domain *d = &s->domains[i];
        domains[i] = (struct tls_domain){d->name, tls_store_new(a)};
        if (map_put(&seen, d->name, &domains[i]))
            ok = conf_fail(&place, "Multiple trust bundles are given for one trust domain for %.*s",
                           STR_ARG(d->name));
        else if (tls_load_pem(v, domains[i].store, d->bundle, true,
                              X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) <= 0)
            ok = conf_fail(&place, "Failed to load trusted CA certificate for %.*s",
                           STR_ARG(d->name));
        (void)X509_STORE_set_flags(
            domains[i].store,
            X509_V_FLAG_PARTIAL_CHAIN |
                (s->allow_expired ? (unsigned long)X509_V_FLAG_NO_CHECK_TIME : 0UL));
    }
    map_release(&seen);
    v->domains = domains;
    return ok;
}

/* "spiffe://domain/..." */
static struct str domain_of(struct str uri)
{
    static const struct str prefix = {"spiffe://", 9};
    if (!str_starts(uri, prefix)) return STR_NONE;
    struct str rest = str_sub(uri, prefix.len, SIZE_MAX);
    size_t slash = str_find_char(rest, '/');
    return slash == SIZE_MAX ? STR_NONE : str_sub(rest, 0, slash);
}

/* X509-SVID, section 5.2: a leaf signs no certificates. */
static bool may_be_leaf(X509 *leaf)
{
    bool ca = (X509_get_extension_flags(leaf) & EXFLAG_CA) != 0;
    uint32_t usage = X509_get_key_usage(leaf);
    return !ca && (usage & (X509v3_KU_CRL_SIGN | X509v3_KU_KEY_CERT_SIGN)) == 0;
}

X509_STORE *tls_domain_store(struct arena *a, X509 *leaf, const struct tls_validation *v,
                             struct str *why)
{
    *why = STR("verify cert failed: cert precheck");
    if (!may_be_leaf(leaf)) return NULL;
    *why = STR("verify cert failed: no trust bundle store");
    struct tls_names uris = tls_san_texts(a, leaf, GEN_URI, NULL);
    struct str domain = uris.count ? domain_of(uris.v[0]) : STR_NONE;
    for (size_t i = 0; domain.len && i < v->c.domain_count; i++) {
        if (str_eq(v->domains[i].name, domain)) return v->domains[i].store;
    }
    return NULL;
}
