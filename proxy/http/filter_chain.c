/* Moves headers, data and trailers through a stream's filters: forwards on the request path,
 * backwards on the response path. A filter that does not say CONTINUE becomes the place where
 * things wait; it is never entered while it is being called. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/extension_slot.h"
#include "proxy/api/headers.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/route_ops.h"
#include "proxy/http/stream.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

enum { CHAIN_NOWHERE = -2 };

static int chain_step(enum http_dir dir)
{
    return dir == HTTP_DECODE ? 1 : -1;
}

static struct filter_slot *chain_slot(struct http_stream *s, int i)
{
    return i >= 0 && i < s->slot_count ? &s->slots[i] : NULL;
}

bool chain_stopped(const struct http_stream *s, enum http_dir dir)
{
    return s->over || (dir == HTTP_DECODE && s->decode_cut);
}

/* --- making and leaving
 * --------------------------------------------------------------------------------------------------
 */

/* Is the filter switched on for this request? The most specific level that speaks decides. */
static bool chain_enabled(struct http_stream *s, const struct http_filter_conf *c)
{
    const struct route *r = stream_route(s);
    const struct filter_override *o = r ? route_override(r, &s->choice, c->name) : NULL;
    if (!o) return !c->disabled;
    return !o->disabled;
}

/* Merges the overrides of all levels for one filter. */
static const void *chain_route_conf(struct http_stream *s, const struct http_filter_conf *c,
                                    const struct http_filter_type *type)
{
    const struct filter_override *levels[4];
    const struct route *r = stream_route(s);
    if (!r) return NULL;
    size_t n = route_overrides(r, &s->choice, c->name, levels);
    const void *merged = NULL;
    for (size_t i = 0; i < n; i++) {
        const void *inner = levels[i]->conf;
        if (!inner || levels[i]->type != &type->ext) continue;
        merged = merged && type->route_conf_merge ? type->route_conf_merge(s->arena, merged, inner)
                                                  : inner;
    }
    return merged;
}

void chain_route_confs(struct http_stream *s)
{
    for (uint16_t i = 0; i < s->slot_count; i++) {
        struct filter_slot *slot = &s->slots[i];
        if (slot->f) slot->f->route_conf = chain_route_conf(s, slot->conf, slot->f->type);
    }
}

/* Stands where a discovered configuration is missing. */
static enum http_flow missing_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h;
    (void)end;
    struct local_reply r = {
        .status = 500, .grpc_status = -1, .flags = (uint64_t)1 << RF_NFCF, .details = STR("")};
    http_filter_reply(f, &r);
    return HTTP_HOLD_ALL;
}

static const struct http_filter_type missing_filter = {.ext = {.name = "missing"},
                                                       .decode_headers = missing_decode_headers};

/* A delegate's place is that of the filter behind it. Envoy: the most specific route that has a
 * tree decides instead. */
static const struct http_filter_type *chain_undelegate(struct http_stream *s,
                                                       struct filter_slot *slot,
                                                       const struct http_filter_conf *c,
                                                       const struct http_filter_type *type,
                                                       const void **conf)
{
    if (!type->delegate) return type;
    const struct http_filter_delegate *d = *conf;
    const struct match_tree *of_route = chain_route_conf(s, c, type);
    slot->matching = true;
    slot->tree = of_route ? of_route : d->tree;
    *conf = d->conf;
    return d->type;
}

/* What the filter is for this stream: as configured, or as discovered last. */
static const struct http_filter_type *chain_resolve(struct http_stream *s, struct filter_slot *slot,
                                                    const struct http_filter_conf *c,
                                                    const void **conf)
{
    *conf = c->conf;
    if (!c->slot) return chain_undelegate(s, slot, c, c->type, conf);
    struct pin *p = worker_find(s->m->worker, TABLE_EXTENSIONS, c->slot->key, c->slot->hash);
    if (!p) return &missing_filter;
    slot->pin = pin_hold(p);
    const struct extension_conf *found = (const struct extension_conf *)(const void *)p->obj;
    *conf = found->conf;
    return chain_undelegate(s, slot, c, (const struct http_filter_type *)found->type, conf);
}

static void chain_make_one(struct http_stream *s, struct filter_slot *slot,
                           const struct http_filter_conf *c, uint16_t position)
{
    slot->conf = c;
    if (!chain_enabled(s, c)) return;
    const void *conf;
    const struct http_filter_type *type = chain_resolve(s, slot, c, &conf);
    size_t size = type->instance_size > sizeof(struct http_filter) ? type->instance_size
                                                                   : sizeof(struct http_filter);
    struct http_filter *f = arena_alloc(s->arena, size);
    f->type = type;
    f->stream = s;
    f->conf = conf;
    f->worker = s->m->worker;
    f->position = position;
    f->route_conf = chain_route_conf(s, c, type);
    slot->f = f;
    if (type->init && type->init(f) == HTTP_FILTER_SKIP) {
        if (type->destroy) type->destroy(f);
        slot->f = NULL;
    }
}

void chain_make(struct http_stream *s, const struct http_filter_chain *chain)
{
    s->slots = ARENA_ARRAY(s->arena, struct filter_slot, chain->count);
    s->chain_made = true;
    for (size_t i = 0; i < chain->count; i++) {
        s->slot_count = (uint16_t)(i + 1);
        chain_make_one(s, &s->slots[i], &chain->v[i], (uint16_t)i);
    }
}

void chain_log(struct http_stream *s)
{
    for (uint16_t i = 0; i < s->slot_count; i++) {
        struct http_filter *f = s->slots[i].f;
        if (f && f->type->log) f->type->log(f);
    }
}

void chain_destroy(struct http_stream *s)
{
    for (uint16_t i = 0; i < s->slot_count; i++) {
        struct filter_slot *slot = &s->slots[i];
        struct http_filter *f = slot->f;
        slot->f = NULL;
        if (f && f->type->destroy) f->type->destroy(f);
        if (slot->pin) pin_drop(s->m->worker, &slot->pin);
        buf_release(&slot->side[HTTP_DECODE].held);
        buf_release(&slot->side[HTTP_ENCODE].held);
    }
}

/* --- calling a filter
 * ----------------------------------------------------------------------------------------------------
 */

/* After a callback: what the filter asked for while it was inside. False: nothing more is to be
 * done in this direction. */
static bool chain_after(struct http_stream *s, struct filter_slot *slot, enum http_dir dir,
                        enum http_flow *flow)
{
    struct filter_side *side = &slot->side[dir];
    slot->in_call = false;
    s->depth--;
    if (side->resume) {
        side->resume = false;
        *flow = HTTP_CONTINUE;
    }
    if (s->reply_wanted && s->reply_by == slot && !s->over) {
        const struct local_reply *r = s->reply_wanted;
        s->reply_wanted = NULL;
        stream_reply(s, slot, r);
        return false;
    }
    return !chain_stopped(s, dir);
}

static void chain_before(struct http_stream *s, struct filter_slot *slot)
{
    slot->in_call = true;
    s->depth++;
}

/* Holds what exceeds the limit back at its source. */
static void chain_pressure(struct http_stream *s, enum http_dir dir, struct filter_side *side)
{
    if (side->paused_peer || side->held.len <= s->buffer_limit) return;
    side->paused_peer = true;
    stream_pressure(s, dir, true);
}

static void chain_relieve(struct http_stream *s, enum http_dir dir, struct filter_side *side)
{
    if (!side->paused_peer) return;
    side->paused_peer = false;
    stream_pressure(s, dir, false);
}

static void chain_hold_data(struct http_stream *s, enum http_dir dir, struct filter_side *side,
                            struct buf *data, bool end)
{
    buf_move(&side->held, data);
    side->end_wait |= end;
    chain_pressure(s, dir, side);
}

/* Asks a delegate's tree until it has spoken. Envoy: with headers and trailers. */
static void chain_match(struct http_stream *s, struct filter_slot *slot, enum http_dir dir,
                        const struct headers *trailers)
{
    if (!slot->matching) return;
    bool decode = dir == HTTP_DECODE;
    struct match_ask ask = {.worker = s->m->worker,
                            .scratch = s->m->worker->scratch,
                            .conn = s->info.conn,
                            .info = &s->info,
                            .request = s->info.req,
                            .request_trailers = decode ? trailers : NULL,
                            .response = decode ? NULL : s->info.resp,
                            .response_trailers = decode ? NULL : trailers};
    const void *action;
    enum match_result r = slot->tree ? match_tree_find(slot->tree, &ask, &action) : MATCH_FOUND;
    slot->matching = r == MATCH_WAIT;
    slot->skipped = r == MATCH_FOUND;
}

/* The filter as far as messages are concerned; NULL: they pass it by. */
static struct http_filter *chain_part(const struct filter_slot *slot)
{
    return slot->skipped ? NULL : slot->f;
}

/* --- headers
 * --------------------------------------------------------------------------------------------------------------
 */

static struct headers *chain_message(struct http_stream *s, enum http_dir dir)
{
    return dir == HTTP_DECODE ? s->info.req : s->info.resp;
}

void chain_headers(struct http_stream *s, enum http_dir dir, int from, struct headers *h, bool end)
{
    struct filter_slot *slot;
    for (int i = from; (slot = chain_slot(s, i)); i += chain_step(dir)) {
        struct filter_side *side = &slot->side[dir];
        if (chain_stopped(s, dir)) return;
        chain_match(s, slot, dir, NULL);
        struct http_filter *f = chain_part(slot);
        side->headers_passed = true;
        if (!f) continue;
        enum http_flow (*call)(struct http_filter *, struct headers *, bool) =
            dir == HTTP_DECODE ? f->type->decode_headers : f->type->encode_headers;
        if (!call) continue;
        side->headers_passed = false;
        chain_before(s, slot);
        enum http_flow flow = call(f, h, end);
        if (!chain_after(s, slot, dir, &flow)) return;
        if (bug_if(flow != HTTP_CONTINUE && flow != HTTP_HOLD && flow != HTTP_HOLD_ALL))
            flow = HTTP_CONTINUE;
        if (flow == HTTP_CONTINUE) {
            side->headers_passed = true;
            h = chain_message(s, dir);
            continue;
        }
        side->headers_wait = true;
        side->state = flow == HTTP_HOLD ? SIDE_HOLD : SIDE_HOLD_ALL;
        if (dir == HTTP_DECODE && s->metadata.len) chain_metadata(s);
        return;
    }
    if (dir == HTTP_ENCODE && !s->over) stream_send_headers(s, h, end);
}

/* Lets headers go on that waited at slot i. */
static void chain_release_headers(struct http_stream *s, enum http_dir dir, int i, bool end)
{
    struct filter_side *side = &s->slots[i].side[dir];
    if (!side->headers_wait) return;
    side->headers_wait = false;
    side->headers_passed = true;
    chain_headers(s, dir, i + chain_step(dir), chain_message(s, dir), end);
}

void chain_metadata(struct http_stream *s)
{
    struct filter_slot *slot = chain_slot(s, s->slot_count - 1);
    if (chain_stopped(s, HTTP_DECODE) || !slot || !slot->f || !slot->f->type->decode_metadata)
        return;
    if (slot->side[HTTP_DECODE].headers_wait) slot->f->type->decode_metadata(slot->f, &s->metadata);
}

void chain_1xx(struct http_stream *s, int from, struct headers *h)
{
    struct filter_slot *slot;
    for (int i = from; (slot = chain_slot(s, i)); i--) {
        struct http_filter *f = chain_part(slot);
        if (s->over) return;
        if (!f || !f->type->encode_1xx) continue;
        chain_before(s, slot);
        enum http_flow flow = f->type->encode_1xx(f, h);
        if (!chain_after(s, slot, HTTP_ENCODE, &flow) || flow != HTTP_CONTINUE) return;
    }
    if (!s->over) stream_send_1xx(s, h);
}

/* --- data
 * ------------------------------------------------------------------------------------------------------------------
 */

static void chain_overflow(struct http_stream *s, enum http_dir dir)
{
    if (dir == HTTP_DECODE)
        stream_too_large(s);
    else
        stream_response_too_large(s);
}

/* What the filter's answer to data means for slot i. True: `data` (with what was held) goes on. */
static bool chain_data_flow(struct http_stream *s, enum http_dir dir, int i, enum http_flow flow,
                            struct buf *data, bool end)
{
    struct filter_side *side = &s->slots[i].side[dir];
    if (bug_if(flow == HTTP_HOLD)) flow = HTTP_CONTINUE;
    switch (flow) {
    case HTTP_HOLD:
    case HTTP_CONTINUE:
        if (side->held.len) {
            struct buf all = {0};
            buf_move(&all, &side->held);
            buf_move(&all, data);
            buf_move(data, &all);
        }
        side->state = SIDE_OPEN;
        side->end_wait = false;
        chain_relieve(s, dir, side);
        chain_release_headers(s, dir, i, false);
        return !chain_stopped(s, dir);
    case HTTP_HOLD_ALL:
        side->state = SIDE_HOLD_ALL;
        chain_hold_data(s, dir, side, data, end);
        return false;
    case HTTP_BUFFER:
        if (side->state != SIDE_HOLD) side->state = SIDE_KEEP;
        buf_move(&side->held, data);
        side->end_wait |= end;
        if (side->held.len > s->buffer_limit) chain_overflow(s, dir);
        return false;
    case HTTP_TAKEN:
        if (side->state != SIDE_HOLD) side->state = SIDE_KEEP;
        side->end_wait |= end;
        return false;
    }
    return false;
}

/* Gives data to slot i. True: it goes on; *end may change (trailers were added). */
static bool chain_data_at(struct http_stream *s, enum http_dir dir, int i, struct buf *data,
                          bool *end)
{
    struct filter_slot *slot = &s->slots[i];
    struct filter_side *side = &slot->side[dir];
    struct http_filter *f = chain_part(slot);
    enum http_flow (*call)(struct http_filter *, struct buf *, bool) = NULL;
    if (f) call = dir == HTTP_DECODE ? f->type->decode_data : f->type->encode_data;
    if (side->state == SIDE_HOLD_ALL || (!call && side->state == SIDE_HOLD)) {
        chain_hold_data(s, dir, side, data, *end);
        return false;
    }
    if (!call) return true;
    chain_before(s, slot);
    enum http_flow flow = call(f, data, *end);
    if (!chain_after(s, slot, dir, &flow)) return false;
    if (s->add_trailers[dir]) *end = false;
    return chain_data_flow(s, dir, i, flow, data, *end);
}

/* Trailers that a filter added with its last data go on from the next one. */
static void chain_added_trailers(struct http_stream *s, enum http_dir dir, int next)
{
    struct headers *t = s->add_trailers[dir];
    s->add_trailers[dir] = NULL;
    if (t && !chain_stopped(s, dir)) chain_trailers(s, dir, next, t);
}

void chain_data(struct http_stream *s, enum http_dir dir, int from, struct buf *data, bool end)
{
    int added_from = CHAIN_NOWHERE;
    bool goes_on = true;
    for (int i = from; goes_on && chain_slot(s, i) && !chain_stopped(s, dir);
         i += chain_step(dir)) {
        bool before = end;
        goes_on = chain_data_at(s, dir, i, data, &end);
        if (before && !end) added_from = i + chain_step(dir);
    }
    if (goes_on && dir == HTTP_ENCODE && !s->over) stream_send_data(s, data, end);
    buf_release(data);
    if (added_from != CHAIN_NOWHERE) chain_added_trailers(s, dir, added_from);
}

/* --- trailers
 * --------------------------------------------------------------------------------------------------------------
 */

static void chain_release_data(struct http_stream *s, enum http_dir dir, int i, bool end)
{
    struct filter_side *side = &s->slots[i].side[dir];
    struct buf data = {0};
    chain_relieve(s, dir, side);
    if (!side->held.len && !end) return;
    buf_move(&data, &side->held);
    chain_data(s, dir, i + chain_step(dir), &data, end);
}

/* True: the trailers go on. */
static bool chain_trailers_at(struct http_stream *s, enum http_dir dir, int i, struct headers *t)
{
    struct filter_slot *slot = &s->slots[i];
    struct filter_side *side = &slot->side[dir];
    chain_match(s, slot, dir, t);
    struct http_filter *f = chain_part(slot);
    enum http_flow (*call)(struct http_filter *, struct headers *) = NULL;
    if (f) call = dir == HTTP_DECODE ? f->type->decode_trailers : f->type->encode_trailers;
    if (side->state == SIDE_HOLD_ALL || (!call && side->state != SIDE_OPEN)) {
        side->trailers = t;
        return false;
    }
    if (!call) return true;
    chain_before(s, slot);
    enum http_flow flow = call(f, t);
    if (!chain_after(s, slot, dir, &flow)) return false;
    if (flow != HTTP_CONTINUE) {
        side->trailers = t;
        side->state = SIDE_HOLD_ALL;
        return false;
    }
    side->state = SIDE_OPEN;
    chain_release_headers(s, dir, i, false);
    if (!chain_stopped(s, dir)) chain_release_data(s, dir, i, false);
    return !chain_stopped(s, dir);
}

void chain_trailers(struct http_stream *s, enum http_dir dir, int from, struct headers *t)
{
    for (int i = from; chain_slot(s, i); i += chain_step(dir)) {
        if (chain_stopped(s, dir) || !chain_trailers_at(s, dir, i, t)) return;
    }
    if (dir == HTTP_ENCODE && !s->over) stream_send_trailers(s, t);
}

/* --- resuming
 * ---------------------------------------------------------------------------------------------------------------
 */

void chain_resume(struct http_stream *s, struct filter_slot *slot, enum http_dir dir)
{
    struct filter_side *side = &slot->side[dir];
    int i = (int)(slot - s->slots);
    if (chain_stopped(s, dir)) return;
    if (slot->in_call) {
        side->resume = true;
        return;
    }
    if (side->state == SIDE_OPEN) return;
    side->state = SIDE_OPEN;
    struct headers *t = side->trailers;
    side->trailers = NULL;
    bool end = side->end_wait && !t;
    side->end_wait = false;
    chain_release_headers(s, dir, i, s->header_end[dir] && !side->held.len && !end && !t);
    if (!chain_stopped(s, dir)) chain_release_data(s, dir, i, end);
    if (t && !chain_stopped(s, dir)) chain_trailers(s, dir, i + chain_step(dir), t);
}

void chain_watermark(struct http_stream *s, enum http_dir dir, bool above)
{
    for (uint16_t i = 0; i < s->slot_count && !s->over; i++) {
        struct http_filter *f = s->slots[i].f;
        if (f && f->type->on_watermark) f->type->on_watermark(f, dir, above);
    }
}
