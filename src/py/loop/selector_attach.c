/*
 * selector_attach.c -- binds a Selector to an asyncio loop, and ends what it has on that loop.
 *
 * Layer: py/loop.
 */
#include "py/loop/selector_int.h"

#include "py/loop/call_queue.h"
#include "py/loop/shared_refs.h"
#include "py/loop/task_pool.h"
#include "py/loop/thread_pool.h"
#include "py/support/exc.h"

/* Returns whether the loop calls our select().  1, 0, -1 with an exception. */
static int hosts(ta_state *st, PyObject *selector, PyObject *aioloop)
{
    PyObject *hosted;
    if (PyObject_GetOptionalAttr(aioloop, st->names._selector, &hosted) < 0)
        return -1;
    Py_XDECREF(hosted);
    return hosted == selector;
}

/* The loop runs in this thread, or we are in it and it does not run yet.  1, 0, -1. */
static int belongs_here(ta_state *st, PyObject *selector, PyObject *aioloop)
{
    PyObject *running = PyObject_CallNoArgs(ta_loop_objects_of(st)->selector.get_running_loop);
    if (running == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_RuntimeError)) /* of asyncio.get_running_loop */
            return -1;
        PyErr_Clear();
        running = Py_NewRef(Py_None);
    }
    Py_DECREF(running);
    if (running == aioloop)
        return 1;
    int rc = Py_IsNone(running) ? hosts(st, selector, aioloop) : 0;
    if (rc <= 0)
        return rc;
    PyObject *runs = PyObject_CallMethod(aioloop, "is_running", NULL);
    rc = runs ? PyObject_Not(runs) : -1;
    Py_XDECREF(runs);
    return rc;
}

/*
 * Makes a loop that does not call our select() (uvloop) watch our descriptor.  The callback keeps
 * the Selector alive until shut() removes it.
 */
static int nest(ta_loop_state *ls, PyObject *selector, PyObject *aioloop)
{
    PyObject *turn = NULL, *res = NULL;
    int hosted = hosts(ls->st, selector, aioloop);
    if (hosted != 0)
        return hosted < 0 ? -1 : 0;
    int rc = ta_loop_set_nested(ls->loop, true);
    if (rc < 0) {
        ta_exc_set(rc, "attach");
        return -1;
    }
    turn = PyObject_GetAttrString(selector, "turn");
    if (turn != NULL)
        res = PyObject_CallMethod(aioloop, "add_reader", "iO", ta_loop_fd(ls->loop), turn);
    Py_XDECREF(turn);
    Py_XDECREF(res);
    ls->nested = res != NULL;
    return res ? 0 : -1;
}

int ta_selector_attach(ta_selector *self, PyObject *aioloop)
{
    ta_loop_state *ls = &self->ls;
    ta_state *st = ls->st;
    PyObject *selector = (PyObject *)self;
    if (ls->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Selector is closed");
        return -1;
    }
    if (ls->aioloop == aioloop)
        return 0;
    if (ls->aioloop != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the Selector belongs to another loop");
        return -1;
    }
    int ours = belongs_here(st, selector, aioloop);
    if (ours == 0)
        PyErr_SetString(PyExc_RuntimeError, "the loop must be running in this thread");
    if (ours <= 0)
        return -1;
    Py_XSETREF(ls->context, PyContext_CopyCurrent());
    if (ls->context == NULL || nest(ls, selector, aioloop) < 0)
        return -1;
    ls->aioloop = Py_NewRef(aioloop);
    ls->peek = PyObject_HasAttr(aioloop, st->names._ready) &&
               PyObject_HasAttr(aioloop, st->names._scheduled) &&
               PyObject_HasAttr(aioloop, st->names._stopping);
    if (PyDict_SetItem(ta_loop_objects_of(st)->selector.by_loop, aioloop, selector) < 0)
        return -1;
    ta_selector_lag_set(ls, true, ls->nested);
    return ta_task_pool_attach(ls);
}

void ta_selector_detach(ta_selector *self)
{
    ta_loop_state *ls = &self->ls;
    if (ls->loop == NULL)
        return;
    ta_selector_lag_set(ls, false, false);
    ta_loop_state_shut_guests(ls);
    if (ls->nested) {
        PyObject *res =
            PyObject_CallMethod(ls->aioloop, "remove_reader", "i", ta_loop_fd(ls->loop));
        if (res == NULL)
            PyErr_Clear(); /* the loop is closed already */
        Py_XDECREF(res);
        ls->nested = false;
    }
    ta_thread_pool_close(ls, 0);
    ta_call_queue_shut_all(ls);
    ta_task_pool_detach(ls);
    ta_shared_refs_clear(ls);
    ta_buf_free(&ls->encoded);
    if (ls->wake != NULL)
        ta_wake_free(ls->wake);
    ls->wake = NULL;
    ta_selector_state *objects = &ta_loop_objects_of(ls->st)->selector;
    if (objects->last == (PyObject *)self) {
        Py_CLEAR(objects->last_loop);
        Py_CLEAR(objects->last); /* the caller has it, too */
    }
    if (ls->aioloop != NULL && PyDict_DelItem(objects->by_loop, ls->aioloop) < 0)
        PyErr_Clear();
    ta_loop_free(ls->loop);
    ls->loop = NULL;
}
