/* Values of operators about addresses and TLS. */
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"
#include "proxy/http/format_internal.h"

static const struct addr *address_of(int which, const struct stream_info *i)
{
    const struct conn_info *c = i->conn;
    switch (which) {
    case N_UP_HOST: return &i->up.host;
    case N_UP_LOCAL: return &i->up.local;
    case N_UP_REMOTE: return &i->up.remote;
    case N_REMOTE: return i->remote.len ? &i->remote : c ? &c->remote : NULL;
    case N_DIRECT_REMOTE: return !c ? NULL : c->direct_remote.len ? &c->direct_remote : &c->remote;
    case N_LOCAL: return c ? &c->local : NULL;
    case N_DIRECT_LOCAL: return !c ? NULL : c->direct_local.len ? &c->direct_local : &c->local;
    default: return NULL;
    }
}

static struct str masked(const struct addr *x, uint32_t bits, struct arena *a)
{
    char ip[ADDR_TEXT_MAX];
    struct cidr c;
    size_t n = addr_format_ip(x, ip);
    uint32_t most = addr_is_v4(x) ? 32 : 128;
    if (bits > most) bits = most;
    if (!cidr_make(str_make(ip, n), bits, &c)) return STR_NONE;
    return cidr_text(&c, a);
}

void eval_address(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct addr *x = address_of(p->op->n & N_ADDRESS_MASK, cx->info);
    if (!x || !x->len) return;
    char text[ADDR_TEXT_MAX];
    if (p->op->n & N_PORT) {
        if (addr_is_ip(x)) format_set_number(r, addr_port(x));
        return;
    }
    if (p->op->n & N_NO_PORT) {
        if (p->bits != UINT32_MAX && addr_is_ip(x)) {
            format_set_text(r, masked(x, p->bits, cx->scratch));
            return;
        }
        size_t n = addr_format_ip(x, text);
        format_set_text(r, str_dup(cx->scratch, str_make(text, n)));
        return;
    }
    size_t n = addr_format(x, text);
    format_set_text(r, str_dup(cx->scratch, str_make(text, n)));
}

void eval_host_name(const struct format_part *p, const struct format_cx *cx,
                    struct format_result *r)
{
    const struct upstream_info *u = &cx->info->up;
    struct str name = u->host_name;
    if (!name.len && u->host.len) {
        char text[ADDR_TEXT_MAX];
        size_t n = p->op->n ? addr_format_ip(&u->host, text) : addr_format(&u->host, text);
        format_set_text(r, str_dup(cx->scratch, str_make(text, n)));
        return;
    }
    size_t colon = p->op->n ? str_rfind_char(name, ':') : SIZE_MAX;
    format_set_text(r, colon == SIZE_MAX ? name : str_sub(name, 0, colon));
}

/* The names of all attempts, each without its port. */
void eval_bare_names(const struct format_part *p, const struct format_cx *cx,
                     struct format_result *r)
{
    (void)p;
    struct str rest = cx->info->up.host_names_attempted, name;
    struct sb out = {0};
    while (str_next(&rest, ',', &name)) {
        size_t colon = str_rfind_char(name, ':');
        if (out.len) sb_char(&out, ',');
        sb_add(&out, colon == SIZE_MAX ? name : str_sub(name, 0, colon));
    }
    format_set_text(r, str_dup(cx->scratch, sb_str(&out)));
    sb_release(&out);
}

/* Addresses of internal listeners have one; all others give an empty text. */
void eval_endpoint_id(const struct format_part *p, const struct format_cx *cx,
                      struct format_result *r)
{
    if (p->op->n == N_UP ? cx->info->up.remote.len > 0 : cx->info->conn != NULL)
        r->kind = FORMAT_STRING;
    r->text = STR_NONE;
}

/* Resets are not told apart from orderly ends when the entry is written. */
void eval_close_type(const struct format_part *p, const struct format_cx *cx,
                     struct format_result *r)
{
    if (p->op->n == N_UP ? cx->info->up.host.len > 0 : cx->info->conn != NULL)
        format_set_text(r, STR("Normal"));
}

static const struct tls_info *tls_of(const struct format_part *p, const struct stream_info *i)
{
    if (p->op->n & N_TLS_UP) return i->up.tls;
    return i->conn ? i->conn->tls : NULL;
}

static struct str tls_fact(int which, const struct tls_info *t)
{
    switch (which) {
    case N_PEER_SUBJECT: return t->peer.subject;
    case N_LOCAL_SUBJECT: return t->local.subject;
    case N_PEER_ISSUER: return t->peer.issuer;
    case N_TLS_VERSION: return t->version;
    case N_TLS_CIPHER: return t->cipher;
    case N_TLS_GROUP: return t->group;
    case N_TLS_SESSION: return t->session_id;
    case N_PEER_FP256: return t->peer.fingerprint_256;
    case N_PEER_FP1: return t->peer.fingerprint_1;
    case N_PEER_SERIAL: return t->peer.serial;
    case N_TLS_SNI: return t->sni;
    default: return STR_NONE;
    }
}

void eval_tls(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct tls_info *t = tls_of(p, cx->info);
    int which = p->op->n & N_TLS_MASK;
    if (!t) return;
    if (which >= N_TLS_TEXT)
        format_set_text(r, tls_info_text(t, (enum tls_text)(which - N_TLS_TEXT), cx->scratch));
    else
        format_set_text(r, tls_fact(which, t));
}

static const struct tls_names *san_list(int n, const struct tls_cert_info *c)
{
    switch (n & N_SAN_MASK) {
    case N_URI_SAN: return &c->uri_san;
    case N_DNS_SAN: return &c->dns_san;
    case N_IP_SAN: return &c->ip_san;
    case N_EMAIL_SAN: return &c->email_san;
    case N_OTHERNAME_SAN: return &c->othername_san;
    default: return NULL;
    }
}

void eval_san(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct tls_info *t = tls_of(p, cx->info);
    if (!t) return;
    const struct tls_names *names =
        san_list(p->op->n, p->op->n & N_SAN_LOCAL ? &t->local : &t->peer);
    if (!names || !names->count) return;
    struct sb out = {0};
    for (size_t i = 0; i < names->count; i++) {
        if (i) sb_char(&out, ',');
        sb_add(&out, names->v[i]);
    }
    format_set_text(r, str_dup(cx->scratch, sb_str(&out)));
    sb_release(&out);
}

void eval_cert_time(const struct format_part *p, const struct format_cx *cx,
                    struct format_result *r)
{
    const struct tls_info *t = tls_of(p, cx->info);
    if (!t || !t->peer.present) return;
    int64_t at = (p->op->n & N_TLS_MASK) == N_CERT_START ? t->peer.valid_from : t->peer.valid_to;
    if (at >= 0) format_set_text(r, time_format_dup(p->time, (uint64_t)at * 1000000, cx->scratch));
}
