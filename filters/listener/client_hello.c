/* JA3 and JA4: what a ClientHello offers, as a short text that tells client software apart. */
#include "filters/listener/client_hello.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "proxy/api/tls.h"

enum {
    EXT_SNI = 0,
    EXT_GROUPS = 10,
    EXT_POINTS = 11,
    EXT_SIGALGS = 13,
    EXT_ALPN = 16,
    EXT_VERSIONS = 43,
    MOST = 512, /* entries of a list that count */
    SHORT_HASH = 12
};

struct numbers {
    unsigned v[MOST];
    size_t count;
};
/* What the fingerprints are made of, without GREASE values. */
struct offered {
    unsigned version; /* of the message */
    unsigned best;    /* the highest of supported_versions, or that of the message */
    struct numbers ciphers, extensions, groups, points, sigalgs;
    struct str alpn; /* the first */
    bool sni;
};

/* RFC 8701: both bytes equal, 0x?a. */
static bool is_grease(unsigned v)
{
    return (v & 0x0f0f) == 0x0a0a && v >> 8 == (v & 0xff);
}

static void add_number(struct numbers *n, unsigned v)
{
    if (!is_grease(v) && n->count < MOST) n->v[n->count++] = v;
}

static void take_list(struct cursor c, size_t size, struct numbers *n)
{
    while (c.left >= size)
        add_number(n, (unsigned)take_int(&c, size));
}

static void offer_extension(struct offered *o, unsigned type, struct cursor ext)
{
    struct numbers versions = {0};
    add_number(&o->extensions, type);
    switch (type) {
    case EXT_SNI: o->sni = true; return;
    case EXT_GROUPS: take_list(take_part(&ext, take_int(&ext, 2)), 2, &o->groups); return;
    case EXT_POINTS: take_list(take_part(&ext, take_int(&ext, 1)), 1, &o->points); return;
    case EXT_SIGALGS: take_list(take_part(&ext, take_int(&ext, 2)), 2, &o->sigalgs); return;
    case EXT_VERSIONS:
        take_list(take_part(&ext, take_int(&ext, 1)), 2, &versions);
        for (size_t i = 0; i < versions.count; i++)
            if (versions.v[i] > o->best) o->best = versions.v[i];
        return;
    case EXT_ALPN: {
        struct cursor names = take_part(&ext, take_int(&ext, 2));
        struct cursor name = take_part(&names, take_int(&names, 1));
        o->alpn = str_make((const char *)name.p, name.left);
        return;
    }
    default: return;
    }
}

static void offered_of(struct cursor c, struct offered *o)
{
    *o = (struct offered){0};
    o->version = o->best = (unsigned)take_int(&c, 2);
    (void)take_part(&c, 32);
    (void)take_part(&c, take_int(&c, 1));
    take_list(take_part(&c, take_int(&c, 2)), 2, &o->ciphers);
    (void)take_part(&c, take_int(&c, 1));
    struct cursor all = take_part(&c, take_int(&c, 2));
    while (all.left && !all.bad) {
        unsigned type = (unsigned)take_int(&all, 2);
        struct cursor ext = take_part(&all, take_int(&all, 2));
        if (!all.bad) offer_extension(o, type, ext);
    }
}

/* --- JA3: decimal lists, hashed
 * -------------------------------------------------------------------------------------- */

static void add_decimal(struct sb *out, const struct numbers *n)
{
    sb_char(out, ',');
    for (size_t i = 0; i < n->count; i++)
        sb_fmt(out, i ? "-%u" : "%u", n->v[i]);
}

struct str hello_ja3(struct arena *a, struct cursor hello)
{
    struct offered o;
    struct sb text = {0};
    offered_of(hello, &o);
    sb_fmt(&text, "%u", o.version);
    add_decimal(&text, &o.ciphers);
    add_decimal(&text, &o.extensions);
    add_decimal(&text, &o.groups);
    add_decimal(&text, &o.points);
    struct str hash = tls_digest_hex(a, TLS_DIGEST_MD5, sb_str(&text));
    sb_release(&text);
    return hash;
}

/* --- JA4: counts, and hashes of sorted hexadecimal lists
 * ------------------------------------------------------------- */

static int by_value(const void *x, const void *y)
{
    unsigned a = *(const unsigned *)x, b = *(const unsigned *)y;
    return a < b ? -1 : a > b;
}

static void add_hex(struct sb *out, const struct numbers *n, bool sorted)
{
    struct numbers copy = *n;
    if (sorted) qsort(copy.v, copy.count, sizeof(copy.v[0]), by_value);
    for (size_t i = 0; i < copy.count; i++)
        sb_fmt(out, i ? ",%04x" : "%04x", copy.v[i]);
}

static void add_hash(struct arena *a, struct sb *out, struct str list)
{
    static const struct str nothing = {"000000000000", SHORT_HASH};
    struct str hash = list.len ? tls_digest_hex(a, TLS_DIGEST_SHA256, list) : nothing;
    sb_char(out, '_');
    sb_add(out, str_sub(hash, 0, SHORT_HASH));
}

static const char *version_code(unsigned v)
{
    switch (v) {
    case 0x0304: return "13";
    case 0x0303: return "12";
    case 0x0302: return "11";
    case 0x0301: return "10";
    case 0x0300: return "s3";
    default: return "00";
    }
}

struct str hello_ja4(struct arena *a, struct cursor hello)
{
    struct offered o;
    struct sb out = {0}, list = {0};
    struct numbers others = {0};
    offered_of(hello, &o);
    size_t ciphers = o.ciphers.count < 99 ? o.ciphers.count : 99;
    size_t extensions = o.extensions.count < 99 ? o.extensions.count : 99;
    sb_fmt(&out, "t%s%c%02zu%02zu", version_code(o.best), o.sni ? 'd' : 'i', ciphers, extensions);
    sb_char(&out, o.alpn.len ? o.alpn.ptr[0] : '0');
    sb_char(&out, o.alpn.len ? o.alpn.ptr[o.alpn.len - 1] : '0');
    add_hex(&list, &o.ciphers, true);
    add_hash(a, &out, sb_str(&list));
    sb_release(&list);
    for (size_t i = 0; i < o.extensions.count; i++)
        if (o.extensions.v[i] != EXT_SNI && o.extensions.v[i] != EXT_ALPN)
            add_number(&others, o.extensions.v[i]);
    add_hex(&list, &others, true);
    if (o.sigalgs.count) sb_char(&list, '_');
    add_hex(&list, &o.sigalgs, false);
    add_hash(a, &out, sb_str(&list));
    struct str text = str_dup(a, sb_str(&out));
    sb_release(&list);
    sb_release(&out);
    return text;
}
