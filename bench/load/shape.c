#include "bench/load/shape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const cpu_tags[] = {
    "hostname", "region",          "datacenter",         "rack", "os", "arch", "team",
    "service",  "service_version", "service_environment"};
static const char *const cpu_fields[] = {"usage_user",   "usage_system",    "usage_idle",    "usage_nice",
                                         "usage_iowait", "usage_irq",       "usage_softirq", "usage_steal",
                                         "usage_guest",  "usage_guest_nice"};
static const int64_t day_s = 86400;

/* ---- random numbers: splitmix64 (Steele, Lea, Flood 2014) ---- */

static uint64_t next_random(struct bench_shape *shape) {
    uint64_t z = shape->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint32_t pick(struct bench_shape *shape, uint32_t count) {
    return (uint32_t)((next_random(shape) >> 32) * count >> 32);
}

static double uniform(struct bench_shape *shape) { return (double)(next_random(shape) >> 11) * 0x1p-53; }

/* Of unit variance: the sum of four uniforms. */
static double normal(struct bench_shape *shape) {
    uint64_t r = next_random(shape);
    double sum = (double)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    return (sum / 65536.0 - 2.0) * 1.7320508075688772;
}

/* ---- shapes ---- */

static void fill_cpu(struct bench_shape *shape, uint32_t series) {
    static const char *const regions[] = {"us-east-1",      "us-west-1",      "us-west-2",
                                          "eu-west-1",      "eu-central-1",   "ap-southeast-1",
                                          "ap-southeast-2", "ap-northeast-1", "sa-east-1"};
    static const char *const systems[] = {"Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"};
    static const char *const teams[] = {"SF", "NYC", "LON", "CHI"};
    static const char *const environments[] = {"production", "staging", "test"};
    char(*tags)[BENCH_TAG_BYTES_MAX] = shape->tag_values[series];
    const char *region = regions[pick(shape, 9)];
    snprintf(tags[0], sizeof tags[0], "host_%" PRIu32, shape->options.first_series + series);
    snprintf(tags[1], sizeof tags[1], "%s", region);
    snprintf(tags[2], sizeof tags[2], "%s%c", region, "abc"[pick(shape, 3)]);
    snprintf(tags[3], sizeof tags[3], "%" PRIu32, pick(shape, 100));
    snprintf(tags[4], sizeof tags[4], "%s", systems[pick(shape, 3)]);
    snprintf(tags[5], sizeof tags[5], "%s", pick(shape, 2) ? "x64" : "x86");
    snprintf(tags[6], sizeof tags[6], "%s", teams[pick(shape, 4)]);
    snprintf(tags[7], sizeof tags[7], "%" PRIu32, pick(shape, 20));
    snprintf(tags[8], sizeof tags[8], "%" PRIu32, pick(shape, 2));
    snprintf(tags[9], sizeof tags[9], "%s", environments[pick(shape, 3)]);
}

static bool choose(struct bench_shape *shape, const char *name) {
    if (strcmp(name, "scada") == 0) {
        shape->label = "tag";
        shape->tags_count = 1;
        shape->tags[0] = "id";
        shape->fields_count = 2;
        shape->fields[0] = "value";
        shape->fields[1] = "quality";
        shape->kinds[0] = BENCH_DECIMAL;
        shape->kinds[1] = BENCH_INTEGER;
        return true;
    }
    enum bench_field_kind kind = BENCH_INTEGER;
    if (strcmp(name, "floats") == 0)
        kind = BENCH_DECIMAL;
    else if (strcmp(name, "noise") == 0)
        kind = BENCH_NOISE;
    else if (strcmp(name, "cpu") != 0)
        return false;
    shape->label = "cpu";
    shape->tags_count = shape->fields_count = 10;
    for (int i = 0; i < 10; i++) {
        shape->tags[i] = cpu_tags[i];
        shape->fields[i] = cpu_fields[i];
        shape->kinds[i] = kind;
    }
    return true;
}

bool bench_shape_init(struct bench_shape *shape, const struct bench_shape_options *options) {
    *shape = (struct bench_shape){.options = *options, .random = options->seed};
    if (!choose(shape, options->name)) return false;
    shape->tag_values = calloc(options->series, sizeof *shape->tag_values);
    shape->walk = calloc(options->series, sizeof *shape->walk);
    if (shape->tag_values == NULL || shape->walk == NULL) {
        bench_shape_release(shape);
        return false;
    }
    for (uint32_t series = 0; series < options->series; series++) {
        if (shape->tags_count == 10)
            fill_cpu(shape, series);
        else
            snprintf(shape->tag_values[series][0], BENCH_TAG_BYTES_MAX, "t%06" PRIu32, options->first_series + series);
        for (int i = 0; i < BENCH_FIELDS_MAX; i++) shape->walk[series][i] = 100 * uniform(shape);
    }
    return true;
}

void bench_shape_release(struct bench_shape *shape) {
    free(shape->tag_values);
    free(shape->walk);
}

/* ---- rows ---- */

static double noise(struct bench_shape *shape) {
    uint64_t bits = (next_random(shape) & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void fill_values(struct bench_shape *shape, struct bench_row *row) {
    enum { GOOD = 192, UNCERTAIN = 64 }; /* OPC quality bytes */
    for (uint32_t i = 0; i < shape->fields_count; i++) {
        double *at = &shape->walk[row->series][i];
        if (shape->kinds[i] == BENCH_NOISE) {
            row->values[i].number = noise(shape);
            continue;
        }
        if (shape->tags_count == 1 && i == 1) {
            row->values[i].integer = pick(shape, 1000) == 0 ? UNCERTAIN : GOOD;
            continue;
        }
        *at = fmin(100, fmax(0, *at + normal(shape)));
        if (shape->kinds[i] == BENCH_INTEGER)
            row->values[i].integer = (int64_t)*at;
        else
            row->values[i].number = *at;
    }
}

bool bench_shape_next(struct bench_shape *shape, struct bench_row *row) {
    if (shape->next_row == bench_shape_rows(shape)) return false;
    row->series = (uint32_t)(shape->next_row % shape->options.series);
    row->timestamp_ns =
        shape->options.start_ns + (int64_t)(shape->next_row / shape->options.series) * shape->options.interval_ns;
    shape->next_row++;
    fill_values(shape, row);
    if (shape->options.late > 0 && uniform(shape) < shape->options.late)
        row->timestamp_ns -=
            (int64_t)(uniform(shape) * (double)day_s) * 1000000000 + pick(shape, 1000) * INT64_C(1000000);
    return true;
}

/* ---- lines ---- */

static char *put_text(char *to, const char *text) {
    size_t size = strlen(text);
    memcpy(to, text, size);
    return to + size;
}

static char *put_digits(char *to, uint64_t number, int digits_min) {
    char digits[24];
    int count = 0;
    for (; number > 0 || count < digits_min; number /= 10) digits[count++] = (char)('0' + number % 10);
    while (count > 0) *to++ = digits[--count];
    return to;
}

static char *put_value(char *to, enum bench_field_kind kind, const struct bench_row *row, uint32_t field) {
    if (kind == BENCH_INTEGER) {
        to = put_digits(to, (uint64_t)row->values[field].integer, 1);
        *to++ = 'i';
        return to;
    }
    if (kind == BENCH_NOISE) return to + sprintf(to, "%.17g", row->values[field].number);
    uint64_t hundredths = (uint64_t)llround(row->values[field].number * 100);
    to = put_digits(to, hundredths / 100, 1);
    *to++ = '.';
    return put_digits(to, hundredths % 100, 2);
}

char *bench_shape_line(const struct bench_shape *shape, const struct bench_row *row, char *to) {
    to = put_text(to, shape->label);
    for (uint32_t i = 0; i < shape->tags_count; i++) {
        *to++ = ',';
        to = put_text(to, shape->tags[i]);
        *to++ = '=';
        to = put_text(to, bench_shape_tag(shape, row->series, i));
    }
    for (uint32_t i = 0; i < shape->fields_count; i++) {
        *to++ = i == 0 ? ' ' : ',';
        to = put_text(to, shape->fields[i]);
        *to++ = '=';
        to = put_value(to, shape->kinds[i], row, i);
    }
    *to++ = ' ';
    to = put_digits(to, (uint64_t)row->timestamp_ns, 1);
    *to++ = '\n';
    return to;
}
