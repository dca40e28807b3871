/* Any bytes: lines are found, split and parsed without reading beyond them, and a scan in two pieces ends where a scan in
 * one does. */
#include "ingest/line.h"
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
        start += length + 1;
    }
    free(text);
    return 0;
}
