/* The readers of a head: they find the rows that a sequence may see (a prefix of the chain) and gather them by
 * column. */

#include "engine/head_rows.h"
#include "engine/rows.h"
#include "storage/base/budget.h"

/* A row among others that are not in order. */
struct imv_head_order {
    int64_t timestamp;
    const struct imv_head_row *row;
    const struct imv_head_layout *layout;
};

/* The rows of a chain that a sequence may see. */
struct prefix {
    uint32_t rows;                     /* 0: none */
    const struct imv_head_block *last; /* has the last of them */
    bool rising;
};

/* ---- visibility ---- */

static uint64_t chain_base(const struct imv_head_series *series) {
    return imv_head_sequence_base(series->first->layout->head);
}

static uint32_t rows_up_to(const struct imv_head_block *block, uint32_t rows, uint32_t sequence) {
    uint32_t low = 0, high = rows;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (imv_head_block_row(block, middle)->sequence <= sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct prefix visible_rows(const struct imv_head_series *series, uint64_t sequence) {
    struct prefix prefix = {0};
    uint32_t rows = atomic_load_explicit(&series->rows, memory_order_acquire);
    if (rows == 0) return prefix;
    uint64_t base = chain_base(series);
    if (sequence < base) return prefix;
    uint32_t limit = sequence - base < UINT32_MAX ? (uint32_t)(sequence - base) : UINT32_MAX;

    const struct imv_head_block *block = atomic_load_explicit(&series->tail, memory_order_acquire);
    while (block->first_row >= rows) block = block->previous;
    uint32_t count = rows - block->first_row;
    if (imv_head_block_row(block, count - 1)->sequence > limit) {
        while (imv_head_block_row(block, 0)->sequence > limit) {
            count = block->first_row;
            block = block->previous;
            if (block == NULL) return prefix;
            count -= block->first_row;
        }
        count = rows_up_to(block, count, limit);
    }
    prefix.rows = block->first_row + count;
    prefix.last = block;
    prefix.rising = prefix.rows <= atomic_load_explicit(&series->rising_rows, memory_order_relaxed);
    return prefix;
}

/* Whether the mask may hide any row of the chain within the range; NULL otherwise, so that nobody asks for each row. */
static const struct imv_mask *mask_of_use(const struct imv_head_series *series, const struct imv_mask *mask,
                                          int64_t from, int64_t last) {
    return imv_mask_touches(mask, chain_base(series) + 1, from, last) ? mask : NULL;
}

static bool row_hidden(const struct imv_mask *mask, uint64_t base, const struct imv_head_row *row) {
    return mask != NULL && imv_mask_hides(mask, base + row->sequence, row->timestamp);
}

static bool block_closed(const struct imv_head_block *block) {
    return atomic_load_explicit(&block->next, memory_order_acquire) != NULL;
}

static void widen(int64_t *time_min, int64_t *time_max, int64_t low, int64_t high) {
    if (low < *time_min) *time_min = low;
    if (high > *time_max) *time_max = high;
}

bool imv_head_series_extent(const struct imv_head_series *rows, uint64_t sequence, size_t *rows_max, int64_t *time_min,
                            int64_t *time_max) {
    struct prefix prefix = visible_rows(rows, sequence);
    if (prefix.rows == 0) return false;
    *rows_max = prefix.rows;
    uint32_t last_count = prefix.rows - prefix.last->first_row;
    *time_min = imv_head_block_row(rows->first, 0)->timestamp;
    *time_max = imv_head_block_row(prefix.last, last_count - 1)->timestamp;
    if (prefix.rising) return true;
    for (const struct imv_head_block *block = prefix.last->previous; block != NULL; block = block->previous) {
        widen(time_min, time_max, block->time_min, block->time_max);
    }
    for (uint32_t i = 0; i < last_count; i++) {
        int64_t timestamp = imv_head_block_row(prefix.last, i)->timestamp;
        widen(time_min, time_max, timestamp, timestamp);
    }
    return true;
}

bool imv_head_last_time(const struct imv_head_series *rows, uint64_t sequence, const struct imv_mask *mask,
                        int64_t *timestamp) {
    size_t rows_max;
    int64_t time_min;
    if (!imv_head_series_extent(rows, sequence, &rows_max, &time_min, timestamp)) return false;
    mask = mask_of_use(rows, mask, time_min, *timestamp);
    if (mask == NULL) return true;
    bool found = false;
    struct prefix prefix = visible_rows(rows, sequence);
    for (const struct imv_head_block *block = prefix.last; block != NULL; block = block->previous) {
        for (uint32_t i = imv_head_block_rows(block, prefix.rows); i-- > 0;) {
            const struct imv_head_row *row = imv_head_block_row(block, i);
            if ((found && row->timestamp <= *timestamp) || row_hidden(mask, chain_base(rows), row)) continue;
            *timestamp = row->timestamp;
            found = true;
            if (prefix.rising) return true;
        }
    }
    return found;
}

/* ---- columns of a layout ---- */

static int32_t find_position(const struct imv_head_layout *layout, uint32_t id) {
    size_t low = 0, high = layout->columns_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (layout->fields[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < layout->columns_count && layout->fields[low]->id == id ? (int32_t)low : -1;
}

static bool row_has(const struct imv_head_row *row, int32_t position) {
    return position >= 0 && imv_bit_get(row->words, (size_t)position);
}

static void use_layout(struct imv_head_scan *scan, const struct imv_head_layout *layout) {
    if (scan->layout == layout) return;
    scan->layout = layout;
    for (size_t i = 0; i < scan->columns_count; i++) scan->positions[i] = find_position(layout, scan->columns[i]);
}

/* ---- scan of rising rows ---- */

/* The first of count rows of block with a timestamp >= from, count when there is none. */
static uint32_t lower_bound(const struct imv_head_block *block, uint32_t count, int64_t from) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (imv_head_block_row(block, middle)->timestamp < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The index in the chain of the first row with a timestamp >= from, and its block; prefix.rows when there is none. Goes
 * back from the end, because most readers ask for the newest rows. */
static uint32_t find_rising(struct prefix prefix, int64_t from, const struct imv_head_block **found) {
    const struct imv_head_block *block = prefix.last;
    uint32_t end = prefix.rows;
    while (block->previous != NULL && imv_head_block_row(block, 0)->timestamp >= from) {
        end = block->first_row;
        block = block->previous;
    }
    uint32_t count = end - block->first_row, index = lower_bound(block, count, from);
    if (index == count && end < prefix.rows) {
        block = atomic_load_explicit(&block->next, memory_order_acquire);
        index = 0;
    }
    *found = block;
    return block->first_row + index;
}

static void begin_rising(struct imv_head_scan *scan, struct prefix prefix, int64_t from, int64_t last) {
    const struct imv_head_block *end_block;
    uint32_t begin = find_rising(prefix, from, &scan->block);
    uint32_t end = last == INT64_MAX ? prefix.rows : find_rising(prefix, last + 1, &end_block);
    scan->row_index = begin - scan->block->first_row;
    scan->rows_left = end > begin ? end - begin : 0;
}

/* One column of count rows that lie row_bytes apart, whose values are in word `cell` when bit `bit` of word `mask` is
 * set, to places at.. of cells and valid (zero there). Returns how many have a value. */
static size_t gather_column(const struct imv_head_row *first, size_t row_bytes, size_t count, size_t cell, size_t mask,
                            unsigned bit, uint64_t *cells, uint64_t *valid, size_t at) {
    const char *row = (const char *)first;
    uint64_t bits = 0;
    size_t values = 0;
    for (size_t i = at; i < at + count; i++, row += row_bytes) {
        const uint64_t *words = ((const struct imv_head_row *)(const void *)row)->words;
        cells[i] = words[cell];
        bits |= (words[mask] >> bit & 1) << (i % 64);
        if (i % 64 == 63) {
            valid[i / 64] |= bits;
            values += (size_t)__builtin_popcountll(bits);
            bits = 0;
        }
    }
    if ((at + count) % 64 != 0) {
        valid[(at + count) / 64] |= bits;
        values += (size_t)__builtin_popcountll(bits);
    }
    return values;
}

/* All columns of count rows. Rows are taken 64 at a time, so that their lines stay in the first cache from column to
 * column: of ten columns they are 6.5 KiB. */
static void gather_rows(const struct imv_head_scan *scan, const struct imv_head_row *first, size_t count, size_t at,
                        int64_t *timestamps, const struct imv_vector *vectors, size_t *values) {
    const struct imv_head_layout *layout = scan->layout;
    size_t row_bytes = layout->row_bytes;
    for (size_t done = 0; done < count;) {
        size_t tile = count - done < 64 ? count - done : 64;
        const struct imv_head_row *row =
            (const struct imv_head_row *)(const void *)((const char *)first + done * row_bytes);
        for (size_t i = 0; i < tile; i++) {
            const char *bytes = (const char *)row + i * row_bytes;
            timestamps[at + done + i] = ((const struct imv_head_row *)(const void *)bytes)->timestamp;
        }
        for (size_t c = 0; c < scan->columns_count; c++) {
            if (scan->positions[c] < 0) continue;
            size_t position = (size_t)scan->positions[c];
            values[c] += gather_column(row, row_bytes, tile, layout->mask_words + position, position / 64,
                                       (unsigned)(position % 64), vectors[c].cells, vectors[c].valid, at + done);
        }
        done += tile;
    }
}

static size_t next_rising(struct imv_head_scan *scan, size_t rows_max, int64_t *timestamps,
                          const struct imv_vector *vectors, size_t *values) {
    size_t count = 0;
    while (count < rows_max && scan->rows_left > 0) {
        size_t block_rows =
            imv_head_block_rows(scan->block, scan->block->first_row + scan->row_index + (uint32_t)scan->rows_left) -
            scan->row_index;
        size_t taken = block_rows < rows_max - count ? block_rows : rows_max - count;
        use_layout(scan, scan->block->layout);
        gather_rows(scan, imv_head_block_row(scan->block, scan->row_index), taken, count, timestamps, vectors, values);
        count += taken;
        scan->rows_left -= taken;
        scan->row_index += (uint32_t)taken;
        if (taken == block_rows && scan->rows_left > 0) {
            scan->block = atomic_load_explicit(&scan->block->next, memory_order_acquire);
            scan->row_index = 0;
        }
    }
    return count;
}

/* ---- scan of rows out of order ---- */

static void merge_runs(struct imv_head_order *order, size_t left, size_t right, struct imv_head_order *spare) {
    memcpy(spare, order, left * sizeof spare[0]);
    size_t i = 0, j = left, out = 0;
    while (i < left && j < left + right) {
        order[out++] = order[j].timestamp < spare[i].timestamp ? order[j++] : spare[i++];
    }
    memcpy(order + out, spare + i, (left - i) * sizeof spare[0]);
}

static void sort_run(struct imv_head_order *order, size_t count) {
    for (size_t i = 1; i < count; i++) {
        struct imv_head_order item = order[i];
        size_t j = i;
        for (; j > 0 && order[j - 1].timestamp > item.timestamp; j--) order[j] = order[j - 1];
        order[j] = item;
    }
}

/* Stable merge sort; runs that are in order already cost one comparison, and late rows are few. */
static void sort_order(struct imv_head_order *order, size_t count, struct imv_head_order *spare) {
    enum { RUN = 16 };
    for (size_t i = 0; i < count; i += RUN) sort_run(order + i, count - i < RUN ? count - i : RUN);
    for (size_t width = RUN; width < count; width *= 2) {
        for (size_t i = 0; i + width < count; i += 2 * width) {
            size_t right = count - i - width < width ? count - i - width : width;
            if (order[i + width - 1].timestamp > order[i + width].timestamp) {
                merge_runs(order + i, width, right, spare);
            }
        }
    }
}

/* Calls for the rows of the range that are not hidden in order of arrival; order NULL only counts them. */
static size_t collect_order(const struct imv_head_series *series, struct prefix prefix, const struct imv_mask *mask,
                            int64_t from, int64_t last, struct imv_head_order *order) {
    size_t count = 0;
    uint64_t base = chain_base(series);
    for (const struct imv_head_block *block = series->first;;) {
        const struct imv_head_block *next = atomic_load_explicit(&block->next, memory_order_acquire);
        if (next == NULL || (block->time_max >= from && block->time_min <= last)) {
            uint32_t rows = imv_head_block_rows(block, prefix.rows);
            for (uint32_t i = 0; i < rows; i++) {
                const struct imv_head_row *row = imv_head_block_row(block, i);
                if (row->timestamp < from || row->timestamp > last || row_hidden(mask, base, row)) continue;
                if (order != NULL) order[count] = (struct imv_head_order){row->timestamp, row, block->layout};
                count++;
            }
        }
        if (block == prefix.last) return count;
        block = next;
    }
}

static imv_status fail_alloc(const struct imv_arena *arena, struct imv_error *err) {
    if (arena->budget == NULL) return imv_fail(err, IMV_NO_MEMORY, "head: no memory to read rows");
    return imv_fail(err, IMV_FULL, "head: no room in the memory budget \"%s\" to read rows", arena->budget->name);
}

static imv_status begin_sorted(struct imv_head_scan *scan, struct prefix prefix, const struct imv_mask *mask,
                               int64_t from, int64_t last, struct imv_arena *arena, struct imv_error *err) {
    size_t count = collect_order(scan->series, prefix, mask, from, last, NULL);
    /* The merge copies the left one of two runs aside, which is the longest power of two of runs at most. */
    struct imv_head_order *order = imv_arena_alloc(arena, 2 * count * sizeof *order);
    if (order == NULL) return fail_alloc(arena, err);
    size_t collected = collect_order(scan->series, prefix, mask, from, last, order);
    imv_assert(collected == count);
    sort_order(order, count, order + count);
    scan->order = order;
    scan->order_count = count;
    scan->rows_left = count;
    return IMV_OK;
}

/* The value of a column among rows of one timestamp: of the last of them that has one. */
static bool newest_of_group(struct imv_head_scan *scan, size_t begin, size_t end, size_t column, uint64_t *cell) {
    for (size_t i = end; i-- > begin;) {
        const struct imv_head_order *item = &scan->order[i];
        use_layout(scan, item->layout);
        int32_t position = scan->positions[column];
        if (!row_has(item->row, position)) continue;
        *cell = item->row->words[item->layout->mask_words + (size_t)position];
        return true;
    }
    return false;
}

static size_t next_sorted(struct imv_head_scan *scan, size_t rows_max, int64_t *timestamps,
                          const struct imv_vector *vectors, size_t *values) {
    size_t count = 0;
    while (count < rows_max && scan->order_index < scan->order_count) {
        size_t begin = scan->order_index, end = begin + 1;
        int64_t timestamp = scan->order[begin].timestamp;
        while (end < scan->order_count && scan->order[end].timestamp == timestamp) end++;
        timestamps[count] = timestamp;
        for (size_t c = 0; c < scan->columns_count; c++) {
            if (!newest_of_group(scan, begin, end, c, &vectors[c].cells[count])) continue;
            imv_bit_set(vectors[c].valid, count);
            values[c]++;
        }
        scan->order_index = end;
        scan->rows_left = scan->order_count - end;
        count++;
    }
    return count;
}

imv_status imv_head_scan_begin(struct imv_head_scan *scan, const struct imv_head_series *rows, uint64_t sequence,
                               const struct imv_mask *mask, int64_t from, int64_t last, const uint32_t *columns,
                               size_t columns_count, int32_t *positions, struct imv_arena *arena,
                               struct imv_error *err) {
    *scan = (struct imv_head_scan){
        .series = rows, .columns = columns, .columns_count = columns_count, .positions = positions};
    struct prefix prefix = visible_rows(rows, sequence);
    if (prefix.rows == 0 || from > last) return IMV_OK;
    mask = mask_of_use(rows, mask, from, last);
    if (!prefix.rising || mask != NULL) return begin_sorted(scan, prefix, mask, from, last, arena, err);
    begin_rising(scan, prefix, from, last);
    return IMV_OK;
}

size_t imv_head_scan_next(struct imv_head_scan *scan, size_t rows_max, int64_t *timestamps,
                          const struct imv_vector *vectors, size_t *values) {
    size_t bound = scan->rows_left < rows_max ? scan->rows_left : rows_max;
    for (size_t c = 0; c < scan->columns_count; c++) {
        memset(vectors[c].valid, 0, (bound + 63) / 64 * sizeof(uint64_t));
        values[c] = 0;
    }
    if (scan->order != NULL) return next_sorted(scan, rows_max, timestamps, vectors, values);
    return next_rising(scan, rows_max, timestamps, vectors, values);
}

/* ---- read ---- */

/* The fields that any row up to sequence has, rising by id: those of the last block. */
static imv_status collect_columns(const struct imv_head_series *series, uint64_t sequence, struct imv_arena *arena,
                                  const uint32_t **columns, size_t *columns_count, struct imv_error *err) {
    struct prefix prefix = visible_rows(series, sequence);
    size_t count = prefix.rows == 0 ? 0 : prefix.last->layout->columns_count;
    uint32_t *ids = imv_arena_alloc(arena, count * sizeof *ids);
    if (ids == NULL) return fail_alloc(arena, err);
    for (size_t i = 0; i < count; i++) ids[i] = prefix.last->layout->fields[i]->id;
    *columns = ids;
    *columns_count = count;
    return IMV_OK;
}

/* Room for rows_max rows of columns: one piece, so that a reset keeps it whole. */
static imv_status alloc_rows(struct imv_rows *out, size_t rows_max, const uint32_t *columns, size_t columns_count,
                             struct imv_error *err) {
    size_t words = (rows_max + 63) / 64;
    size_t vector_words = rows_max + words, ids_bytes = (columns_count + 1) / 2 * 8;
    char *piece = imv_arena_alloc(&out->arena, columns_count * sizeof *out->columns + rows_max * 8 +
                                                   columns_count * vector_words * 8 + ids_bytes);
    if (piece == NULL) return fail_alloc(&out->arena, err);
    out->columns = (struct imv_vector *)(void *)piece;
    out->timestamps = (int64_t *)(void *)(out->columns + columns_count);
    uint64_t *next = (uint64_t *)(out->timestamps + rows_max);
    for (size_t c = 0; c < columns_count; c++, next += vector_words) {
        out->columns[c] = (struct imv_vector){.cells = next, .valid = next + rows_max};
    }
    out->column_ids = (uint32_t *)(void *)next;
    if (columns_count > 0) memcpy(out->column_ids, columns, columns_count * sizeof *columns);
    out->columns_count = columns_count;
    return IMV_OK;
}

static void drop_empty_columns(struct imv_rows *out, const size_t *values) {
    size_t kept = 0;
    for (size_t c = 0; c < out->columns_count; c++) {
        if (values[c] == 0) continue;
        out->columns[kept] = out->columns[c];
        out->column_ids[kept++] = out->column_ids[c];
    }
    out->columns_count = kept;
}

imv_status imv_head_read(const struct imv_head_series *rows, uint64_t sequence, const struct imv_mask *mask,
                         int64_t from, int64_t last, const uint32_t *columns, size_t columns_count,
                         struct imv_rows *out, struct imv_error *err) {
    imv_rows_reset(out);
    bool all_columns = columns == NULL;
    if (all_columns) IMV_TRY(collect_columns(rows, sequence, &out->arena, &columns, &columns_count, err));
    struct imv_head_scan scan;
    int32_t *positions = imv_arena_alloc(&out->arena, columns_count * sizeof *positions);
    size_t *values = imv_arena_alloc(&out->arena, columns_count * sizeof *values);
    if (positions == NULL || values == NULL) return fail_alloc(&out->arena, err);
    IMV_TRY(imv_head_scan_begin(&scan, rows, sequence, mask, from, last, columns, columns_count, positions, &out->arena,
                                err));
    IMV_TRY(alloc_rows(out, scan.rows_left, columns, columns_count, err));
    out->count = imv_head_scan_next(&scan, scan.rows_left, out->timestamps, out->columns, values);
    const struct imv_label *label = rows->series->label;
    for (size_t c = 0; c < columns_count; c++) {
        out->columns[c].type = imv_label_field_by_id(label, columns[c])->type;
        if (values[c] == out->count) out->columns[c].valid = NULL;
    }
    if (all_columns) drop_empty_columns(out, values);
    return IMV_OK;
}

/* ---- newest ---- */

/* Up to 64 columns of imv_head_newest. */
struct newest {
    const uint32_t *columns;
    size_t columns_count;
    int64_t *timestamps;
    uint64_t *cells;
    bool *found;
    bool rising;
    const struct imv_mask *mask; /* NULL: nothing is hidden */
    uint64_t base;               /* of the sequences */
    uint64_t mine; /* columns found by this call: of equal timestamps the later arrival, which is seen first, stays */
    const struct imv_head_layout *layout;
    uint64_t present; /* columns that the layout has */
    int32_t positions[64];
};

/* Rows below this improve nothing. */
static int64_t newest_threshold(const struct newest *newest) {
    int64_t threshold = INT64_MAX;
    for (size_t c = 0; c < newest->columns_count; c++) {
        if (!newest->found[c]) return INT64_MIN;
        if (newest->timestamps[c] < threshold) threshold = newest->timestamps[c];
    }
    return threshold;
}

static void newest_use_layout(struct newest *newest, const struct imv_head_layout *layout) {
    if (newest->layout == layout) return;
    newest->layout = layout;
    newest->present = 0;
    for (size_t c = 0; c < newest->columns_count; c++) {
        newest->positions[c] = find_position(layout, newest->columns[c]);
        if (newest->positions[c] >= 0) newest->present |= UINT64_C(1) << c;
    }
}

/* Returns true when a column got a newer value. */
static bool newest_from_row(struct newest *newest, const struct imv_head_row *row, uint64_t open) {
    bool changed = false;
    for (; open != 0; open &= open - 1) {
        unsigned c = (unsigned)__builtin_ctzll(open);
        if (!row_has(row, newest->positions[c])) continue;
        if (newest->found[c] && row->timestamp < newest->timestamps[c]) continue;
        if ((newest->mine >> c & 1) && row->timestamp == newest->timestamps[c]) continue;
        newest->found[c] = true;
        newest->timestamps[c] = row->timestamp;
        newest->cells[c] = row->words[newest->layout->mask_words + (size_t)newest->positions[c]];
        newest->mine |= UINT64_C(1) << c;
        changed = true;
    }
    return changed;
}

static void newest_from_block(struct newest *newest, const struct imv_head_block *block, uint32_t rows,
                              int64_t *threshold) {
    newest_use_layout(newest, block->layout);
    for (uint32_t i = rows; i-- > 0;) {
        /* In rising rows what is found first is the newest. */
        uint64_t open = newest->rising ? newest->present & ~newest->mine : newest->present;
        if (open == 0) return;
        const struct imv_head_row *row = imv_head_block_row(block, i);
        if (row->timestamp < *threshold) {
            if (newest->rising) return;
            continue;
        }
        if (row_hidden(newest->mask, newest->base, row)) continue;
        if (newest_from_row(newest, row, open)) *threshold = newest_threshold(newest);
    }
}

static void newest_from_chain(struct newest *newest, struct prefix prefix) {
    int64_t threshold = newest_threshold(newest);
    for (const struct imv_head_block *block = prefix.last; block != NULL; block = block->previous) {
        if (block_closed(block) && block->time_max < threshold) {
            if (newest->rising) return;
            continue;
        }
        newest_from_block(newest, block, imv_head_block_rows(block, prefix.rows), &threshold);
    }
}

void imv_head_newest(const struct imv_head_series *rows, uint64_t sequence, const struct imv_mask *mask,
                     const uint32_t *columns, size_t columns_count, int64_t *timestamps, uint64_t *cells, bool *found) {
    struct prefix prefix = visible_rows(rows, sequence);
    if (prefix.rows == 0) return;
    mask = mask_of_use(rows, mask, INT64_MIN, INT64_MAX);
    for (size_t c = 0; c < columns_count; c += 64) {
        struct newest newest = {
            .columns = columns + c,
            .columns_count = columns_count - c < 64 ? columns_count - c : 64,
            .timestamps = timestamps + c,
            .cells = cells + c,
            .found = found + c,
            .rising = prefix.rising,
            .mask = mask,
            .base = chain_base(rows),
        };
        newest_from_chain(&newest, prefix);
    }
}
