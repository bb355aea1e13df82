/* custom_tls_certificate_selector of a server: envoy.tls.certificate_selectors.on_demand_secret and
 * the mappers that name the secret. */
#include "base/arena.h"
#include "envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3/config.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/cert_mappers/static_name/v3/config.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3/config.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/on_demand.h"
#include "proxy/api/tls.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

#define TLS(name) Envoy__Extensions__TransportSockets__Tls__##name

static struct tls_mapper sni_mapper_create(const struct conf_at *at,
                                           const struct ProtobufCMessage *msg)
{
    const TLS(CertMappers__Sni__V3__SNI) *m = (const void *)msg;
    return (struct tls_mapper){.name = str_dup(conf_arena(at), str_of(m->default_value)),
                               .by_sni = true};
}

static struct tls_mapper static_name_create(const struct conf_at *at,
                                            const struct ProtobufCMessage *msg)
{
    const TLS(CertMappers__StaticName__V3__StaticName) *m = (const void *)msg;
    return (struct tls_mapper){.name = str_dup(conf_arena(at), str_of(m->name))};
}

const struct tls_mapper_type tls_sni_mapper = {
    .ext = {.name = "envoy.tls.certificate_mappers.sni",
            .config =
                &envoy__extensions__transport_sockets__tls__cert_mappers__sni__v3__sni__descriptor},
    .conf_create = sni_mapper_create,
};
const struct tls_mapper_type tls_static_name_mapper = {
    .ext =
        {.name = "envoy.tls.certificate_mappers.static_name",
         .config =
             &envoy__extensions__transport_sockets__tls__cert_mappers__static_name__v3__static_name__descriptor},
    .conf_create = static_name_create,
};
const struct tls_selector_type tls_on_demand_secret = {
    .ext =
        {.name = "envoy.tls.certificate_selectors.on_demand_secret",
         .config =
             &envoy__extensions__transport_sockets__tls__cert_selectors__on_demand_secret__v3__config__descriptor},
};

/* Main: the context goes, and with it whoever asked. */
static void on_demand_free(void *p)
{
    struct tls_on_demand *o = p;
    on_demand_left(o->rt, o);
    stat_group_unref(&o->stats);
}

bool tls_selector_create(const struct conf_at *at,
                         const struct Envoy__Config__Core__V3__TypedExtensionConfig *m,
                         struct tls_conf *c)
{
    if (!m) return true;
    struct arena *a = conf_arena(at);
    struct conf_at place = conf_field(at, "custom_tls_certificate_selector"),
                   typed = conf_field(&place, "typed_config"),
                   mapper = conf_field(&typed, "certificate_mapper");
    const struct ProtobufCMessage *msg = NULL, *mapper_msg = NULL;
    if (!conf_extension(&place, EXTENSION_TLS_SELECTOR, str_of(m->name), m->typed_config, &msg))
        return false;
    if (!c->no_tickets || !c->no_cache)
        return conf_fail(&place, "On demand certificates are not integrated with session "
                                 "resumption support.");
    const TLS(CertSelectors__OnDemandSecret__V3__Config) *selector = (const void *)msg;
    const struct tls_mapper_type *type = (const void *)conf_extension(
        &mapper, EXTENSION_TLS_MAPPER, str_of(selector->certificate_mapper->name),
        selector->certificate_mapper->typed_config, &mapper_msg);
    if (!type) return false;
    struct tls_on_demand *o = ARENA_NEW(a, struct tls_on_demand);
    o->source = selector->config_source;
    o->mapper = type->conf_create(&mapper, mapper_msg);
    c->on_demand = o;
    if (!at->cx->rt || !at->cx->rt->stats || at->cx->validate_only) return true;
    o->rt = at->cx->rt;
    o->stats = tls_on_demand_stats_get(o->rt->stats, at->cx->scope);
    arena_on_free(a, on_demand_free, o);
    for (size_t i = 0; i < selector->n_prefetch_secret_names; i++)
        on_demand_prefetch(o->rt, o, str_of(selector->prefetch_secret_names[i]));
    return true;
}
