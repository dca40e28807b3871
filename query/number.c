#include "query/number.h"

#include "storage/base/assert.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

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

/* ---- powers of ten ----
 *
 * powers[k - POWER_MIN] is 10^k as 128 bits with the top one set, rounded up. */

enum { POWER_MIN = -292, POWER_MAX = 324, LIMBS = 40 };

static uint128 powers[POWER_MAX - POWER_MIN + 1];
static pthread_once_t powers_once = PTHREAD_ONCE_INIT;

struct big {
    uint32_t limbs[LIMBS]; /* lowest first: 1,280 bits, above 10^324 and above 2^128 * 10^292 */
};

static void big_multiply_10(struct big *big) {
    uint64_t carry = 0;
    for (int i = 0; i < LIMBS; i++) {
        carry += (uint64_t)big->limbs[i] * 10;
        big->limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    imv_assert(carry == 0);
}

/* The part behind the point is dropped; dividing again and again drops the same as dividing once by the product. */
static void big_divide_10(struct big *big) {
    uint64_t rest = 0;
    for (int i = LIMBS - 1; i >= 0; i--) {
        rest = rest << 32 | big->limbs[i];
        big->limbs[i] = (uint32_t)(rest / 10);
        rest %= 10;
    }
}

/* The top 128 bits; *more: a bit below them is set. */
static uint128 big_top(const struct big *big, bool *more) {
    int top = LIMBS - 1;
    while (big->limbs[top] == 0) top--;
    int shift = __builtin_clz(big->limbs[top]);
    uint128 bits = 0;
    for (int i = 0; i < 4; i++) bits = bits << 32 | (top - i >= 0 ? big->limbs[top - i] : 0);
    uint32_t next = top >= 4 ? big->limbs[top - 4] : 0;
    if (shift > 0) bits = bits << shift | next >> (32 - shift);
    *more = (uint32_t)((uint64_t)next << shift) != 0;
    for (int i = 0; i < top - 4; i++) *more = *more || big->limbs[i] != 0;
    return bits;
}

static void compute_powers(void) {
    bool more;
    struct big big = {{1}};
    for (int k = 0; k <= POWER_MAX; k++) {
        uint128 bits = big_top(&big, &more);
        powers[k - POWER_MIN] = bits + more;
        if (k < POWER_MAX) big_multiply_10(&big);
    }
    /* 10^-k from a large power of two: never exact, so always rounded up. */
    big = (struct big){{0}};
    big.limbs[LIMBS - 1] = 1u << 31;
    for (int k = -1; k >= POWER_MIN; k--) {
        big_divide_10(&big);
        powers[k - POWER_MIN] = big_top(&big, &more) + 1;
    }
}

/* ---- doubles ---- */

struct decimal {
    uint64_t digits;
    int exponent; /* value = digits * 10^exponent */
};

static uint64_t round_to_odd(uint128 power, uint64_t factor) {
    uint128 low = (uint128)(uint64_t)power * factor;
    uint128 high = (uint128)(uint64_t)(power >> 64) * factor + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

static int floor_log2_pow10(int e) { return (e * 1741647) >> 19; }

/* Schubfach: of the decimals that read back to this double, one with the fewest digits, nearest to it. Works on four
 * times the scaled value and its rounding interval, so that halves are integers. */
static struct decimal shortest(uint64_t fraction, int biased) {
    pthread_once(&powers_once, compute_powers);
    uint64_t c = biased != 0 ? fraction | UINT64_C(1) << 52 : fraction;
    int q = (biased != 0 ? biased : 1) - 1075;
    bool closer = fraction == 0 && biased > 1; /* the lower neighbour is half as far away as the upper one */
    uint64_t odd = c & 1;
    int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;
    int h = q + floor_log2_pow10(-k) + 1;
    uint128 power = powers[-k - POWER_MIN];
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
 * reads as a given double, and the division is correctly rounded: when it gives the number back, these are its digits. */
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

/* digits as text of `count` bytes, and where the point belongs: behind `point` digits, before all of them when 0, and so
 * on. */
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

bool imv_integer_parse(struct imv_str text, int64_t *integer) {
    size_t i = 0;
    bool negative = false;
    if (text.size > 0 && (text.data[0] == '-' || text.data[0] == '+')) negative = text.data[i++] == '-';
    if (i == text.size) return false;
    int64_t result = 0;
    for (; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        int digit = text.data[i] - '0';
        if (__builtin_mul_overflow(result, 10, &result)) return false;
        if (__builtin_sub_overflow(result, digit, &result))
            return false; /* downwards: the most negative one fits too */
    }
    if (!negative && result == INT64_MIN) return false;
    *integer = negative ? result : -result;
    return true;
}

static size_t skip_digits(struct imv_str text, size_t i) {
    while (i < text.size && text.data[i] >= '0' && text.data[i] <= '9') i++;
    return i;
}

/* What strtod reads beyond decimal numbers (hexadecimal, leading blanks) is no number here. */
static bool is_decimal(struct imv_str text) {
    size_t i = text.size > 0 && (text.data[0] == '-' || text.data[0] == '+');
    size_t digits = skip_digits(text, i) - i;
    i += digits;
    if (i < text.size && text.data[i] == '.') {
        size_t from = ++i;
        i = skip_digits(text, i);
        digits += i - from;
    }
    if (digits == 0) return false;
    if (i < text.size && (text.data[i] == 'e' || text.data[i] == 'E')) {
        i++;
        if (i < text.size && (text.data[i] == '-' || text.data[i] == '+')) i++;
        size_t from = i;
        i = skip_digits(text, i);
        if (i == from) return false;
    }
    return i == text.size;
}

static bool is_word(struct imv_str text, const char *word) { return imv_str_equal(text, imv_str_from(word)); }

bool imv_float_parse(struct imv_str text, double *number) {
    *number = is_word(text, "NaN") ? NAN : is_word(text, "-Infinity") ? -INFINITY : INFINITY;
    if (isnan(*number) || *number < 0 || is_word(text, "Infinity") || is_word(text, "+Infinity")) return true;
    if (!is_decimal(text)) return false;
    char small[128];
    char *copy = text.size < sizeof small ? small : malloc(text.size + 1);
    if (copy == NULL) return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    *number = strtod(copy, NULL);
    if (copy != small) free(copy);
    return true;
}
