#include "storage/base/arrow.h"

#include <criterion/criterion.h>

/* Opens the message at *at of a stream and moves behind its metadata; body_bytes follow. */
static struct imv_arrow_message next_message(const struct imv_buffer *stream, size_t *at,
                                             struct imv_flat_reader *reader) {
    struct imv_arrow_message message;
    struct imv_error err;
    size_t size;
    cr_assert_eq(imv_arrow_prefix(stream->data + *at, &size, &err), IMV_OK);
    cr_assert_eq(size % 8, 0);
    *at += IMV_ARROW_PREFIX_BYTES;
    cr_assert_eq(imv_arrow_message_open(stream->data + *at, size, reader, &message, &err), IMV_OK, "%s", err.message);
    *at += size;
    return message;
}

Test(arrow_messages, a_schema_reads_back) {
    /* Every type that can be declared is read as it was, with names, dictionaries and metadata. */
    struct imv_arrow_type milliseconds = imv_arrow_simple(IMV_ARROW_TIME), large = imv_arrow_simple(IMV_ARROW_TEXT);
    milliseconds.unit_ns = 1000000;
    large.bits = 64;
    const struct imv_arrow_column columns[] = {
        {.name = IMV_STR("a"), .type = imv_arrow_int(8, true)},
        {.name = IMV_STR("b"), .type = imv_arrow_int(64, false), .metadata_key = "k", .metadata_value = "v"},
        {.name = IMV_STR("c"), .type = imv_arrow_float(16)},
        {.name = IMV_STR("d"), .type = imv_arrow_float(64)},
        {.name = IMV_STR("e"), .type = imv_arrow_simple(IMV_ARROW_BOOL)},
        {.name = IMV_STR("f"), .type = imv_arrow_simple(IMV_ARROW_TEXT), .dictionary = true, .dictionary_id = 77},
        {.name = IMV_STR("g"), .type = large},
        {.name = IMV_STR("h"), .type = milliseconds, .time_zone = "UTC"},
        {.name = IMV_STR("i"), .type = imv_arrow_simple(IMV_ARROW_DURATION)},
        {.name = IMV_STR("j"), .type = imv_arrow_simple(IMV_ARROW_NULL)},
    };
    enum { COUNT = sizeof columns / sizeof *columns };
    struct imv_buffer out;
    struct imv_flat_reader reader;
    struct imv_error err;
    imv_buffer_init(&out, 1 << 20);
    imv_arrow_put_schema(&out, columns, COUNT, "label", "cpu");
    size_t at = 0;
    struct imv_arrow_message message = next_message(&out, &at, &reader);
    cr_assert_eq(message.header, IMV_ARROW_SCHEMA);
    cr_assert_eq(at, out.size);
    uint32_t count;
    cr_assert_eq(imv_arrow_schema_count(&message, &count, &err), IMV_OK);
    cr_assert_eq(count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct imv_arrow_field field;
        cr_assert_eq(imv_arrow_schema_field(&message, i, &field, &err), IMV_OK);
        cr_assert(imv_str_equal(field.name, columns[i].name));
        cr_assert_eq(field.type.kind, columns[i].type.kind, "column %u", i);
        cr_assert_eq(field.type.bits, columns[i].type.bits, "column %u", i);
        cr_assert_eq(field.type.is_signed, columns[i].type.is_signed, "column %u", i);
        cr_assert_eq(field.type.unit_ns, columns[i].type.unit_ns, "column %u", i);
        cr_assert_eq(field.dictionary, columns[i].dictionary);
        if (field.dictionary) cr_assert(field.dictionary_id == 77 && field.index_bits == 32 && field.index_signed);
        cr_assert_eq(imv_arrow_field_metadata(&field, IMV_STR("k")).size, i == 1 ? 1 : 0);
    }
    cr_assert(imv_str_equal(imv_arrow_schema_metadata(&message, IMV_STR("label")), IMV_STR("cpu")));
    cr_assert_null(imv_arrow_schema_metadata(&message, IMV_STR("other")).data);
    imv_buffer_release(&out);
}

Test(arrow_messages, batches_read_back) {
    /* Nodes and buffers of records and of dictionaries come back, aligned; what is not there is refused. */
    struct imv_arrow_body body;
    struct imv_buffer out;
    struct imv_flat_reader reader;
    struct imv_error err;
    imv_arrow_body_init(&body, 1 << 20);
    imv_buffer_init(&out, 1 << 20);
    imv_arrow_body_node(&body, 3, 1);
    memcpy(imv_arrow_body_buffer(&body, 1), "\5", 1);
    memcpy(imv_arrow_body_buffer(&body, 24), (int64_t[]){1, 2, 3}, 24);
    cr_assert_null(imv_arrow_body_buffer(&body, 0));
    imv_arrow_put_dictionary(&out, -9, true, 3, &body);
    imv_arrow_put_records(&out, 3, &body);
    imv_arrow_put_end(&out);
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        struct imv_arrow_message message = next_message(&out, &at, &reader);
        struct imv_str bytes = {out.data + at, message.body_bytes}, buffer;
        struct imv_arrow_batch batch;
        int64_t id = -9, rows, nulls;
        bool delta = true;
        cr_assert_eq(message.body_bytes, 32);
        cr_assert_eq(i == 0 ? imv_arrow_dictionary_open(&message, bytes, &batch, &id, &delta, &err)
                            : imv_arrow_batch_open(&message, bytes, &batch, &err),
                     IMV_OK);
        cr_assert(id == -9 && delta && batch.rows == 3);
        cr_assert(imv_arrow_next_node(&batch, &rows, &nulls) && rows == 3 && nulls == 1);
        cr_assert(imv_arrow_next_buffer(&batch, &buffer) && buffer.size == 1 && *buffer.data == 5);
        cr_assert(imv_arrow_next_buffer(&batch, &buffer) && buffer.size == 24 && imv_get_u64(buffer.data + 16) == 3);
        cr_assert(imv_arrow_next_buffer(&batch, &buffer) && buffer.size == 0);
        cr_assert_not(imv_arrow_next_buffer(&batch, &buffer));
        cr_assert_not(imv_arrow_next_node(&batch, &rows, &nulls));
        batch = (struct imv_arrow_batch){.buffers = batch.buffers, .buffer_next = 1, .body = {bytes.data, 24}};
        cr_assert_not(imv_arrow_next_buffer(&batch, &buffer), "it ends beyond the body");
        at += message.body_bytes;
    }
    size_t size;
    cr_assert(imv_arrow_prefix(out.data + at, &size, &err) == IMV_OK && size == 0);
    cr_assert_eq(imv_arrow_prefix("ARROW1\0\0", &size, &err), IMV_INVALID);
    cr_assert_eq(imv_arrow_prefix("cpu,host", &size, &err), IMV_INVALID);
    imv_arrow_body_release(&body);
    imv_buffer_release(&out);
}
