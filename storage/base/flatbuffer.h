/* flatbuffer.h - reading and writing FlatBuffers without a schema compiler: the metadata of Arrow messages.
 *
 * A flatbuffer is little-endian and made of tables, vectors and strings that point at each other by offsets of 32 bits:
 *
 *     buffer:  offset of the root table | ...
 *     table:   (position - this) of its vtable, i32 | fields, each aligned to its size
 *     vtable:  its bytes u16 | the table's bytes u16 | for each slot where its field stands in the table, 0: absent
 *     vector:  count u32 | items                 string: bytes u32 | text | NUL
 *
 * Reading checks each offset and size at the moment of its use, so there is nothing to verify beforehand. What does not
 * fit sets `bad` of the reader and reads as absent: the caller reads all it wants and asks once at the end. Every read
 * costs constant time, whatever the bytes are.
 *
 * Writing goes forward through a buffer: a parent first, with its offsets left open, then its children, which close
 * them.
 *
 * The bytes belong to the caller and stay as they are while tables and vectors are in use. One thread.
 */
#pragma once

#include "storage/base/buffer.h"

struct imv_flat_reader {
    const uint8_t *bytes;
    uint32_t size;
    bool bad; /* something did not fit */
};

/* A table of a buffer; of an absent one every field is absent. */
struct imv_flat_table {
    struct imv_flat_reader *reader; /* NULL: absent */
    uint32_t position, size;
    uint32_t vtable;
    uint32_t slots;
};

/* A vector whose items all lie in the buffer; absent: {NULL, 0}. */
struct imv_flat_vector {
    const uint8_t *items; /* not aligned */
    uint32_t count;
};

/* size is less than 2^31; a larger one is bad. */
void imv_flat_reader_init(struct imv_flat_reader *reader, const void *bytes, size_t size);
struct imv_flat_table imv_flat_root(struct imv_flat_reader *reader);

/* Scalars; `absent` when the table has no such field. */
uint8_t imv_flat_u8(const struct imv_flat_table *table, uint32_t slot, uint8_t absent);
int16_t imv_flat_i16(const struct imv_flat_table *table, uint32_t slot, int16_t absent);
int32_t imv_flat_i32(const struct imv_flat_table *table, uint32_t slot, int32_t absent);
int64_t imv_flat_i64(const struct imv_flat_table *table, uint32_t slot, int64_t absent);

struct imv_flat_table imv_flat_child(const struct imv_flat_table *table, uint32_t slot);
/* {NULL, 0} when absent; an empty string has data. */
struct imv_str imv_flat_string(const struct imv_flat_table *table, uint32_t slot);
/* Of scalars or structs of item_bytes, or of tables (4). */
struct imv_flat_vector imv_flat_items(const struct imv_flat_table *table, uint32_t slot, uint32_t item_bytes);
/* Table i < count of a vector of tables that came from the same buffer. */
struct imv_flat_table imv_flat_item(struct imv_flat_reader *reader, const struct imv_flat_vector *vector, uint32_t i);

/* ---- writing ---- */

/* Appends to out; positions and their alignment count from `start`. A failed append shows in out->failed, and
 * everything after it does nothing. */
struct imv_flat_writer {
    struct imv_buffer *out;
    size_t start;
};

/* A table whose slot i has a field of sizes[i] bytes (0: absent; 1, 2, 4 or 8), all zero. Returns its position. */
uint32_t imv_flat_put_table(struct imv_flat_writer *writer, const uint8_t *sizes, uint32_t slots);
/* Sets a field of the table, of size bytes as declared, to the low bytes of value. */
void imv_flat_set(struct imv_flat_writer *writer, uint32_t table, uint32_t slot, uint32_t size, uint64_t value);
/* Points a field of 4 bytes at what stands at position `target`, behind the table. */
void imv_flat_set_offset(struct imv_flat_writer *writer, uint32_t table, uint32_t slot, uint32_t target);

/* The root's offset, which comes first; returns its position, for imv_flat_close. */
uint32_t imv_flat_put_offset(struct imv_flat_writer *writer);
/* Points the offset at `at` (imv_flat_put_offset, or an item of a vector of tables) at position `target`. */
void imv_flat_close(struct imv_flat_writer *writer, uint32_t at, uint32_t target);

uint32_t imv_flat_put_string(struct imv_flat_writer *writer, struct imv_str text);
/* A vector of count items of item_bytes (at most 8 of alignment), all zero; *items is the position of the first. */
uint32_t imv_flat_put_vector(struct imv_flat_writer *writer, uint32_t count, uint32_t item_bytes, uint32_t *items);
/* Sets the i-th 64-bit word behind position items. */
void imv_flat_set_word(struct imv_flat_writer *writer, uint32_t items, uint32_t i, uint64_t value);
