/* The subscription machine: wanted names, what is due, and the life of a response. */
#include "xds/mux.h"

#include "base/arena.h"
#include "base/must.h"
#include "xds/mux_internal.h"

void mux_keep(struct str *to, struct str s)
{
    char *copy = NULL;
    if (s.len && s.len == to->len) { /* versions change often and keep their length */
        memmove((char *)(uintptr_t)to->ptr, s.ptr, s.len);
        return;
    }
    if (s.len) {
        copy = mem_alloc(s.len);
        memcpy(copy, s.ptr, s.len);
    }
    mem_free((char *)(uintptr_t)to->ptr);
    *to = (struct str){copy, s.len};
}

struct mux *mux_new(enum mux_variant v, const struct Envoy__Config__Core__V3__Node *node,
                    bool first_only, const struct mux_events *events, void *arg)
{
    struct mux *m = mem_alloc(sizeof *m);
    m->variant = v;
    m->node = node;
    m->node_first_only = first_only;
    m->events = events;
    m->arg = arg;
    list_init(&m->types);
    list_init(&m->answers);
    return m;
}

void mux_name_free(struct mux_name *n)
{
    mux_keep(&n->version, STR_NONE);
    mux_keep(&n->name, STR_NONE);
    mem_free(n);
}

static void mux_answer_free(struct mux *m, struct mux_answer *answer)
{
    list_remove(&answer->link);
    list_remove(&answer->in_order);
    m->answer_count--;
    mux_keep(&answer->nonce, STR_NONE);
    mux_keep(&answer->error, STR_NONE);
    mux_keep(&answer->version, STR_NONE);
    mem_free(answer);
}

static void mux_answers_free(struct mux *m)
{
    LIST_FOREACH_SAFE (&m->answers, it, next)
        mux_answer_free(m, CONTAINER_OF(it, struct mux_answer, in_order));
}

static void mux_type_free(struct mux_type *t)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&t->names, &it, &key, &value))
        mux_name_free(value);
    map_release(&t->names);
    mux_keep(&t->version, STR_NONE);
    mux_keep(&t->nonce, STR_NONE);
    mux_keep(&t->packed, STR_NONE);
    mux_keep(&t->refusal, STR_NONE);
    list_remove(&t->link);
    mem_free(t);
}

void mux_free(struct mux **mux)
{
    struct mux *m = *mux;
    *mux = NULL;
    if (!m) return;
    mux_answers_free(m);
    LIST_FOREACH_SAFE (&m->types, it, next)
        mux_type_free(CONTAINER_OF(it, struct mux_type, link));
    mem_free(m);
}

static struct mux_type *mux_type_find(const struct mux *m, struct str type_url)
{
    LIST_FOREACH (&m->types, it) {
        struct mux_type *t = CONTAINER_OF(it, struct mux_type, link);
        if (str_eq(str_of(t->type_url), type_url)) return t;
    }
    return NULL;
}

struct mux_name *mux_name_get(struct mux_type *t, struct str name)
{
    struct mux_name *n = map_get(&t->names, name);
    if (n) return n;
    n = mem_alloc(sizeof *n);
    mux_keep(&n->name, name);
    (void)map_put(&t->names, n->name, n); /* was absent */
    return n;
}

static void mux_changed(struct mux *m, struct mux_type *t)
{
    t->changed = true;
    t->names_packed = false;
    if (m->connected) m->events->on_wanted(m->arg);
}

void mux_watch(struct mux *m, const char *type_url, struct str name)
{
    struct mux_type *t = mux_type_find(m, str_of(type_url));
    if (!t) {
        t = mem_alloc(sizeof *t);
        t->type_url = type_url;
        list_init(&t->answers);
        list_push_back(&m->types, &t->link);
    }
    if (!name.len) {
        if (t->wildcard++ == 0) mux_changed(m, t);
        return;
    }
    struct mux_name *n = mux_name_get(t, name);
    if (n->users++ > 0) return;
    /* Given up and wanted anew at once: what we had is dropped, so it must be sent again. Delta: a
     * name that is subscribed to again is sent. */
    if (n->sent && m->variant == MUX_SOTW) n->again = true;
    if (n->sent && m->variant == MUX_DELTA) n->sent = false;
    mux_changed(m, t);
}

void mux_unwatch(struct mux *m, const char *type_url, struct str name)
{
    struct mux_type *t = mux_type_find(m, str_of(type_url));
    if (!t) return;
    if (!name.len) {
        if (t->wildcard && --t->wildcard == 0) mux_changed(m, t);
        return;
    }
    struct mux_name *n = map_get(&t->names, name);
    if (!n || !n->users || --n->users > 0) return;
    if (!t->wildcard) mux_keep(&n->version, STR_NONE); /* what we had is dropped */
    n->again = false;
    /* That it is not wanted has still to be said; the request frees the name then. */
    if (!n->sent) {
        map_remove(&t->names, name);
        mux_name_free(n);
    }
    mux_changed(m, t);
}

void mux_have(struct mux *m, const char *type_url, struct str name, struct str version)
{
    struct mux_type *t = mux_type_find(m, str_of(type_url));
    if (t && m->variant == MUX_DELTA && !m->connected)
        mux_keep(&mux_name_get(t, name)->version, version);
}

void mux_connected(struct mux *m)
{
    m->connected = true;
    m->node_sent = false;
    mux_answers_free(m);
    LIST_FOREACH (&m->types, it) {
        struct mux_type *t = CONTAINER_OF(it, struct mux_type, link);
        t->begun = false;
        t->changed = true;
        mux_keep(&t->nonce, STR_NONE);
    }
    if (!list_empty(&m->types)) m->events->on_wanted(m->arg);
}

/* Names that only waited to be unsubscribed go with the stream. */
static void mux_forget_unwanted(struct mux_type *t)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&t->names, &it, &key, &value)) {
        struct mux_name *n = value;
        n->sent = n->again = false;
        if (n->users || t->wildcard) continue;
        map_remove(&t->names, key);
        mux_name_free(n);
    }
}

void mux_disconnected(struct mux *m)
{
    m->connected = false;
    LIST_FOREACH (&m->types, it)
        mux_forget_unwanted(CONTAINER_OF(it, struct mux_type, link));
}

static bool mux_type_wishes(const struct mux_type *t)
{
    return t->changed && (t->begun || t->wildcard || t->names.count);
}

static struct mux_type *mux_wishing(const struct mux *m)
{
    LIST_FOREACH (&m->types, it) {
        struct mux_type *t = CONTAINER_OF(it, struct mux_type, link);
        if (mux_type_wishes(t)) return t;
    }
    return NULL;
}

/* The oldest answer that may go out; a type's answers keep their order. */
static struct mux_answer *mux_answer_due(const struct mux *m, uint64_t now_us)
{
    LIST_FOREACH (&m->answers, it) {
        struct mux_answer *answer = CONTAINER_OF(it, struct mux_answer, in_order);
        if (answer->type->answers.next == &answer->link && answer->due_us <= now_us) return answer;
    }
    return NULL;
}

uint64_t mux_due_us(const struct mux *m)
{
    uint64_t due = 0;
    LIST_FOREACH (&m->answers, it) {
        const struct mux_answer *answer = CONTAINER_OF(it, struct mux_answer, in_order);
        if (!due || answer->due_us < due) due = answer->due_us;
    }
    return due;
}

bool mux_ready(const struct mux *m, uint64_t now_us)
{
    return m->connected && (mux_answer_due(m, now_us) || mux_wishing(m));
}

bool mux_next(struct mux *m, uint64_t now_us, struct arena *a, struct str *bytes)
{
    if (!m->connected) return false;
    /* Answers go before new wishes: an update's ACK is seen before what the update made us want. */
    struct mux_answer *answer = mux_answer_due(m, now_us);
    struct mux_type *t = answer ? answer->type : mux_wishing(m);
    if (!t) return false;
    *bytes = m->variant == MUX_SOTW ? mux_sotw_request(m, t, answer, a)
                                    : mux_delta_request(m, t, answer, a);
    if (answer) mux_answer_free(m, answer);
    t->begun = true;
    /* Wishes that went out with an old nonce may be passed over: they are said again with the last
     * one. */
    if (list_empty(&t->answers)) t->changed = t->left_out;
    if (t->left_out) t->names_packed = t->left_out = false;
    m->node_sent = true;
    return true;
}

size_t mux_answers(const struct mux *m)
{
    return m->answer_count;
}

size_t mux_pending(const struct mux *m)
{
    size_t n = m->answer_count;
    LIST_FOREACH (&m->types, it) {
        const struct mux_type *t = CONTAINER_OF(it, struct mux_type, link);
        n += list_empty(&t->answers) && mux_type_wishes(t);
    }
    return n;
}

/* State of the world: many a control plane sends what was refused again at once. The same refusal
 * as before is held back a little, ever longer, so that the two do not keep each other busy. */
static uint64_t mux_hold_us(struct mux *m, struct mux_type *t, struct str error)
{
    enum { HOLD_FIRST_US = 1000, HOLD_MOST_US = 100000, DOUBLINGS_MOST = 8 };
    bool same = error.len && str_eq(error, t->refusal);
    mux_keep(&t->refusal, error);
    t->repeats = same ? t->repeats + 1 : 0;
    if (!same || m->variant == MUX_DELTA) return 0;
    uint64_t hold = (uint64_t)HOLD_FIRST_US
                    << (t->repeats < DOUBLINGS_MOST ? t->repeats : DOUBLINGS_MOST);
    return hold < HOLD_MOST_US ? hold : HOLD_MOST_US;
}

static void mux_answer(struct mux *m, struct mux_type *t, struct str nonce, struct str error,
                       uint64_t now_us)
{
    struct mux_answer *answer = mem_alloc(sizeof *answer);
    answer->type = t;
    answer->due_us = now_us + mux_hold_us(m, t, error);
    mux_keep(&answer->nonce, nonce);
    mux_keep(&answer->error, error);
    mux_keep(&answer->version, t->version);
    list_push_back(&t->answers, &answer->link);
    list_push_back(&m->answers, &answer->in_order);
    m->answer_count++;
}

/* Delta: remembers what we have now, for initial_resource_versions after a reconnect. */
static void mux_note_versions(struct mux_type *t, const struct mux_update *u)
{
    for (size_t i = 0; i < u->count; i++)
        if (u->resources[i].name.len)
            mux_keep(&mux_name_get(t, u->resources[i].name)->version, u->resources[i].version);
    for (size_t i = 0; i < u->removed_count; i++) {
        struct mux_name *n = map_get(&t->names, u->removed[i]);
        if (!n) continue;
        mux_keep(&n->version, STR_NONE);
        if (n->users || n->sent) continue;
        map_remove(&t->names, u->removed[i]);
        mux_name_free(n);
    }
}

bool mux_message(struct mux *m, uint64_t now_us, struct str bytes, struct arena *a, struct str *why)
{
    struct mux_update u = {0};
    bool ok = m->variant == MUX_SOTW ? mux_sotw_decode(bytes, a, &u, why)
                                     : mux_delta_decode(bytes, a, &u, why);
    if (!ok) return false;
    struct mux_type *t = mux_type_find(m, u.type_url);
    if (!t) return true; /* a type that nobody asked for: as Envoy, passed over without an answer */
    mux_keep(&t->nonce, u.nonce);
    struct str error = m->events->on_update(m->arg, &u, a);
    if (!error.len) {
        mux_keep(&t->version, u.version);
        if (m->variant == MUX_DELTA) mux_note_versions(t, &u);
    }
    mux_answer(m, t, u.nonce, error, now_us);
    m->events->on_wanted(m->arg);
    return true;
}
