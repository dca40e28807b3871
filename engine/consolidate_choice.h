/* consolidate_choice.h - which parts are worth being rewritten as one: the policy of consolidation, without its work.
 *
 * What is chosen is a run: parts of one class and slot that follow each other in order of precedence, so that what
 * replaces them can take the place of the newest of them. A part of another class between two of them ends a run when
 * it may hold the same series (the retention of its label was changed), and so does a part that could not be read.
 *
 * The bound is write amplification: chunk bytes written, by flushes and consolidation, over those written by flushes. A
 * value is rewritten once as a rule, so it is 2, and less where chunks grow:
 *
 * 1. A slot is *cold* when it is over and nothing has been flushed into it for a while that is longer than the age at
 *    which heads are flushed. Of a cold slot the newest parts are taken, back to a consolidated one that has more than
 *    SIZE_RATIO times the bytes of those taken. A large old part is so not rewritten for a little late data, which then
 *    stays as a part of its own: consolidated parts of a slot grow geometrically, hence are few. A day of hourly flushes
 *    is rewritten once: 2 in all.
 * 2. They are worth it when their rows interleave (readers would merge them row by row) or when their chunks are small:
 *    below a vector of rows on average, and half as many afterwards at most. A chunk of ten columns costs about 200 bytes
 *    besides its values (measured: 21 bytes a value at 1 row, 2.95 at 10, 0.69 at 60, 0.28 at 360, 0.23 from 1,024 on).
 *    Large chunks one behind the other are left as they are: 1 in all.
 * 3. A slot that is not cold is let alone until so many parts of flushes follow each other that reading suffers: 32 of
 * a
 *    shard, more than a day of hourly flushes. They become one consolidated part, which joins a second run only when its
 *    chunks are small or later rows interleave with it. With flushes every minute this is 45 times a day, each for
 *    another 32 minutes: 2 in all. Where chunks of it are still small or late rows are spread over all of it, the second
 *    rewriting is of values that take half the bytes or less of what the flush wrote: 60 rows a chunk at first, 1,920
 *    then; or, with a million series of a row a minute, 1 and 32.
 * 4. A scattered part of a cold slot is rewritten, even alone, when at least half of the parts that share its files are
 *    gone: this bounds the dead bytes in shared files to as many as there are live ones. Late rows of this kind are few.
 *
 * 5. A part of a cold slot is rewritten, even alone, when tombstones hide an eighth of its rows or more, as estimated:
 * so
 *    deletions cost at most eight times what they free. Fewer hidden rows go with the next run that takes the part, or
 *    with the slot, unless tombstones get so many that deletions would be refused.
 *
 * Rules 1 and 2 leave out what is kept for less than four days. Retention takes parts one by one, each when its newest
 * row is past; a day in one part would stay until its last hour goes, and with a retention of an hour take 25 times the
 * space.
 *
 * Slots are days at all rates. A shorter slot would only bring forward when it is over, and rule 3 does that by itself;
 * a run is cut into tables anyway, and its memory is that of one series' vectors.
 *
 * No state, any thread that may read the list of parts.
 */
#pragma once

#include "engine/parts.h"

enum {
    /* Each costs an iterator of the store while the run is read. */
    IMV_RUN_PARTS_MAX = 128,
};

struct imv_run_policy {
    int64_t wall_ns, monotonic_ns;
    int64_t cold_ns;    /* a slot is cold so long after its end and after the last flush into it */
    const bool *brief;  /* [256]: the class is kept for less than IMV_BRIEF_NS; NULL: none is */
    uint32_t shards;    /* rule 3 counts parts by shard */
    uint32_t fresh_max; /* rule 3: parts of one shard; 0: the default, 32 */
    uint32_t parts_max; /* in a run; at most IMV_RUN_PARTS_MAX, at least 2 */
};

#define IMV_BRIEF_NS (4 * IMV_SLOT_NS)

/* The default of cold_ns beyond the age at which heads are flushed. */
#define IMV_COLD_NS (INT64_C(600) * 1000000000)

/* Fills run with the parts to be rewritten, oldest first, and returns how many; 0: none. The list holds them still.
 * scratch has room for parts->count pointers. */
size_t imv_run_choose(const struct imv_parts *parts, const struct imv_run_policy *policy, struct imv_part **scratch,
                      struct imv_part *run[IMV_RUN_PARTS_MAX]);
