#include "http/date.h"

#include "ta_test.h"

#include <time.h>

static ta_str format(char *out, int64_t t)
{
    ta_date_format(out, t);
    return ta_str_of(out, TA_DATE_LEN);
}

TA_TEST(format_known)
{
    char out[TA_DATE_LEN];
    CHECK_STR(format(out, 784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK_STR(format(out, 0), "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK_STR(format(out, -1), "Wed, 31 Dec 1969 23:59:59 GMT");
    CHECK_STR(format(out, 951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
    CHECK_STR(format(out, 253402300799), "Fri, 31 Dec 9999 23:59:59 GMT");
    CHECK_STR(format(out, INT64_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    CHECK_STR(format(out, -62167219200), "Sat, 01 Jan 0000 00:00:00 GMT");
    CHECK_STR(format(out, INT64_MIN), "Sat, 01 Jan 0000 00:00:00 GMT");
}

/* Against libc, over eight centuries. */
TA_TEST(format_equals_strftime)
{
    for (int64_t t = -8000000000; t < 20000000000; t += 86399 * 37 + 11) {
        char ours[TA_DATE_LEN], theirs[64];
        struct tm tm;
        time_t tt = (time_t)t;
        gmtime_r(&tt, &tm);
        strftime(theirs, sizeof theirs, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        CHECK_STR(format(ours, t), theirs);
    }
}
