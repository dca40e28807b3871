/* wal_scan.h - reading a journal: what recovery and the offline check share.
 *
 * The segments of a shard are taken in the order of their epochs and read block by block; every intact group of the
 * right epoch is met once. With r = replay_after and k = the last position accepted, starting at r:
 *
 *   position <= r      is in chunks: skipped, also when it is damaged
 *   position == k + 1  its chain must name group k: accepted, handed over, k = k + 1
 *   otherwise          group k + 1 is missing or damaged. The frame that was met says what had been acknowledged when
 *                      it was submitted (`synced`): at least k + 1 means that acknowledged data is damaged, IMV_CORRUPT;
 *                      less means that k + 1 was under way together with it, so neither was acknowledged: an orphan.
 *
 * Three more things prove that group k + 1 had been there: a mark, written by an orderly close; the header of a segment
 * that a later recovery started at a higher position; a group whose segment has lost its header. What cannot be proven
 * is damage to the last IMV_WAL_IN_FLIGHT groups before a crash: it looks like a torn tail and is taken for one.
 */
#pragma once

#include "storage/wal_format.h"

struct imv_wal_segment {
    struct imv_file *file;
    char *path;
    uint64_t number;
    uint64_t size;                        /* of the file, in whole blocks */
    struct imv_wal_segment_header header; /* as read, when header_ok */
    bool header_ok;
    uint64_t epoch;         /* of this use; 0 when header is not ok */
    uint64_t last_position; /* highest position that survives in it; 0: none */
    enum { IMV_WAL_FREE, IMV_WAL_PREPARED, IMV_WAL_ACTIVE, IMV_WAL_LIVE } state; /* the writer's */
};

struct imv_wal_segments {
    struct imv_wal_segment **items; /* owned; by epoch, those without a header first */
    size_t count;
};

struct imv_wal_orphan {
    const struct imv_wal_segment *segment;
    uint64_t offset;
    uint64_t position;
};

struct imv_wal_scan {
    /* given */
    uint32_t shard;
    const struct imv_wal_segments *segments;
    bool replay_after_known; /* false: the first group that is met is the first that is needed */
    uint64_t replay_after;
    imv_status (*replay)(void *context, uint64_t position, const uint8_t *payload, size_t size, struct imv_error *err);
    void *context;
    /* found */
    uint64_t last_position; /* k */
    uint64_t chain;         /* hash of group k; 0 when it was not met */
    uint64_t groups_count;  /* accepted */
    uint64_t epoch_last;    /* highest that was met */
    struct imv_wal_orphan orphans[IMV_WAL_IN_FLIGHT];
    size_t orphans_count;
    /* on the way */
    uint64_t chain_position; /* whose hash chain is */
    const struct imv_wal_segment *tail_segment;
    uint64_t tail_offset; /* after group k */
    struct imv_file *read_file;
    uint64_t read_offset;
    size_t read_bytes;
    uint8_t *read_buffer;
    size_t read_capacity;
    uint8_t *payload_buffer; /* room for the largest compressed group so far */
    size_t payload_capacity;
};

/* Calls visit for the shard and number of every segment file in directory, shard by shard. */
imv_status imv_wal_names_list(struct imv_io *io, const char *directory,
                              imv_status (*visit)(void *context, uint32_t shard, uint64_t number,
                                                  struct imv_error *err),
                              void *context, struct imv_error *err);

/* Makes the name of a segment file; the caller frees it. NULL without memory. */
char *imv_wal_segment_path(const char *directory, uint32_t shard, uint64_t number);

/* Opens all segments of a shard and reads their headers. With exclusive, each is opened for writing, locked and synced
 * first: the kernel keeps the lock while a write of a former process is under way, and what is read after the sync will
 * be there after a power cut too. IMV_BUSY: another process has it. IMV_CORRUPT, IMV_UNSUPPORTED. The caller releases
 * segments in any case. */
imv_status imv_wal_segments_open(struct imv_io *io, const char *directory, uint32_t shard, bool exclusive,
                                 struct imv_wal_segments *segments, struct imv_error *err);
/* Adds a segment (taken over on IMV_OK). */
imv_status imv_wal_segments_add(struct imv_wal_segments *segments, struct imv_wal_segment *segment,
                                struct imv_error *err);
/* Closes the file and frees it. */
void imv_wal_segment_free(struct imv_wal_segment *segment);
void imv_wal_segments_release(struct imv_wal_segments *segments);

/* Reads it all, as described above; sets last_position of every segment. IMV_CORRUPT names file and offset. */
imv_status imv_wal_scan_run(struct imv_wal_scan *scan, struct imv_error *err);
