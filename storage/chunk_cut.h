/* chunk_cut.h - where the rows of a chunk are cut into spans and vectors; private to chunk.c.
 *
 * Statistics are of spans, values are encoded and decoded by vectors, and a vector is a few spans. Statistics answer a
 * window when spans lie inside it, so those of a long chunk begin and end where windows do: at hours (UTC), and inside
 * hours of more rows than a vector holds at half hours, quarters, five minutes and minutes, the longest of these that
 * fits.
 *
 *     spans      ..|........|........|........|........|..      a row every 10 s: 360 in each hour but the first and last
 *     vectors    ...........|.................|...........
 *
 * A period of fewer than PERIOD_ROWS_MIN rows in the chunk is not worth a span: its rows stay with those around it, and
 * such rows are cut by IMV_VECTOR_ROWS, as are those of minutes that hold more. So is a whole chunk of few rows, or one
 * that would have more spans than fit here. Spans are joined to vectors of at most IMV_VECTOR_ROWS, as many as fit.
 *
 * No state, any thread.
 */
#pragma once

#include "storage/chunk.h"

enum { IMV_CHUNK_SPANS_MAX = 128 };

struct imv_chunk_cut {
    size_t vectors, spans;
    uint16_t vector_rows[IMV_CHUNK_VECTORS_MAX];
    uint16_t vector_spans[IMV_CHUNK_VECTORS_MAX];
    uint16_t span_rows[IMV_CHUNK_SPANS_MAX]; /* of all vectors, one after the other */
};

/* Cuts rows (1..IMV_CHUNK_ROWS_MAX) of strictly rising timestamps, in nanoseconds. No span and no vector is empty. */
void imv_chunk_cut(const int64_t *timestamps, size_t rows, struct imv_chunk_cut *cut);
