/* buf.h -- a growable byte buffer.  Layer: base. */
#ifndef TA_BASE_BUF_H
#define TA_BASE_BUF_H

#include "base/ta_base.h"

typedef struct ta_buf {
    char *data; /* owned; NULL while empty and unallocated */
    size_t off; /* first unread byte */
    size_t len; /* unread bytes, data[off .. off+len) */
    size_t cap; /* allocated */
} ta_buf;

static inline ta_str ta_buf_str(const ta_buf *buf)
{
    return (ta_str){buf->data ? buf->data + buf->off : NULL, buf->len};
}

void ta_buf_init(ta_buf *buf);
void ta_buf_free(ta_buf *buf);  /* and back to the initial state */
void ta_buf_clear(ta_buf *buf); /* keeps the memory */
/* Makes room for n bytes after the unread ones, which may move.  Returns where to write, or NULL.
 */
TA_MUST_CHECK char *ta_buf_reserve(ta_buf *buf, size_t n);
/* n bytes were written where ta_buf_reserve said. */
static inline void ta_buf_commit(ta_buf *buf, size_t n)
{
    TA_ASSERT(n <= buf->cap - buf->off - buf->len);
    buf->len += n;
}
TA_MUST_CHECK int ta_buf_append(ta_buf *buf, const void *data, size_t n);
TA_MUST_CHECK int ta_buf_append_str(ta_buf *buf, ta_str s);
void ta_buf_consume(ta_buf *buf, size_t n);

#endif
