/* bench_ingest_line - what it costs to read line protocol, without sockets, journal or heads.
 *
 *     bench_ingest_line [file of lines]
 *
 * Three kinds of lines: TSBS's cpu measurement (345 bytes, ten tags, ten integers), machines (270 bytes, twelve fields
 * of all kinds, two with 17 digits) and SCADA points (60 bytes, a float and an integer, 100,000 series); or those of a
 * file. For each: finding the lines alone; finding and parsing them with known series and shape; the whole feed into
 * the writer, a consumer on the same thread freeing its batches; and the grammar of line.h alone, which other lines
 * take.
 *
 * Estimate for TSBS lines: bitmaps 6 blocks x 8 cycles, a walk of 10 words, ten fields of 25 cycles, a timestamp: 400
 * cycles or 130 ns, 2.6 GB/s. The feed adds the hash of 216 bytes and the row: 200 ns.
 */
#include "engine/exchange.h"
#include "ingest/feed.h"
#include "ingest/line_known.h"
#include "ingest/line_spans.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/clock.h"
#include "storage/base/prng.h"
#include "storage/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEXT_BYTES = 48 << 20, PIECE_BYTES = 256 * 1024, ROUNDS = 5 };

/* CPU time of the thread: the figures hold on a busy machine too. */
static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- lines ---- */

static void add_tsbs(struct imv_buffer *text, struct imv_prng *prng, uint32_t i) {
    static const char *const names[] = {"usage_user",   "usage_system",    "usage_idle",    "usage_nice",
                                        "usage_iowait", "usage_irq",       "usage_softirq", "usage_steal",
                                        "usage_guest",  "usage_guest_nice"};
    uint32_t host = i % 4000;
    imv_buffer_append_format(text,
                             "cpu,hostname=host_%u,region=ap-southeast-%u,datacenter=ap-southeast-%ub,rack=%u,os=Ubuntu"
                             "16.04LTS,arch=x64,team=NYC,service=%u,service_version=1,service_environment=production ",
                             host, host % 3, host % 3, host % 100, host % 20);
    for (int f = 0; f < 10; f++) {
        imv_buffer_append_format(text, "%s%s=%ui", f > 0 ? "," : "", names[f], (unsigned)imv_prng_below(prng, 101));
    }
    imv_buffer_append_format(text, " %lld\n", 1451606400000000000LL + i / 4000 * 10000000000LL);
}

static void add_machine(struct imv_buffer *text, struct imv_prng *prng, uint32_t i) {
    uint32_t machine = i % 1000;
    double unit = imv_prng_unit(prng);
    imv_buffer_append_format(
        text,
        "machine,machine=m_%u,site=site_%u,line=line_%u,model=mk%u,vendor=initech temp_bearing=%.1f,temp_motor=%.2f,"
        "vib_rms=%.17g,vib_peak=%.17g,power_kw=%.2f,setpoint=%.1f,cycles=%ui,energy_wh=%ui,running=%s,status=%ui,"
        "lat=%.6f,lon=%.6f %lld\n",
        machine, machine / 100, machine % 10, machine % 6, 30 + unit, 32 + unit, 1 + unit, 1.5 + unit, 16 + unit * 40,
        41.1, 500000 + i, 42000000 + i, unit > 0.1 ? "true" : "false", i % 8, 47 + unit, 8 + unit,
        1451606400000000000LL + i / 1000 * 10000000000LL);
}

static void add_scada(struct imv_buffer *text, struct imv_prng *prng, uint32_t i) {
    imv_buffer_append_format(text, "tag,id=t%05u value=%.1f,quality=192i %lld\n", i % 100000,
                             imv_prng_unit(prng) * 1000, 1767225600000000000LL + i / 100000 * 1000000000LL);
}

/* ---- the ways of reading ---- */

struct bench {
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_writer *writer;
    struct imv_feed feed;
};

static void drain(struct bench *bench) {
    imv_writer_send(bench->writer);
    struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
    for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL;) imv_batch_free(batch);
}

/* Makes all series and shapes, and the series visible, as if their rows were durable. */
static void make_visible(struct bench *bench, struct imv_str text) {
    for (size_t from = 0, taken = 1; from < text.size && taken > 0; from += taken) {
        size_t size = text.size - from < PIECE_BYTES ? text.size - from : PIECE_BYTES;
        taken = imv_feed_take(&bench->feed, text.data + from, size, false);
        imv_writer_send(bench->writer);
        struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
        for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL; imv_batch_free(batch)) {
            for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
                atomic_store(&row->series->visible_at, IMV_SEQUENCE_LOADED);
            }
        }
    }
}

static uint64_t read_spans(struct bench *bench, struct imv_str text) {
    (void)bench;
    uint64_t lines = 0;
    for (size_t from = 0; from < text.size;) {
        struct imv_line_spans spans;
        struct imv_line_span found[IMV_WRITER_FIND_MAX];
        size_t size = text.size - from < PIECE_BYTES ? text.size - from : PIECE_BYTES, at = 0, count;
        imv_line_spans_init(&spans, text.data + from, size);
        while ((count = imv_line_spans_find(&spans, at, found, IMV_WRITER_FIND_MAX)) > 0) {
            at = found[count - 1].end + 1;
            lines += count;
        }
        from += at;
        if (at == 0) break;
    }
    return lines;
}

/* The series is that of the first line, in all of them: what is measured is the parser. */
static uint64_t read_known(struct bench *bench, struct imv_str text) {
    uint64_t lines = 0;
    struct imv_label *label = imv_catalog_label_by_id(bench->catalog, 0);
    const struct imv_shape *const *shapes = imv_writer_shapes(bench->writer, label);
    static _Alignas(8) char memory[64 * 1024];
    for (size_t from = 0; from + IMV_LINE_SIMPLE_BYTES_MAX < text.size;) {
        struct imv_line_spans spans;
        struct imv_line_span found[IMV_WRITER_FIND_MAX];
        size_t size = text.size - from < PIECE_BYTES ? text.size - from : PIECE_BYTES, at = 0, count;
        imv_line_spans_init(&spans, text.data + from, size - IMV_LINE_PADDING);
        while ((count = imv_line_spans_find(&spans, at, found, IMV_WRITER_FIND_MAX)) > 0) {
            for (size_t i = 0; i < count; i++) {
                struct imv_line_known known;
                bool parsed =
                    imv_line_known_parse(spans.text + found[i].key_end + 1, spans.text + found[i].end, shapes,
                                         IMV_WRITER_SHAPES, 1, (struct imv_row *)(void *)memory, sizeof memory, &known);
                lines += parsed;
            }
            at = found[count - 1].end + 1;
        }
        from += at;
        if (at == 0) break;
    }
    return lines;
}

static uint64_t read_feed(struct bench *bench, struct imv_str text) {
    uint64_t before = bench->feed.rows;
    for (size_t from = 0; from < text.size;) {
        size_t size = text.size - from < PIECE_BYTES ? text.size - from : PIECE_BYTES;
        size_t taken = imv_feed_take(&bench->feed, text.data + from, size, false);
        drain(bench);
        if (taken == 0) break;
        from += taken;
    }
    return bench->feed.rows - before;
}

static uint64_t read_grammar(struct bench *bench, struct imv_str text) {
    (void)bench;
    uint64_t lines = 0;
    static char memory[IMV_LINE_BYTES_MAX];
    for (size_t from = 0; from < text.size;) {
        struct imv_line_scan scan = {0};
        struct imv_line line;
        enum imv_line_kind kind;
        ptrdiff_t size = imv_line_find_end(text.data + from, text.size - from, &scan);
        if (size < 0) break;
        struct imv_line_scratch scratch = {memory, memory + sizeof memory};
        bool done = false, present;
        int64_t timestamp;
        struct imv_line_field field;
        if (imv_line_split(text.data + from, (size_t)size, &kind, &line, NULL) != IMV_OK) break;
        const char *at = line.fields;
        while (!done && imv_line_field(&line, &at, &scratch, &field, &done, NULL) == IMV_OK) continue;
        lines += imv_line_timestamp(&line, at, IMV_PRECISION_NS, &timestamp, &present, NULL) == IMV_OK;
        from += (size_t)size + 1;
    }
    return lines;
}

static void measure(struct bench *bench, const char *name, struct imv_str text) {
    static const struct {
        const char *name;
        uint64_t (*read)(struct bench *bench, struct imv_str text);
    } ways[] = {{"feed", read_feed}, {"spans", read_spans}, {"spans + known", read_known}, {"grammar", read_grammar}};
    make_visible(bench, text);
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        int64_t best = INT64_MAX;
        uint64_t lines = 0;
        for (int round = 0; round < ROUNDS; round++) {
            int64_t start = now_ns();
            lines = ways[way].read(bench, text);
            int64_t took = now_ns() - start;
            if (took < best) best = took;
        }
        printf("%-10s %-14s %6.1f ns/line  %6.2f M lines/s  %5.2f GB/s  (%.0f bytes/line)\n", name, ways[way].name,
               (double)best / (double)lines, (double)lines / (double)best * 1e3, (double)text.size / (double)best,
               (double)text.size / (double)lines);
    }
}

static void run(const char *name, struct imv_str text) {
    char directory[] = "/tmp/bench_ingest_line.XXXXXX", command[64];
    struct imv_kv *kv;
    struct bench bench;
    struct imv_error err = {0};
    if (mkdtemp(directory) == NULL) exit(1);
    imv_status status = imv_kv_open(directory, &kv, &err);
    if (status == IMV_OK) status = imv_catalog_open(kv, 1, &bench.catalog, &err);
    if (status == IMV_OK) status = imv_exchange_init(&bench.exchange, 1, NULL, NULL, &err);
    if (status == IMV_OK) status = imv_writer_new_for(bench.catalog, &bench.exchange, NULL, 0, &bench.writer, &err);
    if (status != IMV_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    imv_feed_init(&bench.feed, bench.writer, imv_clock_system(), IMV_PRECISION_NS);
    measure(&bench, name, text);
    imv_writer_free(bench.writer);
    imv_exchange_release(&bench.exchange);
    imv_catalog_close(bench.catalog);
    imv_kv_close(kv);
    snprintf(command, sizeof command, "rm -r %s", directory);
    if (system(command) != 0) exit(1);
}

static void run_made(const char *name, void (*add)(struct imv_buffer *, struct imv_prng *, uint32_t)) {
    struct imv_buffer text;
    struct imv_prng prng;
    imv_buffer_init(&text, TEXT_BYTES + 4096);
    imv_prng_init(&prng, 1);
    for (uint32_t i = 0; text.size < TEXT_BYTES; i++) add(&text, &prng, i);
    run(name, imv_buffer_view(&text));
    imv_buffer_release(&text);
}

static void run_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    char *text = malloc(TEXT_BYTES);
    size_t size = text == NULL ? 0 : fread(text, 1, TEXT_BYTES, file);
    fclose(file);
    run("file", (struct imv_str){text, size});
    free(text);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        run_file(argv[1]);
        return 0;
    }
    run_made("tsbs", add_tsbs);
    run_made("machines", add_machine);
    run_made("scada", add_scada);
    return 0;
}
