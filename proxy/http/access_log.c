/* Runs access logs: filters first, then the loggers whose filter lets the entry pass. */
#include "proxy/http/access_log.h"

#include "base/arena.h"
#include "base/loop.h"
#include "base/rand.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/format_internal.h"
#include "proxy/runtime/values.h"

static bool compare(const struct access_filter *f, struct worker *w, uint64_t n)
{
    uint64_t value = f->runtime_key.len && w ? runtime_u64(w, f->runtime_key, f->value) : f->value;
    switch (f->op) {
    case ACCESS_EQ: return n == value;
    case ACCESS_GE: return n >= value;
    case ACCESS_LE: return n <= value;
    case ACCESS_NE: return n != value;
    }
    return false;
}

static uint64_t duration_ms(const struct stream_info *i)
{
    uint64_t end = i->end_us ? i->end_us : clock_now_us();
    return end > i->start_us ? (end - i->start_us) / 1000 : 0;
}

static bool runtime_pass(const struct access_filter *f, struct worker *w,
                         const struct stream_info *info)
{
    uint64_t random = f->independent && w ? rng_next(&w->rng) : info->random;
    if (!w) return random % f->denominator < f->numerator;
    return runtime_fraction(w, f->runtime_key, f->numerator, f->denominator, random);
}

static bool grpc_pass(const struct access_filter *f, const struct stream_info *info)
{
    uint64_t status = 2; /* unknown */
    (void)format_grpc_status(info, &status);
    bool listed = status < 64 && ((f->bits >> status) & 1);
    return listed != f->exclude;
}

static bool metadata_pass(const struct access_filter *f, const struct stream_info *info)
{
    const struct metadata_matcher *m = &f->metadata;
    if (!f->has_metadata || !metadata_find(info->dynamic, m->ns, m->path, m->path_count))
        return f->if_missing;
    return metadata_match(m, info->dynamic);
}

/* Nesting is bounded by the depth limit of configuration messages. */
static bool list_pass(const struct access_filter *f, struct worker *w,
                      const struct stream_info *info, enum access_log_type type)
{
    bool all = f->kind == ACCESS_FILTER_AND;
    for (size_t i = 0; i < f->count; i++) {
        if (access_filter_pass(&f->sub[i], w, info, type) != all) return !all;
    }
    return all;
}

bool access_filter_pass(const struct access_filter *f, struct worker *w,
                        const struct stream_info *info, enum access_log_type type)
{
    switch (f->kind) {
    case ACCESS_FILTER_STATUS: return compare(f, w, info->response_code);
    case ACCESS_FILTER_DURATION: return compare(f, w, duration_ms(info));
    case ACCESS_FILTER_NOT_HEALTH_CHECK: return !info->health_check;
    case ACCESS_FILTER_TRACEABLE: return info->traceable;
    case ACCESS_FILTER_RUNTIME: return runtime_pass(f, w, info);
    case ACCESS_FILTER_AND:
    case ACCESS_FILTER_OR: return list_pass(f, w, info, type);
    case ACCESS_FILTER_HEADER:
        if (info->req) return header_match(&f->header, info->req, w ? w->scratch : info->arena);
        return f->header.kind == HEADER_MATCH_ABSENT;
    case ACCESS_FILTER_FLAG: return f->bits ? (info->flags & f->bits) != 0 : info->flags != 0;
    case ACCESS_FILTER_GRPC: return grpc_pass(f, info);
    case ACCESS_FILTER_METADATA: return metadata_pass(f, info);
    case ACCESS_FILTER_LOG_TYPE: return (((f->bits >> type) & 1) != 0) != f->exclude;
    }
    return true;
}

void access_log_run(struct worker *w, const struct access_log_list *l,
                    const struct stream_info *info, enum access_log_type type)
{
    if (!l) return;
    for (size_t i = 0; i < l->count; i++) {
        const struct access_log_entry *e = &l->v[i];
        if (e->filter && !access_filter_pass(e->filter, w, info, type)) continue;
        e->type->log(w, e->conf, info, type);
    }
}

bool access_log_empty(const struct access_log_list *l)
{
    return !l || l->count == 0;
}
