#include "storage/base/io_sim.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct imv_error err;
#define OK(expression) cr_assert_eq((expression), IMV_OK, "%s: %s", #expression, err.message)

enum { SECTOR = 512, BLOCK = IMV_IO_BLOCK_BYTES, FILE_FLAGS = IMV_OPEN_READ | IMV_OPEN_WRITE | IMV_OPEN_CREATE };

static struct imv_sim *new_sim(uint64_t seed, unsigned survive_per_mille, bool nasty) {
    struct imv_sim_options options = {
        .seed = seed, .survive_per_mille = survive_per_mille, .tear = nasty, .reorder = nasty};
    struct imv_sim *sim;
    OK(imv_sim_new(&options, &sim, &err));
    return sim;
}

static struct imv_file *open_file(struct imv_sim *sim, const char *path) {
    struct imv_file *file;
    OK(imv_file_open(imv_sim_io(sim), path, FILE_FLAGS, &file, &err));
    return file;
}

/* A file that is there for certain, with `size` bytes of `fill` on the disk. */
static void make_file(struct imv_sim *sim, const char *path, int fill, size_t size) {
    struct imv_file *file = open_file(sim, path);
    uint8_t *bytes = malloc(size);
    memset(bytes, fill, size);
    OK(imv_file_write(file, bytes, size, 0, true, &err));
    OK(imv_io_sync_directory(imv_sim_io(sim), ".", &err));
    imv_file_close(file);
    free(bytes);
}

static void write_fill(struct imv_sim *sim, const char *path, int fill, size_t size, uint64_t offset, bool durable) {
    struct imv_file *file = open_file(sim, path);
    uint8_t *bytes = malloc(size);
    memset(bytes, fill, size);
    OK(imv_file_write(file, bytes, size, offset, durable, &err));
    imv_file_close(file);
    free(bytes);
}

static int sectors_with(struct imv_sim *sim, const char *path, int fill) {
    size_t size;
    const uint8_t *bytes = imv_sim_bytes(sim, path, &size);
    cr_assert_not_null(bytes);
    int count = 0;
    for (size_t at = 0; at < size; at += SECTOR) {
        for (size_t i = at; i < at + SECTOR && i < size; i++) {
            cr_assert_eq(bytes[i], bytes[at], "a sector is never torn");
        }
        count += bytes[at] == fill;
    }
    return count;
}

/* After a crash durable writes are there, and of the others each sector as the options say: none, some or all. */
Test(sim, keeps_durable_writes_and_draws_the_others) {
    static const struct {
        unsigned survive;
        int least, most;
    } cases[] = {{0, 0, 0}, {500, 10, 54}, {1000, 64, 64}};
    for (int i = 0; i < 3; i++) {
        struct imv_sim *sim = new_sim(5, cases[i].survive, false);
        make_file(sim, "a", 1, 128 * SECTOR);
        write_fill(sim, "a", 2, 32 * SECTOR, 0, true);
        write_fill(sim, "a", 3, 64 * SECTOR, 64 * SECTOR, false);
        cr_assert_eq(sectors_with(sim, "a", 3), 64, "the running process sees its writes");
        imv_sim_crash(sim);
        int survived = sectors_with(sim, "a", 3);
        cr_assert(survived >= cases[i].least && survived <= cases[i].most, "%d", survived);
        cr_assert_eq(sectors_with(sim, "a", 2), 32);
        cr_assert_eq(sectors_with(sim, "a", 1), 32 + 64 - survived);
        imv_sim_crash(sim);
        cr_assert_eq(sectors_with(sim, "a", 3), survived, "what survived stays");
        imv_sim_free(sim);
    }
}

/* A sync makes everything before it durable, the size too, and nothing after it. */
Test(sim, keeps_what_was_synced) {
    struct imv_sim *sim = new_sim(5, 0, false);
    make_file(sim, "a", 1, SECTOR);
    struct imv_file *file = open_file(sim, "a");
    write_fill(sim, "a", 2, 4 * SECTOR, SECTOR, false);
    OK(imv_file_sync(file, &err));
    write_fill(sim, "a", 3, 2 * SECTOR, 4 * SECTOR, false);
    imv_sim_crash(sim);
    size_t size;
    imv_sim_bytes(sim, "a", &size);
    cr_assert_eq(size, 5 * SECTOR);
    cr_assert_eq(sectors_with(sim, "a", 2), 4);
    uint64_t bytes;
    cr_assert_eq(imv_file_size(file, &bytes, &err), IMV_IO, "handles do not outlive a crash");
    cr_assert_eq(imv_file_sync(file, &err), IMV_IO);
    imv_file_close(file);
    imv_sim_free(sim);
}

/* A truncation, like any change of size, is there after a crash for certain only when synced. */
Test(sim, truncates_for_certain_when_synced) {
    for (int synced = 0; synced < 2; synced++) {
        struct imv_sim *sim = new_sim(5, 0, false);
        make_file(sim, "a", 1, 4 * SECTOR);
        struct imv_file *file = open_file(sim, "a");
        OK(imv_file_truncate(file, SECTOR, &err));
        if (synced) OK(imv_file_sync(file, &err));
        imv_sim_crash(sim);
        imv_file_close(file);
        cr_assert_eq(sectors_with(sim, "a", 1), synced ? 1 : 4);
        imv_sim_free(sim);
    }
}

/* After a failed sync a later one succeeds and writes nothing: who retries loses data. */
Test(sim, forgets_what_a_failed_sync_did_not_write) {
    struct imv_sim *sim = new_sim(5, 0, false);
    make_file(sim, "a", 1, 4 * SECTOR);
    struct imv_file *file = open_file(sim, "a");
    write_fill(sim, "a", 2, 4 * SECTOR, 0, false);
    imv_sim_arm(sim, imv_sim_operations(sim) + 1, IMV_SIM_FAIL, false);
    cr_assert_eq(imv_file_sync(file, &err), IMV_IO);
    OK(imv_file_sync(file, &err));
    imv_file_close(file);
    cr_assert_eq(sectors_with(sim, "a", 2), 4);
    imv_sim_crash(sim);
    cr_assert_eq(sectors_with(sim, "a", 1), 4);
    imv_sim_free(sim);
}

static bool exists(struct imv_sim *sim, const char *path) {
    size_t size;
    return imv_sim_bytes(sim, path, &size) != NULL;
}

/* Creations, renames and removals are certain only when their directory was synced; directories too. */
Test(sim, keeps_names_when_the_directory_is_synced) {
    for (int synced = 0; synced < 2; synced++) {
        struct imv_sim *sim = new_sim(5, 0, false);
        struct imv_io *io = imv_sim_io(sim);
        make_file(sim, "gone", 1, 1);
        make_file(sim, "old", 2, 1);
        imv_file_close(open_file(sim, "new"));
        OK(imv_io_make_directory(io, "d", &err));
        imv_file_close(open_file(sim, "d/inner"));
        OK(imv_io_sync_directory(io, "d", &err));
        OK(imv_io_rename(io, "old", "renamed", &err));
        OK(imv_io_unlink(io, "gone", &err));
        if (synced) OK(imv_io_sync_directory(io, ".", &err));
        imv_sim_crash(sim);
        cr_assert_eq(exists(sim, "new"), synced);
        cr_assert_eq(exists(sim, "d/inner"), synced, "a file is not there without its directory");
        cr_assert_eq(exists(sim, "renamed"), synced);
        cr_assert_eq(exists(sim, "old"), !synced);
        cr_assert_eq(exists(sim, "gone"), !synced);
        imv_sim_free(sim);
    }
}

/* ---- faults ---- */

/* A fault strikes the operation with its number, in its own way, and later ones only when sticky. */
Test(sim, strikes_the_armed_operation) {
    static const enum imv_sim_fault faults[] = {IMV_SIM_FAIL, IMV_SIM_SHORT, IMV_SIM_NOSPC};
    for (int i = 0; i < 3; i++) {
        for (int sticky = 0; sticky < 2; sticky++) {
            struct imv_sim *sim = new_sim(5, 0, false);
            make_file(sim, "a", 1, 8 * SECTOR);
            struct imv_file *file = open_file(sim, "a");
            uint8_t bytes[8 * SECTOR];
            memset(bytes, 2, sizeof bytes);
            imv_sim_arm(sim, imv_sim_operations(sim) + 2, faults[i], sticky);
            OK(imv_file_write(file, bytes, SECTOR, 0, true, &err));
            cr_assert_eq(imv_file_write(file, bytes, sizeof bytes, 0, true, &err), IMV_IO);
            cr_assert(strstr(err.message, faults[i] == IMV_SIM_NOSPC ? "No space left" : "Input/output"), "%s",
                      err.message);
            int written = sectors_with(sim, "a", 2);
            cr_assert(faults[i] == IMV_SIM_SHORT ? written >= 1 && written < 8 : written == 1, "%d", written);
            cr_assert_eq(imv_file_sync(file, &err), sticky ? IMV_IO : IMV_OK);
            imv_file_close(file);
            imv_sim_free(sim);
        }
    }
}

/* With the power off every call fails, and after the crash everything works again. */
Test(sim, loses_power_at_the_armed_operation) {
    struct imv_sim *sim = new_sim(5, 1000, false);
    struct imv_io *io = imv_sim_io(sim);
    make_file(sim, "a", 1, SECTOR);
    struct imv_file *file = open_file(sim, "a"), *other;
    imv_sim_arm(sim, imv_sim_operations(sim) + 1, IMV_SIM_CRASH, false);
    cr_assert_eq(imv_io_rename(io, "a", "b", &err), IMV_IO);
    char byte;
    size_t got;
    cr_assert_eq(imv_file_read(file, &byte, 1, 0, &got, &err), IMV_IO);
    cr_assert_eq(imv_file_write(file, "x", 1, 0, true, &err), IMV_IO);
    cr_assert_eq(imv_file_open(io, "a", IMV_OPEN_READ, &other, &err), IMV_IO);
    cr_assert_eq(imv_io_sync_directory(io, ".", &err), IMV_IO);
    imv_sim_crash(sim);
    cr_assert_eq(imv_file_read(file, &byte, 1, 0, &got, &err), IMV_IO);
    imv_file_close(file);
    cr_assert(exists(sim, "b") && !exists(sim, "a"), "with 1000 per mille the rename made it");
    write_fill(sim, "b", 2, SECTOR, 0, true);
    imv_sim_free(sim);
}

/* ---- asynchronous writes ---- */

struct tracked {
    struct imv_io_write write; /* first */
    int done, error_number;
};

static int order[100], order_count;

static void track(struct imv_io_write *write, int error_number) {
    struct tracked *tracked = (struct tracked *)write;
    tracked->done++;
    tracked->error_number = error_number;
    order[order_count++] = (int)(write->offset / BLOCK);
}

static void submit(struct tracked *tracked, struct imv_file *file, const void *data, int block) {
    tracked->write = (struct imv_io_write){
        .file = file, .data = data, .size = BLOCK, .offset = (uint64_t)block * BLOCK, .durable = true, .done = track};
    imv_io_submit(file->io, &tracked->write);
}

/* Writes end in the order of submission, or with reorder in another that the seed alone decides. */
Test(sim, completes_in_the_order_of_the_seed) {
    int first[20];
    for (int run = 0; run < 4; run++) {
        struct imv_sim *sim = new_sim(9, 0, run > 0);
        if (run == 3) { /* another seed */
            imv_sim_free(sim);
            sim = new_sim(10, 0, true);
        }
        make_file(sim, "a", 0, BLOCK);
        struct imv_file *file = open_file(sim, "a");
        uint8_t data[BLOCK] = {1};
        struct tracked writes[20] = {0};
        order_count = 0;
        for (int i = 0; i < 20; i++) submit(&writes[i], file, data, i);
        cr_assert_eq(order_count, 0);
        while (imv_io_poll(imv_sim_io(sim), true) > 0) {}
        cr_assert_eq(order_count, 20);
        bool sorted = true;
        for (int i = 0; i < 20; i++) sorted = sorted && order[i] == i;
        cr_assert_eq(sorted, run == 0);
        if (run == 1) memcpy(first, order, sizeof first);
        if (run == 2) cr_assert_arr_eq(order, first, sizeof first);
        if (run == 3) cr_assert_neq(memcmp(order, first, sizeof first), 0);
        imv_file_close(file);
        imv_sim_free(sim);
    }
}

/* A write under way at a crash is there, not there, or torn between sectors; all three happen. It is told EIO. */
Test(sim, tears_writes_under_way) {
    int none = 0, all = 0, torn = 0;
    struct imv_sim *sim = new_sim(1, 0, true);
    make_file(sim, "a", 1, BLOCK);
    struct imv_file *file = open_file(sim, "a");
    uint8_t data[BLOCK];
    memset(data, 2, sizeof data);
    struct tracked write = {0};
    submit(&write, file, data, 0);
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct imv_sim *copy;
        OK(imv_sim_clone(sim, seed, &copy, &err));
        imv_sim_crash(copy);
        int arrived = sectors_with(copy, "a", 2);
        none += arrived == 0;
        all += arrived == 8;
        torn += arrived > 0 && arrived < 8;
        cr_assert_eq(sectors_with(copy, "a", 1), 8 - arrived);
        imv_sim_free(copy);
    }
    cr_assert(none > 5 && all > 5 && torn > 20, "%d %d %d", none, all, torn);
    cr_assert_eq(sectors_with(sim, "a", 1), 8, "copies are apart");
    imv_sim_crash(sim);
    cr_assert_eq(write.done, 0);
    cr_assert_eq(imv_io_poll(imv_sim_io(sim), true) >= 1, 1);
    cr_assert(write.done == 1 && write.error_number == EIO);
    imv_file_close(file);
    imv_sim_free(sim);
}

/* A direct file refuses what O_DIRECT would refuse. */
Test(sim, insists_on_alignment) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct imv_file *file;
    OK(imv_file_open(imv_sim_io(sim), "a", FILE_FLAGS | IMV_OPEN_DIRECT, &file, &err));
    uint8_t *data = aligned_alloc(BLOCK, 2 * BLOCK);
    memset(data, 1, 2 * BLOCK);
    OK(imv_file_write(file, data, BLOCK, BLOCK, true, &err));
    cr_assert_eq(imv_file_write(file, data + SECTOR, BLOCK, 0, true, &err), IMV_IO);
    cr_assert_eq(imv_file_write(file, data, SECTOR, 0, true, &err), IMV_IO);
    cr_assert_eq(imv_file_write(file, data, BLOCK, SECTOR, true, &err), IMV_IO);
    size_t got;
    cr_assert_eq(imv_file_read(file, data + 1, BLOCK, 0, &got, &err), IMV_IO);
    imv_file_close(file);
    free(data);
    imv_sim_free(sim);
}

/* ---- against a model ---- */

/* Random writes, syncs and crashes: each sector has one of the values it may have, and the same seed gives the same
 * disk. A sector may have any value since it was last made durable, that one included. */
static uint64_t run_model(uint64_t seed) {
    enum { SECTORS = 40, STEPS = 400 };
    struct imv_sim *sim = new_sim(seed, 400, true);
    make_file(sim, "a", 0, SECTORS * SECTOR);
    struct imv_file *file = open_file(sim, "a");
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    uint8_t live[SECTORS] = {0};
    bool may[SECTORS][256] = {{0}}; /* which values the disk may have */
    for (int i = 0; i < SECTORS; i++) may[i][0] = true;
    uint64_t trace = 0;
    for (int step = 0; step < STEPS; step++) {
        uint64_t what = imv_prng_below(&prng, 20);
        size_t first = imv_prng_below(&prng, SECTORS), count = 1 + imv_prng_below(&prng, SECTORS - first);
        if (what < 16) {
            bool durable = what < 5;
            uint8_t fill = (uint8_t)imv_prng_next(&prng), bytes[SECTORS * SECTOR];
            memset(bytes, fill, count * SECTOR);
            OK(imv_file_write(file, bytes, count * SECTOR, first * SECTOR, durable, &err));
            for (size_t i = first; i < first + count; i++) {
                live[i] = fill;
                if (durable) memset(may[i], 0, sizeof may[i]);
                may[i][fill] = true;
            }
        } else if (what < 18) {
            OK(imv_file_sync(file, &err));
            for (int i = 0; i < SECTORS; i++) {
                memset(may[i], 0, sizeof may[i]);
                may[i][live[i]] = true;
            }
        } else if (what == 18) {
            imv_sim_crash(sim);
            imv_file_close(file);
            file = open_file(sim, "a");
            size_t size;
            const uint8_t *bytes = imv_sim_bytes(sim, "a", &size);
            cr_assert_eq(size, SECTORS * SECTOR);
            for (int i = 0; i < SECTORS; i++) {
                live[i] = bytes[i * SECTOR];
                cr_assert(may[i][live[i]], "seed %" PRIu64 " step %d sector %d", seed, step, i);
                memset(may[i], 0, sizeof may[i]);
                may[i][live[i]] = true;
                trace = trace * 31 + live[i];
            }
        }
        size_t size;
        const uint8_t *bytes = imv_sim_bytes(sim, "a", &size);
        for (int i = 0; i < SECTORS; i++) cr_assert_eq(bytes[i * SECTOR], live[i]);
    }
    imv_file_close(file);
    imv_sim_free(sim);
    return trace;
}

Test(sim, has_a_legal_disk_after_every_crash) {
    for (uint64_t seed = 0; seed < 30; seed++) cr_assert_eq(run_model(seed), run_model(seed), "seed %" PRIu64, seed);
    cr_assert_neq(run_model(1), run_model(2));
}
