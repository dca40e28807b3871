/* The values of a column: its buffers in a batch, and slices of it in the form that rows are made from. */
#include "ingest/arrow_internal.h"
#include "storage/base/assert.h"
#include "storage/base/utf8.h"

#include <stdio.h>

/* ---- buffers ---- */

static imv_status damaged(const struct arrow_column *column, const char *what, struct imv_error *err) {
    return imv_fail(err, IMV_INVALID, "arrow: column \"%.*s\" (%s): %s",
                    column->name.size > 64 ? 64 : (int)column->name.size, column->name.data, column->type.name, what);
}

/* Offsets, count + 1 of them, rise and stay within size. */
static bool offsets_rise(const char *offsets, uint8_t bits, uint64_t count, size_t size) {
    uint64_t before = 0, falls = 0;
    if (bits == 64) {
        for (uint64_t i = 0; i <= count; i++) {
            uint64_t at = imv_get_u64(offsets + 8 * i);
            falls |= at < before;
            before = at;
        }
    } else {
        for (uint64_t i = 0; i <= count; i++) {
            uint32_t at = imv_get_u32(offsets + 4 * i);
            falls |= at < before;
            before = at;
        }
    }
    return falls == 0 && before <= size;
}

static imv_status open_text(struct arrow_column *column, struct imv_arrow_batch *batch, struct imv_error *err) {
    struct imv_str offsets, bytes;
    uint64_t rows = (uint64_t)batch->rows;
    if (!imv_arrow_next_buffer(batch, &offsets) || !imv_arrow_next_buffer(batch, &bytes))
        return damaged(column, "its buffers are missing or outside of the body", err);
    column->values = offsets.data;
    column->bytes = bytes.data == NULL ? "" : bytes.data;
    if (rows == 0) return IMV_OK;
    if (offsets.size / (column->type.bits / 8) <= rows) return damaged(column, "its offsets are too few", err);
    if (!offsets_rise(offsets.data, column->type.bits, rows, bytes.size))
        return damaged(column, "its offsets do not rise within its bytes", err);
    return IMV_OK;
}

static imv_status open_fixed(struct arrow_column *column, struct imv_arrow_batch *batch, struct imv_error *err) {
    struct imv_str values;
    uint64_t bits = column->dictionary != NULL ? column->index_bits : column->type.bits;
    if (!imv_arrow_next_buffer(batch, &values))
        return damaged(column, "its values are missing or outside of the body", err);
    if (values.size < ((uint64_t)batch->rows * bits + 7) / 8) return damaged(column, "its values are too few", err);
    column->values = values.data;
    return IMV_OK;
}

imv_status imv_arrow_column_open(struct arrow_column *column, struct imv_arrow_batch *batch, struct imv_error *err) {
    int64_t rows, nulls;
    struct imv_str valid;
    if (!imv_arrow_next_node(batch, &rows, &nulls) || rows != batch->rows || nulls > rows)
        return damaged(column, "its length is not the batch's", err);
    if (column->type.kind == IMV_ARROW_NULL) return IMV_OK;
    if (!imv_arrow_next_buffer(batch, &valid))
        return damaged(column, "its validity is missing or outside of the body", err);
    if (nulls > 0 && valid.size < ((uint64_t)rows + 7) / 8) return damaged(column, "its validity is too short", err);
    column->valid = nulls > 0 ? (const uint8_t *)valid.data : NULL;
    bool text = column->dictionary == NULL && column->type.kind == IMV_ARROW_TEXT;
    return text ? open_text(column, batch, err) : open_fixed(column, batch, err);
}

/* ---- which rows have a value ---- */

static void find_present(struct arrow_column *column, uint64_t from, size_t rows) {
    memset(column->present, 0, sizeof column->present);
    if (column->valid != NULL) {
        memcpy(column->present, column->valid + from / 8, (rows + 7) / 8);
    } else {
        memset(column->present, 0xff, (rows + 7) / 8);
    }
    if (rows % 64 != 0) column->present[rows / 64] &= (UINT64_C(1) << (rows % 64)) - 1;
}

static void mark_bad(struct arrow_column *column, size_t row) {
    imv_bit_set(column->bad, row);
    column->any_bad = true;
}

/* ---- dictionaries ---- */

/* Sets codes to what the map says of each row's index; false at an index beyond it. */
#define MAP_INDICES(type)                                                         \
    for (size_t i = 0; i < rows; i++) {                                           \
        if (imv_bit_get(column->present, i)) {                                    \
            uint64_t index = (uint64_t)(int64_t)((const type *)values)[from + i]; \
            if (index >= column->map_count) return false;                         \
            codes[i] = column->map[index];                                        \
        } else {                                                                  \
            codes[i] = ARROW_CODE_ABSENT;                                         \
        }                                                                         \
    }                                                                             \
    return true

static bool map_indices(const struct arrow_column *column, uint64_t from, size_t rows, uint32_t *codes) {
    const void *values = column->values;
    switch (column->index_bits + column->index_signed) {
        case 8: MAP_INDICES(uint8_t);
        case 9: MAP_INDICES(int8_t);
        case 16: MAP_INDICES(uint16_t);
        case 17: MAP_INDICES(int16_t);
        case 32: MAP_INDICES(uint32_t);
        case 33: MAP_INDICES(int32_t);
        default: MAP_INDICES(int64_t);
    }
}

static imv_status refuse_index(const struct arrow_column *column, struct imv_error *err) {
    char what[96];
    snprintf(what, sizeof what, "an index beyond the %u entries of its dictionary", column->dictionary->count);
    return damaged(column, what, err);
}

static uint64_t index_at(const struct arrow_column *column, uint64_t row) {
    switch (column->index_bits) {
        case 8: return ((const uint8_t *)column->values)[row];
        case 16: return imv_get_u16(column->values + 2 * row);
        case 32: return imv_get_u32(column->values + 4 * row);
        default: return imv_get_u64(column->values + 8 * row);
    }
}

/* ---- tags and labels ---- */

static imv_status slice_codes(struct imv_arrow_feed *feed, struct arrow_column *column, uint64_t from, size_t rows,
                              struct imv_error *err) {
    if (column->dictionary != NULL) {
        if (!imv_arrow_map_refresh(feed, column)) return imv_fail(err, IMV_FULL, "arrow: no memory for texts");
        return map_indices(column, from, rows, column->codes) ? IMV_OK : refuse_index(column, err);
    }
    for (size_t i = 0; i < rows; i++) {
        column->codes[i] = ARROW_CODE_ABSENT;
        if (!imv_bit_get(column->present, i)) continue;
        struct imv_str text = imv_arrow_text_at(column->values, column->type.bits, column->bytes, from + i);
        if (!imv_arrow_text_code(feed, column, text, &column->codes[i]))
            return imv_fail(err, IMV_FULL, "arrow: no memory for texts");
    }
    return IMV_OK;
}

/* ---- fields and times ---- */

static imv_status slice_dictionary_texts(struct imv_arrow_feed *feed, struct arrow_column *column, uint64_t from,
                                         size_t rows, struct imv_error *err) {
    uint32_t codes[ARROW_SLICE_ROWS];
    if (!imv_arrow_map_refresh(feed, column)) return imv_fail(err, IMV_FULL, "arrow: no memory for texts");
    if (!map_indices(column, from, rows, codes)) return refuse_index(column, err);
    for (size_t i = 0; i < rows; i++) {
        if (codes[i] == ARROW_CODE_ABSENT) {
            column->present[i / 64] &= ~(UINT64_C(1) << (i % 64)); /* a null entry */
        } else if (codes[i] == ARROW_CODE_BAD) {
            mark_bad(column, i);
        } else {
            column->own_texts[i] = column->dictionary->values[index_at(column, from + i)];
        }
    }
    return IMV_OK;
}

static void slice_texts(struct arrow_column *column, uint64_t from, size_t rows) {
    for (size_t i = 0; i < rows; i++) {
        if (!imv_bit_get(column->present, i)) continue;
        struct imv_str text = imv_arrow_text_at(column->values, column->type.bits, column->bytes, from + i);
        column->own_texts[i] = text;
        if (text.size > IMV_STRING_BYTES_MAX || !imv_utf8_valid(text)) mark_bad(column, i);
    }
}

#define WIDEN(type)                                                                                   \
    for (size_t i = 0; i < rows; i++) cells[i] = (uint64_t)(int64_t)((const type *)values)[from + i]; \
    break

static void widen(struct arrow_column *column, uint64_t from, size_t rows) {
    const void *values = column->values;
    uint64_t *cells = column->own_cells;
    column->cells = cells;
    if (column->type.kind == IMV_ARROW_FLOAT) {
        for (size_t i = 0; i < rows; i++) cells[i] = imv_float_cell((double)((const float *)values)[from + i]);
        return;
    }
    switch (column->type.bits + column->type.is_signed) {
        case 1:
            for (size_t i = 0; i < rows; i++)
                cells[i] = ((const uint8_t *)values)[(from + i) / 8] >> ((from + i) % 8) & 1;
            break;
        case 8: WIDEN(uint8_t);
        case 9: WIDEN(int8_t);
        case 16: WIDEN(uint16_t);
        case 17: WIDEN(int16_t);
        case 32: WIDEN(uint32_t);
        default: imv_assert(column->type.bits == 32); WIDEN(int32_t);
    }
}

/* Times and durations to nanoseconds. */
static void scale(struct arrow_column *column, size_t rows) {
    for (size_t i = 0; i < rows; i++) {
        if (!imv_bit_get(column->present, i)) continue;
        int64_t product;
        if (__builtin_mul_overflow((int64_t)column->cells[i], column->scale, &product)) mark_bad(column, i);
        column->own_cells[i] = (uint64_t)product;
    }
    column->cells = column->own_cells;
}

static void slice_cells(struct arrow_column *column, uint64_t from, size_t rows) {
    if (column->type.bits == 64) {
        column->cells = (const uint64_t *)(const void *)column->values + from;
    } else {
        widen(column, from, rows);
    }
    bool time = column->role == ARROW_ROLE_TIME;
    for (size_t i = 0; i < rows && time && !column->type.is_signed; i++) {
        if (imv_bit_get(column->present, i) && column->cells[i] > INT64_MAX) mark_bad(column, i);
    }
    if (column->scale != 1) scale(column, rows);
}

imv_status imv_arrow_column_slice(struct imv_arrow_feed *feed, struct arrow_column *column, uint64_t from, size_t rows,
                                  struct imv_error *err) {
    imv_assert(from % 64 == 0 && rows <= ARROW_SLICE_ROWS);
    if (column->role == ARROW_ROLE_NONE) return IMV_OK;
    find_present(column, from, rows);
    if (column->any_bad) memset(column->bad, 0, sizeof column->bad);
    column->any_bad = false;
    if (column->role == ARROW_ROLE_TAG || column->role == ARROW_ROLE_LABEL)
        return slice_codes(feed, column, from, rows, err);
    if (column->type.kind != IMV_ARROW_TEXT) {
        slice_cells(column, from, rows);
        return IMV_OK;
    }
    if (column->dictionary != NULL) return slice_dictionary_texts(feed, column, from, rows, err);
    slice_texts(column, from, rows);
    return IMV_OK;
}
