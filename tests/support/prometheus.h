/* prometheus.h - writes the bytes of a Prometheus WriteRequest, for tests of who reads them.
 *
 * A message is built in a buffer of its own and put into its parent as a field of bytes. Strings are NUL-terminated.
 */
#pragma once

#include "storage/base/assert.h"
#include "storage/base/buffer.h"

static inline void prometheus_varint(struct imv_buffer *out, uint64_t value) {
    uint8_t bytes[IMV_VARINT_BYTES_MAX];
    imv_buffer_append(out, bytes, (size_t)(imv_put_varint(bytes, value) - bytes));
}

static inline void prometheus_bytes(struct imv_buffer *out, uint32_t number, struct imv_str bytes) {
    prometheus_varint(out, (uint64_t)number << 3 | 2);
    prometheus_varint(out, bytes.size);
    imv_buffer_append_str(out, bytes);
}

/* Puts the message into its parent and empties it. */
static inline void prometheus_message(struct imv_buffer *out, uint32_t number, struct imv_buffer *message) {
    imv_assert(!message->failed);
    prometheus_bytes(out, number, message->size == 0 ? IMV_STR("") : imv_buffer_view(message));
    imv_buffer_reset(message);
}

static inline void prometheus_label(struct imv_buffer *series, const char *name, const char *value) {
    struct imv_buffer label;
    imv_buffer_init(&label, 1 << 20);
    if (name[0] != 0) prometheus_bytes(&label, 1, imv_str_from(name));
    if (value[0] != 0) prometheus_bytes(&label, 2, imv_str_from(value));
    prometheus_message(series, 1, &label);
    imv_buffer_release(&label);
}

/* As senders do: a value of zero is left out. */
static inline void prometheus_sample_bits(struct imv_buffer *series, uint64_t bits, int64_t timestamp_ms) {
    struct imv_buffer sample;
    imv_buffer_init(&sample, 64);
    if (bits != 0) {
        prometheus_varint(&sample, 1 << 3 | 1);
        imv_buffer_append(&sample, &bits, sizeof bits);
    }
    prometheus_varint(&sample, 2 << 3);
    prometheus_varint(&sample, (uint64_t)timestamp_ms);
    prometheus_message(series, 2, &sample);
    imv_buffer_release(&sample);
}

static inline void prometheus_sample(struct imv_buffer *series, double value, int64_t timestamp_ms) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    prometheus_sample_bits(series, bits, timestamp_ms);
}

/* A whole series of one sample: name and, when key is not NULL, one more label. */
static inline void prometheus_series(struct imv_buffer *request, const char *name, const char *key, const char *value,
                                     double sample, int64_t timestamp_ms) {
    struct imv_buffer series;
    imv_buffer_init(&series, 4 << 20);
    prometheus_label(&series, "__name__", name);
    if (key != NULL) prometheus_label(&series, key, value);
    prometheus_sample(&series, sample, timestamp_ms);
    prometheus_message(request, 1, &series);
    imv_buffer_release(&series);
}
