/*
 * limits.h -- the limits of HTTP, as Python gives and sees them.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_LIMITS_H
#define TA_PY_SERVER_LIMITS_H

#include "http/http_limits.h"
#include "py/support/py_compat.h"

/* Defaults, but for what the dict `given` (borrowed, or NULL) says.  0, or -1 with an exception. */
int ta_limits_read(PyObject *given, ta_http_limits *limits);
/* Adds HTTP_LIMITS to the module: name -> (default, highest value).  0, or -1 with an exception. */
int ta_limits_add(PyObject *module);

#endif
