/* status.h - how a function says what went wrong.
 *
 * What the world can cause (bad input, a failing disk, a full budget) is returned as an imv_status, with the reason in
 * a struct imv_error that the caller owns and may pass as NULL. What only our own bug can cause is an imv_assert.
 *
 * An error names what failed, on what, with which value:
 *     return imv_fail(err, IMV_CORRUPT, "wal: bad checksum at %" PRIu64 " in %s", offset, path);
 * The first error is the cause: a caller that adds context uses imv_error_wrap, cleanup code passes NULL.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

typedef enum imv_status {
    IMV_OK = 0,
    IMV_INVALID,     /* the caller's input is wrong: syntax, type, range */
    IMV_NOT_FOUND,   /* a named thing does not exist */
    IMV_EXISTS,      /* a named thing exists already */
    IMV_CONFLICT,    /* contradicts what is stored, e.g. a field's type */
    IMV_CORRUPT,     /* bytes on disk or network fail a check */
    IMV_IO,          /* the operating system refused a read, write or sync */
    IMV_FULL,        /* a stated limit or budget is reached; retry after it drains */
    IMV_NO_MEMORY,   /* the allocator refused */
    IMV_BUSY,        /* owned by another right now, e.g. a locked data directory */
    IMV_CANCELLED,   /* the client went away or asked to stop */
    IMV_TIMEOUT,     /* a deadline passed */
    IMV_UNSUPPORTED, /* a version, feature or kernel facility that is not available */
    IMV_CLOSED,      /* the object is shut down or failed before */
} imv_status;

enum { IMV_ERROR_MESSAGE_BYTES = 480 };

struct imv_error {
    imv_status status;
    char message[IMV_ERROR_MESSAGE_BYTES]; /* NUL terminated, cut when longer */
};

/* Fills err (when not NULL) and returns status, so that a failing branch is one line. Returns its status argument. */
imv_status imv_fail(struct imv_error *err, imv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As imv_fail, with the text of an errno value appended: "wal: cannot open x: No such file or directory". */
imv_status imv_fail_errno(struct imv_error *err, imv_status status, int error_number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "<prefix>: " before the message of an error that is set; returns err's status. NULL err returns status. */
imv_status imv_error_wrap(struct imv_error *err, imv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The name of a status for logs and metrics, e.g. "corrupt". Never NULL. */
const char *imv_status_name(imv_status status);

/* Returns on the first failure; for functions that own nothing yet. */
#define IMV_TRY(expression)                                  \
    do {                                                     \
        imv_status imv_try_status = (expression);            \
        if (imv_try_status != IMV_OK) return imv_try_status; \
    } while (0)
