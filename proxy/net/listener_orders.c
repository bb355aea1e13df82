/* Orders of main's listeners to the workers. */
#include <string.h>

#include "base/must.h"
#include "proxy/net/listener_manager_internal.h"

struct set_job {
    struct stat_group *stats;
    uint64_t workers;
    struct listener_order *orders; /* one for each worker */
};

static void set_in_worker(struct worker *w, void *arg)
{
    struct set_job *job = arg;
    worker_listener_set(w, &job->orders[w->index]);
}

static void set_done(void *arg)
{
    struct set_job *job = arg;
    stat_add(job->stats, MANAGER_CREATE_SUCCESS, job->workers);
    stat_group_unref(&job->stats);
    mem_free(job->orders);
    mem_free(job);
}

static size_t bound_used(const struct managed *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->bound_count; i++)
        n += l->bound[i] != NULL;
    return n;
}

static void order_fill(struct listener_order *o, const struct listener_manager *m,
                       const struct managed *l)
{
    struct listener_conf *c = l->conf;
    *o = (struct listener_order){
        .rt = m->rt, .conf = c, .drain_us = m->drain_us, .immediate = m->immediate};
    (void)obj_ref(&c->obj);
    (void)obj_ref(&c->base->obj);
    for (size_t i = 0; i < c->chain_count; i++)
        (void)obj_ref(&c->chains[i]->obj);
    if (c->default_chain) (void)obj_ref(&c->default_chain->obj);
    o->bound = mem_array(bound_used(l), sizeof(struct bound *));
    for (size_t i = 0; i < l->bound_count; i++) {
        if (!l->bound[i]) continue;
        l->bound[i]->holders++;
        o->bound[o->bound_count++] = l->bound[i];
    }
}

void order_set(struct listener_manager *m, const struct managed *l)
{
    struct set_job *job = mem_alloc(sizeof(*job));
    job->stats = stat_group_ref(m->stats);
    job->workers = m->rt->concurrency;
    job->orders = mem_array(m->rt->concurrency, sizeof(*job->orders));
    for (unsigned i = 0; i < m->rt->concurrency; i++)
        order_fill(&job->orders[i], m, l);
    runtime_each_worker(m->rt, set_in_worker, job, set_done);
}

struct plain_job {
    struct str name; /* heap */
    uint64_t drain_us;
    bool immediate, inbound_only;
};

static struct plain_job *plain_job_new(const struct listener_manager *m, struct str name,
                                       bool inbound_only)
{
    struct plain_job *job = mem_alloc(sizeof(*job));
    char *copy = mem_alloc(name.len + 1);
    if (name.len) memcpy(copy, name.ptr, name.len);
    job->name = str_make(copy, name.len);
    job->drain_us = m->drain_us;
    job->immediate = m->immediate;
    job->inbound_only = inbound_only;
    return job;
}

static void plain_job_done(void *arg)
{
    struct plain_job *job = arg;
    mem_free((void *)(uintptr_t)job->name.ptr);
    mem_free(job);
}

static void remove_in_worker(struct worker *w, void *arg)
{
    const struct plain_job *job = arg;
    worker_listener_remove(w, job->name, job->drain_us, job->immediate);
}

static void start_in_worker(struct worker *w, void *arg)
{
    (void)arg;
    worker_listeners_start(w);
}

static void stop_in_worker(struct worker *w, void *arg)
{
    const struct plain_job *job = arg;
    worker_listeners_stop(w, job->inbound_only);
}

static void drain_in_worker(struct worker *w, void *arg)
{
    const struct plain_job *job = arg;
    worker_listeners_drain(w, job->inbound_only, job->drain_us, job->immediate);
}

void order_remove(struct listener_manager *m, struct str name)
{
    runtime_each_worker(m->rt, remove_in_worker, plain_job_new(m, name, false), plain_job_done);
}

void order_start(struct listener_manager *m)
{
    runtime_each_worker(m->rt, start_in_worker, NULL, NULL);
}

void order_stop(struct listener_manager *m, bool inbound_only)
{
    struct plain_job *job = plain_job_new(m, STR_NONE, inbound_only);
    runtime_each_worker(m->rt, stop_in_worker, job, plain_job_done);
}

void order_drain(struct listener_manager *m, bool inbound_only)
{
    struct plain_job *job = plain_job_new(m, STR_NONE, inbound_only);
    runtime_each_worker(m->rt, drain_in_worker, job, plain_job_done);
}
