/* ast.c - walking, comparing and printing the tree of a statement. */
#include "query/ast.h"

#include "query/lex.h"
#include "storage/base/buffer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void *imv_ast_append(struct imv_arena *arena, void **items, uint32_t *count, size_t element) {
    if ((*count & (*count - 1)) == 0) { /* 0, 1, 2, 4, 8: full */
        size_t capacity = *count == 0 ? 1 : (size_t)*count * 2;
        void *grown = imv_arena_calloc(arena, capacity, element);
        if (grown == NULL) return NULL;
        if (*count > 0) memcpy(grown, *items, *count * element);
        *items = grown;
    }
    return (char *)*items + element * (*count)++;
}

/* ---- walking ---- */

typedef bool visit_function(struct imv_expr *child, void *context);

static bool visit_one(struct imv_expr *child, visit_function *visit, void *context) {
    return child == NULL || visit(child, context);
}

static bool visit_all(struct imv_expr *const *children, uint32_t count, visit_function *visit, void *context) {
    for (uint32_t i = 0; i < count; i++) {
        if (!visit(children[i], context)) return false;
    }
    return true;
}

static bool visit_case(const struct imv_expr *expr, visit_function *visit, void *context) {
    if (!visit_one(expr->switch_.subject, visit, context)) return false;
    for (uint32_t i = 0; i < expr->switch_.count; i++) {
        if (!visit(expr->switch_.branches[i].when, context)) return false;
        if (!visit(expr->switch_.branches[i].then, context)) return false;
    }
    return visit_one(expr->switch_.otherwise, visit, context);
}

bool imv_expr_each_child(const struct imv_expr *expr, visit_function *visit, void *context) {
    switch (expr->kind) {
        case IMV_EXPR_NULL:
        case IMV_EXPR_BOOLEAN:
        case IMV_EXPR_INTEGER:
        case IMV_EXPR_FLOAT:
        case IMV_EXPR_STRING:
        case IMV_EXPR_DURATION:
        case IMV_EXPR_PARAMETER:
        case IMV_EXPR_VARIABLE:
        case IMV_EXPR_PATTERN:
        case IMV_EXPR_EXISTS: return true;
        case IMV_EXPR_LIST: return visit_all(expr->list.items, expr->list.count, visit, context);
        case IMV_EXPR_MAP:
            for (uint32_t i = 0; i < expr->map.count; i++) {
                if (!visit(expr->map.entries[i].value, context)) return false;
            }
            return true;
        case IMV_EXPR_PROPERTY: return visit(expr->property.base, context);
        case IMV_EXPR_INDEX: return visit(expr->index.base, context) && visit(expr->index.at, context);
        case IMV_EXPR_SLICE:
            return visit(expr->slice.base, context) && visit_one(expr->slice.from, visit, context) &&
                   visit_one(expr->slice.to, visit, context);
        case IMV_EXPR_UNARY: return visit(expr->unary.operand, context);
        case IMV_EXPR_BINARY: return visit(expr->binary.left, context) && visit(expr->binary.right, context);
        case IMV_EXPR_CHAIN: return visit_all(expr->chain.operands, expr->chain.count, visit, context);
        case IMV_EXPR_CASE: return visit_case(expr, visit, context);
        case IMV_EXPR_CALL: return visit_all(expr->call.arguments, expr->call.count, visit, context);
        case IMV_EXPR_COMPREHENSION:
            return visit(expr->comprehension.list, context) && visit_one(expr->comprehension.where, visit, context) &&
                   visit_one(expr->comprehension.result, visit, context);
        case IMV_EXPR_QUANTIFIER:
            return visit(expr->quantifier.list, context) && visit(expr->quantifier.where, context);
        case IMV_EXPR_REDUCE:
            return visit(expr->reduce.init, context) && visit(expr->reduce.list, context) &&
                   visit(expr->reduce.result, context);
        case IMV_EXPR_LABELS: return visit(expr->labels.base, context);
        case IMV_EXPR_PATTERN_COMPREHENSION:
            return visit_one(expr->pattern.where, visit, context) && visit_one(expr->pattern.result, visit, context);
    }
    return true;
}

/* ---- comparing ---- */

static bool equal_label(const struct imv_label_expr *a, const struct imv_label_expr *b) {
    if (a == NULL || b == NULL) return a == b;
    return a->kind == b->kind && imv_str_equal(a->name, b->name) && equal_label(a->left, b->left) &&
           equal_label(a->right, b->right);
}

static bool equal_optional(const struct imv_expr *a, const struct imv_expr *b) {
    return a == NULL || b == NULL ? a == b : imv_expr_equal(a, b);
}

static bool equal_all(struct imv_expr *const *a, struct imv_expr *const *b, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!imv_expr_equal(a[i], b[i])) return false;
    }
    return true;
}

static bool equal_map(const struct imv_expr *a, const struct imv_expr *b) {
    if (a->map.count != b->map.count) return false;
    for (uint32_t i = 0; i < a->map.count; i++) {
        if (!imv_str_equal(a->map.entries[i].key, b->map.entries[i].key)) return false;
        if (!imv_expr_equal(a->map.entries[i].value, b->map.entries[i].value)) return false;
    }
    return true;
}

static bool equal_case(const struct imv_expr *a, const struct imv_expr *b) {
    if (a->switch_.count != b->switch_.count || !equal_optional(a->switch_.subject, b->switch_.subject)) return false;
    for (uint32_t i = 0; i < a->switch_.count; i++) {
        if (!imv_expr_equal(a->switch_.branches[i].when, b->switch_.branches[i].when)) return false;
        if (!imv_expr_equal(a->switch_.branches[i].then, b->switch_.branches[i].then)) return false;
    }
    return equal_optional(a->switch_.otherwise, b->switch_.otherwise);
}

static bool equal_folded(struct imv_str a, struct imv_str b) {
    return a.size == b.size && strncasecmp(a.data, b.data, a.size) == 0;
}

static bool equal_call(const struct imv_expr *a, const struct imv_expr *b) {
    return equal_folded(a->call.name, b->call.name) && a->call.count == b->call.count &&
           a->call.distinct == b->call.distinct && a->call.star == b->call.star &&
           equal_all(a->call.arguments, b->call.arguments, a->call.count);
}

static bool equal_chain(const struct imv_expr *a, const struct imv_expr *b) {
    return a->chain.count == b->chain.count &&
           memcmp(a->chain.ops, b->chain.ops, (a->chain.count - 1) * sizeof a->chain.ops[0]) == 0 &&
           equal_all(a->chain.operands, b->chain.operands, a->chain.count);
}

static bool equal_comprehension(const struct imv_expr *a, const struct imv_expr *b) {
    return imv_str_equal(a->comprehension.name, b->comprehension.name) &&
           imv_expr_equal(a->comprehension.list, b->comprehension.list) &&
           equal_optional(a->comprehension.where, b->comprehension.where) &&
           equal_optional(a->comprehension.result, b->comprehension.result);
}

static bool equal_quantifier(const struct imv_expr *a, const struct imv_expr *b) {
    return a->quantifier.quantifier == b->quantifier.quantifier &&
           imv_str_equal(a->quantifier.name, b->quantifier.name) &&
           imv_expr_equal(a->quantifier.list, b->quantifier.list) &&
           imv_expr_equal(a->quantifier.where, b->quantifier.where);
}

static bool equal_reduce(const struct imv_expr *a, const struct imv_expr *b) {
    return imv_str_equal(a->reduce.accumulator, b->reduce.accumulator) &&
           imv_str_equal(a->reduce.name, b->reduce.name) && imv_expr_equal(a->reduce.init, b->reduce.init) &&
           imv_expr_equal(a->reduce.list, b->reduce.list) && imv_expr_equal(a->reduce.result, b->reduce.result);
}

bool imv_expr_equal(const struct imv_expr *a, const struct imv_expr *b) {
    if (a == b) return true;
    if (a->kind != b->kind) return false;
    switch (a->kind) {
        case IMV_EXPR_NULL: return true;
        case IMV_EXPR_BOOLEAN: return a->boolean == b->boolean;
        case IMV_EXPR_INTEGER:
        case IMV_EXPR_DURATION: return a->integer == b->integer;
        case IMV_EXPR_FLOAT: return memcmp(&a->number, &b->number, sizeof a->number) == 0;
        case IMV_EXPR_STRING: return imv_str_equal(a->string, b->string);
        case IMV_EXPR_LIST:
            return a->list.count == b->list.count && equal_all(a->list.items, b->list.items, a->list.count);
        case IMV_EXPR_MAP: return equal_map(a, b);
        case IMV_EXPR_PARAMETER: return a->parameter.index == b->parameter.index;
        case IMV_EXPR_VARIABLE:
            return imv_str_equal(a->variable.name, b->variable.name) && a->variable.slot == b->variable.slot &&
                   a->variable.local == b->variable.local;
        case IMV_EXPR_PROPERTY:
            return imv_str_equal(a->property.name, b->property.name) &&
                   imv_expr_equal(a->property.base, b->property.base);
        case IMV_EXPR_INDEX:
            return imv_expr_equal(a->index.base, b->index.base) && imv_expr_equal(a->index.at, b->index.at);
        case IMV_EXPR_SLICE:
            return imv_expr_equal(a->slice.base, b->slice.base) && equal_optional(a->slice.from, b->slice.from) &&
                   equal_optional(a->slice.to, b->slice.to);
        case IMV_EXPR_UNARY: return a->unary.op == b->unary.op && imv_expr_equal(a->unary.operand, b->unary.operand);
        case IMV_EXPR_BINARY:
            return a->binary.op == b->binary.op && imv_expr_equal(a->binary.left, b->binary.left) &&
                   imv_expr_equal(a->binary.right, b->binary.right);
        case IMV_EXPR_CHAIN: return equal_chain(a, b);
        case IMV_EXPR_CASE: return equal_case(a, b);
        case IMV_EXPR_CALL: return equal_call(a, b);
        case IMV_EXPR_COMPREHENSION: return equal_comprehension(a, b);
        case IMV_EXPR_QUANTIFIER: return equal_quantifier(a, b);
        case IMV_EXPR_REDUCE: return equal_reduce(a, b);
        case IMV_EXPR_LABELS:
            return equal_label(a->labels.labels, b->labels.labels) && imv_expr_equal(a->labels.base, b->labels.base);
        case IMV_EXPR_PATTERN:
        case IMV_EXPR_PATTERN_COMPREHENSION:
        case IMV_EXPR_EXISTS: return false; /* only the same node, which is answered above */
    }
    return false;
}

/* ---- printing: names and literals ---- */

static void put(struct imv_buffer *out, const char *text) { imv_buffer_append(out, text, strlen(text)); }

static bool is_plain(struct imv_str name) {
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!plain) return false;
    }
    return name.size > 0;
}

static bool starts_with_digit(struct imv_str name) { return name.data[0] >= '0' && name.data[0] <= '9'; }

static void print_quoted(struct imv_buffer *out, struct imv_str name) {
    put(out, "`");
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '`') put(out, "`");
        imv_buffer_append_char(out, name.data[i]);
    }
    put(out, "`");
}

/* The name of a property, a label, a column: backticks only where they are needed. */
static void print_name(struct imv_buffer *out, struct imv_str name) {
    if (is_plain(name) && !starts_with_digit(name)) {
        imv_buffer_append_str(out, name);
    } else {
        print_quoted(out, name);
    }
}

/* The name of a variable, which may not be a word like NOT. */
static void print_variable(struct imv_buffer *out, struct imv_str name) {
    if (imv_lex_reserved(name)) {
        print_quoted(out, name);
    } else {
        print_name(out, name);
    }
}

/* A function's name is parts joined by dots; backticks around the whole name read the same. */
static bool is_plain_function(struct imv_str name) {
    for (bool first = true;; first = false) {
        const char *dot = memchr(name.data, '.', name.size);
        struct imv_str part = {name.data, dot == NULL ? name.size : (size_t)(dot - name.data)};
        if (!is_plain(part) || starts_with_digit(part) || (first && imv_lex_reserved(part))) return false;
        if (dot == NULL) return true;
        name = (struct imv_str){dot + 1, name.size - part.size - 1};
    }
}

static void print_function(struct imv_buffer *out, struct imv_str name) {
    if (is_plain_function(name)) {
        imv_buffer_append_str(out, name);
    } else {
        print_quoted(out, name);
    }
}

static void print_parameter(struct imv_buffer *out, struct imv_str name) {
    put(out, "$");
    if (is_plain(name)) {
        imv_buffer_append_str(out, name);
    } else {
        print_quoted(out, name);
    }
}

static void print_string(struct imv_buffer *out, struct imv_str text) {
    put(out, "'");
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '\'' || c == '\\') {
            imv_buffer_append_format(out, "\\%c", c);
        } else if (c < 0x20) {
            imv_buffer_append_format(out, "\\u%04x", c);
        } else {
            imv_buffer_append_char(out, (char)c);
        }
    }
    put(out, "'");
}

static void print_float(struct imv_buffer *out, double number) {
    char digits[32];
    int precision = 15;
    do {
        snprintf(digits, sizeof digits, "%.*g", precision, number);
    } while (precision++ < 17 && strtod(digits, NULL) != number);
    put(out, digits);
    if (strpbrk(digits, ".en") == NULL) put(out, ".0");
}

static void print_duration(struct imv_buffer *out, int64_t ns) {
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"w", INT64_C(604800000000000)},
                 {"d", INT64_C(86400000000000)},
                 {"h", INT64_C(3600000000000)},
                 {"m", INT64_C(60000000000)},
                 {"s", 1000000000},
                 {"ms", 1000000},
                 {"us", 1000},
                 {"ns", 1}};
    size_t i = 0;
    if (ns == 0) i = 4;
    while (ns % units[i].ns != 0) i++;
    imv_buffer_append_format(out, "%" PRId64 "%s", ns / units[i].ns, units[i].unit);
}

static void print_labels(struct imv_buffer *out, const struct imv_label_expr *label) {
    switch (label->kind) {
        case IMV_LABEL_NAME: print_name(out, label->name); return;
        case IMV_LABEL_ANY: put(out, "%"); return;
        case IMV_LABEL_NOT:
            put(out, "!");
            print_labels(out, label->left);
            return;
        case IMV_LABEL_AND:
        case IMV_LABEL_OR:
            put(out, "(");
            print_labels(out, label->left);
            put(out, label->kind == IMV_LABEL_AND ? "&" : "|");
            print_labels(out, label->right);
            put(out, ")");
            return;
    }
}

/* ---- printing: expressions ---- */

static void print_patterns(struct imv_buffer *out, const struct imv_pattern *patterns, uint32_t count);
static void print_single_query(struct imv_buffer *out, const struct imv_single_query *query, const char *separator);

static void print_list(struct imv_buffer *out, struct imv_expr *const *items, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) put(out, ", ");
        imv_expr_print(out, items[i]);
    }
}

static void print_after(struct imv_buffer *out, const char *word, const struct imv_expr *expr) {
    if (expr == NULL) return;
    put(out, word);
    imv_expr_print(out, expr);
}

static void print_map(struct imv_buffer *out, const struct imv_expr *expr) {
    put(out, "{");
    for (uint32_t i = 0; i < expr->map.count; i++) {
        if (i > 0) put(out, ", ");
        print_name(out, expr->map.entries[i].key);
        print_after(out, ": ", expr->map.entries[i].value);
    }
    put(out, "}");
}

/* A number before or after an operator of its own is in parentheses: -(1) is no literal, (1).x no bad number. */
static void print_base(struct imv_buffer *out, const struct imv_expr *base) {
    bool number = base->kind == IMV_EXPR_INTEGER || base->kind == IMV_EXPR_FLOAT || base->kind == IMV_EXPR_DURATION;
    if (number) put(out, "(");
    imv_expr_print(out, base);
    if (number) put(out, ")");
}

static void print_unary(struct imv_buffer *out, const struct imv_expr *expr) {
    static const char *const before[] = {"(NOT ", "(-", "(+", "(", "("};
    static const char *const after[] = {")", ")", ")", " IS NULL)", " IS NOT NULL)"};
    put(out, before[expr->unary.op]);
    print_base(out, expr->unary.operand);
    put(out, after[expr->unary.op]);
}

/* (n:A) - [1] would read as a pattern, ((n:A)) - [1] does not. */
static void print_binary(struct imv_buffer *out, const struct imv_expr *expr) {
    bool node = expr->binary.op == IMV_BINARY_SUBTRACT && expr->binary.left->kind == IMV_EXPR_LABELS;
    put(out, node ? "((" : "(");
    imv_expr_print(out, expr->binary.left);
    imv_buffer_append_format(out, node ? ") %s " : " %s ", imv_binary_op_text(expr->binary.op));
    imv_expr_print(out, expr->binary.right);
    put(out, ")");
}

static void print_chain(struct imv_buffer *out, const struct imv_expr *expr) {
    put(out, "(");
    for (uint32_t i = 0; i < expr->chain.count; i++) {
        if (i > 0) imv_buffer_append_format(out, " %s ", imv_binary_op_text(expr->chain.ops[i - 1]));
        imv_expr_print(out, expr->chain.operands[i]);
    }
    put(out, ")");
}

static void print_case(struct imv_buffer *out, const struct imv_expr *expr) {
    put(out, "CASE");
    print_after(out, " ", expr->switch_.subject);
    for (uint32_t i = 0; i < expr->switch_.count; i++) {
        print_after(out, " WHEN ", expr->switch_.branches[i].when);
        print_after(out, " THEN ", expr->switch_.branches[i].then);
    }
    print_after(out, " ELSE ", expr->switch_.otherwise);
    put(out, " END");
}

static void print_call(struct imv_buffer *out, const struct imv_expr *expr) {
    print_function(out, expr->call.name);
    put(out, expr->call.star ? "(*" : expr->call.distinct ? "(DISTINCT " : "(");
    print_list(out, expr->call.arguments, expr->call.count);
    put(out, ")");
}

static void print_quantifier(struct imv_buffer *out, const struct imv_expr *expr) {
    static const char *const words[] = {"all(", "any(", "none(", "single("};
    put(out, words[expr->quantifier.quantifier]);
    print_variable(out, expr->quantifier.name);
    print_after(out, " IN ", expr->quantifier.list);
    print_after(out, " WHERE ", expr->quantifier.where);
    put(out, ")");
}

static void print_comprehension(struct imv_buffer *out, const struct imv_expr *expr) {
    put(out, "[");
    print_name(out, expr->comprehension.name);
    print_after(out, " IN ", expr->comprehension.list);
    print_after(out, " WHERE ", expr->comprehension.where);
    print_after(out, " | ", expr->comprehension.result);
    put(out, "]");
}

static void print_reduce(struct imv_buffer *out, const struct imv_expr *expr) {
    put(out, "reduce(");
    print_name(out, expr->reduce.accumulator);
    print_after(out, " = ", expr->reduce.init);
    put(out, ", ");
    print_name(out, expr->reduce.name);
    print_after(out, " IN ", expr->reduce.list);
    print_after(out, " | ", expr->reduce.result);
    put(out, ")");
}

static void print_subscript(struct imv_buffer *out, const struct imv_expr *expr) {
    print_base(out, expr->kind == IMV_EXPR_INDEX ? expr->index.base : expr->slice.base);
    put(out, "[");
    if (expr->kind == IMV_EXPR_INDEX) {
        imv_expr_print(out, expr->index.at);
    } else {
        print_after(out, "", expr->slice.from);
        put(out, "..");
        print_after(out, "", expr->slice.to);
    }
    put(out, "]");
}

static void print_pattern_comprehension(struct imv_buffer *out, const struct imv_expr *expr) {
    put(out, "[");
    print_patterns(out, expr->pattern.pattern, 1);
    print_after(out, " WHERE ", expr->pattern.where);
    print_after(out, " | ", expr->pattern.result);
    put(out, "]");
}

void imv_expr_print(struct imv_buffer *out, const struct imv_expr *expr) {
    switch (expr->kind) {
        case IMV_EXPR_NULL: put(out, "null"); return;
        case IMV_EXPR_BOOLEAN: put(out, expr->boolean ? "true" : "false"); return;
        case IMV_EXPR_INTEGER: imv_buffer_append_format(out, "%" PRId64, expr->integer); return;
        case IMV_EXPR_FLOAT: print_float(out, expr->number); return;
        case IMV_EXPR_STRING: print_string(out, expr->string); return;
        case IMV_EXPR_DURATION: print_duration(out, expr->integer); return;
        case IMV_EXPR_LIST:
            put(out, "[");
            print_list(out, expr->list.items, expr->list.count);
            put(out, "]");
            return;
        case IMV_EXPR_MAP: print_map(out, expr); return;
        case IMV_EXPR_PARAMETER: print_parameter(out, expr->parameter.name); return;
        case IMV_EXPR_VARIABLE:
            if (expr->variable.field) {
                imv_buffer_append_str(out, expr->variable.name);
            } else {
                print_variable(out, expr->variable.name);
            }
            return;
        case IMV_EXPR_PROPERTY:
            print_base(out, expr->property.base);
            put(out, ".");
            print_name(out, expr->property.name);
            return;
        case IMV_EXPR_INDEX:
        case IMV_EXPR_SLICE: print_subscript(out, expr); return;
        case IMV_EXPR_UNARY: print_unary(out, expr); return;
        case IMV_EXPR_BINARY: print_binary(out, expr); return;
        case IMV_EXPR_CHAIN: print_chain(out, expr); return;
        case IMV_EXPR_CASE: print_case(out, expr); return;
        case IMV_EXPR_CALL: print_call(out, expr); return;
        case IMV_EXPR_COMPREHENSION: print_comprehension(out, expr); return;
        case IMV_EXPR_QUANTIFIER: print_quantifier(out, expr); return;
        case IMV_EXPR_REDUCE: print_reduce(out, expr); return;
        case IMV_EXPR_LABELS:
            put(out, "(");
            print_base(out, expr->labels.base);
            put(out, ":");
            print_labels(out, expr->labels.labels);
            put(out, ")");
            return;
        case IMV_EXPR_PATTERN:
            put(out, "(");
            print_patterns(out, expr->pattern.pattern, 1);
            put(out, ")");
            return;
        case IMV_EXPR_PATTERN_COMPREHENSION: print_pattern_comprehension(out, expr); return;
        case IMV_EXPR_EXISTS:
            put(out, "EXISTS { ");
            print_single_query(out, expr->exists.query, " ");
            put(out, " }");
            return;
    }
}

const char *imv_binary_op_text(enum imv_binary_op op) {
    static const char *const texts[] = {
        [IMV_BINARY_OR] = "OR",
        [IMV_BINARY_XOR] = "XOR",
        [IMV_BINARY_AND] = "AND",
        [IMV_BINARY_EQUAL] = "=",
        [IMV_BINARY_NOT_EQUAL] = "<>",
        [IMV_BINARY_LESS] = "<",
        [IMV_BINARY_LESS_EQUAL] = "<=",
        [IMV_BINARY_GREATER] = ">",
        [IMV_BINARY_GREATER_EQUAL] = ">=",
        [IMV_BINARY_IN] = "IN",
        [IMV_BINARY_STARTS_WITH] = "STARTS WITH",
        [IMV_BINARY_ENDS_WITH] = "ENDS WITH",
        [IMV_BINARY_CONTAINS] = "CONTAINS",
        [IMV_BINARY_MATCHES] = "=~",
        [IMV_BINARY_ADD] = "+",
        [IMV_BINARY_SUBTRACT] = "-",
        [IMV_BINARY_MULTIPLY] = "*",
        [IMV_BINARY_DIVIDE] = "/",
        [IMV_BINARY_MODULO] = "%",
        [IMV_BINARY_POWER] = "^",
        [IMV_BINARY_CONCATENATE] = "||",
    };
    return texts[op];
}

/* ---- printing: patterns ---- */

static void print_element(struct imv_buffer *out, struct imv_str name, const struct imv_label_expr *labels) {
    if (name.data != NULL) print_variable(out, name);
    if (labels == NULL) return;
    put(out, ":");
    print_labels(out, labels);
}

static void print_node(struct imv_buffer *out, const struct imv_node_pattern *node) {
    put(out, "(");
    print_element(out, node->name, node->labels);
    print_after(out, " ", node->properties);
    print_after(out, " WHERE ", node->where);
    put(out, ")");
}

static void print_relationship(struct imv_buffer *out, const struct imv_relationship_pattern *relationship) {
    put(out, relationship->direction == IMV_DIRECTION_LEFT ? "<-[" : "-[");
    print_element(out, relationship->name, relationship->types);
    if (relationship->variable_length) {
        put(out, "*");
        if (relationship->hops_min >= 0) imv_buffer_append_format(out, "%" PRId64, relationship->hops_min);
        put(out, "..");
        if (relationship->hops_max >= 0) imv_buffer_append_format(out, "%" PRId64, relationship->hops_max);
    }
    print_after(out, " ", relationship->properties);
    print_after(out, " WHERE ", relationship->where);
    put(out, relationship->direction == IMV_DIRECTION_RIGHT ? "]->" : "]-");
}

static void print_patterns(struct imv_buffer *out, const struct imv_pattern *patterns, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) put(out, ", ");
        if (patterns[i].name.data != NULL) {
            print_name(out, patterns[i].name);
            put(out, " = ");
        }
        for (uint32_t j = 0; j < patterns[i].nodes_count; j++) {
            if (j > 0) print_relationship(out, &patterns[i].relationships[j - 1]);
            print_node(out, &patterns[i].nodes[j]);
        }
    }
}

/* ---- printing: clauses ---- */

static void print_alias(struct imv_buffer *out, struct imv_str name) {
    if (name.data == NULL) return;
    put(out, " AS ");
    print_name(out, name);
}

static void print_window(struct imv_buffer *out, const struct imv_window *window) {
    static const char *const fills[] = {"", " FILL null", " FILL prev", " FILL linear", " FILL "};
    print_after(out, "WINDOW ", window->width);
    print_alias(out, window->name);
    put(out, fills[window->fill]);
    print_after(out, "", window->fill_value);
}

static void print_lets(struct imv_buffer *out, const struct imv_clause *clause) {
    for (uint32_t i = 0; i < clause->lets_count; i++) {
        put(out, i == 0 ? "LET " : ", ");
        print_name(out, clause->lets[i].name);
        print_after(out, " = ", clause->lets[i].value);
    }
}

static void print_projection(struct imv_buffer *out, const struct imv_projection *projection) {
    put(out, projection->distinct ? " DISTINCT" : "");
    put(out, projection->star ? " *" : "");
    for (uint32_t i = 0; i < projection->items_count; i++) {
        put(out, i > 0 || projection->star ? ", " : " ");
        imv_expr_print(out, projection->items[i].expr);
        if (projection->items[i].aliased) print_alias(out, projection->items[i].name);
    }
    for (uint32_t i = 0; i < projection->sort_keys_count; i++) {
        print_after(out, i == 0 ? " ORDER BY " : ", ", projection->sort_keys[i].expr);
        put(out, projection->sort_keys[i].descending ? " DESC" : "");
    }
    print_after(out, " SKIP ", projection->skip);
    print_after(out, " LIMIT ", projection->limit);
    print_after(out, " WHERE ", projection->where);
}

static void print_procedure_call(struct imv_buffer *out, const struct imv_procedure_call *call) {
    print_after(out, "CALL ", call->call);
    for (uint32_t i = 0; i < call->yields_count; i++) {
        put(out, i == 0 ? " YIELD " : ", ");
        print_name(out, call->yields[i].column);
        print_alias(out, call->yields[i].name);
    }
    print_after(out, " WHERE ", call->where);
}

static void print_clause(struct imv_buffer *out, const struct imv_clause *clause) {
    switch (clause->kind) {
        case IMV_CLAUSE_MATCH:
            put(out, clause->match.optional ? "OPTIONAL MATCH " : "MATCH ");
            print_patterns(out, clause->match.patterns, clause->match.patterns_count);
            print_after(out, " WHERE ", clause->match.where);
            return;
        case IMV_CLAUSE_SAMPLES:
            print_after(out, "SAMPLES OF ", clause->samples.source);
            print_alias(out, clause->samples.name);
            print_after(out, " FROM ", clause->samples.from);
            print_after(out, " TO ", clause->samples.to);
            return;
        case IMV_CLAUSE_DELETE:
            print_after(out, "DELETE SAMPLES OF ", clause->samples.source);
            if (clause->samples.from == NULL && clause->samples.to == NULL) put(out, " ALL");
            print_after(out, " FROM ", clause->samples.from);
            print_after(out, " TO ", clause->samples.to);
            return;
        case IMV_CLAUSE_WINDOW: print_window(out, &clause->window); return;
        case IMV_CLAUSE_FILTER: print_after(out, "FILTER ", clause->filter); return;
        case IMV_CLAUSE_LET: print_lets(out, clause); return;
        case IMV_CLAUSE_UNWIND:
            print_after(out, "UNWIND ", clause->unwind.list);
            print_alias(out, clause->unwind.name);
            return;
        case IMV_CLAUSE_CALL: print_procedure_call(out, &clause->call); return;
        case IMV_CLAUSE_WITH:
        case IMV_CLAUSE_RETURN:
            put(out, clause->kind == IMV_CLAUSE_WITH ? "WITH" : "RETURN");
            print_projection(out, &clause->projection);
            return;
    }
}

static void print_single_query(struct imv_buffer *out, const struct imv_single_query *query, const char *separator) {
    for (uint32_t i = 0; i < query->clauses_count; i++) {
        if (i > 0) put(out, separator);
        print_clause(out, &query->clauses[i]);
        if (query->clauses[i].kind == IMV_CLAUSE_DELETE) return; /* its RETURN is not in the text */
    }
}

void imv_statement_print(struct imv_buffer *out, const struct imv_statement *statement) {
    static const char *const prefixes[] = {"", "EXPLAIN\n", "PROFILE\n"};
    put(out, prefixes[statement->explain]);
    for (uint32_t i = 0; i < statement->branches_count; i++) {
        if (i > 0) put(out, statement->union_all ? "\nUNION ALL\n" : "\nUNION\n");
        print_single_query(out, &statement->branches[i], "\n");
    }
}
