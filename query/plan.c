#include "query/plan.h"

#include "query/expr.h"
#include "query/fn/aggregate.h"
#include "query/procedures.h"
#include "storage/base/assert.h"

/* The plan of one branch while it grows upwards. */
struct planner {
    struct imv_exec *exec;
    struct imv_plan *top;
    uint32_t slots_count;
    const struct imv_plan *window; /* WINDOW whose windows are still in scope and divide the next groups */
    const struct imv_plan *fill;   /* its FILL, until an aggregation takes it up */
    bool failed;                   /* out of memory */
};

/* ---- building ---- */

static void *take(struct planner *planner, size_t count, size_t size) {
    void *memory = imv_arena_calloc(&planner->exec->arena, count + 1, size);
    if (memory == NULL) planner->failed = true;
    return memory;
}

/* Puts an operator on top. The one returned is a spare when memory is short. */
static struct imv_plan *push(struct planner *planner, enum imv_plan_kind kind) {
    static _Thread_local struct imv_plan spare;
    struct imv_plan *plan = take(planner, 1, sizeof *plan);
    if (plan == NULL) plan = &spare;
    *plan = (struct imv_plan){.kind = kind, .input = planner->top};
    planner->top = plan;
    return plan;
}

static struct imv_expr *new_expr(struct planner *planner, enum imv_expr_kind kind, const struct imv_expr *like) {
    static _Thread_local struct imv_expr spare;
    struct imv_expr *expr = take(planner, 1, sizeof *expr);
    if (expr == NULL) expr = &spare;
    *expr = (struct imv_expr){.kind = kind, .height = 1};
    if (like != NULL) {
        expr->span = like->span;
        expr->height = like->height + 1;
    }
    return expr;
}

/* ---- predicates ---- */

static void add_predicate(struct planner *planner, struct imv_plan *filter, const struct imv_expr *predicate) {
    uint32_t count = filter->filter.predicates_count;
    const struct imv_expr **predicates = take(planner, count + 1, sizeof *predicates);
    if (predicates == NULL) return;
    if (count > 0) memcpy(predicates, filter->filter.predicates, count * sizeof *predicates);
    predicates[count] = predicate;
    filter->filter.predicates = predicates;
    filter->filter.predicates_count = count + 1;
}

/* Are the operands between the ends plain variables, which cost nothing to read twice? */
static bool is_plain_chain(const struct imv_expr *expr) {
    if (expr->kind != IMV_EXPR_CHAIN) return false;
    for (uint32_t i = 1; i + 1 < expr->chain.count; i++)
        if (expr->chain.operands[i]->kind != IMV_EXPR_VARIABLE) return false;
    return true;
}

/* a < b <= c as a < b and b <= c. */
static void add_chain(struct planner *planner, struct imv_plan *filter, const struct imv_expr *chain) {
    for (uint32_t i = 0; i + 1 < chain->chain.count; i++) {
        struct imv_expr *pair = new_expr(planner, IMV_EXPR_BINARY, chain);
        pair->type = IMV_STATIC_BOOLEAN;
        pair->binary.op = chain->chain.ops[i];
        pair->binary.left = chain->chain.operands[i];
        pair->binary.right = chain->chain.operands[i + 1];
        add_predicate(planner, filter, pair);
    }
}

/* The parts of a conjunction: each must be true. */
static void add_conjunction(struct planner *planner, struct imv_plan *filter, const struct imv_expr *condition) {
    if (condition->kind == IMV_EXPR_BINARY && condition->binary.op == IMV_BINARY_AND) {
        add_conjunction(planner, filter, condition->binary.left);
        add_conjunction(planner, filter, condition->binary.right);
        return;
    }
    if (is_plain_chain(condition)) {
        add_chain(planner, filter, condition);
        return;
    }
    add_predicate(planner, filter, condition);
}

static void push_filter(struct planner *planner, const struct imv_expr *condition) {
    if (condition != NULL) add_conjunction(planner, push(planner, IMV_PLAN_FILTER), condition);
}

/* ---- patterns ---- */

static struct imv_expr *variable_expr(struct planner *planner, const struct imv_node_pattern *node) {
    struct imv_expr *expr = new_expr(planner, IMV_EXPR_VARIABLE, NULL);
    expr->span = node->name.data != NULL ? node->name_span : node->span;
    expr->type = IMV_STATIC_NODE;
    expr->variable.name = node->variable->name;
    expr->variable.slot = node->variable->slot;
    expr->variable.variable = node->variable;
    return expr;
}

/* {hostname: 'h1'} is hostname = 'h1'. */
static void add_property(struct planner *planner, struct imv_plan *filter, struct imv_expr *variable,
                         const struct imv_expr_map_entry *entry) {
    struct imv_expr *property = new_expr(planner, IMV_EXPR_PROPERTY, variable);
    property->property.base = variable;
    property->property.name = entry->key;
    property->property.name_span = entry->span;
    struct imv_expr *equal = new_expr(planner, IMV_EXPR_BINARY, entry->value);
    equal->type = IMV_STATIC_BOOLEAN;
    equal->binary.op = IMV_BINARY_EQUAL;
    equal->binary.left = property;
    equal->binary.right = entry->value;
    add_predicate(planner, filter, equal);
}

/* A variable that has a value already must be a twin with these labels. */
static void add_checks(struct planner *planner, struct imv_plan *filter, const struct imv_node_pattern *node,
                       struct imv_expr *variable) {
    struct imv_expr *present = new_expr(planner, IMV_EXPR_UNARY, variable);
    present->type = IMV_STATIC_BOOLEAN;
    present->unary.op = IMV_UNARY_IS_NOT_NULL;
    present->unary.operand = variable;
    add_predicate(planner, filter, present);
    if (node->labels == NULL) return;
    struct imv_expr *labels = new_expr(planner, IMV_EXPR_LABELS, variable);
    labels->type = IMV_STATIC_BOOLEAN;
    labels->labels.base = variable;
    labels->labels.labels = node->labels;
    add_predicate(planner, filter, labels);
}

static void plan_node(struct planner *planner, const struct imv_node_pattern *node) {
    struct imv_expr *variable = variable_expr(planner, node);
    if (!node->bound_before) push(planner, IMV_PLAN_TWIN_SCAN)->twin_scan.node = node;
    if (!node->bound_before && node->properties == NULL && node->where == NULL) return;
    struct imv_plan *filter = push(planner, IMV_PLAN_FILTER);
    if (node->bound_before) add_checks(planner, filter, node, variable);
    for (uint32_t i = 0; node->properties != NULL && i < node->properties->map.count; i++)
        add_property(planner, filter, variable, &node->properties->map.entries[i]);
    if (node->where != NULL) add_conjunction(planner, filter, node->where);
}

static imv_status plan_patterns(struct planner *planner, const struct imv_match *match) {
    for (uint32_t i = 0; i < match->patterns_count; i++) {
        const struct imv_pattern *pattern = &match->patterns[i];
        if (pattern->nodes_count != 1)
            return imv_exec_fail(planner->exec, IMV_INVALID, pattern->span, "SyntaxError", "UnsupportedFeature",
                                 "relationships between twins are not stored");
        plan_node(planner, &pattern->nodes[0]);
    }
    push_filter(planner, match->where);
    return IMV_OK;
}

static imv_status plan_match(struct planner *planner, const struct imv_match *match) {
    if (!match->optional) return plan_patterns(planner, match);
    struct imv_plan *outer = planner->top;
    planner->top = NULL;
    push(planner, IMV_PLAN_START);
    IMV_TRY(plan_patterns(planner, match));
    struct imv_plan *inner = planner->top;
    planner->top = outer;
    struct imv_plan *optional = push(planner, IMV_PLAN_OPTIONAL);
    optional->optional.inner = inner;
    optional->optional.slots = take(planner, match->patterns_count, sizeof(uint32_t));
    for (uint32_t i = 0; optional->optional.slots != NULL && i < match->patterns_count; i++) {
        const struct imv_node_pattern *node = &match->patterns[i].nodes[0];
        if (!node->bound_before) optional->optional.slots[optional->optional.slots_count++] = node->variable->slot;
    }
    return IMV_OK;
}

/* ---- samples and windows ---- */

/* The slot of a field among fields; a new one when it has none. */
static uint32_t field_slot(struct planner *planner, struct imv_field_slot **fields, uint32_t *count,
                           struct imv_str name) {
    for (uint32_t i = 0; i < *count; i++)
        if (imv_str_equal((*fields)[i].name, name)) return (*fields)[i].slot;
    struct imv_field_slot *grown = take(planner, *count + 1, sizeof *grown);
    if (grown == NULL) return 0;
    if (*count > 0) memcpy(grown, *fields, *count * sizeof *grown);
    grown[*count] = (struct imv_field_slot){.name = name, .slot = planner->slots_count++};
    *fields = grown;
    return grown[(*count)++].slot;
}

static void plan_samples(struct planner *planner, const struct imv_samples *samples) {
    struct imv_plan *plan = push(planner, IMV_PLAN_SAMPLE_SCAN);
    plan->sample_scan.samples = samples;
    plan->sample_scan.fields = samples->fields;
    plan->sample_scan.fields_count = samples->fields_count;
}

/* The scan of samples in the plan so far; NULL when there is none. */
static struct imv_plan *find_scan(struct imv_plan *plan, const struct imv_samples *samples) {
    while (plan != NULL && (plan->kind != IMV_PLAN_SAMPLE_SCAN || plan->sample_scan.samples != samples))
        plan = plan->input;
    return plan;
}

static uint32_t sample_time_slot(struct planner *planner, const struct imv_samples *samples) {
    struct imv_plan *scan = find_scan(planner->top, samples);
    if (scan == NULL) return UINT32_MAX;
    return field_slot(planner, &scan->sample_scan.fields, &scan->sample_scan.fields_count, IMV_STR("ts"));
}

static void plan_window(struct planner *planner, const struct imv_window *window) {
    uint32_t time_slot = sample_time_slot(planner, window->samples);
    struct imv_plan *plan = push(planner, IMV_PLAN_WINDOW);
    plan->window.window = window;
    plan->window.time_slot = time_slot;
    plan->window.fields = window->fields;
    plan->window.fields_count = window->fields_count;
    field_slot(planner, &plan->window.fields, &plan->window.fields_count, IMV_STR("start"));
    planner->window = plan;
    planner->fill = window->fill == IMV_FILL_NONE ? NULL : plan;
}

static uint32_t window_start_slot(const struct imv_plan *window) {
    for (uint32_t i = 0; i < window->window.fields_count; i++)
        if (imv_str_equal(window->window.fields[i].name, IMV_STR("start"))) return window->window.fields[i].slot;
    return UINT32_MAX;
}

/* ---- projections ---- */

static void add_item(struct imv_plan_item *items, uint32_t *count, const struct imv_projection_item *item) {
    items[(*count)++] =
        (struct imv_plan_item){.expr = item->expr, .slot = item->variable->slot, .uses_window = item->uses_window};
}

/* WITH h passes h on in its own slot: there is nothing to compute. */
static bool is_copy(const struct imv_projection_item *item) {
    return item->expr->kind == IMV_EXPR_VARIABLE && !item->expr->variable.local &&
           item->expr->variable.slot == item->variable->slot;
}

static void plan_items(struct planner *planner, const struct imv_projection *projection) {
    struct imv_plan_item *items = take(planner, projection->items_count, sizeof *items);
    uint32_t count = 0;
    if (items == NULL) return;
    for (uint32_t i = 0; i < projection->items_count; i++) {
        const struct imv_projection_item *item = &projection->items[i];
        if ((item->aggregating || !projection->aggregating) && !is_copy(item)) add_item(items, &count, item);
    }
    if (count == 0) return;
    struct imv_plan *project = push(planner, IMV_PLAN_PROJECT);
    project->project.items = items;
    project->project.items_count = count;
}

struct time_search {
    struct planner *planner;
    uint32_t slot; /* of the time found; UINT32_MAX: none */
};

/* Is the slot a field of some samples? Then their time goes with it. */
static void search_time(uint32_t slot, void *context) {
    struct time_search *search = context;
    for (struct imv_plan *plan = search->planner->top; plan != NULL; plan = plan->input) {
        if (plan->kind != IMV_PLAN_SAMPLE_SCAN) continue;
        for (uint32_t i = 0; i < plan->sample_scan.fields_count; i++)
            if (plan->sample_scan.fields[i].slot == slot) {
                search->slot = sample_time_slot(search->planner, plan->sample_scan.samples);
                return;
            }
    }
}

static uint32_t time_of_aggregate(struct planner *planner, const struct imv_expr *call) {
    struct time_search search = {planner, UINT32_MAX};
    if (!call->call.function->state->by_time || call->call.count == 0) return UINT32_MAX;
    imv_expr_each_slot(call->call.arguments[0], search_time, &search);
    return search.slot;
}

/* Groups are divided by the windows in scope, whether or not a column says so. Returns the slot of their start. */
static uint32_t add_window_key(struct planner *planner, struct imv_plan *aggregate) {
    uint32_t slot = window_start_slot(planner->window);
    for (uint32_t i = 0; i < aggregate->aggregate.keys_count; i++) {
        const struct imv_plan_item *key = &aggregate->aggregate.keys[i];
        if (key->expr->kind == IMV_EXPR_VARIABLE && key->expr->variable.slot == slot) return key->slot;
    }
    struct imv_expr *start = new_expr(planner, IMV_EXPR_VARIABLE, NULL);
    start->span = planner->window->window.window->variable->span;
    start->type = IMV_STATIC_TIME;
    start->variable.name = IMV_STR("window.start");
    start->variable.slot = slot;
    aggregate->aggregate.keys[aggregate->aggregate.keys_count++] =
        (struct imv_plan_item){.expr = start, .slot = slot, .uses_window = true};
    return slot;
}

static void plan_fill(struct planner *planner, const struct imv_plan *aggregate, uint32_t start_slot) {
    const struct imv_plan *window = planner->fill;
    struct imv_plan *fill = push(planner, IMV_PLAN_FILL);
    fill->fill.aggregate = aggregate;
    fill->fill.window = window;
    fill->fill.start_slot = start_slot;
}

static imv_status plan_aggregate(struct planner *planner, const struct imv_projection *projection) {
    struct imv_plan_item *keys = take(planner, projection->items_count + 1, sizeof *keys);
    uint32_t *time_slots = take(planner, projection->aggregates_count, sizeof *time_slots);
    uint32_t keys_count = 0;
    if (planner->failed) return imv_exec_fail_memory(planner->exec);
    for (uint32_t i = 0; i < projection->items_count; i++)
        if (!projection->items[i].aggregating) add_item(keys, &keys_count, &projection->items[i]);
    for (uint32_t i = 0; i < projection->aggregates_count; i++)
        time_slots[i] = time_of_aggregate(planner, projection->aggregates[i]);
    struct imv_plan *plan = push(planner, IMV_PLAN_AGGREGATE);
    plan->aggregate.keys = keys;
    plan->aggregate.keys_count = keys_count;
    plan->aggregate.aggregates = (const struct imv_expr **)projection->aggregates;
    plan->aggregate.aggregates_count = projection->aggregates_count;
    plan->aggregate.time_slots = time_slots;
    if (planner->window != NULL) {
        uint32_t start_slot = add_window_key(planner, plan);
        if (planner->fill != NULL) plan_fill(planner, plan, start_slot);
    }
    planner->window = NULL;
    planner->fill = NULL;
    return IMV_OK;
}

static void plan_distinct(struct planner *planner, const struct imv_projection *projection) {
    if (!projection->distinct) return;
    uint32_t *slots = take(planner, projection->items_count, sizeof *slots);
    if (slots == NULL) return;
    for (uint32_t i = 0; i < projection->items_count; i++) slots[i] = projection->items[i].variable->slot;
    struct imv_plan *distinct = push(planner, IMV_PLAN_DISTINCT);
    distinct->distinct.slots = slots;
    distinct->distinct.slots_count = projection->items_count;
}

/* A plain WITH keeps the windows when it passes their variable on. */
static void keep_window(struct planner *planner, const struct imv_projection *projection) {
    bool kept = false;
    if (planner->window == NULL || projection->distinct) return;
    for (uint32_t i = 0; i < projection->items_count; i++)
        kept |= projection->items[i].variable == planner->window->window.window->variable;
    if (!kept) planner->window = NULL; /* a FILL that is left over is an error at the end */
}

static imv_status plan_projection(struct planner *planner, const struct imv_projection *projection) {
    if (projection->aggregating)
        IMV_TRY(plan_aggregate(planner, projection));
    else
        keep_window(planner, projection);
    if (planner->failed) return imv_exec_fail_memory(planner->exec);
    plan_items(planner, projection);
    plan_distinct(planner, projection);
    if (projection->sort_keys_count > 0) {
        struct imv_plan *sort = push(planner, IMV_PLAN_SORT);
        sort->sort.keys = projection->sort_keys;
        sort->sort.keys_count = projection->sort_keys_count;
    }
    if (projection->skip != NULL) push(planner, IMV_PLAN_SKIP)->count = projection->skip;
    if (projection->limit != NULL) push(planner, IMV_PLAN_LIMIT)->count = projection->limit;
    push_filter(planner, projection->where);
    return IMV_OK;
}

/* ---- the other clauses ---- */

static void plan_lets(struct planner *planner, const struct imv_clause *clause) {
    struct imv_plan_item *items = take(planner, clause->lets_count, sizeof *items);
    if (items == NULL) return;
    for (uint32_t i = 0; i < clause->lets_count; i++)
        items[i] = (struct imv_plan_item){.expr = clause->lets[i].value, .slot = clause->lets[i].variable->slot};
    struct imv_plan *project = push(planner, IMV_PLAN_PROJECT);
    project->project.items = items;
    project->project.items_count = clause->lets_count;
}

/* A procedure gives a list of rows, each a list of columns: they are unwound, and what is yielded is taken out. */
static void plan_call(struct planner *planner, const struct imv_procedure_call *call) {
    struct imv_plan *unwind = push(planner, IMV_PLAN_UNWIND);
    unwind->unwind.list = call->call;
    unwind->unwind.slot = call->row->slot;
    struct imv_plan_item *items = take(planner, call->yields_count, sizeof *items);
    if (items == NULL) return;
    for (uint32_t i = 0; i < call->yields_count; i++) {
        struct imv_expr *row = new_expr(planner, IMV_EXPR_VARIABLE, NULL),
                        *at = new_expr(planner, IMV_EXPR_INTEGER, NULL);
        struct imv_expr *column = new_expr(planner, IMV_EXPR_INDEX, row);
        row->span = at->span = column->span = call->yields[i].column_span;
        row->type = IMV_STATIC_LIST;
        row->variable.name = call->procedure->function.name;
        row->variable.slot = call->row->slot;
        at->type = IMV_STATIC_INTEGER;
        at->integer = imv_procedure_column(call->procedure, call->yields[i].column) - call->procedure->columns;
        column->type = call->yields[i].variable->type;
        column->index.base = row;
        column->index.at = at;
        items[i] = (struct imv_plan_item){.expr = column, .slot = call->yields[i].variable->slot};
    }
    struct imv_plan *project = push(planner, IMV_PLAN_PROJECT);
    project->project.items = items;
    project->project.items_count = call->yields_count;
    push_filter(planner, call->where);
}

static imv_status plan_clause(struct planner *planner, const struct imv_clause *clause) {
    switch (clause->kind) {
        case IMV_CLAUSE_MATCH: return plan_match(planner, &clause->match);
        case IMV_CLAUSE_SAMPLES: plan_samples(planner, &clause->samples); break;
        case IMV_CLAUSE_DELETE: push(planner, IMV_PLAN_DELETE)->deleted = &clause->samples; break;
        case IMV_CLAUSE_WINDOW: plan_window(planner, &clause->window); break;
        case IMV_CLAUSE_FILTER: push_filter(planner, clause->filter); break;
        case IMV_CLAUSE_LET: plan_lets(planner, clause); break;
        case IMV_CLAUSE_CALL: plan_call(planner, &clause->call); break;
        case IMV_CLAUSE_UNWIND: {
            struct imv_plan *unwind = push(planner, IMV_PLAN_UNWIND);
            unwind->unwind.list = clause->unwind.list;
            unwind->unwind.slot = clause->unwind.variable->slot;
            break;
        }
        case IMV_CLAUSE_WITH:
        case IMV_CLAUSE_RETURN: return plan_projection(planner, &clause->projection);
    }
    return IMV_OK;
}

static imv_status plan_branch(struct imv_exec *exec, const struct imv_single_query *query, struct imv_plan **plan) {
    struct planner planner = {.exec = exec, .slots_count = query->slots_count};
    push(&planner, IMV_PLAN_START);
    for (uint32_t i = 0; i < query->clauses_count; i++) {
        IMV_TRY(plan_clause(&planner, &query->clauses[i]));
        if (planner.failed) return imv_exec_fail_memory(exec);
    }
    if (planner.fill != NULL)
        return imv_exec_fail(exec, IMV_INVALID, planner.fill->window.window->variable->span, "SyntaxError",
                             "InvalidClauseComposition",
                             "FILL needs a WITH or RETURN with an aggregate, to which windows can be added");
    struct imv_plan *produce = push(&planner, IMV_PLAN_PRODUCE);
    produce->produce.projection = imv_single_query_result(query);
    produce->produce.slots_count = planner.slots_count;
    *plan = planner.top;
    return planner.failed ? imv_exec_fail_memory(exec) : IMV_OK;
}

imv_status imv_plan_statement(struct imv_exec *exec, const struct imv_statement *statement, struct imv_plan **plan) {
    struct planner planner = {.exec = exec};
    struct imv_plan **branches = take(&planner, statement->branches_count, sizeof *branches);
    if (branches == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < statement->branches_count; i++)
        IMV_TRY(plan_branch(exec, &statement->branches[i], &branches[i]));
    *plan = branches[0];
    if (statement->branches_count == 1) return IMV_OK;
    struct imv_plan *all = push(&planner, IMV_PLAN_UNION);
    all->union_.branches = branches;
    all->union_.branches_count = statement->branches_count;
    if (!statement->union_all) {
        uint32_t count = branches[0]->produce.projection->items_count;
        uint32_t *slots = take(&planner, count, sizeof *slots);
        struct imv_plan *distinct = push(&planner, IMV_PLAN_DISTINCT);
        for (uint32_t i = 0; slots != NULL && i < count; i++) slots[i] = i;
        distinct->distinct.slots = slots;
        distinct->distinct.slots_count = count;
    }
    *plan = planner.top;
    return planner.failed ? imv_exec_fail_memory(exec) : IMV_OK;
}

/* ---- reads and writes ---- */

typedef void visit_slot(uint32_t slot, void *context);

static void visit_items(const struct imv_plan_item *items, uint32_t count, visit_slot *visit, void *context) {
    for (uint32_t i = 0; i < count; i++) imv_expr_each_slot(items[i].expr, visit, context);
}

static void visit_optional(const struct imv_expr *expr, visit_slot *visit, void *context) {
    if (expr != NULL) imv_expr_each_slot(expr, visit, context);
}

static void visit_aggregate_reads(const struct imv_plan *plan, visit_slot *visit, void *context) {
    visit_items(plan->aggregate.keys, plan->aggregate.keys_count, visit, context);
    for (uint32_t i = 0; i < plan->aggregate.aggregates_count; i++) {
        const struct imv_expr *call = plan->aggregate.aggregates[i];
        for (uint32_t j = 0; j < call->call.count; j++) imv_expr_each_slot(call->call.arguments[j], visit, context);
        if (plan->aggregate.time_slots[i] != UINT32_MAX) visit(plan->aggregate.time_slots[i], context);
    }
}

static void visit_scan_reads(const struct imv_plan *plan, visit_slot *visit, void *context) {
    const struct imv_samples *samples = plan->sample_scan.samples;
    imv_expr_each_slot(samples->node, visit, context);
    visit_optional(samples->from, visit, context);
    visit_optional(samples->to, visit, context);
    for (uint32_t i = 0; i < plan->sample_scan.bounds_count; i++)
        imv_expr_each_slot(plan->sample_scan.bounds[i].value, visit, context);
}

/* A TEST reads the scan's own variable, whose tag it is given, and no other. */
void imv_plan_tags_each_slot(const struct imv_plan_tags *tags, visit_slot *visit, void *context) {
    if (tags == NULL) return;
    if (tags->value != NULL && tags->kind != IMV_PLAN_TAGS_TEST) imv_expr_each_slot(tags->value, visit, context);
    imv_plan_tags_each_slot(tags->left, visit, context);
    imv_plan_tags_each_slot(tags->right, visit, context);
}

void imv_plan_each_read(const struct imv_plan *plan, visit_slot *visit, void *context) {
    switch (plan->kind) {
        case IMV_PLAN_TWIN_SCAN: imv_plan_tags_each_slot(plan->twin_scan.tags, visit, context); break;
        case IMV_PLAN_SAMPLE_SCAN: visit_scan_reads(plan, visit, context); break;
        case IMV_PLAN_DELETE: imv_expr_each_slot(plan->deleted->node, visit, context); break;
        case IMV_PLAN_WINDOW: visit(plan->window.time_slot, context); break;
        case IMV_PLAN_FILTER:
            for (uint32_t i = 0; i < plan->filter.predicates_count; i++)
                imv_expr_each_slot(plan->filter.predicates[i], visit, context);
            break;
        case IMV_PLAN_PROJECT: visit_items(plan->project.items, plan->project.items_count, visit, context); break;
        case IMV_PLAN_AGGREGATE: visit_aggregate_reads(plan, visit, context); break;
        case IMV_PLAN_FILL:
            for (uint32_t i = 0; i < plan->fill.aggregate->aggregate.keys_count; i++)
                visit(plan->fill.aggregate->aggregate.keys[i].slot, context);
            break;
        case IMV_PLAN_UNWIND: imv_expr_each_slot(plan->unwind.list, visit, context); break;
        case IMV_PLAN_DISTINCT:
            for (uint32_t i = 0; i < plan->distinct.slots_count; i++) visit(plan->distinct.slots[i], context);
            break;
        case IMV_PLAN_SORT:
        case IMV_PLAN_TOP:
            for (uint32_t i = 0; i < plan->sort.keys_count; i++)
                imv_expr_each_slot(plan->sort.keys[i].expr, visit, context);
            break;
        case IMV_PLAN_PRODUCE:
            for (uint32_t i = 0; i < plan->produce.projection->items_count; i++)
                visit(plan->produce.projection->items[i].variable->slot, context);
            break;
        case IMV_PLAN_START:
        case IMV_PLAN_OPTIONAL:
        case IMV_PLAN_SKIP:
        case IMV_PLAN_LIMIT:
        case IMV_PLAN_UNION: break;
    }
}

void imv_plan_each_write(const struct imv_plan *plan, visit_slot *visit, void *context) {
    switch (plan->kind) {
        case IMV_PLAN_TWIN_SCAN: visit(plan->twin_scan.node->variable->slot, context); break;
        case IMV_PLAN_OPTIONAL:
            for (uint32_t i = 0; i < plan->optional.slots_count; i++) visit(plan->optional.slots[i], context);
            break;
        case IMV_PLAN_SAMPLE_SCAN:
            visit(plan->sample_scan.samples->variable->slot, context);
            for (uint32_t i = 0; i < plan->sample_scan.fields_count; i++)
                visit(plan->sample_scan.fields[i].slot, context);
            break;
        case IMV_PLAN_WINDOW:
            visit(plan->window.window->variable->slot, context);
            for (uint32_t i = 0; i < plan->window.fields_count; i++) visit(plan->window.fields[i].slot, context);
            break;
        case IMV_PLAN_PROJECT:
            for (uint32_t i = 0; i < plan->project.items_count; i++) visit(plan->project.items[i].slot, context);
            break;
        case IMV_PLAN_AGGREGATE:
            for (uint32_t i = 0; i < plan->aggregate.keys_count; i++) visit(plan->aggregate.keys[i].slot, context);
            for (uint32_t i = 0; i < plan->aggregate.aggregates_count; i++)
                visit(plan->aggregate.aggregates[i]->call.slot, context);
            break;
        case IMV_PLAN_UNWIND: visit(plan->unwind.slot, context); break;
        default: break;
    }
}
