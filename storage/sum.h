/* sum.h - sums of doubles that do not depend on the order in which they were made.
 *
 * A sum is an unevaluated pair: high is what plain addition gives, low collects what its roundings lost. Every addition
 * is a TwoSum (Knuth), which finds the lost part exactly, so that a rounded sum has the error of one rounding, and two
 * sums of the same values in another order, cut at other places and merged, differ at most in the last bit, and that
 * only where the values nearly cancel out. So a window's sum is the same from rows, from statistics of vectors, by any
 * number of workers.
 *
 * Where finite values leave the range of a double, the pair goes on at 2^-64 of its size (is_scaled): their mean is
 * still right, and a sum that comes back into the range is too. Infinities and NaN are as in plain addition: an
 * infinity stays, opposite ones and NaN make NaN; low is 0 then, so rounding adds nothing to them.
 *
 * Values, no memory, any thread. Nothing here may be compiled with -ffast-math or contracted to fused operations.
 */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* All zero is the sum of nothing. */
struct imv_sum {
    double high, low;
    bool is_scaled; /* what is meant is 2^64 times as much */
};

#define IMV_SUM_SCALE 0x1p64

/* What the fast ways below leave undone: infinities, NaN, leaving the range. */
void imv_sum_add_extreme(struct imv_sum *sum, double high, double low);

/* Adds a pair of finite parts that is scaled as *sum is. */
static inline void imv_sum_add_parts(struct imv_sum *sum, double high, double low) {
    double total = sum->high + high, added = total - sum->high;
    double lost = sum->low + ((sum->high - (total - added)) + (high - added) + low);
    if (__builtin_expect(!isfinite(lost), 0)) {
        imv_sum_add_extreme(sum, high, low);
        return;
    }
    sum->high = total;
    sum->low = lost;
}

static inline void imv_sum_add(struct imv_sum *sum, double value) {
    imv_sum_add_parts(sum, sum->is_scaled ? value / IMV_SUM_SCALE : value, 0);
}

/* Adds the sum of other values. */
static inline void imv_sum_merge(struct imv_sum *sum, const struct imv_sum *other) {
    struct imv_sum added = *other;
    if (sum->is_scaled != added.is_scaled) {
        struct imv_sum *unscaled = sum->is_scaled ? &added : sum;
        *unscaled = (struct imv_sum){unscaled->high / IMV_SUM_SCALE, unscaled->low / IMV_SUM_SCALE, true};
    }
    imv_sum_add_parts(sum, added.high, added.low);
}

/* The sum as the nearest double; an infinity when it is beyond all of them. */
static inline double imv_sum_round(const struct imv_sum *sum) {
    double rounded = sum->high + sum->low;
    return sum->is_scaled ? rounded * IMV_SUM_SCALE : rounded;
}

/* The mean of the count (not 0) values that were summed: finite when they are. */
static inline double imv_sum_mean(const struct imv_sum *sum, uint64_t count) {
    double mean = (sum->high + sum->low) / (double)count;
    return sum->is_scaled ? mean * IMV_SUM_SCALE : mean;
}
