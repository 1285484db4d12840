/*
 * endpoint.c -- the endpoint's call, once all that it depends on has been solved.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

/* Who looks on is told what was solved; `solve` has it as its result.  0, or -1 with an exception.
 */
static int tell_solved(ta_plan_run *run)
{
    if (TA_LIKELY(run->plan->hook[H_observe] == NULL && run->mode != MODE_SOLVE))
        return 0;
    PyObject *solved = ta_solved_new(run);
    if (solved == NULL)
        return -1;
    if (run->mode == MODE_SOLVE)
        run->co.result = Py_NewRef(solved);
    int rc = ta_plan_run_observe(run, run->plan->st->names.solved, solved);
    Py_DECREF(solved);
    return rc;
}

/* hooks.endpoint_response calls it and makes the response. */
static ta_plan_run_state call_by_hook(ta_plan_run *run)
{
    PyObject *hook = ta_plan_hook(run->plan, H_endpoint_response);
    PyObject *request = hook ? ta_plan_run_request(run) : NULL;
    PyObject *solved = request ? ta_solved_new(run) : NULL;
    PyObject *awaitable = NULL;
    if (solved != NULL) {
        PyObject *args[] = {NULL, request, solved};
        awaitable = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(solved);
    Py_XDECREF(request);
    return awaitable ? ta_plan_run_await(run, awaitable, ST_RESPONSE) : ST_FAILED;
}

ta_plan_run_state ta_endpoint_call(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    ta_plan *plan = run->plan;
    const ta_node *node = &plan->nodes[plan->nnodes - 1];
    TA_ASSERT(run->node + 1 == plan->nnodes);
    if (tell_solved(run) < 0 || ta_plan_run_leave_operation(run) < 0)
        return ST_FAILED;
    if (run->mode == MODE_SOLVE)
        return ST_CLOSE;
    if (run->errors != NULL)
        return ta_errors_invalid(run);
    if (plan->resp == RESP_PYTHON)
        return call_by_hook(run);
    if (node->call == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this plan has no endpoint, it can only be solved");
        return ST_FAILED;
    }
    /* that of a `def` runs in its thread: the compiler has put it into the callable */
    if (node->kind != KIND_SYNC && ta_plan_run_enter_operation(run, plan->st->names.endpoint) < 0)
        return ST_FAILED;
    PyObject *out = NULL;
    ta_outcome outcome = ta_dependencies_call(run, node, &out);
    if (outcome != TA_FAILED)
        ta_plan_run_drop_args(run, node);
    return ta_plan_run_go_on(run, outcome, out, ST_RETURNED);
}
