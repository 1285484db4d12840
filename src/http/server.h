/*
 * server.h -- the connections that share a listener's settings, whatever their protocol.
 *
 * Layer: http.  A ta_http_server belongs to one loop (and thread) and holds the connections that
 * share limits and ops; listeners pass accepted sockets to it.  The downcalls of its requests are
 * in http.h.  What its protocols see of it is in server_int.h.
 */
#ifndef TA_HTTP_SERVER_H
#define TA_HTTP_SERVER_H

#include <sys/socket.h>

#include "base/log.h"
#include "http/http.h"
#include "net/loop.h"
#include "net/transport.h"

typedef struct ta_http_server ta_http_server;

typedef struct ta_http_cfg {
    const ta_http_limits *limits; /* copied */
    const ta_http_ops *ops;       /* borrowed: outlives the server */
    void *ctx;                    /* borrowed: first argument of on_request */
    ta_str server_name;           /* copied: value of the server field; empty: none is sent */
    const ta_response_head *more; /* copied: fields of every response besides; NULL: none */
    const ta_log *log;            /* borrowed: outlives the server; NULL: silent */
    bool http2;                   /* clients of plain connections may speak it (h2/conn.h) */
    /* May be NULL.  Called when a connection ended after ta_http_server_full returned true, but not
     * from within a call of this header. */
    void (*on_room)(void *ctx);
} ta_http_cfg;

/* NULL: out of memory, or an invalid server_name. */
TA_MUST_CHECK ta_http_server *ta_http_server_new(ta_loop *loop, const ta_http_cfg *cfg);
/* Closes all connections at once; each open request gets its on_close from here. */
void ta_http_server_free(ta_http_server *server);

/* Serves an accepted socket: with HTTP/2 when that was agreed on or the client begins with its
 * preface, else with HTTP/1.  Takes over fd and transport in any outcome.  TA_OK,
 * TA_ENOMEM, TA_ESYS. */
TA_MUST_CHECK int ta_http_server_accept(ta_http_server *server, int fd, const struct sockaddr *peer,
                                        socklen_t peer_len, ta_transport *transport);
/* Whether limits.connections are open; `more` are about to be. */
bool ta_http_server_full(ta_http_server *server, size_t more);
const ta_http_limits *ta_http_server_limits(const ta_http_server *server);
/* Connections not wholly ended. */
size_t ta_http_server_connections(const ta_http_server *server);
/* Calls fn for each request between on_request and on_close; it must not end one, nor free the
 * server. */
void ta_http_server_each(ta_http_server *server, void (*fn)(ta_req *req, void *arg), void *arg);

/*
 * Graceful end: requests in flight, and what arrives on idle connections within a moment (250 ms,
 * as clients that were not told may be sending), are served, and the client is told that no further
 * ones are; then idle connections are closed.  on_done(arg) comes once, when no connection is left
 * (upgraded ones included), from the loop.  The server may be freed in it.  A connection whose
 * response is broken off, or that was upgraded, then ends at once: what the socket does not take is
 * dropped, and its peer's bytes are not awaited.
 */
void ta_http_server_shutdown(ta_http_server *server, void (*on_done)(void *arg), void *arg);

#endif
