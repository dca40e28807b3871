/* feed.h - from bytes of line protocol to rows in the writer: what ILP over TCP, HTTP /write and imports share.
 *
 * A feed takes whatever pieces a transport delivers, keeps no copy of them (unfinished lines stay with the caller), and
 * reports each bad line with its number and reason; good lines of the same input are kept. One feed per connection or
 * request, on the shard's thread.
 *
 *     bytes -> find the end of a line -> parse all of it -> series by its raw key -> row in the writer
 *
 * Simple lines of known series and shapes take a shorter way that ends in the same row (README.md):
 *
 *     bytes -> spans of up to 16 lines -> their series at once -> fields straight into the row
 *
 * A line is parsed whole before anything of it reaches the catalog, so that a line with a syntax error leaves no trace:
 * no series, no field whose type a later good line would contradict. A line that contradicts the catalog itself (a
 * field of another type) may leave what stands before the contradiction: a series without rows, which is not shown, and
 * fields.
 */
#pragma once

#include "engine/writer.h"
#include "ingest/line.h"

struct imv_clock;

struct imv_feed {
    struct imv_writer *writer;
    const struct imv_clock *clock;
    enum imv_precision precision;
    int64_t unit_ns;   /* of precision */
    uint64_t lines;    /* done, blank and comment lines included: the number of the line under way is lines + 1 */
    uint64_t rows;     /* accepted */
    uint64_t rejected; /* lines refused */
    struct imv_line_scan scan;
    bool skipping; /* inside a line that is longer than IMV_LINE_BYTES_MAX: its rest is dropped */
    /* Called for each refused line; reason names the cause with the line's first bytes, where control characters are
     * shown as `?`. May be NULL. */
    void (*reject)(void *context, uint64_t line, const struct imv_error *reason);
    /* Called for a comment line, without its `#`; ILP's #sync lives here. May be NULL. Return false to stop the feed
     * after this line. */
    bool (*comment)(void *context, struct imv_str text);
    void *context;
};

void imv_feed_init(struct imv_feed *feed, struct imv_writer *writer, const struct imv_clock *clock,
                   enum imv_precision precision);

/* Takes complete lines from [bytes, bytes + size) and returns how many bytes are done; with final, the rest counts as a
 * line too. Stops early (returning less) when the writer has no room: the caller pauses and offers the rest again.
 * Lines without a timestamp get the clock's time at this call, cut to the precision. Leaves at most IMV_LINE_BYTES_MAX
 * bytes when the writer had room: of a longer line what is there is dropped, and the line counts as refused. */
size_t imv_feed_take(struct imv_feed *feed, const char *bytes, size_t size, bool final);
