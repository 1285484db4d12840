/* log.h -- levelled log lines, handed to a callback.  Layer: base. */
#ifndef TA_BASE_LOG_H
#define TA_BASE_LOG_H

#include "base/ta_base.h"

typedef enum ta_log_level {
    TA_LOG_DEBUG,
    TA_LOG_INFO,
    TA_LOG_WARNING,
    TA_LOG_ERROR,
    TA_LOG_OFF
} ta_log_level;

/* One sink; shared by whoever it was given to.  A zeroed one with level TA_LOG_OFF is silent. */
typedef struct ta_log {
    ta_log_level level; /* what is below it is not formatted at all */
    /* One line without its newline; borrowed for the call.  May be called by any thread. */
    void (*write)(void *ctx, ta_log_level level, ta_str line);
    void *ctx; /* borrowed */
} ta_log;

static inline bool ta_log_on(const ta_log *log, ta_log_level level)
{
    return log && log->write && level >= log->level;
}

/* Formats one line (cut at 1,023 bytes; control characters are escaped) and writes it. */
void ta_log_printf(const ta_log *log, ta_log_level level, const char *fmt, ...) TA_PRINTF(3, 4);

#endif
