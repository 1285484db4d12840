/*
 * ws_handshake.h -- the opening of a WebSocket: is a request one (RFC 6455 4.2), and what is
 * answered, with permessage-deflate (RFC 7692 7.1).
 *
 * Layer: http.  Looks at header fields alone, so that it serves any HTTP version.
 */
#ifndef TA_HTTP_WS_HANDSHAKE_H
#define TA_HTTP_WS_HANDSHAKE_H

#include "base/buf.h"
#include "http/http.h"
#include "http/ws/deflate.h"

typedef struct ta_ws_handshake {
    ta_str key; /* borrowed: the request's Sec-WebSocket-Key; empty over HTTP/2 */
    ta_ws_deflate_params deflate;
    bool tell_server_bits, tell_client_bits; /* in the answer */
    /* when it is refused: */
    int status;         /* 400, 405 or 426 */
    const char *reason; /* static text for the body */
} ta_ws_handshake;

/* Whether a field (lower-case name) lists a word, in any case: "upgrade", "websocket". */
bool ta_ws_field_lists(const ta_header *headers, uint32_t n, ta_str name, ta_str word);

/*
 * Checks the request of a client that asks for an upgrade to websocket.  TA_OK, or TA_EBAD with
 * status and reason set.  deflate: whether to agree on compression if the client offers it.
 */
TA_MUST_CHECK int ta_ws_handshake_check(const ta_req *req, bool deflate, ta_ws_handshake *out);

/*
 * The next subprotocol that the client offers, in its order.  *at: 0 at first.  False: no more.
 */
bool ta_ws_next_protocol(const ta_header *headers, uint32_t n, size_t *at, ta_str *out);
/* Whether it may be sent as one: a token (RFC 9110 5.6.2). */
bool ta_ws_protocol_ok(ta_str protocol);

/* Appends the fields of the answer that accepts; `protocol` may be empty.  TA_OK, TA_ENOMEM. */
TA_MUST_CHECK int ta_ws_handshake_answer(const ta_ws_handshake *hs, ta_str protocol,
                                         ta_fields *out);

#endif
