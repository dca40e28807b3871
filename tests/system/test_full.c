/* A disk that is filled at random points, again and again, under a server that is being written to: reads go on, writes
 * are refused with a reason and taken again without a restart, and no row that was acknowledged is lost.
 *
 * The disk is an ext4 file system in a file of its own, which takes root to mount. IMV_FULL_CYCLES sets how often it is
 * filled (default 6); the seed is printed and may be given in IMV_TEST_SEED. */
#include "connectors/cli/ask.h"
#include "storage/base/prng.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ROWS_PER_WRITE = 500, DISK_MB = 512, KEPT_MB = 64 };

static const char *program;
static struct test_server server;
static char place[256], mounted[300], filler[400];

static bool command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool command(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return system(text) == 0;
}

static void start(void) {
    program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    test_directory(place, sizeof place, "full");
    snprintf(mounted, sizeof mounted, "%s/disk", place);
    bool ready = geteuid() == 0 && command("mkdir %s && truncate -s %dM %s/image", mounted, DISK_MB, place) &&
                 command("mkfs.ext4 -q -m 0 %s/image 2>/dev/null", place) &&
                 command("mount -o loop %s/image %s 2>/dev/null", place, mounted);
    if (!ready) {
        test_directory_remove(place);
        cr_skip_test("no file system of its own can be mounted here");
    }
    server = (struct test_server){0};
    snprintf(server.directory, sizeof server.directory, "%s/data", mounted);
    snprintf(filler, sizeof filler, "%s/filler", mounted);
    static const char *const settings[] = {"--set", "server.shards=1",           "--set", "storage.free_space=64MiB",
                                           "--set", "storage.wal=256MiB",        "--set", "storage.flush_age=200ms",
                                           "--set", "storage.head_memory=32MiB", NULL};
    cr_assert(test_server_start(&server, program, settings), "no start, see %s", server.log);
}

static void stop(void) {
    if (mounted[0] == 0) return;
    if (server.pid > 0) test_server_stop(&server, SIGKILL);
    command("umount -l %s", mounted); /* now, or when the last file of a killed server is closed */
    test_directory_remove(place);
}

TestSuite(full, .init = start, .fini = stop, .timeout = 900);

/* ---- the writer ---- */

struct writer {
    pthread_t thread;
    _Atomic int64_t acknowledged; /* rows below it are durable */
    _Atomic int64_t refused;      /* answers 507 */
    _Atomic bool stop;
    char other[512]; /* an answer that is neither 204 nor 507; "" none */
};

static void sleep_ms(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }

static void *write_rows(void *argument) {
    struct writer *writer = argument;
    struct imv_client *client;
    struct imv_buffer body, answer;
    struct imv_error err;
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    imv_buffer_init(&body, 1 << 20);
    imv_buffer_init(&answer, 1 << 16);
    imv_client_new(server.url, &client, &err);
    for (int64_t next = 0; !atomic_load(&writer->stop); sleep_ms(4)) {
        int status = 0;
        if (body.size == 0)
            for (int64_t i = next; i < next + ROWS_PER_WRITE; i++)
                imv_buffer_append_format(&body, "f,s=s%ld n=%ldi,r=%llui %ld\n", (long)(i % 10), (long)i,
                                         (unsigned long long)imv_prng_below(&prng, 1 << 30), (long)i * 1000000);
        imv_buffer_reset(&answer);
        struct imv_client_request request = {.method = "POST",
                                             .path = "/write",
                                             .body = imv_buffer_view(&body),
                                             .receive = imv_client_collect,
                                             .context = &answer};
        imv_status sent = imv_client_send(client, &request, &status, &err);
        if (sent == IMV_OK && status == 204) {
            next += ROWS_PER_WRITE;
            atomic_store(&writer->acknowledged, next);
            imv_buffer_reset(&body);
        } else if (sent == IMV_OK && status == 507) {
            atomic_fetch_add(&writer->refused, 1);
        } else {
            snprintf(writer->other, sizeof writer->other, "%d: %.*s%s", status, (int)answer.size,
                     answer.size == 0 ? "" : answer.data, sent == IMV_OK ? "" : err.message);
            break;
        }
    }
    imv_client_free(client);
    imv_buffer_release(&body);
    imv_buffer_release(&answer);
    return NULL;
}

/* ---- what is asked from outside ---- */

/* Of a query the first cell of the first row, as a number; -1 and the answer in text when it has none. */
static int64_t ask(const char *text, char *answer_text, size_t size) {
    struct imv_client *client;
    struct imv_buffer answer;
    struct imv_error err;
    int status = 0;
    long long number = -1;
    imv_buffer_init(&answer, 1 << 20);
    imv_client_new(server.url, &client, &err);
    imv_status asked =
        imv_ask(client, imv_str_from(text), NULL, "text/csv", false, imv_client_collect, &answer, &status, &err);
    imv_buffer_append_char(&answer, 0);
    const char *row = asked == IMV_OK ? strchr(answer.data, '\n') : NULL;
    if (row == NULL || status != 200 || sscanf(row, "%lld", &number) != 1) number = -1;
    snprintf(answer_text, size, "%s", asked == IMV_OK ? answer.data : err.message);
    imv_client_free(client);
    imv_buffer_release(&answer);
    return number;
}

static int64_t count_rows(int64_t below) {
    char text[256], answer[1024];
    snprintf(text, sizeof text, "MATCH (f:f) SAMPLES OF f.n AS s FROM 0 TO %ld RETURN count(s.value)",
             (long)below * 1000000);
    int64_t count = ask(text, answer, sizeof answer);
    cr_assert_geq(count, 0, "%s", answer);
    return count;
}

static uint64_t free_bytes(void) {
    struct statvfs disk;
    cr_assert_eq(statvfs(mounted, &disk), 0);
    return (uint64_t)disk.f_bavail * disk.f_frsize;
}

/* Takes the disk until only so many bytes are left. */
static void fill_disk(uint64_t left) {
    int fd = open(filler, O_CREAT | O_WRONLY, 0600);
    cr_assert_geq(fd, 0);
    for (uint64_t step = 64 << 20, size = 0; step >= 4096;) { /* what is there changes meanwhile */
        uint64_t have = free_bytes();
        if (have > left + step && posix_fallocate(fd, (off_t)size, (off_t)step) == 0)
            size += step;
        else
            step /= 4;
    }
    close(fd);
}

/* The status of a GET. */
static int get(const char *path) {
    struct imv_client *client;
    struct imv_error err;
    int status = 0;
    struct imv_client_request request = {.method = "GET", .path = path};
    imv_client_new(server.url, &client, &err);
    if (imv_client_send(client, &request, &status, &err) != IMV_OK) status = -1;
    imv_client_free(client);
    return status;
}

/* What arrives on a socket within the time, at most size - 1 bytes; "" for nothing. */
static const char *receive(int fd, char *text, size_t size, int timeout_ms) {
    struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    ssize_t got = recv(fd, text, size - 1, 0);
    text[got > 0 ? got : 0] = 0;
    return text;
}

/* Lines over TCP wait while the disk is full, whatever is sent, and are acknowledged when there is room; meanwhile the
 * server says that it is not ready. */
Test(full, lines_over_tcp_wait) {
    static char lines[4 << 20];
    char text[64];
    size_t size = 0;
    while (size < sizeof lines - 64) size += (size_t)sprintf(lines + size, "t,s=a n=%zui %zu\n", size, size + 1);
    fill_disk(1 << 20);
    for (int i = 0; i < 100 && get("/readyz") == 200; i++) sleep_ms(50);
    cr_assert_eq(get("/readyz"), 503);
    int fd = test_connect(server.ilp_port);
    cr_assert_geq(fd, 0);
    cr_assert_eq(send(fd, "t,s=b n=1i 1\n#sync\n", 19, MSG_NOSIGNAL), 19);
    cr_assert_str_eq(receive(fd, text, sizeof text, 500), "");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    ssize_t sent = 0;
    for (ssize_t part; sent < (ssize_t)size && (part = send(fd, lines + sent, size - (size_t)sent, MSG_NOSIGNAL)) > 0;)
        sent += part;
    fcntl(fd, F_SETFL, 0);
    cr_assert_eq(get("/readyz"), 503);
    cr_assert_eq(unlink(filler), 0);
    cr_assert_str_eq(receive(fd, text, sizeof text, 10000), "#ok 1\n");
    for (ssize_t part; sent < (ssize_t)size && (part = send(fd, lines + sent, size - (size_t)sent, MSG_NOSIGNAL)) > 0;)
        sent += part;
    cr_assert_eq(send(fd, "#sync\n", 6, MSG_NOSIGNAL), 6);
    size_t rows = 1;
    for (size_t i = 0; i < size; i++) rows += lines[i] == '\n';
    char expected[64];
    snprintf(expected, sizeof expected, "#ok %zu\n", rows);
    cr_assert_str_eq(receive(fd, text, sizeof text, 10000), expected);
    close(fd);
    cr_assert_eq(get("/readyz"), 200);
}

Test(full, nothing_acknowledged_is_lost) {
    const char *cycles_text = getenv("IMV_FULL_CYCLES"), *seed_text = getenv("IMV_TEST_SEED");
    int cycles = cycles_text == NULL ? 6 : atoi(cycles_text);
    uint64_t seed = seed_text == NULL ? (uint64_t)time(NULL) : strtoull(seed_text, NULL, 10);
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    struct writer writer = {0};
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    pthread_create(&writer.thread, NULL, write_rows, &writer);
    for (int cycle = 0; cycle < cycles; cycle++) {
        sleep_ms(100 + (int)imv_prng_below(&prng, 700));
        static const uint64_t lefts[] = {0, 1 << 20, 20 << 20, 40 << 20, 60 << 20};
        fill_disk(lefts[imv_prng_below(&prng, 5)]);
        int64_t refused = atomic_load(&writer.refused);
        for (int i = 0; i < 100 && atomic_load(&writer.refused) == refused; i++) sleep_ms(20);
        cr_assert_gt(atomic_load(&writer.refused), refused, "cycle %d: not refused; %s", cycle, writer.other);
        sleep_ms((int)imv_prng_below(&prng, 1000));
        int64_t acknowledged = atomic_load(&writer.acknowledged);
        cr_assert_eq(count_rows(acknowledged), acknowledged, "cycle %d", cycle);
        cr_assert_eq(unlink(filler), 0);
        acknowledged = atomic_load(&writer.acknowledged);
        for (int i = 0; i < 500 && atomic_load(&writer.acknowledged) == acknowledged; i++) sleep_ms(20);
        cr_assert_gt(atomic_load(&writer.acknowledged), acknowledged, "cycle %d: not taken again; %s", cycle,
                     writer.other);
    }
    sleep_ms(500);
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    cr_assert_str_eq(writer.other, "");
    int64_t acknowledged = atomic_load(&writer.acknowledged);
    fprintf(stderr, "%ld rows acknowledged, %ld writes refused\n", (long)acknowledged,
            (long)atomic_load(&writer.refused));
    cr_assert_eq(count_rows(acknowledged), acknowledged);
    test_server_stop(&server, SIGKILL);
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
    cr_assert_eq(count_rows(acknowledged), acknowledged);
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);
    const char *const arguments[] = {"check", server.directory, NULL};
    char output[4096];
    cr_assert_eq(test_run(program, arguments, output, sizeof output), 0, "%s", output);
}
