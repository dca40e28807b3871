#include "storage/base/arena.h"
#include "storage/chunk.h"
#include "tests/support/values.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct imv_error err;
#define OK(expression) cr_assert_eq((expression), IMV_OK, "%s: %s", #expression, err.message)

enum { COLUMNS_MAX = 200 };

/* Rows made from a seed, and the chunk they are encoded to. */
struct sample {
    struct imv_arena arena;
    struct imv_chunk_id id;
    size_t rows, columns_count;
    int64_t *timestamps;
    struct imv_chunk_column columns[COLUMNS_MAX];
    struct imv_buffer bytes;
};

/* Rows of scrapes every some seconds with pauses and bursts, so that periods have any number of them. */
static void fill_scrapes(struct imv_prng *prng, int64_t *timestamps, size_t rows) {
    static const int64_t steps[] = {30000000, 100000000, 250000000, 1000000000, 10000000000, 15000000000, 30000000000};
    int64_t t = (int64_t)imv_prng_below(prng, UINT64_C(1) << 61) - (INT64_C(1) << 60), step = 0;
    for (size_t i = 0; i < rows; i++) {
        if (i == 0 || imv_prng_below(prng, 1500) == 0) step = steps[imv_prng_below(prng, 7)];
        if (imv_prng_below(prng, 400) == 0) t += (int64_t)imv_prng_below(prng, INT64_C(5000000000000));
        timestamps[i] = t;
        t += step;
    }
}

static void fill_times(struct imv_prng *prng, int64_t *timestamps, size_t rows) {
    uint64_t kind = imv_prng_below(prng, 6);
    if (kind > 3) {
        fill_scrapes(prng, timestamps, rows);
        return;
    }
    int64_t t = kind == 3 ? INT64_MIN : (int64_t)(imv_prng_next(prng) >> 2);
    for (size_t i = 0; i < rows; i++) {
        timestamps[i] = t;
        if (i + 1 == rows) break;
        t += kind == 0   ? 10000000000
             : kind == 1 ? 1 + (int64_t)imv_prng_below(prng, 1000)
             : kind == 2 ? 1000000 * (1 + (int64_t)imv_prng_below(prng, 40))
                         : INT64_MAX / (int64_t)rows + (int64_t)imv_prng_below(prng, 9);
    }
}

static void add_column(struct sample *sample, struct imv_prng *prng, const struct imv_values *values) {
    uint32_t before = sample->columns_count == 0 ? 0 : sample->columns[sample->columns_count - 1].column;
    struct imv_chunk_column *column = &sample->columns[sample->columns_count++];
    column->column = before + 1 + (uint32_t)imv_prng_below(prng, imv_prng_below(prng, 3) ? 3 : 1000);
    column->values.type = values->type;
    column->values.cells = imv_arena_alloc(&sample->arena, sample->rows * sizeof(uint64_t));
    column->values.valid = NULL;
    values->fill(prng, &sample->arena, column->values.cells, sample->rows);
    if (imv_prng_below(prng, 2)) return;
    column->values.valid = imv_arena_calloc(&sample->arena, (sample->rows + 63) / 64, sizeof(uint64_t));
    imv_values_validity(prng, column->values.valid, sample->rows);
    /* What stands in the place of no value means nothing: not even a string. Nor do bits behind the last row. */
    for (size_t i = 0; i < sample->rows; i++)
        if (!imv_bit_get(column->values.valid, i)) column->values.cells[i] = imv_prng_next(prng);
    if (sample->rows % 64 != 0) column->values.valid[sample->rows / 64] |= UINT64_MAX << sample->rows % 64;
}

static void sample_begin(struct sample *sample, struct imv_prng *prng, size_t rows) {
    *sample = (struct sample){.rows = rows};
    imv_arena_init(&sample->arena, 256 << 10, NULL);
    imv_buffer_init(&sample->bytes, 512 << 20);
    sample->timestamps = imv_arena_alloc(&sample->arena, rows * sizeof(int64_t));
    fill_times(prng, sample->timestamps, rows);
    sample->id = (struct imv_chunk_id){(uint32_t)imv_prng_next(prng), imv_prng_next(prng), sample->timestamps[0]};
}

static void sample_encode(struct sample *sample) {
    OK(imv_chunk_encode(&sample->id, sample->timestamps, sample->rows, sample->columns, sample->columns_count,
                        &sample->bytes, &err));
}

static void sample_release(struct sample *sample) {
    imv_buffer_release(&sample->bytes);
    imv_arena_release(&sample->arena);
}

static const struct imv_values *values_named(const char *name) {
    for (size_t g = 0; g < imv_values_count; g++)
        if (strcmp(imv_values[g].name, name) == 0) return &imv_values[g];
    cr_assert_fail("no values named %s", name);
    return NULL;
}

/* The statistics of some rows, the obvious way. */
static struct imv_chunk_statistics naive(const struct imv_vector *values, size_t from, size_t count) {
    struct imv_chunk_statistics found = {0};
    bool is_float = values->type == IMV_FLOAT;
    for (size_t row = from; row < from + count; row++) {
        if (!imv_vector_has(values, row)) continue;
        uint64_t cell = values->cells[row], flip = values->type == IMV_INTEGER ? UINT64_C(1) << 63 : 0;
        if (found.count++ == 0) found.first = cell;
        found.last = cell;
        if (values->type == IMV_STRING) continue;
        if (is_float && isnan(imv_cell_float(cell))) {
            found.nan_count++;
            continue;
        }
        /* Floats in their order as integers: of equal values -0 is least. */
        if (is_float) flip = cell >> 63 ? UINT64_MAX : UINT64_C(1) << 63;
        uint64_t low = is_float ? (found.min >> 63 ? UINT64_MAX : UINT64_C(1) << 63) : flip;
        uint64_t high = is_float ? (found.max >> 63 ? UINT64_MAX : UINT64_C(1) << 63) : flip;
        bool is_first = found.count - found.nan_count == 1;
        if (is_first || (cell ^ flip) < (found.min ^ low)) found.min = cell;
        if (is_first || (cell ^ flip) > (found.max ^ high)) found.max = cell;
        if (is_float)
            imv_sum_add(&found.sum_float, imv_cell_float(cell));
        else
            found.sum_integer += values->type == IMV_INTEGER ? (imv_int128)(int64_t)cell : (imv_int128)cell;
    }
    return found;
}

static void expect_same_sum(const struct imv_sum *a, const struct imv_sum *b) {
    double left = imv_sum_round(a), right = imv_sum_round(b);
    if (isnan(left) && isnan(right)) return;
    cr_assert(left == right || fabs(left - right) <= fabs(left) * 0x1p-52, "%a %a", left, right);
}

static void expect_equal(imv_type type, const struct imv_chunk_statistics *have,
                         const struct imv_chunk_statistics *want) {
    cr_assert_eq(have->count, want->count);
    if (type == IMV_STRING || want->count == 0) return;
    cr_assert_eq(have->first, want->first);
    cr_assert_eq(have->last, want->last);
    cr_assert_eq(have->nan_count, want->nan_count);
    expect_same_sum(&have->sum_float, &want->sum_float);
    cr_assert(have->sum_integer == want->sum_integer);
    if (have->nan_count < have->count) cr_assert(have->min == want->min && have->max == want->max);
}

static size_t rows_before(const struct imv_chunk *chunk, uint32_t vector) {
    size_t rows = 0;
    for (uint32_t v = 0; v < vector; v++) rows += imv_chunk_vector_rows(chunk, v);
    return rows;
}

static void expect_spans(const struct imv_chunk *chunk, uint32_t index, uint32_t vector,
                         const struct imv_vector *values) {
    size_t row = 0;
    for (uint32_t i = 0; i < imv_chunk_vector_spans(chunk, vector); i++) {
        struct imv_chunk_statistics have, want;
        struct imv_chunk_span span;
        imv_chunk_span(chunk, vector, i, &span);
        cr_assert_eq(span.row_from, row);
        row += span.rows;
        OK(imv_chunk_span_statistics(chunk, index, vector, i, &have, &err));
        want = naive(values, rows_before(chunk, vector) + span.row_from, span.rows);
        expect_equal(values->type, &have, &want);
    }
    cr_assert_eq(row, imv_chunk_vector_rows(chunk, vector));
}

static void expect_statistics(const struct imv_chunk *chunk, uint32_t index, uint32_t vector,
                              const struct imv_vector *values) {
    struct imv_chunk_statistics have, want, part;
    uint32_t rows = imv_chunk_vector_rows(chunk, vector);
    imv_chunk_statistics(chunk, index, vector, &have);
    size_t before = rows_before(chunk, vector);
    want = naive(values, before, rows);
    expect_spans(chunk, index, vector, values);
    expect_equal(values->type, &have, &want);
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t from = k * rows / 5, count = k == 3 ? rows - from : (k * 37 + rows / 3) % (rows - from + 1);
        OK(imv_chunk_aggregate_column(chunk, index, vector, from, count, &part, &err));
        want = naive(values, before + from, count);
        expect_equal(values->type, &part, &want);
    }
    OK(imv_chunk_aggregate_column(chunk, index, vector, 0, rows, &part, &err));
    expect_equal(values->type, &part, &have);
}

static void expect_column(const struct sample *sample, const struct imv_chunk *chunk, uint32_t index, uint32_t vector) {
    const struct imv_vector *values = &sample->columns[index].values;
    uint64_t cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
    bool all_valid, any_missing = false;
    struct imv_arena arena;
    imv_arena_init(&arena, 64 << 10, NULL);
    OK(imv_chunk_decode_column(chunk, index, vector, cells, valid, &all_valid, &arena, &err));
    uint32_t rows = imv_chunk_vector_rows(chunk, vector);
    size_t before = rows_before(chunk, vector);
    for (size_t i = 0; i < IMV_VECTOR_ROWS; i++) {
        size_t row = before + i;
        bool has = i < rows && imv_vector_has(values, row);
        cr_assert_eq(imv_bit_get(valid, i), has);
        any_missing |= i < rows && !has;
        if (has) cr_assert(imv_values_equal(values->type, cells[i], values->cells[row]));
    }
    cr_assert_eq(all_valid, !any_missing);
    imv_arena_release(&arena);
}

/* Everything that went in comes out of the chunk. */
static void expect_same(const struct sample *sample) {
    /* A copy of exactly the size, unaligned, so that a sanitizer sees a read past the end. */
    uint8_t *bytes = malloc(sample->bytes.size + 1);
    memcpy(bytes + 1, sample->bytes.data, sample->bytes.size);
    struct imv_chunk chunk;
    OK(imv_chunk_open(bytes + 1, sample->bytes.size, &sample->id, &chunk, &err));
    OK(imv_chunk_check(bytes + 1, sample->bytes.size, &sample->id, &err));
    cr_assert_eq(chunk.rows, sample->rows);
    cr_assert_eq(chunk.columns, sample->columns_count);
    cr_assert_eq(chunk.time_min, sample->timestamps[0]);
    cr_assert_eq(chunk.time_max, sample->timestamps[sample->rows - 1]);
    for (uint32_t vector = 0; vector < chunk.vectors; vector++) {
        const int64_t *times = sample->timestamps + rows_before(&chunk, vector);
        int64_t decoded[IMV_VECTOR_ROWS], first, last;
        uint32_t rows = imv_chunk_vector_rows(&chunk, vector);
        imv_chunk_vector_times(&chunk, vector, &first, &last);
        cr_assert(first == times[0] && last == times[rows - 1]);
        OK(imv_chunk_decode_times(&chunk, vector, decoded, &err));
        cr_assert_eq(memcmp(decoded, times, rows * sizeof *times), 0);
        for (uint32_t index = 0; index < chunk.columns; index++) {
            expect_column(sample, &chunk, index, vector);
            expect_statistics(&chunk, index, vector, &sample->columns[index].values);
        }
    }
    for (uint32_t index = 0; index < chunk.columns; index++) {
        uint32_t id = sample->columns[index].column;
        cr_assert_eq(imv_chunk_column_id(&chunk, index), id);
        cr_assert_eq(imv_chunk_column_type(&chunk, index), sample->columns[index].values.type);
        cr_assert_eq(imv_chunk_find_column(&chunk, id), (int)index);
        bool follows = index + 1 < chunk.columns && sample->columns[index + 1].column == id + 1;
        cr_assert_eq(imv_chunk_find_column(&chunk, id + 1), follows ? (int)index + 1 : -1);
    }
    cr_assert_eq(imv_chunk_find_column(&chunk, 0), -1);
    free(bytes);
}

/* Rows of any types, characters and gaps come back from chunks of any size. */
Test(chunk, round_trips) {
    uint64_t seed = 31;
    printf("seed %llu\n", (unsigned long long)seed);
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    static const size_t rows[] = {1, 2, 3, 63, 64, 65, 720, 1023, 1024, 1025, 2048, 3000, 8191, 8192};
    for (int round = 0; round < 60; round++) {
        struct sample sample;
        sample_begin(&sample, &prng, round < 14 ? rows[round] : 1 + imv_prng_below(&prng, 1500));
        size_t columns = 1 + imv_prng_below(&prng, 12);
        while (sample.columns_count < columns)
            add_column(&sample, &prng, &imv_values[imv_prng_below(&prng, imv_values_count)]);
        sample_encode(&sample);
        expect_same(&sample);
        sample_release(&sample);
    }
}

/* Each character of values alone, with and without gaps, in one vector and in three. */
Test(chunk, every_character) {
    struct imv_prng prng;
    imv_prng_init(&prng, 32);
    for (size_t g = 0; g < imv_values_count; g++) {
        for (int round = 0; round < 6; round++) {
            struct sample sample;
            sample_begin(&sample, &prng, round < 3 ? 1 + imv_prng_below(&prng, 1024) : 2100);
            add_column(&sample, &prng, &imv_values[g]);
            sample_encode(&sample);
            expect_same(&sample);
            sample_release(&sample);
        }
    }
}

/* Chunks of any length, whose periods have any number of rows, come back; their spans lie in one period or are full. */
Test(chunk, round_trips_of_any_alignment) {
    struct imv_prng prng;
    imv_prng_init(&prng, 40);
    size_t several = 0;
    for (int round = 0; round < 40; round++) {
        struct sample sample;
        sample_begin(&sample, &prng, 1 + imv_prng_below(&prng, IMV_CHUNK_ROWS_MAX));
        fill_scrapes(&prng, sample.timestamps, sample.rows);
        sample.id.start = sample.timestamps[0];
        for (int i = 0; i < 3; i++) add_column(&sample, &prng, &imv_values[imv_prng_below(&prng, imv_values_count)]);
        sample_encode(&sample);
        expect_same(&sample);
        struct imv_chunk chunk;
        OK(imv_chunk_open(sample.bytes.data, sample.bytes.size, &sample.id, &chunk, &err));
        for (uint32_t vector = 0; vector < chunk.vectors; vector++)
            several += imv_chunk_vector_spans(&chunk, vector) > 1;
        sample_release(&sample);
    }
    cr_assert_gt(several, 20);
}

/* A day of rows every ten seconds has statistics of each whole hour, and an hour of one a second of each quarter. */
Test(chunk, spans_are_hours_or_parts_of_hours) {
    static const struct {
        int64_t step_ns, period_ns;
    } cases[] = {{INT64_C(10000000000), INT64_C(3600000000000)},
                 {INT64_C(1000000000), INT64_C(900000000000)},
                 {INT64_C(100000000), INT64_C(60000000000)}};
    struct imv_prng prng;
    imv_prng_init(&prng, 41);
    for (int k = 0; k < 3; k++) {
        struct sample sample;
        sample_begin(&sample, &prng, 8000);
        for (size_t i = 0; i < sample.rows; i++)
            sample.timestamps[i] = 1700002800000000000 + (int64_t)i * cases[k].step_ns;
        sample.id.start = sample.timestamps[0];
        add_column(&sample, &prng, values_named("walk"));
        sample_encode(&sample);
        struct imv_chunk chunk;
        OK(imv_chunk_open(sample.bytes.data, sample.bytes.size, &sample.id, &chunk, &err));
        for (uint32_t vector = 0; vector < chunk.vectors; vector++) {
            for (uint32_t i = 0; i < imv_chunk_vector_spans(&chunk, vector); i++) {
                struct imv_chunk_span span;
                imv_chunk_span(&chunk, vector, i, &span);
                cr_assert_eq(span.first / cases[k].period_ns, span.last / cases[k].period_ns);
                cr_assert_eq(span.first % cases[k].period_ns, 0);
            }
        }
        sample_release(&sample);
    }
}

/* From no column to two hundred. */
Test(chunk, any_number_of_columns) {
    struct imv_prng prng;
    imv_prng_init(&prng, 33);
    static const size_t columns[] = {0, 1, 2, 50, 199, 200};
    for (size_t k = 0; k < 6; k++) {
        struct sample sample;
        sample_begin(&sample, &prng, 1 + imv_prng_below(&prng, 100));
        while (sample.columns_count < columns[k])
            add_column(&sample, &prng, &imv_values[sample.columns_count % imv_values_count]);
        sample_encode(&sample);
        expect_same(&sample);
        sample_release(&sample);
    }
}

/* What is appended stands behind what was there; what does not fit leaves it as it was. */
Test(chunk, appends_or_leaves_alone) {
    struct imv_prng prng;
    imv_prng_init(&prng, 34);
    struct sample sample;
    sample_begin(&sample, &prng, 100);
    add_column(&sample, &prng, values_named("walk"));
    add_column(&sample, &prng, values_named("few_strings"));
    sample_encode(&sample);
    size_t size = sample.bytes.size;
    for (size_t size_max = 0; size_max < size + 5; size_max += 7) {
        struct imv_buffer small;
        imv_buffer_init(&small, size_max);
        cr_assert_eq(imv_chunk_encode(&sample.id, sample.timestamps, sample.rows, sample.columns, 2, &small, &err),
                     size_max < size ? IMV_FULL : IMV_OK);
        cr_assert_eq(small.size, size_max < size ? 0 : size);
        imv_buffer_release(&small);
    }
    sample_encode(&sample);
    cr_assert_eq(sample.bytes.size, 2 * size);
    cr_assert_eq(memcmp(sample.bytes.data, sample.bytes.data + size, size), 0);
    sample_release(&sample);
}

/* ---- size ---- */

static double normal(struct imv_prng *prng) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += imv_prng_unit(prng);
    return sum;
}

/* Two hours of ten clamped integer walks, a row every ten seconds, take less than 0.41 bytes a value, all in. */
Test(chunk, monitoring_rows_are_small) {
    enum { ROWS = 720, COLUMNS = 10, CHUNKS = 20 };
    struct imv_prng prng;
    imv_prng_init(&prng, 35);
    struct imv_buffer out;
    imv_buffer_init(&out, 1 << 20);
    for (int c = 0; c < CHUNKS; c++) {
        int64_t timestamps[ROWS];
        uint64_t cells[COLUMNS][ROWS];
        struct imv_chunk_column columns[COLUMNS];
        for (int i = 0; i < ROWS; i++) timestamps[i] = 1700000000000000000 + i * INT64_C(10000000000);
        for (int k = 0; k < COLUMNS; k++) {
            double value = imv_prng_unit(&prng) * 100;
            for (int i = 0; i < ROWS; i++) cells[k][i] = (uint64_t)(value = fmin(fmax(value + normal(&prng), 0), 100));
            columns[k] = (struct imv_chunk_column){(uint32_t)k, {IMV_INTEGER, cells[k], NULL}};
        }
        struct imv_chunk_id id = {1, (uint64_t)c, timestamps[0]};
        OK(imv_chunk_encode(&id, timestamps, ROWS, columns, COLUMNS, &out, &err));
    }
    double bytes = (double)out.size / (ROWS * COLUMNS * CHUNKS);
    printf("%.4f bytes a value\n", bytes);
    cr_assert_leq(bytes, 0.41);
    imv_buffer_release(&out);
}

/* ---- damage ---- */

static void damaged_sample(struct sample *sample, struct imv_prng *prng, const char *name, size_t rows) {
    sample_begin(sample, prng, rows);
    sample->columns_count = 0;
    add_column(sample, prng, values_named(name));
    add_column(sample, prng, values_named("walk"));
    sample_encode(sample);
}

/* A chunk cut short or grown is refused when opened. */
Test(chunk, any_other_size_is_refused) {
    struct imv_prng prng;
    imv_prng_init(&prng, 36);
    struct sample sample;
    damaged_sample(&sample, &prng, "decimals_2", 300);
    for (size_t cut = 0; cut < sample.bytes.size; cut++) {
        uint8_t *prefix = malloc(cut);
        memcpy(prefix, sample.bytes.data, cut);
        struct imv_chunk chunk;
        cr_assert_eq(imv_chunk_open(prefix, cut, &sample.id, &chunk, &err), IMV_CORRUPT);
        free(prefix);
    }
    imv_buffer_append_char(&sample.bytes, 0);
    struct imv_chunk chunk;
    cr_assert_eq(imv_chunk_open(sample.bytes.data, sample.bytes.size, &sample.id, &chunk, &err), IMV_CORRUPT);
    sample_release(&sample);
}

/* What can be read of a damaged chunk is what was written: a reader sees the damage or it is not in what he reads. */
static void expect_read_or_refused(const struct sample *sample) {
    struct imv_chunk chunk;
    if (imv_chunk_open(sample->bytes.data, sample->bytes.size, &sample->id, &chunk, &err) != IMV_OK) return;
    size_t refused = 0;
    for (uint32_t vector = 0; vector < chunk.vectors; vector++) {
        int64_t times[IMV_VECTOR_ROWS];
        if (imv_chunk_decode_times(&chunk, vector, times, &err) != IMV_OK)
            refused++;
        else
            cr_assert_eq(memcmp(times, sample->timestamps + rows_before(&chunk, vector),
                                imv_chunk_vector_rows(&chunk, vector) * sizeof *times),
                         0);
        for (uint32_t index = 0; index < chunk.columns; index++) {
            uint64_t cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
            bool all_valid;
            struct imv_arena arena;
            imv_arena_init(&arena, 4096, NULL);
            if (imv_chunk_decode_column(&chunk, index, vector, cells, valid, &all_valid, &arena, &err) != IMV_OK)
                refused++;
            else
                expect_column(sample, &chunk, index, vector);
            imv_arena_release(&arena);
        }
    }
    cr_assert_eq(refused, 1);
}

/* Every single flipped bit is found: by the check always, by a reader of the damaged part when he reads it. */
Test(chunk, every_flipped_bit_is_found) {
    static const char *const names[] = {"constant_integer", "linear",         "walk",           "jittered_times",
                                        "parabola",         "random_boolean", "states",         "enumeration",
                                        "random_bits",      "decimals_2",     "special_floats", "single_precision",
                                        "few_strings",      "text_lines",     "random_strings"};
    struct imv_prng prng;
    imv_prng_init(&prng, 37);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        struct sample sample;
        damaged_sample(&sample, &prng, names[n], 40 + imv_prng_below(&prng, 40));
        for (size_t bit = 0; bit < sample.bytes.size * 8; bit++) {
            sample.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
            cr_assert_eq(imv_chunk_check(sample.bytes.data, sample.bytes.size, &sample.id, &err), IMV_CORRUPT,
                         "%s bit %zu", names[n], bit);
            if (bit % 3 == 0) expect_read_or_refused(&sample);
            sample.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        }
        OK(imv_chunk_check(sample.bytes.data, sample.bytes.size, &sample.id, &err));
        sample_release(&sample);
    }
}

/* The same in a chunk of several vectors, where pieces of equal size lie side by side, on a sample of its bits. */
Test(chunk, flipped_bits_of_a_large_chunk_are_found) {
    struct imv_prng prng;
    imv_prng_init(&prng, 38);
    struct sample sample;
    sample_begin(&sample, &prng, 5000);
    for (int i = 0; i < 4; i++) add_column(&sample, &prng, values_named("random_boolean"));
    sample_encode(&sample);
    for (int i = 0; i < 3000; i++) {
        size_t bit = imv_prng_below(&prng, sample.bytes.size * 8);
        sample.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert_eq(imv_chunk_check(sample.bytes.data, sample.bytes.size, &sample.id, &err), IMV_CORRUPT);
        sample.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    sample_release(&sample);
}

/* The same in a chunk whose vectors have several spans, with every bit of its head; and every prefix is refused. */
Test(chunk, flipped_bits_of_spans_are_found) {
    struct imv_prng prng;
    imv_prng_init(&prng, 42);
    struct sample sample;
    sample_begin(&sample, &prng, 3000);
    for (size_t i = 0; i < sample.rows; i++) sample.timestamps[i] = 1700000000000000000 + (int64_t)i * 10000000000;
    sample.id.start = sample.timestamps[0];
    add_column(&sample, &prng, values_named("random_boolean"));
    add_column(&sample, &prng, values_named("walk"));
    sample_encode(&sample);
    struct imv_chunk chunk;
    OK(imv_chunk_open(sample.bytes.data, sample.bytes.size, &sample.id, &chunk, &err));
    cr_assert_gt(imv_chunk_vector_spans(&chunk, 1), 1);
    size_t head_bits = (size_t)(chunk.data - chunk.bytes) * 8;
    for (size_t bit = 0; bit < sample.bytes.size * 8; bit += bit < head_bits ? 1 : 7) {
        sample.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert_eq(imv_chunk_check(sample.bytes.data, sample.bytes.size, &sample.id, &err), IMV_CORRUPT);
        sample.bytes.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < sample.bytes.size; cut++) {
        uint8_t *prefix = malloc(cut);
        if (cut > 0) memcpy(prefix, sample.bytes.data, cut);
        cr_assert_eq(imv_chunk_open(prefix, cut, &sample.id, &chunk, &err), IMV_CORRUPT);
        free(prefix);
    }
    sample_release(&sample);
}

/* A sound chunk in the wrong place is refused when opened. */
Test(chunk, wrong_identity_is_refused) {
    struct imv_prng prng;
    imv_prng_init(&prng, 39);
    struct sample sample;
    damaged_sample(&sample, &prng, "walk", 100);
    for (int bit = 0; bit < 160; bit++) {
        struct imv_chunk_id id = sample.id;
        if (bit < 32)
            id.label ^= UINT32_C(1) << bit;
        else if (bit < 96)
            id.series ^= UINT64_C(1) << (bit - 32);
        else
            id.start = (int64_t)((uint64_t)id.start ^ UINT64_C(1) << (bit - 96));
        struct imv_chunk chunk;
        cr_assert_eq(imv_chunk_open(sample.bytes.data, sample.bytes.size, &id, &chunk, &err), IMV_CORRUPT);
    }
    cr_assert_not_null(strstr(err.message, "series"));
    sample_release(&sample);
}

/* ---- compatibility ---- */

static unsigned nibble(char digit) { return (unsigned)(digit <= '9' ? digit - '0' : digit - 'a' + 10); }

/* A chunk that was written when the format was fixed reads as it did then. */
Test(chunk, stored_chunks_stay_readable) {
    static const char hex[] = "c3600504010002002c012d01430c261d532a832daa3b85010080cab5ee0140908324180310cf0ffc53025300"
                              "00de580fa4d859002f800608011400043c420f22010023030200040602000e006f6e6f66668eb12c79";
    uint8_t bytes[sizeof hex / 2];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    static const int64_t times[] = {0, 1000000000, 2000000000, 3500000000, 4000000000, 9000000000};
    static const double floats[] = {20.5, 20.25, -1, 21.75, 40.998999999999995, 22};
    static const uint64_t integers[] = {5, 6, 4, 5, 0, 1000000}, booleans[] = {1, 1, 0, 0, 0, 1};
    static const char *const strings[] = {"on", "off", "on", "on", "", "off"};
    struct imv_chunk_id id = {1, 2, 1700000000000000000};
    struct imv_chunk chunk;
    OK(imv_chunk_check(bytes, sizeof bytes, &id, &err));
    OK(imv_chunk_open(bytes, sizeof bytes, &id, &chunk, &err));
    cr_assert(chunk.rows == 6 && chunk.columns == 4);
    int64_t decoded[IMV_VECTOR_ROWS];
    uint64_t cells[4][IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
    bool all_valid;
    struct imv_arena arena;
    imv_arena_init(&arena, 4096, NULL);
    OK(imv_chunk_decode_times(&chunk, 0, decoded, &err));
    for (uint32_t k = 0; k < 4; k++) {
        static const uint32_t ids[] = {1, 2, 300, 301};
        static const imv_type types[] = {IMV_FLOAT, IMV_INTEGER, IMV_BOOLEAN, IMV_STRING};
        cr_assert(imv_chunk_column_id(&chunk, k) == ids[k] && imv_chunk_column_type(&chunk, k) == types[k]);
        OK(imv_chunk_decode_column(&chunk, k, 0, cells[k], valid, &all_valid, &arena, &err));
        cr_assert_eq(valid[0], k == 1 ? 0x2f : 0x3f);
    }
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(decoded[i], id.start + times[i]);
        cr_assert(cells[0][i] == imv_float_cell(floats[i]) && cells[1][i] == integers[i] && cells[2][i] == booleans[i]);
        cr_assert(imv_str_equal(imv_cell_str(cells[3][i]), imv_str_from(strings[i])));
    }
    imv_arena_release(&arena);
}
