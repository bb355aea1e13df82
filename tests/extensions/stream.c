/* test.stream: an HTTP filter that does to its stream what the request's headers say.
 *
 *   x-test-path    becomes the path, and the route is looked up anew
 *   x-test-note    into dynamic metadata (test, note) and filter state (test.note)
 *   x-test-length  the body is held back whole, and its length put before it
 *   x-test-wait-ms the request waits as long
 *   x-test-tail    of the answer: trailers are added after it
 *
 * Every answer tells the route's cluster in x-test-cluster. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"

struct tester {
    struct http_filter base;
    struct filter_timer timer;
    bool length, tail;
};

static struct tester *tester_of(struct http_filter *f)
{
    return CONTAINER_OF(f, struct tester, base);
}

static void tester_note(struct http_filter *f, struct str text)
{
    struct stream_info *info = http_filter_info(f);
    struct value v = {.kind = VALUE_STRING, .u.text = text};
    metadata_set(&info->dynamic, info->arena, STR("test"), STR("note"), &v);
    (void)filter_state_set_text(&info->state, info->arena, STR("test.note"), text);
}

static void tester_fire(struct http_filter *f, struct filter_timer *t)
{
    (void)t;
    http_filter_resume(f, HTTP_DECODE);
}

static enum http_flow tester_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct tester *me = tester_of(f);
    struct str path = headers_find(h, STR("x-test-path")),
               note = headers_find(h, STR("x-test-note"));
    uint64_t ms;
    me->length = headers_find(h, STR("x-test-length")).len > 0;
    me->tail = headers_find(h, STR("x-test-tail")).len > 0;
    if (note.len) tester_note(f, note);
    if (path.len) {
        (void)http_filter_route(f); /* the one that is forgotten */
        headers_set_id(h, HDR_PATH, path);
        http_filter_clear_route(f);
    }
    if (str_to_u64(headers_find(h, STR("x-test-wait-ms")), &ms)) {
        filter_timer_start(f, &me->timer, ms * 1000, tester_fire);
        return HTTP_HOLD_ALL;
    }
    return me->length && !end ? HTTP_HOLD : HTTP_CONTINUE;
}

/* The length goes before the body. */
static enum http_flow tester_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    if (!tester_of(f)->length) return HTTP_CONTINUE;
    if (!end) return HTTP_BUFFER;
    struct buf *held = http_filter_buffered(f, HTTP_DECODE);
    struct arena *a = http_filter_arena(f);
    struct str text = str_fmt(a, "%llu:", (unsigned long long)((held ? held->len : 0) + data->len));
    size_t length = (held ? held->len : 0) + data->len + text.len;
    buf_prepend(held ? held : data, text.ptr, text.len);
    headers_set_id(http_filter_info(f)->req, HDR_CONTENT_LENGTH,
                   str_fmt(a, "%llu", (unsigned long long)length));
    return HTTP_CONTINUE;
}

static enum http_flow tester_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    headers_set(h, STR("x-test-cluster"), http_filter_cluster(f));
    if (tester_of(f)->tail) headers_remove_id(h, HDR_CONTENT_LENGTH);
    return HTTP_CONTINUE;
}

static enum http_flow tester_encode_data(struct http_filter *f, struct buf *data, bool end)
{
    (void)data;
    if (end && tester_of(f)->tail)
        headers_add(http_filter_add_trailers(f, HTTP_ENCODE), STR("x-test-tail"), STR("added"));
    return HTTP_CONTINUE;
}

static void tester_destroy(struct http_filter *f)
{
    filter_timer_stop(&tester_of(f)->timer);
}

const struct http_filter_type test_stream = {
    .ext = {.name = "test.stream"},
    .instance_size = sizeof(struct tester),
    .decode_headers = tester_decode_headers,
    .decode_data = tester_decode_data,
    .encode_headers = tester_encode_headers,
    .encode_data = tester_encode_data,
    .destroy = tester_destroy,
};
