#include "storage/base/io_sim.h"
#include "storage/base/ring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every back end must behave the same, so each test runs on all of them. */

static struct imv_error err;
#define OK(expression) cr_assert_eq((expression), IMV_OK, "%s: %s", #expression, err.message)

enum { BLOCK = IMV_IO_BLOCK_BYTES };

struct bench {
    struct imv_io *io;
    struct imv_ring ring;
    struct imv_sim *sim;
    char directory[64];
};

enum kind { SYS, URING, SIM, KINDS };

/* False where io_uring is not allowed. */
static bool bench_open(struct bench *bench, enum kind kind) {
    *bench = (struct bench){0};
    if (kind == SIM) {
        struct imv_sim_options options = {.seed = 1, .reorder = true};
        OK(imv_sim_new(&options, &bench->sim, &err));
        bench->io = imv_sim_io(bench->sim);
        strcpy(bench->directory, "place");
        OK(imv_io_make_directory(bench->io, bench->directory, &err));
        return true;
    }
    if (kind == URING) {
        imv_status status = imv_ring_open(&bench->ring, 8, &err);
        if (status == IMV_UNSUPPORTED) return false;
        cr_assert_eq(status, IMV_OK, "%s", err.message);
        OK(imv_io_uring_new(&bench->ring, &bench->io, &err));
    } else {
        OK(imv_io_sys_new(&bench->io, &err));
    }
    strcpy(bench->directory, "/tmp/imv_test_io_XXXXXX");
    cr_assert_not_null(mkdtemp(bench->directory));
    return true;
}

static void bench_close(struct bench *bench) {
    imv_io_free(bench->io);
    imv_ring_close(&bench->ring);
    imv_sim_free(bench->sim);
    if (bench->sim != NULL) return;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", bench->directory);
    cr_assert_eq(system(command), 0);
}

#define FOR_EACH_BACK_END(bench)             \
    for (int kind = 0; kind < KINDS; kind++) \
        if (bench_open(&(bench), (enum kind)kind))

static const char *path(const struct bench *bench, const char *name) {
    static char paths[4][128];
    static int next;
    char *result = paths[next++ % 4];
    snprintf(result, sizeof paths[0], "%s/%s", bench->directory, name);
    return result;
}

static struct imv_file *open_new(struct bench *bench, const char *name, unsigned more) {
    struct imv_file *file;
    OK(imv_file_open(bench->io, path(bench, name), IMV_OPEN_READ | IMV_OPEN_WRITE | IMV_OPEN_CREATE | more, &file,
                     &err));
    return file;
}

/* What was written is read, a read ends at the end of the file, and the size follows writes and truncations. */
Test(io, reads_what_was_written) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        struct imv_file *file = open_new(&bench, "a", 0);
        char text[32];
        size_t got;
        uint64_t size;
        OK(imv_file_write(file, "journal", 7, 0, false, &err));
        OK(imv_file_write(file, "NEY", 3, 4, true, &err));
        OK(imv_file_write(file, "x", 1, 9, true, &err));
        OK(imv_file_read(file, text, sizeof text, 0, &got, &err));
        cr_assert_eq(got, 10);
        cr_assert_arr_eq(text, "jourNEY\0\0x", 10);
        OK(imv_file_read(file, text, 2, 4, &got, &err));
        cr_assert(got == 2 && memcmp(text, "NE", 2) == 0);
        OK(imv_file_read(file, text, sizeof text, 10, &got, &err));
        cr_assert_eq(got, 0);
        OK(imv_file_sync(file, &err));
        OK(imv_file_truncate(file, 3, &err));
        OK(imv_file_size(file, &size, &err));
        cr_assert_eq(size, 3);
        OK(imv_file_truncate(file, 5, &err));
        OK(imv_file_read(file, text, sizeof text, 0, &got, &err));
        cr_assert(got == 5 && memcmp(text, "jou\0\0", 5) == 0);
        imv_file_close(file);
        imv_file_close(NULL);
        bench_close(&bench);
    }
}

/* Opening says whether the file was missing or there, each by its own status. */
Test(io, opens_by_the_flags) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        struct imv_file *file;
        const char *name = path(&bench, "a");
        cr_assert_eq(imv_file_open(bench.io, name, IMV_OPEN_READ, &file, &err), IMV_NOT_FOUND);
        cr_assert(strstr(err.message, name) != NULL, "%s", err.message);
        cr_assert_null(file);
        imv_file_close(open_new(&bench, "a", IMV_OPEN_EXCLUSIVE));
        unsigned flags = IMV_OPEN_WRITE | IMV_OPEN_CREATE;
        cr_assert_eq(imv_file_open(bench.io, name, flags | IMV_OPEN_EXCLUSIVE, &file, &err), IMV_EXISTS);
        OK(imv_file_open(bench.io, name, flags, &file, &err));
        char byte;
        size_t got;
        cr_assert_eq(imv_file_read(file, &byte, 1, 0, &got, &err), IMV_IO, "open for writing only");
        imv_file_close(file);
        OK(imv_file_open(bench.io, name, IMV_OPEN_READ, &file, &err));
        cr_assert_eq(imv_file_write(file, "x", 1, 0, false, &err), IMV_IO, "open for reading only");
        imv_file_close(file);
        cr_assert_eq(imv_file_open(bench.io, path(&bench, "no/a"), flags, &file, &err), IMV_NOT_FOUND);
        bench_close(&bench);
    }
}

/* A file is locked for one handle at a time, until it is closed. */
Test(io, locks_out_others) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        struct imv_file *one = open_new(&bench, "a", 0), *two = open_new(&bench, "a", 0);
        OK(imv_file_lock(one, &err));
        cr_assert_eq(imv_file_lock(two, &err), IMV_BUSY);
        imv_file_close(one);
        OK(imv_file_lock(two, &err));
        imv_file_close(two);
        bench_close(&bench);
    }
}

static imv_status collect(void *context, const char *name, struct imv_error *error) {
    char *names = context;
    strcat(strcat(names, name), " ");
    return strcmp(name, "stop") == 0 ? imv_fail(error, IMV_CANCELLED, "enough") : IMV_OK;
}

/* Names are listed in byte order, follow renames and removals, and a visitor's failure ends the list. */
Test(io, keeps_names) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        static const char *const names[] = {"b", "a", "B", "a-1", "zz", "\xc3\xa4"};
        for (size_t i = 0; i < 6; i++) imv_file_close(open_new(&bench, names[i], 0));
        char listed[256] = "";
        OK(imv_io_list(bench.io, bench.directory, collect, listed, &err));
        cr_assert_str_eq(listed, "B a a-1 b zz \xc3\xa4 ");
        OK(imv_io_rename(bench.io, path(&bench, "b"), path(&bench, "a"), &err));
        OK(imv_io_unlink(bench.io, path(&bench, "zz"), &err));
        OK(imv_io_rename(bench.io, path(&bench, "a-1"), path(&bench, "stop"), &err));
        cr_assert_eq(imv_io_unlink(bench.io, path(&bench, "zz"), &err), IMV_NOT_FOUND);
        cr_assert_eq(imv_io_rename(bench.io, path(&bench, "zz"), path(&bench, "y"), &err), IMV_NOT_FOUND);
        listed[0] = 0;
        cr_assert_eq(imv_io_list(bench.io, bench.directory, collect, listed, &err), IMV_CANCELLED);
        cr_assert_str_eq(listed, "B a stop ");
        OK(imv_io_sync_directory(bench.io, bench.directory, &err));
        cr_assert_eq(imv_io_sync_directory(bench.io, path(&bench, "no"), &err), IMV_NOT_FOUND);
        cr_assert_eq(imv_io_list(bench.io, path(&bench, "no"), collect, listed, &err), IMV_NOT_FOUND);
        bench_close(&bench);
    }
}

/* A directory may be made twice, not where a file is, and not below nothing. */
Test(io, makes_directories) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        OK(imv_io_make_directory(bench.io, path(&bench, "d"), &err));
        OK(imv_io_make_directory(bench.io, path(&bench, "d/"), &err));
        OK(imv_io_make_directory(bench.io, path(&bench, "d/e"), &err));
        imv_file_close(open_new(&bench, "d/e//f", 0));
        imv_file_close(open_new(&bench, "g", 0));
        cr_assert_eq(imv_io_make_directory(bench.io, path(&bench, "g"), &err), IMV_IO);
        cr_assert_eq(imv_io_make_directory(bench.io, path(&bench, "x/y"), &err), IMV_NOT_FOUND);
        char listed[256] = "";
        OK(imv_io_list(bench.io, path(&bench, "d/e"), collect, listed, &err));
        cr_assert_str_eq(listed, "f ");
        bench_close(&bench);
    }
}

/* A direct file takes and gives whole blocks, and gives what there is of the last one. */
Test(io, reads_and_writes_past_the_page_cache) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        struct imv_file *file = open_new(&bench, "a", IMV_OPEN_DIRECT | IMV_OPEN_EXCLUSIVE);
        uint8_t *data = aligned_alloc(BLOCK, 4 * BLOCK), *back = aligned_alloc(BLOCK, 8 * BLOCK);
        for (int i = 0; i < 4 * BLOCK; i++) data[i] = (uint8_t)(i * 7 + i / BLOCK);
        OK(imv_file_write(file, data, 4 * BLOCK, BLOCK, true, &err));
        size_t got;
        OK(imv_file_read(file, back, 8 * BLOCK, BLOCK, &got, &err));
        cr_assert_eq(got, 4 * BLOCK);
        cr_assert_arr_eq(back, data, 4 * BLOCK);
        OK(imv_file_truncate(file, 3 * BLOCK + 1000, &err));
        OK(imv_file_read(file, back, 8 * BLOCK, 2 * BLOCK, &got, &err));
        cr_assert_eq(got, BLOCK + 1000);
        cr_assert_arr_eq(back, data + BLOCK, BLOCK + 1000);
        imv_file_close(file);
        free(data);
        free(back);
        bench_close(&bench);
    }
}

/* ---- asynchronous writes ---- */

struct tracked {
    struct imv_io_write write; /* first */
    int done;
    int error_number;
    struct tracked *again; /* submitted from within done */
};

static bool inside_submit;

static void track(struct imv_io_write *write, int error_number) {
    struct tracked *tracked = (struct tracked *)write;
    cr_assert_not(inside_submit, "done is never called by submit");
    tracked->done++;
    tracked->error_number = error_number;
    if (tracked->again == NULL) return;
    inside_submit = true;
    imv_io_submit(write->file->io, &tracked->again->write);
    inside_submit = false;
}

static void submit(struct tracked *tracked, struct imv_file *file, const void *data, uint64_t offset, bool durable) {
    tracked->write = (struct imv_io_write){
        .file = file, .data = data, .size = BLOCK, .offset = offset, .durable = durable, .done = track};
    inside_submit = true;
    imv_io_submit(file->io, &tracked->write);
    inside_submit = false;
}

/* Many writes at once, more than the ring has places, are each done once and all there; a poll without any returns. */
Test(io, completes_each_write_once) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        enum { COUNT = 50 };
        cr_assert_eq(imv_io_poll(bench.io, true), 0);
        struct imv_file *file = open_new(&bench, "a", IMV_OPEN_DIRECT);
        uint8_t *data = aligned_alloc(BLOCK, COUNT * BLOCK), *back = aligned_alloc(BLOCK, COUNT * BLOCK);
        for (int i = 0; i < COUNT * BLOCK; i++) data[i] = (uint8_t)(i / BLOCK + 1);
        struct tracked writes[COUNT] = {0};
        for (int i = 0; i < COUNT; i++) submit(&writes[i], file, data + i * BLOCK, (uint64_t)i * BLOCK, i % 2);
        int done = 0;
        while (done < COUNT) {
            int more = imv_io_poll(bench.io, true);
            cr_assert_gt(more, 0);
            done += more;
        }
        cr_assert_eq(done, COUNT);
        cr_assert_eq(imv_io_poll(bench.io, true), 0);
        for (int i = 0; i < COUNT; i++) cr_assert(writes[i].done == 1 && writes[i].error_number == 0, "%d", i);
        size_t got;
        OK(imv_file_read(file, back, COUNT * BLOCK, 0, &got, &err));
        cr_assert_arr_eq(back, data, COUNT * BLOCK);
        imv_file_close(file);
        free(data);
        free(back);
        bench_close(&bench);
    }
}

/* A write may be submitted from within done. */
Test(io, takes_a_write_from_done) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        struct imv_file *file = open_new(&bench, "a", IMV_OPEN_DIRECT);
        uint8_t *data = aligned_alloc(BLOCK, BLOCK);
        memset(data, 3, BLOCK);
        struct tracked chain[5] = {0};
        for (int i = 4; i >= 0; i--) {
            chain[i].write = (struct imv_io_write){
                .file = file, .data = data, .size = BLOCK, .offset = (uint64_t)i * BLOCK, .done = track};
            chain[i].again = i < 4 ? &chain[i + 1] : NULL;
        }
        imv_io_submit(bench.io, &chain[0].write);
        while (imv_io_poll(bench.io, true) > 0) {}
        uint64_t size;
        OK(imv_file_size(file, &size, &err));
        cr_assert_eq(size, 5 * BLOCK);
        cr_assert_eq(chain[4].done, 1);
        imv_file_close(file);
        free(data);
        bench_close(&bench);
    }
}

/* A write that the system refuses is told through done with its errno, others are not touched. */
Test(io, tells_a_refused_write) {
    struct bench bench;
    FOR_EACH_BACK_END(bench) {
        imv_file_close(open_new(&bench, "a", 0));
        struct imv_file *file, *good = open_new(&bench, "b", 0);
        OK(imv_file_open(bench.io, path(&bench, "a"), IMV_OPEN_READ, &file, &err));
        uint8_t *data = aligned_alloc(BLOCK, BLOCK);
        memset(data, 3, BLOCK);
        struct tracked bad = {0}, fine = {0};
        submit(&bad, file, data, 0, true);
        submit(&fine, good, data, 0, true);
        while (imv_io_poll(bench.io, true) > 0) {}
        cr_assert(bad.done == 1 && bad.error_number != 0);
        cr_assert(fine.done == 1 && fine.error_number == 0);
        imv_file_close(file);
        imv_file_close(good);
        free(data);
        bench_close(&bench);
    }
}

/* A write that the system cuts short, here by a limit on the size of files, fails. */
Test(io, tells_a_short_write) {
    signal(SIGXFSZ, SIG_IGN);
    for (int kind = 0; kind < SIM; kind++) {
        struct bench bench;
        if (!bench_open(&bench, (enum kind)kind)) continue;
        struct imv_file *file = open_new(&bench, "a", 0);
        uint8_t *data = calloc(2, BLOCK);
        struct rlimit limit = {BLOCK + 100, RLIM_INFINITY};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        struct tracked tracked = {
            .write = {.file = file, .data = data, .size = 2 * BLOCK, .durable = true, .done = track}};
        imv_io_submit(bench.io, &tracked.write);
        while (imv_io_poll(bench.io, true) > 0) {}
        imv_status status = imv_file_write(file, data, 2 * BLOCK, 0, true, &err);
        limit.rlim_cur = RLIM_INFINITY;
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        cr_assert(tracked.done == 1 && tracked.error_number == EFBIG, "%d", tracked.error_number);
        cr_assert_eq(status, IMV_IO);
        imv_file_close(file);
        free(data);
        bench_close(&bench);
    }
}
