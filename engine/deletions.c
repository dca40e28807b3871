#include "engine/deletions.h"

#include "storage/base/assert.h"

#include <stdlib.h>
#include <string.h>

int imv_tombstone_compare(const void *left, const void *right) {
    const struct imv_tombstone *a = left, *b = right;
    if (a->series != b->series) return a->series < b->series ? -1 : 1;
    if (a->label != b->label) return a->label < b->label ? -1 : 1;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    return (a->position > b->position) - (a->position < b->position);
}

/* A list with room for count items. */
static imv_status list_new(size_t count, struct imv_deletions **deletions, struct imv_error *err) {
    struct imv_deletions *list = *deletions = malloc(sizeof *list + count * sizeof list->items[0]);
    if (list == NULL) return imv_fail(err, IMV_NO_MEMORY, "deletions: no memory for a list of %zu", count);
    atomic_init(&list->references, 1);
    list->count = count;
    return IMV_OK;
}

imv_status imv_deletions_new(const struct imv_tombstone *items, size_t count, struct imv_deletions **deletions,
                             struct imv_error *err) {
    *deletions = NULL;
    if (count == 0) return IMV_OK;
    IMV_TRY(list_new(count, deletions, err));
    memcpy((*deletions)->items, items, count * sizeof items[0]);
    qsort((*deletions)->items, count, sizeof items[0], imv_tombstone_compare);
    return IMV_OK;
}

/* The first of sorted items that stands behind one; count when there is none. */
static size_t upper_bound(const struct imv_tombstone *items, size_t count, const struct imv_tombstone *one) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (imv_tombstone_compare(&items[middle], one) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

imv_status imv_deletions_join(const struct imv_tombstone *items, size_t count, const struct imv_tombstone *added,
                              size_t added_count, struct imv_deletions **deletions, struct imv_error *err) {
    *deletions = NULL;
    if (count + added_count == 0) return IMV_OK;
    IMV_TRY(list_new(count + added_count, deletions, err));
    struct imv_tombstone *to = (*deletions)->items;
    size_t from = 0;
    for (size_t i = 0; i < added_count; i++) {
        imv_assert(i == 0 || imv_tombstone_compare(&added[i - 1], &added[i]) <= 0);
        size_t before = upper_bound(items + from, count - from, &added[i]);
        if (before > 0) memcpy(to, items + from, before * sizeof *to);
        from += before;
        to += before;
        *to++ = added[i];
    }
    if (count > from) memcpy(to, items + from, (count - from) * sizeof *to);
    return IMV_OK;
}

void imv_deletions_retain(struct imv_deletions *deletions) {
    if (deletions == NULL) return;
    uint32_t before = atomic_fetch_add_explicit(&deletions->references, 1, memory_order_relaxed);
    imv_assert(before > 0);
}

void imv_deletions_release(struct imv_deletions *deletions) {
    if (deletions == NULL) return;
    uint32_t before = atomic_fetch_sub_explicit(&deletions->references, 1, memory_order_acq_rel);
    imv_assert(before > 0);
    if (before == 1) free(deletions);
}

/* The first tombstone at or behind (series, label). */
static size_t lower_bound(const struct imv_deletions *deletions, uint32_t series, uint32_t label) {
    size_t low = 0, high = deletions->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct imv_tombstone *item = &deletions->items[middle];
        if (item->series < series || (item->series == series && item->label < label))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t equal_count(const struct imv_deletions *deletions, size_t at, uint32_t series, uint32_t label) {
    size_t end = at;
    while (end < deletions->count && deletions->items[end].series == series && deletions->items[end].label == label) {
        end++;
    }
    return (uint32_t)(end - at);
}

struct imv_mask imv_deletions_mask(const struct imv_deletions *deletions, const struct imv_series *series) {
    struct imv_mask mask = {0};
    if (deletions == NULL) return mask;
    uint32_t label = series->label->id;
    size_t own = lower_bound(deletions, series->index, label);
    size_t whole = lower_bound(deletions, (uint32_t)IMV_TOMBSTONE_ALL, label);
    mask.own = &deletions->items[own];
    mask.own_count = equal_count(deletions, own, series->index, label);
    mask.whole = &deletions->items[whole];
    mask.whole_count = equal_count(deletions, whole, (uint32_t)IMV_TOMBSTONE_ALL, label);
    return mask;
}

/* ---- asking ---- */

struct range {
    int64_t from, last;
};

/* Tombstones lie in order of their start: none behind the first that starts after the range overlaps it. */
static bool any_head(const struct imv_tombstone *items, uint32_t count, uint64_t sequence, struct range range) {
    for (uint32_t i = 0; i < count && items[i].from <= range.last; i++) {
        if (items[i].last >= range.from && sequence <= items[i].sequence) return true;
    }
    return false;
}

static bool any_stored(const struct imv_tombstone *items, uint32_t count, uint32_t generation, struct range range) {
    for (uint32_t i = 0; i < count && items[i].from <= range.last; i++) {
        if (items[i].last >= range.from && generation <= items[i].generation) return true;
    }
    return false;
}

static bool any_covers(const struct imv_tombstone *items, uint32_t count, uint32_t generation, struct range range) {
    for (uint32_t i = 0; i < count && items[i].from <= range.from; i++) {
        if (items[i].last >= range.last && generation <= items[i].generation) return true;
    }
    return false;
}

bool imv_mask_touches(const struct imv_mask *mask, uint64_t sequence, int64_t from, int64_t last) {
    if (!imv_mask_any(mask)) return false;
    struct range range = {from, last};
    return any_head(mask->own, mask->own_count, sequence, range) ||
           any_head(mask->whole, mask->whole_count, sequence, range);
}

bool imv_mask_hides(const struct imv_mask *mask, uint64_t sequence, int64_t timestamp) {
    return imv_mask_touches(mask, sequence, timestamp, timestamp);
}

bool imv_mask_touches_stored(const struct imv_mask *mask, uint32_t generation, int64_t from, int64_t last) {
    if (!imv_mask_any(mask)) return false;
    struct range range = {from, last};
    return any_stored(mask->own, mask->own_count, generation, range) ||
           any_stored(mask->whole, mask->whole_count, generation, range);
}

bool imv_mask_hides_stored(const struct imv_mask *mask, uint32_t generation, int64_t timestamp) {
    return imv_mask_touches_stored(mask, generation, timestamp, timestamp);
}

bool imv_mask_covers_stored(const struct imv_mask *mask, uint32_t generation, int64_t from, int64_t last) {
    if (!imv_mask_any(mask)) return false;
    struct range range = {from, last};
    return any_covers(mask->own, mask->own_count, generation, range) ||
           any_covers(mask->whole, mask->whole_count, generation, range);
}

/* Goes along sorted tombstones as time rises: a row is hidden when the furthest reaching of those that have begun
 * reaches it. */
struct sweep {
    const struct imv_tombstone *item, *end;
    bool any;
    int64_t last;
};

static bool sweep_hides(struct sweep *sweep, uint32_t generation, int64_t timestamp) {
    for (; sweep->item < sweep->end && sweep->item->from <= timestamp; sweep->item++) {
        if (generation > sweep->item->generation || (sweep->any && sweep->item->last <= sweep->last)) continue;
        sweep->any = true;
        sweep->last = sweep->item->last;
    }
    return sweep->any && timestamp <= sweep->last;
}

size_t imv_mask_keep_stored(const struct imv_mask *mask, uint32_t generation, const int64_t *timestamps, size_t count,
                            uint16_t *kept) {
    imv_assert(count <= UINT16_MAX + 1);
    struct sweep own = {.item = mask->own, .end = mask->own + mask->own_count};
    struct sweep whole = {.item = mask->whole, .end = mask->whole + mask->whole_count};
    size_t kept_count = 0;
    for (size_t i = 0; i < count; i++) {
        bool hidden = sweep_hides(&own, generation, timestamps[i]);
        hidden |= sweep_hides(&whole, generation, timestamps[i]);
        kept[kept_count] = (uint16_t)i;
        kept_count += !hidden;
    }
    return kept_count;
}
