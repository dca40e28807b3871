/* Texts to codes, and dictionaries. */
#include "ingest/arrow_internal.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"
#include "storage/base/utf8.h"

enum {
    TEXTS_FIRST = 16,
    /* Of a column, and of a dictionary: a tenth of a second is spent on so many when they come at once. */
    TEXTS_MAX = IMV_ARROW_DICTIONARY_MAX,
    TEXTS_BLOCK_BYTES = 4 * 1024,
};

bool imv_arrow_name_ok(struct imv_str text) {
    if (text.size == 0 || text.size > IMV_NAME_BYTES_MAX) return false;
    unsigned char high = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        if (byte < 0x20 || byte == 0x7f) return false;
        high |= byte;
    }
    return high < 0x80 || imv_utf8_valid(text);
}

/* ---- codes ---- */

struct imv_str imv_arrow_text(const struct arrow_column *column, uint32_t code) {
    imv_assert(code >= ARROW_CODE_FIRST && code - ARROW_CODE_FIRST < column->texts.count);
    return column->texts.texts[code - ARROW_CODE_FIRST];
}

/* The slot of the text, or the empty one where it belongs. */
static uint32_t *probe(const struct imv_arrow_feed *feed, const struct arrow_texts *texts, struct imv_str text) {
    for (uint32_t i = (uint32_t)imv_hash64(text.data, text.size, feed->seed) & texts->mask;;
         i = (i + 1) & texts->mask) {
        uint32_t code = texts->slots[i];
        if (code == 0 || imv_str_equal(texts->texts[code - ARROW_CODE_FIRST], text)) return &texts->slots[i];
    }
}

/* Doubles the room for texts. Slots are twice as many as texts, so that at most half of them are taken. */
static bool grow_texts(struct imv_arrow_feed *feed, struct arrow_texts *texts) {
    uint32_t capacity = texts->capacity == 0 ? TEXTS_FIRST : texts->capacity * 2;
    if (capacity > TEXTS_MAX) return false;
    if (texts->capacity == 0) imv_arena_init(&texts->arena, TEXTS_BLOCK_BYTES, &feed->budget);
    struct imv_str *grown =
        imv_arrow_resize(feed, texts->texts, texts->capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown == NULL) return false;
    texts->texts = grown;
    uint32_t *slots = imv_arrow_resize(feed, NULL, 0, 2 * capacity * sizeof *slots);
    if (slots == NULL) {
        imv_budget_give(&feed->budget, (capacity - texts->capacity) * sizeof *grown); /* as if it were small still */
        return false;
    }
    memset(slots, 0, 2 * capacity * sizeof *slots);
    imv_arrow_release(feed, texts->slots, 2 * texts->capacity * sizeof *slots);
    texts->slots = slots;
    texts->capacity = capacity;
    texts->mask = 2 * capacity - 1;
    for (uint32_t i = 0; i < texts->count; i++) *probe(feed, texts, texts->texts[i]) = ARROW_CODE_FIRST + i;
    return true;
}

bool imv_arrow_text_code(struct imv_arrow_feed *feed, struct arrow_column *column, struct imv_str text,
                         uint32_t *code) {
    struct arrow_texts *texts = &column->texts;
    if (texts->capacity == 0 && !grow_texts(feed, texts)) return false;
    uint32_t *slot = probe(feed, texts, text);
    *code = *slot;
    if (*slot != 0) return true;
    *code = ARROW_CODE_BAD;
    if (!imv_arrow_name_ok(text)) return true;
    if (texts->count == texts->capacity) {
        if (!grow_texts(feed, texts)) return false;
        slot = probe(feed, texts, text);
    }
    struct imv_str copy = imv_arena_copy(&texts->arena, text);
    if (copy.data == NULL) return false;
    texts->texts[texts->count] = copy;
    *slot = *code = ARROW_CODE_FIRST + texts->count++;
    return true;
}

static void release_texts(struct imv_arrow_feed *feed, struct arrow_texts *texts) {
    if (texts->capacity == 0) return;
    imv_arena_release(&texts->arena);
    imv_arrow_release(feed, texts->texts, texts->capacity * sizeof *texts->texts);
    imv_arrow_release(feed, texts->slots, 2 * texts->capacity * sizeof *texts->slots);
    *texts = (struct arrow_texts){0};
}

void imv_arrow_forget(struct imv_arrow_feed *feed) {
    for (uint32_t i = 0; i < feed->columns_count; i++) {
        struct arrow_column *column = &feed->columns[i];
        release_texts(feed, &column->texts);
        imv_arrow_release(feed, column->map, column->map_capacity * sizeof *column->map);
        column->map = NULL;
        column->map_count = column->map_capacity = 0;
    }
    if (feed->series != NULL)
        imv_arrow_release(feed, feed->series, (feed->series_mask + (size_t)1) * sizeof *feed->series);
    feed->series = NULL;
    feed->series_count = 0;
}

/* ---- dictionaries ---- */

static bool grow_dictionary(struct imv_arrow_feed *feed, struct arrow_dictionary *dictionary, uint64_t count) {
    if (count <= dictionary->capacity) return true;
    uint32_t capacity = dictionary->capacity * 2 < count ? (uint32_t)count : dictionary->capacity * 2;
    struct imv_str *values =
        imv_arrow_resize(feed, dictionary->values, dictionary->capacity * sizeof *values, capacity * sizeof *values);
    if (values == NULL) return false;
    dictionary->values = values;
    dictionary->capacity = capacity;
    return true;
}

static struct arrow_dictionary *find_dictionary(struct imv_arrow_feed *feed, int64_t id) {
    for (uint32_t i = 0; i < feed->dictionaries_count; i++) {
        if (feed->dictionaries[i].id == id) return &feed->dictionaries[i];
    }
    return NULL;
}

static imv_status add_entries(struct imv_arrow_feed *feed, struct arrow_dictionary *dictionary,
                              const struct arrow_column *entries, uint64_t rows, struct imv_error *err) {
    if (rows > TEXTS_MAX - dictionary->count)
        return imv_fail(err, IMV_INVALID, "arrow: dictionary %lld has more than %d entries", (long long)dictionary->id,
                        TEXTS_MAX);
    if (!grow_dictionary(feed, dictionary, dictionary->count + rows)) return imv_arrow_no_memory(err);
    for (uint64_t i = 0; i < rows; i++) {
        struct imv_str *value = &dictionary->values[dictionary->count];
        *value = (struct imv_str){0};
        if (entries->valid == NULL || (entries->valid[i / 8] >> (i % 8) & 1) != 0) {
            *value = imv_arena_copy(&dictionary->arena,
                                    imv_arrow_text_at(entries->values, dictionary->offset_bits, entries->bytes, i));
            if (value->data == NULL) return imv_arrow_no_memory(err);
        }
        dictionary->count++;
    }
    return IMV_OK;
}

imv_status imv_arrow_dictionary_read(struct imv_arrow_feed *feed, const struct imv_arrow_message *message,
                                     struct imv_str body, struct imv_error *err) {
    struct imv_arrow_batch batch;
    int64_t id;
    bool delta;
    IMV_TRY(imv_arrow_dictionary_open(message, body, &batch, &id, &delta, err));
    struct arrow_dictionary *dictionary = find_dictionary(feed, id);
    if (dictionary == NULL)
        return imv_fail(err, IMV_INVALID, "arrow: dictionary %lld belongs to no column", (long long)id);
    struct arrow_column entries = {.name = IMV_STR("dictionary"),
                                   .type = {.kind = IMV_ARROW_TEXT, .bits = dictionary->offset_bits, .name = "text"}};
    IMV_TRY(imv_arrow_column_open(&entries, &batch, err));
    if (!delta) {
        imv_arena_reset(&dictionary->arena);
        dictionary->count = 0;
        dictionary->generation++;
    }
    return add_entries(feed, dictionary, &entries, (uint64_t)batch.rows, err);
}

/* What a column makes of an entry: the code of a tag's text, or whether a field may store it. */
static bool map_entry(struct imv_arrow_feed *feed, struct arrow_column *column, struct imv_str text, uint32_t *code) {
    if (text.data == NULL) {
        *code = ARROW_CODE_ABSENT;
        return true;
    }
    if (column->role != ARROW_ROLE_FIELD) return imv_arrow_text_code(feed, column, text, code);
    *code = text.size <= IMV_STRING_BYTES_MAX && imv_utf8_valid(text) ? ARROW_CODE_FIRST : ARROW_CODE_BAD;
    return true;
}

bool imv_arrow_map_refresh(struct imv_arrow_feed *feed, struct arrow_column *column) {
    const struct arrow_dictionary *dictionary = column->dictionary;
    if (column->map_generation != dictionary->generation) column->map_count = 0;
    column->map_generation = dictionary->generation;
    if (dictionary->count > column->map_capacity) {
        uint32_t *map =
            imv_arrow_resize(feed, column->map, column->map_capacity * sizeof *map, dictionary->capacity * sizeof *map);
        if (map == NULL) return false;
        column->map = map;
        column->map_capacity = dictionary->capacity;
    }
    for (; column->map_count < dictionary->count; column->map_count++) {
        uint32_t i = column->map_count;
        if (!map_entry(feed, column, dictionary->values[i], &column->map[i])) return false;
    }
    return true;
}
