/* wal.h - the journal of one shard: the truth about everything acknowledged.
 *
 * A shard appends groups. A group is one payload (columnar rows and definitions, made by engine/journal.c; the journal
 * does not look inside), compressed with lz4 when that saves space, framed, padded to 4 KiB and written by one
 * O_DIRECT | RWF_DSYNC write. Groups are numbered 1, 2, 3, ... over the life of the data directory: the number is the
 * group's position.
 *
 *     segment file  wal/<shard>-<number>.wal, zero-filled at creation, 64 MiB by default, used again when released
 *     +-----------------+---------------+---------------+-----+--------- - - -
 *     | segment header  | group         | group         | ... | zeros, or groups of a former use
 *     | 4 KiB           | n x 4 KiB     | n x 4 KiB     |     |
 *     +-----------------+---------------+---------------+-----+--------- - - -
 *     The exact layouts stand in wal_format.h.
 *
 * Each use of a segment is a new epoch, whose header is durable before its first group is submitted. A group carries
 * shard, epoch, a salt of this use, its position and place, lengths, the hash of the group before it (chain), what was
 * acknowledged when it was submitted, and an XXH3 over all of it, padding included; so a group of a former use, of
 * another shard or at another place is never taken for one of this. A block that holds acknowledged bytes is never
 * written again until the segment is released.
 *
 * At most IMV_WAL_IN_FLIGHT groups are under way; while they are, the caller fills the next (natural group commit, no
 * timers). A failed write is final: the journal closes itself, nothing more is acknowledged, a restart recovers.
 *
 * While one segment fills, the next is made ready in the background, by asynchronous writes that complete on the same
 * back end: zeros and a header when it is new, a header alone when it is used again. The first one is made ready by
 * imv_wal_open, which is what takes time in a new directory. Creating a file blocks for a sync of the directory.
 *
 * Recovery takes the segments in the order of their epochs, from the first group that is needed, and hands over each
 * payload. Let k + 1 be the first group that does not verify. Two groups may be under way at once and end in any order,
 * so a crash may leave k + 2 whole and k + 1 not: neither was acknowledged. Therefore a whole group behind a bad one is
 * damage only when it proves that the bad one had been acknowledged:
 *
 *     ... | k | k+1 bad | k+2, written when k was acknowledged |          torn tail: ends at k, k+2 is dropped
 *     ... | k | k+1 bad | k+2 | k+3, written when k+1 was acknowledged |  IMV_CORRUPT, naming file and offset
 *
 * The header of a segment that a recovery started, and the mark that an orderly close leaves, prove the same. So damage
 * to acknowledged groups is always told, but for the last IMV_WAL_IN_FLIGHT ones before a crash: nothing is written
 * after them, and they cannot be told from a torn tail. wal_scan.h has the exact rules.
 *
 * After recovery the journal goes on in a fresh epoch, never behind bytes of the old one. A dropped group is cleared on
 * disk first, so that it cannot come back when its number is given again; a crash in between leaves the same state to
 * the next recovery. Segments are synced before they are read, so that what was replayed stays, and locked, so that no
 * write of a killed process is still under way.
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
    uint64_t segment_bytes; /* multiple of 4 KiB, at least 8 KiB; bounds the size of a group; 0: 64 MiB */
    uint64_t bytes_max;     /* cap over all segments, at least two; when reached imv_wal_write says IMV_FULL; 0: 32
                                 segments. Recovery may leave more, until they are released */
    uint64_t replay_after;  /* groups up to this position are in chunks already and are not replayed; at least the
                                 highest position that was ever released */
    const struct imv_clock *clock; /* NULL: the system's */
    /* Called during open for each group to replay, in order. A failure ends the open. */
    imv_status (*replay)(void *context, uint64_t position, const uint8_t *payload, size_t size, struct imv_error *err);
    /* Called when a group has become durable, in order of position; or once with a failure and the first position that
     * is not, after which the journal is closed. From imv_io_poll or the ring's dispatch, on the shard's thread; may
     * write and release, not close. May be NULL. */
    void (*synced)(void *context, uint64_t position, imv_status status, const struct imv_error *err);
    void *context;
};

/* Opens the journal in directory (made when absent), recovers it and gets it ready to write. The io must outlive it.
 * IMV_CORRUPT: damage in the middle, see above. IMV_IO. IMV_UNSUPPORTED: a format of a newer version. IMV_BUSY: another
 * process has it. IMV_INVALID: segment_bytes or bytes_max. With a full disk or bytes_max reached it opens, and writes
 * say IMV_FULL. */
imv_status imv_wal_open(struct imv_io *io, const char *directory, const struct imv_wal_options *options,
                        struct imv_wal **wal, struct imv_error *err);

/* Waits for the writes under way (synced is called for them), then closes. NULL is allowed. */
void imv_wal_close(struct imv_wal *wal);

/* False while imv_wal_write would say IMV_BUSY or IMV_CLOSED to any group. */
bool imv_wal_ready(const struct imv_wal *wal);

/* Frames payload (copied) and starts its write; *position is the group's number. IMV_BUSY: IMV_WAL_IN_FLIGHT groups are
 * under way, or the next segment is not ready; a completion of the back end follows, try again after it. IMV_FULL:
 * bytes_max reached or the disk full, flush and release first. IMV_CLOSED: a write failed before, err says which.
 * IMV_INVALID: empty, or larger than IMV_WAL_PAYLOAD_BYTES_MAX or a segment. */
imv_status imv_wal_write(struct imv_wal *wal, const void *payload, size_t size, uint64_t *position,
                         struct imv_error *err);

/* The highest position that is durable, all before it included. Any thread. */
uint64_t imv_wal_synced(const struct imv_wal *wal);

/* Bytes of segments that hold groups above the released position (of the active one: up to its last group): what a
 * restart would have to read. */
uint64_t imv_wal_bytes(const struct imv_wal *wal);

/* All groups up to position, which are durable, are in chunks: segments that hold nothing newer may be used again. */
void imv_wal_release(struct imv_wal *wal, uint64_t position);

/* Offline check of all journals in a directory, for `imvdb check`: calls report with a line of text per journal and per
 * finding; returns IMV_CORRUPT when any journal is damaged in the middle. */
imv_status imv_wal_check(struct imv_io *io, const char *directory, void (*report)(void *context, const char *line),
                         void *context, struct imv_error *err);

/* Prints one segment file for `imvdb inspect`: its header, each intact group of its present use, and what lies between
 * and behind them. Nothing is locked or changed. IMV_CORRUPT: it has no header that can be read. IMV_IO,
 * IMV_NO_MEMORY. */
imv_status imv_wal_inspect(struct imv_io *io, const char *path, void (*report)(void *context, const char *line),
                           void *context, struct imv_error *err);
