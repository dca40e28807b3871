/* wal.h - the journal of one shard: the truth about everything acknowledged.
 *
 * A shard appends groups. A group is one payload (columnar rows and definitions, made by engine/journal.c; the journal
 * does not look inside), compressed with lz4 when that saves space, framed, padded to 4 KiB and written by one
 * O_DIRECT | RWF_DSYNC write. Groups are numbered 1, 2, 3, ... over the life of the data directory: the number is the
 * group's position.
 *
 *     segment file  wal/<shard>-<number>.wal, zero-filled at creation, 64 MiB by default, used again when released
 *     +-----------------+---------------+---------------+-----+--------- - - -
 *     | segment header  | group         | group         | ... | zeros, or groups of a former epoch
 *     | 4 KiB           | n x 4 KiB     | n x 4 KiB     |     |
 *     +-----------------+---------------+---------------+-----+--------- - - -
 *     The exact layouts stand at the top of wal.c.
 *
 * Each use of a segment is a new epoch; a group carries shard, epoch, position, lengths, the hash of the group before it
 * (chain) and an XXH3 over all of it, so a group of a former use, of another shard or at another place is never taken
 * for one of this. A block that holds acknowledged bytes is never written again until the segment is released.
 *
 * At most IMV_WAL_IN_FLIGHT groups are under way; while they are, the caller fills the next (natural group commit, no
 * timers). A failed write is final: the journal closes itself, nothing more is acknowledged, a restart recovers.
 *
 * Recovery reads the segments in epoch order from the first group that is needed, hands over each payload, and ends at
 * the first group that does not verify. If any valid group of the same journal with a higher position exists beyond
 * that point, the damage is in the middle: IMV_CORRUPT, naming file and offset, because that data may have been
 * acknowledged. Otherwise it is a torn tail, which is normal after a crash.
 *
 * One thread (the shard's) calls everything but imv_wal_synced.
 */
#pragma once

#include "storage/base/io.h"
#include "storage/base/status.h"

#include <stdint.h>

struct imv_wal;
struct imv_clock;

enum {
    IMV_WAL_IN_FLIGHT = 2,
    IMV_WAL_PAYLOAD_BYTES_MAX = 4 << 20, /* of one group, before compression */
};

struct imv_wal_options {
    uint32_t shard;
    uint64_t segment_bytes;   /* multiple of 4 KiB, at least 2 * IMV_WAL_PAYLOAD_BYTES_MAX; default 64 MiB */
    uint64_t bytes_max;       /* cap over all segments; when reached imv_wal_write says IMV_FULL; default 2 GiB */
    uint64_t replay_after;    /* groups up to this position are in chunks already and are not replayed */
    const struct imv_clock *clock;
    /* Called during open for each group to replay, in order. A failure ends the open. */
    imv_status (*replay)(void *context, uint64_t position, const uint8_t *payload, size_t size, struct imv_error *err);
    /* Called when a group has become durable, in order of position; or once with a failure, after which the journal is
     * closed. From imv_io_poll or the ring's dispatch, on the shard's thread. */
    void (*synced)(void *context, uint64_t position, imv_status status, const struct imv_error *err);
    void *context;
};

/* Opens the journal in directory (made when absent), recovers it and gets it ready to write. The io must outlive it.
 * IMV_CORRUPT: damage in the middle, see above. IMV_IO. IMV_UNSUPPORTED: a format of a newer version. */
imv_status imv_wal_open(struct imv_io *io, const char *directory, const struct imv_wal_options *options,
                        struct imv_wal **wal, struct imv_error *err);

/* Waits for the writes under way, then closes. NULL is allowed. */
void imv_wal_close(struct imv_wal *wal);

/* True when imv_wal_write would start a group now. */
bool imv_wal_ready(const struct imv_wal *wal);

/* Frames payload (copied) and starts its write; *position is the group's number. IMV_BUSY: IMV_WAL_IN_FLIGHT groups are
 * under way. IMV_FULL: bytes_max reached, flush and release first. IMV_CLOSED: a write failed before. IMV_INVALID: empty
 * or larger than IMV_WAL_PAYLOAD_BYTES_MAX. */
imv_status imv_wal_write(struct imv_wal *wal, const void *payload, size_t size, uint64_t *position,
                         struct imv_error *err);

/* The highest position that is durable, all before it included. Any thread. */
uint64_t imv_wal_synced(const struct imv_wal *wal);

/* Bytes of segments that hold groups above the released position: what a restart would have to read. */
uint64_t imv_wal_bytes(const struct imv_wal *wal);

/* All groups up to position are in chunks: segments that hold nothing newer may be used again. */
void imv_wal_release(struct imv_wal *wal, uint64_t position);

/* Offline check of all journals in a directory, for `imvdb check`: calls report with a line of text per journal and per
 * finding; returns IMV_CORRUPT when any journal is damaged in the middle. */
imv_status imv_wal_check(struct imv_io *io, const char *directory, void (*report)(void *context, const char *line),
                         void *context, struct imv_error *err);
