/*
 * exchange_objects.h -- the Python objects that layer exchange keeps in the module's state; see
 * support/state.h.
 *
 * Layer: py/exchange.
 */
#ifndef TA_PY_EXCHANGE_EXCHANGE_OBJECTS_H
#define TA_PY_EXCHANGE_EXCHANGE_OBJECTS_H

#include "py/loop/loop_objects.h"

/* asgi_exchange.c */
typedef struct ta_exchange_objects {
    PyTypeObject *asgi_type, *body_type, *respond_type, *send_type;
    PyObject *spare_exchanges, *spare_responds; /* spares.h */
    PyTypeObject *native_type;   /* of exchanges of the server, whose layer sets it */
    PyObject *client_disconnect; /* starlette.requests.ClientDisconnect */
    PyObject *request_type;      /* starlette.requests.Request */
    PyObject *websocket_type;    /* starlette.websockets.WebSocket */
    PyObject *content_length;    /* b"content-length" */
    PyObject *json_type;         /* (b"content-type", b"application/json") */
} ta_exchange_objects;

/* The state as this layer sees it. */
typedef struct ta_exchange_module_state {
    ta_loop_module_state below;
    ta_exchange_objects objects;
} ta_exchange_module_state;

static inline ta_exchange_objects *ta_exchange_objects_of(ta_state *st)
{
    return &((ta_exchange_module_state *)st)->objects;
}

#endif
