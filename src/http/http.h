/*
 * http.h -- the HTTP layer's neutral request, and the seam between a protocol and what serves it.
 *
 * Layer: http (L2).  Knows nothing of Python.  A protocol (h1/conn.c) makes a ta_req of what it
 * reads and calls *up* through ta_http_ops; the server calls *down* through the ta_req_*, ta_resp_*
 * and ta_raw_* functions, which reach the protocol through ta_http_proto.  All of it happens on the
 * loop thread that owns the connection.
 *
 * Life of a request:
 *   on_request  -> one, when the head is complete (body_eof tells whether the body is)
 *   on_body     -> any number, after new body bytes were appended to req->body, or body_eof was set
 *   on_drain    -> after a ta_resp_* call returned TA_AGAIN, once the send buffer is low again
 *   on_close    -> exactly one, the last upcall: response finished, or the peer is gone, or a
 *                  timeout/protocol error ended it.  `req` is dead when it returns.
 *   on_refused  -> at most one, and only on_close follows: in place of on_request, for what could
 *                  be read of a head (not even the request line: its target is empty), or later,
 *                  when the body is too long or too late and no response has begun
 *
 * on_disconnect -> between on_request and on_close: the peer has disconnected, as far as anybody
 * can tell, although the response is not finished.  The end of its sending side counts as that when
 * nothing is sent for a while (h1/peer.c).  A response that begins then may find a reader after
 * all: req->disconnected is false again after ta_resp_start, and on_disconnect may come a second
 * time. The request stays valid until it is ended (ta_resp_send/end/abort, ta_raw_close): a client
 * that only half-closed gets its response; after a full disconnect ta_resp_* return TA_ECLOSED.
 *
 * No upcall is ever made from within a downcall: what a downcall causes (on_close after
 * ta_resp_end, on_body after ta_req_want_body) follows when the upcall that it was made in has
 * returned, or else at the end of the loop's batch.
 */
#ifndef TA_HTTP_HTTP_H
#define TA_HTTP_HTTP_H

#include "base/buf.h"
#include "base/lend.h"
#include "base/ta_base.h"
#include "http/fields.h"
#include "http/http_limits.h"
#include "net/transport.h"

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
    /* The protocol answers with an error of its own, of that head and body.  May add fields to the
     * head, in `room`; makes no downcalls.  NULL allowed. */
    void (*on_refused)(void *ctx, struct ta_req *req, ta_response_head *head, ta_str body,
                       ta_fields *room);
} ta_http_ops;

/* The version of a request's protocol: major * 10 + minor. */
typedef enum ta_http_version { TA_HTTP_1_0 = 10, TA_HTTP_1_1 = 11, TA_HTTP_2 = 20 } ta_http_version;

/* As a scope and a log line have it: "1.0", "1.1", "2". */
static inline ta_str ta_http_version_text(ta_http_version version)
{
    return version == TA_HTTP_1_1 ? TA_STR("1.1")
           : version == TA_HTTP_2 ? TA_STR("2")
                                  : TA_STR("1.0");
}

/* What the server keeps of a request until on_close, where none of its own objects would do. */
typedef struct ta_req_notes {
    uint64_t began;        /* ns of the monotonic clock; 0: nobody asks how long it took */
    uint64_t sent;         /* bytes of the response's body that the protocol was given */
    const void *routed_by; /* borrowed: whose table of routes led to an entry, its number ... */
    uint32_t entry;        /* ... is this; NULL: nobody's */
    uint32_t seat;         /* among the requests in flight that a metrics page shows; 0: none */
    bool unheard;          /* the client had gone when the response began */
    uint8_t id_len;        /* bytes of ... */
    char *id;              /* owned by the server: the name of the request; NULL: it has none */
} ta_req_notes;

/*
 * One request.  All slices stay where they are until on_close has returned.  A protocol embeds it
 * in a struct of its own (TA_CONTAINER_OF), where it keeps its private part.
 */
typedef struct ta_req {
    /* public, read-only */
    ta_str method;
    ta_method method_id;
    ta_http_version version;
    ta_str target;   /* as sent */
    ta_str raw_path; /* target's path, still percent-encoded */
    ta_str path;  /* percent-decoded (bytes, unchecked); equals raw_path when nothing was escaped */
    ta_str query; /* without "?" */
    const ta_header *headers; /* borrowed: the protocol's */
    uint32_t nheaders;
    bool upgrade;      /* the client asks for another protocol: ta_resp_upgrade may answer */
    bool has_body;     /* a body was announced, be it an empty one */
    bool body_eof;     /* the whole body is in `body` (or was consumed) */
    bool disconnected; /* as on_disconnect told */
    bool gone;         /* nothing can be sent any more */
    bool secure;       /* over TLS */
    bool followed;     /* the connection has more input, which waits for the end of this request */
    int64_t content_length; /* as the client declared it; -1: it did not */
    ta_buf body;            /* received and not consumed yet; consume with ta_req_consume; may point
                               into the read buffer: never append to it or free it */
    const struct ta_http_proto *proto; /* borrowed: static; the downcalls */
    const ta_http_ops *ops;            /* borrowed: listener; the upcalls */
    /* for the server */
    void *user;         /* owned by whoever set it; freed in on_close */
    ta_req_notes notes; /* zeroed at first */
} ta_req;

/*
 * What a protocol offers to whoever serves its requests: the vtable of the downcalls.  Each member
 * does what the function of its name below promises.  All are required; a protocol without interim
 * responses or upgrades returns TA_EINVAL.
 */
typedef struct ta_http_proto {
    void (*want_body)(ta_req *req, size_t upto);
    void (*consume)(ta_req *req, size_t n);
    int (*send)(ta_req *req, const ta_response_head *head, ta_str body, const ta_lender *from);
    int (*start)(ta_req *req, const ta_response_head *head);
    int (*data)(ta_req *req, ta_str data, const ta_lender *from);
    int (*end)(ta_req *req, const ta_response_head *trailers);
    int (*file)(ta_req *req, int fd, int64_t offset, int64_t len);
    int (*informational)(ta_req *req, const ta_response_head *head);
    void (*abort)(ta_req *req);
    void (*flush)(ta_req *req);
    int (*upgrade)(ta_req *req, const ta_response_head *head);
    int (*raw_write)(ta_req *req, ta_str data, const ta_lender *from);
    void (*raw_read)(ta_req *req, bool on);
    void (*raw_close)(ta_req *req);
    void (*peer)(const ta_req *req, ta_str *host, uint16_t *port);
    void (*local)(const ta_req *req, ta_str *host, uint16_t *port);
    const ta_transport *(*transport)(const ta_req *req);
} ta_http_proto;

/* -- downcalls, implemented by the protocol ------------------------------------------------- */

/* How much body may be buffered before reading pauses: SIZE_MAX to gather all of it, 0 to pause; at
 * first the limit body_buffer.  A little more than that may arrive.  The first call that is not 0
 * sends 100 Continue if the client waits for it. */
static inline void ta_req_want_body(ta_req *req, size_t upto)
{
    req->proto->want_body(req, upto);
}
/* Drops the first n bytes of req->body and resumes reading if it was paused. */
static inline void ta_req_consume(ta_req *req, size_t n)
{
    req->proto->consume(req, n);
}

/*
 * A whole response in one call.  Date, server, content-length and what frames the body are added
 * unless the head has them.  HEAD, 204, 205 and 304 drop the body themselves.  The head's status:
 * 200 to 999.  What can't be written at once is copied when it is little or `from` is NULL, else
 * kept by its lender until it is sent. TA_OK; TA_AGAIN: accepted, but wait for on_drain before
 * sending more; TA_ECLOSED: the peer has gone (the request ends all the same); TA_EINVAL: a
 * response was begun before, or an impossible status: nothing was sent, the request goes on.
 */
static inline int ta_resp_send_lent(ta_req *req, const ta_response_head *head, ta_str body,
                                    const ta_lender *from)
{
    return req->proto->send(req, head, body, from);
}
static inline int ta_resp_send(ta_req *req, const ta_response_head *head, ta_str body)
{
    return ta_resp_send_lent(req, head, body, NULL);
}

/* A streamed response: start, then data any number of times, then end.  Without content-length
 * the body is chunked (HTTP/1.1) or ends with the connection (HTTP/1.0).  Results as above;
 * TA_ECLOSED when the peer has gone (the caller still must call ta_resp_end or _abort).  Body
 * beyond the content-length is cut, a body that ends before it ends the connection; both are
 * logged. ta_resp_end without a start answers 500. */
static inline int ta_resp_start(ta_req *req, const ta_response_head *head)
{
    return req->proto->start(req, head);
}
static inline int ta_resp_data_lent(ta_req *req, ta_str data, const ta_lender *from)
{
    return req->proto->data(req, data, from);
}
static inline int ta_resp_data(ta_req *req, ta_str data)
{
    return ta_resp_data_lent(req, data, NULL);
}
static inline int ta_resp_end(ta_req *req)
{
    return req->proto->end(req, NULL);
}
/* The same with trailer fields behind the body, where the protocol has a place for them: HTTP/2,
 * and chunked bodies of HTTP/1.1.  Of `trailers` only the fields count. */
static inline int ta_resp_end_with(ta_req *req, const ta_response_head *trailers)
{
    return req->proto->end(req, trailers);
}
/* Sends `len` bytes of a file from `offset` with sendfile(2), between start and end as
 * ta_resp_data; takes over neither fd nor position.  fd must stay open until on_close. */
static inline int ta_resp_file(ta_req *req, int fd, int64_t offset, int64_t len)
{
    return req->proto->file(req, fd, offset, len);
}
/* 103 and other interim responses; nothing is sent to an HTTP/1.0 client.  TA_EINVAL: not 1xx, 101,
 * or the response was begun. */
static inline int ta_resp_informational(ta_req *req, const ta_response_head *head)
{
    return req->proto->informational(req, head);
}
/* Ends the exchange without a complete response, and so that the client notices: HTTP/1 closes the
 * connection. */
static inline void ta_resp_abort(ta_req *req)
{
    req->proto->abort(req);
}
/* Writes what is buffered now instead of at the end of the batch. */
static inline void ta_resp_flush(ta_req *req)
{
    req->proto->flush(req);
}
/*
 * Answers 101 with the fields of `head` (connection and upgrade among them): from now on bytes go
 * to ops->on_raw and come from ta_raw_write (results and on_drain as above) until ta_raw_close,
 * which sends what is queued first.  TA_EINVAL: the client did not ask for it, its body is not
 * read, or a response was begun.  ta_raw_read(false) pauses on_raw.
 */
static inline int ta_resp_upgrade(ta_req *req, const ta_response_head *head)
{
    return req->proto->upgrade(req, head);
}
static inline int ta_raw_write_lent(ta_req *req, ta_str data, const ta_lender *from)
{
    return req->proto->raw_write(req, data, from);
}
static inline int ta_raw_write(ta_req *req, ta_str data)
{
    return ta_raw_write_lent(req, data, NULL);
}
static inline void ta_raw_read(ta_req *req, bool on)
{
    req->proto->raw_read(req, on);
}
static inline void ta_raw_close(ta_req *req)
{
    req->proto->raw_close(req);
}
/* Peer and local address of the connection, as text ("" for a unix socket) and port. */
static inline void ta_req_peer(const ta_req *req, ta_str *host, uint16_t *port)
{
    req->proto->peer(req, host, port);
}
static inline void ta_req_local(const ta_req *req, ta_str *host, uint16_t *port)
{
    req->proto->local(req, host, port);
}
/* What carries the connection's bytes.  Borrowed: until the connection ends. */
static inline const ta_transport *ta_req_transport(const ta_req *req)
{
    return req->proto->transport(req);
}

#endif
