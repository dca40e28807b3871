#include "ingest/number.h"

#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void expect_like_strtod(const char *text) {
    double value;
    cr_assert(imv_parse_float(imv_str_from(text), &value), "%s is refused", text);
    cr_assert_eq(bits_of(value), bits_of(strtod(text, NULL)), "%s gives %.17g", text, value);
}

Test(number, floats_equal_strtod_to_the_last_bit) {
    static const char *const fixed[] = {"0",
                                        "-0",
                                        "-0.0",
                                        "1.",
                                        ".5",
                                        "-.5",
                                        "1e22",
                                        "1e23",
                                        "9007199254740993",
                                        "1e-400",
                                        "4.9e-324",
                                        "2.4703282292062328e-324",
                                        "1.7976931348623157e308",
                                        "0.1e1",
                                        "00012.500",
                                        "123456789012345678901234567890",
                                        "1E+5",
                                        "1e-22",
                                        "1e-23"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) expect_like_strtod(fixed[i]);
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    char text[64];
    for (int i = 0; i < 300000; i++) {
        uint64_t bits = imv_prng_next(&prng);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        snprintf(text, sizeof text, "%.*g", 1 + (int)imv_prng_below(&prng, 20), value);
        if (isfinite(strtod(text, NULL))) expect_like_strtod(text);
        snprintf(text, sizeof text, "%.*f", (int)imv_prng_below(&prng, 7), (imv_prng_unit(&prng) - 0.5) * 1e6);
        expect_like_strtod(text);
    }
}

Test(number, what_is_no_number_is_refused) {
    static const char *const bad[] = {"",    "-",   ".",    "-.",    "1e",  "1e+", "e5", "+1",    "1a",    "0x10",
                                      "nan", "inf", "1..2", "1.2.3", "--1", " 1",  "1 ", "1e400", "-1e400"};
    double value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_not(imv_parse_float(imv_str_from(bad[i]), &value), "'%s' is taken", bad[i]);
}

Test(number, integers_keep_all_64_bits_and_refuse_one_more) {
    int64_t i;
    uint64_t u;
    cr_assert(imv_parse_int64(IMV_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    cr_assert(imv_parse_int64(IMV_STR("0009223372036854775807"), &i) && i == INT64_MAX);
    cr_assert(imv_parse_int64(IMV_STR("-0"), &i) && i == 0);
    cr_assert(imv_parse_uint64(IMV_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    cr_assert_not(imv_parse_int64(IMV_STR("9223372036854775808"), &i));
    cr_assert_not(imv_parse_int64(IMV_STR("-9223372036854775809"), &i));
    cr_assert_not(imv_parse_uint64(IMV_STR("18446744073709551616"), &u));
    cr_assert_not(imv_parse_uint64(IMV_STR("-1"), &u));
    cr_assert_not(imv_parse_int64(IMV_STR(""), &i) || imv_parse_int64(IMV_STR("-"), &i));
}
