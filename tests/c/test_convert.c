#include "route/convert.h"

#include "ta_test.h"

TA_TEST(names)
{
    CHECK_INT(ta_conv_find(TA_STR("str")), ==, TA_CONV_STR);
    CHECK_INT(ta_conv_find(TA_STR("int")), ==, TA_CONV_INT);
    CHECK_INT(ta_conv_find(TA_STR("float")), ==, TA_CONV_FLOAT);
    CHECK_INT(ta_conv_find(TA_STR("uuid")), ==, TA_CONV_UUID);
    CHECK_INT(ta_conv_find(TA_STR("path")), ==, TA_CONV_PATH);
    CHECK_INT(ta_conv_find(TA_STR("Int")), ==, -1);
    CHECK_INT(ta_conv_find(TA_STR("in")), ==, -1);
    CHECK_INT(ta_conv_find(TA_STR("")), ==, -1);
}

TA_TEST(digits)
{
    CHECK_INT(ta_conv_digits("", 0), ==, 0);
    CHECK_INT(ta_conv_digits("12x", 3), ==, 2);
    CHECK_INT(ta_conv_digits("123", 2), ==, 2);
    CHECK_INT(ta_conv_digits("/9:", 3), ==, 0);
    CHECK_INT(ta_conv_digits("0123456789", 10), ==, 10);
}

static size_t span(const char *s)
{
    return ta_conv_uuid_span(s, strlen(s));
}

TA_TEST(uuid_spans)
{
    CHECK_INT(span("12345678-1234-5678-1234-567812345678"), ==, 36);
    CHECK_INT(span("12345678123456781234567812345678"), ==, 32);
    CHECK_INT(span("12345678-123456781234-567812345678"), ==, 34);
    CHECK_INT(span("ABCDEFab-cdef-ABCD-EFab-cdefABCDEFab/x"), ==, 36);
    CHECK_INT(span("12345678-1234-5678-1234-5678123456789"), ==, 36);
    CHECK_INT(span("12345678-1234-5678-1234-56781234567"), ==, 0);
    CHECK_INT(span("12345678--1234-5678-1234-567812345678"), ==, 0);
    CHECK_INT(span("1234567-81234-5678-1234-567812345678"), ==, 0);
    CHECK_INT(span("g2345678-1234-5678-1234-567812345678"), ==, 0);
    CHECK_INT(span("12345678-1234-5678-1234-567812-345678"), ==, 0);
    CHECK_INT(span(""), ==, 0);
    CHECK_INT(span("-"), ==, 0);
}

TA_TEST(integers)
{
    int64_t v = 0;
    CHECK_INT(ta_conv_int(TA_STR("0"), &v), ==, TA_OK);
    CHECK_INT(v, ==, 0);
    CHECK_INT(ta_conv_int(TA_STR("0042"), &v), ==, TA_OK);
    CHECK_INT(v, ==, 42);
    CHECK_INT(ta_conv_int(TA_STR("9223372036854775807"), &v), ==, TA_OK);
    CHECK_INT(v, ==, INT64_MAX);
    CHECK_INT(ta_conv_int(TA_STR("9223372036854775808"), &v), ==, TA_ETOOLARGE);
    CHECK_INT(ta_conv_int(TA_STR("99999999999999999999"), &v), ==, TA_ETOOLARGE);
    CHECK_INT(v, ==, INT64_MAX); /* written on success only */
}
