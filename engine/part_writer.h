/* part_writer.h - encoded chunks on their way into the store: table files, and the parts that describe them.
 *
 *     begin a part -> put its chunks -> end, for each part .. -> ingest all tables -> take the parts
 *
 * Keys must rise: chunks of a part come by (label, series, start), parts by prefix (parts.h). A part has tables of its
 * own, cut at a size; only scattered parts of one class and generation share them. What is freed without having been
 * ingested leaves nothing behind; ingested parts that no record names are dropped at the next start.
 *
 * Memory: an open table is about 100 KB, a finished one a path. One thread.
 */
#pragma once

#include "engine/parts.h"

struct imv_part_writer;

/* One chunk: its identity, what it holds, its bytes (imv_chunk_encode). */
struct imv_part_chunk {
    struct imv_chunk_id id;
    uint32_t rows;
    int64_t last; /* timestamp of the last row */
    struct imv_str bytes;
};

/* IMV_NO_MEMORY. */
imv_status imv_part_writer_new(struct imv_kv *kv, struct imv_part_writer **writer, struct imv_error *err);
/* Deletes tables that are not ingested and parts that were not taken. NULL is allowed. */
void imv_part_writer_free(struct imv_part_writer *writer);

/* Starts a part: tier, class, slot, generation, order and made_at_ns of `like`. IMV_NO_MEMORY, and what finishing the
 * table before it may give (IMV_IO, IMV_FULL). */
imv_status imv_part_writer_begin(struct imv_part_writer *writer, const struct imv_part *like, struct imv_error *err);
/* Adds a chunk to the part that was begun. Its bytes are not needed after. IMV_IO, IMV_FULL (disk), IMV_NO_MEMORY. */
imv_status imv_part_writer_put(struct imv_part_writer *writer, const struct imv_part_chunk *chunk,
                               struct imv_error *err);
/* Ends the part, which has at least one chunk, and finishes its table unless the next part may share it. Errors as
 * put. */
imv_status imv_part_writer_end(struct imv_part_writer *writer, struct imv_error *err);

/* Ingests all tables; from then on their chunks are in the store for good. Once, at the end. IMV_IO, IMV_FULL. */
imv_status imv_part_writer_ingest(struct imv_part_writer *writer, struct imv_error *err);

/* Hands over the parts (each, and the array, malloc'ed; NULL when there are none). */
struct imv_part **imv_part_writer_take(struct imv_part_writer *writer, size_t *count);
