/* Most telemetry has at most 15 significant digits and a small exponent; then mantissa and power of ten are exact
 * doubles and one multiplication or division rounds correctly (Clinger 1990, "How to read floating point numbers
 * accurately"). Everything else goes to strtod, which glibc rounds correctly for any length. */
#include "ingest/number.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

enum {
    EXACT_POWERS = 23,     /* 10^22 is the largest power of ten that is an exact double */
    MANTISSA_DIGITS = 19,  /* fit into 64 bits whatever they are */
    STRTOD_BYTES_MAX = 512 /* literals on the stack; longer ones are copied to the heap */
};

static const double powers_of_ten[EXACT_POWERS] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool is_digit(char byte) { return (unsigned char)(byte - '0') < 10; }

static bool slow_float(struct imv_str text, double *value) {
    char on_stack[STRTOD_BYTES_MAX];
    char *copy = text.size < sizeof on_stack ? on_stack : malloc(text.size + 1);
    if (copy == NULL) return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    *value = strtod(copy, NULL); /* the caller has checked the syntax; the C locale has a decimal point */
    if (copy != on_stack) free(copy);
    return isfinite(*value);
}

bool imv_parse_float(struct imv_str text, double *value) {
    const char *at = text.data, *end = text.data + text.size;
    bool negative = at < end && *at == '-';
    if (negative) at++;
    uint64_t mantissa = 0;
    const char *digits = at;
    for (; at < end && is_digit(*at); at++) mantissa = mantissa * 10 + (uint64_t)(*at - '0');
    ptrdiff_t digits_count = at - digits;
    int64_t exponent = 0;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        for (; at < end && is_digit(*at); at++) mantissa = mantissa * 10 + (uint64_t)(*at - '0');
        exponent = fraction - at;
        digits_count += at - fraction;
    }
    if (digits_count == 0) return false;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        bool exponent_negative = at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        if (at == end) return false;
        int64_t written = 0;
        for (; at < end && is_digit(*at); at++) {
            if (written < 100000) written = written * 10 + (*at - '0');
        }
        exponent += exponent_negative ? -written : written;
    }
    if (at != end) return false;
    if (digits_count > MANTISSA_DIGITS || mantissa > (UINT64_C(1) << 53) || exponent <= -EXACT_POWERS ||
        exponent >= EXACT_POWERS)
        return slow_float(text, value);
    double magnitude = (double)mantissa;
    magnitude = exponent < 0 ? magnitude / powers_of_ten[-exponent] : magnitude * powers_of_ten[exponent];
    *value = negative ? -magnitude : magnitude;
    return true;
}

bool imv_parse_uint64(struct imv_str text, uint64_t *value) {
    if (text.size == 0) return false;
    uint64_t result = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_digit(text.data[i])) return false;
        if (__builtin_mul_overflow(result, 10, &result) ||
            __builtin_add_overflow(result, (uint64_t)(text.data[i] - '0'), &result))
            return false;
    }
    *value = result;
    return true;
}

bool imv_parse_int64(struct imv_str text, int64_t *value) {
    bool negative = text.size > 0 && text.data[0] == '-';
    if (negative) text = (struct imv_str){text.data + 1, text.size - 1};
    uint64_t magnitude;
    if (!imv_parse_uint64(text, &magnitude)) return false;
    if (magnitude > (uint64_t)INT64_MAX + negative) return false;
    *value = (int64_t)(negative ? -magnitude : magnitude);
    return true;
}
