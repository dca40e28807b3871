/* arrow.h - the messages of the Arrow IPC streaming format (https://arrow.apache.org/docs/format/Columnar.html), apart
 * from what they mean to this project: framing, metadata read and metadata written. What comes in is ingest/arrow.h,
 * what goes out is query/sink/arrow.c.
 *
 *     stream:   schema | dictionary batch or record batch ... | end
 *     message:  ff ff ff ff | metadata bytes i32, a multiple of 8 with the padding | flatbuffer | padding | body
 *     end:      ff ff ff ff | 00 00 00 00
 *
 * The metadata is a flatbuffer (Message.fbs, Schema.fbs; the slots are in arrow.c). The body holds the buffers of the
 * columns one after the other, each aligned to 8 bytes; the metadata of a batch says where each one is:
 *
 *     fixed width   validity bits | values             bool          validity bits | bits
 *     text          validity bits | offsets | bytes    dictionary    validity bits | indices
 *     null          nothing
 *
 * Reading trusts nothing: whatever a function here returns lies inside the bytes that it was given. One thread.
 */
#pragma once

#include "storage/base/flatbuffer.h"
#include "storage/base/status.h"

enum {
    IMV_ARROW_PREFIX_BYTES = 8,
    IMV_ARROW_METADATA_BYTES_MAX = 1 << 20, /* of one message; ten thousand columns need less */
};

/* The header of a message: values of the union MessageHeader. */
enum imv_arrow_header { IMV_ARROW_SCHEMA = 1, IMV_ARROW_DICTIONARY = 2, IMV_ARROW_RECORDS = 3 };

/* What a column's values are, apart from a dictionary. Types that the format knows beside these are IMV_ARROW_OTHER. */
enum imv_arrow_kind {
    IMV_ARROW_OTHER,
    IMV_ARROW_NULL,
    IMV_ARROW_INT,   /* bits 8, 16, 32, 64; is_signed */
    IMV_ARROW_FLOAT, /* bits 16, 32, 64 */
    IMV_ARROW_BOOL,
    IMV_ARROW_TEXT,     /* offset bits 32 or 64 */
    IMV_ARROW_TIME,     /* timestamp or date: an integer of bits, in units of unit_ns since 1970 */
    IMV_ARROW_DURATION, /* int64 in units of unit_ns */
};

struct imv_arrow_type {
    enum imv_arrow_kind kind;
    uint8_t bits;
    bool is_signed;
    int64_t unit_ns;
    const char *name; /* for messages: "uint16", "large_utf8", "list"; static */
};

struct imv_arrow_field {
    struct imv_str name;
    struct imv_arrow_type type; /* of the values; of a dictionary's entries when there is one */
    bool dictionary;
    int64_t dictionary_id;
    uint8_t index_bits;
    bool index_signed;
    struct imv_flat_table table; /* for imv_arrow_metadata */
};

struct imv_arrow_message {
    enum imv_arrow_header header;
    size_t body_bytes;
    struct imv_flat_reader *reader;
    struct imv_flat_table table; /* the header's */
};

/* The buffers and nodes of one batch in its body. */
struct imv_arrow_batch {
    int64_t rows;
    struct imv_flat_vector nodes, buffers;
    uint32_t node_next, buffer_next; /* what imv_arrow_next_* takes next */
    struct imv_str body;
};

/* Reads the eight bytes before a message. *metadata_bytes is 0 at the end of the stream. IMV_INVALID: not a stream of
 * this format, or metadata above IMV_ARROW_METADATA_BYTES_MAX. */
imv_status imv_arrow_prefix(const void *prefix, size_t *metadata_bytes, struct imv_error *err);

/* Reads the metadata; reader and the bytes must outlive the message. IMV_INVALID: it is damaged, of an unknown version
 * or header. */
imv_status imv_arrow_message_open(const void *metadata, size_t size, struct imv_flat_reader *reader,
                                  struct imv_arrow_message *message, struct imv_error *err);

/* The columns of a schema message. IMV_INVALID: it is damaged, or big-endian. */
imv_status imv_arrow_schema_count(const struct imv_arrow_message *message, uint32_t *count, struct imv_error *err);
imv_status imv_arrow_schema_field(const struct imv_arrow_message *message, uint32_t i, struct imv_arrow_field *field,
                                  struct imv_error *err);
/* The metadata of the schema, or of a field, under a key; {NULL, 0} when there is none. */
struct imv_str imv_arrow_schema_metadata(const struct imv_arrow_message *message, struct imv_str key);
struct imv_str imv_arrow_field_metadata(const struct imv_arrow_field *field, struct imv_str key);

/* The batch of a message of records or of a dictionary (with its id, and whether it adds to the entries there).
 * IMV_INVALID: damaged. IMV_UNSUPPORTED: a compressed body. */
imv_status imv_arrow_batch_open(const struct imv_arrow_message *message, struct imv_str body,
                                struct imv_arrow_batch *batch, struct imv_error *err);
imv_status imv_arrow_dictionary_open(const struct imv_arrow_message *message, struct imv_str body,
                                     struct imv_arrow_batch *batch, int64_t *id, bool *delta, struct imv_error *err);
/* The next column's length and number of nulls; false: there is none, or a number below 0. */
bool imv_arrow_next_node(struct imv_arrow_batch *batch, int64_t *rows, int64_t *nulls);
/* The next buffer, in the body and aligned to 8 as the body is; false: there is none, or it is not. */
bool imv_arrow_next_buffer(struct imv_arrow_batch *batch, struct imv_str *bytes);

/* ---- writing ---- */

/* A column to declare. nullable is always said; metadata_key may be NULL. */
struct imv_arrow_column {
    struct imv_str name;
    struct imv_arrow_type type;
    bool dictionary; /* of text, with indices of int32 */
    int64_t dictionary_id;
    const char *time_zone; /* of TIME; NULL: none */
    const char *metadata_key, *metadata_value;
};

struct imv_arrow_type imv_arrow_int(uint8_t bits, bool is_signed);
struct imv_arrow_type imv_arrow_float(uint8_t bits);
struct imv_arrow_type imv_arrow_simple(enum imv_arrow_kind kind); /* NULL, BOOL, TEXT, and TIME, DURATION in ns */

/* Gathers the body of a batch and where its parts are. */
struct imv_arrow_body {
    struct imv_buffer bytes, nodes, buffers; /* nodes and buffers: pairs of u64 */
};

/* bytes_max bounds the body. */
void imv_arrow_body_init(struct imv_arrow_body *body, size_t bytes_max);
void imv_arrow_body_reset(struct imv_arrow_body *body);
void imv_arrow_body_release(struct imv_arrow_body *body);
/* A column begins. */
void imv_arrow_body_node(struct imv_arrow_body *body, uint64_t rows, uint64_t nulls);
/* A buffer of size bytes, its padding zeroed; returns where its content goes, which holds until the next call, or NULL
 * when the body is full (or size is 0: nothing is to be written). */
void *imv_arrow_body_buffer(struct imv_arrow_body *body, size_t size);

/* Append whole messages to out; what does not fit shows in out->failed. */
void imv_arrow_put_schema(struct imv_buffer *out, const struct imv_arrow_column *columns, uint32_t count,
                          const char *metadata_key, const char *metadata_value);
void imv_arrow_put_records(struct imv_buffer *out, uint64_t rows, const struct imv_arrow_body *body);
void imv_arrow_put_dictionary(struct imv_buffer *out, int64_t id, bool delta, uint64_t rows,
                              const struct imv_arrow_body *body);
void imv_arrow_put_end(struct imv_buffer *out);
