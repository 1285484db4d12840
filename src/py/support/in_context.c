/*
 * in_context.c -- in_context(context, awaitable): awaits in a context of its own, without a Task.
 *
 * Layer: py (L4).  Each step of the awaitable runs inside of the context, as if a Task made with
 * `context=` ran it, but in the Task that awaits it.
 */
#include "py/support/in_context.h"

#include "py/support/coroutine.h"
#include "py/support/types.h"

typedef struct in_context {
    ta_coroutine co;
    PyObject *context;   /* owned */
    PyObject *awaitable; /* owned until the first step */
} in_context;

static ta_outcome advance(ta_coroutine *co, PyObject *value)
{
    in_context *c = (in_context *)co;
    PyObject *awaitable = c->awaitable;
    TA_ASSERT(c->context != NULL); /* enter() has seen to it */
    c->awaitable = NULL;
    if (awaitable != NULL && value == NULL && !PyErr_Occurred())
        return ta_coroutine_await(co, awaitable);
    Py_XDECREF(awaitable); /* thrown in before it was begun */
    co->result = value;
    return value ? TA_DONE : TA_FAILED;
}

/* Leaves the context; an exception that is set stays set. */
static void leave(PyObject *context /* steals */)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (PyContext_Exit(context) < 0)
        PyErr_Clear(); /* the coroutine left another one entered, which is its own fault */
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    Py_DECREF(context);
}

/* New reference, to be passed to leave(); NULL with an exception: it is entered already. */
static PyObject *enter(PyObject *self)
{
    PyObject *context = ((in_context *)self)->context;
    if (context == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    return PyContext_Enter(context) < 0 ? NULL : Py_NewRef(context);
}

static PySendResult am_send(PyObject *self, PyObject *arg, PyObject **result)
{
    PyObject *context = enter(self);
    *result = NULL;
    if (context == NULL)
        return PYGEN_ERROR;
    PySendResult res = ta_coroutine_am_send(self, arg, result);
    leave(context);
    return res;
}

static PyObject *send(PyObject *self, PyObject *arg)
{
    PyObject *context = enter(self);
    if (context == NULL)
        return NULL;
    PyObject *res = ta_coroutine_send(self, arg);
    leave(context);
    return res;
}

static PyObject *iternext(PyObject *self)
{
    return send(self, Py_None);
}

static PyObject *throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *context = enter(self);
    if (context == NULL)
        return NULL;
    PyObject *res = ta_coroutine_throw(self, args, nargs);
    leave(context);
    return res;
}

static PyObject *close_it(PyObject *self, PyObject *ignored)
{
    PyObject *context = enter(self);
    if (context == NULL)
        return NULL;
    PyObject *res = ta_coroutine_close(self, ignored);
    leave(context);
    return res;
}

static PyObject *make(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyContext_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "in_context(context, awaitable)");
        return NULL;
    }
    in_context *c = PyObject_GC_New(in_context, ta_state_of_module(module)->in_context.type);
    if (c == NULL)
        return NULL;
    ta_coroutine_init(&c->co, advance);
    c->context = Py_NewRef(args[0]);
    c->awaitable = Py_NewRef(args[1]);
    PyObject_GC_Track((PyObject *)c);
    return (PyObject *)c;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    in_context *c = (in_context *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->context);
    Py_VISIT(c->awaitable);
    return ta_coroutine_traverse(&c->co, visit, arg);
}

static int clear(PyObject *self)
{
    in_context *c = (in_context *)self;
    c->co.finished = true;
    ta_coroutine_clear(&c->co);
    Py_CLEAR(c->context);
    Py_CLEAR(c->awaitable);
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"send", send, METH_O,
     PyDoc_STR("send(value) -> what is waited for; StopIteration at the end.")},
    {"throw", (PyCFunction)(void (*)(void))throw, METH_FASTCALL,
     PyDoc_STR("throw(exception) -> as send, with the exception raised at the current wait.")},
    {"close", close_it, METH_NOARGS, PyDoc_STR("close() -> None: ends the run here.")},
    {NULL},
};
static PyGetSetDef getset[] = {TA_COROUTINE_GETSET, {NULL}};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Awaits something in a context of its own."},
    {Py_am_await, ta_coroutine_self},
    {Py_am_send, am_send},
    {Py_tp_iter, ta_coroutine_self},
    {Py_tp_iternext, iternext},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.InContext",
    .basicsize = sizeof(in_context),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"in_context", (PyCFunction)(void (*)(void))make, METH_FASTCALL,
     PyDoc_STR("in_context(context, awaitable, /)\n--\n\n"
               "Awaits it in this context, in the Task of whoever awaits the result.")},
    {NULL},
};

int ta_in_context_init(PyObject *module, ta_state *st)
{
    if (ta_types_add(module, &spec, NULL, &st->in_context.type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
