/*
 * proxy_gate.h -- connections that were accepted and whose proxy has not said yet whose they are.
 *
 * Layer: net.  On the thread of the loop.  It reads the header (proxy_header.h) and not one byte
 * more, so that whatever follows, TLS among it, finds the socket as if its client had connected.
 */
#ifndef TA_NET_PROXY_GATE_H
#define TA_NET_PROXY_GATE_H

#include "net/loop.h"
#include "net/proxy_header.h"

typedef struct ta_proxy_gate ta_proxy_gate;

typedef struct ta_proxy_gate_ops {
    /* The header is read: fd is the callee's.  `peer` is the client, or who connected if the proxy
     * names none. */
    void (*on_peer)(void *ctx, int fd, const struct sockaddr *peer, socklen_t len);
    /* What came is no header; the connection is closed.  `peer` connected. */
    void (*on_bad)(void *ctx, const struct sockaddr *peer, socklen_t len);
    /* One that waited is gone, without on_peer: there is room for another. */
    void (*on_gone)(void *ctx);
} ta_proxy_gate_ops;

/* timeout_ms: for a header; 0: none.  NULL: out of memory. */
TA_MUST_CHECK ta_proxy_gate *ta_proxy_gate_new(ta_loop *loop, uint32_t timeout_ms,
                                               const ta_proxy_gate_ops *ops, void *ctx);
/* Closes those that wait.  Not from within an upcall.  NULL: no-op. */
void ta_proxy_gate_free(ta_proxy_gate *gate);
/* Takes over an accepted, non-blocking fd.  on_peer may come before it returns.  TA_OK; TA_ENOMEM,
 * TA_ESYS: fd was closed. */
TA_MUST_CHECK int ta_proxy_gate_enter(ta_proxy_gate *gate, int fd, const struct sockaddr *peer,
                                      socklen_t len);
/* How many wait. */
size_t ta_proxy_gate_waiting(const ta_proxy_gate *gate);

#endif
