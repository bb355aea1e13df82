/* A place where resources come from: an ADS stream, a stream for one type, or a file. */
#pragma once
#include "xds/known.h"
#include "xds/xds_internal.h"

struct source;
/* How one kind of source works. */
struct source_ops {
    void (*start)(struct source *s);
    void (*watch)(struct source *s, enum xds_kind kind, struct str name);
    void (*unwatch)(struct source *s, enum xds_kind kind, struct str name);
    /* The resource is here in this version (from the config cache): said when connecting. May be
     * NULL. */
    void (*have)(struct source *s, enum xds_kind kind, struct str name, struct str version);
    void (*stop)(struct source *s);
    void (*free)(struct source *s);
};
struct source {
    struct list link;
    struct xds *x;
    const struct source_ops *ops;
    uint64_t key; /* meaning of its configuration and kind; 0: ADS */
    bool is_ads, started;
    bool delta;                    /* speaks the incremental protocol */
    bool is_remote;                /* a control plane: what it says is kept in the config cache */
    bool answered;                 /* at least once */
    bool stale;                    /* serves from the config cache until it answers */
    struct known known[XDS_KINDS]; /* state of the world: what it said last */
};

/* source_grpc.c: api is borrowed for the life of the process or copied; kind XDS_KINDS: ADS. NULL:
 * told. */
struct source *source_grpc_new(struct xds *x, const Envoy__Config__Core__V3__ApiConfigSource *api,
                               enum xds_kind kind, const struct conf_at *at);
/* source_rest.c: polled by HTTP. NULL: told. */
struct source *source_rest_new(struct xds *x, const Envoy__Config__Core__V3__ApiConfigSource *api,
                               enum xds_kind kind, const struct conf_at *at);
/* source_file.c */
struct source *source_file_new(struct xds *x, struct str path, struct str directory,
                               enum xds_kind kind);
