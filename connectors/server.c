#include "connectors/server.h"

#include "connectors/http/backup.h"
#include "connectors/http/context.h"
#include "connectors/http/delete.h"
#include "connectors/http/query.h"
#include "connectors/http/remote_write.h"
#include "connectors/http/status.h"
#include "connectors/http/write.h"
#include "connectors/query_pool.h"
#include "engine/engine.h"
#include "engine/shard.h"
#include "ingest/ilp.h"
#include "query/workers.h"
#include "storage/base/assert.h"
#include "storage/base/budget.h"
#include "storage/base/log.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    QUERIES_QUEUED_MAX = 256,
    REMOTE_WRITE_BYTES_MAX =
        128 << 20,               /* bodies being collected or taken: hundreds of usual size, four of the largest */
    ARROW_BYTES_MAX = 512 << 20, /* of all Arrow streams: a few large ones, or many of batches of a megabyte */
};

static const int64_t stop_flush_ns = INT64_C(120) * 1000000000; /* then the journal keeps the rest for the next start */

/* One shard's thread and what lives on it. */
struct member {
    struct server *server;
    uint32_t index;
    pthread_t thread;
    struct imv_shard *shard;
    struct imv_writer *writer;
    struct imv_http_context http_context;
    imv_status status; /* of the phase that just ended; read by main after the barrier */
    struct imv_error err;
};

/* The loop of a shard as long as others may wake it: background work and queries do until the engine is closed. */
struct wakeable {
    pthread_mutex_t lock;
    struct imv_loop *loop; /* guarded by lock; NULL before the loop is made and after its end */
};

struct server {
    const struct imv_config *config;
    const struct imv_clock *clock;
    struct imv_engine *engine;
    struct imv_query_pool *pool, *backup_pool;
    struct imv_workers *workers;
    struct imv_budget connections, queries, remote_write, arrow;
    uint32_t shards;
    struct member *members;
    struct wakeable wakeables[IMV_SHARDS_MAX]; /* there before the engine, which does not wait to wake */
    /* Indexed by shard; each set by its own thread before the barrier of phase 1. */
    struct imv_loop **peers;
    struct imv_http **http;
    struct imv_ilp **ilp;
    uint16_t http_port, ilp_port; /* real ones, set by shard 0 */
    pthread_barrier_t phase;
    bool abandoned; /* written by main between two barriers: a phase failed somewhere */
};

static const struct imv_http_route routes[] = {
    {"POST", "/write", &imv_http_write_handler},
    {"POST", "/api/v2/write", &imv_http_write_handler},
    {"POST", "/api/v2/delete", &imv_http_delete_handler},
    {"POST", "/api/v1/write", &imv_http_remote_write_handler},
    {"POST", "/query", &imv_http_query_handler},
    {"POST", "/admin/backup", &imv_http_backup_handler},
    {"GET", "/metrics", &imv_http_metrics_handler},
    {"GET", "/livez", &imv_http_livez_handler},
    {"GET", "/readyz", &imv_http_readyz_handler},
    {"GET", "/ping", &imv_http_ping_handler},
    {"HEAD", "/ping", &imv_http_ping_handler},
    {NULL, NULL, NULL},
};

/* ---- a shard's thread ---- */

static int64_t turn(void *context) {
    struct member *member = context;
    struct server *server = member->server;
    imv_shard_run(member->shard);
    imv_ilp_turn(server->ilp[member->index]);
    int64_t http_deadline = imv_http_turn(server->http[member->index]);
    imv_writer_send(member->writer);
    int64_t shard_deadline = imv_shard_deadline_ns(member->shard);
    return http_deadline < shard_deadline ? http_deadline : shard_deadline;
}

static void set_wakeable(struct server *server, uint32_t shard, struct imv_loop *loop) {
    struct wakeable *wakeable = &server->wakeables[shard];
    pthread_mutex_lock(&wakeable->lock);
    wakeable->loop = loop;
    pthread_mutex_unlock(&wakeable->lock);
}

static imv_status open_loop(struct member *member) {
    struct server *server = member->server;
    const struct imv_config *config = server->config;
    struct imv_loop_options options = {
        .index = member->index,
        .epoll = config->epoll,
        .budget = &server->connections,
        .connections_max = (config->connections_max + server->shards - 1) / server->shards,
        .idle_ns = config->idle_timeout_ns,
        .stall_ns = config->stall_timeout_ns,
        .clock = server->clock,
        .turn = turn,
        .context = member,
    };
    struct imv_loop *loop;
    IMV_TRY(imv_loop_new(&options, &loop, &member->err));
    server->peers[member->index] = loop;
    set_wakeable(server, member->index, loop);
    return IMV_OK;
}

static imv_status open_member(struct member *member) {
    struct server *server = member->server;
    IMV_TRY(open_loop(member));
    struct imv_loop *loop = server->peers[member->index];
    IMV_TRY(imv_shard_open(server->engine, member->index, imv_loop_io(loop), &member->shard, &member->err));
    IMV_TRY(imv_writer_new(server->engine, member->index, &member->writer, &member->err));
    member->http_context = (struct imv_http_context){
        .engine = server->engine,
        .writer = member->writer,
        .pool = server->pool,
        .backup_pool = server->backup_pool,
        .workers = server->workers,
        .remote_write = &server->remote_write,
        .arrow_budget = &server->arrow,
        .clock = server->clock,
        .shards = server->shards,
        .query_timeout_ns = server->config->query_timeout_ns,
        .query_memory_bytes_max = server->config->query_memory,
        .query_memory = &server->queries,
    };
    struct imv_http_options http = {.routes = routes, .clock = server->clock, .context = &member->http_context};
    IMV_TRY(imv_http_new(&http, &server->http[member->index], &member->err));
    return imv_ilp_new(member->writer, server->clock, server->shards, &server->ilp[member->index], &member->err);
}

static imv_status listen_on(struct member *member, const struct imv_address *address, uint16_t *port,
                            const struct imv_conn_handler *handler, void *context) {
    if (address->off) return IMV_OK;
    uint16_t wanted = member->index == 0 ? address->port : *port, bound;
    IMV_TRY(imv_loop_listen(member->server->peers[member->index], address->host, wanted, handler, context, &bound,
                            &member->err));
    if (member->index == 0) *port = bound;
    return IMV_OK;
}

/* Only when all journals are replayed may a label be made. */
static imv_status set_retentions(struct server *server, struct imv_error *err) {
    const struct imv_config *config = server->config;
    for (uint32_t i = 0; i < config->retentions_count; i++) {
        const struct imv_retention *retention = &config->retentions[i];
        IMV_TRY(imv_engine_set_retention(server->engine, imv_str_from(retention->label), retention->retention_ns, err));
    }
    return IMV_OK;
}

static imv_status set_series_limits(struct server *server, struct imv_error *err) {
    const struct imv_config *config = server->config;
    for (uint32_t i = 0; i < config->series_limits_count; i++) {
        const struct imv_series_limit *limit = &config->series_limits[i];
        struct imv_label *label;
        IMV_TRY(imv_catalog_label(imv_engine_catalog(server->engine), imv_str_from(limit->label), &label, err));
        imv_label_set_series_max(label, limit->series_max);
    }
    return IMV_OK;
}

static imv_status listen_all(struct member *member) {
    struct server *server = member->server;
    if (member->index == 0) IMV_TRY(set_retentions(server, &member->err));
    if (member->index == 0) IMV_TRY(set_series_limits(server, &member->err));
    imv_loop_set_peers(server->peers[member->index], server->peers, server->shards);
    IMV_TRY(listen_on(member, &server->config->http, &server->http_port, &imv_http_conn_handler, server->http));
    return listen_on(member, &server->config->ilp, &server->ilp_port, &imv_ilp_conn_handler, server->ilp);
}

static void close_member(struct member *member) {
    struct server *server = member->server;
    if (member->shard != NULL) imv_shard_close(member->shard);
    set_wakeable(server, member->index, NULL);
    imv_loop_free(server->peers[member->index]); /* closes connections: their handlers still have writer and server */
    imv_http_free(server->http[member->index]);
    imv_ilp_free(server->ilp[member->index]);
    imv_arrow_spare_release(&member->http_context.arrow_spare);
    imv_writer_free(member->writer);
}

/* A phase ends at a barrier; main looks at all results; the next barrier lets everybody go on or give up. */
static bool end_phase(struct member *member) {
    pthread_barrier_wait(&member->server->phase);
    pthread_barrier_wait(&member->server->phase);
    return !member->server->abandoned;
}

static void *run_member(void *argument) {
    struct member *member = argument;
    member->status = open_member(member);
    bool go = end_phase(member);
    for (uint32_t turn_of = 0; go && turn_of < 2; turn_of++) { /* shard 0 first: it may have to pick the ports */
        if ((member->index == 0) == (turn_of == 0)) member->status = listen_all(member);
        go = end_phase(member);
    }
    if (go) {
        member->status = imv_loop_run(member->server->peers[member->index], &member->err);
        if (member->status != IMV_OK) imv_log(IMV_LOG_ERROR, "loop", "shard=%u %s", member->index, member->err.message);
        pthread_barrier_wait(&member->server->phase); /* all loops have ended: nobody sends to another any more */
    }
    close_member(member);
    return NULL;
}

/* ---- start and stop, on the main thread ---- */

static void wake_shard(void *context, uint32_t shard) {
    struct server *server = context;
    struct wakeable *wakeable = &server->wakeables[shard];
    pthread_mutex_lock(&wakeable->lock);
    if (wakeable->loop != NULL) imv_loop_wake(wakeable->loop);
    pthread_mutex_unlock(&wakeable->lock);
}

/* As many connections as configured need descriptors; the limit is raised as far as it goes. */
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static imv_status open_engine(struct server *server, struct imv_error *err) {
    const struct imv_config *config = server->config;
    struct imv_engine_options options;
    imv_engine_options_init(&options, config->data);
    options.shards = config->shards;
    options.head_bytes_max = config->head_memory;
    options.batch_bytes_max = config->batch_memory;
    options.wal_bytes_max = config->wal_bytes;
    options.free_bytes_min = config->free_space;
    options.flush_age_ns = config->flush_age_ns;
    options.cold_ns = config->consolidate_after_ns;
    options.limits = (struct imv_catalog_limits){config->series_max, config->label_series_max, config->catalog_memory};
    options.background = true;
    options.clock = server->clock;
    options.wake = wake_shard;
    options.context = server;
    return imv_engine_open(&options, &server->engine, err);
}

static imv_status make_members(struct server *server, struct imv_error *err) {
    server->shards = imv_engine_shards_count(server->engine);
    server->members = calloc(server->shards, sizeof *server->members);
    server->peers = calloc(server->shards, sizeof *server->peers);
    server->http = calloc(server->shards, sizeof(struct imv_http *));
    server->ilp = calloc(server->shards, sizeof(struct imv_ilp *));
    if (server->members == NULL || server->peers == NULL || server->http == NULL || server->ilp == NULL)
        return imv_fail(err, IMV_NO_MEMORY, "server: no memory for %u shards", server->shards);
    for (uint32_t i = 0; i < server->shards; i++) server->members[i] = (struct member){.server = server, .index = i};
    return IMV_OK;
}

/* Lets the phase end and returns the first failure among the members. */
static imv_status judge_phase(struct server *server, struct imv_error *err) {
    pthread_barrier_wait(&server->phase);
    imv_status status = IMV_OK;
    for (uint32_t i = 0; i < server->shards && status == IMV_OK; i++) {
        status = server->members[i].status;
        if (status != IMV_OK && err != NULL) *err = server->members[i].err;
    }
    server->abandoned = status != IMV_OK;
    pthread_barrier_wait(&server->phase);
    return status;
}

static void announce(const char *protocol, const struct imv_address *address, uint16_t port) {
    if (address->off) return;
    bool v6 = strchr(address->host, ':') != NULL;
    printf("listening %s %s%s%s:%u\n", protocol, v6 ? "[" : "", address->host, v6 ? "]" : "", port);
}

struct stop_message {
    struct imv_loop_message message;
    struct imv_loop *loop;
};

static void stop_listening(struct imv_loop_message *message) {
    imv_loop_stop_listening(((struct stop_message *)message)->loop);
}

/* Everything acknowledged goes into chunks before the loops end, so that the next start has nothing to replay. */
static void stop(struct server *server) {
    struct imv_error err;
    struct stop_message *messages = calloc(server->shards, sizeof *messages);
    for (uint32_t i = 0; i < server->shards && messages != NULL; i++) {
        messages[i] = (struct stop_message){{.run = stop_listening}, server->peers[i]};
        imv_loop_post(server->peers[i], &messages[i].message);
    }
    if (imv_engine_flush(server->engine, stop_flush_ns, &err) != IMV_OK)
        imv_log(IMV_LOG_WARN, "server", "stopping without a full flush: %s", err.message);
    for (uint32_t i = 0; i < server->shards; i++) imv_loop_stop(server->peers[i]);
    pthread_barrier_wait(&server->phase);
    for (uint32_t i = 0; i < server->shards; i++) pthread_join(server->members[i].thread, NULL);
    free(messages);
}

static void wait_for_signal(const sigset_t *signals) {
    int number;
    do { sigwait(signals, &number); } while (number != SIGTERM && number != SIGINT);
    imv_log(IMV_LOG_INFO, "server", "stopping on %s", strsignal(number));
    signal(SIGTERM, SIG_DFL); /* a second one ends the process at once */
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

static imv_status serve(struct server *server, const sigset_t *signals, struct imv_error *err) {
    for (uint32_t i = 0; i < server->shards; i++) {
        int error = pthread_create(&server->members[i].thread, NULL, run_member, &server->members[i]);
        if (error == 0) continue;
        /* The threads that did start wait at the barrier for one that will never come. Nothing is served yet. */
        imv_log(IMV_LOG_ERROR, "server", "cannot start the thread of shard %u: %s", i, strerror(error));
        _exit(EXIT_FAILURE);
    }
    imv_status status = judge_phase(server, err);
    for (int phase = 0; status == IMV_OK && phase < 2; phase++) status = judge_phase(server, err);
    if (status != IMV_OK) {
        for (uint32_t i = 0; i < server->shards; i++) pthread_join(server->members[i].thread, NULL);
        return status;
    }
    imv_log(IMV_LOG_INFO, "server", "data=%s shards=%u io=%s", server->config->data, server->shards,
            imv_loop_backend(server->peers[0]));
    announce("http", &server->config->http, server->http_port);
    announce("ilp", &server->config->ilp, server->ilp_port);
    printf("ready\n");
    fflush(stdout);
    wait_for_signal(signals);
    stop(server);
    return IMV_OK;
}

/* The helpers of queries. A query asks for them when it has worked alone for six times what waking a thread costs. */
static imv_status start_workers(struct server *server, struct imv_error *err) {
    const int64_t patience_ns = 300000;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads =
        server->config->query_workers > 0 ? server->config->query_workers : (uint32_t)(cores > 0 ? cores : 1);
    if (threads > IMV_WORKERS_MAX) threads = IMV_WORKERS_MAX;
    return imv_workers_new(threads - 1, patience_ns, &server->workers, err);
}

/* Lets go of what a flush frees. Left to itself malloc raises the size from which it maps memory to that of the blocks
 * of heads, which then lie between what lives longer and stay with the process when they are freed: of 760 MB after the
 * flush of a million series 500 MB were such. Fixed sizes switch that off. Most mallocs are far below them. */
static void set_malloc(void) {
    enum { MAP_BYTES = 512 * 1024, TRIM_BYTES = 16 << 20 };
    mallopt(M_MMAP_THRESHOLD, MAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
}

imv_status imv_server_run(const struct imv_config *config, struct imv_error *err) {
    IMV_TRY(imv_config_check(config, err));
    set_malloc();
    imv_log_set_level((enum imv_log_level)config->log_level);
    raise_file_limit();
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* inherited by every thread; main waits for them */
    signal(SIGPIPE, SIG_IGN);

    struct server server = {.config = config, .clock = imv_clock_system()};
    for (size_t i = 0; i < IMV_SHARDS_MAX; i++) pthread_mutex_init(&server.wakeables[i].lock, NULL);
    imv_budget_init(&server.connections, "connections", config->connection_memory);
    imv_budget_init(&server.queries, "queries", config->queries_memory);
    imv_budget_init(&server.remote_write, "remote_write", REMOTE_WRITE_BYTES_MAX);
    imv_budget_init(&server.arrow, "arrow", ARROW_BYTES_MAX);
    imv_status status = open_engine(&server, err);
    if (status == IMV_OK) status = imv_query_pool_new(config->query_threads, QUERIES_QUEUED_MAX, &server.pool, err);
    if (status == IMV_OK) status = imv_query_pool_new(1, 1, &server.backup_pool, err);
    if (status == IMV_OK) status = start_workers(&server, err);
    if (status == IMV_OK) status = make_members(&server, err);
    if (status == IMV_OK) {
        pthread_barrier_init(&server.phase, NULL, server.shards + 1);
        status = serve(&server, &signals, err);
        pthread_barrier_destroy(&server.phase);
    }
    imv_query_pool_free(server.pool);
    imv_query_pool_free(server.backup_pool);
    imv_workers_free(server.workers);
    if (server.engine != NULL) imv_engine_close(server.engine);
    imv_budget_release(&server.arrow);
    imv_budget_release(&server.connections);
    imv_budget_release(&server.queries);
    imv_budget_release(&server.remote_write);
    free(server.members);
    for (size_t i = 0; i < IMV_SHARDS_MAX; i++) pthread_mutex_destroy(&server.wakeables[i].lock);
    free(server.peers);
    free(server.http);
    free(server.ilp);
    return status;
}
