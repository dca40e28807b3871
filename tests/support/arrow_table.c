#include "tests/support/arrow_table.h"

#include "storage/base/assert.h"

#include <stdlib.h>
#include <string.h>

/* The distinct texts of a column that its dictionary has. */
struct entries {
    uint32_t count, sent;
    const char *texts[TEST_ARROW_ROWS_MAX];
};

static uint32_t index_of(struct entries *entries, const char *text) {
    for (uint32_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->texts[i], text) == 0) return i;
    }
    entries->texts[entries->count] = text;
    return entries->count++;
}

static uint64_t put_validity(struct imv_arrow_body *body, const struct test_arrow_cell *cells, uint32_t rows) {
    uint64_t nulls = 0;
    for (uint32_t i = 0; i < rows; i++) nulls += cells[i].null;
    imv_arrow_body_node(body, rows, nulls);
    uint8_t *bits = imv_arrow_body_buffer(body, nulls == 0 ? 0 : (rows + 7) / 8);
    for (uint32_t i = 0; bits != NULL && i < rows; i++) {
        if (i % 8 == 0) bits[i / 8] = 0;
        if (!cells[i].null) bits[i / 8] |= (uint8_t)(1 << i % 8);
    }
    return nulls;
}

static void put_texts(struct imv_arrow_body *body, uint8_t bits, uint32_t count,
                      const char *(*text)(const void *, uint32_t), const void *context) {
    uint64_t total = 0;
    uint8_t *offsets = imv_arrow_body_buffer(body, (count + 1) * (size_t)bits / 8);
    for (uint32_t i = 0; i <= count; i++) {
        memcpy(offsets + i * (size_t)bits / 8, &total, bits / 8);
        if (i < count) total += strlen(text(context, i));
    }
    char *bytes = imv_arrow_body_buffer(body, total);
    for (uint32_t i = 0; i < count && bytes != NULL; i++) {
        size_t size = strlen(text(context, i));
        memcpy(bytes, text(context, i), size);
        bytes += size;
    }
}

static const char *cell_text(const void *context, uint32_t i) {
    const struct test_arrow_cell *cells = context;
    return cells[i].null ? "" : cells[i].text;
}

static const char *entry_text(const void *context, uint32_t i) {
    const struct entries *entries = context;
    return entries->texts[entries->sent + i];
}

static void put_values(struct imv_arrow_body *body, const struct test_arrow_column *column,
                       const struct test_arrow_cell *cells, uint32_t rows) {
    uint8_t bits = column->type.bits;
    if (column->type.kind == IMV_ARROW_TEXT) {
        put_texts(body, bits, rows, cell_text, cells);
        return;
    }
    uint8_t *values = imv_arrow_body_buffer(body, ((size_t)rows * bits + 7) / 8);
    for (uint32_t i = 0; i < rows; i++) {
        float narrow = (float)cells[i].number;
        if (column->type.kind == IMV_ARROW_BOOL) {
            if (i % 8 == 0) values[i / 8] = 0;
            values[i / 8] |= (uint8_t)((cells[i].integer != 0) << i % 8);
        } else if (column->type.kind == IMV_ARROW_FLOAT) {
            memcpy(values + i * (size_t)bits / 8, bits == 32 ? (void *)&narrow : (void *)&cells[i].number, bits / 8);
        } else {
            memcpy(values + i * (size_t)bits / 8, &cells[i].integer, bits / 8);
        }
    }
}

static void put_dictionary(struct imv_buffer *out, struct imv_arrow_body *body, const struct test_arrow_column *column,
                           int64_t id, struct entries *entries, bool delta) {
    uint32_t added = entries->count - entries->sent;
    imv_arrow_body_reset(body);
    imv_arrow_body_node(body, added, 0);
    imv_arrow_body_buffer(body, 0);
    put_texts(body, column->type.bits, added, entry_text, entries);
    imv_arrow_put_dictionary(out, id, delta, added, body);
    entries->sent = entries->count;
}

static void put_batch(struct imv_buffer *out, struct imv_arrow_body *body, const struct test_arrow_table *table,
                      struct entries *entries, uint32_t from, uint32_t rows, bool replaced) {
    for (uint32_t i = 0; i < table->columns_count; i++) {
        const struct test_arrow_column *column = &table->columns[i];
        if (!column->dictionary) continue;
        if (replaced) entries[i].count = entries[i].sent = 0;
        for (uint32_t row = from; row < from + rows; row++) {
            if (!column->cells[row].null) index_of(&entries[i], column->cells[row].text);
        }
        put_dictionary(out, body, column, i, &entries[i], !replaced && from > 0);
    }
    imv_arrow_body_reset(body);
    for (uint32_t i = 0; i < table->columns_count; i++) {
        const struct test_arrow_column *column = &table->columns[i];
        const struct test_arrow_cell *cells = column->cells + from;
        if (column->type.kind == IMV_ARROW_NULL) {
            imv_arrow_body_node(body, rows, rows);
            continue;
        }
        put_validity(body, cells, rows);
        if (!column->dictionary) {
            put_values(body, column, cells, rows);
            continue;
        }
        uint8_t *indices = imv_arrow_body_buffer(body, rows * sizeof(uint32_t));
        for (uint32_t row = 0; row < rows; row++) {
            uint32_t index = cells[row].null ? UINT32_MAX : index_of(&entries[i], cells[row].text);
            memcpy(indices + row * sizeof index, &index, sizeof index);
        }
    }
    imv_arrow_put_records(out, rows, body);
}

void test_arrow_encode(struct imv_buffer *out, const struct test_arrow_table *table, uint32_t batch_rows,
                       enum test_arrow_dictionaries dictionaries) {
    struct imv_arrow_column *columns = calloc(table->columns_count, sizeof *columns);
    struct entries *entries = calloc(table->columns_count, sizeof *entries);
    struct imv_arrow_body body;
    imv_assert(columns != NULL && entries != NULL && batch_rows > 0);
    imv_arrow_body_init(&body, (size_t)1 << 30);
    for (uint32_t i = 0; i < table->columns_count; i++) {
        const struct test_arrow_column *column = &table->columns[i];
        columns[i] = (struct imv_arrow_column){.name = imv_str_from(column->name),
                                               .type = column->type,
                                               .dictionary = column->dictionary,
                                               .dictionary_id = i,
                                               .metadata_key = column->role == NULL ? NULL : "imvdb.role",
                                               .metadata_value = column->role};
    }
    imv_arrow_put_schema(out, columns, table->columns_count, table->label == NULL ? NULL : "imvdb.label", table->label);
    for (uint32_t from = 0; from < table->rows; from += batch_rows) {
        uint32_t rows = table->rows - from < batch_rows ? table->rows - from : batch_rows;
        put_batch(out, &body, table, entries, from, rows, dictionaries == TEST_ARROW_REPLACED);
    }
    imv_arrow_put_end(out);
    imv_arrow_body_release(&body);
    free(entries);
    free(columns);
}
