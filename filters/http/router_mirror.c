/* request_mirror_policies: a copy of the request goes to another cluster; its answer is read and
 * dropped. The copy does not depend on the stream any more once it is sent: it has its own arena
 * and ends with its own exchange or timeout. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "filters/http/router.h"
#include "proxy/api/header_change.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"

struct mirror {
    struct upstream_attempt a;
    struct arena *arena;
    struct worker *worker;
    struct headers *headers, *trailers;
    struct buf body;
    struct loop_timer timer;
    struct loop_later bury;
    uint64_t start_us;
    uint32_t status; /* 0: no answer */
    bool head_only;  /* as router.head_only */
    bool over;
};

static void mirror_bury(struct loop_later *later)
{
    struct mirror *m = CONTAINER_OF(later, struct mirror, bury);
    struct arena *a = m->arena;
    buf_release(&m->body);
    arena_free(&a);
}

static void mirror_end(struct mirror *m)
{
    if (m->over) return;
    m->over = true;
    loop_timer_stop(&m->timer);
    loop_later(m->worker->loop, &m->bury, mirror_bury);
}

static struct mirror *mirror_of(struct upstream_attempt *a)
{
    return CONTAINER_OF(a, struct mirror, a);
}

/* Envoy: a copy is counted as a request of its own that comes from inside. */
static void mirror_charge(struct mirror *m, uint32_t status)
{
    code_stat_count(upstream_code_stats(m->a.uc, UPSTREAM_CODES_ALL), status);
    code_stat_count(upstream_code_stats(m->a.uc, UPSTREAM_CODES_INTERNAL), status);
}

static void mirror_timeout(struct loop_timer *t)
{
    struct mirror *m = CONTAINER_OF(t, struct mirror, timer);
    upstream_cancel(&m->a);
    mirror_end(m);
}

static void mirror_on_ready(struct upstream_attempt *a)
{
    struct mirror *m = mirror_of(a);
    upstream_send_headers(a, m->headers, m->head_only);
    bool data = m->body.len > 0 || (!m->head_only && !m->trailers);
    if (data && !m->over) upstream_send_data(a, &m->body, !m->trailers);
    if (m->trailers && !m->over) upstream_send_trailers(a, m->trailers);
}
static void mirror_on_failure(struct upstream_attempt *a, enum upstream_failure why,
                              struct str detail)
{
    (void)why, (void)detail;
    mirror_charge(mirror_of(a), 503);
    mirror_end(mirror_of(a));
}
static void mirror_on_headers(struct upstream_attempt *a, struct headers *h, bool end)
{
    struct mirror *m = mirror_of(a);
    (void)end;
    m->status = headers_status(h);
    upstream_report(a, m->status);
    mirror_charge(m, m->status);
}
static void mirror_on_data(struct upstream_attempt *a, struct buf *data, bool end)
{
    (void)a, (void)end;
    buf_drain(data, buf_len(data));
}
static void mirror_on_trailers(struct upstream_attempt *a, struct headers *t)
{
    (void)a, (void)t;
}
static void mirror_on_reset(struct upstream_attempt *a, enum stream_reset why, struct str details)
{
    (void)why, (void)details;
    if (mirror_of(a)->status == 0) mirror_charge(mirror_of(a), 503);
    mirror_end(mirror_of(a));
}
static void mirror_on_complete(struct upstream_attempt *a)
{
    uint64_t ms = (loop_now_us(mirror_of(a)->worker->loop) - mirror_of(a)->start_us) / 1000;
    stat_record(upstream_code_stats(a->uc, UPSTREAM_CODES_ALL), CODE_STAT_TIME, ms);
    stat_record(upstream_code_stats(a->uc, UPSTREAM_CODES_INTERNAL), CODE_STAT_TIME, ms);
    mirror_end(mirror_of(a));
}
static const struct upstream_events mirror_events = {
    .on_ready = mirror_on_ready,
    .on_failure = mirror_on_failure,
    .on_headers = mirror_on_headers,
    .on_data = mirror_on_data,
    .on_trailers = mirror_on_trailers,
    .on_reset = mirror_on_reset,
    .on_complete = mirror_on_complete,
};

static bool mirror_wanted(const struct router *r, const struct mirror_policy *p)
{
    if (!p->has_fraction && p->runtime_key.len == 0) return true;
    return runtime_fraction(r->f.worker, p->runtime_key, p->numerator,
                            p->denominator ? p->denominator : 100, r->info->random);
}

/* Envoy: the authority of a copy has "-shadow" behind the host name, before a port. */
static void mirror_host(struct mirror *m, const struct mirror_policy *p)
{
    struct str host = headers_get(m->headers, HDR_AUTHORITY), name, port;
    if (p->host_rewrite.len > 0) {
        headers_set_id(m->headers, HDR_AUTHORITY, p->host_rewrite);
        return;
    }
    if (p->disable_shadow_host_suffix || !host.ptr) return;
    bool has_port = str_cut_last(host, ':', &name, &port) && str_find_char(port, ']') == SIZE_MAX;
    struct str to = has_port ? str_fmt(m->arena, "%.*s-shadow:%.*s", STR_ARG(name), STR_ARG(port))
                             : str_fmt(m->arena, "%.*s-shadow", STR_ARG(host));
    headers_set_id(m->headers, HDR_AUTHORITY, to);
}

static void mirror_send(struct router *r, const struct mirror_policy *p)
{
    struct str name = p->cluster.len > 0 ? p->cluster : headers_find(r->req, p->cluster_header);
    struct upstream_cluster *uc =
        name.len > 0 ? upstream_find(r->f.worker, name, hash_str(name)) : NULL;
    if (!uc) return; /* Envoy: a missing cluster is not told to anybody */
    struct arena *a = arena_new("mirror", 0);
    struct mirror *m = ARENA_NEW(a, struct mirror);
    m->arena = a;
    m->worker = r->f.worker;
    m->start_us = loop_now_us(r->f.worker->loop);
    m->headers = headers_dup(a, r->req);
    m->head_only = r->head_only;
    if (r->trailers) m->trailers = headers_dup(a, r->trailers);
    buf_share(&m->body, &r->mirror_body);
    mirror_host(m, p);
    headers_set_id(m->headers, HDR_X_ENVOY_INTERNAL, STR("true"));
    if (r->conf->local_ip.len > 0)
        headers_append(m->headers, STR("x-forwarded-for"), str_dup(a, r->conf->local_ip), STR(","));
    header_change_apply(p->request_headers, m->headers, NULL);
    m->a.events = &mirror_events;
    m->a.arena = a;
    m->a.priority = r->priority;
    if (r->timeouts.global > 0)
        loop_timer_start(m->worker->loop, &m->timer, r->timeouts.global, mirror_timeout);
    struct lb_ask ask = {.worker = m->worker, .headers = m->headers};
    upstream_start(m->worker, uc, &m->a, &ask);
}

void router_mirror(struct router *r)
{
    for (size_t i = 0; i < r->mirror_count; i++) {
        if (!r->mirrors_off && mirror_wanted(r, &r->mirrors[i])) mirror_send(r, &r->mirrors[i]);
    }
    buf_release(&r->mirror_body);
}
