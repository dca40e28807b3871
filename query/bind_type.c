/* bind_type.c - what is known of types before a query runs.
 *
 * Only what is certain counts: a mistake is reported when no value could be right. Null is a value of every type.
 */
#include "query/binder.h"

const char *imv_static_type_text(enum imv_static_type type) {
    static const char *const texts[] = {
        [IMV_STATIC_ANY] = "any value",
        [IMV_STATIC_NULL] = "null",
        [IMV_STATIC_BOOLEAN] = "a boolean",
        [IMV_STATIC_INTEGER] = "an integer",
        [IMV_STATIC_FLOAT] = "a float",
        [IMV_STATIC_NUMBER] = "a number",
        [IMV_STATIC_STRING] = "a string",
        [IMV_STATIC_LIST] = "a list",
        [IMV_STATIC_MAP] = "a map",
        [IMV_STATIC_NODE] = "a twin",
        [IMV_STATIC_RELATIONSHIP] = "a relationship",
        [IMV_STATIC_PATH] = "a path",
        [IMV_STATIC_DURATION] = "a duration",
        [IMV_STATIC_TIME] = "a time",
    };
    return texts[type];
}

static bool is_numeric(enum imv_static_type type) {
    return type == IMV_STATIC_INTEGER || type == IMV_STATIC_FLOAT || type == IMV_STATIC_NUMBER;
}

static bool is_open(enum imv_static_type type) { return type == IMV_STATIC_ANY || type == IMV_STATIC_NULL; }

bool imv_static_type_fits(enum imv_static_type actual, enum imv_static_type wanted) {
    if (wanted == IMV_STATIC_ANY || is_open(actual) || actual == wanted) return true;
    if (is_numeric(wanted)) return wanted == IMV_STATIC_INTEGER ? actual == IMV_STATIC_NUMBER : is_numeric(actual);
    return false;
}

enum imv_static_type imv_static_type_join(enum imv_static_type a, enum imv_static_type b) {
    if (a == b || b == IMV_STATIC_NULL) return a;
    if (a == IMV_STATIC_NULL) return b;
    return is_numeric(a) && is_numeric(b) ? IMV_STATIC_NUMBER : IMV_STATIC_ANY;
}

enum imv_static_type imv_static_element_type(const struct imv_expr *list) {
    if (list->kind != IMV_EXPR_LIST) return IMV_STATIC_ANY;
    enum imv_static_type type = IMV_STATIC_NULL;
    for (uint32_t i = 0; i < list->list.count; i++) type = imv_static_type_join(type, list->list.items[i]->type);
    return type == IMV_STATIC_NULL ? IMV_STATIC_ANY : type;
}

static bool want(struct imv_binder *binder, const struct imv_expr *operand, enum imv_static_type wanted,
                 const char *op) {
    if (imv_static_type_fits(operand->type, wanted)) return true;
    return imv_binder_fail(binder, operand->span, "InvalidArgumentType", "%s needs %s, but this is %s", op,
                           imv_static_type_text(wanted), imv_static_type_text(operand->type));
}

bool imv_bind_unary_type(struct imv_binder *binder, struct imv_expr *expr) {
    const struct imv_expr *operand = expr->unary.operand;
    switch (expr->unary.op) {
        case IMV_UNARY_NOT: expr->type = IMV_STATIC_BOOLEAN; return want(binder, operand, IMV_STATIC_BOOLEAN, "NOT");
        case IMV_UNARY_IS_NULL:
        case IMV_UNARY_IS_NOT_NULL: expr->type = IMV_STATIC_BOOLEAN; return true;
        case IMV_UNARY_MINUS:
        case IMV_UNARY_PLUS:
            expr->type = operand->type;
            if (operand->type == IMV_STATIC_DURATION) return true;
            return want(binder, operand, IMV_STATIC_NUMBER, expr->unary.op == IMV_UNARY_MINUS ? "-" : "+");
    }
    return true;
}

/* Types that take part in arithmetic at all. */
static bool is_calculable(enum imv_static_type type) {
    return is_open(type) || is_numeric(type) || type == IMV_STATIC_DURATION || type == IMV_STATIC_TIME;
}

static enum imv_static_type number_type(enum imv_static_type left, enum imv_static_type right) {
    if (left == IMV_STATIC_INTEGER && right == IMV_STATIC_INTEGER) return IMV_STATIC_INTEGER;
    if (left == IMV_STATIC_FLOAT || right == IMV_STATIC_FLOAT) return IMV_STATIC_FLOAT;
    return IMV_STATIC_NUMBER;
}

static enum imv_static_type difference_type(enum imv_static_type left, enum imv_static_type right) {
    if (is_numeric(left) && is_numeric(right)) return number_type(left, right);
    if (left == IMV_STATIC_TIME && right == IMV_STATIC_TIME) return IMV_STATIC_DURATION;
    if (left == IMV_STATIC_TIME && right == IMV_STATIC_DURATION) return IMV_STATIC_TIME;
    if (left == IMV_STATIC_DURATION && right == IMV_STATIC_DURATION) return IMV_STATIC_DURATION;
    return IMV_STATIC_ANY;
}

static enum imv_static_type sum_type(enum imv_static_type left, enum imv_static_type right) {
    if (left == IMV_STATIC_NULL || right == IMV_STATIC_NULL) return IMV_STATIC_ANY;
    if (is_numeric(left) && is_numeric(right)) return number_type(left, right);
    if (left == IMV_STATIC_LIST || right == IMV_STATIC_LIST) return IMV_STATIC_LIST;
    if (left == IMV_STATIC_STRING && right == IMV_STATIC_STRING) return IMV_STATIC_STRING;
    bool time = left == IMV_STATIC_TIME || right == IMV_STATIC_TIME;
    bool duration = left == IMV_STATIC_DURATION || right == IMV_STATIC_DURATION;
    if (time && duration) return IMV_STATIC_TIME;
    return left == IMV_STATIC_DURATION && right == IMV_STATIC_DURATION ? IMV_STATIC_DURATION : IMV_STATIC_ANY;
}

static enum imv_static_type product_type(enum imv_binary_op op, enum imv_static_type left, enum imv_static_type right) {
    if (op == IMV_BINARY_POWER) return is_numeric(left) && is_numeric(right) ? IMV_STATIC_FLOAT : IMV_STATIC_ANY;
    if (is_numeric(left) && is_numeric(right)) return number_type(left, right);
    if (left == IMV_STATIC_DURATION && is_numeric(right)) return IMV_STATIC_DURATION;
    return IMV_STATIC_ANY;
}

bool imv_bind_binary_type(struct imv_binder *binder, struct imv_expr *expr) {
    const struct imv_expr *left = expr->binary.left, *right = expr->binary.right;
    enum imv_binary_op op = expr->binary.op;
    switch (op) {
        case IMV_BINARY_OR:
        case IMV_BINARY_XOR:
        case IMV_BINARY_AND:
            expr->type = IMV_STATIC_BOOLEAN;
            return want(binder, left, IMV_STATIC_BOOLEAN, imv_binary_op_text(op)) &&
                   want(binder, right, IMV_STATIC_BOOLEAN, imv_binary_op_text(op));
        case IMV_BINARY_IN: expr->type = IMV_STATIC_BOOLEAN; return want(binder, right, IMV_STATIC_LIST, "IN");
        case IMV_BINARY_EQUAL:
        case IMV_BINARY_NOT_EQUAL:
        case IMV_BINARY_LESS:
        case IMV_BINARY_LESS_EQUAL:
        case IMV_BINARY_GREATER:
        case IMV_BINARY_GREATER_EQUAL:
        case IMV_BINARY_STARTS_WITH:
        case IMV_BINARY_ENDS_WITH:
        case IMV_BINARY_CONTAINS:
        case IMV_BINARY_MATCHES: expr->type = IMV_STATIC_BOOLEAN; return true;
        case IMV_BINARY_ADD: expr->type = sum_type(left->type, right->type); return true;
        case IMV_BINARY_CONCATENATE: expr->type = IMV_STATIC_ANY; return true;
        case IMV_BINARY_SUBTRACT:
        case IMV_BINARY_MULTIPLY:
        case IMV_BINARY_DIVIDE:
        case IMV_BINARY_MODULO:
        case IMV_BINARY_POWER:
            expr->type = op == IMV_BINARY_SUBTRACT ? difference_type(left->type, right->type)
                                                   : product_type(op, left->type, right->type);
            if (!is_calculable(left->type)) return want(binder, left, IMV_STATIC_NUMBER, imv_binary_op_text(op));
            return is_calculable(right->type) || want(binder, right, IMV_STATIC_NUMBER, imv_binary_op_text(op));
    }
    return true;
}
