#include "engine/cursor.h"
#include "engine/head.h"
#include "storage/base/budget.h"
#include "storage/base/metrics.h"
#include "tests/support/kv_memory.h"
#include "tests/support/rows_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum {
    SERIES = 4,
    SHARDS = 2,
    FLUSHES_MAX = 48,
    HEADS = 3,
    PARTS_MAX = 256,
    STAGE_NS = 4000, /* what a flush covers when they come in turn; timestamps repeat */
};

#define second_ns INT64_C(1000000000)

/* ---- a hand-made snapshot beside the model of what is in it ---- */

struct world {
    struct imv_prng prng;
    int64_t unit_ns; /* of timestamps: 1, or so many that chunks have statistics by hours */
    struct model_label label;
    struct imv_series series[SERIES];
    struct rows_model models[SERIES];
    struct imv_kv_memory *memory;
    struct imv_kv *kv;
    struct imv_part parts_made[PARTS_MAX];
    size_t parts_count;
    struct imv_parts *parts;
    struct imv_snapshot_shard shards[SHARDS];
    struct imv_snapshot snapshot;
};

/* How rows are spread over time: flush by flush one after the other, with some late ones, or everywhere. */
enum spread { IN_TURN, SOME_LATE, WILD, SPREADS };

static int64_t random_time(struct world *world, enum spread spread, size_t stage, size_t i, size_t count) {
    int64_t offset = (int64_t)(stage * STAGE_NS + i * STAGE_NS / count);
    bool late = spread == SOME_LATE && imv_prng_below(&world->prng, 20) == 0;
    if (late) offset -= (int64_t)imv_prng_below(&world->prng, STAGE_NS * 3 / 2);
    if (spread == WILD) offset = (int64_t)imv_prng_below(&world->prng, 6 * STAGE_NS);
    /* The end of a slot lies within the fifth stage. */
    return INT64_C(50) * IMV_SLOT_NS + (offset - STAGE_NS * 9 / 2) * world->unit_ns;
}

static void put_chunk(struct world *world, struct imv_kv_table *table, const struct imv_part *part, size_t which,
                      const struct rows_model *model, size_t begin, size_t end) {
    size_t rows = end - begin, words = (rows + 63) / 64, columns_count = 0;
    struct imv_chunk_column columns[MODEL_FIELDS_MAX];
    int64_t *timestamps = calloc(rows, sizeof *timestamps);
    for (size_t i = 0; i < rows; i++) timestamps[i] = model->rows[begin + i]->timestamp;
    for (uint32_t id = 0; id < world->label.fields_count; id++) {
        uint64_t *cells = calloc(rows, sizeof *cells), *valid = calloc(words, sizeof *valid);
        size_t values = 0;
        for (size_t i = 0; i < rows; i++) {
            if (!model->rows[begin + i]->has[id]) continue;
            cells[i] = model->rows[begin + i]->cells[id];
            imv_bit_set(valid, i);
            values++;
        }
        if (values == 0) {
            free(cells);
            free(valid);
            continue;
        }
        bool gaps = values < rows;
        if (!gaps) free(valid);
        columns[columns_count++] =
            (struct imv_chunk_column){id, {world->label.fields[id].type, cells, gaps ? valid : NULL}};
    }
    struct imv_chunk_id id = {world->label.label.id, imv_series_id(&world->series[which]), timestamps[0]};
    struct imv_buffer value;
    imv_buffer_init(&value, 64 << 20);
    cr_assert_eq(imv_chunk_encode(&id, timestamps, rows, columns, columns_count, &value, NULL), IMV_OK);
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    imv_chunk_key_put(key, part, id.label, id.series, id.start);
    cr_assert_eq(imv_kv_table_put(table, (struct imv_str){(char *)key, sizeof key}, imv_buffer_view(&value), NULL),
                 IMV_OK);
    imv_buffer_release(&value);
    for (size_t c = 0; c < columns_count; c++) {
        free(columns[c].values.cells);
        free(columns[c].values.valid);
    }
    free(timestamps);
}

static size_t random_chunk_rows(struct world *world) {
    switch (imv_prng_below(&world->prng, 4)) {
        case 0: return 1 + imv_prng_below(&world->prng, 10);
        case 1: return 1 + imv_prng_below(&world->prng, 3000);
        case 2: return IMV_CHUNK_ROWS_MAX;
        default: return IMV_VECTOR_ROWS;
    }
}

/* Writes the rows of one slot as a part. */
static void write_part(struct world *world, uint32_t slot, uint32_t generation, const struct rows_model *models) {
    struct imv_part *part = &world->parts_made[world->parts_count];
    *part = (struct imv_part){.tier = (uint8_t)(generation % 2), .slot = slot, .generation = generation};
    part->label_min = world->label.label.id - (uint32_t)imv_prng_below(&world->prng, 2);
    part->label_max = world->label.label.id + (uint32_t)imv_prng_below(&world->prng, 2);
    part->series_max = UINT64_MAX;
    part->time_min = INT64_MAX;
    part->time_max = INT64_MIN;
    struct imv_kv_table *table;
    cr_assert_eq(imv_kv_table_new(world->kv, &table, NULL), IMV_OK);
    for (size_t s = 0; s < SERIES; s++) {
        size_t end = models[s].count;
        if (imv_slot_of(INT64_MAX) > slot) end = rows_model_lower_bound(&models[s], imv_slot_start(slot + 1));
        for (size_t i = rows_model_lower_bound(&models[s], imv_slot_start(slot)), next; i < end; i = next) {
            next = i + random_chunk_rows(world);
            if (next > end) next = end;
            put_chunk(world, table, part, s, &models[s], i, next);
            if (models[s].rows[i]->timestamp < part->time_min) part->time_min = models[s].rows[i]->timestamp;
            if (models[s].rows[next - 1]->timestamp > part->time_max)
                part->time_max = models[s].rows[next - 1]->timestamp;
            part->chunks++;
        }
    }
    uint64_t bytes;
    if (part->chunks > 0) {
        cr_assert_lt(world->parts_count, PARTS_MAX - 1);
        cr_assert_eq(imv_kv_table_finish(table, &bytes, NULL), IMV_OK);
        cr_assert_eq(imv_kv_ingest(world->kv, &table, 1, NULL), IMV_OK);
        world->parts_count++;
    }
    imv_kv_table_free(table);
}

static void flush_models(struct world *world, uint32_t generation, const struct rows_model *models) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (size_t s = 0; s < SERIES; s++) {
        if (models[s].count == 0) continue;
        if (models[s].rows[0]->timestamp < low) low = models[s].rows[0]->timestamp;
        if (models[s].rows[models[s].count - 1]->timestamp > high)
            high = models[s].rows[models[s].count - 1]->timestamp;
    }
    for (uint32_t slot = imv_slot_of(low); low <= high && slot <= imv_slot_of(high); slot++) {
        write_part(world, slot, generation, models);
    }
}

static void make_flush(struct world *world, enum spread spread, size_t stage, size_t rows_max) {
    struct rows_model models[SERIES];
    for (size_t s = 0; s < SERIES; s++) {
        rows_model_init(&models[s], &world->label);
        size_t count = imv_prng_below(&world->prng, 3) == 0 ? 0 : 1 + imv_prng_below(&world->prng, rows_max);
        for (size_t i = 0; i < count; i++) {
            int64_t timestamp = random_time(world, spread, stage, i, count);
            struct imv_row *row = model_random_row(&world->label, &world->series[s], timestamp, &world->prng);
            rows_model_put(&models[s], row);
            free(row);
        }
    }
    flush_models(world, (uint32_t)stage + 1, models);
    for (size_t s = 0; s < SERIES; s++) {
        rows_model_put_model(&world->models[s], &models[s]);
        rows_model_release(&models[s]);
    }
}

static void make_heads(struct world *world, enum spread spread, size_t stage, size_t rows_max) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct imv_snapshot_shard *view = &world->shards[shard];
        uint64_t sequence = 100;
        bool visible = true;
        view->heads_count = (uint32_t)imv_prng_below(&world->prng, HEADS + 1);
        view->sequence = UINT64_MAX;
        for (uint32_t h = 0; h < view->heads_count; h++) {
            cr_assert_eq(imv_head_new(shard, 1 + shard * HEADS + h, sequence, NULL, &view->heads[h], NULL), IMV_OK);
            size_t count = imv_prng_below(&world->prng, 4) == 0 ? 0 : imv_prng_below(&world->prng, rows_max);
            for (size_t i = 0; i < count; i++) {
                size_t which = shard * (SERIES / SHARDS) + imv_prng_below(&world->prng, SERIES / SHARDS);
                int64_t timestamp = random_time(world, spread, stage + h, i, count);
                struct imv_row *row = model_random_row(&world->label, &world->series[which], timestamp, &world->prng);
                sequence += imv_prng_below(&world->prng, 2);
                if (visible && imv_prng_below(&world->prng, 500) == 0) {
                    visible = false;
                    view->sequence = sequence++;
                }
                cr_assert_eq(imv_head_append(view->heads[h], row, sequence, NULL), IMV_OK);
                if (visible) rows_model_put(&world->models[which], row);
                free(row);
            }
        }
    }
}

static void list_parts(struct world *world) {
    world->parts = calloc(1, sizeof *world->parts + world->parts_count * sizeof world->parts->items[0]);
    world->parts->count = world->parts_count;
    for (size_t i = 0; i < world->parts_count; i++) {
        size_t at = i;
        struct imv_part *part = &world->parts_made[i];
        while (at > 0 && (world->parts->items[at - 1]->slot > part->slot ||
                          (world->parts->items[at - 1]->slot == part->slot &&
                           world->parts->items[at - 1]->generation > part->generation))) {
            world->parts->items[at] = world->parts->items[at - 1];
            at--;
        }
        world->parts->items[at] = part;
    }
}

static void world_init(struct world *world, uint64_t seed, uint32_t fields) {
    memset(world, 0, sizeof *world);
    imv_prng_init(&world->prng, seed);
    world->unit_ns = 1;
    model_label_init(&world->label, 77, fields, &world->prng);
    for (uint32_t s = 0; s < SERIES; s++) {
        world->series[s] =
            (struct imv_series){.label = &world->label.label, .shard = s / (SERIES / SHARDS), .index = 10 + s};
        rows_model_init(&world->models[s], &world->label);
    }
    cr_assert_eq(imv_kv_memory_new(seed, &world->memory, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(world->memory, &world->kv, NULL), IMV_OK);
}

static void world_publish(struct world *world) {
    list_parts(world);
    world->snapshot =
        (struct imv_snapshot){.kv = world->kv, .parts = world->parts, .shards_count = SHARDS, .shards = world->shards};
}

static struct world *world_random(uint64_t seed, enum spread spread) {
    struct world *world = malloc(sizeof *world);
    world_init(world, seed, 1 + (uint32_t)(seed % 8));
    if (imv_prng_below(&world->prng, 2) == 0) world->unit_ns = 2000000000;
    /* Sometimes more parts than a cursor has readers. */
    bool many = imv_prng_below(&world->prng, 3) == 0;
    size_t flushes = imv_prng_below(&world->prng, many ? FLUSHES_MAX : FLUSHES_MAX / 4);
    size_t rows_max = !many && imv_prng_below(&world->prng, 2) == 0 ? 3000 : 150;
    for (size_t i = 0; i < flushes; i++) make_flush(world, spread, i, rows_max);
    make_heads(world, spread, flushes, rows_max);
    world_publish(world);
    return world;
}

static void world_free(struct world *world) {
    for (size_t s = 0; s < SERIES; s++) rows_model_release(&world->models[s]);
    for (size_t i = 0; i < SHARDS; i++) {
        for (uint32_t h = 0; h < world->shards[i].heads_count; h++) imv_head_release(world->shards[i].heads[h]);
    }
    free(world->parts);
    imv_kv_close(world->kv);
    imv_kv_memory_free(world->memory);
    model_label_release(&world->label);
    free(world);
}

/* ---- comparison ---- */

/* The time of a random row, or one beside it. */
static int64_t random_bound(struct world *world, const struct rows_model *model) {
    int64_t timestamp = model->rows[imv_prng_below(&world->prng, model->count)]->timestamp;
    int64_t step = (int64_t)imv_prng_below(&world->prng, 3) - 1;
    if ((step > 0 && timestamp == INT64_MAX) || (step < 0 && timestamp == INT64_MIN)) return timestamp;
    return timestamp + step;
}

static void random_range(struct world *world, size_t which, int64_t *from, int64_t *last) {
    const struct rows_model *model = &world->models[which];
    *from = INT64_MIN;
    *last = INT64_MAX;
    if (model->count == 0 || imv_prng_below(&world->prng, 4) == 0) return;
    *from = random_bound(world, model);
    if (imv_prng_below(&world->prng, 3) > 0) *last = random_bound(world, model);
}

static int64_t horizon(const struct world *world) {
    int64_t retention_ns = world->label.label.retention_ns;
    return retention_ns == 0 ? INT64_MIN : world->snapshot.taken_at_ns - retention_ns;
}

static void check_newest(struct world *world, struct imv_cursor *cursor, size_t which, const uint32_t *columns,
                         size_t columns_count) {
    int64_t timestamps[MODEL_FIELDS_MAX];
    uint64_t cells[MODEL_FIELDS_MAX];
    bool found[MODEL_FIELDS_MAX];
    const struct rows_model *model = &world->models[which];
    cr_assert_eq(imv_cursor_newest(cursor, &world->series[which], timestamps, cells, found, NULL), IMV_OK);
    for (size_t c = 0; c < columns_count; c++) {
        int64_t timestamp;
        uint64_t cell;
        cr_assert_eq(found[c], rows_model_newest(model, horizon(world), columns[c], &timestamp, &cell));
        if (!found[c]) continue;
        cr_assert_eq(timestamps[c], timestamp);
        cr_assert(model_cells_equal(world->label.fields[columns[c]].type, cells[c], cell));
    }
    int64_t timestamp;
    bool any;
    cr_assert_eq(imv_cursor_last_time(cursor, &world->series[which], &timestamp, &any, NULL), IMV_OK);
    cr_assert_eq(any, model->count > 0 && model->rows[model->count - 1]->timestamp >= horizon(world));
    if (any) cr_assert_eq(timestamp, model->rows[model->count - 1]->timestamp);
}

static void check_scan(struct world *world, struct imv_cursor *cursor, size_t which, const uint32_t *columns,
                       size_t columns_count) {
    const struct rows_model *model = &world->models[which];
    int64_t from, last;
    random_range(world, which, &from, &last);
    cr_assert_eq(imv_cursor_seek(cursor, &world->series[which], from, last, NULL), IMV_OK);
    if (from < horizon(world)) from = horizon(world);
    size_t at = rows_model_lower_bound(model, from);
    size_t end = last == INT64_MAX ? model->count : rows_model_lower_bound(model, last + 1);
    bool abandon = imv_prng_below(&world->prng, 10) == 0;
    const struct imv_rows *rows;
    struct imv_error err = {0};
    for (;;) {
        cr_assert_eq(imv_cursor_next(cursor, &rows, &err), IMV_OK, "%s", err.message);
        if (rows->count == 0) break;
        cr_assert_leq(rows->count, IMV_VECTOR_ROWS);
        cr_assert_leq(at + rows->count, end);
        cr_assert(rows_model_matches(model, at, rows, columns, columns_count));
        at += rows->count;
        if (abandon) return;
        /* A read of current values in the middle of a scan must not disturb it. */
        if (imv_prng_below(&world->prng, 20) == 0) check_newest(world, cursor, which, columns, columns_count);
    }
    cr_assert_eq(at, end > at ? end : at, "%zu rows are missing", end - at);
    cr_assert_eq(imv_cursor_next(cursor, &rows, NULL), IMV_OK);
    cr_assert_eq(rows->count, 0);
}

/* ---- buckets ---- */

/* What a naive loop makes of the rows of one bucket. */
struct plain_bucket {
    struct imv_bucket value;
    double sum;
};

static void plain_add(struct plain_bucket *plain, imv_type type, uint64_t cell, int64_t time) {
    struct imv_bucket *bucket = &plain->value;
    bool is_first = bucket->count == bucket->nan_count;
    if (bucket->count == 0) {
        bucket->first = cell;
        bucket->first_time = time;
    }
    bucket->last = cell;
    bucket->last_time = time;
    bucket->count++;
    if (type == IMV_STRING) return;
    if (type == IMV_FLOAT) {
        double value = imv_cell_float(cell);
        if (isnan(value)) {
            bucket->nan_count++;
            return;
        }
        if (is_first || value < imv_cell_float(bucket->min)) bucket->min = cell;
        if (is_first || value > imv_cell_float(bucket->max)) bucket->max = cell;
        plain->sum += value;
        return;
    }
    bool is_unsigned = type == IMV_UINTEGER;
    if (is_first || (is_unsigned ? cell < bucket->min : (int64_t)cell < (int64_t)bucket->min)) bucket->min = cell;
    if (is_first || (is_unsigned ? cell > bucket->max : (int64_t)cell > (int64_t)bucket->max)) bucket->max = cell;
    bucket->sum_integer += is_unsigned ? (imv_int128)cell : (imv_int128)(int64_t)cell;
}

static void compare_bucket(imv_type type, uint8_t needs, const struct imv_bucket *have,
                           const struct plain_bucket *want) {
    const struct imv_bucket *value = &want->value;
    cr_assert_eq(have->count, value->count);
    if (value->count == 0) return;
    if (needs != 0) cr_assert_eq(have->nan_count, value->nan_count);
    if (needs & IMV_BUCKET_FIRST) {
        cr_assert(model_cells_equal(type, have->first, value->first));
        cr_assert_eq(have->first_time, value->first_time);
    }
    if (needs & IMV_BUCKET_LAST) {
        cr_assert(model_cells_equal(type, have->last, value->last));
        cr_assert_eq(have->last_time, value->last_time);
    }
    if (needs & IMV_BUCKET_EXTENT && value->count > value->nan_count) {
        bool equal = have->min == value->min && have->max == value->max;
        if (type == IMV_FLOAT)
            equal = imv_cell_float(have->min) == imv_cell_float(value->min) &&
                    imv_cell_float(have->max) == imv_cell_float(value->max);
        cr_assert(equal);
    }
    if ((needs & IMV_BUCKET_SUM) == 0) return;
    if (type != IMV_FLOAT) {
        cr_assert(have->sum_integer == value->sum_integer);
    } else {
        double sum = imv_sum_round(&have->sum_float);
        if (isfinite(sum) && isfinite(want->sum))
            cr_assert(fabs(sum - want->sum) <= 1e-9 * (fabs(want->sum) + 1), "%g, wanted %g", sum, want->sum);
    }
}

/* The model's bucket that holds row `at`, as far as `end`; returns the row behind what was taken. */
static size_t plain_bucket(const struct rows_model *model, size_t at, size_t end, int64_t width,
                           const uint32_t *columns, size_t columns_count, struct plain_bucket *plain, int64_t *start) {
    int64_t last = INT64_MAX;
    *start = INT64_MIN;
    if (width > 0) *start = imv_bucket_of(model->rows[at]->timestamp, width, &last);
    for (size_t c = 0; c < columns_count; c++) plain[c] = (struct plain_bucket){0};
    for (; at < end && model->rows[at]->timestamp <= last; at++) {
        for (size_t c = 0; c < columns_count; c++) {
            if (!model->rows[at]->has[columns[c]]) continue;
            plain_add(&plain[c], model->label->fields[columns[c]].type, model->rows[at]->cells[columns[c]],
                      model->rows[at]->timestamp);
        }
    }
    return at;
}

static void random_needs(struct world *world, const uint32_t *columns, size_t columns_count, uint8_t *needs) {
    for (size_t c = 0; c < columns_count; c++) {
        needs[c] = (uint8_t)imv_prng_below(&world->prng, 16);
        if (world->label.fields[columns[c]].type == IMV_STRING) needs[c] = 0;
    }
}

static void check_buckets(struct world *world, struct imv_cursor *cursor, size_t which, const uint32_t *columns,
                          size_t columns_count) {
    enum { BUCKETS = 7 };
    static const int64_t widths[] = {
        0, 1, 10, 333, 1000, 1 << 14, INT64_MAX, 1800 * second_ns, 3600 * second_ns, 7200 * second_ns};
    const struct rows_model *model = &world->models[which];
    int64_t from, last, starts[BUCKETS], width = widths[imv_prng_below(&world->prng, 10)];
    uint64_t rows[BUCKETS];
    uint8_t needs[6];
    struct imv_bucket values[BUCKETS * 6];
    struct imv_buckets buckets = {.capacity = 1 + imv_prng_below(&world->prng, BUCKETS),
                                  .columns_count = columns_count,
                                  .starts = starts,
                                  .rows = rows,
                                  .values = values};
    random_range(world, which, &from, &last);
    random_needs(world, columns, columns_count, needs);
    imv_cursor_set_buckets(cursor, width, needs);
    cr_assert_eq(imv_cursor_seek(cursor, &world->series[which], from, last, NULL), IMV_OK);
    if (from < horizon(world)) from = horizon(world);
    size_t at = rows_model_lower_bound(model, from);
    size_t end = last == INT64_MAX ? model->count : rows_model_lower_bound(model, last + 1);
    for (bool more = true; more;) {
        buckets.count = 0;
        struct imv_error err;
        cr_assert_eq(imv_cursor_next_buckets(cursor, &buckets, &more, &err), IMV_OK, "%s", err.message);
        for (size_t b = 0; b < buckets.count; b++) {
            struct plain_bucket plain[6];
            int64_t start;
            cr_assert_lt(at, end, "a bucket too many");
            size_t first = at;
            bool may_be_cut = more && b + 1 == buckets.count && rows[b] < end - at;
            at = plain_bucket(model, at, may_be_cut ? at + rows[b] : end, width, columns, columns_count, plain, &start);
            cr_assert_eq(starts[b], start);
            cr_assert_eq(rows[b], at - first);
            for (size_t c = 0; c < columns_count; c++)
                compare_bucket(world->label.fields[columns[c]].type, needs[c], &values[b * columns_count + c],
                               &plain[c]);
        }
    }
    cr_assert_geq(at, end, "%zu rows are missing", end - at);
}

/* ---- ranges of values ---- */

static bool is_ranged(imv_type type) { return type == IMV_FLOAT || type == IMV_INTEGER || type == IMV_UINTEGER; }

static bool is_within(imv_type type, uint64_t cell, const struct imv_cursor_range *range) {
    if (type == IMV_FLOAT)
        return imv_cell_float(cell) >= imv_cell_float(range->low) &&
               imv_cell_float(cell) <= imv_cell_float(range->high);
    if (type == IMV_UINTEGER) return cell >= range->low && cell <= range->high;
    return (int64_t)cell >= (int64_t)range->low && (int64_t)cell <= (int64_t)range->high;
}

/* How many rows of the model in [at, end) have a value in the range. */
static size_t count_within(const struct rows_model *model, size_t at, size_t end, uint32_t column,
                           const struct imv_cursor_range *range) {
    size_t count = 0;
    for (; at < end; at++) {
        const struct model_row *row = model->rows[at];
        count += row->has[column] && is_within(model->label->fields[column].type, row->cells[column], range);
    }
    return count;
}

/* Rows that a range lets the cursor leave out have no value in it; what comes is as without. */
static void check_ranges(struct world *world, struct imv_cursor *cursor, size_t which, const uint32_t *columns,
                         size_t columns_count) {
    const struct rows_model *model = &world->models[which];
    struct imv_cursor_range range = {.column =
                                         columns_count > 0 ? (uint32_t)imv_prng_below(&world->prng, columns_count) : 0};
    if (columns_count == 0 || model->count == 0) return;
    uint32_t column = columns[range.column];
    const struct model_row *some = model->rows[imv_prng_below(&world->prng, model->count)];
    if (!is_ranged(world->label.fields[column].type) || !some->has[column]) return;
    range.low = range.high = some->cells[column];
    int64_t from, last;
    random_range(world, which, &from, &last);
    imv_cursor_set_ranges(cursor, &range, 1);
    cr_assert_eq(imv_cursor_seek(cursor, &world->series[which], from, last, NULL), IMV_OK);
    if (from < horizon(world)) from = horizon(world);
    size_t at = rows_model_lower_bound(model, from);
    size_t end = last == INT64_MAX ? model->count : rows_model_lower_bound(model, last + 1);
    for (const struct imv_rows *rows;;) {
        cr_assert_eq(imv_cursor_next(cursor, &rows, NULL), IMV_OK);
        size_t begin = rows->count == 0 ? end : rows_model_lower_bound(model, rows->timestamps[0]);
        cr_assert_eq(count_within(model, at, begin, column, &range), 0);
        if (rows->count == 0) break;
        cr_assert(rows_model_matches(model, begin, rows, columns, columns_count));
        at = begin + rows->count;
    }
    imv_cursor_set_ranges(cursor, NULL, 0);
}

static void check_world(struct world *world) {
    for (int round = 0; round < 5; round++) {
        uint32_t columns[6];
        size_t columns_count = imv_prng_below(&world->prng, 6);
        for (size_t c = 0; c < columns_count; c++) {
            columns[c] = (uint32_t)imv_prng_below(&world->prng, world->label.fields_count);
        }
        const struct rows_model *model = &world->models[0];
        world->label.label.retention_ns = 0;
        if (round == 4 && model->count > 0) {
            world->label.label.retention_ns = 1000;
            int64_t limit = model->rows[imv_prng_below(&world->prng, model->count)]->timestamp;
            world->snapshot.taken_at_ns = limit < INT64_MAX - 1000 ? limit + 1000 : limit;
        }
        struct imv_cursor *cursor;
        cr_assert_eq(imv_cursor_new(&world->snapshot, &world->label.label, columns, columns_count, NULL, &cursor, NULL),
                     IMV_OK);
        for (int i = 0; i < 10; i++) {
            size_t which = imv_prng_below(&world->prng, SERIES);
            check_scan(world, cursor, which, columns, columns_count);
            check_newest(world, cursor, which, columns, columns_count);
            check_buckets(world, cursor, which, columns, columns_count);
            check_ranges(world, cursor, which, columns, columns_count);
        }
        imv_cursor_free(cursor);
    }
}

static void check_spread(enum spread spread, const char *name) {
    uint64_t seed = model_seed(name);
    for (uint64_t i = 0; i < 12; i++) {
        struct world *world = world_random(seed + i, spread);
        check_world(world);
        world_free(world);
    }
}

/* Parts and heads that follow each other in time must read as one run of rows. */
Test(cursor, sources_in_turn_match_model) { check_spread(IN_TURN, "cursor.sources_in_turn_match_model"); }

/* Late rows, which make parts and heads overlap here and there, must be merged where they belong. */
Test(cursor, late_rows_match_model) { check_spread(SOME_LATE, "cursor.late_rows_match_model"); }

/* Sources that overlap everywhere, with repeated timestamps and partial rows, must merge field by field. */
Test(cursor, wild_rows_match_model) { check_spread(WILD, "cursor.wild_rows_match_model"); }

/* ---- single properties ---- */

/* The ends of time are timestamps like others. */
Test(cursor, reads_the_ends_of_time) {
    struct world *world = malloc(sizeof *world);
    world_init(world, 3, 3);
    static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX};
    struct rows_model models[SERIES];
    for (size_t s = 0; s < SERIES; s++) rows_model_init(&models[s], &world->label);
    cr_assert_eq(imv_head_new(0, 1, 0, NULL, &world->shards[0].heads[0], NULL), IMV_OK);
    world->shards[0].heads_count = 1;
    world->shards[0].sequence = 1;
    for (int i = 0; i < 12; i++) {
        struct imv_row *row = model_random_row(&world->label, &world->series[0], times[i % 6], &world->prng);
        if (i < 6)
            rows_model_put(&models[0], row);
        else
            cr_assert_eq(imv_head_append(world->shards[0].heads[0], row, 1, NULL), IMV_OK);
        rows_model_put(&world->models[0], row);
        free(row);
    }
    write_part(world, imv_slot_of(INT64_MIN), 1, models);
    write_part(world, imv_slot_of(-1), 1, models);
    write_part(world, imv_slot_of(0), 1, models);
    write_part(world, imv_slot_of(INT64_MAX), 1, models);
    cr_assert_eq(world->parts_count, 4);
    world_publish(world);
    check_world(world);
    for (size_t s = 0; s < SERIES; s++) rows_model_release(&models[s]);
    world_free(world);
}

/* One part with one chunk of rows that begin at 0, all fields of a label of five. */
static struct world *world_of_one_chunk_every(size_t rows, int64_t step_ns) {
    struct world *world = malloc(sizeof *world);
    world_init(world, 9, 5);
    struct rows_model models[SERIES];
    for (size_t s = 0; s < SERIES; s++) rows_model_init(&models[s], &world->label);
    for (size_t i = 0; i < rows; i++) {
        struct imv_row *row = model_random_row(&world->label, &world->series[0], (int64_t)i * step_ns, &world->prng);
        rows_model_put(&models[0], row);
        rows_model_put(&world->models[0], row);
        free(row);
    }
    struct imv_part *part = &world->parts_made[0];
    *part = (struct imv_part){
        .slot = imv_slot_of(0), .generation = 1, .label_min = 77, .label_max = 77, .series_max = UINT64_MAX};
    part->time_max = ((int64_t)rows - 1) * step_ns;
    struct imv_kv_table *table;
    uint64_t bytes;
    cr_assert_eq(imv_kv_table_new(world->kv, &table, NULL), IMV_OK);
    put_chunk(world, table, part, 0, &models[0], 0, rows);
    cr_assert_eq(imv_kv_table_finish(table, &bytes, NULL), IMV_OK);
    cr_assert_eq(imv_kv_ingest(world->kv, &table, 1, NULL), IMV_OK);
    imv_kv_table_free(table);
    world->parts_count = 1;
    world_publish(world);
    for (size_t s = 0; s < SERIES; s++) rows_model_release(&models[s]);
    return world;
}

static struct world *world_of_one_chunk(size_t rows) { return world_of_one_chunk_every(rows, 1); }

/* Reads everything; false with err filled when that fails. Rows that are read before must be right. */
static bool read_all(struct world *world, struct imv_error *err) {
    const uint32_t columns[] = {0, 1, 2, 3, 4};
    struct imv_cursor *cursor;
    cr_assert_eq(imv_cursor_new(&world->snapshot, &world->label.label, columns, 5, NULL, &cursor, NULL), IMV_OK);
    cr_assert_eq(imv_cursor_seek(cursor, &world->series[0], INT64_MIN, INT64_MAX, NULL), IMV_OK);
    size_t at = 0;
    const struct imv_rows *rows;
    imv_status status;
    while ((status = imv_cursor_next(cursor, &rows, err)) == IMV_OK && rows->count > 0) {
        cr_assert(rows_model_matches(&world->models[0], at, rows, columns, 5));
        at += rows->count;
    }
    if (status != IMV_OK) {
        cr_assert_eq(status, err->status);
        cr_assert_eq(imv_cursor_next(cursor, &rows, NULL), IMV_OK);
        cr_assert_eq(rows->count, 0, "a failed read is over");
    } else {
        cr_assert_eq(at, world->models[0].count);
    }
    imv_cursor_free(cursor);
    return status == IMV_OK;
}

/* A flipped byte anywhere in a chunk is either not read or ends the read with an error that names the chunk; it is
 * counted. */
Test(cursor, damage_is_named_and_counted) {
    struct world *world = world_of_one_chunk(1100);
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    imv_chunk_key_put(key, &world->parts_made[0], 77, imv_series_id(&world->series[0]), 0);
    struct imv_str view = {(const char *)key, sizeof key};
    size_t size, found = 0, tried = 0;
    cr_assert_not_null(imv_kv_memory_bytes(world->memory, IMV_KV_CHUNKS, view, &size));
    for (size_t i = 0; i < size; i += i < 200 ? 1 : 1 + imv_prng_below(&world->prng, size / 100), tried++) {
        imv_kv_memory_bytes(world->memory, IMV_KV_CHUNKS, view, &size)[i] ^= 0x10;
        int64_t counted = imv_metric_value(IMV_METRIC_chunks_corrupt_total);
        struct imv_error err = {0};
        if (!read_all(world, &err)) {
            found++;
            cr_assert_eq(err.status, IMV_CORRUPT);
            cr_assert_not_null(strstr(err.message, "chunk of \"plant\" series 10 start 0"), "%s", err.message);
            cr_assert_eq(imv_metric_value(IMV_METRIC_chunks_corrupt_total), counted + 1);
        }
        imv_kv_memory_bytes(world->memory, IMV_KV_CHUNKS, view, &size)[i] ^= 0x10;
    }
    cr_assert_gt(found, tried / 2);
    cr_assert(read_all(world, NULL));
    world_free(world);
}

/* A column whose stored type is not its field's is damage, too: its cells would be taken for something else. */
Test(cursor, foreign_column_type_is_corrupt) {
    struct world *world = world_of_one_chunk(10);
    world->label.fields[1].type = IMV_FLOAT;
    struct imv_error err = {0};
    cr_assert_not(read_all(world, &err));
    cr_assert_eq(err.status, IMV_CORRUPT);
    world->label.fields[1].type = IMV_INTEGER;
    world_free(world);
}

/* Where windows cover some spans of a vector and cut others, each row must count once. */
Test(cursor, spans_that_are_answered_are_not_read_again) {
    enum { BUCKETS = 64 };
    struct world *world = world_of_one_chunk_every(8000, 10 * second_ns);
    static const int64_t widths_minutes[] = {7, 60, 90, 120, 150, 420, 1440};
    const uint32_t columns[] = {0};
    const uint8_t needs[] = {IMV_BUCKET_EXTENT};
    for (size_t w = 0; w < sizeof widths_minutes / sizeof *widths_minutes; w++) {
        for (int64_t from_minutes = 0; from_minutes < 300; from_minutes += 30) {
            int64_t starts[BUCKETS], from = from_minutes * 60 * second_ns, last = 20 * 3600 * second_ns - from / 3;
            uint64_t rows[BUCKETS], found = 0;
            struct imv_bucket values[BUCKETS];
            struct imv_buckets buckets = {
                .capacity = BUCKETS, .columns_count = 1, .starts = starts, .rows = rows, .values = values};
            struct imv_cursor *cursor;
            cr_assert_eq(imv_cursor_new(&world->snapshot, &world->label.label, columns, 1, NULL, &cursor, NULL),
                         IMV_OK);
            imv_cursor_set_buckets(cursor, widths_minutes[w] * 60 * second_ns, needs);
            cr_assert_eq(imv_cursor_seek(cursor, &world->series[0], from, last, NULL), IMV_OK);
            for (bool more = true; more;) {
                buckets.count = 0;
                cr_assert_eq(imv_cursor_next_buckets(cursor, &buckets, &more, NULL), IMV_OK);
                for (size_t b = 0; b < buckets.count; b++) found += rows[b];
            }
            cr_assert_eq(found, (uint64_t)(last / (10 * second_ns) - from / (10 * second_ns) + 1));
            imv_cursor_free(cursor);
        }
    }
    world_free(world);
}

/* A spent budget ends the read with IMV_FULL and everything is given back. */
Test(cursor, budget_is_respected) {
    struct world *world = world_of_one_chunk(3000);
    const uint32_t columns[] = {0, 1, 2, 3, 4};
    size_t refused = 0;
    for (size_t bytes = 1000; bytes < 300000; bytes += 9000) {
        struct imv_budget budget;
        imv_budget_init(&budget, "cursor_test", bytes);
        struct imv_cursor *cursor;
        const struct imv_rows *rows;
        imv_status status = imv_cursor_new(&world->snapshot, &world->label.label, columns, 5, &budget, &cursor, NULL);
        if (status == IMV_OK) {
            status = imv_cursor_seek(cursor, &world->series[0], INT64_MIN, INT64_MAX, NULL);
            while (status == IMV_OK && (status = imv_cursor_next(cursor, &rows, NULL)) == IMV_OK && rows->count > 0) {}
            imv_cursor_free(cursor);
        }
        cr_assert(status == IMV_OK || status == IMV_FULL);
        refused += status != IMV_OK;
        imv_budget_release(&budget);
    }
    cr_assert_gt(refused, 0);
    cr_assert_lt(refused, 30);
    world_free(world);
}

/* Reading one series after the other takes no more memory than reading one. */
Test(cursor, buffers_are_reused_between_series) {
    struct world *world = world_random(5, SOME_LATE);
    struct imv_budget budget;
    imv_budget_init(&budget, "cursor_test", 64 << 20);
    const uint32_t columns[] = {0};
    struct imv_cursor *cursor;
    cr_assert_eq(imv_cursor_new(&world->snapshot, &world->label.label, columns, 1, &budget, &cursor, NULL), IMV_OK);
    size_t settled = 0;
    for (int round = 0; round < 20; round++) {
        if (round == 10) settled = imv_budget_used(&budget);
        for (size_t s = 0; s < SERIES; s++) {
            const struct imv_rows *rows;
            cr_assert_eq(imv_cursor_seek(cursor, &world->series[s], INT64_MIN, INT64_MAX, NULL), IMV_OK);
            while (imv_cursor_next(cursor, &rows, NULL) == IMV_OK && rows->count > 0) {}
        }
    }
    cr_assert_eq(imv_budget_used(&budget), settled);
    imv_cursor_free(cursor);
    imv_budget_release(&budget);
    world_free(world);
}
