/* const.c - CONST: one value for all rows.
 *
 *     value: zigzag varint, or the 8 bytes of the cell where a varint would take 8 or more
 *
 * So an encoding of 8 bytes is always the latter.
 */
#include "storage/codec/codec.h"

enum { CELL_BYTES = 8 };

static bool plan_const(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    uint64_t changes = 0;
    for (size_t i = 1; i < input->count; i++) {
        changes |= input->cells[i] ^ input->cells[0];
        if (i % 16 == 0 && changes != 0) return false;
    }
    if (changes != 0) return false;
    size_t bytes = imv_varint_bytes(imv_zigzag((int64_t)input->cells[0]));
    plan->bytes = bytes < CELL_BYTES ? bytes : CELL_BYTES;
    return true;
}

static uint8_t *encode_const(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    if (plan->bytes < CELL_BYTES) return imv_put_varint(to, imv_zigzag((int64_t)input->cells[0]));
    imv_put_u64(to, input->cells[0]);
    return to + CELL_BYTES;
}

static bool decode_const(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    (void)level;
    uint64_t value = 0;
    if (end - from == CELL_BYTES) {
        value = imv_get_u64(from);
    } else {
        if (imv_get_varint(from, end, &value) != end) return false;
        value = (uint64_t)imv_unzigzag(value);
    }
    for (size_t i = 0; i < count; i++) cells[i] = value;
    return true;
}

const struct imv_codec imv_codec_const = {
    .name = "CONST",
    .types = 1 << IMV_FLOAT | 1 << IMV_INTEGER | 1 << IMV_UINTEGER | 1 << IMV_BOOLEAN,
    .level_max = 2,
    .plan = plan_const,
    .encode = encode_const,
    .decode = decode_const,
};
