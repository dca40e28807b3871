/* load - sends rows of a shape to a running server and says how fast they became durable.
 *
 *     imvdb_load [--shape NAME] [--series N] [--first-series N] [--steps N] [--start SECONDS] [--interval-ms N] [--late SHARE]
 *                [--seed N] [--to tcp|http|arrow] [--port N] [--connections N] [--batch ROWS] [--rate ROWS_PER_SECOND]
 *     imvdb_load --device DIR        how long the device takes to make 64 KiB durable, written in place
 *
 * All bytes are made before the clock starts and lie in an anonymous file, from which they go out by sendfile(2): the
 * load costs little of the processor that it shares with the server. A batch over TCP is followed by `#sync` and is
 * acknowledged by `#ok`, with two batches under way on a connection; over HTTP it is a request and its 204.
 *
 * With --rate batches leave at fixed times, and the wait for a late departure counts (no coordinated omission).
 * Prints one JSON object. Any refused batch ends the program with a message and status 1.
 */
#include "bench/load/arrow.h"
#include "bench/load/shape.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum transport { TO_TCP, TO_HTTP, TO_ARROW };

struct batch {
    off_t offset;
    size_t bytes;
    double due_s;   /* after the start; with --rate */
    double taken_s; /* from due or sent to acknowledged */
};

static struct {
    struct bench_shape_options shape;
    enum transport transport;
    uint16_t port;
    uint32_t connections, batch_rows;
    double rate;
} options = {
    .shape = {.name = "cpu",
              .series = 4000,
              .steps = 720,
              .start_ns = INT64_C(1451606400000000000),
              .interval_ns = INT64_C(10000000000),
              .seed = 123},
    .port = 9009,
    .connections = 4,
    .batch_rows = 10000,
};
static struct batch *batches;
static size_t batches_count;
static int file = -1;
static atomic_size_t next_batch;
static double start_s;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void refuse(const char *what, const char *detail) {
    fprintf(stderr, "load: %s: %.200s\n", what, detail);
    exit(1);
}

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void sleep_until(double at_s) {
    double left_s = at_s - now_s();
    if (left_s <= 0) return;
    struct timespec wait = {(time_t)left_s, (long)((left_s - (double)(time_t)left_s) * 1e9)};
    nanosleep(&wait, NULL);
}

/* ---- making the bytes ---- */

static void write_all(int to, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = write(to, bytes, size);
        if (written <= 0) die("write");
        bytes += written;
        size -= (size_t)written;
    }
}

/* One batch into the file; returns its size. */
static size_t make_lines(struct bench_shape *shape, uint32_t rows) {
    static char *buffer;
    if (buffer == NULL) buffer = malloc((size_t)options.batch_rows * BENCH_LINE_BYTES_MAX);
    if (buffer == NULL) die("memory");
    char *end = buffer;
    struct bench_row row;
    for (uint32_t i = 0; i < rows && bench_shape_next(shape, &row); i++) end = bench_shape_line(shape, &row, end);
    write_all(file, buffer, (size_t)(end - buffer));
    return (size_t)(end - buffer);
}

static size_t make_arrow(struct bench_shape *shape, uint32_t rows) {
    char *bytes;
    size_t size;
    if (!bench_arrow_stream(shape, rows, &bytes, &size)) die("memory");
    write_all(file, bytes, size);
    free(bytes);
    return size;
}

static uint64_t make_batches(struct bench_shape *shape) {
    uint64_t rows = bench_shape_rows(shape), bytes = 0;
    batches_count = (size_t)((rows + options.batch_rows - 1) / options.batch_rows);
    batches = calloc(batches_count, sizeof *batches);
    file = memfd_create("load", MFD_CLOEXEC);
    if (batches == NULL || file < 0) die("memory");
    for (size_t i = 0; i < batches_count; i++) {
        uint64_t left = rows - (uint64_t)i * options.batch_rows;
        uint32_t count = left < options.batch_rows ? (uint32_t)left : options.batch_rows;
        size_t size = options.transport == TO_ARROW ? make_arrow(shape, count) : make_lines(shape, count);
        batches[i] = (struct batch){.offset = (off_t)bytes, .bytes = size};
        if (options.rate > 0) batches[i].due_s = (double)i * options.batch_rows / options.rate;
        bytes += size;
    }
    return bytes;
}

/* ---- sending ---- */

static int dial(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (to < 0 || connect(to, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    setsockopt(to, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return to;
}

static void send_batch(int to, const struct batch *batch) {
    off_t offset = batch->offset, end = batch->offset + (off_t)batch->bytes;
    while (offset < end) {
        if (sendfile(to, file, &offset, (size_t)(end - offset)) <= 0) die("sendfile");
    }
}

static void await_ok(int from) {
    char line[64];
    size_t size = 0;
    do {
        if (size == sizeof line || recv(from, line + size, 1, 0) != 1) die("no answer to #sync");
    } while (line[size++] != '\n');
    line[size - 1] = 0;
    if (strncmp(line, "#ok ", 4) != 0) refuse("answer to #sync", line);
}

/* Answers have no body when all is well, so the empty line ends them. */
static void await_status(int from) {
    char answer[8192];
    size_t size = 0;
    do {
        ssize_t received = recv(from, answer + size, sizeof answer - 1 - size, 0);
        if (received <= 0) die("no answer");
        size += (size_t)received;
        answer[size] = 0;
    } while (strstr(answer, "\r\n\r\n") == NULL);
    if (strncmp(answer, "HTTP/1.1 204", 12) != 0) refuse("refused", answer);
}

static void send_head(int to, const struct batch *batch) {
    const char *type = options.transport == TO_ARROW ? "application/vnd.apache.arrow.stream" : "text/plain";
    char head[256];
    int size = snprintf(head, sizeof head,
                        "POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                        type, batch->bytes);
    if (send(to, head, (size_t)size, MSG_MORE) != size) die("send");
}

static struct batch *take_batch(double *sent_s) {
    size_t i = atomic_fetch_add(&next_batch, 1);
    if (i >= batches_count) return NULL;
    if (options.rate > 0) sleep_until(start_s + batches[i].due_s);
    *sent_s = options.rate > 0 ? start_s + batches[i].due_s : now_s();
    return &batches[i];
}

static void *send_requests(void *unused) {
    (void)unused;
    int to = dial();
    double sent_s;
    for (struct batch *batch; (batch = take_batch(&sent_s)) != NULL;) {
        send_head(to, batch);
        send_batch(to, batch);
        await_status(to);
        batch->taken_s = now_s() - sent_s;
    }
    close(to);
    return NULL;
}

static void *send_lines(void *unused) {
    (void)unused;
    int to = dial();
    struct batch *waiting = NULL;
    double sent_s, waiting_sent_s = 0;
    /* At a fixed rate an acknowledgement must be seen when it comes, so nothing else is sent meanwhile. */
    bool pipelined = options.rate == 0;
    for (struct batch *batch; (batch = take_batch(&sent_s)) != NULL;) {
        send_batch(to, batch);
        if (send(to, "#sync\n", 6, 0) != 6) die("send");
        if (pipelined && waiting != NULL) {
            await_ok(to);
            waiting->taken_s = now_s() - waiting_sent_s;
        }
        waiting = batch;
        waiting_sent_s = sent_s;
        if (pipelined) continue;
        await_ok(to);
        batch->taken_s = now_s() - sent_s;
    }
    if (pipelined && waiting != NULL) {
        await_ok(to);
        waiting->taken_s = now_s() - waiting_sent_s;
    }
    close(to);
    return NULL;
}

/* ---- figures ---- */

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double percentile_ms(const double *sorted_s, size_t count, double share) {
    size_t at = (size_t)(share * (double)(count - 1) + 0.5);
    return sorted_s[at] * 1e3;
}

static void print_times(const double *sorted_s, size_t count) {
    printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f", percentile_ms(sorted_s, count, 0.5),
           percentile_ms(sorted_s, count, 0.99), percentile_ms(sorted_s, count, 1));
}

static void report(const struct bench_shape *shape, double seconds, uint64_t bytes) {
    double *times_s = malloc(batches_count * sizeof *times_s);
    if (times_s == NULL) die("memory");
    for (size_t i = 0; i < batches_count; i++) times_s[i] = batches[i].taken_s;
    qsort(times_s, batches_count, sizeof *times_s, compare_doubles);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double rows = (double)bench_shape_rows(shape);
    printf("{\"rows\": %.0f, \"bytes\": %" PRIu64 ", \"seconds\": %.3f, \"rows_per_s\": %.0f, \"values_per_s\": %.0f, ",
           rows, bytes, seconds, rows / seconds, rows * shape->fields_count / seconds);
    print_times(times_s, batches_count);
    printf("}\n");
    free(times_s);
}

/* The device's own time to make a block durable: what no acknowledgement can be faster than. */
static void measure_device(const char *directory) {
    enum { BLOCK = 64 * 1024, BLOCKS = 256, WRITES = 1000 };
    char path[4096];
    snprintf(path, sizeof path, "%s/device.XXXXXX", directory);
    int to = mkostemp(path, O_DIRECT | O_DSYNC);
    char *block;
    if (to < 0) die(path);
    unlink(path);
    if (posix_memalign((void **)&block, 4096, BLOCK) != 0) die("memory");
    memset(block, 0, BLOCK);
    for (int i = 0; i < BLOCKS; i++) {
        if (pwrite(to, block, BLOCK, (off_t)i * BLOCK) != BLOCK) die("write");
    }
    static double times_s[WRITES];
    for (int i = 0; i < WRITES; i++) {
        double begun_s = now_s();
        memset(block, i, BLOCK);
        if (pwrite(to, block, BLOCK, (off_t)(i % BLOCKS) * BLOCK) != BLOCK) die("write");
        times_s[i] = now_s() - begun_s;
    }
    qsort(times_s, WRITES, sizeof *times_s, compare_doubles);
    printf("{");
    print_times(times_s, WRITES);
    printf("}\n");
    free(block);
    close(to);
}

/* ---- arguments ---- */

static void set_option(const char *name, const char *value) {
    static const char *const transports[] = {"tcp", "http", "arrow"};
    struct bench_shape_options *shape = &options.shape;
    if (strcmp(name, "--shape") == 0) {
        shape->name = value;
    } else if (strcmp(name, "--series") == 0) {
        shape->series = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--first-series") == 0) {
        shape->first_series = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--steps") == 0) {
        shape->steps = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--start") == 0) {
        shape->start_ns = strtoll(value, NULL, 10) * 1000000000;
    } else if (strcmp(name, "--interval-ms") == 0) {
        shape->interval_ns = strtoll(value, NULL, 10) * 1000000;
    } else if (strcmp(name, "--late") == 0) {
        shape->late = strtod(value, NULL);
    } else if (strcmp(name, "--seed") == 0) {
        shape->seed = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--port") == 0) {
        options.port = (uint16_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--connections") == 0) {
        options.connections = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--batch") == 0) {
        options.batch_rows = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--rate") == 0) {
        options.rate = strtod(value, NULL);
    } else if (strcmp(name, "--to") == 0) {
        for (int i = 0; i < 3; i++) {
            if (strcmp(value, transports[i]) == 0) {
                options.transport = (enum transport)i;
                return;
            }
        }
        refuse("--to", value);
    } else {
        refuse("unknown argument", name);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--device") == 0) {
        measure_device(argv[2]);
        return 0;
    }
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) refuse("no value for", argv[i]);
        set_option(argv[i], argv[i + 1]);
    }
    if (options.shape.series == 0 || options.shape.steps == 0 || options.connections == 0 ||
        options.connections > 256 || options.batch_rows == 0)
        refuse("a number is out of range", "series, steps, connections (1 to 256) and batch are at least 1");
    struct bench_shape shape;
    if (!bench_shape_init(&shape, &options.shape)) refuse("no such shape", options.shape.name);
    uint64_t bytes = make_batches(&shape);
    pthread_t threads[256];
    start_s = now_s();
    void *(*send)(void *) = options.transport == TO_TCP ? send_lines : send_requests;
    for (uint32_t i = 0; i < options.connections; i++) {
        if (pthread_create(&threads[i], NULL, send, NULL) != 0) die("thread");
    }
    for (uint32_t i = 0; i < options.connections; i++) pthread_join(threads[i], NULL);
    report(&shape, now_s() - start_s, bytes);
    bench_shape_release(&shape);
    free(batches);
    return 0;
}
