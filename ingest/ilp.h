/* ilp.h - line protocol over TCP: a stream of lines, no request, no answer unless one is asked for.
 *
 *     cpu,hostname=h1 usage_user=3 1700000000000000000\n      a row
 *     nonsense\n                                              counted and logged; the connection goes on
 *     #sync\n                                                 answered  #ok <rows>\n  when all rows before it on this
 *                                                             connection are durable and visible; rows: accepted on this
 *                                                             connection so far
 *
 * Timestamps are nanoseconds. Lines and `#sync` may end with CR LF. Answers come in the order of the `#sync` lines, of
 * which IMV_ILP_SYNCS_MAX may be pending: beyond it the connection is not read until some are answered, nor while the
 * client leaves answers unread. When rows before a `#sync` can not become durable any more, because a journal failed,
 * `#error <reason>\n` is answered and the connection closed. A client that is done shuts its side down: what it sent is
 * taken, a last line without line feed included, pending `#sync` are answered, then the server closes.
 *
 * When the writer has no room the connection is not read: TCP holds the client back.
 *
 * One struct imv_ilp a shard, used by the shard's thread only, on the shard's writer. A connection lands on any loop,
 * so the listeners' context is the array of all of them, indexed by imv_loop_index; each entry is set before its loop
 * runs.
 */
#pragma once

#include "ingest/loop.h"

struct imv_ilp;
struct imv_writer;

enum { IMV_ILP_SYNCS_MAX = 64 }; /* of one connection */

/* handler and context for imv_loop_listen: &imv_ilp_conn_handler and a struct imv_ilp ** by loop index. */
extern const struct imv_conn_handler imv_ilp_conn_handler;

/* shards is the number of marks of the writer. writer and clock must outlive it. */
imv_status imv_ilp_new(struct imv_writer *writer, const struct imv_clock *clock, uint32_t shards, struct imv_ilp **ilp,
                       struct imv_error *err);
/* The loop is freed before, so that no connection is left. NULL is allowed. */
void imv_ilp_free(struct imv_ilp *ilp);

/* Answers what has become durable and goes on with connections that waited for room. Called once a turn, after the
 * shard ran and before imv_writer_send. */
void imv_ilp_turn(struct imv_ilp *ilp);
