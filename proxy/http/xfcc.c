/* x-forwarded-client-cert: what we tell the upstream about the client's certificate, and which
 * claims of the client we believe. */
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/tls_info.h"
#include "proxy/http/stream_internal.h"

static void xfcc_part(struct sb *out, const char *key, struct str value, bool quoted)
{
    if (out->len) sb_char(out, ';');
    sb_fmt(out, "%s=", key);
    if (quoted) sb_char(out, '"');
    sb_add(out, value); /* quotes in a subject are escaped by RFC 2253 already */
    if (quoted) sb_char(out, '"');
}

/* By=...;Hash=...;Cert=...;Subject=...;URI=...;DNS=... of this hop. */
static struct str xfcc_own(struct http_stream *s, const struct tls_info *tls)
{
    const struct hcm_conf *conf = s->m->conf;
    struct sb out = {0};
    for (size_t i = 0; i < tls->local.uri_san.count; i++)
        xfcc_part(&out, "By", tls->local.uri_san.v[i], false);
    xfcc_part(&out, "Hash", tls->peer.fingerprint_256, false);
    if (conf->xfcc_cert)
        xfcc_part(&out, "Cert", tls_info_text(tls, TLS_TEXT_PEER_PEM, s->arena), true);
    if (conf->xfcc_chain)
        xfcc_part(&out, "Chain", tls_info_text(tls, TLS_TEXT_CHAIN_PEM, s->arena), true);
    if (conf->xfcc_subject) xfcc_part(&out, "Subject", tls->peer.subject, true);
    for (size_t i = 0; conf->xfcc_uri && i < tls->peer.uri_san.count; i++)
        xfcc_part(&out, "URI", tls->peer.uri_san.v[i], false);
    if (conf->xfcc_uri && !tls->peer.uri_san.count) xfcc_part(&out, "URI", STR_NONE, false);
    for (size_t i = 0; conf->xfcc_dns && i < tls->peer.dns_san.count; i++)
        xfcc_part(&out, "DNS", tls->peer.dns_san.v[i], false);
    struct str text = str_dup(s->arena, sb_str(&out));
    sb_release(&out);
    return text;
}

void edge_xfcc_tls(struct http_stream *s, struct headers *h)
{
    const struct tls_info *tls = s->m->info->tls;
    enum hcm_xfcc how = s->m->conf->xfcc;
    if (how == HCM_XFCC_SANITIZE || !tls || !tls->peer.present) {
        headers_remove_id(h, HDR_X_FORWARDED_CLIENT_CERT);
        return;
    }
    if (how == HCM_XFCC_FORWARD_ONLY) return;
    struct str own = xfcc_own(s, tls);
    if (how == HCM_XFCC_SANITIZE_SET)
        headers_set_id(h, HDR_X_FORWARDED_CLIENT_CERT, own);
    else
        headers_append(h, STR("x-forwarded-client-cert"), own, STR(","));
}
