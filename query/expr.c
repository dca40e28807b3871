#include "query/expr_internal.h"
#include "query/member_set.h"
#include "query/operate.h"
#include "query/regex.h"

/* The row being looked at; batch is NULL for expressions that read no row. */
struct frame {
    struct imv_exec *exec;
    struct imv_row_batch *batch;
    struct imv_arena *arena;
    size_t row;
};

static imv_status evaluate(const struct frame *frame, const struct imv_code *code, struct imv_value *value);

static struct imv_call call_of(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena) {
    return (struct imv_call){.exec = exec,
                             .arena = arena,
                             .span = code->expr->span,
                             .name = code->kind == IMV_CODE_CALL ? code->function_name : ""};
}

/* ---- from the values of arguments ---- */

static imv_status apply_call(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                             const struct imv_value *arguments, struct imv_value *result) {
    struct imv_call call = call_of(exec, code, arena);
    *result = imv_value_null();
    if (code->function->null_in_null_out)
        for (uint32_t i = 0; i < code->arguments_count; i++)
            if (arguments[i].kind == IMV_VALUE_NULL) return IMV_OK;
    return code->function->scalar(&call, arguments, code->arguments_count, result);
}

static imv_status apply_binary(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                               const struct imv_value *arguments, struct imv_value *result) {
    struct imv_call call = call_of(exec, code, arena);
    enum imv_binary_op op = code->expr->binary.op;
    if (op == IMV_BINARY_IN && code->members != NULL && imv_member_set_takes(&arguments[0]))
        return *result = imv_value_truth(imv_member_set_has(code->members, &arguments[0])), IMV_OK;
    if (op != IMV_BINARY_MATCHES || code->regex == NULL)
        return imv_operate_binary(&call, op, &arguments[0], &arguments[1], result);
    bool matches;
    *result = imv_value_null();
    if (arguments[0].kind != IMV_VALUE_STRING) return IMV_OK;
    imv_status status = imv_regex_match(&call, code->regex, imv_value_str(&arguments[0]), &matches);
    if (status == IMV_OK) *result = imv_value_boolean(matches);
    return status;
}

static imv_status apply_logic(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                              const struct imv_value *arguments, struct imv_value *result) {
    struct imv_call call = call_of(exec, code, arena);
    imv_truth a, b;
    IMV_TRY(imv_operate_truth(&call, &arguments[0], &a));
    IMV_TRY(imv_operate_truth(&call, &arguments[1], &b));
    imv_truth truth = code->expr->binary.op == IMV_BINARY_AND  ? imv_truth_and(a, b)
                      : code->expr->binary.op == IMV_BINARY_OR ? imv_truth_or(a, b)
                                                               : imv_truth_xor(a, b);
    *result = imv_value_truth(truth);
    return IMV_OK;
}

/* 1 < a <= 3 is 1 < a AND a <= 3. */
static imv_status apply_chain(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                              const struct imv_value *arguments, struct imv_value *result) {
    struct imv_call call = call_of(exec, code, arena);
    imv_truth truth = IMV_TRUE, one;
    for (uint32_t i = 0; i + 1 < code->arguments_count && truth != IMV_FALSE; i++) {
        struct imv_value pair;
        IMV_TRY(imv_operate_binary(&call, code->expr->chain.ops[i], &arguments[i], &arguments[i + 1], &pair));
        IMV_TRY(imv_operate_truth(&call, &pair, &one));
        truth = imv_truth_and(truth, one);
    }
    *result = imv_value_truth(truth);
    return IMV_OK;
}

static imv_status apply_labels(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                               const struct imv_value *node, struct imv_value *result) {
    struct imv_call call = call_of(exec, code, arena);
    *result = imv_value_null();
    if (node->kind == IMV_VALUE_NULL) return IMV_OK;
    if (node->kind != IMV_VALUE_TWIN)
        return imv_call_fail(&call, "TypeError", "InvalidArgumentType", "only a node has labels, not a %s",
                             imv_value_kind_name(node->kind));
    *result = imv_value_boolean(imv_twin_has_labels(node->twin, code->expr->labels.labels));
    return IMV_OK;
}

imv_status imv_code_apply(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                          const struct imv_value *arguments, struct imv_value *result) {
    struct imv_call call = call_of(exec, code, arena);
    switch (code->kind) {
        case IMV_CODE_PROPERTY: return imv_operate_property(&call, arguments, code->expr->property.name, result);
        case IMV_CODE_INDEX: return imv_operate_index(&call, &arguments[0], &arguments[1], result);
        case IMV_CODE_UNARY: return imv_operate_unary(&call, code->expr->unary.op, arguments, result);
        case IMV_CODE_BINARY: return apply_binary(exec, code, arena, arguments, result);
        case IMV_CODE_LOGIC: return apply_logic(exec, code, arena, arguments, result);
        case IMV_CODE_CHAIN: return apply_chain(exec, code, arena, arguments, result);
        case IMV_CODE_LABELS: return apply_labels(exec, code, arena, arguments, result);
        default: imv_assert(code->kind == IMV_CODE_CALL); return apply_call(exec, code, arena, arguments, result);
    }
}

static imv_status evaluate_eager(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_value few[4], *arguments = few;
    if (code->arguments_count > 4) {
        arguments = imv_arena_alloc(frame->arena, code->arguments_count * sizeof *arguments);
        if (arguments == NULL) return imv_exec_fail_memory(frame->exec);
    }
    for (uint32_t i = 0; i < code->arguments_count; i++) IMV_TRY(evaluate(frame, code->arguments[i], &arguments[i]));
    return imv_code_apply(frame->exec, code, frame->arena, arguments, value);
}

/* ---- only what a row needs ---- */

static imv_status evaluate_truth(const struct frame *frame, const struct imv_code *code, imv_truth *truth) {
    struct imv_value value;
    IMV_TRY(evaluate(frame, code, &value));
    struct imv_call call = call_of(frame->exec, code, frame->arena);
    return imv_operate_truth(&call, &value, truth);
}

/* The right side is left alone when the left one decides. */
static imv_status evaluate_logic(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    enum imv_binary_op op = code->expr->binary.op;
    imv_truth a, b;
    IMV_TRY(evaluate_truth(frame, code->arguments[0], &a));
    if ((op == IMV_BINARY_AND && a == IMV_FALSE) || (op == IMV_BINARY_OR && a == IMV_TRUE)) {
        *value = imv_value_truth(a);
        return IMV_OK;
    }
    IMV_TRY(evaluate_truth(frame, code->arguments[1], &b));
    *value = imv_value_truth(op == IMV_BINARY_AND  ? imv_truth_and(a, b)
                             : op == IMV_BINARY_OR ? imv_truth_or(a, b)
                                                   : imv_truth_xor(a, b));
    return IMV_OK;
}

static imv_status evaluate_case(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_value subject = imv_value_null(), when;
    const struct imv_code *otherwise = code->arguments[code->arguments_count - 1];
    if (code->arguments[0] != NULL) IMV_TRY(evaluate(frame, code->arguments[0], &subject));
    for (uint32_t i = 1; i + 1 < code->arguments_count; i += 2) {
        imv_truth truth;
        if (code->arguments[0] != NULL) {
            IMV_TRY(evaluate(frame, code->arguments[i], &when));
            truth = imv_value_equal(&subject, &when);
        } else {
            IMV_TRY(evaluate_truth(frame, code->arguments[i], &truth));
        }
        if (truth == IMV_TRUE) return evaluate(frame, code->arguments[i + 1], value);
    }
    *value = imv_value_null();
    return otherwise == NULL ? IMV_OK : evaluate(frame, otherwise, value);
}

static imv_status evaluate_coalesce(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    *value = imv_value_null();
    for (uint32_t i = 0; i < code->arguments_count && value->kind == IMV_VALUE_NULL; i++)
        IMV_TRY(evaluate(frame, code->arguments[i], value));
    return IMV_OK;
}

static imv_status evaluate_slice(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_value parts[3];
    for (int i = 0; i < 3; i++)
        if (code->arguments[i] != NULL) IMV_TRY(evaluate(frame, code->arguments[i], &parts[i]));
    struct imv_call call = call_of(frame->exec, code, frame->arena);
    return imv_operate_slice(&call, &parts[0], code->arguments[1] == NULL ? NULL : &parts[1],
                             code->arguments[2] == NULL ? NULL : &parts[2], value);
}

/* ---- lists and maps ---- */

static imv_status evaluate_list(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_call call = call_of(frame->exec, code, frame->arena);
    struct imv_value *items = imv_arena_alloc(frame->arena, (code->arguments_count + 1) * sizeof *items);
    if (items == NULL) return imv_exec_fail_memory(frame->exec);
    for (uint32_t i = 0; i < code->arguments_count; i++) IMV_TRY(evaluate(frame, code->arguments[i], &items[i]));
    return imv_call_list(&call, items, code->arguments_count, value);
}

static imv_status evaluate_map(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_map_entry *entries = imv_arena_alloc(frame->arena, (code->arguments_count + 1) * sizeof *entries);
    if (entries == NULL) return imv_exec_fail_memory(frame->exec);
    for (uint32_t i = 0; i < code->arguments_count; i++) {
        entries[i].key = code->expr->map.entries[i].key;
        IMV_TRY(evaluate(frame, code->arguments[i], &entries[i].value));
    }
    size_t count = imv_map_entries_unique(entries, code->arguments_count);
    if (imv_value_map(entries, count, value)) return IMV_OK;
    return imv_exec_fail(frame->exec, IMV_INVALID, code->expr->span, "ArgumentError", "NestingTooDeep",
                         "lists and maps nest at most %d deep", IMV_VALUE_DEPTH_MAX);
}

/* The list of a loop, or null. */
static imv_status evaluate_loop_list(const struct frame *frame, const struct imv_code *code, struct imv_value *list) {
    IMV_TRY(evaluate(frame, code, list));
    if (list->kind == IMV_VALUE_LIST || list->kind == IMV_VALUE_NULL) return IMV_OK;
    return imv_exec_fail(frame->exec, IMV_INVALID, code->expr->span, "TypeError", "InvalidArgumentType",
                         "a list is needed after IN, this is a %s", imv_value_kind_name(list->kind));
}

static imv_status evaluate_comprehension(const struct frame *frame, const struct imv_code *code,
                                         struct imv_value *value) {
    struct imv_value list, *local = &frame->exec->locals[code->expr->comprehension.local];
    const struct imv_code *where = code->arguments[1], *result = code->arguments[2];
    IMV_TRY(evaluate_loop_list(frame, code->arguments[0], &list));
    if (list.kind == IMV_VALUE_NULL) return *value = list, IMV_OK;
    struct imv_value *items = imv_arena_alloc(frame->arena, (list.size + (size_t)1) * sizeof *items);
    if (items == NULL) return imv_exec_fail_memory(frame->exec);
    size_t count = 0;
    for (uint32_t i = 0; i < list.size; i++) {
        imv_truth truth = IMV_TRUE;
        IMV_TRY(imv_exec_step(frame->exec));
        *local = list.items[i];
        if (where != NULL) IMV_TRY(evaluate_truth(frame, where, &truth));
        if (truth != IMV_TRUE) continue;
        items[count] = list.items[i];
        if (result != NULL) IMV_TRY(evaluate(frame, result, &items[count]));
        count++;
    }
    struct imv_call call = call_of(frame->exec, code, frame->arena);
    return imv_call_list(&call, items, count, value);
}

static imv_truth quantified(enum imv_quantifier quantifier, uint32_t trues, uint32_t falses, uint32_t unknowns) {
    switch (quantifier) {
        case IMV_QUANTIFIER_ALL: return falses > 0 ? IMV_FALSE : unknowns > 0 ? IMV_UNKNOWN : IMV_TRUE;
        case IMV_QUANTIFIER_ANY: return trues > 0 ? IMV_TRUE : unknowns > 0 ? IMV_UNKNOWN : IMV_FALSE;
        case IMV_QUANTIFIER_NONE: return trues > 0 ? IMV_FALSE : unknowns > 0 ? IMV_UNKNOWN : IMV_TRUE;
        case IMV_QUANTIFIER_SINGLE:
            return trues > 1 ? IMV_FALSE : unknowns > 0 ? IMV_UNKNOWN : trues == 1 ? IMV_TRUE : IMV_FALSE;
    }
    return IMV_UNKNOWN;
}

static imv_status evaluate_quantifier(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_value list, *local = &frame->exec->locals[code->expr->quantifier.local];
    uint32_t counts[3] = {0};
    IMV_TRY(evaluate_loop_list(frame, code->arguments[0], &list));
    if (list.kind == IMV_VALUE_NULL) return *value = list, IMV_OK;
    for (uint32_t i = 0; i < list.size; i++) {
        imv_truth truth;
        IMV_TRY(imv_exec_step(frame->exec));
        *local = list.items[i];
        IMV_TRY(evaluate_truth(frame, code->arguments[1], &truth));
        counts[truth]++;
    }
    *value = imv_value_truth(
        quantified(code->expr->quantifier.quantifier, counts[IMV_TRUE], counts[IMV_FALSE], counts[IMV_UNKNOWN]));
    return IMV_OK;
}

static imv_status evaluate_reduce(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    struct imv_value *locals = frame->exec->locals, list, accumulator;
    IMV_TRY(evaluate(frame, code->arguments[0], &accumulator));
    IMV_TRY(evaluate_loop_list(frame, code->arguments[1], &list));
    if (list.kind == IMV_VALUE_NULL) return *value = list, IMV_OK;
    for (uint32_t i = 0; i < list.size; i++) {
        IMV_TRY(imv_exec_step(frame->exec));
        locals[code->expr->reduce.accumulator_local] = accumulator;
        locals[code->expr->reduce.local] = list.items[i];
        IMV_TRY(evaluate(frame, code->arguments[2], &accumulator));
    }
    *value = accumulator;
    return IMV_OK;
}

/* ---- one row ---- */

static imv_status evaluate_slot(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    imv_assert(frame->batch != NULL && code->slot < frame->batch->slots_count);
    const struct imv_column *column = &frame->batch->slots[code->slot];
    if (code->kind == IMV_CODE_TWIN_PROPERTY && column->kind == IMV_COLUMN_ABSENT)
        IMV_TRY(imv_twin_group_fill(frame->exec, code->group, frame->batch));
    *value = imv_column_value(column, frame->row);
    return IMV_OK;
}

static imv_status evaluate(const struct frame *frame, const struct imv_code *code, struct imv_value *value) {
    switch (code->kind) {
        case IMV_CODE_CONSTANT: *value = code->constant; return IMV_OK;
        case IMV_CODE_LOCAL: *value = frame->exec->locals[code->slot]; return IMV_OK;
        case IMV_CODE_SLOT:
        case IMV_CODE_TWIN_PROPERTY: return evaluate_slot(frame, code, value);
        case IMV_CODE_LOGIC: return evaluate_logic(frame, code, value);
        case IMV_CODE_CASE: return evaluate_case(frame, code, value);
        case IMV_CODE_COALESCE: return evaluate_coalesce(frame, code, value);
        case IMV_CODE_SLICE: return evaluate_slice(frame, code, value);
        case IMV_CODE_LIST: return evaluate_list(frame, code, value);
        case IMV_CODE_MAP: return evaluate_map(frame, code, value);
        case IMV_CODE_COMPREHENSION: return evaluate_comprehension(frame, code, value);
        case IMV_CODE_QUANTIFIER: return evaluate_quantifier(frame, code, value);
        case IMV_CODE_REDUCE: return evaluate_reduce(frame, code, value);
        default: return evaluate_eager(frame, code, value);
    }
}

imv_status imv_code_row(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch, size_t row,
                        struct imv_value *value) {
    struct frame frame = {.exec = exec, .batch = batch, .arena = batch->arena, .row = row};
    return evaluate(&frame, code, value);
}

imv_status imv_code_value(struct imv_exec *exec, const struct imv_code *code, struct imv_value *value) {
    struct frame frame = {.exec = exec, .arena = &exec->arena};
    return evaluate(&frame, code, value);
}
