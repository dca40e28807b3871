/* Backups of a server that is being written to: what was acknowledged before is in them, they restore, and what is
 * damaged or cut short does not. */
#include "connectors/cli/ask.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;
static struct test_server server;
static char place[256]; /* of backups and what is restored */

static void start(void) {
    program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    server = (struct test_server){0};
    test_directory(server.directory, sizeof server.directory, "backup-data");
    test_directory(place, sizeof place, "backup");
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
}

static void stop(void) {
    if (server.pid == 0) return;
    cr_expect_eq(test_server_stop(&server, SIGTERM), 0);
    test_directory_remove(server.directory);
    test_directory_remove(place);
    unlink(server.log);
}

TestSuite(backup, .init = start, .fini = stop, .timeout = 240);

static const char *in_place(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", place, name);
    return path;
}

static int run(char *output, size_t size, const char *command, const char *first, const char *second,
               const char *third) {
    const char *arguments[] = {command, first, second, third, NULL};
    return test_run(program, arguments, output, size);
}

/* ---- a writer that counts what is acknowledged ---- */

enum { ROWS_PER_WRITE = 500 };

struct writer {
    pthread_t thread;
    _Atomic int64_t acknowledged; /* rows 0 .. acknowledged - 1 are durable */
    _Atomic bool stop;
};

static void *write_rows(void *argument) {
    struct writer *writer = argument;
    struct imv_client *client;
    struct imv_buffer body;
    struct imv_error err;
    int status;
    imv_buffer_init(&body, 1 << 20);
    cr_assert_eq(imv_client_new(server.url, &client, &err), IMV_OK);
    for (int64_t next = 0; !atomic_load(&writer->stop); next += ROWS_PER_WRITE) {
        imv_buffer_reset(&body);
        for (int64_t i = next; i < next + ROWS_PER_WRITE; i++)
            imv_buffer_append_format(&body, "b,s=s%ld n=%ldi %ld\n", (long)(i % 10), (long)i, (long)i * 1000000000);
        struct imv_client_request request = {.method = "POST", .path = "/write", .body = imv_buffer_view(&body)};
        if (imv_client_send(client, &request, &status, &err) != IMV_OK || status != 204) break;
        atomic_store(&writer->acknowledged, next + ROWS_PER_WRITE);
    }
    imv_client_free(client);
    imv_buffer_release(&body);
    return NULL;
}

/* Counts the rows below `below`. */
static int64_t count_rows(const char *url, int64_t below) {
    struct imv_client *client;
    struct imv_buffer answer;
    struct imv_error err;
    int status;
    char text[256];
    snprintf(text, sizeof text, "MATCH (b:b) SAMPLES OF b.n AS s FROM 0 TO %ld RETURN count(s.value)",
             (long)below * 1000000000);
    imv_buffer_init(&answer, 1 << 20);
    cr_assert_eq(imv_client_new(url, &client, &err), IMV_OK);
    cr_assert_eq(
        imv_ask(client, imv_str_from(text), NULL, "text/csv", false, imv_client_collect, &answer, &status, &err),
        IMV_OK, "%s", err.message);
    imv_buffer_append_char(&answer, 0);
    const char *row = strchr(answer.data, '\n');
    long long counted = -1;
    cr_assert(row != NULL && sscanf(row, "%lld", &counted) == 1, "%s", answer.data);
    imv_client_free(client);
    imv_buffer_release(&answer);
    return counted;
}

/* Starts a server on what was restored and checks that it has all rows below `wanted`; writes one more row and finds it
 * after a restart. */
static void check_restored(const char *directory, int64_t wanted) {
    struct test_server other = {0};
    snprintf(other.directory, sizeof other.directory, "%s", directory);
    cr_assert(test_server_start(&other, program, NULL), "no start, see %s", other.log);
    cr_assert_eq(count_rows(other.url, wanted), wanted);
    struct imv_client *client;
    struct imv_error err;
    int status = 0;
    char line[64];
    int size = snprintf(line, sizeof line, "b,s=new n=7i 1");
    struct imv_client_request request = {.method = "POST", .path = "/write", .body = {line, (size_t)size}};
    cr_assert_eq(imv_client_new(other.url, &client, &err), IMV_OK);
    cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_OK);
    cr_assert_eq(status, 204);
    imv_client_free(client);
    test_server_stop(&other, SIGKILL);
    cr_assert(test_server_start(&other, program, NULL), "no start, see %s", other.log);
    cr_assert_eq(count_rows(other.url, wanted), wanted + 1);
    cr_assert_eq(test_server_stop(&other, SIGTERM), 0);
    unlink(other.log);
}

/* Backups under load, as directory and as archive, hold what was acknowledged before each, and restore; the server goes
 * on and keeps nothing of them. */
Test(backup, holds_what_was_acknowledged) {
    struct writer writer = {0};
    char output[8192], name[32];
    pthread_create(&writer.thread, NULL, write_rows, &writer);
    for (int i = 0; i < 3; i++) {
        usleep(300000);
        int64_t before = atomic_load(&writer.acknowledged);
        snprintf(name, sizeof name, "b%d", i);
        const char *backup = in_place(name);
        cr_assert_eq(run(output, sizeof output, "backup", "--url", server.url, backup), 0, "%s", output);
        snprintf(name, sizeof name, "r%d", i);
        const char *restored = in_place(name);
        cr_assert_eq(run(output, sizeof output, "restore", backup, "--data", restored), 0, "%s", output);
        check_restored(restored, before);
        cr_expect_eq(run(output, sizeof output, "restore", backup, "--data", restored), 1);
        cr_expect_not_null(strstr(output, "not empty"), "%s", output);
    }
    int64_t before = atomic_load(&writer.acknowledged);
    char command[2048];
    snprintf(command, sizeof command, "%s backup --url %s - 2>/dev/null | %s restore - --data %s 2>/dev/null", program,
             server.url, program, in_place("piped"));
    cr_assert_eq(system(command), 0);
    check_restored(in_place("piped"), before);
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    char checkpoint[300];
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", server.directory);
    cr_assert_neq(access(checkpoint, F_OK), 0);
    int64_t written = atomic_load(&writer.acknowledged);
    cr_assert_eq(count_rows(server.url, written), written);
}

/* Flips one byte in the middle of a file. */
static void damage(const char *path) {
    int fd = open(path, O_RDWR);
    struct stat entry;
    cr_assert(fd >= 0 && fstat(fd, &entry) == 0 && entry.st_size > 0, "%s", path);
    char byte;
    cr_assert_eq(pread(fd, &byte, 1, entry.st_size / 2), 1);
    byte ^= 0x10;
    cr_assert_eq(pwrite(fd, &byte, 1, entry.st_size / 2), 1);
    close(fd);
}

/* A backup of which any file is damaged or missing does not restore, and what is left of the try does not start. */
Test(backup, a_damaged_backup_is_refused) {
    struct writer writer = {0};
    char output[8192], path[1024], target[64];
    pthread_create(&writer.thread, NULL, write_rows, &writer);
    usleep(300000);
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    cr_assert_eq(run(output, sizeof output, "backup", "--url", server.url, in_place("b")), 0, "%s", output);
    DIR *files = opendir(in_place("b/rocksdb"));
    int tried = 0;
    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", in_place("b/rocksdb"), entry->d_name);
        for (int missing = 0; missing < 2; missing++, tried++) {
            char aside[1100];
            snprintf(aside, sizeof aside, "%s.aside", path);
            cr_assert_eq(missing ? rename(path, aside) : 0, 0);
            if (!missing) damage(path);
            snprintf(target, sizeof target, "r%d", tried);
            cr_assert_eq(run(output, sizeof output, "restore", in_place("b"), "--data", in_place(target)), 1);
            cr_expect_not_null(strstr(output, entry->d_name), "%s", output);
            cr_expect_eq(run(output, sizeof output, "check", in_place(target), NULL, NULL), 1, "%s", output);
            if (missing)
                rename(aside, path);
            else
                damage(path);
        }
    }
    closedir(files);
    cr_assert_geq(tried, 8);
    damage(in_place("b/MANIFEST"));
    cr_assert_eq(run(output, sizeof output, "restore", in_place("b"), "--data", in_place("rm")), 1);
    damage(in_place("b/MANIFEST"));
    cr_assert_eq(run(output, sizeof output, "restore", in_place("b"), "--data", in_place("whole")), 0, "%s", output);
}

/* A backup whose client or whose server is killed on the way is none, the next one works, and a server that comes up
 * again has removed what the killed one left. */
Test(backup, an_interrupted_backup_does_not_pass) {
    struct writer writer = {0};
    char output[8192], name[32];
    pthread_create(&writer.thread, NULL, write_rows, &writer);
    usleep(500000);
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        cr_assert_geq(child, 0);
        snprintf(name, sizeof name, "b%d", i);
        if (child == 0) {
            int quiet = open("/dev/null", O_WRONLY);
            dup2(quiet, 2);
            execl(program, program, "backup", "--url", server.url, in_place(name), NULL);
            _exit(127);
        }
        usleep(1000u << i);
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        char manifest[512];
        snprintf(manifest, sizeof manifest, "%s/MANIFEST", in_place(name));
        bool whole = access(manifest, F_OK) == 0;
        snprintf(name, sizeof name, "r%d", i);
        char backup[32];
        snprintf(backup, sizeof backup, "b%d", i);
        int restored = run(output, sizeof output, "restore", in_place(backup), "--data", in_place(name));
        cr_expect_eq(restored == 0, whole, "%s", output);
    }
    char command[2048]; /* the reader goes away in the middle */
    snprintf(command, sizeof command, "%s backup --url %s - 2>/dev/null | head -c 1000 > %s", program, server.url,
             in_place("cut.tar"));
    cr_assert_eq(system(command), 0);
    cr_assert_eq(run(output, sizeof output, "restore", in_place("cut.tar"), "--data", in_place("rc")), 1);
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    char left[300];
    snprintf(left, sizeof left, "%s/checkpoint.tmp", server.directory);
    test_server_stop(&server, SIGKILL);
    mkdir(left, 0700);
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
    cr_assert_neq(access(left, F_OK), 0);
    for (int i = 0; i < 100; i++) { /* the interrupted ones may take a moment to be noticed */
        if (run(output, sizeof output, "backup", "--url", server.url, in_place("last")) == 0) break;
        test_directory_remove(in_place("last"));
        usleep(100000);
    }
    cr_assert_eq(run(output, sizeof output, "restore", in_place("last"), "--data", in_place("rl")), 0, "%s", output);
}
