/* compress_br_memory.h -- libbrotli takes our memory.  Private to compress_br.c and its twin. */
#ifndef TA_HTTP_COMPRESS_BR_MEMORY_H
#define TA_HTTP_COMPRESS_BR_MEMORY_H

#include "base/mem.h"

static inline void *ta_br_take(void *unused, size_t size)
{
    (void)unused;
    return ta_malloc(size);
}

static inline void ta_br_give(void *unused, void *ptr)
{
    (void)unused;
    ta_free(ptr);
}

#endif
