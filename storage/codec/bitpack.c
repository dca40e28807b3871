#include "storage/codec/bitpack.h"

#include "storage/base/assert.h"
#include "storage/base/bytes.h"
#include "storage/codec/bell.h"
#include "storage/codec/kernels.h"

enum {
    BASE_ALIGNED_WIDTH_MIN = 8,
    BASE_ALIGNED_BITS = 4,
    OPTIONS_FOLLOW = 0x80,
    OPTION_STEP = 1,
    OPTION_EXCEPTIONS = 2,
    OPTION_TERNARY = 4,
    OPTION_QUINARY = 8,
    OPTION_SEGMENTS = 16, /* alone */
    OPTION_BELL = 32,
    SEGMENTS_MIN = 2,
    STEP_RANGE_MIN = 1 << 10, /* of a plain plan: narrower ones are small anyway */
};

/* How digits of a radix are grouped into numbers of so many bits. */
struct grouping {
    unsigned digits, bits;
};

static struct grouping grouping_of(unsigned radix) {
    return radix == 3 ? (struct grouping){IMV_KERNEL_TERNARY_DIGITS, IMV_KERNEL_TERNARY_BITS}
                      : (struct grouping){IMV_KERNEL_QUINARY_DIGITS, IMV_KERNEL_QUINARY_BITS};
}

/* Not of a bell, whose size depends on the digits. */
static size_t digits_bytes(size_t count, unsigned radix) {
    if (radix == 1) return 0;
    struct grouping grouping = grouping_of(radix);
    return imv_packed_bytes((count + grouping.digits - 1) / grouping.digits, grouping.bits);
}

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
    uint64_t flip = is_unsigned ? UINT64_C(1) << 63 : 0;
    struct imv_kernel_integers found;
    imv_kernel_aggregate_integers(values, count, flip, &found);
    *least = (uint64_t)found.min ^ flip;
    *range = (uint64_t)found.max - (uint64_t)found.min;
}

/* Distances from the least value in steps. */
static void find_offsets(const uint64_t *values, size_t count, uint64_t least, const struct divisor *divisor,
                         uint64_t *offsets) {
    if (divisor->step == 1)
        for (size_t i = 0; i < count; i++) offsets[i] = values[i] - least;
    else
        for (size_t i = 0; i < count; i++) offsets[i] = divide(divisor, values[i] - least);
}

/* How many low bits of a base are 0 and not stored: a bell's window may as well start a sixteenth of a digit earlier,
 * and bit patterns of doubles have long bases. */
static unsigned base_shift(unsigned radix, uint64_t step, unsigned width) {
    return radix == IMV_BELL_DIGITS && step == 1 && width >= BASE_ALIGNED_WIDTH_MIN ? width - BASE_ALIGNED_BITS : 0;
}

static uint64_t stored_base(const struct imv_pack_plan *plan) {
    return imv_zigzag((int64_t)plan->base >> base_shift(plan->radix, plan->step, plan->width));
}

static size_t plan_bytes(const struct imv_pack_plan *plan, size_t count) {
    bool options = plan->step > 1 || plan->exceptions > 0 || plan->radix > 1;
    size_t bytes = 1 + options + imv_varint_bytes(stored_base(plan)) + imv_packed_bytes(count, plan->width);
    bytes += plan->radix == IMV_BELL_DIGITS ? imv_bell_bytes(plan->bell_bits) : digits_bytes(count, plan->radix);
    if (plan->step > 1) bytes += imv_varint_bytes(plan->step);
    if (plan->exceptions > 0)
        bytes += imv_varint_bytes(plan->exceptions) + 1 + imv_varint_bytes(plan->below) +
                 imv_packed_bytes(plan->exceptions, imv_bits_of(count - 1)) +
                 imv_packed_bytes(plan->exceptions, plan->exception_width);
    return bytes;
}

/* What a plan costs to keep and to decode: digits weigh a sixteenth more than they take, those of a bell a tenth
 * of their bits. */
static size_t weight_of(const struct imv_pack_plan *plan) {
    if (plan->radix == 1) return plan->bytes * 16;
    return plan->radix == IMV_BELL_DIGITS ? plan->bytes * 16 + plan->bell_bits / 5 : plan->bytes * 17;
}

/* Completes the candidate's size and tells whether it is better. */
static bool is_better(struct imv_pack_plan *candidate, size_t count, const struct imv_pack_plan *best) {
    candidate->bytes = plan_bytes(candidate, count);
    return weight_of(candidate) < weight_of(best);
}

/* Fewer values do not earn the head of a bell. A window that starts below the least value must not wrap around. */
enum { BELL_COUNT_MIN = 64, BELL_WIDTH_MAX = 60 };

/* Buckets of the histogram in which windows are looked for: up to eight widths are tried in one pass over the
 * values. */
enum { BUCKETS_BITS = 8, BUCKETS = 1 << BUCKETS_BITS };

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

/* sums[b]: values in the buckets before b. How many values the fullest window of `span` buckets holds. */
static unsigned fullest(const uint16_t *sums, unsigned buckets, unsigned span) {
    uint16_t most = 0;
    for (unsigned b = 0; b + span <= buckets; b++) {
        uint16_t inside = (uint16_t)(sums[b + span] - sums[b]);
        most = inside > most ? inside : most;
    }
    return most;
}

static unsigned find_window(const uint16_t *sums, unsigned span, unsigned inside) {
    unsigned b = 0;
    while ((unsigned)(sums[b + span] - sums[b]) != inside) b++;
    return b;
}

/* The codes in question: offsets in steps from the least value, the greatest of them full_width bits wide. */
struct codes {
    const uint64_t *codes;
    size_t count;
    uint64_t least, step;
    unsigned full_width;
};

/* Considers the fullest windows of radix << 0, 1, .. buckets; a bucket holds 1 << shift codes from low on. */
static void try_windows(const struct codes *codes, const uint16_t *sums, unsigned bits, uint64_t low, unsigned shift,
                        unsigned radix, struct imv_pack_plan *best) {
    for (unsigned level = 0; radix << level <= 1U << bits; level++) {
        unsigned span = radix << level, inside = fullest(sums, 1U << bits, span);
        struct imv_pack_plan plan = {.step = codes->step, .radix = radix, .width = level + shift};
        plan.exceptions = codes->count - inside;
        plan.exception_width = codes->full_width;
        /* With the smallest base there is; where the window lies is looked up only when it can be better. */
        if (!is_better(&plan, codes->count, best)) continue;
        plan.below = low + ((uint64_t)find_window(sums, span, inside) << shift);
        plan.base = codes->least + plan.below * codes->step;
        if (is_better(&plan, codes->count, best)) *best = plan;
    }
}

/* How many values have each digit in the window of 16 << level buckets around the median; those outside, which become
 * exceptions, are given the digit in the middle. Returns how many these are. */
static unsigned count_digits(const uint16_t *sums, unsigned buckets, int64_t start, unsigned level,
                             uint16_t counts[IMV_BELL_DIGITS]) {
    unsigned inside = 0;
    for (int64_t digit = 0; digit < IMV_BELL_DIGITS; digit++) {
        int64_t from = start + (digit << level), to = start + ((digit + 1) << level);
        from = from < 0 ? 0 : from > buckets ? buckets : from;
        to = to < 0 ? 0 : to > buckets ? buckets : to;
        counts[digit] = (uint16_t)(sums[to] - sums[from]);
        inside += counts[digit];
    }
    return inside;
}

/* Considers windows around the median whose digits have a prefix code: see bell.h. A window may start below the least
 * value; then there is nothing below it. */
static void try_bells(const struct codes *codes, const uint16_t *sums, unsigned bits, uint64_t low, unsigned shift,
                      struct imv_pack_plan *best) {
    unsigned buckets = 1U << bits, median = 0;
    bool is_all = sums[buckets] == codes->count;
    if (codes->count < BELL_COUNT_MIN || codes->full_width + imv_bits_of(codes->step) > BELL_WIDTH_MAX) return;
    while (sums[median + 1] < sums[buckets] / 2) median++;
    for (unsigned level = bits > 3 ? bits - 3 : 0;; level--) {
        int64_t start = (int64_t)median - ((int64_t)IMV_BELL_CENTER << level) - (level > 0 ? 1 << (level - 1) : 0);
        uint16_t counts[IMV_BELL_DIGITS];
        /* Where buckets are only a part of all, what lies beside them is not counted. */
        bool is_counted = is_all || (start >= 0 && start + (IMV_BELL_DIGITS << level) <= buckets);
        unsigned inside = count_digits(sums, buckets, start, level, counts);
        if (inside < codes->count - codes->count / 8) return;
        int64_t below = (int64_t)low + start * ((int64_t)1 << shift);
        struct imv_pack_plan plan = {.step = codes->step, .radix = IMV_BELL_DIGITS, .width = level + shift};
        plan.below = below < 0 ? 0 : (uint64_t)below;
        plan.base = codes->least + (uint64_t)below * codes->step;
        plan.exceptions = codes->count - inside;
        plan.exception_width = codes->full_width + (below < 0 ? 1 : 0);
        counts[IMV_BELL_CENTER] = (uint16_t)(counts[IMV_BELL_CENTER] + plan.exceptions);
        plan.bell_bits = imv_bell_choose(counts, &plan.bell);
        if (is_counted && is_better(&plan, codes->count, best)) *best = plan;
        if (level == 0) return;
    }
}

/* Narrows low and *top, the bits of codes above low, to the codes that are in the bucket at low. */
static void zoom(const struct codes *codes, unsigned shift, uint64_t *low, unsigned *top) {
    uint64_t least = UINT64_MAX, greatest = 0;
    for (size_t i = 0; i < codes->count; i++) {
        uint64_t offset = codes->codes[i] - *low;
        if (offset >> shift != 0) continue;
        least = offset < least ? offset : least;
        greatest = offset > greatest ? offset : greatest;
    }
    *low += least;
    *top = imv_bits_of(greatest - least);
}

/* Looks for the width and window whose codes and exceptions together are smallest: first among the eight widths below
 * the full one, then, inside the fullest bucket of these, again, as long as that can pay. */
static void find_exceptions(const struct codes *codes, struct imv_pack_plan *best) {
    /* Count, width, below, a position and a code take a byte each at least: a few values cannot earn that. */
    enum { EXCEPTIONS_BYTES_MIN = 5 };
    if (imv_packed_bytes(codes->count, codes->full_width) <= EXCEPTIONS_BYTES_MIN) return;
    uint64_t low = 0;
    for (unsigned top = codes->full_width;;) {
        unsigned bits = top == 0 ? 1 : top < BUCKETS_BITS ? top : BUCKETS_BITS, shift = top > bits ? top - bits : 0;
        uint16_t sums[BUCKETS + 1];
        count_buckets(codes->codes, codes->count, low, shift, 1U << bits, sums);
        for (unsigned radix = 1; radix <= 5; radix += 2) try_windows(codes, sums, bits, low, shift, radix, best);
        try_bells(codes, sums, bits, low, shift, best);
        if (shift == 0) return;
        unsigned inside = fullest(sums, 1U << bits, 1);
        size_t outside = codes->count - inside;
        if (imv_packed_bytes(outside, codes->full_width + imv_bits_of(codes->count - 1)) >= best->bytes) return;
        low += (uint64_t)find_window(sums, 1, inside) << shift;
        zoom(codes, shift, &low, &top);
    }
}

/* Plans without exceptions: the whole range in bits, or in a digit and bits. */
static void plan_whole(const struct codes *codes, uint64_t greatest, struct imv_pack_plan *best) {
    *best = (struct imv_pack_plan){.base = codes->least, .step = codes->step, .radix = 1, .width = codes->full_width};
    best->bytes = plan_bytes(best, codes->count);
    for (unsigned radix = 3; radix <= 5; radix += 2) {
        unsigned width = 0;
        while (greatest >> width >= radix) width++;
        struct imv_pack_plan plan = {.base = codes->least, .step = codes->step, .radix = radix, .width = width};
        if (is_better(&plan, codes->count, best)) *best = plan;
    }
}

/* Moves the start of a bell's window down to where base_shift wants it, and counts its digits exactly. */
static void align_bell(const struct codes *codes, uint64_t greatest, struct imv_pack_plan *plan) {
    unsigned shift = base_shift(plan->radix, plan->step, plan->width);
    if (shift == 0) return;
    plan->base = plan->base >> shift << shift;
    int64_t below = (int64_t)(plan->base - codes->least);
    plan->below = below < 0 ? 0 : (uint64_t)below;
    plan->exception_width = imv_bits_of(below < 0 ? greatest - (uint64_t)below : greatest);
    uint16_t counts[IMV_BELL_DIGITS] = {0};
    size_t outside = 0;
    for (size_t i = 0; i < codes->count; i++) {
        uint64_t digit = (codes->codes[i] - (uint64_t)below) >> plan->width;
        outside += digit >= IMV_BELL_DIGITS;
        counts[digit < IMV_BELL_DIGITS ? digit : IMV_BELL_CENTER]++;
    }
    plan->exceptions = outside;
    plan->bell_bits = imv_bell_choose(counts, &plan->bell);
    plan->bytes = plan_bytes(plan, codes->count);
}

/* A block of one segment. */
static void plan_segment(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan) {
    uint64_t least, range, offsets[IMV_PACK_COUNT_MAX];
    find_range(values, count, is_unsigned, &least, &range);
    if (range == 0) {
        *plan = (struct imv_pack_plan){.base = least, .step = 1, .radix = 1};
        plan->bytes = plan_bytes(plan, count);
        return;
    }
    struct divisor divisor = find_step(values, count, least, range);
    find_offsets(values, count, least, &divisor, offsets);
    uint64_t greatest = divide(&divisor, range);
    struct codes codes = {offsets, count, least, divisor.step, imv_bits_of(greatest)};
    plan_whole(&codes, greatest, plan);
    find_exceptions(&codes, plan);
    if (plan->radix == IMV_BELL_DIGITS) align_bell(&codes, greatest, plan);
}

/* Replaces the plan by one of several segments when that is smaller. */
static void plan_segments(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan) {
    struct imv_pack_plan parts = {.is_unsigned = is_unsigned, .bytes = 3}, part;
    parts.segments = imv_segments_find(values, count, is_unsigned, plan->bytes, parts.ends);
    for (size_t i = 0, start = 0; i < parts.segments; start = parts.ends[i++]) {
        size_t size = parts.ends[i] - start;
        plan_segment(values + start, size, is_unsigned, &part);
        parts.bytes += part.bytes + (i + 1 < parts.segments ? imv_varint_bytes(size) : 0);
    }
    if (parts.segments > 0 && parts.bytes < plan->bytes) *plan = parts;
}

void imv_pack_plan_plain(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    uint64_t flip = is_unsigned ? UINT64_C(1) << 63 : 0;
    int64_t least = (int64_t)(values[0] ^ flip), greatest = least;
    for (size_t i = 1; i < count; i++) {
        int64_t value = (int64_t)(values[i] ^ flip);
        least = value < least ? value : least;
        greatest = value > greatest ? value : greatest;
    }
    *plan = (struct imv_pack_plan){.base = (uint64_t)least ^ flip, .step = 1, .radix = 1};
    uint64_t range = (uint64_t)greatest - (uint64_t)least;
    if (range >= STEP_RANGE_MIN) {
        struct divisor divisor = find_step(values, count, plan->base, range);
        plan->step = divisor.step;
        range = divide(&divisor, range);
    }
    plan->width = imv_bits_of(range);
    plan->bytes = plan_bytes(plan, count);
}

void imv_pack_plan(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    plan_segment(values, count, is_unsigned, plan);
    plan_segments(values, count, is_unsigned, plan);
    imv_assert(plan->bytes <= IMV_PACK_BYTES_MAX);
}

/* ---- writing ---- */

uint8_t *imv_bits_write(const uint64_t *codes, size_t count, unsigned width, uint8_t *to) {
    uint64_t word = 0;
    unsigned used = 0; /* bits of word, below 64 */
    if (width == 0) return to;
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
        if (codes[i] >> plan->width < plan->radix) continue;
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

/* Writes the codes' digits and leaves their low bits in place. */
static uint8_t *write_digits(const uint64_t *codes, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    struct grouping grouping = grouping_of(plan->radix);
    uint64_t groups[IMV_PACK_COUNT_MAX / IMV_KERNEL_QUINARY_DIGITS + 1] = {0};
    size_t groups_count = 0;
    for (size_t first = 0; first < count; first += grouping.digits, groups_count++) {
        size_t end = first + grouping.digits < count ? first + grouping.digits : count;
        for (size_t i = end; i-- > first;)
            groups[groups_count] = groups[groups_count] * plan->radix + (codes[i] >> plan->width);
    }
    return imv_bits_write(groups, groups_count, grouping.bits, to);
}

static uint8_t *write_bell(const uint64_t *codes, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    uint8_t digits[IMV_PACK_COUNT_MAX];
    for (size_t i = 0; i < count; i++) digits[i] = (uint8_t)(codes[i] >> plan->width);
    return imv_bell_write(digits, count, plan->bell, to);
}

/* Writes the codes, those of exceptions as 0 or in the middle of a bell. */
static uint8_t *write_codes(uint64_t *codes, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    if (plan->exceptions > 0) to = write_exceptions(codes, count, plan, to);
    uint64_t low_bits[IMV_PACK_COUNT_MAX], mask = (UINT64_C(1) << plan->width) - 1;
    bool is_bell = plan->radix == IMV_BELL_DIGITS;
    uint64_t stand_in = is_bell ? (uint64_t)IMV_BELL_CENTER << plan->width : 0;
    for (size_t i = 0; i < count; i++) {
        codes[i] = codes[i] >> plan->width < plan->radix ? codes[i] : stand_in;
        low_bits[i] = codes[i] & mask;
    }
    to = imv_bits_write(low_bits, count, plan->width, to);
    if (is_bell) return write_bell(codes, count, plan, to);
    return plan->radix > 1 ? write_digits(codes, count, plan, to) : to;
}

static unsigned options_of(const struct imv_pack_plan *plan) {
    return (plan->step > 1 ? OPTION_STEP : 0) | (plan->exceptions > 0 ? OPTION_EXCEPTIONS : 0) |
           (plan->radix == 3 ? OPTION_TERNARY : 0) | (plan->radix == 5 ? OPTION_QUINARY : 0) |
           (plan->radix == IMV_BELL_DIGITS ? OPTION_BELL : 0);
}

static uint8_t *write_segment(const uint64_t *values, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    unsigned options = options_of(plan);
    *to++ = (uint8_t)(plan->width | (options ? OPTIONS_FOLLOW : 0));
    if (options) *to++ = (uint8_t)options;
    to = imv_put_varint(to, stored_base(plan));
    if (plan->step > 1) to = imv_put_varint(to, plan->step);
    uint64_t codes[IMV_PACK_COUNT_MAX];
    struct divisor divisor = divisor_of(plan->step);
    /* From the least value, since what lies below the base is no multiple modulo 2^64. */
    uint64_t least = plan->base - plan->below * plan->step;
    find_offsets(values, count, least, &divisor, codes);
    for (size_t i = 0; i < count && plan->below != 0; i++) codes[i] -= plan->below;
    if (plan->radix == 1 && plan->exceptions == 0) return imv_bits_write(codes, count, plan->width, to);
    return write_codes(codes, count, plan, to);
}

/* The plans of segments are made again: keeping them would make every plan many times as large. */
static uint8_t *write_segments(const uint64_t *values, const struct imv_pack_plan *plan, uint8_t *to) {
    *to++ = OPTIONS_FOLLOW;
    *to++ = OPTION_SEGMENTS;
    *to++ = (uint8_t)(plan->segments - SEGMENTS_MIN);
    for (size_t i = 0, start = 0; i + 1 < plan->segments; start = plan->ends[i++])
        to = imv_put_varint(to, plan->ends[i] - start);
    for (size_t i = 0, start = 0; i < plan->segments; start = plan->ends[i++]) {
        struct imv_pack_plan part;
        plan_segment(values + start, plan->ends[i] - start, plan->is_unsigned, &part);
        to = write_segment(values + start, plan->ends[i] - start, &part, to);
    }
    return to;
}

uint8_t *imv_pack_write(const uint64_t *values, size_t count, const struct imv_pack_plan *plan, uint8_t *to) {
    uint8_t *start = to;
    to = plan->segments > 0 ? write_segments(values, plan, to) : write_segment(values, count, plan, to);
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

/* Adds the digits above the low bits, of which out holds the codes. */
static void read_digits(const uint8_t *from, const uint8_t *end, size_t count, unsigned radix, unsigned width,
                        uint64_t *out) {
    /* The kernel reads and writes whole steps: both sides are buffers with room. */
    uint8_t packed[IMV_PACK_COUNT_MAX / 8 * 3 + IMV_KERNEL_SLACK_BYTES] = {0};
    uint8_t digits[IMV_PACK_COUNT_MAX + IMV_KERNEL_DIGITS_SLACK];
    imv_assert((size_t)(end - from) <= sizeof packed - IMV_KERNEL_SLACK_BYTES);
    memcpy(packed, from, (size_t)(end - from));
    imv_kernel_digits(packed, count, radix, digits);
    imv_kernel_add_digits(digits, count, width, out);
}

static const uint8_t *read_bell(const uint8_t *from, const uint8_t *end, size_t count, unsigned width, uint64_t *out) {
    uint8_t digits[IMV_BELL_STREAMS * IMV_BELL_STRIDE];
    size_t quarter = imv_bell_quarter(count);
    from = imv_bell_read(from, end, count, digits);
    for (size_t i = 0; i < IMV_BELL_STREAMS && i * quarter < count && from != NULL; i++) {
        size_t left = count - i * quarter;
        imv_kernel_add_digits(digits + i * IMV_BELL_STRIDE, left < quarter ? left : quarter, width, out + i * quarter);
    }
    return from;
}

struct head {
    unsigned width, radix;
    uint64_t base, step;
    struct exceptions exceptions;
};

static const uint8_t *read_head(const uint8_t *from, const uint8_t *end, size_t count, struct head *head) {
    unsigned options = 0;
    *head = (struct head){.step = 1, .radix = 1};
    if (from == end) return NULL;
    head->width = *from & ~(unsigned)OPTIONS_FOLLOW;
    if (head->width > 64) return NULL;
    if (*from++ & OPTIONS_FOLLOW) {
        if (from == end) return NULL;
        options = *from++;
        unsigned digits = options & ~(unsigned)(OPTION_STEP | OPTION_EXCEPTIONS);
        if (options == 0) return NULL;
        head->radix = digits == 0                ? 1
                      : digits == OPTION_TERNARY ? 3
                      : digits == OPTION_QUINARY ? 5
                      : digits == OPTION_BELL    ? IMV_BELL_DIGITS
                                                 : 0;
        if (head->radix == 0 || (head->radix > 1 && head->width > 60)) return NULL;
    }
    uint64_t base;
    from = imv_get_varint(from, end, &base);
    if (from == NULL) return NULL;
    head->base = (uint64_t)imv_unzigzag(base);
    if (options & OPTION_STEP) from = imv_get_varint(from, end, &head->step);
    if (from == NULL) return NULL;
    head->base <<= base_shift(head->radix, head->step, head->width);
    return options & OPTION_EXCEPTIONS ? read_exceptions(from, end, count, &head->exceptions) : from;
}

static const uint8_t *read_segment(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *out) {
    struct head head;
    from = read_head(from, end, count, &head);
    if (from == NULL) return NULL;
    bool is_bell = head.radix == IMV_BELL_DIGITS;
    size_t low_bytes = imv_packed_bytes(count, head.width), high_bytes = is_bell ? 0 : digits_bytes(count, head.radix);
    if ((size_t)(end - from) < low_bytes + high_bytes) return NULL;
    const uint8_t *digits = from + low_bytes, *after = digits + high_bytes;
    /* Digits are added before the step is multiplied in; the base can go in first when there is none. */
    unpack(from, end, count, head.width, head.step == 1 ? head.base : 0, out);
    if (is_bell) after = read_bell(digits, end, count, head.width, out);
    if (after == NULL) return NULL;
    if (head.radix > 1 && !is_bell) read_digits(digits, after, count, head.radix, head.width, out);
    bool is_narrow = head.step <= UINT32_MAX && head.width + (head.radix > 1 ? 4 : 0) <= 32;
    if (head.step != 1) imv_kernel_scale(out, count, head.base, head.step, is_narrow);
    if (head.exceptions.count > 0 && !patch(&head.exceptions, end, count, head.base, head.step, out)) return NULL;
    return after;
}

/* Through a buffer, as kernels write behind the last value, and segments end anywhere. */
static const uint8_t *read_segments(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *out) {
    uint64_t sizes[IMV_SEGMENTS_MAX] = {0}, values[IMV_PACK_COUNT_MAX];
    if (from == end || *from > IMV_SEGMENTS_MAX - SEGMENTS_MIN) return NULL;
    size_t segments = *from++ + SEGMENTS_MIN, left = count;
    for (size_t i = 0; i + 1 < segments; i++) {
        from = imv_get_varint(from, end, &sizes[i]);
        if (from == NULL || sizes[i] == 0 || sizes[i] >= left) return NULL;
        left -= sizes[i];
    }
    sizes[segments - 1] = left;
    for (size_t i = 0; i < segments; out += sizes[i++]) {
        from = read_segment(from, end, sizes[i], values);
        if (from == NULL) return NULL;
        memcpy(out, values, sizes[i] * sizeof *values);
    }
    return from;
}

const uint8_t *imv_pack_read(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *out) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    if (end - from > 2 && from[0] == OPTIONS_FOLLOW && from[1] == OPTION_SEGMENTS)
        return read_segments(from + 2, end, count, out);
    return read_segment(from, end, count, out);
}
