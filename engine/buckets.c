#include "engine/buckets.h"

#include "storage/base/assert.h"

/* Of two zeros the negative one is less, so that minimum and maximum have one answer each. */
static bool float_before(uint64_t a, uint64_t b) {
    double x = imv_cell_float(a), y = imv_cell_float(b);
    return x < y || (x == y && a > b);
}

static bool cell_before(imv_type type, uint64_t a, uint64_t b) {
    if (type == IMV_FLOAT) return float_before(a, b);
    return type == IMV_UINTEGER ? a < b : (int64_t)a < (int64_t)b;
}

static void add_extent(struct imv_bucket *bucket, imv_type type, const struct imv_chunk_statistics *statistics) {
    bool is_first = bucket->count == bucket->nan_count;
    if (statistics->count == statistics->nan_count) return;
    if (is_first || cell_before(type, statistics->min, bucket->min)) bucket->min = statistics->min;
    if (is_first || cell_before(type, bucket->max, statistics->max)) bucket->max = statistics->max;
}

void imv_bucket_add(struct imv_bucket *bucket, imv_type type, uint8_t needs,
                    const struct imv_chunk_statistics *statistics, int64_t first_time, int64_t last_time) {
    if (statistics->count == 0) return;
    imv_assert(type != IMV_STRING || needs == 0);
    if (needs & IMV_BUCKET_EXTENT) add_extent(bucket, type, statistics);
    if (needs & IMV_BUCKET_SUM && type == IMV_FLOAT)
        imv_sum_merge(&bucket->sum_float, &statistics->sum_float);
    else if (needs & IMV_BUCKET_SUM)
        bucket->sum_integer += statistics->sum_integer;
    if (needs & IMV_BUCKET_FIRST && bucket->count == 0) {
        bucket->first = statistics->first;
        bucket->first_time = first_time;
    }
    if (needs & IMV_BUCKET_LAST) {
        bucket->last = statistics->last;
        bucket->last_time = last_time;
    }
    bucket->count += statistics->count;
    bucket->nan_count += statistics->nan_count;
}

/* How many of the rows [first, end) have a value. */
static uint32_t count_values(const uint64_t *valid, size_t first, size_t end) {
    uint32_t count = 0;
    for (size_t row = first; row < end;) {
        size_t rows = 64 - row % 64 < end - row ? 64 - row % 64 : end - row;
        uint64_t bits = valid[row / 64] >> row % 64;
        if (rows < 64) bits &= (UINT64_C(1) << rows) - 1;
        count += (uint32_t)__builtin_popcountll(bits);
        row += rows;
    }
    return count;
}

void imv_bucket_add_rows(struct imv_bucket *bucket, const struct imv_vector *vector, uint8_t needs,
                         const int64_t *times, size_t first, size_t end) {
    struct imv_chunk_statistics statistics = {0};
    if (needs == 0) {
        bucket->count += vector->valid == NULL ? end - first : count_values(vector->valid, first, end);
        return;
    }
    size_t first_row = first, last_row = end - 1;
    if (vector->valid != NULL) {
        while (first_row < end && !imv_bit_get(vector->valid, first_row)) first_row++;
        if (first_row == end) return;
        while (!imv_bit_get(vector->valid, last_row)) last_row--;
    }
    imv_chunk_aggregate_cells(vector->type, vector->cells, vector->valid, (uint32_t)first, (uint32_t)(end - first),
                              &statistics);
    imv_bucket_add(bucket, vector->type, needs, &statistics, times[first_row], times[last_row]);
}
