/* query_rig.h - an engine with data for tests of the query layer, and one call that runs a statement.
 *
 * The engine is the real one, on a simulated disk and the in-memory store. rig_run gives the answer as NDJSON without
 * its last line (statistics), or "code/detail" of the error. One thread.
 */
#pragma once

#include "query/parameters.h"
#include "query/sink/sink.h"
#include "tests/support/engine_harness.h"
#include "tests/support/threaded.h"

struct rig {
    struct harness harness;
    struct imv_kv_memory *kv;
    struct imv_buffer answer;
    struct imv_query_error error;
    struct imv_query_statistics statistics;
    size_t memory_bytes_max;
    struct imv_budget *memory;
    int64_t deadline_ns;
    const _Atomic bool *cancelled;
    const struct imv_clock *clock;
    const char *parameters; /* JSON; NULL: none */
    struct imv_workers *workers;
    unsigned without; /* of enum imv_query_shortcut */
};

static inline void rig_must(imv_status status, const struct imv_error *err) {
    cr_assert_eq(status, IMV_OK, "%s", err->message);
}

static inline void rig_open(struct rig *rig) {
    struct imv_error err;
    struct imv_sim_options options = {.seed = 1};
    *rig = (struct rig){.memory_bytes_max = 256 << 20, .deadline_ns = INT64_MAX};
    imv_buffer_init(&rig->answer, 64 << 20);
    harness_init(&rig->harness, "/db", 2);
    rig_must(imv_sim_new(&options, &rig->harness.sim, &err), &err);
    rig_must(imv_kv_memory_new(1, &rig->kv, &err), &err);
    rig->harness.kv_memory = rig->kv;
    rig_must(harness_open(&rig->harness, &err), &err);
}

static inline void rig_close(struct rig *rig) {
    harness_close(&rig->harness);
    imv_kv_memory_free(rig->kv);
    imv_sim_free(rig->harness.sim);
    imv_buffer_release(&rig->answer);
}

/* One row: tags as "key=value,key=value"; fields as names, types and cells. */
struct rig_field {
    const char *name;
    imv_type type;
    uint64_t cell;
    const char *text; /* of a STRING */
};

static inline void rig_write(struct rig *rig, const char *label, const char *tags, int64_t time,
                             const struct rig_field *fields, uint32_t fields_count) {
    struct imv_error err;
    struct imv_tag list[8];
    size_t count = 0;
    char raw[256], copy[256], *rest = copy;
    snprintf(raw, sizeof raw, "%s,%s", label, tags);
    snprintf(copy, sizeof copy, "%s", tags);
    for (char *tag; (tag = strsep(&rest, ",")) != NULL && *tag != 0;) {
        char *value = strchr(tag, '=');
        list[count++] = (struct imv_tag){{tag, (size_t)(value - tag)}, imv_str_from(value + 1)};
    }
    struct imv_writer *writer = rig->harness.writer[0];
    /* Writers may be asked to pause while ended series go; after that nothing that was cached may be used unasked. */
    for (int i = 0; i < 100 && !imv_writer_has_room(writer); i++) {
        cr_assert(harness_settle(&rig->harness));
        rig_must(harness_background(&rig->harness, &err), &err);
    }
    cr_assert(imv_writer_has_room(writer));
    struct imv_series *series = imv_writer_find_series(writer, imv_str_from(raw));
    if (series == NULL)
        rig_must(imv_writer_make_series(writer, imv_str_from(raw), imv_str_from(label), list, count, &series, &err),
                 &err);
    rig_must(imv_writer_begin(writer, series, fields_count, 4096, &err), &err);
    for (uint32_t i = 0; i < fields_count; i++) {
        struct imv_str name = imv_str_from(fields[i].name);
        if (fields[i].type == IMV_STRING)
            rig_must(imv_writer_field_string(writer, name, imv_str_from(fields[i].text), &err), &err);
        else
            rig_must(imv_writer_field(writer, name, fields[i].type, fields[i].cell, &err), &err);
    }
    rig_must(imv_writer_end(writer, time, &err), &err);
}

/* Makes what was written visible; with flush it goes to chunks. */
static inline void rig_settle(struct rig *rig, bool flush) {
    struct imv_error err;
    cr_assert(harness_settle(&rig->harness));
    if (flush) rig_must(harness_flush(&rig->harness, &err), &err);
}

static inline bool rig_append(void *context, const char *bytes, size_t size) {
    return imv_buffer_append(context, bytes, size);
}

static inline imv_status rig_run_into(struct rig *rig, const char *text, struct imv_query_sink *sink) {
    struct imv_arena arena;
    const struct imv_query_parameter *parameters = NULL;
    size_t count = 0;
    imv_arena_init(&arena, 4096, NULL);
    imv_status status = IMV_OK;
    rig->error = (struct imv_query_error){0};
    if (rig->parameters != NULL)
        status = imv_parameters_parse(imv_str_from(rig->parameters), &arena, &parameters, &count, &rig->error);
    struct imv_query_request request = {.text = imv_str_from(text),
                                        .parameters = parameters,
                                        .parameters_count = count,
                                        .deadline_ns = rig->deadline_ns,
                                        .memory_bytes_max = rig->memory_bytes_max,
                                        .memory = rig->memory,
                                        .cancelled = rig->cancelled,
                                        .clock = rig->clock,
                                        .workers = rig->workers,
                                        .without = rig->without};
    if (status == IMV_OK) status = imv_query_run(rig->harness.engine, &request, sink, &rig->error);
    imv_arena_release(&arena);
    return status;
}

static inline imv_status rig_try(struct rig *rig, const char *text) {
    struct imv_text_sink sink;
    imv_buffer_reset(&rig->answer);
    imv_text_sink_init(&sink, IMV_SINK_NDJSON, false, rig_append, &rig->answer);
    imv_status status = rig_run_into(rig, text, &sink.sink);
    imv_text_sink_release(&sink);
    return status;
}

/* The rows of the answer, one JSON array a line, without header and statistics; or "code/detail". */
static inline const char *rig_run(struct rig *rig, const char *text) {
    if (rig_try(rig, text) != IMV_OK) {
        imv_buffer_reset(&rig->answer);
        imv_buffer_append_format(&rig->answer, "%s/%s", rig->error.code, rig->error.detail);
        return rig->answer.data;
    }
    imv_buffer_append_char(&rig->answer, 0);
    char *rows = strchr(rig->answer.data, '\n') + 1;
    *strstr(rows, "{\"stats\"") = 0;
    size_t size = strlen(rows);
    if (size > 0) rows[size - 1] = 0; /* the last line's end */
    return rows;
}

static inline void rig_expect(struct rig *rig, const char *text, const char *wanted) {
    const char *answer = rig_run(rig, text);
    cr_expect_str_eq(answer, wanted, "%s\n  gives  %s\n  wanted %s\n  %s", text, answer, wanted, rig->error.message);
}
