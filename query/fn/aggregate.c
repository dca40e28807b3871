#include "query/fn/aggregate.h"

#include "query/exec.h"

#include <math.h>
#include <stdlib.h>

/* ---- count ---- */

struct count {
    uint64_t rows;
};

static uint64_t count_bits(const uint64_t *bits, size_t first, size_t end) {
    uint64_t count = 0;
    for (; first < end && first % 64 != 0; first++) count += bits[first / 64] >> first % 64 & 1;
    for (; first + 64 <= end; first += 64) count += (uint64_t)__builtin_popcountll(bits[first / 64]);
    for (; first < end; first++) count += bits[first / 64] >> first % 64 & 1;
    return count;
}

static uint64_t count_values(const struct imv_value *values, size_t first, size_t end) {
    uint64_t count = 0;
    for (size_t i = first; i < end; i++) count += values[i].kind != IMV_VALUE_NULL;
    return count;
}

static imv_status count_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                               size_t first, size_t end) {
    (void)call;
    struct count *count = state;
    if (argument == NULL) {
        count->rows += end - first;
    } else if (argument->constant) {
        struct imv_value value = imv_column_value(argument, 0);
        if (value.kind != IMV_VALUE_NULL) count->rows += end - first;
    } else if (argument->kind == IMV_COLUMN_VALUES) {
        count->rows += count_values(argument->values, first, end);
    } else if (argument->kind > IMV_COLUMN_NULL) {
        count->rows += argument->valid == NULL ? end - first : count_bits(argument->valid, first, end);
    }
    return IMV_OK;
}

static imv_status count_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    (void)call;
    *result = imv_value_uinteger(((struct count *)state)->rows);
    return IMV_OK;
}

static imv_status count_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run) {
    (void)call;
    struct count *count = state;
    for (size_t i = 0; i < run->count; i++)
        count->rows += run->values == NULL ? run->rows[i] : run->values[i * run->stride].count;
    return IMV_OK;
}

const struct imv_aggregate imv_aggregate_count = {
    .state_bytes = sizeof(struct count), .update = count_update, .merge = count_merge, .finish = count_finish};

/* ---- sum and avg ---- */

struct sum {
    imv_int128 integers; /* exact, durations too */
    struct imv_sum floats;
    uint64_t count : 60, has_float : 1, has_duration : 1, has_number : 1, has_unsigned : 1;
};

/* Runs have at most 1,024 values: while each is below 2^52 their sum cannot leave 64 bits, and two can be added at
 * once. */
static imv_int128 sum_of_integers(const uint64_t *cells, size_t count) {
    imv_int128 total = 0;
    uint64_t wrapping = 0, magnitude = 0;
    for (size_t i = 0; i < count; i++) {
        wrapping += cells[i];
        magnitude |= cells[i] ^ (uint64_t)((int64_t)cells[i] >> 63);
    }
    if (magnitude < UINT64_C(1) << 52) return (int64_t)wrapping;
    for (size_t i = 0; i < count; i++) total += (int64_t)cells[i];
    return total;
}

static imv_int128 sum_of_uintegers(const uint64_t *cells, size_t count) {
    imv_int128 total = 0;
    for (size_t i = 0; i < count; i++) total += (imv_int128)cells[i];
    return total;
}

/* Four running sums: an addition need not wait for the one before. */
static void sum_of_floats(const uint64_t *cells, size_t count, struct imv_sum *sum) {
    struct imv_sum lanes[4] = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (size_t lane = 0; lane < 4; lane++) imv_sum_add(&lanes[lane], imv_cell_float(cells[i + lane]));
    for (; i < count; i++) imv_sum_add(&lanes[0], imv_cell_float(cells[i]));
    for (size_t lane = 0; lane < 4; lane++) imv_sum_merge(sum, &lanes[lane]);
}

static void sum_cells(struct sum *sum, enum imv_column_kind kind, const uint64_t *cells, size_t count) {
    sum->count += count;
    sum->has_duration |= kind == IMV_COLUMN_DURATION;
    sum->has_number |= kind != IMV_COLUMN_DURATION;
    sum->has_float |= kind == IMV_COLUMN_FLOAT;
    sum->has_unsigned |= kind == IMV_COLUMN_UINTEGER;
    if (kind == IMV_COLUMN_FLOAT)
        sum_of_floats(cells, count, &sum->floats);
    else
        sum->integers += kind == IMV_COLUMN_UINTEGER ? sum_of_uintegers(cells, count) : sum_of_integers(cells, count);
}

static imv_status sum_value(struct imv_aggregate_call *call, struct sum *sum, const struct imv_value *value) {
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL: break;
        case IMV_VALUE_INTEGER: sum_cells(sum, IMV_COLUMN_INTEGER, &value->uinteger, 1); break;
        case IMV_VALUE_UINTEGER: sum_cells(sum, IMV_COLUMN_UINTEGER, &value->uinteger, 1); break;
        case IMV_VALUE_FLOAT: sum_cells(sum, IMV_COLUMN_FLOAT, &value->uinteger, 1); break;
        case IMV_VALUE_DURATION: sum_cells(sum, IMV_COLUMN_DURATION, &value->uinteger, 1); break;
        default: return imv_call_fail_argument(&call->call, "numbers or durations", value);
    }
    return IMV_OK;
}

static bool is_summable(enum imv_column_kind kind) {
    return kind == IMV_COLUMN_INTEGER || kind == IMV_COLUMN_UINTEGER || kind == IMV_COLUMN_FLOAT ||
           kind == IMV_COLUMN_DURATION;
}

static imv_status sum_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                             size_t first, size_t end) {
    struct sum *sum = state;
    if (is_summable((enum imv_column_kind)argument->kind) && !argument->constant && argument->valid == NULL) {
        sum_cells(sum, (enum imv_column_kind)argument->kind, argument->cells + first, end - first);
        return IMV_OK;
    }
    imv_status status = IMV_OK;
    for (size_t i = first; i < end && status == IMV_OK; i++) {
        struct imv_value value = imv_column_value(argument, i);
        status = sum_value(call, sum, &value);
    }
    return status;
}

static imv_status sum_mixed(struct imv_aggregate_call *call) {
    return imv_call_fail(&call->call, "TypeError", "InvalidArgumentValue", "%s cannot mix numbers and durations",
                         call->call.name);
}

static imv_status sum_overflow(struct imv_aggregate_call *call) {
    return imv_call_fail(&call->call, "ArithmeticError", "IntegerOverflow", "the result of %s does not fit 64 bits",
                         call->call.name);
}

/* The doubles and the integers together: these exactly, in three parts of at most 53 bits. */
static struct imv_sum sum_of_all(const struct sum *sum) {
    struct imv_sum all = sum->floats;
    imv_int128 rest = sum->integers;
    for (int part = 0; part < 3 && rest != 0; part++) {
        imv_sum_add(&all, (double)rest);
        rest -= (imv_int128)(double)rest;
    }
    return all;
}

static imv_status sum_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    struct sum *sum = state;
    if (sum->has_duration && sum->has_number) return sum_mixed(call);
    if (sum->has_float) {
        struct imv_sum all = sum_of_all(sum);
        *result = imv_value_float(imv_sum_round(&all));
    } else if (sum->integers >= INT64_MIN && sum->integers <= INT64_MAX) {
        int64_t total = (int64_t)sum->integers;
        *result = sum->has_duration ? imv_value_duration(total) : imv_value_integer(total);
    } else if (sum->has_unsigned && sum->integers > 0 && sum->integers <= UINT64_MAX) {
        *result = imv_value_uinteger((uint64_t)sum->integers);
    } else {
        return sum_overflow(call);
    }
    return IMV_OK;
}

static imv_status avg_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    struct sum *sum = state;
    *result = imv_value_null();
    if (sum->count == 0) return IMV_OK;
    if (sum->has_duration && sum->has_number) return sum_mixed(call);
    if (sum->has_duration) {
        *result = imv_value_duration((int64_t)(sum->integers / (imv_int128)sum->count));
    } else if (sum->has_float) {
        struct imv_sum all = sum_of_all(sum);
        *result = imv_value_float(imv_sum_mean(&all, sum->count));
    } else {
        *result = imv_value_float((double)sum->integers / (double)sum->count);
    }
    return IMV_OK;
}

static imv_status sum_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run) {
    (void)call;
    struct sum *sum = state;
    imv_assert(run->type == IMV_FLOAT || run->type == IMV_INTEGER || run->type == IMV_UINTEGER);
    for (size_t i = 0; i < run->count; i++) {
        const struct imv_bucket *bucket = &run->values[i * run->stride];
        if (bucket->count == 0) continue;
        sum->count += bucket->count;
        sum->has_number = true;
        sum->has_float |= run->type == IMV_FLOAT;
        sum->has_unsigned |= run->type == IMV_UINTEGER;
        if (run->type != IMV_FLOAT)
            sum->integers += bucket->sum_integer;
        else
            imv_sum_merge(&sum->floats, &bucket->sum_float);
        if (bucket->nan_count > 0) imv_sum_add(&sum->floats, NAN);
    }
    return IMV_OK;
}

const struct imv_aggregate imv_aggregate_sum = {.state_bytes = sizeof(struct sum),
                                                .bucket_needs = IMV_BUCKET_SUM,
                                                .update = sum_update,
                                                .merge = sum_merge,
                                                .finish = sum_finish};
const struct imv_aggregate imv_aggregate_avg = {.state_bytes = sizeof(struct sum),
                                                .bucket_needs = IMV_BUCKET_SUM,
                                                .update = sum_update,
                                                .merge = sum_merge,
                                                .finish = avg_finish};

/* ---- min and max ---- */

struct extreme {
    struct imv_value best; /* null: none yet */
};

/* The order of values, and of two zeros the negative one first, so that the answer does not depend on which was met
 * first. */
static int extreme_order(const struct imv_value *a, const struct imv_value *b) {
    int order = imv_value_order(a, b);
    if (order != 0 || a->kind != IMV_VALUE_FLOAT || b->kind != IMV_VALUE_FLOAT || a->number != 0) return order;
    return !signbit(a->number) - !signbit(b->number);
}

/* Sets the state when value is better: sign is -1 for min and 1 for max. */
static imv_status extreme_value(struct imv_aggregate_call *call, struct extreme *extreme, const struct imv_value *value,
                                int sign) {
    if (value->kind == IMV_VALUE_NULL) return IMV_OK;
    if (value->kind == IMV_VALUE_INTEGER && extreme->best.kind == IMV_VALUE_INTEGER) {
        bool better = sign > 0 ? value->integer > extreme->best.integer : value->integer < extreme->best.integer;
        if (better) extreme->best.integer = value->integer;
        return IMV_OK;
    }
    if (extreme->best.kind != IMV_VALUE_NULL && extreme_order(value, &extreme->best) * sign <= 0) return IMV_OK;
    if (imv_value_copy(call->call.arena, value, &extreme->best)) return IMV_OK;
    return imv_exec_fail_memory(call->call.exec);
}

static int64_t max_of_integers(const uint64_t *cells, size_t count) {
    int64_t best = (int64_t)cells[0];
    for (size_t i = 1; i < count; i++) best = (int64_t)cells[i] > best ? (int64_t)cells[i] : best;
    return best;
}

static int64_t min_of_integers(const uint64_t *cells, size_t count) {
    int64_t best = (int64_t)cells[0];
    for (size_t i = 1; i < count; i++) best = (int64_t)cells[i] < best ? (int64_t)cells[i] : best;
    return best;
}

/* 0.0 or -0.0: the one of the wanted sign when it is among the cells. */
static double zero_among(const uint64_t *cells, size_t count, double wanted) {
    for (size_t i = 0; i < count; i++)
        if (cells[i] == imv_float_cell(wanted)) return wanted;
    return -wanted;
}

/* NaN is above every number: it is the maximum when there is one, and the minimum only of NaNs alone. */
static double max_of_floats(const uint64_t *cells, size_t count) {
    double best = imv_cell_float(cells[0]);
    bool nan = isnan(best);
    for (size_t i = 1; i < count; i++) {
        double value = imv_cell_float(cells[i]);
        nan |= isnan(value);
        best = value > best ? value : best;
    }
    if (best == 0) best = zero_among(cells, count, 0.0);
    return nan ? NAN : best;
}

static double min_of_floats(const uint64_t *cells, size_t count) {
    double best = NAN;
    size_t i = 0;
    while (i < count && isnan(best)) best = imv_cell_float(cells[i++]);
    for (; i < count; i++) {
        double value = imv_cell_float(cells[i]);
        best = value < best ? value : best;
    }
    return best == 0 ? zero_among(cells, count, -0.0) : best;
}

static imv_status extreme_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                                 size_t first, size_t end, int sign) {
    imv_status status = IMV_OK;
    bool dense = !argument->constant && argument->valid == NULL && first < end;
    const uint64_t *cells = argument->cells + first;
    if (dense && (argument->kind == IMV_COLUMN_INTEGER || argument->kind == IMV_COLUMN_TIME)) {
        int64_t best = sign > 0 ? max_of_integers(cells, end - first) : min_of_integers(cells, end - first);
        struct imv_value value = imv_column_cell_value((enum imv_column_kind)argument->kind, (uint64_t)best);
        return extreme_value(call, state, &value, sign);
    }
    if (dense && argument->kind == IMV_COLUMN_FLOAT) {
        struct imv_value value =
            imv_value_float(sign > 0 ? max_of_floats(cells, end - first) : min_of_floats(cells, end - first));
        return extreme_value(call, state, &value, sign);
    }
    if (argument->constant && end > first) end = first + 1;
    for (size_t i = first; i < end && status == IMV_OK; i++) {
        struct imv_value value = imv_column_value(argument, i);
        status = extreme_value(call, state, &value, sign);
    }
    return status;
}

static imv_status min_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                             size_t first, size_t end) {
    return extreme_update(call, state, argument, first, end, -1);
}

static imv_status max_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                             size_t first, size_t end) {
    return extreme_update(call, state, argument, first, end, 1);
}

static imv_status extreme_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    (void)call;
    *result = ((struct extreme *)state)->best;
    return IMV_OK;
}

static imv_status extreme_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run,
                                int sign) {
    enum imv_column_kind kind = imv_column_kind_of(run->type);
    imv_status status = IMV_OK;
    for (size_t i = 0; i < run->count && status == IMV_OK; i++) {
        const struct imv_bucket *bucket = &run->values[i * run->stride];
        bool has_numbers = bucket->count > bucket->nan_count;
        if (bucket->count == 0) continue;
        struct imv_value value = imv_value_float(NAN);
        if (sign > 0 ? bucket->nan_count == 0 : has_numbers)
            value = imv_column_cell_value(kind, sign > 0 ? bucket->max : bucket->min);
        status = extreme_value(call, state, &value, sign);
    }
    return status;
}

static imv_status min_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run) {
    return extreme_merge(call, state, run, -1);
}

static imv_status max_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run) {
    return extreme_merge(call, state, run, 1);
}

const struct imv_aggregate imv_aggregate_min = {.state_bytes = sizeof(struct extreme),
                                                .bucket_needs = IMV_BUCKET_EXTENT,
                                                .update = min_update,
                                                .merge = min_merge,
                                                .finish = extreme_finish};
const struct imv_aggregate imv_aggregate_max = {.state_bytes = sizeof(struct extreme),
                                                .bucket_needs = IMV_BUCKET_EXTENT,
                                                .update = max_update,
                                                .merge = max_merge,
                                                .finish = extreme_finish};

/* ---- first and last ---- */

struct edge {
    struct imv_value value;
    int64_t time;
    bool found;
};

/* Of rows with equal times the first one is first and the last one last. */
static bool edge_improves(const struct edge *edge, int64_t at, int sign) {
    return !edge->found || (sign > 0 ? at >= edge->time : at < edge->time);
}

static imv_status edge_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                              size_t first, size_t end, int sign) {
    struct edge *edge = state;
    size_t best = end;
    for (size_t i = first; i < end; i++) {
        struct imv_value value = imv_column_value(argument, i), time = imv_value_null();
        if (value.kind == IMV_VALUE_NULL) continue;
        if (call->times != NULL) time = imv_column_value(call->times, i);
        int64_t at = time.kind == IMV_VALUE_TIME ? time.integer : 0;
        if (!edge_improves(edge, at, sign)) continue;
        edge->found = true;
        edge->time = at;
        best = i;
    }
    if (best == end) return IMV_OK;
    struct imv_value value = imv_column_value(argument, best);
    return imv_value_copy(call->call.arena, &value, &edge->value) ? IMV_OK : imv_exec_fail_memory(call->call.exec);
}

static imv_status first_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                               size_t first, size_t end) {
    return edge_update(call, state, argument, first, end, -1);
}

static imv_status last_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                              size_t first, size_t end) {
    return edge_update(call, state, argument, first, end, 1);
}

static imv_status edge_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    (void)call;
    *result = ((struct edge *)state)->value;
    return IMV_OK;
}

static imv_status edge_merge(struct edge *edge, const struct imv_bucket_run *run, int sign) {
    enum imv_column_kind kind = imv_column_kind_of(run->type);
    for (size_t i = 0; i < run->count; i++) {
        const struct imv_bucket *bucket = &run->values[i * run->stride];
        int64_t at = sign > 0 ? bucket->last_time : bucket->first_time;
        if (bucket->count == 0 || !edge_improves(edge, at, sign)) continue;
        edge->found = true;
        edge->time = at;
        edge->value =
            imv_column_cell_value(kind, sign > 0 ? bucket->last : bucket->first); /* no string: nothing to copy */
    }
    return IMV_OK;
}

static imv_status first_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run) {
    (void)call;
    return edge_merge(state, run, -1);
}

static imv_status last_merge(struct imv_aggregate_call *call, void *state, const struct imv_bucket_run *run) {
    (void)call;
    return edge_merge(state, run, 1);
}

const struct imv_aggregate imv_aggregate_first = {.state_bytes = sizeof(struct edge),
                                                  .by_time = true,
                                                  .bucket_needs = IMV_BUCKET_FIRST,
                                                  .update = first_update,
                                                  .merge = first_merge,
                                                  .finish = edge_finish};
const struct imv_aggregate imv_aggregate_last = {.state_bytes = sizeof(struct edge),
                                                 .by_time = true,
                                                 .bucket_needs = IMV_BUCKET_LAST,
                                                 .update = last_update,
                                                 .merge = last_merge,
                                                 .finish = edge_finish};

/* ---- standard deviation ---- */

/* Count, mean and sum of squared deviations; runs are joined by Chan's formula, which loses no digits when the mean is
 * large against the deviation. */
struct deviation {
    double count, mean, squares;
};

static void deviation_join(struct deviation *into, const struct deviation *run) {
    if (run->count == 0) return;
    double count = into->count + run->count, delta = run->mean - into->mean;
    into->mean += delta * run->count / count;
    into->squares += run->squares + delta * delta * into->count * run->count / count;
    into->count = count;
}

static imv_status deviation_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                                   size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        struct imv_value value = imv_column_value(argument, i);
        if (value.kind == IMV_VALUE_NULL) continue;
        if (!imv_value_is_number(&value)) return imv_call_fail_argument(&call->call, "numbers", &value);
        deviation_join(state, &(struct deviation){.count = 1, .mean = imv_value_to_float(&value)});
    }
    return IMV_OK;
}

/* Of a sample; 0 when there are not two values, as in openCypher. */
static imv_status stdev_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    (void)call;
    const struct deviation *deviation = state;
    *result = imv_value_float(deviation->count < 2 ? 0 : sqrt(deviation->squares / (deviation->count - 1)));
    return IMV_OK;
}

static imv_status stdevp_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    (void)call;
    const struct deviation *deviation = state;
    *result = imv_value_float(deviation->count < 1 ? 0 : sqrt(deviation->squares / deviation->count));
    return IMV_OK;
}

const struct imv_aggregate imv_aggregate_stdev = {
    .state_bytes = sizeof(struct deviation), .update = deviation_update, .finish = stdev_finish};
const struct imv_aggregate imv_aggregate_stdevp = {
    .state_bytes = sizeof(struct deviation), .update = deviation_update, .finish = stdevp_finish};

/* ---- percentiles and collect: all values ---- */

struct values {
    struct imv_value *items;
    size_t count, capacity;
};

static bool values_grow(struct imv_arena *arena, struct values *values) {
    size_t capacity = values->capacity == 0 ? 4 : values->capacity * 2;
    struct imv_value *items = imv_arena_alloc(arena, capacity * sizeof *items);
    if (items == NULL) return false;
    if (values->count > 0) memcpy(items, values->items, values->count * sizeof *items);
    values->items = items;
    values->capacity = capacity;
    return true;
}

static imv_status values_push(struct imv_aggregate_call *call, struct values *values, const struct imv_value *value) {
    struct imv_arena *arena = call->call.arena;
    bool pushed = values->count < values->capacity || values_grow(arena, values);
    if (!pushed || !imv_value_copy(arena, value, &values->items[values->count]))
        return imv_exec_fail_memory(call->call.exec);
    values->count++;
    return IMV_OK;
}

static imv_status collect_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                                 size_t first, size_t end) {
    imv_status status = IMV_OK;
    for (size_t i = first; i < end && status == IMV_OK; i++) {
        struct imv_value value = imv_column_value(argument, i);
        if (value.kind != IMV_VALUE_NULL) status = values_push(call, state, &value);
    }
    return status;
}

static imv_status collect_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    const struct values *values = state;
    return imv_call_list(&call->call, values->items, values->count, result);
}

static imv_status percentile_update(struct imv_aggregate_call *call, void *state, const struct imv_column *argument,
                                    size_t first, size_t end) {
    imv_status status = IMV_OK;
    for (size_t i = first; i < end && status == IMV_OK; i++) {
        struct imv_value value = imv_column_value(argument, i);
        if (value.kind == IMV_VALUE_NULL) continue;
        if (!imv_value_is_number(&value)) return imv_call_fail_argument(&call->call, "numbers", &value);
        status = values_push(call, state, &value);
    }
    return status;
}

struct ordering {
    struct imv_exec *exec;
    imv_status failed; /* of a poll while sorting */
};

static int order_values(const void *a, const void *b, void *context) {
    struct ordering *ordering = context;
    if (ordering->failed != IMV_OK) return 0;
    ordering->failed = imv_exec_step(ordering->exec);
    return imv_value_order(a, b);
}

/* Sorts the values and checks the fraction. */
static imv_status percentile_begin(struct imv_aggregate_call *call, struct values *values, double *fraction) {
    const struct imv_value *parameter = &call->parameter;
    if (values->count == 0) return IMV_OK; /* without rows nobody has evaluated the fraction */
    *fraction = imv_value_is_number(parameter) ? imv_value_to_float(parameter) : -1;
    if (!(*fraction >= 0 && *fraction <= 1))
        return imv_call_fail(&call->call, "ArgumentError", "NumberOutOfRange", "%s needs a fraction between 0 and 1",
                             call->call.name);
    struct ordering ordering = {call->call.exec, IMV_OK};
    if (values->count > 1) qsort_r(values->items, values->count, sizeof *values->items, order_values, &ordering);
    return ordering.failed;
}

/* Between the two neighbours. */
static imv_status percentile_cont_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    struct values *values = state;
    double fraction;
    *result = imv_value_null();
    imv_status status = percentile_begin(call, values, &fraction);
    if (status != IMV_OK || values->count == 0) return status;
    double position = fraction * (double)(values->count - 1);
    size_t below = (size_t)position, above = below + 1 < values->count ? below + 1 : below;
    double low = imv_value_to_float(&values->items[below]), high = imv_value_to_float(&values->items[above]);
    *result = imv_value_float(below == above ? low : low + (high - low) * (position - (double)below));
    return IMV_OK;
}

/* The nearest rank: the smallest value with at least that fraction of the values at or below it. */
static imv_status percentile_disc_finish(struct imv_aggregate_call *call, void *state, struct imv_value *result) {
    struct values *values = state;
    double fraction;
    *result = imv_value_null();
    imv_status status = percentile_begin(call, values, &fraction);
    if (status != IMV_OK || values->count == 0) return status;
    double rank = ceil(fraction * (double)values->count);
    *result = values->items[rank < 1 ? 0 : (size_t)rank - 1];
    return IMV_OK;
}

const struct imv_aggregate imv_aggregate_percentile_cont = {
    .state_bytes = sizeof(struct values), .update = percentile_update, .finish = percentile_cont_finish};
const struct imv_aggregate imv_aggregate_percentile_disc = {
    .state_bytes = sizeof(struct values), .update = percentile_update, .finish = percentile_disc_finish};
const struct imv_aggregate imv_aggregate_collect = {
    .state_bytes = sizeof(struct values), .update = collect_update, .finish = collect_finish};
