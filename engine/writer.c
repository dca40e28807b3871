#include "engine/writer.h"

#include "engine/engine.h"
#include "engine/exchange.h"
#include "engine/journal.h"
#include "engine/series_cache.h"
#include "engine/writer_internal.h"
#include "storage/base/arena.h"
#include "storage/base/assert.h"

#include <stdlib.h>

enum {
    SERIES_CACHE_SLOTS_MAX = 1 << 22,
    /* What a field may need: a cell, a string's size and padding, and a row of its own when the row must be cut. */
    FIELD_BYTES_MAX = sizeof(uint64_t) + 12 + sizeof(struct imv_row),
    /* Holds any line of line protocol: 1,024 fields and 64 KiB of text. */
    SPARE_BYTES = 1024 * FIELD_BYTES_MAX + 64 * 1024 + 64,
};

/* The way to one shard. */
struct destination {
    struct imv_batch *open;                   /* being filled; NULL: none */
    struct imv_batch *refused, *refused_last; /* closed, waiting for room in the queue, oldest first */
    uint64_t closed;                          /* batches closed so far: their numbers are 1..closed */
};

/* What the writer remembers of a label: the kinds of line that alternate. */
struct label_state {
    const struct imv_shape *shapes[IMV_WRITER_SHAPES]; /* the latest first, then NULL */
    uint32_t fields_sent[];                            /* to each shard: rows used only fields below it */
};

/* The row under construction, at the end of its destination's open batch.
 *
 * While `predicted` is not NULL the fields given so far are the first of that shape; else they are in writer->fields.
 * Strings follow the room for cells, which is a guess: they move when there are more or fewer fields in the end. */
struct draft {
    struct imv_row *row; /* NULL: none */
    struct destination *to;
    struct label_state *label;
    const struct imv_shape *predicted;
    uint32_t count;       /* fields so far */
    uint32_t fast_end;    /* the fast path may add fields below it */
    uint32_t cells_room;  /* cells before the strings */
    uint32_t calls_left;  /* of fields_max */
    uint32_t fresh_count; /* fields that the label does not have yet */
    size_t text_left;     /* of bytes_max */
    char *strings_end;
};

struct imv_writer {
    struct imv_catalog *catalog;
    struct imv_exchange *exchange;
    struct imv_budget *budget;
    uint32_t shard;
    struct imv_batch *spare;
    bool paused;     /* since the last send, which alone begins a pause */
    uint64_t epoch;  /* of the catalog's removals that the cache of series knows of */
    bool room_known; /* there was room, and no batch was closed or opened since: others only make more */
    struct draft draft;
    struct imv_series_cache series;
    struct label_state **labels; /* by label id; labels_capacity entries, NULL until used */
    uint32_t labels_capacity;
    uint64_t rows_begun;                            /* a row's serial */
    const struct imv_field *fields[IMV_FIELDS_MAX]; /* of a draft that follows no shape */
    struct imv_field *fresh; /* those of them that are to be made when the row ends; NULL until there was one */
    struct imv_arena fresh_names;
    uint64_t places[IMV_FIELDS_MAX]; /* by field id: serial of the last such draft with it << 16 | its place there */
    struct destination destinations[];
};

imv_status imv_writer_new(struct imv_engine *engine, uint32_t shard, struct imv_writer **writer,
                          struct imv_error *err) {
    IMV_TRY(imv_writer_new_for(imv_engine_catalog(engine), imv_engine_exchange(engine), imv_engine_batch_budget(engine),
                               shard, writer, err));
    (*writer)->series.budget = imv_engine_series_cache_budget(engine);
    return IMV_OK;
}

imv_status imv_writer_new_for(struct imv_catalog *catalog, struct imv_exchange *exchange, struct imv_budget *budget,
                              uint32_t shard, struct imv_writer **writer, struct imv_error *err) {
    imv_assert(shard < exchange->shards);
    struct imv_writer *made = calloc(1, sizeof *made + exchange->shards * sizeof made->destinations[0]);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "writer: no memory");
    imv_arena_init(&made->fresh_names, 4096, NULL);
    made->epoch = imv_catalog_epoch(catalog);
    made->catalog = catalog;
    made->exchange = exchange;
    made->budget = budget;
    made->shard = shard;
    imv_status status = imv_series_cache_init(&made->series, SERIES_CACHE_SLOTS_MAX, err);
    if (status != IMV_OK) {
        free(made);
        return status;
    }
    /* A queue counts what was ever pushed into it: the numbers go on where a former writer of this shard stopped. */
    for (uint32_t to = 0; to < exchange->shards; to++) {
        struct imv_spsc *queue = &imv_exchange_cell(exchange, to, shard)->queue;
        made->destinations[to].closed = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    }
    *writer = made;
    return IMV_OK;
}

void imv_writer_free(struct imv_writer *writer) {
    if (writer == NULL) return;
    for (uint32_t to = 0; to < writer->exchange->shards; to++) {
        struct destination *destination = &writer->destinations[to];
        imv_batch_free(destination->open);
        for (struct imv_batch *batch = destination->refused; batch != NULL;) {
            struct imv_batch *next = batch->next;
            imv_batch_free(batch);
            batch = next;
        }
    }
    imv_batch_free(writer->spare);
    for (uint32_t id = 0; id < writer->labels_capacity; id++) free(writer->labels[id]);
    free(writer->labels);
    free(writer->fresh);
    imv_arena_release(&writer->fresh_names);
    imv_series_cache_release(&writer->series);
    free(writer);
}

/* ---- series ---- */

imv_status imv_writer_check_row(struct imv_writer *writer, struct imv_str label, const struct imv_tag *tags,
                                size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                struct imv_error *err) {
    return imv_catalog_check_row(writer->catalog, label, tags, tags_count, fields, fields_count, err);
}

struct imv_series *imv_writer_find_series(struct imv_writer *writer, struct imv_str raw) {
    return imv_series_cache_find(&writer->series, raw);
}

imv_status imv_writer_make_series(struct imv_writer *writer, struct imv_str raw, struct imv_str label,
                                  const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                  struct imv_error *err) {
    IMV_TRY(imv_catalog_resolve(writer->catalog, label, tags, tags_count, series, err));
    imv_series_cache_put(&writer->series, raw, *series);
    return IMV_OK;
}

static struct label_state *make_label_state(struct imv_writer *writer, uint32_t id) {
    if (id >= writer->labels_capacity) {
        uint32_t capacity = writer->labels_capacity < 16 ? 16 : writer->labels_capacity;
        while (capacity <= id) capacity *= 2;
        struct label_state **labels = realloc(writer->labels, capacity * sizeof(struct label_state *));
        if (labels == NULL) return NULL;
        memset(labels + writer->labels_capacity, 0,
               (capacity - writer->labels_capacity) * sizeof(struct label_state *));
        writer->labels = labels;
        writer->labels_capacity = capacity;
    }
    struct label_state *state = calloc(1, sizeof *state + writer->exchange->shards * sizeof state->fields_sent[0]);
    writer->labels[id] = state;
    return state;
}

static struct label_state *label_state(struct imv_writer *writer, const struct imv_label *label) {
    struct label_state *state = label->id < writer->labels_capacity ? writer->labels[label->id] : NULL;
    return state != NULL ? state : make_label_state(writer, label->id);
}

/* Puts a shape to the front of what the label had lately. */
static void remember_shape(struct label_state *state, const struct imv_shape *shape) {
    if (state->shapes[0] == shape) return;
    unsigned i = 1;
    while (i < IMV_WRITER_SHAPES - 1 && state->shapes[i] != shape) i++;
    for (; i > 0; i--) state->shapes[i] = state->shapes[i - 1];
    state->shapes[0] = shape;
}

/* ---- batches ---- */

/* Gives the open batch its number and puts it behind those that wait for the queue. */
static void close_batch(struct destination *to) {
    struct imv_batch *batch = to->open;
    if (batch == NULL || batch->rows == 0) return;
    if (to->refused == NULL) {
        to->refused = batch;
    } else {
        to->refused_last->next = batch;
    }
    to->refused_last = batch;
    to->open = NULL;
    to->closed++;
}

/* Opens a batch with room for bytes, closing the one there. */
static imv_status turn_batch(struct imv_writer *writer, struct destination *to, size_t bytes, struct imv_error *err) {
    close_batch(to);
    imv_batch_free(to->open); /* without rows and too small */
    writer->room_known = false;
    to->open = imv_batch_new(writer->budget, writer->shard, bytes);
    if (to->open == NULL && writer->spare != NULL && bytes <= writer->spare->capacity) {
        to->open = writer->spare;
        writer->spare = NULL;
    }
    if (to->open != NULL) return IMV_OK;
    return imv_fail(err, IMV_FULL, "writer: no batch memory for a row of %zu bytes", bytes);
}

/* Moves closed batches into the queue until it is full; true when none is left. */
static bool push_batches(struct imv_writer *writer, uint32_t to) {
    struct destination *destination = &writer->destinations[to];
    if (destination->refused == NULL) return true;
    struct imv_spsc *queue = &imv_exchange_cell(writer->exchange, to, writer->shard)->queue;
    bool pushed = false;
    while (destination->refused != NULL) {
        struct imv_batch *batch = destination->refused, *next = batch->next;
        batch->next = NULL; /* it is the consumer's once it is in the queue */
        if (!imv_spsc_push(queue, batch)) {
            batch->next = next;
            break;
        }
        destination->refused = next;
        pushed = true;
    }
    if (pushed) imv_exchange_wake(writer->exchange, to);
    return destination->refused == NULL;
}

/* True when no row of this writer is on its way. */
static bool all_applied(const struct imv_writer *writer) {
    for (uint32_t to = 0; to < writer->exchange->shards; to++) {
        const struct destination *destination = &writer->destinations[to];
        const struct imv_exchange_cell *cell = imv_exchange_cell(writer->exchange, to, writer->shard);
        if (destination->open != NULL && destination->open->rows > 0) return false;
        if (atomic_load_explicit(&cell->applied, memory_order_acquire) < destination->closed) return false;
    }
    return true;
}

/* Keeps to a pause of the exchange, and forgets what it remembers of series when some were removed in it. */
static void follow_pause(struct imv_writer *writer) {
    uint64_t pause = atomic_load_explicit(&writer->exchange->pause, memory_order_acquire);
    writer->paused = pause != 0;
    if (pause != 0) {
        _Atomic uint64_t *quiet = &writer->exchange->quiet[writer->shard];
        if (all_applied(writer)) atomic_store_explicit(quiet, pause, memory_order_release);
        return;
    }
    uint64_t epoch = imv_catalog_epoch(writer->catalog);
    if (epoch == writer->epoch) return;
    imv_series_cache_release(&writer->series);
    writer->epoch = epoch;
}

void imv_writer_send(struct imv_writer *writer) {
    imv_assert(writer->draft.row == NULL);
    for (uint32_t to = 0; to < writer->exchange->shards; to++) {
        /* While the queue is full the open batch goes on being filled. */
        if (!push_batches(writer, to)) continue;
        close_batch(&writer->destinations[to]);
        push_batches(writer, to);
    }
    writer->room_known = false;
    follow_pause(writer);
}

static bool queue_has_room(struct imv_spsc *queue) {
    size_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    if (tail - queue->head_seen <= queue->mask) return true;
    queue->head_seen = atomic_load_explicit(&queue->head, memory_order_acquire);
    return tail - queue->head_seen <= queue->mask;
}

static bool try_room(struct imv_writer *writer) {
    writer->room_known = false;
    /* Seen here and not by the next send only: whoever waits for room is woken once when the pause ends. */
    if (writer->paused) follow_pause(writer);
    if (writer->paused) return false;
    for (uint32_t to = 0; to < writer->exchange->shards; to++) {
        push_batches(writer, to);
        if (!queue_has_room(&imv_exchange_cell(writer->exchange, to, writer->shard)->queue)) return false;
    }
    if (imv_exchange_accepts(writer->exchange, NULL) != IMV_OK) return false;
    if (writer->spare == NULL) writer->spare = imv_batch_new(writer->budget, writer->shard, SPARE_BYTES);
    writer->room_known = writer->spare != NULL;
    return writer->room_known;
}

bool imv_writer_has_room(struct imv_writer *writer) {
    if (writer->room_known || try_room(writer)) return true;
    imv_exchange_want_room(writer->exchange, writer->shard);
    return try_room(writer);
}

imv_status imv_writer_accepts(struct imv_writer *writer, struct imv_error *err) {
    return imv_exchange_accepts(writer->exchange, err);
}

/* ---- rows ---- */

/* Makes the open batch one that has room for a row of this series, bytes long. */
static imv_status reserve(struct imv_writer *writer, struct destination *to, const struct imv_series *series,
                          size_t bytes, struct imv_error *err) {
    if (to->open == NULL || to->open->capacity - to->open->size < bytes ||
        to->open->definitions >= IMV_WRITER_DEFINITIONS_MAX) {
        IMV_TRY(turn_batch(writer, to, bytes, err));
    }
    if (atomic_load_explicit(&series->visible_at, memory_order_acquire) == 0) {
        to->open->definitions += imv_journal_series_bound(series);
    }
    return IMV_OK;
}

imv_status imv_writer_begin(struct imv_writer *writer, struct imv_series *series, uint32_t fields_max, size_t bytes_max,
                            struct imv_error *err) {
    imv_assert(writer->draft.row == NULL);
    imv_assert(fields_max <= IMV_FIELDS_MAX && bytes_max <= SIZE_MAX / 2);
    struct label_state *label = label_state(writer, series->label);
    if (label == NULL) return imv_fail(err, IMV_NO_MEMORY, "writer: no memory for a label");
    struct destination *to = &writer->destinations[series->shard];
    size_t bytes = sizeof(struct imv_row) + (size_t)fields_max * FIELD_BYTES_MAX + ((bytes_max + 7) & ~(size_t)7);
    if (bytes > IMV_WRITER_ROW_BYTES_MAX) {
        return imv_fail(err, IMV_INVALID, "a row of up to %zu bytes, the limit is %d", bytes, IMV_WRITER_ROW_BYTES_MAX);
    }
    IMV_TRY(reserve(writer, to, series, bytes, err));
    const struct imv_shape *predicted = label->shapes[0];
    uint32_t cells_room = predicted != NULL && predicted->count < fields_max ? predicted->count : fields_max;
    struct imv_row *row = (struct imv_row *)(void *)(to->open->data + to->open->size);
    row->series = series;
    writer->rows_begun++;
    writer->draft = (struct draft){.row = row,
                                   .to = to,
                                   .label = label,
                                   .predicted = predicted,
                                   .fast_end = predicted == NULL ? 0 : cells_room,
                                   .cells_room = cells_room,
                                   .calls_left = fields_max,
                                   .text_left = bytes_max,
                                   .strings_end = (char *)&row->cells[cells_room]};
    return IMV_OK;
}

static inline bool is_field(const struct imv_field *field, struct imv_str name, imv_type type) {
    return field->name.size == name.size && field->type == type &&
           imv_bytes_same(field->name.data, name.data, name.size);
}

static const struct imv_field *const *draft_fields(const struct imv_writer *writer) {
    return writer->draft.predicted != NULL ? writer->draft.predicted->fields : writer->fields;
}

/* Moves the strings so that they start behind `cells_room` cells. */
static void move_strings(struct imv_writer *writer, uint32_t cells_room) {
    struct draft *draft = &writer->draft;
    char *from = (char *)&draft->row->cells[draft->cells_room], *to = (char *)&draft->row->cells[cells_room];
    size_t size = (size_t)(draft->strings_end - from);
    draft->cells_room = cells_room;
    draft->strings_end = to + size;
    if (size == 0) return;
    memmove(to, from, size);
    const struct imv_field *const *fields = draft_fields(writer);
    for (uint32_t i = 0; i < draft->count; i++) {
        if (fields[i]->type != IMV_STRING) continue;
        const char *string = (const char *)imv_cell_string(draft->row->cells[i]);
        draft->row->cells[i] = imv_string_cell((const struct imv_string *)(const void *)(to + (string - from)));
    }
}

/* Looks for a shape that the label had lately, that starts with the fields so far and goes on with this one. */
static bool predict_again(struct imv_writer *writer, struct imv_str name, imv_type type) {
    struct draft *draft = &writer->draft;
    for (unsigned i = 0; i < IMV_WRITER_SHAPES && draft->label->shapes[i] != NULL; i++) {
        const struct imv_shape *shape = draft->label->shapes[i];
        if (shape->count <= draft->count || !is_field(shape->fields[draft->count], name, type)) continue;
        if (memcmp(shape->fields, draft->predicted->fields, draft->count * sizeof shape->fields[0]) != 0) continue;
        draft->predicted = shape;
        draft->fast_end = shape->count < draft->cells_room ? shape->count : draft->cells_room;
        return true;
    }
    return false;
}

/* Stops following a shape: from here on the catalog is asked for each field. */
static void give_up_prediction(struct imv_writer *writer) {
    struct draft *draft = &writer->draft;
    for (uint32_t i = 0; i < draft->count; i++) {
        writer->fields[i] = draft->predicted->fields[i];
        writer->places[writer->fields[i]->id] = writer->rows_begun << 16 | i;
    }
    draft->predicted = NULL;
    draft->fast_end = 0;
}

static bool is_fresh(const struct imv_writer *writer, const struct imv_field *field) {
    return writer->fresh != NULL && field >= writer->fresh && field < writer->fresh + IMV_FIELDS_MAX;
}

static imv_status fail_two_types(const struct imv_field *field, imv_type type, struct imv_error *err) {
    return imv_fail(err, IMV_CONFLICT, "field \"%.*s\" is both %s and %s in one row",
                    field->name.size > 64 ? 64 : (int)field->name.size, field->name.data, imv_type_name(field->type),
                    imv_type_name(type));
}

/* Is it a field that this row brings in? Asked first, since another writer may have made it meanwhile. */
static bool find_fresh(const struct imv_writer *writer, struct imv_str name, uint32_t *place) {
    const struct draft *draft = &writer->draft;
    for (uint32_t i = 0; i < draft->count; i++) {
        if (!is_fresh(writer, writer->fields[i]) || !imv_str_equal(writer->fields[i]->name, name)) continue;
        *place = i;
        return true;
    }
    return false;
}

/* A place for a field that the label does not have. It is made when the row ends, so that a row that is refused leaves
 * no field behind whose type it has fixed. */
static imv_status place_fresh(struct imv_writer *writer, struct imv_str name, imv_type type, uint32_t *place,
                              struct imv_error *err) {
    struct draft *draft = &writer->draft;
    IMV_TRY(imv_label_check_field(writer->catalog, draft->row->series->label, name, type, err));
    if (writer->fresh == NULL) writer->fresh = calloc(IMV_FIELDS_MAX, sizeof *writer->fresh);
    if (draft->fresh_count == 0) imv_arena_reset(&writer->fresh_names);
    struct imv_str copy = imv_arena_copy(&writer->fresh_names, name);
    if (writer->fresh == NULL || copy.data == NULL) {
        return imv_fail(err, IMV_NO_MEMORY, "writer: no memory for new fields");
    }
    writer->fresh[draft->fresh_count] = (struct imv_field){.name = copy, .type = type};
    writer->fields[draft->count] = &writer->fresh[draft->fresh_count++];
    *place = draft->count++;
    return IMV_OK;
}

/* Makes the fields that the row brings in. */
static imv_status make_fresh(struct imv_writer *writer, struct imv_error *err) {
    struct draft *draft = &writer->draft;
    const struct imv_field **made = calloc(draft->fresh_count, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "writer: no memory for new fields");
    imv_status status =
        imv_label_make_fields(writer->catalog, draft->row->series->label, writer->fresh, draft->fresh_count, made, err);
    for (uint32_t i = 0; i < draft->count && status == IMV_OK; i++) {
        if (is_fresh(writer, writer->fields[i])) writer->fields[i] = made[writer->fields[i] - writer->fresh];
    }
    free(made);
    return status;
}

/* Finds the place of a field whose name is not the one predicted: a new one, or that which it has already. */
static imv_status place_field(struct imv_writer *writer, struct imv_str name, imv_type type, uint32_t *place,
                              struct imv_error *err) {
    struct draft *draft = &writer->draft;
    if (draft->count == draft->cells_room) move_strings(writer, draft->count + draft->calls_left + 1);
    if (draft->predicted != NULL) {
        if (predict_again(writer, name, type)) {
            *place = draft->count++;
            return IMV_OK;
        }
        give_up_prediction(writer);
    }
    struct imv_label *label = draft->row->series->label;
    if (draft->fresh_count > 0 && find_fresh(writer, name, place)) {
        const struct imv_field *fresh = writer->fields[*place];
        return fresh->type == type ? IMV_OK : fail_two_types(fresh, type, err);
    }
    const struct imv_field *field = imv_label_find_field(writer->catalog, label, name);
    if (field == NULL) return place_fresh(writer, name, type, place, err);
    if (field->type != type) return imv_label_check_field(writer->catalog, label, name, type, err);
    uint64_t seen = writer->places[field->id];
    if (seen >> 16 == writer->rows_begun) {
        *place = (uint32_t)(seen & 0xffff);
        return IMV_OK;
    }
    writer->fields[draft->count] = field;
    writer->places[field->id] = writer->rows_begun << 16 | draft->count;
    *place = draft->count++;
    return IMV_OK;
}

/* The place of the next field's cell. */
static inline imv_status next_place(struct imv_writer *writer, struct imv_str name, imv_type type, uint32_t *place,
                                    struct imv_error *err) {
    struct draft *draft = &writer->draft;
    imv_assert(draft->row != NULL && draft->calls_left > 0);
    draft->calls_left--;
    if (draft->count < draft->fast_end && is_field(draft->predicted->fields[draft->count], name, type)) {
        *place = draft->count++;
        return IMV_OK;
    }
    return place_field(writer, name, type, place, err);
}

imv_status imv_writer_field(struct imv_writer *writer, struct imv_str name, imv_type type, uint64_t cell,
                            struct imv_error *err) {
    imv_assert(type != IMV_STRING);
    uint32_t place;
    imv_status status = next_place(writer, name, type, &place, err);
    if (status == IMV_OK) writer->draft.row->cells[place] = cell;
    return status;
}

imv_status imv_writer_field_string(struct imv_writer *writer, struct imv_str name, struct imv_str text,
                                   struct imv_error *err) {
    if (text.size > IMV_STRING_BYTES_MAX) {
        return imv_fail(err, IMV_INVALID, "field \"%.*s\" has a string of %zu bytes, the limit is %d",
                        name.size > 64 ? 64 : (int)name.size, name.data, text.size, IMV_STRING_BYTES_MAX);
    }
    uint32_t place;
    IMV_TRY(next_place(writer, name, IMV_STRING, &place, err));
    struct draft *draft = &writer->draft;
    imv_assert(text.size <= draft->text_left);
    draft->text_left -= text.size;
    struct imv_string *string = (struct imv_string *)(void *)draft->strings_end;
    string->size = (uint32_t)text.size;
    if (text.size > 0) memcpy(string->bytes, text.data, text.size);
    draft->strings_end += (sizeof *string + text.size + 7) & ~(size_t)7;
    draft->row->cells[place] = imv_string_cell(string);
    return IMV_OK;
}

/* The shape of the finished draft. */
static imv_status find_shape(struct imv_writer *writer, const struct imv_shape **shape, struct imv_error *err) {
    const struct draft *draft = &writer->draft;
    if (draft->predicted != NULL && draft->predicted->count == draft->count) {
        *shape = draft->predicted;
        return IMV_OK;
    }
    const struct imv_field *const *fields = draft_fields(writer);
    for (unsigned i = 0; i < IMV_WRITER_SHAPES && draft->label->shapes[i] != NULL; i++) {
        *shape = draft->label->shapes[i];
        if ((*shape)->count == draft->count && memcmp((*shape)->fields, fields, draft->count * sizeof *fields) == 0) {
            return IMV_OK;
        }
    }
    return imv_label_shape(writer->catalog, draft->row->series->label, fields, draft->count, shape, err);
}

/* Counts a row of this shape at the end of the open batch, bytes long, as complete. */
static void accept_row(struct imv_writer *writer, struct destination *to, struct label_state *label,
                       const struct imv_shape *shape, size_t bytes) {
    struct imv_batch *batch = to->open;
    imv_assert(bytes % 8 == 0 && bytes <= batch->capacity - batch->size);
    batch->size += bytes;
    batch->rows++;
    batch->values += shape->count;
    batch->text += bytes - sizeof(struct imv_row) - shape->count * sizeof(uint64_t);
    uint32_t *sent = &label->fields_sent[to - writer->destinations];
    if (*sent >= shape->fields_end) return;
    to->open->definitions += imv_journal_fields_bound(shape->label, *sent, shape->fields_end);
    *sent = shape->fields_end;
}

/* Replaces the draft by one row per field. The batch has room: FIELD_BYTES_MAX counts it. */
static imv_status cut_row(struct imv_writer *writer, int64_t timestamp, struct imv_error *err) {
    const struct draft *draft = &writer->draft;
    const struct imv_field *const *fields = draft_fields(writer);
    const struct imv_shape *shape;
    /* What can fail comes first, so that all of a row is taken or nothing. */
    for (uint32_t i = 0; i < draft->count; i++) {
        IMV_TRY(imv_label_shape(writer->catalog, draft->row->series->label, &fields[i], 1, &shape, err));
    }
    size_t bytes = (size_t)(draft->strings_end - (char *)draft->row);
    struct imv_row *copy = malloc(bytes);
    if (copy == NULL) return imv_fail(err, IMV_NO_MEMORY, "writer: no memory to cut a row of %zu bytes", bytes);
    memcpy(copy, draft->row, bytes);
    ptrdiff_t moved = (char *)copy - (char *)draft->row;
    for (uint32_t i = 0; i < draft->count; i++) {
        imv_status found = imv_label_shape(writer->catalog, copy->series->label, &fields[i], 1, &shape, NULL);
        imv_assert(found == IMV_OK);
        struct imv_row *row = (struct imv_row *)(void *)(draft->to->open->data + draft->to->open->size);
        *row = (struct imv_row){.series = copy->series, .shape = shape, .timestamp = timestamp};
        row->cells[0] = copy->cells[i];
        if (fields[i]->type == IMV_STRING) {
            const char *string = (const char *)imv_cell_string(copy->cells[i]) + moved;
            memcpy(&row->cells[1], string, sizeof(struct imv_string) + imv_get_u32(string));
            row->cells[0] = imv_string_cell((const struct imv_string *)(const void *)&row->cells[1]);
        }
        accept_row(writer, draft->to, draft->label, shape, imv_row_bytes(row));
    }
    free(copy);
    return IMV_OK;
}

static imv_status end_row(struct imv_writer *writer, int64_t timestamp, struct imv_error *err) {
    struct draft *draft = &writer->draft;
    if (draft->count == 0) return imv_fail(err, IMV_INVALID, "a row without a field");
    if (draft->fresh_count > 0) IMV_TRY(make_fresh(writer, err));
    const struct imv_shape *shape;
    imv_status status = find_shape(writer, &shape, err);
    if (status == IMV_FULL) return cut_row(writer, timestamp, err);
    if (status != IMV_OK) return status;
    remember_shape(draft->label, shape);
    if (draft->cells_room != draft->count) move_strings(writer, draft->count);
    draft->row->shape = shape;
    draft->row->timestamp = timestamp;
    accept_row(writer, draft->to, draft->label, shape, (size_t)(draft->strings_end - (char *)draft->row));
    return IMV_OK;
}

imv_status imv_writer_end(struct imv_writer *writer, int64_t timestamp, struct imv_error *err) {
    imv_assert(writer->draft.row != NULL);
    imv_status status = end_row(writer, timestamp, err);
    writer->draft.row = NULL;
    return status;
}

void imv_writer_abort(struct imv_writer *writer) { writer->draft.row = NULL; }

/* ---- rows by columns (writer_internal.h) ---- */

imv_status imv_writer_add_row(struct imv_writer *writer, struct imv_series *series, const struct imv_shape *shape,
                              size_t bytes, struct imv_row **row, struct imv_error *err) {
    imv_assert(writer->draft.row == NULL && shape->label == series->label);
    struct label_state *label = label_state(writer, series->label);
    if (label == NULL) return imv_fail(err, IMV_NO_MEMORY, "writer: no memory for a label");
    struct destination *to = &writer->destinations[series->shard];
    IMV_TRY(reserve(writer, to, series, bytes, err));
    *row = (struct imv_row *)(void *)(to->open->data + to->open->size);
    accept_row(writer, to, label, shape, bytes);
    return IMV_OK;
}

void imv_writer_want_room(struct imv_writer *writer) { imv_exchange_want_room(writer->exchange, writer->shard); }

struct imv_catalog *imv_writer_catalog(struct imv_writer *writer) {
    return writer->catalog;
}

/* ---- rows of a shape that is known ---- */

void imv_writer_find_many(struct imv_writer *writer, const struct imv_str *raws, size_t count,
                          struct imv_series **series) {
    imv_assert(count <= IMV_WRITER_FIND_MAX);
    imv_series_cache_find_many(&writer->series, raws, count, series);
}

const struct imv_shape *const *imv_writer_shapes(struct imv_writer *writer, const struct imv_label *label) {
    const struct label_state *state = label->id < writer->labels_capacity ? writer->labels[label->id] : NULL;
    return state == NULL || state->shapes[0] == NULL ? NULL : state->shapes;
}

struct imv_row *imv_writer_place(struct imv_writer *writer, struct imv_series *series, size_t bytes) {
    struct destination *to = &writer->destinations[series->shard];
    if (to->open == NULL || to->open->capacity - to->open->size < bytes ||
        to->open->definitions >= IMV_WRITER_DEFINITIONS_MAX) {
        return NULL;
    }
    return (struct imv_row *)(void *)(to->open->data + to->open->size);
}

void imv_writer_put(struct imv_writer *writer, struct imv_row *row, struct imv_series *series,
                    const struct imv_shape *shape, int64_t timestamp, size_t bytes) {
    struct destination *to = &writer->destinations[series->shard];
    struct label_state *label = writer->labels[series->label->id];
    imv_assert(writer->draft.row == NULL && (char *)row == to->open->data + to->open->size);
    imv_assert(shape->label == series->label);
    if (atomic_load_explicit(&series->visible_at, memory_order_acquire) == 0) {
        to->open->definitions += imv_journal_series_bound(series);
    }
    row->series = series;
    row->shape = shape;
    row->timestamp = timestamp;
    remember_shape(label, shape);
    accept_row(writer, to, label, shape, bytes);
}

/* ---- acknowledgement ---- */

void imv_writer_mark(const struct imv_writer *writer, uint64_t *marks) {
    for (uint32_t to = 0; to < writer->exchange->shards; to++) {
        const struct destination *destination = &writer->destinations[to];
        bool filled = destination->open != NULL && destination->open->rows > 0;
        marks[to] = destination->closed + filled;
    }
}

imv_status imv_writer_check(const struct imv_writer *writer, const uint64_t *marks, struct imv_error *err) {
    struct imv_exchange *exchange = writer->exchange;
    imv_status status = IMV_OK;
    for (uint32_t to = 0; to < exchange->shards; to++) {
        struct imv_exchange_cell *cell = imv_exchange_cell(exchange, to, writer->shard);
        if (atomic_load_explicit(&cell->applied, memory_order_acquire) >= marks[to]) continue;
        const struct imv_error *failure = imv_exchange_failure(exchange, to);
        if (failure != NULL) {
            if (err != NULL) *err = *failure;
            return imv_error_wrap(err, IMV_CLOSED, "a journal failed");
        }
        status = IMV_BUSY;
    }
    return status;
}
