/* aggregate.h - how an aggregate function keeps its state.
 *
 * A state is a few bytes per group, all zero at first. update takes a run of rows of one batch that belong to the group:
 * a loop over cells of one type, never a call per row. finish turns the state into the value. Nulls are ignored. What a
 * state must remember (strings, collected values) is copied into call->arena, which lives as long as the groups.
 *
 * first and last go by the time of the samples when they know it (call->times), otherwise by the order of rows.
 */
#pragma once

#include "query/column.h"
#include "query/fn/functions.h"

struct imv_aggregate_call {
    struct imv_call call;
    const struct imv_column *times; /* of the same rows as the argument; NULL when there are none */
    struct imv_value parameter;     /* the second argument: the fraction of a percentile */
};

struct imv_aggregate {
    uint32_t state_bytes;
    bool by_time; /* wants call->times */
    /* argument is NULL for count(*). */
    imv_status (*update)(struct imv_aggregate_call *call, void *state, const struct imv_column *argument, size_t first,
                         size_t end);
    imv_status (*finish)(struct imv_aggregate_call *call, void *state, struct imv_value *result);
};

extern const struct imv_aggregate imv_aggregate_count, imv_aggregate_sum, imv_aggregate_avg, imv_aggregate_min,
    imv_aggregate_max, imv_aggregate_first, imv_aggregate_last, imv_aggregate_stdev, imv_aggregate_stdevp,
    imv_aggregate_percentile_cont, imv_aggregate_percentile_disc, imv_aggregate_collect;
