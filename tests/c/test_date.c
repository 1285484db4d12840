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

/* Against libc, and back again, over eight centuries. */
TA_TEST(format_equals_strftime)
{
    for (int64_t t = -8000000000; t < 20000000000; t += 86399 * 37 + 11) {
        char ours[TA_DATE_LEN], theirs[64];
        struct tm tm;
        time_t tt = (time_t)t;
        gmtime_r(&tt, &tm);
        strftime(theirs, sizeof theirs, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        CHECK_STR(format(ours, t), theirs);
        int64_t back = 0;
        CHECK_INT(ta_date_parse(ta_str_of(ours, TA_DATE_LEN), 0, &back), ==, TA_OK);
        CHECK_INT(back, ==, t);
    }
}

static int64_t parse(const char *text)
{
    int64_t out = -7;
    int rc = ta_date_parse(ta_str_of(text, strlen(text)), 1800000000 /* 2027 */, &out);
    CHECK_INT(rc == TA_OK, !=, out == -7);
    return out;
}

TA_TEST(parse_three_forms)
{
    CHECK_INT(parse("Sun, 06 Nov 1994 08:49:37 GMT"), ==, 784111777);
    CHECK_INT(parse("Sunday, 06-Nov-94 08:49:37 GMT"), ==, 784111777);
    CHECK_INT(parse("Sun Nov  6 08:49:37 1994"), ==, 784111777);
    CHECK_INT(parse("Wed Nov 16 08:49:37 1994"), ==, 784975777);
    CHECK_INT(parse("Saturday, 06-Nov-77 08:49:37 GMT"), ==, 3403414177); /* 2077: 50 years on */
    CHECK_INT(parse("Sunday, 06-Nov-78 08:49:37 GMT"), ==, 279190177);    /* 1978 */
    CHECK_INT(parse("Tue, 29 Feb 2000 00:00:00 GMT"), ==, 951782400);
}

TA_TEST(parse_refuses)
{
    static const char *const bad[] = {
        "",
        "Sun",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Mon Nov 6 08:49:37 1994",
    };
    for (size_t i = 0; i < TA_COUNTOF(bad); i++)
        CHECK_INT(parse(bad[i]), ==, -7);
}
