/*
 * fuzz_url.c -- percent-decoding, query strings, cookies, authorities and request-targets:
 * against plain readings, and in place against elsewhere.
 *
 * Input: the text; every function gets all of it.
 */
#include "fuzz.h"

#include "http/url.h"

static bool within(ta_str part, ta_str all)
{
    return part.ptr >= all.ptr && part.ptr + part.len <= all.ptr + all.len;
}

static int hex(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 87
           : c >= 'A' && c <= 'F' ? c - 55
                                  : -1;
}

static size_t plain_unquote(char *out, ta_str s, bool plus)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '%' && i + 2 < s.len && hex(s.ptr[i + 1]) >= 0 && hex(s.ptr[i + 2]) >= 0) {
            out[n++] = (char)(hex(s.ptr[i + 1]) * 16 + hex(s.ptr[i + 2]));
            i += 2;
        } else {
            out[n++] = plus && c == '+' ? ' ' : (char)c;
        }
    }
    return n;
}

static void check_decoder(size_t (*fn)(char *, ta_str), ta_str text, char *a, char *b, bool plus)
{
    size_t n = fn(a, text);
    REQUIRE(n <= text.len);
    if (text.len)
        memcpy(b, text.ptr, text.len);
    REQUIRE(fn(b, ta_str_of(b, text.len)) == n && memcmp(a, b, n) == 0);
    REQUIRE(plain_unquote(b, text, plus) == n && memcmp(a, b, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ta_str text = {(const char *)data, size};
    char *a = malloc(size ? size : 1), *b = malloc(size ? size : 1);

    check_decoder(ta_url_unquote, text, a, b, false);
    check_decoder(ta_url_unquote_plus, text, a, b, true);

    ta_str rest = text;
    ta_qs_pair pair;
    while (ta_qs_next(&rest, &pair)) {
        REQUIRE(within(pair.name, text) && within(pair.value, text));
        REQUIRE(!memchr(pair.name.ptr, '&', pair.name.len) &&
                !memchr(pair.name.ptr, '=', pair.name.len));
        REQUIRE(!pair.value.len || !memchr(pair.value.ptr, '&', pair.value.len));
        bool plus =
            memchr(pair.name.ptr, '+', pair.name.len) || memchr(pair.name.ptr, '%', pair.name.len);
        REQUIRE(plus == pair.name_quoted);
    }
    REQUIRE(rest.len == 0);

    ta_cookie_pair cookie;
    rest = text;
    while (ta_cookie_next(&rest, &cookie)) {
        REQUIRE(within(cookie.name, text) && within(cookie.value, text));
        REQUIRE(cookie.name.len || cookie.value.len);
        REQUIRE(!cookie.quoted || (cookie.value.ptr[0] == '"' && cookie.value.len >= 2));
    }
    REQUIRE(rest.len == 0);

    if (ta_url_is_authority(text)) {
        REQUIRE(!memchr(text.ptr, '/', text.len) && !memchr(text.ptr, '@', text.len));
    }
    for (int m = TA_METHOD_OTHER; m <= TA_METHOD_CONNECT; m++) {
        ta_target t;
        if (ta_target_split(text, (ta_method)m, &t) != TA_OK)
            continue;
        REQUIRE(t.authority.len == 0 || ta_url_is_authority(t.authority));
        REQUIRE(within(t.query, text) && (t.path.len || m == TA_METHOD_CONNECT));
    }
    free(a);
    free(b);
    return 0;
}
