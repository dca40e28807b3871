#include "engine/chunk_reader.h"

static struct imv_str view(const uint8_t key[IMV_CHUNK_KEY_BYTES]) {
    return (struct imv_str){(const char *)key, IMV_CHUNK_KEY_BYTES};
}

static void set_gap(struct imv_chunk_reader *reader, struct imv_str key) {
    reader->gap_known = key.size == IMV_CHUNK_KEY_BYTES;
    if (reader->gap_known) memcpy(reader->gap, key.data, IMV_CHUNK_KEY_BYTES);
}

/* The gap begins after key: at its successor among keys of this length. */
static void set_gap_after(struct imv_chunk_reader *reader, struct imv_str key) {
    set_gap(reader, key);
    int i = IMV_CHUNK_KEY_BYTES - 1;
    while (i >= 0 && ++reader->gap[i] == 0) i--;
    if (i < 0) reader->gap_known = false;
}

/* Whether the current key is the first one >= key. The end counts as a key after all others. */
static bool stands_at(const struct imv_chunk_reader *reader, struct imv_str key) {
    if (!reader->gap_known || imv_str_compare(view(reader->gap), key) > 0) return false;
    struct imv_str current, value;
    return !imv_kv_valid(reader->iterator, &current, &value) || imv_str_compare(current, key) >= 0;
}

void imv_chunk_reader_next(struct imv_chunk_reader *reader) {
    struct imv_str current, value;
    reader->gap_known = false;
    if (imv_kv_valid(reader->iterator, &current, &value)) set_gap_after(reader, current);
    imv_kv_next(reader->iterator);
}

bool imv_chunk_reader_step(struct imv_chunk_reader *reader, const uint8_t key[IMV_CHUNK_KEY_BYTES]) {
    struct imv_str target = view(key), current, value;
    reader->owner = NULL;
    if (stands_at(reader, target)) return imv_kv_status(reader->iterator, NULL) == IMV_OK;
    if (!imv_kv_valid(reader->iterator, &current, &value) || imv_str_compare(current, target) >= 0) return false;
    imv_chunk_reader_next(reader);
    return stands_at(reader, target) && imv_kv_status(reader->iterator, NULL) == IMV_OK;
}

void imv_chunk_reader_seek(struct imv_chunk_reader *reader, const uint8_t key[IMV_CHUNK_KEY_BYTES]) {
    if (imv_chunk_reader_step(reader, key)) return;
    imv_kv_seek(reader->iterator, view(key));
    set_gap(reader, view(key));
}

void imv_chunk_reader_seek_back(struct imv_chunk_reader *reader, const uint8_t key[IMV_CHUNK_KEY_BYTES]) {
    reader->owner = NULL;
    reader->gap_known = false;
    imv_kv_seek_for_previous(reader->iterator, view(key));
}

void imv_chunk_reader_previous(struct imv_chunk_reader *reader) {
    reader->owner = NULL;
    reader->gap_known = false;
    imv_kv_previous(reader->iterator);
}
