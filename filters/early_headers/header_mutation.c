/* envoy.http.early_header_mutation.header_mutation: a list of header changes. */
#include "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/early_headers.h"

static const void *mutation_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Http__EarlyHeaderMutation__HeaderMutation__V3__HeaderMutation *m =
        (const void *)msg;
    bool ok;
    const struct header_change *c =
        conf_header_mutations(at, "mutations", m->n_mutations, m->mutations, &ok);
    return ok ? c : NULL;
}

static void mutation_apply(const void *conf, struct headers *h, const struct stream_info *info)
{
    header_change_apply(conf, h, info);
}

const struct early_headers_type early_header_mutation = {
    .ext =
        {.name = "envoy.http.early_header_mutation.header_mutation",
         .config =
             &envoy__extensions__http__early_header_mutation__header_mutation__v3__header_mutation__descriptor},
    .conf_create = mutation_create,
    .mutate = mutation_apply,
};
