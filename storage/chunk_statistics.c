#include "storage/chunk_statistics.h"

#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

__extension__ typedef unsigned __int128 uint128;

enum flag {
    NULLS = 1,
    NANS = 2,
    SAME = 4,
    DECIMAL = 8,
    SCALED = 16, /* without DECIMAL */
    OFF = 16,    /* with DECIMAL */
    ALL_FLAGS = 31,
    DIGITS_SHIFT = 5, /* in the three bits above the flags: digits, or 7 and a byte with them behind the counts */
    DIGITS_FOLLOW = 7,
};

/* ---- gathering ---- */

static void gather_integers(const uint64_t *cells, size_t count, bool is_unsigned,
                            struct imv_chunk_statistics *statistics) {
    uint64_t flip = is_unsigned ? UINT64_C(1) << 63 : 0;
    struct imv_kernel_integers found;
    imv_kernel_aggregate_integers(cells, count, flip, &found);
    statistics->min = (uint64_t)found.min ^ flip;
    statistics->max = (uint64_t)found.max ^ flip;
    statistics->sum_integer = (imv_int128)found.low_halves + ((imv_int128)found.high_halves << 32);
    if (!is_unsigned) statistics->sum_integer -= (imv_int128)found.negative << 64;
}

static bool has_cell(const uint64_t *cells, size_t count, double value) {
    for (size_t i = 0; i < count; i++)
        if (cells[i] == imv_float_cell(value)) return true;
    return false;
}

/* The lanes of the kernel, merged; or, when one left the finite numbers, the values one by one. */
static struct imv_sum sum_of(const uint64_t *cells, size_t count, const struct imv_kernel_floats *found) {
    struct imv_sum sum = {0};
    bool is_finite = true;
    for (int lane = 0; lane < IMV_KERNEL_SUM_LANES; lane++)
        is_finite &= isfinite(found->high[lane]) && isfinite(found->low[lane]);
    for (int lane = 0; lane < IMV_KERNEL_SUM_LANES && is_finite; lane++)
        imv_sum_add_parts(&sum, found->high[lane], found->low[lane]);
    if (is_finite && !sum.is_scaled) return sum;
    sum = (struct imv_sum){0};
    for (size_t i = 0; i < count; i++)
        if (!isnan(imv_cell_float(cells[i]))) imv_sum_add(&sum, imv_cell_float(cells[i]));
    return sum;
}

static void gather_floats(const uint64_t *cells, size_t count, struct imv_chunk_statistics *statistics) {
    struct imv_kernel_floats found;
    imv_kernel_aggregate_floats(cells, count, &found);
    statistics->nan_count = (uint32_t)found.nan_count;
    statistics->sum_float = sum_of(cells, count, &found);
    if (found.nan_count == count) return;
    if (found.min == 0) found.min = has_cell(cells, count, -0.0) ? -0.0 : 0.0;
    if (found.max == 0) found.max = has_cell(cells, count, 0.0) ? 0.0 : -0.0;
    statistics->min = imv_float_cell(found.min);
    statistics->max = imv_float_cell(found.max);
}

void imv_chunk_statistics_gather(imv_type type, const uint64_t *cells, size_t count,
                                 struct imv_chunk_statistics *statistics) {
    *statistics = (struct imv_chunk_statistics){.count = (uint32_t)count};
    if (count == 0 || type == IMV_STRING) return;
    statistics->first = cells[0];
    statistics->last = cells[count - 1];
    if (type == IMV_FLOAT)
        gather_floats(cells, count, statistics);
    else
        gather_integers(cells, count, type == IMV_UINTEGER, statistics);
}

static imv_int128 integer_of(imv_type type, uint64_t cell) {
    return type == IMV_UINTEGER ? (imv_int128)cell : (imv_int128)(int64_t)cell;
}

/* A product of a double and a small number is a pair that is exact, but where it leaves the range: then it is a sum. */
static void add_repeated(struct imv_sum *sum, double value, uint64_t times) {
    struct imv_sum product = {.high = value * (double)times};
    product.low = fma(value, (double)times, -product.high);
    if (isfinite(product.high))
        imv_sum_merge(sum, &product);
    else
        for (uint64_t i = 0; i < times; i++) imv_sum_add(sum, value);
}

/* Minimum, maximum and ends do not depend on how often a value is there. */
void imv_chunk_statistics_of_runs(imv_type type, const uint64_t *values, const uint64_t *lengths, size_t runs,
                                  struct imv_chunk_statistics *statistics) {
    imv_chunk_statistics_gather(type, values, runs, statistics);
    statistics->count = statistics->nan_count = 0;
    statistics->sum_float = (struct imv_sum){0};
    statistics->sum_integer = 0;
    for (size_t run = 0; run < runs; run++) {
        statistics->count += (uint32_t)lengths[run];
        if (type != IMV_FLOAT)
            statistics->sum_integer += integer_of(type, values[run]) * (imv_int128)lengths[run];
        else if (isnan(imv_cell_float(values[run])))
            statistics->nan_count += (uint32_t)lengths[run];
        else
            add_repeated(&statistics->sum_float, imv_cell_float(values[run]), lengths[run]);
    }
}

bool imv_chunk_statistics_of_line(imv_type type, uint64_t first, uint64_t step, size_t count,
                                  struct imv_chunk_statistics *statistics) {
    imv_int128 start = integer_of(type, first), by = (imv_int128)(int64_t)step;
    imv_int128 end = start + by * (imv_int128)(count - 1);
    imv_int128 least = type == IMV_UINTEGER ? 0 : (imv_int128)INT64_MIN;
    imv_int128 most = type == IMV_UINTEGER ? (imv_int128)UINT64_MAX : (imv_int128)INT64_MAX;
    if (end < least || end > most) return false;
    uint64_t last = (uint64_t)end;
    *statistics = (struct imv_chunk_statistics){.count = (uint32_t)count, .first = first, .last = last};
    statistics->min = by < 0 ? last : first;
    statistics->max = by < 0 ? first : last;
    statistics->sum_integer = (start + end) * (imv_int128)count / 2; /* one of the factors is even */
    return true;
}

/* ---- merging ---- */

/* A cell as an integer that is in the order of values; of floats -0 is before 0. */
static uint64_t rank_of(imv_type type, uint64_t cell) {
    if (type == IMV_UINTEGER) return cell;
    return type == IMV_FLOAT && cell >> 63 ? ~cell : cell ^ UINT64_C(1) << 63;
}

void imv_chunk_statistics_merge(imv_type type, struct imv_chunk_statistics *statistics,
                                const struct imv_chunk_statistics *more) {
    if (statistics->count == 0 || more->count == 0 || type == IMV_STRING) {
        uint32_t count = statistics->count + more->count;
        if (statistics->count == 0) *statistics = *more;
        statistics->count = count;
        return;
    }
    bool is_range = statistics->nan_count < statistics->count, is_more = more->nan_count < more->count;
    if (is_more && (!is_range || rank_of(type, more->min) < rank_of(type, statistics->min)))
        statistics->min = more->min;
    if (is_more && (!is_range || rank_of(type, more->max) > rank_of(type, statistics->max)))
        statistics->max = more->max;
    statistics->count += more->count;
    statistics->nan_count += more->nan_count;
    statistics->last = more->last;
    imv_sum_merge(&statistics->sum_float, &more->sum_float);
    statistics->sum_integer += more->sum_integer;
}

/* ---- numbers ---- */

static uint8_t *put_zigzag(uint8_t *to, int64_t number) { return imv_put_varint(to, imv_zigzag(number)); }

static const uint8_t *get_zigzag(const uint8_t *from, const uint8_t *end, int64_t *number) {
    uint64_t zigzag = 0;
    from = imv_get_varint(from, end, &zigzag);
    *number = imv_unzigzag(zigzag);
    return from;
}

static uint8_t *put_sum(uint8_t *to, uint128 sum) {
    for (; sum >= 0x80; sum >>= 7) *to++ = (uint8_t)sum | 0x80;
    *to++ = (uint8_t)sum;
    return to;
}

static const uint8_t *get_sum(const uint8_t *from, const uint8_t *end, uint128 *sum) {
    *sum = 0;
    for (unsigned shift = 0; shift < 128 && from < end; shift += 7) {
        uint8_t byte = *from++;
        *sum |= (uint128)(byte & 0x7f) << shift;
        if (byte < 0x80) return from;
    }
    return NULL;
}

/* The power of two of the last bit of a double: -1074 and up. */
static int last_bit(double value) {
    int exponent = (int)(imv_float_cell(value) >> 52 & 0x7ff);
    return (exponent == 0 ? 1 : exponent) - 1075;
}

/* low is finite. */
static uint8_t *put_low(uint8_t *to, double low, double high) {
    if (low == 0) return put_zigzag(to, 0);
    uint64_t bits = imv_float_cell(low), mantissa = bits & ((UINT64_C(1) << 52) - 1);
    if ((bits >> 52 & 0x7ff) != 0) mantissa |= UINT64_C(1) << 52;
    int zeros = __builtin_ctzll(mantissa);
    int64_t odd = (int64_t)(mantissa >> zeros);
    to = put_zigzag(to, low < 0 ? -odd : odd);
    return put_zigzag(to, last_bit(low) + zeros - last_bit(high));
}

static const uint8_t *get_low(const uint8_t *from, const uint8_t *end, double high, double *low) {
    int64_t odd, power;
    *low = 0;
    from = get_zigzag(from, end, &odd);
    if (from == NULL || odd == 0) return from;
    from = get_zigzag(from, end, &power);
    if (from == NULL || odd > INT64_C(1) << 53 || odd < -(INT64_C(1) << 53) || power < -4096 || power > 4096)
        return NULL;
    *low = ldexp((double)odd, (int)power + last_bit(high));
    return isfinite(*low) ? from : NULL;
}

/* ---- decimals ---- */

static const double decimal_power[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
enum { DIGITS_MAX = sizeof decimal_power / sizeof *decimal_power - 1 };

/* The four cells as integers over 10^digits. A correctly rounded quotient of exact operands gives back every
 * decimal. */
static bool as_decimals(const uint64_t cells[4], unsigned digits, int64_t integers[4]) {
    for (int i = 0; i < 4; i++) {
        double scaled = imv_cell_float(cells[i]) * decimal_power[digits];
        if (!(fabs(scaled) < 0x1p52)) return false;
        integers[i] = (int64_t)nearbyint(scaled); /* -0 becomes 0 and is refused below */
        if (imv_float_cell((double)integers[i] / decimal_power[digits]) != cells[i]) return false;
    }
    return true;
}

static double decimal_of(int64_t integer, unsigned digits) { return (double)integer / decimal_power[digits]; }

static uint8_t *put_decimal_sum(uint8_t *to, double sum, int64_t least, unsigned digits, uint8_t *flags) {
    double scaled = nearbyint(sum * decimal_power[digits]);
    int64_t integer = fabs(scaled) < 0x1p62 ? (int64_t)scaled : 0;
    to = put_zigzag(to, integer - least); /* both below 2^62 */
    uint64_t off = imv_float_cell(sum) - imv_float_cell(decimal_of(integer, digits));
    if (off == 0) return to;
    *flags |= OFF;
    return put_zigzag(to, (int64_t)off);
}

static const uint8_t *get_decimal_sum(const uint8_t *from, const uint8_t *end, double *sum, int64_t least,
                                      unsigned digits, unsigned flags) {
    int64_t above, off = 0;
    from = get_zigzag(from, end, &above);
    if (from == NULL) return NULL;
    if (flags & OFF) from = get_zigzag(from, end, &off);
    int64_t integer = (int64_t)((uint64_t)above + (uint64_t)least);
    *sum = imv_cell_float(imv_float_cell(decimal_of(integer, digits)) + (uint64_t)off);
    return from;
}

/* ---- writing ---- */

static uint8_t *put_range(uint8_t *to, const uint64_t cells[4], bool same) {
    to = put_zigzag(to, (int64_t)cells[0]);
    for (int i = 1; i < 4 && !same; i++) to = imv_put_varint(to, cells[i] - cells[0]);
    return to;
}

static uint8_t *put_floats(uint8_t *to, const struct imv_chunk_statistics *statistics, uint8_t *flags) {
    const uint64_t cells[4] = {statistics->min, statistics->max, statistics->first, statistics->last};
    const struct imv_sum *sum = &statistics->sum_float;
    int64_t integers[4];
    unsigned digits = 0;
    bool all_nan = statistics->nan_count == statistics->count;
    while (digits <= DIGITS_MAX && !as_decimals(cells, digits, integers)) digits++;
    if (!all_nan && digits <= DIGITS_MAX) {
        *flags = (uint8_t)(*flags | DECIMAL | (digits < DIGITS_FOLLOW ? digits : DIGITS_FOLLOW) << DIGITS_SHIFT);
        if (digits >= DIGITS_FOLLOW) *to++ = (uint8_t)digits;
        to = put_range(to, (uint64_t *)integers, *flags & SAME);
        to = put_decimal_sum(to, sum->high, integers[0] * statistics->count, digits, flags);
    } else {
        const uint64_t order[4] = {statistics->first, statistics->last, statistics->min, statistics->max};
        if (sum->is_scaled) *flags |= SCALED;
        for (int i = 0; i < (*flags & SAME ? 1 : all_nan ? 2 : 4); i++, to += 8) imv_put_u64(to, order[i]);
        imv_put_u64(to, imv_float_cell(sum->high));
        to += 8;
    }
    return put_low(to, sum->low, sum->high);
}

static uint8_t *put_integers(uint8_t *to, imv_type type, const struct imv_chunk_statistics *statistics, bool same) {
    const uint64_t cells[4] = {statistics->min, statistics->max, statistics->first, statistics->last};
    to = put_range(to, cells, same);
    if (same) return to;
    return put_sum(
        to, (uint128)(statistics->sum_integer - integer_of(type, statistics->min) * (imv_int128)statistics->count));
}

static bool is_same(const struct imv_chunk_statistics *statistics) {
    bool all_nan = statistics->nan_count == statistics->count;
    return statistics->first == statistics->last &&
           (all_nan || (statistics->min == statistics->first && statistics->max == statistics->first));
}

uint8_t *imv_chunk_statistics_put(uint8_t *to, imv_type type, const struct imv_chunk_statistics *statistics,
                                  uint32_t rows) {
    uint8_t *flags = to++;
    *flags = statistics->count < rows ? NULLS : 0;
    if (statistics->count < rows) to = imv_put_varint(to, rows - statistics->count);
    if (statistics->count == 0 || type == IMV_STRING) return to;
    if (is_same(statistics)) *flags |= SAME;
    if (statistics->nan_count > 0) {
        *flags |= NANS;
        to = imv_put_varint(to, statistics->nan_count);
    }
    return type == IMV_FLOAT ? put_floats(to, statistics, flags) : put_integers(to, type, statistics, *flags & SAME);
}

/* ---- reading ---- */

/* cells: min, max, first, last. */
static const uint8_t *get_range(const uint8_t *from, const uint8_t *end, uint64_t cells[4], bool same) {
    uint64_t number;
    from = imv_get_varint(from, end, &number);
    if (from == NULL) return NULL;
    cells[0] = cells[1] = cells[2] = cells[3] = (uint64_t)imv_unzigzag(number);
    for (int i = 1; i < 4 && !same; i++) {
        from = imv_get_varint(from, end, &number);
        if (from == NULL) return NULL;
        cells[i] += number;
    }
    return from;
}

static void set_range(struct imv_chunk_statistics *statistics, const uint64_t cells[4]) {
    statistics->min = cells[0];
    statistics->max = cells[1];
    statistics->first = cells[2];
    statistics->last = cells[3];
}

static const uint8_t *get_decimals(const uint8_t *from, const uint8_t *end, unsigned flags,
                                   struct imv_chunk_statistics *statistics) {
    uint64_t cells[4];
    unsigned digits = flags >> DIGITS_SHIFT;
    if (digits == DIGITS_FOLLOW) {
        if (from == end || *from > DIGITS_MAX) return NULL;
        digits = *from++;
    }
    from = get_range(from, end, cells, flags & SAME);
    if (from == NULL) return NULL;
    int64_t least = (int64_t)(cells[0] * statistics->count);
    for (int i = 0; i < 4; i++) cells[i] = imv_float_cell(decimal_of((int64_t)cells[i], digits));
    set_range(statistics, cells);
    return get_decimal_sum(from, end, &statistics->sum_float.high, least, digits, flags);
}

static const uint8_t *get_plain_floats(const uint8_t *from, const uint8_t *end, unsigned flags,
                                       struct imv_chunk_statistics *statistics) {
    bool all_nan = statistics->nan_count == statistics->count;
    uint64_t order[4] = {0};
    int stored = flags & SAME ? 1 : all_nan ? 2 : 4;
    if (end - from < 8 * (stored + 1)) return NULL;
    for (int i = 0; i < stored; i++, from += 8) order[i] = imv_get_u64(from);
    if (flags & SAME) order[1] = order[2] = order[3] = order[0];
    set_range(statistics, (uint64_t[]){all_nan ? 0 : order[2], all_nan ? 0 : order[3], order[0], order[1]});
    statistics->sum_float.high = imv_cell_float(imv_get_u64(from));
    return from + 8;
}

static const uint8_t *get_floats(const uint8_t *from, const uint8_t *end, unsigned flags,
                                 struct imv_chunk_statistics *statistics) {
    struct imv_sum *sum = &statistics->sum_float;
    from =
        flags & DECIMAL ? get_decimals(from, end, flags, statistics) : get_plain_floats(from, end, flags, statistics);
    sum->is_scaled = (flags & (DECIMAL | SCALED)) == SCALED;
    return from == NULL ? NULL : get_low(from, end, sum->high, &sum->low);
}

static const uint8_t *get_integers(const uint8_t *from, const uint8_t *end, unsigned flags, imv_type type,
                                   struct imv_chunk_statistics *statistics) {
    uint64_t cells[4];
    from = get_range(from, end, cells, flags & SAME);
    if (from == NULL) return NULL;
    set_range(statistics, cells);
    uint128 above = 0;
    if ((flags & SAME) == 0) from = get_sum(from, end, &above);
    statistics->sum_integer =
        (imv_int128)((uint128)(integer_of(type, cells[0]) * (imv_int128)statistics->count) + above);
    return from;
}

/* Reads flags and counts. Returns where the rest starts. */
static const uint8_t *get_counts(const uint8_t *from, const uint8_t *end, uint32_t rows, unsigned *flags,
                                 uint32_t *count) {
    uint64_t nulls = 0;
    if (from == end) return NULL;
    *flags = *from++;
    if (*flags > ALL_FLAGS && (*flags & DECIMAL) == 0) return NULL;
    if (*flags & NULLS) {
        from = imv_get_varint(from, end, &nulls);
        if (from == NULL || nulls == 0 || nulls > rows) return NULL;
    }
    *count = rows - (uint32_t)nulls;
    return from;
}

bool imv_chunk_statistics_parse(const uint8_t *from, const uint8_t *end, imv_type type, uint32_t rows,
                                struct imv_chunk_statistics *statistics) {
    unsigned flags;
    uint64_t nan_count = 0;
    *statistics = (struct imv_chunk_statistics){0};
    from = get_counts(from, end, rows, &flags, &statistics->count);
    if (from == NULL) return false;
    if (statistics->count == 0 || type == IMV_STRING) return from == end && (flags & ~(unsigned)NULLS) == 0;
    if (flags & NANS) from = imv_get_varint(from, end, &nan_count);
    if (from == NULL || nan_count > statistics->count) return false;
    statistics->nan_count = (uint32_t)nan_count;
    if (type == IMV_FLOAT)
        from = get_floats(from, end, flags, statistics);
    else
        from = flags & (NANS | DECIMAL | SCALED) ? NULL : get_integers(from, end, flags, type, statistics);
    return from == end;
}

static bool same_bits(double a, double b) { return imv_float_cell(a) == imv_float_cell(b); }

bool imv_chunk_statistics_equal(imv_type type, const struct imv_chunk_statistics *a,
                                const struct imv_chunk_statistics *b) {
    bool counts = a->count == b->count && a->nan_count == b->nan_count;
    if (type == IMV_STRING) return counts;
    return counts && a->min == b->min && a->max == b->max && a->first == b->first && a->last == b->last &&
           a->sum_integer == b->sum_integer && a->sum_float.is_scaled == b->sum_float.is_scaled &&
           same_bits(a->sum_float.high, b->sum_float.high) && same_bits(a->sum_float.low, b->sum_float.low);
}
