/* arrow.h - rows from an Arrow IPC stream (storage/base/arrow.h) into the writer: the columnar way in.
 *
 * Every Arrow library can write it, and no line is printed or parsed: a row of ten integers under ten tags is 130
 * bytes.
 *
 *     bytes -> messages -> columns -> codes of tags -> series -> runs of rows of one shape -> engine/writer_rows.h
 *
 * What a column means is said by the field's metadata, key `imvdb.role`:
 *
 *     label   text: the row's label
 *     tag     text: a tag of the row's series, named as the column; null: the series has no such tag
 *     field   number, bool or text: a field, named as the column; null: the row has no such value
 *     time    the row's time; null: the row is refused. At most one column
 *
 * and where nothing is said: the one timestamp or date column is the time, of several the one named `time` or
 * `timestamp`, without any an integer column of such a name, in units of the request's precision, and without that each
 * row gets the clock's time; text, dictionary or not, is a tag; everything else is a field. Rows without a label of
 * their own take the schema's metadata `imvdb.label`, else the request's label.
 *
 *     Arrow type                         field             Arrow type               field
 *     int8 .. int64                      integer           utf8, large_utf8         string
 *     uint8 .. uint64                    unsigned integer  timestamp, date          integer of ns since 1970
 *     float32, float64                   float             duration                 integer of ns
 *     bool                               boolean           null                     nothing
 *
 * A time zone is taken as UTC. Text may be dictionary-encoded with indices of any integer type; dictionaries may be
 * replaced and added to at any place. Other types, float16 among them, and compressed bodies are refused by name.
 *
 * A bad row (no time, bad names, a field of another type) is reported with its number in the stream, counted from 1,
 * and leaves nothing behind; the others are kept. A stream that is damaged or cannot be understood ends there: what was
 * taken before stays.
 *
 * Speed comes from doing everything that is about names once: a tag's text becomes a code of the stream when its
 * dictionary arrives, the codes of a row packed into 128 bits find its series in a table, and the shape of a run of
 * rows with the same nulls is looked up once. Row order is kept.
 *
 * Memory: IMV_ARROW_STREAM_BYTES_MAX a stream for the message at hand, dictionaries and tables, charged to a budget of
 * all streams. When the tables of tags and series are what fills it, they are forgotten and begun again.
 *
 * Files, in reading order: arrow_internal.h, arrow.c (messages), arrow_schema.c (roles), arrow_text.c (texts to codes,
 * dictionaries), arrow_column.c (values of a slice), arrow_series.c (codes to series), arrow_rows.c (slices to rows).
 *
 * The shard's thread only.
 */
#pragma once

#include "engine/writer.h"
#include "ingest/line.h"

struct imv_arrow_feed;
struct imv_budget;
struct imv_clock;

enum {
    IMV_ARROW_MESSAGE_BYTES_MAX = 64 << 20, /* metadata and body of one message */
    IMV_ARROW_STREAM_BYTES_MAX = 192 << 20,
    IMV_ARROW_SPARE_BYTES_MAX = 4 << 20,
    IMV_ARROW_DICTIONARY_MAX = 1 << 20, /* entries */
    IMV_ARROW_FIELDS_MAX = IMV_LINE_FIELDS_MAX,
    IMV_ARROW_COLUMNS_MAX = IMV_ARROW_FIELDS_MAX + IMV_TAGS_MAX + 2,
};

/* Memory of messages that one stream leaves to the next of the same thread, at most IMV_ARROW_SPARE_BYTES_MAX; zero at
 * the beginning. */
struct imv_arrow_spare {
    void *memory;
    size_t bytes;
};
void imv_arrow_spare_release(struct imv_arrow_spare *spare);

struct imv_arrow_feed_options {
    struct imv_writer *writer;
    const struct imv_clock *clock;
    struct imv_budget *budget;     /* of all streams; NULL: each has its maximum only */
    struct imv_arrow_spare *spare; /* may be NULL; outlives the feed */
    enum imv_precision precision;  /* of integer columns that are times */
    struct imv_str label;          /* of rows that have none; may be empty. Copied */
    /* Called for each refused row. May be NULL. */
    void (*reject)(void *context, uint64_t row, const struct imv_error *reason);
    void *context;
};

/* IMV_NO_MEMORY. */
imv_status imv_arrow_feed_new(const struct imv_arrow_feed_options *options, struct imv_arrow_feed **feed,
                              struct imv_error *err);
void imv_arrow_feed_free(struct imv_arrow_feed *feed); /* NULL is allowed */

/* Takes a piece of the stream; *taken says how much of it. IMV_OK: all. IMV_FULL: the writer has no room; IMV_BUSY:
 * enough rows for one turn of the loop: offer the rest, which may be nothing, again. What else is returned refuses the
 * stream, now and from here on: IMV_INVALID, IMV_UNSUPPORTED, IMV_NO_MEMORY (also: the budget is spent). */
imv_status imv_arrow_feed_take(struct imv_arrow_feed *feed, const char *bytes, size_t size, size_t *taken,
                               struct imv_error *err);

/* After the last piece. IMV_INVALID: the stream ends inside a message, or before its schema. */
imv_status imv_arrow_feed_end(const struct imv_arrow_feed *feed, struct imv_error *err);

uint64_t imv_arrow_feed_rows(const struct imv_arrow_feed *feed);     /* taken into the writer */
uint64_t imv_arrow_feed_rejected(const struct imv_arrow_feed *feed); /* refused */
