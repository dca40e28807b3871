#include "engine/catalog_internal.h"
#include "engine/engine_internal.h"
#include "tests/support/engine_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { ROUND_SERIES = 60, HOUR = 3600 };

static struct harness harness;
static struct imv_error err;

static void ok(imv_status status) { cr_assert_eq(status, IMV_OK, "%s", err.message); }

static void setup(void) {
    struct imv_sim_options options = {.seed = 1};
    harness_init(&harness, "/db", 2);
    ok(imv_sim_new(&options, &harness.sim, &err));
    ok(imv_kv_memory_new(1, &harness.kv_memory, &err));
    ok(harness_open(&harness, &err));
    ok(imv_engine_set_retention(harness.engine, IMV_STR("churn"), HOUR * HARNESS_SECOND, &err));
}

static void teardown(void) {
    harness_close(&harness);
    imv_kv_memory_free(harness.kv_memory);
    imv_sim_free(harness.sim);
}

static int64_t now(void) { return imv_clock_wall_ns(&harness.clock.clock); }

/* A row of the series `<label>,job=<name>`; gives its id. */
static uint64_t put(const char *label, const char *name, int64_t timestamp, uint64_t value) {
    char raw[64];
    int size = snprintf(raw, sizeof raw, "%s,job=%s", label, name);
    struct imv_writer *writer = harness.writer[value % 2];
    struct imv_tag tags[] = {{IMV_STR("job"), imv_str_from(name)}, {IMV_STR("kind"), IMV_STR("batch")}};
    struct imv_series *series = imv_writer_find_series(writer, (struct imv_str){raw, (size_t)size});
    if (series == NULL) {
        ok(imv_writer_make_series(writer, (struct imv_str){raw, (size_t)size}, imv_str_from(label), tags, 2, &series,
                                  &err));
    }
    ok(imv_writer_begin(writer, series, 1, 0, &err));
    ok(imv_writer_field(writer, IMV_STR("value"), IMV_INTEGER, value, &err));
    ok(imv_writer_end(writer, timestamp, &err));
    return imv_series_id(series);
}

/* A row in every shard that stays, so that journals and heads go on. */
static void put_steady(void) {
    char name[16];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "s%d", i);
        put("steady", name, now(), (uint64_t)i);
    }
}

/* Time passes, and the background does what there is to do; shards and writers turn in between, as their threads
 * would. */
static void pass(int64_t seconds) {
    imv_manual_clock_advance(&harness.clock, seconds * HARNESS_SECOND);
    put_steady();
    cr_assert(harness_settle(&harness));
    ok(harness_flush(&harness, &err));
    for (int i = 0; i < 6; i++) {
        ok(harness_background(&harness, &err));
        cr_assert(harness_settle(&harness));
    }
}

static uint64_t series_count(const char *label) {
    struct imv_label *found = imv_catalog_find_label(imv_engine_catalog(harness.engine), imv_str_from(label));
    return found == NULL ? 0 : imv_label_series_count(found);
}

/* Records of series in `meta`. */
static size_t records(void) {
    struct imv_kv_iterator *iterator;
    struct imv_str key, value;
    size_t count = 0;
    ok(imv_kv_iterate(harness.engine->kv, IMV_KV_META, &iterator, &err));
    for (imv_kv_seek(iterator, IMV_STR("S")); imv_kv_valid(iterator, &key, &value); imv_kv_next(iterator)) {
        if (key.data[0] != 'S') break;
        count++;
    }
    imv_kv_iterator_free(iterator);
    return count;
}

static void put_round(int round) {
    char name[32];
    for (int i = 0; i < ROUND_SERIES; i++) {
        snprintf(name, sizeof name, "r%d-%d", round, i);
        put("churn", name, now(), (uint64_t)i);
    }
    cr_assert(harness_settle(&harness));
    ok(harness_flush(&harness, &err));
}

Test(ended, series_that_come_and_go_take_no_more_memory, .init = setup, .fini = teardown, .timeout = 240) {
    /* Over a hundred rounds of new series whose rows pass their retention, with restarts, catalog, index and `meta`
     * stay as large as after the first rounds. */
    uint64_t bytes_before = 0;
    for (int round = 0; round < 100; round++) {
        put_round(round);
        cr_assert_eq(series_count("churn"), ROUND_SERIES, "round %d", round);
        pass(2 * HOUR);
        cr_assert_eq(series_count("churn"), 0, "round %d: %llu", round, (unsigned long long)series_count("churn"));
        cr_assert_eq(records(), 8);
        const struct imv_catalog *catalog = imv_engine_catalog(harness.engine);
        uint64_t bytes = catalog->arena.bytes - catalog->pieces_bytes;
        if (round % 30 == 29) {
            harness_close(&harness);
            ok(harness_open(&harness, &err));
        } else if (round % 30 == 5) {
            bytes_before = bytes;
        } else if (round % 30 > 5) {
            cr_assert_leq(bytes, bytes_before + 4096, "round %d", round);
        }
    }
    const struct imv_catalog *catalog = imv_engine_catalog(harness.engine);
    const struct imv_label *churn = imv_catalog_find_label(imv_engine_catalog(harness.engine), IMV_STR("churn"));
    cr_assert_eq(catalog->series_count, 8);
    for (uint32_t code = 0; code < churn->index->keys_count; code++) {
        cr_assert_eq(imv_label_key_at(churn, code)->values_used, 0);
        cr_assert_leq(imv_label_key_at(churn, code)->values_count, 2 * ROUND_SERIES);
    }
}

Test(ended, ids_are_not_given_out_again, .init = setup, .fini = teardown) {
    /* A series that is asked for again after it was removed is a new one with an id of its own, also after a
     * restart. */
    uint64_t first = put("churn", "a", now(), 0);
    pass(2 * HOUR);
    cr_assert_eq(series_count("churn"), 0);
    cr_assert_null(imv_catalog_series_by_id(imv_engine_catalog(harness.engine), first));
    harness_close(&harness);
    ok(harness_open(&harness, &err));
    uint64_t second = put("churn", "a", now(), 0);
    cr_assert_neq(first, second);
    pass(2 * HOUR);
    uint64_t third = put("churn", "a", now(), 0);
    cr_assert(third != first && third != second);
    cr_assert(harness_settle(&harness));
    harness_close(&harness);
    ok(harness_open(&harness, &err));
    cr_assert_eq(series_count("churn"), 1);
    cr_assert_not_null(imv_catalog_series_by_id(imv_engine_catalog(harness.engine), third));
}

Test(ended, a_row_gives_a_series_back, .init = setup, .fini = teardown) {
    /* A row that comes after a series was taken up as ended, even one that is past retention itself, keeps it; rows of
     * labels that are kept for ever keep their series. */
    uint64_t id = put("churn", "a", now(), 0);
    put("kept", "a", now(), 0);
    cr_assert(harness_settle(&harness));
    ok(harness_flush(&harness, &err));
    imv_manual_clock_advance(&harness.clock, 2 * HOUR * HARNESS_SECOND);
    imv_engine_lock(harness.engine, IMV_RANK_FLUSH);
    imv_ended_look(harness.engine);
    cr_assert_eq(harness.engine->ended.phase, IMV_ENDED_TAKEN);
    imv_engine_unlock(harness.engine, IMV_RANK_FLUSH);
    cr_assert_eq(put("churn", "a", now() - 90 * 60 * HARNESS_SECOND, 0), id);
    cr_assert(harness_settle(&harness));
    for (int i = 0; i < 6; i++) {
        ok(harness_background(&harness, &err));
        cr_assert(harness_settle(&harness));
    }
    cr_assert_eq(series_count("churn"), 1);
    pass(HOUR);
    cr_assert_eq(series_count("churn"), 0);
    cr_assert_eq(series_count("kept"), 1);
}

Test(ended, a_snapshot_keeps_series, .init = setup, .fini = teardown) {
    /* While a snapshot is held no series goes, nor do writers pause for that; then they go. */
    put_round(0);
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    pass(2 * HOUR);
    cr_assert_eq(series_count("churn"), ROUND_SERIES);
    pass(60);
    cr_assert_eq(series_count("churn"), ROUND_SERIES);
    cr_assert_eq(harness.engine->ended.pauses, 0);
    imv_snapshot_release(snapshot);
    pass(60);
    pass(60);
    cr_assert_eq(series_count("churn"), 0);
    cr_assert(imv_writer_has_room(harness.writer[0]) && imv_writer_has_room(harness.writer[1]));
}

Test(ended, a_failed_write_keeps_series, .init = setup, .fini = teardown) {
    /* When the records cannot be deleted the series stay, rows may come to them, and a restart finds all that it
     * needs. */
    put_round(0);
    imv_manual_clock_advance(&harness.clock, 2 * HOUR * HARNESS_SECOND);
    imv_engine_lock(harness.engine, IMV_RANK_FLUSH);
    imv_ended_look(harness.engine);
    imv_engine_unlock(harness.engine, IMV_RANK_FLUSH);
    struct imv_ended *ended = &harness.engine->ended;
    cr_assert_eq(ended->count, ROUND_SERIES);
    /* As if the write had come through, and the answer had not. */
    ok(imv_catalog_delete_records(harness.engine->catalog, ended->list, ended->count, &err));
    imv_catalog_keep(harness.engine->catalog, ended->list, ended->count);
    imv_engine_lock(harness.engine, IMV_RANK_FLUSH);
    ended->phase = IMV_ENDED_IDLE;
    free(ended->list);
    ended->list = NULL;
    ended->count = 0;
    imv_engine_unlock(harness.engine, IMV_RANK_FLUSH);
    uint64_t id = put("churn", "r0-7", now(), 7);
    cr_assert(harness_settle(&harness));
    ok(harness_flush(&harness, &err));
    cr_assert_eq(records(), ROUND_SERIES);
    harness_close(&harness);
    ok(harness_open(&harness, &err));
    cr_assert_eq(put("churn", "r0-7", now(), 7), id);
}
