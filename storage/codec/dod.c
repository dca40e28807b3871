/* dod.c - DOD-FOR: the first cell, the first difference, then the differences of differences as one packed block. For
 * what changes its pace slowly: accelerating counters, smooth curves with many digits.
 *
 *     first: zigzag varint | first difference: zigzag varint | block of count - 2 differences of differences (bitpack.h)
 */
#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

static void second_differences(const uint64_t *cells, size_t count, uint64_t *dods) {
    for (size_t i = 2; i < count; i++) dods[i - 2] = cells[i] - 2 * cells[i - 1] + cells[i - 2];
}

/* The sum of the absolute values of a sample, cut at 2^48 each so that it cannot overflow. */
static uint64_t roughness(const uint64_t *values, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i += 1 + count / 128) {
        uint64_t size = (int64_t)values[i] < 0 ? -values[i] : values[i];
        sum += size < UINT64_C(1) << 48 ? size : UINT64_C(1) << 48;
    }
    return sum;
}

static bool plan_dod(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    size_t count = input->count;
    const uint64_t *cells = input->cells;
    if (count < 3) return false;
    uint64_t deltas[IMV_PACK_COUNT_MAX], dods[IMV_PACK_COUNT_MAX];
    for (size_t i = 1; i < count; i++) deltas[i - 1] = cells[i] - cells[i - 1] - (cells[1] - cells[0]);
    for (size_t i = 2; i < count; i++) dods[i - 2] = deltas[i - 1] - deltas[i - 2];
    /* Differencing noise makes it larger: then DELTA-FOR wins, and this plan need not be made. */
    if (roughness(dods, count - 2) > roughness(deltas, count - 1)) return false;
    imv_pack_plan(dods, count - 2, false, &plan->pack);
    plan->bytes = imv_varint_bytes(imv_zigzag((int64_t)cells[0])) +
                  imv_varint_bytes(imv_zigzag((int64_t)(cells[1] - cells[0]))) + plan->pack.bytes;
    return true;
}

static uint8_t *encode_dod(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    uint64_t dods[IMV_PACK_COUNT_MAX];
    second_differences(input->cells, input->count, dods);
    to = imv_put_varint(to, imv_zigzag((int64_t)input->cells[0]));
    to = imv_put_varint(to, imv_zigzag((int64_t)(input->cells[1] - input->cells[0])));
    return imv_pack_write(dods, input->count - 2, &plan->pack, to);
}

static bool decode_dod(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    (void)level;
    uint64_t first, step, dods[IMV_PACK_COUNT_MAX];
    if (count < 3) return false;
    from = imv_get_varint(from, end, &first);
    if (from != NULL) from = imv_get_varint(from, end, &step);
    if (from == NULL || imv_pack_read(from, end, count - 2, dods) != end) return false;
    cells[0] = (uint64_t)imv_unzigzag(first);
    uint64_t delta = (uint64_t)imv_unzigzag(step), deltas[IMV_PACK_COUNT_MAX];
    cells[1] = cells[0] + delta;
    imv_kernel_prefix_sum(dods, count - 2, delta, deltas);
    imv_kernel_prefix_sum(deltas, count - 2, cells[1], cells + 2);
    return true;
}

const struct imv_codec imv_codec_dod = {
    .name = "DOD-FOR",
    .types = 1 << IMV_INTEGER | 1 << IMV_UINTEGER,
    .level_max = 2,
    .plan = plan_dod,
    .encode = encode_dod,
    .decode = decode_dod,
};
