/* Twins by label and tags, from the catalog's index. The list for one input row is selected when the row is reached;
 * with conditions that are the same for all rows it is kept for the next row. */
#include "engine/catalog.h"
#include "query/ops/operator.h"

#include <stdlib.h>

/* A predicate over one tag, evaluated over the texts that the tag has. It is compiled apart from the branch: the one
 * property that it reads stands in a slot of a batch of texts, as if it had been read from twins. */
struct tag_test {
    struct twin_scan *scan;
    struct imv_compiler compiler;
    struct imv_code *code;
    struct imv_source source;
};

/* The plan's tree of tags, compiled. */
struct tags {
    const struct imv_plan_tags *plan;
    struct imv_code *value;    /* of leaves with a value, but TEST */
    struct tag_test *test;     /* of TEST */
    struct tags *left, *right; /* of AND and OR */
};

struct twin_scan {
    struct imv_operator op;
    struct tags *tags; /* NULL: any */
    bool constant;     /* no condition depends on the row */
    struct imv_source source;
    struct imv_row_batch *input; /* whose rows are being looked at; NULL: ask for the next */
    size_t row;
    bool selected; /* the twins of the label below are there */
    uint32_t label;
    struct imv_series **twins; /* malloc'ed by the catalog, charged to the budget */
    size_t twins_count, given;
};

/* ---- opening ---- */

static imv_status open_test(struct twin_scan *scan, struct tags *tags) {
    struct imv_exec *exec = scan->op.exec;
    struct tag_test *test = tags->test = imv_arena_calloc(&exec->arena, 1, sizeof *test);
    if (test == NULL) return imv_exec_fail_memory(exec);
    test->scan = scan;
    imv_compiler_init(&test->compiler, exec, scan->op.branch->plan_slots_count);
    IMV_TRY(imv_compile(&test->compiler, tags->plan->value, &test->code));
    return imv_source_init(exec, NULL, test->compiler.slots_count + 1, &test->source);
}

static imv_status open_tags(struct twin_scan *scan, const struct imv_plan_tags *plan, struct tags **out) {
    struct tags *tags = *out = imv_arena_calloc(&scan->op.exec->arena, 1, sizeof *tags);
    if (tags == NULL) return imv_exec_fail_memory(scan->op.exec);
    tags->plan = plan;
    if (plan->kind == IMV_PLAN_TAGS_TEST) return open_test(scan, tags);
    if (plan->value != NULL) {
        IMV_TRY(imv_compile(&scan->op.branch->compiler, plan->value, &tags->value));
        scan->constant &= !imv_expr_reads_any_slot(plan->value);
    }
    if (plan->left != NULL) IMV_TRY(open_tags(scan, plan->left, &tags->left));
    return plan->right == NULL ? IMV_OK : open_tags(scan, plan->right, &tags->right);
}

static imv_status open_scan(struct imv_operator *op) {
    struct twin_scan *scan = (struct twin_scan *)op;
    scan->constant = true;
    return op->plan->twin_scan.tags == NULL ? IMV_OK : open_tags(scan, op->plan->twin_scan.tags, &scan->tags);
}

static void close_tags(struct tags *tags) {
    if (tags == NULL) return;
    if (tags->test != NULL) imv_source_release(&tags->test->source);
    close_tags(tags->left);
    close_tags(tags->right);
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

/* The values that a tag is compared with: one, or those of a list. */
struct operands {
    const struct imv_value *items;
    size_t count;
    bool has_null, has_time;
};

static imv_status operands_of(struct twin_scan *scan, const struct tags *tags, struct imv_value *value,
                              struct operands *operands) {
    bool in = tags->plan->kind == IMV_PLAN_TAGS_IN || tags->plan->kind == IMV_PLAN_TAGS_NOT_IN;
    IMV_TRY(imv_code_row(scan->op.exec, tags->value, scan->input, scan->row, value));
    if (in && value->kind != IMV_VALUE_LIST && value->kind != IMV_VALUE_NULL)
        return fail_no_list(scan, tags->value, value);
    bool list = in && value->kind == IMV_VALUE_LIST;
    *operands = (struct operands){.items = list ? value->items : value, .count = list ? value->size : 1};
    for (size_t i = 0; i < operands->count; i++) {
        operands->has_null |= operands->items[i].kind == IMV_VALUE_NULL;
        operands->has_time |= operands->items[i].kind == IMV_VALUE_TIME;
    }
    return IMV_OK;
}

/* What compares a tag with values of which some are times, which read a text as one. */
struct time_test {
    struct operands operands;
    bool negated;
};

static imv_status test_times(void *context, const struct imv_str *texts, size_t count, bool *matches,
                             struct imv_error *err) {
    (void)err;
    const struct time_test *test = context;
    for (size_t i = 0; i < count; i++) {
        imv_truth truth = texts[i].data == NULL ? IMV_UNKNOWN : IMV_FALSE;
        struct imv_value text = imv_value_string(texts[i]);
        for (size_t k = 0; k < test->operands.count && texts[i].data != NULL && truth != IMV_TRUE; k++) {
            imv_truth equal = imv_value_equal(&text, &test->operands.items[k]);
            if (equal != IMV_FALSE) truth = equal;
        }
        matches[i] = truth == (test->negated ? IMV_FALSE : IMV_TRUE);
    }
    return IMV_OK;
}

static imv_status select_times(struct twin_scan *scan, const struct operands *operands, bool negated,
                               struct imv_tag_selector *selector) {
    struct time_test *test = imv_arena_alloc(&scan->source.arena, sizeof *test);
    struct imv_value *items = imv_arena_alloc(&scan->source.arena, operands->count * sizeof *items + 1);
    if (test == NULL || items == NULL) return imv_exec_fail_memory(scan->op.exec);
    memcpy(items, operands->items, operands->count * sizeof *items);
    *test = (struct time_test){.operands = *operands, .negated = negated};
    test->operands.items = items;
    selector->kind = IMV_TAG_TEST;
    selector->test = test_times;
    selector->context = test;
    return IMV_OK;
}

/* The texts that a tag may have, or must not have; other values equal no tag. With null among them nothing is surely
 * unequal: NOT_IN then selects nothing. */
static imv_status select_values(struct twin_scan *scan, const struct tags *tags, struct imv_tag_selector *selector) {
    bool negated = tags->plan->kind == IMV_PLAN_TAGS_NOT_EQUAL || tags->plan->kind == IMV_PLAN_TAGS_NOT_IN;
    struct imv_value value;
    struct operands operands;
    IMV_TRY(operands_of(scan, tags, &value, &operands));
    if (negated && operands.count == 0) { /* null is in no empty list, too */
        selector->kind = IMV_TAG_AND;
        return IMV_OK;
    }
    if (operands.has_time) return select_times(scan, &operands, negated, selector);
    struct imv_str *texts = imv_arena_calloc(&scan->source.arena, operands.count + 1, sizeof *texts);
    if (texts == NULL) return imv_exec_fail_memory(scan->op.exec);
    selector->kind = negated && !operands.has_null ? IMV_TAG_NOT_IN : IMV_TAG_IN;
    selector->values = texts;
    if (negated && operands.has_null) return IMV_OK;
    for (size_t i = 0; i < operands.count; i++)
        if (operands.items[i].kind == IMV_VALUE_STRING)
            texts[selector->values_count++] = imv_value_str(&operands.items[i]);
    return IMV_OK;
}

/* What is no text begins no text. */
static imv_status select_prefix(struct twin_scan *scan, const struct tags *tags, struct imv_tag_selector *selector) {
    struct imv_value value;
    IMV_TRY(imv_code_row(scan->op.exec, tags->value, scan->input, scan->row, &value));
    struct imv_str *text = imv_arena_calloc(&scan->source.arena, 1, sizeof *text);
    if (text == NULL) return imv_exec_fail_memory(scan->op.exec);
    selector->values = text;
    selector->kind = IMV_TAG_IN;
    if (value.kind != IMV_VALUE_STRING) return IMV_OK;
    *text = imv_value_str(&value);
    selector->kind = IMV_TAG_PREFIX;
    selector->values_count = 1;
    return IMV_OK;
}

/* struct imv_tag_selector's test: the predicate over a batch of texts. The failure is in the statement's error. */
static imv_status test_texts(void *context, const struct imv_str *texts, size_t count, bool *matches,
                             struct imv_error *err) {
    (void)err;
    struct tag_test *test = context;
    struct imv_exec *exec = test->scan->op.exec;
    IMV_TRY(imv_exec_poll(exec));
    imv_source_reset(&test->source);
    struct imv_value *values = imv_arena_alloc(&test->source.arena, count * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(exec);
    for (size_t i = 0; i < count; i++)
        values[i] = texts[i].data == NULL ? imv_value_null() : imv_value_string(texts[i]);
    /* Folded constants aside there is one group with one property. */
    if (test->compiler.groups != NULL)
        test->source.batch.slots[test->compiler.groups->slots[0]] = imv_column_values(values);
    test->source.batch.rows = count;
    uint16_t picked[IMV_BATCH_ROWS_MAX];
    size_t picked_count;
    IMV_TRY(imv_code_pick(exec, test->code, &test->source.batch, picked, &picked_count));
    memset(matches, 0, count * sizeof *matches);
    for (size_t i = 0; i < picked_count; i++) matches[picked[i]] = true;
    return IMV_OK;
}
_Static_assert((int)IMV_TAG_TEST_MAX <= (int)IMV_BATCH_ROWS_MAX, "texts are rows of a batch");

static imv_status selector_of(struct twin_scan *scan, const struct tags *tags, struct imv_tag_selector *selector) {
    *selector = (struct imv_tag_selector){.key = tags->plan->key};
    switch (tags->plan->kind) {
        case IMV_PLAN_TAGS_EQUAL:
        case IMV_PLAN_TAGS_NOT_EQUAL:
        case IMV_PLAN_TAGS_IN:
        case IMV_PLAN_TAGS_NOT_IN: return select_values(scan, tags, selector);
        case IMV_PLAN_TAGS_PREFIX: return select_prefix(scan, tags, selector);
        case IMV_PLAN_TAGS_PRESENT: selector->kind = IMV_TAG_PRESENT; return IMV_OK;
        case IMV_PLAN_TAGS_ABSENT: selector->kind = IMV_TAG_ABSENT; return IMV_OK;
        case IMV_PLAN_TAGS_TEST:
            selector->kind = IMV_TAG_TEST;
            selector->test = test_texts;
            selector->context = tags->test;
            return IMV_OK;
        case IMV_PLAN_TAGS_AND:
        case IMV_PLAN_TAGS_OR: break;
    }
    struct imv_tag_selector *parts = imv_arena_calloc(&scan->source.arena, 2, sizeof *parts);
    if (parts == NULL) return imv_exec_fail_memory(scan->op.exec);
    selector->kind = tags->plan->kind == IMV_PLAN_TAGS_AND ? IMV_TAG_AND : IMV_TAG_OR;
    selector->parts = parts;
    selector->parts_count = 2;
    IMV_TRY(selector_of(scan, tags->left, &parts[0]));
    return selector_of(scan, tags->right, &parts[1]);
}

static imv_status select_twins(struct twin_scan *scan, struct imv_label *label) {
    struct imv_exec *exec = scan->op.exec;
    struct imv_tag_selector selector;
    if (scan->tags != NULL) IMV_TRY(selector_of(scan, scan->tags, &selector));
    struct imv_error err = {0};
    struct imv_series **twins = NULL;
    size_t twins_count = 0;
    imv_status status = imv_catalog_select(exec->catalog, label, scan->tags == NULL ? NULL : &selector,
                                           exec->snapshot->sequences, &twins, &twins_count, &err);
    /* A test that failed has filled the statement's error, and no other. */
    if (status != IMV_OK) return err.status == IMV_OK ? status : imv_exec_fail_engine(exec, &err);
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
    close_tags(scan->tags);
    imv_source_release(&scan->source);
}

const struct imv_operator_class imv_op_twin_scan = {.bytes = sizeof(struct twin_scan),
                                                    .open = open_scan,
                                                    .next = scan_next,
                                                    .restart = scan_restart,
                                                    .close = scan_close};
