/* tcp.h -- the plain transport: a TCP or unix socket as it is.  Layer: net. */
#ifndef TA_NET_TCP_H
#define TA_NET_TCP_H

#include "net/transport.h"

/* Any non-blocking stream socket; allocates nothing. */
void ta_tcp_init(ta_transport *s, int fd);

#endif
