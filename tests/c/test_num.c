#include "json/num.h"

#include <float.h>
#include <math.h>

#include "ta_test.h"

static const char *i64_text(int64_t v)
{
    static char text[TA_JSON_INT_MAX + 1];
    *ta_json_write_i64(text, v) = '\0';
    return text;
}

static const char *double_text(double v)
{
    static char text[TA_JSON_DOUBLE_MAX + 1];
    char *end = ta_json_write_double(text, v);
    CHECK_INT(end - text, <=, TA_JSON_DOUBLE_MAX);
    *end = '\0';
    return text;
}

#define CHECK_TEXT(got, want)                                                                      \
    do {                                                                                           \
        const char *ta_t = (got);                                                                  \
        CHECK_STR(ta_str_of(ta_t, strlen(ta_t)), want);                                            \
    } while (0)

static uint64_t random_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

TA_TEST(integers)
{
    CHECK_TEXT(i64_text(0), "0");
    CHECK_TEXT(i64_text(INT64_MIN), "-9223372036854775808");
    CHECK_TEXT(i64_text(INT64_MAX), "9223372036854775807");
    CHECK_TEXT(i64_text(-1), "-1");
    char want[32];
    uint64_t power = 1;
    for (int i = 0; i < 19; i++) {
        for (int d = -1; d <= 1; d++) {
            int64_t v = (int64_t)power + d;
            snprintf(want, sizeof want, "%" PRId64, v);
            CHECK_TEXT(i64_text(v), want);
        }
        power *= 10;
    }
    for (int i = 0; i < 200000; i++) {
        uint64_t v = random_bits() >> (random_bits() % 64);
        snprintf(want, sizeof want, "%" PRId64, (int64_t)v);
        CHECK_TEXT(i64_text((int64_t)v), want);
    }
}

/* What float.__repr__ gives. */
TA_TEST(doubles_as_python_writes_them)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {12.5, "12.5"},
        {99999999999.9999, "99999999999.9999"},
        {0.0012, "0.0012"},
        {1.00005, "1.00005"},
        {1.2300000000000002, "1.2300000000000002"},
        {0.3, "0.3"},
        {0.1 + 0.2, "0.30000000000000004"},
        {100.0, "100.0"},
        {123456.789, "123456.789"},
        {0.001, "0.001"},
        {0.0001, "0.0001"},
        {0.00012, "0.00012"},
        {0.00001, "1e-05"},
        {0.000012, "1.2e-05"},
        {1e15, "1000000000000000.0"},
        {9007199254740991.0, "9007199254740991.0"},
        {9007199254740992.0, "9007199254740992.0"},
        {9007199254740994.0, "9007199254740994.0"},
        {9999999999999998.0, "9999999999999998.0"},
        {1e16, "1e+16"},
        {1.2345678901234568e17, "1.2345678901234568e+17"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {1e100, "1e+100"},
        {1e-100, "1e-100"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {DBL_MIN, "2.2250738585072014e-308"},
        {-DBL_MIN, "-2.2250738585072014e-308"},
        {2.225073858507201e-308, "2.225073858507201e-308"},
        {5e-324, "5e-324"},
        {1e-323, "1e-323"},
        {5.684341886080802e-14, "5.684341886080802e-14"}, /* 2^-44: a tie goes to the even digit */
        {4.35, "4.35"},
        {1234567890123456.7, "1234567890123456.8"},
        {8.41e21, "8.41e+21"},
        {2.0 / 3.0, "0.6666666666666666"},
    };
    for (size_t i = 0; i < TA_COUNTOF(cases); i++)
        CHECK_TEXT(double_text(cases[i].v), cases[i].text);
}

/* The decimal that is written: digits * 10^exponent, without a trailing zero. */
static void decimal_of(const char *text, uint64_t *digits, int *exponent)
{
    *digits = 0;
    *exponent = 0;
    bool fraction = false;
    for (text += *text == '-'; *text && *text != 'e'; text++) {
        if (*text == '.') {
            fraction = true;
            continue;
        }
        *digits = *digits * 10 + (uint64_t)(*text - '0');
        *exponent -= fraction;
    }
    if (*text == 'e')
        *exponent += atoi(text + 1);
    while (*digits % 10 == 0) {
        *digits /= 10;
        ++*exponent;
    }
}

/* Reads back as the same double, and no shorter text does. */
static void check_shortest(double v)
{
    const char *text = double_text(v);
    double back = strtod(text, NULL);
    if (memcmp(&back, &v, sizeof v) != 0)
        FAIL("%a is written %s", v, text);
    if (v == 0)
        return;
    uint64_t digits;
    int exponent;
    decimal_of(text, &digits, &exponent);
    char shorter[40];
    int n = snprintf(shorter, sizeof shorter, "%" PRIu64, digits);
    CHECK(n <= 17);
    if (n > 1) {
        snprintf(shorter, sizeof shorter, "%.*e", n - 2, v);
        if (strtod(shorter, NULL) == v)
            FAIL("%a is written %s, but %s is enough", v, text, shorter);
    }
    /* The nearest of its length: what C prints with as many digits. */
    snprintf(shorter, sizeof shorter, "%.*e", n - 1, v);
    char ours[40];
    snprintf(ours, sizeof ours, "%" PRIu64 "e%d", digits, exponent);
    if (strtod(shorter, NULL) == v) {
        double a = strtod(shorter, NULL), b = strtod(ours, NULL);
        CHECK(memcmp(&a, &b, sizeof a) == 0 || v < 0);
        char digits_of[40];
        size_t k = 0;
        for (const char *p = shorter; *p != 'e'; p++)
            if (*p >= '0' && *p <= '9')
                digits_of[k++] = *p;
        digits_of[k] = '\0';
        if (strtoull(digits_of, NULL, 10) != digits)
            FAIL("%a is written %s, nearer is %s", v, text, shorter);
    }
}

TA_TEST(powers_of_two_and_their_neighbours)
{
    for (int e = -1074; e < 1024; e++) {
        double v = ldexp(1.0, e);
        check_shortest(v);
        check_shortest(-v);
        check_shortest(nextafter(v, INFINITY));
        check_shortest(nextafter(v, 0.0));
        check_shortest(nextafter(nextafter(v, 0.0), 0.0));
    }
}

TA_TEST(short_decimals)
{
    char text[40];
    for (int e = -300; e < 300; e++) {
        for (int m = 1; m < 40; m++) {
            snprintf(text, sizeof text, "%de%d", m, e);
            check_shortest(strtod(text, NULL));
        }
    }
}

TA_TEST(random_doubles)
{
    for (int i = 0; i < 150000; i++) {
        uint64_t bits = random_bits();
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v))
            check_shortest(v);
        bits >>= 12 + random_bits() % 40; /* subnormal */
        memcpy(&v, &bits, sizeof v);
        check_shortest(v);
        check_shortest((double)(int64_t)random_bits() / 1000.0);
    }
}
