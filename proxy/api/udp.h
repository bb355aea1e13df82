/* UDP listener filters: what a listener of datagrams does with them. One instance a worker and
 * version of the listener; all its datagrams come to it. */
#pragma once
#include "base/addr.h"
#include "proxy/api/extension.h"
#include "proxy/api/network_filter.h"

struct worker;
struct udp_listener; /* a worker's side of a listener: proxy/net/udp_listener.c */

struct udp_datagram {
    const struct addr *peer, *local; /* whence, and to which address of ours */
    struct str bytes;                /* borrowed for the call */
};
struct udp_filter_type {
    struct extension ext;
    /* Main. NULL: told. */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg,
                               const struct network_filter_place *place);
    /* Worker. An instance; l and conf live until stop returns. */
    void *(*start)(struct udp_listener *l, const void *conf);
    void (*on_datagram)(void *self, const struct udp_datagram *d);
    /* The instance's end: frees it. */
    void (*stop)(void *self);
};
struct worker *udp_listener_worker(const struct udp_listener *l);
struct str udp_listener_name(const struct udp_listener *l);
int udp_listener_direction(const struct udp_listener *l);    /* TrafficDirection */
uint64_t udp_listener_next_id(const struct udp_listener *l); /* of sessions, as of connections */
/* Sends `count` datagrams from the listener's address `from` to `to`; gives back how many the
 * kernel took (the rest is for the caller to count as errors: nothing is queued). */
size_t udp_listener_send(struct udp_listener *l, const struct addr *to, const struct addr *from,
                         const struct str *v, size_t count);
