#include "ingest/arrow.h"

#include "ingest/arrow_internal.h"
#include "storage/base/assert.h"
#include "storage/base/clock.h"
#include "storage/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    MESSAGE_BYTES_FIRST = 64 * 1024,
    /* About three milliseconds: what a loop may give to one connection before others have their turn. */
    TURN_ROWS = 16 * 1024,
};

/* ---- memory of a stream ---- */

imv_status imv_arrow_no_memory(struct imv_error *err) {
    return imv_fail(err, IMV_NO_MEMORY, "arrow: no memory for this stream now; smaller batches need less");
}

void *imv_arrow_resize(struct imv_arrow_feed *feed, void *memory, size_t bytes, size_t wanted) {
    imv_assert(wanted > bytes);
    if (!imv_budget_take(&feed->budget, wanted - bytes)) return NULL;
    void *made = realloc(memory, wanted);
    if (made == NULL) imv_budget_give(&feed->budget, wanted - bytes);
    return made;
}

void imv_arrow_release(struct imv_arrow_feed *feed, void *memory, size_t bytes) {
    free(memory);
    if (memory != NULL) imv_budget_give(&feed->budget, bytes);
}

/* ---- life ---- */

/* Puts the memory of messages where the next stream finds it. Fresh memory costs a page fault for every 4 KiB, a tenth
 * of what a small request costs. */
static void leave_message(struct imv_arrow_feed *feed) {
    struct imv_arrow_spare *spare = feed->options.spare;
    size_t bytes = feed->message_capacity;
    if (spare == NULL || spare->bytes >= bytes || bytes > IMV_ARROW_SPARE_BYTES_MAX) {
        imv_arrow_release(feed, feed->message, bytes);
        return;
    }
    imv_budget_give(&feed->budget, bytes);
    free(spare->memory);
    *spare = (struct imv_arrow_spare){feed->message, bytes};
}

static void take_spare(struct imv_arrow_feed *feed) {
    struct imv_arrow_spare *spare = feed->options.spare;
    if (spare == NULL || spare->memory == NULL || !imv_budget_take(&feed->budget, spare->bytes)) return;
    feed->message = spare->memory;
    feed->message_capacity = spare->bytes;
    *spare = (struct imv_arrow_spare){0};
}

void imv_arrow_spare_release(struct imv_arrow_spare *spare) {
    free(spare->memory);
    *spare = (struct imv_arrow_spare){0};
}

imv_status imv_arrow_feed_new(const struct imv_arrow_feed_options *options, struct imv_arrow_feed **feed,
                              struct imv_error *err) {
    enum { ARENA_BLOCK_BYTES = 16 * 1024 };
    struct imv_arrow_feed *made = calloc(1, sizeof *made);
    if (made == NULL) return imv_arrow_no_memory(err);
    made->options = *options;
    made->catalog = imv_writer_catalog(options->writer);
    imv_budget_init_child(&made->budget, options->budget, IMV_ARROW_STREAM_BYTES_MAX);
    take_spare(made);
    imv_arena_init(&made->arena, ARENA_BLOCK_BYTES, &made->budget);
    imv_buffer_init(&made->raw, IMV_WRITER_FIND_MAX * 2 * IMV_LINE_BYTES_MAX);
    made->label_name = imv_arena_copy(&made->arena, options->label);
    imv_status status = made->label_name.data == NULL ? imv_arrow_no_memory(err) : IMV_OK;
    if (status == IMV_OK && getrandom(&made->seed, sizeof made->seed, 0) != sizeof made->seed)
        status = imv_fail_errno(err, IMV_IO, errno, "arrow: no random seed");
    if (status == IMV_OK)
        *feed = made;
    else
        imv_arrow_feed_free(made);
    return status;
}

void imv_arrow_feed_free(struct imv_arrow_feed *feed) {
    if (feed == NULL) return;
    imv_arrow_forget(feed);
    for (uint32_t i = 0; i < feed->dictionaries_count; i++) {
        struct arrow_dictionary *dictionary = &feed->dictionaries[i];
        imv_arena_release(&dictionary->arena);
        imv_arrow_release(feed, dictionary->values, dictionary->capacity * sizeof *dictionary->values);
    }
    leave_message(feed);
    imv_buffer_release(&feed->raw);
    imv_arena_release(&feed->arena);
    imv_budget_release(&feed->budget);
    free(feed);
}

uint64_t imv_arrow_feed_rows(const struct imv_arrow_feed *feed) { return feed->rows; }
uint64_t imv_arrow_feed_rejected(const struct imv_arrow_feed *feed) { return feed->rejected; }

/* ---- messages ---- */

/* Makes room for `size` bytes of the message. */
static imv_status reserve(struct imv_arrow_feed *feed, size_t size, struct imv_error *err) {
    if (size <= feed->message_capacity) return IMV_OK;
    size_t capacity = feed->message_capacity < MESSAGE_BYTES_FIRST ? MESSAGE_BYTES_FIRST : feed->message_capacity * 2;
    if (feed->message_sized && capacity > feed->message_bytes) capacity = feed->message_bytes;
    if (capacity < size) capacity = size;
    char *made = imv_arrow_resize(feed, feed->message, feed->message_capacity, capacity);
    if (made == NULL) return imv_arrow_no_memory(err);
    feed->message = made;
    feed->message_capacity = capacity;
    return IMV_OK;
}

/* Reads what is known of the message's size once its prefix or its metadata is complete. */
static imv_status begin_message(struct imv_arrow_feed *feed, struct imv_error *err) {
    feed->prefix_have = 0;
    IMV_TRY(imv_arrow_prefix(feed->prefix, &feed->metadata_bytes, err));
    if (feed->metadata_bytes == 0) {
        feed->ended = true;
        return IMV_OK;
    }
    if (feed->metadata_bytes % 8 != 0)
        return imv_fail(err, IMV_INVALID, "arrow: metadata of %zu bytes is not aligned", feed->metadata_bytes);
    feed->in_message = true;
    feed->message_sized = false;
    feed->message_bytes = feed->metadata_bytes;
    feed->message_have = 0;
    return IMV_OK;
}

static imv_status open_message(struct imv_arrow_feed *feed, struct imv_flat_reader *reader,
                               struct imv_arrow_message *message, struct imv_error *err) {
    return imv_arrow_message_open(feed->message, feed->metadata_bytes, reader, message, err);
}

static imv_status size_message(struct imv_arrow_feed *feed, struct imv_error *err) {
    struct imv_flat_reader reader;
    struct imv_arrow_message message;
    IMV_TRY(open_message(feed, &reader, &message, err));
    if (message.body_bytes > IMV_ARROW_MESSAGE_BYTES_MAX - feed->metadata_bytes)
        return imv_fail(err, IMV_INVALID, "arrow: a message of %zu bytes, the limit is %d; send smaller batches",
                        message.body_bytes + feed->metadata_bytes, IMV_ARROW_MESSAGE_BYTES_MAX);
    feed->message_bytes += message.body_bytes;
    feed->message_sized = true;
    return IMV_OK;
}

static imv_status take_message(struct imv_arrow_feed *feed, struct imv_error *err) {
    struct imv_flat_reader reader;
    struct imv_arrow_message message;
    IMV_TRY(open_message(feed, &reader, &message, err));
    struct imv_str body = {feed->message + feed->metadata_bytes, message.body_bytes};
    feed->in_message = false;
    if (message.header == IMV_ARROW_SCHEMA) return imv_arrow_schema_read(feed, &message, err);
    if (!feed->schema_known) return imv_fail(err, IMV_INVALID, "arrow: a batch comes before the schema");
    if (message.header == IMV_ARROW_DICTIONARY) return imv_arrow_dictionary_read(feed, &message, body, err);
    return imv_arrow_rows_begin(feed, &message, body, err);
}

/* Copies what is missing of the prefix or the message; returns how much. */
static size_t fill(char *to, size_t *have, size_t wanted, const char *bytes, size_t size) {
    size_t part = wanted - *have < size ? wanted - *have : size;
    if (part > 0) memcpy(to + *have, bytes, part);
    *have += part;
    return part;
}

/* Takes bytes up to the end of a prefix, of a message's metadata or of its body. */
static imv_status take_bytes(struct imv_arrow_feed *feed, const char *bytes, size_t size, size_t *taken,
                             struct imv_error *err) {
    if (feed->ended) return imv_fail(err, IMV_INVALID, "arrow: bytes behind the end of the stream");
    if (!feed->in_message) {
        *taken += fill(feed->prefix, &feed->prefix_have, sizeof feed->prefix, bytes, size);
        return feed->prefix_have == sizeof feed->prefix ? begin_message(feed, err) : IMV_OK;
    }
    size_t missing = feed->message_bytes - feed->message_have;
    IMV_TRY(reserve(feed, feed->message_have + (missing < size ? missing : size), err));
    *taken += fill(feed->message, &feed->message_have, feed->message_bytes, bytes, size);
    if (feed->message_have < feed->message_bytes) return IMV_OK;
    if (!feed->message_sized) IMV_TRY(size_message(feed, err));
    return feed->message_have == feed->message_bytes ? take_message(feed, err) : IMV_OK;
}

static imv_status take(struct imv_arrow_feed *feed, const char *bytes, size_t size, size_t *taken,
                       struct imv_error *err) {
    size_t rows_left = TURN_ROWS;
    for (;;) {
        if (feed->batch_open) IMV_TRY(imv_arrow_rows_run(feed, &rows_left, err));
        if (*taken == size) return IMV_OK;
        IMV_TRY(take_bytes(feed, bytes + *taken, size - *taken, taken, err));
    }
}

imv_status imv_arrow_feed_take(struct imv_arrow_feed *feed, const char *bytes, size_t size, size_t *taken,
                               struct imv_error *err) {
    *taken = 0;
    if (feed->failure.status != IMV_OK) {
        if (err != NULL) *err = feed->failure;
        return feed->failure.status;
    }
    uint64_t rejected = feed->rejected;
    struct imv_error failure = {0};
    feed->now = imv_precision_floor(feed->options.precision, imv_clock_wall_ns(feed->options.clock));
    imv_status status = take(feed, bytes, size, taken, &failure);
    imv_metric_add(IMV_METRIC_ingest_bytes_total, (int64_t)*taken);
    imv_metric_add(IMV_METRIC_ingest_lines_rejected_total, (int64_t)(feed->rejected - rejected));
    if (status != IMV_OK && status != IMV_FULL && status != IMV_BUSY) feed->failure = failure;
    if (status != IMV_OK && err != NULL) *err = failure;
    return status;
}

imv_status imv_arrow_feed_end(const struct imv_arrow_feed *feed, struct imv_error *err) {
    if (feed->failure.status != IMV_OK) {
        if (err != NULL) *err = feed->failure;
        return feed->failure.status;
    }
    imv_assert(!feed->batch_open);
    if (feed->in_message || feed->prefix_have > 0)
        return imv_fail(err, IMV_INVALID, "arrow: the stream ends inside a message");
    if (!feed->schema_known) return imv_fail(err, IMV_INVALID, "arrow: the stream has no schema");
    return IMV_OK;
}
