/*
 * waiters.c -- those who wait for the same thing: input, or room for output.
 *
 * Layer: py (L4).
 */
#include "py/server/waiters.h"

PyObject *ta_waiters_add(ta_waiters *waiters, ta_loop_state *ls)
{
    ta_future *waiter = ta_future_new(ls, NULL, NULL);
    if (waiter == NULL)
        return NULL;
    if (waiters->first != NULL && ta_future_done(waiters->first)) /* cancelled */
        Py_CLEAR(waiters->first);
    if (waiters->first == NULL) {
        waiters->first = (ta_future *)Py_NewRef((PyObject *)waiter);
        return (PyObject *)waiter;
    }
    if (waiters->more == NULL && (waiters->more = PyList_New(0)) == NULL)
        goto error;
    if (PyList_Append(waiters->more, (PyObject *)waiter) < 0)
        goto error;
    return (PyObject *)waiter;
error:
    Py_DECREF(waiter);
    return NULL;
}

void ta_waiters_wake(ta_waiters *waiters)
{
    ta_future *first = waiters->first;
    PyObject *more = waiters->more;
    waiters->first = NULL;
    waiters->more = NULL;
    if (first != NULL) {
        ta_future_set_result(first, Py_None);
        Py_DECREF(first);
    }
    if (more != NULL) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(more); i++)
            ta_future_set_result((ta_future *)PyList_GET_ITEM(more, i), Py_None);
        Py_DECREF(more);
    }
}

int ta_waiters_traverse(ta_waiters *w, visitproc visit, void *arg)
{
    Py_VISIT(w->first);
    Py_VISIT(w->more);
    return 0;
}

void ta_waiters_clear(ta_waiters *w)
{
    Py_CLEAR(w->first);
    Py_CLEAR(w->more);
}
