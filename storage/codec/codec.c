#include "storage/codec/codec.h"

#include "storage/base/assert.h"

/* By id. Order of choice is `preference`. */
static const struct imv_codec *const codecs[IMV_CODECS_COUNT] = {
    [IMV_CODEC_RAW] = &imv_codec_raw, [IMV_CODEC_CONST] = &imv_codec_const, [IMV_CODEC_LINEAR] = &imv_codec_linear,
    [IMV_CODEC_FOR] = &imv_codec_for, [IMV_CODEC_DELTA] = &imv_codec_delta, [IMV_CODEC_DOD] = &imv_codec_dod,
    [IMV_CODEC_ALP] = &imv_codec_alp, [IMV_CODEC_RLE] = &imv_codec_rle,     [IMV_CODEC_DICT] = &imv_codec_dict,
};

/* Fastest to decode first, but ALP before FOR, which has a long search to make in bits that ALP does better. */
static const imv_codec_id preference[] = {
    IMV_CODEC_CONST, IMV_CODEC_LINEAR, IMV_CODEC_RAW, IMV_CODEC_ALP,  IMV_CODEC_FOR,
    IMV_CODEC_DELTA, IMV_CODEC_DOD,    IMV_CODEC_RLE, IMV_CODEC_DICT,
};

const struct imv_codec *imv_codec_of(unsigned id) { return id < IMV_CODECS_COUNT ? codecs[id] : NULL; }

const char *imv_codec_name(unsigned id) {
    if (id == IMV_CODEC_TEXT) return "TEXT";
    if (id == IMV_CODEC_TEXT_DICT) return "TEXT-DICT";
    const struct imv_codec *codec = imv_codec_of(id);
    return codec == NULL ? "unknown" : codec->name;
}

/* ---- the choice ---- */

enum { SAMPLES = 128, SAMPLED_COUNT_MIN = 2 * SAMPLES };

/* How far cells are from their mean, from the cell before, and differences from the one before: sums over a sample. */
struct roughness {
    uint64_t cells, deltas, dods;
};

/* Cut at 2^48, so that a sum cannot overflow. */
static int64_t clipped(uint64_t difference) {
    const int64_t most = INT64_C(1) << 48;
    int64_t value = (int64_t)difference;
    return value > most ? most : value < -most ? -most : value;
}

static uint64_t size_of(int64_t value) { return (uint64_t)(value < 0 ? -value : value); }

static struct roughness find_roughness(const uint64_t *cells, size_t count) {
    struct roughness found = {0};
    int64_t distances[SAMPLES], sum = 0;
    for (size_t k = 0; k < SAMPLES; k++) {
        size_t i = 2 + k * (count - 2) / SAMPLES;
        uint64_t delta = cells[i] - cells[i - 1];
        sum += distances[k] = clipped(cells[i] - cells[0]);
        found.deltas += size_of(clipped(delta));
        found.dods += size_of(clipped(delta - (cells[i - 1] - cells[i - 2])));
    }
    for (size_t k = 0; k < SAMPLES; k++) found.cells += size_of(distances[k] - sum / SAMPLES);
    return found;
}

/* Differencing takes out what is smooth and makes noise larger, by 1.4 each time. A codec whose numbers are clearly
 * larger than another's is not planned. */
static bool is_hopeless(imv_codec_id codec, const struct roughness *roughness) {
    switch (codec) {
        case IMV_CODEC_FOR: return roughness->cells / 3 > roughness->deltas;
        case IMV_CODEC_DELTA: return roughness->deltas > roughness->cells + roughness->cells / 4;
        case IMV_CODEC_DOD: return roughness->dods > roughness->deltas;
        default: return false;
    }
}

/* Few integers near each other, of which a flush of many series has millions: the choice is between the flat codecs by
 * their plain sizes, which takes a tenth of the time of the search. What the search finds besides makes chunks of 32
 * rows of walks 2% smaller, those of 64 rows 12% (bench/micro/bench_storage_chunk.c); consolidation, which has more
 * rows, makes it anyway. */
enum { FEW_COUNT_MAX = 32, FEW_WIDTH_MAX = 10 };

static void take_pack(struct imv_codec_plan *plan, imv_codec_id codec, const struct imv_pack_plan *pack, size_t bytes) {
    plan->codec = codec;
    plan->pack = *pack;
    plan->bytes = bytes;
}

/* False: these are for the search. */
static bool choose_few(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    const uint64_t *cells = input->cells;
    size_t count = input->count;
    if (count > FEW_COUNT_MAX || input->level > 0) return false; /* the inner ones stand for many rows */
    if (input->type != IMV_INTEGER && input->type != IMV_UINTEGER) return false;
    uint64_t deltas[FEW_COUNT_MAX], changes = 0, bends = 0;
    for (size_t i = 1; i < count; i++) {
        deltas[i - 1] = cells[i] - cells[i - 1];
        changes |= deltas[i - 1];
        bends |= deltas[i - 1] ^ deltas[0];
    }
    if (bends == 0 || changes == 0) {
        plan->codec = changes == 0 ? IMV_CODEC_CONST : IMV_CODEC_LINEAR;
        codecs[plan->codec]->plan(input, plan);
        return plan->bytes <= count * sizeof *cells;
    }
    struct imv_pack_plan values, steps;
    imv_pack_plan_plain(cells, count, input->type == IMV_UINTEGER, &values);
    imv_pack_plan_plain(deltas, count - 1, false, &steps);
    size_t steps_bytes = imv_varint_bytes(imv_zigzag((int64_t)cells[0])) + steps.bytes;
    if (values.bytes <= steps_bytes)
        take_pack(plan, IMV_CODEC_FOR, &values, values.bytes);
    else
        take_pack(plan, IMV_CODEC_DELTA, &steps, steps_bytes);
    return plan->pack.width <= FEW_WIDTH_MAX && plan->bytes < count * sizeof *cells;
}

void imv_codec_choose(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    imv_assert(input->count >= 1 && input->count <= IMV_PACK_COUNT_MAX);
    imv_assert(input->level < IMV_CODEC_LEVELS && input->type != IMV_STRING);
    if (choose_few(input, plan)) return;
    *plan = (struct imv_codec_plan){.bytes = SIZE_MAX};
    struct roughness roughness;
    bool is_sampled = input->count >= SAMPLED_COUNT_MIN && (input->type == IMV_INTEGER || input->type == IMV_UINTEGER);
    if (is_sampled) roughness = find_roughness(input->cells, input->count);
    for (size_t i = 0; i < sizeof preference / sizeof *preference; i++) {
        const struct imv_codec *codec = codecs[preference[i]];
        if ((codec->types >> input->type & 1) == 0 || input->level > codec->level_max) continue;
        if (is_sampled && is_hopeless(preference[i], &roughness)) continue;
        struct imv_codec_plan candidate = {.codec = preference[i], .bytes = plan->bytes};
        if (!codec->plan(input, &candidate) || candidate.bytes >= plan->bytes) continue;
        *plan = candidate;
        /* A handful of bytes: what is left to save is not worth the search, but when there is only a handful of
         * cells. */
        if ((plan->codec == IMV_CODEC_CONST || plan->codec == IMV_CODEC_LINEAR) && input->count > 4) return;
    }
    imv_assert(plan->bytes <= IMV_CODEC_BYTES_MAX);
}

uint8_t *imv_codec_encode(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    uint8_t *end = codecs[plan->codec]->encode(input, plan, to);
    imv_assert((size_t)(end - to) == plan->bytes);
    return end;
}

bool imv_codec_decode(unsigned id, const uint8_t *from, const uint8_t *end, unsigned level, size_t count,
                      uint64_t *cells) {
    imv_assert(count >= 1 && count <= IMV_PACK_COUNT_MAX);
    const struct imv_codec *codec = imv_codec_of(id);
    return codec != NULL && level <= codec->level_max && codec->decode(from, end, level, count, cells);
}

size_t imv_codec_inner_bytes(const struct imv_codec_input *input) {
    struct imv_codec_plan plan;
    imv_codec_choose(input, &plan);
    return 1 + plan.bytes;
}

uint8_t *imv_codec_inner_encode(const struct imv_codec_input *input, uint8_t *to) {
    struct imv_codec_plan plan;
    imv_codec_choose(input, &plan);
    *to = (uint8_t)plan.codec;
    return imv_codec_encode(input, &plan, to + 1);
}

bool imv_codec_inner_decode(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    return from < end && imv_codec_decode(*from, from + 1, end, level, count, cells);
}
