/* chunk_reader.h - walks the chunks of a part in the store; private to the cursor.
 *
 * Queries go from series to series in order of id, and the chunks of neighbours are neighbours in the file. A step to
 * the next key costs a tenth of a seek, so a reader remembers what it knows of the keys around it and seeks only when
 * the place is not at hand:
 *
 *     gap .. current   there is no key from gap up to, not including, the current one (or the end)
 *
 * One thread. The bytes of a chunk are a view that dies when the reader moves; owner is whoever relies on the place.
 */
#pragma once

#include "engine/parts.h"

struct imv_chunk_reader {
    struct imv_kv_iterator *iterator; /* owned; NULL until the reader is used */
    const void *owner;
    bool gap_known;
    uint8_t gap[IMV_CHUNK_KEY_BYTES];
    uint32_t misses; /* of first chunks that were not the last (cursor_newest.c), in a row */
};

/* To the first key >= key. Taking the place from its owner, as all of these but next do. */
void imv_chunk_reader_seek(struct imv_chunk_reader *reader, const uint8_t key[IMV_CHUNK_KEY_BYTES]);
/* As seek, if that takes no seek; else false, and the place is anywhere. */
bool imv_chunk_reader_step(struct imv_chunk_reader *reader, const uint8_t key[IMV_CHUNK_KEY_BYTES]);
/* To the last key <= key. */
void imv_chunk_reader_seek_back(struct imv_chunk_reader *reader, const uint8_t key[IMV_CHUNK_KEY_BYTES]);
void imv_chunk_reader_next(struct imv_chunk_reader *reader);
void imv_chunk_reader_previous(struct imv_chunk_reader *reader);
