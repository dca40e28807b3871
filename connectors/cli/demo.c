#include "connectors/cli/client.h"
#include "connectors/cli/commands.h"
#include "connectors/cli/plant.h"
#include "connectors/config.h"
#include "storage/base/clock.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH_BYTES = 1 << 20, BATCH_BYTES_MAX = 2 << 20 };

struct options {
    const char *url;
    int64_t history_ns, duration_ns, step_ns;
    uint64_t seed;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static int parse(struct options *options, int argc, char **argv) {
    for (int i = 0; i < argc; i += 2) {
        const char *flag = argv[i];
        if (i + 1 == argc) return imv_command_usage("demo", "%s needs a value", flag);
        const char *value = argv[i + 1];
        int64_t *duration = strcmp(flag, "--history") == 0    ? &options->history_ns
                            : strcmp(flag, "--duration") == 0 ? &options->duration_ns
                            : strcmp(flag, "--step") == 0     ? &options->step_ns
                                                              : NULL;
        if (strcmp(flag, "--url") == 0)
            options->url = value;
        else if (strcmp(flag, "--seed") == 0)
            options->seed = strtoull(value, NULL, 10);
        else if (duration == NULL)
            return imv_command_usage("demo", "there is no flag %s", flag);
        else if (!imv_parse_duration(value, duration))
            return imv_command_usage("demo", "%s is '%s': a duration such as 30s or 2h is expected", flag, value);
    }
    if (options->step_ns < 1000000) return imv_command_usage("demo", "--step must be at least 1ms");
    return 0;
}

static imv_status send_lines(struct imv_client *client, struct imv_buffer *lines, struct imv_error *err) {
    int status;
    struct imv_client_request request = {.method = "POST",
                                         .path = "/write",
                                         .content_type = "text/plain; charset=utf-8",
                                         .body = imv_buffer_view(lines)};
    IMV_TRY(imv_client_send(client, &request, &status, err));
    imv_buffer_reset(lines);
    return status == 204 ? IMV_OK : imv_fail(err, IMV_IO, "the server answered %d to a write", status);
}

/* The past, as fast as it goes. */
static imv_status send_history(struct imv_client *client, struct imv_plant *plant, const struct options *options,
                               int64_t now, struct imv_buffer *lines, uint64_t *rows, struct imv_error *err) {
    for (int64_t ns = now - options->history_ns; ns < now && !interrupted; ns += options->step_ns) {
        imv_plant_step(plant, (double)options->step_ns * 1e-9);
        *rows += (uint64_t)imv_plant_lines(plant, ns, lines);
        if (lines->size >= BATCH_BYTES) IMV_TRY(send_lines(client, lines, err));
    }
    return lines->size == 0 ? IMV_OK : send_lines(client, lines, err);
}

static imv_status send_live(struct imv_client *client, struct imv_plant *plant, const struct options *options,
                            int64_t start, struct imv_buffer *lines, uint64_t *rows, struct imv_error *err) {
    int64_t end = options->duration_ns == INT64_MAX ? INT64_MAX : start + options->duration_ns;
    for (int64_t ns = start; ns < end && !interrupted; ns += options->step_ns) {
        int64_t wait = ns - imv_clock_wall_ns(imv_clock_system());
        struct timespec pause = {wait / 1000000000, wait % 1000000000};
        if (wait > 0 && nanosleep(&pause, NULL) != 0) continue; /* interrupted: the loop looks */
        imv_plant_step(plant, (double)options->step_ns * 1e-9);
        *rows += (uint64_t)imv_plant_lines(plant, ns, lines);
        IMV_TRY(send_lines(client, lines, err));
    }
    return IMV_OK;
}

int imv_command_demo(int argc, char **argv) {
    struct options options = {.url = "http://127.0.0.1:8086",
                              .history_ns = INT64_C(3600) * 1000000000,
                              .duration_ns = INT64_MAX,
                              .step_ns = 1000000000,
                              .seed = 1};
    struct imv_client *client = NULL;
    struct imv_plant plant;
    struct imv_buffer lines;
    struct imv_error err;
    uint64_t rows = 0;
    int result = parse(&options, argc, argv);
    if (result != 0) return result;
    if (imv_client_new(options.url, &client, &err) != IMV_OK) return imv_command_fail("demo", &err);
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    imv_plant_init(&plant, options.seed);
    imv_buffer_init(&lines, BATCH_BYTES_MAX);
    int64_t now = imv_clock_wall_ns(imv_clock_system()) / options.step_ns * options.step_ns;
    imv_status status = send_history(client, &plant, &options, now, &lines, &rows, &err);
    if (status == IMV_OK) {
        printf("%" PRIu64 " rows of history are stored\n", rows);
        fflush(stdout);
        if (options.duration_ns > 0) status = send_live(client, &plant, &options, now, &lines, &rows, &err);
    }
    if (status == IMV_OK) printf("%" PRIu64 " rows in all\n", rows);
    imv_buffer_release(&lines);
    imv_client_free(client);
    return status == IMV_OK ? 0 : imv_command_fail("demo", &err);
}
