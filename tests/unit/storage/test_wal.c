#include "storage/base/clock.h"
#include "storage/base/hash.h"
#include "storage/base/io_sim.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "storage/base/ring.h"
#include "storage/wal.h"
#include "storage/wal_format.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct imv_error err;
#define OK(expression) cr_assert_eq((expression), IMV_OK, "%s: %s", #expression, err.message)

enum { BLOCK = IMV_IO_BLOCK_BYTES, POSITIONS_MAX = 2000 };

/* ---- a journal with a model beside it ---- */

struct model {
    uint64_t hashes[POSITIONS_MAX]; /* of the payload last written at each position */
    uint64_t written;               /* highest position that was given out */
    uint64_t acknowledged;          /* must survive: told durable, or replayed */
    uint64_t released;
    uint64_t payloads; /* made so far: no two are alike */
};

struct journal {
    struct imv_io *io;
    struct imv_wal *wal;
    struct imv_wal_options options;
    struct model model;
    uint64_t replayed; /* by the last open */
    bool failed;       /* told by synced */
    int failures_told;
};

static struct imv_manual_clock manual_clock;

static uint64_t payload_hash(const uint8_t *payload, size_t size) { return imv_hash64(payload, size, size); }

static imv_status on_replay(void *context, uint64_t position, const uint8_t *payload, size_t size,
                            struct imv_error *error) {
    (void)error;
    struct journal *journal = context;
    cr_assert_eq(position, journal->replayed + 1, "replayed %" PRIu64 " after %" PRIu64, position, journal->replayed);
    cr_assert_leq(position, journal->model.written);
    cr_assert_eq(payload_hash(payload, size), journal->model.hashes[position], "payload of %" PRIu64, position);
    journal->replayed = position;
    return IMV_OK;
}

static void on_synced(void *context, uint64_t position, imv_status status, const struct imv_error *error) {
    struct journal *journal = context;
    cr_assert_not(journal->failed, "nothing is told after a failure");
    if (status != IMV_OK) {
        cr_assert_not_null(error);
        journal->failed = true;
        journal->failures_told++;
        return;
    }
    cr_assert_eq(position, journal->model.acknowledged + 1);
    cr_assert_leq(position, journal->model.written);
    journal->model.acknowledged = position;
}

static void journal_init(struct journal *journal, struct imv_io *io, uint64_t segment_bytes, uint64_t segments_max) {
    imv_log_set_level(IMV_LOG_ERROR + 1);
    imv_manual_clock_init(&manual_clock, 1);
    *journal = (struct journal){.io = io,
                                .options = {.shard = 3,
                                            .segment_bytes = segment_bytes,
                                            .bytes_max = segment_bytes * segments_max,
                                            .clock = &manual_clock.clock,
                                            .replay = on_replay,
                                            .synced = on_synced}};
}

/* Opens; on success everything that must survive was replayed, and nothing that was never written. */
static imv_status journal_try(struct journal *journal) {
    journal->options.context = journal;
    journal->options.replay_after = journal->replayed = journal->model.released;
    journal->failed = false;
    imv_manual_clock_advance(&manual_clock, 1000000000);
    imv_status status = imv_wal_open(journal->io, "wal", &journal->options, &journal->wal, &err);
    if (status != IMV_OK) {
        cr_assert_null(journal->wal);
        return status;
    }
    cr_assert_geq(journal->replayed, journal->model.acknowledged, "lost %" PRIu64 "..%" PRIu64, journal->replayed + 1,
                  journal->model.acknowledged);
    cr_assert_eq(imv_wal_synced(journal->wal), journal->replayed);
    journal->model.acknowledged = journal->model.written = journal->replayed;
    return IMV_OK;
}

static void journal_open(struct journal *journal) { OK(journal_try(journal)); }

static void journal_close(struct journal *journal) {
    imv_wal_close(journal->wal);
    journal->wal = NULL;
}

static void journal_reopen(struct journal *journal) {
    journal_close(journal);
    journal_open(journal);
}

static uint8_t payload_bytes[IMV_WAL_PAYLOAD_BYTES_MAX + 1];

/* Writes one group of a size and kind drawn from the number of payloads made so far. */
static imv_status journal_write(struct journal *journal, size_t size, bool compressible) {
    struct imv_prng prng;
    imv_prng_init(&prng, ++journal->model.payloads);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = compressible ? journal->model.payloads : imv_prng_next(&prng);
        memcpy(payload_bytes + i, &word, size - i < 8 ? size - i : 8);
    }
    /* The model knows the payload before the journal does: its completion may come at once. */
    uint64_t next = journal->model.written + 1, hash = payload_hash(payload_bytes, size), position = 0;
    uint64_t former = journal->model.hashes[next];
    journal->model.hashes[next] = hash;
    imv_status status = imv_wal_write(journal->wal, payload_bytes, size, &position, &err);
    if (status == IMV_OK) {
        cr_assert_eq(position, next);
        journal->model.written = next;
    } else {
        journal->model.hashes[next] = former;
    }
    return status;
}

/* Writes a group, waiting for room in the pipeline, and does not wait for it to be durable. */
static void journal_put(struct journal *journal, size_t size) {
    imv_status status;
    while ((status = journal_write(journal, size, false)) == IMV_BUSY) imv_io_poll(journal->io, true);
    cr_assert_eq(status, IMV_OK, "%s", err.message);
}

static void journal_drain(struct journal *journal) {
    while (imv_io_poll(journal->io, true) > 0) {}
    cr_assert_eq(journal->model.acknowledged, journal->model.written);
}

static void journal_put_many(struct journal *journal, int count, size_t size) {
    for (int i = 0; i < count; i++) journal_put(journal, size);
    journal_drain(journal);
}

static void journal_release(struct journal *journal, uint64_t position) {
    if (position > journal->model.released) journal->model.released = position;
    imv_wal_release(journal->wal, position);
}

static struct imv_sim *new_sim(uint64_t seed, unsigned survive_per_mille, bool nasty) {
    struct imv_sim_options options = {
        .seed = seed, .survive_per_mille = survive_per_mille, .tear = nasty, .reorder = nasty};
    struct imv_sim *sim;
    OK(imv_sim_new(&options, &sim, &err));
    return sim;
}

static uint8_t *segment(struct imv_sim *sim, int number, size_t *size) {
    char path[64];
    snprintf(path, sizeof path, "wal/0003-%08d.wal", number);
    uint8_t *bytes = imv_sim_bytes(sim, path, size);
    cr_assert_not_null(bytes, "%s", path);
    return bytes;
}

static imv_status count_name(void *context, const char *name, struct imv_error *error) {
    (void)name, (void)error;
    (*(int *)context)++;
    return IMV_OK;
}

static int files_count(struct imv_io *io) {
    int count = 0;
    OK(imv_io_list(io, "wal", count_name, &count, &err));
    return count;
}

/* ---- what it is for ---- */

static void write_and_read_back(struct journal *journal) {
    static const size_t sizes[] = {1,    79,       4015,     4016,      4017,
                                   8112, 8113,     100000,   1 << 20,   IMV_WAL_PAYLOAD_BYTES_MAX - 1,
                                   7,    1u << 18, 1u << 19, 3u << 20u, IMV_WAL_PAYLOAD_BYTES_MAX};
    journal_open(journal);
    for (int compressible = 0; compressible < 2; compressible++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            imv_status status;
            while ((status = journal_write(journal, sizes[i], compressible)) == IMV_BUSY) {
                imv_io_poll(journal->io, true);
            }
            cr_assert_eq(status, IMV_OK, "%s", err.message);
        }
    }
    journal_drain(journal);
    journal_reopen(journal);
    cr_assert_eq(journal->replayed, 2 * sizeof sizes / sizeof *sizes);
    journal_put_many(journal, 3, 5000);
    journal_reopen(journal);
    journal_close(journal);
}

/* Every group that was acknowledged is read back as it was, in order, after a close and an open. */
Test(wal, reads_back_what_it_acknowledged) {
    struct imv_sim *sim = new_sim(1, 0, true);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 16 << 20, 8);
    write_and_read_back(&journal);
    imv_sim_free(sim);
}

static char real_directory[64];

static void enter_directory(void) {
    strcpy(real_directory, "/tmp/imv_test_wal_XXXXXX");
    cr_assert_not_null(mkdtemp(real_directory));
    cr_assert_eq(chdir(real_directory), 0);
}

static void remove_directory(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", real_directory);
    cr_assert_eq(system(command), 0);
}

/* The same holds on real files through plain system calls. */
Test(wal, reads_back_on_real_files, .init = enter_directory, .fini = remove_directory) {
    struct journal journal;
    struct imv_io *io;
    OK(imv_io_sys_new(&io, &err));
    journal_init(&journal, io, 8 << 20, 16);
    write_and_read_back(&journal);
    imv_io_free(io);
}

static struct imv_ring ring;

static struct imv_io *new_uring(void) {
    struct imv_io *io;
    imv_status status = imv_ring_open(&ring, 64, &err);
    if (status == IMV_UNSUPPORTED) cr_skip_test("%s", err.message);
    cr_assert_eq(status, IMV_OK, "%s", err.message);
    OK(imv_io_uring_new(&ring, &io, &err));
    return io;
}

/* The same holds on real files through io_uring. */
Test(wal, reads_back_through_a_ring, .init = enter_directory, .fini = remove_directory) {
    struct journal journal;
    struct imv_io *io = new_uring();
    journal_init(&journal, io, 8 << 20, 16);
    write_and_read_back(&journal);
    imv_io_free(io);
    imv_ring_close(&ring);
}

/* A group that compresses takes less of the segment, one that does not takes its own size. */
Test(wal, compresses_when_it_saves_a_block) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 1 << 20, 4);
    journal_open(&journal);
    OK(journal_write(&journal, 100000, true));
    cr_assert_eq(imv_wal_bytes(journal.wal), 2 * BLOCK);
    OK(journal_write(&journal, 100000, false));
    cr_assert_eq(imv_wal_bytes(journal.wal), 2 * BLOCK + 25 * BLOCK);
    journal_drain(&journal);
    journal_reopen(&journal);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* A third group under way, an empty one and one that is too large are refused, each by its own status. */
Test(wal, refuses_what_it_cannot_take) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 16 << 20, 4);
    journal_open(&journal);
    cr_assert(imv_wal_ready(journal.wal));
    OK(journal_write(&journal, 10, false));
    OK(journal_write(&journal, 10, false));
    cr_assert_not(imv_wal_ready(journal.wal));
    cr_assert_eq(journal_write(&journal, 10, false), IMV_BUSY);
    cr_assert_eq(imv_wal_synced(journal.wal), 0);
    journal_drain(&journal);
    cr_assert_eq(imv_wal_synced(journal.wal), 2);
    cr_assert_eq(journal_write(&journal, 0, false), IMV_INVALID);
    cr_assert_eq(journal_write(&journal, IMV_WAL_PAYLOAD_BYTES_MAX + 1, false), IMV_INVALID);
    journal_close(&journal);
    journal.options.segment_bytes = 2 * BLOCK;
    journal_open(&journal);
    cr_assert_eq(journal_write(&journal, BLOCK - 79, false), IMV_INVALID, "larger than a segment");
    journal_put_many(&journal, 1, BLOCK - 80);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* When the limit is reached a write says IMV_FULL and changes nothing; a release makes room, and files serve again. */
Test(wal, stays_within_its_limit) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 5 * BLOCK, 3);
    journal_open(&journal);
    for (int i = 0; i < 12; i++) journal_put(&journal, 4000);
    journal_drain(&journal);
    cr_assert_eq(journal_write(&journal, 4000, false), IMV_FULL, "%s", err.message);
    cr_assert_eq(imv_wal_bytes(journal.wal), 15 * BLOCK);
    cr_assert_eq(files_count(journal.io), 3);
    journal_release(&journal, 3);
    cr_assert_eq(journal_write(&journal, 4000, false), IMV_FULL, "group 4 holds the segment");
    journal_release(&journal, 4);
    journal_put_many(&journal, 4, 4000);
    for (int i = 0; i < 500; i++) {
        journal_release(&journal, journal.model.acknowledged);
        journal_put_many(&journal, 1, 4000);
    }
    cr_assert_eq(files_count(journal.io), 3);
    journal_reopen(&journal);
    cr_assert_leq(files_count(journal.io), 3);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* Only groups above replay_after are handed over; when there are none, positions go on above it. */
Test(wal, goes_on_above_what_is_in_chunks) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 5 * BLOCK, 8);
    journal_open(&journal);
    journal_put_many(&journal, 10, 4000);
    journal_close(&journal);
    journal.model.released = 7;
    journal_open(&journal);
    cr_assert_eq(journal.replayed, 10);
    journal_close(&journal);
    journal.model.released = journal.model.acknowledged = journal.model.written = 500;
    journal_open(&journal);
    cr_assert_eq(imv_wal_synced(journal.wal), 500);
    cr_assert_eq(imv_wal_bytes(journal.wal), 0);
    journal_put_many(&journal, 10, 4000);
    cr_assert_eq(imv_wal_synced(journal.wal), 510);
    journal_reopen(&journal);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* Opening again and again without a write does not use up segments. */
Test(wal, does_not_grow_by_being_opened) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 5 * BLOCK, 8);
    journal_open(&journal);
    journal_put_many(&journal, 2, 4000);
    for (int i = 0; i < 50; i++) journal_reopen(&journal);
    cr_assert_leq(files_count(journal.io), 3);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* A process that has the journal keeps others out. */
Test(wal, has_one_owner) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal, other;
    journal_init(&journal, imv_sim_io(sim), 5 * BLOCK, 8);
    other = journal;
    journal_open(&journal);
    cr_assert_eq(journal_try(&other), IMV_BUSY, "%s", err.message);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* ---- failures ---- */

/* After a failed write nothing is acknowledged, the failure is told once, and later writes say IMV_CLOSED. */
Test(wal, closes_itself_at_the_first_failure) {
    for (int first = 0; first < 2; first++) {
        struct imv_sim *sim = new_sim(1, 500, false);
        struct journal journal;
        journal_init(&journal, imv_sim_io(sim), 16 * BLOCK, 4);
        journal_open(&journal);
        journal_put_many(&journal, 3, 4000);
        int64_t failures = imv_metric_value(IMV_METRIC_wal_failures_total);
        imv_sim_arm(sim, imv_sim_operations(sim) + 1 + (uint64_t)first, IMV_SIM_FAIL, false);
        OK(journal_write(&journal, 4000, false));
        OK(journal_write(&journal, 4000, false));
        while (imv_io_poll(journal.io, true) > 0) {}
        cr_assert(journal.failed);
        cr_assert_eq(journal.failures_told, 1);
        cr_assert_eq(imv_wal_synced(journal.wal), 3 + (uint64_t)first);
        cr_assert_not(imv_wal_ready(journal.wal));
        cr_assert_eq(journal_write(&journal, 4000, false), IMV_CLOSED);
        cr_assert(strstr(err.message, "cannot write group") != NULL, "%s", err.message);
        cr_assert_eq(imv_metric_value(IMV_METRIC_wal_failures_total), failures + 1);
        journal_reopen(&journal);
        journal_put_many(&journal, 3, 4000);
        journal_reopen(&journal);
        journal_close(&journal);
        imv_sim_free(sim);
    }
}

/* A full disk while a segment is made ready is no failure: writes say IMV_FULL until there is space. */
Test(wal, waits_for_space_on_a_full_disk) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 5 * BLOCK, 8);
    journal_open(&journal);
    /* Operation 1 is the group, 2 the sync of the directory for the next file, 3 its zeros. */
    imv_sim_arm(sim, imv_sim_operations(sim) + 3, IMV_SIM_NOSPC, false);
    journal_put_many(&journal, 4, 4000);
    cr_assert_eq(journal_write(&journal, 4000, false), IMV_FULL, "%s", err.message);
    cr_assert_eq(files_count(journal.io), 1, "what could not be made is removed");
    cr_assert(imv_wal_ready(journal.wal));
    imv_manual_clock_advance(&manual_clock, 1000000000);
    journal_put_many(&journal, 4, 4000);
    journal_reopen(&journal);
    cr_assert_eq(journal.replayed, 8);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* ---- the same 200 operations, disturbed at every place ---- */

struct run {
    struct imv_sim *sim;
    struct journal journal;
    struct imv_prng prng;
};

/* Brings the journal back after a failure: what the process had is closed, the power goes, recovery must succeed. */
static void run_recover(struct run *run) {
    journal_close(&run->journal);
    imv_sim_crash(run->sim);
    journal_open(&run->journal);
}

static void run_start(struct run *run, uint64_t seed, unsigned survive_per_mille) {
    run->sim = new_sim(seed, survive_per_mille, true);
    imv_prng_init(&run->prng, seed);
    journal_init(&run->journal, imv_sim_io(run->sim), 10 * BLOCK, 8);
}

/* A failed open leaves the disk in a state from which the next one succeeds. */
static void run_open(struct run *run) {
    if (journal_try(&run->journal) == IMV_OK) return;
    imv_sim_crash(run->sim);
    journal_open(&run->journal);
}

static void run_step(struct run *run) {
    struct journal *journal = &run->journal;
    uint64_t what = imv_prng_below(&run->prng, 100), amount = imv_prng_next(&run->prng);
    if (what < 60) {
        size_t size = 1 + amount % (amount & 1 << 20 ? 12000 : 4000);
        imv_status status = journal_write(journal, size, amount & 1 << 21);
        if (status == IMV_CLOSED)
            run_recover(run);
        else
            cr_assert(status == IMV_OK || status == IMV_BUSY || status == IMV_FULL, "%s", err.message);
    } else if (what < 88) {
        imv_io_poll(journal->io, amount & 1);
    } else if (what < 97) {
        uint64_t free = journal->model.acknowledged - journal->model.released;
        journal_release(journal, journal->model.released + amount % (free + 1));
    } else {
        journal_close(journal);
        run_open(run);
    }
    if (journal->failed) run_recover(run);
}

static void run_finish(struct run *run) {
    run_recover(run);
    journal_reopen(&run->journal);
    journal_close(&run->journal);
    imv_sim_free(run->sim);
}

enum { STEPS = 200 };

static uint64_t run_all(uint64_t seed, unsigned survive_per_mille, uint64_t operation, enum imv_sim_fault fault,
                        bool sticky) {
    struct run run;
    run_start(&run, seed, survive_per_mille);
    imv_sim_arm(run.sim, operation, fault, sticky);
    run_open(&run);
    for (int i = 0; i < STEPS; i++) run_step(&run);
    uint64_t operations = imv_sim_operations(run.sim);
    run_finish(&run);
    return operations;
}

static void run_faults(enum imv_sim_fault fault, bool sticky) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        unsigned survive = (unsigned)(seed - 1) * 250;
        uint64_t operations = run_all(seed, survive, 0, IMV_SIM_NONE, false);
        cr_log_info("seed %" PRIu64 ": %" PRIu64 " operations", seed, operations);
        cr_assert_gt(operations, 80);
        for (uint64_t n = 1; n <= operations; n++) run_all(seed, survive, n, fault, sticky);
    }
}

/* Whichever operation fails, nothing acknowledged is lost, repeated or out of order, and a restart recovers. */
Test(wal, survives_a_failure_of_every_operation) { run_faults(IMV_SIM_FAIL, false); }
/* The same when a write is cut short. */
Test(wal, survives_a_short_write_at_every_operation) { run_faults(IMV_SIM_SHORT, false); }
/* The same when the disk is full for good. */
Test(wal, survives_a_full_disk_from_every_operation_on) { run_faults(IMV_SIM_NOSPC, true); }
/* The same when the power goes, writes under way are torn and unsynced sectors survive at random. */
Test(wal, survives_a_power_cut_at_every_operation) { run_faults(IMV_SIM_CRASH, false); }

/* A copy of the disk and of the model, as if the power had gone now. */
static void branch(const struct run *run, uint64_t seed, struct run *copy) {
    OK(imv_sim_clone(run->sim, seed, &copy->sim, &err));
    copy->journal = run->journal;
    copy->journal.io = imv_sim_io(copy->sim);
    copy->journal.wal = NULL;
    imv_sim_crash(copy->sim);
}

/* After each of the 200 operations the power may go, and again at every operation of the recovery: each state recovers,
 * takes new groups and keeps them. */
Test(wal, recovers_from_every_state) {
    for (uint64_t seed = 11; seed < 14; seed++) {
        cr_log_info("seed %" PRIu64, seed);
        struct run run;
        run_start(&run, seed, (unsigned)(seed - 11) * 500);
        run_open(&run);
        for (uint64_t step = 0; step < STEPS; step++) {
            run_step(&run);
            for (uint64_t variant = 0; variant < 3; variant++) {
                struct run copy;
                branch(&run, seed * 100000 + step * 10 + variant, &copy);
                imv_sim_arm(copy.sim, imv_sim_operations(copy.sim) + 1 + (step + variant) % 12, IMV_SIM_CRASH, false);
                run_open(&copy);
                for (int i = 0; i < 3; i++) {
                    imv_status status;
                    while ((status = journal_write(&copy.journal, 3000, false)) == IMV_BUSY) {
                        imv_io_poll(copy.journal.io, true);
                    }
                    if (status == IMV_CLOSED)
                        run_recover(&copy);
                    else if (status == IMV_FULL)
                        journal_release(&copy.journal, copy.journal.model.acknowledged);
                }
                if (variant > 0)
                    while (imv_io_poll(copy.journal.io, true) > 0) {}
                run_finish(&copy);
            }
        }
        run_finish(&run);
    }
}

/* ---- torn or damaged ---- */

/* A journal of one segment with groups of these frame sizes in blocks, then a power cut or an orderly close. */
static void make_journal(struct journal *journal, struct imv_sim **sim, const int *blocks, int count, bool orderly) {
    *sim = new_sim(1, 0, false);
    journal_init(journal, imv_sim_io(*sim), 16 * BLOCK, 20);
    journal_open(journal);
    for (int i = 0; i < count; i++) journal_put_many(journal, 1, (size_t)blocks[i] * BLOCK - 100);
    if (orderly) journal_close(journal);
    struct imv_wal *zombie = journal->wal;
    imv_sim_crash(*sim);
    imv_wal_close(zombie);
    journal->wal = NULL;
}

static void expect_corrupt(struct journal *journal, const char *words) {
    struct journal copy = *journal;
    cr_assert_eq(journal_try(&copy), IMV_CORRUPT, "%s", err.message);
    cr_assert(strstr(err.message, words) != NULL, "%s", err.message);
}

/* A group that later ones prove to have been acknowledged is not passed over: its file and offset are named. */
Test(wal, names_damage_in_the_middle) {
    static const int blocks[] = {1, 2, 1, 3, 1, 1};
    static const int offsets[] = {1, 2, 4, 5}; /* of the groups that are proven, in blocks */
    for (int group = 0; group < 4; group++) {
        for (int whole = 0; whole < 2; whole++) {
            struct imv_sim *sim;
            struct journal journal;
            make_journal(&journal, &sim, blocks, 6, false);
            size_t size;
            uint8_t *at = segment(sim, 1, &size) + offsets[group] * BLOCK;
            memset(at, 0, whole ? (size_t)blocks[group] * BLOCK : 1);
            char words[128];
            snprintf(words, sizeof words, "group %d is damaged or missing, expected at %d in wal/0003-00000001.wal",
                     group + 1, offsets[group] * BLOCK);
            expect_corrupt(&journal, words);
            journal.model.released = (uint64_t)group + 1;
            journal_open(&journal); /* what is in chunks is not needed */
            journal_close(&journal);
            imv_sim_free(sim);
        }
    }
}

/* Two groups under way may end in any order: the second whole and the first torn is no damage. The second is dropped,
 * its number is given again, and it never comes back, whenever the power goes during the recovery. */
Test(wal, drops_a_group_behind_a_torn_one) {
    for (uint64_t operation = 0; operation < 8; operation++) {
        for (int boundary = 0; boundary < 2; boundary++) {
            struct imv_sim *sim = new_sim(1, 0, false);
            struct journal journal;
            journal_init(&journal, imv_sim_io(sim), 6 * BLOCK, 8);
            journal_open(&journal);
            int before = boundary ? 4 : 2;
            journal_put_many(&journal, before, 4000);
            OK(journal_write(&journal, 4000, false));
            OK(journal_write(&journal, 4000, false));
            while (imv_io_poll(journal.io, true) > 0) {}
            imv_sim_crash(sim);
            journal_close(&journal);
            size_t size;
            memset(segment(sim, 1, &size) + (1 + before) * BLOCK + 512, 7, 512);
            journal.model.acknowledged = (uint64_t)before; /* as if the power had gone before */
            if (operation > 0) imv_sim_arm(sim, imv_sim_operations(sim) + operation, IMV_SIM_CRASH, false);
            if (journal_try(&journal) != IMV_OK) {
                imv_sim_crash(sim);
                journal_open(&journal);
            }
            cr_assert_eq(journal.replayed, (uint64_t)before);
            struct imv_wal_frame frame;
            const uint8_t *dropped = segment(sim, boundary ? 2 : 1, &size) + (boundary ? 1 : 4) * BLOCK;
            cr_assert_not(imv_wal_frame_parse(dropped, 3, (boundary ? 1 : 4) * BLOCK, size, &frame));
            for (int i = 0; i < 6; i++) {
                imv_status status = journal_write(&journal, 4000, false);
                if (status == IMV_CLOSED || journal.failed) break;
                while (imv_io_poll(journal.io, true) > 0) {}
            }
            imv_sim_crash(sim);
            journal_reopen(&journal);
            journal_close(&journal);
            imv_sim_free(sim);
        }
    }
}

/* After an orderly close the last group is proven too; after a power cut it passes for a torn tail. */
Test(wal, proves_the_last_group_by_a_mark) {
    static const int blocks[] = {1, 1, 1};
    for (int orderly = 0; orderly < 2; orderly++) {
        struct imv_sim *sim;
        struct journal journal;
        make_journal(&journal, &sim, blocks, 3, orderly);
        size_t size;
        segment(sim, 1, &size)[3 * BLOCK + 200] ^= 1;
        if (orderly)
            expect_corrupt(&journal, "the mark of an orderly close at 16384");
        else {
            journal.model.acknowledged = 2;
            journal_open(&journal);
            cr_assert_eq(journal.replayed, 2);
            journal_close(&journal);
        }
        imv_sim_free(sim);
    }
}

/* What a recovery found is proven by the segment that it started. */
Test(wal, proves_what_a_recovery_found) {
    static const int blocks[] = {1, 1, 1};
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 3, false);
    journal_reopen(&journal);
    journal_close(&journal);
    size_t size;
    segment(sim, 1, &size)[3 * BLOCK + 200] ^= 1;
    expect_corrupt(&journal,
                   "group 3 is damaged or missing, expected at 12288 in wal/0003-00000001.wal: the segment header");
    imv_sim_free(sim);
}

/* A segment whose header is damaged is not passed over when it holds groups; one of a newer version is left alone. */
Test(wal, does_not_pass_over_a_header) {
    static const int blocks[] = {1, 1, 1};
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 3, false);
    size_t size;
    uint8_t *bytes = segment(sim, 1, &size);
    bytes[100] ^= 1;
    expect_corrupt(&journal, "the header of wal/0003-00000001.wal is damaged");
    bytes[100] ^= 1;
    struct imv_wal_segment_header header;
    uint8_t good[BLOCK];
    memcpy(good, bytes, BLOCK);
    OK(imv_wal_segment_header_parse(bytes, &header, &err));
    header.features = 4;
    imv_wal_segment_header_seal(&header, bytes);
    cr_assert_eq(journal_try(&journal), IMV_UNSUPPORTED, "%s", err.message);
    memcpy(bytes, good, BLOCK);
    journal_open(&journal);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* When headers are lost whose groups are in chunks, their epochs are not given again: the groups are still there. */
Test(wal, never_gives_an_epoch_twice) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 4 * BLOCK, 8);
    journal_open(&journal);
    journal_put_many(&journal, 7, 4000);
    journal_close(&journal);
    size_t size;
    uint64_t epoch_last = 0;
    for (int number = 1; number <= 3; number++) {
        struct imv_wal_segment_header header;
        OK(imv_wal_segment_header_parse(segment(sim, number, &size), &header, &err));
        if (header.epoch > epoch_last) epoch_last = header.epoch;
        memset(segment(sim, number, &size), 0, BLOCK);
    }
    journal.model.released = 7;
    journal_open(&journal);
    struct imv_wal_segment_header header;
    OK(imv_wal_segment_header_parse(segment(sim, 1, &size), &header, &err));
    cr_assert_gt(header.epoch, epoch_last);
    journal_put_many(&journal, 3, 4000);
    journal_reopen(&journal);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* Whole blocks and whole files at the wrong place are found out. */
Test(wal, finds_what_is_misplaced) {
    static const int blocks[] = {1, 1, 1, 1, 1};
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 5, false);
    size_t size;
    uint8_t *bytes = segment(sim, 1, &size), kept[BLOCK];
    memcpy(kept, bytes + BLOCK, BLOCK);
    memcpy(bytes + BLOCK, bytes + 2 * BLOCK, BLOCK);
    expect_corrupt(&journal, "group 1 is damaged or missing");
    memcpy(bytes + 2 * BLOCK, kept, BLOCK);
    expect_corrupt(&journal, "group 1 is damaged or missing");
    memcpy(bytes + 2 * BLOCK, bytes + BLOCK, BLOCK);
    memcpy(bytes + BLOCK, kept, BLOCK);
    OK(imv_io_rename(journal.io, "wal/0003-00000001.wal", "wal/0003-00000007.wal", &err));
    expect_corrupt(&journal, "this is segment 1 of shard 3");
    OK(imv_io_rename(journal.io, "wal/0003-00000007.wal", "wal/0003-00000001.wal", &err));
    journal_open(&journal);
    journal_put_many(&journal, 100, 4000);
    journal_close(&journal);
    OK(imv_io_unlink(journal.io, "wal/0003-00000003.wal", &err));
    expect_corrupt(&journal, "is damaged or missing");
    imv_sim_free(sim);
}

/* Seals a frame again after a change, as only a second history of the journal could have. */
static void reseal(uint8_t *bytes) {
    struct imv_wal_frame frame;
    memcpy(&frame, bytes, sizeof frame);
    imv_wal_frame_seal(&frame, bytes);
}

/* A group that is whole but does not name the one before it by its hash is of another history. */
Test(wal, follows_the_chain) {
    static const int blocks[] = {1, 1, 1};
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 3, false);
    size_t size;
    uint8_t *bytes = segment(sim, 1, &size), *second = bytes + 2 * BLOCK;
    second[sizeof(struct imv_wal_frame)] ^= 1;
    reseal(second);
    journal.options.replay = NULL;
    journal.model.acknowledged = 0;
    expect_corrupt(&journal, "group 3 at 12288 in wal/0003-00000001.wal does not follow the group before it");
    imv_sim_free(sim);
}

/* A group that stands elsewhere than where it was written is none. */
Test(wal, takes_a_group_at_its_place_only) {
    static const int blocks[] = {1, 1, 1};
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 3, false);
    size_t size;
    uint8_t *bytes = segment(sim, 1, &size);
    memcpy(bytes + 4 * BLOCK, bytes + 3 * BLOCK, BLOCK);
    memset(bytes + 3 * BLOCK, 0, BLOCK);
    journal.model.acknowledged = 2;
    journal_open(&journal);
    cr_assert_eq(journal.replayed, 2);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* What looks like a group inside the payload of a torn one is payload. */
Test(wal, takes_nothing_inside_a_torn_group) {
    static const int blocks[] = {1, 3};
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 2, false);
    size_t size;
    uint8_t *bytes = segment(sim, 1, &size), *inner = bytes + 3 * BLOCK;
    struct imv_wal_frame frame;
    memcpy(&frame, bytes + BLOCK, sizeof frame);
    frame.position = 4;
    frame.synced = 2;
    frame.block_index = 3;
    frame.payload_bytes = frame.stored_bytes = 5;
    imv_wal_frame_seal(&frame, inner);
    journal.model.acknowledged = 1; /* group 2 no longer has its checksum */
    journal_open(&journal);
    cr_assert_eq(journal.replayed, 1);
    journal_close(&journal);
    imv_sim_free(sim);
}

/* An open that cannot read, sync or prepare fails and leaves nothing behind; the next one succeeds. */
Test(wal, opens_whole_or_not_at_all) {
    for (uint64_t operation = 1;; operation++) {
        static const int blocks[] = {1, 3};
        struct imv_sim *sim;
        struct journal journal;
        make_journal(&journal, &sim, blocks, 2, false);
        imv_sim_arm(sim, imv_sim_operations(sim) + operation, IMV_SIM_FAIL, true);
        uint64_t before = imv_sim_operations(sim);
        imv_status status = journal_try(&journal);
        cr_assert_eq(status, imv_sim_operations(sim) - before >= operation ? IMV_IO : IMV_OK, "%s", err.message);
        if (status != IMV_OK) {
            imv_sim_crash(sim);
            journal_open(&journal);
        }
        journal_close(&journal);
        imv_sim_free(sim);
        if (status == IMV_OK) break;
        cr_assert_lt(operation, 20);
    }
}

/* Every single bit of the header and of the groups matters: with one flipped, either the open says IMV_CORRUPT, or the
 * flip is in the last group, which then passes for a torn tail and is not handed over. Behind the frame headers one bit
 * in five is tried; with IMV_WAL_ALL_FLIPS set, every one. */
Test(wal, finds_every_flipped_bit) {
    static const int blocks[] = {1, 2, 1, 1};
    enum { USED = 6 * BLOCK, PROVEN = 5 * BLOCK };
    struct imv_sim *sim;
    struct journal journal;
    make_journal(&journal, &sim, blocks, 4, false);
    size_t size;
    uint8_t *bytes = segment(sim, 1, &size);
    struct imv_sim *work;
    OK(imv_sim_clone(sim, 1, &work, &err));
    bool all = getenv("IMV_WAL_ALL_FLIPS") != NULL;
    for (size_t bit = 0; bit < USED * 8u; bit++) {
        /* All of each frame's header, and of the rest a sample that differs from block to block. */
        if (!all && bit / 8 % BLOCK > 100 && bit % 5 != bit / 8 / BLOCK % 5) continue;
        uint8_t *flipped = segment(work, 1, &size);
        flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct journal copy = journal;
        copy.io = imv_sim_io(work);
        copy.model.acknowledged = 0;
        imv_status status = journal_try(&copy);
        if (bit / 8 < PROVEN)
            cr_assert_eq(status, IMV_CORRUPT, "bit %zu: %s", bit, err.message);
        else
            cr_assert(status == IMV_OK && copy.replayed == 3, "bit %zu", bit);
        if (status == IMV_OK) journal_close(&copy);
        memcpy(segment(work, 1, &size), bytes, USED);
    }
    imv_sim_free(work);
    imv_sim_free(sim);
}

/* ---- several shards, the offline check ---- */

static void count_lines(void *context, const char *line) {
    char *all = context;
    strcat(strcat(all, line), "\n");
}

/* Journals of several shards live in one directory without touching each other, and the check tells each apart. */
Test(wal, keeps_shards_apart) {
    struct imv_sim *sim = new_sim(1, 0, true);
    struct journal journals[3];
    for (uint32_t i = 0; i < 3; i++) {
        journal_init(&journals[i], imv_sim_io(sim), 16 * BLOCK, 4);
        journals[i].options.shard = i * 3;
        journal_open(&journals[i]);
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 3; i++) journal_put(&journals[i], 5000);
    }
    for (int i = 0; i < 3; i++) journal_close(&journals[i]);
    char lines[2000] = "";
    OK(imv_wal_check(imv_sim_io(sim), "wal", count_lines, lines, &err));
    cr_assert(strstr(lines, "shard 0: ok") && strstr(lines, "shard 3: ok") && strstr(lines, "shard 6: ok"), "%s",
              lines);
    cr_assert(strstr(lines, "20 groups from 1 to 20") != NULL, "%s", lines);
    size_t size;
    segment(sim, 1, &size)[BLOCK + 90] ^= 1;
    lines[0] = 0;
    cr_assert_eq(imv_wal_check(imv_sim_io(sim), "wal", count_lines, lines, &err), IMV_CORRUPT);
    cr_assert(strstr(lines, "shard 0: ok") && strstr(lines, "shard 3: corrupt"), "%s", lines);
    for (int i = 0; i < 3; i += 2) {
        journal_open(&journals[i]);
        journal_close(&journals[i]);
    }
    imv_sim_free(sim);
}

/* The check knows no watermark: segments that were used again are no damage to it. */
Test(wal, checks_a_journal_that_wrapped_around) {
    struct imv_sim *sim = new_sim(1, 0, false);
    struct journal journal;
    journal_init(&journal, imv_sim_io(sim), 5 * BLOCK, 4);
    journal_open(&journal);
    for (int i = 0; i < 100; i++) {
        journal_put_many(&journal, 1, 4000);
        if (i % 3 == 0) journal_release(&journal, journal.model.acknowledged);
        char lines[2000] = "";
        cr_assert_eq(imv_wal_check(imv_sim_io(sim), "wal", count_lines, lines, &err), IMV_OK, "%d: %s", i, lines);
    }
    journal_close(&journal);
    imv_sim_free(sim);
}

/* ---- kill -9 ---- */

/* What a process told before it was killed; its payloads follow from their positions. */
struct told {
    uint64_t acknowledged, released;
};

struct worker {
    struct told told;
    uint64_t replayed;
    int pipe_end; /* -1: tells nobody */
};

static void worker_payload(uint64_t position, uint64_t *words) {
    for (int i = 0; i < 400; i++) words[i] = position * 0x9e3779b97f4a7c15u + (uint64_t)i;
}

static imv_status worker_replay(void *context, uint64_t position, const uint8_t *payload, size_t size,
                                struct imv_error *error) {
    struct worker *worker = context;
    uint64_t words[400];
    worker_payload(position, words);
    if (position != worker->replayed + 1 || size != sizeof words || memcmp(payload, words, size) != 0) {
        return imv_fail(error, IMV_CORRUPT, "replayed a wrong group %" PRIu64 " after %" PRIu64, position,
                        worker->replayed);
    }
    worker->replayed = position;
    return IMV_OK;
}

static void worker_tell(struct worker *worker) {
    if (write(worker->pipe_end, &worker->told, sizeof worker->told) != sizeof worker->told) _exit(1);
}

static void worker_synced(void *context, uint64_t position, imv_status status, const struct imv_error *error) {
    (void)error;
    struct worker *worker = context;
    if (status != IMV_OK || position != worker->told.acknowledged + 1) _exit(2);
    worker->told.acknowledged = position;
    worker_tell(worker);
}

static imv_status worker_open(struct worker *worker, struct imv_io *io, struct imv_wal **wal) {
    struct imv_wal_options options = {.segment_bytes = 64 * BLOCK,
                                      .bytes_max = 256 * BLOCK,
                                      .replay_after = worker->told.released,
                                      .replay = worker_replay,
                                      .synced = worker_synced,
                                      .context = worker};
    worker->replayed = worker->told.released;
    imv_status status = imv_wal_open(io, "wal", &options, wal, &err);
    if (status == IMV_OK && worker->replayed < worker->told.acknowledged) {
        imv_wal_close(*wal);
        status = imv_fail(&err, IMV_CORRUPT, "lost groups %" PRIu64 " to %" PRIu64, worker->replayed + 1,
                          worker->told.acknowledged);
    }
    return status;
}

static void worker_run(struct worker *worker) {
    struct imv_io *io;
    struct imv_wal *wal;
    if (imv_ring_open(&ring, 16, NULL) == IMV_OK)
        OK(imv_io_uring_new(&ring, &io, &err));
    else
        OK(imv_io_sys_new(&io, &err));
    if (worker_open(worker, io, &wal) != IMV_OK) {
        fprintf(stderr, "%s\n", err.message);
        _exit(3);
    }
    worker->told.acknowledged = worker->replayed;
    for (uint64_t position = worker->replayed + 1;;) {
        uint64_t words[400];
        worker_payload(position, words);
        imv_status status = imv_wal_write(wal, words, sizeof words, &position, &err);
        if (status == IMV_OK)
            position++;
        else if (status == IMV_BUSY)
            imv_io_poll(io, true);
        else if (status == IMV_FULL) {
            worker->told.released = worker->told.acknowledged;
            worker_tell(worker);
            imv_wal_release(wal, worker->told.released);
        } else
            _exit(4);
    }
}

/* A process that is killed loses nothing that it acknowledged, and the next one may start at once. */
Test(wal, survives_kill, .init = enter_directory, .fini = remove_directory) {
    imv_log_set_level(IMV_LOG_ERROR + 1);
    struct worker worker = {.pipe_end = -1};
    for (unsigned cycle = 0; cycle < 25; cycle++) {
        int ends[2], status;
        cr_assert_eq(pipe(ends), 0);
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            worker.pipe_end = ends[1];
            worker_run(&worker);
        }
        close(ends[1]);
        /* Some are killed while they recover, most while they write. */
        struct told told;
        for (unsigned i = 0; i < cycle * 37 % 300; i++) {
            if (read(ends[0], &told, sizeof told) != sizeof told) break;
            worker.told = told;
        }
        kill(child, SIGKILL);
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "cycle %u: status %x", cycle, status);
        while (read(ends[0], &told, sizeof told) == sizeof told) worker.told = told;
        close(ends[0]);
    }
    cr_assert_gt(worker.told.released, 100);
    struct imv_io *io;
    struct imv_wal *wal;
    OK(imv_io_sys_new(&io, &err));
    OK(worker_open(&worker, io, &wal));
    imv_wal_close(wal);
    imv_io_free(io);
}
