#include "ingest/ilp.h"

#include "ingest/feed.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Unread answers beyond which no further `#sync` is taken: some hundred of them, far below what may be queued. */
enum { UNSENT_MAX = 8 * 1024 };
#define REJECT_LOG_NS INT64_C(1000000000)

struct session;

/* A `#sync` that is not answered. */
struct sync {
    struct sync *previous, *next; /* ilp->syncs, oldest first */
    struct session *session;
    uint64_t rows;    /* what the answer says */
    uint64_t marks[]; /* of the writer, one a shard */
};

struct session {
    struct imv_ilp *ilp;
    struct imv_conn *conn;
    struct imv_feed feed;
    struct session *previous, *next; /* ilp->waiting */
    bool waiting;                    /* is in it, and paused */
    bool held;                       /* waits for answers to go out; else for room in the writer */
    bool ended;                      /* the client sent its end: an unfinished line counts */
    bool taken;                      /* ended, and all lines were taken */
    bool failed;                     /* told so and closing */
    uint32_t syncs_count;
};

struct imv_ilp {
    struct imv_writer *writer;
    const struct imv_clock *clock;
    uint32_t shards;
    uint32_t sessions_count;
    /* Marks of one writer only grow, so the oldest sync of all sessions is the first that can be answered. */
    struct sync *syncs, *syncs_last;
    struct session *waiting, *waiting_last; /* longest first */
    uint64_t *marks;                        /* scratch */
    int64_t logged_ns;                      /* monotonic; last line about refused lines */
    uint64_t rejected;                      /* since then */
};

static bool on_comment(void *context, struct imv_str text);
static void on_reject(void *context, uint64_t line, const struct imv_error *reason);
static void session_wait(struct session *session);
static void session_stop_waiting(struct session *session);
static void session_finish(struct session *session);
static void session_fail(struct session *session, const char *reason);
static void session_drop_syncs(struct session *session);
static void sync_free(struct sync *sync);

/* -------------------------------------------------------------------------------------------------------- life */

imv_status imv_ilp_new(struct imv_writer *writer, const struct imv_clock *clock, uint32_t shards, struct imv_ilp **ilp,
                       struct imv_error *err) {
    struct imv_ilp *made = calloc(1, sizeof *made);
    uint64_t *marks = calloc(shards, sizeof *marks);
    if (made == NULL || marks == NULL) {
        free(made);
        free(marks);
        return imv_fail(err, IMV_NO_MEMORY, "ilp: no memory");
    }
    *made = (struct imv_ilp){.writer = writer, .clock = clock, .shards = shards, .marks = marks};
    made->logged_ns = imv_clock_monotonic_ns(clock) - REJECT_LOG_NS;
    *ilp = made;
    return IMV_OK;
}

void imv_ilp_free(struct imv_ilp *ilp) {
    if (ilp == NULL) return;
    imv_assert(ilp->sessions_count == 0 && ilp->syncs == NULL && ilp->waiting == NULL);
    free(ilp->marks);
    free(ilp);
}

static imv_status ilp_open(struct imv_conn *conn, void *context) {
    struct imv_ilp **by_loop = context;
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) return IMV_NO_MEMORY;
    session->ilp = by_loop[imv_loop_index(imv_conn_loop(conn))];
    session->conn = conn;
    imv_feed_init(&session->feed, session->ilp->writer, session->ilp->clock, IMV_PRECISION_NS);
    session->feed.comment = on_comment;
    session->feed.reject = on_reject;
    session->feed.context = session;
    session->ilp->sessions_count++;
    imv_conn_set_state(conn, session);
    return IMV_OK;
}

static void ilp_closed(struct imv_conn *conn) {
    struct session *session = imv_conn_state(conn);
    session_stop_waiting(session);
    session_drop_syncs(session);
    session->ilp->sessions_count--;
    free(session);
}

/* -------------------------------------------------------------------------------------------------------- input */

static size_t ilp_data(struct imv_conn *conn, const char *bytes, size_t size) {
    struct session *session = imv_conn_state(conn);
    size_t done = 0;
    for (bool tried = false; done < size;) {
        size_t taken = imv_feed_take(&session->feed, bytes + done, size - done, session->ended);
        done += taken;
        if (session->failed) return size;
        if (session->held) break;
        if (done < size && !imv_writer_has_room(session->ilp->writer)) {
            session_wait(session);
            break;
        }
        /* Nothing taken is an unfinished line, or a writer that had no room then and has now: the second try tells. */
        if (taken == 0 && tried) break;
        tried = taken == 0;
    }
    if (session->held) session_wait(session);
    if (session->ended && !session->waiting) session_finish(session);
    return done;
}

static void ilp_end(struct imv_conn *conn) {
    struct session *session = imv_conn_state(conn);
    session->ended = true;
    if (imv_conn_rest(conn).size > 0)
        imv_conn_resume(conn); /* offers the rest once more: now it is a line */
    else
        session_finish(session);
}

const struct imv_conn_handler imv_ilp_conn_handler = {
    .name = "ilp", .open = ilp_open, .data = ilp_data, .end = ilp_end, .closed = ilp_closed};

/* All lines are taken: closes now or with the last answer. */
static void session_finish(struct session *session) {
    session->taken = true;
    if (session->syncs_count == 0) imv_conn_close(session->conn);
}

static bool is_held(const struct session *session) {
    return session->syncs_count >= IMV_ILP_SYNCS_MAX || imv_conn_unsent(session->conn) > UNSENT_MAX;
}

static bool on_comment(void *context, struct imv_str text) {
    struct session *session = context;
    struct imv_ilp *ilp = session->ilp;
    if (text.size > 0 && text.data[text.size - 1] == '\r') text.size--;
    if (!imv_str_equal(text, IMV_STR("sync"))) return true;
    struct sync *sync = calloc(1, sizeof *sync + ilp->shards * sizeof sync->marks[0]);
    if (sync == NULL) {
        session_fail(session, "no memory");
        return false;
    }
    sync->session = session;
    sync->rows = session->feed.rows;
    imv_writer_mark(ilp->writer, sync->marks);
    sync->previous = ilp->syncs_last;
    *(ilp->syncs_last != NULL ? &ilp->syncs_last->next : &ilp->syncs) = sync;
    ilp->syncs_last = sync;
    session->syncs_count++;
    session->held = is_held(session);
    return !session->held;
}

/* What came from a client or a file name may hold anything; an answer or a log line is one line of text. */
static void copy_printable(char *to, size_t size, const char *from) {
    size_t i = 0;
    for (; from[i] != 0 && i < size - 1; i++) to[i] = (unsigned char)from[i] < ' ' || from[i] == 127 ? '?' : from[i];
    to[i] = 0;
}

static void on_reject(void *context, uint64_t line, const struct imv_error *reason) {
    struct session *session = context;
    struct imv_ilp *ilp = session->ilp;
    ilp->rejected++;
    int64_t now_ns = imv_clock_monotonic_ns(ilp->clock);
    if (now_ns - ilp->logged_ns < REJECT_LOG_NS) return;
    char text[IMV_ERROR_MESSAGE_BYTES];
    copy_printable(text, sizeof text, reason->message);
    imv_log(IMV_LOG_WARN, "ilp", "peer=%s line=%" PRIu64 " refused=%" PRIu64 " %s", imv_conn_peer(session->conn), line,
            ilp->rejected, text);
    ilp->logged_ns = now_ns;
    ilp->rejected = 0;
}

/* ------------------------------------------------------------------------------------------------------- waiting */

static void session_wait(struct session *session) {
    struct imv_ilp *ilp = session->ilp;
    imv_conn_pause(session->conn);
    if (session->waiting) return;
    session->waiting = true;
    session->next = NULL;
    session->previous = ilp->waiting_last;
    *(ilp->waiting_last != NULL ? &ilp->waiting_last->next : &ilp->waiting) = session;
    ilp->waiting_last = session;
}

static void session_stop_waiting(struct session *session) {
    struct imv_ilp *ilp = session->ilp;
    if (!session->waiting) return;
    session->waiting = session->held = false;
    *(session->previous != NULL ? &session->previous->next : &ilp->waiting) = session->next;
    *(session->next != NULL ? &session->next->previous : &ilp->waiting_last) = session->previous;
}

static void session_go_on(struct session *session) {
    session_stop_waiting(session);
    imv_conn_resume(session->conn);
    /* The end may have been told before the pause; then no further call of data comes when nothing is left. */
    if (session->ended && imv_conn_rest(session->conn).size == 0) session_finish(session);
}

/* While a journal that failed keeps the writer full, nobody waits for ever. */
static bool journal_failed(struct imv_ilp *ilp, struct imv_error *why) {
    imv_writer_mark(ilp->writer, ilp->marks);
    return imv_writer_check(ilp->writer, ilp->marks, why) == IMV_CLOSED;
}

static void serve_waiting(struct imv_ilp *ilp) {
    if (ilp->waiting == NULL) return;
    struct imv_error why = {0};
    bool room = imv_writer_has_room(ilp->writer);
    bool failed = !room && journal_failed(ilp, &why);
    for (struct session *session = ilp->waiting, *next; session != NULL; session = next) {
        next = session->next;
        if (session->held ? !is_held(session) : room)
            session_go_on(session);
        else if (!session->held && failed)
            session_fail(session, why.message);
    }
}

/* ------------------------------------------------------------------------------------------------------- answers */

void imv_ilp_turn(struct imv_ilp *ilp) {
    while (ilp->syncs != NULL) {
        struct sync *sync = ilp->syncs;
        struct session *session = sync->session;
        struct imv_error why = {0};
        imv_status status = imv_writer_check(ilp->writer, sync->marks, &why);
        if (status == IMV_BUSY) break;
        if (status != IMV_OK) {
            session_fail(session, why.message);
            continue;
        }
        char answer[32];
        int size = snprintf(answer, sizeof answer, "#ok %" PRIu64 "\n", sync->rows);
        sync_free(sync);
        /* There is always room in the queue: is_held saw to it. */
        if (imv_conn_send(session->conn, answer, (size_t)size) != IMV_OK) imv_conn_abort(session->conn);
        if (session->taken && session->syncs_count == 0) imv_conn_close(session->conn);
    }
    serve_waiting(ilp);
}

static void session_fail(struct session *session, const char *reason) {
    session->failed = true;
    session_stop_waiting(session);
    session_drop_syncs(session);
    char text[IMV_ERROR_MESSAGE_BYTES], answer[IMV_ERROR_MESSAGE_BYTES + 16];
    copy_printable(text, sizeof text, reason);
    int size = snprintf(answer, sizeof answer, "#error %s\n", text);
    imv_log(IMV_LOG_WARN, "ilp", "peer=%s closed: %s", imv_conn_peer(session->conn), text);
    imv_conn_send(session->conn, answer, (size_t)size);
    imv_conn_close(session->conn);
}

static void sync_free(struct sync *sync) {
    struct imv_ilp *ilp = sync->session->ilp;
    *(sync->previous != NULL ? &sync->previous->next : &ilp->syncs) = sync->next;
    *(sync->next != NULL ? &sync->next->previous : &ilp->syncs_last) = sync->previous;
    sync->session->syncs_count--;
    free(sync);
}

static void session_drop_syncs(struct session *session) {
    for (struct sync *sync = session->ilp->syncs, *next; sync != NULL && session->syncs_count > 0; sync = next) {
        next = sync->next;
        if (sync->session == session) sync_free(sync);
    }
}
