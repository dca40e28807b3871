#include "engine/series_code.h"

size_t imv_series_code_bound(const struct imv_series *series) {
    size_t bytes = IMV_VARINT_BYTES_MAX;
    for (uint32_t i = 0; i < series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(series, i);
        bytes += 2 * IMV_VARINT_BYTES_MAX + tag.key.size + tag.value.size;
    }
    return bytes;
}

static uint8_t *put_text(uint8_t *to, struct imv_str text) {
    to = imv_put_varint(to, text.size);
    memcpy(to, text.data, text.size);
    return to + text.size;
}

uint8_t *imv_series_code_put(const struct imv_series *series, uint8_t *to) {
    to = imv_put_varint(to, series->tags_count);
    for (uint32_t i = 0; i < series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(series, i);
        to = put_text(put_text(to, tag.key), tag.value);
    }
    return to;
}

static const uint8_t *get_text(const uint8_t *from, const uint8_t *end, struct imv_str *text) {
    uint64_t size;
    from = imv_get_varint(from, end, &size);
    if (from == NULL || size > (size_t)(end - from)) return NULL;
    *text = (struct imv_str){(const char *)from, (size_t)size};
    return from + size;
}

const uint8_t *imv_series_code_get(const uint8_t *from, const uint8_t *end, struct imv_tag *tags, size_t *tags_count) {
    uint64_t count;
    from = imv_get_varint(from, end, &count);
    if (from == NULL || count > IMV_TAGS_MAX) return NULL;
    for (uint64_t i = 0; i < count; i++) {
        from = get_text(from, end, &tags[i].key);
        if (from != NULL) from = get_text(from, end, &tags[i].value);
        if (from == NULL) return NULL;
    }
    *tags_count = (size_t)count;
    return from;
}
