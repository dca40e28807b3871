#include "engine/inspect.h"

#include "engine/backup_format.h"
#include "engine/directory.h"
#include "engine/meta.h"
#include "storage/wal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

enum { LINE_BYTES = 4096, TIME_BYTES = 40 };

struct inspection {
    const struct imv_inspect_options *options;
    const char *path;
    struct imv_io *io;
    uint32_t shards;
    struct imv_kv *kv;
    struct imv_meta meta;
    struct imv_catalog *catalog;
};

static void say(const struct inspection *inspection, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct inspection *inspection, const char *format, ...) {
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (char *at = line; *at != 0; at++) /* names are the clients': they must not drive a terminal */
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    inspection->options->report(inspection->options->context, line);
}

static const char *time_text(int64_t timestamp, char text[TIME_BYTES]) {
    int64_t seconds = timestamp / 1000000000, rest = timestamp % 1000000000;
    if (rest < 0) seconds--, rest += 1000000000;
    struct tm parts;
    time_t whole = (time_t)seconds;
    size_t size = gmtime_r(&whole, &parts) == NULL ? 0 : strftime(text, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + size, TIME_BYTES - size, ".%09dZ", (int)rest);
    return text;
}

/* ---- single files ---- */

static imv_status read_text(struct inspection *inspection, const char *path, size_t size_max, struct imv_buffer *text,
                            struct imv_error *err) {
    struct imv_file *file;
    uint64_t size;
    imv_buffer_init(text, size_max);
    IMV_TRY(imv_file_open(inspection->io, path, IMV_OPEN_READ, &file, err));
    imv_status status = imv_file_size(file, &size, err);
    char *to = status != IMV_OK || size > size_max ? NULL : imv_buffer_reserve(text, (size_t)size + 1);
    if (status == IMV_OK && to == NULL)
        status = imv_fail(err, IMV_UNSUPPORTED, "inspect: %s is too large for what its name says", path);
    if (status == IMV_OK) status = imv_file_read(file, to, (size_t)size, 0, &text->size, err);
    imv_file_close(file);
    return status;
}

static imv_status inspect_manifest(struct inspection *inspection, struct imv_error *err) {
    struct imv_buffer text;
    struct imv_backup_file *files = NULL;
    size_t count = 0;
    imv_status status = read_text(inspection, inspection->path, IMV_BACKUP_MANIFEST_BYTES_MAX, &text, err);
    if (status == IMV_OK) status = imv_backup_manifest_get(imv_buffer_view(&text), &files, &count, err);
    if (status == IMV_OK) say(inspection, "backup of %zu files", count);
    for (size_t i = 0; i < count && status == IMV_OK; i++)
        say(inspection, "  %s: %" PRIu64 " bytes, XXH3 %016" PRIx64, files[i].name, files[i].bytes, files[i].hash);
    free(files);
    imv_buffer_release(&text);
    return status;
}

static imv_status inspect_format(struct inspection *inspection, struct imv_error *err) {
    struct imv_buffer text;
    imv_status status = read_text(inspection, inspection->path, IMV_BACKUP_FORMAT_BYTES_MAX, &text, err);
    const char *end = text.size == 0 ? NULL : memchr(text.data, '\n', text.size);
    if (status == IMV_OK)
        say(inspection, "%.*s", (int)(end == NULL ? text.size : (size_t)(end - text.data)), text.data);
    imv_buffer_release(&text);
    return status;
}

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static imv_status inspect_file(struct inspection *inspection, struct imv_error *err) {
    const char *slash = strrchr(inspection->path, '/');
    const char *name = slash == NULL ? inspection->path : slash + 1;
    if (ends_with(name, ".wal"))
        return imv_wal_inspect(inspection->io, inspection->path, inspection->options->report,
                               inspection->options->context, err);
    if (strcmp(name, "FORMAT") == 0) return inspect_format(inspection, err);
    if (strcmp(name, "MANIFEST") == 0) return inspect_manifest(inspection, err);
    return imv_fail(err, IMV_UNSUPPORTED,
                    "inspect: %s is no journal segment, FORMAT or MANIFEST; files of the store are printed with their "
                    "data directory",
                    inspection->path);
}

/* ---- a directory: journals ---- */

static imv_status segment_list(void *context, const char *name, struct imv_error *err) {
    struct inspection *inspection = context;
    char path[PATH_MAX];
    struct imv_error damage;
    if (!ends_with(name, ".wal")) return IMV_OK;
    if (snprintf(path, sizeof path, "%s/wal/%s", inspection->path, name) >= PATH_MAX)
        return imv_fail(err, IMV_INVALID, "inspect: the path %.64s... is too long", inspection->path);
    say(inspection, "wal/%s", name);
    if (imv_wal_inspect(inspection->io, path, inspection->options->report, inspection->options->context, &damage) !=
        IMV_OK)
        say(inspection, "  DAMAGED: %s", damage.message);
    return IMV_OK;
}

static imv_status journals(struct inspection *inspection, struct imv_error *err) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/wal", inspection->path) >= PATH_MAX)
        return imv_fail(err, IMV_INVALID, "inspect: the path %.64s... is too long", inspection->path);
    struct stat entry;
    return stat(path, &entry) != 0 ? IMV_OK : imv_io_list(inspection->io, path, segment_list, inspection, err);
}

/* ---- a directory: records and catalog ---- */

static void records(const struct inspection *inspection) {
    const struct imv_meta *meta = &inspection->meta;
    char first[TIME_BYTES], last[TIME_BYTES];
    say(inspection, "generation %" PRIu32, meta->generation);
    for (uint32_t i = 0; i < inspection->shards; i++) {
        size_t tombstones = meta->deletions[i] == NULL ? 0 : meta->deletions[i]->count;
        say(inspection, "shard %" PRIu32 ": journal groups up to %" PRIu64 " are in chunks, %zu deletions pending", i,
            meta->watermarks[i], tombstones);
    }
    for (int i = 0; i < IMV_CLASSES_MAX; i++) {
        if (meta->classes[i].used)
            say(inspection, "class %d: retention %" PRId64 " s, %" PRIu32 " labels", i,
                meta->classes[i].retention_ns / 1000000000, meta->classes[i].labels_count);
    }
    for (size_t i = 0; i < meta->parts->count; i++) {
        const struct imv_part *part = meta->parts->items[i];
        static const char *const tiers[IMV_TIERS] = {"fresh", "consolidated", "scattered"};
        say(inspection,
            "part: %s, class %u, slot %" PRIu32 ", generation %" PRIu32 ", order %" PRIu32 ", %s to %s, %" PRIu64
            " rows, %" PRIu64 " chunks, %" PRIu64 " bytes",
            tiers[part->tier], part->class, part->slot, part->generation, part->order, time_text(part->time_min, first),
            time_text(part->time_max, last), part->rows, part->chunks, part->bytes);
    }
}

static void label(const struct inspection *inspection, struct imv_label *label) {
    int64_t retention_ns = atomic_load_explicit(&label->retention_ns, memory_order_relaxed);
    uint32_t fields = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    say(inspection, "label %" PRIu32 " \"%.*s\": retention %" PRId64 " s", label->id, (int)label->name.size,
        label->name.data, retention_ns / 1000000000);
    for (uint32_t id = 0; id < fields; id++) {
        const struct imv_field *field = imv_label_field_by_id(label, id);
        if (field != NULL)
            say(inspection, "  field %" PRIu32 " \"%.*s\": %s", id, (int)field->name.size, field->name.data,
                imv_type_name(field->type));
    }
    uint32_t tags = imv_label_tags_count(inspection->catalog, label);
    for (uint32_t code = 0; code < tags; code++) {
        struct imv_str key = imv_label_tag_key(inspection->catalog, label, code);
        say(inspection, "  tag %" PRIu32 " \"%.*s\"", code, (int)key.size, key.data);
    }
}

static void series(const struct inspection *inspection, const struct imv_series *series) {
    struct imv_buffer text;
    imv_buffer_init(&text, LINE_BYTES);
    for (uint32_t i = 0; i < series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(series, i);
        imv_buffer_append_format(&text, "%s%.*s=%.*s", i == 0 ? "" : ",", (int)tag.key.size, tag.key.data,
                                 (int)tag.value.size, tag.value.data);
    }
    struct imv_label *of = series->label;
    say(inspection, "series %" PRIu64 ": %.*s{%.*s}", imv_series_id(series), (int)of->name.size, of->name.data,
        (int)text.size, text.size == 0 ? "" : text.data);
    imv_buffer_release(&text);
}

static void catalog(const struct inspection *inspection) {
    uint32_t labels = imv_catalog_labels_count(inspection->catalog);
    for (uint32_t id = 0; id < labels; id++) {
        struct imv_label *found = imv_catalog_label_by_id(inspection->catalog, id);
        if (found != NULL) label(inspection, found);
    }
    for (uint32_t shard = 0; shard < inspection->shards; shard++) {
        uint32_t count = imv_catalog_series_count(inspection->catalog, shard);
        say(inspection, "shard %" PRIu32 ": series numbers below %" PRIu32, shard, count);
        for (uint32_t i = 0; i < count && inspection->options->series; i++) {
            const struct imv_series *found = imv_catalog_series_by_id(inspection->catalog, (uint64_t)shard << 40 | i);
            if (found != NULL) series(inspection, found);
        }
    }
}

/* ---- a directory: chunks ---- */

static void column(const struct inspection *inspection, const struct imv_chunk *chunk, int index) {
    char text[LINE_BYTES / 2], name[32] = "time";
    size_t used = 0;
    if (index >= 0) snprintf(name, sizeof name, "column %" PRIu32, imv_chunk_column_id(chunk, (uint32_t)index));
    for (uint32_t vector = 0; vector < chunk->vectors; vector++) {
        struct imv_chunk_stored stored;
        imv_chunk_stored(chunk, index, vector, &stored);
        used += (size_t)snprintf(text + used, sizeof text - used, " %s %" PRIu32 "+%" PRIu32 "%s", stored.codec,
                                 stored.bytes, stored.statistics_bytes, stored.nulls ? " with gaps" : "");
    }
    imv_type type = index < 0 ? IMV_INTEGER : imv_chunk_column_type(chunk, (uint32_t)index);
    say(inspection, "  %s, %s:%s", name, imv_type_name(type), text);
}

static void chunk(const struct inspection *inspection, struct imv_str key, struct imv_str value) {
    struct imv_part part;
    struct imv_chunk_id id;
    struct imv_chunk opened;
    struct imv_error err;
    char first[TIME_BYTES], last[TIME_BYTES];
    if (!imv_chunk_key_parse(key, &part, &id)) {
        say(inspection, "chunk: DAMAGED: a key of %zu bytes is none of a chunk", key.size);
        return;
    }
    if (imv_chunk_open(value.data, value.size, &id, &opened, &err) != IMV_OK) {
        say(inspection, "chunk: generation %" PRIu32 ", DAMAGED: %s", part.generation, err.message);
        return;
    }
    say(inspection,
        "chunk: label %" PRIu32 ", series %" PRIu64 ", generation %" PRIu32 ", %s to %s, %" PRIu32 " rows, %zu bytes",
        id.label, id.series, part.generation, time_text(opened.time_min, first), time_text(opened.time_max, last),
        opened.rows, value.size);
    for (int index = -1; index < (int)opened.columns; index++) column(inspection, &opened, index);
}

static imv_status chunks(const struct inspection *inspection, struct imv_error *err) {
    struct imv_kv_iterator *iterator;
    struct imv_str key, value;
    IMV_TRY(imv_kv_iterate(inspection->kv, IMV_KV_CHUNKS, &iterator, err));
    imv_kv_seek(iterator, IMV_STR(""));
    for (; imv_kv_valid(iterator, &key, &value); imv_kv_next(iterator)) chunk(inspection, key, value);
    imv_status status = imv_kv_status(iterator, err);
    imv_kv_iterator_free(iterator);
    return status;
}

/* ---- a directory ---- */

static imv_status store(struct inspection *inspection, struct imv_error *err) {
    char path[PATH_MAX];
    struct imv_error damage;
    if (snprintf(path, sizeof path, "%s/rocksdb", inspection->path) >= PATH_MAX)
        return imv_fail(err, IMV_INVALID, "inspect: the path %.64s... is too long", inspection->path);
    IMV_TRY(imv_kv_open(path, &inspection->kv, err));
    if (imv_meta_load(inspection->kv, &inspection->meta, &damage) == IMV_OK)
        records(inspection);
    else
        say(inspection, "records: DAMAGED: %s", damage.message);
    if (imv_catalog_open(inspection->kv, inspection->shards, &inspection->catalog, &damage) == IMV_OK)
        catalog(inspection);
    else
        say(inspection, "catalog: DAMAGED: %s", damage.message);
    return inspection->options->chunks ? chunks(inspection, err) : IMV_OK;
}

static imv_status inspect_directory(struct inspection *inspection, struct imv_error *err) {
    struct imv_directory directory;
    IMV_TRY(imv_directory_open(inspection->io, inspection->path, 0, &directory, err));
    inspection->shards = directory.shards;
    say(inspection, "data directory %s: %" PRIu32 " shards", inspection->path, inspection->shards);
    imv_status status = journals(inspection, err);
    if (status == IMV_OK) status = store(inspection, err);
    imv_catalog_close(inspection->catalog);
    imv_meta_release(&inspection->meta, inspection->kv);
    imv_kv_close(inspection->kv);
    imv_directory_close(&directory);
    return status;
}

imv_status imv_engine_inspect(const char *path, const struct imv_inspect_options *options, struct imv_error *err) {
    struct inspection inspection = {.options = options, .path = path};
    struct stat entry;
    if (stat(path, &entry) != 0) return imv_fail(err, IMV_NOT_FOUND, "inspect: there is no %s", path);
    IMV_TRY(imv_io_sys_new(&inspection.io, err));
    imv_status status = S_ISDIR(entry.st_mode) ? inspect_directory(&inspection, err) : inspect_file(&inspection, err);
    imv_io_free(inspection.io);
    return status;
}
