#include "http/headers.h"

#include "http/method.h"
#include "http/status.h"
#include "ta_test.h"

#include "http/h1/scan.h"

static ta_str str(const char *text)
{
    return ta_str_of(text, strlen(text));
}

TA_TEST(find)
{
    const ta_header list[] = {
        {TA_STR("a"), TA_STR("1")},
        {TA_STR("b"), TA_STR("2")},
        {TA_STR("a"), TA_STR("3")},
    };
    CHECK(ta_headers_find(list, 3, TA_STR("a")) == &list[0]);
    CHECK(ta_headers_find(list, 3, TA_STR("c")) == NULL);
    CHECK(ta_headers_find(NULL, 0, TA_STR("a")) == NULL);
}

TA_TEST(token_characters)
{
    const char *others = "!#$%&'*+-.^_`|~";
    for (int c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool want = alnum || (c && strchr(others, c));
        CHECK_INT(ta_is_token_char((unsigned char)c), ==, want);
        if (want)
            CHECK_INT(ta_token_lower[c], ==, ta_ascii_lower((char)c));
    }
    CHECK(ta_is_token(TA_STR("x-y")));
    CHECK(!ta_is_token(TA_STR("")));
    CHECK(!ta_is_token(TA_STR("x y")));
}

TA_TEST(lists)
{
    ta_str rest = TA_STR(" a,\tb ,, ,c"), e;
    CHECK(ta_list_next(&rest, &e));
    CHECK_STR(e, "a");
    CHECK(ta_list_next(&rest, &e));
    CHECK_STR(e, "b");
    CHECK(ta_list_next(&rest, &e));
    CHECK_STR(e, "c");
    CHECK(!ta_list_next(&rest, &e));
    CHECK(ta_list_has(TA_STR("Keep-Alive, Upgrade"), TA_STR("upgrade")));
    CHECK(!ta_list_has(TA_STR("Keep-Alive, Upgraded"), TA_STR("upgrade")));
    CHECK(!ta_list_has(TA_STR(""), TA_STR("upgrade")));
    CHECK_STR(ta_str_trim(TA_STR(" \tx y\t ")), "x y");
    CHECK_STR(ta_str_trim(TA_STR(" \t ")), "");
}

TA_TEST(methods)
{
    static const char *const names[] = {"",       "GET",     "HEAD",  "POST",  "PUT",
                                        "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
    for (int m = 1; m < (int)TA_COUNTOF(names); m++)
        CHECK_INT(ta_method_of(str(names[m])), ==, m);
    static const char *const others[] = {"",      "G",      "get",     "GOT",       "PUR",
                                         "HEAP",  "POSE",   "OPTIONA", "CONNECTED", "TRACK",
                                         "QUERY", "DELETF", "CONNECU"};
    for (size_t i = 0; i < TA_COUNTOF(others); i++)
        CHECK_INT(ta_method_of(str(others[i])), ==, TA_METHOD_OTHER);
}

TA_TEST(statuses)
{
    CHECK_STR(ta_status_line(200), "HTTP/1.1 200 OK\r\n");
    CHECK_STR(ta_status_line(418), "HTTP/1.1 418 I'm a Teapot\r\n");
    CHECK_STR(ta_status_line(511), "HTTP/1.1 511 Network Authentication Required\r\n");
    static const int holes[] = {-1, 0, 99, 199, 299, 306, 499, 599, 600, 99999};
    for (size_t i = 0; i < TA_COUNTOF(holes); i++)
        CHECK_STR(ta_status_line(holes[i]), "");
}

/* RFC 9110: 6.4.1, 8.6, 15.3.5, 15.3.6, 15.4.5. */
TA_TEST(what_a_status_allows)
{
    static const struct {
        int status;
        bool content, length, refuses;
    } rules[] = {
        {100, false, false, true},  {103, false, false, true}, {200, true, true, false},
        {204, false, false, true},  {205, false, true, true},  {206, true, true, false},
        {304, false, false, false}, {404, true, true, false},  {999, true, true, false},
    };
    for (size_t i = 0; i < TA_COUNTOF(rules); i++) {
        CHECK_INT(ta_status_has_content(rules[i].status), ==, rules[i].content);
        CHECK_INT(ta_status_adds_length(rules[i].status), ==, rules[i].length);
        CHECK_INT(ta_status_refuses_length(rules[i].status), ==, rules[i].refuses);
    }
}

TA_TEST(lengths)
{
    int64_t n = 0;
    CHECK(ta_length_of(TA_STR("0"), &n) && n == 0);
    CHECK(ta_length_of(TA_STR("0012"), &n) && n == 12);
    CHECK(ta_length_of(TA_STR("9223372036854775807"), &n) && n == INT64_MAX);
    static const char *const bad[] = {"",
                                      "9223372036854775808",
                                      "99999999999999999999",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1,1",
                                      "0x1",
                                      "1.0",
                                      "1\xb2"};
    for (size_t i = 0; i < TA_COUNTOF(bad); i++)
        CHECK(!ta_length_of(str(bad[i]), &n));
    CHECK_INT(n, ==, INT64_MAX);
}

/* Each byte value at each place of runs of each length: the vector loops agree with the tables. */
TA_TEST(scans_stop_where_they_must)
{
    for (size_t len = 1; len <= 70; len++) {
        for (size_t at = 0; at < len; at += len > 40 ? 3 : 1) {
            char *text = malloc(len); /* exact: the sanitizer sees a load past the end */
            for (int c = 0; c < 256; c++) {
                memset(text, 'v', len);
                text[at] = (char)c;
                const char *want_value =
                    (c < 0x20 && c != '\t') || c == 0x7f ? text + at : text + len;
                const char *want_target =
                    c <= 0x20 || c >= 0x7f || c == '#' ? text + at : text + len;
                CHECK(ta_scan_value(text, text + len) == want_value);
                CHECK(ta_scan_target(text, text + len) == want_target);
            }
            free(text);
        }
    }
    CHECK(ta_is_field_value(TA_STR("a\tb \xff")));
    CHECK(!ta_is_field_value(TA_STR("a\nb")));
    CHECK(ta_is_field_value(TA_STR("")));
}
