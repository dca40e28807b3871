#include "query/value.h"

#include "engine/catalog.h"
#include "query/datetime.h"
#include "query/number.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/hash.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- making ---- */

bool imv_value_list(const struct imv_value *items, size_t count, struct imv_value *list) {
    uint8_t depth = 0;
    if (count > UINT32_MAX) return false;
    for (size_t i = 0; i < count; i++) depth = items[i].depth > depth ? items[i].depth : depth;
    if (depth >= IMV_VALUE_DEPTH_MAX) return false;
    *list = (struct imv_value){.kind = IMV_VALUE_LIST, .depth = depth + 1, .size = (uint32_t)count, .items = items};
    return true;
}

bool imv_value_map(const struct imv_map_entry *entries, size_t count, struct imv_value *map) {
    uint8_t depth = 0;
    if (count > UINT32_MAX) return false;
    for (size_t i = 0; i < count; i++) depth = entries[i].value.depth > depth ? entries[i].value.depth : depth;
    if (depth >= IMV_VALUE_DEPTH_MAX) return false;
    *map = (struct imv_value){.kind = IMV_VALUE_MAP, .depth = depth + 1, .size = (uint32_t)count, .entries = entries};
    return true;
}

size_t imv_map_entries_unique(struct imv_map_entry *entries, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        size_t same = 0;
        while (same < kept && !imv_str_equal(entries[same].key, entries[i].key)) same++;
        if (same == kept) entries[kept++].key = entries[i].key;
        entries[same].value = entries[i].value;
    }
    return kept;
}

struct imv_value imv_value_of_cell(imv_type type, uint64_t cell) {
    switch (type) {
        case IMV_FLOAT: return imv_value_float(imv_cell_float(cell));
        case IMV_INTEGER: return imv_value_integer((int64_t)cell);
        case IMV_UINTEGER: return imv_value_uinteger(cell);
        case IMV_BOOLEAN: return imv_value_boolean(cell != 0);
        case IMV_STRING: return imv_value_string(imv_cell_str(cell));
    }
    return imv_value_null();
}

const struct imv_value *imv_value_map_get(const struct imv_value *map, struct imv_str key) {
    imv_assert(map->kind == IMV_VALUE_MAP);
    for (uint32_t i = 0; i < map->size; i++)
        if (imv_str_equal(map->entries[i].key, key)) return &map->entries[i].value;
    return NULL;
}

const char *imv_value_kind_name(imv_value_kind kind) {
    static const char *const names[] = {"null", "boolean",  "integer", "integer", "float", "string",
                                        "time", "duration", "list",    "map",     "node"};
    return names[kind];
}

static bool copy_list(struct imv_arena *arena, const struct imv_value *value, struct imv_value *copy) {
    struct imv_value *items = imv_arena_calloc(arena, value->size, sizeof *items);
    if (items == NULL) return false;
    for (uint32_t i = 0; i < value->size; i++)
        if (!imv_value_copy(arena, &value->items[i], &items[i])) return false;
    copy->items = items;
    return true;
}

static bool copy_map(struct imv_arena *arena, const struct imv_value *value, struct imv_value *copy) {
    struct imv_map_entry *entries = imv_arena_calloc(arena, value->size, sizeof *entries);
    if (entries == NULL) return false;
    for (uint32_t i = 0; i < value->size; i++) {
        entries[i].key = imv_arena_copy(arena, value->entries[i].key);
        if (entries[i].key.data == NULL) return false;
        if (!imv_value_copy(arena, &value->entries[i].value, &entries[i].value)) return false;
    }
    copy->entries = entries;
    return true;
}

bool imv_value_copy(struct imv_arena *arena, const struct imv_value *value, struct imv_value *copy) {
    *copy = *value;
    if (value->kind < IMV_VALUE_STRING) return true;
    if (value->kind == IMV_VALUE_STRING) {
        copy->text = imv_arena_copy(arena, imv_value_str(value)).data;
        return copy->text != NULL;
    }
    if (value->kind == IMV_VALUE_LIST) return copy_list(arena, value, copy);
    if (value->kind == IMV_VALUE_MAP) return copy_map(arena, value, copy);
    return true;
}

/* ---- numbers ---- */

static int order_of(int64_t a, int64_t b) { return (a > b) - (a < b); }

/* An integer against a double that is not NaN, exactly: the double's whole part first, then what is behind the
 * point. */
static int compare_integer_float(int64_t a, double b) {
    if (b >= 0x1p63) return -1;
    if (b < -0x1p63) return 1;
    int64_t whole = (int64_t)b;
    if (a != whole) return order_of(a, whole);
    double rest = b - (double)whole;
    return (rest < 0) - (rest > 0);
}

static int compare_uinteger_float(uint64_t a, double b) {
    if (b >= 0x1p64) return -1;
    if (b < 0) return 1;
    uint64_t whole = (uint64_t)b;
    if (a != whole) return a < whole ? -1 : 1;
    return b > (double)whole ? -1 : 0;
}

/* Neither is NaN. */
static int compare_numbers(const struct imv_value *a, const struct imv_value *b) {
    if (a->kind == IMV_VALUE_FLOAT && b->kind == IMV_VALUE_FLOAT)
        return (a->number > b->number) - (a->number < b->number);
    if (a->kind == IMV_VALUE_FLOAT) return -compare_numbers(b, a);
    if (b->kind == IMV_VALUE_FLOAT) {
        if (a->kind == IMV_VALUE_INTEGER) return compare_integer_float(a->integer, b->number);
        return compare_uinteger_float(a->uinteger, b->number);
    }
    if (a->kind != b->kind) return a->kind == IMV_VALUE_UINTEGER ? 1 : -1; /* an UINTEGER is above every INTEGER */
    if (a->kind == IMV_VALUE_INTEGER) return order_of(a->integer, b->integer);
    return (a->uinteger > b->uinteger) - (a->uinteger < b->uinteger);
}

static bool is_nan(const struct imv_value *value) { return value->kind == IMV_VALUE_FLOAT && isnan(value->number); }

bool imv_value_as_time(const struct imv_value *value, int64_t *ns) {
    if (value->kind == IMV_VALUE_STRING) return imv_time_parse(imv_value_str(value), ns);
    *ns = value->integer;
    return value->kind == IMV_VALUE_TIME || value->kind == IMV_VALUE_INTEGER;
}

/* ---- equality ---- */

static imv_truth equal_lists(const struct imv_value *a, const struct imv_value *b) {
    if (a->size != b->size) return IMV_FALSE;
    imv_truth result = IMV_TRUE;
    for (uint32_t i = 0; i < a->size; i++) {
        imv_truth truth = imv_value_equal(&a->items[i], &b->items[i]);
        if (truth == IMV_FALSE) return IMV_FALSE;
        if (truth == IMV_UNKNOWN) result = IMV_UNKNOWN;
    }
    return result;
}

static imv_truth equal_maps(const struct imv_value *a, const struct imv_value *b) {
    if (a->size != b->size) return IMV_FALSE;
    imv_truth result = IMV_TRUE;
    for (uint32_t i = 0; i < a->size; i++) {
        const struct imv_value *other = imv_value_map_get(b, a->entries[i].key);
        if (other == NULL) return IMV_FALSE;
        imv_truth truth = imv_value_equal(&a->entries[i].value, other);
        if (truth == IMV_FALSE) return IMV_FALSE;
        if (truth == IMV_UNKNOWN) result = IMV_UNKNOWN;
    }
    return result;
}

static imv_truth equal_times(const struct imv_value *a, const struct imv_value *b) {
    int64_t x, y;
    return imv_value_as_time(a, &x) && imv_value_as_time(b, &y) && x == y;
}

imv_truth imv_value_equal(const struct imv_value *a, const struct imv_value *b) {
    if (a->kind == IMV_VALUE_NULL || b->kind == IMV_VALUE_NULL) return IMV_UNKNOWN;
    if (imv_value_is_number(a) && imv_value_is_number(b)) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
    if (a->kind == IMV_VALUE_TIME || b->kind == IMV_VALUE_TIME) return equal_times(a, b);
    if (a->kind != b->kind) return IMV_FALSE;
    switch ((imv_value_kind)a->kind) {
        case IMV_VALUE_BOOLEAN: return a->boolean == b->boolean;
        case IMV_VALUE_STRING: return imv_str_equal(imv_value_str(a), imv_value_str(b));
        case IMV_VALUE_DURATION: return a->integer == b->integer;
        case IMV_VALUE_LIST: return equal_lists(a, b);
        case IMV_VALUE_MAP: return equal_maps(a, b);
        case IMV_VALUE_TWIN: return a->twin == b->twin;
        default: return IMV_FALSE;
    }
}

/* ---- comparability ---- */

static imv_comparison comparison_of(int order) {
    return order < 0 ? IMV_COMPARED_LESS : order > 0 ? IMV_COMPARED_GREATER : IMV_COMPARED_EQUAL;
}

static imv_comparison compare_lists(const struct imv_value *a, const struct imv_value *b) {
    uint32_t common = a->size < b->size ? a->size : b->size;
    for (uint32_t i = 0; i < common; i++) {
        imv_comparison comparison = imv_value_compare(&a->items[i], &b->items[i]);
        if (comparison != IMV_COMPARED_EQUAL) return comparison;
    }
    return comparison_of(order_of(a->size, b->size));
}

static imv_comparison compare_times(const struct imv_value *a, const struct imv_value *b) {
    int64_t x, y;
    if (!imv_value_as_time(a, &x) || !imv_value_as_time(b, &y)) return IMV_COMPARED_UNKNOWN;
    return comparison_of(order_of(x, y));
}

imv_comparison imv_value_compare(const struct imv_value *a, const struct imv_value *b) {
    if (a->kind == IMV_VALUE_NULL || b->kind == IMV_VALUE_NULL) return IMV_COMPARED_UNKNOWN;
    if (imv_value_is_number(a) && imv_value_is_number(b)) {
        if (is_nan(a) || is_nan(b)) return IMV_COMPARED_UNORDERED;
        return comparison_of(compare_numbers(a, b));
    }
    if (a->kind == IMV_VALUE_TIME || b->kind == IMV_VALUE_TIME) return compare_times(a, b);
    if (a->kind != b->kind) return IMV_COMPARED_UNKNOWN;
    switch ((imv_value_kind)a->kind) {
        case IMV_VALUE_BOOLEAN: return comparison_of(a->boolean - b->boolean);
        case IMV_VALUE_STRING: return comparison_of(imv_str_compare(imv_value_str(a), imv_value_str(b)));
        case IMV_VALUE_DURATION: return comparison_of(order_of(a->integer, b->integer));
        case IMV_VALUE_LIST: return compare_lists(a, b);
        default: return IMV_COMPARED_UNKNOWN;
    }
}

/* ---- order ---- */

static int rank_of(const struct imv_value *value) {
    static const uint8_t ranks[] = {
        [IMV_VALUE_MAP] = 0,      [IMV_VALUE_TWIN] = 1,   [IMV_VALUE_LIST] = 2,    [IMV_VALUE_TIME] = 3,
        [IMV_VALUE_DURATION] = 4, [IMV_VALUE_STRING] = 5, [IMV_VALUE_BOOLEAN] = 6, [IMV_VALUE_INTEGER] = 7,
        [IMV_VALUE_UINTEGER] = 7, [IMV_VALUE_FLOAT] = 7,  [IMV_VALUE_NULL] = 9,
    };
    return is_nan(value) ? 8 : ranks[value->kind];
}

static int order_lists(const struct imv_value *a, const struct imv_value *b) {
    uint32_t common = a->size < b->size ? a->size : b->size;
    for (uint32_t i = 0; i < common; i++) {
        int order = imv_value_order(&a->items[i], &b->items[i]);
        if (order != 0) return order;
    }
    return order_of(a->size, b->size);
}

/* The smallest key of the map above `after` (NULL: of all). */
static const struct imv_map_entry *next_key(const struct imv_value *map, const struct imv_str *after) {
    const struct imv_map_entry *next = NULL;
    for (uint32_t i = 0; i < map->size; i++) {
        const struct imv_map_entry *entry = &map->entries[i];
        if (after != NULL && imv_str_compare(entry->key, *after) <= 0) continue;
        if (next == NULL || imv_str_compare(entry->key, next->key) < 0) next = entry;
    }
    return next;
}

/* By size, then keys in their order, then the values of these. Quadratic in the entries, of which maps have few. */
static int order_maps(const struct imv_value *a, const struct imv_value *b) {
    if (a->size != b->size) return order_of(a->size, b->size);
    int values_order = 0;
    const struct imv_str *after_a = NULL, *after_b = NULL;
    for (uint32_t i = 0; i < a->size; i++) {
        const struct imv_map_entry *x = next_key(a, after_a), *y = next_key(b, after_b);
        int order = imv_str_compare(x->key, y->key);
        if (order != 0) return order;
        if (values_order == 0) values_order = imv_value_order(&x->value, &y->value);
        after_a = &x->key;
        after_b = &y->key;
    }
    return values_order;
}

int imv_value_order(const struct imv_value *a, const struct imv_value *b) {
    int rank = rank_of(a);
    int order = rank - rank_of(b);
    if (order != 0) return order;
    switch ((imv_value_kind)a->kind) {
        case IMV_VALUE_NULL: return 0;
        case IMV_VALUE_BOOLEAN: return a->boolean - b->boolean;
        case IMV_VALUE_INTEGER:
        case IMV_VALUE_UINTEGER:
        case IMV_VALUE_FLOAT: return rank == 8 ? 0 : compare_numbers(a, b);
        case IMV_VALUE_STRING: return imv_str_compare(imv_value_str(a), imv_value_str(b));
        case IMV_VALUE_TIME:
        case IMV_VALUE_DURATION: return order_of(a->integer, b->integer);
        case IMV_VALUE_LIST: return order_lists(a, b);
        case IMV_VALUE_MAP: return order_maps(a, b);
        case IMV_VALUE_TWIN: {
            uint64_t x = imv_series_id(a->twin), y = imv_series_id(b->twin);
            return (x > y) - (x < y);
        }
    }
    return 0;
}

/* ---- hash ---- */

static uint64_t mix(uint64_t bits) {
    bits ^= bits >> 32;
    bits *= 0xd6e8feb86659fd93u;
    bits ^= bits >> 32;
    bits *= 0xd6e8feb86659fd93u;
    return bits ^ bits >> 32;
}

/* The seed for values of a kind: far enough apart that small numbers of two kinds do not meet. */
static uint64_t seed_of(imv_value_kind kind, uint64_t seed) { return seed + (kind + 1) * UINT64_C(0x9e3779b97f4a7c15); }

/* A double with an integer's value hashes as that integer, since the two are equal. */
static uint64_t hash_float(double number, uint64_t seed) {
    if (isnan(number)) return mix(seed ^ 0x7ff8000000000000u);
    if (number >= -0x1p63 && number < 0x1p63 && number == (double)(int64_t)number)
        return mix(seed ^ (uint64_t)(int64_t)number);
    if (number >= 0x1p63 && number < 0x1p64) return mix(seed_of(IMV_VALUE_UINTEGER, seed) ^ (uint64_t)number);
    return mix(seed ^ imv_float_cell(number));
}

static uint64_t hash_map(const struct imv_value *map, uint64_t seed) {
    uint64_t sum = map->size;
    for (uint32_t i = 0; i < map->size; i++) {
        uint64_t key = imv_hash64(map->entries[i].key.data, map->entries[i].key.size, seed);
        sum += imv_value_hash(&map->entries[i].value, key); /* a sum: the order of entries does not matter */
    }
    return mix(sum);
}

uint64_t imv_value_hash(const struct imv_value *value, uint64_t seed) {
    uint64_t own = seed_of((imv_value_kind)value->kind, seed);
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_INTEGER: return mix(seed ^ value->uinteger);
        case IMV_VALUE_FLOAT: return hash_float(value->number, seed);
        case IMV_VALUE_NULL: return mix(own);
        case IMV_VALUE_BOOLEAN: return mix(own + value->boolean);
        case IMV_VALUE_STRING: return imv_hash64(value->text, value->size, own);
        case IMV_VALUE_UINTEGER:
        case IMV_VALUE_TIME:
        case IMV_VALUE_DURATION: return mix(own ^ value->uinteger);
        case IMV_VALUE_TWIN: return mix(own ^ imv_series_id(value->twin));
        case IMV_VALUE_MAP: return hash_map(value, own);
        case IMV_VALUE_LIST: break;
    }
    uint64_t hash = mix(own + value->size);
    for (uint32_t i = 0; i < value->size; i++) hash = imv_value_hash(&value->items[i], hash);
    return hash;
}

/* ---- printing ---- */

static bool print_quoted(struct imv_buffer *out, struct imv_str text) {
    imv_buffer_append_char(out, '\'');
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '\'' || text.data[i] == '\\') imv_buffer_append_char(out, '\\');
        imv_buffer_append_char(out, text.data[i]);
    }
    return imv_buffer_append_char(out, '\'');
}

static bool print_nested(struct imv_buffer *out, const struct imv_value *value) {
    if (value->kind == IMV_VALUE_STRING) return print_quoted(out, imv_value_str(value));
    return imv_value_print(out, value);
}

static bool print_list(struct imv_buffer *out, const struct imv_value *list) {
    imv_buffer_append_char(out, '[');
    for (uint32_t i = 0; i < list->size; i++) {
        if (i > 0) imv_buffer_append_str(out, IMV_STR(", "));
        print_nested(out, &list->items[i]);
    }
    return imv_buffer_append_char(out, ']');
}

static bool print_map(struct imv_buffer *out, const struct imv_value *map) {
    imv_buffer_append_char(out, '{');
    for (uint32_t i = 0; i < map->size; i++) {
        if (i > 0) imv_buffer_append_str(out, IMV_STR(", "));
        imv_buffer_append_str(out, map->entries[i].key);
        imv_buffer_append_str(out, IMV_STR(": "));
        print_nested(out, &map->entries[i].value);
    }
    return imv_buffer_append_char(out, '}');
}

static bool print_twin(struct imv_buffer *out, const struct imv_series *twin) {
    imv_buffer_append_str(out, IMV_STR("(:"));
    imv_buffer_append_str(out, twin->label->name);
    for (uint32_t i = 0; i < twin->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(twin, i);
        imv_buffer_append_str(out, i == 0 ? IMV_STR(" {") : IMV_STR(", "));
        imv_buffer_append_str(out, tag.key);
        imv_buffer_append_str(out, IMV_STR(": "));
        print_quoted(out, tag.value);
    }
    return imv_buffer_append_str(out, twin->tags_count > 0 ? IMV_STR("})") : IMV_STR(")"));
}

bool imv_value_print(struct imv_buffer *out, const struct imv_value *value) {
    char text[IMV_DURATION_BYTES_MAX + 1];
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL: return imv_buffer_append_str(out, IMV_STR("null"));
        case IMV_VALUE_BOOLEAN: return imv_buffer_append_str(out, value->boolean ? IMV_STR("true") : IMV_STR("false"));
        case IMV_VALUE_INTEGER: return imv_buffer_append(out, text, imv_integer_print(text, value->integer));
        case IMV_VALUE_UINTEGER: return imv_buffer_append(out, text, imv_uinteger_print(text, value->uinteger));
        case IMV_VALUE_FLOAT: return imv_buffer_append(out, text, imv_float_print(text, value->number));
        case IMV_VALUE_STRING: return imv_buffer_append_str(out, imv_value_str(value));
        case IMV_VALUE_TIME: imv_time_print(text, value->integer); return imv_buffer_append(out, text, IMV_TIME_BYTES);
        case IMV_VALUE_DURATION: return imv_buffer_append(out, text, imv_duration_print(text, value->integer));
        case IMV_VALUE_LIST: return print_list(out, value);
        case IMV_VALUE_MAP: return print_map(out, value);
        case IMV_VALUE_TWIN: return print_twin(out, value->twin);
    }
    return false;
}
