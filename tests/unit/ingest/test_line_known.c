#include "ingest/line_known.h"

#include "ingest/line.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIELDS = 8, SHAPES = 4, TEXT_MAX = 1024 };

static const struct imv_field fields[FIELDS] = {{{"i", 1}, 0, IMV_INTEGER},    {{"usage_user", 10}, 1, IMV_INTEGER},
                                                {{"f", 1}, 2, IMV_FLOAT},      {{"temperature", 11}, 3, IMV_FLOAT},
                                                {{"ok", 2}, 4, IMV_BOOLEAN},   {{"count", 5}, 5, IMV_UINTEGER},
                                                {{"state", 5}, 6, IMV_STRING}, {{"note_long", 9}, 7, IMV_STRING}};

/* Random shapes, the first a prefix of the second now and then. */
static void make_shapes(struct imv_prng *prng, struct imv_shape **shapes) {
    for (int s = 0; s < SHAPES; s++) {
        shapes[s] = calloc(1, sizeof *shapes[s] + FIELDS * sizeof shapes[s]->fields[0]);
        uint32_t start = 0;
        if (s > 0 && imv_prng_below(prng, 2) == 0) {
            start = (uint32_t)imv_prng_below(prng, shapes[s - 1]->count) + 1;
            memcpy(shapes[s]->fields, shapes[s - 1]->fields, start * sizeof shapes[s]->fields[0]);
        }
        shapes[s]->count = start;
        for (uint32_t wanted = start + 1 + (uint32_t)imv_prng_below(prng, 3); shapes[s]->count < wanted;) {
            const struct imv_field *field = &fields[imv_prng_below(prng, FIELDS)];
            bool taken = false;
            for (uint32_t i = 0; i < shapes[s]->count; i++) taken = taken || shapes[s]->fields[i] == field;
            if (!taken) shapes[s]->fields[shapes[s]->count++] = field;
            if (shapes[s]->count == FIELDS) break;
        }
    }
}

static int put_value(struct imv_prng *prng, char *to, imv_type type) {
    static const char *const texts[] = {"",           "on",   "a b,c=d",     "caf\xc3\xa9 au lait",
                                        "line\nfeed", "\xff", "# no comment"};
    int64_t integer = (int64_t)imv_prng_next(prng) >> imv_prng_below(prng, 64);
    switch (type) {
        case IMV_INTEGER: return sprintf(to, "%lldi", (long long)integer);
        case IMV_UINTEGER: return sprintf(to, "%lluu", (unsigned long long)integer);
        case IMV_BOOLEAN: {
            static const char *const forms[] = {"t", "F", "true", "false", "TRUE", "False"};
            return sprintf(to, "%s", forms[imv_prng_below(prng, 6)]);
        }
        case IMV_STRING: return sprintf(to, "\"%s\"", texts[imv_prng_below(prng, 7)]);
        case IMV_FLOAT: break;
    }
    double value = (imv_prng_unit(prng) - 0.5) * (double)(integer >> 40);
    return sprintf(to, imv_prng_below(prng, 4) == 0 ? "%.17g" : "%.3f", value);
}

/* A line of a shape, without its key. */
static size_t make_line(struct imv_prng *prng, const struct imv_shape *shape, char *text) {
    size_t size = 0;
    for (uint32_t i = 0; i < shape->count; i++) {
        size += (size_t)sprintf(text + size, "%s%s=", i > 0 ? "," : "", shape->fields[i]->name.data);
        size += (size_t)put_value(prng, text + size, shape->fields[i]->type);
    }
    if (imv_prng_below(prng, 8) > 0) {
        int64_t time = (int64_t)imv_prng_next(prng) >> imv_prng_below(prng, 64);
        size += (size_t)sprintf(text + size, " %lld", (long long)time);
    }
    return size;
}

/* Spoils one byte, or doubles, drops or cuts there. */
static size_t spoil(struct imv_prng *prng, char *text, size_t size) {
    static const char bytes[] = ",= \"i-+.e0019tTfu\r\x01#u\xc3";
    if (size == 0) return 0;
    size_t at = imv_prng_below(prng, size);
    char byte = bytes[imv_prng_below(prng, sizeof bytes - 1)];
    switch (imv_prng_below(prng, 4)) {
        case 0: text[at] = byte; return size;
        case 1: memmove(text + at, text + at + 1, size - at - 1); return size - 1;
        case 2: return at;
        default:
            memmove(text + at + 1, text + at, size - at);
            text[at] = byte;
            return size + 1;
    }
}

/* The known way's answer must be that of the grammar; returns whether the line was known. */
static bool check(const struct imv_shape *const *shapes, const char *text, size_t size, int64_t unit_ns) {
    /* Of the exact size, so that a sanitizer sees the first byte beyond; the key makes columns right. */
    size_t key = 2, room = imv_line_known_row_bytes(size);
    char *copy = malloc(key + size + 1 + IMV_LINE_PADDING), *memory = malloc(size + 16);
    struct imv_row *row = malloc(room);
    memcpy(copy, "m ", key);
    memcpy(copy + key, text, size);
    memset(copy + key + size, 0, 1 + IMV_LINE_PADDING);
    copy[key + size] = '\n';
    const char *end = copy + key + size;
    if (size > 0 && end[-1] == '\r') end--;
    struct imv_line_known known;
    bool taken = imv_line_known_parse(copy + key, end, shapes, SHAPES, unit_ns, row, room, &known);

    struct imv_line line;
    enum imv_line_kind kind;
    struct imv_error err;
    imv_status status = imv_line_split(copy, key + size, &kind, &line, &err);
    struct imv_line_scratch scratch = {memory, memory + size + 16};
    const char *at = line.fields;
    bool done = false, present;
    for (uint32_t i = 0; status == IMV_OK && !done; i++) {
        struct imv_line_field field;
        status = imv_line_field(&line, &at, &scratch, &field, &done, &err);
        if (status != IMV_OK || !taken) continue;
        cr_assert_lt(i, known.shape->count, "%.*s", (int)size, text);
        const struct imv_field *of = known.shape->fields[i];
        cr_assert(of->type == field.type && imv_str_equal(of->name, field.name), "%.*s", (int)size, text);
        if (field.type == IMV_STRING)
            cr_assert(imv_str_equal(imv_cell_str(row->cells[i]), field.text), "%.*s", (int)size, text);
        else
            cr_assert_eq(row->cells[i], field.cell, "%.*s", (int)size, text);
        if (done) cr_assert_eq(i + 1, known.shape->count, "%.*s", (int)size, text);
    }
    int64_t timestamp;
    if (status == IMV_OK) {
        status = imv_line_timestamp(&line, at, unit_ns == 1 ? IMV_PRECISION_NS : IMV_PRECISION_S, &timestamp, &present,
                                    &err);
    }
    cr_assert(!taken || status == IMV_OK, "%.*s: %s", (int)size, text, err.message);
    if (taken) {
        cr_assert_eq(known.timestamp_present, present);
        if (present) cr_assert_eq(known.timestamp, timestamp);
        row->shape = known.shape;
        struct imv_shape *counted = (struct imv_shape *)(uintptr_t)known.shape;
        counted->strings_count = 0;
        for (uint32_t i = 0; i < known.shape->count; i++)
            counted->strings_count += known.shape->fields[i]->type == IMV_STRING;
        cr_assert_eq(known.bytes, imv_row_bytes(row));
        cr_assert_leq(known.bytes, room);
    }
    free(row);
    free(memory);
    free(copy);
    return taken;
}

Test(line_known, what_is_known_is_what_the_grammar_says, .timeout = 120) {
    /* A line that is taken has the fields, cells and time that line.h finds in it, and none that line.h refuses is
     * taken, for lines of the shapes, of their starts, of others, and spoilt ones. Most of the plain ones are taken. */
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    long lines = 0, taken = 0;
    for (int round = 0; round < 20000; round++) {
        struct imv_shape *shapes[SHAPES], *given[SHAPES] = {0};
        make_shapes(&prng, shapes);
        memcpy(given, shapes, (1 + imv_prng_below(&prng, SHAPES)) * sizeof given[0]);
        for (int i = 0; i < 12; i++) {
            char text[2 * TEXT_MAX];
            size_t size = make_line(&prng, shapes[imv_prng_below(&prng, SHAPES)], text);
            int64_t unit_ns = imv_prng_below(&prng, 4) == 0 ? 1000000000 : 1;
            bool plain = i % 3 == 0;
            for (uint64_t n = plain ? 0 : 1 + imv_prng_below(&prng, 2); n > 0; n--) size = spoil(&prng, text, size);
            if (memchr(text, '\\', size) != NULL) continue;
            bool was_taken = check((const struct imv_shape *const *)given, text, size, unit_ns);
            lines += plain;
            taken += plain && was_taken;
        }
        for (int s = 0; s < SHAPES; s++) free(shapes[s]);
    }
    cr_assert_gt(taken, lines / 4, "%ld of %ld", taken, lines);
}

Test(line_known, every_prefix_is_safe) {
    /* However a line is cut, nothing beyond it is read, and the answer is the grammar's. */
    struct imv_shape *shape = calloc(1, sizeof *shape + FIELDS * sizeof shape->fields[0]);
    shape->count = FIELDS;
    for (uint32_t i = 0; i < FIELDS; i++) shape->fields[i] = &fields[i];
    static const char line[] =
        "i=-123456789012345i,usage_user=7i,f=1.25e3,temperature=-12.0625,ok=true,count=5u,state=\"a,b"
        " c\",note_long=\"\" 1767225600123456789";
    const struct imv_shape *shapes[SHAPES] = {shape};
    for (size_t size = 0; size < sizeof line; size++) check(shapes, line, size, 1);
    cr_assert(check(shapes, line, sizeof line - 1, 1));
    free(shape);
}

Test(line_known, a_shape_larger_than_the_line_has_no_room_for_strings) {
    /* A string of a short line is not put behind the cells of a long shape, where the row has no room. */
    enum { MANY = 500 };
    struct imv_shape *shape = calloc(1, sizeof *shape + MANY * sizeof shape->fields[0]);
    shape->count = MANY;
    for (uint32_t i = 0; i < MANY; i++) shape->fields[i] = &fields[i == 0 ? 6 : 0];
    const struct imv_shape *shapes[SHAPES] = {shape};
    cr_assert_not(check(shapes, "state=\"on\" 1", 12, 1));
    free(shape);
}
