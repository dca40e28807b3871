/* io_sys.h - the system-call back end, and what the io_uring back end borrows from it.
 *
 * Both open files the same way and do all but asynchronous writes by plain calls. io_uring.c copies imv_io_sys_ops and
 * replaces submit, poll and free; it finds the descriptor of a file here.
 */
#pragma once

#include "storage/base/io.h"

struct imv_sys_file {
    struct imv_file file; /* first */
    int descriptor;
    bool direct; /* opened with O_DIRECT */
};

extern const struct imv_io_ops imv_io_sys_ops;

/* True when a write that stopped after written bytes may go on from there: O_DIRECT asks for whole blocks. */
static inline bool imv_sys_may_continue(const struct imv_sys_file *file, size_t written) {
    return written > 0 && (!file->direct || written % IMV_IO_BLOCK_BYTES == 0);
}
