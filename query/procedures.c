#include "query/procedures.h"

#include "engine/catalog.h"
#include "query/exec.h"
#include "storage/base/hash.h"

#include <string.h>
#include <strings.h>

/* The rows under construction. */
struct rows {
    struct imv_call *call;
    struct imv_value *items;
    size_t count, capacity;
    imv_status status;
};

/* Adds a row; values are copied, but not the text that they point to. */
static bool add_row(struct rows *rows, const struct imv_value *values, size_t count) {
    if (rows->status == IMV_OK) rows->status = imv_exec_step(rows->call->exec);
    if (rows->status != IMV_OK) return false;
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? 16 : rows->capacity * 2;
        struct imv_value *items = imv_arena_alloc(rows->call->arena, capacity * sizeof *items);
        if (items != NULL && rows->count > 0) memcpy(items, rows->items, rows->count * sizeof *items);
        if (items == NULL) return rows->status = imv_exec_fail_memory(rows->call->exec), false;
        rows->items = items;
        rows->capacity = capacity;
    }
    struct imv_value *copy = imv_arena_alloc(rows->call->arena, count * sizeof *copy);
    if (copy == NULL) return rows->status = imv_exec_fail_memory(rows->call->exec), false;
    memcpy(copy, values, count * sizeof *copy);
    rows->status = imv_call_list(rows->call, copy, count, &rows->items[rows->count]);
    rows->count += rows->status == IMV_OK;
    return rows->status == IMV_OK;
}

static imv_status finish(struct rows *rows, struct imv_value *result) {
    if (rows->status != IMV_OK) return rows->status;
    return imv_call_list(rows->call, rows->items, rows->count, result);
}

/* Labels that have series; a label alone is a name that was written once. */
static struct imv_label *label_at(struct imv_catalog *catalog, uint32_t id) {
    struct imv_label *label = imv_catalog_label_by_id(catalog, id);
    return label != NULL && imv_label_series_count(label) > 0 ? label : NULL;
}

static imv_status label_of(struct imv_call *call, const struct imv_value *name, struct imv_label **label) {
    if (name->kind != IMV_VALUE_STRING) return imv_call_fail_argument(call, "the name of a label", name);
    *label = imv_catalog_find_label(call->exec->catalog, imv_value_str(name));
    return IMV_OK;
}

static imv_status db_labels(struct imv_call *call, const struct imv_value *arguments, size_t count,
                            struct imv_value *result) {
    (void)arguments, (void)count;
    struct imv_catalog *catalog = call->exec->catalog;
    struct rows rows = {.call = call};
    for (uint32_t id = 0; id < imv_catalog_labels_count(catalog) && rows.status == IMV_OK; id++) {
        const struct imv_label *label = label_at(catalog, id);
        if (label == NULL) continue;
        struct imv_value name = imv_value_string(label->name);
        add_row(&rows, &name, 1);
    }
    return finish(&rows, result);
}

static imv_status imvdb_labels(struct imv_call *call, const struct imv_value *arguments, size_t count,
                               struct imv_value *result) {
    (void)arguments, (void)count;
    struct imv_catalog *catalog = call->exec->catalog;
    struct rows rows = {.call = call};
    for (uint32_t id = 0; id < imv_catalog_labels_count(catalog) && rows.status == IMV_OK; id++) {
        const struct imv_label *label = label_at(catalog, id);
        if (label == NULL) continue;
        int64_t retention_ns = atomic_load_explicit(&label->retention_ns, memory_order_relaxed);
        const struct imv_value values[] = {imv_value_string(label->name),
                                           imv_value_integer((int64_t)imv_label_series_count(label)),
                                           retention_ns == 0 ? imv_value_null() : imv_value_duration(retention_ns)};
        add_row(&rows, values, 3);
    }
    return finish(&rows, result);
}

/* Tags that some series has. */
static bool has_tag(struct imv_catalog *catalog, struct imv_label *label, uint32_t code, uint32_t *values_count,
                    uint32_t *series_count) {
    imv_label_tag_counts(catalog, label, code, values_count, series_count);
    return *series_count > 0;
}

/* Names that were met: labels may be tens of thousands, so each name is looked up, not searched for. */
struct names {
    struct imv_str *slots; /* open addressing, at most half full; data NULL: empty */
    size_t capacity, count;
    uint64_t seed;
};

static struct imv_str *name_slot(const struct names *names, struct imv_str name) {
    for (size_t i = imv_hash64(name.data, name.size, names->seed);; i++) {
        struct imv_str *slot = &names->slots[i & (names->capacity - 1)];
        if (slot->data == NULL || imv_str_equal(*slot, name)) return slot;
    }
}

static imv_status grow_names(struct imv_call *call, struct names *names) {
    struct names grown = {
        .capacity = names->capacity == 0 ? 64 : names->capacity * 2, .count = names->count, .seed = names->seed};
    grown.slots = imv_arena_calloc(call->arena, grown.capacity, sizeof *grown.slots);
    if (grown.slots == NULL) return imv_exec_fail_memory(call->exec);
    for (size_t i = 0; i < names->capacity; i++) {
        if (names->slots[i].data != NULL) *name_slot(&grown, names->slots[i]) = names->slots[i];
    }
    *names = grown;
    return IMV_OK;
}

/* Adds a row for a name that was not met before. */
static bool add_name(struct rows *rows, struct names *names, struct imv_str name) {
    rows->status = imv_exec_step(rows->call->exec);
    if (rows->status == IMV_OK && names->count * 2 >= names->capacity) rows->status = grow_names(rows->call, names);
    if (rows->status != IMV_OK) return false;
    struct imv_str *slot = name_slot(names, name);
    if (slot->data != NULL) return true;
    *slot = name;
    names->count++;
    struct imv_value key = imv_value_string(name);
    return add_row(rows, &key, 1);
}

static void add_keys_of(struct rows *rows, struct names *names, struct imv_label *label) {
    struct imv_catalog *catalog = rows->call->exec->catalog;
    uint32_t values, series, tags = imv_label_tags_count(catalog, label);
    for (uint32_t code = 0; code < tags; code++) {
        if (!has_tag(catalog, label, code, &values, &series)) continue;
        if (!add_name(rows, names, imv_label_tag_key(catalog, label, code))) return;
    }
    uint32_t fields = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    for (uint32_t id = 0; id < fields; id++) {
        if (!add_name(rows, names, imv_label_field_by_id(label, id)->name)) return;
    }
}

static imv_status db_property_keys(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                   struct imv_value *result) {
    (void)arguments, (void)count;
    struct imv_catalog *catalog = call->exec->catalog;
    struct rows rows = {.call = call};
    struct names names = {.seed = call->exec->hash_seed};
    for (uint32_t id = 0; id < imv_catalog_labels_count(catalog) && rows.status == IMV_OK; id++) {
        struct imv_label *label = label_at(catalog, id);
        if (label != NULL) add_keys_of(&rows, &names, label);
    }
    return finish(&rows, result);
}

static imv_status imvdb_tags(struct imv_call *call, const struct imv_value *arguments, size_t count,
                             struct imv_value *result) {
    (void)count;
    struct imv_catalog *catalog = call->exec->catalog;
    struct rows rows = {.call = call};
    struct imv_label *label;
    IMV_TRY(label_of(call, &arguments[0], &label));
    for (uint32_t code = 0; label != NULL && code < imv_label_tags_count(catalog, label); code++) {
        uint32_t values_count, series_count;
        if (!has_tag(catalog, label, code, &values_count, &series_count)) continue;
        const struct imv_value values[] = {imv_value_string(imv_label_tag_key(catalog, label, code)),
                                           imv_value_integer(values_count), imv_value_integer(series_count)};
        if (!add_row(&rows, values, 3)) break;
    }
    return finish(&rows, result);
}

static imv_status visit_value(void *context, struct imv_str value, uint32_t series_count, struct imv_error *err) {
    (void)err;
    struct rows *rows = context;
    const struct imv_value values[] = {imv_value_string(value), imv_value_integer(series_count)};
    return add_row(rows, values, 2) ? IMV_OK : rows->status;
}

static imv_status imvdb_tag_values(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                   struct imv_value *result) {
    (void)count;
    struct rows rows = {.call = call};
    struct imv_label *label;
    IMV_TRY(label_of(call, &arguments[0], &label));
    if (arguments[1].kind != IMV_VALUE_STRING) return imv_call_fail_argument(call, "the name of a tag", &arguments[1]);
    if (label != NULL) {
        imv_label_tag_values(call->exec->catalog, label, imv_value_str(&arguments[1]), visit_value, &rows, NULL);
    }
    return finish(&rows, result);
}

static imv_status imvdb_fields(struct imv_call *call, const struct imv_value *arguments, size_t count,
                               struct imv_value *result) {
    (void)count;
    struct rows rows = {.call = call};
    struct imv_label *label;
    IMV_TRY(label_of(call, &arguments[0], &label));
    uint32_t fields = label == NULL ? 0 : atomic_load_explicit(&label->fields_count, memory_order_acquire);
    for (uint32_t id = 0; id < fields; id++) {
        const struct imv_field *field = imv_label_field_by_id(label, id);
        const struct imv_value values[] = {imv_value_string(field->name),
                                           imv_value_string(imv_str_from(imv_type_name(field->type)))};
        if (!add_row(&rows, values, 2)) break;
    }
    return finish(&rows, result);
}

static imv_status dbms_components(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                  struct imv_value *result) {
    (void)arguments, (void)count;
    struct rows rows = {.call = call};
    struct imv_value version = imv_value_string(IMV_STR(IMV_VERSION)), versions;
    struct imv_value *kept = imv_arena_alloc(call->arena, sizeof *kept);
    if (kept == NULL) return imv_exec_fail_memory(call->exec);
    *kept = version;
    IMV_TRY(imv_call_list(call, kept, 1, &versions));
    const struct imv_value values[] = {imv_value_string(IMV_STR("imvdb")), versions,
                                       imv_value_string(IMV_STR("community"))};
    add_row(&rows, values, 3);
    return finish(&rows, result);
}

static imv_status dbms_procedures(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                  struct imv_value *result) {
    (void)arguments, (void)count;
    struct rows rows = {.call = call};
    for (size_t i = 0; imv_procedure_at(i) != NULL; i++) {
        const struct imv_procedure *procedure = imv_procedure_at(i);
        const struct imv_value values[] = {imv_value_string(procedure->function.name),
                                           imv_value_string(imv_str_from(procedure->description))};
        if (!add_row(&rows, values, 2)) break;
    }
    return finish(&rows, result);
}

#define PROCEDURE(text, arguments, c_name, about, ...)                                                              \
    {                                                                                                               \
        .function = {.name = {text, sizeof text - 1},                                                               \
                     .arguments_min = arguments,                                                                    \
                     .arguments_max = arguments,                                                                    \
                     .volatile_ = true,                                                                             \
                     .result = IMV_STATIC_LIST,                                                                     \
                     .scalar = c_name},                                                                             \
        .description = about, .columns = {__VA_ARGS__},                                                             \
        .columns_count = sizeof((struct imv_procedure_column[]){__VA_ARGS__}) / sizeof(struct imv_procedure_column) \
    }
#define COLUMN(text, static_type) \
    { {text, sizeof text - 1}, IMV_STATIC_##static_type }

static const struct imv_procedure procedures[] = {
    PROCEDURE("db.labels", 0, db_labels, "Labels that twins have", COLUMN("label", STRING)),
    PROCEDURE("db.propertyKeys", 0, db_property_keys, "Names of tags and fields, each once",
              COLUMN("propertyKey", STRING)),
    PROCEDURE("dbms.components", 0, dbms_components, "Name, versions and edition of this server",
              COLUMN("name", STRING), COLUMN("versions", LIST), COLUMN("edition", STRING)),
    PROCEDURE("dbms.procedures", 0, dbms_procedures, "What CALL can call", COLUMN("name", STRING),
              COLUMN("description", STRING)),
    PROCEDURE("imvdb.labels", 0, imvdb_labels, "Labels with their series and their retention", COLUMN("label", STRING),
              COLUMN("series", INTEGER), COLUMN("retention", DURATION)),
    PROCEDURE("imvdb.tags", 1, imvdb_tags, "Tags of a label: how many values, how many series have it",
              COLUMN("tag", STRING), COLUMN("values", INTEGER), COLUMN("series", INTEGER)),
    PROCEDURE("imvdb.tagValues", 2, imvdb_tag_values, "Values of a tag of a label: how many series have each",
              COLUMN("value", STRING), COLUMN("series", INTEGER)),
    PROCEDURE("imvdb.fields", 1, imvdb_fields, "Fields of a label and their types", COLUMN("field", STRING),
              COLUMN("type", STRING)),
};
enum { PROCEDURES_COUNT = sizeof procedures / sizeof *procedures };

const struct imv_procedure *imv_procedure_find(struct imv_str name) {
    for (size_t i = 0; i < PROCEDURES_COUNT; i++) {
        struct imv_str own = procedures[i].function.name;
        if (own.size == name.size && strncasecmp(own.data, name.data, own.size) == 0) return &procedures[i];
    }
    return NULL;
}

const struct imv_procedure *imv_procedure_at(size_t i) { return i < PROCEDURES_COUNT ? &procedures[i] : NULL; }

const struct imv_procedure_column *imv_procedure_column(const struct imv_procedure *procedure, struct imv_str name) {
    for (size_t i = 0; i < procedure->columns_count; i++) {
        if (imv_str_equal(procedure->columns[i].name, name)) return &procedure->columns[i];
    }
    return NULL;
}
