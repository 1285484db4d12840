/* tcp.h -- the plain stream over a TCP or unix socket.  Layer: net. */
#ifndef TA_NET_TCP_H
#define TA_NET_TCP_H

#include "net/transport.h"

/* Any non-blocking stream socket; allocates nothing. */
void ta_tcp_init(ta_stream *s, int fd);

#endif
