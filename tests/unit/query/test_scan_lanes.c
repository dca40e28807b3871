#include "query/workers.h"
#include "storage/base/prng.h"
#include "tests/unit/query/query_rig.h"

#include <math.h>

/* The rows of a statement must not depend on shortcuts, threads and where the data lies. */

#define SECOND INT64_C(1000000000)
#define BEGIN  (INT64_C(1700000000) * SECOND)

enum { SERIES = 40, STEPS = 150, ANSWER_BYTES_MAX = 8 << 20 };

static struct rig rig;
static struct imv_workers *workers;

/* Two labels; fields of all types, one of them an integer here and text there; gaps, late and repeated times; some rows
 * in chunks, some in heads. */
static void write_series(struct imv_prng *prng, int series, int step) {
    static const char *const texts[] = {"on", "off", "unknown"};
    static const double doubles[] = {0.0, -0.0, 1e300, -1e300, 0.1, 1e-5, NAN, INFINITY};
    char tags[32];
    struct rig_field fields[5];
    uint32_t count = 0;
    int64_t time = BEGIN + step * 7 * SECOND + (int64_t)imv_prng_below(prng, 5) * SECOND;
    bool is_late = imv_prng_below(prng, 15) == 0;
    if (is_late) time -= (int64_t)imv_prng_below(prng, 400) * SECOND;
    double number = imv_prng_below(prng, 30) == 0 ? doubles[imv_prng_below(prng, 8)]
                                                  : (double)imv_prng_below(prng, 100000) / 7 - 4000;
    snprintf(tags, sizeof tags, "k=k%d,g=%d", series, series % 3);
    fields[count++] = (struct rig_field){"i", IMV_INTEGER, (uint64_t)((int64_t)imv_prng_below(prng, 999) - 500), NULL};
    if (imv_prng_below(prng, 3) > 0) fields[count++] = (struct rig_field){"f", IMV_FLOAT, imv_float_cell(number), NULL};
    if (imv_prng_below(prng, 4) == 0)
        fields[count++] = (struct rig_field){"u", IMV_UINTEGER, UINT64_MAX - imv_prng_below(prng, 9), NULL};
    if (imv_prng_below(prng, 2) == 0)
        fields[count++] = (struct rig_field){"b", IMV_BOOLEAN, imv_prng_below(prng, 2), NULL};
    if (series % 4 == 0)
        fields[count++] = (struct rig_field){"x", IMV_STRING, 0, texts[imv_prng_below(prng, 3)]};
    else
        fields[count++] = (struct rig_field){"x", IMV_INTEGER, imv_prng_below(prng, 50), NULL};
    rig_write(&rig, series % 4 == 0 ? "text" : "number", tags, time, fields, count);
}

static void setup(void) {
    struct imv_prng prng;
    struct imv_error err;
    imv_prng_init(&prng, 4711);
    rig_open(&rig);
    for (int step = 0; step < STEPS; step++) {
        if (step == STEPS / 3 || step == STEPS / 2) rig_settle(&rig, true);
        for (int series = 0; series < SERIES; series++)
            if (step % (1 + series % 3) == 0) write_series(&prng, series, step);
        rig_settle(&rig, false);
    }
    rig_must(imv_workers_new(3, 0, &workers, &err), &err);
}

static void teardown(void) {
    imv_workers_free(workers);
    rig_close(&rig);
}

static const char *const statements[] = {
    "MATCH (h:number) SAMPLES OF h AS s RETURN count(*)",
    "MATCH (h:number) SAMPLES OF h AS s RETURN count(*), count(s.f), sum(s.i), min(s.i), max(s.i), avg(s.i)",
    "MATCH (h) SAMPLES OF h AS s RETURN h.g, count(s.x), sum(s.i), min(s.b), max(s.b)",
    "MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN window.start AS t, h.g, min(s.x), max(s.x), count(*)",
    "MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN h.k, window.start, sum(s.x)",
    "MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN h.k, window.start, sum(s.b)",
    "MATCH (h:number) SAMPLES OF h AS s WINDOW 1m RETURN h.k, window.start, sum(s.f), avg(s.f), min(s.f), max(s.f)",
    "MATCH (h:number) SAMPLES OF h AS s WINDOW 13s RETURN window.start, sum(s.f), avg(s.f), min(s.f), max(s.f)",
    "MATCH (h) SAMPLES OF h AS s WINDOW 90s RETURN h.k, window, first(s.i), last(s.i), first(s.f), last(s.u)",
    "MATCH (h) SAMPLES OF h AS s WINDOW 90s RETURN window.end, first(s.i), last(s.i), first(s.x), last(s.b)",
    "MATCH (h) SAMPLES OF h AS s FROM 1700000100000000000 TO 1700000400000000000 WINDOW 1m RETURN h.g, window.start, "
    "sum(s.u), avg(s.u), max(s.u)",
    "MATCH (h:number) WHERE h.g = '1' SAMPLES OF h AS s WINDOW 2m FILL null RETURN h.k, window.start, avg(s.i)",
    "MATCH (h:number) WHERE h.g = '9' SAMPLES OF h AS s RETURN count(*), sum(s.i), avg(s.f), min(s.f), first(s.i)",
    "MATCH (h) SAMPLES OF h.f AS v WINDOW 1m RETURN h.k, window.start, count(*), avg(v.value), last(v.value)",
    "MATCH (h) SAMPLES OF h.f AS v RETURN count(*), count(v.value)",
    "MATCH (h) SAMPLES OF h AS s RETURN h.k, s.ts, s.i, s.x, s.f",
    "MATCH (h) SAMPLES OF h AS s FILTER s.i > 300 RETURN h.k, s.ts, s.i, s.x, s.b",
    "MATCH (h) SAMPLES OF h AS s FILTER s.i > 450 RETURN h.k, s.ts, s.i, s.f, s.x, s.u",
    "MATCH (h) SAMPLES OF h AS s FILTER -480.5 >= s.i RETURN h.k, s.ts, s.i, s.b",
    "MATCH (h) SAMPLES OF h AS s FILTER s.f < -3990 AND s.i <= 100 RETURN h.k, s.ts, s.f, s.i",
    "MATCH (h) SAMPLES OF h AS s FILTER s.f = 0 RETURN h.k, s.ts, s.f",
    "MATCH (h) SAMPLES OF h AS s FILTER s.f > 1e299 RETURN h.k, s.ts, s.f",
    "MATCH (h) SAMPLES OF h AS s FILTER s.u >= 18446744073709551610 RETURN h.k, s.ts, s.u",
    "MATCH (h) SAMPLES OF h AS s FILTER s.u < 5 OR s.i = 77 RETURN h.k, s.ts, s.u, s.i",
    "MATCH (h) SAMPLES OF h AS s FILTER s.x >= 48 RETURN h.k, s.ts, s.x",
    "MATCH (h) SAMPLES OF h AS s FILTER s.i > 480 WINDOW 1m RETURN h.g, window.start, count(*), max(s.f)",
    "MATCH (h) SAMPLES OF h.i AS v FILTER v.value > 490 RETURN h.k, v.ts, v.value",
    "MATCH (h) SAMPLES OF h AS s FILTER s.i > 490 AND 1 / (s.i - 491) < 5 RETURN h.k, s.ts, s.i",
    "MATCH (h) SAMPLES OF h AS s FILTER s.i > null RETURN count(*)",
    "MATCH (h) SAMPLES OF h AS s FILTER s.x = 'on' RETURN h.k, s",
    "MATCH (h) SAMPLES OF h.x AS v RETURN h.k, v.ts, v.value LIMIT 1500",
    "MATCH (h) SAMPLES OF h AS s RETURN h.k, s.ts, s.i ORDER BY s.ts DESC, h.k LIMIT 25",
    "MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN h.g, window.start, stdev(s.i), percentile_cont(s.i, 0.5), "
    "count(DISTINCT s.i)",
    "MATCH (h) WITH h, h.g AS g WHERE g <> '2' SAMPLES OF h AS s WINDOW 1m RETURN g, window.start AS t, max(s.i) ORDER "
    "BY "
    "t DESC, g LIMIT 7",
    "MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN window.start AS t, max(s.i), count(*) ORDER BY t DESC LIMIT 5",
    "MATCH (h) SAMPLES OF h AS s WINDOW 10s RETURN window.start AS t, h.g AS g, sum(s.i) ORDER BY t DESC, g SKIP 3 "
    "LIMIT 9",
    "MATCH (h) SAMPLES OF h AS s WINDOW 10s RETURN h.k AS k, window.start AS t, last(s.x) ORDER BY t DESC LIMIT 50",
    "MATCH (h) SAMPLES OF h AS s FROM 1700000100000000000 TO 1700000400000000000 WINDOW 1m RETURN window.start AS t, "
    "count(*) ORDER BY t DESC LIMIT 100",
    "MATCH (h:number) SAMPLES OF h AS s TO 1700000400000000000 WINDOW 7s RETURN window.start AS t, count(*) AS c ORDER "
    "BY "
    "t DESC, c LIMIT 3",
    "MATCH (h) SAMPLES OF h AS s WINDOW 1h RETURN window.start AS t, count(*) ORDER BY t DESC LIMIT 0",
    "MATCH (h) WHERE h.k = 'k7' SAMPLES OF h AS s RETURN s.ts, s.i ORDER BY s.ts DESC LIMIT 3",
    "MATCH (h) SAMPLES OF h AS s FILTER s.i > 100 RETURN h.k AS k, s.ts AS t, s.i ORDER BY t DESC, k SKIP 5 LIMIT 40",
    "MATCH (h) SAMPLES OF h AS s RETURN s.ts AS t, s.i AS i ORDER BY t DESC LIMIT 100000",
    "MATCH (h) SAMPLES OF h AS s TO 1700000300000000000 WITH h, s.ts AS u, s.f AS f WHERE f > 0 RETURN u AS t, f, h.k "
    "ORDER BY t DESC LIMIT 12",
    "MATCH (h) SAMPLES OF h AS s RETURN s.i AS i, s.ts ORDER BY i DESC, s.ts DESC LIMIT 12",
    "MATCH (h:nothing) SAMPLES OF h AS s RETURN s.ts ORDER BY s.ts DESC LIMIT 12",
    "MATCH (h:nothing) SAMPLES OF h AS s WINDOW 1h RETURN window.start AS t, count(*) ORDER BY t DESC LIMIT 2",
    "UNWIND [1, 2] AS n MATCH (h) WHERE h.g = '0' SAMPLES OF h AS s RETURN n, h.k, count(*), max(s.i)",
    "UNWIND [null, 5] AS n SAMPLES OF n AS s RETURN count(*)",
    "MATCH (h) SAMPLES OF h AS s RETURN sum(s.u)",
};
enum { STATEMENTS = sizeof statements / sizeof *statements };

/* The plain way, each shortcut, and with helpers: one answer. */
Test(scan_lanes, answers_do_not_depend_on_the_way, .init = setup, .fini = teardown, .timeout = 120) {
    char *wanted = malloc(ANSWER_BYTES_MAX);
    for (int i = 0; i < STATEMENTS; i++) {
        rig.workers = NULL;
        rig.without = ~0u;
        snprintf(wanted, ANSWER_BYTES_MAX, "%s", rig_run(&rig, statements[i]));
        for (int way = 0; way < 6; way++) {
            rig.workers = way >= 2 ? workers : NULL;
            rig.without = way % 2 == 1 ? ~0u : 0;
            const char *answer = rig_run(&rig, statements[i]);
            cr_assert_str_eq(answer, wanted, "%s, way %d\n gives\n%s\n wanted\n%s", statements[i], way, answer, wanted);
        }
    }
    free(wanted);
}

static void expect_plan(const char *text, const char *words) {
    const char *plan = rig_run(&rig, text);
    cr_assert(strstr(plan, words) != NULL, "%s\n gives\n%s\n without %s", text, plan, words);
}

/* EXPLAIN says where a shortcut is taken, and it is taken where this test believes that it is. */
Test(scan_lanes, plans_tell_their_shortcuts, .init = setup, .fini = teardown) {
    expect_plan("EXPLAIN MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN h.k, window.start, sum(s.i)",
                ", in buckets of 1m");
    expect_plan("EXPLAIN MATCH (h) SAMPLES OF h AS s RETURN h.g, first(s.f)", ", in buckets\"");
    expect_plan("EXPLAIN MATCH (h) SAMPLES OF h AS s WINDOW 1m RETURN h.k, window.start AS t, max(s.i) ORDER BY t DESC "
                "LIMIT 3",
                ", newest windows first");
    expect_plan("EXPLAIN MATCH (h) SAMPLES OF h AS s RETURN h.k, s.ts AS t ORDER BY t DESC LIMIT 3",
                ", newest samples first");
    rig_run(&rig, "EXPLAIN MATCH (h) SAMPLES OF h AS s RETURN stdev(s.i)");
    cr_assert(strstr(rig.answer.data, "buckets") == NULL);
}

/* A query that ends early, by its limit, its deadline, its memory or a cancellation, leaves no helper behind. */
Test(scan_lanes, early_ends_stop_helpers, .init = setup, .fini = teardown, .timeout = 120) {
    static const char text[] = "MATCH (h), (g) SAMPLES OF h AS s RETURN h.k, s.ts, s.i, s.x";
    static _Atomic bool cancelled = true;
    rig.workers = workers;
    for (int round = 0; round < 20; round++) {
        cr_assert_eq(rig_try(&rig, "MATCH (h), (g) SAMPLES OF h AS s RETURN h.k, s.ts LIMIT 3"), IMV_OK);
        rig.deadline_ns = imv_clock_monotonic_ns(&rig.harness.clock.clock);
        cr_assert_eq(rig_try(&rig, text), IMV_TIMEOUT);
        rig.deadline_ns = INT64_MAX;
        rig.memory_bytes_max = 200000 + 50000 * (size_t)round;
        imv_status status = rig_try(&rig, text);
        cr_assert(status == IMV_FULL || status == IMV_OK);
        rig.memory_bytes_max = 256 << 20;
        rig.cancelled = &cancelled;
        cr_assert_eq(rig_try(&rig, text), IMV_CANCELLED);
        rig.cancelled = NULL;
    }
}

struct counted {
    struct imv_worker_task task;
    _Atomic int runs;
};

static void count_run(struct imv_worker_task *task) { ((struct counted *)(void *)task)->runs++; }

/* Every task that is submitted is run once, or withdrawn. */
Test(workers, tasks_run_or_are_withdrawn) {
    enum { TASKS = 200 };
    static struct counted tasks[TASKS];
    struct imv_error err;
    struct imv_workers *pool;
    rig_must(imv_workers_new(2, 0, &pool, &err), &err);
    int withdrawn = 0, runs = 0;
    for (int i = 0; i < TASKS; i++) {
        tasks[i].task.run = count_run;
        imv_workers_submit(pool, &tasks[i].task);
        if (i % 3 == 0) withdrawn += imv_workers_withdraw(pool, &tasks[i / 2].task);
    }
    for (int i = 0; i < TASKS; i++) withdrawn += imv_workers_withdraw(pool, &tasks[i].task);
    imv_workers_free(pool);
    for (int i = 0; i < TASKS; i++) runs += tasks[i].runs;
    cr_assert_eq(runs + withdrawn, TASKS);
}
