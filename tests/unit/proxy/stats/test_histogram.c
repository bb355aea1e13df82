/* Histogram bins and quantiles; the quantiles were printed by Envoy 1.40 for the same bins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "proxy/stats/histogram.h"

static void assert_near(double got, double want)
{
    assert_true(fabs(got - want) < 1e-9 * (1 + fabs(want)));
}

static void bins_hold_their_values(void **state)
{
    (void)state;
    for (uint64_t v = 1; v < UINT64_MAX / 3; v = v + v / 7 + 1) {
        uint32_t bin = histogram_bin_of(v);
        assert_true(bin < HISTOGRAM_BINS);
        assert_true(histogram_bin_left(bin) <= (double)v * (1 + 1e-12));
        assert_true(histogram_bin_left(bin) + histogram_bin_width(bin) >= (double)v * (1 - 1e-12));
    }
    assert_int_equal(histogram_bin_of(0), 0);
    assert_true(histogram_bin_of(UINT64_MAX) < HISTOGRAM_BINS);
    assert_near(histogram_bin_left(histogram_bin_of(129)), 120);
    assert_near(histogram_bin_width(histogram_bin_of(129)), 10);
}

static void quantiles_are_envoys(void **state)
{
    static uint64_t counts[HISTOGRAM_BINS];
    struct stat_histogram h = {0};
    (void)state;
    assert_true(isnan(histogram_quantile(&h, 0.5)) && isnan(histogram_quantile(NULL, 0.5)));
    counts[histogram_bin_of(1)] = 10;
    histogram_fill(&h, counts);
    assert_near(histogram_quantile(&h, 0), 1.009090909090909);
    assert_near(histogram_quantile(&h, 0.25), 1.0272727272727273);
    assert_near(histogram_quantile(&h, 0.5), 1.0454545454545454);
    assert_near(histogram_quantile(&h, 1), 1.0909090909090908);
    assert_int_equal(histogram_count_to(&h, 0.5), 0);
    assert_int_equal(histogram_count_to(&h, 1), 10);
    counts[histogram_bin_of(1)] = 2;
    counts[0] = 8;
    histogram_fill(&h, counts);
    assert_near(histogram_quantile(&h, 0.75), 0);
    assert_near(histogram_quantile(&h, 0.9), 1.0333333333333334);
    assert_near(histogram_quantile(&h, 1), 1.0666666666666667);
    assert_near(histogram_sum(&h), 2.0952380952380953);
    histogram_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bins_hold_their_values),
                                       cmocka_unit_test(quantiles_are_envoys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
