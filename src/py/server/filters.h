/*
 * filters.h -- Starlette's CORS, GZip, TrustedHost, HTTPSRedirect and SessionMiddleware around
 * plans that run directly, or outside of the user's middleware.
 *
 * Layer: py (L4).  An App of an application whose middleware is all of these has a ta_filters, made
 * from what middleware/_filters.py found in their objects.  A request that one of them would answer
 * itself (a preflight, a host that is not trusted, a redirect) is not admitted: the ASGI
 * application serves it, with the middleware itself.  For the others this does to the response what
 * they do.
 *
 * GZip holds the head back until it has seen the first piece of the body: x->packing is
 * TA_PACK_HELD meanwhile, and response_started is true for the engine, as it is inside of the
 * middleware.
 */
#ifndef TA_PY_SERVER_FILTERS_H
#define TA_PY_SERVER_FILTERS_H

#include "http/compress.h"
#include "py/exchange/exchange.h"
#include "py/exchange/exchange_objects.h"

typedef struct ta_filters ta_filters;
struct ta_native_exchange;

typedef enum ta_packing {
    TA_PACK_NONE,  /* the body is sent unchanged */
    TA_PACK_HELD,  /* the head waits for the first chunk */
    TA_PACK_STREAM /* chunks are compressed; x->out.packer is the stream */
} ta_packing;

/*
 * `spec` is a tuple, innermost first, of
 *   ("cors", origins: container | None (all), fullmatch | None, credentials, ((name, value), ...)
 * bytes)
 *   ("gzip", minimum_size, level, thread_minimum_size, (excluded: bytes, ...), offload)    at most
 * one; offload(function) -> awaitable of None: calls it in a thread
 *   ("compress", minimum_size, ((coding, level), ...), thread_minimum_size, (type: bytes, ...),
 *   offload)    instead of gzip: the coding that the client likes best, the first of equals, for
 *   these types ("text/html", a major one and a star, or "+json")
 *   ("session", (cookie: bytes,), Session, load, save)    at most one
 *       load(scope): puts the session of the request's cookie into the scope
 *       save(scope, vary: list[str]) -> (vary: bytes | None, cookie: bytes | None): what Vary and
 *       Set-Cookie shall be
 *   ("hosts", (pattern: bytes, ...))
 *   ("https",)
 * A new object, or NULL with TypeError or ValueError.  Immutable: threads share it.
 */
ta_filters *ta_filters_new(PyObject *spec);
void ta_filters_free(ta_filters *filters);                                      /* NULL: no-op */
int ta_filters_traverse(const ta_filters *filters, visitproc visit, void *arg); /* NULL: no-op */

/* Returns whether the request may reach the route; false also when in doubt. */
bool ta_filters_admit(const ta_filters *filters, struct ta_native_exchange *native);

/*
 * All that follow work on x->head, whose fields are those of the application, and need
 * ta_filters_there.  -1 with an exception.
 *
 * The head of a response whose body comes later.  TA_DONE: ready; TA_WAITS: held until its first
 * piece is known.
 */
ta_outcome ta_filters_start(struct ta_native_exchange *native, int status);
/*
 * Filters a chunk of the body, the only one when neither started before nor `more`.  TA_DONE: send
 * *piece, which may be x->packed now (and the head, if it was held); TA_WAITS: *job is a new
 * object, see below.
 */
ta_outcome ta_filters_body(struct ta_native_exchange *native, ta_piece *piece, bool more,
                           PyObject **job);

/* Releases the held head unchanged: what follows is not for GZip (a path). */
int ta_filters_release(struct ta_native_exchange *native);

/* -- compression in a thread: a callable without arguments that is called there once ---------- */

/* The awaitable of the offload. */
PyObject *ta_filters_offload(const struct ta_native_exchange *native, PyObject *job);
/* After it: as TA_DONE of ta_filters_body; *piece is the job's, *more what was said then.  0 or -1.
 */
int ta_filters_offloaded(struct ta_native_exchange *native, PyObject *job, ta_piece *piece,
                         bool *more);

/* -- session_filter.c ------------------------------------------------------------------------- */

/* Puts the session into a scope that was just made; filters may be NULL.  0, or -1. */
int ta_session_filter_enter(const ta_filters *filters, struct ta_native_exchange *native,
                            PyObject *scope);

/* Drops the response if its head is still held, as if it had never begun. */
void ta_filters_drop(struct ta_native_exchange *native);

#endif
