/* query.h - TwinQL: a statement's text in, rows out. The one entrance to this folder.
 *
 *     imv_query_run = parse -> bind -> plan -> optimize -> execute, on the calling thread, against one snapshot.
 *
 * A query has a deadline, a memory budget and can be cancelled from another thread; each ends it within 100 ms with an
 * error that says so. Results are pushed into a sink in batches of typed columns; a sink that blocks (a slow client)
 * pauses the query, a sink that fails ends it.
 */
#pragma once

#include "storage/base/buffer.h"
#include "storage/base/clock.h"
#include "storage/base/status.h"

#include <stdatomic.h>
#include <stdbool.h>

struct imv_engine;
struct imv_workers; /* query/workers.h */
struct imv_value;   /* query/value.h */
struct imv_budget;  /* storage/base/budget.h */
struct imv_column;  /* query/column.h */

enum {
    IMV_QUERY_TEXT_BYTES_MAX = 64 * 1024,
    IMV_QUERY_NESTING_MAX = 64,
};

/* An error as a client sees it. code and detail are the openCypher TCK's names (SyntaxError / UndefinedVariable). */
struct imv_query_error {
    const char *code;     /* SyntaxError, TypeError, ArgumentError, ParameterMissing, EntityNotFound, ... static */
    const char *detail;   /* UndefinedVariable, InvalidNumberLiteral, ... static */
    char message[512];    /* one sentence, no position */
    int line, column;     /* 1-based, column in code points; 0 when the error has no place in the text */
    char snippet[256];    /* the source line and a caret line below it, or "" */
    char suggestion[128]; /* "did you mean 'hostname'?" or "" */
};

/* A named parameter; the value lives as long as the query. */
struct imv_query_parameter {
    struct imv_str name;
    const struct imv_value *value;
};

/* Ways of running a statement that give the same rows as the plain one; a request may leave them out, so that tests can
 * compare. */
enum imv_query_shortcut {
    IMV_QUERY_BUCKETS = 1, /* aggregates of windows from the scan (opt/push_buckets.c) */
    IMV_QUERY_RANGES = 4,  /* vectors whose statistics no filter meets (opt/push_ranges.c) */
    IMV_QUERY_RECENT = 2,  /* the newest windows or samples first (opt/recent_windows.c, recent_samples.c) */
};

struct imv_query_request {
    struct imv_str text;
    const struct imv_query_parameter *parameters;
    size_t parameters_count;
    int64_t deadline_ns;           /* monotonic; INT64_MAX: none */
    size_t memory_bytes_max;       /* of everything the query holds at once */
    struct imv_budget *memory;     /* of all queries together, which it must fit too; NULL: none */
    const _Atomic bool *cancelled; /* may be NULL; polled */
    const struct imv_clock *clock; /* NULL: the engine's; now() is fixed per statement */
    struct imv_workers *workers;   /* threads that may help; NULL: none */
    unsigned without;              /* of enum imv_query_shortcut */
};

struct imv_query_statistics {
    uint64_t rows;    /* sent to the sink */
    uint64_t samples; /* rows read from series */
    int64_t elapsed_ns;
};

/* Where rows go. Functions return false to end the query (client gone, answer too large). Called on the query's thread:
 * begin once, rows any number of times, end once; when the query fails no call follows the failure. sink/sink.h has
 * sinks that write JSON, NDJSON and CSV. */
struct imv_query_sink {
    bool (*begin)(struct imv_query_sink *sink, const struct imv_str *columns, size_t count);
    /* rows x count values, column by column, valid during the call; imv_column_value reads one. */
    bool (*rows)(struct imv_query_sink *sink, const struct imv_column *columns, size_t count, size_t rows);
    bool (*end)(struct imv_query_sink *sink, const struct imv_query_statistics *statistics);
};

/* Runs one statement. On failure error is filled and the status is IMV_INVALID (the statement is wrong), IMV_TIMEOUT,
 * IMV_CANCELLED, IMV_FULL (memory), IMV_CORRUPT, IMV_IO. begin may have been called before. Any thread but a
 * shard's. */
imv_status imv_query_run(struct imv_engine *engine, const struct imv_query_request *request,
                         struct imv_query_sink *sink, struct imv_query_error *error);
