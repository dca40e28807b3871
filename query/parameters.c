#include "query/parameters.h"

#include "query/error.h"
#include "query/value.h"

#include <jansson.h>

/* Where a value is being made. */
struct reader {
    struct imv_arena *arena;
    struct imv_query_error *error;
};

static imv_status fail(struct reader *reader, const char *what) {
    return imv_query_fail_nowhere(reader->error, IMV_INVALID, "SyntaxError", "InvalidParameters", "parameters: %s",
                                  what);
}

static imv_status read_value(struct reader *reader, const json_t *json, int depth, struct imv_value *value);

static imv_status copy_text(struct reader *reader, const char *text, size_t size, struct imv_str *copy) {
    *copy = imv_arena_copy(reader->arena, (struct imv_str){text, size});
    return copy->data == NULL ? imv_query_fail_memory(reader->error) : IMV_OK;
}

static imv_status read_list(struct reader *reader, const json_t *json, int depth, struct imv_value *value) {
    size_t count = json_array_size(json);
    struct imv_value *items = imv_arena_calloc(reader->arena, count + 1, sizeof *items);
    if (items == NULL) return imv_query_fail_memory(reader->error);
    for (size_t i = 0; i < count; i++) IMV_TRY(read_value(reader, json_array_get(json, i), depth + 1, &items[i]));
    return imv_value_list(items, count, value) ? IMV_OK : fail(reader, "lists and maps nest too deep");
}

static imv_status read_map(struct reader *reader, const json_t *json, int depth, struct imv_value *value) {
    size_t count = 0;
    struct imv_map_entry *entries = imv_arena_calloc(reader->arena, json_object_size(json) + 1, sizeof *entries);
    if (entries == NULL) return imv_query_fail_memory(reader->error);
    const char *key;
    json_t *child;
    json_object_foreach((json_t *)json, key, child) {
        IMV_TRY(copy_text(reader, key, strlen(key), &entries[count].key));
        IMV_TRY(read_value(reader, child, depth + 1, &entries[count++].value));
    }
    return imv_value_map(entries, count, value) ? IMV_OK : fail(reader, "lists and maps nest too deep");
}

static imv_status read_value(struct reader *reader, const json_t *json, int depth, struct imv_value *value) {
    struct imv_str text;
    if (depth > IMV_VALUE_DEPTH_MAX) return fail(reader, "lists and maps nest too deep");
    switch (json_typeof(json)) {
        case JSON_NULL: *value = imv_value_null(); return IMV_OK;
        case JSON_TRUE: *value = imv_value_boolean(true); return IMV_OK;
        case JSON_FALSE: *value = imv_value_boolean(false); return IMV_OK;
        case JSON_INTEGER: *value = imv_value_integer(json_integer_value(json)); return IMV_OK;
        case JSON_REAL: *value = imv_value_float(json_real_value(json)); return IMV_OK;
        case JSON_STRING:
            IMV_TRY(copy_text(reader, json_string_value(json), json_string_length(json), &text));
            *value = imv_value_string(text);
            return IMV_OK;
        case JSON_ARRAY: return read_list(reader, json, depth, value);
        case JSON_OBJECT: return read_map(reader, json, depth, value);
    }
    return fail(reader, "this is no JSON value");
}

imv_status imv_parameters_from_json(const struct json_t *object, struct imv_arena *arena,
                                    const struct imv_query_parameter **parameters, size_t *count,
                                    struct imv_query_error *error) {
    struct reader reader = {arena, error};
    *parameters = NULL;
    *count = 0;
    if (object == NULL || json_is_null(object)) return IMV_OK;
    if (!json_is_object(object)) return fail(&reader, "an object is needed, as in {\"host\": \"h1\"}");
    struct imv_value map;
    IMV_TRY(read_map(&reader, object, 0, &map));
    struct imv_query_parameter *named = imv_arena_calloc(arena, map.size + (size_t)1, sizeof *named);
    if (named == NULL) return imv_query_fail_memory(error);
    for (uint32_t i = 0; i < map.size; i++)
        named[i] = (struct imv_query_parameter){map.entries[i].key, &map.entries[i].value};
    *parameters = named;
    *count = map.size;
    return IMV_OK;
}

imv_status imv_parameters_parse(struct imv_str text, struct imv_arena *arena,
                                const struct imv_query_parameter **parameters, size_t *count,
                                struct imv_query_error *error) {
    *parameters = NULL;
    *count = 0;
    if (text.size == 0) return IMV_OK;
    json_error_t reason;
    json_t *object =
        json_loadb(text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &reason);
    if (object == NULL) {
        struct reader reader = {arena, error};
        return fail(&reader, reason.text);
    }
    imv_status status = imv_parameters_from_json(object, arena, parameters, count, error);
    json_decref(object);
    return status;
}
