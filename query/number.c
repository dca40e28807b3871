#include "query/number.h"

#include "storage/base/assert.h"
#include "storage/base/decimal.h"

#include <math.h>

__extension__ typedef unsigned __int128 uint128;

/* ---- integers ---- */

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                  "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

static int count_digits(uint64_t number) {
    int digits = 1;
    for (;;) {
        if (number < 10) return digits;
        if (number < 100) return digits + 1;
        if (number < 1000) return digits + 2;
        if (number < 10000) return digits + 3;
        number /= 10000;
        digits += 4;
    }
}

/* Exactly `digits` digits, with zeros in front. */
static void put_digits(char *to, int digits, uint64_t number) {
    char *at = to + digits;
    while (at - to >= 2) {
        at -= 2;
        memcpy(at, digit_pairs + number % 100 * 2, 2);
        number /= 100;
    }
    if (at > to) *to = (char)('0' + number % 10);
}

size_t imv_uinteger_print(char *to, uint64_t uinteger) {
    if (uinteger < 10) {
        *to = (char)('0' + uinteger);
        return 1;
    }
    if (uinteger < 100) {
        memcpy(to, digit_pairs + uinteger * 2, 2);
        return 2;
    }
    int digits = count_digits(uinteger);
    put_digits(to, digits, uinteger);
    return (size_t)digits;
}

size_t imv_integer_print(char *to, int64_t integer) {
    if (integer >= 0) return imv_uinteger_print(to, (uint64_t)integer);
    *to = '-';
    return 1 + imv_uinteger_print(to + 1, -(uint64_t)integer);
}

/* ---- doubles ---- */

struct decimal {
    uint64_t digits;
    int exponent; /* value = digits * 10^exponent */
};

/* 10^k as 128 bits with the top one set, rounded up. */
static uint128 power_above(int k) {
    const uint64_t *power = imv_decimal_powers[k - IMV_DECIMAL_POWER_MIN];
    return ((uint128)power[0] << 64 | power[1]) + imv_decimal_power_is_below(k);
}

static uint64_t round_to_odd(uint128 power, uint64_t factor) {
    uint128 low = (uint128)(uint64_t)power * factor;
    uint128 high = (uint128)(uint64_t)(power >> 64) * factor + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

static int floor_log2_pow10(int e) { return (e * 1741647) >> 19; }

/* Schubfach: of the decimals that read back to this double, one with the fewest digits, nearest to it. Works on four
 * times the scaled value and its rounding interval, so that halves are integers. */
static struct decimal shortest(uint64_t fraction, int biased) {
    uint64_t c = biased != 0 ? fraction | UINT64_C(1) << 52 : fraction;
    int q = (biased != 0 ? biased : 1) - 1075;
    bool closer = fraction == 0 && biased > 1; /* the lower neighbour is half as far away as the upper one */
    uint64_t odd = c & 1;
    int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;
    int h = q + floor_log2_pow10(-k) + 1;
    uint128 power = power_above(-k);
    uint64_t lower = round_to_odd(power, (4 * c - 2 + closer) << h) + odd;
    uint64_t value = round_to_odd(power, (4 * c) << h);
    uint64_t upper = round_to_odd(power, (4 * c + 2) << h) - odd;
    uint64_t s = value / 4;
    if (s >= 10) {
        uint64_t tenth = s / 10;
        bool down = lower <= 40 * tenth, up = 40 * tenth + 40 <= upper;
        if (down != up) return (struct decimal){tenth + up, k + 1};
    }
    bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    if (down != up) return (struct decimal){s + up, k};
    uint64_t middle = 4 * s + 2;
    bool round_up = value > middle || (value == middle && (s & 1) != 0);
    return (struct decimal){s + round_up, k};
}

/* Values with up to three decimals, as most measurements are. Below 10^15 a decimal is the only one of its length that
 * reads as a given double, and the division is correctly rounded: when it gives the number back, these are its
 * digits. */
static bool few_decimals(double number, struct decimal *decimal) {
    static const double scales[] = {1, 10, 100, 1000};
    for (int decimals = 0; decimals <= 3; decimals++) {
        double scaled = number * scales[decimals];
        if (!(scaled < 1e15)) return false;
        uint64_t digits = (uint64_t)scaled;
        if ((double)digits == scaled && scaled / scales[decimals] == number) {
            /* 2.28 * 100 is not 228 but 2.28 * 1000 is 2280: the fewest digits are without the zeros. */
            for (; decimals > 0 && digits % 10 == 0; decimals--) digits /= 10;
            *decimal = (struct decimal){digits, -decimals};
            return true;
        }
    }
    return false;
}

static char *put_exponent(char *at, int exponent) {
    *at++ = 'e';
    return at + imv_integer_print(at, exponent);
}

/* digits as text of `count` bytes, and where the point belongs: behind `point` digits, before all of them when 0, and
 * so on. */
static char *put_decimal(char *at, uint64_t digits, int count, int point) {
    if (point > 17 || point < -4) {
        char text[20];
        put_digits(text, count, digits);
        *at++ = text[0];
        if (count > 1) {
            *at++ = '.';
            memcpy(at, text + 1, (size_t)count - 1);
            at += count - 1;
        }
        return put_exponent(at, point - 1);
    }
    if (point <= 0) {
        memcpy(at, "0.00000", 7);
        at += 2 - point;
        put_digits(at, count, digits);
        return at + count;
    }
    put_digits(at, count, digits);
    if (point < count) {
        memmove(at + point + 1, at + point, (size_t)(count - point));
        at[point] = '.';
        return at + count + 1;
    }
    memset(at + count, '0', (size_t)(point - count));
    memcpy(at + point, ".0", 2);
    return at + point + 2;
}

static size_t put_word(char *to, const char *word) {
    size_t size = strlen(word);
    memcpy(to, word, size);
    return size;
}

size_t imv_float_print(char *to, double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int biased = (int)(bits >> 52 & 0x7ff);
    bool negative = bits >> 63;
    if (biased == 0x7ff) return put_word(to, fraction != 0 ? "NaN" : negative ? "-Infinity" : "Infinity");
    char *at = to;
    if (negative) *at++ = '-';
    if (biased == 0 && fraction == 0) return (size_t)(at - to) + put_word(at, "0.0");
    struct decimal decimal;
    if (!few_decimals(fabs(number), &decimal)) {
        decimal = shortest(fraction, biased);
        while (decimal.digits % 10 == 0) {
            decimal.digits /= 10;
            decimal.exponent++;
        }
    }
    int count = count_digits(decimal.digits);
    return (size_t)(put_decimal(at, decimal.digits, count, count + decimal.exponent) - to);
}

/* ---- reading ---- */

/* The decimal parsers know no '+'. */
static struct imv_str without_plus(struct imv_str text) {
    bool plus = text.size > 1 && text.data[0] == '+' && text.data[1] != '-';
    return plus ? (struct imv_str){text.data + 1, text.size - 1} : text;
}

bool imv_integer_parse(struct imv_str text, int64_t *integer) { return imv_decimal_int64(without_plus(text), integer); }

static bool is_word(struct imv_str text, const char *word) { return imv_str_equal(text, imv_str_from(word)); }

bool imv_float_parse(struct imv_str text, double *number) {
    *number = is_word(text, "NaN") ? NAN : is_word(text, "-Infinity") ? -INFINITY : INFINITY;
    if (isnan(*number) || *number < 0 || is_word(text, "Infinity") || is_word(text, "+Infinity")) return true;
    return imv_decimal_float(without_plus(text), number);
}
