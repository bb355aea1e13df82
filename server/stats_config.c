/* stats_config of the bootstrap, --stats-tag, and the flush interval. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/errors.h"
#include "filters/registry.h"
#include "proxy/api/conf_types.h"
#include "proxy/stats/stats.h"
#include "proxy/stats/tags.h"
#include "server/server.h"
#include "server/server_stats.h"

enum { FLUSH_DEFAULT_US = 5000000 };

/* stats_matcher. */
struct stats_choice {
    const struct string_matcher *v;
    size_t count;
    bool exclude, none;
};

static bool stats_wanted(void *arg, struct str name)
{
    const struct stats_choice *c = arg;
    if (c->none) return false;
    return string_match_any(c->v, c->count, name) != c->exclude;
}

static bool configure_matcher(struct server *s, const struct conf_at *at,
                              const Envoy__Config__Metrics__V3__StatsMatcher *m)
{
    struct stats_choice *c = ARENA_NEW(s->arena, struct stats_choice);
    const Envoy__Type__Matcher__V3__ListStringMatcher *list = NULL;
    const char *field = NULL;
    switch (m->stats_matcher_case) {
    case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER_REJECT_ALL:
        if (!m->reject_all) return true;
        c->none = true;
        break;
    case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER_EXCLUSION_LIST:
        list = m->exclusion_list;
        field = "exclusion_list";
        c->exclude = true;
        break;
    case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER_INCLUSION_LIST:
        list = m->inclusion_list;
        field = "inclusion_list";
        break;
    case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER__NOT_SET:
        return true; /* validation has refused it */
    }
    if (list) {
        struct conf_at below = conf_field(at, field);
        bool ok;
        c->v = conf_string_matchers(&below, "patterns", list->n_patterns, list->patterns, &ok);
        c->count = list->n_patterns;
        if (!ok) return false;
    }
    stats_set_matcher(s->stats, stats_wanted, c);
    return true;
}

/* histogram_bucket_settings: the first that matches and has buckets counts. */
struct bucket_rule {
    struct string_matcher match;
    struct stat_bounds bounds;
};
struct bucket_rules {
    struct bucket_rule *v;
    size_t count;
};

static struct stat_bounds buckets_for(void *arg, struct str name)
{
    const struct bucket_rules *r = arg;
    for (size_t i = 0; i < r->count; i++) {
        if (r->v[i].bounds.count && string_match(&r->v[i].match, name)) return r->v[i].bounds;
    }
    return (struct stat_bounds){0};
}

static int compare_bounds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool configure_buckets(struct server *s, const struct conf_at *at,
                              const Envoy__Config__Metrics__V3__StatsConfig *m)
{
    struct bucket_rules *r = ARENA_NEW(s->arena, struct bucket_rules);
    bool good = true;
    r->count = m->n_histogram_bucket_settings;
    r->v = ARENA_ARRAY(s->arena, struct bucket_rule, r->count);
    for (size_t i = 0; i < r->count; i++) {
        const Envoy__Config__Metrics__V3__HistogramBucketSettings *b =
            m->histogram_bucket_settings[i];
        struct conf_at one = conf_index(at, "histogram_bucket_settings", i);
        struct conf_at match = conf_field(&one, "match");
        good = conf_string_matcher(&match, b->match, &r->v[i].match) && good;
        if (!b->n_buckets) continue;
        double *v = arena_copy(s->arena, b->buckets, b->n_buckets * sizeof *v);
        qsort(v, b->n_buckets, sizeof *v, compare_bounds);
        r->v[i].bounds = (struct stat_bounds){v, b->n_buckets};
    }
    stats_set_bounds(s->stats, buckets_for, r);
    return good;
}

static bool configure_tag(struct server *s, const struct conf_at *at,
                          const Envoy__Config__Metrics__V3__TagSpecifier *t)
{
    struct str why, name = str_of(t->tag_name);
    bool fixed =
        t->tag_value_case == ENVOY__CONFIG__METRICS__V3__TAG_SPECIFIER__TAG_VALUE_FIXED_VALUE;
    bool good = fixed ? tag_rules_add_fixed(s->tags, name, str_of(t->fixed_value), &why)
                      : tag_rules_add_regex(s->tags, name, str_of(t->regex), &why);
    return good || conf_fail(at, "%.*s", STR_ARG(why));
}

/* --stats-tag tag:value. */
static bool configure_flags(struct server *s, struct errors *errors)
{
    for (size_t i = 0; i < s->options.stats_tag_count; i++) {
        struct str name, value, why;
        if (!str_cut(s->options.stats_tags[i], ':', &name, &value))
            continue; /* options.c has refused it */
        if (!tag_rules_add_fixed(s->tags, name, value, &why))
            return errors_add(errors, STR("--stats-tag"), "%.*s", STR_ARG(why));
    }
    return true;
}

bool server_stats_configure(struct server *s, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap *b = s->config.bootstrap;
    const Envoy__Config__Metrics__V3__StatsConfig *m = b->stats_config;
    struct conf_cx cx = {
        .arena = s->arena, .errors = errors, .registry = &filters_registry, .rt = s->rt};
    struct conf_at root = conf_root(&cx), at = conf_field(&root, "stats_config"),
                   interval = conf_field(&root, "stats_flush_interval");
    bool defaults = !m || !m->use_all_default_tags || m->use_all_default_tags->value, good = true;
    if (!conf_duration(&interval, b->stats_flush_interval, FLUSH_DEFAULT_US, &s->flush_interval_us))
        return false;
    if (b->stats_flush_case ==
        ENVOY__CONFIG__BOOTSTRAP__V3__BOOTSTRAP__STATS_FLUSH_STATS_FLUSH_ON_ADMIN)
        s->flush_interval_us = 0;
    s->tags = tag_rules_new(s->arena, defaults);
    if (!configure_flags(s, errors)) return false;
    if (!m) return true;
    for (size_t i = 0; i < m->n_stats_tags; i++) {
        struct conf_at tag = conf_index(&at, "stats_tags", i);
        good = configure_tag(s, &tag, m->stats_tags[i]) && good;
    }
    if (m->n_histogram_bucket_settings) good = configure_buckets(s, &at, m) && good;
    struct conf_at matcher = conf_field(&at, "stats_matcher");
    return (!m->stats_matcher || configure_matcher(s, &matcher, m->stats_matcher)) && good;
}
