/* Histograms with bins of two significant digits, as Envoy's (circllhist): value 0, then for each
 * power of ten the 90 bins 1.0, 1.1 … 9.9 times that power. Readable copies are sparse and belong
 * to main. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_DECADES = 20,
    HISTOGRAM_DECADE_BINS = 90,
    HISTOGRAM_BINS = 1 + HISTOGRAM_DECADES * HISTOGRAM_DECADE_BINS
};
enum { HISTOGRAM_QUANTILES = 10, HISTOGRAM_BOUNDS = 19 };

/* Bin 0 is the value 0; 1 + decade * 90 + (m - 10) holds [m, m + 1) * 10^(decade - 1), m from 10
 * to 99. */
struct histogram_bin {
    uint32_t bin;
    uint64_t count; /* never 0 */
};
struct stat_histogram {
    struct histogram_bin *bins; /* heap, ascending */
    size_t used, cap;
};

/* The quantiles and bucket bounds that Envoy shows by default. */
extern const double histogram_quantiles[HISTOGRAM_QUANTILES]; /* 0 … 1 */
extern const double histogram_bounds[HISTOGRAM_BOUNDS];

uint32_t histogram_bin_of(uint64_t value);
double histogram_bin_left(uint32_t bin);
double histogram_bin_width(uint32_t bin); /* 0 for the value 0 */
/* Fills from counts of all bins, replacing what was there. */
void histogram_fill(struct stat_histogram *h, const uint64_t counts[HISTOGRAM_BINS]);
uint64_t histogram_count(const struct stat_histogram *h);
/* Approximate: each value counts as its bin's middle of least error. */
double histogram_sum(const struct stat_histogram *h);
/* Quantile q (0 … 1); NAN when empty. Type 1 of Hyndman and Fan, as circllhist does it. */
double histogram_quantile(const struct stat_histogram *h, double q);
/* Values up to and including the bin that holds `bound`. */
uint64_t histogram_count_to(const struct stat_histogram *h, double bound);
void histogram_release(struct stat_histogram *h);
