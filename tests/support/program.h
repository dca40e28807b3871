/* program.h - runs the built program as a child process, for tests that look from outside. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct test_server {
    pid_t pid;
    uint16_t http_port, ilp_port;
    char url[64];
    char directory[256]; /* the data directory */
    char log[300];       /* standard error of the server */
};

/* $IMV_PROGRAM, or build/release/imvdb of the source tree (given as IMV_SOURCE_DIR); NULL when it is not there. */
const char *test_program(const char *source_directory);

/* A fresh directory under $TMPDIR or /tmp. */
void test_directory(char *path, size_t size, const char *name);
void test_directory_remove(const char *path);

/* Starts `serve` on server->directory with free ports and extra arguments (NULL-terminated, may be NULL), waits for
 * "ready". False when it does not come up within 60 s. */
bool test_server_start(struct test_server *server, const char *program, const char *const *extra);
/* Sends the signal and waits for the end; returns the wait status. */
int test_server_stop(struct test_server *server, int signal_number);

/* Runs program with arguments (NULL-terminated, argv[0] left out); output, when not NULL, gets up to size bytes of its
 * standard output and error. Returns its exit status, 128 + signal when killed. */
int test_run(const char *program, const char *const *arguments, char *output, size_t size);

/* Resident bytes of a process (VmRSS) and the peak (VmHWM). */
long test_resident_bytes(pid_t pid, bool peak);

/* A connected TCP socket to 127.0.0.1:port. */
int test_connect(uint16_t port);
