/*
 * asgi_respond.h -- sends a whole response through an ASGI `send`.
 *
 * Layer: py/exchange.
 */
#ifndef TA_PY_EXCHANGE_ASGI_RESPOND_H
#define TA_PY_EXCHANGE_ASGI_RESPOND_H

#include "py/exchange/exchange.h"
#include "py/exchange/exchange_objects.h"

/*
 * A new awaitable that sends http.response.start and .body.  Steals `send`, also on failure; the
 * others are borrowed, and not needed later (exchange: may be NULL).  raw_headers: NULL, or what
 * the message has as its headers in place of those of `head`.  The exchange is told when the
 * response starts.  NULL with an exception.
 */
PyObject *ta_asgi_respond_new(ta_state *st, ta_exchange *exchange, PyObject *send,
                              const ta_response_head *head, PyObject *raw_headers,
                              const ta_piece *body);

/* Bytes of a file that Starlette sends at a time; middleware sees in how many messages it comes. */
enum { TA_FILE_PIECE = 64 * 1024 };

/* The same for a file that was read (bytes, borrowed), in pieces. */
PyObject *ta_asgi_respond_file(ta_state *st, ta_exchange *exchange, PyObject *send,
                               const ta_response_head *head, PyObject *raw_headers, PyObject *file);

/* The headers and the body of those messages: new references.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_asgi_respond_parts(ta_state *st, const ta_response_head *head,
                                        PyObject *raw_headers, const ta_piece *body,
                                        PyObject **list, PyObject **bytes);

/*
 * The server's exchange (borrowed: `send` has it) to which such messages would lead at once: its
 * `respond` does the same.  NULL: `send` is another callable, or they have to be sent.
 */
ta_exchange *ta_asgi_respond_native(ta_state *st, PyObject *send, const ta_response_head *head,
                                    PyObject *raw_headers, const ta_piece *body);

int ta_asgi_respond_init(PyObject *module, ta_state *st);

#endif
