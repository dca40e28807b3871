#include "engine/chunk_reader.h"
#include "tests/support/kv_memory.h"
#include "tests/support/rows_model.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SERIES_MAX = 12, STARTS_MAX = 6, KEYS_MAX = SERIES_MAX * STARTS_MAX };

struct store {
    struct imv_prng prng;
    struct imv_part part;
    struct imv_kv_memory *memory;
    struct imv_kv *kv;
};

static void random_key(struct store *store, uint8_t key[IMV_CHUNK_KEY_BYTES]) {
    uint64_t series = imv_prng_below(&store->prng, SERIES_MAX);
    imv_chunk_key_put(key, &store->part, 1, series, (int64_t)imv_prng_below(&store->prng, STARTS_MAX));
}

/* Puts about every second possible key. */
static void store_init(struct store *store, uint64_t seed) {
    *store = (struct store){.part = {.slot = 7, .generation = 9}};
    imv_prng_init(&store->prng, seed);
    cr_assert_eq(imv_kv_memory_new(seed, &store->memory, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(store->memory, &store->kv, NULL), IMV_OK);
    struct imv_kv_table *table;
    uint64_t bytes;
    size_t keys = 0;
    cr_assert_eq(imv_kv_table_new(store->kv, &table, NULL), IMV_OK);
    for (uint64_t i = 0; i < KEYS_MAX; i++) {
        if (imv_prng_below(&store->prng, 2) == 0 && (keys > 0 || i + 1 < KEYS_MAX)) continue;
        uint8_t key[IMV_CHUNK_KEY_BYTES];
        imv_chunk_key_put(key, &store->part, 1, i / STARTS_MAX, (int64_t)(i % STARTS_MAX));
        struct imv_str view = {(char *)key, sizeof key};
        cr_assert_eq(imv_kv_table_put(table, view, IMV_STR("value"), NULL), IMV_OK);
        keys++;
    }
    cr_assert_eq(imv_kv_table_finish(table, &bytes, NULL), IMV_OK);
    cr_assert_eq(imv_kv_ingest(store->kv, &table, 1, NULL), IMV_OK);
    imv_kv_table_free(table);
}

static void store_release(struct store *store) {
    imv_kv_close(store->kv);
    imv_kv_memory_free(store->memory);
}

static bool same_place(const struct imv_kv_iterator *a, const struct imv_kv_iterator *b) {
    struct imv_str a_key, b_key, value;
    bool a_valid = imv_kv_valid(a, &a_key, &value), b_valid = imv_kv_valid(b, &b_key, &value);
    return a_valid == b_valid && (!a_valid || imv_str_equal(a_key, b_key));
}

/* One random movement of both; false when there was none. */
static bool move(struct store *store, struct imv_chunk_reader *reader, struct imv_kv_iterator *plain) {
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    random_key(store, key);
    struct imv_str view = {(char *)key, sizeof key}, current, value;
    bool valid = imv_kv_valid(plain, &current, &value);
    switch (imv_prng_below(&store->prng, 6)) {
        case 0:
            if (valid) imv_chunk_reader_next(reader), imv_kv_next(plain);
            return valid;
        case 1:
            if (valid) imv_chunk_reader_previous(reader), imv_kv_previous(plain);
            return valid;
        case 2:
            imv_chunk_reader_seek_back(reader, key);
            imv_kv_seek_for_previous(plain, view);
            return true;
        case 3:
            imv_kv_seek(plain, view);
            if (!imv_chunk_reader_step(reader, key)) imv_chunk_reader_seek(reader, key);
            return true;
        default:
            imv_chunk_reader_seek(reader, key);
            imv_kv_seek(plain, view);
            return true;
    }
}

/* However it is moved, a reader stands where an iterator that always seeks stands. */
Test(chunk_reader, stands_where_a_seek_would) {
    uint64_t seed = model_seed("chunk_reader.stands_where_a_seek_would");
    for (uint64_t round = 0; round < 40; round++) {
        struct store store;
        store_init(&store, seed + round);
        struct imv_chunk_reader reader = {0};
        struct imv_kv_iterator *plain;
        cr_assert_eq(imv_kv_iterate(store.kv, IMV_KV_CHUNKS, &reader.iterator, NULL), IMV_OK);
        cr_assert_eq(imv_kv_iterate(store.kv, IMV_KV_CHUNKS, &plain, NULL), IMV_OK);
        for (int i = 0; i < 500; i++) {
            if (move(&store, &reader, plain)) cr_assert(same_place(reader.iterator, plain));
        }
        imv_kv_iterator_free(plain);
        imv_kv_iterator_free(reader.iterator);
        store_release(&store);
    }
}

/* Going through all keys in order takes one seek: every other place is a step away. */
Test(chunk_reader, rising_keys_are_steps) {
    struct store store;
    store_init(&store, 3);
    struct imv_chunk_reader reader = {0};
    cr_assert_eq(imv_kv_iterate(store.kv, IMV_KV_CHUNKS, &reader.iterator, NULL), IMV_OK);
    for (uint64_t i = 0; i < KEYS_MAX; i++) {
        uint8_t key[IMV_CHUNK_KEY_BYTES];
        imv_chunk_key_put(key, &store.part, 1, i / STARTS_MAX, (int64_t)(i % STARTS_MAX));
        if (i == 0)
            imv_chunk_reader_seek(&reader, key);
        else
            cr_assert(imv_chunk_reader_step(&reader, key));
    }
    imv_kv_iterator_free(reader.iterator);
    store_release(&store);
}
