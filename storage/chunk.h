/* chunk.h - the stored form of a run of rows of one series: all its columns, sharing one timestamp column.
 *
 * Rows are in strictly rising time order. They are cut into vectors of at most IMV_VECTOR_ROWS; each column of each
 * vector is encoded on its own with the codec that makes it smallest (codec/codec.h). Lossless for every bit pattern.
 *
 * Beside a vector are statistics that answer a fully covered window without decoding. In a long chunk they are of
 * spans, a few in a vector, that are cut at hours or parts of hours where these have rows enough (chunk_cut.h): they
 * are the roll-up of the chunk.
 *
 *     +--------+-----------+------------+------------------+----------+----- - -
 *     | header | directory | statistics | timestamp column | column 0 | column 1
 *     +--------+-----------+------------+------------------+----------+----- - -
 *     The exact layout stands at the top of chunk.c.
 *
 * Header, directory and statistics are under one XXH3, each column's data under its own, all of them seeded with the
 * chunk's identity (label, series, start): a bit flip is found, and so is a right chunk in the wrong place. A scan
 * reads and verifies only what it asks for. Nothing read is trusted before its checksum and every bound are checked.
 *
 * A chunk of few bytes is under one checksum as a whole, verified when it is opened; one of at most 64 rows and few
 * bytes stores no statistics either and answers them from its values, which takes a decode of so many rows.
 *
 * No state, any thread; a struct imv_chunk is a view of bytes that must outlive it.
 */
#pragma once

#include "storage/base/buffer.h"
#include "storage/base/bytes.h"
#include "storage/base/status.h"
#include "storage/sum.h"
#include "storage/value.h"

enum {
    IMV_VECTOR_ROWS = 1024, /* at most */
    IMV_CHUNK_ROWS_MAX = 8192,
    IMV_CHUNK_VECTORS_MAX = 16,
    IMV_VECTOR_SPANS_MAX = 64,
    IMV_CHUNK_COLUMNS_MAX = 4096,
    IMV_VECTOR_WORDS = IMV_VECTOR_ROWS / 64, /* of a validity bitmap */
};

struct imv_arena;

/* What a chunk is of; part of its key, and covered by its checksums. */
struct imv_chunk_id {
    uint32_t label;
    uint64_t series;
    int64_t start; /* timestamp of the first row */
};

struct imv_chunk_column {
    uint32_t column; /* column id in the label */
    struct imv_vector values;
};

/* Appends the encoded chunk to out. timestamps are strictly rising, rows is 1..IMV_CHUNK_ROWS_MAX, columns are in
 * rising order of id and each has at least one value. IMV_FULL when out's maximum is reached, IMV_NO_MEMORY. */
imv_status imv_chunk_encode(const struct imv_chunk_id *id, const int64_t *timestamps, size_t rows,
                            const struct imv_chunk_column *columns, size_t columns_count, struct imv_buffer *out,
                            struct imv_error *err);

struct imv_chunk {
    const uint8_t *bytes;
    size_t size;
    struct imv_chunk_id id;
    uint32_t rows;
    uint32_t vectors;
    uint32_t columns; /* timestamps not counted */
    int64_t time_min, time_max;
    const uint8_t
        *cut; /* private to chunk.c from here on; NULL: vectors are full but for the last, and one span each */
    const uint8_t *column_ids;
    const uint8_t *entries;
    const uint8_t *statistics;
    const uint8_t *data;
    uint64_t seed;
    uint32_t first_id; /* where ids follow each other */
    uint8_t id_bytes, data_end_bytes, statistics_end_bytes, entry_bytes;
    bool is_whole;
};

/* Statistics of the rows of one column in one vector, or in a part of one. Of strings only the count is kept.
 *
 * FLOAT: min, max and sum leave NaN out; of two zeros the negative one is less, so min and max have one answer. The sum
 * is the pair of sum.h, so that sums of parts, merged with imv_sum_merge, round to the same double however the rows
 * were cut into vectors and chunks; a part's sum may differ in bits of `low` that rounding never shows. Add values of
 * rows with imv_sum_add, and round once, at the end. */
struct imv_chunk_statistics {
    uint32_t count;           /* rows with a value */
    uint32_t nan_count;       /* of FLOAT */
    uint64_t min, max;        /* cells; undefined when count == nan_count */
    uint64_t first, last;     /* cells of the first and the last row with a value */
    struct imv_sum sum_float; /* FLOAT */
    imv_int128 sum_integer;   /* INTEGER, UINTEGER, BOOLEAN: exact */
};

/* Checks header, directory and statistics and fills chunk. IMV_CORRUPT names what does not verify. */
imv_status imv_chunk_open(const void *bytes, size_t size, const struct imv_chunk_id *expected, struct imv_chunk *chunk,
                          struct imv_error *err);

/* Rows in a vector: 1..IMV_VECTOR_ROWS. Those of all add up to chunk->rows. */
static inline uint32_t imv_chunk_vector_rows(const struct imv_chunk *chunk, uint32_t vector) {
    if (chunk->cut != NULL) return imv_get_u16(chunk->cut + 2 * vector) % IMV_VECTOR_ROWS + UINT32_C(1);
    uint32_t before = vector * IMV_VECTOR_ROWS;
    return chunk->rows - before < IMV_VECTOR_ROWS ? chunk->rows - before : IMV_VECTOR_ROWS;
}

/* Spans in a vector: 1..IMV_VECTOR_SPANS_MAX. */
static inline uint32_t imv_chunk_vector_spans(const struct imv_chunk *chunk, uint32_t vector) {
    return chunk->cut == NULL ? 1 : imv_get_u16(chunk->cut + 2 * vector) / IMV_VECTOR_ROWS + UINT32_C(1);
}

/* The first and last timestamp of a vector, without decoding. */
void imv_chunk_vector_times(const struct imv_chunk *chunk, uint32_t vector, int64_t *first, int64_t *last);

/* Rows of a vector that have statistics of their own. */
struct imv_chunk_span {
    uint32_t row_from, rows; /* in the vector */
    int64_t first, last;     /* timestamps of the first and the last of them */
};

void imv_chunk_span(const struct imv_chunk *chunk, uint32_t vector, uint32_t index, struct imv_chunk_span *span);

/* Index of a column id in this chunk, or -1. */
int imv_chunk_find_column(const struct imv_chunk *chunk, uint32_t column);
/* Id and type of the column at index. */
uint32_t imv_chunk_column_id(const struct imv_chunk *chunk, uint32_t index);
imv_type imv_chunk_column_type(const struct imv_chunk *chunk, uint32_t index);

/* Those of a whole vector. */
void imv_chunk_statistics(const struct imv_chunk *chunk, uint32_t index, uint32_t vector,
                          struct imv_chunk_statistics *statistics);

/* Those of a span, as they are stored. IMV_CORRUPT, IMV_NO_MEMORY. */
imv_status imv_chunk_span_statistics(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, uint32_t span,
                                     struct imv_chunk_statistics *statistics, struct imv_error *err);

/* The first or last value of a STRING column needs decoding; of other types `statistics` has it. */

/* Decodes the timestamps of a vector into out[IMV_VECTOR_ROWS]. IMV_CORRUPT. */
imv_status imv_chunk_decode_times(const struct imv_chunk *chunk, uint32_t vector, int64_t *out, struct imv_error *err);

/* Decodes a column of a vector: cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS] (filled also when all rows have values;
 * *all_valid tells). Strings are put into arena. IMV_CORRUPT, IMV_NO_MEMORY. */
imv_status imv_chunk_decode_column(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, uint64_t *cells,
                                   uint64_t *valid, bool *all_valid, struct imv_arena *arena, struct imv_error *err);

/* Statistics of row_count rows of a vector from row_from on; rows without a value count as none, and none give all
 * zero. A whole vector is answered from what is stored, a part from as little decoding as its codec allows; who needs
 * many parts of one vector decodes it once and calls imv_chunk_aggregate_cells. IMV_CORRUPT, IMV_NO_MEMORY. */
imv_status imv_chunk_aggregate_column(const struct imv_chunk *chunk, uint32_t index, uint32_t vector, uint32_t row_from,
                                      uint32_t row_count, struct imv_chunk_statistics *out, struct imv_error *err);

/* The same of cells that imv_chunk_decode_column gave, or any others; valid may be NULL when every row has a value.
 * At most IMV_VECTOR_ROWS rows. */
void imv_chunk_aggregate_cells(imv_type type, const uint64_t *cells, const uint64_t *valid, uint32_t row_from,
                               uint32_t row_count, struct imv_chunk_statistics *out);

/* Verifies every checksum and decodes everything, for `imvdb check` and tests. */
imv_status imv_chunk_check(const void *bytes, size_t size, const struct imv_chunk_id *expected, struct imv_error *err);

/* How one column of one vector is stored, for `imvdb inspect`. */
struct imv_chunk_stored {
    const char *codec; /* static */
    imv_type type;
    bool nulls; /* some rows have no value */
    uint32_t bytes, statistics_bytes;
};

/* index -1: the timestamps. */
void imv_chunk_stored(const struct imv_chunk *chunk, int index, uint32_t vector, struct imv_chunk_stored *stored);
