/*
 * listener.h -- listening sockets: making, adopting and accepting from them.  Layer: net.
 */
#ifndef TA_NET_LISTENER_H
#define TA_NET_LISTENER_H

#include <sys/socket.h>

#include "base/ta_base.h"
#include "net/loop.h"

/* -- making sockets (blocking; at start-up) -------------------------------------------------- */

typedef struct ta_bind_cfg {
    int backlog;     /* 0: 2048 */
    bool reuse_port; /* SO_REUSEPORT: several processes or threads bind the same address */
    bool v6_only;    /* else "::" accepts IPv4 as well */
} ta_bind_cfg;

enum { TA_BIND_MAX = 16 };

/*
 * Binds and listens on each address that `host` stands for (NULL or "": all, in one dual-stack
 * socket if the system can; "localhost": maybe two).  port 0: the system chooses; all get the same.
 * fds: room for TA_BIND_MAX; the caller closes them.  Returns how many, or TA_ENOTFOUND (host
 * unknown), TA_ESYS (errno tells: EADDRINUSE, EACCES...).
 */
TA_MUST_CHECK int ta_bind_tcp(const char *host, uint16_t port, const ta_bind_cfg *cfg, int *fds);
/*
 * A unix socket; a path that begins with "@" is in the abstract namespace.  A socket file on which
 * nobody listens any more is replaced; anything else there gives EADDRINUSE.  mode: permission bits
 * of the file, or -1.  Returns the descriptor or TA_ESYS; TA_ETOOLARGE: the path is too long.
 */
TA_MUST_CHECK int ta_bind_unix(const char *path, int mode, const ta_bind_cfg *cfg);
/* Removes the file of a socket of ours, if it is still that one. */
void ta_unbind_unix(const char *path, int fd);
/* Makes an inherited descriptor usable (non-blocking, close-on-exec); listens if it does not yet.
 * TA_OK; TA_EINVAL: no stream socket; TA_ESYS. */
TA_MUST_CHECK int ta_bind_adopt(int fd, const ta_bind_cfg *cfg);
/* Descriptors that systemd passed to this process (LISTEN_PID, LISTEN_FDS): 3 .. 3 + n - 1. */
int ta_bind_systemd(void);
/* The address of a listening socket: "127.0.0.1", port; a unix socket: its path (or "@name"), 0.
 * host: room for TA_ADDR_TEXT bytes, NUL-terminated.  TA_OK or TA_ESYS. */
enum { TA_ADDR_TEXT = 120 };
int ta_sock_name(int fd, char *host, uint16_t *port);

/* -- accepting ------------------------------------------------------------------------------ */

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

/* Starts to accept from fd; at most `batch` connections a turn of the loop (0: 64, or 1 when it is
 * shared).  NULL: errno tells, and fd is the caller's. */
TA_MUST_CHECK ta_listener *ta_listener_new(ta_loop *loop, int fd, unsigned flags, unsigned batch,
                                           const ta_listener_ops *ops, void *ctx);
void ta_listener_free(ta_listener *l); /* stops; closes fd if it owns it */
/* Stops for good or for a while; idempotent.  The kernel still queues connections. */
void ta_listener_pause(ta_listener *l);
void ta_listener_resume(ta_listener *l);
/* Accepts what waits in the backlog now, at most `max`: before the end, as closing the socket would
 * reset it. */
void ta_listener_drain(ta_listener *l, unsigned max);
bool ta_listener_active(const ta_listener *l);
void *ta_listener_ctx(const ta_listener *l);
int ta_listener_fd(const ta_listener *l);

#endif
