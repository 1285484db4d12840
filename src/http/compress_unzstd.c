/* compress_unzstd.c -- zstd streams of clients over libzstd.  See decompress.h. */
#include <zstd.h>

#include "base/mem.h"
#include "http/decompress.h"

/* What clients may use (RFC 9659): 8 MB. */
enum { WINDOW_LOG_MAX = 23 };

typedef struct unzstd {
    ta_unpacker base;
    ZSTD_DCtx *ctx; /* owned */
} unzstd;

static unzstd *of(ta_unpacker *unpacker)
{
    return TA_CONTAINER_OF(unpacker, unzstd, base);
}

static ta_unpacker *make(void)
{
    unzstd *z = ta_calloc(1, sizeof *z);
    if (z == NULL)
        return NULL;
    z->ctx = ZSTD_createDCtx();
    if (z->ctx == NULL ||
        ZSTD_isError(ZSTD_DCtx_setParameter(z->ctx, ZSTD_d_windowLogMax, WINDOW_LOG_MAX))) {
        (void)ZSTD_freeDCtx(z->ctx); /* NULL: no-op */
        ta_free(z);
        return NULL;
    }
    return &z->base;
}

static void destroy(ta_unpacker *unpacker)
{
    unzstd *z = of(unpacker);
    (void)ZSTD_freeDCtx(z->ctx);
    ta_free(z);
}

/* Frames may follow each other (RFC 8878). */
static int read_zstd(ta_unpacker *unpacker, ta_str *data, char *out, size_t room, size_t *len)
{
    ZSTD_inBuffer in = {data->ptr, data->len, 0};
    ZSTD_outBuffer piece = {out, room, 0};
    size_t left = ZSTD_decompressStream(of(unpacker)->ctx, &piece, &in);
    if (ZSTD_isError(left))
        return TA_EBAD;
    unpacker->ended = left == 0;
    *data = ta_str_skip(*data, in.pos);
    *len = piece.pos;
    return TA_OK;
}

const ta_unpacker_ops ta_unpacker_zstd = {.make = make, .destroy = destroy, .read = read_zstd};
