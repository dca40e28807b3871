#include "query/expr_internal.h"

#include "query/error.h"
#include "query/member_set.h"
#include "query/operate.h"
#include "query/regex.h"

/* ---- questions about trees ---- */

struct slot_visit {
    void (*visit)(uint32_t slot, void *context);
    void *context;
};

static bool visit_slots(struct imv_expr *expr, void *context) {
    const struct slot_visit *visit = context;
    if (expr->kind == IMV_EXPR_VARIABLE && !expr->variable.local) visit->visit(expr->variable.slot, visit->context);
    if (expr->kind == IMV_EXPR_CALL && expr->call.aggregate) {
        visit->visit(expr->call.slot, visit->context);
        return true;
    }
    return imv_expr_each_child(expr, visit_slots, context);
}

void imv_expr_each_slot(const struct imv_expr *expr, void (*visit)(uint32_t slot, void *context), void *context) {
    struct slot_visit slot_visit = {visit, context};
    visit_slots((struct imv_expr *)expr, &slot_visit);
}

struct slot_search {
    uint32_t slot;
    bool any, found;
};

static void search_slot(uint32_t slot, void *context) {
    struct slot_search *search = context;
    search->found |= search->any || slot == search->slot;
}

bool imv_expr_reads_slot(const struct imv_expr *expr, uint32_t slot) {
    struct slot_search search = {.slot = slot};
    imv_expr_each_slot(expr, search_slot, &search);
    return search.found;
}

bool imv_expr_reads_any_slot(const struct imv_expr *expr) {
    struct slot_search search = {.any = true};
    imv_expr_each_slot(expr, search_slot, &search);
    return search.found;
}

static bool gives_truth(const struct imv_expr *expr) {
    return expr->type == IMV_STATIC_BOOLEAN || expr->type == IMV_STATIC_NULL;
}

static bool binary_can_fail(const struct imv_expr *expr) {
    const struct imv_expr *right = expr->binary.right;
    switch (expr->binary.op) {
        case IMV_BINARY_OR:
        case IMV_BINARY_XOR:
        case IMV_BINARY_AND: return !gives_truth(expr->binary.left) || !gives_truth(right);
        case IMV_BINARY_IN: return right->type != IMV_STATIC_LIST && right->type != IMV_STATIC_NULL;
        case IMV_BINARY_MATCHES: return true;
        default: return expr->binary.op >= IMV_BINARY_ADD;
    }
}

/* Of this node, its children aside. */
static bool node_can_fail(const struct imv_expr *expr) {
    switch (expr->kind) {
        case IMV_EXPR_PROPERTY: return expr->property.base->type != IMV_STATIC_NODE;
        case IMV_EXPR_UNARY:
            if (expr->unary.op == IMV_UNARY_NOT) return !gives_truth(expr->unary.operand);
            return expr->unary.op == IMV_UNARY_MINUS || expr->unary.op == IMV_UNARY_PLUS;
        case IMV_EXPR_BINARY: return binary_can_fail(expr);
        case IMV_EXPR_CALL: return !expr->call.aggregate;
        case IMV_EXPR_LABELS: return expr->labels.base->type != IMV_STATIC_NODE;
        case IMV_EXPR_INDEX:
        case IMV_EXPR_SLICE:
        case IMV_EXPR_CASE:
        case IMV_EXPR_COMPREHENSION:
        case IMV_EXPR_QUANTIFIER:
        case IMV_EXPR_REDUCE:
        case IMV_EXPR_LIST:
        case IMV_EXPR_MAP: return true;
        default: return false;
    }
}

static bool is_in_list_parameter(const struct imv_expr *expr, const struct imv_value *parameters) {
    if (expr->kind != IMV_EXPR_BINARY || expr->binary.op != IMV_BINARY_IN) return false;
    const struct imv_expr *list = expr->binary.right;
    return list->kind == IMV_EXPR_PARAMETER && parameters[list->parameter.index].kind == IMV_VALUE_LIST;
}

static bool cannot_fail(struct imv_expr *expr, void *context) {
    if (expr->kind == IMV_EXPR_CALL && expr->call.aggregate) return true;
    /* A literal list is made of its elements; only what nests too deep fails, and the parser bounds that. */
    bool safe = expr->kind == IMV_EXPR_LIST || is_in_list_parameter(expr, context);
    return (safe || !node_can_fail(expr)) && imv_expr_each_child(expr, cannot_fail, context);
}

bool imv_expr_can_fail(const struct imv_expr *expr, const struct imv_value *parameters) {
    return !cannot_fail((struct imv_expr *)expr, (struct imv_value *)parameters);
}

static bool is_stable(struct imv_expr *expr, void *context) {
    (void)context;
    if (expr->kind == IMV_EXPR_CALL && !expr->call.aggregate && expr->call.function->volatile_) return false;
    return imv_expr_each_child(expr, is_stable, NULL);
}

bool imv_expr_is_volatile(const struct imv_expr *expr) { return !is_stable((struct imv_expr *)expr, NULL); }

enum imv_binary_op imv_comparison_mirrored(enum imv_binary_op op) {
    switch (op) {
        case IMV_BINARY_LESS: return IMV_BINARY_GREATER;
        case IMV_BINARY_LESS_EQUAL: return IMV_BINARY_GREATER_EQUAL;
        case IMV_BINARY_GREATER: return IMV_BINARY_LESS;
        case IMV_BINARY_GREATER_EQUAL: return IMV_BINARY_LESS_EQUAL;
        default: return op;
    }
}

/* ---- nodes ---- */

void imv_compiler_init(struct imv_compiler *compiler, struct imv_exec *exec, uint32_t slots_count) {
    *compiler = (struct imv_compiler){.exec = exec, .slots_count = slots_count};
}

static imv_status new_code(struct imv_compiler *compiler, const struct imv_expr *expr, enum imv_code_kind kind,
                           uint32_t arguments_count, struct imv_code **out) {
    struct imv_arena *arena = &compiler->exec->arena;
    struct imv_code *code = imv_arena_calloc(arena, 1, sizeof *code);
    struct imv_code **arguments = imv_arena_calloc(arena, arguments_count + 1, sizeof *arguments);
    if (code == NULL || arguments == NULL) return imv_exec_fail_memory(compiler->exec);
    *code = (struct imv_code){.kind = kind, .expr = expr, .arguments = arguments, .arguments_count = arguments_count};
    *out = code;
    return IMV_OK;
}

/* A node over up to three children, of which some may be NULL. */
static imv_status compile_over(struct imv_compiler *compiler, const struct imv_expr *expr, enum imv_code_kind kind,
                               struct imv_expr *const *children, uint32_t count, struct imv_code **code) {
    IMV_TRY(new_code(compiler, expr, kind, count, code));
    for (uint32_t i = 0; i < count; i++) IMV_TRY(imv_compile_optional(compiler, children[i], &(*code)->arguments[i]));
    return IMV_OK;
}

static imv_status compile_constant(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_value value,
                                   struct imv_code **code) {
    IMV_TRY(new_code(compiler, expr, IMV_CODE_CONSTANT, 0, code));
    (*code)->constant = value;
    return IMV_OK;
}

/* ---- properties of pattern variables ---- */

static imv_status add_name(struct imv_compiler *compiler, struct imv_twin_group *group, struct imv_str name,
                           uint32_t *slot) {
    uint32_t count = group->names_count;
    for (uint32_t i = 0; i < count; i++)
        if (imv_str_equal(group->names[i], name)) return *slot = group->slots[i], IMV_OK;
    struct imv_str *names = imv_arena_calloc(&compiler->exec->arena, count + 1, sizeof *names);
    uint32_t *slots = imv_arena_calloc(&compiler->exec->arena, count + 1, sizeof *slots);
    if (names == NULL || slots == NULL) return imv_exec_fail_memory(compiler->exec);
    if (count > 0) {
        memcpy(names, group->names, count * sizeof *names);
        memcpy(slots, group->slots, count * sizeof *slots);
    }
    names[count] = name;
    *slot = slots[count] = compiler->slots_count++;
    group->names = names;
    group->slots = slots;
    group->names_count = count + 1;
    return IMV_OK;
}

static imv_status compile_twin_property(struct imv_compiler *compiler, const struct imv_expr *expr,
                                        struct imv_code **code) {
    uint32_t node_slot = expr->property.base->variable.slot;
    struct imv_twin_group *group = compiler->groups;
    while (group != NULL && group->node_slot != node_slot) group = group->next;
    if (group == NULL) {
        group = imv_arena_calloc(&compiler->exec->arena, 1, sizeof *group);
        if (group == NULL) return imv_exec_fail_memory(compiler->exec);
        *group = (struct imv_twin_group){.node_slot = node_slot, .next = compiler->groups};
        compiler->groups = group;
    }
    IMV_TRY(new_code(compiler, expr, IMV_CODE_TWIN_PROPERTY, 0, code));
    (*code)->group = group;
    return add_name(compiler, group, expr->property.name, &(*code)->slot);
}

static imv_status compile_property(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    const struct imv_expr *base = expr->property.base;
    if (base->kind == IMV_EXPR_VARIABLE && !base->variable.local && base->type == IMV_STATIC_NODE)
        return compile_twin_property(compiler, expr, code);
    return compile_over(compiler, expr, IMV_CODE_PROPERTY, &expr->property.base, 1, code);
}

/* ---- operators ---- */

static imv_status compile_binary(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    bool logic = expr->binary.op <= IMV_BINARY_AND;
    struct imv_expr *sides[] = {expr->binary.left, expr->binary.right};
    IMV_TRY(compile_over(compiler, expr, logic ? IMV_CODE_LOGIC : IMV_CODE_BINARY, sides, 2, code));
    (*code)->row_only = logic && (*code)->arguments[1]->can_fail && expr->binary.op != IMV_BINARY_XOR;
    return IMV_OK;
}

static imv_status compile_chain(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    return compile_over(compiler, expr, IMV_CODE_CHAIN, expr->chain.operands, expr->chain.count, code);
}

static imv_status compile_case(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    uint32_t branches = expr->switch_.count;
    IMV_TRY(new_code(compiler, expr, IMV_CODE_CASE, branches * 2 + 2, code));
    struct imv_code **arguments = (*code)->arguments;
    (*code)->row_only = true;
    IMV_TRY(imv_compile_optional(compiler, expr->switch_.subject, &arguments[0]));
    for (uint32_t i = 0; i < branches; i++) {
        IMV_TRY(imv_compile(compiler, expr->switch_.branches[i].when, &arguments[1 + 2 * i]));
        IMV_TRY(imv_compile(compiler, expr->switch_.branches[i].then, &arguments[2 + 2 * i]));
    }
    return imv_compile_optional(compiler, expr->switch_.otherwise, &arguments[branches * 2 + 1]);
}

static imv_status compile_call(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    if (expr->call.aggregate) {
        IMV_TRY(new_code(compiler, expr, IMV_CODE_SLOT, 0, code));
        (*code)->slot = expr->call.slot;
        return IMV_OK;
    }
    const struct imv_function *function = expr->call.function;
    bool coalesce = imv_str_equal(function->name, IMV_STR("coalesce"));
    IMV_TRY(compile_over(compiler, expr, coalesce ? IMV_CODE_COALESCE : IMV_CODE_CALL, expr->call.arguments,
                         expr->call.count, code));
    (*code)->function = function;
    (*code)->function_name = function->name.data; /* a literal of the table */
    (*code)->row_only = coalesce;
    return IMV_OK;
}

static imv_status compile_list(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    IMV_TRY(compile_over(compiler, expr, IMV_CODE_LIST, expr->list.items, expr->list.count, code));
    (*code)->row_only = true;
    return IMV_OK;
}

static imv_status compile_map(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    IMV_TRY(new_code(compiler, expr, IMV_CODE_MAP, expr->map.count, code));
    (*code)->row_only = true;
    for (uint32_t i = 0; i < expr->map.count; i++)
        IMV_TRY(imv_compile(compiler, expr->map.entries[i].value, &(*code)->arguments[i]));
    return IMV_OK;
}

static imv_status compile_loop(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    imv_status status;
    if (expr->kind == IMV_EXPR_COMPREHENSION) {
        struct imv_expr *parts[] = {expr->comprehension.list, expr->comprehension.where, expr->comprehension.result};
        status = compile_over(compiler, expr, IMV_CODE_COMPREHENSION, parts, 3, code);
    } else if (expr->kind == IMV_EXPR_QUANTIFIER) {
        struct imv_expr *parts[] = {expr->quantifier.list, expr->quantifier.where};
        status = compile_over(compiler, expr, IMV_CODE_QUANTIFIER, parts, 2, code);
    } else {
        struct imv_expr *parts[] = {expr->reduce.init, expr->reduce.list, expr->reduce.result};
        status = compile_over(compiler, expr, IMV_CODE_REDUCE, parts, 3, code);
    }
    if (status == IMV_OK) (*code)->row_only = true;
    return status;
}

static imv_status compile_variable(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    IMV_TRY(new_code(compiler, expr, expr->variable.local ? IMV_CODE_LOCAL : IMV_CODE_SLOT, 0, code));
    (*code)->slot = expr->variable.slot;
    return IMV_OK;
}

static imv_status compile_node(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    switch (expr->kind) {
        case IMV_EXPR_NULL: return compile_constant(compiler, expr, imv_value_null(), code);
        case IMV_EXPR_BOOLEAN: return compile_constant(compiler, expr, imv_value_boolean(expr->boolean), code);
        case IMV_EXPR_INTEGER: return compile_constant(compiler, expr, imv_value_integer(expr->integer), code);
        case IMV_EXPR_FLOAT: return compile_constant(compiler, expr, imv_value_float(expr->number), code);
        case IMV_EXPR_STRING: return compile_constant(compiler, expr, imv_value_string(expr->string), code);
        case IMV_EXPR_DURATION: return compile_constant(compiler, expr, imv_value_duration(expr->integer), code);
        case IMV_EXPR_PARAMETER:
            return compile_constant(compiler, expr, compiler->exec->parameters[expr->parameter.index], code);
        case IMV_EXPR_VARIABLE: return compile_variable(compiler, expr, code);
        case IMV_EXPR_LIST: return compile_list(compiler, expr, code);
        case IMV_EXPR_MAP: return compile_map(compiler, expr, code);
        case IMV_EXPR_PROPERTY: return compile_property(compiler, expr, code);
        case IMV_EXPR_INDEX: {
            struct imv_expr *parts[] = {expr->index.base, expr->index.at};
            return compile_over(compiler, expr, IMV_CODE_INDEX, parts, 2, code);
        }
        case IMV_EXPR_SLICE: {
            struct imv_expr *parts[] = {expr->slice.base, expr->slice.from, expr->slice.to};
            IMV_TRY(compile_over(compiler, expr, IMV_CODE_SLICE, parts, 3, code));
            (*code)->row_only = true;
            return IMV_OK;
        }
        case IMV_EXPR_UNARY: return compile_over(compiler, expr, IMV_CODE_UNARY, &expr->unary.operand, 1, code);
        case IMV_EXPR_BINARY: return compile_binary(compiler, expr, code);
        case IMV_EXPR_CHAIN: return compile_chain(compiler, expr, code);
        case IMV_EXPR_CASE: return compile_case(compiler, expr, code);
        case IMV_EXPR_CALL: return compile_call(compiler, expr, code);
        case IMV_EXPR_COMPREHENSION:
        case IMV_EXPR_QUANTIFIER:
        case IMV_EXPR_REDUCE: return compile_loop(compiler, expr, code);
        case IMV_EXPR_LABELS: return compile_over(compiler, expr, IMV_CODE_LABELS, &expr->labels.base, 1, code);
        case IMV_EXPR_PATTERN:
        case IMV_EXPR_PATTERN_COMPREHENSION:
        case IMV_EXPR_EXISTS: break;
    }
    return imv_exec_fail(compiler->exec, IMV_UNSUPPORTED, expr->span, "SyntaxError", "UnsupportedFeature",
                         "patterns in expressions are not supported");
}

/* ---- folding ---- */

/* Does the node read neither row nor local, and is it worth computing now? */
static bool is_foldable(const struct imv_code *code) {
    if (code->kind == IMV_CODE_CONSTANT || code->volatile_) return false;
    if (code->kind == IMV_CODE_SLOT || code->kind == IMV_CODE_LOCAL || code->kind == IMV_CODE_TWIN_PROPERTY)
        return false;
    for (uint32_t i = 0; i < code->arguments_count; i++)
        if (code->arguments[i] != NULL && code->arguments[i]->kind != IMV_CODE_CONSTANT) return false;
    return true;
}

/* What a node inherits from its arguments and adds itself. Constants among them may make it safer than its tree
 * says. */
static void derive_flags(struct imv_code *code) {
    code->can_fail = node_can_fail(code->expr) && code->kind != IMV_CODE_LIST;
    if (code->kind == IMV_CODE_BINARY && code->expr->binary.op == IMV_BINARY_IN) {
        const struct imv_value *list = imv_code_constant(code->arguments[1]);
        if (list != NULL) code->can_fail = list->kind != IMV_VALUE_LIST && list->kind != IMV_VALUE_NULL;
    }
    code->volatile_ = code->kind == IMV_CODE_CALL && code->function->volatile_;
    for (uint32_t i = 0; i < code->arguments_count; i++) {
        if (code->arguments[i] == NULL) continue;
        code->can_fail |= code->arguments[i]->can_fail;
        code->volatile_ |= code->arguments[i]->volatile_;
    }
}

/* Computes what needs no row. A failure is left for the row that reaches it: `CASE WHEN false THEN 1/0 END` is null. */
static imv_status fold(struct imv_compiler *compiler, struct imv_code *code) {
    struct imv_exec *exec = compiler->exec;
    if (!is_foldable(code)) return IMV_OK;
    struct imv_query_error *error = exec->error;
    struct imv_value value;
    exec->error = NULL;
    imv_status status = imv_code_value(exec, code, &value);
    exec->error = error;
    if (status == IMV_INVALID) return IMV_OK;
    if (status == IMV_FULL || status == IMV_NO_MEMORY) return imv_exec_fail_memory(exec);
    if (status != IMV_OK) return imv_exec_poll(exec);
    code->kind = IMV_CODE_CONSTANT;
    code->constant = value;
    code->row_only = code->can_fail = false;
    return IMV_OK;
}

/* =~ with a constant pattern compiles it once. A bad pattern is left for the row that reaches it. */
static imv_status compile_pattern(struct imv_compiler *compiler, struct imv_code *code) {
    struct imv_exec *exec = compiler->exec;
    if (code->kind != IMV_CODE_BINARY || code->expr->binary.op != IMV_BINARY_MATCHES) return IMV_OK;
    const struct imv_value *pattern = imv_code_constant(code->arguments[1]);
    if (pattern == NULL || pattern->kind != IMV_VALUE_STRING) return IMV_OK;
    struct imv_query_error *error = exec->error;
    struct imv_call call = {.exec = exec, .arena = &exec->arena, .span = code->expr->span, .name = "=~"};
    exec->error = NULL;
    imv_status status = imv_regex_new(&call, imv_value_str(pattern), &code->regex);
    exec->error = error;
    if (status == IMV_OK) imv_regex_keep(exec, code->regex);
    return status == IMV_INVALID ? IMV_OK : status;
}

/* IN with a constant list hashes it once. */
static imv_status compile_members(struct imv_compiler *compiler, struct imv_code *code) {
    if (code->kind != IMV_CODE_BINARY || code->expr->binary.op != IMV_BINARY_IN) return IMV_OK;
    const struct imv_value *list = imv_code_constant(code->arguments[1]);
    if (list == NULL || list->kind != IMV_VALUE_LIST) return IMV_OK;
    return imv_member_set_new(compiler->exec, list, &code->members);
}

imv_status imv_compile(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    IMV_TRY(compile_node(compiler, expr, code));
    derive_flags(*code);
    IMV_TRY(fold(compiler, *code));
    IMV_TRY(compile_members(compiler, *code));
    return compile_pattern(compiler, *code);
}

imv_status imv_compile_optional(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code) {
    *code = NULL;
    return expr == NULL ? IMV_OK : imv_compile(compiler, expr, code);
}

const struct imv_value *imv_code_constant(const struct imv_code *code) {
    return code->kind == IMV_CODE_CONSTANT ? &code->constant : NULL;
}

struct imv_span imv_code_span(const struct imv_code *code) {
    return code->expr->span;
}
