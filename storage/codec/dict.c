/* dict.c - DICT: the distinct values once, and which of them each row has. For few values that lie far apart:
 * enumerations, set points, status words, converters of few bits.
 *
 *     distinct: varint | bytes of codes: varint | inner encoding of codes | inner encoding of the distinct values
 *
 * Values are in rising order (as signed integers): then they are close to each other, and codes move as values do, so
 * that both encode well.
 */
#include "storage/base/assert.h"
#include "storage/codec/codec.h"

#include <stdlib.h>

/* More than these make a dictionary that costs as much as what it saves, and looking for it costs time. */
enum { DISTINCT_MAX = 255, SLOTS_BITS = 10, SLOTS = 1 << SLOTS_BITS };

struct dictionary {
    size_t distinct;
    uint64_t values[DISTINCT_MAX];
    uint64_t codes[IMV_PACK_COUNT_MAX];
};

/* Codes in order of appearance; false when there are more than DISTINCT_MAX values. */
static bool find_distinct(const struct imv_codec_input *input, struct dictionary *dictionary) {
    uint8_t slots[SLOTS] = {0}; /* code + 1 */
    dictionary->distinct = 0;
    for (size_t i = 0; i < input->count; i++) {
        uint64_t cell = input->cells[i];
        size_t slot = (cell * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - SLOTS_BITS);
        while (slots[slot] != 0 && dictionary->values[slots[slot] - 1] != cell) slot = (slot + 1) % SLOTS;
        if (slots[slot] == 0) {
            if (dictionary->distinct == DISTINCT_MAX) return false;
            dictionary->values[dictionary->distinct++] = cell;
            slots[slot] = (uint8_t)dictionary->distinct;
        }
        dictionary->codes[i] = slots[slot] - 1U;
    }
    return true;
}

struct ranked {
    int64_t value;
    size_t code;
};

static int compare(const void *a, const void *b) {
    int64_t left = ((const struct ranked *)a)->value, right = ((const struct ranked *)b)->value;
    return (left > right) - (left < right);
}

static void sort(struct dictionary *dictionary, size_t count) {
    struct ranked ranked[DISTINCT_MAX];
    uint64_t rank_of[DISTINCT_MAX];
    for (size_t i = 0; i < dictionary->distinct; i++) ranked[i] = (struct ranked){(int64_t)dictionary->values[i], i};
    qsort(ranked, dictionary->distinct, sizeof *ranked, compare);
    for (size_t i = 0; i < dictionary->distinct; i++) {
        dictionary->values[i] = (uint64_t)ranked[i].value;
        rank_of[ranked[i].code] = i;
    }
    for (size_t i = 0; i < count; i++) dictionary->codes[i] = rank_of[dictionary->codes[i]];
}

static bool make(const struct imv_codec_input *input, struct dictionary *dictionary) {
    if (!find_distinct(input, dictionary) || dictionary->distinct > input->count / 2) return false;
    sort(dictionary, input->count);
    return true;
}

static struct imv_codec_input inner_codes(const struct imv_codec_input *input, const struct dictionary *dictionary) {
    return (struct imv_codec_input){
        .type = IMV_INTEGER, .cells = dictionary->codes, .count = input->count, .level = IMV_CODEC_LEVELS - 1};
}

static struct imv_codec_input inner_values(const struct imv_codec_input *input, const struct dictionary *dictionary) {
    return (struct imv_codec_input){
        .type = input->type, .cells = dictionary->values, .count = dictionary->distinct, .level = input->level + 1};
}

static bool plan_dict(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    struct dictionary dictionary;
    if (plan->bytes <= input->count) return false; /* below 8 bits a value there is little for codes to save */
    if (!make(input, &dictionary)) return false;
    struct imv_codec_input codes = inner_codes(input, &dictionary), values = inner_values(input, &dictionary);
    size_t codes_bytes = imv_codec_inner_bytes(&codes);
    plan->bytes = imv_varint_bytes(dictionary.distinct) + imv_varint_bytes(codes_bytes) + codes_bytes +
                  imv_codec_inner_bytes(&values);
    return true;
}

static uint8_t *encode_dict(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    (void)plan;
    struct dictionary dictionary;
    bool made = make(input, &dictionary);
    imv_assert(made);
    struct imv_codec_input codes = inner_codes(input, &dictionary), values = inner_values(input, &dictionary);
    to = imv_put_varint(to, dictionary.distinct);
    to = imv_put_varint(to, imv_codec_inner_bytes(&codes));
    to = imv_codec_inner_encode(&codes, to);
    return imv_codec_inner_encode(&values, to);
}

static bool decode_dict(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    uint64_t distinct, codes_bytes = 0, values[IMV_PACK_COUNT_MAX];
    from = imv_get_varint(from, end, &distinct);
    if (from == NULL || distinct == 0 || distinct > count) return false;
    from = imv_get_varint(from, end, &codes_bytes);
    if (from == NULL || codes_bytes > (size_t)(end - from)) return false;
    const uint8_t *codes_end = from + codes_bytes;
    if (!imv_codec_inner_decode(from, codes_end, IMV_CODEC_LEVELS - 1, count, cells)) return false;
    if (!imv_codec_inner_decode(codes_end, end, level + 1, distinct, values)) return false;
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
