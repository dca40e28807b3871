#include "engine/chunk_encoder.h"

#include "engine/part_writer.h"
#include "storage/base/assert.h"

enum {
    CHUNK_BYTES_MAX =
        16 << 20, /* a larger chunk is cut into fewer rows; one row is below the journal's payload limit */
    SCRATCH_BLOCK_BYTES = 64 << 10,
};

void imv_chunk_encoder_init(struct imv_chunk_encoder *encoder) {
    imv_arena_init(&encoder->scratch, SCRATCH_BLOCK_BYTES, NULL);
    imv_buffer_init(&encoder->encoded, CHUNK_BYTES_MAX);
}

void imv_chunk_encoder_release(struct imv_chunk_encoder *encoder) {
    imv_arena_release(&encoder->scratch);
    imv_buffer_release(&encoder->encoded);
}

/* Copies count bits from bit `from` on; returns how many are set. */
static size_t bits_cut(uint64_t *to, const uint64_t *bits, size_t from, size_t count) {
    size_t set = 0, shift = from % 64, words = (count + 63) / 64, last = (from + count - 1) / 64;
    for (size_t i = 0; i < words; i++) {
        size_t at = from / 64 + i;
        uint64_t word = bits[at] >> shift;
        if (shift > 0 && at < last) word |= bits[at + 1] << (64 - shift);
        if (i == words - 1 && count % 64 != 0) word &= (UINT64_C(1) << count % 64) - 1;
        to[i] = word;
        set += (size_t)__builtin_popcountll(word);
    }
    return set;
}

/* The columns of rows [from, from + count) that have a value there. NULL: no memory. */
static struct imv_chunk_column *columns_cut(struct imv_chunk_encoder *encoder, const struct imv_rows *rows, size_t from,
                                            size_t count, size_t *columns_count) {
    imv_arena_reset(&encoder->scratch);
    struct imv_chunk_column *columns = imv_arena_calloc(&encoder->scratch, rows->columns_count, sizeof *columns);
    if (columns == NULL) return NULL;
    *columns_count = 0;
    for (size_t i = 0; i < rows->columns_count; i++) {
        const struct imv_vector *whole = &rows->columns[i];
        struct imv_vector cut = {.type = whole->type, .cells = whole->cells + from};
        if (whole->valid != NULL) {
            cut.valid = imv_arena_alloc(&encoder->scratch, (count + 63) / 64 * sizeof(uint64_t));
            if (cut.valid == NULL) return NULL;
            size_t set = bits_cut(cut.valid, whole->valid, from, count);
            if (set == 0) continue;
            if (set == count) cut.valid = NULL;
        }
        columns[(*columns_count)++] = (struct imv_chunk_column){rows->column_ids[i], cut};
    }
    return columns;
}

imv_status imv_chunk_encoder_run(struct imv_chunk_encoder *encoder, const struct imv_rows *rows, size_t from,
                                 uint32_t label, uint64_t series, struct imv_part_chunk *chunk, struct imv_error *err) {
    imv_assert(from < rows->count);
    uint32_t slot = imv_slot_of(rows->timestamps[from]);
    size_t count = imv_rows_find(rows, from, imv_slot_start(slot + 1)) - from;
    if (count == 0) count = rows->count - from; /* the last slot ends at the last timestamp, which is in it */
    if (count > IMV_CHUNK_ROWS_MAX) count = IMV_CHUNK_ROWS_MAX;
    chunk->id = (struct imv_chunk_id){label, series, rows->timestamps[from]};
    for (;; count /= 2) {
        size_t columns_count;
        const struct imv_chunk_column *columns = columns_cut(encoder, rows, from, count, &columns_count);
        if (columns == NULL) return imv_fail(err, IMV_NO_MEMORY, "chunk: no memory for %zu rows", count);
        imv_buffer_reset(&encoder->encoded);
        imv_status status = imv_chunk_encode(&chunk->id, rows->timestamps + from, count, columns, columns_count,
                                             &encoder->encoded, err);
        if (status == IMV_FULL && count > 1) continue;
        if (status != IMV_OK) return status;
        break;
    }
    chunk->rows = (uint32_t)count;
    chunk->last = rows->timestamps[from + count - 1];
    chunk->bytes = imv_buffer_view(&encoder->encoded);
    return IMV_OK;
}

size_t imv_rows_find(const struct imv_rows *rows, size_t from, int64_t timestamp) {
    size_t low = from, high = rows->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows->timestamps[middle] < timestamp)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
