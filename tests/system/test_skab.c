/* Real sensor runs go in by `imvdb import` and come back bit for bit: from memory, from the journal after kill -9, from
 * chunks after a flush, and from chunks after an orderly restart. The expected values are this test's own reading of
 * the files (../shared/data/skab, see its README). */
#include "connectors/cli/ask.h"
#include "storage/base/metrics.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 64, COLUMNS_MAX = 16, ROWS_MAX = 20000 };

struct run {
    char path[1024], name[64];
};

struct table {
    int columns;
    char names[COLUMNS_MAX][64];
    int rows;
    int64_t *times;
    double (*cells)[COLUMNS_MAX];
};

static int find_runs(struct run *runs) {
    const char *shared = getenv("IMV_SHARED");
    char root[512], folder[800];
    int count = 0;
    snprintf(root, sizeof root, "%s/data/skab", shared != NULL ? shared : IMV_SOURCE_DIR "/../shared");
    DIR *top = opendir(root);
    for (struct dirent *entry; top != NULL && (entry = readdir(top)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(folder, sizeof folder, "%s/%s", root, entry->d_name);
        DIR *inner = opendir(folder);
        for (struct dirent *file; inner != NULL && (file = readdir(inner)) != NULL && count < FILES_MAX;) {
            char *dot = strstr(file->d_name, ".csv");
            if (dot == NULL) continue;
            snprintf(runs[count].path, sizeof runs[count].path, "%s/%s", folder, file->d_name);
            snprintf(runs[count].name, sizeof runs[count].name, "%.30s_%.*s", entry->d_name, (int)(dot - file->d_name),
                     file->d_name);
            count++;
        }
        if (inner != NULL) closedir(inner);
    }
    if (top != NULL) closedir(top);
    return count;
}

/* This test's own reading: split at ';', strtod, timegm. Of rows with the same time the last one counts. */
static struct table read_file(const char *path) {
    struct table table = {.times = malloc(ROWS_MAX * sizeof(int64_t)), .cells = malloc(ROWS_MAX * sizeof *table.cells)};
    FILE *file = fopen(path, "r");
    char line[4096];
    cr_assert_not_null(file);
    cr_assert_not_null(fgets(line, sizeof line, file));
    char *rest = line;
    strsep(&rest, ";");
    for (char *name; (name = strsep(&rest, ";\r\n")) != NULL;) {
        if (*name != 0) snprintf(table.names[table.columns++], sizeof table.names[0], "%s", name);
    }
    while (fgets(line, sizeof line, file) != NULL) {
        struct tm parts = {0};
        rest = line;
        char *time = strsep(&rest, ";");
        cr_assert_not_null(strptime(time, "%Y-%m-%d %H:%M:%S", &parts));
        int64_t ns = (int64_t)timegm(&parts) * 1000000000;
        int row = table.rows > 0 && table.times[table.rows - 1] == ns ? table.rows - 1 : table.rows++;
        cr_assert_lt(row, ROWS_MAX);
        cr_assert(row == 0 || table.times[row - 1] < ns || table.times[row] == ns, "%s is not in time order", path);
        table.times[row] = ns;
        for (int c = 0; c < table.columns; c++) table.cells[row][c] = strtod(strsep(&rest, ";\r\n"), NULL);
    }
    fclose(file);
    return table;
}

static void free_table(struct table *table) {
    free(table->times);
    free(table->cells);
}

static void compare(struct test_server *server, const struct run *run, const struct table *table, const char *when) {
    struct imv_client *client;
    struct imv_error err;
    struct imv_buffer answer;
    char text[2048];
    int status;
    int used =
        snprintf(text, sizeof text, "MATCH (b:bench) WHERE b.run = '%s' SAMPLES OF b AS s RETURN s.ts", run->name);
    for (int c = 0; c < table->columns; c++)
        used += snprintf(text + used, sizeof text - used, ", s.`%s`", table->names[c]);
    snprintf(text + used, sizeof text - used, " ORDER BY s.ts");
    imv_buffer_init(&answer, 256 << 20);
    cr_assert_eq(imv_client_new(server->url, &client, &err), IMV_OK);
    cr_assert_eq(
        imv_ask(client, imv_str_from(text), NULL, "application/json", true, imv_client_collect, &answer, &status, &err),
        IMV_OK, "%s: %s", when, err.message);
    cr_assert_eq(status, 200, "%s: %.*s", when, (int)(answer.size < 500 ? answer.size : 500), answer.data);
    json_t *root = json_loadb(answer.data, answer.size, 0, NULL);
    const json_t *rows = json_object_get(root, "rows");
    cr_assert_eq((int)json_array_size(rows), table->rows, "%s, %s: %zu rows, not %d", when, run->name,
                 json_array_size(rows), table->rows);
    for (int r = 0; r < table->rows; r++) {
        const json_t *row = json_array_get(rows, (size_t)r);
        cr_assert_eq(json_integer_value(json_array_get(row, 0)), table->times[r], "%s, %s: time of row %d", when,
                     run->name, r);
        for (int c = 0; c < table->columns; c++) {
            double value = json_number_value(json_array_get(row, (size_t)c + 1));
            cr_assert(memcmp(&value, &table->cells[r][c], sizeof value) == 0,
                      "%s, %s: %s of row %d is %.17g, not %.17g", when, run->name, table->names[c], r, value,
                      table->cells[r][c]);
        }
    }
    json_decref(root);
    imv_buffer_release(&answer);
    imv_client_free(client);
}

static void import_all(struct test_server *server, const char *program, const struct run *runs, int count) {
    char tag[128], output[65536];
    for (int i = 0; i < count; i++) {
        snprintf(tag, sizeof tag, "run=%s", runs[i].name);
        const char *const arguments[] = {"import", "--url",      server->url, "--format", "csv",
                                         "--time", "datetime",   "--label",   "bench",    "--tag",
                                         tag,      runs[i].path, NULL};
        cr_assert_eq(test_run(program, arguments, output, sizeof output), 0, "%s", output);
    }
}

/* Waits until the heads have been written out: the server flushes heads older than a second here. */
static void wait_for_flush(struct test_server *server) {
    struct imv_client *client;
    struct imv_error err;
    long flushed = 0;
    cr_assert_eq(imv_client_new(server->url, &client, &err), IMV_OK);
    for (int i = 0; i < 100 && flushed < 1; i++) {
        struct imv_buffer answer;
        int status;
        imv_buffer_init(&answer, 1 << 20);
        struct imv_client_request request = {
            .method = "GET", .path = "/metrics", .receive = imv_client_collect, .context = &answer};
        cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_OK);
        imv_buffer_append_char(&answer, 0);
        const char *line = strstr(answer.data, "\nimvdb_flush_total ");
        cr_assert_not_null(line);
        sscanf(line, "\nimvdb_flush_total %ld", &flushed);
        imv_buffer_release(&answer);
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    cr_assert_geq(flushed, 1, "nothing was flushed within 10 s");
    nanosleep(&(struct timespec){2, 0}, NULL); /* the other shards' heads are as old */
    imv_client_free(client);
}

Test(skab, every_value_comes_back_bit_for_bit_from_memory_journal_and_chunks, .timeout = 600) {
    static struct run runs[FILES_MAX];
    static struct table tables[FILES_MAX];
    const char *program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    int count = find_runs(runs);
    if (count == 0) cr_skip_test("the sensor runs (data/skab) are not here");
    for (int i = 0; i < count; i++) tables[i] = read_file(runs[i].path);
    struct test_server server = {0};
    test_directory(server.directory, sizeof server.directory, "skab");
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
    import_all(&server, program, runs, count);
    for (int i = 0; i < count; i++) compare(&server, &runs[i], &tables[i], "from memory");

    test_server_stop(&server, SIGKILL);
    cr_assert(test_server_start(&server, program, NULL), "no start after kill -9, see %s", server.log);
    for (int i = 0; i < count; i++) compare(&server, &runs[i], &tables[i], "from the journal");

    test_server_stop(&server, SIGKILL);
    const char *const young[] = {"--set", "storage.flush_age=1s", NULL};
    cr_assert(test_server_start(&server, program, young));
    wait_for_flush(&server);
    for (int i = 0; i < count; i++) compare(&server, &runs[i], &tables[i], "after a flush");

    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);
    cr_assert(test_server_start(&server, program, NULL));
    for (int i = 0; i < count; i++) compare(&server, &runs[i], &tables[i], "after an orderly restart");
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);

    long rows = 0;
    for (int i = 0; i < count; i++) {
        rows += tables[i].rows;
        free_table(&tables[i]);
    }
    fprintf(stderr, "skab: %d files, %ld rows compared four times\n", count, rows);
    test_directory_remove(server.directory);
    unlink(server.log);
}
