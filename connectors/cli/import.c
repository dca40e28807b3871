/* Bulk load through POST /write. A batch is sent when the one before it is durable, so that the offset in the progress
 * file never promises more than the server holds; sending a batch twice changes nothing, since rows are identified by
 * series and time. */
#include "connectors/cli/client.h"
#include "connectors/cli/commands.h"
#include "connectors/cli/csv_lines.h"
#include "connectors/cli/progress.h"
#include "ingest/line.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH_BYTES = 2 << 20,     /* about 6,000 rows of ten fields: one journal group or two */
    BATCH_BYTES_MAX = 8 << 20, /* with the record that passes BATCH_BYTES */
    FILES_MAX = 4096,
};

struct options {
    const char *url, *format, *precision, *zone, *delimiter;
    struct imv_csv_options csv;
    bool resume;
    const char *files[FILES_MAX];
    size_t files_count;
};

struct load {
    const struct options *options;
    struct imv_client *client;
    struct imv_progress progress;
    struct imv_buffer batch;
    uint64_t batch_rows, rows, refused;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    interrupted = 1;
    signal(number, SIG_DFL); /* a second one ends the process, also while a server does not answer */
}

/* ---- batches ---- */

/* "partial write: 2 of 10 lines were refused, ..." is told once a batch; the good lines are stored. */
static imv_status report_refusal(struct load *load, const struct imv_buffer *answer, int status,
                                 struct imv_error *err) {
    json_t *root = json_loadb(answer->data, answer->size, 0, NULL);
    const char *message = json_string_value(json_object_get(root, "message"));
    imv_status result = IMV_OK;
    uint64_t refused = 0;
    if (status == 400 && message != NULL && sscanf(message, "partial write: %" SCNu64, &refused) == 1) {
        fprintf(stderr, "%s%s\n", load->progress.terminal ? "\n" : "", message);
        load->refused += refused;
        load->batch_rows -= refused < load->batch_rows ? refused : load->batch_rows;
    } else {
        result = imv_fail(err, IMV_IO, "the server answered %d: %s", status, message == NULL ? "(no reason)" : message);
    }
    json_decref(root);
    return result;
}

/* Sends what is gathered; then everything before `offset` of the input is durable. */
static imv_status send_batch(struct load *load, uint64_t offset, struct imv_error *err) {
    if (load->batch.size > 0) {
        char path[64];
        struct imv_buffer answer;
        int status = 0;
        imv_buffer_init(&answer, 64 * 1024);
        snprintf(path, sizeof path, "/write?precision=%s", load->options->precision);
        struct imv_client_request request = {.method = "POST",
                                             .path = path,
                                             .content_type = "text/plain; charset=utf-8",
                                             .body = imv_buffer_view(&load->batch),
                                             .receive = imv_client_collect,
                                             .context = &answer};
        imv_status result = imv_client_send(load->client, &request, &status, err);
        if (result == IMV_OK && status != 204) result = report_refusal(load, &answer, status, err);
        imv_buffer_release(&answer);
        if (result != IMV_OK) return result;
    }
    load->rows += load->batch_rows;
    load->batch_rows = 0;
    imv_buffer_reset(&load->batch);
    imv_progress_update(&load->progress, offset, load->rows);
    if (interrupted) return imv_fail(err, IMV_CANCELLED, "interrupted; --resume goes on from here");
    return IMV_OK;
}

/* ---- line protocol ---- */

/* Blank lines and comments are sent as they are, and are no rows. */
static bool is_row(const char *line, size_t size) {
    size_t i = 0;
    while (i < size && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r' || line[i] == '\n')) i++;
    return i < size && line[i] != '#';
}

static imv_status load_lines(struct load *load, struct imv_str text, uint64_t from, struct imv_error *err) {
    size_t start = (size_t)from;
    while (start < text.size) {
        struct imv_line_scan scan = {0};
        ptrdiff_t end = imv_line_find_end(text.data + start, text.size - start, &scan);
        size_t size = end < 0 ? text.size - start : (size_t)end + 1;
        if (!imv_buffer_append(&load->batch, text.data + start, size) && load->batch.size == 0)
            return imv_fail(err, IMV_INVALID, "the line at byte %zu is larger than %d bytes", start, BATCH_BYTES_MAX);
        if (load->batch.failed) { /* it fits the next batch */
            load->batch.failed = false;
            IMV_TRY(send_batch(load, start, err));
            continue;
        }
        load->batch_rows += is_row(text.data + start, size);
        start += size;
        if (load->batch.size >= BATCH_BYTES) IMV_TRY(send_batch(load, start, err));
    }
    return send_batch(load, text.size, err);
}

/* ---- CSV ---- */

static imv_status load_records(struct load *load, const struct imv_csv_plan *plan, struct imv_csv_reader *reader,
                               uint64_t from, struct imv_error *err) {
    bool end, empty;
    IMV_TRY(imv_csv_next(reader, &end, err)); /* the header */
    if (from > reader->at) reader->at = (size_t)from;
    for (;;) {
        IMV_TRY(imv_csv_next(reader, &end, err));
        if (end) break;
        IMV_TRY(imv_csv_line(plan, reader, &load->batch, &empty, err));
        load->batch_rows += !empty;
        if (load->batch.size >= BATCH_BYTES) IMV_TRY(send_batch(load, reader->at, err));
    }
    return send_batch(load, reader->text.size, err);
}

static imv_status load_csv(struct load *load, struct imv_str text, uint64_t from, struct imv_error *err) {
    const char *given = load->options->delimiter;
    char delimiter = given == NULL ? imv_csv_find_delimiter(text) : strcmp(given, "tab") == 0 ? '\t' : given[0];
    struct imv_csv_plan *plan;
    IMV_TRY(imv_csv_plan_new(text, delimiter, &load->options->csv, &plan, err));
    struct imv_csv_reader *reader = malloc(sizeof *reader);
    imv_status status;
    if (reader == NULL) {
        status = imv_fail(err, IMV_NO_MEMORY, "no memory to read CSV");
    } else {
        imv_csv_init(reader, text, delimiter);
        status = load_records(load, plan, reader, from, err);
        imv_csv_release(reader);
    }
    free(reader);
    imv_csv_plan_free(plan);
    return status;
}

/* ---- files ---- */

/* What two runs must share to be the same load. */
static void describe(const struct options *options, const char *path, const struct stat *file, char *text,
                     size_t size) {
    const char *const given[] = {options->url,      options->format, options->precision, options->csv.label,
                                 options->csv.time, options->zone,   options->delimiter, options->csv.date_order};
    char *real = realpath(path, NULL);
    size_t used = (size_t)snprintf(text, size, "%s|%" PRId64 "|%" PRId64 ".%09ld", real == NULL ? path : real,
                                   (int64_t)file->st_size, (int64_t)file->st_mtim.tv_sec, file->st_mtim.tv_nsec);
    for (size_t i = 0; i < sizeof given / sizeof *given && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "|%s", given[i] == NULL ? "" : given[i]);
    for (size_t i = 0; i < options->csv.tags_count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "|%s", options->csv.tags[i]);
    free(real);
}

static imv_status load_text(struct load *load, struct imv_str text, struct imv_error *err) {
    uint64_t saved = imv_progress_saved(&load->progress), from = load->options->resume ? saved : 0;
    if (saved > 0 && !load->options->resume)
        fprintf(stderr, "an earlier load of this file stopped at %d %%; --resume would go on there\n",
                (int)(saved * 100 / text.size));
    imv_status status =
        strcmp(load->options->format, "csv") == 0 ? load_csv(load, text, from, err) : load_lines(load, text, from, err);
    imv_progress_end(&load->progress, status == IMV_OK);
    return status;
}

static imv_status load_file(struct load *load, const char *path, struct imv_error *err) {
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) != 0) {
        if (fd >= 0) close(fd);
        return imv_fail_errno(err, IMV_IO, errno, "cannot open %s", path);
    }
    char identity[16384];
    describe(load->options, path, &file, identity, sizeof identity);
    imv_progress_init(&load->progress, path, (uint64_t)file.st_size, identity);
    uint64_t rows_before = load->rows;
    imv_status status = IMV_OK;
    if (file.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED) {
            status = imv_fail_errno(err, IMV_IO, errno, "cannot read %s", path);
        } else {
            madvise(bytes, (size_t)file.st_size, MADV_SEQUENTIAL);
            status = load_text(load, (struct imv_str){bytes, (size_t)file.st_size}, err);
            munmap(bytes, (size_t)file.st_size);
        }
    }
    close(fd);
    if (status != IMV_OK) return imv_error_wrap(err, status, "%s", path);
    printf("%s: %" PRIu64 " rows\n", path, load->rows - rows_before);
    return IMV_OK;
}

/* ---- the command ---- */

static int parse_flag(struct options *options, const char *flag, const char *value) {
    if (strcmp(flag, "--url") == 0)
        options->url = value;
    else if (strcmp(flag, "--format") == 0)
        options->format = value;
    else if (strcmp(flag, "--precision") == 0)
        options->precision = value;
    else if (strcmp(flag, "--label") == 0)
        options->csv.label = value;
    else if (strcmp(flag, "--time") == 0)
        options->csv.time = value;
    else if (strcmp(flag, "--zone") == 0)
        options->zone = value;
    else if (strcmp(flag, "--delimiter") == 0)
        options->delimiter = value;
    else if (strcmp(flag, "--date-order") == 0)
        options->csv.date_order = value;
    else if (strcmp(flag, "--tag") != 0)
        return imv_command_usage("import", "there is no flag %s", flag);
    else if (options->csv.tags_count == IMV_CSV_TAGS_MAX)
        return imv_command_usage("import", "more than %d tags", IMV_CSV_TAGS_MAX);
    else
        options->csv.tags[options->csv.tags_count++] = value;
    return 0;
}

static int parse(struct options *options, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            if (options->files_count == FILES_MAX) return imv_command_usage("import", "more than %d files", FILES_MAX);
            options->files[options->files_count++] = argv[i];
        } else if (strcmp(argv[i], "--resume") == 0) {
            options->resume = true;
        } else if (i + 1 == argc) {
            return imv_command_usage("import", "%s needs a value", argv[i]);
        } else {
            int result = parse_flag(options, argv[i], argv[i + 1]);
            if (result != 0) return result;
            i++;
        }
    }
    bool csv = options->format != NULL && strcmp(options->format, "csv") == 0;
    if (options->format == NULL || (!csv && strcmp(options->format, "ilp") != 0))
        return imv_command_usage("import", "--format ilp or --format csv is needed");
    if (csv && options->precision != NULL)
        return imv_command_usage("import", "--precision is for line protocol; the times of a CSV file say their own");
    if (options->precision == NULL) options->precision = "ns";
    if (csv && options->csv.label == NULL) return imv_command_usage("import", "--format csv needs --label");
    const char *order = options->csv.date_order;
    if (order != NULL && strcmp(order, "dmy") != 0 && strcmp(order, "mdy") != 0)
        return imv_command_usage("import", "--date-order is '%s': dmy or mdy is expected", order);
    if (options->files_count == 0) return imv_command_usage("import", "no file given");
    return 0;
}

/* An unknown zone would silently be UTC: the C library is asked whether it knows the file. */
static int use_zone(struct options *options) {
    char path[512];
    if (options->zone == NULL) return 0;
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", options->zone);
    if (strstr(options->zone, "..") != NULL || access(path, R_OK) != 0)
        return imv_command_usage("import", "--zone %s: this time zone is not known on this machine", options->zone);
    setenv("TZ", options->zone, 1);
    tzset();
    options->csv.local = true;
    return 0;
}

int imv_command_import(int argc, char **argv) {
    static struct options options = {.url = "http://127.0.0.1:8086"};
    struct load load = {.options = &options};
    struct imv_error err;
    int result = parse(&options, argc, argv);
    if (result == 0) result = use_zone(&options);
    if (result != 0) return result;
    if (imv_client_new(options.url, &load.client, &err) != IMV_OK) return imv_command_fail("import", &err);
    signal(SIGINT, on_interrupt);
    imv_buffer_init(&load.batch, BATCH_BYTES_MAX);
    for (size_t i = 0; i < options.files_count && result == 0; i++) {
        if (load_file(&load, options.files[i], &err) != IMV_OK) result = imv_command_fail("import", &err);
    }
    if (load.refused > 0) fprintf(stderr, "%" PRIu64 " lines were refused\n", load.refused);
    imv_buffer_release(&load.batch);
    imv_client_free(load.client);
    return result == 0 && load.refused > 0 ? 1 : result;
}
