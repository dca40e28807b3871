/* parse.h - a statement's text in, its tree out.
 *
 * Recursive descent with precedence climbing for operators, over the tokens of lex.h; one token of lookahead, and a few
 * marked spots that look further or go back (see parse.c). grammar.ebnf says what is accepted. Depth of nesting,
 * heights of trees and the size of the text are bounded, so any bytes are safe to parse.
 *
 * A syntax error names what could have stood at the farthest place that the parser reached and what stands there.
 */
#pragma once

#include "query/ast.h"
#include "query/query.h"

/* Parses text into *statement, which lives in arena and refers to text: both must outlive it. IMV_INVALID with error
 * filled: the text is not a statement, or longer than IMV_QUERY_TEXT_BYTES_MAX; IMV_NO_MEMORY. Any thread. */
imv_status imv_parse(struct imv_str text, struct imv_arena *arena, struct imv_statement **statement,
                     struct imv_query_error *error);
