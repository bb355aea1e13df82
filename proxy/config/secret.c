/* Translation of certificates, validation contexts, ticket keys and SDS secrets. */
#include "proxy/config/secret.h"

#include <string.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/text.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/common.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/equal.h"
#include "proxy/api/conf_types.h"

#define TLS(name) Envoy__Extensions__TransportSockets__Tls__V3__##name
#define SECRET_CASE(name) ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_##name

/* --- data sources
 * ------------------------------------------------------------------------------------------ */

/* Leaves *out empty when the source is not set; *name: how errors call it. */
static bool secret_text(const struct conf_at *at, const char *field,
                        const Envoy__Config__Core__V3__DataSource *m, struct str *out,
                        struct str *name)
{
    struct conf_at place = conf_field(at, field);
    if (!m) return true;
    bool file = m->specifier_case == ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME;
    if (name) *name = file ? str_dup(conf_arena(at), str_of(m->filename)) : STR("<inline>");
    if (!conf_data_source(&place, m, SECRET_TEXT_MOST, out)) return false;
    return out->len > 0 || conf_fail(&place, "DataSource cannot be empty");
}

/* The bytes of inline_bytes; empty for other sources. */
static struct str bytes_of(const Envoy__Config__Core__V3__DataSource *m)
{
    if (!m || m->specifier_case != ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES)
        return STR_NONE;
    return str_make((const char *)m->inline_bytes.data, m->inline_bytes.len);
}

static bool refuse(const struct conf_at *at, const char *field, const char *why)
{
    struct conf_at place = conf_field(at, field);
    return conf_fail(&place, "%s", why);
}

/* --- certificates
 * ------------------------------------------------------------------------------------------- */

static const struct tls_cert *tls_cert_named(const struct conf_at *at,
                                             const TLS(TlsCertificate) * m, struct str name)
{
    struct tls_cert_source s = {.name = name, .chain_bytes = bytes_of(m->certificate_chain)};
    bool ok = true;
    if (m->private_key_provider)
        ok = refuse(at, "private_key_provider",
                    "Failed to load private key provider: not supported");
    ok = secret_text(at, "certificate_chain", m->certificate_chain, &s.chain, &s.chain_name) && ok;
    ok = secret_text(at, "private_key", m->private_key, &s.key, &s.key_name) && ok;
    ok = secret_text(at, "pkcs12", m->pkcs12, &s.pkcs12, &s.chain_name) && ok;
    ok = secret_text(at, "password", m->password, &s.password, NULL) && ok;
    ok = secret_text(at, "ocsp_staple", m->ocsp_staple, &s.ocsp, NULL) && ok;
    if (m->pkcs12 && (m->certificate_chain || m->private_key)) {
        ok = refuse(
            at, "pkcs12",
            "Certificate configuration can't have both pkcs12 and certificate_chain or private_key");
    }
    return ok ? tls_cert_new(at, &s) : NULL;
}

const struct tls_cert *conf_tls_cert(const struct conf_at *at, const TLS(TlsCertificate) * m)
{
    return tls_cert_named(at, m, STR_NONE);
}

/* --- validation
 * -----------------------------------------------------------------------------------------------
 */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = str_lower_char(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 64 hex digits, or pairs with colons between them. */
static bool parse_hash(struct str s, uint8_t out[TLS_HASH_SIZE])
{
    size_t step = s.len == 64 ? 2 : 3;
    if (s.len != 64 && s.len != 95) return false;
    for (size_t i = 0; i < TLS_HASH_SIZE; i++) {
        int high = hex_digit(s.ptr[i * step]), low = hex_digit(s.ptr[i * step + 1]);
        if (high < 0 || low < 0 ||
            (step == 3 && i + 1 < TLS_HASH_SIZE && s.ptr[i * step + 2] != ':'))
            return false;
        out[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static bool validation_hashes(const struct conf_at *at, const TLS(CertificateValidationContext) * m,
                              struct tls_validation_source *s)
{
    struct arena *a = conf_arena(at);
    uint8_t(*hashes)[TLS_HASH_SIZE] = arena_array(a, m->n_verify_certificate_hash, TLS_HASH_SIZE);
    uint8_t(*spkis)[TLS_HASH_SIZE] = arena_array(a, m->n_verify_certificate_spki, TLS_HASH_SIZE);
    bool ok = true;
    for (size_t i = 0; i < m->n_verify_certificate_hash; i++) {
        struct conf_at place = conf_index(at, "verify_certificate_hash", i);
        if (!parse_hash(str_of(m->verify_certificate_hash[i]), hashes[i])) {
            ok = conf_fail(&place, "Invalid hex-encoded SHA-256 %s", m->verify_certificate_hash[i]);
        }
    }
    for (size_t i = 0; i < m->n_verify_certificate_spki; i++) {
        struct conf_at place = conf_index(at, "verify_certificate_spki", i);
        struct str raw;
        if (!base64_decode(a, str_of(m->verify_certificate_spki[i]), &raw) ||
            raw.len != TLS_HASH_SIZE) {
            ok = conf_fail(&place, "Invalid base64-encoded SHA-256 %s",
                           m->verify_certificate_spki[i]);
            continue;
        }
        memcpy(spkis[i], raw.ptr, TLS_HASH_SIZE);
    }
    s->hashes = (const uint8_t(*)[TLS_HASH_SIZE])hashes;
    s->hash_count = m->n_verify_certificate_hash;
    s->spkis = (const uint8_t(*)[TLS_HASH_SIZE])spkis;
    s->spki_count = m->n_verify_certificate_spki;
    return ok;
}

static bool validation_sans(const struct conf_at *at, const TLS(CertificateValidationContext) * m,
                            struct tls_validation_source *s)
{
    size_t typed = m->n_match_typed_subject_alt_names, old = m->n_match_subject_alt_names;
    struct tls_san_matcher *v = ARENA_ARRAY(conf_arena(at), struct tls_san_matcher, typed + old);
    bool ok = true;
    for (size_t i = 0; i < typed; i++) {
        const TLS(SubjectAltNameMatcher) *x = m->match_typed_subject_alt_names[i];
        struct conf_at place = conf_index(at, "match_typed_subject_alt_names", i);
        struct conf_at matcher = conf_field(&place, "matcher");
        v[i].type = (enum tls_san_type)x->san_type;
        v[i].oid = str_dup(conf_arena(at), str_of(x->oid));
        if (v[i].type == TLS_SAN_OTHER && !v[i].oid.len) {
            ok = conf_fail(&place, "Failed to create SAN matcher for OTHER_NAME with OID: %s",
                           x->oid);
        }
        ok = conf_string_matcher(&matcher, x->matcher, &v[i].matcher) && ok;
    }
    for (size_t i = 0; i < old; i++) {
        struct conf_at place = conf_index(at, "match_subject_alt_names", i);
        v[typed + i].type = TLS_SAN_ANY;
        ok =
            conf_string_matcher(&place, m->match_subject_alt_names[i], &v[typed + i].matcher) && ok;
    }
    s->sans = v;
    s->san_count = typed + old;
    return ok;
}

static bool validation_supported(const struct conf_at *at,
                                 const TLS(CertificateValidationContext) * m, bool partial)
{
    bool ok = true;
    /* Envoy takes none and then verifies nothing. */
    if (m->ca_certificate_provider_instance && !m->trusted_ca && !partial)
        ok = refuse(at, "ca_certificate_provider_instance",
                    "certificate providers are not supported: trusted_ca is needed, too");
    if (m->require_signed_certificate_timestamp && m->require_signed_certificate_timestamp->value) {
        ok = refuse(at, "require_signed_certificate_timestamp", "is not supported");
    }
    return ok;
}

static const struct tls_validation *tls_validation_named(const struct conf_at *at,
                                                         const TLS(CertificateValidationContext) *
                                                             m,
                                                         bool partial, struct str name)
{
    struct tls_validation_source s = {
        .name = name,
        .ca_bytes = bytes_of(m->trusted_ca),
        .system_roots = m->system_root_certs != NULL,
        .allow_expired = m->allow_expired_certificate,
        .accept_untrusted =
            m->trust_chain_verification ==
            ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED,
        .only_leaf_crl = m->only_verify_leaf_cert_crl,
        .no_ca_names = m->suppress_client_ca_list,
        .has_depth = m->max_verify_depth != NULL,
        .max_depth = m->max_verify_depth ? m->max_verify_depth->value : 0,
    };
    bool ok = validation_supported(at, m, partial);
    ok = secret_text(at, "trusted_ca", m->trusted_ca, &s.ca, &s.ca_name) && ok;
    ok = secret_text(at, "crl", m->crl, &s.crl, &s.crl_name) && ok;
    ok = conf_spiffe(at, m->custom_validator_config, &s) && ok;
    ok = validation_hashes(at, m, &s) && ok;
    ok = validation_sans(at, m, &s) && ok;
    return ok ? tls_validation_new(at, &s, partial) : NULL;
}

const struct tls_validation *conf_tls_validation(const struct conf_at *at,
                                                 const TLS(CertificateValidationContext) * m,
                                                 bool partial)
{
    return tls_validation_named(at, m, partial, STR_NONE);
}

/* --- ticket keys
 * ------------------------------------------------------------------------------------------------
 */

const struct tls_tickets *conf_tls_tickets(const struct conf_at *at,
                                           const TLS(TlsSessionTicketKeys) * m)
{
    struct str *keys = ARENA_ARRAY(conf_arena(at), struct str, m->n_keys);
    bool ok = true;
    for (size_t i = 0; i < m->n_keys; i++) {
        struct conf_at place = conf_index(at, "keys", i);
        ok = conf_data_source(&place, m->keys[i], SECRET_TEXT_MOST, &keys[i]) && ok;
    }
    return ok ? tls_tickets_new(at, keys, m->n_keys) : NULL;
}

/* --- secrets
 * ------------------------------------------------------------------------------------------------------
 */

static uint64_t mix_file(const struct conf_at *at, uint64_t hash,
                         const Envoy__Config__Core__V3__DataSource *m)
{
    if (!m || m->specifier_case != ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME)
        return hash;
    struct errors ignored = {.arena = at->cx->errors->arena};
    struct conf_cx quiet = *at->cx;
    quiet.errors = &ignored; /* told by the translation */
    struct conf_at place = conf_root(&quiet);
    struct str text = STR_NONE;
    if (!conf_data_source(&place, m, SECRET_TEXT_MOST, &text)) return hash;
    return hash_xxh64(text, hash);
}

static uint64_t secret_hash(const struct conf_at *at, const TLS(Secret) * m)
{
    uint64_t h = proto_hash(&m->base);
    if (m->type_case == SECRET_CASE(TLS_CERTIFICATE)) {
        h = mix_file(at, h, m->tls_certificate->certificate_chain);
        h = mix_file(at, h, m->tls_certificate->private_key);
        h = mix_file(at, h, m->tls_certificate->pkcs12);
        h = mix_file(at, h, m->tls_certificate->ocsp_staple);
    } else if (m->type_case == SECRET_CASE(VALIDATION_CONTEXT)) {
        h = mix_file(at, h, m->validation_context->trusted_ca);
        h = mix_file(at, h, m->validation_context->crl);
    } else if (m->type_case == SECRET_CASE(SESSION_TICKET_KEYS)) {
        for (size_t i = 0; i < m->session_ticket_keys->n_keys; i++)
            h = mix_file(at, h, m->session_ticket_keys->keys[i]);
    } else if (m->type_case == SECRET_CASE(GENERIC_SECRET)) {
        h = mix_file(at, h, m->generic_secret->secret);
    }
    return h;
}

static bool secret_fill(const struct conf_at *at, const TLS(Secret) * m, struct tls_secret *s)
{
    struct conf_at place;
    switch ((int)m->type_case) {
    case SECRET_CASE(TLS_CERTIFICATE):
        place = conf_field(at, "tls_certificate");
        s->kind = TLS_SECRET_CERT;
        s->cert = tls_cert_named(&place, m->tls_certificate, s->obj.name);
        return s->cert != NULL;
    case SECRET_CASE(VALIDATION_CONTEXT):
        place = conf_field(at, "validation_context");
        s->kind = TLS_SECRET_VALIDATION;
        /* SANs without a CA may be the dynamic half of a combined context. */
        s->validation = tls_validation_named(&place, m->validation_context, true, s->obj.name);
        return s->validation != NULL;
    case SECRET_CASE(SESSION_TICKET_KEYS):
        place = conf_field(at, "session_ticket_keys");
        s->kind = TLS_SECRET_TICKETS;
        s->tickets = conf_tls_tickets(&place, m->session_ticket_keys);
        return s->tickets != NULL;
    case SECRET_CASE(GENERIC_SECRET):
        place = conf_field(at, "generic_secret");
        s->kind = TLS_SECRET_GENERIC;
        place = conf_field(&place, "secret");
        return !m->generic_secret->secret ||
               conf_data_source(&place, m->generic_secret->secret, SECRET_TEXT_MOST, &s->generic);
    default:
        return conf_fail(
            at,
            "a secret needs one of tls_certificate, validation_context, session_ticket_keys, generic_secret");
    }
}

struct tls_secret *translate_secret(struct conf_cx *cx, const TLS(Secret) * m)
{
    struct conf_at at = conf_root(cx);
    struct tls_secret *s = obj_new_in(cx->arena, sizeof(*s));
    s->obj.name = str_dup(cx->arena, str_of(m->name));
    s->obj.hash = secret_hash(&at, m);
    return secret_fill(&at, m, s) ? s : NULL;
}
