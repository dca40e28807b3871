/* kernels_avx2.c - the kernels with AVX2, four values at a time. No fused multiplication: it would round otherwise than
 * the scalar twins. */
#include "storage/codec/kernels_twin.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>

#define AVX2        __attribute__((target("avx2,bmi2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,bmi2")))

AVX2_INLINE __m256i load(const uint64_t *from) { return _mm256_loadu_si256((const __m256i *)(const void *)from); }
AVX2_INLINE void store(uint64_t *to, __m256i values) { _mm256_storeu_si256((__m256i *)(void *)to, values); }

/* ---- unpacking ---- */

enum { WINDOW_WIDTH_MAX = 57 }; /* a number and the bits before it in its byte fit 64 bits */

/* Bytes of the two windows of a half: 8 from where numbers j and j + 1 start, in 16 bytes from where j starts. */
#define WINDOW_BYTE(width, j, i) ((char)((i) < 8 ? (i) : ((j) + 1) * (width) / 8 - (j) * (width) / 8 + (i)-8))
#define WINDOW_HALF(width, j)                                                                                     \
    WINDOW_BYTE(width, j, 0), WINDOW_BYTE(width, j, 1), WINDOW_BYTE(width, j, 2), WINDOW_BYTE(width, j, 3),       \
        WINDOW_BYTE(width, j, 4), WINDOW_BYTE(width, j, 5), WINDOW_BYTE(width, j, 6), WINDOW_BYTE(width, j, 7),   \
        WINDOW_BYTE(width, j, 8), WINDOW_BYTE(width, j, 9), WINDOW_BYTE(width, j, 10), WINDOW_BYTE(width, j, 11), \
        WINDOW_BYTE(width, j, 12), WINDOW_BYTE(width, j, 13), WINDOW_BYTE(width, j, 14), WINDOW_BYTE(width, j, 15)

/* Numbers k .. k + 3 of a block: two loads of 16 bytes, the bytes of each number moved to its place, shifted. */
AVX2_INLINE __m256i take_four(const uint8_t *from, const unsigned width, const unsigned k, __m256i windows) {
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(from + k * width / 8));
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(from + (k + 2) * width / 8));
    __m256i bytes = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), windows);
    const __m256i shifts =
        _mm256_setr_epi64x(k * width % 8, (k + 1) * width % 8, (k + 2) * width % 8, (k + 3) * width % 8);
    return _mm256_srlv_epi64(bytes, shifts);
}

/* Up to 8 bits a number, all eight are in one word. */
AVX2_INLINE void unpack_narrow(const uint8_t *restrict from, size_t blocks, const unsigned width, __m256i base,
                               uint64_t *restrict out) {
    const __m256i mask = _mm256_set1_epi64x((1 << width) - 1);
    const __m256i low = _mm256_setr_epi64x(0, width, 2 * width, 3 * width);
    const __m256i high = _mm256_setr_epi64x(4 * width, 5 * width, 6 * width, 7 * width);
    for (size_t block = 0; block < blocks; block++, from += width, out += IMV_KERNEL_BLOCK_VALUES) {
        __m256i word = _mm256_set1_epi64x((int64_t)imv_get_u64(from));
        store(out, _mm256_add_epi64(base, _mm256_and_si256(_mm256_srlv_epi64(word, low), mask)));
        store(out + 4, _mm256_add_epi64(base, _mm256_and_si256(_mm256_srlv_epi64(word, high), mask)));
    }
}

AVX2_INLINE void unpack_wide(const uint8_t *restrict from, size_t blocks, const unsigned width, __m256i base,
                             __m256i windows_low, __m256i windows_high, uint64_t *restrict out) {
    const __m256i mask = _mm256_set1_epi64x((int64_t)((UINT64_C(1) << width) - 1));
    for (size_t block = 0; block < blocks; block++, from += width, out += IMV_KERNEL_BLOCK_VALUES) {
        __m256i low = take_four(from, width, 0, windows_low), high = take_four(from, width, 4, windows_high);
        store(out, _mm256_add_epi64(base, _mm256_and_si256(low, mask)));
        store(out + 4, _mm256_add_epi64(base, _mm256_and_si256(high, mask)));
    }
}

#define DEFINE(width)                                                                           \
    AVX2 static void unpack_##width(const uint8_t *restrict from, size_t blocks, uint64_t base, \
                                    uint64_t *restrict out) {                                   \
        if (width <= 8)                                                                         \
            unpack_narrow(from, blocks, width, _mm256_set1_epi64x((int64_t)base), out);         \
        else if (width <= WINDOW_WIDTH_MAX)                                                     \
            unpack_wide(from, blocks, width % 64, _mm256_set1_epi64x((int64_t)base),            \
                        _mm256_setr_epi8(WINDOW_HALF(width, 0), WINDOW_HALF(width, 2)),         \
                        _mm256_setr_epi8(WINDOW_HALF(width, 4), WINDOW_HALF(width, 6)), out);   \
        else                                                                                    \
            imv_twin_unpack(from, blocks, width, base, out);                                    \
    }
IMV_TWIN_WIDTHS(DEFINE)

#define ENTRY(width) unpack_##width,
static void (*const unpackers[])(const uint8_t *restrict, size_t, uint64_t,
                                 uint64_t *restrict) = {IMV_TWIN_WIDTHS(ENTRY)};
_Static_assert(sizeof unpackers / sizeof *unpackers == 65, "one for each width");

static void unpack(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base, uint64_t *restrict out) {
    unpackers[width](from, blocks, base, out);
}

/* ---- other loops of decoding and encoding ---- */

AVX2 static void add_digits(const uint8_t *restrict digits, size_t count, unsigned shift, uint64_t *restrict values) {
    const __m128i by = _mm_cvtsi32_si128((int)shift);
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        __m256i four = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int)imv_get_u32(digits + i)));
        store(values + i, _mm256_add_epi64(load(values + i), _mm256_sll_epi64(four, by)));
    }
    imv_twin_add_digits(digits + i, count - i, shift, values + i);
}

AVX2 static void scale(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow) {
    imv_twin_scale(values, count, base, step, is_narrow);
}

/* The sums of four are made apart from the chain, which is one addition a four. */
AVX2 static void prefix_sum(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out) {
    __m256i carry = _mm256_set1_epi64x((int64_t)first);
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        __m256i sums = load(deltas + i);
        sums = _mm256_add_epi64(sums, _mm256_slli_si256(sums, 8));
        __m256i two = _mm256_permute4x64_epi64(sums, _MM_SHUFFLE(1, 1, 1, 1));
        sums = _mm256_add_epi64(sums, _mm256_blend_epi32(_mm256_setzero_si256(), two, 0xf0));
        store(out + i, _mm256_add_epi64(sums, carry));
        carry = _mm256_add_epi64(carry, _mm256_permute4x64_epi64(sums, _MM_SHUFFLE(3, 3, 3, 3)));
    }
    first = (uint64_t)_mm256_extract_epi64(carry, 0);
    for (; i < count; i++) out[i] = first += deltas[i];
}

AVX2 static void add(uint64_t *restrict values, const uint64_t *restrict added, size_t count, uint64_t base) {
    imv_twin_add(values, added, count, base);
}

AVX2 static void decimal(uint64_t *values, size_t count, double factor, double inverse) {
    imv_twin_decimal(values, count, factor, inverse);
}

AVX2 static uint64_t to_decimal(const uint64_t *restrict cells, size_t count, double up, double down, double factor,
                                double inverse, uint64_t *restrict integers, uint64_t *restrict residuals) {
    return imv_twin_to_decimal(cells, count, up, down, factor, inverse, integers, residuals);
}

AVX2 static void differences(const uint64_t *restrict cells, size_t count, uint64_t *restrict deltas) {
    imv_twin_differences(cells, count, deltas);
}

/* ---- aggregates ---- */

AVX2 static void integers(const uint64_t *cells, size_t count, uint64_t flip, struct imv_kernel_integers *found) {
    imv_twin_integers(cells, count, flip, found);
}

/* TwoSum of four lanes. */
AVX2_INLINE void add_exactly(__m256d *high, __m256d *low, __m256d values) {
    __m256d total = _mm256_add_pd(*high, values), added = _mm256_sub_pd(total, *high);
    __m256d lost = _mm256_add_pd(_mm256_sub_pd(*high, _mm256_sub_pd(total, added)), _mm256_sub_pd(values, added));
    *low = _mm256_add_pd(*low, lost);
    *high = total;
}

struct floats {
    __m256d min, max, high[2], low[2];
    __m256i nans;
};

/* The operations of min and max give their second operand when the first is NaN. NaN is added as 0, which changes no
 * lane: none is ever -0. */
AVX2_INLINE void add_floats(struct floats *floats, int half, __m256d values) {
    __m256d there = _mm256_cmp_pd(values, values, _CMP_ORD_Q);
    floats->min = _mm256_min_pd(values, floats->min);
    floats->max = _mm256_max_pd(values, floats->max);
    floats->nans = _mm256_add_epi64(floats->nans, _mm256_castpd_si256(there));
    add_exactly(&floats->high[half], &floats->low[half], _mm256_and_pd(values, there));
}

AVX2 static void floats(const uint64_t *cells, size_t count, struct imv_kernel_floats *found) {
    const __m256d zero = _mm256_setzero_pd();
    struct floats floats = {.min = _mm256_set1_pd(INFINITY), .max = _mm256_set1_pd(-INFINITY)};
    floats.high[0] = floats.high[1] = floats.low[0] = floats.low[1] = zero;
    floats.nans = _mm256_setzero_si256();
    size_t i = 0, rest = count % IMV_KERNEL_SUM_LANES, behind = 0;
    for (; i < count - rest; i += IMV_KERNEL_SUM_LANES) {
        add_floats(&floats, 0, _mm256_castsi256_pd(load(cells + i)));
        add_floats(&floats, 1, _mm256_castsi256_pd(load(cells + i + 4)));
    }
    if (rest > 0) { /* the missing ones as NaN */
        uint64_t last[IMV_KERNEL_SUM_LANES];
        memset(last, 0xff, sizeof last);
        memcpy(last, cells + i, rest * sizeof *last);
        add_floats(&floats, 0, _mm256_castsi256_pd(load(last)));
        add_floats(&floats, 1, _mm256_castsi256_pd(load(last + 4)));
        behind = IMV_KERNEL_SUM_LANES - rest;
    }
    double min[4], max[4];
    int64_t there[4];
    _mm256_storeu_pd(min, floats.min);
    _mm256_storeu_pd(max, floats.max);
    store((uint64_t *)there, floats.nans);
    for (int half = 0; half < 2; half++) {
        _mm256_storeu_pd(found->high + 4 * half, floats.high[half]);
        _mm256_storeu_pd(found->low + 4 * half, floats.low[half]);
    }
    found->min = min[0];
    found->max = max[0];
    found->nan_count = count + behind;
    for (int lane = 0; lane < 4; lane++) {
        found->min = min[lane] < found->min ? min[lane] : found->min;
        found->max = max[lane] > found->max ? max[lane] : found->max;
        found->nan_count += (uint64_t)there[lane];
    }
    found->nan_count -= behind;
}

/* ---- comparisons ---- */

/* Whether less, equal or greater; negated for the other three. */
AVX2_INLINE uint64_t integers_word(const uint64_t *cells, __m256i flip, imv_kernel_comparison comparison,
                                   __m256i constant) {
    uint64_t word = 0;
    for (unsigned i = 0; i < 64; i += 4) {
        __m256i values = _mm256_xor_si256(load(cells + i), flip), mask;
        if (comparison == IMV_KERNEL_EQUAL || comparison == IMV_KERNEL_NOT_EQUAL)
            mask = _mm256_cmpeq_epi64(values, constant);
        else if (comparison == IMV_KERNEL_LESS || comparison == IMV_KERNEL_GREATER_EQUAL)
            mask = _mm256_cmpgt_epi64(constant, values);
        else
            mask = _mm256_cmpgt_epi64(values, constant);
        word |= (uint64_t)(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(mask)) << i;
    }
    bool is_negated = comparison == IMV_KERNEL_NOT_EQUAL || comparison == IMV_KERNEL_GREATER_EQUAL ||
                      comparison == IMV_KERNEL_LESS_EQUAL;
    return is_negated ? ~word : word;
}

AVX2_INLINE void compare_whole_words(const uint64_t *cells, size_t words, uint64_t flip,
                                     imv_kernel_comparison comparison, uint64_t constant, uint64_t *bits) {
    const __m256i flips = _mm256_set1_epi64x((int64_t)flip), bound = _mm256_set1_epi64x((int64_t)(constant ^ flip));
    for (size_t word = 0; word < words; word++) bits[word] = integers_word(cells + word * 64, flips, comparison, bound);
}

AVX2 static void compare_integers(const uint64_t *cells, size_t count, uint64_t flip, imv_kernel_comparison comparison,
                                  uint64_t constant, uint64_t *bits) {
    size_t words = count / 64, rest = count % 64;
#define CASE(one) \
    case one: compare_whole_words(cells, words, flip, one, constant, bits); break
    switch (comparison) {
        CASE(IMV_KERNEL_EQUAL);
        CASE(IMV_KERNEL_NOT_EQUAL);
        CASE(IMV_KERNEL_LESS);
        CASE(IMV_KERNEL_LESS_EQUAL);
        CASE(IMV_KERNEL_GREATER);
        CASE(IMV_KERNEL_GREATER_EQUAL);
    }
#undef CASE
    if (rest > 0)
        bits[words] = imv_twin_compare_word(cells + words * 64, rest, flip, comparison, (int64_t)(constant ^ flip));
}

#define COMPARE_FLOATS(name, predicate)                                                                        \
    AVX2 static void name(const uint64_t *cells, size_t words, double constant, uint64_t *bits) {              \
        const __m256d bound = _mm256_set1_pd(constant);                                                        \
        for (size_t word = 0; word < words; word++) {                                                          \
            uint64_t found = 0;                                                                                \
            for (unsigned i = 0; i < 64; i += 4) {                                                             \
                __m256d values = _mm256_castsi256_pd(load(cells + word * 64 + i));                             \
                found |= (uint64_t)(unsigned)_mm256_movemask_pd(_mm256_cmp_pd(values, bound, predicate)) << i; \
            }                                                                                                  \
            bits[word] = found;                                                                                \
        }                                                                                                      \
    }
COMPARE_FLOATS(floats_equal, _CMP_EQ_OQ)
COMPARE_FLOATS(floats_not_equal, _CMP_NEQ_UQ)
COMPARE_FLOATS(floats_less, _CMP_LT_OQ)
COMPARE_FLOATS(floats_less_equal, _CMP_LE_OQ)
COMPARE_FLOATS(floats_greater, _CMP_GT_OQ)
COMPARE_FLOATS(floats_greater_equal, _CMP_GE_OQ)

static void compare_floats(const uint64_t *cells, size_t count, imv_kernel_comparison comparison, double constant,
                           uint64_t *bits) {
    static void (*const by_comparison[])(const uint64_t *, size_t, double, uint64_t *) = {
        [IMV_KERNEL_EQUAL] = floats_equal,     [IMV_KERNEL_NOT_EQUAL] = floats_not_equal,
        [IMV_KERNEL_LESS] = floats_less,       [IMV_KERNEL_LESS_EQUAL] = floats_less_equal,
        [IMV_KERNEL_GREATER] = floats_greater, [IMV_KERNEL_GREATER_EQUAL] = floats_greater_equal,
    };
    size_t words = count / 64, rest = count % 64;
    by_comparison[comparison](cells, words, constant, bits);
    if (rest > 0) bits[words] = imv_twin_compare_float_word(cells + words * 64, rest, comparison, constant);
}

static const struct imv_kernels avx2 = {
    .name = "avx2",
    .unpack = unpack,
    .add_digits = add_digits,
    .scale = scale,
    .prefix_sum = prefix_sum,
    .add = add,
    .decimal = decimal,
    .to_decimal = to_decimal,
    .differences = differences,
    .integers = integers,
    .floats = floats,
    .compare_integers = compare_integers,
    .compare_floats = compare_floats,
};

const struct imv_kernels *imv_kernels_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") ? &avx2 : NULL;
}

#else

const struct imv_kernels *imv_kernels_avx2(void) { return NULL; }

#endif
