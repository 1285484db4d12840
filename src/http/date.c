/* date.c -- see date.h.  Civil-date arithmetic of its own: no locale, no time zone, no gmtime. */
#include "http/date.h"

static const char day_names[] = "SunMonTueWedThuFriSat";
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

#define SECONDS_MIN (-62167219200LL) /* 0000-01-01 */
#define SECONDS_MAX 253402300799LL   /* 9999-12-31 23:59:59 */

/* Days since 1970-01-01 of a proleptic Gregorian date: eras of 400 years that begin in March. */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

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

/* -- parsing -------------------------------------------------------------------------------- */

typedef struct cursor {
    const char *p, *end;
} cursor;

static bool literal(cursor *c, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, text, n) != 0)
        return false;
    c->p += n;
    return true;
}

static bool digits(cursor *c, int n, int *out)
{
    int v = 0;
    if (c->end - c->p < n)
        return false;
    for (int i = 0; i < n; i++) {
        if (c->p[i] < '0' || c->p[i] > '9')
            return false;
        v = v * 10 + (c->p[i] - '0');
    }
    c->p += n;
    *out = v;
    return true;
}

static bool name_of(cursor *c, const char *names, int count, int *out)
{
    for (int i = 0; i < count && c->end - c->p >= 3; i++) {
        if (memcmp(c->p, names + i * 3, 3) == 0) {
            c->p += 3;
            *out = i;
            return true;
        }
    }
    return false;
}

static bool time_of(cursor *c, int *h, int *m, int *s)
{
    return digits(c, 2, h) && literal(c, ":") && digits(c, 2, m) && literal(c, ":") &&
           digits(c, 2, s);
}

int ta_date_parse(ta_str text, int64_t now, int64_t *out)
{
    static const char *const long_tail[] = {"day, ",   "day, ", "sday, ", "nesday, ",
                                            "rsday, ", "day, ", "urday, "};
    cursor c = {text.ptr, text.ptr + text.len};
    int weekday, day, month, year, h, m, s;

    if (!name_of(&c, day_names, 7, &weekday))
        return TA_EBAD;
    if (literal(&c, ", ")) {
        if (!digits(&c, 2, &day) || !literal(&c, " ") || !name_of(&c, month_names, 12, &month) ||
            !literal(&c, " ") || !digits(&c, 4, &year) || !literal(&c, " ") ||
            !time_of(&c, &h, &m, &s) || !literal(&c, " GMT"))
            return TA_EBAD;
    } else if (literal(&c, " ")) {
        if (!name_of(&c, month_names, 12, &month) || !literal(&c, " "))
            return TA_EBAD;
        if (literal(&c, " ") ? !digits(&c, 1, &day) : !digits(&c, 2, &day))
            return TA_EBAD;
        if (!literal(&c, " ") || !time_of(&c, &h, &m, &s) || !literal(&c, " ") ||
            !digits(&c, 4, &year))
            return TA_EBAD;
    } else if (literal(&c, long_tail[weekday])) {
        int now_year, ignored;
        if (!digits(&c, 2, &day) || !literal(&c, "-") || !name_of(&c, month_names, 12, &month) ||
            !literal(&c, "-") || !digits(&c, 2, &year) || !literal(&c, " ") ||
            !time_of(&c, &h, &m, &s) || !literal(&c, " GMT"))
            return TA_EBAD;
        civil_of(now / 86400, &now_year, &ignored, &ignored);
        year += now_year - now_year % 100;
        if (year > now_year + 50)
            year -= 100;
    } else {
        return TA_EBAD;
    }

    static const unsigned char month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c.p != c.end || day < 1 || day > month_days[month] || h > 23 || m > 59 || s > 60)
        return TA_EBAD;
    if (month == 1 && day == 29 && !(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)))
        return TA_EBAD;
    *out = days_of(year, month + 1, day) * 86400 + h * 3600 + m * 60 + s;
    return TA_OK;
}
