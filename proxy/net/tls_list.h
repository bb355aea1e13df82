/* The TLS contexts in use and their certificates: for admin's /certs and the days that are left.
 * Main thread only. */
#pragma once
#include <stddef.h>
#include "base/str.h"
#include "proxy/api/tls_info.h"

struct arena;
struct runtime;
struct tls_conf;

/* Listed until the arena, in which the context lives, is freed. */
void tls_list_add(struct runtime *rt, struct arena *a, const struct tls_conf *c);

/* A secret was published: contexts that use it are counted as updated. */
void tls_list_secret_changed(struct runtime *rt, struct str name);

struct tls_list_cert {
    struct str path; /* "<inline>" or a file's */
    struct tls_cert_info info;
};
/* One context with what SDS has delivered for it so far. */
struct tls_list_view {
    const struct tls_list_cert *cas, *certs;
    size_t ca_count, cert_count;
};
/* In the order of their making. Facts live in `a`. */
void tls_list_each(struct runtime *rt, struct arena *a,
                   void (*fn)(void *arg, const struct tls_list_view *v), void *arg);
