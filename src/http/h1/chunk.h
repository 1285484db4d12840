/*
 * h1/chunk.h -- decoder of chunked bodies (RFC 9112 section 7.1).  Layer: http.
 *
 * Incremental and pure; keeps a few counters, no bytes.  Strict: CRLF and nothing else ends a line,
 * no white space round a chunk size but before an extension (RFC 9112 7.1.1), extensions must be
 * well formed, sizes must fit.  Trailer fields are checked and dropped, as neither door passes them
 * on.
 *
 * Besides the limit of one line there is one of all: lines that are longer than 16 bytes and twice
 * their chunk may add up to 16 times chunk_ext_bytes, so that a client can't make us read
 * extensions endlessly by sending one body byte with each.
 */
#ifndef TA_HTTP_H1_CHUNK_H
#define TA_HTTP_H1_CHUNK_H

#include "http/http.h"

typedef struct ta_h1_chunk {
    /* public, read-only */
    uint64_t total;     /* body bytes decoded so far */
    uint64_t remaining; /* bytes of the current chunk still to come */
    const char *reason; /* after a failure: static text */
    /* private */
    uint32_t line_bytes; /* of the current chunk-size line */
    uint32_t trailer_bytes;
    uint32_t max_line; /* 0: no limit */
    uint32_t max_trailer;
    uint64_t overhead; /* of all lines, beyond what plain chunks need */
    uint8_t state;
    bool size_digits;
} ta_h1_chunk;

void ta_h1_chunk_init(ta_h1_chunk *chunk, const ta_http_limits *limits); /* not kept */

/*
 * Reads on until a run of body bytes, the end of the body, or the end of the input.  *used: bytes
 * of data read, always written; *body: the run, within them, empty if there was none.
 * TA_AGAIN: call again (with what is behind *used, if anything); TA_OK: the body is complete, the
 * bytes from *used on belong to the next request; TA_EBAD (400), TA_ETOOLARGE (413).
 */
TA_MUST_CHECK int ta_h1_chunk_next(ta_h1_chunk *chunk, const char *data, size_t len, size_t *used,
                                   ta_str *body);

#endif
