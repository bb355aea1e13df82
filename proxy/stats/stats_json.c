/* /stats?format=json, nested as Envoy's clients know it: plain values first, all histograms in one
 * last object. */
#include <math.h>

#include "base/must.h"
#include "proxy/stats/render_internal.h"

static void add_number_or_null(struct sb *out, double x)
{
    if (isnan(x))
        sb_add(out, STR("null"));
    else
        sb_number(out, x, NUMBER_SHORTER);
}

static void add_name(struct sb *out, const struct stat_item *item)
{
    struct sb name = {0};
    stat_name_add(item->group, item->index, &name);
    sb_add(out, STR("{\"name\":\""));
    sb_json_escaped(out, sb_str(&name));
    sb_add(out, STR("\","));
    sb_release(&name);
}

static void add_quantile_values(struct sb *out, const struct stat_view *v)
{
    sb_char(out, '[');
    for (size_t i = 0; i < HISTOGRAM_QUANTILES; i++) {
        sb_add(out, i ? STR(",{\"cumulative\":") : STR("{\"cumulative\":"));
        add_number_or_null(out, histogram_quantile(v->cumulative, histogram_quantiles[i]));
        sb_add(out, STR(",\"interval\":"));
        add_number_or_null(out, histogram_quantile(v->interval, histogram_quantiles[i]));
        sb_char(out, '}');
    }
    sb_char(out, ']');
}

static void add_buckets(struct sb *out, const struct stat_view *v, bool disjoint)
{
    uint64_t interval_before = 0, cumulative_before = 0;
    sb_add(out, STR("\"buckets\":["));
    for (size_t i = 0; i < v->bounds.count; i++) {
        uint64_t interval = histogram_count_to(v->interval, v->bounds.v[i]);
        uint64_t cumulative = histogram_count_to(v->cumulative, v->bounds.v[i]);
        sb_add(out, i ? STR(",{\"upper_bound\":") : STR("{\"upper_bound\":"));
        sb_number(out, v->bounds.v[i], NUMBER_SHORTER);
        sb_fmt(out, ",\"interval\":%lu,\"cumulative\":%lu}", interval - interval_before,
               cumulative - cumulative_before);
        if (!disjoint) continue;
        interval_before = interval;
        cumulative_before = cumulative;
    }
    sb_add(out, STR("]}"));
}

static void add_bins(struct sb *out, const struct stat_histogram *h)
{
    sb_char(out, '[');
    for (size_t i = 0; h && i < h->used; i++) {
        sb_add(out, i ? STR(",{\"lower_bound\":") : STR("{\"lower_bound\":"));
        sb_number(out, histogram_bin_left(h->bins[i].bin), NUMBER_SHORTER);
        sb_add(out, STR(",\"width\":"));
        sb_number(out, histogram_bin_width(h->bins[i].bin), NUMBER_SHORTER);
        sb_fmt(out, ",\"count\":%lu}", h->bins[i].count);
    }
    sb_char(out, ']');
}

static void add_histogram(struct sb *out, const struct stat_item *item, enum stats_buckets buckets)
{
    struct stat_view v;
    stat_view_fill(item->group, item->index, &v);
    add_name(out, item);
    switch (buckets) {
    case STATS_DEFAULT:
    case STATS_SUMMARY:
        sb_add(out, STR("\"values\":"));
        add_quantile_values(out, &v);
        sb_char(out, '}');
        return;
    case STATS_CUMULATIVE:
    case STATS_DISJOINT: add_buckets(out, &v, buckets == STATS_DISJOINT); return;
    case STATS_DETAILED:
        sb_add(out, STR("\"totals\":"));
        add_bins(out, v.cumulative);
        sb_add(out, STR(",\"intervals\":"));
        add_bins(out, v.interval);
        sb_add(out, STR(",\"percentiles\":"));
        add_quantile_values(out, &v);
        sb_char(out, '}');
        return;
    }
}

static bool is_bare(enum stats_buckets buckets)
{
    return buckets == STATS_CUMULATIVE || buckets == STATS_DISJOINT;
}

/* What stands before the list of histograms. */
static void open_histograms(struct sb *out, enum stats_buckets buckets)
{
    sb_add(out, STR("{\"histograms\":"));
    if (!is_bare(buckets)) {
        bool detailed = buckets == STATS_DETAILED;
        sb_fmt(out, "{\"supported_%s\":[", detailed ? "percentiles" : "quantiles");
        for (size_t i = 0; i < HISTOGRAM_QUANTILES; i++) {
            sb_fmt(out, "%s%g", i ? "," : "", histogram_quantiles[i] * 100);
        }
        sb_fmt(out, "],\"%s\":", detailed ? "details" : "computed_quantiles");
    }
    sb_char(out, '[');
}

static void add_plain(struct sb *out, const struct stat_item *item)
{
    struct stat_view v;
    stat_view_fill(item->group, item->index, &v);
    add_name(out, item);
    sb_add(out, STR("\"value\":"));
    if (v.type != STAT_TEXT) {
        sb_u64(out, v.value);
        sb_char(out, '}');
        return;
    }
    sb_char(out, '"');
    sb_json_escaped(out, v.text);
    sb_add(out, STR("\"}"));
}

static void write_begin(struct stats_writer *w)
{
    sb_add(w->out, STR("{\"stats\":["));
}

/* Histograms are the last part. */
static void write_item(struct stats_writer *w, const struct stat_item *item)
{
    if (w->items) sb_char(w->out, ',');
    if (item->group->defs[item->index].type != STAT_HISTOGRAM) {
        add_plain(w->out, item);
        return;
    }
    if (!w->histograms) open_histograms(w->out, w->query.buckets);
    w->histograms = true;
    add_histogram(w->out, item, w->query.buckets);
}

static void write_end(struct stats_writer *w)
{
    if (w->histograms) sb_add(w->out, is_bare(w->query.buckets) ? STR("]}") : STR("]}}"));
    sb_add(w->out, STR("]}"));
}

const struct stats_form stats_form_json = {
    .parts = {1u << STAT_TEXT, 1u << STAT_COUNTER | 1u << STAT_GAUGE, 1u << STAT_HISTOGRAM},
    .begin = write_begin,
    .item = write_item,
    .end = write_end};
