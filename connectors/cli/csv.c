#include "connectors/cli/csv.h"

#include <inttypes.h>

char imv_csv_find_delimiter(struct imv_str text) {
    static const char candidates[] = {',', ';', '\t', '|'};
    size_t counts[sizeof candidates] = {0};
    bool quoted = false;
    for (size_t i = 0; i < text.size && (quoted || text.data[i] != '\n'); i++) {
        if (text.data[i] == '"') quoted = !quoted;
        for (size_t c = 0; c < sizeof candidates && !quoted; c++) counts[c] += text.data[i] == candidates[c];
    }
    size_t best = 0;
    for (size_t c = 1; c < sizeof candidates; c++) {
        if (counts[c] > counts[best]) best = c;
    }
    return candidates[best];
}

void imv_csv_init(struct imv_csv_reader *reader, struct imv_str text, char delimiter) {
    reader->text = text;
    reader->delimiter = delimiter;
    reader->at = text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    reader->record = 0;
    reader->count = 0;
    imv_arena_init(&reader->arena, 4096, NULL);
}

void imv_csv_release(struct imv_csv_reader *reader) { imv_arena_release(&reader->arena); }

/* A cell that starts with a quote; *at is after it. The text up to the closing quote, doubled quotes made single. */
static imv_status quoted_cell(struct imv_csv_reader *reader, const char **at, const char *end, struct imv_str *cell,
                              struct imv_error *err) {
    const char *start = *at, *p = start;
    size_t doubled = 0;
    for (; p < end; p++) {
        if (*p != '"') continue;
        if (p + 1 == end || p[1] != '"') break;
        doubled++;
        p++;
    }
    if (p == end) return imv_fail(err, IMV_INVALID, "record %" PRIu64 ": a quote does not close", reader->record);
    *cell = (struct imv_str){start, (size_t)(p - start)};
    *at = p + 1;
    if (doubled == 0) return IMV_OK;
    char *copy = imv_arena_alloc(&reader->arena, cell->size);
    if (copy == NULL) return imv_fail(err, IMV_NO_MEMORY, "record %" PRIu64 ": no memory", reader->record);
    size_t used = 0;
    for (size_t i = 0; i < cell->size; i++) {
        copy[used++] = start[i];
        if (start[i] == '"') i++;
    }
    *cell = (struct imv_str){copy, used};
    return IMV_OK;
}

static imv_status read_cells(struct imv_csv_reader *reader, const char **at, const char *end, struct imv_error *err) {
    reader->count = 0;
    for (;;) {
        if (reader->count == IMV_CSV_COLUMNS_MAX)
            return imv_fail(err, IMV_INVALID, "record %" PRIu64 ": more than %d columns", reader->record,
                            IMV_CSV_COLUMNS_MAX);
        struct imv_str *cell = &reader->cells[reader->count++];
        if (*at < end && **at == '"') {
            (*at)++;
            IMV_TRY(quoted_cell(reader, at, end, cell, err));
        } else {
            const char *start = *at;
            while (*at < end && **at != reader->delimiter && **at != '\n') (*at)++;
            *cell = (struct imv_str){start, (size_t)(*at - start)};
            if (cell->size > 0 && (*at == end || **at == '\n') && cell->data[cell->size - 1] == '\r') cell->size--;
        }
        if (*at < end && **at == '\r') (*at)++; /* after a quoted cell */
        if (*at == end || **at == '\n') break;
        if (**at != reader->delimiter)
            return imv_fail(err, IMV_INVALID, "record %" PRIu64 ": text after a closing quote", reader->record);
        (*at)++;
    }
    if (*at < end) (*at)++;
    return IMV_OK;
}

imv_status imv_csv_next(struct imv_csv_reader *reader, bool *end, struct imv_error *err) {
    const char *at = reader->text.data + reader->at, *stop = reader->text.data + reader->text.size;
    while (at < stop && (*at == '\n' || (*at == '\r' && at + 1 < stop && at[1] == '\n'))) at++;
    *end = at == stop;
    if (*end) return IMV_OK;
    imv_arena_release(&reader->arena);
    reader->record++;
    imv_status status = read_cells(reader, &at, stop, err);
    reader->at = (size_t)(at - reader->text.data);
    return status;
}
