#include "query/fn/functions.h"
#include "tests/unit/query/query_rig.h"

#include <math.h>

struct row {
    const char *expr, *wanted;
};

static struct rig rig;

static void setup(void) { rig_open(&rig); }
static void teardown(void) { rig_close(&rig); }

static void check(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char text[1024], wanted[1024];
        snprintf(text, sizeof text, "RETURN %s AS r", rows[i].expr);
        bool error = rows[i].wanted[0] >= 'A' && rows[i].wanted[0] <= 'Z';
        snprintf(wanted, sizeof wanted, error ? "%s" : "[%s]", rows[i].wanted);
        rig_expect(&rig, text, wanted);
    }
}

#define CHECK(...) \
    check((const struct row[]){__VA_ARGS__}, sizeof((const struct row[]){__VA_ARGS__}) / sizeof(struct row))

/* Names match without regard to case and underscores; words with two meanings have two rows. */
Test(functions, are_found_by_name) {
    cr_expect_eq(imv_function_find(IMV_STR("percentileCont")), imv_function_find(IMV_STR("PERCENTILE_CONT")));
    cr_expect_eq(imv_function_find(IMV_STR("stDev")), imv_function_find(IMV_STR("stdev")));
    cr_expect_neq(imv_function_find(IMV_STR("stDevP")), imv_function_find(IMV_STR("stdev")));
    cr_expect_not_null(imv_function_find(IMV_STR("time_bucket")));
    cr_expect_null(imv_function_find(IMV_STR("nope")));
    cr_expect_null(imv_function_find(IMV_STR("")));
    cr_expect_not(imv_function_find(IMV_STR("last"))->aggregate);
    cr_expect(imv_function_find_aggregate(IMV_STR("last"))->aggregate);
    for (size_t i = 0; imv_function_at(i) != NULL; i++) {
        const struct imv_function *function = imv_function_at(i);
        cr_expect_eq(function->aggregate, function->scalar == NULL, "%s", function->name.data);
        cr_expect_eq(function->aggregate, function->state != NULL, "%s", function->name.data);
        cr_expect_leq(function->arguments_min, function->arguments_max);
    }
}

/* Conversions read text, cut floats, give null for text of another type and refuse what can never be one. */
Test(functions, conversions, .init = setup, .fini = teardown) {
    CHECK({"toString(1.5)", "\"1.5\""}, {"toString(true)", "\"true\""}, {"toString(90s)", "\"PT1M30S\""},
          {"toString(null)", "null"}, {"toString([1])", "TypeError/InvalidArgumentValue"},
          {"toStringOrNull([1])", "null"}, {"toInteger('42')", "42"}, {"toInteger('2.9')", "2"},
          {"toInteger(-2.9)", "-2"}, {"toInteger('foo')", "null"}, {"toInteger('')", "null"}, {"toInteger(true)", "1"},
          {"toInteger(1e30)", "null"}, {"toInteger(-9223372036854775808.0)", "-9223372036854775808"},
          {"toInteger([])", "TypeError/InvalidArgumentValue"}, {"toIntegerOrNull([])", "null"},
          {"toFloat('1.5')", "1.5"}, {"toFloat(2)", "2.0"}, {"toFloat('1e3')", "1000.0"}, {"toFloat('x')", "null"},
          {"toFloat(true)", "TypeError/InvalidArgumentValue"}, {"toFloatOrNull(true)", "null"},
          {"toBoolean('TRUE')", "true"}, {"toBoolean('f')", "null"}, {"toBoolean(0)", "false"},
          {"toBoolean(1.0)", "TypeError/InvalidArgumentValue"}, {"toBooleanOrNull(1.0)", "null"});
}

/* Strings are counted in code points. */
Test(functions, strings, .init = setup, .fini = teardown) {
    CHECK({"toUpper('aäб')", "\"AÄБ\""}, {"toLower('ÄÖ')", "\"äö\""}, {"trim('  a b ')", "\"a b\""},
          {"lTrim(' a ')", "\"a \""}, {"rTrim(' a ')", "\" a\""}, {"substring('hello', 1)", "\"ello\""},
          {"substring('hello', 1, 2)", "\"el\""}, {"substring('hello', 9)", "\"\""},
          {"substring('aäö', 1, 1)", "\"ä\""}, {"substring('a', -1)", "ArgumentError/NumberOutOfRange"},
          {"left('hello', 2)", "\"he\""}, {"left('h', 9)", "\"h\""}, {"right('hello', 2)", "\"lo\""},
          {"right('äö', 1)", "\"ö\""}, {"split('a,b,,c', ',')", "[\"a\",\"b\",\"\",\"c\"]"},
          {"split('', ',')", "[\"\"]"}, {"split('äb', '')", "[\"ä\",\"b\"]"},
          {"replace('hello', 'l', 'LL')", "\"heLLLLo\""}, {"replace('aaa', 'aa', 'b')", "\"ba\""},
          {"replace('a', '', 'b')", "\"a\""}, {"reverse('aäö')", "\"öäa\""}, {"size('aäö')", "3"},
          {"char_length('aä')", "2"}, {"toUpper(null)", "null"}, {"replace('a', null, 'b')", "null"},
          {"toUpper(1)", "SyntaxError/InvalidArgumentType"});
}

/* Functions of numbers. */
Test(functions, numbers, .init = setup, .fini = teardown) {
    CHECK({"abs(-1)", "1"}, {"abs(-1.5)", "1.5"}, {"abs(-9223372036854775808)", "ArithmeticError/IntegerOverflow"},
          {"abs(-5s)", "\"PT5S\""}, {"sign(-3)", "-1"}, {"sign(0.0)", "0"}, {"ceil(1.2)", "2.0"},
          {"floor(-1.2)", "-2.0"}, {"round(1.5)", "2.0"}, {"round(-1.5)", "-1.0"},
          {"round(0.49999999999999994)", "0.0"}, {"round(1.25, 1)", "1.3"}, {"round(-0.125, 2)", "-0.13"},
          {"round(1.005, 2)", "1.0"}, {"round(2.345, 2)", "2.35"}, {"sqrt(12.96)", "3.6"}, {"sqrt(-1)", "\"NaN\""},
          {"exp(0)", "1.0"}, {"log(e())", "1.0"}, {"log10(1000)", "3.0"}, {"sin(0)", "0.0"}, {"cos(pi())", "-1.0"},
          {"atan2(0, -1) = pi()", "true"}, {"degrees(pi())", "180.0"}, {"radians(180) = pi()", "true"},
          {"haversin(0)", "0.0"}, {"isNaN(0.0 / 0.0)", "true"}, {"0 <= rand() < 1", "true"}, {"abs(null)", "null"});
    rig_expect(&rig, "UNWIND range(1, 50) AS x WITH rand() AS r RETURN count(DISTINCT r) AS c", "[50]");
}

/* Functions of lists. */
Test(functions, lists, .init = setup, .fini = teardown) {
    CHECK({"size([1, 2])", "2"}, {"size({a: 1})", "1"}, {"isEmpty([])", "true"}, {"isEmpty('a')", "false"},
          {"head([1, 2])", "1"}, {"head([])", "null"}, {"last([1, 2])", "2"}, {"last([])", "null"},
          {"tail([1, 2, 3])", "[2,3]"}, {"tail([])", "[]"}, {"reverse([1, 2])", "[2,1]"}, {"range(1, 3)", "[1,2,3]"},
          {"range(3, 1)", "[]"}, {"range(3, 1, -1)", "[3,2,1]"}, {"range(0, 10, 4)", "[0,4,8]"},
          {"range(1, 3, 0)", "ArgumentError/NumberOutOfRange"}, {"range(1.0, 2)", "ArgumentError/InvalidArgumentType"},
          {"size(range(9223372036854775800, 9223372036854775807))", "8"},
          {"size(range(-9223372036854775808, 9223372036854775807, 9223372036854775807))", "3"},
          {"keys({a: 1, b: null})", "[\"a\",\"b\"]"}, {"properties({a: 1})", "{\"a\":1}"}, {"size(null)", "null"},
          {"head(null)", "null"});
}

/* Functions of times; now() is the statement's own time. */
Test(functions, times, .init = setup, .fini = teardown) {
    CHECK({"now()", "\"2023-11-14T22:13:20.000000000Z\""}, {"now() - datetime()", "\"PT0S\""},
          {"timestamp()", "1700000000000"},
          {"datetime('2026-01-01T00:00:00+01:00')", "\"2025-12-31T23:00:00.000000000Z\""},
          {"datetime({year: 2026, month: 2, day: 3, hour: 4, millisecond: 5})", "\"2026-02-03T04:00:00.005000000Z\""},
          {"datetime({year: 2026, hour: 1, timezone: '+01:00'})", "\"2026-01-01T00:00:00.000000000Z\""},
          {"datetime({epochSeconds: 1})", "\"1970-01-01T00:00:01.000000000Z\""},
          {"datetime(1)", "\"1970-01-01T00:00:00.000000001Z\""},
          {"datetime('soon')", "ArgumentError/InvalidArgumentValue"},
          {"datetime({year: 2026, week: 2})", "ArgumentError/InvalidArgumentValue"},
          {"datetime({year: 2026, timezone: 'Europe/Berlin'})", "ArgumentError/InvalidArgumentValue"},
          {"datetime({year: 9999})", "ArgumentError/InvalidArgumentValue"}, {"datetime(null)", "null"},
          {"duration('PT90M')", "\"PT1H30M\""}, {"duration({hours: 1, seconds: 1.5})", "\"PT1H1.5S\""},
          {"duration({months: 1})", "ArgumentError/InvalidArgumentValue"},
          {"duration('P1M')", "ArgumentError/InvalidArgumentValue"},
          {"time_bucket(1h, datetime('2026-01-01T01:59:00Z'))", "\"2026-01-01T01:00:00.000000000Z\""},
          {"time_bucket(1h, datetime('2026-01-01T01:59:00Z'), datetime('2026-01-01T00:30:00Z'))",
           "\"2026-01-01T01:30:00.000000000Z\""},
          {"time_bucket(0s, now())", "ArgumentError/NumberOutOfRange"});
}

/* Functions of twins read the catalog and the newest samples. */
Test(functions, twins, .init = setup, .fini = teardown) {
    struct rig_field first[] = {{"load", IMV_FLOAT, imv_float_cell(1.5), NULL}, {"state", IMV_STRING, 0, "up"}};
    struct rig_field second = {"load", IMV_FLOAT, imv_float_cell(2.5), NULL};
    rig_write(&rig, "pump", "site=a,unit=p1", 10, first, 2);
    rig_write(&rig, "pump", "site=a,unit=p1", 20, &second, 1);
    rig_settle(&rig, false);
    rig_expect(&rig, "MATCH (p:pump) RETURN labels(p), keys(p), properties(p)",
               "[[\"pump\"],[\"site\",\"unit\",\"load\",\"state\"],{\"site\":\"a\",\"unit\":\"p1\",\"load\":2.5,"
               "\"state\":\"up\"}]");
    rig_expect(&rig,
               "MATCH (p:pump) RETURN toInteger(elementId(p)) = id(p), last_time(p), p:pump, p:fan, p.load, "
               "last(p.load), p['state']",
               "[true,\"1970-01-01T00:00:00.000000020Z\",true,false,2.5,2.5,\"up\"]");
    rig_expect(&rig,
               "MATCH (p:pump) WITH collect(p) AS l RETURN [x IN l | x.load + size(x.unit)] AS r, head(l).state AS s",
               "[[4.5],\"up\"]");
    rig_expect(&rig, "MATCH (p:pump) RETURN labels([p, 1][1])", "TypeError/InvalidArgumentValue");
    rig_expect(&rig, "OPTIONAL MATCH (p:none) RETURN labels(p), p.x, last_time(p), properties(p)",
               "[null,null,null,null]");
}

/* Aggregates of no rows, of nulls, of mixed numbers; worked out by hand. */
Test(functions, aggregates, .init = setup, .fini = teardown) {
    rig_expect(&rig,
               "UNWIND [] AS x RETURN count(*), count(x), sum(x), avg(x), min(x), max(x), collect(x), stdev(x), "
               "percentile_cont(x, 0.5)",
               "[0,0,0,null,null,null,[],0.0,null]");
    rig_expect(&rig, "UNWIND [null, null] AS x RETURN count(*), count(x), sum(x), avg(x), min(x), collect(x)",
               "[2,0,0,null,null,[]]");
    rig_expect(&rig, "UNWIND [1, 2, 3, 4] AS x RETURN sum(x), avg(x), min(x), max(x), stdev(x), stdevp(x)",
               "[10,2.5,1,4,1.2909944487358056,1.118033988749895]");
    rig_expect(&rig, "UNWIND [1, 2.5, null, 3] AS x RETURN sum(x), avg(x), min(x), max(x), count(x)",
               "[6.5,2.1666666666666665,1,3,3]");
    rig_expect(&rig, "UNWIND [1, 'a', null, [1, 2], 0.2, 'b'] AS x RETURN min(x), max(x)", "[[1,2],1]");
    rig_expect(&rig, "UNWIND ['b', 'a', 'c'] AS x RETURN min(x), max(x), first(x), collect(x)",
               "[\"a\",\"c\",\"b\",[\"b\",\"a\",\"c\"]]");
    rig_expect(&rig, "UNWIND [1s, 3s] AS x RETURN sum(x), avg(x), max(x)", "[\"PT4S\",\"PT2S\",\"PT3S\"]");
    rig_expect(&rig, "UNWIND [9223372036854775807, 1] AS x RETURN sum(x)", "ArithmeticError/IntegerOverflow");
    rig_expect(&rig, "UNWIND [9223372036854775807, 1, -1] AS x RETURN sum(x), avg(x)",
               "[9223372036854775807,3.0744573456182584e18]");
    rig_expect(&rig, "UNWIND [1, 'a'] AS x RETURN sum(x)", "TypeError/InvalidArgumentValue");
    rig_expect(&rig, "UNWIND [1, 1s] AS x RETURN avg(x)", "TypeError/InvalidArgumentValue");
    rig_expect(&rig, "UNWIND [0.0 / 0.0, 1, 2.5] AS x RETURN min(x), max(x)", "[1,\"NaN\"]");
    rig_expect(&rig,
               "UNWIND [1, 1.0, 2, 'a', 'a', null, null] AS x RETURN count(DISTINCT x), collect(DISTINCT x), "
               "sum(DISTINCT size(toString(x)))",
               "[3,[1,2,\"a\"],4]");
    rig_expect(&rig,
               "UNWIND [10, 20, 30, 40] AS x RETURN percentile_cont(x, 0), percentileCont(x, 0.5), percentile_cont(x, "
               "1), percentile_disc(x, 0), "
               "percentileDisc(x, 0.5), percentile_disc(x, 0.51), percentile_disc(x, 1)",
               "[10.0,25.0,40.0,10,20,30,40]");
    rig_expect(&rig, "UNWIND [1] AS x RETURN percentile_cont(x, 1.5)", "ArgumentError/NumberOutOfRange");
    rig_expect(&rig, "UNWIND [3, 1, 2] AS x WITH x ORDER BY x DESC RETURN first(x)", "[3]");
}

/* Over samples first and last go by time, across twins; unsigned sums stay exact. */
Test(functions, aggregates_over_samples, .init = setup, .fini = teardown) {
    for (int i = 0; i < 10; i++) {
        struct rig_field field = {"v", IMV_INTEGER, (uint64_t)(100 + i), NULL};
        rig_write(&rig, "m", i % 2 == 0 ? "k=a" : "k=b", i % 2 == 0 ? 100 - i : i, &field, 1);
    }
    struct rig_field huge = {"u", IMV_UINTEGER, UINT64_MAX - 1, NULL}, one = {"u", IMV_UINTEGER, 1, NULL};
    rig_write(&rig, "w", "k=a", 1, &huge, 1);
    rig_write(&rig, "w", "k=a", 2, &one, 1);
    rig_settle(&rig, false);
    rig_expect(&rig, "MATCH (h:m) SAMPLES OF h AS s RETURN first(s.v), last(s.v), count(s), max(s.ts)",
               "[101,100,10,\"1970-01-01T00:00:00.000000100Z\"]");
    rig_expect(&rig, "MATCH (h:m) SAMPLES OF h.v AS v RETURN h.k AS k, first(v), last(v), max(v), sum(v) ORDER BY k",
               "[\"a\",108,100,108,520]\n[\"b\",101,109,109,525]");
    rig_expect(&rig, "MATCH (h:w) SAMPLES OF h AS s RETURN sum(s.u), max(s.u), avg(s.u), min(s.u), collect(s.u)",
               "[18446744073709551615,18446744073709551614,9.223372036854776e18,1,[18446744073709551614,1]]");
    rig_expect(&rig, "MATCH (h:w) SAMPLES OF h AS s RETURN sum(s.u + 0) + 1", "ArithmeticError/IntegerOverflow");
}
