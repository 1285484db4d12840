/*
 * future.c -- a light future that C completes.
 *
 * Layer: py (L4).  It has what asyncio asks of a Future-like object (`_asyncio_future_blocking`,
 * add_done_callback, result, cancel, get_loop ...), no more.
 */
#include "py/loop/future.h"

#include "py/support/types.h"

#include <structmember.h>

typedef enum { PENDING, FINISHED, CANCELLED } waiter_state;

struct ta_future {
    PyObject_HEAD
    ta_loop_state *ls;    /* borrowed: used by set_* only, whose caller belongs to that loop */
    PyObject *aioloop;    /* owned */
    PyObject *cb0, *ctx0; /* owned: the first callback (most often the only one) and its context */
    PyObject *more;       /* owned: list of (callback, context), or NULL */
    PyObject *result;     /* owned */
    PyObject *exc;        /* owned */
    PyObject *cancel_msg; /* owned */
    void (*on_cancel)(void *arg);
    void *arg; /* borrowed: until ta_future_detach */
    waiter_state state;
    char blocking;
};

static inline ta_future *cast(PyObject *obj)
{
    return (ta_future *)obj;
}

ta_future *ta_future_new(ta_loop_state *ls, void (*cancel)(void *arg), void *arg)
{
    ta_future *future = PyObject_GC_New(ta_future, ta_loop_objects_of(ls->st)->task.future_type);
    if (future == NULL)
        return NULL;
    memset((char *)future + sizeof(PyObject), 0, sizeof *future - sizeof(PyObject));
    future->ls = ls;
    future->aioloop = Py_NewRef(ls->aioloop);
    future->on_cancel = cancel;
    future->arg = arg;
    PyObject_GC_Track((PyObject *)future);
    return future;
}

void ta_future_detach(ta_future *w)
{
    w->on_cancel = NULL;
    w->arg = NULL;
}

bool ta_future_done(const ta_future *w)
{
    return w->state != PENDING;
}

/* -- callbacks -------------------------------------------------------------------------------- */

static int call_soon(ta_future *future, PyObject *cb, PyObject *ctx)
{
    ta_state *st = ta_state_of(Py_TYPE(future));
    PyObject *args[4] = {future->aioloop, cb, (PyObject *)future, ctx};
    PyObject *handle = PyObject_VectorcallMethod(st->names.call_soon, args, 3,
                                                 ta_loop_objects_of(st)->task.context_kwnames);
    if (handle == NULL)
        return -1;
    Py_DECREF(handle);
    return 0;
}

/* False: the loop has to call it. */
static bool call_now(ta_loop_state *ls, ta_future *future, PyObject *cb, PyObject *ctx)
{
    if (PyContext_Enter(ctx) < 0) { /* it is in use: somebody runs a loop inside a callback */
        PyErr_Clear();
        return false;
    }
    ta_loop_state_enter(ls);
    PyObject *res = PyObject_CallOneArg(cb, (PyObject *)future);
    PyObject *exc = res ? NULL : PyErr_GetRaisedException();
    if (PyContext_Exit(ctx) < 0)
        PyErr_Clear();
    ta_loop_state_leave(ls);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
        ta_loop_state_unhandled(ls, "Exception in a callback of a waiter");
    }
    Py_XDECREF(res);
    return true;
}

static void run_one(ta_future *future, bool now, PyObject *cb, PyObject *ctx)
{
    if (now) {
        if (call_now(future->ls, future, cb, ctx))
            return;
        ta_loop_state_enter(future->ls);
    }
    if (call_soon(future, cb, ctx) < 0) {
        if (PyErr_ExceptionMatches(PyExc_RuntimeError))
            PyErr_Clear(); /* the loop is closed */
        else
            PyErr_WriteUnraisable(cb);
    }
    if (now)
        ta_loop_state_leave(future->ls);
}

/* Takes the callbacks out first: they may add others, or drop the last reference to w. */
static void run_callbacks(ta_future *future, bool now)
{
    PyObject *cb0 = future->cb0, *ctx0 = future->ctx0, *more = future->more;
    if (cb0 == NULL && more == NULL)
        return;
    future->cb0 = future->ctx0 = future->more = NULL;
    Py_INCREF(future);
    if (cb0 != NULL) {
        run_one(future, now, cb0, ctx0);
        Py_DECREF(cb0);
        Py_DECREF(ctx0);
    }
    for (Py_ssize_t i = 0; more != NULL && i < PyList_GET_SIZE(more); i++) {
        PyObject *pair = PyList_GET_ITEM(more, i);
        run_one(future, now, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(more);
    Py_DECREF(future);
}

void ta_future_set_result(ta_future *future, PyObject *result)
{
    if (future->state != PENDING)
        return;
    future->state = FINISHED;
    future->result = Py_NewRef(result);
    ta_future_detach(future);
    run_callbacks(future, ta_loop_state_may_start(future->ls));
}

void ta_future_set_exception(ta_future *future, PyObject *exc)
{
    if (future->state != PENDING) {
        Py_DECREF(exc);
        return;
    }
    future->state = FINISHED;
    future->exc = exc;
    ta_future_detach(future);
    run_callbacks(future, ta_loop_state_may_start(future->ls));
}

/* -- methods ---------------------------------------------------------------------------------- */

static PyObject *make_cancelled(ta_future *w) /* new reference to an exception */
{
    ta_state *st = ta_state_of(Py_TYPE(w));
    if (w->cancel_msg == NULL || Py_IsNone(w->cancel_msg))
        return PyObject_CallNoArgs(st->exc.cancelled_error);
    return PyObject_CallOneArg(st->exc.cancelled_error, w->cancel_msg);
}

static void raise_cancelled(ta_future *w)
{
    PyObject *exc = make_cancelled(w);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
}

static PyObject *waiter_result(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_future *future = cast(self);
    switch (future->state) {
    case FINISHED:
        if (future->result != NULL)
            return Py_NewRef(future->result);
        PyErr_SetRaisedException(Py_NewRef(future->exc));
        return NULL;
    case CANCELLED:
        raise_cancelled(future);
        return NULL;
    default:
        PyErr_SetString(ta_loop_objects_of(ta_state_of(Py_TYPE(self)))->task.invalid_state,
                        "Result is not set.");
        return NULL;
    }
}

static PyObject *waiter_exception(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_future *future = cast(self);
    switch (future->state) {
    case FINISHED:
        return Py_NewRef(future->exc ? future->exc : Py_None);
    case CANCELLED:
        raise_cancelled(future);
        return NULL;
    default:
        PyErr_SetString(ta_loop_objects_of(ta_state_of(Py_TYPE(self)))->task.invalid_state,
                        "Exception is not set.");
        return NULL;
    }
}

static PyObject *waiter_make_cancelled_error(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return make_cancelled(cast(self));
}

static PyObject *waiter_is_done(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cast(self)->state != PENDING);
}

static PyObject *waiter_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cast(self)->state == CANCELLED);
}

static PyObject *waiter_get_loop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(cast(self)->aioloop ? cast(self)->aioloop : Py_None);
}

static PyObject *waiter_cancel(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"msg", NULL};
    PyObject *msg = NULL;
    ta_future *future = cast(self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", keywords, &msg))
        return NULL;
    if (future->state != PENDING)
        Py_RETURN_FALSE;
    future->state = CANCELLED;
    future->cancel_msg = Py_XNewRef(msg);
    void (*on_cancel)(void *) = future->on_cancel;
    void *arg = future->arg;
    ta_future_detach(future);
    if (on_cancel != NULL)
        on_cancel(arg);
    run_callbacks(future, false); /* we are in the step of the Task that cancels */
    Py_RETURN_TRUE;
}

static PyObject *waiter_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                          PyObject *kwnames)
{
    ta_future *future = cast(self);
    Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs != 1 || nkw > 1 ||
        (nkw == 1 && !PyUnicode_EqualToUTF8AndSize(PyTuple_GET_ITEM(kwnames, 0), "context", 7))) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback(fn, *, context=None)");
        return NULL;
    }
    PyObject *ctx = nkw && !Py_IsNone(args[1]) ? Py_NewRef(args[1]) : PyContext_CopyCurrent();
    if (ctx == NULL)
        return NULL;
    if (future->state != PENDING) {
        int rc = call_soon(future, args[0], ctx);
        Py_DECREF(ctx);
        if (rc < 0)
            return NULL;
    } else if (future->cb0 == NULL && future->more == NULL) {
        future->cb0 = Py_NewRef(args[0]);
        future->ctx0 = ctx;
    } else {
        PyObject *pair = PyTuple_Pack(2, args[0], ctx);
        Py_DECREF(ctx);
        if (pair == NULL)
            return NULL;
        if (future->more == NULL)
            future->more = PyList_New(0);
        int rc = future->more ? PyList_Append(future->more, pair) : -1;
        Py_DECREF(pair);
        if (rc < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *waiter_remove_done_callback(PyObject *self, PyObject *fn)
{
    ta_future *future = cast(self);
    long removed = 0;
    if (future->cb0 != NULL) {
        PyObject *cb0 = Py_NewRef(future->cb0);
        int eq = PyObject_RichCompareBool(cb0, fn, Py_EQ);
        Py_DECREF(cb0);
        if (eq < 0)
            return NULL;
        if (eq) {
            Py_CLEAR(future->cb0);
            Py_CLEAR(future->ctx0);
            removed++;
        }
    }
    if (future->more != NULL) {
        PyObject *old = future->more, *kept = PyList_New(0);
        if (kept == NULL)
            return NULL;
        Py_INCREF(old);
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(old); i++) {
            PyObject *pair = Py_NewRef(PyList_GET_ITEM(old, i));
            int eq = PyObject_RichCompareBool(PyTuple_GET_ITEM(pair, 0), fn, Py_EQ);
            int rc = eq ? (eq > 0 ? (removed++, 0) : -1) : PyList_Append(kept, pair);
            Py_DECREF(pair);
            if (rc < 0) {
                Py_DECREF(old);
                Py_DECREF(kept);
                return NULL;
            }
        }
        Py_DECREF(old);
        if (PyList_GET_SIZE(kept) == 0)
            Py_CLEAR(kept);
        Py_XSETREF(future->more, kept);
    }
    return PyLong_FromLong(removed);
}

/* `await waiter`: yields itself while it is pending, then returns its result. */
static PySendResult waiter_send(PyObject *self, PyObject *Py_UNUSED(arg), PyObject **result)
{
    ta_future *future = cast(self);
    if (future->state == PENDING) {
        future->blocking = 1;
        *result = Py_NewRef(self);
        return PYGEN_NEXT;
    }
    *result = waiter_result(self, NULL);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *waiter_iternext(PyObject *self)
{
    PyObject *result;
    switch (waiter_send(self, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        ta_set_stop_iteration(result);
        Py_DECREF(result);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *waiter_repr(PyObject *self)
{
    static const char *const names[] = {"pending", "finished", "cancelled"};
    return PyUnicode_FromFormat("<turboapi._core.Waiter %s>", names[cast(self)->state]);
}

static int waiter_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_future *future = cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(future->aioloop);
    Py_VISIT(future->cb0);
    Py_VISIT(future->ctx0);
    Py_VISIT(future->more);
    Py_VISIT(future->result);
    Py_VISIT(future->exc);
    Py_VISIT(future->cancel_msg);
    return 0;
}

static int waiter_clear(PyObject *self)
{
    ta_future *future = cast(self);
    Py_CLEAR(future->aioloop);
    Py_CLEAR(future->cb0);
    Py_CLEAR(future->ctx0);
    Py_CLEAR(future->more);
    Py_CLEAR(future->result);
    Py_CLEAR(future->exc);
    Py_CLEAR(future->cancel_msg);
    return 0;
}

static void waiter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)waiter_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

enum { WAITER_RESULT = 5 };

static PyMethodDef methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", waiter_remove_done_callback, METH_O, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"cancelled", waiter_cancelled, METH_NOARGS, NULL},
    {"done", waiter_is_done, METH_NOARGS, NULL},
    {"result", waiter_result, METH_NOARGS, NULL},
    {"exception", waiter_exception, METH_NOARGS, NULL},
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {"_make_cancelled_error", waiter_make_cancelled_error, METH_NOARGS, NULL},
    {NULL},
};

/* As park_getattr() in task_parking.c: a Task asks for result() by a C string. */
static PyObject *waiter_getattr(PyObject *self, char *name)
{
    if (strcmp(name, "result") == 0)
        return PyCFunction_New(&methods[WAITER_RESULT], self);
    PyObject *key = PyUnicode_FromString(name);
    PyObject *value = key ? PyObject_GenericGetAttr(self, key) : NULL;
    Py_XDECREF(key);
    return value;
}

static PyMemberDef members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(ta_future, blocking), 0, NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A future that the C core completes; await it."},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getattr, waiter_getattr},
    {Py_tp_getattro, PyObject_GenericGetAttr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, waiter_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, waiter_send},
    {Py_tp_repr, waiter_repr},
    {Py_tp_traverse, waiter_traverse},
    {Py_tp_clear, waiter_clear},
    {Py_tp_dealloc, waiter_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Waiter",
    .basicsize = sizeof(ta_future),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_future_init(PyObject *module, ta_state *st)
{
    ta_loop_objects_of(st)->task.invalid_state = ta_types_import("asyncio", "InvalidStateError");
    if (ta_loop_objects_of(st)->task.invalid_state == NULL)
        return -1;
    ta_loop_objects_of(st)->task.context_kwnames = PyTuple_Pack(1, st->names.context);
    if (ta_loop_objects_of(st)->task.context_kwnames == NULL)
        return -1;
    return ta_types_add(module, &spec, NULL, &ta_loop_objects_of(st)->task.future_type);
}
