#include "bench/load/arrow.h"

#include "storage/base/arrow.h"
#include "storage/base/hash.h"

#include <stdlib.h>

enum { STREAM_BYTES_MAX = 1 << 30 };

/* The distinct values of one tag, in order of appearance. */
struct values {
    const char **texts;
    uint32_t *slots; /* 1 + place; 0: empty */
    uint32_t count, mask;
};

static bool values_init(struct values *values, uint32_t rows) {
    uint32_t slots = 16;
    while (slots < 2 * rows) slots *= 2;
    *values = (struct values){.mask = slots - 1};
    values->texts = malloc((rows + 1) * sizeof(char *));
    values->slots = calloc(slots, sizeof *values->slots);
    return values->texts != NULL && values->slots != NULL;
}

static void values_release(struct values *values) {
    free(values->texts);
    free(values->slots);
}

static uint32_t place_of(struct values *values, const char *text) {
    for (uint32_t i = (uint32_t)imv_hash64(text, strlen(text), 0) & values->mask;; i = (i + 1) & values->mask) {
        uint32_t *slot = &values->slots[i];
        if (*slot != 0 && strcmp(values->texts[*slot - 1], text) != 0) continue;
        if (*slot == 0) {
            values->texts[values->count] = text;
            *slot = ++values->count;
        }
        return *slot - 1;
    }
}

static void put_dictionary(struct imv_buffer *out, struct imv_arrow_body *body, uint32_t id,
                           const struct values *values) {
    imv_arrow_body_reset(body);
    imv_arrow_body_node(body, values->count, 0);
    imv_arrow_body_buffer(body, 0);
    int32_t *offsets = imv_arrow_body_buffer(body, (values->count + 1) * sizeof *offsets), total = 0;
    for (uint32_t i = 0; offsets != NULL && i <= values->count; i++) {
        offsets[i] = total;
        if (i < values->count) total += (int32_t)strlen(values->texts[i]);
    }
    char *at = imv_arrow_body_buffer(body, (size_t)total);
    for (uint32_t i = 0; at != NULL && i < values->count; i++) {
        size_t size = strlen(values->texts[i]);
        memcpy(at, values->texts[i], size);
        at += size;
    }
    imv_arrow_put_dictionary(out, id, false, values->count, body);
}

static void put_schema(struct imv_buffer *out, const struct bench_shape *shape) {
    struct imv_arrow_column columns[1 + BENCH_TAGS_MAX + BENCH_FIELDS_MAX] = {
        {.name = IMV_STR("time"), .type = imv_arrow_simple(IMV_ARROW_TIME), .time_zone = "UTC"}};
    uint32_t count = 1;
    for (uint32_t i = 0; i < shape->tags_count; i++) {
        columns[count++] = (struct imv_arrow_column){.name = imv_str_from(shape->tags[i]),
                                                     .type = imv_arrow_simple(IMV_ARROW_TEXT),
                                                     .dictionary = true,
                                                     .dictionary_id = i};
    }
    for (uint32_t i = 0; i < shape->fields_count; i++) {
        bool integer = shape->kinds[i] == BENCH_INTEGER;
        columns[count++] = (struct imv_arrow_column){.name = imv_str_from(shape->fields[i]),
                                                     .type = integer ? imv_arrow_int(64, true) : imv_arrow_float(64)};
    }
    imv_arrow_put_schema(out, columns, count, "imvdb.label", shape->label);
}

/* Where a column of words goes; NULL when the body is full. */
static void *put_column(struct imv_arrow_body *body, uint32_t rows, size_t word) {
    imv_arrow_body_node(body, rows, 0);
    imv_arrow_body_buffer(body, 0);
    return imv_arrow_body_buffer(body, rows * word);
}

static bool put_rows(struct imv_buffer *out, struct imv_arrow_body *body, const struct bench_shape *shape,
                     const struct bench_row *rows, uint32_t count) {
    struct values values[BENCH_TAGS_MAX] = {0};
    bool good = true;
    for (uint32_t tag = 0; tag < shape->tags_count && good; tag++) {
        good = values_init(&values[tag], count);
        for (uint32_t i = 0; good && i < count; i++)
            place_of(&values[tag], bench_shape_tag(shape, rows[i].series, tag));
        if (good) put_dictionary(out, body, tag, &values[tag]);
    }
    imv_arrow_body_reset(body);
    int64_t *times = put_column(body, count, sizeof *times);
    for (uint32_t i = 0; times != NULL && i < count; i++) times[i] = rows[i].timestamp_ns;
    for (uint32_t tag = 0; tag < shape->tags_count && good; tag++) {
        uint32_t *indices = put_column(body, count, sizeof *indices);
        for (uint32_t i = 0; indices != NULL && i < count; i++)
            indices[i] = place_of(&values[tag], bench_shape_tag(shape, rows[i].series, tag));
    }
    for (uint32_t field = 0; field < shape->fields_count; field++) {
        int64_t *cells = put_column(body, count, sizeof *cells); /* a double has the same place and size */
        for (uint32_t i = 0; cells != NULL && i < count; i++) cells[i] = rows[i].values[field].integer;
    }
    imv_arrow_put_records(out, count, body);
    for (uint32_t tag = 0; tag < shape->tags_count; tag++) values_release(&values[tag]);
    return good;
}

bool bench_arrow_stream(struct bench_shape *shape, uint32_t rows, char **bytes, size_t *size) {
    struct bench_row *made = malloc((rows == 0 ? 1 : rows) * sizeof *made);
    uint32_t count = 0;
    while (made != NULL && count < rows && bench_shape_next(shape, &made[count])) count++;
    struct imv_buffer out;
    struct imv_arrow_body body;
    imv_buffer_init(&out, STREAM_BYTES_MAX);
    imv_arrow_body_init(&body, STREAM_BYTES_MAX);
    put_schema(&out, shape);
    bool good = made != NULL && put_rows(&out, &body, shape, made, count);
    imv_arrow_put_end(&out);
    good = good && !out.failed;
    imv_arrow_body_release(&body);
    free(made);
    if (!good) imv_buffer_release(&out);
    *bytes = out.data;
    *size = out.size;
    return good;
}
