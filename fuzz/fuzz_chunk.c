/*
 * fuzz_chunk.c -- the chunked decoder: whole, in pieces, and against a plain reading of accepted
 * bodies.
 *
 * Input: one byte (low half: size of the pieces; bit 4: small limits), then the body.
 */
#include "fuzz.h"

#include "http/h1/chunk.h"

#include "../tests/c/decode_all.h"

/* Decodes `len` bytes that were accepted, by the book; the result must be `body`. */
static void check_accepted(const char *p, size_t len, const char *body, size_t body_len)
{
    const char *end = p + len;
    size_t done = 0;
    for (;;) {
        size_t n = 0;
        while (p < end && *p != ';' && *p != '\r' && *p != ' ' && *p != '\t') {
            n = n * 16 + (size_t)(*p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10);
            p++;
        }
        bool spaces = p < end && (*p == ' ' || *p == '\t');
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        REQUIRE(!spaces || (p < end && *p == ';'));
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        REQUIRE(nl && nl[-1] == '\r');
        p = nl + 1;
        if (!n)
            break;
        REQUIRE(n <= (size_t)(end - p) && n <= body_len - done);
        REQUIRE(memcmp(body + done, p, n) == 0);
        done += n;
        p += n;
        REQUIRE(end - p >= 2 && p[0] == '\r' && p[1] == '\n');
        p += 2;
    }
    REQUIRE(done == body_len);
    while (!(end - p == 2 && p[0] == '\r' && p[1] == '\n')) { /* trailer lines */
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        REQUIRE(nl && nl > p + 1 && nl[-1] == '\r' && memchr(p, ':', (size_t)(nl - p)));
        p = nl + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ta_http_limits settings[] = {
        {.chunk_ext_bytes = 4096, .trailer_bytes = 8192},
        {.chunk_ext_bytes = 12, .trailer_bytes = 16},
    };
    if (size < 1)
        return 0;
    size_t step = (data[0] & 15) + 1, len = size - 1;
    const ta_http_limits *limits = &settings[data[0] >> 4 & 1];
    const char *text = (const char *)data + 1;

    ta_h1_chunk whole, parts;
    ta_h1_chunk_init(&whole, limits);
    ta_h1_chunk_init(&parts, limits);
    char *a = malloc(len ? len : 1), *b = malloc(len ? len : 1);
    size_t used = 0, body = 0;
    memcpy(a, text, len);
    int rc = decode_all(&whole, a, len, &used, &body);
    REQUIRE(used <= len && body <= used && whole.total == body);
    REQUIRE(rc != TA_AGAIN || used == len);
    REQUIRE(rc == TA_OK || rc == TA_AGAIN ||
            (whole.reason && (rc == TA_EBAD || rc == TA_ETOOLARGE)));
    if (rc == TA_OK)
        check_accepted(text, used, a, body);

    size_t at = 0, out = 0;
    int prc = TA_AGAIN;
    while (prc == TA_AGAIN && at < len) {
        size_t n = step < len - at ? step : len - at, k, m;
        char *piece = malloc(n);
        memcpy(piece, text + at, n);
        prc = decode_all(&parts, piece, n, &k, &m);
        memcpy(b + out, piece, m);
        free(piece);
        out += m;
        at += k;
    }
    REQUIRE(prc == rc && at == used && out == body && memcmp(a, b, out) == 0);
    free(a);
    free(b);
    return 0;
}
