#include "tests/support/threaded.h"

#include "engine/catalog_internal.h"

#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARDS = 3 };

/* A catalog on a disk of its own. */
struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
};

static void reopen(struct bench *bench) {
    struct imv_error err;
    cr_assert_eq(imv_kv_memory_open(bench->disk, &bench->kv, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(imv_catalog_open(bench->kv, SHARDS, &bench->catalog, &err), IMV_OK, "%s", err.message);
}

static void shut(struct bench *bench) {
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
}

static struct bench bench_open(void) {
    struct bench bench = {0};
    cr_assert_eq(imv_kv_memory_new(1, &bench.disk, NULL), IMV_OK);
    reopen(&bench);
    return bench;
}

static void bench_close(struct bench *bench) {
    shut(bench);
    imv_kv_memory_free(bench->disk);
}

static struct imv_label *make_label(struct bench *bench, const char *name) {
    struct imv_label *label;
    struct imv_error err;
    cr_assert_eq(imv_catalog_label(bench->catalog, imv_str_from(name), &label, &err), IMV_OK, "%s", err.message);
    return label;
}

static const struct imv_field *make_field(struct bench *bench, struct imv_label *label, const char *name,
                                          imv_type type) {
    const struct imv_field *field;
    struct imv_error err;
    cr_assert_eq(imv_label_field(bench->catalog, label, imv_str_from(name), type, &field, &err), IMV_OK, "%s",
                 err.message);
    return field;
}

/* text is "key=value,key=value"; the views point into it. */
static size_t parse_tags(const char *text, struct imv_tag *tags) {
    size_t count = 0;
    while (*text != 0) {
        const char *equals = strchr(text, '='), *end = strchrnul(text, ',');
        tags[count].key = (struct imv_str){text, (size_t)(equals - text)};
        tags[count++].value = (struct imv_str){equals + 1, (size_t)(end - equals - 1)};
        text = *end == 0 ? end : end + 1;
    }
    return count;
}

static struct imv_series *make_series(struct bench *bench, struct imv_label *label, const char *text) {
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t count = parse_tags(text, tags);
    struct imv_series *series;
    struct imv_error err;
    cr_assert_eq(imv_catalog_series(bench->catalog, label, tags, count, &series, &err), IMV_OK, "%s", err.message);
    return series;
}

static void show(struct imv_series *series, uint64_t sequence) { atomic_store(&series->visible_at, sequence); }

static void persist(struct bench *bench) {
    struct imv_error err;
    cr_assert_eq(imv_catalog_persist(bench->catalog, &err), IMV_OK, "%s", err.message);
}

/* Selects by "key=value,key=other": values of one key are alternatives. */
static size_t select_count(struct bench *bench, struct imv_label *label, const char *text, const uint64_t *sequences,
                           struct imv_series **first) {
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t count = parse_tags(text, tags), conditions_count = 0;
    struct imv_str values[IMV_TAGS_MAX];
    struct imv_tag_selector conditions[IMV_TAGS_MAX];
    for (size_t i = 0; i < count; i++) {
        values[i] = tags[i].value;
        if (i > 0 && imv_str_equal(tags[i].key, tags[i - 1].key)) {
            conditions[conditions_count - 1].values_count++;
        } else {
            conditions[conditions_count++] = (struct imv_tag_selector){
                .kind = IMV_TAG_IN, .key = tags[i].key, .values = &values[i], .values_count = 1};
        }
    }
    struct imv_tag_selector all = {.kind = IMV_TAG_AND, .parts = conditions, .parts_count = conditions_count};
    struct imv_series **series;
    size_t found;
    cr_assert_eq(imv_catalog_select(bench->catalog, label, count == 0 ? NULL : &all, sequences, &series, &found, NULL),
                 IMV_OK);
    for (size_t i = 1; i < found; i++) cr_assert_lt(imv_series_id(series[i - 1]), imv_series_id(series[i]));
    if (first != NULL) *first = found > 0 ? series[0] : NULL;
    free(series);
    return found;
}

Test(catalog, labels_are_found_by_name_and_id) {
    /* A label is made once; its name and its id lead to the same label. */
    struct bench bench = bench_open();
    cr_assert_null(imv_catalog_find_label(bench.catalog, IMV_STR("cpu")));
    struct imv_label *cpu = make_label(&bench, "cpu"), *mem = make_label(&bench, "mem");
    cr_assert_eq(make_label(&bench, "cpu"), cpu);
    cr_assert_eq(imv_catalog_find_label(bench.catalog, IMV_STR("mem")), mem);
    cr_assert_eq(imv_catalog_label_by_id(bench.catalog, cpu->id), cpu);
    cr_assert_null(imv_catalog_label_by_id(bench.catalog, 2));
    cr_assert_null(imv_catalog_label_by_id(bench.catalog, UINT32_MAX));
    cr_assert_eq(imv_catalog_labels_count(bench.catalog), 2);
    bench_close(&bench);
}

Test(catalog, labels_stop_at_their_limit) {
    /* The 65,537th label is refused with IMV_FULL and changes nothing. */
    struct bench bench = bench_open();
    char name[16];
    for (int i = 0; i < IMV_LABELS_MAX; i++) {
        snprintf(name, sizeof name, "l%d", i);
        make_label(&bench, name);
    }
    struct imv_label *label;
    cr_assert_eq(imv_catalog_label(bench.catalog, IMV_STR("more"), &label, NULL), IMV_FULL);
    cr_assert_null(imv_catalog_find_label(bench.catalog, IMV_STR("more")));
    cr_assert_eq(imv_catalog_find_label(bench.catalog, IMV_STR("l65535"))->id, 65535);
    bench_close(&bench);
}

Test(catalog, names_have_limits) {
    /* Empty and too long names are IMV_INVALID wherever a name is given, and the longest allowed one is kept whole. */
    struct bench bench = bench_open();
    static char longest[IMV_NAME_BYTES_MAX + 1];
    memset(longest, 'x', sizeof longest);
    struct imv_str names[] = {{NULL, 0}, {longest, sizeof longest}};
    struct imv_label *cpu = make_label(&bench, "cpu"), *label;
    const struct imv_field *field;
    struct imv_series *series;
    for (int i = 0; i < 2; i++) {
        struct imv_tag key = {names[i], IMV_STR("v")}, value = {IMV_STR("k"), names[i]};
        cr_assert_eq(imv_catalog_label(bench.catalog, names[i], &label, NULL), IMV_INVALID);
        cr_assert_eq(imv_label_field(bench.catalog, cpu, names[i], IMV_FLOAT, &field, NULL), IMV_INVALID);
        cr_assert_eq(imv_catalog_series(bench.catalog, cpu, &key, 1, &series, NULL), IMV_INVALID);
        cr_assert_eq(imv_catalog_series(bench.catalog, cpu, &value, 1, &series, NULL), IMV_INVALID);
    }
    struct imv_str allowed = {longest, IMV_NAME_BYTES_MAX};
    cr_assert_eq(imv_catalog_label(bench.catalog, allowed, &label, NULL), IMV_OK);
    cr_assert(imv_str_equal(label->name, allowed));
    cr_assert_eq(imv_catalog_series_count(bench.catalog, 0), 0);
    bench_close(&bench);
}

Test(catalog, fields_keep_their_type) {
    /* A field is found by name and id; asked for with another type it is a conflict that names both types. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    const struct imv_field *field, *x = make_field(&bench, cpu, "x", IMV_FLOAT);
    cr_assert_eq(make_field(&bench, cpu, "x", IMV_FLOAT), x);
    struct imv_error err;
    cr_assert_eq(imv_label_field(bench.catalog, cpu, IMV_STR("x"), IMV_INTEGER, &field, &err), IMV_CONFLICT);
    cr_assert_str_eq(err.message, "field \"x\" of \"cpu\" is float, not integer");
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        cr_assert_eq(make_field(&bench, cpu, name, IMV_STRING)->id, i + 1);
    }
    cr_assert_eq(imv_label_find_field(bench.catalog, cpu, IMV_STR("f99")), imv_label_field_by_id(cpu, 100));
    cr_assert_eq(imv_label_field_by_id(cpu, 0), x);
    cr_assert_null(imv_label_field_by_id(cpu, 101));
    cr_assert_null(imv_label_find_field(bench.catalog, cpu, IMV_STR("f100")));
    bench_close(&bench);
}

Test(catalog, fields_stop_at_their_limits) {
    /* A label takes 4,096 fields, or 512 KiB of field names, and then says IMV_FULL. */
    struct bench bench = bench_open();
    struct imv_label *many = make_label(&bench, "many"), *wide = make_label(&bench, "wide");
    char name[IMV_NAME_BYTES_MAX + 1];
    const struct imv_field *field;
    for (int i = 0; i < IMV_FIELDS_MAX; i++) {
        snprintf(name, sizeof name, "f%d", i);
        make_field(&bench, many, name, IMV_FLOAT);
    }
    cr_assert_eq(imv_label_field(bench.catalog, many, IMV_STR("more"), IMV_FLOAT, &field, NULL), IMV_FULL);
    for (int i = 0; i < IMV_FIELD_NAMES_BYTES_MAX / IMV_NAME_BYTES_MAX; i++) {
        snprintf(name, sizeof name, "%0*d", IMV_NAME_BYTES_MAX, i);
        make_field(&bench, wide, name, IMV_FLOAT);
    }
    cr_assert_eq(imv_label_field(bench.catalog, wide, IMV_STR("m"), IMV_FLOAT, &field, NULL), IMV_FULL);
    bench_close(&bench);
}

Test(catalog, a_property_is_a_tag_or_a_field) {
    /* A field cannot take the name of a tag of its label nor a tag that of a field, and neither attempt leaves a
     * trace. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu"), *mem = make_label(&bench, "mem");
    make_series(&bench, cpu, "host=a");
    make_field(&bench, cpu, "load", IMV_FLOAT);
    const struct imv_field *field;
    struct imv_series *series;
    struct imv_tag tags[] = {{IMV_STR("host"), IMV_STR("b")}, {IMV_STR("load"), IMV_STR("b")}};
    struct imv_error err;
    cr_assert_eq(imv_label_field(bench.catalog, cpu, IMV_STR("host"), IMV_FLOAT, &field, &err), IMV_CONFLICT);
    cr_assert_str_eq(err.message, "\"host\" of \"cpu\" is a tag, not a field");
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, tags, 2, &series, &err), IMV_CONFLICT);
    cr_assert_str_eq(err.message, "\"load\" of \"cpu\" is a field, not a tag");
    cr_assert_eq(select_count(&bench, cpu, "host=b", NULL, NULL), 0);
    cr_assert_eq(imv_label_tags_count(bench.catalog, cpu), 1);
    make_field(&bench, mem, "host", IMV_FLOAT);
    bench_close(&bench);
}

Test(catalog, shapes_are_interned) {
    /* Equal lists of fields of a label give one shape; order, length and label tell shapes apart. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    const struct imv_field *f[3] = {make_field(&bench, cpu, "a", IMV_FLOAT), make_field(&bench, cpu, "b", IMV_STRING),
                                    make_field(&bench, cpu, "c", IMV_STRING)};
    const struct imv_field *turned[2] = {f[1], f[0]};
    const struct imv_shape *two, *same, *three, *other;
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, f, 2, &two, NULL), IMV_OK);
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, f, 2, &same, NULL), IMV_OK);
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, f, 3, &three, NULL), IMV_OK);
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, turned, 2, &other, NULL), IMV_OK);
    cr_assert_eq(two, same);
    cr_assert_neq(two, three);
    cr_assert_neq(two, other);
    cr_assert_eq(three->label, cpu);
    cr_assert_eq(three->count, 3);
    cr_assert_eq(three->strings_count, 2);
    cr_assert_eq(three->fields_end, 3);
    cr_assert_eq(three->fields[2], f[2]);
    cr_assert(two->id != three->id && three->id != other->id && other->id < 3);
    bench_close(&bench);
}

Test(catalog, shapes_within_the_limit_come_back_in_any_order) {
    /* Shapes of one field, which are made beyond the limit too, leave the others' room alone: a replay, whose shards
     * make them in another order, is not refused what a writer was given. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    const struct imv_field *f[2] = {make_field(&bench, cpu, "a", IMV_FLOAT), make_field(&bench, cpu, "b", IMV_FLOAT)};
    const struct imv_field *turned[2] = {f[1], f[0]};
    const struct imv_shape *shape;
    bench.catalog->shapes_bytes = IMV_SHAPES_BYTES_MAX - sizeof *shape - sizeof f;
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, &f[0], 1, &shape, NULL), IMV_OK);
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, f, 2, &shape, NULL), IMV_OK);
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, turned, 2, &shape, NULL), IMV_FULL);
    cr_assert_eq(imv_label_shape(bench.catalog, cpu, &f[1], 1, &shape, NULL), IMV_OK);
    bench_close(&bench);
}

Test(catalog, series_are_interned_whatever_the_order_of_tags) {
    /* The same label and tags in any order are one series with its tags sorted by key. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    struct imv_series *series = make_series(&bench, cpu, "b=2,a=1,ab=3");
    cr_assert_eq(make_series(&bench, cpu, "ab=3,b=2,a=1"), series);
    cr_assert_neq(make_series(&bench, cpu, "a=1,ab=3"), series);
    cr_assert_neq(make_series(&bench, cpu, ""), series);
    cr_assert_neq(make_series(&bench, make_label(&bench, "mem"), "b=2,a=1,ab=3"), series);
    const char *keys[] = {"a", "ab", "b"}, *values[] = {"1", "3", "2"};
    cr_assert_eq(series->tags_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        struct imv_tag tag = imv_series_tag_at(series, i);
        struct imv_str value;
        cr_assert(imv_str_equal(tag.key, imv_str_from(keys[i])));
        cr_assert(imv_str_equal(tag.value, imv_str_from(values[i])));
        cr_assert(imv_series_tag(series, imv_str_from(keys[i]), &value) && imv_str_equal(value, tag.value));
    }
    struct imv_str value;
    cr_assert_not(imv_series_tag(series, IMV_STR("c"), &value));
    cr_assert_eq(imv_catalog_series_by_id(bench.catalog, imv_series_id(series)), series);
    cr_assert_null(imv_catalog_series_by_id(bench.catalog, (uint64_t)SHARDS << 40));
    cr_assert_null(imv_catalog_series_by_id(bench.catalog, UINT64_C(1) << 32));
    bench_close(&bench);
}

Test(catalog, wrong_tags_are_refused) {
    /* A tag key given twice and one tag too many are IMV_INVALID; 64 tags are taken. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    struct imv_series *series;
    struct imv_tag twice[] = {{IMV_STR("a"), IMV_STR("1")}, {IMV_STR("b"), IMV_STR("1")}, {IMV_STR("a"), IMV_STR("2")}};
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, twice, 3, &series, NULL), IMV_INVALID);
    struct imv_tag many[IMV_TAGS_MAX + 1];
    char names[IMV_TAGS_MAX + 1][16];
    for (int i = 0; i <= IMV_TAGS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        many[i] = (struct imv_tag){imv_str_from(names[i]), IMV_STR("v")};
    }
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, many, IMV_TAGS_MAX + 1, &series, NULL), IMV_INVALID);
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, many, IMV_TAGS_MAX, &series, NULL), IMV_OK);
    cr_assert_eq(series->tags_count, IMV_TAGS_MAX);
    bench_close(&bench);
}

Test(catalog, series_stop_at_their_limit) {
    /* At the limit a new series is IMV_FULL and leaves no trace, known ones are found, and a replay is not refused. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    struct imv_series *series = make_series(&bench, cpu, "host=a"), *other;
    imv_catalog_set_limits(bench.catalog, &(struct imv_catalog_limits){1, UINT64_MAX, UINT64_MAX});
    struct imv_tag tags[] = {{IMV_STR("new"), IMV_STR("b")}};
    struct imv_error err;
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, tags, 1, &other, &err), IMV_FULL);
    cr_assert_str_eq(
        err.message,
        "a new series of \"cpu\" would pass the limit of 1 series in all: there are 1, 1 of them of this label");
    cr_assert_eq(imv_label_tags_count(bench.catalog, cpu), 1);
    cr_assert_eq(make_series(&bench, cpu, "host=a"), series);
    imv_status status = IMV_CORRUPT;
    for (uint64_t shard = 0; shard < SHARDS && status != IMV_OK; shard++) {
        status = imv_catalog_define_series(bench.catalog, shard << 40 | 3, cpu, tags, 1, &other, NULL);
    }
    cr_assert_eq(status, IMV_OK);
    bench_close(&bench);
}

Test(catalog, a_label_has_a_limit_of_its_own) {
    /* At a label's limit its new series are IMV_FULL with both numbers, other labels go on, and a limit of the label
     * itself goes before that of all labels. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu"), *mem = make_label(&bench, "mem");
    make_series(&bench, cpu, "host=a");
    make_series(&bench, cpu, "host=b");
    imv_catalog_set_limits(bench.catalog, &(struct imv_catalog_limits){10, 2, UINT64_MAX});
    struct imv_series *series;
    struct imv_tag tag = {IMV_STR("host"), IMV_STR("c")};
    struct imv_error err;
    int64_t refused = imv_metric_value(IMV_METRIC_series_refused_total);
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, &tag, 1, &series, &err), IMV_FULL);
    cr_assert_str_eq(err.message, "a new series of \"cpu\" would pass its limit of 2 series: it has 2");
    cr_assert_eq(imv_metric_value(IMV_METRIC_series_refused_total), refused + 1);
    make_series(&bench, mem, "host=c");
    imv_label_set_series_max(cpu, 3);
    make_series(&bench, cpu, "host=c");
    cr_assert_eq(imv_label_series_count(cpu), 3);
    imv_catalog_set_limits(bench.catalog, &(struct imv_catalog_limits){4, 2, UINT64_MAX});
    cr_assert_eq(imv_catalog_resolve(bench.catalog, IMV_STR("new"), &tag, 1, &series, &err), IMV_FULL);
    cr_assert_null(imv_catalog_find_label(bench.catalog, IMV_STR("new")));
    bench_close(&bench);
}

Test(catalog, a_row_is_checked_without_a_trace) {
    /* Whatever stands against a row is found before anything is made, and fields of one row are made together or
     * not. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    make_series(&bench, cpu, "host=a");
    make_field(&bench, cpu, "load", IMV_FLOAT);
    const struct imv_tag host = {IMV_STR("host"), IMV_STR("n")}, load = {IMV_STR("load"), IMV_STR("n")};
    const struct imv_field fields[] = {{IMV_STR("new"), 0, IMV_FLOAT},
                                       {IMV_STR("load"), 0, IMV_INTEGER},
                                       {IMV_STR("host"), 0, IMV_FLOAT},
                                       {IMV_STR("load"), 0, IMV_FLOAT}};
    struct imv_str name = IMV_STR("cpu"), other = IMV_STR("other");
    cr_assert_eq(imv_catalog_check_row(bench.catalog, name, &host, 1, &fields[0], 1, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_check_row(bench.catalog, name, &host, 1, &fields[1], 1, NULL), IMV_CONFLICT);
    cr_assert_eq(imv_catalog_check_row(bench.catalog, name, NULL, 0, &fields[2], 1, NULL), IMV_CONFLICT);
    cr_assert_eq(imv_catalog_check_row(bench.catalog, name, &load, 1, &fields[0], 1, NULL), IMV_CONFLICT);
    cr_assert_eq(imv_catalog_check_row(bench.catalog, other, &host, 1, &fields[2], 1, NULL), IMV_CONFLICT);
    cr_assert_eq(imv_catalog_check_row(bench.catalog, other, &host, 1, &fields[1], 1, NULL), IMV_OK);
    const struct imv_field *made[2];
    cr_assert_eq(imv_label_make_fields(bench.catalog, cpu, fields, 2, made, NULL), IMV_CONFLICT);
    cr_assert_null(imv_label_find_field(bench.catalog, cpu, IMV_STR("new")));
    cr_assert_null(imv_catalog_find_label(bench.catalog, other));
    cr_assert_eq(imv_label_tags_count(bench.catalog, cpu), 1);
    bench_close(&bench);
}

Test(catalog, names_stop_at_the_limit_of_bytes) {
    /* At the limit of bytes no label, field or series is made, what is there is found, and a replay is not refused. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu"), *label;
    const struct imv_field *field;
    make_field(&bench, cpu, "a", IMV_FLOAT);
    struct imv_series *series;
    make_series(&bench, cpu, "host=a");
    imv_catalog_set_limits(bench.catalog, &(struct imv_catalog_limits){UINT64_MAX, UINT64_MAX, 1});
    struct imv_error err;
    cr_assert_eq(imv_catalog_label(bench.catalog, IMV_STR("mem"), &label, &err), IMV_FULL);
    cr_assert_str_eq(err.message, "the catalog has reached its limit of 1 bytes, no new names are taken");
    cr_assert_eq(imv_label_field(bench.catalog, cpu, IMV_STR("c"), IMV_FLOAT, &field, NULL), IMV_FULL);
    cr_assert_eq(imv_catalog_series(bench.catalog, cpu, NULL, 0, &series, NULL), IMV_FULL);
    cr_assert_eq(imv_catalog_define_label(bench.catalog, 9, IMV_STR("mem"), &label, NULL), IMV_OK);
    make_label(&bench, "cpu");
    make_field(&bench, cpu, "a", IMV_FLOAT);
    make_series(&bench, cpu, "host=a");
    bench_close(&bench);
}

Test(catalog, the_owner_of_a_series_never_changes) {
    /* The owner shard is a function of label, tags and shard count alone: these answers are on disks. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    static const struct {
        const char *tags;
        uint32_t shard;
    } known[] = {{"", 0},
                 {"hostname=host_0", 0},
                 {"hostname=host_3", 2},
                 {"hostname=host_4", 1},
                 {"region=eu,hostname=host_2", 0}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        cr_expect_eq(make_series(&bench, cpu, known[i].tags)->shard, known[i].shard, "%s is owned by %u", known[i].tags,
                     make_series(&bench, cpu, known[i].tags)->shard);
    }
    bench_close(&bench);
}

Test(catalog, selections_show_what_the_snapshot_shows) {
    /* A series is selected from the sequence of its shard on that made it visible, and never before. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    struct imv_series *series = make_series(&bench, cpu, "host=a"), *found;
    uint64_t sequences[SHARDS] = {9, 9, 9};
    cr_assert_eq(select_count(&bench, cpu, "", NULL, NULL), 0);
    cr_assert_eq(select_count(&bench, cpu, "", sequences, NULL), 0);
    show(series, 10);
    cr_assert_eq(select_count(&bench, cpu, "", NULL, NULL), 1);
    cr_assert_eq(select_count(&bench, cpu, "host=a", sequences, NULL), 0);
    sequences[series->shard] = 10;
    cr_assert_eq(select_count(&bench, cpu, "host=a", sequences, &found), 1);
    cr_assert_eq(found, series);
    show(series, IMV_SEQUENCE_LOADED);
    sequences[series->shard] = 0;
    cr_assert_eq(select_count(&bench, cpu, "host=a", sequences, NULL), 1);
    cr_assert_eq(select_count(&bench, make_label(&bench, "mem"), "", NULL, NULL), 0);
    bench_close(&bench);
}

Test(catalog, what_was_persisted_comes_back) {
    /* After a persist and a restart labels, fields, retention and visible series are there with the same ids. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu"), *mem = make_label(&bench, "mem");
    make_field(&bench, cpu, "a", IMV_FLOAT);
    make_field(&bench, cpu, "b", IMV_STRING);
    imv_label_set_retention(bench.catalog, mem, 7);
    struct imv_series *series = make_series(&bench, cpu, "host=a,region=eu");
    uint64_t id = imv_series_id(series);
    show(series, 5);
    persist(&bench);
    shut(&bench);
    reopen(&bench);
    cpu = imv_catalog_find_label(bench.catalog, IMV_STR("cpu"));
    mem = imv_catalog_find_label(bench.catalog, IMV_STR("mem"));
    cr_assert(cpu != NULL && cpu->id == 0 && mem != NULL && mem->id == 1);
    cr_assert_eq(atomic_load(&mem->retention_ns), 7);
    cr_assert_eq(atomic_load(&cpu->fields_count), 2);
    cr_assert_eq(imv_label_field_by_id(cpu, 1)->type, IMV_STRING);
    struct imv_series *found;
    uint64_t sequences[SHARDS] = {0};
    cr_assert_eq(select_count(&bench, cpu, "host=a", sequences, &found), 1);
    cr_assert_eq(imv_series_id(found), id);
    cr_assert(found->journaled);
    cr_assert_eq(make_series(&bench, cpu, "host=a,region=eu"), found);
    bench_close(&bench);
}

Test(catalog, only_visible_series_are_persisted) {
    /* A series without a durable row is not written; it is once it has one, also when later ones were written
     * before. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    struct imv_series *early = make_series(&bench, cpu, "host=early");
    uint64_t id = imv_series_id(early);
    show(make_series(&bench, cpu, "host=late"), 1);
    persist(&bench);
    show(early, 2);
    persist(&bench);
    show(make_series(&bench, cpu, "host=never"), 0);
    persist(&bench);
    shut(&bench);
    reopen(&bench);
    cpu = make_label(&bench, "cpu");
    struct imv_series *found;
    cr_assert_eq(select_count(&bench, cpu, "", NULL, NULL), 2);
    cr_assert_eq(select_count(&bench, cpu, "host=early", NULL, &found), 1);
    cr_assert_eq(imv_series_id(found), id);
    cr_assert_eq(select_count(&bench, cpu, "host=never", NULL, NULL), 0);
    bench_close(&bench);
}

Test(catalog, a_persist_writes_only_what_is_new) {
    /* Nothing new: nothing is written. A new field, retention or series: one write. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    show(make_series(&bench, cpu, "host=a"), 1);
    persist(&bench);
    uint64_t before = imv_kv_memory_operations(bench.disk);
    make_series(&bench, cpu, "host=hidden");
    persist(&bench);
    cr_assert_eq(imv_kv_memory_operations(bench.disk), before);
    make_field(&bench, cpu, "a", IMV_FLOAT);
    persist(&bench);
    cr_assert_eq(imv_kv_memory_operations(bench.disk), before + 1);
    imv_label_set_retention(bench.catalog, cpu, 1);
    persist(&bench);
    cr_assert_eq(imv_kv_memory_operations(bench.disk), before + 2);
    bench_close(&bench);
}

Test(catalog, a_failed_persist_is_made_up_for) {
    /* Whatever write of a persist fails, the next persist writes what is missing. */
    for (uint64_t fault = 1; fault <= 3; fault++) {
        struct bench bench = bench_open();
        struct imv_label *cpu = make_label(&bench, "cpu");
        make_field(&bench, cpu, "a", IMV_FLOAT);
        enum { SERIES = 9000 };
        for (int i = 0; i < SERIES; i++) {
            char tags[32];
            snprintf(tags, sizeof tags, "host=h%d", i);
            show(make_series(&bench, cpu, tags), i % 10 == 0 ? 0 : 1);
        }
        imv_kv_memory_arm(bench.disk, fault, IMV_KV_MEMORY_FAIL);
        cr_assert_eq(imv_catalog_persist(bench.catalog, NULL), IMV_IO);
        persist(&bench);
        shut(&bench);
        reopen(&bench);
        cpu = make_label(&bench, "cpu");
        cr_assert_eq(select_count(&bench, cpu, "", NULL, NULL), SERIES / 10 * 9);
        cr_assert_not_null(imv_label_find_field(bench.catalog, cpu, IMV_STR("a")));
        bench_close(&bench);
    }
}

Test(catalog, a_persist_cut_by_a_crash_leaves_a_catalog) {
    /* Wherever the power goes during a persist, the next open finds a part of the definitions, each with its id, and
     * the journal's replay (here: defining them again) completes them. */
    enum { SERIES = 20000 };
    static uint64_t ids[SERIES];
    for (uint64_t crash = 1; crash <= 4; crash++) {
        struct bench bench = bench_open();
        struct imv_label *cpu = make_label(&bench, "cpu");
        make_field(&bench, cpu, "a", IMV_FLOAT);
        char text[32];
        for (int i = 0; i < SERIES; i++) {
            snprintf(text, sizeof text, "host=h%d", i);
            struct imv_series *series = make_series(&bench, cpu, text);
            ids[i] = imv_series_id(series);
            show(series, 1);
        }
        imv_kv_memory_arm(bench.disk, crash, IMV_KV_MEMORY_CRASH);
        cr_assert_eq(imv_catalog_persist(bench.catalog, NULL), IMV_IO);
        shut(&bench);
        imv_kv_memory_crash(bench.disk);
        reopen(&bench);
        cr_assert_eq(imv_catalog_define_label(bench.catalog, 0, IMV_STR("cpu"), &cpu, NULL), IMV_OK);
        cr_assert_eq(imv_catalog_define_field(bench.catalog, cpu, 0, IMV_STR("a"), IMV_FLOAT, NULL), IMV_OK);
        for (int i = SERIES - 1; i >= 0; i--) {
            snprintf(text, sizeof text, "host=h%d", i);
            struct imv_tag tags[1];
            struct imv_series *series;
            struct imv_error err;
            cr_assert_eq(
                imv_catalog_define_series(bench.catalog, ids[i], cpu, tags, parse_tags(text, tags), &series, &err),
                IMV_OK, "%s", err.message);
            show(series, 1);
        }
        cr_assert_eq(select_count(&bench, cpu, "", NULL, NULL), SERIES);
        persist(&bench);
        bench_close(&bench);
    }
}

Test(catalog, damaged_records_are_named) {
    /* Each flipped byte of any record makes the open fail with IMV_CORRUPT. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    make_field(&bench, cpu, "a", IMV_FLOAT);
    struct imv_series *series = make_series(&bench, cpu, "host=a");
    show(series, 1);
    persist(&bench);
    char keys[3][9] = {"L\0\0\0\0", "F\0\0\0\0\0\0\0\0", "S"};
    imv_put_be64(keys[2] + 1, imv_series_id(series));
    size_t sizes[3] = {5, 9, 9};
    shut(&bench);
    for (int i = 0; i < 3; i++) {
        size_t size;
        uint8_t *bytes = imv_kv_memory_bytes(bench.disk, IMV_KV_META, (struct imv_str){keys[i], sizes[i]}, &size);
        cr_assert_not_null(bytes);
        for (size_t at = 0; at < size; at++) {
            bytes[at] ^= 0x10;
            struct imv_kv *kv;
            struct imv_catalog *catalog;
            struct imv_error err;
            cr_assert_eq(imv_kv_memory_open(bench.disk, &kv, NULL), IMV_OK);
            cr_assert_eq(imv_catalog_open(kv, SHARDS, &catalog, &err), IMV_CORRUPT);
            imv_kv_close(kv);
            bytes[at] ^= 0x10;
        }
    }
    reopen(&bench);
    bench_close(&bench);
}

Test(catalog, definitions_may_be_replayed) {
    /* A definition makes the thing with its id, doing it again changes nothing, and a contradiction is IMV_CORRUPT. */
    struct bench bench = bench_open();
    struct imv_catalog *catalog = bench.catalog;
    struct imv_label *cpu, *label;
    cr_assert_eq(imv_catalog_define_label(catalog, 4, IMV_STR("cpu"), &cpu, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_define_label(catalog, 4, IMV_STR("cpu"), &label, NULL), IMV_OK);
    cr_assert(cpu == label && cpu->id == 4);
    cr_assert_null(imv_catalog_label_by_id(catalog, 3));
    cr_assert_eq(imv_catalog_define_label(catalog, 4, IMV_STR("mem"), &label, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_label(catalog, 5, IMV_STR("cpu"), &label, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_label(catalog, IMV_LABELS_MAX, IMV_STR("x"), &label, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_label(catalog, 2, IMV_STR("mem"), &label, NULL), IMV_OK);
    cr_assert_eq(make_label(&bench, "disk")->id, 5);

    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 0, IMV_STR("a"), IMV_FLOAT, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 0, IMV_STR("a"), IMV_FLOAT, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 0, IMV_STR("a"), IMV_STRING, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 1, IMV_STR("a"), IMV_FLOAT, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 0, IMV_STR("b"), IMV_FLOAT, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 2, IMV_STR("b"), IMV_FLOAT, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 1, IMV_STR("b"), (imv_type)0, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 1, IMV_STR("b"), (imv_type)6, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_field(catalog, cpu, 1, IMV_STR("b"), IMV_BOOLEAN, NULL), IMV_OK);

    struct imv_tag tags[] = {{IMV_STR("host"), IMV_STR("a")}}, others[] = {{IMV_STR("host"), IMV_STR("x")}};
    uint32_t shard = make_series(&bench, make_label(&bench, "probe"), "")->shard; /* any: the right one is tried for */
    struct imv_series *series = NULL, *again;
    imv_status status = IMV_CORRUPT;
    for (shard = 0; shard < SHARDS && status != IMV_OK; shard++) {
        status = imv_catalog_define_series(catalog, (uint64_t)shard << 40 | 7, cpu, tags, 1, &series, NULL);
        cr_assert(status == IMV_OK || status == IMV_CORRUPT);
    }
    cr_assert_eq(status, IMV_OK);
    uint64_t id = imv_series_id(series);
    cr_assert_eq(imv_catalog_define_series(catalog, id, cpu, tags, 1, &again, NULL), IMV_OK);
    cr_assert_eq(again, series);
    cr_assert_eq(imv_catalog_define_series(catalog, id + 1, cpu, tags, 1, &again, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_series(catalog, id, cpu, others, 1, &again, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_series(catalog, (uint64_t)SHARDS << 40, cpu, others, 1, &again, NULL), IMV_CORRUPT);
    cr_assert_eq(imv_catalog_define_series(catalog, id | UINT32_C(0x40000000), cpu, others, 1, &again, NULL),
                 IMV_CORRUPT);
    cr_assert_null(imv_catalog_series_by_id(catalog, id - 1));
    bench_close(&bench);
}

Test(catalog, a_gap_that_is_filled_late_is_persisted) {
    /* A series that a journal defines below what `meta` already held is written by the next persist. */
    struct bench bench = bench_open();
    struct imv_label *cpu = make_label(&bench, "cpu");
    struct imv_series *series[64];
    char tags[64][32];
    for (int i = 0; i < 64; i++) {
        snprintf(tags[i], sizeof tags[i], "host=h%d", i);
        series[i] = make_series(&bench, cpu, tags[i]);
        show(series[i], i % 2);
    }
    uint64_t id = imv_series_id(series[10]);
    persist(&bench);
    shut(&bench);
    reopen(&bench);
    cpu = make_label(&bench, "cpu");
    struct imv_tag parsed[1];
    parse_tags(tags[10], parsed);
    struct imv_series *late;
    cr_assert_null(imv_catalog_series_by_id(bench.catalog, id));
    cr_assert_eq(imv_catalog_define_series(bench.catalog, id, cpu, parsed, 1, &late, NULL), IMV_OK);
    persist(&bench);
    show(late, 3);
    persist(&bench);
    shut(&bench);
    reopen(&bench);
    cpu = make_label(&bench, "cpu");
    cr_assert_eq(select_count(&bench, cpu, "", NULL, NULL), 33);
    cr_assert_eq(select_count(&bench, cpu, tags[10], NULL, &late), 1);
    cr_assert_eq(imv_series_id(late), id);
    bench_close(&bench);
}

/* ---- against a model ---- */

enum { MODEL_SERIES = 3000, MODEL_KEYS = 5, MODEL_VALUES = 12 };

/* The model of a series: for each key 0 (absent) or 1 + the number of its value. */
struct model_series {
    uint8_t label, values[MODEL_KEYS];
    uint64_t visible_at;
    struct imv_series *series;
};

struct model {
    struct bench bench;
    struct imv_prng prng;
    struct imv_label *labels[2];
    struct model_series series[MODEL_SERIES];
    size_t count;
};

static const char *const model_keys[MODEL_KEYS] = {"host", "region", "a", "rack", "zone"};

static struct imv_str model_value(unsigned value) {
    static const char *const values[MODEL_VALUES] = {"a",  "b",    "aa", "host_1", "host_2", "0",
                                                     "ab", "ab\n", "ü",  "x y",    "=",      ","};
    return imv_str_from(values[value]);
}

static void model_create(struct model *model) {
    struct model_series made = {.label = (uint8_t)imv_prng_below(&model->prng, 2)};
    struct imv_tag tags[MODEL_KEYS];
    size_t tags_count = 0;
    for (int key = MODEL_KEYS - 1; key >= 0; key--) {
        made.values[key] = (uint8_t)imv_prng_below(&model->prng, MODEL_VALUES + 1);
        if (made.values[key] == 0) continue;
        tags[tags_count++] = (struct imv_tag){imv_str_from(model_keys[key]), model_value(made.values[key] - 1)};
    }
    struct imv_error err;
    cr_assert_eq(
        imv_catalog_series(model->bench.catalog, model->labels[made.label], tags, tags_count, &made.series, &err),
        IMV_OK, "%s", err.message);
    for (size_t i = 0; i < model->count; i++) {
        bool same = model->series[i].label == made.label &&
                    memcmp(model->series[i].values, made.values, sizeof made.values) == 0;
        cr_assert_eq(same, model->series[i].series == made.series);
        if (same) return;
    }
    model->series[model->count++] = made;
}

static int compare_series_ids(const void *a, const void *b) {
    uint64_t left = imv_series_id(*(struct imv_series *const *)a),
             right = imv_series_id(*(struct imv_series *const *)b);
    return (left > right) - (left < right);
}

/* A random tree of conditions, and the same as the model understands it: which values meet a leaf, 0 standing for an
 * absent tag. */
struct model_condition {
    struct imv_tag_selector selector;
    int key;
    bool allowed[MODEL_VALUES + 1];
    struct imv_str values[8];
    struct model_condition *parts;
};

static imv_status model_test(void *context, const struct imv_str *texts, size_t count, bool *matches,
                             struct imv_error *err) {
    (void)err;
    const struct model_condition *condition = context;
    for (size_t i = 0; i < count; i++) {
        unsigned value = 0;
        for (unsigned v = 0; v < MODEL_VALUES; v++) {
            if (texts[i].data != NULL && imv_str_equal(texts[i], model_value(v))) value = v + 1;
        }
        matches[i] = condition->allowed[value];
    }
    return IMV_OK;
}

static void model_leaf(struct model *model, struct model_condition *made) {
    struct imv_tag_selector *selector = &made->selector;
    made->key = (int)imv_prng_below(&model->prng, MODEL_KEYS + 1) - 1;
    selector->key = made->key < 0 ? IMV_STR("no such key") : imv_str_from(model_keys[made->key]);
    selector->kind = (enum imv_tag_selector_kind)imv_prng_below(&model->prng, IMV_TAG_TEST + 1);
    selector->values = made->values;
    selector->test = model_test;
    selector->context = made;
    bool named[MODEL_VALUES + 1] = {false};
    selector->values_count = selector->kind == IMV_TAG_PREFIX ? 1 : imv_prng_below(&model->prng, 8);
    for (size_t v = 0; v < selector->values_count; v++) {
        unsigned value = (unsigned)imv_prng_below(&model->prng, MODEL_VALUES + 1);
        made->values[v] = value == 0 ? IMV_STR("no such value") : model_value(value - 1);
        if (selector->kind == IMV_TAG_PREFIX && made->values[v].size > 1) made->values[v].size = 1;
        if (value > 0) named[value] = true;
    }
    for (unsigned value = 0; value <= MODEL_VALUES; value++) {
        struct imv_str text = value == 0 ? (struct imv_str){0} : model_value(value - 1);
        bool *allowed = &made->allowed[value];
        switch (selector->kind) {
            case IMV_TAG_IN: *allowed = value > 0 && named[value]; break;
            case IMV_TAG_NOT_IN: *allowed = value > 0 && !named[value]; break;
            case IMV_TAG_PRESENT: *allowed = value > 0; break;
            case IMV_TAG_ABSENT: *allowed = value == 0; break;
            case IMV_TAG_PREFIX: *allowed = value > 0 && text.data[0] == made->values[0].data[0]; break;
            default: *allowed = imv_prng_below(&model->prng, 2); break;
        }
    }
}

static struct model_condition *model_tree(struct model *model, struct imv_arena *arena, int height) {
    struct model_condition *made = imv_arena_calloc(arena, 1, sizeof *made);
    cr_assert_not_null(made);
    if (height == 0 || imv_prng_below(&model->prng, 3) == 0) {
        model_leaf(model, made);
        return made;
    }
    size_t count = imv_prng_below(&model->prng, 4);
    struct imv_tag_selector *parts = imv_arena_calloc(arena, count + 1, sizeof *parts);
    made->parts = imv_arena_calloc(arena, count + 1, sizeof *made->parts);
    cr_assert(parts != NULL && made->parts != NULL);
    made->selector.kind = imv_prng_below(&model->prng, 2) ? IMV_TAG_AND : IMV_TAG_OR;
    made->selector.parts = parts;
    made->selector.parts_count = count;
    for (size_t i = 0; i < count; i++) {
        struct model_condition *part = model_tree(model, arena, height - 1);
        made->parts[i] = *part;
        parts[i] = part->selector;
    }
    return made;
}

static bool model_meets(const struct model_series *series, const struct model_condition *condition) {
    const struct imv_tag_selector *selector = &condition->selector;
    if (selector->kind < IMV_TAG_AND)
        return condition->allowed[condition->key < 0 ? 0 : series->values[condition->key]];
    bool and = selector->kind == IMV_TAG_AND;
    for (size_t i = 0; i < selector->parts_count; i++) {
        if (model_meets(series, &condition->parts[i]) != and) return !and;
    }
    return and;
}

static bool model_shown(const struct model_series *series, const uint64_t *sequences) {
    if (series->visible_at == 0) return false;
    return sequences == NULL || series->visible_at <= IMV_SEQUENCE_LOADED ||
           series->visible_at <= sequences[series->series->shard];
}

static void model_select(struct model *model) {
    struct imv_arena arena;
    imv_arena_init(&arena, 4096, NULL);
    const struct model_condition *tree = model_tree(model, &arena, 3);
    uint64_t sequences[SHARDS];
    for (int i = 0; i < SHARDS; i++) sequences[i] = imv_prng_below(&model->prng, 110);
    const uint64_t *used = imv_prng_below(&model->prng, 2) ? sequences : NULL;
    uint8_t label = (uint8_t)imv_prng_below(&model->prng, 2);

    static struct imv_series *expected[MODEL_SERIES];
    size_t expected_count = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct model_series *series = &model->series[i];
        if (series->label != label || !model_meets(series, tree) || !model_shown(series, used)) continue;
        expected[expected_count++] = series->series;
    }
    qsort(expected, expected_count, sizeof expected[0], compare_series_ids);
    struct imv_series **found;
    size_t found_count;
    cr_assert_eq(imv_catalog_select(model->bench.catalog, model->labels[label], &tree->selector, used, &found,
                                    &found_count, NULL),
                 IMV_OK);
    cr_assert_eq(found_count, expected_count);
    for (size_t i = 0; i < found_count; i++) cr_assert_eq(found[i], expected[i]);
    free(found);
    imv_arena_release(&arena);
}

static void model_labels(struct model *model) {
    model->labels[0] = make_label(&model->bench, "cpu");
    model->labels[1] = make_label(&model->bench, "mem");
}

/* Persists and opens again: what was visible is there under its id, the rest is gone. */
static void model_restart(struct model *model) {
    static uint64_t ids[MODEL_SERIES];
    for (size_t i = 0; i < model->count; i++) ids[i] = imv_series_id(model->series[i].series);
    persist(&model->bench);
    shut(&model->bench);
    reopen(&model->bench);
    model_labels(model);
    size_t kept = 0;
    for (size_t i = 0; i < model->count; i++) {
        struct imv_series *series = imv_catalog_series_by_id(model->bench.catalog, ids[i]);
        cr_assert_eq(series != NULL, model->series[i].visible_at != 0);
        if (series == NULL) continue;
        model->series[kept] = model->series[i];
        model->series[kept].visible_at = IMV_SEQUENCE_LOADED;
        model->series[kept++].series = series;
    }
    model->count = kept;
}

Test(catalog, selections_equal_a_naive_scan, .timeout = 120) {
    /* Over random creations, first rows, persists and restarts a selection gives what a scan over all series gives. */
    static struct model model;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        memset(&model, 0, sizeof model);
        imv_prng_init(&model.prng, seed);
        model.bench = bench_open();
        model_labels(&model);
        for (int step = 0; step < 3000; step++) {
            unsigned what = (unsigned)imv_prng_below(&model.prng, 100);
            if (what < 50 && model.count < MODEL_SERIES) {
                model_create(&model);
            } else if (what < 80 && model.count > 0) {
                struct model_series *series = &model.series[imv_prng_below(&model.prng, model.count)];
                if (series->visible_at != 0) continue;
                series->visible_at = 2 + imv_prng_below(&model.prng, 100);
                show(series->series, series->visible_at);
            } else if (what < 99) {
                model_select(&model);
            } else if (imv_prng_below(&model.prng, 10) == 0) {
                model_restart(&model);
            } else {
                persist(&model.bench);
            }
        }
        bench_close(&model.bench);
    }
}

/* ---- threads ---- */

enum { CREATORS = 2, CREATED = 2000 };

static struct bench shared;

static void *create_many(void *context) {
    int number = *(int *)context;
    for (int i = 0; i < CREATED; i++) {
        char text[64];
        snprintf(text, sizeof text, "host=h%d,rack=r%d", i, i % 7); /* both creators make the same series */
        struct imv_label *label = make_label(&shared, i % 3 == 0 ? "cpu" : "mem");
        struct imv_series *series = make_series(&shared, label, text);
        if (series->shard % CREATORS == (uint32_t)number) show(series, 2);
        snprintf(text, sizeof text, "f%d", i % 300);
        const struct imv_field *field = make_field(&shared, label, text, IMV_FLOAT);
        const struct imv_shape *shape;
        cr_assert_eq(imv_label_shape(shared.catalog, label, &field, 1, &shape, NULL), IMV_OK);
    }
    return NULL;
}

static void *select_many(void *context) {
    _Atomic bool *stop = context;
    while (!atomic_load(stop)) {
        struct imv_label *label = imv_catalog_find_label(shared.catalog, IMV_STR("cpu"));
        if (label == NULL) continue;
        struct imv_str value = IMV_STR("r3");
        struct imv_tag_selector condition = {IMV_TAG_IN, .key = IMV_STR("rack"), .values = &value, .values_count = 1};
        struct imv_series **series;
        size_t count;
        cr_assert_eq(imv_catalog_select(shared.catalog, label, &condition, NULL, &series, &count, NULL), IMV_OK);
        for (size_t i = 0; i < count; i++) {
            struct imv_str text;
            cr_assert(imv_series_tag(series[i], IMV_STR("rack"), &text) && imv_str_equal(text, value));
            cr_assert_eq(imv_catalog_series_by_id(shared.catalog, imv_series_id(series[i])), series[i]);
        }
        free(series);
        const struct imv_field *field = imv_label_find_field(shared.catalog, label, IMV_STR("f3"));
        if (field != NULL) cr_assert_eq(imv_label_field_by_id(label, field->id), field);
        persist(&shared);
    }
    return NULL;
}

Test(catalog, creations_and_selections_run_side_by_side, .timeout = 120) {
    /* While threads create the same things and others select and persist, every name leads to one thing. */
    shared = bench_open();
    pthread_t creators[CREATORS], selectors[2];
    int numbers[CREATORS];
    _Atomic bool stop = false;
    for (int i = 0; i < 2; i++) cr_assert_eq(pthread_create(&selectors[i], NULL, select_many, &stop), 0);
    for (int i = 0; i < CREATORS; i++) {
        numbers[i] = i;
        cr_assert_eq(pthread_create(&creators[i], NULL, create_many, &numbers[i]), 0);
    }
    for (int i = 0; i < CREATORS; i++) pthread_join(creators[i], NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) pthread_join(selectors[i], NULL);
    uint32_t made = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) made += imv_catalog_series_count(shared.catalog, shard);
    cr_assert_eq(made, CREATED);
    cr_assert_eq(imv_catalog_labels_count(shared.catalog), 2);
    size_t shown = select_count(&shared, make_label(&shared, "cpu"), "", NULL, NULL) +
                   select_count(&shared, make_label(&shared, "mem"), "", NULL, NULL);
    cr_assert_eq(shown, CREATED);
    persist(&shared);
    bench_close(&shared);
}
