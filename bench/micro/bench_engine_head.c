/* Appends rows of ten floats to a head, round robin over 4,000 series (in cache) and over 1,000,000 (never in cache),
 * and reads them back by column.
 *
 * Estimate: a row is 104 bytes; an append touches the series' line and two or three lines of the row, so about 20 ns in
 * cache and two misses (150 ns) out of it; a read of one column touches every row's line, of ten columns the same
 * lines.
 */
#include "engine/head.h"
#include "engine/rows.h"
#include "storage/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIELDS = 10 };

static struct imv_field fields[FIELDS];
static struct imv_field *pointers[FIELDS];
static struct imv_label label;
static struct imv_shape *shape;
static struct imv_row *row;

static void make_label(void) {
    shape = calloc(1, sizeof *shape + FIELDS * sizeof shape->fields[0]);
    row = calloc(1, sizeof *row + FIELDS * sizeof row->cells[0]);
    if (shape == NULL || row == NULL) abort();
    for (uint32_t i = 0; i < FIELDS; i++) {
        fields[i] = (struct imv_field){IMV_STR("field"), i, IMV_FLOAT};
        pointers[i] = &fields[i];
        shape->fields[i] = &fields[i];
    }
    label.fields = pointers;
    label.fields_count = FIELDS;
    shape->label = &label;
    shape->count = FIELDS;
    row->shape = shape;
}

static double now_ns(void) { return (double)imv_clock_monotonic_ns(imv_clock_system()); }

static struct imv_head *append_rows(struct imv_series *series, uint32_t series_count, uint32_t rounds,
                                    uint64_t generation) {
    struct imv_head *head;
    if (imv_head_new(0, generation, 0, NULL, &head, NULL) != IMV_OK) abort();
    double start = now_ns();
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < series_count; i++) {
            row->series = &series[i];
            row->timestamp = round;
            row->cells[0] = i + round;
            if (imv_head_append(head, row, round + 1, NULL) != IMV_OK) abort();
        }
    }
    double elapsed = now_ns() - start, rows = (double)series_count * rounds;
    printf("append  %8u series x %5u rows: %6.1f ns/row  %6.2f M rows/s  %6.1f bytes/row\n", series_count, rounds,
           elapsed / rows, rows / elapsed * 1e3, (double)imv_head_bytes(head) / rows);
    return head;
}

static void read_rows(const struct imv_head *head, struct imv_series *series, uint32_t series_count,
                      size_t columns_count) {
    static const uint32_t columns[FIELDS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct imv_rows rows;
    imv_rows_init(&rows, NULL);
    size_t count = 0;
    double start = now_ns();
    for (uint32_t i = 0; i < series_count; i++) {
        const struct imv_head_series *chain = imv_head_find(head, &series[i]);
        if (imv_head_read(chain, UINT64_MAX, NULL, INT64_MIN, INT64_MAX, columns, columns_count, &rows, NULL) != IMV_OK)
            abort();
        count += rows.count;
    }
    double elapsed = now_ns() - start;
    printf("read    %8u series, %2zu columns:   %6.1f ns/row  %6.2f M rows/s  %6.0f ns/series\n", series_count,
           columns_count, elapsed / (double)count, (double)count / elapsed * 1e3, elapsed / series_count);
    imv_rows_release(&rows);
}

static void newest_values(const struct imv_head *head, struct imv_series *series, uint32_t series_count) {
    static const uint32_t column = 3;
    double start = now_ns();
    for (uint32_t i = 0; i < series_count; i++) {
        int64_t timestamp;
        uint64_t cell;
        bool found = false;
        imv_head_newest(imv_head_find(head, &series[i]), UINT64_MAX, NULL, &column, 1, &timestamp, &cell, &found);
        if (!found) abort();
    }
    printf("newest  %8u series:               %6.0f ns/series\n", series_count, (now_ns() - start) / series_count);
}

static void measure(uint32_t series_count, uint32_t rounds) {
    struct imv_series *series = calloc(series_count, sizeof *series);
    if (series == NULL) abort();
    for (uint32_t i = 0; i < series_count; i++) series[i] = (struct imv_series){.label = &label, .index = i};
    for (uint64_t generation = 1; generation <= 3; generation++) {
        struct imv_head *head = append_rows(series, series_count, rounds, generation);
        if (generation == 3) {
            read_rows(head, series, series_count, 1);
            read_rows(head, series, series_count, FIELDS);
            newest_values(head, series, series_count);
        }
        imv_head_release(head);
    }
    free(series);
}

int main(void) {
    make_label();
    measure(40, 50000);
    measure(4000, 500);
    measure(1000000, 8);
    free(shape);
    free(row);
    return 0;
}
