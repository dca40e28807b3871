#include "query/number.h"
#include "storage/base/prng.h"
#include "storage/value.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *print_float(double number) {
    static char text[IMV_FLOAT_BYTES_MAX + 1];
    size_t size = imv_float_print(text, number);
    cr_assert(size <= IMV_FLOAT_BYTES_MAX);
    text[size] = 0;
    return text;
}

static int digits_of(const char *text) {
    int digits = 0, zeros = 0;
    for (; *text != 0 && *text != 'e'; text++) {
        if (*text < '0' || *text > '9') continue;
        if (*text == '0') {
            zeros += digits > 0;
        } else {
            digits += zeros + 1;
            zeros = 0;
        }
    }
    return digits;
}

/* Doubles look like floats, short, and without an exponent where people write none. */
Test(number, prints_floats) {
    static const struct {
        double number;
        const char *text;
    } cases[] = {
        {0, "0.0"},
        {-0.0, "-0.0"},
        {1, "1.0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {51.5, "51.5"},
        {2.28, "2.28"}, /* 2.28 * 100 is not an integer, 2.28 * 1000 is */
        {4.36, "4.36"},
        {0.001, "0.001"},
        {0.0001, "0.0001"},
        {1e-5, "0.00001"},
        {1e-6, "1e-6"},
        {1e15, "1000000000000000.0"},
        {1e16, "10000000000000000.0"},
        {1e17, "1e17"},
        {1e22, "1e22"},
        {1.5e300, "1.5e300"},
        {5e-324, "5e-324"},
        {123456.789, "123456.789"},
        {1.7976931348623157e308, "1.7976931348623157e308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {16.666666666666668, "16.666666666666668"},
        {NAN, "NaN"},
        {INFINITY, "Infinity"},
        {-INFINITY, "-Infinity"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(print_float(cases[i].number), cases[i].text);
}

/* The text reads back to the same bits, and no shorter one does. */
Test(number, floats_round_trip_with_fewest_digits) {
    struct imv_prng prng;
    imv_prng_init(&prng, 3);
    for (int i = 0; i < 200000; i++) {
        double number;
        switch (i % 4) {
            case 0: number = imv_cell_float(imv_prng_next(&prng)); break;
            case 1: number = (double)(int64_t)imv_prng_below(&prng, 2000000) / 60 - 10000; break;
            case 2: number = ldexp(1, (int)imv_prng_below(&prng, 2098) - 1074); break;
            default: number = (double)imv_prng_below(&prng, 1000000) / 1000; break;
        }
        if (!isfinite(number)) continue;
        const char *text = print_float(number);
        double back = strtod(text, NULL);
        cr_assert_eq(imv_float_cell(back), imv_float_cell(number), "seed 3, round %d: %.17g printed as %s", i, number,
                     text);
        int digits = digits_of(text);
        if (digits <= 1) continue;
        char shorter[64];
        snprintf(shorter, sizeof shorter, "%.*e", digits - 2, number);
        cr_assert_neq(strtod(shorter, NULL), number, "%s is shorter than %s", shorter, text);
    }
}

/* Integers print as printf does, at every length and both ends. */
Test(number, prints_integers) {
    struct imv_prng prng;
    imv_prng_init(&prng, 5);
    for (int i = 0; i < 100000; i++) {
        int64_t integer = (int64_t)imv_prng_next(&prng) >> imv_prng_below(&prng, 64);
        if (i < 300) integer = i - 150;
        if (i == 300) integer = INT64_MIN;
        if (i == 301) integer = INT64_MAX;
        char text[IMV_INTEGER_BYTES_MAX + 1], wanted[32];
        text[imv_integer_print(text, integer)] = 0;
        snprintf(wanted, sizeof wanted, "%lld", (long long)integer);
        cr_assert_str_eq(text, wanted);
        int64_t back;
        cr_assert(imv_integer_parse(imv_str_from(text), &back));
        cr_assert_eq(back, integer);
    }
    char text[IMV_INTEGER_BYTES_MAX + 1];
    text[imv_uinteger_print(text, UINT64_MAX)] = 0;
    cr_expect_str_eq(text, "18446744073709551615");
}

/* Only whole decimal numbers in range are read. */
Test(number, reads_numbers) {
    static const char *const bad_integers[] = {
        "", "-", "+", "1x", " 1", "1.0", "9223372036854775808", "-9223372036854775809", "99999999999999999999"};
    static const char *const bad_floats[] = {"", ".", "-", "1e", "1e+", "0x10", " 1", "1 ", "nan", "1..2", "--1", "e5"};
    int64_t integer;
    double number;
    for (size_t i = 0; i < sizeof bad_integers / sizeof *bad_integers; i++)
        cr_expect_not(imv_integer_parse(imv_str_from(bad_integers[i]), &integer), "%s", bad_integers[i]);
    for (size_t i = 0; i < sizeof bad_floats / sizeof *bad_floats; i++)
        cr_expect_not(imv_float_parse(imv_str_from(bad_floats[i]), &number), "%s", bad_floats[i]);
    cr_assert(imv_integer_parse(IMV_STR("+5"), &integer));
    cr_expect_eq(integer, 5);
    cr_assert(imv_float_parse(IMV_STR("-.5e1"), &number));
    cr_expect_eq(number, -5.0);
    cr_assert(imv_float_parse(IMV_STR("1e999"), &number));
    cr_expect(isinf(number));
    cr_assert(imv_float_parse(IMV_STR("NaN"), &number));
    cr_expect(isnan(number));
    cr_assert(imv_float_parse(IMV_STR("-Infinity"), &number));
    cr_expect_eq(number, -INFINITY);
    char longest[400];
    memset(longest, '1', sizeof longest);
    cr_assert(imv_float_parse((struct imv_str){longest, 300}, &number));
    cr_expect(number > 1e299 && isfinite(number));
}
