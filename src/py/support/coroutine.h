/*
 * coroutine.h -- C state machines that behave as coroutine objects.  Layer: py.
 *
 * A type whose struct begins with ta_coroutine and which lists TA_COROUTINE_SLOTS is an awaitable,
 * an iterator and, by duck typing, a collections.abc.Coroutine: asyncio.Task runs it, `await`
 * accepts it. The type provides only `advance`, which continues from the machine's state until it
 * is finished or must wait for something; coroutine.c does the rest of the protocol.
 */
#ifndef TA_PY_SUPPORT_COROUTINE_H
#define TA_PY_SUPPORT_COROUTINE_H

#include "py/support/outcome.h"
#include "py/support/py_compat.h"

typedef struct ta_coroutine ta_coroutine;

struct ta_coroutine {
    PyObject_HEAD
    /*
     * value: what the delegate returned (steals); NULL: an exception is set, thrown in or
     * raised by the delegate -- or nothing is set: the first step.  TA_DONE: co->result (NULL:
     * None) is the value; TA_WAITS: co->delegate was set by ta_coroutine_await.  After TA_DONE and
     * TA_FAILED it is not called again and should have dropped what the machine held.
     */
    ta_outcome (*advance)(ta_coroutine *co, PyObject *value);
    PyObject *delegate; /* owned: the iterator that is waited for */
    PyObject *result;   /* owned */
    /* Owned or NULL: what sys.exc_info() shows while the machine runs, as in an `except` block. */
    PyObject *handled;
    PyObject *context;         /* owned or NULL: entered for each step */
    _PyErr_StackItem exc_item; /* private */
    bool started, running, finished, closing;
    bool inside; /* of the context, now */
};

/* Waits for `awaitable` (steals, also on failure): sets co->delegate.  TA_WAITS or TA_FAILED. */
ta_outcome ta_coroutine_await(ta_coroutine *co, PyObject *awaitable);

/* For `advance`: marks exc (borrowed) as being handled from now on; at most once. */
void ta_coroutine_handle(ta_coroutine *co, PyObject *exc);
/*
 * For `advance`: what runs from now on, delegates included, does so in a copy of the context that
 * is current, until ta_coroutine_leave_context.  0, or -1 with an exception.
 */
TA_MUST_CHECK int ta_coroutine_enter_context(ta_coroutine *co);
void ta_coroutine_leave_context(ta_coroutine *co);
/* Around a call of `advance` that coroutine.c does not make. */
void ta_coroutine_enter(ta_coroutine *co);
void ta_coroutine_leave(ta_coroutine *co);

void ta_coroutine_init(ta_coroutine *co, ta_outcome (*advance)(ta_coroutine *, PyObject *));
int ta_coroutine_traverse(ta_coroutine *co, visitproc visit, void *arg);
void ta_coroutine_clear(ta_coroutine *co);

/* The exception that throw(type[, value[, traceback]]) means: new reference, or NULL with an
 * exception. */
PyObject *ta_coroutine_thrown(PyObject *const *args, Py_ssize_t nargs);

/* Slots of such a type. */
PyObject *ta_coroutine_self(PyObject *self);
PyObject *ta_coroutine_iternext(PyObject *self);
PySendResult ta_coroutine_am_send(PyObject *self, PyObject *arg, PyObject **result);
PyObject *ta_coroutine_send(PyObject *self, PyObject *arg);
PyObject *ta_coroutine_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *ta_coroutine_close(PyObject *self, PyObject *ignored);
PyObject *ta_coroutine_get_running(PyObject *self, void *ignored);
PyObject *ta_coroutine_get_suspended(PyObject *self, void *ignored);
PyObject *ta_coroutine_get_state(PyObject *self, void *ignored);
PyObject *ta_coroutine_get_await(PyObject *self, void *ignored);
PyObject *ta_coroutine_get_frame(PyObject *self, void *ignored);
PyObject *ta_coroutine_get_code(PyObject *self, void *ignored);
PyObject *ta_coroutine_get_origin(PyObject *self, void *ignored);

#define TA_COROUTINE_SLOTS                                                                         \
    {Py_am_await, ta_coroutine_self}, {Py_am_send, ta_coroutine_am_send},                          \
        {Py_tp_iter, ta_coroutine_self},                                                           \
    {                                                                                              \
        Py_tp_iternext, ta_coroutine_iternext                                                      \
    }

#define TA_COROUTINE_METHODS                                                                       \
    {"send", ta_coroutine_send, METH_O,                                                            \
     PyDoc_STR("send(value) -> what is waited for; StopIteration at the end.")},                   \
        {"throw", (PyCFunction)(void (*)(void))ta_coroutine_throw, METH_FASTCALL,                  \
         PyDoc_STR(                                                                                \
             "throw(exception) -> as send, with the exception raised at the current wait.")},      \
    {                                                                                              \
        "close", ta_coroutine_close, METH_NOARGS, PyDoc_STR("close() -> None: ends the run here.") \
    }

#define TA_COROUTINE_GETSET                                                                        \
    {"cr_running", ta_coroutine_get_running, NULL, NULL, NULL},                                    \
        {"cr_suspended", ta_coroutine_get_suspended, NULL, NULL, NULL},                            \
        {"cr_state", ta_coroutine_get_state, NULL, NULL, NULL},                                    \
        {"cr_await", ta_coroutine_get_await, NULL, NULL, NULL},                                    \
        {"cr_frame", ta_coroutine_get_frame, NULL, NULL, NULL},                                    \
        {"cr_code", ta_coroutine_get_code, NULL, NULL, NULL},                                      \
    {                                                                                              \
        "cr_origin", ta_coroutine_get_origin, NULL, NULL, NULL                                     \
    }

#endif
