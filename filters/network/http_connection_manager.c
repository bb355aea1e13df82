/* envoy.filters.network.http_connection_manager: gives a connection to proxy/http's connection
 * manager. */
#include "base/must.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proxy/api/network_filter.h"
#include "proxy/config/hcm.h"
#include "proxy/http/hcm.h"

struct hcm_filter {
    struct network_filter base;
    struct hcm hcm;
    bool begun;
};

static struct hcm_filter *hcm_filter_of(struct network_filter *f)
{
    return CONTAINER_OF(f, struct hcm_filter, base);
}

static const void *hcm_filter_conf(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                   const struct network_filter_place *place)
{
    return translate_hcm(at, (const void *)msg, place);
}

static enum net_flow hcm_filter_on_new(struct network_filter *f)
{
    struct hcm_filter *h = hcm_filter_of(f);
    hcm_init(&h->hcm, f->conf, f->conn, f->worker);
    h->begun = true;
    if (network_filter_draining(f)) hcm_on_drain(&h->hcm);
    return NET_CONTINUE;
}

static enum net_flow hcm_filter_on_read(struct network_filter *f, struct buf *data, bool end)
{
    hcm_on_read(&hcm_filter_of(f)->hcm, data, end);
    return NET_HOLD;
}

static void hcm_filter_on_watermark(struct network_filter *f, bool above)
{
    hcm_on_watermark(&hcm_filter_of(f)->hcm, above);
}

static void hcm_filter_on_drain(struct network_filter *f)
{
    if (hcm_filter_of(f)->begun) hcm_on_drain(&hcm_filter_of(f)->hcm);
}

static void hcm_filter_on_close(struct network_filter *f)
{
    if (hcm_filter_of(f)->begun) hcm_on_close(&hcm_filter_of(f)->hcm);
}

static void hcm_filter_destroy(struct network_filter *f)
{
    if (hcm_filter_of(f)->begun) hcm_release(&hcm_filter_of(f)->hcm);
}

const struct network_filter_type http_connection_manager = {
    .ext =
        {.name = "envoy.filters.network.http_connection_manager",
         .config =
             &envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__descriptor},
    .instance_size = sizeof(struct hcm_filter),
    .terminal = true,
    .conf_create = hcm_filter_conf,
    .on_new = hcm_filter_on_new,
    .on_read = hcm_filter_on_read,
    .on_watermark = hcm_filter_on_watermark,
    .on_drain = hcm_filter_on_drain,
    .on_close = hcm_filter_on_close,
    .destroy = hcm_filter_destroy,
};
