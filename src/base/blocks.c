#include "base/blocks.h"

#include "base/mem.h"

#ifdef __SANITIZE_ADDRESS__ /* spare ones count as freed, and are only used again late */
#include <sanitizer/asan_interface.h>
#define HIDE(block, n) ASAN_POISON_MEMORY_REGION(block, n)
#define SHOW(block, n) ASAN_UNPOISON_MEMORY_REGION(block, n)
#else
#define HIDE(block, n) ((void)0)
#define SHOW(block, n) ((void)0)
#endif

/* What is before each block. */
typedef union head {
    struct {
        size_t size; /* of the block, a multiple of TA_BLOCKS_STEP; 0: a large one of ta_malloc */
        union head *next; /* while it is spare */
    };
    max_align_t align;
} head;

static head *head_of(void *ptr)
{
    return (head *)ptr - 1;
}

void ta_blocks_init(ta_blocks *blocks, size_t max)
{
    *blocks = (ta_blocks){.max = max};
}

void ta_blocks_free(ta_blocks *blocks)
{
    for (size_t i = 0; i < TA_COUNTOF(blocks->spare); i++) {
        for (head *h = blocks->spare[i], *next; h; h = next) {
            next = h->next;
            SHOW(h + 1, h->size);
            ta_free(h);
        }
    }
    ta_blocks_init(blocks, blocks->max);
}

static void *make(size_t size, size_t noted)
{
    if (size > SIZE_MAX - sizeof(head))
        return NULL;
    head *h = ta_malloc(sizeof *h + size);
    if (!h)
        return NULL;
    h->size = noted;
    return h + 1;
}

void *ta_blocks_take(ta_blocks *blocks, size_t size)
{
    if (size > TA_BLOCKS_LARGE)
        return make(size, 0);
    size_t i = size ? (size + TA_BLOCKS_STEP - 1) / TA_BLOCKS_STEP : 1, whole = i * TA_BLOCKS_STEP;
    head *h = blocks->spare[i];
    if (TA_UNLIKELY(!h))
        return make(whole, whole);
    TA_ASSERT(h->size == whole && blocks->kept >= whole);
    blocks->spare[i] = h->next;
    blocks->kept -= whole;
    SHOW(h + 1, whole);
    return h + 1;
}

void ta_blocks_give(ta_blocks *blocks, void *ptr)
{
    if (!ptr)
        return;
    head *h = head_of(ptr);
    if (TA_UNLIKELY(!h->size || h->size > blocks->max - blocks->kept)) {
        ta_free(h);
        return;
    }
    void **list = &blocks->spare[h->size / TA_BLOCKS_STEP];
    TA_ASSERT(*list != h); /* the same block twice */
    h->next = *list;
    *list = h;
    blocks->kept += h->size;
    HIDE(ptr, h->size);
}

void *ta_blocks_resize(ta_blocks *blocks, void *ptr, size_t size)
{
    if (!ptr)
        return ta_blocks_take(blocks, size);
    head *h = head_of(ptr);
    if (h->size >= size && h->size)
        return ptr;
    if (!h->size) { /* stays a large one, however small it becomes */
        if (size > SIZE_MAX - sizeof *h)
            return NULL;
        h = ta_realloc(h, sizeof *h + size);
        return h ? h + 1 : NULL;
    }
    void *grown = ta_blocks_take(blocks, size);
    if (!grown)
        return NULL;
    memcpy(grown, ptr, h->size);
    ta_blocks_give(blocks, ptr);
    return grown;
}
