#include "storage/base/prng.h"
#include "tests/unit/query/query_rig.h"

static struct rig rig;

/* Sixty twins: each tag is there or not; `v` is a field. */
static void setup(void) {
    static const char *const hosts[] = {"h1", "h2", "h10", "x", "2024-01-01"}, *const regions[] = {"eu", "us", "h1"};
    rig_open(&rig);
    for (int i = 0; i < 60; i++) {
        char tags[96];
        int used = snprintf(tags, sizeof tags, "n=%d", i);
        if (i % 6 < 5) used += snprintf(tags + used, sizeof tags - (size_t)used, ",host=%s", hosts[i % 6]);
        if (i % 4 < 3) snprintf(tags + used, sizeof tags - (size_t)used, ",region=%s", regions[i % 4]);
        struct rig_field field = {"v", IMV_INTEGER, (uint64_t)i % 3, NULL};
        rig_write(&rig, "cpu", tags, i, &field, 1);
    }
    rig_settle(&rig, true);
}

static void teardown(void) { rig_close(&rig); }

static const char *const atoms[] = {
    "h.host = 'h1'",
    "h.host <> 'h1'",
    "'eu' = h.region",
    "h.region = null",
    "h.region <> null",
    "h.host = 5",
    "h.host <> 5",
    "h.host IN ['h1', 'x', 'no']",
    "h.host IN ['h1', null]",
    "h.host IN []",
    "h.host IN $hosts",
    "h.host IN null",
    "h.host IS NULL",
    "h.region IS NOT NULL",
    "h.host STARTS WITH 'h1'",
    "h.host STARTS WITH $prefix",
    "h.host STARTS WITH null",
    "h.host STARTS WITH ''",
    "h.host ENDS WITH '0'",
    "h.host CONTAINS '1'",
    "h.host < 'h2'",
    "h.host = h.region",
    "h.host + 'a' = 'h1a'",
    "h.nothing = 'x'",
    "h.nothing IS NULL",
    "h.v = 1",
    "h.v IS NULL",
    "1 = 1",
    "null",
    "size(h.host) > 1",
    "h.n IN ['1', '2', '3', '10', '11', '12', '20', '30']",
};

static void put_predicate(struct imv_buffer *out, struct imv_prng *prng, int height) {
    unsigned what = (unsigned)imv_prng_below(prng, height == 0 ? 2 : 7);
    if (what < 2) {
        imv_buffer_append_str(out, imv_str_from(atoms[imv_prng_below(prng, sizeof atoms / sizeof atoms[0])]));
    } else if (what == 2) {
        imv_buffer_append_str(out, IMV_STR("NOT ("));
        put_predicate(out, prng, height - 1);
        imv_buffer_append_str(out, IMV_STR(")"));
    } else {
        static const char *const operators[] = {") AND (", ") OR (", ") XOR (", ") AND ("};
        imv_buffer_append_str(out, IMV_STR("("));
        put_predicate(out, prng, height - 1);
        imv_buffer_append_str(out, imv_str_from(operators[what - 3]));
        put_predicate(out, prng, height - 1);
        imv_buffer_append_str(out, IMV_STR(")"));
    }
}

/* Any predicate, whether the index answers it or not, keeps the twins that it keeps when it is evaluated twin by
 * twin. */
Test(tag_conditions, equal_a_filter, .init = setup, .fini = teardown, .timeout = 120) {
    struct imv_prng prng;
    struct imv_buffer predicate;
    uint64_t seed = 5;
    imv_prng_init(&prng, seed);
    imv_buffer_init(&predicate, 1 << 16);
    rig.parameters = "{\"hosts\": [\"h2\", 7, \"h10\"], \"prefix\": \"h1\"}";
    for (int round = 0; round < 600; round++) {
        imv_buffer_reset(&predicate);
        put_predicate(&predicate, &prng, 4);
        imv_buffer_append_char(&predicate, 0);
        static char text[1 << 17], wanted[1 << 16];
        snprintf(text, sizeof text, "MATCH (h:cpu) WITH DISTINCT h AS h WHERE %s RETURN collect(h.n)", predicate.data);
        snprintf(wanted, sizeof wanted, "%s", rig_run(&rig, text));
        cr_assert(wanted[0] == '[', "%s: %s", text, wanted);
        snprintf(text, sizeof text, "MATCH (h:cpu) WHERE %s RETURN collect(h.n)", predicate.data);
        const char *answer = rig_run(&rig, text);
        cr_assert_str_eq(answer, wanted, "seed %llu\n%s\n  gives  %s\n  wanted %s", (unsigned long long)seed, text,
                         answer, wanted);
    }
    imv_buffer_release(&predicate);
}

/* What the index answers stands in the TwinScan, the rest in a Filter above it. */
Test(tag_conditions, explained, .init = setup, .fini = teardown) {
    static const struct {
        const char *predicate, *wanted;
    } cases[] = {
        {"h.host = 'h1' AND h.region <> 'eu'", "h:cpu, host = 'h1' AND region <> 'eu'"},
        {"NOT (h.host IN ['a'] OR h.region IS NULL)", "h:cpu, NOT host IN ['a'] AND region IS NOT NULL"},
        {"h.region = 'eu' AND (h.host = 'h1' OR h.host STARTS WITH 'x')",
         "h:cpu, region = 'eu' AND (host = 'h1' OR host STARTS WITH 'x')"},
        {"h.host =~ 'h.*'", "h:cpu, (h.host =~ 'h.*')"},
        {"NOT h.host CONTAINS 'x'", "h:cpu, (NOT (h.host CONTAINS 'x'))"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "EXPLAIN MATCH (h:cpu) WHERE %s RETURN 1 AS x", cases[i].predicate);
        const char *answer = rig_run(&rig, text);
        cr_expect(strstr(answer, cases[i].wanted) != NULL && strstr(answer, "Filter") == NULL, "%s\n%s", text, answer);
    }
    const char *answer = rig_run(&rig, "EXPLAIN MATCH (h:cpu) WHERE h.v = 1 OR h.host = 'h1' RETURN 1 AS x");
    cr_expect(strstr(answer, "Filter") != NULL, "%s", answer);
}

/* Patterns fail where they did: with a bad pattern, but not when a condition before it leaves no twin. */
Test(tag_conditions, patterns, .init = setup, .fini = teardown) {
    rig_expect(&rig, "MATCH (h:cpu) WHERE h.host =~ 'h[12]' RETURN count(h)", "[20]");
    rig_expect(&rig, "MATCH (h:cpu) WHERE NOT h.host =~ 'h[12]' RETURN count(h)", "[30]");
    rig_expect(&rig, "MATCH (h:cpu) WHERE h.host =~ '(' RETURN count(h)", "ArgumentError/InvalidRegex");
    rig_expect(&rig, "MATCH (h:cpu) WHERE h.v = 7 AND h.host =~ '(' RETURN count(h)", "[0]");
}

/* A tag compares with a time as the time it reads as, in the index too. */
Test(tag_conditions, times, .init = setup, .fini = teardown) {
    rig_expect(&rig,
               "MATCH (a:cpu {n: '0'}) SAMPLES OF a AS s WITH [s.ts, 'h1'] AS l MATCH (h:cpu) WHERE h.host IN l "
               "RETURN count(h)",
               "[10]");
}
