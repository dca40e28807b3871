/* regex.h - the operator =~ over PCRE2, with limits.
 *
 * The whole string must match, as in openCypher. Patterns are UTF-8; matching counts steps and gives up at a limit, so
 * that a pattern made to backtrack for ever ends in an error instead. A constant pattern is compiled once per
 * statement.
 */
#pragma once

#include "query/fn/functions.h"

struct imv_regex;

/* Compiles a pattern; ArgumentError / InvalidRegex when it is none. free with imv_regex_free (NULL is allowed). */
imv_status imv_regex_new(struct imv_call *call, struct imv_str pattern, struct imv_regex **regex);
void imv_regex_free(struct imv_regex *regex);

imv_status imv_regex_match(struct imv_call *call, const struct imv_regex *regex, struct imv_str text, bool *matches);

/* Gives the regex to the statement, which frees all that it has when it ends. */
void imv_regex_keep(struct imv_exec *exec, struct imv_regex *regex);
void imv_regexes_free(struct imv_exec *exec);
