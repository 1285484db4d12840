/*
 * mem.h -- where all memory of the core comes from, and the arena of a request.
 *
 * Layer: base.  Every allocation of base, net, http, json and route goes through ta_malloc and
 * friends, so that a test can make the n-th one fail.
 */
#ifndef TA_BASE_MEM_H
#define TA_BASE_MEM_H

#include "base/ta_base.h"

typedef struct ta_mem_hooks {
    void *(*malloc)(void *ctx, size_t size);
    void *(*realloc)(void *ctx, void *ptr, size_t size);
    void (*free)(void *ctx, void *ptr);
    void *ctx; /* borrowed: lives until the hooks are replaced */
} ta_mem_hooks;

/*
 * Replaces the allocator of the process; NULL restores libc's.  This is the only process-wide state
 * of the core: call it before threads start and while nothing is allocated that the new hooks can't
 * free.
 */
void ta_mem_set_hooks(const ta_mem_hooks *hooks); /* copied */

/* As libc's, but a size of 0 returns a unique pointer too.  NULL: out of memory. */
TA_MUST_CHECK void *ta_malloc(size_t size) __attribute__((malloc, alloc_size(1)));
TA_MUST_CHECK void *ta_calloc(size_t count, size_t size); /* zeroed; checks the product */
TA_MUST_CHECK void *ta_realloc(void *ptr, size_t size);   /* failing leaves ptr as it is */
void ta_free(void *ptr);                                  /* NULL: no-op */

/*
 * A bump allocator whose pieces are freed all at once: what lives as long as a request.
 * A zeroed ta_arena is a valid, empty one with blocks of the default size.
 */
typedef struct ta_arena_block ta_arena_block;
typedef struct ta_arena {
    ta_arena_block *blocks; /* private, owned: newest first */
    char *cur, *end;        /* private: what is left of the newest block */
    uint32_t block_size;    /* private: bytes of an ordinary block; 0: the default */
} ta_arena;

enum { TA_ARENA_BLOCK = 4096 };

void ta_arena_init(ta_arena *arena, uint32_t block_size); /* allocates nothing yet */
void ta_arena_free(ta_arena *arena);                      /* and back to the initial state */
/* Aligned as malloc's; NULL: out of memory.  Lives until ta_arena_free. */
TA_MUST_CHECK void *ta_arena_alloc(ta_arena *arena, size_t size);
TA_MUST_CHECK char *ta_arena_strndup(ta_arena *arena, const char *ptr, size_t len);

/*
 * For a process that serves: lets the C library keep a few megabytes of freed memory instead of
 * returning them to the system and faulting them in again for the next large body.  Idempotent.
 */
void ta_mem_tune(void);

#endif
