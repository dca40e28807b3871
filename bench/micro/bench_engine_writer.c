/* bench_engine_writer - what it costs to put rows into batches, and to make and select series.
 *
 *     bench_engine_writer [series]
 *
 * Lines of ten integer fields of `series` series (default 4,000) in turn, as TSBS's cpu-only set sends them: cache
 * lookup, begin, ten fields, end, send; a consumer on the same thread frees the batches. Then creation, memory and
 * selection of a million series of ten tags.
 */
#include "engine/exchange.h"
#include "engine/writer.h"
#include "storage/base/assert.h"
#include "storage/kv.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FIELDS = 10, TAGS = 10, ROWS = 4000000, MANY = 1000000, SHARDS = 2 };

static const char *const fields[FIELDS] = {"usage_user",   "usage_system",    "usage_idle",    "usage_nice",
                                           "usage_iowait", "usage_irq",       "usage_softirq", "usage_steal",
                                           "usage_guest",  "usage_guest_nice"};

/* CPU time of the thread: the figures hold on a busy machine too. Waiting for the disk is not in them. */
static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The raw key of TSBS's cpu measurement for a host, and its tags. */
static size_t make_key(char *raw, size_t size, struct imv_tag *tags, uint32_t host) {
    static const char *const keys[TAGS] = {
        "hostname", "region",          "datacenter",         "rack", "os", "arch", "team",
        "service",  "service_version", "service_environment"};
    size_t used = (size_t)snprintf(raw, size, "cpu");
    for (int i = 0; i < TAGS; i++) {
        static const uint32_t different[TAGS] = {UINT32_MAX, 9, 27, 100, 3, 2, 4, 20, 2, 3};
        size_t at = used + strlen(keys[i]) + 2;
        used += (size_t)snprintf(raw + used, size - used, ",%s=%s_%" PRIu32, keys[i], i == 0 ? "host" : "value",
                                 host * 2654435761u % different[i]);
        if (i == 0) used = at + (size_t)snprintf(raw + at, size - at, "host_%" PRIu32, host);
        tags[i] = (struct imv_tag){imv_str_from(keys[i]), {raw + at, used - at}};
    }
    return used;
}

static struct imv_series *resolve(struct imv_writer *writer, struct imv_str raw, const struct imv_tag *tags) {
    struct imv_series *series = imv_writer_find_series(writer, raw);
    if (series != NULL) return series;
    imv_status status = imv_writer_make_series(writer, raw, IMV_STR("cpu"), tags, TAGS, &series, NULL);
    imv_assert(status == IMV_OK);
    return series;
}

static void drain(struct imv_exchange *exchange) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct imv_spsc *queue = &imv_exchange_cell(exchange, shard, 0)->queue;
        for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL;) imv_batch_free(batch);
    }
}

struct keys {
    char (*raw)[320];
    size_t *sizes;
};

static void bench_rows(struct imv_writer *writer, struct imv_exchange *exchange, uint32_t series_count) {
    struct keys keys = {malloc(series_count * sizeof *keys.raw), malloc(series_count * sizeof *keys.sizes)};
    imv_assert(keys.raw != NULL && keys.sizes != NULL);
    struct imv_tag tags[TAGS];
    struct imv_str names[FIELDS];
    for (int i = 0; i < FIELDS; i++) names[i] = imv_str_from(fields[i]);
    for (uint32_t i = 0; i < series_count; i++) {
        keys.sizes[i] = make_key(keys.raw[i], sizeof keys.raw[i], tags, i);
        struct imv_series *series = resolve(writer, (struct imv_str){keys.raw[i], keys.sizes[i]}, tags);
        atomic_store(&series->visible_at, IMV_SEQUENCE_LOADED);
    }
    for (int cached = 1; cached >= 0; cached--) {
        struct imv_series *fixed = resolve(writer, (struct imv_str){keys.raw[0], keys.sizes[0]}, tags);
        int64_t start = now_ns();
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t host = i % series_count;
            struct imv_series *series =
                cached ? fixed : imv_writer_find_series(writer, (struct imv_str){keys.raw[host], keys.sizes[host]});
            imv_assert(imv_writer_has_room(writer));
            imv_status status = imv_writer_begin(writer, series, FIELDS, 0, NULL);
            for (uint32_t f = 0; f < FIELDS; f++)
                status |= imv_writer_field(writer, names[f], IMV_INTEGER, i + f, NULL);
            status |= imv_writer_end(writer, i, NULL);
            imv_assert(status == IMV_OK);
            if (i % 4096 == 0) {
                imv_writer_send(writer);
                drain(exchange);
            }
        }
        imv_writer_send(writer);
        drain(exchange);
        printf("writer row 10 fields, %s: %.1f ns\n", cached ? "series given" : "with series lookup",
               (double)(now_ns() - start) / ROWS);
    }
    free(keys.raw);
    free(keys.sizes);
}

static void bench_series(struct imv_catalog *catalog) {
    struct imv_label *label;
    imv_status status = imv_catalog_label(catalog, IMV_STR("many"), &label, NULL);
    struct imv_tag tags[TAGS];
    char raw[320];
    struct mallinfo2 before = mallinfo2();
    int64_t start = now_ns(), longest = 0;
    for (uint32_t i = 0; i < MANY && status == IMV_OK; i++) {
        make_key(raw, sizeof raw, tags, i);
        struct imv_series *series;
        int64_t one = now_ns();
        status = imv_catalog_series(catalog, label, tags, TAGS, &series, NULL);
        one = now_ns() - one;
        if (one > longest) longest = one;
        atomic_store(&series->visible_at, IMV_SEQUENCE_LOADED);
    }
    imv_assert(status == IMV_OK);
    struct mallinfo2 after = mallinfo2();
    printf("make %d series of %d tags: %.0f ns each, longest %.2f ms, %.0f bytes each\n", MANY, TAGS,
           (double)(now_ns() - start) / MANY, (double)longest / 1e6,
           (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / MANY);
    static const char *const conditions[] = {"hostname=host_77", "region=value_3", "rack=value_5", ""};
    for (size_t c = 0; c < sizeof conditions / sizeof conditions[0]; c++) {
        const char *equals = strchr(conditions[c], '=');
        struct imv_str value = equals == NULL ? IMV_STR("") : imv_str_from(equals + 1);
        struct imv_tag_selector condition = {
            .kind = IMV_TAG_IN,
            .key = {conditions[c], equals == NULL ? 0 : (size_t)(equals - conditions[c])},
            .values = &value,
            .values_count = 1};
        struct imv_series **series;
        size_t count;
        start = now_ns();
        status = imv_catalog_select(catalog, label, equals == NULL ? NULL : &condition, NULL, &series, &count, NULL);
        imv_assert(status == IMV_OK);
        printf("select {%s} of %d: %zu series, %.3f ms\n", conditions[c], MANY, count,
               (double)(now_ns() - start) / 1e6);
        free(series);
    }
    start = now_ns();
    status = imv_catalog_persist(catalog, NULL);
    imv_assert(status == IMV_OK);
    printf("persist: %.2f s\n", (double)(now_ns() - start) / 1e9);
}

int main(int argc, char **argv) {
    uint32_t series_count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 4000;
    char directory[] = "/tmp/bench_engine_writer.XXXXXX", command[64];
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_writer *writer;
    struct imv_error err = {0};
    if (mkdtemp(directory) == NULL) return 1;
    imv_status status = imv_kv_open(directory, &kv, &err);
    if (status == IMV_OK) status = imv_catalog_open(kv, SHARDS, &catalog, &err);
    if (status == IMV_OK) status = imv_exchange_init(&exchange, SHARDS, NULL, NULL, &err);
    if (status == IMV_OK) status = imv_writer_new_for(catalog, &exchange, NULL, 0, &writer, &err);
    if (status != IMV_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    bench_rows(writer, &exchange, series_count);
    bench_series(catalog);
    imv_writer_free(writer);
    imv_exchange_release(&exchange);
    imv_catalog_close(catalog);
    int64_t start = now_ns();
    status = imv_catalog_open(kv, SHARDS, &catalog, &err);
    imv_assert(status == IMV_OK);
    printf("open again: %.2f s\n", (double)(now_ns() - start) / 1e9);
    imv_catalog_close(catalog);
    imv_kv_close(kv);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}
