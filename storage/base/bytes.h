/* bytes.h - views of bytes, fixed-width integers in a stated byte order, and variable-length integers.
 *
 * Everything on disk is little-endian, except keys, which are big-endian so that memcmp sorts them as numbers.
 * Varints are LEB128 (7 bits a byte, low bits first), at most 10 bytes; zigzag maps small negatives to small numbers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A view of bytes that somebody else owns; not NUL terminated. */
struct imv_str {
    const char *data;
    size_t size;
};

#define IMV_STR(literal) ((struct imv_str){(literal), sizeof(literal) - 1})

static inline struct imv_str imv_str_from(const char *text) { return (struct imv_str){text, strlen(text)}; }
static inline bool imv_str_equal(struct imv_str a, struct imv_str b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
/* Byte order, shorter first on a common prefix: the order of UTF-8 code points. */
static inline int imv_str_compare(struct imv_str a, struct imv_str b) {
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static inline uint16_t imv_get_u16(const void *from) {
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return value;
}
static inline uint32_t imv_get_u32(const void *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}
static inline uint64_t imv_get_u64(const void *from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}
/* memcmp by eight bytes, for names: they are mostly 4 to 16 bytes long, where the call costs more than the
 * comparison. */
static inline bool imv_bytes_same(const char *a, const char *b, size_t size) {
    if (size >= 8) {
        for (size_t i = 0; i + 8 < size; i += 8) {
            if (imv_get_u64(a + i) != imv_get_u64(b + i)) return false;
        }
        return imv_get_u64(a + size - 8) == imv_get_u64(b + size - 8);
    }
    if (size >= 4) {
        return ((imv_get_u32(a) ^ imv_get_u32(b)) | (imv_get_u32(a + size - 4) ^ imv_get_u32(b + size - 4))) == 0;
    }
    for (size_t i = 0; i < size; i++) {
        if (a[i] != b[i]) return false;
    }
    return true;
}

static inline void imv_put_u16(void *to, uint16_t value) { memcpy(to, &value, sizeof value); }
static inline void imv_put_u32(void *to, uint32_t value) { memcpy(to, &value, sizeof value); }
static inline void imv_put_u64(void *to, uint64_t value) { memcpy(to, &value, sizeof value); }
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little-endian and read by memcpy");

static inline void imv_put_be32(void *to, uint32_t value) { imv_put_u32(to, __builtin_bswap32(value)); }
static inline void imv_put_be64(void *to, uint64_t value) { imv_put_u64(to, __builtin_bswap64(value)); }
static inline uint32_t imv_get_be32(const void *from) { return __builtin_bswap32(imv_get_u32(from)); }
static inline uint64_t imv_get_be64(const void *from) { return __builtin_bswap64(imv_get_u64(from)); }

enum { IMV_VARINT_BYTES_MAX = 10 };

static inline uint64_t imv_zigzag(int64_t value) { return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63); }
static inline int64_t imv_unzigzag(uint64_t value) { return (int64_t)(value >> 1) ^ -(int64_t)(value & 1); }

/* Writes value at `to`, which has room for IMV_VARINT_BYTES_MAX; returns the byte after it. */
static inline uint8_t *imv_put_varint(uint8_t *to, uint64_t value) {
    while (value >= 0x80) {
        *to++ = (uint8_t)value | 0x80;
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

/* Reads a varint from [from, end). Returns the byte after it, or NULL when it is cut short or longer than 64 bits. */
static inline const uint8_t *imv_get_varint(const uint8_t *from, const uint8_t *end, uint64_t *value) {
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 64 && from < end; shift += 7) {
        uint8_t byte = *from++;
        if (shift == 63 && byte > 1) return NULL;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return from;
        }
    }
    return NULL;
}
