#include "query/column.h"

static const uint64_t *gather_bits(struct imv_arena *arena, const uint64_t *valid, const uint16_t *picked,
                                   size_t count) {
    uint64_t *bits = imv_arena_calloc(arena, (count + 63) / 64 + 1, sizeof *bits);
    if (bits == NULL) return NULL;
    for (size_t i = 0; i < count; i++) bits[i / 64] |= (uint64_t)imv_bit_get(valid, picked[i]) << i % 64;
    return bits;
}

static const uint64_t *gather_cells(struct imv_arena *arena, const uint64_t *cells, const uint16_t *picked,
                                    size_t count) {
    uint64_t *kept = imv_arena_alloc(arena, (count + 1) * sizeof *kept);
    if (kept == NULL) return NULL;
    for (size_t i = 0; i < count; i++) kept[i] = cells[picked[i]];
    return kept;
}

static const struct imv_value *gather_values(struct imv_arena *arena, const struct imv_value *values,
                                             const uint16_t *picked, size_t count) {
    struct imv_value *kept = imv_arena_alloc(arena, (count + 1) * sizeof *kept);
    if (kept == NULL) return NULL;
    for (size_t i = 0; i < count; i++) kept[i] = values[picked[i]];
    return kept;
}

bool imv_column_gather(struct imv_arena *arena, const struct imv_column *column, const uint16_t *picked, size_t count,
                       struct imv_column *gathered) {
    *gathered = *column;
    if (column->constant || column->kind <= IMV_COLUMN_NULL) return true;
    if (column->kind == IMV_COLUMN_VALUES) {
        gathered->values = gather_values(arena, column->values, picked, count);
        return gathered->values != NULL;
    }
    gathered->cells = gather_cells(arena, column->cells, picked, count);
    if (gathered->cells == NULL) return false;
    if (column->valid == NULL) return true;
    gathered->valid = gather_bits(arena, column->valid, picked, count);
    return gathered->valid != NULL;
}

bool imv_row_batch_keep(struct imv_row_batch *batch, const uint16_t *picked, size_t count) {
    imv_assert(count <= batch->rows);
    if (count == batch->rows) return true;
    batch->rows = count;
    if (count == 0) return true;
    for (uint32_t i = 0; i < batch->slots_count; i++) {
        struct imv_column gathered;
        if (!imv_column_gather(batch->arena, &batch->slots[i], picked, count, &gathered)) return false;
        batch->slots[i] = gathered;
    }
    return true;
}
