/*
 * mux/mux.h -- a second protocol, for tests: many requests at once over one connection.
 *
 * Layer: http.  It shows that whatever serves requests needs to know nothing of HTTP/1: bodies and
 * responses come in pieces under flow control, one request ends without its connection, nothing is
 * text that a socket could have carried as HTTP/1.  Nobody listens for it but who asks for it
 * (Server._listen_mux in tests).
 *
 * A frame: length of the payload (4 bytes, big-endian), type, flags, id of the request (4 bytes,
 * chosen by the client, rising), payload of at most TA_MUX_FRAME_MAX bytes.
 *
 *   HEAD    from the client: "METHOD target\n", then "name:value\n" for each field
 *           to it: "status\n", then field lines that end with "\r\n"
 *   DATA    body bytes, or those of an upgraded request
 *   RESET   the sender gives the request up; to a client: its response stays incomplete
 *   WINDOW  4 bytes: so many more body bytes are welcome; both start with TA_MUX_WINDOW_START
 *   GOAWAY  to the client: no further requests are served
 */
#ifndef TA_HTTP_MUX_MUX_H
#define TA_HTTP_MUX_MUX_H

#include "http/server.h"

typedef enum ta_mux_type {
    TA_MUX_HEAD = 1,
    TA_MUX_DATA,
    TA_MUX_RESET,
    TA_MUX_WINDOW,
    TA_MUX_GOAWAY
} ta_mux_type;

/* Flags. */
enum {
    TA_MUX_END = 1,     /* HEAD, DATA: the sender's last frame of the request */
    TA_MUX_INTERIM = 2, /* HEAD to the client: 1xx; the response's is still to come */
    TA_MUX_UPGRADE = 4  /* HEAD from the client: asks for an upgrade; has no body */
};

enum { TA_MUX_FRAME_HEAD = 10, TA_MUX_FRAME_MAX = 65536, TA_MUX_WINDOW_START = 65536 };

/* Serves an accepted socket with this protocol.  Takes over fd and transport in any outcome.
 * TA_OK, TA_ENOMEM, TA_ESYS. */
TA_MUST_CHECK int ta_mux_accept(ta_http_server *server, int fd, const struct sockaddr *peer,
                                socklen_t peer_len, ta_transport *transport);

#endif
