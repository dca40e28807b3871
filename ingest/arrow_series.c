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

void imv_arrow_series_find(struct imv_arrow_feed *feed) {
    struct arrow_slice *slice = feed->slice;
    lay_out_key(feed);
    if (feed->key_hashed)
        hash_keys(feed);
    else
        pack_keys(feed);
    if (feed->series == NULL) {
        memset(slice->series, 0, sizeof slice->series);
        return;
    }
    for (size_t row = 0; row < slice->rows; row++) {
        size_t ahead = row + PREFETCH_ROWS;
        if (ahead < slice->rows)
            __builtin_prefetch(&feed->series[slot_of(feed, slice->low[ahead], slice->high[ahead])]);
        slice->series[row] = probe(feed, slice->low[row], slice->high[row])->series;
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

imv_status imv_arrow_series_make(struct imv_arrow_feed *feed, size_t row, struct imv_label *label,
                                 struct imv_error *err) {
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t count = 0;
    /* A row like this one may have been met since the slice was looked up. */
    if (feed->series != NULL)
        feed->slice->series[row] = probe(feed, feed->slice->low[row], feed->slice->high[row])->series;
    if (feed->slice->series[row] != NULL) return IMV_OK;
    for (uint32_t i = 0; i < feed->tags_count; i++) {
        const struct arrow_column *column = feed->tags[i];
        uint32_t code = column->codes[row];
        if (code == ARROW_CODE_ABSENT) continue;
        imv_assert(code != ARROW_CODE_BAD);
        tags[count++] = (struct imv_tag){column->name, imv_arrow_text(column, code)};
    }
    IMV_TRY(imv_catalog_series(feed->catalog, label, tags, count, &feed->slice->series[row], err));
    remember(feed, row, feed->slice->series[row]);
    return IMV_OK;
}
