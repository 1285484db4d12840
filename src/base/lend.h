/*
 * lend.h -- memory that is lent to the sender instead of being copied.
 *
 * Layer: base.  Nothing is held before it must be: bytes that can be sent at once are sent from
 * where they are; the lender is asked to keep only those that have to wait.
 */
#ifndef TA_BASE_LEND_H
#define TA_BASE_LEND_H

#include "base/buf.h"
#include "base/mem.h"

/* Borrowed during the call that it is given to. */
typedef struct ta_lender {
    /* Called at most once, within that call: from then on the bytes stay where and as they are
     * until release(what it gave), which is called exactly once, on the same thread, maybe before
     * that call returns.  NULL: they can't be kept, and are copied. */
    void *(*keep)(void *owner);
    void (*release)(void *kept);
    void *owner; /* borrowed */
} ta_lender;

static inline void *ta_lend_take_buf(void *owner)
{
    ta_buf *buf = owner;
    void *data = buf->data;
    TA_ASSERT(data != NULL); /* once */
    ta_buf_init(buf);
    return data;
}

/* The bytes are those of `buf`, whose memory goes over to the borrower (leaving it empty) or stays.
 */
static inline ta_lender ta_lend_buf(ta_buf *buf)
{
    return (ta_lender){ta_lend_take_buf, ta_free, buf};
}

#endif
