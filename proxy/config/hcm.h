/* Translation of HttpConnectionManager. Main thread only. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/api/network_filter.h"

struct hcm_conf;
struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager;

/* In conf_arena(at), immutable. NULL: told. */
const struct hcm_conf *translate_hcm(
    const struct conf_at *at,
    const struct
    Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager *m,
    const struct network_filter_place *place);
