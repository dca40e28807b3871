/* csv_lines.h - CSV records as line protocol: which column is the time, which are tags, and what type each field has.
 *
 * A plan is made from the header and one pass over all records: a field column is INTEGER when every cell of it is a
 * 64-bit integer without leading zeros, UINTEGER when one is above 2^63 - 1, FLOAT when every cell is a number, BOOLEAN
 * when every cell is true or false, else STRING. Cells that are empty, or NaN, NA, N/A or null in any case in a column
 * of numbers or booleans, have no value. Number texts are passed on as they are, so that nothing is rounded on the way.
 */
#pragma once

#include "connectors/cli/csv.h"
#include "storage/base/buffer.h"
#include "storage/value.h"

enum { IMV_CSV_TAGS_MAX = 64 };

struct imv_csv_options {
    const char *label;
    const char *time; /* column; NULL: found by name (time, timestamp, datetime, date, ts), else by content */
    const char *tags[IMV_CSV_TAGS_MAX]; /* COLUMN or NAME=VALUE */
    size_t tags_count;
    const char *date_order; /* "dmy", "mdy" or NULL */
    bool local;             /* times without a zone are in the process's time zone */
};

struct imv_csv_plan; /* owns copies of the names */

/* Reads all records of text. IMV_INVALID says what is missing or ambiguous: no such column, no time column, dates that
 * could be day/month or month/day, a record with another number of cells, a time that does not parse. */
imv_status imv_csv_plan_new(struct imv_str text, char delimiter, const struct imv_csv_options *options,
                            struct imv_csv_plan **plan, struct imv_error *err);
void imv_csv_plan_free(struct imv_csv_plan *plan);              /* NULL is allowed */
uint64_t imv_csv_plan_records(const struct imv_csv_plan *plan); /* without the header */

/* Appends the reader's current record as one line; a record without any value appends nothing (*empty). */
imv_status imv_csv_line(const struct imv_csv_plan *plan, const struct imv_csv_reader *reader, struct imv_buffer *out,
                        bool *empty, struct imv_error *err);
