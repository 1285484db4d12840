/* ws/deflate.c -- permessage-deflate over zlib's raw streams.  See ws/deflate.h. */
#include "http/ws/deflate.h"

#define ZLIB_CONST
#include <zlib.h>

#include "base/mem.h"

enum {
    STEP = 8192,      /* room given to zlib at a time */
    PIECE = 1 << 20,  /* of input at a time: avail_in is an unsigned int */
    MEMORY_LEVEL = 5, /* with windows of 12 bits: about 30 KB for packing, 12 KB for unpacking */
    LONGEST_WINDOW = 32768
};

struct ta_ws_deflate {
    ta_ws_deflate_params params;
    bool packs, unpacks; /* the stream was made */
    bool ended;          /* the last block of a stream was read, nothing after it yet */
    z_stream out, in;
};

static voidpf z_alloc(voidpf opaque, uInt items, uInt size)
{
    return ta_calloc(items, size);
}

static void z_free(voidpf opaque, voidpf address)
{
    ta_free(address);
}

ta_ws_deflate *ta_ws_deflate_new(const ta_ws_deflate_params *params)
{
    ta_ws_deflate *z = ta_calloc(1, sizeof *z);
    if (!z)
        return NULL;
    z->params = *params;
    z->in.zalloc = z->out.zalloc = z_alloc;
    z->in.zfree = z->out.zfree = z_free;
    return z;
}

void ta_ws_deflate_free(ta_ws_deflate *z)
{
    if (!z)
        return;
    if (z->unpacks)
        inflateEnd(&z->in);
    if (z->packs)
        deflateEnd(&z->out);
    ta_free(z);
}

/* -- unpacking -------------------------------------------------------------------------------- */

/* A block said that it is the last one (RFC 7692 7.2.3.5): what follows is a new stream, which may
 * refer back to the old one's data. */
static int begin_anew(ta_ws_deflate *z)
{
    uInt len = LONGEST_WINDOW;
    z->ended = false;
    if (z->params.client_no_context)
        return inflateReset(&z->in) == Z_OK ? TA_OK : TA_EBAD;
    Bytef *window = ta_malloc(LONGEST_WINDOW);
    if (!window)
        return TA_ENOMEM;
    int rc = inflateGetDictionary(&z->in, window, &len);
    if (rc == Z_OK)
        rc = inflateReset(&z->in);
    if (rc == Z_OK && len)
        rc = inflateSetDictionary(&z->in, window, len);
    ta_free(window);
    return rc == Z_OK ? TA_OK : TA_EBAD;
}

/* Unpacks all of z->in.next_in. */
static int unpack(ta_ws_deflate *z, uint64_t max, ta_buf *out)
{
    z_stream *in = &z->in;
    bool full = true;
    while (in->avail_in || full) {
        size_t room = STEP;
        if (z->ended) {
            if (!in->avail_in)
                break;
            int rc = begin_anew(z);
            if (rc != TA_OK)
                return rc;
        }
        if (max) /* one byte more than allowed shows that there are too many */
            room = (size_t)TA_MIN((uint64_t)room, max - out->len + 1);
        char *to = ta_buf_reserve(out, room);
        if (!to)
            return TA_ENOMEM;
        in->next_out = (Bytef *)to;
        in->avail_out = (uInt)room;
        int rc = inflate(in, Z_SYNC_FLUSH);
        full = in->avail_out == 0;
        ta_buf_commit(out, room - in->avail_out);
        if (max && out->len > max)
            return TA_ETOOLARGE;
        if (rc == Z_STREAM_END)
            z->ended = true;
        else if (rc == Z_MEM_ERROR)
            return TA_ENOMEM;
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return TA_EBAD;
        else if (rc == Z_BUF_ERROR && !full)
            break; /* wants more input */
    }
    return TA_OK;
}

int ta_ws_inflate_piece(ta_ws_deflate *z, ta_str piece, bool last, uint64_t max, ta_buf *out)
{
    /* What the sender took off its last block. */
    static const unsigned char tail[4] = {0, 0, 0xff, 0xff};
    if (!z->unpacks) {
        if (inflateInit2(&z->in, -TA_MAX(z->params.client_bits, 8)) != Z_OK)
            return TA_ENOMEM;
        z->unpacks = true;
    }
    while (piece.len) {
        uInt n = (uInt)TA_MIN(piece.len, (size_t)PIECE);
        z->in.next_in = (const Bytef *)piece.ptr;
        z->in.avail_in = n;
        int rc = unpack(z, max, out);
        if (rc != TA_OK)
            return rc;
        piece = ta_str_skip(piece, n);
    }
    if (!last)
        return TA_OK;
    if (!z->ended) {
        z->in.next_in = tail;
        z->in.avail_in = sizeof tail;
        int rc = unpack(z, max, out);
        if (rc != TA_OK)
            return rc;
        if (!z->ended && !(z->in.data_type & 128))
            return TA_EBAD; /* it ended within a block, and the tail was taken for data */
    }
    if (z->params.client_no_context) {
        z->ended = false;
        return inflateReset(&z->in) == Z_OK ? TA_OK : TA_EBAD;
    }
    return TA_OK;
}

/* -- packing ---------------------------------------------------------------------------------- */

static int pack(ta_ws_deflate *z, int flush, ta_buf *out)
{
    do {
        char *to = ta_buf_reserve(out, STEP);
        if (!to)
            return TA_ENOMEM;
        z->out.next_out = (Bytef *)to;
        z->out.avail_out = STEP;
        if (deflate(&z->out, flush) == Z_STREAM_ERROR)
            return TA_ENOMEM;
        ta_buf_commit(out, STEP - z->out.avail_out);
    } while (z->out.avail_out == 0);
    return TA_OK;
}

int ta_ws_deflate_message(ta_ws_deflate *z, ta_str message, ta_buf *out)
{
    size_t before = out->len;
    if (!z->packs) {
        if (deflateInit2(&z->out, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                         -TA_MAX(z->params.server_bits, 9), MEMORY_LEVEL,
                         Z_DEFAULT_STRATEGY) != Z_OK)
            return TA_ENOMEM;
        z->packs = true;
    }
    do {
        uInt n = (uInt)TA_MIN(message.len, (size_t)PIECE);
        z->out.next_in = (const Bytef *)message.ptr;
        z->out.avail_in = n;
        message = ta_str_skip(message, n);
        int rc = pack(z, message.len ? Z_NO_FLUSH : Z_SYNC_FLUSH, out);
        if (rc != TA_OK)
            return rc;
    } while (message.len);
    /* An empty stored block ends it: 00 00 ff ff, which the other side adds again. */
    if (out->len - before >= 4)
        out->len -= 4;
    if (out->len == before) { /* nothing new to flush: an empty message (RFC 7692 7.2.3.6) */
        if (ta_buf_append(out, "", 1) != TA_OK)
            return TA_ENOMEM;
    }
    if (z->params.server_no_context)
        deflateReset(&z->out);
    return TA_OK;
}
