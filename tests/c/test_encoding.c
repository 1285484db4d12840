#include "http/encoding.h"

#include "ta_test.h"

static const ta_coding ours[] = {TA_CODING_ZSTD, TA_CODING_BR, TA_CODING_GZIP};

static ta_coding chosen(const char *value)
{
    ta_accepted accepted;
    ta_accepted_init(&accepted);
    ta_accepted_add(&accepted, ta_str_of(value, strlen(value)));
    return ta_accepted_choose(&accepted, ours, TA_COUNTOF(ours));
}

TA_TEST(names)
{
    for (int i = 0; i < TA_CODINGS; i++)
        CHECK_INT(ta_coding_of(ta_coding_name((ta_coding)i)), ==, i);
    CHECK_INT(ta_coding_of(TA_STR("X-GZip")), ==, TA_CODING_GZIP);
    CHECK_INT(ta_coding_of(TA_STR("")), ==, TA_CODINGS);
}

TA_TEST(weights)
{
    ta_accepted accepted;
    ta_accepted_init(&accepted);
    ta_accepted_add(&accepted, TA_STR("gzip;q=0.25, *;q=0.125"));
    CHECK_INT(ta_accepted_weight(&accepted, TA_CODING_GZIP), ==, 250);
    CHECK_INT(ta_accepted_weight(&accepted, TA_CODING_BR), ==, 125);
    CHECK_INT(ta_accepted_weight(&accepted, TA_CODING_IDENTITY), ==, 125);
    ta_accepted_add(&accepted, TA_STR("br;q=1.000, zstd;q=0., gzip"));
    CHECK_INT(ta_accepted_weight(&accepted, TA_CODING_BR), ==, 1000);
    CHECK_INT(ta_accepted_weight(&accepted, TA_CODING_ZSTD), ==, 0);
    CHECK_INT(ta_accepted_weight(&accepted, TA_CODING_GZIP), ==, 250);
}

TA_TEST(choices)
{
    CHECK_INT(chosen(""), ==, TA_CODING_IDENTITY);
    CHECK_INT(chosen("gzip, br"), ==, TA_CODING_BR);
    CHECK_INT(chosen("gzip, br;q=0.999"), ==, TA_CODING_GZIP);
    CHECK_INT(chosen("*"), ==, TA_CODING_ZSTD);
    CHECK_INT(chosen("*;q=0, gzip"), ==, TA_CODING_GZIP);
    CHECK_INT(chosen("identity, gzip;q=0.5"), ==, TA_CODING_IDENTITY);
    CHECK_INT(chosen("gzip;q=2"), ==, TA_CODING_IDENTITY);
    CHECK_INT(chosen("gzip;q=0.5x"), ==, TA_CODING_IDENTITY);
    CHECK_INT(chosen(";q=1"), ==, TA_CODING_IDENTITY);
}
