#include "engine/batch.h"

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

/* A field that was given twice leaves its first string behind, unreferenced, but the string that was written last is
 * always referenced: the row ends where that one does. */
size_t imv_row_bytes_with_strings(const struct imv_row *row) {
    const struct imv_shape *shape = row->shape;
    size_t bytes = sizeof *row + shape->count * sizeof row->cells[0];
    for (uint32_t i = 0; i < shape->count; i++) {
        if (shape->fields[i]->type != IMV_STRING) continue;
        struct imv_str text = imv_cell_str(row->cells[i]);
        size_t end = (size_t)(text.data + text.size - (const char *)row);
        if (end > bytes) bytes = end;
    }
    return (bytes + 7) & ~(size_t)7;
}
