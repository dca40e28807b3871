/* Samples of the twin of each input row, between two times, through one cursor per label.
 *
 * A batch is what the cursor decoded: its vectors become the columns of the fields as they are, and the input row's slots
 * become constants. With `SAMPLES OF h.x` rows without a value of x are dropped. When the query uses the sample as a whole,
 * every field of the label is read and a map is made per row. */
#include "engine/cursor.h"
#include "query/ops/operator.h"

/* How one label's samples are read. */
struct label_reader {
    struct label_reader *next;
    struct imv_label *label;
    struct imv_cursor *cursor;
    int32_t *columns; /* per field of the plan: the cursor's column, or -1: the label has no such field */
    const struct imv_field **fields; /* of the cursor's columns */
    uint32_t fields_count;
    int32_t series_column; /* SAMPLES OF h.x: the column of x */
};

struct sample_scan {
    struct imv_operator op;
    struct imv_code *node, *from, *to;
    struct imv_code **bounds;
    struct imv_source source;
    struct label_reader *readers;
    struct imv_row_batch *input;
    size_t row;
    struct label_reader *reader; /* of the row being read; NULL: go to the next row */
};

static imv_status open_scan(struct imv_operator *op) {
    struct sample_scan *scan = (struct sample_scan *)op;
    struct imv_compiler *compiler = &op->branch->compiler;
    const struct imv_samples *samples = op->plan->sample_scan.samples;
    uint32_t count = op->plan->sample_scan.bounds_count;
    scan->bounds = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *scan->bounds);
    if (scan->bounds == NULL) return imv_exec_fail_memory(op->exec);
    IMV_TRY(imv_compile(compiler, samples->node, &scan->node));
    IMV_TRY(imv_compile_optional(compiler, samples->from, &scan->from));
    IMV_TRY(imv_compile_optional(compiler, samples->to, &scan->to));
    for (uint32_t i = 0; i < count; i++)
        IMV_TRY(imv_compile(compiler, op->plan->sample_scan.bounds[i].value, &scan->bounds[i]));
    return IMV_OK;
}

/* ---- readers ---- */

static bool is_time_field(const struct imv_field_slot *field) { return imv_str_equal(field->name, IMV_STR("ts")); }

/* The cursor's column of a field, added when it is not there yet; -1: the label has no such field. */
static int32_t add_column(struct sample_scan *scan, struct label_reader *reader, struct imv_str name) {
    const struct imv_field *field = imv_label_find_field(scan->op.exec->catalog, reader->label, name);
    if (field == NULL) return -1;
    for (uint32_t i = 0; i < reader->fields_count; i++)
        if (reader->fields[i] == field) return (int32_t)i;
    reader->fields[reader->fields_count] = field;
    return (int32_t)reader->fields_count++;
}

static void choose_columns(struct sample_scan *scan, struct label_reader *reader, uint32_t label_fields) {
    const struct imv_plan *plan = scan->op.plan;
    const struct imv_samples *samples = plan->sample_scan.samples;
    reader->series_column = samples->series.data == NULL ? -1 : add_column(scan, reader, samples->series);
    for (uint32_t i = 0; i < plan->sample_scan.fields_count; i++) {
        const struct imv_field_slot *field = &plan->sample_scan.fields[i];
        bool unused = is_time_field(field) || !imv_plan_needs(plan, field->slot);
        if (samples->series.data != NULL)
            reader->columns[i] = reader->series_column;
        else
            reader->columns[i] = unused ? -1 : add_column(scan, reader, field->name);
    }
    if (!samples->whole_used || samples->series.data != NULL) return;
    for (uint32_t i = 0; i < label_fields; i++) add_column(scan, reader, imv_label_field_by_id(reader->label, i)->name);
}

static imv_status new_reader(struct sample_scan *scan, struct imv_label *label, struct label_reader **out) {
    struct imv_exec *exec = scan->op.exec;
    struct label_reader *reader = imv_arena_calloc(&exec->arena, 1, sizeof *reader);
    if (reader == NULL) return imv_exec_fail_memory(exec);
    uint32_t label_fields = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    uint32_t count = scan->op.plan->sample_scan.fields_count;
    *reader = (struct label_reader){.label = label};
    reader->columns = imv_arena_calloc(&exec->arena, count + 1, sizeof *reader->columns);
    reader->fields = imv_arena_calloc(&exec->arena, count + label_fields + 1, sizeof *reader->fields);
    if (reader->columns == NULL || reader->fields == NULL) return imv_exec_fail_memory(exec);
    choose_columns(scan, reader, label_fields);
    uint32_t *ids = imv_arena_calloc(&exec->arena, reader->fields_count + 1, sizeof *ids);
    if (ids == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < reader->fields_count; i++) ids[i] = reader->fields[i]->id;
    struct imv_error err = {0};
    if (imv_cursor_new(exec->snapshot, label, ids, reader->fields_count, &exec->budget, &reader->cursor, &err) !=
        IMV_OK)
        return imv_exec_fail_engine(exec, &err);
    reader->next = scan->readers;
    scan->readers = reader;
    *out = reader;
    return IMV_OK;
}

static imv_status find_reader(struct sample_scan *scan, struct imv_label *label, struct label_reader **out) {
    for (*out = scan->readers; *out != NULL; *out = (*out)->next)
        if ((*out)->label == label) return IMV_OK;
    return new_reader(scan, label, out);
}

/* ---- bounds ---- */

/* FROM and TO say a time or it is a mistake. */
static imv_status clause_bound(struct sample_scan *scan, const struct imv_code *code, int64_t *ns) {
    struct imv_value value;
    if (code == NULL) return IMV_OK;
    IMV_TRY(imv_code_row(scan->op.exec, code, scan->input, scan->row, &value));
    if (imv_value_as_time(&value, ns)) return IMV_OK;
    const char *hint = value.kind == IMV_VALUE_STRING ? " that does not read as a date-time" : "";
    return imv_exec_fail(scan->op.exec, IMV_INVALID, imv_code_span(code), "ArgumentError", "InvalidArgumentValue",
                         "FROM and TO need a date-time, its RFC 3339 text or integer nanoseconds, this is a %s%s",
                         imv_value_kind_name(value.kind), hint);
}

/* Narrows [first, last] by ts op value. What no time compares with lets no row pass. */
static void narrow(enum imv_binary_op op, const struct imv_value *value, int64_t *first, int64_t *last) {
    int64_t ns;
    if (!imv_value_as_time(value, &ns)) {
        *first = INT64_MAX;
        *last = INT64_MIN;
        return;
    }
    bool lower = op == IMV_BINARY_GREATER || op == IMV_BINARY_GREATER_EQUAL || op == IMV_BINARY_EQUAL;
    bool upper = op == IMV_BINARY_LESS || op == IMV_BINARY_LESS_EQUAL || op == IMV_BINARY_EQUAL;
    if ((op == IMV_BINARY_GREATER && ns == INT64_MAX) || (op == IMV_BINARY_LESS && ns == INT64_MIN)) {
        *first = INT64_MAX;
        *last = INT64_MIN;
        return;
    }
    int64_t from = op == IMV_BINARY_GREATER ? ns + 1 : ns, to = op == IMV_BINARY_LESS ? ns - 1 : ns;
    if (lower && from > *first) *first = from;
    if (upper && to < *last) *last = to;
}

static imv_status time_range(struct sample_scan *scan, int64_t *first, int64_t *last) {
    int64_t to = INT64_MAX;
    *first = INT64_MIN;
    *last = INT64_MAX;
    IMV_TRY(clause_bound(scan, scan->from, first));
    IMV_TRY(clause_bound(scan, scan->to, &to));
    struct imv_value end = imv_value_time(to);
    if (scan->to != NULL) narrow(IMV_BINARY_LESS, &end, first, last);
    for (uint32_t i = 0; i < scan->op.plan->sample_scan.bounds_count; i++) {
        struct imv_value value;
        IMV_TRY(imv_code_row(scan->op.exec, scan->bounds[i], scan->input, scan->row, &value));
        narrow(scan->op.plan->sample_scan.bounds[i].op, &value, first, last);
    }
    return IMV_OK;
}

/* ---- rows ---- */

/* Moves to the next input row and its twin's samples; the reader stays NULL at the end and for rows without any. */
static imv_status next_row(struct sample_scan *scan) {
    struct imv_exec *exec = scan->op.exec;
    struct imv_value node;
    scan->row++;
    if (scan->input == NULL || scan->row >= scan->input->rows) {
        scan->row = 0;
        IMV_TRY(imv_operator_next(scan->op.input, &scan->input));
        if (scan->input == NULL) return IMV_OK;
    }
    IMV_TRY(imv_code_row(exec, scan->node, scan->input, scan->row, &node));
    if (node.kind == IMV_VALUE_NULL) return IMV_OK;
    if (node.kind != IMV_VALUE_TWIN)
        return imv_exec_fail(exec, IMV_INVALID, imv_code_span(scan->node), "TypeError", "InvalidArgumentType",
                             "only a twin has samples, not a %s", imv_value_kind_name(node.kind));
    int64_t first, last;
    IMV_TRY(time_range(scan, &first, &last));
    if (first > last) return IMV_OK;
    struct label_reader *reader;
    IMV_TRY(find_reader(scan, node.twin->label, &reader));
    if (scan->op.plan->sample_scan.samples->series.data != NULL && reader->series_column < 0) return IMV_OK;
    struct imv_error err = {0};
    if (imv_cursor_seek(reader->cursor, node.twin, first, last, &err) != IMV_OK)
        return imv_exec_fail_engine(exec, &err);
    scan->reader = reader;
    return IMV_OK;
}

/* ---- columns ---- */

/* {ts: .., field: ..} of the fields that have a value in the row. */
static imv_status whole_value(struct sample_scan *scan, const struct imv_rows *rows, size_t row,
                              struct imv_value *value) {
    struct imv_arena *arena = &scan->source.arena;
    const struct label_reader *reader = scan->reader;
    struct imv_map_entry *entries = imv_arena_alloc(arena, (reader->fields_count + 1) * sizeof *entries);
    if (entries == NULL) return imv_exec_fail_memory(scan->op.exec);
    size_t count = 0;
    bool series = reader->series_column >= 0;
    entries[count++] = (struct imv_map_entry){IMV_STR("ts"), imv_value_time(rows->timestamps[row])};
    for (uint32_t i = 0; i < reader->fields_count; i++) {
        if (!imv_vector_has(&rows->columns[i], row)) continue;
        struct imv_str name = series ? IMV_STR("value") : reader->fields[i]->name;
        entries[count++] =
            (struct imv_map_entry){name, imv_value_of_cell(rows->columns[i].type, rows->columns[i].cells[row])};
    }
    imv_value_map(entries, count, value);
    return IMV_OK;
}

static imv_status fill_whole(struct sample_scan *scan, const struct imv_rows *rows) {
    const struct imv_samples *samples = scan->op.plan->sample_scan.samples;
    if (!samples->whole_used || !imv_plan_needs(scan->op.plan, samples->variable->slot)) return IMV_OK;
    struct imv_value *values = imv_arena_alloc(&scan->source.arena, rows->count * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(scan->op.exec);
    for (size_t row = 0; row < rows->count; row++) IMV_TRY(whole_value(scan, rows, row, &values[row]));
    scan->source.batch.slots[samples->variable->slot] = imv_column_values(values);
    return IMV_OK;
}

static void fill_fields(struct sample_scan *scan, const struct imv_rows *rows) {
    const struct imv_plan *plan = scan->op.plan;
    struct imv_column *slots = scan->source.batch.slots;
    for (uint32_t i = 0; i < plan->sample_scan.fields_count; i++) {
        const struct imv_field_slot *field = &plan->sample_scan.fields[i];
        int32_t column = scan->reader->columns[i];
        if (is_time_field(field)) {
            slots[field->slot] = imv_column_cells(IMV_COLUMN_TIME, (const uint64_t *)rows->timestamps, NULL);
        } else if (column < 0) {
            slots[field->slot] = imv_column_null();
        } else {
            const struct imv_vector *vector = &rows->columns[column];
            slots[field->slot] = imv_column_cells(imv_column_kind_of(vector->type), vector->cells, vector->valid);
        }
    }
}

/* SAMPLES OF h.x: only rows where x has a value. */
static imv_status drop_empty(struct sample_scan *scan, const struct imv_rows *rows) {
    if (scan->reader->series_column < 0) return IMV_OK;
    const struct imv_vector *vector = &rows->columns[scan->reader->series_column];
    if (vector->valid == NULL) return IMV_OK;
    uint16_t picked[IMV_BATCH_ROWS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++)
        if (imv_bit_get(vector->valid, i)) picked[count++] = (uint16_t)i;
    return imv_row_batch_keep(&scan->source.batch, picked, count) ? IMV_OK : imv_exec_fail_memory(scan->op.exec);
}

static imv_status read_batch(struct sample_scan *scan) {
    const struct imv_rows *rows;
    struct imv_error err = {0};
    scan->source.batch.rows = 0;
    if (imv_cursor_next(scan->reader->cursor, &rows, &err) != IMV_OK) return imv_exec_fail_engine(scan->op.exec, &err);
    if (rows->count == 0) {
        scan->reader = NULL;
        return IMV_OK;
    }
    imv_assert(rows->count <= IMV_BATCH_ROWS_MAX);
    scan->op.exec->samples += rows->count;
    imv_source_reset(&scan->source);
    imv_source_copy_row(&scan->source, scan->input, scan->row);
    scan->source.batch.rows = rows->count;
    fill_fields(scan, rows);
    IMV_TRY(fill_whole(scan, rows));
    return drop_empty(scan, rows);
}

static imv_status scan_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct sample_scan *scan = (struct sample_scan *)op;
    if (!imv_source_ready(&scan->source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, &scan->source));
    do {
        IMV_TRY(imv_exec_poll(op->exec));
        if (scan->reader == NULL) {
            IMV_TRY(next_row(scan));
            if (scan->input == NULL) return IMV_OK;
        }
        if (scan->reader != NULL) IMV_TRY(read_batch(scan));
    } while (scan->reader == NULL || scan->source.batch.rows == 0);
    *batch = &scan->source.batch;
    return IMV_OK;
}

static void scan_close(struct imv_operator *op) {
    struct sample_scan *scan = (struct sample_scan *)op;
    for (struct label_reader *reader = scan->readers; reader != NULL; reader = reader->next)
        imv_cursor_free(reader->cursor);
    imv_source_release(&scan->source);
}

const struct imv_operator_class imv_op_sample_scan = {
    .bytes = sizeof(struct sample_scan), .open = open_scan, .next = scan_next, .close = scan_close};
