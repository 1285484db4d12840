/* h1/conn.h -- HTTP/1.x connections of a ta_http_server.  Layer: http. */
#ifndef TA_HTTP_H1_CONN_H
#define TA_HTTP_H1_CONN_H

#include "http/server.h"

/* See ta_http_server_accept. */
TA_MUST_CHECK int ta_h1_accept(ta_http_server *server, int fd, const struct sockaddr *peer,
                               socklen_t peer_len, ta_transport *transport);
/* Frees the requests that are kept for reuse. */
void ta_h1_free_spare(ta_http_server *server);

#endif
