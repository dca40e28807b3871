#include "storage/base/flatbuffer.h"

#include "storage/base/assert.h"

/* ---- reading ---- */

void imv_flat_reader_init(struct imv_flat_reader *reader, const void *bytes, size_t size) {
    bool good = size <= INT32_MAX;
    *reader = (struct imv_flat_reader){.bytes = bytes, .size = good ? (uint32_t)size : 0, .bad = !good};
}

static bool holds(const struct imv_flat_reader *reader, uint64_t position, uint64_t size) {
    return position <= reader->size && size <= reader->size - position;
}

static struct imv_flat_table bad_table(struct imv_flat_reader *reader) {
    reader->bad = true;
    return (struct imv_flat_table){0};
}

static struct imv_flat_table table_at(struct imv_flat_reader *reader, uint64_t position) {
    if (!holds(reader, position, 4)) return bad_table(reader);
    int64_t vtable = (int64_t)position - (int32_t)imv_get_u32(reader->bytes + position);
    if (vtable < 0 || !holds(reader, (uint64_t)vtable, 4)) return bad_table(reader);
    uint32_t vtable_bytes = imv_get_u16(reader->bytes + vtable), size = imv_get_u16(reader->bytes + vtable + 2);
    if (vtable_bytes < 4 || vtable_bytes % 2 != 0 || !holds(reader, (uint64_t)vtable, vtable_bytes) || size < 4 ||
        !holds(reader, position, size))
        return bad_table(reader);
    return (struct imv_flat_table){.reader = reader,
                                   .position = (uint32_t)position,
                                   .size = size,
                                   .vtable = (uint32_t)vtable,
                                   .slots = (vtable_bytes - 4) / 2};
}

/* Where the field of a slot stands, with size bytes; NULL: absent. */
static const uint8_t *field_of(const struct imv_flat_table *table, uint32_t slot, uint32_t size) {
    if (table->reader == NULL || slot >= table->slots) return NULL;
    uint32_t offset = imv_get_u16(table->reader->bytes + table->vtable + 4 + 2 * slot);
    if (offset == 0) return NULL;
    if (offset >= 4 && offset + size <= table->size) return table->reader->bytes + table->position + offset;
    table->reader->bad = true;
    return NULL;
}

/* The position that the offset at `at` means. */
static uint64_t follow(const struct imv_flat_reader *reader, const uint8_t *at) {
    return (uint64_t)(at - reader->bytes) + imv_get_u32(at);
}

struct imv_flat_table imv_flat_root(struct imv_flat_reader *reader) {
    if (!holds(reader, 0, 4)) return bad_table(reader);
    return table_at(reader, follow(reader, reader->bytes));
}

uint8_t imv_flat_u8(const struct imv_flat_table *table, uint32_t slot, uint8_t absent) {
    const uint8_t *at = field_of(table, slot, 1);
    return at == NULL ? absent : *at;
}

int16_t imv_flat_i16(const struct imv_flat_table *table, uint32_t slot, int16_t absent) {
    const uint8_t *at = field_of(table, slot, 2);
    return at == NULL ? absent : (int16_t)imv_get_u16(at);
}

int32_t imv_flat_i32(const struct imv_flat_table *table, uint32_t slot, int32_t absent) {
    const uint8_t *at = field_of(table, slot, 4);
    return at == NULL ? absent : (int32_t)imv_get_u32(at);
}

int64_t imv_flat_i64(const struct imv_flat_table *table, uint32_t slot, int64_t absent) {
    const uint8_t *at = field_of(table, slot, 8);
    return at == NULL ? absent : (int64_t)imv_get_u64(at);
}

struct imv_flat_table imv_flat_child(const struct imv_flat_table *table, uint32_t slot) {
    const uint8_t *at = field_of(table, slot, 4);
    return at == NULL ? (struct imv_flat_table){0} : table_at(table->reader, follow(table->reader, at));
}

struct imv_flat_vector imv_flat_items(const struct imv_flat_table *table, uint32_t slot, uint32_t item_bytes) {
    const uint8_t *at = field_of(table, slot, 4);
    if (at == NULL) return (struct imv_flat_vector){0};
    struct imv_flat_reader *reader = table->reader;
    uint64_t position = follow(reader, at);
    if (holds(reader, position, 4)) {
        uint32_t count = imv_get_u32(reader->bytes + position);
        if (holds(reader, position + 4, (uint64_t)count * item_bytes))
            return (struct imv_flat_vector){reader->bytes + position + 4, count};
    }
    reader->bad = true;
    return (struct imv_flat_vector){0};
}

struct imv_str imv_flat_string(const struct imv_flat_table *table, uint32_t slot) {
    struct imv_flat_vector text = imv_flat_items(table, slot, 1);
    return (struct imv_str){(const char *)text.items, text.count};
}

struct imv_flat_table imv_flat_item(struct imv_flat_reader *reader, const struct imv_flat_vector *vector, uint32_t i) {
    imv_assert(i < vector->count);
    return table_at(reader, follow(reader, vector->items + 4 * (size_t)i));
}

/* ---- writing ---- */

static uint32_t position_of(const struct imv_flat_writer *writer) {
    return (uint32_t)(writer->out->size - writer->start);
}

static char *at_position(const struct imv_flat_writer *writer, uint32_t position) {
    return writer->out->data + writer->start + position;
}

/* Appends zeros up to a position p with (p + lead) % align == 0, and size zeros behind; returns p. */
static uint32_t put_zeros(struct imv_flat_writer *writer, uint32_t lead, uint32_t align, size_t size) {
    uint32_t position = position_of(writer), padding = (align - (position + lead) % align) % align;
    char *at = imv_buffer_reserve(writer->out, padding + size);
    if (at == NULL) return 0;
    memset(at, 0, padding + size);
    writer->out->size += padding + size;
    return position + padding;
}

uint32_t imv_flat_put_table(struct imv_flat_writer *writer, const uint8_t *sizes, uint32_t slots) {
    enum { SLOTS_MAX = 16 };
    imv_assert(slots <= SLOTS_MAX);
    uint16_t offsets[SLOTS_MAX], end = 4;
    for (uint32_t i = 0; i < slots; i++) {
        if (sizes[i] > 0) end = (uint16_t)((end + sizes[i] - 1) / sizes[i] * sizes[i]);
        offsets[i] = sizes[i] > 0 ? end : 0;
        end = (uint16_t)(end + sizes[i]);
    }
    uint32_t vtable = put_zeros(writer, 0, 2, 4 + 2 * slots), table = put_zeros(writer, 0, 8, end);
    if (writer->out->failed) return 0;
    imv_put_u16(at_position(writer, vtable), (uint16_t)(4 + 2 * slots));
    imv_put_u16(at_position(writer, vtable + 2), end);
    for (uint32_t i = 0; i < slots; i++) imv_put_u16(at_position(writer, vtable + 4 + 2 * i), offsets[i]);
    imv_put_u32(at_position(writer, table), table - vtable);
    return table;
}

static uint32_t field_position(const struct imv_flat_writer *writer, uint32_t table, uint32_t slot) {
    uint32_t vtable = table - imv_get_u32(at_position(writer, table));
    uint16_t offset = imv_get_u16(at_position(writer, vtable + 4 + 2 * slot));
    imv_assert(offset != 0);
    return table + offset;
}

void imv_flat_set(struct imv_flat_writer *writer, uint32_t table, uint32_t slot, uint32_t size, uint64_t value) {
    if (writer->out->failed) return;
    imv_assert(size <= 8);
    memcpy(at_position(writer, field_position(writer, table, slot)), &value, size);
}

uint32_t imv_flat_put_offset(struct imv_flat_writer *writer) { return put_zeros(writer, 0, 4, 4); }

void imv_flat_close(struct imv_flat_writer *writer, uint32_t at, uint32_t target) {
    if (writer->out->failed) return;
    imv_assert(target > at);
    imv_put_u32(at_position(writer, at), target - at);
}

void imv_flat_set_offset(struct imv_flat_writer *writer, uint32_t table, uint32_t slot, uint32_t target) {
    if (writer->out->failed) return;
    imv_flat_close(writer, field_position(writer, table, slot), target);
}

uint32_t imv_flat_put_string(struct imv_flat_writer *writer, struct imv_str text) {
    uint32_t position = put_zeros(writer, 0, 4, 4 + text.size + 1);
    if (writer->out->failed) return 0;
    imv_put_u32(at_position(writer, position), (uint32_t)text.size);
    if (text.size > 0) memcpy(at_position(writer, position + 4), text.data, text.size);
    return position;
}

uint32_t imv_flat_put_vector(struct imv_flat_writer *writer, uint32_t count, uint32_t item_bytes, uint32_t *items) {
    uint32_t position = put_zeros(writer, 4, item_bytes >= 8 ? 8 : 4, 4 + (size_t)count * item_bytes);
    *items = position + 4;
    if (!writer->out->failed) imv_put_u32(at_position(writer, position), count);
    return position;
}

void imv_flat_set_word(struct imv_flat_writer *writer, uint32_t items, uint32_t i, uint64_t value) {
    if (!writer->out->failed) imv_put_u64(at_position(writer, items + 8 * i), value);
}
