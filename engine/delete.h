/* delete.h - how a deletion comes into being and ends: requests to the shards, and every change of a shard's
 * tombstones.
 *
 *     query thread --imv_engine_delete--> request --queue of each owner--> journal groups --synced--> tombstones
 *       <--all owners have applied it, or one failed--
 *     flush --seal--> generations --settle--> records in `meta`, merged or dropped when no part needs them
 *
 * A deletion that lists more series than a journal group holds is cut into several groups, which become durable and
 * visible one after the other; shards do so independently of each other. So a reader may see a deletion of several
 * series done in part, and a crash before it was acknowledged may leave it so; of one series it is all or nothing.
 *
 * A request is reference-counted: by its maker, and by each shard that still has to do with it. So a maker whose
 * patience ends may leave; the deletion then takes place or not.
 *
 * Lists are replaced, never changed. A shard's thread adds, the flush seals and settles (under FLUSH): each makes its
 * new list from the one it sees and swaps it under STATE if that is still the current one, else starts over.
 */
#pragma once

#include "engine/engine.h"
#include "engine/journal.h"
#include "engine/meta.h"

enum { IMV_DELETION_QUEUE = 16 }; /* requests that wait at one shard; more are told IMV_BUSY */

struct imv_deletion_request;

/* ---- the shard's thread ---- */

/* Takes the next request off the queue of a shard, whose tombstones to come are `pending`, and with it the reference.
 * NULL: there is none. Requests that IMV_TOMBSTONES_MAX forbids are failed here. */
struct imv_deletion_request *imv_deletion_take(struct imv_engine *engine, uint32_t shard, size_t pending);

/* How many tombstones it brings to the shard: the series listed, or 1 for the whole label. */
size_t imv_deletion_count(const struct imv_deletion_request *request, uint32_t shard);

/* Its part [from, from + count) in the shard as a journal record; for the whole label there is one part. */
struct imv_journal_deletion imv_deletion_part(const struct imv_deletion_request *request, uint32_t shard, size_t from,
                                              size_t count);

/* Hides the rows of a durable deletion: those of heads up to sequence, which is published, and those of all parts there
 * are. position is its group's. IMV_NO_MEMORY: nothing changed. */
imv_status imv_deletion_apply(struct imv_engine *engine, uint32_t shard, const struct imv_journal_deletion *deletion,
                              uint64_t sequence, uint64_t position, struct imv_error *err);

/* For what refers to a request besides the one who took it. */
void imv_deletion_retain(struct imv_deletion_request *request);
void imv_deletion_release(struct imv_deletion_request *request);

/* The shard is done with the request: IMV_OK all of it is applied, else err says why it is not. Gives the reference. */
void imv_deletion_finish(struct imv_engine *engine, struct imv_deletion_request *request, const struct imv_error *err);

/* Fails all requests that wait at a shard. */
void imv_deletions_refuse(struct imv_engine *engine, uint32_t shard, const struct imv_error *err);

/* ---- who holds the FLUSH lock ---- */

/* Before a flush draws its first generation: gives the shard's tombstones without one the last that was given out.
 * *deletions, referenced, is what the flush has to leave out. IMV_NO_MEMORY. */
imv_status imv_deletions_seal(struct imv_engine *engine, uint32_t shard, struct imv_deletions **deletions,
                              struct imv_error *err);

/* What becomes of the tombstones of a shard whose groups are in chunks. */
struct imv_settlement {
    struct imv_tombstone *kept; /* malloc'ed; NULL: the shard has none */
    size_t kept_count;
    struct imv_deletions *before; /* what it was made from; referenced */
    size_t changes;               /* records put or taken out */
};

/* Decides about the tombstones of groups up to position: one that no part needs goes, neighbours are merged, others are
 * recorded. Adds the changes of `meta` to batch. The settlement is ended by exactly one of the two below.
 * IMV_NO_MEMORY. */
imv_status imv_deletions_settle(struct imv_engine *engine, uint32_t shard, uint64_t position,
                                struct imv_meta_batch *batch, struct imv_settlement *settlement, struct imv_error *err);
/* The batch is written: the list follows. Without memory it stays as it was, which hides the same. */
void imv_deletions_settled(struct imv_engine *engine, uint32_t shard, struct imv_settlement *settlement);
void imv_settlement_release(struct imv_settlement *settlement);

/* Whether a part may hold rows that a tombstone of the shard hides. */
bool imv_tombstone_concerns(const struct imv_tombstone *tombstone, uint32_t shard, const struct imv_part *part);

/* After parts are gone: drops what no part needs any more, in all shards. */
imv_status imv_deletions_sweep(struct imv_engine *engine, struct imv_error *err);
