/* check.c - imv_engine_check: everything that a data directory holds is read and compared with what stands beside it.
 *
 *     FORMAT -> journals (wal.h) -> records in `meta` -> catalog -> every chunk, against its key, its part, the catalog
 *
 * A finding does not end the check: what can still be read is read.
 */
#include "engine/directory.h"
#include "engine/engine.h"
#include "engine/meta.h"
#include "storage/chunk.h"
#include "storage/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE_BYTES = 640 };

/* What was seen of a part. */
struct seen {
    const struct imv_part *part; /* NULL: in no record */
    uint64_t rows, chunks;
    int64_t time_min, time_max;
    uint32_t label_min, label_max;
    uint64_t series_min, series_max;
};

struct check {
    void (*report)(void *context, const char *line);
    void *context;
    const char *directory;
    struct imv_io *io;
    bool has_wal, has_store;
    struct imv_kv *kv;
    struct imv_meta meta; /* parts NULL: not readable */
    struct imv_catalog *catalog;
    uint64_t findings, chunks, rows, tombstones, unfinished, parts_found;
    /* The part at hand, and in it the chunk before. */
    uint8_t prefix[IMV_PART_KEY_BYTES];
    bool in_part;
    struct seen seen;
    struct imv_chunk_id before;
    int64_t before_last;
};

static void say(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct check *check, const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    check->report(check->context, line);
}

static void finding(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void finding(struct check *check, const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    check->findings++;
    say(check, "damaged: %s", line);
}

/* ---- chunks ---- */

static const struct imv_part *part_find(const struct check *check, const uint8_t prefix[IMV_PART_KEY_BYTES]) {
    const struct imv_parts *parts = check->meta.parts;
    if (parts == NULL) return NULL;
    struct imv_part wanted;
    imv_part_prefix_parse(prefix, &wanted);
    for (size_t i = imv_parts_find(parts, wanted.slot); i < parts->count; i++) {
        uint8_t own[IMV_PART_KEY_BYTES];
        if (parts->items[i]->slot != wanted.slot) return NULL;
        imv_part_prefix_put(own, parts->items[i]);
        if (memcmp(own, prefix, sizeof own) == 0) return parts->items[i];
    }
    return NULL;
}

/* Compares what the part's record says with what its chunks held. */
static void part_end(struct check *check) {
    const struct seen *seen = &check->seen;
    const struct imv_part *part = seen->part;
    if (!check->in_part) return;
    check->in_part = false;
    if (part == NULL) {
        check->unfinished++;
        return;
    }
    check->parts_found++;
    if (part->rows != seen->rows || part->chunks != seen->chunks) {
        finding(check,
                "part slot=%u generation=%u has %" PRIu64 " rows in %" PRIu64 " chunks, its record says %" PRIu64
                " in %" PRIu64,
                part->slot, part->generation, seen->rows, seen->chunks, part->rows, part->chunks);
    }
    if (part->time_min != seen->time_min || part->time_max != seen->time_max || part->label_min != seen->label_min ||
        part->label_max != seen->label_max || part->series_min != seen->series_min ||
        part->series_max != seen->series_max) {
        finding(check, "part slot=%u generation=%u has other times, labels or series than its record", part->slot,
                part->generation);
    }
}

static void part_begin(struct check *check, const uint8_t prefix[IMV_PART_KEY_BYTES]) {
    part_end(check);
    memcpy(check->prefix, prefix, sizeof check->prefix);
    check->in_part = true;
    check->seen = (struct seen){.part = part_find(check, prefix),
                                .time_min = INT64_MAX,
                                .time_max = INT64_MIN,
                                .label_min = UINT32_MAX,
                                .series_min = UINT64_MAX};
}

static void chunk_count(struct check *check, const struct imv_chunk *chunk) {
    struct seen *seen = &check->seen;
    seen->chunks++;
    seen->rows += chunk->rows;
    if (chunk->time_min < seen->time_min) seen->time_min = chunk->time_min;
    if (chunk->time_max > seen->time_max) seen->time_max = chunk->time_max;
    if (chunk->id.label < seen->label_min) seen->label_min = chunk->id.label;
    if (chunk->id.label > seen->label_max) seen->label_max = chunk->id.label;
    if (chunk->id.series < seen->series_min) seen->series_min = chunk->id.series;
    if (chunk->id.series > seen->series_max) seen->series_max = chunk->id.series;
    check->chunks++;
    check->rows += chunk->rows;
}

/* The names that the chunk's numbers stand for, or what is wrong with them. */
static const char *chunk_names_fault(const struct check *check, const struct imv_chunk *chunk) {
    if (check->catalog == NULL) return NULL;
    const struct imv_series *series = imv_catalog_series_by_id(check->catalog, chunk->id.series);
    /* A series that ended is removed before its chunks are: nothing shows them any more. */
    if (series == NULL && imv_catalog_id_is_used(check->catalog, chunk->id.series)) return NULL;
    if (series == NULL) return "is of a series that the catalog does not know";
    if (series->label->id != chunk->id.label) return "has another label than its series";
    for (uint32_t i = 0; i < chunk->columns; i++) {
        const struct imv_field *field = imv_label_field_by_id(series->label, imv_chunk_column_id(chunk, i));
        if (field == NULL) return "has a column that its label does not know";
        if (field->type != imv_chunk_column_type(chunk, i)) return "has a column of another type than its field";
    }
    return NULL;
}

static const char *chunk_place_fault(const struct check *check, const struct imv_part *prefix,
                                     const struct imv_chunk *chunk) {
    if (imv_slot_of(chunk->time_max) != prefix->slot) return "reaches beyond its slot";
    bool same_series =
        check->seen.chunks > 0 && check->before.label == chunk->id.label && check->before.series == chunk->id.series;
    return same_series && chunk->time_min <= check->before_last ? "overlaps the one before it" : NULL;
}

static void chunk_check(struct check *check, struct imv_str key, struct imv_str value) {
    struct imv_part prefix;
    struct imv_chunk_id id;
    if (!imv_chunk_key_parse(key, &prefix, &id)) {
        finding(check, "a key of %zu bytes among the chunks is none of a chunk", key.size);
        return;
    }
    const uint8_t *bytes = (const uint8_t *)key.data;
    if (!check->in_part || memcmp(check->prefix, bytes, sizeof check->prefix) != 0) part_begin(check, bytes);
    if (check->seen.part == NULL && check->meta.parts != NULL) return; /* dropped at the next start */
    struct imv_error err;
    struct imv_chunk chunk;
    imv_status status = imv_chunk_check(value.data, value.size, &id, &err);
    if (status == IMV_OK) status = imv_chunk_open(value.data, value.size, &id, &chunk, &err);
    if (status != IMV_OK) {
        finding(check, "chunk label=%u series=%" PRIu64 " start=%" PRId64 " generation=%u: %s", id.label, id.series,
                id.start, prefix.generation, err.message);
        return;
    }
    const char *fault = chunk_names_fault(check, &chunk);
    if (fault == NULL) fault = chunk_place_fault(check, &prefix, &chunk);
    if (fault != NULL) {
        finding(check, "chunk label=%u series=%" PRIu64 " start=%" PRId64 " generation=%u %s", id.label, id.series,
                id.start, prefix.generation, fault);
    }
    chunk_count(check, &chunk);
    check->before = id;
    check->before_last = chunk.time_max;
}

/* What the tombstones name must be there. */
static void tombstones_check(struct check *check, uint32_t shard) {
    const struct imv_deletions *list = check->meta.deletions[shard];
    for (size_t i = 0; check->catalog != NULL && list != NULL && i < list->count; i++) {
        const struct imv_tombstone *tombstone = &list->items[i];
        bool whole = tombstone->series == (uint32_t)IMV_TOMBSTONE_ALL;
        uint64_t id = (uint64_t)shard << 40 | tombstone->series;
        const struct imv_series *series = whole ? NULL : imv_catalog_series_by_id(check->catalog, id);
        bool known = whole            ? imv_catalog_label_by_id(check->catalog, tombstone->label) != NULL
                     : series == NULL ? imv_catalog_id_is_used(check->catalog, id)
                                      : series->label->id == tombstone->label;
        if (!known) {
            finding(check, "a deletion at position %" PRIu64 " of shard %u is of a label or series that is not known",
                    tombstone->position, shard);
        }
        check->tombstones++;
    }
}

static imv_status chunks_check(struct check *check, struct imv_error *err) {
    struct imv_kv_iterator *iterator = NULL;
    IMV_TRY(imv_kv_iterate(check->kv, IMV_KV_CHUNKS, &iterator, err));
    struct imv_str key, value;
    imv_kv_seek(iterator, IMV_STR(""));
    for (; imv_kv_valid(iterator, &key, &value); imv_kv_next(iterator)) chunk_check(check, key, value);
    part_end(check);
    imv_status status = imv_kv_status(iterator, err);
    imv_kv_iterator_free(iterator);
    if (check->meta.parts != NULL && check->parts_found < check->meta.parts->count) {
        finding(check, "%" PRIu64 " of %zu parts have no chunks", check->meta.parts->count - check->parts_found,
                check->meta.parts->count);
    }
    return status;
}

/* ---- the rest ---- */

/* Turns damage into a finding; other failures end the check. */
static imv_status weigh(struct check *check, const char *what, imv_status status, const struct imv_error *err) {
    if (status != IMV_CORRUPT) return status;
    finding(check, "%s: %s", what, err->message);
    return IMV_OK;
}

static imv_status store_check(struct check *check, uint32_t shards, struct imv_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/rocksdb", check->directory);
    IMV_TRY(weigh(check, "store", imv_kv_open(path, &check->kv, err), err));
    if (check->kv == NULL) return IMV_OK;
    IMV_TRY(weigh(check, "records", imv_meta_load(check->kv, &check->meta, err), err));
    IMV_TRY(weigh(check, "catalog", imv_catalog_open(check->kv, shards, &check->catalog, err), err));
    for (uint32_t shard = 0; shard < IMV_SHARDS_MAX; shard++) tombstones_check(check, shard);
    return weigh(check, "chunks", chunks_check(check, err), err);
}

/* The journal's report passes through: its findings are told by its status. */
static imv_status journals_check(struct check *check, struct imv_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/wal", check->directory);
    return weigh(check, "journal", imv_wal_check(check->io, path, check->report, check->context, err), err);
}

static imv_status note_entry(void *context, const char *name, struct imv_error *err) {
    (void)err;
    struct check *check = context;
    if (strcmp(name, "wal") == 0) check->has_wal = true;
    if (strcmp(name, "rocksdb") == 0) check->has_store = true;
    return IMV_OK;
}

static imv_status directory_check(struct check *check, uint32_t shards, struct imv_error *err) {
    IMV_TRY(imv_io_list(check->io, check->directory, note_entry, check, err));
    if (check->has_wal) IMV_TRY(journals_check(check, err));
    if (check->has_store) IMV_TRY(store_check(check, shards, err));
    say(check,
        "summary: shards=%u parts=%zu chunks=%" PRIu64 " rows=%" PRIu64 " tombstones=%" PRIu64 " unfinished=%" PRIu64
        " findings=%" PRIu64,
        shards, check->meta.parts != NULL ? check->meta.parts->count : 0, check->chunks, check->rows, check->tombstones,
        check->unfinished, check->findings);
    if (check->findings == 0) return IMV_OK;
    return imv_fail(err, IMV_CORRUPT, "check: %" PRIu64 " findings in %s", check->findings, check->directory);
}

imv_status imv_engine_check(const char *directory, void (*report)(void *context, const char *line), void *context,
                            struct imv_error *err) {
    struct imv_error local;
    if (err == NULL) err = &local;
    struct check check = {.report = report, .context = context, .directory = directory};
    IMV_TRY(imv_io_sys_new(&check.io, err));
    struct imv_directory opened;
    imv_status status = imv_directory_open(check.io, directory, 0, &opened, err);
    if (status == IMV_CORRUPT) say(&check, "damaged: %s", err->message);
    if (status == IMV_OK) status = directory_check(&check, opened.shards, err);
    imv_catalog_close(check.catalog);
    imv_meta_release(&check.meta, check.kv);
    imv_kv_close(check.kv);
    imv_directory_close(&opened);
    imv_io_free(check.io);
    return status;
}
