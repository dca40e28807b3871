#include "storage/base/budget.h"

#include <criterion/criterion.h>
#include <pthread.h>

/* Takes succeed up to the maximum exactly; a refused one is counted and takes nothing. */
Test(budget, takes_up_to_its_maximum) {
    struct imv_budget budget;
    imv_budget_init(&budget, "test", 100);
    cr_assert(imv_budget_take(&budget, 60));
    cr_assert_not(imv_budget_take(&budget, 41));
    cr_assert_not(imv_budget_take(&budget, (size_t)-1));
    cr_assert(imv_budget_take(&budget, 40));
    cr_assert_eq(imv_budget_used(&budget), 100);
    cr_assert_eq(budget.refusals, 2);
    imv_budget_give(&budget, 90);
    cr_assert(imv_budget_used(&budget) == 10 && budget.bytes_peak == 100);
    imv_budget_give(&budget, 10);
    imv_budget_release(&budget);
}

/* What a part takes, its parent gives; when the parent refuses, the part has taken nothing. */
Test(budget, shares_its_parent) {
    struct imv_budget parent, one, two;
    imv_budget_init(&parent, "test", 100);
    imv_budget_init_child(&one, &parent, 80);
    imv_budget_init_child(&two, &parent, 80);
    cr_assert(imv_budget_take(&one, 70));
    cr_assert_not(imv_budget_take(&one, 11));
    cr_assert_not(imv_budget_take(&two, 31));
    cr_assert_eq(imv_budget_used(&two), 0);
    cr_assert(imv_budget_take(&two, 30));
    cr_assert_eq(imv_budget_used(&parent), 100);
    imv_budget_give(&one, 70);
    imv_budget_give(&two, 30);
    cr_assert_eq(imv_budget_used(&parent), 0);
    imv_budget_release(&two);
    imv_budget_release(&one);
    imv_budget_release(&parent);
}

static void count(struct imv_budget *budget, void *context) {
    if (budget->name[0] == 't') (*(int *)context)++;
}

/* Every budget is listed while it lives, in whatever order they go. */
Test(budget, is_listed_while_it_lives) {
    struct imv_budget budgets[3];
    for (int i = 0; i < 3; i++) imv_budget_init(&budgets[i], "test", 1);
    static const int order[] = {1, 2, 0};
    for (int i = 0; i < 3; i++) {
        int listed = 0;
        imv_budget_each(count, &listed);
        cr_assert_eq(listed, 3 - i);
        imv_budget_release(&budgets[order[i]]);
    }
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *take_and_give(void *context) {
    struct imv_budget *budget = context;
    for (int i = 0; i < ROUNDS; i++) {
        if (!imv_budget_take(budget, 30)) continue;
        cr_assert_leq(imv_budget_used(budget), 100);
        imv_budget_give(budget, 30);
    }
    return NULL;
}

/* Threads together never hold more than the maximum, and nothing is left over. */
Test(budget, holds_for_all_threads_together) {
    struct imv_budget budget;
    imv_budget_init(&budget, "test", 100);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) cr_assert_eq(pthread_create(&threads[i], NULL, take_and_give, &budget), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    cr_assert_eq(imv_budget_used(&budget), 0);
    cr_assert_leq(budget.bytes_peak, 100);
    imv_budget_release(&budget);
}

/* A take that its own budget would give and the parent refuses is told apart, and leaves neither with anything. */
Test(budget, a_refusal_of_the_parent_is_told) {
    struct imv_budget parent, one, other;
    imv_budget_init(&parent, "test", 100);
    imv_budget_init_child(&one, &parent, 80);
    imv_budget_init_child(&other, &parent, 80);
    cr_assert(imv_budget_take(&one, 70));
    cr_assert_not(imv_budget_take(&other, 40));
    cr_assert(other.refusals == 0 && other.refusals_of_parent == 1 && parent.refusals == 1);
    cr_assert_not(imv_budget_take(&other, 81));
    cr_assert(other.refusals == 1 && other.refusals_of_parent == 1);
    cr_assert(imv_budget_take(&other, 30));
    imv_budget_give(&one, 70);
    imv_budget_give(&other, 30);
    cr_assert_eq(imv_budget_used(&parent), 0);
    imv_budget_release(&one);
    imv_budget_release(&other);
    imv_budget_release(&parent);
}

/* What is counted elsewhere is shown with its peak. */
Test(budget, what_is_shown_has_a_peak) {
    struct imv_budget budget;
    imv_budget_init(&budget, "test", 100);
    imv_budget_show(&budget, 70);
    imv_budget_show(&budget, 30);
    cr_assert(imv_budget_used(&budget) == 30 && budget.bytes_peak == 70);
    imv_budget_show(&budget, 0);
    imv_budget_release(&budget);
}
