/*
 * asgi_exchange.h -- the exchange over an ASGI application's scope, receive and send.
 *
 * Layer: py/exchange.
 */
#ifndef TA_PY_EXCHANGE_ASGI_EXCHANGE_H
#define TA_PY_EXCHANGE_ASGI_EXCHANGE_H

#include "py/exchange/exchange.h"
#include "py/exchange/exchange_objects.h"

/*
 * A new exchange over scope, receive and send (all borrowed; receive and send may be NULL, and then
 * asking for them raises); NULL with an exception.
 */
ta_exchange *ta_asgi_exchange_new(ta_state *st, PyObject *scope, PyObject *receive, PyObject *send);
/* The same, but a whole response is not sent: ta_asgi_exchange_take_kept has it. */
ta_exchange *ta_asgi_exchange_keeping(ta_state *st, PyObject *scope, PyObject *receive,
                                      PyObject *send);
/* Gives the response that was kept, once: new references to an int, a list of pairs and bytes.
 * False: there is none. */
bool ta_asgi_exchange_take_kept(ta_exchange *exchange, PyObject **status, PyObject **raw_headers,
                                PyObject **body);
/* The same over a Request or WebSocket (borrowed). */
ta_exchange *ta_asgi_exchange_of(ta_state *st, PyObject *connection);

int ta_asgi_exchange_init(PyObject *module, ta_state *st);

#endif
