#include "storage/wal_format.h"

#include "storage/base/hash.h"

#include <inttypes.h>

static uint64_t segment_header_hash(const uint8_t *block) {
    uint8_t copy[IMV_IO_BLOCK_BYTES];
    memcpy(copy, block, sizeof copy);
    memset(copy + offsetof(struct imv_wal_segment_header, hash), 0, sizeof(uint64_t));
    return imv_hash64(copy, sizeof copy, 0);
}

void imv_wal_segment_header_seal(struct imv_wal_segment_header *header, uint8_t *block) {
    header->magic = IMV_WAL_SEGMENT_MAGIC;
    header->version = IMV_WAL_VERSION;
    header->hash = 0;
    memset(block, 0, IMV_IO_BLOCK_BYTES);
    memcpy(block, header, sizeof *header);
    header->hash = segment_header_hash(block);
    memcpy(block, header, sizeof *header);
}

imv_status imv_wal_segment_header_parse(const uint8_t *block, struct imv_wal_segment_header *header,
                                        struct imv_error *err) {
    memcpy(header, block, sizeof *header);
    if (header->magic != IMV_WAL_SEGMENT_MAGIC) return imv_fail(err, IMV_CORRUPT, "no segment header");
    uint64_t hash = segment_header_hash(block);
    if (header->hash != hash) {
        return imv_fail(err, IMV_CORRUPT, "bad checksum of the segment header: have %" PRIx64 ", want %" PRIx64, hash,
                        header->hash);
    }
    if (header->version != IMV_WAL_VERSION || header->features != 0) {
        return imv_fail(err, IMV_UNSUPPORTED,
                        "segment of format version %u with features %" PRIx32 ", this is version %d", header->version,
                        header->features, IMV_WAL_VERSION);
    }
    if (header->epoch == 0 || header->epoch > INT64_MAX || header->first_position > INT64_MAX) {
        return imv_fail(err, IMV_CORRUPT, "segment header out of range: epoch %" PRIu64 ", first position %" PRIu64,
                        header->epoch, header->first_position);
    }
    return IMV_OK;
}

static uint32_t frame_header_check(struct imv_wal_frame frame) {
    frame.header_check = 0;
    frame.hash = 0;
    return (uint32_t)imv_hash64(&frame, sizeof frame, 0);
}

void imv_wal_frame_seal(struct imv_wal_frame *frame, uint8_t *bytes) {
    frame->magic = IMV_WAL_FRAME_MAGIC;
    frame->version = IMV_WAL_VERSION;
    frame->frame_bytes = (uint32_t)imv_wal_frame_size(frame->stored_bytes);
    frame->header_check = frame_header_check(*frame);
    frame->hash = 0;
    size_t used = sizeof *frame + frame->stored_bytes;
    memset(bytes + used, 0, frame->frame_bytes - used);
    memcpy(bytes, frame, sizeof *frame);
    frame->hash = imv_hash64(bytes, frame->frame_bytes, 0);
    memcpy(bytes, frame, sizeof *frame);
}

bool imv_wal_frame_parse(const uint8_t *block, uint32_t shard, uint64_t offset, uint64_t segment_bytes,
                         struct imv_wal_frame *frame) {
    memcpy(frame, block, sizeof *frame);
    if (frame->magic != IMV_WAL_FRAME_MAGIC || frame->version != IMV_WAL_VERSION) return false;
    if (frame->header_check != frame_header_check(*frame)) return false;
    bool mark = frame->flags & IMV_WAL_FRAME_MARK, lz4 = frame->flags & IMV_WAL_FRAME_LZ4;
    bool whole = frame->stored_bytes == frame->payload_bytes;
    uint64_t unsynced = frame->position - frame->synced;
    return frame->shard == shard && frame->epoch <= INT64_MAX && frame->position <= INT64_MAX &&
           frame->synced <= frame->position &&
           (mark ? unsynced == 0 : unsynced >= 1 && unsynced <= IMV_WAL_IN_FLIGHT) &&
           frame->block_index == offset / IMV_IO_BLOCK_BYTES &&
           frame->flags <= (IMV_WAL_FRAME_LZ4 | IMV_WAL_FRAME_MARK) &&
           frame->payload_bytes <= IMV_WAL_PAYLOAD_BYTES_MAX && mark == (frame->payload_bytes == 0) &&
           (lz4 ? frame->stored_bytes < frame->payload_bytes : whole) &&
           frame->frame_bytes == imv_wal_frame_size(frame->stored_bytes) &&
           frame->frame_bytes <= segment_bytes - offset;
}

bool imv_wal_frame_verify(const struct imv_wal_frame *frame, uint8_t *bytes) {
    if (memcmp(bytes, frame, sizeof *frame) != 0) return false; /* a disk may read otherwise the second time */
    uint8_t *field = bytes + offsetof(struct imv_wal_frame, hash);
    imv_put_u64(field, 0);
    uint64_t hash = imv_hash64(bytes, frame->frame_bytes, 0);
    imv_put_u64(field, frame->hash);
    return hash == frame->hash;
}
