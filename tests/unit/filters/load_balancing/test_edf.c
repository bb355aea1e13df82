/* Distributions of the weighted choice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filters/load_balancing/edf.h"
#include "proxy/upstream/host.h"

static double weight(const void *arg, const struct host *h)
{
    (void)arg;
    return host_weight(h);
}

static void weights_are_kept(void **state)
{
    (void)state;
    static struct host h[3];
    struct host *v[] = {&h[0], &h[1], &h[2]};
    uint32_t weights[] = {1, 2, 5};
    for (int i = 0; i < 3; i++)
        atomic_init(&h[i].weight, weights[i]);
    struct lb_hosts hosts = {v, 3, true};
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct edf e = {.seed = seed};
        int counts[3] = {0};
        for (int i = 0; i < 800; i++)
            counts[edf_pick(&e, &hosts, weight, NULL) - h]++;
        assert_in_range(counts[0], 99, 101);
        assert_in_range(counts[1], 199, 201);
        assert_in_range(counts[2], 499, 501);
        edf_release(&e);
    }
}

static void equal_weights_take_turns(void **state)
{
    (void)state;
    static struct host h[4];
    struct host *v[] = {&h[0], &h[1], &h[2], &h[3]};
    for (int i = 0; i < 4; i++)
        atomic_init(&h[i].weight, 1);
    struct lb_hosts hosts = {v, 4, true};
    struct edf e = {0};
    for (int i = 0; i < 40; i++)
        assert_ptr_equal(edf_pick(&e, &hosts, weight, NULL), v[i % 4]);
    edf_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_are_kept),
                                       cmocka_unit_test(equal_weights_take_turns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
