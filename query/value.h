/* value.h - one TwinQL value, and how two of them compare.
 *
 * A value is sixteen bytes: a kind, a size and a number or a pointer. What it points to (text, elements, entries) is
 * immutable and belongs to somebody who outlives it: an arena, the catalog, a decoded batch. Copying the struct copies
 * the view; imv_value_copy copies the content.
 *
 *     kind       size      content
 *     BOOLEAN              boolean
 *     INTEGER              integer
 *     UINTEGER             uinteger, always above INT64_MAX: smaller ones are INTEGER, so each number has one form
 *     FLOAT                number
 *     STRING     bytes     text, UTF-8 as it came
 *     TIME                 integer: nanoseconds since 1970 UTC, a sample's time
 *     DURATION             integer: nanoseconds
 *     LIST       elements  items
 *     MAP        entries   entries, in the order they were given; no key twice
 *     TWIN                 twin
 *
 * Unsigned fields keep their exact values: a number above 2^63 - 1 appears only when an unsigned field brought it in,
 * and arithmetic with it is exact as long as the result fits 64 bits, signed or unsigned; otherwise it is an overflow.
 *
 * There are three ways to compare, as in openCypher:
 *   - equality (=): three-valued, null is unknown, NaN equals nothing;
 *   - comparability (<): three-valued, values of different types do not compare (null), lists compare by element;
 *   - order (ORDER BY, DISTINCT, grouping, min and max): total. map < node < list < time < duration < string < boolean
 *     < number < NaN < null. Equal numbers of different kinds (1 and 1.0) are one group.
 * One extension: a TIME also compares with a string that reads as a date-time and with an integer as nanoseconds.
 *
 * All functions may be called from any thread.
 */
#pragma once

#include "storage/base/arena.h"
#include "storage/value.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_series;

typedef enum imv_value_kind {
    IMV_VALUE_NULL,
    IMV_VALUE_BOOLEAN,
    IMV_VALUE_INTEGER,
    IMV_VALUE_UINTEGER,
    IMV_VALUE_FLOAT,
    IMV_VALUE_STRING,
    IMV_VALUE_TIME,
    IMV_VALUE_DURATION,
    IMV_VALUE_LIST,
    IMV_VALUE_MAP,
    IMV_VALUE_TWIN,
} imv_value_kind;

enum { IMV_VALUE_DEPTH_MAX = 64 }; /* lists in lists in maps: every walk over a value is recursive */

struct imv_map_entry;

struct imv_value {
    uint8_t kind;  /* imv_value_kind */
    uint8_t depth; /* of nesting: 0 for scalars, one more than the deepest element of a list or map */
    uint32_t size; /* bytes of a string, elements of a list, entries of a map */
    union {
        bool boolean;
        int64_t integer; /* INTEGER, TIME, DURATION */
        uint64_t uinteger;
        double number;
        const char *text;
        const struct imv_value *items;
        const struct imv_map_entry *entries;
        struct imv_series *twin;
    };
};
_Static_assert(sizeof(struct imv_value) == 16, "a value travels in two registers");

struct imv_map_entry {
    struct imv_str key;
    struct imv_value value;
};

/* ---- making values ---- */

static inline struct imv_value imv_value_null(void) { return (struct imv_value){.kind = IMV_VALUE_NULL}; }
static inline struct imv_value imv_value_boolean(bool boolean) {
    return (struct imv_value){.kind = IMV_VALUE_BOOLEAN, .integer = boolean};
}
static inline struct imv_value imv_value_integer(int64_t integer) {
    return (struct imv_value){.kind = IMV_VALUE_INTEGER, .integer = integer};
}
static inline struct imv_value imv_value_uinteger(uint64_t uinteger) {
    return (struct imv_value){.kind = uinteger > INT64_MAX ? IMV_VALUE_UINTEGER : IMV_VALUE_INTEGER,
                              .uinteger = uinteger};
}
static inline struct imv_value imv_value_float(double number) {
    return (struct imv_value){.kind = IMV_VALUE_FLOAT, .number = number};
}
static inline struct imv_value imv_value_string(struct imv_str text) {
    return (struct imv_value){.kind = IMV_VALUE_STRING, .size = (uint32_t)text.size, .text = text.data};
}
static inline struct imv_value imv_value_time(int64_t ns) {
    return (struct imv_value){.kind = IMV_VALUE_TIME, .integer = ns};
}
static inline struct imv_value imv_value_duration(int64_t ns) {
    return (struct imv_value){.kind = IMV_VALUE_DURATION, .integer = ns};
}
/* NULL gives null. */
static inline struct imv_value imv_value_twin(struct imv_series *twin) {
    return (struct imv_value){.kind = twin == NULL ? IMV_VALUE_NULL : IMV_VALUE_TWIN, .twin = twin};
}
/* A list or map of elements that stay where they are. False when it would nest deeper than IMV_VALUE_DEPTH_MAX or has
 * more than UINT32_MAX elements. A key given twice in a map is the caller's to avoid (imv_map_entries_unique). */
bool imv_value_list(const struct imv_value *items, size_t count, struct imv_value *list);
bool imv_value_map(const struct imv_map_entry *entries, size_t count, struct imv_value *map);
/* Keeps the last of entries with the same key, in the place of the first; returns how many are left. */
size_t imv_map_entries_unique(struct imv_map_entry *entries, size_t count);

/* A stored cell of a type as a value. */
struct imv_value imv_value_of_cell(imv_type type, uint64_t cell);

/* ---- reading values ---- */

static inline struct imv_str imv_value_str(const struct imv_value *value) {
    return (struct imv_str){value->text, value->size};
}
static inline bool imv_value_is_null(const struct imv_value *value) { return value->kind == IMV_VALUE_NULL; }
static inline bool imv_value_is_number(const struct imv_value *value) {
    return value->kind >= IMV_VALUE_INTEGER && value->kind <= IMV_VALUE_FLOAT;
}
/* Any number as a double, rounded when it must be. */
static inline double imv_value_to_float(const struct imv_value *value) {
    if (value->kind == IMV_VALUE_FLOAT) return value->number;
    return value->kind == IMV_VALUE_UINTEGER ? (double)value->uinteger : (double)value->integer;
}
/* The entry of a key; NULL when the map has none. */
const struct imv_value *imv_value_map_get(const struct imv_value *map, struct imv_str key);

/* "integer", "list of ..." is "list": for messages. */
const char *imv_value_kind_name(imv_value_kind kind);

/* Copies all that the value points to, twins excepted (they belong to the catalog). False when out of memory. */
bool imv_value_copy(struct imv_arena *arena, const struct imv_value *value, struct imv_value *copy);

/* ---- comparing values ---- */

typedef enum imv_truth { IMV_FALSE = 0, IMV_TRUE = 1, IMV_UNKNOWN = 2 } imv_truth;

static inline struct imv_value imv_value_truth(imv_truth truth) {
    return truth == IMV_UNKNOWN ? imv_value_null() : imv_value_boolean(truth == IMV_TRUE);
}

imv_truth imv_value_equal(const struct imv_value *a, const struct imv_value *b);

typedef enum imv_comparison {
    IMV_COMPARED_LESS,
    IMV_COMPARED_EQUAL,
    IMV_COMPARED_GREATER,
    IMV_COMPARED_UNORDERED, /* NaN against a number: every < and > is false */
    IMV_COMPARED_UNKNOWN,   /* null, or types that do not compare: null */
} imv_comparison;

imv_comparison imv_value_compare(const struct imv_value *a, const struct imv_value *b);

/* The total order: below, at or above zero. */
int imv_value_order(const struct imv_value *a, const struct imv_value *b);

/* Equal for values whose order is 0. */
uint64_t imv_value_hash(const struct imv_value *value, uint64_t seed);

/* What a value means as a sample's time: a TIME, an integer of nanoseconds, or a string that reads as a date-time.
 * False for everything else. */
bool imv_value_as_time(const struct imv_value *value, int64_t *ns);

/* ---- printing values ---- */

struct imv_buffer;

/* The text that toString gives: strings bare at the top, quoted inside lists; a twin as (:cpu {hostname: 'h1'}).
 * False when the buffer is full. */
bool imv_value_print(struct imv_buffer *out, const struct imv_value *value);
