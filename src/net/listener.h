/*
 * listener.h -- accepts connections from listening sockets.  Layer: net.
 */
#ifndef TA_NET_LISTENER_H
#define TA_NET_LISTENER_H

#include <sys/socket.h>

#include "base/ta_base.h"
#include "net/loop.h"

typedef struct ta_listener ta_listener;

typedef struct ta_listener_ops {
    /* A new connection: fd is the callee's (non-blocking, close-on-exec, TCP_NODELAY).
     * May stop or free the listener. */
    void (*on_accept)(ta_listener *l, int fd, const struct sockaddr *peer, socklen_t peer_len);
    /* May be NULL.  False: the limit of connections is reached; accepting pauses until
     * ta_listener_resume.  Connections wait in the backlog. */
    bool (*may_accept)(ta_listener *l);
    /* May be NULL.  Out of descriptors or memory: accepting pauses for retry_ms by itself. */
    void (*on_exhausted)(ta_listener *l, int error_number);
} ta_listener_ops;

/*
 * OWN: the listener closes fd at its end; else it stays the caller's.
 * SHARED: other threads or processes accept from the same socket.  Of those that are idle each gets
 * a connection in its turn, one at a time; those that are busy are passed over.
 */
enum { TA_LISTENER_OWN = 1, TA_LISTENER_SHARED = 2 };

/* Starts to accept from fd; at most `batch` connections per turn of the loop (0: 64, or 1 when it
 * is shared).  NULL: errno tells, and fd is the caller's. */
TA_MUST_CHECK ta_listener *ta_listener_new(ta_loop *loop, int fd, unsigned flags, unsigned batch,
                                           const ta_listener_ops *ops, void *ctx);
void ta_listener_free(ta_listener *l); /* stops; closes fd if it owns it */
/* Call it when there is room again after may_accept returned false; idempotent. */
void ta_listener_resume(ta_listener *l);
/* Accepts what waits in the backlog now, at most `max`: before the end, as closing the socket would
 * reset it. */
void ta_listener_drain(ta_listener *l, unsigned max);
/*
 * So many bytes of each TCP connection accepted from now on are taken by the kernel before it can
 * send them, and little more; 0: as many as the system's settings say.  What a peer does not read
 * shall wait with us, where it is counted and may be lent: the kernel would take 4 MB of each
 * connection, and we would be busy with copying it.
 */
void ta_listener_bound_unsent(ta_listener *l, uint32_t most);
void *ta_listener_ctx(const ta_listener *l);

#endif
