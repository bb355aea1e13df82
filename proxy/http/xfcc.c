/* x-forwarded-client-cert: what we tell the upstream about the client's certificate, and which
 * claims of the client we believe. */
#include "base/arena.h"
#include "base/text.h"
#include "proxy/api/headers.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/tls_info.h"
#include "proxy/http/format_json.h"
#include "proxy/http/stream_internal.h"

static void xfcc_part(struct sb *out, const char *key, struct str value, bool quoted)
{
    if (out->len) sb_char(out, ';');
    sb_fmt(out, "%s=", key);
    if (quoted) sb_char(out, '"');
    sb_add(out, value); /* quotes in a subject are escaped by RFC 2253 already */
    if (quoted) sb_char(out, '"');
}

/* By=...;Hash=...;Cert=...;Subject=...;URI=...;DNS=...;Issuer=... of this hop. */
static void xfcc_text(struct http_stream *s, const struct hcm_xfcc_conf *conf,
                      const struct tls_info *tls, struct sb *out)
{
    for (size_t i = 0; i < tls->local.uri_san.count; i++)
        xfcc_part(out, "By", tls->local.uri_san.v[i], false);
    xfcc_part(out, "Hash", tls->peer.fingerprint_256, false);
    if (conf->cert) xfcc_part(out, "Cert", tls_info_text(tls, TLS_TEXT_PEER_PEM, s->arena), true);
    if (conf->chain)
        xfcc_part(out, "Chain", tls_info_text(tls, TLS_TEXT_CHAIN_PEM, s->arena), true);
    if (conf->subject) xfcc_part(out, "Subject", tls->peer.subject, true);
    for (size_t i = 0; conf->uri && i < tls->peer.uri_san.count; i++)
        xfcc_part(out, "URI", tls->peer.uri_san.v[i], false);
    if (conf->uri && !tls->peer.uri_san.count) xfcc_part(out, "URI", STR_NONE, false);
    for (size_t i = 0; conf->dns && i < tls->peer.dns_san.count; i++)
        xfcc_part(out, "DNS", tls->peer.dns_san.v[i], false);
    if (conf->issuer) xfcc_part(out, "Issuer", tls->peer.issuer, true);
}

static void json_key(struct sb *out, const char *key)
{
    char last = out->len ? out->ptr[out->len - 1] : '{';
    if (last != '{') sb_char(out, ',');
    json_string(out, str_of(key));
    sb_char(out, ':');
}

static void json_names(struct sb *out, const char *key, const struct tls_names *names)
{
    if (!names->count) return;
    json_key(out, key);
    for (size_t i = 0; i < names->count; i++) {
        sb_char(out, i ? ',' : '[');
        json_string(out, names->v[i]);
    }
    sb_char(out, ']');
}

/* The certificates of a PEM text, one string each. */
static void json_chain(struct sb *out, struct str pem)
{
    static const struct str end = {"-----END CERTIFICATE-----\n", 26};
    bool first = true;
    json_key(out, "chain");
    sb_char(out, '[');
    while (pem.len) {
        size_t at = str_find(pem, end);
        size_t len = at == SIZE_MAX ? pem.len : at + end.len;
        if (!first) sb_char(out, ',');
        first = false;
        json_string(out, str_sub(pem, 0, len));
        pem = str_sub(pem, len, SIZE_MAX);
    }
    sb_char(out, ']');
}

/* The same as a JSON object; what is empty is left out. */
static void xfcc_json(struct http_stream *s, const struct hcm_xfcc_conf *conf,
                      const struct tls_info *tls, struct sb *out)
{
    struct arena *a = s->arena;
    sb_char(out, '{');
    json_names(out, "by", &tls->local.uri_san);
    json_key(out, "hash");
    json_string(out, tls->peer.fingerprint_256);
    if (conf->cert) {
        json_key(out, "cert");
        json_string(out, percent_decode(a, tls_info_text(tls, TLS_TEXT_PEER_PEM, a)));
    }
    if (conf->chain) json_chain(out, percent_decode(a, tls_info_text(tls, TLS_TEXT_CHAIN_PEM, a)));
    if (conf->subject) {
        json_key(out, "subject");
        json_string(out, tls->peer.subject);
    }
    if (conf->uri) json_names(out, "uri", &tls->peer.uri_san);
    if (conf->dns) json_names(out, "dns", &tls->peer.dns_san);
    if (conf->issuer) {
        json_key(out, "issuer");
        json_string(out, tls->peer.issuer);
    }
    sb_char(out, '}');
}

/* JSON goes behind the elements of an array; a header in the text format stays one. */
static void xfcc_put(struct http_stream *s, const struct hcm_xfcc_conf *conf,
                     const struct tls_info *tls, struct headers *h)
{
    struct sb out = {0};
    struct str old = STR_NONE;
    if (conf->how == HCM_XFCC_APPEND_FORWARD)
        old = str_trim(headers_get(h, HDR_X_FORWARDED_CLIENT_CERT));
    bool array = old.len >= 2 && old.ptr[0] == '[' && old.ptr[old.len - 1] == ']';
    if (conf->json && (array || !old.len)) {
        struct str inner = array ? str_trim(str_sub(old, 1, old.len - 2)) : STR_NONE;
        sb_char(&out, '[');
        sb_add(&out, inner);
        if (inner.len) sb_char(&out, ',');
        struct sb own = {0};
        xfcc_json(s, conf, tls, &own);
        sb_add(&out, sb_str(&own));
        sb_release(&own);
        sb_char(&out, ']');
        headers_set_id(h, HDR_X_FORWARDED_CLIENT_CERT, str_dup(s->arena, sb_str(&out)));
    } else {
        xfcc_text(s, conf, tls, &out);
        struct str own = str_dup(s->arena, sb_str(&out));
        if (conf->how == HCM_XFCC_SANITIZE_SET)
            headers_set_id(h, HDR_X_FORWARDED_CLIENT_CERT, own);
        else
            headers_append(h, STR("x-forwarded-client-cert"), own, STR(","));
    }
    sb_release(&out);
}

static const struct hcm_xfcc_conf *xfcc_choose(struct http_stream *s, const struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    const void *action = &conf->xfcc;
    struct match_ask ask = {.worker = s->info.worker,
                            .scratch = s->arena,
                            .conn = s->m->info,
                            .info = &s->info,
                            .request = h};
    if (conf->xfcc_tree) (void)match_tree_find(conf->xfcc_tree, &ask, &action);
    return action;
}

void edge_xfcc(struct http_stream *s, struct headers *h)
{
    const struct tls_info *tls = s->m->info->tls;
    const struct hcm_xfcc_conf *conf = xfcc_choose(s, h);
    if (conf->how == HCM_XFCC_ALWAYS_FORWARD_ONLY) return;
    /* What a peer claims that proved nothing is not passed on. */
    if (conf->how == HCM_XFCC_SANITIZE || !tls || !tls->peer.present)
        headers_remove_id(h, HDR_X_FORWARDED_CLIENT_CERT);
    else if (conf->how != HCM_XFCC_FORWARD_ONLY)
        xfcc_put(s, conf, tls, h);
}
