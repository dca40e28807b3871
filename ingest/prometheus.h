/* prometheus.h - Prometheus remote write 1.0: the bytes of one prometheus.WriteRequest (protobuf) to rows in the
 * writer.
 *
 *     WriteRequest  1: TimeSeries*    3: metadata (dropped)
 *     TimeSeries    1: Label*         2: Sample*        3: Exemplar*, 4: Histogram* (counted, not stored)
 *     Label         1: name, string   2: value, string
 *     Sample        1: value, double  2: timestamp, int64, milliseconds since 1970
 *
 * A series becomes the twin whose label is the value of `__name__` and whose tags are its other labels; a sample
 * becomes a row with the one field `value`, a float whose bits are kept: a staleness marker (NaN 0x7ff0000000000002) is
 * stored as that NaN. Unknown fields are skipped, as protobuf asks. The fields of a message may come in any order,
 * except that the labels of a series stand together before its samples, as every sender writes them.
 *
 * Labels are held to the rules of Prometheus: a series needs `__name__`; names are not empty, not given twice, and
 * UTF-8 as values are; a label with an empty value counts as absent. A label named `value` is refused, since a property
 * of a twin is either tag or field; so are labels of more than IMV_PROMETHEUS_LABELS_BYTES_MAX together. A series that
 * breaks a rule is left out with a reason that names it, and so is a sample whose time does not fit 64-bit nanoseconds;
 * all else of the request is kept.
 *
 * Four small messages of a frozen format are read here by hand: a sample is then two loads from the place where it
 * arrived, nothing is allocated, and a request of many series can stop anywhere when the writer is full. A generated
 * reader would build an object for each label and sample of the whole request before the first row is written.
 *
 * One struct a request, on the shard's thread.
 */
#pragma once

#include "engine/writer.h"

enum {
    IMV_PROMETHEUS_TURN_BYTES = 1 << 20, /* at most handled in one call: 60,000 samples, some milliseconds */
    /* Of one series. All that the catalog takes of tags is half of it; each call that goes on in a series reads its
     * labels again, which takes 10 ms for so many. */
    IMV_PROMETHEUS_LABELS_BYTES_MAX = 1 << 20,
    IMV_PROMETHEUS_REASONS_MAX = 10, /* of one request; more than a client reads, and each takes microseconds to word */
};

struct imv_prometheus {
    struct imv_writer *writer;
    uint64_t rows;     /* samples taken */
    uint64_t rejected; /* samples refused */
    uint64_t refusals; /* series that were refused, and samples that were for themselves */
    /* Called for the first IMV_PROMETHEUS_REASONS_MAX refusals; reason begins with the series, `up{job="x"}`, cut
     * short, control characters shown as `?`. May be NULL. */
    void (*reject)(void *context, const struct imv_error *reason);
    void *context;
    /* Private: where the next call goes on. */
    size_t message_at;   /* of the request: the field under way */
    size_t series_at;    /* of that field's bytes, when it is a series; 0: not begun */
    bool series_refused; /* the rest of its samples is counted and dropped */
};

void imv_prometheus_init(struct imv_prometheus *prometheus, struct imv_writer *writer);

/* Goes on in a whole request, which stays the same from call to call.
 *
 * IMV_OK: all of it is done. IMV_BUSY: there is more, call again in the next turn of the loop. IMV_FULL: the writer has
 * no room, call again when it has. IMV_INVALID: it is no WriteRequest from some byte on, which err names; the samples
 * before it are taken and the rest is lost. */
imv_status imv_prometheus_take(struct imv_prometheus *prometheus, const char *bytes, size_t size,
                               struct imv_error *err);
