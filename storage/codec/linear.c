/* linear.c - LINEAR: the same step between all rows; regular timestamps and steady counters, in a few bytes.
 *
 *     first: zigzag varint | step: zigzag varint
 *
 * Modulo 2^64, so that any first and step will do.
 */
#include "storage/codec/codec.h"

static bool plan_linear(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    const uint64_t *cells = input->cells;
    if (input->count < 2) return false;
    uint64_t step = cells[1] - cells[0];
    for (size_t i = 2; i < input->count; i++)
        if (cells[i] - cells[i - 1] != step) return false;
    plan->bytes = imv_varint_bytes(imv_zigzag((int64_t)cells[0])) + imv_varint_bytes(imv_zigzag((int64_t)step));
    return true;
}

static uint8_t *encode_linear(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    (void)plan;
    to = imv_put_varint(to, imv_zigzag((int64_t)input->cells[0]));
    return imv_put_varint(to, imv_zigzag((int64_t)(input->cells[1] - input->cells[0])));
}

bool imv_linear_read(const uint8_t *from, const uint8_t *end, uint64_t *first, uint64_t *step) {
    uint64_t numbers[2] = {0};
    from = imv_get_varint(from, end, &numbers[0]);
    if (from == NULL || imv_get_varint(from, end, &numbers[1]) != end) return false;
    *first = (uint64_t)imv_unzigzag(numbers[0]);
    *step = (uint64_t)imv_unzigzag(numbers[1]);
    return true;
}

static bool decode_linear(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    (void)level;
    uint64_t first, step;
    if (!imv_linear_read(from, end, &first, &step)) return false;
    for (size_t i = 0; i < count; i++, first += step) cells[i] = first;
    return true;
}

const struct imv_codec imv_codec_linear = {
    .name = "LINEAR",
    .types = 1 << IMV_INTEGER | 1 << IMV_UINTEGER,
    .level_max = 2,
    .plan = plan_linear,
    .encode = encode_linear,
    .decode = decode_linear,
};
