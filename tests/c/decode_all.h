/* decode_all.h -- a chunked body decoded in one go: for a test and a fuzz target of chunk.h. */
#ifndef TA_TESTS_DECODE_ALL_H
#define TA_TESTS_DECODE_ALL_H

#include <string.h>

#include "http/h1/chunk.h"

/* All of the input, in place: *used bytes of it are read; body bytes gather at data[0..*body_len).
 */
static int decode_all(ta_h1_chunk *chunk, char *data, size_t len, size_t *used, size_t *body_len)
{
    size_t in = 0, out = 0;
    int rc;
    do {
        size_t n;
        ta_str body;
        rc = ta_h1_chunk_next(chunk, data + in, len - in, &n, &body);
        if (body.len) {
            memmove(data + out, body.ptr, body.len);
            out += body.len;
        }
        in += n;
    } while (rc == TA_AGAIN && in < len);
    *used = in;
    *body_len = out;
    return rc;
}

#endif
