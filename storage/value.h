/* value.h - the types of a stored value and how one is held in memory.
 *
 * A value is a 64-bit cell; its type stands beside it, once per column. Bits are kept as they came: a double keeps its
 * NaN payload and the sign of zero.
 *
 *     FLOAT     IEEE 754 binary64 bits         INTEGER  int64         UINTEGER  uint64
 *     BOOLEAN   0 or 1                         STRING   pointer to a struct imv_string
 */
#pragma once

#include "storage/base/bytes.h"

typedef enum imv_type {
    IMV_FLOAT = 1,
    IMV_INTEGER = 2,
    IMV_UINTEGER = 3,
    IMV_BOOLEAN = 4,
    IMV_STRING = 5,
} imv_type; /* stored on disk: never renumber */

/* Lives in a batch, an arena or a decode buffer that outlives the cell; 4-byte aligned or better. */
struct imv_string {
    uint32_t size;
    char bytes[];
};

/* Exact sums of 64-bit integers. */
__extension__ typedef __int128 imv_int128;

enum { IMV_STRING_BYTES_MAX = 64 * 1024 }; /* one string value; longer ones are refused at ingest */

static inline double imv_cell_float(uint64_t cell) {
    double value;
    memcpy(&value, &cell, sizeof value);
    return value;
}
static inline uint64_t imv_float_cell(double value) {
    uint64_t cell;
    memcpy(&cell, &value, sizeof cell);
    return cell;
}
static inline const struct imv_string *imv_cell_string(uint64_t cell) {
    return (const struct imv_string *)(uintptr_t)cell;
}
static inline uint64_t imv_string_cell(const struct imv_string *string) { return (uint64_t)(uintptr_t)string; }
static inline struct imv_str imv_cell_str(uint64_t cell) {
    const struct imv_string *string = imv_cell_string(cell);
    return (struct imv_str){string->bytes, string->size};
}

static inline const char *imv_type_name(imv_type type) {
    static const char *const names[] = {"unknown", "float", "integer", "unsigned integer", "boolean", "string"};
    return names[type >= IMV_FLOAT && type <= IMV_STRING ? type : 0];
}

/* One column of a batch of rows. The memory is the producer's; its header says for how long. */
struct imv_vector {
    imv_type type;
    uint64_t *cells; /* one a row; of rows without a value the content is undefined */
    uint64_t *valid; /* bitmap, bit i of word i/64: row i has a value; NULL: every row has one */
};

static inline bool imv_bit_get(const uint64_t *bits, size_t i) { return bits[i / 64] >> (i % 64) & 1; }
static inline void imv_bit_set(uint64_t *bits, size_t i) { bits[i / 64] |= UINT64_C(1) << (i % 64); }
static inline bool imv_vector_has(const struct imv_vector *vector, size_t row) {
    return vector->valid == NULL || imv_bit_get(vector->valid, row);
}
