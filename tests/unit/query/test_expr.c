#include "tests/unit/query/query_rig.h"

/* Expressions against what openCypher says of them; most rows are scenarios of its TCK. */

struct row {
    const char *expr, *wanted; /* the value as JSON, or "code/detail" */
};

static struct rig rig;

static void setup(void) { rig_open(&rig); }
static void teardown(void) { rig_close(&rig); }

/* Each expression twice: as it is, computed while compiling; and with a column instead of its first operand's place, so
 * that the evaluators see a row. */
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

/* Arithmetic on integers is exact, truncates, and says when it cannot; a float makes a float. */
Test(expr, arithmetic, .init = setup, .fini = teardown) {
    CHECK({"1 + 2", "3"}, {"7 / 2", "3"}, {"-7 / 2", "-3"}, {"7 % 3", "1"}, {"-7 % 3", "-1"}, {"7 / 2.0", "3.5"},
          {"2 ^ 3", "8.0"}, {"2 ^ -1", "0.5"}, {"1 + 2 * 3 - 4", "3"}, {"(1 + 2) * 3", "9"},
          {"1 / 0", "ArithmeticError/DivisionByZero"}, {"1 % 0", "ArithmeticError/DivisionByZero"},
          {"1 / 0.0", "\"Infinity\""}, {"-1 / 0.0", "\"-Infinity\""}, {"0.0 / 0.0", "\"NaN\""},
          {"9223372036854775807 + 1", "ArithmeticError/IntegerOverflow"},
          {"-9223372036854775808 - 1", "ArithmeticError/IntegerOverflow"},
          {"9223372036854775807 * 2", "ArithmeticError/IntegerOverflow"},
          {"-9223372036854775808 / -1", "ArithmeticError/IntegerOverflow"}, {"-9223372036854775808 % -1", "0"},
          {"9223372036854775807 * 2.0", "1.8446744073709552e19"}, {"1 + null", "null"}, {"null / 0", "null"},
          {"-(1 + 2)", "-3"}, {"+ 5", "5"}, {"-null", "null"}, {"5.5 % 2", "1.5"}, {"0.1 + 0.2", "0.30000000000000004"},
          {"12 / 4 * 3 - 2 * 4", "1"}, {"true + 1", "TypeError/InvalidArgumentType"});
}

/* Strings and lists are joined by + and ||. */
Test(expr, concatenation, .init = setup, .fini = teardown) {
    CHECK({"'a' + 'b'", "\"ab\""}, {"'a' + 1", "\"a1\""}, {"1.5 + 'a'", "\"1.5a\""}, {"'a' || 'b'", "\"ab\""},
          {"[1] + [2, 3]", "[1,2,3]"}, {"[1] + 2", "[1,2]"}, {"1 + [2]", "[1,2]"}, {"[1] || [2]", "[1,2]"},
          {"[] + []", "[]"}, {"'' + ''", "\"\""}, {"'a' + null", "null"}, {"[1] + null", "null"},
          {"[[1]] + [2]", "[[1],2]"});
}

/* null is unknown: it passes through, unless the other side decides. */
Test(expr, logic, .init = setup, .fini = teardown) {
    CHECK({"true AND true", "true"}, {"true AND false", "false"}, {"true AND null", "null"},
          {"false AND null", "false"}, {"null AND false", "false"}, {"null AND null", "null"}, {"true OR null", "true"},
          {"null OR true", "true"}, {"false OR null", "null"}, {"false OR false", "false"}, {"true XOR true", "false"},
          {"true XOR false", "true"}, {"true XOR null", "null"}, {"NOT true", "false"}, {"NOT null", "null"},
          {"NOT NOT false", "false"}, {"NOT (true AND false) OR false", "true"}, {"null IS NULL", "true"},
          {"1 IS NULL", "false"}, {"null IS NOT NULL", "false"}, {"[null] IS NOT NULL", "true"},
          {"(null = null) IS NULL", "true"}, {"1 AND true", "SyntaxError/InvalidArgumentType"},
          {"NOT 1", "SyntaxError/InvalidArgumentType"});
}

/* Comparison of numbers, strings, lists and of what does not compare. */
Test(expr, comparison, .init = setup, .fini = teardown) {
    CHECK({"1 = 1.0", "true"}, {"1 <> 2", "true"}, {"1 = '1'", "false"}, {"1 < 2", "true"}, {"2 <= 2.0", "true"},
          {"'a' < 'b'", "true"}, {"'a' < 1", "null"}, {"1 < null", "null"}, {"null = null", "null"},
          {"null <> null", "null"}, {"0.0/0.0 = 0.0/0.0", "false"}, {"0.0/0.0 <> 0.0/0.0", "true"},
          {"0.0/0.0 < 1", "false"}, {"0.0/0.0 >= 1", "false"}, {"[1, 2] = [1]", "false"}, {"[null] = [1]", "null"},
          {"[1, 0] >= [1]", "true"}, {"[1, null] >= [1]", "true"}, {"[1, 2] >= [1, null]", "null"},
          {"[1, 'a'] >= [1, null]", "null"}, {"{a: 1} = {a: 1.0}", "true"}, {"{k: null} = {k: null}", "null"},
          {"{k: 1} = {k: 1, l: null}", "false"}, {"1 < 2 < 3", "true"}, {"1 < 2 < 2", "false"},
          {"1 < null < 0", "null"}, {"3 > 2 >= 2 = 2 <> 1", "true"}, {"true > false", "true"},
          {"9007199254740993 = 9007199254740992.0", "false"});
}

/* IN is a chain of OR over equalities. */
Test(expr, membership, .init = setup, .fini = teardown) {
    CHECK({"1 IN [1, 2]", "true"}, {"3 IN [1, 2]", "false"}, {"3 IN [1, null]", "null"}, {"1 IN [1, null]", "true"},
          {"null IN [1]", "null"}, {"null IN []", "false"}, {"1 IN null", "null"}, {"1 IN ['1']", "false"},
          {"[1, 2] IN [[1, 2]]", "true"}, {"[1, 2] IN [[null, 2]]", "null"}, {"[null] IN [null]", "null"},
          {"[] IN [[]]", "true"}, {"1 IN [1.0]", "true"}, {"1 IN 1", "SyntaxError/InvalidArgumentType"});
}

/* Predicates of text; what is no text gives null. */
Test(expr, text_predicates, .init = setup, .fini = teardown) {
    CHECK({"'abc' STARTS WITH 'ab'", "true"}, {"'abc' STARTS WITH ''", "true"}, {"'abc' ENDS WITH 'bc'", "true"},
          {"'abc' ENDS WITH 'abcd'", "false"}, {"'abc' CONTAINS 'b'", "true"}, {"'' CONTAINS ''", "true"},
          {"'abc' CONTAINS 'B'", "false"}, {"'abc' CONTAINS null", "null"}, {"'abc' =~ 'a.c'", "true"},
          {"'xabc' =~ 'abc'", "false"}, {"'ABC' =~ '(?i)abc'", "true"}, {"'\\u00e4' =~ '.'", "true"},
          {"null =~ 'a'", "null"}, {"'a' =~ '('", "ArgumentError/InvalidRegex"},
          {"'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' =~ '(a+a+)+(b|c)'", "ArgumentError/InvalidRegex"});
    rig_expect(&rig, "UNWIND [1, true, [], {}, null] AS x RETURN x CONTAINS 'a' AS r",
               "[null]\n[null]\n[null]\n[null]\n[null]");
}

/* Parts of lists, maps, times and durations. */
Test(expr, parts, .init = setup, .fini = teardown) {
    CHECK({"[1, 2, 3][0]", "1"}, {"[1, 2, 3][-1]", "3"}, {"[1, 2, 3][3]", "null"}, {"[1, 2, 3][-4]", "null"},
          {"[1][null]", "null"}, {"[1, 2, 3, 4][1..3]", "[2,3]"}, {"[1, 2, 3][..-1]", "[1,2]"},
          {"[1, 2, 3][1..]", "[2,3]"}, {"[1, 2, 3][2..1]", "[]"}, {"[1, 2, 3][-9..9]", "[1,2,3]"},
          {"[1][null..]", "null"}, {"{a: 1}.a", "1"}, {"{a: 1}.b", "null"}, {"{a: 1}['a']", "1"},
          {"{a: {b: [5]}}.a.b[0]", "5"}, {"datetime('2026-02-03T04:05:06.789Z').month", "2"},
          {"datetime('2026-02-03T04:05:06.789Z').millisecond", "789"},
          {"datetime('1970-01-01T00:00:01Z').epochMillis", "1000"}, {"datetime('2026-11-22').dayOfWeek", "7"},
          {"(90m).hours", "1"}, {"(90m).minutes", "90"});
    rig_expect(&rig, "WITH 'x' AS l, 0 AS i RETURN l[i]", "TypeError/InvalidArgumentType");
    rig_expect(&rig, "WITH [1] AS l, 1.5 AS i RETURN l[i]", "TypeError/InvalidArgumentType");
    rig_expect(&rig, "UNWIND [1] AS x WITH x AS n RETURN n.foo", "TypeError/InvalidArgumentType");
}

/* CASE, coalesce, comprehensions, quantifiers and reduce look only at what they need. */
Test(expr, lazy, .init = setup, .fini = teardown) {
    CHECK({"CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' ELSE 'c' END", "\"b\""}, {"CASE 9 WHEN 1 THEN 'a' END", "null"},
          {"CASE null WHEN null THEN 'a' ELSE 'b' END", "\"b\""}, {"CASE WHEN false THEN 1/0 ELSE 5 END", "5"},
          {"CASE WHEN null THEN 1 WHEN true THEN 2 END", "2"}, {"coalesce(null, 5, 1/0)", "5"},
          {"coalesce(null, null)", "null"}, {"[x IN [1, 2, 3] WHERE x > 1 | x * 10]", "[20,30]"},
          {"[x IN [1, null, 3] WHERE x > 1]", "[3]"}, {"[x IN null | x]", "null"},
          {"[x IN [[1, 2], [3]] | [y IN x | y + 1]]", "[[2,3],[4]]"}, {"all(x IN [] WHERE x)", "true"},
          {"any(x IN [] WHERE x)", "false"}, {"none(x IN [] WHERE x)", "true"}, {"single(x IN [] WHERE x)", "false"},
          {"all(x IN [1, null] WHERE x = 1)", "null"}, {"all(x IN [2, null] WHERE x = 1)", "false"},
          {"any(x IN [1, null] WHERE x = 1)", "true"}, {"none(x IN [2, null] WHERE x = 1)", "null"},
          {"single(x IN [1, 2, null] WHERE x = 1)", "null"}, {"single(x IN [1, 1, null] WHERE x = 1)", "false"},
          {"single(x IN [1, 2] WHERE x = 1)", "true"}, {"reduce(a = 0, x IN [1, 2, 3] | a * 10 + x)", "123"},
          {"reduce(a = 1, x IN [] | 1/0)", "1"});
    rig_expect(&rig, "UNWIND [0, 2] AS x RETURN x = 0 OR 4 / x = 2 AS r", "[true]\n[true]");
    rig_expect(&rig, "UNWIND [0, 2] AS x RETURN x <> 0 AND 4 / x = 2 AS r", "[false]\n[true]");
    rig_expect(&rig, "UNWIND [0, 2] AS x RETURN CASE WHEN x = 0 THEN -1 ELSE 4 / x END AS r", "[-1]\n[2]");
}

/* Times and durations add up. */
Test(expr, temporal, .init = setup, .fini = teardown) {
    CHECK({"datetime('2026-01-01T00:00:00Z') + 90m", "\"2026-01-01T01:30:00.000000000Z\""},
          {"1d + datetime('2026-01-01T00:00:00Z')", "\"2026-01-02T00:00:00.000000000Z\""},
          {"datetime('2026-01-01T00:00:00Z') - 1ms", "\"2025-12-31T23:59:59.999000000Z\""},
          {"datetime('2026-01-02') - datetime('2026-01-01')", "\"PT24H\""}, {"1h + 30m", "\"PT1H30M\""},
          {"2 * 1h", "\"PT2H\""}, {"1h / 4", "\"PT15M\""}, {"1h * 1.5", "\"PT1H30M\""}, {"1h / 30m", "2.0"},
          {"-(5s)", "\"PT-5S\""}, {"5s > 4999ms", "true"}, {"datetime('2026-01-01') < '2026-01-02T00:00:00Z'", "true"},
          {"datetime('1970-01-01T00:00:00.000000005Z') = 5", "true"}, {"datetime('2026-01-01') > 'tomorrow'", "null"},
          {"datetime('2262-04-11') + 1d", "ArithmeticError/IntegerOverflow"},
          {"datetime('2026-01-01') + 5", "TypeError/InvalidArgumentType"});
    rig_expect(&rig, "WITH datetime('2026-01-01') AS d, 5 AS x RETURN d + x", "TypeError/InvalidArgumentType");
}

/* The same operators give the same values row by row as when they are folded: every pair of a mixed bag, both ways. */
Test(expr, columns_agree_with_constants, .init = setup, .fini = teardown) {
    static const char *const bag[] = {"null", "1",   "-3",  "2.5",    "0.0 / 0.0", "9223372036854775807",   "true",
                                      "'a'",  "'2'", "[1]", "{a: 1}", "5s",        "datetime('2026-01-01')"};
    static const char *const ops[] = {"=", "<>", "<",   "<=", ">",   ">=", "+",           "-",
                                      "*", "/",  "AND", "OR", "XOR", "IN", "STARTS WITH", "CONTAINS"};
    enum { BAG = sizeof bag / sizeof *bag };
    for (size_t op = 0; op < sizeof ops / sizeof *ops; op++)
        for (size_t x = 0; x < BAG; x++)
            for (size_t y = 0; y < BAG; y++) {
                char text[512], folded[1024];
                /* Through a list, which hides the types from the binder. */
                snprintf(text, sizeof text, "RETURN [%s, 0][0] %s [%s, 0][0] AS r", bag[x], ops[op], bag[y]);
                snprintf(folded, sizeof folded, "%s", rig_run(&rig, text));
                snprintf(text, sizeof text, "UNWIND [%s] AS x UNWIND [%s] AS y RETURN x %s y AS r", bag[x], bag[y],
                         ops[op]);
                const char *rows = rig_run(&rig, text);
                if (strncmp(rows, "SyntaxError", 11) == 0 || strcmp(bag[x], "null") == 0 || strcmp(bag[y], "null") == 0)
                    continue;
                cr_expect_str_eq(rows, folded, "%s gives %s, folded %s", text, rows, folded);
            }
}

/* Integer and float columns of samples take the typed loops, with missing values among them. */
Test(expr, typed_columns, .init = setup, .fini = teardown) {
    for (int i = 0; i < 4; i++) {
        struct rig_field fields[] = {{"i", IMV_INTEGER, (uint64_t)(i - 1), NULL},
                                     {"f", IMV_FLOAT, imv_float_cell(i / 2.0), NULL}};
        rig_write(&rig, "m", "k=a", i * HARNESS_SECOND, i == 2 ? fields : fields, i == 2 ? 1 : 2);
    }
    struct rig_field big = {"u", IMV_UINTEGER, UINT64_MAX, NULL};
    rig_write(&rig, "m", "k=a", 9 * HARNESS_SECOND, &big, 1);
    rig_settle(&rig, false);
    static const struct row cases[] = {
        {"s.i + 1", "[0]\n[1]\n[2]\n[3]\n[null]"},
        {"s.i * s.f", "[-0.0]\n[0.0]\n[null]\n[3.0]\n[null]"},
        {"s.i > 0", "[false]\n[false]\n[true]\n[true]\n[null]"},
        {"0 < s.i", "[false]\n[false]\n[true]\n[true]\n[null]"},
        {"s.f >= 0.5", "[false]\n[true]\n[null]\n[true]\n[null]"},
        {"s.f >= 1", "[false]\n[false]\n[null]\n[true]\n[null]"},
        {"s.i = 1.0", "[false]\n[false]\n[true]\n[false]\n[null]"},
        {"s.i < 0.5", "[true]\n[true]\n[false]\n[false]\n[null]"},
        {"s.i < s.f", "[true]\n[true]\n[null]\n[false]\n[null]"},
        {"s.f IS NULL", "[false]\n[false]\n[true]\n[false]\n[true]"},
        {"s.i > 0 AND s.f > 0", "[false]\n[false]\n[null]\n[true]\n[null]"},
        {"s.i > 0 OR s.f > 0", "[false]\n[true]\n[true]\n[true]\n[null]"},
        {"NOT s.i > 0", "[true]\n[true]\n[false]\n[false]\n[null]"},
        {"s.u", "[null]\n[null]\n[null]\n[null]\n[18446744073709551615]"},
        {"s.u - 1", "[null]\n[null]\n[null]\n[null]\n[18446744073709551614]"},
        {"s.u > 5", "[null]\n[null]\n[null]\n[null]\n[true]"},
        {"s.ts > 1000000000", "[false]\n[false]\n[true]\n[true]\n[true]"},
        {"s.ts < '1970-01-01T00:00:01Z'", "[true]\n[false]\n[false]\n[false]\n[false]"},
        {"s.ts + 1s - s.ts", "[\"PT1S\"]\n[\"PT1S\"]\n[\"PT1S\"]\n[\"PT1S\"]\n[\"PT1S\"]"},
        {"s.i + 9223372036854775806", "ArithmeticError/IntegerOverflow"},
        {"s.u + 1", "ArithmeticError/IntegerOverflow"},
        {"8 / (s.i + 5)", "[2]\n[1]\n[1]\n[1]\n[null]"},
        {"s.i / 0.0", "[\"-Infinity\"]\n[\"NaN\"]\n[\"Infinity\"]\n[\"Infinity\"]\n[null]"},
        {"s.nothing", "[null]\n[null]\n[null]\n[null]\n[null]"},
        {"toString(s.i) + '!'", "[\"-1!\"]\n[\"0!\"]\n[\"1!\"]\n[\"2!\"]\n[null]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "MATCH (h:m) SAMPLES OF h AS s RETURN %s AS r", cases[i].expr);
        rig_expect(&rig, text, cases[i].wanted);
    }
}

/* An overflow in a row that has no value is none. */
Test(expr, missing_rows_do_not_overflow, .init = setup, .fini = teardown) {
    struct rig_field a = {"a", IMV_INTEGER, INT64_MAX, NULL}, c = {"b", IMV_INTEGER, INT64_MAX, NULL};
    struct rig_field both[] = {{"a", IMV_INTEGER, 1, NULL}, {"b", IMV_INTEGER, 2, NULL}};
    rig_write(&rig, "m", "k=a", 1, &a, 1);
    rig_write(&rig, "m", "k=a", 2, &c, 1);
    rig_write(&rig, "m", "k=a", 3, both, 2);
    rig_settle(&rig, true);
    rig_expect(&rig, "MATCH (h:m) SAMPLES OF h AS s RETURN s.a + s.b AS r", "[null]\n[null]\n[3]");
}

/* Parameters are values of any type; a missing one is an error that names it. */
Test(expr, parameters, .init = setup, .fini = teardown) {
    rig.parameters = "{\"a\": 1, \"l\": [1, \"x\", {\"k\": null}], \"s\": \"t\"}";
    rig_expect(&rig, "RETURN $a + 1, $l[2], $s", "[2,{\"k\":null},\"t\"]");
    rig_expect(&rig, "RETURN $b", "ParameterMissing/MissingParameter");
    rig.parameters = "{\"a\": 9223372036854775808}";
    rig_expect(&rig, "RETURN $a", "SyntaxError/InvalidParameters");
}

/* Errors point at the expression that failed. */
Test(expr, errors_have_a_place, .init = setup, .fini = teardown) {
    rig_expect(&rig, "UNWIND [1, 0] AS x\nRETURN 5 +\n  10 / x", "ArithmeticError/DivisionByZero");
    cr_expect_eq(rig.error.line, 3);
    cr_expect_eq(rig.error.column, 3);
}

/* IN over a long constant list, which is hashed, says what comparing each item says. */
Test(expr, long_lists_are_hashed, .init = setup, .fini = teardown) {
    static const char values[] =
        "[null, 1, 1.0, 2, -0.0, 0, 7.5, 'a', 'b', '', true, false, 1/0.0, 0/0.0, [1], {a: 1}, "
        "9223372036854775807, 9223372036854775808.0, duration('PT1M'), "
        "datetime('2024-01-01T00:00:00Z'), '2024-01-01T00:00:00Z', 1704067200000000000]";
    static const char *const lists[] = {
        "[1, 3, 5, 7, 9, 11, 13, 15, 17]",
        "[1.0, 0.0, 'a', 'bb', true, duration('PT60S'), 7.5, 12, 13, 14, 1704067200000000000, '2024-01-01T00:00:00Z']",
        "[null, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
        "[0/0.0, 0/0.0, -0.0, 9223372036854775807, 3, 4, 5, 6, 7, 8]",
        "[[1], 2, 3, 4, 5, 6, 7, 8, 9, {a: 1}]",
        "[datetime('2024-01-01T00:00:00Z'), 2, 3, 4, 5, 6, 7, 8, 9]",
        "[1, 2]",
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char text[2048];
        snprintf(text, sizeof text,
                 "WITH %s AS l UNWIND %s AS x WITH x, x IN %s AS have, any(y IN l WHERE y = x) AS want WHERE have <> "
                 "want OR "
                 "(have IS NULL) <> (want IS NULL) RETURN x, have, want",
                 lists[i], values, lists[i]);
        rig_expect(&rig, text, "");
    }
}
