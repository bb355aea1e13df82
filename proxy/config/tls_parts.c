/* Parts of TLS contexts that few have: the SPIFFE validator's trust domains, key logs. */
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proto/path.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/log_file.h"
#include "proxy/api/metadata.h"
#include "proxy/config/secret.h"
#include "proxy/config/socket.h"

#define SPIFFE(name) Envoy__Extensions__TransportSockets__Tls__V3__SPIFFECertValidatorConfig##name

enum { PEM_LINE = 64 };

/* --- SPIFFE
 * ----------------------------------------------------------------------------------------------
 */

static bool domain_of(const struct conf_at *at, const SPIFFE(__TrustDomain) * m,
                      struct tls_trust_domain *out)
{
    struct conf_at place = conf_field(at, "trust_bundle");
    out->name = str_dup(conf_arena(at), str_of(m->name));
    if (!m->trust_bundle) return conf_fail(&place, "a trust bundle is needed");
    return conf_data_source(&place, m->trust_bundle, SECRET_TEXT_MOST, &out->bundle);
}

static struct str text_at(const struct value *v, const char *field)
{
    const struct value *x = value_field(v, str_of(field));
    return x && x->kind == VALUE_STRING ? x->u.text : STR_NONE;
}

/* A JWK's x5c: base64 of DER; PEM is the same in lines. */
static void add_pem(struct sb *out, struct str base64)
{
    sb_add(out, STR("-----BEGIN CERTIFICATE-----\n"));
    for (size_t at = 0; at < base64.len; at += PEM_LINE) {
        sb_add(out, str_sub(base64, at, PEM_LINE));
        sb_char(out, '\n');
    }
    sb_add(out, STR("-----END CERTIFICATE-----\n"));
}

/* The keys of one domain's bundle that vouch for X.509 certificates. */
static struct str bundle_pem(struct arena *a, const struct value *bundle)
{
    struct sb pem = {0};
    const struct value *keys = value_field(bundle, STR("keys"));
    for (size_t i = 0; keys && keys->kind == VALUE_LIST && i < keys->u.list.count; i++) {
        const struct value *key = &keys->u.list.items[i], *x5c = value_field(key, STR("x5c"));
        if (!str_eq(text_at(key, "use"), STR("x509-svid"))) continue;
        if (!x5c || x5c->kind != VALUE_LIST || !x5c->u.list.count) continue;
        if (x5c->u.list.items[0].kind == VALUE_STRING) add_pem(&pem, x5c->u.list.items[0].u.text);
    }
    struct str text = str_dup(a, sb_str(&pem));
    sb_release(&pem);
    return text;
}

/* {"trust_domains": {"example.org": {"keys": [{"use": "x509-svid", "x5c": ["..."]}]}}} */
static bool domains_of_json(const struct conf_at *at, struct str text,
                            struct tls_validation_source *s)
{
    struct arena *a = conf_arena(at);
    const ProtobufCMessage *m = json_read(a, &google__protobuf__struct__descriptor, text,
                                          JSON_FORMAT_JSON, NULL, NULL, at->cx->errors);
    const struct value *all = m ? conf_struct(a, (const Google__Protobuf__Struct *)m) : NULL;
    const struct value *domains = all ? value_field(all, STR("trust_domains")) : NULL;
    if (!domains || domains->kind != VALUE_STRUCT || !domains->u.fields.count)
        return conf_fail(at, "No trust domains found in SPIFFE bundle");
    size_t count = domains->u.fields.count;
    struct tls_trust_domain *v = ARENA_ARRAY(a, struct tls_trust_domain, count);
    for (size_t i = 0; i < count; i++) {
        const struct value_field *f = &domains->u.fields.fields[i];
        v[i] = (struct tls_trust_domain){.name = f->name, .bundle = bundle_pem(a, &f->value)};
    }
    s->domains = v;
    s->domain_count = count;
    return true;
}

static bool domains_of(const struct conf_at *at, const SPIFFE() * m,
                       struct tls_validation_source *s)
{
    struct conf_at place = conf_field(at, "trust_bundles");
    struct str text = STR_NONE;
    if (m->trust_bundles)
        return conf_data_source(&place, m->trust_bundles, SECRET_TEXT_MOST, &text) &&
               domains_of_json(&place, text, s);
    struct tls_trust_domain *v =
        ARENA_ARRAY(conf_arena(at), struct tls_trust_domain, m->n_trust_domains);
    bool ok = true;
    for (size_t i = 0; i < m->n_trust_domains; i++) {
        place = conf_index(at, "trust_domains", i);
        ok = domain_of(&place, m->trust_domains[i], &v[i]) && ok;
    }
    s->domains = v;
    s->domain_count = m->n_trust_domains;
    return ok;
}

bool conf_spiffe(const struct conf_at *at, const Envoy__Config__Core__V3__TypedExtensionConfig *m,
                 struct tls_validation_source *s)
{
    if (!m) return true;
    struct conf_at place = conf_field(at, "custom_validator_config"),
                   config = conf_field(&place, "typed_config");
    const ProtobufCMessageDescriptor *wanted =
        &envoy__extensions__transport_sockets__tls__v3__spiffecert_validator_config__descriptor;
    struct str type = proto_any_name(conf_arena(at), m->typed_config);
    if (!str_eq(type, str_of(wanted->name)))
        return conf_fail(&config, "the certificate validator %.*s is not supported", STR_ARG(type));
    struct str path = conf_path(&config);
    struct proto_path root = proto_path_root(path);
    const ProtobufCMessage *msg = proto_any_unpack(conf_arena(at), m->typed_config, NULL,
                                                   at->cx->opts, &root, at->cx->errors);
    s->spiffe = true;
    return msg && domains_of(&config, (const SPIFFE() *)msg, s);
}

/* --- key logs
 * --------------------------------------------------------------------------------------------
 */

static bool ranges_of(const struct conf_at *at, const char *field,
                      Envoy__Config__Core__V3__CidrRange *const *v, size_t count,
                      const struct cidr **out)
{
    struct cidr *ranges = ARENA_ARRAY(conf_arena(at), struct cidr, count);
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        struct conf_at place = conf_index(at, field, i);
        ok = translate_cidr(&place, v[i], &ranges[i]) && ok;
    }
    *out = ranges;
    return ok;
}

bool conf_tls_key_log(const struct conf_at *at,
                      const Envoy__Extensions__TransportSockets__Tls__V3__TlsKeyLog *m,
                      const struct tls_key_log **out)
{
    if (!m) return true;
    struct conf_at place = conf_field(at, "key_log"), path = conf_field(&place, "path");
    struct tls_key_log *k = ARENA_NEW(conf_arena(at), struct tls_key_log);
    k->local_count = m->n_local_address_range;
    k->remote_count = m->n_remote_address_range;
    bool ok =
        ranges_of(&place, "local_address_range", m->local_address_range, k->local_count, &k->local);
    ok = ranges_of(&place, "remote_address_range", m->remote_address_range, k->remote_count,
                   &k->remote) &&
         ok;
    if (!ok || at->cx->validate_only) return ok;
    k->file = log_file_open(&path, str_of(m->path));
    *out = k;
    return k->file != NULL;
}
