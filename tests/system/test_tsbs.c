/* The ten queries of TSBS's devops use case (github.com/timescale/tsbs), asked of a server and answered a second time
 * by plain loops over the arrays that the data came from: from memory, and from chunks after a restart. */
#include "connectors/cli/ask.h"
#include "storage/base/prng.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HOSTS = 60, STEPS = 720, FIELDS = 10, STEP_S = 10, RUNS = 6 };

static const int64_t start_s = 1451606400, second_ns = 1000000000;
static const char *const fields[FIELDS] = {"usage_user",   "usage_system",    "usage_idle",    "usage_nice",
                                           "usage_iowait", "usage_irq",       "usage_softirq", "usage_steal",
                                           "usage_guest",  "usage_guest_nice"};
static int64_t values[STEPS][HOSTS][FIELDS];
static struct test_server server;
static struct imv_client *client;

/* ---- the data ---- */

static void make_values(struct imv_prng *prng) {
    double walk[HOSTS][FIELDS];
    for (int s = 0; s < STEPS; s++) {
        for (int h = 0; h < HOSTS; h++) {
            for (int f = 0; f < FIELDS; f++) {
                walk[h][f] = s == 0 ? imv_prng_unit(prng) * 100 : walk[h][f] + (imv_prng_unit(prng) - 0.5) * 6;
                walk[h][f] = fmin(100, fmax(0, walk[h][f]));
                values[s][h][f] = (int64_t)walk[h][f];
            }
        }
    }
}

static void load(void) {
    int fd = test_connect(server.ilp_port);
    static char text[HOSTS * 512];
    for (int s = 0; s < STEPS; s++) {
        size_t used = 0;
        for (int h = 0; h < HOSTS; h++) {
            used += (size_t)sprintf(text + used, "cpu,hostname=host_%d,region=r%d", h, h % 4);
            for (int f = 0; f < FIELDS; f++)
                used += (size_t)sprintf(text + used, "%c%s=%ldi", f == 0 ? ' ' : ',', fields[f], (long)values[s][h][f]);
            used += (size_t)sprintf(text + used, " %ld\n", (long)((start_s + s * STEP_S) * second_ns));
        }
        for (size_t sent = 0; sent < used;) sent += (size_t)send(fd, text + sent, used - sent, MSG_NOSIGNAL);
    }
    cr_assert_eq(send(fd, "#sync\n", 6, MSG_NOSIGNAL), 6);
    char answer[64] = "";
    recv(fd, answer, sizeof answer - 1, 0);
    cr_assert_eq(strncmp(answer, "#ok 43200", 9), 0, "%s", answer);
    close(fd);
}

/* ---- asking ---- */

/* The rows of an answer; the caller releases it. */
static json_t *ask(const char *text, json_t *params) {
    struct imv_buffer answer;
    struct imv_error err;
    int status;
    imv_buffer_init(&answer, 64 << 20);
    cr_assert_eq(imv_ask(client, imv_str_from(text), params, "application/json", true, imv_client_collect, &answer,
                         &status, &err),
                 IMV_OK, "%s", err.message);
    cr_assert_eq(status, 200, "%s: %.*s", text, (int)answer.size, answer.data);
    json_t *root = json_loadb(answer.data, answer.size, 0, NULL);
    json_t *rows = json_incref(json_object_get(root, "rows"));
    json_decref(root);
    imv_buffer_release(&answer);
    json_decref(params);
    return rows;
}

static const char *list(const char *function, int count) {
    static char text[1024];
    size_t used = 0;
    for (int f = 0; f < count; f++) {
        const char *close = function[0] == 0 ? "" : ")", *open = function[0] == 0 ? "" : "(";
        used += (size_t)sprintf(text + used, "%s%s%ss.%s%s", f == 0 ? "" : ", ", function, open, fields[f], close);
    }
    return text;
}

struct question {
    int hosts[8], hosts_count; /* 0: all */
    int fields_count;
    int first, last; /* steps [first, last) */
    int bucket;      /* steps */
};

static bool asks_host(const struct question *q, int host) {
    for (int i = 0; i < q->hosts_count; i++) {
        if (q->hosts[i] == host) return true;
    }
    return q->hosts_count == 0;
}

static int64_t time_of(int step) { return (start_s + (int64_t)step * STEP_S) * second_ns; }

static json_t *params_of(const struct question *q) {
    json_t *hosts = json_array();
    for (int i = 0; i < q->hosts_count; i++) json_array_append_new(hosts, json_sprintf("host_%d", q->hosts[i]));
    return json_pack("{s:o,s:I,s:I}", "hosts", hosts, "a", (json_int_t)time_of(q->first), "b",
                     (json_int_t)time_of(q->last));
}

static struct question draw(struct imv_prng *prng, int hosts, int fields_count, int span, int bucket) {
    struct question q = {.hosts_count = hosts, .fields_count = fields_count, .bucket = bucket};
    for (int i = 0; i < hosts; i++) {
        do {
            q.hosts[i] = (int)imv_prng_below(prng, HOSTS);
            for (int k = 0; k < i; k++) q.hosts[i] = q.hosts[k] == q.hosts[i] ? -1 : q.hosts[i];
        } while (q.hosts[i] < 0);
    }
    q.first = (int)imv_prng_below(prng, (uint64_t)(STEPS - span + 1));
    q.last = q.first + span;
    return q;
}

/* ---- the ten questions ---- */

/* single-groupby-1-1-1, -1-8-1, -5-8-1, cpu-max-all-8: maxima over the hosts per bucket of time. */
static void check_max(const struct question *q) {
    char text[2048];
    snprintf(text, sizeof text,
             "MATCH (h:cpu) WHERE h.hostname IN $hosts SAMPLES OF h AS s FROM $a TO $b WINDOW %dm "
             "RETURN window.start AS t, %s ORDER BY t",
             q->bucket * STEP_S / 60, list("max", q->fields_count));
    json_t *rows = ask(text, params_of(q));
    size_t row = 0;
    for (int from = q->first / q->bucket * q->bucket; from < q->last; from += q->bucket, row++) {
        const json_t *have = json_array_get(rows, row);
        cr_assert_eq(json_integer_value(json_array_get(have, 0)), time_of(from), "%s: row %zu", text, row);
        for (int f = 0; f < q->fields_count; f++) {
            int64_t max = INT64_MIN;
            for (int s = from; s < from + q->bucket; s++) {
                for (int h = 0; h < HOSTS && s >= q->first && s < q->last; h++) {
                    if (asks_host(q, h) && values[s][h][f] > max) max = values[s][h][f];
                }
            }
            cr_assert_eq(json_integer_value(json_array_get(have, (size_t)f + 1)), max, "%s: row %zu", text, row);
        }
    }
    cr_assert_eq(json_array_size(rows), row);
    json_decref(rows);
}

/* double-groupby-1, -all: means per host and bucket. */
static void check_mean(const struct question *q) {
    char text[2048];
    static double sums[HOSTS][STEPS][FIELDS];
    static int counts[HOSTS][STEPS];
    memset(sums, 0, sizeof sums);
    memset(counts, 0, sizeof counts);
    int groups = 0;
    for (int s = q->first; s < q->last; s++) {
        for (int h = 0; h < HOSTS; h++) {
            groups += counts[h][s / q->bucket]++ == 0;
            for (int f = 0; f < FIELDS; f++) sums[h][s / q->bucket][f] += (double)values[s][h][f];
        }
    }
    snprintf(text, sizeof text,
             "MATCH (h:cpu) SAMPLES OF h AS s FROM $a TO $b WINDOW %dm RETURN h.hostname, window.start, %s",
             q->bucket * STEP_S / 60, list("avg", q->fields_count));
    json_t *rows = ask(text, params_of(q));
    cr_assert_eq((int)json_array_size(rows), groups);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        int host = atoi(json_string_value(json_array_get(row, 0)) + 5);
        int slot = (int)((json_integer_value(json_array_get(row, 1)) / second_ns - start_s) / STEP_S / q->bucket);
        for (int f = 0; f < q->fields_count; f++) {
            double mean = sums[host][slot][f] / counts[host][slot];
            double have = json_number_value(json_array_get(row, (size_t)f + 2));
            cr_assert(fabs(have - mean) <= 1e-12 * fabs(mean), "host_%d: %.17g, not %.17g", host, have, mean);
        }
        counts[host][slot] = -1; /* a group comes once */
        memset(sums[host][slot], 0xff, sizeof sums[host][slot]);
    }
    json_decref(rows);
}

/* high-cpu-1, -all: every row with usage_user above 90. */
static void check_high(const struct question *q) {
    char text[2048];
    snprintf(text, sizeof text,
             "MATCH (h:cpu) %s SAMPLES OF h AS s FROM $a TO $b FILTER s.usage_user > 90 RETURN h.hostname, s.ts, %s",
             q->hosts_count > 0 ? "WHERE h.hostname IN $hosts" : "", list("", FIELDS));
    json_t *rows = ask(text, params_of(q));
    size_t expected = 0;
    for (int s = q->first; s < q->last; s++) {
        for (int h = 0; h < HOSTS; h++) expected += asks_host(q, h) && values[s][h][0] > 90;
    }
    cr_assert_eq(json_array_size(rows), expected, "%zu rows, not %zu", json_array_size(rows), expected);
    static bool seen[STEPS][HOSTS];
    memset(seen, 0, sizeof seen);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        int host = atoi(json_string_value(json_array_get(row, 0)) + 5);
        int step = (int)((json_integer_value(json_array_get(row, 1)) / second_ns - start_s) / STEP_S);
        cr_assert(asks_host(q, host) && step >= q->first && step < q->last && !seen[step][host]);
        seen[step][host] = true;
        for (int f = 0; f < FIELDS; f++)
            cr_assert_eq(json_integer_value(json_array_get(row, (size_t)f + 2)), values[step][host][f]);
    }
    json_decref(rows);
}

static void check_lastpoint(void) {
    json_t *rows =
        ask("MATCH (h:cpu) RETURN h.hostname, last_time(h), h.usage_user, h.usage_system, h.usage_guest_nice", NULL);
    cr_assert_eq(json_array_size(rows), (size_t)HOSTS);
    for (size_t r = 0; r < HOSTS; r++) {
        const json_t *row = json_array_get(rows, r);
        int host = atoi(json_string_value(json_array_get(row, 0)) + 5);
        cr_assert_eq(json_integer_value(json_array_get(row, 1)), time_of(STEPS - 1));
        cr_assert_eq(json_integer_value(json_array_get(row, 2)), values[STEPS - 1][host][0]);
        cr_assert_eq(json_integer_value(json_array_get(row, 3)), values[STEPS - 1][host][1]);
        cr_assert_eq(json_integer_value(json_array_get(row, 4)), values[STEPS - 1][host][FIELDS - 1]);
    }
    json_decref(rows);
}

static void check_groupby_orderby_limit(int end) {
    json_t *rows =
        ask("MATCH (h:cpu) SAMPLES OF h AS s TO $b WINDOW 1m RETURN window.start AS t, max(s.usage_user) ORDER BY t "
            "DESC LIMIT 5",
            json_pack("{s:I}", "b", (json_int_t)time_of(end)));
    int per_minute = 60 / STEP_S, minute = (end - 1) / per_minute;
    for (size_t r = 0; r < 5; r++, minute--) {
        int64_t max = INT64_MIN;
        for (int s = minute * per_minute; s < (minute + 1) * per_minute && s < end; s++) {
            for (int h = 0; h < HOSTS; h++) max = values[s][h][0] > max ? values[s][h][0] : max;
        }
        const json_t *row = json_array_get(rows, r);
        cr_assert_eq(json_integer_value(json_array_get(row, 0)), time_of(minute * per_minute));
        cr_assert_eq(json_integer_value(json_array_get(row, 1)), max);
    }
    cr_assert_eq(json_array_size(rows), 5);
    json_decref(rows);
}

static void check_all(struct imv_prng *prng) {
    struct imv_error err;
    cr_assert_eq(imv_client_new(server.url, &client, &err), IMV_OK);
    for (int run = 0; run < RUNS; run++) {
        struct question q;
        static const int shapes[][4] = {{1, 1, 360, 6}, {8, 1, 360, 6}, {8, 5, 360, 6}, {8, 10, 600, 60}};
        for (size_t i = 0; i < 4; i++) {
            q = draw(prng, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
            check_max(&q);
        }
        q = draw(prng, 0, 1, 600, 60);
        check_mean(&q);
        q = draw(prng, 0, FIELDS, 600, 60);
        check_mean(&q);
        q = draw(prng, 1, FIELDS, 600, 60);
        check_high(&q);
        q = draw(prng, 0, FIELDS, 600, 60);
        check_high(&q);
        check_lastpoint();
        check_groupby_orderby_limit(60 + (int)imv_prng_below(prng, STEPS - 60));
    }
    imv_client_free(client);
}

Test(tsbs, the_ten_queries_equal_plain_loops_over_the_data, .timeout = 300) {
    const char *program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    struct imv_prng prng;
    imv_prng_init(&prng, 2016);
    make_values(&prng);
    test_directory(server.directory, sizeof server.directory, "tsbs");
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
    load();
    check_all(&prng);
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
    check_all(&prng);
    cr_assert_eq(test_server_stop(&server, SIGTERM), 0);
    test_directory_remove(server.directory);
    unlink(server.log);
}
