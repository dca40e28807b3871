#include "storage/base/utf8.h"

/* Length of the valid sequence at `at`, 0 when there is none. */
static size_t sequence_size(const unsigned char *at, size_t left) {
    unsigned char lead = at[0];
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (left < size) return 0;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
    }
    if (lead == 0xe0 && at[1] < 0xa0) return 0; /* overlong */
    if (lead == 0xed && at[1] > 0x9f) return 0; /* surrogate */
    if (lead == 0xf0 && at[1] < 0x90) return 0; /* overlong */
    if (lead == 0xf4 && at[1] > 0x8f) return 0; /* above U+10FFFF */
    return size;
}

bool imv_utf8_valid(struct imv_str text) {
    const unsigned char *at = (const unsigned char *)text.data;
    const unsigned char *end = at + text.size;
    while (at < end) {
        if (end - at >= 8 && (imv_get_u64(at) & UINT64_C(0x8080808080808080)) == 0) {
            at += 8;
            continue;
        }
        size_t size = sequence_size(at, (size_t)(end - at));
        if (size == 0) return false;
        at += size;
    }
    return true;
}
