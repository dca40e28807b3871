/* shape.h - the rows that a load consists of, made before the clock starts.
 *
 * A shape is a label, its tags and its fields, and a walk over time: at each step every series gets one row. Values are
 * random walks, so that they compress as measurements do; the same options make the same rows.
 *
 *     cpu     ten tags, ten integers that walk between 0 and 100, after the DevOps data of the Time Series Benchmark Suite
 *             (github.com/timescale/tsbs, pkg/data/usecases/devops)
 *     floats  the same with two decimals
 *     noise   the same with every bit of the doubles random: what no codec makes smaller
 *     scada   one tag, a value with two decimals and an OPC UA quality: one measuring point a row
 *
 * Late rows: a share of the rows is dated back by up to a day, as gateways do that were cut off.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_FIELDS_MAX = 10, BENCH_TAGS_MAX = 10, BENCH_TAG_BYTES_MAX = 32 };

enum bench_field_kind { BENCH_INTEGER, BENCH_DECIMAL, BENCH_NOISE };

struct bench_shape_options {
    const char *name; /* of the list above */
    uint32_t series, steps;
    uint32_t first_series; /* they are numbered from here */
    int64_t start_ns, interval_ns;
    double late; /* share of rows, 0..1 */
    uint64_t seed;
};

struct bench_row {
    uint32_t series; /* from 0 */
    int64_t timestamp_ns;
    union {
        int64_t integer;
        double number;
    } values[BENCH_FIELDS_MAX];
};

struct bench_shape {
    struct bench_shape_options options;
    const char *label;
    uint32_t tags_count, fields_count;
    const char *tags[BENCH_TAGS_MAX], *fields[BENCH_FIELDS_MAX];
    enum bench_field_kind kinds[BENCH_FIELDS_MAX];
    /* private */
    char (*tag_values)[BENCH_TAGS_MAX][BENCH_TAG_BYTES_MAX];
    double (*walk)[BENCH_FIELDS_MAX];
    uint64_t random;
    uint64_t next_row;
};

/* False: there is no such shape, or no memory. */
bool bench_shape_init(struct bench_shape *shape, const struct bench_shape_options *options);
void bench_shape_release(struct bench_shape *shape);

static inline uint64_t bench_shape_rows(const struct bench_shape *shape) {
    return (uint64_t)shape->options.series * shape->options.steps;
}
static inline const char *bench_shape_tag(const struct bench_shape *shape, uint32_t series, uint32_t tag) {
    return shape->tag_values[series][tag];
}

/* The next row in order of time, then series. False at the end. */
bool bench_shape_next(struct bench_shape *shape, struct bench_row *row);

enum { BENCH_LINE_BYTES_MAX = 1024 };
/* Writes the row as a line of line protocol with its newline, at most BENCH_LINE_BYTES_MAX; returns the end. */
char *bench_shape_line(const struct bench_shape *shape, const struct bench_row *row, char *to);
