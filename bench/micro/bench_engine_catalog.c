/* bench_engine_catalog - what series cost: bytes, time to make, to select, to write and to load again.
 *
 *     bench_engine_catalog [series]
 *
 * Series of ten tags as TSBS has them (default 1,000,000): a host name of its own, and nine tags of 2 to 100 values.
 */
#include "engine/catalog_internal.h"
#include "storage/base/assert.h"
#include "storage/kv.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TAGS = 10, SHARDS = 2, ROUNDS = 5, KEYS_AT_ONCE = 4096 };

/* CPU time of the thread: the figures hold on a busy machine too. Waiting for the disk is not in them. */
static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static size_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static size_t resident_bytes(void) {
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
        fclose(file);
    }
    return (size_t)resident * 4096;
}

struct key {
    char text[320];
    struct imv_tag tags[TAGS];
};

static void make_key(struct key *key, uint32_t host) {
    static const char *const keys[TAGS] = {"arch",    "datacenter",          "hostname",        "os",  "rack", "region",
                                           "service", "service_environment", "service_version", "team"};
    static const char *const formats[TAGS] = {"x%" PRIu32, "eu-west-1%" PRIu32, "host_%" PRIu32, "Ubuntu16.%" PRIu32,
                                              "%" PRIu32,  "region-%" PRIu32,   "%" PRIu32,      "env%" PRIu32,
                                              "%" PRIu32,  "team%" PRIu32};
    static const uint32_t different[TAGS] = {2, 27, UINT32_MAX, 3, 100, 9, 20, 3, 2, 4};
    size_t used = 0;
    for (int i = 0; i < TAGS; i++) {
        uint32_t value = i == 2 ? host : (host + 1) * 2654435761u % 1000003 % different[i];
        size_t size = (size_t)snprintf(key->text + used, sizeof key->text - used, formats[i], value);
        key->tags[i] = (struct imv_tag){imv_str_from(keys[i]), {key->text + used, size}};
        used += size;
    }
}

static void bench_making(struct imv_catalog *catalog, uint32_t series_count) {
    struct key *keys = malloc(KEYS_AT_ONCE * sizeof *keys);
    struct imv_label *label;
    imv_assert(keys != NULL);
    imv_status status = imv_catalog_label(catalog, IMV_STR("cpu"), &label, NULL);
    size_t heap_before = heap_bytes(), resident_before = resident_bytes();
    int64_t elapsed_ns = 0;
    for (uint32_t first = 0; first < series_count && status == IMV_OK; first += KEYS_AT_ONCE) {
        uint32_t count = series_count - first < KEYS_AT_ONCE ? series_count - first : KEYS_AT_ONCE;
        for (uint32_t i = 0; i < count; i++) make_key(&keys[i], first + i);
        int64_t start = now_ns();
        for (uint32_t i = 0; i < count && status == IMV_OK; i++) {
            struct imv_series *series;
            status = imv_catalog_series(catalog, label, keys[i].tags, TAGS, &series, NULL);
            atomic_store(&series->visible_at, 2);
        }
        elapsed_ns += now_ns() - start;
    }
    imv_assert(status == IMV_OK);
    printf("make: %.0f ns each, %.0f bytes each in the heap, %.0f resident\n", (double)elapsed_ns / series_count,
           (double)(heap_bytes() - heap_before) / series_count,
           (double)(resident_bytes() - resident_before) / series_count);
    free(keys);
}

static void bench_finding(struct imv_catalog *catalog, uint32_t series_count) {
    enum { FOUND = 200000 };
    struct key *keys = malloc(KEYS_AT_ONCE * sizeof *keys);
    struct imv_label *label = imv_catalog_find_label(catalog, IMV_STR("cpu"));
    int64_t elapsed_ns = 0;
    imv_assert(keys != NULL);
    for (uint32_t first = 0; first < FOUND; first += KEYS_AT_ONCE) {
        for (uint32_t i = 0; i < KEYS_AT_ONCE; i++) make_key(&keys[i], (first + i) * 7919u % series_count);
        int64_t start = now_ns();
        for (uint32_t i = 0; i < KEYS_AT_ONCE; i++) {
            struct imv_series *series;
            imv_status status = imv_catalog_series(catalog, label, keys[i].tags, TAGS, &series, NULL);
            imv_assert(status == IMV_OK);
        }
        elapsed_ns += now_ns() - start;
    }
    printf("find by tags: %.0f ns each\n", (double)elapsed_ns / FOUND);
    free(keys);
}

static imv_status contains_77(void *context, const struct imv_str *texts, size_t count, bool *matches,
                              struct imv_error *err) {
    (void)context, (void)err;
    for (size_t i = 0; i < count; i++) {
        matches[i] = texts[i].data != NULL && memmem(texts[i].data, texts[i].size, "77", 2) != NULL;
    }
    return IMV_OK;
}

static void bench_select(struct imv_catalog *catalog, const char *text, const struct imv_tag_selector *selector) {
    struct imv_label *label = imv_catalog_find_label(catalog, IMV_STR("cpu"));
    const uint64_t sequences[SHARDS] = {3, 3};
    int64_t best_ns = INT64_MAX;
    size_t count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct imv_series **series;
        int64_t start = now_ns();
        imv_status status = imv_catalog_select(catalog, label, selector, sequences, &series, &count, NULL);
        int64_t elapsed_ns = now_ns() - start;
        imv_assert(status == IMV_OK);
        if (elapsed_ns < best_ns) best_ns = elapsed_ns;
        free(series);
    }
    printf("select %-44s %9zu series, %8.3f ms\n", text, count, (double)best_ns / 1e6);
}

static void bench_selections(struct imv_catalog *catalog) {
    const struct imv_str host = IMV_STR("host_77"), region = IMV_STR("region-3"), rack = IMV_STR("12");
    const struct imv_str prefix = IMV_STR("host_77");
    const struct imv_tag_selector hostname = {IMV_TAG_IN, .key = IMV_STR("hostname"), &host, 1},
                                  in_region = {IMV_TAG_IN, .key = IMV_STR("region"), &region, 1},
                                  in_rack = {IMV_TAG_IN, .key = IMV_STR("rack"), &rack, 1},
                                  not_region = {IMV_TAG_NOT_IN, .key = IMV_STR("region"), &region, 1},
                                  starts = {IMV_TAG_PREFIX, .key = IMV_STR("hostname"), &prefix, 1},
                                  contains = {IMV_TAG_TEST, .key = IMV_STR("hostname"), .test = contains_77},
                                  absent = {IMV_TAG_ABSENT, .key = IMV_STR("region")};
    const struct imv_tag_selector both[] = {in_region, in_rack}, three[] = {in_region, in_rack, hostname};
    const struct imv_tag_selector and = {IMV_TAG_AND, .parts = both, .parts_count = 2},
                                  or = {IMV_TAG_OR, .parts = both, .parts_count = 2},
                                  and_three = {IMV_TAG_AND, .parts = three, .parts_count = 3};
    bench_select(catalog, "hostname = 'host_77'", &hostname);
    bench_select(catalog, "region = 'region-3'", &in_region);
    bench_select(catalog, "region = 'region-3' AND rack = '12'", &and);
    bench_select(catalog, "region = .. AND rack = .. AND hostname = ..", &and_three);
    bench_select(catalog, "region = 'region-3' OR rack = '12'", & or);
    bench_select(catalog, "region <> 'region-3'", &not_region);
    bench_select(catalog, "region IS NULL", &absent);
    bench_select(catalog, "hostname STARTS WITH 'host_77'", &starts);
    bench_select(catalog, "hostname CONTAINS '77'", &contains);
    bench_select(catalog, "all", NULL);
}

int main(int argc, char **argv) {
    uint32_t series_count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    char directory[] = "/tmp/bench_engine_catalog.XXXXXX", command[64];
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_error err = {0};
    if (series_count == 0 || mkdtemp(directory) == NULL) return 1;
    imv_status status = imv_kv_open(directory, &kv, &err);
    if (status == IMV_OK) status = imv_catalog_open(kv, SHARDS, &catalog, &err);
    if (status != IMV_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    imv_catalog_set_limits(catalog, &(struct imv_catalog_limits){UINT64_MAX, UINT64_MAX, UINT64_MAX});
    printf("%" PRIu32 " series of %d tags\n", series_count, TAGS);
    bench_making(catalog, series_count);
    bench_finding(catalog, series_count);
    int64_t start = now_ns();
    status = imv_catalog_persist(catalog, NULL);
    imv_assert(status == IMV_OK);
    printf("persist: %.2f s\n", (double)(now_ns() - start) / 1e9);
    bench_selections(catalog);
    imv_catalog_close(catalog);
    start = now_ns();
    status = imv_catalog_open(kv, SHARDS, &catalog, &err);
    imv_assert(status == IMV_OK);
    printf("open again: %.2f s\n", (double)(now_ns() - start) / 1e9);
    imv_catalog_close(catalog);
    imv_kv_close(kv);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}
