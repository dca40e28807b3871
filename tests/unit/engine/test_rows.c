#include "engine/rows.h"
#include "storage/base/budget.h"

#include <criterion/criterion.h>

/* A reset empties the rows and keeps the memory for the next use; a release gives everything back to the budget. */
Test(rows, reset_keeps_memory_and_release_returns_it) {
    struct imv_budget budget;
    imv_budget_init(&budget, "rows_test", 1 << 20);
    struct imv_rows rows;
    imv_rows_init(&rows, &budget);
    cr_assert_eq(imv_budget_used(&budget), 0);

    rows.timestamps = imv_arena_alloc(&rows.arena, 8 * 1000);
    rows.columns = imv_arena_alloc(&rows.arena, sizeof *rows.columns);
    cr_assert_not_null(rows.timestamps);
    rows.count = 1000;
    rows.columns_count = 1;
    imv_rows_reset(&rows);
    cr_assert_eq(rows.count, 0);
    cr_assert_eq(rows.columns_count, 0);
    cr_assert_null(rows.timestamps);
    cr_assert_null(rows.columns);

    size_t kept = imv_budget_used(&budget);
    cr_assert_gt(kept, 0);
    cr_assert_not_null(imv_arena_alloc(&rows.arena, 8 * 1000));
    cr_assert_eq(imv_budget_used(&budget), kept, "the block that was kept is used again");

    imv_rows_release(&rows);
    imv_budget_release(&budget);
}

/* A use that is repeated with the same sizes stops calling for memory after the first rounds. */
Test(rows, repeated_use_settles) {
    struct imv_budget budget;
    imv_budget_init(&budget, "rows_test", 8 << 20);
    struct imv_rows rows;
    imv_rows_init(&rows, &budget);
    size_t settled = 0;
    for (int round = 0; round < 10; round++) {
        imv_rows_reset(&rows);
        for (int piece = 0; piece < 200; piece++) cr_assert_not_null(imv_arena_alloc(&rows.arena, 1000));
        if (round == 3) settled = imv_budget_used(&budget);
    }
    cr_assert_eq(imv_budget_used(&budget), settled);
    cr_assert_lt(settled, 500000);
    imv_rows_release(&rows);
    imv_budget_release(&budget);
}
