/*
 * exchange.h -- one HTTP exchange, whatever the door it came through.
 *
 * The engine (plan_run.c) sees requests through this alone.  Two implementations: native_exchange.c
 * over a ta_req of the server, asgi_exchange.c over an ASGI (scope, receive, send).  A ta_exchange
 * is a Python object (heap type, GC): it is what keeps request and response alive, from parse to
 * last byte. Each implementation has its own heap type whose struct begins with ta_exchange; it
 * calls ta_exchange_init/traverse/clear for the common part.
 */
#ifndef TA_PY_EXCHANGE_EXCHANGE_H
#define TA_PY_EXCHANGE_EXCHANGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "http/http.h"
#include "py/support/outcome.h"
#include "py/support/state.h"

#define TA_EXCHANGE_MAX_PARAMS 32

/* A piece of a body, and whose memory it is. */
typedef struct ta_piece {
    ta_str data;
    PyObject *owner; /* borrowed: the object whose bytes these are; NULL: none */
    ta_buf *buf;     /* borrowed: the buffer that they are in, which may be taken; NULL: none */
} ta_piece;

static inline ta_piece ta_piece_bytes(PyObject *bytes /* an instance of bytes */)
{
    return (ta_piece){{PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)}, bytes, NULL};
}

static inline ta_piece ta_piece_buf(ta_buf *buf)
{
    return (ta_piece){ta_buf_str(buf), NULL, buf};
}

/*
 * Returns who can lend the bytes to a connection (into *lender): an object that never changes and
 * whose deallocation runs no code of the user's, or the buffer.  NULL: nobody, so that they must be
 * copied.
 */
const ta_lender *ta_piece_lender(const ta_piece *piece, ta_lender *lender);

typedef struct ta_exchange ta_exchange;
struct ta_loop_state;

typedef struct ta_exchange_ops {
    /* New reference to the ASGI scope dict, made once; NULL with an exception. */
    PyObject *(*scope)(ta_exchange *x);
    /*
     * New references to the ASGI callables.  After `body` below, `receive` returns no more of the
     * body and waits for the disconnect; the exchange's Request has the body as _body.
     */
    PyObject *(*receive)(ta_exchange *x);
    PyObject *(*send)(ta_exchange *x);
    /*
     * New reference to the dict of path parameters (converted by their convertors), the same
     * object as scope["path_params"] if there is a scope.
     */
    PyObject *(*path_params)(ta_exchange *x);
    /*
     * The whole body.  TA_DONE: *out is a new bytes object; TA_WAITS: not all here yet, *out is a
     * new awaitable that gives the bytes (and raises ClientDisconnect, or the limit's HTTPException
     * 413).  May be called again: the body is kept in x->body_bytes.
     */
    ta_outcome (*body)(ta_exchange *x, PyObject **out);
    /*
     * Sends a whole response.  A content-length is added, unless the status forbids it or the head
     * has one.  When `raw_headers` is not NULL, it is a list of (bytes, bytes) that is used as it
     * is instead of the fields of the head (borrowed).  Sets x->response_started.  TA_WAITS:
     * *awaitable is a new reference that must be awaited before more is sent or the run ends.
     */
    ta_outcome (*respond)(ta_exchange *x, const ta_response_head *head, PyObject *raw_headers,
                          const ta_piece *body, PyObject **awaitable);
    /*
     * Sends a response that is a file at once.  1: sent, and its background tasks have not run; 0:
     * it is no such file, or has to be sent in another way; -1: exception.  The member may be NULL.
     */
    int (*send_file)(ta_exchange *x, PyObject *response);
    /*
     * Returns a new awaitable that sends a response (a stream, a file) in a way of this door's own
     * and runs its background tasks; or NULL: the response must be called (an exception may be
     * set).  The member may be NULL.
     */
    PyObject *(*deliver)(ta_exchange *x, PyObject *response);
    /* Writes what was sent to the socket before slow work (background tasks) starts; may be NULL.
     */
    void (*flush)(ta_exchange *x);
    /* What the scope has under a key, as long as there is no scope (borrowed; NULL: nothing).  The
     * member may be NULL. */
    PyObject *(*scope_item)(const ta_exchange *x, PyObject *key);
    /*
     * Whether `respond`, called now, does what the two messages of a whole response do through the
     * callable of `send`, which is a builtin of the definition `send_def` and has the exchange as
     * its self.  The members may be NULL.
     */
    bool (*may_respond)(const ta_exchange *x);
    const PyMethodDef *send_def;
    /*
     * For middleware that has called with these (scope, receive, send): (status, header pairs,
     * body) of a FileResponse, or None where it has to be called (new references); NULL with an
     * exception.  The member may be NULL.
     */
    PyObject *(*read_file)(ta_exchange *x, PyObject *response, PyObject *const *args);
} ta_exchange_ops;

struct ta_exchange {
    PyObject_HEAD
    const ta_exchange_ops *ops;
    struct ta_loop_state
        *ls; /* borrowed: our loop, for the thread pool; NULL under a foreign loop */
    /* borrowed slices: from the connection's buffer, or from objects that the exchange keeps alive
     */
    ta_str method;
    ta_method method_id;
    bool response_started;
    bool custom_request; /* `request` is a user's subclass: ask its attributes, not the slices */
    ta_str path;         /* decoded UTF-8, as scope["path"] */
    ta_str query;
    const ta_header *headers;
    uint32_t nheaders;
    /* the match */
    uint32_t nparams;
    ta_str
        param_values[TA_EXCHANGE_MAX_PARAMS]; /* slices of path, in the order of the route's path */
    PyObject *path_params; /* owned dict or NULL; when set it replaces param_values */
    /* owned; made on demand */
    PyObject *scope_dict;
    PyObject *request;    /* Starlette Request (or WebSocket under solve) */
    PyObject *body_bytes; /* set by `body`, and by the engine when the Request read it */
    uint64_t max_body; /* the plan's max_body_size, UINT64_MAX: none; set before `body` is asked */
};

/* Common part of the types.  init: zeroes all but PyObject_HEAD and the values of parameters. */
void ta_exchange_init(ta_exchange *exchange, const ta_exchange_ops *ops);
int ta_exchange_traverse(ta_exchange *exchange, visitproc visit, void *arg);
void ta_exchange_clear(
    ta_exchange *exchange); /* also when the slices of a native exchange become invalid */

/* Finds the first header with that lower-case name; false when there is none. */
bool ta_exchange_header(const ta_exchange *exchange, const char *name, size_t len, ta_str *out);

/*
 * The application's handlers of exceptions: what the scope has under `key`.  1: *out is a new
 * reference; 0: there is nothing; -1 with an exception.
 */
TA_MUST_CHECK int ta_exchange_handlers(ta_exchange *exchange, PyObject *key, PyObject **out);

/* Calls app(scope, receive, send); what it returns, or NULL with an exception. */
PyObject *ta_exchange_call_app(const ta_state *st, PyObject *app, PyObject *scope,
                               PyObject *receive, PyObject *send);
/* The same with the exchange's. */
PyObject *ta_exchange_call(const ta_state *st, ta_exchange *exchange, PyObject *app);

/* Puts what a dict has, which does not change meanwhile, into a scope.  0, or -1 with an exception.
 */
TA_MUST_CHECK int ta_exchange_add_items(PyObject *scope, PyObject *items);

/*
 * The Request of the exchange, made by `new_request(scope, receive, send)` when first asked for
 * (its _body is set if the body was read).  New reference, or NULL with an exception.
 */
PyObject *ta_exchange_request(ta_exchange *exchange, PyObject *new_request);

/* scope[name] as UTF-8, of a str that `*keep` holds (new reference, or NULL).  False: it is not
 * there, or no such text; no exception is set. */
bool ta_exchange_scope_text(PyObject *scope, PyObject *name, PyObject **keep, ta_str *out);

/* The server's exchange (borrowed) whose method a callable is, or NULL. */
ta_exchange *ta_exchange_of_method(ta_state *st, PyObject *callable);

/* The part of a path below root_path, as Starlette's get_route_path has it: a slice of `path`. */
ta_str ta_exchange_route_path(ta_str path, ta_str root);

#endif
