/* connection_balance_config.exact_balance: whichever worker accepts a connection, the one with the
 * fewest of this listener's gets it. The counts are atomics beside the listener's configuration;
 * a connection is counted from the choice on, so that a burst spreads, too. */
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "proxy/net/listener_internal.h"
#include "proxy/runtime/runtime.h"

enum { CHOICES_MOST = 8 }; /* until the others' choices leave ours the smallest */

/* A connection on its way to the worker that was chosen. */
struct balance_mail {
    struct mail mail;
    struct worker *to;
    struct listener_balance *balance; /* a reference */
    int fd;
    struct addr peer, bound;
    struct str name; /* heap */
};

struct listener_balance {
    _Atomic uint32_t refs; /* the base's and each mail's */
    unsigned count;
    _Atomic uint32_t v[]; /* connections, by worker */
};

struct listener_balance *listener_balance_new(unsigned workers)
{
    struct listener_balance *b = mem_alloc(sizeof(*b) + workers * sizeof(b->v[0]));
    b->count = workers;
    atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void listener_balance_unref(void *arg)
{
    struct listener_balance *b = arg;
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) mem_free(b);
}

static uint32_t count_get(const struct listener_balance *b, unsigned worker)
{
    return atomic_load_explicit(&b->v[worker], memory_order_relaxed);
}

void balance_add(struct worker_base *b)
{
    if (!b->conf->balance) return;
    atomic_fetch_add_explicit(&b->conf->balance->v[b->worker->index], 1, memory_order_relaxed);
}

void balance_drop(struct worker_base *b)
{
    if (!b->conf->balance) return;
    atomic_fetch_sub_explicit(&b->conf->balance->v[b->worker->index], 1, memory_order_relaxed);
}

static unsigned smallest(const struct listener_balance *b, unsigned from)
{
    unsigned best = from;
    for (unsigned i = 0; i < b->count; i++) {
        if (count_get(b, i) < count_get(b, best)) best = i;
    }
    return best;
}

/* Two workers that choose at once may take the same: who then is not the smallest any more chooses
 * again. */
static unsigned choose(const struct worker_base *b)
{
    struct listener_balance *c = b->conf->balance;
    unsigned at = b->worker->index;
    for (int i = 0;; i++) {
        at = smallest(c, at);
        uint32_t before = atomic_fetch_add_explicit(&c->v[at], 1, memory_order_relaxed);
        if (i == CHOICES_MOST || before <= count_get(c, smallest(c, at))) return at;
        atomic_fetch_sub_explicit(&c->v[at], 1, memory_order_relaxed);
    }
}

/* The chosen worker (or main, when the worker has ended: only so that nothing leaks). */
static void balance_arrived(struct mail *m)
{
    struct balance_mail *b = CONTAINER_OF(m, struct balance_mail, mail);
    struct worker *w = b->to;
    struct worker_listener *l =
        worker_self() == w ? map_get(&net_worker(w)->listeners, b->name) : NULL;
    if (l && l->base && !l->stopped)
        accept_given(l, b->fd, &b->peer, &b->bound);
    else
        (void)close(b->fd);
    atomic_fetch_sub_explicit(&b->balance->v[w->index], 1, memory_order_relaxed);
    listener_balance_unref(b->balance);
    mem_free((void *)(uintptr_t)b->name.ptr);
    mem_free(b);
}

void balance_give(struct worker_listener *l, const struct bound *bound, int fd,
                  const struct addr *peer)
{
    struct worker_base *base = l->base;
    unsigned to = choose(base);
    if (to == l->worker->index) {
        base->users++; /* the listener may change meanwhile */
        accept_given(l, fd, peer, &bound->addr);
        balance_drop(base);
        worker_base_drop(&base);
        return;
    }
    struct balance_mail *b = mem_alloc(sizeof(*b));
    b->mail.deliver = balance_arrived;
    b->to = l->worker->rt->workers[to];
    b->balance = base->conf->balance;
    atomic_fetch_add_explicit(&b->balance->refs, 1, memory_order_relaxed);
    b->fd = fd;
    b->peer = *peer;
    b->bound = bound->addr;
    char *name = mem_alloc(l->name.len + 1);
    if (l->name.len) memcpy(name, l->name.ptr, l->name.len);
    b->name = str_make(name, l->name.len);
    loop_post(b->to->loop, &b->mail);
}
