/* journal.c - the bytes of a group's payload.
 *
 *     payload:  record, record, ...
 *     record:   kind 1 | body size 4 | body
 *     LABEL     label id | name (to the end of the body)
 *     FIELD     label id | field id | type 1 | name (to the end of the body)
 *     SERIES    index in the shard | label id | tags (series_code.h)
 *     DELETE    label id | from | last - from | series n, 0: all of the shard | index, then difference to the one before
 *     ROWS      label id | rows n, 1..1024 | columns c, 1..4096 | field id x c | series | timestamps | column x c
 *
 * Numbers without a size are varints; `from` is a zigzag. The columns of ROWS hold one entry per row, in the order of
 * the rows; no field stands twice, and a column's type is its field's. Integers go as the zigzag of the (wrapping)
 * difference to the row before, the first to 0: rows of one group are mostly of one moment and of like magnitude.
 *
 *     series, timestamps, INTEGER, UINTEGER   difference x n
 *     FLOAT      8 planes of n bytes: the lowest byte of each cell, then the next; equal exponents become runs for lz4
 *     BOOLEAN    (n + 7) / 8 bytes, lowest bit first, unused bits 0
 *     STRING     size x n | bytes of all
 *
 * Rows of one shape go into as many ROWS as it takes: 1,024 rows of ten fields are 100 KiB, which stay in the second
 * level cache while the columns are taken out one after the other.
 *
 * The order of the rows of a series decides which of two values for one moment holds, so a payload keeps it. Rows are
 * gathered by shape within a window, shapes in order of their first row; a window ends before the first row whose
 * series has a row of a later shape in it. One kind of line per label, which is the rule, makes one window.
 *
 * Planes of floats: 35 bytes a row of ten decimals after lz4 against 36.5 for plain cells and 38 for the exclusive or
 * with the row before, and lz4 takes two thirds of the time (bench/micro/bench_engine_journal.c).
 */
#include "engine/journal.h"

#include "engine/series_code.h"
#include "storage/base/arena.h"
#include "storage/base/assert.h"

#include <inttypes.h>
#include <stdlib.h>

enum record_kind { RECORD_LABEL = 1, RECORD_FIELD = 2, RECORD_SERIES = 3, RECORD_ROWS = 4, RECORD_DELETE = 5 };

enum {
    RECORD_HEAD_BYTES = 5,
    ROWS_MAX = 1024, /* of one record: stored, a reader refuses more */
};

/* ---- encoding ---- */

/* What this journal run has defined of a label, by id. */
struct label_state {
    uint32_t fields_count; /* its first fields, and the label itself when not 0 */
};

/* Rows of one shape in one window: sorted[start, start + count). */
struct group {
    const struct imv_shape *shape;
    uint32_t start, count;
};

struct shape_slot {
    uint32_t stamp; /* of the window that used the shape last */
    uint32_t group;
};

struct label_undo {
    uint32_t label, fields_count;
};

struct imv_journal_encoder {
    struct imv_catalog *catalog;
    uint32_t shard;
    uint32_t stamp; /* of the window under way; never 0 */
    struct label_state *labels;
    size_t labels_capacity;
    struct shape_slot *shapes; /* by shape id */
    size_t shapes_capacity;
    /* The rows of the call as they came; and those of a window in order of its groups. */
    const struct imv_row **rows, **sorted;
    uint32_t *row_groups; /* of the rows of a window */
    size_t rows_count, rows_capacity;
    struct group *groups;
    uint32_t groups_count;
    size_t groups_capacity;
    /* What to take back when the payload turns out too small. */
    struct imv_series **fresh;
    size_t fresh_count, fresh_capacity;
    struct label_undo *undo;
    size_t undo_count, undo_capacity;
};

imv_status imv_journal_encoder_new(struct imv_catalog *catalog, uint32_t shard, struct imv_journal_encoder **encoder,
                                   struct imv_error *err) {
    struct imv_journal_encoder *made = calloc(1, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "journal: no memory for an encoder");
    made->catalog = catalog;
    made->shard = shard;
    *encoder = made;
    return IMV_OK;
}

void imv_journal_encoder_free(struct imv_journal_encoder *encoder) {
    if (encoder == NULL) return;
    free(encoder->labels);
    free(encoder->shapes);
    free(encoder->rows);
    free(encoder->sorted);
    free(encoder->row_groups);
    free(encoder->groups);
    free(encoder->fresh);
    free(encoder->undo);
    free(encoder);
}

/* Makes room for `wanted` elements in an array that grows by doubling; new elements are zero. *grown is the new
 * capacity; without memory neither it nor the array changes. */
static bool grow(void *array, size_t element_bytes, size_t capacity, size_t wanted, size_t *grown) {
    void *former;
    memcpy(&former, array, sizeof former);
    size_t enough = capacity < 64 ? 64 : capacity;
    while (enough < wanted) enough *= 2;
    void *made = realloc(former, enough * element_bytes);
    if (made == NULL) return false;
    memset((char *)made + capacity * element_bytes, 0, (enough - capacity) * element_bytes);
    memcpy(array, &made, sizeof made);
    *grown = enough;
    return true;
}

static bool reserve_label(struct imv_journal_encoder *encoder, uint32_t id) {
    return id < encoder->labels_capacity || grow(&encoder->labels, sizeof *encoder->labels, encoder->labels_capacity,
                                                 (size_t)id + 1, &encoder->labels_capacity);
}

static bool reserve_shape(struct imv_journal_encoder *encoder, uint32_t id) {
    return id < encoder->shapes_capacity || grow(&encoder->shapes, sizeof *encoder->shapes, encoder->shapes_capacity,
                                                 (size_t)id + 1, &encoder->shapes_capacity);
}

static bool reserve_rows(struct imv_journal_encoder *encoder, size_t count) {
    size_t grown;
    if (count <= encoder->rows_capacity) return true;
    /* The three arrays grow alike; the capacity is raised when all have. */
    if (!grow(&encoder->rows, sizeof *encoder->rows, encoder->rows_capacity, count, &grown) ||
        !grow(&encoder->sorted, sizeof *encoder->sorted, encoder->rows_capacity, count, &grown) ||
        !grow(&encoder->row_groups, sizeof *encoder->row_groups, encoder->rows_capacity, count, &grown)) {
        return false;
    }
    encoder->rows_capacity = grown;
    return true;
}

/* Lists all rows. Their series are asked for ahead of the pass that reads them. */
static bool collect(struct imv_journal_encoder *encoder, const struct imv_batch *batches) {
    encoder->rows_count = 0;
    for (const struct imv_batch *batch = batches; batch != NULL; batch = batch->next) {
        if (!reserve_rows(encoder, encoder->rows_count + batch->rows)) return false;
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            __builtin_prefetch(row->series);
            encoder->rows[encoder->rows_count++] = row;
        }
    }
    return true;
}

static uint32_t next_stamp(struct imv_journal_encoder *encoder) {
    if (++encoder->stamp == 0) { /* after 2^32 windows old stamps would look current */
        if (encoder->shapes_capacity > 0)
            memset(encoder->shapes, 0, encoder->shapes_capacity * sizeof *encoder->shapes);
        encoder->stamp = 1;
    }
    return encoder->stamp;
}

/* The number of the group of this shape, made when the window has not had one. UINT32_MAX: no memory. */
static uint32_t group_of(struct imv_journal_encoder *encoder, const struct imv_shape *shape) {
    if (!reserve_shape(encoder, shape->id)) return UINT32_MAX;
    struct shape_slot *slot = &encoder->shapes[shape->id];
    if (slot->stamp == encoder->stamp) return slot->group;
    if (encoder->groups_count == encoder->groups_capacity &&
        !grow(&encoder->groups, sizeof *encoder->groups, encoder->groups_capacity, encoder->groups_count + 1,
              &encoder->groups_capacity)) {
        return UINT32_MAX;
    }
    *slot = (struct shape_slot){encoder->stamp, encoder->groups_count};
    encoder->groups[encoder->groups_count] = (struct group){.shape = shape};
    return encoder->groups_count++;
}

/* Finds the end of the window that starts at row `from` and counts its rows by shape. Series are stamped with their
 * latest group only from the second shape on: a window of one shape touches none. */
static imv_status open_window(struct imv_journal_encoder *encoder, size_t from, size_t *end) {
    uint32_t stamp = next_stamp(encoder), group = 0;
    const struct imv_shape *shape = NULL;
    encoder->groups_count = 0;
    size_t at = from;
    for (; at < encoder->rows_count; at++) {
        const struct imv_row *row = encoder->rows[at];
        if (row->shape != shape) {
            shape = row->shape;
            group = group_of(encoder, shape);
            if (group == UINT32_MAX) return IMV_NO_MEMORY;
        }
        if (encoder->groups_count > 1) {
            struct imv_series *series = row->series;
            if (series->journal_stamp == stamp && series->journal_group > group) break;
            series->journal_stamp = stamp;
            series->journal_group = group;
        }
        encoder->groups[group].count++;
        encoder->row_groups[at - from] = group;
    }
    *end = at;
    return IMV_OK;
}

/* Puts the rows of a window in order of their groups, keeping their order within each. */
static void sort_window(struct imv_journal_encoder *encoder, size_t from, size_t end) {
    uint32_t start = 0;
    for (uint32_t i = 0; i < encoder->groups_count; i++) {
        encoder->groups[i].start = start;
        start += encoder->groups[i].count;
        encoder->groups[i].count = 0;
    }
    for (size_t i = from; i < end; i++) {
        struct group *group = &encoder->groups[encoder->row_groups[i - from]];
        encoder->sorted[group->start + group->count++] = encoder->rows[i];
    }
}

/* Starts a record of at most body_max bytes. The functions below say IMV_FULL when the payload takes no more, or
 * IMV_NO_MEMORY, and leave the text to imv_journal_encode. */
static imv_status begin_record(struct imv_buffer *payload, enum record_kind kind, size_t body_max, uint8_t **body) {
    if (RECORD_HEAD_BYTES + body_max > payload->size_max - payload->size) return IMV_FULL;
    uint8_t *record = (uint8_t *)imv_buffer_reserve(payload, RECORD_HEAD_BYTES + body_max);
    if (record == NULL) return IMV_NO_MEMORY;
    record[0] = (uint8_t)kind;
    *body = record + RECORD_HEAD_BYTES;
    return IMV_OK;
}

static void end_record(struct imv_buffer *payload, const uint8_t *end) {
    uint8_t *record = (uint8_t *)payload->data + payload->size;
    size_t size = (size_t)(end - record);
    imv_assert(payload->size + size <= payload->capacity);
    imv_put_u32(record + 1, (uint32_t)(size - RECORD_HEAD_BYTES));
    payload->size += size;
}

static uint8_t *put_name(uint8_t *to, struct imv_str name) {
    memcpy(to, name.data, name.size);
    return to + name.size;
}

enum { ID_BYTES_MAX = 5 }; /* of a 32-bit number as a varint */

static imv_status put_label(struct imv_buffer *payload, const struct imv_label *label) {
    uint8_t *to;
    IMV_TRY(begin_record(payload, RECORD_LABEL, ID_BYTES_MAX + label->name.size, &to));
    end_record(payload, put_name(imv_put_varint(to, label->id), label->name));
    return IMV_OK;
}

static imv_status put_field(struct imv_buffer *payload, const struct imv_label *label, const struct imv_field *field) {
    uint8_t *to;
    IMV_TRY(begin_record(payload, RECORD_FIELD, 2 * ID_BYTES_MAX + 1 + field->name.size, &to));
    to = imv_put_varint(imv_put_varint(to, label->id), field->id);
    *to++ = (uint8_t)field->type;
    end_record(payload, put_name(to, field->name));
    return IMV_OK;
}

static imv_status put_series(struct imv_buffer *payload, const struct imv_series *series) {
    uint8_t *to;
    IMV_TRY(begin_record(payload, RECORD_SERIES, 2 * ID_BYTES_MAX + imv_series_code_bound(series), &to));
    to = imv_put_varint(imv_put_varint(to, series->index), series->label->id);
    end_record(payload, imv_series_code_put(series, to));
    return IMV_OK;
}

size_t imv_journal_series_bound(const struct imv_series *series) {
    return RECORD_HEAD_BYTES + 2 * ID_BYTES_MAX + imv_series_code_bound(series);
}

size_t imv_journal_fields_bound(const struct imv_label *label, uint32_t from, uint32_t end) {
    size_t bytes = RECORD_HEAD_BYTES + ID_BYTES_MAX + label->name.size;
    for (uint32_t id = from; id < end; id++) {
        bytes += RECORD_HEAD_BYTES + 2 * ID_BYTES_MAX + 1 + imv_label_field_by_id(label, id)->name.size;
    }
    return bytes;
}

/* Defines the label and its fields as far as the shape needs them and this run has not done it. */
static imv_status define_label(struct imv_journal_encoder *encoder, const struct imv_shape *shape,
                               struct imv_buffer *payload) {
    if (!reserve_label(encoder, shape->label->id)) return IMV_NO_MEMORY;
    struct label_state *state = &encoder->labels[shape->label->id];
    if (state->fields_count >= shape->fields_end) return IMV_OK;
    if (encoder->undo_count == encoder->undo_capacity &&
        !grow(&encoder->undo, sizeof *encoder->undo, encoder->undo_capacity, encoder->undo_count + 1,
              &encoder->undo_capacity)) {
        return IMV_NO_MEMORY;
    }
    encoder->undo[encoder->undo_count++] = (struct label_undo){shape->label->id, state->fields_count};
    if (state->fields_count == 0) IMV_TRY(put_label(payload, shape->label));
    while (state->fields_count < shape->fields_end) {
        IMV_TRY(put_field(payload, shape->label, imv_label_field_by_id(shape->label, state->fields_count)));
        state->fields_count++;
    }
    return IMV_OK;
}

static imv_status define_series(struct imv_journal_encoder *encoder, struct imv_series *series,
                                struct imv_buffer *payload) {
    if (encoder->fresh_count == encoder->fresh_capacity &&
        !grow(&encoder->fresh, sizeof *encoder->fresh, encoder->fresh_capacity, encoder->fresh_count + 1,
              &encoder->fresh_capacity)) {
        return IMV_NO_MEMORY;
    }
    IMV_TRY(put_series(payload, series));
    encoder->fresh[encoder->fresh_count++] = series;
    series->journaled = IMV_JOURNALED;
    return IMV_OK;
}

static imv_status put_definitions(struct imv_journal_encoder *encoder, struct imv_buffer *payload) {
    const struct imv_shape *shape = NULL;
    for (size_t i = 0; i < encoder->rows_count; i++) {
        const struct imv_row *row = encoder->rows[i];
        imv_assert(row->series->shard == encoder->shard && row->series->label == row->shape->label);
        if (row->shape != shape) {
            shape = row->shape;
            IMV_TRY(define_label(encoder, shape, payload));
        }
        if (!row->series->journaled) IMV_TRY(define_series(encoder, row->series, payload));
    }
    return IMV_OK;
}

static uint8_t *put_integers(uint8_t *to, const struct imv_row *const *rows, uint32_t count, uint32_t column) {
    uint64_t former = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t cell = rows[i]->cells[column];
        to = imv_put_varint(to, imv_zigzag((int64_t)(cell - former)));
        former = cell;
    }
    return to;
}

/* Transposes eight numbers as an 8 x 8 matrix of bytes: byte j of words[i] becomes byte i of words[j]. */
static inline void transpose(uint64_t words[8]) {
    for (unsigned i = 0; i < 8; i += 2) {
        uint64_t swap = (words[i] >> 8 ^ words[i + 1]) & 0x00ff00ff00ff00ff;
        words[i + 1] ^= swap;
        words[i] ^= swap << 8;
    }
    for (unsigned i = 0; i < 8; i += 1 + (i & 1) * 2) { /* 0, 1, 4, 5 */
        uint64_t swap = (words[i] >> 16 ^ words[i + 2]) & 0x0000ffff0000ffff;
        words[i + 2] ^= swap;
        words[i] ^= swap << 16;
    }
    for (unsigned i = 0; i < 4; i++) {
        uint64_t swap = (words[i] >> 32 ^ words[i + 4]) & 0x00000000ffffffff;
        words[i + 4] ^= swap;
        words[i] ^= swap << 32;
    }
}

static uint8_t *put_floats(uint8_t *to, const struct imv_row *const *rows, uint32_t count, uint32_t column) {
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t words[8];
        for (unsigned k = 0; k < 8; k++) words[k] = rows[i + k]->cells[column];
        transpose(words);
        for (unsigned plane = 0; plane < 8; plane++) imv_put_u64(to + plane * (size_t)count + i, words[plane]);
    }
    for (; i < count; i++) {
        uint64_t cell = rows[i]->cells[column];
        for (unsigned plane = 0; plane < 8; plane++) to[plane * (size_t)count + i] = (uint8_t)(cell >> (8 * plane));
    }
    return to + 8 * (size_t)count;
}

static uint8_t *put_booleans(uint8_t *to, const struct imv_row *const *rows, uint32_t count, uint32_t column) {
    memset(to, 0, (count + 7) / 8);
    for (uint32_t i = 0; i < count; i++) to[i / 8] |= (uint8_t)((rows[i]->cells[column] & 1) << (i % 8));
    return to + (count + 7) / 8;
}

static uint8_t *put_strings(uint8_t *to, const struct imv_row *const *rows, uint32_t count, uint32_t column) {
    for (uint32_t i = 0; i < count; i++) to = imv_put_varint(to, imv_cell_string(rows[i]->cells[column])->size);
    for (uint32_t i = 0; i < count; i++) to = put_name(to, imv_cell_str(rows[i]->cells[column]));
    return to;
}

static uint8_t *put_column(uint8_t *to, const struct imv_row *const *rows, uint32_t count, uint32_t column,
                           imv_type type) {
    switch (type) {
        case IMV_INTEGER:
        case IMV_UINTEGER: return put_integers(to, rows, count, column);
        case IMV_FLOAT: return put_floats(to, rows, count, column);
        case IMV_BOOLEAN: return put_booleans(to, rows, count, column);
        case IMV_STRING: return put_strings(to, rows, count, column);
    }
    imv_assert(false);
    return to;
}

static uint8_t *put_positions(uint8_t *to, const struct imv_row *const *rows, uint32_t count) {
    uint32_t former_index = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = rows[i]->series->index;
        to = imv_put_varint(to, imv_zigzag((int64_t)index - former_index));
        former_index = index;
    }
    uint64_t former = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t timestamp = (uint64_t)rows[i]->timestamp;
        to = imv_put_varint(to, imv_zigzag((int64_t)(timestamp - former)));
        former = timestamp;
    }
    return to;
}

enum {
    ROWS_HEAD_BYTES_MAX = ID_BYTES_MAX + 2 + 2,               /* label, rows, columns: the last two below 2^14 */
    FIELD_ID_BYTES_MAX = 2,                                   /* below IMV_FIELDS_MAX */
    POSITION_BYTES_MAX = ID_BYTES_MAX + IMV_VARINT_BYTES_MAX, /* series and timestamp of a row */
};
_Static_assert(IMV_FIELDS_MAX <= 1 << 14 && ROWS_MAX < 1 << 14, "two bytes hold them");

/* What the strings of a row may add beyond their cells' varints. */
static size_t text_bytes(const struct imv_row *row) {
    size_t bytes = 0;
    if (row->shape->strings_count == 0) return 0;
    for (uint32_t i = 0; i < row->shape->count; i++) {
        if (row->shape->fields[i]->type == IMV_STRING) bytes += imv_cell_string(row->cells[i])->size;
    }
    return bytes;
}

static imv_status put_rows(const struct imv_shape *shape, const struct imv_row *const *rows, uint32_t count,
                           struct imv_buffer *payload) {
    size_t body_max = ROWS_HEAD_BYTES_MAX + (size_t)FIELD_ID_BYTES_MAX * shape->count +
                      (size_t)count * (POSITION_BYTES_MAX + (size_t)IMV_VARINT_BYTES_MAX * shape->count);
    if (shape->strings_count > 0) {
        for (uint32_t i = 0; i < count; i++) body_max += text_bytes(rows[i]);
    }
    uint8_t *to;
    IMV_TRY(begin_record(payload, RECORD_ROWS, body_max, &to));
    to = imv_put_varint(to, shape->label->id);
    to = imv_put_varint(to, count);
    to = imv_put_varint(to, shape->count);
    for (uint32_t i = 0; i < shape->count; i++) to = imv_put_varint(to, shape->fields[i]->id);
    to = put_positions(to, rows, count);
    for (uint32_t i = 0; i < shape->count; i++) to = put_column(to, rows, count, i, shape->fields[i]->type);
    end_record(payload, to);
    return IMV_OK;
}

static imv_status put_window(struct imv_journal_encoder *encoder, struct imv_buffer *payload) {
    for (uint32_t i = 0; i < encoder->groups_count; i++) {
        const struct group *group = &encoder->groups[i];
        for (uint32_t at = 0; at < group->count; at += ROWS_MAX) {
            uint32_t count = group->count - at < ROWS_MAX ? group->count - at : ROWS_MAX;
            IMV_TRY(put_rows(group->shape, encoder->sorted + group->start + at, count, payload));
        }
    }
    return IMV_OK;
}

static imv_status put_all_rows(struct imv_journal_encoder *encoder, struct imv_buffer *payload) {
    size_t end;
    for (size_t from = 0; from < encoder->rows_count; from = end) {
        IMV_TRY(open_window(encoder, from, &end));
        imv_assert(end > from);
        sort_window(encoder, from, end);
        IMV_TRY(put_window(encoder, payload));
    }
    return IMV_OK;
}

/* Forgets the definitions of a call that did not complete. */
static void take_back(struct imv_journal_encoder *encoder) {
    for (size_t i = 0; i < encoder->fresh_count; i++) encoder->fresh[i]->journaled = IMV_JOURNALED_NO;
    while (encoder->undo_count > 0) {
        const struct label_undo *undo = &encoder->undo[--encoder->undo_count];
        encoder->labels[undo->label].fields_count = undo->fields_count;
    }
}

imv_status imv_journal_encode(struct imv_journal_encoder *encoder, const struct imv_batch *batches,
                              struct imv_buffer *payload, struct imv_error *err) {
    size_t size_before = payload->size;
    encoder->fresh_count = encoder->undo_count = 0;
    imv_status status = collect(encoder, batches) ? IMV_OK : IMV_NO_MEMORY;
    if (status == IMV_OK) status = put_definitions(encoder, payload);
    if (status == IMV_OK) status = put_all_rows(encoder, payload);
    if (status == IMV_OK) return IMV_OK;
    take_back(encoder);
    payload->size = size_before;
    payload->failed = false;
    return imv_fail(err, status, "journal: %zu rows %s", encoder->rows_count,
                    status == IMV_FULL ? "do not fit the group" : "find no memory to be encoded");
}

size_t imv_journal_bound(const struct imv_batch *batch) {
    enum {
        ROW_BYTES_MAX = RECORD_HEAD_BYTES + ROWS_HEAD_BYTES_MAX + POSITION_BYTES_MAX
    }; /* each a record of its own */
    return batch->rows * (size_t)ROW_BYTES_MAX + batch->values * (size_t)(FIELD_ID_BYTES_MAX + IMV_VARINT_BYTES_MAX) +
           batch->text + batch->definitions;
}

/* ---- deletions ---- */

enum { DELETION_BYTES_MAX = ID_BYTES_MAX + 10 + 10 + ID_BYTES_MAX }; /* but for the list */

size_t imv_journal_deletion_series_max(size_t payload_bytes) {
    size_t head = RECORD_HEAD_BYTES + DELETION_BYTES_MAX;
    return payload_bytes <= head ? 0 : (payload_bytes - head) / ID_BYTES_MAX;
}

static imv_status put_deletion(const struct imv_journal_deletion *deletion, struct imv_buffer *payload) {
    uint8_t *to;
    size_t count = deletion->whole ? 0 : deletion->series_count;
    imv_assert(deletion->from <= deletion->last && (deletion->whole || count > 0));
    IMV_TRY(begin_record(payload, RECORD_DELETE, DELETION_BYTES_MAX + count * ID_BYTES_MAX, &to));
    to = imv_put_varint(imv_put_varint(to, deletion->label->id), imv_zigzag(deletion->from));
    to = imv_put_varint(to, (uint64_t)deletion->last - (uint64_t)deletion->from);
    to = imv_put_varint(to, count);
    uint32_t former = 0;
    for (size_t i = 0; i < count; i++) {
        imv_assert(i == 0 || deletion->series[i] > former);
        to = imv_put_varint(to, deletion->series[i] - former);
        former = deletion->series[i];
    }
    end_record(payload, to);
    return IMV_OK;
}

imv_status imv_journal_encode_deletion(const struct imv_journal_deletion *deletion, struct imv_buffer *payload,
                                       struct imv_error *err) {
    imv_status status = put_deletion(deletion, payload);
    if (status == IMV_OK) return IMV_OK;
    return imv_fail(err, status, "journal: no room for a deletion of %zu series in a payload of %zu bytes",
                    deletion->series_count, payload->size_max);
}

/* ---- decoding ---- */

struct decoder {
    struct imv_catalog *catalog;
    uint32_t shard;
    const struct imv_journal_visitor *visitor;
    /* The record being read. */
    const uint8_t *at, *end;
    uint8_t kind;
    /* Rows of a ROWS record, row_bytes apart; the memory is kept from record to record. */
    char *rows;
    size_t rows_capacity, row_bytes;
    uint32_t rows_count;
    struct imv_arena strings;
};

static struct imv_row *row_at(const struct decoder *decoder, uint32_t i) {
    return (struct imv_row *)(void *)(decoder->rows + i * decoder->row_bytes);
}

static imv_status bad(const struct decoder *decoder, const char *what, struct imv_error *err) {
    static const char *const names[] = {"?", "LABEL", "FIELD", "SERIES", "ROWS", "DELETE"};
    return imv_fail(err, IMV_CORRUPT, "journal: %s record: %s",
                    names[decoder->kind <= RECORD_DELETE ? decoder->kind : 0], what);
}

/* Reads a number below or equal to max. */
static bool get_number(struct decoder *decoder, uint64_t max, uint32_t *number) {
    uint64_t value;
    const uint8_t *next = imv_get_varint(decoder->at, decoder->end, &value);
    if (next == NULL || value > max) return false;
    decoder->at = next;
    *number = (uint32_t)value;
    return true;
}

static struct imv_label *get_label(struct decoder *decoder) {
    uint32_t id;
    return get_number(decoder, UINT32_MAX, &id) ? imv_catalog_label_by_id(decoder->catalog, id) : NULL;
}

static struct imv_str rest_of(const struct decoder *decoder) {
    return (struct imv_str){(const char *)decoder->at, (size_t)(decoder->end - decoder->at)};
}

static imv_status decode_label(struct decoder *decoder, struct imv_error *err) {
    uint32_t id;
    struct imv_label *label;
    if (!get_number(decoder, UINT32_MAX, &id)) return bad(decoder, "bad label id", err);
    return imv_catalog_define_label(decoder->catalog, id, rest_of(decoder), &label, err);
}

static imv_status decode_field(struct decoder *decoder, struct imv_error *err) {
    struct imv_label *label = get_label(decoder);
    if (label == NULL) return bad(decoder, "no such label", err);
    uint32_t id;
    if (!get_number(decoder, UINT32_MAX, &id) || decoder->at == decoder->end) return bad(decoder, "cut short", err);
    imv_type type = (imv_type)*decoder->at++;
    return imv_catalog_define_field(decoder->catalog, label, id, rest_of(decoder), type, err);
}

static imv_status decode_series(struct decoder *decoder, struct imv_error *err) {
    uint32_t index;
    if (!get_number(decoder, UINT32_MAX, &index)) return bad(decoder, "bad index", err);
    struct imv_label *label = get_label(decoder);
    if (label == NULL) return bad(decoder, "no such label", err);
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t tags_count;
    if (imv_series_code_get(decoder->at, decoder->end, tags, &tags_count) != decoder->end) {
        return bad(decoder, "bad tags", err);
    }
    struct imv_series *series;
    uint64_t id = (uint64_t)decoder->shard << 40 | index;
    IMV_TRY(imv_catalog_define_series(decoder->catalog, id, label, tags, tags_count, &series, err));
    series->journaled = IMV_JOURNALED;
    return IMV_OK;
}

/* Reads the fields of a ROWS record and finds the shape that they make. */
static imv_status get_shape(struct decoder *decoder, struct imv_label *label, uint32_t count,
                            const struct imv_shape **shape, struct imv_error *err) {
    const struct imv_field *fields[IMV_FIELDS_MAX];
    uint64_t seen[IMV_FIELDS_MAX / 64] = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id;
        if (!get_number(decoder, IMV_FIELDS_MAX - 1, &id)) return bad(decoder, "bad field id", err);
        fields[i] = imv_label_field_by_id(label, id);
        if (fields[i] == NULL) return bad(decoder, "no such field", err);
        if (imv_bit_get(seen, id)) return bad(decoder, "a field stands twice", err);
        imv_bit_set(seen, id);
    }
    return imv_label_shape(decoder->catalog, label, fields, count, shape, err);
}

static imv_status reserve_matrix(struct decoder *decoder, uint32_t rows_count, const struct imv_shape *shape,
                                 struct imv_error *err) {
    decoder->rows_count = rows_count;
    decoder->row_bytes = sizeof(struct imv_row) + shape->count * sizeof(uint64_t);
    size_t bytes = rows_count * decoder->row_bytes;
    if (bytes <= decoder->rows_capacity) return IMV_OK;
    free(decoder->rows);
    decoder->rows = malloc(bytes);
    decoder->rows_capacity = decoder->rows == NULL ? 0 : bytes;
    if (decoder->rows == NULL) return imv_fail(err, IMV_NO_MEMORY, "journal: no memory for %u rows", rows_count);
    return IMV_OK;
}

static imv_status get_positions(struct decoder *decoder, const struct imv_shape *shape, struct imv_error *err) {
    uint64_t index = 0, timestamp = 0, difference;
    for (uint32_t i = 0; i < decoder->rows_count; i++) {
        decoder->at = imv_get_varint(decoder->at, decoder->end, &difference);
        if (decoder->at == NULL) return bad(decoder, "cut short in its series", err);
        index += (uint64_t)imv_unzigzag(difference);
        struct imv_series *series =
            index > UINT32_MAX ? NULL
                               : imv_catalog_series_by_id(decoder->catalog, (uint64_t)decoder->shard << 40 | index);
        if (series == NULL || series->label != shape->label) return bad(decoder, "no such series", err);
        row_at(decoder, i)->series = series;
        row_at(decoder, i)->shape = shape;
    }
    for (uint32_t i = 0; i < decoder->rows_count; i++) {
        decoder->at = imv_get_varint(decoder->at, decoder->end, &difference);
        if (decoder->at == NULL) return bad(decoder, "cut short in its timestamps", err);
        timestamp += (uint64_t)imv_unzigzag(difference);
        row_at(decoder, i)->timestamp = (int64_t)timestamp;
    }
    return IMV_OK;
}

static imv_status get_integers(struct decoder *decoder, uint32_t column, struct imv_error *err) {
    uint64_t cell = 0, difference;
    const uint8_t *at = decoder->at;
    for (uint32_t i = 0; i < decoder->rows_count; i++) {
        at = imv_get_varint(at, decoder->end, &difference);
        if (at == NULL) return bad(decoder, "cut short in its integers", err);
        cell += (uint64_t)imv_unzigzag(difference);
        row_at(decoder, i)->cells[column] = cell;
    }
    decoder->at = at;
    return IMV_OK;
}

static imv_status get_floats(struct decoder *decoder, uint32_t column, struct imv_error *err) {
    size_t count = decoder->rows_count, i = 0;
    const uint8_t *from = decoder->at;
    if ((size_t)(decoder->end - from) < 8 * count) return bad(decoder, "cut short in its floats", err);
    for (; i + 8 <= count; i += 8) {
        uint64_t words[8];
        for (unsigned plane = 0; plane < 8; plane++) words[plane] = imv_get_u64(from + plane * count + i);
        transpose(words);
        for (unsigned k = 0; k < 8; k++) row_at(decoder, (uint32_t)i + k)->cells[column] = words[k];
    }
    for (; i < count; i++) {
        uint64_t cell = 0;
        for (unsigned plane = 0; plane < 8; plane++) cell |= (uint64_t)from[plane * count + i] << (8 * plane);
        row_at(decoder, (uint32_t)i)->cells[column] = cell;
    }
    decoder->at += 8 * count;
    return IMV_OK;
}

static imv_status get_booleans(struct decoder *decoder, uint32_t column, struct imv_error *err) {
    uint32_t count = decoder->rows_count, bytes = (count + 7) / 8;
    if ((size_t)(decoder->end - decoder->at) < bytes) return bad(decoder, "cut short in its booleans", err);
    if (count % 8 != 0 && decoder->at[bytes - 1] >> (count % 8) != 0) return bad(decoder, "stray bits", err);
    for (uint32_t i = 0; i < count; i++) { row_at(decoder, i)->cells[column] = decoder->at[i / 8] >> (i % 8) & 1; }
    decoder->at += bytes;
    return IMV_OK;
}

static imv_status get_strings(struct decoder *decoder, uint32_t column, struct imv_error *err) {
    uint32_t sizes[ROWS_MAX];
    size_t total = 0, room = 0;
    for (uint32_t i = 0; i < decoder->rows_count; i++) {
        if (!get_number(decoder, IMV_STRING_BYTES_MAX, &sizes[i])) return bad(decoder, "bad string size", err);
        total += sizes[i];
        room += (sizeof(struct imv_string) + sizes[i] + 7) & ~(size_t)7;
    }
    if (total > (size_t)(decoder->end - decoder->at)) return bad(decoder, "cut short in its strings", err);
    char *to = imv_arena_alloc(&decoder->strings, room);
    if (to == NULL) return imv_fail(err, IMV_NO_MEMORY, "journal: no memory for %zu bytes of strings", room);
    for (uint32_t i = 0; i < decoder->rows_count; i++) {
        struct imv_string *string = (struct imv_string *)(void *)to;
        string->size = sizes[i];
        memcpy(string->bytes, decoder->at, sizes[i]);
        row_at(decoder, i)->cells[column] = imv_string_cell(string);
        decoder->at += sizes[i];
        to += (sizeof *string + sizes[i] + 7) & ~(size_t)7;
    }
    return IMV_OK;
}

static imv_status get_column(struct decoder *decoder, uint32_t column, imv_type type, struct imv_error *err) {
    switch (type) {
        case IMV_INTEGER:
        case IMV_UINTEGER: return get_integers(decoder, column, err);
        case IMV_FLOAT: return get_floats(decoder, column, err);
        case IMV_BOOLEAN: return get_booleans(decoder, column, err);
        case IMV_STRING: return get_strings(decoder, column, err);
    }
    imv_assert(false);
    return IMV_CORRUPT;
}

static imv_status decode_rows(struct decoder *decoder, struct imv_error *err) {
    struct imv_label *label = get_label(decoder);
    if (label == NULL) return bad(decoder, "no such label", err);
    uint32_t rows_count, columns_count;
    if (!get_number(decoder, ROWS_MAX, &rows_count) || rows_count == 0) return bad(decoder, "bad rows count", err);
    if (!get_number(decoder, IMV_FIELDS_MAX, &columns_count) || columns_count == 0) {
        return bad(decoder, "bad columns count", err);
    }
    const struct imv_shape *shape;
    IMV_TRY(get_shape(decoder, label, columns_count, &shape, err));
    IMV_TRY(reserve_matrix(decoder, rows_count, shape, err));
    IMV_TRY(get_positions(decoder, shape, err));
    for (uint32_t i = 0; i < columns_count; i++) IMV_TRY(get_column(decoder, i, shape->fields[i]->type, err));
    if (decoder->at != decoder->end) return bad(decoder, "bytes behind its columns", err);
    for (uint32_t i = 0; i < rows_count; i++)
        IMV_TRY(decoder->visitor->row(decoder->visitor->context, row_at(decoder, i), err));
    imv_arena_release(&decoder->strings);
    return IMV_OK;
}

/* Reads the list of a DELETE record, whose entries take a byte each at least. */
static imv_status get_deleted(struct decoder *decoder, const struct imv_label *label, uint32_t *series, uint32_t count,
                              struct imv_error *err) {
    uint64_t index = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t step;
        if (!get_number(decoder, UINT32_MAX, &step)) return bad(decoder, "bad index", err);
        index += step;
        if (i > 0 && step == 0) return bad(decoder, "a series stands twice", err);
        const struct imv_series *found = NULL;
        if (index <= UINT32_MAX) {
            found = imv_catalog_series_by_id(decoder->catalog, (uint64_t)decoder->shard << 40 | index);
        }
        /* A series that was removed since had no rows to delete; its number stays in the list and hides nothing. */
        bool removed = found == NULL && index <= UINT32_MAX &&
                       imv_catalog_id_is_used(decoder->catalog, (uint64_t)decoder->shard << 40 | index);
        if (!removed && (found == NULL || found->label != label)) {
            return bad(decoder, "no such series of the label", err);
        }
        series[i] = (uint32_t)index;
    }
    return decoder->at == decoder->end ? IMV_OK : bad(decoder, "bytes behind its series", err);
}

static imv_status decode_deletion(struct decoder *decoder, struct imv_error *err) {
    struct imv_label *label = get_label(decoder);
    if (label == NULL) return bad(decoder, "no such label", err);
    uint64_t from, length;
    uint32_t count;
    const uint8_t *next = imv_get_varint(decoder->at, decoder->end, &from);
    next = next == NULL ? NULL : imv_get_varint(next, decoder->end, &length);
    if (next == NULL) return bad(decoder, "bad range", err);
    decoder->at = next;
    struct imv_journal_deletion deletion = {.label = label, .from = imv_unzigzag(from)};
    if (length > (uint64_t)INT64_MAX - (uint64_t)deletion.from) return bad(decoder, "bad range", err);
    deletion.last = (int64_t)((uint64_t)deletion.from + length);
    if (!get_number(decoder, (uint64_t)(decoder->end - decoder->at), &count)) {
        return bad(decoder, "bad series count", err);
    }
    deletion.whole = count == 0;
    uint32_t *series = malloc(count * sizeof *series + 1);
    if (series == NULL) return imv_fail(err, IMV_NO_MEMORY, "journal: no memory for %u series", count);
    deletion.series = series;
    deletion.series_count = count;
    imv_status status = get_deleted(decoder, label, series, count, err);
    if (status == IMV_OK) status = decoder->visitor->deletion(decoder->visitor->context, &deletion, err);
    free(series);
    return status;
}

static imv_status decode_record(struct decoder *decoder, struct imv_error *err) {
    switch (decoder->kind) {
        case RECORD_LABEL: return decode_label(decoder, err);
        case RECORD_FIELD: return decode_field(decoder, err);
        case RECORD_SERIES: return decode_series(decoder, err);
        case RECORD_ROWS: return decode_rows(decoder, err);
        case RECORD_DELETE: return decode_deletion(decoder, err);
        default: return bad(decoder, "unknown kind", err);
    }
}

imv_status imv_journal_decode(struct imv_catalog *catalog, uint32_t shard, const uint8_t *payload, size_t size,
                              const struct imv_journal_visitor *visitor, struct imv_error *err) {
    struct decoder decoder = {.catalog = catalog, .shard = shard, .visitor = visitor};
    imv_arena_init(&decoder.strings, 64 * 1024, NULL);
    const uint8_t *at = payload, *end = payload + size;
    imv_status status = IMV_OK;
    while (status == IMV_OK && at < end) {
        decoder.kind = at[0];
        size_t left = (size_t)(end - at), body_bytes = left < RECORD_HEAD_BYTES ? SIZE_MAX : imv_get_u32(at + 1);
        if (left < RECORD_HEAD_BYTES || body_bytes > left - RECORD_HEAD_BYTES) {
            status = bad(&decoder, "longer than the payload", err);
            break;
        }
        decoder.at = at + RECORD_HEAD_BYTES;
        decoder.end = at = decoder.at + body_bytes;
        status = decode_record(&decoder, err);
    }
    free(decoder.rows);
    imv_arena_release(&decoder.strings);
    return status;
}
