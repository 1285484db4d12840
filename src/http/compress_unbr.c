/* compress_unbr.c -- brotli streams of clients over libbrotlidec.  See decompress.h. */
#include <brotli/decode.h>

#include "base/mem.h"
#include "http/compress_br_memory.h"
#include "http/decompress.h"

typedef struct unbr {
    ta_unpacker base;
    BrotliDecoderState *state; /* owned */
} unbr;

static unbr *of(ta_unpacker *unpacker)
{
    return TA_CONTAINER_OF(unpacker, unbr, base);
}

static ta_unpacker *make(void)
{
    unbr *b = ta_calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->state = BrotliDecoderCreateInstance(ta_br_take, ta_br_give, NULL);
    if (b->state == NULL) {
        ta_free(b);
        return NULL;
    }
    return &b->base;
}

static void destroy(ta_unpacker *unpacker)
{
    unbr *b = of(unpacker);
    BrotliDecoderDestroyInstance(b->state);
    ta_free(b);
}

static int read_br(ta_unpacker *unpacker, ta_str *data, char *out, size_t room, size_t *len)
{
    unbr *b = of(unpacker);
    const uint8_t *in = (const uint8_t *)data->ptr;
    uint8_t *to = (uint8_t *)out;
    size_t left = data->len, free_room = room;
    if (unpacker->ended)
        return TA_EBAD; /* bytes follow it */
    BrotliDecoderResult rc =
        BrotliDecoderDecompressStream(b->state, &left, &in, &free_room, &to, NULL);
    if (rc == BROTLI_DECODER_RESULT_ERROR)
        return TA_EBAD;
    unpacker->ended = rc == BROTLI_DECODER_RESULT_SUCCESS;
    *data = ta_str_skip(*data, data->len - left);
    *len = room - free_room;
    return TA_OK;
}

const ta_unpacker_ops ta_unpacker_br = {.make = make, .destroy = destroy, .read = read_br};
