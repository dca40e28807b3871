/* error.h - how a statement's mistake is told: code, detail, sentence, place, snippet, suggestion.
 *
 *     SyntaxError / UndefinedVariable: variable `hots` is not defined
 *     line 1, column 25
 *     MATCH (host:cpu) RETURN hots.region
 *                             ^^^^
 *     did you mean 'host'?
 *
 * code and detail are the openCypher TCK's names where it has one. Lines end with LF; columns count code points, so an
 * editor finds the place. A long line is cut around the place and marked with "...". Any thread; no state.
 */
#pragma once

#include "query/ast.h"
#include "query/query.h"

/* Fills error (may be NULL) for a place in text and returns status, so that a failing branch is one line. code and
 * detail must be literals. The suggestion is cleared. */
imv_status imv_query_fail(struct imv_query_error *error, imv_status status, struct imv_str text, struct imv_span span,
                          const char *code, const char *detail, const char *format, ...)
    __attribute__((format(printf, 7, 8)));

/* As imv_query_fail, for a mistake without a place in the text: line and column are 0, the snippet is empty. */
imv_status imv_query_fail_nowhere(struct imv_query_error *error, imv_status status, const char *code,
                                  const char *detail, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* IMV_NO_MEMORY with its sentence. */
imv_status imv_query_fail_memory(struct imv_query_error *error);

/* Line and column (both from 1, column in code points) of a byte offset. */
void imv_text_place(struct imv_str text, uint32_t offset, int *line, int *column);

/* The best of many candidates for a misspelled name: smallest edit distance (Damerau-Levenshtein, ignoring ASCII case),
 * at most a third of the name's length and never more than 3; the first one wins a tie.
 *
 *     struct imv_suggester suggester;
 *     imv_suggester_init(&suggester, wanted);
 *     for (each known name) imv_suggester_offer(&suggester, name);
 *     imv_query_suggest(error, &suggester);
 *
 * Candidates must outlive the suggester. Names longer than 64 bytes are never suggested. */
struct imv_suggester {
    struct imv_str wanted;
    struct imv_str best;
    int distance; /* of best; one more than allowed while there is none */
};

void imv_suggester_init(struct imv_suggester *suggester, struct imv_str wanted);
void imv_suggester_offer(struct imv_suggester *suggester, struct imv_str candidate);

/* Writes "did you mean 'x'?" into error->suggestion, or leaves it empty when nothing was near. error may be NULL. */
void imv_query_suggest(struct imv_query_error *error, const struct imv_suggester *suggester);
