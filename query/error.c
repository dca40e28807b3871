/* error.c - see error.h. */
#include "query/error.h"

#include "storage/base/assert.h"
#include "storage/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    /* The source line and the caret line, with "..." on both sides, fit the 256 bytes of a snippet. */
    SNIPPET_COLUMNS_MAX = 72,
    SNIPPET_LINE_BYTES_MAX = 150,
    SUGGESTION_BYTES_MAX = 64,
    SUGGESTION_DISTANCE_MAX = 3,
};

static bool starts_code_point(char byte) { return ((unsigned char)byte & 0xc0) != 0x80; }

void imv_text_place(struct imv_str text, uint32_t offset, int *line, int *column) {
    *line = 1;
    *column = 1;
    for (uint32_t i = 0; i < offset && i < text.size; i++) {
        if (text.data[i] == '\n') {
            (*line)++;
            *column = 1;
        } else if (starts_code_point(text.data[i])) {
            (*column)++;
        }
    }
}

/* The byte `count` code points before `at`, not before `from`. */
static size_t step_back(struct imv_str text, size_t at, size_t from, int count) {
    while (count > 0 && at > from) {
        at--;
        if (starts_code_point(text.data[at])) count--;
    }
    return at;
}

static size_t step_on(struct imv_str text, size_t at, size_t to, int count) {
    while (count > 0 && at < to) {
        at++;
        while (at < to && !starts_code_point(text.data[at])) at++;
        count--;
    }
    return at;
}

static int code_points(struct imv_str text, size_t from, size_t to) {
    int count = 0;
    for (size_t i = from; i < to; i++) count += starts_code_point(text.data[i]);
    return count;
}

/* Writes at most room - 1 bytes of a piece; control characters become blanks: the caret stays below its place. */
static size_t put(char *to, size_t at, size_t room, const char *bytes, size_t size) {
    for (size_t i = 0; i < size && at + 1 < room; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        to[at++] = byte < 0x20 || byte == 0x7f ? ' ' : bytes[i];
    }
    return at;
}

static void make_snippet(struct imv_query_error *error, struct imv_str text, struct imv_span span) {
    size_t at = span.offset < text.size ? span.offset : text.size;
    size_t line_start = at, line_end = at;
    while (line_start > 0 && text.data[line_start - 1] != '\n') line_start--;
    while (line_end < text.size && text.data[line_end] != '\n' && text.data[line_end] != '\r') line_end++;
    size_t from = step_back(text, at, line_start, SNIPPET_COLUMNS_MAX / 2);
    size_t to = step_on(text, from, line_end, SNIPPET_COLUMNS_MAX);
    if (to - from > SNIPPET_LINE_BYTES_MAX) {
        from = step_back(text, at, line_start, SNIPPET_LINE_BYTES_MAX / 12);
        to = step_on(text, from, line_end, SNIPPET_LINE_BYTES_MAX / 4);
    }
    /* A text that is not UTF-8 is not repeated to the client. */
    if (!imv_utf8_valid((struct imv_str){text.data + from, to - from})) return;

    char *snippet = error->snippet;
    size_t room = sizeof error->snippet, used = 0;
    const char *ellipsis = "...";
    if (from > line_start) used = put(snippet, used, room, ellipsis, 3);
    used = put(snippet, used, room, text.data + from, to - from);
    if (to < line_end) used = put(snippet, used, room, ellipsis, 3);
    imv_assert(used + 1 < room);
    snippet[used++] = '\n';
    int before = code_points(text, from, at) + (from > line_start ? 3 : 0);
    size_t span_end = span.offset + (size_t)span.size < to ? span.offset + (size_t)span.size : to;
    int carets = span_end > at ? code_points(text, at, span_end) : 0;
    if (carets < 1) carets = 1;
    while (before-- > 0 && used + 2 < room) snippet[used++] = ' ';
    while (carets-- > 0 && used + 1 < room) snippet[used++] = '^';
    snippet[used] = '\0';
}

static void fill(struct imv_query_error *error, const char *code, const char *detail, const char *format,
                 va_list arguments) {
    *error = (struct imv_query_error){.code = code, .detail = detail};
    int size = vsnprintf(error->message, sizeof error->message, format, arguments);
    if (size < (int)sizeof error->message) return;
    /* Cut in the middle of a character, the message would no longer be UTF-8. */
    size_t end = sizeof error->message - 1;
    while (end > 0 && !starts_code_point(error->message[end - 1])) end--;
    if (end > 0 && (unsigned char)error->message[end - 1] >= 0x80) error->message[end - 1] = '\0';
}

imv_status imv_query_fail(struct imv_query_error *error, imv_status status, struct imv_str text, struct imv_span span,
                          const char *code, const char *detail, const char *format, ...) {
    if (error == NULL) return status;
    va_list arguments;
    va_start(arguments, format);
    fill(error, code, detail, format, arguments);
    va_end(arguments);
    imv_text_place(text, span.offset, &error->line, &error->column);
    make_snippet(error, text, span);
    return status;
}

imv_status imv_query_fail_nowhere(struct imv_query_error *error, imv_status status, const char *code,
                                  const char *detail, const char *format, ...) {
    if (error == NULL) return status;
    va_list arguments;
    va_start(arguments, format);
    fill(error, code, detail, format, arguments);
    va_end(arguments);
    return status;
}

imv_status imv_query_fail_memory(struct imv_query_error *error) {
    return imv_query_fail_nowhere(error, IMV_NO_MEMORY, "ResourceError", "OutOfMemory", "out of memory");
}

/* ---- suggestions ---- */

static unsigned char folded(struct imv_str text, size_t i) {
    unsigned char byte = (unsigned char)text.data[i];
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte | 0x20) : byte;
}

static int least(int a, int b) { return a < b ? a : b; }

/* Optimal string alignment distance: insert, delete, replace, or swap neighbours. Three rows are enough. */
static int edit_distance(struct imv_str a, struct imv_str b) {
    int rows[3][SUGGESTION_BYTES_MAX + 1];
    for (size_t j = 0; j <= b.size; j++) rows[0][j] = (int)j;
    for (size_t i = 1; i <= a.size; i++) {
        int *now = rows[i % 3], *last = rows[(i + 2) % 3], *before_last = rows[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= b.size; j++) {
            int cost = folded(a, i - 1) != folded(b, j - 1);
            now[j] = least(least(last[j] + 1, now[j - 1] + 1), last[j - 1] + cost);
            bool swapped =
                i > 1 && j > 1 && folded(a, i - 1) == folded(b, j - 2) && folded(a, i - 2) == folded(b, j - 1);
            if (swapped) now[j] = least(now[j], before_last[j - 2] + 1);
        }
    }
    return rows[a.size % 3][b.size];
}

void imv_suggester_init(struct imv_suggester *suggester, struct imv_str wanted) {
    int allowed = (int)((wanted.size + 2) / 3);
    *suggester = (struct imv_suggester){.wanted = wanted, .distance = least(allowed, SUGGESTION_DISTANCE_MAX) + 1};
}

void imv_suggester_offer(struct imv_suggester *suggester, struct imv_str candidate) {
    struct imv_str wanted = suggester->wanted;
    if (wanted.size == 0 || wanted.size > SUGGESTION_BYTES_MAX) return;
    if (candidate.size == 0 || candidate.size > SUGGESTION_BYTES_MAX) return;
    /* A name of one letter is near to every other: only its other case is worth a word. */
    int distance = edit_distance(wanted, candidate);
    if ((size_t)distance >= wanted.size || (size_t)distance >= candidate.size) return;
    if (distance < suggester->distance) {
        suggester->distance = distance;
        suggester->best = candidate;
    }
}

void imv_query_suggest(struct imv_query_error *error, const struct imv_suggester *suggester) {
    if (error == NULL || suggester->best.size == 0) return;
    snprintf(error->suggestion, sizeof error->suggestion, "did you mean '%.*s'?", (int)suggester->best.size,
             suggester->best.data);
}
