/* buffer.h - a growing byte buffer that cannot be made without a maximum.
 *
 * An append that would pass the maximum, or that malloc refuses, fails and sets `failed`; later appends fail too, so a
 * writer may append many pieces and check once at the end. One thread at a time.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct imv_buffer {
    char *data; /* owned; NULL while empty */
    size_t size;
    size_t capacity;
    size_t size_max;
    bool failed; /* an append was refused: the content is not complete */
};

void imv_buffer_init(struct imv_buffer *buffer, size_t size_max);
void imv_buffer_release(struct imv_buffer *buffer);

/* Empties it and clears `failed`; keeps the memory. */
void imv_buffer_reset(struct imv_buffer *buffer);

/* Makes room for size more bytes and returns where they go; NULL (and failed) when refused. Does not change size. */
char *imv_buffer_reserve(struct imv_buffer *buffer, size_t size);

bool imv_buffer_append(struct imv_buffer *buffer, const void *bytes, size_t size);
bool imv_buffer_append_str(struct imv_buffer *buffer, struct imv_str text);
bool imv_buffer_append_char(struct imv_buffer *buffer, char byte);
bool imv_buffer_append_format(struct imv_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first size bytes, moving the rest to the front. */
void imv_buffer_consume(struct imv_buffer *buffer, size_t size);

static inline struct imv_str imv_buffer_view(const struct imv_buffer *buffer) {
    return (struct imv_str){buffer->data, buffer->size};
}
