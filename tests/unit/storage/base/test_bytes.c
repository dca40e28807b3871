#include "storage/base/bytes.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>

/* A varint of any value reads back, takes as few bytes as it can, and every prefix cut short is refused. */
Test(bytes, reads_back_varints) {
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    for (int i = 0; i < 20000; i++) {
        uint64_t value = imv_prng_next(&prng) >> imv_prng_below(&prng, 64), back;
        if (i < 130) value = i < 65 ? (i == 64 ? UINT64_MAX : 1ull << i) : (1ull << (i % 64)) - 1;
        uint8_t bytes[IMV_VARINT_BYTES_MAX];
        uint8_t *end = imv_put_varint(bytes, value);
        int bits = value == 0 ? 1 : 64 - __builtin_clzll(value);
        cr_assert_eq(end - bytes, (bits + 6) / 7);
        cr_assert_eq(imv_get_varint(bytes, end, &back), end);
        cr_assert_eq(back, value);
        for (const uint8_t *cut = bytes; cut < end; cut++) cr_assert_null(imv_get_varint(bytes, cut, &back));
    }
}

/* Eleven bytes, or ten that say more than 64 bits, are no varint. */
Test(bytes, refuses_varints_over_64_bits) {
    uint8_t bytes[11];
    uint64_t value;
    memset(bytes, 0xff, sizeof bytes);
    cr_assert_null(imv_get_varint(bytes, bytes + 11, &value));
    bytes[9] = 2;
    cr_assert_null(imv_get_varint(bytes, bytes + 11, &value));
    bytes[9] = 1;
    cr_assert_eq(imv_get_varint(bytes, bytes + 11, &value), bytes + 10);
    cr_assert_eq(value, UINT64_MAX);
}

/* Zigzag maps every signed number to its own unsigned one, small ones to small ones. */
Test(bytes, zigzags) {
    static const int64_t numbers[] = {0, -1, 1, -2, 2, INT64_MAX, INT64_MIN};
    static const uint64_t coded[] = {0, 1, 2, 3, 4, UINT64_MAX - 1, UINT64_MAX};
    for (int i = 0; i < 7; i++) {
        cr_assert_eq(imv_zigzag(numbers[i]), coded[i]);
        cr_assert_eq(imv_unzigzag(coded[i]), numbers[i]);
    }
}

/* Fixed-width integers have the byte order that their name says, at any address. */
Test(bytes, stores_in_the_stated_order) {
    uint8_t bytes[9];
    imv_put_u64(bytes + 1, 0x0102030405060708);
    cr_assert(bytes[1] == 8 && bytes[8] == 1 && imv_get_u64(bytes + 1) == 0x0102030405060708);
    imv_put_be64(bytes + 1, 0x0102030405060708);
    cr_assert(bytes[1] == 1 && bytes[8] == 8 && imv_get_be64(bytes + 1) == 0x0102030405060708);
    imv_put_u32(bytes + 1, 0x01020304);
    cr_assert(bytes[1] == 4 && imv_get_u32(bytes + 1) == 0x01020304);
    imv_put_be32(bytes + 1, 0x01020304);
    cr_assert(bytes[1] == 1 && imv_get_be32(bytes + 1) == 0x01020304);
    imv_put_u16(bytes + 1, 0x0102);
    cr_assert(bytes[1] == 2 && imv_get_u16(bytes + 1) == 0x0102);
}

/* Big-endian numbers sort as memcmp sorts their bytes. */
Test(bytes, sorts_big_endian_as_numbers) {
    struct imv_prng prng;
    imv_prng_init(&prng, 2);
    for (int i = 0; i < 10000; i++) {
        uint64_t a = imv_prng_next(&prng) >> imv_prng_below(&prng, 64), b = imv_prng_next(&prng) >> (i % 64);
        uint8_t x[8], y[8];
        imv_put_be64(x, a);
        imv_put_be64(y, b);
        int order = memcmp(x, y, 8);
        cr_assert_eq((order > 0) - (order < 0), (a > b) - (a < b));
    }
}

/* Texts compare by unsigned bytes, a prefix first, and may be empty without data. */
Test(bytes, compares_texts) {
    static const char *const sorted[] = {"", "A", "a", "a-", "aa", "b", "\x7f", "\xc3\xa4", "\xff"};
    for (int i = 0; i < 9; i++) {
        for (int k = 0; k < 9; k++) {
            struct imv_str a = imv_str_from(sorted[i]), b = imv_str_from(sorted[k]);
            int order = imv_str_compare(a, b);
            cr_assert_eq((order > 0) - (order < 0), (i > k) - (i < k));
            cr_assert_eq(imv_str_equal(a, b), i == k);
        }
    }
    struct imv_str none = {0};
    cr_assert(imv_str_equal(none, IMV_STR("")) && imv_str_compare(none, none) == 0);
}
