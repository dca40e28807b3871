#include "engine/inspect.h"
#include "connectors/cli/commands.h"

#include <stdio.h>
#include <string.h>

static void print_line(void *context, const char *line) {
    (void)context;
    printf("%s\n", line);
}

int imv_command_inspect(int argc, char **argv) {
    struct imv_inspect_options options = {.report = print_line};
    const char *path = NULL;
    struct imv_error err;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--series") == 0)
            options.series = true;
        else if (strcmp(argv[i], "--chunks") == 0)
            options.chunks = true;
        else if (strncmp(argv[i], "--", 2) == 0 || path != NULL)
            return imv_command_usage("inspect", "what is '%s'", argv[i]);
        else
            path = argv[i];
    }
    if (path == NULL) return imv_command_usage("inspect", "a data directory or a file of one is expected");
    return imv_engine_inspect(path, &options, &err) == IMV_OK ? 0 : imv_command_fail("inspect", &err);
}
