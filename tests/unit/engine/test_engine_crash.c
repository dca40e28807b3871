/* A trace is 200 random operations from a seed: write, delete, turn, flush, background, snapshot, read, restart,
 * crash. It is run
 * once to count the operations of the disk and of the store, then again and again with a fault at each of them. After
 * every recovery the model decides: nothing acknowledged is missing or older than it was, nothing is there that was not
 * written, nothing is stored twice.
 *
 * IMV_TEST_SEED sets the first seed, IMV_CRASH_STEP=1 tries every single fault (the default tries a spread of them),
 * IMV_CRASH_SEEDS runs so many seeds. Flushes scatter over twelve days, half of which are consolidated on the way. */
#define HARNESS_DAYS 12 /* some flushes are of more slots than get files of their own */
#include "tests/support/engine_harness.h"

#include "engine/head.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { OPERATIONS = 200, WRITES_MAX = 512, SNAPSHOTS_MAX = 3 };

struct fault {
    uint64_t disk_operation; /* 0: none */
    enum imv_sim_fault disk_fault;
    bool sticky;
    uint64_t store_operation; /* 0: none */
    enum imv_kv_memory_fault store_fault;
};

struct trace {
    uint64_t seed;
    bool unique; /* no (series, time) is written twice, so that stored rows can be counted */
    struct fault fault;
    struct harness harness;
    struct imv_prng prng;
    struct model model;
    uint32_t next_time[HARNESS_SERIES];
    struct model_write writes[WRITES_MAX]; /* not acknowledged, oldest first */
    uint32_t writes_count;
    struct model_deletion deletion; /* the one under way */
    uint64_t deletions;
    struct imv_snapshot *snapshots[SNAPSHOTS_MAX];
    struct model_view views[SNAPSHOTS_MAX];
    struct model_view view; /* of the read at hand */
    uint32_t snapshots_count;
    uint32_t restarts, crashes;
    struct imv_error err;
};

/* Says which run failed, so that it can be repeated. */
static bool fails(const struct trace *trace, const char *what) {
    fprintf(stderr, "%s: seed=%llu shards=%u unique=%d disk=%llu/%d%s store=%llu/%d restarts=%u crashes=%u: %s\n", what,
            (unsigned long long)trace->seed, trace->harness.shards, trace->unique,
            (unsigned long long)trace->fault.disk_operation, trace->fault.disk_fault, trace->fault.sticky ? "+" : "",
            (unsigned long long)trace->fault.store_operation, trace->fault.store_fault, trace->restarts, trace->crashes,
            trace->err.message);
    return false;
}

#define HOLD(condition, what)                        \
    do {                                             \
        if (!(condition)) return fails(trace, what); \
    } while (0)

/* How many files hold the parts of a list: each its own, the scattered ones of a group one together. */
static size_t files_count(const struct imv_parts *parts) {
    size_t files = 0;
    for (size_t i = 0; i < parts->count; i++) {
        bool counted = false;
        for (size_t k = 0; k < i && parts->items[i]->group != NULL && !counted; k++) {
            counted = parts->items[k]->group == parts->items[i]->group;
        }
        files += !counted;
    }
    return files;
}

/* Rows that are physically there: in parts, and in heads. */
static bool stored_once(struct trace *trace) {
    struct imv_snapshot *snapshot;
    HOLD(imv_snapshot_take(trace->harness.engine, &snapshot, &trace->err) == IMV_OK, "snapshot");
    uint64_t stored = 0, present = 0;
    for (size_t i = 0; i < snapshot->parts->count; i++) stored += snapshot->parts->items[i]->rows;
    for (uint32_t i = 0; i < snapshot->shards_count; i++) {
        for (uint32_t k = 0; k < snapshot->shards[i].heads_count; k++) {
            stored += imv_head_rows(snapshot->shards[i].heads[k]);
        }
    }
    for (uint32_t s = 0; s < HARNESS_SERIES; s++) {
        for (uint32_t t = 0; t < HARNESS_TIMES; t++) {
            present += trace->view.present[s][t][0] || trace->view.present[s][t][1];
        }
    }
    size_t files = files_count(snapshot->parts);
    imv_snapshot_release(snapshot);
    HOLD(stored == present, "a row is stored twice or not where it is read");
    HOLD(imv_kv_memory_tables(trace->harness.kv_memory) == files, "the store holds other files than the parts");
    return true;
}

static bool check_now(struct trace *trace, bool settle) {
    struct imv_snapshot *snapshot;
    HOLD(imv_snapshot_take(trace->harness.engine, &snapshot, &trace->err) == IMV_OK, "snapshot");
    imv_status status = model_read(snapshot, &trace->view, &trace->err);
    imv_snapshot_release(snapshot);
    HOLD(status == IMV_OK, "read");
    HOLD(model_check(&trace->model, &trace->view, settle), "compare");
    return true;
}

static bool disk_faulted(const struct trace *trace) {
    return trace->fault.disk_operation > 0 && imv_sim_operations(trace->harness.sim) >= trace->fault.disk_operation;
}

static bool store_faulted(const struct trace *trace) {
    return trace->fault.store_operation > 0 &&
           imv_kv_memory_operations(trace->harness.kv_memory) >= trace->fault.store_operation;
}

static bool power_lost(const struct trace *trace) {
    return (disk_faulted(trace) && trace->fault.disk_fault == IMV_SIM_CRASH) ||
           (store_faulted(trace) && trace->fault.store_fault == IMV_KV_MEMORY_CRASH);
}

/* Reads the oldest snapshot once more, expects what it showed at first, and releases it. A store that has lost its
 * power cannot be read. */
static bool snapshot_end(struct trace *trace) {
    if (trace->snapshots_count == 0) return true;
    struct imv_snapshot *oldest = trace->snapshots[0];
    bool readable = !power_lost(trace);
    imv_status status = readable ? model_read(oldest, &trace->view, &trace->err) : IMV_OK;
    bool same = !readable || memcmp(&trace->view, &trace->views[0], sizeof trace->view) == 0;
    imv_snapshot_release(oldest);
    trace->snapshots_count--;
    memmove(trace->snapshots, trace->snapshots + 1, trace->snapshots_count * sizeof trace->snapshots[0]);
    memmove(trace->views, trace->views + 1, trace->snapshots_count * sizeof trace->views[0]);
    HOLD(status == IMV_OK, "read an old snapshot");
    HOLD(same, "a snapshot changed");
    return true;
}

/* A fault that was met is over; one that was not is armed again, which every restart undoes. */
static void faults_arm(struct trace *trace) {
    struct fault *fault = &trace->fault;
    if (disk_faulted(trace)) fault->disk_operation = 0;
    if (store_faulted(trace)) fault->store_operation = 0;
    imv_sim_arm(trace->harness.sim, fault->disk_operation, fault->disk_operation > 0 ? fault->disk_fault : IMV_SIM_NONE,
                fault->sticky);
    imv_kv_memory_arm(trace->harness.kv_memory, fault->store_operation > 0 ? fault->store_operation : UINT64_MAX,
                      fault->store_fault);
}

static void power_cut(struct trace *trace) {
    trace->crashes++;
    imv_sim_crash(trace->harness.sim);
    imv_kv_memory_crash(trace->harness.kv_memory);
}

/* Opens again; the first try may run into the fault that the trace has in store. */
static bool reopen(struct trace *trace) {
    faults_arm(trace);
    if (harness_open(&trace->harness, &trace->err) != IMV_OK) {
        HOLD(disk_faulted(trace) || store_faulted(trace), "open");
        power_cut(trace);
        faults_arm(trace);
        HOLD(harness_open(&trace->harness, &trace->err) == IMV_OK, "second open");
    }
    HOLD(!power_lost(trace), "open without power");
    trace->writes_count = 0;
    HOLD(check_now(trace, true), "after recovery");
    if (trace->unique) HOLD(stored_once(trace), "after recovery");
    return true;
}

/* The process ends, in order or not; its files are as it left them, or what a power cut left of them. */
static bool restart(struct trace *trace, bool crash) {
    while (trace->snapshots_count > 0) {
        if (!snapshot_end(trace)) return false;
    }
    if (crash) power_cut(trace);
    harness_close(&trace->harness);
    model_delete_end(&trace->model, &trace->deletion, false);
    if (!crash && power_lost(trace)) power_cut(trace);
    if (!crash) trace->restarts++;
    return reopen(trace);
}

static void acknowledge(struct trace *trace) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < trace->writes_count; i++) {
        struct model_write *write = &trace->writes[i];
        imv_status status = imv_writer_check(trace->harness.writer[write->writer], write->marks, NULL);
        if (status == IMV_OK) {
            model_acknowledge(write);
        } else {
            if (kept != i) trace->writes[kept] = *write;
            kept++;
        }
    }
    trace->writes_count = kept;
    if (trace->deletion.request == NULL) return;
    if (imv_engine_delete_wait(trace->harness.engine, trace->deletion.request, 0, NULL) != IMV_OK) return;
    model_delete_end(&trace->model, &trace->deletion, true);
    trace->deletions++;
}

static uint32_t draw(struct trace *trace, uint32_t bound) { return (uint32_t)imv_prng_below(&trace->prng, bound); }

static bool do_write(struct trace *trace) {
    struct harness *harness = &trace->harness;
    if (trace->writes_count == WRITES_MAX) return true;
    struct model_write *write = &trace->writes[trace->writes_count];
    write->writer = draw(trace, harness->shards);
    write->count = 0;
    for (uint32_t rows = 1 + draw(trace, 6); rows > 0; rows--) {
        uint32_t series = draw(trace, HARNESS_SERIES);
        series -= series % harness->shards;
        series += write->writer; /* the order of two writers' rows is not defined: each has its own series */
        if (series >= HARNESS_SERIES) continue;
        if (trace->deletion.request != NULL && trace->deletion.series[series]) continue;
        uint32_t time = trace->unique ? trace->next_time[series] : draw(trace, HARNESS_TIMES);
        if (time >= HARNESS_TIMES || trace->model.cells[series][time][0].later_count > 20 ||
            trace->model.cells[series][time][1].later_count > 20) {
            continue;
        }
        trace->next_time[series]++;
        HOLD(model_put(harness, &trace->model, write, series, time, 1 + draw(trace, 3), &trace->err) == IMV_OK, "put");
    }
    if (write->count == 0) return true;
    imv_writer_mark(harness->writer[write->writer], write->marks);
    imv_writer_send(harness->writer[write->writer]);
    trace->writes_count++;
    return true;
}

/* Deletes a range of one label, or of some of its series, of which no write is under way. */
static bool do_delete(struct trace *trace) {
    if (trace->deletion.request != NULL || trace->unique) return true;
    uint32_t label = draw(trace, 2);
    bool whole = draw(trace, 3) == 0, wanted[HARNESS_SERIES] = {false};
    for (uint32_t s = label; s < HARNESS_SERIES; s += 2) {
        wanted[s] = whole || draw(trace, 2) == 0;
        for (uint32_t t = 0; t < HARNESS_TIMES && wanted[s]; t++) {
            if (trace->model.cells[s][t][0].later_count + trace->model.cells[s][t][1].later_count == 0) continue;
            if (whole) return true;
            wanted[s] = false;
        }
    }
    int64_t a = model_time(draw(trace, HARNESS_TIMES)), b = model_time(draw(trace, HARNESS_TIMES));
    int64_t from = a < b ? a : b, last = a < b ? b : a;
    if (draw(trace, 8) == 0) from = INT64_MIN;
    if (draw(trace, 8) == 0) last = INT64_MAX;
    imv_status status = model_delete(&trace->harness, &trace->model, &trace->deletion, label, whole ? NULL : wanted,
                                     from, last, &trace->err);
    HOLD(status == IMV_OK, "delete");
    return true;
}

static bool do_snapshot(struct trace *trace) {
    if (trace->snapshots_count == SNAPSHOTS_MAX || draw(trace, 3) == 0) return snapshot_end(trace);
    struct imv_snapshot **snapshot = &trace->snapshots[trace->snapshots_count];
    struct model_view *view = &trace->views[trace->snapshots_count];
    HOLD(imv_snapshot_take(trace->harness.engine, snapshot, &trace->err) == IMV_OK, "snapshot");
    trace->snapshots_count++;
    HOLD(model_read(*snapshot, view, &trace->err) == IMV_OK, "read a snapshot");
    HOLD(model_check(&trace->model, view, false), "compare a snapshot");
    return true;
}

static void do_flush(struct trace *trace) {
    bool did_work;
    imv_engine_flush_begin(trace->harness.engine);
    harness_turn(&trace->harness);
    for (uint32_t steps = draw(trace, 4); steps > 0; steps--) {
        (void)imv_engine_background_step(trace->harness.engine, &did_work, &trace->err);
    }
}

/* Background work, as long as there is some; consolidation takes several steps, and other things come between them. */
static void do_background(struct trace *trace) {
    bool did_work = true;
    for (uint32_t steps = 1 + draw(trace, 8); steps > 0 && did_work; steps--) {
        (void)imv_engine_background_step(trace->harness.engine, &did_work, &trace->err);
    }
}

static bool step(struct trace *trace) {
    uint32_t kind = draw(trace, 100);
    bool holds = true;
    if (kind < 42)
        holds = do_write(trace);
    else if (kind < 47)
        holds = do_delete(trace);
    else if (kind < 62)
        harness_turn(&trace->harness);
    else if (kind < 73)
        do_flush(trace);
    else if (kind < 85)
        do_background(trace);
    else if (kind < 92)
        holds = do_snapshot(trace);
    else if (kind < 95)
        imv_manual_clock_advance(&trace->harness.clock, (int64_t)draw(trace, 100) * HARNESS_SECOND);
    else if (kind < 98)
        holds = check_now(trace, false);
    else
        holds = restart(trace, kind == 99);
    if (!holds) return false;
    acknowledge(trace);
    return true;
}

static bool any_shard_failed(const struct trace *trace) {
    const struct imv_engine *engine = trace->harness.engine;
    for (uint32_t shard = 0; shard < engine->shards_count; shard++) {
        if (imv_exchange_failure(&engine->exchange, shard) != NULL) return true;
    }
    return false;
}

/* After a step that met the fault: the end of the world, of the process, or of one journal. */
static bool step_faulted(struct trace *trace) {
    bool power = power_lost(trace);
    if (!power && !any_shard_failed(trace)) return true;
    HOLD(disk_faulted(trace) || store_faulted(trace), "failed without a fault");
    /* A failed journal leaves a process that can still read what it acknowledged. */
    if (!power) HOLD(check_now(trace, false), "with a failed journal");
    return restart(trace, power || draw(trace, 2) == 0);
}

static bool run_steps(struct trace *trace) {
    HOLD(reopen(trace), "first open");
    for (int i = 0; i < OPERATIONS; i++) {
        if (!step(trace) || !step_faulted(trace)) return false;
    }
    trace->fault = (struct fault){0};
    faults_arm(trace);
    HOLD(restart(trace, false), "last restart");
    HOLD(harness_flush(&trace->harness, &trace->err) == IMV_OK, "last flush");
    HOLD(check_now(trace, false), "at the end");
    HOLD(restart(trace, true), "very last restart");
    return true;
}

/* Runs one trace with one fault; *disk and *store, when not NULL, get the number of operations. */
static bool run(uint64_t seed, uint32_t shards, bool unique, const struct fault *fault, uint64_t *disk,
                uint64_t *store) {
    struct trace *trace = calloc(1, sizeof *trace);
    cr_assert_not_null(trace);
    trace->seed = seed;
    trace->unique = unique;
    trace->fault = *fault;
    imv_prng_init(&trace->prng, seed);
    harness_init(&trace->harness, "db", shards);
    trace->harness.wal_segment_bytes = 32 << 10; /* small, so that the journal turns over */
    /* Half of the days are over, and consolidated soon after they were written to. */
    trace->harness.cold_ns = HARNESS_SECOND;
    imv_manual_clock_advance(&trace->harness.clock, HARNESS_DAYS / 2 * HARNESS_DAY);
    uint64_t draw_disk = seed + fault->disk_operation + fault->store_operation;
    struct imv_sim_options options = {.seed = draw_disk,
                                      .survive_per_mille = (unsigned)(draw_disk % 3) * 500,
                                      .tear = draw_disk % 2 == 0,
                                      .reorder = draw_disk % 5 < 3};
    cr_assert_eq(imv_sim_new(&options, &trace->harness.sim, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_new(draw_disk, &trace->harness.kv_memory, NULL), IMV_OK);
    bool holds = run_steps(trace);
    if (disk != NULL) *disk = imv_sim_operations(trace->harness.sim);
    if (store != NULL) *store = imv_kv_memory_operations(trace->harness.kv_memory);
    while (trace->snapshots_count > 0) imv_snapshot_release(trace->snapshots[--trace->snapshots_count]);
    imv_engine_delete_end(trace->deletion.request);
    harness_close(&trace->harness);
    imv_kv_memory_free(trace->harness.kv_memory);
    imv_sim_free(trace->harness.sim);
    free(trace);
    return holds;
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

/* Every step-th operation of disk and store, each with all kinds of fault in turn. */
static void enumerate(uint32_t shards, bool unique) {
    imv_log_set_level(IMV_LOG_ERROR + 1); /* the faults speak for themselves */
    uint64_t first = number_from_environment("IMV_TEST_SEED", 1);
    uint64_t seeds = number_from_environment("IMV_CRASH_SEEDS", 2);
    uint64_t spread = number_from_environment("IMV_CRASH_STEP", 19);
    uint64_t runs = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        uint64_t disk, store;
        struct fault none = {0};
        cr_assert(run(seed, shards, unique, &none, &disk, &store));
        for (uint64_t n = 1 + seed % spread; n <= disk; n += spread) {
            const enum imv_sim_fault kinds[] = {IMV_SIM_CRASH, IMV_SIM_FAIL,  IMV_SIM_CRASH,
                                                IMV_SIM_SHORT, IMV_SIM_CRASH, IMV_SIM_NOSPC};
            struct fault fault = {
                .disk_operation = n, .disk_fault = kinds[(n / spread) % 6], .sticky = n / spread % 4 == 1};
            cr_assert(run(seed, shards, unique, &fault, NULL, NULL));
            runs++;
        }
        for (uint64_t n = 1 + seed % spread; n <= store; n += spread) {
            struct fault fault = {.store_operation = n,
                                  .store_fault = n / spread % 2 == 0 ? IMV_KV_MEMORY_CRASH : IMV_KV_MEMORY_FAIL};
            cr_assert(run(seed, shards, unique, &fault, NULL, NULL));
            runs++;
        }
    }
    fprintf(stderr, "shards=%u unique=%d: %llu traces with a fault, seeds %llu..%llu, %lld consolidations\n", shards,
            unique, (unsigned long long)runs, (unsigned long long)first, (unsigned long long)(first + seeds - 1),
            (long long)imv_metric_value(IMV_METRIC_consolidation_total));
    cr_assert_gt(imv_metric_value(IMV_METRIC_consolidation_total), 0);
}

Test(engine_crash, one_shard_survives_every_fault) {
    /* Rows that are written again and again, one shard: a fault at any operation loses and invents nothing. */
    enumerate(1, false);
}

Test(engine_crash, shards_survive_every_fault) {
    /* The same with three shards, whose journals and heads fail one by one and recover together. */
    enumerate(3, false);
}

Test(engine_crash, nothing_is_stored_twice) {
    /* With every row written once, exactly the rows that are read are stored, in one place each, after any recovery. */
    enumerate(2, true);
}
