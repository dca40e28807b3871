/* arrow.h - rows of a shape as an Arrow IPC stream, as a client with a columnar library would send them.
 *
 * One stream holds a schema (the label in its metadata), a dictionary for each tag with the values that occur, and one
 * record batch: a timestamp in nanoseconds, tags as int32 indices, fields as int64 or double.
 */
#pragma once

#include "bench/load/shape.h"

/* The next rows of the shape, at most rows of them; *bytes is the caller's to free. False: no memory. */
bool bench_arrow_stream(struct bench_shape *shape, uint32_t rows, char **bytes, size_t *size);
