/* rows_model.h - the obvious model of the rows of one series, and hand-made labels and rows to feed the real thing.
 *
 * A model is an array of rows sorted by time; of equal timestamps the row that was put later wins, field by field. The
 * label, its fields, shapes and series are built without a catalog: plain structs, which is all that heads and cursors
 * look at. One thread.
 */
#pragma once

#include "engine/batch.h"
#include "engine/rows.h"
#include "storage/base/prng.h"

enum { MODEL_FIELDS_MAX = 160, MODEL_SHAPES = 12 };

struct model_label {
    struct imv_label label;
    uint32_t fields_count;
    struct imv_field fields[MODEL_FIELDS_MAX];
    struct imv_field *pointers[MODEL_FIELDS_MAX];
    struct imv_shape *shapes[MODEL_SHAPES]; /* random subsets of the fields, in random order */
};

struct model_row {
    int64_t timestamp;
    bool has[MODEL_FIELDS_MAX];
    uint64_t cells[MODEL_FIELDS_MAX];
};

struct rows_model {
    const struct model_label *label;
    struct model_row **rows;
    size_t count, capacity;
};

/* A label with this id, name "plant", and fields of all types, in turn. */
void model_label_init(struct model_label *label, uint32_t id, uint32_t fields_count, struct imv_prng *prng);
void model_label_release(struct model_label *label);
/* A shape of all fields in order of id; the caller frees it. */
struct imv_shape *model_shape_of_all(struct model_label *label);

/* A random row of a random shape of the label; the caller frees it. Strings are constants. */
struct imv_row *model_random_row(struct model_label *label, struct imv_series *series, int64_t timestamp,
                                 struct imv_prng *prng);

void rows_model_init(struct rows_model *model, const struct model_label *label);
void rows_model_release(struct rows_model *model);
void rows_model_put(struct rows_model *model, const struct imv_row *row);
void rows_model_put_model(struct rows_model *model, const struct rows_model *later);
/* Index of the first row with a timestamp >= from. */
size_t rows_model_lower_bound(const struct rows_model *model, int64_t from);

/* Whether rows are those of the model from row `at` on, with these columns; says the difference on standard error. */
bool rows_model_matches(const struct rows_model *model, size_t at, const struct imv_rows *rows, const uint32_t *columns,
                        size_t columns_count);

/* The newest value of a column with a timestamp >= from; false when there is none. */
bool rows_model_newest(const struct rows_model *model, int64_t from, uint32_t column, int64_t *timestamp,
                       uint64_t *cell);

bool model_cells_equal(imv_type type, uint64_t a, uint64_t b);
/* The seed of this run: the environment's IMV_TEST_SEED or the time. Printed. */
uint64_t model_seed(const char *test);
