#include "tests/support/program.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 64 };

const char *test_program(const char *source_directory) {
    static char path[4096];
    const char *given = getenv("IMV_PROGRAM");
    snprintf(path, sizeof path, "%s%s", given != NULL ? given : source_directory,
             given != NULL ? "" : "/build/release/imvdb");
    return access(path, X_OK) == 0 ? path : NULL;
}

void test_directory(char *path, size_t size, const char *name) {
    const char *place = getenv("TMPDIR");
    snprintf(path, size, "%s/imvdb-%s-XXXXXX", place == NULL ? "/tmp" : place, name);
    if (mkdtemp(path) == NULL) abort();
}

void test_directory_remove(const char *path) {
    const char *const arguments[] = {"-rf", path, NULL};
    test_run("/bin/rm", arguments, NULL, 0);
}

static void fill_arguments(char **argv, const char *program, const char *const *first, const char *const *second) {
    size_t count = 0;
    argv[count++] = (char *)(uintptr_t)program;
    for (; first != NULL && *first != NULL && count < ARGUMENTS_MAX; first++) argv[count++] = (char *)(uintptr_t)*first;
    for (; second != NULL && *second != NULL && count < ARGUMENTS_MAX; second++)
        argv[count++] = (char *)(uintptr_t)*second;
    argv[count] = NULL;
}

/* Reads lines of the server's standard output until "ready"; false at its end. */
static bool read_until_ready(struct test_server *server, int fd) {
    FILE *out = fdopen(fd, "r");
    char line[256], host[128];
    bool ready = false;
    while (!ready && fgets(line, sizeof line, out) != NULL) {
        char protocol[16];
        unsigned port;
        if (sscanf(line, "listening %15s %100[^:]:%u", protocol, host, &port) == 3) {
            if (strcmp(protocol, "http") == 0) server->http_port = (uint16_t)port;
            if (strcmp(protocol, "ilp") == 0) server->ilp_port = (uint16_t)port;
        }
        ready = strcmp(line, "ready\n") == 0;
    }
    fclose(out);
    snprintf(server->url, sizeof server->url, "http://127.0.0.1:%u", server->http_port);
    return ready;
}

bool test_server_start(struct test_server *server, const char *program, const char *const *extra) {
    const char *const arguments[] = {"serve",       "--data", server->directory, "--http",
                                     "127.0.0.1:0", "--ilp",  "127.0.0.1:0",     NULL};
    char *argv[ARGUMENTS_MAX + 1];
    int out[2];
    fill_arguments(argv, program, arguments, extra);
    snprintf(server->log, sizeof server->log, "%s.log", server->directory);
    if (pipe2(out, O_CLOEXEC) != 0) return false;
    server->pid = fork();
    if (server->pid == 0) {
        int log = open(server->log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        dup2(out[1], STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        alarm(0);
        execv(program, argv);
        _exit(127);
    }
    close(out[1]);
    bool ready = server->pid > 0 && read_until_ready(server, out[0]);
    if (!ready && server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
    }
    return ready;
}

int test_server_stop(struct test_server *server, int signal_number) {
    int status = 0;
    kill(server->pid, signal_number);
    while (waitpid(server->pid, &status, 0) < 0 && errno == EINTR) {}
    server->pid = 0;
    return status;
}

int test_run(const char *program, const char *const *arguments, char *output, size_t size) {
    char *argv[ARGUMENTS_MAX + 1];
    int out[2], status = 0;
    fill_arguments(argv, program, arguments, NULL);
    if (pipe2(out, O_CLOEXEC) != 0) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        execv(program, argv);
        _exit(127);
    }
    close(out[1]);
    size_t used = 0;
    char drop[4096];
    for (;;) {
        bool room = output != NULL && used + 1 < size;
        ssize_t got = read(out[0], room ? output + used : drop, room ? size - 1 - used : sizeof drop);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (room) used += (size_t)got;
    }
    if (output != NULL && size > 0) output[used] = 0;
    close(out[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

long test_resident_bytes(pid_t pid, bool peak) {
    char path[64], line[256];
    long kibibytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, peak ? "VmHWM: %ld" : "VmRSS: %ld", &kibibytes) == 1) break;
    }
    if (file != NULL) fclose(file);
    return kibibytes * 1024;
}

int test_connect(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}
