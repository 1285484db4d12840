/*
 * bufpool.h -- spare memory of ta_bufs of one size, so that idle connections hold none.
 *
 * Layer: base.  Belongs to one thread, like the loop that it serves.
 */
#ifndef TA_BASE_BUFPOOL_H
#define TA_BASE_BUFPOOL_H

#include "base/buf.h"

typedef struct ta_bufpool {
    void *free_list; /* private, owned */
    size_t size;     /* bytes of one block; read-only */
    unsigned count;  /* spare ones now; read-only */
    unsigned max;    /* spare ones kept at most; read-only */
} ta_bufpool;

void ta_bufpool_init(ta_bufpool *pool, size_t size, unsigned max); /* size >= sizeof(void *) */
void ta_bufpool_free(ta_bufpool *pool);
/* Gives an unallocated buf a block; a buf with memory keeps its own.  TA_OK or TA_ENOMEM. */
TA_MUST_CHECK int ta_bufpool_take(ta_bufpool *pool, ta_buf *buf);
/* Takes the memory of buf back (or frees it when it has another size) and empties buf. */
void ta_bufpool_give(ta_bufpool *pool, ta_buf *buf);

#endif
