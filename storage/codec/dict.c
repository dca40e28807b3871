/* dict.c - DICT: the distinct values once, and which of them each row has. For few values that lie far apart: enumerations,
 * set points, status words.
 *
 *     distinct: varint | block of count codes (bitpack.h) | inner encoding of the distinct values in order of appearance
 */
#include "storage/codec/codec.h"

/* More than these make a dictionary that costs as much as what it saves, and looking for it costs time. */
enum { DISTINCT_MAX = 128, SLOTS_BITS = 9, SLOTS = 1 << SLOTS_BITS };

/* Returns how many distinct values there are, or 0 when more than DISTINCT_MAX. */
static size_t find_distinct(const struct imv_codec_input *input, uint64_t *values, uint64_t *codes) {
    uint8_t slots[SLOTS] = {0}; /* code + 1 */
    size_t distinct = 0;
    for (size_t i = 0; i < input->count; i++) {
        uint64_t cell = input->cells[i];
        size_t slot = (cell * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - SLOTS_BITS);
        while (slots[slot] != 0 && values[slots[slot] - 1] != cell) slot = (slot + 1) % SLOTS;
        if (slots[slot] == 0) {
            if (distinct == DISTINCT_MAX) return 0;
            values[distinct++] = cell;
            slots[slot] = (uint8_t)distinct;
        }
        codes[i] = slots[slot] - 1U;
    }
    return distinct;
}

static struct imv_codec_input inner(const struct imv_codec_input *input, const uint64_t *values, size_t distinct) {
    return (struct imv_codec_input){.type = input->type, .cells = values, .count = distinct, .level = input->level + 1};
}

static bool plan_dict(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    uint64_t values[DISTINCT_MAX], codes[IMV_PACK_COUNT_MAX];
    if (plan->bytes <= input->count) return false; /* below 8 bits a value there is little for codes to save */
    size_t distinct = find_distinct(input, values, codes);
    if (distinct == 0 || distinct > input->count / 2) return false;
    imv_pack_plan(codes, input->count, false, &plan->pack);
    struct imv_codec_input values_input = inner(input, values, distinct);
    plan->bytes = imv_varint_bytes(distinct) + plan->pack.bytes + imv_codec_inner_bytes(&values_input);
    return true;
}

static uint8_t *encode_dict(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    uint64_t values[DISTINCT_MAX], codes[IMV_PACK_COUNT_MAX];
    size_t distinct = find_distinct(input, values, codes);
    to = imv_put_varint(to, distinct);
    to = imv_pack_write(codes, input->count, &plan->pack, to);
    struct imv_codec_input values_input = inner(input, values, distinct);
    return imv_codec_inner_encode(&values_input, to);
}

static bool decode_dict(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    uint64_t distinct, values[IMV_PACK_COUNT_MAX];
    from = imv_get_varint(from, end, &distinct);
    if (from == NULL || distinct == 0 || distinct > count) return false;
    from = imv_pack_read(from, end, count, cells);
    if (from == NULL || !imv_codec_inner_decode(from, end, level + 1, distinct, values)) return false;
    for (size_t i = 0; i < count; i++) {
        if (cells[i] >= distinct) return false;
        cells[i] = values[cells[i]];
    }
    return true;
}

const struct imv_codec imv_codec_dict = {
    .name = "DICT",
    .types = 1 << IMV_FLOAT | 1 << IMV_INTEGER | 1 << IMV_UINTEGER,
    .level_max = 0,
    .plan = plan_dict,
    .encode = encode_dict,
    .decode = decode_dict,
};
