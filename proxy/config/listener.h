/* Translation of Listener. Main thread only. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/net/listener.h"

struct Envoy__Config__Listener__V3__Listener;

/* The listener in cx->arena (which it owns from then on), refs 1; NULL: told in cx->errors and the
 * arena stays the caller's. obj.hash is the hash of the message. Filter chains and the base get
 * arenas of their own. needs: also left in cx->needs. */
struct listener_conf *translate_listener(struct conf_cx *cx,
                                         const struct Envoy__Config__Listener__V3__Listener *m);
