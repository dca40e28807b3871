/* From the codes of a row to its series. */
#include "ingest/arrow_internal.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"

enum {
    SLOTS_FIRST = 1024,
    SLOTS_MAX = 1 << 21, /* 48 MiB; when they are three quarters full the table is begun again */
    PREFETCH_ROWS = 16,
};

/* ---- keys ---- */

/* Gives each column the bits that its codes need; when that changes, keys of before mean nothing any more. */
static void lay_out_key(struct imv_arrow_feed *feed) {
    bool changed = false;
    uint32_t bits = 0, word = 0;
    for (uint32_t i = 0; i <= feed->tags_count; i++) {
        struct arrow_column *column = i < feed->tags_count ? feed->tags[i] : feed->label;
        if (column == NULL) continue;
        uint8_t needed = (uint8_t)(32 - __builtin_clz(column->texts.count + ARROW_CODE_FIRST));
        changed |= needed != column->key_bits;
        column->key_bits = needed;
        if (bits + needed > 64) {
            word++;
            bits = 0;
        }
        bits += needed;
    }
    feed->key_hashed = word > 1;
    if (!changed || feed->series == NULL) return;
    memset(feed->series, 0, (feed->series_mask + (size_t)1) * sizeof *feed->series);
    feed->series_count = 0;
}

static void hash_keys(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    uint32_t *codes = feed->row_codes;
    for (size_t row = 0; row < slice->rows; row++) {
        for (uint32_t i = 0; i < feed->tags_count; i++) codes[i] = feed->tags[i]->codes[row];
        codes[feed->tags_count] = feed->label == NULL ? 0 : feed->label->codes[row];
        struct imv_hash128 key = imv_hash128(codes, (feed->tags_count + 1) * sizeof *codes, feed->seed);
        slice->low[row] = key.low;
        slice->high[row] = key.high;
    }
}

static void pack_keys(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    uint64_t *words = slice->low;
    uint32_t bits = 0;
    memset(slice->low, 0, slice->rows * sizeof *slice->low);
    memset(slice->high, 0, slice->rows * sizeof *slice->high);
    for (uint32_t i = 0; i <= feed->tags_count; i++) {
        const struct arrow_column *column = i < feed->tags_count ? feed->tags[i] : feed->label;
        if (column == NULL) continue;
        if (bits + column->key_bits > 64) {
            words = slice->high;
            bits = 0;
        }
        for (size_t row = 0; row < slice->rows; row++) words[row] |= (uint64_t)column->codes[row] << bits;
        bits += column->key_bits;
    }
}

/* ---- the table ---- */

static inline uint32_t slot_of(const struct imv_arrow_feed *feed, uint64_t low, uint64_t high) {
    uint64_t mixed = (low ^ feed->seed) * UINT64_C(0x9e3779b97f4a7c15) ^ high * UINT64_C(0xd6e8feb86659fd93);
    mixed ^= mixed >> 32;
    return (uint32_t)((mixed * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & feed->series_mask;
}

/* The slot of the key, or the empty one where it belongs. */
static inline struct arrow_series_slot *probe(const struct imv_arrow_feed *feed, uint64_t low, uint64_t high) {
    for (uint32_t i = slot_of(feed, low, high);; i = (i + 1) & feed->series_mask) {
        struct arrow_series_slot *slot = &feed->series[i];
        if (slot->series == NULL || (slot->low == low && slot->high == high)) return slot;
    }
}

/* Doubles the table, or begins it again at its maximum. Without memory it stays as it is, and may be full. */
static void grow_series(struct imv_arrow_feed *feed) {
    size_t slots = feed->series == NULL ? 0 : feed->series_mask + (size_t)1;
    if (slots == SLOTS_MAX) {
        memset(feed->series, 0, slots * sizeof *feed->series);
        feed->series_count = 0;
        return;
    }
    size_t wanted = slots == 0 ? SLOTS_FIRST : slots * 2;
    struct arrow_series_slot *old = feed->series, *made = imv_arrow_resize(feed, NULL, 0, wanted * sizeof *made);
    if (made == NULL) return;
    memset(made, 0, wanted * sizeof *made);
    feed->series = made;
    feed->series_mask = (uint32_t)wanted - 1;
    for (size_t i = 0; i < slots; i++) {
        if (old[i].series != NULL) *probe(feed, old[i].low, old[i].high) = old[i];
    }
    imv_arrow_release(feed, old, slots * sizeof *old);
}

static bool table_has_room(const struct imv_arrow_feed *feed) {
    return feed->series != NULL && feed->series_count <= feed->series_mask / 4 * 3;
}

static void remember(struct imv_arrow_feed *feed, size_t row, struct imv_series *series) {
    if (!table_has_room(feed)) grow_series(feed);
    if (!table_has_room(feed)) return;
    const struct arrow_slice *slice = feed->slice;
    struct arrow_series_slot *slot = probe(feed, slice->low[row], slice->high[row]);
    feed->series_count += slot->series == NULL;
    *slot = (struct arrow_series_slot){slice->low[row], slice->high[row], series};
}

/* ---- series that this stream has not met ---- */

/* Appends the key of a row in the writer's cache of series, which outlives the stream. It is no line's, whose key has
 * no line feed, and none of remote write's, where it would begin with a label that has no name:
 *     0a 00 label (00 key 00 value)*
 * False: the row has a text that cannot be one, or no label, or more than a line may have, or there is no memory. */
static bool put_raw(struct imv_arrow_feed *feed, size_t row) {
    struct imv_buffer *raw = &feed->raw;
    size_t limit = raw->size + IMV_LINE_BYTES_MAX;
    uint32_t code = feed->label == NULL ? ARROW_CODE_ABSENT : feed->label->codes[row];
    struct imv_str label = code < ARROW_CODE_FIRST ? feed->label_name : imv_arrow_text(feed->label, code);
    if (code == ARROW_CODE_BAD || label.size == 0) return false;
    imv_buffer_append(raw, "\n", 2);
    imv_buffer_append_str(raw, label);
    for (uint32_t i = 0; i < feed->tags_count; i++) {
        const struct arrow_column *column = feed->tags[i];
        code = column->codes[row];
        if (code == ARROW_CODE_BAD) return false;
        if (code == ARROW_CODE_ABSENT) continue;
        struct imv_str value = imv_arrow_text(column, code);
        char *to = imv_buffer_reserve(raw, column->name.size + value.size + 2);
        if (to == NULL) return false;
        *to++ = 0;
        memcpy(to, column->name.data, column->name.size);
        to += column->name.size;
        *to++ = 0;
        memcpy(to, value.data, value.size);
        raw->size += column->name.size + value.size + 2;
        if (raw->size > limit) return false;
    }
    return !raw->failed;
}

/* Asks the writer for the next rows that are not known from `*row` on, several at once for their cache misses to
 * overlap. */
static void ask_writer(struct imv_arrow_feed *feed, size_t *row) {
    struct arrow_slice *slice = feed->slice;
    size_t rows[IMV_WRITER_FIND_MAX], ends[IMV_WRITER_FIND_MAX], count = 0, begin = 0;
    struct imv_str raws[IMV_WRITER_FIND_MAX];
    struct imv_series *found[IMV_WRITER_FIND_MAX];
    imv_buffer_reset(&feed->raw);
    for (; *row < slice->rows && count < IMV_WRITER_FIND_MAX; *row += 1) {
        size_t size = feed->raw.size;
        if (slice->series[*row] != NULL) continue;
        if (put_raw(feed, *row)) {
            rows[count] = *row;
            ends[count++] = feed->raw.size;
        } else {
            feed->raw.size = size;
        }
    }
    for (size_t i = 0; i < count; begin = ends[i++]) {
        raws[i] = (struct imv_str){feed->raw.data + begin, ends[i] - begin};
    }
    imv_writer_find_many(feed->options.writer, raws, count, found);
    for (size_t i = 0; i < count; i++) {
        slice->series[rows[i]] = found[i];
        if (found[i] != NULL) remember(feed, rows[i], found[i]);
    }
}

void imv_arrow_series_check(struct imv_arrow_feed *feed) {
    uint64_t epoch = imv_catalog_epoch(feed->catalog);
    if (epoch == feed->epoch) return;
    feed->epoch = epoch;
    if (feed->series != NULL) memset(feed->series, 0, ((size_t)feed->series_mask + 1) * sizeof *feed->series);
    feed->series_count = 0;
    if (feed->slice->next < feed->slice->rows) imv_arrow_series_find(feed);
}

void imv_arrow_series_find(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    lay_out_key(feed);
    if (feed->key_hashed)
        hash_keys(feed);
    else
        pack_keys(feed);
    memset(slice->series, 0, sizeof slice->series);
    for (size_t row = 0; feed->series != NULL && row < slice->rows; row++) {
        size_t ahead = row + PREFETCH_ROWS;
        if (ahead < slice->rows)
            __builtin_prefetch(&feed->series[slot_of(feed, slice->low[ahead], slice->high[ahead])]);
        slice->series[row] = probe(feed, slice->low[row], slice->high[row])->series;
    }
    for (size_t row = 0; row < slice->rows;) ask_writer(feed, &row);
}

imv_status imv_arrow_series_make(struct imv_arrow_feed *feed, size_t row, struct imv_str label, struct imv_error *err) {
    struct arrow_slice *slice = feed->slice;
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t count = 0;
    /* A row like this one may have been met since the slice was looked up. */
    if (feed->series != NULL) slice->series[row] = probe(feed, slice->low[row], slice->high[row])->series;
    if (slice->series[row] != NULL) return IMV_OK;
    for (uint32_t i = 0; i < feed->tags_count; i++) {
        const struct arrow_column *column = feed->tags[i];
        uint32_t code = column->codes[row];
        if (code == ARROW_CODE_ABSENT) continue;
        imv_assert(code != ARROW_CODE_BAD);
        tags[count++] = (struct imv_tag){column->name, imv_arrow_text(column, code)};
    }
    imv_buffer_reset(&feed->raw);
    if (!put_raw(feed, row)) {
        if (feed->raw.failed) return imv_arrow_no_memory(err);
        return imv_fail(err, IMV_INVALID, "label and tags of a row are longer than %d bytes", IMV_LINE_BYTES_MAX);
    }
    IMV_TRY(imv_writer_make_series(feed->options.writer, imv_buffer_view(&feed->raw), label, tags, count,
                                   &slice->series[row], err));
    remember(feed, row, slice->series[row]);
    return IMV_OK;
}
