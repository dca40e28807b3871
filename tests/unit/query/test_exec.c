#include "query/number.h"
#include "storage/base/prng.h"
#include "tests/unit/query/query_rig.h"

#include <math.h>

#define SECOND HARNESS_SECOND
#define BEGIN  (INT64_C(1700000000) * SECOND)

static struct rig rig;

static void teardown(void) { rig_close(&rig); }

/* ---- a fixed set of data ---- */

/* Four hosts in two regions; thirty rows each, ten seconds apart; load only in every third; nothing from 2:00 to
 * 5:20. */
static void setup(void) {
    rig_open(&rig);
    for (int host = 0; host < 4; host++)
        for (int i = 0; i < 30; i++) {
            char tags[64];
            struct rig_field fields[] = {{"usage_user", IMV_INTEGER, (uint64_t)((host * 37 + i * 13) % 101), NULL},
                                         {"load", IMV_FLOAT, imv_float_cell(i / 4.0 + host), NULL}};
            snprintf(tags, sizeof tags, "hostname=h%d,region=%s", host, host % 2 == 0 ? "eu" : "us");
            rig_write(&rig, "cpu", tags, BEGIN + (i * 10 + (i >= 12 ? 200 : 0)) * SECOND, fields, i % 3 == 0 ? 2 : 1);
        }
    struct rig_field free = {"free", IMV_INTEGER, 5, NULL};
    rig_write(&rig, "mem", "hostname=h1", BEGIN, &free, 1);
    rig_write(&rig, "mem", "hostname=h9", BEGIN + SECOND, &free, 1);
    rig_settle(&rig, false);
}

/* The clauses of a pipeline do what openCypher says of them. */
Test(exec, pipelines, .init = setup, .fini = teardown) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"MATCH (h:cpu) WHERE h.region = 'eu' RETURN h.hostname AS n ORDER BY n", "[\"h0\"]\n[\"h2\"]"},
        {"MATCH (h:cpu {hostname: 'h3'}) RETURN h.region", "[\"us\"]"},
        {"MATCH (h:cpu WHERE h.hostname > 'h1') RETURN h.hostname AS n ORDER BY n DESC", "[\"h3\"]\n[\"h2\"]"},
        {"MATCH (h:none) RETURN h", ""},
        {"MATCH (h:cpu) WHERE h.nothing = 'x' RETURN h", ""},
        {"MATCH (h:cpu) WHERE h.nothing IS NULL RETURN count(h)", "[4]"},
        {"MATCH (h:cpu) WHERE h.hostname = null RETURN count(h)", "[0]"},
        {"MATCH (h:cpu) WHERE h.hostname IN ['h1', 5, null] RETURN h.hostname", "[\"h1\"]"},
        {"MATCH (h:cpu) WHERE 'h2' = h.hostname RETURN h.hostname", "[\"h2\"]"},
        {"MATCH (h:cpu|mem) RETURN labels(h)[0] AS l, count(*) AS c ORDER BY l", "[\"cpu\",4]\n[\"mem\",2]"},
        {"MATCH (h:!cpu) RETURN count(*)", "[2]"},
        {"MATCH (h) RETURN count(*)", "[6]"},
        {"MATCH (h:cpu:mem) RETURN count(*)", "[0]"},
        {"MATCH (a:cpu), (b:mem) WHERE a.hostname = b.hostname RETURN a.hostname, b.free", "[\"h1\",5]"},
        {"MATCH (a:cpu), (b:mem) RETURN count(*)", "[8]"},
        {"MATCH (a:cpu) MATCH (b:mem) WHERE b.hostname = a.hostname AND b.free = 5 RETURN a.region", "[\"us\"]"},
        {"MATCH (a:cpu) MATCH (a:cpu {region: 'eu'}) RETURN count(a)", "[2]"},
        {"MATCH (a:cpu) OPTIONAL MATCH (b:mem {hostname: a.hostname}) RETURN a.hostname AS n, b.free ORDER BY n",
         "[\"h0\",null]\n[\"h1\",5]\n[\"h2\",null]\n[\"h3\",null]"},
        {"OPTIONAL MATCH (b:none) RETURN b, b.x, labels(b)", "[null,null,null]"},
        {"OPTIONAL MATCH (b:none) MATCH (b) RETURN b", ""},
        {"OPTIONAL MATCH (b:none) SAMPLES OF b AS s RETURN count(*)", "[0]"},
        {"UNWIND [1, 2, 3] AS x UNWIND ['a', 'b'] AS y WITH x, y WHERE x <> 2 RETURN x, y",
         "[1,\"a\"]\n[1,\"b\"]\n[3,\"a\"]\n[3,\"b\"]"},
        {"UNWIND null AS x RETURN x", ""},
        {"UNWIND [] AS x RETURN x", ""},
        {"UNWIND 5 AS x RETURN x", "[5]"},
        {"UNWIND [[1, 2], [3]] AS x UNWIND x AS y RETURN y", "[1]\n[2]\n[3]"},
        {"UNWIND [3, 1, 2] AS x RETURN x ORDER BY x SKIP 1 LIMIT 1", "[2]"},
        {"UNWIND range(1, 5000) AS x WITH x SKIP 1500 LIMIT 2000 RETURN count(x), min(x), max(x)", "[2000,1501,3500]"},
        {"UNWIND [1, 2] AS x RETURN x LIMIT 0", ""},
        {"UNWIND [1, 1.0, 2, null, null] AS x RETURN DISTINCT x", "[1]\n[2]\n[null]"},
        {"UNWIND [1, 2, 1] AS x RETURN x % 2 AS k, count(*), collect(x)", "[1,2,[1,1]]\n[0,1,[2]]"},
        {"UNWIND [1, 2, 3] AS x WITH sum(x) AS s, max(x) AS m WHERE s > 5 RETURN s * 10 + m", "[63]"},
        {"UNWIND [5, 6] AS x WITH x ORDER BY x DESC LIMIT 1 RETURN x", "[6]"},
        {"UNWIND ['a', 'b', 'c'] AS x WITH x, CASE x WHEN 'b' THEN 1 END AS k ORDER BY k, x DESC RETURN collect(x)",
         "[[\"b\",\"c\",\"a\"]]"},
        {"RETURN 1 AS x UNION ALL RETURN 1 AS x UNION ALL RETURN 2 AS x", "[1]\n[1]\n[2]"},
        {"RETURN 1 AS x UNION RETURN 1.0 AS x UNION UNWIND [2, 2] AS x RETURN x", "[1]\n[2]"},
        {"UNWIND [1, 2] AS x LET y = x * 2, z = y + 1 FILTER z > 3 RETURN x, y, z", "[2,4,5]"},
        {"WITH 1 AS a WITH a, a + 1 AS b WITH b AS a, a AS b RETURN a, b", "[2,1]"},
        {"WITH [1, 2] AS l RETURN [x IN l | x + size(l)] AS r", "[[3,4]]"},
        {"MATCH (h:cpu) WITH h ORDER BY h.hostname DESC LIMIT 2 RETURN collect(h.hostname)", "[[\"h3\",\"h2\"]]"},
        {"MATCH (h:cpu) WITH collect(h) AS hs UNWIND hs AS h RETURN h.hostname AS n ORDER BY n LIMIT 1", "[\"h0\"]"},
        {"MATCH (h:cpu) RETURN h.region AS r, count(*) AS c, collect(DISTINCT h.region) ORDER BY c, r",
         "[\"eu\",2,[\"eu\"]]\n[\"us\",2,[\"us\"]]"},
        {"MATCH (h:cpu) RETURN h.hostname ORDER BY h.usage_user DESC, h.hostname LIMIT 2", "[\"h3\"]\n[\"h0\"]"},
        {"RETURN 5 AS x ORDER BY x SKIP 0 LIMIT 9223372036854775807", "[5]"},
        {"RETURN 1 SKIP -1", "SyntaxError/NegativeIntegerArgument"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) rig_expect(&rig, cases[i].text, cases[i].wanted);
}

/* Samples come by bounds, fields and windows. */
Test(exec, samples, .init = setup, .fini = teardown) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"MATCH (h:cpu) SAMPLES OF h AS s RETURN count(*), count(s), count(s.load), min(s.usage_user), max(s.load)",
         "[120,120,40,0,9.75]"},
        {"MATCH (h:cpu {hostname: 'h1'}) SAMPLES OF h AS s FROM 1700000010000000000 TO 1700000030000000000 RETURN "
         "s.ts, s.usage_user, s.load",
         "[\"2023-11-14T22:13:30.000000000Z\",50,null]\n[\"2023-11-14T22:13:40.000000000Z\",63,null]"},
        {"MATCH (h:cpu {hostname: 'h1'}) SAMPLES OF h AS s FROM '2023-11-14T22:13:30Z' TO "
         "datetime('2023-11-14T22:13:31Z') RETURN s.usage_user",
         "[50]"},
        {"MATCH (h:cpu {hostname: 'h1'}) SAMPLES OF h AS s TO '2023-11-14T22:13:21Z' RETURN s",
         "[{\"ts\":\"2023-11-14T22:13:20.000000000Z\",\"usage_user\":37,\"load\":1.0}]"},
        {"MATCH (h:cpu {hostname: 'h1'}) SAMPLES OF h.load AS v TO '2023-11-14T22:14:00Z' RETURN v.ts, v.value, v",
         "[\"2023-11-14T22:13:20.000000000Z\",1.0,{\"ts\":\"2023-11-14T22:13:20.000000000Z\",\"value\":1.0}]\n"
         "[\"2023-11-14T22:13:50.000000000Z\",1.75,{\"ts\":\"2023-11-14T22:13:50.000000000Z\",\"value\":1.75}]"},
        {"MATCH (h:cpu) SAMPLES OF h.nothing AS v RETURN count(*)", "[0]"},
        {"MATCH (h:cpu) SAMPLES OF h.hostname AS v RETURN count(*)", "[0]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM 5 TO 5 RETURN count(*)", "[0]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM 9 TO 5 RETURN count(*)", "[0]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s TO -9223372036854775808 RETURN count(*)", "[0]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FILTER s.ts < '2023-11-14T22:13:40Z' AND s.ts >= "
         "1700000010000000000 RETURN count(*)",
         "[1]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FILTER 1700000000000000000 < s.ts <= 1700000010000000000 "
         "RETURN count(*)",
         "[1]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FILTER s.ts = datetime('2023-11-14T22:13:40Z') RETURN "
         "s.usage_user",
         "[26]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FILTER s.ts < 'never' RETURN count(*)", "[0]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FILTER s.ts < null RETURN count(*)", "[0]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FILTER h.region = 'eu' AND s.usage_user > 95 RETURN h.hostname, s.usage_user",
         "[\"h0\",97]\n[\"h2\",100]\n[\"h2\",96]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s WITH h, s AS x WHERE x.usage_user > 95 RETURN h.region, "
         "x.usage_user, x.load",
         "[\"eu\",97,null]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s RETURN s.usage_user AS u ORDER BY s.ts DESC LIMIT 2",
         "[74]\n[61]"},
        {"MATCH (h:cpu {hostname: 'h0'}) WITH h.hostname AS n, h SAMPLES OF h AS s RETURN n, count(*)", "[\"h0\",30]"},
        {"MATCH (h:cpu) WITH collect(h) AS hs UNWIND hs AS h SAMPLES OF h AS s RETURN count(*)", "[120]"},
        {"MATCH (a:cpu {hostname: 'h0'}), (b:cpu {hostname: 'h1'}) SAMPLES OF a AS s SAMPLES OF b AS t FROM s.ts TO "
         "s.ts + 1ns "
         "RETURN count(*), sum(t.usage_user - s.usage_user) > 0",
         "[30,true]"},
        {"WITH 1 AS h SAMPLES OF h AS s RETURN s", "SyntaxError/InvalidArgumentType"},
        {"UNWIND [1, 'a'] AS h SAMPLES OF h AS s RETURN s", "TypeError/InvalidArgumentType"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM 'soon' RETURN s", "ArgumentError/InvalidArgumentValue"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM null RETURN s", "ArgumentError/InvalidArgumentValue"},
    };
    for (int flushed = 0; flushed < 2; flushed++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char *ordered = strdup(cases[i].text);
            rig_expect(&rig, ordered, cases[i].wanted);
            free(ordered);
        }
        rig_settle(&rig, true);
    }
}

/* Windows divide groups, whether their start is a column or not, and FILL adds those without samples. */
Test(exec, windows, .init = setup, .fini = teardown) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s TO '2023-11-14T22:15:00Z' WINDOW 1m RETURN window.start AS "
         "t, window.end AS e, "
         "window.duration AS d, max(s.usage_user), count(*) ORDER BY t",
         "[\"2023-11-14T22:13:00.000000000Z\",\"2023-11-14T22:14:00.000000000Z\",\"PT1M\",39,4]\n"
         "[\"2023-11-14T22:14:00.000000000Z\",\"2023-11-14T22:15:00.000000000Z\",\"PT1M\",91,6]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s TO '2023-11-14T22:15:00Z' WINDOW 1m RETURN count(*)",
         "[4]\n[6]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s TO '2023-11-14T22:15:00Z' WINDOW 1m WITH h, window, "
         "sum(s.usage_user) AS u "
         "RETURN h.hostname, window.start, u, window.end - window.start",
         "[\"h0\",\"2023-11-14T22:13:00.000000000Z\",78,\"PT1M\"]\n[\"h0\",\"2023-11-14T22:14:00.000000000Z\",305,"
         "\"PT1M\"]"},
        {"MATCH (h:cpu) SAMPLES OF h AS s TO '2023-11-14T22:15:00Z' WINDOW 1m AS w RETURN w.start, count(*), "
         "min(s.load) ORDER BY w.start DESC",
         "[\"2023-11-14T22:14:00.000000000Z\",24,1.5]\n[\"2023-11-14T22:13:00.000000000Z\",16,0.0]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s WINDOW 1m WITH window.start AS t, max(s.load) AS m WITH "
         "max(m) AS x RETURN x",
         "[6.75]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FROM '2023-11-14T22:14:00Z' TO '2023-11-14T22:19:00Z' "
         "WINDOW 1m FILL null "
         "RETURN window.start, max(s.usage_user), count(*)",
         "[\"2023-11-14T22:14:00.000000000Z\",91,6]\n[\"2023-11-14T22:15:00.000000000Z\",42,2]\n[\"2023-11-14T22:16:00."
         "000000000Z\",null,null]\n"
         "[\"2023-11-14T22:17:00.000000000Z\",null,null]\n[\"2023-11-14T22:18:00.000000000Z\",68,2]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FROM '2023-11-14T22:14:00Z' TO '2023-11-14T22:19:00Z' "
         "WINDOW 1m FILL prev "
         "RETURN window.end, max(s.usage_user), min(s.load)",
         "[\"2023-11-14T22:15:00.000000000Z\",91,1.5]\n[\"2023-11-14T22:16:00.000000000Z\",42,null]\n[\"2023-11-14T22:"
         "17:00.000000000Z\",42,1.5]\n"
         "[\"2023-11-14T22:18:00.000000000Z\",42,1.5]\n[\"2023-11-14T22:19:00.000000000Z\",68,3.0]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FROM '2023-11-14T22:13:00Z' TO '2023-11-14T22:19:00Z' "
         "WINDOW 1m FILL linear "
         "RETURN max(s.usage_user), max(s.load) + 1",
         "[39,1.75]\n[91,3.25]\n[42,null]\n[50.666666666666664,3.625]\n[59.33333333333333,3.8125]\n[68,4.0]"},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FROM '2023-11-14T22:12:30Z' TO '2023-11-14T22:14:00Z' "
         "WINDOW 30s FILL linear RETURN max(s.usage_user)",
         "[null]\n[0]\n[39]"},
        {"MATCH (h:cpu) WHERE h.region = 'eu' SAMPLES OF h AS s FROM '2023-11-14T22:16:00Z' TO '2023-11-14T22:19:00Z' "
         "WINDOW 1m FILL 0 "
         "RETURN h.hostname AS n, window.start + 30s AS t, count(*), sum(s.load) ORDER BY n, t",
         "[\"h0\",\"2023-11-14T22:16:30.000000000Z\",0,0]\n[\"h0\",\"2023-11-14T22:17:30.000000000Z\",0,0]\n[\"h0\","
         "\"2023-11-14T22:18:30.000000000Z\",2,3.0]\n"
         "[\"h2\",\"2023-11-14T22:16:30.000000000Z\",0,0]\n[\"h2\",\"2023-11-14T22:17:30.000000000Z\",0,0]\n[\"h2\","
         "\"2023-11-14T22:18:30.000000000Z\",2,5.0]"},
        {"MATCH (h:none) SAMPLES OF h AS s FROM 0 TO 2000000000 WINDOW 1s FILL 7 RETURN window.start, count(*), "
         "max(s.x)",
         "[\"1970-01-01T00:00:00.000000000Z\",7,7]\n[\"1970-01-01T00:00:01.000000000Z\",7,7]"},
        {"MATCH (h:none) SAMPLES OF h AS s FROM 0 TO 2000000000 WINDOW 1s FILL 7 RETURN h.x, window.start, count(*)",
         ""},
        {"MATCH (h:cpu {hostname: 'h0'}) SAMPLES OF h AS s FROM 5 TO 3 WINDOW 1s FILL null RETURN window.start, "
         "count(*)",
         ""},
        {"MATCH (h:cpu) SAMPLES OF h AS s WINDOW 1m FILL null RETURN count(*)", "SyntaxError/UnboundedFill"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM 0 TO 1 WINDOW 1m FILL null RETURN s.load",
         "SyntaxError/InvalidClauseComposition"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM 0 TO 1 WINDOW 1m FILL null RETURN h.hostname + toString(window.start) "
         "AS k, count(*)",
         "SyntaxError/InvalidClauseComposition"},
        {"MATCH (h:cpu) SAMPLES OF h AS s WINDOW 0s RETURN count(*)", "ArgumentError/NumberOutOfRange"},
        {"MATCH (h:cpu) SAMPLES OF h AS s FROM 0 TO h.x WINDOW 1s FILL null RETURN count(*)",
         "SyntaxError/UnboundedFill"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) rig_expect(&rig, cases[i].text, cases[i].wanted);
    rig.parameters = "{\"w\": 5}";
    rig_expect(&rig, "MATCH (h:cpu) SAMPLES OF h AS s WINDOW $w RETURN count(*)", "TypeError/InvalidArgumentType");
}

/* EXPLAIN shows the operators with what was pushed into them; PROFILE adds counts. */
Test(exec, explain, .init = setup, .fini = teardown) {
    rig_expect(
        &rig,
        "EXPLAIN MATCH (h:cpu) WHERE h.region = 'eu' AND h.hostname IN ['h1'] SAMPLES OF h AS s TO 9 FILTER "
        "s.usage_user > 90 AND s.ts > 5 "
        "WINDOW 1m RETURN h.hostname, window.start AS t, max(s.load) AS m ORDER BY t SKIP 1 LIMIT 2",
        "[\"Produce\",\"h.hostname, t, m\"]\n[\"  Limit\",\"2\"]\n[\"    Skip\",\"1\"]\n[\"      Top\",\"t LIMIT 2 + "
        "1\"]\n"
        "[\"        Project\",\"max(s.load)\"]\n[\"          Aggregate\",\"max(s.load) BY h.hostname, window.start\"]\n"
        "[\"            Window\",\"1m\"]\n[\"              Filter\",\"(s.usage_user > 90)\"]\n"
        "[\"                SampleScan\",\"h TO 9, ts > 5 -> usage_user, ts, load\"]\n"
        "[\"                  TwinScan\",\"h:cpu, region = 'eu' AND hostname IN ['h1']\"]\n[\"                    "
        "Start\",\"\"]");
    const char *profile =
        rig_run(&rig, "PROFILE MATCH (h:cpu) SAMPLES OF h AS s FILTER s.usage_user > 95 RETURN count(*)");
    cr_expect_not_null(strstr(profile, "TwinScan\",\"h:cpu\",4,"), "%s", profile);
    cr_expect_not_null(strstr(profile, "SampleScan\",\"h -> usage_user\",5,"), "%s", profile);
    cr_expect_not_null(strstr(profile, "Filter\",\"(s.usage_user > 95)\",4,"), "%s", profile);
}

/* ---- random data and queries against a naive computation ---- */

enum { SERIES = 6, ROWS = 400 };

struct model_row {
    int64_t time;
    bool has_i, has_f;
    int64_t i;
    double f;
};

static struct model_row rows[SERIES][ROWS];
static size_t rows_count[SERIES];
static struct imv_prng prng;

/* Irregular times, missing fields, quarters as floats so that sums are exact; some in chunks, some in heads. */
static void make_model(uint64_t seed) {
    imv_prng_init(&prng, seed);
    rig_open(&rig);
    for (int series = 0; series < SERIES; series++) rows_count[series] = 50 + imv_prng_below(&prng, ROWS - 50);
    for (size_t row = 0; row < ROWS; row++) {
        if (row == ROWS / 2) rig_settle(&rig, true);
        for (int series = 0; series < SERIES; series++) {
            if (row >= rows_count[series]) continue;
            struct model_row *model = &rows[series][row];
            int64_t before = row == 0 ? BEGIN : model[-1].time;
            *model = (struct model_row){.time = before + 1 + (int64_t)imv_prng_below(&prng, (uint64_t)(4 * SECOND)),
                                        .has_i = imv_prng_below(&prng, 4) != 0,
                                        .i = (int64_t)imv_prng_below(&prng, 200) - 100,
                                        .f = (double)imv_prng_below(&prng, 1000) / 4 - 100};
            model->has_f = !model->has_i || imv_prng_below(&prng, 3) != 0;
            char tags[32];
            struct rig_field fields[2];
            uint32_t count = 0;
            snprintf(tags, sizeof tags, "k=%c,g=%c", 'a' + series, 'x' + series % 2);
            if (model->has_i) fields[count++] = (struct rig_field){"i", IMV_INTEGER, (uint64_t)model->i, NULL};
            if (model->has_f) fields[count++] = (struct rig_field){"f", IMV_FLOAT, imv_float_cell(model->f), NULL};
            rig_write(&rig, "m", tags, model->time, fields, count);
        }
    }
    rig_settle(&rig, false);
}

static void put_float(struct imv_buffer *out, double number) {
    char text[32];
    imv_buffer_append(out, text, imv_float_print(text, number));
}

static void put_time(struct imv_buffer *out, int64_t ns) {
    char text[IMV_TIME_BYTES];
    imv_time_print(text, ns);
    imv_buffer_append_format(out, "\"%.*s\"", IMV_TIME_BYTES, text);
}

/* The aggregates of the rows of some series in [from, to) above a limit, computed row by row. */
struct naive {
    int64_t count, count_i, sum_i, min_i, max_i, count_f, first_time, first_i, last_time, last_i;
    double sum_f, max_f;
};

static void naive_add(struct naive *naive, const struct model_row *row) {
    naive->count++;
    if (row->has_i) {
        if (naive->count_i == 0 || row->i < naive->min_i) naive->min_i = row->i;
        if (naive->count_i == 0 || row->i > naive->max_i) naive->max_i = row->i;
        if (naive->count_i == 0 || row->time < naive->first_time)
            naive->first_time = row->time, naive->first_i = row->i;
        if (naive->count_i == 0 || row->time >= naive->last_time) naive->last_time = row->time, naive->last_i = row->i;
        naive->count_i++;
        naive->sum_i += row->i;
    }
    if (row->has_f) {
        if (naive->count_f == 0 || row->f > naive->max_f) naive->max_f = row->f;
        naive->count_f++;
        naive->sum_f += row->f;
    }
}

#define AGGREGATES "count(*), count(s.i), sum(s.i), min(s.i), max(s.i), avg(s.f), max(s.f), first(s.i), last(s.i), "
/* The first needs rows, the second lets the scan make buckets. */
static const char *const last_aggregate[] = {"stdevp(s.i) >= 0", "count(s.f) >= 0"};

static void naive_print(struct imv_buffer *out, const struct naive *naive) {
    imv_buffer_append_format(out, "%lld,%lld,%lld,", (long long)naive->count, (long long)naive->count_i,
                             (long long)naive->sum_i);
    if (naive->count_i > 0)
        imv_buffer_append_format(out, "%lld,%lld,", (long long)naive->min_i, (long long)naive->max_i);
    else
        imv_buffer_append_format(out, "null,null,");
    if (naive->count_f > 0) {
        put_float(out, naive->sum_f / (double)naive->count_f);
        imv_buffer_append_char(out, ',');
        put_float(out, naive->max_f);
    } else {
        imv_buffer_append_format(out, "null,null");
    }
    if (naive->count_i > 0)
        imv_buffer_append_format(out, ",%lld,%lld,true]\n", (long long)naive->first_i, (long long)naive->last_i);
    else
        imv_buffer_append_format(out, ",null,null,true]\n");
}

static void compare(const char *text, struct imv_buffer *wanted) {
    if (wanted->size > 0) wanted->size--;
    imv_buffer_append_char(wanted, 0);
    const char *answer = rig_run(&rig, text);
    cr_assert_str_eq(answer, wanted->data, "%s\n gives\n%s\n wanted\n%s", text, answer, wanted->data);
    imv_buffer_reset(wanted);
}

/* Grouping by key, tag or nothing, with or without windows, bounds and a filter, gives what a loop over all rows
 * gives. */
Test(exec, aggregation_agrees_with_a_loop, .fini = teardown) {
    make_model(2024);
    struct imv_buffer wanted;
    imv_buffer_init(&wanted, 16 << 20);
    for (int round = 0; round < 120; round++) {
        int64_t from = BEGIN + (int64_t)imv_prng_below(&prng, (uint64_t)(600 * SECOND));
        int64_t to = from + (int64_t)imv_prng_below(&prng, (uint64_t)(900 * SECOND));
        int64_t width = round % 3 == 0 ? 0 : (int64_t)(1 + imv_prng_below(&prng, 120)) * SECOND;
        int64_t limit = (int64_t)imv_prng_below(&prng, 150) - 100;
        int keys = (int)imv_prng_below(&prng, 3), groups = keys == 0 ? 1 : keys == 1 ? 2 : SERIES;
        bool filter = imv_prng_below(&prng, 2) == 0;
        static const char *const columns[] = {"", "h.g AS k, ", "h.k AS k, "};
        char text[1024], window[64] = "", condition[64] = "";
        if (width > 0) snprintf(window, sizeof window, "WINDOW %llds", (long long)(width / SECOND));
        if (filter) snprintf(condition, sizeof condition, "FILTER s.i > %lld", (long long)limit);
        snprintf(text, sizeof text,
                 "MATCH (h:m) SAMPLES OF h AS s FROM %lld TO %lld %s %s RETURN %s%s" AGGREGATES "%s%s%s%s%s",
                 (long long)from, (long long)to, condition, window, columns[keys],
                 width > 0 ? "window.start AS t, " : "", last_aggregate[round / 3 % 2],
                 keys > 0 || width > 0 ? " ORDER BY " : "", keys > 0 ? "k" : "", keys > 0 && width > 0 ? ", " : "",
                 width > 0 ? "t" : "");
        for (int group = 0; group < groups; group++) {
            int64_t start = width > 0 ? imv_time_bucket(from, width, 0) : from, step = width > 0 ? width : to - from;
            for (; start < to || (width == 0 && start == from); start += step) {
                struct naive naive = {0};
                for (int series = 0; series < SERIES; series++) {
                    if (keys == 1 ? series % 2 != group : keys == 2 ? series != group : false) continue;
                    for (size_t row = 0; row < rows_count[series]; row++) {
                        const struct model_row *model = &rows[series][row];
                        if (model->time < from || model->time >= to || model->time < start ||
                            model->time >= start + step)
                            continue;
                        if (!filter || (model->has_i && model->i > limit)) naive_add(&naive, model);
                    }
                }
                if (naive.count > 0 || (keys == 0 && width == 0)) {
                    imv_buffer_append_char(&wanted, '[');
                    if (keys > 0) imv_buffer_append_format(&wanted, "\"%c\",", (keys == 1 ? 'x' : 'a') + group);
                    if (width > 0) put_time(&wanted, start);
                    if (width > 0) imv_buffer_append_char(&wanted, ',');
                    naive_print(&wanted, &naive);
                }
                if (step == 0) break;
            }
        }
        compare(text, &wanted);
    }
    imv_buffer_release(&wanted);
}

struct flat {
    char key;
    const struct model_row *row;
};

static int compare_flat(const void *x, const void *y) {
    const struct flat *a = x, *b = y;
    int order = (a->row->time < b->row->time) - (a->row->time > b->row->time);
    return order != 0 ? order : a->key - b->key;
}

/* Rows filtered, sorted, skipped and limited are those of a sorted array. */
Test(exec, rows_agree_with_a_loop, .fini = teardown) {
    make_model(77);
    struct imv_buffer wanted;
    imv_buffer_init(&wanted, 64 << 20);
    for (int round = 0; round < 60; round++) {
        static struct flat all[SERIES * ROWS];
        size_t count = 0, skip = imv_prng_below(&prng, 30),
               limit = round % 4 == 0 ? SIZE_MAX : imv_prng_below(&prng, 2000);
        int64_t below = (int64_t)imv_prng_below(&prng, 250) - 120;
        for (int series = 0; series < SERIES; series++)
            for (size_t row = 0; row < rows_count[series]; row++) {
                const struct model_row *model = &rows[series][row];
                if ((model->has_i && model->i < below) || (model->has_f && model->f >= 100))
                    all[count++] = (struct flat){(char)('a' + series), model};
            }
        qsort(all, count, sizeof *all, compare_flat);
        char text[512], limits[64] = "";
        if (limit != SIZE_MAX) snprintf(limits, sizeof limits, "LIMIT %zu", limit);
        snprintf(text, sizeof text,
                 "MATCH (h:m) SAMPLES OF h AS s FILTER s.i < %lld OR s.f >= 100 RETURN h.k, s.ts, s.i, s.f ORDER BY "
                 "s.ts DESC, h.k SKIP %zu %s",
                 (long long)below, skip, limits);
        for (size_t i = skip; i < count && i - skip < limit; i++) {
            const struct model_row *row = all[i].row;
            imv_buffer_append_format(&wanted, "[\"%c\",", all[i].key);
            put_time(&wanted, row->time);
            if (row->has_i)
                imv_buffer_append_format(&wanted, ",%lld,", (long long)row->i);
            else
                imv_buffer_append_format(&wanted, ",null,");
            if (row->has_f)
                put_float(&wanted, row->f);
            else
                imv_buffer_append_format(&wanted, "null");
            imv_buffer_append_format(&wanted, "]\n");
        }
        compare(text, &wanted);
    }
    imv_buffer_release(&wanted);
}

/* ---- ending early ---- */

static const char *const heavy[] = {
    "UNWIND range(1, 30000) AS x RETURN x, toString(x) AS s ORDER BY s",
    "UNWIND range(1, 30000) AS x RETURN DISTINCT x % 10007 AS k",
    "UNWIND range(1, 30000) AS x RETURN x % 10007 AS k, collect(x), count(DISTINCT x)",
    "UNWIND range(1, 20000) AS x WITH collect(toString(x)) AS l RETURN size(l), [y IN l | y + '!'][19999]",
    "MATCH (h:cpu), (g:cpu), (i:cpu) SAMPLES OF h AS s RETURN h.hostname, s.ts, s.load, s ORDER BY s.load, s.ts",
    "MATCH (h:cpu) SAMPLES OF h AS s FROM 1700000000000000000 TO 1700000400000000000 WINDOW 100ms FILL linear RETURN "
    "h.hostname, window, avg(s.load), count(*)",
    "RETURN reduce(a = '', x IN range(1, 3000) | a + 'x') AS r",
    "UNWIND range(1, 200) AS x UNWIND range(1, 200) AS y WITH x, y WHERE (x * y) % 7 = 0 RETURN count(*) UNION RETURN "
    "5 AS `count(*)`",
};
enum { HEAVY = sizeof heavy / sizeof *heavy };

/* Whatever memory a query is given, it either answers or says that it is too little, and gives all of it back. */
Test(exec, memory_is_bounded, .init = setup, .fini = teardown, .timeout = 120) {
    for (size_t i = 0; i < HEAVY; i++) {
        size_t refused = 0;
        bool answered = false;
        for (size_t bytes = 1024; bytes <= 256 << 20 && !answered; bytes += bytes / 3) {
            rig.memory_bytes_max = bytes;
            imv_status status = rig_try(&rig, heavy[i]);
            answered = status == IMV_OK;
            if (answered) continue;
            refused++;
            cr_assert_eq(status == IMV_FULL || status == IMV_NO_MEMORY, true, "%s: %s", heavy[i], rig.error.message);
        }
        cr_expect(answered && refused > 3, "%s", heavy[i]);
    }
    rig.memory_bytes_max = 16 << 20;
    rig_expect(&rig, "RETURN size(range(1, 100000000))", "ResourceError/MemoryLimit");
    rig_expect(&rig, "RETURN reduce(a = 'x', x IN range(1, 60) | a + a) AS r", "ResourceError/MemoryLimit");
    rig_expect(&rig, "RETURN reduce(a = [], x IN range(1, 1000) | [a]) AS r", "ArgumentError/NestingTooDeep");
}

/* Memory of all queries together is refused as such, and given back whole. */
Test(exec, memory_of_all_queries_is_bounded, .init = setup, .fini = teardown) {
    struct imv_budget all;
    imv_budget_init(&all, "queries", 1 << 20);
    rig.memory = &all;
    for (size_t i = 0; i < HEAVY; i++) rig_try(&rig, heavy[i]);
    cr_expect_gt(all.refusals, 0);
    cr_expect_eq(rig_try(&rig, "RETURN size(range(1, 200000))"), IMV_FULL);
    cr_expect_not_null(strstr(rig.error.message, "their 1048576 bytes of memory together"), "%s", rig.error.message);
    cr_expect_eq(imv_budget_used(&all), 0);
    rig_expect(&rig, "RETURN 1", "[1]");
    imv_budget_release(&all);
}

/* A clock whose monotonic time rises by one each time somebody looks. */
struct ticking {
    struct imv_clock clock;
    _Atomic int64_t ticks;
};

static int64_t ticking_wall(const struct imv_clock *clock) {
    (void)clock;
    return BEGIN;
}

static int64_t ticking_monotonic(const struct imv_clock *clock) {
    return atomic_fetch_add(&((struct ticking *)(uintptr_t)clock)->ticks, 1);
}

/* Wherever the deadline falls, the query ends with an error that says so, and leaks nothing. */
Test(exec, deadlines_end_queries, .init = setup, .fini = teardown, .timeout = 120) {
    struct ticking ticking = {.clock = {ticking_wall, ticking_monotonic}};
    rig.clock = &ticking.clock;
    for (size_t i = 0; i < HEAVY; i++) {
        size_t late = 0;
        for (int64_t deadline = 1;; deadline += 1 + deadline / 4) {
            ticking.ticks = 0;
            rig.deadline_ns = deadline;
            imv_status status = rig_try(&rig, heavy[i]);
            if (status == IMV_OK) break;
            late++;
            cr_assert_eq(status, IMV_TIMEOUT, "%s: %s", heavy[i], rig.error.message);
            cr_assert_str_eq(rig.error.detail, "Timeout");
            cr_assert(deadline < 1000000);
        }
        cr_expect_gt(late, 2, "%s", heavy[i]);
    }
}

/* A cancelled query ends, also from within the sink that receives its rows. */
static _Atomic bool cancelled;

static bool cancelling_begin(struct imv_query_sink *sink, const struct imv_str *columns, size_t count) {
    (void)sink, (void)columns, (void)count;
    return true;
}
static bool cancelling_rows(struct imv_query_sink *sink, const struct imv_column *columns, size_t count,
                            size_t rows_given) {
    (void)sink, (void)columns, (void)count, (void)rows_given;
    cr_assert_not(cancelled, "no rows come after the batch in which the query was cancelled");
    cancelled = true;
    return true;
}
static bool cancelling_end(struct imv_query_sink *sink, const struct imv_query_statistics *statistics) {
    (void)sink, (void)statistics;
    cr_assert_fail("a cancelled query has no end");
    return true;
}

Test(exec, cancelled_queries_end, .init = setup, .fini = teardown) {
    rig.cancelled = &cancelled;
    cancelled = true;
    rig_expect(&rig, "RETURN 1", "ResourceError/Cancelled");
    cancelled = false;
    struct imv_query_sink sink = {cancelling_begin, cancelling_rows, cancelling_end};
    cr_expect_eq(rig_run_into(&rig, "MATCH (h:cpu) SAMPLES OF h AS s RETURN s.ts", &sink), IMV_CANCELLED);
    cr_expect_str_eq(rig.error.detail, "Cancelled");
}

static bool refusing_rows(struct imv_query_sink *sink, const struct imv_column *columns, size_t count,
                          size_t rows_given) {
    (void)sink, (void)columns, (void)count, (void)rows_given;
    return false;
}

/* A sink that refuses rows ends the query, and is not called again. */
Test(exec, refusing_sinks_end_queries, .init = setup, .fini = teardown) {
    struct imv_query_sink sink = {cancelling_begin, refusing_rows, cancelling_end};
    cr_expect_eq(rig_run_into(&rig, "MATCH (h:cpu) SAMPLES OF h AS s RETURN s.ts", &sink), IMV_CANCELLED);
}

/* A statement reads one snapshot: rows that come later are not in it, and labels made later are not there. */
static bool writing_rows(struct imv_query_sink *sink, const struct imv_column *columns, size_t count,
                         size_t rows_given) {
    (void)sink, (void)columns, (void)count;
    static int batches;
    struct rig_field field = {"usage_user", IMV_INTEGER, 1, NULL};
    rig_write(&rig, "cpu", "hostname=h9,region=eu", BEGIN + batches, &field, 1);
    rig_write(&rig, "cpu", "hostname=h3,region=us", BEGIN + 1000 * SECOND + batches++, &field, 1);
    rig_settle(&rig, true);
    rig.statistics.rows += rows_given;
    return true;
}
static bool counting_end(struct imv_query_sink *sink, const struct imv_query_statistics *statistics) {
    (void)sink;
    rig.statistics.samples = statistics->samples;
    return true;
}

Test(exec, a_statement_reads_one_snapshot, .init = setup, .fini = teardown) {
    struct imv_query_sink sink = {cancelling_begin, writing_rows, counting_end};
    cr_expect_eq(rig_run_into(&rig, "MATCH (h:cpu) SAMPLES OF h AS s RETURN s.ts", &sink), IMV_OK);
    cr_expect_eq(rig.statistics.rows, 120);
    cr_expect_eq(rig.statistics.samples, 120);
    rig_expect(&rig, "MATCH (h:cpu) SAMPLES OF h AS s RETURN count(*), count(DISTINCT h)", "[128,5]");
}
