/* The public corpus of line protocol (github.com/influxdata/line-protocol) against our parser, every case, whole and in
 * pieces. Differences that are on purpose stand in `differences` with their reason; any other fails. */
#include "ingest/line.h"
#include "ingest/line_known.h"
#include "ingest/line_spans.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- reading the corpus ---- */

static char *corpus_path(void) {
    static char path[4096];
    const char *shared = getenv("IMV_SHARED");
    snprintf(path, sizeof path, "%s/conformance/line-protocol/corpus.json",
             shared != NULL ? shared : IMV_SOURCE_DIR "/../shared");
    return path;
}

/* jansson's integers are signed: a "uint" above 2^63 - 1 is rewritten in place as the signed number of the same bits,
 * which never takes more characters. */
static void rewrite_large_uints(char *text) {
    for (char *at = text; (at = strstr(at, "\"uint\"")) != NULL;) {
        at += strlen("\"uint\"");
        at += strspn(at, ": ");
        size_t digits = strspn(at, "0123456789");
        unsigned long long value = strtoull(at, NULL, 10);
        if (value <= INT64_MAX) continue;
        char copy[32];
        int size = snprintf(copy, sizeof copy, "%lld", (long long)value);
        memset(at, ' ', digits);
        memcpy(at, copy, (size_t)size);
    }
}

/* NULL when the corpus is not there. */
static json_t *load_corpus(void) {
    FILE *file = fopen(corpus_path(), "r");
    if (file == NULL) return NULL;
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    cr_assert_eq(fread(text, 1, size, file), size);
    text[size] = 0;
    fclose(file);
    rewrite_large_uints(text);
    json_error_t error;
    json_t *corpus = json_loads(text, JSON_ALLOW_NUL, &error);
    cr_assert_not_null(corpus, "%s: %s at line %d", corpus_path(), error.text, error.line);
    free(text);
    return corpus;
}

static int base64_digit(char c) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == 0 ? NULL : strchr(alphabet, c);
    return at == NULL ? -1 : (int)(at - alphabet);
}

/* The bytes of a text member: a JSON string, or {"binary": base64}. The caller frees them. */
static char *text_of(json_t *member, size_t *size) {
    if (json_is_string(member)) {
        *size = json_string_length(member);
        char *copy = malloc(*size + 1);
        memcpy(copy, json_string_value(member), *size);
        return copy;
    }
    const char *code = json_string_value(json_object_get(member, "binary"));
    cr_assert_not_null(code);
    char *bytes = malloc(strlen(code) + 1);
    unsigned bits = 0, held = 0;
    *size = 0;
    for (; *code != 0 && *code != '='; code++) {
        bits = bits << 6 | (unsigned)base64_digit(*code);
        held += 6;
        if (held >= 8) bytes[(*size)++] = (char)(bits >> (held -= 8) & 0xff);
    }
    return bytes;
}

static enum imv_precision precision_of(const char *name) {
    if (strcmp(name, "1ns") == 0) return IMV_PRECISION_NS;
    if (strcmp(name, "1ms") == 0) return IMV_PRECISION_MS;
    if (strcmp(name, "1s") == 0) return IMV_PRECISION_S;
    return IMV_PRECISION_US;
}

/* ---- parsing a text into the corpus's own form ---- */

static int compare_tags(const void *a, const void *b) {
    return imv_str_compare(((const struct imv_line_tag *)a)->key, ((const struct imv_line_tag *)b)->key);
}

static json_t *string_of(struct imv_str text) { return json_stringn_nocheck(text.data, text.size); }

static json_t *field_value(const struct imv_line_field *field) {
    switch (field->type) {
        case IMV_FLOAT: return json_pack("{s:f}", "float", imv_cell_float(field->cell));
        case IMV_INTEGER: return json_pack("{s:I}", "int", (json_int_t)field->cell);
        case IMV_UINTEGER: return json_pack("{s:I}", "uint", (json_int_t)field->cell);
        case IMV_BOOLEAN: return json_pack("{s:b}", "bool", (int)field->cell);
        case IMV_STRING: return json_pack("{s:o}", "string", string_of(field->text));
    }
    return NULL;
}

/* One line to a point, appended to points. */
static imv_status parse_line(const char *text, size_t size, enum imv_precision precision, int64_t now, json_t *points,
                             struct imv_error *err) {
    enum imv_line_kind kind;
    struct imv_line line;
    IMV_TRY(imv_line_split(text, size, &kind, &line, err));
    if (kind != IMV_LINE_POINT) return IMV_OK;
    char *memory = malloc(size + 1);
    struct imv_line_scratch scratch = {memory, memory + size};
    struct imv_str measurement;
    struct imv_line_tag tags[IMV_LINE_TAGS_MAX];
    size_t tags_count;
    json_t *tag_list = json_array(), *field_list = json_array();
    const char *at = line.fields;
    bool done = false, present;
    int64_t timestamp = 0;
    imv_status status = imv_line_key(&line, &scratch, &measurement, tags, &tags_count, err);
    while (status == IMV_OK && !done) {
        struct imv_line_field field;
        status = imv_line_field(&line, &at, &scratch, &field, &done, err);
        if (status == IMV_OK)
            json_array_append_new(field_list,
                                  json_pack("{s:o,s:o}", "key", string_of(field.name), "value", field_value(&field)));
    }
    if (status == IMV_OK) status = imv_line_timestamp(&line, at, precision, &timestamp, &present, err);
    if (status == IMV_OK) {
        qsort(tags, tags_count, sizeof *tags, compare_tags);
        for (size_t i = 0; i < tags_count; i++)
            json_array_append_new(
                tag_list, json_pack("{s:o,s:o}", "key", string_of(tags[i].key), "value", string_of(tags[i].value)));
        json_array_append_new(points,
                              json_pack("{s:I,s:o,s:O,s:O}", "time",
                                        (json_int_t)(present ? timestamp : imv_precision_floor(precision, now)), "name",
                                        string_of(measurement), "tags", tag_list, "fields", field_list));
    }
    json_decref(tag_list);
    json_decref(field_list);
    free(memory);
    return status;
}

/* The whole text, all or nothing, offered in pieces of at most `piece` bytes. NULL when it is refused. */
static json_t *parse_text(const char *text, size_t size, size_t piece, enum imv_precision precision, int64_t now) {
    json_t *points = json_array();
    size_t start = 0;
    struct imv_line_scan scan = {0};
    for (size_t have = 0; start < size;) {
        have = size - have < piece ? size : have + piece;
        ptrdiff_t end;
        while (start < have && (end = imv_line_find_end(text + start, have - start, &scan)) >= 0) {
            if (parse_line(text + start, (size_t)end, precision, now, points, NULL) != IMV_OK) goto refused;
            start += (size_t)end + 1;
            scan = (struct imv_line_scan){0};
        }
        if (have == size && start < size) {
            if (parse_line(text + start, size - start, precision, now, points, NULL) != IMV_OK) goto refused;
            break;
        }
    }
    return points;
refused:
    json_decref(points);
    return NULL;
}

/* ---- the quick way ---- */

/* Parses a simple line by the shape that the grammar finds in it: the same cells, or not known. Returns whether
 * known. */
static bool known_like_grammar(const char *text, const struct imv_line_span *span) {
    enum { FIELDS_MAX = 16 };
    size_t length = span->end - span->start, room = imv_line_known_row_bytes(length);
    char *copy = calloc(1, length + 1 + IMV_LINE_PADDING), *memory = malloc(length + 1);
    struct imv_shape *shape = calloc(1, sizeof *shape + FIELDS_MAX * sizeof shape->fields[0]);
    struct imv_row *row = malloc(room);
    struct imv_field made[FIELDS_MAX];
    struct imv_line_field fields[FIELDS_MAX];
    memcpy(copy, text + span->start, length + 1);
    struct imv_line line;
    enum imv_line_kind kind;
    struct imv_line_scratch scratch = {memory, memory + length + 1};
    imv_status status = imv_line_split(copy, length, &kind, &line, NULL);
    const char *at = line.fields;
    uint32_t count = 0;
    for (bool done = false; status == IMV_OK && !done && count < FIELDS_MAX; count++) {
        status = imv_line_field(&line, &at, &scratch, &fields[count], &done, NULL);
        made[count] = (struct imv_field){fields[count].name, count, fields[count].type};
        shape->fields[count] = &made[count];
    }
    bool present, known_line = false;
    int64_t timestamp;
    struct imv_line_known known;
    if (status == IMV_OK) {
        status = imv_line_timestamp(&line, at, IMV_PRECISION_NS, &timestamp, &present, NULL);
        shape->count = count;
        known_line = imv_line_known_parse(copy + (span->key_end - span->start) + 1, line.end,
                                          (const struct imv_shape *const *)&shape, 1, 1, row, room, &known);
    }
    if (known_line) {
        cr_assert_eq(status, IMV_OK, "%.*s", (int)length, copy);
        cr_assert(known.shape == shape && present == known.timestamp_present &&
                  (!present || timestamp == known.timestamp));
        for (uint32_t i = 0; i < count; i++) {
            cr_assert(fields[i].type == IMV_STRING ? imv_str_equal(imv_cell_str(row->cells[i]), fields[i].text)
                                                   : row->cells[i] == fields[i].cell,
                      "%.*s", (int)length, copy);
        }
    }
    free(row);
    free(shape);
    free(memory);
    free(copy);
    return known_line;
}

/* The passes mark the same bits, and simple lines end where the grammar ends them. Returns how many are known. */
static int check_quick_way(const char *text, size_t size) {
    struct imv_line_spans spans;
    struct imv_line_span found;
    uint64_t bits[4];
    int known = 0;
    for (size_t at = 0; at < size; at += IMV_LINE_BLOCK_BYTES) {
        char block[IMV_LINE_BLOCK_BYTES] = {0};
        memcpy(block, text + at, size - at < sizeof block ? size - at : sizeof block);
        imv_line_class_plain(block, 1, &bits[0], &bits[1]);
        imv_line_class_best()(block, 1, &bits[2], &bits[3]);
        cr_assert(bits[0] == bits[2] && bits[1] == bits[3]);
    }
    imv_line_spans_init(&spans, text, size);
    for (size_t at = 0; at < size;) {
        struct imv_line_scan scan = {0};
        ptrdiff_t end = imv_line_find_end(text + at, size - at, &scan);
        if (imv_line_spans_find(&spans, at, &found, 1) == 1) {
            cr_assert(found.start == at && end >= 0 && found.end == at + (size_t)end);
            known += known_like_grammar(text, &found);
        }
        if (end < 0) break;
        at += (size_t)end + 1;
    }
    return known;
}

/* ---- differences on purpose ---- */

struct count {
    int cases, passed, differences;
};

static bool has(const char *text, size_t size, const char *needle) {
    return memmem(text, size, needle, strlen(needle)) != NULL;
}

/* The reason why our result may differ from the corpus's, or NULL. */
static const char *difference(const char *text, size_t size, bool refused_by_corpus) {
    if (!refused_by_corpus && (has(text, size, "\\n") || has(text, size, "\\r") || has(text, size, "\\t")))
        return "a string keeps \\n, \\r and \\t as two characters, as InfluxDB servers store them";
    if (!refused_by_corpus && has(text, size, "=-"))
        return "the sign of a negative zero is kept; the corpus's JSON lost it";
    return NULL;
}

static bool numbers_equal(json_t *a, json_t *b) {
    if (json_is_integer(a) && json_is_integer(b)) return json_integer_value(a) == json_integer_value(b);
    double x = json_number_value(a), y = json_number_value(b);
    return memcmp(&x, &y, sizeof x) == 0;
}

/* json_equal, but 1 equals 1.0 where the corpus prints a double without its point. */
static bool same(json_t *a, json_t *b) {
    if (json_is_number(a) && json_is_number(b)) return numbers_equal(a, b);
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b)) return false;
        for (size_t i = 0; i < json_array_size(a); i++) {
            if (!same(json_array_get(a, i), json_array_get(b, i))) return false;
        }
        return true;
    }
    if (json_is_object(a)) {
        if (json_object_size(a) != json_object_size(b)) return false;
        const char *key;
        json_t *value;
        json_object_foreach(a, key, value) {
            json_t *other = json_object_get(b, key);
            if (other == NULL || !same(value, other)) return false;
        }
        return true;
    }
    return json_equal(a, b);
}

Test(line_corpus, every_decode_case_is_met_or_differs_for_a_listed_reason) {
    json_t *corpus = load_corpus();
    if (corpus == NULL) cr_skip_test("the corpus is not here: %s", corpus_path());
    struct count accepted = {0}, refused = {0};
    int unexplained = 0, known = 0;
    const char *key;
    json_t *entry;
    json_object_foreach(json_object_get(corpus, "decode"), key, entry) {
        json_t *input = json_object_get(entry, "input"), *output = json_object_get(entry, "output");
        size_t size;
        char *text = text_of(json_object_get(input, "text"), &size);
        enum imv_precision precision = precision_of(json_string_value(json_object_get(input, "precision")));
        int64_t now = json_integer_value(json_object_get(input, "defaultTime"));
        json_t *expected = json_object_get(output, "result");
        struct count *count = expected != NULL ? &accepted : &refused;
        json_t *whole = parse_text(text, size, size, precision, now);
        json_t *bytewise = parse_text(text, size, 1, precision, now);
        cr_expect((whole == NULL) == (bytewise == NULL) && (whole == NULL || json_equal(whole, bytewise)),
                  "%s: pieces give another result", key);
        char *ended = malloc(size + 1); /* most texts of the corpus lack their last line feed */
        memcpy(ended, text, size);
        ended[size] = '\n';
        known += check_quick_way(ended, size + 1);
        free(ended);
        count->cases++;
        bool met = expected == NULL ? whole == NULL : whole != NULL && same(whole, expected);
        const char *reason = met ? NULL : difference(text, size, expected == NULL);
        if (met)
            count->passed++;
        else if (reason != NULL) {
            count->differences++;
            fprintf(stderr, "differs: %s: %s\n", key, reason);
        } else {
            unexplained++;
            char *dump = whole == NULL ? NULL : json_dumps(whole, JSON_COMPACT);
            char *want = expected == NULL ? NULL : json_dumps(expected, JSON_COMPACT);
            fprintf(stderr, "unexplained: %s: %.*s\n  have %s\n  want %s\n", key, (int)(size < 200 ? size : 200), text,
                    dump == NULL ? "refused" : dump, want == NULL ? "refused" : want);
            free(dump);
            free(want);
        }
        json_decref(whole);
        json_decref(bytewise);
        free(text);
    }
    fprintf(stderr, "decode results %d/%d (%d differ on purpose), decode errors %d/%d (%d differ on purpose)\n",
            accepted.passed, accepted.cases, accepted.differences, refused.passed, refused.cases, refused.differences);
    fprintf(stderr, "of these lines %d are known when their shape is\n", known);
    cr_expect_gt(known, 100);
    cr_expect_eq(unexplained, 0, "%d cases differ without a reason", unexplained);
    cr_expect_gt(accepted.cases + refused.cases, 4000);
    json_decref(corpus);
}
