/*
 * h2/conn.h -- HTTP/2 (RFC 9113) over nghttp2: connections that began with another protocol's look.
 *
 * Layer: http.  Every connection starts in h1/; what the handshake of TLS agreed on (ALPN), or the
 * preface of a client with prior knowledge, hands it over.  Without nghttp2 at build time nothing
 * is handed over (h2/none.c).
 */
#ifndef TA_HTTP_H2_CONN_H
#define TA_HTTP_H2_CONN_H

#include "http/server_int.h"

/* What a client's first bytes are. */
#define TA_H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* The version of nghttp2 that is in use; NULL: HTTP/2 was not built in. */
const char *ta_h2_version(void);

/*
 * Serves an open connection, with what is unread in net->in, as HTTP/2.  `net` stays where it is,
 * in memory that free_carrier(carrier) frees: from a later turn of the loop, or when the server is
 * freed.  TA_OK; TA_ENOMEM, TA_EUNSUPPORTED: nothing was taken over.
 */
TA_MUST_CHECK int ta_h2_take(ta_http_server *server, ta_conn *net, void (*free_carrier)(void *arg),
                             void *carrier);

#endif
