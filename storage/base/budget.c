#include "storage/base/budget.h"

#include "storage/base/assert.h"

#include <pthread.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct imv_budget *registry; /* guarded by registry_lock */

static void set_up(struct imv_budget *budget, const char *name, size_t bytes_max, struct imv_budget *parent) {
    *budget = (struct imv_budget){.name = name, .bytes_max = bytes_max, .parent = parent};
}

void imv_budget_init_child(struct imv_budget *budget, struct imv_budget *parent, size_t bytes_max) {
    set_up(budget, NULL, bytes_max, parent);
}

void imv_budget_init(struct imv_budget *budget, const char *name, size_t bytes_max) {
    set_up(budget, name, bytes_max, NULL);
    pthread_mutex_lock(&registry_lock);
    budget->next = registry;
    registry = budget;
    pthread_mutex_unlock(&registry_lock);
}

void imv_budget_release(struct imv_budget *budget) {
    imv_assert(imv_budget_used(budget) == 0);
    if (budget->name == NULL) return; /* a part of another: not registered */
    pthread_mutex_lock(&registry_lock);
    struct imv_budget **link = &registry;
    while (*link != NULL && *link != budget) link = &(*link)->next;
    imv_assert(*link == budget);
    *link = budget->next;
    pthread_mutex_unlock(&registry_lock);
}

static bool take_here(struct imv_budget *budget, size_t bytes) {
    size_t used = atomic_load_explicit(&budget->bytes, memory_order_relaxed);
    do {
        if (bytes > budget->bytes_max || used > budget->bytes_max - bytes) {
            atomic_fetch_add_explicit(&budget->refusals, 1, memory_order_relaxed);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&budget->bytes, &used, used + bytes, memory_order_relaxed,
                                                    memory_order_relaxed));
    used += bytes;
    size_t peak = atomic_load_explicit(&budget->bytes_peak, memory_order_relaxed);
    while (used > peak && !atomic_compare_exchange_weak_explicit(&budget->bytes_peak, &peak, used, memory_order_relaxed,
                                                                 memory_order_relaxed)) {}
    return true;
}

bool imv_budget_take(struct imv_budget *budget, size_t bytes) {
    if (!take_here(budget, bytes)) return false;
    if (budget->parent == NULL || imv_budget_take(budget->parent, bytes)) return true;
    atomic_fetch_add_explicit(&budget->refusals_of_parent, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&budget->bytes, bytes, memory_order_relaxed);
    return false;
}

void imv_budget_show(struct imv_budget *budget, size_t bytes) {
    atomic_store_explicit(&budget->bytes, bytes, memory_order_relaxed);
    if (bytes > atomic_load_explicit(&budget->bytes_peak, memory_order_relaxed))
        atomic_store_explicit(&budget->bytes_peak, bytes, memory_order_relaxed);
}

void imv_budget_give(struct imv_budget *budget, size_t bytes) {
    size_t before = atomic_fetch_sub_explicit(&budget->bytes, bytes, memory_order_relaxed);
    imv_assert(before >= bytes);
    if (budget->parent != NULL) imv_budget_give(budget->parent, bytes);
}

void imv_budget_each(void (*visit)(struct imv_budget *budget, void *context), void *context) {
    pthread_mutex_lock(&registry_lock);
    for (struct imv_budget *budget = registry; budget != NULL; budget = budget->next) visit(budget, context);
    pthread_mutex_unlock(&registry_lock);
}
