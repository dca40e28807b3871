#include "engine/part_writer.h"

#include "storage/base/assert.h"

#include <stdlib.h>

enum {
    /* Finishing a table syncs it: at 64 MB and 400 MB/s for a sixth of a second, in which nothing else is flushed. */
    TABLE_BYTES_MAX = 64 << 20,
};

struct imv_part_writer {
    struct imv_kv *kv;
    struct imv_part **parts; /* the last one is open while in_part */
    size_t parts_count, parts_capacity;
    bool in_part;
    struct imv_kv_table **tables; /* finished, but for the last while table_open */
    size_t tables_count, tables_capacity;
    bool table_open;
    uint64_t table_bytes;          /* of chunks in the open table */
    const struct imv_part *sharer; /* the part before, when its table is open for more of its group */
};

/* Adds an item to an array of pointers that doubles; false: no memory. */
static bool pointer_append(void *array, size_t *count, size_t *capacity, void *item) {
    void ***items = array;
    if (*count == *capacity) {
        size_t larger = *capacity == 0 ? 16 : *capacity * 2;
        void **grown = realloc(*items, larger * sizeof *grown);
        if (grown == NULL) return false;
        *items = grown;
        *capacity = larger;
    }
    (*items)[(*count)++] = item;
    return true;
}

imv_status imv_part_writer_new(struct imv_kv *kv, struct imv_part_writer **writer, struct imv_error *err) {
    *writer = calloc(1, sizeof **writer);
    if (*writer == NULL) return imv_fail(err, IMV_NO_MEMORY, "parts: no memory to write one");
    (*writer)->kv = kv;
    return IMV_OK;
}

void imv_part_writer_free(struct imv_part_writer *writer) {
    if (writer == NULL) return;
    for (size_t i = 0; i < writer->tables_count; i++) imv_kv_table_free(writer->tables[i]);
    for (size_t i = 0; i < writer->parts_count; i++) imv_part_free(writer->parts[i]);
    free(writer->tables);
    free(writer->parts);
    free(writer);
}

/* ---- tables ---- */

static imv_status table_finish(struct imv_part_writer *writer, struct imv_error *err) {
    writer->sharer = NULL;
    if (!writer->table_open) return IMV_OK;
    writer->table_open = false;
    uint64_t file_bytes;
    return imv_kv_table_finish(writer->tables[writer->tables_count - 1], &file_bytes, err);
}

static imv_status table_begin(struct imv_part_writer *writer, struct imv_error *err) {
    struct imv_kv_table *table;
    IMV_TRY(imv_kv_table_new(writer->kv, &table, err));
    if (!pointer_append(&writer->tables, &writer->tables_count, &writer->tables_capacity, table)) {
        imv_kv_table_free(table);
        return imv_fail(err, IMV_NO_MEMORY, "parts: no memory for a table");
    }
    writer->table_open = true;
    writer->table_bytes = 0;
    return IMV_OK;
}

/* ---- parts ---- */

static bool same_group(const struct imv_part *a, const struct imv_part *b) {
    return a->tier == IMV_TIER_SCATTERED && b->tier == IMV_TIER_SCATTERED && a->class == b->class &&
           a->generation == b->generation;
}

imv_status imv_part_writer_begin(struct imv_part_writer *writer, const struct imv_part *like, struct imv_error *err) {
    imv_assert(!writer->in_part);
    struct imv_part *before = writer->parts_count > 0 ? writer->parts[writer->parts_count - 1] : NULL;
    if (before != NULL && !same_group(before, like)) before = NULL;
    if (before == NULL || writer->sharer != before) IMV_TRY(table_finish(writer, err));
    struct imv_part *part = imv_part_new(like->tier, before);
    if (part == NULL || !pointer_append(&writer->parts, &writer->parts_count, &writer->parts_capacity, part)) {
        imv_part_free(part);
        return imv_fail(err, IMV_NO_MEMORY, "parts: no memory for another one");
    }
    part->class = like->class;
    part->slot = like->slot;
    part->generation = like->generation;
    part->order = like->order;
    part->made_at_ns = like->made_at_ns;
    part->label_min = UINT32_MAX;
    part->series_min = UINT64_MAX;
    part->time_min = INT64_MAX;
    part->time_max = INT64_MIN;
    writer->in_part = true;
    return IMV_OK;
}

static void part_count(struct imv_part *part, const struct imv_part_chunk *chunk) {
    const struct imv_chunk_id *id = &chunk->id;
    if (id->label < part->label_min) part->label_min = id->label;
    if (id->label > part->label_max) part->label_max = id->label;
    if (id->series < part->series_min) part->series_min = id->series;
    if (id->series > part->series_max) part->series_max = id->series;
    if (id->start < part->time_min) part->time_min = id->start;
    if (chunk->last > part->time_max) part->time_max = chunk->last;
    part->chunks++;
    part->rows += chunk->rows;
    part->bytes += chunk->bytes.size;
}

imv_status imv_part_writer_put(struct imv_part_writer *writer, const struct imv_part_chunk *chunk,
                               struct imv_error *err) {
    imv_assert(writer->in_part);
    struct imv_part *part = writer->parts[writer->parts_count - 1];
    if (writer->table_open && writer->table_bytes >= TABLE_BYTES_MAX) IMV_TRY(table_finish(writer, err));
    if (!writer->table_open) IMV_TRY(table_begin(writer, err));
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    imv_chunk_key_put(key, part, chunk->id.label, chunk->id.series, chunk->id.start);
    IMV_TRY(imv_kv_table_put(writer->tables[writer->tables_count - 1], (struct imv_str){(char *)key, sizeof key},
                             chunk->bytes, err));
    writer->table_bytes += chunk->bytes.size;
    part_count(part, chunk);
    return IMV_OK;
}

imv_status imv_part_writer_end(struct imv_part_writer *writer, struct imv_error *err) {
    imv_assert(writer->in_part);
    struct imv_part *part = writer->parts[writer->parts_count - 1];
    imv_assert(part->chunks > 0);
    writer->in_part = false;
    if (part->tier != IMV_TIER_SCATTERED) return table_finish(writer, err);
    writer->sharer = part;
    return IMV_OK;
}

imv_status imv_part_writer_ingest(struct imv_part_writer *writer, struct imv_error *err) {
    imv_assert(!writer->in_part);
    IMV_TRY(table_finish(writer, err));
    return imv_kv_ingest(writer->kv, writer->tables, writer->tables_count, err);
}

struct imv_part **imv_part_writer_take(struct imv_part_writer *writer, size_t *count) {
    struct imv_part **parts = writer->parts;
    *count = writer->parts_count;
    writer->parts = NULL;
    writer->parts_count = writer->parts_capacity = 0;
    return parts;
}
