/* aggregate.h - how an aggregate function keeps its state.
 *
 * A state is a few bytes per group, all zero at first. update takes a run of rows of one batch that belong to the
 * group: a loop over cells of one type, never a call per row. finish turns the state into the value. Nulls are ignored.
 * What a state must remember (strings, collected values) is copied into call->arena, which lives as long as the groups.
 *
 * Plain aggregates also take what the samples of whole buckets of time come to (engine/buckets.h) instead of their
 * rows: merge does what update would do with the rows.
 *
 * first and last go by the time of the samples when they know it (call->times), otherwise by the order of rows.
 */
#pragma once

#include "engine/buckets.h"
#include "query/column.h"
#include "query/fn/functions.h"

struct imv_aggregate_call {
    struct imv_call call;
    const struct imv_column *times; /* of the same rows as the argument; NULL when there are none */
    struct imv_value parameter;     /* the second argument: the fraction of a percentile */
};

/* Buckets of one field: values[i * stride]. For count(*) values is NULL and rows[i] counts. */
struct imv_bucket_run {
    imv_type type;
    const struct imv_bucket *values;
    size_t stride;
    const uint64_t *rows;
    size_t count;
};

/* The buckets of a batch (struct imv_row_batch), one a row. */
struct imv_bucket_view {
    const struct imv_buckets *buckets;
    const int32_t *columns;                /* by field of the scan: the column, or -1: the label has no such field */
    const struct imv_field *const *fields; /* of the columns */
};

struct imv_aggregate {
    uint32_t state_bytes;
    bool by_time;         /* wants call->times */
    uint8_t bucket_needs; /* enum imv_bucket_need */
    /* argument is NULL for count(*). */
    imv_status (*update)(struct imv_aggregate_call *call, void *state, const struct imv_column *argument, size_t first,
                         size_t end);
    /* NULL: this aggregate needs rows. */
    imv_status (*merge)(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run);
    imv_status (*finish)(struct imv_aggregate_call *call, void *state, struct imv_value *result);
};

extern const struct imv_aggregate imv_aggregate_count, imv_aggregate_sum, imv_aggregate_avg, imv_aggregate_min,
    imv_aggregate_max, imv_aggregate_first, imv_aggregate_last, imv_aggregate_stdev, imv_aggregate_stdevp,
    imv_aggregate_percentile_cont, imv_aggregate_percentile_disc, imv_aggregate_collect;
