/* journal.h - what a journal group's payload says: definitions and rows, encoded by column, and deletions.
 *
 * A payload is a sequence of records: LABEL, FIELD, SERIES (definitions that this shard's journal does not hold yet and
 * that `meta` may not hold either) before the ROWS that use them. ROWS carries up to 1,024 rows of one shape:
 * series indices, timestamps and each field as a column of variable-length integers or raw cells, so that lz4 finds the
 * repetition. Row order within a series is kept. DELETE deletes a time range of some series of a label, or of all that
 * the shard has; it concerns the rows of the groups before it. The exact bytes stand at the top of journal.c.
 *
 * One encoder per shard, on the shard's thread. Decoding checks every byte: the payload passed its checksum, but a
 * record is bounded by its own length and every id must resolve.
 */
#pragma once

#include "engine/batch.h"
#include "storage/base/buffer.h"

struct imv_journal_encoder;

/* The encoder remembers which definitions this journal run has seen. */
imv_status imv_journal_encoder_new(struct imv_catalog *catalog, uint32_t shard, struct imv_journal_encoder **encoder,
                                   struct imv_error *err);
void imv_journal_encoder_free(struct imv_journal_encoder *encoder);

/* Encodes the rows of the batches (a list by next) and the definitions that they need into payload (appended). Marks
 * the definitions as journaled: when the group's write fails, the shard is closed, so they need not be unmarked.
 * IMV_FULL when payload's maximum is reached, with payload as it was before; IMV_NO_MEMORY. */
imv_status imv_journal_encode(struct imv_journal_encoder *encoder, const struct imv_batch *batches,
                              struct imv_buffer *payload, struct imv_error *err);

/* An upper bound of what a batch adds to a payload, from its own counts: to cut groups below the journal's maximum. A
 * batch of a writer stays below IMV_WAL_PAYLOAD_BYTES_MAX: definitions below 1.6 MiB, and twice
 * IMV_WRITER_ROW_BYTES_MAX for its rows. */
size_t imv_journal_bound(const struct imv_batch *batch);

/* Upper bounds of the records that define a series, and the fields [from, end) of a label together with the label. */
size_t imv_journal_series_bound(const struct imv_series *series);
size_t imv_journal_fields_bound(const struct imv_label *label, uint32_t from, uint32_t end);

/* The rows of these series of the label in this shard, or of all its series, within [from, last] are deleted. */
struct imv_journal_deletion {
    const struct imv_label *label;
    int64_t from, last;
    bool whole;
    const uint32_t *series; /* unless whole: indices, strictly rising; at least one */
    size_t series_count;
};

/* How many series a deletion may list to fit a payload of so many bytes. */
size_t imv_journal_deletion_series_max(size_t payload_bytes);

/* Appends a deletion. Its label and series are defined already, by the rows that made them visible. IMV_FULL,
 * IMV_NO_MEMORY as above. */
imv_status imv_journal_encode_deletion(const struct imv_journal_deletion *deletion, struct imv_buffer *payload,
                                       struct imv_error *err);

/* What imv_journal_decode calls, in the order of the records; what they get is valid during the call. A failure ends
 * the decoding and is returned. */
struct imv_journal_visitor {
    /* For each row of each ROWS record, in an order that keeps the order within each series. The strings of the row are
     * not behind its cells, so imv_row_bytes does not apply. */
    imv_status (*row)(void *context, const struct imv_row *row, struct imv_error *err);
    imv_status (*deletion)(void *context, const struct imv_journal_deletion *deletion, struct imv_error *err);
    void *context;
};

/* Decodes a payload: makes the definitions in the catalog (series are marked journaled) and calls the visitor.
 * IMV_CORRUPT. */
imv_status imv_journal_decode(struct imv_catalog *catalog, uint32_t shard, const uint8_t *payload, size_t size,
                              const struct imv_journal_visitor *visitor, struct imv_error *err);
