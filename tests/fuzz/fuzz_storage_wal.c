/* fuzz_storage_wal.c - recovery of a journal whose segments hold anything.
 *
 * The input builds a small journal on the simulated disk, then changes the bytes of its segments: single bytes, whole
 * blocks, bytes of headers whose checksums are made right again, sizes and names. Whatever comes of it, an open either
 * fails with a status or hands over groups in order; after one that succeeds, new groups are kept.
 */
#include "storage/base/assert.h"
#include "storage/base/clock.h"
#include "storage/base/io_sim.h"
#include "storage/base/log.h"
#include "storage/wal.h"
#include "storage/wal_format.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCK = IMV_IO_BLOCK_BYTES, SEGMENT_BLOCKS = 6, SEGMENTS = 4 };

struct input {
    const uint8_t *next, *end;
};

static unsigned take(struct input *input) { return input->next < input->end ? *input->next++ : 0; }

struct reader {
    uint64_t position;
    uint64_t groups;
};

static imv_status on_replay(void *context, uint64_t position, const uint8_t *payload, size_t size,
                            struct imv_error *err) {
    (void)err;
    struct reader *reader = context;
    imv_assert(position == reader->position + 1);
    imv_assert(size > 0 && size <= IMV_WAL_PAYLOAD_BYTES_MAX);
    volatile uint8_t last = payload[size - 1]; /* all of it is readable */
    (void)last;
    reader->position = position;
    reader->groups++;
    return IMV_OK;
}

static struct imv_wal *open_journal(struct imv_sim *sim, uint64_t replay_after, struct reader *reader) {
    static struct imv_manual_clock clock;
    imv_manual_clock_init(&clock, 1);
    *reader = (struct reader){.position = replay_after};
    struct imv_wal_options options = {.segment_bytes = SEGMENT_BLOCKS * BLOCK,
                                      .bytes_max = SEGMENTS * SEGMENT_BLOCKS * BLOCK,
                                      .replay_after = replay_after,
                                      .clock = &clock.clock,
                                      .replay = on_replay,
                                      .context = reader};
    struct imv_wal *wal;
    return imv_wal_open(imv_sim_io(sim), "wal", &options, &wal, NULL) == IMV_OK ? wal : NULL;
}

static bool put(struct imv_sim *sim, struct imv_wal *wal, const uint8_t *payload, size_t size) {
    uint64_t position;
    imv_status status;
    while ((status = imv_wal_write(wal, payload, size, &position, NULL)) == IMV_BUSY)
        imv_io_poll(imv_sim_io(sim), true);
    return status == IMV_OK;
}

/* Groups of drawn sizes and releases, with opens in between. */
static void build(struct imv_sim *sim, struct input *input) {
    static uint8_t payload[2 * BLOCK];
    struct reader reader;
    uint64_t released = 0;
    struct imv_wal *wal = open_journal(sim, released, &reader);
    imv_assert(wal != NULL);
    for (unsigned left = take(input) % 24; left > 0; left--) {
        unsigned what = take(input);
        memset(payload, (int)what, sizeof payload);
        for (unsigned i = 0; what & 1 && i < sizeof payload; i += 3) payload[i] = (uint8_t)(i * what);
        put(sim, wal, payload, 1 + (what * 37) % sizeof payload);
        if (what % 8 == 0) imv_wal_release(wal, released = imv_wal_synced(wal));
        if (what % 32 == 5) {
            imv_wal_close(wal);
            wal = open_journal(sim, released, &reader);
            imv_assert(wal != NULL);
        }
    }
    if (take(input) & 1) {
        imv_wal_close(wal);
    } else {
        imv_sim_crash(sim);
        imv_wal_close(wal);
    }
}

static uint8_t *segment(struct imv_sim *sim, unsigned number, size_t *size) {
    char path[64];
    snprintf(path, sizeof path, "wal/0000-%08u.wal", number);
    return imv_sim_bytes(sim, path, size);
}

static void reseal(uint8_t *block, unsigned index, size_t room) {
    if (index == 0) {
        struct imv_wal_segment_header header;
        memcpy(&header, block, sizeof header);
        imv_wal_segment_header_seal(&header, block);
        return;
    }
    struct imv_wal_frame frame;
    memcpy(&frame, block, sizeof frame);
    if (frame.stored_bytes <= room - sizeof frame) imv_wal_frame_seal(&frame, block);
}

static void change_names(struct imv_sim *sim, unsigned from, unsigned to) {
    char old_path[64], new_path[64];
    snprintf(old_path, sizeof old_path, "wal/0000-%08u.wal", from);
    snprintf(new_path, sizeof new_path, "wal/0000-%08u.wal", to);
    if (from == to)
        imv_io_unlink(imv_sim_io(sim), old_path, NULL);
    else
        imv_io_rename(imv_sim_io(sim), old_path, new_path, NULL);
}

static void resize(struct imv_sim *sim, unsigned number, unsigned bytes) {
    char path[64];
    snprintf(path, sizeof path, "wal/0000-%08u.wal", number);
    struct imv_file *file;
    unsigned flags = IMV_OPEN_READ | IMV_OPEN_WRITE | IMV_OPEN_CREATE;
    if (imv_file_open(imv_sim_io(sim), path, flags, &file, NULL) != IMV_OK) return;
    imv_file_truncate(file, bytes, NULL);
    imv_file_close(file);
}

/* One change: what, which segment, which block, where in it, which value. */
static void change(struct imv_sim *sim, struct input *input) {
    unsigned what = take(input) % 8, number = 1 + take(input) % 6, block = take(input), at = take(input) * 16;
    at += take(input) % 16;
    unsigned value = take(input);
    if (what == 6) {
        change_names(sim, number, 1 + value % 6);
        return;
    }
    if (what == 7) {
        resize(sim, number, block * 512 % (8 * BLOCK));
        return;
    }
    size_t size;
    uint8_t *bytes = segment(sim, number, &size);
    if (bytes == NULL || size < BLOCK) return;
    block %= (unsigned)(size / BLOCK);
    uint8_t *place = bytes + block * BLOCK;
    switch (what) {
        case 0: place[at] = (uint8_t)value; break;
        case 1: memset(place, (int)value, BLOCK); break;
        case 2: memmove(place, bytes + value % (size / BLOCK) * BLOCK, BLOCK); break;
        case 3: /* a header field */
            place[at % 80] = (uint8_t)value;
            reseal(place, block, (size / BLOCK - block) * BLOCK); /* sealing pads to whole blocks */
            break;
        case 4:
            place[at % 80] ^= (uint8_t)(1u << value % 8);
            reseal(place, block, (size / BLOCK - block) * BLOCK); /* sealing pads to whole blocks */
            break;
        default: /* what follows in the input, as it is */
            for (unsigned i = 0; i < value && at + i < BLOCK; i++) place[at + i] = (uint8_t)take(input);
            break;
    }
}

static void count_line(void *context, const char *line) { (*(size_t *)context) += strlen(line); }

static void check_recovery(struct imv_sim *sim, uint64_t replay_after) {
    size_t letters = 0;
    imv_wal_check(imv_sim_io(sim), "wal", count_line, &letters, NULL);
    struct reader reader;
    struct imv_wal *wal = open_journal(sim, replay_after, &reader);
    if (wal == NULL) return;
    uint64_t before = imv_wal_synced(wal), written = 0;
    imv_assert(before == replay_after + reader.groups);
    for (unsigned i = 0; i < 5; i++) written += put(sim, wal, (const uint8_t *)"payload", 7);
    imv_wal_close(wal);
    imv_sim_crash(sim);
    wal = open_journal(sim, replay_after, &reader);
    imv_assert(wal != NULL);
    imv_assert(imv_wal_synced(wal) == before + written);
    imv_assert(reader.position == before + written);
    imv_wal_close(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    imv_log_set_level(IMV_LOG_ERROR + 1);
    struct input input = {data, data + size};
    struct imv_sim *sim;
    struct imv_sim_options options = {.seed = take(&input), .survive_per_mille = 500, .tear = true, .reorder = true};
    imv_assert(imv_sim_new(&options, &sim, NULL) == IMV_OK);
    uint64_t replay_after = take(&input) % 16;
    build(sim, &input);
    while (input.next < input.end) change(sim, &input);
    check_recovery(sim, replay_after);
    imv_sim_free(sim);
    return 0;
}
