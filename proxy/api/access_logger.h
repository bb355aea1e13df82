/* Access loggers: sinks for finished (or periodic) streams and connections. */
#pragma once
#include "proxy/api/extension.h"

struct stream_info;
struct worker;

enum access_log_type {
    ACCESS_LOG_TYPE_NONE,
    ACCESS_LOG_TYPE_TCP_UPSTREAM_CONNECTED,
    ACCESS_LOG_TYPE_TCP_PERIODIC,
    ACCESS_LOG_TYPE_TCP_CONNECTION_END,
    ACCESS_LOG_TYPE_DOWNSTREAM_START,
    ACCESS_LOG_TYPE_DOWNSTREAM_PERIODIC,
    ACCESS_LOG_TYPE_DOWNSTREAM_END,
    ACCESS_LOG_TYPE_UPSTREAM_POOL_READY,
    ACCESS_LOG_TYPE_UPSTREAM_PERIODIC,
    ACCESS_LOG_TYPE_UPSTREAM_END,
    ACCESS_LOG_TYPE_DOWNSTREAM_TUNNEL_ESTABLISHED,
    ACCESS_LOG_TYPE_UDP_TUNNEL_UPSTREAM_CONNECTED,
    ACCESS_LOG_TYPE_UDP_PERIODIC,
    ACCESS_LOG_TYPE_UDP_SESSION_END,
    ACCESS_LOG_TYPE_TCP_CONNECTION_START
};
struct access_logger_type {
    struct extension ext;
    /* Main; immutable result in conf_arena(at). */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    /* Worker. Must not block: text goes to the log thread's buffers. */
    void (*log)(struct worker *w, const void *conf, const struct stream_info *info,
                enum access_log_type type);
};

/* A configured list of access logs with their filters (an `access_log` field), made by
 * proxy/config/access_log.c. */
struct access_log_list;
/* Runs the filters and the loggers whose filter lets the entry pass. NULL list: nothing. Worker. */
void access_log_run(struct worker *w, const struct access_log_list *l,
                    const struct stream_info *info, enum access_log_type type);
bool access_log_empty(const struct access_log_list *l);
