/*
 * http.h -- the HTTP layer's neutral request, and the seam between a protocol and what serves it.
 *
 * Layer: http (L2).  Knows nothing of Python.  A protocol (h1/conn.c; later h2_conn.c) parses
 * bytes into a ta_req and calls *up* through ta_http_ops; the server calls *down* through the
 * ta_resp_* functions.  All of it happens on the loop thread that owns the connection.
 *
 * Life of a request:
 *   on_request  -> exactly one, when the head is complete (body_eof tells whether the body is)
 *   on_body     -> any number, after new body bytes were appended to req->body, or body_eof was set
 *   on_drain    -> after a ta_resp_* call returned TA_AGAIN, once the send buffer is low again
 *   on_close    -> exactly one, the last upcall: response finished, or the peer is gone, or a
 *                  timeout/protocol error ended it.  `req` is dead when it returns.
 * on_disconnect -> between on_request and on_close: the peer has gone, as far as anybody can tell,
 * although the response is not finished.  The end of its sending side counts as that when nothing
 * is sent for a while (h1/peer.c).  A response that is begun then may find a reader after all:
 * req->disconnected is false again after ta_resp_start, and on_disconnect may come a second time.
 * The request stays valid until it is ended (ta_resp_send/end/abort, ta_raw_close): a client that
 * only half-closed gets its response; for one that is gone ta_resp_* give TA_ECLOSED.
 *
 * No upcall is ever made from within a downcall: what a downcall brings about (on_close after
 * ta_resp_end, on_body after ta_req_want_body) comes when the upcall that it was made in has
 * returned, or else at the end of the loop's batch.
 */
#ifndef TA_HTTP_HTTP_H
#define TA_HTTP_HTTP_H

#include "base/buf.h"
#include "base/lend.h"
#include "base/ta_base.h"

typedef struct ta_header {
    ta_str name;  /* lower-cased in place by the parser */
    ta_str value; /* without surrounding white space */
} ta_header;

typedef enum ta_method {
    TA_METHOD_OTHER = 0,
    TA_METHOD_GET,
    TA_METHOD_HEAD,
    TA_METHOD_POST,
    TA_METHOD_PUT,
    TA_METHOD_DELETE,
    TA_METHOD_OPTIONS,
    TA_METHOD_PATCH,
    TA_METHOD_TRACE,
    TA_METHOD_CONNECT
} ta_method;

struct ta_req;
struct ta_http_conn;

/* Limits and timeouts of one listener; immutable once it serves.  0 means "no limit". */
typedef struct ta_http_limits {
    uint32_t request_line;  /* bytes of the request line, default 8190 */
    uint32_t header_bytes;  /* bytes of all header fields, default 65536 */
    uint32_t header_count;  /* fields, default 100 */
    uint64_t body_bytes;    /* declared or received, default 0 (the application's max_body_size) */
    uint32_t trailer_bytes; /* default 8192 */
    uint32_t chunk_ext_bytes; /* of one chunk-size line, default 4096 */
    uint32_t pipelined;       /* requests answered per turn before others get theirs, default 64 */
    uint32_t body_buffer;     /* body bytes held before reading pauses, default 262144 */
    uint32_t write_buffer; /* response bytes held before ta_resp_* says TA_AGAIN, default 262144 */
    uint32_t connections;  /* open at once, default 0 */
    uint32_t requests_per_conn; /* then `connection: close`, default 0 */
    uint32_t
        timeout_header_ms; /* from first byte (or accept) to the end of the head, default 10000 */
    uint32_t timeout_body_ms;  /* between two reads of a body, default 30000 */
    uint32_t timeout_idle_ms;  /* keep-alive, default 5000 */
    uint32_t timeout_write_ms; /* without progress of a write, default 30000 */
    /* Bytes a second, on average while the peer is waited for: a slower one uses up timeout_body_ms
     * or timeout_write_ms (base/pace.h). */
    uint32_t receive_rate; /* that it must send of a body, default 240 */
    uint32_t send_rate;    /* that it must take of a response, default 240 */
    /* of WebSockets (ws/conn.h); kept here, used by the server */
    uint32_t ws_max_size;         /* bytes of a message, after inflation, default 16777216 */
    uint32_t ws_max_queue;        /* messages that may wait for the application, default 32 */
    uint32_t ws_ping_interval_ms; /* between two pings of ours, default 20000 */
    uint32_t ws_ping_timeout_ms;  /* for the answer to a ping, default 20000 */
    uint32_t ws_close_timeout_ms; /* for the peer's close frame after ours, default 10000 */
} ta_http_limits;

/* What serves the requests: given once per listener. */
typedef struct ta_http_ops {
    void (*on_request)(void *ctx, struct ta_req *req);
    void (*on_body)(struct ta_req *req);
    void (*on_drain)(struct ta_req *req);
    void (*on_disconnect)(struct ta_req *req);
    void (*on_close)(struct ta_req *req);
    /* Upgraded connections (WebSocket): raw bytes after ta_resp_upgrade; data == NULL: peer closed.
     */
    void (*on_raw)(struct ta_req *req, const char *data, size_t len);
} ta_http_ops;

/*
 * One request.  All slices point into the connection's read buffer, which stays where it is until
 * on_close returned: requests of one connection are served one after the other, and bytes of
 * pipelined ones wait behind (bounded by the read buffer, then by TCP).
 */
typedef struct ta_req {
    /* public, read-only */
    ta_str method;
    ta_method method_id;
    ta_str target;   /* as sent */
    ta_str raw_path; /* target's path, still percent-encoded */
    ta_str path;  /* percent-decoded (bytes, unchecked); equals raw_path when nothing was escaped */
    ta_str query; /* without "?" */
    const ta_header *headers; /* borrowed: conn */
    uint32_t nheaders;
    uint8_t version_minor; /* 0 or 1 */
    bool keep_alive;
    bool chunked;
    bool upgrade;           /* "connection: upgrade" with an Upgrade field */
    bool expect_continue;   /* 100 is sent by the first ta_req_want_body */
    bool body_eof;          /* the whole body is in `body` (or was consumed) */
    bool disconnected;      /* as on_disconnect told */
    bool gone;              /* the connection has ended: nothing can be sent any more */
    bool secure;            /* over TLS */
    int64_t content_length; /* -1: none given (no body, or chunked) */
    /* of the response, for whoever sends it: instead of the usual reason phrase; borrowed until the
     * head was written, checked by who sets it */
    ta_str reason;
    ta_buf body; /* received and not consumed yet; consume with ta_req_consume; may point
                    into the read buffer: never append to it or free it */
    struct ta_http_conn *conn; /* borrowed: outlives the request */
    const ta_http_ops *ops;    /* borrowed: listener */
    /* for the server */
    void *user; /* owned by whoever set it; freed in on_close */
    /* private to the protocol */
    void *proto;
} ta_req;

/* -- downcalls, implemented by the protocol ------------------------------------------------- */

/* How much body may be buffered before reading pauses: SIZE_MAX to gather all of it, 0 to pause; at
 * first the limit body_buffer.  A little more than that may arrive.  The first call that is not 0
 * sends 100 Continue if the client waits for it. */
void ta_req_want_body(ta_req *req, size_t upto);
/* Drops the first n bytes of req->body and resumes reading if it was paused. */
void ta_req_consume(ta_req *req, size_t n);

/*
 * A whole response in one call.  `headers` are raw field lines ("name: value\r\n" ...) without
 * date, server, connection, content-length and transfer-encoding unless the application set them
 * (see flags); they are trusted to be well formed.  HEAD and 204/304 drop the body themselves.
 * status: 200 to 999.  What can't be written at once is copied when it is little or `from` is NULL,
 * else kept by its lender until it is sent.
 * TA_OK; TA_AGAIN: accepted, but wait for on_drain before sending more; TA_ECLOSED: the peer has
 * gone (the request ends all the same); TA_EINVAL: a response was begun before, or an impossible
 * status or content-length: nothing was sent, the request goes on.
 */
enum {
    TA_RESP_HAS_DATE = 1,
    TA_RESP_HAS_SERVER = 2,
    TA_RESP_HAS_LENGTH = 4, /* headers carry content-length; ours is not added */
    TA_RESP_CLOSE = 8,      /* headers carry connection: close */
    TA_RESP_CHUNKED = 16    /* headers carry transfer-encoding: chunked (ours is not added) */
};
int ta_resp_send_lent(ta_req *req, int status, ta_str headers, unsigned flags, ta_str body,
                      const ta_lender *from);
static inline int ta_resp_send(ta_req *req, int status, ta_str headers, unsigned flags, ta_str body)
{
    return ta_resp_send_lent(req, status, headers, flags, body, NULL);
}

/* A streamed response: start, then data any number of times, then end.  Without content-length
 * the body is chunked (HTTP/1.1) or ends with the connection (HTTP/1.0).  Results as above;
 * TA_ECLOSED when the peer has gone (the caller still must call ta_resp_end or _abort).  Body
 * beyond the content-length is cut, a body that ends before it ends the connection; both are
 * logged. ta_resp_end without a start answers 500. */
int ta_resp_start(ta_req *req, int status, ta_str headers, unsigned flags);
int ta_resp_data_lent(ta_req *req, ta_str data, const ta_lender *from);
static inline int ta_resp_data(ta_req *req, ta_str data)
{
    return ta_resp_data_lent(req, data, NULL);
}
int ta_resp_end(ta_req *req);
/* Sends `len` bytes of a file from `offset` with sendfile(2), between start and end as
 * ta_resp_data; takes over neither fd nor position.  fd must stay open until on_close. */
int ta_resp_file(ta_req *req, int fd, int64_t offset, int64_t len);
/* 103 and other interim responses; nothing is sent to an HTTP/1.0 client.  TA_EINVAL: not 1xx, 101,
 * or the response was begun. */
int ta_resp_informational(ta_req *req, int status, ta_str headers);
/* Ends the exchange without a complete response: the connection is closed. */
void ta_resp_abort(ta_req *req);
/* Writes what is buffered now instead of at the end of the batch. */
void ta_resp_flush(ta_req *req);
/*
 * Answers 101 with `headers` (connection and upgrade among them; flags: TA_RESP_HAS_DATE and
 * _SERVER): from now on bytes go to ops->on_raw and come from ta_raw_write (results and on_drain as
 * above) until ta_raw_close, which sends what is queued first.  TA_EINVAL: the client did not ask
 * for it, its body is not read, or a response was begun.  ta_raw_read(false) pauses on_raw.
 */
int ta_resp_upgrade(ta_req *req, ta_str headers, unsigned flags);
int ta_raw_write_lent(ta_req *req, ta_str data, const ta_lender *from);
static inline int ta_raw_write(ta_req *req, ta_str data)
{
    return ta_raw_write_lent(req, data, NULL);
}
void ta_raw_read(ta_req *req, bool on);
void ta_raw_close(ta_req *req);
/* Peer and local address of the connection, as text ("" for a unix socket) and port. */
void ta_req_peer(const ta_req *req, ta_str *host, uint16_t *port);
void ta_req_local(const ta_req *req, ta_str *host, uint16_t *port);

#endif
