/* /stats as text. */
#include "base/must.h"
#include "proxy/stats/render_internal.h"

static void add_quantiles(struct sb *out, const struct stat_view *v)
{
    for (size_t i = 0; i < HISTOGRAM_QUANTILES; i++) {
        if (i) sb_char(out, ' ');
        sb_fmt(out, "P%g(", histogram_quantiles[i] * 100);
        sb_number(out, histogram_quantile(v->interval, histogram_quantiles[i]), NUMBER_FIXED);
        sb_char(out, ',');
        sb_number(out, histogram_quantile(v->cumulative, histogram_quantiles[i]), NUMBER_FIXED);
        sb_char(out, ')');
    }
}

/* "B5(2,9) …": interval and cumulative counts up to each bound, or (disjoint) of each bucket alone.
 */
static void add_buckets(struct sb *out, const struct stat_view *v, bool disjoint)
{
    uint64_t interval_before = 0, cumulative_before = 0;
    for (size_t i = 0; i < v->bounds.count; i++) {
        uint64_t interval = histogram_count_to(v->interval, v->bounds.v[i]);
        uint64_t cumulative = histogram_count_to(v->cumulative, v->bounds.v[i]);
        sb_fmt(out, "%sB%g(%lu,%lu)", i ? " " : "", v->bounds.v[i], interval - interval_before,
               cumulative - cumulative_before);
        if (!disjoint) continue;
        interval_before = interval;
        cumulative_before = cumulative;
    }
}

static void add_bins(struct sb *out, const char *label, const struct stat_histogram *h)
{
    sb_fmt(out, "\n  %s=", label);
    for (size_t i = 0; i < h->used; i++) {
        if (i) sb_add(out, STR(", "));
        sb_number(out, histogram_bin_left(h->bins[i].bin), NUMBER_FIXED);
        sb_char(out, ',');
        sb_number(out, histogram_bin_width(h->bins[i].bin), NUMBER_FIXED);
        sb_fmt(out, ":%lu", h->bins[i].count);
    }
}

static void add_histogram(struct sb *out, const struct stat_view *v, enum stats_buckets buckets)
{
    if (!v->used) {
        sb_add(out, STR(" No recorded values"));
        return;
    }
    switch (buckets) {
    case STATS_DEFAULT:
    case STATS_SUMMARY:
        sb_char(out, ' ');
        add_quantiles(out, v);
        return;
    case STATS_CUMULATIVE:
    case STATS_DISJOINT:
        sb_char(out, ' ');
        add_buckets(out, v, buckets == STATS_DISJOINT);
        return;
    case STATS_DETAILED:
        add_bins(out, "totals", v->cumulative);
        add_bins(out, "intervals", v->interval);
        sb_add(out, STR("\n  summary="));
        add_quantiles(out, v);
        return;
    }
}

static void add_value(struct sb *out, const struct stat_view *v, enum stats_buckets buckets)
{
    switch (v->type) {
    case STAT_TEXT: sb_fmt(out, " \"%.*s\"", STR_ARG(v->text)); return;
    case STAT_HISTOGRAM: add_histogram(out, v, buckets); return;
    case STAT_COUNTER:
    case STAT_GAUGE:
        sb_char(out, ' ');
        sb_u64(out, v->value);
        return;
    }
}

static void write_item(struct stats_writer *w, const struct stat_item *item)
{
    struct stat_view v;
    stat_view_fill(item->group, item->index, &v);
    stat_name_add(item->group, item->index, w->out);
    sb_char(w->out, ':');
    add_value(w->out, &v, w->query.buckets);
    sb_char(w->out, '\n');
}

const struct stats_form stats_form_text = {
    .parts = {1u << STAT_TEXT, 1u << STAT_COUNTER | 1u << STAT_GAUGE, 1u << STAT_HISTOGRAM},
    .item = write_item};
