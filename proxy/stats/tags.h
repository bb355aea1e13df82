/* Tags: parts of a stat's name that Prometheus shows as labels ("cluster.web.upstream_rq_200" has
 * envoy.cluster_name web and envoy.response_code 200). Envoy's default rules plus those of
 * stats_config.stats_tags. Main thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct arena;
struct tag_rules;

enum { TAGS_MOST = 24 };
struct tag {
    struct str name, value;
};
/* What tags_extract found. Zero-initialised is valid; reuse it, and release it in the end. */
struct tags {
    struct tag v[TAGS_MOST]; /* values borrow from the name that was given */
    size_t count;
    struct sb rest; /* the name without its tags */
};

/* The rules live in the arena. `defaults`: stats_config.use_all_default_tags (true when unset). */
struct tag_rules *tag_rules_new(struct arena *a, bool defaults);
/* stats_tags.regex: group 1 is cut from the name, group 2 (or 1) is the value. An empty regex
 * stands for the default rules of that name. False with *why (in the arena): bad regex, no default
 * of that name, or a name given twice. */
bool tag_rules_add_regex(struct tag_rules *r, struct str name, struct str regex, struct str *why);
/* stats_tags.fixed_value: on every stat, before all others. */
bool tag_rules_add_fixed(struct tag_rules *r, struct str name, struct str value, struct str *why);
/* Finds the tags of a full name, in the order in which Envoy shows them. */
void tags_extract(const struct tag_rules *r, struct str name, struct tags *out);
void tags_release(struct tags *t);
