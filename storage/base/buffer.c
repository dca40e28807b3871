#include "storage/base/buffer.h"

#include "storage/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void imv_buffer_init(struct imv_buffer *buffer, size_t size_max) {
    *buffer = (struct imv_buffer){.size_max = size_max};
}

void imv_buffer_release(struct imv_buffer *buffer) {
    free(buffer->data);
    imv_buffer_init(buffer, buffer->size_max);
}

void imv_buffer_reset(struct imv_buffer *buffer) {
    buffer->size = 0;
    buffer->failed = false;
}

static bool grow(struct imv_buffer *buffer, size_t size) {
    if (buffer->failed || size > buffer->size_max || buffer->size > buffer->size_max - size) return false;
    size_t wanted = buffer->size + size;
    if (wanted <= buffer->capacity) return true;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity * 2;
    if (capacity < wanted) capacity = wanted;
    if (capacity > buffer->size_max) capacity = buffer->size_max;
    char *data = realloc(buffer->data, capacity);
    if (data == NULL) return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

char *imv_buffer_reserve(struct imv_buffer *buffer, size_t size) {
    if (!grow(buffer, size)) {
        buffer->failed = true;
        return NULL;
    }
    return buffer->data + buffer->size;
}

bool imv_buffer_append(struct imv_buffer *buffer, const void *bytes, size_t size) {
    if (size == 0) return !buffer->failed;
    char *to = imv_buffer_reserve(buffer, size);
    if (to == NULL) return false;
    memcpy(to, bytes, size);
    buffer->size += size;
    return true;
}

bool imv_buffer_append_str(struct imv_buffer *buffer, struct imv_str text) {
    return imv_buffer_append(buffer, text.data, text.size);
}

bool imv_buffer_append_char(struct imv_buffer *buffer, char byte) { return imv_buffer_append(buffer, &byte, 1); }

bool imv_buffer_append_format(struct imv_buffer *buffer, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *to = size < 0 ? NULL : imv_buffer_reserve(buffer, (size_t)size + 1);
    if (to != NULL) {
        vsnprintf(to, (size_t)size + 1, format, again);
        buffer->size += (size_t)size;
    }
    va_end(again);
    return to != NULL;
}

void imv_buffer_consume(struct imv_buffer *buffer, size_t size) {
    imv_assert(size <= buffer->size);
    buffer->size -= size;
    if (buffer->size > 0) memmove(buffer->data, buffer->data + size, buffer->size);
}
