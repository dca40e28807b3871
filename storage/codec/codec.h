/* codec.h - how the values of one column in one vector become few bytes: the contract of all codecs, and their table.
 *
 * A codec turns 1..IMV_PACK_COUNT_MAX cells (rows without a value are left out before) into bytes and back, bit for
 * bit. Its plan tells the exact size beforehand, by arithmetic, so that imv_codec_choose takes the smallest without
 * trying them out; on a tie the earlier row of the table wins, which is the one that decodes faster. Which codec it was
 * is stored by whoever stores the bytes; sizes are known to the reader from outside, so an encoding has no length of
 * its own and must be consumed exactly.
 *
 * Decoders take every byte for hostile: they check each length, width, count and index before use, never read outside
 * [from, end), and return false for what is not an encoding. They write no more than the count rounded up to 8 cells.
 *
 * ALP, RLE and DICT hold other encodings inside: level 0 is a column's own, each level inside is one more, and
 * level_max of a row says how deep that codec may stand, so nesting ends.
 *
 *     level 0: all        level 1: ALP and the flat ones         level 2: CONST LINEAR FOR DELTA-FOR DOD-FOR RAW
 *
 * Strings have two codecs of their own shape, TEXT and TEXT-DICT (text.c, text_dict.c).
 *
 * No state, any thread.
 */
#pragma once

#include "storage/base/buffer.h"
#include "storage/base/status.h"
#include "storage/codec/bitpack.h"
#include "storage/value.h"

struct imv_arena;

typedef enum imv_codec_id {
    IMV_CODEC_RAW = 0,
    IMV_CODEC_CONST = 1,
    IMV_CODEC_LINEAR = 2,
    IMV_CODEC_FOR = 3,
    IMV_CODEC_DELTA = 4,
    IMV_CODEC_DOD = 5,
    IMV_CODEC_ALP = 6,
    IMV_CODEC_RLE = 7,
    IMV_CODEC_DICT = 8,
    IMV_CODEC_TEXT = 9,
    IMV_CODEC_TEXT_DICT = 10,
    IMV_CODECS_COUNT,
} imv_codec_id; /* stored on disk in five bits: never renumber */

enum {
    IMV_CODEC_LEVELS = 3,
    /* No encoding of numbers is larger: RAW is there, and what is planned larger is not chosen. */
    IMV_CODEC_BYTES_MAX = IMV_PACK_BYTES_MAX,
};

/* The decimal exponent and factor of ALP. A caller with many vectors of one column keeps one of these (zeroed at first)
 * so that the search is done once. */
struct imv_codec_decimal {
    bool known;
    uint8_t exponent, factor;
};

struct imv_codec_input {
    imv_type type; /* not STRING */
    const uint64_t *cells;
    size_t count;
    unsigned level;
    struct imv_codec_decimal *decimal; /* may be NULL */
};

struct imv_codec_plan {
    imv_codec_id codec;
    size_t bytes;
    struct imv_pack_plan pack; /* FOR, DELTA, DOD; of ALP's integers */
    imv_codec_id inner;        /* ALP: the codec of its integers */
    size_t inner_bytes;        /* ALP */
    struct imv_codec_decimal decimal;
    struct imv_pack_plan residuals; /* ALP; of no bytes when there are none */
};

struct imv_codec {
    const char *name; /* as in EXPLAIN and `imvdb inspect` */
    unsigned types;   /* bit 1 << type: may be chosen for it */
    unsigned level_max;
    /* False when the codec does not apply to the cells, or when it sees early that it cannot make less than
     * plan->bytes, the best so far (SIZE_MAX: none); else fills bytes and what encode wants to find. */
    bool (*plan)(const struct imv_codec_input *input, struct imv_codec_plan *plan);
    /* Writes plan->bytes bytes and returns the byte after them. */
    uint8_t *(*encode)(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to);
    bool (*decode)(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells);
};

/* NULL for an id that is unknown or of strings. */
const struct imv_codec *imv_codec_of(unsigned id);
const char *imv_codec_name(unsigned id);

/* The smallest plan for the cells at input->level, nearly so for a few integers. There always is one: RAW takes
 * everything. */
void imv_codec_choose(const struct imv_codec_input *input, struct imv_codec_plan *plan);

/* Writes plan->bytes (at most IMV_CODEC_BYTES_MAX) at `to`; returns the byte after them. */
uint8_t *imv_codec_encode(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to);

/* Decodes exactly [from, end) into cells, which has room for IMV_PACK_COUNT_MAX. False: not an encoding. */
bool imv_codec_decode(unsigned id, const uint8_t *from, const uint8_t *end, unsigned level, size_t count,
                      uint64_t *cells);

/* An encoding inside another: one byte of codec id, then the encoding up to the end. */
size_t imv_codec_inner_bytes(const struct imv_codec_input *input);
uint8_t *imv_codec_inner_encode(const struct imv_codec_input *input, uint8_t *to);
bool imv_codec_inner_decode(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells);

/* The runs of equal cells of an RLE encoding at a level: at most count, which values and lengths have room for. Returns
 * how many there are; 0 when it is no encoding of count cells. */
size_t imv_rle_read(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *values,
                    uint64_t *lengths);
/* What a LINEAR encoding says: cell i is first + i * step modulo 2^64. False: not an encoding. */
bool imv_linear_read(const uint8_t *from, const uint8_t *end, uint64_t *first, uint64_t *step);

extern const struct imv_codec imv_codec_raw, imv_codec_const, imv_codec_linear, imv_codec_for, imv_codec_delta,
    imv_codec_dod, imv_codec_alp, imv_codec_rle, imv_codec_dict;

/* ---- strings ---- */

/* Appends the encoding of count string cells, TEXT or TEXT-DICT, whichever is smaller, and tells which it was.
 * IMV_FULL at out's maximum, IMV_NO_MEMORY. */
imv_status imv_text_encode(const uint64_t *cells, size_t count, struct imv_buffer *out, imv_codec_id *codec,
                           struct imv_error *err);

/* Decodes exactly [from, end); the strings are put into arena. IMV_CORRUPT, IMV_NO_MEMORY. */
imv_status imv_text_decode(unsigned id, const uint8_t *from, const uint8_t *end, size_t count, uint64_t *cells,
                           struct imv_arena *arena, struct imv_error *err);
