#include "engine/row_collector.h"

#include "storage/base/assert.h"
#include "storage/chunk.h"

enum {
    CELLS_MAX = 4 << 20,
    STRINGS_BYTES_MAX = 16 << 20,
    STRINGS_BLOCK_BYTES = 64 << 10,
};

void imv_row_collector_init(struct imv_row_collector *collector) {
    *collector = (struct imv_row_collector){0};
    imv_rows_init(&collector->rows, NULL);
    imv_arena_init(&collector->strings, STRINGS_BLOCK_BYTES, NULL);
}

void imv_row_collector_release(struct imv_row_collector *collector) {
    imv_rows_release(&collector->rows);
    imv_arena_release(&collector->strings);
}

static size_t capacity_for(size_t columns_count) {
    size_t rows = CELLS_MAX / (columns_count + 1) / IMV_VECTOR_ROWS * IMV_VECTOR_ROWS;
    if (rows > IMV_CHUNK_ROWS_MAX) return IMV_CHUNK_ROWS_MAX;
    return rows < IMV_VECTOR_ROWS ? IMV_VECTOR_ROWS : rows;
}

imv_status imv_row_collector_begin(struct imv_row_collector *collector, const uint32_t *columns, const imv_type *types,
                                   size_t columns_count, struct imv_error *err) {
    struct imv_rows *rows = &collector->rows;
    imv_rows_reset(rows);
    imv_arena_reset(&collector->strings);
    size_t capacity = collector->capacity = capacity_for(columns_count), words = capacity / 64;
    rows->timestamps = imv_arena_calloc(&rows->arena, capacity, sizeof rows->timestamps[0]);
    rows->column_ids = imv_arena_calloc(&rows->arena, columns_count, sizeof rows->column_ids[0]);
    rows->columns = imv_arena_calloc(&rows->arena, columns_count, sizeof rows->columns[0]);
    uint64_t *memory = imv_arena_calloc(&rows->arena, columns_count * (capacity + words), sizeof memory[0]);
    if (rows->timestamps == NULL || rows->column_ids == NULL || rows->columns == NULL || memory == NULL) {
        return imv_fail(err, IMV_NO_MEMORY, "rows: no memory for %zu of %zu columns", capacity, columns_count);
    }
    rows->columns_count = columns_count;
    for (size_t c = 0; c < columns_count; c++, memory += capacity + words) {
        rows->column_ids[c] = columns[c];
        rows->columns[c] = (struct imv_vector){types[c], memory, memory + capacity};
    }
    return IMV_OK;
}

bool imv_row_collector_full(const struct imv_row_collector *collector) {
    return collector->rows.count == collector->capacity || collector->strings.bytes > STRINGS_BYTES_MAX;
}

void imv_row_collector_empty(struct imv_row_collector *collector) {
    collector->rows.count = 0;
    imv_arena_reset(&collector->strings);
}

/* count bits from bit `at` on, at most 64, as the low bits of a word; ones when bits is NULL. */
static uint64_t bits_take(const uint64_t *bits, size_t at, size_t count) {
    uint64_t word = UINT64_MAX, mask = count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
    if (bits != NULL) {
        size_t shift = at % 64;
        word = bits[at / 64] >> shift;
        if (shift + count > 64) word |= bits[at / 64 + 1] << (64 - shift);
    }
    return word & mask;
}

static void bits_copy(uint64_t *to, size_t to_at, const uint64_t *from, size_t from_at, size_t count) {
    for (size_t i = 0, step; i < count; i += step) {
        size_t shift = (to_at + i) % 64;
        step = count - i < 64 - shift ? count - i : 64 - shift;
        uint64_t *word = &to[(to_at + i) / 64];
        *word = (*word & ~(bits_take(NULL, 0, step) << shift)) | bits_take(from, from_at + i, step) << shift;
    }
}

static bool strings_copy(struct imv_row_collector *collector, const struct imv_vector *vector, size_t at,
                         size_t count) {
    for (size_t i = at; i < at + count; i++) {
        if (!imv_vector_has(vector, i)) continue;
        const struct imv_string *string = imv_cell_string(vector->cells[i]);
        size_t size = sizeof *string + string->size;
        struct imv_string *copy = imv_arena_alloc(&collector->strings, size);
        if (copy == NULL) return false;
        memcpy(copy, string, size);
        vector->cells[i] = imv_string_cell(copy);
    }
    return true;
}

/* Rows of one column. */
static bool column_add(struct imv_row_collector *collector, size_t column, const struct imv_vector *batch, size_t from,
                       size_t count) {
    const struct imv_vector *own = &collector->rows.columns[column];
    size_t at = collector->rows.count;
    imv_assert(own->type == batch->type);
    memcpy(own->cells + at, batch->cells + from, count * sizeof own->cells[0]);
    bits_copy(own->valid, at, batch->valid, from, count);
    return own->type != IMV_STRING || strings_copy(collector, own, at, count);
}

imv_status imv_row_collector_add(struct imv_row_collector *collector, const struct imv_rows *batch, size_t from,
                                 size_t *taken, struct imv_error *err) {
    struct imv_rows *rows = &collector->rows;
    imv_assert(from < batch->count && batch->columns_count == rows->columns_count);
    imv_assert(!imv_row_collector_full(collector));
    size_t count = batch->count - from, room = collector->capacity - rows->count;
    if (count > room) count = room;
    memcpy(rows->timestamps + rows->count, batch->timestamps + from, count * sizeof rows->timestamps[0]);
    for (size_t c = 0; c < rows->columns_count; c++) {
        if (!column_add(collector, c, &batch->columns[c], from, count)) {
            return imv_fail(err, IMV_NO_MEMORY, "rows: no memory for the strings of %zu rows", count);
        }
    }
    rows->count += count;
    *taken = count;
    return IMV_OK;
}
