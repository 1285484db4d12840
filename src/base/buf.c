#include "base/buf.h"

#include "base/mem.h"

enum {
    BUF_MIN = 256, /* smallest allocation */
    CHEAP_MOVE =
        1024, /* moving so few bytes is cheaper than allocating, whatever they make room for */
};

void ta_buf_init(ta_buf *buf)
{
    *buf = (ta_buf){0};
}

void ta_buf_free(ta_buf *buf)
{
    ta_free(buf->data);
    ta_buf_init(buf);
}

void ta_buf_clear(ta_buf *buf)
{
    buf->off = buf->len = 0;
}

static size_t twice(size_t cap)
{
    return cap > PTRDIFF_MAX / 2 ? PTRDIFF_MAX : cap * 2;
}

/* New memory for len + n bytes at least; doubles, so that appending is O(1) on average. */
static int grow(ta_buf *buf, size_t n)
{
    size_t need;
    if (__builtin_add_overflow(buf->len, n, &need) || need > PTRDIFF_MAX)
        return TA_ENOMEM;
    size_t cap = buf->cap ? twice(buf->cap) : BUF_MIN;
    while (cap < need)
        cap = twice(cap);
    if (buf->off == 0) {
        char *data = ta_realloc(buf->data, cap);
        if (!data)
            return TA_ENOMEM;
        buf->data = data;
    } else {
        /* realloc would copy the consumed bytes as well */
        char *data = ta_malloc(cap);
        if (!data)
            return TA_ENOMEM;
        if (buf->len)
            memcpy(data, buf->data + buf->off, buf->len);
        ta_free(buf->data);
        buf->data = data;
        buf->off = 0;
    }
    buf->cap = cap;
    return TA_OK;
}

char *ta_buf_reserve(ta_buf *buf, size_t n)
{
    TA_ASSERT(buf->off <= buf->cap && buf->len <= buf->cap - buf->off);
    if (TA_UNLIKELY(n > buf->cap - buf->off - buf->len || !buf->data)) {
        /* Moving is paid for by the bytes that were consumed before: at least as many. */
        if (buf->off && n <= buf->cap - buf->len &&
            (buf->len <= buf->off || buf->len <= CHEAP_MOVE)) {
            memmove(buf->data, buf->data + buf->off, buf->len);
            buf->off = 0;
        } else if (grow(buf, n) < 0) {
            return NULL;
        }
    }
    return buf->data + buf->off + buf->len;
}

int ta_buf_append(ta_buf *buf, const void *data, size_t n)
{
    if (n == 0)
        return TA_OK;
    char *to = ta_buf_reserve(buf, n);
    if (!to)
        return TA_ENOMEM;
    memcpy(to, data, n);
    buf->len += n;
    return TA_OK;
}

int ta_buf_append_str(ta_buf *buf, ta_str s)
{
    return ta_buf_append(buf, s.ptr, s.len);
}

void ta_buf_consume(ta_buf *buf, size_t n)
{
    if (n >= buf->len) {
        buf->off = buf->len = 0;
    } else {
        buf->off += n;
        buf->len -= n;
    }
}
