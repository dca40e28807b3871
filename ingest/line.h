/* line.h - InfluxDB line protocol: bytes to points, nothing else.
 *
 *     measurement[,tag=value]* field=value[,field=value]* [timestamp]
 *
 * Grammar and escapes as in github.com/influxdata/line-protocol (its corpus judges this parser); where an InfluxDB
 * server is known to differ in the value it stores, the server is followed and the difference is listed in
 * tests/unit/ingest/test_line_corpus.c. The parser is pure: it allocates nothing, keeps no state between lines, and its
 * output points into the input or into the caller's scratch.
 *
 * Limits: a line is at most IMV_LINE_BYTES_MAX bytes, 256 tags, 1,024 fields, names 1,024 bytes, string values 64 KiB;
 * one more is an error of that line that says so.
 */
#pragma once

#include "storage/base/status.h"
#include "storage/value.h"

enum {
    IMV_LINE_BYTES_MAX = 64 * 1024, /* without the line feed */
    IMV_LINE_FIELDS_MAX = 1024,
    IMV_LINE_TAGS_MAX = 256,
};

/* Units of the timestamps in the text. */
enum imv_precision {
    IMV_PRECISION_NS,
    IMV_PRECISION_US,
    IMV_PRECISION_MS,
    IMV_PRECISION_S,
    IMV_PRECISION_M,
    IMV_PRECISION_H
};

/* A line cut into its parts, not yet unescaped. */
struct imv_line {
    struct imv_str raw_key; /* measurement and tags as sent: the key of the series cache */
    const char *fields;     /* first byte of the field section */
    const char *end;        /* end of the line, line feed and CR left out */
};

struct imv_line_field {
    struct imv_str name; /* unescaped */
    imv_type type;
    uint64_t cell;       /* not of STRING */
    struct imv_str text; /* of STRING, unescaped */
};

struct imv_line_tag {
    struct imv_str key, value; /* unescaped, in the order of the line */
};

/* Where unescaped text goes when it differs from the input: as large as the line is always enough. */
struct imv_line_scratch {
    char *next, *end;
};

/* What a line is. */
enum imv_line_kind { IMV_LINE_POINT, IMV_LINE_BLANK, IMV_LINE_COMMENT };

/* Finds the end of the first line in [text, text + size): a line feed that is not inside a quoted field value. Returns
 * its length without the line feed, or -1 when there is no complete line yet; *state carries the scan over to a call
 * with more bytes (start with {0}), so that a long line is scanned once. */
struct imv_line_scan {
    size_t scanned;
    /* private */
    unsigned flags;
};
ptrdiff_t imv_line_find_end(const char *text, size_t size, struct imv_line_scan *state);
/* After a -1 for [text, text + size): the caller gives these bytes up, the scan goes on in what follows them. For lines
 * that are too long to be kept. */
void imv_line_scan_drop(const char *text, size_t size, struct imv_line_scan *state);

/* Looks at one line (no line feed in it outside of quotes) and splits a point into key and fields. IMV_INVALID with the
 * reason and the column. */
imv_status imv_line_split(const char *text, size_t size, enum imv_line_kind *kind, struct imv_line *line,
                          struct imv_error *err);

/* Parses the key: measurement and tags[IMV_LINE_TAGS_MAX]. Duplicate tag keys, empty names and values, control
 * characters and invalid UTF-8 are refused. */
imv_status imv_line_key(const struct imv_line *line, struct imv_line_scratch *scratch, struct imv_str *measurement,
                        struct imv_line_tag *tags, size_t *tags_count, struct imv_error *err);

/* Walks the fields: *at starts at line->fields. *done becomes true after the last, then *at is where the timestamp
 * begins. */
imv_status imv_line_field(const struct imv_line *line, const char **at, struct imv_line_scratch *scratch,
                          struct imv_line_field *field, bool *done, struct imv_error *err);

/* Parses the timestamp at `at` (after the fields) into nanoseconds; *present false when the line has none. IMV_INVALID
 * when it is no integer or does not fit 64 bits of nanoseconds. */
imv_status imv_line_timestamp(const struct imv_line *line, const char *at, enum imv_precision precision,
                              int64_t *timestamp, bool *present, struct imv_error *err);

/* Nanoseconds of one unit. */
int64_t imv_precision_unit(enum imv_precision precision);
/* The clock's time cut down to a multiple of the precision: what a line without a timestamp gets. */
int64_t imv_precision_floor(enum imv_precision precision, int64_t timestamp);
