/* First bytes of a connection, shown to a listener filter in growing pieces as a socket would. The
 * first byte of the input chooses the filter and the size of the pieces. */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb-c.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb-c.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"

extern const struct listener_filter_type tls_inspector, http_inspector, proxy_protocol_listener;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessage *message_for(const struct listener_filter_type *t, struct arena *a)
{
    ProtobufCMessage *m = arena_alloc(a, t->ext.config->sizeof_message);
    t->ext.config->message_init(m);
    if (t != &proxy_protocol_listener) return m;
    Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol *p = (void *)m;
    static char key[] = "k";
    Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol__KeyValuePair *kv =
        arena_alloc(a, sizeof *kv);
    envoy__extensions__filters__listener__proxy_protocol__v3__proxy_protocol__key_value_pair__init(
        kv);
    kv->key = key;
    Envoy__Extensions__Filters__Listener__ProxyProtocol__V3__ProxyProtocol__Rule *rule =
        arena_alloc(a, sizeof *rule);
    envoy__extensions__filters__listener__proxy_protocol__v3__proxy_protocol__rule__init(rule);
    rule->tlv_type = 1;
    rule->on_tlv_present = kv;
    p->rules = ARENA_ARRAY(a, __typeof__(rule), 1);
    p->rules[0] = rule;
    p->n_rules = 1;
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct listener_filter_type *const types[] = {&tls_inspector, &http_inspector,
                                                               &proxy_protocol_listener};
    if (size == 0) return 0;
    const struct listener_filter_type *t = types[data[0] % ARRAY_LEN(types)];
    size_t step = (size_t)data[0] / ARRAY_LEN(types) * 7 + 1;
    struct arena *arena = arena_new("fuzz", 0);
    struct errors errors = {.arena = arena};
    struct conf_cx cx = {.arena = arena, .errors = &errors};
    struct conf_at at = conf_root(&cx);
    const void *conf = t->conf_create(&at, message_for(t, arena));
    must(conf != NULL);
    struct conn_info info = {0};
    struct accepting a = {.fd = -1, .info = &info, .arena = arena};
    void *self = mem_alloc(t->instance_size ? t->instance_size : 1);
    enum accept_flow flow = t->on_accept ? t->on_accept(self, conf, &a) : ACCEPT_WAIT;
    for (size_t n = 0, all = size - 1; flow == ACCEPT_WAIT && n <= all;) {
        char *peek = mem_alloc(n + 1); /* of exactly that size: reading on is seen */
        if (n) __builtin_memcpy(peek, data + 1, n);
        peek = mem_realloc(peek, n ? n : 1);
        flow = t->on_data(self, conf, &a, str_make(peek, n), n == all);
        mem_free(peek);
        if (n == all) break;
        n = n + step < all ? n + step : all;
    }
    must(flow != ACCEPT_CONTINUE || a.consume <= size - 1);
    if (t->destroy) t->destroy(self);
    mem_free(self);
    arena_free(&arena);
    return 0;
}
