/* parser.h - the state that the parser's files share; nobody else includes it.
 *
 * parse.c has the state, the tokens, the errors and the statement; parse_clause.c clauses; parse_pattern.c patterns and
 * label expressions; parse_expression.c expressions. A function imv_parse_<rule> reads one rule of grammar.ebnf,
 * starting at the current token and ending on the first one after it. It returns NULL or false after an error, which is
 * then in parser->error; the caller just passes it on.
 *
 * Expected sets: every test for a token that fails is noted (imv_parser_at and friends) as long as the parser stays on
 * the same token; when it gives up there, the notes are what could have stood there. Operators are looked at without a
 * note: a list of all of them after each expression would help nobody.
 */
#pragma once

#include "query/ast.h"
#include "query/error.h"
#include "query/lex.h"

enum { IMV_PARSER_EXPECTED_MAX = 24 };

struct imv_parser {
    struct imv_str text;
    struct imv_arena *arena;
    struct imv_statement *statement;
    struct imv_query_error *error;
    imv_status status; /* of the first error */
    struct imv_token token;
    uint32_t last_end; /* of the token before */
    int nesting;
    uint32_t tallest;  /* height of the tallest expression since the caller last cleared it */
    bool bar_is_taken; /* inside [x IN list WHERE ..| ..]: a bar ends the condition and is no label disjunction */
    const char *expected[IMV_PARSER_EXPECTED_MAX];
    uint32_t expected_count;
    uint32_t expected_offset; /* the token that the notes are about */
};

/* ---- tokens ---- */

/* Makes the token after the current one current. */
void imv_parser_advance(struct imv_parser *parser);
/* The token after this one; END and BAD are followed by themselves. */
struct imv_token imv_parser_after(const struct imv_parser *parser, struct imv_token token);
/* The token after the current one. */
struct imv_token imv_parser_peek(const struct imv_parser *parser);

/* Is the current token this? Without a note. */
static inline bool imv_parser_is(const struct imv_parser *parser, enum imv_token_kind kind) {
    return parser->token.kind == kind;
}
/* Is the current token this keyword (upper case)? Without a note. */
bool imv_parser_is_keyword(const struct imv_parser *parser, const char *keyword);

/* The same, noting it as expected when it is not there. */
bool imv_parser_at(struct imv_parser *parser, enum imv_token_kind kind);
bool imv_parser_at_keyword(struct imv_parser *parser, const char *keyword);

/* Goes past the token when it is there; notes it when not. */
bool imv_parser_accept(struct imv_parser *parser, enum imv_token_kind kind);
bool imv_parser_accept_keyword(struct imv_parser *parser, const char *keyword);

/* As accept, but its absence is an error. */
bool imv_parser_expect(struct imv_parser *parser, enum imv_token_kind kind);
bool imv_parser_expect_keyword(struct imv_parser *parser, const char *keyword);

/* Notes what could stand here: "an expression", "WHERE". Upper-case words take part in suggestions. */
void imv_parser_note(struct imv_parser *parser, const char *what);

/* Any name, also one that is a keyword elsewhere; `what` is what it names ("a variable"). A key (of a map, a property)
 * may be the empty name ``, a name may not. */
bool imv_parser_expect_name(struct imv_parser *parser, const char *what, struct imv_str *name, struct imv_span *span);
bool imv_parser_expect_key(struct imv_parser *parser, const char *what, struct imv_str *name, struct imv_span *span);
static inline bool imv_parser_is_name(const struct imv_parser *parser) {
    return imv_parser_is(parser, IMV_TOKEN_NAME) || imv_parser_is(parser, IMV_TOKEN_QUOTED);
}

/* ---- errors ---- */

/* Gives up at the current token: "expected .., but found ..". Returns NULL. */
void *imv_parser_fail_expected(struct imv_parser *parser);
/* Gives up at a span with a sentence. Returns NULL. The first error wins. */
void *imv_parser_fail(struct imv_parser *parser, struct imv_span span, const char *detail, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void *imv_parser_fail_memory(struct imv_parser *parser);

/* One level deeper; false with an error at IMV_QUERY_NESTING_MAX. Leave also after errors. */
bool imv_parser_enter(struct imv_parser *parser);
static inline void imv_parser_leave(struct imv_parser *parser) { parser->nesting--; }

/* ---- memory ---- */

/* Zeroed; NULL with the error set. */
void *imv_parser_alloc(struct imv_parser *parser, size_t count, size_t size);

/* imv_ast_append; NULL with the error set. */
void *imv_parser_append(struct imv_parser *parser, void **items, uint32_t *count, size_t element);

/* From a start to the end of the last token read. */
static inline struct imv_span imv_parser_span_from(const struct imv_parser *parser, uint32_t offset) {
    uint32_t end = parser->last_end;
    return (struct imv_span){offset, end > offset ? end - offset : 0};
}

/* ---- rules ---- */

struct imv_expr *imv_parse_expression(struct imv_parser *parser);
/* name(arguments), the parentheses being optional: what CALL takes. */
struct imv_expr *imv_parse_procedure(struct imv_parser *parser);
/* An atom with property lookups only: what SAMPLES OF takes. */
struct imv_expr *imv_parse_property_path(struct imv_parser *parser);
/* A map literal or a parameter: the properties of a pattern element. */
struct imv_expr *imv_parse_properties(struct imv_parser *parser);

/* At ':': :A, :A:B, :A|B, :!A&(B|C). bar: a bar means or. */
const struct imv_label_expr *imv_parse_labels(struct imv_parser *parser, bool bar);
bool imv_parse_pattern(struct imv_parser *parser, struct imv_pattern *pattern);
/* Does a pattern with a relationship start at this token, not an expression in parentheses? It reads on to the closing
 * parenthesis: (a) is a pattern when --, -[ or <- follows. */
bool imv_parser_path_at(const struct imv_parser *parser, struct imv_token token);

/* Clauses up to the first token that starts none. in_braces: of EXISTS { .. }, where RETURN may be absent. */
bool imv_parse_single_query(struct imv_parser *parser, struct imv_single_query *query, bool in_braces);
