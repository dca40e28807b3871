#include "engine/batch.h"

#include "storage/base/budget.h"

#include <criterion/criterion.h>

/* A shape of `count` fields, those with a set bit in `strings` of type STRING. */
static const struct imv_shape *make_shape(uint32_t count, unsigned strings) {
    static struct imv_field fields[8];
    static char memory[sizeof(struct imv_shape) + 8 * sizeof(struct imv_field *)];
    struct imv_shape *shape = (struct imv_shape *)(void *)memory;
    memset(memory, 0, sizeof memory);
    shape->count = count;
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = (struct imv_field){.id = i, .type = strings >> i & 1 ? IMV_STRING : IMV_FLOAT};
        shape->fields[i] = &fields[i];
        shape->strings_count += strings >> i & 1;
    }
    return shape;
}

static struct imv_row *add_row(struct imv_batch *batch, const struct imv_shape *shape, int64_t timestamp,
                               const char *text) {
    struct imv_row *row = (struct imv_row *)(void *)(batch->data + batch->size);
    *row = (struct imv_row){.shape = shape, .timestamp = timestamp};
    char *end = (char *)&row->cells[shape->count];
    for (uint32_t i = 0; i < shape->count; i++) {
        row->cells[i] = i;
        if (shape->fields[i]->type != IMV_STRING) continue;
        struct imv_string *string = (struct imv_string *)(void *)end;
        string->size = (uint32_t)strlen(text);
        memcpy(string->bytes, text, strlen(text));
        row->cells[i] = imv_string_cell(string);
        end += (sizeof *string + strlen(text) + 7) & ~(size_t)7;
    }
    batch->size += (size_t)(end - (char *)row);
    batch->rows++;
    return row;
}

Test(batch, an_empty_batch_has_no_rows) {
    /* The walk over a fresh batch ends at once. */
    struct imv_batch *batch = imv_batch_new(NULL, 3, 0);
    cr_assert_eq(batch->source, 3);
    cr_assert_eq(batch->capacity, IMV_BATCH_BYTES);
    cr_assert_null(imv_batch_next_row(batch, NULL));
    imv_batch_free(batch);
    imv_batch_free(NULL);
}

Test(batch, the_walk_meets_every_row) {
    /* Rows with and without strings, empty ones too, are met in order and the walk ends at the batch's size. */
    static const char *const texts[] = {"", "a", "1234", "12345", "a string of more than eight bytes"};
    struct imv_batch *batch = imv_batch_new(NULL, 0, 0);
    for (int i = 0; i < 200; i++) {
        const struct imv_shape *shape = make_shape(4, 0x5);
        struct imv_row *row = add_row(batch, shape, i, texts[i % 5]);
        cr_assert_eq((char *)row + imv_row_bytes(row), batch->data + batch->size);
        cr_assert_eq(imv_row_bytes(row) % 8, 0);
    }
    int met = 0;
    for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL; met++) {
        cr_assert_eq(row->timestamp, met);
        cr_assert(imv_str_equal(imv_cell_str(row->cells[2]), imv_str_from(texts[met % 5])));
        cr_assert_eq(row->cells[3], 3);
    }
    cr_assert_eq(met, 200);
    imv_batch_free(batch);
}

Test(batch, a_string_that_was_replaced_belongs_to_its_row) {
    /* Bytes of a string that no cell refers to any more lie before the one that replaced it and are walked over. */
    struct imv_batch *batch = imv_batch_new(NULL, 0, 0);
    const struct imv_shape *shape = make_shape(1, 0x1);
    struct imv_row *row = add_row(batch, shape, 1, "first");
    struct imv_string *last = (struct imv_string *)(void *)(batch->data + batch->size);
    last->size = 1;
    row->cells[0] = imv_string_cell(last);
    batch->size += 8;
    add_row(batch, shape, 2, "next");
    row = (struct imv_row *)(void *)imv_batch_next_row(batch, row);
    cr_assert_eq(row->timestamp, 2);
    cr_assert_null(imv_batch_next_row(batch, row));
    imv_batch_free(batch);
}

Test(batch, the_budget_is_charged_and_given_back) {
    /* A batch costs its whole block, none is made beyond the budget, and freeing gives all of it back. */
    struct imv_budget budget;
    imv_budget_init(&budget, "test_batches", 3 * IMV_BATCH_BYTES);
    struct imv_batch *small = imv_batch_new(&budget, 0, 1), *large = imv_batch_new(&budget, 0, IMV_BATCH_BYTES + 8);
    cr_assert(small != NULL && large != NULL);
    cr_assert_eq(large->capacity, IMV_BATCH_BYTES + 8);
    cr_assert_eq(imv_budget_used(&budget), 2 * sizeof *small + 2 * IMV_BATCH_BYTES + 8);
    cr_assert_null(imv_batch_new(&budget, 0, 1));
    cr_assert_null(imv_batch_new(&budget, 0, SIZE_MAX));
    imv_batch_free(small);
    small = imv_batch_new(&budget, 0, 1);
    cr_assert_not_null(small);
    imv_batch_free(small);
    imv_batch_free(large);
    imv_budget_release(&budget);
}
