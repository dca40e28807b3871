#include "storage/base/status.h"

#include <stdio.h>
#include <string.h>

static void put(struct imv_error *err, imv_status status, const char *format, va_list args) {
    if (err == NULL) return;
    err->status = status;
    vsnprintf(err->message, sizeof err->message, format, args);
}

imv_status imv_fail(struct imv_error *err, imv_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    put(err, status, format, args);
    va_end(args);
    return status;
}

imv_status imv_fail_errno(struct imv_error *err, imv_status status, int error_number, const char *format, ...) {
    va_list args;
    va_start(args, format);
    put(err, status, format, args);
    va_end(args);
    if (err == NULL) return status;
    char reason[128];
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, ": %s",
             strerror_r(error_number, reason, sizeof reason)); /* GNU strerror_r: thread safe, returns the text */
    return status;
}

imv_status imv_error_wrap(struct imv_error *err, imv_status status, const char *format, ...) {
    if (err == NULL) return status;
    char former[IMV_ERROR_MESSAGE_BYTES];
    memcpy(former, err->message, sizeof former);
    va_list args;
    va_start(args, format);
    put(err, status, format, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, ": %s", former);
    return status;
}

const char *imv_status_name(imv_status status) {
    switch (status) {
        case IMV_OK: return "ok";
        case IMV_INVALID: return "invalid";
        case IMV_NOT_FOUND: return "not_found";
        case IMV_EXISTS: return "exists";
        case IMV_CONFLICT: return "conflict";
        case IMV_CORRUPT: return "corrupt";
        case IMV_IO: return "io";
        case IMV_FULL: return "full";
        case IMV_NO_MEMORY: return "no_memory";
        case IMV_BUSY: return "busy";
        case IMV_CANCELLED: return "cancelled";
        case IMV_TIMEOUT: return "timeout";
        case IMV_UNSUPPORTED: return "unsupported";
        case IMV_CLOSED: return "closed";
    }
    return "unknown";
}
