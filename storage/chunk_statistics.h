/* chunk_statistics.h - the statistics of one column in one span: how they are gathered and how chunk.c stores them.
 *
 * struct imv_chunk_statistics and what its members mean are in chunk.h. As bytes (numbers are varints but where
 * stated):
 *
 *     flags u8 | rows without value, if NULLS | end here if that is all rows, or of a STRING
 *     NaN count, if NANS
 *     integers:          min: zigzag | max - min | first - min | last - min | sum - count * min, up to 128 bits
 *     floats, DECIMAL:   digits: u8, if they are 7 or more | min * 10^digits: zigzag | and of the others, as above |
 *                        sum | off | low
 *     floats, otherwise: first | last | min | max | sum: 8 bytes each; min and max are left out when all are NaN | low
 *
 * With SAME, min, max, first and last are one cell: it is stored once, and the integers' sum is not. With DECIMAL the
 * three bits above the flags are the digits, or 7. The sum of floats is the pair of sum.h: with DECIMAL its high part
 * is the sum in units of 10^-digits less count * min, and, with OFF, how many units in the last place that is off, both
 * zigzag; without DECIMAL SCALED says that the pair is. low is its low part:
 *
 *     odd mantissa: zigzag, 0 for none | power of two of its last bit, relative to that of the high part: zigzag
 *
 * No state, any thread.
 */
#pragma once

#include "storage/chunk.h"

enum { IMV_CHUNK_STATISTICS_BYTES_MAX = 96 };

/* Of count (0..IMV_VECTOR_ROWS) values that are there, in row order. Cells of strings are not looked at. */
void imv_chunk_statistics_gather(imv_type type, const uint64_t *cells, size_t count,
                                 struct imv_chunk_statistics *statistics);

/* The same of runs of equal values (at least one run, no length 0), without writing them out. */
void imv_chunk_statistics_of_runs(imv_type type, const uint64_t *values, const uint64_t *lengths, size_t runs,
                                  struct imv_chunk_statistics *statistics);

/* The same of count (at least 1) integers first + i * step. False when they wrap around: then nothing is filled in. */
bool imv_chunk_statistics_of_line(imv_type type, uint64_t first, uint64_t step, size_t count,
                                  struct imv_chunk_statistics *statistics);

/* Writes at most IMV_CHUNK_STATISTICS_BYTES_MAX bytes; rows counts those without a value too. Returns the byte
 * after. */
uint8_t *imv_chunk_statistics_put(uint8_t *to, imv_type type, const struct imv_chunk_statistics *statistics,
                                  uint32_t rows);

/* Reads statistics that are exactly [from, end). */
bool imv_chunk_statistics_parse(const uint8_t *from, const uint8_t *end, imv_type type, uint32_t rows,
                                struct imv_chunk_statistics *statistics);

/* Adds those of the rows that follow. */
void imv_chunk_statistics_merge(imv_type type, struct imv_chunk_statistics *statistics,
                                const struct imv_chunk_statistics *more);

/* Bit for bit, in all that is defined for the type. */
bool imv_chunk_statistics_equal(imv_type type, const struct imv_chunk_statistics *a,
                                const struct imv_chunk_statistics *b);
