/* The Prometheus exposition format with Envoy's families, labels and order. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/stats/render_internal.h"
#include "proxy/stats/tags.h"

/* All stats of one tag-extracted name. */
struct family {
    struct str name; /* with dots, as extracted */
    uint32_t rank;   /* by name */
};

/* One part of the output: all families of one type. */
struct exposition {
    struct stats *stats;
    const struct stats_query *query;
    const struct tag_rules *rules;
    struct sb *out;
    struct arena *arena;
    struct map by_name; /* struct family */
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

static struct family *family_of(struct exposition *x, const struct stat_item *item)
{
    extract(x, item);
    struct family *f = map_get(&x->by_name, sb_str(&x->tags.rest));
    if (f) return f;
    f = ARENA_NEW(x->arena, struct family);
    f->name = str_dup(x->arena, sb_str(&x->tags.rest));
    must(!map_put(&x->by_name, f->name, f));
    return f;
}

static int compare_families(const void *a, const void *b)
{
    return str_cmp((*(struct family *const *)a)->name, (*(struct family *const *)b)->name);
}

/* Sorts the items by family, then by name; gives back the families in order. */
static struct family **sort_by_family(struct exposition *x, struct stat_list *list)
{
    struct family **of_item = mem_array(list->count + 1, sizeof(struct family *));
    for (size_t i = 0; i < list->count; i++)
        of_item[i] = family_of(x, &list->items[i]);
    struct family **sorted = ARENA_ARRAY(x->arena, struct family *, x->by_name.count + 1);
    size_t it = 0, count = 0;
    void *value;
    while (map_next(&x->by_name, &it, NULL, &value))
        sorted[count++] = value;
    if (count) qsort(sorted, count, sizeof(sorted[0]), compare_families);
    for (size_t i = 0; i < count; i++)
        sorted[i]->rank = (uint32_t)i;
    for (size_t i = 0; i < list->count; i++)
        list->items[i].rank = of_item[i]->rank;
    mem_free(of_item);
    stat_list_sort(list);
    return sorted;
}

/* family{labels,extra} — the number follows. `extra` may be empty. */
static void add_sample_head(struct exposition *x, const char *suffix, struct str extra)
{
    sb_add(x->out, sb_str(&x->family_name));
    sb_add(x->out, str_of(suffix));
    sb_char(x->out, '{');
    sb_add(x->out, sb_str(&x->labels));
    if (x->labels.len && extra.len) sb_char(x->out, ',');
    sb_add(x->out, extra);
    sb_add(x->out, STR("} "));
}

static void add_total(struct exposition *x, const struct stat_histogram *h)
{
    add_sample_head(x, "_sum", STR_NONE);
    sb_fmt(x->out, "%.32g\n", histogram_sum(h));
    add_sample_head(x, "_count", STR_NONE);
    sb_fmt(x->out, "%lu\n", histogram_count(h));
}

static void add_buckets(struct exposition *x, const struct stat_view *v)
{
    struct sb le = {0};
    for (size_t i = 0; i <= v->bounds.count; i++) {
        bool last = i == v->bounds.count;
        sb_clear(&le);
        if (last)
            sb_add(&le, STR("le=\"+Inf\""));
        else
            sb_fmt(&le, "le=\"%.32g\"", v->bounds.v[i]);
        add_sample_head(x, "_bucket", sb_str(&le));
        sb_u64(x->out, last ? histogram_count(v->cumulative)
                            : histogram_count_to(v->cumulative, v->bounds.v[i]));
        sb_char(x->out, '\n');
    }
    sb_release(&le);
    add_total(x, v->cumulative);
}

/* Envoy: the summary is that of the last interval. */
static void add_summary(struct exposition *x, const struct stat_view *v)
{
    struct sb label = {0};
    for (size_t i = 0; i < HISTOGRAM_QUANTILES; i++) {
        sb_clear(&label);
        sb_fmt(&label, "quantile=\"%g\"", histogram_quantiles[i]);
        add_sample_head(x, "", sb_str(&label));
        double value = histogram_quantile(v->interval, histogram_quantiles[i]);
        if (value >= 0)
            sb_fmt(x->out, "%.32g\n", value);
        else
            sb_add(x->out, STR("nan\n"));
    }
    sb_release(&label);
    add_total(x, v->interval);
}

static void add_text(struct exposition *x, const struct stat_view *v)
{
    struct sb label = {0};
    sb_add(&label, STR("text_value=\""));
    add_label_value(&label, v->text);
    sb_char(&label, '"');
    add_sample_head(x, "", sb_str(&label));
    sb_add(x->out, STR("0\n"));
    sb_release(&label);
}

static void add_item(struct exposition *x, const struct stat_item *item)
{
    struct stat_view v;
    stat_view_fill(item->group, item->index, &v);
    extract(x, item);
    sb_clear(&x->labels);
    for (size_t i = 0; i < x->tags.count; i++) {
        if (i) sb_char(&x->labels, ',');
        add_sanitized(&x->labels, x->tags.v[i].name);
        sb_add(&x->labels, STR("=\""));
        add_label_value(&x->labels, x->tags.v[i].value);
        sb_char(&x->labels, '"');
    }
    if (v.type == STAT_TEXT) {
        add_text(x, &v);
    } else if (v.type != STAT_HISTOGRAM) {
        add_sample_head(x, "", STR_NONE);
        sb_u64(x->out, v.value);
        sb_char(x->out, '\n');
    } else if (x->query->buckets == STATS_SUMMARY) {
        add_summary(x, &v);
    } else {
        add_buckets(x, &v);
    }
}

static const char *type_name(const struct exposition *x, enum stat_type type)
{
    if (type == STAT_COUNTER) return "counter";
    if (type != STAT_HISTOGRAM) return "gauge";
    return x->query->buckets == STATS_SUMMARY ? "summary" : "histogram";
}

static void write_part(struct exposition *x, enum stat_type type)
{
    struct stat_list list;
    stat_list_collect(&list, x->stats, x->query, 1u << type);
    struct family **families = sort_by_family(x, &list);
    for (size_t i = 0; i < list.count; i++) {
        if (i == 0 || list.items[i].rank != list.items[i - 1].rank) {
            sb_clear(&x->family_name);
            sb_add(&x->family_name, STR("envoy_"));
            add_sanitized(&x->family_name, families[list.items[i].rank]->name);
            sb_fmt(x->out, "# TYPE %.*s %s\n", STR_ARG(sb_str(&x->family_name)),
                   type_name(x, type));
        }
        add_item(x, &list.items[i]);
    }
    stat_list_release(&list);
    map_release(&x->by_name);
    arena_reset(x->arena);
}

void stats_write_prometheus(struct stats *s, const struct stats_query *q,
                            const struct tag_rules *rules, struct sb *out)
{
    struct exposition x = {
        .stats = s, .query = q, .rules = rules, .out = out, .arena = arena_new("prometheus", 0)};
    write_part(&x, STAT_COUNTER);
    write_part(&x, STAT_GAUGE);
    if (q->text_readouts) write_part(&x, STAT_TEXT);
    write_part(&x, STAT_HISTOGRAM);
    tags_release(&x.tags);
    sb_release(&x.name);
    sb_release(&x.family_name);
    sb_release(&x.labels);
    arena_free(&x.arena);
}
