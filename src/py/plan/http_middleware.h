/*
 * http_middleware.h -- `_core.HTTPMiddleware`: `@app.middleware("http")` round what is known.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_HTTP_MIDDLEWARE_H
#define TA_PY_PLAN_HTTP_MIDDLEWARE_H

#include "py/plan/plan_objects.h"

/* Adds the types to the module; after innermost.c's init.  0, or -1 with an exception. */
int ta_http_middleware_init(PyObject *module, ta_state *st);

#endif
