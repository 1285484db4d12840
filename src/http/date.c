/* date.c -- see date.h.  Civil-date arithmetic of its own: no locale, no time zone, no gmtime. */
#include "http/date.h"

static const char day_names[] = "SunMonTueWedThuFriSat";
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

#define SECONDS_MIN (-62167219200LL) /* 0000-01-01 */
#define SECONDS_MAX 253402300799LL   /* 9999-12-31 23:59:59 */

/* Date of a day since 1970-01-01, proleptic Gregorian: eras of 400 years that begin in March. */
static void civil_of(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

static void two(char *out, int v)
{
    out[0] = (char)('0' + v / 10);
    out[1] = (char)('0' + v % 10);
}

void ta_date_format(char *out, int64_t unix_seconds)
{
    int64_t t = TA_MIN(TA_MAX(unix_seconds, SECONDS_MIN), SECONDS_MAX);
    int64_t days = t >= 0 ? t / 86400 : (t - 86399) / 86400;
    int rest = (int)(t - days * 86400);
    int weekday = (int)(((days + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
    int year, month, day;
    civil_of(days, &year, &month, &day);

    memcpy(out, "Sun, 06 Nov 1994 08:49:37 GMT", TA_DATE_LEN);
    memcpy(out, day_names + weekday * 3, 3);
    two(out + 5, day);
    memcpy(out + 8, month_names + (month - 1) * 3, 3);
    two(out + 12, year / 100);
    two(out + 14, year % 100);
    two(out + 17, rest / 3600);
    two(out + 20, rest / 60 % 60);
    two(out + 23, rest % 60);
}
