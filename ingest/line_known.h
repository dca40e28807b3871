/* line_known.h - the fields and the time of a line whose series is known and whose fields are, in name, order and type,
 * those of a line that the label had before: nearly every line of every source.
 *
 * Names are compared with those of the shape where they must stand, values are read by the type that they must have,
 * and cells go straight into the row of the writer's batch. Nothing is looked for, so a line costs a few nanoseconds a
 * field. Whatever is out of the ordinary (another name, an escape, a value of another form, blanks, an error) is not
 * judged here: the answer is then "not known", and line.h parses the line from its beginning.
 */
#pragma once

#include "engine/batch.h"

/* Readable bytes that must follow the line: names and digits are loaded eight at a time. */
enum { IMV_LINE_PADDING = 16 };

/* How much room a row needs for a line of so many bytes: a field is at least 4 bytes of it and takes a cell of 8, a
 * string at least 5 and takes a cell, a size of 4 and up to 7 of padding besides its text. */
static inline size_t imv_line_known_row_bytes(size_t line_bytes) {
    return (sizeof(struct imv_row) + 5 * line_bytes + 7) & ~(size_t)7;
}

struct imv_line_known {
    const struct imv_shape *shape;
    size_t bytes; /* of the row, strings included */
    int64_t timestamp;
    bool timestamp_present;
};

/* Parses [fields, end), which is what follows the key and its space in a line without backslashes and without its line feed;
 * after it stand a line feed (or CR and line feed) and IMV_LINE_PADDING bytes. shapes: shapes_max entries, NULL behind
 * the last. The cells of row, which has room as above for the bytes
 * of fields, and known are filled. False: not known; row and known are
 * undefined then. unit_ns: of the timestamp. Any thread, no memory. */
bool imv_line_known_parse(const char *fields, const char *end, const struct imv_shape *const *shapes, size_t shapes_max,
                          int64_t unit_ns, struct imv_row *row, size_t room, struct imv_line_known *known);
