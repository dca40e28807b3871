#include "connectors/cli/commands.h"
#include "connectors/server.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* --set section.key=value */
static imv_status set_by_name(struct imv_config *config, const char *text, struct imv_error *err) {
    char name[512];
    const char *equals = strchr(text, '='), *dot = strchr(text, '.');
    if (equals == NULL || dot == NULL || dot > equals || (size_t)(equals - text) >= sizeof name)
        return imv_fail(err, IMV_INVALID, "--set %s: SECTION.KEY=VALUE is expected", text);
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = 0;
    name[dot - text] = 0;
    return imv_config_set(config, name, name + (dot - text) + 1, equals + 1, err);
}

static imv_status set_flag(struct imv_config *config, const char *flag, const char *value, struct imv_error *err) {
    static const char *const direct[] = {"data", "http", "ilp", "bolt", "io", "shards", "log"};
    if (strcmp(flag, "config") == 0) return IMV_OK; /* read before the others */
    if (strcmp(flag, "set") == 0) return set_by_name(config, value, err);
    for (size_t i = 0; i < sizeof direct / sizeof *direct; i++) {
        if (strcmp(flag, direct[i]) == 0) return imv_config_set(config, "server", flag, value, err);
    }
    return imv_fail(err, IMV_INVALID, "there is no flag --%s", flag);
}

int imv_command_serve(int argc, char **argv) {
    static struct imv_config config; /* large: it holds the retention table */
    struct imv_error err;
    imv_config_init(&config);
    for (int i = 0; i < argc; i += 2) {
        if (strncmp(argv[i], "--", 2) != 0) return imv_command_usage("serve", "unexpected argument '%s'", argv[i]);
        if (i + 1 == argc) return imv_command_usage("serve", "%s needs a value", argv[i]);
        if (strcmp(argv[i], "--config") == 0 && imv_config_read(&config, argv[i + 1], &err) != IMV_OK)
            return imv_command_fail("serve", &err);
    }
    for (int i = 0; i < argc; i += 2) {
        if (set_flag(&config, argv[i] + 2, argv[i + 1], &err) != IMV_OK)
            return imv_command_usage("serve", "%s", err.message);
    }
    if (config.data[0] == 0) return imv_command_usage("serve", "no data directory given: --data DIR is needed");
    return imv_server_run(&config, &err) == IMV_OK ? 0 : imv_command_fail("serve", &err);
}
