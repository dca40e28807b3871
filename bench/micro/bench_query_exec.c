/* bench_query_exec - the TSBS queries from their text to the bytes of a JSON answer, and the pieces under them.
 *
 *     bench_query_exec [hosts] [rows] [threads]
 *
 * A whole engine on this thread: `hosts` series (default 4,000) of ten tags and ten integer fields, `rows` rows each
 * (default 720: two hours of one every ten seconds), in heads and then in chunks. Queries have `threads` (default 1)
 * threads, their own included. Each query runs some times; the best and
 * the middle time count, and the least CPU time of all threads.
 *
 * Estimates for the defaults: avg of ten fields by host and ten minutes decodes 24 M values (1.5 ns each) and adds them
 * (0.5 ns): 50 ms. The 240,000 rows above 90 are 2.9 M printed values of 10 ns: 30 ms, and 29 MB of text. The current
 * values of 4,000 hosts are 4,000 reads of eleven columns, 5 us each: 20 ms.
 */
#include "engine/engine.h"
#include "engine/shard.h"
#include "query/number.h"
#include "query/sink/sink.h"
#include "query/value.h"
#include "query/workers.h"
#include "storage/base/assert.h"
#include "storage/base/prng.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { FIELDS = 10, TAGS = 10, ROUNDS = 7 };

#define SECOND INT64_C(1000000000)
#define STEP   (10 * SECOND)
static const int64_t begin_ns = INT64_C(1767225600) * SECOND; /* 2026-01-01 */

static const char *const fields[FIELDS] = {"usage_user",   "usage_system",    "usage_idle",    "usage_nice",
                                           "usage_iowait", "usage_irq",       "usage_softirq", "usage_steal",
                                           "usage_guest",  "usage_guest_nice"};

static struct imv_engine *engine;
static struct imv_io *io;
static struct imv_shard *shard;
static struct imv_writer *writer;
static struct imv_workers *workers;

static void must(imv_status status, const struct imv_error *err) {
    if (status == IMV_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static double now_ms(void) { return (double)imv_clock_monotonic_ns(imv_clock_system()) / 1e6; }

/* CPU time of all threads: what can be compared while others use the machine. */
static double work_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* ---- data ---- */

static void open_engine(const char *directory) {
    struct imv_engine_options options;
    struct imv_error err;
    imv_engine_options_init(&options, directory);
    options.shards = 1;
    options.background = false;
    must(imv_engine_open(&options, &engine, &err), &err);
    must(imv_io_sys_new(&io, &err), &err);
    must(imv_shard_open(engine, 0, io, &shard, &err), &err);
    must(imv_writer_new(engine, 0, &writer, &err), &err);
}

static void close_engine(void) {
    imv_writer_free(writer);
    imv_shard_close(shard);
    imv_engine_close(engine);
    imv_io_free(io);
}

static void turn(void) {
    imv_writer_send(writer);
    imv_shard_run(shard);
    imv_io_poll(io, false);
    imv_shard_run(shard);
}

static struct imv_series *make_series(uint32_t host) {
    static const char *const keys[TAGS] = {
        "hostname", "region",          "datacenter",         "rack", "os", "arch", "team",
        "service",  "service_version", "service_environment"};
    static const uint32_t different[TAGS] = {UINT32_MAX, 9, 27, 100, 3, 2, 4, 20, 2, 3};
    struct imv_tag tags[TAGS];
    char values[TAGS][32], raw[32];
    struct imv_series *series;
    struct imv_error err;
    for (int i = 0; i < TAGS; i++) {
        snprintf(values[i], sizeof values[i], "%s_%" PRIu32, i == 0 ? "host" : "value", host % different[i]);
        tags[i] = (struct imv_tag){imv_str_from(keys[i]), imv_str_from(values[i])};
    }
    snprintf(raw, sizeof raw, "cpu,%" PRIu32, host);
    must(imv_writer_make_series(writer, imv_str_from(raw), IMV_STR("cpu"), tags, TAGS, &series, &err), &err);
    return series;
}

/* Random walks over whole percents. */
static void fill(uint32_t hosts, uint32_t rows) {
    struct imv_error err;
    struct imv_prng prng;
    struct imv_series **series = calloc(hosts, sizeof *series);
    uint8_t(*state)[FIELDS] = calloc(hosts, sizeof *state);
    if (series == NULL || state == NULL) abort();
    imv_prng_init(&prng, 1);
    for (uint32_t host = 0; host < hosts; host++) {
        series[host] = make_series(host);
        for (int i = 0; i < FIELDS; i++) state[host][i] = (uint8_t)imv_prng_below(&prng, 101);
    }
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t host = 0; host < hosts; host++) {
            while (!imv_writer_has_room(writer)) turn();
            must(imv_writer_begin(writer, series[host], FIELDS, 0, &err), &err);
            for (int i = 0; i < FIELDS; i++) {
                int next = state[host][i] + (int)imv_prng_below(&prng, 3) - 1;
                state[host][i] = (uint8_t)(next < 0 ? 0 : next > 100 ? 100 : next);
                must(imv_writer_field(writer, imv_str_from(fields[i]), IMV_INTEGER, state[host][i], &err), &err);
            }
            must(imv_writer_end(writer, begin_ns + row * STEP, &err), &err);
            if (host % 500 == 499) turn();
        }
    }
    for (int i = 0; i < 1000 || imv_shard_busy(shard); i++) turn();
    free(series);
    free(state);
}

static void flush(void) {
    struct imv_error err;
    bool did_work = true;
    imv_engine_flush_begin(engine);
    while (did_work || !imv_engine_flushed(engine)) {
        turn();
        must(imv_engine_background_step(engine, &did_work, &err), &err);
    }
}

/* ---- queries ---- */

static bool count_bytes(void *context, const char *bytes, size_t size) {
    (void)bytes;
    *(size_t *)context += size;
    return true;
}

static int compare_doubles(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void query(const char *name, const char *text) {
    double times[ROUNDS], work[ROUNDS];
    size_t bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct imv_text_sink sink;
        struct imv_query_error error;
        struct imv_query_request request = {
            .text = imv_str_from(text), .deadline_ns = INT64_MAX, .memory_bytes_max = 1 << 30, .workers = workers};
        bytes = 0;
        imv_text_sink_init(&sink, IMV_SINK_JSON, false, count_bytes, &bytes);
        double start = now_ms(), start_work = work_ms();
        if (imv_query_run(engine, &request, &sink.sink, &error) != IMV_OK) {
            fprintf(stderr, "%s: %s\n", text, error.message);
            exit(1);
        }
        times[round] = now_ms() - start;
        work[round] = work_ms() - start_work;
        imv_text_sink_release(&sink);
    }
    qsort(times, ROUNDS, sizeof *times, compare_doubles);
    qsort(work, ROUNDS, sizeof *work, compare_doubles);
    printf("  %-24s best %9.3f ms  middle %9.3f ms  work %9.3f ms  %10zu bytes\n", name, times[0], times[ROUNDS / 2],
           work[0], bytes);
    fflush(stdout);
}

static void each_field(char *text, size_t size, const char *function) {
    size_t used = strlen(text);
    for (int i = 0; i < FIELDS; i++)
        used += (size_t)snprintf(text + used, size - used, function[0] == 0 ? ", %ss.%s" : ", %s(s.%s)", function,
                                 fields[i]);
}

static void queries(uint32_t rows) {
    char text[4096], span[160];
    int64_t end = begin_ns + rows * STEP, a = begin_ns + 60 * SECOND, hour = a + 3600 * SECOND;
    int64_t most = a + (end - a) / STEP * 5 / 6 * STEP;
    snprintf(span, sizeof span, "FROM %" PRId64 " TO %" PRId64, a, hour);
    snprintf(text, sizeof text,
             "MATCH (h:cpu) WHERE h.hostname IN ['host_17'] SAMPLES OF h AS s %s WINDOW 1m RETURN window.start AS t, "
             "max(s.usage_user) ORDER BY t",
             span);
    query("single-groupby-1-1-1", text);
    snprintf(
        text, sizeof text,
        "MATCH (h:cpu) WHERE h.hostname IN ['host_1','host_2','host_3','host_4','host_5','host_6','host_7','host_8'] "
        "SAMPLES OF h AS s %s WINDOW 1m RETURN window.start AS t",
        span);
    each_field(text, sizeof text, "max");
    strcat(text, " ORDER BY t");
    query("cpu-max-all-8", text);
    snprintf(span, sizeof span, "FROM %" PRId64 " TO %" PRId64, a, most);
    snprintf(text, sizeof text,
             "MATCH (h:cpu) SAMPLES OF h AS s %s WINDOW 10m RETURN h.hostname, window.start AS t, avg(s.usage_user)",
             span);
    query("double-groupby-1", text);
    snprintf(text, sizeof text, "MATCH (h:cpu) SAMPLES OF h AS s %s WINDOW 10m RETURN h.hostname, window.start AS t",
             span);
    each_field(text, sizeof text, "avg");
    query("double-groupby-all", text);
    snprintf(text, sizeof text, "MATCH (h:cpu) SAMPLES OF h AS s %s FILTER s.usage_user > 90 RETURN h.hostname, s.ts",
             span);
    each_field(text, sizeof text, "");
    query("high-cpu-all", text);
    snprintf(text, sizeof text, "MATCH (h:cpu) RETURN h.hostname, last_time(h)");
    for (int i = 0; i < FIELDS; i++) {
        strcat(text, ", h.");
        strcat(text, fields[i]);
    }
    query("lastpoint", text);
    snprintf(text, sizeof text,
             "MATCH (h:cpu) SAMPLES OF h AS s TO %" PRId64
             " WINDOW 1m RETURN window.start AS t, max(s.usage_user) ORDER BY t DESC LIMIT 5",
             most);
    query("groupby-orderby-limit", text);
    query("count", "MATCH (h:cpu) SAMPLES OF h AS s RETURN count(*)");
}

/* What a day or more of rows is asked for: one hour of it, and all its hours. */
static void old_hours(uint32_t rows) {
    enum { HOUR = 3600, COUNT_MIN = 4 * HOUR };
    char text[1024];
    if (rows * (STEP / SECOND) < COUNT_MIN) return;
    int64_t hour = (begin_ns / SECOND / HOUR + 2) * HOUR * SECOND;
    snprintf(text, sizeof text,
             "MATCH (h:cpu) SAMPLES OF h AS s FROM %" PRId64 " TO %" PRId64 " RETURN h.hostname, avg(s.usage_user)",
             hour, hour + HOUR * SECOND);
    query("old-hour-avg", text);
    snprintf(text, sizeof text,
             "MATCH (h:cpu) SAMPLES OF h AS s FROM %" PRId64 " TO %" PRId64 " RETURN h.hostname, s.ts, s.usage_user",
             hour, hour + HOUR * SECOND);
    query("old-hour-rows", text);
    query("hourly-avg-1", "MATCH (h:cpu) SAMPLES OF h AS s WINDOW 1h RETURN h.hostname, window.start AS t, "
                          "avg(s.usage_user)");
    snprintf(text, sizeof text, "MATCH (h:cpu) SAMPLES OF h AS s WINDOW 1h RETURN h.hostname, window.start AS t");
    each_field(text, sizeof text, "avg");
    query("hourly-avg-all", text);
}

/* ---- pieces ---- */

static void print_numbers(const char *name, double scale) {
    enum { COUNT = 1000000 };
    char text[IMV_FLOAT_BYTES_MAX];
    size_t bytes = 0;
    double start = now_ms();
    for (int i = 0; i < COUNT; i++) bytes += imv_float_print(text, (double)(i * 7 % 6000) / scale);
    printf("  %-24s %6.1f ns a number, %.1f bytes\n", name, (now_ms() - start) * 1e6 / COUNT, (double)bytes / COUNT);
}

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *position) {
    (void)status, (void)flag, (void)position;
    return remove(path);
}

int main(int argc, char **argv) {
    uint32_t hosts = argc > 1 ? (uint32_t)atoi(argv[1]) : 4000, rows = argc > 2 ? (uint32_t)atoi(argv[2]) : 720;
    char directory[] = "/tmp/imv_bench_query_XXXXXX";
    if (mkdtemp(directory) == NULL) return 1;
    printf("doubles\n");
    print_numbers("whole and halves", 2);
    print_numbers("sixtieths", 60);
    open_engine(directory);
    uint32_t threads = argc > 3 ? (uint32_t)atoi(argv[3]) : 1;
    struct imv_error err;
    must(imv_workers_new(threads - 1, INT64_C(300000), &workers, &err), &err);
    double start = now_ms();
    fill(hosts, rows);
    printf("%" PRIu32 " hosts x %" PRIu32 " rows in heads (%.1f s)\n", hosts, rows, (now_ms() - start) / 1e3);
    queries(rows);
    flush();
    printf("in chunks\n");
    queries(rows);
    old_hours(rows);
    imv_workers_free(workers);
    close_engine();
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
