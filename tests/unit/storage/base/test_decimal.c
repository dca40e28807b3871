#include "storage/base/decimal.h"

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

static double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void expect_like_strtod(const char *text) {
    double value;
    cr_assert(imv_decimal_float(imv_str_from(text), &value), "%s is refused", text);
    cr_assert_eq(bits_of(value), bits_of(strtod(text, NULL)), "%s gives %.17g", text, value);
}

/* Random rounds of a test; IMV_DECIMAL_ROUNDS sets another number. */
static long rounds_of(long usual) {
    const char *given = getenv("IMV_DECIMAL_ROUNDS");
    return given != NULL ? strtol(given, NULL, 10) : usual;
}

/* Known hard cases, signs of zero and both ends of the range read as strtod reads them. */
Test(decimal, hard_cases_equal_strtod) {
    static const char *const fixed[] = {
        "0",
        "-0",
        "-0.0",
        "1.",
        ".5",
        "-.5",
        "0e999999999999999999999",
        "0.000e-999999999999999999999",
        "1e22",
        "1e23",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "9007199254740993.0000000000000000000000001",
        "9007199254740992.9999999999999999999999999",
        "9007199254740995",
        "1e-400",
        "1e400",
        "-1e400",
        "4.9e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.47032822920623272088284396434110686182e-324",
        "2.2250738585072011e-308",
        "2.2250738585072012e-308",
        "2.2250738585072014e-308",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "179769313486231580793728971405303415079934132710e261",
        "0.1e1",
        "00012.500",
        "123456789012345678901234567890",
        "1E+5",
        "1e-22",
        "1e-23",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551615e-342",
        "18446744073709551615e-343",
        "9999999999999999999e-1",
        "8.98846567431158e307",
        "7.2057594037927933e16",
        "6.8985865317742005e18",
        "1090544144181609348671888949248",
        "30078505129381147446200",
        "5708990770823839524233143877797980545530986496",
        "2.225073858507201136057409796709e-308",
        "0.00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
        "1448997445238699",
        "1e0000000000000000000000000000000000000000000005",
        "1e-0000000000000000000000000000000003"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) expect_like_strtod(fixed[i]);
}

/* Every number of digits, place of the point and exponent, at random, reads as strtod reads it. */
Test(decimal, random_digits_equal_strtod) {
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    for (long round = rounds_of(10 * 1000 * 1000); round > 0; round--) {
        char text[64], *at = text;
        uint64_t draw = imv_prng_next(&prng), digits = imv_prng_next(&prng);
        unsigned count = 1 + (unsigned)(draw % 24), point = (unsigned)(draw >> 8) % (count + 1);
        if (draw >> 63) *at++ = '-';
        for (unsigned i = 0; i < count; i++) {
            if (i == point) *at++ = '.';
            if (i == 18) digits = imv_prng_next(&prng);
            *at++ = (char)('0' + digits % 10);
            digits /= 10;
        }
        if (draw >> 62 & 1) {
            int range = draw >> 61 & 1 ? 30 : 345, exponent = (int)((draw >> 20) % (unsigned)(2 * range)) - range;
            at += sprintf(at, "e%d", exponent);
        }
        *at = 0;
        expect_like_strtod(text);
    }
}

/* What printf makes of any double, with any number of digits, reads as strtod reads it. */
Test(decimal, printed_doubles_equal_strtod) {
    struct imv_prng prng;
    imv_prng_init(&prng, 2);
    char text[64];
    for (int i = 0; i < 300000; i++) {
        double value = double_of(imv_prng_next(&prng));
        if (!isfinite(value)) continue;
        snprintf(text, sizeof text, "%.*g", 1 + (int)imv_prng_below(&prng, 20), value);
        expect_like_strtod(text);
        snprintf(text, sizeof text, "%.*f", (int)imv_prng_below(&prng, 7), (imv_prng_unit(&prng) - 0.5) * 1e6);
        expect_like_strtod(text);
    }
}

/* The exact midpoint of two doubles goes to the even one, and the least bit more or less to the nearer one, in all its
 * digits and cut short. */
Test(decimal, midpoints_round_to_even) {
    struct imv_prng prng;
    imv_prng_init(&prng, 3);
    static char text[1300];
    for (int i = 0; i < 60000; i++) {
        uint64_t bits = imv_prng_next(&prng) >> 1;
        if (i % 4 == 0) bits &= (UINT64_C(1) << 52) - 1;                                               /* subnormal */
        if (i % 4 == 1) bits = (bits & ~(UINT64_C(0x7ff) << 52)) | ((1000 + (uint64_t)i % 100) << 52); /* near 1 */
        double low = double_of(bits), high = double_of(bits + 1);
        if (!isfinite(low) || !isfinite(high)) continue;
        long double middle = ((long double)low + (long double)high) / 2; /* 64 bits of mantissa: exact */
        int size = snprintf(text, sizeof text, "%.*Le", 800, middle);
        expect_like_strtod(text);
        char *exponent = strchr(text, 'e');
        char kept[16];
        snprintf(kept, sizeof kept, "%s", exponent);
        snprintf(exponent, (size_t)(text + sizeof text - exponent), "%0*d1%s", (int)imv_prng_below(&prng, 300), 0,
                 kept);
        expect_like_strtod(text);
        size_t digits = 17 + imv_prng_below(&prng, (uint64_t)size > 700 ? 600 : 3);
        snprintf(text + 2 + digits, sizeof text - 2 - digits, "%s", kept);
        expect_like_strtod(text);
    }
}

/* The table of powers is what long arithmetic gives, digit for digit, with the roundings that the header states. */
Test(decimal, powers_are_right) {
    enum { LIMBS = 40 }; /* 1,280 bits: above 10^324, and above 2^128 * 10^342 */
    static uint32_t limbs[LIMBS];
    for (int sign = 1; sign >= -1; sign -= 2) {
        memset(limbs, 0, sizeof limbs);
        limbs[sign > 0 ? 0 : LIMBS - 1] = sign > 0 ? 1 : 1u << 31;
        for (int q = sign > 0 ? 0 : -1; q >= IMV_DECIMAL_POWER_MIN && q <= IMV_DECIMAL_POWER_MAX; q += sign) {
            uint64_t carry = 0;
            if (sign > 0 && q > 0) {
                for (int i = 0; i < LIMBS; i++) {
                    carry += (uint64_t)limbs[i] * 10;
                    limbs[i] = (uint32_t)carry;
                    carry >>= 32;
                }
            }
            for (int i = LIMBS - 1; sign < 0 && i >= 0; i--) {
                carry = carry << 32 | limbs[i];
                limbs[i] = (uint32_t)(carry / 10);
                carry %= 10;
            }
            int top = LIMBS - 1;
            while (limbs[top] == 0) top--;
            uint64_t high = 0, low = 0;
            int shift = __builtin_clz(limbs[top]);
            for (int bit = 0; bit < 128; bit++) {
                int place = 32 * top + 31 - shift - bit;
                uint64_t set = place < 0 ? 0 : limbs[place / 32] >> place % 32 & 1;
                high = high << 1 | low >> 63;
                low = low << 1 | set;
            }
            if (q >= -27 && q < 0 && ++low == 0) high++;
            const uint64_t *power = imv_decimal_powers[q - IMV_DECIMAL_POWER_MIN];
            cr_assert(power[0] == high && power[1] == low, "10^%d", q);
        }
    }
}

Test(decimal, what_is_no_number_is_refused) {
    /* Nothing but the grammar of the header is taken, wherever the text is cut. */
    static const char *const bad[] = {"",      "-",   ".",    "-.",   "1e",   "1e+",       "e5",
                                      "+1",    "1a",  "0x10", "1.5.", "nan",  "inf",       "1..2",
                                      "1.2.3", "--1", " 1",   "1 ",   "1e5.", "12345678x", "1e1-"};
    double value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_not(imv_decimal_float(imv_str_from(bad[i]), &value), "'%s' is taken", bad[i]);
    static const char whole[] = "-12345678901234567890.12345678e-12";
    for (size_t size = 0; size < sizeof whole; size++) {
        char copy[sizeof whole + 1];
        snprintf(copy, sizeof copy, "%.*s", (int)size, whole);
        char *end;
        strtod(copy, &end);
        cr_expect_eq(imv_decimal_float((struct imv_str){whole, size}, &value), size > 0 && *end == 0 && end != copy,
                     "%s", copy);
    }
}

Test(decimal, integers_keep_all_64_bits_and_refuse_one_more) {
    /* Both ends of both types, zeros in front at any length, and nothing that is no digit at any place. */
    int64_t i;
    uint64_t u;
    cr_assert(imv_decimal_int64(IMV_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    cr_assert(imv_decimal_int64(IMV_STR("0009223372036854775807"), &i) && i == INT64_MAX);
    cr_assert(imv_decimal_int64(IMV_STR("-0"), &i) && i == 0);
    cr_assert(imv_decimal_uint64(IMV_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    cr_assert_not(imv_decimal_int64(IMV_STR("9223372036854775808"), &i));
    cr_assert_not(imv_decimal_int64(IMV_STR("-9223372036854775809"), &i));
    cr_assert_not(imv_decimal_uint64(IMV_STR("18446744073709551616"), &u));
    cr_assert_not(imv_decimal_uint64(IMV_STR("-1"), &u));
    cr_assert_not(imv_decimal_int64(IMV_STR(""), &i) || imv_decimal_int64(IMV_STR("-"), &i));
    char text[32] = "1234567890123456789";
    for (size_t size = 1; size <= 19; size++) {
        char copy[32];
        snprintf(copy, sizeof copy, "%.*s", (int)size, text);
        cr_assert(imv_decimal_uint64((struct imv_str){text, size}, &u) && u == strtoull(copy, NULL, 10));
        for (size_t at = 0; at < size; at++) {
            for (int byte = 0; byte < 256; byte++) {
                char kept = text[at];
                text[at] = (char)byte;
                bool digit = byte >= '0' && byte <= '9';
                cr_assert_eq(imv_decimal_uint64((struct imv_str){text, size}, &u), digit, "byte %d at %zu", byte, at);
                text[at] = kept;
            }
        }
    }
}

/* Of eight bytes, the digits in front are counted and read, whatever stands behind them. */
Test(decimal, eight_digits_at_a_time) {
    struct imv_prng prng;
    imv_prng_init(&prng, 4);
    for (int round = 0; round < 1000000; round++) {
        char text[9] = {0};
        uint64_t draw = imv_prng_next(&prng);
        unsigned digits = (unsigned)(draw >> 60) % 9, wanted = 0;
        uint32_t value = 0;
        for (unsigned i = 0; i < 8; i++) {
            uint8_t byte = (uint8_t)imv_prng_next(&prng);
            text[i] = (char)(i < digits ? '0' + byte % 10 : byte);
        }
        while (wanted < 8 && text[wanted] >= '0' && text[wanted] <= '9')
            value = value * 10 + (uint32_t)(text[wanted++] - '0');
        uint64_t chunk = imv_get_u64(text);
        cr_assert_eq(imv_decimal_digits_count(chunk), wanted);
        if (wanted > 0) cr_assert_eq(imv_decimal_digits_value(chunk, wanted), value);
    }
}
