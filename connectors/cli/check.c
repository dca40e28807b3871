#include "connectors/cli/commands.h"
#include "engine/engine.h"

#include <stdio.h>

static void print_line(void *context, const char *line) {
    (void)context;
    printf("%s\n", line);
}

int imv_command_check(int argc, char **argv) {
    struct imv_error err;
    if (argc != 1) return imv_command_usage("check", "one data directory is expected");
    if (imv_engine_check(argv[0], print_line, NULL, &err) != IMV_OK) return imv_command_fail("check", &err);
    return 0;
}
