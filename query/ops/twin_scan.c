/* Twins by label and tags, from the catalog's index. The list for one input row is selected when the row is reached; with
 * conditions that are the same for all rows it is kept for the next row. */
#include "engine/catalog.h"
#include "query/ops/operator.h"

#include <stdlib.h>

struct twin_scan {
    struct imv_operator op;
    struct imv_code **values; /* of the conditions */
    bool constant;            /* no condition depends on the row */
    struct imv_source source;
    struct imv_row_batch *input; /* whose rows are being looked at; NULL: ask for the next */
    size_t row;
    bool selected; /* the twins of the label below are there */
    uint32_t label;
    struct imv_series **twins; /* malloc'ed by the catalog, charged to the budget */
    size_t twins_count, given;
};

static imv_status open_scan(struct imv_operator *op) {
    struct twin_scan *scan = (struct twin_scan *)op;
    uint32_t count = op->plan->twin_scan.conditions_count;
    scan->values = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *scan->values);
    if (scan->values == NULL) return imv_exec_fail_memory(op->exec);
    scan->constant = true;
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_expr *value = op->plan->twin_scan.conditions[i].value;
        IMV_TRY(imv_compile(&op->branch->compiler, value, &scan->values[i]));
        scan->constant &= !imv_expr_reads_any_slot(value);
    }
    return IMV_OK;
}

static void drop_twins(struct twin_scan *scan) {
    if (scan->twins == NULL) return;
    imv_budget_give(&scan->op.exec->budget, scan->twins_count * sizeof *scan->twins);
    free(scan->twins);
    scan->twins = NULL;
    scan->twins_count = 0;
}

/* ---- conditions ---- */

static imv_status fail_no_list(struct twin_scan *scan, const struct imv_code *code, const struct imv_value *value) {
    return imv_exec_fail(scan->op.exec, IMV_INVALID, imv_code_span(code), "TypeError", "InvalidArgumentType",
                         "IN needs a list on its right, not a %s", imv_value_kind_name(value->kind));
}

/* The texts that a tag may have; other values equal no tag. */
static imv_status condition_values(struct twin_scan *scan, uint32_t i, struct imv_tag_condition *condition) {
    const struct imv_plan_condition *plan = &scan->op.plan->twin_scan.conditions[i];
    struct imv_exec *exec = scan->op.exec;
    struct imv_value value;
    IMV_TRY(imv_code_row(exec, scan->values[i], scan->input, scan->row, &value));
    if (plan->in && value.kind != IMV_VALUE_LIST && value.kind != IMV_VALUE_NULL)
        return fail_no_list(scan, scan->values[i], &value);
    bool list = plan->in && value.kind == IMV_VALUE_LIST;
    const struct imv_value *items = list ? value.items : &value;
    size_t count = list ? value.size : 1;
    struct imv_str *texts = imv_arena_calloc(&scan->source.arena, count + 1, sizeof *texts);
    if (texts == NULL) return imv_exec_fail_memory(exec);
    *condition = (struct imv_tag_condition){.key = plan->key, .values = texts};
    for (size_t j = 0; j < count; j++)
        if (items[j].kind == IMV_VALUE_STRING) texts[condition->values_count++] = imv_value_str(&items[j]);
    return IMV_OK;
}

static imv_status select_twins(struct twin_scan *scan, struct imv_label *label) {
    struct imv_exec *exec = scan->op.exec;
    uint32_t count = scan->op.plan->twin_scan.conditions_count;
    struct imv_tag_condition *conditions = imv_arena_calloc(&scan->source.arena, count + 1, sizeof *conditions);
    if (conditions == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) IMV_TRY(condition_values(scan, i, &conditions[i]));
    struct imv_error err = {0};
    struct imv_series **twins = NULL;
    size_t twins_count = 0;
    if (imv_catalog_select(exec->catalog, label, conditions, count, exec->snapshot->sequences, &twins, &twins_count,
                           &err) != IMV_OK)
        return imv_exec_fail_engine(exec, &err);
    if (!imv_budget_take(&exec->budget, twins_count * sizeof *twins)) {
        free(twins);
        return imv_exec_fail_memory(exec);
    }
    scan->twins = twins;
    scan->twins_count = twins_count;
    return IMV_OK;
}

/* ---- labels ---- */

/* Moves to the next label that the pattern admits; NULL when there is none. */
static struct imv_label *next_label(struct twin_scan *scan) {
    struct imv_catalog *catalog = scan->op.exec->catalog;
    const struct imv_label_expr *labels = scan->op.plan->twin_scan.node->labels;
    if (labels != NULL && labels->kind == IMV_LABEL_NAME)
        return scan->label++ == 0 ? imv_catalog_find_label(catalog, labels->name) : NULL;
    uint32_t count = imv_catalog_labels_count(catalog);
    while (scan->label < count) {
        struct imv_label *label = imv_catalog_label_by_id(catalog, scan->label++);
        if (label != NULL && (labels == NULL || imv_label_name_matches(label->name, labels))) return label;
    }
    return NULL;
}

/* One label and conditions that do not change: the list serves every row. */
static bool is_kept(const struct twin_scan *scan) {
    const struct imv_label_expr *labels = scan->op.plan->twin_scan.node->labels;
    return scan->constant && labels != NULL && labels->kind == IMV_LABEL_NAME;
}

static imv_status next_input_row(struct twin_scan *scan, bool *end) {
    scan->row++;
    if (scan->input == NULL || scan->row >= scan->input->rows) {
        scan->row = 0;
        IMV_TRY(imv_operator_next(scan->op.input, &scan->input));
    }
    *end = scan->input == NULL;
    scan->label = 0;
    scan->given = 0;
    return IMV_OK;
}

/* Makes sure that there are twins to give, or *end. */
static imv_status find_twins(struct twin_scan *scan, bool *end) {
    *end = false;
    if (scan->input == NULL) IMV_TRY(next_input_row(scan, end));
    while (!*end && (!scan->selected || scan->given == scan->twins_count)) {
        if (scan->selected && is_kept(scan)) {
            IMV_TRY(next_input_row(scan, end));
            if (scan->twins_count == 0) *end = true; /* nor for any other row */
            continue;
        }
        IMV_TRY(imv_exec_step(scan->op.exec));
        drop_twins(scan);
        struct imv_label *label = next_label(scan);
        scan->given = 0;
        if (label != NULL) {
            imv_source_reset(&scan->source);
            IMV_TRY(select_twins(scan, label));
            scan->selected = true;
        } else {
            scan->selected = false;
            IMV_TRY(next_input_row(scan, end));
        }
    }
    return IMV_OK;
}

static imv_status scan_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct twin_scan *scan = (struct twin_scan *)op;
    bool end;
    if (!imv_source_ready(&scan->source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, &scan->source));
    IMV_TRY(find_twins(scan, &end));
    if (end) return IMV_OK;
    size_t rows = scan->twins_count - scan->given;
    if (rows > IMV_BATCH_ROWS_MAX) rows = IMV_BATCH_ROWS_MAX;
    imv_source_reset(&scan->source);
    imv_source_copy_row(&scan->source, scan->input, scan->row);
    _Static_assert(sizeof(struct imv_series *) == sizeof(uint64_t), "a cell holds a pointer");
    scan->source.batch.slots[op->plan->twin_scan.node->variable->slot] =
        imv_column_cells(IMV_COLUMN_TWIN, (const uint64_t *)(scan->twins + scan->given), NULL);
    scan->source.batch.rows = rows;
    scan->given += rows;
    *batch = &scan->source.batch;
    return IMV_OK;
}

static imv_status scan_restart(struct imv_operator *op) {
    struct twin_scan *scan = (struct twin_scan *)op;
    scan->input = NULL;
    scan->row = 0;
    scan->label = 0;
    scan->given = 0;
    if (!is_kept(scan)) {
        drop_twins(scan);
        scan->selected = false;
    }
    return imv_operator_restart(op->input);
}

static void scan_close(struct imv_operator *op) {
    struct twin_scan *scan = (struct twin_scan *)op;
    drop_twins(scan);
    imv_source_release(&scan->source);
}

const struct imv_operator_class imv_op_twin_scan = {.bytes = sizeof(struct twin_scan),
                                                    .open = open_scan,
                                                    .next = scan_next,
                                                    .restart = scan_restart,
                                                    .close = scan_close};
