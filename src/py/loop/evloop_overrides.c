/*
 * evloop_overrides.c -- methods of asyncio's loop that somebody has replaced: the loop then runs
 * asyncio's own code ("plain").
 *
 * Layer: py/loop.
 */
#include "py/loop/evloop_int.h"

/* What asyncio's code calls where ours takes a shortcut. */
static const char *const overridable[] = {
    "time",
    "call_at",
    "_call_soon",
    "_run_once",
    "_process_events",
    "_add_callback",
    "_timer_handle_cancelled",
    "_write_to_self",
};

/* The same of run_in_executor(), which then is asyncio's, while the loop stays what it is. */
static const char *const of_executors[] = {
    "create_future",
    "call_soon_threadsafe",
    "_check_closed",
    "_check_default_executor",
};

/* 1: `_call_soon` and the like are as in our class; 0: not; -1: exception. */
static int is_untouched(ta_evloop *evloop, const char *name)
{
    PyObject *now = PyObject_GetAttrString((PyObject *)Py_TYPE(evloop), name);
    const ta_evloop_state *objects = &ta_loop_objects_of(evloop->st)->evloop;
    PyObject *ours = NULL;
    if (now != NULL && PyObject_GetOptionalAttrString((PyObject *)objects->type, name, &ours) == 0)
        ours = PyObject_GetAttrString(objects->base_class, name); /* not one of ours: asyncio's */
    Py_XDECREF(now);
    Py_XDECREF(ours);
    return ours ? now == ours : -1;
}

/* Both queues become asyncio's containers. */
static int become_plain(ta_evloop *evloop)
{
    if (evloop->plain)
        return 0;
    PyObject *ready = ta_evloop_list_ready(evloop);
    PyObject *scheduled = ready ? ta_evloop_list_scheduled(evloop) : NULL; /* sorted: a heap */
    PyObject *deque =
        scheduled ? PyObject_CallOneArg(ta_loop_objects_of(evloop->st)->evloop.deque, ready) : NULL;
    Py_XDECREF(ready);
    if (deque == NULL) {
        Py_XDECREF(scheduled);
        return -1;
    }
    ta_evloop_clear_ready(evloop);
    ta_evloop_clear_scheduled(evloop);
    evloop->plain = true;
    evloop->ready = deque;
    evloop->scheduled = scheduled;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(scheduled); i++) {
        PyObject *handle = PyList_GET_ITEM(scheduled, i);
        if (PyObject_SetAttr(handle, evloop->st->names._scheduled, Py_True) < 0)
            return -1;
    }
    return 0;
}

int ta_evloop_look_for_overrides(ta_evloop *evloop)
{
    for (size_t i = 0; i < TA_COUNTOF(overridable); i++) {
        int untouched = is_untouched(evloop, overridable[i]);
        if (untouched < 0 || (untouched == 0 && become_plain(evloop) < 0))
            return -1;
    }
    for (size_t i = 0; i < TA_COUNTOF(of_executors); i++) {
        int untouched = is_untouched(evloop, of_executors[i]);
        if (untouched < 0)
            return -1;
        evloop->replaced |= untouched == 0;
    }
    evloop->looked = true;
    evloop->version = Py_TYPE(evloop)->tp_version_tag;
    return 0;
}

int ta_evloop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    for (size_t i = 0; i < TA_COUNTOF(overridable); i++) {
        if (PyUnicode_CompareWithASCIIString(name, overridable[i]) == 0 &&
            become_plain(ta_evloop_cast(self)) < 0)
            return -1;
    }
    for (size_t i = 0; i < TA_COUNTOF(of_executors); i++) {
        if (PyUnicode_CompareWithASCIIString(name, of_executors[i]) == 0)
            ta_evloop_cast(self)->replaced = true;
    }
    return PyObject_GenericSetAttr(self, name, value);
}
