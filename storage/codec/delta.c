/* delta.c - DELTA-FOR: the first cell, then the differences of neighbours as one packed block. For what moves in small
 * steps: counters, slow signals, timestamps with jitter.
 *
 *     first: zigzag varint | block of count - 1 differences (bitpack.h)
 */
#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

static bool plan_delta(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    if (input->count < 2) return false;
    uint64_t deltas[IMV_PACK_COUNT_MAX];
    imv_kernel_differences(input->cells, input->count, deltas);
    imv_pack_plan(deltas, input->count - 1, false, &plan->pack);
    plan->bytes = imv_varint_bytes(imv_zigzag((int64_t)input->cells[0])) + plan->pack.bytes;
    return true;
}

static uint8_t *encode_delta(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    uint64_t deltas[IMV_PACK_COUNT_MAX];
    imv_kernel_differences(input->cells, input->count, deltas);
    to = imv_put_varint(to, imv_zigzag((int64_t)input->cells[0]));
    return imv_pack_write(deltas, input->count - 1, &plan->pack, to);
}

static bool decode_delta(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    (void)level;
    uint64_t first = 0, deltas[IMV_PACK_COUNT_MAX];
    if (count < 2) return false;
    from = imv_get_varint(from, end, &first);
    if (from == NULL || imv_pack_read(from, end, count - 1, deltas) != end) return false;
    cells[0] = (uint64_t)imv_unzigzag(first);
    imv_kernel_prefix_sum(deltas, count - 1, cells[0], cells + 1);
    return true;
}

const struct imv_codec imv_codec_delta = {
    .name = "DELTA-FOR",
    .types = 1 << IMV_INTEGER | 1 << IMV_UINTEGER,
    .level_max = 2,
    .plan = plan_delta,
    .encode = encode_delta,
    .decode = decode_delta,
};
