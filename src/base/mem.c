#include "base/mem.h"

#include <malloc.h>
#include <stdlib.h>

static void *libc_malloc(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}

static void *libc_realloc(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    return realloc(ptr, size);
}

static void libc_free(void *ctx, void *ptr)
{
    (void)ctx;
    free(ptr);
}

/* The one mutable global of the core; see ta_mem_set_hooks. */
static ta_mem_hooks hooks = {libc_malloc, libc_realloc, libc_free, NULL};

void ta_mem_set_hooks(const ta_mem_hooks *given)
{
    hooks = given ? *given : (ta_mem_hooks){libc_malloc, libc_realloc, libc_free, NULL};
}

void *ta_malloc(size_t size)
{
    return size > PTRDIFF_MAX ? NULL : hooks.malloc(hooks.ctx, size ? size : 1);
}

void *ta_calloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *ptr = ta_malloc(total);
    if (ptr)
        memset(ptr, 0, total);
    return ptr;
}

void *ta_realloc(void *ptr, size_t size)
{
    return size > PTRDIFF_MAX ? NULL : hooks.realloc(hooks.ctx, ptr, size ? size : 1);
}

void ta_free(void *ptr)
{
    if (ptr)
        hooks.free(hooks.ctx, ptr);
}

/* -- arena ---------------------------------------------------------------------------------- */

struct ta_arena_block {
    ta_arena_block *next; /* owned: the older one */
    size_t size;          /* bytes of data */
    _Alignas(max_align_t) char data[];
};

enum { ARENA_ALIGN = _Alignof(max_align_t) };
_Static_assert((ARENA_ALIGN & (ARENA_ALIGN - 1)) == 0, "sizes are rounded up by a mask");

void ta_arena_init(ta_arena *arena, uint32_t block_size)
{
    *arena = (ta_arena){.block_size = block_size};
}

static size_t ordinary_size(const ta_arena *arena)
{
    size_t size = arena->block_size ? arena->block_size : TA_ARENA_BLOCK;
    return TA_MAX(size, (size_t)ARENA_ALIGN);
}

void ta_arena_free(ta_arena *arena)
{
    for (ta_arena_block *b = arena->blocks, *next; b; b = next) {
        next = b->next;
        ta_free(b);
    }
    ta_arena_init(arena, arena->block_size);
}

static ta_arena_block *new_block(size_t size)
{
    if (size > SIZE_MAX - sizeof(ta_arena_block))
        return NULL;
    ta_arena_block *b = ta_malloc(sizeof(*b) + size);
    if (b)
        b->size = size;
    return b;
}

void *ta_arena_alloc(ta_arena *arena, size_t size)
{
    if (size > SIZE_MAX - ARENA_ALIGN)
        return NULL;
    size_t need = (TA_MAX(size, 1) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    TA_ASSERT(arena->cur <= arena->end && (arena->blocks != NULL || arena->cur == NULL));
    if (TA_LIKELY(need <= (size_t)(arena->end - arena->cur))) {
        void *ptr = arena->cur;
        TA_ASSERT((uintptr_t)ptr % ARENA_ALIGN == 0);
        arena->cur += need;
        return ptr;
    }
    size_t ordinary = ordinary_size(arena);
    /* A big piece gets a block of its own, behind the newest one, which stays in use. */
    if (need > ordinary / 2) {
        ta_arena_block *b = new_block(need == ordinary ? need + ARENA_ALIGN : need);
        if (!b)
            return NULL;
        if (arena->blocks) {
            b->next = arena->blocks->next;
            arena->blocks->next = b;
        } else {
            b->next = NULL;
            arena->blocks = b;
            arena->cur = arena->end = b->data + b->size;
        }
        return b->data;
    }
    ta_arena_block *b = new_block(ordinary);
    if (!b)
        return NULL;
    b->next = arena->blocks;
    arena->blocks = b;
    arena->cur = b->data + need;
    arena->end = b->data + b->size;
    return b->data;
}

char *ta_arena_strndup(ta_arena *arena, const char *ptr, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = ta_arena_alloc(arena, len + 1);
    if (copy) {
        if (len)
            memcpy(copy, ptr, len);
        copy[len] = '\0';
    }
    return copy;
}

void ta_mem_tune(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 32 << 20);
#endif
}
