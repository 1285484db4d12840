/*
 * decompress.h -- what clients have packed with brotli or zstd, unpacked piece by piece.  (gzip and
 * deflate are unpacked with Python's zlib.)
 *
 * Layer: http.  Only compress_*.c include the libraries' headers.  A ta_unpacker belongs to one
 * thread at a time.  Its memory is bounded: a brotli window has at most 16 MB, one of zstd 8 MB.
 */
#ifndef TA_HTTP_DECOMPRESS_H
#define TA_HTTP_DECOMPRESS_H

#include "base/buf.h"
#include "http/encoding.h"

typedef struct ta_unpacker ta_unpacker;

typedef struct ta_unpacker_ops {
    ta_unpacker *(*make)(void); /* NULL: out of memory */
    void (*destroy)(ta_unpacker *unpacker);
    /* As ta_unpacker_read. */
    int (*read)(ta_unpacker *unpacker, ta_str *data, char *out, size_t room, size_t *len);
} ta_unpacker_ops;

struct ta_unpacker {
    const ta_unpacker_ops *ops; /* borrowed: static */
    bool ended;                 /* the stream is complete */
};

/* Whether this build can unpack it. */
bool ta_unpacker_has(ta_coding coding);
/* NULL: out of memory, or not in this build.  Free with ta_unpacker_free. */
TA_MUST_CHECK ta_unpacker *ta_unpacker_new(ta_coding coding);
void ta_unpacker_free(ta_unpacker *unpacker); /* NULL: no-op */
/*
 * Unpacks from the beginning of *data, which it shortens by what it took, at most `room` bytes into
 * `out`; *len is set.  TA_OK: with less than `room`, it needs more data, or the stream has ended.
 * TA_EBAD: it is no such stream.
 */
TA_MUST_CHECK int ta_unpacker_read(ta_unpacker *unpacker, ta_str *data, char *out, size_t room,
                                   size_t *len);

#ifdef TA_HAVE_BR
extern const ta_unpacker_ops ta_unpacker_br;
#endif
#ifdef TA_HAVE_ZSTD
extern const ta_unpacker_ops ta_unpacker_zstd;
#endif

#endif
