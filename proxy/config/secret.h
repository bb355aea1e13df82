/* Translation of SDS secrets. Main thread only. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/api/tls.h"

struct Envoy__Extensions__TransportSockets__Tls__V3__Secret;

/* The secret in cx->arena (which it owns from then on), refs 1: to publish in TABLE_SECRETS under
 * its name. NULL: told in cx->errors and the arena stays the caller's. obj.hash is of the message
 * and of the files that it names, so that a changed file is a changed secret. */
struct tls_secret *translate_secret(
    struct conf_cx *cx, const struct Envoy__Extensions__TransportSockets__Tls__V3__Secret *m);
