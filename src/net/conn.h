/*
 * conn.h -- one connection: descriptor, transport, buffers, deadlines; owns the bytes, not their
 * meaning.
 *
 * Layer: net (L1).  The protocol embeds a ta_conn or points to it and is called through
 * ta_conn_ops.  All of it on the thread of the loop.
 *
 * Rules that make callers simple:
 *  - Every ta_conn_* function may be called from within any upcall, on a closed connection too
 *    (they then do nothing or return TA_ECLOSED).
 *  - on_close is the only place where the memory of a connection may be freed.  It is upcalled
 *    exactly once after ta_conn_open succeeded, never from within another ta_conn_* call or
 *    upcall: at the end of the batch (or from ta_conn_group_free).  No upcall follows it.
 *  - After ta_conn_close/ta_conn_finish no upcall but on_close follows.
 *  - Upcalls do not nest: on_drain, on_eof, on_timeout never come from within ta_conn_write etc.
 */
#ifndef TA_NET_CONN_H
#define TA_NET_CONN_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/bufpool.h"
#include "base/lend.h"
#include "base/list.h"
#include "base/pace.h"
#include "base/ta_base.h"
#include "base/timer.h"
#include "net/loop.h"
#include "net/transport.h"

typedef struct ta_conn ta_conn;
typedef struct ta_conn_group ta_conn_group;

/* All may be NULL except on_data and on_close. */
typedef struct ta_conn_ops {
    /* The handshake is over (at once, from ta_conn_open, for plain sockets): bytes may flow.
     * ta_conn_alpn tells what was chosen; ta_conn_set_ops may hand over to that protocol. */
    void (*on_open)(ta_conn *c);
    /* New bytes are in c->in (or in the sink, see ta_conn_set_sink).  Consume what is understood
     * with ta_conn_consume (never ta_buf_consume); what is left stays, and on_data comes again
     * when there is more. */
    void (*on_data)(ta_conn *c);
    /* The output queue fell to the low mark after a write returned TA_AGAIN. */
    void (*on_drain)(ta_conn *c);
    /* The peer ended its sending side (FIN) and all its bytes were delivered.  Once.  We may still
     * write.  NULL: as if it called ta_conn_finish. */
    void (*on_eof)(ta_conn *c);
    /* The peer ended its sending side while reading is paused: bytes may wait before the end (they
     * come, and then on_eof, once reading is resumed).  At most once. */
    void (*on_hup)(ta_conn *c);
    /* The deadline of ta_conn_set_deadline passed; it is no longer armed.  NULL: ta_conn_close. */
    void (*on_timeout)(ta_conn *c);
    /* Last upcall.  Why: TA_OK: ta_conn_close or ta_conn_finish; TA_ECLOSED: reset by the peer;
     * TA_ETIMEOUT: no progress of a write; TA_EBAD: the peer broke the protocol of the transport;
     * TA_ENOMEM; TA_ESYS. */
    void (*on_close)(ta_conn *c, int reason);
} ta_conn_ops;

/* Settings of the connections of a group; 0 means the default. */
typedef struct ta_conn_cfg {
    uint32_t read_size;  /* bytes of a pooled read buffer, default 16384 */
    uint32_t read_max;   /* unconsumed bytes in c->in at which reading stops, default 131072 */
    uint32_t write_high; /* queued bytes from which writes return TA_AGAIN, default 262144 */
    uint32_t write_low;  /* queued bytes at which on_drain comes, default write_high / 4 */
    uint32_t write_timeout_ms; /* without progress of a write, default 30000; UINT32_MAX: none */
    uint32_t write_rate;       /* bytes per second that the peer must take at least while some wait:
                                * slower peers use up write_timeout_ms; default 240; UINT32_MAX: none */
    uint32_t linger_ms;        /* lingering close, default 2000 */
    uint32_t linger_bytes;     /* drained and dropped at most by it, default 1 MiB */
    uint32_t pool_buffers;     /* spare buffers kept, default 128 */
} ta_conn_cfg;

/* The connections of one loop that share settings: list, count, pooled buffers. */
TA_MUST_CHECK ta_conn_group *ta_conn_group_new(ta_loop *loop, const ta_conn_cfg *cfg); /* copied */
/* Closes what is left at once (on_close is upcalled from here), then frees. */
void ta_conn_group_free(ta_conn_group *group);
const ta_conn_cfg *ta_conn_group_cfg(const ta_conn_group *group); /* defaults filled in */

typedef struct ta_conn_seg ta_conn_seg; /* private */

typedef union ta_conn_addr {
    struct sockaddr sa; /* AF_UNSPEC: none, as for unix sockets */
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} ta_conn_addr;

struct ta_conn {
    /* public, read-only */
    const ta_conn_ops *ops; /* borrowed: static */
    void *proto;            /* for the protocol's use, which owns it */
    ta_conn_group *group;   /* borrowed: outlives the connection */
    ta_loop *loop;          /* borrowed: outlives the group */
    ta_buf in;              /* received, not consumed */
    uint64_t bytes_in;      /* of the protocol, since open */
    uint64_t bytes_out;
    bool closed; /* ta_conn_close was called or it failed: no more I/O */
    bool eof;    /* the peer's FIN was read: no more bytes come */
    bool hup;    /* the peer's FIN was read, or is known to wait behind unread bytes */

    /* private */
    uint8_t state;
    bool read_paused;   /* by the protocol */
    bool read_full;     /* by c->in being full */
    bool want_drain;    /* a write said TA_AGAIN */
    bool write_blocked; /* the transport took no more: its write_wants is watched */
    bool sending;       /* within the send loop: callbacks must not start another */
    bool linger;
    int reason;
    ta_io io;
    ta_transport *transport; /* owned when it is not &tcp */
    ta_transport tcp;
    size_t pin_end;    /* c->in.data[0 .. pin_end) is pinned */
    ta_buf held;       /* pinned bytes whose buffer had to be replaced */
    ta_buf *ending;    /* borrowed: in and held, while on_close runs */
    ta_buf out;        /* bytes to send after all of segs */
    ta_conn_seg *segs; /* owned: queue of what cannot be in `out` */
    ta_conn_seg *segs_tail;
    size_t queued; /* bytes in out and segs */
    size_t turn;   /* bytes sent at once, without queueing, since others had their turn */
    ta_buf *sink;  /* borrowed: until reset */
    uint64_t sink_left;
    uint32_t linger_left;
    ta_timer deadline; /* the protocol's */
    ta_timer progress; /* of writing, or of lingering */
    ta_pace pace;      /* of writing, while `progress` runs for it */
    uint64_t taken;    /* bytes that the peer had acknowledged at pace.since */
    ta_defer later;    /* end of batch: send; read what the transport holds; on_close */
    ta_list_node node; /* in the group */
    char peer_text[INET6_ADDRSTRLEN]; /* both made when first asked for */
    char local_text[INET6_ADDRSTRLEN];
    uint16_t peer_port, local_port;
    ta_conn_addr peer;
};

/*
 * Takes over fd (a connected, non-blocking stream socket) and starts to read.  `c` is memory of the
 * caller, which need not be initialised and must stay until on_close.  `peer` as accept gave it,
 * may be NULL.  `transport`: NULL for a plain socket, else taken over (closed through its ops).
 * TA_OK; else nothing was taken over: TA_ESYS, TA_ENOMEM.  on_open and even ta_conn_close (not
 * on_close) may have happened before it returns.
 */
TA_MUST_CHECK int ta_conn_open(ta_conn *c, ta_conn_group *group, int fd,
                               const struct sockaddr *peer, socklen_t peer_len,
                               ta_transport *transport, const ta_conn_ops *ops, void *proto);
/* Another protocol takes over (after ALPN, or an upgrade).  Unconsumed bytes stay in c->in; the
 * new protocol looks at them itself. */
void ta_conn_set_ops(ta_conn *c, const ta_conn_ops *ops, void *proto);

/* -- ending --------------------------------------------------------------------------------- */

/* Drops queued output and closes the descriptor now. */
void ta_conn_close(ta_conn *c);
/* The same, with an RST instead of a FIN, so that the peer cannot mistake a truncated response for
 * a complete one. */
void ta_conn_reset(ta_conn *c);
/*
 * Sends what is queued, then closes.  With `linger` (use it whenever the peer may still be sending,
 * as after an error in the middle of a request): shutdown, then its bytes are read and dropped for
 * a bounded time and amount until its FIN, so that no RST destroys the response on its way. c->in
 * and what is pinned there stay readable until on_close.
 */
void ta_conn_finish(ta_conn *c, bool linger);

/* -- reading -------------------------------------------------------------------------------- */

/* Drops the first n bytes of c->in; resumes reading that c->in being full had stopped. */
void ta_conn_consume(ta_conn *c, size_t n);
/* Reads what has come by now, unless reading is paused: for one whose time is over, as what came
 * within it may wait behind what others sent.  True: something had come, and was told. */
bool ta_conn_look(ta_conn *c);
/* No on_data until resumed.  Free of system calls unless the peer does send meanwhile. */
void ta_conn_pause(ta_conn *c);
/* on_data does not come for bytes that were in c->in before: the caller looks at them itself. */
void ta_conn_resume(ta_conn *c);
/*
 * Consumes n bytes as ta_conn_consume does, but they keep their place in memory until ta_conn_unpin
 * or the end of on_close, whatever is received meanwhile: slices of a request's head stay valid.
 * Bytes behind them may move.  One pin at a time.
 */
void ta_conn_consume_pinned(ta_conn *c, size_t n);
void ta_conn_unpin(ta_conn *c); /* no-op when nothing is pinned */
/* In on_close only: the memory of c->in and of what is pinned becomes the caller's, who frees both
 * with ta_buf_free: for slices that must outlive the connection. */
void ta_conn_keep_input(ta_conn *c, ta_buf keep[2]);
/*
 * The next `n` bytes go straight behind those in `sink` (a body) instead of into c->in, which must
 * be empty; on_data after each read.  Ends by itself after n bytes; n == 0 ends it now.  The sink
 * must stay until then or until on_close.  ta_conn_sink_left: how many are still to come.
 */
void ta_conn_set_sink(ta_conn *c, ta_buf *sink /* borrowed */, uint64_t n);
uint64_t ta_conn_sink_left(const ta_conn *c);

/* -- writing -------------------------------------------------------------------------------- */
/*
 * What is written is sent at the end of the batch in one system call, or at once when it is much.
 * Results of all: TA_OK; TA_AGAIN: taken, but on_drain should be awaited before more is written
 * (memory is only bounded if the caller does, and only so do others get their turn while a fast
 * peer takes all there is); TA_ECLOSED: closed, or finish was called;
 * TA_ENOMEM: the connection has closed itself.  The bytes are in order of the calls.
 */
int ta_conn_write(ta_conn *c, const void *data, size_t len); /* copies what it cannot send */
/* What is queued, then `data` and `tail`, are sent at once, as far as the peer takes them and as
 * much as is one connection's share of a turn.  What is left of `data` is kept by its lender
 * (copied if it is short, or NULL was given); what is left of `tail`, which should be short, is
 * copied. */
int ta_conn_write_lent(ta_conn *c, ta_str data, ta_str tail, const ta_lender *from);
/*
 * A range of a file; fd is borrowed until done(arg, error), which is called exactly once in any
 * outcome (NULL: nobody cares, and fd is closed by the connection when done).  error: TA_OK,
 * TA_ECLOSED, or TA_ESYS when the file could not be read or is shorter than promised: the
 * connection was reset then.
 */
int ta_conn_sendfile(ta_conn *c, int fd, int64_t offset, uint64_t len,
                     void (*done)(void *arg, int error), void *arg);
/*
 * Builds output in place: room for n bytes, or NULL when closed or out of memory (the connection
 * has closed itself); then commit what was written there (<= n) before any other call.
 */
TA_MUST_CHECK char *ta_conn_reserve(ta_conn *c, size_t n);
int ta_conn_commit(ta_conn *c, size_t n);
/* Sends now instead of at the end of the batch.  TA_OK, TA_AGAIN: not all; TA_ECLOSED. */
int ta_conn_flush(ta_conn *c);
/* Bytes not yet handed to the kernel. */
size_t ta_conn_queued(const ta_conn *c);
/* Bytes that the peer has not acknowledged, queued ones among them (for a unix socket: a little
 * more than it has not read).  A system call, unless some are queued. */
size_t ta_conn_unacknowledged(const ta_conn *c);
/* From now on asks a peer that is silent once a minute whether it is there (TCP keep-alive).  A FIN
 * does not tell whether the peer still reads; one that does not answers with a reset, at the latest
 * when its kernel has forgotten the connection.  (A unix socket shows it by itself.) */
void ta_conn_probe(ta_conn *c);

/* -- the rest ------------------------------------------------------------------------------- */

/* on_timeout `ms` from the batch's clock on; replaces the one before.  Nearly free to call for each
 * request.  The first one is best set right after ta_conn_open: it bounds the handshake of a
 * transport too. ta_conn_clear_deadline: none. */
void ta_conn_set_deadline(ta_conn *c, uint32_t ms);
void ta_conn_clear_deadline(ta_conn *c);
/* Addresses as text ("" and 0 for a unix socket), made at the first call; live as long as c. */
void ta_conn_peer(ta_conn *c, ta_str *host, uint16_t *port);
void ta_conn_local(ta_conn *c, ta_str *host, uint16_t *port);
ta_str ta_conn_alpn(const ta_conn *c); /* what the handshake chose, or empty */
bool ta_conn_secure(const ta_conn *c);

#endif
