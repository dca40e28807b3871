/* writer_rows.h - the writer's entrance for columns: rows of one shape that are given by arrays, not by names.
 *
 * A source that knows the fields of its rows beforehand (Arrow batches, copies between engines) resolves their shape
 * once (imv_label_field, imv_label_shape) and then hands over runs of rows. A row costs no look-up: a reservation in
 * the batch of its shard and a copy of its cells. Acknowledgement and back-pressure are the writer's (writer.h).
 *
 * The shard's thread only.
 */
#pragma once

#include "engine/writer.h"

/* The values of one field, one a row. */
struct imv_writer_column {
    const uint64_t *cells;       /* of types other than STRING */
    const struct imv_str *texts; /* of STRING, each at most IMV_STRING_BYTES_MAX; copied */
};

struct imv_writer_rows {
    struct imv_series *const *series; /* all of the shape's label */
    const int64_t *timestamps;
    const struct imv_writer_column *columns; /* shape->count, in the shape's order */
};

/* Writes the rows [from, to) until one is not taken; *next is that one, or `to`. IMV_FULL: no room now, and the shard
 * is woken when there may be; the caller goes on with *next then. IMV_INVALID: row *next may pass
 * IMV_WRITER_ROW_BYTES_MAX. IMV_NO_MEMORY. */
imv_status imv_writer_put_rows(struct imv_writer *writer, const struct imv_shape *shape,
                               const struct imv_writer_rows *rows, size_t from, size_t to, size_t *next,
                               struct imv_error *err);
