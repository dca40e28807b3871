#include "ingest/line_known.h"

#include "storage/base/assert.h"
#include "storage/base/decimal.h"
#include "storage/base/utf8.h"

#include <math.h>

/* A line being followed. */
struct follower {
    const struct imv_shape *const *shapes;
    size_t shapes_max;
    const struct imv_shape *shape; /* the fields so far are its first */
    const char *end;               /* of the line */
    struct imv_row *row;
    size_t room; /* bytes of row */
    size_t
        strings_end; /* offset in row where the next string goes; 0 before the first: the shape may change until then */
};

static inline bool is_name(const struct imv_field *field, const char *at, const char *end) {
    size_t size = field->name.size;
    return size < (size_t)(end - at) && at[size] == '=' && imv_bytes_same(at, field->name.data, size);
}

static bool same_start(const struct imv_shape *a, const struct imv_shape *b, uint32_t count) {
    return a->count >= count && memcmp(a->fields, b->fields, count * sizeof a->fields[0]) == 0;
}

/* The name at `at` is not that of field `index`: looks for another shape that has it there, after the same fields. */
static __attribute__((noinline)) bool follow_other(struct follower *follower, uint32_t index, const char *at) {
    if (follower->strings_end != 0) return false;
    for (size_t i = 0; i < follower->shapes_max && follower->shapes[i] != NULL; i++) {
        const struct imv_shape *shape = follower->shapes[i];
        if (shape->count <= index || !same_start(shape, follower->shape, index)) continue;
        if (!is_name(shape->fields[index], at, follower->end)) continue;
        follower->shape = shape;
        return true;
    }
    return false;
}

/* The line ends after `count` fields: looks for the shape that does. */
static __attribute__((noinline)) bool follow_shorter(struct follower *follower, uint32_t count) {
    if (follower->strings_end != 0) return false;
    for (size_t i = 0; i < follower->shapes_max && follower->shapes[i] != NULL; i++) {
        const struct imv_shape *shape = follower->shapes[i];
        if (shape->count != count || !same_start(shape, follower->shape, count)) continue;
        follower->shape = shape;
        return true;
    }
    return false;
}

/* ---- values: from `at` to the byte behind, NULL when not known ---- */

/* Joins the digits at `at` to *word, which wraps when there are more than 19. */
static inline const char *take_digits(const char *at, uint64_t *word) {
    static const uint64_t powers[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    for (;;) {
        uint64_t chunk = imv_get_u64(at);
        unsigned count = imv_decimal_digits_count(chunk);
        if (count == 0) return at;
        if (count < 8) {
            *word = *word * powers[count] + imv_decimal_digits_value(chunk, count);
            return at + count;
        }
        *word = *word * 100000000 + imv_decimal_digits_value(chunk, 8);
        at += 8;
    }
}

enum { INTEGER_DIGITS = 18, WORD_DIGITS = 19 }; /* below 2^63 and 2^64 whatever they are */

static inline const char *take_integer(const char *at, char suffix, uint64_t *cell) {
    bool negative = *at == '-' && suffix == 'i';
    at += negative;
    uint64_t word = 0;
    const char *behind = take_digits(at, &word);
    if (behind == at || behind - at > INTEGER_DIGITS || *behind != suffix) return NULL;
    *cell = negative ? -word : word;
    return behind + 1;
}

/* Long mantissas and exponents. */
static __attribute__((noinline)) const char *take_float_word(const char *at, const char *end, uint64_t *cell) {
    const char *behind = at;
    while (behind < end && *behind != ',' && *behind != ' ') behind++;
    double value;
    if (!imv_decimal_float((struct imv_str){at, (size_t)(behind - at)}, &value) || !isfinite(value)) return NULL;
    *cell = imv_float_cell(value);
    return behind;
}

static inline const char *take_float(const char *at, const char *end, uint64_t *cell) {
    const char *start = at;
    bool negative = *at == '-';
    at += negative;
    uint64_t word = 0;
    const char *digits = at;
    at = take_digits(at, &word);
    ptrdiff_t count = at - digits, decimals = 0;
    if (*at == '.') {
        const char *fraction = at + 1;
        at = take_digits(fraction, &word);
        decimals = at - fraction;
        count += decimals;
    }
    if (count > WORD_DIGITS || *at == 'e' || *at == 'E') return take_float_word(start, end, cell);
    if (count == 0) return NULL;
    double value = imv_decimal_scale(word, -decimals);
    *cell = imv_float_cell(negative ? -value : value);
    return at;
}

static inline bool is_delimiter(const char *at, const char *end) { return *at == ',' || *at == ' ' || at >= end; }

static inline const char *take_boolean(const char *at, const char *end, uint64_t *cell) {
    char first = *at | 0x20;
    if (first != 't' && first != 'f') return NULL;
    *cell = first == 't';
    if (is_delimiter(at + 1, end)) return at + 1;
    /* Of the long forms that which all sources send; True, TRUE and the like are left to line.h. */
    if (*cell != 0) return memcmp(at, "true", 4) == 0 ? at + 4 : NULL;
    return memcmp(at, "false", 5) == 0 ? at + 5 : NULL;
}

/* Without backslashes a string is what stands between its quotes. */
static const char *take_string(struct follower *follower, const char *at, uint64_t *cell) {
    if (*at != '"') return NULL;
    const char *close = memchr(at + 1, '"', (size_t)(follower->end - at - 1));
    if (close == NULL) return NULL;
    struct imv_str text = {at + 1, (size_t)(close - at - 1)};
    if (!imv_utf8_valid(text)) return NULL;
    if (follower->strings_end == 0) {
        follower->strings_end = sizeof *follower->row + follower->shape->count * sizeof follower->row->cells[0];
    }
    size_t bytes = (sizeof(struct imv_string) + text.size + 7) & ~(size_t)7;
    /* The line may have fewer fields than the shape that made the room for cells. */
    if (follower->strings_end + bytes > follower->room) return NULL;
    struct imv_string *string = (struct imv_string *)(void *)((char *)follower->row + follower->strings_end);
    string->size = (uint32_t)text.size;
    memcpy(string->bytes, text.data, text.size);
    follower->strings_end += bytes;
    *cell = imv_string_cell(string);
    return close + 1;
}

static inline const char *take_value(struct follower *follower, const char *at, imv_type type, uint64_t *cell) {
    switch (type) {
        case IMV_INTEGER: return take_integer(at, 'i', cell);
        case IMV_UINTEGER: return take_integer(at, 'u', cell);
        case IMV_FLOAT: return take_float(at, follower->end, cell);
        case IMV_BOOLEAN: return take_boolean(at, follower->end, cell);
        case IMV_STRING: return take_string(follower, at, cell);
    }
    return NULL;
}

/* ---- the line ---- */

static bool take_timestamp(const char *at, const char *end, int64_t unit_ns, struct imv_line_known *known) {
    bool negative = *at == '-';
    at += negative;
    uint64_t word = 0;
    const char *behind = take_digits(at, &word);
    if (behind != end || behind == at || behind - at > WORD_DIGITS || word > INT64_MAX) return false;
    int64_t count = negative ? -(int64_t)word : (int64_t)word;
    known->timestamp_present = true;
    return !__builtin_mul_overflow(count, unit_ns, &known->timestamp);
}

bool imv_line_known_parse(const char *fields, const char *end, const struct imv_shape *const *shapes, size_t shapes_max,
                          int64_t unit_ns, struct imv_row *row, size_t room, struct imv_line_known *known) {
    struct follower follower = {shapes, shapes_max, shapes[0], end, row, room, 0};
    const char *at = fields;
    uint32_t index = 0;
    for (;; index++, at++) {
        if (index >= follower.shape->count || !is_name(follower.shape->fields[index], at, end)) {
            if (!follow_other(&follower, index, at)) return false;
        }
        const struct imv_field *field = follower.shape->fields[index];
        at = take_value(&follower, at + field->name.size + 1, field->type, &row->cells[index]);
        if (at == NULL || at > end) return false;
        if (*at != ',') break;
    }
    uint32_t count = index + 1;
    if (count != follower.shape->count && !follow_shorter(&follower, count)) return false;
    known->timestamp_present = false;
    if (at < end && (*at != ' ' || !take_timestamp(at + 1, end, unit_ns, known))) return false;
    known->shape = follower.shape;
    known->bytes = follower.strings_end != 0 ? follower.strings_end : sizeof *row + count * sizeof row->cells[0];
    return true;
}
