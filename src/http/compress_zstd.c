/* compress_zstd.c -- zstd streams over libzstd.  See compress.h. */
#include <stdio.h>
#include <zstd.h>

#include "base/mem.h"
#include "http/compress_int.h"

/* Clients need not take windows above 8 MB (RFC 9659); a smaller one keeps streams small. */
enum { LOWEST = 1, HIGHEST = 19, WINDOW_LOG_MAX = 20 };

typedef struct zstd {
    ta_packer base;
    ZSTD_CCtx *ctx; /* owned */
} zstd;

static zstd *of(ta_packer *packer)
{
    return TA_CONTAINER_OF(packer, zstd, base);
}

static ta_packer *make(int level)
{
    zstd *z = ta_calloc(1, sizeof *z);
    if (z == NULL)
        return NULL;
    z->ctx = ZSTD_createCCtx();
    if (z->ctx == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(z->ctx, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(z->ctx, ZSTD_c_windowLog, WINDOW_LOG_MAX))) {
        (void)ZSTD_freeCCtx(z->ctx); /* NULL: no-op */
        ta_free(z);
        return NULL;
    }
    return &z->base;
}

static void destroy(ta_packer *packer)
{
    zstd *z = of(packer);
    (void)ZSTD_freeCCtx(z->ctx);
    ta_free(z);
}

static bool reset(ta_packer *packer)
{
    return !ZSTD_isError(ZSTD_CCtx_reset(of(packer)->ctx, ZSTD_reset_session_only));
}

static int write_zstd(ta_packer *packer, ta_str data, ta_pack_end end, ta_buf *out)
{
    zstd *z = of(packer);
    ZSTD_EndDirective op = end == TA_PACK_FINISH ? ZSTD_e_end : ZSTD_e_flush;
    ZSTD_inBuffer in = {data.ptr, data.len, 0};
    size_t more;
    do {
        size_t room = ta_pack_room(data.len - in.pos);
        char *to = ta_buf_reserve(out, room);
        if (to == NULL)
            return TA_ENOMEM;
        ZSTD_outBuffer piece = {to, room, 0};
        more = ZSTD_compressStream2(z->ctx, &piece, &in, op);
        if (ZSTD_isError(more)) /* for want of memory alone */
            return TA_ENOMEM;
        ta_buf_commit(out, piece.pos);
    } while (more > 0 || in.pos < in.size);
    return TA_OK;
}

static void version(char out[TA_PACKER_VERSION])
{
    snprintf(out, TA_PACKER_VERSION, "%s", ZSTD_versionString());
}

const ta_packer_ops ta_packer_zstd = {
    .version = version,
    .lowest = LOWEST,
    .highest = HIGHEST,
    .make = make,
    .destroy = destroy,
    .reset = reset,
    .write = write_zstd,
};
