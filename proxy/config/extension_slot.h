/* Filters whose configuration is discovered: places of use, and what is put into them. Main. */
#pragma once
#include "proxy/api/extension_slot.h"

struct Envoy__Config__Core__V3__ExtensionConfigSource;
struct Google__Protobuf__Any;

/* Where a filter stands. */
struct extension_place {
    enum extension_kind kind;
    struct str name;
    bool last;
    struct str stat_prefix;                     /* HTTP */
    const struct network_filter_place *network; /* network filters; else NULL */
};
/* The slot of `config_discovery` at `at` (the filter); adds the need. It lives at least as long as
 * conf_arena(at). NULL: told. */
const struct extension_slot *translate_extension_slot(
    const struct conf_at *at, const struct Envoy__Config__Core__V3__ExtensionConfigSource *m,
    const struct extension_place *place);
/* Translates what was discovered (or the default) for a slot, in cx->arena, which it owns from then
 * on. NULL: told. */
struct extension_conf *translate_extension_conf(struct conf_cx *cx, const struct extension_slot *s,
                                                const struct Google__Protobuf__Any *config);
/* Holds the slot for as long as the arena lives. */
void extension_slot_keep(struct arena *a, struct extension_slot *s);
struct extension_slot *extension_slot_ref(struct extension_slot *s);
/* The last one takes what was published back. */
void extension_slot_unref(struct extension_slot **s);
