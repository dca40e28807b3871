/* inspect.h - what is in a data directory, or in one file of it, as lines of text for people.
 *
 *     a data directory      FORMAT, journal segments, classes, watermarks, labels with fields and tags, parts; and, when asked
 *                           for, each series and each chunk with the codec and bytes of each column of each vector
 *     wal/<n>-<m>.wal       header and groups (imv_wal_inspect)
 *     FORMAT, MANIFEST      their text, when its checksum is right
 *
 * What is damaged is said where it stands, and the rest is printed all the same; `imvdb check` is what judges. The
 * store of a directory is opened, so no server may have it; a journal segment can be looked at any time. A table file
 * of the store is printed as part of its directory, not by itself: which family and part it belongs to stands
 * elsewhere.
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>

struct imv_inspect_options {
    bool series, chunks; /* of a directory: print each */
    void (*report)(void *context, const char *line);
    void *context;
};

/* IMV_NOT_FOUND: there is no such file. IMV_UNSUPPORTED: it is none of the above. IMV_BUSY: a server has the directory.
 * IMV_CORRUPT: not even its beginning can be read. IMV_IO, IMV_NO_MEMORY. */
imv_status imv_engine_inspect(const char *path, const struct imv_inspect_options *options, struct imv_error *err);
