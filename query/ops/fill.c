/* FILL: adds the groups of windows that had no samples.
 *
 * The groups of the Aggregate below are gathered by their keys that do not depend on the window; each such partition
 * then gives one row for every window between FROM and TO, in order of time: its group, or one made up. Keys that
 * depend on the window are computed from it. Aggregates of made-up rows are null, a constant, the value before, or on
 * the line between the neighbours; neighbours are the nearest groups of the partition with a value that is not null.
 *
 * Without other keys there is one partition, also when there was no sample at all. */
#include "query/datetime.h"
#include "query/group_table.h"
#include "query/ops/window.h"

#include <stdlib.h>

struct row {
    struct row *next; /* of the partition, as they came */
    int64_t start;
    struct imv_value values[]; /* aggregates */
};

struct partition {
    struct row *first;
    size_t count;
};

struct fill {
    struct imv_operator op;
    const struct imv_plan *aggregate;
    struct imv_code *from, *to, *value;
    struct imv_code **key_codes; /* of keys that depend on the window; NULL for the others */
    uint32_t *fixed;             /* indexes of the keys that do not */
    uint32_t fixed_count;
    int64_t width, first, end; /* windows start in [first, end) */
    struct imv_value constant;
    struct imv_group_table partitions;
    bool gathered;
    /* the partition being given */
    struct imv_group *group;
    struct row **rows; /* by start; budgeted memory */
    size_t rows_count, row;
    int64_t start;       /* of the next window */
    bool started, ended; /* ended: start has passed the last window */
    struct row **before; /* per aggregate: the nearest earlier row with a value; NULL: none */
    size_t *after;       /* per aggregate: index of the nearest later row with a value, at least row */
    struct imv_source source;
};

/* ---- opening ---- */

struct slot_check {
    const struct imv_plan *window;
    bool foreign;
};

static void check_slot(uint32_t slot, void *context) {
    struct slot_check *check = context;
    bool own = slot == check->window->window.window->variable->slot;
    for (uint32_t i = 0; i < check->window->window.fields_count; i++)
        own |= slot == check->window->window.fields[i].slot;
    check->foreign |= !own;
}

/* A key that depends on the window must depend on nothing else, or it could not be known for a window without
 * samples. */
static imv_status open_key(struct fill *fill, uint32_t i) {
    const struct imv_plan_item *key = &fill->aggregate->aggregate.keys[i];
    struct slot_check check = {fill->op.plan->fill.window, false};
    if (!key->uses_window) {
        fill->fixed[fill->fixed_count++] = i;
        return IMV_OK;
    }
    imv_expr_each_slot(key->expr, check_slot, &check);
    if (check.foreign)
        return imv_exec_fail(fill->op.exec, IMV_INVALID, key->expr->span, "SyntaxError", "InvalidClauseComposition",
                             "with FILL a column is computed from the window alone, or not from it at all");
    return imv_compile(&fill->op.branch->compiler, key->expr, &fill->key_codes[i]);
}

static imv_status open_bound(struct fill *fill, const struct imv_expr *bound, struct imv_code **code) {
    if (bound == NULL || imv_expr_reads_any_slot(bound))
        return imv_exec_fail(fill->op.exec, IMV_INVALID,
                             bound != NULL ? bound->span : fill->op.plan->fill.window->window.window->variable->span,
                             "SyntaxError", "UnboundedFill",
                             "FILL needs FROM and TO that are the same for the whole query");
    return imv_compile(&fill->op.branch->compiler, bound, code);
}

static imv_status fill_open(struct imv_operator *op) {
    struct fill *fill = (struct fill *)op;
    const struct imv_window *window = op->plan->fill.window->window.window;
    struct imv_arena *arena = &op->exec->arena;
    fill->aggregate = op->plan->fill.aggregate;
    uint32_t keys = fill->aggregate->aggregate.keys_count, aggregates = fill->aggregate->aggregate.aggregates_count;
    fill->key_codes = imv_arena_calloc(arena, keys + 1, sizeof(struct imv_code *));
    fill->fixed = imv_arena_calloc(arena, keys + 1, sizeof *fill->fixed);
    fill->before = imv_arena_calloc(arena, aggregates + 1, sizeof *fill->before);
    fill->after = imv_arena_calloc(arena, aggregates + 1, sizeof *fill->after);
    if (fill->key_codes == NULL || fill->fixed == NULL || fill->before == NULL || fill->after == NULL)
        return imv_exec_fail_memory(op->exec);
    for (uint32_t i = 0; i < keys; i++) IMV_TRY(open_key(fill, i));
    IMV_TRY(open_bound(fill, window->samples->from, &fill->from));
    IMV_TRY(open_bound(fill, window->samples->to, &fill->to));
    if (window->fill == IMV_FILL_VALUE) IMV_TRY(imv_compile(&op->branch->compiler, window->fill_value, &fill->value));
    IMV_TRY(imv_window_width(op->branch, window, &fill->width));
    imv_group_table_init(op->exec, fill->fixed_count, sizeof(struct partition), &fill->partitions);
    return IMV_OK;
}

/* ---- gathering ---- */

/* The Sample scan has refused bounds that are no times, if it had a twin to scan. */
static imv_status read_bound(struct fill *fill, const struct imv_code *code, int64_t *ns) {
    struct imv_value value;
    IMV_TRY(imv_code_value(fill->op.exec, code, &value));
    if (imv_value_as_time(&value, ns)) return IMV_OK;
    return imv_exec_fail(fill->op.exec, IMV_INVALID, imv_code_span(code), "ArgumentError", "InvalidArgumentValue",
                         "FROM and TO need a date-time, its RFC 3339 text or integer nanoseconds, this is a %s",
                         imv_value_kind_name(value.kind));
}

static imv_status add_row(struct fill *fill, const struct imv_row_batch *batch, size_t index, struct imv_value *keys) {
    struct imv_exec *exec = fill->op.exec;
    const struct imv_plan *aggregate = fill->aggregate;
    struct imv_value start = imv_column_value(&batch->slots[fill->op.plan->fill.start_slot], index);
    struct imv_group *group;
    bool added;
    if (start.kind != IMV_VALUE_TIME) return IMV_OK;
    for (uint32_t i = 0; i < fill->fixed_count; i++)
        keys[i] = imv_column_value(&batch->slots[aggregate->aggregate.keys[fill->fixed[i]].slot], index);
    uint64_t hash = imv_group_hash(keys, fill->fixed_count, exec->hash_seed);
    IMV_TRY(imv_group_table_find(&fill->partitions, keys, hash, &group, &added));
    uint32_t count = aggregate->aggregate.aggregates_count;
    struct row *row = imv_arena_alloc(&fill->partitions.arena, sizeof *row + count * sizeof *row->values);
    if (row == NULL) return imv_exec_fail_memory(exec);
    struct partition *partition = imv_group_payload(&fill->partitions, group);
    *row = (struct row){.next = partition->first, .start = start.integer};
    for (uint32_t i = 0; i < count; i++) {
        struct imv_value value = imv_column_value(&batch->slots[aggregate->aggregate.aggregates[i]->call.slot], index);
        if (!imv_value_copy(&fill->partitions.arena, &value, &row->values[i])) return imv_exec_fail_memory(exec);
    }
    partition->first = row;
    partition->count++;
    return IMV_OK;
}

static imv_status gather(struct fill *fill) {
    struct imv_exec *exec = fill->op.exec;
    struct imv_row_batch *batch;
    struct imv_value *keys = imv_arena_calloc(&exec->arena, fill->fixed_count + 1, sizeof *keys);
    if (keys == NULL) return imv_exec_fail_memory(exec);
    int64_t from;
    IMV_TRY(read_bound(fill, fill->from, &from));
    IMV_TRY(read_bound(fill, fill->to, &fill->end));
    fill->first = imv_time_bucket(from, fill->width, 0);
    if (from >= fill->end) fill->end = fill->first;
    if (fill->value != NULL) IMV_TRY(imv_code_value(exec, fill->value, &fill->constant));
    for (;;) {
        IMV_TRY(imv_operator_next(fill->op.input, &batch));
        if (batch == NULL) break;
        for (size_t i = 0; i < batch->rows; i++) IMV_TRY(add_row(fill, batch, i, keys));
    }
    if (fill->fixed_count == 0 && fill->partitions.count == 0) {
        struct imv_group *group;
        bool added;
        IMV_TRY(imv_group_table_find(&fill->partitions, keys, exec->hash_seed, &group, &added));
    }
    fill->gathered = true;
    return IMV_OK;
}

/* ---- one partition ---- */

static int compare_starts(const void *x, const void *y) {
    const struct row *a = *(struct row *const *)x, *b = *(struct row *const *)y;
    return (a->start > b->start) - (a->start < b->start);
}

static void drop_rows(struct fill *fill) {
    imv_exec_give(fill->op.exec, fill->rows, (fill->rows_count + 1) * sizeof(struct row *));
    fill->rows = NULL;
}

/* Moves to the next partition; fill->group is NULL at the end. */
static imv_status next_partition(struct fill *fill) {
    uint32_t aggregates = fill->aggregate->aggregate.aggregates_count;
    drop_rows(fill);
    fill->group = fill->started ? fill->group->next : fill->partitions.first;
    fill->started = true;
    if (fill->group == NULL) return IMV_OK;
    const struct partition *partition = imv_group_payload(&fill->partitions, fill->group);
    fill->rows = imv_exec_take(fill->op.exec, (partition->count + 1) * sizeof(struct row *));
    if (fill->rows == NULL) return imv_exec_fail_memory(fill->op.exec);
    fill->rows_count = 0;
    for (struct row *row = partition->first; row != NULL; row = row->next) fill->rows[fill->rows_count++] = row;
    qsort(fill->rows, fill->rows_count, sizeof(struct row *), compare_starts);
    fill->row = 0;
    fill->start = fill->first;
    fill->ended = fill->start >= fill->end;
    memset(fill->before, 0, aggregates * sizeof *fill->before);
    memset(fill->after, 0, aggregates * sizeof *fill->after);
    return IMV_OK;
}

static struct imv_value interpolate(const struct row *before, const struct row *after, uint32_t i, int64_t start) {
    const struct imv_value *a = &before->values[i], *b = &after->values[i];
    if (!imv_value_is_number(a) || !imv_value_is_number(b)) return imv_value_null();
    double x = imv_value_to_float(a), y = imv_value_to_float(b);
    double part = ((double)start - (double)before->start) / ((double)after->start - (double)before->start);
    return imv_value_float(x + (y - x) * part);
}

/* Aggregate i of a window without a group. */
static struct imv_value made_up(struct fill *fill, uint32_t i) {
    const struct row *before = fill->before[i];
    switch (fill->op.plan->fill.window->window.window->fill) {
        case IMV_FILL_VALUE: return fill->constant;
        case IMV_FILL_PREVIOUS: return before == NULL ? imv_value_null() : before->values[i];
        case IMV_FILL_LINEAR: break;
        default: return imv_value_null();
    }
    size_t after = fill->after[i] < fill->row ? fill->row : fill->after[i];
    while (after < fill->rows_count && fill->rows[after]->values[i].kind == IMV_VALUE_NULL) after++;
    fill->after[i] = after;
    if (before == NULL || after == fill->rows_count) return imv_value_null();
    return interpolate(before, fill->rows[after], i, fill->start);
}

/* The aggregates of the next window, into column-major values. */
static void give_window(struct fill *fill, struct imv_value *values, size_t row, size_t rows) {
    uint32_t aggregates = fill->aggregate->aggregate.aggregates_count;
    bool has = fill->row < fill->rows_count && fill->rows[fill->row]->start == fill->start;
    for (uint32_t i = 0; i < aggregates; i++) {
        if (has && fill->rows[fill->row]->values[i].kind != IMV_VALUE_NULL) fill->before[i] = fill->rows[fill->row];
        values[i * rows + row] = has ? fill->rows[fill->row]->values[i] : made_up(fill, i);
    }
    if (has) fill->row++;
    fill->ended = __builtin_add_overflow(fill->start, fill->width, &fill->start) || fill->start >= fill->end;
}

/* ---- giving ---- */

static imv_status set_window(struct fill *fill, uint64_t *starts, size_t rows) {
    const struct imv_plan *window = fill->op.plan->fill.window;
    struct imv_source *source = &fill->source;
    for (uint32_t i = 0; i < window->window.fields_count; i++) {
        const struct imv_field_slot *field = &window->window.fields[i];
        bool start = imv_str_equal(field->name, IMV_STR("start")), end = imv_str_equal(field->name, IMV_STR("end"));
        uint64_t *cells = imv_arena_alloc(&source->arena, rows * sizeof *cells);
        if (cells == NULL) return imv_exec_fail_memory(fill->op.exec);
        for (size_t j = 0; j < rows; j++)
            cells[j] = start ? starts[j]
                       : end ? (uint64_t)imv_window_end((int64_t)starts[j], fill->width)
                             : (uint64_t)fill->width;
        source->batch.slots[field->slot] =
            imv_column_cells(start || end ? IMV_COLUMN_TIME : IMV_COLUMN_DURATION, cells, NULL);
    }
    if (!window->window.window->whole_used) return IMV_OK;
    struct imv_value *values = imv_arena_alloc(&source->arena, rows * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(fill->op.exec);
    for (size_t j = 0; j < rows; j++)
        IMV_TRY(imv_window_value(fill->op.exec, &source->arena, (int64_t)starts[j], fill->width, &values[j]));
    source->batch.slots[window->window.window->variable->slot] = imv_column_values(values);
    return IMV_OK;
}

static imv_status set_keys(struct fill *fill) {
    const struct imv_plan *aggregate = fill->aggregate;
    struct imv_row_batch *batch = &fill->source.batch;
    for (uint32_t i = 0; i < fill->fixed_count; i++)
        batch->slots[aggregate->aggregate.keys[fill->fixed[i]].slot] = imv_column_constant(&fill->group->keys[i]);
    for (uint32_t i = 0; i < aggregate->aggregate.keys_count; i++) {
        struct imv_column column;
        if (fill->key_codes[i] == NULL) continue;
        IMV_TRY(imv_code_column(fill->op.exec, fill->key_codes[i], batch, &column));
        batch->slots[aggregate->aggregate.keys[i].slot] = column;
    }
    return IMV_OK;
}

/* The next windows of the partition, at most a batch of them. */
static imv_status give(struct fill *fill) {
    const struct imv_plan *aggregate = fill->aggregate;
    uint32_t aggregates = aggregate->aggregate.aggregates_count;
    struct imv_source *source = &fill->source;
    const size_t rows = IMV_BATCH_ROWS_MAX;
    imv_source_reset(source);
    uint64_t *starts = imv_arena_alloc(&source->arena, rows * sizeof *starts);
    struct imv_value *values = imv_arena_alloc(&source->arena, (aggregates * rows + 1) * sizeof *values);
    if (starts == NULL || values == NULL) return imv_exec_fail_memory(fill->op.exec);
    size_t count = 0;
    while (count < rows && !fill->ended) {
        starts[count] = (uint64_t)fill->start;
        give_window(fill, values, count++, rows);
    }
    source->batch.rows = count;
    for (uint32_t i = 0; i < aggregates; i++)
        source->batch.slots[aggregate->aggregate.aggregates[i]->call.slot] = imv_column_values(values + i * rows);
    IMV_TRY(set_window(fill, starts, count));
    return set_keys(fill);
}

static imv_status fill_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct fill *fill = (struct fill *)op;
    if (!imv_source_ready(&fill->source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, &fill->source));
    if (!fill->gathered) {
        IMV_TRY(gather(fill));
        IMV_TRY(next_partition(fill));
    }
    while (fill->group != NULL && fill->ended) {
        IMV_TRY(imv_exec_step(op->exec));
        IMV_TRY(next_partition(fill));
    }
    if (fill->group == NULL) return IMV_OK;
    IMV_TRY(give(fill));
    *batch = &fill->source.batch;
    return IMV_OK;
}

static void fill_close(struct imv_operator *op) {
    struct fill *fill = (struct fill *)op;
    drop_rows(fill);
    imv_group_table_release(&fill->partitions);
    imv_source_release(&fill->source);
}

const struct imv_operator_class imv_op_fill = {
    .bytes = sizeof(struct fill), .open = fill_open, .next = fill_next, .close = fill_close};
