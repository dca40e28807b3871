#include "engine/consolidate_choice.h"

#include "engine/catalog.h"
#include "storage/base/assert.h"

enum {
    FRESH_MAX = 32,
    /* 2: a part is rewritten again when what came since is half of it or more, which late data is only in a
     * backfill. */
    SIZE_RATIO = 2,
    ROWS_SMALL = IMV_VECTOR_ROWS,
    HIDDEN_PERMILLE = 125,
    OVERLAP_PARTS =
        8, /* rows interleave when an eighth of the shorter time range is common; less is jitter at the seam */
};

/* Parts of one class and slot that may become one, oldest first. */
struct stretch {
    struct imv_part **parts;
    size_t count;
};

/* ---- what parts are to each other ---- */

/* Of times that may be far apart: the distance as an unsigned number. */
static uint64_t distance(int64_t from, int64_t to) { return (uint64_t)to - (uint64_t)from; }

static bool interleave(const struct imv_part *a, const struct imv_part *b) {
    if (a->label_min > b->label_max || b->label_min > a->label_max) return false;
    if (a->series_min > b->series_max || b->series_min > a->series_max) return false;
    int64_t from = a->time_min > b->time_min ? a->time_min : b->time_min;
    int64_t to = a->time_max < b->time_max ? a->time_max : b->time_max;
    if (from > to) return false;
    uint64_t a_length = distance(a->time_min, a->time_max), b_length = distance(b->time_min, b->time_max);
    return distance(from, to) >= (a_length < b_length ? a_length : b_length) / OVERLAP_PARTS;
}

static bool interleaves_any(const struct imv_part *part, struct imv_part *const *others, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (interleave(part, others[i])) return true;
    }
    return false;
}

static bool is_small(const struct imv_part *part) { return part->rows < part->chunks * ROWS_SMALL; }

static bool of_flush(const struct imv_part *part) { return part->tier != IMV_TIER_CONSOLIDATED; }

/* ---- whether it is worth it ---- */

/* How many chunks there will be at least: one of each series, of which a part has one each, and full ones. Parts of
 * different shards have no series in common. */
static uint64_t chunks_after(struct imv_part *const *run, size_t count) {
    uint64_t of_shard[IMV_SHARDS_MAX] = {0}, of_many = 0, series = 0, rows = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t shard = run[i]->series_min >> 40;
        bool one = shard == run[i]->series_max >> 40 && shard < IMV_SHARDS_MAX;
        uint64_t *most = one ? &of_shard[shard] : &of_many;
        if (run[i]->chunks > *most) *most = run[i]->chunks;
        rows += run[i]->rows;
    }
    for (size_t i = 0; i < IMV_SHARDS_MAX; i++) series += of_shard[i];
    if (of_many > series) series = of_many;
    return rows / IMV_CHUNK_ROWS_MAX > series ? rows / IMV_CHUNK_ROWS_MAX : series;
}

static bool has_small_chunks(struct imv_part *const *run, size_t count) {
    uint64_t rows = 0, chunks = 0;
    for (size_t i = 0; i < count; i++) {
        rows += run[i]->rows;
        chunks += run[i]->chunks;
    }
    return rows < chunks * ROWS_SMALL && chunks_after(run, count) * 2 <= chunks;
}

static bool worth_it(struct imv_part *const *run, size_t count) {
    if (count < 2) return false;
    if (has_small_chunks(run, count)) return true;
    for (size_t i = 1; i < count; i++) {
        if (interleaves_any(run[i], run, i)) return true;
    }
    return false;
}

/* ---- rules ---- */

/* Rule 3: the oldest parts_max of a row of parts of flushes that is long enough. */
static size_t choose_fresh(const struct stretch *stretch, const struct imv_run_policy *policy, struct imv_part **run) {
    size_t enough = (size_t)(policy->fresh_max > 0 ? policy->fresh_max : FRESH_MAX) * policy->shards;
    if (enough > policy->parts_max) enough = policy->parts_max;
    for (size_t from = 0, end; from < stretch->count; from = end + 1) {
        end = from;
        while (end < stretch->count && of_flush(stretch->parts[end])) end++;
        size_t count = end - from < policy->parts_max ? end - from : policy->parts_max;
        if (count < enough || count < 2) continue;
        memcpy(run, stretch->parts + from, count * sizeof *run);
        return count;
    }
    return 0;
}

static bool is_cold(const struct stretch *stretch, const struct imv_run_policy *policy) {
    int64_t end = imv_slot_start(stretch->parts[0]->slot + 1), since;
    if (__builtin_sub_overflow(policy->wall_ns, end, &since) || since < policy->cold_ns) return false;
    for (size_t i = 0; i < stretch->count; i++) {
        int64_t made_at_ns = stretch->parts[i]->made_at_ns;
        bool known = !__builtin_sub_overflow(policy->monotonic_ns, made_at_ns, &since);
        if (of_flush(stretch->parts[i]) && known && since < policy->cold_ns) return false;
    }
    return true;
}

/* Whether a consolidated part is worth a second rewriting with the newer parts that are taken, which have so many
 * bytes. */
static bool joins_again(const struct imv_part *part, struct imv_part *const *taken, size_t count, uint64_t bytes) {
    return part->bytes / SIZE_RATIO <= bytes && (is_small(part) || interleaves_any(part, taken, count));
}

/* Rules 1 and 2. */
static size_t choose_newest(const struct stretch *stretch, const struct imv_run_policy *policy, struct imv_part **run) {
    uint64_t bytes = 0;
    size_t from = stretch->count;
    while (from > 0 && stretch->count - from < policy->parts_max) {
        const struct imv_part *part = stretch->parts[from - 1];
        struct imv_part *const *taken = stretch->parts + from;
        size_t count = stretch->count - from;
        if (!of_flush(part) && count > 0 && !joins_again(part, taken, count, bytes)) break;
        bytes += part->bytes;
        from--;
    }
    size_t count = stretch->count - from;
    if (!worth_it(stretch->parts + from, count)) return 0;
    memcpy(run, stretch->parts + from, count * sizeof *run);
    return count;
}

static bool in_dead_files(const struct imv_part *part) {
    return part->group != NULL && atomic_load(&part->group->dead) >= atomic_load(&part->group->live);
}

/* Rules 4 and 5. */
static size_t choose_one(const struct stretch *stretch, struct imv_part **run) {
    for (size_t i = 0; i < stretch->count; i++) {
        if (!in_dead_files(stretch->parts[i]) && stretch->parts[i]->hidden_permille < HIDDEN_PERMILLE) continue;
        run[0] = stretch->parts[i];
        return 1;
    }
    return 0;
}

static size_t choose_cold(const struct stretch *stretch, const struct imv_run_policy *policy, struct imv_part **run) {
    if (!is_cold(stretch, policy)) return 0;
    bool brief = policy->brief != NULL && policy->brief[stretch->parts[0]->class];
    size_t count = brief ? 0 : choose_newest(stretch, policy, run);
    return count > 0 ? count : choose_one(stretch, run);
}

static size_t choose(const struct stretch *stretch, const struct imv_run_policy *policy, bool urgent,
                     struct imv_part **run) {
    if (stretch->count == 0) return 0;
    return urgent ? choose_fresh(stretch, policy, run) : choose_cold(stretch, policy, run);
}

/* ---- stretches ---- */

/* Goes through the parts [0, count) of a slot that are of one class, in stretches. */
static size_t choose_class(struct imv_part *const *slot, size_t count, uint8_t class,
                           const struct imv_run_policy *policy, bool urgent, struct imv_part **scratch,
                           struct imv_part **run) {
    struct stretch stretch = {.parts = scratch};
    uint32_t label_min = UINT32_MAX, label_max = 0;
    for (size_t i = 0; i < count; i++) {
        if (slot[i]->class != class) continue;
        if (slot[i]->label_min < label_min) label_min = slot[i]->label_min;
        if (slot[i]->label_max > label_max) label_max = slot[i]->label_max;
    }
    for (size_t i = 0; i < count; i++) {
        struct imv_part *part = slot[i];
        bool ends = part->class != class ? part->label_min <= label_max && label_min <= part->label_max : part->unfit;
        if (ends) {
            size_t found = choose(&stretch, policy, urgent, run);
            if (found > 0) return found;
            stretch.count = 0;
        } else if (part->class == class) {
            stretch.parts[stretch.count++] = part;
        }
    }
    return choose(&stretch, policy, urgent, run);
}

static size_t choose_slot(struct imv_part *const *slot, size_t count, const struct imv_run_policy *policy, bool urgent,
                          struct imv_part **scratch, struct imv_part **run) {
    bool seen[UINT8_MAX + 1] = {false};
    for (size_t i = 0; i < count; i++) {
        uint8_t class = slot[i]->class;
        if (seen[class]) continue;
        seen[class] = true;
        size_t found = choose_class(slot, count, class, policy, urgent, scratch, run);
        if (found > 0) return found;
    }
    return 0;
}

size_t imv_run_choose(const struct imv_parts *parts, const struct imv_run_policy *policy, struct imv_part **scratch,
                      struct imv_part *run[IMV_RUN_PARTS_MAX]) {
    imv_assert(policy->parts_max >= 2 && policy->parts_max <= IMV_RUN_PARTS_MAX);
    for (int urgent = 1; urgent >= 0; urgent--) {
        for (size_t from = 0, end; from < parts->count; from = end) {
            end = from + 1;
            while (end < parts->count && parts->items[end]->slot == parts->items[from]->slot) end++;
            size_t count = choose_slot(parts->items + from, end - from, policy, urgent == 1, scratch, run);
            if (count > 0) return count;
        }
    }
    return 0;
}
