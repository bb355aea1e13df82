/* What is known of a connection, as inputs of matcher trees. For a request the connection is the
 * downstream one, and its addresses are what x-forwarded-for made of them. */
#include "base/arena.h"
#include "envoy/extensions/matching/common_inputs/network/v3/network_inputs.pb-c.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"

static bool text_found(struct str text, struct match_value *out)
{
    out->present = true;
    out->text = text;
    return true;
}

static bool ip_found(const struct match_ask *ask, const struct addr *x, struct match_value *out)
{
    char text[ADDR_TEXT_MAX];
    if (!addr_is_ip(x)) return true;
    return text_found(str_dup(ask->scratch, str_make(text, addr_format_ip(x, text))), out);
}

static bool port_found(const struct match_ask *ask, const struct addr *x, struct match_value *out)
{
    if (!addr_is_ip(x)) return true;
    return text_found(str_fmt(ask->scratch, "%u", addr_port(x)), out);
}

/* The trusted client's address of a request, else the connection's. */
static const struct addr *source_of(const struct match_ask *ask)
{
    return ask->info && ask->info->remote.len ? &ask->info->remote : &ask->conn->remote;
}

static bool destination_ip(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    return ip_found(ask, &ask->conn->local, out);
}

static bool destination_port(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    return port_found(ask, &ask->conn->local, out);
}

static bool source_ip(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    return ip_found(ask, source_of(ask), out);
}

static bool source_port(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    return port_found(ask, source_of(ask), out);
}

static bool direct_source_ip(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    return ip_found(ask, &ask->conn->direct_remote, out);
}

/* Envoy: only "local" is a value. */
static bool source_type(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    const struct addr *x = source_of(ask);
    struct addr remote = *x, local = ask->conn->local;
    bool same = !addr_is_ip(x) || addr_is_loopback(x);
    if (!same && addr_is_ip(&local)) {
        addr_set_port(&remote, 0);
        addr_set_port(&local, 0);
        same = addr_eq(&remote, &local);
    }
    return same ? text_found(STR("local"), out) : true;
}

static bool server_name(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    return ask->conn->sni.len ? text_found(ask->conn->sni, out) : true;
}

static bool transport_protocol(const void *conf, const struct match_ask *ask,
                               struct match_value *out)
{
    (void)conf;
    return ask->transport_protocol.len ? text_found(ask->transport_protocol, out) : true;
}

/* "'h2','http/1.1'", as Envoy writes the list. */
static bool application_protocol(const void *conf, const struct match_ask *ask,
                                 struct match_value *out)
{
    (void)conf;
    if (!ask->alpn_count) return true;
    struct str all = STR_NONE;
    for (size_t i = 0; i < ask->alpn_count; i++)
        all = str_fmt(ask->scratch, "%.*s%s'%.*s'", STR_ARG(all), i ? "," : "",
                      STR_ARG(ask->alpn[i]));
    return text_found(all, out);
}

/* Listeners in other network namespaces are refused: no address has one. */
static bool network_namespace(const void *conf, const struct match_ask *ask,
                              struct match_value *out)
{
    (void)conf, (void)ask, (void)out;
    return true;
}

/* --- filter state
 * ----------------------------------------------------------------------------------- */

static const void *filter_state_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__CommonInputs__Network__V3__FilterStateInput *m =
        (const void *)msg;
    struct str *key = ARENA_NEW(conf_arena(at), struct str);
    *key = str_dup(conf_arena(at), str_of(m->key));
    return key;
}

static bool filter_state(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    const struct str *key = conf;
    const struct filter_state_entry *e =
        ask->info ? filter_state_find(ask->info->state, *key) : NULL;
    if (!e) e = filter_state_find(ask->conn->state, *key);
    return e && e->text ? text_found(e->text(e->object, ask->scratch), out) : true;
}

/* --- dynamic metadata
 * ------------------------------------------------------------------------------- */

struct metadata_path {
    struct str ns;
    const struct str *path;
    size_t count;
};

static const void *metadata_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__CommonInputs__Network__V3__DynamicMetadataInput *m =
        (const void *)msg;
    struct arena *a = conf_arena(at);
    struct metadata_path *p = ARENA_NEW(a, struct metadata_path);
    struct str *path = ARENA_ARRAY(a, struct str, m->n_path);
    for (size_t i = 0; i < m->n_path; i++)
        path[i] = str_dup(a, str_of(m->path[i]->key));
    *p = (struct metadata_path){
        .ns = str_dup(a, str_of(m->filter)), .path = path, .count = m->n_path};
    return p;
}

static bool dynamic_metadata(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    const struct metadata_path *p = conf;
    const struct metadata *md = ask->info ? ask->info->dynamic : ask->conn->metadata;
    out->value = metadata_find(md, p->ns, p->path, p->count);
    out->present = true; /* Envoy: an absent path is a value that is not set */
    return true;
}

/* --- descriptors
 * ------------------------------------------------------------------------------------ */

enum {
    REQUESTS = 1 << MATCH_IN_HTTP | 1 << MATCH_IN_HTTP_RBAC,
    CONNECTIONS = REQUESTS | 1 << MATCH_IN_NETWORK_RBAC | 1 << MATCH_IN_CHAINS,
    DATAGRAMS = CONNECTIONS | 1 << MATCH_IN_UDP
};

#define NETWORK_INPUT(symbol, text, message, ...)                                                    \
    const struct match_input_type symbol = {                                                         \
        .ext =                                                                                       \
            {.name = "envoy.matching.inputs." text,                                                  \
             .config =                                                                               \
                 &envoy__extensions__matching__common_inputs__network__v3__##message##__descriptor}, \
        __VA_ARGS__}

NETWORK_INPUT(input_destination_ip, "destination_ip", destination_ipinput, .places = DATAGRAMS,
              .get = destination_ip);
NETWORK_INPUT(input_destination_port, "destination_port", destination_port_input,
              .places = DATAGRAMS, .get = destination_port);
NETWORK_INPUT(input_source_ip, "source_ip", source_ipinput, .places = DATAGRAMS, .get = source_ip);
NETWORK_INPUT(input_source_port, "source_port", source_port_input, .places = DATAGRAMS,
              .get = source_port);
NETWORK_INPUT(input_direct_source_ip, "direct_source_ip", direct_source_ipinput,
              .places = CONNECTIONS, .get = direct_source_ip);
NETWORK_INPUT(input_source_type, "source_type", source_type_input,
              .places = 1 << MATCH_IN_HTTP | 1 << MATCH_IN_CHAINS, .get = source_type);
NETWORK_INPUT(input_server_name, "server_name", server_name_input, .places = CONNECTIONS,
              .get = server_name);
NETWORK_INPUT(input_transport_protocol, "transport_protocol", transport_protocol_input,
              .places = 1 << MATCH_IN_CHAINS, .get = transport_protocol);
NETWORK_INPUT(input_application_protocol, "application_protocol", application_protocol_input,
              .places = 1 << MATCH_IN_CHAINS, .get = application_protocol);
NETWORK_INPUT(input_filter_state, "filter_state", filter_state_input,
              .places = CONNECTIONS | 1 << MATCH_IN_ROUTES, .conf_create = filter_state_create,
              .get = filter_state);
NETWORK_INPUT(input_dynamic_metadata, "dynamic_metadata", dynamic_metadata_input,
              .places = REQUESTS, .data = MATCH_DATA_METADATA, .conf_create = metadata_create,
              .get = dynamic_metadata);
NETWORK_INPUT(input_network_namespace, "network_namespace", network_namespace_input,
              .places = CONNECTIONS, .get = network_namespace);
