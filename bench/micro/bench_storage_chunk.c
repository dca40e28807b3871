/* bench_storage_chunk.c - bytes and speed of codecs and chunks, one line a case.
 *
 *     name  codec  bits a value  encoding: M values/s  decoding: M values/s
 *
 * Codec lines take one vector of 1,024 values that stay in the first cache levels; chunk lines take whole chunks of ten
 * columns, checksums and directory included. Best of several runs. Shape lines are the data sets that peers are
 * compared on (integers and decimals of a walk, machines), whole chunks and what their keys take in a table file.
 */
#include "storage/base/arena.h"
#include "storage/base/clock.h"
#include "storage/base/prng.h"
#include "storage/chunk.h"
#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { VECTOR = IMV_PACK_COUNT_MAX, RUNS = 60 };
#define RUN_NS INT64_C(2000000) /* short, so that some run has the processor for itself */

static struct imv_prng prng;

static double normal(void) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += imv_prng_unit(&prng);
    return sum;
}

/* ---- one vector ---- */

static void fill_constant(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = 42;
}
static void fill_linear(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = 1700000000000000000 + (uint64_t)i * 10000000000;
}
static void fill_range(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_prng_below(&prng, 1000);
}
static void fill_walk(uint64_t *cells) {
    double value = 50;
    for (int i = 0; i < VECTOR; i++) cells[i] = (uint64_t)(value = fmin(fmax(value + normal(), 0), 100));
}
static void fill_spikes(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++)
        cells[i] = imv_prng_below(&prng, 50) ? imv_prng_below(&prng, 8) : imv_prng_next(&prng) >> 30;
}
static void fill_jitter(uint64_t *cells) {
    uint64_t t = 1700000000000000000;
    for (int i = 0; i < VECTOR; i++) cells[i] = t += 1000000000 + imv_prng_below(&prng, 50) * 1000000;
}
static void fill_curve(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = (uint64_t)(1e9 * sin(i / 300.0)) + imv_prng_below(&prng, 3);
}
static void fill_states(uint64_t *cells) {
    uint64_t state = 0;
    for (int i = 0; i < VECTOR; i++) cells[i] = state = imv_prng_below(&prng, 40) ? state : imv_prng_below(&prng, 5);
}
static void fill_enumeration(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_prng_below(&prng, 6) * 982451653;
}
static void fill_decimals(uint64_t *cells, double power) {
    double value = 20;
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_float_cell(round((value += normal() / 10) * power) / power);
}
static void fill_decimals_1(uint64_t *cells) { fill_decimals(cells, 10); }
static void fill_decimals_3(uint64_t *cells) { fill_decimals(cells, 1000); }
static void fill_whole_floats(uint64_t *cells) {
    fill_walk(cells);
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_float_cell((double)cells[i]);
}
static void fill_singles(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_float_cell((double)(float)(20 + normal()));
}
static void fill_noise(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_float_cell(normal());
}
static void fill_booleans(uint64_t *cells) {
    for (int i = 0; i < VECTOR; i++) cells[i] = imv_prng_below(&prng, 2);
}

static const struct {
    const char *name;
    imv_type type;
    void (*fill)(uint64_t *cells);
} cases[] = {
    {"constant", IMV_INTEGER, fill_constant},
    {"linear", IMV_INTEGER, fill_linear},
    {"range", IMV_INTEGER, fill_range},
    {"walk", IMV_INTEGER, fill_walk},
    {"spikes", IMV_INTEGER, fill_spikes},
    {"jitter", IMV_INTEGER, fill_jitter},
    {"curve", IMV_INTEGER, fill_curve},
    {"states", IMV_INTEGER, fill_states},
    {"enumeration", IMV_INTEGER, fill_enumeration},
    {"decimals_1", IMV_FLOAT, fill_decimals_1},
    {"decimals_3", IMV_FLOAT, fill_decimals_3},
    {"whole_floats", IMV_FLOAT, fill_whole_floats},
    {"singles", IMV_FLOAT, fill_singles},
    {"noise", IMV_FLOAT, fill_noise},
    {"booleans", IMV_BOOLEAN, fill_booleans},
};

/* Calls work until a run's time is over, several times; the best rate, in millions a second. */
static double rate(void (*work)(void *context), void *context, double values) {
    const struct imv_clock *clock = imv_clock_system();
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        int64_t start = imv_clock_monotonic_ns(clock), now = start, calls = 0;
        for (; now - start < RUN_NS; now = imv_clock_monotonic_ns(clock))
            for (int i = 0; i < 16; i++, calls++) work(context);
        double found = (double)calls * values * 1e3 / (double)(now - start);
        best = found > best ? found : best;
    }
    return best;
}

struct vector_work {
    struct imv_codec_input input;
    struct imv_codec_decimal decimal;
    struct imv_codec_plan plan;
    uint64_t cells[VECTOR], back[VECTOR];
    uint8_t bytes[IMV_CODEC_BYTES_MAX];
};

static void encode_vector(void *context) {
    struct vector_work *work = context;
    imv_codec_choose(&work->input, &work->plan);
    imv_codec_encode(&work->input, &work->plan, work->bytes);
}

static void decode_vector(void *context) {
    struct vector_work *work = context;
    if (!imv_codec_decode(work->plan.codec, work->bytes, work->bytes + work->plan.bytes, 0, VECTOR, work->back))
        abort();
}

static void run_vectors(void) {
    static struct vector_work work;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cases[i].fill(work.cells);
        work.decimal = (struct imv_codec_decimal){0};
        work.input = (struct imv_codec_input){cases[i].type, work.cells, VECTOR, 0, &work.decimal};
        double encoding = rate(encode_vector, &work, VECTOR), decoding = rate(decode_vector, &work, VECTOR);
        printf("vector %-14s %-10s %6.2f bits  encode %7.0f M/s  decode %7.0f M/s\n", cases[i].name,
               imv_codec_name(work.plan.codec), (double)work.plan.bytes * 8 / VECTOR, encoding, decoding);
    }
}

/* ---- kernels ---- */

struct kernel_work {
    unsigned width;
    uint8_t bytes[VECTOR * 8 + IMV_KERNEL_SLACK_BYTES], digits[VECTOR];
    uint64_t cells[VECTOR], out[VECTOR], sums[VECTOR], bits[VECTOR / 64];
};

static void unpack(void *context) {
    struct kernel_work *work = context;
    imv_kernel_unpack(work->bytes, VECTOR / IMV_KERNEL_BLOCK_VALUES, work->width, 7, work->out);
}
static void add_digits(void *context) {
    struct kernel_work *work = context;
    imv_kernel_add_digits(work->digits, VECTOR, 3, work->out);
}
static void prefix_sum(void *context) {
    struct kernel_work *work = context;
    imv_kernel_prefix_sum(work->out, VECTOR, 3, work->sums);
}
static void decimal(void *context) {
    struct kernel_work *work = context;
    imv_kernel_decimal(work->out, VECTOR, 1e10, 1e-12);
}
static void to_decimal(void *context) {
    struct kernel_work *work = context;
    imv_kernel_to_decimal(work->cells, VECTOR, 1e12, 1e-10, 1e10, 1e-12, work->out, work->sums);
}
static void differences(void *context) {
    struct kernel_work *work = context;
    imv_kernel_differences(work->cells, VECTOR, work->out);
}
static void integers(void *context) {
    struct kernel_work *work = context;
    struct imv_kernel_integers found;
    imv_kernel_aggregate_integers(work->cells, VECTOR, 0, &found);
    work->sums[0] = found.low_halves;
}
static void floats(void *context) {
    struct kernel_work *work = context;
    struct imv_kernel_floats found;
    imv_kernel_aggregate_floats(work->cells, VECTOR, &found);
    work->sums[0] = found.nan_count;
}
static void compare_integers(void *context) {
    struct kernel_work *work = context;
    imv_kernel_select_integers(work->cells, VECTOR, 0, IMV_KERNEL_LESS, 50, work->bits);
}
static void compare_floats(void *context) {
    struct kernel_work *work = context;
    imv_kernel_select_floats(work->cells, VECTOR, IMV_KERNEL_LESS, 50, work->bits);
}

/* Values a second of both twins, and cycles a value of the faster by the processor's time stamps. */
static void run_kernel(const char *name, void (*call)(void *context), struct kernel_work *work) {
    static double ticks_a_second;
    if (ticks_a_second == 0) {
        int64_t start = imv_clock_monotonic_ns(imv_clock_system());
        uint64_t ticks = __builtin_ia32_rdtsc();
        while (imv_clock_monotonic_ns(imv_clock_system()) - start < 50000000) continue;
        ticks_a_second = (double)(__builtin_ia32_rdtsc() - ticks) * 20;
    }
    imv_kernels_use(&imv_kernels_scalar);
    double scalar = rate(call, work, VECTOR);
    imv_kernels_use(NULL);
    double best = rate(call, work, VECTOR);
    printf("kernel %-18s scalar %6.0f M/s  %5.2f cycles   %s %6.0f M/s  %5.2f cycles\n", name, scalar,
           ticks_a_second / scalar / 1e6, imv_kernels()->name, best, ticks_a_second / best / 1e6);
}

static void run_kernels(void) {
    static struct kernel_work work;
    static const unsigned widths[] = {0, 1, 3, 7, 8, 10, 12, 20, 33, 50, 57, 60, 64};
    for (int i = 0; i < VECTOR; i++) work.cells[i] = imv_float_cell(round(5000 + 100 * normal()) / 100);
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        char name[32];
        work.width = widths[i];
        snprintf(name, sizeof name, "unpack %u", work.width);
        run_kernel(name, unpack, &work);
    }
    run_kernel("add digits", add_digits, &work);
    run_kernel("prefix sum", prefix_sum, &work);
    run_kernel("decimal", decimal, &work);
    run_kernel("to decimal", to_decimal, &work);
    run_kernel("differences", differences, &work);
    run_kernel("integers", integers, &work);
    run_kernel("floats", floats, &work);
    run_kernel("compare integers", compare_integers, &work);
    run_kernel("compare floats", compare_floats, &work);
}

/* ---- chunks ---- */

enum { COLUMNS = 10 };

struct chunk_work {
    struct imv_chunk_id id;
    size_t rows;
    int64_t timestamps[IMV_CHUNK_ROWS_MAX];
    uint64_t cells[COLUMNS][IMV_CHUNK_ROWS_MAX];
    struct imv_chunk_column columns[COLUMNS];
    struct imv_buffer out;
};

static void encode_chunk(void *context) {
    struct chunk_work *work = context;
    imv_buffer_reset(&work->out);
    if (imv_chunk_encode(&work->id, work->timestamps, work->rows, work->columns, COLUMNS, &work->out, NULL) != IMV_OK)
        abort();
}

static void decode_chunk(void *context) {
    struct chunk_work *work = context;
    struct imv_chunk chunk;
    uint64_t cells[IMV_VECTOR_ROWS], valid[IMV_VECTOR_WORDS];
    bool all_valid;
    if (imv_chunk_open(work->out.data, work->out.size, &work->id, &chunk, NULL) != IMV_OK) abort();
    for (uint32_t vector = 0; vector < chunk.vectors; vector++)
        for (uint32_t index = 0; index < COLUMNS; index++)
            if (imv_chunk_decode_column(&chunk, index, vector, cells, valid, &all_valid, NULL, NULL) != IMV_OK) abort();
}

static void summarize_chunk(void *context) {
    struct chunk_work *work = context;
    struct imv_chunk chunk;
    if (imv_chunk_open(work->out.data, work->out.size, &work->id, &chunk, NULL) != IMV_OK) abort();
    imv_int128 sum = 0;
    for (uint32_t vector = 0; vector < chunk.vectors; vector++) {
        for (uint32_t index = 0; index < COLUMNS; index++) {
            struct imv_chunk_statistics statistics;
            imv_chunk_statistics(&chunk, index, vector, &statistics);
            sum += statistics.sum_integer;
        }
    }
    if (sum == 1) abort();
}

/* All rows but the first of every vector, which stored statistics do not answer. */
static void aggregate_chunk(void *context) {
    struct chunk_work *work = context;
    struct imv_chunk chunk;
    struct imv_chunk_statistics statistics;
    if (imv_chunk_open(work->out.data, work->out.size, &work->id, &chunk, NULL) != IMV_OK) abort();
    for (uint32_t vector = 0; vector < chunk.vectors; vector++)
        for (uint32_t index = 0; index < COLUMNS; index++)
            if (imv_chunk_aggregate_column(&chunk, index, vector, 1, imv_chunk_vector_rows(&chunk, vector) - 1,
                                           &statistics, NULL) != IMV_OK)
                abort();
}

static void run_chunks(void) {
    static struct chunk_work work;
    static const size_t rows[] = {1, 4, 8, 16, 24, 32, 48, 64, 100, 720, 1024, 8192};
    imv_buffer_init(&work.out, 16 << 20);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        work.rows = rows[r];
        for (size_t i = 0; i < work.rows; i++) work.timestamps[i] = 1700000000000000000 + (int64_t)i * 10000000000;
        work.id = (struct imv_chunk_id){1, 2, work.timestamps[0]};
        for (uint32_t k = 0; k < COLUMNS; k++) {
            double value = imv_prng_unit(&prng) * 100;
            for (size_t i = 0; i < work.rows; i++)
                work.cells[k][i] = (uint64_t)(value = fmin(fmax(value + normal(), 0), 100));
            work.columns[k] = (struct imv_chunk_column){k, {IMV_INTEGER, work.cells[k], NULL}};
        }
        double values = (double)work.rows * COLUMNS, encoding = rate(encode_chunk, &work, values);
        printf("chunk  %4zu rows %6zu bytes %.4f bytes/value  encode %5.0f M/s  decode %5.0f M/s  aggregate %5.0f M/s  "
               "statistics %6.0f M/s\n",
               work.rows, work.out.size, (double)work.out.size / values, encoding, rate(decode_chunk, &work, values),
               rate(aggregate_chunk, &work, values), rate(summarize_chunk, &work, values));
    }
    imv_buffer_release(&work.out);
}

/* ---- data sets ---- */

enum { SHAPE_COLUMNS_MAX = 12, KEY_BYTES = 30, TABLE_ENTRY_BYTES = 4 };

struct machine {
    double bearing, motor, base, vibration, power, set_point, latitude, longitude, heading;
    int64_t cycles, energy, status;
    bool is_running, moves;
};

struct series {
    double usage[10];
    struct machine machine;
};

static double decimal_of(double value, double power) { return round(value * power) / power; }

static void begin_usage(struct series *series) {
    for (int k = 0; k < 10; k++) series->usage[k] = 100 * imv_prng_unit(&prng);
}
static void step_usage(struct series *series) {
    for (int k = 0; k < 10; k++) series->usage[k] = fmin(100, fmax(0, series->usage[k] + normal()));
}
static void next_integers(struct series *series, uint64_t *cells) {
    step_usage(series);
    for (int k = 0; k < 10; k++) cells[k] = (uint64_t)series->usage[k];
}
static void next_floats(struct series *series, uint64_t *cells) {
    step_usage(series);
    for (int k = 0; k < 10; k++) cells[k] = imv_float_cell(decimal_of(series->usage[k], 100));
}
static void begin_machine(struct series *series) {
    struct machine *m = &series->machine;
    *m = (struct machine){.base = 25 + 10 * imv_prng_unit(&prng),
                          .vibration = 0.8 + 3 * imv_prng_unit(&prng),
                          .power = 5 + 60 * imv_prng_unit(&prng),
                          .set_point = 40 + (double)imv_prng_below(&prng, 400) / 10,
                          .latitude = 47 + imv_prng_unit(&prng),
                          .longitude = 8 + imv_prng_unit(&prng),
                          .heading = 6.28 * imv_prng_unit(&prng),
                          .cycles = (int64_t)imv_prng_below(&prng, 1000000),
                          .energy = (int64_t)imv_prng_below(&prng, 100000000),
                          .status = (int64_t)imv_prng_below(&prng, 8),
                          .is_running = imv_prng_below(&prng, 4) > 0,
                          .moves = imv_prng_below(&prng, 4) == 0};
    m->bearing = m->motor = m->base;
}
/* Slow temperatures, vibration with all its digits, counters, states that hardly change, positions that jitter. */
static void next_machine(struct series *series, uint64_t *cells) {
    struct machine *m = &series->machine;
    if (imv_prng_below(&prng, 500) == 0) m->is_running = !m->is_running;
    if (imv_prng_below(&prng, 300) == 0) m->status = (int64_t)imv_prng_below(&prng, 8);
    if (imv_prng_below(&prng, 2000) == 0) m->set_point = 40 + (double)imv_prng_below(&prng, 400) / 10;
    double hot = m->base + (m->is_running ? 25 : 0);
    m->bearing += (hot - m->bearing) * 0.002 + normal() * 0.03;
    m->motor += (hot + 8 - m->motor) * 0.004 + normal() * 0.05;
    double rms = m->is_running ? m->vibration * (1 + 0.1 * normal()) : 0.05 + 0.005 * fabs(normal());
    double power = m->is_running ? m->power * (1 + 0.03 * normal()) : 0.3;
    m->cycles += m->is_running ? (int64_t)imv_prng_below(&prng, 3) : 0;
    m->energy += llround(power * 10 / 3.6);
    double latitude = m->latitude, longitude = m->longitude;
    if (m->moves && m->is_running) {
        m->heading += 0.1 * normal();
        m->latitude = latitude += 7.2e-4 * cos(m->heading);
        m->longitude = longitude += 1.08e-3 * sin(m->heading);
    } else {
        latitude += 1e-6 * normal();
        longitude += 1e-6 * normal();
    }
    const double floats[] = {decimal_of(m->bearing, 10),         decimal_of(m->motor, 100), rms,
                             rms * (1.4 + 0.2 * fabs(normal())), decimal_of(power, 100),    m->set_point};
    for (int k = 0; k < 6; k++) cells[k] = imv_float_cell(floats[k]);
    cells[6] = (uint64_t)m->cycles;
    cells[7] = (uint64_t)m->energy;
    cells[8] = m->is_running;
    cells[9] = (uint64_t)m->status;
    cells[10] = imv_float_cell(decimal_of(latitude, 1e6));
    cells[11] = imv_float_cell(decimal_of(longitude, 1e6));
}

static const imv_type integer_types[] = {IMV_INTEGER, IMV_INTEGER, IMV_INTEGER, IMV_INTEGER, IMV_INTEGER,
                                         IMV_INTEGER, IMV_INTEGER, IMV_INTEGER, IMV_INTEGER, IMV_INTEGER};
static const imv_type float_types[] = {IMV_FLOAT, IMV_FLOAT, IMV_FLOAT, IMV_FLOAT, IMV_FLOAT,
                                       IMV_FLOAT, IMV_FLOAT, IMV_FLOAT, IMV_FLOAT, IMV_FLOAT};
static const imv_type machine_types[] = {IMV_FLOAT,   IMV_FLOAT,   IMV_FLOAT,   IMV_FLOAT,   IMV_FLOAT, IMV_FLOAT,
                                         IMV_INTEGER, IMV_INTEGER, IMV_BOOLEAN, IMV_INTEGER, IMV_FLOAT, IMV_FLOAT};

/* The sets of data that peers are compared on: series of so many rows, cut where flushing cuts them. */
static const struct shape {
    const char *name;
    size_t series, columns;
    const imv_type *types;
    void (*begin)(struct series *series);
    void (*next)(struct series *series, uint64_t *cells);
    size_t cuts[4];
} shapes[] = {
    {"medium", 50, 10, integer_types, begin_usage, next_integers, {720}},
    {"long", 10, 10, integer_types, begin_usage, next_integers, {8192, 448, 8192, 448}},
    {"highcard", 1000, 10, integer_types, begin_usage, next_integers, {10}},
    {"machines", 300, 12, machine_types, begin_machine, next_machine, {1800}},
    {"floats", 50, 10, float_types, begin_usage, next_floats, {1440}},
};

struct shape_work {
    struct chunk_work chunk;
    uint64_t more_cells[SHAPE_COLUMNS_MAX - COLUMNS][IMV_CHUNK_ROWS_MAX];
    struct imv_chunk_column columns[SHAPE_COLUMNS_MAX];
};

static uint64_t *cells_of(struct shape_work *work, size_t column) {
    return column < COLUMNS ? work->chunk.cells[column] : work->more_cells[column - COLUMNS];
}

static void fill_rows(struct shape_work *work, const struct shape *shape, struct series *series, size_t rows) {
    for (size_t row = 0; row < rows; row++) {
        uint64_t cells[SHAPE_COLUMNS_MAX];
        shape->next(series, cells);
        for (size_t k = 0; k < shape->columns; k++) cells_of(work, k)[row] = cells[k];
    }
}

/* Bytes of one column alone, as encodings, and the codec of its last vector. */
static size_t column_bytes(imv_type type, const uint64_t *cells, size_t rows, const char **codec) {
    struct imv_codec_decimal decimal = {0};
    size_t bytes = 0;
    for (size_t first = 0; first < rows; first += VECTOR) {
        size_t count = rows - first < VECTOR ? rows - first : VECTOR;
        struct imv_codec_input input = {type, cells + first, count, 0, &decimal};
        struct imv_codec_plan plan;
        imv_codec_choose(&input, &plan);
        bytes += plan.bytes;
        *codec = imv_codec_name(plan.codec);
    }
    return bytes;
}

/* Of this thread alone: every chunk is encoded once, so there is no best run to take on a busy machine. */
static int64_t thread_time_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void run_shape(const struct shape *shape) {
    static struct shape_work work;
    const char *codecs[SHAPE_COLUMNS_MAX] = {0};
    size_t bytes = 0, rows = 0, of_columns[SHAPE_COLUMNS_MAX] = {0};
    int64_t time_ns = 0;
    imv_buffer_init(&work.chunk.out, 16 << 20);
    for (size_t s = 0; s < shape->series; s++) {
        struct series series;
        shape->begin(&series);
        int64_t timestamp = INT64_C(1451606400000000000);
        for (size_t c = 0; c < 4 && shape->cuts[c] > 0; c++) {
            size_t count = shape->cuts[c];
            fill_rows(&work, shape, &series, count);
            for (size_t row = 0; row < count; row++, timestamp += INT64_C(10000000000))
                work.chunk.timestamps[row] = timestamp;
            for (uint32_t k = 0; k < shape->columns; k++) {
                work.columns[k] = (struct imv_chunk_column){k, {shape->types[k], cells_of(&work, k), NULL}};
                of_columns[k] += column_bytes(shape->types[k], cells_of(&work, k), count, &codecs[k]);
            }
            struct imv_chunk_id id = {1, s, work.chunk.timestamps[0]};
            imv_buffer_reset(&work.chunk.out);
            int64_t start = thread_time_ns();
            if (imv_chunk_encode(&id, work.chunk.timestamps, count, work.columns, shape->columns, &work.chunk.out,
                                 NULL) != IMV_OK)
                abort();
            time_ns += thread_time_ns() - start;
            bytes += work.chunk.out.size + KEY_BYTES + TABLE_ENTRY_BYTES;
            rows += count;
        }
    }
    double values = (double)(rows * shape->columns);
    printf("shape  %-9s %.4f bytes/value with keys  encode %5.0f M/s\n", shape->name, (double)bytes / values,
           values * 1e3 / (double)time_ns);
    for (size_t k = 0; k < shape->columns && shape->next == next_machine; k++)
        printf("shape  %-9s column %-2zu %-9s %.3f bytes/value\n", shape->name, k, codecs[k],
               (double)of_columns[k] / (double)rows);
    imv_buffer_release(&work.chunk.out);
}

int main(void) {
    imv_prng_init(&prng, 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) run_shape(&shapes[i]);
    run_kernels();
    run_vectors();
    run_chunks();
    return 0;
}
