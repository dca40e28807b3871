/* csv.h - records of a CSV text (RFC 4180, any one-byte delimiter, LF or CRLF).
 *
 * Works on text in memory (a mapped file). A quoted cell may hold delimiters, line feeds and doubled quotes; such cells
 * are unquoted into the reader's own memory, others are views of the text.
 */
#pragma once

#include "storage/base/arena.h"
#include "storage/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { IMV_CSV_COLUMNS_MAX = 4096 };

struct imv_csv_reader {
    struct imv_str text;
    char delimiter;
    size_t at;       /* offset of the next record */
    uint64_t record; /* number of the last record read, the header is 1 */
    struct imv_arena arena;
    struct imv_str cells[IMV_CSV_COLUMNS_MAX];
    size_t count; /* of cells in the last record */
};

/* The delimiter of a header line: the one of , ; tab | that occurs most outside of quotes; a comma when none does. */
char imv_csv_find_delimiter(struct imv_str text);

/* A byte order mark at the start is skipped. The reader is large: not for the stack. */
void imv_csv_init(struct imv_csv_reader *reader, struct imv_str text, char delimiter);
void imv_csv_release(struct imv_csv_reader *reader);

/* Reads the next record that is not an empty line; *end true when there is none. IMV_INVALID: too many columns, a quote
 * that does not close. The cells hold until the next call. */
imv_status imv_csv_next(struct imv_csv_reader *reader, bool *end, struct imv_error *err);
