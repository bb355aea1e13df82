/* JSON and YAML into messages: the mapping, the typing of YAML scalars, errors with their places,
 * hostile texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/errors.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proto/print.h"

#define BOOTSTRAP &envoy__config__bootstrap__v3__bootstrap__descriptor
#define CLUSTER &envoy__config__cluster__v3__cluster__descriptor

static struct arena *arena;
static struct errors errors;

static int begin(void **state)
{
    (void)state;
    arena = arena_new("test", 0);
    errors = (struct errors){.arena = arena};
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static ProtobufCMessage *read_as(const ProtobufCMessageDescriptor *desc, enum json_format format,
                                 const char *text)
{
    errors.count = 0;
    return json_read(arena, desc, str_of(text), format, "f", NULL, &errors);
}

/* Reads and prints again; "" after an error. */
static const char *printed(const ProtobufCMessageDescriptor *desc, enum json_format format,
                           const char *text)
{
    static const struct print_opts compact;
    const ProtobufCMessage *m = read_as(desc, format, text);
    return m ? print_to(arena, m, &compact).ptr : "";
}

#define YAML_IS(desc, text, want) assert_string_equal(printed(desc, JSON_FORMAT_YAML, text), want)
#define JSON_IS(desc, text, want) assert_string_equal(printed(desc, JSON_FORMAT_JSON, text), want)

static void fails(const ProtobufCMessageDescriptor *desc, enum json_format format, const char *text,
                  const char *want)
{
    assert_null(read_as(desc, format, text));
    struct str got = errors_text(&errors, arena, STR_NONE);
    if (str_find(got, str_of(want)) == SIZE_MAX) print_error("%s\n  wanted: %s\n", got.ptr, want);
    assert_true(str_find(got, str_of(want)) != SIZE_MAX);
}

static void reads_both_name_styles(void **state)
{
    (void)state;
    YAML_IS(CLUSTER, "name: a\nconnectTimeout: 0.25s\nlb_policy: random\n",
            "{\"name\":\"a\",\"connect_timeout\":\"0.250s\",\"lb_policy\":\"RANDOM\"}");
    JSON_IS(CLUSTER, "{\"name\": \"a\", \"connect_timeout\": \"5s\", \"lbPolicy\": 3}",
            "{\"name\":\"a\",\"connect_timeout\":\"5s\",\"lb_policy\":\"RANDOM\"}");
    JSON_IS(CLUSTER, "{\"name\": \"a\", \"type\": \"EDS\", \"alt_stat_name\": null}",
            "{\"name\":\"a\",\"type\":\"EDS\"}");
}

static void types_plain_yaml_as_envoy_does(void **state)
{
    (void)state;
    /* Floating point and 64-bit integers stay strings in a Struct. */
    YAML_IS(
        CLUSTER,
        "metadata: {filter_metadata: {m: {a: 1.5, b: 0x10, c: yes, d: ~, e: 010, f: 5000000000, g: '1', h: No, i: yEs}}}",
        "{\"metadata\":{\"filter_metadata\":{\"m\":{\"a\":\"1.5\",\"b\":16,\"c\":true,\"d\":null,\"e\":8,\"f\":\"5000000000\","
        "\"g\":\"1\",\"h\":false,\"i\":\"yEs\"}}}}");
    /* A string field takes neither. */
    fails(CLUSTER, JSON_FORMAT_YAML, "name: n",
          "f:1:7: name: expected a string, but YAML reads n as a boolean; write \"n\" with quotes");
    fails(CLUSTER, JSON_FORMAT_YAML, "name: 0x10", "YAML reads 0x10 as a number");
    YAML_IS(CLUSTER, "name: 1.5", "{\"name\":\"1.5\"}");
    YAML_IS(CLUSTER, "per_connection_buffer_limit_bytes: 1e3",
            "{\"per_connection_buffer_limit_bytes\":1000}");
    YAML_IS(CLUSTER, "per_connection_buffer_limit_bytes: '10'",
            "{\"per_connection_buffer_limit_bytes\":10}");
    YAML_IS(CLUSTER, "per_connection_buffer_limit_bytes: {value: 3}",
            "{\"per_connection_buffer_limit_bytes\":3}");
    YAML_IS(CLUSTER, "connect_timeout: {seconds: 1}", "{\"connect_timeout\":\"1s\"}");
    YAML_IS(CLUSTER, "name: a\n---\nfoo: bar\n", "{\"name\":\"a\"}");
}

static void reads_json_given_as_yaml(void **state)
{
    (void)state;
    YAML_IS(
        CLUSTER,
        "{\"name\": \"\\ud83d\\ude00\", \"metadata\": {\"filter_metadata\": {\"m\": {\"a\": 1.5, \"b\": 2}}}}",
        "{\"name\":\"\xf0\x9f\x98\x80\",\"metadata\":{\"filter_metadata\":{\"m\":{\"a\":\"1.5\",\"b\":2}}}}");
    YAML_IS(CLUSTER, "{name: a, lb_policy: RANDOM}", "{\"name\":\"a\",\"lb_policy\":\"RANDOM\"}");
}

static void replays_anchors(void **state)
{
    (void)state;
    YAML_IS(CLUSTER, "connect_timeout: &t 3s\ncleanup_interval: *t\n",
            "{\"connect_timeout\":\"3s\",\"cleanup_interval\":\"3s\"}");
    YAML_IS(CLUSTER, "!ignore places:\n- &t 3s\n\t\t# a comment behind tabs\nconnect_timeout: *t\n",
            "{\"connect_timeout\":\"3s\"}");
    fails(CLUSTER, JSON_FORMAT_YAML, "name: *x", "unknown anchor");
    fails(CLUSTER, JSON_FORMAT_YAML, "metadata: {<<: {a: b}}", "merge keys");
}

static void takes_one_value_for_a_list(void **state)
{
    (void)state;
    YAML_IS(BOOTSTRAP, "static_resources: {clusters: {name: a}}",
            "{\"static_resources\":{\"clusters\":[{\"name\":\"a\"}]}}");
}

static void packs_any(void **state)
{
    (void)state;
    const char *text =
        "{\"name\":\"a\",\"typed_extension_protocol_options\":{\"x\":{\"@type\":\"type.googleapis.com/envoy.config.cluster.v3."
        "Cluster\",\"name\":\"b\"},\"y\":{\"@type\":\"a/google.protobuf.Duration\",\"value\":\"1s\"}}}";
    JSON_IS(CLUSTER, text, text);
    fails(CLUSTER, JSON_FORMAT_YAML,
          "typed_extension_protocol_options: {x: {'@type': a/no.such.Type}}",
          "no.such.Type is not supported");
    fails(CLUSTER, JSON_FORMAT_YAML, "typed_extension_protocol_options: {x: {name: a}}",
          "f:1:39: typed_extension_protocol_options[\"x\"]: \"@type\" is missing");
    fails(CLUSTER, JSON_FORMAT_YAML,
          "typed_extension_protocol_options: {x: {'@type': envoy.config.cluster.v3.Cluster}}",
          "@type");
    fails(
        CLUSTER, JSON_FORMAT_YAML,
        "typed_extension_protocol_options: {x: {'@type': a/envoy.config.cluster.v3.Cluster, nam: b}}",
        "typed_extension_protocol_options[\"x\"]: unknown field \"nam\"; did you mean \"name\"?");
}

static void resolves_typed_structs(void **state)
{
    (void)state;
    static const struct print_opts compact;
    const char *text =
        "typed_extension_protocol_options: {x: {'@type': a/xds.type.v3.TypedStruct, type_url: a/envoy.config.cluster.v3.Cluster, "
        "value: {name: b, connect_timeout: 1s, per_connection_buffer_limit_bytes: 7}}}";
    const Envoy__Config__Cluster__V3__Cluster *c =
        (const void *)read_as(CLUSTER, JSON_FORMAT_YAML, text);
    assert_non_null(c);
    const ProtobufCMessage *inside = proto_any_unpack(
        arena, c->typed_extension_protocol_options[0]->value, CLUSTER, NULL, NULL, &errors);
    assert_non_null(inside);
    assert_string_equal(
        print_to(arena, inside, &compact).ptr,
        "{\"name\":\"b\",\"connect_timeout\":\"1s\",\"per_connection_buffer_limit_bytes\":7}");
}

static void tells_mistakes_with_their_place(void **state)
{
    (void)state;
    fails(BOOTSTRAP, JSON_FORMAT_YAML, "node:\n  id: a\nstatic_resources:\n  clusterz: []\n",
          "f:4:3: static_resources: unknown field \"clusterz\"; did you mean \"clusters\"?");
    fails(BOOTSTRAP, JSON_FORMAT_JSON, "{\"static_resources\": {\n \"clusters\": [{\"name\": 5}]}}",
          "f:2:24: static_resources.clusters[0].name: expected a string, got the number 5");
    fails(CLUSTER, JSON_FORMAT_YAML, "hosts: []", "did you mean \"load_assignment\"?");
    fails(CLUSTER, JSON_FORMAT_YAML, "lb_policy: RANDUM", "did you mean \"RANDOM\"?");
    fails(CLUSTER, JSON_FORMAT_YAML, "type: LOGICAL-DNS", "did you mean \"LOGICAL_DNS\"?");
    fails(CLUSTER, JSON_FORMAT_YAML, "connect_timeout: 5",
          "connect_timeout: expected a duration such as \"1.5s\", got the number 5");
    fails(CLUSTER, JSON_FORMAT_YAML, "connect_timeout: 1m", "expected a duration");
    fails(CLUSTER, JSON_FORMAT_YAML, "connect_timeout: 1.0000000001s", "expected a duration");
    fails(CLUSTER, JSON_FORMAT_YAML, "type: EDS\ncluster_type: {name: x}",
          "only one of \"type\" and \"cluster_type\" may be set");
    fails(CLUSTER, JSON_FORMAT_YAML, "per_connection_buffer_limit_bytes: -1", "out of range");
    fails(CLUSTER, JSON_FORMAT_YAML, "per_connection_buffer_limit_bytes: 5000000000",
          "out of range");
    fails(CLUSTER, JSON_FORMAT_YAML, "per_connection_buffer_limit_bytes: 1.5",
          "expected an integer");
    fails(CLUSTER, JSON_FORMAT_YAML, "close_connections_on_host_health_failure: 1",
          "expected true or false");
    fails(CLUSTER, JSON_FORMAT_YAML, "circuit_breakers: 3", "expected an object");
    fails(CLUSTER, JSON_FORMAT_YAML, "health_checks: [null]", "must not be null");
    fails(CLUSTER, JSON_FORMAT_YAML, "a: b: c", "f:1:5: not valid YAML");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"a\"\n\"x\": 1}",
          "f:2:1: not valid JSON: expected ',' or '}'");
    fails(CLUSTER, JSON_FORMAT_YAML, "", "the configuration is empty");
    fails(CLUSTER, JSON_FORMAT_YAML, "name: *", "a value that begins with * is quoted");
    fails(CLUSTER, JSON_FORMAT_YAML, "@type: x", "f:1:1: not valid YAML: found character");
    fails(CLUSTER, JSON_FORMAT_YAML, "@type: x", "is quoted");
    fails(CLUSTER, JSON_FORMAT_YAML, "metadata:\n\tname: a", "YAML is indented by spaces");
    fails(CLUSTER, JSON_FORMAT_YAML, "name: a\nalt_stat_name: \"caf\xe9\"\n",
          "f:2:21: not valid YAML");
    /* Several at once. */
    fails(CLUSTER, JSON_FORMAT_YAML, "nam: x\ntyp: y\n",
          "f:2:1: unknown field \"typ\"; did you mean \"type\"?");
    assert_int_equal(errors.count, 2);
}

struct seen {
    int unknown, doubled;
};

static void note(void *user, enum proto_note_kind kind, struct str path, struct str text)
{
    struct seen *seen = user;
    (void)path;
    seen->unknown += kind == PROTO_NOTE_UNKNOWN && str_eq(text, STR("unknown field \"nam\""));
    seen->doubled += kind == PROTO_NOTE_IGNORED;
}

static void warns_of_unknown_fields_when_told(void **state)
{
    (void)state;
    struct seen seen = {0};
    const struct proto_opts opts = {.unknown = PROTO_UNKNOWN_WARN, .on_note = note, .user = &seen};
    assert_non_null(json_read(arena, CLUSTER, STR("nam: x\nname: a\nname: b\n"), JSON_FORMAT_YAML,
                              "f", &opts, &errors));
    assert_int_equal(seen.unknown, 1);
    assert_int_equal(seen.doubled, 1);
}

static void takes_the_last_of_equal_names(void **state)
{
    (void)state;
    YAML_IS(CLUSTER, "health_checks: [{no_such: field}]\nname: a\nhealth_checks: []\nname: b\n",
            "{\"name\":\"b\"}");
    YAML_IS(CLUSTER, "metadata: {filter_metadata: {m: {a: 1, b: 2, a: 3}, n: {}, m: {c: 4}}}",
            "{\"metadata\":{\"filter_metadata\":{\"m\":{\"c\":4},\"n\":{}}}}");
    struct sb many = {0};
    sb_add(&many, STR("{\"metadata\": {\"filter_metadata\": {"));
    for (int i = 0; i < 100; i++)
        sb_fmt(&many, "\"k%d\": {\"v\": %d},", i % 3, i);
    sb_add(&many, STR("}}}"));
    sb_char(&many, '\0');
    JSON_IS(
        CLUSTER, many.ptr,
        "{\"metadata\":{\"filter_metadata\":{\"k0\":{\"v\":99},\"k1\":{\"v\":97},\"k2\":{\"v\":98}}}}");
    sb_release(&many);
}

static void merges_as_protobuf(void **state)
{
    (void)state;
    static const struct print_opts compact;
    const ProtobufCMessage *under =
        read_as(BOOTSTRAP, JSON_FORMAT_YAML,
                "node: {id: a, cluster: b}\nstatic_resources: {clusters: [{name: x}]}");
    const ProtobufCMessage *over = read_as(
        BOOTSTRAP, JSON_FORMAT_YAML, "node: {id: c}\nstatic_resources: {clusters: [{name: z}]}");
    assert_string_equal(
        print_to(arena, json_merge(arena, under, over), &compact).ptr,
        "{\"node\":{\"id\":\"c\",\"cluster\":\"b\"},\"static_resources\":{\"clusters\":[{\"name\":\"x\"},{\"name\":\"z\"}]}}");
}

/* `count` times `piece` in the arena. */
static char *repeat(const char *piece, size_t count)
{
    size_t len = strlen(piece);
    char *text = arena_alloc(arena, len * count + 1);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * len, piece, len);
    return text;
}

static void survives_hostile_texts(void **state)
{
    (void)state;
    fails(CLUSTER, JSON_FORMAT_JSON, repeat("[", 100000), "nested too deeply");
    fails(CLUSTER, JSON_FORMAT_JSON, repeat("{\"a\":", 100000), "nested too deeply");
    fails(CLUSTER, JSON_FORMAT_YAML, repeat("[", 100000), "nested too deeply");
    struct sb bomb = {0};
    sb_add(&bomb, STR("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"));
    for (int i = 1; i < 12; i++) {
        sb_fmt(&bomb, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            sb_fmt(&bomb, "*a%d,", i - 1);
        sb_add(&bomb, STR("]\n"));
    }
    sb_char(&bomb, '\0');
    fails(CLUSTER, JSON_FORMAT_YAML, bomb.ptr, "aliases make the document too large");
    sb_release(&bomb);
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"\xff\"}", "invalid UTF-8");
    fails(CLUSTER, JSON_FORMAT_YAML, "name: \"\xff\"", "not valid YAML");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"a\\u0000b\"}", "must not contain NUL");
    fails(CLUSTER, JSON_FORMAT_YAML, "name: \"a\\0b\"", "must not contain NUL");
    fails(CLUSTER, JSON_FORMAT_JSON,
          "{\"metadata\": {\"filter_metadata\": {\"a\": {\"b\\u0000\": 1}}}}",
          "must not contain NUL");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"\\ud83d\"}", "surrogate");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"\\udc00\"}", "surrogate");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"\\ud83d\\u0041\"}", "surrogate");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"a\nb\"}", "control character");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"a\\", "does not end");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"a\\\"", "does not end");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"\\u00", "does not end");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"\\u00\"}", "hexadecimal");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": tru}", "expected a value");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": 01}", "leading zero");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"name\": \"a\"} x", "something follows");
    fails(CLUSTER, JSON_FORMAT_JSON, "", "ends too early");
    fails(CLUSTER, JSON_FORMAT_JSON, "{\"per_connection_buffer_limit_bytes\": 1e999}",
          "expected an integer");
    fails(CLUSTER, JSON_FORMAT_JSON,
          "{\"metadata\": {\"filter_metadata\": {\"a\": {\"b\": 1e999}}}}", "number");
    struct str nines =
        str_fmt(arena, "{\"per_connection_buffer_limit_bytes\": %s}", repeat("9", 5000));
    fails(CLUSTER, JSON_FORMAT_JSON, nines.ptr, "expected an integer");
    fails(CLUSTER, JSON_FORMAT_YAML, repeat("? ", 3000), "not valid YAML");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_both_name_styles, begin, end),
        cmocka_unit_test_setup_teardown(types_plain_yaml_as_envoy_does, begin, end),
        cmocka_unit_test_setup_teardown(reads_json_given_as_yaml, begin, end),
        cmocka_unit_test_setup_teardown(replays_anchors, begin, end),
        cmocka_unit_test_setup_teardown(takes_one_value_for_a_list, begin, end),
        cmocka_unit_test_setup_teardown(packs_any, begin, end),
        cmocka_unit_test_setup_teardown(resolves_typed_structs, begin, end),
        cmocka_unit_test_setup_teardown(tells_mistakes_with_their_place, begin, end),
        cmocka_unit_test_setup_teardown(warns_of_unknown_fields_when_told, begin, end),
        cmocka_unit_test_setup_teardown(takes_the_last_of_equal_names, begin, end),
        cmocka_unit_test_setup_teardown(merges_as_protobuf, begin, end),
        cmocka_unit_test_setup_teardown(survives_hostile_texts, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
