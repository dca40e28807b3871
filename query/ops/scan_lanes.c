#include "query/ops/scan_lanes.h"

#include "query/column.h"
#include "query/workers.h"
#include "storage/base/assert.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum {
    READY_MAX = 3,             /* blocks of a lane that wait to be given out */
    MORSEL_JOBS_MAX = 16,      /* large enough that taking one costs nothing, small enough that lanes end together */
    MORSELS_PER_LANE = 8,      /* of a short list */
    BUCKETS_BYTES = 128 << 10, /* of a block: two lanes' blocks stay in a core's cache */
    BUCKETS_MIN = 16,
    ARENA_BYTES = 64 << 10,
    TURNS_MAX =
        64,       /* steps of a cursor for one block: some milliseconds, after which the query looks at its deadline */
    WAIT_MS = 10, /* between looks at the deadline */
};

/* A block and the memory behind it. */
struct block {
    struct imv_scan_block view;
    struct block *next;
    struct lane *lane;
    uint32_t morsel;
    bool is_last; /* of its morsel */
    imv_status status;
    struct imv_error err;
    /* Made for columns_capacity columns at the first use as rows, buckets_bytes at that as buckets. */
    uint16_t jobs[IMV_BATCH_ROWS_MAX];
    uint32_t rows_columns, buckets_columns;
    int64_t *timestamps;
    struct imv_vector *columns;
    uint64_t *cells; /* [columns][IMV_BATCH_ROWS_MAX] */
    uint64_t *valid; /* [columns][IMV_BATCH_ROWS_MAX / 64] */
    struct imv_buckets buckets;
    struct imv_arena strings;
};

struct lane_cursor {
    struct lane_cursor *next;
    const struct imv_scan_label *label;
    struct imv_cursor *cursor;
};

enum lane_state { LANE_IDLE, LANE_RUNNING };

struct lane {
    struct imv_worker_task task;
    struct imv_scan_lanes *lanes;
    /* Guarded by the lock. */
    enum lane_state state;
    struct block *ready, **ready_last, *free;
    uint32_t ready_count;
    bool has_failed;
    /* Of the thread that runs the lane. */
    struct imv_arena arena;
    struct lane_cursor *cursors;
    bool has_morsel;
    uint32_t morsel;
    size_t job, jobs_end;
    struct imv_cursor *cursor; /* of the job being read; NULL: it is not begun */
    /* Rows that are read and not copied yet; NULL: none. Of label->ranges the rows that are in them, by index. */
    const struct imv_rows *rows;
    size_t rows_count, rows_used;
    uint16_t picked[IMV_BATCH_ROWS_MAX];
};

struct imv_scan_lanes {
    struct imv_exec *exec;
    struct imv_workers *workers; /* NULL: none */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a block became ready or a lane idle */
    _Atomic bool stop;
    bool has_helpers; /* the workers were asked */
    int64_t helpers_at_ns;
    /* The list; guarded by lock where it changes while lanes run. */
    const struct imv_scan_job *jobs;
    size_t jobs_count, morsel_jobs;
    uint32_t morsels_count, next_morsel; /* next_morsel: to be taken by a lane */
    uint32_t front;                      /* the morsel whose blocks are given out */
    struct block *given;
    uint32_t lanes_count;
    struct lane *lane;
};

/* ---- life ---- */

static void run_task(struct imv_worker_task *task);

static imv_status init_lane(struct imv_scan_lanes *lanes, struct lane *lane) {
    *lane = (struct lane){.task.run = run_task, .lanes = lanes};
    lane->ready_last = &lane->ready;
    imv_arena_init(&lane->arena, ARENA_BYTES, &lanes->exec->budget);
    return IMV_OK;
}

imv_status imv_scan_lanes_new(struct imv_exec *exec, struct imv_scan_lanes **out) {
    struct imv_workers *workers = exec->request->workers;
    struct imv_scan_lanes *lanes = imv_arena_calloc(&exec->arena, 1, sizeof *lanes);
    if (lanes == NULL) return imv_exec_fail_memory(exec);
    uint32_t count = 1 + (workers == NULL ? 0 : imv_workers_count(workers));
    lanes->lane = imv_arena_calloc(&exec->arena, count, sizeof *lanes->lane);
    if (lanes->lane == NULL) return imv_exec_fail_memory(exec);
    lanes->exec = exec;
    lanes->workers = workers;
    lanes->lanes_count = count;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&lanes->lock, NULL);
    pthread_cond_init(&lanes->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (uint32_t i = 0; i < count; i++) init_lane(lanes, &lanes->lane[i]);
    *out = lanes;
    return IMV_OK;
}

static void free_blocks(struct block *block) {
    for (; block != NULL; block = block->next) imv_arena_release(&block->strings);
}

static void release_lane(struct lane *lane) {
    free_blocks(lane->ready);
    free_blocks(lane->free);
    for (struct lane_cursor *cursor = lane->cursors; cursor != NULL; cursor = cursor->next)
        imv_cursor_free(cursor->cursor);
    imv_arena_release(&lane->arena);
}

/* Waits until no lane runs; a worker ends its turn at the next look at stop. */
static void stop_lanes(struct imv_scan_lanes *lanes) {
    atomic_store(&lanes->stop, true);
    for (uint32_t i = 0; i < lanes->lanes_count; i++) {
        struct lane *lane = &lanes->lane[i];
        bool withdrawn = lanes->workers != NULL && imv_workers_withdraw(lanes->workers, &lane->task);
        pthread_mutex_lock(&lanes->lock);
        if (withdrawn) lane->state = LANE_IDLE;
        while (lane->state != LANE_IDLE) pthread_cond_wait(&lanes->changed, &lanes->lock);
        pthread_mutex_unlock(&lanes->lock);
    }
}

void imv_scan_lanes_free(struct imv_scan_lanes *lanes) {
    if (lanes == NULL) return;
    stop_lanes(lanes);
    if (lanes->given != NULL) imv_arena_release(&lanes->given->strings);
    for (uint32_t i = 0; i < lanes->lanes_count; i++) release_lane(&lanes->lane[i]);
    pthread_cond_destroy(&lanes->changed);
    pthread_mutex_destroy(&lanes->lock);
}

void imv_scan_lanes_start(struct imv_scan_lanes *lanes, const struct imv_scan_job *jobs, size_t jobs_count) {
    imv_assert(jobs_count <= IMV_SCAN_JOBS_MAX && lanes->front == lanes->morsels_count);
    size_t morsel_jobs = jobs_count / ((size_t)lanes->lanes_count * MORSELS_PER_LANE);
    if (morsel_jobs > MORSEL_JOBS_MAX) morsel_jobs = MORSEL_JOBS_MAX;
    if (morsel_jobs == 0) morsel_jobs = 1;
    pthread_mutex_lock(&lanes->lock);
    lanes->jobs = jobs;
    lanes->jobs_count = jobs_count;
    lanes->morsel_jobs = morsel_jobs;
    lanes->morsels_count = (uint32_t)((jobs_count + morsel_jobs - 1) / morsel_jobs);
    lanes->next_morsel = lanes->front = 0;
    pthread_mutex_unlock(&lanes->lock);
}

/* ---- memory of blocks ---- */

static imv_status no_memory(const struct lane *lane, struct imv_error *err) {
    return imv_fail(err, IMV_FULL, "scan: the memory budget \"%s\" is spent", lane->lanes->exec->budget.name);
}

static bool reserve_rows(struct lane *lane, struct block *block, uint32_t columns) {
    struct imv_arena *arena = &lane->arena;
    if (block->timestamps == NULL)
        block->timestamps = imv_arena_alloc(arena, IMV_BATCH_ROWS_MAX * sizeof *block->timestamps);
    if (block->timestamps == NULL) return false;
    if (columns <= block->rows_columns) return true;
    block->columns = imv_arena_alloc(arena, columns * sizeof *block->columns);
    block->cells = imv_arena_alloc(arena, columns * IMV_BATCH_ROWS_MAX * sizeof *block->cells);
    block->valid = imv_arena_alloc(arena, columns * (IMV_BATCH_ROWS_MAX / 64) * sizeof *block->valid);
    block->rows_columns = block->columns == NULL || block->cells == NULL || block->valid == NULL ? 0 : columns;
    return block->rows_columns > 0;
}

static size_t buckets_capacity(uint32_t columns) {
    size_t bytes = columns * sizeof(struct imv_bucket) + sizeof(int64_t) + sizeof(uint64_t);
    size_t capacity = BUCKETS_BYTES / bytes;
    return capacity > IMV_BATCH_ROWS_MAX ? IMV_BATCH_ROWS_MAX : capacity < BUCKETS_MIN ? BUCKETS_MIN : capacity;
}

static bool reserve_buckets(struct lane *lane, struct block *block, uint32_t columns) {
    struct imv_arena *arena = &lane->arena;
    struct imv_buckets *buckets = &block->buckets;
    buckets->count = 0;
    buckets->columns_count = columns;
    buckets->capacity = buckets_capacity(columns);
    if (buckets->starts != NULL && columns <= block->buckets_columns) return true;
    size_t capacity = buckets_capacity(0); /* fewer columns may come later */
    buckets->starts = imv_arena_alloc(arena, capacity * sizeof *buckets->starts);
    buckets->rows = imv_arena_alloc(arena, capacity * sizeof *buckets->rows);
    /* As many values fit whatever the columns; see buckets_capacity. */
    size_t values = BUCKETS_BYTES / sizeof *buckets->values;
    if (values < (size_t)columns * BUCKETS_MIN) values = (size_t)columns * BUCKETS_MIN;
    buckets->values = imv_arena_alloc(arena, values * sizeof *buckets->values);
    if (buckets->starts != NULL && buckets->rows != NULL && buckets->values != NULL) {
        block->buckets_columns = columns;
        return true;
    }
    buckets->starts = NULL;
    return false;
}

/* A block of the lane that nobody uses, or a new one; NULL: no memory. The caller has the lock. */
static struct block *take_block(struct lane *lane) {
    struct block *block = lane->free;
    if (block != NULL) lane->free = block->next;
    return block;
}

static struct block *new_block(struct lane *lane) {
    struct block *block = imv_arena_calloc(&lane->arena, 1, sizeof *block);
    if (block == NULL) return NULL;
    block->lane = lane;
    imv_arena_init(&block->strings, ARENA_BYTES, &lane->lanes->exec->budget);
    return block;
}

/* ---- reading ---- */

static imv_status find_cursor(struct lane *lane, const struct imv_scan_label *label, struct imv_cursor **out,
                              struct imv_error *err) {
    struct imv_exec *exec = lane->lanes->exec;
    for (struct lane_cursor *known = lane->cursors; known != NULL; known = known->next) {
        *out = known->cursor;
        if (known->label == label) return IMV_OK;
    }
    struct lane_cursor *made = imv_arena_calloc(&lane->arena, 1, sizeof *made);
    if (made == NULL) return no_memory(lane, err);
    IMV_TRY(imv_cursor_new(exec->snapshot, label->label, label->ids, label->columns_count, &exec->budget, &made->cursor,
                           err));
    imv_cursor_set_ranges(made->cursor, label->ranges, label->ranges_count);
    if (label->is_bucketed) imv_cursor_set_buckets(made->cursor, label->bucket_width, label->bucket_needs);
    made->label = label;
    made->next = lane->cursors;
    lane->cursors = made;
    *out = made->cursor;
    return IMV_OK;
}

/* Points the lane's cursor at its job. */
static imv_status begin_job(struct lane *lane, struct imv_error *err) {
    const struct imv_scan_job *job = &lane->lanes->jobs[lane->job];
    struct imv_cursor *cursor;
    if (lane->cursor != NULL) return IMV_OK;
    IMV_TRY(find_cursor(lane, job->label, &cursor, err));
    IMV_TRY(imv_cursor_seek(cursor, job->series, job->first, job->last, err));
    lane->cursor = cursor;
    return IMV_OK;
}

static void end_job(struct lane *lane) {
    lane->cursor = NULL;
    lane->rows = NULL;
    lane->job++;
}

/* Leaves only the rows that have a value of the series' column, of buckets from `first` on. */
static void narrow_buckets(struct imv_buckets *buckets, size_t first, size_t column) {
    size_t kept = first, columns = buckets->columns_count;
    for (size_t i = first; i < buckets->count; i++) {
        const struct imv_bucket *values = buckets->values + i * columns;
        if (values[column].count == 0) continue;
        buckets->starts[kept] = buckets->starts[i];
        buckets->rows[kept] = values[column].count;
        if (kept < i) memcpy(buckets->values + kept * columns, values, columns * sizeof *values);
        kept++;
    }
    buckets->count = kept;
}

/* Adds the buckets of the job, as far as they have room. A pause for a look around leaves *paused true. */
static imv_status fill_buckets(struct lane *lane, struct block *block, bool *paused) {
    struct imv_buckets *buckets = &block->buckets;
    size_t before = buckets->count;
    bool more;
    IMV_TRY(imv_cursor_next_buckets(lane->cursor, buckets, &more, &block->err));
    for (size_t i = before; i < buckets->count; i++) block->view.samples += buckets->rows[i];
    if (block->view.label->series_column >= 0)
        narrow_buckets(buckets, before, (size_t)block->view.label->series_column);
    for (size_t i = before; i < buckets->count; i++) block->jobs[i] = (uint16_t)lane->job;
    block->view.rows = buckets->count;
    *paused = more;
    if (!more) end_job(lane);
    return IMV_OK;
}

static bool is_within(imv_type type, uint64_t cell, const struct imv_cursor_range *range) {
    if (type == IMV_FLOAT) {
        double value = imv_cell_float(cell);
        return value >= imv_cell_float(range->low) && value <= imv_cell_float(range->high);
    }
    if (type == IMV_UINTEGER) return cell >= range->low && cell <= range->high;
    return (int64_t)cell >= (int64_t)range->low && (int64_t)cell <= (int64_t)range->high;
}

/* Keeps of the picked rows those within a range. */
static size_t pick_within(const struct imv_vector *vector, const struct imv_cursor_range *range, uint16_t *picked,
                          size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t row = picked[i];
        picked[kept] = row;
        kept += is_within(vector->type, vector->cells[row], range) && imv_vector_has(vector, row);
    }
    return kept;
}

/* Reads the next rows of the job; *end: there are none. */
static imv_status read_rows(struct lane *lane, struct block *block, bool *end) {
    const struct imv_scan_label *label = block->view.label;
    const struct imv_rows *rows;
    IMV_TRY(imv_cursor_next(lane->cursor, &rows, &block->err));
    *end = rows->count == 0;
    lane->rows = rows;
    lane->rows_count = rows->count;
    lane->rows_used = 0;
    block->view.samples += rows->count;
    if (label->ranges_count == 0) return IMV_OK;
    for (size_t i = 0; i < rows->count; i++) lane->picked[i] = (uint16_t)i;
    for (uint32_t i = 0; i < label->ranges_count; i++) {
        const struct imv_cursor_range *range = &label->ranges[i];
        lane->rows_count = pick_within(&rows->columns[range->column], range, lane->picked, lane->rows_count);
    }
    return IMV_OK;
}

static bool copy_strings(struct block *block, const struct imv_vector *column, const uint64_t *valid, size_t first,
                         size_t end) {
    for (size_t i = first; i < end; i++) {
        if (valid != NULL && !imv_bit_get(valid, i)) continue;
        const struct imv_string *string = imv_cell_string(column->cells[i]);
        size_t bytes = sizeof *string + string->size;
        struct imv_string *copy = imv_arena_alloc(&block->strings, bytes);
        if (copy == NULL) return false;
        memcpy(copy, string, bytes);
        column->cells[i] = imv_string_cell(copy);
    }
    return true;
}

/* Appends the next count rows of a column behind the `to` that are there. */
static bool append_column(struct lane *lane, struct block *block, uint32_t c, size_t to, size_t count) {
    const struct imv_vector *from = &lane->rows->columns[c];
    struct imv_vector *column = &block->columns[c];
    uint64_t *valid = block->valid + (size_t)c * (IMV_BATCH_ROWS_MAX / 64);
    bool is_picked = block->view.label->ranges_count > 0;
    const uint16_t *picked = lane->picked + lane->rows_used;
    if (to == 0) {
        *column = (struct imv_vector){from->type, block->cells + (size_t)c * IMV_BATCH_ROWS_MAX, NULL};
        memset(valid, 0, IMV_BATCH_ROWS_MAX / 8);
    }
    if (is_picked)
        for (size_t i = 0; i < count; i++) column->cells[to + i] = from->cells[picked[i]];
    else
        memcpy(column->cells + to, from->cells + lane->rows_used, count * sizeof *column->cells);
    if (from->valid != NULL && column->valid == NULL) {
        for (size_t i = 0; i < to; i++) imv_bit_set(valid, i);
        column->valid = valid;
    }
    for (size_t i = 0; column->valid != NULL && i < count; i++)
        if (imv_vector_has(from, is_picked ? picked[i] : lane->rows_used + i)) imv_bit_set(valid, to + i);
    return from->type != IMV_STRING || copy_strings(block, column, column->valid, to, to + count);
}

static bool append_rows(struct lane *lane, struct block *block, size_t count) {
    size_t to = block->view.rows;
    bool is_picked = block->view.label->ranges_count > 0;
    for (size_t i = 0; i < count; i++) {
        size_t row = is_picked ? lane->picked[lane->rows_used + i] : lane->rows_used + i;
        block->timestamps[to + i] = lane->rows->timestamps[row];
        block->jobs[to + i] = (uint16_t)lane->job;
    }
    for (uint32_t c = 0; c < block->view.label->columns_count; c++)
        if (!append_column(lane, block, c, to, count)) return false;
    block->view.rows += count;
    lane->rows_used += count;
    return true;
}

/* Gives the cursor's rows out where they lie. */
static void borrow_rows(struct lane *lane, struct block *block) {
    block->view.timestamps = lane->rows->timestamps;
    block->view.columns = lane->rows->columns;
    block->view.rows = lane->rows->count;
    for (size_t i = 0; i < lane->rows->count; i++) block->jobs[i] = (uint16_t)lane->job;
    lane->rows = NULL;
}

/* Adds rows of the job. Rows that do not fit stay for the next block. */
static imv_status fill_rows(struct lane *lane, struct block *block, bool may_borrow, bool *full) {
    bool end = false;
    *full = false;
    if (lane->rows == NULL) IMV_TRY(read_rows(lane, block, &end));
    if (end) {
        end_job(lane);
        return IMV_OK;
    }
    if (may_borrow && block->view.rows == 0 && lane->rows_used == 0 && lane->rows_count == lane->rows->count) {
        borrow_rows(lane, block);
        *full = true;
        return IMV_OK;
    }
    if (!reserve_rows(lane, block, block->view.label->columns_count)) return no_memory(lane, &block->err);
    size_t room = IMV_BATCH_ROWS_MAX - block->view.rows, left = lane->rows_count - lane->rows_used;
    if (!append_rows(lane, block, left < room ? left : room)) return no_memory(lane, &block->err);
    block->view.timestamps = block->timestamps;
    block->view.columns = block->columns;
    if (lane->rows_used == lane->rows_count) lane->rows = NULL;
    *full = block->view.rows == IMV_BATCH_ROWS_MAX;
    return IMV_OK;
}

static imv_status begin_block(struct lane *lane, struct block *block) {
    const struct imv_scan_label *label = lane->lanes->jobs[lane->job].label;
    imv_arena_reset(&block->strings);
    block->status = IMV_OK;
    block->view = (struct imv_scan_block){.label = label, .jobs = block->jobs};
    if (label->is_bucketed && !reserve_buckets(lane, block, label->columns_count)) return no_memory(lane, &block->err);
    return IMV_OK;
}

/* Fills a block from the lane's morsel: until it is full, the morsel or the run of jobs with this label ends. */
static imv_status fill_block(struct lane *lane, struct block *block, bool may_borrow) {
    const struct imv_scan_job *jobs = lane->lanes->jobs;
    bool full = false;
    IMV_TRY(begin_block(lane, block));
    for (int turns = 0;
         turns < TURNS_MAX && !full && lane->job < lane->jobs_end && jobs[lane->job].label == block->view.label;
         turns++) {
        if (atomic_load_explicit(&lane->lanes->stop, memory_order_relaxed)) break;
        IMV_TRY(begin_job(lane, &block->err));
        if (block->view.label->is_bucketed)
            IMV_TRY(fill_buckets(lane, block, &full));
        else
            IMV_TRY(fill_rows(lane, block, may_borrow, &full));
    }
    block->view.buckets = block->buckets;
    return IMV_OK;
}

/* ---- turns ---- */

static bool may_run(const struct lane *lane) {
    const struct imv_scan_lanes *lanes = lane->lanes;
    if (lane->state != LANE_IDLE || lane->has_failed || lane->ready_count >= READY_MAX) return false;
    return lane->has_morsel || lanes->next_morsel < lanes->morsels_count;
}

static void take_morsel(struct lane *lane) {
    struct imv_scan_lanes *lanes = lane->lanes;
    if (lane->has_morsel) return;
    lane->has_morsel = true;
    lane->morsel = lanes->next_morsel++;
    lane->job = lane->morsel * lanes->morsel_jobs;
    lane->jobs_end = lane->job + lanes->morsel_jobs;
    if (lane->jobs_end > lanes->jobs_count) lane->jobs_end = lanes->jobs_count;
}

static void put_ready(struct lane *lane, struct block *block) {
    block->next = NULL;
    *lane->ready_last = block;
    lane->ready_last = &block->next;
    lane->ready_count++;
}

/* Makes one block. The caller has the lock, which is not held meanwhile, and has made the lane RUNNING. */
static imv_status make_block(struct lane *lane) {
    struct imv_scan_lanes *lanes = lane->lanes;
    take_morsel(lane);
    struct block *block = take_block(lane);
    /* What is lent holds while the lane stands still. The first lane does, until this block, the next one to be given
     * out, is used up: nobody but the query's thread runs it. */
    bool may_borrow = lane == lanes->lane && lane->ready_count == 0 && lane->morsel == lanes->front;
    pthread_mutex_unlock(&lanes->lock);
    if (block == NULL) block = new_block(lane);
    if (block != NULL) {
        block->status = fill_block(lane, block, may_borrow);
        block->morsel = lane->morsel;
        block->is_last = block->status == IMV_OK && lane->job == lane->jobs_end;
    }
    pthread_mutex_lock(&lanes->lock);
    if (block == NULL) return IMV_FULL;
    lane->has_failed = block->status != IMV_OK;
    if (block->is_last) lane->has_morsel = false;
    put_ready(lane, block);
    pthread_cond_signal(&lanes->changed);
    return IMV_OK;
}

/* On a worker: blocks until the lane has enough of them. */
static void run_task(struct imv_worker_task *task) {
    struct lane *lane = (struct lane *)(void *)task;
    struct imv_scan_lanes *lanes = lane->lanes;
    pthread_mutex_lock(&lanes->lock);
    imv_assert(lane->state == LANE_RUNNING);
    lane->state = LANE_IDLE;
    while (may_run(lane) && !atomic_load(&lanes->stop)) {
        lane->state = LANE_RUNNING;
        imv_status status = make_block(lane);
        lane->state = LANE_IDLE;
        if (status != IMV_OK) break; /* the query's thread may have memory for one */
    }
    pthread_cond_broadcast(&lanes->changed);
    pthread_mutex_unlock(&lanes->lock);
}

/* Sends the lanes that have something to do to the workers. The caller has the lock. */
static void call_helpers(struct imv_scan_lanes *lanes) {
    if (lanes->workers == NULL) return;
    if (!lanes->has_helpers) {
        int64_t now = imv_clock_monotonic_ns(imv_clock_system());
        if (lanes->helpers_at_ns == 0) lanes->helpers_at_ns = now + imv_workers_patience_ns(lanes->workers);
        if (now < lanes->helpers_at_ns) return;
        lanes->has_helpers = true;
    }
    for (uint32_t i = 1; i < lanes->lanes_count; i++) {
        struct lane *lane = &lanes->lane[i];
        if (!may_run(lane)) continue;
        lane->state = LANE_RUNNING; /* from now on it is the worker's */
        imv_workers_submit(lanes->workers, &lane->task);
    }
}

/* ---- giving out ---- */

static struct block *take_front(struct imv_scan_lanes *lanes) {
    for (uint32_t i = 0; i < lanes->lanes_count; i++) {
        struct lane *lane = &lanes->lane[i];
        struct block *block = lane->ready;
        if (block == NULL || block->morsel != lanes->front) continue;
        lane->ready = block->next;
        if (lane->ready == NULL) lane->ready_last = &lane->ready;
        lane->ready_count--;
        if (block->is_last) lanes->front++;
        return block;
    }
    return NULL;
}

/* The lane that the query's thread should run: the one that holds the front morsel, unless a worker has it. */
static struct lane *choose_lane(struct imv_scan_lanes *lanes) {
    for (uint32_t i = 1; i < lanes->lanes_count; i++) {
        struct lane *lane = &lanes->lane[i];
        if (!lane->has_morsel || lane->morsel != lanes->front) continue;
        if (lane->state == LANE_RUNNING && imv_workers_withdraw(lanes->workers, &lane->task)) lane->state = LANE_IDLE;
        if (may_run(lane)) return lane;
    }
    return may_run(&lanes->lane[0]) ? &lanes->lane[0] : NULL;
}

static void wait_for_change(struct imv_scan_lanes *lanes) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&lanes->changed, &lanes->lock, &until);
}

static void take_back(struct imv_scan_lanes *lanes) {
    struct block *given = lanes->given;
    lanes->given = NULL;
    if (given == NULL) return;
    given->next = given->lane->free;
    given->lane->free = given;
}

/* The next block that is ready, or NULL after one step towards it. The caller has the lock. */
static imv_status step(struct imv_scan_lanes *lanes) {
    struct lane *lane = choose_lane(lanes);
    if (lane == NULL) {
        wait_for_change(lanes);
        return IMV_OK;
    }
    lane->state = LANE_RUNNING;
    imv_status status = make_block(lane);
    lane->state = LANE_IDLE;
    return status;
}

imv_status imv_scan_lanes_next(struct imv_scan_lanes *lanes, const struct imv_scan_block **out) {
    imv_status status = IMV_OK;
    struct block *block = NULL;
    pthread_mutex_lock(&lanes->lock);
    take_back(lanes);
    while (status == IMV_OK && lanes->front < lanes->morsels_count) {
        block = take_front(lanes);
        call_helpers(lanes);
        if (block != NULL) break;
        status = step(lanes);
        if (status != IMV_OK) break;
        pthread_mutex_unlock(&lanes->lock);
        status = imv_exec_poll(lanes->exec);
        pthread_mutex_lock(&lanes->lock);
        if (status != IMV_OK) goto out;
    }
    lanes->given = block;
    if (status != IMV_OK)
        status = imv_exec_fail_memory(lanes->exec);
    else if (block != NULL && block->status != IMV_OK)
        status = imv_exec_fail_engine(lanes->exec, &block->err);
out:
    pthread_mutex_unlock(&lanes->lock);
    *out = block == NULL || status != IMV_OK ? NULL : &block->view;
    return status;
}
