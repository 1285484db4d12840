#include "base/blocks.h"

#include "ta_failmalloc.h"
#include "ta_test.h"

TA_TEST(blocks_are_used_again)
{
    ta_failmalloc f = {0};
    ta_blocks blocks;
    ta_failmalloc_start(&f);
    ta_blocks_init(&blocks, 4096);
    char *a = ta_blocks_take(&blocks, 100), *b = ta_blocks_take(&blocks, 0);
    CHECK(a && b);
    CHECK_INT((uintptr_t)a % _Alignof(max_align_t), ==, 0);
    CHECK_INT((uintptr_t)b % _Alignof(max_align_t), ==, 0);
    memset(a, 'a', 128); /* all of what it was rounded up to */
    memset(b, 'b', 32);
    ta_blocks_give(&blocks, a);
    ta_blocks_give(&blocks, b);
    ta_blocks_give(&blocks, NULL);
    CHECK_INT(blocks.kept, ==, 160);
    CHECK_INT(f.calls, ==, 2);
    CHECK(ta_blocks_take(&blocks, 97) == a);
    char *other = ta_blocks_take(&blocks, 96);
    CHECK(other && other != a && other != b);
    CHECK(ta_blocks_take(&blocks, 32) == b);
    CHECK_INT(f.calls, ==, 3);
    CHECK_INT(blocks.kept, ==, 0);
    ta_blocks_give(&blocks, other);
    ta_blocks_free(&blocks);
    CHECK_INT(blocks.kept, ==, 0);
    CHECK_INT(f.live, ==, 2);
    ta_blocks_give(&blocks, a); /* late, and kept again */
    ta_blocks_give(&blocks, b);
    CHECK_INT(blocks.kept, ==, 160);
    ta_blocks_free(&blocks);
    CHECK_INT(f.live, ==, 0);
    ta_mem_set_hooks(NULL);
}

TA_TEST(no_more_is_kept_than_the_limit)
{
    ta_failmalloc f = {0};
    ta_blocks blocks;
    void *b[5];
    ta_failmalloc_start(&f);
    ta_blocks_init(&blocks, 4 * 64);
    for (int i = 0; i < 5; i++)
        CHECK((b[i] = ta_blocks_take(&blocks, 64)) != NULL);
    for (int i = 0; i < 5; i++)
        ta_blocks_give(&blocks, b[i]);
    CHECK_INT(blocks.kept, ==, 256);
    CHECK_INT(f.live, ==, 4);
    void *most = ta_blocks_take(&blocks, TA_BLOCKS_LARGE);
    void *large = ta_blocks_take(&blocks, TA_BLOCKS_LARGE + 1);
    CHECK(most && large);
    ta_blocks_give(&blocks, most);
    ta_blocks_give(&blocks, large);
    CHECK_INT(f.live, ==, 4);
    ta_blocks_free(&blocks);
    CHECK_INT(f.live, ==, 0);
    ta_mem_set_hooks(NULL);
}

static void resizing(void)
{
    static const size_t sizes[] = {10, 32, 33, 1024, 1025, 5000, 10, 1};
    ta_blocks blocks;
    ta_blocks_init(&blocks, 4096);
    char *p = NULL;
    size_t before = 0;
    for (size_t i = 0; i < TA_COUNTOF(sizes); i++) {
        char *to = ta_blocks_resize(&blocks, p, sizes[i]);
        if (!to)
            break;
        p = to;
        for (size_t k = 0; k < TA_MIN(before, sizes[i]); k++)
            if (p[k] != 'x')
                FAIL("byte %zu is lost", k);
        memset(p, 'x', sizes[i]);
        before = sizes[i];
    }
    volatile size_t huge = SIZE_MAX;
    CHECK(ta_blocks_take(&blocks, huge) == NULL);
    CHECK(!p || ta_blocks_resize(&blocks, p, huge) == NULL);
    ta_blocks_give(&blocks, p);
    ta_blocks_free(&blocks);
}

TA_TEST(resize)
{
    resizing();
    ta_failmalloc_all(resizing);
}
