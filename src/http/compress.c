/* compress.c -- gzip streams over zlib.  See compress.h. */
#include "http/compress.h"

#include <limits.h>
#include <zlib.h>

#include "base/mem.h"

enum {
    GZIP_WINDOW = 16 + MAX_WBITS, /* 16: a gzip header and trailer */
    STEP_MIN = 1024,              /* room given to zlib at a time */
    STEP_MAX = 65536
};

struct ta_gzip {
    z_stream z;
    int level;
    bool finished;
};

static void *take(void *unused, uInt items, uInt size)
{
    (void)unused;
    return ta_calloc(items, size);
}

static void give(void *unused, void *ptr)
{
    (void)unused;
    ta_free(ptr);
}

ta_gzip *ta_gzip_new(int level)
{
    if (level < -1 || level > 9)
        return NULL;
    ta_gzip *gz = ta_calloc(1, sizeof *gz);
    if (gz == NULL)
        return NULL;
    gz->z.zalloc = take;
    gz->z.zfree = give;
    gz->level = level;
    /* 8 is zlib's default of its memory level, and Python's. */
    if (deflateInit2(&gz->z, level, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        ta_free(gz);
        return NULL;
    }
    return gz;
}

void ta_gzip_free(ta_gzip *gz)
{
    if (gz == NULL)
        return;
    (void)deflateEnd(&gz->z);
    ta_free(gz);
}

int ta_gzip_level(const ta_gzip *gz)
{
    return gz->level;
}

void ta_gzip_reset(ta_gzip *gz)
{
    (void)deflateReset(&gz->z); /* fails only for a stream that was never made */
    gz->finished = false;
}

/* Runs deflate until it needs more input and has written all it will. */
static int run(ta_gzip *gz, int flush, ta_buf *out)
{
    for (;;) {
        size_t room = TA_MIN(TA_MAX((size_t)gz->z.avail_in / 2, STEP_MIN), STEP_MAX);
        char *to = ta_buf_reserve(out, room);
        if (to == NULL)
            return TA_ENOMEM;
        gz->z.next_out = (Bytef *)to;
        gz->z.avail_out = (uInt)room;
        int rc = deflate(&gz->z, flush);
        ta_buf_commit(out, room - gz->z.avail_out);
        if (rc == Z_STREAM_END)
            return TA_OK;
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            return TA_EINVAL;
        /* Room is left: there was nothing more to write. */
        if (gz->z.avail_out > 0 && gz->z.avail_in == 0 && flush != Z_FINISH)
            return TA_OK;
    }
}

int ta_gzip_write(ta_gzip *gz, ta_str data, ta_gzip_end end, ta_buf *out)
{
    if (gz->finished)
        return TA_EINVAL;
    int rc = TA_OK;
    do { /* once for no data, too: Python's empty chunks leave a mark in the stream */
        size_t n = TA_MIN(data.len, (size_t)UINT_MAX);
        gz->z.next_in = (z_const Bytef *)data.ptr;
        gz->z.avail_in = (uInt)n;
        rc = run(gz, Z_NO_FLUSH, out);
        data = ta_str_skip(data, n);
    } while (rc == TA_OK && data.len > 0);
    gz->z.next_in = NULL;
    gz->z.avail_in = 0;
    if (rc == TA_OK)
        rc = run(gz, end == TA_GZIP_FINISH ? Z_FINISH : Z_SYNC_FLUSH, out);
    if (rc != TA_OK || end == TA_GZIP_FINISH)
        gz->finished = true;
    return rc;
}
