/*
 * socket_transport.h -- `_core.SocketTransport`: asyncio's transport of a stream socket, in C.
 *
 * Layer: py/loop.  turboapi.loop.EventLoop makes them (`_make_socket_transport`), see docs/loop.md.
 */
#ifndef TA_PY_LOOP_SOCKET_TRANSPORT_H
#define TA_PY_LOOP_SOCKET_TRANSPORT_H

#include "py/loop/loop_objects.h"

int ta_socket_transport_init(PyObject *module, ta_state *st);

#endif
