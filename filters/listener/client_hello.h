/* Reading a ClientHello: a cursor that cannot run over the end, and the fingerprints JA3 and JA4.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct arena;

struct cursor {
    const unsigned char *p;
    size_t left;
    bool bad; /* more was wanted than there was */
};

/* A number of so many bytes; 0 and bad at the end. */
static inline size_t take_int(struct cursor *c, size_t bytes)
{
    size_t v = 0;
    if (c->left < bytes) {
        c->bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | c->p[i];
    c->p += bytes;
    c->left -= bytes;
    return v;
}

/* The next `len` bytes as a cursor of their own. */
static inline struct cursor take_part(struct cursor *c, size_t len)
{
    struct cursor part = {c->p, len, false};
    if (c->left < len) {
        c->bad = true;
        part.left = 0;
        return part;
    }
    c->p += len;
    c->left -= len;
    return part;
}

/* Fingerprints of the body of a ClientHello that was found well-formed; in arena a. */
struct str hello_ja3(struct arena *a, struct cursor hello);
struct str hello_ja4(struct arena *a, struct cursor hello);
