/* The grammar, section by section. Bytes are classed by one table, so that the scan of a name or a key is one lookup a
 * byte until something that matters; escapes and non-ASCII text are rare and handled off that path. */
#include "ingest/line.h"

#include "storage/base/assert.h"
#include "storage/base/decimal.h"
#include "storage/base/utf8.h"

#include <inttypes.h>
#include <math.h>

enum byte_class {
    REGULAR = 0,
    COMMA = 1 << 0,
    SPACE = 1 << 1,
    EQUALS = 1 << 2,
    BACKSLASH = 1 << 3,
    CONTROL = 1 << 4, /* 0x00-0x1f and 0x7f */
    HIGH = 1 << 5,    /* part of a UTF-8 sequence: the whole token is checked once */
};

static uint8_t class_of(char byte) {
    unsigned char b = (unsigned char)byte;
    if (b >= 0x80) return HIGH;
    if (b < 0x20 || b == 0x7f) return CONTROL;
    switch (b) {
        case ',': return COMMA;
        case ' ': return SPACE;
        case '=': return EQUALS;
        case '\\': return BACKSLASH;
        default: return REGULAR;
    }
}

static imv_status fail_at(const struct imv_line *line, const char *at, struct imv_error *err, const char *what) {
    long column = (long)(at - line->raw_key.data) + 1;
    if (at < line->end) {
        unsigned char byte = (unsigned char)*at;
        if (byte > 0x20 && byte < 0x7f) return imv_fail(err, IMV_INVALID, "column %ld: %s at '%c'", column, what, byte);
        return imv_fail(err, IMV_INVALID, "column %ld: %s at byte 0x%02x", column, what, byte);
    }
    return imv_fail(err, IMV_INVALID, "column %ld: %s at the end of the line", column, what);
}

/* ---- the end of a line ---- */

enum scan_flags {
    SCAN_EXACT = 1 << 0,  /* a quote was seen: bytes are followed one by one from here on */
    SCAN_FIELDS = 1 << 1, /* past the key */
    SCAN_QUOTED = 1 << 2, /* inside a string value */
    SCAN_ESCAPE = 1 << 3, /* the byte before was a backslash */
    SCAN_VALUE = 1 << 4,  /* the byte before was the `=` of a field */
    SCAN_BODY = 1 << 5,   /* past the leading blanks */
    SCAN_COMMENT = 1 << 6,
};

/* Follows the sections of a line byte by byte: only a quote that opens a field value hides a line feed. */
static ptrdiff_t find_end_exact(const char *text, size_t size, struct imv_line_scan *state) {
    unsigned flags = state->flags;
    for (size_t i = state->scanned; i < size; i++) {
        char byte = text[i];
        if (flags & SCAN_QUOTED) {
            if (flags & SCAN_ESCAPE)
                flags &= ~SCAN_ESCAPE;
            else if (byte == '\\')
                flags |= SCAN_ESCAPE;
            else if (byte == '"')
                flags &= ~SCAN_QUOTED;
            continue;
        }
        if (byte == '\n') return (ptrdiff_t)i;
        bool escaped = flags & SCAN_ESCAPE, value = flags & SCAN_VALUE;
        flags &= ~(unsigned)(SCAN_ESCAPE | SCAN_VALUE);
        if (byte == '\\')
            flags |= SCAN_ESCAPE;
        else if (!(flags & SCAN_BODY))
            flags |= byte == ' ' ? 0 : byte == '#' ? SCAN_BODY | SCAN_COMMENT : SCAN_BODY;
        else if (flags & SCAN_COMMENT)
            continue;
        else if (!(flags & SCAN_FIELDS))
            flags |= byte == ' ' && !escaped ? SCAN_FIELDS : 0;
        else if (byte == '=' && !escaped)
            flags |= SCAN_VALUE;
        else if (byte == '"' && value)
            flags |= SCAN_QUOTED;
        if (byte == '\\') flags |= SCAN_BODY;
    }
    state->flags = flags;
    state->scanned = size;
    return -1;
}

ptrdiff_t imv_line_find_end(const char *text, size_t size, struct imv_line_scan *state) {
    if (!(state->flags & SCAN_EXACT)) {
        const char *from = text + state->scanned;
        size_t left = size - state->scanned;
        const char *end = left == 0 ? NULL : memchr(from, '\n', left);
        size_t span = end == NULL ? left : (size_t)(end - from);
        if (span == 0 || memchr(from, '"', span) == NULL) {
            state->scanned = size;
            return end == NULL ? -1 : end - text;
        }
        *state = (struct imv_line_scan){.scanned = 0, .flags = SCAN_EXACT};
    }
    return find_end_exact(text, size, state);
}

void imv_line_scan_drop(const char *text, size_t size, struct imv_line_scan *state) {
    if (!(state->flags & SCAN_EXACT)) {
        /* A quote may yet come, and would send the scan back to the start of the line, which is gone then. */
        *state = (struct imv_line_scan){.scanned = 0, .flags = SCAN_EXACT};
        find_end_exact(text, size, state);
    }
    state->scanned = 0;
}

/* ---- sections ---- */

imv_status imv_line_split(const char *text, size_t size, enum imv_line_kind *kind, struct imv_line *line,
                          struct imv_error *err) {
    const char *at = text, *end = text + size;
    if (size > 0 && end[-1] == '\r') end--;
    while (at < end && *at == ' ') at++;
    *line = (struct imv_line){.raw_key = {at, 0}, .fields = end, .end = end};
    *kind = at == end ? IMV_LINE_BLANK : *at == '#' ? IMV_LINE_COMMENT : IMV_LINE_POINT;
    if (*kind == IMV_LINE_BLANK) return IMV_OK;
    if (*kind == IMV_LINE_COMMENT) {
        for (const char *p = at; p < end; p++) {
            if (class_of(*p) == CONTROL && *p != '\t') return fail_at(line, p, err, "control character in a comment");
        }
        line->raw_key.size = (size_t)(end - at);
        return IMV_OK;
    }
    if (size > IMV_LINE_BYTES_MAX)
        return imv_fail(err, IMV_INVALID, "line of %zu bytes: at most %d are allowed", size, IMV_LINE_BYTES_MAX);
    const char *space = at;
    do {
        space = memchr(space, ' ', (size_t)(end - space));
        if (space == NULL)
            space = end;
        else if (space[-1] == '\\')
            space++; /* escaped; the key's own parser looks closer */
        else
            break;
    } while (space < end);
    line->raw_key.size = (size_t)(space - at);
    while (space < end && *space == ' ') space++;
    line->fields = space;
    return IMV_OK;
}

/* ---- names, with escapes ---- */

/* A name runs to the first unescaped byte of a class in `stops`. A backslash before an escapable byte (a class in
 * `escapable`) is dropped; before anything else it stays. */
static imv_status take_name(const struct imv_line *line, const char **at, const char *end, unsigned stops,
                            unsigned escapable, struct imv_line_scratch *scratch, struct imv_str *name,
                            struct imv_error *err) {
    const char *start = *at, *p = start;
    unsigned seen = 0;
    char *copy = NULL; /* once an escape was dropped: the name so far is [scratch->next, copy) */
    while (p < end) {
        unsigned class = class_of(*p);
        if (class & stops) break;
        if (class == CONTROL) return fail_at(line, p, err, "control character in a name");
        seen |= class;
        if (class == BACKSLASH) {
            const char *next = p + 1;
            if (next == end) return fail_at(line, p, err, "a backslash with nothing to escape");
            unsigned next_class = class_of(*next);
            if (next_class == CONTROL) return fail_at(line, next, err, "control character in a name");
            if (next_class & escapable) {
                if (copy == NULL) {
                    imv_assert((size_t)(scratch->end - scratch->next) >= (size_t)(end - start));
                    memcpy(scratch->next, start, (size_t)(p - start));
                    copy = scratch->next + (p - start);
                }
                p = next; /* the backslash goes, what it escapes is an ordinary byte */
                seen |= next_class;
            }
        }
        if (copy != NULL) *copy++ = *p;
        p++;
    }
    if (copy != NULL) {
        *name = (struct imv_str){scratch->next, (size_t)(copy - scratch->next)};
        scratch->next = copy;
    } else {
        *name = (struct imv_str){start, (size_t)(p - start)};
    }
    if ((seen & HIGH) && !imv_utf8_valid(*name)) return fail_at(line, start, err, "invalid UTF-8 in a name");
    *at = p;
    return IMV_OK;
}

imv_status imv_line_key(const struct imv_line *line, struct imv_line_scratch *scratch, struct imv_str *measurement,
                        struct imv_line_tag *tags, size_t *tags_count, struct imv_error *err) {
    const char *at = line->raw_key.data, *end = at + line->raw_key.size;
    size_t count = 0;
    IMV_TRY(take_name(line, &at, end, COMMA | SPACE, COMMA | SPACE, scratch, measurement, err));
    if (measurement->size == 0) return fail_at(line, at, err, "expected a measurement");
    while (at < end && *at == ',') {
        at++;
        if (count == IMV_LINE_TAGS_MAX)
            return imv_fail(err, IMV_INVALID, "more than %d tags in a line", IMV_LINE_TAGS_MAX);
        struct imv_line_tag *tag = &tags[count++];
        const unsigned special = COMMA | SPACE | EQUALS;
        IMV_TRY(take_name(line, &at, end, special, special, scratch, &tag->key, err));
        if (tag->key.size == 0) return fail_at(line, at, err, "expected a tag key");
        if (at == end || *at != '=') return fail_at(line, at, err, "expected '=' after the tag key");
        at++;
        IMV_TRY(take_name(line, &at, end, special, special, scratch, &tag->value, err));
        if (tag->value.size == 0) return fail_at(line, at, err, "expected a tag value");
        if (at < end && *at == '=') return fail_at(line, at, err, "unescaped '=' in a tag value");
        for (size_t i = 0; i + 1 < count; i++) {
            if (imv_str_equal(tags[i].key, tag->key))
                return imv_fail(err, IMV_INVALID, "tag \"%.*s\" is given twice",
                                (int)(tag->key.size < 40 ? tag->key.size : 40), tag->key.data);
        }
    }
    if (at != end) return fail_at(line, at, err, "expected ',' or a space after a tag");
    *tags_count = count;
    return IMV_OK;
}

/* ---- field values ---- */

/* A string value: *at is after the opening quote. \" and \\ are escapes, every other backslash is itself, as in an
 * InfluxDB server. */
static imv_status take_string(const struct imv_line *line, const char **at, struct imv_line_scratch *scratch,
                              struct imv_str *text, struct imv_error *err) {
    const char *start = *at, *p = start;
    char *copy = NULL;
    for (; p < line->end && *p != '"'; p++) {
        if (*p == '\\' && p + 1 < line->end && (p[1] == '"' || p[1] == '\\')) {
            if (copy == NULL) {
                imv_assert((size_t)(scratch->end - scratch->next) >= (size_t)(line->end - start));
                memcpy(scratch->next, start, (size_t)(p - start));
                copy = scratch->next + (p - start);
            }
            p++;
        }
        if (copy != NULL) *copy++ = *p;
    }
    if (p == line->end) return fail_at(line, start - 1, err, "a string without its closing quote");
    if (copy != NULL) {
        *text = (struct imv_str){scratch->next, (size_t)(copy - scratch->next)};
        scratch->next = copy;
    } else {
        *text = (struct imv_str){start, (size_t)(p - start)};
    }
    if (!imv_utf8_valid(*text)) return fail_at(line, start - 1, err, "invalid UTF-8 in a string");
    *at = p + 1;
    return IMV_OK;
}

static bool take_boolean(struct imv_str word, uint64_t *cell) {
    static const char *const forms[2][5] = {{"f", "F", "false", "False", "FALSE"}, {"t", "T", "true", "True", "TRUE"}};
    for (int value = 0; value < 2; value++) {
        for (int i = 0; i < 5; i++) {
            if (imv_str_equal(word, imv_str_from(forms[value][i]))) {
                *cell = (uint64_t)value;
                return true;
            }
        }
    }
    return false;
}

static imv_status take_number(const struct imv_line *line, struct imv_str word, struct imv_line_field *field,
                              struct imv_error *err) {
    struct imv_str digits = {word.data, word.size - 1};
    bool parsed;
    switch (word.data[word.size - 1]) {
        case 'i': {
            int64_t value = 0;
            parsed = imv_decimal_int64(digits, &value);
            field->type = IMV_INTEGER;
            field->cell = (uint64_t)value;
            break;
        }
        case 'u':
            field->type = IMV_UINTEGER;
            parsed = imv_decimal_uint64(digits, &field->cell);
            break;
        default: {
            double value = 0;
            parsed = imv_decimal_float(word, &value) && isfinite(value);
            field->type = IMV_FLOAT;
            field->cell = imv_float_cell(value);
        }
    }
    if (parsed) return IMV_OK;
    return imv_fail(err, IMV_INVALID, "column %ld: '%.*s' is not a valid %s value, or out of its range",
                    (long)(word.data - line->raw_key.data) + 1, (int)(word.size < 40 ? word.size : 40), word.data,
                    imv_type_name(field->type));
}

static imv_status take_value(const struct imv_line *line, const char **at, struct imv_line_scratch *scratch,
                             struct imv_line_field *field, struct imv_error *err) {
    const char *start = *at, *p = start;
    if (p == line->end) return fail_at(line, p, err, "expected a field value");
    if (*p == '"') {
        *at = p + 1;
        field->type = IMV_STRING;
        return take_string(line, at, scratch, &field->text, err);
    }
    while (p < line->end && *p != ',' && *p != ' ') p++;
    struct imv_str word = {start, (size_t)(p - start)};
    *at = p;
    if (word.size == 0) return fail_at(line, start, err, "expected a field value");
    if ((*start >= '0' && *start <= '9') || *start == '-' || *start == '.') return take_number(line, word, field, err);
    field->type = IMV_BOOLEAN;
    if (take_boolean(word, &field->cell)) return IMV_OK;
    return fail_at(line, start, err, "expected a number, a boolean or a quoted string");
}

imv_status imv_line_field(const struct imv_line *line, const char **at, struct imv_line_scratch *scratch,
                          struct imv_line_field *field, bool *done, struct imv_error *err) {
    const char *p = *at;
    IMV_TRY(take_name(line, &p, line->end, COMMA | SPACE | EQUALS, COMMA | SPACE | EQUALS, scratch, &field->name, err));
    if (field->name.size == 0) return fail_at(line, p, err, "expected a field name");
    if (p == line->end || *p != '=') return fail_at(line, p, err, "expected '=' after the field name");
    p++;
    IMV_TRY(take_value(line, &p, scratch, field, err));
    *done = p == line->end || *p == ' ';
    if (!*done) {
        if (*p != ',') return fail_at(line, p, err, "expected ',' or a space after a field");
        p++;
    }
    *at = p;
    return IMV_OK;
}

/* ---- timestamp ---- */

int64_t imv_precision_unit(enum imv_precision precision) {
    switch (precision) {
        case IMV_PRECISION_NS: return 1;
        case IMV_PRECISION_US: return 1000;
        case IMV_PRECISION_MS: return 1000000;
        case IMV_PRECISION_S: return 1000000000;
        case IMV_PRECISION_M: return INT64_C(60) * 1000000000;
        case IMV_PRECISION_H: return INT64_C(3600) * 1000000000;
    }
    return 1;
}

imv_status imv_line_timestamp(const struct imv_line *line, const char *at, enum imv_precision precision,
                              int64_t *timestamp, bool *present, struct imv_error *err) {
    while (at < line->end && *at == ' ') at++;
    *present = at < line->end;
    if (!*present) return IMV_OK;
    const char *p = at;
    while (p < line->end && *p != ' ') p++;
    int64_t count;
    if (!imv_decimal_int64((struct imv_str){at, (size_t)(p - at)}, &count) ||
        __builtin_mul_overflow(count, imv_precision_unit(precision), timestamp))
        return fail_at(line, at, err, "the timestamp is not an integer, or out of the range of 64-bit nanoseconds,");
    while (p < line->end && *p == ' ') p++;
    return p == line->end ? IMV_OK : fail_at(line, p, err, "text after the timestamp");
}

int64_t imv_precision_floor(enum imv_precision precision, int64_t timestamp) {
    int64_t unit = imv_precision_unit(precision);
    int64_t rest = timestamp % unit;
    return timestamp - (rest < 0 ? rest + unit : rest);
}
