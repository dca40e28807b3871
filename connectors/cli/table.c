#include "connectors/cli/table.h"

#include "query/number.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

enum { CELL_COLUMNS_MAX = 60 };

/* Terminal columns of UTF-8 text, near enough: one a code point. */
static size_t columns_of(const char *text) {
    size_t count = 0;
    for (; *text != 0; text++) count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

/* A cell as text; the caller frees it. Strings without quotes, null empty, the rest as JSON. */
static char *cell_text(const json_t *value) {
    if (json_is_null(value)) return strdup("");
    if (json_is_string(value)) return strdup(json_string_value(value));
    if (json_is_real(value)) {
        char number[IMV_FLOAT_BYTES_MAX];
        return strndup(number, imv_float_print(number, json_real_value(value)));
    }
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
}

static void print_cell(FILE *out, const char *text, size_t width, bool right) {
    size_t columns = columns_of(text), pad = columns < width ? width - columns : 0;
    if (right) fprintf(out, "%*s", (int)pad, "");
    for (size_t shown = 0; *text != 0; text++) {
        if (((unsigned char)*text & 0xc0) != 0x80 && shown++ == width) break;
        fputc(*text, out);
    }
    if (!right) fprintf(out, "%*s", (int)pad, "");
}

static void print_rule(FILE *out, const size_t *widths, size_t count) {
    for (size_t i = 0; i < count; i++) {
        fputs(i == 0 ? "" : "-+-", out);
        for (size_t k = 0; k < widths[i]; k++) fputc('-', out);
    }
    fputc('\n', out);
}

static void print_rows(FILE *out, const json_t *columns, const json_t *rows) {
    size_t count = json_array_size(columns), height = json_array_size(rows);
    char **cells = calloc(count * (height + 1) + 1, sizeof *cells);
    size_t *widths = calloc(count + 1, sizeof *widths);
    if (cells == NULL || widths == NULL) goto out;
    bool terminal = isatty(fileno(out));
    for (size_t r = 0; r <= height; r++) {
        for (size_t c = 0; c < count; c++) {
            const json_t *row = r == 0 ? columns : json_array_get(rows, r - 1);
            char *text = cells[r * count + c] = cell_text(json_array_get(row, c));
            size_t width = text == NULL ? 0 : columns_of(text);
            if (terminal && width > CELL_COLUMNS_MAX) width = CELL_COLUMNS_MAX;
            if (width > widths[c]) widths[c] = width;
        }
    }
    for (size_t r = 0; r <= height; r++) {
        for (size_t c = 0; c < count; c++) {
            bool number = r > 0 && json_is_number(json_array_get(json_array_get(rows, r - 1), c));
            fputs(c == 0 ? "" : " | ", out);
            print_cell(out, cells[r * count + c] == NULL ? "" : cells[r * count + c], widths[c], number);
        }
        fputc('\n', out);
        if (r == 0) print_rule(out, widths, count);
    }
out:
    for (size_t i = 0; cells != NULL && i < count * (height + 1); i++) free(cells[i]);
    free(cells);
    free(widths);
}

static void print_error(FILE *out, const json_t *error) {
    static const char *const parts[] = {"snippet", "suggestion"};
    fprintf(out, "%s: %s\n", json_string_value(json_object_get(error, "detail")),
            json_string_value(json_object_get(error, "message")));
    for (size_t i = 0; i < 2; i++) {
        const char *text = json_string_value(json_object_get(error, parts[i]));
        if (text != NULL && *text != 0) fprintf(out, "%s\n", text);
    }
}

bool imv_table_print(FILE *out, struct imv_str answer, bool timing) {
    json_error_t reason;
    json_t *root = json_loadb(answer.data, answer.size, JSON_ALLOW_NUL, &reason);
    const json_t *error = json_object_get(root, "error"), *rows = json_object_get(root, "rows");
    if (root == NULL) fprintf(stderr, "the server's answer is not JSON: %s\n", reason.text);
    if (json_is_array(rows)) {
        print_rows(out, json_object_get(root, "columns"), rows);
        fprintf(out, "%zu %s", json_array_size(rows), json_array_size(rows) == 1 ? "row" : "rows");
        if (timing)
            fprintf(out, ", %.3g ms", json_number_value(json_object_get(json_object_get(root, "stats"), "elapsed_ms")));
        fputc('\n', out);
    }
    if (json_is_object(error))
        print_error(stderr, error);
    else if (json_is_string(error))
        fprintf(stderr, "%s\n", json_string_value(error));
    bool good = json_is_array(rows) && error == NULL;
    json_decref(root);
    return good;
}
