/* budget.h - named limits on memory, shown in /metrics.
 *
 * A budget counts bytes and refuses what would pass its maximum; it does not allocate. Whoever allocates from it says
 * in its own header what happens when the budget is spent. Every budget registers itself by name, so that one list
 * shows where the server's memory is. All functions may be called from any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct imv_budget {
    const char *name; /* a literal, snake_case: the label in /metrics */
    size_t bytes_max;
    _Atomic size_t bytes;              /* taken now */
    _Atomic size_t bytes_peak;         /* the most ever taken at once */
    _Atomic size_t refusals;           /* how often a take was refused */
    _Atomic size_t refusals_of_parent; /* how often a take fitted here and not there */
    struct imv_budget *parent;         /* takes its share from here as well; NULL for a budget of its own */
    struct imv_budget *next;           /* in the registry; guarded by its lock */
};

/* Registers the budget, which must stay in place until imv_budget_release. name must outlive it. */
void imv_budget_init(struct imv_budget *budget, const char *name, size_t bytes_max);

/* A part of another budget, e.g. one query's of all queries': a take must fit both. It is not registered (its bytes
 * show in the parent's). The parent must outlive it; NULL is allowed. */
void imv_budget_init_child(struct imv_budget *budget, struct imv_budget *parent, size_t bytes_max);

/* Unregisters; asserts that everything was given back. */
void imv_budget_release(struct imv_budget *budget);

/* Takes bytes when they fit; false (and a counted refusal) when not. */
bool imv_budget_take(struct imv_budget *budget, size_t bytes);

/* Gives back what was taken. */
void imv_budget_give(struct imv_budget *budget, size_t bytes);

/* For memory that is counted elsewhere (inside a library, by its own allocator) and only shown here: what is used now.
 * Such a budget is not taken from; its maximum is what its owner keeps to. */
void imv_budget_show(struct imv_budget *budget, size_t bytes);

static inline size_t imv_budget_used(struct imv_budget *budget) {
    return atomic_load_explicit(&budget->bytes, memory_order_relaxed);
}

/* Calls visit for each registered budget, under the registry's lock: visit must not init or release a budget. */
void imv_budget_each(void (*visit)(struct imv_budget *budget, void *context), void *context);
