#include "engine/catalog_internal.h"

#include "storage/base/assert.h"

#include <inttypes.h>
#include <stdlib.h>

struct imv_label_index *imv_label_index_new(struct imv_catalog *catalog, struct imv_label *label) {
    struct imv_label_index *index = imv_arena_calloc(&catalog->arena, 1, sizeof *index);
    if (index == NULL) return NULL;
    index->label = label;
    imv_code_table_init(&index->fields_by_name, true);
    imv_code_table_init(&index->keys_by_name, true);
    imv_code_table_init(&index->series_by_tags, false);
    imv_code_table_init(&index->shapes_by_fields, false);
    return index;
}

void imv_label_index_free(struct imv_label_index *index) {
    for (uint32_t code = 0; code < index->keys_count; code++) imv_tag_key_release(imv_label_key_at(index->label, code));
    imv_label_series_release(index);
    imv_segments_release(&index->keys);
    imv_segments_release(&index->shapes);
    imv_code_table_release(&index->fields_by_name);
    imv_code_table_release(&index->keys_by_name);
    imv_code_table_release(&index->series_by_tags);
    imv_code_table_release(&index->shapes_by_fields);
}

void imv_label_set_retention(struct imv_catalog *catalog, struct imv_label *label, int64_t retention_ns) {
    (void)catalog;
    imv_assert(retention_ns >= 0);
    atomic_store_explicit(&label->retention_ns, retention_ns, memory_order_release);
}

void imv_label_set_series_max(struct imv_label *label, uint64_t series_max) {
    atomic_store_explicit(&label->index->series_max, series_max, memory_order_relaxed);
}

uint64_t imv_label_series_count(const struct imv_label *label) {
    return atomic_load_explicit(&label->index->series_count, memory_order_relaxed);
}

/* ---- fields ---- */

struct name_probe {
    const struct imv_label *label;
    struct imv_str name;
};

/* The count is read first and stored last, so the array is at least as long as the count says. */
const struct imv_field *imv_label_field_by_id(const struct imv_label *label, uint32_t id) {
    if (id >= atomic_load_explicit(&label->fields_count, memory_order_acquire)) return NULL;
    return atomic_load_explicit(&label->fields, memory_order_acquire)[id];
}

static bool field_has_name(const void *context, uint32_t id) {
    const struct name_probe *probe = context;
    return imv_str_equal(imv_label_field_by_id(probe->label, id)->name, probe->name);
}

const struct imv_field *imv_label_find_field(struct imv_catalog *catalog, struct imv_label *label,
                                             struct imv_str name) {
    struct name_probe probe = {label, name};
    uint32_t hash = imv_catalog_hash(catalog, name.data, name.size);
    uint32_t id = imv_code_table_find(&label->index->fields_by_name, hash, field_has_name, &probe);
    return id == IMV_CODE_NONE ? NULL : imv_label_field_by_id(label, id);
}

/* Makes room for one more field. Outgrown arrays stay in the arena: readers may be in them. */
static bool reserve_field(struct imv_catalog *catalog, struct imv_label *label, uint32_t count) {
    struct imv_label_index *index = label->index;
    if (count < index->fields_capacity) return true;
    uint32_t capacity = count == 0 ? 8 : count * 2;
    struct imv_field **fields = imv_arena_calloc(&catalog->arena, capacity, sizeof(struct imv_field *));
    if (fields == NULL) return false;
    struct imv_field *const *former = atomic_load_explicit(&label->fields, memory_order_relaxed);
    if (count > 0) memcpy(fields, former, count * sizeof fields[0]);
    index->fields_capacity = capacity;
    atomic_store_explicit(&label->fields, fields, memory_order_release);
    return true;
}

/* Fields of one row that are new and not made yet. */
struct fields_more {
    uint32_t count;
    size_t bytes; /* of their names */
};

static imv_status check_room(const struct imv_label *label, struct imv_str name, const struct fields_more *more,
                             struct imv_error *err) {
    const struct imv_label_index *index = label->index;
    uint32_t count = atomic_load_explicit(&label->fields_count, memory_order_relaxed) + more->count;
    if (count < IMV_FIELDS_MAX && index->field_names_bytes + more->bytes + name.size <= IMV_FIELD_NAMES_BYTES_MAX) {
        return IMV_OK;
    }
    return imv_fail(err, IMV_FULL,
                    "field \"%.*s\" is one too many: \"%.*s\" has %" PRIu32 " fields, limit %d (%d bytes of names)",
                    imv_shown(name), name.data, imv_shown(label->name), label->name.data, count, IMV_FIELDS_MAX,
                    IMV_FIELD_NAMES_BYTES_MAX);
}

/* Makes the next field; its name is free. The lock is held for writing. */
static imv_status add_field(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name, imv_type type,
                            const struct imv_field **field, struct imv_error *err) {
    struct imv_label_index *index = label->index;
    uint32_t id = atomic_load_explicit(&label->fields_count, memory_order_relaxed);
    IMV_TRY(check_room(label, name, &(struct fields_more){0}, err));
    struct imv_field *made = imv_arena_alloc(&catalog->arena, sizeof *made);
    struct imv_str text = made == NULL ? (struct imv_str){0} : imv_catalog_text(catalog, name);
    if (text.data == NULL || !reserve_field(catalog, label, id) || !imv_code_table_reserve(&index->fields_by_name)) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for field \"%.*s\"", imv_shown(name), name.data);
    }
    *made = (struct imv_field){.name = text, .id = id, .type = type};
    /* The array is published with const elements; this slot is beyond what any reader looks at until the count says. */
    struct imv_field **slots =
        (struct imv_field **)(uintptr_t)atomic_load_explicit(&label->fields, memory_order_relaxed);
    slots[id] = made;
    atomic_store_explicit(&label->fields_count, id + 1, memory_order_release);
    imv_code_table_insert(&index->fields_by_name, imv_catalog_hash(catalog, name.data, name.size), id);
    index->field_names_bytes += name.size;
    *field = made;
    return IMV_OK;
}

static imv_status check_type(const struct imv_label *label, const struct imv_field *field, imv_type type,
                             struct imv_error *err) {
    if (field->type == type) return IMV_OK;
    return imv_fail(err, IMV_CONFLICT, "field \"%.*s\" of \"%.*s\" is %s, not %s", imv_shown(field->name),
                    field->name.data, imv_shown(label->name), label->name.data, imv_type_name(field->type),
                    imv_type_name(type));
}

static imv_status check_not_tag(const struct imv_catalog *catalog, const struct imv_label *label, struct imv_str name,
                                struct imv_error *err) {
    uint32_t code;
    const struct imv_tag_key *key = imv_label_find_key(catalog, label, name, &code);
    if (key == NULL || key->set.count == 0) return IMV_OK;
    return imv_fail(err, IMV_CONFLICT, "\"%.*s\" of \"%.*s\" is a tag, not a field", imv_shown(name), name.data,
                    imv_shown(label->name), label->name.data);
}

imv_status imv_label_field(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name, imv_type type,
                           const struct imv_field **field, struct imv_error *err) {
    *field = imv_label_find_field(catalog, label, name);
    if (*field != NULL) return check_type(label, *field, type, err);
    const struct imv_field wanted = {.name = name, .type = type};
    return imv_label_make_fields(catalog, label, &wanted, 1, field, err);
}

/* What stands against a field: the lock is held. more is how many others of the row are new, and the bytes of their
 * names. */
static imv_status check_field(struct imv_catalog *catalog, const struct imv_label *label, struct imv_str name,
                              imv_type type, struct fields_more *more, struct imv_error *err) {
    const struct imv_field *known = imv_label_find_field(catalog, (struct imv_label *)label, name);
    if (known != NULL) return check_type(label, known, type, err);
    IMV_TRY(check_not_tag(catalog, label, name, err));
    IMV_TRY(imv_catalog_check_bytes(catalog, err));
    IMV_TRY(check_room(label, name, more, err));
    more->count++;
    more->bytes += name.size;
    return IMV_OK;
}

imv_status imv_label_check_field(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name,
                                 imv_type type, struct imv_error *err) {
    const struct imv_field *known = imv_label_find_field(catalog, label, name);
    if (known != NULL) return check_type(label, known, type, err);
    struct fields_more more = {0};
    IMV_TRY(imv_catalog_check_name("field name", name, err));
    imv_catalog_lock_shared(catalog);
    imv_status status = check_field(catalog, label, name, type, &more, err);
    imv_catalog_unlock(catalog);
    return status;
}

/* The lock is held for writing. */
static imv_status make_fields(struct imv_catalog *catalog, struct imv_label *label, const struct imv_field *wanted,
                              size_t count, const struct imv_field **fields, struct imv_error *err) {
    struct fields_more more = {0};
    for (size_t i = 0; i < count; i++) {
        IMV_TRY(check_field(catalog, label, wanted[i].name, wanted[i].type, &more, err));
    }
    for (size_t i = 0; i < count; i++) {
        fields[i] = imv_label_find_field(catalog, label, wanted[i].name);
        if (fields[i] == NULL) IMV_TRY(add_field(catalog, label, wanted[i].name, wanted[i].type, &fields[i], err));
    }
    return IMV_OK;
}

imv_status imv_label_make_fields(struct imv_catalog *catalog, struct imv_label *label, const struct imv_field *wanted,
                                 size_t count, const struct imv_field **fields, struct imv_error *err) {
    for (size_t i = 0; i < count; i++) {
        imv_assert(wanted[i].type >= IMV_FLOAT && wanted[i].type <= IMV_STRING);
        IMV_TRY(imv_catalog_check_name("field name", wanted[i].name, err));
    }
    imv_catalog_lock(catalog);
    imv_status status = make_fields(catalog, label, wanted, count, fields, err);
    imv_catalog_unlock(catalog);
    return status;
}

/* The label may be new: NULL. The lock is held. */
static imv_status check_row(struct imv_catalog *catalog, const struct imv_label *label, const struct imv_tag *tags,
                            size_t tags_count, const struct imv_field *fields, size_t fields_count,
                            struct imv_error *err) {
    struct fields_more more = {0};
    for (size_t i = 0; i < tags_count && label != NULL; i++) {
        IMV_TRY(imv_label_check_key(catalog, label, tags[i].key, err));
    }
    for (size_t i = 0; i < fields_count; i++) {
        IMV_TRY(imv_catalog_check_name("field name", fields[i].name, err));
        for (size_t k = 0; k < tags_count; k++) {
            if (!imv_str_equal(fields[i].name, tags[k].key)) continue;
            return imv_fail(err, IMV_CONFLICT, "\"%.*s\" is both a tag and a field of one row",
                            imv_shown(fields[i].name), fields[i].name.data);
        }
        if (label != NULL) IMV_TRY(check_field(catalog, label, fields[i].name, fields[i].type, &more, err));
    }
    return IMV_OK;
}

imv_status imv_catalog_check_row(struct imv_catalog *catalog, struct imv_str label, const struct imv_tag *tags,
                                 size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                 struct imv_error *err) {
    imv_catalog_lock_shared(catalog);
    imv_status status =
        check_row(catalog, imv_catalog_find_label(catalog, label), tags, tags_count, fields, fields_count, err);
    imv_catalog_unlock(catalog);
    return status;
}

static imv_status define_field(struct imv_catalog *catalog, struct imv_label *label, uint32_t id, struct imv_str name,
                               imv_type type, struct imv_error *err) {
    const struct imv_field *by_name = imv_label_find_field(catalog, label, name);
    if (by_name != NULL && by_name->id == id && by_name->type == type) return IMV_OK;
    uint32_t count = atomic_load_explicit(&label->fields_count, memory_order_relaxed);
    if (by_name != NULL || id != count) {
        return imv_fail(err, IMV_CORRUPT, "catalog: field %u \"%.*s\" of \"%.*s\" does not fit the %u fields there", id,
                        imv_shown(name), name.data, imv_shown(label->name), label->name.data, count);
    }
    const struct imv_field *made;
    imv_status status = check_not_tag(catalog, label, name, err);
    if (status == IMV_OK) status = add_field(catalog, label, name, type, &made, err);
    if (status == IMV_CONFLICT || status == IMV_FULL) status = imv_error_wrap(err, IMV_CORRUPT, "catalog");
    return status;
}

imv_status imv_catalog_define_field(struct imv_catalog *catalog, struct imv_label *label, uint32_t id,
                                    struct imv_str name, imv_type type, struct imv_error *err) {
    if (type < IMV_FLOAT || type > IMV_STRING) {
        return imv_fail(err, IMV_CORRUPT, "catalog: field %u of \"%.*s\" has type %d", id, imv_shown(label->name),
                        label->name.data, (int)type);
    }
    if (imv_catalog_check_name("field name", name, err) != IMV_OK) return imv_error_wrap(err, IMV_CORRUPT, "catalog");
    imv_catalog_lock(catalog);
    imv_status status = define_field(catalog, label, id, name, type, err);
    imv_catalog_unlock(catalog);
    return status;
}

/* ---- tag keys ---- */

static bool key_has_name(const void *context, uint32_t code) {
    const struct name_probe *probe = context;
    return imv_str_equal(imv_label_key_at(probe->label, code)->name, probe->name);
}

struct imv_tag_key *imv_label_find_key(const struct imv_catalog *catalog, const struct imv_label *label,
                                       struct imv_str name, uint32_t *code) {
    struct name_probe probe = {label, name};
    uint32_t hash = imv_catalog_hash(catalog, name.data, name.size);
    *code = imv_code_table_find(&label->index->keys_by_name, hash, key_has_name, &probe);
    return *code == IMV_CODE_NONE ? NULL : imv_label_key_at(label, *code);
}

imv_status imv_label_check_key(struct imv_catalog *catalog, const struct imv_label *label, struct imv_str name,
                               struct imv_error *err) {
    if (imv_label_find_field(catalog, (struct imv_label *)label, name) == NULL) return IMV_OK;
    return imv_fail(err, IMV_CONFLICT, "\"%.*s\" of \"%.*s\" is a field, not a tag", imv_shown(name), name.data,
                    imv_shown(label->name), label->name.data);
}

imv_status imv_label_add_key(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name, uint32_t *code,
                             struct imv_error *err) {
    struct imv_label_index *index = label->index;
    *code = atomic_load_explicit(&index->keys_count, memory_order_relaxed);
    struct imv_tag_key *key = imv_arena_calloc(&catalog->arena, 1, sizeof *key);
    struct imv_str text = key == NULL ? (struct imv_str){0} : imv_catalog_text(catalog, name);
    if (text.data == NULL || !imv_segments_reserve(&index->keys, sizeof(struct imv_tag_key *), *code) ||
        !imv_code_table_reserve(&index->keys_by_name)) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for tag \"%.*s\"", imv_shown(name), name.data);
    }
    key->name = text;
    key->values_free = IMV_CODE_NONE;
    imv_code_table_init(&key->values_by_text, false);
    struct imv_tag_key **slot = imv_segments_at(&index->keys, sizeof *slot, *code);
    *slot = key;
    atomic_store_explicit(&index->keys_count, *code + 1, memory_order_release);
    imv_code_table_insert(&index->keys_by_name, imv_catalog_hash(catalog, name.data, name.size), *code);
    return IMV_OK;
}

uint32_t imv_label_tags_count(struct imv_catalog *catalog, struct imv_label *label) {
    (void)catalog;
    return atomic_load_explicit(&label->index->keys_count, memory_order_acquire);
}

struct imv_str imv_label_tag_key(struct imv_catalog *catalog, struct imv_label *label, uint32_t code) {
    imv_assert(code < imv_label_tags_count(catalog, label));
    return imv_label_key_at(label, code)->name;
}

/* ---- shapes ---- */

struct shape_probe {
    const struct imv_label_index *index;
    const struct imv_field *const *fields;
    uint32_t count;
};

static const struct imv_shape *shape_at(const struct imv_label_index *index, uint32_t i) {
    struct imv_shape **slot = imv_segments_at(&index->shapes, sizeof *slot, i);
    return *slot;
}

static bool shape_has_fields(const void *context, uint32_t i) {
    const struct shape_probe *probe = context;
    const struct imv_shape *shape = shape_at(probe->index, i);
    return shape->count == probe->count &&
           memcmp(shape->fields, probe->fields, probe->count * sizeof probe->fields[0]) == 0;
}

/* The lock is held for writing. */
static imv_status add_shape(struct imv_catalog *catalog, struct imv_label *label, const struct imv_field *const *fields,
                            uint32_t count, uint32_t hash, const struct imv_shape **shape, struct imv_error *err) {
    struct imv_label_index *index = label->index;
    size_t fields_bytes = count * sizeof fields[0], bytes = sizeof **shape + fields_bytes;
    /* A replay meets only shapes that were made when its rows were written, in any order; so it is never refused.
     * Shapes of one field, which are made beyond the limit and are as many as fields at most, do not count. */
    if (count > 1 && catalog->shapes_bytes + bytes > IMV_SHAPES_BYTES_MAX) {
        return imv_fail(err, IMV_FULL, "catalog: %" PRIu32 " different sets of fields, no more are kept",
                        catalog->shapes_count);
    }
    struct imv_shape *made = imv_arena_alloc(&catalog->arena, bytes);
    if (made == NULL || !imv_segments_reserve(&index->shapes, sizeof(struct imv_shape *), index->shapes_count) ||
        !imv_code_table_reserve(&index->shapes_by_fields)) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for a set of %" PRIu32 " fields", count);
    }
    *made = (struct imv_shape){.label = label, .id = catalog->shapes_count++, .count = count};
    memcpy(made->fields, fields, fields_bytes);
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i]->type == IMV_STRING) made->strings_count++;
        if (fields[i]->id >= made->fields_end) made->fields_end = fields[i]->id + 1;
    }
    struct imv_shape **slot = imv_segments_at(&index->shapes, sizeof *slot, index->shapes_count);
    *slot = made;
    imv_code_table_insert(&index->shapes_by_fields, hash, index->shapes_count++);
    if (count > 1) catalog->shapes_bytes += bytes;
    *shape = made;
    return IMV_OK;
}

imv_status imv_label_shape(struct imv_catalog *catalog, struct imv_label *label, const struct imv_field *const *fields,
                           uint32_t count, const struct imv_shape **shape, struct imv_error *err) {
    imv_assert(count >= 1 && count <= IMV_FIELDS_MAX);
    struct shape_probe probe = {label->index, fields, count};
    /* Fields are unique per label, so their addresses say which they are. */
    uint32_t hash = imv_catalog_hash(catalog, fields, count * sizeof fields[0]);
    imv_catalog_lock_shared(catalog);
    uint32_t found = imv_code_table_find(&label->index->shapes_by_fields, hash, shape_has_fields, &probe);
    if (found != IMV_CODE_NONE) *shape = shape_at(label->index, found);
    imv_catalog_unlock(catalog);
    if (found != IMV_CODE_NONE) return IMV_OK;

    imv_status status = IMV_OK;
    imv_catalog_lock(catalog);
    found = imv_code_table_find(&label->index->shapes_by_fields, hash, shape_has_fields, &probe);
    if (found != IMV_CODE_NONE) {
        *shape = shape_at(label->index, found);
    } else {
        status = add_shape(catalog, label, fields, count, hash, shape, err);
    }
    imv_catalog_unlock(catalog);
    return status;
}
