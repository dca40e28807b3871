/* writer_internal.h - what writer_rows.c takes from writer.c. Nobody else includes it. */
#pragma once

#include "engine/writer.h"

/* Appends a row of a shape of the series' label to the batch of its shard and counts it; bytes is its size with its
 * strings, a multiple of 8. The row is filled in by the caller, all of it, before the writer is used again. IMV_FULL:
 * no batch memory now. IMV_NO_MEMORY. */
imv_status imv_writer_add_row(struct imv_writer *writer, struct imv_series *series, const struct imv_shape *shape,
                              size_t bytes, struct imv_row **row, struct imv_error *err);

/* The shard is woken when there may be room again. */
void imv_writer_want_room(struct imv_writer *writer);
