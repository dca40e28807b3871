/* backup.c - the commands `backup` and `restore`: a server's data to a directory or archive, and back. */
#include "connectors/cli/client.h"
#include "connectors/cli/commands.h"
#include "engine/engine.h"
#include "engine/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 * 1024 };

/* ---- backup ---- */

/* Where the archive goes while the reply is a good one; its status is known only after it. What is no archive is a
 * message of the server. */
struct taker {
    struct imv_restore *restore; /* NULL: to standard output */
    uint64_t bytes;
    struct imv_buffer refusal; /* the reply, when it does not look like an archive */
    bool looked, refused;
    struct imv_error err;
};

static bool write_whole(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

static bool take(void *context, const char *bytes, size_t size) {
    struct taker *taker = context;
    if (!taker->looked) taker->refused = size > 0 && bytes[0] == '{'; /* an archive begins with FORMAT */
    taker->looked = true;
    if (taker->refused) return imv_buffer_append(&taker->refusal, bytes, size);
    taker->bytes += size;
    if (taker->restore != NULL) return imv_restore_take(taker->restore, bytes, size, &taker->err) == IMV_OK;
    if (write_whole(STDOUT_FILENO, bytes, size)) return true;
    imv_fail_errno(&taker->err, IMV_IO, errno, "cannot write to standard output");
    return false;
}

static imv_status fetch(const char *url, struct taker *taker, struct imv_error *err) {
    struct imv_client *client;
    int http_status = 0;
    IMV_TRY(imv_client_new(url, &client, err));
    struct imv_client_request request = {.method = "POST", .path = "/admin/backup", .receive = take, .context = taker};
    imv_status status = imv_client_send(client, &request, &http_status, err);
    imv_client_free(client);
    if (taker->err.status != IMV_OK) {
        *err = taker->err;
        return err->status;
    }
    if (status != IMV_OK) return status;
    if (http_status == 200 && !taker->refused) return IMV_OK;
    return imv_fail(err, IMV_IO, "the server answers %d: %.*s", http_status, (int)taker->refusal.size,
                    taker->refusal.size == 0 ? "" : taker->refusal.data);
}

static imv_status back_up(const char *url, const char *target, struct imv_error *err) {
    struct taker taker = {0};
    imv_buffer_init(&taker.refusal, 64 * 1024);
    imv_status status = IMV_OK;
    if (strcmp(target, "-") != 0) status = imv_restore_new(target, IMV_RESTORE_BACKUP, &taker.restore, err);
    if (status == IMV_OK) status = fetch(url, &taker, err);
    if (status == IMV_OK && taker.restore != NULL) status = imv_restore_finish(taker.restore, err);
    if (status == IMV_OK && taker.restore != NULL)
        fprintf(stderr, "imvdb backup: %zu files, %" PRIu64 " bytes in %s\n", imv_restore_files(taker.restore),
                imv_restore_bytes(taker.restore), target);
    else if (status == IMV_OK)
        fprintf(stderr, "imvdb backup: %" PRIu64 " bytes written\n", taker.bytes);
    imv_restore_free(taker.restore);
    imv_buffer_release(&taker.refusal);
    return status;
}

int imv_command_backup(int argc, char **argv) {
    const char *url = "http://127.0.0.1:8086", *target = NULL;
    struct imv_error err;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--url") == 0 && i + 1 < argc)
            url = argv[++i];
        else if (strncmp(argv[i], "--", 2) == 0 || target != NULL)
            return imv_command_usage("backup", "what is '%s'", argv[i]);
        else
            target = argv[i];
    }
    if (target == NULL) return imv_command_usage("backup", "a directory, or - for standard output, is expected");
    return back_up(url, target, &err) == IMV_OK ? 0 : imv_command_fail("backup", &err);
}

/* ---- restore ---- */

static imv_status take_archive(struct imv_restore *restore, int fd, const char *name, struct imv_error *err) {
    char *piece = malloc(PIECE_BYTES);
    if (piece == NULL) return imv_fail(err, IMV_NO_MEMORY, "no memory to read %s", name);
    imv_status status = IMV_OK;
    while (status == IMV_OK) {
        ssize_t size = read(fd, piece, PIECE_BYTES);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) status = imv_fail_errno(err, IMV_IO, errno, "cannot read %s", name);
        if (size <= 0) break;
        status = imv_restore_take(restore, piece, (size_t)size, err);
    }
    free(piece);
    return status;
}

static imv_status take_backup(struct imv_restore *restore, const char *backup, struct imv_error *err) {
    if (strcmp(backup, "-") == 0) return take_archive(restore, STDIN_FILENO, "standard input", err);
    struct stat entry;
    if (stat(backup, &entry) == 0 && S_ISDIR(entry.st_mode)) return imv_restore_directory(restore, backup, err);
    int fd = open(backup, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return imv_fail_errno(err, IMV_IO, errno, "cannot open %s", backup);
    imv_status status = take_archive(restore, fd, backup, err);
    close(fd);
    return status;
}

static void print_line(void *context, const char *line) {
    (void)context;
    fprintf(stderr, "%s\n", line);
}

static imv_status restore_all(const char *backup, const char *data, struct imv_error *err) {
    struct imv_restore *restore = NULL;
    IMV_TRY(imv_restore_new(data, IMV_RESTORE_DATA, &restore, err));
    imv_status status = take_backup(restore, backup, err);
    if (status == IMV_OK) status = imv_restore_finish(restore, err);
    if (status == IMV_OK) status = imv_engine_check(data, print_line, NULL, err);
    if (status == IMV_OK)
        fprintf(stderr, "imvdb restore: %zu files, %" PRIu64 " bytes in %s\n", imv_restore_files(restore),
                imv_restore_bytes(restore), data);
    imv_restore_free(restore);
    return status;
}

int imv_command_restore(int argc, char **argv) {
    const char *backup = NULL, *data = NULL;
    struct imv_error err;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            data = argv[++i];
        else if (strncmp(argv[i], "--", 2) == 0 || backup != NULL)
            return imv_command_usage("restore", "what is '%s'", argv[i]);
        else
            backup = argv[i];
    }
    if (backup == NULL || data == NULL) return imv_command_usage("restore", "a backup and --data DIR are expected");
    return restore_all(backup, data, &err) == IMV_OK ? 0 : imv_command_fail("restore", &err);
}
