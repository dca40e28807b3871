#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *print(struct imv_buffer *out) {
    imv_buffer_init(out, 1 << 20);
    imv_metrics_print(out);
    cr_assert(imv_buffer_append_char(out, 0));
    return out->data;
}

static void expect(const char *text, const char *line) {
    char whole[256];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    cr_assert(strstr(text, whole) != NULL, "%s is not in:\n%s", line, text);
}

/* Counters and gauges are printed with their help and type, and hold what was added and set. */
Test(metrics, prints_counters_and_gauges) {
    imv_metric_add(IMV_METRIC_wal_groups_total, 5);
    imv_metric_add(IMV_METRIC_wal_groups_total, 2);
    imv_metric_set(IMV_METRIC_connections, 9);
    imv_metric_add(IMV_METRIC_connections, -4);
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections), 5);
    struct imv_buffer out;
    const char *text = print(&out);
    expect(text, "# HELP imvdb_wal_groups_total Journal groups made durable");
    expect(text, "# TYPE imvdb_wal_groups_total counter");
    expect(text, "imvdb_wal_groups_total 7");
    expect(text, "# TYPE imvdb_connections gauge");
    expect(text, "imvdb_connections 5");
    imv_buffer_release(&out);
}

/* An observation counts in the first bucket that is not below it and in all after it; the bounds belong to their
 * bucket. */
Test(metrics, prints_histograms) {
    static const int64_t durations_ns[] = {0, 1, 1000, 1001, 2000, 2001, 70000000000, 500000000000};
    for (int i = 0; i < 8; i++) imv_metric_observe_ns(IMV_METRIC_wal_sync_seconds, durations_ns[i]);
    struct imv_buffer out;
    const char *text = print(&out);
    expect(text, "# TYPE imvdb_wal_sync_seconds histogram");
    expect(text, "imvdb_wal_sync_seconds_bucket{le=\"1e-06\"} 3");
    expect(text, "imvdb_wal_sync_seconds_bucket{le=\"2e-06\"} 5");
    expect(text, "imvdb_wal_sync_seconds_bucket{le=\"4e-06\"} 6");
    expect(text, "imvdb_wal_sync_seconds_bucket{le=\"67.1089\"} 6");
    expect(text, "imvdb_wal_sync_seconds_bucket{le=\"+Inf\"} 8");
    expect(text, "imvdb_wal_sync_seconds_count 8");
    expect(text, "imvdb_wal_sync_seconds_sum 570.000006");
    imv_buffer_release(&out);
}

/* Budgets are printed along, each as a pool. */
Test(metrics, prints_budgets) {
    struct imv_budget budget;
    imv_budget_init(&budget, "test_pool", 100);
    imv_budget_take(&budget, 30);
    imv_budget_take(&budget, 300);
    struct imv_buffer out;
    const char *text = print(&out);
    expect(text, "imvdb_memory_bytes{pool=\"test_pool\"} 30");
    expect(text, "imvdb_memory_peak_bytes{pool=\"test_pool\"} 30");
    expect(text, "imvdb_memory_limit_bytes{pool=\"test_pool\"} 100");
    expect(text, "imvdb_memory_refusals_total{pool=\"test_pool\"} 1");
    imv_buffer_release(&out);
    imv_budget_give(&budget, 30);
    imv_budget_release(&budget);
}

/* Every line is a comment or a name with a value: what a scraper accepts. */
Test(metrics, prints_lines_that_parse) {
    struct imv_buffer out;
    char *text = print(&out);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP imvdb_", 13) == 0 || strncmp(line, "# TYPE imvdb_", 13) == 0) continue;
        cr_assert(strncmp(line, "imvdb_", 6) == 0, "%s", line);
        const char *value = strrchr(line, ' ');
        char *end;
        cr_assert_not_null(value, "%s", line);
        strtod(value + 1, &end);
        cr_assert(end != value + 1 && *end == 0, "%s", line);
    }
    imv_buffer_release(&out);
}
