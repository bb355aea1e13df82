/* test.network_call: a network filter that asks GET /connection of the cluster "side" before it
 * lets a connection on; any other answer than 200 closes it. */
#include "base/must.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/side_call.h"
#include "proxy/net/conn.h"

static void call_on_end(struct side_call *c, void *arg, const struct side_end *e)
{
    struct network_filter *f = arg;
    (void)c;
    if (e->failure == SIDE_OK && e->status == 200)
        network_filter_resume(f);
    else
        conn_close(f->conn, CONN_CLOSE_NOW);
}

static const struct side_events call_events = {.on_end = call_on_end};

static enum net_flow call_on_new(struct network_filter *f)
{
    static const struct side_target target = {
        .cluster = {"side", 4}, .path = {"/connection", 11}, .timeout_us = 60 * 1000 * 1000};
    struct side_ask q = {.worker = f->worker,
                         .owner = network_filter_calls(f),
                         .target = &target,
                         .events = &call_events,
                         .arg = f};
    (void)side_http(&q, NULL, NULL);
    return NET_HOLD;
}

const struct network_filter_type test_network_call = {
    .ext = {.name = "test.network_call"},
    .instance_size = sizeof(struct network_filter),
    .on_new = call_on_new,
};
