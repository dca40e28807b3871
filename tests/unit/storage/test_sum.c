#include "storage/base/prng.h"
#include "storage/sum.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct imv_sum sum_of(const double *values, size_t count) {
    struct imv_sum sum = {0};
    for (size_t i = 0; i < count; i++) imv_sum_add(&sum, values[i]);
    return sum;
}

static double rounded(const double *values, size_t count) {
    struct imv_sum sum = sum_of(values, count);
    return imv_sum_round(&sum);
}

/* What plain addition loses is there when it comes to light. */
Test(sum, keeps_what_rounding_loses) {
    cr_assert_eq(rounded((double[]){1, 1e100, 1, -1e100}, 4), 2);
    cr_assert_eq(rounded((double[]){1e16, 1, 1, 1, 1, 1, 1, 1, 1}, 9), 1e16 + 8);
    double tenths[1000];
    for (int i = 0; i < 1000; i++) tenths[i] = 0.1;
    cr_assert_eq(rounded(tenths, 1000), 100);
    struct imv_sum nothing = {0};
    cr_assert_eq(imv_sum_round(&nothing), 0);
}

/* The rounded sum is the same in any order and however the values are cut into sums that are merged. */
Test(sum, does_not_depend_on_layout) {
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    for (int round = 0; round < 200; round++) {
        double values[1000];
        size_t count = 1 + imv_prng_below(&prng, 1000);
        unsigned spread = (unsigned)imv_prng_below(&prng, 40);
        for (size_t i = 0; i < count; i++)
            values[i] = ldexp(imv_prng_unit(&prng), (int)imv_prng_below(&prng, spread + 1));
        double once = rounded(values, count);
        struct imv_sum merged = {0};
        for (size_t from = 0, size; from < count; from += size) {
            size = 1 + imv_prng_below(&prng, count - from);
            struct imv_sum part = sum_of(values + from, size);
            imv_sum_merge(&merged, &part);
        }
        cr_assert_eq(imv_sum_round(&merged), once);
        for (size_t i = count; i-- > 1;) {
            size_t k = imv_prng_below(&prng, i + 1);
            double value = values[i];
            values[i] = values[k];
            values[k] = value;
        }
        cr_assert_eq(rounded(values, count), once);
    }
}

/* Infinities and NaN are as in plain addition, whatever stands beside them. */
Test(sum, infinities_stay) {
    cr_assert_eq(rounded((double[]){1, INFINITY, -1e308, 5}, 4), INFINITY);
    cr_assert_eq(rounded((double[]){-INFINITY, 1e308, 1e308}, 3), -INFINITY);
    cr_assert_eq(rounded((double[]){1e308, 1e308, -INFINITY, 1}, 4), -INFINITY);
    cr_assert(isnan(rounded((double[]){INFINITY, 1, -INFINITY}, 3)));
    cr_assert(isnan(rounded((double[]){1, NAN, 2}, 3)));
    struct imv_sum a = sum_of((double[]){INFINITY, 1}, 2), b = sum_of((double[]){3, 4}, 2), c = b;
    imv_sum_merge(&b, &a);
    imv_sum_merge(&a, &c);
    cr_assert(imv_sum_round(&a) == INFINITY && imv_sum_round(&b) == INFINITY);
    cr_assert_eq(imv_sum_mean(&a, 4), INFINITY);
}

/* A sum beyond all doubles is infinite, its mean is not, and one that comes back is right. */
Test(sum, leaves_the_range_and_returns) {
    const double most = 0x1.fffffffffffffp1023, values[] = {most, most, most, most, -most, -most, -most, 3e292};
    struct imv_sum sum = sum_of(values, 4), rest = sum_of(values + 4, 4);
    cr_assert_eq(imv_sum_round(&sum), INFINITY);
    cr_assert_eq(imv_sum_mean(&sum, 4), most);
    cr_assert_eq(rounded(values, 7), most);
    cr_assert_eq(rounded(values + 4, 3), -INFINITY);
    imv_sum_merge(&sum, &rest);
    cr_assert_eq(imv_sum_round(&sum), most + 3e292);
    struct imv_sum small = {1, 0, false};
    imv_sum_merge(&small, &rest);
    cr_assert_eq(imv_sum_mean(&small, 3), -most);
    struct imv_sum edge = sum_of((double[]){most, 0x1p969, 0x1p969, -0x1p970}, 4);
    cr_assert_eq(imv_sum_round(&edge), most);
}
