/* raw.c - RAW: the cells as they are, 8 bytes each, little-endian. For what nothing else makes smaller. */
#include "storage/codec/codec.h"

static bool plan_raw(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    plan->bytes = input->count * sizeof *input->cells;
    return true;
}

static uint8_t *encode_raw(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    memcpy(to, input->cells, plan->bytes);
    return to + plan->bytes;
}

static bool decode_raw(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    (void)level;
    if ((size_t)(end - from) != count * sizeof *cells) return false;
    memcpy(cells, from, count * sizeof *cells);
    return true;
}

const struct imv_codec imv_codec_raw = {
    .name = "RAW",
    .types = 1 << IMV_FLOAT | 1 << IMV_INTEGER | 1 << IMV_UINTEGER | 1 << IMV_BOOLEAN,
    .level_max = 2,
    .plan = plan_raw,
    .encode = encode_raw,
    .decode = decode_raw,
};
