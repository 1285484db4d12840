#include "base/buf.h"

#include "base/bufpool.h"
#include "base/mem.h"
#include "ta_failmalloc.h"
#include "ta_test.h"

TA_TEST(append_consume)
{
    ta_buf b;
    ta_buf_init(&b);
    CHECK(ta_buf_str(&b).ptr == NULL && ta_buf_str(&b).len == 0);
    CHECK_INT(ta_buf_append(&b, NULL, 0), ==, TA_OK);
    CHECK(b.data == NULL);
    CHECK_INT(ta_buf_append(&b, "hello ", 6), ==, TA_OK);
    CHECK_INT(ta_buf_append_str(&b, TA_STR("world")), ==, TA_OK);
    CHECK_STR(ta_buf_str(&b), "hello world");
    ta_buf_consume(&b, 6);
    CHECK_STR(ta_buf_str(&b), "world");
    ta_buf_consume(&b, 99); /* more than there is: all */
    CHECK_INT(b.len, ==, 0);
    CHECK_INT(b.off, ==, 0);
    CHECK(b.cap > 0);
    CHECK_INT(ta_buf_append(&b, "x", 1), ==, TA_OK);
    ta_buf_clear(&b);
    CHECK_INT(b.len, ==, 0);
    CHECK(b.data != NULL);
    ta_buf_free(&b);
    CHECK(b.data == NULL && b.cap == 0 && b.len == 0);
    ta_buf_free(&b);
}

/* What was consumed makes room: no allocation while the rest is small. */
TA_TEST(no_realloc_after_consume)
{
    ta_failmalloc f = {0};
    ta_failmalloc_start(&f);
    ta_buf b = {0};
    char piece[200];
    memset(piece, 'a', sizeof(piece));
    CHECK(ta_buf_reserve(&b, 256) != NULL);
    CHECK_INT(f.calls, ==, 1);
    for (int i = 0; i < 1000; i++) {
        piece[0] = (char)i;
        CHECK_INT(ta_buf_append(&b, piece, sizeof(piece)), ==, TA_OK);
        ta_buf_consume(&b, 150);
        CHECK_INT(ta_buf_append(&b, "tail", 4), ==, TA_OK);
        CHECK_MEM(b.data + b.off + b.len - 4, "tail", 4);
        ta_buf_consume(&b, 54);
        CHECK_INT(b.len, ==, 0);
    }
    CHECK_INT(f.calls, ==, 1);
    ta_buf_free(&b);
    CHECK_INT(f.live, ==, 0);
    ta_mem_set_hooks(NULL);
}

/* A big unread rest is not moved again and again for a small gap before it. */
TA_TEST(moves_are_amortised)
{
    ta_buf b = {0};
    enum { N = 1 << 16 };
    char *p = ta_buf_reserve(&b, N);
    CHECK(p != NULL);
    memset(p, 'x', N);
    ta_buf_commit(&b, b.cap);
    ta_buf_consume(&b, 8);
    size_t cap = b.cap;
    CHECK(ta_buf_reserve(&b, 8) != NULL);
    CHECK(b.cap > cap);
    CHECK_INT(b.off, ==, 0);
    CHECK_INT(b.len, ==, cap - 8);
    ta_buf_free(&b);
}

TA_TEST(reserve_keeps_contents)
{
    ta_buf b = {0};
    unsigned next_in = 0, next_out = 0, seed = 7;
    for (int round = 0; round < 3000; round++) {
        seed = seed * 1103515245u + 12345u;
        unsigned n = seed >> 16 & 1023, k = seed >> 3 & 1023;
        unsigned char *to = (unsigned char *)ta_buf_reserve(&b, n);
        CHECK(to != NULL);
        for (unsigned i = 0; i < n; i++)
            to[i] = (unsigned char)(next_in++ * 31 >> 2);
        ta_buf_commit(&b, n);
        if (k > b.len)
            k = (unsigned)b.len;
        for (unsigned i = 0; i < k; i++)
            if ((unsigned char)b.data[b.off + i] != (unsigned char)(next_out++ * 31 >> 2))
                FAIL("byte %u differs", next_out - 1);
        ta_buf_consume(&b, k);
    }
    CHECK_INT(b.len, ==, next_in - next_out);
    ta_buf_free(&b);
}

TA_TEST(impossible_sizes)
{
    ta_buf b = {0};
    CHECK(ta_buf_reserve(&b, SIZE_MAX) == NULL);
    CHECK(ta_buf_reserve(&b, (size_t)PTRDIFF_MAX + 1) == NULL);
    CHECK_INT(ta_buf_append(&b, "abc", 3), ==, TA_OK);
    CHECK(ta_buf_reserve(&b, SIZE_MAX - 1) == NULL);
    CHECK_STR(ta_buf_str(&b), "abc");
    ta_buf_free(&b);
}

TA_TEST(pool)
{
    ta_failmalloc f = {0};
    ta_failmalloc_start(&f);
    ta_bufpool pool;
    ta_bufpool_init(&pool, 4096, 2);
    ta_buf b[4] = {0};
    for (int i = 0; i < 4; i++) {
        CHECK_INT(ta_bufpool_take(&pool, &b[i]), ==, TA_OK);
        CHECK_INT(b[i].cap, ==, 4096);
        memset(b[i].data, i, 4096);
    }
    CHECK_INT(f.calls, ==, 4);
    char *kept = b[0].data;
    CHECK_INT(ta_bufpool_take(&pool, &b[0]), ==, TA_OK); /* has one: keeps it */
    CHECK(b[0].data == kept);
    for (int i = 0; i < 4; i++) {
        ta_bufpool_give(&pool, &b[i]);
        CHECK(b[i].data == NULL && b[i].cap == 0);
    }
    CHECK_INT(pool.count, ==, 2);
    CHECK_INT(f.live, ==, 2);
    CHECK_INT(ta_bufpool_take(&pool, &b[0]), ==, TA_OK);
    CHECK_INT(f.calls, ==, 4);
    CHECK(ta_buf_reserve(&b[0], 10000) != NULL); /* another size now: freed, not pooled */
    ta_bufpool_give(&pool, &b[0]);
    CHECK_INT(pool.count, ==, 1);
    ta_bufpool_give(&pool, &b[1]); /* empty: no-op */
    ta_bufpool_free(&pool);
    CHECK_INT(f.live, ==, 0);
    ta_mem_set_hooks(NULL);
}

static void no_memory_scenario(void)
{
    ta_buf b = {0}, c = {0};
    ta_bufpool pool;
    ta_bufpool_init(&pool, 512, 4);
    size_t done = 0;
    for (int i = 0; i < 20; i++) {
        if (ta_buf_append(&b, "0123456789012345678901234567890123456789", 40) == TA_OK)
            done += 40;
        if (b.len != done)
            FAIL("a failed append changed the buffer");
        if (i % 7 == 6) {
            ta_buf_consume(&b, 10);
            done -= TA_MIN(done, 10);
        }
    }
    if (ta_bufpool_take(&pool, &c) == TA_OK)
        ta_bufpool_give(&pool, &c);
    else if (c.data)
        FAIL("a failed take left memory");
    ta_buf_free(&b);
    ta_bufpool_free(&pool);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(no_memory_scenario);
}
