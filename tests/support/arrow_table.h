/* arrow_table.h - a small table in memory, and its encoding as an Arrow IPC stream: what tests send.
 *
 * The encoder is written for plainness and for choice (batch sizes, dictionaries replaced or added to, widths), not
 * speed.
 */
#pragma once

#include "storage/base/arrow.h"

#include <stdbool.h>
#include <stdint.h>

enum { TEST_ARROW_ROWS_MAX = 4096 };

struct test_arrow_cell {
    bool null;
    int64_t integer; /* integers, bools, times in the unit of the type */
    double number;
    char text[24];
};

struct test_arrow_column {
    const char *name, *role; /* role NULL: none */
    struct imv_arrow_type type;
    bool dictionary;
    struct test_arrow_cell cells[TEST_ARROW_ROWS_MAX];
};

struct test_arrow_table {
    const char *label; /* of the schema; NULL: none */
    uint32_t columns_count, rows;
    struct test_arrow_column *columns;
};

enum test_arrow_dictionaries {
    TEST_ARROW_REPLACED, /* each batch brings its own */
    TEST_ARROW_ADDED,    /* each batch adds what is new */
};

/* Appends the whole stream, in batches of batch_rows. */
void test_arrow_encode(struct imv_buffer *out, const struct test_arrow_table *table, uint32_t batch_rows,
                       enum test_arrow_dictionaries dictionaries);
