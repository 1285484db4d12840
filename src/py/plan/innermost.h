/*
 * innermost.h -- `_core.Innermost`: the application inside of all middleware (docs/engine.md).
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_INNERMOST_H
#define TA_PY_PLAN_INNERMOST_H

#include "py/plan/plan_objects.h"

/* Adds the type to the module; after router.c's init.  0, or -1 with an exception. */
int ta_innermost_init(PyObject *module, ta_state *st);

#endif
