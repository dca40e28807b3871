#include "storage/base/metrics.h"

#include "storage/base/assert.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"

#include <inttypes.h>
#include <stdatomic.h>

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const struct {
    enum kind kind;
    const char *name, *help;
} table[] = {
#define METRIC(kind, name, help) {kind, "imvdb_" #name, help},
#include "storage/base/metrics.def"
#undef METRIC
};

/* Bucket i holds durations up to 2^i microseconds: 1 us to 67 s, which spans a cache hit and a hanging disk. */
enum { BUCKETS = 27 };

static struct {
    _Alignas(64) _Atomic int64_t value; /* histogram: sum of observations in ns */
    _Atomic uint64_t buckets[BUCKETS + 1];
} metrics[IMV_METRICS_COUNT];

void imv_metric_add(enum imv_metric metric, int64_t amount) {
    atomic_fetch_add_explicit(&metrics[metric].value, amount, memory_order_relaxed);
}

void imv_metric_set(enum imv_metric metric, int64_t value) {
    imv_assert(table[metric].kind == GAUGE);
    atomic_store_explicit(&metrics[metric].value, value, memory_order_relaxed);
}

void imv_metric_observe_ns(enum imv_metric metric, int64_t duration_ns) {
    imv_assert(table[metric].kind == HISTOGRAM);
    uint64_t microseconds = duration_ns <= 0 ? 0 : (uint64_t)(duration_ns - 1) / 1000;
    int bucket = microseconds == 0 ? 0 : 64 - __builtin_clzll(microseconds);
    if (bucket > BUCKETS) bucket = BUCKETS;
    atomic_fetch_add_explicit(&metrics[metric].buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics[metric].value, duration_ns, memory_order_relaxed);
}

int64_t imv_metric_value(enum imv_metric metric) {
    return atomic_load_explicit(&metrics[metric].value, memory_order_relaxed);
}

static void print_histogram(struct imv_buffer *out, int metric) {
    const char *name = table[metric].name;
    uint64_t count = 0;
    for (int i = 0; i < BUCKETS; i++) {
        count += atomic_load_explicit(&metrics[metric].buckets[i], memory_order_relaxed);
        imv_buffer_append_format(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)(1ull << i) * 1e-6, count);
    }
    count += atomic_load_explicit(&metrics[metric].buckets[BUCKETS], memory_order_relaxed);
    imv_buffer_append_format(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
    imv_buffer_append_format(out, "%s_sum %.9g\n%s_count %" PRIu64 "\n", name,
                             (double)imv_metric_value((enum imv_metric)metric) * 1e-9, name, count);
}

struct budget_column {
    struct imv_buffer *out;
    const char *name;
    size_t (*read)(struct imv_budget *budget);
};

static size_t read_peak(struct imv_budget *budget) {
    return atomic_load_explicit(&budget->bytes_peak, memory_order_relaxed);
}
static size_t read_limit(struct imv_budget *budget) { return budget->bytes_max; }
static size_t read_refusals(struct imv_budget *budget) {
    return atomic_load_explicit(&budget->refusals, memory_order_relaxed);
}

static void print_budget(struct imv_budget *budget, void *context) {
    struct budget_column *column = context;
    imv_buffer_append_format(column->out, "%s{pool=\"%s\"} %zu\n", column->name, budget->name, column->read(budget));
}

static void print_budgets(struct imv_buffer *out, const char *name, const char *type, const char *help,
                          size_t (*read)(struct imv_budget *budget)) {
    imv_buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    struct budget_column column = {out, name, read};
    imv_budget_each(print_budget, &column);
}

void imv_metrics_print(struct imv_buffer *out) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    for (int i = 0; i < IMV_METRICS_COUNT; i++) {
        const char *name = table[i].name;
        imv_buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, table[i].help, name, kinds[table[i].kind]);
        if (table[i].kind == HISTOGRAM)
            print_histogram(out, i);
        else
            imv_buffer_append_format(out, "%s %" PRId64 "\n", name, imv_metric_value((enum imv_metric)i));
    }
    print_budgets(out, "imvdb_memory_bytes", "gauge", "Memory taken from a pool", imv_budget_used);
    print_budgets(out, "imvdb_memory_peak_bytes", "gauge", "Most memory ever taken from a pool", read_peak);
    print_budgets(out, "imvdb_memory_limit_bytes", "gauge", "Limit of a pool", read_limit);
    print_budgets(out, "imvdb_memory_refusals_total", "counter", "Takes that a pool refused", read_refusals);
}
