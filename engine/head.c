#include "engine/head_rows.h"
#include "storage/base/budget.h"
#include "storage/base/hash.h"

#include <stdlib.h>

enum {
    BLOCK_ROWS_MIN = 4,
    BLOCK_ROWS_MAX = 1024,
    BLOCK_BYTES_MAX = 128 * 1024, /* of a block of wide rows; 1,024 rows of ten fields are 104 KiB */
    PAGE_SERIES = 512,
    SLAB_SERIES = 32,
    TABLE_BUCKETS_MIN = 64,
    /* An arena block is a quarter of what the head has, within these bounds: small budgets stay usable, large heads
     * call malloc rarely. */
    ARENA_BYTES_MIN = 16 * 1024,
    ARENA_BYTES_MAX = 1 << 20,
};

/* What to do with a row of a shape that comes to a series whose tail has layout `from` (NULL: no tail yet): it goes
 * into a block of layout `to`, which has the fields of both. Interned by (shape, from). */
struct imv_head_map {
    const struct imv_shape *shape;
    const struct imv_head_layout *from;
    const struct imv_head_layout *to;
    const uint64_t *mask;    /* to->mask_words: the columns of the shape */
    const uint16_t *strings; /* columns of `to` that are strings of the shape */
    uint32_t strings_count;
    bool in_place;        /* the cells of the shape are those of the layout, in order: one memcpy */
    uint16_t positions[]; /* [shape->count]: column of `to` of each cell */
};

/* A chained hash table in the arena; the caller compares. */
struct node {
    struct node *next;
    uint64_t hash;
    const void *item;
};
struct table {
    struct node **buckets;
    size_t buckets_count, count;
};

struct page {
    _Atomic(struct imv_head_series *) series[PAGE_SERIES];
};

/* Grows by replacement; the old one stays in the arena for readers that hold it. */
struct directory {
    size_t count;
    _Atomic(struct page *) pages[];
};

struct imv_head {
    _Atomic uint32_t references;
    uint32_t shard;
    uint64_t generation;
    uint64_t sequence_base;
    _Atomic(struct directory *) directory; /* written by the shard thread, release/acquire */
    _Atomic uint64_t rows;                 /* written by the shard thread */
    _Atomic size_t bytes;                  /* arena.bytes for other threads */
    /* ---- the shard's thread only ---- */
    uint64_t sequence; /* of the last row */
    struct imv_arena arena;
    struct table layouts, maps;
    struct imv_head_series *slab, *slab_end;
};

imv_status imv_head_new(uint32_t shard, uint64_t generation, uint64_t sequence_base, struct imv_budget *budget,
                        struct imv_head **head_out, struct imv_error *err) {
    imv_assert(generation != 0); /* a series that was never in a head says 0 */
    struct imv_head *head = calloc(1, sizeof *head);
    if (head == NULL) return imv_fail(err, IMV_NO_MEMORY, "head: no memory for a head of shard %u", shard);
    atomic_init(&head->references, 1);
    head->shard = shard;
    head->generation = generation;
    head->sequence_base = sequence_base;
    head->sequence = sequence_base;
    imv_arena_init(&head->arena, ARENA_BYTES_MIN, budget);
    *head_out = head;
    return IMV_OK;
}

void imv_head_retain(struct imv_head *head) {
    uint32_t before = atomic_fetch_add_explicit(&head->references, 1, memory_order_relaxed);
    imv_assert(before > 0);
}

void imv_head_release(struct imv_head *head) {
    if (head == NULL) return;
    uint32_t before = atomic_fetch_sub_explicit(&head->references, 1, memory_order_acq_rel);
    imv_assert(before > 0);
    if (before > 1) return;
    imv_arena_release(&head->arena);
    free(head);
}

uint64_t imv_head_sequence_base(const struct imv_head *head) { return head->sequence_base; }
size_t imv_head_bytes(const struct imv_head *head) { return atomic_load_explicit(&head->bytes, memory_order_relaxed); }
uint64_t imv_head_rows(const struct imv_head *head) { return atomic_load_explicit(&head->rows, memory_order_relaxed); }

/* ---- memory ---- */

static void *head_alloc(struct imv_head *head, size_t size) {
    size_t wanted = head->arena.bytes / 4;
    if (wanted < ARENA_BYTES_MIN) wanted = ARENA_BYTES_MIN;
    if (wanted > ARENA_BYTES_MAX) wanted = ARENA_BYTES_MAX;
    head->arena.block_bytes = wanted;
    void *piece = imv_arena_alloc(&head->arena, size);
    atomic_store_explicit(&head->bytes, head->arena.bytes, memory_order_relaxed);
    return piece;
}

static void *head_calloc(struct imv_head *head, size_t size) {
    void *piece = head_alloc(head, size);
    return piece == NULL ? NULL : memset(piece, 0, size);
}

static imv_status fail_alloc(const struct imv_head *head, struct imv_error *err) {
    if (head->arena.budget == NULL)
        return imv_fail(err, IMV_NO_MEMORY, "head: out of memory at %zu bytes", head->arena.bytes);
    return imv_fail(err, IMV_FULL, "head: the memory budget \"%s\" is spent, this head of shard %u has %zu bytes",
                    head->arena.budget->name, head->shard, head->arena.bytes);
}

static bool table_grow(struct imv_head *head, struct table *table) {
    size_t buckets_count = table->buckets_count == 0 ? TABLE_BUCKETS_MIN : table->buckets_count * 2;
    struct node **buckets = head_calloc(head, buckets_count * sizeof *buckets);
    if (buckets == NULL) return false;
    for (size_t i = 0; i < table->buckets_count; i++) {
        for (struct node *node = table->buckets[i], *next; node != NULL; node = next) {
            next = node->next;
            struct node **bucket = &buckets[node->hash & (buckets_count - 1)];
            node->next = *bucket;
            *bucket = node;
        }
    }
    table->buckets = buckets;
    table->buckets_count = buckets_count;
    return true;
}

static bool table_add(struct imv_head *head, struct table *table, uint64_t hash, const void *item) {
    if (table->count == table->buckets_count && !table_grow(head, table)) return false;
    struct node *node = head_alloc(head, sizeof *node);
    if (node == NULL) return false;
    struct node **bucket = &table->buckets[hash & (table->buckets_count - 1)];
    *node = (struct node){*bucket, hash, item};
    *bucket = node;
    table->count++;
    return true;
}

static const struct node *table_bucket(const struct table *table, uint64_t hash) {
    return table->buckets_count == 0 ? NULL : table->buckets[hash & (table->buckets_count - 1)];
}

/* ---- layouts and maps ---- */

static const struct imv_head_layout *find_layout(const struct imv_head *head, uint64_t hash,
                                                 const struct imv_field *const *fields, size_t count) {
    for (const struct node *node = table_bucket(&head->layouts, hash); node != NULL; node = node->next) {
        const struct imv_head_layout *layout = node->item;
        if (node->hash == hash && layout->columns_count == count &&
            memcmp(layout->fields, fields, count * sizeof fields[0]) == 0) {
            return layout;
        }
    }
    return NULL;
}

/* The layout of these fields, rising by id; NULL when out of memory. */
static const struct imv_head_layout *intern_layout(struct imv_head *head, const struct imv_field *const *fields,
                                                   size_t count) {
    uint64_t hash = imv_hash64(fields, count * sizeof fields[0], 0);
    const struct imv_head_layout *found = find_layout(head, hash, fields, count);
    if (found != NULL) return found;
    struct imv_head_layout *layout = head_alloc(head, sizeof *layout + count * sizeof fields[0]);
    if (layout == NULL) return NULL;
    size_t mask_words = (count + 63) / 64;
    *layout = (struct imv_head_layout){
        .head = head,
        .columns_count = (uint32_t)count,
        .mask_words = (uint32_t)mask_words,
        .row_bytes = (uint32_t)(sizeof(struct imv_head_row) + (mask_words + count) * sizeof(uint64_t)),
    };
    memcpy(layout->fields, fields, count * sizeof fields[0]);
    return table_add(head, &head->layouts, hash, layout) ? layout : NULL;
}

static int compare_fields(const void *left, const void *right) {
    const struct imv_field *a = *(const struct imv_field *const *)left, *b = *(const struct imv_field *const *)right;
    return (a->id > b->id) - (a->id < b->id);
}

/* The layout with the fields of shape and those of from, which may be NULL. */
static const struct imv_head_layout *unite_layout(struct imv_head *head, const struct imv_shape *shape,
                                                  const struct imv_head_layout *from) {
    const struct imv_field *fields[2 * IMV_FIELDS_MAX];
    size_t count = from == NULL ? 0 : from->columns_count, kept = 0;
    imv_assert(shape->count <= IMV_FIELDS_MAX && count <= IMV_FIELDS_MAX);
    if (count > 0) memcpy(fields, from->fields, count * sizeof fields[0]);
    memcpy(fields + count, shape->fields, shape->count * sizeof fields[0]);
    count += shape->count;
    qsort(fields, count, sizeof fields[0], compare_fields);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || fields[kept - 1] != fields[i]) fields[kept++] = fields[i];
    }
    return intern_layout(head, fields, kept);
}

static uint16_t layout_position(const struct imv_head_layout *layout, uint32_t id) {
    size_t low = 0, high = layout->columns_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (layout->fields[middle]->id <= id)
            low = middle;
        else
            high = middle;
    }
    imv_assert(layout->fields[low]->id == id);
    return (uint16_t)low;
}

static const struct imv_head_map *new_map(struct imv_head *head, const struct imv_shape *shape,
                                          const struct imv_head_layout *from) {
    const struct imv_head_layout *to = unite_layout(head, shape, from);
    if (to == NULL) return NULL;
    struct imv_head_map *map = head_alloc(head, sizeof *map + shape->count * sizeof map->positions[0]);
    uint64_t *mask = head_calloc(head, to->mask_words * sizeof mask[0]);
    uint16_t *strings = head_alloc(head, shape->count * sizeof strings[0]);
    if (map == NULL || mask == NULL || strings == NULL) return NULL;
    *map = (struct imv_head_map){.shape = shape, .from = from, .to = to, .mask = mask, .strings = strings};
    map->in_place = to->columns_count == shape->count;
    for (uint32_t i = 0; i < shape->count; i++) {
        uint16_t position = layout_position(to, shape->fields[i]->id);
        map->positions[i] = position;
        map->in_place = map->in_place && position == i;
        imv_bit_set(mask, position);
        if (shape->fields[i]->type == IMV_STRING) strings[map->strings_count++] = position;
    }
    return map;
}

static const struct imv_head_map *find_map(struct imv_head *head, const struct imv_shape *shape,
                                           const struct imv_head_layout *from) {
    const void *key[2] = {shape, from};
    uint64_t hash = imv_hash64(key, sizeof key, 0);
    for (const struct node *node = table_bucket(&head->maps, hash); node != NULL; node = node->next) {
        const struct imv_head_map *map = node->item;
        if (map->shape == shape && map->from == from) return map;
    }
    const struct imv_head_map *map = new_map(head, shape, from);
    return map != NULL && table_add(head, &head->maps, hash, map) ? map : NULL;
}

/* ---- series ---- */

/* The page of a series index, made when absent; NULL when out of memory. */
static struct page *ensure_page(struct imv_head *head, size_t page_index) {
    struct directory *old = atomic_load_explicit(&head->directory, memory_order_relaxed);
    if (old == NULL || page_index >= old->count) {
        size_t count = old == NULL ? 16 : old->count * 2;
        if (count <= page_index) count = page_index + 1;
        struct directory *grown = head_calloc(head, sizeof *grown + count * sizeof grown->pages[0]);
        if (grown == NULL) return NULL;
        grown->count = count;
        for (size_t i = 0; old != NULL && i < old->count; i++) {
            atomic_init(&grown->pages[i], atomic_load_explicit(&old->pages[i], memory_order_relaxed));
        }
        atomic_store_explicit(&head->directory, grown, memory_order_release);
        old = grown;
    }
    struct page *page = atomic_load_explicit(&old->pages[page_index], memory_order_relaxed);
    if (page != NULL) return page;
    page = head_calloc(head, sizeof *page);
    if (page != NULL) atomic_store_explicit(&old->pages[page_index], page, memory_order_release);
    return page;
}

static struct imv_head_series *alloc_series(struct imv_head *head) {
    if (head->slab == head->slab_end) {
        enum { LINE = sizeof(struct imv_head_series) };
        char *bytes = head_alloc(head, (SLAB_SERIES + 1) * LINE);
        if (bytes == NULL) return NULL;
        bytes += LINE - (uintptr_t)bytes % LINE;
        head->slab = (struct imv_head_series *)(void *)bytes;
        head->slab_end = head->slab + SLAB_SERIES;
    }
    return head->slab++;
}

static imv_status add_series(struct imv_head *head, struct imv_series *series, struct imv_error *err) {
    imv_assert(series->shard == head->shard);
    struct page *page = ensure_page(head, series->index / PAGE_SERIES);
    struct imv_head_series *rows = page == NULL ? NULL : alloc_series(head);
    if (rows == NULL) return fail_alloc(head, err);
    memset(rows, 0, sizeof *rows);
    rows->series = series;
    atomic_init(&rows->rising_rows, UINT32_MAX);
    atomic_store_explicit(&page->series[series->index % PAGE_SERIES], rows, memory_order_release);
    series->head = rows;
    series->head_generation = head->generation;
    return IMV_OK;
}

/* ---- blocks ---- */

/* Writes down the time range of the tail, which gets no more rows. */
static void close_block(struct imv_head_block *block, uint32_t rows_count, bool rising) {
    uint32_t count = rows_count - block->first_row;
    int64_t time_min = imv_head_block_row(block, 0)->timestamp;
    int64_t time_max = imv_head_block_row(block, count - 1)->timestamp;
    for (uint32_t i = 0; !rising && i < count; i++) {
        int64_t timestamp = imv_head_block_row(block, i)->timestamp;
        if (timestamp < time_min) time_min = timestamp;
        if (timestamp > time_max) time_max = timestamp;
    }
    block->time_min = time_min;
    block->time_max = time_max;
}

/* Half as many rows as there are: a third of the memory is unused at most. With as many, a head of a million series,
 * which all get their next block at about the same row, was full with five rows each, and became chunks of five rows.
 * At most twice the rows that the last block got to hold: a series whose every row brings a new field does not make
 * large blocks for it. */
static uint32_t block_rows(const struct imv_head_layout *layout, uint32_t rows_count, uint32_t previous_rows) {
    uint32_t rows = rows_count / 2;
    if (rows / 2 > previous_rows) rows = previous_rows * 2;
    if (rows < BLOCK_ROWS_MIN) rows = BLOCK_ROWS_MIN;
    if (rows > BLOCK_ROWS_MAX) rows = BLOCK_ROWS_MAX;
    uint32_t fitting = BLOCK_BYTES_MAX / layout->row_bytes;
    if (rows > fitting) rows = fitting > 0 ? fitting : 1;
    return rows;
}

static imv_status start_block(struct imv_head *head, struct imv_head_series *rows, const struct imv_head_layout *layout,
                              struct imv_error *err) {
    struct imv_head_block *tail = atomic_load_explicit(&rows->tail, memory_order_relaxed);
    uint32_t rows_count = atomic_load_explicit(&rows->rows, memory_order_relaxed);
    /* A tail without a row, whose strings found no memory, is replaced: no reader goes there. */
    if (tail != NULL && tail->first_row == rows_count) tail = tail->previous;
    uint32_t capacity = block_rows(layout, rows_count, tail == NULL ? 0 : rows_count - tail->first_row);
    if (capacity > UINT32_MAX - 1 - rows_count) return imv_fail(err, IMV_FULL, "head: 2^32 rows of one series");
    struct imv_head_block *block = head_alloc(head, sizeof *block + (size_t)capacity * layout->row_bytes);
    if (block == NULL) return fail_alloc(head, err);
    atomic_init(&block->next, NULL);
    block->previous = tail;
    block->layout = layout;
    block->first_row = rows_count;
    if (tail == NULL) {
        rows->first = block;
    } else {
        bool rising = atomic_load_explicit(&rows->rising_rows, memory_order_relaxed) >= rows_count;
        if (atomic_load_explicit(&tail->next, memory_order_relaxed) == NULL) close_block(tail, rows_count, rising);
        atomic_store_explicit(&tail->next, block, memory_order_release);
    }
    atomic_store_explicit(&rows->tail, block, memory_order_release);
    rows->row_next = block->rows;
    rows->rows_end = rows_count + capacity;
    rows->row_bytes = layout->row_bytes;
    return IMV_OK;
}

/* Gets the tail ready for a row of shape. */
static __attribute__((noinline)) imv_status prepare_tail(struct imv_head *head, struct imv_head_series *rows,
                                                         const struct imv_shape *shape, struct imv_error *err) {
    struct imv_head_block *tail = atomic_load_explicit(&rows->tail, memory_order_relaxed);
    const struct imv_head_layout *layout = tail == NULL ? NULL : tail->layout;
    const struct imv_head_map *map = rows->map;
    if (map == NULL || map->shape != shape) map = find_map(head, shape, layout);
    if (map == NULL) return fail_alloc(head, err);
    uint32_t rows_count = atomic_load_explicit(&rows->rows, memory_order_relaxed);
    if (map->to != layout || rows_count == rows->rows_end) {
        imv_status status = start_block(head, rows, map->to, err);
        if (status != IMV_OK) return status;
    }
    rows->map = map;
    return IMV_OK;
}

/* ---- append ---- */

static bool copy_string(struct imv_head *head, uint64_t *cell) {
    const struct imv_string *string = imv_cell_string(*cell);
    struct imv_string *copy = head_alloc(head, sizeof *copy + string->size);
    if (copy == NULL) return false;
    copy->size = string->size;
    memcpy(copy->bytes, string->bytes, string->size);
    *cell = imv_string_cell(copy);
    return true;
}

static bool write_cells(struct imv_head *head, const struct imv_head_map *map, const struct imv_row *row,
                        uint64_t *words) {
    uint32_t mask_words = map->to->mask_words, count = map->shape->count;
    for (uint32_t i = 0; i < mask_words; i++) words[i] = map->mask[i];
    uint64_t *cells = words + mask_words;
    if (map->in_place) {
        memcpy(cells, row->cells, count * sizeof cells[0]);
    } else {
        for (uint32_t i = 0; i < count; i++) cells[map->positions[i]] = row->cells[i];
    }
    for (uint32_t i = 0; i < map->strings_count; i++) {
        if (!copy_string(head, &cells[map->strings[i]])) return false;
    }
    return true;
}

/* Makes the written row the newest of the chain. */
static void publish_row(struct imv_head_series *rows, uint32_t rows_count, int64_t timestamp) {
    if (rows_count == 0 || timestamp > rows->time_max) {
        rows->time_max = timestamp;
    } else if (atomic_load_explicit(&rows->rising_rows, memory_order_relaxed) > rows_count) {
        atomic_store_explicit(&rows->rising_rows, rows_count, memory_order_relaxed);
    }
    rows->row_next += rows->row_bytes;
    atomic_store_explicit(&rows->rows, rows_count + 1, memory_order_release);
}

imv_status imv_head_append(struct imv_head *head, const struct imv_row *row, uint64_t sequence, struct imv_error *err) {
    imv_assert(sequence >= head->sequence);
    imv_assert(sequence - head->sequence_base <= UINT32_MAX);
    struct imv_series *series = row->series;
    if (series->head_generation != head->generation) IMV_TRY(add_series(head, series, err));
    struct imv_head_series *rows = series->head;
    uint32_t rows_count = atomic_load_explicit(&rows->rows, memory_order_relaxed);
    if (rows_count == rows->rows_end || rows->map->shape != row->shape) {
        IMV_TRY(prepare_tail(head, rows, row->shape, err));
    }
    struct imv_head_row *out = (struct imv_head_row *)(void *)rows->row_next;
    out->timestamp = row->timestamp;
    out->sequence = (uint32_t)(sequence - head->sequence_base);
    if (!write_cells(head, rows->map, row, out->words)) return fail_alloc(head, err);
    publish_row(rows, rows_count, row->timestamp);
    head->sequence = sequence;
    uint64_t head_rows = atomic_load_explicit(&head->rows, memory_order_relaxed);
    atomic_store_explicit(&head->rows, head_rows + 1, memory_order_relaxed);
    return IMV_OK;
}

void imv_head_prefetch(const struct imv_head *head, const struct imv_row *const *rows, size_t count) {
    enum { LINE = 64, LINES_MAX = 3 }; /* a row of ten fields; of longer ones the processor sees the direction */
    for (size_t i = 0; i < count; i++) {
        const struct imv_series *series = rows[i]->series;
        if (series->head_generation == head->generation) __builtin_prefetch(series->head, 1);
    }
    for (size_t i = 0; i < count; i++) {
        const struct imv_series *series = rows[i]->series;
        if (series->head_generation != head->generation) continue;
        const struct imv_head_series *to = series->head;
        for (uint32_t byte = 0; byte < to->row_bytes && byte < LINES_MAX * LINE; byte += LINE) {
            __builtin_prefetch(to->row_next + byte, 1);
        }
    }
}

/* ---- lookup ---- */

const struct imv_head_series *imv_head_find(const struct imv_head *head, const struct imv_series *series) {
    imv_assert(series->shard == head->shard);
    const struct directory *directory = atomic_load_explicit(&head->directory, memory_order_acquire);
    size_t page_index = series->index / PAGE_SERIES;
    if (directory == NULL || page_index >= directory->count) return NULL;
    const struct page *page = atomic_load_explicit(&directory->pages[page_index], memory_order_acquire);
    if (page == NULL) return NULL;
    const struct imv_head_series *rows =
        atomic_load_explicit(&page->series[series->index % PAGE_SERIES], memory_order_acquire);
    if (rows == NULL || atomic_load_explicit(&rows->rows, memory_order_acquire) == 0) return NULL;
    return rows;
}

imv_status imv_head_each(const struct imv_head *head,
                         imv_status (*visit)(void *context, struct imv_series *series,
                                             const struct imv_head_series *rows, struct imv_error *err),
                         void *context, struct imv_error *err) {
    const struct directory *directory = atomic_load_explicit(&head->directory, memory_order_acquire);
    for (size_t i = 0; directory != NULL && i < directory->count; i++) {
        const struct page *page = atomic_load_explicit(&directory->pages[i], memory_order_acquire);
        for (size_t j = 0; page != NULL && j < PAGE_SERIES; j++) {
            const struct imv_head_series *rows = atomic_load_explicit(&page->series[j], memory_order_acquire);
            if (rows == NULL || atomic_load_explicit(&rows->rows, memory_order_acquire) == 0) continue;
            IMV_TRY(visit(context, rows->series, rows, err));
        }
    }
    return IMV_OK;
}
