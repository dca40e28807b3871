/* parse_clause.c - clauses, and the query that they make up. */
#include "query/parser.h"

#include "storage/base/assert.h"

/* ---- MATCH ---- */

static bool parse_where(struct imv_parser *parser, struct imv_expr **where) {
    if (!imv_parser_accept_keyword(parser, "WHERE")) return true;
    *where = imv_parse_expression(parser);
    return *where != NULL;
}

static bool parse_match(struct imv_parser *parser, struct imv_clause *clause) {
    struct imv_match *match = &clause->match;
    do {
        struct imv_pattern *pattern =
            imv_parser_append(parser, (void **)&match->patterns, &match->patterns_count, sizeof *pattern);
        if (pattern == NULL || !imv_parse_pattern(parser, pattern)) return false;
    } while (imv_parser_accept(parser, IMV_TOKEN_COMMA));
    return parse_where(parser, &match->where);
}

static bool parse_optional(struct imv_parser *parser, struct imv_clause *clause) {
    clause->match.optional = true;
    return imv_parser_expect_keyword(parser, "MATCH") && parse_match(parser, clause);
}

/* ---- samples and windows ---- */

static bool parse_alias(struct imv_parser *parser, struct imv_str *name, struct imv_span *span) {
    if (!imv_parser_accept_keyword(parser, "AS")) return true;
    return imv_parser_expect_name(parser, "a variable", name, span);
}

static bool parse_bound(struct imv_parser *parser, const char *keyword, struct imv_expr **bound) {
    if (!imv_parser_accept_keyword(parser, keyword)) return true;
    *bound = imv_parse_expression(parser);
    return *bound != NULL;
}

static bool parse_samples(struct imv_parser *parser, struct imv_clause *clause) {
    struct imv_samples *samples = &clause->samples;
    if (!imv_parser_expect_keyword(parser, "OF")) return false;
    samples->source = imv_parse_property_path(parser);
    return samples->source != NULL && parse_alias(parser, &samples->name, &samples->name_span) &&
           parse_bound(parser, "FROM", &samples->from) && parse_bound(parser, "TO", &samples->to);
}

static bool parse_fill(struct imv_parser *parser, struct imv_window *window) {
    static const struct {
        const char *keyword;
        enum imv_fill fill;
    } fills[] = {{"NULL", IMV_FILL_NULL}, {"PREV", IMV_FILL_PREVIOUS}, {"LINEAR", IMV_FILL_LINEAR}};
    if (!imv_parser_accept_keyword(parser, "FILL")) return true;
    for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++) {
        if (imv_parser_accept_keyword(parser, fills[i].keyword)) {
            window->fill = fills[i].fill;
            return true;
        }
    }
    window->fill = IMV_FILL_VALUE;
    window->fill_value = imv_parse_expression(parser);
    return window->fill_value != NULL;
}

static bool parse_window(struct imv_parser *parser, struct imv_clause *clause) {
    struct imv_window *window = &clause->window;
    window->width = imv_parse_expression(parser);
    return window->width != NULL && parse_alias(parser, &window->name, &window->name_span) &&
           parse_fill(parser, window);
}

/* ---- FILTER, LET, UNWIND ---- */

static bool parse_filter(struct imv_parser *parser, struct imv_clause *clause) {
    clause->filter = imv_parse_expression(parser);
    return clause->filter != NULL;
}

static bool parse_let(struct imv_parser *parser, struct imv_clause *clause) {
    do {
        struct imv_let *let = imv_parser_append(parser, (void **)&clause->lets, &clause->lets_count, sizeof *let);
        if (let == NULL || !imv_parser_expect_name(parser, "a variable", &let->name, &let->name_span) ||
            !imv_parser_expect(parser, IMV_TOKEN_EQUAL)) {
            return false;
        }
        let->value = imv_parse_expression(parser);
        if (let->value == NULL) return false;
    } while (imv_parser_accept(parser, IMV_TOKEN_COMMA));
    return true;
}

static bool parse_unwind(struct imv_parser *parser, struct imv_clause *clause) {
    struct imv_unwind *unwind = &clause->unwind;
    unwind->list = imv_parse_expression(parser);
    return unwind->list != NULL && imv_parser_expect_keyword(parser, "AS") &&
           imv_parser_expect_name(parser, "a variable", &unwind->name, &unwind->name_span);
}

/* ---- CALL ---- */

static bool parse_yield(struct imv_parser *parser, struct imv_procedure_call *call) {
    struct imv_yield *yield = imv_parser_append(parser, (void **)&call->yields, &call->yields_count, sizeof *yield);
    if (yield == NULL || !imv_parser_expect_name(parser, "a column", &yield->column, &yield->column_span)) return false;
    yield->name = yield->column;
    yield->name_span = yield->column_span;
    return parse_alias(parser, &yield->name, &yield->name_span);
}

/* YIELD * is as good as none. */
static bool parse_call(struct imv_parser *parser, struct imv_clause *clause) {
    struct imv_procedure_call *call = &clause->call;
    call->call = imv_parse_procedure(parser);
    if (call->call == NULL) return false;
    if (call->call->call.star || call->call->call.distinct) {
        return imv_parser_fail(parser, call->call->span, "UnexpectedSyntax", "a procedure takes values");
    }
    if (!imv_parser_accept_keyword(parser, "YIELD")) return true;
    if (imv_parser_accept(parser, IMV_TOKEN_STAR)) return parse_where(parser, &call->where);
    do {
        if (!parse_yield(parser, call)) return false;
    } while (imv_parser_accept(parser, IMV_TOKEN_COMMA));
    return parse_where(parser, &call->where);
}

/* A CALL alone returns what it yields. */
static bool ends_with_call(const struct imv_parser *parser, const struct imv_single_query *query) {
    return query->clauses_count == 1 && query->clauses[0].kind == IMV_CLAUSE_CALL &&
           (imv_parser_is(parser, IMV_TOKEN_END) || imv_parser_is(parser, IMV_TOKEN_SEMICOLON));
}

static bool add_return(struct imv_parser *parser, struct imv_single_query *query) {
    struct imv_clause *clause =
        imv_parser_append(parser, (void **)&query->clauses, &query->clauses_count, sizeof *clause);
    if (clause == NULL) return false;
    *clause = (struct imv_clause){.kind = IMV_CLAUSE_RETURN, .span = query->clauses[0].span};
    clause->projection.star = true;
    return true;
}

/* ---- WITH and RETURN ---- */

static bool parse_item(struct imv_parser *parser, struct imv_projection *projection) {
    struct imv_projection_item *item =
        imv_parser_append(parser, (void **)&projection->items, &projection->items_count, sizeof *item);
    if (item == NULL) return false;
    uint32_t offset = parser->token.span.offset;
    item->expr = imv_parse_expression(parser);
    if (item->expr == NULL) return false;
    struct imv_span written = imv_parser_span_from(parser, offset);
    if (imv_parser_accept_keyword(parser, "AS")) {
        item->aliased = true;
        return imv_parser_expect_name(parser, "a column", &item->name, &item->name_span);
    }
    item->name_span = written;
    /* A variable names its column without the backticks, anything else by its exact text. */
    item->name =
        item->expr->kind == IMV_EXPR_VARIABLE ? item->expr->variable.name : imv_span_text(parser->text, written);
    return true;
}

static bool parse_items(struct imv_parser *parser, struct imv_projection *projection) {
    if (imv_parser_accept(parser, IMV_TOKEN_STAR)) {
        projection->star = true;
        if (!imv_parser_accept(parser, IMV_TOKEN_COMMA)) return true;
    }
    do {
        if (!parse_item(parser, projection)) return false;
    } while (imv_parser_accept(parser, IMV_TOKEN_COMMA));
    return true;
}

static bool parse_direction(struct imv_parser *parser, struct imv_sort_key *key) {
    if (imv_parser_accept_keyword(parser, "DESC") || imv_parser_accept_keyword(parser, "DESCENDING")) {
        key->descending = true;
    } else if (!imv_parser_accept_keyword(parser, "ASC")) {
        imv_parser_accept_keyword(parser, "ASCENDING");
    }
    return true;
}

static bool parse_order(struct imv_parser *parser, struct imv_projection *projection) {
    if (!imv_parser_accept_keyword(parser, "ORDER")) return true;
    if (!imv_parser_expect_keyword(parser, "BY")) return false;
    do {
        struct imv_sort_key *key =
            imv_parser_append(parser, (void **)&projection->sort_keys, &projection->sort_keys_count, sizeof *key);
        if (key == NULL) return false;
        key->expr = imv_parse_expression(parser);
        if (key->expr == NULL || !parse_direction(parser, key)) return false;
    } while (imv_parser_accept(parser, IMV_TOKEN_COMMA));
    return true;
}

static bool parse_projection(struct imv_parser *parser, struct imv_projection *projection) {
    if (imv_parser_is_keyword(parser, "DISTINCT")) {
        imv_parser_advance(parser);
        projection->distinct = true;
    }
    return parse_items(parser, projection) && parse_order(parser, projection) &&
           parse_bound(parser, "SKIP", &projection->skip) && parse_bound(parser, "LIMIT", &projection->limit);
}

static bool parse_return(struct imv_parser *parser, struct imv_clause *clause) {
    return parse_projection(parser, &clause->projection);
}

static bool parse_with(struct imv_parser *parser, struct imv_clause *clause) {
    return parse_projection(parser, &clause->projection) && parse_where(parser, &clause->projection.where);
}

/* ---- DELETE ---- */

static bool parse_range(struct imv_parser *parser, struct imv_samples *samples) {
    if (imv_parser_accept_keyword(parser, "ALL")) return true;
    if (!parse_bound(parser, "FROM", &samples->from) || !parse_bound(parser, "TO", &samples->to)) return false;
    /* Nothing at all is not taken for everything: a statement cut short must not delete more than the whole one. */
    return samples->from != NULL || samples->to != NULL || imv_parser_fail_expected(parser);
}

static bool parse_delete(struct imv_parser *parser, struct imv_clause *clause) {
    struct imv_samples *samples = &clause->samples;
    if (!imv_parser_at_keyword(parser, "SAMPLES")) {
        return imv_parser_fail(parser, parser->token.span, "UnsupportedFeature",
                               "only samples can be deleted, as in DELETE SAMPLES OF h TO '2026-01-01T00:00:00Z'");
    }
    imv_parser_advance(parser);
    if (!imv_parser_expect_keyword(parser, "OF")) return false;
    samples->source = imv_parse_property_path(parser);
    if (samples->source == NULL) return false;
    if (samples->source->kind != IMV_EXPR_VARIABLE) {
        return imv_parser_fail(parser, samples->source->span, "UnsupportedFeature",
                               "samples are deleted with all their values: DELETE SAMPLES OF takes a twin");
    }
    return parse_range(parser, samples);
}

/* The result of a deletion: RETURN count(DISTINCT h) AS twins. */
static bool add_deletion_result(struct imv_parser *parser, struct imv_single_query *query) {
    const struct imv_expr *twin = query->clauses[query->clauses_count - 1].samples.source;
    struct imv_clause *clause =
        imv_parser_append(parser, (void **)&query->clauses, &query->clauses_count, sizeof *clause);
    if (clause == NULL) return false;
    clause->kind = IMV_CLAUSE_RETURN;
    clause->span = twin->span;
    struct imv_projection_item *item =
        imv_parser_append(parser, (void **)&clause->projection.items, &clause->projection.items_count, sizeof *item);
    struct imv_expr *count = imv_parser_alloc(parser, 1, sizeof *count),
                    *variable = imv_parser_alloc(parser, 1, sizeof *variable);
    struct imv_expr **arguments = imv_parser_alloc(parser, 1, sizeof *arguments);
    if (item == NULL || count == NULL || variable == NULL || arguments == NULL) return false;
    *variable = *twin;
    arguments[0] = variable;
    *count = (struct imv_expr){.kind = IMV_EXPR_CALL, .span = twin->span, .height = twin->height + 1};
    count->call.name = IMV_STR("count");
    count->call.name_span = twin->span;
    count->call.arguments = arguments;
    count->call.count = 1;
    count->call.distinct = true;
    *item = (struct imv_projection_item){.expr = count, .name = IMV_STR("twins"), .aliased = true};
    item->name_span = twin->span;
    return true;
}

/* ---- queries ---- */

/* A clause starts with its word. To add one: a row here, a kind in ast.h, a case in bind.c, a rule in grammar.ebnf. */
static const struct clause_rule {
    const char *keyword;
    enum imv_clause_kind kind;
    bool (*parse)(struct imv_parser *parser, struct imv_clause *clause);
} clause_rules[] = {
    {"MATCH", IMV_CLAUSE_MATCH, parse_match},       {"OPTIONAL", IMV_CLAUSE_MATCH, parse_optional},
    {"SAMPLES", IMV_CLAUSE_SAMPLES, parse_samples}, {"WINDOW", IMV_CLAUSE_WINDOW, parse_window},
    {"FILTER", IMV_CLAUSE_FILTER, parse_filter},    {"LET", IMV_CLAUSE_LET, parse_let},
    {"UNWIND", IMV_CLAUSE_UNWIND, parse_unwind},    {"CALL", IMV_CLAUSE_CALL, parse_call},
    {"WITH", IMV_CLAUSE_WITH, parse_with},          {"RETURN", IMV_CLAUSE_RETURN, parse_return},
    {"DELETE", IMV_CLAUSE_DELETE, parse_delete},
};

static const struct clause_rule *find_clause(struct imv_parser *parser) {
    for (size_t i = 0; i < sizeof clause_rules / sizeof clause_rules[0]; i++) {
        if (imv_parser_at_keyword(parser, clause_rules[i].keyword)) return &clause_rules[i];
    }
    return NULL;
}

/* Words that start a clause elsewhere deserve a better answer than "expected ..". */
static bool refuse_foreign_clause(struct imv_parser *parser) {
    static const char *const updates[] = {"CREATE", "MERGE", "SET", "DETACH", "REMOVE", "FOREACH", "INSERT"};
    static const char *const others[] = {"LOAD", "SUBSCRIBE", "APPEND", "DROP", "USE", "START"};
    struct imv_span span = parser->token.span;
    for (size_t i = 0; i < sizeof updates / sizeof updates[0]; i++) {
        if (!imv_parser_is_keyword(parser, updates[i])) continue;
        return imv_parser_fail(parser, span, "UnsupportedFeature",
                               "%s is not available: queries only read; twins and samples come in as points",
                               updates[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (!imv_parser_is_keyword(parser, others[i])) continue;
        return imv_parser_fail(parser, span, "UnsupportedFeature", "%s is not available", others[i]);
    }
    return true;
}

static bool parse_clause(struct imv_parser *parser, const struct clause_rule *rule, struct imv_clause *clause) {
    uint32_t offset = parser->token.span.offset;
    clause->kind = rule->kind;
    imv_parser_advance(parser);
    if (!rule->parse(parser, clause)) return false;
    clause->span = imv_parser_span_from(parser, offset);
    return true;
}

bool imv_parse_single_query(struct imv_parser *parser, struct imv_single_query *query, bool in_braces) {
    uint32_t offset = parser->token.span.offset;
    for (;;) {
        const struct clause_rule *rule = find_clause(parser);
        if (rule == NULL) {
            if (!refuse_foreign_clause(parser)) return false;
            bool may_end = in_braces && query->clauses_count > 0 && imv_parser_at(parser, IMV_TOKEN_RBRACE);
            if (!may_end) return imv_parser_fail_expected(parser);
            break;
        }
        struct imv_clause *clause =
            imv_parser_append(parser, (void **)&query->clauses, &query->clauses_count, sizeof *clause);
        if (clause == NULL || !parse_clause(parser, rule, clause)) return false;
        if (rule->kind == IMV_CLAUSE_RETURN) break;
        if (rule->kind == IMV_CLAUSE_DELETE) {
            if (in_braces) {
                return imv_parser_fail(parser, clause->span, "InvalidClauseComposition", "EXISTS only reads");
            }
            if (!add_deletion_result(parser, query)) return false;
            break;
        }
        if (!in_braces && ends_with_call(parser, query)) {
            if (!add_return(parser, query)) return false;
            break;
        }
    }
    query->span = imv_parser_span_from(parser, offset);
    return true;
}
