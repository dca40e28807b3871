/* wal_inspect.c - one segment file, block by block, as lines of text. */
#include "storage/wal_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE_BYTES = 320 };

struct inspection {
    void (*report)(void *context, const char *line);
    void *context;
    struct imv_file *file;
    struct imv_wal_segment_header header;
    uint64_t bytes; /* of the file, whole blocks */
    /* Blocks in a row that are no group of this use. */
    uint64_t gap_from, gap_blocks, gap_former, gap_zero;
};

static void say(struct inspection *inspection, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct inspection *inspection, const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    inspection->report(inspection->context, line);
}

static void gap_end(struct inspection *inspection) {
    if (inspection->gap_blocks > 0)
        say(inspection,
            "  at %" PRIu64 ": %" PRIu64 " blocks without a group of this use: %" PRIu64 " zero, %" PRIu64
            " begin a group of a former use",
            inspection->gap_from, inspection->gap_blocks, inspection->gap_zero, inspection->gap_former);
    inspection->gap_blocks = inspection->gap_former = inspection->gap_zero = 0;
}

static bool is_zero(const uint8_t *block) {
    return block[0] == 0 && memcmp(block, block + 1, IMV_IO_BLOCK_BYTES - 1) == 0;
}

static void gap_add(struct inspection *inspection, uint64_t offset, const uint8_t *block, bool former) {
    if (inspection->gap_blocks++ == 0) inspection->gap_from = offset;
    inspection->gap_former += former;
    inspection->gap_zero += is_zero(block);
}

static void frame_say(struct inspection *inspection, uint64_t offset, const struct imv_wal_frame *frame, bool intact) {
    gap_end(inspection);
    if (frame->flags & IMV_WAL_FRAME_MARK) {
        say(inspection, "  at %" PRIu64 ": mark of an orderly close after group %" PRIu64 "%s", offset, frame->position,
            intact ? "" : ", DAMAGED");
        return;
    }
    say(inspection,
        "  at %" PRIu64 ": group %" PRIu64 ", payload %" PRIu32 " bytes, stored %" PRIu32 "%s, frame %" PRIu32
        ", acknowledged then %" PRIu64 ", chain %016" PRIx64 ", hash %016" PRIx64 "%s",
        offset, frame->position, frame->payload_bytes, frame->stored_bytes,
        frame->flags & IMV_WAL_FRAME_LZ4 ? " by lz4" : "", frame->frame_bytes, frame->synced, frame->chain, frame->hash,
        intact ? "" : ", DAMAGED");
}

static imv_status read_exactly(struct inspection *inspection, uint8_t *bytes, size_t size, uint64_t offset,
                               struct imv_error *err) {
    size_t got;
    IMV_TRY(imv_file_read(inspection->file, bytes, size, offset, &got, err));
    return got == size ? IMV_OK : imv_fail(err, IMV_IO, "wal: the segment became shorter while it was read");
}

/* The frame at offset, whose first block is in bytes; *size is what it takes. */
static imv_status frame_inspect(struct inspection *inspection, uint8_t *bytes, uint64_t offset, size_t *size,
                                struct imv_error *err) {
    struct imv_wal_frame frame;
    *size = IMV_IO_BLOCK_BYTES;
    bool parsed = imv_wal_frame_parse(bytes, inspection->header.shard, offset, inspection->bytes, &frame);
    bool ours = parsed && frame.epoch == inspection->header.epoch && frame.salt == inspection->header.salt;
    if (!ours) {
        gap_add(inspection, offset, bytes, parsed);
        return IMV_OK;
    }
    IMV_TRY(read_exactly(inspection, bytes, frame.frame_bytes, offset, err));
    bool intact = imv_wal_frame_verify(&frame, bytes);
    frame_say(inspection, offset, &frame, intact);
    if (intact) *size = frame.frame_bytes;
    return IMV_OK;
}

static imv_status inspect(struct inspection *inspection, uint8_t *bytes, struct imv_error *err) {
    struct imv_wal_segment_header *header = &inspection->header;
    IMV_TRY(imv_file_size(inspection->file, &inspection->bytes, err));
    inspection->bytes -= inspection->bytes % IMV_IO_BLOCK_BYTES;
    if (inspection->bytes == 0) return imv_fail(err, IMV_CORRUPT, "wal: the file is shorter than a segment header");
    IMV_TRY(read_exactly(inspection, bytes, IMV_IO_BLOCK_BYTES, 0, err));
    IMV_TRY(imv_wal_segment_header_parse(bytes, header, err));
    say(inspection,
        "journal segment: shard %" PRIu32 ", number %" PRIu64 ", epoch %" PRIu64 ", %" PRIu64 " bytes, version %u",
        header->shard, header->number, header->epoch, header->segment_bytes, header->version);
    if (header->first_position > 0)
        say(inspection, "  begun by a recovery that went on with group %" PRIu64, header->first_position);
    imv_status status = IMV_OK;
    for (uint64_t offset = IMV_IO_BLOCK_BYTES; offset < inspection->bytes && status == IMV_OK;) {
        size_t size = IMV_IO_BLOCK_BYTES;
        status = read_exactly(inspection, bytes, size, offset, err);
        if (status == IMV_OK) status = frame_inspect(inspection, bytes, offset, &size, err);
        offset += size;
    }
    gap_end(inspection);
    return status;
}

imv_status imv_wal_inspect(struct imv_io *io, const char *path, void (*report)(void *context, const char *line),
                           void *context, struct imv_error *err) {
    struct inspection inspection = {.report = report, .context = context};
    uint8_t *bytes = malloc(imv_wal_frame_size(IMV_WAL_PAYLOAD_BYTES_MAX));
    if (bytes == NULL) return imv_fail(err, IMV_NO_MEMORY, "wal: no memory to read a segment");
    imv_status status = imv_file_open(io, path, IMV_OPEN_READ, &inspection.file, err);
    if (status == IMV_OK) status = inspect(&inspection, bytes, err);
    imv_file_close(inspection.file);
    free(bytes);
    return status;
}
