/* The Prometheus exposition format with Envoy's families, labels and order. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/stats/render_internal.h"
#include "proxy/stats/tags.h"

/* What this form keeps. Families are those of the part at hand: by extracted name (with dots), each
 * with its number. */
struct exposition {
    const struct tag_rules *rules;
    struct arena *arena; /* of the names; reset with each part */
    struct map by_name;  /* number + 1 */
    struct str *families;
    size_t family_count, family_cap;
    uint32_t family; /* at hand; UINT32_MAX: none yet */
    struct tags tags;
    struct sb name, family_name, labels;
};

static void add_sanitized(struct sb *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i], lower = str_lower_char(c);
        bool plain = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_';
        sb_char(out, plain ? c : '_');
    }
}

static void add_label_value(struct sb *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\n') {
            sb_add(out, STR("\\n"));
            continue;
        }
        if (s.ptr[i] == '\\' || s.ptr[i] == '"') sb_char(out, '\\');
        sb_char(out, s.ptr[i]);
    }
}

static void extract(struct exposition *x, const struct stat_item *item)
{
    sb_clear(&x->name);
    stat_name_add(item->group, item->index, &x->name);
    tags_extract(x->rules, sb_str(&x->name), &x->tags);
}

static uint32_t family_of(void *arg, const struct stat_item *item)
{
    struct stats_writer *w = arg;
    struct exposition *x = w->exposition;
    extract(x, item);
    uintptr_t known = (uintptr_t)map_get(&x->by_name, sb_str(&x->tags.rest));
    if (known) return (uint32_t)(known - 1);
    if (x->family_count == x->family_cap) {
        size_t cap = x->family_cap ? x->family_cap * 2 : 256, bytes;
        must(size_mul(cap, sizeof(*x->families), &bytes));
        x->families = mem_realloc(x->families, bytes);
        x->family_cap = cap;
        w->list.families = x->families;
    }
    struct str name = str_dup(x->arena, sb_str(&x->tags.rest));
    x->families[x->family_count++] = name;
    must(!map_put(&x->by_name, name, (void *)x->family_count));
    return (uint32_t)(x->family_count - 1);
}

/* family{labels,extra} — the number follows. `extra` may be empty. */
static void add_sample_head(struct stats_writer *w, const char *suffix, struct str extra)
{
    const struct exposition *x = w->exposition;
    sb_add(w->out, sb_str(&x->family_name));
    sb_add(w->out, str_of(suffix));
    sb_char(w->out, '{');
    sb_add(w->out, sb_str(&x->labels));
    if (x->labels.len && extra.len) sb_char(w->out, ',');
    sb_add(w->out, extra);
    sb_add(w->out, STR("} "));
}

static void add_total(struct stats_writer *w, const struct stat_histogram *h)
{
    add_sample_head(w, "_sum", STR_NONE);
    sb_fmt(w->out, "%.32g\n", histogram_sum(h));
    add_sample_head(w, "_count", STR_NONE);
    sb_fmt(w->out, "%lu\n", histogram_count(h));
}

static void add_buckets(struct stats_writer *w, const struct stat_view *v)
{
    struct sb le = {0};
    for (size_t i = 0; i <= v->bounds.count; i++) {
        bool last = i == v->bounds.count;
        sb_clear(&le);
        if (last)
            sb_add(&le, STR("le=\"+Inf\""));
        else
            sb_fmt(&le, "le=\"%.32g\"", v->bounds.v[i]);
        add_sample_head(w, "_bucket", sb_str(&le));
        sb_u64(w->out, last ? histogram_count(v->cumulative)
                            : histogram_count_to(v->cumulative, v->bounds.v[i]));
        sb_char(w->out, '\n');
    }
    sb_release(&le);
    add_total(w, v->cumulative);
}

/* Envoy: the summary is that of the last interval. */
static void add_summary(struct stats_writer *w, const struct stat_view *v)
{
    struct sb label = {0};
    for (size_t i = 0; i < HISTOGRAM_QUANTILES; i++) {
        sb_clear(&label);
        sb_fmt(&label, "quantile=\"%g\"", histogram_quantiles[i]);
        add_sample_head(w, "", sb_str(&label));
        double value = histogram_quantile(v->interval, histogram_quantiles[i]);
        if (value >= 0)
            sb_fmt(w->out, "%.32g\n", value);
        else
            sb_add(w->out, STR("nan\n"));
    }
    sb_release(&label);
    add_total(w, v->interval);
}

static void add_text(struct stats_writer *w, const struct stat_view *v)
{
    struct sb label = {0};
    sb_add(&label, STR("text_value=\""));
    add_label_value(&label, v->text);
    sb_char(&label, '"');
    add_sample_head(w, "", sb_str(&label));
    sb_add(w->out, STR("0\n"));
    sb_release(&label);
}

static void add_labels(struct exposition *x)
{
    sb_clear(&x->labels);
    for (size_t i = 0; i < x->tags.count; i++) {
        if (i) sb_char(&x->labels, ',');
        add_sanitized(&x->labels, x->tags.v[i].name);
        sb_add(&x->labels, STR("=\""));
        add_label_value(&x->labels, x->tags.v[i].value);
        sb_char(&x->labels, '"');
    }
}

static void add_value(struct stats_writer *w, const struct stat_view *v)
{
    if (v->type == STAT_TEXT) {
        add_text(w, v);
    } else if (v->type != STAT_HISTOGRAM) {
        add_sample_head(w, "", STR_NONE);
        sb_u64(w->out, v->value);
        sb_char(w->out, '\n');
    } else if (w->query.buckets == STATS_SUMMARY) {
        add_summary(w, v);
    } else {
        add_buckets(w, v);
    }
}

static const char *type_name(const struct stats_writer *w, enum stat_type type)
{
    if (type == STAT_COUNTER) return "counter";
    if (type != STAT_HISTOGRAM) return "gauge";
    return w->query.buckets == STATS_SUMMARY ? "summary" : "histogram";
}

static void begin_family(struct stats_writer *w, uint32_t family, enum stat_type type)
{
    struct exposition *x = w->exposition;
    x->family = family;
    sb_clear(&x->family_name);
    sb_add(&x->family_name, STR("envoy_"));
    add_sanitized(&x->family_name, x->families[family]);
    sb_fmt(w->out, "# TYPE %.*s %s\n", STR_ARG(sb_str(&x->family_name)), type_name(w, type));
}

static void write_item(struct stats_writer *w, const struct stat_item *item)
{
    struct exposition *x = w->exposition;
    struct stat_view v;
    stat_view_fill(item->group, item->index, &v);
    if (item->family != x->family) begin_family(w, item->family, v.type);
    extract(x, item);
    add_labels(x);
    add_value(w, &v);
}

static void write_begin(struct stats_writer *w)
{
    w->exposition = mem_alloc(sizeof(*w->exposition));
    w->exposition->rules = w->rules;
    w->exposition->arena = arena_new("prometheus", 0);
}

static void begin_part(struct stats_writer *w)
{
    w->exposition->family = UINT32_MAX;
    w->list.family_of = family_of;
    w->list.arg = w;
    if (!w->query.text_readouts) w->list.types &= ~(1u << STAT_TEXT);
    w->list.families = w->exposition->families;
}

static void end_part(struct stats_writer *w)
{
    struct exposition *x = w->exposition;
    map_release(&x->by_name);
    arena_reset(x->arena);
    x->family_count = 0;
}

static void release(struct stats_writer *w)
{
    struct exposition *x = w->exposition;
    if (!x) return;
    map_release(&x->by_name);
    mem_free(x->families);
    tags_release(&x->tags);
    sb_release(&x->name);
    sb_release(&x->family_name);
    sb_release(&x->labels);
    arena_free(&x->arena);
    mem_free(x);
}

const struct stats_form stats_form_prometheus = {
    .parts = {1u << STAT_COUNTER, 1u << STAT_GAUGE, 1u << STAT_TEXT, 1u << STAT_HISTOGRAM},
    .begin = write_begin,
    .part_begin = begin_part,
    .item = write_item,
    .part_end = end_part,
    .release = release};
