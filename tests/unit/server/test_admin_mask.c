/* Field masks of /config_dump. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/errors.h"
#include "envoy/admin/v3/config_dump.pb-c.h"
#include "proto/json.h"
#include "proto/print.h"
#include "server/admin_internal.h"

/* Trims the YAML's message; `want` NULL: the mask does not fit. */
static void trims(const ProtobufCMessageDescriptor *desc, const char *yaml, const char *mask_text,
                  const char *want)
{
    static const struct print_opts compact;
    struct arena *a = arena_new("test", 0);
    struct errors errors = {.arena = a};
    ProtobufCMessage *m = json_read(a, desc, str_of(yaml), JSON_FORMAT_YAML, NULL, NULL, &errors);
    assert_non_null(m);
    struct admin_mask mask = admin_mask_parse(a, str_of(mask_text));
    assert_int_equal(admin_mask_trim(a, m, &mask), want != NULL);
    if (want) assert_string_equal(print_to(a, m, &compact).ptr, want);
    arena_free(&a);
}

static void keeps_only_what_is_named(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *desc = &envoy__admin__v3__bootstrap_config_dump__descriptor;
    const char *yaml =
        "{bootstrap: {node: {id: a, cluster: b}, admin: {address: {pipe: {path: x}}}}, last_updated: \"2026-01-01T00:00:00Z\"}";
    trims(desc, yaml, "bootstrap.admin",
          "{\"bootstrap\":{\"admin\":{\"address\":{\"pipe\":{\"path\":\"x\"}}}}}");
    trims(desc, yaml, "bootstrap.node.id,last_updated",
          "{\"bootstrap\":{\"node\":{\"id\":\"a\"}},\"last_updated\":\"2026-01-01T00:00:00Z\"}");
    trims(desc, yaml, "bootstrap.nothing", NULL);
    trims(desc, yaml, "bootstrap.static_resources.clusters.name", NULL);
}

static void goes_through_any(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *desc =
        &envoy__admin__v3__clusters_config_dump__static_cluster__descriptor;
    const char *yaml =
        "{cluster: {'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, connect_timeout: 1s}}";
    trims(
        desc, yaml, "cluster.name",
        "{\"cluster\":{\"@type\":\"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\"name\":\"a\"}}");
    trims(desc, yaml, "cluster.nam", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_only_what_is_named),
        cmocka_unit_test(goes_through_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
