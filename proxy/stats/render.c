/* Writing statistics in steps: a form's parts one after the other, each collected and then written.
 */
#include "proxy/stats/render.h"

#include "base/must.h"
#include "proxy/stats/render_internal.h"

enum {
    STEP_ITEMS = 1024,      /* written in one step at the most */
    STEP_BYTES = 128 * 1024 /* a step ends when the piece has as many */
};

struct stats_writer *stats_writer_new(struct stats *s, const struct stats_query *q,
                                      enum stats_format format, const struct tag_rules *rules)
{
    static const struct stats_form *const forms[] = {[STATS_TEXT] = &stats_form_text,
                                                     [STATS_JSON] = &stats_form_json,
                                                     [STATS_PROMETHEUS] = &stats_form_prometheus};
    struct stats_writer *w = mem_alloc(sizeof(*w));
    w->stats = s;
    w->query = *q;
    w->form = forms[format];
    w->rules = rules;
    return w;
}

static void call(struct stats_writer *w, void (*fn)(struct stats_writer *w))
{
    if (fn) fn(w);
}

/* Writes items until the step is full. False: the part has no more. */
static bool write_items(struct stats_writer *w)
{
    struct stat_item item;
    size_t full = w->out->len + STEP_BYTES;
    for (size_t i = 0; i < STEP_ITEMS && w->out->len < full; i++) {
        if (!stat_list_take(&w->list, &item)) return false;
        w->form->item(w, &item);
        w->items++;
    }
    return true;
}

static void end_part(struct stats_writer *w)
{
    call(w, w->form->part_end);
    stat_list_release(&w->list);
    w->listing = w->taking = false;
    w->part++;
}

bool stats_writer_next(struct stats_writer *w, struct sb *out)
{
    w->out = out;
    if (!w->begun) {
        w->begun = true;
        stat_groups_take(&w->groups, w->stats);
        call(w, w->form->begin);
    }
    if (!w->form->parts[w->part]) {
        call(w, w->form->end);
        return false;
    }
    if (!w->listing) {
        w->listing = true;
        stat_list_init(&w->list, &w->groups, &w->query, w->form->parts[w->part]);
        call(w, w->form->part_begin);
    }
    if (!w->taking)
        w->taking = !stat_list_collect(&w->list);
    else if (!write_items(w))
        end_part(w);
    return true;
}

void stats_writer_free(struct stats_writer **wp)
{
    struct stats_writer *w = *wp;
    if (!w) return;
    if (w->listing) stat_list_release(&w->list);
    stat_groups_release(&w->groups);
    call(w, w->form->release);
    mem_free(w);
    *wp = NULL;
}
