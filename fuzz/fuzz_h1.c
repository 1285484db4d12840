/*
 * fuzz_h1.c -- the head parser: whole against in pieces, and what must hold of every head that it
 * accepts.
 *
 * Input: one byte (low half: size of the pieces; high half: which limits), then the request.
 */
#include "fuzz.h"

#include "http/h1/parse.h"
#include "http/headers.h"
#include "http/url.h"

static bool within(ta_str s, const char *base, size_t len)
{
    return s.ptr >= base && s.ptr + s.len <= base + len;
}

static unsigned count(const ta_h1_head *h, const char *name)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < h->nheaders; i++)
        n += ta_str_eq(h->headers[i].name, ta_str_of(name, strlen(name)));
    return n;
}

static void check_accepted(const ta_h1_head *h, const char *base, size_t len)
{
    REQUIRE(h->len <= len);
    /* lines end with CRLF and nothing else; no NUL anywhere */
    for (size_t i = 0; i < h->len; i++) {
        REQUIRE(base[i] != 0);
        if (base[i] == '\r')
            REQUIRE(i + 1 < h->len && base[i + 1] == '\n');
        if (base[i] == '\n')
            REQUIRE(i > 0 && base[i - 1] == '\r');
    }
    REQUIRE(memcmp(base + h->len - 4, "\r\n\r\n", 4) == 0);
    REQUIRE(within(h->method, base, h->len) && ta_is_token(h->method));
    REQUIRE(within(h->target, base, h->len) && h->target.len);
    REQUIRE(h->raw_path.len && (h->raw_path.ptr[0] == '/' || ta_str_eq(h->raw_path, TA_STR("*"))));
    REQUIRE(h->version_minor <= 1);
    unsigned lengths = count(h, "content-length"), codings = count(h, "transfer-encoding");
    REQUIRE(count(h, "host") <= 1 && (h->version_minor == 0 || count(h, "host") == 1));
    REQUIRE(lengths <= 1 && !(lengths && codings));
    REQUIRE((lengths == 1) == (h->content_length >= 0));
    REQUIRE((codings > 0) == h->chunked);
    REQUIRE(!h->chunked || h->version_minor == 1);
    REQUIRE(!h->expect_continue || h->chunked || h->content_length > 0);
    for (uint32_t i = 0; i < h->nheaders; i++) {
        ta_str name = h->headers[i].name, value = h->headers[i].value;
        REQUIRE(ta_is_token(name) && ta_is_field_value(value));
        for (size_t k = 0; k < name.len; k++)
            REQUIRE(name.ptr[k] == ta_ascii_lower(name.ptr[k]));
        REQUIRE(ta_str_eq(ta_str_trim(value), value));
    }
    if (h->limits->header_count)
        REQUIRE(h->nheaders <= h->limits->header_count + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ta_http_limits settings[] = {
        {.request_line = 8190, .header_bytes = 65536, .header_count = 100},
        {.request_line = 40, .header_bytes = 80, .header_count = 3, .body_bytes = 1000},
        {0},
    };
    if (size < 1)
        return 0;
    size_t step = (data[0] & 15) + 1;
    const ta_http_limits *limits = &settings[(data[0] >> 4) % TA_COUNTOF(settings)];
    size_t len = size - 1;

    ta_h1_head whole, parts;
    ta_h1_head_init(&whole, limits);
    ta_h1_head_init(&parts, limits);
    char *text = malloc(len ? len : 1);
    memcpy(text, data + 1, len);
    int rc = ta_h1_head_parse(&whole, text, len);
    if (rc == TA_OK)
        check_accepted(&whole, text, len);
    else if (rc != TA_AGAIN)
        REQUIRE(whole.status >= 400 && whole.status <= 505 && whole.reason);

    /* the same in pieces, each time in other memory */
    char *last = NULL;
    size_t last_len = 0;
    int prc = TA_AGAIN;
    while (prc == TA_AGAIN && last_len < len) {
        size_t n = last_len + step < len ? last_len + step : len;
        char *piece = malloc(n);
        memcpy(piece, data + 1, n);
        if (last)
            memcpy(piece, last, last_len);
        free(last);
        last = piece;
        last_len = n;
        prc = ta_h1_head_parse(&parts, piece, n);
    }
    if (prc == TA_AGAIN && rc != TA_OK && rc != TA_AGAIN && len) {
        /* In pieces, what is wrong with a line may be found only when its end is here. */
        char *piece = malloc(len + 1);
        memcpy(piece, last, len);
        piece[len] = '\n';
        free(last);
        last = piece;
        prc = ta_h1_head_parse(&parts, piece, len + 1);
        REQUIRE(prc != TA_OK && prc != TA_AGAIN);
    } else if (len) {
        REQUIRE(prc == rc);
        if (rc == TA_OK) {
            REQUIRE(parts.len == whole.len && parts.nheaders == whole.nheaders);
            REQUIRE(parts.content_length == whole.content_length);
            REQUIRE(parts.keep_alive == whole.keep_alive && parts.upgrade == whole.upgrade);
            REQUIRE(ta_str_eq(parts.raw_path, whole.raw_path));
            REQUIRE(ta_str_eq(parts.query, whole.query));
            for (uint32_t i = 0; i < whole.nheaders; i++) {
                REQUIRE(ta_str_eq(parts.headers[i].name, whole.headers[i].name));
                REQUIRE(ta_str_eq(parts.headers[i].value, whole.headers[i].value));
            }
        } else if (rc != TA_AGAIN) {
            REQUIRE(parts.status == whole.status);
        }
    }
    free(last);
    free(text);
    ta_h1_head_free(&whole);
    ta_h1_head_free(&parts);
    return 0;
}
