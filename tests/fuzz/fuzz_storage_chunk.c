/* fuzz_storage_chunk.c - hostile bytes for chunks, codecs and blocks; hostile values for the encoder.
 *
 * The first byte says what the rest is:
 *     0 a chunk as it is                     1 a chunk whose checksums are made right first, so that what lies behind
 *     2 an encoding: codec, count, bytes       them is reached
 *     3 strings: codec, count, bytes         4 a packed block: count, bytes
 *     5 values: type, then 8-byte cells, which must come back from a chunk
 */
#include "storage/base/arena.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"
#include "storage/chunk.h"
#include "storage/codec/codec.h"

#include <stdlib.h>

static const struct imv_chunk_id id = {.label = 7, .series = 11, .start = 1700000000000000000};

static uint32_t get_number(const uint8_t *from, unsigned bytes) {
    uint32_t number = 0;
    for (unsigned i = 0; i < bytes; i++) number |= (uint32_t)from[i] << (8 * i);
    return number;
}

/* Follows the layout at the top of chunk.c as far as the bytes allow. */
static void repair_checksums(uint8_t *bytes, size_t size) {
    uint8_t identity[20];
    imv_put_u32(identity, id.label);
    imv_put_u64(identity + 4, id.series);
    imv_put_u64(identity + 12, (uint64_t)id.start);
    uint64_t seed = imv_hash64(identity, sizeof identity, 0), rows, columns, number;
    if (size < 12) return;
    if (bytes[1] & 0x40) {
        imv_put_u32(bytes + size - 4, (uint32_t)imv_hash64(bytes, size - 4, seed));
        return;
    }
    static const unsigned id_sizes[] = {0, 1, 2, 4};
    unsigned data_bytes = (bytes[1] & 3) + 1U, stat_bytes = bytes[1] >> 2 & 3, id_bytes = id_sizes[bytes[1] >> 4 & 3];
    const uint8_t *from = imv_get_varint(bytes + 2, bytes + size, &rows);
    uint64_t vectors = from == NULL ? 0 : rows / 1024 + 1;
    if (from != NULL && bytes[0] == 0xc4) {
        from = imv_get_varint(from, bytes + size, &vectors);
        if (from == NULL || vectors > IMV_CHUNK_VECTORS_MAX || (size_t)(bytes + size - from) < 2 * vectors) return;
        from += 2 * vectors;
    }
    if (from != NULL) from = imv_get_varint(from, bytes + size, &columns);
    if (from != NULL && id_bytes == 0 && columns > 0) from = imv_get_varint(from, bytes + size, &number);
    if (from == NULL || rows >= IMV_CHUNK_ROWS_MAX || columns > IMV_CHUNK_COLUMNS_MAX) return;
    size_t pieces = (columns + 1) * vectors, entry_bytes = 5 + data_bytes + stat_bytes;
    size_t entries = (size_t)(from - bytes) + columns * id_bytes, statistics = entries + pieces * entry_bytes;
    if (statistics > size) return;
    size_t data = statistics + get_number(bytes + statistics - stat_bytes, stat_bytes) + 8;
    if (data > size) return;
    size_t start = 0;
    for (size_t i = 0; i < pieces; i++) {
        uint8_t *entry = bytes + entries + i * entry_bytes;
        size_t end = get_number(entry + 5, data_bytes);
        if (start > end || end > size - data) return;
        imv_put_u32(entry + 1, (uint32_t)imv_hash64(bytes + data + start, end - start, seed + i));
        start = end;
    }
    imv_put_u64(bytes + data - 8, imv_hash64(bytes, data - 8, seed));
}

static void check_chunk(const uint8_t *bytes, size_t size, bool repair) {
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, bytes, size);
    if (repair) repair_checksums(copy, size);
    struct imv_chunk chunk;
    imv_chunk_check(copy, size, &id, NULL);
    if (imv_chunk_open(copy, size, &id, &chunk, NULL) == IMV_OK) {
        for (uint32_t index = 0; index < chunk.columns; index++) {
            imv_assert(imv_chunk_find_column(&chunk, imv_chunk_column_id(&chunk, index)) == (int)index);
            struct imv_chunk_statistics statistics;
            for (uint32_t vector = 0; vector < chunk.vectors; vector++) {
                imv_chunk_statistics(&chunk, index, vector, &statistics);
                for (uint32_t span = 0; span < imv_chunk_vector_spans(&chunk, vector); span++)
                    imv_chunk_span_statistics(&chunk, index, vector, span, &statistics, NULL);
            }
        }
    }
    free(copy);
}

static void decode_numbers(const uint8_t *bytes, size_t size) {
    uint64_t cells[IMV_PACK_COUNT_MAX];
    if (size < 3) return;
    imv_codec_decode(bytes[0], bytes + 3, bytes + size, 0, 1 + imv_get_u16(bytes + 1) % IMV_PACK_COUNT_MAX, cells);
}

static void decode_strings(const uint8_t *bytes, size_t size) {
    uint64_t cells[IMV_PACK_COUNT_MAX];
    struct imv_arena arena;
    imv_arena_init(&arena, 4096, NULL);
    if (size < 3) return;
    size_t count = 1 + imv_get_u16(bytes + 1) % IMV_PACK_COUNT_MAX;
    if (imv_text_decode(bytes[0], bytes + 3, bytes + size, count, cells, &arena, NULL) == IMV_OK)
        for (size_t i = 0; i < count; i++) imv_hash64(imv_cell_str(cells[i]).data, imv_cell_str(cells[i]).size, 0);
    imv_arena_release(&arena);
}

static void read_block(const uint8_t *bytes, size_t size) {
    uint64_t values[IMV_PACK_COUNT_MAX];
    if (size >= 2) imv_pack_read(bytes + 2, bytes + size, 1 + imv_get_u16(bytes) % IMV_PACK_COUNT_MAX, values);
}

static void encode_values(const uint8_t *bytes, size_t size) {
    if (size < 9) return;
    size_t rows = (size - 1) / 8 > 300 ? 300 : (size - 1) / 8;
    uint64_t *cells = malloc(rows * 8), *valid = calloc(rows / 64 + 1, 8);
    int64_t *timestamps = malloc(rows * 8);
    imv_type type = (imv_type)(IMV_FLOAT + bytes[0] % 4);
    memcpy(cells, bytes + 1, rows * 8);
    for (size_t i = 0; i < rows; i++) {
        timestamps[i] = i == 0 ? id.start : timestamps[i - 1] + 1 + (int64_t)(cells[i - 1] >> 20);
        if (type == IMV_BOOLEAN) cells[i] &= 1;
        if (bytes[0] < 128 || cells[i] % 3 != 0) imv_bit_set(valid, i);
    }
    struct imv_chunk_column column = {.column = 3, .values = {type, cells, bytes[0] < 128 ? NULL : valid}};
    struct imv_buffer out;
    imv_buffer_init(&out, 1 << 20);
    imv_assert(imv_chunk_encode(&id, timestamps, rows, &column, 1, &out, NULL) == IMV_OK);
    imv_assert(imv_chunk_check(out.data, out.size, &id, NULL) == IMV_OK);
    struct imv_chunk chunk;
    imv_assert(imv_chunk_open(out.data, out.size, &id, &chunk, NULL) == IMV_OK);
    for (size_t vector = 0, before = 0; vector < chunk.vectors; before += imv_chunk_vector_rows(&chunk, vector++)) {
        uint64_t back[IMV_VECTOR_ROWS], back_valid[IMV_VECTOR_WORDS];
        int64_t times[IMV_VECTOR_ROWS];
        bool all_valid;
        imv_assert(imv_chunk_decode_column(&chunk, 0, vector, back, back_valid, &all_valid, NULL, NULL) == IMV_OK);
        imv_assert(imv_chunk_decode_times(&chunk, vector, times, NULL) == IMV_OK);
        for (size_t i = 0; i < imv_chunk_vector_rows(&chunk, vector); i++) {
            size_t row = before + i;
            imv_assert(times[i] == timestamps[row]);
            imv_assert(imv_bit_get(back_valid, i) == imv_bit_get(valid, row));
            imv_assert(!imv_bit_get(valid, row) || back[i] == cells[row]);
        }
    }
    imv_buffer_release(&out);
    free(timestamps);
    free(valid);
    free(cells);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size == 0) return 0;
    switch (bytes[0]) {
        case 0: check_chunk(bytes + 1, size - 1, false); break;
        case 1: check_chunk(bytes + 1, size - 1, true); break;
        case 2: decode_numbers(bytes + 1, size - 1); break;
        case 3: decode_strings(bytes + 1, size - 1); break;
        case 4: read_block(bytes + 1, size - 1); break;
        case 5: encode_values(bytes + 1, size - 1); break;
        default: break;
    }
    return 0;
}
