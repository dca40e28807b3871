#include "tests/support/values.h"

#include "storage/base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Sum of twelve uniform numbers: close enough to normal. */
static double normal(struct imv_prng *prng) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += imv_prng_unit(prng);
    return sum;
}

#define FILL(name)                                                                                            \
    static void name(struct imv_prng *prng, struct imv_arena *arena __attribute__((unused)), uint64_t *cells, \
                     size_t count)
#define EACH \
    for (size_t i = 0; i < count; i++) cells[i]

FILL(constant_integer) {
    uint64_t value = imv_prng_next(prng) >> imv_prng_below(prng, 64);
    EACH = value;
}
FILL(linear) {
    uint64_t first = imv_prng_next(prng), step = imv_prng_next(prng) >> imv_prng_below(prng, 64) | 1;
    EACH = first + i * step;
}
FILL(jittered_times) {
    int64_t t = 1700000000000000000;
    EACH = (uint64_t)(t += 1000000000 + ((int64_t)imv_prng_below(prng, 40) - 20) * 1000000);
}
FILL(times_with_gaps) {
    int64_t t = 1700000000000000000;
    EACH = (uint64_t)(t += imv_prng_below(prng, 50) ? 10000000000 : (int64_t)imv_prng_below(prng, 1ULL << 45));
}
FILL(walk) {
    double value = imv_prng_unit(prng) * 100;
    EACH = (uint64_t)(int64_t)(value = fmin(fmax(value + normal(prng), 0), 100));
}
FILL(walk_with_spikes) {
    int64_t value = -500;
    EACH = (uint64_t)(imv_prng_below(prng, 60) ? (value += (int64_t)imv_prng_below(prng, 7) - 3)
                                               : (int64_t)imv_prng_next(prng));
}
FILL(narrow_with_outliers) {
    EACH = imv_prng_below(prng, 40) ? 1000 + imv_prng_below(prng, 5) : imv_prng_below(prng, 1 << 20);
}
FILL(counter) {
    uint64_t value = 0;
    EACH = value += imv_prng_below(prng, 1000);
}
FILL(parabola) {
    uint64_t a = imv_prng_below(prng, 1000) + 1, b = imv_prng_next(prng) >> 20;
    EACH = a * i * i + b * i + imv_prng_below(prng, 2);
}
FILL(extremes) {
    static const uint64_t some[] = {0, 1, UINT64_MAX, INT64_MAX, UINT64_C(1) << 63, (UINT64_C(1) << 63) + 1};
    EACH = some[imv_prng_below(prng, 6)];
}
FILL(near_sign) { EACH = (UINT64_C(1) << 63) + imv_prng_below(prng, 100) - 50; }
FILL(random_bits) { EACH = imv_prng_next(prng); }
FILL(random_widths) { EACH = imv_prng_next(prng) >> imv_prng_below(prng, 64); }
FILL(multiples) { EACH = (imv_prng_below(prng, 300) - 150) * 12345; }
FILL(states) {
    uint64_t state = 0;
    EACH = state = imv_prng_below(prng, 30) ? state : imv_prng_below(prng, 6);
}
FILL(enumeration) {
    uint64_t values[7];
    for (int k = 0; k < 7; k++) values[k] = imv_prng_next(prng);
    EACH = values[imv_prng_below(prng, 7)];
}
FILL(bell) {
    unsigned shift = (unsigned)imv_prng_below(prng, 50);
    EACH = (uint64_t)(int64_t)(normal(prng) * (double)(UINT64_C(1) << shift));
}
/* Of another character now and then: a machine that is switched off, a counter that runs faster. */
FILL(regimes) {
    uint64_t base = imv_prng_next(prng) >> 8, spread = imv_prng_next(prng) >> 40;
    for (size_t i = 0; i < count; i++) {
        if (imv_prng_below(prng, 200) == 0) {
            base = imv_prng_next(prng) >> 8;
            spread = imv_prng_next(prng) >> (20 + imv_prng_below(prng, 43));
        }
        cells[i] = base + imv_prng_below(prng, spread + 1);
    }
}
FILL(mostly_zero) { EACH = imv_prng_below(prng, 100) ? 0 : imv_prng_below(prng, 1 << 30); }

static void decimals(struct imv_prng *prng, uint64_t *cells, size_t count, int digits) {
    double power = pow(10, digits), value = imv_prng_unit(prng) * 2000 - 1000;
    EACH = imv_float_cell(round((value += normal(prng)) * power) / power);
}
FILL(decimals_0) { decimals(prng, cells, count, 0); }
FILL(decimals_1) { decimals(prng, cells, count, 1); }
FILL(decimals_2) { decimals(prng, cells, count, 2); }
FILL(decimals_3) { decimals(prng, cells, count, 3); }
FILL(decimals_6) { decimals(prng, cells, count, 6); }
FILL(decimals_12) { decimals(prng, cells, count, 12); }
FILL(mixed_digits) {
    for (size_t i = 0; i < count; i++) decimals(prng, cells + i, 1, (int)imv_prng_below(prng, 5));
}
FILL(large_decimals) { EACH = imv_float_cell((double)imv_prng_below(prng, 1000) * 1e18); }
FILL(constant_float) {
    uint64_t value = imv_float_cell(normal(prng));
    EACH = value;
}
FILL(noise) { EACH = imv_float_cell(normal(prng)); }
FILL(single_precision) { EACH = imv_float_cell((double)(float)(20 + normal(prng))); }
FILL(any_bits) { EACH = imv_prng_next(prng); }
FILL(nans) { EACH = UINT64_C(0x7ff0000000000000) | imv_prng_next(prng) >> imv_prng_below(prng, 12) >> 12 | 1; }
FILL(special_floats) {
    static const double some[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 5e-324, -5e-324, 0x1.fffffffffffffp1023, 1.5};
    EACH = imv_float_cell(some[imv_prng_below(prng, 9)]);
}
FILL(signed_zeros) {
    static const double some[] = {-0.0, 0.0, 0.5, -0.5};
    size_t kinds = 1 + imv_prng_below(prng, 4);
    EACH = imv_float_cell(some[imv_prng_below(prng, kinds)]);
}
FILL(decimals_with_holes) {
    decimals(prng, cells, count, 2);
    for (size_t i = 0; i < count; i++)
        if (imv_prng_below(prng, 50) == 0) cells[i] = imv_prng_next(prng);
}
FILL(set_points) {
    static const double some[] = {20.5, 21.0, 18.25, 1.0 / 3};
    uint64_t value = imv_float_cell(some[0]);
    EACH = value = imv_prng_below(prng, 40) ? value : imv_float_cell(some[imv_prng_below(prng, 4)]);
}

FILL(constant_boolean) {
    uint64_t value = imv_prng_below(prng, 2);
    EACH = value;
}
FILL(random_boolean) { EACH = imv_prng_below(prng, 2); }
FILL(boolean_runs) {
    uint64_t value = 0;
    EACH = value ^= imv_prng_below(prng, 50) == 0;
}

uint64_t imv_values_string(struct imv_arena *arena, const void *bytes, size_t size) {
    struct imv_string *string = imv_arena_alloc(arena, sizeof *string + size);
    imv_assert(string != NULL);
    string->size = (uint32_t)size;
    if (size > 0) memcpy(string->bytes, bytes, size);
    return imv_string_cell(string);
}

static uint64_t random_string(struct imv_prng *prng, struct imv_arena *arena, size_t size) {
    uint8_t *bytes = malloc(size + 1);
    imv_assert(bytes != NULL);
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)imv_prng_next(prng);
    uint64_t cell = imv_values_string(arena, bytes, size);
    free(bytes);
    return cell;
}

FILL(random_strings) { EACH = random_string(prng, arena, imv_prng_below(prng, 24)); }
FILL(same_string) {
    uint64_t cell = random_string(prng, arena, imv_prng_below(prng, 10));
    EACH = cell;
}
FILL(few_strings) {
    static const char *const some[] = {"running", "stopped", "fault", "", "maintenance required"};
    for (size_t i = 0; i < count; i++) {
        const char *text = some[imv_prng_below(prng, 5)];
        cells[i] = imv_values_string(arena, text, strlen(text));
    }
}
FILL(text_lines) {
    for (size_t i = 0; i < count; i++) {
        char text[96];
        int size =
            snprintf(text, sizeof text, "2024-05-%02d pump P-%03d vibration above limit: %d mm/s",
                     (int)imv_prng_below(prng, 31), (int)imv_prng_below(prng, 100), (int)imv_prng_below(prng, 90));
        cells[i] = imv_values_string(arena, text, (size_t)size);
    }
}
FILL(empty_strings) {
    (void)prng;
    EACH = imv_values_string(arena, "", 0);
}
FILL(long_strings) {
    EACH = imv_prng_below(prng, 300) ? random_string(prng, arena, imv_prng_below(prng, 4))
                                     : random_string(prng, arena, IMV_STRING_BYTES_MAX);
}

const struct imv_values imv_values[] = {
    {"constant_integer", IMV_INTEGER, constant_integer},
    {"linear", IMV_INTEGER, linear},
    {"jittered_times", IMV_INTEGER, jittered_times},
    {"times_with_gaps", IMV_INTEGER, times_with_gaps},
    {"walk", IMV_INTEGER, walk},
    {"walk_with_spikes", IMV_INTEGER, walk_with_spikes},
    {"narrow_with_outliers", IMV_INTEGER, narrow_with_outliers},
    {"counter", IMV_UINTEGER, counter},
    {"parabola", IMV_INTEGER, parabola},
    {"extremes", IMV_INTEGER, extremes},
    {"unsigned_extremes", IMV_UINTEGER, extremes},
    {"near_sign", IMV_INTEGER, near_sign},
    {"unsigned_near_sign", IMV_UINTEGER, near_sign},
    {"random_bits", IMV_INTEGER, random_bits},
    {"unsigned_random_bits", IMV_UINTEGER, random_bits},
    {"random_widths", IMV_UINTEGER, random_widths},
    {"multiples", IMV_INTEGER, multiples},
    {"states", IMV_INTEGER, states},
    {"enumeration", IMV_UINTEGER, enumeration},
    {"mostly_zero", IMV_INTEGER, mostly_zero},
    {"bell", IMV_INTEGER, bell},
    {"regimes", IMV_INTEGER, regimes},
    {"decimals_0", IMV_FLOAT, decimals_0},
    {"decimals_1", IMV_FLOAT, decimals_1},
    {"decimals_2", IMV_FLOAT, decimals_2},
    {"decimals_3", IMV_FLOAT, decimals_3},
    {"decimals_6", IMV_FLOAT, decimals_6},
    {"decimals_12", IMV_FLOAT, decimals_12},
    {"mixed_digits", IMV_FLOAT, mixed_digits},
    {"large_decimals", IMV_FLOAT, large_decimals},
    {"constant_float", IMV_FLOAT, constant_float},
    {"noise", IMV_FLOAT, noise},
    {"single_precision", IMV_FLOAT, single_precision},
    {"any_bits", IMV_FLOAT, any_bits},
    {"nans", IMV_FLOAT, nans},
    {"special_floats", IMV_FLOAT, special_floats},
    {"signed_zeros", IMV_FLOAT, signed_zeros},
    {"decimals_with_holes", IMV_FLOAT, decimals_with_holes},
    {"set_points", IMV_FLOAT, set_points},
    {"constant_boolean", IMV_BOOLEAN, constant_boolean},
    {"random_boolean", IMV_BOOLEAN, random_boolean},
    {"boolean_runs", IMV_BOOLEAN, boolean_runs},
    {"random_strings", IMV_STRING, random_strings},
    {"same_string", IMV_STRING, same_string},
    {"few_strings", IMV_STRING, few_strings},
    {"text_lines", IMV_STRING, text_lines},
    {"empty_strings", IMV_STRING, empty_strings},
    {"long_strings", IMV_STRING, long_strings},
};
const size_t imv_values_count = sizeof imv_values / sizeof *imv_values;

void imv_values_validity(struct imv_prng *prng, uint64_t *valid, size_t count) {
    uint64_t kind = imv_prng_below(prng, 6);
    bool set = imv_prng_below(prng, 2);
    memset(valid, 0, (count + 63) / 64 * sizeof *valid);
    for (size_t i = 0; i < count; i++) {
        switch (kind) {
            case 0: set = true; break;
            case 1: set = imv_prng_below(prng, 100) != 0; break;
            case 2: set = imv_prng_below(prng, 100) == 0; break;
            case 3: set ^= imv_prng_below(prng, 80) == 0; break;
            case 4: set = i % 2; break;
            default: set = imv_prng_below(prng, 2);
        }
        if (set) imv_bit_set(valid, i);
    }
}

bool imv_values_equal(imv_type type, uint64_t a, uint64_t b) {
    return type == IMV_STRING ? imv_str_equal(imv_cell_str(a), imv_cell_str(b)) : a == b;
}
