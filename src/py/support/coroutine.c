/* coroutine.c -- the coroutine protocol over a C state machine.  See coroutine.h. */
#include "py/support/coroutine.h"

#include <frameobject.h>

void ta_coroutine_init(ta_coroutine *co, ta_outcome (*advance)(ta_coroutine *, PyObject *))
{
    co->advance = advance;
    co->delegate = NULL;
    co->result = NULL;
    co->handled = NULL;
    co->context = NULL;
    co->started = co->running = co->finished = co->closing = co->inside = false;
}

int ta_coroutine_traverse(ta_coroutine *co, visitproc visit, void *arg)
{
    Py_VISIT(co->delegate);
    Py_VISIT(co->result);
    Py_VISIT(co->handled);
    Py_VISIT(co->context);
    return 0;
}

void ta_coroutine_clear(ta_coroutine *co)
{
    Py_CLEAR(co->delegate);
    Py_CLEAR(co->result);
    Py_CLEAR(co->handled);
    Py_CLEAR(co->context);
}

/* -- waiting ------------------------------------------------------------------------------- */

static int is_iterable_coroutine(PyObject *obj)
{
    if (!PyGen_CheckExact(obj))
        return 0;
    PyObject *code = PyObject_GetAttrString(obj, "gi_code");
    if (code == NULL) {
        PyErr_Clear();
        return 0;
    }
    int flags = ((PyCodeObject *)code)->co_flags;
    Py_DECREF(code);
    return (flags & CO_ITERABLE_COROUTINE) != 0;
}

ta_outcome ta_coroutine_await(ta_coroutine *co, PyObject *awaitable)
{
    TA_ASSERT(co->delegate == NULL && awaitable != NULL);
    if (TA_LIKELY(PyCoro_CheckExact(awaitable)) || is_iterable_coroutine(awaitable)) {
        co->delegate = awaitable;
        return TA_WAITS;
    }
    PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;
    if (async == NULL || async->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression",
                     Py_TYPE(awaitable)->tp_name);
        Py_DECREF(awaitable);
        return TA_FAILED;
    }
    PyObject *it = async->am_await(awaitable);
    Py_DECREF(awaitable);
    if (it == NULL)
        return TA_FAILED;
    if (!PyIter_Check(it) || PyCoro_CheckExact(it)) {
        PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'",
                     Py_TYPE(it)->tp_name);
        Py_DECREF(it);
        return TA_FAILED;
    }
    co->delegate = it;
    return TA_WAITS;
}

/* A StopIteration must not leave a coroutine: callers would take it for its return. */
static void convert_stop_iteration(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return;
    PyObject *cause = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    PyObject *exc = PyErr_GetRaisedException();
    PyException_SetContext(exc, Py_NewRef(cause));
    PyException_SetCause(exc, cause);
    PyErr_SetRaisedException(exc);
}

/* As a generator does: pushes an item of its own on the thread's stack of handled exceptions. */
static void push_handled(ta_coroutine *co)
{
    PyThreadState *ts = PyThreadState_Get();
    co->exc_item.exc_value = co->handled;
    co->exc_item.previous_item = ts->exc_info;
    ts->exc_info = &co->exc_item;
}

/* The exception that is set stays set. */
static void exit_context(ta_coroutine *co)
{
    PyObject *exc = PyErr_GetRaisedException();
    co->inside = false;
    if (PyContext_Exit(co->context) < 0)
        PyErr_Clear(); /* the code that ran left another one entered, which is its own fault */
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
}

int ta_coroutine_enter_context(ta_coroutine *co)
{
    TA_ASSERT(co->running && !co->inside);
    PyObject *context = PyContext_CopyCurrent();
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    Py_XSETREF(co->context, context);
    co->inside = true;
    return 0;
}

void ta_coroutine_leave_context(ta_coroutine *co)
{
    if (co->inside)
        exit_context(co);
    Py_CLEAR(co->context);
}

void ta_coroutine_enter(ta_coroutine *co)
{
    TA_ASSERT(!co->running && !co->inside);
    co->running = true;
    if (TA_UNLIKELY(co->context != NULL)) {
        co->inside = PyContext_Enter(co->context) == 0;
        if (!co->inside)
            PyErr_Clear(); /* it is entered: code of the iterator's kept it */
    }
    if (TA_UNLIKELY(co->handled != NULL))
        push_handled(co);
}

void ta_coroutine_leave(ta_coroutine *co)
{
    TA_ASSERT(co->running);
    co->running = false;
    if (TA_UNLIKELY(co->inside))
        exit_context(co);
    if (TA_UNLIKELY(co->handled != NULL)) {
        PyThreadState_Get()->exc_info = co->exc_item.previous_item;
        co->exc_item.exc_value = NULL;
        if (co->finished)
            Py_CLEAR(co->handled);
    }
}

void ta_coroutine_handle(ta_coroutine *co, PyObject *exc)
{
    TA_ASSERT(co->running && co->handled == NULL);
    co->handled = Py_NewRef(exc);
    push_handled(co);
}

/* Goes on after `outcome` until the machine waits or ends. */
static PySendResult co_drive(ta_coroutine *co, ta_outcome outcome, PyObject **result)
{
    for (;;) {
        if (outcome == TA_WAITS) {
            PyObject *value;
            TA_ASSERT(co->delegate != NULL);
            PySendResult sent = PyIter_Send(co->delegate, Py_None, &value);
            if (sent == PYGEN_NEXT) {
                *result = value;
                return PYGEN_NEXT;
            }
            Py_CLEAR(co->delegate);
            outcome = co->advance(co, sent == PYGEN_RETURN ? value : NULL);
            continue;
        }
        TA_ASSERT(co->delegate == NULL && (outcome == TA_FAILED) == (PyErr_Occurred() != NULL));
        co->finished = true;
        if (outcome == TA_DONE) {
            *result = co->result ? co->result : Py_NewRef(Py_None);
            co->result = NULL;
            return PYGEN_RETURN;
        }
        convert_stop_iteration();
        *result = NULL;
        return PYGEN_ERROR;
    }
}

static int co_may_run(ta_coroutine *co)
{
    if (co->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return 0;
    }
    if (co->finished) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return 0;
    }
    return 1;
}

PySendResult ta_coroutine_am_send(PyObject *self, PyObject *arg, PyObject **result)
{
    ta_coroutine *co = (ta_coroutine *)self;
    *result = NULL;
    if (TA_UNLIKELY(!co_may_run(co)))
        return PYGEN_ERROR;
    if (!co->started) {
        if (arg != Py_None) {
            PyErr_SetString(PyExc_TypeError,
                            "can't send non-None value to a just-started coroutine");
            return PYGEN_ERROR;
        }
        co->started = true;
    }
    Py_INCREF(self); /* the machine may drop whoever holds it */
    ta_coroutine_enter(co);
    ta_outcome outcome;
    PySendResult res;
    if (co->delegate == NULL) {
        outcome = co->advance(co, NULL);
    } else {
        PyObject *value;
        PySendResult sent = PyIter_Send(co->delegate, arg, &value);
        if (sent == PYGEN_NEXT) {
            *result = value;
            res = PYGEN_NEXT;
            goto done;
        }
        Py_CLEAR(co->delegate);
        outcome = co->advance(co, sent == PYGEN_RETURN ? value : NULL);
    }
    res = co_drive(co, outcome, result);
done:
    ta_coroutine_leave(co);
    Py_DECREF(self);
    return res;
}

PyObject *ta_coroutine_self(PyObject *self)
{
    return Py_NewRef(self);
}

/* Returns what send(), throw() and next() do: the yielded value, or NULL with StopIteration(value).
 */
static PyObject *co_result(PySendResult res, PyObject *value)
{
    if (res != PYGEN_RETURN)
        return value;
    if (value == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
    } else {
        /* through an instance: a tuple or an exception as value must not be spread or raised */
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (stop != NULL)
            PyErr_SetRaisedException(stop);
    }
    Py_DECREF(value);
    return NULL;
}

/* NULL without an exception is the end as well, for a result of None: `await` asks in this way. */
PyObject *ta_coroutine_iternext(PyObject *self)
{
    PyObject *value;
    PySendResult res = ta_coroutine_am_send(self, Py_None, &value);
    if (TA_LIKELY(res == PYGEN_RETURN && value == Py_None)) {
        Py_DECREF(value);
        return NULL;
    }
    return co_result(res, value);
}

PyObject *ta_coroutine_send(PyObject *self, PyObject *arg)
{
    PyObject *value;
    PySendResult res = ta_coroutine_am_send(self, arg, &value);
    return co_result(res, value);
}

/* -- throw, close -------------------------------------------------------------------------- */

PyObject *ta_coroutine_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
        return NULL;
    }
    PyObject *type = args[0];
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *tb = nargs > 2 && args[2] != Py_None ? args[2] : NULL;
    PyObject *exc;
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
            return NULL;
        }
        exc = Py_NewRef(type);
    } else if (PyExceptionClass_Check(type)) {
        int same = value != NULL && PyExceptionInstance_Check(value)
                       ? PyObject_IsInstance(value, type)
                       : 0;
        if (same < 0)
            return NULL;
        if (same)
            exc = Py_NewRef(value);
        else if (value == NULL)
            exc = PyObject_CallNoArgs(type);
        else if (PyTuple_Check(value))
            exc = PyObject_CallObject(type, value);
        else
            exc = PyObject_CallOneArg(type, value);
        if (exc == NULL)
            return NULL;
        if (!PyExceptionInstance_Check(exc)) {
            PyErr_SetString(PyExc_TypeError, "calling the exception class gave no exception");
            Py_DECREF(exc);
            return NULL;
        }
    } else {
        PyErr_Format(
            PyExc_TypeError,
            "exceptions must be classes or instances deriving from BaseException, not %.100s",
            Py_TYPE(type)->tp_name);
        return NULL;
    }
    if (tb != NULL && PyException_SetTraceback(exc, tb) < 0) {
        Py_DECREF(exc);
        return NULL;
    }
    return exc;
}

/* Calls the iterator's close(), if it has one.  0, or -1 with an exception. */
static int close_delegate(PyObject *delegate)
{
    PyObject *close;
    if (PyObject_GetOptionalAttrString(delegate, "close", &close) < 0)
        return -1;
    if (close == NULL)
        return 0;
    PyObject *res = PyObject_CallNoArgs(close);
    Py_DECREF(close);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* The value of the StopIteration that is set, which is cleared.  New reference, NULL on failure. */
static PyObject *stop_iteration_value(void)
{
    PyObject *stop = PyErr_GetRaisedException();
    PyObject *value = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return value;
}

/* Raises exc (steals) where the machine waits. */
static PySendResult throw_here(ta_coroutine *co, PyObject *exc, PyObject **result)
{
    if (co->delegate != NULL) {
        if (PyErr_GivenExceptionMatches(exc, PyExc_GeneratorExit)) {
            PyObject *delegate = co->delegate;
            co->delegate = NULL;
            int rc = close_delegate(delegate);
            Py_DECREF(delegate);
            if (rc < 0) {
                Py_DECREF(exc);
                return co_drive(co, co->advance(co, NULL), result);
            }
        } else {
            PyObject *method;
            if (PyObject_GetOptionalAttrString(co->delegate, "throw", &method) < 0) {
                Py_DECREF(exc);
                Py_CLEAR(co->delegate);
                return co_drive(co, co->advance(co, NULL), result);
            }
            if (method != NULL) {
                PyObject *value = PyObject_CallOneArg(method, exc);
                Py_DECREF(method);
                Py_DECREF(exc);
                if (value != NULL) {
                    *result = value;
                    return PYGEN_NEXT;
                }
                Py_CLEAR(co->delegate);
                if (PyErr_ExceptionMatches(PyExc_StopIteration))
                    value = stop_iteration_value();
                return co_drive(co, co->advance(co, value), result);
            }
            Py_CLEAR(co->delegate);
        }
    }
    PyErr_SetRaisedException(exc);
    return co_drive(co, co->advance(co, NULL), result);
}

PyObject *ta_coroutine_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    ta_coroutine *co = (ta_coroutine *)self;
    PyObject *exc = ta_coroutine_thrown(args, nargs);
    if (exc == NULL)
        return NULL;
    if (!co_may_run(co)) {
        Py_DECREF(exc);
        return NULL;
    }
    Py_INCREF(self);
    co->started = true;
    ta_coroutine_enter(co);
    PyObject *value = NULL;
    PySendResult res = throw_here(co, exc, &value);
    ta_coroutine_leave(co);
    value = co_result(res, value);
    Py_DECREF(self);
    return value;
}

PyObject *ta_coroutine_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_coroutine *co = (ta_coroutine *)self;
    if (co->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return NULL;
    }
    if (co->finished)
        Py_RETURN_NONE;
    PyObject *exc = PyObject_CallNoArgs(PyExc_GeneratorExit);
    if (exc == NULL)
        return NULL;
    Py_INCREF(self);
    co->started = true;
    co->closing = true;
    ta_coroutine_enter(co);
    PyObject *value = NULL;
    PySendResult res = throw_here(co, exc, &value);
    ta_coroutine_leave(co);
    PyObject *ret = NULL;
    if (res == PYGEN_NEXT) {
        Py_DECREF(value);
        PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
    } else if (res == PYGEN_RETURN) {
        Py_DECREF(value);
        ret = Py_NewRef(Py_None);
    } else if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
        PyErr_Clear();
        ret = Py_NewRef(Py_None);
    }
    Py_DECREF(self);
    return ret;
}

/* -- what inspect, asyncio and anyio look at ----------------------------------------------- */

PyObject *ta_coroutine_get_running(PyObject *self, void *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((ta_coroutine *)self)->running);
}

PyObject *ta_coroutine_get_suspended(PyObject *self, void *Py_UNUSED(ignored))
{
    ta_coroutine *co = (ta_coroutine *)self;
    return PyBool_FromLong(co->started && !co->running && !co->finished);
}

/* What inspect.getcoroutinestate() returns from Python 3.15 on. */
PyObject *ta_coroutine_get_state(PyObject *self, void *Py_UNUSED(ignored))
{
    ta_coroutine *co = (ta_coroutine *)self;
    if (co->finished)
        return PyUnicode_FromString("CORO_CLOSED");
    if (co->running)
        return PyUnicode_FromString("CORO_RUNNING");
    return PyUnicode_FromString(co->started ? "CORO_SUSPENDED" : "CORO_CREATED");
}

PyObject *ta_coroutine_get_await(PyObject *self, void *Py_UNUSED(ignored))
{
    ta_coroutine *co = (ta_coroutine *)self;
    return Py_NewRef(co->delegate ? co->delegate : Py_None);
}

PyObject *ta_coroutine_get_code(PyObject *self, void *Py_UNUSED(ignored))
{
    return (PyObject *)PyCode_NewEmpty("<turboapi>", Py_TYPE(self)->tp_name, 1);
}

/*
 * None once finished; the frame of what is waited for, so that Task.get_stack() shows the user's
 * code; else an empty frame: "created" and "running" have one too.
 */
PyObject *ta_coroutine_get_frame(PyObject *self, void *Py_UNUSED(ignored))
{
    ta_coroutine *co = (ta_coroutine *)self;
    if (co->finished)
        Py_RETURN_NONE;
    if (co->delegate != NULL && PyCoro_CheckExact(co->delegate)) {
        PyObject *frame = PyObject_GetAttrString(co->delegate, "cr_frame");
        if (frame == NULL || frame != Py_None)
            return frame;
        Py_DECREF(frame);
    }
    PyObject *globals = PyDict_New();
    PyObject *code = ta_coroutine_get_code(self, NULL);
    PyObject *frame = NULL;
    if (globals != NULL && code != NULL)
        frame = (PyObject *)PyFrame_New(PyThreadState_Get(), (PyCodeObject *)code, globals, NULL);
    Py_XDECREF(code);
    Py_XDECREF(globals);
    return frame;
}

PyObject *ta_coroutine_get_origin(PyObject *self, void *Py_UNUSED(ignored))
{
    (void)self;
    Py_RETURN_NONE;
}
