/* shard.h - one owner's part of the engine: its journal, its heads, and the way in.
 *
 *     writers --batches--> queues --run--> staged --encode--> journal group --synced--> heads --> acknowledged
 *
 * All functions but those marked belong to the shard's own thread. The thread's loop calls imv_shard_run when it is
 * woken and after each turn; journal completions arrive through the I/O back end that the loop drives.
 */
#pragma once

#include "engine/batch.h"
#include "storage/base/io.h"

struct imv_engine;
struct imv_shard;

/* Opens the shard's journal on io, replays it into heads (flushing on the way when memory asks for it) and is ready to
 * run. io is the caller's and is driven by this thread only; it outlives the shard. */
imv_status imv_shard_open(struct imv_engine *engine, uint32_t index, struct imv_io *io, struct imv_shard **shard,
                          struct imv_error *err);

/* Waits for writes under way and closes the journal. Rows that are in no durable group are dropped (never
 * acknowledged). */
void imv_shard_close(struct imv_shard *shard);

/* Takes batches from the queues, starts a group when the journal is ready, freezes the active head when it is full, old
 * or a flush was asked for, releases journal segments. Cheap when there is nothing to do. */
void imv_shard_run(struct imv_shard *shard);

/* True while rows are staged or in groups under way. */
bool imv_shard_busy(const struct imv_shard *shard);

/* When imv_shard_run wants to be called next even if nothing happens, as monotonic ns; INT64_MAX for never. */
int64_t imv_shard_deadline_ns(const struct imv_shard *shard);
