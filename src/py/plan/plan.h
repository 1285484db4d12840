/*
 * plan.h -- a compiled plan as the server sees it: something that can be run on an exchange.
 *
 * Layer: py/plan.  See docs/engine.md, "Plan".
 */
#ifndef TA_PY_PLAN_PLAN_H
#define TA_PY_PLAN_PLAN_H

#include "py/exchange/exchange.h"
#include "py/plan/plan_objects.h"

/*
 * Runs `plan` (a _core.Plan, borrowed) on x.  TA_DONE: the whole exchange was answered without
 * waiting; TA_WAITS: *run is a new coroutine-like object to be run by a Task (ta_task_pool_start).
 */
ta_outcome ta_plan_run_native(ta_state *st, PyObject *plan, ta_exchange *exchange, PyObject **run);
/* Returns whether a run of the plan (a _core.Plan) on x always needs a Task, from its first step.
 */
bool ta_plan_needs_task(PyObject *plan, const ta_exchange *exchange);
/* True for a _core.Plan, which may be given to ta_plan_run_native. */
bool ta_plan_check(ta_state *st, PyObject *obj);

#endif
