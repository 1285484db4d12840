/*
 * run_values.c -- what a run holds for its steps: arguments, request, responses to be filled in;
 * and the hooks that watch it.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include "py/loop/shared_refs.h"

/* -- the block of values ----------------------------------------------------------------------- */

int ta_plan_run_use_plan(ta_plan_run *run, ta_plan *plan)
{
    char *block = run->inline_block;
    TA_ASSERT(run->block == NULL);
    if (plan->block > sizeof run->inline_block) {
        block = PyMem_Malloc(plan->block);
        if (block == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    memset(block, 0, plan->block);
    run->block = block;
    run->values = (PyObject **)(void *)block;
    uint32_t nexits = plan->nslots - plan->nvalues - plan->ncache;
    run->exit_kinds = (uint16_t *)(void *)(run->values + plan->nslots);
    run->bad = (uint8_t *)(run->exit_kinds + nexits);
    PyObject *old = run->holder;
    run->holder = ta_shared_refs_hold(run->x->ls, (PyObject *)plan);
    run->plan = plan;
    Py_XDECREF(old);
    return 0;
}

void ta_plan_run_drop_values(ta_plan_run *run)
{
    if (run->block == NULL)
        return;
    for (uint32_t i = 0; i < run->plan->nslots; i++)
        Py_CLEAR(run->values[i]);
    if (run->block != run->inline_block)
        PyMem_Free(run->block);
    run->block = NULL;
    run->values = NULL;
}

void ta_plan_run_drop_args(ta_plan_run *r, const ta_node *n)
{
    for (uint16_t i = 0; i < n->nargs; i++)
        Py_CLEAR(r->values[n->first + i]);
}

PyObject *ta_plan_run_values(ta_plan_run *run, const ta_node *node)
{
    PyObject *dict = PyDict_New();
    for (uint16_t i = 0; dict != NULL && i < node->nargs; i++) {
        PyObject *value = run->values[node->first + node->slots[i]];
        if (value != NULL && PyDict_SetItem(dict, node->names[i], value) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

/* -- made when asked for ---------------------------------------------------------------------- */

PyObject *ta_plan_run_lazy(ta_plan_run *run, PyObject **place, int which)
{
    if (*place == NULL) {
        PyObject *hook = ta_plan_hook(run->plan, which);
        PyObject *made = hook ? PyObject_CallNoArgs(hook) : NULL;
        if (made == NULL)
            return NULL;
        Py_XSETREF(*place, made);
    }
    return Py_NewRef(*place);
}

PyObject *ta_plan_run_request(ta_plan_run *r)
{
    if (TA_LIKELY(r->x->request != NULL))
        return Py_NewRef(r->x->request);
    PyObject *hook = ta_plan_hook(r->plan, H_new_request);
    PyObject *request = hook ? ta_exchange_request(r->x, hook) : NULL;
    if (request != NULL && r->whole_form &&
        (PyObject_SetAttr(request, r->plan->st->names._form, r->body) < 0 ||
         PyObject_SetAttr(request, r->plan->st->names._stream_consumed, Py_True) < 0))
        Py_CLEAR(request);
    return request;
}

/* -- hooks that watch (telemetry) -------------------------------------------------------------- */

int ta_plan_run_enter_operation(ta_plan_run *run, PyObject *name)
{
    PyObject *hook = run->plan->hook[H_operation];
    if (TA_LIKELY(hook == NULL))
        return 0;
    ta_plan *plan = run->plan;
    PyObject *call = plan->nodes[plan->nnodes - 1].call;
    PyObject *args[] = {NULL, name, call ? call : Py_None};
    PyObject *cm = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (cm == NULL)
        return -1;
    if (cm == Py_None) {
        Py_DECREF(cm);
        return 0;
    }
    PyObject *entered = PyObject_CallMethodNoArgs(cm, plan->st->names.dunder_enter);
    if (entered == NULL) {
        Py_DECREF(cm);
        return -1;
    }
    Py_DECREF(entered);
    TA_ASSERT(run->cm == NULL); /* the operations of a run do not nest */
    run->cm = cm;
    return 0;
}

int ta_plan_run_leave_operation(ta_plan_run *run)
{
    PyObject *cm = run->cm;
    if (TA_LIKELY(cm == NULL))
        return 0;
    run->cm = NULL;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *tb = exc ? PyException_GetTraceback(exc) : NULL;
    PyObject *type = exc ? (PyObject *)Py_TYPE(exc) : Py_None;
    PyObject *args[] = {cm, type, exc ? exc : Py_None, tb ? tb : Py_None};
    PyObject *res = PyObject_VectorcallMethod(run->plan->st->names.dunder_exit, args,
                                              4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(tb);
    Py_DECREF(cm);
    if (res == NULL) {
        Py_XDECREF(exc);
        return -1;
    }
    Py_DECREF(res);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return 0;
}

int ta_plan_run_observe(ta_plan_run *run, PyObject *what, PyObject *value)
{
    PyObject *hook = run->plan->hook[H_observe];
    if (TA_LIKELY(hook == NULL))
        return 0;
    PyObject *args[] = {NULL, what, value};
    PyObject *res = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(res);
    return res ? 0 : -1;
}
