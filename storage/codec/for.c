/* for.c - FOR, frame of reference: the cells as one packed block (bitpack.h). For what stays in a narrow range, and for
 * booleans, which take a bit each. Of floats it packs the bit patterns: those that were 32-bit floats share their low
 * zeros, which the block's step takes out.
 */
#include "storage/codec/codec.h"

/* Bit patterns of floats hardly ever pack into half of what they take. */
static bool plan_for(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    if (input->type == IMV_FLOAT && plan->bytes <= input->count * sizeof(float)) return false;
    imv_pack_plan(input->cells, input->count, input->type == IMV_UINTEGER, &plan->pack);
    plan->bytes = plan->pack.bytes;
    return true;
}

static uint8_t *encode_for(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    return imv_pack_write(input->cells, input->count, &plan->pack, to);
}

static bool decode_for(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    (void)level;
    return imv_pack_read(from, end, count, cells) == end;
}

const struct imv_codec imv_codec_for = {
    .name = "FOR",
    .types = 1 << IMV_FLOAT | 1 << IMV_INTEGER | 1 << IMV_UINTEGER | 1 << IMV_BOOLEAN,
    .level_max = 2,
    .plan = plan_for,
    .encode = encode_for,
    .decode = decode_for,
};
