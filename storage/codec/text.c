/* text.c - TEXT and TEXT-DICT: strings one after the other, or each distinct string once.
 *
 *     TEXT       block of count lengths | bytes
 *     TEXT-DICT  distinct: varint | block of count codes | block of distinct lengths | bytes, in order of appearance
 *     bytes      u8: 0 as they are, 1 lz4 | up to the end; their size once unpacked is the sum of the lengths
 *
 * Blocks are those of bitpack.h. lz4 is kept when it saves a tenth: less is not worth the time to unpack.
 */
#include "storage/base/arena.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"
#include "storage/codec/codec.h"

#include <lz4.h>
#include <stdlib.h>

enum {
    BYTES_PLAIN = 0,
    BYTES_LZ4 = 1,
    LZ4_RATIO_MAX = 255, /* no lz4 block unpacks to more: a larger claim is not worth an allocation */
    SLOTS_BITS = 11,
    SLOTS = 1 << SLOTS_BITS, /* twice the strings of a vector */
    STRING_ALIGNMENT = 4,
};

/* ---- encoding ---- */

struct distinct {
    size_t count;
    uint64_t cells[IMV_PACK_COUNT_MAX]; /* in order of appearance */
    uint64_t codes[IMV_PACK_COUNT_MAX]; /* of each row */
};

static void find_distinct(const uint64_t *cells, size_t count, struct distinct *distinct) {
    uint16_t slots[SLOTS] = {0}; /* code + 1 */
    distinct->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct imv_str text = imv_cell_str(cells[i]);
        size_t slot = imv_hash64(text.data, text.size, 0) >> (64 - SLOTS_BITS);
        while (slots[slot] != 0 && !imv_str_equal(imv_cell_str(distinct->cells[slots[slot] - 1]), text))
            slot = (slot + 1) % SLOTS;
        if (slots[slot] == 0) {
            distinct->cells[distinct->count++] = cells[i];
            slots[slot] = (uint16_t)distinct->count;
        }
        distinct->codes[i] = slots[slot] - 1U;
    }
}

static size_t lengths_of(const uint64_t *cells, size_t count, uint64_t *lengths) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        lengths[i] = imv_cell_string(cells[i])->size;
        imv_assert(lengths[i] <= IMV_STRING_BYTES_MAX);
        sum += lengths[i];
    }
    return sum;
}

static imv_status no_room(const struct imv_buffer *out, size_t bytes, struct imv_error *err) {
    if (bytes > out->size_max || out->size > out->size_max - bytes)
        return imv_fail(err, IMV_FULL, "chunk: %zu bytes of strings do not fit a buffer of %zu", bytes, out->size_max);
    return imv_fail(err, IMV_NO_MEMORY, "chunk: no memory for %zu bytes of strings", bytes);
}

/* Writes the block at out's end. */
static imv_status append_block(const uint64_t *values, size_t count, struct imv_buffer *out, struct imv_error *err) {
    struct imv_pack_plan plan;
    imv_pack_plan(values, count, false, &plan);
    char *to = imv_buffer_reserve(out, plan.bytes);
    if (to == NULL) return no_room(out, plan.bytes, err);
    imv_pack_write(values, count, &plan, (uint8_t *)to);
    out->size += plan.bytes;
    return IMV_OK;
}

/* Packs the plain bytes that stand at `plain` of out, behind their kind byte, when that saves a tenth. */
static void squeeze(struct imv_buffer *out, size_t plain) {
    size_t size = out->size - plain, wanted = size - size / 10;
    if (size < 64) return; /* too short for a match to pay */
    char *packed = malloc(wanted);
    if (packed == NULL) return;
    int packed_size = LZ4_compress_default(out->data + plain, packed, (int)size, (int)wanted);
    if (packed_size > 0) {
        memcpy(out->data + plain, packed, (size_t)packed_size);
        out->size = plain + (size_t)packed_size;
        out->data[plain - 1] = BYTES_LZ4;
    }
    free(packed);
}

static imv_status append_bytes(const uint64_t *cells, size_t count, size_t bytes, struct imv_buffer *out,
                               struct imv_error *err) {
    if (imv_buffer_reserve(out, 1 + bytes) == NULL) return no_room(out, 1 + bytes, err);
    imv_buffer_append_char(out, BYTES_PLAIN);
    size_t plain = out->size;
    for (size_t i = 0; i < count; i++) imv_buffer_append_str(out, imv_cell_str(cells[i]));
    squeeze(out, plain);
    return IMV_OK;
}

static imv_status append_text(const uint64_t *cells, size_t count, struct imv_buffer *out, struct imv_error *err) {
    uint64_t lengths[IMV_PACK_COUNT_MAX];
    size_t bytes = lengths_of(cells, count, lengths);
    IMV_TRY(append_block(lengths, count, out, err));
    return append_bytes(cells, count, bytes, out, err);
}

imv_status imv_text_encode(const uint64_t *cells, size_t count, struct imv_buffer *out, imv_codec_id *codec,
                           struct imv_error *err) {
    struct distinct distinct;
    find_distinct(cells, count, &distinct);
    if (distinct.count > count / 2) {
        *codec = IMV_CODEC_TEXT;
        return append_text(cells, count, out, err);
    }
    *codec = IMV_CODEC_TEXT_DICT;
    uint8_t head[IMV_VARINT_BYTES_MAX];
    size_t head_bytes = (size_t)(imv_put_varint(head, distinct.count) - head);
    if (!imv_buffer_append(out, head, head_bytes)) return no_room(out, head_bytes, err);
    IMV_TRY(append_block(distinct.codes, count, out, err));
    return append_text(distinct.cells, distinct.count, out, err);
}

/* ---- decoding ---- */

static imv_status corrupt(struct imv_error *err, const char *what) {
    return imv_fail(err, IMV_CORRUPT, "chunk: strings with %s", what);
}

/* Brings the bytes to `to`, which has room for exactly size. */
static bool unpack_bytes(const uint8_t *from, const uint8_t *end, unsigned kind, char *to, size_t size) {
    size_t stored = (size_t)(end - from);
    if (kind == BYTES_LZ4) return LZ4_decompress_safe((const char *)from, to, (int)stored, (int)size) == (int)size;
    memcpy(to, from, size);
    return true;
}

/* Whether a size of bytes can come from what is stored, before anything is allocated for it. */
static bool is_plausible(size_t stored, unsigned kind, size_t size) {
    if (kind == BYTES_PLAIN) return stored == size;
    return kind == BYTES_LZ4 && stored < size && size / LZ4_RATIO_MAX <= stored;
}

static size_t string_bytes(uint64_t length) {
    return (sizeof(struct imv_string) + length + STRING_ALIGNMENT - 1) & ~(size_t)(STRING_ALIGNMENT - 1);
}

/* The strings go into one piece of the arena. Their bytes are first brought to the piece's end, then each moves down
 * behind its size: the heads still to be written always fit before the bytes still to be moved. */
static imv_status read_strings(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *cells,
                               struct imv_arena *arena, struct imv_error *err) {
    uint64_t lengths[IMV_PACK_COUNT_MAX];
    from = imv_pack_read(from, end, count, lengths);
    if (from == NULL || from == end) return corrupt(err, "bad lengths");
    unsigned kind = *from++;
    size_t bytes = 0, piece_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (lengths[i] > IMV_STRING_BYTES_MAX) return corrupt(err, "a length above the maximum");
        bytes += lengths[i];
        piece_bytes += string_bytes(lengths[i]);
    }
    if (!is_plausible((size_t)(end - from), kind, bytes))
        return corrupt(err, "lengths that are not those of the bytes");
    char *piece = imv_arena_alloc(arena, piece_bytes), *to = piece;
    if (piece == NULL) return imv_fail(err, IMV_NO_MEMORY, "chunk: no memory for %zu bytes of strings", piece_bytes);
    char *bytes_left = piece + piece_bytes - bytes;
    if (!unpack_bytes(from, end, kind, bytes_left, bytes)) return corrupt(err, "bytes that do not unpack");
    for (size_t i = 0; i < count; i++) {
        struct imv_string *string = (struct imv_string *)(void *)to;
        memmove(string->bytes, bytes_left, lengths[i]);
        string->size = (uint32_t)lengths[i];
        bytes_left += lengths[i];
        to += string_bytes(lengths[i]);
        cells[i] = imv_string_cell(string);
    }
    return IMV_OK;
}

static imv_status read_dict(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *cells,
                            struct imv_arena *arena, struct imv_error *err) {
    uint64_t distinct, strings[IMV_PACK_COUNT_MAX];
    from = imv_get_varint(from, end, &distinct);
    if (from == NULL || distinct == 0 || distinct > count) return corrupt(err, "a bad dictionary size");
    from = imv_pack_read(from, end, count, cells);
    if (from == NULL) return corrupt(err, "bad dictionary codes");
    for (size_t i = 0; i < count; i++)
        if (cells[i] >= distinct) return corrupt(err, "a code outside the dictionary");
    IMV_TRY(read_strings(from, end, distinct, strings, arena, err));
    for (size_t i = 0; i < count; i++) cells[i] = strings[cells[i]];
    return IMV_OK;
}

imv_status imv_text_decode(unsigned id, const uint8_t *from, const uint8_t *end, size_t count, uint64_t *cells,
                           struct imv_arena *arena, struct imv_error *err) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    if (id == IMV_CODEC_TEXT) return read_strings(from, end, count, cells, arena, err);
    if (id == IMV_CODEC_TEXT_DICT) return read_dict(from, end, count, cells, arena, err);
    return corrupt(err, "an unknown codec");
}
