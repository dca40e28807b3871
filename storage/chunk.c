/* chunk.c - the byte layout of a chunk, and its way in and out. All numbers are little-endian.
 *
 *     +--------+-------+----------+-------+-----------+------------+---------+------------+----------+------ - -
 *     | format | shape | rows - 1 | cut   | columns C | column ids | entries | statistics | checksum | data
 *     | u8     | u8    | varint   |       | varint    |            |         |            | u64      |
 *     +--------+-------+----------+-------+-----------+------------+---------+------------+----------+------ - -
 *
 * format: 0xc3, all vectors but the last have IMV_VECTOR_ROWS rows, each is one span, and cut is empty; or 0xc4, where
 * cut says of each vector how many rows and spans it has:
 *
 *     number of vectors V: varint | V times, u16: rows - 1 (bits 0-9), spans - 1 (bits 10-15)
 *
 * The checksum is the XXH3-64 of all before it. shape: how many bytes, less 1, a data end takes in this chunk (bits
 * 0-1); how many bytes a statistics end takes, 0 for none (bits 2-3); how column ids stand there (bits 4-5): 0 the
 * first as a varint, the others follow it one by one, or each in 1, 2 or 4 bytes (1, 2, 3); WHOLE (bit 6). Column ids
 * rise strictly.
 *
 * Entries: one for each vector of the timestamps, then for each vector of the first column, and so on.
 *
 *     | codec: 4 bits, some rows have no value: 1 bit, type: 3 bits | checksum u32 | end of its data | of its statistics |
 *
 * The ends count from the start of `data` and of `statistics`; a piece starts where the one before ends. The checksum
 * is the low half of the XXH3-64 of the data piece. All hashes are seeded with that of the chunk's identity, data
 * pieces with the entry's number added, so that pieces cannot trade places.
 *
 * What is fixed would be most of a small chunk, so there are two shorter forms, of one vector each. A WHOLE chunk,
 * whose data are few, has one checksum for everything, the low half of the XXH3-64, as its last 4 bytes; its entries
 * have none:
 *
 *     | format 0xc3 | shape | rows - 1 | columns C | column ids | entries | statistics | data | checksum u32 |
 *
 * One of few rows has no statistics besides (and no ends of them): they are made from its values when asked for.
 *
 * Data of a piece: when some of the rows have no value, which rows do; then the encoding (codec/codec.h) of the values
 * that are there. Of timestamps: less the vector's first. Nothing when no row has a value.
 *
 *     which rows: u8 0 | bitmap, a bit a row
 *                 u8 1 (the first run has values) or 2 (it has none) | runs: varint | block of run lengths less 1
 *
 * Statistics of a timestamp vector: distance of its first from the chunk's start (varint; left out for vector 0), then
 * of its last from its first (varint), then for each of its spans but the last: rows, distance of its last from its
 * first, and of the next span's first from that (varints). Those of a column's vector: of each span but the last how
 * many bytes they are (u8) and they, then those of the last: see chunk_statistics.h.
 */
#include "storage/chunk.h"

#include "storage/base/arena.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"
#include "storage/chunk_cut.h"
#include "storage/chunk_statistics.h"
#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FORMAT_EVEN = 0xc3,
    FORMAT_CUT = 0xc4,
    SHAPE_IDS_SHIFT = 4,
    SHAPE_WHOLE = 0x40,
    SHAPE_UNUSED = 0x80,
    TAG_CODEC_BITS = 4,
    TAG_NULLS = 1 << TAG_CODEC_BITS,
    TAG_TYPE_SHIFT = TAG_CODEC_BITS + 1,
    HEADER_BYTES_MAX = 2 + 2 + (1 + 2 * IMV_CHUNK_VECTORS_MAX) + 2 + 5,
    CHECKSUM_BYTES = 8,
    WHOLE_CHECKSUM_BYTES = 4,
    PIECE_CHECKSUM_BYTES = 4,
    /* Reading one column of a WHOLE chunk hashes all of it: 50 ns for 1 KiB, where finding the chunk takes 500. */
    WHOLE_DATA_BYTES_MAX = 1024,
    /* So few rows are decoded in about the time that reading their statistics takes, which are as many bytes as
     * they. */
    BRIEF_ROWS_MAX = 64,
    BRIEF_DATA_BYTES_MAX = 4096, /* of a brief chunk, which is always WHOLE */
    VALIDITY_BYTES_MAX = 1 + IMV_VECTOR_ROWS / 8,
    ENTRIES_SMALL = 32,
    HEAD_BYTES_SMALL = 512,
    VARINT_BYTES_MAX = 10,
    TIMES_STATISTICS_BYTES_MAX = (2 + 3 * IMV_VECTOR_SPANS_MAX) * VARINT_BYTES_MAX,
};
_Static_assert((int)IMV_VECTOR_ROWS == (int)IMV_PACK_COUNT_MAX, "a codec takes a vector");
_Static_assert((int)IMV_VECTOR_ROWS *(int)IMV_VECTOR_SPANS_MAX == 1 << 16, "rows and spans fill a u16");
_Static_assert(IMV_CHUNK_STATISTICS_BYTES_MAX < 256, "their length is a byte");
_Static_assert(IMV_CODECS_COUNT <= 1 << TAG_CODEC_BITS, "the tag has four bits for the codec");

enum validity_kind { VALID_BITS = 0, VALID_RUNS_FIRST_SET = 1, VALID_RUNS_FIRST_CLEAR = 2 };

static uint64_t seed_of(const struct imv_chunk_id *id) {
    uint8_t bytes[20];
    imv_put_u32(bytes, id->label);
    imv_put_u64(bytes + 4, id->series);
    imv_put_u64(bytes + 12, (uint64_t)id->start);
    return imv_hash64(bytes, sizeof bytes, 0);
}

/* ---- small integers of a width that the chunk chose ---- */

static unsigned bytes_of(uint64_t number) { return number < 256 ? 1 : (imv_bits_of(number) + 7) / 8; }

static uint8_t *put_number(uint8_t *to, uint64_t number, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) *to++ = (uint8_t)(number >> (8 * i));
    return to;
}

static inline uint32_t get_number(const uint8_t *from, unsigned bytes) {
    uint32_t number = 0;
    for (unsigned i = 0; i < bytes; i++) number |= (uint32_t)from[i] << (8 * i);
    return number;
}

/* ---- which rows have a value ---- */

static size_t count_bits(const uint64_t *bits, size_t rows) {
    size_t count = 0;
    for (size_t i = 0; i < (rows + 63) / 64; i++) count += (size_t)__builtin_popcountll(bits[i]);
    return count;
}

static size_t count_range(const uint64_t *valid, size_t row_from, size_t row_count) {
    size_t count = 0;
    for (size_t row = row_from; row < row_from + row_count; row++) count += imv_bit_get(valid, row);
    return count;
}

/* Lengths less 1 of the runs of equal bits. */
static size_t find_runs(const uint64_t *valid, size_t rows, uint64_t *lengths) {
    size_t runs = 0;
    for (size_t row = 0; row < rows; row++) {
        if (row > 0 && imv_bit_get(valid, row) == imv_bit_get(valid, row - 1))
            lengths[runs - 1]++;
        else
            lengths[runs++] = 0;
    }
    return runs;
}

/* Bits behind the last row are 0. */
static uint8_t *put_validity(uint8_t *to, const uint64_t *valid, size_t rows) {
    uint64_t lengths[IMV_VECTOR_ROWS];
    size_t runs = find_runs(valid, rows, lengths), bits_bytes = (rows + 7) / 8;
    struct imv_pack_plan plan;
    imv_pack_plan(lengths, runs, false, &plan);
    if (imv_varint_bytes(runs) + plan.bytes < bits_bytes) {
        *to++ = imv_bit_get(valid, 0) ? VALID_RUNS_FIRST_SET : VALID_RUNS_FIRST_CLEAR;
        to = imv_put_varint(to, runs);
        return imv_pack_write(lengths, runs, &plan, to);
    }
    *to++ = VALID_BITS;
    memcpy(to, valid, bits_bytes);
    return to + bits_bytes;
}

static bool fill_runs(const uint64_t *lengths, size_t runs, bool set, uint64_t *valid, size_t rows) {
    size_t row = 0;
    for (size_t run = 0; run < runs; run++, set = !set) {
        if (lengths[run] >= rows - row) return false;
        for (size_t last = row + lengths[run]; row <= last; row++)
            if (set) imv_bit_set(valid, row);
    }
    return row == rows;
}

/* Fills valid, which is zeroed. Returns where the values start. */
static const uint8_t *get_validity(const uint8_t *from, const uint8_t *end, uint64_t *valid, size_t rows) {
    if (from == end) return NULL;
    unsigned kind = *from++;
    if (kind == VALID_BITS) {
        size_t bytes = (rows + 7) / 8;
        if ((size_t)(end - from) < bytes) return NULL;
        memcpy(valid, from, bytes);
        if (rows % 64 != 0 && valid[rows / 64] >> (rows % 64) != 0) return NULL;
        from += bytes;
    } else {
        uint64_t runs, lengths[IMV_VECTOR_ROWS];
        if (kind != VALID_RUNS_FIRST_SET && kind != VALID_RUNS_FIRST_CLEAR) return NULL;
        from = imv_get_varint(from, end, &runs);
        if (from == NULL || runs == 0 || runs > rows) return NULL;
        from = imv_pack_read(from, end, runs, lengths);
        if (from == NULL || !fill_runs(lengths, runs, kind == VALID_RUNS_FIRST_SET, valid, rows)) return NULL;
    }
    return from;
}

/* Moves values from the front of cells to their rows, last first; rows without one get 0. */
static void spread(uint64_t *cells, const uint64_t *valid, size_t rows, size_t count) {
    for (size_t row = rows; row-- > 0;) {
        bool set = imv_bit_get(valid, row);
        count -= set;
        cells[row] = set ? cells[count] : 0;
    }
}

/* ---- encoding ---- */

struct entry {
    uint8_t tag;
    uint32_t checksum;
    size_t data_end, statistics_end;
};

struct encoder {
    uint64_t seed;
    bool is_brief; /* no statistics */
    struct imv_chunk_cut cut;
    struct imv_buffer data, statistics;
    struct entry *entries;
    size_t entries_count;
};

static imv_status no_room(const struct imv_buffer *buffer, size_t size, struct imv_error *err) {
    if (size > buffer->size_max || buffer->size > buffer->size_max - size)
        return imv_fail(err, IMV_FULL, "chunk: %zu bytes more do not fit a buffer of %zu", size, buffer->size_max);
    return imv_fail(err, IMV_NO_MEMORY, "chunk: no memory for %zu bytes", size);
}

/* Completes the entry whose data starts at data_start and whose statistics have been appended. */
static void add_entry(struct encoder *encoder, imv_type type, imv_codec_id codec, bool nulls, size_t data_start) {
    struct entry *entry = &encoder->entries[encoder->entries_count];
    entry->tag = (uint8_t)((unsigned)codec | (nulls ? TAG_NULLS : 0U) | (unsigned)type << TAG_TYPE_SHIFT);
    entry->data_end = encoder->data.size;
    entry->statistics_end = encoder->statistics.size;
    if (!encoder->is_brief) { /* which is WHOLE and has one checksum */
        const char *data = encoder->data.data == NULL ? "" : encoder->data.data + data_start;
        entry->checksum =
            (uint32_t)imv_hash64(data, encoder->data.size - data_start, encoder->seed + encoder->entries_count);
    }
    encoder->entries_count++;
}

static imv_status append_numbers(struct encoder *encoder, const struct imv_codec_input *input, imv_codec_id *codec,
                                 struct imv_error *err) {
    struct imv_codec_plan plan;
    imv_codec_choose(input, &plan);
    char *to = imv_buffer_reserve(&encoder->data, plan.bytes);
    if (to == NULL) return no_room(&encoder->data, plan.bytes, err);
    imv_codec_encode(input, &plan, (uint8_t *)to);
    encoder->data.size += plan.bytes;
    *codec = plan.codec;
    return IMV_OK;
}

static imv_status append_statistics(struct encoder *encoder, const uint8_t *bytes, const uint8_t *end,
                                    struct imv_error *err) {
    size_t size = encoder->is_brief ? 0 : (size_t)(end - bytes);
    return imv_buffer_append(&encoder->statistics, bytes, size) ? IMV_OK : no_room(&encoder->statistics, size, err);
}

static uint8_t *put_spans(uint8_t *to, const uint64_t *distances, const uint16_t *span_rows, size_t spans) {
    for (size_t span = 0, first = 0; span + 1 < spans; first += span_rows[span++]) {
        size_t next = first + span_rows[span];
        to = imv_put_varint(to, span_rows[span]);
        to = imv_put_varint(to, distances[next - 1] - distances[first]);
        to = imv_put_varint(to, distances[next] - distances[next - 1]);
    }
    return to;
}

static imv_status encode_times(struct encoder *encoder, const int64_t *timestamps, struct imv_error *err) {
    const struct imv_chunk_cut *cut = &encoder->cut;
    const uint16_t *span_rows = cut->span_rows;
    for (size_t vector = 0, first = 0; vector < cut->vectors; first += cut->vector_rows[vector++]) {
        size_t count = cut->vector_rows[vector];
        const int64_t *times = timestamps + first;
        uint64_t distances[IMV_VECTOR_ROWS];
        for (size_t i = 0; i < count; i++) {
            imv_assert(i + first == 0 || times[i] > times[(ptrdiff_t)i - 1]);
            distances[i] = (uint64_t)times[i] - (uint64_t)times[0];
        }
        struct imv_codec_input input = {.type = IMV_INTEGER, .cells = distances, .count = count};
        imv_codec_id codec = IMV_CODEC_RAW;
        size_t data_start = encoder->data.size;
        IMV_TRY(append_numbers(encoder, &input, &codec, err));
        uint8_t bytes[TIMES_STATISTICS_BYTES_MAX], *to = bytes;
        if (first > 0) to = imv_put_varint(to, (uint64_t)times[0] - (uint64_t)timestamps[0]);
        to = imv_put_varint(to, distances[count - 1]);
        to = put_spans(to, distances, span_rows, cut->vector_spans[vector]);
        span_rows += cut->vector_spans[vector];
        IMV_TRY(append_statistics(encoder, bytes, to, err));
        add_entry(encoder, IMV_INTEGER, codec, false, data_start);
    }
    return IMV_OK;
}

/* Copies the bitmap of a vector, with 0 behind its rows, and the cells that have values. Returns how many these are. */
static size_t collect(const struct imv_vector *values, size_t first, size_t rows, uint64_t *valid, uint64_t *cells) {
    size_t shift = first % 64, last_word = (first + rows - 1) / 64, count = 0;
    for (size_t i = 0; i < (rows + 63) / 64; i++) {
        size_t word = first / 64 + i;
        valid[i] = values->valid[word] >> shift;
        if (shift > 0 && word < last_word) valid[i] |= values->valid[word + 1] << (64 - shift);
    }
    if (rows % 64 != 0) valid[rows / 64] &= (UINT64_C(1) << rows % 64) - 1;
    for (size_t row = 0; row < rows; row++) {
        cells[count] = values->cells[first + row];
        count += imv_bit_get(valid, row);
    }
    return count;
}

/* Statistics of the spans of a vector; cells are the values that are there. */
static imv_status encode_statistics(struct encoder *encoder, const struct imv_vector *values, size_t first,
                                    const uint64_t *cells, const uint16_t *span_rows, size_t spans,
                                    struct imv_error *err) {
    for (size_t span = 0; span < spans && !encoder->is_brief; first += span_rows[span++]) {
        struct imv_chunk_statistics statistics;
        uint8_t bytes[1 + IMV_CHUNK_STATISTICS_BYTES_MAX];
        size_t rows = span_rows[span], count = values->valid == NULL ? rows : count_range(values->valid, first, rows);
        imv_chunk_statistics_gather(values->type, cells, count, &statistics);
        uint8_t *end = imv_chunk_statistics_put(bytes + 1, values->type, &statistics, (uint32_t)rows);
        bytes[0] = (uint8_t)(end - bytes - 1);
        IMV_TRY(append_statistics(encoder, span + 1 < spans ? bytes : bytes + 1, end, err));
        cells += count;
    }
    return IMV_OK;
}

static imv_status encode_vector(struct encoder *encoder, const struct imv_vector *values, size_t first, size_t rows,
                                const uint16_t *span_rows, size_t spans, struct imv_codec_decimal *decimal,
                                struct imv_error *err) {
    uint64_t collected[IMV_VECTOR_ROWS + 1], valid[IMV_VECTOR_WORDS]; /* one more: collect writes ahead */
    const uint64_t *cells = values->cells + first;
    size_t count = rows, data_start = encoder->data.size;
    imv_codec_id codec = IMV_CODEC_RAW;
    if (values->valid != NULL) {
        count = collect(values, first, rows, valid, collected);
        cells = collected;
    }
    if (count > 0 && count < rows) {
        char *to = imv_buffer_reserve(&encoder->data, VALIDITY_BYTES_MAX);
        if (to == NULL) return no_room(&encoder->data, VALIDITY_BYTES_MAX, err);
        encoder->data.size += (size_t)(put_validity((uint8_t *)to, valid, rows) - (uint8_t *)to);
    }
    if (count > 0 && values->type == IMV_STRING) {
        IMV_TRY(imv_text_encode(cells, count, &encoder->data, &codec, err));
    } else if (count > 0) {
        struct imv_codec_input input = {.type = values->type, .cells = cells, .count = count, .decimal = decimal};
        IMV_TRY(append_numbers(encoder, &input, &codec, err));
    }
    IMV_TRY(encode_statistics(encoder, values, first, cells, span_rows, spans, err));
    add_entry(encoder, values->type, codec, count < rows, data_start);
    return IMV_OK;
}

static imv_status encode_columns(struct encoder *encoder, const struct imv_chunk_column *columns, size_t columns_count,
                                 struct imv_error *err) {
    const struct imv_chunk_cut *cut = &encoder->cut;
    for (size_t i = 0; i < columns_count; i++) {
        const struct imv_vector *values = &columns[i].values;
        imv_assert(values->type >= IMV_FLOAT && values->type <= IMV_STRING);
        imv_assert(i == 0 || columns[i].column > columns[i - 1].column);
        struct imv_codec_decimal decimal = {0};
        const uint16_t *span_rows = cut->span_rows;
        for (size_t vector = 0, first = 0; vector < cut->vectors; first += cut->vector_rows[vector++]) {
            size_t spans = cut->vector_spans[vector];
            IMV_TRY(encode_vector(encoder, values, first, cut->vector_rows[vector], span_rows, spans, &decimal, err));
            span_rows += spans;
        }
    }
    return IMV_OK;
}

/* ---- putting together ---- */

/* How many bytes numbers take: see the top of this file. */
struct widths {
    unsigned id_code, data_end, statistics_end;
    bool is_whole;
};

static struct widths widths_of(const struct encoder *encoder, size_t rows, const struct imv_chunk_column *columns,
                               size_t columns_count) {
    struct widths widths = {.data_end = bytes_of(encoder->data.size)};
    widths.statistics_end = encoder->is_brief ? 0 : bytes_of(encoder->statistics.size);
    widths.is_whole = encoder->is_brief || (rows <= IMV_VECTOR_ROWS && encoder->data.size <= WHOLE_DATA_BYTES_MAX);
    uint32_t first = columns_count == 0 ? 0 : columns[0].column;
    uint32_t last = columns_count == 0 ? 0 : columns[columns_count - 1].column;
    if (columns_count > 0 && last - first != columns_count - 1) widths.id_code = last < 256 ? 1 : last < 65536 ? 2 : 3;
    return widths;
}

static size_t id_bytes_of(unsigned id_code) { return id_code == 3 ? 4 : id_code; }

static size_t entry_size(const struct widths *widths) {
    return 1 + (widths->is_whole ? 0 : PIECE_CHECKSUM_BYTES) + widths->data_end + widths->statistics_end;
}

static bool is_even(const struct imv_chunk_cut *cut) {
    for (size_t vector = 0; vector + 1 < cut->vectors; vector++)
        if (cut->vector_rows[vector] < IMV_VECTOR_ROWS) return false;
    return cut->spans == cut->vectors;
}

static uint8_t *put_cut(uint8_t *to, const struct imv_chunk_cut *cut) {
    to = imv_put_varint(to, cut->vectors);
    for (size_t vector = 0; vector < cut->vectors; vector++)
        to = put_number(to, cut->vector_rows[vector] - 1U + (cut->vector_spans[vector] - 1U) * IMV_VECTOR_ROWS, 2);
    return to;
}

static uint8_t *put_head(uint8_t *to, const struct widths *widths, size_t rows, const struct imv_chunk_cut *cut,
                         const struct imv_chunk_column *columns, size_t columns_count) {
    *to++ = is_even(cut) ? FORMAT_EVEN : FORMAT_CUT;
    *to++ = (uint8_t)((widths->data_end - 1) | widths->statistics_end << 2 | widths->id_code << SHAPE_IDS_SHIFT |
                      (widths->is_whole ? SHAPE_WHOLE : 0));
    to = imv_put_varint(to, rows - 1);
    if (!is_even(cut)) to = put_cut(to, cut);
    to = imv_put_varint(to, columns_count);
    if (widths->id_code == 0 && columns_count > 0) return imv_put_varint(to, columns[0].column);
    for (size_t i = 0; i < columns_count; i++)
        to = put_number(to, columns[i].column, (unsigned)id_bytes_of(widths->id_code));
    return to;
}

static uint8_t *put_entries(uint8_t *to, const struct widths *widths, const struct encoder *encoder) {
    for (size_t i = 0; i < encoder->entries_count; i++) {
        const struct entry *entry = &encoder->entries[i];
        *to++ = entry->tag;
        if (!widths->is_whole) to = put_number(to, entry->checksum, PIECE_CHECKSUM_BYTES);
        to = put_number(to, entry->data_end, widths->data_end);
        to = put_number(to, entry->statistics_end, widths->statistics_end);
    }
    return to;
}

static uint8_t *put_bytes(uint8_t *to, const struct imv_buffer *bytes) {
    if (bytes->size > 0) memcpy(to, bytes->data, bytes->size);
    return to + bytes->size;
}

static imv_status assemble(const struct encoder *encoder, size_t rows, const struct imv_chunk_column *columns,
                           size_t columns_count, struct imv_buffer *out, struct imv_error *err) {
    const struct imv_buffer *data = &encoder->data, *statistics = &encoder->statistics;
    struct widths widths = widths_of(encoder, rows, columns, columns_count);
    size_t size_max = HEADER_BYTES_MAX + columns_count * id_bytes_of(widths.id_code) +
                      encoder->entries_count * entry_size(&widths) + statistics->size + data->size + CHECKSUM_BYTES;
    if (data->size > UINT32_MAX || statistics->size >= 1 << 24)
        return imv_fail(err, IMV_FULL, "chunk: %zu bytes are more than a chunk holds", size_max);
    uint8_t small[HEAD_BYTES_SMALL], *large = NULL;
    if (size_max - data->size > sizeof small) large = malloc(size_max - data->size);
    uint8_t *head = size_max - data->size > sizeof small ? large : small, *to = head;
    if (head == NULL) return imv_fail(err, IMV_NO_MEMORY, "chunk: no memory for %zu bytes", size_max);
    to = put_head(to, &widths, rows, &encoder->cut, columns, columns_count);
    to = put_bytes(put_entries(to, &widths, encoder), statistics);
    if (!widths.is_whole) {
        imv_put_u64(to, imv_hash64(head, (size_t)(to - head), encoder->seed));
        to += CHECKSUM_BYTES;
    }
    size_t head_size = (size_t)(to - head), size = head_size + data->size;
    if (widths.is_whole) size += WHOLE_CHECKSUM_BYTES;
    uint8_t *start = (uint8_t *)imv_buffer_reserve(out, size);
    if (start != NULL) {
        memcpy(start, head, head_size);
        to = put_bytes(start + head_size, data);
        if (widths.is_whole) imv_put_u32(to, (uint32_t)imv_hash64(start, (size_t)(to - start), encoder->seed));
        out->size += size;
    }
    free(large);
    return start == NULL ? no_room(out, size, err) : IMV_OK;
}

static imv_status encode_pieces(struct encoder *encoder, const int64_t *timestamps,
                                const struct imv_chunk_column *columns, size_t columns_count, struct imv_error *err) {
    imv_buffer_reset(&encoder->data);
    imv_buffer_reset(&encoder->statistics);
    encoder->entries_count = 0;
    IMV_TRY(encode_times(encoder, timestamps, err));
    return encode_columns(encoder, columns, columns_count, err);
}

imv_status imv_chunk_encode(const struct imv_chunk_id *id, const int64_t *timestamps, size_t rows,
                            const struct imv_chunk_column *columns, size_t columns_count, struct imv_buffer *out,
                            struct imv_error *err) {
    imv_assert(rows >= 1 && rows <= IMV_CHUNK_ROWS_MAX);
    imv_assert(columns_count <= IMV_CHUNK_COLUMNS_MAX);
    imv_assert(id->start == timestamps[0]);
    struct encoder encoder = {.seed = seed_of(id), .is_brief = rows <= BRIEF_ROWS_MAX};
    imv_buffer_init(&encoder.data, out->size_max);
    imv_buffer_init(&encoder.statistics, out->size_max);
    imv_chunk_cut(timestamps, rows, &encoder.cut);
    /* A flush of many series with a few rows each makes millions of small chunks: those are put together on the
     * stack. */
    struct entry small[ENTRIES_SMALL], *large = NULL;
    size_t entries_max = (columns_count + 1) * encoder.cut.vectors;
    if (entries_max > ENTRIES_SMALL) large = malloc(entries_max * sizeof *large);
    encoder.entries = entries_max > ENTRIES_SMALL ? large : small;
    imv_status status = IMV_OK;
    if (encoder.entries == NULL) status = imv_fail(err, IMV_NO_MEMORY, "chunk: no memory for a directory");
    if (status == IMV_OK) status = encode_pieces(&encoder, timestamps, columns, columns_count, err);
    if (status == IMV_OK && encoder.is_brief && encoder.data.size > BRIEF_DATA_BYTES_MAX) {
        encoder.is_brief = false;
        status = encode_pieces(&encoder, timestamps, columns, columns_count, err);
    }
    if (status == IMV_OK) status = assemble(&encoder, rows, columns, columns_count, out, err);
    free(large);
    imv_buffer_release(&encoder.statistics);
    imv_buffer_release(&encoder.data);
    return status;
}

/* ---- opening ---- */

static imv_status corrupt(const struct imv_chunk_id *id, struct imv_error *err, const char *what) {
    return imv_fail(err, IMV_CORRUPT, "chunk of label %" PRIu32 " series %" PRIu64 " at %" PRId64 ": %s", id->label,
                    id->series, id->start, what);
}

/* A piece of the chunk as its entry tells it. */
struct piece {
    imv_type type;
    unsigned codec;
    bool nulls;
    uint32_t checksum; /* of a chunk that is not WHOLE */
    uint32_t data_start, data_end;
    uint32_t statistics_start, statistics_end;
};

/* number: 0 is the first vector of the timestamps. */
static struct piece piece_of(const struct imv_chunk *chunk, size_t number) {
    const uint8_t *entry = chunk->entries + number * chunk->entry_bytes;
    const uint8_t *ends = entry + chunk->entry_bytes - chunk->data_end_bytes - chunk->statistics_end_bytes;
    struct piece piece = {
        .type = (imv_type)(entry[0] >> TAG_TYPE_SHIFT),
        .codec = entry[0] & (TAG_NULLS - 1),
        .nulls = entry[0] & TAG_NULLS,
        .checksum = chunk->is_whole ? 0 : imv_get_u32(entry + 1),
        .data_end = get_number(ends, chunk->data_end_bytes),
        .statistics_end = get_number(ends + chunk->data_end_bytes, chunk->statistics_end_bytes),
    };
    if (number > 0) {
        const uint8_t *before = ends - chunk->entry_bytes;
        piece.data_start = get_number(before, chunk->data_end_bytes);
        piece.statistics_start = get_number(before + chunk->data_end_bytes, chunk->statistics_end_bytes);
    }
    return piece;
}

static size_t pieces_of(const struct imv_chunk *chunk) { return (chunk->columns + 1) * (size_t)chunk->vectors; }
static bool is_brief(const struct imv_chunk *chunk) { return chunk->statistics_end_bytes == 0; }

/* A reader of the spans of a vector, from its timestamps' statistics. */
struct span_reader {
    const uint8_t *from, *end;
    struct imv_chunk_span span; /* the one at hand */
    uint32_t vector_rows, left; /* spans behind it */
    int64_t vector_first, vector_last;
};

static bool is_later(int64_t time, uint64_t distance, int64_t *later) {
    *later = (int64_t)((uint64_t)time + distance);
    return *later >= time;
}

/* Fills in the span that begins at span.row_from and span.first. */
static bool read_span(struct span_reader *reader, uint64_t *gap) {
    struct imv_chunk_span *span = &reader->span;
    uint64_t rows, length = 0;
    span->rows = reader->vector_rows - span->row_from;
    span->last = reader->vector_last;
    if (reader->left == 0) return reader->from == reader->end && span->first <= span->last;
    reader->from = imv_get_varint(reader->from, reader->end, &rows);
    if (reader->from != NULL) reader->from = imv_get_varint(reader->from, reader->end, &length);
    if (reader->from != NULL) reader->from = imv_get_varint(reader->from, reader->end, gap);
    if (reader->from == NULL || rows == 0 || rows >= span->rows || *gap == 0) return false;
    span->rows = (uint32_t)rows;
    return is_later(span->first, length, &span->last) && span->last <= reader->vector_last;
}

/* Goes to a span of a vector; false when what stands before it, or of it, cannot be. */
static bool find_span(const struct imv_chunk *chunk, uint32_t vector, uint32_t index, struct span_reader *reader) {
    struct piece piece = piece_of(chunk, vector);
    uint64_t offset = 0, length = 0, gap = 0;
    *reader = (struct span_reader){.from = chunk->statistics + piece.statistics_start,
                                   .end = chunk->statistics + piece.statistics_end,
                                   .vector_rows = imv_chunk_vector_rows(chunk, vector),
                                   .left = imv_chunk_vector_spans(chunk, vector) - 1};
    if (vector > 0) reader->from = imv_get_varint(reader->from, reader->end, &offset);
    if (reader->from != NULL) reader->from = imv_get_varint(reader->from, reader->end, &length);
    if (reader->from == NULL || !is_later(chunk->id.start, offset, &reader->span.first)) return false;
    reader->vector_first = reader->span.first;
    if (!is_later(reader->vector_first, length, &reader->vector_last)) return false;
    for (uint32_t i = 0; read_span(reader, &gap); i++, reader->left--) {
        if (i == index) return true;
        reader->span.row_from += reader->span.rows;
        if (!is_later(reader->span.last, gap, &reader->span.first)) return false;
    }
    return false;
}

/* Reads how the rows are cut. Returns what is behind, or NULL. */
static const uint8_t *read_cut(struct imv_chunk *chunk, const uint8_t *from, const uint8_t *end) {
    chunk->vectors = (chunk->rows + IMV_VECTOR_ROWS - 1) / IMV_VECTOR_ROWS;
    if (chunk->bytes[0] == FORMAT_EVEN) return from;
    uint64_t vectors;
    from = imv_get_varint(from, end, &vectors);
    if (from == NULL || vectors == 0 || vectors > IMV_CHUNK_VECTORS_MAX) return NULL;
    if ((size_t)(end - from) < 2 * vectors) return NULL;
    chunk->vectors = (uint32_t)vectors;
    chunk->cut = from;
    uint32_t rows = 0;
    for (uint32_t vector = 0; vector < vectors; vector++) rows += imv_chunk_vector_rows(chunk, vector);
    return rows == chunk->rows ? from + 2 * vectors : NULL;
}

/* Reads the header up to the column ids. Returns where they are, or NULL. */
static const uint8_t *read_head(struct imv_chunk *chunk, const uint8_t *end) {
    const uint8_t *from = chunk->bytes;
    uint64_t rows, columns, first_id = 0;
    if (chunk->size < 2 || (from[0] != FORMAT_EVEN && from[0] != FORMAT_CUT) || from[1] & SHAPE_UNUSED) return NULL;
    chunk->data_end_bytes = (from[1] & 3) + 1;
    chunk->statistics_end_bytes = from[1] >> 2 & 3;
    chunk->id_bytes = (uint8_t)id_bytes_of(from[1] >> SHAPE_IDS_SHIFT & 3);
    chunk->is_whole = from[1] & SHAPE_WHOLE;
    chunk->entry_bytes = (uint8_t)(1 + (chunk->is_whole ? 0 : PIECE_CHECKSUM_BYTES) + chunk->data_end_bytes +
                                   chunk->statistics_end_bytes);
    from = imv_get_varint(from + 2, end, &rows);
    if (from == NULL || rows >= IMV_CHUNK_ROWS_MAX) return NULL;
    chunk->rows = (uint32_t)rows + 1;
    from = read_cut(chunk, from, end);
    if (from != NULL) from = imv_get_varint(from, end, &columns);
    if (from == NULL || columns > IMV_CHUNK_COLUMNS_MAX) return NULL;
    chunk->columns = (uint32_t)columns;
    if (chunk->id_bytes == 0 && columns > 0) from = imv_get_varint(from, end, &first_id);
    if (first_id > UINT32_MAX - columns) return NULL;
    chunk->first_id = (uint32_t)first_id;
    if (is_brief(chunk) && (!chunk->is_whole || chunk->rows > BRIEF_ROWS_MAX)) return NULL;
    return chunk->is_whole && (chunk->vectors > 1 || chunk->cut != NULL) ? NULL : from;
}

/* Reads the header and finds the parts; false when they do not add up to the size. */
static bool find_parts(struct imv_chunk *chunk) {
    const uint8_t *end = chunk->bytes + chunk->size, *from = read_head(chunk, end);
    if (from == NULL) return false;
    size_t ids_bytes = (size_t)chunk->columns * chunk->id_bytes, left = (size_t)(end - from);
    size_t entries_bytes = pieces_of(chunk) * chunk->entry_bytes;
    size_t checksum_bytes = chunk->is_whole ? WHOLE_CHECKSUM_BYTES : CHECKSUM_BYTES;
    if (left < ids_bytes + entries_bytes + checksum_bytes) return false;
    chunk->column_ids = from;
    chunk->entries = chunk->column_ids + ids_bytes;
    chunk->statistics = chunk->entries + entries_bytes;
    struct piece last = piece_of(chunk, pieces_of(chunk) - 1);
    if (left - ids_bytes - entries_bytes - checksum_bytes != (size_t)last.statistics_end + last.data_end) return false;
    chunk->data = chunk->statistics + last.statistics_end + (chunk->is_whole ? 0 : CHECKSUM_BYTES);
    return true;
}

static bool checksum_is_right(const struct imv_chunk *chunk) {
    const uint8_t *end =
        chunk->is_whole ? chunk->bytes + chunk->size - WHOLE_CHECKSUM_BYTES : chunk->data - CHECKSUM_BYTES;
    uint64_t have = imv_hash64(chunk->bytes, (size_t)(end - chunk->bytes), chunk->seed);
    return chunk->is_whole ? (uint32_t)have == imv_get_u32(end) : have == imv_get_u64(end);
}

static bool directory_is_sound(const struct imv_chunk *chunk) {
    imv_type type = IMV_FLOAT;
    for (uint32_t i = 1; i < chunk->columns && chunk->id_bytes > 0; i++)
        if (imv_chunk_column_id(chunk, i) <= imv_chunk_column_id(chunk, i - 1)) return false;
    for (size_t number = 0; number < pieces_of(chunk); number++) {
        struct piece piece = piece_of(chunk, number);
        if (piece.data_start > piece.data_end || piece.statistics_start > piece.statistics_end) return false;
        if (number % chunk->vectors == 0) type = piece.type;
        if (piece.type != type || type < IMV_FLOAT || type > IMV_STRING) return false;
    }
    return true;
}

/* Of a brief chunk the last timestamp is known only from all. */
static imv_status find_last_time(struct imv_chunk *chunk, struct imv_error *err) {
    int64_t times[IMV_VECTOR_ROWS];
    IMV_TRY(imv_chunk_decode_times(chunk, 0, times, err));
    chunk->time_max = times[chunk->rows - 1];
    return chunk->time_max >= chunk->time_min ? IMV_OK : corrupt(&chunk->id, err, "its timestamps do not rise");
}

imv_status imv_chunk_open(const void *bytes, size_t size, const struct imv_chunk_id *expected, struct imv_chunk *chunk,
                          struct imv_error *err) {
    *chunk = (struct imv_chunk){.bytes = bytes, .size = size, .id = *expected, .seed = seed_of(expected)};
    if (!find_parts(chunk)) return corrupt(expected, err, "its header does not fit its size");
    if (!checksum_is_right(chunk))
        return corrupt(expected, err, "bad checksum of header, directory and statistics, or not its place");
    if (!directory_is_sound(chunk)) return corrupt(expected, err, "its directory contradicts itself");
    chunk->time_min = chunk->time_max = expected->start;
    if (is_brief(chunk)) return find_last_time(chunk, err);
    for (uint32_t vector = 0; vector < chunk->vectors; vector++) {
        struct span_reader reader;
        if (!find_span(chunk, vector, imv_chunk_vector_spans(chunk, vector) - 1, &reader) ||
            (vector > 0 && reader.vector_first <= chunk->time_max))
            return corrupt(expected, err, "its vectors are not in time order");
        chunk->time_max = reader.vector_last;
    }
    return IMV_OK;
}

/* ---- reading ---- */

void imv_chunk_vector_times(const struct imv_chunk *chunk, uint32_t vector, int64_t *first, int64_t *last) {
    imv_assert(vector < chunk->vectors);
    if (is_brief(chunk)) {
        *first = chunk->time_min;
        *last = chunk->time_max;
        return;
    }
    struct span_reader reader;
    find_span(chunk, vector, 0, &reader); /* opening has seen that it can be parsed */
    *first = reader.vector_first;
    *last = reader.vector_last;
}

void imv_chunk_span(const struct imv_chunk *chunk, uint32_t vector, uint32_t index, struct imv_chunk_span *span) {
    imv_assert(vector < chunk->vectors && index < imv_chunk_vector_spans(chunk, vector));
    struct span_reader reader;
    if (is_brief(chunk)) {
        *span = (struct imv_chunk_span){0, chunk->rows, chunk->time_min, chunk->time_max};
        return;
    }
    find_span(chunk, vector, index, &reader);
    *span = reader.span;
}

uint32_t imv_chunk_column_id(const struct imv_chunk *chunk, uint32_t index) {
    imv_assert(index < chunk->columns);
    return chunk->first_id + (chunk->id_bytes == 0
                                  ? index
                                  : get_number(chunk->column_ids + (size_t)index * chunk->id_bytes, chunk->id_bytes));
}

int imv_chunk_find_column(const struct imv_chunk *chunk, uint32_t column) {
    if (chunk->id_bytes == 0) return column - chunk->first_id < chunk->columns ? (int)(column - chunk->first_id) : -1;
    uint32_t low = 0, high = chunk->columns;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (imv_chunk_column_id(chunk, middle) < column)
            low = middle + 1;
        else
            high = middle;
    }
    return low < chunk->columns && imv_chunk_column_id(chunk, low) == column ? (int)low : -1;
}

static struct piece column_piece(const struct imv_chunk *chunk, uint32_t index, uint32_t vector) {
    imv_assert(index < chunk->columns);
    imv_assert(vector < chunk->vectors);
    return piece_of(chunk, (size_t)(index + 1) * chunk->vectors + vector);
}

imv_type imv_chunk_column_type(const struct imv_chunk *chunk, uint32_t index) {
    return column_piece(chunk, index, 0).type;
}

static imv_status check_piece(const struct imv_chunk *chunk, const struct piece *piece, size_t number,
                              struct imv_error *err) {
    if (chunk->is_whole) return IMV_OK;
    uint32_t have = (uint32_t)imv_hash64(chunk->data + piece->data_start, piece->data_end - piece->data_start,
                                         chunk->seed + number);
    if (have == piece->checksum) return IMV_OK;
    size_t column = number / chunk->vectors;
    char what[96];
    if (column == 0)
        snprintf(what, sizeof what, "bad checksum of its timestamps, vector %zu", number % chunk->vectors);
    else
        snprintf(what, sizeof what, "bad checksum of column %" PRIu32 ", vector %zu",
                 imv_chunk_column_id(chunk, (uint32_t)column - 1), number % chunk->vectors);
    return corrupt(&chunk->id, err, what);
}

imv_status imv_chunk_decode_times(const struct imv_chunk *chunk, uint32_t vector, int64_t *out, struct imv_error *err) {
    imv_assert(vector < chunk->vectors);
    struct piece piece = piece_of(chunk, vector);
    IMV_TRY(check_piece(chunk, &piece, vector, err));
    uint32_t rows = imv_chunk_vector_rows(chunk, vector);
    uint64_t *distances = (uint64_t *)out;
    if (!imv_codec_decode(piece.codec, chunk->data + piece.data_start, chunk->data + piece.data_end, 0, rows,
                          distances))
        return corrupt(&chunk->id, err, "its timestamps do not decode");
    int64_t first, last;
    imv_chunk_vector_times(chunk, vector, &first, &last);
    imv_kernel_add(distances, NULL, rows, (uint64_t)first);
    if (!is_brief(chunk) && (out[0] != first || out[rows - 1] != last))
        return corrupt(&chunk->id, err, "its timestamps leave their range");
    return IMV_OK;
}

static imv_status decode_values(const struct imv_chunk *chunk, const struct piece *piece, const uint8_t *from,
                                size_t count, uint64_t *cells, struct imv_arena *arena, struct imv_error *err) {
    const uint8_t *end = chunk->data + piece->data_end;
    if (piece->type == IMV_STRING) {
        imv_status status = imv_text_decode(piece->codec, from, end, count, cells, arena, err);
        if (status == IMV_OK) return IMV_OK;
        return imv_error_wrap(err, status, "chunk of label %" PRIu32 " series %" PRIu64 " at %" PRId64, chunk->id.label,
                              chunk->id.series, chunk->id.start);
    }
    if (!imv_codec_decode(piece->codec, from, end, 0, count, cells))
        return corrupt(&chunk->id, err, "a column does not decode");
    uint64_t all = 0;
    for (size_t i = 0; i < count && piece->type == IMV_BOOLEAN; i++) all |= cells[i];
    if (all > 1) return corrupt(&chunk->id, err, "a boolean that is neither true nor false");
    return IMV_OK;
}

/* Decodes what the rows of a piece have: the bitmap and, unless cells is NULL, the values that are there, to the front
 * of cells. */
static imv_status decode_dense(const struct imv_chunk *chunk, const struct piece *piece, uint32_t rows, uint64_t *cells,
                               uint64_t *valid, uint32_t *count, struct imv_arena *arena, struct imv_error *err) {
    const uint8_t *from = chunk->data + piece->data_start, *end = chunk->data + piece->data_end;
    memset(valid, 0, IMV_VECTOR_WORDS * sizeof *valid);
    *count = rows;
    if (!piece->nulls)
        for (uint32_t row = 0; row < rows; row += 64)
            valid[row / 64] = rows - row >= 64 ? UINT64_MAX : (UINT64_C(1) << (rows - row)) - 1;
    else if (from == end)
        *count = 0;
    else if ((from = get_validity(from, end, valid, rows)) == NULL)
        return corrupt(&chunk->id, err, "bad map of the rows that have values");
    else
        *count = (uint32_t)count_bits(valid, rows);
    if (cells == NULL || (from == end && *count == 0)) return IMV_OK;
    if (*count == 0) return corrupt(&chunk->id, err, "data of a column without values");
    return decode_values(chunk, piece, from, *count, cells, arena, err);
}

imv_status imv_chunk_decode_column(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, uint64_t *cells,
                                   uint64_t *valid, bool *all_valid, struct imv_arena *arena, struct imv_error *err) {
    struct piece piece = column_piece(chunk, index, vector);
    IMV_TRY(check_piece(chunk, &piece, (size_t)(index + 1) * chunk->vectors + vector, err));
    uint32_t rows = imv_chunk_vector_rows(chunk, vector), count;
    IMV_TRY(decode_dense(chunk, &piece, rows, cells, valid, &count, arena, err));
    *all_valid = count == rows;
    if (!*all_valid) spread(cells, valid, rows, count);
    return IMV_OK;
}

/* ---- statistics ---- */

static imv_status gather_brief(const struct imv_chunk *chunk, const struct piece *piece,
                               struct imv_chunk_statistics *statistics, struct imv_error *err) {
    uint64_t cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
    uint32_t count;
    bool is_string = piece->type == IMV_STRING;
    IMV_TRY(decode_dense(chunk, piece, chunk->rows, is_string ? NULL : cells, valid, &count, NULL, err));
    imv_chunk_statistics_gather(piece->type, cells, count, statistics);
    return IMV_OK;
}

imv_status imv_chunk_span_statistics(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, uint32_t span,
                                     struct imv_chunk_statistics *statistics, struct imv_error *err) {
    struct piece piece = column_piece(chunk, index, vector);
    if (is_brief(chunk)) return gather_brief(chunk, &piece, statistics, err);
    const uint8_t *from = chunk->statistics + piece.statistics_start, *end = chunk->statistics + piece.statistics_end;
    uint32_t spans = imv_chunk_vector_spans(chunk, vector);
    struct imv_chunk_span of;
    imv_assert(span < spans);
    for (uint32_t i = 0; i < span && from < end && *from < end - from; i++) from += 1 + *from;
    if (span + 1 < spans) {
        if (from == end || *from >= end - from) return corrupt(&chunk->id, err, "bad length of statistics");
        end = from + 1 + *from;
        from++;
    }
    imv_chunk_span(chunk, vector, span, &of);
    if (imv_chunk_statistics_parse(from, end, piece.type, of.rows, statistics)) return IMV_OK;
    return corrupt(&chunk->id, err, "bad statistics");
}

/* Of a whole vector: those of its spans, taken together. */
static imv_status statistics_of(const struct imv_chunk *chunk, uint32_t index, uint32_t vector,
                                struct imv_chunk_statistics *statistics, struct imv_error *err) {
    IMV_TRY(imv_chunk_span_statistics(chunk, index, vector, 0, statistics, err));
    for (uint32_t span = 1; span < imv_chunk_vector_spans(chunk, vector); span++) {
        struct imv_chunk_statistics more;
        IMV_TRY(imv_chunk_span_statistics(chunk, index, vector, span, &more, err));
        imv_chunk_statistics_merge(imv_chunk_column_type(chunk, index), statistics, &more);
    }
    return IMV_OK;
}

void imv_chunk_statistics(const struct imv_chunk *chunk, uint32_t index, uint32_t vector,
                          struct imv_chunk_statistics *statistics) {
    if (statistics_of(chunk, index, vector, statistics, NULL) != IMV_OK) *statistics = (struct imv_chunk_statistics){0};
}

/* ---- aggregation ---- */

void imv_chunk_aggregate_cells(imv_type type, const uint64_t *cells, const uint64_t *valid, uint32_t row_from,
                               uint32_t row_count, struct imv_chunk_statistics *out) {
    uint64_t there[IMV_VECTOR_ROWS + 1]; /* one more: a value is written before it is known to be there */
    size_t count = 0;
    imv_assert(row_count <= IMV_VECTOR_ROWS);
    for (uint32_t row = row_from; row < row_from + row_count && valid != NULL; row++) {
        there[count] = cells[row];
        count += imv_bit_get(valid, row);
    }
    if (valid == NULL)
        imv_chunk_statistics_gather(type, cells + row_from, row_count, out);
    else
        imv_chunk_statistics_gather(type, there, count, out);
}

/* Cuts runs to count cells from `from` on. Returns how many are left, moved to the front. */
static size_t cut_runs(uint64_t *values, uint64_t *lengths, size_t runs, size_t from, size_t count) {
    size_t kept = 0, row = 0;
    for (size_t run = 0; run < runs; run++) {
        size_t start = row > from ? row : from, end = row + lengths[run];
        row = end;
        if (end > from + count) end = from + count;
        if (start >= end) continue;
        values[kept] = values[run];
        lengths[kept++] = end - start;
    }
    return kept;
}

/* Answers from the encoding of a vector whose rows all have values; false where the codec does not allow it. */
static bool aggregate_encoding(const struct imv_chunk *chunk, const struct piece *piece, uint32_t rows,
                               uint32_t row_from, uint32_t row_count, struct imv_chunk_statistics *out) {
    const uint8_t *from = chunk->data + piece->data_start, *end = chunk->data + piece->data_end;
    uint64_t values[IMV_VECTOR_ROWS], lengths[IMV_VECTOR_ROWS], first, step;
    size_t runs = 0;
    if (piece->type == IMV_STRING || row_count == 0) return false;
    if (piece->codec == IMV_CODEC_LINEAR && imv_linear_read(from, end, &first, &step))
        return imv_chunk_statistics_of_line(piece->type, first + step * row_from, step, row_count, out);
    if (piece->codec == IMV_CODEC_RLE) runs = imv_rle_read(from, end, 0, rows, values, lengths);
    if (piece->codec == IMV_CODEC_CONST && imv_codec_decode(piece->codec, from, end, 0, 1, values)) {
        lengths[0] = rows;
        runs = 1;
    }
    if (runs == 0) return false;
    runs = cut_runs(values, lengths, runs, row_from, row_count);
    for (size_t run = 0; run < runs && piece->type == IMV_BOOLEAN; run++)
        if (values[run] > 1) return false;
    imv_chunk_statistics_of_runs(piece->type, values, lengths, runs, out);
    return true;
}

imv_status imv_chunk_aggregate_column(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, uint32_t row_from,
                                      uint32_t row_count, struct imv_chunk_statistics *out, struct imv_error *err) {
    uint32_t rows = imv_chunk_vector_rows(chunk, vector), count;
    imv_assert(row_from <= rows && row_count <= rows - row_from);
    if (row_count == rows) return statistics_of(chunk, index, vector, out, err);
    struct piece piece = column_piece(chunk, index, vector);
    IMV_TRY(check_piece(chunk, &piece, (size_t)(index + 1) * chunk->vectors + vector, err));
    if (!piece.nulls && aggregate_encoding(chunk, &piece, rows, row_from, row_count, out)) return IMV_OK;
    uint64_t cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
    bool is_string = piece.type == IMV_STRING;
    IMV_TRY(decode_dense(chunk, &piece, rows, is_string ? NULL : cells, valid, &count, NULL, err));
    /* Values stand close together: those of the range follow those of the rows before it. */
    size_t before = count == rows ? row_from : count_range(valid, 0, row_from);
    size_t inside = count == rows ? row_count : count_range(valid, row_from, row_count);
    imv_chunk_statistics_gather(piece.type, cells + before, inside, out);
    return IMV_OK;
}

/* ---- the full check ---- */

static imv_status check_times(const struct imv_chunk *chunk, uint32_t vector, struct imv_error *err) {
    int64_t times[IMV_VECTOR_ROWS];
    IMV_TRY(imv_chunk_decode_times(chunk, vector, times, err));
    for (uint32_t row = 1; row < imv_chunk_vector_rows(chunk, vector); row++)
        if (times[row] <= times[row - 1]) return corrupt(&chunk->id, err, "its timestamps do not rise");
    for (uint32_t index = 0; index < imv_chunk_vector_spans(chunk, vector); index++) {
        struct imv_chunk_span span;
        imv_chunk_span(chunk, vector, index, &span);
        if (times[span.row_from] != span.first || times[span.row_from + span.rows - 1] != span.last)
            return corrupt(&chunk->id, err, "its spans are not where its timestamps say");
    }
    return IMV_OK;
}

static imv_status check_column(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, struct imv_arena *arena,
                               struct imv_error *err) {
    uint64_t cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
    bool all_valid;
    IMV_TRY(imv_chunk_decode_column(chunk, index, vector, cells, valid, &all_valid, arena, err));
    imv_type type = imv_chunk_column_type(chunk, index);
    for (uint32_t i = 0; i < imv_chunk_vector_spans(chunk, vector); i++) {
        struct imv_chunk_statistics stored, gathered;
        struct imv_chunk_span span;
        imv_chunk_span(chunk, vector, i, &span);
        imv_chunk_aggregate_cells(type, cells, valid, span.row_from, span.rows, &gathered);
        IMV_TRY(imv_chunk_span_statistics(chunk, index, vector, i, &stored, err));
        if (!imv_chunk_statistics_equal(type, &stored, &gathered))
            return corrupt(&chunk->id, err, "its statistics are not those of its values");
    }
    return IMV_OK;
}

imv_status imv_chunk_check(const void *bytes, size_t size, const struct imv_chunk_id *expected, struct imv_error *err) {
    enum { ARENA_BLOCK_BYTES = 64 << 10 };
    struct imv_chunk chunk;
    IMV_TRY(imv_chunk_open(bytes, size, expected, &chunk, err));
    imv_status status = IMV_OK;
    for (uint32_t vector = 0; status == IMV_OK && vector < chunk.vectors; vector++)
        status = check_times(&chunk, vector, err);
    for (uint32_t index = 0; status == IMV_OK && index < chunk.columns; index++) {
        struct imv_arena arena;
        imv_arena_init(&arena, ARENA_BLOCK_BYTES, NULL);
        for (uint32_t vector = 0; status == IMV_OK && vector < chunk.vectors; vector++)
            status = check_column(&chunk, index, vector, &arena, err);
        imv_arena_release(&arena);
    }
    return status;
}

void imv_chunk_stored(const struct imv_chunk *chunk, int index, uint32_t vector, struct imv_chunk_stored *stored) {
    imv_assert(vector < chunk->vectors && index < (int)chunk->columns);
    struct piece piece = piece_of(chunk, (size_t)(index + 1) * chunk->vectors + vector);
    *stored = (struct imv_chunk_stored){.codec = imv_codec_name(piece.codec),
                                        .type = piece.type,
                                        .nulls = piece.nulls,
                                        .bytes = piece.data_end - piece.data_start,
                                        .statistics_bytes = piece.statistics_end - piece.statistics_start};
}
