/* bind_expression.c - names, functions and types of expressions. Every part is copied; the parsed tree stays. */
#include "query/binder.h"

#include "query/fn/functions.h"
#include "storage/base/assert.h"

#include <strings.h>

static struct imv_expr *copy_of(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = imv_binder_alloc(binder, 1, sizeof *copy);
    if (copy != NULL) *copy = *expr;
    return copy;
}

bool imv_bind_in_place(struct imv_binder *binder, struct imv_expr **expr) {
    if (*expr == NULL) return true;
    *expr = imv_bind_expression(binder, *expr);
    return *expr != NULL;
}

/* Binds an array of expressions into a new one. */
static struct imv_expr **bind_all(struct imv_binder *binder, struct imv_expr *const *items, uint32_t count) {
    struct imv_expr **bound = imv_binder_alloc(binder, count + 1, sizeof *bound);
    for (uint32_t i = 0; bound != NULL && i < count; i++) {
        bound[i] = imv_bind_expression(binder, items[i]);
        if (bound[i] == NULL) return NULL;
    }
    return bound;
}

/* ---- samples and windows ---- */

static const struct imv_field_slot *find_field(const struct imv_field_slot *fields, uint32_t count,
                                               struct imv_str name) {
    for (uint32_t i = 0; i < count; i++) {
        if (imv_str_equal(fields[i].name, name)) return &fields[i];
    }
    return NULL;
}

static const struct imv_field_slot *add_field(struct imv_binder *binder, struct imv_field_slot **fields,
                                              uint32_t *count, struct imv_str name, enum imv_static_type type) {
    const struct imv_field_slot *known = find_field(*fields, *count, name);
    if (known != NULL) return known;
    struct imv_field_slot *added = imv_binder_append(binder, (void **)fields, count, sizeof *added);
    if (added == NULL) return NULL;
    *added = (struct imv_field_slot){name, binder->query->slots_count++, type};
    return added;
}

static void *fail_field(struct imv_binder *binder, struct imv_str name, struct imv_span span, const char *what,
                        const char *const *known, size_t known_count) {
    imv_binder_fail(binder, span, "UnknownField", "%s has no `%.*s`", what, (int)name.size, name.data);
    struct imv_suggester suggester;
    imv_suggester_init(&suggester, name);
    for (size_t i = 0; i < known_count; i++) imv_suggester_offer(&suggester, imv_str_from(known[i]));
    imv_query_suggest(binder->error, &suggester);
    return NULL;
}

const struct imv_field_slot *imv_bind_sample_field(struct imv_binder *binder, struct imv_samples *samples,
                                                   struct imv_str name, struct imv_span span) {
    static const char *const known[] = {"ts", "value"};
    bool ts = imv_str_equal(name, IMV_STR("ts"));
    if (samples->series.data != NULL && !ts && !imv_str_equal(name, IMV_STR("value"))) {
        return fail_field(binder, name, span, "a sample of one series", known, 2);
    }
    return add_field(binder, &samples->fields, &samples->fields_count, name, ts ? IMV_STATIC_TIME : IMV_STATIC_ANY);
}

static const struct imv_field_slot *window_field(struct imv_binder *binder, struct imv_window *window,
                                                 struct imv_str name, struct imv_span span) {
    static const char *const known[] = {"start", "end", "duration"};
    for (size_t i = 0; i < 3; i++) {
        if (!imv_str_equal(name, imv_str_from(known[i]))) continue;
        return add_field(binder, &window->fields, &window->fields_count, name,
                         i == 2 ? IMV_STATIC_DURATION : IMV_STATIC_TIME);
    }
    return fail_field(binder, name, span, "a window", known, 3);
}

/* s.usage_user, window.start: a variable of the field's slot. */
static struct imv_expr *bind_field(struct imv_binder *binder, const struct imv_expr *expr,
                                   const struct imv_variable *variable, struct imv_str name, struct imv_span span) {
    const struct imv_field_slot *field = variable->kind == IMV_VARIABLE_SAMPLES
                                             ? imv_bind_sample_field(binder, variable->samples, name, span)
                                             : window_field(binder, variable->window, name, span);
    struct imv_expr *copy = field == NULL ? NULL : copy_of(binder, expr);
    if (copy == NULL) return NULL;
    copy->kind = IMV_EXPR_VARIABLE;
    copy->type = field->type;
    copy->variable.name = imv_arena_format(binder->arena, "%.*s.%.*s", (int)variable->name.size, variable->name.data,
                                           (int)name.size, name.data);
    if (copy->variable.name.data == NULL) return imv_binder_fail_memory(binder);
    copy->variable.slot = field->slot;
    copy->variable.local = false;
    copy->variable.field = true;
    copy->variable.variable = NULL;
    if (variable->uses_window) binder->uses_window = true;
    return copy;
}

/* ---- variables ---- */

struct imv_expr *imv_bind_reference(struct imv_binder *binder, const struct imv_expr *expr,
                                    struct imv_variable *variable) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL) return NULL;
    copy->kind = IMV_EXPR_VARIABLE;
    copy->type = variable->type;
    if (expr->kind != IMV_EXPR_VARIABLE) copy->variable.name = variable->name;
    copy->variable.slot = variable->slot;
    copy->variable.local = variable->kind == IMV_VARIABLE_LOCAL;
    copy->variable.field = false;
    copy->variable.variable = variable;
    if (variable->uses_window) binder->uses_window = true;
    return copy;
}

static struct imv_variable *find_local(const struct imv_binder *binder, struct imv_str name) {
    for (const struct imv_local *local = binder->locals; local != NULL; local = local->outer) {
        if (imv_str_equal(local->variable->name, name)) return local->variable;
    }
    return NULL;
}

static struct imv_variable *find_variable(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_variable *variable = find_local(binder, expr->variable.name);
    if (variable != NULL) return variable;
    if (binder->constant_in != NULL) {
        return imv_binder_fail(binder, expr->span, "NonConstantExpression",
                               "%s must be the same for the whole query: it cannot depend on variable `%.*s`",
                               binder->constant_in, (int)expr->variable.name.size, expr->variable.name.data);
    }
    variable = imv_scope_find(&binder->scope, expr->variable.name);
    return variable != NULL ? variable : imv_binder_fail_undefined(binder, expr->variable.name, expr->span);
}

static struct imv_expr *bind_variable(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_variable *variable = find_variable(binder, expr);
    if (variable == NULL) return NULL;
    if (variable->kind == IMV_VARIABLE_SAMPLES) variable->samples->whole_used = true;
    if (variable->kind == IMV_VARIABLE_WINDOW) variable->window->whole_used = true;
    return imv_bind_reference(binder, expr, variable);
}

/* ---- properties ---- */

static bool check_has_properties(struct imv_binder *binder, const struct imv_expr *base) {
    switch (base->type) {
        case IMV_STATIC_BOOLEAN:
        case IMV_STATIC_INTEGER:
        case IMV_STATIC_FLOAT:
        case IMV_STATIC_NUMBER:
        case IMV_STATIC_STRING:
        case IMV_STATIC_LIST:
            return imv_binder_fail_as(binder, base->span, "TypeError", "InvalidArgumentType", "%s has no properties",
                                      imv_static_type_text(base->type));
        case IMV_STATIC_PATH:
            return imv_binder_fail(binder, base->span, "InvalidArgumentType", "a path has no properties");
        default: return true;
    }
}

static struct imv_expr *bind_property(struct imv_binder *binder, const struct imv_expr *expr) {
    const struct imv_expr *base = expr->property.base;
    if (base->kind == IMV_EXPR_VARIABLE && find_local(binder, base->variable.name) == NULL &&
        binder->constant_in == NULL) {
        struct imv_variable *variable = imv_scope_find(&binder->scope, base->variable.name);
        bool fields =
            variable != NULL && (variable->kind == IMV_VARIABLE_SAMPLES || variable->kind == IMV_VARIABLE_WINDOW);
        /* After an aggregation the field is gone; the part was a grouping key, or this is an error. */
        if (fields && binder->after == NULL) {
            return bind_field(binder, expr, variable, expr->property.name, expr->property.name_span);
        }
    }
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL || !imv_bind_in_place(binder, &copy->property.base)) return NULL;
    copy->type = IMV_STATIC_ANY;
    return check_has_properties(binder, copy->property.base) ? copy : NULL;
}

/* ---- functions ---- */

struct mention {
    struct imv_binder *binder;
    bool found;
};

static bool visit_mention(struct imv_expr *expr, void *context) {
    struct mention *mention = context;
    if (expr->kind == IMV_EXPR_VARIABLE) {
        const struct imv_variable *variable = find_local(mention->binder, expr->variable.name);
        if (variable == NULL) variable = imv_scope_find(&mention->binder->scope, expr->variable.name);
        if (variable != NULL && variable->kind == IMV_VARIABLE_SAMPLES) mention->found = true;
    }
    imv_expr_each_child(expr, visit_mention, context);
    return true;
}

const struct imv_function *imv_bind_function(struct imv_binder *binder, const struct imv_expr *call) {
    const struct imv_function *function = imv_function_find(call->call.name);
    if (function == NULL || !function->sample_aggregate) return function;
    struct mention mention = {binder, false};
    imv_expr_each_child(call, visit_mention, &mention);
    return mention.found ? imv_function_find_aggregate(call->call.name) : function;
}

static bool visit_aggregate(struct imv_expr *expr, void *context) {
    struct mention *mention = context;
    if (expr->kind == IMV_EXPR_CALL) {
        const struct imv_function *function = imv_bind_function(mention->binder, expr);
        if (function != NULL && function->aggregate) mention->found = true;
    }
    return mention->found || imv_expr_each_child(expr, visit_aggregate, context);
}

bool imv_bind_aggregates(struct imv_binder *binder, const struct imv_expr *expr) {
    struct mention mention = {binder, false};
    struct imv_expr *root = (struct imv_expr *)(uintptr_t)expr; /* visited only */
    visit_aggregate(root, &mention);
    return mention.found;
}

static void *fail_unknown_function(struct imv_binder *binder, const struct imv_expr *call) {
    imv_binder_fail(binder, call->call.name_span, "UnknownFunction", "there is no function `%.*s`",
                    (int)call->call.name.size, call->call.name.data);
    struct imv_suggester suggester;
    imv_suggester_init(&suggester, call->call.name);
    for (size_t i = 0; imv_function_at(i) != NULL; i++) imv_suggester_offer(&suggester, imv_function_at(i)->name);
    imv_query_suggest(binder->error, &suggester);
    return NULL;
}

static bool is_count(const struct imv_function *function) { return imv_str_equal(function->name, IMV_STR("count")); }

/* "1 argument", "2 to 3 arguments", "at least 1 argument" */
static struct imv_str arguments_text(struct imv_binder *binder, const struct imv_function *function) {
    unsigned min = function->arguments_min, max = function->arguments_max;
    if (max == IMV_FUNCTION_ARGUMENTS_ANY) {
        return imv_arena_format(binder->arena, "at least %u argument%s", min, min == 1 ? "" : "s");
    }
    if (min == max) return imv_arena_format(binder->arena, "%u argument%s", min, min == 1 ? "" : "s");
    return imv_arena_format(binder->arena, "%u to %u arguments", min, max);
}

static bool check_arguments(struct imv_binder *binder, const struct imv_expr *call,
                            const struct imv_function *function) {
    struct imv_str name = function->name;
    if (call->call.star) {
        return is_count(function) || imv_binder_fail(binder, call->span, "UnexpectedSyntax",
                                                     "only count takes *, `%.*s` does not", (int)name.size, name.data);
    }
    if (call->call.distinct && !function->aggregate) {
        return imv_binder_fail(binder, call->span, "UnexpectedSyntax", "DISTINCT is for aggregates, `%.*s` is none",
                               (int)name.size, name.data);
    }
    uint32_t count = call->call.count;
    bool too_many = function->arguments_max != IMV_FUNCTION_ARGUMENTS_ANY && count > function->arguments_max;
    if (count >= function->arguments_min && !too_many) return true;
    struct imv_str wanted = arguments_text(binder, function);
    if (wanted.data == NULL) return imv_binder_fail_memory(binder);
    return imv_binder_fail(binder, call->span, "InvalidNumberOfArguments", "`%.*s` takes %.*s, not %u", (int)name.size,
                           name.data, (int)wanted.size, wanted.data, count);
}

static bool check_argument_type(struct imv_binder *binder, const struct imv_expr *call,
                                const struct imv_function *function) {
    if (call->call.count == 0) return true;
    const struct imv_expr *first = call->call.arguments[0];
    if (imv_static_type_fits(first->type, function->argument)) return true;
    return imv_binder_fail(binder, first->span, "InvalidArgumentType", "`%.*s` needs %s, but this is %s",
                           (int)function->name.size, function->name.data, imv_static_type_text(function->argument),
                           imv_static_type_text(first->type));
}

static struct imv_expr *bind_scalar_call(struct imv_binder *binder, const struct imv_expr *expr,
                                         const struct imv_function *function) {
    if (binder->in_aggregate && function->volatile_) {
        return imv_binder_fail(binder, expr->span, "NonConstantExpression",
                               "`%.*s` gives another value for each call: it cannot be aggregated",
                               (int)function->name.size, function->name.data);
    }
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL) return NULL;
    bool exists = imv_str_equal(function->name, IMV_STR("exists")), patterns = binder->patterns_allowed;
    binder->patterns_allowed = exists;
    copy->call.arguments = bind_all(binder, expr->call.arguments, expr->call.count);
    binder->patterns_allowed = patterns;
    if (copy->call.arguments == NULL) return NULL;
    copy->call.function = function;
    copy->call.aggregate = false;
    copy->type = function->result;
    return check_argument_type(binder, copy, function) ? copy : NULL;
}

/* ---- aggregates ---- */

/* avg(v) of `SAMPLES OF h.usage AS v` means avg(v.value). Of a whole row only the number and the rows themselves make
 * sense. */
static struct imv_expr *bind_sample_argument(struct imv_binder *binder, const struct imv_expr *argument,
                                             const struct imv_variable *variable, const struct imv_function *function) {
    struct imv_str name = variable->name;
    if (variable->samples->series.data != NULL) {
        return bind_field(binder, argument, variable, IMV_STR("value"), argument->span);
    }
    if (is_count(function)) return bind_field(binder, argument, variable, IMV_STR("ts"), argument->span);
    return imv_binder_fail(binder, argument->span, "InvalidArgumentType",
                           "`%.*s` is a row of all fields: `%.*s` needs one of them, as in %.*s.temperature",
                           (int)name.size, name.data, (int)function->name.size, function->name.data, (int)name.size,
                           name.data);
}

static struct imv_expr *bind_aggregate_argument(struct imv_binder *binder, const struct imv_expr *argument,
                                                const struct imv_function *function) {
    bool collects = imv_str_equal(function->name, IMV_STR("collect"));
    if (argument->kind == IMV_EXPR_VARIABLE && !collects && binder->constant_in == NULL) {
        const struct imv_variable *variable = imv_scope_find(&binder->scope, argument->variable.name);
        if (variable != NULL && variable->kind == IMV_VARIABLE_SAMPLES) {
            return bind_sample_argument(binder, argument, variable, function);
        }
    }
    return imv_bind_expression(binder, argument);
}

struct imv_expr *imv_bind_aggregate_call(struct imv_binder *binder, const struct imv_expr *call) {
    const struct imv_function *function = imv_bind_function(binder, call);
    imv_assert(function != NULL && function->aggregate);
    if (!check_arguments(binder, call, function)) return NULL;
    struct imv_expr *copy = copy_of(binder, call);
    struct imv_expr **arguments = imv_binder_alloc(binder, call->call.count + 1, sizeof *arguments);
    if (copy == NULL || arguments == NULL) return NULL;
    bool patterns = binder->patterns_allowed;
    binder->in_aggregate = true;
    binder->patterns_allowed = false;
    for (uint32_t i = 0; i < call->call.count; i++) {
        arguments[i] = bind_aggregate_argument(binder, call->call.arguments[i], function);
        if (arguments[i] == NULL) return NULL;
    }
    binder->in_aggregate = false;
    binder->patterns_allowed = patterns;
    copy->call.arguments = arguments;
    copy->call.function = function;
    copy->call.aggregate = true;
    copy->type = function->result;
    return check_argument_type(binder, copy, function) ? copy : NULL;
}

static struct imv_expr *bind_call(struct imv_binder *binder, const struct imv_expr *expr) {
    const struct imv_function *function = imv_bind_function(binder, expr);
    if (function == NULL) return fail_unknown_function(binder, expr);
    if (!function->aggregate) {
        return check_arguments(binder, expr, function) ? bind_scalar_call(binder, expr, function) : NULL;
    }
    /* Aggregates that are allowed were taken by imv_bind_after. */
    if (binder->in_aggregate) {
        return imv_binder_fail(binder, expr->span, "NestedAggregation", "an aggregate cannot contain another");
    }
    return imv_binder_fail(binder, expr->span, "InvalidAggregation", "the aggregate `%.*s` cannot stand here",
                           (int)function->name.size, function->name.data);
}

/* ---- expressions with variables of their own ---- */

static uint32_t local_depth(const struct imv_binder *binder) {
    return binder->locals == NULL ? 0 : binder->locals->variable->slot + 1;
}

static bool push_local(struct imv_binder *binder, struct imv_local *local, struct imv_str name, struct imv_span span,
                       enum imv_static_type type) {
    struct imv_variable *variable = imv_binder_alloc(binder, 1, sizeof *variable);
    if (variable == NULL) return false;
    *variable = (struct imv_variable){
        .name = name, .span = span, .kind = IMV_VARIABLE_LOCAL, .type = type, .slot = local_depth(binder)};
    *local = (struct imv_local){variable, binder->locals};
    binder->locals = local;
    if (variable->slot + 1 > binder->query->locals_count) binder->query->locals_count = variable->slot + 1;
    return true;
}

static bool want_list(struct imv_binder *binder, const struct imv_expr *list) {
    if (imv_static_type_fits(list->type, IMV_STATIC_LIST)) return true;
    return imv_binder_fail(binder, list->span, "InvalidArgumentType", "IN needs a list, but this is %s",
                           imv_static_type_text(list->type));
}

static bool bind_own_condition(struct imv_binder *binder, struct imv_expr **where) {
    return imv_bind_condition(binder, where, "WHERE");
}

static struct imv_expr *bind_comprehension(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL || !imv_bind_in_place(binder, &copy->comprehension.list)) return NULL;
    if (!want_list(binder, copy->comprehension.list)) return NULL;
    struct imv_local local;
    if (!push_local(binder, &local, expr->comprehension.name, expr->comprehension.name_span,
                    imv_static_element_type(copy->comprehension.list))) {
        return NULL;
    }
    copy->comprehension.local = local.variable->slot;
    bool bound = bind_own_condition(binder, &copy->comprehension.where) &&
                 imv_bind_in_place(binder, &copy->comprehension.result);
    binder->locals = local.outer;
    copy->type = IMV_STATIC_LIST;
    return bound ? copy : NULL;
}

static struct imv_expr *bind_quantifier(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL || !imv_bind_in_place(binder, &copy->quantifier.list)) return NULL;
    if (!want_list(binder, copy->quantifier.list)) return NULL;
    struct imv_local local;
    if (!push_local(binder, &local, expr->quantifier.name, expr->quantifier.name_span,
                    imv_static_element_type(copy->quantifier.list))) {
        return NULL;
    }
    copy->quantifier.local = local.variable->slot;
    bool bound = bind_own_condition(binder, &copy->quantifier.where);
    binder->locals = local.outer;
    copy->type = IMV_STATIC_BOOLEAN;
    return bound ? copy : NULL;
}

static struct imv_expr *bind_reduce(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL || !imv_bind_in_place(binder, &copy->reduce.init) ||
        !imv_bind_in_place(binder, &copy->reduce.list) || !want_list(binder, copy->reduce.list)) {
        return NULL;
    }
    struct imv_local accumulator, local;
    if (!push_local(binder, &accumulator, expr->reduce.accumulator, expr->reduce.accumulator_span, IMV_STATIC_ANY) ||
        !push_local(binder, &local, expr->reduce.name, expr->reduce.name_span,
                    imv_static_element_type(copy->reduce.list))) {
        return NULL;
    }
    copy->reduce.accumulator_local = accumulator.variable->slot;
    copy->reduce.local = local.variable->slot;
    bool bound = imv_bind_in_place(binder, &copy->reduce.result);
    binder->locals = accumulator.outer;
    copy->type = IMV_STATIC_ANY;
    return bound ? copy : NULL;
}

/* ---- the rest ---- */

static struct imv_expr *bind_list(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL) return NULL;
    copy->list.items = bind_all(binder, expr->list.items, expr->list.count);
    copy->type = IMV_STATIC_LIST;
    return copy->list.items == NULL ? NULL : copy;
}

static struct imv_expr *bind_map(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    struct imv_expr_map_entry *entries = imv_binder_alloc(binder, expr->map.count + 1, sizeof *entries);
    if (copy == NULL || entries == NULL) return NULL;
    for (uint32_t i = 0; i < expr->map.count; i++) {
        entries[i] = expr->map.entries[i];
        if (!imv_bind_in_place(binder, &entries[i].value)) return NULL;
    }
    copy->map.entries = entries;
    copy->type = IMV_STATIC_MAP;
    return copy;
}

static struct imv_expr *bind_case(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    uint32_t count = expr->switch_.count;
    struct imv_expr_case_branch *branches = imv_binder_alloc(binder, count, sizeof *branches);
    if (copy == NULL || branches == NULL || !imv_bind_in_place(binder, &copy->switch_.subject)) return NULL;
    copy->type = IMV_STATIC_NULL;
    for (uint32_t i = 0; i < count; i++) {
        branches[i] = expr->switch_.branches[i];
        bool bound = expr->switch_.subject == NULL ? imv_bind_condition(binder, &branches[i].when, "WHEN")
                                                   : imv_bind_in_place(binder, &branches[i].when);
        if (!bound || !imv_bind_in_place(binder, &branches[i].then)) return NULL;
        copy->type = imv_static_type_join(copy->type, branches[i].then->type);
    }
    copy->switch_.branches = branches;
    if (!imv_bind_in_place(binder, &copy->switch_.otherwise)) return NULL;
    if (copy->switch_.otherwise != NULL) {
        copy->type = imv_static_type_join(copy->type, copy->switch_.otherwise->type);
    }
    return copy;
}

static struct imv_expr *bind_chain(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL) return NULL;
    copy->chain.operands = bind_all(binder, expr->chain.operands, expr->chain.count);
    copy->type = IMV_STATIC_BOOLEAN;
    return copy->chain.operands == NULL ? NULL : copy;
}

static struct imv_expr *bind_operator(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL) return NULL;
    if (expr->kind == IMV_EXPR_UNARY) {
        return imv_bind_in_place(binder, &copy->unary.operand) && imv_bind_unary_type(binder, copy) ? copy : NULL;
    }
    if (!imv_bind_in_place(binder, &copy->binary.left) || !imv_bind_in_place(binder, &copy->binary.right)) return NULL;
    return imv_bind_binary_type(binder, copy) ? copy : NULL;
}

static struct imv_expr *bind_subscript(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL) return NULL;
    copy->type = expr->kind == IMV_EXPR_SLICE ? IMV_STATIC_LIST : IMV_STATIC_ANY;
    bool bound = expr->kind == IMV_EXPR_SLICE
                     ? imv_bind_in_place(binder, &copy->slice.base) && imv_bind_in_place(binder, &copy->slice.from) &&
                           imv_bind_in_place(binder, &copy->slice.to)
                     : imv_bind_in_place(binder, &copy->index.base) && imv_bind_in_place(binder, &copy->index.at);
    return bound ? copy : NULL;
}

static struct imv_expr *bind_labels(struct imv_binder *binder, const struct imv_expr *expr) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy == NULL || !imv_bind_in_place(binder, &copy->labels.base)) return NULL;
    copy->type = IMV_STATIC_BOOLEAN;
    enum imv_static_type type = copy->labels.base->type;
    if (imv_static_type_fits(type, IMV_STATIC_NODE) || type == IMV_STATIC_RELATIONSHIP) return copy;
    return imv_binder_fail(binder, copy->labels.base->span, "InvalidArgumentType",
                           "only a twin has labels, but this is %s", imv_static_type_text(type));
}

static struct imv_expr *bind_literal(struct imv_binder *binder, const struct imv_expr *expr,
                                     enum imv_static_type type) {
    struct imv_expr *copy = copy_of(binder, expr);
    if (copy != NULL) copy->type = type;
    return copy;
}

static struct imv_expr *bind_pattern(struct imv_binder *binder, const struct imv_expr *expr) {
    if (expr->kind == IMV_EXPR_PATTERN) {
        if (!imv_bind_pattern_predicate(binder, expr->pattern.pattern)) return NULL;
    } else {
        imv_binder_unsupported(binder, expr->span,
                               expr->kind == IMV_EXPR_EXISTS ? "EXISTS { } is not available yet"
                                                             : "pattern comprehensions are not available yet");
    }
    return bind_literal(binder, expr,
                        expr->kind == IMV_EXPR_PATTERN_COMPREHENSION ? IMV_STATIC_LIST : IMV_STATIC_BOOLEAN);
}

struct imv_expr *imv_bind_expression(struct imv_binder *binder, const struct imv_expr *expr) {
    if (binder->after != NULL) {
        bool done = false;
        struct imv_expr *result = imv_bind_after(binder, expr, &done);
        if (done) return result;
    }
    switch (expr->kind) {
        case IMV_EXPR_NULL: return bind_literal(binder, expr, IMV_STATIC_NULL);
        case IMV_EXPR_BOOLEAN: return bind_literal(binder, expr, IMV_STATIC_BOOLEAN);
        case IMV_EXPR_INTEGER: return bind_literal(binder, expr, IMV_STATIC_INTEGER);
        case IMV_EXPR_FLOAT: return bind_literal(binder, expr, IMV_STATIC_FLOAT);
        case IMV_EXPR_STRING: return bind_literal(binder, expr, IMV_STATIC_STRING);
        case IMV_EXPR_DURATION: return bind_literal(binder, expr, IMV_STATIC_DURATION);
        case IMV_EXPR_PARAMETER: return bind_literal(binder, expr, IMV_STATIC_ANY);
        case IMV_EXPR_LIST: return bind_list(binder, expr);
        case IMV_EXPR_MAP: return bind_map(binder, expr);
        case IMV_EXPR_VARIABLE: return bind_variable(binder, expr);
        case IMV_EXPR_PROPERTY: return bind_property(binder, expr);
        case IMV_EXPR_INDEX:
        case IMV_EXPR_SLICE: return bind_subscript(binder, expr);
        case IMV_EXPR_UNARY:
        case IMV_EXPR_BINARY: return bind_operator(binder, expr);
        case IMV_EXPR_CHAIN: return bind_chain(binder, expr);
        case IMV_EXPR_CASE: return bind_case(binder, expr);
        case IMV_EXPR_CALL: return bind_call(binder, expr);
        case IMV_EXPR_COMPREHENSION: return bind_comprehension(binder, expr);
        case IMV_EXPR_QUANTIFIER: return bind_quantifier(binder, expr);
        case IMV_EXPR_REDUCE: return bind_reduce(binder, expr);
        case IMV_EXPR_LABELS: return bind_labels(binder, expr);
        case IMV_EXPR_PATTERN:
        case IMV_EXPR_PATTERN_COMPREHENSION:
        case IMV_EXPR_EXISTS: return bind_pattern(binder, expr);
    }
    return NULL;
}

bool imv_bind_condition(struct imv_binder *binder, struct imv_expr **expr, const char *where) {
    if (*expr == NULL) return true;
    bool patterns = binder->patterns_allowed;
    binder->patterns_allowed = true;
    bool bound = imv_bind_in_place(binder, expr);
    binder->patterns_allowed = patterns;
    if (!bound) return false;
    if (imv_static_type_fits((*expr)->type, IMV_STATIC_BOOLEAN)) return true;
    return imv_binder_fail(binder, (*expr)->span, "InvalidArgumentType", "%s needs a condition, but this is %s", where,
                           imv_static_type_text((*expr)->type));
}

bool imv_bind_constant(struct imv_binder *binder, struct imv_expr **expr, const char *where) {
    binder->constant_in = where;
    bool bound = imv_bind_in_place(binder, expr);
    binder->constant_in = NULL;
    return bound;
}
