/*
 * evloop_executor.c -- run_in_executor(None, ...) of the event loop, in threads of ours.
 *
 * Layer: py/loop.  The default executor is a subclass of ThreadPoolExecutor (turboapi's
 * _loop_threads.Executor) whose queue is a ta_call_queue.  A call goes to that queue at once if
 * nobody could tell; otherwise asyncio's own code calls submit(), and the threads are the same.
 */
#include "py/loop/call_queue.h"
#include "py/loop/evloop_int.h"

PyObject *ta_evloop_get_executor(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *executor = ta_evloop_cast(self)->executor;
    return Py_NewRef(executor ? executor : Py_None);
}

int ta_evloop_set_executor(PyObject *self, PyObject *executor, void *Py_UNUSED(closure))
{
    ta_evloop *evloop = ta_evloop_cast(self);
    bool none = executor == NULL || Py_IsNone(executor);
    PyObject *queue = NULL;
    /* The attribute is what only ours has; any other executor goes asyncio's way. */
    if (!none && PyObject_GetOptionalAttrString(executor, "_turboapi_queue", &queue) < 0)
        return -1;
    if (queue != NULL && !Py_IS_TYPE(queue, ta_loop_objects_of(evloop->st)->call.queue_type))
        Py_CLEAR(queue);
    Py_XSETREF(evloop->calls, queue);
    Py_XSETREF(evloop->executor, none ? NULL : Py_NewRef(executor));
    evloop->submit_version = 0;
    return 0;
}

/* Makes the default executor, unless asyncio has to.  0, or -1 with an exception. */
static int make_executor(ta_evloop *evloop)
{
    PyObject *executor = PyObject_CallMethod((PyObject *)evloop, "_make_executor", NULL);
    int rc = executor ? ta_evloop_set_executor((PyObject *)evloop, executor, NULL) : -1;
    Py_XDECREF(executor);
    return rc;
}

/*
 * Instrumentation replaces ThreadPoolExecutor.submit to see each call, and to pass its context on:
 * it must then be called.  1: submit is concurrent.futures' own function; 0; -1 with an exception.
 */
static int submits_itself(ta_evloop *evloop)
{
    PyTypeObject *type = Py_TYPE(evloop->executor);
    if (TA_LIKELY(evloop->submit_version != 0 && evloop->submit_version == type->tp_version_tag))
        return 1;
    PyObject *submit = PyObject_GetAttrString((PyObject *)type, "submit");
    if (submit == NULL)
        return -1;
    PyObject *globals = ta_loop_objects_of(evloop->st)->call.executor_globals;
    int own = PyFunction_Check(submit) && PyFunction_GET_GLOBALS(submit) == globals;
    Py_DECREF(submit);
    evloop->submit_version = own ? type->tp_version_tag : 0;
    return own;
}

int ta_evloop_run_in_executor(ta_evloop *evloop, PyObject *func, PyObject *const *args,
                              Py_ssize_t nargs, PyObject **future)
{
    if (evloop->closed || evloop->executor_shut || evloop->replaced)
        return 0;
    if (evloop->executor == NULL && make_executor(evloop) < 0)
        return -1;
    ta_call_queue *queue = (ta_call_queue *)evloop->calls;
    if (queue == NULL || !ta_call_queue_is_open(queue))
        return 0;
    int own = submits_itself(evloop);
    if (own <= 0)
        return own;
    *future = ta_evloop_create_future((PyObject *)evloop, NULL);
    if (*future == NULL)
        return -1;
    ta_call_spec spec = {.future = *future, .func = func, .args = args, .nargs = nargs};
    Py_INCREF(queue); /* a thread is started by Python code */
    int rc = ta_call_queue_call(queue, &spec);
    Py_DECREF(queue);
    if (rc <= 0)
        Py_CLEAR(*future);
    return rc;
}
