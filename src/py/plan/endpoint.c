/*
 * endpoint.c -- the endpoint's call, once all that it depends on has been solved.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

/* Raises what hooks.validation_error makes of the errors. */
static ta_plan_run_state invalid(ta_plan_run *r)
{
    PyObject *hook = ta_plan_hook(r->plan, H_validation_error);
    PyObject *body = hook ? ta_body_parsed(r) : NULL;
    PyObject *request = body ? ta_plan_run_request(r) : NULL;
    PyObject *exc = NULL;
    if (request != NULL) {
        PyObject *args[] = {NULL, r->errors, body, request};
        exc = PyObject_Vectorcall(hook, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(body);
    Py_XDECREF(request);
    if (exc != NULL && !PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "hook validation_error must return an exception");
    } else if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_XDECREF(exc);
    return ST_FAILED;
}

/* Who looks on is told what was solved; `solve` has it as its result.  0, or -1 with an exception.
 */
static int tell_solved(ta_plan_run *r)
{
    if (TA_LIKELY(r->plan->hook[H_observe] == NULL && r->mode != MODE_SOLVE))
        return 0;
    PyObject *solved = ta_solved_new(r);
    if (solved == NULL)
        return -1;
    if (r->mode == MODE_SOLVE)
        r->co.result = Py_NewRef(solved);
    int rc = ta_plan_run_observe(r, r->plan->st->names.solved, solved);
    Py_DECREF(solved);
    return rc;
}

/* hooks.endpoint_response calls it and makes the response. */
static ta_plan_run_state call_by_hook(ta_plan_run *r)
{
    PyObject *hook = ta_plan_hook(r->plan, H_endpoint_response);
    PyObject *request = hook ? ta_plan_run_request(r) : NULL;
    PyObject *solved = request ? ta_solved_new(r) : NULL;
    PyObject *awaitable = NULL;
    if (solved != NULL) {
        PyObject *args[] = {NULL, request, solved};
        awaitable = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(solved);
    Py_XDECREF(request);
    return awaitable ? ta_plan_run_await(r, awaitable, ST_RESPONSE) : ST_FAILED;
}

ta_plan_run_state ta_endpoint_call(ta_plan_run *r, PyObject *Py_UNUSED(value))
{
    ta_plan *plan = r->plan;
    const ta_node *n = &plan->nodes[plan->nnodes - 1];
    TA_ASSERT(r->node + 1 == plan->nnodes);
    if (tell_solved(r) < 0 || ta_plan_run_leave_operation(r) < 0)
        return ST_FAILED;
    if (r->mode == MODE_SOLVE)
        return ST_CLOSE;
    if (r->errors != NULL)
        return invalid(r);
    if (plan->resp == RESP_PYTHON)
        return call_by_hook(r);
    if (n->call == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this plan has no endpoint, it can only be solved");
        return ST_FAILED;
    }
    /* that of a `def` runs in its thread: the compiler has put it into the callable */
    if (n->kind != KIND_SYNC && ta_plan_run_enter_operation(r, plan->st->names.endpoint) < 0)
        return ST_FAILED;
    PyObject *out = NULL;
    ta_outcome outcome = ta_dependencies_call(r, n, &out);
    if (outcome != TA_FAILED)
        ta_plan_run_drop_args(r, n);
    return ta_plan_run_go_on(r, outcome, out, ST_RETURNED);
}
