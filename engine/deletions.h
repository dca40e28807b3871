/* deletions.h - which rows of a shard are deleted and not gone yet: lists of tombstones, and asking them.
 *
 * A tombstone says that the rows of one series (or of every series of one label in the shard) within [from, last] are
 * deleted, as far as they were there when the deletion was applied. What was written later in the same range is new and
 * stays. What "was there" means is told by two numbers:
 *
 *     sequence     a row of a head is hidden when its sequence is at most this
 *     generation   a row of a part is hidden when the part's generation is at most this; IMV_GENERATION_PENDING, which
 *                  covers all parts, until the next flush of the shard begins. That flush leaves hidden rows out, as do
 *                  all later ones, so the parts that it and they write need no mask: generation becomes the last one
 *                  given out before it. A flush already under way when the deletion came wrote at most that one.
 *
 * Whoever writes parts out of parts takes the list at the moment when it draws its generation, under the FLUSH lock,
 * and leaves out what imv_mask_hides_stored hides: later tombstones get a generation that covers what it writes.
 *
 *     journaled --synced--> applied (hides) --flush begins--> has a generation --flush recorded--> in `meta`
 *       --no part up to the generation overlaps it--> dropped
 *
 * A list is immutable and reference-counted, sorted by series (the tombstones of a whole label at the end), then by
 * start. A shard without tombstones has none (NULL), so that nobody pays who never deletes. A snapshot holds the lists
 * of its moment. At most IMV_TOMBSTONES_MAX stand in one; then deletions are refused until flushes, consolidation or
 * retention have made some superfluous. Changes of a shard's list are in delete.h.
 *
 * Any thread may ask a list that it holds.
 */
#pragma once

#include "engine/catalog.h"

enum {
    IMV_TOMBSTONES_MAX = 131072, /* of one shard: 7 MB, copied at each change */
    IMV_TOMBSTONE_ALL = -1,      /* cast to uint32_t, the series of a tombstone of a whole label */
};
#define IMV_GENERATION_PENDING UINT32_MAX

struct imv_tombstone {
    uint32_t series; /* index in the shard, or (uint32_t)IMV_TOMBSTONE_ALL */
    uint32_t label;
    int64_t from, last;
    uint64_t sequence;
    uint64_t position; /* of its journal group; with shard, label and series it names the record in `meta` */
    uint32_t generation;
    bool recorded; /* in `meta` */
};

struct imv_deletions {
    _Atomic uint32_t references;
    size_t count;
    struct imv_tombstone items[];
};

/* Sorts items into a list, one reference is the caller's; no items make NULL. IMV_NO_MEMORY. */
imv_status imv_deletions_new(const struct imv_tombstone *items, size_t count, struct imv_deletions **deletions,
                             struct imv_error *err);
/* A list of items and of added, both in the order of a list, in one pass; one reference is the caller's; none make
 * NULL. IMV_NO_MEMORY. */
imv_status imv_deletions_join(const struct imv_tombstone *items, size_t count, const struct imv_tombstone *added,
                              size_t added_count, struct imv_deletions **deletions, struct imv_error *err);
void imv_deletions_retain(struct imv_deletions *deletions);  /* NULL is allowed */
void imv_deletions_release(struct imv_deletions *deletions); /* NULL is allowed */

/* Order of a list: series, label, start, position. For qsort. */
int imv_tombstone_compare(const void *left, const void *right);

/* The tombstones that may hide rows of one series: two views into a list, which must outlive it. */
struct imv_mask {
    const struct imv_tombstone *own, *whole;
    uint32_t own_count, whole_count;
};

/* What hides rows of a series of the list's shard. list NULL: nothing does. */
struct imv_mask imv_deletions_mask(const struct imv_deletions *deletions, const struct imv_series *series);

static inline bool imv_mask_any(const struct imv_mask *mask) {
    return mask != NULL && mask->own_count + mask->whole_count > 0;
}

/* Whether a row of a head is hidden. */
bool imv_mask_hides(const struct imv_mask *mask, uint64_t sequence, int64_t timestamp);
/* Whether any row of a head with a sequence of at least `sequence` within [from, last] may be hidden. */
bool imv_mask_touches(const struct imv_mask *mask, uint64_t sequence, int64_t from, int64_t last);

/* The same of a part's rows; and whether all of them within [from, last] are hidden, by one tombstone. */
bool imv_mask_hides_stored(const struct imv_mask *mask, uint32_t generation, int64_t timestamp);
bool imv_mask_touches_stored(const struct imv_mask *mask, uint32_t generation, int64_t from, int64_t last);
bool imv_mask_covers_stored(const struct imv_mask *mask, uint32_t generation, int64_t from, int64_t last);
/* Puts the indices of a part's rows that are not hidden into kept, and returns how many. Timestamps rise; one pass over
 * rows and tombstones, however many of these there are. */
size_t imv_mask_keep_stored(const struct imv_mask *mask, uint32_t generation, const int64_t *timestamps, size_t count,
                            uint16_t *kept);
