/* Mixed load for a long time, in a memory group of twice the configured pools where the system lets us make one: memory
 * and descriptors stay flat, and no acknowledged row is lost.
 *
 * Writers over TCP and HTTP own their series. Round n of a writer is one row in each of its series with value n; every
 * fifth round is held back and sent late, so that slots are written again. A source of short-lived series runs beside
 * them, whose label has a short retention, and clients that ask. At the end each series must hold exactly the rounds
 * 0..n-1 that were acknowledged, each once. IMV_SOAK_SECONDS sets the time (default 8). */
#include "connectors/cli/ask.h"
#include "storage/value.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITERS = 4,
    HTTP_WRITERS = 2, /* the last ones */
    SERIES = 25,
    ROUNDS_PER_BATCH = 40,
    LATE_EACH = 5,      /* of so many rounds one is held back */
    LATE_BY = 40000,    /* rounds: 40 minutes of the series' own time */
    BATCHES_PER_S = 40, /* a writer's rate: 40,000 rows a second */
    LINE_BYTES = 96,
    BRIEF_PER_BATCH = 50, /* new series */
    MIB = 1 << 20,
    POOLS_MIB = 64 + 64 + 64 + 2 * 64,
    SAMPLES_MAX = 100000,
    FLAT_AFTER_S = 180,
};
static const int64_t step_ms = 60;

static struct test_server server;
static _Atomic bool stopping;

struct writer {
    int index;
    pthread_t thread;
    int64_t rounds; /* acknowledged without a gap, at the end */
};

/* ---- writing ---- */

static bool send_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool read_until(int fd, const char *end, char *text, size_t size) {
    for (size_t used = 0; used < size - 1;) {
        if (recv(fd, text + used, 1, 0) != 1) return false;
        text[++used] = 0;
        if (used >= strlen(end) && strcmp(text + used - strlen(end), end) == 0) return true;
    }
    return false;
}

/* Sends lines and waits until they are durable. */
static bool write_batch(int fd, bool http, const char *lines, size_t size) {
    char text[2048];
    if (!http) {
        return send_all(fd, lines, size) && send_all(fd, "#sync\n", 6) && read_until(fd, "\n", text, sizeof text) &&
               strncmp(text, "#ok ", 4) == 0;
    }
    int head = snprintf(text, sizeof text,
                        "POST /write?precision=ms HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", size);
    return send_all(fd, text, (size_t)head) && send_all(fd, lines, size) &&
           read_until(fd, "\r\n\r\n", text, sizeof text) && strncmp(text, "HTTP/1.1 204", 12) == 0;
}

static size_t put_round(char *to, int writer, bool http, int64_t round) {
    size_t used = 0;
    long timestamp = (long)(INT64_C(1760000000000) + round * step_ms);
    for (int series = 0; series < SERIES; series++)
        used += (size_t)sprintf(to + used, "soak,writer=w%d,series=s%d n=%ldi,half=%ld.5 %ld%s\n", writer, series,
                                (long)round, (long)round, timestamp, http ? "" : "000000");
    return used;
}

static void pace(const struct timespec *start, int64_t batch, int per_s) {
    struct timespec due = *start;
    int64_t ns = due.tv_nsec + batch * (INT64_C(1000000000) / per_s);
    due.tv_sec += ns / 1000000000;
    due.tv_nsec = ns % 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static bool is_late(int64_t round) { return round % LATE_EACH == LATE_EACH - 1; }

/* Each batch has new rounds but the late ones, and the late ones of LATE_BY rounds ago. */
static void *write_rows(void *argument) {
    struct writer *writer = argument;
    bool http = writer->index >= WRITERS - HTTP_WRITERS;
    char *lines = malloc((size_t)2 * ROUNDS_PER_BATCH * SERIES * LINE_BYTES);
    int fd = test_connect(http ? server.http_port : server.ilp_port);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int64_t next = 0;
    for (int64_t batch = 0; !atomic_load(&stopping); batch++) {
        pace(&start, batch, BATCHES_PER_S);
        size_t used = 0;
        for (int i = 0; i < ROUNDS_PER_BATCH; i++, next++) {
            if (!is_late(next)) used += put_round(lines + used, writer->index, http, next);
            if (next >= LATE_BY && is_late(next - LATE_BY))
                used += put_round(lines + used, writer->index, http, next - LATE_BY);
        }
        cr_assert(write_batch(fd, http, lines, used), "writer %d was refused, see %s", writer->index, server.log);
    }
    for (int64_t round = next > LATE_BY ? next - LATE_BY : 0; round < next; round++) {
        if (!is_late(round)) continue;
        size_t used = put_round(lines, writer->index, http, round);
        cr_assert(write_batch(fd, http, lines, used), "writer %d was refused, see %s", writer->index, server.log);
    }
    writer->rounds = next;
    close(fd);
    free(lines);
    return NULL;
}

/* New series all the time, each with one row of a label whose rows are soon gone. */
static void *write_brief(void *unused) {
    (void)unused;
    char lines[BRIEF_PER_BATCH * LINE_BYTES];
    int fd = test_connect(server.ilp_port);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int64_t next = 0;
    for (int64_t batch = 0; !atomic_load(&stopping); batch++) {
        pace(&start, batch, 4);
        clock_gettime(CLOCK_REALTIME, &now);
        size_t used = 0;
        for (int i = 0; i < BRIEF_PER_BATCH; i++)
            used += (size_t)sprintf(lines + used, "brief,id=b%ld x=1 %ld000000000\n", (long)next++, (long)now.tv_sec);
        cr_assert(write_batch(fd, false, lines, used), "brief series were refused, see %s", server.log);
    }
    close(fd);
    return NULL;
}

/* ---- asking ---- */

/* The rows of the answer, owned by the caller. */
static json_t *ask(const char *text) {
    struct imv_client *client;
    struct imv_buffer answer;
    struct imv_error err;
    int status = 0;
    imv_buffer_init(&answer, 64 << 20);
    cr_assert_eq(imv_client_new(server.url, &client, &err), IMV_OK, "%s", err.message);
    imv_status asked = imv_ask(client, imv_str_from(text), NULL, "application/json", false, imv_client_collect, &answer,
                               &status, &err);
    cr_assert_eq(asked, IMV_OK, "%s", err.message);
    cr_assert_eq(status, 200, "%s: %.*s", text, (int)answer.size, answer.data);
    json_t *root = json_loadb(answer.data, answer.size, 0, NULL);
    json_t *rows = json_incref(json_object_get(root, "rows"));
    json_decref(root);
    imv_buffer_release(&answer);
    imv_client_free(client);
    return rows;
}

static void *ask_again(void *unused) {
    (void)unused;
    static const char *const texts[] = {
        "MATCH (k:soak {writer: 'w1'}) RETURN k.series, k.n",
        "MATCH (k:soak {writer: 'w0', series: 's3'}) SAMPLES OF k AS s WINDOW 1m RETURN window.start, avg(s.half)",
        "MATCH (k:soak {series: 's7'}) SAMPLES OF k AS s FILTER s.n > 100 RETURN k.writer, count(*), max(s.n)",
        "MATCH (b:brief) RETURN count(b)",
    };
    for (size_t i = 0; !atomic_load(&stopping); i++) {
        json_decref(ask(texts[i % (sizeof texts / sizeof *texts)]));
        usleep(200000);
    }
    return NULL;
}

/* Each series holds the rounds 0..n-1, each once: count, sum, sum of squares and the ends leave no other way. */
static void check_rounds(const struct writer *writers) {
    json_t *rows = ask("MATCH (k:soak) SAMPLES OF k AS s RETURN k.writer, count(*), sum(s.n), sum(s.n * s.n), "
                       "min(s.n), max(s.n), k.series");
    cr_assert_eq(json_array_size(rows), WRITERS * SERIES);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        int64_t n = writers[atoi(json_string_value(json_array_get(row, 0)) + 1)].rounds;
        const int64_t expected[] = {n, n * (n - 1) / 2, (int64_t)((imv_int128)(n - 1) * n * (2 * n - 1) / 6), 0, n - 1};
        for (size_t k = 0; k < 5; k++)
            cr_assert_eq(json_integer_value(json_array_get(row, k + 1)), expected[k],
                         "%s %s, figure %zu: %lld, want %lld", json_string_value(json_array_get(row, 0)),
                         json_string_value(json_array_get(row, 6)), k,
                         (long long)json_integer_value(json_array_get(row, k + 1)), (long long)expected[k]);
    }
    json_decref(rows);
}

/* ---- watching ---- */

static long descriptors(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    long count = 0;
    while (directory != NULL && readdir(directory) != NULL) count++;
    closedir(directory);
    return count;
}

/* Private pages: what the process needs. Pages of mapped table files belong to the page cache. */
static long private_bytes(pid_t pid) {
    char path[64], line[128];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "RssAnon: %ld kB", &kib) == 1) break;
    }
    fclose(status);
    return kib * 1024;
}

struct samples {
    size_t count;
    long bytes[SAMPLES_MAX], descriptors[SAMPLES_MAX];
};

static long highest(const long *values, size_t from, size_t to) {
    long most = 0;
    for (size_t i = from; i < to; i++) most = values[i] > most ? values[i] : most;
    return most;
}

/* The last third may not need more than the one before, but for what is under way at a moment. Of a short run, in which
 * the heads still fill for the first time, only the bound is checked. */
static void expect_flat(const struct samples *samples, int seconds) {
    size_t third = samples->count / 3;
    long middle = highest(samples->bytes, third, 2 * third), last = highest(samples->bytes, 2 * third, samples->count);
    long open_middle = highest(samples->descriptors, third, 2 * third);
    long open_last = highest(samples->descriptors, 2 * third, samples->count);
    fprintf(stderr, "soak: private memory %ld MiB, then %ld MiB; descriptors %ld, then %ld\n", middle / MIB, last / MIB,
            open_middle, open_last);
    cr_expect_leq(last, 2L * POOLS_MIB * MIB);
    if (seconds < FLAT_AFTER_S) return;
    cr_expect_leq(last, middle + middle / 10 + 32 * MIB);
    cr_expect_leq(open_last, open_middle + open_middle / 10 + 16);
}

static bool put_number(const char *path, long number) {
    FILE *file = fopen(path, "w");
    if (file == NULL) return false;
    bool put = fprintf(file, "%ld", number) > 0;
    return fclose(file) == 0 && put;
}

/* Puts the server into a memory group (cgroup v1 or v2) of twice its pools; false where that is not allowed. */
static bool limit_memory(char *group, size_t size) {
    static const char *const roots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    static const char *const limits[] = {"memory.limit_in_bytes", "memory.max"};
    for (int i = 0; i < 2; i++) {
        char path[400];
        snprintf(group, size, "%s/imvdb-soak-%d", roots[i], (int)server.pid);
        if (mkdir(group, 0755) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", group, limits[i]);
        bool limited = put_number(path, 2L * POOLS_MIB * MIB);
        snprintf(path, sizeof path, "%s/cgroup.procs", group);
        if (limited && put_number(path, server.pid)) return true;
        rmdir(group);
    }
    return false;
}

Test(soak, memory_and_descriptors_stay_flat_and_nothing_acknowledged_is_lost, .timeout = 7200) {
    const char *program = test_program(IMV_SOURCE_DIR), *given = getenv("IMV_SOAK_SECONDS");
    if (program == NULL) cr_skip_test("the release program is not built");
    int seconds = given == NULL ? 8 : atoi(given);
    static const char *const extra[] = {
        "--set", "storage.head_memory=64MiB",      "--set", "storage.batch_memory=64MiB",
        "--set", "limits.connection_memory=64MiB", "--set", "limits.query_memory=64MiB",
        "--set", "limits.query_threads=2",         "--set", "storage.wal=256MiB",
        "--set", "storage.flush_age=10s",          "--set", "retention.brief=60s",
        NULL};
    test_directory(server.directory, sizeof server.directory, "soak");
    cr_assert(test_server_start(&server, program, extra), "no start, see %s", server.log);
    char group[300];
    bool limited = limit_memory(group, sizeof group);
    fprintf(stderr, "soak: %d s, %s\n", seconds,
            limited ? "in a memory group of twice the pools" : "no memory group can be made here");
    static struct writer writers[WRITERS];
    pthread_t brief, asker;
    for (int w = 0; w < WRITERS; w++) {
        writers[w].index = w;
        cr_assert_eq(pthread_create(&writers[w].thread, NULL, write_rows, &writers[w]), 0);
    }
    cr_assert_eq(pthread_create(&brief, NULL, write_brief, NULL), 0);
    cr_assert_eq(pthread_create(&asker, NULL, ask_again, NULL), 0);
    static struct samples samples;
    for (int i = 0; i < seconds * 2 && samples.count < SAMPLES_MAX; i++, samples.count++) {
        usleep(500000);
        samples.bytes[samples.count] = private_bytes(server.pid);
        samples.descriptors[samples.count] = descriptors(server.pid);
    }
    atomic_store(&stopping, true);
    for (int w = 0; w < WRITERS; w++) pthread_join(writers[w].thread, NULL);
    pthread_join(brief, NULL);
    pthread_join(asker, NULL);
    check_rounds(writers);
    int64_t rows = 0;
    for (int w = 0; w < WRITERS; w++) rows += writers[w].rounds * SERIES;
    fprintf(stderr, "soak: %ld rows acknowledged, none lost, none twice\n", (long)rows);
    expect_flat(&samples, seconds);
    cr_expect_eq(test_server_stop(&server, SIGTERM), 0, "an orderly stop ends with 0");
    if (limited) rmdir(group);
    char report[65536];
    const char *const arguments[] = {"check", server.directory, NULL};
    cr_expect_eq(test_run(program, arguments, report, sizeof report), 0, "%s", report);
    test_directory_remove(server.directory);
    unlink(server.log);
}
