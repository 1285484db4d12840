/* Limits at their edge and the two ways to call; the golden cases have the grammar. */
#include "http/h1/chunk.h"

#include "decode_all.h"
#include "ta_test.h"

static const ta_http_limits defaults = {.chunk_ext_bytes = 64, .trailer_bytes = 20};

/* Decodes in pieces of `step`; gathers the body in out. */
static int decode(const ta_http_limits *limits, ta_str in, size_t step, char *out, size_t *out_len,
                  size_t *consumed)
{
    ta_h1_chunk c;
    ta_h1_chunk_init(&c, limits);
    int rc = TA_AGAIN;
    size_t at = 0;
    *out_len = 0;
    while (rc == TA_AGAIN && at < in.len) {
        size_t n = TA_MIN(step, in.len - at), used, body;
        char *piece = malloc(n);
        memcpy(piece, in.ptr + at, n);
        rc = decode_all(&c, piece, n, &used, &body);
        CHECK_INT(body, <=, used);
        CHECK(rc != TA_AGAIN || used == n);
        memcpy(out + *out_len, piece, body);
        *out_len += body;
        at += used;
        free(piece);
    }
    CHECK_INT(c.total, ==, *out_len);
    CHECK_INT(c.reason != NULL, ==, rc != TA_OK && rc != TA_AGAIN);
    *consumed = at;
    return rc;
}

static int outcome(const ta_http_limits *limits, const char *text, const char *body)
{
    char out[4096];
    size_t n, used, used1;
    ta_str in = {text, strlen(text)};
    int rc = decode(limits, in, SIZE_MAX, out, &n, &used);
    if (body)
        CHECK_STR(ta_str_of(out, n), body);
    for (size_t step = 1; step < 9; step++) {
        CHECK_INT(decode(limits, in, step, out, &n, &used1), ==, rc);
        CHECK_INT(used1, ==, used);
        if (body)
            CHECK_STR(ta_str_of(out, n), body);
    }
    if (rc == TA_OK && used < in.len)
        CHECK_STR(ta_str_of(text + used, in.len - used), "NEXT");
    return rc;
}

TA_TEST(decodes)
{
    CHECK_INT(outcome(&defaults, "0\r\n\r\n", ""), ==, TA_OK);
    CHECK_INT(outcome(&defaults, "5\r\nhello\r\n0\r\n\r\nNEXT", "hello"), ==, TA_OK);
    CHECK_INT(
        outcome(&defaults, "5\r\nhello\r\n00A\r\n0123456789\r\n000\r\n\r\nNEXT", "hello0123456789"),
        ==, TA_OK);
    CHECK_INT(outcome(&defaults, "2;a=b;c=\"d\\\"e\";f\r\nab\r\n0;x\r\nt: v\r\n\r\nNEXT", "ab"), ==,
              TA_OK);
    CHECK_INT(outcome(&defaults, "5\r\nhel", "hel"), ==, TA_AGAIN);
    CHECK_INT(outcome(&defaults, "5\r\nhello\r\n0\r\n", "hello"), ==, TA_AGAIN);
    CHECK_INT(outcome(&defaults, "2\r\n\r\n\r\n0\r\n\r\n", "\r\n"), ==, TA_OK);
}

TA_TEST(refuses)
{
    static const char *const bad[] = {
        "\r\n",
        "g\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\n",
        "5\rx",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\n",
        ";a\r\n",
        "5;\r\n",
        "5; \r\n",
        "5 x\r\n",
        "5;a \r\n",
        "5;a= \r\n",
        "5;a=b \r\n",
        "5;a=\"b\" \r\n",
        "5;a \"b\"\r\n",
        "5;a=\r\n",
        "5;=b\r\n",
        "5;a=b c\r\n",
        "5;a=\"b\r\n",
        "5;a=\"b\\\r\n",
        "5;a=\"b\"c\r\n",
        "5;a b\r\n",
        "5;a\n",
        "5;a=\"\x01\"\r\n",
        "5;a=\x80\r\n",
        "2\r\nabc",
        "2\r\nab\n",
        "2\r\nab\rx",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\n: v\r\n",
        "0\r\n folded\r\n",
        "0\r\na : v\r\n",
        "0\r\na\r\n",
        "0\r\na: v\n",
        "0\r\na: v\rx",
        "0\r\na: \x01\r\n",
        "0\r\na: b\r\n c\r\n",
        "8000000000000000\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "00000000000000008000000000000000\r\n",
    };
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        if (outcome(&defaults, bad[i], NULL) != TA_EBAD)
            FAIL("not refused: %s", bad[i]);
    }
    CHECK_INT(outcome(&defaults, "7fffffffffffffff\r\nabc", "abc"), ==, TA_AGAIN);
}

TA_TEST(line_limit)
{
    ta_http_limits limits = {.chunk_ext_bytes = 10};
    CHECK_INT(outcome(&limits, "1;abcdef\r\nx\r\n0\r\n\r\n", "x"), ==, TA_OK);
    CHECK_INT(outcome(&limits, "1;abcdefg\r\nx\r\n0\r\n\r\n", ""), ==, TA_ETOOLARGE);
    CHECK_INT(outcome(&limits, "0000000001\r\n", ""), ==, TA_ETOOLARGE);
    CHECK_INT(outcome(&limits, "00000001\r\nx\r\n0\r\n\r\n", "x"), ==, TA_OK);
    limits.chunk_ext_bytes = 0;
    CHECK_INT(outcome(&limits, "1;abcdefghijklmnopqrstuvwxyz\r\nx\r\n0\r\n\r\n", "x"), ==, TA_OK);
}

/* Many lines, each within its limit, each with one byte of body. */
TA_TEST(overhead_of_all_lines)
{
    ta_http_limits limits = {.chunk_ext_bytes = 100};
    char text[8192];
    for (int lines = 1; lines < 60; lines++) {
        size_t n = 0;
        for (int i = 0; i < lines; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "1;%080d\r\nx\r\n", 0);
        snprintf(text + n, sizeof text - n, "0\r\n\r\n");
        /* a line has 84 bytes, 18 are free: 66 count; 1,600 are allowed in all */
        CHECK_INT(outcome(&limits, text, NULL), ==, lines * 66 <= 1600 ? TA_OK : TA_ETOOLARGE);
    }
}

TA_TEST(trailer_limit)
{
    /* 20 bytes of fields are allowed, CRLFs included */
    CHECK_INT(outcome(&defaults, "0\r\na: 456789012345678\r\n\r\n", ""), ==, TA_OK);
    CHECK_INT(outcome(&defaults, "0\r\na: 4567890123456789\r\n\r\n", ""), ==, TA_ETOOLARGE);
    CHECK_INT(outcome(&defaults, "0\r\na: 456\r\nb: 2345678\r\n\r\n", ""), ==, TA_OK);
    CHECK_INT(outcome(&defaults, "0\r\na: 456\r\nb: 23456789\r\n\r\n", ""), ==, TA_ETOOLARGE);
}
