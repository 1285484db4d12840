/* permessage-deflate: there and back, the examples of RFC 7692, limits at their edges. */
#include "http/ws/deflate.h"

#include "ta_failmalloc.h"
#include "ta_test.h"

static const ta_ws_deflate_params plain = {.on = true, .server_bits = 12, .client_bits = 15};

static int inflate_all(ta_ws_deflate *z, ta_str packed, size_t step, uint64_t max, ta_buf *out)
{
    size_t at = 0;
    do {
        size_t n = TA_MIN(step, packed.len - at);
        char *piece = malloc(n + 1);
        memcpy(piece, packed.ptr + at, n);
        at += n;
        int rc = ta_ws_inflate_piece(z, ta_str_of(piece, n), at == packed.len, max, out);
        free(piece);
        if (rc != TA_OK)
            return rc;
    } while (at < packed.len);
    return TA_OK;
}

/* Unpacks with a fresh stream; in pieces of every size it must give the same. */
static int unpack(ta_str packed, uint64_t max, const char *want)
{
    int first = TA_OK;
    for (size_t step = 1; step < 12; step++) {
        ta_ws_deflate *z = ta_ws_deflate_new(&plain);
        ta_buf out = {0};
        int rc = inflate_all(z, packed, step, max, &out);
        if (step == 1)
            first = rc;
        CHECK_INT(rc, ==, first);
        if (rc == TA_OK && want)
            CHECK_STR(ta_buf_str(&out), want);
        ta_buf_free(&out);
        ta_ws_deflate_free(z);
    }
    return first;
}

TA_TEST(examples_of_the_rfc)
{
    /* 7.2.3.1, .3, .4, .5 and .6 */
    CHECK_INT(unpack(TA_STR("\xf2\x48\xcd\xc9\xc9\x07\x00"), 0, "Hello"), ==, TA_OK);
    CHECK_INT(unpack(ta_str_of("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11), 0, "Hello"), ==,
              TA_OK);
    CHECK_INT(unpack(ta_str_of("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8), 0, "Hello"), ==, TA_OK);
    CHECK_INT(
        unpack(ta_str_of("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13), 0, "Hello"),
        ==, TA_OK);
    CHECK_INT(unpack(ta_str_of("\x00", 1), 0, ""), ==, TA_OK);
}

TA_TEST(context_is_taken_over)
{
    /* 7.2.3.2: the second message refers to the first */
    ta_ws_deflate *z = ta_ws_deflate_new(&plain);
    ta_buf out = {0};
    CHECK_INT(inflate_all(z, TA_STR("\xf2\x48\xcd\xc9\xc9\x07\x00"), 99, 0, &out), ==, TA_OK);
    ta_buf_clear(&out);
    CHECK_INT(inflate_all(z, ta_str_of("\xf2\x00\x11\x00\x00", 5), 99, 0, &out), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "Hello");
    ta_buf_free(&out);
    ta_ws_deflate_free(z);
}

TA_TEST(context_survives_a_last_block)
{
    ta_ws_deflate *z = ta_ws_deflate_new(&plain);
    ta_buf out = {0};
    CHECK_INT(inflate_all(z, ta_str_of("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8), 99, 0, &out), ==,
              TA_OK);
    ta_buf_clear(&out);
    CHECK_INT(inflate_all(z, ta_str_of("\xf2\x00\x11\x00\x00", 5), 99, 0, &out), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out), "Hello");
    ta_buf_free(&out);
    ta_ws_deflate_free(z);
}

TA_TEST(no_context)
{
    ta_ws_deflate_params params = plain;
    params.client_no_context = params.server_no_context = true;
    ta_ws_deflate *z = ta_ws_deflate_new(&params);
    ta_buf out = {0}, one = {0}, two = {0};
    CHECK_INT(inflate_all(z, TA_STR("\xf2\x48\xcd\xc9\xc9\x07\x00"), 99, 0, &out), ==, TA_OK);
    CHECK_INT(inflate_all(z, ta_str_of("\xf2\x00\x11\x00\x00", 5), 99, 0, &out), ==, TA_EBAD);
    CHECK_INT(ta_ws_deflate_message(z, TA_STR("the same text twice"), &one), ==, TA_OK);
    CHECK_INT(ta_ws_deflate_message(z, TA_STR("the same text twice"), &two), ==, TA_OK);
    CHECK(ta_str_eq(ta_buf_str(&one), ta_buf_str(&two)));
    ta_buf_free(&out);
    ta_buf_free(&one);
    ta_buf_free(&two);
    ta_ws_deflate_free(z);
}

TA_TEST(garbage)
{
    CHECK_INT(unpack(TA_STR("\xff\xff\xff\xff"), 0, NULL), ==, TA_EBAD);
    CHECK_INT(unpack(TA_STR("\x06"), 0, NULL), ==, TA_EBAD);
    /* It ends within a block. */
    CHECK_INT(unpack(TA_STR("\xf2\x48\xcd"), 0, NULL), ==, TA_EBAD);
    CHECK_INT(unpack(ta_str_of("\x00\x06\x00\xf9\xff\x48", 6), 0, NULL), ==, TA_EBAD);
}

/* A message that only this test's own packer makes: `n` times 'a'. */
static void bomb(size_t n, ta_buf *packed)
{
    ta_ws_deflate *z = ta_ws_deflate_new(&plain);
    char *text = malloc(n + 1);
    memset(text, 'a', n);
    CHECK_INT(ta_ws_deflate_message(z, ta_str_of(text, n), packed), ==, TA_OK);
    free(text);
    ta_ws_deflate_free(z);
}

TA_TEST(limit_at_its_edge)
{
    static const size_t sizes[] = {1, 100, 8191, 8192, 8193, 100000};
    for (size_t i = 0; i < TA_COUNTOF(sizes); i++) {
        ta_buf packed = {0};
        bomb(sizes[i], &packed);
        CHECK_INT(unpack(ta_buf_str(&packed), sizes[i], NULL), ==, TA_OK);
        CHECK_INT(unpack(ta_buf_str(&packed), sizes[i] + 1, NULL), ==, TA_OK);
        if (sizes[i] > 1)
            CHECK_INT(unpack(ta_buf_str(&packed), sizes[i] - 1, NULL), ==, TA_ETOOLARGE);
        ta_buf_free(&packed);
    }
}

TA_TEST(a_bomb_takes_no_memory)
{
    ta_buf packed = {0}, out = {0};
    bomb(20u << 20, &packed);
    CHECK_INT(packed.len, <, 100000);
    ta_ws_deflate *z = ta_ws_deflate_new(&plain);
    CHECK_INT(inflate_all(z, ta_buf_str(&packed), SIZE_MAX, 1000, &out), ==, TA_ETOOLARGE);
    CHECK_INT(out.cap, <, 20000);
    ta_ws_deflate_free(z);
    ta_buf_free(&packed);
    ta_buf_free(&out);
}

/* Random text with repetitions. */
static void fill(char *text, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        text[i] = i > 50 && (seed >> 16) % 8 ? text[i - 37] : (char)(seed >> 20);
    }
}

TA_TEST(there_and_back)
{
    static const size_t sizes[] = {0, 1, 3, 200, 5000, 70000, 0, 40000, 17, 1500000};
    static char text[1500000];
    for (uint8_t bits = 9; bits <= 15; bits += 3) {
        ta_ws_deflate_params params = {.on = true, .server_bits = bits, .client_bits = bits};
        for (unsigned mode = 0; mode < 2; mode++) {
            params.server_no_context = params.client_no_context = mode;
            ta_ws_deflate *z = ta_ws_deflate_new(&params), *peer = ta_ws_deflate_new(&params);
            for (size_t i = 0; i < TA_COUNTOF(sizes); i++) {
                ta_buf packed = {0}, out = {0};
                fill(text, sizes[i], (unsigned)i * 7 + bits);
                CHECK_INT(ta_ws_deflate_message(z, ta_str_of(text, sizes[i]), &packed), ==, TA_OK);
                CHECK_INT(packed.len, >, 0);
                CHECK_INT(inflate_all(peer, ta_buf_str(&packed), 1 + i * 1000, 0, &out), ==, TA_OK);
                CHECK_INT(out.len, ==, sizes[i]);
                if (out.len)
                    CHECK_MEM(out.data + out.off, text, sizes[i]);
                ta_buf_free(&packed);
                ta_buf_free(&out);
            }
            ta_ws_deflate_free(z);
            ta_ws_deflate_free(peer);
        }
    }
}

static void one_message(void)
{
    ta_buf packed = {0}, out = {0};
    ta_ws_deflate *z = ta_ws_deflate_new(&plain);
    int rc = z ? ta_ws_deflate_message(z, TA_STR("some text, some text"), &packed) : TA_ENOMEM;
    if (rc == TA_OK)
        rc = ta_ws_inflate_piece(z, ta_buf_str(&packed), true, 0, &out);
    CHECK(rc == TA_OK || rc == TA_ENOMEM);
    ta_ws_deflate_free(z);
    ta_buf_free(&packed);
    ta_buf_free(&out);
}

TA_TEST(out_of_memory)
{
    ta_failmalloc_all(one_message);
}
