/* cursor_internal.h - the inside of a cursor; private to cursor.c (choice and merge), cursor_source.c (one source of
 * rows), cursor_newest.c (current values) and cursor_buckets.c (aggregates of windows).
 *
 * A source is the rows of the cursor's series in one part or one head, decoded one vector at a time. Before it is
 * loaded only a lower bound of its next timestamp is known (from the part, then from the chunk's header):
 *
 *     candidate part --open--> positioned (bound) --load--> loaded (rows) --consumed--> positioned .. --> ended
 *
 * The first parts that are read get a reader each, the others share the last one. A chunk's bytes are a view that dies
 * when the reader moves, so a source that finds its reader elsewhere seeks its chunk again; that happens only where
 * sources of a shared reader overlap, once a vector.
 */
#pragma once

#include "engine/chunk_reader.h"
#include "engine/cursor.h"
#include "engine/head.h"

enum {
    /* Of one cursor. A query over a day has a part for every hour at most; each costs some KiB in the store and, at its
     * first use, about as much as a seek. */
    IMV_CURSOR_READERS = 24,
};

struct imv_source {
    struct imv_source *next_free;
    uint32_t rank; /* of equal timestamps the higher one wins */
    bool loaded;
    int64_t time_bound; /* while not loaded: no row of it is earlier */
    /* While loaded: rows row_index.. of these; they are within the cursor's range. */
    size_t row_index, rows_count;
    int64_t *timestamps;
    struct imv_vector *vectors; /* [columns_count]; valid NULL where every row has a value */
    /* Of a part: the chunk, the vector in it that is loaded next, and the span that is first in it. */
    const struct imv_part *part; /* NULL: of a head */
    struct imv_chunk_reader *reader;
    struct imv_chunk chunk; /* its bytes are there only while the source is the reader's owner */
    uint32_t vector_index, span_index;
    int64_t span_time; /* of the first row of that span, when another one is loaded */
    /* Of a head. */
    const struct imv_head_series *head_rows;
    struct imv_head_scan scan;
    bool scanning;
    /* Buffers, kept from series to series. */
    int64_t *timestamps_buffer; /* [IMV_VECTOR_ROWS] */
    uint64_t *cells_buffer;     /* [columns_count * IMV_VECTOR_ROWS] */
    uint64_t *valid_buffer;     /* [columns_count * IMV_VECTOR_WORDS] */
    int32_t *positions;         /* [columns_count] */
    size_t *values;             /* [columns_count] */
    struct imv_arena arena;     /* strings of the loaded vector of a chunk, or the order of a head's rows */
};

/* A part that may have rows of the label. */
struct imv_candidate {
    const struct imv_part *part;
    uint32_t rank;
};

struct imv_cursor {
    struct imv_snapshot *snapshot;
    struct imv_label *label;
    struct imv_budget *budget;
    struct imv_arena arena; /* everything that lasts as long as the cursor */
    size_t columns_count;
    uint32_t *columns;
    imv_type *types;
    bool has_strings;

    struct imv_chunk_reader readers[IMV_CURSOR_READERS];
    size_t readers_count;
    struct imv_chunk_reader **reader_of; /* by rank of the part; NULL where none was needed yet */

    size_t candidates_count;
    struct imv_candidate *by_time_min; /* rising */
    struct imv_candidate *by_time_max; /* falling */

    /* The candidates that overlap [from, last], by time_min: the same for every series of a query. */
    int64_t from, last;
    bool selected;
    struct imv_candidate *selection;
    size_t selection_count;

    struct imv_series *series;
    struct imv_mask mask;   /* what is deleted of it */
    size_t selection_index; /* the next part to open */
    struct imv_source **active;
    size_t active_count, active_capacity;
    struct imv_source *free_sources;
    struct imv_source *emitted; /* all its rows are in the batch that the caller has */

    struct imv_rows batch;      /* the view that is handed out */
    int64_t *merged_timestamps; /* [IMV_VECTOR_ROWS], made at the first merge, as is merged_vectors */
    struct imv_vector *merged_vectors;
    bool *merged_gaps; /* [columns_count]: some merged row has no value */

    /* cursor_newest.c, made at its first use */
    int64_t *newest_timestamps; /* [IMV_VECTOR_ROWS] */
    uint64_t *newest_cells;     /* [IMV_VECTOR_ROWS] */
    uint32_t *newest_ranks;     /* [columns_count] */
    struct imv_arena newest_strings;

    const struct imv_cursor_range *ranges; /* the caller's */
    size_t ranges_count;

    /* cursor_buckets.c */
    int64_t bucket_width;
    const uint8_t *bucket_needs; /* [columns_count], the caller's */
    bool bucket_open;            /* the last bucket of the caller's list takes rows up to bucket_last */
    int64_t bucket_last;
    const struct imv_rows *bucket_rows; /* decoded and not used up: from bucket_row on; NULL: none */
    size_t bucket_row;
    struct imv_chunk_statistics *bucket_statistics; /* [columns_count], made at the first use */
};

imv_status imv_cursor_fail_alloc(const struct imv_cursor *cursor, struct imv_error *err);
/* What is deleted of a series, as the snapshot sees it. */
struct imv_mask imv_cursor_mask(const struct imv_cursor *cursor, const struct imv_series *series);
/* The lower end of what retention leaves. */
int64_t imv_cursor_horizon(const struct imv_cursor *cursor);

/* The source of a part whose next span is the next to be read of all, when that is not decoded yet; NULL: the next rows
 * must be read by imv_cursor_next. When limited, another source may have rows from limit on. */
imv_status imv_cursor_next_span(struct imv_cursor *cursor, struct imv_source **source, bool *limited, int64_t *limit,
                                struct imv_error *err);
/* Goes past that span without decoding it. */
void imv_cursor_pass_span(struct imv_cursor *cursor, struct imv_source *source);

/* ---- cursor_source.c ---- */

/* A source with its buffers, from the free ones or new. NULL: budget or memory. */
struct imv_source *imv_source_take(struct imv_cursor *cursor);
void imv_source_give(struct imv_cursor *cursor, struct imv_source *source);

/* Points a source at the first chunk of the cursor's series in a part that reaches the range. *any false: there is
 * none. */
imv_status imv_source_open_part(struct imv_cursor *cursor, struct imv_source *source,
                                const struct imv_candidate *candidate, bool *any, struct imv_error *err);
void imv_source_open_head(struct imv_cursor *cursor, struct imv_source *source, const struct imv_head_series *rows,
                          uint32_t rank, int64_t time_min);
/* Loads the next rows; *any false: there are none. */
imv_status imv_source_load(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err);
/* Puts a source of a part that is not loaded on the span that is loaded next, its chunk's bytes at hand; *any false:
 * there is none. */
imv_status imv_source_reach_span(struct imv_cursor *cursor, struct imv_source *source, bool *any,
                                 struct imv_error *err);
/* That span. */
static inline struct imv_chunk_span imv_source_span(const struct imv_source *source) {
    struct imv_chunk_span span;
    imv_chunk_span(&source->chunk, source->vector_index, source->span_index, &span);
    return span;
}
/* Leaves the span that would be loaded next out; then imv_source_advance. */
void imv_source_pass_span(struct imv_source *source);
/* After the last loaded row is used: false when nothing more can follow. */
bool imv_source_advance(const struct imv_cursor *cursor, struct imv_source *source);

static inline int64_t imv_source_time(const struct imv_source *source) {
    return source->loaded ? source->timestamps[source->row_index] : source->time_bound;
}

/* Drops the first `dropped` bits of a validity bitmap of a vector. */
void imv_bits_drop(uint64_t bits[IMV_VECTOR_WORDS], size_t dropped);

/* The reader for a part. */
imv_status imv_cursor_reader(struct imv_cursor *cursor, const struct imv_candidate *candidate,
                             struct imv_chunk_reader **reader, struct imv_error *err);
/* Opens the chunk on which the reader stands when it is one of the series in the part; *any false when it is not. */
imv_status imv_cursor_open_chunk(struct imv_cursor *cursor, const struct imv_chunk_reader *reader,
                                 const struct imv_part *part, const struct imv_series *series, struct imv_chunk *chunk,
                                 bool *any, struct imv_error *err);
/* Says of which chunk err speaks, counts it when it is damaged, and returns status. */
imv_status imv_cursor_chunk_failed(const struct imv_cursor *cursor, const struct imv_chunk_id *id, imv_status status,
                                   struct imv_error *err);
/* The index of a column of the cursor in a chunk, -1 when it is not there; IMV_CORRUPT: it has another type. */
imv_status imv_cursor_find_column(const struct imv_cursor *cursor, const struct imv_chunk *chunk, size_t column,
                                  int *index, struct imv_error *err);
/* The statistics of the span that a source loads next. */
imv_status imv_cursor_span_statistics(const struct imv_cursor *cursor, const struct imv_source *source, uint32_t index,
                                      struct imv_chunk_statistics *statistics, struct imv_error *err);
/* The statistics of a vector of a chunk. */
imv_status imv_cursor_statistics(const struct imv_cursor *cursor, const struct imv_chunk *chunk, uint32_t index,
                                 uint32_t vector, struct imv_chunk_statistics *statistics, struct imv_error *err);
