/* writer.h - how a source of points (a socket, an importer) puts rows into the engine.
 *
 * Each shard thread has one writer, shared by all its connections. It resolves series and fields through caches, packs
 * rows into one open batch per destination shard, and sends the batches at imv_writer_send. Batches from one writer to
 * one destination are numbered; a mark is the vector of these numbers, and is durable when every destination has
 * applied up to its entry. That is the whole acknowledgement protocol.
 *
 *     imv_writer_find_series | imv_writer_make_series   -> series
 *     imv_writer_begin(series); imv_writer_field(..)...; imv_writer_end(timestamp) | imv_writer_abort
 *     imv_writer_send                                     once per loop turn
 *     imv_writer_mark -> imv_writer_check(mark)           acknowledge when IMV_OK
 *
 * A row is packed straight into the open batch: while its fields come in the order of a shape that the label had
 * lately, each is a comparison of names and a store; only a new order asks the catalog. A batch is closed when it is
 * full, when it is sent, or when the definitions that its rows may bring into the owner's journal reach
 * IMV_WRITER_DEFINITIONS_MAX, so that any one batch fits a journal group.
 *
 * A source that knows its fields beforehand gives rows by columns instead: writer_rows.h.
 *
 * Memory: 64 KiB a batch from the engine's batch budget, one spare batch that is taken when the budget is spent, and
 * the series cache (series_cache.h).
 *
 * The shard's thread only.
 */
#pragma once

#include "engine/batch.h"

struct imv_engine;
struct imv_exchange;
struct imv_writer;

enum {
    IMV_WRITER_DEFINITIONS_MAX = 512 * 1024, /* bytes; one row may pass it */
    IMV_WRITER_ROW_BYTES_MAX = 512 * 1024,   /* 44 bytes a field and the text of its strings */
};

/* The writer of a shard of the engine. IMV_NO_MEMORY. */
imv_status imv_writer_new(struct imv_engine *engine, uint32_t shard, struct imv_writer **writer, struct imv_error *err);
/* The same from the parts that it uses, which outlive it: budget may be NULL (no limit). */
imv_status imv_writer_new_for(struct imv_catalog *catalog, struct imv_exchange *exchange, struct imv_budget *budget,
                              uint32_t shard, struct imv_writer **writer, struct imv_error *err);
/* Batches that were not sent are dropped. NULL is allowed. */
void imv_writer_free(struct imv_writer *writer);

/* The catalog that its series belong to. */
struct imv_catalog *imv_writer_catalog(struct imv_writer *writer);

/* Looks up the series that the same raw bytes ("cpu,hostname=h1", escapes and order as sent) meant before; NULL when
 * unknown. The key is XXH3-128 of the bytes under a seed random per process: 2^-64 odds at a billion keys, and a client
 * cannot aim for a collision. The cache is bounded; when full it forgets. */
struct imv_series *imv_writer_find_series(struct imv_writer *writer, struct imv_str raw);

/* Would a row with these fields (ids do not matter) be taken? Makes nothing: asked before imv_writer_make_series, so
 * that a row that is refused leaves no series behind. Errors as imv_catalog_check_row. */
imv_status imv_writer_check_row(struct imv_writer *writer, struct imv_str label, const struct imv_tag *tags,
                                size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                struct imv_error *err);

/* Resolves label and tags, making what is new, and remembers raw. Errors as imv_catalog_resolve. */
imv_status imv_writer_make_series(struct imv_writer *writer, struct imv_str raw, struct imv_str label,
                                  const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                  struct imv_error *err);

/* Starts a row of at most fields_max calls of imv_writer_field and bytes_max bytes of string values. IMV_FULL: no
 * memory for a batch now; does not happen to a line of line protocol when imv_writer_has_room was asked before.
 * IMV_INVALID: it may pass IMV_WRITER_ROW_BYTES_MAX. */
imv_status imv_writer_begin(struct imv_writer *writer, struct imv_series *series, uint32_t fields_max, size_t bytes_max,
                            struct imv_error *err);
/* Adds a value of a type other than STRING. A field given twice in a row keeps the last value, as InfluxDB does. A
 * field that is new is made when the row ends, and not when the row is refused. Errors as imv_label_field. */
imv_status imv_writer_field(struct imv_writer *writer, struct imv_str name, imv_type type, uint64_t cell,
                            struct imv_error *err);
/* Adds a string value; text is copied. IMV_INVALID also: longer than IMV_STRING_BYTES_MAX. */
imv_status imv_writer_field_string(struct imv_writer *writer, struct imv_str name, struct imv_str text,
                                   struct imv_error *err);
/* Completes the row. IMV_INVALID: it has no field. When the catalog takes no more sets of fields (IMV_SHAPES_BYTES_MAX)
 * it is stored as one row per field, which reads the same. After a failure the row is dropped. */
imv_status imv_writer_end(struct imv_writer *writer, int64_t timestamp, struct imv_error *err);
/* Drops the row that was begun; allowed after any failure of the above. */
void imv_writer_abort(struct imv_writer *writer);

/* ---- rows of a shape that is known ----
 *
 * A parser that knows which series a line means and compares its names with the shapes that lines of this label had
 * lately needs neither a lookup nor a call a field: it writes the row itself.
 *
 *     imv_writer_find_many -> series
 *     imv_writer_shapes(series->label) -> shapes
 *     imv_writer_place(series, bytes) -> row; cells and strings as in batch.h; imv_writer_put(row, shape, timestamp, bytes)
 *
 * A row that was placed and not put is dropped by the next call of any kind. */

/* What imv_writer_find_series says of each of count keys, at most IMV_WRITER_FIND_MAX; their cache misses overlap. */
enum { IMV_WRITER_FIND_MAX = 16 };
void imv_writer_find_many(struct imv_writer *writer, const struct imv_str *raws, size_t count,
                          struct imv_series **series);

/* The shapes that rows of the label had lately, the latest first: IMV_WRITER_SHAPES entries, NULL behind the last.
 * Valid until the next row. NULL: none is known. */
enum { IMV_WRITER_SHAPES = 4 };
const struct imv_shape *const *imv_writer_shapes(struct imv_writer *writer, const struct imv_label *label);

/* A place for a row of at most bytes, at the end of the open batch. NULL when there is none, and the way through
 * imv_writer_begin opens one. */
struct imv_row *imv_writer_place(struct imv_writer *writer, struct imv_series *series, size_t bytes);
/* Completes the row of this series that was placed last: cells of the shape are filled, and their strings stand behind
 * them; bytes, a multiple of 8, is what all of it takes. */
void imv_writer_put(struct imv_writer *writer, struct imv_row *row, struct imv_series *series,
                    const struct imv_shape *shape, int64_t timestamp, size_t bytes);

/* Sends all open batches to their shards and wakes these. Batches that a full queue refuses stay here, in order, and go
 * with a later send. */
void imv_writer_send(struct imv_writer *writer);

/* False while the way to some shard is blocked (queue full, batch memory spent): the caller stops reading its sockets
 * until it is true again; the engine wakes this shard when that may be so. Cheap: meant to be asked before each row. */
bool imv_writer_has_room(struct imv_writer *writer);

/* IMV_OK, or IMV_FULL with the reason while nothing new is taken because the disk is nearly full; has_room is false
 * then, and the shards are woken when that ends. A source that can tell its client does, the others wait. */
imv_status imv_writer_accepts(struct imv_writer *writer, struct imv_error *err);

/* The position after all rows ended so far, also of those not sent yet. marks has one entry per shard. */
void imv_writer_mark(const struct imv_writer *writer, uint64_t *marks);

/* IMV_OK: all rows before the mark are durable and visible. IMV_BUSY: not yet. IMV_CLOSED: a shard's journal failed and
 * they may never be; err says why. */
imv_status imv_writer_check(const struct imv_writer *writer, const uint64_t *marks, struct imv_error *err);
