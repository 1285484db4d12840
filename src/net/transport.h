/*
 * transport.h -- what carries the bytes of a connection: a plain socket (tcp.h), or what encrypts
 * on the way to one.
 *
 * Layer: net.  A transport is driven by ta_conn alone, on its loop thread, and never blocks.
 *
 * It may have to read in order to write, and to write in order to read (a handshake in the middle,
 * a new key): after TA_AGAIN, read_wants and write_wants say which event of the descriptor the call
 * waits for.  It may hold bytes of the peer that the descriptor does not show (`pending`).  After a
 * write that said TA_AGAIN it is given the same bytes again, from the same first one on, and maybe
 * more behind them; not so when it is the plain one.
 */
#ifndef TA_NET_TRANSPORT_H
#define TA_NET_TRANSPORT_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/ta_base.h"

typedef struct ta_transport ta_transport;

/*
 * Results of the calls below: TA_AGAIN means "nothing now": wait for `read_wants` (after read and
 * handshake) or `write_wants` (after the others).  TA_ECLOSED: the peer reset the connection or
 * takes no more bytes.  TA_EBAD: it broke the protocol of the transport.  TA_ESYS: errno tells.
 */
typedef struct ta_transport_ops {
    /* Bytes read (> 0), 0 when the peer ended its side in order, or an error. */
    ssize_t (*read)(ta_transport *t, void *data, size_t cap);
    /* Bytes taken (> 0; may be fewer than given), or an error.  n <= TA_TRANSPORT_IOV. */
    ssize_t (*writev)(ta_transport *t, const struct iovec *iov, int n);
    /* The same for a range of a file; 0: the file ends before `offset`.  NULL or TA_EUNSUPPORTED:
     * ta_conn reads the file and writes. */
    ssize_t (*sendfile)(ta_transport *t, int fd, int64_t offset, size_t len);
    /* TA_OK: done, read and write may be called.  NULL: none needed. */
    int (*handshake)(ta_transport *t);
    /* Tells the peer that no more bytes come.  TA_OK, TA_AGAIN or an error. */
    int (*shutdown)(ta_transport *t);
    /* Bytes that read() would give although the descriptor need not be readable.  NULL: never. */
    size_t (*pending)(const ta_transport *t);
    /* Frees what the transport owns; ta_conn closes the descriptor.  Never waits.  NULL: nothing.
     */
    void (*close)(ta_transport *t);
    /* The protocol chosen in the handshake, or an empty slice.  NULL: none. */
    ta_str (*alpn)(const ta_transport *t);
} ta_transport_ops;

enum { TA_TRANSPORT_IOV = 16 };

/* Embed it in the transport of a kind. */
struct ta_transport {
    const ta_transport_ops *ops; /* borrowed: static */
    int fd;                      /* owned by the ta_conn */
    uint8_t read_wants;          /* TA_EV_*: what read and handshake wait for after TA_AGAIN */
    uint8_t write_wants;         /* the same for the others */
    bool secure;                 /* bytes are encrypted: scheme "https" */
    /* What a handshake of TLS chose; ta_conn knows it beyond the end of the transport. */
    uint16_t tls_version;   /* 0x0303: 1.2, 0x0304: 1.3; 0: there was none */
    const char *tls_cipher; /* its name in the IANA registry: static; NULL: it has none */
};

#endif
