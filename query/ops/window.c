/* The bucket that holds each sample's time. */
#include "query/ops/window.h"

#include "query/kernel.h"

struct window {
    struct imv_operator op;
    int64_t width;
};

imv_status imv_window_width(struct imv_branch *branch, const struct imv_window *window, int64_t *width) {
    struct imv_code *code;
    struct imv_value value;
    IMV_TRY(imv_compile(&branch->compiler, window->width, &code));
    IMV_TRY(imv_code_value(branch->exec, code, &value));
    if (value.kind != IMV_VALUE_DURATION)
        return imv_exec_fail(branch->exec, IMV_INVALID, window->width->span, "TypeError", "InvalidArgumentType",
                             "the width of a window is a duration such as 1m, not a %s",
                             imv_value_kind_name(value.kind));
    *width = value.integer;
    if (value.integer > 0) return IMV_OK;
    return imv_exec_fail(branch->exec, IMV_INVALID, window->width->span, "ArgumentError", "NumberOutOfRange",
                         "the width of a window must be above zero");
}

static imv_status window_open(struct imv_operator *op) {
    return imv_window_width(op->branch, op->plan->window.window, &((struct window *)op)->width);
}

/* The times as plain cells; valid as in the column. */
static imv_status time_cells(struct imv_exec *exec, struct imv_row_batch *batch, const struct imv_column *times,
                             const uint64_t **cells, const uint64_t **valid) {
    *cells = times->cells;
    *valid = times->valid;
    if (times->kind == IMV_COLUMN_TIME && !times->constant) return IMV_OK;
    uint64_t *copy = imv_arena_calloc(batch->arena, batch->rows, sizeof *copy);
    uint64_t *bits = imv_arena_calloc(batch->arena, (batch->rows + 63) / 64, sizeof *bits);
    if (copy == NULL || bits == NULL) return imv_exec_fail_memory(exec);
    for (size_t i = 0; i < batch->rows; i++) {
        struct imv_value time = imv_column_value(times, i);
        if (time.kind != IMV_VALUE_TIME) continue;
        copy[i] = time.uinteger;
        imv_bit_set(bits, i);
    }
    *cells = copy;
    *valid = bits;
    return IMV_OK;
}

int64_t imv_window_end(int64_t start, int64_t width) {
    int64_t end;
    return __builtin_add_overflow(start, width, &end) ? INT64_MAX : end;
}

static imv_status fill_field(struct window *window, struct imv_row_batch *batch, const struct imv_field_slot *field,
                             const uint64_t *starts, const uint64_t *valid) {
    struct imv_column *slot = &batch->slots[field->slot];
    *slot = imv_column_cells(IMV_COLUMN_TIME, starts, valid);
    if (imv_str_equal(field->name, IMV_STR("start"))) return IMV_OK;
    bool end = imv_str_equal(field->name, IMV_STR("end"));
    uint64_t *cells = imv_arena_alloc(batch->arena, batch->rows * sizeof *cells);
    if (cells == NULL) return imv_exec_fail_memory(window->op.exec);
    for (size_t i = 0; i < batch->rows; i++)
        cells[i] = (uint64_t)(end ? imv_window_end((int64_t)starts[i], window->width) : window->width);
    *slot = imv_column_cells(end ? IMV_COLUMN_TIME : IMV_COLUMN_DURATION, cells, valid);
    return IMV_OK;
}

imv_status imv_window_value(struct imv_exec *exec, struct imv_arena *arena, int64_t start, int64_t width,
                            struct imv_value *value) {
    struct imv_map_entry *entries = imv_arena_alloc(arena, 3 * sizeof *entries);
    if (entries == NULL) return imv_exec_fail_memory(exec);
    entries[0] = (struct imv_map_entry){IMV_STR("start"), imv_value_time(start)};
    entries[1] = (struct imv_map_entry){IMV_STR("end"), imv_value_time(imv_window_end(start, width))};
    entries[2] = (struct imv_map_entry){IMV_STR("duration"), imv_value_duration(width)};
    imv_value_map(entries, 3, value);
    return IMV_OK;
}

/* The window as a value; neighbours in the same bucket share it. */
static imv_status fill_whole(struct window *window, struct imv_row_batch *batch, const uint64_t *starts,
                             const uint64_t *valid) {
    const struct imv_window *plan = window->op.plan->window.window;
    if (!plan->whole_used) return IMV_OK;
    struct imv_value *values = imv_arena_alloc(batch->arena, batch->rows * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(window->op.exec);
    for (size_t i = 0; i < batch->rows; i++) {
        bool has = valid == NULL || imv_bit_get(valid, i);
        values[i] = imv_value_null();
        if (has && i > 0 && starts[i] == starts[i - 1] && values[i - 1].kind != IMV_VALUE_NULL)
            values[i] = values[i - 1];
        else if (has)
            IMV_TRY(imv_window_value(window->op.exec, batch->arena, (int64_t)starts[i], window->width, &values[i]));
    }
    batch->slots[plan->variable->slot] = imv_column_values(values);
    return IMV_OK;
}

static imv_status window_next(struct imv_operator *op, struct imv_row_batch **out) {
    struct window *window = (struct window *)op;
    const uint64_t *times, *valid;
    IMV_TRY(imv_operator_next(op->input, out));
    struct imv_row_batch *batch = *out;
    if (batch == NULL) return IMV_OK;
    IMV_TRY(time_cells(op->exec, batch, &batch->slots[op->plan->window.time_slot], &times, &valid));
    uint64_t *starts = imv_arena_alloc(batch->arena, batch->rows * sizeof *starts);
    if (starts == NULL) return imv_exec_fail_memory(op->exec);
    imv_kernel_buckets(times, batch->rows, window->width, starts);
    for (uint32_t i = 0; i < op->plan->window.fields_count; i++)
        IMV_TRY(fill_field(window, batch, &op->plan->window.fields[i], starts, valid));
    return fill_whole(window, batch, starts, valid);
}

const struct imv_operator_class imv_op_window = {
    .bytes = sizeof(struct window), .open = window_open, .next = window_next};
