#include "storage/base/flatbuffer.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* A table {i8, i64, absent, string, children: [{i32}, {i32}], words: [u64; 3]}. */
static void build(struct imv_buffer *out) {
    struct imv_flat_writer writer = {out, out->size};
    uint32_t root = imv_flat_put_offset(&writer), items, words;
    uint32_t table = imv_flat_put_table(&writer, (const uint8_t[]){1, 8, 0, 4, 4, 4}, 6);
    imv_flat_close(&writer, root, table);
    imv_flat_set(&writer, table, 0, 1, 200);
    imv_flat_set(&writer, table, 1, 8, (uint64_t)INT64_MIN);
    imv_flat_set_offset(&writer, table, 3, imv_flat_put_string(&writer, IMV_STR("text")));
    imv_flat_set_offset(&writer, table, 4, imv_flat_put_vector(&writer, 2, 4, &items));
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t child = imv_flat_put_table(&writer, (const uint8_t[]){4}, 1);
        imv_flat_set(&writer, child, 0, 4, 10 + i);
        imv_flat_close(&writer, items + 4 * i, child);
    }
    imv_flat_set_offset(&writer, table, 5, imv_flat_put_vector(&writer, 3, 8, &words));
    for (uint32_t i = 0; i < 3; i++) imv_flat_set_word(&writer, words, i, i + 1);
}

/* Reads all there is; true when it is what build wrote. */
static bool read_all(struct imv_flat_reader *reader) {
    struct imv_flat_table root = imv_flat_root(reader);
    bool same = imv_flat_u8(&root, 0, 0) == 200 && imv_flat_i64(&root, 1, 0) == INT64_MIN &&
                imv_flat_i16(&root, 2, -3) == -3 && imv_flat_i32(&root, 99, 7) == 7;
    struct imv_str text = imv_flat_string(&root, 3);
    same &= imv_str_equal(text, IMV_STR("text"));
    struct imv_flat_vector children = imv_flat_items(&root, 4, 4), words = imv_flat_items(&root, 5, 8);
    for (uint32_t i = 0; i < children.count; i++) {
        struct imv_flat_table child = imv_flat_item(reader, &children, i);
        same &= imv_flat_i32(&child, 0, 0) == 10 + (int32_t)i;
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < words.count; i++) sum += imv_get_u64(words.items + 8 * (size_t)i);
    return same && children.count == 2 && words.count == 3 && sum == 6;
}

Test(flatbuffer, what_was_written_reads_back) {
    /* Scalars, strings, tables and vectors come back; absent fields give what the reader says; positions are
     * aligned. */
    struct imv_buffer out;
    struct imv_flat_reader reader;
    imv_buffer_init(&out, 4096);
    imv_buffer_append(&out, "odd", 3); /* where it begins in the buffer does not matter */
    build(&out);
    imv_flat_reader_init(&reader, out.data + 3, out.size - 3);
    cr_assert(read_all(&reader));
    cr_assert_not(reader.bad);
    struct imv_flat_table root = imv_flat_root(&reader);
    cr_assert_eq((imv_flat_items(&root, 5, 8).items - reader.bytes) % 8, 0);
    imv_buffer_release(&out);
}

Test(flatbuffer, a_full_buffer_is_one_failure) {
    /* However little room there is, writing ends without harm and says so once. */
    for (size_t room = 0;; room++) {
        struct imv_buffer out;
        imv_buffer_init(&out, room);
        build(&out);
        bool failed = out.failed;
        imv_buffer_release(&out);
        if (!failed) break;
        cr_assert_lt(room, 1000);
    }
}

Test(flatbuffer, every_prefix_and_every_flipped_bit_stays_inside) {
    /* Damage is never read beyond the bytes given; a cut buffer is bad or reads as absent. */
    struct imv_buffer out;
    imv_buffer_init(&out, 4096);
    build(&out);
    for (size_t size = 0; size <= out.size; size++) {
        char *copy = malloc(size + 1);
        memcpy(copy, out.data, size);
        struct imv_flat_reader reader;
        imv_flat_reader_init(&reader, copy, size);
        bool same = read_all(&reader);
        if (size + 8 < out.size) cr_assert(reader.bad && !same, "%zu", size);
        free(copy);
    }
    for (size_t bit = 0; bit < 8 * out.size; bit++) {
        char *copy = malloc(out.size);
        memcpy(copy, out.data, out.size);
        copy[bit / 8] ^= (char)(1 << bit % 8);
        struct imv_flat_reader reader;
        imv_flat_reader_init(&reader, copy, out.size);
        read_all(&reader);
        free(copy);
    }
    imv_buffer_release(&out);
}
