/* compress_gzip.c -- gzip streams over zlib.  See compress.h. */
#include <limits.h>
#include <stdio.h>
#include <zlib.h>

#include "base/mem.h"
#include "http/compress_int.h"

enum { GZIP_WINDOW = 16 + MAX_WBITS /* 16: a gzip header and trailer */ };

typedef struct gzip {
    ta_packer base;
    z_stream z;
} gzip;

static gzip *of(ta_packer *packer)
{
    return TA_CONTAINER_OF(packer, gzip, base);
}

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

static ta_packer *make(int level)
{
    gzip *gz = ta_calloc(1, sizeof *gz);
    if (gz == NULL)
        return NULL;
    gz->z.zalloc = take;
    gz->z.zfree = give;
    /* 8 is zlib's default of its memory level, and Python's. */
    if (deflateInit2(&gz->z, level, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        ta_free(gz);
        return NULL;
    }
    return &gz->base;
}

static void destroy(ta_packer *packer)
{
    gzip *gz = of(packer);
    (void)deflateEnd(&gz->z);
    ta_free(gz);
}

static bool reset(ta_packer *packer)
{
    return deflateReset(&of(packer)->z) == Z_OK;
}

/* Runs deflate until it needs more input and has written all it will. */
static int run(gzip *gz, int flush, ta_buf *out)
{
    for (;;) {
        size_t room = ta_pack_room(gz->z.avail_in);
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

static int write_gzip(ta_packer *packer, ta_str data, ta_pack_end end, ta_buf *out)
{
    gzip *gz = of(packer);
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
        rc = run(gz, end == TA_PACK_FINISH ? Z_FINISH : Z_SYNC_FLUSH, out);
    return rc;
}

static void version(char out[TA_PACKER_VERSION])
{
    snprintf(out, TA_PACKER_VERSION, "%s", zlibVersion());
}

const ta_packer_ops ta_packer_gzip = {
    .version = version,
    .lowest = -1, /* zlib's default */
    .highest = 9,
    .make = make,
    .destroy = destroy,
    .reset = reset,
    .write = write_gzip,
};
