/* Translation of SDS secrets. Main thread only. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/api/tls.h"

struct Envoy__Extensions__TransportSockets__Tls__V3__Secret;
struct Envoy__Config__Core__V3__TypedExtensionConfig;

enum { SECRET_TEXT_MOST = 16 * 1024 * 1024 }; /* bytes of a file of certificates */

/* custom_validator_config: the SPIFFE validator's trust domains into *s; m NULL: none
 * (tls_parts.c). False: told. */
bool conf_spiffe(const struct conf_at *at,
                 const struct Envoy__Config__Core__V3__TypedExtensionConfig *m,
                 struct tls_validation_source *s);

/* The secret in cx->arena (which it owns from then on), refs 1: to publish in TABLE_SECRETS under
 * its name. NULL: told in cx->errors and the arena stays the caller's. obj.hash is of the message
 * and of the files that it names, so that a changed file is a changed secret. */
struct tls_secret *translate_secret(
    struct conf_cx *cx, const struct Envoy__Extensions__TransportSockets__Tls__V3__Secret *m);
