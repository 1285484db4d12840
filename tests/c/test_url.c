#include "http/url.h"

#include "ta_test.h"

static ta_str str(const char *text)
{
    return ta_str_of(text, strlen(text));
}

/* Inputs are copied to memory of their exact size, so that the sanitizer sees any stray read. */
static char *copy(const char *text, size_t *len)
{
    *len = strlen(text);
    char *p = malloc(*len ? *len : 1);
    memcpy(p, text, *len);
    return p;
}

#define CHECK_DECODE(fn, text, want)                                                               \
    do {                                                                                           \
        size_t n_;                                                                                 \
        char *p_ = copy(text, &n_);                                                                \
        char other_[256];                                                                          \
        CHECK_STR(ta_str_of(other_, fn(other_, ta_str_of(p_, n_))), want);                         \
        n_ = fn(p_, ta_str_of(p_, n_));                                                            \
        CHECK_STR(ta_str_of(p_, n_), want);                                                        \
        free(p_);                                                                                  \
    } while (0)

TA_TEST(unquote)
{
    CHECK_DECODE(ta_url_unquote, "", "");
    CHECK_DECODE(ta_url_unquote, "/plain", "/plain");
    CHECK_DECODE(ta_url_unquote, "/a%2Fb%2fc", "/a/b/c");
    CHECK_DECODE(ta_url_unquote, "%E2%82%AC+%e2%82%ac", "\xe2\x82\xac+\xe2\x82\xac");
    CHECK_DECODE(ta_url_unquote, "%", "%");
    CHECK_DECODE(ta_url_unquote, "%4", "%4");
    CHECK_DECODE(ta_url_unquote, "a%zz%4%41", "a%zz%4A");
    CHECK_DECODE(ta_url_unquote, "%%41", "%A");
    CHECK_DECODE(ta_url_unquote, "%G1%1G%g1", "%G1%1G%g1");
    CHECK_DECODE(ta_url_unquote, "%2541", "%41"); /* once only */
    CHECK_INT(ta_url_unquote(NULL, ta_str_of(NULL, 0)), ==, 0);
    char out[8];
    CHECK_INT(ta_url_unquote(out, TA_STR("a%00b")), ==, 3);
    CHECK_MEM(out, "a\0b", 3);
}

TA_TEST(unquote_plus)
{
    CHECK_DECODE(ta_url_unquote_plus, "a+b%2Bc%", "a b+c%");
    CHECK_DECODE(ta_url_unquote_plus, "+%2", " %2");
    CHECK_DECODE(ta_url_unquote_plus, "%41%zz+", "A%zz ");
    CHECK_DECODE(ta_url_unquote_plus, "", "");
}

/* Renders what the iterator gives as [name=value]... with decoded parts. */
static void render_query(const char *text, char *out)
{
    size_t n;
    char *p = copy(text, &n);
    ta_str rest = {p, n};
    ta_qs_pair pair;
    char *w = out;
    while (ta_qs_next(&rest, &pair)) {
        bool has =
            memchr(pair.name.ptr, '%', pair.name.len) || memchr(pair.name.ptr, '+', pair.name.len);
        CHECK_INT(has, ==, pair.name_quoted);
        has = pair.value.len && (memchr(pair.value.ptr, '%', pair.value.len) ||
                                 memchr(pair.value.ptr, '+', pair.value.len));
        CHECK_INT(has, ==, pair.value_quoted);
        *w++ = '[';
        w += ta_url_unquote_plus(w, pair.name);
        *w++ = '=';
        w += ta_url_unquote_plus(w, pair.value);
        *w++ = ']';
    }
    CHECK(!ta_qs_next(&rest, &pair));
    *w = 0;
    free(p);
}

TA_TEST(query_as_parse_qsl)
{
    /* right: "".join(f"[{k}={v}]" for k, v in parse_qsl(left, keep_blank_values=True)) */
    static const char *const cases[][2] = {
        {"", ""},
        {"a=1", "[a=1]"},
        {"a=1&b=2", "[a=1][b=2]"},
        {"a", "[a=]"},
        {"a=", "[a=]"},
        {"=", "[=]"},
        {"=b", "[=b]"},
        {"&", ""},
        {"&&a=1&&&b&", "[a=1][b=]"},
        {"a=b=c", "[a=b=c]"},
        {"a==", "[a==]"},
        {"a;b=1;c=2", "[a;b=1;c=2]"},
        {"a+b=c+d", "[a b=c d]"},
        {"a%20b=%26%3D", "[a b=&=]"},
        {"a%3Db", "[a=b=]"},
        {"a=%", "[a=%]"},
        {"%=%4", "[%=%4]"},
        {"q=%E2%82%AC", "[q=\xe2\x82\xac]"},
        {"a?b=c?d", "[a?b=c?d]"},
        {"a=1&a=2", "[a=1][a=2]"},
        {" a = 1 ", "[ a = 1 ]"},
    };
    char out[256];
    for (size_t i = 0; i < TA_COUNTOF(cases); i++) {
        render_query(cases[i][0], out);
        CHECK_STR(str(out), cases[i][1]);
    }
    ta_str none = {NULL, 0};
    ta_qs_pair pair;
    CHECK(!ta_qs_next(&none, &pair));
}

static void render_cookies(const char *text, char *out)
{
    size_t n;
    char *p = copy(text, &n);
    ta_str rest = {p, n};
    ta_cookie_pair pair;
    char *w = out;
    while (ta_cookie_next(&rest, &pair)) {
        *w++ = '[';
        memcpy(w, pair.name.ptr, pair.name.len);
        w += pair.name.len;
        *w++ = pair.quoted ? '~' : '=';
        memcpy(w, pair.value.ptr, pair.value.len);
        w += pair.value.len;
        *w++ = ']';
    }
    *w = 0;
    free(p);
}

TA_TEST(cookies_as_starlette)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"a=1; b=2", "[a=1][b=2]"},
        {"a=1;b=2;", "[a=1][b=2]"},
        {";;  ; a=1", "[a=1]"},
        {"alone", "[=alone]"},
        {"=x; y=", "[=x][y=]"},
        {"=", ""},
        {"a=b=c", "[a=b=c]"},
        {"  a  =  b c  ", "[a=b c]"},
        {"\xa0"
         "a\x85=\xa0v\x1f",
         "[a=v]"},
        {"a=\"x y\"", "[a~\"x y\"]"},
        {"a=\"x; b=y\"", "[a=\"x][b=y\"]"},
        {"a=\"\\\"q\"", "[a~\"\\\"q\"]"},
        {"a=\"", "[a=\"]"},
        {"a=\"\"", "[a~\"\"]"},
        {"csrf=A%20B", "[csrf=A%20B]"},
    };
    char out[256];
    for (size_t i = 0; i < TA_COUNTOF(cases); i++) {
        render_cookies(cases[i][0], out);
        CHECK_STR(str(out), cases[i][1]);
    }
}

TA_TEST(authorities)
{
    static const char *const good[] = {
        "a",
        "example.com",
        "example.com:80",
        "example.com:",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8000",
        "[2001:db8::192.0.2.1]",
        "[v1.x]",
        "[V1f.a:b]:80",
        "a_b-c~d",
        "%41b",
        "A.B",
        "x!$&'()*+,;=y",
        "host:0",
    };
    static const char *const bad[] = {
        "",
        ":80",
        "a:b",
        "a:65536",
        "a:99999999999",
        "a b",
        "a/b",
        "a?b",
        "user@host",
        "a:80:80",
        "[::1",
        "::1",
        "[]",
        "[::g]",
        "[::1]x",
        "[::1]:x",
        "[v1.]",
        "[v.x]",
        "[v1x]",
        "[vg.x]",
        "[v1.x/]",
        "[v1.[]",
        "[v]",
        "[fe80::1%25eth0]",
        "%4",
        "%zz",
        "a\\b",
        "a\"b",
        "<a>",
        "a\x80",
        "[127.0.0.1]",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:1111:2222]",
    };
    for (size_t i = 0; i < TA_COUNTOF(good); i++) {
        size_t n;
        char *p = copy(good[i], &n);
        if (!ta_url_is_authority(ta_str_of(p, n)))
            FAIL("refused %s", good[i]);
        free(p);
    }
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        size_t n;
        char *p = copy(bad[i], &n);
        if (ta_url_is_authority(ta_str_of(p, n)))
            FAIL("accepted %s", bad[i]);
        free(p);
    }
    CHECK(!ta_url_is_authority(ta_str_of(NULL, 0)));
}

TA_TEST(targets)
{
    ta_target t;
    CHECK_INT(ta_target_split(TA_STR("/"), TA_METHOD_GET, &t), ==, TA_OK);
    CHECK_STR(t.path, "/");
    CHECK_STR(t.query, "");
    CHECK(!t.absolute);
    CHECK_INT(ta_target_split(TA_STR("//a/b?c?d=/e"), TA_METHOD_GET, &t), ==, TA_OK);
    CHECK_STR(t.path, "//a/b");
    CHECK_STR(t.query, "c?d=/e");
    CHECK_INT(ta_target_split(TA_STR("/x?"), TA_METHOD_GET, &t), ==, TA_OK);
    CHECK_STR(t.path, "/x");
    CHECK_STR(t.query, "");
    CHECK_INT(ta_target_split(TA_STR("HTTP://h:1/p?q"), TA_METHOD_GET, &t), ==, TA_OK);
    CHECK_STR(t.authority, "h:1");
    CHECK_STR(t.path, "/p");
    CHECK_STR(t.query, "q");
    CHECK(t.absolute);
    CHECK_INT(ta_target_split(TA_STR("https://h?q"), TA_METHOD_GET, &t), ==, TA_OK);
    CHECK_STR(t.path, "/");
    CHECK_STR(t.query, "q");
    CHECK_INT(ta_target_split(TA_STR("http://h"), TA_METHOD_OPTIONS, &t), ==, TA_OK);
    CHECK_STR(t.path, "*");
    CHECK_INT(ta_target_split(TA_STR("http://h/"), TA_METHOD_OPTIONS, &t), ==, TA_OK);
    CHECK_STR(t.path, "/");
    CHECK_INT(ta_target_split(TA_STR("*"), TA_METHOD_OPTIONS, &t), ==, TA_OK);
    CHECK_STR(t.path, "*");
    CHECK_INT(ta_target_split(TA_STR("h:443"), TA_METHOD_CONNECT, &t), ==, TA_OK);
    CHECK_STR(t.authority, "h:443");

    static const struct {
        const char *text;
        ta_method method;
    } bad[] = {
        {"", TA_METHOD_GET},
        {"*", TA_METHOD_GET},
        {"*x", TA_METHOD_OPTIONS},
        {"h:443", TA_METHOD_GET},
        {"/", TA_METHOD_CONNECT},
        {"h", TA_METHOD_CONNECT},
        {"h:", TA_METHOD_CONNECT},
        {"http://", TA_METHOD_GET},
        {"http:///x", TA_METHOD_GET},
        {"http://u@h/", TA_METHOD_GET},
        {"ftp://h/", TA_METHOD_GET},
        {"http:/h", TA_METHOD_GET},
        {"x/y", TA_METHOD_GET},
        {"?q", TA_METHOD_GET},
        {"http://h:x/", TA_METHOD_GET},
        {"https", TA_METHOD_GET},
        {"http://h\\x/", TA_METHOD_GET},
    };
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        if (ta_target_split(str(bad[i].text), bad[i].method, &t) != TA_EBAD)
            FAIL("accepted %s", bad[i].text);
    }
}
