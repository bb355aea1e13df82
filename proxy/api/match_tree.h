/* Matcher trees (xds.type.matcher.v3.Matcher): from what is known of a connection or a request to
 * an action. Trees are made on main (conf_match_tree), are immutable and live in the arena of the
 * object being made; asking is safe in any worker. What an action is, its user says: a filter
 * chain's name, a route, a policy. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "proxy/api/extension.h"

struct addr;
struct arena;
struct conn_info;
struct headers;
struct stream_info;
struct value;
struct worker;
struct Envoy__Config__Common__Matcher__V3__Matcher;
struct Google__Protobuf__Any;
struct Xds__Type__Matcher__V3__Matcher;

/* --- asking
 * ----------------------------------------------------------------------------------------- */

/* What inputs may look at; all borrowed for the call. What is NULL is not there yet: its inputs
 * have to wait. */
struct match_ask {
    struct worker *worker; /* runtime values; NULL: defaults */
    struct arena *scratch; /* joined header values and the like */
    const struct conn_info *conn;
    const struct stream_info *info; /* NULL outside HTTP */
    const struct headers *request, *request_trailers, *response, *response_trailers;
    /* before the transport socket: what listener filters found */
    struct str transport_protocol;
    const struct str *alpn;
    size_t alpn_count;
};

struct match_tree;
enum match_result {
    MATCH_NONE,
    MATCH_FOUND,
    MATCH_WAIT /* an input is not there yet */
};
/* *action: what the user's action callback made; untouched unless FOUND. */
enum match_result match_tree_find(const struct match_tree *t, const struct match_ask *ask,
                                  const void **action);

/* --- making; main thread
 * ---------------------------------------------------------------------------- */

/* Where a tree is used: which inputs it may have. The first two look at connections without HTTP,
 * the others (as in Envoy, also the network filter) find their inputs among those of requests. */
enum match_place {
    MATCH_IN_CHAINS,       /* Listener.filter_chain_matcher */
    MATCH_IN_UDP,          /* datagrams */
    MATCH_IN_HTTP,         /* filters of requests and responses */
    MATCH_IN_HTTP_RBAC,    /* what may be known when a request arrives */
    MATCH_IN_NETWORK_RBAC, /* what may be known of its connection */
    MATCH_IN_ROUTES
};

/* What a user of trees brings along. */
struct match_tree_use {
    enum match_place place;
    /* Makes an action of an action's Any; `at` is its typed_config. NULL: told. conf_match_action
     * helps. */
    const void *(*action)(const struct conf_at *at, struct str name,
                          const struct Google__Protobuf__Any *any, void *arg);
    void *arg;
};
/* NULL: told. */
const struct match_tree *conf_match_tree(const struct conf_at *at,
                                         const struct Xds__Type__Matcher__V3__Matcher *m,
                                         const struct match_tree_use *use);
/* The older message of the same shape and wire format. */
const struct match_tree *conf_match_tree_old(
    const struct conf_at *at, const struct Envoy__Config__Common__Matcher__V3__Matcher *m,
    const struct match_tree_use *use);
/* The checked message of an action that has to be of this type. NULL: told. */
const struct ProtobufCMessage *conf_match_action(const struct conf_at *at, struct str name,
                                                 const struct Google__Protobuf__Any *any,
                                                 const struct ProtobufCMessageDescriptor *type);

/* --- extensions
 * ----------------------------------------------------------------------------------- */

enum match_data { MATCH_DATA_TEXT, MATCH_DATA_METADATA };
/* What an input found. */
struct match_value {
    bool present;
    struct str text;           /* TEXT */
    const struct value *value; /* METADATA */
};
/* An input (EXTENSION_MATCHER_INPUT for HTTP, EXTENSION_MATCHER_INPUT_NETWORK for connections). */
struct match_input_type {
    struct extension ext;
    enum match_data data;
    unsigned places; /* 1 << enum match_place of each where it may be used */
    /* NULL: no configuration. Its result lives in conf_arena(at); NULL: told. */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    /* False: not there yet. `out` is zero before. */
    bool (*get)(const void *conf, const struct match_ask *ask, struct match_value *out);
};
/* A custom_match of a predicate (EXTENSION_MATCHER). */
struct match_matcher_type {
    struct extension ext;
    enum match_data data; /* of the input */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    bool (*fits)(const void *conf, const struct match_ask *ask, const struct match_value *v);
};
