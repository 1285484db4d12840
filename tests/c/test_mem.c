#include "base/mem.h"

#include "base/err.h"
#include "base/log.h"
#include "ta_failmalloc.h"
#include "ta_test.h"

TA_TEST(alloc)
{
    void *p = ta_malloc(0), *q = ta_malloc(0);
    CHECK(p && q && p != q);
    ta_free(p);
    ta_free(q);
    ta_free(NULL);
    unsigned char *z = ta_calloc(10, 10);
    CHECK(z != NULL);
    for (int i = 0; i < 100; i++)
        CHECK(z[i] == 0);
    z = ta_realloc(z, 1000);
    CHECK(z && z[99] == 0);
    ta_free(z);
    volatile size_t huge = SIZE_MAX / 2;
    CHECK(ta_calloc(huge, 3) == NULL);
}

TA_TEST(arena_pieces)
{
    ta_arena a;
    ta_arena_init(&a, 1024);
    char *pieces[200];
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 200; i++) {
            size_t n = i % 7 == 0 ? 3000 : i % 50;
            pieces[i] = ta_arena_alloc(&a, n);
            CHECK(pieces[i] != NULL);
            CHECK_INT((uintptr_t)pieces[i] % _Alignof(max_align_t), ==, 0);
            memset(pieces[i], (int)i, n);
        }
        for (unsigned i = 0; i < 200; i++) {
            size_t n = i % 7 == 0 ? 3000 : i % 50;
            for (size_t k = 0; k < n; k++)
                if (pieces[i][k] != (char)i)
                    FAIL("piece %u overwritten", i);
        }
        ta_arena_free(&a);
    }
    char *s = ta_arena_strndup(&a, "text", 4); /* usable again */
    CHECK(s && strcmp(s, "text") == 0);
    ta_arena_free(&a);
    volatile size_t huge = SIZE_MAX;
    CHECK(ta_arena_alloc(&a, huge) == NULL);
    CHECK(ta_arena_alloc(&a, huge - 64) == NULL);
    ta_arena_free(&a);
}

TA_TEST(arena_blocks)
{
    ta_failmalloc f = {0};
    ta_failmalloc_start(&f);
    ta_arena a = {0}; /* zeroed: valid */
    for (int k = 0; k < 20; k++)
        CHECK(ta_arena_alloc(&a, 100) != NULL);
    CHECK_INT(f.calls, ==, 1);
    /* a big piece has a block of its own, and the ordinary one stays in use */
    CHECK(ta_arena_alloc(&a, 100000) != NULL);
    CHECK(ta_arena_alloc(&a, 100) != NULL);
    CHECK_INT(f.calls, ==, 2);
    ta_arena_free(&a);
    CHECK_INT(f.live, ==, 0);
    ta_mem_set_hooks(NULL);
}

static void arena_scenario(void)
{
    ta_arena a = {.block_size = 256};
    for (int round = 0; round < 2; round++) {
        for (size_t n = 1; n < 1000; n += 90) {
            char *p = ta_arena_alloc(&a, n);
            if (p)
                memset(p, 1, n);
        }
        ta_arena_free(&a);
    }
}

TA_TEST(arena_no_memory)
{
    ta_failmalloc_all(arena_scenario);
}

TA_TEST(err_texts)
{
    for (int e = TA_EUPCALL; e <= 0; e++)
        CHECK(strcmp(ta_err_text(e), "unknown error") != 0);
    CHECK(strcmp(ta_err_text(-1000), "unknown error") == 0);
    CHECK(strcmp(ta_err_text(7), "success") == 0);
}

static char last_line[2000];
static int lines;

static void sink(void *ctx, ta_log_level level, ta_str line)
{
    CHECK(ctx == &lines);
    CHECK_INT(level, ==, TA_LOG_WARNING);
    memcpy(last_line, line.ptr, line.len);
    last_line[line.len] = 0;
    lines++;
}

TA_TEST(log_lines)
{
    ta_log log = {.level = TA_LOG_WARNING, .write = sink, .ctx = &lines};
    CHECK(ta_log_on(&log, TA_LOG_ERROR) && !ta_log_on(&log, TA_LOG_INFO));
    CHECK(!ta_log_on(NULL, TA_LOG_ERROR) && !ta_log_on(&(ta_log){0}, TA_LOG_ERROR));
    ta_log_printf(&log, TA_LOG_INFO, "no");
    CHECK_INT(lines, ==, 0);
    ta_log_printf(&log, TA_LOG_WARNING, "a\r\nb\x1b[2J%d\x7f", 5);
    CHECK_INT(lines, ==, 1);
    CHECK(strcmp(last_line, "a\\x0d\\x0ab\\x1b[2J5\\x7f") == 0);
    char big[3000];
    memset(big, '\n', sizeof(big));
    ta_log_printf(&log, TA_LOG_WARNING, "%.*s", (int)sizeof(big), big);
    CHECK_INT(strlen(last_line), ==, 1020);
    memset(big, 'x', sizeof(big));
    ta_log_printf(&log, TA_LOG_WARNING, "%.*s", (int)sizeof(big), big);
    CHECK_INT(strlen(last_line), ==, 1023);
}
