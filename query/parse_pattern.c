/* parse_pattern.c - graph patterns and label expressions. */
#include "query/parser.h"

#include <string.h>

/* ---- is it a pattern? ---- */

/* After the closing parenthesis of a node: does a relationship follow? `(x) - -1` is arithmetic. */
static bool relationship_at(const struct imv_parser *parser, struct imv_token token) {
    if (token.kind == IMV_TOKEN_LESS) token = imv_parser_after(parser, token);
    if (token.kind != IMV_TOKEN_MINUS) return false;
    token = imv_parser_after(parser, token);
    if (token.kind == IMV_TOKEN_LBRACKET) return true;
    if (token.kind != IMV_TOKEN_MINUS) return false;
    token = imv_parser_after(parser, token);
    return token.kind == IMV_TOKEN_LPAREN || token.kind == IMV_TOKEN_GREATER;
}

/* The closing token that belongs to an opening one before `token`; END or BAD when there is none. */
static struct imv_token closing(const struct imv_parser *parser, struct imv_token token, enum imv_token_kind open,
                                enum imv_token_kind close) {
    for (int depth = 0; token.kind != close || depth > 0; token = imv_parser_after(parser, token)) {
        if (token.kind == IMV_TOKEN_END || token.kind == IMV_TOKEN_BAD) break;
        depth += token.kind == open;
        depth -= token.kind == close;
    }
    return token;
}

/* After '(': can this be a node? ({a: 1}.a - 1) and ($p) are not. */
static bool node_at(const struct imv_parser *parser, struct imv_token token) {
    if (token.kind == IMV_TOKEN_LBRACE) {
        token = closing(parser, imv_parser_after(parser, token), IMV_TOKEN_LBRACE, IMV_TOKEN_RBRACE);
        token = imv_parser_after(parser, token);
        return token.kind == IMV_TOKEN_RPAREN || imv_token_is(parser->text, token, "WHERE");
    }
    bool named = token.kind == IMV_TOKEN_NAME || token.kind == IMV_TOKEN_QUOTED;
    if (named) token = imv_parser_after(parser, token);
    return token.kind == IMV_TOKEN_RPAREN || token.kind == IMV_TOKEN_COLON ||
           (named && (token.kind == IMV_TOKEN_LBRACE || token.kind == IMV_TOKEN_PARAMETER)) ||
           imv_token_is(parser->text, token, "WHERE");
}

bool imv_parser_path_at(const struct imv_parser *parser, struct imv_token token) {
    if (token.kind != IMV_TOKEN_LPAREN) return false;
    token = imv_parser_after(parser, token);
    if (!node_at(parser, token)) return false;
    token = closing(parser, token, IMV_TOKEN_LPAREN, IMV_TOKEN_RPAREN);
    return token.kind == IMV_TOKEN_RPAREN && relationship_at(parser, imv_parser_after(parser, token));
}

/* ---- labels ---- */

static const struct imv_label_expr *parse_label_or(struct imv_parser *parser, bool bar);

static struct imv_label_expr *new_label(struct imv_parser *parser, enum imv_label_expr_kind kind, uint32_t offset,
                                        const struct imv_label_expr *left, const struct imv_label_expr *right) {
    struct imv_label_expr *label = imv_parser_alloc(parser, 1, sizeof *label);
    if (label == NULL) return NULL;
    *label = (struct imv_label_expr){.kind = kind, .height = 1, .left = left, .right = right};
    label->span = imv_parser_span_from(parser, offset);
    if (left != NULL && left->height >= label->height) label->height = left->height + 1;
    if (right != NULL && right->height >= label->height) label->height = right->height + 1;
    if (label->height <= IMV_EXPR_HEIGHT_MAX) return label;
    return imv_parser_fail(parser, label->span, "NestingTooDeep", "more than %d labels in one expression",
                           IMV_EXPR_HEIGHT_MAX);
}

static const struct imv_label_expr *parse_label_name(struct imv_parser *parser) {
    struct imv_str name;
    struct imv_span span;
    if (!imv_parser_expect_name(parser, "a label", &name, &span)) return NULL;
    struct imv_label_expr *label = new_label(parser, IMV_LABEL_NAME, span.offset, NULL, NULL);
    if (label != NULL) label->name = name;
    return label;
}

static const struct imv_label_expr *parse_label_not(struct imv_parser *parser, bool bar) {
    uint32_t offset = parser->token.span.offset;
    const struct imv_label_expr *label = NULL;
    if (imv_parser_is(parser, IMV_TOKEN_PERCENT)) {
        imv_parser_advance(parser);
        return new_label(parser, IMV_LABEL_ANY, offset, NULL, NULL);
    }
    bool negated = imv_parser_is(parser, IMV_TOKEN_BANG), group = imv_parser_is(parser, IMV_TOKEN_LPAREN);
    if (!negated && !group) return parse_label_name(parser);
    if (imv_parser_enter(parser)) {
        imv_parser_advance(parser);
        label = negated ? parse_label_not(parser, bar) : parse_label_or(parser, true);
    }
    imv_parser_leave(parser);
    if (label == NULL) return NULL;
    if (negated) return new_label(parser, IMV_LABEL_NOT, offset, label, NULL);
    return imv_parser_expect(parser, IMV_TOKEN_RPAREN) ? label : NULL;
}

static const struct imv_label_expr *parse_label_and(struct imv_parser *parser, bool bar) {
    uint32_t offset = parser->token.span.offset;
    const struct imv_label_expr *left = parse_label_not(parser, bar);
    while (left != NULL && (imv_parser_is(parser, IMV_TOKEN_AMPERSAND) || imv_parser_is(parser, IMV_TOKEN_COLON))) {
        imv_parser_advance(parser);
        const struct imv_label_expr *right = parse_label_not(parser, bar);
        if (right == NULL) return NULL;
        left = new_label(parser, IMV_LABEL_AND, offset, left, right);
    }
    return left;
}

static const struct imv_label_expr *parse_label_or(struct imv_parser *parser, bool bar) {
    uint32_t offset = parser->token.span.offset;
    const struct imv_label_expr *left = parse_label_and(parser, bar);
    while (left != NULL && bar && imv_parser_is(parser, IMV_TOKEN_BAR)) {
        imv_parser_advance(parser);
        if (imv_parser_is(parser, IMV_TOKEN_COLON)) imv_parser_advance(parser); /* [:A|:B], the old form */
        const struct imv_label_expr *right = parse_label_and(parser, bar);
        if (right == NULL) return NULL;
        left = new_label(parser, IMV_LABEL_OR, offset, left, right);
    }
    return left;
}

const struct imv_label_expr *imv_parse_labels(struct imv_parser *parser, bool bar) {
    imv_parser_advance(parser);
    return parse_label_or(parser, bar);
}

/* ---- elements ---- */

/* What nodes and relationships share, before the closing bracket. */
struct element {
    struct imv_str *name;
    struct imv_span *name_span;
    const struct imv_label_expr **labels;
};

static bool parse_element_start(struct imv_parser *parser, struct element element) {
    if (imv_parser_is_name(parser) && !imv_parser_is_keyword(parser, "WHERE")) {
        if (!imv_parser_expect_name(parser, "a variable", element.name, element.name_span)) return false;
    } else {
        imv_parser_note(parser, "a variable");
    }
    if (!imv_parser_at(parser, IMV_TOKEN_COLON)) return true;
    *element.labels = imv_parse_labels(parser, true);
    return *element.labels != NULL;
}

static bool parse_element_end(struct imv_parser *parser, struct imv_expr **properties, struct imv_expr **where) {
    if (imv_parser_at(parser, IMV_TOKEN_LBRACE) || imv_parser_is(parser, IMV_TOKEN_PARAMETER)) {
        *properties = imv_parse_properties(parser);
        if (*properties == NULL) return false;
    }
    if (!imv_parser_accept_keyword(parser, "WHERE")) return true;
    *where = imv_parse_expression(parser);
    return *where != NULL;
}

static bool parse_node(struct imv_parser *parser, struct imv_pattern *pattern) {
    struct imv_node_pattern *node =
        imv_parser_append(parser, (void **)&pattern->nodes, &pattern->nodes_count, sizeof *node);
    uint32_t offset = parser->token.span.offset;
    if (node == NULL || !imv_parser_expect(parser, IMV_TOKEN_LPAREN)) return false;
    if (!parse_element_start(parser, (struct element){&node->name, &node->name_span, &node->labels}) ||
        !parse_element_end(parser, &node->properties, &node->where) || !imv_parser_expect(parser, IMV_TOKEN_RPAREN)) {
        return false;
    }
    node->span = imv_parser_span_from(parser, offset);
    return true;
}

static bool parse_hops(struct imv_parser *parser, int64_t *hops) {
    struct imv_span span = parser->token.span;
    const char *detail = imv_lex_integer(imv_span_text(parser->text, span), false, hops);
    if (detail != NULL) return imv_parser_fail(parser, span, detail, "the number of hops does not fit 64 bits");
    imv_parser_advance(parser);
    return true;
}

/* *, *2, *1.., *..3, *1..3 */
static bool parse_length(struct imv_parser *parser, struct imv_relationship_pattern *relationship) {
    relationship->hops_min = relationship->hops_max = -1;
    if (imv_parser_is(parser, IMV_TOKEN_DOTDOT)) {
        return imv_parser_fail(parser, parser->token.span, "InvalidRelationshipPattern",
                               "a range of hops starts with '*', as in *1..3");
    }
    if (!imv_parser_accept(parser, IMV_TOKEN_STAR)) return true;
    relationship->variable_length = true;
    if (imv_parser_is(parser, IMV_TOKEN_MINUS)) {
        return imv_parser_fail(parser, parser->token.span, "InvalidRelationshipPattern",
                               "the number of hops cannot be negative");
    }
    bool low = imv_parser_at(parser, IMV_TOKEN_INTEGER);
    if (low && !parse_hops(parser, &relationship->hops_min)) return false;
    if (!imv_parser_accept(parser, IMV_TOKEN_DOTDOT)) {
        relationship->hops_max = relationship->hops_min;
        return true;
    }
    return !imv_parser_at(parser, IMV_TOKEN_INTEGER) || parse_hops(parser, &relationship->hops_max);
}

static bool parse_relationship_detail(struct imv_parser *parser, struct imv_relationship_pattern *relationship) {
    imv_parser_advance(parser);
    struct element element = {&relationship->name, &relationship->name_span, &relationship->types};
    return parse_element_start(parser, element) && parse_length(parser, relationship) &&
           parse_element_end(parser, &relationship->properties, &relationship->where) &&
           imv_parser_expect(parser, IMV_TOKEN_RBRACKET);
}

static bool parse_relationship(struct imv_parser *parser, struct imv_pattern *pattern, uint32_t *count) {
    struct imv_relationship_pattern *relationship =
        imv_parser_append(parser, (void **)&pattern->relationships, count, sizeof *relationship);
    if (relationship == NULL) return false;
    relationship->hops_min = relationship->hops_max = -1;
    uint32_t offset = parser->token.span.offset;
    bool left = imv_parser_accept(parser, IMV_TOKEN_LESS);
    if (!imv_parser_expect(parser, IMV_TOKEN_MINUS)) return false;
    if (imv_parser_at(parser, IMV_TOKEN_LBRACKET) && !parse_relationship_detail(parser, relationship)) return false;
    if (!imv_parser_expect(parser, IMV_TOKEN_MINUS)) return false;
    bool right = imv_parser_accept(parser, IMV_TOKEN_GREATER);
    relationship->direction = left == right ? IMV_DIRECTION_EITHER : left ? IMV_DIRECTION_LEFT : IMV_DIRECTION_RIGHT;
    relationship->span = imv_parser_span_from(parser, offset);
    return true;
}

bool imv_parse_pattern(struct imv_parser *parser, struct imv_pattern *pattern) {
    uint32_t offset = parser->token.span.offset, relationships_count = 0;
    if (imv_parser_is_name(parser)) {
        if (!imv_parser_expect_name(parser, "a variable", &pattern->name, &pattern->name_span) ||
            !imv_parser_expect(parser, IMV_TOKEN_EQUAL)) {
            return false;
        }
    }
    if (!parse_node(parser, pattern)) return false;
    while (imv_parser_is(parser, IMV_TOKEN_MINUS) || imv_parser_is(parser, IMV_TOKEN_LESS)) {
        if (!parse_relationship(parser, pattern, &relationships_count) || !parse_node(parser, pattern)) return false;
    }
    pattern->span = imv_parser_span_from(parser, offset);
    return true;
}
