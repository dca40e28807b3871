#include "storage/wal_scan.h"

#include "storage/base/assert.h"

#include <inttypes.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    BLOCK = IMV_IO_BLOCK_BYTES,
    /* The largest frame twice: a read then brings at least half a buffer of news. */
    READ_BUFFER_BYTES = 2 * (IMV_WAL_PAYLOAD_BYTES_MAX + BLOCK),
    /* A write of a killed process ends within the time of one device write; another process never lets go. */
    LOCK_ATTEMPTS = 100,
    LOCK_PAUSE_NS = 10000000,
};

/* -- segments ------------------------------------------------------------------------------------------------------ */

char *imv_wal_segment_path(const char *directory, uint32_t shard, uint64_t number) {
    char *path = NULL;
    return asprintf(&path, "%s/%04" PRIu32 "-%08" PRIu64 ".wal", directory, shard, number) < 0 ? NULL : path;
}

struct names {
    imv_status (*visit)(void *context, uint32_t shard, uint64_t number, struct imv_error *err);
    void *context;
};

/* Other files are none of ours, among them names that only look like a segment's, such as "1-1.wal". */
static imv_status visit_name(void *context, const char *name, struct imv_error *err) {
    const struct names *names = context;
    uint32_t shard;
    uint64_t number;
    if (sscanf(name, "%" SCNu32 "-%" SCNu64 ".wal", &shard, &number) != 2) return IMV_OK;
    char canonical[64];
    snprintf(canonical, sizeof canonical, "%04" PRIu32 "-%08" PRIu64 ".wal", shard, number);
    return strcmp(canonical, name) == 0 && number <= INT64_MAX ? names->visit(names->context, shard, number, err)
                                                               : IMV_OK;
}

imv_status imv_wal_names_list(struct imv_io *io, const char *directory,
                              imv_status (*visit)(void *context, uint32_t shard, uint64_t number,
                                                  struct imv_error *err),
                              void *context, struct imv_error *err) {
    struct names names = {visit, context};
    return imv_io_list(io, directory, visit_name, &names, err);
}

imv_status imv_wal_segments_add(struct imv_wal_segments *segments, struct imv_wal_segment *segment,
                                struct imv_error *err) {
    struct imv_wal_segment **items = realloc(segments->items, (segments->count + 1) * sizeof *items);
    if (items == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a list of segments");
    segments->items = items;
    items[segments->count++] = segment;
    return IMV_OK;
}

void imv_wal_segment_free(struct imv_wal_segment *segment) {
    if (segment == NULL) return;
    imv_file_close(segment->file);
    free(segment->path);
    free(segment);
}

void imv_wal_segments_release(struct imv_wal_segments *segments) {
    for (size_t i = 0; i < segments->count; i++) imv_wal_segment_free(segments->items[i]);
    free(segments->items);
    *segments = (struct imv_wal_segments){0};
}

static imv_status lock_patiently(struct imv_file *file, struct imv_error *err) {
    imv_status status;
    for (int attempt = 0;; attempt++) {
        status = imv_file_lock(file, err);
        if (status != IMV_BUSY || attempt == LOCK_ATTEMPTS) return status;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
}

/* Reads the header. One that is damaged is no failure yet: the segment may have been unused, or in the making. */
static imv_status read_header(struct imv_wal_segment *segment, uint32_t shard, struct imv_error *err) {
    if (segment->size < BLOCK) return IMV_OK;
    _Alignas(BLOCK) uint8_t block[BLOCK];
    size_t got;
    IMV_TRY(imv_file_read(segment->file, block, BLOCK, 0, &got, err));
    if (got < BLOCK) return IMV_OK;
    struct imv_wal_segment_header *header = &segment->header;
    imv_status status = imv_wal_segment_header_parse(block, header, err);
    if (status == IMV_CORRUPT) return IMV_OK;
    if (status != IMV_OK) return status;
    if (header->shard != shard || header->number != segment->number) {
        return imv_fail(err, IMV_CORRUPT, "this is segment %" PRIu64 " of shard %" PRIu32, header->number,
                        header->shard);
    }
    segment->header_ok = true;
    segment->epoch = header->epoch;
    return IMV_OK;
}

static imv_status open_segment(struct imv_io *io, uint32_t shard, bool exclusive, struct imv_wal_segment *segment,
                               struct imv_error *err) {
    unsigned flags = IMV_OPEN_READ | IMV_OPEN_DIRECT | (exclusive ? IMV_OPEN_WRITE : 0);
    IMV_TRY(imv_file_open(io, segment->path, flags, &segment->file, err));
    if (exclusive) {
        IMV_TRY(lock_patiently(segment->file, err));
        IMV_TRY(imv_file_sync(segment->file, err));
    }
    IMV_TRY(imv_file_size(segment->file, &segment->size, err));
    segment->size -= segment->size % BLOCK;
    return read_header(segment, shard, err);
}

struct opening {
    struct imv_io *io;
    const char *directory;
    uint32_t shard;
    bool exclusive;
    struct imv_wal_segments *segments;
};

static imv_status visit_segment(void *context, uint32_t shard, uint64_t number, struct imv_error *err) {
    const struct opening *opening = context;
    if (shard != opening->shard) return IMV_OK;
    struct imv_wal_segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a segment");
    segment->number = number;
    segment->path = imv_wal_segment_path(opening->directory, shard, number);
    imv_status status = segment->path != NULL ? IMV_OK : imv_fail(err, IMV_NO_MEMORY, "wal: no memory for a path");
    if (status == IMV_OK) status = imv_wal_segments_add(opening->segments, segment, err);
    if (status != IMV_OK) {
        imv_wal_segment_free(segment);
        return status;
    }
    status = open_segment(opening->io, shard, opening->exclusive, segment, err);
    return status == IMV_OK ? IMV_OK : imv_error_wrap(err, status, "wal: %s", segment->path);
}

static int by_epoch(const void *a, const void *b) {
    const struct imv_wal_segment *x = *(struct imv_wal_segment *const *)a, *y = *(struct imv_wal_segment *const *)b;
    if (x->epoch != y->epoch) return x->epoch < y->epoch ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

imv_status imv_wal_segments_open(struct imv_io *io, const char *directory, uint32_t shard, bool exclusive,
                                 struct imv_wal_segments *segments, struct imv_error *err) {
    struct opening opening = {io, directory, shard, exclusive, segments};
    IMV_TRY(imv_wal_names_list(io, directory, visit_segment, &opening, err));
    if (segments->count > 1) qsort(segments->items, segments->count, sizeof *segments->items, by_epoch);
    for (size_t i = 1; i < segments->count; i++) {
        const struct imv_wal_segment *a = segments->items[i - 1], *b = segments->items[i];
        if (a->epoch != 0 && a->epoch == b->epoch) {
            return imv_fail(err, IMV_CORRUPT, "wal: %s and %s are both of epoch %" PRIu64, a->path, b->path, a->epoch);
        }
    }
    return IMV_OK;
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

/* *bytes is size bytes at offset of segment, or NULL when the file ends before. Valid until the next call. */
static imv_status read_at(struct imv_wal_scan *scan, const struct imv_wal_segment *segment, uint64_t offset,
                          size_t size, uint8_t **bytes, struct imv_error *err) {
    *bytes = NULL;
    if (offset >= segment->size || size > segment->size - offset) return IMV_OK;
    imv_assert(size <= scan->read_capacity && offset % BLOCK == 0);
    bool buffered = scan->read_file == segment->file && offset >= scan->read_offset &&
                    offset + size <= scan->read_offset + scan->read_bytes;
    if (!buffered) {
        scan->read_file = segment->file;
        scan->read_offset = offset;
        scan->read_bytes = 0;
        imv_status status =
            imv_file_read(segment->file, scan->read_buffer, scan->read_capacity, offset, &scan->read_bytes, err);
        if (status != IMV_OK) return imv_error_wrap(err, status, "wal: %s", segment->path);
        if (scan->read_bytes < size) return IMV_OK;
    }
    *bytes = scan->read_buffer + (offset - scan->read_offset);
    return IMV_OK;
}

enum found { NOTHING, STALE, DAMAGED, INTACT, HOMELESS };

/* What stands at offset. DAMAGED and INTACT: a frame of this use of the segment, *frame says how long. STALE: of a
 * former use. HOMELESS: intact, but the segment's header does not account for it. */
static imv_status look_at(struct imv_wal_scan *scan, const struct imv_wal_segment *segment, uint64_t offset,
                          enum found *found, struct imv_wal_frame *frame, uint8_t **bytes, struct imv_error *err) {
    *found = NOTHING;
    uint8_t *block;
    IMV_TRY(read_at(scan, segment, offset, BLOCK, &block, err));
    if (block == NULL || !imv_wal_frame_parse(block, scan->shard, offset, segment->size, frame)) return IMV_OK;
    bool ours = segment->header_ok && frame->epoch == segment->epoch && frame->salt == segment->header.salt;
    if (segment->header_ok && !ours && frame->epoch < segment->epoch) {
        *found = STALE;
        return IMV_OK;
    }
    IMV_TRY(read_at(scan, segment, offset, frame->frame_bytes, bytes, err));
    bool intact = *bytes != NULL && imv_wal_frame_verify(frame, *bytes);
    if (ours)
        *found = intact ? INTACT : DAMAGED;
    else if (intact)
        *found = HOMELESS;
    return IMV_OK;
}

/* -- verdicts ------------------------------------------------------------------------------------------------------ */

/* Group last_position + 1 is proven to have been there. proof is what proves it, at offset of segment. */
static imv_status report_damage(const struct imv_wal_scan *scan, const struct imv_wal_segment *segment, uint64_t offset,
                                const char *proof, struct imv_error *err) {
    /* Where it should stand: behind group k, unless that was the last of its segment. */
    const struct imv_wal_segment *place = scan->tail_segment;
    uint64_t at = scan->tail_offset;
    if (place == NULL || (place != segment && offset > BLOCK)) {
        place = segment;
        at = BLOCK;
    }
    return imv_fail(err, IMV_CORRUPT,
                    "wal: group %" PRIu64 " is damaged or missing, expected at %" PRIu64 " in %s: %s at %" PRIu64
                    " in %s proves that it was acknowledged",
                    scan->last_position + 1, at, place->path, proof, offset, segment->path);
}

static imv_status replay(struct imv_wal_scan *scan, const struct imv_wal_segment *segment, uint64_t offset,
                         const struct imv_wal_frame *frame, const uint8_t *bytes, struct imv_error *err) {
    const uint8_t *payload = bytes + sizeof *frame;
    if (frame->flags & IMV_WAL_FRAME_LZ4) {
        if (scan->payload_capacity < frame->payload_bytes) {
            free(scan->payload_buffer);
            scan->payload_capacity = frame->payload_bytes;
            scan->payload_buffer = malloc(scan->payload_capacity);
        }
        if (scan->payload_buffer == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory to decompress a group");
        int size = LZ4_decompress_safe((const char *)payload, (char *)scan->payload_buffer, (int)frame->stored_bytes,
                                       (int)frame->payload_bytes);
        if (size < 0 || (uint32_t)size != frame->payload_bytes) {
            return imv_fail(err, IMV_CORRUPT, "wal: group %" PRIu64 " at %" PRIu64 " in %s does not decompress",
                            frame->position, offset, segment->path);
        }
        payload = scan->payload_buffer;
    }
    if (scan->replay == NULL) return IMV_OK;
    return scan->replay(scan->context, frame->position, payload, frame->payload_bytes, err);
}

static void remember(struct imv_wal_scan *scan, const struct imv_wal_segment *segment, uint64_t offset,
                     const struct imv_wal_frame *frame) {
    scan->chain = frame->hash;
    scan->chain_position = frame->position;
    scan->tail_segment = segment;
    scan->tail_offset = offset + frame->frame_bytes;
}

static imv_status take_group(struct imv_wal_scan *scan, struct imv_wal_segment *segment, uint64_t offset,
                             const struct imv_wal_frame *frame, const uint8_t *bytes, struct imv_error *err) {
    if (!scan->replay_after_known) {
        scan->replay_after_known = true;
        scan->replay_after = scan->last_position = frame->position - 1;
    }
    if (frame->position <= scan->replay_after) {
        segment->last_position = frame->position;
        remember(scan, segment, offset, frame);
        return IMV_OK;
    }
    if (frame->position <= scan->last_position) {
        return imv_fail(err, IMV_CORRUPT, "wal: group %" PRIu64 " stands again at %" PRIu64 " in %s", frame->position,
                        offset, segment->path);
    }
    if (frame->position > scan->last_position + 1) {
        if (frame->synced > scan->last_position) return report_damage(scan, segment, offset, "a group", err);
        if (scan->orphans_count == IMV_WAL_IN_FLIGHT) {
            return imv_fail(err, IMV_CORRUPT, "wal: group %" PRIu64 " at %" PRIu64 " in %s is one too many under way",
                            frame->position, offset, segment->path);
        }
        scan->orphans[scan->orphans_count++] = (struct imv_wal_orphan){segment, offset, frame->position};
        return IMV_OK;
    }
    bool chain_known = scan->chain_position == scan->last_position && scan->chain != 0 && frame->chain != 0;
    if (chain_known && frame->chain != scan->chain) {
        return imv_fail(err, IMV_CORRUPT,
                        "wal: group %" PRIu64 " at %" PRIu64 " in %s does not follow the group before it: have %" PRIx64
                        ", want %" PRIx64,
                        frame->position, offset, segment->path, scan->chain, frame->chain);
    }
    IMV_TRY(replay(scan, segment, offset, frame, bytes, err));
    scan->last_position = segment->last_position = frame->position;
    scan->groups_count++;
    remember(scan, segment, offset, frame);
    return IMV_OK;
}

/* A segment that recovery started: everything below its first position had survived then. */
static imv_status check_start(struct imv_wal_scan *scan, const struct imv_wal_segment *segment, struct imv_error *err) {
    uint64_t first = segment->header.first_position;
    if (first == 0) return IMV_OK;
    if (!scan->replay_after_known) {
        scan->replay_after_known = true;
        scan->replay_after = scan->last_position = first - 1;
        return IMV_OK;
    }
    if (first > scan->last_position + 1) return report_damage(scan, segment, 0, "the segment header", err);
    if (first <= scan->last_position && scan->last_position > scan->replay_after) {
        return imv_fail(err, IMV_CORRUPT, "wal: %s starts at group %" PRIu64 ", which stands before it too",
                        segment->path, first);
    }
    if (first != scan->last_position + 1) return IMV_OK;
    uint64_t chain = scan->chain_position == scan->last_position ? scan->chain : 0;
    if (chain != 0 && segment->header.chain != 0 && chain != segment->header.chain) {
        return imv_fail(err, IMV_CORRUPT, "wal: %s does not follow group %" PRIu64 " in %s", segment->path,
                        scan->last_position, scan->tail_segment->path);
    }
    scan->chain = segment->header.chain;
    scan->chain_position = scan->last_position;
    return IMV_OK;
}

static imv_status scan_segment(struct imv_wal_scan *scan, struct imv_wal_segment *segment, struct imv_error *err) {
    if (segment->header_ok) IMV_TRY(check_start(scan, segment, err));
    if (segment->epoch > scan->epoch_last) scan->epoch_last = segment->epoch;
    uint64_t offset = BLOCK;
    while (offset < segment->size) {
        enum found found;
        struct imv_wal_frame frame = {0};
        uint8_t *bytes = NULL;
        IMV_TRY(look_at(scan, segment, offset, &found, &frame, &bytes, err));
        bool group = !(frame.flags & IMV_WAL_FRAME_MARK);
        /* A header may be lost whose groups are not needed; its epoch must not be given again while they are there. */
        if (found == HOMELESS && frame.epoch > scan->epoch_last) scan->epoch_last = frame.epoch;
        if (found == HOMELESS && group && frame.position > scan->replay_after) {
            return imv_fail(err, IMV_CORRUPT,
                            "wal: the header of %s is damaged: it holds group %" PRIu64 " at %" PRIu64, segment->path,
                            frame.position, offset);
        }
        if (found == INTACT && group) IMV_TRY(take_group(scan, segment, offset, &frame, bytes, err));
        if (found == INTACT && !group && scan->replay_after_known && frame.synced > scan->last_position) {
            return report_damage(scan, segment, offset, "the mark of an orderly close", err);
        }
        /* Nothing inside a frame of this use is looked at, be it damaged: its payload is not to be taken for frames. */
        offset += found == INTACT || found == DAMAGED ? frame.frame_bytes : BLOCK;
    }
    return IMV_OK;
}

/* The position with which a segment is known to start, or 0. */
static imv_status first_position(struct imv_wal_scan *scan, const struct imv_wal_segment *segment, uint64_t *position,
                                 struct imv_error *err) {
    *position = segment->header_ok ? segment->header.first_position : 0;
    if (*position != 0 || !segment->header_ok) return IMV_OK;
    enum found found;
    struct imv_wal_frame frame;
    uint8_t *bytes;
    IMV_TRY(look_at(scan, segment, BLOCK, &found, &frame, &bytes, err));
    if (found == INTACT) *position = frame.position;
    return IMV_OK;
}

/* How many segments, from the oldest on, hold nothing above replay_after, because a later one starts at or below the
 * first group that is needed. They are not read: recovery costs what is not in chunks yet. */
static imv_status count_old(struct imv_wal_scan *scan, size_t *count, struct imv_error *err) {
    *count = 0;
    for (size_t i = scan->segments->count; scan->replay_after_known && i-- > 1 && *count == 0;) {
        uint64_t position;
        IMV_TRY(first_position(scan, scan->segments->items[i], &position, err));
        if (position != 0 && position <= scan->replay_after + 1) *count = i;
    }
    return IMV_OK;
}

/* Segments without a header go last: by then it is known which positions matter. */
static imv_status scan_segments(struct imv_wal_scan *scan, struct imv_error *err) {
    const struct imv_wal_segments *segments = scan->segments;
    size_t old;
    IMV_TRY(count_old(scan, &old, err));
    for (size_t i = 0; i < segments->count; i++) {
        struct imv_wal_segment *segment = segments->items[i];
        if (segment->header_ok && i >= old) IMV_TRY(scan_segment(scan, segment, err));
    }
    for (size_t i = 0; i < segments->count; i++) {
        if (!segments->items[i]->header_ok) IMV_TRY(scan_segment(scan, segments->items[i], err));
    }
    return IMV_OK;
}

imv_status imv_wal_scan_run(struct imv_wal_scan *scan, struct imv_error *err) {
    scan->last_position = scan->replay_after;
    scan->read_capacity = BLOCK;
    for (size_t i = 0; i < scan->segments->count; i++) {
        uint64_t size = scan->segments->items[i]->size;
        if (size > scan->read_capacity)
            scan->read_capacity = size < READ_BUFFER_BYTES ? (size_t)size : READ_BUFFER_BYTES;
    }
    scan->read_buffer = aligned_alloc(BLOCK, scan->read_capacity);
    imv_status status = scan->read_buffer != NULL ? scan_segments(scan, err)
                                                  : imv_fail(err, IMV_NO_MEMORY, "wal: no memory to read the journal");
    if (scan->chain_position != scan->last_position) scan->chain = 0;
    free(scan->payload_buffer);
    free(scan->read_buffer);
    scan->payload_buffer = scan->read_buffer = NULL;
    return status;
}
