/* series_values.c - the interned values of a tag key. Codes are dense; those of values that are gone are given out
 * again. */
#include "engine/catalog_internal.h"

#include "storage/base/assert.h"

#include <stdlib.h>

struct value_probe {
    const struct imv_tag_key *key;
    struct imv_str text;
};

static bool value_has_text(const void *context, uint32_t code) {
    const struct value_probe *probe = context;
    const struct imv_tag_value *value = imv_tag_value_at(probe->key, code);
    return value->set.extra == probe->text.size && memcmp(value->text, probe->text.data, probe->text.size) == 0;
}

uint32_t imv_tag_key_find_value(const struct imv_catalog *catalog, const struct imv_tag_key *key, struct imv_str text) {
    struct value_probe probe = {key, text};
    return imv_code_table_find(&key->values_by_text, imv_catalog_hash(catalog, text.data, text.size), value_has_text,
                               &probe);
}

/* Room for one more value; false when malloc refuses. */
static bool reserve_code(struct imv_tag_key *key) {
    if (key->values_free == IMV_CODE_NONE &&
        (key->values_count == IMV_CODE_NONE ||
         !imv_segments_reserve(&key->values, sizeof(struct imv_tag_value), key->values_count))) {
        return false;
    }
    return imv_code_table_reserve(&key->values_by_text);
}

static uint32_t take_code(struct imv_tag_key *key) {
    uint32_t code = key->values_free;
    if (code == IMV_CODE_NONE) return key->values_count++;
    key->values_free = imv_tag_value_at(key, code)->set.one;
    return code;
}

imv_status imv_tag_key_add_value(struct imv_catalog *catalog, struct imv_tag_key *key, struct imv_str text,
                                 uint32_t *code, struct imv_error *err) {
    struct imv_str copy = reserve_code(key) ? imv_catalog_text(catalog, text) : (struct imv_str){0};
    if (copy.data == NULL) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for tag value \"%.*s\"", imv_shown(text), text.data);
    }
    *code = take_code(key);
    struct imv_tag_value *value = imv_tag_value_at(key, *code);
    *value = (struct imv_tag_value){.text = copy.data, .set.extra = (uint16_t)copy.size};
    imv_code_table_insert(&key->values_by_text, imv_catalog_hash(catalog, text.data, text.size), *code);
    key->values_used++;
    return IMV_OK;
}

void imv_tag_key_drop_value(struct imv_catalog *catalog, struct imv_tag_key *key, uint32_t code) {
    struct imv_tag_value *value = imv_tag_value_at(key, code);
    imv_assert(value->text != NULL && value->set.count == 0);
    imv_code_table_remove(&key->values_by_text, imv_catalog_hash(catalog, value->text, value->set.extra), code);
    imv_catalog_give(catalog, (void *)(uintptr_t)value->text, value->set.extra);
    *value = (struct imv_tag_value){.set.one = key->values_free};
    key->values_free = code;
    key->values_used--;
}

void imv_tag_key_release(struct imv_tag_key *key) {
    for (uint32_t code = 0; code < key->values_count; code++) {
        imv_ordinal_set_release(&imv_tag_value_at(key, code)->set);
    }
    imv_ordinal_set_release(&key->set);
    imv_segments_release(&key->values);
    imv_code_table_release(&key->values_by_text);
}

/* ---- listing ---- */

void imv_label_tag_counts(struct imv_catalog *catalog, struct imv_label *label, uint32_t code, uint32_t *values_count,
                          uint32_t *series_count) {
    imv_assert(code < imv_label_tags_count(catalog, label));
    const struct imv_tag_key *key = imv_label_key_at(label, code);
    imv_catalog_lock_shared(catalog);
    *values_count = key->set.count == 0 ? 0 : key->values_used;
    *series_count = key->set.count;
    imv_catalog_unlock(catalog);
}

bool imv_label_has_tag(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name) {
    uint32_t code, values_count, series_count = 0;
    if (imv_label_find_key(catalog, label, name, &code) != NULL) {
        imv_label_tag_counts(catalog, label, code, &values_count, &series_count);
    }
    return series_count > 0;
}

enum { LISTED_AT_ONCE = 256 }; /* with the lock held: some microseconds */

struct listed {
    struct imv_str text;
    uint32_t series_count;
};

static size_t take_listed(struct imv_catalog *catalog, const struct imv_tag_key *key, uint32_t *code,
                          struct listed *listed) {
    size_t count = 0;
    imv_catalog_lock_shared(catalog);
    for (; *code < key->values_count && count < LISTED_AT_ONCE; (*code)++) {
        const struct imv_tag_value *value = imv_tag_value_at(key, *code);
        if (value->text == NULL || value->set.count == 0) continue;
        listed[count++] = (struct listed){{value->text, value->set.extra}, value->set.count};
    }
    imv_catalog_unlock(catalog);
    return count;
}

imv_status imv_label_tag_values(struct imv_catalog *catalog, struct imv_label *label, struct imv_str key,
                                imv_status (*visit)(void *context, struct imv_str value, uint32_t series_count,
                                                    struct imv_error *err),
                                void *context, struct imv_error *err) {
    uint32_t code, from = 0;
    const struct imv_tag_key *in = imv_label_find_key(catalog, label, key, &code);
    struct listed listed[LISTED_AT_ONCE];
    size_t count;
    while (in != NULL && (count = take_listed(catalog, in, &from, listed)) > 0) {
        for (size_t i = 0; i < count; i++) IMV_TRY(visit(context, listed[i].text, listed[i].series_count, err));
    }
    return IMV_OK;
}
