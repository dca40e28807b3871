/* bind_projection.c - WITH and RETURN: columns, grouping, and what may be said afterwards.
 *
 * A projection that aggregates or is DISTINCT separates two worlds. Its grouping keys and the arguments of its
 * aggregates are evaluated on the incoming rows; whatever comes later (columns around aggregates, ORDER BY) sees only
 * keys, aggregates and columns. imv_bind_after binds the later world: it replaces what stands for a key, an aggregate
 * or a column by a variable of its slot, and refuses the rest of the incoming row.
 *
 * A projection that does neither has one world: the old variables stay in the row, and ORDER BY and WHERE see them too.
 */
#include "query/binder.h"

#include "query/fn/functions.h"
#include "storage/base/assert.h"

/* ---- the world after aggregation ---- */

/* The keys that a column with an aggregate may use, as openCypher has it: variables and properties of variables. */
static bool is_simple(const struct imv_expr *expr) {
    while (expr->kind == IMV_EXPR_PROPERTY) expr = expr->property.base;
    return expr->kind == IMV_EXPR_VARIABLE;
}

struct local_search {
    const struct imv_local *locals;
    bool found;
};

static bool visit_local(struct imv_expr *expr, void *context) {
    struct local_search *search = context;
    if (expr->kind == IMV_EXPR_VARIABLE) {
        for (const struct imv_local *local = search->locals; local != NULL; local = local->outer) {
            if (imv_str_equal(local->variable->name, expr->variable.name)) search->found = true;
        }
    }
    return !search->found && imv_expr_each_child(expr, visit_local, context);
}

/* Does a parsed expression use the variable of a comprehension around it? Then it means no column. */
static bool uses_locals(const struct imv_binder *binder, const struct imv_expr *expr) {
    if (binder->locals == NULL) return false;
    struct local_search search = {binder->locals, false};
    visit_local((struct imv_expr *)(uintptr_t)expr, &search);
    return search.found;
}

/* The column whose parsed expression is this one; -1 when there is none. */
static int64_t find_column(const struct imv_binder *binder, const struct imv_expr *expr) {
    const struct imv_projection_state *state = binder->after;
    const struct imv_projection *projection = state->projection;
    for (uint32_t i = 0; i < projection->items_count; i++) {
        bool usable = state->sorting || (!projection->items[i].aggregating && is_simple(state->sources[i]));
        if (!usable || state->sources[i]->height != expr->height) continue;
        if (imv_expr_equal(state->sources[i], expr) && !uses_locals(binder, expr)) return i;
    }
    return -1;
}

static void *fail_ambiguous(struct imv_binder *binder, struct imv_span span) {
    struct imv_str text = imv_span_text(binder->statement->text, span);
    return imv_binder_fail(binder, span, "AmbiguousAggregationExpression",
                           "`%.*s` stands beside an aggregate, but is not a column of its own here",
                           (int)(text.size > 100 ? 100 : text.size), text.data);
}

static struct imv_expr *use_column(struct imv_binder *binder, const struct imv_expr *expr, uint32_t column) {
    const struct imv_projection_state *state = binder->after;
    struct imv_projection_item *item = &state->projection->items[column];
    if (state->sorting && state->sort_aggregates && !item->aggregating && !is_simple(state->sources[column])) {
        return fail_ambiguous(binder, expr->span);
    }
    return imv_bind_reference(binder, expr, item->variable);
}

/* ---- aggregates ---- */

static struct imv_expr *find_aggregate(const struct imv_projection_state *state, const struct imv_expr *call) {
    for (uint32_t i = 0; i < state->projection->aggregates_count; i++) {
        if (imv_expr_equal(state->aggregate_sources[i], call)) return state->projection->aggregates[i];
    }
    return NULL;
}

static struct imv_expr *add_aggregate(struct imv_binder *binder, struct imv_projection_state *state,
                                      const struct imv_expr *source, struct imv_expr *bound) {
    struct imv_projection *projection = state->projection;
    struct imv_expr **aggregate =
        imv_binder_append(binder, (void **)&projection->aggregates, &projection->aggregates_count, sizeof *aggregate);
    struct imv_expr **kept =
        imv_binder_append(binder, (void **)&state->aggregate_sources, &state->aggregate_sources_count, sizeof *kept);
    if (aggregate == NULL || kept == NULL) return NULL;
    *aggregate = bound;
    *kept = (struct imv_expr *)(uintptr_t)source;
    bound->call.slot = binder->query->slots_count++;
    return bound;
}

/* Binds the arguments in the world before. ORDER BY sees only columns: an aggregate that is none is refused unless it
 * needs nothing but the rows themselves, as count(*) does. */
static struct imv_expr *bind_aggregate(struct imv_binder *binder, const struct imv_expr *call) {
    struct imv_projection_state *state = binder->after;
    struct imv_expr *known = find_aggregate(state, call);
    if (known != NULL && !uses_locals(binder, call)) return known;
    if (binder->locals != NULL || (state->sorting && !state->projection->aggregating)) {
        return imv_binder_fail(binder, call->span, "InvalidAggregation", "an aggregate cannot stand here");
    }
    struct imv_scope scope = binder->scope;
    if (!state->sorting) binder->scope = *state->input;
    bool window = binder->uses_window;
    binder->after = NULL;
    struct imv_expr *bound = imv_bind_aggregate_call(binder, call);
    binder->after = state;
    binder->scope = scope;
    binder->uses_window = window;
    if (bound == NULL) return NULL;
    if (state->sorting && !bound->call.star) {
        return imv_binder_fail(binder, call->span, "InvalidAggregation",
                               "ORDER BY can only use an aggregate that is a column too");
    }
    return add_aggregate(binder, state, call, bound);
}

struct imv_expr *imv_bind_after(struct imv_binder *binder, const struct imv_expr *expr, bool *done) {
    const struct imv_projection_state *state = binder->after;
    bool variable = expr->kind == IMV_EXPR_VARIABLE && !uses_locals(binder, expr);
    /* In ORDER BY the name of a column goes before the variable that it hides. */
    if (state->sorting && variable && imv_scope_find(&binder->scope, expr->variable.name) != NULL) return NULL;
    int64_t column = find_column(binder, expr);
    if (column >= 0) {
        *done = true;
        return use_column(binder, expr, (uint32_t)column);
    }
    if (expr->kind == IMV_EXPR_CALL) {
        struct imv_scope scope = binder->scope;
        binder->scope = *state->input; /* whether last(x) aggregates depends on what x was before */
        const struct imv_function *function = imv_bind_function(binder, expr);
        binder->scope = scope;
        if (function != NULL && function->aggregate) {
            *done = true;
            return bind_aggregate(binder, expr);
        }
    }
    if (variable && !state->sorting && imv_scope_find(state->input, expr->variable.name) != NULL) {
        *done = true;
        return fail_ambiguous(binder, expr->span);
    }
    return NULL;
}

/* ---- columns ---- */

static bool expand_star(struct imv_binder *binder, struct imv_projection *projection, struct imv_span span,
                        bool is_return) {
    if (!projection->star) return true;
    struct imv_projection_item *items = NULL;
    uint32_t count = 0;
    const struct imv_scope *scope = &binder->scope;
    binder->star_columns += scope->count;
    if (binder->star_columns > IMV_STAR_COLUMNS_MAX) {
        return imv_binder_fail(binder, span, "TooManyColumns", "the * of the query stand for more than %d columns",
                               IMV_STAR_COLUMNS_MAX);
    }
    for (uint32_t i = 0; i < scope->count; i++) {
        struct imv_projection_item *item = imv_binder_append(binder, (void **)&items, &count, sizeof *item);
        struct imv_expr *expr = imv_binder_alloc(binder, 1, sizeof *expr);
        if (item == NULL || expr == NULL) return false;
        *expr = (struct imv_expr){.kind = IMV_EXPR_VARIABLE, .height = 1, .span = span};
        expr->variable.name = scope->entries[i].name;
        *item = (struct imv_projection_item){.expr = expr, .name = scope->entries[i].name, .name_span = span};
    }
    if (count == 0 && is_return) {
        return imv_binder_fail(binder, span, "NoVariablesInScope", "RETURN * needs a variable, but there is none");
    }
    for (uint32_t i = 0; i < projection->items_count; i++) {
        struct imv_projection_item *item = imv_binder_append(binder, (void **)&items, &count, sizeof *item);
        if (item == NULL) return false;
        *item = projection->items[i];
    }
    projection->items = items;
    projection->items_count = count;
    projection->star = false;
    return true;
}

/* WITH s AS t of a plain projection: the variable itself goes on, so that its fields stay columns. */
static struct imv_variable *passed_on(struct imv_binder *binder, const struct imv_projection *projection,
                                      const struct imv_expr *source) {
    if (projection->aggregating || projection->distinct || source->kind != IMV_EXPR_VARIABLE) return NULL;
    return imv_scope_find(&binder->scope, source->variable.name);
}

static bool bind_item(struct imv_binder *binder, struct imv_projection_state *state, uint32_t i, bool is_return) {
    struct imv_projection *projection = state->projection;
    struct imv_projection_item *item = &projection->items[i];
    binder->uses_window = false;
    item->variable = passed_on(binder, projection, item->expr);
    if (item->variable != NULL && !is_return) {
        item->expr = imv_bind_reference(binder, item->expr, item->variable);
        item->uses_window = binder->uses_window;
        return item->expr != NULL;
    }
    if (item->aggregating) binder->after = state;
    bool bound = imv_bind_in_place(binder, &item->expr);
    binder->after = NULL;
    if (!bound) return false;
    item->uses_window = binder->uses_window;
    if (item->variable != NULL) return true;
    item->variable = imv_binder_new_variable(binder, item->name, item->name_span, imv_binder_kind_of_copy(item->expr),
                                             item->expr->type);
    if (item->variable == NULL) return false;
    item->variable->uses_window = item->uses_window;
    return true;
}

/* Keys first: the columns with aggregates refer to their slots. */
static bool bind_items(struct imv_binder *binder, struct imv_projection_state *state, bool is_return) {
    struct imv_projection *projection = state->projection;
    for (uint32_t i = 0; i < projection->items_count; i++) {
        struct imv_projection_item *item = &projection->items[i];
        state->sources[i] = item->expr;
        item->aggregating = imv_bind_aggregates(binder, item->expr);
        projection->aggregating |= item->aggregating;
    }
    for (int aggregating = 0; aggregating < 2; aggregating++) {
        for (uint32_t i = 0; i < projection->items_count; i++) {
            if (projection->items[i].aggregating != (aggregating == 1)) continue;
            if (!bind_item(binder, state, i, is_return)) return false;
        }
    }
    return true;
}

/* ---- names of columns ---- */

static bool check_names(struct imv_binder *binder, const struct imv_projection_state *state, bool is_return) {
    const struct imv_projection *projection = state->projection;
    for (uint32_t i = 0; i < projection->items_count; i++) {
        const struct imv_projection_item *item = &projection->items[i];
        if (!is_return && !item->aliased && state->sources[i]->kind != IMV_EXPR_VARIABLE) {
            return imv_binder_fail(binder, item->name_span, "NoExpressionAlias",
                                   "an expression in WITH needs a name: %.*s AS name",
                                   (int)(item->name.size > 100 ? 100 : item->name.size), item->name.data);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (!imv_str_equal(projection->items[j].name, item->name)) continue;
            return imv_binder_fail(binder, item->name_span, "ColumnNameConflict", "two columns are called `%.*s`",
                                   (int)(item->name.size > 100 ? 100 : item->name.size), item->name.data);
        }
    }
    return true;
}

static bool add_columns(struct imv_binder *binder, const struct imv_projection *projection, struct imv_scope *scope) {
    for (uint32_t i = 0; i < projection->items_count; i++) {
        if (!imv_scope_add(binder, scope, projection->items[i].name, projection->items[i].variable)) return false;
    }
    return true;
}

/* ---- ORDER BY, SKIP, LIMIT, WHERE ---- */

static bool bind_sort_keys(struct imv_binder *binder, struct imv_projection_state *state) {
    struct imv_projection *projection = state->projection;
    bool two_worlds = projection->aggregating || projection->distinct;
    for (uint32_t i = 0; i < projection->sort_keys_count; i++) {
        struct imv_scope scope = binder->scope;
        binder->scope = *state->input;
        state->sorting = true;
        state->sort_aggregates = imv_bind_aggregates(binder, projection->sort_keys[i].expr);
        binder->scope = scope;
        if (two_worlds) binder->after = state;
        bool bound = imv_bind_in_place(binder, &projection->sort_keys[i].expr);
        binder->after = NULL;
        if (!bound) return false;
    }
    return true;
}

static bool bind_row_count(struct imv_binder *binder, struct imv_expr **expr, const char *clause) {
    if (!imv_bind_constant(binder, expr, clause)) return false;
    if (*expr == NULL) return true;
    if ((*expr)->kind == IMV_EXPR_INTEGER && (*expr)->integer < 0) {
        return imv_binder_fail(binder, (*expr)->span, "NegativeIntegerArgument", "%s cannot be negative", clause);
    }
    /* A float that is whole would do at run time, but a literal is a slip of the pen. */
    bool number = (*expr)->kind != IMV_EXPR_FLOAT && imv_static_type_fits((*expr)->type, IMV_STATIC_NUMBER);
    return number ||
           imv_binder_fail(binder, (*expr)->span, "InvalidArgumentType", "%s needs an integer, but this is %s", clause,
                           imv_static_type_text((*expr)->type));
}

/* WINDOW may still bucket the samples when they were passed on. */
static void forget_samples(struct imv_binder *binder, const struct imv_scope *output) {
    for (uint32_t i = 0; i < output->count; i++) {
        if (output->entries[i].variable->samples == binder->samples) return;
    }
    binder->samples = NULL;
}

bool imv_bind_projection(struct imv_binder *binder, struct imv_clause *clause) {
    struct imv_projection *projection = &clause->projection;
    bool is_return = clause->kind == IMV_CLAUSE_RETURN;
    struct imv_scope input = binder->scope, output = {0};
    if (!expand_star(binder, projection, clause->span, is_return)) return false;
    struct imv_projection_state state = {.projection = projection, .input = &input};
    state.sources = imv_binder_alloc(binder, projection->items_count + 1, sizeof *state.sources);
    if (state.sources == NULL || !bind_items(binder, &state, is_return)) return false;
    if (!add_columns(binder, projection, &output)) return false;
    /* One world: old and new names together; the new ones, being last, hide the old. */
    struct imv_scope both = {0};
    if (!projection->aggregating && !projection->distinct) {
        for (uint32_t i = 0; i < input.count; i++) {
            if (!imv_scope_add(binder, &both, input.entries[i].name, input.entries[i].variable)) return false;
        }
    }
    if (!add_columns(binder, projection, &both)) return false;
    binder->scope = both;
    if (!bind_sort_keys(binder, &state) || !check_names(binder, &state, is_return) ||
        !bind_row_count(binder, &projection->skip, "SKIP") || !bind_row_count(binder, &projection->limit, "LIMIT") ||
        !imv_bind_condition(binder, &projection->where, "WHERE")) {
        return false;
    }
    binder->scope = output;
    forget_samples(binder, &output);
    return true;
}
