/* Samples of the twins of the input rows, between two times.
 *
 * The rows of an input batch become a list of jobs, a series and its times each; lanes read them (scan_lanes.h) and
 * give blocks, whose vectors become the columns of the fields as they are. Slots of the input row become constants when
 * a block has one job, else they are gathered. With `SAMPLES OF h.x` rows without a value of x are dropped. When the
 * query uses the sample as a whole, every field of the label is read and a map is made per row. When the plan says so a
 * block has buckets of time in place of rows (plan.h), unless a field's type lets its aggregate not be made of them. */
#include "query/ops/sample_scan.h"
#include "query/fn/aggregate.h"
#include "query/ops/scan_lanes.h"
#include "query/ops/window.h"

#include <float.h>
#include <math.h>

/* How one label's samples are read. */
struct label_reader {
    struct imv_scan_label label; /* first: what lanes are given is cast back */
    struct label_reader *next;
    int32_t *columns;                /* per field of the plan: the column read, or -1: the label has no such field */
    const struct imv_field **fields; /* of the columns */
    uint32_t fields_count;
    int32_t series_column; /* SAMPLES OF h.x: the column of x */
    struct imv_bucket_view view;
};

struct sample_scan {
    struct imv_operator op;
    struct imv_code *node, *from, *to;
    struct imv_code **bounds;
    struct imv_code **range_values;
    int64_t bucket_width;
    int64_t narrow_first, narrow_last; /* nothing else is read */
    struct imv_source source;
    struct label_reader *readers;
    struct imv_scan_lanes *lanes;
    struct imv_row_batch *input;
    struct imv_scan_job *jobs; /* [IMV_SCAN_JOBS_MAX], of the input batch */
    uint16_t *job_rows;        /* whose rows of the input they are */
    size_t jobs_count;
    imv_status failed; /* of the input row behind the last job */
};

static imv_status open_scan(struct imv_operator *op) {
    struct sample_scan *scan = (struct sample_scan *)op;
    struct imv_compiler *compiler = &op->branch->compiler;
    const struct imv_samples *samples = op->plan->sample_scan.samples;
    uint32_t count = op->plan->sample_scan.bounds_count;
    scan->narrow_first = INT64_MIN;
    scan->narrow_last = INT64_MAX;
    scan->bounds = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *scan->bounds);
    uint32_t ranges = op->plan->sample_scan.ranges_count;
    scan->range_values = imv_arena_calloc(&op->exec->arena, ranges + 1, sizeof *scan->range_values);
    if (scan->bounds == NULL || scan->range_values == NULL) return imv_exec_fail_memory(op->exec);
    IMV_TRY(imv_compile(compiler, samples->node, &scan->node));
    IMV_TRY(imv_compile_optional(compiler, samples->from, &scan->from));
    IMV_TRY(imv_compile_optional(compiler, samples->to, &scan->to));
    for (uint32_t i = 0; i < op->plan->sample_scan.ranges_count; i++)
        IMV_TRY(imv_compile(compiler, op->plan->sample_scan.ranges[i].value, &scan->range_values[i]));
    if (op->plan->sample_scan.bucket_window != NULL)
        IMV_TRY(imv_window_width(op->branch, op->plan->sample_scan.bucket_window, &scan->bucket_width));
    for (uint32_t i = 0; i < count; i++)
        IMV_TRY(imv_compile(compiler, op->plan->sample_scan.bounds[i].value, &scan->bounds[i]));
    return IMV_OK;
}

/* ---- readers ---- */

static bool is_time_field(const struct imv_field_slot *field) { return imv_str_equal(field->name, IMV_STR("ts")); }

/* The cursor's column of a field, added when it is not there yet; -1: the label has no such field. */
static int32_t add_column(struct sample_scan *scan, struct label_reader *reader, struct imv_str name) {
    const struct imv_field *field = imv_label_find_field(scan->op.exec->catalog, reader->label.label, name);
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
    for (uint32_t i = 0; i < label_fields; i++)
        add_column(scan, reader, imv_label_field_by_id(reader->label.label, i)->name);
}

/* Can the aggregates of a column of this type be made of buckets? */
static bool type_has_buckets(imv_type type, uint8_t needs) {
    if (type == IMV_STRING) return needs == 0;
    return type != IMV_BOOLEAN || (needs & IMV_BUCKET_SUM) == 0; /* to sum booleans is a mistake that rows tell of */
}

static imv_status choose_buckets(struct sample_scan *scan, struct label_reader *reader) {
    const struct imv_plan *plan = scan->op.plan;
    const uint8_t *wanted = plan->sample_scan.bucket_needs;
    if (wanted == NULL) return IMV_OK;
    uint8_t *needs = imv_arena_calloc(&scan->op.exec->arena, reader->fields_count + 1, sizeof *needs);
    if (needs == NULL) return imv_exec_fail_memory(scan->op.exec);
    for (uint32_t i = 0; i < plan->sample_scan.fields_count; i++)
        if (reader->columns[i] >= 0) needs[reader->columns[i]] |= wanted[i];
    for (uint32_t c = 0; c < reader->fields_count; c++)
        if (!type_has_buckets(reader->fields[c]->type, needs[c])) return IMV_OK;
    reader->label.is_bucketed = true;
    reader->label.bucket_width = scan->bucket_width;
    reader->label.bucket_needs = needs;
    reader->label.series_column = reader->series_column;
    reader->view = (struct imv_bucket_view){.columns = reader->columns, .fields = reader->fields};
    return IMV_OK;
}

/* The number that a value is, which a long double holds exactly; false: it is none. */
static bool exact_number(const struct imv_value *value, long double *number) {
    if (value->kind == IMV_VALUE_INTEGER)
        *number = (long double)value->integer;
    else if (value->kind == IMV_VALUE_UINTEGER)
        *number = (long double)value->uinteger;
    else
        *number = (long double)value->number;
    return value->kind == IMV_VALUE_INTEGER || value->kind == IMV_VALUE_UINTEGER ||
           (value->kind == IMV_VALUE_FLOAT && !isnan(value->number));
}
_Static_assert(LDBL_MANT_DIG >= 64, "exact_number");

/* A cell of the type not above the number, or not below it. */
static uint64_t cell_beside(imv_type type, long double number, bool is_below) {
    if (type == IMV_FLOAT) return imv_float_cell(nextafter((double)number, is_below ? -INFINITY : INFINITY));
    number = is_below ? floorl(number) : ceill(number);
    if (type == IMV_UINTEGER) return number <= 0 ? 0 : number >= 0x1p64L ? UINT64_MAX : (uint64_t)number;
    if (number <= -0x1p63L) return (uint64_t)INT64_MIN;
    return (uint64_t)(number >= 0x1p63L ? INT64_MAX : (int64_t)number);
}

/* The values of a column that may meet a comparison; a few more do no harm, the Filter looks at what comes. */
static struct imv_cursor_range range_of(uint32_t column, imv_type type, enum imv_binary_op op, long double number) {
    bool has_low = op != IMV_BINARY_LESS && op != IMV_BINARY_LESS_EQUAL;
    bool has_high = op != IMV_BINARY_GREATER && op != IMV_BINARY_GREATER_EQUAL;
    return (struct imv_cursor_range){
        .column = column,
        .low = cell_beside(type, has_low ? number : -INFINITY, true),
        .high = cell_beside(type, has_high ? number : INFINITY, false),
    };
}

static bool type_has_ranges(imv_type type) { return type == IMV_FLOAT || type == IMV_INTEGER || type == IMV_UINTEGER; }

static imv_status choose_ranges(struct sample_scan *scan, struct label_reader *reader) {
    const struct imv_plan *plan = scan->op.plan;
    uint32_t count = plan->sample_scan.ranges_count;
    struct imv_cursor_range *ranges = imv_arena_calloc(&scan->op.exec->arena, count + 1, sizeof *ranges);
    if (ranges == NULL) return imv_exec_fail_memory(scan->op.exec);
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_plan_range *range = &plan->sample_scan.ranges[i];
        int32_t column = reader->columns[range->field];
        struct imv_value value;
        long double number;
        IMV_TRY(imv_code_value(scan->op.exec, scan->range_values[i], &value));
        if (column < 0 || !type_has_ranges(reader->fields[column]->type) || !exact_number(&value, &number)) continue;
        ranges[reader->label.ranges_count++] =
            range_of((uint32_t)column, reader->fields[column]->type, range->op, number);
    }
    reader->label.ranges = ranges;
    return IMV_OK;
}

static imv_status new_reader(struct sample_scan *scan, struct imv_label *label, struct label_reader **out) {
    struct imv_exec *exec = scan->op.exec;
    struct label_reader *reader = imv_arena_calloc(&exec->arena, 1, sizeof *reader);
    if (reader == NULL) return imv_exec_fail_memory(exec);
    uint32_t label_fields = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    uint32_t count = scan->op.plan->sample_scan.fields_count;
    reader->label.label = label;
    reader->columns = imv_arena_calloc(&exec->arena, count + 1, sizeof *reader->columns);
    reader->fields = imv_arena_calloc(&exec->arena, count + label_fields + 1, sizeof *reader->fields);
    if (reader->columns == NULL || reader->fields == NULL) return imv_exec_fail_memory(exec);
    choose_columns(scan, reader, label_fields);
    uint32_t *ids = imv_arena_calloc(&exec->arena, reader->fields_count + 1, sizeof *ids);
    if (ids == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < reader->fields_count; i++) ids[i] = reader->fields[i]->id;
    reader->label.ids = ids;
    reader->label.columns_count = reader->fields_count;
    IMV_TRY(choose_ranges(scan, reader));
    IMV_TRY(choose_buckets(scan, reader));
    reader->next = scan->readers;
    scan->readers = reader;
    *out = reader;
    return IMV_OK;
}

static imv_status find_reader(struct sample_scan *scan, struct imv_label *label, struct label_reader **out) {
    for (*out = scan->readers; *out != NULL; *out = (*out)->next)
        if ((*out)->label.label == label) return IMV_OK;
    return new_reader(scan, label, out);
}

/* ---- bounds ---- */

enum { NO_ROW = INT32_MAX }; /* the value does not depend on the row */

static imv_status value_at(struct sample_scan *scan, size_t row, const struct imv_code *code, struct imv_value *value) {
    if (row == NO_ROW) return imv_code_value(scan->op.exec, code, value);
    return imv_code_row(scan->op.exec, code, scan->input, row, value);
}

/* FROM and TO say a time or it is a mistake. */
static imv_status clause_bound(struct sample_scan *scan, size_t row, const struct imv_code *code, int64_t *ns) {
    struct imv_value value;
    if (code == NULL) return IMV_OK;
    IMV_TRY(value_at(scan, row, code, &value));
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

static imv_status time_range(struct sample_scan *scan, size_t row, int64_t *first, int64_t *last) {
    int64_t to = INT64_MAX;
    *first = INT64_MIN;
    *last = INT64_MAX;
    IMV_TRY(clause_bound(scan, row, scan->from, first));
    IMV_TRY(clause_bound(scan, row, scan->to, &to));
    struct imv_value end = imv_value_time(to);
    if (scan->to != NULL) narrow(IMV_BINARY_LESS, &end, first, last);
    for (uint32_t i = 0; i < scan->op.plan->sample_scan.bounds_count; i++) {
        struct imv_value value;
        IMV_TRY(value_at(scan, row, scan->bounds[i], &value));
        narrow(scan->op.plan->sample_scan.bounds[i].op, &value, first, last);
    }
    return IMV_OK;
}

/* ---- jobs ---- */

/* Adds the job of an input row, if it has any samples to read. */
static imv_status add_job(struct sample_scan *scan, size_t row) {
    struct imv_exec *exec = scan->op.exec;
    struct imv_value node;
    IMV_TRY(imv_code_row(exec, scan->node, scan->input, row, &node));
    if (node.kind == IMV_VALUE_NULL) return IMV_OK;
    if (node.kind != IMV_VALUE_TWIN)
        return imv_exec_fail(exec, IMV_INVALID, imv_code_span(scan->node), "TypeError", "InvalidArgumentType",
                             "only a twin has samples, not a %s", imv_value_kind_name(node.kind));
    struct imv_scan_job *job = &scan->jobs[scan->jobs_count];
    IMV_TRY(time_range(scan, row, &job->first, &job->last));
    if (job->first < scan->narrow_first) job->first = scan->narrow_first;
    if (job->last > scan->narrow_last) job->last = scan->narrow_last;
    if (job->first > job->last) return IMV_OK;
    struct label_reader *reader;
    IMV_TRY(find_reader(scan, node.twin->label, &reader));
    if (scan->op.plan->sample_scan.samples->series.data != NULL && reader->series_column < 0) return IMV_OK;
    job->label = &reader->label;
    job->series = node.twin;
    scan->job_rows[scan->jobs_count++] = (uint16_t)row;
    return IMV_OK;
}

/* Makes jobs of the next input batch; none of none. A row that fails does so when the samples before it have been
 * given. */
static imv_status next_jobs(struct sample_scan *scan) {
    scan->jobs_count = 0;
    IMV_TRY(scan->failed);
    IMV_TRY(imv_operator_next(scan->op.input, &scan->input));
    if (scan->input == NULL) return IMV_OK;
    _Static_assert((int)IMV_SCAN_JOBS_MAX >= (int)IMV_BATCH_ROWS_MAX, "a job a row");
    for (size_t row = 0; row < scan->input->rows && scan->failed == IMV_OK; row++) {
        scan->failed = add_job(scan, row);
        if (scan->failed == IMV_OK) IMV_TRY(imv_exec_step(scan->op.exec));
    }
    if (scan->jobs_count == 0) return scan->failed;
    imv_scan_lanes_start(scan->lanes, scan->jobs, scan->jobs_count);
    return IMV_OK;
}

static imv_status prepare(struct sample_scan *scan) {
    struct imv_exec *exec = scan->op.exec;
    if (imv_source_ready(&scan->source)) return IMV_OK;
    scan->jobs = imv_arena_alloc(&exec->arena, IMV_SCAN_JOBS_MAX * sizeof *scan->jobs);
    scan->job_rows = imv_arena_alloc(&exec->arena, IMV_SCAN_JOBS_MAX * sizeof *scan->job_rows);
    if (scan->jobs == NULL || scan->job_rows == NULL) return imv_exec_fail_memory(exec);
    IMV_TRY(imv_scan_lanes_new(exec, &scan->lanes));
    return imv_source_init(exec, scan->op.branch, 0, &scan->source);
}

/* ---- columns ---- */

static const struct label_reader *reader_of(const struct imv_scan_block *block) {
    return (const struct label_reader *)block->label;
}

/* {ts: .., field: ..} of the fields that have a value in the row. */
static imv_status whole_value(struct sample_scan *scan, const struct imv_scan_block *block, size_t row,
                              struct imv_value *value) {
    struct imv_arena *arena = &scan->source.arena;
    const struct label_reader *reader = reader_of(block);
    struct imv_map_entry *entries = imv_arena_alloc(arena, (reader->fields_count + 1) * sizeof *entries);
    if (entries == NULL) return imv_exec_fail_memory(scan->op.exec);
    size_t count = 0;
    bool series = reader->series_column >= 0;
    entries[count++] = (struct imv_map_entry){IMV_STR("ts"), imv_value_time(block->timestamps[row])};
    for (uint32_t i = 0; i < reader->fields_count; i++) {
        if (!imv_vector_has(&block->columns[i], row)) continue;
        struct imv_str name = series ? IMV_STR("value") : reader->fields[i]->name;
        entries[count++] =
            (struct imv_map_entry){name, imv_value_of_cell(block->columns[i].type, block->columns[i].cells[row])};
    }
    imv_value_map(entries, count, value);
    return IMV_OK;
}

static imv_status fill_whole(struct sample_scan *scan, const struct imv_scan_block *block) {
    const struct imv_samples *samples = scan->op.plan->sample_scan.samples;
    if (!samples->whole_used || !imv_plan_needs(scan->op.plan, samples->variable->slot)) return IMV_OK;
    struct imv_value *values = imv_arena_alloc(&scan->source.arena, block->rows * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(scan->op.exec);
    for (size_t row = 0; row < block->rows; row++) IMV_TRY(whole_value(scan, block, row, &values[row]));
    scan->source.batch.slots[samples->variable->slot] = imv_column_values(values);
    return IMV_OK;
}

/* Of buckets the time is their start, and fields stay absent: nothing but the aggregates reads them. */
static void fill_fields(struct sample_scan *scan, const struct imv_scan_block *block) {
    const struct imv_plan *plan = scan->op.plan;
    struct imv_column *slots = scan->source.batch.slots;
    bool is_bucketed = block->label->is_bucketed;
    const int64_t *times = is_bucketed ? block->buckets.starts : block->timestamps;
    for (uint32_t i = 0; i < plan->sample_scan.fields_count; i++) {
        const struct imv_field_slot *field = &plan->sample_scan.fields[i];
        int32_t column = reader_of(block)->columns[i];
        if (is_time_field(field)) {
            slots[field->slot] = imv_column_cells(IMV_COLUMN_TIME, (const uint64_t *)times, NULL);
        } else if (is_bucketed) {
            continue;
        } else if (column < 0) {
            slots[field->slot] = imv_column_null();
        } else {
            const struct imv_vector *vector = &block->columns[column];
            slots[field->slot] = imv_column_cells(imv_column_kind_of(vector->type), vector->cells, vector->valid);
        }
    }
}

/* The slots of the input rows whose samples these are. */
static imv_status fill_input(struct sample_scan *scan, const struct imv_scan_block *block) {
    uint16_t first = block->jobs[0], last = block->jobs[block->rows - 1], picked[IMV_BATCH_ROWS_MAX];
    if (first == last) {
        imv_source_copy_row(&scan->source, scan->input, scan->job_rows[first]);
        return IMV_OK;
    }
    const struct imv_row_batch *input = scan->input;
    for (size_t i = 0; i < block->rows; i++) picked[i] = scan->job_rows[block->jobs[i]];
    for (uint32_t i = 0; i < input->slots_count; i++) {
        bool is_needed = i >= scan->op.branch->plan_slots_count || imv_plan_needs(scan->op.plan, i);
        if (is_needed && !imv_column_gather(&scan->source.arena, &input->slots[i], picked, block->rows,
                                            &scan->source.batch.slots[i]))
            return imv_exec_fail_memory(scan->op.exec);
    }
    return IMV_OK;
}

/* SAMPLES OF h.x: only rows where x has a value. */
static imv_status drop_empty(struct sample_scan *scan, const struct imv_scan_block *block) {
    int32_t column = reader_of(block)->series_column;
    if (column < 0 || block->label->is_bucketed) return IMV_OK;
    const struct imv_vector *vector = &block->columns[column];
    if (vector->valid == NULL) return IMV_OK;
    uint16_t picked[IMV_BATCH_ROWS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < block->rows; i++)
        if (imv_bit_get(vector->valid, i)) picked[count++] = (uint16_t)i;
    return imv_row_batch_keep(&scan->source.batch, picked, count) ? IMV_OK : imv_exec_fail_memory(scan->op.exec);
}

static imv_status fill_batch(struct sample_scan *scan, const struct imv_scan_block *block) {
    struct imv_row_batch *batch = &scan->source.batch;
    scan->op.exec->samples += block->samples;
    imv_source_reset(&scan->source);
    if (block->rows == 0) return IMV_OK;
    imv_assert(block->rows <= IMV_BATCH_ROWS_MAX);
    batch->rows = block->rows;
    IMV_TRY(fill_input(scan, block));
    fill_fields(scan, block);
    if (block->label->is_bucketed) {
        struct label_reader *reader = (struct label_reader *)block->label;
        reader->view.buckets = &block->buckets;
        batch->buckets = &reader->view;
        return IMV_OK;
    }
    IMV_TRY(fill_whole(scan, block));
    return drop_empty(scan, block);
}

static imv_status scan_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct sample_scan *scan = (struct sample_scan *)op;
    const struct imv_scan_block *block = NULL;
    IMV_TRY(prepare(scan));
    for (;;) {
        IMV_TRY(imv_exec_poll(op->exec));
        if (scan->jobs_count > 0) IMV_TRY(imv_scan_lanes_next(scan->lanes, &block));
        if (block == NULL) {
            IMV_TRY(next_jobs(scan));
            if (scan->input == NULL) return IMV_OK;
            continue;
        }
        IMV_TRY(fill_batch(scan, block));
        if (scan->source.batch.rows > 0) break;
    }
    *batch = &scan->source.batch;
    return IMV_OK;
}

imv_status imv_sample_scan_range(struct imv_operator *op, int64_t *first, int64_t *last) {
    return time_range((struct sample_scan *)op, NO_ROW, first, last);
}

imv_status imv_sample_scan_narrow(struct imv_operator *op, int64_t first, int64_t last) {
    struct sample_scan *scan = (struct sample_scan *)op;
    bool was_read = imv_source_ready(&scan->source);
    imv_assert(scan->input == NULL);
    scan->narrow_first = first;
    scan->narrow_last = last;
    scan->jobs_count = 0;
    return was_read ? imv_operator_restart(op->input) : IMV_OK;
}

static void scan_close(struct imv_operator *op) {
    struct sample_scan *scan = (struct sample_scan *)op;
    imv_scan_lanes_free(scan->lanes);
    imv_source_release(&scan->source);
}

const struct imv_operator_class imv_op_sample_scan = {
    .bytes = sizeof(struct sample_scan), .open = open_scan, .next = scan_next, .close = scan_close};
