/*
 * coroutine.h -- C state machines that behave as coroutine objects.  Layer: py.
 *
 * A type whose struct begins with ta_co and which lists TA_CO_SLOTS is an awaitable, an iterator
 * and, by duck typing, a collections.abc.Coroutine: asyncio.Task runs it, `await` accepts it. The
 * type provides only `advance`, which continues from the machine's state until it is finished or
 * must wait for something; coroutine.c does the rest of the protocol.
 */
#ifndef TA_PY_SUPPORT_COROUTINE_H
#define TA_PY_SUPPORT_COROUTINE_H

#include "py/support/outcome.h"
#include "py/support/py_compat.h"

typedef struct ta_co ta_co;

struct ta_co {
    PyObject_HEAD
    /*
     * value: what the delegate returned (steals); NULL: an exception is set, thrown in or
     * raised by the delegate -- or nothing is set: the first step.  TA_DONE: co->result (NULL:
     * None) is the value; TA_WAITS: co->delegate was set by ta_co_await.  After TA_DONE and
     * TA_FAILED it is not called again and should have dropped what the machine held.
     */
    ta_outcome (*advance)(ta_co *co, PyObject *value);
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
ta_outcome ta_co_await(ta_co *co, PyObject *awaitable);

/* For `advance`: marks exc (borrowed) as being handled from now on; at most once. */
void ta_co_handle(ta_co *co, PyObject *exc);
/*
 * For `advance`: what runs from now on, delegates included, does so in a copy of the context that
 * is current, until ta_co_leave_context.  0, or -1 with an exception.
 */
TA_MUST_CHECK int ta_co_enter_context(ta_co *co);
void ta_co_leave_context(ta_co *co);
/* Around a call of `advance` that coroutine.c does not make. */
void ta_co_enter(ta_co *co);
void ta_co_leave(ta_co *co);

void ta_co_init(ta_co *co, ta_outcome (*advance)(ta_co *, PyObject *));
int ta_co_traverse(ta_co *co, visitproc visit, void *arg);
void ta_co_clear(ta_co *co);

/* Slots of such a type. */
PyObject *ta_co_self(PyObject *self);
PyObject *ta_co_iternext(PyObject *self);
PySendResult ta_co_am_send(PyObject *self, PyObject *arg, PyObject **result);
PyObject *ta_co_send(PyObject *self, PyObject *arg);
PyObject *ta_co_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *ta_co_close(PyObject *self, PyObject *ignored);
PyObject *ta_co_get_running(PyObject *self, void *ignored);
PyObject *ta_co_get_suspended(PyObject *self, void *ignored);
PyObject *ta_co_get_await(PyObject *self, void *ignored);
PyObject *ta_co_get_frame(PyObject *self, void *ignored);
PyObject *ta_co_get_code(PyObject *self, void *ignored);
PyObject *ta_co_get_origin(PyObject *self, void *ignored);

#define TA_CO_SLOTS                                                                                \
    {Py_am_await, ta_co_self}, {Py_am_send, ta_co_am_send}, {Py_tp_iter, ta_co_self},              \
    {                                                                                              \
        Py_tp_iternext, ta_co_iternext                                                             \
    }

#define TA_CO_METHODS                                                                              \
    {"send", ta_co_send, METH_O,                                                                   \
     PyDoc_STR("send(value) -> what is waited for; StopIteration at the end.")},                   \
        {"throw", (PyCFunction)(void (*)(void))ta_co_throw, METH_FASTCALL,                         \
         PyDoc_STR(                                                                                \
             "throw(exception) -> as send, with the exception raised at the current wait.")},      \
    {                                                                                              \
        "close", ta_co_close, METH_NOARGS, PyDoc_STR("close() -> None: ends the run here.")        \
    }

#define TA_CO_GETSET                                                                               \
    {"cr_running", ta_co_get_running, NULL, NULL, NULL},                                           \
        {"cr_suspended", ta_co_get_suspended, NULL, NULL, NULL},                                   \
        {"cr_await", ta_co_get_await, NULL, NULL, NULL},                                           \
        {"cr_frame", ta_co_get_frame, NULL, NULL, NULL},                                           \
        {"cr_code", ta_co_get_code, NULL, NULL, NULL},                                             \
    {                                                                                              \
        "cr_origin", ta_co_get_origin, NULL, NULL, NULL                                            \
    }

#endif
