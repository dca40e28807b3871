/* wal_format.h - the bytes of a journal segment.
 *
 * All integers are little-endian; a segment is a sequence of 4 KiB blocks. Positions and epochs stay below 2^63.
 *
 * Segment header: the first block of a segment. It is made durable before the first group of this use of the segment is
 * submitted, so a group without its header proves that the header was damaged.
 *
 *     OFFSET  SIZE  DESCRIPTION
 *          0     4  magic "IMVS"
 *          4     2  format version, 1. A newer version keeps magic, version and hash where they are
 *          6     2  zero
 *          8     4  features: bits that a reader must know; none so far
 *         12     4  shard
 *         16     8  segment number, as in the file's name
 *         24     8  epoch: 1, 2, 3, ... one for each use of a segment of this shard, in order of use
 *         32     8  salt: differs from use to use and is not known outside, so no payload passes for a group
 *         40     8  segment bytes
 *         48     8  first position, when recovery ended right before this use: all groups below it had survived, it was
 *                   still to be written. 0 when the use goes on where the one before it ended
 *         56     8  chain at the start: hash of group (first position - 1), 0 when unknown
 *         64     8  XXH3 of the block with this field as zero
 *         72  4024  zero
 *
 * Group frame: starts at a block, fills whole blocks.
 *
 *     OFFSET  SIZE  DESCRIPTION
 *          0     4  magic "IMVG"
 *          4     2  format version, 1
 *          6     2  flags: 1 payload is lz4 block data; 2 mark: no payload, takes no position of its own
 *          8     4  shard
 *         12     4  header check: low half of the XXH3 of these 80 bytes with this field and hash as zero
 *         16     8  epoch of the segment
 *         24     8  salt of the segment
 *         32     8  position of the group; of a mark: of the last group before it
 *         40     8  synced: the position that had been acknowledged when this frame was submitted. For a group it is at
 *                   least position - IMV_WAL_IN_FLIGHT; for a mark it is position
 *         48     8  chain: hash of group (position - 1), 0 when unknown
 *         56     4  payload bytes
 *         60     4  stored bytes: of the payload as it stands here
 *         64     4  frame bytes: this header, the stored payload and zeros up to a whole block
 *         68     4  block index: offset of this frame in the segment / 4096
 *         72     8  hash: XXH3 of the whole frame with this field as zero
 *         80     n  stored payload, then zeros
 */
#pragma once

#include "storage/base/io.h"
#include "storage/wal.h"

enum {
    IMV_WAL_SEGMENT_MAGIC = 'I' | 'M' << 8 | 'V' << 16 | 'S' << 24,
    IMV_WAL_FRAME_MAGIC = 'I' | 'M' << 8 | 'V' << 16 | 'G' << 24,
    IMV_WAL_VERSION = 1,
    IMV_WAL_FRAME_LZ4 = 1 << 0,
    IMV_WAL_FRAME_MARK = 1 << 1,
};

struct imv_wal_segment_header {
    uint32_t magic;
    uint16_t version, zero;
    uint32_t features, shard;
    uint64_t number, epoch, salt, segment_bytes, first_position, chain, hash;
};
_Static_assert(sizeof(struct imv_wal_segment_header) == 72, "on-disk size");

struct imv_wal_frame {
    uint32_t magic;
    uint16_t version, flags;
    uint32_t shard, header_check;
    uint64_t epoch, salt, position, synced, chain;
    uint32_t payload_bytes, stored_bytes, frame_bytes, block_index;
    uint64_t hash;
};
_Static_assert(sizeof(struct imv_wal_frame) == 80, "on-disk size");

/* Bytes of a frame whose stored payload has this size. */
static inline size_t imv_wal_frame_size(size_t stored_bytes) {
    size_t size = sizeof(struct imv_wal_frame) + stored_bytes;
    return (size + IMV_IO_BLOCK_BYTES - 1) / IMV_IO_BLOCK_BYTES * IMV_IO_BLOCK_BYTES;
}

/* Sets magic, version and hash and writes header as a whole block. */
void imv_wal_segment_header_seal(struct imv_wal_segment_header *header, uint8_t *block);
/* IMV_CORRUPT: not a header, or damaged. IMV_UNSUPPORTED: intact, but of a newer version or with unknown features. */
imv_status imv_wal_segment_header_parse(const uint8_t *block, struct imv_wal_segment_header *header,
                                        struct imv_error *err);

/* Sets magic, version, sizes, check and hash, and writes frame before the stored payload that stands at bytes + 80,
 * with zeros after it. bytes has room for imv_wal_frame_size(frame->stored_bytes). */
void imv_wal_frame_seal(struct imv_wal_frame *frame, uint8_t *bytes);
/* True when block starts with an intact frame header that may stand at offset of shard's segment of segment_bytes. */
bool imv_wal_frame_parse(const uint8_t *block, uint32_t shard, uint64_t offset, uint64_t segment_bytes,
                         struct imv_wal_frame *frame);
/* True when the whole frame is intact and still begins with frame; bytes holds frame->frame_bytes and is as before
 * afterwards. */
bool imv_wal_frame_verify(const struct imv_wal_frame *frame, uint8_t *bytes);
