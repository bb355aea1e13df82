/* The subscription machine: what goes out after what came in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/proto.h"
#include "xds/mux.h"

#define CDS "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define EDS "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

struct fixture {
    struct mux *mux;
    struct arena *arena;
    const char *nack;       /* what on_update answers; NULL: ACK */
    const char *then_watch; /* an EDS name that on_update begins to watch */
    size_t updates, resources, removed;
    uint64_t now_us;
    Envoy__Config__Core__V3__Node node;
};

static struct str fixture_update(void *arg, const struct mux_update *u, struct arena *a)
{
    struct fixture *f = arg;
    (void)a;
    f->updates++;
    f->resources += u->count;
    f->removed += u->removed_count;
    if (f->then_watch) mux_watch(f->mux, EDS, str_of(f->then_watch));
    return str_of(f->nack);
}

static void fixture_wanted(void *arg)
{
    (void)arg;
}
static const struct mux_events events = {.on_update = fixture_update, .on_wanted = fixture_wanted};

static void fixture_init(struct fixture *f, enum mux_variant v)
{
    *f = (struct fixture){.arena = arena_new("test", 0)};
    envoy__config__core__v3__node__init(&f->node);
    f->node.id = (char *)(uintptr_t) "n1";
    f->mux = mux_new(v, &f->node, true, &events, f);
}

static void fixture_release(struct fixture *f)
{
    mux_free(&f->mux);
    arena_free(&f->arena);
}

typedef Envoy__Service__Discovery__V3__DiscoveryRequest request_message;
typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest delta_message;

static const void *fixture_next(struct fixture *f, const ProtobufCMessageDescriptor *desc)
{
    struct str bytes;
    if (!mux_next(f->mux, f->now_us, f->arena, &bytes)) return NULL;
    ProtobufCAllocator alloc = proto_arena_allocator(f->arena);
    return protobuf_c_message_unpack(desc, &alloc, bytes.len, (const uint8_t *)bytes.ptr);
}

static const request_message *next_sotw(struct fixture *f)
{
    return fixture_next(f, &envoy__service__discovery__v3__discovery_request__descriptor);
}

static const delta_message *next_delta(struct fixture *f)
{
    return fixture_next(f, &envoy__service__discovery__v3__delta_discovery_request__descriptor);
}

static void respond(struct fixture *f, const char *type_url, const char *version, const char *nonce,
                    size_t resources)
{
    Envoy__Service__Discovery__V3__DiscoveryResponse r =
        ENVOY__SERVICE__DISCOVERY__V3__DISCOVERY_RESPONSE__INIT;
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT, *list[4] = {&any, &any, &any, &any};
    any.type_url = (char *)(uintptr_t)type_url;
    r.type_url = (char *)(uintptr_t)type_url;
    r.version_info = (char *)(uintptr_t)version;
    r.nonce = (char *)(uintptr_t)nonce;
    r.resources = list;
    r.n_resources = resources;
    struct str why;
    assert_true(mux_message(f->mux, f->now_us, proto_pack(f->arena, &r.base), f->arena, &why));
}

static void respond_delta(struct fixture *f, const char *nonce, const char *name,
                          const char *version, const char *removed)
{
    Envoy__Service__Discovery__V3__DeltaDiscoveryResponse r =
        ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_RESPONSE__INIT;
    Envoy__Service__Discovery__V3__Resource one = ENVOY__SERVICE__DISCOVERY__V3__RESOURCE__INIT,
                                            *list[] = {&one};
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    char *gone[] = {(char *)(uintptr_t)removed};
    any.type_url = (char *)(uintptr_t)CDS;
    one.resource = &any;
    one.name = (char *)(uintptr_t)name;
    one.version = (char *)(uintptr_t)version;
    r.type_url = (char *)(uintptr_t)CDS;
    r.nonce = (char *)(uintptr_t)nonce;
    r.resources = list;
    r.n_resources = name ? 1 : 0;
    r.removed_resources = gone;
    r.n_removed_resources = removed ? 1 : 0;
    struct str why;
    assert_true(mux_message(f->mux, f->now_us, proto_pack(f->arena, &r.base), f->arena, &why));
}

static void test_first_request_carries_the_node_and_later_ones_do_not(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, CDS, STR_NONE);
    assert_null(next_sotw(&f)); /* not connected */
    mux_connected(f.mux);
    const request_message *r = next_sotw(&f);
    assert_string_equal(r->type_url, CDS);
    assert_string_equal(r->node->id, "n1");
    assert_int_equal(r->n_resource_names, 0);
    assert_string_equal(r->version_info, "");
    assert_null(next_sotw(&f));
    mux_watch(f.mux, EDS, STR("a"));
    r = next_sotw(&f);
    assert_null(r->node);
    assert_string_equal(r->resource_names[0], "a");
    fixture_release(&f);
}

static void test_a_response_is_acked_before_what_it_makes_us_want(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, CDS, STR_NONE);
    mux_connected(f.mux);
    (void)next_sotw(&f);
    f.then_watch = "svc";
    respond(&f, CDS, "v1", "n1", 2);
    assert_int_equal(f.resources, 2);
    const request_message *ack = next_sotw(&f);
    assert_string_equal(ack->type_url, CDS);
    assert_string_equal(ack->version_info, "v1");
    assert_string_equal(ack->response_nonce, "n1");
    assert_null(ack->error_detail);
    const request_message *eds = next_sotw(&f);
    assert_string_equal(eds->type_url, EDS);
    assert_string_equal(eds->resource_names[0], "svc");
    assert_null(next_sotw(&f));
    fixture_release(&f);
}

static void test_a_nack_keeps_the_old_version_and_says_why(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, CDS, STR_NONE);
    mux_connected(f.mux);
    (void)next_sotw(&f);
    respond(&f, CDS, "v1", "n1", 1);
    (void)next_sotw(&f);
    f.nack = "Cluster \"x\": bad";
    respond(&f, CDS, "v2", "n2", 1);
    const request_message *nack = next_sotw(&f);
    assert_string_equal(nack->version_info, "v1");
    assert_string_equal(nack->response_nonce, "n2");
    assert_string_equal(nack->error_detail->message, "Cluster \"x\": bad");
    assert_int_equal(nack->error_detail->code, 13);
    fixture_release(&f);
}

static void test_a_reconnect_asks_for_all_again_with_the_version_but_no_nonce(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, CDS, STR_NONE);
    mux_watch(f.mux, EDS, STR("a"));
    mux_connected(f.mux);
    (void)next_sotw(&f);
    (void)next_sotw(&f);
    respond(&f, CDS, "v7", "n1", 1);
    (void)next_sotw(&f);
    mux_disconnected(f.mux);
    assert_null(next_sotw(&f));
    mux_connected(f.mux);
    const request_message *cds = next_sotw(&f), *eds = next_sotw(&f);
    assert_string_equal(cds->version_info, "v7");
    assert_string_equal(cds->response_nonce, "");
    assert_non_null(cds->node);
    assert_string_equal(eds->resource_names[0], "a");
    fixture_release(&f);
}

static void test_watches_are_counted(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, EDS, STR("a"));
    mux_watch(f.mux, EDS, STR("a"));
    mux_watch(f.mux, EDS, STR("b"));
    mux_connected(f.mux);
    assert_int_equal(next_sotw(&f)->n_resource_names, 2);
    mux_unwatch(f.mux, EDS, STR("a"));
    assert_null(next_sotw(&f));
    mux_unwatch(f.mux, EDS, STR("a"));
    const request_message *r = next_sotw(&f);
    assert_int_equal(r->n_resource_names, 1);
    assert_string_equal(r->resource_names[0], "b");
    fixture_release(&f);
}

static void test_an_undecodable_message_is_told(void **state)
{
    (void)state;
    struct fixture f;
    struct str why = STR_NONE;
    fixture_init(&f, MUX_SOTW);
    assert_false(mux_message(f.mux, f.now_us, STR("\x0a\xff\xff\xff"), f.arena, &why));
    assert_true(why.len > 0);
    respond(&f, "type.googleapis.com/nobody.asked", "v", "n", 0); /* passed over */
    assert_int_equal(f.updates, 0);
    fixture_release(&f);
}

static void test_delta_subscribes_unsubscribes_and_remembers_versions(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_DELTA);
    mux_watch(f.mux, CDS, STR_NONE);
    mux_watch(f.mux, EDS, STR("a"));
    mux_connected(f.mux);
    const delta_message *r = next_delta(&f);
    assert_string_equal(r->type_url, CDS);
    assert_int_equal(r->n_resource_names_subscribe, 0);
    r = next_delta(&f);
    assert_string_equal(r->resource_names_subscribe[0], "a");
    respond_delta(&f, "n1", "web", "7", NULL);
    r = next_delta(&f);
    assert_string_equal(r->response_nonce, "n1");
    assert_null(r->error_detail);
    mux_unwatch(f.mux, EDS, STR("a"));
    r = next_delta(&f);
    assert_int_equal(r->n_resource_names_unsubscribe, 1);
    assert_string_equal(r->resource_names_unsubscribe[0], "a");
    mux_disconnected(f.mux);
    mux_connected(f.mux);
    r = next_delta(&f);
    assert_int_equal(r->n_initial_resource_versions, 1);
    assert_string_equal(r->initial_resource_versions[0]->key, "web");
    assert_string_equal(r->initial_resource_versions[0]->value, "7");
    fixture_release(&f);
}

static void test_delta_forgets_what_was_removed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_DELTA);
    mux_watch(f.mux, CDS, STR_NONE);
    mux_connected(f.mux);
    (void)next_delta(&f);
    respond_delta(&f, "n1", "web", "7", NULL);
    (void)next_delta(&f);
    respond_delta(&f, "n2", NULL, NULL, "web");
    (void)next_delta(&f);
    assert_int_equal(f.removed, 1);
    mux_disconnected(f.mux);
    mux_connected(f.mux);
    assert_int_equal(next_delta(&f)->n_initial_resource_versions, 0);
    fixture_release(&f);
}

/* All of a kind beside names is "*"; virtual hosts have no such name. */
static void test_delta_says_star_beside_names_but_not_for_virtual_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        size_t names;
    } rows[] = {{CDS, 2}, {"type.googleapis.com/envoy.config.route.v3.VirtualHost", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f;
        fixture_init(&f, MUX_DELTA);
        mux_watch(f.mux, rows[i].url, STR_NONE);
        mux_watch(f.mux, rows[i].url, STR("web/a.com"));
        mux_connected(f.mux);
        const delta_message *m = next_delta(&f);
        assert_non_null(m);
        assert_int_equal(m->n_resource_names_subscribe, rows[i].names);
        assert_string_equal(m->resource_names_subscribe[0], "web/a.com");
        fixture_release(&f);
    }
}

static void test_delta_nack_carries_the_error(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_DELTA);
    mux_watch(f.mux, CDS, STR_NONE);
    mux_connected(f.mux);
    (void)next_delta(&f);
    f.nack = "no";
    respond_delta(&f, "n1", "web", "7", NULL);
    const delta_message *r = next_delta(&f);
    assert_string_equal(r->response_nonce, "n1");
    assert_string_equal(r->error_detail->message, "no");
    fixture_release(&f);
}

/* Given up and wanted anew before either was said: what we had is gone, so it must be sent again.
 */
static void test_a_name_wanted_anew_is_asked_for_anew(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, EDS, STR("a"));
    mux_watch(f.mux, EDS, STR("b"));
    mux_connected(f.mux);
    assert_int_equal(next_sotw(&f)->n_resource_names, 2);
    mux_unwatch(f.mux, EDS, STR("a"));
    mux_watch(f.mux, EDS, STR("a"));
    const request_message *r = next_sotw(&f);
    assert_int_equal(r->n_resource_names, 1);
    assert_string_equal(r->resource_names[0], "b");
    assert_int_equal(next_sotw(&f)->n_resource_names, 2);
    assert_null(next_sotw(&f));
    fixture_release(&f);

    fixture_init(&f, MUX_DELTA);
    mux_watch(f.mux, EDS, STR("a"));
    mux_connected(f.mux);
    assert_int_equal(next_delta(&f)->n_resource_names_subscribe, 1);
    mux_unwatch(f.mux, EDS, STR("a"));
    mux_watch(f.mux, EDS, STR("a"));
    const delta_message *d = next_delta(&f);
    assert_int_equal(d->n_resource_names_subscribe, 1);
    assert_int_equal(d->n_resource_names_unsubscribe, 0);
    assert_null(next_delta(&f));
    fixture_release(&f);
}

/* Three responses before anything can be sent: three answers, each with its nonce, in order. */
static void test_each_response_has_its_own_answer(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, CDS, STR(""));
    mux_connected(f.mux);
    assert_non_null(next_sotw(&f));
    respond(&f, CDS, "1", "n1", 1);
    f.nack = "bad";
    respond(&f, CDS, "2", "n2", 1);
    f.nack = NULL;
    respond(&f, CDS, "3", "n3", 1);
    assert_int_equal(mux_answers(f.mux), 3);
    static const char *const nonces[] = {"n1", "n2", "n3"}, *const versions[] = {"1", "1", "3"};
    for (size_t i = 0; i < 3; i++) {
        const request_message *r = next_sotw(&f);
        assert_string_equal(r->response_nonce, nonces[i]);
        assert_string_equal(r->version_info, versions[i]);
        assert_int_equal(r->error_detail != NULL, i == 1);
    }
    assert_null(next_sotw(&f));
    fixture_release(&f);
}

/* The second and later refusals with the same text wait; another type's answers do not. */
static void test_the_same_refusal_again_is_held_back(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, MUX_SOTW);
    mux_watch(f.mux, CDS, STR(""));
    mux_watch(f.mux, EDS, STR("e"));
    mux_connected(f.mux);
    f.now_us = 1000000;
    assert_non_null(next_sotw(&f));
    assert_non_null(next_sotw(&f));
    f.nack = "bad";
    respond(&f, CDS, "1", "n1", 1);
    assert_string_equal(next_sotw(&f)->response_nonce, "n1");
    for (int i = 0; i < 20; i++) {
        respond(&f, CDS, "2", "n2", 1);
        assert_null(next_sotw(&f));
        f.nack = NULL;
        respond(&f, EDS, "1", "e1", 1);
        assert_string_equal(next_sotw(&f)->response_nonce, "e1");
        f.nack = "bad";
        assert_true(mux_due_us(f.mux) > f.now_us && mux_due_us(f.mux) <= f.now_us + 100000);
        f.now_us = mux_due_us(f.mux);
        assert_string_equal(next_sotw(&f)->response_nonce, "n2");
    }
    f.nack = "worse";
    respond(&f, CDS, "3", "n3", 1);
    assert_string_equal(next_sotw(&f)->response_nonce, "n3");
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_request_carries_the_node_and_later_ones_do_not),
        cmocka_unit_test(test_a_response_is_acked_before_what_it_makes_us_want),
        cmocka_unit_test(test_a_nack_keeps_the_old_version_and_says_why),
        cmocka_unit_test(test_a_reconnect_asks_for_all_again_with_the_version_but_no_nonce),
        cmocka_unit_test(test_watches_are_counted),
        cmocka_unit_test(test_an_undecodable_message_is_told),
        cmocka_unit_test(test_delta_subscribes_unsubscribes_and_remembers_versions),
        cmocka_unit_test(test_delta_forgets_what_was_removed),
        cmocka_unit_test(test_delta_says_star_beside_names_but_not_for_virtual_hosts),
        cmocka_unit_test(test_delta_nack_carries_the_error),
        cmocka_unit_test(test_a_name_wanted_anew_is_asked_for_anew),
        cmocka_unit_test(test_each_response_has_its_own_answer),
        cmocka_unit_test(test_the_same_refusal_again_is_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
