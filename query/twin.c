#include "query/twin.h"

#include "engine/cursor.h"

#include <stdlib.h>

/* Reads a list of properties of twins of one label. */
struct imv_twin_reader {
    struct imv_twin_reader *next;
    struct imv_label *label;
    const struct imv_str *names; /* the list's identity is its address */
    uint32_t names_count;
    bool whole;      /* all fields of the label */
    int32_t *fields; /* per name: index into the cursor's columns, or -1: a tag or nothing */
    const struct imv_field **columns;
    uint32_t columns_count;
    struct imv_cursor *cursor; /* NULL when none of the names is a field; a list without names is for times */
    int64_t *timestamps;       /* scratch for one read */
    uint64_t *cells;
    bool *found;
};

struct imv_twin_readers {
    struct imv_twin_reader *first;
};

/* ---- readers ---- */

static void *reader_array(struct imv_exec *exec, uint32_t count, size_t size) {
    return imv_arena_calloc(&exec->arena, count + 1, size);
}

static imv_status open_cursor(struct imv_exec *exec, struct imv_twin_reader *reader) {
    struct imv_error err = {0};
    uint32_t *ids = reader_array(exec, reader->columns_count, sizeof *ids);
    if (ids == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < reader->columns_count; i++) ids[i] = reader->columns[i]->id;
    if (imv_cursor_new(exec->snapshot, reader->label, ids, reader->columns_count, &exec->budget, &reader->cursor,
                       &err) != IMV_OK)
        return imv_exec_fail_engine(exec, &err);
    return IMV_OK;
}

static imv_status reader_new(struct imv_exec *exec, struct imv_label *label, const struct imv_str *names,
                             uint32_t names_count, struct imv_twin_reader **out) {
    struct imv_twin_reader *reader = imv_arena_calloc(&exec->arena, 1, sizeof *reader);
    if (reader == NULL) return imv_exec_fail_memory(exec);
    *reader = (struct imv_twin_reader){.label = label, .names = names, .names_count = names_count};
    reader->fields = reader_array(exec, names_count, sizeof *reader->fields);
    reader->columns = reader_array(exec, names_count, sizeof *reader->columns);
    reader->timestamps = reader_array(exec, names_count, sizeof *reader->timestamps);
    reader->cells = reader_array(exec, names_count, sizeof *reader->cells);
    reader->found = reader_array(exec, names_count, sizeof *reader->found);
    if (reader->fields == NULL || reader->columns == NULL || reader->timestamps == NULL || reader->cells == NULL ||
        reader->found == NULL)
        return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < names_count; i++) {
        const struct imv_field *field = imv_label_find_field(exec->catalog, label, names[i]);
        reader->fields[i] = field == NULL ? -1 : (int32_t)reader->columns_count;
        if (field != NULL) reader->columns[reader->columns_count++] = field;
    }
    if (reader->columns_count > 0 || names_count == 0) {
        imv_status status = open_cursor(exec, reader);
        if (status != IMV_OK) return status;
    }
    struct imv_twin_readers *readers = exec->twin_readers;
    reader->next = readers->first;
    readers->first = reader;
    *out = reader;
    return IMV_OK;
}

static imv_status find_reader(struct imv_exec *exec, struct imv_label *label, const struct imv_str *names,
                              uint32_t names_count, struct imv_twin_reader **out) {
    if (exec->twin_readers == NULL) {
        exec->twin_readers = imv_arena_calloc(&exec->arena, 1, sizeof *exec->twin_readers);
        if (exec->twin_readers == NULL) return imv_exec_fail_memory(exec);
    }
    for (struct imv_twin_reader *reader = exec->twin_readers->first; reader != NULL; reader = reader->next) {
        if (reader->label != label || reader->names_count != names_count) continue;
        if (reader->names != names) continue;
        *out = reader;
        return IMV_OK;
    }
    return reader_new(exec, label, names, names_count, out);
}

void imv_twin_readers_free(struct imv_exec *exec) {
    if (exec->twin_readers == NULL) return;
    for (struct imv_twin_reader *reader = exec->twin_readers->first; reader != NULL; reader = reader->next)
        imv_cursor_free(reader->cursor);
    exec->twin_readers = NULL;
}

static imv_status read_newest(struct imv_exec *exec, struct imv_twin_reader *reader, struct imv_series *twin) {
    struct imv_error err = {0};
    if (reader->columns_count == 0) return IMV_OK;
    if (imv_cursor_newest(reader->cursor, twin, reader->timestamps, reader->cells, reader->found, &err) != IMV_OK)
        return imv_exec_fail_engine(exec, &err);
    return IMV_OK;
}

/* The value of one property after read_newest. */
static bool property_of(const struct imv_twin_reader *reader, const struct imv_series *twin, uint32_t name,
                        struct imv_arena *arena, struct imv_value *value) {
    *value = imv_value_null();
    int32_t field = reader->fields[name];
    if (field < 0) {
        struct imv_str text;
        if (imv_series_tag(twin, reader->names[name], &text)) *value = imv_value_string(text);
        return true;
    }
    if (!reader->found[field]) return true;
    *value = imv_value_of_cell(reader->columns[field]->type, reader->cells[field]);
    return value->kind != IMV_VALUE_STRING || imv_value_copy(arena, value, value);
}

/* ---- groups ---- */

static imv_status fill_row(struct imv_exec *exec, struct imv_twin_group *group, struct imv_series *twin,
                           struct imv_arena *arena, struct imv_value **columns, size_t row) {
    struct imv_twin_reader *reader = group->reader;
    if (reader == NULL || reader->label != twin->label) {
        imv_status status = find_reader(exec, twin->label, group->names, group->names_count, &reader);
        if (status != IMV_OK) return status;
        group->reader = reader;
    }
    imv_status status = read_newest(exec, reader, twin);
    for (uint32_t i = 0; i < group->names_count && status == IMV_OK; i++)
        if (!property_of(reader, twin, i, arena, &columns[i][row])) status = imv_exec_fail_memory(exec);
    return status;
}

static imv_status fill_rows(struct imv_exec *exec, struct imv_twin_group *group, const struct imv_column *nodes,
                            size_t rows, struct imv_arena *arena, struct imv_value **columns) {
    struct imv_series *before = NULL;
    for (size_t row = 0; row < rows; row++) {
        struct imv_value node = imv_column_value(nodes, row);
        if (node.kind != IMV_VALUE_TWIN) {
            for (uint32_t i = 0; i < group->names_count; i++) columns[i][row] = imv_value_null();
            before = NULL;
            continue;
        }
        if (node.twin == before) {
            for (uint32_t i = 0; i < group->names_count; i++) columns[i][row] = columns[i][row - 1];
            continue;
        }
        if (row % 64 == 63) {
            imv_status status = imv_exec_poll(exec);
            if (status != IMV_OK) return status;
        }
        imv_status status = fill_row(exec, group, node.twin, arena, columns, row);
        if (status != IMV_OK) return status;
        before = node.twin;
    }
    return IMV_OK;
}

imv_status imv_twin_group_fill(struct imv_exec *exec, struct imv_twin_group *group, struct imv_row_batch *batch) {
    const struct imv_column *nodes = &batch->slots[group->node_slot];
    bool constant = nodes->constant || nodes->kind == IMV_COLUMN_ABSENT;
    size_t rows = constant ? 1 : batch->rows;
    struct imv_value **columns = imv_arena_alloc(batch->arena, group->names_count * sizeof *columns);
    if (columns == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < group->names_count; i++) {
        columns[i] = imv_arena_alloc(batch->arena, rows * sizeof **columns + 1);
        if (columns[i] == NULL) return imv_exec_fail_memory(exec);
    }
    imv_status status = fill_rows(exec, group, nodes, rows, batch->arena, columns);
    if (status != IMV_OK) return status;
    for (uint32_t i = 0; i < group->names_count; i++)
        batch->slots[group->slots[i]] = constant ? imv_column_constant(columns[i]) : imv_column_values(columns[i]);
    return IMV_OK;
}

/* ---- one twin ---- */

imv_status imv_twin_property(struct imv_exec *exec, struct imv_arena *arena, struct imv_series *twin,
                             struct imv_str name, struct imv_value *value) {
    struct imv_twin_reader *reader = NULL;
    const struct imv_field *field = imv_label_find_field(exec->catalog, twin->label, name);
    if (field == NULL) {
        struct imv_str text;
        *value = imv_series_tag(twin, name, &text) ? imv_value_string(text) : imv_value_null();
        return IMV_OK;
    }
    /* The field's own name is the list of one name: it has one address per field. */
    imv_status status = find_reader(exec, twin->label, &field->name, 1, &reader);
    if (status == IMV_OK) status = read_newest(exec, reader, twin);
    if (status == IMV_OK && !property_of(reader, twin, 0, arena, value)) status = imv_exec_fail_memory(exec);
    return status;
}

/* The reader of all fields of a label. */
static imv_status whole_reader(struct imv_exec *exec, struct imv_label *label, struct imv_twin_reader **out) {
    if (exec->twin_readers != NULL)
        for (struct imv_twin_reader *reader = exec->twin_readers->first; reader != NULL; reader = reader->next)
            if (reader->label == label && reader->whole) {
                *out = reader;
                return IMV_OK;
            }
    uint32_t count = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    struct imv_str *names = reader_array(exec, count, sizeof *names);
    if (names == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) names[i] = imv_label_field_by_id(label, i)->name;
    imv_status status = find_reader(exec, label, names, count, out);
    if (status == IMV_OK) (*out)->whole = true;
    return status;
}

imv_status imv_twin_properties(struct imv_exec *exec, struct imv_arena *arena, struct imv_series *twin,
                               struct imv_value *map) {
    struct imv_twin_reader *reader = NULL;
    imv_status status = whole_reader(exec, twin->label, &reader);
    if (status == IMV_OK) status = read_newest(exec, reader, twin);
    if (status != IMV_OK) return status;
    struct imv_map_entry *entries = imv_arena_calloc(arena, twin->tags_count + reader->names_count, sizeof *entries);
    if (entries == NULL) return imv_exec_fail_memory(exec);
    size_t count = 0;
    for (uint32_t i = 0; i < twin->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(twin, i);
        entries[count++] = (struct imv_map_entry){tag.key, imv_value_string(tag.value)};
    }
    for (uint32_t i = 0; i < reader->names_count; i++) {
        struct imv_value value;
        if (!property_of(reader, twin, i, arena, &value)) return imv_exec_fail_memory(exec);
        if (value.kind != IMV_VALUE_NULL) entries[count++] = (struct imv_map_entry){reader->names[i], value};
    }
    imv_value_map(entries, count, map);
    return IMV_OK;
}

imv_status imv_twin_last_time(struct imv_exec *exec, struct imv_series *twin, struct imv_value *time) {
    static const struct imv_str no_names[1];
    struct imv_twin_reader *reader = NULL;
    struct imv_error err = {0};
    imv_status status = find_reader(exec, twin->label, no_names, 0, &reader);
    if (status != IMV_OK) return status;
    int64_t timestamp;
    bool found;
    if (imv_cursor_last_time(reader->cursor, twin, &timestamp, &found, &err) != IMV_OK)
        return imv_exec_fail_engine(exec, &err);
    *time = found ? imv_value_time(timestamp) : imv_value_null();
    return IMV_OK;
}

bool imv_label_name_matches(struct imv_str label, const struct imv_label_expr *labels) {
    switch (labels->kind) {
        case IMV_LABEL_NAME: return imv_str_equal(label, labels->name);
        case IMV_LABEL_ANY: return true;
        case IMV_LABEL_AND:
            return imv_label_name_matches(label, labels->left) && imv_label_name_matches(label, labels->right);
        case IMV_LABEL_OR:
            return imv_label_name_matches(label, labels->left) || imv_label_name_matches(label, labels->right);
        case IMV_LABEL_NOT: return !imv_label_name_matches(label, labels->left);
    }
    return false;
}

bool imv_twin_has_labels(const struct imv_series *twin, const struct imv_label_expr *labels) {
    return imv_label_name_matches(twin->label->name, labels);
}
