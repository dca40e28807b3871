/* kill -9 under full load, again and again, with this process keeping what was acknowledged.
 *
 * Each writer has its own connection and series; its rows carry a sequence number as value and as timestamp. After each
 * restart every series must hold exactly the numbers 0..n-1, each once, and n must be at least what was acknowledged.
 * IMV_KILL_CYCLES sets the number of cycles (default 5). */
#include "connectors/cli/ask.h"
#include "storage/base/prng.h"
#include "storage/value.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS = 4, SERIES = 25, ROUNDS_PER_BATCH = 20, LINE_BYTES = 96 };

struct writer {
    int index;
    uint16_t port;
    pthread_t thread;
    int64_t next;                 /* round that is sent next: one row to each series */
    _Atomic int64_t acknowledged; /* rounds below this are acknowledged */
    _Atomic bool stop;
};

static size_t put_round(char *to, int writer, int64_t round) {
    size_t used = 0;
    for (int series = 0; series < SERIES; series++)
        used += (size_t)sprintf(to + used, "kill,writer=w%d,series=s%d n=%ldi,half=%ld.5 %ld\n", writer, series,
                                (long)round, (long)round, (long)round);
    return used;
}

static bool send_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* Reads one "#ok N" line. */
static bool read_ok(int fd) {
    char line[128];
    for (size_t used = 0; used < sizeof line; used++) {
        if (recv(fd, line + used, 1, 0) != 1) return false;
        if (line[used] == '\n') return memcmp(line, "#ok ", 4) == 0;
    }
    return false;
}

/* Two batches are under way at a time, so that the server is never idle. */
static void *write_rows(void *argument) {
    struct writer *writer = argument;
    char *batch = malloc((size_t)ROUNDS_PER_BATCH * SERIES * LINE_BYTES);
    int fd = test_connect(writer->port);
    int64_t open_round = -1; /* rounds below it are acknowledged by the answer that is awaited */
    while (fd >= 0 && !atomic_load(&writer->stop)) {
        size_t used = 0;
        for (int i = 0; i < ROUNDS_PER_BATCH; i++) used += put_round(batch + used, writer->index, writer->next++);
        if (!send_all(fd, batch, used) || !send_all(fd, "#sync\n", 6)) break;
        if (open_round >= 0) {
            if (!read_ok(fd)) break;
            atomic_store(&writer->acknowledged, open_round);
        }
        open_round = writer->next;
    }
    if (fd >= 0) close(fd);
    free(batch);
    return NULL;
}

/* 0 + 1 + 4 + ... + (n-1)^2: with count, sum, minimum and maximum it leaves no room for a row too many and one too
 * few. */
static int64_t sum_of_squares(int64_t n) { return (int64_t)((imv_int128)(n - 1) * n * (2 * n - 1) / 6); }

/* Asks for count, sum of squares, min, max and sum of each series and checks them against the writers. */
static void check(struct test_server *server, struct writer *writers, int cycle) {
    struct imv_client *client;
    struct imv_error err;
    struct imv_buffer answer;
    int status;
    imv_buffer_init(&answer, 64 << 20);
    cr_assert_eq(imv_client_new(server->url, &client, &err), IMV_OK);
    imv_status asked =
        imv_ask(client,
                IMV_STR("MATCH (k:kill) SAMPLES OF k AS s RETURN k.writer, k.series, count(*), sum(s.n * s.n), "
                        "min(s.n), max(s.n), sum(s.n), sum(s.half)"),
                NULL, "application/json", false, imv_client_collect, &answer, &status, &err);
    cr_assert_eq(asked, IMV_OK, "cycle %d: %s", cycle, err.message);
    cr_assert_eq(status, 200, "cycle %d: %.*s", cycle, (int)answer.size, answer.data);
    json_t *root = json_loadb(answer.data, answer.size, 0, NULL);
    const json_t *rows = json_object_get(root, "rows");
    int64_t stored[WRITERS][SERIES] = {0};
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        int writer = atoi(json_string_value(json_array_get(row, 0)) + 1);
        int series = atoi(json_string_value(json_array_get(row, 1)) + 1);
        int64_t count = json_integer_value(json_array_get(row, 2));
        stored[writer][series] = count;
        cr_assert_eq(json_integer_value(json_array_get(row, 3)), sum_of_squares(count),
                     "cycle %d w%d s%d: a row is there twice", cycle, writer, series);
        cr_assert_eq(json_integer_value(json_array_get(row, 4)), 0);
        cr_assert_eq(json_integer_value(json_array_get(row, 5)), count - 1, "cycle %d w%d s%d: a gap", cycle, writer,
                     series);
        cr_assert_eq(json_integer_value(json_array_get(row, 6)), count * (count - 1) / 2);
        cr_assert_float_eq(json_number_value(json_array_get(row, 7)), (double)count * (double)count / 2, 0.01);
    }
    for (int w = 0; w < WRITERS; w++) {
        int64_t least = INT64_MAX;
        for (int s = 0; s < SERIES; s++) {
            cr_assert_geq(stored[w][s], atomic_load(&writers[w].acknowledged),
                          "cycle %d w%d s%d: acknowledged rows lost", cycle, w, s);
            if (stored[w][s] < least) least = stored[w][s];
        }
        writers[w].next = least; /* goes on after what every series has; rows sent again replace themselves */
    }
    json_decref(root);
    imv_buffer_release(&answer);
    imv_client_free(client);
}

Test(kill, nothing_acknowledged_is_lost_and_nothing_is_stored_twice, .timeout = 7200) {
    const char *program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    const char *given = getenv("IMV_KILL_CYCLES"), *seed_given = getenv("IMV_KILL_SEED");
    int cycles = given == NULL ? 5 : atoi(given);
    uint64_t seed = seed_given == NULL ? (uint64_t)time(NULL) : strtoull(seed_given, NULL, 10);
    fprintf(stderr, "kill: seed %lu, %d cycles\n", (unsigned long)seed, cycles);
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    static struct writer writers[WRITERS];
    struct test_server server = {0};
    test_directory(server.directory, sizeof server.directory, "kill");
    /* Small memory and young flushes, so that kills also hit flushes and segment recycling. */
    const char *const extra[] = {"--set", "storage.head_memory=16MiB", "--set", "storage.flush_age=1s",
                                 "--set", "storage.wal=256MiB",        NULL};
    for (int cycle = 0; cycle < cycles; cycle++) {
        cr_assert(test_server_start(&server, program, cycle % 4 == 3 ? NULL : extra), "cycle %d: no start, see %s",
                  cycle, server.log);
        if (cycle > 0) check(&server, writers, cycle);
        for (int w = 0; w < WRITERS; w++) {
            writers[w].index = w;
            writers[w].port = server.ilp_port;
            atomic_store(&writers[w].stop, false);
            cr_assert_eq(pthread_create(&writers[w].thread, NULL, write_rows, &writers[w]), 0);
        }
        struct timespec pause = {0, (long)(100000000 + imv_prng_below(&prng, 900000000))};
        nanosleep(&pause, NULL);
        test_server_stop(&server, SIGKILL);
        for (int w = 0; w < WRITERS; w++) {
            atomic_store(&writers[w].stop, true);
            pthread_join(writers[w].thread, NULL);
        }
    }
    cr_assert(test_server_start(&server, program, NULL));
    check(&server, writers, cycles);
    int64_t rounds = 0;
    for (int w = 0; w < WRITERS; w++) rounds += atomic_load(&writers[w].acknowledged);
    fprintf(stderr, "kill: %ld rows acknowledged, none lost, none twice\n", (long)rounds * SERIES);
    cr_assert_gt(rounds, 0);
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0, "an orderly stop ends with 0");
    char report[65536];
    const char *const check_arguments[] = {"check", server.directory, NULL};
    cr_assert_eq(test_run(program, check_arguments, report, sizeof report), 0, "%s", report);
    test_directory_remove(server.directory);
    unlink(server.log);
}
