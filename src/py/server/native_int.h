/*
 * native_int.h -- what the files of the native server share.
 *
 * Layer: py (L4).  Nobody else includes it.
 *
 *   server.c      the Server type: listeners, upcalls of the protocol
 *   dispatch.c    how a request begins and ends
 *   direct.c      what runs without the ASGI application
 *   native_exchange.c  the exchange: scope, body, respond
 *   asgi_io.c     receive() and send()
 *   streaming_response.c      a StreamingResponse without them
 *   websocket.c          receive() and send() of WebSockets
 *   shutdown.c    what becomes of open ones when the server ends
 *   response_head.c    header fields of a response, from Python objects to lines
 *   filters.c     what middleware that runs natively does to it
 *   test_observer.c       what a test client in the same process learns besides the response
 */
#ifndef TA_PY_SERVER_NATIVE_INT_H
#define TA_PY_SERVER_NATIVE_INT_H

#include "base/log.h"
#include "http/server.h"
#include "http/ws/conn.h"
#include "http/ws/handshake.h"
#include "net/listener.h"
#include "py/exchange/exchange.h"
#include "py/loop/future.h"
#include "py/loop/loop_state.h"
#include "py/server/app.h"
#include "py/server/filters.h"
#include "py/support/coroutine.h"

typedef struct ta_server ta_server;
typedef struct ta_access ta_access;

/* -- a response head that waits for its body --------------------------------------------------- */

typedef struct ta_head_out {
    ta_buf lines;   /* owned: field lines */
    unsigned flags; /* TA_RESP_* */
    int status;
    int64_t length; /* content-length given by the application, -1: none */
} ta_head_out;

/*
 * Appends the fields of an iterable of (name, value) bytes pairs, checked.  `transfer-encoding:
 * chunked` is left out: framing is the protocol's.  -1 with RuntimeError as uvicorn's, TypeError,
 * ValueError.
 */
int ta_head_add(ta_head_out *head, PyObject *headers);
/* Takes off the content-length that a response with this status must not have, or not as it is: of
 * 204 (RFC 9110 8.6), of 205, whose content is none (15.3.6). */
void ta_head_suit(ta_head_out *head, int status);
void ta_head_reset(ta_head_out *head); /* as if nothing was added */
/* Whether it can stand in a head line: no control characters but the tab. */
bool ta_head_value_ok(ta_str value);
/* The flags that field lines made in C ask for. */
unsigned ta_head_scan(ta_str lines);

/* -- the exchange ------------------------------------------------------------------------------ */

/* Who waits for the same thing; each has a waiter of its own, as one may be cancelled. */
typedef struct ta_waiters {
    ta_waiter *first; /* owned */
    PyObject *more;   /* owned list, or NULL */
} ta_waiters;

/* A new waiter among them: two references, one for the caller. */
PyObject *ta_waiters_add(ta_waiters *w, ta_loopstate *ls);
void ta_waiters_wake(ta_waiters *w); /* and forget all */
int ta_waiters_traverse(ta_waiters *w, visitproc visit, void *arg);
void ta_waiters_clear(ta_waiters *w);

typedef struct ta_websock ta_websock;   /* websocket.c */
typedef struct ta_streamer ta_streamer; /* streaming_response.c */

typedef struct ta_native {
    ta_xch base;
    ta_state *st;        /* borrowed: the type keeps the module */
    ta_server *server;   /* owned */
    ta_app *app;         /* owned: that which serves it */
    ta_req *req;         /* borrowed: NULL once closed, after on_close */
    ta_websock *ws;      /* owned: NULL unless the request opens a WebSocket */
    ta_streamer *stream; /* borrowed: iterates over a streamed response, or NULL */
    PyObject *watch;     /* owned: of a test, until the application is done; or NULL */
    ta_defer later; /* a start that had to wait, or a head that is not followed by a body at once */
    ta_waiters readers; /* receive() and body() wait for input or the peer's end */
    ta_waiters writers; /* send() waits for room */
    ta_head_out head;
    PyObject *reason;          /* owned bytes: reason phrase of the application's own, or NULL */
    const ta_filters *filters; /* borrowed from app: middleware round this direct run, or NULL */
    ta_gzip *gzip;             /* owned: compresses the response, or NULL */
    ta_buf packed;             /* owned: the piece that was compressed last */
    char *copy;                /* owned: memory of the slices when they outlive the request */
    char *path_mem;            /* owned: of base.path, when it is not the request's own */
    ta_str raw_path;
    size_t root_len;     /* below mounts: of the part of base.path that is root_path ... */
    size_t app_root_len; /* ... and app_root_path */
    uint32_t entry;      /* index of the router's entry, when matched */
    int status;          /* of the response, 0 before */
    int file;            /* owned: descriptor that is being sent, -1 */
    uint64_t received;   /* body bytes given to Python so far */
    int64_t sent;        /* body bytes of the response so far */
    uint64_t since;      /* ms: while the server ends, when it was told, or its response began */
    ta_http_version version;
    bool secure;
    bool matched;      /* entry is set */
    bool mounted;      /* root_len and app_root_len are set: app is a mounted one */
    bool disconnected; /* the peer has gone, as far as is known (http.h: on_disconnect) */
    bool gone;         /* nothing can be sent any more */
    bool done;         /* the application has sent all of its response */
    bool body_given;   /* receive() or body() has given all of the body */
    bool complete;     /* the response is complete (or given up) */
    bool head_waits;   /* head is set and not sent */
    bool streaming;    /* ta_resp_start was called */
    bool error_asked;  /* error_app was started */
    bool running;      /* a Task works on it */
    bool told;         /* the server ends: the client counts as gone (shutdown.c) */
    bool heard;        /* and the application knows */
    uint8_t packing;   /* ta_packing */
} ta_native;

static inline ta_native *ta_native_of(ta_xch *x)
{
    return (ta_native *)x;
}

ta_native *ta_native_new(ta_server *server, ta_req *req);
/* The request has no descriptor any more: slices are copied if somebody may still look at them. */
void ta_native_closed(ta_native *x);
/* Raises HTTPException(413) when `size` is over x->base.max_body: -1. */
int ta_native_check_size(ta_native *x, uint64_t size);
/* A new awaitable for input, after asking for `want` bytes of it. */
PyObject *ta_native_await_input(ta_native *x, size_t want);
/* A proxy in front of us may have said who asks, and how: the scope has it. */
bool ta_native_proxied(const ta_native *x);
/* (host, port) of the peer, or None; new reference. */
PyObject *ta_native_peer(ta_native *x);
/* host:port of the peer, for the log; new str. */
PyObject *ta_native_client_text(ta_native *x);
/* A slice as str; bytes that are no UTF-8 become U+FFFD. */
PyObject *ta_native_text(ta_str s);

int ta_native_init(PyObject *module, ta_state *st);

/* -- receive and send -------------------------------------------------------------------------- */

PyObject *ta_native_receive(ta_xch *x);
PyObject *ta_native_send(ta_xch *x);

/* One call of receive() or send(message). */
typedef struct ta_asgi_io {
    ta_co co;
    ta_native *x;      /* owned until it is over */
    PyObject *message; /* owned: of send, until it was taken */
    PyObject *job;     /* owned: a piece that is compressed in a thread, or NULL */
    bool offloaded;    /* its thread was asked for */
} ta_asgi_io;

ta_asgi_io *ta_asgi_io_new(ta_native *x, PyTypeObject *type, PyObject *message,
                           ta_step (*advance)(ta_co *, PyObject *));
/* mapping[key]: 1 and a new reference, 0: absent, -1. */
int ta_asgi_get_item(PyObject *mapping, PyObject *key, PyObject **out);
/* The same, KeyError when absent. */
PyObject *ta_asgi_need_item(PyObject *mapping, PyObject *key);
bool ta_asgi_same_text(PyObject *a, PyObject *b);
/*
 * http.response.start and .body, or their like.  1: taken, but wait for room; 0: taken; -1; with
 * filters also 2: *job has to run first (ta_filters_offload).
 */
int ta_asgi_send_start(ta_native *x, PyObject *message);
int ta_asgi_send_body(ta_native *x, PyObject *message, PyObject **job);
/* The same without messages: the head; a piece of the body. */
int ta_native_begin(ta_native *x, PyObject *status, PyObject *headers);
int ta_native_send_piece(ta_native *x, ta_piece piece, bool more, PyObject **job);
/* The job has run: sends what it made.  1: taken, but wait for room; 0: taken; -1. */
int ta_native_send_job(ta_native *x, PyObject *job);
/* Sends a plain response of the server's own; connection: close. */
void ta_native_plain(ta_native *x, int status, const char *text);
/* The application has left its response incomplete: sends what there is, ends the connection. */
void ta_native_break(ta_native *x);
/* Called when a response begins: notes the status, writes the access log. */
void ta_native_started(ta_native *x, int status);

/*
 * The rest of a response that a filter wants compressed in a thread (`job`, stolen): an awaitable,
 * or NULL with an exception.
 */
PyObject *ta_native_send_packed(ta_native *x, PyObject *job);

int ta_asgi_io_init(PyObject *module, ta_state *st);

/* -- streaming_response.c
 * ---------------------------------------------------------------------------------- */

/* See ta_xch_ops.stream. */
PyObject *ta_native_stream(ta_xch *base, PyObject *response);
/* The client has gone, or ended its side. */
void ta_streamer_left(ta_native *x);

int ta_streamer_init(PyObject *module, ta_state *st);

/* -- test_observer.c
 * ----------------------------------------------------------------------------------- */

/* The request is about to be started; only with server->watch.  -1 with an exception. */
int ta_watch_begin(ta_native *x);
int ta_watch_scope(ta_native *x, PyObject *scope); /* only with x->watch */
/* As ta_xch_call, for a WebSocket; only with x->watch. */
PyObject *ta_watch_call(ta_native *x, PyObject *app);
/* The application has sent a message that the client can't see.  -1 with an exception. */
int ta_watch_aside(ta_native *x, PyObject *message);
/* The application is done; only with x->watch, which is NULL then. */
void ta_watch_ended(ta_native *x);
/* To the log of errors, or to whoever watches the request.  exc: borrowed, NULL: none. */
void ta_native_log(ta_native *x, const char *text, PyObject *exc);

/* -- direct.c ---------------------------------------------------------------------------------- */

/*
 * Runs the plan of the route, or answers that there is none.  False: the ASGI application has to
 * decide.  Else *rc is 1: answered; 0: *run is a new object to be run by a Task; -1: exception.
 */
bool ta_native_direct(ta_native *x, PyObject **run, int *rc);

/* -- access_log.c ------------------------------------------------------------------------------ */

ta_access *ta_access_new(ta_server *server, PyObject *writer);      /* NULL with an exception */
void ta_access_free(ta_access *log);                                /* NULL allowed */
void ta_access_flush(ta_access *log);                               /* writes what is left */
int ta_access_traverse(ta_access *log, visitproc visit, void *arg); /* NULL allowed */
void ta_access_note(ta_native *x, int status);

/* -- WebSockets -------------------------------------------------------------------------------- */

/*
 * The request wants one.  1: x->ws is made, run the ASGI application; 0: the handshake is wrong and
 * was refused; -1: exception.
 */
int ta_websock_open(ta_native *x);
/* The members of its scope that are not as in HTTP's. */
int ta_websock_scope(ta_native *x, PyObject *scope);
PyObject *ta_websock_receive(ta_native *x);
PyObject *ta_websock_send(ta_native *x, PyObject *message);
/* Upcalls of the protocol. */
void ta_websock_input(ta_native *x, const char *data, size_t len);
void ta_websock_drained(ta_native *x);
void ta_websock_gone(ta_native *x); /* before the handshake was over, or at on_close */
/* The application returned (result, borrowed) or raised (result NULL, exc, borrowed). */
void ta_websock_done(ta_native *x, PyObject *result, PyObject *exc);
/* The server shuts down: closed with code 1012, or told that it will be. */
void ta_websock_shut_down(ta_native *x);
void ta_websock_told(ta_native *x);
ta_native *ta_websock_exchange(ta_list_node *node); /* of a node in server->websocks; borrowed */
int ta_websock_traverse(ta_native *x, visitproc visit, void *arg);
void ta_websock_free(ta_native *x);

int ta_ws_init(PyObject *module, ta_state *st);

/* -- the server -------------------------------------------------------------------------------- */

struct ta_server {
    PyObject_HEAD
    ta_state *st;            /* borrowed: the type keeps the module */
    ta_loopstate *ls;        /* borrowed from `selector` */
    PyObject *selector;      /* owned */
    ta_app *app;             /* owned; replaced when it is rebuilt */
    ta_http_server *http;    /* owned; NULL once closed */
    ta_listener **listeners; /* owned array */
    unsigned nlisteners;
    ta_log log;
    PyObject *logger; /* owned: of what the protocol says, or NULL */
    PyObject
        *access; /* owned: called with (format, client, method, path, version, status), or NULL */
    PyObject *access_format; /* owned str */
    ta_access *access_log;   /* owned, or NULL */
    PyObject *proxy;         /* owned: called with a scope that has X-Forwarded-* fields, or NULL */
    PyObject *watch;         /* owned: of a test client, see test_observer.c; or NULL */
    PyObject *root_path;     /* owned str */
    ta_str root;             /* slice of root_path */
    PyObject *state;         /* owned dict: lifespan state, copied into each scope; or NULL */
    PyObject *asgi_info;     /* owned dict: scope["asgi"], copied */
    PyObject *ws_info, *ws_extensions; /* owned dicts: the same for WebSockets */
    ta_ws_cfg ws_cfg;                  /* but what was agreed on with each client */
    uint32_t ws_queue;                 /* messages that may wait for receive(), 0: no limit */
    uint32_t ws_buffer;                /* bytes of them, 0: no limit */
    bool ws_deflate;                   /* offer permessage-deflate */
    ta_list_node in_loop;              /* in ls->servers, until it is closed */
    bool kept;                         /* the loop owns a reference: from listen() until closed */
    ta_list_node websocks;             /* all there are */
    ta_timer ending;                   /* shutdown.c, once it was told to end */
    uint64_t grace;                    /* ms: of streams, from then on */
    PyObject *on_done;                 /* owned: called once after shutdown */
    ta_gzip *gzip;                     /* owned: a stream to use again, or NULL */
    PyObject *names[128];              /* owned: bytes of header names seen lately, by a hash */
    unsigned base_flags;               /* TA_RESP_HAS_DATE when no date is wanted */
    uint32_t max_requests;             /* in flight, then 503; 0: no limit */
    bool errors_on_send;               /* spec_version 2.4: send() to a gone peer raises OSError */
    bool stopping;
    uint64_t full_logged; /* when the log was told that there is no room for connections, or 0 */
    uint64_t served;      /* requests begun */
    uint64_t active;      /* exchanges whose connection is not done with them */
    uint64_t tasks;       /* coroutines of ours that have not ended */
    bool http_done;       /* after shutdown: no connection is left */
};

/* The server was told to end.  grace_ms: for streams; -1: they are left alone. */
void ta_server_end_open(ta_server *server, int64_t grace_ms);
/* (requests, streams, websockets, Tasks of requests that are over): new reference. */
PyObject *ta_server_pending(ta_server *server);
/* The application is to learn that its client counts as gone. */
void ta_native_told(ta_native *x);
/* Calls on_done when the server has shut down and nothing is left. */
void ta_server_maybe_done(ta_server *server);
/* Starts the request now, or as soon as Python code may be started (dispatch.c). */
void ta_native_start(ta_native *x);
/* Cancels the Tasks of the server's requests; that of one.  -1 with an exception. */
int ta_server_cancel_tasks(ta_server *server, PyObject *msg);
int ta_native_cancel_task(ta_native *x, PyObject *msg);

int ta_server_init(PyObject *module, ta_state *st);

#endif
