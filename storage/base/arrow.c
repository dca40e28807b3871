#include "storage/base/arrow.h"

#include "storage/base/assert.h"

#include <inttypes.h>

/* Slots of the tables of Message.fbs and Schema.fbs. The type of a union stands in the slot before its table. */
enum {
    MESSAGE_VERSION = 0,
    MESSAGE_HEADER_TYPE = 1,
    MESSAGE_HEADER = 2,
    MESSAGE_BODY_LENGTH = 3,
    SCHEMA_ENDIANNESS = 0,
    SCHEMA_FIELDS = 1,
    SCHEMA_METADATA = 2,
    FIELD_NAME = 0,
    FIELD_NULLABLE = 1,
    FIELD_TYPE_TYPE = 2,
    FIELD_TYPE = 3,
    FIELD_DICTIONARY = 4,
    FIELD_CHILDREN = 5,
    FIELD_METADATA = 6,
    DICTIONARY_ID = 0,
    DICTIONARY_INDEX_TYPE = 1,
    KEY_VALUE_KEY = 0,
    KEY_VALUE_VALUE = 1,
    INT_BITS = 0,
    INT_SIGNED = 1,
    FLOAT_PRECISION = 0,
    TIME_UNIT = 0, /* of Timestamp, Date, Duration */
    TIMESTAMP_ZONE = 1,
    BATCH_LENGTH = 0,
    BATCH_NODES = 1,
    BATCH_BUFFERS = 2,
    BATCH_COMPRESSION = 3,
    COMPRESSION_CODEC = 0,
    DICTIONARY_BATCH_ID = 0,
    DICTIONARY_BATCH_DATA = 1,
    DICTIONARY_BATCH_DELTA = 2,
};

/* Values of the union Type. */
enum type_code {
    TYPE_NULL = 1,
    TYPE_INT = 2,
    TYPE_FLOAT = 3,
    TYPE_UTF8 = 5,
    TYPE_BOOL = 6,
    TYPE_DATE = 8,
    TYPE_TIMESTAMP = 10,
    TYPE_DURATION = 18,
    TYPE_LARGE_UTF8 = 20,
};

enum { VERSION_4 = 3, VERSION_5 = 4, METADATA_PAIRS_MAX = 1024 };

static const char *type_name(uint8_t code) {
    static const char *const names[] = {"unknown",
                                        "null",
                                        "int",
                                        "float",
                                        "binary",
                                        "utf8",
                                        "bool",
                                        "decimal",
                                        "date",
                                        "time",
                                        "timestamp",
                                        "interval",
                                        "list",
                                        "struct",
                                        "union",
                                        "fixed_size_binary",
                                        "fixed_size_list",
                                        "map",
                                        "duration",
                                        "large_binary",
                                        "large_utf8",
                                        "large_list",
                                        "run_end_encoded",
                                        "binary_view",
                                        "utf8_view",
                                        "list_view",
                                        "large_list_view"};
    return names[code < sizeof names / sizeof *names ? code : 0];
}

/* ---- reading ---- */

imv_status imv_arrow_prefix(const void *prefix, size_t *metadata_bytes, struct imv_error *err) {
    uint32_t mark = imv_get_u32(prefix), size = imv_get_u32((const char *)prefix + 4);
    if (memcmp(prefix, "ARROW1", 6) == 0)
        return imv_fail(err, IMV_INVALID, "arrow: this is the file format, the streaming format is expected");
    if (mark != UINT32_MAX)
        return imv_fail(err, IMV_INVALID, "arrow: a message begins with %08" PRIx32 ", not with ffffffff", mark);
    if (size > IMV_ARROW_METADATA_BYTES_MAX)
        return imv_fail(err, IMV_INVALID, "arrow: a message has %" PRIu32 " bytes of metadata, the limit is %d", size,
                        IMV_ARROW_METADATA_BYTES_MAX);
    *metadata_bytes = size;
    return IMV_OK;
}

static imv_status damaged(const char *what, struct imv_error *err) {
    return imv_fail(err, IMV_INVALID, "arrow: the metadata of a %s is damaged", what);
}

imv_status imv_arrow_message_open(const void *metadata, size_t size, struct imv_flat_reader *reader,
                                  struct imv_arrow_message *message, struct imv_error *err) {
    imv_flat_reader_init(reader, metadata, size);
    struct imv_flat_table root = imv_flat_root(reader);
    int16_t version = imv_flat_i16(&root, MESSAGE_VERSION, 0);
    uint8_t header = imv_flat_u8(&root, MESSAGE_HEADER_TYPE, 0);
    int64_t body_bytes = imv_flat_i64(&root, MESSAGE_BODY_LENGTH, 0);
    *message = (struct imv_arrow_message){.header = (enum imv_arrow_header)header,
                                          .body_bytes = (size_t)body_bytes,
                                          .reader = reader,
                                          .table = imv_flat_child(&root, MESSAGE_HEADER)};
    if (reader->bad || message->table.reader == NULL) return damaged("message", err);
    if (version != VERSION_4 && version != VERSION_5)
        return imv_fail(err, IMV_INVALID, "arrow: metadata version V%d, V4 and V5 are known", version + 1);
    if (header < IMV_ARROW_SCHEMA || header > IMV_ARROW_RECORDS)
        return imv_fail(err, IMV_INVALID, "arrow: a message is no schema, dictionary or record batch, but %u", header);
    if (body_bytes < 0 || body_bytes % 8 != 0)
        return imv_fail(err, IMV_INVALID, "arrow: a body of %" PRId64 " bytes", body_bytes);
    return IMV_OK;
}

imv_status imv_arrow_schema_count(const struct imv_arrow_message *message, uint32_t *count, struct imv_error *err) {
    imv_assert(message->header == IMV_ARROW_SCHEMA);
    *count = imv_flat_items(&message->table, SCHEMA_FIELDS, 4).count;
    if (imv_flat_i16(&message->table, SCHEMA_ENDIANNESS, 0) != 0)
        return imv_fail(err, IMV_UNSUPPORTED, "arrow: a big-endian stream");
    return message->reader->bad ? damaged("schema", err) : IMV_OK;
}

static int64_t time_unit_ns(int16_t unit) {
    static const int64_t units[] = {1000000000, 1000000, 1000, 1};
    return unit >= 0 && unit < 4 ? units[unit] : 0;
}

struct imv_arrow_type imv_arrow_int(uint8_t bits, bool is_signed) {
    static const char *const names[] = {"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"};
    int width = bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : bits == 64 ? 3 : -1;
    if (width < 0) return (struct imv_arrow_type){.kind = IMV_ARROW_OTHER, .name = "integer of an odd width"};
    return (struct imv_arrow_type){
        .kind = IMV_ARROW_INT, .bits = bits, .is_signed = is_signed, .name = names[width + 4 * is_signed]};
}

struct imv_arrow_type imv_arrow_float(uint8_t bits) {
    const char *name = bits == 16 ? "float16" : bits == 32 ? "float32" : "float64";
    return (struct imv_arrow_type){.kind = IMV_ARROW_FLOAT, .bits = bits, .is_signed = true, .name = name};
}

struct imv_arrow_type imv_arrow_simple(enum imv_arrow_kind kind) {
    switch (kind) {
        case IMV_ARROW_NULL: return (struct imv_arrow_type){.kind = kind, .name = "null"};
        case IMV_ARROW_BOOL: return (struct imv_arrow_type){.kind = kind, .bits = 1, .name = "bool"};
        case IMV_ARROW_TEXT: return (struct imv_arrow_type){.kind = kind, .bits = 32, .name = "utf8"};
        case IMV_ARROW_TIME:
            return (struct imv_arrow_type){
                .kind = kind, .bits = 64, .is_signed = true, .unit_ns = 1, .name = "timestamp"};
        default:
            imv_assert(kind == IMV_ARROW_DURATION);
            return (struct imv_arrow_type){
                .kind = kind, .bits = 64, .is_signed = true, .unit_ns = 1, .name = "duration"};
    }
}

static struct imv_arrow_type read_int(const struct imv_flat_table *table) {
    int32_t bits = imv_flat_i32(table, INT_BITS, 0);
    return imv_arrow_int(bits > 0 && bits <= 64 ? (uint8_t)bits : 0, imv_flat_u8(table, INT_SIGNED, 0) != 0);
}

static struct imv_arrow_type read_float(const struct imv_flat_table *table) {
    int16_t precision = imv_flat_i16(table, FLOAT_PRECISION, 0);
    return imv_arrow_float(precision == 0 ? 16 : precision == 1 ? 32 : 64);
}

static struct imv_arrow_type read_time(const struct imv_flat_table *table, enum imv_arrow_kind kind, int16_t absent) {
    struct imv_arrow_type type = imv_arrow_simple(kind);
    type.unit_ns = time_unit_ns(imv_flat_i16(table, TIME_UNIT, absent));
    if (type.unit_ns == 0) type.kind = IMV_ARROW_OTHER;
    return type;
}

static struct imv_arrow_type read_date(const struct imv_flat_table *table) {
    struct imv_arrow_type type = imv_arrow_simple(IMV_ARROW_TIME);
    bool days = imv_flat_i16(table, TIME_UNIT, 1) == 0;
    type.name = days ? "date32" : "date64";
    type.bits = days ? 32 : 64;
    type.unit_ns = days ? INT64_C(86400) * 1000000000 : 1000000;
    return type;
}

static struct imv_arrow_type read_type(const struct imv_flat_table *field) {
    uint8_t code = imv_flat_u8(field, FIELD_TYPE_TYPE, 0);
    struct imv_flat_table table = imv_flat_child(field, FIELD_TYPE);
    struct imv_arrow_type type = {.kind = IMV_ARROW_OTHER, .name = type_name(code)};
    switch (code) {
        case TYPE_NULL: return imv_arrow_simple(IMV_ARROW_NULL);
        case TYPE_INT: return read_int(&table);
        case TYPE_FLOAT: return read_float(&table);
        case TYPE_BOOL: return imv_arrow_simple(IMV_ARROW_BOOL);
        case TYPE_UTF8: return imv_arrow_simple(IMV_ARROW_TEXT);
        case TYPE_LARGE_UTF8: return (struct imv_arrow_type){.kind = IMV_ARROW_TEXT, .bits = 64, .name = "large_utf8"};
        case TYPE_TIMESTAMP: return read_time(&table, IMV_ARROW_TIME, 0);
        case TYPE_DURATION: return read_time(&table, IMV_ARROW_DURATION, 1);
        case TYPE_DATE: return read_date(&table);
        default: return type;
    }
}

imv_status imv_arrow_schema_field(const struct imv_arrow_message *message, uint32_t i, struct imv_arrow_field *field,
                                  struct imv_error *err) {
    struct imv_flat_vector fields = imv_flat_items(&message->table, SCHEMA_FIELDS, 4);
    struct imv_flat_table table = imv_flat_item(message->reader, &fields, i);
    struct imv_flat_table dictionary = imv_flat_child(&table, FIELD_DICTIONARY);
    *field = (struct imv_arrow_field){
        .name = imv_flat_string(&table, FIELD_NAME), .type = read_type(&table), .table = table};
    if (dictionary.reader != NULL) {
        struct imv_flat_table index = imv_flat_child(&dictionary, DICTIONARY_INDEX_TYPE);
        struct imv_arrow_type type = index.reader == NULL ? imv_arrow_int(32, true) : read_int(&index);
        field->dictionary = true;
        field->dictionary_id = imv_flat_i64(&dictionary, DICTIONARY_ID, 0);
        field->index_bits = type.bits;
        field->index_signed = type.is_signed;
        if (type.kind != IMV_ARROW_INT) message->reader->bad = true;
    }
    return message->reader->bad ? damaged("schema", err) : IMV_OK;
}

static struct imv_str find_metadata(const struct imv_flat_table *table, uint32_t slot, struct imv_str key) {
    struct imv_flat_vector pairs = imv_flat_items(table, slot, 4);
    for (uint32_t i = 0; i < pairs.count && i < METADATA_PAIRS_MAX; i++) {
        struct imv_flat_table pair = imv_flat_item(table->reader, &pairs, i);
        if (imv_str_equal(imv_flat_string(&pair, KEY_VALUE_KEY), key)) return imv_flat_string(&pair, KEY_VALUE_VALUE);
    }
    return (struct imv_str){0};
}

struct imv_str imv_arrow_schema_metadata(const struct imv_arrow_message *message, struct imv_str key) {
    return find_metadata(&message->table, SCHEMA_METADATA, key);
}

struct imv_str imv_arrow_field_metadata(const struct imv_arrow_field *field, struct imv_str key) {
    return find_metadata(&field->table, FIELD_METADATA, key);
}

static imv_status open_batch(const struct imv_flat_table *table, struct imv_str body, struct imv_arrow_batch *batch,
                             struct imv_error *err) {
    if (table->reader == NULL) return damaged("batch", err);
    *batch = (struct imv_arrow_batch){.rows = imv_flat_i64(table, BATCH_LENGTH, 0),
                                      .nodes = imv_flat_items(table, BATCH_NODES, 16),
                                      .buffers = imv_flat_items(table, BATCH_BUFFERS, 16),
                                      .body = body};
    struct imv_flat_table compression = imv_flat_child(table, BATCH_COMPRESSION);
    if (table->reader->bad || batch->rows < 0) return damaged("batch", err);
    if (compression.reader == NULL) return IMV_OK;
    return imv_fail(err, IMV_UNSUPPORTED,
                    "arrow: a body compressed by %s; send it uncompressed, or the whole request with gzip",
                    imv_flat_u8(&compression, COMPRESSION_CODEC, 0) == 0 ? "LZ4" : "ZSTD");
}

imv_status imv_arrow_batch_open(const struct imv_arrow_message *message, struct imv_str body,
                                struct imv_arrow_batch *batch, struct imv_error *err) {
    imv_assert(message->header == IMV_ARROW_RECORDS);
    return open_batch(&message->table, body, batch, err);
}

imv_status imv_arrow_dictionary_open(const struct imv_arrow_message *message, struct imv_str body,
                                     struct imv_arrow_batch *batch, int64_t *id, bool *delta, struct imv_error *err) {
    imv_assert(message->header == IMV_ARROW_DICTIONARY);
    *id = imv_flat_i64(&message->table, DICTIONARY_BATCH_ID, 0);
    *delta = imv_flat_u8(&message->table, DICTIONARY_BATCH_DELTA, 0) != 0;
    struct imv_flat_table data = imv_flat_child(&message->table, DICTIONARY_BATCH_DATA);
    return open_batch(&data, body, batch, err);
}

bool imv_arrow_next_node(struct imv_arrow_batch *batch, int64_t *rows, int64_t *nulls) {
    if (batch->node_next == batch->nodes.count) return false;
    const uint8_t *node = batch->nodes.items + 16 * (size_t)batch->node_next++;
    *rows = (int64_t)imv_get_u64(node);
    *nulls = (int64_t)imv_get_u64(node + 8);
    return *rows >= 0 && *nulls >= 0;
}

bool imv_arrow_next_buffer(struct imv_arrow_batch *batch, struct imv_str *bytes) {
    if (batch->buffer_next == batch->buffers.count) return false;
    const uint8_t *buffer = batch->buffers.items + 16 * (size_t)batch->buffer_next++;
    uint64_t offset = imv_get_u64(buffer), size = imv_get_u64(buffer + 8);
    if (offset % 8 != 0 || offset > batch->body.size || size > batch->body.size - offset) return false;
    *bytes = (struct imv_str){size == 0 ? NULL : batch->body.data + offset, size};
    return true;
}

/* ---- writing: the body ---- */

void imv_arrow_body_init(struct imv_arrow_body *body, size_t bytes_max) {
    imv_buffer_init(&body->bytes, bytes_max);
    imv_buffer_init(&body->nodes, IMV_ARROW_METADATA_BYTES_MAX);
    imv_buffer_init(&body->buffers, IMV_ARROW_METADATA_BYTES_MAX);
}

void imv_arrow_body_reset(struct imv_arrow_body *body) {
    imv_buffer_reset(&body->bytes);
    imv_buffer_reset(&body->nodes);
    imv_buffer_reset(&body->buffers);
}

void imv_arrow_body_release(struct imv_arrow_body *body) {
    imv_buffer_release(&body->bytes);
    imv_buffer_release(&body->nodes);
    imv_buffer_release(&body->buffers);
}

void imv_arrow_body_node(struct imv_arrow_body *body, uint64_t rows, uint64_t nulls) {
    imv_buffer_append(&body->nodes, (uint64_t[]){rows, nulls}, 16);
}

void *imv_arrow_body_buffer(struct imv_arrow_body *body, size_t size) {
    size_t padded = (size + 7) & ~(size_t)7;
    imv_buffer_append(&body->buffers, (uint64_t[]){body->bytes.size, size}, 16);
    if (size == 0) return NULL;
    char *at = imv_buffer_reserve(&body->bytes, padded);
    if (at == NULL) return NULL;
    memset(at + padded - 8, 0, 8);
    body->bytes.size += padded;
    return at;
}

/* ---- writing: the metadata ---- */

/* Begins a message: prefix, root, Message with its header left open. */
struct draft {
    struct imv_flat_writer flat;
    size_t prefix; /* where it stands in the buffer */
    uint32_t message;
};

static struct draft begin_message(struct imv_buffer *out, enum imv_arrow_header header, uint64_t body_bytes) {
    struct draft draft = {.prefix = out->size};
    char prefix[IMV_ARROW_PREFIX_BYTES];
    memset(prefix, 0xff, sizeof prefix); /* the size comes at the end */
    imv_buffer_append(out, prefix, sizeof prefix);
    draft.flat = (struct imv_flat_writer){.out = out, .start = out->size};
    uint32_t root = imv_flat_put_offset(&draft.flat);
    draft.message = imv_flat_put_table(&draft.flat, (const uint8_t[]){2, 1, 4, 8}, 4);
    imv_flat_close(&draft.flat, root, draft.message);
    imv_flat_set(&draft.flat, draft.message, MESSAGE_VERSION, 2, VERSION_5);
    imv_flat_set(&draft.flat, draft.message, MESSAGE_HEADER_TYPE, 1, header);
    imv_flat_set(&draft.flat, draft.message, MESSAGE_BODY_LENGTH, 8, body_bytes);
    return draft;
}

static void end_message(struct draft *draft) {
    struct imv_buffer *out = draft->flat.out;
    size_t padding = (8 - (out->size - draft->flat.start) % 8) % 8;
    imv_buffer_append(out, "\0\0\0\0\0\0\0", padding);
    if (!out->failed) imv_put_u32(out->data + draft->prefix + 4, (uint32_t)(out->size - draft->flat.start));
}

static uint32_t put_table_at(struct imv_flat_writer *flat, uint32_t parent, uint32_t slot, const uint8_t *sizes,
                             uint32_t slots) {
    uint32_t table = imv_flat_put_table(flat, sizes, slots);
    imv_flat_set_offset(flat, parent, slot, table);
    return table;
}

/* A vector of one KeyValue. */
static void put_metadata(struct imv_flat_writer *flat, uint32_t table, uint32_t slot, const char *key,
                         const char *value) {
    uint32_t item;
    uint32_t vector = imv_flat_put_vector(flat, 1, 4, &item);
    imv_flat_set_offset(flat, table, slot, vector);
    uint32_t pair = imv_flat_put_table(flat, (const uint8_t[]){4, 4}, 2);
    imv_flat_close(flat, item, pair);
    imv_flat_set_offset(flat, pair, KEY_VALUE_KEY, imv_flat_put_string(flat, imv_str_from(key)));
    imv_flat_set_offset(flat, pair, KEY_VALUE_VALUE, imv_flat_put_string(flat, imv_str_from(value)));
}

static void put_int(struct imv_flat_writer *flat, uint32_t parent, uint32_t slot, uint8_t bits, bool is_signed) {
    uint32_t type = put_table_at(flat, parent, slot, (const uint8_t[]){4, 1}, 2);
    imv_flat_set(flat, type, INT_BITS, 4, bits);
    imv_flat_set(flat, type, INT_SIGNED, 1, is_signed);
}

static uint64_t unit_code(int64_t unit_ns) {
    return unit_ns == 1000000000 ? 0 : unit_ns == 1000000 ? 1 : unit_ns == 1000 ? 2 : 3;
}

static uint8_t put_type(struct imv_flat_writer *flat, uint32_t field, const struct imv_arrow_column *column) {
    const struct imv_arrow_type *type = &column->type;
    uint32_t table;
    switch (type->kind) {
        case IMV_ARROW_INT: put_int(flat, field, FIELD_TYPE, type->bits, type->is_signed); return TYPE_INT;
        case IMV_ARROW_FLOAT:
            table = put_table_at(flat, field, FIELD_TYPE, (const uint8_t[]){2}, 1);
            imv_flat_set(flat, table, FLOAT_PRECISION, 2, type->bits == 16 ? 0 : type->bits == 32 ? 1 : 2);
            return TYPE_FLOAT;
        case IMV_ARROW_TIME:
            table = put_table_at(flat, field, FIELD_TYPE, (const uint8_t[]){2, column->time_zone == NULL ? 0 : 4}, 2);
            imv_flat_set(flat, table, TIME_UNIT, 2, unit_code(type->unit_ns));
            if (column->time_zone != NULL)
                imv_flat_set_offset(flat, table, TIMESTAMP_ZONE,
                                    imv_flat_put_string(flat, imv_str_from(column->time_zone)));
            return TYPE_TIMESTAMP;
        case IMV_ARROW_DURATION:
            table = put_table_at(flat, field, FIELD_TYPE, (const uint8_t[]){2}, 1);
            imv_flat_set(flat, table, TIME_UNIT, 2, unit_code(type->unit_ns));
            return TYPE_DURATION;
        default:
            put_table_at(flat, field, FIELD_TYPE, NULL, 0);
            if (type->kind == IMV_ARROW_TEXT) return type->bits == 64 ? TYPE_LARGE_UTF8 : TYPE_UTF8;
            imv_assert(type->kind == IMV_ARROW_BOOL || type->kind == IMV_ARROW_NULL);
            return type->kind == IMV_ARROW_BOOL ? TYPE_BOOL : TYPE_NULL;
    }
}

static uint32_t put_field(struct imv_flat_writer *flat, const struct imv_arrow_column *column) {
    const uint8_t sizes[] = {4, 1, 1, 4, column->dictionary ? 4 : 0, 4, column->metadata_key == NULL ? 0 : 4};
    uint32_t field = imv_flat_put_table(flat, sizes, 7), items;
    imv_flat_set(flat, field, FIELD_NULLABLE, 1, 1);
    imv_flat_set_offset(flat, field, FIELD_NAME, imv_flat_put_string(flat, column->name));
    imv_flat_set(flat, field, FIELD_TYPE_TYPE, 1, put_type(flat, field, column));
    if (column->dictionary) {
        uint32_t dictionary = put_table_at(flat, field, FIELD_DICTIONARY, (const uint8_t[]){8, 4}, 2);
        imv_flat_set(flat, dictionary, DICTIONARY_ID, 8, (uint64_t)column->dictionary_id);
        put_int(flat, dictionary, DICTIONARY_INDEX_TYPE, 32, true);
    }
    imv_flat_set_offset(flat, field, FIELD_CHILDREN, imv_flat_put_vector(flat, 0, 4, &items)); /* readers want it */
    if (column->metadata_key != NULL)
        put_metadata(flat, field, FIELD_METADATA, column->metadata_key, column->metadata_value);
    return field;
}

void imv_arrow_put_schema(struct imv_buffer *out, const struct imv_arrow_column *columns, uint32_t count,
                          const char *metadata_key, const char *metadata_value) {
    struct draft draft = begin_message(out, IMV_ARROW_SCHEMA, 0);
    struct imv_flat_writer *flat = &draft.flat;
    const uint8_t sizes[] = {2, 4, metadata_key == NULL ? 0 : 4};
    uint32_t schema = put_table_at(flat, draft.message, MESSAGE_HEADER, sizes, 3), items;
    imv_flat_set_offset(flat, schema, SCHEMA_FIELDS, imv_flat_put_vector(flat, count, 4, &items));
    for (uint32_t i = 0; i < count; i++) imv_flat_close(flat, items + 4 * i, put_field(flat, &columns[i]));
    if (metadata_key != NULL) put_metadata(flat, schema, SCHEMA_METADATA, metadata_key, metadata_value);
    end_message(&draft);
}

static void put_pairs(struct imv_flat_writer *flat, uint32_t table, uint32_t slot, const struct imv_buffer *pairs) {
    uint32_t count = (uint32_t)(pairs->size / 16), items;
    imv_flat_set_offset(flat, table, slot, imv_flat_put_vector(flat, count, 16, &items));
    for (uint32_t i = 0; i < 2 * count; i++)
        imv_flat_set_word(flat, items, i, imv_get_u64(pairs->data + 8 * (size_t)i));
}

static void put_batch(struct imv_flat_writer *flat, uint32_t parent, uint32_t slot, uint64_t rows,
                      const struct imv_arrow_body *body) {
    uint32_t batch = put_table_at(flat, parent, slot, (const uint8_t[]){8, 4, 4}, 3);
    imv_flat_set(flat, batch, BATCH_LENGTH, 8, rows);
    put_pairs(flat, batch, BATCH_NODES, &body->nodes);
    put_pairs(flat, batch, BATCH_BUFFERS, &body->buffers);
}

static void put_body(struct imv_buffer *out, const struct imv_arrow_body *body) {
    imv_buffer_append(out, body->bytes.data, body->bytes.size);
    if (body->bytes.failed || body->nodes.failed || body->buffers.failed) out->failed = true;
}

void imv_arrow_put_records(struct imv_buffer *out, uint64_t rows, const struct imv_arrow_body *body) {
    struct draft draft = begin_message(out, IMV_ARROW_RECORDS, body->bytes.size);
    put_batch(&draft.flat, draft.message, MESSAGE_HEADER, rows, body);
    end_message(&draft);
    put_body(out, body);
}

void imv_arrow_put_dictionary(struct imv_buffer *out, int64_t id, bool delta, uint64_t rows,
                              const struct imv_arrow_body *body) {
    struct draft draft = begin_message(out, IMV_ARROW_DICTIONARY, body->bytes.size);
    struct imv_flat_writer *flat = &draft.flat;
    uint32_t dictionary = put_table_at(flat, draft.message, MESSAGE_HEADER, (const uint8_t[]){8, 4, 1}, 3);
    imv_flat_set(flat, dictionary, DICTIONARY_BATCH_ID, 8, (uint64_t)id);
    imv_flat_set(flat, dictionary, DICTIONARY_BATCH_DELTA, 1, delta);
    put_batch(flat, dictionary, DICTIONARY_BATCH_DATA, rows, body);
    end_message(&draft);
    put_body(out, body);
}

void imv_arrow_put_end(struct imv_buffer *out) { imv_buffer_append(out, "\xff\xff\xff\xff\0\0\0\0", 8); }
