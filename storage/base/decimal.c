#include "storage/base/decimal.h"

#include "storage/base/assert.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

__extension__ typedef unsigned __int128 uint128;

enum {
    EXACT_POWER_MAX = 22, /* 10^22 is the largest power of ten that is an exact double */
    WORD_DIGITS = 19,     /* fit into 64 bits whatever they are */
    /* A midpoint of two doubles has at most 767 significant digits; of what follows only "not all zeros" matters. */
    SIGNIFICANT_MAX = 768,
    MANTISSA_BITS = 52,
    EXPONENT_BIAS = 1023,
    EXPONENT_INFINITY = 2047,
};

static const double exact_powers[EXACT_POWER_MAX + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                         1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                         1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool is_digit(char byte) { return (unsigned char)(byte - '0') < 10; }

/* ---- a word and a power of ten ---- */

static double double_of(uint64_t mantissa, int biased) {
    uint64_t bits = mantissa | (uint64_t)biased << MANTISSA_BITS;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* floor(log2(10^q)) for |q| < 1233. */
static int floor_log2_power(int q) { return (q * 217706) >> 16; }

/* Half a unit below the last place the mantissa is rounded away; product has the top bits of the number, two or three
 * more than a double. Numbers below 2^-1022 lose bits one by one. */
static double round_subnormal(uint64_t mantissa, int biased) {
    int lost = 1 - biased;
    if (lost >= 64) return 0;
    mantissa >>= lost;
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    bool normal = mantissa >> MANTISSA_BITS != 0; /* rounded up to 2^-1022 */
    return double_of(mantissa & ((UINT64_C(1) << MANTISSA_BITS) - 1), normal);
}

/* digits * 10^q by the upper 128 bits of digits * power, digits shifted to 64 bits. */
static double scale_by_table(uint64_t digits, int q) {
    const uint64_t *power = imv_decimal_powers[q - IMV_DECIMAL_POWER_MIN];
    int shift = __builtin_clzll(digits);
    uint64_t word = digits << shift;
    uint128 product = (uint128)word * power[0];
    /* The low word of the power can matter only when the bits below those that are kept are all ones. */
    enum { KEPT_BITS = MANTISSA_BITS + 3 };
    const uint64_t below = UINT64_MAX >> KEPT_BITS;
    if (((uint64_t)(product >> 64) & below) == below) product += (uint128)word * power[1] >> 64;
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    int top = (int)(high >> 63);
    int dropped = top + 64 - KEPT_BITS;
    uint64_t mantissa = high >> dropped; /* 54 bits, the last one to be rounded away */
    int biased = floor_log2_power(q) + 63 + top - shift + EXPONENT_BIAS;
    if (biased <= 0) return round_subnormal(mantissa, biased);
    /* Exactly half way, which only small powers reach: to even. */
    if (low <= 1 && q >= -4 && q <= 23 && (mantissa & 3) == 1 && mantissa << dropped == high) mantissa &= ~UINT64_C(1);
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >> (MANTISSA_BITS + 1) != 0) {
        mantissa >>= 1;
        biased++;
    }
    if (biased >= EXPONENT_INFINITY) return INFINITY;
    return double_of(mantissa & ((UINT64_C(1) << MANTISSA_BITS) - 1), biased);
}

double imv_decimal_scale(uint64_t digits, int64_t exponent) {
    if (digits <= UINT64_C(1) << 53 && exponent >= -EXACT_POWER_MAX && exponent <= EXACT_POWER_MAX) {
        double word = (double)digits;
        return exponent < 0 ? word / exact_powers[-exponent] : word * exact_powers[exponent];
    }
    if (digits == 0 || exponent < IMV_DECIMAL_POWER_MIN) return 0; /* 10^19 * 10^-343 rounds to 0 */
    if (exponent > 308) return INFINITY;
    return scale_by_table(digits, (int)exponent);
}

/* ---- text ---- */

/* A literal taken apart. */
struct literal {
    struct imv_str whole, fraction; /* the digits before and after the point */
    int64_t exponent;               /* as written */
    bool negative;
};

/* Appends digits to *word, wrapping, and returns what follows them. */
static const char *take_digits(const char *at, const char *end, uint64_t *word) {
    while (end - at >= 8) {
        uint64_t chunk = imv_get_u64(at);
        if (imv_decimal_digits_count(chunk) < 8) break;
        *word = *word * 100000000 + imv_decimal_digits_value(chunk, 8);
        at += 8;
    }
    for (; at < end && is_digit(*at); at++) *word = *word * 10 + (uint64_t)(*at - '0');
    return at;
}

static bool take_exponent(const char *at, const char *end, int64_t *exponent) {
    bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) at++;
    if (at == end) return false;
    int64_t written = 0;
    for (; at < end && is_digit(*at); at++) {
        /* Far beyond what any digits of a text make up for: a text has less than 2^60 of them. */
        if (written < INT64_C(1) << 59) written = written * 10 + (*at - '0');
    }
    *exponent = negative ? -written : written;
    return at == end;
}

/* Digits of the literal without leading zeros; *point moves to where the first stands: value = 0.d1d2.. * 10^*point. */
static size_t count_significant(const struct literal *literal, int64_t *point) {
    size_t zeros = 0, whole = literal->whole.size, all = whole + literal->fraction.size;
    while (zeros < all) {
        char digit = zeros < whole ? literal->whole.data[zeros] : literal->fraction.data[zeros - whole];
        if (digit != '0') break;
        zeros++;
    }
    *point = (int64_t)whole - (int64_t)zeros + literal->exponent;
    return all - zeros;
}

/* The significant digit number i. */
static char significant(const struct literal *literal, size_t count, size_t i) {
    size_t at = literal->whole.size + literal->fraction.size - count + i;
    return at < literal->whole.size ? literal->whole.data[at] : literal->fraction.data[at - literal->whole.size];
}

static double by_strtod(const struct literal *literal, size_t count, int64_t point) {
    char text[SIGNIFICANT_MAX + 40];
    size_t size = 0;
    text[size++] = '.';
    for (size_t i = 0; i < count && i < SIGNIFICANT_MAX; i++) text[size++] = significant(literal, count, i);
    bool more = false;
    for (size_t i = SIGNIFICANT_MAX; i < count && !more; i++) more = significant(literal, count, i) != '0';
    if (more) text[size++] = '1';
    snprintf(text + size, sizeof text - size, "e%lld", (long long)point);
    return strtod(text, NULL); /* glibc's is exact; the process never leaves the C locale, whose point is '.' */
}

/* More digits than a word has: the first 19, and those plus one, enclose the number. */
static double scale_long(const struct literal *literal) {
    int64_t point;
    size_t count = count_significant(literal, &point);
    size_t kept = count < WORD_DIGITS ? count : WORD_DIGITS;
    uint64_t word = 0;
    for (size_t i = 0; i < kept; i++) word = word * 10 + (uint64_t)(significant(literal, count, i) - '0');
    double lower = imv_decimal_scale(word, point - (int64_t)kept);
    if (count == kept) return lower;
    double upper = imv_decimal_scale(word + 1, point - (int64_t)kept);
    return lower == upper ? lower : by_strtod(literal, count, point);
}

bool imv_decimal_float(struct imv_str text, double *value) {
    const char *at = text.data, *end = text.data + text.size;
    struct literal literal = {.negative = at < end && *at == '-'};
    if (literal.negative) at++;
    uint64_t word = 0;
    literal.whole.data = at;
    at = take_digits(at, end, &word);
    literal.whole.size = (size_t)(at - literal.whole.data);
    if (at < end && *at == '.') {
        literal.fraction.data = ++at;
        at = take_digits(at, end, &word);
        literal.fraction.size = (size_t)(at - literal.fraction.data);
    }
    size_t digits = literal.whole.size + literal.fraction.size;
    if (digits == 0) return false;
    if (at < end) {
        if ((*at != 'e' && *at != 'E') || !take_exponent(at + 1, end, &literal.exponent)) return false;
    }
    double magnitude = digits <= WORD_DIGITS
                           ? imv_decimal_scale(word, literal.exponent - (int64_t)literal.fraction.size)
                           : scale_long(&literal);
    *value = literal.negative ? -magnitude : magnitude;
    return true;
}

bool imv_decimal_uint64(struct imv_str text, uint64_t *value) {
    const char *at = text.data, *end = text.data + text.size;
    if (at == end) return false;
    uint64_t word = 0;
    if (text.size <= WORD_DIGITS) {
        if (take_digits(at, end, &word) != end) return false;
        *value = word;
        return true;
    }
    for (; at < end; at++) {
        if (!is_digit(*at) || __builtin_mul_overflow(word, 10, &word) ||
            __builtin_add_overflow(word, (uint64_t)(*at - '0'), &word))
            return false;
    }
    *value = word;
    return true;
}

bool imv_decimal_int64(struct imv_str text, int64_t *value) {
    bool negative = text.size > 0 && text.data[0] == '-';
    if (negative) text = (struct imv_str){text.data + 1, text.size - 1};
    uint64_t magnitude;
    if (!imv_decimal_uint64(text, &magnitude)) return false;
    if (magnitude > (uint64_t)INT64_MAX + negative) return false;
    *value = (int64_t)(negative ? -magnitude : magnitude);
    return true;
}
