/* Filters whose configuration is discovered (ECDS). A slot is one place of use in a filter chain:
 * what it was given last stands in TABLE_EXTENSIONS under the slot's key, and a worker looks it up
 * for each new stream or connection. proxy/config makes slots, xds/ fills them. */
#pragma once
#include <stdbool.h>
#include "proxy/api/extension.h"
#include "proxy/api/network_filter.h"
#include "proxy/runtime/obj.h"

struct Google__Protobuf__Any;

/* What a slot holds: a filter's type and its translated configuration. Published. */
struct extension_conf {
    struct obj obj;
    const struct extension *type;
    const void *conf;
};

/* One place of use. Equal places share a slot, so that an update of the listener changes nothing.
 * Workers read key and hash only; the rest is main's. */
struct extension_slot {
    struct str key;
    uint64_t hash; /* of the key */
    unsigned refs; /* arenas of the objects that use it, and xds/ */
    struct arena *arena;
    struct runtime *rt;
    enum extension_kind kind;
    struct str name;
    struct str *type_urls; /* full names of messages */
    size_t type_url_count;
    const struct Google__Protobuf__Any *default_config; /* NULL: none */
    bool no_wait;           /* the default serves at once; nothing waits for the discovered one */
    bool last;              /* of its chain: must be a terminal filter, as no other may be */
    struct str stat_prefix; /* HTTP filters: of the connection manager */
    struct network_filter_place place;
};
