/* /stats in its formats, and what changes statistics. */
#include "base/arena.h"
#include "base/must.h"
#include "base/regex.h"
#include "proxy/stats/render.h"
#include "proxy/stats/stats.h"
#include "server/admin_internal.h"
#include "server/server.h"
#include "server/server_stats.h"

static bool one_of(struct str value, const char *const *words, size_t count, size_t *index)
{
    for (*index = 0; *index < count; (*index)++)
        if (str_eq(value, str_of(words[*index]))) return true;
    return false;
}

static bool query_type(struct admin_request *r, struct stats_query *q)
{
    static const char *const words[] = {"Counters", "Gauges", "Histograms", "TextReadouts", "All"};
    static const enum stat_type types[] = {STAT_COUNTER, STAT_GAUGE, STAT_HISTOGRAM, STAT_TEXT};
    struct str value = admin_param(r, "type");
    size_t index;
    if (!value.ptr) return true;
    if (!one_of(value, words, ARRAY_LEN(words), &index)) {
        admin_error(r, 400, "invalid &type= param");
        return false;
    }
    q->one_type = index < ARRAY_LEN(types);
    if (q->one_type) q->type = types[index];
    return true;
}

static bool query_buckets(struct admin_request *r, struct stats_query *q)
{
    static const char *const words[] = {"summary", "cumulative", "disjoint", "detailed"};
    static const enum stats_buckets buckets[] = {STATS_SUMMARY, STATS_CUMULATIVE, STATS_DISJOINT,
                                                 STATS_DETAILED};
    struct str value = admin_param(r, "histogram_buckets");
    size_t index;
    if (value.len == 0) return true;
    if (!one_of(value, words, ARRAY_LEN(words), &index)) {
        admin_error(
            r, 400,
            "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n");
        return false;
    }
    q->buckets = buckets[index];
    return true;
}

/* False: the answer says what is wrong. */
static bool query_read(struct admin_request *r, struct stats_query *q)
{
    static const char *const hidden[] = {"include", "only", "exclude"};
    struct str filter = admin_param(r, "filter"), value = admin_param(r, "hidden"), why;
    size_t index;
    *q = (struct stats_query){.used_only = admin_param(r, "usedonly").ptr != NULL,
                              .text_readouts = admin_param(r, "text_readouts").ptr != NULL,
                              .invert = admin_param(r, "invert_filter").ptr != NULL};
    if (value.len && !one_of(value, hidden, ARRAY_LEN(hidden), &index)) {
        admin_error(r, 400, "usage: /stats?hidden=(include|only|exclude)\n\n");
        return false;
    }
    if (filter.len) {
        q->filter = regex_new(r->arena, filter, &why);
        if (!q->filter) {
            admin_error(r, 400, "Invalid re2 regex: %.*s", STR_ARG(why));
            return false;
        }
    }
    return query_type(r, q) && query_buckets(r, q);
}

/* A page of statistics under way; lives in the request's arena. */
struct stats_page {
    struct stats_writer *writer;
    struct sb piece; /* HTML: before it is escaped */
    bool html;
};

static void stats_page_release(void *arg)
{
    struct stats_page *p = arg;
    stats_writer_free(&p->writer);
    sb_release(&p->piece);
}

static bool stats_page_more(struct admin_request *r)
{
    struct stats_page *p = r->cursor;
    if (!p->html) return stats_writer_next(p->writer, &r->out);
    sb_clear(&p->piece);
    bool more = stats_writer_next(p->writer, &p->piece);
    admin_html_escaped(&r->out, sb_str(&p->piece));
    if (!more) sb_add(&r->out, STR("</pre></body></html>\n"));
    return more;
}

static void stats_page_begin(struct admin_request *r, const struct stats_query *q,
                             enum stats_format format, bool html)
{
    struct stats_page *p = ARENA_NEW(r->arena, struct stats_page);
    if (format == STATS_PROMETHEUS &&
        (q->buckets == STATS_DISJOINT || q->buckets == STATS_DETAILED)) {
        admin_error(r, 400, "unsupported prometheus histogram bucket mode");
        return;
    }
    server_stats_show(r->server);
    if (format == STATS_JSON) r->content_type = ADMIN_JSON;
    if (html) {
        r->content_type = ADMIN_HTML;
        sb_add(
            &r->out,
            STR("<!DOCTYPE html>\n<html lang='en'>\n<head><title>Skiff stats</title></head>\n<body><pre>\n"));
    }
    p->writer = stats_writer_new(r->server->stats, q, format, r->server->tags);
    p->html = html;
    arena_on_free(r->arena, stats_page_release, p);
    r->cursor = p;
    r->more = stats_page_more;
}

void admin_page_stats(struct admin_request *r)
{
    static const char *const words[] = {"text", "json", "prometheus", "html", "active-html"};
    static const enum stats_format formats[] = {STATS_TEXT, STATS_JSON, STATS_PROMETHEUS,
                                                STATS_TEXT, STATS_TEXT};
    struct str format = admin_param(r, "format");
    struct stats_query q;
    size_t index = 0;
    if (!query_read(r, &q)) return;
    if (format.len && !one_of(format, words, ARRAY_LEN(words), &index)) {
        admin_error(r, 400, "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n");
        return;
    }
    stats_page_begin(r, &q, formats[index], index >= 3);
}

void admin_page_prometheus(struct admin_request *r)
{
    struct stats_query q;
    if (query_read(r, &q)) stats_page_begin(r, &q, STATS_PROMETHEUS, false);
}

void admin_page_reset_counters(struct admin_request *r)
{
    stats_reset_counters(r->server->stats);
    sb_add(&r->out, STR("OK\n"));
}

/* Names are looked up once, when a statistic is made: there is nothing to record. */
void admin_page_recent_lookups(struct admin_request *r)
{
    sb_add(
        &r->out,
        STR("Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n"));
}

void admin_page_recent_lookups_change(struct admin_request *r)
{
    if (str_ends(r->path, STR("/enable"))) {
        admin_error(r, 501, "lookups of statistics' names are not recorded\n");
        return;
    }
    sb_add(&r->out, STR("OK\n"));
}
