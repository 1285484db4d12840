#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

enum { LINE_MAX_BYTES = 1023 };

/* As \xHH, so that what a peer sent cannot forge lines or terminal sequences. */
static size_t escape(char *out, size_t cap, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)text[i];
        if (ch >= 0x20 && ch != 0x7f) {
            if (n + 1 > cap)
                break;
            out[n++] = (char)ch;
        } else {
            if (n + 4 > cap)
                break;
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = hex[ch >> 4];
            out[n++] = hex[ch & 15];
        }
    }
    return n;
}

void ta_log_printf(const ta_log *log, ta_log_level level, const char *fmt, ...)
{
    if (!ta_log_on(log, level))
        return;
    char text[LINE_MAX_BYTES + 1], line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0)
        return;
    size_t len = escape(line, sizeof(line), text, TA_MIN((size_t)n, sizeof(text) - 1));
    log->write(log->ctx, level, ta_str_of(line, len));
}
