/* Bins, sums and quantiles of histograms. */
#include "proxy/stats/histogram.h"

#include <math.h>

#include "base/must.h"

const double histogram_quantiles[HISTOGRAM_QUANTILES] = {0,    0.25, 0.5,   0.75,  0.9,
                                                         0.95, 0.99, 0.995, 0.999, 1};
const double histogram_bounds[HISTOGRAM_BOUNDS] = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,     1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
};

static const double powers[HISTOGRAM_DECADES] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                                 1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                                 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};

uint32_t histogram_bin_of(uint64_t value)
{
    uint32_t decade = 1;
    if (value == 0) return 0;
    if (value < 10) return 1 + (uint32_t)(value * 10 - 10);
    while (value >= 100) {
        value /= 10;
        decade++;
    }
    return 1 + decade * HISTOGRAM_DECADE_BINS + (uint32_t)(value - 10);
}

double histogram_bin_left(uint32_t bin)
{
    if (bin == 0) return 0;
    double mantissa = (bin - 1) % HISTOGRAM_DECADE_BINS + 10;
    return mantissa / 10.0 * powers[(bin - 1) / HISTOGRAM_DECADE_BINS];
}

double histogram_bin_width(uint32_t bin)
{
    return bin == 0 ? 0 : powers[(bin - 1) / HISTOGRAM_DECADE_BINS] / 10.0;
}

void histogram_fill(struct stat_histogram *h, const uint64_t counts[HISTOGRAM_BINS])
{
    size_t need = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BINS; i++)
        need += counts[i] != 0;
    if (need > h->cap) {
        mem_free(h->bins);
        h->cap = need + need / 4;
        h->bins = mem_array(h->cap, sizeof(*h->bins));
    }
    h->used = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BINS; i++) {
        if (counts[i]) h->bins[h->used++] = (struct histogram_bin){.bin = i, .count = counts[i]};
    }
}

uint64_t histogram_count(const struct stat_histogram *h)
{
    uint64_t total = 0;
    for (size_t i = 0; h && i < h->used; i++)
        total += h->bins[i].count;
    return total;
}

double histogram_sum(const struct stat_histogram *h)
{
    double sum = 0;
    for (size_t i = 0; h && i < h->used; i++) {
        double bottom = histogram_bin_left(h->bins[i].bin);
        double width = histogram_bin_width(h->bins[i].bin);
        /* The middle that errs least either way: bottom / (bottom + top) of the width. */
        double middle = bottom > 0 ? bottom + width * (bottom / (bottom + (bottom + width))) : 0;
        sum += middle * (double)h->bins[i].count;
    }
    return sum;
}

double histogram_quantile(const struct stat_histogram *h, double q)
{
    uint64_t total = histogram_count(h);
    if (total == 0) return (double)NAN;
    double wanted = (double)total * q, lower = 0, upper = (double)h->bins[0].count;
    size_t i = 0;
    while (i + 1 < h->used && upper < wanted) {
        i++;
        lower = upper;
        upper = lower + (double)h->bins[i].count;
    }
    double left = histogram_bin_left(h->bins[i].bin);
    double width = histogram_bin_width(h->bins[i].bin);
    if (width <= 0) return left;
    /* The k-th of n values spread evenly over the bin is expected at k / (n + 1) of it. */
    double k = ceil(wanted - lower);
    if (k < 1) k = 1;
    return left + k / (double)(h->bins[i].count + 1) * width;
}

uint64_t histogram_count_to(const struct stat_histogram *h, double bound)
{
    uint64_t total = 0;
    for (size_t i = 0; h && i < h->used && histogram_bin_left(h->bins[i].bin) <= bound; i++) {
        total += h->bins[i].count;
    }
    return total;
}

void histogram_release(struct stat_histogram *h)
{
    mem_free(h->bins);
    *h = (struct stat_histogram){0};
}
