/* compress_br.c -- brotli streams over libbrotlienc.  See compress.h. */
#include <brotli/encode.h>
#include <stdio.h>

#include "base/mem.h"
#include "http/compress_br_memory.h"
#include "http/compress_int.h"

/* 256 KB: a larger window costs each stream more memory and helps only bodies beyond it. */
enum { WINDOW = 18 };

typedef struct br {
    ta_packer base;
    BrotliEncoderState *state; /* owned */
} br;

static br *of(ta_packer *packer)
{
    return TA_CONTAINER_OF(packer, br, base);
}

static ta_packer *make(int level)
{
    br *b = ta_calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->state = BrotliEncoderCreateInstance(ta_br_take, ta_br_give, NULL);
    if (b->state == NULL) {
        ta_free(b);
        return NULL;
    }
    (void)BrotliEncoderSetParameter(b->state, BROTLI_PARAM_QUALITY, (uint32_t)level);
    (void)BrotliEncoderSetParameter(b->state, BROTLI_PARAM_LGWIN, WINDOW);
    return &b->base;
}

static void destroy(ta_packer *packer)
{
    br *b = of(packer);
    BrotliEncoderDestroyInstance(b->state);
    ta_free(b);
}

static bool reset(ta_packer *packer)
{
    (void)packer;
    return false; /* the library has nothing for it */
}

static int write_br(ta_packer *packer, ta_str data, ta_pack_end end, ta_buf *out)
{
    br *b = of(packer);
    BrotliEncoderOperation op =
        end == TA_PACK_FINISH ? BROTLI_OPERATION_FINISH : BROTLI_OPERATION_FLUSH;
    size_t left = data.len;
    const uint8_t *in = (const uint8_t *)data.ptr;
    do {
        size_t room = ta_pack_room(left), given = room;
        uint8_t *to = (uint8_t *)ta_buf_reserve(out, room);
        if (to == NULL)
            return TA_ENOMEM;
        /* It fails only for want of memory. */
        if (!BrotliEncoderCompressStream(b->state, op, &left, &in, &room, &to, NULL))
            return TA_ENOMEM;
        ta_buf_commit(out, given - room);
    } while (left > 0 || BrotliEncoderHasMoreOutput(b->state) ||
             (end == TA_PACK_FINISH && !BrotliEncoderIsFinished(b->state)));
    return TA_OK;
}

static void version(char out[TA_PACKER_VERSION])
{
    uint32_t v = BrotliEncoderVersion();
    snprintf(out, TA_PACKER_VERSION, "%u.%u.%u", (unsigned)(v >> 24), (unsigned)(v >> 12 & 0xfff),
             (unsigned)(v & 0xfff));
}

const ta_packer_ops ta_packer_br = {
    .version = version,
    .lowest = BROTLI_MIN_QUALITY,
    .highest = BROTLI_MAX_QUALITY,
    .make = make,
    .destroy = destroy,
    .reset = reset,
    .write = write_br,
};
