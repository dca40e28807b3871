/* Groups rows by keys and folds each group into one row.
 *
 * Rows of a batch come from one series mostly, and keys that belong to the twin are constants there, while windows
 * change every few rows. So keys are not looked at row by row: the batch is cut into runs of rows with equal keys, by
 * comparing neighbours in each column that is no constant; each run looks its group up once and hands every aggregate
 * the whole run. Where the plan lets the scan make buckets (opt/push_buckets.c), a row of the batch stands for all
 * samples of one. */
#include "query/fn/aggregate.h"
#include "query/group_table.h"
#include "query/ops/sample_scan.h"
#include "query/ops/window.h"

struct aggregation {
    const struct imv_function *function;
    struct imv_code *argument;  /* NULL: count(*) */
    struct imv_code *parameter; /* NULL: none */
    bool distinct;
    uint32_t time_slot;
    size_t state_offset;         /* in a group's payload */
    struct imv_group_table seen; /* DISTINCT: group and value, of all values that a group has had */
    struct imv_aggregate_call call;
    struct imv_column column; /* of the batch at hand */
    struct imv_column times;
};

struct aggregate {
    struct imv_operator op;
    uint32_t keys_count, aggregations_count;
    struct imv_code **key_codes;
    struct imv_column *key_columns;
    struct imv_value *keys;
    uint8_t *starts_run; /* per row of the batch */
    struct aggregation *aggregations;
    struct imv_group_table table;
    struct imv_group *current;                   /* group of the run before */
    struct imv_code *recent_skip, *recent_limit; /* see plan.h; NULL: no */
    int64_t window_width;                        /* when recent_limit is set */
    bool folded;
    struct imv_group *given; /* next to be given */
    struct imv_source source;
};

static size_t aligned(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

/* ---- opening ---- */

static imv_status open_aggregation(struct aggregate *aggregate, uint32_t i, size_t *payload_bytes) {
    const struct imv_expr *call = aggregate->op.plan->aggregate.aggregates[i];
    struct imv_compiler *compiler = &aggregate->op.branch->compiler;
    struct aggregation *aggregation = &aggregate->aggregations[i];
    *aggregation = (struct aggregation){.function = call->call.function,
                                        .distinct = call->call.distinct,
                                        .time_slot = aggregate->op.plan->aggregate.time_slots[i]};
    aggregation->call.call = (struct imv_call){.exec = aggregate->op.exec,
                                               .arena = &aggregate->table.arena,
                                               .span = call->span,
                                               .name = call->call.function->name.data};
    if (call->call.count > 0) IMV_TRY(imv_compile(compiler, call->call.arguments[0], &aggregation->argument));
    if (call->call.count > 1) IMV_TRY(imv_compile(compiler, call->call.arguments[1], &aggregation->parameter));
    if (aggregation->distinct) imv_group_table_init(aggregate->op.exec, 2, 0, &aggregation->seen);
    aggregation->state_offset = *payload_bytes;
    *payload_bytes += aligned(call->call.function->state->state_bytes);
    return IMV_OK;
}

static imv_status aggregate_open(struct imv_operator *op) {
    struct aggregate *aggregate = (struct aggregate *)op;
    struct imv_arena *arena = &op->exec->arena;
    uint32_t keys = op->plan->aggregate.keys_count, aggregations = op->plan->aggregate.aggregates_count;
    size_t payload_bytes = 0;
    aggregate->keys_count = keys;
    aggregate->aggregations_count = aggregations;
    aggregate->key_codes = imv_arena_calloc(arena, keys + 1, sizeof *aggregate->key_codes);
    aggregate->key_columns = imv_arena_calloc(arena, keys + 1, sizeof *aggregate->key_columns);
    aggregate->keys = imv_arena_calloc(arena, keys + 1, sizeof *aggregate->keys);
    aggregate->starts_run = imv_arena_calloc(arena, IMV_BATCH_ROWS_MAX, 1);
    aggregate->aggregations = imv_arena_calloc(arena, aggregations + 1, sizeof *aggregate->aggregations);
    if (aggregate->key_codes == NULL || aggregate->key_columns == NULL || aggregate->keys == NULL ||
        aggregate->starts_run == NULL || aggregate->aggregations == NULL)
        return imv_exec_fail_memory(op->exec);
    for (uint32_t i = 0; i < keys; i++)
        IMV_TRY(imv_compile(&op->branch->compiler, op->plan->aggregate.keys[i].expr, &aggregate->key_codes[i]));
    for (uint32_t i = 0; i < aggregations; i++) IMV_TRY(open_aggregation(aggregate, i, &payload_bytes));
    imv_group_table_init(op->exec, keys, payload_bytes, &aggregate->table);
    if (op->plan->aggregate.recent_limit == NULL) return IMV_OK;
    IMV_TRY(imv_compile_optional(&op->branch->compiler, op->plan->aggregate.recent_skip, &aggregate->recent_skip));
    IMV_TRY(imv_compile(&op->branch->compiler, op->plan->aggregate.recent_limit, &aggregate->recent_limit));
    return imv_window_width(op->branch, op->plan->input->window.window, &aggregate->window_width);
}

/* ---- runs ---- */

static void mark_cells(const struct imv_column *column, size_t rows, uint8_t *starts_run) {
    for (size_t i = 1; i < rows; i++) starts_run[i] |= column->cells[i] != column->cells[i - 1];
    for (size_t i = 1; column->valid != NULL && i < rows; i++)
        starts_run[i] |= imv_bit_get(column->valid, i) != imv_bit_get(column->valid, i - 1);
}

static void mark_values(const struct imv_column *column, size_t rows, uint8_t *starts_run) {
    for (size_t i = 1; i < rows; i++) {
        const struct imv_value *a = &column->values[i], *b = &column->values[i - 1];
        bool same = a->kind == b->kind && a->size == b->size && a->integer == b->integer;
        starts_run[i] |= !same && imv_value_order(a, b) != 0;
    }
}

/* Marks the rows whose keys differ from those of the row before. Cells that differ may still be equal strings, or nulls
 * with different rubbish: then two runs have one group, which costs a lookup and nothing else. */
static void mark_runs(struct aggregate *aggregate, size_t rows) {
    memset(aggregate->starts_run, 0, rows);
    for (uint32_t i = 0; i < aggregate->keys_count; i++) {
        const struct imv_column *column = &aggregate->key_columns[i];
        if (column->constant || column->kind <= IMV_COLUMN_NULL) continue;
        if (column->kind == IMV_COLUMN_VALUES)
            mark_values(column, rows, aggregate->starts_run);
        else
            mark_cells(column, rows, aggregate->starts_run);
    }
}

/* The group of a row; mostly the same keys come again, in the next batch of a series. */
static imv_status find_group(struct aggregate *aggregate, size_t row, struct imv_group **group) {
    bool added;
    for (uint32_t i = 0; i < aggregate->keys_count; i++)
        aggregate->keys[i] = imv_column_value(&aggregate->key_columns[i], row);
    *group = aggregate->current;
    if (*group != NULL && imv_group_matches(*group, aggregate->keys, aggregate->keys_count)) return IMV_OK;
    uint64_t hash = imv_group_hash(aggregate->keys, aggregate->keys_count, aggregate->op.exec->hash_seed);
    IMV_TRY(imv_group_table_find(&aggregate->table, aggregate->keys, hash, group, &added));
    aggregate->current = *group;
    return IMV_OK;
}

/* ---- folding ---- */

/* Each value that the group has not had yet, by itself. */
static imv_status fold_distinct(struct aggregate *aggregate, struct aggregation *aggregation, struct imv_group *group,
                                char *state, size_t first, size_t end) {
    struct imv_exec *exec = aggregate->op.exec;
    struct imv_value keys[2] = {imv_value_integer((int64_t)(uintptr_t)group)};
    for (size_t i = first; i < end; i++) {
        struct imv_group *known;
        bool added;
        keys[1] = imv_column_value(&aggregation->column, i);
        if (keys[1].kind == IMV_VALUE_NULL) continue;
        IMV_TRY(imv_exec_step(exec));
        uint64_t hash = imv_group_hash(keys, 2, exec->hash_seed);
        IMV_TRY(imv_group_table_find(&aggregation->seen, keys, hash, &known, &added));
        if (added)
            IMV_TRY(aggregation->function->state->update(&aggregation->call, state, &aggregation->column, i, i + 1));
    }
    return IMV_OK;
}

static imv_status fold_run(struct aggregate *aggregate, struct imv_group *group, size_t first, size_t end) {
    char *payload = imv_group_payload(&aggregate->table, group);
    for (uint32_t i = 0; i < aggregate->aggregations_count; i++) {
        struct aggregation *aggregation = &aggregate->aggregations[i];
        char *state = payload + aggregation->state_offset;
        if (aggregation->distinct)
            IMV_TRY(fold_distinct(aggregate, aggregation, group, state, first, end));
        else
            IMV_TRY(aggregation->function->state->update(
                &aggregation->call, state, aggregation->argument == NULL ? NULL : &aggregation->column, first, end));
    }
    return IMV_OK;
}

static imv_status evaluate_arguments(struct aggregate *aggregate, struct imv_row_batch *batch) {
    struct imv_exec *exec = aggregate->op.exec;
    for (uint32_t i = 0; i < aggregate->aggregations_count; i++) {
        struct aggregation *aggregation = &aggregate->aggregations[i];
        if (aggregation->argument != NULL)
            IMV_TRY(imv_code_column(exec, aggregation->argument, batch, &aggregation->column));
        if (aggregation->parameter != NULL)
            IMV_TRY(imv_code_row(exec, aggregation->parameter, batch, 0, &aggregation->call.parameter));
        if (aggregation->time_slot == UINT32_MAX) continue;
        aggregation->times = batch->slots[aggregation->time_slot];
        aggregation->call.times = aggregation->times.kind == IMV_COLUMN_ABSENT ? NULL : &aggregation->times;
    }
    return IMV_OK;
}

static imv_status evaluate_keys(struct aggregate *aggregate, struct imv_row_batch *batch) {
    for (uint32_t i = 0; i < aggregate->keys_count; i++)
        IMV_TRY(imv_code_column(aggregate->op.exec, aggregate->key_codes[i], batch, &aggregate->key_columns[i]));
    return IMV_OK;
}

/* A run of buckets in place of the rows that they are made of. */
static imv_status fold_buckets(struct aggregate *aggregate, struct imv_group *group, const struct imv_bucket_view *view,
                               size_t first, size_t end) {
    const struct imv_buckets *buckets = view->buckets;
    const uint32_t *fields = aggregate->op.plan->aggregate.bucket_fields;
    char *payload = imv_group_payload(&aggregate->table, group);
    for (uint32_t i = 0; i < aggregate->aggregations_count; i++) {
        struct aggregation *aggregation = &aggregate->aggregations[i];
        struct imv_bucket_run run = {
            .rows = buckets->rows + first, .stride = buckets->columns_count, .count = end - first};
        if (fields[i] != UINT32_MAX) {
            int32_t column = view->columns[fields[i]];
            if (column < 0) continue;
            run.type = view->fields[column]->type;
            run.values = buckets->values + first * buckets->columns_count + (size_t)column;
        }
        IMV_TRY(aggregation->function->state->merge(&aggregation->call, payload + aggregation->state_offset, &run));
    }
    return IMV_OK;
}

static imv_status fold_batch(struct aggregate *aggregate, struct imv_row_batch *batch) {
    IMV_TRY(evaluate_keys(aggregate, batch));
    if (batch->buckets == NULL) IMV_TRY(evaluate_arguments(aggregate, batch));
    mark_runs(aggregate, batch->rows);
    for (size_t first = 0, end; first < batch->rows; first = end) {
        struct imv_group *group;
        for (end = first + 1; end < batch->rows && !aggregate->starts_run[end];) end++;
        IMV_TRY(find_group(aggregate, first, &group));
        if (batch->buckets != NULL)
            IMV_TRY(fold_buckets(aggregate, group, batch->buckets, first, end));
        else
            IMV_TRY(fold_run(aggregate, group, first, end));
    }
    return IMV_OK;
}

static imv_status fold_input(struct aggregate *aggregate) {
    struct imv_row_batch *batch;
    for (;;) {
        IMV_TRY(imv_operator_next(aggregate->op.input, &batch));
        if (batch == NULL) return IMV_OK;
        IMV_TRY(fold_batch(aggregate, batch));
    }
}

/* Reads the newest windows first: as many as groups are wanted, and while there are fewer groups four times as many as
 * before. Groups of older windows come behind, which Top would sort there anyway. */
static imv_status fold_recent(struct aggregate *aggregate) {
    struct imv_exec *exec = aggregate->op.exec;
    struct imv_operator *scan = aggregate->op.input->input;
    int64_t first, last, newest = imv_snapshot_newest(exec->snapshot), width = aggregate->window_width;
    uint64_t wanted, windows;
    IMV_TRY(imv_top_count(exec, aggregate->recent_skip, aggregate->recent_limit, &wanted));
    IMV_TRY(imv_sample_scan_range(scan, &first, &last));
    if (last > newest) last = newest;
    windows = wanted == 0 ? 1 : wanted;
    for (;; windows = windows < UINT64_MAX / 4 ? windows * 4 : windows) {
        int64_t span, from, ignored;
        bool is_all = windows > INT64_MAX || __builtin_mul_overflow((int64_t)(windows - 1), width, &span) ||
                      __builtin_sub_overflow(last, span, &from);
        from = is_all ? INT64_MIN : imv_bucket_of(from, width, &ignored);
        IMV_TRY(imv_sample_scan_narrow(scan, from, last));
        IMV_TRY(fold_input(aggregate));
        if (from <= first || aggregate->table.count >= wanted) return IMV_OK;
        last = from - 1;
    }
}

static imv_status fold_all(struct aggregate *aggregate) {
    IMV_TRY(aggregate->recent_limit != NULL ? fold_recent(aggregate) : fold_input(aggregate));
    /* Without keys there is one group, also of no rows. */
    if (aggregate->keys_count == 0 && aggregate->table.count == 0) {
        struct imv_group *group;
        IMV_TRY(find_group(aggregate, 0, &group));
    }
    aggregate->folded = true;
    aggregate->given = aggregate->table.first;
    return IMV_OK;
}

/* ---- giving ---- */

static imv_status give_groups(struct aggregate *aggregate, size_t rows) {
    const struct imv_plan *plan = aggregate->op.plan;
    struct imv_source *source = &aggregate->source;
    uint32_t columns_count = aggregate->keys_count + aggregate->aggregations_count;
    struct imv_value *values = imv_arena_alloc(&source->arena, (columns_count * rows + 1) * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(aggregate->op.exec);
    for (size_t row = 0; row < rows; row++, aggregate->given = aggregate->given->next) {
        struct imv_group *group = aggregate->given;
        char *payload = imv_group_payload(&aggregate->table, group);
        for (uint32_t i = 0; i < aggregate->keys_count; i++) values[i * rows + row] = group->keys[i];
        for (uint32_t i = 0; i < aggregate->aggregations_count; i++) {
            struct aggregation *aggregation = &aggregate->aggregations[i];
            IMV_TRY(aggregation->function->state->finish(&aggregation->call, payload + aggregation->state_offset,
                                                         &values[(aggregate->keys_count + i) * rows + row]));
        }
    }
    for (uint32_t i = 0; i < columns_count; i++) {
        uint32_t slot = i < aggregate->keys_count ? plan->aggregate.keys[i].slot
                                                  : plan->aggregate.aggregates[i - aggregate->keys_count]->call.slot;
        source->batch.slots[slot] = imv_column_values(values + i * rows);
    }
    source->batch.rows = rows;
    return IMV_OK;
}

static imv_status aggregate_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct aggregate *aggregate = (struct aggregate *)op;
    if (!aggregate->folded) IMV_TRY(fold_all(aggregate));
    if (!imv_source_ready(&aggregate->source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, &aggregate->source));
    size_t rows = 0;
    for (struct imv_group *group = aggregate->given; group != NULL && rows < IMV_BATCH_ROWS_MAX; group = group->next)
        rows++;
    if (rows == 0) return IMV_OK;
    imv_source_reset(&aggregate->source);
    IMV_TRY(give_groups(aggregate, rows));
    *batch = &aggregate->source.batch;
    return IMV_OK;
}

static void aggregate_close(struct imv_operator *op) {
    struct aggregate *aggregate = (struct aggregate *)op;
    for (uint32_t i = 0; aggregate->aggregations != NULL && i < aggregate->aggregations_count; i++)
        imv_group_table_release(&aggregate->aggregations[i].seen);
    imv_group_table_release(&aggregate->table);
    imv_source_release(&aggregate->source);
}

const struct imv_operator_class imv_op_aggregate = {
    .bytes = sizeof(struct aggregate), .open = aggregate_open, .next = aggregate_next, .close = aggregate_close};
