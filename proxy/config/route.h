/* Translation of RouteConfiguration. Main thread only. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/api/route.h"

struct Envoy__Config__Route__V3__RouteConfiguration;
struct Envoy__Config__Route__V3__VirtualHost;
struct Google__Protobuf__Any;
struct Envoy__Config__Route__V3__RetryPolicy;

/* An RDS resource: the table in cx->arena (which it owns from then on), refs 1, obj.hash set; NULL:
 * told in cx->errors and the arena stays the caller's. validate_clusters defaults to false here. */
struct route_config *translate_route_config(
    struct conf_cx *cx, const struct Envoy__Config__Route__V3__RouteConfiguration *m);
/* The same for a table that stands in another resource, at `at`. */
struct route_config *translate_route_config_at(
    struct conf_cx *cx, const struct conf_at *at,
    const struct Envoy__Config__Route__V3__RouteConfiguration *m);
/* Would this virtual host do in a table of that name? What it becomes is thrown away with the
 * arena. False: told. */
bool check_virtual_host(struct conf_cx *cx, const struct Envoy__Config__Route__V3__VirtualHost *m,
                        struct str table);
/* `route_config` of a connection manager: lives in conf_arena(at) with the object around it and has
 * no references of its own (obj.arena NULL: pin the object around it). validate_clusters defaults
 * to true. NULL: told. */
const struct route_config *translate_inline_route_config(
    const struct conf_at *at, const struct Envoy__Config__Route__V3__RouteConfiguration *m);

/* A retry policy by itself (common_http_protocol_options of clusters later); NULL: told. */
const struct retry_policy *translate_retry_policy(
    const struct conf_at *at, const struct Envoy__Config__Route__V3__RetryPolicy *m);
