/*
 * http_limits.h -- limits and timeouts of one listener: their names, types and defaults, once.
 *
 * Layer: http.  The struct, ta_http_limits_default, the server's argument `limits` and the settings
 * of python/turboapi/config.py (through _core.HTTP_LIMITS) are all made from TA_HTTP_LIMITS.
 */
#ifndef TA_HTTP_HTTP_LIMITS_H
#define TA_HTTP_HTTP_LIMITS_H

#include "base/ta_base.h"

/* X(type, name, default); 0 means "no limit", times are milliseconds.  The bytes of a body are
 * those declared or received.  A header's time runs from its first byte (or from accept) to its
 * end, a body's between two reads, that of a write while it makes no progress.  The rates are bytes
 * a second, on average while the peer is waited for: a slower one uses up timeout_body_ms or
 * timeout_write_ms (base/pace.h).  Those of WebSockets (ws/conn.h) are kept here and used by the
 * server. */
/* clang-format off */
#define TA_HTTP_LIMITS(X)                                                                          \
    X(uint32_t, request_line, 8190)          /* bytes */                                           \
    X(uint32_t, header_bytes, 65536)         /* of all fields */                                   \
    X(uint32_t, header_count, 100)                                                                 \
    X(uint64_t, body_bytes, 0)               /* the application has its own max_body_size */       \
    X(uint32_t, trailer_bytes, 8192)                                                               \
    X(uint32_t, chunk_ext_bytes, 4096)       /* of one chunk-size line */                          \
    X(uint32_t, pipelined, 64)               /* requests per turn before others get theirs */      \
    X(uint32_t, body_buffer, 262144)         /* bytes held before reading pauses */                \
    X(uint32_t, write_buffer, 262144)        /* bytes held before ta_resp_* return TA_AGAIN */     \
    X(uint32_t, unsent, 1048576)             /* bytes that the kernel holds before us */             \
    X(uint32_t, connections, 0)              /* open at once */                                    \
    X(uint32_t, requests_per_conn, 0)        /* then `connection: close` */                        \
    X(uint32_t, timeout_handshake_ms, 10000) /* of TLS */                                          \
    X(uint32_t, timeout_header_ms, 10000)                                                          \
    X(uint32_t, timeout_body_ms, 30000)                                                            \
    X(uint32_t, timeout_idle_ms, 5000)       /* keep-alive */                                      \
    X(uint32_t, timeout_write_ms, 30000)                                                           \
    X(uint32_t, receive_rate, 240)           /* that a peer must send of a body */                 \
    X(uint32_t, send_rate, 240)              /* that a peer must take of a response */             \
    X(uint32_t, h2_streams, 100)             /* of an HTTP/2 connection, open at once */            \
    X(uint32_t, h2_stream_window, 262144)    /* bytes that a client may send unread on each */     \
    X(uint32_t, h2_conn_window, 1048576)     /* and on all of them together */                     \
    X(uint32_t, h2_resets, 200)              /* of streams; ten seconds restore all of them */     \
    X(uint32_t, h2_control_frames, 1000)     /* the same for frames without a request */           \
    X(uint32_t, h2_continuations, 8)         /* frames that continue one header block */           \
    X(uint32_t, ws_max_size, 16777216)       /* bytes of a message, after inflation */             \
    X(uint32_t, ws_max_queue, 32)            /* messages that wait for the application */          \
    X(uint32_t, ws_ping_interval_ms, 20000)                                                        \
    X(uint32_t, ws_ping_timeout_ms, 20000)                                                         \
    X(uint32_t, ws_close_timeout_ms, 10000)  /* for the peer's close frame after ours */
/* clang-format on */

/* Immutable once the listener serves. */
typedef struct ta_http_limits {
#define X(type, name, value) type name;
    TA_HTTP_LIMITS(X)
#undef X
} ta_http_limits;

static inline void ta_http_limits_default(ta_http_limits *limits)
{
    *limits = (ta_http_limits){
#define X(type, name, value) .name = value,
        TA_HTTP_LIMITS(X)
#undef X
    };
}

#endif
