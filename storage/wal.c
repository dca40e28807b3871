#include "storage/wal.h"

#include "storage/base/assert.h"
#include "storage/base/clock.h"
#include "storage/base/hash.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/wal_scan.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* The life of a segment, and who moves it on:
 *
 *     create --> zero-fill --\                                 (completions)
 *                             header durable --> PREPARED --> ACTIVE --> LIVE --> FREE --\
 *                            /                    imv_wal_write:  its turn, full   release \
 *                            \-------------------------------------------------------------/
 *
 * One segment is made ready while the one before it is being filled, so that a change of segments costs nothing. All of
 * it is asynchronous but the creation of a file (create, sync of the directory: milliseconds, once per file ever). */

enum {
    BLOCK = IMV_IO_BLOCK_BYTES,
    SEGMENT_BYTES_DEFAULT = 64 << 20,
    SEGMENTS_DEFAULT = 32,
    /* 256 KiB: one step delays a group behind it by about half a millisecond, and a step a turn still fills a segment
     * in a fraction of a second. See bench/micro/bench_storage_wal.c. */
    FILL_BYTES = 256 << 10,
};

/* How long after the disk was found full the next segment is tried again. */
static const int64_t RETRY_NS = 1000000000;

struct group {
    struct imv_io_write write; /* first */
    uint8_t *buffer;           /* room for the largest frame */
    uint64_t position;
    int64_t submitted_ns;
    bool under_way, durable;
};

struct imv_wal {
    struct imv_io *io;
    char *directory;
    uint32_t shard;
    uint64_t segment_bytes;
    size_t segments_max;
    const struct imv_clock *clock;
    void (*synced)(void *context, uint64_t position, imv_status status, const struct imv_error *err);
    void *context;

    struct imv_wal_segments segments;
    uint64_t number_last; /* of a segment file */
    uint64_t epoch_last;

    struct imv_wal_segment *active; /* takes groups; NULL until the first write */
    uint64_t tail;                  /* where the next group goes in active */
    struct imv_wal_segment *next;   /* PREPARED; NULL: none */

    struct imv_wal_segment *preparing; /* NULL: none */
    struct imv_io_write prepare_write; /* its zeros, then its header */
    uint64_t filled;                   /* bytes of it that are written */
    uint8_t *zeros;                    /* fill_bytes */
    size_t fill_bytes;                 /* of one step */
    uint8_t *header;                   /* a block */
    int64_t retry_ns;                  /* not before this (monotonic) is another segment made */

    struct group groups[IMV_WAL_IN_FLIGHT];
    size_t oldest, groups_count; /* submitted and not acknowledged */
    size_t under_way;            /* writes of any kind */

    uint64_t position_last;           /* of the newest group */
    uint64_t chain;                   /* its hash */
    bool started;                     /* a group was written since the journal was opened */
    _Atomic uint64_t synced_position; /* written by the owner, read by all, release/acquire */
    uint64_t released;

    bool closing;
    bool failed; /* nothing more is written or acknowledged */
    bool failure_told;
    struct imv_error failure;
};

/* -- failure ------------------------------------------------------------------------------------------------------- */

/* The first failure closes the journal; it is told by the next completion or the next write, whichever comes first. */
static void close_failed(struct imv_wal *wal, const struct imv_error *err) {
    if (wal->failed) return;
    wal->failed = true;
    wal->failure = *err;
    imv_metric_add(IMV_METRIC_wal_failures_total, 1);
    imv_log(IMV_LOG_ERROR, "wal", "shard=%" PRIu32 " closed: %s", wal->shard, err->message);
}

static imv_status say_closed(struct imv_wal *wal, struct imv_error *err) {
    wal->failure_told = true;
    return imv_fail(err, IMV_CLOSED, "%s", wal->failure.message);
}

static bool is_disk_full(int error_number) { return error_number == ENOSPC || error_number == EDQUOT; }

/* -- segments ------------------------------------------------------------------------------------------------------ */

static void remove_segment(struct imv_wal *wal, struct imv_wal_segment *segment) {
    struct imv_wal_segments *segments = &wal->segments;
    size_t index = 0;
    while (segments->items[index] != segment) index++;
    memmove(segments->items + index, segments->items + index + 1,
            (segments->count - index - 1) * sizeof *segments->items);
    segments->count--;
    /* Should the file stay or come back after a crash, then it holds no group that matters. */
    imv_io_unlink(wal->io, segment->path, NULL);
    imv_wal_segment_free(segment);
}

static struct imv_wal_segment *oldest_free(const struct imv_wal *wal) {
    struct imv_wal_segment *oldest = NULL;
    for (size_t i = 0; i < wal->segments.count; i++) {
        struct imv_wal_segment *segment = wal->segments.items[i];
        if (segment->state == IMV_WAL_FREE && (oldest == NULL || segment->epoch < oldest->epoch)) oldest = segment;
    }
    return oldest;
}

/* Makes the file of a new segment. A failed sync of the directory is final: a later one could succeed falsely. */
static imv_status create_segment(struct imv_wal *wal, struct imv_wal_segment **created, struct imv_error *err) {
    struct imv_wal_segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a segment");
    segment->number = ++wal->number_last;
    segment->size = wal->segment_bytes;
    segment->path = imv_wal_segment_path(wal->directory, wal->shard, segment->number);
    unsigned flags = IMV_OPEN_READ | IMV_OPEN_WRITE | IMV_OPEN_CREATE | IMV_OPEN_EXCLUSIVE | IMV_OPEN_DIRECT;
    imv_status status = segment->path != NULL ? IMV_OK : imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a path");
    if (status == IMV_OK) status = imv_file_open(wal->io, segment->path, flags, &segment->file, err);
    if (status == IMV_OK) status = imv_file_lock(segment->file, err);
    if (status == IMV_OK) status = imv_wal_segments_add(&wal->segments, segment, err);
    if (status != IMV_OK) {
        imv_wal_segment_free(segment);
        return status;
    }
    status = imv_io_sync_directory(wal->io, wal->directory, err);
    if (status != IMV_OK) close_failed(wal, err);
    *created = segment;
    return status;
}

static void prepare_submit(struct imv_wal *wal, const void *data, size_t size, uint64_t offset, bool durable) {
    wal->prepare_write.file = wal->preparing->file;
    wal->prepare_write.data = data;
    wal->prepare_write.size = size;
    wal->prepare_write.offset = offset;
    wal->prepare_write.durable = durable;
    wal->under_way++;
    imv_io_submit(wal->io, &wal->prepare_write);
}

/* The first use after an open says where the journal goes on; later ones follow the one before. */
static void prepare_header(struct imv_wal *wal) {
    struct imv_wal_segment *segment = wal->preparing;
    segment->epoch = ++wal->epoch_last;
    uint64_t seed[] = {(uint64_t)imv_clock_wall_ns(wal->clock), (uint64_t)imv_clock_monotonic_ns(wal->clock),
                       wal->shard, segment->number, segment->epoch};
    segment->header = (struct imv_wal_segment_header){.shard = wal->shard,
                                                      .number = segment->number,
                                                      .epoch = segment->epoch,
                                                      .salt = imv_hash64(seed, sizeof seed, 0),
                                                      .segment_bytes = wal->segment_bytes,
                                                      .first_position = wal->started ? 0 : wal->position_last + 1,
                                                      .chain = wal->started ? 0 : wal->chain};
    imv_wal_segment_header_seal(&segment->header, wal->header);
    prepare_submit(wal, wal->header, BLOCK, 0, true);
}

/* Zeros make the file system allocate, so that a group is an overwrite; whether they are durable does not matter. */
static void prepare_step(struct imv_wal *wal) {
    uint64_t left = wal->segment_bytes - wal->filled;
    if (left == 0)
        prepare_header(wal);
    else
        prepare_submit(wal, wal->zeros, left < wal->fill_bytes ? (size_t)left : wal->fill_bytes, wal->filled, false);
}

static void prepare_put_off(struct imv_wal *wal, const char *reason) {
    wal->retry_ns = imv_clock_monotonic_ns(wal->clock) + RETRY_NS;
    imv_log(IMV_LOG_WARN, "wal", "shard=%" PRIu32 " cannot make another segment: %s", wal->shard, reason);
}

/* Starts to make another segment ready unless there is one. */
static void prepare(struct imv_wal *wal) {
    if (wal->next != NULL || wal->preparing != NULL || wal->failed || wal->closing) return;
    struct imv_wal_segment *segment = oldest_free(wal);
    if (segment != NULL) {
        wal->filled = wal->segment_bytes;
    } else {
        if (wal->segments.count >= wal->segments_max) return;
        if (imv_clock_monotonic_ns(wal->clock) < wal->retry_ns) return;
        struct imv_error err;
        if (create_segment(wal, &segment, &err) != IMV_OK) {
            if (!wal->failed) prepare_put_off(wal, err.message);
            return;
        }
        wal->filled = 0;
    }
    segment->state = IMV_WAL_PREPARED;
    wal->preparing = segment;
    prepare_step(wal);
}

static void settle(struct imv_wal *wal);

static void prepare_done(struct imv_io_write *write, int error_number) {
    struct imv_wal *wal = write->context;
    struct imv_wal_segment *segment = wal->preparing;
    wal->under_way--;
    if (wal->failed || wal->closing) return;
    if (error_number == 0 && wal->filled < wal->segment_bytes) {
        wal->filled += write->size;
        prepare_step(wal);
    } else if (error_number == 0) {
        wal->preparing = NULL;
        wal->next = segment;
    } else if (is_disk_full(error_number)) {
        wal->preparing = NULL;
        remove_segment(wal, segment);
        prepare_put_off(wal, "the disk is full");
    } else {
        struct imv_error err;
        imv_fail_errno(&err, IMV_IO, error_number, "wal: cannot prepare %s", segment->path);
        close_failed(wal, &err);
        settle(wal);
    }
}

/* Makes the prepared segment the active one. */
static void advance(struct imv_wal *wal) {
    imv_assert(wal->next != NULL && wal->next->state == IMV_WAL_PREPARED);
    if (wal->active != NULL) wal->active->state = IMV_WAL_LIVE;
    wal->active = wal->next;
    wal->active->state = IMV_WAL_ACTIVE;
    wal->next = NULL;
    wal->tail = BLOCK;
    wal->started = true;
}

void imv_wal_release(struct imv_wal *wal, uint64_t position) {
    imv_assert(position <= imv_wal_synced(wal));
    if (position > wal->released) wal->released = position;
    for (size_t i = wal->segments.count; i-- > 0;) {
        struct imv_wal_segment *segment = wal->segments.items[i];
        if (segment->state != IMV_WAL_LIVE || segment->last_position > wal->released) continue;
        segment->state = IMV_WAL_FREE;
        /* Made when the limits were others, or while recovery needed one more. */
        bool fits = segment->size == wal->segment_bytes && wal->segments.count <= wal->segments_max;
        if (!fits) remove_segment(wal, segment);
    }
    /* Before the first write, to prepare is the business of open and write: see `started`. */
    if (wal->started) prepare(wal);
}

uint64_t imv_wal_bytes(const struct imv_wal *wal) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < wal->segments.count; i++) {
        const struct imv_wal_segment *segment = wal->segments.items[i];
        if (segment->last_position <= wal->released) continue;
        if (segment->state == IMV_WAL_LIVE) bytes += segment->size;
        if (segment->state == IMV_WAL_ACTIVE) bytes += wal->tail;
    }
    return bytes;
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Acknowledges what is durable, in order; or tells the failure, once. The callback may write and release. */
static void settle(struct imv_wal *wal) {
    while (!wal->failed && wal->groups_count > 0 && wal->groups[wal->oldest].durable) {
        struct group *group = &wal->groups[wal->oldest];
        uint64_t position = group->position;
        group->durable = false;
        wal->oldest = (wal->oldest + 1) % IMV_WAL_IN_FLIGHT;
        wal->groups_count--;
        imv_assert(position == imv_wal_synced(wal) + 1);
        atomic_store_explicit(&wal->synced_position, position, memory_order_release);
        if (wal->synced != NULL) wal->synced(wal->context, position, IMV_OK, NULL);
    }
    if (wal->failed && !wal->failure_told) {
        wal->failure_told = true;
        if (wal->synced != NULL) {
            wal->synced(wal->context, imv_wal_synced(wal) + 1, wal->failure.status, &wal->failure);
        }
    }
}

static void group_done(struct imv_io_write *write, int error_number) {
    struct group *group = (struct group *)write;
    struct imv_wal *wal = write->context;
    wal->under_way--;
    group->under_way = false;
    if (error_number == 0) {
        group->durable = true;
        imv_metric_add(IMV_METRIC_wal_groups_total, 1);
        imv_metric_add(IMV_METRIC_wal_bytes_total, (int64_t)write->size);
        imv_metric_observe_ns(IMV_METRIC_wal_sync_seconds, imv_clock_monotonic_ns(wal->clock) - group->submitted_ns);
    } else {
        struct imv_error err;
        imv_fail_errno(&err, IMV_IO, error_number, "wal: cannot write group %" PRIu64 " at %" PRIu64, group->position,
                       write->offset);
        close_failed(wal, &err);
    }
    settle(wal);
}

/* Puts payload behind the place of the header, compressed when that saves a block, and starts a frame for it. */
static struct imv_wal_frame frame_payload(const struct imv_wal *wal, uint8_t *buffer, const void *payload,
                                          size_t size) {
    struct imv_wal_frame frame = {.shard = wal->shard, .payload_bytes = (uint32_t)size, .stored_bytes = (uint32_t)size};
    uint8_t *stored = buffer + sizeof frame;
    int room = (int)imv_wal_frame_size(size) - BLOCK - (int)sizeof frame;
    int compressed = room <= 0 ? 0 : LZ4_compress_default(payload, (char *)stored, (int)size, room);
    if (compressed > 0 && (size_t)compressed < size) {
        frame.flags = IMV_WAL_FRAME_LZ4;
        frame.stored_bytes = (uint32_t)compressed;
    } else {
        memcpy(stored, payload, size);
    }
    return frame;
}

/* Fills in what ties the frame to its place. */
static void frame_place(const struct imv_wal *wal, struct imv_wal_frame *frame, uint64_t position) {
    frame->epoch = wal->active->epoch;
    frame->salt = wal->active->header.salt;
    frame->position = position;
    frame->synced = imv_wal_synced(wal);
    frame->chain = wal->chain;
    frame->block_index = (uint32_t)(wal->tail / BLOCK);
}

static bool has_room(const struct imv_wal *wal, size_t frame_bytes) {
    return wal->active != NULL && wal->tail + frame_bytes <= wal->active->size;
}

/* Finds room for frame_bytes, going on to the next segment when need be. */
static imv_status make_room(struct imv_wal *wal, size_t frame_bytes, struct imv_error *err) {
    if (has_room(wal, frame_bytes)) return IMV_OK;
    if (wal->next == NULL) prepare(wal);
    if (wal->failed) return say_closed(wal, err);
    if (wal->preparing != NULL) return imv_fail(err, IMV_BUSY, "wal: the next segment is not ready");
    if (wal->next == NULL) {
        return imv_fail(err, IMV_FULL, "wal: %zu segments of %" PRIu64 " bytes are full or the disk is",
                        wal->segments.count, wal->segment_bytes);
    }
    advance(wal);
    return IMV_OK;
}

bool imv_wal_ready(const struct imv_wal *wal) {
    if (wal->failed || wal->groups_count == IMV_WAL_IN_FLIGHT) return false;
    return has_room(wal, BLOCK) || wal->preparing == NULL;
}

static imv_status check_write(struct imv_wal *wal, size_t size, struct imv_error *err) {
    if (wal->failed) return say_closed(wal, err);
    if (size == 0 || size > IMV_WAL_PAYLOAD_BYTES_MAX || imv_wal_frame_size(size) > wal->segment_bytes - BLOCK) {
        return imv_fail(err, IMV_INVALID, "wal: a group of %zu bytes is empty, over %d or over a segment", size,
                        IMV_WAL_PAYLOAD_BYTES_MAX);
    }
    if (wal->groups_count == IMV_WAL_IN_FLIGHT) {
        return imv_fail(err, IMV_BUSY, "wal: %d groups are under way", IMV_WAL_IN_FLIGHT);
    }
    return IMV_OK;
}

imv_status imv_wal_write(struct imv_wal *wal, const void *payload, size_t size, uint64_t *position,
                         struct imv_error *err) {
    IMV_TRY(check_write(wal, size, err));
    /* Before the work of framing: without room for a block there is none for any group. */
    IMV_TRY(make_room(wal, BLOCK, err));
    struct group *group = &wal->groups[(wal->oldest + wal->groups_count) % IMV_WAL_IN_FLIGHT];
    imv_assert(!group->under_way);
    struct imv_wal_frame frame = frame_payload(wal, group->buffer, payload, size);
    size_t frame_bytes = imv_wal_frame_size(frame.stored_bytes);
    IMV_TRY(make_room(wal, frame_bytes, err));
    *position = ++wal->position_last;
    frame_place(wal, &frame, *position);
    imv_wal_frame_seal(&frame, group->buffer);

    group->write.file = wal->active->file;
    group->write.data = group->buffer;
    group->write.size = frame_bytes;
    group->write.offset = wal->tail;
    group->position = *position;
    group->submitted_ns = imv_clock_monotonic_ns(wal->clock);
    group->under_way = true;
    wal->active->last_position = *position;
    wal->tail += frame_bytes;
    wal->chain = frame.hash;
    wal->groups_count++;
    wal->under_way++;
    imv_io_submit(wal->io, &group->write);
    prepare(wal);
    return IMV_OK;
}

uint64_t imv_wal_synced(const struct imv_wal *wal) {
    return atomic_load_explicit(&wal->synced_position, memory_order_acquire);
}

/* -- opening and closing ------------------------------------------------------------------------------------------- */

static imv_status set_limits(struct imv_wal *wal, const struct imv_wal_options *options, struct imv_error *err) {
    wal->segment_bytes = options->segment_bytes != 0 ? options->segment_bytes : SEGMENT_BYTES_DEFAULT;
    uint64_t bytes_max = options->bytes_max != 0 ? options->bytes_max : SEGMENTS_DEFAULT * wal->segment_bytes;
    wal->segments_max = (size_t)(bytes_max / wal->segment_bytes);
    if (wal->segment_bytes % BLOCK != 0 || wal->segment_bytes < 2 * BLOCK || wal->segment_bytes > UINT32_MAX) {
        return imv_fail(err, IMV_INVALID, "wal: segments of %" PRIu64 " bytes: want a multiple of %d, at least two",
                        wal->segment_bytes, BLOCK);
    }
    if (wal->segments_max < 2) {
        return imv_fail(err, IMV_INVALID, "wal: %" PRIu64 " bytes hold less than two segments of %" PRIu64, bytes_max,
                        wal->segment_bytes);
    }
    return IMV_OK;
}

static imv_status new_wal(struct imv_io *io, const char *directory, const struct imv_wal_options *options,
                          struct imv_wal **wal, struct imv_error *err) {
    struct imv_wal *made = *wal = calloc(1, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a journal");
    IMV_TRY(set_limits(made, options, err));
    made->io = io;
    made->shard = options->shard;
    made->clock = options->clock != NULL ? options->clock : imv_clock_system();
    made->synced = options->synced;
    made->context = options->context;
    made->directory = strdup(directory);
    made->fill_bytes = made->segment_bytes < FILL_BYTES ? (size_t)made->segment_bytes : FILL_BYTES;
    made->zeros = aligned_alloc(BLOCK, made->fill_bytes);
    made->header = aligned_alloc(BLOCK, BLOCK);
    bool complete = made->directory != NULL && made->zeros != NULL && made->header != NULL;
    size_t payload_max = made->segment_bytes - BLOCK - sizeof(struct imv_wal_frame);
    if (payload_max > IMV_WAL_PAYLOAD_BYTES_MAX) payload_max = IMV_WAL_PAYLOAD_BYTES_MAX;
    for (size_t i = 0; i < IMV_WAL_IN_FLIGHT; i++) {
        made->groups[i].buffer = aligned_alloc(BLOCK, imv_wal_frame_size(payload_max));
        made->groups[i].write = (struct imv_io_write){.durable = true, .done = group_done, .context = made};
        complete = complete && made->groups[i].buffer != NULL;
    }
    if (!complete) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory for the buffers of a journal");
    memset(made->zeros, 0, made->fill_bytes);
    made->prepare_write = (struct imv_io_write){.done = prepare_done, .context = made};
    return IMV_OK;
}

/* A directory that was made is there after a crash only when its parent knows it. */
static imv_status make_directory(struct imv_io *io, const char *directory, struct imv_error *err) {
    IMV_TRY(imv_io_make_directory(io, directory, err));
    char *parent = strdup(directory);
    if (parent == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a path");
    size_t length = strlen(parent);
    while (length > 1 && parent[length - 1] == '/') parent[--length] = 0;
    char *slash = strrchr(parent, '/');
    if (slash != NULL) slash[slash == parent] = 0;
    imv_status status = imv_io_sync_directory(io, slash != NULL ? parent : ".", err);
    free(parent);
    /* The directory too: a file that a killed process had just made is used again. */
    return status == IMV_OK ? imv_io_sync_directory(io, directory, err) : status;
}

/* Clears the groups that were under way together with one that was lost, so that they are not there when their numbers
 * are used again. */
static imv_status clear_orphans(struct imv_wal *wal, const struct imv_wal_scan *scan, struct imv_error *err) {
    for (size_t i = 0; i < scan->orphans_count; i++) {
        const struct imv_wal_orphan *orphan = &scan->orphans[i];
        imv_log(IMV_LOG_WARN, "wal",
                "shard=%" PRIu32 " drops group %" PRIu64 " at %" PRIu64
                " in %s: never acknowledged, the one before it is lost",
                wal->shard, orphan->position, orphan->offset, orphan->segment->path);
        imv_status status = imv_file_write(orphan->segment->file, wal->zeros, BLOCK, orphan->offset, true, err);
        if (status != IMV_OK) return imv_error_wrap(err, status, "wal: cannot clear group %" PRIu64, orphan->position);
    }
    return IMV_OK;
}

static imv_status recover(struct imv_wal *wal, const struct imv_wal_options *options, struct imv_error *err) {
    IMV_TRY(make_directory(wal->io, wal->directory, err));
    IMV_TRY(imv_wal_segments_open(wal->io, wal->directory, wal->shard, true, &wal->segments, err));
    struct imv_wal_scan scan = {.shard = wal->shard,
                                .segments = &wal->segments,
                                .replay_after_known = true,
                                .replay_after = options->replay_after,
                                .replay = options->replay,
                                .context = options->context};
    IMV_TRY(imv_wal_scan_run(&scan, err));
    IMV_TRY(clear_orphans(wal, &scan, err));
    wal->position_last = scan.last_position;
    wal->chain = scan.chain;
    wal->epoch_last = scan.epoch_last;
    atomic_store_explicit(&wal->synced_position, scan.last_position, memory_order_release);
    for (size_t i = 0; i < wal->segments.count; i++) {
        struct imv_wal_segment *segment = wal->segments.items[i];
        if (segment->number > wal->number_last) wal->number_last = segment->number;
        segment->state = IMV_WAL_LIVE;
    }
    imv_log(IMV_LOG_INFO, "wal", "shard=%" PRIu32 " io=%s segments=%zu replayed_groups=%" PRIu64 " last=%" PRIu64,
            wal->shard, wal->io->ops->name, wal->segments.count, scan.groups_count, scan.last_position);
    return IMV_OK;
}

/* Gets the first segment ready, so that the first write does not wait. When the limit or the disk does not allow it,
 * the journal opens all the same and writes say IMV_FULL. */
static imv_status prepare_first(struct imv_wal *wal, struct imv_error *err) {
    wal->failure_told = true; /* by the status of the open, not by `synced` */
    prepare(wal);
    while (wal->preparing != NULL && !wal->failed) imv_io_poll(wal->io, true);
    wal->failure_told = wal->failed;
    if (!wal->failed) return IMV_OK;
    *err = wal->failure;
    return wal->failure.status;
}

static void free_wal(struct imv_wal *wal) {
    imv_assert(wal->under_way == 0);
    imv_wal_segments_release(&wal->segments);
    for (size_t i = 0; i < IMV_WAL_IN_FLIGHT; i++) free(wal->groups[i].buffer);
    free(wal->header);
    free(wal->zeros);
    free(wal->directory);
    free(wal);
}

imv_status imv_wal_open(struct imv_io *io, const char *directory, const struct imv_wal_options *options,
                        struct imv_wal **wal, struct imv_error *err) {
    struct imv_error local;
    if (err == NULL) err = &local;
    *wal = NULL;
    struct imv_wal *made = NULL;
    imv_status status = new_wal(io, directory, options, &made, err);
    if (status == IMV_OK) status = recover(made, options, err);
    if (status == IMV_OK) {
        imv_wal_release(made, options->replay_after);
        status = prepare_first(made, err);
    }
    if (status == IMV_OK)
        *wal = made;
    else if (made != NULL)
        free_wal(made);
    return status;
}

/* After an orderly close, damage to the last groups cannot pass for a torn tail. Best effort: without room or on a
 * failure nothing is lost but this proof. */
static void write_mark(struct imv_wal *wal) {
    if (wal->failed || wal->active == NULL || !has_room(wal, BLOCK)) return;
    imv_assert(imv_wal_synced(wal) == wal->position_last);
    struct imv_wal_frame frame = {.shard = wal->shard, .flags = IMV_WAL_FRAME_MARK};
    frame_place(wal, &frame, wal->position_last);
    uint8_t *buffer = wal->groups[0].buffer;
    imv_wal_frame_seal(&frame, buffer);
    imv_file_write(wal->active->file, buffer, BLOCK, wal->tail, true, NULL);
}

void imv_wal_close(struct imv_wal *wal) {
    if (wal == NULL) return;
    wal->closing = true;
    while (wal->under_way > 0) imv_io_poll(wal->io, true);
    write_mark(wal);
    free_wal(wal);
}

/* -- offline check ------------------------------------------------------------------------------------------------- */

struct check {
    struct imv_io *io;
    const char *directory;
    void (*report)(void *context, const char *line);
    void *context;
    bool any;
    uint32_t shard; /* checked last */
    imv_status status;
    struct imv_error *err; /* of the first finding */
};

static void check_shard(struct check *check) {
    struct imv_wal_segments segments = {0};
    struct imv_error err;
    imv_status status = imv_wal_segments_open(check->io, check->directory, check->shard, false, &segments, &err);
    struct imv_wal_scan scan = {.shard = check->shard, .segments = &segments};
    if (status == IMV_OK) status = imv_wal_scan_run(&scan, &err);
    char line[IMV_ERROR_MESSAGE_BYTES + 128];
    if (status == IMV_OK) {
        snprintf(line, sizeof line,
                 "wal: shard %" PRIu32 ": ok, %zu segments, %" PRIu64 " groups from %" PRIu64 " to %" PRIu64 "%s",
                 check->shard, segments.count, scan.groups_count, scan.last_position - scan.groups_count + 1,
                 scan.last_position, scan.orphans_count > 0 ? ", torn tail" : "");
    } else {
        snprintf(line, sizeof line, "wal: shard %" PRIu32 ": %s: %s", check->shard, imv_status_name(status),
                 err.message);
        if (check->status == IMV_OK) {
            check->status = status;
            if (check->err != NULL) *check->err = err;
        }
    }
    check->report(check->context, line);
    imv_wal_segments_release(&segments);
}

/* Names come in order of shard, so a shard is checked when its first segment is met. */
static imv_status check_name(void *context, uint32_t shard, uint64_t number, struct imv_error *err) {
    (void)number, (void)err;
    struct check *check = context;
    if (check->any && check->shard == shard) return IMV_OK;
    check->any = true;
    check->shard = shard;
    check_shard(check);
    return IMV_OK;
}

imv_status imv_wal_check(struct imv_io *io, const char *directory, void (*report)(void *context, const char *line),
                         void *context, struct imv_error *err) {
    struct check check = {.io = io, .directory = directory, .report = report, .context = context, .err = err};
    IMV_TRY(imv_wal_names_list(io, directory, check_name, &check, err));
    return check.status;
}
