/* consolidate.h - rewrites parts of a slot as one with large chunks, in the background, a slice at a time.
 *
 *     choose a run (consolidate_choice.h) -> read its series in order of key, merged as a cursor merges -> cut into chunks
 *       of up to 8,192 rows -> table files -> ingest -> one batch in `meta`: new part in, old parts out -> lists swapped
 *
 * Reading is a cursor (cursor.h) over a snapshot of nothing but the run, so what is written is exactly what readers
 * saw: of equal timestamps the newer part wins field by field, and rows past retention are left out, as are deleted
 * ones: tombstones are those of the moment at which the output's generation is drawn (deletions.h). A series that the
 * catalog does not know any more can be read by nobody and is left out as well.
 *
 * Precedence. The output gets a generation of its own, for its keys, and the order of the newest part of the run;
 * nothing but the run lies between the run's parts, so rows of older parts lose to it and rows of newer ones win, as
 * before.
 *
 * Deletions. Their rows go when their parts are rewritten; a part of which they hide much is rewritten for that alone.
 * The tombstones, which then hide nothing, are dropped by the sweep after the next look at retention.
 *
 * Locks. The FLUSH lock is held to choose and to record, and not in between: flushes and retention go on. The job holds
 * its inputs' files by its own list of parts. When retention has retired an input meanwhile the job is given up, its
 * output dropped and the rest chosen anew: nothing comes back.
 *
 * Series. A job holds a snapshot, so no series is removed while it runs (ended.h); it does not begin while writers
 * pause for that, and they do not pause while it runs.
 *
 * Crashes. The batch is the moment of truth, as with a flush: before it the output is files that no part names, after
 * it the inputs are. Either are dropped at the next start. When the batch fails it is unknown whether the store holds
 * it; the same batch is written again until it succeeds, or its contrary when retention has retired an input meanwhile.
 *
 * Bounds. A job holds a vector of rows of each input (of as many columns as the label has), one chunk's rows, and an
 * iterator for each input; wide labels are consolidated fewer parts at a time. It needs as much disk as its inputs take
 * until it is recorded, and does not begin when that is not free. A slice ends after about a million cells, some tens
 * of milliseconds, or with a table of 64 MB synced; a flush waits no longer than that.
 *
 * After a failure the job is given up and the next one begins after a delay that doubles from 1 s to 5 min. Parts with
 * a damaged chunk are left as they are until the next start. A job has iterators only while it reads, and is given up
 * when a flush finds that iterators keep the store from being opened again after a failed write (kv.h).
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_engine;
struct imv_consolidation;

/* How often the background looks for a run when there was none, unless slots get cold sooner. */
#define IMV_CONSOLIDATE_PERIOD_NS (INT64_C(10) * 1000000000)

/* Does one slice of the job at hand, or chooses one when it is time to; *did_work tells whether there was anything,
 * also when it failed. Background steps only: one thread. */
imv_status imv_consolidate_step(struct imv_engine *engine, bool *did_work, struct imv_error *err);

/* Gives up a job that is still being read, and lets some time pass before the next. Background steps only. */
void imv_consolidate_give_way(struct imv_engine *engine);

/* Gives up a job; what it wrote is deleted, or dropped at the next start. NULL is allowed. */
void imv_consolidation_free(struct imv_consolidation *job);
