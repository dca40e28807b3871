#include "connectors/http/backup.h"

#include "connectors/http/context.h"
#include "connectors/query_pool.h"
#include "engine/backup.h"
#include "storage/base/buffer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    OUTPUT_BYTES_MAX = 1 << 20, /* that wait for the connection; one piece may pass it */
    PIECE_BYTES = 128 * 1024,   /* of one chunk of the reply */
};
static const int64_t flush_timeout_ns = INT64_C(300) * 1000000000;

struct backup {
    struct imv_query_job job;        /* queued in the pool */
    struct imv_loop_message message; /* posted to the loop when there is news */
    struct imv_loop *loop;
    struct imv_http_context *context;
    /* ---- the loop's thread ---- */
    struct imv_http_request *http; /* NULL once the request is over */
    struct imv_buffer sending;
    size_t sent; /* of sending */
    bool streaming;
    /* ---- between the loop's thread and the backup's, guarded by lock ---- */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* output was taken, or the request is over */
    struct imv_buffer out;
    bool posted;          /* the message is queued in the loop */
    bool done;            /* the backup's thread has ended its work */
    bool released;        /* the request side holds it no more */
    struct imv_error err; /* set with done */
};

/* ---- life ---- */

static void destroy(struct backup *backup) {
    imv_buffer_release(&backup->sending);
    imv_buffer_release(&backup->out);
    pthread_cond_destroy(&backup->moved);
    pthread_mutex_destroy(&backup->lock);
    free(backup);
}

/* Called with the lock held; unlocks. Frees when the request, the job and the message are all through with it. */
static void unlock_and_destroy_if_last(struct backup *backup) {
    bool last = backup->released && backup->done && !backup->posted;
    pthread_mutex_unlock(&backup->lock);
    if (last) destroy(backup);
}

/* Called with the lock held. */
static void post(struct backup *backup) {
    if (backup->posted || backup->released) return;
    backup->posted = true;
    imv_loop_post(backup->loop, &backup->message);
}

/* ---- the backup's thread ---- */

static bool write_out(void *context, const void *bytes, size_t size) {
    struct backup *backup = context;
    pthread_mutex_lock(&backup->lock);
    while (backup->out.size >= OUTPUT_BYTES_MAX && !backup->released) pthread_cond_wait(&backup->moved, &backup->lock);
    bool written = !backup->released && imv_buffer_append(&backup->out, bytes, size);
    if (backup->out.size >= PIECE_BYTES) post(backup);
    pthread_mutex_unlock(&backup->lock);
    return written;
}

static void run(struct imv_query_job *job) {
    struct backup *backup = (struct backup *)job;
    struct imv_error err = {0};
    imv_backup_run(backup->context->engine, flush_timeout_ns, write_out, backup, &err);
    pthread_mutex_lock(&backup->lock);
    backup->done = true;
    backup->err = err;
    post(backup);
    unlock_and_destroy_if_last(backup);
}

/* ---- the loop's thread ---- */

/* Takes what the backup wrote; tells whether that was all. */
static bool take_output(struct backup *backup) {
    pthread_mutex_lock(&backup->lock);
    if (backup->sent == backup->sending.size) {
        struct imv_buffer empty = backup->sending;
        imv_buffer_reset(&empty);
        backup->sending = backup->out;
        backup->out = empty;
        backup->sent = 0;
        pthread_cond_signal(&backup->moved);
    }
    bool all = backup->done && backup->out.size == 0;
    pthread_mutex_unlock(&backup->lock);
    return all;
}

/* After done, so that nobody else writes err. */
static void reply_failure(struct backup *backup) {
    if (backup->streaming)
        imv_http_stream_abort(backup->http);
    else if (backup->err.status == IMV_BUSY)
        imv_http_reply_error(backup->http, 409, "conflict", backup->err.message);
    else
        imv_http_reply_error(backup->http, 503, "unavailable", backup->err.message);
}

/* Sends until the connection is full, the output is empty for now, or the reply is complete. */
static void move_output(struct backup *backup) {
    for (;;) {
        bool all = take_output(backup);
        if (all && backup->err.status != IMV_OK) {
            reply_failure(backup);
            return;
        }
        size_t left = backup->sending.size - backup->sent;
        if (left == 0 && !all) return; /* news will come */
        if (!backup->streaming) {
            backup->streaming = true;
            imv_http_stream_begin(backup->http, 200, "application/x-tar");
        }
        if (left == 0) {
            imv_http_stream_end(backup->http);
            return;
        }
        struct imv_str piece = {backup->sending.data + backup->sent, left < PIECE_BYTES ? left : PIECE_BYTES};
        imv_status sent = imv_http_stream_send(backup->http, piece);
        if (sent == IMV_FULL) return; /* drained will come */
        if (sent != IMV_OK) {
            imv_http_stream_abort(backup->http);
            return;
        }
        backup->sent += piece.size;
    }
}

static void on_message(struct imv_loop_message *message) {
    struct backup *backup = (struct backup *)((char *)message - offsetof(struct backup, message));
    pthread_mutex_lock(&backup->lock);
    backup->posted = false;
    if (backup->released) {
        unlock_and_destroy_if_last(backup);
        return;
    }
    pthread_mutex_unlock(&backup->lock);
    move_output(backup);
}

/* ---- the request ---- */

static void begin(struct imv_http_request *http) { (void)http; }

static bool body(struct imv_http_request *http, const char *bytes, size_t size) {
    (void)http, (void)bytes, (void)size;
    return true;
}

static void end(struct imv_http_request *http) {
    struct backup *backup = calloc(1, sizeof *backup);
    if (backup == NULL) {
        imv_http_reply_error(http, 503, "unavailable", "no memory for a backup");
        return;
    }
    backup->job.run = run;
    backup->message.run = on_message;
    backup->loop = imv_http_loop(http);
    backup->context = imv_http_context(http);
    backup->http = http;
    pthread_mutex_init(&backup->lock, NULL);
    pthread_cond_init(&backup->moved, NULL);
    imv_buffer_init(&backup->out, SIZE_MAX / 2); /* bounded by write_out */
    imv_buffer_init(&backup->sending, SIZE_MAX / 2);
    imv_http_set_state(http, backup);
    if (imv_query_pool_submit(backup->context->backup_pool, &backup->job) == IMV_OK) return;
    backup->done = true; /* nobody else holds it */
    imv_http_reply_error(http, 409, "conflict", "another backup is under way");
}

static void drained(struct imv_http_request *http) {
    struct backup *backup = imv_http_state(http);
    if (backup->streaming) move_output(backup);
}

static void finish(struct imv_http_request *http) {
    struct backup *backup = imv_http_state(http);
    if (backup == NULL) return;
    pthread_mutex_lock(&backup->lock);
    backup->http = NULL;
    backup->released = true;
    pthread_cond_signal(&backup->moved);
    unlock_and_destroy_if_last(backup);
}

const struct imv_http_handler imv_http_backup_handler = {
    .begin = begin,
    .body = body,
    .end = end,
    .drained = drained,
    .finish = finish,
    .ends_with_client = true,
};
