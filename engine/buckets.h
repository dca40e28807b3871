/* buckets.h - what the samples of series come to in buckets of time: the partial aggregates that queries fold into
 * groups.
 *
 * A bucket is [n * width, (n + 1) * width) for an integer n. Of each bucket with rows there is one entry, and per
 * column a struct imv_bucket with what was asked (enum imv_bucket_need); the count always. A list takes the buckets of
 * one series after the other and is emptied by its owner, who gave it its memory.
 *
 *     starts  [capacity]            where the bucket begins; the smallest time when that is before it
 *     rows    [capacity]            rows in the bucket, also those without a value in any asked column
 *     values  [capacity * columns]  bucket by bucket
 *
 * What the aggregates mean: NaN counts as a value and takes part in nothing else but first and last. Sums of integers
 * are exact, sums of doubles are pairs (storage/sum.h), so that neither depends on how rows are laid out in vectors,
 * parts and heads.
 *
 * Plain values, any thread.
 */
#pragma once

#include "storage/chunk.h"

enum imv_bucket_need {
    IMV_BUCKET_EXTENT = 1, /* min, max; not of STRING */
    IMV_BUCKET_SUM = 2,    /* of numbers and BOOLEAN */
    IMV_BUCKET_FIRST = 4,  /* not of STRING, as are those below */
    IMV_BUCKET_LAST = 8,
};

struct imv_bucket {
    uint64_t count;     /* rows with a value */
    uint64_t nan_count; /* of FLOAT, among them; not known when nothing but the count was asked */
    uint64_t min, max;  /* cells; undefined while count == nan_count */
    uint64_t first, last;
    int64_t first_time, last_time;
    union {
        struct imv_sum sum_float; /* of FLOAT, without NaN */
        imv_int128 sum_integer;   /* of INTEGER, UINTEGER, BOOLEAN */
    };
};

struct imv_buckets {
    size_t count, capacity;
    size_t columns_count;
    int64_t *starts;
    uint64_t *rows;
    struct imv_bucket *values;
};

/* The start of the bucket of a time, and the last time in it. width above 0. */
static inline int64_t imv_bucket_of(int64_t time, int64_t width, int64_t *last) {
    int64_t rest = time % width, start, end;
    if (rest < 0) rest += width;
    *last = __builtin_add_overflow(time, width - 1 - rest, &end) ? INT64_MAX : end;
    return __builtin_sub_overflow(time, rest, &start) ? INT64_MIN : start;
}

/* Adds what values later than all that the bucket has come to; first_time and last_time are those of the first and the
 * last of them, and are used for IMV_BUCKET_FIRST and LAST only. */
void imv_bucket_add(struct imv_bucket *bucket, imv_type type, uint8_t needs,
                    const struct imv_chunk_statistics *statistics, int64_t first_time, int64_t last_time);

/* Adds the rows [first, end) of a vector with these times, of which there is at least one. */
void imv_bucket_add_rows(struct imv_bucket *bucket, const struct imv_vector *vector, uint8_t needs,
                         const int64_t *times, size_t first, size_t end);
