/* commands.h - the commands of the program: a row of the table in commands.c each, one file each.
 *
 * A command gets what follows its name on the command line, writes answers to standard output and everything else to
 * standard error, and returns the exit status: 0 done, 1 it failed (and said why), 2 it was called wrongly.
 */
#pragma once

#include "storage/base/status.h"

struct imv_command {
    const char *name;
    const char *summary; /* one line */
    const char *usage;   /* the whole help text */
    int (*run)(int argc, char **argv);
};

/* All commands, ended by a row of NULLs. */
extern const struct imv_command imv_commands[];

int imv_command_serve(int argc, char **argv);
int imv_command_shell(int argc, char **argv);
int imv_command_query(int argc, char **argv);
int imv_command_import(int argc, char **argv);
int imv_command_demo(int argc, char **argv);
int imv_command_check(int argc, char **argv);
int imv_command_inspect(int argc, char **argv);
int imv_command_backup(int argc, char **argv);
int imv_command_restore(int argc, char **argv);

/* Finds and runs the command of the program's arguments; "help", "--help" and "--version" are answered here. */
int imv_commands_run(int argc, char **argv);

/* Prints "imvdb <command>: <message>" to standard error; returns 1. */
int imv_command_fail(const char *command, const struct imv_error *err);

/* Prints why the call is wrong and where help is; returns 2. */
int imv_command_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
