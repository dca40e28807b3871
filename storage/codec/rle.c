/* rle.c - RLE: the values of runs, and how long each run is. For states, set points and signals sent on change.
 *
 *     runs: varint | block of run lengths less 1 (bitpack.h) | inner encoding of the runs' values
 */
#include "storage/base/assert.h"
#include "storage/codec/codec.h"

/* Runs shorter than two rows on average are not worth looking at: 0. Without branches, which noise would mislead. */
static size_t find_runs(const struct imv_codec_input *input, uint64_t *values, uint64_t *lengths) {
    const uint64_t *cells = input->cells;
    size_t count = input->count, changes = 0, runs = 0;
    for (size_t i = 1; i < count; i++) changes += cells[i] != cells[i - 1];
    if (changes + 1 > count / 2) return 0;
    uint64_t starts[IMV_PACK_COUNT_MAX / 2 + 1]; /* one more: a start is written before it is known to be one */
    for (size_t i = 0; i < count; i++) {
        starts[runs] = i;
        runs += i == 0 || cells[i] != cells[i - 1];
    }
    imv_assert(runs == changes + 1);
    for (size_t run = 0; run < runs; run++) {
        values[run] = cells[starts[run]];
        lengths[run] = (run + 1 < runs ? starts[run + 1] : count) - starts[run] - 1;
    }
    return runs;
}

static struct imv_codec_input inner(const struct imv_codec_input *input, const uint64_t *values, size_t runs) {
    return (struct imv_codec_input){.type = input->type, .cells = values, .count = runs, .level = input->level + 1};
}

static bool plan_rle(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    uint64_t values[IMV_PACK_COUNT_MAX / 2], lengths[IMV_PACK_COUNT_MAX / 2];
    size_t runs = find_runs(input, values, lengths);
    if (runs == 0) return false;
    imv_pack_plan(lengths, runs, false, &plan->pack);
    struct imv_codec_input runs_input = inner(input, values, runs);
    plan->bytes = imv_varint_bytes(runs) + plan->pack.bytes + imv_codec_inner_bytes(&runs_input);
    return true;
}

static uint8_t *encode_rle(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    uint64_t values[IMV_PACK_COUNT_MAX / 2], lengths[IMV_PACK_COUNT_MAX / 2];
    size_t runs = find_runs(input, values, lengths);
    to = imv_put_varint(to, runs);
    to = imv_pack_write(lengths, runs, &plan->pack, to);
    struct imv_codec_input runs_input = inner(input, values, runs);
    return imv_codec_inner_encode(&runs_input, to);
}

size_t imv_rle_read(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *values,
                    uint64_t *lengths) {
    uint64_t runs;
    from = imv_get_varint(from, end, &runs);
    if (from == NULL || runs == 0 || runs > count) return 0;
    from = imv_pack_read(from, end, runs, lengths);
    if (from == NULL || !imv_codec_inner_decode(from, end, level + 1, runs, values)) return 0;
    size_t filled = 0;
    for (size_t run = 0; run < runs; run++) {
        if (lengths[run] >= count - filled) return 0;
        filled += ++lengths[run];
    }
    return filled == count ? runs : 0;
}

static bool decode_rle(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    uint64_t values[IMV_PACK_COUNT_MAX], lengths[IMV_PACK_COUNT_MAX];
    size_t runs = imv_rle_read(from, end, level, count, values, lengths), filled = 0;
    for (size_t run = 0; run < runs; run++)
        for (size_t last = filled + lengths[run]; filled < last; filled++) cells[filled] = values[run];
    return runs > 0;
}

const struct imv_codec imv_codec_rle = {
    .name = "RLE",
    .types = 1 << IMV_FLOAT | 1 << IMV_INTEGER | 1 << IMV_UINTEGER | 1 << IMV_BOOLEAN,
    .level_max = 0,
    .plan = plan_rle,
    .encode = encode_rle,
    .decode = decode_rle,
};
