/* DELETE SAMPLES OF, from the text to what is left. The statement waits for the shards, so these run on a thread of
 * their own meanwhile. */
#include "tests/unit/query/query_rig.h"

#include <pthread.h>
#include <sched.h>

#define SECOND HARNESS_SECOND
#define BEGIN  (INT64_C(1700000000) * SECOND)

static struct rig rig;
static _Atomic bool stop;

static void *shards_main(void *argument) {
    (void)argument;
    while (!atomic_load(&stop)) {
        harness_turn(&rig.harness);
        sched_yield();
    }
    return NULL;
}

static void expect(const char *text, const char *wanted) {
    pthread_t thread;
    atomic_store(&stop, false);
    cr_assert_eq(pthread_create(&thread, NULL, shards_main, NULL), 0);
    rig_expect(&rig, text, wanted);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

/* Four hosts in two regions, ten rows each, a second apart; and one row of another label. */
static void fill(void) {
    for (int host = 0; host < 4; host++) {
        for (int i = 0; i < 10; i++) {
            char tags[64];
            struct rig_field field = {"x", IMV_INTEGER, (uint64_t)i, NULL};
            snprintf(tags, sizeof tags, "hostname=h%d,region=%s", host, host % 2 == 0 ? "eu" : "us");
            rig_write(&rig, "cpu", tags, BEGIN + i * SECOND, &field, 1);
        }
    }
    struct rig_field free = {"free", IMV_INTEGER, 5, NULL};
    rig_write(&rig, "mem", "hostname=h1", BEGIN, &free, 1);
}

static void setup(void) {
    rig_open(&rig);
    fill();
    rig_settle(&rig, false);
}

static void setup_flushed(void) {
    rig_open(&rig);
    fill();
    rig_settle(&rig, true);
}

static void teardown(void) { rig_close(&rig); }

#define COUNTS "MATCH (h:cpu) SAMPLES OF h AS s RETURN h.hostname AS n, count(s.x), min(s.x), max(s.x) ORDER BY n"
#define TOTAL  "MATCH (h) SAMPLES OF h AS s RETURN count(*)"

static void statements(void) {
    rig.parameters = "{\"a\": 1700000002000000000, \"b\": \"2023-11-14T22:13:25Z\"}"; /* BEGIN + 2 s, + 5 s */
    expect("MATCH (h:cpu {hostname: 'h1'}) DELETE SAMPLES OF h FROM $a TO $b", "[1]");
    expect(COUNTS, "[\"h0\",10,0,9]\n[\"h1\",7,0,9]\n[\"h2\",10,0,9]\n[\"h3\",10,0,9]");
    expect("MATCH (h:cpu) WHERE h.region = 'eu' DELETE SAMPLES OF h FROM $b", "[2]");
    expect(COUNTS, "[\"h0\",5,0,4]\n[\"h1\",7,0,9]\n[\"h2\",5,0,4]\n[\"h3\",10,0,9]");
    expect("MATCH (h:cpu) WHERE h.hostname = 'h0' RETURN h.x", "[4]");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h TO $a", "[4]");
    expect(COUNTS, "[\"h0\",3,2,4]\n[\"h1\",5,5,9]\n[\"h2\",3,2,4]\n[\"h3\",8,2,9]");
    expect("MATCH (h:cpu {hostname: 'h3'}), (m:mem) DELETE SAMPLES OF h ALL", "[1]");
    expect("MATCH (h:cpu {hostname: 'h3'}) RETURN h.x, h.region", "[null,\"us\"]");
    expect("MATCH (h:cpu {hostname: 'none'}) DELETE SAMPLES OF h ALL", "[0]");
    expect("OPTIONAL MATCH (h:none) DELETE SAMPLES OF h ALL", "[0]");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h FROM $b TO $a", "[4]"); /* an empty range */
    expect(TOTAL, "[12]");
    expect("MATCH (h) DELETE SAMPLES OF h ALL", "[5]");
    expect(TOTAL, "[0]");
}

Test(delete_statement, deletes_what_it_names, .init = setup, .fini = teardown) {
    /* The samples of the matched twins in the range are gone for the next statement, and no others. */
    statements();
}

Test(delete_statement, deletes_what_it_names_in_chunks, .init = setup_flushed, .fini = teardown) {
    /* The same when all of them are in chunks. */
    statements();
}

Test(delete_statement, a_rewritten_range_is_new, .init = setup_flushed, .fini = teardown) {
    /* What is written after a deletion is there, also in the deleted range. */
    expect("MATCH (h:cpu) DELETE SAMPLES OF h ALL", "[4]");
    fill();
    rig_settle(&rig, false);
    expect(COUNTS, "[\"h0\",10,0,9]\n[\"h1\",10,0,9]\n[\"h2\",10,0,9]\n[\"h3\",10,0,9]");
}

Test(delete_statement, what_is_no_deletion_is_refused, .init = setup, .fini = teardown) {
    /* Nothing is deleted without a range or ALL; nor anything but samples of twins; nor beside something else. */
    expect("MATCH (h:cpu) DELETE SAMPLES OF h", "SyntaxError/UnexpectedSyntax");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h.x ALL", "SyntaxError/UnsupportedFeature");
    expect("MATCH (h:cpu) DELETE h", "SyntaxError/UnsupportedFeature");
    expect("MATCH (h:cpu) DELETE SAMPLES OF g ALL", "SyntaxError/UndefinedVariable");
    expect("UNWIND [1] AS h DELETE SAMPLES OF h ALL", "SyntaxError/InvalidArgumentType");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h ALL RETURN h", "SyntaxError/UnexpectedSyntax");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h FROM null", "ArgumentError/InvalidArgumentValue");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h FROM 'noon'", "ArgumentError/InvalidArgumentValue");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h FROM true", "SyntaxError/InvalidArgumentType");
    expect("MATCH (h:cpu) DELETE SAMPLES OF h ALL UNION MATCH (h:mem) RETURN count(h) AS twins",
           "SyntaxError/InvalidClauseComposition");
    expect("MATCH (h:mem) RETURN count(h) AS twins UNION MATCH (h:cpu) DELETE SAMPLES OF h ALL",
           "SyntaxError/InvalidClauseComposition");
    expect(TOTAL, "[41]");
    cr_assert_eq(rig_try(&rig, "EXPLAIN MATCH (h:cpu) DELETE SAMPLES OF h TO 5"), IMV_OK);
    imv_buffer_append_char(&rig.answer, 0);
    cr_assert_not_null(strstr(rig.answer.data, "samples of h TO 5"));
    expect(TOTAL, "[41]");
}
