/* What `imvdb inspect` prints of a data directory and its files, whole and damaged. */
#include "connectors/cli/client.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *program;
static struct test_server server;
static char output[1 << 20];

static void write_lines(const char *lines) {
    struct imv_client *client;
    struct imv_error err;
    int status = 0;
    struct imv_client_request request = {.method = "POST", .path = "/write", .body = imv_str_from(lines)};
    cr_assert_eq(imv_client_new(server.url, &client, &err), IMV_OK);
    cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(status, 204);
    imv_client_free(client);
}

static void start(void) {
    static const char *const settings[] = {"--set", "server.shards=1", NULL};
    program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    server = (struct test_server){0};
    test_directory(server.directory, sizeof server.directory, "inspect");
    cr_assert(test_server_start(&server, program, settings), "no start, see %s", server.log);
    write_lines("pump,site=a flow=1.5,on=t 1767225600000000000\npump,site=a flow=2.5,on=f 1767225601000000000\n"
                "pump,site=b flow=3.5 1767225600000000000\ntank,site=a level=7i,note=\"x\" 1767225600000000000\n");
}

static void stop(void) {
    if (server.directory[0] == 0) return;
    if (server.pid > 0) test_server_stop(&server, SIGTERM);
    test_directory_remove(server.directory);
    unlink(server.log);
}

TestSuite(inspect, .init = start, .fini = stop, .timeout = 60);

static int inspect(const char *file, const char *one, const char *other) {
    char path[512];
    snprintf(path, sizeof path, "%s%s%s", server.directory, file[0] == 0 ? "" : "/", file);
    const char *arguments[] = {"inspect", path, one, other, NULL};
    return test_run(program, arguments, output, sizeof output);
}

static void expect(const char *part) { cr_expect_not_null(strstr(output, part), "%s is not in\n%s", part, output); }

static void flip(const char *file, off_t offset) {
    char path[512], byte;
    snprintf(path, sizeof path, "%s/%s", server.directory, file);
    int fd = open(path, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x20;
    cr_assert_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* Of a stopped server everything is printed: journal, records, catalog, series, chunks with their codecs. */
Test(inspect, prints_a_data_directory) {
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);
    cr_assert_eq(inspect("", "--series", "--chunks"), 0, "%s", output);
    expect("1 shards\n");
    expect("wal/0000-00000001.wal\njournal segment: shard 0, number 1, epoch 1, 67108864 bytes");
    expect("at 4096: group 1, payload ");
    expect("mark of an orderly close after group 1\n");
    expect("shard 0: journal groups up to 1 are in chunks, 0 deletions pending");
    expect("part: fresh, class 0, ");
    expect("2026-01-01T00:00:00.000000000Z to 2026-01-01T00:00:01.000000000Z, 4 rows, 3 chunks, ");
    expect("label 0 \"pump\": retention 0 s\n  field 0 \"flow\": float\n  field 1 \"on\": boolean\n  tag 0 \"site\"\n");
    expect("label 1 \"tank\"");
    expect("series 0: pump{site=a}\nseries 1: pump{site=b}\nseries 2: tank{site=a}\n");
    expect("chunk: label 0, series 0, ");
    expect("  time, integer: ");
    expect("  column 1, string: TEXT");
    cr_assert_eq(inspect("", NULL, NULL), 0);
    cr_expect_null(strstr(output, "chunk: "));
    cr_expect_null(strstr(output, "series 0: "));
}

/* A journal segment and FORMAT can be looked at while the server runs, its directory cannot. */
Test(inspect, looks_at_files_of_a_running_server) {
    cr_assert_eq(inspect("wal/0000-00000001.wal", NULL, NULL), 0, "%s", output);
    expect("at 4096: group 1, payload ");
    cr_expect_null(strstr(output, "mark"));
    cr_assert_eq(inspect("FORMAT", NULL, NULL), 0);
    expect("imvdb format=1 shards=1");
    cr_assert_eq(inspect("", NULL, NULL), 1);
    expect("open in another process");
    cr_assert_eq(inspect("rocksdb/CURRENT", NULL, NULL), 1);
    expect("with their data directory");
    cr_assert_eq(inspect("nothing", NULL, NULL), 1);
    expect("there is no ");
}

/* What is damaged is said where it stands, and what follows is printed. */
Test(inspect, says_what_is_damaged) {
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);
    flip("wal/0000-00000001.wal", 4096 + 90);
    cr_assert_eq(inspect("wal/0000-00000001.wal", NULL, NULL), 0, "%s", output);
    expect(", DAMAGED\n");
    expect("mark of an orderly close");
    flip("wal/0000-00000001.wal", 20);
    cr_assert_eq(inspect("wal/0000-00000001.wal", NULL, NULL), 1);
    expect("bad checksum of the segment header");
    cr_assert_eq(inspect("", NULL, NULL), 0, "%s", output);
    expect("  DAMAGED: bad checksum of the segment header");
    expect("label 1 \"tank\"");
}
