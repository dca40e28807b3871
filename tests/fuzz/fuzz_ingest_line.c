/* Any bytes: lines are found, split and parsed without reading beyond them, and a scan in two pieces ends where a scan
 * in one does. Lines that the quick ways take (line_spans.h, line_known.h) are what the grammar says they are. */
#include "ingest/line.h"
#include "ingest/line_known.h"
#include "ingest/line_spans.h"
#include "storage/base/assert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_line(const char *text, size_t size) {
    static char memory[IMV_LINE_BYTES_MAX + 1];
    static struct imv_line_tag tags[IMV_LINE_TAGS_MAX];
    struct imv_error err;
    enum imv_line_kind kind;
    struct imv_line line;
    if (imv_line_split(text, size, &kind, &line, &err) != IMV_OK || kind != IMV_LINE_POINT) return;
    struct imv_line_scratch scratch = {memory, memory + size};
    struct imv_str measurement;
    size_t tags_count;
    if (imv_line_key(&line, &scratch, &measurement, tags, &tags_count, &err) != IMV_OK) return;
    const char *at = line.fields;
    bool done = false, present;
    while (!done) {
        struct imv_line_field field;
        if (imv_line_field(&line, &at, &scratch, &field, &done, &err) != IMV_OK) return;
    }
    int64_t timestamp;
    imv_line_timestamp(&line, at, IMV_PRECISION_MS, &timestamp, &present, &err);
}

/* Lines of these fields, or of the first of them, are known. */
static const struct imv_field fields[] = {{{"v", 1}, 0, IMV_INTEGER},
                                          {{"f", 1}, 1, IMV_FLOAT},
                                          {{"ok", 2}, 2, IMV_BOOLEAN},
                                          {{"s", 1}, 3, IMV_STRING},
                                          {{"u", 1}, 4, IMV_UINTEGER}};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static void compare_known(const char *key, size_t key_bytes, const char *end, const struct imv_row *row,
                          const struct imv_line_known *known) {
    static char memory[IMV_LINE_BYTES_MAX + 1];
    struct imv_line_scratch scratch = {memory, memory + sizeof memory};
    struct imv_line line = {{key, key_bytes}, key + key_bytes + 1, end};
    const char *at = line.fields;
    bool done = false, present;
    uint32_t count = 0;
    for (; !done; count++) {
        struct imv_line_field field;
        imv_status status = imv_line_field(&line, &at, &scratch, &field, &done, NULL);
        imv_assert(status == IMV_OK && count < known->shape->count && field.type == known->shape->fields[count]->type);
        imv_assert(imv_str_equal(field.name, known->shape->fields[count]->name));
        if (field.type == IMV_STRING)
            imv_assert(imv_str_equal(field.text, imv_cell_str(row->cells[count])));
        else
            imv_assert(field.cell == row->cells[count]);
    }
    int64_t timestamp;
    imv_status status = imv_line_timestamp(&line, at, IMV_PRECISION_NS, &timestamp, &present, NULL);
    imv_assert(status == IMV_OK && count == known->shape->count && present == known->timestamp_present);
    imv_assert(!present || timestamp == known->timestamp);
}

static void parse_known(const char *text, const struct imv_line_span *span) {
    static struct imv_shape *shapes[FIELDS];
    for (uint32_t i = 0; i < FIELDS && shapes[i] == NULL; i++) {
        shapes[i] = calloc(1, sizeof *shapes[i] + FIELDS * sizeof shapes[i]->fields[0]);
        shapes[i]->count = FIELDS - i;
        for (uint32_t f = 0; f < FIELDS; f++) shapes[i]->fields[f] = &fields[f];
    }
    size_t length = span->end - span->start, key_bytes = span->key_end - span->start;
    char *copy = malloc(length + 1 + IMV_LINE_PADDING);
    memcpy(copy, text + span->start, length + 1);
    memset(copy + length + 1, 0, IMV_LINE_PADDING);
    const char *end = copy + length;
    if (end[-1] == '\r') end--;
    size_t room = imv_line_known_row_bytes(length - key_bytes);
    struct imv_row *row = malloc(room);
    struct imv_line_known known;
    if (imv_line_known_parse(copy + key_bytes + 1, end, (const struct imv_shape *const *)shapes, FIELDS, 1, row, room,
                             &known)) {
        compare_known(copy, key_bytes, end, row, &known);
    }
    free(row);
    free(copy);
}

static void find_spans(const char *text, size_t size) {
    struct imv_line_spans spans;
    struct imv_line_span found[3];
    imv_line_spans_init(&spans, text, size);
    for (size_t at = 0, count; (count = imv_line_spans_find(&spans, at, found, 3)) > 0;) {
        for (size_t i = 0; i < count; i++) {
            struct imv_line_scan scan = {0};
            imv_assert(found[i].start == at);
            ptrdiff_t end = imv_line_find_end(text + at, size - at, &scan);
            imv_assert(end >= 0 && at + (size_t)end == found[i].end);
            parse_known(text, &found[i]);
            at = found[i].end + 1;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size == 0 ? 1 : size);
    memcpy(text, data, size);
    for (size_t start = 0; start < size;) {
        struct imv_line_scan whole = {0}, pieces = {0};
        ptrdiff_t end = imv_line_find_end(text + start, size - start, &whole);
        ptrdiff_t early = imv_line_find_end(text + start, (size - start) / 2, &pieces);
        ptrdiff_t again = early >= 0 ? early : imv_line_find_end(text + start, size - start, &pieces);
        imv_assert(end == again);
        size_t length = end < 0 ? size - start : (size_t)end;
        parse_line(text + start, length);
        find_spans(text + start, size - start);
        start += length + 1;
    }
    free(text);
    return 0;
}
