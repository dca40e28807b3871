#include "query/parse.h"

#include "query/error.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/prng.h"
#include "storage/base/utf8.h"
#include "tests/support/tck.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- helpers ---- */

/* Parses a copy that ends where the text does, so that a sanitizer sees a read beyond it. The text of a good statement
 * is printed into out, an error is filled; both may be NULL. */
static imv_status parse(const char *text, size_t size, struct imv_buffer *out, struct imv_query_error *error) {
    char *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, text, size);
    struct imv_arena arena;
    imv_arena_init(&arena, 16 * 1024, NULL);
    struct imv_statement *statement = NULL;
    if (error != NULL) memset(error, 0, sizeof *error);
    imv_status status = imv_parse((struct imv_str){copy, size}, &arena, &statement, error);
    if (status == IMV_OK && out != NULL) imv_statement_print(out, statement);
    imv_arena_release(&arena);
    free(copy);
    return status;
}

static char *printed(const char *text) {
    struct imv_buffer out;
    struct imv_query_error error;
    imv_buffer_init(&out, 1 << 22);
    imv_status status = parse(text, strlen(text), &out, &error);
    cr_assert_eq(status, IMV_OK, "%s\n%s: %s\n%s", text, error.detail, error.message, error.snippet);
    cr_assert_not(out.failed);
    imv_buffer_append_char(&out, '\0');
    char *result = strdup(out.data);
    imv_buffer_release(&out);
    return result;
}

/* Whatever is parsed: a good statement, or an error that is fit to be shown. */
static void parse_anything(const char *text, size_t size) {
    struct imv_query_error error;
    if (parse(text, size, NULL, &error) == IMV_OK) return;
    cr_assert_not_null(error.code);
    cr_assert_not_null(error.detail);
    cr_assert_str_not_empty(error.message);
    cr_assert(imv_utf8_valid(imv_str_from(error.message)));
    cr_assert(imv_utf8_valid(imv_str_from(error.snippet)));
    cr_assert(imv_utf8_valid(imv_str_from(error.suggestion)));
    if (size <= IMV_QUERY_TEXT_BYTES_MAX) cr_assert(error.line >= 1 && error.column >= 1);
}

static void check_expressions(const char *const (*cases)[2], size_t count) {
    for (size_t i = 0; i < count; i++) {
        char text[512], wanted[512];
        snprintf(text, sizeof text, "RETURN %s", cases[i][0]);
        snprintf(wanted, sizeof wanted, "RETURN %s", cases[i][1]);
        char *result = printed(text);
        cr_assert_str_eq(result, wanted, "%s: %s", text, result);
        free(result);
    }
}
#define CHECK_EXPRESSIONS(cases) check_expressions(cases, sizeof cases / sizeof cases[0])

/* ---- expressions ---- */

Test(parse, literals) {
    /* Every literal is read as what it is. */
    static const char *const cases[][2] = {
        {"1, -1, 0x1F, 0o17, -0x10", "1, -1, 31, 15, -16"},
        {"9223372036854775807, -9223372036854775808", "9223372036854775807, -9223372036854775808"},
        {"- 9223372036854775808", "-9223372036854775808"},
        {"1.5, .5, 1e3, -2.5E-3, 0.1", "1.5, 0.5, 1000.0, -0.0025, 0.1"},
        {"'a', \"b\", 'it\\'s', '\\u00e9', ''", "'a', 'b', 'it\\'s', 'é', ''"},
        {"true, FALSE, Null", "true, false, null"},
        {"250ms, 30s, 5m, 8h, 7d, 90s, 36h, 0s", "250ms, 30s, 5m, 8h, 1w, 90s, 36h, 0s"},
        {"-5m", "-5m"},
        {"[], [1], [1, 'a', [null]]", "[], [1], [1, 'a', [null]]"},
        {"{}, {a: 1}, {`b c`: 'x', true: true, ``: {}}", "{}, {a: 1}, {`b c`: 'x', true: true, ``: {}}"},
        {"$x, $1, $`a b`, $x", "$x, $1, $`a b`, $x"},
    };
    CHECK_EXPRESSIONS(cases);
}

Test(parse, operators_bind_as_in_opencypher) {
    /* Precedence and direction of every operator, shown by parentheses. */
    static const char *const cases[][2] = {
        {"1 + 2 * 3", "(1 + (2 * 3))"},
        {"(1 + 2) * 3", "((1 + 2) * 3)"},
        {"1 - 2 - 3", "((1 - 2) - 3)"},
        {"8 / 4 / 2 % 3", "(((8 / 4) / 2) % 3)"},
        {"2 ^ 3 ^ 2", "((2 ^ 3) ^ 2)"},
        {"-2 ^ 2", "(-2 ^ 2)"},
        {"-x ^ 2 * 3", "(((-x) ^ 2) * 3)"},
        {"-(1), - -1, +x, -(-x)", "(-(1)), (-(-1)), (+x), (-(-x))"},
        {"x - -1, x--1", "(x - -1), (x - -1)"},
        {"(x) - -1, (x)-1", "(x - -1), (x - 1)"},
        {"'a' || 'b' + 'c'", "(('a' || 'b') + 'c')"},
        {"a OR b AND c XOR NOT d", "(a OR ((b AND c) XOR (NOT d)))"},
        {"a OR b OR c OR d OR e", "(((a OR b) OR c) OR (d OR e))"},
        {"NOT NOT a = b", "(NOT (NOT (a = b)))"},
        {"a < b, 1 < a <= 3, a = b <> c >= d", "(a < b), (1 < a <= 3), (a = b <> c >= d)"},
        {"(1 < a) <= 3", "((1 < a) <= 3)"},
        {"a IN [1] = true", "((a IN [1]) = true)"},
        {"a + 1 IN b + [2]", "((a + 1) IN (b + [2]))"},
        {"a IS NULL OR b is not null", "((a IS NULL) OR (b IS NOT NULL))"},
        {"a = b IS NULL", "(a = (b IS NULL))"},
        {"a STARTS WITH 'x' AND b ends with c AND d CONTAINS e AND f =~ '.*'",
         "(((a STARTS WITH 'x') AND (b ENDS WITH c)) AND ((d CONTAINS e) AND (f =~ '.*')))"},
        {"a.b.c[1].d[2..3]", "a.b.c[1].d[2..3]"},
        {"a[..2], a[1..], a[..], a[-1]", "a[..2], a[1..], a[..], a[-1]"},
        {"-a.b", "(-a.b)"},
        {"NOT a.b:C", "(NOT (a.b:C))"},
        {"n:A:B, n:A|B&C, n:!A, n:(A|B)&%", "(n:(A&B)), (n:(A|(B&C))), (n:!A), (n:((A|B)&%))"},
        {"{a: 1}.a, [1, 2][0], 'x'[0], $p.q", "{a: 1}.a, [1, 2][0], 'x'[0], $p.q"},
        {"1.foo", "(1).foo"},
    };
    CHECK_EXPRESSIONS(cases);
}

Test(parse, forms_with_words) {
    /* CASE, calls, comprehensions, quantifiers, reduce. */
    static const char *const cases[][2] = {
        {"CASE WHEN a THEN 1 WHEN b THEN 2 END", "CASE WHEN a THEN 1 WHEN b THEN 2 END"},
        {"case x + 1 when 1 then 'a' else 'b' end", "CASE (x + 1) WHEN 1 THEN 'a' ELSE 'b' END"},
        {"CASE WHEN end THEN end ELSE end END", "CASE WHEN end THEN end ELSE end END"},
        {"f(), f(1), f(1, 2), f(DISTINCT a), count(*), count( * )",
         "f(), f(1), f(1, 2), f(DISTINCT a), count(*), count(*)"},
        {"point.distance(a, b), date.truncate('day')", "point.distance(a, b), date.truncate('day')"},
        {"[x IN xs], [x IN xs WHERE x > 1], [x IN xs | x + 1], [x IN xs WHERE x:A | x.y]",
         "[x IN xs], [x IN xs WHERE (x > 1)], [x IN xs | (x + 1)], [x IN xs WHERE (x:A) | x.y]"},
        {"[x IN xs WHERE (x:A|B) | x]", "[x IN xs WHERE (x:(A|B)) | x]"},
        {"[x IN [y IN ys | y] WHERE any(z IN x WHERE z) | [w IN x]]",
         "[x IN [y IN ys | y] WHERE any(z IN x WHERE z) | [w IN x]]"},
        {"all(x IN xs WHERE x), ANY(x IN xs WHERE x), None(x in xs where x), single(x IN xs WHERE x)",
         "all(x IN xs WHERE x), any(x IN xs WHERE x), none(x IN xs WHERE x), single(x IN xs WHERE x)"},
        {"reduce(acc = 0, x IN xs | acc + x)", "reduce(acc = 0, x IN xs | (acc + x))"},
        {"all(x), any(xs), reduce(x)", "all(x), any(xs), reduce(x)"},
        {"(a)-->(b), (a)<-[:T]-(), (:A)--(b {x: 1})", "((a)-[]->(b)), ((a)<-[:T]-()), ((:A)-[]-(b {x: 1}))"},
        {"[(a)-->(b) WHERE b.x | b.y], [p = (a)-->() | p]", "[(a)-[]->(b) WHERE b.x | b.y], [p = (a)-[]->() | p]"},
        {"[p = (a), b]", "[(p = a), b]"},
        {"EXISTS { (a)-->(b) WHERE b.x }, exists { MATCH (a) RETURN a }, exists((a)-->())",
         "EXISTS { MATCH (a)-[]->(b) WHERE b.x }, EXISTS { MATCH (a) RETURN a }, exists(((a)-[]->()))"},
        {"(a + b) - [1], ($p - 1) - [2], ({a: 1}.a) --(b), ($p)--(b), a:B - [1]",
         "((a + b) - [1]), (($p - 1) - [2]), ({a: 1}.a - (-b)), ($p - (-b)), (((a:B)) - [1])"},
        {"({a: 1})--(b), (a $p)-->()", "(( {a: 1})-[]-(b)), ((a $p)-[]->())"},
    };
    CHECK_EXPRESSIONS(cases);
}

Test(parse, words_of_the_language_are_names_too) {
    /* A keyword is one only in its place: variables, properties, labels, aliases may be called so. */
    static const char *const cases[][2] = {
        {"window, from, to, start, end, ts, samples, filter, let, fill, of, set, create",
         "window, from, to, start, end, ts, samples, filter, let, fill, of, set, create"},
        {"a.match, a.return, a.null, a.`x y`", "a.match, a.return, a.null, a.`x y`"},
        {"n:Match, n:`A B`", "(n:Match), (n:`A B`)"},
        {"x AS order ORDER BY order", "x AS order ORDER BY order"},
        {"x.limit AS limit ORDER BY limit LIMIT limit", "x.limit AS limit ORDER BY limit LIMIT limit"},
        {"union UNION RETURN skip SKIP 1", "union\nUNION\nRETURN skip SKIP 1"},
        {"exists, count, all, reduce", "exists, count, all, reduce"},
        {"starts STARTS WITH ends", "(starts STARTS WITH ends)"},
        {"1 AS return, 2 AS where, 3 AS `a b`", "1 AS return, 2 AS where, 3 AS `a b`"},
        {"`case`, `null`.x, `not`(1), `f g`(1), a.`b c`(1)", "`case`, `null`.x, `not`(1), `f g`(1), `a.b c`(1)"},
    };
    CHECK_EXPRESSIONS(cases);
}

/* ---- statements ---- */

static const char *const statements[][2] = {
    {"RETURN 1+1", "RETURN (1 + 1)"},
    {"return 1;", "RETURN 1"},
    {" /* c */ RETURN // x\n 1 ; ; ", "RETURN 1"},
    {"EXPLAIN MATCH (n) RETURN n", "EXPLAIN\nMATCH (n)\nRETURN n"},
    {"PROFILE RETURN 1", "PROFILE\nRETURN 1"},
    {"MATCH (h:cpu) WHERE h.region = 'eu' AND h.hostname IN $hosts\n"
     "SAMPLES OF h AS s FROM $a TO $b\n"
     "FILTER s.usage_user > 90\n"
     "WINDOW 1m FILL null\n"
     "RETURN h.hostname, window.start AS t, max(s.usage_user), avg(s.usage_idle) ORDER BY t DESC SKIP 2 LIMIT 5",
     "MATCH (h:cpu) WHERE ((h.region = 'eu') AND (h.hostname IN $hosts))\n"
     "SAMPLES OF h AS s FROM $a TO $b\n"
     "FILTER (s.usage_user > 90)\n"
     "WINDOW 1m FILL null\n"
     "RETURN h.hostname, window.start AS t, max(s.usage_user), avg(s.usage_idle) ORDER BY t DESC SKIP 2 LIMIT 5"},
    {"match (h:cpu) delete samples of h from $a to $b", "MATCH (h:cpu)\nDELETE SAMPLES OF h FROM $a TO $b"},
    {"MATCH (h:cpu) DELETE SAMPLES OF h ALL;", "MATCH (h:cpu)\nDELETE SAMPLES OF h ALL"},
    {"MATCH (h:cpu) DELETE SAMPLES OF h TO 5", "MATCH (h:cpu)\nDELETE SAMPLES OF h TO 5"},
    {"MATCH (h:cpu {hostname:'h1'}) SAMPLES OF h.usage_user AS v RETURN v.ts, v.value",
     "MATCH (h:cpu {hostname: 'h1'})\nSAMPLES OF h.usage_user AS v\nRETURN v.ts, v.value"},
    {"MATCH (h) SAMPLES OF h.`usage user` FROM now() - 8h RETURN 1",
     "MATCH (h)\nSAMPLES OF h.`usage user` FROM (now() - 8h)\nRETURN 1"},
    {"MATCH (h) SAMPLES OF h AS s TO '2026-01-01T00:00:00Z' WINDOW $d AS w FILL prev RETURN w.start",
     "MATCH (h)\nSAMPLES OF h AS s TO '2026-01-01T00:00:00Z'\nWINDOW $d AS w FILL prev\nRETURN w.start"},
    {"MATCH (h) SAMPLES OF h AS s WINDOW 5m FILL linear WITH h RETURN h",
     "MATCH (h)\nSAMPLES OF h AS s\nWINDOW 5m FILL linear\nWITH h\nRETURN h"},
    {"MATCH (h) SAMPLES OF h AS s WINDOW 5m FILL -1.5 RETURN 1",
     "MATCH (h)\nSAMPLES OF h AS s\nWINDOW 5m FILL -1.5\nRETURN 1"},
    {"MATCH (a), (b:B|C {x: 1} WHERE b.y), ({z: 2}) RETURN *",
     "MATCH (a), (b:(B|C) {x: 1} WHERE b.y), ( {z: 2})\nRETURN *"},
    {"OPTIONAL MATCH p = (a)-[r:T|U*1..3 {x: 1}]->(b)<--(c)--(d)<-->(e) RETURN DISTINCT *, 1 AS x",
     "OPTIONAL MATCH p = (a)-[r:(T|U)*1..3 {x: 1}]->(b)<-[]-(c)-[]-(d)-[]-(e)\nRETURN DISTINCT *, 1 AS x"},
    {"MATCH ()-[*]-()-[*2]-()-[*..4]-()-[r*3..]-() RETURN 1",
     "MATCH ()-[*..]-()-[*2..2]-()-[*..4]-()-[r*3..]-()\nRETURN 1"},
    {"UNWIND [1, 2] AS x LET y = x + 1, z = y WITH x, y AS q ORDER BY x DESCENDING, y ASCENDING, z ASC SKIP $s LIMIT 1 "
     "+ 1 "
     "WHERE x > 1 RETURN q",
     "UNWIND [1, 2] AS x\nLET y = (x + 1), z = y\n"
     "WITH x, y AS q ORDER BY x DESC, y, z SKIP $s LIMIT (1 + 1) WHERE (x > 1)\nRETURN q"},
    {"FILTER true WITH DISTINCT 1 AS x RETURN x", "FILTER true\nWITH DISTINCT 1 AS x\nRETURN x"},
    {"RETURN 1 AS x UNION RETURN 2 AS x UNION RETURN 3 AS x",
     "RETURN 1 AS x\nUNION\nRETURN 2 AS x\nUNION\nRETURN 3 AS x"},
    {"RETURN 1 AS x UNION ALL RETURN 2 AS x", "RETURN 1 AS x\nUNION ALL\nRETURN 2 AS x"},
    {"MATCH (window:samples) SAMPLES OF window.from AS to FROM from TO to RETURN to.to",
     "MATCH (window:samples)\nSAMPLES OF window.from AS to FROM from TO to\nRETURN to.to"},
    {"MATCH (größe:温度) RETURN größe", "MATCH (`größe`:`温度`)\nRETURN `größe`"},
};
enum { STATEMENTS_COUNT = sizeof statements / sizeof statements[0] };

Test(parse, statements) {
    /* Each form of statement becomes the tree that its printed form shows. */
    for (size_t i = 0; i < STATEMENTS_COUNT; i++) {
        char *result = printed(statements[i][0]);
        cr_assert_str_eq(result, statements[i][1], "%s:\n%s", statements[i][0], result);
        free(result);
    }
}

Test(parse, what_is_printed_means_the_same) {
    /* The printed form of a statement is a statement, and prints as itself. */
    for (size_t i = 0; i < STATEMENTS_COUNT; i++) {
        char *once = printed(statements[i][0]), *twice = printed(once);
        cr_assert_str_eq(once, twice);
        free(once);
        free(twice);
    }
}

Test(parse, spans_and_names_are_exact) {
    /* Columns are named by the text of their expression, spans cover it, and a parameter used twice is listed once. */
    struct imv_arena arena;
    imv_arena_init(&arena, 4096, NULL);
    struct imv_statement *statement;
    struct imv_query_error error;
    struct imv_str text = IMV_STR("RETURN  count( * ) ,(a+ $p)*2, `b c`, x  AS y,$q+$p");
    cr_assert_eq(imv_parse(text, &arena, &statement, &error), IMV_OK);
    const struct imv_projection *projection = imv_single_query_result(&statement->branches[0]);
    static const char *const names[] = {"count( * )", "(a+ $p)*2", "b c", "y", "$q+$p"};
    static const char *const spans[] = {"count( * )", "(a+ $p)*2", "`b c`", "x", "$q+$p"};
    cr_assert_eq(projection->items_count, 5);
    for (size_t i = 0; i < 5; i++) {
        cr_assert(imv_str_equal(projection->items[i].name, imv_str_from(names[i])), "%s", names[i]);
        struct imv_str span = imv_span_text(text, projection->items[i].expr->span);
        cr_assert(imv_str_equal(span, imv_str_from(spans[i])), "%.*s", (int)span.size, span.data);
    }
    cr_assert_eq(statement->parameters_count, 2);
    cr_assert(imv_str_equal(statement->parameters[0].name, IMV_STR("p")));
    cr_assert(imv_str_equal(statement->parameters[1].name, IMV_STR("q")));
    cr_assert_eq(projection->items[4].expr->binary.right->parameter.index, 0);
    imv_arena_release(&arena);
}

/* ---- errors ---- */

Test(parse, mistakes_are_named_and_placed) {
    /* A wrong statement gives the detail, the place, the words and the suggestion that help. */
    static const struct {
        const char *text, *detail;
        int line, column;
        const char *message, *suggestion;
    } cases[] = {
        {"RETURN (1 + 2", "UnexpectedSyntax", 1, 14, "expected ')', but found the end of the query", ""},
        {"RETURN (1 + 2 x", "UnexpectedSyntax", 1, 15, "expected ')', but found 'x'", ""},
        {"RETURN f(1 2)", "UnexpectedSyntax", 1, 12, "expected ')' or ',', but found '2'", ""},
        {"RETURN [1, 2", "UnexpectedSyntax", 1, 13, "expected ']' or ',', but found the end of the query", ""},
        {"RETURN [, ] AS literal", "UnexpectedSyntax", 1, 9, "expected ']' or an expression, but found ','", ""},
        {"RETURN {1: 2}", "UnexpectedSyntax", 1, 9, "expected '}' or a key, but found '1'", ""},
        {"RETURN {a 2}", "UnexpectedSyntax", 1, 11, "expected ':', but found '2'", ""},
        {"RETURN 1 +", "UnexpectedSyntax", 1, 11, "expected an expression, but found the end of the query", ""},
        {"RETURN 1 + WHERE", "UnexpectedSyntax", 1, 12, "expected an expression, but found 'WHERE'", ""},
        {"RETURN a IS NIL", "UnexpectedSyntax", 1, 13, "expected NOT or NULL, but found 'NIL'", ""},
        {"RETURN a STARTS 'x'", "UnexpectedSyntax", 1, 17, "expected WITH, but found 'x'", ""},
        {"RETURN CASE x THEN 1 END", "UnexpectedSyntax", 1, 15, "expected WHEN, but found 'THEN'",
         "did you mean 'WHEN'?"},
        {"RETURN all(x IN xs)", "UnexpectedSyntax", 1, 19, "expected WHERE, but found ')'", ""},
        {"RETURN 1 AS", "UnexpectedSyntax", 1, 12, "expected a column, but found the end of the query", ""},
        {"RETURN 1 ORDER x", "UnexpectedSyntax", 1, 16, "expected BY, but found 'x'", ""},
        {"RETURN 1 LIMT 2", "UnexpectedSyntax", 1, 10, NULL, "did you mean 'LIMIT'?"},
        {"MATCH (n)\nWERE n.x = 1 RETURN n", "UnexpectedSyntax", 2, 1, NULL, "did you mean 'WHERE'?"},
        {"MATCH (n) RETRUN n", "UnexpectedSyntax", 1, 11, NULL, "did you mean 'RETURN'?"},
        {"MTACH (n) RETURN n", "UnexpectedSyntax", 1, 1, NULL, "did you mean 'MATCH'?"},
        {"MATCH (n)", "UnexpectedSyntax", 1, 10, NULL, ""},
        {"MATCH n RETURN n", "UnexpectedSyntax", 1, 9, "expected '=', but found 'RETURN'", ""},
        {"MATCH (n:) RETURN n", "UnexpectedSyntax", 1, 10, "expected a label, but found ')'", ""},
        {"SAMPLES h RETURN 1", "UnexpectedSyntax", 1, 9, "expected OF, but found 'h'", ""},
        {"MATCH (``) RETURN 1", "UnexpectedSyntax", 1, 8, "the name of a variable cannot be empty", ""},
        {"RETURN 1 != 2", "UnexpectedSyntax", 1, 10, "'!=' is not an operator: unequal is '<>'", ""},
        {"RETURN 1; RETURN 2", "UnexpectedSyntax", 1, 11, "expected the end of the query, but found 'RETURN'", ""},
        {"", "UnexpectedSyntax", 1, 1, NULL, ""},
        {"RETURN 9223372h54775808", "InvalidNumberLiteral", 1, 8, NULL, ""},
        {"RETURN 9223372#54775808", "UnexpectedSyntax", 1, 15, NULL, ""},
        {"RETURN 0x", "InvalidNumberLiteral", 1, 8, NULL, ""},
        {"RETURN 9223372036854775808", "IntegerOverflow", 1, 8, NULL, ""},
        {"RETURN -9223372036854775809", "IntegerOverflow", 1, 8, NULL, ""},
        {"RETURN 1.34E999", "FloatingPointOverflow", 1, 8, NULL, ""},
        {"RETURN 999999999d", "IntegerOverflow", 1, 8, NULL, ""},
        {"RETURN '\\uH'", "InvalidUnicodeLiteral", 1, 9, NULL, ""},
        {"RETURN 'a\\d'", "UnexpectedSyntax", 1, 10, "'\\d' is not an escape; use \\\\ for a backslash", ""},
        {"RETURN 42 — 41", "InvalidUnicodeCharacter", 1, 11, NULL, ""},
        {"RETURN 'ö' + \xff", "InvalidUnicodeCharacter", 1, 14, "the query is not valid UTF-8", ""},
        {"RETURN 'open", "UnexpectedSyntax", 1, 8, "the string is not closed", ""},
        {"RETURN /* open", "UnexpectedSyntax", 1, 8, "the comment is not closed", ""},
        {"RETURN 1 UNION RETURN 2 UNION ALL RETURN 3", "InvalidClauseComposition", 1, 25, NULL, ""},
        {"CREATE (n)", "UnsupportedFeature", 1, 1, NULL, ""},
        {"MATCH (n) SET n.x = 1", "UnsupportedFeature", 1, 11, NULL, ""},
        {"MATCH (n) DETACH DELETE n", "UnsupportedFeature", 1, 11, NULL, ""},
        {"LOAD CSV", "UnsupportedFeature", 1, 1, NULL, ""},
        {"CALL count(*)", "UnexpectedSyntax", 1, 6, "a procedure takes values", ""},
        {"MATCH (n) DELETE n", "UnsupportedFeature", 1, 18, NULL, ""},
        {"MATCH (n) DELETE SAMPLES OF n", "UnexpectedSyntax", 1, 30, NULL, ""},
        {"MATCH (n) WHERE EXISTS { MATCH (n) DELETE SAMPLES OF n ALL } RETURN n", "InvalidClauseComposition", 1, 36,
         "EXISTS only reads", ""},
        {"MATCH (a)-[:LIKES..]->(c) RETURN c", "InvalidRelationshipPattern", 1, 18, NULL, ""},
        {"MATCH (a)-[:LIKES*-2]->(c) RETURN c", "InvalidRelationshipPattern", 1, 19, NULL, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct imv_query_error error;
        imv_status status = parse(cases[i].text, strlen(cases[i].text), NULL, &error);
        cr_assert_eq(status, IMV_INVALID, "%s", cases[i].text);
        cr_assert_eq(parse(cases[i].text, strlen(cases[i].text), NULL, NULL), IMV_INVALID, "%s", cases[i].text);
        cr_assert_str_eq(error.code, "SyntaxError");
        cr_assert_str_eq(error.detail, cases[i].detail, "%s: %s %s", cases[i].text, error.detail, error.message);
        cr_assert_eq(error.line, cases[i].line, "%s: line %d", cases[i].text, error.line);
        cr_assert_eq(error.column, cases[i].column, "%s: column %d", cases[i].text, error.column);
        if (cases[i].message != NULL) cr_assert_str_eq(error.message, cases[i].message, "%s", error.message);
        cr_assert_str_eq(error.suggestion, cases[i].suggestion, "%s: %s", cases[i].text, error.suggestion);
    }
}

Test(parse, the_start_of_a_query_lists_what_may_stand_there) {
    /* The expected set is complete where it is short enough to read. */
    struct imv_query_error error;
    cr_assert_eq(parse("", 0, NULL, &error), IMV_INVALID);
    cr_assert_str_eq(error.message,
                     "expected EXPLAIN, PROFILE, MATCH, OPTIONAL, SAMPLES, WINDOW, FILTER, LET, UNWIND, CALL, "
                     "WITH, RETURN or DELETE, but found the end of the query");
    cr_assert_eq(parse("RETURN 1 x", 10, NULL, &error), IMV_INVALID);
    cr_assert_str_eq(error.message,
                     "expected AS, ',', ORDER, SKIP, LIMIT, UNION or the end of the query, but found 'x'");
}

/* ---- limits ---- */

/* open repeated count times, then middle, then close repeated. */
static char *nested(const char *start, const char *open, const char *middle, const char *close, size_t count) {
    size_t room = strlen(start) + strlen(middle) + count * (strlen(open) + strlen(close)) + 1;
    char *text = malloc(room), *to = stpcpy(text, start);
    for (size_t i = 0; i < count; i++) to = stpcpy(to, open);
    to = stpcpy(to, middle);
    for (size_t i = 0; i < count; i++) to = stpcpy(to, close);
    return text;
}

static const char *const nestings[][4] = {
    {"RETURN ", "(", "1", ")"},
    {"RETURN ", "[", "1", "]"},
    {"RETURN ", "{a: ", "1", "}"},
    {"RETURN ", "f(", "1", ")"},
    {"RETURN ", "NOT ", "true", ""},
    {"RETURN ", "- ", "x", ""},
    {"RETURN ", "CASE WHEN ", "1", " THEN 1 END"},
    {"RETURN ", "[x IN ", "y", " | x]"},
    {"RETURN ", "all(x IN ", "y", " WHERE x)"},
    {"RETURN ", "reduce(a = ", "1", ", x IN y | 1)"},
    {"RETURN ", "x[", "1", "]"},
    {"RETURN ", "EXISTS { MATCH (n) WHERE ", "1", " }"},
    {"RETURN ", "(a {x: ", "1", "})--(b)"},
    {"RETURN ", "[(a {x: ", "1", "})--(b) | 1]"},
    {"MATCH (n:", "(", "A", ")"},
    {"MATCH (n:", "!", "A", ""},
    {"RETURN ", "(((((((((((", "1", ""},
    {"RETURN ", "a.b(", "1", ""},
};

Test(parse, nesting_ends_in_an_error_not_in_a_crash) {
    /* A nesting within the limit parses where it is closed; any deeper one is refused, whatever the bracket. */
    for (size_t i = 0; i < sizeof nestings / sizeof nestings[0]; i++) {
        size_t open = strlen(nestings[i][1]);
        for (size_t count = 65; count * (open + strlen(nestings[i][3])) < IMV_QUERY_TEXT_BYTES_MAX - 64; count *= 3) {
            char *text = nested(nestings[i][0], nestings[i][1], nestings[i][2], nestings[i][3], count);
            struct imv_query_error error;
            cr_assert_eq(parse(text, strlen(text), NULL, &error), IMV_INVALID, "%s %zu", nestings[i][1], count);
            cr_assert_str_eq(error.detail, "NestingTooDeep", "%s %zu: %s %s", nestings[i][1], count, error.detail,
                             error.message);
            free(text);
        }
    }
    char *text = nested("RETURN ", "(", "1", ")", 63);
    free(printed(text));
    free(text);
}

Test(parse, chains_are_long_but_not_endless) {
    /* Chains of operators, which lean to one side, work up to a bound; those of AND, OR and XOR, and lists, to the
     * text's end. */
    static const struct {
        const char *start, *link;
        size_t works, fails; /* 0: never */
    } cases[] = {
        {"RETURN 1", " + 1", 900, 1000},
        {"RETURN 1", "*1", 900, 1000},
        {"RETURN a", ".b", 900, 1000},
        {"RETURN a", "[0]", 900, 1000},
        {"RETURN a", " IS NULL", 900, 1000},
        {"RETURN a:B", "&C", 900, 1000},
        {"RETURN 1", " IN x", 900, 1000},
        {"RETURN a", " OR a", 13000, 0},
        {"RETURN a", " AND a", 10000, 0},
        {"RETURN a", " XOR a", 10000, 0},
        {"RETURN 1", " < 1", 16000, 0},
        {"RETURN 1", ",1", 32000, 0},
        {"MATCH (a)", ",()", 20000, 21000},
        {"MATCH (a)", "--()", 16000, 16300},
        {"RETURN 1", " UNION RETURN 1", 4000, 0},
        {"WITH 1 AS a", " WITH a", 9000, 9300},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = nested(cases[i].start, cases[i].link, "", "", cases[i].works);
        bool whole = strncmp(cases[i].start, "RETURN", 6) == 0;
        if (!whole) text = realloc(text, strlen(text) + 32);
        if (!whole) strcat(text, " RETURN 1");
        cr_assert_lt(strlen(text), IMV_QUERY_TEXT_BYTES_MAX);
        struct imv_query_error error;
        cr_assert_eq(parse(text, strlen(text), NULL, &error), IMV_OK, "%s: %s %s", cases[i].link, error.detail,
                     error.message);
        free(text);
        if (cases[i].fails == 0) continue;
        text = nested(cases[i].start, cases[i].link, "", "", cases[i].fails);
        cr_assert_eq(parse(text, strlen(text), NULL, &error), IMV_INVALID, "%s", cases[i].link);
        free(text);
    }
}

Test(parse, the_text_has_a_limit) {
    /* Exactly the longest text is read, one byte more is refused. */
    char *text = malloc(IMV_QUERY_TEXT_BYTES_MAX + 1);
    memset(text, ' ', IMV_QUERY_TEXT_BYTES_MAX + 1);
    memcpy(text, "RETURN 1", 8);
    struct imv_query_error error;
    cr_assert_eq(parse(text, IMV_QUERY_TEXT_BYTES_MAX, NULL, &error), IMV_OK);
    cr_assert_eq(parse(text, IMV_QUERY_TEXT_BYTES_MAX + 1, NULL, &error), IMV_INVALID);
    cr_assert_str_eq(error.detail, "QueryTooLong");
    free(text);
}

Test(parse, a_spent_budget_is_an_error) {
    /* When the arena runs out at any point, the parser says so. */
    const char *text = statements[5][0];
    for (size_t bytes = 256; bytes <= 64 * 1024; bytes += 256) {
        struct imv_budget budget;
        imv_budget_init(&budget, "test_parse", bytes);
        struct imv_arena arena;
        imv_arena_init(&arena, 256, &budget);
        struct imv_statement *statement;
        struct imv_query_error error;
        imv_status status = imv_parse(imv_str_from(text), &arena, &statement, &error);
        cr_assert(status == IMV_OK || status == IMV_NO_MEMORY, "%zu: %d", bytes, status);
        if (bytes == 256) cr_assert_eq(status, IMV_NO_MEMORY);
        if (bytes == 64 * 1024) cr_assert_eq(status, IMV_OK);
        imv_arena_release(&arena);
        imv_budget_release(&budget);
    }
}

/* ---- damage ---- */

Test(parse, every_prefix_is_safe) {
    /* A statement cut short anywhere is an error or a shorter statement, never more. */
    for (size_t i = 0; i < STATEMENTS_COUNT; i++) {
        for (size_t size = 0; size < strlen(statements[i][0]); size++) parse_anything(statements[i][0], size);
    }
}

Test(parse, every_flipped_byte_is_safe) {
    /* Any single changed byte gives an error or another statement. */
    for (size_t i = 0; i < STATEMENTS_COUNT; i++) {
        char *text = strdup(statements[i][0]);
        size_t size = strlen(text);
        for (size_t at = 0; at < size; at++) {
            char before = text[at];
            for (int bit = 0; bit < 8; bit++) {
                text[at] = (char)(before ^ (1 << bit));
                parse_anything(text, size);
            }
            text[at] = before;
        }
        free(text);
    }
}

Test(parse, token_soup_is_safe) {
    /* Random sequences of real tokens, which get far into the grammar, never break it. */
    static const char *const tokens[] = {
        "MATCH",  "RETURN",   "WITH",   "WHERE", "UNWIND", "SAMPLES", "OF",    "WINDOW", "FILL",     "FILTER",
        "LET",    "AS",       "ORDER",  "BY",    "SKIP",   "LIMIT",   "UNION", "ALL",    "DISTINCT", "CASE",
        "WHEN",   "THEN",     "ELSE",   "END",   "AND",    "OR",      "NOT",   "IN",     "IS",       "NULL",
        "STARTS", "CONTAINS", "EXISTS", "all",   "reduce", "x",       "n",     "f",      "`q`",      "1",
        "2.5",    "'s'",      "5m",     "$p",    "(",      ")",       "[",     "]",      "{",        "}",
        ",",      ":",        ".",      "..",    "=",      "<",       ">",     "<>",     "-",        "--",
        "+",      "*",        "/",      "|",     "&",      "!",       "%",     "^",      "=~",       ";",
    };
    static const char *const starts[] = {"", "RETURN ", "MATCH (n) WHERE ", "MATCH (", "WITH x, ", "RETURN [x IN "};
    uint64_t seed = 20260101;
    printf("seed %llu\n", (unsigned long long)seed);
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    for (int round = 0; round < 20000; round++) {
        char text[1024];
        char *to = stpcpy(text, starts[imv_prng_below(&prng, sizeof starts / sizeof starts[0])]);
        for (uint64_t count = imv_prng_below(&prng, 40); count > 0; count--) {
            to = stpcpy(to, tokens[imv_prng_below(&prng, sizeof tokens / sizeof tokens[0])]);
            if (imv_prng_below(&prng, 4) > 0) to = stpcpy(to, " ");
        }
        parse_anything(text, strlen(text));
    }
}

/* ---- the TCK ---- */

/* Mistakes that are seen without knowing what names mean. */
static bool is_syntax(const char *detail) {
    static const char *const details[] = {
        "UnexpectedSyntax",      "InvalidNumberLiteral",    "IntegerOverflow",          "FloatingPointOverflow",
        "InvalidUnicodeLiteral", "InvalidUnicodeCharacter", "InvalidClauseComposition", "InvalidRelationshipPattern"};
    for (size_t i = 0; i < sizeof details / sizeof details[0]; i++) {
        if (strcmp(detail, details[i]) == 0) return true;
    }
    return false;
}

static bool only_reads(const char *query) {
    static const char *const words[] = {"CREATE", "MERGE", "SET", "DELETE", "REMOVE", "CALL"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (imv_tck_has_word(query, words[i])) return false;
    }
    return true;
}

Test(parse, reading_queries_of_the_tck) {
    /* Every reading query of the openCypher TCK parses, unless its mistake is one of syntax. */
    struct imv_tck tck;
    if (!imv_tck_load(imv_shared_path(IMV_SOURCE_DIR), &tck)) cr_skip_test("the TCK's feature files are not here");
    size_t parsed = 0, refused = 0;
    for (size_t i = 0; i < tck.count; i++) {
        const struct imv_tck_case *query = &tck.cases[i];
        if (!only_reads(query->query)) continue;
        struct imv_query_error error;
        imv_status status = parse(query->query, strlen(query->query), NULL, &error);
        if (status == IMV_OK) {
            parsed++;
        } else {
            cr_assert(query->phase != NULL && is_syntax(query->detail), "%s:\n%s\n%s %s\n%s", query->file, query->query,
                      error.detail, error.message, error.snippet);
            cr_assert_str_eq(error.detail, query->detail, "%s: %s", query->query, error.message);
            refused++;
        }
    }
    printf("%zu queries, %zu read and parsed, %zu refused as they must\n", tck.count, parsed, refused);
    cr_assert_geq(parsed, 2400);
    cr_assert_geq(refused, 15);
    imv_tck_free(&tck);
}
