#include "json/escape.h"

#include "ta_failmalloc.h"
#include "ta_test.h"

static void check_utf8(const char *s, size_t len, const char *want, size_t want_len)
{
    char *copy = malloc(len ? len : 1); /* of exactly its size: reads behind it are seen */
    CHECK(copy != NULL);
    memcpy(copy, s, len);
    ta_buf out;
    ta_buf_init(&out);
    CHECK_INT(ta_json_string_utf8(&out, copy, len), ==, TA_OK);
    CHECK_INT(out.len, ==, want_len);
    CHECK_MEM(ta_buf_str(&out).ptr, want, want_len);
    ta_buf_free(&out);
    free(copy);
}

#define CHECK_UTF8(s, want) check_utf8(s, sizeof(s) - 1, want, sizeof(want) - 1)

TA_TEST(plain)
{
    CHECK_UTF8("", "\"\"");
    CHECK_UTF8("a", "\"a\"");
    CHECK_UTF8("</script>\x7f\xc3\xa9\xe2\x80\xa8", "\"</script>\x7f\xc3\xa9\xe2\x80\xa8\"");
    CHECK_UTF8("0123456789abcdef0123456789abcdef0", "\"0123456789abcdef0123456789abcdef0\"");
}

TA_TEST(escapes)
{
    CHECK_UTF8("\"", "\"\\\"\"");
    CHECK_UTF8("\\", "\"\\\\\"");
    CHECK_UTF8("\b\t\n\f\r", "\"\\b\\t\\n\\f\\r\"");
    CHECK_UTF8("\x00\x01\x0b\x1f ", "\"\\u0000\\u0001\\u000b\\u001f \"");
    CHECK_UTF8("\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"",
               "\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"\"");
}

/* What one byte becomes. */
static size_t expected(unsigned c, char *dst)
{
    switch (c) {
    case '"':
        return (size_t)sprintf(dst, "\\\"");
    case '\\':
        return (size_t)sprintf(dst, "\\\\");
    case '\b':
        return (size_t)sprintf(dst, "\\b");
    case '\t':
        return (size_t)sprintf(dst, "\\t");
    case '\n':
        return (size_t)sprintf(dst, "\\n");
    case '\f':
        return (size_t)sprintf(dst, "\\f");
    case '\r':
        return (size_t)sprintf(dst, "\\r");
    default:
        if (c < 0x20)
            return (size_t)sprintf(dst, "\\u%04x", c);
        dst[0] = (char)c;
        return 1;
    }
}

TA_TEST(every_byte_at_every_offset)
{
    char in[80], want[200];
    for (unsigned c = 0; c < 256; c++) {
        for (size_t at = 0; at < 40; at++) {
            for (size_t len = at + 1; len < at + 36; len += 7) {
                memset(in, 'x', sizeof in);
                in[at] = (char)c;
                size_t n = 0;
                want[n++] = '"';
                memset(want + n, 'x', at);
                n += at;
                n += expected(c, want + n);
                memset(want + n, 'x', len - at - 1);
                n += len - at - 1;
                want[n++] = '"';
                check_utf8(in, len, want, n);
            }
        }
    }
}

TA_TEST(long_strings)
{
    for (size_t len = 1020; len < 1030; len++) {
        char *in = malloc(4 * len), *want = malloc(24 * len + 2);
        CHECK(in && want);
        for (unsigned c = 0; c < 256; c += 5) {
            size_t n = 0;
            want[n++] = '"';
            for (size_t i = 0; i < 4 * len; i++) {
                in[i] = (char)(i % 3 ? c : 'a');
                n += expected((unsigned char)in[i], want + n);
            }
            want[n++] = '"';
            check_utf8(in, 4 * len, want, n);
        }
        free(in);
        free(want);
    }
}

TA_TEST(wide_layouts)
{
    ta_buf out;
    ta_buf_init(&out);
    static const uint8_t latin[] = {'a', '"', 0x1f, 0x7f, 0x80, 0xe9, 0xff};
    CHECK_INT(ta_json_string_latin1(&out, latin, sizeof latin), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "\"a\\\"\\u001f\x7f\xc2\x80\xc3\xa9\xc3\xbf\"");
    ta_buf_clear(&out);
    static const uint16_t ucs2[] = {'a', '\n', 0x7ff, 0x800, 0x2028, 0xd7ff, 0xe000, 0xffff};
    CHECK_INT(ta_json_string_ucs2(&out, ucs2, TA_COUNTOF(ucs2)), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out),
              "\"a\\n\xdf\xbf\xe0\xa0\x80\xe2\x80\xa8\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"");
    ta_buf_clear(&out);
    static const uint32_t ucs4[] = {'\\', 0x10000, 0x1f600, 0x10ffff};
    CHECK_INT(ta_json_string_ucs4(&out, ucs4, TA_COUNTOF(ucs4)), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "\"\\\\\xf0\x90\x80\x80\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"");
    ta_buf_free(&out);
}

TA_TEST(ascii)
{
    ta_buf out;
    ta_buf_init(&out);
    static const uint8_t latin[] = {'~', '"', 0x1f, 0x7f, 0x80, 0xff};
    CHECK_INT(ta_json_ascii_latin1(&out, latin, sizeof latin), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "\"~\\\"\\u001f\\u007f\\u0080\\u00ff\"");
    ta_buf_clear(&out);
    static const uint16_t ucs2[] = {'a', '\n', 0x7ff, 0x2028, 0xffff};
    CHECK_INT(ta_json_ascii_ucs2(&out, ucs2, TA_COUNTOF(ucs2)), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "\"a\\n\\u07ff\\u2028\\uffff\"");
    ta_buf_clear(&out);
    static const uint32_t ucs4[] = {'\\', 0x10000, 0x1f600, 0x10ffff};
    CHECK_INT(ta_json_ascii_ucs4(&out, ucs4, TA_COUNTOF(ucs4)), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "\"\\\\\\ud800\\udc00\\ud83d\\ude00\\udbff\\udfff\"");
    ta_buf_free(&out);
    uint32_t lone = 0xdfff;
    CHECK_INT(ta_json_ascii_ucs4(&out, &lone, 1), ==, TA_EBAD);
    ta_buf_free(&out);
}

TA_TEST(what_utf8_has_no_form_for)
{
    ta_buf out;
    ta_buf_init(&out);
    CHECK_INT(ta_buf_append(&out, "kept", 4), ==, TA_OK);
    uint16_t units[1500];
    for (size_t i = 0; i < TA_COUNTOF(units); i++)
        units[i] = 'x';
    static const uint16_t bad[] = {0xd800, 0xdbff, 0xdc00, 0xdfff};
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        units[1400] = bad[i]; /* in the second block: the first was written already */
        CHECK_INT(ta_json_string_ucs2(&out, units, TA_COUNTOF(units)), ==, TA_EBAD);
        CHECK_STR(ta_buf_str(&out), "kept");
    }
    uint32_t one = 0xd800;
    CHECK_INT(ta_json_string_ucs4(&out, &one, 1), ==, TA_EBAD);
    one = 0x110000;
    CHECK_INT(ta_json_string_ucs4(&out, &one, 1), ==, TA_EBAD);
    one = UINT32_MAX;
    CHECK_INT(ta_json_string_ucs4(&out, &one, 1), ==, TA_EBAD);
    CHECK_STR(ta_buf_str(&out), "kept");
    ta_buf_free(&out);
}

static void scenario(void)
{
    static uint8_t text[5000];
    memset(text, '"', sizeof text);
    ta_buf out;
    ta_buf_init(&out);
    if (ta_json_string_utf8(&out, "head", 4) == TA_OK) {
        size_t before = out.len;
        if (ta_json_string_utf8(&out, (const char *)text, sizeof text) != TA_OK)
            CHECK_INT(out.len, ==, before);
        before = out.len;
        if (ta_json_string_latin1(&out, text, sizeof text) != TA_OK)
            CHECK_INT(out.len, ==, before);
    }
    ta_buf_free(&out);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
    CHECK(true);
}
