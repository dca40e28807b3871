/* catalog.h - labels, their fields and tags, and the series: what every stream is called and which number it has.
 *
 * A series is one stream of rows: a label (the measurement) and sorted tags, e.g. cpu{hostname=h1,region=eu}. To the
 * query language it is a twin: a node with that label, the tags as static properties and the fields as series
 * properties. It belongs to one shard, given by the hash of its canonical key and the shard count of the data
 * directory.
 *
 * Tag values are interned per label and tag key; a series holds codes, not text. Each value keeps the set of its series
 * (the inverted index, ordinal_set.h). Only series are ever removed while the process runs, and then nobody has a
 * pointer to one (engine/ended.h); so pointers stay valid until close, those to series as long as a snapshot is held.
 *
 * Threads: creation takes the catalog's lock (rare); lookups of labels, fields, tags and series by pointer, name or id
 * are lock-free reads of append-only tables, but for series by id, which takes the lock for reading; selections hold it
 * for reading while they combine sets. The fields of struct imv_series below the line belong to the owner shard's
 * thread.
 *
 * Persistence: definitions travel in the journal of each shard that uses them (journal.h) until imv_catalog_persist has
 * put them into the `meta` family (layout: catalog_store.c; the catalog owns its keys that begin with L, F, S and N);
 * both carry ids, so replaying one twice changes nothing. A flush persists the catalog after it has frozen its head and
 * before it releases journal: then no chunk and no remaining group refers to a definition that is in neither place.
 *
 * Ids and crashes. A label or series that was made but whose first row never became durable is forgotten by a restart:
 * its id is a gap (lookups give NULL) or, when nothing durable has a higher one, is given out again. That is safe
 * because a definition is always durable before or with the first thing that refers to its id, and because all journals
 * are replayed before anything new is made. The id of a series that was removed is never given out again: chunks of it
 * may still be there. Fields have no gaps: a journal defines a label's fields from 0 upwards.
 *
 * Files, in reading order: catalog_internal.h, catalog.c (labels and the life of a catalog), label.c (fields, shapes,
 * tags), series_values.c (tag values), series_index.c (series), series_select.c (selection), catalog_store.c (meta);
 * segments.h, code_table.h and ordinal_set.h are the containers under them.
 */
#pragma once

#include "storage/base/status.h"
#include "storage/value.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    IMV_SHARDS_MAX = 64,
    IMV_NAME_BYTES_MAX = 1024, /* label, tag key, tag value, field name */
    IMV_TAGS_MAX = 256,        /* of one series */
    IMV_FIELDS_MAX = 4096,     /* of one label; also of one line */
    IMV_LABELS_MAX = 65536,
    IMV_FIELD_NAMES_BYTES_MAX = 512 * 1024,   /* of one label together: its definition must fit a journal group */
    IMV_SHAPES_BYTES_MAX = 256 * 1024 * 1024, /* all shapes of the catalog: ~2 million different sets of ten fields */
};

/* The limits unless imv_catalog_set_limits says otherwise: ten million series cost about 2 GB. */
enum { IMV_SERIES_MAX = 10 * 1000 * 1000 };
#define IMV_CATALOG_BYTES_MAX (UINT64_C(4) << 30) /* of names, series and their like, without the index over them */

/* Is the definition of a series in the owner's journal or in meta? Written by the owner's thread. */
enum imv_journaled { IMV_JOURNALED_NO, IMV_JOURNALED };

/* visible_at of what was loaded from `meta`: every snapshot shows it. */
enum { IMV_SEQUENCE_LOADED = 1 };

struct imv_kv;
struct imv_catalog;
struct imv_head_series;

/* A field of a label. Immutable once published. Ids are dense from 0 in order of creation. */
struct imv_field {
    struct imv_str name;
    uint32_t id;
    imv_type type;
};

struct imv_label {
    uint32_t id;
    struct imv_str name;
    /* Append-only; imv_label_field reads it from any thread. Private to catalog.c otherwise. */
    _Atomic(struct imv_field *const *) fields;
    _Atomic uint32_t fields_count;
    _Atomic int64_t retention_ns;  /* rows older than now minus this are hidden and dropped; 0: kept for ever */
    struct imv_label_index *index; /* private to catalog.c */
};

/* The ordered fields of a line: what turns parsed cells into columns. Interned: equal shapes of a label are one
 * pointer. Immutable. */
struct imv_shape {
    struct imv_label *label;
    uint32_t id;            /* dense over the catalog's life in this process, not persistent */
    uint32_t count;         /* of fields, at least 1; no field twice */
    uint32_t strings_count; /* how many of them are of type STRING */
    uint32_t fields_end;    /* the highest field id + 1 */
    const struct imv_field *fields[];
};

/* Its tags lie behind it in memory: imv_series_tag_at. */
struct imv_series {
    struct imv_label *label;
    uint32_t index; /* dense per shard, from 0; (shard << 40 | index) is the series id on disk */
    uint8_t shard;
    _Atomic uint8_t journaled; /* enum imv_journaled; see there who writes it */
    uint16_t tags_count;
    /* 0: no row of it is durable yet, it must not be shown; IMV_SEQUENCE_LOADED: shown always; else the owner's
     * sequence number that made it visible. Written by the owner (release), read by all (acquire). */
    _Atomic uint64_t visible_at;
    /* ---- the owner shard's thread only ---- */
    struct imv_head_series *head; /* its rows in the active head, when head_generation is that head's */
    uint64_t head_generation;
    uint32_t journal_group, journal_stamp; /* journal.c */
    /* ---- private to the catalog ---- */
    uint32_t ordinal; /* its number among the series of the label */
    /* No row of it is newer than this many seconds since 1970 (UINT32_MAX: not known, or later); 0: taken up as ended,
     * and no row came since. Written by the owner's thread and by the one that looks for ended series. */
    _Atomic uint32_t newest_s;
};

_Static_assert(sizeof(struct imv_series) == 56, "there may be millions");

static inline uint64_t imv_series_id(const struct imv_series *series) {
    return (uint64_t)series->shard << 40 | series->index;
}

/* Notes that the series has a row of this time. The owner shard's thread, when the row becomes visible. */
static inline void imv_series_note_time(struct imv_series *series, int64_t timestamp) {
    int64_t seconds = timestamp < 1000000000 ? 1 : timestamp / 1000000000 + 1;
    uint32_t newest_s = seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
    if (newest_s <= atomic_load_explicit(&series->newest_s, memory_order_relaxed)) return;
    atomic_store_explicit(&series->newest_s, newest_s, memory_order_release);
}

struct imv_tag {
    struct imv_str key, value;
};

/* Opens the catalog and loads what `meta` holds; everything loaded counts as visible. shards is the number fixed for
 * this data directory. kv must outlive it. IMV_CORRUPT names the record that does not parse. */
imv_status imv_catalog_open(struct imv_kv *kv, uint32_t shards, struct imv_catalog **catalog, struct imv_error *err);
void imv_catalog_close(struct imv_catalog *catalog); /* NULL is allowed */

/* Writes all definitions that are not in `meta` yet: labels, fields, retention, and the series that are visible.
 * Durable on return. Any thread, one at a time. */
imv_status imv_catalog_persist(struct imv_catalog *catalog, struct imv_error *err);

/* NULL when absent. Any thread. */
struct imv_label *imv_catalog_find_label(struct imv_catalog *catalog, struct imv_str name);
struct imv_label *imv_catalog_label_by_id(struct imv_catalog *catalog, uint32_t id);
struct imv_series *imv_catalog_series_by_id(struct imv_catalog *catalog, uint64_t id);
/* Has the id been given out, be it to a series that was removed since? Any thread. */
bool imv_catalog_id_is_used(struct imv_catalog *catalog, uint64_t id);
/* How many ids are given out: labels, and series of one shard. */
uint32_t imv_catalog_labels_count(struct imv_catalog *catalog);
uint32_t imv_catalog_series_count(struct imv_catalog *catalog, uint32_t shard);

/* Finds or makes a label. IMV_INVALID: empty or too long a name; IMV_FULL: IMV_LABELS_MAX, or a limit of the
 * catalog. */
imv_status imv_catalog_label(struct imv_catalog *catalog, struct imv_str name, struct imv_label **label,
                             struct imv_error *err);

/* Finds or makes a field. IMV_CONFLICT: it exists with another type, and the message names label, field, both types and
 * nothing else: field "x" of "cpu" is float, not integer. IMV_FULL: IMV_FIELDS_MAX. IMV_CONFLICT also when the label
 * has a tag of that name (a property is one or the other). IMV_FULL also at IMV_FIELD_NAMES_BYTES_MAX and at the
 * catalog's limit of bytes. */
imv_status imv_label_field(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name, imv_type type,
                           const struct imv_field **field, struct imv_error *err);
/* The same for the fields of one row (name and type; ids do not matter; no name twice): makes all that are new, or
 * none. fields[count] takes them. */
imv_status imv_label_make_fields(struct imv_catalog *catalog, struct imv_label *label, const struct imv_field *wanted,
                                 size_t count, const struct imv_field **fields, struct imv_error *err);
/* Would imv_label_field take this field? Makes nothing. Errors as there. */
imv_status imv_label_check_field(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name,
                                 imv_type type, struct imv_error *err);
/* Would a row with these fields, of a series with these tags that may be new, be taken? Makes nothing, so that a row
 * that is refused leaves neither label nor series nor tag behind. Errors as imv_label_field and imv_catalog_series. */
imv_status imv_catalog_check_row(struct imv_catalog *catalog, struct imv_str label, const struct imv_tag *tags,
                                 size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                 struct imv_error *err);
/* NULL when absent. Any thread, no lock needed by the caller. */
const struct imv_field *imv_label_find_field(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name);
const struct imv_field *imv_label_field_by_id(const struct imv_label *label, uint32_t id);

/* Finds or makes the shape of these fields (all of the label, no doubles) in this order. IMV_FULL:
 * IMV_SHAPES_BYTES_MAX; shapes of one field are made beyond it, so that a row can always be cut into rows of one
 * field. */
imv_status imv_label_shape(struct imv_catalog *catalog, struct imv_label *label, const struct imv_field *const *fields,
                           uint32_t count, const struct imv_shape **shape, struct imv_error *err);

/* Finds or makes a series. tags come in any order and are sorted by the bytes of the key; IMV_INVALID: a key twice, an
 * empty key or value, a limit above passed; IMV_CONFLICT: a tag key that is a field of the label; IMV_FULL: it is
 * new, and a limit of the catalog is reached. */
imv_status imv_catalog_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *tags,
                              size_t tags_count, struct imv_series **series, struct imv_error *err);

/* The same with the label by name, which is made too; a series that is refused does not leave a new label behind.
 * Errors as imv_catalog_label and imv_catalog_series. */
imv_status imv_catalog_resolve(struct imv_catalog *catalog, struct imv_str label, const struct imv_tag *tags,
                               size_t tags_count, struct imv_series **series, struct imv_error *err);

/* Tags of a series, in order of key; views that stay valid. imv_series_tag: false when the series has no such tag. */
struct imv_tag imv_series_tag_at(const struct imv_series *series, uint32_t i);
bool imv_series_tag(const struct imv_series *series, struct imv_str key, struct imv_str *value);

/* The tag keys that any series of the label has, by code 0..count-1. */
uint32_t imv_label_tags_count(struct imv_catalog *catalog, struct imv_label *label);
struct imv_str imv_label_tag_key(struct imv_catalog *catalog, struct imv_label *label, uint32_t code);

/* Does any series of the label have the tag? Any thread. */
bool imv_label_has_tag(struct imv_catalog *catalog, struct imv_label *label, struct imv_str key);
/* How many values the tag of that code has now, and how many series have it; both 0 when none has it any more. Any
 * thread. */
void imv_label_tag_counts(struct imv_catalog *catalog, struct imv_label *label, uint32_t code, uint32_t *values_count,
                          uint32_t *series_count);
/* Calls visit for each value of a tag with the number of series that have it now, in no particular order, without
 * locks; of a tag that is not there for none. Ends at the first failure and returns it. A value's text stays while a
 * snapshot is held. Any thread. */
imv_status imv_label_tag_values(struct imv_catalog *catalog, struct imv_label *label, struct imv_str key,
                                imv_status (*visit)(void *context, struct imv_str value, uint32_t series_count,
                                                    struct imv_error *err),
                                void *context, struct imv_error *err);

/* ---- series that end ---- */

/* A series whose rows are all past the label's retention, taken up for removal. */
struct imv_ended_series {
    struct imv_series *series;
    uint32_t newest_s; /* before it was taken up */
};

/* Lists visible series whose every row is older than the retention of their label, at most max, and marks them
 * (newest_s 0). now_ns is the wall time; the list is the caller's to free. Any thread, one at a time. IMV_NO_MEMORY. */
imv_status imv_catalog_take_ended(struct imv_catalog *catalog, int64_t now_ns, size_t max,
                                  struct imv_ended_series **list, size_t *count, struct imv_error *err);
/* Gives a series back that is not to be removed after all. */
void imv_catalog_give_back(const struct imv_ended_series *ended);
/* Deletes the records of series in `meta` and sees to it that their ids are not given out again, durably, at one
 * stroke. The series are in no head, no journal group that could be replayed names them, and nobody adds rows. */
imv_status imv_catalog_delete_records(struct imv_catalog *catalog, const struct imv_ended_series *list, size_t count,
                                      struct imv_error *err);
/* Takes the series, whose records are deleted, out of the catalog and frees them and what only they have: nobody has a
 * pointer to one any more, but caches that look at imv_catalog_epoch before they use theirs. */
void imv_catalog_remove(struct imv_catalog *catalog, const struct imv_ended_series *list, size_t count);
/* Instead: their records are written again. */
void imv_catalog_keep(struct imv_catalog *catalog, const struct imv_ended_series *list, size_t count);
/* Changes when series were removed: what was remembered of any series is to be forgotten. Any thread. */
uint64_t imv_catalog_epoch(const struct imv_catalog *catalog);
/* What is known of the newest row of series that were loaded. Before anything else happens. */
void imv_catalog_note_loaded(struct imv_catalog *catalog, int64_t timestamp);

/* Which series a selection wants: a tree of conditions on single tags. All text must outlive the call. */
enum imv_tag_selector_kind {
    IMV_TAG_IN,      /* the tag is one of values; an absent tag never is */
    IMV_TAG_NOT_IN,  /* the tag is there and none of values */
    IMV_TAG_PRESENT, /* the series has the tag */
    IMV_TAG_ABSENT,  /* it has not */
    IMV_TAG_PREFIX,  /* the tag begins with values[0] */
    IMV_TAG_TEST,    /* test says so, asked once for each value of the tag */
    IMV_TAG_AND,     /* all parts; of none: every series */
    IMV_TAG_OR,      /* any part; of none: no series */
};

struct imv_tag_selector {
    enum imv_tag_selector_kind kind;
    struct imv_str key;
    const struct imv_str *values;
    size_t values_count; /* any number */
    /* Fills matches[count] for the texts, at most IMV_TAG_TEST_MAX at once; {NULL, 0} stands for an absent tag. A
     * failure ends the selection with it. Called without locks, on the caller's thread. */
    imv_status (*test)(void *context, const struct imv_str *texts, size_t count, bool *matches, struct imv_error *err);
    void *context;
    const struct imv_tag_selector *parts;
    size_t parts_count;
};

enum {
    IMV_TAG_TEST_MAX = 1024,
    IMV_TAG_SELECTOR_HEIGHT_MAX = 32, /* of a tree: each level takes 8 KiB while a selection runs */
};

/* All visible series of the label that meet the selector (NULL: all), in order of series id, without doubles.
 * sequences[shard] is the snapshot's sequence of that shard: series made visible later are left out; NULL: none is left
 * out for that. *series is malloc'ed, the caller frees it, and holds a snapshot (engine/snapshot.h) from before the
 * call until it is done with the series. IMV_NO_MEMORY.
 *
 * Cost: sets of series are combined block by block, 64 series a word, a microsecond for each 65,536 series and
 * condition; then a pointer for each series that comes out. IN looks its values up; PREFIX and TEST look at every value
 * of the tag once, however many series have it. */
imv_status imv_catalog_select(struct imv_catalog *catalog, struct imv_label *label,
                              const struct imv_tag_selector *selector, const uint64_t *sequences,
                              struct imv_series ***series, size_t *count, struct imv_error *err);

/* What the catalog has taken of its limit of bytes, and the limit. Any thread. */
uint64_t imv_catalog_bytes(struct imv_catalog *catalog);
uint64_t imv_catalog_bytes_max(const struct imv_catalog *catalog);

/* How much there may be. */
struct imv_catalog_limits {
    uint64_t series_max;       /* in all */
    uint64_t label_series_max; /* of one label, unless imv_label_set_series_max says otherwise */
    uint64_t bytes_max;        /* of the catalog, without the index over it */
};

/* At a limit what is new is refused with IMV_FULL and a message that names label, limit and count (labels and fields
 * too, at the limit of bytes) and counted; what is known, loaded or replayed never is. Any thread. */
void imv_catalog_set_limits(struct imv_catalog *catalog, const struct imv_catalog_limits *limits);
/* The limit of one label; 0: that of all labels. Not persistent. Any thread. */
void imv_label_set_series_max(struct imv_label *label, uint64_t series_max);
/* How many series the label has. Any thread. */
uint64_t imv_label_series_count(const struct imv_label *label);

/* Sets the retention of a label; 0 keeps for ever. Takes effect at once, is durable after the next persist. */
void imv_label_set_retention(struct imv_catalog *catalog, struct imv_label *label, int64_t retention_ns);

/* Replay of a definition from the journal: makes the thing with the id it had; doing it again changes nothing.
 * IMV_CORRUPT when the id is taken by something else, leaves a gap that the journal cannot explain (any between fields,
 * more than 16 million series), is a series of another shard than its key says, or a name breaks a limit. */
imv_status imv_catalog_define_label(struct imv_catalog *catalog, uint32_t id, struct imv_str name,
                                    struct imv_label **label, struct imv_error *err);
imv_status imv_catalog_define_field(struct imv_catalog *catalog, struct imv_label *label, uint32_t id,
                                    struct imv_str name, imv_type type, struct imv_error *err);
imv_status imv_catalog_define_series(struct imv_catalog *catalog, uint64_t id, struct imv_label *label,
                                     const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                     struct imv_error *err);
