/*
 * ws/deflate.h -- permessage-deflate (RFC 7692): messages of one WebSocket, packed and unpacked.
 *
 * Layer: http.  What the two sides agreed on comes from ws/handshake.c.
 */
#ifndef TA_HTTP_WS_DEFLATE_H
#define TA_HTTP_WS_DEFLATE_H

#include "base/buf.h"

/* As agreed in the handshake. */
typedef struct ta_ws_deflate_params {
    bool on;
    bool server_no_context; /* each message of ours is packed by itself */
    bool client_no_context;
    uint8_t server_bits; /* of the windows: 9 to 15 */
    uint8_t client_bits; /* 8 to 15 */
} ta_ws_deflate_params;

typedef struct ta_ws_deflate ta_ws_deflate;

/* The two streams are made when they are first used.  NULL: out of memory. */
TA_MUST_CHECK ta_ws_deflate *ta_ws_deflate_new(const ta_ws_deflate_params *params); /* copied */
void ta_ws_deflate_free(ta_ws_deflate *z); /* NULL: no-op */

/*
 * Appends what a piece of a message gives to `out`; `last`: the message ends with it.  `max`: bytes
 * that `out` may hold, 0: no limit.  TA_OK; TA_ETOOLARGE; TA_EBAD: no such data; TA_ENOMEM.  After
 * a failure it can only be freed.
 */
TA_MUST_CHECK int ta_ws_inflate_piece(ta_ws_deflate *z, ta_str piece, bool last, uint64_t max,
                                      ta_buf *out);
/* Appends a whole message, packed.  TA_OK, TA_ENOMEM. */
TA_MUST_CHECK int ta_ws_deflate_message(ta_ws_deflate *z, ta_str message, ta_buf *out);

#endif
