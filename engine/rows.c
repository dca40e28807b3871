#include "engine/rows.h"

/* A small read (tens of rows of a few columns) fits; a large one gets a block of its own size, which a reset keeps. */
enum { ROWS_BLOCK_BYTES = 16 * 1024 };

void imv_rows_init(struct imv_rows *rows, struct imv_budget *budget) {
    *rows = (struct imv_rows){0};
    imv_arena_init(&rows->arena, ROWS_BLOCK_BYTES, budget);
}

static void forget_content(struct imv_rows *rows) {
    rows->count = 0;
    rows->timestamps = NULL;
    rows->columns_count = 0;
    rows->column_ids = NULL;
    rows->columns = NULL;
}

void imv_rows_release(struct imv_rows *rows) {
    imv_arena_release(&rows->arena);
    forget_content(rows);
}

void imv_rows_reset(struct imv_rows *rows) {
    imv_arena_reset(&rows->arena);
    forget_content(rows);
}
