/*
 * evloop_run.c -- an iteration of the event loop: wait, make due timers ready, call what is ready.
 *
 * Layer: py (L4).  The order is asyncio's (BaseEventLoop._run_once): what becomes ready during an
 * iteration runs in the next one, after another select().
 */
#include "py/loop/evloop_int.h"

/* Methods that asyncio's Task asks for. */
PyObject *ta_evloop_is_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *thread = PyObject_GetAttr(self, ta_evloop_cast(self)->st->names.private_thread_id);
    Py_XDECREF(thread); /* compared only */
    return thread ? PyBool_FromLong(!Py_IsNone(thread)) : NULL;
}

PyObject *ta_evloop_get_debug(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(ta_evloop_cast(self)->debug);
}

/* asyncio's MAXIMUM_SELECT_TIMEOUT: a day. */
#define LONGEST_WAIT 86400.0

/* -- what select() gives -------------------------------------------------------------------------
 */

/* A handle of asyncio's own, or a Python subclass, may be anything. */
static int is_cancelled(ta_evloop *evloop, PyObject *handle)
{
    if (TA_LIKELY(ta_handle_is_ours(evloop->st, handle)))
        return ta_handle_of(handle)->cancelled;
    PyObject *value = PyObject_GetAttr(handle, evloop->st->names._cancelled);
    int yes = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return yes;
}

static int take_event(ta_evloop *evloop, PyObject *fileobj, PyObject *handle, bool writer)
{
    if (Py_IsNone(handle))
        return 0;
    int cancelled = is_cancelled(evloop, handle);
    if (cancelled == 0)
        return ta_evloop_push(evloop, Py_NewRef(handle));
    if (cancelled < 0)
        return -1;
    PyObject *res = PyObject_CallMethod((PyObject *)evloop,
                                        writer ? "_remove_writer" : "_remove_reader", "O", fileobj);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_evloop_take_events(ta_evloop *evloop, PyObject *events)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(events); i++) {
        PyObject *key, *fileobj = NULL, *data = NULL, *reader, *writer;
        int mask, rc = -1;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(events, i), "Oi", &key, &mask))
            return -1;
        if ((fileobj = PyObject_GetAttr(key, evloop->st->names.fileobj)) != NULL &&
            (data = PyObject_GetAttr(key, evloop->st->names.data)) != NULL &&
            PyArg_ParseTuple(data, "OO", &reader, &writer) &&
            (!(mask & 1) || take_event(evloop, fileobj, reader, false) == 0) &&
            (!(mask & 2) || take_event(evloop, fileobj, writer, true) == 0))
            rc = 0;
        Py_XDECREF(data);
        Py_XDECREF(fileobj);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* self._selector.select, kept while `_selector` is the same object. */
static PyObject *bound_select(ta_evloop *evloop)
{
    PyObject *selector = PyObject_GetAttr((PyObject *)evloop, evloop->st->names._selector);
    if (selector == NULL)
        return NULL;
    if (selector != evloop->selector) {
        PyObject *select = PyObject_GetAttrString(selector, "select");
        if (select == NULL) {
            Py_DECREF(selector);
            return NULL;
        }
        Py_XSETREF(evloop->select, select);
        Py_XSETREF(evloop->selector, Py_NewRef(selector));
    }
    Py_DECREF(selector);
    return evloop->select;
}

static PyObject *wait(ta_evloop *evloop)
{
    PyObject *select = bound_select(evloop), *timeout, *events = NULL;
    if (select == NULL)
        return NULL;
    double due = 0;
    bool timed = false;
    TA_EVLOOP_LOCK(evloop);
    bool ready = ta_evloop_nready(evloop) > 0;
    if (!ready && evloop->nheap > 0) {
        due = evloop->heap[0].when;
        timed = true;
    }
    TA_EVLOOP_UNLOCK(evloop);
    if (ready || evloop->stopping) {
        timeout = PyLong_FromLong(0);
    } else if (timed) {
        double left = due - ta_evloop_now();
        timeout = PyFloat_FromDouble(left < 0 ? 0 : left > LONGEST_WAIT ? LONGEST_WAIT : left);
    } else {
        timeout = Py_NewRef(Py_None);
    }
    if (timeout != NULL)
        events = PyObject_CallOneArg(select, timeout);
    Py_XDECREF(timeout);
    if (events != NULL && !PyList_Check(events))
        Py_SETREF(events, PySequence_List(events));
    return events;
}

/* -- calling -------------------------------------------------------------------------------------
 */

static int call(ta_evloop *evloop, PyObject *handle)
{
    PyObject *res;
    if (evloop->debug)
        res = PyObject_CallMethod((PyObject *)evloop, "_debug_run", "O", handle);
    else if (TA_LIKELY(ta_handle_is_ours(evloop->st, handle)))
        return ta_handle_run(evloop, handle);
    else
        res = PyObject_CallMethodNoArgs(handle, evloop->st->names._run);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* A timer of asyncio's own is told that it is on no heap any more. */
static int make_ready(ta_evloop *evloop, PyObject *handle /* steals */)
{
    if (!ta_handle_is_ours(evloop->st, handle) &&
        PyObject_SetAttr(handle, evloop->st->names._scheduled, Py_False) < 0) {
        Py_DECREF(handle);
        return -1;
    }
    return ta_evloop_push(evloop, handle);
}

int ta_evloop_turn(ta_evloop *evloop)
{
    PyObject *handle, *events = wait(evloop);
    if (events == NULL)
        return -1;
    int rc = ta_evloop_take_events(evloop, events);
    Py_DECREF(events);
    if (rc < 0)
        return -1;
    TA_EVLOOP_LOCK(evloop);
    bool timers = evloop->nheap > 0;
    TA_EVLOOP_UNLOCK(evloop);
    if (timers) {
        double end = ta_evloop_now() + evloop->resolution;
        while ((handle = ta_evloop_pop_due(evloop, end)) != NULL) {
            if (make_ready(evloop, handle) < 0)
                return -1;
        }
    }
    TA_EVLOOP_LOCK(evloop);
    size_t todo = ta_evloop_nready(evloop);
    TA_EVLOOP_UNLOCK(evloop);
    for (; todo > 0 && (handle = ta_evloop_pop(evloop)) != NULL; todo--) {
        int cancelled = is_cancelled(evloop, handle);
        rc = cancelled == 0 ? call(evloop, handle) : cancelled < 0 ? -1 : 0;
        Py_DECREF(handle);
        if (rc < 0)
            return -1;
    }
    return 0;
}
