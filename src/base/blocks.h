/*
 * blocks.h -- memory of small sizes that is asked for and given back all the time, kept for reuse.
 *
 * Layer: base.  For libraries that allocate several pieces a request: to take one from a list, and
 * put it back, is less work than malloc's and free's.  Belongs to one thread.
 */
#ifndef TA_BASE_BLOCKS_H
#define TA_BASE_BLOCKS_H

#include "base/ta_base.h"

enum {
    TA_BLOCKS_STEP = 32,   /* sizes are rounded up to a multiple of it */
    TA_BLOCKS_LARGE = 1024 /* what is larger goes to ta_malloc */
};

typedef struct ta_blocks {
    void *spare[TA_BLOCKS_LARGE / TA_BLOCKS_STEP + 1]; /* private, owned: by size; [0]: none */
    size_t kept;                                       /* bytes of spare ones now; read-only */
    size_t max;                                        /* of those kept at most; read-only */
} ta_blocks;

void ta_blocks_init(ta_blocks *blocks, size_t max);
/* Frees the spare ones.  Those in use may be given back later, and are kept then. */
void ta_blocks_free(ta_blocks *blocks);
/* As ta_malloc and its friends; such memory is not for ta_free. */
TA_MUST_CHECK void *ta_blocks_take(ta_blocks *blocks, size_t size);
TA_MUST_CHECK void *ta_blocks_resize(ta_blocks *blocks, void *ptr, size_t size);
void ta_blocks_give(ta_blocks *blocks, void *ptr);

#endif
