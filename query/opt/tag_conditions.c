/* Predicates over tags become a tree that the catalog's index answers (struct imv_plan_tags).
 *
 * The index knows where a predicate is true. False and unknown are told apart by pushing NOT down to the leaves, which
 * keeps the meaning in three-valued logic (NOT (a AND b) is NOT a OR NOT b, unknown included); a leaf then says itself
 * what it is for an absent tag. A leaf is about one tag: whatever it computes is evaluated once for each text the tag
 * has, not once for each twin. */
#include "engine/catalog.h"
#include "query/expr.h"
#include "query/opt/opt.h"

struct rule {
    struct imv_exec *exec;
    const struct imv_plan *scan;
    const struct imv_label *label;
    bool may_fail; /* predicates that can fail may be taken: none that comes before them stays behind */
    bool no_memory;
};

/* ---- questions ---- */

static uint32_t own_slot(const struct rule *rule) { return rule->scan->twin_scan.node->variable->slot; }

/* Is expr the property of the scan's variable that is a tag, or at least no field? A field has another value in each
 * row, a tag is what the index knows. */
static bool is_tag(const struct rule *rule, const struct imv_expr *expr) {
    if (expr->kind != IMV_EXPR_PROPERTY || expr->property.base->kind != IMV_EXPR_VARIABLE) return false;
    if (expr->property.base->variable.local || expr->property.base->variable.slot != own_slot(rule)) return false;
    return imv_label_find_field(rule->exec->catalog, (struct imv_label *)rule->label, expr->property.name) == NULL;
}

/* A value that is known before the twin is, and that a tag's text can equal: a time would be read from it. */
static bool is_value(const struct rule *rule, const struct imv_expr *expr) {
    return expr->type != IMV_STATIC_TIME && !imv_expr_reads_slot(expr, own_slot(rule)) && !imv_expr_is_volatile(expr);
}

struct tag_search {
    const struct rule *rule;
    struct imv_str key; /* {NULL, 0}: none yet */
    bool alone;
};

static bool search_tag(struct imv_expr *expr, void *context) {
    struct tag_search *search = context;
    if (is_tag(search->rule, expr)) {
        bool first = search->key.data == NULL;
        if (first) search->key = expr->property.name;
        search->alone &= first || imv_str_equal(search->key, expr->property.name);
        return search->alone;
    }
    if (expr->kind == IMV_EXPR_VARIABLE && !expr->variable.local) search->alone = false;
    if (expr->kind == IMV_EXPR_CALL && expr->call.aggregate) search->alone = false;
    return search->alone && imv_expr_each_child(expr, search_tag, context);
}

/* Does expr read one tag of the scan's variable and no other variable? */
static bool is_about_one_tag(const struct rule *rule, const struct imv_expr *expr, struct imv_str *key) {
    struct tag_search search = {.rule = rule, .alone = true};
    search_tag((struct imv_expr *)expr, &search);
    *key = search.key;
    return search.alone && search.key.data != NULL;
}

/* ---- making ---- */

static const struct imv_plan_tags *new_tags(struct rule *rule, struct imv_plan_tags tags) {
    struct imv_plan_tags *made = imv_arena_alloc(&rule->exec->arena, sizeof *made);
    if (made != NULL) *made = tags;
    rule->no_memory |= made == NULL;
    return made;
}

static const struct imv_expr *not_of(struct rule *rule, const struct imv_expr *expr) {
    struct imv_expr *made = imv_arena_calloc(&rule->exec->arena, 1, sizeof *made);
    rule->no_memory |= made == NULL;
    if (made == NULL) return expr;
    *made = (struct imv_expr){
        .kind = IMV_EXPR_UNARY, .height = expr->height + 1, .span = expr->span, .type = IMV_STATIC_BOOLEAN};
    made->unary.op = IMV_UNARY_NOT;
    made->unary.operand = (struct imv_expr *)(uintptr_t)expr;
    return made;
}

/* ---- leaves ---- */

/* tag op value for the operators that the index looks up. */
static const struct imv_plan_tags *look_up(struct rule *rule, const struct imv_expr *expr, bool negated) {
    if (expr->kind != IMV_EXPR_BINARY) return NULL;
    enum imv_binary_op op = expr->binary.op;
    const struct imv_expr *tag = expr->binary.left, *value = expr->binary.right;
    bool equal = op == IMV_BINARY_EQUAL || op == IMV_BINARY_NOT_EQUAL;
    if (equal && !is_tag(rule, tag)) {
        tag = expr->binary.right;
        value = expr->binary.left;
    }
    if (!is_tag(rule, tag) || !is_value(rule, value)) return NULL;
    struct imv_plan_tags made = {.key = tag->property.name, .value = value};
    if (equal) {
        made.kind = (op == IMV_BINARY_EQUAL) != negated ? IMV_PLAN_TAGS_EQUAL : IMV_PLAN_TAGS_NOT_EQUAL;
    } else if (op == IMV_BINARY_IN) {
        made.kind = negated ? IMV_PLAN_TAGS_NOT_IN : IMV_PLAN_TAGS_IN;
    } else if (op == IMV_BINARY_STARTS_WITH && !negated) {
        made.kind = IMV_PLAN_TAGS_PREFIX;
    } else {
        return NULL;
    }
    return new_tags(rule, made);
}

static const struct imv_plan_tags *existence(struct rule *rule, const struct imv_expr *expr, bool negated) {
    if (expr->kind != IMV_EXPR_UNARY || !is_tag(rule, expr->unary.operand)) return NULL;
    bool is_null = expr->unary.op == IMV_UNARY_IS_NULL;
    if (!is_null && expr->unary.op != IMV_UNARY_IS_NOT_NULL) return NULL;
    return new_tags(rule,
                    (struct imv_plan_tags){.kind = is_null != negated ? IMV_PLAN_TAGS_ABSENT : IMV_PLAN_TAGS_PRESENT,
                                           .key = expr->unary.operand->property.name});
}

/* A pattern fails for all texts or, after too many steps, for some: nothing is lost when it is asked about every text
 * of a tag first, as long as no predicate before it would have kept it from being asked at all. */
static bool is_pattern(const struct rule *rule, const struct imv_expr *expr) {
    return rule->may_fail && expr->kind == IMV_EXPR_BINARY && expr->binary.op == IMV_BINARY_MATCHES &&
           is_tag(rule, expr->binary.left) && !imv_expr_reads_any_slot(expr->binary.right) &&
           !imv_expr_can_fail(expr->binary.right, rule->exec->parameters);
}

static const struct imv_plan_tags *test(struct rule *rule, const struct imv_expr *expr, bool negated) {
    struct imv_str key;
    if (expr->type != IMV_STATIC_BOOLEAN || !is_about_one_tag(rule, expr, &key)) return NULL;
    if (imv_expr_is_volatile(expr)) return NULL;
    if (imv_expr_can_fail(expr, rule->exec->parameters) && !is_pattern(rule, expr)) return NULL;
    return new_tags(rule, (struct imv_plan_tags){
                              .kind = IMV_PLAN_TAGS_TEST, .key = key, .value = negated ? not_of(rule, expr) : expr});
}

/* ---- trees ---- */

static const struct imv_plan_tags *tags_of(struct rule *rule, const struct imv_expr *expr, bool negated, int height);

static const struct imv_plan_tags *join(struct rule *rule, enum imv_plan_tags_kind kind,
                                        const struct imv_plan_tags *left, const struct imv_plan_tags *right) {
    if (left == NULL || right == NULL) return NULL;
    return new_tags(rule, (struct imv_plan_tags){.kind = kind, .left = left, .right = right});
}

/* a XOR b is (a AND NOT b) OR (NOT a AND b), its negation (a AND b) OR (NOT a AND NOT b). */
static const struct imv_plan_tags *exclusive(struct rule *rule, const struct imv_expr *expr, bool negated, int height) {
    const struct imv_expr *left = expr->binary.left, *right = expr->binary.right;
    const struct imv_plan_tags *first =
        join(rule, IMV_PLAN_TAGS_AND, tags_of(rule, left, false, height), tags_of(rule, right, !negated, height));
    if (first == NULL) return NULL;
    return join(
        rule, IMV_PLAN_TAGS_OR, first,
        join(rule, IMV_PLAN_TAGS_AND, tags_of(rule, left, true, height), tags_of(rule, right, negated, height)));
}

static const struct imv_plan_tags *logic(struct rule *rule, const struct imv_expr *expr, bool negated, int height) {
    if (expr->kind == IMV_EXPR_UNARY && expr->unary.op == IMV_UNARY_NOT) {
        return tags_of(rule, expr->unary.operand, !negated, height);
    }
    if (expr->kind != IMV_EXPR_BINARY) return NULL;
    enum imv_binary_op op = expr->binary.op;
    if (op == IMV_BINARY_XOR) return exclusive(rule, expr, negated, height - 2);
    if (op != IMV_BINARY_AND && op != IMV_BINARY_OR) return NULL;
    const struct imv_plan_tags *left = tags_of(rule, expr->binary.left, negated, height - 1);
    if (left == NULL) return NULL;
    bool and = (op == IMV_BINARY_AND) != negated;
    return join(rule, and? IMV_PLAN_TAGS_AND : IMV_PLAN_TAGS_OR, left,
                tags_of(rule, expr->binary.right, negated, height - 1));
}

/* The tree that holds where expr (negated: NOT expr) is true; NULL when the index cannot say. XOR doubles what is below
 * it, and each level costs memory in a selection: the height is bounded. */
static const struct imv_plan_tags *tags_of(struct rule *rule, const struct imv_expr *expr, bool negated, int height) {
    if (height <= 0) return NULL;
    const struct imv_plan_tags *made = look_up(rule, expr, negated);
    if (made == NULL) made = existence(rule, expr, negated);
    if (made == NULL) made = logic(rule, expr, negated, height);
    return made != NULL ? made : test(rule, expr, negated);
}

/* ---- the rule ---- */

enum {
    HEIGHT_MAX = 12
}; /* balanced trees of AND and OR of 4,096 leaves; together with the joins below the scan's 32 */

/* Joins as a balanced tree, so that its height stays small. */
static const struct imv_plan_tags *join_all(struct rule *rule, const struct imv_plan_tags **trees, uint32_t count) {
    if (count == 1) return trees[0];
    uint32_t half = count / 2;
    return join(rule, IMV_PLAN_TAGS_AND, join_all(rule, trees, half), join_all(rule, trees + half, count - half));
}

static imv_status take_conditions(struct imv_exec *exec, struct imv_plan *filter, struct imv_plan *scan) {
    const struct imv_label_expr *labels = scan->twin_scan.node->labels;
    if (labels == NULL || labels->kind != IMV_LABEL_NAME) return IMV_OK;
    struct rule rule = {.exec = exec, .scan = scan, .may_fail = true};
    rule.label = imv_catalog_find_label(exec->catalog, labels->name);
    if (rule.label == NULL) return IMV_OK;
    uint32_t count = filter->filter.predicates_count, kept = 0, taken = 0;
    const struct imv_plan_tags **trees = imv_arena_calloc(&exec->arena, count, sizeof *trees);
    if (trees == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_expr *predicate = filter->filter.predicates[i];
        trees[taken] = tags_of(&rule, predicate, false, HEIGHT_MAX);
        if (trees[taken] != NULL) {
            taken++;
        } else {
            filter->filter.predicates[kept++] = predicate;
            rule.may_fail = false;
        }
    }
    filter->filter.predicates_count = kept;
    if (taken > 0) scan->twin_scan.tags = join_all(&rule, trees, taken);
    return rule.no_memory ? imv_exec_fail_memory(exec) : IMV_OK;
}

imv_status imv_rule_tag_conditions(struct imv_exec *exec, struct imv_plan **plan) {
    struct imv_plan *input = (*plan)->input;
    if ((*plan)->kind == IMV_PLAN_FILTER && input->kind == IMV_PLAN_TWIN_SCAN) {
        IMV_TRY(take_conditions(exec, *plan, input));
        if ((*plan)->filter.predicates_count == 0) *plan = input;
    }
    return imv_rule_below(exec, *plan, imv_rule_tag_conditions);
}
