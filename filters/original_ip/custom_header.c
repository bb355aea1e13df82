/* envoy.http.original_ip_detection.custom_header: the client by one header. */
#include "base/arena.h"
#include "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.pb-c.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "proxy/api/headers.h"
#include "proxy/api/original_ip.h"

struct header_conf {
    struct str name;
    bool trusted;
    uint32_t reject; /* 0: without an address the request goes on */
};

static const void *header_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Http__OriginalIpDetection__CustomHeader__V3__CustomHeaderConfig *m =
        (const void *)msg;
    struct header_conf *c = ARENA_NEW(conf_arena(at), struct header_conf);
    c->name = str_dup_lower(conf_arena(at), str_of(m->header_name));
    c->trusted = m->allow_extension_to_set_address_as_trusted;
    /* Envoy: what is no error's status becomes 403. */
    if (m->reject_with_status)
        c->reject = m->reject_with_status->code < 400 ? 403 : (uint32_t)m->reject_with_status->code;
    return c;
}

static void header_detect(const void *conf, const struct headers *h, const struct addr *peer,
                          struct arena *scratch, struct original_ip *out)
{
    (void)peer, (void)scratch;
    const struct header_conf *c = conf;
    struct str text = headers_find(h, c->name);
    out->trusted = c->trusted;
    out->skip_xff_append = true;
    out->found = text.ptr && addr_parse_ip(text, 0, &out->address);
    if (!out->found) out->reject = c->reject;
}

const struct original_ip_type original_ip_custom_header = {
    .ext =
        {.name = "envoy.http.original_ip_detection.custom_header",
         .config =
             &envoy__extensions__http__original_ip_detection__custom_header__v3__custom_header_config__descriptor},
    .conf_create = header_create,
    .detect = header_detect,
};
