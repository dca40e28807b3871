#include "engine/batch.h"

#include "storage/base/assert.h"
#include "storage/base/budget.h"

#include <stdlib.h>

struct imv_batch *imv_batch_new(struct imv_budget *budget, uint32_t source, size_t bytes) {
    if (bytes < IMV_BATCH_BYTES) bytes = IMV_BATCH_BYTES;
    struct imv_batch *batch = NULL;
    size_t total = sizeof *batch + bytes;
    if (total < bytes) return NULL;
    if (budget != NULL && !imv_budget_take(budget, total)) return NULL;
    batch = malloc(total);
    if (batch == NULL) {
        if (budget != NULL) imv_budget_give(budget, total);
        return NULL;
    }
    *batch = (struct imv_batch){.budget = budget, .source = source, .capacity = bytes};
    return batch;
}

void imv_batch_free(struct imv_batch *batch) {
    if (batch == NULL) return;
    if (batch->budget != NULL) imv_budget_give(batch->budget, sizeof *batch + batch->capacity);
    free(batch);
}

const struct imv_row *imv_batch_next_row(const struct imv_batch *batch, const struct imv_row *row) {
    const char *next = row == NULL ? batch->data : (const char *)row + imv_row_bytes(row);
    imv_assert(next <= batch->data + batch->size);
    return next == batch->data + batch->size ? NULL : (const struct imv_row *)(const void *)next;
}

/* A field that was given twice leaves its first string behind, unreferenced, but the string that was written last is
 * always referenced: the row ends where that one does. */
static size_t end_of_strings(const struct imv_row *row, size_t bytes) {
    const struct imv_shape *shape = row->shape;
    for (uint32_t i = 0; i < shape->count; i++) {
        if (shape->fields[i]->type != IMV_STRING) continue;
        struct imv_str text = imv_cell_str(row->cells[i]);
        size_t end = (size_t)(text.data + text.size - (const char *)row);
        if (end > bytes) bytes = end;
    }
    return (bytes + 7) & ~(size_t)7;
}

size_t imv_row_bytes(const struct imv_row *row) {
    size_t bytes = sizeof *row + row->shape->count * sizeof row->cells[0];
    return row->shape->strings_count == 0 ? bytes : end_of_strings(row, bytes);
}
