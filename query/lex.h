/* lex.h - the tokens of TwinQL.
 *
 * imv_lex is a pure function from (text, offset) to the next token, so that looking ahead or going back costs nothing
 * but lexing again. Blanks (Unicode ones too) and comments (// to the end of the line, slash-star to star-slash)
 * separate tokens.
 *
 * There are no keyword tokens: keywords are names in a certain place, whatever their case, so a variable may be called
 * `window` or `end`. A token that is malformed comes as IMV_TOKEN_BAD with the reason; the parser reports it only when
 * it gets there.
 */
#pragma once

#include "query/ast.h"
#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum imv_token_kind {
    IMV_TOKEN_END,
    IMV_TOKEN_BAD,
    IMV_TOKEN_NAME,      /* letters, digits, underscores of any script; maybe a keyword */
    IMV_TOKEN_QUOTED,    /* `name`, a doubled backtick stands for one; never a keyword */
    IMV_TOKEN_STRING,    /* '..' or ".." with escapes, quotes included */
    IMV_TOKEN_INTEGER,   /* 12, 0x1f, 0o17 */
    IMV_TOKEN_FLOAT,     /* 1.5, .5, 1e9 */
    IMV_TOKEN_DURATION,  /* 250ms: digits and one of ns us ms s m h d w */
    IMV_TOKEN_PARAMETER, /* $name, $1, $`name` */
    IMV_TOKEN_LPAREN,
    IMV_TOKEN_RPAREN,
    IMV_TOKEN_LBRACKET,
    IMV_TOKEN_RBRACKET,
    IMV_TOKEN_LBRACE,
    IMV_TOKEN_RBRACE,
    IMV_TOKEN_COMMA,
    IMV_TOKEN_SEMICOLON,
    IMV_TOKEN_COLON,
    IMV_TOKEN_DOT,
    IMV_TOKEN_DOTDOT,
    IMV_TOKEN_EQUAL,
    IMV_TOKEN_NOT_EQUAL, /* <> */
    IMV_TOKEN_LESS,
    IMV_TOKEN_LESS_EQUAL,
    IMV_TOKEN_GREATER,
    IMV_TOKEN_GREATER_EQUAL,
    IMV_TOKEN_MATCHES, /* =~ */
    IMV_TOKEN_PLUS,
    IMV_TOKEN_MINUS,
    IMV_TOKEN_STAR,
    IMV_TOKEN_SLASH,
    IMV_TOKEN_PERCENT,
    IMV_TOKEN_CARET,
    IMV_TOKEN_BAR,
    IMV_TOKEN_BARBAR,
    IMV_TOKEN_AMPERSAND,
    IMV_TOKEN_BANG,
};

struct imv_token {
    enum imv_token_kind kind;
    struct imv_span span;
    const char *detail;  /* BAD: the TCK's detail, a literal */
    const char *message; /* BAD: what is wrong, a literal sentence that follows the token's place */
};

/* The first token at or after offset (at most text.size, which is below 4 GiB). Any thread. */
struct imv_token imv_lex(struct imv_str text, uint32_t offset);

/* True when the token is a NAME equal to keyword (upper case ASCII), in any case. */
bool imv_token_is(struct imv_str text, struct imv_token token, const char *keyword);

/* Where an expression must start, some words are taken for the keyword that they are and never for a variable, so that
 * a missing expression is noticed where it is missing. All others, also END and LIMIT, may be variables. Any case. */
bool imv_lex_reserved(struct imv_str word);

/* How a token is called in a message: "')'", "'name'", "end of query". */
const char *imv_token_kind_text(enum imv_token_kind kind);

/* What a literal token stands for. Each is given the token's exact text. The functions that can fail for the text's
 * sake return a detail (a literal such as "IntegerOverflow") and leave *out alone; NULL is success.
 *
 * imv_lex_integer: negative says that a minus stands before it (-9223372036854775808 has no positive counterpart). */
const char *imv_lex_integer(struct imv_str literal, bool negative, int64_t *out);
const char *imv_lex_float(struct imv_str literal, double *out);
const char *imv_lex_duration(struct imv_str literal, int64_t *out_ns);
/* Resolves escapes into `to`, which has room for literal.size bytes, and returns the size. *bad is the span of an
 * escape that means nothing, relative to the literal (size 0: none). A wrong \u gives detail InvalidUnicodeLiteral. */
const char *imv_lex_string(struct imv_str literal, char *to, size_t *size, struct imv_span *bad);
/* Of a NAME, QUOTED or PARAMETER: without $ and backticks. `to` has room for literal.size bytes. */
size_t imv_lex_name(struct imv_str literal, char *to);
