/* bind.c - see bind.h; errors, variables, scopes, clauses and the statement. */
#include "query/bind.h"

#include "query/binder.h"
#include "query/procedures.h"
#include "storage/base/assert.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- errors and memory ---- */

static void *fail_formatted(struct imv_binder *binder, struct imv_span span, const char *code, const char *detail,
                            const char *format, va_list arguments) {
    if (binder->status != IMV_OK) return NULL;
    char message[sizeof((struct imv_query_error *)NULL)->message];
    vsnprintf(message, sizeof message, format, arguments);
    binder->status =
        imv_query_fail(binder->error, IMV_INVALID, binder->statement->text, span, code, detail, "%s", message);
    return NULL;
}

void *imv_binder_fail(struct imv_binder *binder, struct imv_span span, const char *detail, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_formatted(binder, span, "SyntaxError", detail, format, arguments);
    va_end(arguments);
    return NULL;
}

void *imv_binder_fail_as(struct imv_binder *binder, struct imv_span span, const char *code, const char *detail,
                         const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail_formatted(binder, span, code, detail, format, arguments);
    va_end(arguments);
    return NULL;
}

void *imv_binder_fail_memory(struct imv_binder *binder) {
    if (binder->status == IMV_OK) binder->status = imv_query_fail_memory(binder->error);
    return NULL;
}

void imv_binder_unsupported(struct imv_binder *binder, struct imv_span span, const char *message) {
    if (binder->unsupported != NULL) return;
    binder->unsupported = message;
    binder->unsupported_span = span;
}

void *imv_binder_alloc(struct imv_binder *binder, size_t count, size_t size) {
    void *memory = imv_arena_calloc(binder->arena, count, size);
    return memory != NULL ? memory : imv_binder_fail_memory(binder);
}

void *imv_binder_append(struct imv_binder *binder, void **items, uint32_t *count, size_t element) {
    void *added = imv_ast_append(binder->arena, items, count, element);
    return added != NULL ? added : imv_binder_fail_memory(binder);
}

/* ---- variables and scopes ---- */

struct imv_variable *imv_scope_find(const struct imv_scope *scope, struct imv_str name) {
    for (uint32_t i = scope->count; i-- > 0;) {
        if (imv_str_equal(scope->entries[i].name, name)) return scope->entries[i].variable;
    }
    return NULL;
}

bool imv_scope_add(struct imv_binder *binder, struct imv_scope *scope, struct imv_str name,
                   struct imv_variable *variable) {
    struct imv_scope_entry *entry = imv_binder_append(binder, (void **)&scope->entries, &scope->count, sizeof *entry);
    if (entry == NULL) return false;
    *entry = (struct imv_scope_entry){name, variable};
    return true;
}

struct imv_variable *imv_binder_new_variable(struct imv_binder *binder, struct imv_str name, struct imv_span span,
                                             enum imv_variable_kind kind, enum imv_static_type type) {
    struct imv_single_query *query = binder->query;
    struct imv_variable *variable = imv_binder_alloc(binder, 1, sizeof *variable);
    struct imv_variable **listed =
        imv_binder_append(binder, (void **)&query->variables, &query->variables_count, sizeof *listed);
    if (variable == NULL || listed == NULL) return NULL;
    *variable =
        (struct imv_variable){.name = name, .span = span, .kind = kind, .type = type, .slot = query->slots_count++};
    *listed = variable;
    return variable;
}

struct imv_variable *imv_binder_declare(struct imv_binder *binder, struct imv_str name, struct imv_span span,
                                        enum imv_variable_kind kind, enum imv_static_type type) {
    if (imv_scope_find(&binder->scope, name) != NULL) {
        return imv_binder_fail(binder, span, "VariableAlreadyBound", "variable `%.*s` is defined already",
                               (int)name.size, name.data);
    }
    struct imv_variable *variable = imv_binder_new_variable(binder, name, span, kind, type);
    if (variable == NULL || !imv_scope_add(binder, &binder->scope, name, variable)) return NULL;
    return variable;
}

enum imv_variable_kind imv_binder_kind_of_copy(const struct imv_expr *expr) {
    const struct imv_variable *source = expr->kind == IMV_EXPR_VARIABLE ? expr->variable.variable : NULL;
    if (source == NULL) return IMV_VARIABLE_VALUE;
    switch (source->kind) {
        case IMV_VARIABLE_NODE:
        case IMV_VARIABLE_RELATIONSHIP:
        case IMV_VARIABLE_PATH: return source->kind;
        default: return IMV_VARIABLE_VALUE;
    }
}

void *imv_binder_fail_undefined(struct imv_binder *binder, struct imv_str name, struct imv_span span) {
    bool window = imv_str_equal(name, IMV_STR("window"));
    imv_binder_fail(binder, span, "UndefinedVariable", "variable `%.*s` is not defined%s", (int)name.size, name.data,
                    window ? ": no WINDOW stands before it" : "");
    struct imv_suggester suggester;
    imv_suggester_init(&suggester, name);
    for (const struct imv_local *local = binder->locals; local != NULL; local = local->outer) {
        imv_suggester_offer(&suggester, local->variable->name);
    }
    for (uint32_t i = 0; i < binder->scope.count; i++) {
        imv_suggester_offer(&suggester, binder->scope.entries[i].name);
    }
    imv_query_suggest(binder->error, &suggester);
    return NULL;
}

/* ---- MATCH, FILTER, LET, UNWIND ---- */

static bool bind_match(struct imv_binder *binder, struct imv_match *match) {
    return imv_bind_patterns(binder, match->patterns, match->patterns_count) &&
           imv_bind_condition(binder, &match->where, "WHERE");
}

static bool bind_let(struct imv_binder *binder, struct imv_let *let) {
    binder->uses_window = false;
    if (!imv_bind_in_place(binder, &let->value)) return false;
    let->variable =
        imv_binder_declare(binder, let->name, let->name_span, imv_binder_kind_of_copy(let->value), let->value->type);
    if (let->variable == NULL) return false;
    let->variable->uses_window = binder->uses_window;
    return true;
}

static bool bind_lets(struct imv_binder *binder, struct imv_clause *clause) {
    for (uint32_t i = 0; i < clause->lets_count; i++) {
        if (!bind_let(binder, &clause->lets[i])) return false;
    }
    return true;
}

static bool bind_unwind(struct imv_binder *binder, struct imv_unwind *unwind) {
    if (!imv_bind_in_place(binder, &unwind->list)) return false;
    unwind->variable = imv_binder_declare(binder, unwind->name, unwind->name_span, IMV_VARIABLE_VALUE,
                                          imv_static_element_type(unwind->list));
    return unwind->variable != NULL;
}

/* ---- CALL ---- */

static const struct imv_procedure *find_procedure(struct imv_binder *binder, const struct imv_expr *call) {
    const struct imv_procedure *procedure = imv_procedure_find(call->call.name);
    if (procedure != NULL) return procedure;
    imv_binder_fail_as(binder, call->call.name_span, "ProcedureError", "ProcedureNotFound",
                       "there is no procedure `%.*s`", (int)call->call.name.size, call->call.name.data);
    struct imv_suggester suggester;
    imv_suggester_init(&suggester, call->call.name);
    for (size_t i = 0; imv_procedure_at(i) != NULL; i++) {
        imv_suggester_offer(&suggester, imv_procedure_at(i)->function.name);
    }
    imv_query_suggest(binder->error, &suggester);
    return NULL;
}

static bool bind_procedure(struct imv_binder *binder, struct imv_procedure_call *call) {
    struct imv_expr *expr = call->call;
    call->procedure = find_procedure(binder, expr);
    if (call->procedure == NULL) return false;
    const struct imv_function *function = &call->procedure->function;
    if (expr->call.count != function->arguments_min) {
        return imv_binder_fail(binder, expr->span, "InvalidNumberOfArguments",
                               "the procedure `%.*s` takes %u arguments, not %u", (int)function->name.size,
                               function->name.data, function->arguments_min, expr->call.count);
    }
    for (uint32_t i = 0; i < expr->call.count; i++) {
        if (!imv_bind_in_place(binder, &expr->call.arguments[i])) return false;
    }
    expr->call.function = function;
    expr->type = IMV_STATIC_LIST;
    return true;
}

static bool yield_all(struct imv_binder *binder, struct imv_procedure_call *call) {
    for (size_t i = 0; i < call->procedure->columns_count; i++) {
        struct imv_yield *yield = imv_binder_append(binder, (void **)&call->yields, &call->yields_count, sizeof *yield);
        if (yield == NULL) return false;
        struct imv_str name = call->procedure->columns[i].name;
        *yield = (struct imv_yield){
            .column = name, .column_span = call->call->span, .name = name, .name_span = call->call->span};
    }
    return true;
}

static bool bind_yield(struct imv_binder *binder, const struct imv_procedure *procedure, struct imv_yield *yield) {
    const struct imv_procedure_column *column = imv_procedure_column(procedure, yield->column);
    if (column == NULL) {
        return imv_binder_fail(binder, yield->column_span, "UndefinedVariable",
                               "the procedure `%.*s` has no column `%.*s`", (int)procedure->function.name.size,
                               procedure->function.name.data, (int)yield->column.size, yield->column.data);
    }
    yield->variable = imv_binder_declare(binder, yield->name, yield->name_span, IMV_VARIABLE_VALUE, column->type);
    return yield->variable != NULL;
}

static bool bind_call(struct imv_binder *binder, struct imv_procedure_call *call) {
    if (!bind_procedure(binder, call)) return false;
    if (call->yields_count == 0 && !yield_all(binder, call)) return false;
    call->row =
        imv_binder_new_variable(binder, (struct imv_str){0}, call->call->span, IMV_VARIABLE_VALUE, IMV_STATIC_LIST);
    if (call->row == NULL) return false;
    for (uint32_t i = 0; i < call->yields_count; i++) {
        if (!bind_yield(binder, call->procedure, &call->yields[i])) return false;
    }
    return imv_bind_condition(binder, &call->where, "WHERE");
}

/* ---- SAMPLES ---- */

static bool can_have_samples(const struct imv_expr *node) {
    const struct imv_variable *variable = node->variable.variable;
    return variable->kind == IMV_VARIABLE_NODE ||
           (variable->kind == IMV_VARIABLE_VALUE && imv_static_type_fits(variable->type, IMV_STATIC_NODE));
}

/* `h` or `h.usage_user`. */
static bool bind_source(struct imv_binder *binder, struct imv_samples *samples) {
    const struct imv_expr *source = samples->source, *node = source;
    if (source->kind == IMV_EXPR_PROPERTY) {
        node = source->property.base;
        samples->series = source->property.name;
    }
    if (node->kind != IMV_EXPR_VARIABLE) {
        return imv_binder_fail(binder, source->span, "UnexpectedSyntax",
                               "SAMPLES OF takes a twin or one of its properties, as in SAMPLES OF h.temperature");
    }
    struct imv_variable *variable = imv_scope_find(&binder->scope, node->variable.name);
    if (variable == NULL) return imv_binder_fail_undefined(binder, node->variable.name, node->span);
    samples->node = imv_bind_reference(binder, node, variable);
    if (samples->node == NULL) return false;
    if (can_have_samples(samples->node)) return true;
    const char *what = variable->kind == IMV_VARIABLE_SAMPLES  ? "a sample"
                       : variable->kind == IMV_VARIABLE_WINDOW ? "a window"
                                                               : imv_static_type_text(variable->type);
    return imv_binder_fail(binder, node->span, "InvalidArgumentType", "only a twin has samples, but this is %s", what);
}

static bool check_time(struct imv_binder *binder, const struct imv_expr *time, const char *clause) {
    enum imv_static_type type = time->type;
    if (imv_static_type_fits(type, IMV_STATIC_TIME) || type == IMV_STATIC_STRING || type == IMV_STATIC_INTEGER ||
        type == IMV_STATIC_NUMBER) {
        return true;
    }
    return imv_binder_fail(binder, time->span, "InvalidArgumentType",
                           "%s needs a time (a date-time, its text or nanoseconds), but this is %s", clause,
                           imv_static_type_text(type));
}

static bool bind_time(struct imv_binder *binder, struct imv_expr **time, const char *clause) {
    return *time == NULL || (imv_bind_in_place(binder, time) && check_time(binder, *time, clause));
}

static bool bind_samples(struct imv_binder *binder, struct imv_samples *samples) {
    if (!bind_source(binder, samples) || !bind_time(binder, &samples->from, "FROM") ||
        !bind_time(binder, &samples->to, "TO")) {
        return false;
    }
    /* Without a name it is still there for WINDOW. */
    struct imv_variable *variable =
        samples->name.data == NULL
            ? imv_binder_new_variable(binder, samples->name, samples->source->span, IMV_VARIABLE_SAMPLES,
                                      IMV_STATIC_MAP)
            : imv_binder_declare(binder, samples->name, samples->name_span, IMV_VARIABLE_SAMPLES, IMV_STATIC_MAP);
    if (variable == NULL) return false;
    variable->samples = samples;
    samples->variable = variable;
    binder->samples = samples;
    return true;
}

/* ---- DELETE ---- */

static bool bind_constant_time(struct imv_binder *binder, struct imv_expr **time, const char *clause) {
    if (*time == NULL) return true;
    return imv_bind_constant(binder, time, clause) && check_time(binder, *time, clause);
}

static bool bind_delete(struct imv_binder *binder, struct imv_samples *samples) {
    return bind_source(binder, samples) && bind_constant_time(binder, &samples->from, "FROM of DELETE") &&
           bind_constant_time(binder, &samples->to, "TO of DELETE");
}

/* ---- WINDOW ---- */

static bool bind_width(struct imv_binder *binder, struct imv_window *window) {
    if (!imv_bind_constant(binder, &window->width, "the width of a window")) return false;
    const struct imv_expr *width = window->width;
    if (!imv_static_type_fits(width->type, IMV_STATIC_DURATION)) {
        return imv_binder_fail(binder, width->span, "InvalidArgumentType",
                               "the width of a window is a duration such as 1m, but this is %s",
                               imv_static_type_text(width->type));
    }
    if (width->kind == IMV_EXPR_DURATION && width->integer <= 0) {
        return imv_binder_fail_as(binder, width->span, "ArgumentError", "NumberOutOfRange",
                                  "the width of a window must be above zero");
    }
    return true;
}

static bool bind_fill(struct imv_binder *binder, struct imv_window *window, struct imv_span span) {
    if (window->fill == IMV_FILL_NONE) return true;
    if (window->samples->from == NULL || window->samples->to == NULL) {
        return imv_binder_fail(binder, span, "UnboundedFill",
                               "FILL makes windows without samples: SAMPLES needs both FROM and TO to say which");
    }
    return imv_bind_constant(binder, &window->fill_value, "the value of FILL");
}

static bool bind_window(struct imv_binder *binder, struct imv_window *window, struct imv_span span) {
    window->samples = binder->samples;
    if (window->samples == NULL) {
        return imv_binder_fail(binder, span, "WindowWithoutSamples", "WINDOW needs SAMPLES OF .. before it");
    }
    if (!bind_width(binder, window) || !bind_fill(binder, window, span)) return false;
    struct imv_str name = window->name.data == NULL ? IMV_STR("window") : window->name;
    window->variable = imv_binder_declare(binder, name, window->name.data == NULL ? span : window->name_span,
                                          IMV_VARIABLE_WINDOW, IMV_STATIC_MAP);
    if (window->variable == NULL) return false;
    window->variable->window = window;
    window->variable->uses_window = true;
    return imv_bind_sample_field(binder, window->samples, IMV_STR("ts"), span) != NULL;
}

/* ---- queries and statements ---- */

static bool bind_clause(struct imv_binder *binder, struct imv_clause *clause) {
    switch (clause->kind) {
        case IMV_CLAUSE_MATCH: return bind_match(binder, &clause->match);
        case IMV_CLAUSE_SAMPLES: return bind_samples(binder, &clause->samples);
        case IMV_CLAUSE_DELETE: return bind_delete(binder, &clause->samples);
        case IMV_CLAUSE_WINDOW: return bind_window(binder, &clause->window, clause->span);
        case IMV_CLAUSE_FILTER: return imv_bind_condition(binder, &clause->filter, "FILTER");
        case IMV_CLAUSE_LET: return bind_lets(binder, clause);
        case IMV_CLAUSE_UNWIND: return bind_unwind(binder, &clause->unwind);
        case IMV_CLAUSE_CALL: return bind_call(binder, &clause->call);
        case IMV_CLAUSE_WITH:
        case IMV_CLAUSE_RETURN: return imv_bind_projection(binder, clause);
    }
    return false;
}

static bool bind_single_query(struct imv_binder *binder, struct imv_single_query *query) {
    binder->query = query;
    binder->scope = (struct imv_scope){0};
    binder->samples = NULL;
    for (uint32_t i = 0; i < query->clauses_count; i++) {
        if (!bind_clause(binder, &query->clauses[i])) return false;
        imv_assert(binder->locals == NULL && binder->after == NULL && binder->constant_in == NULL);
    }
    return true;
}

static bool check_union(struct imv_binder *binder, const struct imv_single_query *first,
                        const struct imv_single_query *other) {
    const struct imv_projection *a = imv_single_query_result(first), *b = imv_single_query_result(other);
    bool same = a->items_count == b->items_count;
    for (uint32_t i = 0; same && i < a->items_count; i++) same = imv_str_equal(a->items[i].name, b->items[i].name);
    if (same) return true;
    return imv_binder_fail(binder, other->clauses[other->clauses_count - 1].span, "DifferentColumnsInUnion",
                           "the queries of a UNION must return the same columns in the same order");
}

static bool bind_statement(struct imv_binder *binder) {
    struct imv_statement *statement = binder->statement;
    for (uint32_t i = 0; i < statement->branches_count; i++) {
        if (!bind_single_query(binder, &statement->branches[i])) return false;
        if (i > 0 && !check_union(binder, &statement->branches[0], &statement->branches[i])) return false;
    }
    if (binder->unsupported == NULL) return true;
    return imv_binder_fail(binder, binder->unsupported_span, "UnsupportedFeature", "%s", binder->unsupported);
}

imv_status imv_bind(struct imv_statement *statement, struct imv_query_error *error) {
    struct imv_binder binder = {.statement = statement, .arena = statement->arena, .error = error};
    if (bind_statement(&binder)) return IMV_OK;
    imv_assert(binder.status != IMV_OK);
    return binder.status;
}
