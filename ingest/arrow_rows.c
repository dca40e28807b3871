/* From slices to rows in the writer.
 *
 * A run is a stretch of rows with one label and one set of fields. Before anything of a run is made in the catalog it
 * is known that its fields can be of the label; then each row's series is found or made, then the fields and the shape.
 * So a row that is refused leaves nothing behind. */
#include "ingest/arrow_internal.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"

enum { BATCH_ROWS_MAX = 1 << 24 };

/* ---- batches ---- */

imv_status imv_arrow_rows_begin(struct imv_arrow_feed *feed, const struct imv_arrow_message *message,
                                struct imv_str body, struct imv_error *err) {
    struct imv_arrow_batch batch;
    IMV_TRY(imv_arrow_batch_open(message, body, &batch, err));
    if (batch.rows > BATCH_ROWS_MAX)
        return imv_fail(err, IMV_INVALID, "arrow: a batch of %lld rows, the limit is %d", (long long)batch.rows,
                        BATCH_ROWS_MAX);
    for (uint32_t i = 0; i < feed->columns_count; i++) IMV_TRY(imv_arrow_column_open(&feed->columns[i], &batch, err));
    feed->batch_open = true;
    feed->batch_rows = (uint64_t)batch.rows;
    feed->batch_next = 0;
    feed->slice->rows = feed->slice->next = 0;
    return IMV_OK;
}

static void reject(struct imv_arrow_feed *feed, size_t row, const struct imv_error *reason) {
    feed->rejected++;
    if (feed->options.reject != NULL) feed->options.reject(feed->options.context, feed->rows_seen + row + 1, reason);
}

/* ---- slices ---- */

/* Marks the rows of a bitmap that differ from the row before. */
static void mark_changes(struct arrow_slice *slice, const uint64_t *bits) {
    uint64_t carry = bits[0] & 1;
    for (size_t word = 0; word * 64 < slice->rows; word++) {
        slice->starts[word] |= bits[word] ^ (bits[word] << 1 | carry);
        carry = bits[word] >> 63;
    }
}

static void find_runs(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    memset(slice->starts, 0, sizeof slice->starts);
    memset(slice->bad, 0, sizeof slice->bad);
    for (uint32_t i = 0; i < feed->fields_count; i++) {
        const struct arrow_column *column = feed->fields[i];
        if (column->valid != NULL || column->dictionary != NULL) mark_changes(slice, column->present);
        for (size_t word = 0; column->any_bad && word < ARROW_SLICE_WORDS; word++)
            slice->bad[word] |= column->bad[word];
    }
    for (size_t row = 1; feed->label != NULL && row < slice->rows; row++) {
        if (feed->label->codes[row] != feed->label->codes[row - 1]) imv_bit_set(slice->starts, row);
    }
}

static void find_times(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    const struct arrow_column *time = feed->time;
    if (time == NULL) {
        for (size_t row = 0; row < slice->rows; row++) slice->timestamps[row] = feed->now;
        return;
    }
    memcpy(slice->timestamps, time->cells, slice->rows * sizeof *slice->timestamps);
    for (size_t word = 0; word * 64 < slice->rows; word++) slice->bad[word] |= ~time->present[word] | time->bad[word];
}

/* Rows with a tag that cannot be one are bad too. */
static void find_bad_codes(struct imv_arrow_feed *feed) {
    for (uint32_t i = 0; i <= feed->tags_count; i++) {
        const struct arrow_column *column = i < feed->tags_count ? feed->tags[i] : feed->label;
        for (size_t row = 0; column != NULL && row < feed->slice->rows; row++) {
            if (column->codes[row] == ARROW_CODE_BAD) imv_bit_set(feed->slice->bad, row);
        }
    }
}

static imv_status slice_columns(struct imv_arrow_feed *feed, struct imv_error *err) {
    for (uint32_t i = 0; i < feed->columns_count; i++)
        IMV_TRY(imv_arrow_column_slice(feed, &feed->columns[i], feed->batch_next, feed->slice->rows, err));
    return IMV_OK;
}

/* Prepares the next slice. When the tables of texts are full, all are forgotten, once. */
static imv_status next_slice(struct imv_arrow_feed *feed, struct imv_error *err) {
    struct arrow_slice *slice = feed->slice;
    uint64_t left = feed->batch_rows - feed->batch_next;
    slice->rows = left < ARROW_SLICE_ROWS ? (size_t)left : ARROW_SLICE_ROWS;
    slice->next = 0;
    slice->cut_next = 0;
    imv_status status = slice_columns(feed, err);
    if (status == IMV_FULL) {
        imv_arrow_forget(feed);
        status = slice_columns(feed, err);
    }
    if (status == IMV_FULL) return imv_arrow_no_memory(err);
    IMV_TRY(status);
    feed->batch_next += slice->rows;
    imv_arrow_series_find(feed);
    find_runs(feed);
    find_times(feed);
    find_bad_codes(feed);
    return IMV_OK;
}

/* ---- why a row is refused ---- */

static imv_status refuse_value(const struct arrow_column *column, struct imv_error *err) {
    int shown = column->name.size > 64 ? 64 : (int)column->name.size;
    const char *why = column->role == ARROW_ROLE_TAG || column->role == ARROW_ROLE_LABEL
                          ? "its text is empty, longer than 1024 bytes, not UTF-8, or has a control character"
                      : column->type.kind == IMV_ARROW_TEXT ? "its text is longer than 65536 bytes or not UTF-8"
                                                            : "it does not fit 64 bits of nanoseconds";
    return imv_fail(err, IMV_INVALID, "column \"%.*s\": %s", shown, column->name.data, why);
}

static bool is_bad(const struct arrow_column *column, size_t row) {
    if (column->role == ARROW_ROLE_TAG || column->role == ARROW_ROLE_LABEL) return column->codes[row] == ARROW_CODE_BAD;
    return column->role != ARROW_ROLE_NONE && column->any_bad && imv_bit_get(column->bad, row);
}

static imv_status refuse_bad_row(const struct imv_arrow_feed *feed, size_t row, struct imv_error *err) {
    if (feed->time != NULL && !imv_bit_get(feed->time->present, row))
        return imv_fail(err, IMV_INVALID, "the time is null");
    for (uint32_t i = 0; i < feed->columns_count; i++) {
        if (is_bad(&feed->columns[i], row)) return refuse_value(&feed->columns[i], err);
    }
    imv_assert(false);
    return IMV_INVALID;
}

/* ---- the fields of a run ---- */

struct run {
    size_t from, end;
    struct imv_str label_name; /* empty: its rows have none */
    struct imv_label *label;   /* NULL: not made yet */
    uint64_t presence[ARROW_PRESENCE_WORDS];
    size_t words; /* of presence */
    uint32_t fields;
    struct arrow_shape *slot; /* where its shape is remembered, when it is its */
    bool checked;             /* its fields can be of the label */
};

static size_t run_end(const struct arrow_slice *slice, size_t from) {
    for (size_t row = from + 1; row < slice->rows;) {
        uint64_t word = slice->starts[row / 64] >> (row % 64);
        if (word != 0) {
            row += (size_t)__builtin_ctzll(word);
            return row < slice->rows ? row : slice->rows;
        }
        row = (row / 64 + 1) * 64;
    }
    return slice->rows;
}

static void find_slot(struct imv_arrow_feed *feed, struct run *run) {
    uint64_t hash = imv_hash64(run->presence, run->words * sizeof *run->presence, (uint64_t)(uintptr_t)run->label);
    run->slot = &feed->shapes[hash % ARROW_SHAPES];
}

static bool slot_is_ours(const struct run *run) {
    const struct arrow_shape *slot = run->slot;
    return slot->shape != NULL && slot->label == run->label &&
           memcmp(slot->presence, run->presence, run->words * sizeof *run->presence) == 0;
}

static struct run begin_run(struct imv_arrow_feed *feed, size_t from) {
    struct run run = {.from = from, .end = run_end(feed->slice, from), .label_name = feed->label_name};
    run.words = (feed->fields_count + 63) / 64;
    for (uint32_t i = 0; i < feed->fields_count; i++) {
        if (!imv_bit_get(feed->fields[i]->present, from)) continue;
        imv_bit_set(run.presence, i);
        run.fields++;
    }
    if (feed->label != NULL && feed->label->codes[from] >= ARROW_CODE_FIRST)
        run.label_name = imv_arrow_text(feed->label, feed->label->codes[from]);
    const struct imv_series *series = feed->slice->series[from];
    run.label = series != NULL ? series->label : imv_catalog_find_label(feed->catalog, run.label_name);
    find_slot(feed, &run);
    return run;
}

/* Whether the run's rows can be stored at all, before anything is made for them. */
static imv_status check_run(struct imv_arrow_feed *feed, struct run *run, struct imv_error *err) {
    if (run->fields == 0) return imv_fail(err, IMV_INVALID, "a row without a value");
    if (!imv_arrow_name_ok(run->label_name)) return imv_fail(err, IMV_INVALID, "the label is null");
    run->checked = run->label == NULL || slot_is_ours(run);
    for (uint32_t i = 0; i < feed->fields_count && !run->checked; i++) {
        if (!imv_bit_get(run->presence, i)) continue;
        const struct arrow_column *column = feed->fields[i];
        IMV_TRY(imv_label_check_field(feed->catalog, run->label, column->name, column->stored, err));
    }
    run->checked = true;
    return IMV_OK;
}

/* A row can be written: its values are good, and its series is known or made. */
static imv_status ready_row(struct imv_arrow_feed *feed, struct run *run, size_t row, struct imv_error *err) {
    if (imv_bit_get(feed->slice->bad, row)) return refuse_bad_row(feed, row, err);
    if (!run->checked) IMV_TRY(check_run(feed, run, err));
    if (feed->slice->series[row] == NULL) IMV_TRY(imv_arrow_series_make(feed, row, run->label_name, err));
    if (run->label == NULL) {
        run->label = feed->slice->series[row]->label;
        find_slot(feed, run);
    }
    return IMV_OK;
}

static imv_status make_fields(struct imv_arrow_feed *feed, const struct run *run, struct imv_error *err) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < feed->fields_count; i++) {
        if (!imv_bit_get(run->presence, i)) continue;
        const struct arrow_column *column = feed->fields[i];
        IMV_TRY(
            imv_label_field(feed->catalog, run->label, column->name, column->stored, &feed->run_fields[count++], err));
    }
    return IMV_OK;
}

/* The shape of the run. IMV_FULL: the catalog takes no more sets of fields; the fields are in feed->run_fields. */
static imv_status find_shape(struct imv_arrow_feed *feed, struct run *run, const struct imv_shape **shape,
                             struct imv_error *err) {
    if (!slot_is_ours(run)) {
        struct arrow_shape made = {.label = run->label};
        IMV_TRY(make_fields(feed, run, err));
        IMV_TRY(imv_label_shape(feed->catalog, run->label, feed->run_fields, run->fields, &made.shape, err));
        memcpy(made.presence, run->presence, sizeof made.presence);
        *run->slot = made;
    }
    *shape = run->slot->shape;
    return IMV_OK;
}

/* ---- writing ---- */

static void gather_columns(struct imv_arrow_feed *feed, const struct run *run) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < feed->fields_count; i++) {
        if (!imv_bit_get(run->presence, i)) continue;
        const struct arrow_column *column = feed->fields[i];
        feed->run_columns[count++] = (struct imv_writer_column){.cells = column->cells, .texts = column->own_texts};
    }
}

/* Writes a row as one row a field, which reads the same; feed->slice->cut_next says where it goes on. */
static imv_status cut_row(struct imv_arrow_feed *feed, const struct run *run, const struct imv_writer_rows *rows,
                          size_t row, struct imv_error *err) {
    for (uint32_t *i = &feed->slice->cut_next; *i < run->fields; *i += 1) {
        struct imv_writer_rows part = *rows;
        const struct imv_shape *shape;
        size_t next;
        part.columns = &feed->run_columns[*i];
        IMV_TRY(imv_label_shape(feed->catalog, run->label, &feed->run_fields[*i], 1, &shape, err));
        IMV_TRY(imv_writer_put_rows(feed->options.writer, shape, &part, row, row + 1, &next, err));
    }
    feed->slice->cut_next = 0;
    return IMV_OK;
}

/* Writes the rows [from, to) of the run until one is not taken, *next. *room is false when that is for want of room;
 * what is returned otherwise refuses row *next. */
static imv_status put_rows(struct imv_arrow_feed *feed, struct run *run, size_t from, size_t to, size_t *next,
                           bool *room, struct imv_error *err) {
    const struct arrow_slice *slice = feed->slice;
    struct imv_writer_rows rows = {slice->series, slice->timestamps, feed->run_columns};
    const struct imv_shape *shape;
    *next = from;
    gather_columns(feed, run);
    imv_status status = find_shape(feed, run, &shape, err);
    if (status == IMV_OK) {
        status = imv_writer_put_rows(feed->options.writer, shape, &rows, from, to, next, err);
    } else if (status == IMV_FULL && make_fields(feed, run, err) == IMV_OK) {
        status = IMV_OK;
        while (*next < to && status == IMV_OK) {
            status = cut_row(feed, run, &rows, *next, err);
            *next += status == IMV_OK;
        }
    } else {
        return status;
    }
    *room = status != IMV_FULL;
    return status;
}

/* Writes or refuses rows from slice->next on, up to the end of their run. False: the writer has no room. */
static bool run_rows(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    struct run run = begin_run(feed, slice->next);
    struct imv_error err;
    bool room = true;
    while (slice->next < run.end && room) {
        size_t from = slice->next, to = from;
        while (to < run.end && ready_row(feed, &run, to, &err) == IMV_OK) to++;
        bool refused = to < run.end && to == from;
        if (to > from) {
            struct imv_error why;
            imv_status status = put_rows(feed, &run, from, to, &slice->next, &room, &why);
            feed->rows += slice->next - from;
            refused = status != IMV_OK && room;
            if (refused) err = why;
        }
        if (!refused) continue;
        reject(feed, slice->next, &err);
        slice->next++;
        slice->cut_next = 0;
    }
    return room;
}

imv_status imv_arrow_rows_run(struct imv_arrow_feed *feed, size_t *rows_left, struct imv_error *err) {
    struct arrow_slice *slice = feed->slice;
    /* Before any series is looked at: while the writer has no room they may be removed. */
    if (!imv_writer_has_room(feed->options.writer)) return imv_fail(err, IMV_FULL, "arrow: the writer has no room");
    imv_arrow_series_check(feed);
    for (;;) {
        while (slice->next < slice->rows) {
            if (!run_rows(feed)) return imv_fail(err, IMV_FULL, "arrow: the writer has no room");
        }
        feed->rows_seen += slice->rows;
        slice->rows = slice->next = 0;
        if (feed->batch_next == feed->batch_rows) {
            feed->batch_open = false;
            return IMV_OK;
        }
        if (*rows_left == 0) return imv_fail(err, IMV_BUSY, "arrow: enough rows for one turn");
        IMV_TRY(next_slice(feed, err));
        *rows_left -= *rows_left < slice->rows ? *rows_left : slice->rows;
    }
}
