/* The objects of a translated listener and the names of its statistics. */
#include "base/must.h"
#include "proxy/net/listener_internal.h"

const struct stat_def listener_stat_defs[LISTENER_STAT_COUNT] = {
    [LISTENER_CX_ACTIVE] = {"downstream_cx_active", STAT_GAUGE, 0},
    [LISTENER_CX_DESTROY] = {"downstream_cx_destroy", STAT_COUNTER, 0},
    [LISTENER_CX_LENGTH_MS] = {"downstream_cx_length_ms", STAT_HISTOGRAM, 0},
    [LISTENER_CX_OVERFLOW] = {"downstream_cx_overflow", STAT_COUNTER, 0},
    [LISTENER_CX_OVERLOAD_REJECT] = {"downstream_cx_overload_reject", STAT_COUNTER, 0},
    [LISTENER_CX_TOTAL] = {"downstream_cx_total", STAT_COUNTER, 0},
    [LISTENER_CX_TRANSPORT_TIMEOUT] = {"downstream_cx_transport_socket_connect_timeout",
                                       STAT_COUNTER, 0},
    [LISTENER_GLOBAL_CX_OVERFLOW] = {"downstream_global_cx_overflow", STAT_COUNTER, 0},
    [LISTENER_FILTER_ERROR] = {"downstream_listener_filter_error", STAT_COUNTER, 0},
    [LISTENER_FILTER_REMOTE_CLOSE] = {"downstream_listener_filter_remote_close", STAT_COUNTER, 0},
    [LISTENER_PRE_CX_ACTIVE] = {"downstream_pre_cx_active", STAT_GAUGE, 0},
    [LISTENER_PRE_CX_TIMEOUT] = {"downstream_pre_cx_timeout", STAT_COUNTER, 0},
    [LISTENER_EXTENSION_MISSING] = {"extension_config_missing", STAT_COUNTER, 0},
    [LISTENER_NETWORK_EXTENSION_MISSING] = {"network_extension_config_missing", STAT_COUNTER, 0},
    [LISTENER_NO_CHAIN] = {"no_filter_chain_match", STAT_COUNTER, 0},
    [LISTENER_ACCEPTED_PER_EVENT] = {"connections_accepted_per_socket_event", STAT_HISTOGRAM, 0},
};
const struct stat_def listener_worker_stat_defs[LISTENER_WORKER_STAT_COUNT] = {
    [LISTENER_WORKER_CX_ACTIVE] = {"downstream_cx_active", STAT_GAUGE, 0},
    [LISTENER_WORKER_CX_TOTAL] = {"downstream_cx_total", STAT_COUNTER, 0},
};

static void listener_conf_release(struct obj *o)
{
    struct listener_conf *l = CONTAINER_OF(o, struct listener_conf, obj);
    for (size_t i = 0; i < l->chain_count; i++) {
        struct obj *chain = l->chains[i] ? &l->chains[i]->obj : NULL;
        if (chain) obj_unref(&chain);
    }
    struct obj *rest = l->default_chain ? &l->default_chain->obj : NULL;
    if (rest) obj_unref(&rest);
    rest = l->base ? &l->base->obj : NULL;
    if (rest) obj_unref(&rest);
}

struct listener_conf *listener_conf_new(struct arena *a)
{
    struct listener_conf *l = obj_new_in(a, sizeof(*l));
    l->obj.on_free = listener_conf_release;
    return l;
}

struct listener_base *listener_base_new(void)
{
    return obj_new(sizeof(struct listener_base), "listener");
}

struct filter_chain_conf *filter_chain_conf_new(void)
{
    return obj_new(sizeof(struct filter_chain_conf), "filter chain");
}
