#include "connectors/config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static imv_status read_text(struct imv_config *config, const char *text, struct imv_error *err) {
    char path[] = "/tmp/imvdb-config-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    imv_config_init(config);
    imv_status status = imv_config_read(config, path, err);
    unlink(path);
    return status;
}

Test(config, every_kind_of_setting_is_read) {
    static struct imv_config config;
    struct imv_error err;
    cr_assert_eq(read_text(&config,
                           "[server]\ndata = /d\nhttp = 127.0.0.2:0\nilp = off\nio = epoll\nshards = 3\nlog = warn\n"
                           "[limits]\nconnections = 7\nseries = 9\nseries_per_label = 8\ncatalog_memory = "
                           "1MiB\nquery_memory = 3MiB\nqueries_memory = 5MiB\nquery_timeout = 90s\n"
                           "[storage]\nflush_age = 2h\nconsolidate_after = 3h\nfree_space = 2GiB\n[retention]\ncpu = "
                           "30d\n[series]\ncpu = 6\n",
                           &err),
                 IMV_OK, "%s", err.message);
    cr_expect_str_eq(config.data, "/d");
    cr_expect_str_eq(config.http.host, "127.0.0.2");
    cr_expect_eq(config.http.port, 0);
    cr_expect(config.ilp.off && config.epoll);
    cr_expect_eq(config.shards, 3);
    cr_expect_eq(config.connections_max, 7);
    cr_expect_eq(config.query_memory, 3u << 20);
    cr_expect_eq(config.queries_memory, 5u << 20);
    cr_expect_eq(config.free_space, UINT64_C(2) << 30);
    cr_expect_eq(config.query_timeout_ns, INT64_C(90) * 1000000000);
    cr_expect_eq(config.flush_age_ns, INT64_C(7200) * 1000000000);
    cr_expect_eq(config.consolidate_after_ns, INT64_C(10800) * 1000000000);
    cr_expect(config.series_max == 9 && config.label_series_max == 8 && config.catalog_memory == 1 << 20);
    cr_expect(config.series_limits_count == 1 && config.series_limits[0].series_max == 6);
    cr_expect_eq(config.retentions_count, 1);
    cr_expect_eq(config.retentions[0].retention_ns, INT64_C(30) * 86400 * 1000000000);
    cr_expect_eq(imv_config_check(&config, &err), IMV_OK, "%s", err.message);
}

Test(config, what_is_not_understood_is_refused_with_its_name_and_line) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"[server]\nport = 1\n", "'port'"},
        {"[sever]\ndata = x\n", "[sever]"},
        {"[server]\nhttp = 8086\n", "ADDRESS:PORT"},
        {"[limits]\nquery_memory = 3MB\n", "3MB"},
        {"[limits]\nquery_timeout = 3\n", "duration"},
        {"[server]\nshards = 65\n", "64"},
        {"[limits]\nquery_workers = 257\n", "256"},
        {"[server]\ndata\n", "line 2"},
        {"[retention]\ncpu = forever\n", "forever"},
        {"[server]\nhttp = host:1\n", "host:1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct imv_config config;
        struct imv_error err = {0};
        cr_expect_eq(read_text(&config, cases[i].text, &err), IMV_INVALID, "%s is taken", cases[i].text);
        cr_expect_not_null(strstr(err.message, cases[i].part), "'%s' does not name %s", err.message, cases[i].part);
    }
}

Test(config, only_loopback_is_bound_without_authentication) {
    static struct imv_config config;
    struct imv_error err;
    static const char *const open_to_all[] = {"0.0.0.0:1", "192.168.1.1:1", "[::]:1"}, *const loopback[] = {
                                                                                           "127.9.9.9:1", "[::1]:1"};
    for (size_t i = 0; i < 3; i++) {
        imv_config_init(&config);
        strcpy(config.data, "/d");
        cr_assert_eq(imv_config_set(&config, "server", "http", open_to_all[i], &err), IMV_OK, "%s", err.message);
        cr_expect_eq(imv_config_check(&config, &err), IMV_INVALID, "%s may be bound", open_to_all[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        imv_config_init(&config);
        strcpy(config.data, "/d");
        cr_assert_eq(imv_config_set(&config, "server", "http", loopback[i], &err), IMV_OK, "%s", err.message);
        cr_expect_eq(imv_config_check(&config, &err), IMV_OK, "%s", err.message);
    }
}
