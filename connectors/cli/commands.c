#include "connectors/cli/commands.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const struct imv_command imv_commands[] = {
    {"serve", "run the server",
     "imvdb serve --data DIR [--config FILE] [--http ADDR:PORT] [--ilp ADDR:PORT] [--bolt off] [--io auto|epoll]\n"
     "            [--set SECTION.KEY=VALUE]...\n"
     "\n"
     "Runs a server on one data directory until SIGTERM or SIGINT. Port 0 picks a free port, `off` disables a "
     "listener.\n"
     "Prints one line per listener (`listening http 127.0.0.1:8086`), then `ready`. --set changes any setting of the\n"
     "configuration file, for example --set retention.cpu=30d or --set limits.query_timeout=1m.\n",
     imv_command_serve},
    {"shell", "ask questions interactively",
     "imvdb shell [--url URL]\n"
     "\n"
     "Reads TwinQL statements, ended by `;` or an empty line, and prints their rows. `:help` lists what else it "
     "knows.\n",
     imv_command_shell},
    {"query", "run one statement",
     "imvdb query [--url URL] [--param NAME=VALUE]... [--format table|json|ndjson|csv|arrow] [--time ns] TEXT\n"
     "\n"
     "VALUE is JSON (3, 2.5, true, [\"a\",\"b\"]) or else taken as text. TEXT `-` reads the statement from standard "
     "input.\n",
     imv_command_query},
    {"import", "load files of line protocol or CSV",
     "imvdb import --format ilp [--url URL] [--precision ns|us|ms|s] [--resume] FILE...\n"
     "imvdb import --format csv --label LABEL [--url URL] [--time COLUMN] [--tag COLUMN]... [--tag NAME=VALUE]...\n"
     "             [--zone ZONE] [--delimiter CHAR|tab] [--date-order dmy|mdy] [--resume] FILE...\n"
     "\n"
     "CSV: the delimiter (, ; tab |), the time column and its format are found when not given; times without a zone "
     "are\n"
     "UTC unless --zone names another (Europe/Berlin). Columns are integers, floats, booleans or strings by their "
     "content;\n"
     "empty cells are left out. Each batch is durable before the next is sent; --resume goes on after an "
     "interruption.\n",
     imv_command_import},
    {"demo", "feed a simulated plant into a server",
     "imvdb demo [--url URL] [--history DURATION] [--duration DURATION] [--step DURATION] [--seed N]\n"
     "\n"
     "Simulates pumps, tanks, valves, a packaging line and avatars: first the past (--history, default 1h), then live\n"
     "until --duration passed or it is interrupted.\n",
     imv_command_demo},
    {"check", "verify a data directory offline",
     "imvdb check DIR\n"
     "\n"
     "Verifies every checksum, chain and invariant of a data directory that no server has open. Exit status 1 when\n"
     "anything is damaged.\n",
     imv_command_check},
    {"inspect", "print what a data directory or a file of it holds",
     "imvdb inspect DIR [--series] [--chunks]\n"
     "imvdb inspect FILE\n"
     "\n"
     "Of a data directory that no server has open: journal groups, parts, labels, fields and tags; --series adds each "
     "series,\n"
     "--chunks each chunk with the codec and the bytes (data+statistics) of each column of each vector. FILE is a "
     "journal\n"
     "segment (also of a running server), FORMAT, or the MANIFEST of a backup. `imvdb check` is what judges.\n",
     imv_command_inspect},
    {"backup", "copy a running server's data",
     "imvdb backup [--url URL] DIR|-\n"
     "\n"
     "Copies everything that was acknowledged before the call, while the server goes on, into a new directory, or as a "
     "tar\n"
     "archive to standard output. Every file's hash is in its MANIFEST, which is written last: without it there is no\n"
     "backup.\n",
     imv_command_backup},
    {"restore", "make a data directory of a backup",
     "imvdb restore DIR|FILE|- --data DIR\n"
     "\n"
     "Takes a backup's directory or archive (`-`: from standard input) into an empty or new data directory, verifies "
     "every\n"
     "hash, then everything as `imvdb check` does. Only then it is done; a directory that was not restored to its end\n"
     "does not pass for one.\n",
     imv_command_restore},
    {NULL, NULL, NULL, NULL},
};

int imv_command_fail(const char *command, const struct imv_error *err) {
    fprintf(stderr, "imvdb %s: %s\n", command, err->message);
    return 1;
}

int imv_command_usage(const char *command, const char *format, ...) {
    va_list args;
    fprintf(stderr, "imvdb %s: ", command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; see `imvdb help %s`\n", command);
    return 2;
}

static const struct imv_command *find(const char *name) {
    for (const struct imv_command *command = imv_commands; command->name != NULL; command++) {
        if (strcmp(command->name, name) == 0) return command;
    }
    return NULL;
}

static int print_overview(FILE *out, int status) {
    fprintf(out, "imvdb - datastore of an industrial metaverse\n\n");
    for (const struct imv_command *command = imv_commands; command->name != NULL; command++)
        fprintf(out, "  imvdb %-8s %s\n", command->name, command->summary);
    fprintf(out, "\n`imvdb help COMMAND` tells more.\n");
    return status;
}

int imv_commands_run(int argc, char **argv) {
    if (argc < 2) return print_overview(stderr, 2);
    if (strcmp(argv[1], "--version") == 0) {
        printf("imvdb %s\n", IMV_VERSION);
        return 0;
    }
    bool help = strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0;
    if (help && argc < 3) return print_overview(stdout, 0);
    const struct imv_command *command = find(argv[help ? 2 : 1]);
    if (command == NULL) {
        fprintf(stderr, "imvdb: there is no command '%s'\n", argv[help ? 2 : 1]);
        return print_overview(stderr, 2);
    }
    if (help || (argc > 2 && strcmp(argv[2], "--help") == 0)) {
        printf("%s", command->usage);
        return 0;
    }
    return command->run(argc - 2, argv + 2);
}
