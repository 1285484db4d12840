/*
 * spawn.c -- Selector.spawn: a coroutine into a Task of the pool.
 *
 * Layer: py (L4).
 */
#include "py/loop/selector_int.h"

#include "py/loop/task_pool.h"

/* A coroutine that waits for the next batch. */
typedef struct spawned {
    ta_defer defer;
    ta_loop_state *ls;  /* borrowed: undone by shut */
    PyObject *selector; /* owned */
    PyObject *coro;     /* owned until started */
    PyObject *callback; /* owned, or None */
} spawned;

static void spawned_free(spawned *s)
{
    Py_XDECREF(s->coro);
    Py_XDECREF(s->callback);
    Py_XDECREF(s->selector);
    PyMem_Free(s);
}

static ta_outcome spawned_done(void *arg, PyObject *result, PyObject **Py_UNUSED(next))
{
    spawned *start = arg;
    PyObject *exc = result ? NULL : PyErr_GetRaisedException();
    ta_outcome outcome = TA_DONE;
    if (!Py_IsNone(start->callback)) {
        PyObject *res = PyObject_CallFunctionObjArgs(start->callback, result ? result : Py_None,
                                                     exc ? exc : Py_None, NULL);
        outcome = res ? TA_DONE : TA_FAILED;
        Py_XDECREF(res);
        Py_XDECREF(exc);
    } else if (exc != NULL) {
        PyErr_SetRaisedException(exc);
        outcome = TA_FAILED;
    }
    spawned_free(start);
    return outcome;
}

static void spawned_start(ta_defer *defer)
{
    spawned *start = TA_CONTAINER_OF(defer, spawned, defer);
    ta_loop_state *ls = start->ls;
    if (!ta_loop_state_may_start(ls)) {
        ta_loop_defer(ls->loop, defer);
        return;
    }
    PyObject *coro = start->coro;
    start->coro = NULL;
    ls->starts.announced--;
    if (ta_task_pool_start(ls, coro, false, spawned_done, start) < 0) {
        ta_loop_state_unhandled(ls, "A coroutine could not be started");
        spawned_free(start);
    }
}

PyObject *ta_selector_spawn(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    ta_loop_state *ls = &((ta_selector *)obj)->ls;
    if (nargs < 1 || nargs > 2) {
        PyErr_SetString(PyExc_TypeError, "spawn(coro, callback=None)");
        return NULL;
    }
    if (ls->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Selector is closed");
        return NULL;
    }
    if (ls->aioloop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the Selector is not attached to a loop");
        return NULL;
    }
    spawned *start = PyMem_Calloc(1, sizeof *start);
    if (start == NULL)
        return PyErr_NoMemory();
    start->defer.fn = spawned_start;
    start->ls = ls;
    start->selector = Py_NewRef(obj);
    start->coro = Py_NewRef(args[0]);
    start->callback = Py_NewRef(nargs == 2 ? args[1] : Py_None);
    ls->starts.announced++;
    ta_loop_defer(ls->loop, &start->defer);
    Py_RETURN_NONE;
}
