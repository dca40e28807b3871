#include "query/column.h"
#include "query/value.h"
#include "storage/base/buffer.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define LIST(...)                                    \
    list_of((const struct imv_value[]){__VA_ARGS__}, \
            sizeof((const struct imv_value[]){__VA_ARGS__}) / sizeof(struct imv_value))
#define MAP(...)                                        \
    map_of((const struct imv_map_entry[]){__VA_ARGS__}, \
           sizeof((const struct imv_map_entry[]){__VA_ARGS__}) / sizeof(struct imv_map_entry))

static struct imv_value list_of(const struct imv_value *items, size_t count) {
    struct imv_value list, *copy = malloc((count + 1) * sizeof *copy);
    memcpy(copy, items, count * sizeof *copy);
    cr_assert(imv_value_list(copy, count, &list));
    return list;
}

static struct imv_value map_of(const struct imv_map_entry *entries, size_t count) {
    struct imv_value map;
    struct imv_map_entry *copy = malloc((count + 1) * sizeof *copy);
    memcpy(copy, entries, count * sizeof *copy);
    cr_assert(imv_value_map(copy, count, &map));
    return map;
}

static struct imv_value null_(void) { return imv_value_null(); }
static struct imv_value i(int64_t integer) { return imv_value_integer(integer); }
static struct imv_value f(double number) { return imv_value_float(number); }
static struct imv_value s(const char *text) { return imv_value_string(imv_str_from(text)); }
static struct imv_value b(bool boolean) { return imv_value_boolean(boolean); }
static struct imv_value t(int64_t ns) { return imv_value_time(ns); }
static struct imv_map_entry entry(const char *key, struct imv_value value) {
    return (struct imv_map_entry){imv_str_from(key), value};
}

static imv_truth equal(struct imv_value a, struct imv_value c) {
    imv_truth truth = imv_value_equal(&a, &c);
    cr_assert_eq(imv_value_equal(&c, &a), truth, "equality does not depend on the side");
    return truth;
}

static imv_comparison compare(struct imv_value a, struct imv_value c) {
    imv_comparison comparison = imv_value_compare(&a, &c), back = imv_value_compare(&c, &a);
    imv_comparison mirrored = comparison == IMV_COMPARED_LESS      ? IMV_COMPARED_GREATER
                              : comparison == IMV_COMPARED_GREATER ? IMV_COMPARED_LESS
                                                                   : comparison;
    cr_assert_eq(back, mirrored);
    return comparison;
}

/* Equality is openCypher's: three-valued, by content, numbers across kinds, NaN equal to nothing. */
Test(value, equality) {
    cr_expect_eq(equal(i(1), f(1)), IMV_TRUE);
    cr_expect_eq(equal(i(1), s("1")), IMV_FALSE);
    cr_expect_eq(equal(f(NAN), f(NAN)), IMV_FALSE);
    cr_expect_eq(equal(null_(), null_()), IMV_UNKNOWN);
    cr_expect_eq(equal(null_(), i(1)), IMV_UNKNOWN);
    cr_expect_eq(equal(f(0.0), f(-0.0)), IMV_TRUE);
    cr_expect_eq(equal(i(INT64_C(9007199254740993)), f(9007199254740992.0)), IMV_FALSE);
    cr_expect_eq(equal(imv_value_uinteger(UINT64_MAX), f(0x1p64)), IMV_FALSE);
    cr_expect_eq(equal(imv_value_uinteger(5), i(5)), IMV_TRUE);
    cr_expect_eq(equal(b(true), i(1)), IMV_FALSE);
    cr_expect_eq(equal(t(0), s("1970-01-01T00:00:00Z")), IMV_TRUE);
    cr_expect_eq(equal(t(5), i(5)), IMV_TRUE);
    cr_expect_eq(equal(t(5), s("5")), IMV_FALSE);
    cr_expect_eq(equal(LIST(i(1), i(2)), LIST(i(1))), IMV_FALSE);
    cr_expect_eq(equal(LIST(null_()), LIST(i(1))), IMV_UNKNOWN);
    cr_expect_eq(equal(LIST(null_(), i(2)), LIST(i(1), i(3))), IMV_FALSE);
    cr_expect_eq(equal(LIST(LIST(i(1)), LIST(i(2))), LIST(LIST(i(1)), LIST(null_()))), IMV_UNKNOWN);
    cr_expect_eq(equal(MAP(entry("k", i(1)), entry("l", i(2))), MAP(entry("l", f(2)), entry("k", i(1)))), IMV_TRUE);
    cr_expect_eq(equal(MAP(entry("k", null_())), MAP(entry("k", null_()))), IMV_UNKNOWN);
    cr_expect_eq(equal(MAP(entry("k", null_())), MAP(entry("l", null_()))), IMV_FALSE);
}

/* Values of different types do not compare; NaN compares with numbers, always to false. */
Test(value, comparability) {
    cr_expect_eq(compare(i(1), f(1.5)), IMV_COMPARED_LESS);
    cr_expect_eq(compare(i(2), i(2)), IMV_COMPARED_EQUAL);
    cr_expect_eq(compare(f(NAN), i(1)), IMV_COMPARED_UNORDERED);
    cr_expect_eq(compare(null_(), i(1)), IMV_COMPARED_UNKNOWN);
    cr_expect_eq(compare(s("a"), i(1)), IMV_COMPARED_UNKNOWN);
    cr_expect_eq(compare(s("a"), s("ab")), IMV_COMPARED_LESS);
    cr_expect_eq(compare(b(false), b(true)), IMV_COMPARED_LESS);
    cr_expect_eq(compare(LIST(i(1), i(0)), LIST(i(1))), IMV_COMPARED_GREATER);
    cr_expect_eq(compare(LIST(i(1), null_()), LIST(i(1), i(2))), IMV_COMPARED_UNKNOWN);
    cr_expect_eq(compare(LIST(i(0), null_()), LIST(i(1), i(2))), IMV_COMPARED_LESS);
    cr_expect_eq(compare(MAP(entry("a", i(1))), MAP(entry("a", i(2)))), IMV_COMPARED_UNKNOWN);
    cr_expect_eq(compare(t(10), s("1970-01-01T00:00:01Z")), IMV_COMPARED_LESS);
    cr_expect_eq(compare(t(10), i(9)), IMV_COMPARED_GREATER);
    cr_expect_eq(compare(t(10), s("soon")), IMV_COMPARED_UNKNOWN);
    cr_expect_eq(compare(imv_value_uinteger(UINT64_MAX), i(INT64_MAX)), IMV_COMPARED_GREATER);
    cr_expect_eq(compare(imv_value_uinteger(UINT64_MAX), f(1e30)), IMV_COMPARED_LESS);
    cr_expect_eq(compare(i(INT64_MAX), f(9223372036854775808.0)), IMV_COMPARED_LESS);
    cr_expect_eq(compare(i(-3), f(-3.5)), IMV_COMPARED_GREATER);
}

/* A list in the order that ORDER BY gives, one value per step. */
static size_t ordered_values(struct imv_value *values) {
    const struct imv_value all[] = {MAP(entry("a", i(1))),
                                    MAP(entry("a", i(2))),
                                    MAP(entry("b", i(1))),
                                    MAP(entry("a", i(1)), entry("b", i(1))),
                                    LIST(s("a")),
                                    LIST(s("a"), i(1)),
                                    LIST(i(1)),
                                    LIST(i(1), s("a")),
                                    LIST(i(1), null_()),
                                    LIST(null_(), i(1)),
                                    LIST(null_(), i(2)),
                                    t(-5),
                                    t(5),
                                    imv_value_duration(1),
                                    imv_value_duration(2),
                                    s(""),
                                    s(" "),
                                    s(".*"),
                                    s("one"),
                                    b(false),
                                    b(true),
                                    f(-INFINITY),
                                    i(INT64_MIN),
                                    f(-1.5),
                                    i(-1),
                                    f(0),
                                    f(0.5),
                                    i(1),
                                    f(1.5),
                                    i(INT64_C(9007199254740992)),
                                    i(INT64_C(9007199254740993)),
                                    i(INT64_MAX),
                                    f(0x1p63),
                                    imv_value_uinteger(UINT64_C(1) << 63 | 1),
                                    imv_value_uinteger(UINT64_MAX),
                                    f(0x1p64),
                                    f(INFINITY),
                                    f(NAN),
                                    null_()};
    memcpy(values, all, sizeof all);
    return sizeof all / sizeof *all;
}

/* The order is total and as documented: every value of the list is below every later one. */
Test(value, order_is_total) {
    struct imv_value values[64];
    size_t count = ordered_values(values);
    for (size_t x = 0; x < count; x++)
        for (size_t y = 0; y < count; y++) {
            int order = imv_value_order(&values[x], &values[y]);
            cr_expect_eq((order > 0) - (order < 0), (x > y) - (x < y), "%zu and %zu: %d", x, y, order);
        }
}

/* Values that are one group hash alike, whatever they are made of. */
Test(value, hash_follows_order) {
    const struct {
        struct imv_value a, b;
    } same[] = {
        {i(1), f(1)},
        {f(0.0), f(-0.0)},
        {f(NAN), f(-NAN)},
        {imv_value_uinteger(UINT64_C(1) << 63), f(0x1p63)},
        {LIST(i(1), null_()), LIST(f(1), null_())},
        {MAP(entry("a", i(1)), entry("b", i(2))), MAP(entry("b", i(2)), entry("a", i(1)))},
        {s("x"), s("x")},
    };
    for (size_t x = 0; x < sizeof same / sizeof *same; x++) {
        cr_expect_eq(imv_value_order(&same[x].a, &same[x].b), 0, "%zu", x);
        cr_expect_eq(imv_value_hash(&same[x].a, 99), imv_value_hash(&same[x].b, 99), "%zu", x);
    }
    struct imv_value values[64];
    size_t count = ordered_values(values);
    for (size_t x = 0; x < count; x++)
        for (size_t y = 0; y < x; y++)
            cr_expect_neq(imv_value_hash(&values[x], 1), imv_value_hash(&values[y], 1), "%zu and %zu", x, y);
}

/* Random integers and doubles keep to exact arithmetic when they are compared. */
Test(value, numbers_compare_exactly) {
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    for (int round = 0; round < 200000; round++) {
        int64_t integer = (int64_t)imv_prng_next(&prng) >> imv_prng_below(&prng, 64);
        double number = (double)integer + (double)((int)imv_prng_below(&prng, 5) - 2) / 2;
        long double a = (long double)integer, c = (long double)number; /* 64 bits of mantissa: exact */
        struct imv_value x = i(integer), y = f(number);
        int order = imv_value_order(&x, &y);
        cr_assert_eq((order > 0) - (order < 0), (a > c) - (a < c), "%lld and %.17g", (long long)integer, number);
    }
}

/* A copy owns all of its memory, and prints as the original. */
Test(value, copies_own_their_memory) {
    char *text = strdup("hello");
    struct imv_arena arena;
    imv_arena_init(&arena, 256, NULL);
    struct imv_value value = LIST(s(text), MAP(entry(text, s(text))), f(1.5), t(0), null_()), copy;
    cr_assert(imv_value_copy(&arena, &value, &copy));
    memset(text, 'x', 5);
    free(text);
    struct imv_buffer out;
    imv_buffer_init(&out, 1024);
    cr_assert(imv_value_print(&out, &copy));
    imv_buffer_append_char(&out, 0);
    cr_expect_str_eq(out.data, "['hello', {hello: 'hello'}, 1.5, 1970-01-01T00:00:00.000000000Z, null]");
    imv_buffer_release(&out);
    imv_arena_release(&arena);
}

/* Lists nest to a limit and no further. */
Test(value, nesting_is_bounded) {
    struct imv_value value = i(1);
    for (int depth = 0; depth < IMV_VALUE_DEPTH_MAX; depth++) value = LIST(value);
    struct imv_value deeper;
    cr_expect_not(imv_value_list(&value, 1, &deeper));
    struct imv_map_entry e = entry("k", value);
    cr_expect_not(imv_value_map(&e, 1, &deeper));
}

/* Of a key given twice the last value stays, in the place of the first. */
Test(value, map_keys_are_unique) {
    struct imv_map_entry entries[] = {entry("a", i(1)), entry("b", i(2)), entry("a", i(3))};
    cr_assert_eq(imv_map_entries_unique(entries, 3), 2);
    struct imv_value map;
    cr_assert(imv_value_map(entries, 2, &map));
    cr_expect_eq(imv_value_map_get(&map, IMV_STR("a"))->integer, 3);
    cr_expect_eq(imv_value_map_get(&map, IMV_STR("b"))->integer, 2);
    cr_expect_null(imv_value_map_get(&map, IMV_STR("c")));
}

/* Gathered columns hold the same values as the rows they came from. */
Test(value, columns_gather) {
    struct imv_arena arena;
    imv_arena_init(&arena, 4096, NULL);
    enum { ROWS = 200 };
    uint64_t cells[ROWS], valid[4] = {0};
    struct imv_value values[ROWS];
    for (int row = 0; row < ROWS; row++) {
        cells[row] = (uint64_t)row;
        if (row % 3 != 0) imv_bit_set(valid, (size_t)row);
        values[row] = row % 2 == 0 ? i(row) : s("x");
    }
    struct imv_value constant = s("c");
    struct imv_column columns[] = {imv_column_cells(IMV_COLUMN_INTEGER, cells, valid),
                                   imv_column_cells(IMV_COLUMN_TIME, cells, NULL), imv_column_values(values),
                                   imv_column_constant(&constant), imv_column_null()};
    uint16_t picked[ROWS];
    size_t count = 0;
    for (uint16_t row = 1; row < ROWS; row = (uint16_t)(row + 1 + row % 4)) picked[count++] = row;
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
        struct imv_column gathered;
        cr_assert(imv_column_gather(&arena, &columns[c], picked, count, &gathered));
        for (size_t row = 0; row < count; row++) {
            struct imv_value x = imv_column_value(&gathered, row), y = imv_column_value(&columns[c], picked[row]);
            cr_assert_eq(imv_value_order(&x, &y), 0);
        }
    }
    imv_arena_release(&arena);
}
