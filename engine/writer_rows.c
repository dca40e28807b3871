#include "engine/writer_rows.h"

#include "engine/writer_internal.h"
#include "storage/base/assert.h"

/* Rows ahead of which a series is fetched: its line is not in the cache when there are many. */
enum { PREFETCH_ROWS = 8 };

/* Bytes of a row with its strings. */
static size_t row_bytes(const struct imv_shape *shape, const struct imv_writer_rows *rows, size_t row) {
    size_t bytes = sizeof(struct imv_row) + shape->count * sizeof(uint64_t);
    if (shape->strings_count == 0) return bytes;
    for (uint32_t i = 0; i < shape->count; i++) {
        if (shape->fields[i]->type != IMV_STRING) continue;
        bytes += (sizeof(struct imv_string) + rows->columns[i].texts[row].size + 7) & ~(size_t)7;
    }
    return bytes;
}

static void put_cells(struct imv_row *to, const struct imv_shape *shape, const struct imv_writer_rows *rows,
                      size_t row) {
    for (uint32_t i = 0; i < shape->count; i++) to->cells[i] = rows->columns[i].cells[row];
}

static void put_cells_and_strings(struct imv_row *to, const struct imv_shape *shape, const struct imv_writer_rows *rows,
                                  size_t row) {
    char *end = (char *)&to->cells[shape->count];
    for (uint32_t i = 0; i < shape->count; i++) {
        if (shape->fields[i]->type != IMV_STRING) {
            to->cells[i] = rows->columns[i].cells[row];
            continue;
        }
        struct imv_str text = rows->columns[i].texts[row];
        imv_assert(text.size <= IMV_STRING_BYTES_MAX);
        struct imv_string *string = (struct imv_string *)(void *)end;
        string->size = (uint32_t)text.size;
        if (text.size > 0) memcpy(string->bytes, text.data, text.size);
        to->cells[i] = imv_string_cell(string);
        end += (sizeof *string + text.size + 7) & ~(size_t)7;
    }
}

/* As imv_writer_add_row; tries a second time before it says that there is no room, for the wish not to be lost. */
static imv_status add_row(struct imv_writer *writer, struct imv_series *series, const struct imv_shape *shape,
                          size_t bytes, struct imv_row **row, struct imv_error *err) {
    if (!imv_writer_has_room(writer)) return imv_fail(err, IMV_FULL, "writer: no room");
    imv_status status = imv_writer_add_row(writer, series, shape, bytes, row, err);
    if (status != IMV_FULL) return status;
    imv_writer_want_room(writer);
    return imv_writer_add_row(writer, series, shape, bytes, row, err);
}

imv_status imv_writer_put_rows(struct imv_writer *writer, const struct imv_shape *shape,
                               const struct imv_writer_rows *rows, size_t from, size_t to, size_t *next,
                               struct imv_error *err) {
    imv_assert(from <= to);
    for (size_t row = from; row < to; row++) {
        *next = row;
        if (row + PREFETCH_ROWS < to) __builtin_prefetch(rows->series[row + PREFETCH_ROWS]);
        size_t bytes = row_bytes(shape, rows, row);
        if (bytes > IMV_WRITER_ROW_BYTES_MAX)
            return imv_fail(err, IMV_INVALID, "a row of %zu bytes, the limit is %d", bytes, IMV_WRITER_ROW_BYTES_MAX);
        struct imv_row *made;
        IMV_TRY(add_row(writer, rows->series[row], shape, bytes, &made, err));
        made->series = rows->series[row];
        made->shape = shape;
        made->timestamp = rows->timestamps[row];
        if (shape->strings_count == 0)
            put_cells(made, shape, rows, row);
        else
            put_cells_and_strings(made, shape, rows, row);
    }
    *next = to;
    return IMV_OK;
}
