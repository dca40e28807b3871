/* parse_expression.c - expressions: operators by falling precedence, then atoms.
 *
 *     OR   XOR   AND   NOT   = <> < <= > >=   IN STARTS WITH .. IS NULL   + - ||   * / %   ^   unary + -   a.b a[i] a:L
 *
 * Unary minus binds closer than ^, and a comparison looser than IN, both as in openCypher.
 */
#include "query/parser.h"

#include "storage/base/assert.h"

#include <string.h>

static struct imv_expr *parse_or_until_bar(struct imv_parser *parser);
static struct imv_expr *parse_postfix(struct imv_parser *parser);

/* ---- building nodes ---- */

static struct imv_expr *new_expr(struct imv_parser *parser, enum imv_expr_kind kind) {
    struct imv_expr *expr = imv_parser_alloc(parser, 1, sizeof *expr);
    if (expr == NULL) return NULL;
    expr->kind = kind;
    expr->height = 1;
    expr->span = parser->token.span;
    return expr;
}

static bool raise_height(struct imv_expr *child, void *context) {
    uint32_t *height = context;
    if (child->height + 1 > *height) *height = child->height + 1;
    return true;
}

/* Ends the construction of a node that started at offset: its span and its height. */
static struct imv_expr *seal(struct imv_parser *parser, struct imv_expr *expr, uint32_t offset) {
    expr->span = imv_parser_span_from(parser, offset);
    imv_expr_each_child(expr, raise_height, &expr->height);
    if (expr->height > parser->tallest) parser->tallest = expr->height;
    if (expr->height <= IMV_EXPR_HEIGHT_MAX) return expr;
    return imv_parser_fail(parser, expr->span, "NestingTooDeep", "the expression is a chain of more than %d operators",
                           IMV_EXPR_HEIGHT_MAX);
}

static struct imv_expr *new_binary(struct imv_parser *parser, enum imv_binary_op op, struct imv_expr *left,
                                   struct imv_expr *right) {
    if (left == NULL || right == NULL) return NULL;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_BINARY);
    if (expr == NULL) return NULL;
    expr->binary.op = op;
    expr->binary.left = left;
    expr->binary.right = right;
    if (seal(parser, expr, left->span.offset) == NULL) return NULL;
    expr->span.size = right->span.offset + right->span.size - left->span.offset;
    return expr;
}

static struct imv_expr *new_unary(struct imv_parser *parser, enum imv_unary_op op, struct imv_expr *operand,
                                  uint32_t offset) {
    if (operand == NULL) return NULL;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_UNARY);
    if (expr == NULL) return NULL;
    expr->unary.op = op;
    expr->unary.operand = operand;
    return seal(parser, expr, offset);
}

/* A list of expressions under construction. */
struct expr_list {
    struct imv_expr **items;
    uint32_t count;
};

static bool append_expr(struct imv_parser *parser, struct expr_list *list, struct imv_expr *expr) {
    if (expr == NULL) return false;
    struct imv_expr **item = imv_parser_append(parser, (void **)&list->items, &list->count, sizeof *item);
    if (item == NULL) return false;
    *item = expr;
    return true;
}

/* ---- literals ---- */

static struct imv_expr *fail_literal(struct imv_parser *parser, struct imv_span span, const char *detail) {
    struct imv_str text = imv_span_text(parser->text, span);
    if (strcmp(detail, "OutOfMemory") == 0) return imv_parser_fail_memory(parser);
    const char *what = strcmp(detail, "IntegerOverflow") == 0
                           ? "does not fit a 64-bit integer (or, for a duration, its nanoseconds do not)"
                           : "does not fit a 64-bit floating-point number";
    return imv_parser_fail(parser, span, detail, "%.*s%s %s", (int)(text.size > 60 ? 60 : text.size), text.data,
                           text.size > 60 ? "..." : "", what);
}

/* The current token is a number or duration; offset is where its sign stands, or its own. */
static struct imv_expr *parse_number(struct imv_parser *parser, bool negative, uint32_t offset) {
    struct imv_token token = parser->token;
    struct imv_str text = imv_span_text(parser->text, token.span);
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_INTEGER);
    if (expr == NULL) return NULL;
    const char *detail;
    if (token.kind == IMV_TOKEN_INTEGER) {
        detail = imv_lex_integer(text, negative, &expr->integer);
    } else if (token.kind == IMV_TOKEN_FLOAT) {
        expr->kind = IMV_EXPR_FLOAT;
        detail = imv_lex_float(text, &expr->number);
        if (negative) expr->number = -expr->number;
    } else {
        expr->kind = IMV_EXPR_DURATION;
        detail = imv_lex_duration(text, &expr->integer);
        if (negative) expr->integer = -expr->integer;
    }
    imv_parser_advance(parser);
    if (detail != NULL) return fail_literal(parser, imv_parser_span_from(parser, offset), detail);
    return seal(parser, expr, offset);
}

static struct imv_expr *parse_string(struct imv_parser *parser) {
    struct imv_span span = parser->token.span;
    struct imv_str literal = imv_span_text(parser->text, span);
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_STRING);
    char *bytes = imv_parser_alloc(parser, literal.size, 1);
    if (expr == NULL || bytes == NULL) return NULL;
    size_t size = 0;
    struct imv_span bad;
    const char *detail = imv_lex_string(literal, bytes, &size, &bad);
    if (detail != NULL) {
        bad.offset += span.offset;
        struct imv_str escape = imv_span_text(parser->text, bad);
        return imv_parser_fail(parser, bad, detail, "'%.*s' is not an escape; use \\\\ for a backslash",
                               (int)escape.size, escape.data);
    }
    expr->string = (struct imv_str){bytes, size};
    imv_parser_advance(parser);
    return seal(parser, expr, span.offset);
}

static struct imv_expr *parse_parameter(struct imv_parser *parser) {
    struct imv_statement *statement = parser->statement;
    struct imv_span span = parser->token.span;
    struct imv_str literal = imv_span_text(parser->text, span);
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_PARAMETER);
    char *bytes = imv_parser_alloc(parser, literal.size, 1);
    if (expr == NULL || bytes == NULL) return NULL;
    struct imv_str name = {bytes, imv_lex_name(literal, bytes)};
    uint32_t index = 0;
    while (index < statement->parameters_count && !imv_str_equal(statement->parameters[index].name, name)) index++;
    if (index == statement->parameters_count) {
        struct imv_parameter_use *use =
            imv_parser_append(parser, (void **)&statement->parameters, &statement->parameters_count, sizeof *use);
        if (use == NULL) return NULL;
        *use = (struct imv_parameter_use){name, span};
    }
    expr->parameter.name = name;
    expr->parameter.index = index;
    imv_parser_advance(parser);
    return seal(parser, expr, span.offset);
}

static struct imv_expr *parse_word(struct imv_parser *parser, enum imv_expr_kind kind, bool value) {
    struct imv_expr *expr = new_expr(parser, kind);
    if (expr == NULL) return NULL;
    expr->boolean = value;
    uint32_t offset = parser->token.span.offset;
    imv_parser_advance(parser);
    return seal(parser, expr, offset);
}

static struct imv_expr *parse_map(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_MAP);
    if (expr == NULL || !imv_parser_expect(parser, IMV_TOKEN_LBRACE)) return NULL;
    while (!imv_parser_at(parser, IMV_TOKEN_RBRACE)) {
        if (expr->map.count > 0 && !imv_parser_expect(parser, IMV_TOKEN_COMMA)) return NULL;
        struct imv_expr_map_entry *entry =
            imv_parser_append(parser, (void **)&expr->map.entries, &expr->map.count, sizeof *entry);
        if (entry == NULL || !imv_parser_expect_key(parser, "a key", &entry->key, &entry->span)) return NULL;
        if (!imv_parser_expect(parser, IMV_TOKEN_COLON)) return NULL;
        entry->value = imv_parse_expression(parser);
        if (entry->value == NULL) return NULL;
    }
    imv_parser_advance(parser);
    return seal(parser, expr, offset);
}

struct imv_expr *imv_parse_properties(struct imv_parser *parser) {
    return imv_parser_is(parser, IMV_TOKEN_PARAMETER) ? parse_parameter(parser) : parse_map(parser);
}

/* ---- brackets: lists and comprehensions ---- */

static struct imv_expr *parse_list(struct imv_parser *parser, uint32_t offset) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_LIST);
    if (expr == NULL) return NULL;
    struct expr_list list = {0};
    while (!imv_parser_at(parser, IMV_TOKEN_RBRACKET)) {
        if (list.count > 0 && !imv_parser_expect(parser, IMV_TOKEN_COMMA)) return NULL;
        if (!append_expr(parser, &list, imv_parse_expression(parser))) return NULL;
    }
    imv_parser_advance(parser);
    expr->list.items = list.items;
    expr->list.count = list.count;
    return seal(parser, expr, offset);
}

/* At the name of [name IN list WHERE p | e]. */
static struct imv_expr *parse_comprehension(struct imv_parser *parser, uint32_t offset) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_COMPREHENSION);
    if (expr == NULL) return NULL;
    if (!imv_parser_expect_name(parser, "a variable", &expr->comprehension.name, &expr->comprehension.name_span) ||
        !imv_parser_expect_keyword(parser, "IN")) {
        return NULL;
    }
    expr->comprehension.list = parse_or_until_bar(parser);
    if (expr->comprehension.list == NULL) return NULL;
    if (imv_parser_accept_keyword(parser, "WHERE")) {
        expr->comprehension.where = parse_or_until_bar(parser);
        if (expr->comprehension.where == NULL) return NULL;
    }
    if (imv_parser_accept(parser, IMV_TOKEN_BAR)) {
        expr->comprehension.result = imv_parse_expression(parser);
        if (expr->comprehension.result == NULL) return NULL;
    }
    if (!imv_parser_expect(parser, IMV_TOKEN_RBRACKET)) return NULL;
    return seal(parser, expr, offset);
}

/* A pattern inside an expression: what stands in it counts for the height of the expression. */
static struct imv_expr *seal_pattern(struct imv_parser *parser, struct imv_expr *expr, uint32_t offset,
                                     uint32_t tallest_before) {
    expr->height = parser->tallest + 1;
    if (tallest_before > parser->tallest) parser->tallest = tallest_before;
    return seal(parser, expr, offset);
}

/* At the pattern of [p = (a)-->(b) WHERE c | e]. */
static struct imv_expr *parse_pattern_comprehension(struct imv_parser *parser, uint32_t offset) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_PATTERN_COMPREHENSION);
    struct imv_pattern *pattern = imv_parser_alloc(parser, 1, sizeof *pattern);
    if (expr == NULL || pattern == NULL) return NULL;
    uint32_t tallest_before = parser->tallest;
    parser->tallest = 0;
    if (!imv_parse_pattern(parser, pattern)) return NULL;
    expr->pattern.pattern = pattern;
    if (imv_parser_accept_keyword(parser, "WHERE")) {
        expr->pattern.where = parse_or_until_bar(parser);
        if (expr->pattern.where == NULL) return NULL;
    }
    if (!imv_parser_expect(parser, IMV_TOKEN_BAR)) return NULL;
    expr->pattern.result = imv_parse_expression(parser);
    if (expr->pattern.result == NULL || !imv_parser_expect(parser, IMV_TOKEN_RBRACKET)) return NULL;
    return seal_pattern(parser, expr, offset, tallest_before);
}

static struct imv_expr *parse_brackets(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    imv_parser_advance(parser);
    if (imv_parser_path_at(parser, parser->token)) return parse_pattern_comprehension(parser, offset);
    if (imv_parser_is_name(parser)) {
        struct imv_token next = imv_parser_peek(parser);
        if (imv_token_is(parser->text, next, "IN")) return parse_comprehension(parser, offset);
        if (next.kind == IMV_TOKEN_EQUAL && imv_parser_path_at(parser, imv_parser_after(parser, next))) {
            return parse_pattern_comprehension(parser, offset);
        }
    }
    return parse_list(parser, offset);
}

/* ---- words with a syntax of their own ---- */

static struct imv_expr *parse_case_branches(struct imv_parser *parser, struct imv_expr *expr) {
    do {
        struct imv_expr_case_branch *branch =
            imv_parser_append(parser, (void **)&expr->switch_.branches, &expr->switch_.count, sizeof *branch);
        if (branch == NULL || !imv_parser_expect_keyword(parser, "WHEN")) return NULL;
        branch->when = imv_parse_expression(parser);
        if (branch->when == NULL || !imv_parser_expect_keyword(parser, "THEN")) return NULL;
        branch->then = imv_parse_expression(parser);
        if (branch->then == NULL) return NULL;
    } while (imv_parser_at_keyword(parser, "WHEN"));
    return expr;
}

static struct imv_expr *parse_case(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_CASE);
    if (expr == NULL) return NULL;
    imv_parser_advance(parser);
    if (!imv_parser_at_keyword(parser, "WHEN")) {
        expr->switch_.subject = imv_parse_expression(parser);
        if (expr->switch_.subject == NULL) return NULL;
    }
    if (parse_case_branches(parser, expr) == NULL) return NULL;
    if (imv_parser_accept_keyword(parser, "ELSE")) {
        expr->switch_.otherwise = imv_parse_expression(parser);
        if (expr->switch_.otherwise == NULL) return NULL;
    }
    if (!imv_parser_expect_keyword(parser, "END")) return NULL;
    return seal(parser, expr, offset);
}

/* all(x IN list WHERE p), at the word. */
static struct imv_expr *parse_quantifier(struct imv_parser *parser, enum imv_quantifier quantifier) {
    uint32_t offset = parser->token.span.offset;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_QUANTIFIER);
    if (expr == NULL) return NULL;
    expr->quantifier.quantifier = quantifier;
    imv_parser_advance(parser);
    if (!imv_parser_expect(parser, IMV_TOKEN_LPAREN) ||
        !imv_parser_expect_name(parser, "a variable", &expr->quantifier.name, &expr->quantifier.name_span) ||
        !imv_parser_expect_keyword(parser, "IN")) {
        return NULL;
    }
    expr->quantifier.list = imv_parse_expression(parser);
    if (expr->quantifier.list == NULL || !imv_parser_expect_keyword(parser, "WHERE")) return NULL;
    expr->quantifier.where = imv_parse_expression(parser);
    if (expr->quantifier.where == NULL || !imv_parser_expect(parser, IMV_TOKEN_RPAREN)) return NULL;
    return seal(parser, expr, offset);
}

/* reduce(a = init, x IN list | e), at the word. */
static struct imv_expr *parse_reduce(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_REDUCE);
    if (expr == NULL) return NULL;
    imv_parser_advance(parser);
    if (!imv_parser_expect(parser, IMV_TOKEN_LPAREN) ||
        !imv_parser_expect_name(parser, "a variable", &expr->reduce.accumulator, &expr->reduce.accumulator_span) ||
        !imv_parser_expect(parser, IMV_TOKEN_EQUAL)) {
        return NULL;
    }
    expr->reduce.init = imv_parse_expression(parser);
    if (expr->reduce.init == NULL || !imv_parser_expect(parser, IMV_TOKEN_COMMA) ||
        !imv_parser_expect_name(parser, "a variable", &expr->reduce.name, &expr->reduce.name_span) ||
        !imv_parser_expect_keyword(parser, "IN")) {
        return NULL;
    }
    expr->reduce.list = parse_or_until_bar(parser);
    if (expr->reduce.list == NULL || !imv_parser_expect(parser, IMV_TOKEN_BAR)) return NULL;
    expr->reduce.result = imv_parse_expression(parser);
    if (expr->reduce.result == NULL || !imv_parser_expect(parser, IMV_TOKEN_RPAREN)) return NULL;
    return seal(parser, expr, offset);
}

/* EXISTS { (a)-->(b) WHERE p } stands for EXISTS { MATCH (a)-->(b) WHERE p }. */
static bool parse_bare_match(struct imv_parser *parser, struct imv_single_query *query) {
    struct imv_clause *clause =
        imv_parser_append(parser, (void **)&query->clauses, &query->clauses_count, sizeof *clause);
    if (clause == NULL) return false;
    uint32_t offset = parser->token.span.offset;
    clause->kind = IMV_CLAUSE_MATCH;
    do {
        struct imv_pattern *pattern =
            imv_parser_append(parser, (void **)&clause->match.patterns, &clause->match.patterns_count, sizeof *pattern);
        if (pattern == NULL || !imv_parse_pattern(parser, pattern)) return false;
    } while (imv_parser_accept(parser, IMV_TOKEN_COMMA));
    if (imv_parser_accept_keyword(parser, "WHERE")) {
        clause->match.where = imv_parse_expression(parser);
        if (clause->match.where == NULL) return false;
    }
    clause->span = query->span = imv_parser_span_from(parser, offset);
    return true;
}

static struct imv_expr *parse_exists(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset, tallest_before = parser->tallest;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_EXISTS);
    struct imv_single_query *query = imv_parser_alloc(parser, 1, sizeof *query);
    if (expr == NULL || query == NULL) return NULL;
    expr->exists.query = query;
    parser->tallest = 0;
    imv_parser_advance(parser);
    if (!imv_parser_expect(parser, IMV_TOKEN_LBRACE)) return NULL;
    bool bare = imv_parser_is(parser, IMV_TOKEN_LPAREN) || imv_parser_peek(parser).kind == IMV_TOKEN_EQUAL;
    if (bare ? !parse_bare_match(parser, query) : !imv_parse_single_query(parser, query, true)) return NULL;
    if (!imv_parser_expect(parser, IMV_TOKEN_RBRACE)) return NULL;
    return seal_pattern(parser, expr, offset, tallest_before);
}

/* ---- names: variables, calls, special forms ---- */

/* Is the current name the start of f( or a.b.f( ? */
static bool at_call(const struct imv_parser *parser) {
    struct imv_token token = imv_parser_peek(parser);
    while (token.kind == IMV_TOKEN_DOT) {
        token = imv_parser_after(parser, token);
        if (token.kind != IMV_TOKEN_NAME && token.kind != IMV_TOKEN_QUOTED) return false;
        token = imv_parser_after(parser, token);
    }
    return token.kind == IMV_TOKEN_LPAREN;
}

/* a.b.f: joined by dots into one name. */
static bool parse_call_name(struct imv_parser *parser, struct imv_str *name, struct imv_span *span) {
    uint32_t offset = parser->token.span.offset;
    if (!imv_parser_expect_name(parser, "a function", name, span)) return false;
    while (imv_parser_accept(parser, IMV_TOKEN_DOT)) {
        struct imv_str part;
        if (!imv_parser_expect_name(parser, "a function", &part, span)) return false;
        struct imv_str joined =
            imv_arena_format(parser->arena, "%.*s.%.*s", (int)name->size, name->data, (int)part.size, part.data);
        if (joined.data == NULL) return imv_parser_fail_memory(parser);
        *name = joined;
    }
    *span = imv_parser_span_from(parser, offset);
    return true;
}

static struct imv_expr *parse_call(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_CALL);
    if (expr == NULL || !parse_call_name(parser, &expr->call.name, &expr->call.name_span)) return NULL;
    if (!imv_parser_expect(parser, IMV_TOKEN_LPAREN)) return NULL;
    if (imv_parser_is(parser, IMV_TOKEN_STAR)) {
        imv_parser_advance(parser);
        expr->call.star = true;
        if (!imv_parser_expect(parser, IMV_TOKEN_RPAREN)) return NULL;
        return seal(parser, expr, offset);
    }
    if (imv_parser_is_keyword(parser, "DISTINCT")) {
        imv_parser_advance(parser);
        expr->call.distinct = true;
    }
    struct expr_list arguments = {0};
    while (!imv_parser_at(parser, IMV_TOKEN_RPAREN)) {
        if (arguments.count > 0 && !imv_parser_expect(parser, IMV_TOKEN_COMMA)) return NULL;
        if (!append_expr(parser, &arguments, imv_parse_expression(parser))) return NULL;
    }
    imv_parser_advance(parser);
    expr->call.arguments = arguments.items;
    expr->call.count = arguments.count;
    return seal(parser, expr, offset);
}

struct imv_expr *imv_parse_procedure(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_token after = parser->token;
    while (after.kind == IMV_TOKEN_NAME || after.kind == IMV_TOKEN_QUOTED || after.kind == IMV_TOKEN_DOT) {
        after = imv_parser_after(parser, after);
        if (after.kind == IMV_TOKEN_LPAREN) return parse_call(parser);
        if (after.kind != IMV_TOKEN_DOT) break;
        after = imv_parser_after(parser, after);
    }
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_CALL);
    if (expr == NULL || !parse_call_name(parser, &expr->call.name, &expr->call.name_span)) return NULL;
    return seal(parser, expr, offset);
}

static struct imv_expr *parse_variable(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_span span;
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_VARIABLE);
    if (expr == NULL || !imv_parser_expect_name(parser, "a variable", &expr->variable.name, &span)) return NULL;
    return seal(parser, expr, offset);
}

/* word ( name keyword-or-token: what tells all(x IN ..) and reduce(a = ..) from calls. */
static bool at_form(const struct imv_parser *parser, const char *word, const char *keyword, enum imv_token_kind kind) {
    if (!imv_parser_is_keyword(parser, word)) return false;
    struct imv_token paren = imv_parser_peek(parser);
    if (paren.kind != IMV_TOKEN_LPAREN) return false;
    struct imv_token name = imv_parser_after(parser, paren);
    if (name.kind != IMV_TOKEN_NAME && name.kind != IMV_TOKEN_QUOTED) return false;
    struct imv_token next = imv_parser_after(parser, name);
    return keyword != NULL ? imv_token_is(parser->text, next, keyword) : next.kind == kind;
}

static struct imv_expr *parse_name(struct imv_parser *parser) {
    static const char *const quantifiers[] = {"ALL", "ANY", "NONE", "SINGLE"};
    if (imv_parser_is_keyword(parser, "NULL")) return parse_word(parser, IMV_EXPR_NULL, false);
    if (imv_parser_is_keyword(parser, "TRUE")) return parse_word(parser, IMV_EXPR_BOOLEAN, true);
    if (imv_parser_is_keyword(parser, "FALSE")) return parse_word(parser, IMV_EXPR_BOOLEAN, false);
    if (imv_parser_is_keyword(parser, "CASE")) return parse_case(parser);
    for (unsigned i = 0; i < 4; i++) {
        if (at_form(parser, quantifiers[i], "IN", IMV_TOKEN_END)) {
            return parse_quantifier(parser, (enum imv_quantifier)i);
        }
    }
    if (at_form(parser, "REDUCE", NULL, IMV_TOKEN_EQUAL)) return parse_reduce(parser);
    if (imv_parser_is_keyword(parser, "EXISTS") && imv_parser_peek(parser).kind == IMV_TOKEN_LBRACE) {
        return parse_exists(parser);
    }
    bool quoted = imv_parser_is(parser, IMV_TOKEN_QUOTED);
    if (!quoted && imv_lex_reserved(imv_span_text(parser->text, parser->token.span))) {
        imv_parser_note(parser, "an expression");
        return imv_parser_fail_expected(parser);
    }
    return at_call(parser) ? parse_call(parser) : parse_variable(parser);
}

/* ---- atoms and what follows them ---- */

static struct imv_expr *parse_parentheses(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    if (imv_parser_path_at(parser, parser->token)) {
        uint32_t tallest_before = parser->tallest;
        struct imv_expr *expr = new_expr(parser, IMV_EXPR_PATTERN);
        struct imv_pattern *pattern = imv_parser_alloc(parser, 1, sizeof *pattern);
        if (expr == NULL || pattern == NULL) return NULL;
        parser->tallest = 0;
        if (!imv_parse_pattern(parser, pattern)) return NULL;
        expr->pattern.pattern = pattern;
        return seal_pattern(parser, expr, offset, tallest_before);
    }
    imv_parser_advance(parser);
    struct imv_expr *inner = imv_parse_expression(parser);
    if (inner == NULL || !imv_parser_expect(parser, IMV_TOKEN_RPAREN)) return NULL;
    /* The parentheses belong to the text of a whole, but not to that of a name: an error about it points at the name.
     * */
    if (inner->height > 1) inner->span = imv_parser_span_from(parser, offset);
    return inner;
}

static struct imv_expr *parse_atom(struct imv_parser *parser) {
    switch (parser->token.kind) {
        case IMV_TOKEN_INTEGER:
        case IMV_TOKEN_FLOAT:
        case IMV_TOKEN_DURATION: return parse_number(parser, false, parser->token.span.offset);
        case IMV_TOKEN_STRING: return parse_string(parser);
        case IMV_TOKEN_PARAMETER: return parse_parameter(parser);
        case IMV_TOKEN_LPAREN: return parse_parentheses(parser);
        case IMV_TOKEN_LBRACKET: return parse_brackets(parser);
        case IMV_TOKEN_LBRACE: return parse_map(parser);
        case IMV_TOKEN_NAME:
        case IMV_TOKEN_QUOTED: return parse_name(parser);
        default: imv_parser_note(parser, "an expression"); return imv_parser_fail_expected(parser);
    }
}

static struct imv_expr *parse_property(struct imv_parser *parser, struct imv_expr *base, uint32_t offset) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_PROPERTY);
    if (expr == NULL) return NULL;
    imv_parser_advance(parser);
    expr->property.base = base;
    if (!imv_parser_expect_key(parser, "a property", &expr->property.name, &expr->property.name_span)) return NULL;
    return seal(parser, expr, offset);
}

/* base[at], base[from..to], base[..] */
static struct imv_expr *parse_subscript(struct imv_parser *parser, struct imv_expr *base, uint32_t offset) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_INDEX), *first = NULL, *second = NULL;
    if (expr == NULL) return NULL;
    imv_parser_advance(parser);
    if (!imv_parser_is(parser, IMV_TOKEN_DOTDOT)) {
        first = imv_parse_expression(parser);
        if (first == NULL) return NULL;
    }
    bool slice = imv_parser_accept(parser, IMV_TOKEN_DOTDOT);
    if (slice && !imv_parser_at(parser, IMV_TOKEN_RBRACKET)) {
        second = imv_parse_expression(parser);
        if (second == NULL) return NULL;
    }
    if (!imv_parser_expect(parser, IMV_TOKEN_RBRACKET)) return NULL;
    if (slice) {
        expr->kind = IMV_EXPR_SLICE;
        expr->slice.base = base;
        expr->slice.from = first;
        expr->slice.to = second;
    } else {
        expr->index.base = base;
        expr->index.at = first;
    }
    return seal(parser, expr, offset);
}

static struct imv_expr *parse_label_test(struct imv_parser *parser, struct imv_expr *base, uint32_t offset) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_LABELS);
    if (expr == NULL) return NULL;
    expr->labels.base = base;
    expr->labels.labels = imv_parse_labels(parser, !parser->bar_is_taken);
    if (expr->labels.labels == NULL) return NULL;
    expr->height = expr->labels.labels->height + 1;
    return seal(parser, expr, offset);
}

static struct imv_expr *parse_suffixes(struct imv_parser *parser, struct imv_expr *expr, uint32_t offset) {
    while (expr != NULL) {
        if (imv_parser_is(parser, IMV_TOKEN_DOT)) {
            expr = parse_property(parser, expr, offset);
        } else if (imv_parser_is(parser, IMV_TOKEN_LBRACKET)) {
            expr = parse_subscript(parser, expr, offset);
        } else if (imv_parser_is(parser, IMV_TOKEN_COLON)) {
            return parse_label_test(parser, expr, offset);
        } else {
            return expr;
        }
    }
    return NULL;
}

static struct imv_expr *parse_postfix(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    return parse_suffixes(parser, parse_atom(parser), offset);
}

struct imv_expr *imv_parse_property_path(struct imv_parser *parser) {
    uint32_t offset = parser->token.span.offset;
    struct imv_expr *expr = parse_variable(parser);
    while (expr != NULL && imv_parser_at(parser, IMV_TOKEN_DOT)) expr = parse_property(parser, expr, offset);
    return expr;
}

/* ---- operators ---- */

static bool is_number(const struct imv_parser *parser) {
    return imv_parser_is(parser, IMV_TOKEN_INTEGER) || imv_parser_is(parser, IMV_TOKEN_FLOAT) ||
           imv_parser_is(parser, IMV_TOKEN_DURATION);
}

static struct imv_expr *parse_sign(struct imv_parser *parser) {
    bool minus = imv_parser_is(parser, IMV_TOKEN_MINUS);
    if (!minus && !imv_parser_is(parser, IMV_TOKEN_PLUS)) return parse_postfix(parser);
    uint32_t offset = parser->token.span.offset;
    imv_parser_advance(parser);
    if (minus && is_number(parser)) return parse_suffixes(parser, parse_number(parser, true, offset), offset);
    struct imv_expr *operand = imv_parser_enter(parser) ? parse_sign(parser) : NULL;
    imv_parser_leave(parser);
    return new_unary(parser, minus ? IMV_UNARY_MINUS : IMV_UNARY_PLUS, operand, offset);
}

/* Arithmetic from loose to close; every operator leans left. */
static const struct {
    enum imv_token_kind token;
    enum imv_binary_op op;
    int level;
} arithmetic[] = {
    {IMV_TOKEN_PLUS, IMV_BINARY_ADD, 0},           {IMV_TOKEN_MINUS, IMV_BINARY_SUBTRACT, 0},
    {IMV_TOKEN_BARBAR, IMV_BINARY_CONCATENATE, 0}, {IMV_TOKEN_STAR, IMV_BINARY_MULTIPLY, 1},
    {IMV_TOKEN_SLASH, IMV_BINARY_DIVIDE, 1},       {IMV_TOKEN_PERCENT, IMV_BINARY_MODULO, 1},
    {IMV_TOKEN_CARET, IMV_BINARY_POWER, 2},
};

static struct imv_expr *parse_arithmetic(struct imv_parser *parser, int level) {
    struct imv_expr *left = parse_sign(parser);
    for (;;) {
        size_t i = 0, count = sizeof arithmetic / sizeof arithmetic[0];
        while (i < count && !(arithmetic[i].token == parser->token.kind && arithmetic[i].level >= level)) i++;
        if (left == NULL || i == count) return left;
        imv_parser_advance(parser);
        struct imv_expr *right = parse_arithmetic(parser, arithmetic[i].level + 1);
        left = new_binary(parser, arithmetic[i].op, left, right);
    }
}

static struct imv_expr *parse_null_test(struct imv_parser *parser, struct imv_expr *operand) {
    imv_parser_advance(parser);
    bool negated = imv_parser_accept_keyword(parser, "NOT");
    if (!imv_parser_expect_keyword(parser, "NULL")) return NULL;
    return new_unary(parser, negated ? IMV_UNARY_IS_NOT_NULL : IMV_UNARY_IS_NULL, operand, operand->span.offset);
}

/* IN, STARTS WITH, ENDS WITH, CONTAINS, =~ at the current token; false when there is none. */
static bool accept_predicate(struct imv_parser *parser, enum imv_binary_op *op, bool *with) {
    static const struct {
        const char *word;
        enum imv_binary_op op;
        bool with;
    } words[] = {
        {"IN", IMV_BINARY_IN, false},
        {"STARTS", IMV_BINARY_STARTS_WITH, true},
        {"ENDS", IMV_BINARY_ENDS_WITH, true},
        {"CONTAINS", IMV_BINARY_CONTAINS, false},
    };
    *with = false;
    *op = IMV_BINARY_MATCHES;
    bool found = imv_parser_is(parser, IMV_TOKEN_MATCHES);
    for (size_t i = 0; i < sizeof words / sizeof words[0] && !found; i++) {
        found = imv_parser_is_keyword(parser, words[i].word);
        *op = words[i].op;
        *with = words[i].with;
    }
    if (found) imv_parser_advance(parser);
    return found;
}

static struct imv_expr *parse_predicate(struct imv_parser *parser) {
    struct imv_expr *left = parse_arithmetic(parser, 0);
    while (left != NULL) {
        enum imv_binary_op op;
        bool with;
        if (imv_parser_is_keyword(parser, "IS")) {
            left = parse_null_test(parser, left);
        } else if (accept_predicate(parser, &op, &with)) {
            if (with && !imv_parser_expect_keyword(parser, "WITH")) return NULL;
            left = new_binary(parser, op, left, parse_arithmetic(parser, 0));
        } else {
            return left;
        }
    }
    return NULL;
}

static bool is_comparison(enum imv_token_kind kind, enum imv_binary_op *op) {
    switch (kind) {
        case IMV_TOKEN_EQUAL: *op = IMV_BINARY_EQUAL; return true;
        case IMV_TOKEN_NOT_EQUAL: *op = IMV_BINARY_NOT_EQUAL; return true;
        case IMV_TOKEN_LESS: *op = IMV_BINARY_LESS; return true;
        case IMV_TOKEN_LESS_EQUAL: *op = IMV_BINARY_LESS_EQUAL; return true;
        case IMV_TOKEN_GREATER: *op = IMV_BINARY_GREATER; return true;
        case IMV_TOKEN_GREATER_EQUAL: *op = IMV_BINARY_GREATER_EQUAL; return true;
        default: return false;
    }
}

static struct imv_expr *new_chain(struct imv_parser *parser, const struct expr_list *operands,
                                  enum imv_binary_op *ops) {
    struct imv_expr *expr = new_expr(parser, IMV_EXPR_CHAIN);
    if (expr == NULL) return NULL;
    expr->chain.operands = operands->items;
    expr->chain.ops = ops;
    expr->chain.count = operands->count;
    return seal(parser, expr, operands->items[0]->span.offset);
}

static struct imv_expr *parse_comparison(struct imv_parser *parser) {
    struct expr_list operands = {0};
    enum imv_binary_op *ops = NULL, op;
    uint32_t ops_count = 0;
    if (!append_expr(parser, &operands, parse_predicate(parser))) return NULL;
    while (is_comparison(parser->token.kind, &op)) {
        enum imv_binary_op *slot = imv_parser_append(parser, (void **)&ops, &ops_count, sizeof *slot);
        if (slot == NULL) return NULL;
        *slot = op;
        imv_parser_advance(parser);
        if (!append_expr(parser, &operands, parse_predicate(parser))) return NULL;
    }
    if (operands.count == 1) return operands.items[0];
    if (operands.count == 2) return new_binary(parser, ops[0], operands.items[0], operands.items[1]);
    return new_chain(parser, &operands, ops);
}

static struct imv_expr *parse_not(struct imv_parser *parser) {
    if (!imv_parser_is_keyword(parser, "NOT")) return parse_comparison(parser);
    uint32_t offset = parser->token.span.offset;
    imv_parser_advance(parser);
    struct imv_expr *operand = imv_parser_enter(parser) ? parse_not(parser) : NULL;
    imv_parser_leave(parser);
    return new_unary(parser, IMV_UNARY_NOT, operand, offset);
}

/* Operands [from, to) as a balanced tree. */
static struct imv_expr *balance(struct imv_parser *parser, enum imv_binary_op op, struct imv_expr **operands,
                                uint32_t from, uint32_t to) {
    if (to - from == 1) return operands[from];
    uint32_t middle = from + (to - from + 1) / 2;
    struct imv_expr *left = balance(parser, op, operands, from, middle);
    return new_binary(parser, op, left, balance(parser, op, operands, middle, to));
}

static struct imv_expr *parse_logic(struct imv_parser *parser, int level) {
    static const char *const words[] = {"OR", "XOR", "AND"};
    static const enum imv_binary_op ops[] = {IMV_BINARY_OR, IMV_BINARY_XOR, IMV_BINARY_AND};
    if (level == 3) return parse_not(parser);
    struct imv_expr *first = parse_logic(parser, level + 1);
    if (first == NULL || !imv_parser_is_keyword(parser, words[level])) return first;
    struct expr_list operands = {0};
    if (!append_expr(parser, &operands, first)) return NULL;
    while (imv_parser_is_keyword(parser, words[level])) {
        imv_parser_advance(parser);
        if (!append_expr(parser, &operands, parse_logic(parser, level + 1))) return NULL;
    }
    return balance(parser, ops[level], operands.items, 0, operands.count);
}

static struct imv_expr *parse_or(struct imv_parser *parser, bool bar_is_taken) {
    bool before = parser->bar_is_taken;
    parser->bar_is_taken = bar_is_taken;
    struct imv_expr *expr = imv_parser_enter(parser) ? parse_logic(parser, 0) : NULL;
    imv_parser_leave(parser);
    parser->bar_is_taken = before;
    return expr;
}

static struct imv_expr *parse_or_until_bar(struct imv_parser *parser) { return parse_or(parser, true); }

struct imv_expr *imv_parse_expression(struct imv_parser *parser) {
    return parse_or(parser, false);
}
