/* parse.c - see parse.h; the state of the parser, its errors, and the statement as a whole. */
#include "query/parse.h"

#include "query/parser.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- tokens ---- */

static void read_token(struct imv_parser *parser, uint32_t offset) {
    parser->token = imv_lex(parser->text, offset);
    parser->expected_count = 0;
    parser->expected_offset = parser->token.span.offset;
}

void imv_parser_advance(struct imv_parser *parser) {
    imv_assert(parser->token.kind != IMV_TOKEN_BAD);
    parser->last_end = parser->token.span.offset + parser->token.span.size;
    read_token(parser, parser->last_end);
}

struct imv_token imv_parser_after(const struct imv_parser *parser, struct imv_token token) {
    if (token.kind == IMV_TOKEN_BAD || token.kind == IMV_TOKEN_END) return token;
    return imv_lex(parser->text, token.span.offset + token.span.size);
}

struct imv_token imv_parser_peek(const struct imv_parser *parser) {
    return imv_parser_after(parser, parser->token);
}

bool imv_parser_is_keyword(const struct imv_parser *parser, const char *keyword) {
    return imv_token_is(parser->text, parser->token, keyword);
}

void imv_parser_note(struct imv_parser *parser, const char *what) {
    for (uint32_t i = 0; i < parser->expected_count; i++) {
        if (strcmp(parser->expected[i], what) == 0) return;
    }
    if (parser->expected_count < IMV_PARSER_EXPECTED_MAX) parser->expected[parser->expected_count++] = what;
}

bool imv_parser_at(struct imv_parser *parser, enum imv_token_kind kind) {
    if (parser->token.kind == kind) return true;
    imv_parser_note(parser, imv_token_kind_text(kind));
    return false;
}

bool imv_parser_at_keyword(struct imv_parser *parser, const char *keyword) {
    if (imv_parser_is_keyword(parser, keyword)) return true;
    imv_parser_note(parser, keyword);
    return false;
}

bool imv_parser_accept(struct imv_parser *parser, enum imv_token_kind kind) {
    if (!imv_parser_at(parser, kind)) return false;
    imv_parser_advance(parser);
    return true;
}

bool imv_parser_accept_keyword(struct imv_parser *parser, const char *keyword) {
    if (!imv_parser_at_keyword(parser, keyword)) return false;
    imv_parser_advance(parser);
    return true;
}

bool imv_parser_expect(struct imv_parser *parser, enum imv_token_kind kind) {
    return imv_parser_accept(parser, kind) || imv_parser_fail_expected(parser);
}

bool imv_parser_expect_keyword(struct imv_parser *parser, const char *keyword) {
    return imv_parser_accept_keyword(parser, keyword) || imv_parser_fail_expected(parser);
}

bool imv_parser_expect_key(struct imv_parser *parser, const char *what, struct imv_str *name, struct imv_span *span) {
    if (!imv_parser_is_name(parser)) {
        imv_parser_note(parser, what);
        return imv_parser_fail_expected(parser);
    }
    *span = parser->token.span;
    struct imv_str literal = imv_span_text(parser->text, *span);
    char *bytes = imv_parser_alloc(parser, literal.size, 1);
    if (bytes == NULL) return false;
    *name = (struct imv_str){bytes, imv_lex_name(literal, bytes)};
    imv_parser_advance(parser);
    return true;
}

bool imv_parser_expect_name(struct imv_parser *parser, const char *what, struct imv_str *name, struct imv_span *span) {
    if (!imv_parser_expect_key(parser, what, name, span)) return false;
    return name->size > 0 || imv_parser_fail(parser, *span, "UnexpectedSyntax", "the name of %s cannot be empty", what);
}

/* ---- errors ---- */

static void *fail(struct imv_parser *parser, imv_status status) {
    if (parser->status == IMV_OK) parser->status = status;
    return NULL;
}

void *imv_parser_fail(struct imv_parser *parser, struct imv_span span, const char *detail, const char *format, ...) {
    if (parser->status != IMV_OK) return NULL;
    char message[sizeof((struct imv_query_error *)NULL)->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return fail(parser,
                imv_query_fail(parser->error, IMV_INVALID, parser->text, span, "SyntaxError", detail, "%s", message));
}

void *imv_parser_fail_memory(struct imv_parser *parser) {
    if (parser->status != IMV_OK) return NULL;
    return fail(parser, imv_query_fail_memory(parser->error));
}

/* "'name'", cut when long; punctuation and the end by their own names. */
static void describe_token(const struct imv_parser *parser, char *to, size_t room) {
    enum { SHOWN_BYTES_MAX = 40 };
    struct imv_str text = imv_span_text(parser->text, parser->token.span);
    if (parser->token.kind == IMV_TOKEN_END || parser->token.kind >= IMV_TOKEN_LPAREN) {
        snprintf(to, room, "%s", imv_token_kind_text(parser->token.kind));
        return;
    }
    size_t size = text.size;
    if (size > SHOWN_BYTES_MAX) {
        size = SHOWN_BYTES_MAX;
        while (size > 0 && ((unsigned char)text.data[size] & 0xc0) == 0x80) size--;
    }
    bool quoted = parser->token.kind == IMV_TOKEN_STRING || parser->token.kind == IMV_TOKEN_QUOTED;
    const char *quote = quoted ? "" : "'";
    snprintf(to, room, "%s%.*s%s%s", quote, (int)size, text.data, size < text.size ? "..." : "", quote);
}

static void suggest_keyword(struct imv_parser *parser) {
    if (parser->token.kind != IMV_TOKEN_NAME) return;
    struct imv_suggester suggester;
    imv_suggester_init(&suggester, imv_span_text(parser->text, parser->token.span));
    for (uint32_t i = 0; i < parser->expected_count; i++) {
        char first = parser->expected[i][0];
        if (first >= 'A' && first <= 'Z') imv_suggester_offer(&suggester, imv_str_from(parser->expected[i]));
    }
    imv_query_suggest(parser->error, &suggester);
}

void *imv_parser_fail_expected(struct imv_parser *parser) {
    struct imv_token token = parser->token;
    if (token.kind == IMV_TOKEN_BAD) return imv_parser_fail(parser, token.span, token.detail, "%s", token.message);
    if (token.kind == IMV_TOKEN_BANG && imv_parser_peek(parser).kind == IMV_TOKEN_EQUAL) {
        return imv_parser_fail(parser, (struct imv_span){token.span.offset, 2}, "UnexpectedSyntax",
                               "'!=' is not an operator: unequal is '<>'");
    }
    char found[64], expected[320];
    size_t used = 0;
    describe_token(parser, found, sizeof found);
    for (uint32_t i = 0; i < parser->expected_count && used < sizeof expected; i++) {
        const char *separator = i == 0 ? "" : i + 1 == parser->expected_count ? " or " : ", ";
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%s", separator, parser->expected[i]);
    }
    if (parser->status != IMV_OK) return NULL;
    imv_assert(parser->expected_count > 0 && parser->expected_offset == token.span.offset);
    imv_parser_fail(parser, token.span, "UnexpectedSyntax", "expected %s, but found %s", expected, found);
    suggest_keyword(parser);
    return NULL;
}

bool imv_parser_enter(struct imv_parser *parser) {
    if (++parser->nesting <= IMV_QUERY_NESTING_MAX) return true;
    return imv_parser_fail(parser, parser->token.span, "NestingTooDeep", "nested deeper than %d levels",
                           IMV_QUERY_NESTING_MAX);
}

/* ---- memory ---- */

void *imv_parser_alloc(struct imv_parser *parser, size_t count, size_t size) {
    void *memory = imv_arena_calloc(parser->arena, count, size);
    return memory != NULL ? memory : imv_parser_fail_memory(parser);
}

void *imv_parser_append(struct imv_parser *parser, void **items, uint32_t *count, size_t element) {
    void *added = imv_ast_append(parser->arena, items, count, element);
    return added != NULL ? added : imv_parser_fail_memory(parser);
}

/* ---- the statement ---- */

static bool parse_prefix(struct imv_parser *parser) {
    if (imv_parser_accept_keyword(parser, "EXPLAIN")) {
        parser->statement->explain = IMV_EXPLAIN_PLAN;
    } else if (imv_parser_accept_keyword(parser, "PROFILE")) {
        parser->statement->explain = IMV_EXPLAIN_PROFILE;
    }
    return true;
}

static bool parse_branch(struct imv_parser *parser) {
    struct imv_statement *statement = parser->statement;
    struct imv_single_query *branch =
        imv_parser_append(parser, (void **)&statement->branches, &statement->branches_count, sizeof *branch);
    return branch != NULL && imv_parse_single_query(parser, branch, false);
}

static bool parse_union(struct imv_parser *parser) {
    struct imv_statement *statement = parser->statement;
    struct imv_span span = parser->token.span;
    imv_parser_advance(parser);
    const struct imv_single_query *before = &statement->branches[statement->branches_count - 1];
    if (imv_single_query_deletes(before)) {
        return imv_parser_fail(parser, span, "InvalidClauseComposition", "DELETE stands alone, not in a UNION");
    }
    bool all = imv_parser_accept_keyword(parser, "ALL");
    if (statement->branches_count == 1) {
        statement->union_all = all;
    } else if (all != statement->union_all) {
        return imv_parser_fail(parser, span, "InvalidClauseComposition",
                               "UNION and UNION ALL cannot be mixed in one statement");
    }
    if (!parse_branch(parser)) return false;
    if (!imv_single_query_deletes(&statement->branches[statement->branches_count - 1])) return true;
    return imv_parser_fail(parser, span, "InvalidClauseComposition", "DELETE stands alone, not in a UNION");
}

static bool parse_statement(struct imv_parser *parser) {
    if (!parse_prefix(parser) || !parse_branch(parser)) return false;
    while (imv_parser_at_keyword(parser, "UNION")) {
        if (!parse_union(parser)) return false;
    }
    while (imv_parser_is(parser, IMV_TOKEN_SEMICOLON)) imv_parser_advance(parser);
    return imv_parser_at(parser, IMV_TOKEN_END) || imv_parser_fail_expected(parser);
}

/* The first byte that makes the text no UTF-8: the longest valid prefix ends there. */
static uint32_t invalid_at(struct imv_str text) {
    uint32_t at = 0;
    while (at < text.size) {
        unsigned char lead = (unsigned char)text.data[at];
        uint32_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (size > text.size - at || !imv_utf8_valid((struct imv_str){text.data + at, size})) break;
        at += size;
    }
    return at;
}

static imv_status check_text(struct imv_str text, struct imv_query_error *error) {
    if (text.size > IMV_QUERY_TEXT_BYTES_MAX) {
        return imv_query_fail_nowhere(error, IMV_INVALID, "SyntaxError", "QueryTooLong",
                                      "the query has %zu bytes, the limit is %d", text.size, IMV_QUERY_TEXT_BYTES_MAX);
    }
    if (!imv_utf8_valid(text)) {
        return imv_query_fail(error, IMV_INVALID, text, (struct imv_span){invalid_at(text), 1}, "SyntaxError",
                              "InvalidUnicodeCharacter", "the query is not valid UTF-8");
    }
    return IMV_OK;
}

imv_status imv_parse(struct imv_str text, struct imv_arena *arena, struct imv_statement **statement,
                     struct imv_query_error *error) {
    IMV_TRY(check_text(text, error));
    struct imv_parser parser = {.text = text, .arena = arena, .error = error};
    parser.statement = imv_parser_alloc(&parser, 1, sizeof *parser.statement);
    if (parser.statement == NULL) return parser.status;
    parser.statement->arena = arena;
    parser.statement->text = text;
    read_token(&parser, 0);
    if (!parse_statement(&parser)) {
        imv_assert(parser.status != IMV_OK);
        return parser.status;
    }
    *statement = parser.statement;
    return IMV_OK;
}
