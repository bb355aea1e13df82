/* Secrets (SDS). */
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "xds/xds_internal.h"

static bool kind_secret_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    (void)r;
    (void)msg;
    return conf_fail(&root, "secrets over xDS are not supported");
}

static void kind_secret_remove(struct resource *r)
{
    runtime_publish(r->x->env.rt, TABLE_SECRETS, r->name, NULL);
}

static bool kind_secret_ready(struct resource *r)
{
    (void)r; /* secrets wait for nothing */
    return true;
}

static void kind_secret_missing(struct resource *r)
{
    (void)r; /* whoever needs it fails closed */
}

const struct kind_ops kind_secret = {
    .type_url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    .label = "Secret",
    .desc = &envoy__extensions__transport_sockets__tls__v3__secret__descriptor,
    .accept = kind_secret_accept,
    .remove = kind_secret_remove,
    .ready = kind_secret_ready,
    .missing = kind_secret_missing,
};
