/* arrow_internal.h - what arrow*.c share. Nobody else includes it.
 *
 * Rows are worked on in slices of ARROW_SLICE_ROWS of a batch. For a slice each column is brought into one form: of a
 * tag or label codes, of a field or time cells (for text: views), with a bit for each row that has a value. Integers
 * and doubles of 64 bits are used where they lie. A slice that the writer has no room for stays prepared; the next call
 * goes on with its next row.
 *
 * A code stands for one text in one column of this stream, whatever dictionary it came in, so that tables that are
 * keyed by codes outlive dictionaries. Codes are forgotten all together (imv_arrow_forget).
 */
#pragma once

#include "engine/writer_rows.h"
#include "ingest/arrow.h"
#include "storage/base/arena.h"
#include "storage/base/arrow.h"
#include "storage/base/budget.h"

enum {
    /* 512: codes, keys and cells of ten fields and ten tags stay within 64 KiB. */
    ARROW_SLICE_ROWS = 512,
    ARROW_SLICE_WORDS = ARROW_SLICE_ROWS / 64,
    ARROW_SHAPES = 256, /* remembered sets of fields; a power of two */
    ARROW_PRESENCE_WORDS = IMV_ARROW_FIELDS_MAX / 64,
};

enum arrow_role { ARROW_ROLE_NONE, ARROW_ROLE_LABEL, ARROW_ROLE_TAG, ARROW_ROLE_FIELD, ARROW_ROLE_TIME };

/* Codes below ARROW_CODE_FIRST say what no text says. */
enum { ARROW_CODE_ABSENT = 0, ARROW_CODE_BAD = 1, ARROW_CODE_FIRST = 2 };

/* The texts of a column by code, and codes by text. */
struct arrow_texts {
    struct imv_arena arena; /* the bytes */
    struct imv_str *texts;  /* of code ARROW_CODE_FIRST + i */
    uint32_t *slots;        /* open addressing: code, 0: empty */
    uint32_t count, capacity, mask;
};

/* The entries of one dictionary id. */
struct arrow_dictionary {
    int64_t id;
    uint8_t offset_bits;
    struct imv_arena arena;
    struct imv_str *values; /* of a null entry data is NULL */
    uint32_t count, capacity;
    uint32_t generation; /* rises when it is replaced */
};

struct arrow_column {
    struct imv_str name;
    struct imv_arrow_type type;
    enum arrow_role role;
    imv_type stored;                     /* of a field, and INTEGER of a time */
    int64_t scale;                       /* what an integer is multiplied by: ns */
    struct arrow_dictionary *dictionary; /* NULL: none */
    uint8_t index_bits;
    bool index_signed;
    /* Of a tag or label. */
    struct arrow_texts texts;
    uint8_t key_bits; /* what its codes take in a key */
    /* By index of the dictionary: its code; of a field ARROW_CODE_FIRST says that the text may be stored. */
    uint32_t *map;
    uint32_t map_count, map_capacity, map_generation;
    /* ---- the batch at hand, all checked to be long enough ---- */
    const uint8_t *valid; /* NULL: no nulls */
    const char *values;   /* values, indices or offsets */
    const char *bytes;    /* of text */
    /* ---- the slice at hand ---- */
    uint64_t present[ARROW_SLICE_WORDS];
    uint64_t bad[ARROW_SLICE_WORDS]; /* has a value that cannot be taken */
    bool any_bad;
    const uint64_t *cells; /* in the batch or in own_cells */
    uint64_t *own_cells;   /* allocated when needed */
    struct imv_str *own_texts;
    uint32_t *codes;
};

struct arrow_series_slot {
    uint64_t low, high;
    struct imv_series *series; /* NULL: empty */
};

/* A set of fields of a label; `shape` NULL: the slot is empty. */
struct arrow_shape {
    const struct imv_label *label;
    const struct imv_shape *shape;
    uint64_t presence[ARROW_PRESENCE_WORDS]; /* by place in feed->fields */
};

struct arrow_slice {
    size_t rows, next; /* next: the first row that is not done */
    int64_t timestamps[ARROW_SLICE_ROWS];
    uint64_t low[ARROW_SLICE_ROWS], high[ARROW_SLICE_ROWS]; /* keys of the rows */
    struct imv_series *series[ARROW_SLICE_ROWS];            /* NULL: not known yet */
    uint64_t starts[ARROW_SLICE_WORDS]; /* rows whose label or set of fields differs from the row before */
    uint64_t bad[ARROW_SLICE_WORDS];    /* rows with a bad value in a field or time */
    uint32_t cut_next;                  /* of a row that is written field by field: the next field */
};

struct imv_arrow_feed {
    struct imv_arrow_feed_options options;
    struct imv_catalog *catalog;
    uint64_t epoch;           /* of the catalog's removals, when the tables of series were filled */
    struct imv_budget budget; /* of this stream */
    uint64_t rows, rejected;  /* taken, refused */
    struct imv_error failure; /* IMV_OK: none */
    /* ---- messages: arrow.c ---- */
    char prefix[IMV_ARROW_PREFIX_BYTES];
    size_t prefix_have;
    size_t metadata_bytes, message_bytes; /* of the message under way; message_bytes is known with its metadata */
    bool in_message, message_sized, ended;
    char *message; /* metadata, then body */
    size_t message_have, message_capacity;
    /* ---- the schema: arrow_schema.c ---- */
    struct imv_arena arena; /* names, columns, slices: as long as the stream */
    bool schema_known;
    struct arrow_column *columns;
    uint32_t columns_count;
    struct arrow_column **tags, **fields; /* views into columns, in their order */
    uint32_t tags_count, fields_count;
    struct arrow_column *time, *label; /* NULL: none */
    struct imv_str label_name;         /* of rows without one; may be empty */
    struct arrow_dictionary *dictionaries;
    uint32_t dictionaries_count;
    /* ---- series: arrow_series.c ---- */
    uint64_t seed;
    struct arrow_series_slot *series;
    uint32_t series_count, series_mask;
    bool key_hashed;       /* the codes do not fit 128 bits */
    struct imv_buffer raw; /* of the series that is looked up in the writer's cache */
    /* ---- the batch at hand: arrow_rows.c ---- */
    bool batch_open;
    uint64_t batch_rows, batch_next; /* batch_next: first row of the next slice */
    uint64_t rows_seen;              /* of the stream, before the slice at hand */
    int64_t now;                     /* of rows without a time */
    struct arrow_slice *slice;
    struct arrow_shape *shapes; /* ARROW_SHAPES, by hash */
    const struct imv_field **run_fields;
    struct imv_writer_column *run_columns;
    uint32_t *row_codes; /* tags_count + 1: of the row whose key is hashed */
};

/* realloc charged to the stream's budget; bytes is what it had. NULL: refused, and all is as before. */
void *imv_arrow_resize(struct imv_arrow_feed *feed, void *memory, size_t bytes, size_t wanted);
void imv_arrow_release(struct imv_arrow_feed *feed, void *memory, size_t bytes);
imv_status imv_arrow_no_memory(struct imv_error *err);

/* Reads the roles. Errors refuse the stream. */
imv_status imv_arrow_schema_read(struct imv_arrow_feed *feed, const struct imv_arrow_message *message,
                                 struct imv_error *err);

/* True when text may be a label, a tag's key or value, a field's name, as in line protocol. */
bool imv_arrow_name_ok(struct imv_str text);
/* The code of a text in the column. False: no memory. */
bool imv_arrow_text_code(struct imv_arrow_feed *feed, struct arrow_column *column, struct imv_str text, uint32_t *code);
struct imv_str imv_arrow_text(const struct arrow_column *column, uint32_t code);
/* Takes a dictionary batch. */
imv_status imv_arrow_dictionary_read(struct imv_arrow_feed *feed, const struct imv_arrow_message *message,
                                     struct imv_str body, struct imv_error *err);
/* Brings the codes of the column's dictionary up to date. False: no memory. */
bool imv_arrow_map_refresh(struct imv_arrow_feed *feed, struct arrow_column *column);
/* Forgets codes, and with them series. */
void imv_arrow_forget(struct imv_arrow_feed *feed);

/* Takes the column's buffers out of the batch and checks them. */
imv_status imv_arrow_column_open(struct arrow_column *column, struct imv_arrow_batch *batch, struct imv_error *err);
/* Entry i of checked offsets and bytes. */
static inline struct imv_str imv_arrow_text_at(const char *offsets, uint8_t bits, const char *bytes, uint64_t i) {
    uint64_t from, end;
    if (bits == 64) {
        from = imv_get_u64(offsets + 8 * i);
        end = imv_get_u64(offsets + 8 * i + 8);
    } else {
        from = imv_get_u32(offsets + 4 * i);
        end = imv_get_u32(offsets + 4 * i + 4);
    }
    return (struct imv_str){bytes + from, end - from};
}
/* Prepares rows [from, from + rows) of the column for the slice; from is a multiple of 64. IMV_INVALID: an index that
 * the dictionary does not have. IMV_FULL: the tables of texts are full. */
imv_status imv_arrow_column_slice(struct imv_arrow_feed *feed, struct arrow_column *column, uint64_t from, size_t rows,
                                  struct imv_error *err);

/* Fills keys and known series of the slice from the codes. */
void imv_arrow_series_find(struct imv_arrow_feed *feed);
/* Forgets the series of the stream, and looks up those of the slice again, when some were removed. */
void imv_arrow_series_check(struct imv_arrow_feed *feed);
/* Finds or makes the series of a row of the slice, and its label; a series that is refused leaves no new label behind.
 * Errors are the row's. */
imv_status imv_arrow_series_make(struct imv_arrow_feed *feed, size_t row, struct imv_str label, struct imv_error *err);

/* Takes a record batch; then imv_arrow_rows_run until it is done. */
imv_status imv_arrow_rows_begin(struct imv_arrow_feed *feed, const struct imv_arrow_message *message,
                                struct imv_str body, struct imv_error *err);
/* IMV_OK: the batch is done. IMV_FULL: no room in the writer. IMV_BUSY: enough for now. Else the stream is refused. */
imv_status imv_arrow_rows_run(struct imv_arrow_feed *feed, size_t *rows_left, struct imv_error *err);
