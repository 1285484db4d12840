/*
 * compress.h -- gzip streams for response bodies.  Layer: http.  Only compress.c includes zlib.h
 * for this; the WebSocket code has its own for permessage-deflate.
 *
 * A ta_gzip belongs to one thread at a time.  It takes about 270 KB, so keep one and reset it if
 * you compress often.
 */
#ifndef TA_HTTP_COMPRESS_H
#define TA_HTTP_COMPRESS_H

#include "base/buf.h"

typedef struct ta_gzip ta_gzip;

typedef enum ta_gzip_end {
    TA_GZIP_FLUSH, /* a chunk of a stream: the output so far contains all of the input */
    TA_GZIP_FINISH /* the last chunk: the trailer follows; then only reset or free */
} ta_gzip_end;

/* level: -1 (zlib's default) to 9.  NULL: out of memory, or another level.  Free with ta_gzip_free.
 */
TA_MUST_CHECK ta_gzip *ta_gzip_new(int level);
void ta_gzip_free(ta_gzip *gz); /* NULL: no-op */
int ta_gzip_level(const ta_gzip *gz);
/* Makes it ready for another stream, whatever was done before. */
void ta_gzip_reset(ta_gzip *gz);
/*
 * Compresses `data` and appends what comes out to `out`.  The bytes are those of Python's
 * compressobj(level, DEFLATED, 31): compress(data) and then flush(Z_SYNC_FLUSH), or flush().
 * TA_OK; TA_ENOMEM; TA_EINVAL: the stream was finished.  After an error: reset or free.
 */
TA_MUST_CHECK int ta_gzip_write(ta_gzip *gz, ta_str data, ta_gzip_end end, ta_buf *out);

#endif
