/*
 * transport.h -- what carries the bytes of a connection: plain sockets (tcp.h), TLS (tls.h).
 *
 * Layer: net.  A stream is driven by ta_conn alone, on its loop thread, and never blocks.
 */
#ifndef TA_NET_TRANSPORT_H
#define TA_NET_TRANSPORT_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/ta_base.h"

typedef struct ta_stream ta_stream;

/*
 * Results of the calls below: TA_AGAIN means "nothing now": wait for `read_wants` (after read and
 * handshake) or `write_wants` (after the others).  TA_ECLOSED: the peer reset the connection or
 * takes no more bytes.  TA_EBAD: it broke the protocol of the stream.  TA_ESYS: errno tells.
 */
typedef struct ta_stream_ops {
    /* Bytes read (> 0), 0 when the peer ended its side in order, or an error. */
    ssize_t (*read)(ta_stream *s, void *data, size_t cap);
    /* Bytes taken (> 0; may be fewer than given), or an error.  n <= TA_STREAM_IOV. */
    ssize_t (*writev)(ta_stream *s, const struct iovec *iov, int n);
    /* The same for a range of a file; 0: the file ends before `offset`.  NULL or TA_EUNSUPPORTED:
     * ta_conn reads the file and writes. */
    ssize_t (*sendfile)(ta_stream *s, int fd, int64_t offset, size_t len);
    /* TA_OK: done, read and write may be called.  NULL: none needed. */
    int (*handshake)(ta_stream *s);
    /* Tells the peer that no more bytes come (FIN, close_notify).  TA_OK, TA_AGAIN or an error. */
    int (*shutdown)(ta_stream *s);
    /* Bytes that read() would give although the descriptor need not be readable.  NULL: never. */
    size_t (*pending)(const ta_stream *s);
    /* Frees what the stream owns; ta_conn closes the descriptor.  Never waits.  NULL: nothing. */
    void (*close)(ta_stream *s);
    /* The protocol chosen in the handshake ("h2"), or an empty slice.  NULL: none. */
    ta_str (*alpn)(const ta_stream *s);
} ta_stream_ops;

enum { TA_STREAM_IOV = 16 };

/* Embed it in the stream of a kind. */
struct ta_stream {
    const ta_stream_ops *ops; /* borrowed: static */
    int fd;                   /* owned by the ta_conn */
    uint8_t read_wants;       /* TA_EV_*: what read and handshake wait for after TA_AGAIN */
    uint8_t write_wants;      /* the same for the others */
    bool secure;              /* bytes are encrypted: scheme "https" */
};

#endif
