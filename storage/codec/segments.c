#include "storage/codec/segments.h"

#include "storage/base/assert.h"
#include "storage/codec/bitpack.h"
#include "storage/codec/kernels.h"

enum {
    BLOCK = 64,
    BLOCKS_MAX = IMV_PACK_COUNT_MAX / BLOCK,
    HEAD_BITS = 9 * 8, /* of a segment: its length, head, base and a few exceptions */
};

struct range {
    int64_t low, high;
};

static const struct range nothing = {INT64_MAX, INT64_MIN};

static struct range joined(struct range a, struct range b) {
    return (struct range){a.low < b.low ? a.low : b.low, a.high > b.high ? a.high : b.high};
}

static struct range with(struct range range, uint64_t value, uint64_t flip) {
    int64_t ordered = (int64_t)(value ^ flip);
    return joined(range, (struct range){ordered, ordered});
}

static size_t bits_of(struct range range, size_t count) {
    return count == 0 ? 0 : HEAD_BITS + count * imv_bits_of((uint64_t)range.high - (uint64_t)range.low);
}

static size_t find_blocks(const uint64_t *values, size_t count, uint64_t flip, struct range *ranges) {
    size_t blocks = (count + BLOCK - 1) / BLOCK;
    for (size_t block = 0; block < blocks; block++) {
        size_t size = count - block * BLOCK < BLOCK ? count - block * BLOCK : BLOCK;
        struct imv_kernel_integers found;
        imv_kernel_aggregate_integers(values + block * BLOCK, size, flip, &found);
        ranges[block] = (struct range){found.min, found.max};
    }
    return blocks;
}

static size_t end_of(size_t block, size_t count) { return (block + 1) * BLOCK < count ? (block + 1) * BLOCK : count; }

/* If even blocks on their own with hardly any heads take as much, nothing can be won. */
static bool may_pay(const struct range *ranges, size_t blocks, size_t count, size_t bits_max) {
    size_t bits = 2 * HEAD_BITS;
    for (size_t block = 0; block < blocks; block++)
        bits += bits_of(ranges[block], end_of(block, count) - block * BLOCK) - HEAD_BITS;
    return bits < bits_max;
}

/* The cheapest way to join the blocks into segments: its bits, and the first block of the segment that ends with
 * each. */
static size_t join_blocks(const struct range *ranges, size_t blocks, size_t count, uint8_t *first_of) {
    size_t least[BLOCKS_MAX + 1] = {0}; /* of the blocks before */
    for (size_t last = 0; last < blocks; last++) {
        struct range range = nothing;
        least[last + 1] = SIZE_MAX;
        for (size_t first = last + 1; first-- > 0;) {
            range = joined(range, ranges[first]);
            size_t bits = least[first] + bits_of(range, end_of(last, count) - first * BLOCK);
            if (bits >= least[last + 1]) continue;
            least[last + 1] = bits;
            first_of[last] = (uint8_t)first;
        }
    }
    return least[blocks];
}

/* The end between two segments, up to a block from where it is, that makes both smallest. */
static size_t best_end(const uint64_t *values, uint64_t flip, size_t start, size_t end, size_t next_end) {
    size_t from = end - start > BLOCK ? end - BLOCK : start + 1,
           to = next_end - end > BLOCK ? end + BLOCK : next_end - 1;
    struct range ahead[2 * BLOCK + 1], behind = nothing; /* ahead[i]: of from + i .. next_end */
    for (size_t i = next_end; i-- > from;) {
        behind = with(behind, values[i], flip);
        if (i <= to) ahead[i - from] = behind;
    }
    struct range range = nothing;
    for (size_t i = start; i < from; i++) range = with(range, values[i], flip);
    size_t best = end, least = SIZE_MAX;
    for (size_t i = from; i <= to; range = with(range, values[i], flip), i++) {
        size_t bits = bits_of(range, i - start) + bits_of(ahead[i - from], next_end - i);
        if (bits >= least) continue;
        least = bits;
        best = i;
    }
    return best;
}

size_t imv_segments_find(const uint64_t *values, size_t count, bool is_unsigned, size_t bytes,
                         uint16_t ends[IMV_SEGMENTS_MAX]) {
    struct range ranges[BLOCKS_MAX];
    uint8_t first_of[BLOCKS_MAX];
    uint64_t flip = is_unsigned ? UINT64_C(1) << 63 : 0;
    size_t bits_max = bytes * 8 - bytes / 8; /* a sixty-fourth less */
    if (count < 2 * BLOCK || bytes * 8 < 4 * HEAD_BITS) return 0;
    size_t blocks = find_blocks(values, count, flip, ranges);
    if (!may_pay(ranges, blocks, count, bits_max)) return 0;
    if (join_blocks(ranges, blocks, count, first_of) >= bits_max) return 0;
    size_t segments = 0, backwards[BLOCKS_MAX];
    for (size_t last = blocks; last-- > 0; last = first_of[last]) backwards[segments++] = end_of(last, count);
    if (segments < 2 || segments > IMV_SEGMENTS_MAX) return 0;
    for (size_t i = 0; i < segments; i++) ends[i] = (uint16_t)backwards[segments - 1 - i];
    for (size_t i = 0; i + 1 < segments; i++)
        ends[i] = (uint16_t)best_end(values, flip, i == 0 ? 0 : ends[i - 1], ends[i], ends[i + 1]);
    return segments;
}
