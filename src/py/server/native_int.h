/*
 * native_int.h -- what the files of the native server share.
 *
 * Layer: py (L4).  Nobody else includes it.
 *
 *   server.c      the Server type: listeners, upcalls of the protocol dispatch.c    how a request
 *   begins and ends routing.c     what runs without the ASGI application shutdown.c    what happens
 *   to open requests when the server ends native_exchange.c  the exchange: its life, from
 *   on_request to on_close scope.c       its ASGI scope request_body.c  its whole body, for a plan
 *   response.c    its response, on the way to the protocol response_head.c  header fields of a
 *   response, from Python objects to lines filters.c     what middleware that runs natively does to
 *   it streaming_response.c  a StreamingResponse without receive() and send() send_file.c   files
 *   as bodies file_reply.c, file_response.c, static_files.c  the same in C asgi_io.c     the
 * callables receive and send asgi_receive.c, asgi_send.c  what calls of them do asgi_extensions.c
 * trailers and early hints websocket.c   the same for WebSockets waiters.c     those who wait for
 * input, or for room access_log.c  a line for each response test_observer.c  what a test client in
 * the same process learns besides the response
 */
#ifndef TA_PY_SERVER_NATIVE_INT_H
#define TA_PY_SERVER_NATIVE_INT_H

#include "http/date.h"
#include "http/file.h"
#include "http/md5.h"
#include "http/ws/handshake.h"
#include "py/loop/loop_state.h"
#include "py/server/native_exchange.h"
#include "py/support/coroutine.h"
#include "json/num.h"

/* Whether filters want to see the response: the application's, or the server's own. */
static inline bool ta_filters_there(const ta_native_exchange *native)
{
    return native->out.filters != NULL || TA_UNLIKELY(native->server->filters != NULL);
}

/* -- dispatch.c -------------------------------------------------------------------------------- */

/* Starts the request now, or as soon as Python code may be started. */
void ta_dispatch_start(ta_native_exchange *native);
/* Cancels the Tasks of the server's requests; that of one.  -1 with an exception. */
int ta_dispatch_cancel_all(ta_server *server, PyObject *msg);
int ta_dispatch_cancel(ta_native_exchange *native, PyObject *msg);

/* -- routing.c ----------------------------------------------------------------------------------
 */

/*
 * Runs the plan of the route, or answers that there is none.  False: the ASGI application must
 * decide, or nothing may be started now (ta_loop_state_may_queue) and this is no plan that needs a
 * Task.  Else *outcome is TA_DONE: answered; TA_WAITS: *run is a new object to be run by a Task;
 * or TA_FAILED.
 */
bool ta_routing_run(ta_native_exchange *native, PyObject **run, ta_outcome *outcome);

/* -- shutdown.c -------------------------------------------------------------------------------- */

/* The server was told to end.  grace_ms: for streams; -1: they are left alone. */
void ta_shutdown_begin(ta_server *server, int64_t grace_ms);
/* (requests, streams, websockets, Tasks of requests that are over): new reference. */
PyObject *ta_shutdown_pending(ta_server *server);
/* Tells the application that its client counts as disconnected. */
void ta_shutdown_told(ta_native_exchange *native);

/* -- scope.c ----------------------------------------------------------------------------------- */

/* ta_exchange_ops.scope and .path_params. */
PyObject *ta_scope_of(ta_exchange *base);
PyObject *ta_scope_path_params(ta_exchange *base);
/* Returns whether a proxy may have changed client and scheme, which the scope has. */
bool ta_scope_is_proxied(const ta_native_exchange *native);
/* (host, port) of the peer, or None; new reference. */
PyObject *ta_scope_peer(ta_native_exchange *native);
/* host:port of the client, for the log; new str. */
PyObject *ta_scope_client(ta_native_exchange *native);
/* A slice as str; bytes that are no UTF-8 become U+FFFD.  New reference. */
PyObject *ta_scope_text(ta_str s);

/* -- request_body.c ---------------------------------------------------------------------------- */

/* ta_exchange_ops.body. */
ta_outcome ta_request_body_get(ta_exchange *base, PyObject **out);
/* Raises HTTPException(413) when `size` is over x->base.max_body: -1. */
int ta_request_body_check(ta_native_exchange *native, uint64_t size);
/* Bytes of the body that were received so far; while there is a native->req. */
uint64_t ta_request_body_received(const ta_native_exchange *native);
/* A new awaitable for input, after asking for `want` bytes of it. */
PyObject *ta_request_body_wait(ta_native_exchange *native, size_t want);

/* -- response.c -------------------------------------------------------------------------------- */

/* ta_exchange_ops.respond: a whole response. */
ta_outcome ta_response_send(ta_exchange *base, const ta_response_head *head, PyObject *raw_headers,
                            const ta_piece *body, PyObject **awaitable);
/* Begins a response in chunks with its head; headers may be NULL.  0, or -1 with an exception. */
int ta_response_begin(ta_native_exchange *native, PyObject *status, PyObject *headers);
/*
 * A piece of the body.  TA_DONE: taken.  TA_WAITS: *job (a new reference) has to run first
 * (ta_filters_offload), or when it is NULL: taken, but wait for room.
 */
ta_outcome ta_response_piece(ta_native_exchange *native, ta_piece piece, bool more, PyObject **job);
/* The job has run: sends what it made.  TA_WAITS: taken, but wait for room. */
ta_outcome ta_response_job(ta_native_exchange *native, PyObject *job);
/* The same with a head as data.  0, or -1 with an exception. */
int ta_response_begin_head(ta_native_exchange *native, const ta_response_head *head);
/* `size` bytes of the regular file `fd` (taken over) are the whole body.  As ta_response_piece. */
ta_outcome ta_response_file(ta_native_exchange *native, int fd, int64_t start, int64_t size);
/* Ends the response with the trailers in x->out.head.  TA_DONE, TA_FAILED. */
ta_outcome ta_response_trailers(ta_native_exchange *x);
/* An interim response; left out once the final one has begun.  As ta_response_piece without job. */
ta_outcome ta_response_interim(ta_native_exchange *x, const ta_response_head *head);
/* Sends a plain response of the server's own; connection: close. */
void ta_response_plain(ta_native_exchange *native, int status, const char *text);
/* Sends what there is and ends the connection, since the application has left its response
 * incomplete. */
void ta_response_break(ta_native_exchange *native);
/* Called when a response begins: notes the status, writes the access log. */
void ta_response_started(ta_native_exchange *native, int status);

/* -- send_file.c ------------------------------------------------------------------------------- */

/* http.response.pathsend.  As ta_response_piece. */
ta_outcome ta_send_file_message(ta_native_exchange *native, PyObject *message);
/* Whether it is a FileResponse as Starlette's. */
bool ta_send_file_is(ta_state *st, PyObject *response);
/*
 * Calls a FileResponse of a plan, with a scope that lets it send the file by its path.  What the
 * call returned, or NULL with an exception.
 */
PyObject *ta_send_file_call(ta_native_exchange *native, PyObject *response);

/* -- file_reply.c ------------------------------------------------------------------------------ */

/* Last-Modified and ETag of a file. */
typedef struct ta_file_stamp {
    char modified[TA_DATE_LEN];
    char etag[TA_MD5_HEX + 2];
} ta_file_stamp;

/* What is sent of a file: all of it, or a part because the request wants that. */
typedef struct ta_file_range {
    int64_t start, length;
    bool partial;
} ta_file_range;

typedef enum ta_file_sent {
    TA_FILE_SENT,
    TA_FILE_SENT_NOT,   /* the file has changed meanwhile: nothing was sent */
    TA_FILE_SENT_FAILED /* with an exception */
} ta_file_sent;

enum { TA_FILE_RANGE_TEXT = 6 + 3 * TA_JSON_INT_MAX + 2 };

/* False: this system makes no entity tags as Starlette does.  Those of files that were sent lately
 * are kept. */
bool ta_file_reply_stamp(ta_server *server, const ta_file *file, ta_file_stamp *stamp);
/* Frees what a server remembers of files that it has sent; NULL is fine. */
void ta_file_stamps_free(struct ta_file_stamps *stamps);
/* What mimetypes.guess_type gives for a name with a usual suffix, from the tables that it uses.  1:
 * *out is a new reference to a str or None; 0: ask it; -1. */
TA_MUST_CHECK int ta_file_reply_type(ta_state *st, ta_str name, PyObject **out);
/* Adds the content-type for a name.  False: Python has to find it; no exception is set. */
TA_MUST_CHECK bool ta_file_reply_add_type(ta_state *st, ta_str name, ta_fields *fields);
/* Which part of a file of `size` bytes a response with that status has.  False: several, or none
 * that there is. */
TA_MUST_CHECK bool ta_file_reply_range(const ta_exchange *x, int status, int64_t size,
                                       ta_str modified, ta_str etag, ta_file_range *out);
/* Writes the value of its Content-Range, TA_FILE_RANGE_TEXT bytes at most; returns the length. */
size_t ta_file_reply_range_text(char *out, const ta_file_range *range, int64_t size);
/* A request for a file, and where the response goes. */
typedef struct ta_file_door {
    ta_server *server;          /* borrowed */
    ta_exchange *x;             /* borrowed; owned after ta_file_door_open */
    ta_native_exchange *native; /* `x`, or NULL: it keeps the response for middleware */
    PyObject *method, *path;    /* owned: str of x, or NULL */
} ta_file_door;

/* Sends a part of the file `fd` (taken over) behind the head, which has its content-length. */
ta_file_sent ta_file_reply_send(const ta_file_door *door, const ta_response_head *head, int fd,
                                const ta_file_range *range);
/*
 * The door for middleware that has called with these (scope, receive, send).  1; 0: neither of the
 * callables is one of this thread's server; -1 with an exception.
 */
TA_MUST_CHECK int ta_file_door_open(ta_state *st, PyObject *const *args, Py_ssize_t nargs,
                                    ta_file_door *door);
/* Closes it.  New reference to (status, header pairs, body), or to None if nothing was sent; NULL:
 * that has failed, with an exception. */
PyObject *ta_file_door_close(ta_file_door *door, bool failed);

/* -- file_response.c --------------------------------------------------------------------------- */

/* ta_exchange_ops.send_file. */
int ta_file_response_send(ta_exchange *base, PyObject *response);
/* ta_exchange_ops.read_file. */
PyObject *ta_file_response_read(ta_exchange *base, PyObject *response, PyObject *const *args);

/* -- path_text.c ------------------------------------------------------------------------------- */

/* What os.fspath returns: a new reference to a str or bytes, or NULL with an exception. */
PyObject *ta_path_text(ta_state *st, PyObject *path);

/* -- static_files.c ---------------------------------------------------------------------------- */

typedef enum ta_static_found {
    TA_STATIC_SENT,
    TA_STATIC_FAILED, /* with an exception */
    TA_STATIC_ABSENT, /* HTTPException(404) */
    TA_STATIC_METHOD, /* HTTPException(405, headers={"Allow": "GET, HEAD"}) */
    TA_STATIC_ASK     /* Python has to */
} ta_static_found;

bool ta_static_files_check(ta_state *st, PyObject *obj);
/* Serves the file at `path` (below the mount) from a _core.StaticFiles. */
ta_static_found ta_static_files_run(ta_native_exchange *native, PyObject *files, ta_str path);

/* -- front.c ----------------------------------------------------------------------------------- */

/* What Server(front=...) was given, or NULL.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_front_take(ta_server *server, PyObject *front);
/* Where the server has the App that the request is for. */
ta_app **ta_front_place(const ta_native_exchange *native);

/* -- streaming_response.c ---------------------------------------------------------------------- */

/* See ta_exchange_ops.deliver. */
PyObject *ta_streaming_response_new(ta_exchange *base, PyObject *response);
/* Cancels the iteration: the client has disconnected, or ended its side. */
void ta_streaming_response_left(ta_native_exchange *native);

/* -- asgi_io.c --------------------------------------------------------------------------------- */

/* ta_exchange_ops.receive and .send: the callables. */
PyObject *ta_asgi_io_receive(ta_exchange *exchange);
PyObject *ta_asgi_io_send(ta_exchange *exchange);
/* How many references to the exchange are those of callables that nobody else has. */
Py_ssize_t ta_asgi_io_own_references(const ta_native_exchange *native);
/* Drops them after the request was closed; whoever has them keeps them.  Runs callbacks of Python's
 * weak references. */
void ta_asgi_io_let_go(ta_native_exchange *native);
/* ta_exchange_ops.may_respond and .send_def. */
bool ta_asgi_io_may_respond(const ta_exchange *exchange);
extern const PyMethodDef ta_asgi_io_send_def;

/* One call of receive() or send(message). */
typedef struct ta_asgi_io {
    ta_coroutine co;
    ta_native_exchange *x; /* owned until it is over */
    PyObject *message;     /* owned: of send, until it was taken */
    PyObject *job;         /* owned: a piece that is compressed in a thread, or NULL */
    bool offloaded;        /* its thread was asked for */
    bool elsewhere;        /* another thread awaits it: the connection's own runs it */
    ta_outcome (*advance)(ta_coroutine *, PyObject *); /* on the connection's thread */
} ta_asgi_io;

/* New, of receive() or send(); keeps a reference to message, which may be NULL. */
ta_asgi_io *ta_asgi_io_receiving(ta_native_exchange *native,
                                 ta_outcome (*advance)(ta_coroutine *, PyObject *));
ta_asgi_io *ta_asgi_io_sending(ta_native_exchange *native, PyObject *message,
                               ta_outcome (*advance)(ta_coroutine *, PyObject *));
/* mapping[key]: 1 and a new reference, 0: absent, -1. */
int ta_asgi_io_get_item(PyObject *mapping, PyObject *key, PyObject **out);
/* The same, KeyError when absent. */
PyObject *ta_asgi_io_need_item(PyObject *mapping, PyObject *key);
bool ta_asgi_io_same_text(PyObject *a, PyObject *b);

/* What messages of responses have. */
enum {
    TA_MEMBER_TYPE,
    TA_MEMBER_STATUS,
    TA_MEMBER_HEADERS,
    TA_MEMBER_BODY,
    TA_MEMBER_MORE,
    TA_MEMBERS
};

/* A message to be sent: what it has is read at once where it is a dict with nothing else in it. */
typedef struct ta_asgi_message {
    PyObject *object;              /* borrowed */
    PyObject *members[TA_MEMBERS]; /* owned; NULL: not there, or not read */
    bool is_read;
} ta_asgi_message;

void ta_asgi_message_read(const ta_names_state *names, PyObject *object, ta_asgi_message *out);
void ta_asgi_message_drop(ta_asgi_message *message);

/* -- asgi_receive.c, asgi_send.c --------------------------------------------------------------- */

/* A call: new reference. */
PyObject *ta_asgi_receive_new(ta_native_exchange *native);
PyObject *ta_asgi_send_new(ta_native_exchange *native, PyObject *message);
/*
 * The rest of a response that a filter wants compressed in a thread (`job`, stolen): an awaitable,
 * or NULL with an exception.
 */
PyObject *ta_asgi_send_job(ta_native_exchange *native, PyObject *job);
/* http.response.start and .body, or their like.  As ta_response_begin and ta_response_piece. */
int ta_asgi_send_start(ta_native_exchange *native, const ta_asgi_message *message);
ta_outcome ta_asgi_send_body(ta_native_exchange *native, const ta_asgi_message *message,
                             PyObject **job);

/* -- asgi_extensions.c ------------------------------------------------------------------------- */

/* scope["extensions"] of the scope that others are copied from, and of a request: new dicts. */
PyObject *ta_asgi_extensions_new(const ta_names_state *names);
PyObject *ta_asgi_extensions_of(const ta_native_exchange *native);
/* The member "trailers" of http.response.start.  0 or -1. */
int ta_asgi_extensions_start(ta_native_exchange *native, PyObject *message);
/* http.response.trailers and http.response.early_hint.  As ta_response_piece without job. */
ta_outcome ta_asgi_extensions_trailers(ta_native_exchange *native, PyObject *message);
ta_outcome ta_asgi_extensions_hint(ta_native_exchange *native, PyObject *message);

/* -- test_observer.c --------------------------------------------------------------------------- */

/* The request is about to be started; only with server->watch.  -1 with an exception. */
int ta_test_observer_begin(ta_native_exchange *native);
int ta_test_observer_scope(ta_native_exchange *native, PyObject *scope); /* only with x->watch */
/* As ta_exchange_call, for a WebSocket; only with x->watch. */
PyObject *ta_test_observer_call(ta_native_exchange *native, PyObject *app);
/* The application has sent a message that the client can't see.  -1 with an exception. */
int ta_test_observer_aside(ta_native_exchange *native, PyObject *message);
/* The application is done; only with x->watch, which is NULL then. */
void ta_test_observer_ended(ta_native_exchange *native);
/* Writes to the log of errors, or to the observer of the request.  exc: borrowed, NULL: none. */
void ta_test_observer_log(ta_native_exchange *native, const char *text, PyObject *exc);

/* -- access_log.c ------------------------------------------------------------------------------ */

ta_access_log *ta_access_log_new(ta_server *server, PyObject *writer); /* NULL with an exception */
void ta_access_log_free(ta_access_log *log);                           /* NULL allowed */
void ta_access_log_flush(ta_access_log *log);                          /* writes what is left */
int ta_access_log_traverse(ta_access_log *log, visitproc visit, void *arg); /* NULL allowed */
/* The response begins. */
void ta_access_log_note(ta_native_exchange *native, int status);
/* The request is about to be closed; only with a log. */
void ta_access_log_end(ta_native_exchange *native, int status);
/* Whether notes.began is to be set; NULL allowed. */
bool ta_access_log_is_timed(const ta_access_log *log);
/* Lines that were dropped so far; NULL allowed. */
uint64_t ta_access_log_dropped(const ta_access_log *log);

/* -- websocket.c ------------------------------------------------------------------------------- */

/*
 * The request wants one.  1: x->ws is made, run the ASGI application; 0: the handshake is wrong and
 * was refused; -1: exception.
 */
int ta_websocket_open(ta_native_exchange *native);
/* The members of its scope that are not as in HTTP's. */
int ta_websocket_scope(ta_native_exchange *native, PyObject *scope);
PyObject *ta_websocket_receive(ta_native_exchange *native);
PyObject *ta_websocket_send(ta_native_exchange *native, PyObject *message);
/* Upcalls of the protocol. */
void ta_websocket_input(ta_native_exchange *native, const char *data, size_t len);
void ta_websocket_drained(ta_native_exchange *native);
void ta_websocket_gone(
    ta_native_exchange *native); /* before the handshake was over, or at on_close */
/* The application returned (result, borrowed) or raised (result NULL, exc, borrowed). */
void ta_websocket_done(ta_native_exchange *native, PyObject *result, PyObject *exc);
/* The server shuts down: closed with code 1012, or told that it will be. */
void ta_websocket_shut_down(ta_native_exchange *native);
void ta_websocket_told(ta_native_exchange *native);
ta_native_exchange *
ta_websocket_exchange(ta_list_node *node); /* of a node in server->websocks; borrowed */
int ta_websocket_traverse(ta_native_exchange *native, visitproc visit, void *arg);
void ta_websocket_free(ta_native_exchange *native);

#endif
