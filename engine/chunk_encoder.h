/* chunk_encoder.h - cuts rows of one series into chunks and encodes them: what flushes and consolidation share.
 *
 * A chunk holds the rows of one slot, at most IMV_CHUNK_ROWS_MAX, and at most 16 MiB of bytes: long strings make it
 * hold fewer rows. Columns without a value in it are left out.
 *
 * One thread. Buffers are kept from chunk to chunk.
 */
#pragma once

#include "engine/parts.h"
#include "engine/rows.h"
#include "storage/base/buffer.h"

struct imv_part_chunk;

struct imv_chunk_encoder {
    struct imv_arena scratch;  /* columns of one cut */
    struct imv_buffer encoded; /* one chunk */
};

void imv_chunk_encoder_init(struct imv_chunk_encoder *encoder);
void imv_chunk_encoder_release(struct imv_chunk_encoder *encoder);

/* Encodes the chunk that begins at row `from` (below rows->count) of the series; the next one begins at
 * from + chunk->rows. chunk->bytes live until the next call. IMV_NO_MEMORY; IMV_FULL: a single row is too large. */
imv_status imv_chunk_encoder_run(struct imv_chunk_encoder *encoder, const struct imv_rows *rows, size_t from,
                                 uint32_t label, uint64_t series, struct imv_part_chunk *chunk, struct imv_error *err);

/* The first row at or after `from` whose timestamp is not earlier; rows->count when there is none. */
size_t imv_rows_find(const struct imv_rows *rows, size_t from, int64_t timestamp);
