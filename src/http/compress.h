/*
 * compress.h -- compressed streams for response bodies: gzip, and brotli and zstd where the system
 * had them when this was built.
 *
 * Layer: http.  Only compress_*.c include the libraries' headers; the WebSocket code has its own
 * use of zlib, for permessage-deflate.
 *
 * A ta_packer belongs to one thread at a time.  One of gzip takes about 270 KB, the others more
 * with their level: keep one and reset it if you compress often.
 */
#ifndef TA_HTTP_COMPRESS_H
#define TA_HTTP_COMPRESS_H

#include "base/buf.h"
#include "http/encoding.h"

typedef struct ta_packer ta_packer;

typedef enum ta_pack_end {
    TA_PACK_FLUSH, /* a chunk of a stream: the output so far contains all of the input */
    TA_PACK_FINISH /* the last chunk: the end of the stream follows; then only reset or free */
} ta_pack_end;

/* The levels of a coding, both included.  False: this build does not have it. */
bool ta_packer_levels(ta_coding coding, int *lowest, int *highest);
enum { TA_PACKER_VERSION = 24 }; /* bytes of a version, with its NUL */
/* The version of the library of a coding that this build has. */
void ta_packer_version(ta_coding coding, char out[TA_PACKER_VERSION]);

/* NULL: out of memory, another level, or not in this build.  Free with ta_packer_free. */
TA_MUST_CHECK ta_packer *ta_packer_new(ta_coding coding, int level);
void ta_packer_free(ta_packer *packer); /* NULL: no-op */
ta_coding ta_packer_coding(const ta_packer *packer);
bool ta_packer_is(const ta_packer *packer, ta_coding coding, int level);
/* Makes it ready for another stream, whatever was done before.  False: it can't be, only freed. */
TA_MUST_CHECK bool ta_packer_reset(ta_packer *packer);
/*
 * Compresses `data` and appends what comes out to `out`.  For gzip the bytes are those of Python's
 * compressobj(level, DEFLATED, 31): compress(data) and then flush(Z_SYNC_FLUSH), or flush().
 * TA_OK; TA_ENOMEM; TA_EINVAL: the stream was finished.  After an error: reset or free.
 */
TA_MUST_CHECK int ta_packer_write(ta_packer *packer, ta_str data, ta_pack_end end, ta_buf *out);

#endif
