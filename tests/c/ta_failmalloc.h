/*
 * ta_failmalloc.h -- makes the n-th allocation of a piece of code fail, for each n in turn.
 *
 *     static void scenario(void) { ... must neither crash nor leak when allocations fail ... }
 *     TA_TEST(no_memory) { ta_failmalloc_all(scenario); }
 */
#ifndef TA_FAILMALLOC_H
#define TA_FAILMALLOC_H

#include <stdlib.h>

#include "base/mem.h"
#include "ta_test.h"

typedef struct ta_failmalloc {
    unsigned long calls;   /* allocations asked for */
    unsigned long fail_at; /* number of the first that fails, from 1; 0: none */
    bool and_after;        /* so do all later ones */
    long live;             /* allocated and not freed */
} ta_failmalloc;

static bool ta_failmalloc_now(ta_failmalloc *f)
{
    f->calls++;
    return f->fail_at && (f->calls == f->fail_at || (f->and_after && f->calls > f->fail_at));
}

static void *ta_failmalloc_malloc(void *ctx, size_t size)
{
    ta_failmalloc *f = ctx;
    if (ta_failmalloc_now(f))
        return NULL;
    void *ptr = malloc(size);
    f->live += ptr != NULL;
    return ptr;
}

static void *ta_failmalloc_realloc(void *ctx, void *old, size_t size)
{
    ta_failmalloc *f = ctx;
    if (ta_failmalloc_now(f))
        return NULL;
    void *ptr = realloc(old, size);
    f->live += ptr != NULL && old == NULL;
    return ptr;
}

static void ta_failmalloc_free(void *ctx, void *ptr)
{
    ta_failmalloc *f = ctx;
    f->live--;
    free(ptr);
}

/* Counts (and fails, when fail_at is set) until ta_mem_set_hooks(NULL). */
TA_UNUSED static void ta_failmalloc_start(ta_failmalloc *f)
{
    f->calls = 0;
    f->live = 0;
    ta_mem_set_hooks(
        &(ta_mem_hooks){ta_failmalloc_malloc, ta_failmalloc_realloc, ta_failmalloc_free, f});
}

/* Runs `scenario` with the 1st, 2nd, ... allocation failing -- alone, then with all after it --
 * until it makes fewer; each time all it allocated must have been freed. */
TA_UNUSED static void ta_failmalloc_all(void (*scenario)(void))
{
    for (int and_after = 0; and_after < 2; and_after++) {
        for (unsigned long n = 1;; n++) {
            ta_failmalloc f = {.fail_at = n, .and_after = and_after};
            ta_failmalloc_start(&f);
            scenario();
            ta_mem_set_hooks(NULL);
            if (f.live != 0)
                FAIL("allocation %lu failing%s: %ld leaked", n, and_after ? " (and all later)" : "",
                     f.live);
            CHECK_INT(n, <, 100000);
            if (f.calls < n)
                break;
        }
    }
}

#endif
