/* tck.c - see tck.h. A small reader of the Gherkin that the TCK uses. */
#include "tests/support/tck.h"

#include <ctype.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 16 };

/* One scenario as read, before its outline is expanded. */
struct scenario {
    char *query;
    char *error; /* "a SyntaxError should be raised at compile time: Detail", or NULL */
    bool outline;
};

struct reader {
    struct imv_tck *tck;
    const char *file;
    struct scenario scenario;
    char *columns[COLUMNS_MAX]; /* of the Examples table being read; NULL: not in a table */
    int columns_count;
    bool in_examples;
};

static struct imv_tck *loading; /* nftw has no context */

/* ---- text ---- */

static char *trimmed(char *line) {
    while (isspace((unsigned char)*line)) line++;
    size_t size = strlen(line);
    while (size > 0 && isspace((unsigned char)line[size - 1])) line[--size] = '\0';
    return line;
}

static bool starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

/* text with every <name> replaced. */
static char *replaced(const char *text, const char *name, const char *value) {
    char mark[128];
    snprintf(mark, sizeof mark, "<%s>", name);
    size_t room = strlen(text) + 1;
    for (const char *at = text; (at = strstr(at, mark)) != NULL; at++) room += strlen(value);
    char *result = malloc(room), *to = result;
    for (const char *found; (found = strstr(text, mark)) != NULL; text = found + strlen(mark)) {
        memcpy(to, text, (size_t)(found - text));
        to += found - text;
        to = stpcpy(to, value);
    }
    strcpy(to, text);
    return result;
}

/* Splits "| a | b |" in place; returns how many cells. */
static int split_row(char *line, char **cells) {
    int count = 0;
    char *cell = line + 1, *to = cell, *start = cell;
    for (; *cell != '\0' && count < COLUMNS_MAX; cell++) {
        if (*cell == '\\' && cell[1] == '|') {
            *to++ = *++cell;
        } else if (*cell == '|') {
            *to = '\0';
            cells[count++] = trimmed(start);
            start = to = cell + 1;
        } else {
            *to++ = *cell;
        }
    }
    return count;
}

/* ---- cases ---- */

static void add_case(struct reader *reader, char *query, const char *error) {
    struct imv_tck *tck = reader->tck;
    tck->cases = realloc(tck->cases, (tck->count + 1) * sizeof *tck->cases);
    struct imv_tck_case *added = &tck->cases[tck->count++];
    *added = (struct imv_tck_case){.query = query};
    snprintf(added->file, sizeof added->file, "%s", reader->file);
    char type[64], phase[64], detail[64];
    if (error == NULL) return;
    if (sscanf(error, "a %63s should be raised at %63[^:]: %63s", type, phase, detail) == 3) {
        added->type = strdup(type);
        added->phase = strdup(phase);
        added->detail = strdup(detail);
    }
}

static void add_example(struct reader *reader, char **cells, int count) {
    char *query = strdup(reader->scenario.query);
    char *error = reader->scenario.error == NULL ? NULL : strdup(reader->scenario.error);
    for (int i = 0; i < count && i < reader->columns_count; i++) {
        char *next = replaced(query, reader->columns[i], cells[i]);
        free(query);
        query = next;
    }
    add_case(reader, query, error);
    free(error);
}

static void end_examples(struct reader *reader) {
    for (int i = 0; i < reader->columns_count; i++) free(reader->columns[i]);
    reader->columns_count = 0;
    reader->in_examples = false;
}

static void end_scenario(struct reader *reader) {
    end_examples(reader);
    struct scenario *scenario = &reader->scenario;
    if (scenario->query != NULL && !scenario->outline) { add_case(reader, strdup(scenario->query), scenario->error); }
    free(scenario->query);
    free(scenario->error);
    *scenario = (struct scenario){0};
}

/* ---- lines ---- */

/* The lines up to the closing quotes, without the indentation of the opening ones. */
static char *read_docstring(FILE *file, size_t indent) {
    char *line = NULL, *text = calloc(1, 1);
    size_t room = 0, size = 0;
    ssize_t bytes;
    while ((bytes = getline(&line, &room, file)) >= 0 && strstr(line, "\"\"\"") == NULL) {
        size_t skip = 0;
        while (skip < indent && line[skip] == ' ') skip++;
        size_t keep = (size_t)bytes - skip;
        text = realloc(text, size + keep + 1);
        memcpy(text + size, line + skip, keep);
        size += keep;
        text[size] = '\0';
    }
    free(line);
    if (size > 0) text[size - 1] = '\0'; /* the last line break */
    return text;
}

static void read_row(struct reader *reader, char *line) {
    char *cells[COLUMNS_MAX];
    int count = split_row(line, cells);
    if (reader->columns_count > 0) {
        if (reader->scenario.query != NULL) add_example(reader, cells, count);
        return;
    }
    for (int i = 0; i < count; i++) reader->columns[i] = strdup(cells[i]);
    reader->columns_count = count;
}

static void read_file(struct reader *reader, FILE *file) {
    char *buffer = NULL;
    size_t room = 0;
    bool executing = false;
    while (getline(&buffer, &room, file) >= 0) {
        size_t indent = strspn(buffer, " ");
        char *line = trimmed(buffer);
        if (starts(line, "#")) continue;
        if (starts(line, "Scenario")) {
            end_scenario(reader);
            reader->scenario.outline = starts(line, "Scenario Outline");
        } else if (starts(line, "\"\"\"")) {
            char *text = read_docstring(file, indent);
            if (executing && reader->scenario.query == NULL) {
                reader->scenario.query = text;
            } else {
                free(text);
            }
        } else if (starts(line, "Examples:")) {
            end_examples(reader);
            reader->in_examples = true;
        } else if (reader->in_examples && line[0] == '|') {
            read_row(reader, line);
        } else if (strstr(line, "should be raised at") != NULL && reader->scenario.error == NULL) {
            reader->scenario.error = strdup(strchr(line, ' ') + 1);
        }
        if (line[0] != '"') executing = strstr(line, "executing query:") != NULL;
    }
    end_scenario(reader);
    free(buffer);
}

static int visit_file(const char *path, const struct stat *status, int kind, struct FTW *walk) {
    (void)status;
    const char *name = path + walk->base, *dot = strrchr(name, '.');
    if (kind != FTW_F || dot == NULL || strcmp(dot, ".feature") != 0) return 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    struct reader reader = {.tck = loading, .file = name};
    read_file(&reader, file);
    fclose(file);
    return 0;
}

/* ---- the kit ---- */

bool imv_tck_load(const char *root, struct imv_tck *tck) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tck/features", root);
    *tck = (struct imv_tck){0};
    loading = tck;
    nftw(path, visit_file, 8, FTW_PHYS);
    loading = NULL;
    return tck->count > 0;
}

void imv_tck_free(struct imv_tck *tck) {
    for (size_t i = 0; i < tck->count; i++) {
        free(tck->cases[i].query);
        free(tck->cases[i].phase);
        free(tck->cases[i].type);
        free(tck->cases[i].detail);
    }
    free(tck->cases);
    *tck = (struct imv_tck){0};
}

const char *imv_shared_path(const char *source_dir) {
    static char path[4096];
    const char *given = getenv("IMV_SHARED");
    if (given != NULL) return given;
    snprintf(path, sizeof path, "%s/../shared", source_dir);
    return path;
}

bool imv_tck_has_word(const char *query, const char *word) {
    size_t size = strlen(word);
    for (const char *at = query; (at = strcasestr(at, word)) != NULL; at++) {
        bool before = at == query || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
        bool after = !(isalnum((unsigned char)at[size]) || at[size] == '_');
        if (before && after) return true;
    }
    return false;
}
