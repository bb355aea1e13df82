/* Choices that wait: a policy that answers when the test says so, asked in the worker. */
#include "proxy/api/lb_policy.h"
#include "proxy/upstream/upstream_internal.h"
#include "tests/unit/proxy/upstream/help.h"

/* What the policy was asked and what came of it. Read by main after in_worker, which is in step
 * with the worker. */
struct probe {
    struct world *w;
    struct upstream_cluster *uc;
    struct choice *choice;
    enum lb_answer first, answer; /* of choice_start; of the policy later */
    unsigned asked, ended, cancelled;
    bool at_once;
    uint32_t avoided; /* how many hosts the asker does not want */
    struct lb_later *later;
    struct host *host, *chosen;
    struct lb_ask last; /* as the policy saw it, as the asker got it back */
    struct lb_ask back;
};
static struct probe *at; /* the policy has no argument of its own */

static void policy_cancel(struct lb_later *l)
{
    (void)l;
    at->cancelled++;
    at->later = NULL;
}

static enum lb_answer policy_choose(void *cursor, const void *conf, const void *table,
                                    const struct lb_hosts *hosts, const struct lb_ask *ask,
                                    struct lb_later *later, struct host **out)
{
    (void)cursor, (void)conf, (void)table;
    at->asked++;
    at->last = *ask;
    at->host = hosts->v[0];
    if (at->at_once) {
        *out = at->host;
        return LB_HOST;
    }
    later->cancel = policy_cancel;
    at->later = later;
    return LB_LATER;
}
static const struct lb_policy_type waiting_policy = {.ext = {.name = "waits"},
                                                     .choose = policy_choose};

static void on_done(void *arg, const struct lb_ask *ask, struct host *h)
{
    struct probe *p = arg;
    p->ended++;
    p->chosen = h;
    p->back = *ask;
    p->choice = NULL;
}

static bool avoid(const struct lb_ask *ask, const struct host *h)
{
    (void)ask, (void)h;
    return at->avoided && at->avoided--;
}

static void start(struct worker *w, void *arg)
{
    struct probe *p = arg;
    const struct choice how = {.done = on_done, .arg = p};
    struct lb_ask ask = {.worker = w, .avoid = avoid, .tries_left = 2};
    p->uc = upstream_find(w, STR("c"), hash_str(STR("c")));
    must(p->uc);
    p->first = choice_start(p->uc, &ask, &how, &p->chosen, &p->choice);
}

static void answer_now(struct worker *w, void *arg)
{
    struct probe *p = arg;
    struct lb_later *l = p->later;
    (void)w;
    p->later = NULL;
    l->done(l, p->answer, p->answer == LB_HOST ? p->host : NULL);
}

static void cancel_now(struct worker *w, void *arg)
{
    (void)w;
    choice_cancel(&((struct probe *)arg)->choice);
}

static void answer_and_cancel(struct worker *w, void *arg)
{
    answer_now(w, arg);
    cancel_now(w, arg);
}

/* Runs fn in the worker, and the turn that it is in to its end. */
static void in_worker(struct probe *p, void (*fn)(struct worker *w, void *arg))
{
    runtime_each_worker(p->w->rt, fn, p, NULL);
    settle(p->w);
    settle(p->w);
}

static struct probe begin(void **state)
{
    struct world *w = *state;
    struct cluster *c = cluster_make(w, 1, w->server.port, 10);
    c->lb = &waiting_policy;
    (void)cluster_manager_set(w->cm, c);
    settle(w);
    return (struct probe){.w = w};
}

static void answers_at_once(void **state)
{
    struct probe p = begin(state);
    at = &p;
    p.at_once = true;
    in_worker(&p, start);
    assert_int_equal(p.first, LB_HOST);
    assert_non_null(p.chosen);
    assert_null(p.choice);
    assert_int_equal(p.ended, 0);
}

static void answers_later(void **state)
{
    struct probe p = begin(state);
    at = &p;
    in_worker(&p, start);
    assert_int_equal(p.first, LB_LATER);
    assert_non_null(p.choice);
    p.answer = LB_HOST;
    in_worker(&p, answer_now);
    assert_int_equal(p.ended, 1);
    assert_ptr_equal(p.chosen, p.host);
    in_worker(&p, start);
    p.answer = LB_NONE;
    in_worker(&p, answer_now);
    assert_int_equal(p.ended, 2);
    assert_null(p.chosen);
    assert_int_equal(p.cancelled, 0);
}

static void asks_anew_when_hosts_have_changed(void **state)
{
    struct probe p = begin(state);
    at = &p;
    in_worker(&p, start);
    p.answer = LB_AGAIN;
    in_worker(&p, answer_now);
    assert_int_equal(p.asked, 2);
    assert_int_equal(p.last.again, 1);
    assert_int_equal(p.ended, 0);
    p.at_once = true; /* the answer to the third question comes at once */
    in_worker(&p, answer_now);
    assert_int_equal(p.asked, 3);
    assert_int_equal(p.ended, 1);
    assert_ptr_equal(p.chosen, p.host);
}

/* Two hosts may be passed over, the third answer stands. */
static void passes_over_hosts(void **state)
{
    struct probe p = begin(state);
    at = &p;
    p.avoided = 5;
    p.answer = LB_HOST;
    in_worker(&p, start);
    in_worker(&p, answer_now);
    assert_int_equal(p.asked, 2);
    in_worker(&p, answer_now);
    assert_int_equal(p.asked, 3);
    assert_int_equal(p.ended, 0);
    in_worker(&p, answer_now);
    assert_int_equal(p.asked, 3);
    assert_int_equal(p.ended, 1);
    assert_ptr_equal(p.chosen, p.host);
    assert_int_equal(p.back.attempt, 2);
    assert_int_equal(p.back.tries_left, 0);
}

static void is_given_up(void **state)
{
    struct probe p = begin(state);
    at = &p;
    in_worker(&p, start);
    in_worker(&p, cancel_now);
    assert_int_equal(p.cancelled, 1);
    assert_null(p.choice);
    in_worker(&p, start);
    p.answer = LB_AGAIN; /* and before it is asked anew, at the end of the turn, it is given up */
    in_worker(&p, answer_and_cancel);
    assert_int_equal(p.asked, 2);
    assert_int_equal(p.cancelled, 1);
    assert_int_equal(p.ended, 0);
    in_worker(&p, cancel_now); /* nothing to give up */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_later, setup, teardown),
        cmocka_unit_test_setup_teardown(asks_anew_when_hosts_have_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(passes_over_hosts, setup, teardown),
        cmocka_unit_test_setup_teardown(is_given_up, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
