#include "query/kernel.h"

#include "query/datetime.h"
#include "storage/value.h"

/* One loop for a column and one for a constant, so that the compiler can turn each into vector instructions. */
#define COMPARE_LOOPS(type, read, operator)                                             \
    do {                                                                                \
        if (b_constant) {                                                               \
            type right = read(b[0]);                                                    \
            for (size_t i = 0; i < count; i++) out[i] = read(a[i]) operator right;      \
        } else {                                                                        \
            for (size_t i = 0; i < count; i++) out[i] = read(a[i]) operator read(b[i]); \
        }                                                                               \
    } while (0)

#define COMPARE(type, read)                                               \
    switch (op) {                                                         \
        case IMV_BINARY_EQUAL: COMPARE_LOOPS(type, read, ==); break;      \
        case IMV_BINARY_NOT_EQUAL: COMPARE_LOOPS(type, read, !=); break;  \
        case IMV_BINARY_LESS: COMPARE_LOOPS(type, read, <); break;        \
        case IMV_BINARY_LESS_EQUAL: COMPARE_LOOPS(type, read, <=); break; \
        case IMV_BINARY_GREATER: COMPARE_LOOPS(type, read, >); break;     \
        default: COMPARE_LOOPS(type, read, >=); break;                    \
    }

static inline int64_t as_integer(uint64_t cell) { return (int64_t)cell; }

void imv_kernel_compare_integers(enum imv_binary_op op, const uint64_t *a, const uint64_t *b, bool b_constant,
                                 size_t count, uint64_t *restrict out) {
    COMPARE(int64_t, as_integer)
}

void imv_kernel_compare_floats(enum imv_binary_op op, const uint64_t *a, const uint64_t *b, bool b_constant,
                               size_t count, uint64_t *restrict out) {
    COMPARE(double, imv_cell_float)
}

bool imv_kernel_integers(enum imv_binary_op op, const uint64_t *a, bool a_constant, const uint64_t *b, bool b_constant,
                         size_t count, uint64_t *restrict out) {
    size_t a_step = !a_constant, b_step = !b_constant;
    bool overflow = false;
    for (size_t i = 0; i < count; i++) {
        int64_t x = (int64_t)a[i * a_step], y = (int64_t)b[i * b_step], result;
        overflow |= op == IMV_BINARY_ADD        ? __builtin_add_overflow(x, y, &result)
                    : op == IMV_BINARY_SUBTRACT ? __builtin_sub_overflow(x, y, &result)
                                                : __builtin_mul_overflow(x, y, &result);
        out[i] = (uint64_t)result;
    }
    return !overflow;
}

#define FLOAT_LOOP(operator)           \
    for (size_t i = 0; i < count; i++) \
    out[i] = imv_float_cell(imv_cell_float(a[i * a_step]) operator imv_cell_float(b[i * b_step]))

void imv_kernel_floats(enum imv_binary_op op, const uint64_t *a, bool a_constant, const uint64_t *b, bool b_constant,
                       size_t count, uint64_t *restrict out) {
    size_t a_step = !a_constant, b_step = !b_constant;
    switch (op) {
        case IMV_BINARY_ADD: FLOAT_LOOP(+); break;
        case IMV_BINARY_SUBTRACT: FLOAT_LOOP(-); break;
        case IMV_BINARY_MULTIPLY: FLOAT_LOOP(*); break;
        default: FLOAT_LOOP(/); break;
    }
}

void imv_kernel_to_floats(const uint64_t *integers, size_t count, uint64_t *restrict out) {
    for (size_t i = 0; i < count; i++) out[i] = imv_float_cell((double)(int64_t)integers[i]);
}

void imv_kernel_buckets(const uint64_t *times, size_t count, int64_t width, uint64_t *restrict out) {
    uint64_t start = 0, span = (uint64_t)width;
    bool known = false;
    for (size_t i = 0; i < count; i++) {
        /* In the bucket of the row before, or in the next one: no division. Differences wrap to large numbers when
         * times fall, and the bucket is found anew. */
        uint64_t distance = times[i] - start;
        if (!known || distance >= span) {
            bool next = known && distance - span < span && (int64_t)times[i] >= (int64_t)start;
            start = next ? start + span : (uint64_t)imv_time_bucket((int64_t)times[i], width, 0);
            known = true;
        }
        out[i] = start;
    }
}
