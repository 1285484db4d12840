/*
 * listening.h -- what a Server listens on: sockets, the limit of connections, TLS.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_LISTENING_H
#define TA_PY_SERVER_LISTENING_H

#include "py/server/server.h"

/* Methods of a Server: listen(fd, shared), use_tls(tls), use_proxy_protocol(trusts). */
PyObject *ta_listening_listen(PyObject *self, PyObject *args);
PyObject *ta_listening_use_tls(PyObject *self, PyObject *obj);
PyObject *ta_listening_use_proxy_protocol(PyObject *self, PyObject *trusts);

/* ta_http_cfg.on_room: a connection has ended, after there was no room for more. */
void ta_listening_on_room(void *ctx);
/* Accepts no more.  Clients that have connected before are served if the server is stopping. */
void ta_listening_stop(ta_server *server);

#endif
