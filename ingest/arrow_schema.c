#include "ingest/arrow_internal.h"
#include "storage/base/assert.h"

static int shown(struct imv_str name) { return name.size > 64 ? 64 : (int)name.size; }

/* ---- one column ---- */

static imv_status refuse_type(const struct arrow_column *column, const char *as, struct imv_error *err) {
    return imv_fail(err, IMV_UNSUPPORTED, "arrow: column \"%.*s\" is %s%s, which cannot be %s", shown(column->name),
                    column->name.data, column->dictionary != NULL ? "a dictionary of " : "", column->type.name, as);
}

static imv_status read_role(struct arrow_column *column, const struct imv_arrow_field *field, struct imv_error *err) {
    static const char *const names[] = {"label", "tag", "field", "time"};
    struct imv_str role = imv_arrow_field_metadata(field, IMV_STR("imvdb.role"));
    if (role.data == NULL) return IMV_OK;
    for (int i = 0; i < 4; i++) {
        if (!imv_str_equal(role, imv_str_from(names[i]))) continue;
        column->role = (enum arrow_role)(ARROW_ROLE_LABEL + i);
        return IMV_OK;
    }
    return imv_fail(err, IMV_INVALID,
                    "arrow: column \"%.*s\" has the role \"%.*s\": label, tag, field or time is expected",
                    shown(column->name), column->name.data, shown(role), role.data);
}

/* The dictionary of an id, made when the first column refers to it. */
static struct arrow_dictionary *dictionary_of(struct imv_arrow_feed *feed, const struct imv_arrow_field *field) {
    enum { ARENA_BLOCK_BYTES = 4 * 1024 };
    for (uint32_t i = 0; i < feed->dictionaries_count; i++) {
        if (feed->dictionaries[i].id == field->dictionary_id) return &feed->dictionaries[i];
    }
    struct arrow_dictionary *made = &feed->dictionaries[feed->dictionaries_count++];
    *made = (struct arrow_dictionary){.id = field->dictionary_id, .offset_bits = field->type.bits};
    imv_arena_init(&made->arena, ARENA_BLOCK_BYTES, &feed->budget);
    return made;
}

static imv_status read_column(struct imv_arrow_feed *feed, const struct imv_arrow_message *message, uint32_t i,
                              struct imv_error *err) {
    struct imv_arrow_field field;
    struct arrow_column *column = &feed->columns[i];
    IMV_TRY(imv_arrow_schema_field(message, i, &field, err));
    column->name = imv_arena_copy(&feed->arena, field.name);
    if (column->name.data == NULL) return imv_arrow_no_memory(err);
    column->type = field.type;
    column->scale = 1;
    column->index_bits = field.index_bits;
    column->index_signed = field.index_signed;
    if (field.dictionary) column->dictionary = dictionary_of(feed, &field);
    bool text_expected = field.dictionary && field.type.kind != IMV_ARROW_TEXT;
    if (field.type.kind == IMV_ARROW_OTHER || text_expected ||
        (field.type.kind == IMV_ARROW_FLOAT && field.type.bits == 16))
        return refuse_type(column, "taken", err);
    if (field.dictionary && column->dictionary->offset_bits != field.type.bits)
        return imv_fail(err, IMV_INVALID, "arrow: dictionary %lld has two types", (long long)field.dictionary_id);
    IMV_TRY(read_role(column, &field, err));
    if (field.type.kind == IMV_ARROW_NULL) column->role = ARROW_ROLE_NONE;
    return message->reader->bad ? imv_fail(err, IMV_INVALID, "arrow: the metadata of a schema is damaged") : IMV_OK;
}

/* ---- roles ---- */

static bool is_time_name(struct imv_str name) {
    return imv_str_equal(name, IMV_STR("time")) || imv_str_equal(name, IMV_STR("timestamp"));
}

/* The time among columns of a kind without a role: the only one, or the one with the name of a time. More than one that
 * could be it: *count is how many. */
static struct arrow_column *guess_time(const struct imv_arrow_feed *feed, enum imv_arrow_kind kind, bool by_name,
                                       uint32_t *count) {
    struct arrow_column *only = NULL;
    *count = 0;
    for (uint32_t i = 0; i < feed->columns_count; i++) {
        struct arrow_column *column = &feed->columns[i];
        if (column->role != ARROW_ROLE_NONE || column->type.kind != kind) continue;
        if (by_name && !is_time_name(column->name)) continue;
        only = column;
        *count += 1;
    }
    return *count == 1 ? only : NULL;
}

static imv_status find_time(struct imv_arrow_feed *feed, struct imv_error *err) {
    for (uint32_t i = 0; i < feed->columns_count; i++) {
        if (feed->columns[i].role != ARROW_ROLE_TIME) continue;
        if (feed->time != NULL) return imv_fail(err, IMV_INVALID, "arrow: two columns have the role time");
        feed->time = &feed->columns[i];
    }
    if (feed->time != NULL) return IMV_OK;
    uint32_t times, named;
    feed->time = guess_time(feed, IMV_ARROW_TIME, false, &times);
    if (feed->time == NULL && times > 0) {
        feed->time = guess_time(feed, IMV_ARROW_TIME, true, &named);
        if (feed->time == NULL)
            return imv_fail(err, IMV_INVALID, "arrow: %u columns could be the time: give one the role time", times);
    }
    if (feed->time == NULL) feed->time = guess_time(feed, IMV_ARROW_INT, true, &named);
    if (feed->time != NULL) feed->time->role = ARROW_ROLE_TIME;
    return IMV_OK;
}

static int64_t precision_ns(enum imv_precision precision) {
    static const int64_t ns[] = {1, 1000, 1000000, 1000000000, INT64_C(60) * 1000000000, INT64_C(3600) * 1000000000};
    return ns[precision];
}

static imv_type stored_type(const struct imv_arrow_type *type) {
    switch (type->kind) {
        case IMV_ARROW_FLOAT: return IMV_FLOAT;
        case IMV_ARROW_BOOL: return IMV_BOOLEAN;
        case IMV_ARROW_TEXT: return IMV_STRING;
        case IMV_ARROW_INT: return type->is_signed ? IMV_INTEGER : IMV_UINTEGER;
        default: return IMV_INTEGER;
    }
}

/* Checks that the role suits the type, and enters the column where its role wants it. */
static imv_status place_column(struct imv_arrow_feed *feed, struct arrow_column *column, struct imv_error *err) {
    enum imv_arrow_kind kind = column->type.kind;
    if (kind == IMV_ARROW_NULL) return IMV_OK;
    if (column->role == ARROW_ROLE_NONE) column->role = kind == IMV_ARROW_TEXT ? ARROW_ROLE_TAG : ARROW_ROLE_FIELD;
    column->stored = stored_type(&column->type);
    if (kind == IMV_ARROW_TIME || kind == IMV_ARROW_DURATION) column->scale = column->type.unit_ns;
    switch (column->role) {
        case ARROW_ROLE_LABEL:
            if (kind != IMV_ARROW_TEXT) return refuse_type(column, "a label", err);
            if (feed->label != NULL) return imv_fail(err, IMV_INVALID, "arrow: two columns have the role label");
            feed->label = column;
            break;
        case ARROW_ROLE_TAG:
            if (kind != IMV_ARROW_TEXT) return refuse_type(column, "a tag", err);
            if (feed->tags_count == IMV_TAGS_MAX)
                return imv_fail(err, IMV_INVALID, "arrow: more than %d tags", IMV_TAGS_MAX);
            feed->tags[feed->tags_count++] = column;
            break;
        case ARROW_ROLE_TIME:
            if (kind != IMV_ARROW_TIME && kind != IMV_ARROW_INT) return refuse_type(column, "a time", err);
            if (kind == IMV_ARROW_INT) column->scale = precision_ns(feed->options.precision);
            break;
        default:
            imv_assert(column->role == ARROW_ROLE_FIELD);
            if (feed->fields_count == IMV_ARROW_FIELDS_MAX)
                return imv_fail(err, IMV_INVALID, "arrow: more than %d fields", IMV_ARROW_FIELDS_MAX);
            feed->fields[feed->fields_count++] = column;
    }
    return IMV_OK;
}

/* Tags and fields are properties of one twin: no name twice. */
static imv_status check_names(const struct imv_arrow_feed *feed, struct imv_error *err) {
    for (uint32_t i = 0; i < feed->columns_count; i++) {
        const struct arrow_column *column = &feed->columns[i];
        if (column->role != ARROW_ROLE_TAG && column->role != ARROW_ROLE_FIELD) continue;
        if (!imv_arrow_name_ok(column->name))
            return imv_fail(err, IMV_INVALID, "arrow: column %u has no usable name: 1 to %d bytes of UTF-8 are", i + 1,
                            IMV_NAME_BYTES_MAX);
        for (uint32_t k = 0; k < i; k++) {
            const struct arrow_column *other = &feed->columns[k];
            bool property = other->role == ARROW_ROLE_TAG || other->role == ARROW_ROLE_FIELD;
            if (property && imv_str_equal(other->name, column->name))
                return imv_fail(err, IMV_INVALID, "arrow: two columns have the name \"%.*s\"", shown(column->name),
                                column->name.data);
        }
    }
    return IMV_OK;
}

/* ---- memory of slices ---- */

static bool allocate_slices(struct imv_arrow_feed *feed) {
    struct imv_arena *arena = &feed->arena;
    for (uint32_t i = 0; i < feed->columns_count; i++) {
        struct arrow_column *column = &feed->columns[i];
        bool codes = column->role == ARROW_ROLE_TAG || column->role == ARROW_ROLE_LABEL;
        bool text = column->type.kind == IMV_ARROW_TEXT;
        if (codes) {
            column->codes = imv_arena_calloc(arena, ARROW_SLICE_ROWS, sizeof *column->codes);
            if (column->codes == NULL) return false;
        } else if (text) {
            column->own_texts = imv_arena_calloc(arena, ARROW_SLICE_ROWS, sizeof *column->own_texts);
            if (column->own_texts == NULL) return false;
        } else if (column->role != ARROW_ROLE_NONE) {
            column->own_cells = imv_arena_calloc(arena, ARROW_SLICE_ROWS, sizeof *column->own_cells);
            if (column->own_cells == NULL) return false;
        }
    }
    feed->slice = imv_arena_calloc(arena, 1, sizeof *feed->slice);
    feed->shapes = imv_arena_calloc(arena, ARROW_SHAPES, sizeof *feed->shapes);
    feed->run_fields = imv_arena_calloc(arena, feed->fields_count, sizeof(struct imv_field *));
    feed->run_columns = imv_arena_calloc(arena, feed->fields_count, sizeof *feed->run_columns);
    feed->row_codes = imv_arena_calloc(arena, feed->tags_count + 1, sizeof *feed->row_codes);
    return feed->slice != NULL && feed->shapes != NULL && feed->run_fields != NULL && feed->run_columns != NULL &&
           feed->row_codes != NULL;
}

static bool allocate_columns(struct imv_arrow_feed *feed, uint32_t count) {
    feed->columns = imv_arena_calloc(&feed->arena, count, sizeof *feed->columns);
    feed->dictionaries = imv_arena_calloc(&feed->arena, count, sizeof *feed->dictionaries);
    feed->tags = imv_arena_calloc(&feed->arena, count, sizeof(struct arrow_column *));
    feed->fields = imv_arena_calloc(&feed->arena, count, sizeof(struct arrow_column *));
    return feed->columns != NULL && feed->dictionaries != NULL && feed->tags != NULL && feed->fields != NULL;
}

imv_status imv_arrow_schema_read(struct imv_arrow_feed *feed, const struct imv_arrow_message *message,
                                 struct imv_error *err) {
    if (feed->schema_known) return imv_fail(err, IMV_INVALID, "arrow: a second schema");
    uint32_t count;
    IMV_TRY(imv_arrow_schema_count(message, &count, err));
    if (count == 0 || count > IMV_ARROW_COLUMNS_MAX)
        return imv_fail(err, IMV_INVALID, "arrow: %u columns, 1 to %d are taken", count, IMV_ARROW_COLUMNS_MAX);
    if (!allocate_columns(feed, count)) return imv_arrow_no_memory(err);
    for (feed->columns_count = 0; feed->columns_count < count; feed->columns_count++)
        IMV_TRY(read_column(feed, message, feed->columns_count, err));
    struct imv_str label = imv_arrow_schema_metadata(message, IMV_STR("imvdb.label"));
    if (label.data != NULL) feed->label_name = imv_arena_copy(&feed->arena, label);
    if (feed->label_name.data == NULL) return imv_arrow_no_memory(err);
    IMV_TRY(find_time(feed, err));
    for (uint32_t i = 0; i < count; i++) IMV_TRY(place_column(feed, &feed->columns[i], err));
    IMV_TRY(check_names(feed, err));
    if (feed->fields_count == 0) return imv_fail(err, IMV_INVALID, "arrow: no column is a field");
    if (feed->label == NULL && !imv_arrow_name_ok(feed->label_name))
        return imv_fail(err, IMV_INVALID,
                        "arrow: no label: give a column the role label, the schema the metadata imvdb.label, or the "
                        "request the parameter label");
    if (!allocate_slices(feed)) return imv_arrow_no_memory(err);
    feed->schema_known = true;
    return IMV_OK;
}
