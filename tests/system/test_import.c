/* Bulk loads through the built program: interrupted in the middle on either side and resumed, refused lines, what files
 * may hold. */
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 200000 };
static const int64_t start_ns = INT64_C(1767225600000000000);

static struct test_server server;
static const char *program;
static char place[256]; /* files and the state of loads */
static char output[1 << 16];

static void start(void) {
    program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    server = (struct test_server){0};
    test_directory(server.directory, sizeof server.directory, "import");
    test_directory(place, sizeof place, "import-files");
    setenv("XDG_STATE_HOME", place, 1);
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
}

static void stop(void) {
    if (server.pid == 0) return;
    cr_expect_eq(test_server_stop(&server, SIGTERM), 0);
    test_directory_remove(server.directory);
    test_directory_remove(place);
    unlink(server.log);
}

TestSuite(import, .init = start, .fini = stop, .timeout = 120);

static const char *file_of(const char *name, const char *text) {
    static char path[320];
    snprintf(path, sizeof path, "%s/%s", place, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

#define IMPORT(...) \
    test_run(program, (const char *const[]){"import", "--url", server.url, __VA_ARGS__, NULL}, output, sizeof output)

/* The answer as CSV, its header left out. */
static const char *ask(const char *text) {
    const char *const arguments[] = {"query", "--url", server.url, "--format", "csv", text, NULL};
    cr_assert_eq(test_run(program, arguments, output, sizeof output), 0, "%s", output);
    const char *end = strchr(output, '\n');
    return end == NULL ? "" : end + 1;
}

/* ---- a large file ---- */

static const char *large_file(void) {
    static char path[320];
    snprintf(path, sizeof path, "%s/large.csv", place);
    FILE *file = fopen(path, "w");
    fprintf(file, "time,site,n,flow,note\n");
    for (int i = 0; i < ROWS; i++)
        fprintf(file, "%" PRId64 ",s%d,%d,%d.25,\"row, %d\"\n", start_ns / 1000000 + i, i % 3, i, i % 1000, i);
    fclose(file);
    return path;
}

/* Reads everything back and compares it with the file, row by row. */
static void check_large(void) {
    char path[320], line[256], wanted[256];
    snprintf(path, sizeof path, "%s/answer.csv", place);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(fd, STDOUT_FILENO);
        execl(program, program, "query", "--url", server.url, "--format", "csv", "--time", "ns",
              "MATCH (l:large) SAMPLES OF l AS s RETURN s.ts AS t, l.site AS site, s.n AS n, s.flow AS flow, s.note AS "
              "note ORDER BY t",
              (char *)NULL);
        _exit(127);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(fgets(line, sizeof line, file));
    int rows = 0;
    for (; fgets(line, sizeof line, file) != NULL; rows++) {
        snprintf(wanted, sizeof wanted, "%" PRId64 ",s%d,%d,%d.25,\"row, %d\"\r\n", start_ns + rows * INT64_C(1000000),
                 rows % 3, rows, rows % 1000, rows);
        cr_assert_str_eq(line, wanted, "row %d: %s", rows, line);
    }
    fclose(file);
    cr_assert_eq(rows, ROWS);
}

/* Not counting the file under way that will replace it, which ends in .new. */
static bool has_state(void) {
    char pattern[320];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s/imvdb/import-*[0-9a-f]", place);
    bool any = glob(pattern, 0, NULL, &found) == 0;
    globfree(&found);
    return any;
}

/* Starts the load and returns when its first batch is durable, with the server or the client stopped in the next. */
static pid_t begin_load(const char *path, pid_t *to_stop) {
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open("/dev/null", O_WRONLY);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execl(program, program, "import", "--url", server.url, "--format", "csv", "--label", "large", "--tag", "site",
              path, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 60000 && !has_state(); i++) usleep(500);
    cr_assert_eq(kill(*to_stop == 0 ? pid : *to_stop, SIGSTOP), 0);
    cr_assert_eq(waitpid(pid, NULL, WNOHANG), 0, "the load was over too soon");
    return pid;
}

static int wait_for(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return status;
}

/* Goes on with the load; it must not begin anew. */
static void resume_load(const char *path) {
    cr_assert(has_state());
    cr_assert_eq(IMPORT("--format", "csv", "--label", "large", "--tag", "site", "--resume", path), 0, "%s", output);
    const char *rows = strstr(output, "large.csv: ");
    cr_assert_not_null(rows, "%s", output);
    long count = strtol(rows + 11, NULL, 10);
    cr_assert(count > 0 && count < ROWS, "%ld rows in the second run", count);
    cr_assert_not(has_state(), "a complete load leaves no state");
    check_large();
}

/* Interrupted, a load ends behind a batch and says how to go on; resumed, it completes the file. */
Test(import, an_interrupted_load_is_resumed) {
    const char *path = large_file();
    pid_t pid = begin_load(path, &server.pid);
    kill(pid, SIGINT);
    kill(server.pid, SIGCONT);
    int status = wait_for(pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %x", status);
    resume_load(path);
}

/* Killed, a load is resumed behind what was durable; nothing is lost or doubled. */
Test(import, a_killed_load_is_resumed) {
    const char *path = large_file();
    pid_t pid = begin_load(path, &server.pid);
    kill(pid, SIGKILL);
    kill(server.pid, SIGCONT);
    cr_assert_eq(wait_for(pid), SIGKILL);
    resume_load(path);
}

/* When the server is killed the load fails, and goes on when the server is there again. */
Test(import, a_load_into_a_killed_server_is_resumed) {
    const char *path = large_file();
    pid_t client = 0;
    pid_t pid = begin_load(path, &client);
    cr_assert_eq(test_server_stop(&server, SIGKILL), SIGKILL);
    kill(pid, SIGCONT);
    int status = wait_for(pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %x", status);
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%u", server.http_port);
    cr_assert(test_server_start(&server, program, (const char *const[]){"--http", address, NULL}));
    resume_load(path);
}

/* Another zone, or another of the options that change the rows, is another load: it does not go on with this one. */
Test(import, a_load_with_other_options_is_not_resumed) {
    const char *path = large_file();
    pid_t pid = begin_load(path, &server.pid);
    kill(pid, SIGKILL);
    kill(server.pid, SIGCONT);
    wait_for(pid);
    cr_assert_eq(IMPORT("--format", "csv", "--label", "large", "--tag", "site", "--time", "time", "--resume", path), 0);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "large.csv: %d rows", ROWS);
    cr_assert_not_null(strstr(output, wanted), "%s", output);
    check_large();
}

/* ---- what files may hold ---- */

/* Refused lines are told with their reason, counted, and make the exit status 1; the others are stored and counted. */
Test(import, refused_lines_are_reported) {
    const char *path = file_of("bad.ilp", "# a comment\nm v=1 1\n\nm v= 2\nm v=\"text\" 3\nm v=4 4\n");
    cr_expect_eq(IMPORT("--format", "ilp", path), 1);
    cr_expect_not_null(strstr(output, "2 lines were refused"), "%s", output);
    cr_expect_not_null(strstr(output, "line 4"), "%s", output);
    cr_expect_not_null(strstr(output, "bad.ilp: 2 rows"), "%s", output);
    cr_expect_str_eq(ask("MATCH (m:m) SAMPLES OF m AS s RETURN count(*), sum(s.v)"), "2,5.0\r\n");
    path = file_of("type.csv", "time,v\n10,word\n11,other\n");
    cr_expect_eq(IMPORT("--format", "csv", "--label", "m", path), 1);
    cr_expect_not_null(strstr(output, "2 lines were refused"), "%s", output);
    cr_expect_not_null(strstr(output, "type.csv: 0 rows"), "%s", output);
}

/* A line feed inside quotes does not end a line, in line protocol and in CSV. */
Test(import, quoted_line_feeds_are_kept) {
    cr_assert_eq(IMPORT("--format", "ilp", file_of("q.ilp", "q s=\"one\ntwo\" 1\nq s=\"three\" 2\n")), 0, "%s", output);
    cr_expect_not_null(strstr(output, "q.ilp: 2 rows"), "%s", output);
    cr_expect_str_eq(ask("MATCH (q:q) SAMPLES OF q AS s RETURN s.s ORDER BY s.ts"), "\"one\ntwo\"\r\nthree\r\n");
    cr_assert_eq(IMPORT("--format", "csv", "--label", "c", file_of("c.csv", "time,s\n1,\"one\ntwo\"\n2,three\n")), 0,
                 "%s", output);
    cr_expect_str_eq(ask("MATCH (c:c) SAMPLES OF c AS s RETURN s.s ORDER BY s.ts"), "\"one\ntwo\"\r\nthree\r\n");
}

/* Times without a zone are of the zone that is named, summer time included; an unknown zone is refused. */
Test(import, times_are_of_the_zone_that_is_named) {
    if (access("/usr/share/zoneinfo/Europe/Berlin", R_OK) != 0) cr_skip_test("no time zones on this machine");
    const char *path = file_of("z.csv", "time,v\n2026-01-01 12:00:00,1\n2026-07-01 12:00:00,2\n");
    cr_assert_eq(IMPORT("--format", "csv", "--label", "z", "--zone", "Europe/Berlin", path), 0, "%s", output);
    cr_expect_str_eq(ask("MATCH (z:z) SAMPLES OF z AS s RETURN s.ts, s.v ORDER BY s.ts"),
                     "2026-01-01T11:00:00.000000000Z,1\r\n2026-07-01T10:00:00.000000000Z,2\r\n");
    cr_expect_eq(IMPORT("--format", "csv", "--label", "z", "--zone", "Europe/Atlantis", path), 2);
    cr_expect_eq(IMPORT("--format", "csv", "--label", "z", "--zone", "../../../etc/passwd", path), 2);
}

/* A precision would change the times of a CSV file, which say their own: it is refused there, and kept to elsewhere. */
Test(import, a_precision_is_for_line_protocol) {
    const char *path = file_of("p.csv", "time,v\n2026-01-01,1\n");
    cr_expect_eq(IMPORT("--format", "csv", "--label", "p", "--precision", "s", path), 2, "%s", output);
    cr_assert_eq(IMPORT("--format", "ilp", "--precision", "s", file_of("p.ilp", "p v=1i 1767225600\n")), 0, "%s",
                 output);
    cr_expect_str_eq(ask("MATCH (p:p) SAMPLES OF p AS s RETURN s.ts"), "2026-01-01T00:00:00.000000000Z\r\n");
}

/* Wrong calls and files that are not there are told; an empty file is no failure. */
Test(import, wrong_calls_are_told) {
    cr_expect_eq(IMPORT("--format", "csv", file_of("e.csv", "")), 2);
    cr_expect_eq(IMPORT("--format", "xml", "x"), 2);
    cr_expect_eq(IMPORT("--format", "ilp"), 2);
    cr_expect_eq(IMPORT("--format", "ilp", "/no/such/file"), 1);
    cr_expect_not_null(strstr(output, "/no/such/file"), "%s", output);
    cr_expect_eq(IMPORT("--format", "ilp", file_of("e.ilp", "")), 0, "%s", output);
}
