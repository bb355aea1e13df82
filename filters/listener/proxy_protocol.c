/* envoy.filters.listener.proxy_protocol: the PROXY header (versions 1 and 2) in front of a
 * connection gives it its addresses and, by rules, dynamic metadata from TLVs. The header's bytes
 * are taken from the socket. */
#include <arpa/inet.h>
#include <string.h>

#include "base/arena.h"
#include "base/proxy_header.h"
#include "base/text.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb-c.h"
#include "filters/common/stats.h"
#include "proxy/api/metadata.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"

#define PP(name) Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol##name

#define PP_BASE64 \
    ENVOY__EXTENSIONS__FILTERS__LISTENER__PROXY_PROTOCOL__V3__PROXY_PROTOCOL__KEY_VALUE_PAIR__VALUE_STRING_ENCODING__BASE64
#define PP_FILTER_STATE \
    ENVOY__EXTENSIONS__FILTERS__LISTENER__PROXY_PROTOCOL__V3__PROXY_PROTOCOL__TLV_LOCATION__FILTER_STATE

enum { STAT_NOT_FOUND_ALLOWED, STAT_NOT_FOUND_DISALLOWED, STAT_COUNT };
enum { STAT_VERSION_DISALLOWED, STAT_VERSION_ERROR, STAT_VERSION_FOUND, STAT_VERSION_COUNT };
enum { STAT_ROOT_ERROR, STAT_ROOT_COUNT };
static const struct stat_def pp_stats[STAT_COUNT] = {
    [STAT_NOT_FOUND_ALLOWED] = {"not_found_allowed", STAT_COUNTER, 0},
    [STAT_NOT_FOUND_DISALLOWED] = {"not_found_disallowed", STAT_COUNTER, 0},
};
static const struct stat_def pp_version_stats[STAT_VERSION_COUNT] = {
    [STAT_VERSION_DISALLOWED] = {"disallowed", STAT_COUNTER, 0},
    [STAT_VERSION_ERROR] = {"error", STAT_COUNTER, 0},
    [STAT_VERSION_FOUND] = {"found", STAT_COUNTER, 0},
};
static const struct stat_def pp_root_stats[STAT_ROOT_COUNT] = {
    [STAT_ROOT_ERROR] = {"downstream_cx_proxy_proto_error", STAT_COUNTER, 0}};

enum {
    V1_MOST = 107,
    V2_HEADER = 16,
    V2_SIGNATURE = 12,
    V4_LEN = 12,
    V6_LEN = 36,
    PEEK_MOST = 65536
};

struct pp_rule {
    uint8_t type;
    struct str ns, key; /* key empty: its TLV goes nowhere */
    bool base64;
};
struct pp_conf {
    struct stat_group *stats, *version[2], *root;
    bool allow_none, refuse_v1, refuse_v2;
    struct pp_rule *rules;
    size_t rule_count;
    bool to_state;  /* what the rules find becomes filter state, not dynamic metadata */
    bool keep_all;  /* TLVs that upstream PROXY headers may pass on */
    bool keep[256]; /* by type */
};

/* --- configuration
 * --------------------------------------------------------------------------------------------- */

static void pp_rules(struct arena *a, const PP() * m, struct pp_conf *c)
{
    c->rules = ARENA_ARRAY(a, struct pp_rule, m->n_rules);
    c->rule_count = m->n_rules;
    for (size_t i = 0; i < m->n_rules; i++) {
        const PP(__KeyValuePair) *kv = m->rules[i]->on_tlv_present;
        c->rules[i].type = (uint8_t)m->rules[i]->tlv_type;
        if (!kv) continue;
        bool named = kv->metadata_namespace && kv->metadata_namespace[0];
        c->rules[i].ns = named ? str_dup(a, str_of(kv->metadata_namespace))
                               : STR("envoy.filters.listener.proxy_protocol");
        c->rules[i].key = str_dup(a, str_of(kv->key));
        c->rules[i].base64 = kv->value_string_encoding == PP_BASE64;
    }
}

static void pp_stat_groups(const struct conf_at *at, const char *prefix, struct pp_conf *c)
{
    struct arena *a = conf_arena(at);
    struct str base =
        prefix && prefix[0] ? str_fmt(a, "proxy_proto.%s.", prefix) : STR("proxy_proto.");
    c->stats = conf_stat_group(at, base, pp_stats, STAT_COUNT);
    for (size_t v = 0; v < 2; v++) {
        struct str name = str_fmt(a, "%.*sversions.v%zu.", STR_ARG(base), v + 1);
        c->version[v] = conf_stat_group(at, name, pp_version_stats, STAT_VERSION_COUNT);
    }
    c->root = conf_stat_group(at, STR(""), pp_root_stats, STAT_ROOT_COUNT);
}

static const void *pp_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    struct pp_conf *c = ARENA_NEW(conf_arena(at), struct pp_conf);
    const PP() *m = (const PP() *)msg;
    pp_stat_groups(at, m ? m->stat_prefix : NULL, c);
    if (!m) return c;
    c->to_state = m->tlv_location == PP_FILTER_STATE;
    c->allow_none = m->allow_requests_without_proxy_protocol;
    for (size_t i = 0; i < m->n_disallowed_versions; i++) {
        if (m->disallowed_versions[i] ==
            ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__V1)
            c->refuse_v1 = true;
        else
            c->refuse_v2 = true;
    }
    pp_rules(conf_arena(at), m, c);
    const Envoy__Config__Core__V3__ProxyProtocolPassThroughTLVs *pass = m->pass_through_tlvs;
    c->keep_all =
        pass &&
        pass->match_type ==
            ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_PASS_THROUGH_TLVS__PASS_TLVS_MATCH_TYPE__INCLUDE_ALL;
    for (size_t i = 0; pass && i < pass->n_tlv_type; i++)
        c->keep[pass->tlv_type[i] & 255] = true;
    return c;
}

/* --- results
 * ------------------------------------------------------------------------------------------------------
 */

static enum accept_flow pp_error(const struct pp_conf *c, int version)
{
    stat_inc(c->version[version - 1], STAT_VERSION_ERROR);
    stat_inc(c->root, STAT_ROOT_ERROR);
    return ACCEPT_DROP;
}

static enum accept_flow pp_disallowed(const struct pp_conf *c, int version)
{
    stat_inc(c->version[version - 1], STAT_VERSION_FOUND);
    stat_inc(c->version[version - 1], STAT_VERSION_DISALLOWED);
    return ACCEPT_DROP;
}

static enum accept_flow pp_found(const struct pp_conf *c, int version, struct accepting *a,
                                 size_t header)
{
    stat_inc(c->version[version - 1], STAT_VERSION_FOUND);
    a->consume = header;
    return ACCEPT_CONTINUE;
}

static enum accept_flow pp_refuse_none(const struct pp_conf *c)
{
    stat_inc(c->stats, STAT_NOT_FOUND_DISALLOWED);
    stat_inc(c->root, STAT_ROOT_ERROR);
    return ACCEPT_DROP;
}

static enum accept_flow pp_none(const struct pp_conf *c)
{
    if (!c->allow_none) return pp_refuse_none(c);
    stat_inc(c->stats, STAT_NOT_FOUND_ALLOWED);
    return ACCEPT_CONTINUE;
}

/* --- version 1
 * ------------------------------------------------------------------------------------------------------
 */

static bool v1_address(struct str ip, struct str port, bool v4, struct addr *out)
{
    uint16_t number;
    return str_to_u16(port, &number) && addr_parse_ip(ip, number, out) && addr_is_v4(out) == v4 &&
           str_find_char(ip, '[') == SIZE_MAX;
}

static bool v1_parse(struct str line, struct accepting *a)
{
    struct str part[6];
    size_t count = 0;
    while (count < 6 && str_next(&line, ' ', &part[count]))
        count++;
    if (count < 2) return false;
    if (str_eq(part[1], STR("UNKNOWN"))) return true;
    bool v4 = str_eq(part[1], STR("TCP4"));
    if (count != 6 || line.ptr || (!v4 && !str_eq(part[1], STR("TCP6")))) return false;
    struct addr from, to;
    if (!v1_address(part[2], part[4], v4, &from) || !v1_address(part[3], part[5], v4, &to))
        return false;
    a->info->remote = from;
    a->info->local = to;
    return true;
}

static enum accept_flow v1_data(const struct pp_conf *c, struct accepting *a, struct str peeked)
{
    struct str head = str_sub(peeked, 0, V1_MOST);
    size_t end = str_find(head, STR("\r\n"));
    if (end == SIZE_MAX) return peeked.len >= V1_MOST ? pp_refuse_none(c) : ACCEPT_WAIT;
    if (c->refuse_v1) return pp_disallowed(c, 1);
    if (!v1_parse(str_sub(head, 0, end), a)) return pp_error(c, 1);
    return pp_found(c, 1, a, end + 2);
}

/* --- version 2
 * -------------------------------------------------------------------------------------------------------
 */

static const struct str v2_signature = {"\r\n\r\n\0\r\nQUIT\n", V2_SIGNATURE};

static void v2_addresses(const unsigned char *p, bool v4, struct accepting *a)
{
    struct addr *to[] = {&a->info->remote, &a->info->local};
    size_t size = v4 ? 4 : 16;
    for (size_t i = 0; i < 2; i++) {
        struct addr x = {0};
        const unsigned char *ip = p + i * size, *port = p + 2 * size + i * 2;
        if (v4) {
            x.sa.v4.sin_family = AF_INET;
            memcpy(&x.sa.v4.sin_addr, ip, size);
            memcpy(&x.sa.v4.sin_port, port, 2);
            x.len = sizeof(x.sa.v4);
        } else {
            x.sa.v6.sin6_family = AF_INET6;
            memcpy(&x.sa.v6.sin6_addr, ip, size);
            memcpy(&x.sa.v6.sin6_port, port, 2);
            x.len = sizeof(x.sa.v6);
        }
        *to[i] = x;
    }
}

/* Envoy: one object for all rules, without their namespaces. */
static const struct str tlv_state = {"envoy.network.proxy_protocol.tlv", 32};

/* Metadata is text: other bytes would break its JSON. */
static void v2_tlv(const struct pp_conf *c, struct accepting *a, uint8_t type, struct str text,
                   struct metadata **state)
{
    for (size_t i = 0; i < c->rule_count; i++) {
        const struct pp_rule *r = &c->rules[i];
        if (r->type != type || !r->key.len) continue;
        struct value v = {.kind = VALUE_STRING};
        v.u.text = r->base64 ? base64_encode(a->arena, text) : utf8_clean(a->arena, text, '!');
        if (c->to_state)
            metadata_set(state, a->arena, tlv_state, r->key, &v);
        else
            metadata_set(&a->info->metadata, a->arena, r->ns, r->key, &v);
    }
}

static void v2_keep_state(struct accepting *a, const struct metadata *state)
{
    const struct value *all = state ? value_field(&state->root, tlv_state) : NULL;
    if (!all) return;
    struct filter_state_entry e = {.name = tlv_state,
                                   .object = all,
                                   .text = value_text,
                                   .value = all,
                                   .fields = true,
                                   .read_only = true};
    (void)filter_state_set(&a->info->state, a->arena, &e); /* a second header changes nothing */
}

static bool v2_tlvs(const struct pp_conf *c, struct accepting *a, struct str rest)
{
    struct sb kept = {0};
    struct metadata *state = NULL;
    struct str value;
    uint8_t type;
    while (proxy_tlv_next(&rest, &type, &value)) {
        v2_tlv(c, a, type, value, &state);
        if (c->keep_all || c->keep[type]) (void)proxy_tlv_add(&kept, type, value); /* it was one */
    }
    bool ok = rest.len == 0;
    if (ok && kept.len) a->info->proxy_tlvs = str_dup(a->arena, sb_str(&kept));
    if (ok) v2_keep_state(a, state);
    sb_release(&kept);
    return ok;
}

static enum accept_flow v2_data(const struct pp_conf *c, struct accepting *a, struct str peeked)
{
    if (peeked.len < V2_HEADER) return ACCEPT_WAIT;
    const unsigned char *p = (const unsigned char *)peeked.ptr;
    size_t len = (size_t)p[14] << 8 | p[15];
    bool local = p[12] == 0x20;
    if (p[12] != 0x21 && !local) return pp_error(c, 2);
    if (V2_HEADER + len > PEEK_MOST) return pp_error(c, 2);
    bool v4 = p[13] == 0x11 || p[13] == 0x12,
         v6 = p[13] == 0x21 || p[13] == 0x22; /* streams and datagrams */
    size_t address = v4 ? V4_LEN : v6 ? V6_LEN : 0;
    if (!local && ((!v4 && !v6) || len < address)) return pp_error(c, 2);
    if (peeked.len < V2_HEADER + len) return ACCEPT_WAIT;
    if (c->refuse_v2) return pp_disallowed(c, 2);
    if (local) return pp_found(c, 2, a, V2_HEADER + len);
    v2_addresses(p + V2_HEADER, v4, a);
    if (!v2_tlvs(c, a, str_sub(peeked, V2_HEADER + address, len - address))) return pp_error(c, 2);
    return pp_found(c, 2, a, V2_HEADER + len);
}

/* --- which one
 * --------------------------------------------------------------------------------------------------------
 */

static enum accept_flow pp_data(void *self, const void *conf, struct accepting *a,
                                struct str peeked, bool end)
{
    (void)self;
    (void)end;
    const struct pp_conf *c = conf;
    static const struct str v1_start = {"PROXY ", 6};
    size_t n1 = peeked.len < v1_start.len ? peeked.len : v1_start.len;
    size_t n2 = peeked.len < v2_signature.len ? peeked.len : v2_signature.len;
    if (str_eq(str_sub(peeked, 0, n2), str_sub(v2_signature, 0, n2))) return v2_data(c, a, peeked);
    if (!str_eq(str_sub(peeked, 0, n1), str_sub(v1_start, 0, n1))) return pp_none(c);
    return n1 == v1_start.len ? v1_data(c, a, peeked) : ACCEPT_WAIT;
}

const struct listener_filter_type proxy_protocol_listener = {
    .ext =
        {.name = "envoy.filters.listener.proxy_protocol",
         .config =
             &envoy__extensions__filters__listener__proxy_protocol__v3__proxy_protocol__descriptor},
    .max_peek = PEEK_MOST,
    .conf_create = pp_create,
    .on_data = pp_data,
};
