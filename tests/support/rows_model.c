#include "tests/support/rows_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t model_seed(const char *test) {
    const char *given = getenv("IMV_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    fprintf(stderr, "%s: IMV_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

/* ---- labels and rows ---- */

static struct imv_shape *new_shape(struct model_label *label, const uint32_t *ids, uint32_t count) {
    struct imv_shape *shape = calloc(1, sizeof *shape + count * sizeof shape->fields[0]);
    shape->label = &label->label;
    shape->count = count;
    for (uint32_t i = 0; i < count; i++) {
        shape->fields[i] = &label->fields[ids[i]];
        if (label->fields[ids[i]].type == IMV_STRING) shape->strings_count++;
        if (ids[i] >= shape->fields_end) shape->fields_end = ids[i] + 1;
    }
    return shape;
}

struct imv_shape *model_shape_of_all(struct model_label *label) {
    uint32_t ids[MODEL_FIELDS_MAX];
    for (uint32_t i = 0; i < label->fields_count; i++) ids[i] = i;
    return new_shape(label, ids, label->fields_count);
}

static struct imv_shape *random_shape(struct model_label *label, struct imv_prng *prng) {
    uint32_t ids[MODEL_FIELDS_MAX];
    uint32_t count = label->fields_count;
    for (uint32_t i = 0; i < count; i++) ids[i] = i;
    if (imv_prng_below(prng, 3) > 0) {
        for (uint32_t i = count - 1; i > 0; i--) {
            uint32_t j = (uint32_t)imv_prng_below(prng, i + 1), id = ids[i];
            ids[i] = ids[j];
            ids[j] = id;
        }
    }
    return new_shape(label, ids, 1 + (uint32_t)imv_prng_below(prng, count));
}

void model_label_init(struct model_label *label, uint32_t id, uint32_t fields_count, struct imv_prng *prng) {
    *label = (struct model_label){.label.id = id, .label.name = IMV_STR("plant"), .fields_count = fields_count};
    for (uint32_t i = 0; i < fields_count; i++) {
        label->fields[i] = (struct imv_field){IMV_STR("field"), i, (imv_type)(IMV_FLOAT + i % IMV_STRING)};
        label->pointers[i] = &label->fields[i];
    }
    atomic_init(&label->label.fields, label->pointers);
    atomic_init(&label->label.fields_count, fields_count);
    for (int i = 0; i < MODEL_SHAPES; i++) label->shapes[i] = random_shape(label, prng);
}

void model_label_release(struct model_label *label) {
    for (int i = 0; i < MODEL_SHAPES; i++) free(label->shapes[i]);
}

static uint64_t random_cell(imv_type type, struct imv_prng *prng) {
    static const struct {
        uint32_t size;
        char bytes[12];
    } strings[] = {{0, ""}, {2, "on"}, {3, "off"}, {7, "unknown"}, {12, "1\0binary\nab"}};
    switch (type) {
        case IMV_FLOAT:
            if (imv_prng_below(prng, 20) == 0) return UINT64_C(0x7ff8000000000001);
            return imv_float_cell((double)imv_prng_below(prng, 1000) / 8);
        case IMV_BOOLEAN: return imv_prng_below(prng, 2);
        case IMV_STRING: return imv_string_cell((const void *)&strings[imv_prng_below(prng, 5)]);
        case IMV_INTEGER:
        case IMV_UINTEGER: break;
    }
    return imv_prng_below(prng, 8) == 0 ? imv_prng_next(prng) : imv_prng_below(prng, 100);
}

struct imv_row *model_random_row(struct model_label *label, struct imv_series *series, int64_t timestamp,
                                 struct imv_prng *prng) {
    /* Most rows of a stream have one shape. */
    size_t which = imv_prng_below(prng, 4) > 0 ? 0 : imv_prng_below(prng, MODEL_SHAPES);
    const struct imv_shape *shape = label->shapes[which];
    struct imv_row *row = malloc(sizeof *row + shape->count * sizeof row->cells[0]);
    row->series = series;
    row->shape = shape;
    row->timestamp = timestamp;
    for (uint32_t i = 0; i < shape->count; i++) row->cells[i] = random_cell(shape->fields[i]->type, prng);
    return row;
}

/* ---- the model ---- */

void rows_model_init(struct rows_model *model, const struct model_label *label) {
    *model = (struct rows_model){.label = label};
}

void rows_model_release(struct rows_model *model) {
    for (size_t i = 0; i < model->count; i++) free(model->rows[i]);
    free(model->rows);
    *model = (struct rows_model){0};
}

size_t rows_model_lower_bound(const struct rows_model *model, int64_t from) {
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (model->rows[middle]->timestamp < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct model_row *ensure_row(struct rows_model *model, int64_t timestamp) {
    size_t at = rows_model_lower_bound(model, timestamp);
    if (at < model->count && model->rows[at]->timestamp == timestamp) return model->rows[at];
    if (model->count == model->capacity) {
        model->capacity = model->capacity == 0 ? 64 : model->capacity * 2;
        model->rows = realloc(model->rows, model->capacity * sizeof model->rows[0]);
    }
    memmove(&model->rows[at + 1], &model->rows[at], (model->count - at) * sizeof model->rows[0]);
    struct model_row *row = model->rows[at] = calloc(1, sizeof *row);
    row->timestamp = timestamp;
    model->count++;
    return row;
}

void rows_model_put(struct rows_model *model, const struct imv_row *row) {
    struct model_row *to = ensure_row(model, row->timestamp);
    for (uint32_t i = 0; i < row->shape->count; i++) {
        uint32_t id = row->shape->fields[i]->id;
        to->has[id] = true;
        to->cells[id] = row->cells[i];
    }
}

void rows_model_put_model(struct rows_model *model, const struct rows_model *later) {
    for (size_t i = 0; i < later->count; i++) {
        const struct model_row *from = later->rows[i];
        struct model_row *to = ensure_row(model, from->timestamp);
        for (uint32_t id = 0; id < model->label->fields_count; id++) {
            if (!from->has[id]) continue;
            to->has[id] = true;
            to->cells[id] = from->cells[id];
        }
    }
}

bool model_cells_equal(imv_type type, uint64_t a, uint64_t b) {
    return type == IMV_STRING ? imv_str_equal(imv_cell_str(a), imv_cell_str(b)) : a == b;
}

static bool row_matches(const struct rows_model *model, const struct model_row *expected, const struct imv_rows *rows,
                        size_t row, const uint32_t *columns, size_t columns_count) {
    if (rows->timestamps[row] != expected->timestamp) {
        fprintf(stderr, "row %zu: time %lld, expected %lld\n", row, (long long)rows->timestamps[row],
                (long long)expected->timestamp);
        return false;
    }
    for (size_t c = 0; c < columns_count; c++) {
        uint32_t id = columns[c];
        imv_type type = model->label->fields[id].type;
        const struct imv_vector *vector = &rows->columns[c];
        bool has = imv_vector_has(vector, row);
        if (rows->column_ids[c] == id && vector->type == type && has == expected->has[id] &&
            (!has || model_cells_equal(type, vector->cells[row], expected->cells[id]))) {
            continue;
        }
        fprintf(stderr, "row %zu time %lld column %u: has %d, expected %d; or id, type or value differ\n", row,
                (long long)expected->timestamp, id, has, expected->has[id]);
        return false;
    }
    return true;
}

bool rows_model_matches(const struct rows_model *model, size_t at, const struct imv_rows *rows, const uint32_t *columns,
                        size_t columns_count) {
    if (rows->columns_count != columns_count || rows->count > model->count - at) {
        fprintf(stderr, "%zu columns, expected %zu; or %zu rows, expected at most %zu\n", rows->columns_count,
                columns_count, rows->count, model->count - at);
        return false;
    }
    for (size_t i = 0; i < rows->count; i++) {
        if (!row_matches(model, model->rows[at + i], rows, i, columns, columns_count)) return false;
    }
    return true;
}

bool rows_model_newest(const struct rows_model *model, int64_t from, uint32_t column, int64_t *timestamp,
                       uint64_t *cell) {
    for (size_t i = model->count; i-- > 0 && model->rows[i]->timestamp >= from;) {
        if (!model->rows[i]->has[column]) continue;
        *timestamp = model->rows[i]->timestamp;
        *cell = model->rows[i]->cells[column];
        return true;
    }
    return false;
}
