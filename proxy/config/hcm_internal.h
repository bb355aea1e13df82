/* Parts of the translation of HttpConnectionManager, for hcm*.c. */
#pragma once
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proxy/config/hcm.h"
#include "proxy/http/hcm.h"

/* The generated names are 70 characters long: rule zero for the typedef. */
typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager Hcm;
#define HCM_PB(name) ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__##name

/* hcm_options.c: codec, times and what happens to headers. False: told. */
bool hcm_times(const struct conf_at *at, const Hcm *m, struct hcm_conf *c);
bool hcm_codec_options(const struct conf_at *at, const Hcm *m, struct hcm_conf *c);
bool hcm_request_options(const struct conf_at *at, const Hcm *m, struct hcm_conf *c);
/* hcm_filters.c: the chain of HTTP filters. False: told. */
bool hcm_filters(
    const struct conf_at *at, const char *field, size_t n,
    Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpFilter *const *v,
    struct str stat_prefix, struct http_filter_chain *out);
/* hcm_scopes.c: scoped_routes. False: told. */
bool hcm_scoped_routes(const struct conf_at *at, const Hcm *m, struct hcm_conf *c);
/* hcm_reply.c: local_reply_config. False: told. */
bool hcm_local_reply(const struct conf_at *at, const Hcm *m, struct hcm_conf *c);
