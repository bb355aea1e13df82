/* Statistics of an extension. */
#include "filters/common/stats.h"

#include "base/arena.h"
#include "proxy/runtime/runtime.h"

static void stat_release(void *p)
{
    struct stat_group *g = p;
    stat_group_unref(&g);
}

struct stat_group *conf_stat_group(const struct conf_at *at, struct str prefix,
                                   const struct stat_def *defs, size_t count)
{
    if (!at->cx->rt || !at->cx->rt->stats || at->cx->validate_only) return NULL;
    struct stat_group *g = stat_group_get(at->cx->rt->stats, prefix, defs, count);
    arena_on_free(conf_arena(at), stat_release, g);
    return g;
}
