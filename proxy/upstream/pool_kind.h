/* What connections of one host and protocol are told apart by: the server name that they ask for
 * and whom they say that they serve. */
#pragma once
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/upstream/upstream_internal.h"

struct pool_kind {
    /* HttpProtocolOptions.upstream_http_protocol_options.auto_sni and auto_san_validation; empty:
     * the cluster's own */
    struct str server_name;
    uint64_t downstream;           /* the client's connection; 0: any */
    struct original_src source;    /* from.len 0: none */
    struct upstream_names names;   /* of the client's filter state */
    bool per_downstream, per_tlvs; /* does `proxied` count, and do its TLVs? */
    struct transport_proxied proxied;
};
/* Of a request that goes to a host; texts are borrowed from the request. */
void pool_kind_of(const struct upstream_cluster *uc, const struct lb_ask *ask, const struct host *h,
                  struct pool_kind *out);
/* 0: nothing to tell apart. */
uint64_t pool_kind_hash(const struct pool_kind *k);
bool pool_kind_same(const struct pool_kind *a, const struct pool_kind *b);
/* Bytes of the texts, and a copy that holds them in `room`. */
size_t pool_kind_size(const struct pool_kind *k);
void pool_kind_copy(struct pool_kind *to, const struct pool_kind *from, char *room);
