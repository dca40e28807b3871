/* Random programs against the whole of engine and query language, compared with arrays and loops.
 *
 * A program is a list of steps over two labels of a few series with fields of all types: write (in order, late, again
 * at the same times, some of the fields), delete (some series, a label), set a retention, let time pass, flush, work in
 * the background (flushes, consolidation, retention), restart in order or after a power cut, query. A query is drawn
 * from a few forms (rows, filtered rows, windows, aggregates, current values, the first of an order), runs with any of
 * the planner's shortcuts left out and with or without helping threads, and its whole answer must be the model's, byte
 * by byte.
 *
 * Each step has a seed of its own, so a program that fails is made smaller by leaving steps out; what is left is
 * printed. IMV_TEST_SEED sets the first seed, IMV_PROGRAMS how many run, IMV_PROGRAM_VERBOSE=1 prints each step. */
#include "query/workers.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "tests/unit/query/query_rig.h"

#include <math.h>
#include <time.h>

#define SECOND HARNESS_SECOND
#define DAY    HARNESS_DAY
#define BEGIN  (INT64_C(1700000000) * SECOND)

enum {
    LABELS = 2,
    SERIES = 4,         /* of each label */
    DAYS = 3,           /* on which there are rows, the last begins at BEGIN */
    PLACES_FEW = 40,    /* times on each day */
    PLACES_MANY = 1100, /* the same of some programs, so that series have chunks of several vectors */
    TIMES_MAX = DAYS * PLACES_MANY,
    FIELDS = 5,
    STEPS_MAX = 48,
    TEXT_BYTES = 2048,
};

enum kind { WRITE, DELETE, FLUSH, BACKGROUND, PASS, RETAIN, RESTART, CRASH, QUERY };

struct step {
    enum kind kind;
    uint64_t seed;
};

struct row {
    uint8_t has; /* bit: field; 0: there is no row */
    int32_t values[FIELDS];
};

struct program {
    uint64_t seed;
    struct step steps[STEPS_MAX];
    uint32_t steps_count;
    /* While it runs. */
    struct rig rig;
    struct imv_workers *workers;
    bool workers_used;
    uint32_t places, times;
    struct row rows[LABELS][SERIES][TIMES_MAX];
    uint32_t next_time[LABELS][SERIES];
    int64_t retention_ns[LABELS]; /* 0: for ever */
    struct imv_prng prng;         /* of the step at hand */
    char query[TEXT_BYTES];
    struct imv_buffer expected;
    char *answer; /* of the last query */
    const char *failure;
    bool verbose;
};

static const char *const field_names[FIELDS] = {"i", "u", "f", "b", "s"};
static const imv_type field_types[FIELDS] = {IMV_INTEGER, IMV_UINTEGER, IMV_FLOAT, IMV_BOOLEAN, IMV_STRING};

static uint32_t draw(struct program *program, uint32_t bound) {
    return (uint32_t)imv_prng_below(&program->prng, bound);
}

/* Places are three seconds apart, with a gap of an hour in the middle of each day. */
static int64_t time_of(const struct program *program, uint32_t index) {
    int64_t place = index % program->places;
    int64_t offset = place * 3 * SECOND + (place >= program->places / 2 ? 3600 * SECOND : 0);
    return BEGIN + ((int64_t)(index / program->places) - (DAYS - 1)) * DAY + offset;
}

static int64_t now_of(const struct program *program) { return imv_clock_wall_ns(&program->rig.harness.clock.clock); }

static bool fail(struct program *program, const char *what) {
    program->failure = what;
    return false;
}

/* ---- what the model forgets ---- */

static void forget_expired(struct program *program) {
    for (uint32_t l = 0; l < LABELS; l++) {
        if (program->retention_ns[l] == 0) continue;
        int64_t horizon = now_of(program) - program->retention_ns[l];
        for (uint32_t s = 0; s < SERIES; s++) {
            for (uint32_t t = 0; t < program->times; t++) {
                if (time_of(program, t) < horizon) program->rows[l][s][t].has = 0;
            }
        }
    }
}

/* ---- steps that change something ---- */

static void value_of(uint32_t field, int32_t value, struct rig_field *out) {
    static _Thread_local char text[16];
    *out = (struct rig_field){field_names[field], field_types[field], (uint64_t)(int64_t)value, NULL};
    if (field == 1) out->cell = (uint64_t)(value + 1000);
    if (field == 2) out->cell = imv_float_cell(value / 4.0);
    if (field == 3) out->cell = value & 1;
    if (field == 4) {
        snprintf(text, sizeof text, "t%d", value % 7);
        out->text = text;
    }
}

static void write_row(struct program *program, uint32_t l, uint32_t s, uint32_t t) {
    struct rig_field fields[FIELDS];
    struct row *row = &program->rows[l][s][t];
    uint8_t mask = draw(program, 3) == 0 ? (1 << FIELDS) - 1 : (uint8_t)(1 + draw(program, (1 << FIELDS) - 1));
    uint32_t count = 0;
    char label[4], tags[32];
    for (uint32_t f = 0; f < FIELDS; f++) {
        if (!(mask >> f & 1)) continue;
        row->values[f] = (int32_t)draw(program, 2000) - 1000;
        value_of(f, row->values[f], &fields[count++]);
    }
    row->has |= mask;
    snprintf(label, sizeof label, "l%u", l);
    snprintf(tags, sizeof tags, "k=%u,g=%s", s, s % 2 == 0 ? "even" : "odd");
    rig_write(&program->rig, label, tags, time_of(program, t), fields, count);
}

/* Restarts leave short segments behind, so the small journal may be full until a flush has been: that is the
 * background's to do. */
static bool settle(struct program *program) {
    struct imv_error err = {0};
    for (int i = 0; i < 4; i++) {
        if (harness_settle(&program->rig.harness)) return true;
        if (harness_background(&program->rig.harness, &err) != IMV_OK) return false;
    }
    return false;
}

static bool step_write(struct program *program) {
    uint32_t l = draw(program, LABELS), s = draw(program, SERIES);
    uint32_t count = 1 + draw(program, program->places);
    bool in_order = draw(program, 3) > 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t t = in_order ? program->next_time[l][s]++ : draw(program, program->times);
        if (t >= program->times) break;
        write_row(program, l, s, t);
        if (draw(program, program->places / 5) == 0) s = draw(program, SERIES);
    }
    if (!settle(program)) return fail(program, "the write does not settle");
    forget_expired(program);
    return true;
}

static bool step_delete(struct program *program) {
    struct imv_error err = {0};
    struct imv_catalog *catalog = imv_engine_catalog(program->rig.harness.engine);
    uint32_t l = draw(program, LABELS), wanted = draw(program, 3) == 0 ? 0 : 1 + draw(program, (1 << SERIES) - 1);
    uint32_t a = draw(program, program->times), b = a + draw(program, program->places);
    int64_t from = time_of(program, a), last = time_of(program, b < program->times ? b : program->times - 1);
    if (draw(program, 6) == 0) from = INT64_MIN;
    if (draw(program, 6) == 0) last = INT64_MAX;
    char name[4];
    snprintf(name, sizeof name, "l%u", l);
    struct imv_label *label = imv_catalog_find_label(catalog, imv_str_from(name));
    if (label == NULL) return true;
    struct imv_series **series, *chosen[SERIES];
    size_t count, chosen_count = 0;
    if (imv_catalog_select(catalog, label, NULL, NULL, &series, &count, &err) != IMV_OK) return fail(program, "select");
    for (size_t i = 0; i < count; i++) {
        struct imv_str key;
        imv_assert(imv_series_tag(series[i], IMV_STR("k"), &key));
        if (wanted == 0 || wanted >> (key.data[0] - '0') & 1) chosen[chosen_count++] = series[i];
    }
    free(series);
    struct imv_deletion deletion = {label, wanted == 0, chosen, chosen_count, from, last};
    struct imv_deletion_request *request;
    if (imv_engine_delete_begin(program->rig.harness.engine, &deletion, 0, &request, &err) != IMV_OK) {
        return fail(program, "delete");
    }
    bool settled = settle(program);
    imv_status status = imv_engine_delete_wait(program->rig.harness.engine, request, 0, &err);
    imv_engine_delete_end(request);
    if (!settled || status != IMV_OK) return fail(program, "the deletion does not settle");
    for (uint32_t s = 0; s < SERIES; s++) {
        for (uint32_t t = 0; t < program->times; t++) {
            bool hit = (wanted == 0 || wanted >> s & 1) && from <= time_of(program, t) && time_of(program, t) <= last;
            if (hit) program->rows[l][s][t].has = 0;
        }
    }
    return true;
}

static bool step_background(struct program *program) {
    struct imv_error err = {0};
    bool did_work = true;
    for (uint32_t steps = 1 + draw(program, 12); steps > 0 && did_work; steps--) {
        if (imv_engine_background_step(program->rig.harness.engine, &did_work, &err) != IMV_OK) {
            return fail(program, "background");
        }
    }
    return true;
}

/* Retentions only become shorter: of what became visible again it would be open whether it is still there. */
static bool step_retain(struct program *program) {
    struct imv_error err = {0};
    uint32_t l = draw(program, LABELS);
    int64_t retention_ns = (int64_t)(1 + draw(program, 4 * 24)) * 3600 * SECOND;
    char name[4];
    if (program->retention_ns[l] > 0 && program->retention_ns[l] <= retention_ns) return true;
    snprintf(name, sizeof name, "l%u", l);
    if (imv_engine_set_retention(program->rig.harness.engine, imv_str_from(name), retention_ns, &err) != IMV_OK) {
        return fail(program, "retention");
    }
    program->retention_ns[l] = retention_ns;
    forget_expired(program);
    return true;
}

static bool step_pass(struct program *program) {
    int64_t seconds = draw(program, 3) == 0 ? draw(program, 2 * 86400) : draw(program, 300);
    imv_manual_clock_advance(&program->rig.harness.clock, seconds * SECOND);
    forget_expired(program);
    return true;
}

static bool step_restart(struct program *program, bool crash) {
    struct imv_error err = {0};
    struct harness *harness = &program->rig.harness;
    if (crash) imv_sim_crash(harness->sim);
    if (crash) imv_kv_memory_crash(harness->kv_memory);
    harness_close(harness);
    return harness_open(harness, &err) == IMV_OK || fail(program, "open");
}

/* ---- the text of values ---- */

/* The fewest decimals that read back as the value. */
static void print_float(struct imv_buffer *out, double value) {
    char text[64];
    int decimals = 1;
    do { snprintf(text, sizeof text, "%.*f", decimals, value); } while (strtod(text, NULL) != value && ++decimals < 24);
    imv_buffer_append_format(out, "%s", text);
}

static void print_field(struct imv_buffer *out, const struct row *row, uint32_t f) {
    int32_t value = row->values[f];
    if (!(row->has >> f & 1))
        imv_buffer_append_format(out, "null");
    else if (f == 0)
        imv_buffer_append_format(out, "%d", value);
    else if (f == 1)
        imv_buffer_append_format(out, "%d", value + 1000);
    else if (f == 2)
        print_float(out, value / 4.0);
    else if (f == 3)
        imv_buffer_append_format(out, "%s", value & 1 ? "true" : "false");
    else
        imv_buffer_append_format(out, "\"t%d\"", value % 7);
}

/* ---- aggregates ---- */

static const char *const numeric_aggregates[] = {"count", "sum", "avg", "min", "max", "first", "last"};
enum { AGGREGATES_MAX = 3 };

struct aggregate {
    uint32_t function, field;
};

struct group {
    uint32_t count; /* of values */
    int64_t sum;    /* of integers; of floats in quarters */
    int32_t low, high;
    struct row first, last;
};

static void group_add(struct group *group, const struct row *row, uint32_t f) {
    int32_t value = row->values[f];
    if (!(row->has >> f & 1)) return;
    if (group->count == 0) group->first = *row;
    if (group->count == 0 || value < group->low) group->low = value;
    if (group->count == 0 || value > group->high) group->high = value;
    group->last = *row;
    group->sum += f == 1 ? value + 1000 : value;
    group->count++;
}

static void print_value(struct imv_buffer *out, uint32_t f, int32_t value) {
    struct row row = {.has = 1 << f};
    row.values[f] = value;
    print_field(out, &row, f);
}

static void print_aggregate(struct imv_buffer *out, const struct aggregate *aggregate, const struct group *group) {
    uint32_t f = aggregate->field;
    switch (aggregate->function) {
        case 0: imv_buffer_append_format(out, "%u", group->count); return;
        case 1:
            if (f == 2 && group->count > 0)
                print_float(out, (double)group->sum / 4.0);
            else
                imv_buffer_append_format(out, "%lld", (long long)group->sum);
            return;
        default: break;
    }
    if (group->count == 0) {
        imv_buffer_append_format(out, "null");
        return;
    }
    switch (aggregate->function) {
        case 2: print_float(out, (double)group->sum / (f == 2 ? 4.0 : 1.0) / group->count); return;
        case 3: print_value(out, f, group->low); return;
        case 4: print_value(out, f, group->high); return;
        case 5: print_field(out, &group->first, f); return;
        default: print_field(out, &group->last, f); return;
    }
}

/* ---- queries ---- */

struct question {
    uint32_t label;
    uint32_t series;  /* mask */
    char where[64];   /* of the pattern */
    int64_t from, to; /* half open */
    char range[96];
    bool filtered;
    uint32_t filter_field;
    bool filter_above;
    int32_t filter_value;
    char filter[64];
};

static struct question question_draw(struct program *program) {
    struct question question = {.label = draw(program, LABELS), .from = INT64_MIN, .to = INT64_MAX};
    uint32_t one = draw(program, SERIES);
    switch (draw(program, 4)) {
        case 0:
            question.series = 1u << one;
            snprintf(question.where, sizeof question.where, " {k: '%u'}", one);
            break;
        case 1:
            question.series = 5;
            snprintf(question.where, sizeof question.where, " {g: 'even'}");
            break;
        default: question.series = (1 << SERIES) - 1; break;
    }
    size_t used = 0;
    if (draw(program, 3) > 0) {
        question.from = time_of(program, draw(program, program->times)) + (int64_t)draw(program, 3) - 1;
        used += (size_t)snprintf(question.range, sizeof question.range, " FROM %lld", (long long)question.from);
    }
    if (draw(program, 3) > 0) {
        question.to = time_of(program, draw(program, program->times)) + (int64_t)draw(program, 3) - 1;
        snprintf(question.range + used, sizeof question.range - used, " TO %lld", (long long)question.to);
    }
    question.filtered = draw(program, 3) == 0;
    if (question.filtered) {
        question.filter_field = draw(program, 3);
        question.filter_above = draw(program, 2) == 0;
        question.filter_value = (int32_t)draw(program, 2000) - 1000;
        struct imv_buffer value;
        imv_buffer_init(&value, 64);
        print_value(&value, question.filter_field, question.filter_value);
        snprintf(question.filter, sizeof question.filter, " FILTER s.%s %s %.*s", field_names[question.filter_field],
                 question.filter_above ? ">" : "<=", (int)value.size, value.data);
        imv_buffer_release(&value);
    }
    return question;
}

static const struct row *question_row(const struct program *program, const struct question *question, uint32_t s,
                                      uint32_t t) {
    const struct row *row = &program->rows[question->label][s][t];
    if (!(question->series >> s & 1) || row->has == 0) return NULL;
    if (time_of(program, t) < question->from || time_of(program, t) >= question->to) return NULL;
    if (!question->filtered) return row;
    if (!(row->has >> question->filter_field & 1)) return NULL;
    return (row->values[question->filter_field] > question->filter_value) == question->filter_above ? row : NULL;
}

static void ask_rows(struct program *program, const struct question *question) {
    bool backwards = draw(program, 2) == 0, one = (question->series & (question->series - 1)) == 0;
    uint32_t limit = draw(program, 2) == 0 ? UINT32_MAX : 1 + draw(program, 20), given = 0;
    uint32_t fields = 1 + draw(program, (1 << FIELDS) - 1);
    char columns[64] = "";
    for (uint32_t f = 0; f < FIELDS; f++) {
        if (fields >> f & 1)
            snprintf(columns + strlen(columns), sizeof columns - strlen(columns), ", s.%s", field_names[f]);
    }
    size_t used = (size_t)snprintf(program->query, sizeof program->query,
                                   "MATCH (h:l%u%s) SAMPLES OF h AS s%s%s RETURN s.ts AS t, h.k AS k%s ORDER BY t%s%s",
                                   question->label, question->where, question->range, question->filter, columns,
                                   backwards ? " DESC" : "", one && draw(program, 2) == 0 ? "" : ", k");
    if (limit != UINT32_MAX) snprintf(program->query + used, sizeof program->query - used, " LIMIT %u", limit);
    for (uint32_t i = 0; i < program->times; i++) {
        uint32_t t = backwards ? program->times - 1 - i : i;
        for (uint32_t s = 0; s < SERIES && given < limit; s++) {
            const struct row *row = question_row(program, question, s, t);
            if (row == NULL) continue;
            imv_buffer_append_format(&program->expected, "%s[%lld,\"%u\"", given++ > 0 ? "\n" : "",
                                     (long long)time_of(program, t), s);
            for (uint32_t f = 0; f < FIELDS; f++) {
                if (!(fields >> f & 1)) continue;
                imv_buffer_append_char(&program->expected, ',');
                print_field(&program->expected, row, f);
            }
            imv_buffer_append_char(&program->expected, ']');
        }
    }
}

static uint32_t draw_aggregates(struct program *program, struct aggregate *aggregates, char *text, size_t room) {
    uint32_t count = 1 + draw(program, AGGREGATES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        aggregates[i].field = draw(program, FIELDS);
        uint32_t functions = sizeof numeric_aggregates / sizeof *numeric_aggregates;
        aggregates[i].function = draw(program, functions);
        bool numeric = aggregates[i].field < 3;
        if (!numeric && aggregates[i].function > 0) aggregates[i].function = 5 + draw(program, 2);
        size_t used = strlen(text);
        snprintf(text + used, room - used, "%s%s(s.%s) AS a%u", i > 0 ? ", " : "",
                 numeric_aggregates[aggregates[i].function], field_names[aggregates[i].field], i);
    }
    return count;
}

/* Aggregates the rows of the series at times [from, end); false: there is none. */
static bool collect(const struct program *program, const struct question *question, uint32_t series, uint32_t from,
                    uint32_t end, const struct aggregate *aggregates, uint32_t count, struct group *groups) {
    bool any = false;
    memset(groups, 0, AGGREGATES_MAX * sizeof *groups);
    for (uint32_t t = from; t < end; t++) {
        for (uint32_t s = 0; s < SERIES; s++) {
            const struct row *row = series >> s & 1 ? question_row(program, question, s, t) : NULL;
            if (row == NULL) continue;
            any = true;
            for (uint32_t i = 0; i < count; i++) group_add(&groups[i], row, aggregates[i].field);
        }
    }
    return any;
}

static void print_groups(struct imv_buffer *out, const struct aggregate *aggregates, uint32_t count,
                         const struct group *groups, bool comma) {
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 || comma) imv_buffer_append_char(out, ',');
        print_aggregate(out, &aggregates[i], &groups[i]);
    }
    imv_buffer_append_char(out, ']');
}

/* One group, or one a series; of all series together first and last are not asked: of equal times it is open which. */
static void ask_groups(struct program *program, const struct question *question) {
    bool by_series = draw(program, 2) == 0;
    struct aggregate aggregates[AGGREGATES_MAX];
    struct group groups[AGGREGATES_MAX];
    char text[160] = "";
    uint32_t count = draw_aggregates(program, aggregates, text, sizeof text);
    for (uint32_t i = 0; i < count; i++) by_series |= aggregates[i].function >= 5;
    snprintf(program->query, sizeof program->query, "MATCH (h:l%u%s) SAMPLES OF h AS s%s%s RETURN %s%s%s",
             question->label, question->where, question->range, question->filter, by_series ? "h.k AS k, " : "", text,
             by_series ? " ORDER BY k" : "");
    if (!by_series) {
        collect(program, question, UINT32_MAX, 0, program->times, aggregates, count, groups);
        imv_buffer_append_char(&program->expected, '[');
        print_groups(&program->expected, aggregates, count, groups, false);
        return;
    }
    for (uint32_t s = 0, given = 0; s < SERIES; s++) {
        if (!collect(program, question, 1u << s, 0, program->times, aggregates, count, groups)) continue;
        imv_buffer_append_format(&program->expected, "%s[\"%u\"", given++ > 0 ? "\n" : "", s);
        print_groups(&program->expected, aggregates, count, groups, true);
    }
}

/* The windows of series, or of all series together; from the first one on or from the last. */
static void ask_windows(struct program *program, const struct question *question) {
    static const struct {
        const char *text;
        int64_t seconds;
    } widths[] = {{"7s", 7}, {"1m", 60}, {"1h", 3600}, {"24h", 86400}};
    uint32_t width = draw(program, 4), limit = draw(program, 2) == 0 ? UINT32_MAX : 1 + draw(program, 8), given = 0;
    int64_t width_ns = widths[width].seconds * SECOND;
    bool backwards = draw(program, 2) == 0, by_series = draw(program, 2) == 0;
    struct aggregate aggregates[AGGREGATES_MAX];
    struct group groups[AGGREGATES_MAX];
    char text[160] = "";
    uint32_t count = draw_aggregates(program, aggregates, text, sizeof text);
    for (uint32_t i = 0; i < count; i++) by_series |= aggregates[i].function >= 5;
    size_t used = (size_t)snprintf(
        program->query, sizeof program->query,
        "MATCH (h:l%u%s) SAMPLES OF h AS s%s%s WINDOW %s RETURN window.start AS w, %s%s ORDER BY w%s%s",
        question->label, question->where, question->range, question->filter, widths[width].text,
        by_series ? "h.k AS k, " : "", text, backwards ? " DESC" : "", by_series ? ", k" : "");
    if (limit != UINT32_MAX) snprintf(program->query + used, sizeof program->query - used, " LIMIT %u", limit);
    for (uint32_t i = 0, next; i < program->times && given < limit; i = next) {
        uint32_t t = backwards ? program->times - 1 - i : i, from = t, end = t + 1;
        int64_t start = time_of(program, t) / width_ns * width_ns;
        while (from > 0 && time_of(program, from - 1) >= start) from--;
        while (end < program->times && time_of(program, end) < start + width_ns) end++;
        next = i + end - from;
        for (uint32_t s = 0; s < (by_series ? SERIES : 1) && given < limit; s++) {
            uint32_t series = by_series ? 1u << s : UINT32_MAX;
            if (!collect(program, question, series, from, end, aggregates, count, groups)) continue;
            imv_buffer_append_format(&program->expected, "%s[%lld", given++ > 0 ? "\n" : "", (long long)start);
            if (by_series) imv_buffer_append_format(&program->expected, ",\"%u\"", s);
            print_groups(&program->expected, aggregates, count, groups, true);
        }
    }
}

/* Current values, and the time of the newest row. Whether a twin without a row is still there is open: retention takes
 * the series itself at some time after its last row. */
static void ask_newest(struct program *program, const struct question *question) {
    uint32_t given = 0;
    snprintf(program->query, sizeof program->query,
             "MATCH (h:l%u%s) WHERE last_time(h) IS NOT NULL RETURN h.k AS k, last_time(h) AS t, h.i, h.u, h.f, h.b, "
             "h.s ORDER BY k",
             question->label, question->where);
    for (uint32_t s = 0; s < SERIES; s++) {
        const struct row *rows = program->rows[question->label][s];
        uint32_t t = program->times;
        while (t > 0 && rows[t - 1].has == 0) t--;
        if (!(question->series >> s & 1) || t == 0) continue;
        imv_buffer_append_format(&program->expected, "%s[\"%u\",", given++ > 0 ? "\n" : "", s);
        imv_buffer_append_format(&program->expected, "%lld", (long long)time_of(program, t - 1));
        for (uint32_t f = 0; f < FIELDS; f++) {
            static const struct row none;
            const struct row *newest = &none;
            for (uint32_t i = program->times; i-- > 0 && newest == &none;) {
                if (rows[i].has >> f & 1) newest = &rows[i];
            }
            imv_buffer_append_char(&program->expected, ',');
            print_field(&program->expected, newest, f);
        }
        imv_buffer_append_char(&program->expected, ']');
    }
}

static bool run_query(struct program *program) {
    struct rig *rig = &program->rig;
    struct imv_text_sink sink;
    rig->workers = program->workers_used ? program->workers : NULL;
    imv_buffer_reset(&rig->answer);
    imv_text_sink_init(&sink, IMV_SINK_NDJSON, true, rig_append, &rig->answer);
    imv_status status = rig_run_into(rig, program->query, &sink.sink);
    imv_text_sink_release(&sink);
    imv_buffer_append_char(&program->expected, 0);
    if (status != IMV_OK) return fail(program, "the query fails");
    imv_buffer_append_char(&rig->answer, 0);
    char *rows = strchr(rig->answer.data, '\n') + 1, *end = strstr(rows, "{\"stats\"");
    *(end > rows ? end - 1 : end) = 0;
    free(program->answer);
    program->answer = strdup(rows);
    return strcmp(rows, program->expected.data) == 0 || fail(program, "another answer");
}

static bool step_query(struct program *program) {
    struct question question = question_draw(program);
    imv_buffer_reset(&program->expected);
    program->rig.without = draw(program, 2) == 0 ? 0 : draw(program, 64);
    program->workers_used = draw(program, 2) == 0;
    switch (draw(program, 6)) {
        case 0: ask_rows(program, &question); break;
        case 1: ask_groups(program, &question); break;
        case 2:
        case 3: ask_windows(program, &question); break;
        case 4: ask_newest(program, &question); break;
        default: ask_rows(program, &question); break;
    }
    return run_query(program);
}

/* ---- programs ---- */

static bool step_run(struct program *program, const struct step *step) {
    struct imv_error err = {0};
    imv_prng_init(&program->prng, step->seed);
    switch (step->kind) {
        case WRITE: return step_write(program);
        case DELETE: return step_delete(program);
        case FLUSH: return harness_flush(&program->rig.harness, &err) == IMV_OK || fail(program, "flush");
        case BACKGROUND: return step_background(program);
        case PASS: return step_pass(program);
        case RETAIN: return step_retain(program);
        case RESTART: return step_restart(program, false);
        case CRASH: return step_restart(program, true);
        case QUERY: return step_query(program);
    }
    return false;
}

static void program_draw(struct program *program, uint64_t seed) {
    static const struct {
        enum kind kind;
        uint32_t share;
    } shares[] = {{WRITE, 30}, {DELETE, 10}, {FLUSH, 8}, {BACKGROUND, 6}, {PASS, 5},
                  {RETAIN, 1}, {RESTART, 1}, {CRASH, 2}, {QUERY, 37}};
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    program->seed = seed;
    program->places = imv_prng_below(&prng, 24) == 0 ? PLACES_MANY : PLACES_FEW;
    program->times = DAYS * program->places;
    program->steps_count = 8 + (uint32_t)imv_prng_below(&prng, STEPS_MAX - 8);
    for (uint32_t i = 0; i < program->steps_count; i++) {
        uint32_t at = (uint32_t)imv_prng_below(&prng, 100), k = 0;
        while (at >= shares[k].share) at -= shares[k++].share;
        program->steps[i] = (struct step){shares[k].kind, imv_prng_next(&prng)};
    }
}

static const char *const kind_names[] = {"write",  "delete",  "flush", "background", "pass",
                                         "retain", "restart", "crash", "query"};

static bool program_open(struct program *program) {
    struct imv_error err = {0};
    struct rig *rig = &program->rig;
    struct imv_sim_options options = {.seed = program->seed};
    *rig = (struct rig){.memory_bytes_max = 64 << 20, .deadline_ns = INT64_MAX};
    imv_buffer_init(&rig->answer, 64 << 20);
    imv_buffer_init(&program->expected, 64 << 20);
    harness_init(&rig->harness, "/db", 1 + (uint32_t)(program->seed % 3));
    rig->harness.wal_segment_bytes = 64 << 10;
    memset(program->rows, 0, sizeof program->rows);
    memset(program->next_time, 0, sizeof program->next_time);
    memset(program->retention_ns, 0, sizeof program->retention_ns);
    program->failure = NULL;
    program->query[0] = 0;
    return imv_sim_new(&options, &rig->harness.sim, &err) == IMV_OK &&
           imv_kv_memory_new(program->seed, &rig->kv, &err) == IMV_OK &&
           (rig->harness.kv_memory = rig->kv, harness_open(&rig->harness, &err) == IMV_OK);
}

/* Runs steps as far as they go; the number of the step that failed, or steps_count. */
static uint32_t program_run(struct program *program, uint64_t *queries) {
    uint32_t at = 0;
    imv_assert(program_open(program));
    for (; at < program->steps_count; at++) {
        if (program->verbose) fprintf(stderr, "%u %s\n", at, kind_names[program->steps[at].kind]);
        if (program->steps[at].kind == QUERY && queries != NULL) ++*queries;
        bool holds = step_run(program, &program->steps[at]);
        if (program->verbose && program->steps[at].kind == QUERY) fprintf(stderr, "    %s\n", program->query);
        if (!holds) break;
    }
    if (program->failure == NULL) imv_buffer_release(&program->expected);
    rig_close(&program->rig);
    return at;
}

/* Leaves out what the failure does not need. */
static void program_shrink(struct program *program) {
    bool smaller = true;
    while (smaller) {
        smaller = false;
        for (uint32_t i = program->steps_count; i-- > 0;) {
            struct step steps[STEPS_MAX];
            uint32_t count = program->steps_count;
            memcpy(steps, program->steps, sizeof steps);
            memmove(program->steps + i, program->steps + i + 1, (count - i - 1) * sizeof steps[0]);
            program->steps_count--;
            if (program->failure != NULL) imv_buffer_release(&program->expected);
            uint32_t failed = program_run(program, NULL);
            if (program->failure != NULL) {
                program->steps_count = failed + 1;
                smaller = true;
                if (i > program->steps_count) i = program->steps_count;
            } else {
                memcpy(program->steps, steps, sizeof steps);
                program->steps_count = count;
            }
        }
    }
    program->verbose = true;
    program_run(program, NULL);
}

static bool program_holds(struct program *program, uint64_t seed, uint64_t *queries) {
    program_draw(program, seed);
    program_run(program, queries);
    if (program->failure == NULL) return true;
    uint32_t steps = program->steps_count;
    program_shrink(program);
    fprintf(stderr, "IMV_TEST_SEED=%llu IMV_PROGRAMS=1: %s; %u of %u steps are left\n", (unsigned long long)seed,
            program->failure == NULL ? "nothing, alone" : program->failure, program->steps_count, steps);
    if (program->failure != NULL) {
        fprintf(stderr, "%s\n-- wanted --\n%s\n-- came --\n%s\n-- error: %s --\n", program->query,
                program->expected.size == 0 ? "" : program->expected.data,
                program->answer == NULL ? "" : program->answer, program->rig.error.message);
        imv_buffer_release(&program->expected);
    }
    return false;
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

Test(programs, answers_are_those_of_arrays_and_loops, .timeout = 3600) {
    /* Whatever was written, deleted, flushed, rewritten, forgotten and recovered before: a query's answer is that of a
     * naive model, whichever way it is planned. */
    imv_log_set_level(IMV_LOG_ERROR + 1);
    uint64_t first = number_from_environment("IMV_TEST_SEED", 1), count = number_from_environment("IMV_PROGRAMS", 400);
    struct program *program = calloc(1, sizeof *program);
    cr_assert_not_null(program);
    program->verbose = number_from_environment("IMV_PROGRAM_VERBOSE", 0) > 0;
    cr_assert_eq(imv_workers_new(2, 0, &program->workers, NULL), IMV_OK);
    uint64_t queries = 0, failed = 0;
    for (uint64_t seed = first; seed < first + count && failed < 3; seed++) {
        failed += !program_holds(program, seed, &queries);
        program->verbose = false;
    }
    fprintf(stderr, "%llu programs, %llu queries, seeds from %llu; %lld flushes, %lld consolidations, %lld deletions\n",
            (unsigned long long)count, (unsigned long long)queries, (unsigned long long)first,
            (long long)imv_metric_value(IMV_METRIC_flush_total),
            (long long)imv_metric_value(IMV_METRIC_consolidation_total),
            (long long)imv_metric_value(IMV_METRIC_deletions_total));
    imv_workers_free(program->workers);
    free(program->answer);
    free(program);
    cr_assert_eq(failed, 0);
}
