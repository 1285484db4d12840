/*
 * tls_object.h -- the settings of TLS as a Python object, and what a scope tells of a connection.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_TLS_OBJECT_H
#define TA_PY_SERVER_TLS_OBJECT_H

#include "net/tls.h"
#include "py/server/native_exchange.h"

/* A new reference to what a _core.TLS holds; NULL with a TypeError. */
ta_tls *ta_tls_object_get(ta_state *st, PyObject *obj);
/* Sets scope["extensions"]["tls"] (the ASGI specification of TLS) if the connection is encrypted:
 * 0, or -1 with an exception. */
TA_MUST_CHECK int ta_tls_object_scope(ta_native_exchange *native, PyObject *scope);

#endif
