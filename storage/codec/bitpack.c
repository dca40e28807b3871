#include "storage/codec/bitpack.h"

#include "storage/base/assert.h"
#include "storage/base/bytes.h"
#include "storage/codec/kernels.h"

enum { OPTIONS_FOLLOW = 0x80, OPTION_STEP = 1, OPTION_EXCEPTIONS = 2 };

/* Division by a divisor of all numbers that are asked: a shift and a multiplication with the inverse modulo 2^64. */
struct divisor {
    uint64_t step, odd, inverse, quotient_max;
    unsigned shift;
};

static struct divisor divisor_of(uint64_t step) {
    struct divisor divisor = {.step = step, .shift = (unsigned)__builtin_ctzll(step)};
    divisor.odd = step >> divisor.shift;
    /* Newton: an odd number is its own inverse modulo 8; every round doubles the bits. */
    uint64_t inverse = divisor.odd;
    for (int i = 0; i < 5; i++) inverse *= 2 - divisor.odd * inverse;
    divisor.inverse = inverse;
    divisor.quotient_max = UINT64_MAX / divisor.odd;
    return divisor;
}

static inline uint64_t divide(const struct divisor *divisor, uint64_t number) {
    return (number >> divisor->shift) * divisor->inverse;
}

static inline bool divides(const struct divisor *divisor, uint64_t number) {
    uint64_t low_bits = number & ((UINT64_C(1) << divisor->shift) - 1);
    return low_bits == 0 && divide(divisor, number) <= divisor->quotient_max;
}

static uint64_t gcd(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The greatest number that divides all distances from base; range is the widest of them, not 0. */
static struct divisor find_step(const uint64_t *values, size_t count, uint64_t base, uint64_t range) {
    struct divisor divisor = divisor_of(range);
    for (size_t i = 0; i < count && divisor.step > 1; i++) {
        uint64_t distance = values[i] - base;
        if (!divides(&divisor, distance)) divisor = divisor_of(gcd(divisor.step, distance));
    }
    return divisor;
}

static void find_range(const uint64_t *values, size_t count, bool is_unsigned, uint64_t *least, uint64_t *range) {
    /* Flipping the sign bit turns the unsigned order into the signed one, which SSE4.2 can compare. */
    uint64_t flip = is_unsigned ? UINT64_C(1) << 63 : 0;
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        int64_t value = (int64_t)(values[i] ^ flip);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    *least = (uint64_t)low ^ flip;
    *range = (uint64_t)high - (uint64_t)low;
}

static size_t plan_bytes(const struct imv_pack_plan *plan, size_t count) {
    size_t bytes = 1 + (plan->step > 1 || plan->exceptions > 0) + imv_varint_bytes(imv_zigzag((int64_t)plan->base)) +
                   imv_packed_bytes(count, plan->width);
    if (plan->step > 1) bytes += imv_varint_bytes(plan->step);
    if (plan->exceptions > 0)
        bytes += imv_varint_bytes(plan->exceptions) + 1 + imv_varint_bytes(plan->below) +
                 imv_packed_bytes(plan->exceptions, imv_bits_of(count - 1)) +
                 imv_packed_bytes(plan->exceptions, plan->exception_width);
    return bytes;
}

/* Buckets of the histogram in which windows are looked for: up to eight widths are tried in one pass over the values. */
enum { BUCKETS_BITS = 8, BUCKETS = 1 << BUCKETS_BITS };

struct window {
    uint64_t start;
    size_t inside; /* values in it */
};

/* sums[b]: values in the buckets before b. The fullest window of `span` buckets. */
static struct window fullest_window(const uint16_t *sums, unsigned buckets, unsigned span) {
    struct window best = {0};
    for (unsigned b = 0; b + span <= buckets; b++) {
        size_t inside = (size_t)(sums[b + span] - sums[b]);
        if (inside > best.inside) best = (struct window){b, inside};
    }
    return best;
}

static void count_buckets(const uint64_t *codes, size_t count, uint64_t low, unsigned shift, unsigned buckets,
                          uint16_t *sums) {
    uint16_t even[BUCKETS + 1] = {0}, odd[BUCKETS + 1] = {0}; /* two, as neighbours often meet in one bucket */
    for (size_t i = 0; i < count; i++) {
        uint64_t bucket = (codes[i] - low) >> shift;
        (i & 1 ? odd : even)[bucket < buckets ? bucket : BUCKETS]++;
    }
    sums[0] = 0;
    for (unsigned b = 0; b < buckets; b++) sums[b + 1] = (uint16_t)(sums[b] + even[b] + odd[b]);
}

/* Looks for the width and window whose codes and exceptions together are smallest: first among the eight widths below
 * the full one, then, inside the fullest bucket of these, among the next eight, as long as that can pay. */
static void find_exceptions(const uint64_t *codes, size_t count, uint64_t least, unsigned full_width,
                            struct imv_pack_plan *best) {
    uint64_t low = 0;
    for (unsigned top = full_width; top > 0;) {
        unsigned bits = top < BUCKETS_BITS ? top : BUCKETS_BITS, shift = top - bits;
        uint16_t sums[BUCKETS + 1];
        count_buckets(codes, count, low, shift, 1U << bits, sums);
        struct window window = {0};
        for (unsigned level = bits; level-- > 0;) {
            window = fullest_window(sums, 1U << bits, 1U << level);
            struct imv_pack_plan plan = *best;
            plan.width = level + shift;
            plan.below = low + (window.start << shift);
            plan.base = least + plan.below * plan.step;
            plan.exceptions = count - window.inside;
            plan.exception_width = full_width;
            plan.bytes = plan_bytes(&plan, count);
            if (plan.bytes < best->bytes) *best = plan;
        }
        size_t outside = count - window.inside;
        if (imv_packed_bytes(outside, full_width + imv_bits_of(count - 1)) >= best->bytes) return;
        low += window.start << shift;
        top = shift;
    }
}

void imv_pack_plan(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    uint64_t least, range;
    find_range(values, count, is_unsigned, &least, &range);
    *plan = (struct imv_pack_plan){.base = least, .step = 1};
    if (range > 0) {
        struct divisor divisor = find_step(values, count, least, range);
        uint64_t codes[IMV_PACK_COUNT_MAX];
        for (size_t i = 0; i < count; i++) codes[i] = divide(&divisor, values[i] - least);
        plan->step = divisor.step;
        plan->width = imv_bits_of(divide(&divisor, range));
        plan->bytes = plan_bytes(plan, count);
        find_exceptions(codes, count, least, plan->width, plan);
    }
    plan->bytes = plan_bytes(plan, count);
    imv_assert(plan->bytes <= IMV_PACK_BYTES_MAX);
}

/* ---- writing ---- */

uint8_t *imv_bits_write(const uint64_t *codes, size_t count, unsigned width, uint8_t *to) {
    uint64_t word = 0;
    unsigned used = 0; /* bits of word, below 64 */
    for (size_t i = 0; i < count; i++) {
        word |= codes[i] << used;
        used += width;
        if (used >= 64) {
            imv_put_u64(to, word);
            to += 8;
            used -= 64;
            /* The bits that did not fit; none when the code ended with the word (a shift by its width, maybe 64). */
            word = used == 0 ? 0 : codes[i] >> (width - used);
        }
    }
    for (; used > 0; used = used > 8 ? used - 8 : 0, word >>= 8) *to++ = (uint8_t)word;
    return to;
}

static uint8_t *write_exceptions(const uint64_t *codes, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    uint64_t positions[IMV_PACK_COUNT_MAX], outliers[IMV_PACK_COUNT_MAX];
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (imv_bits_of(codes[i]) <= plan->width) continue;
        positions[found] = i;
        outliers[found++] = codes[i] + plan->below;
    }
    imv_assert(found == plan->exceptions);
    to = imv_put_varint(to, found);
    *to++ = (uint8_t)plan->exception_width;
    to = imv_put_varint(to, plan->below);
    to = imv_bits_write(positions, found, imv_bits_of(count - 1), to);
    return imv_bits_write(outliers, found, plan->exception_width, to);
}

uint8_t *imv_pack_write(const uint64_t *values, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    uint8_t *start = to;
    unsigned options = (plan->step > 1 ? OPTION_STEP : 0) | (plan->exceptions > 0 ? OPTION_EXCEPTIONS : 0);
    *to++ = (uint8_t)(plan->width | (options ? OPTIONS_FOLLOW : 0));
    if (options) *to++ = (uint8_t)options;
    to = imv_put_varint(to, imv_zigzag((int64_t)plan->base));
    if (plan->step > 1) to = imv_put_varint(to, plan->step);
    if (plan->width > 0 || plan->exceptions > 0) {
        uint64_t codes[IMV_PACK_COUNT_MAX];
        struct divisor divisor = divisor_of(plan->step);
        /* From the least value, since what lies below the base is no multiple modulo 2^64. */
        uint64_t least = plan->base - plan->below * plan->step;
        for (size_t i = 0; i < count; i++) codes[i] = divide(&divisor, values[i] - least) - plan->below;
        if (plan->exceptions > 0) to = write_exceptions(codes, count, plan, to);
        uint64_t mask = plan->width == 64 ? UINT64_MAX : (UINT64_C(1) << plan->width) - 1;
        for (size_t i = 0; i < count; i++) codes[i] = codes[i] > mask ? 0 : codes[i];
        to = imv_bits_write(codes, count, plan->width, to);
    }
    imv_assert((size_t)(to - start) == plan->bytes);
    return to;
}

/* ---- reading ---- */

/* Unpacks count numbers that lie within [from, end). The kernel reads past its blocks: the last ones are read from a
 * copy. */
static void unpack(const uint8_t *from, const uint8_t *end, size_t count, unsigned width, uint64_t base,
                   uint64_t *out) {
    size_t bytes = imv_packed_bytes(count, width), readable = (size_t)(end - from);
    size_t blocks = (count + IMV_KERNEL_BLOCK_VALUES - 1) / IMV_KERNEL_BLOCK_VALUES, safe = blocks;
    if (width > 0 && readable < blocks * width + IMV_KERNEL_SLACK_BYTES)
        safe = readable < IMV_KERNEL_SLACK_BYTES ? 0 : (readable - IMV_KERNEL_SLACK_BYTES) / width;
    imv_kernel_unpack(from, safe, width, base, out);
    if (safe == blocks) return;
    uint8_t copy[2 * 64 + 2 * IMV_KERNEL_SLACK_BYTES] = {0};
    size_t rest = bytes - safe * width;
    imv_assert((blocks - safe) * width + IMV_KERNEL_SLACK_BYTES <= sizeof copy && rest <= sizeof copy);
    memcpy(copy, from + safe * width, rest);
    imv_kernel_unpack(copy, blocks - safe, width, base, out + safe * IMV_KERNEL_BLOCK_VALUES);
}

void imv_bits_read(const uint8_t *from, const uint8_t *end, size_t count, unsigned width, uint64_t *out) {
    unpack(from, end, count, width, 0, out);
}

struct exceptions {
    uint64_t count, below;
    unsigned width;
    const uint8_t *positions, *codes;
};

static const uint8_t *read_exceptions(const uint8_t *from, const uint8_t *end, size_t count,
                                      struct exceptions *exceptions) {
    from = imv_get_varint(from, end, &exceptions->count);
    if (from == NULL || exceptions->count == 0 || exceptions->count > count || from == end) return NULL;
    exceptions->width = *from++;
    if (exceptions->width > 64) return NULL;
    from = imv_get_varint(from, end, &exceptions->below);
    if (from == NULL) return NULL;
    size_t positions_bytes = imv_packed_bytes(exceptions->count, imv_bits_of(count - 1));
    size_t codes_bytes = imv_packed_bytes(exceptions->count, exceptions->width);
    if ((size_t)(end - from) < positions_bytes + codes_bytes) return NULL;
    exceptions->positions = from;
    exceptions->codes = from + positions_bytes;
    return from + positions_bytes + codes_bytes;
}

static bool patch(const struct exceptions *exceptions, const uint8_t *end, size_t count, uint64_t base, uint64_t step,
                  uint64_t *out) {
    uint64_t positions[IMV_PACK_COUNT_MAX], codes[IMV_PACK_COUNT_MAX];
    unpack(exceptions->positions, end, exceptions->count, imv_bits_of(count - 1), 0, positions);
    unpack(exceptions->codes, end, exceptions->count, exceptions->width, -exceptions->below, codes);
    for (size_t i = 0; i < exceptions->count; i++) {
        if (positions[i] >= count || (i > 0 && positions[i] <= positions[i - 1])) return false;
        out[positions[i]] = base + step * codes[i];
    }
    return true;
}

const uint8_t *imv_pack_read(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *out) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    if (from == end) return NULL;
    unsigned width = *from & ~(unsigned)OPTIONS_FOLLOW, options = 0;
    if (width > 64) return NULL;
    if (*from++ & OPTIONS_FOLLOW) {
        if (from == end) return NULL;
        options = *from++;
        if (options == 0 || (options & ~(unsigned)(OPTION_STEP | OPTION_EXCEPTIONS)) != 0) return NULL;
    }
    uint64_t base, step = 1;
    from = imv_get_varint(from, end, &base);
    if (from == NULL) return NULL;
    base = (uint64_t)imv_unzigzag(base);
    if (options & OPTION_STEP) from = imv_get_varint(from, end, &step);
    if (from == NULL) return NULL;
    struct exceptions exceptions = {0};
    if (options & OPTION_EXCEPTIONS) from = read_exceptions(from, end, count, &exceptions);
    if (from == NULL) return NULL;
    size_t bytes = imv_packed_bytes(count, width);
    if ((size_t)(end - from) < bytes) return NULL;
    unpack(from, end, count, width, step == 1 ? base : 0, out);
    if (step != 1) imv_kernel_scale(out, count, base, step);
    if (exceptions.count > 0 && !patch(&exceptions, end, count, base, step, out)) return NULL;
    return from + bytes;
}
