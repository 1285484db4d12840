#include "base/bufpool.h"

#include "base/mem.h"

/* A spare block holds the link to the next one in its first bytes. */

void ta_bufpool_init(ta_bufpool *pool, size_t size, unsigned max)
{
    *pool = (ta_bufpool){.size = TA_MAX(size, sizeof(void *)), .max = max};
}

void ta_bufpool_free(ta_bufpool *pool)
{
    while (pool->free_list) {
        void *next;
        memcpy(&next, pool->free_list, sizeof(next));
        ta_free(pool->free_list);
        pool->free_list = next;
    }
    pool->count = 0;
}

int ta_bufpool_take(ta_bufpool *pool, ta_buf *buf)
{
    if (buf->data)
        return TA_OK;
    void *block = pool->free_list;
    TA_ASSERT((block != NULL) == (pool->count > 0));
    if (block) {
        memcpy(&pool->free_list, block, sizeof(void *));
        pool->count--;
    } else {
        block = ta_malloc(pool->size);
        if (!block)
            return TA_ENOMEM;
    }
    *buf = (ta_buf){.data = block, .cap = pool->size};
    return TA_OK;
}

void ta_bufpool_give(ta_bufpool *pool, ta_buf *buf)
{
    if (!buf->data)
        return;
    TA_ASSERT((void *)buf->data != pool->free_list); /* the same block twice */
    if (buf->cap == pool->size && pool->count < pool->max) {
        memcpy(buf->data, &pool->free_list, sizeof(void *));
        pool->free_list = buf->data;
        pool->count++;
        ta_buf_init(buf);
    } else {
        ta_buf_free(buf);
    }
}
