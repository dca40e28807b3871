#include "tests/support/threaded.h"

#include "engine/head.h"
#include "engine/rows.h"
#include "storage/base/budget.h"
#include "tests/support/rows_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SEQUENCE_BASE = 1000 };

/* ---- model-based ---- */

struct event {
    struct imv_row *row;
    uint64_t sequence;
};

struct history {
    struct model_label label;
    struct imv_series series;
    struct imv_head *head;
    struct event *events;
    size_t count;
};

enum order { RISING, LATE, SHUFFLED, ORDERS };

static int64_t next_timestamp(enum order order, int64_t newest, size_t count, struct imv_prng *prng) {
    switch (order) {
        case RISING: return newest + 1 + (int64_t)imv_prng_below(prng, 10);
        case LATE:
            if (imv_prng_below(prng, 50) > 0) return newest + (int64_t)imv_prng_below(prng, 10);
            return newest - (int64_t)imv_prng_below(prng, 100);
        default: return (int64_t)imv_prng_below(prng, count + 1) - (int64_t)count / 2;
    }
}

static void history_make(struct history *history, enum order order, size_t count, uint32_t fields,
                         struct imv_prng *prng) {
    *history = (struct history){.count = count};
    model_label_init(&history->label, 7, fields, prng);
    history->series = (struct imv_series){.label = &history->label.label, .shard = 1, .index = 3};
    cr_assert_eq(imv_head_new(1, 5, SEQUENCE_BASE, NULL, &history->head, NULL), IMV_OK);
    history->events = calloc(count, sizeof history->events[0]);
    int64_t newest = 0;
    uint64_t sequence = SEQUENCE_BASE;
    for (size_t i = 0; i < count; i++) {
        int64_t timestamp = next_timestamp(order, newest, count, prng);
        if (timestamp > newest || i == 0) newest = timestamp;
        sequence += imv_prng_below(prng, 3);
        struct imv_row *row = model_random_row(&history->label, &history->series, timestamp, prng);
        history->events[i] = (struct event){row, sequence};
        cr_assert_eq(imv_head_append(history->head, row, sequence, NULL), IMV_OK);
    }
}

static void history_free(struct history *history) {
    for (size_t i = 0; i < history->count; i++) free(history->events[i].row);
    free(history->events);
    imv_head_release(history->head);
    model_label_release(&history->label);
}

static size_t model_at(const struct history *history, uint64_t sequence, struct rows_model *model) {
    rows_model_init(model, &history->label);
    size_t rows = 0;
    for (; rows < history->count && history->events[rows].sequence <= sequence; rows++) {
        rows_model_put(model, history->events[rows].row);
    }
    return rows;
}

static uint64_t random_sequence(const struct history *history, struct imv_prng *prng) {
    uint64_t last = history->events[history->count - 1].sequence;
    switch (imv_prng_below(prng, 4)) {
        case 0: return UINT64_MAX;
        case 1: return last;
        default: return SEQUENCE_BASE - 2 + imv_prng_below(prng, last - SEQUENCE_BASE + 4);
    }
}

static size_t random_columns(const struct history *history, uint32_t *columns, struct imv_prng *prng) {
    size_t count = imv_prng_below(prng, 5);
    for (size_t i = 0; i < count; i++) columns[i] = (uint32_t)imv_prng_below(prng, history->label.fields_count);
    return count;
}

static void random_range(const struct rows_model *model, int64_t *from, int64_t *last, struct imv_prng *prng) {
    *from = INT64_MIN;
    *last = INT64_MAX;
    if (model->count == 0 || imv_prng_below(prng, 4) == 0) return;
    int64_t low = model->rows[0]->timestamp - 2, width = model->rows[model->count - 1]->timestamp + 4 - low;
    *from = low + (int64_t)imv_prng_below(prng, (uint64_t)width);
    if (imv_prng_below(prng, 3) > 0) *last = low + (int64_t)imv_prng_below(prng, (uint64_t)width);
}

static void check_extent(const struct history *history, uint64_t sequence, const struct rows_model *model,
                         size_t rows) {
    const struct imv_head_series *series = imv_head_find(history->head, &history->series);
    size_t rows_max = 0;
    int64_t time_min = 0, time_max = 0;
    bool any = imv_head_series_extent(series, sequence, &rows_max, &time_min, &time_max);
    cr_assert_eq(any, rows > 0);
    if (!any) return;
    cr_assert_eq(rows_max, rows);
    cr_assert_eq(time_min, model->rows[0]->timestamp);
    cr_assert_eq(time_max, model->rows[model->count - 1]->timestamp);
}

static void check_read(const struct history *history, uint64_t sequence, const struct rows_model *model,
                       struct imv_rows *rows, struct imv_prng *prng) {
    const struct imv_head_series *series = imv_head_find(history->head, &history->series);
    int64_t from, last;
    uint32_t columns[8];
    size_t columns_count = random_columns(history, columns, prng);
    random_range(model, &from, &last, prng);
    cr_assert_eq(imv_head_read(series, sequence, NULL, from, last, columns, columns_count, rows, NULL), IMV_OK);
    size_t begin = rows_model_lower_bound(model, from);
    size_t end = last == INT64_MAX ? model->count : rows_model_lower_bound(model, last + 1);
    cr_assert_eq(rows->count, end > begin ? end - begin : 0);
    cr_assert(rows_model_matches(model, begin, rows, columns, columns_count));
}

/* columns NULL must give exactly the columns that have a value in the range. */
static void check_read_all(const struct history *history, uint64_t sequence, const struct rows_model *model,
                           struct imv_rows *rows, struct imv_prng *prng) {
    const struct imv_head_series *series = imv_head_find(history->head, &history->series);
    int64_t from, last;
    random_range(model, &from, &last, prng);
    uint32_t columns[MODEL_FIELDS_MAX];
    size_t columns_count = 0, begin = rows_model_lower_bound(model, from);
    for (uint32_t id = 0; id < history->label.fields_count; id++) {
        bool any = false;
        for (size_t i = begin; i < model->count && model->rows[i]->timestamp <= last; i++)
            any |= model->rows[i]->has[id];
        if (any) columns[columns_count++] = id;
    }
    cr_assert_eq(imv_head_read(series, sequence, NULL, from, last, NULL, 0, rows, NULL), IMV_OK);
    cr_assert(rows_model_matches(model, begin, rows, columns, columns_count));
}

static void check_newest(const struct history *history, uint64_t sequence, const struct rows_model *model,
                         struct imv_prng *prng) {
    const struct imv_head_series *series = imv_head_find(history->head, &history->series);
    uint32_t columns[MODEL_FIELDS_MAX];
    int64_t timestamps[MODEL_FIELDS_MAX], before[MODEL_FIELDS_MAX];
    uint64_t cells[MODEL_FIELDS_MAX];
    bool found[MODEL_FIELDS_MAX], found_before[MODEL_FIELDS_MAX];
    uint32_t count = (uint32_t)imv_prng_below(prng, history->label.fields_count + 1);
    for (uint32_t i = 0; i < count; i++) {
        columns[i] = i;
        found[i] = found_before[i] = imv_prng_below(prng, 3) == 0;
        size_t any = model->count == 0 ? 0 : imv_prng_below(prng, model->count);
        timestamps[i] = before[i] = model->count == 0 ? 0 : model->rows[any]->timestamp;
        cells[i] = 42;
    }
    imv_head_newest(series, sequence, NULL, columns, count, timestamps, cells, found);
    for (uint32_t i = 0; i < count; i++) {
        int64_t timestamp;
        uint64_t cell;
        bool any = rows_model_newest(model, INT64_MIN, i, &timestamp, &cell);
        if (!any || (found_before[i] && timestamp < before[i])) {
            cr_assert_eq(found[i], found_before[i]);
            cr_assert_eq(timestamps[i], before[i]);
            cr_assert_eq(cells[i], 42);
        } else {
            cr_assert(found[i]);
            cr_assert_eq(timestamps[i], timestamp);
            cr_assert(model_cells_equal(history->label.fields[i].type, cells[i], cell));
        }
    }
}

static void check_against_model(enum order order, size_t count, uint32_t fields, struct imv_prng *prng) {
    struct history history;
    history_make(&history, order, count, fields, prng);
    cr_assert_eq(imv_head_rows(history.head), count);
    struct imv_rows rows;
    imv_rows_init(&rows, NULL);
    for (int i = 0; i < 6; i++) {
        uint64_t sequence = random_sequence(&history, prng);
        struct rows_model model;
        size_t visible = model_at(&history, sequence, &model);
        check_extent(&history, sequence, &model, visible);
        for (int j = 0; j < 6; j++) {
            check_read(&history, sequence, &model, &rows, prng);
            check_read_all(&history, sequence, &model, &rows, prng);
            check_newest(&history, sequence, &model, prng);
        }
        rows_model_release(&model);
    }
    imv_rows_release(&rows);
    history_free(&history);
}

/* Whatever rows came in whatever order, every read at every sequence must give what the obvious model gives. */
Test(head, reads_match_model) {
    struct imv_prng prng;
    imv_prng_init(&prng, model_seed("head.reads_match_model"));
    for (int round = 0; round < 12; round++) {
        for (enum order order = RISING; order < ORDERS; order++) {
            size_t count = 1 + imv_prng_below(&prng, round % 4 == 3 ? 5000 : 200);
            check_against_model(order, count, 1 + (uint32_t)imv_prng_below(&prng, 9), &prng);
        }
    }
}

/* Rows of more than 64 fields, whose presence mask has several words, must read the same. */
Test(head, wide_rows_match_model) {
    struct imv_prng prng;
    imv_prng_init(&prng, model_seed("head.wide_rows_match_model"));
    for (int round = 0; round < 6; round++) {
        check_against_model((enum order)(round % ORDERS), 1 + imv_prng_below(&prng, 300), 150, &prng);
    }
}

/* A scan in pieces of any size must give the rows that one read gives. */
Test(head, scan_in_pieces_equals_read) {
    struct imv_prng prng;
    imv_prng_init(&prng, model_seed("head.scan_in_pieces_equals_read"));
    for (enum order order = RISING; order < ORDERS; order++) {
        struct history history;
        history_make(&history, order, 3000, 6, &prng);
        struct rows_model model;
        model_at(&history, UINT64_MAX, &model);
        const uint32_t columns[] = {4, 0, 5};
        int32_t positions[3];
        size_t values[3];
        static int64_t timestamps[1024];
        static uint64_t cells[3][1024], valid[3][16];
        uint32_t ids[3] = {4, 0, 5};
        struct imv_vector vectors[3];
        for (int c = 0; c < 3; c++)
            vectors[c] = (struct imv_vector){history.label.fields[columns[c]].type, cells[c], valid[c]};
        struct imv_arena arena;
        imv_arena_init(&arena, 1024, NULL);
        struct imv_head_scan scan;
        const struct imv_head_series *series = imv_head_find(history.head, &history.series);
        cr_assert_eq(imv_head_scan_begin(&scan, series, UINT64_MAX, NULL, INT64_MIN, INT64_MAX, columns, 3, positions,
                                         &arena, NULL),
                     IMV_OK);
        size_t at = 0, count;
        while ((count = imv_head_scan_next(&scan, 1 + imv_prng_below(&prng, 1024), timestamps, vectors, values)) > 0) {
            struct imv_rows rows = {
                .count = count, .timestamps = timestamps, .columns_count = 3, .column_ids = ids, .columns = vectors};
            cr_assert(rows_model_matches(&model, at, &rows, columns, 3));
            for (int c = 0; c < 3; c++) {
                size_t have = 0;
                for (size_t i = 0; i < count; i++) have += imv_bit_get(valid[c], i);
                cr_assert_eq(values[c], have);
            }
            at += count;
        }
        cr_assert_eq(at, model.count);
        imv_arena_release(&arena);
        rows_model_release(&model);
        history_free(&history);
    }
}

/* ---- single properties ---- */

static struct imv_row *all_fields_row(struct imv_shape *shape, struct imv_series *series) {
    struct imv_row *row = calloc(1, sizeof *row + shape->count * sizeof row->cells[0]);
    row->series = series;
    row->shape = shape;
    return row;
}

/* A head keeps a copy of the strings of its rows: the batch they came in may go. */
Test(head, strings_are_copied) {
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    struct model_label label;
    model_label_init(&label, 1, 5, &prng);
    struct imv_series series = {.label = &label.label};
    struct imv_shape *shape = model_shape_of_all(&label);
    struct imv_row *row = all_fields_row(shape, &series);
    struct {
        uint32_t size;
        char bytes[8];
    } string = {5, "alarm"};
    row->cells[4] = imv_string_cell((const void *)&string);
    struct imv_head *head;
    cr_assert_eq(imv_head_new(0, 1, 0, NULL, &head, NULL), IMV_OK);
    cr_assert_eq(imv_head_append(head, row, 1, NULL), IMV_OK);
    memset(&string, 0xff, sizeof string);

    int64_t timestamp;
    uint64_t cell;
    bool found = false;
    const uint32_t column = 4;
    imv_head_newest(imv_head_find(head, &series), 1, NULL, &column, 1, &timestamp, &cell, &found);
    cr_assert(found);
    cr_assert(imv_str_equal(imv_cell_str(cell), IMV_STR("alarm")));
    free(row);
    free(shape);
    imv_head_release(head);
    model_label_release(&label);
}

struct each_log {
    const struct imv_head *head;
    uint32_t indices[16];
    size_t count;
    imv_status answer;
};

static imv_status log_series(void *context, struct imv_series *series, const struct imv_head_series *rows,
                             struct imv_error *err) {
    struct each_log *log = context;
    cr_assert_eq(imv_head_find(log->head, series), rows);
    log->indices[log->count++] = series->index;
    return log->answer == IMV_OK ? IMV_OK : imv_fail(err, log->answer, "stop");
}

/* Series of any index are found, visited in order of index, and cost nothing when they have no rows; a visitor's
 * failure ends the walk. */
Test(head, series_are_found_and_visited_in_order) {
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    struct model_label label;
    model_label_init(&label, 1, 3, &prng);
    struct imv_shape *shape = model_shape_of_all(&label);
    static const uint32_t indices[] = {1000000, 3, 511, 512, 70000, 0};
    static const uint32_t sorted[] = {0, 3, 511, 512, 70000, 1000000};
    struct imv_series series[6], absent[3];
    struct imv_head *head;
    cr_assert_eq(imv_head_new(2, 9, 0, NULL, &head, NULL), IMV_OK);
    for (int i = 0; i < 3; i++) {
        absent[i] = (struct imv_series){.label = &label.label, .shard = 2, .index = i == 0 ? 1 : (uint32_t)i * 800000};
        cr_assert_null(imv_head_find(head, &absent[i]));
    }
    for (int i = 0; i < 6; i++) {
        series[i] = (struct imv_series){.label = &label.label, .shard = 2, .index = indices[i], .head_generation = 8};
        struct imv_row *row = all_fields_row(shape, &series[i]);
        row->timestamp = i;
        cr_assert_eq(imv_head_append(head, row, 1, NULL), IMV_OK);
        cr_assert_eq(series[i].head, imv_head_find(head, &series[i]));
        cr_assert_eq(series[i].head_generation, 9);
        free(row);
    }
    for (int i = 0; i < 3; i++) cr_assert_null(imv_head_find(head, &absent[i]));
    struct each_log log = {.head = head};
    cr_assert_eq(imv_head_each(head, log_series, &log, NULL), IMV_OK);
    cr_assert_eq(log.count, 6);
    cr_assert_arr_eq(log.indices, sorted, sizeof sorted);
    cr_assert_lt(imv_head_bytes(head), 300000);

    log = (struct each_log){.head = head, .answer = IMV_IO};
    cr_assert_eq(imv_head_each(head, log_series, &log, NULL), IMV_IO);
    cr_assert_eq(log.count, 1);
    free(shape);
    imv_head_release(head);
    model_label_release(&label);
}

/* A spent budget refuses the row, leaves the rows before it readable, and gets everything back at the end. */
Test(head, spent_budget_refuses_whole_rows) {
    struct imv_prng prng;
    imv_prng_init(&prng, model_seed("head.spent_budget"));
    struct model_label label;
    model_label_init(&label, 1, 10, &prng);
    struct imv_budget budget;
    imv_budget_init(&budget, "head_test", 300000);
    struct imv_head *head;
    cr_assert_eq(imv_head_new(0, 1, 0, &budget, &head, NULL), IMV_OK);
    static struct imv_series series[40];
    struct rows_model models[40];
    for (uint32_t i = 0; i < 40; i++) {
        series[i] = (struct imv_series){.label = &label.label, .index = i};
        rows_model_init(&models[i], &label);
    }
    uint64_t appended = 0;
    int refused = 0;
    struct imv_error err = {0};
    while (refused < 100) {
        uint32_t which = (uint32_t)imv_prng_below(&prng, 40);
        struct imv_row *row = model_random_row(&label, &series[which], (int64_t)appended, &prng);
        imv_status status = imv_head_append(head, row, appended + 1, &err);
        if (status == IMV_OK) {
            rows_model_put(&models[which], row);
            appended++;
        } else {
            cr_assert_eq(status, IMV_FULL);
            cr_assert_not_null(strstr(err.message, "head_test"));
            refused++;
        }
        free(row);
    }
    cr_assert_eq(imv_head_rows(head), appended);
    cr_assert_gt(appended, 1000, "%lu rows in 300,000 bytes", (unsigned long)appended);
    cr_assert_leq(imv_head_bytes(head), 300000);
    cr_assert_eq(imv_head_bytes(head), imv_budget_used(&budget));
    struct imv_rows rows;
    imv_rows_init(&rows, NULL);
    const uint32_t columns[] = {0, 4, 9};
    for (uint32_t i = 0; i < 40; i++) {
        cr_assert_eq(imv_head_read(imv_head_find(head, &series[i]), UINT64_MAX, NULL, INT64_MIN, INT64_MAX, columns, 3,
                                   &rows, NULL),
                     IMV_OK);
        cr_assert_eq(rows.count, models[i].count);
        cr_assert(rows_model_matches(&models[i], 0, &rows, columns, 3));
        rows_model_release(&models[i]);
    }
    imv_rows_release(&rows);
    imv_head_release(head);
    imv_budget_release(&budget);
    model_label_release(&label);
}

static struct imv_shape *shape_of(struct model_label *label, uint32_t field) {
    struct imv_shape *shape = calloc(1, sizeof *shape + sizeof shape->fields[0]);
    *shape = (struct imv_shape){.label = &label->label, .id = field, .count = 1, .fields_end = field + 1};
    shape->fields[0] = &label->fields[field];
    shape->strings_count = shape->fields[0]->type == IMV_STRING;
    return shape;
}

/* A row that is refused after a block was made for it leaves nothing in the way of a row of another shape. */
Test(head, a_block_without_rows_is_replaced) {
    enum { TEXT = 4, TEXT_BYTES = 60000 };
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    struct model_label label;
    model_label_init(&label, 1, 5, &prng);
    struct imv_string *string = calloc(1, sizeof *string + TEXT_BYTES);
    string->size = TEXT_BYTES;
    struct imv_budget budget;
    imv_budget_init(&budget, "head_test", 40000);
    struct imv_series series = {.label = &label.label};
    struct imv_head *head;
    cr_assert_eq(imv_head_new(0, 1, 0, &budget, &head, NULL), IMV_OK);
    struct imv_shape *shapes[5];
    for (uint32_t i = 0; i < 5; i++) shapes[i] = shape_of(&label, i);
    const uint32_t fields[] = {TEXT, 0, TEXT, 1, TEXT, 1, 2};
    uint64_t sequence = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        struct imv_row *row = all_fields_row(shapes[fields[i]], &series);
        row->timestamp = (int64_t)i;
        row->cells[0] = fields[i] == TEXT ? imv_string_cell(string) : i;
        imv_status status = imv_head_append(head, row, sequence + 1, NULL);
        cr_assert_eq(status, fields[i] == TEXT ? IMV_FULL : IMV_OK);
        sequence += status == IMV_OK;
        free(row);
    }
    struct imv_rows rows;
    imv_rows_init(&rows, NULL);
    cr_assert_eq(
        imv_head_read(imv_head_find(head, &series), sequence, NULL, INT64_MIN, INT64_MAX, NULL, 0, &rows, NULL),
        IMV_OK);
    const int64_t timestamps[] = {1, 3, 5, 6};
    cr_assert_eq(rows.count, 4);
    cr_assert_arr_eq(rows.timestamps, timestamps, sizeof timestamps);
    imv_rows_release(&rows);
    imv_head_release(head);
    imv_budget_release(&budget);
    for (uint32_t i = 0; i < 5; i++) free(shapes[i]);
    free(string);
    model_label_release(&label);
}

/* Reading into rows whose budget is spent must say so and leave nothing behind. */
Test(head, read_budget_is_respected) {
    struct imv_prng prng;
    imv_prng_init(&prng, 3);
    for (enum order order = RISING; order < ORDERS; order++) {
        struct history history;
        history_make(&history, order, 5000, 5, &prng);
        struct imv_budget budget;
        imv_budget_init(&budget, "read_test", 30000);
        struct imv_rows rows;
        imv_rows_init(&rows, &budget);
        const struct imv_head_series *series = imv_head_find(history.head, &history.series);
        cr_assert_eq(imv_head_read(series, UINT64_MAX, NULL, INT64_MIN, INT64_MAX, NULL, 0, &rows, NULL), IMV_FULL);
        imv_rows_release(&rows);
        imv_budget_release(&budget);
        history_free(&history);
    }
}

/* Rows whose every one brings another field must not cost more than their sum allows: blocks stay small. */
Test(head, alternating_shapes_stay_small) {
    struct imv_prng prng;
    imv_prng_init(&prng, 4);
    struct model_label label;
    model_label_init(&label, 1, 150, &prng);
    struct imv_series series = {.label = &label.label};
    struct imv_head *head;
    cr_assert_eq(imv_head_new(0, 1, 0, NULL, &head, NULL), IMV_OK);
    for (int i = 0; i < 6000; i++) {
        struct imv_row *row = model_random_row(&label, &series, i, &prng);
        cr_assert_eq(imv_head_append(head, row, 1, NULL), IMV_OK);
        free(row);
    }
    cr_assert_lt(imv_head_bytes(head), 6000 * (16 + 24 + 150 * 8) * 3 / 2 + 200000);
    imv_head_release(head);
    model_label_release(&label);
}

/* ---- threads ---- */

enum { THREAD_SERIES = 3, THREAD_ROWS = 30000, READERS = 3 };

struct race {
    struct imv_head *head;
    struct imv_series series[THREAD_SERIES];
    struct imv_shape *narrow, *wide;
    _Atomic uint64_t synced; /* rows up to this sequence are published */
    _Atomic bool go;
};

/* Row i of the race: series i % 3, every value tells i; series 1 gets late rows, series 2 a second shape halfway. */
static int64_t race_timestamp(uint64_t i) { return (int64_t)(i % 3 == 1 && i % 101 == 0 ? i - 60 : i); }

static void *race_writer(void *context) {
    struct race *race = context;
    for (uint64_t i = 1; i <= THREAD_ROWS; i++) {
        struct imv_series *series = &race->series[i % THREAD_SERIES];
        struct imv_shape *shape = i % THREAD_SERIES == 2 && i > THREAD_ROWS / 2 ? race->wide : race->narrow;
        struct imv_row *row = all_fields_row(shape, series);
        row->timestamp = race_timestamp(i);
        for (uint32_t c = 0; c < shape->count; c++) row->cells[c] = i;
        cr_assert_eq(imv_head_append(race->head, row, i, NULL), IMV_OK);
        free(row);
        if (i % 7 == 0 || i == THREAD_ROWS) atomic_store_explicit(&race->synced, i, memory_order_release);
    }
    return NULL;
}

static void check_race_rows(const struct imv_rows *rows, uint64_t which, uint64_t sequence) {
    for (size_t i = 0; i < rows->count; i++) {
        uint64_t value = rows->columns[0].cells[i];
        cr_assert(imv_vector_has(&rows->columns[0], i));
        cr_assert_eq(value % THREAD_SERIES, which);
        cr_assert_leq(value, sequence);
        cr_assert_eq(race_timestamp(value), rows->timestamps[i]);
        cr_assert(i == 0 || rows->timestamps[i] > rows->timestamps[i - 1]);
        bool wide = which == 2 && value > THREAD_ROWS / 2;
        cr_assert_eq(imv_vector_has(&rows->columns[1], i), wide);
        if (wide) cr_assert_eq(rows->columns[1].cells[i], value);
    }
}

static size_t race_rows_expected(uint64_t which, uint64_t sequence) {
    size_t count = 0;
    for (uint64_t i = 1; i <= sequence; i++) {
        if (i % THREAD_SERIES != which) continue;
        /* A late row takes the place of the row that has its timestamp, when that is of the same series. */
        bool replaces =
            race_timestamp(i) != (int64_t)i && race_timestamp((uint64_t)race_timestamp(i)) == race_timestamp(i);
        count += !replaces || race_timestamp(i) % THREAD_SERIES != (int64_t)which || race_timestamp(i) < 1;
    }
    return count;
}

static void *race_reader(void *context) {
    struct race *race = context;
    struct imv_rows rows;
    imv_rows_init(&rows, NULL);
    const uint32_t columns[] = {1, 2};
    uint64_t sequence = 0;
    for (uint64_t turn = 0; sequence < THREAD_ROWS; turn++) {
        sequence = atomic_load_explicit(&race->synced, memory_order_acquire);
        uint64_t which = turn % THREAD_SERIES;
        const struct imv_head_series *series = imv_head_find(race->head, &race->series[which]);
        if (series == NULL) continue;
        int64_t from = turn % 2 == 0 ? INT64_MIN : (int64_t)sequence - 200;
        cr_assert_eq(imv_head_read(series, sequence, NULL, from, INT64_MAX, columns, 2, &rows, NULL), IMV_OK);
        check_race_rows(&rows, which, sequence);
        if (from == INT64_MIN) cr_assert_eq(rows.count, race_rows_expected(which, sequence));
        int64_t timestamp;
        uint64_t cell;
        bool found = false;
        imv_head_newest(series, sequence, NULL, columns, 1, &timestamp, &cell, &found);
        cr_assert_eq(found, rows.count > 0);
        if (found) cr_assert_eq(timestamp, rows.timestamps[rows.count - 1]);
    }
    imv_rows_release(&rows);
    return NULL;
}

/* Readers beside the writer see exactly the rows up to their sequence, whole and in order. */
Test(head, readers_beside_the_writer) {
    struct imv_prng prng;
    imv_prng_init(&prng, 5);
    struct model_label label;
    model_label_init(&label, 1, 3, &prng);
    for (uint32_t i = 0; i < 3; i++) label.fields[i].type = IMV_UINTEGER;
    struct race race = {.wide = model_shape_of_all(&label)};
    label.fields_count = 2;
    race.narrow = model_shape_of_all(&label);
    for (uint32_t i = 0; i < THREAD_SERIES; i++) {
        race.series[i] = (struct imv_series){.label = &label.label, .index = i * 600};
    }
    cr_assert_eq(imv_head_new(0, 1, 0, NULL, &race.head, NULL), IMV_OK);
    pthread_t writer, readers[READERS];
    for (int i = 0; i < READERS; i++) pthread_create(&readers[i], NULL, race_reader, &race);
    pthread_create(&writer, NULL, race_writer, &race);
    pthread_join(writer, NULL);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    imv_head_release(race.head);
    free(race.wide);
    free(race.narrow);
    model_label_release(&label);
}
