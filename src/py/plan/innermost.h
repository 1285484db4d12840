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

/* Is it an Innermost that is prepared? */
bool ta_innermost_check(ta_state *st, PyObject *app);
/*
 * Finds the plan that answers the request without exit stacks, overrides and forms, which an
 * application round it has to deal with: 1 and *plan (new); 0: there is none; -1 with an exception.
 * `enter`: the scope gets what the router puts there.
 */
TA_MUST_CHECK int ta_innermost_find(PyObject *app, PyObject *scope, bool enter, PyObject **plan);

#endif
