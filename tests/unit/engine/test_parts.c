#include "engine/meta.h"
#include "engine/parts.h"
#include "storage/base/prng.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct imv_part *part_make(uint8_t class, uint32_t slot, uint32_t generation) {
    struct imv_part *part = calloc(1, sizeof *part);
    part->class = class;
    part->slot = slot;
    part->generation = part->order = generation;
    part->time_min = part->time_max = imv_slot_start(slot);
    return part;
}

Test(parts, every_timestamp_lies_in_its_slot_and_slots_are_utc_days) {
    /* The slot of a timestamp starts at or before it and the next one after it, up to both ends of time. */
    const int64_t day = IMV_SLOT_NS;
    const int64_t edges[] = {INT64_MIN, INT64_MIN + 1, -day - 1, -day,      -1,           0,
                             1,         day - 1,       day,      INT64_MAX, INT64_MAX - 1};
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    for (size_t i = 0; i < 10000; i++) {
        int64_t timestamp = i < sizeof edges / sizeof *edges ? edges[i] : (int64_t)imv_prng_next(&prng);
        uint32_t slot = imv_slot_of(timestamp);
        cr_assert(imv_slot_start(slot) <= timestamp);
        if (slot < imv_slot_of(INT64_MAX)) cr_assert(imv_slot_start(slot + 1) > timestamp);
    }
    cr_assert_eq(imv_slot_of(INT64_MIN), 0);
    cr_assert_eq(imv_slot_start(imv_slot_of(0)), 0);
    cr_assert_eq(imv_slot_start(0), INT64_MIN);
    cr_assert_eq(imv_slot_start(imv_slot_of(INT64_MAX) + 1), INT64_MAX);
}

Test(parts, keys_sort_as_what_they_name_and_read_back) {
    /* The order of two keys' bytes is that of (tier, class, slot, generation, label, series, start), the generation
     * before the slot where parts are scattered. */
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    uint8_t before[IMV_CHUNK_KEY_BYTES] = {0};
    struct imv_chunk_id before_id = {0};
    struct imv_part before_part = {0};
    for (int i = 0; i < 10000; i++) {
        struct imv_chunk_id id = {(uint32_t)imv_prng_below(&prng, 3), imv_prng_below(&prng, 3),
                                  (int64_t)imv_prng_next(&prng)};
        struct imv_part part = {.tier = (uint8_t)imv_prng_below(&prng, IMV_TIERS),
                                .class = (uint8_t)imv_prng_below(&prng, 3),
                                .slot = imv_slot_of(id.start),
                                .generation = (uint32_t)imv_prng_below(&prng, 3)};
        uint8_t key[IMV_CHUNK_KEY_BYTES];
        imv_chunk_key_put(key, &part, id.label, id.series, id.start);
        struct imv_part parsed;
        struct imv_chunk_id parsed_id;
        cr_assert(imv_chunk_key_parse((struct imv_str){(char *)key, sizeof key}, &parsed, &parsed_id));
        cr_assert(parsed.tier == part.tier && parsed.class == part.class && parsed.slot == part.slot &&
                  parsed.generation == part.generation);
        cr_assert(parsed_id.label == id.label && parsed_id.series == id.series && parsed_id.start == id.start);
        bool scattered = part.tier == IMV_TIER_SCATTERED;
        int64_t slot = (int64_t)part.slot - before_part.slot;
        int64_t generation = (int64_t)part.generation - before_part.generation;
        int64_t orders[] = {(int64_t)part.tier - before_part.tier,
                            (int64_t)part.class - before_part.class,
                            scattered ? generation : slot,
                            scattered ? slot : generation,
                            (int64_t)id.label - before_id.label,
                            (int64_t)id.series - (int64_t)before_id.series,
                            (id.start > before_id.start) - (id.start < before_id.start)};
        int64_t order = 0;
        for (size_t k = 0; k < sizeof orders / sizeof *orders && order == 0; k++) order = orders[k];
        int found = memcmp(key, before, sizeof key);
        if (i > 0) cr_assert_eq((found > 0) - (found < 0), (order > 0) - (order < 0));
        memcpy(before, key, sizeof key);
        before_id = id;
        before_part = part;
    }
}

Test(parts, what_is_no_chunk_key_is_refused) {
    /* A key of another length, of an unknown tier, or whose start lies in another slot does not parse. */
    struct imv_part part = {.slot = imv_slot_of(5)}, parsed;
    struct imv_chunk_id id;
    uint8_t key[IMV_CHUNK_KEY_BYTES + 1] = {0};
    imv_chunk_key_put(key, &part, 1, 2, 5);
    for (size_t size = 0; size <= sizeof key; size++) {
        cr_assert_eq(imv_chunk_key_parse((struct imv_str){(char *)key, size}, &parsed, &id),
                     size == IMV_CHUNK_KEY_BYTES);
    }
    key[0] = IMV_TIERS;
    cr_assert_not(imv_chunk_key_parse((struct imv_str){(char *)key, IMV_CHUNK_KEY_BYTES}, &parsed, &id));
    part.slot++;
    imv_chunk_key_put(key, &part, 1, 2, 5);
    cr_assert_not(imv_chunk_key_parse((struct imv_str){(char *)key, IMV_CHUNK_KEY_BYTES}, &parsed, &id));
}

Test(parts, the_end_of_a_prefix_is_behind_all_its_keys) {
    /* It is the smallest key greater than every key with the prefix, also when bytes carry over. */
    const uint32_t generations[] = {0, 1, 255, 256, 65535, UINT32_MAX};
    for (size_t i = 0; i < sizeof generations / sizeof *generations; i++) {
        struct imv_part part = {.class = 3, .slot = 9, .generation = generations[i]};
        uint8_t prefix[IMV_PART_KEY_BYTES], end[IMV_PART_KEY_BYTES], key[IMV_CHUNK_KEY_BYTES];
        imv_part_prefix_put(prefix, &part);
        imv_part_prefix_end(end, prefix, sizeof prefix);
        imv_chunk_key_put(key, &part, UINT32_MAX, UINT64_MAX, INT64_MAX);
        cr_assert_gt(memcmp(end, key, sizeof end), 0);
        struct imv_part next;
        imv_part_prefix_parse(end, &next);
        cr_assert_eq(((uint64_t)next.slot << 32 | next.generation) - ((uint64_t)part.slot << 32 | part.generation), 1);
    }
}

static struct imv_kv_memory *memory;
static struct imv_kv *kv;

static void store_open(void) {
    cr_assert_eq(imv_kv_memory_new(1, &memory, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(memory, &kv, NULL), IMV_OK);
}

static void store_close(void) {
    imv_kv_close(kv);
    imv_kv_memory_free(memory);
}

static void ingest(const struct imv_part *part) {
    struct imv_kv_table *table;
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    uint64_t bytes;
    imv_chunk_key_put(key, part, 1, 1, part->time_min);
    cr_assert_eq(imv_kv_table_new(kv, &table, NULL), IMV_OK);
    cr_assert_eq(imv_kv_table_put(table, (struct imv_str){(char *)key, sizeof key}, IMV_STR("x"), NULL), IMV_OK);
    cr_assert_eq(imv_kv_table_finish(table, &bytes, NULL), IMV_OK);
    cr_assert_eq(imv_kv_ingest(kv, &table, 1, NULL), IMV_OK);
    imv_kv_table_free(table);
}

Test(parts, a_retired_part_is_dropped_with_the_last_list_that_holds_it, .init = store_open, .fini = store_close) {
    /* Lists share parts; files go when nobody can read them any more, and only those of retired parts. */
    struct imv_part *kept = part_make(0, 5, 2), *retired = part_make(0, 4, 1);
    ingest(kept);
    ingest(retired);
    struct imv_part *added[] = {kept, retired};
    struct imv_parts *first, *second;
    cr_assert_eq(imv_parts_new(NULL, added, 2, &first, NULL), IMV_OK);
    cr_assert(first->items[0] == retired && first->items[1] == kept);
    atomic_store(&retired->retired, true);
    cr_assert_eq(imv_parts_new(first, NULL, 0, &second, NULL), IMV_OK);
    cr_assert_eq(second->count, 1);
    imv_parts_retain(first);
    imv_parts_release(first, kv);
    cr_assert_eq(imv_kv_memory_tables(memory), 2);
    imv_parts_release(first, kv);
    cr_assert_eq(imv_kv_memory_tables(memory), 1);
    imv_parts_release(second, kv);
    cr_assert_eq(imv_kv_memory_tables(memory), 1);
}

Test(parts, an_abandoned_list_leaves_no_trace, .init = store_open, .fini = store_close) {
    /* After imv_parts_abandon the added parts are the caller's and the old list's are as before. */
    struct imv_part *old = part_make(0, 1, 1), *added = part_make(0, 2, 2);
    struct imv_parts *list, *next;
    cr_assert_eq(imv_parts_new(NULL, &old, 1, &list, NULL), IMV_OK);
    cr_assert_eq(imv_parts_new(list, &added, 1, &next, NULL), IMV_OK);
    imv_parts_abandon(next);
    cr_assert_eq(atomic_load(&old->references), 1);
    cr_assert_eq(atomic_load(&added->references), 0);
    imv_part_free(added);
    imv_parts_release(list, kv);
}

/* Two scattered parts of one group in one file, and one of another group. */
static void ingest_group(struct imv_part *parts[3]) {
    struct imv_kv_table *table;
    cr_assert_eq(imv_kv_table_new(kv, &table, NULL), IMV_OK);
    for (int i = 0; i < 3; i++) {
        uint8_t key[IMV_CHUNK_KEY_BYTES];
        uint64_t bytes;
        parts[i] = imv_part_new(IMV_TIER_SCATTERED, i == 1 ? parts[0] : NULL);
        parts[i]->slot = 10 + (uint32_t)i;
        parts[i]->generation = parts[i]->order = i < 2 ? 5 : 6;
        parts[i]->time_min = parts[i]->time_max = imv_slot_start(parts[i]->slot);
        imv_chunk_key_put(key, parts[i], 1, 1, parts[i]->time_min);
        cr_assert_eq(imv_kv_table_put(table, (struct imv_str){(char *)key, sizeof key}, IMV_STR("x"), NULL), IMV_OK);
        if (i == 0) continue;
        cr_assert_eq(imv_kv_table_finish(table, &bytes, NULL), IMV_OK);
        cr_assert_eq(imv_kv_ingest(kv, &table, 1, NULL), IMV_OK);
        imv_kv_table_free(table);
        if (i == 1) cr_assert_eq(imv_kv_table_new(kv, &table, NULL), IMV_OK);
    }
}

static struct imv_parts *retire(struct imv_parts *list, struct imv_part *part) {
    struct imv_parts *next;
    atomic_store(&part->retired, true);
    cr_assert_eq(imv_parts_new(list, NULL, 0, &next, NULL), IMV_OK);
    imv_parts_release(list, kv);
    return next;
}

Test(parts, files_of_a_group_go_with_its_last_part, .init = store_open, .fini = store_close) {
    /* Scattered parts that share a file keep it until all of them are retired, in any order, and no longer. */
    for (int first = 0; first < 2; first++) {
        struct imv_part *parts[3];
        struct imv_parts *list;
        ingest_group(parts);
        cr_assert_eq(imv_parts_new(NULL, parts, 3, &list, NULL), IMV_OK);
        list = retire(list, parts[first]);
        cr_assert_eq(imv_kv_memory_tables(memory), 2);
        cr_assert_eq(atomic_load(&parts[1 - first]->group->live), 1);
        cr_assert_eq(atomic_load(&parts[1 - first]->group->dead), 1);
        list = retire(list, parts[1 - first]);
        cr_assert_eq(imv_kv_memory_tables(memory), 1);
        list = retire(list, parts[2]);
        cr_assert_eq(imv_kv_memory_tables(memory), 0);
        imv_parts_release(list, kv);
    }
}

/* ---- meta ---- */

static struct imv_meta_batch filled_batch(struct imv_meta *meta) {
    struct imv_meta_batch batch;
    imv_meta_batch_init(&batch);
    struct imv_part part = {.class = 2,
                            .slot = imv_slot_of(0),
                            .generation = 8,
                            .order = 6,
                            .series_min = 21,
                            .series_max = UINT64_C(3) << 40,
                            .label_min = 3,
                            .label_max = 9,
                            .time_min = 1,
                            .time_max = 77,
                            .rows = 12,
                            .chunks = 4,
                            .bytes = 1000};
    imv_meta_put_part(&batch, &part);
    imv_meta_put_watermark(&batch, 3, 44);
    imv_meta_put_generation(&batch, 9);
    struct imv_tombstone tombstone = {
        .series = 6, .label = 7, .from = -5, .last = INT64_MAX, .position = 44, .generation = 9};
    imv_meta_put_tombstone(&batch, 3, &tombstone);
    uint8_t class;
    *meta = (struct imv_meta){0};
    cr_assert_eq(imv_meta_class(meta, 7, 1000, &class, NULL), IMV_OK);
    cr_assert_eq(imv_meta_class(meta, 5, 1000, &class, NULL), IMV_OK);
    imv_meta_put_class(&batch, class, &meta->classes[class]);
    return batch;
}

Test(meta, what_is_written_is_loaded, .init = store_open, .fini = store_close) {
    /* Parts, watermarks, generation, classes and tombstones read back as they were, and deleted ones do not. */
    struct imv_meta given, meta;
    struct imv_meta_batch batch = filled_batch(&given);
    cr_assert_eq(imv_meta_write(&batch, kv, NULL), IMV_OK);
    imv_meta_batch_release(&batch);
    imv_meta_release(&given, kv);
    cr_assert_eq(imv_meta_load(kv, &meta, NULL), IMV_OK);
    cr_assert_eq(meta.parts->count, 1);
    const struct imv_part *part = meta.parts->items[0];
    cr_assert(part->class == 2 && part->generation == 8 && part->label_min == 3 && part->label_max == 9);
    cr_assert(part->time_min == 1 && part->time_max == 77 && part->rows == 12 && part->chunks == 4);
    cr_assert(part->bytes == 1000 && part->slot == imv_slot_of(0) && part->order == 6 && part->group == NULL);
    cr_assert(part->series_min == 21 && part->series_max == UINT64_C(3) << 40);
    cr_assert(meta.watermarks[3] == 44 && meta.watermarks[0] == 0 && meta.generation == 9);
    cr_assert(meta.classes[1].used && meta.classes[1].retention_ns == 1000 && meta.classes[1].labels_count == 2);
    cr_assert(meta.classes[1].labels[0] == 5 && meta.classes[1].labels[1] == 7);
    cr_assert(meta.deletions[0] == NULL && meta.deletions[3]->count == 1);
    const struct imv_tombstone *tombstone = &meta.deletions[3]->items[0];
    cr_assert(tombstone->series == 6 && tombstone->label == 7 && tombstone->from == -5);
    cr_assert(tombstone->last == INT64_MAX && tombstone->position == 44 && tombstone->generation == 9);
    cr_assert(tombstone->recorded && tombstone->sequence == 0);
    imv_meta_batch_init(&batch);
    imv_meta_delete_part(&batch, part);
    imv_meta_delete_tombstone(&batch, 3, tombstone);
    cr_assert_eq(imv_meta_write(&batch, kv, NULL), IMV_OK);
    imv_meta_batch_release(&batch);
    imv_meta_release(&meta, kv);
    cr_assert_eq(imv_meta_load(kv, &meta, NULL), IMV_OK);
    cr_assert(meta.parts->count == 0 && meta.deletions[3] == NULL);
    imv_meta_release(&meta, kv);
}

Test(meta, groups_of_scattered_parts_are_found_again, .init = store_open, .fini = store_close) {
    /* Loaded parts share a group exactly when class and generation are the same. */
    struct imv_meta_batch batch;
    struct imv_meta meta;
    imv_meta_batch_init(&batch);
    for (uint32_t i = 0; i < 16; i++) {
        struct imv_part part = {.tier = i & 8 ? IMV_TIER_SCATTERED : IMV_TIER_FRESH,
                                .class = i & 1,
                                .generation = 5 + (i >> 1 & 1),
                                .slot = imv_slot_of(0) + (i >> 2 & 1)};
        part.order = part.generation;
        part.time_min = part.time_max = imv_slot_start(part.slot);
        imv_meta_put_part(&batch, &part);
    }
    cr_assert_eq(imv_meta_write(&batch, kv, NULL), IMV_OK);
    imv_meta_batch_release(&batch);
    cr_assert_eq(imv_meta_load(kv, &meta, NULL), IMV_OK);
    cr_assert_eq(meta.parts->count, 16);
    for (size_t i = 0; i < 16; i++) {
        const struct imv_part *a = meta.parts->items[i];
        cr_assert_eq(a->group != NULL, a->tier == IMV_TIER_SCATTERED);
        if (a->group != NULL) cr_assert_eq(atomic_load(&a->group->live), 2);
        for (size_t k = 0; k < 16 && a->group != NULL; k++) {
            const struct imv_part *b = meta.parts->items[k];
            bool same = b->group != NULL && a->class == b->class && a->generation == b->generation;
            cr_assert_eq(a->group == b->group, same);
        }
    }
    imv_meta_release(&meta, kv);
}

Test(meta, every_flipped_byte_and_every_cut_is_found, .init = store_open, .fini = store_close) {
    /* No record is taken when one of its bits is wrong or its end is missing. */
    struct imv_meta given, meta;
    struct imv_meta_batch batch = filled_batch(&given);
    for (size_t i = 0; i < batch.count; i++) {
        struct imv_kv_change change = batch.changes[i];
        char *value = (char *)(uintptr_t)change.value.data;
        for (size_t at = 0; at < change.value.size; at++) {
            value[at] ^= 0x10;
            cr_assert_eq(imv_kv_write(kv, &change, 1, NULL), IMV_OK);
            imv_status status = imv_meta_load(kv, &meta, NULL);
            cr_assert(status == IMV_CORRUPT, "record %zu byte %zu: %s", i, at, imv_status_name(status));
            value[at] ^= 0x10;
            struct imv_kv_change cut = change;
            cut.value.size = at;
            cr_assert_eq(imv_kv_write(kv, &cut, 1, NULL), IMV_OK);
            cr_assert_eq(imv_meta_load(kv, &meta, NULL), IMV_CORRUPT);
        }
        cr_assert_eq(imv_kv_write(kv, &change, 1, NULL), IMV_OK);
        cr_assert_eq(imv_meta_load(kv, &meta, NULL), IMV_OK);
        imv_meta_release(&meta, kv);
    }
    imv_meta_batch_release(&batch);
    imv_meta_release(&given, kv);
}

Test(meta, classes_are_shared_by_retention_and_never_too_short) {
    /* Equal retentions share a class; when all 255 are taken, one with a longer retention or class 0 serves. */
    struct imv_meta meta = {0};
    uint8_t class, again;
    cr_assert_eq(imv_meta_class(&meta, 1, 0, &class, NULL), IMV_OK);
    cr_assert_eq(class, 0);
    for (int i = 1; i < IMV_CLASSES_MAX; i++) {
        cr_assert_eq(imv_meta_class(&meta, 1, i * 10, &class, NULL), IMV_OK);
        cr_assert_eq(imv_meta_class(&meta, 2, i * 10, &again, NULL), IMV_OK);
        cr_assert(class == again && class != 0 && meta.classes[class].retention_ns == i * 10);
    }
    cr_assert_eq(imv_meta_class(&meta, 1, 25, &class, NULL), IMV_OK);
    cr_assert_eq(meta.classes[class].retention_ns, 30);
    cr_assert_eq(imv_meta_class(&meta, 1, 1000000, &class, NULL), IMV_OK);
    cr_assert_eq(class, 0);
    for (int i = 0; i < IMV_CLASSES_MAX; i++) free(meta.classes[i].labels);
}

Test(meta, tombstones_that_cannot_be_are_refused, .init = store_open, .fini = store_close) {
    /* One above the watermark, of a generation that was never given out, or with its range the wrong way round. */
    for (int i = 0; i < 4; i++) {
        struct imv_meta meta;
        struct imv_meta_batch batch = filled_batch(&meta);
        imv_meta_release(&meta, kv);
        struct imv_tombstone tombstone = {.label = 1, .from = 2, .last = 2, .position = 44, .generation = 9};
        if (i == 1) tombstone.position = 45;
        if (i == 2) tombstone.generation = 10;
        if (i == 3) tombstone.from = 3;
        imv_meta_put_tombstone(&batch, 3, &tombstone);
        cr_assert_eq(imv_meta_write(&batch, kv, NULL), IMV_OK);
        cr_assert_eq(imv_meta_load(kv, &meta, NULL), i == 0 ? IMV_OK : IMV_CORRUPT);
        imv_meta_batch_release(&batch);
        imv_meta_batch_init(&batch);
        imv_meta_delete_tombstone(&batch, 3, &tombstone);
        cr_assert_eq(imv_meta_write(&batch, kv, NULL), IMV_OK);
        imv_meta_batch_release(&batch);
        if (i == 0) imv_meta_release(&meta, kv);
    }
}
