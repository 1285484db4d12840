/*
 * handle.c -- Handle and TimerHandle of the event loop: subclasses of asyncio's.
 *
 * Layer: py (L4).  asyncio's classes keep what they know in slots, and their methods (`_repr_info`,
 * comparison, ...) read it by name. Ours keep it behind the slots, in C, under the same names.
 * In asyncio's debug mode the loop makes asyncio's own handles, so these need no traceback.
 */
#include "py/loop/evloop_int.h"

#include "py/support/types.h"

/* -- making --------------------------------------------------------------------------------------
 */

static PyObject *allocate(ta_evloop *evloop, PyTypeObject *type)
{
#ifndef Py_GIL_DISABLED
    if (evloop->nunused > 0)
        return PyObject_Init(evloop->unused[--evloop->nunused], type);
#else
    (void)evloop;
#endif
    PyObject *handle = (PyObject *)PyObject_GC_New(PyObject, type);
    if (handle != NULL) /* asyncio's slots, and ours */
        memset((char *)handle + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    return handle;
}

PyObject *ta_handle_new(ta_evloop *evloop, PyTypeObject *type, PyObject *callback,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    PyObject *handle = allocate(evloop, type);
    if (handle == NULL)
        return NULL;
    ta_handle *own = ta_handle_of(handle);
    *own = (ta_handle){.index = -1};
    own->loop = (ta_evloop *)Py_NewRef((PyObject *)evloop);
    own->callback = Py_NewRef(callback);
    own->context = context ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (nargs <= 2) {
        for (Py_ssize_t i = 0; i < nargs; i++)
            own->args[i] = Py_NewRef(args[i]);
        own->nargs = (uint8_t)nargs;
    } else if ((own->more = PyTuple_New(nargs)) != NULL) {
        for (Py_ssize_t i = 0; i < nargs; i++)
            PyTuple_SET_ITEM(own->more, i, Py_NewRef(args[i]));
    }
    PyObject_GC_Track(handle);
    if (own->context != NULL && (nargs <= 2 || own->more != NULL))
        return handle;
    Py_DECREF(handle);
    return NULL;
}

static void drop_call(ta_handle *h)
{
    Py_CLEAR(h->callback);
    Py_CLEAR(h->args[0]);
    Py_CLEAR(h->args[1]);
    Py_CLEAR(h->more);
    h->nargs = 0;
}

void ta_handle_drop(PyObject *handle)
{
    ta_handle *own = ta_handle_of(handle);
    TA_ASSERT(own->index < 0 && !own->listed);
    own->cancelled = true;
    drop_call(own);
}

/* Handle(callback, args, loop, context=None): for asyncio's own code, which makes none of ours. */
static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *kwargs, bool timer)
{
    static char *plain[] = {"callback", "args", "loop", "context", NULL};
    static char *timed[] = {"when", "callback", "args", "loop", "context", NULL};
    PyObject *when = NULL, *callback, *arguments, *loop, *context = Py_None;
    int ok = timer ? PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O:TimerHandle", timed, &when,
                                                 &callback, &arguments, &loop, &context)
                   : PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:Handle", plain, &callback,
                                                 &arguments, &loop, &context);
    ta_state *st = ok ? ta_state_of(type) : NULL;
    if (st == NULL)
        return NULL;
    ta_evloop *evloop = ta_evloop_of(st, loop);
    if (evloop == NULL) {
        PyErr_SetString(PyExc_TypeError, "the loop must be a turboapi EventLoop");
        return NULL;
    }
    double at = when ? PyFloat_AsDouble(when) : 0;
    PyObject *tuple = at == -1.0 && PyErr_Occurred() ? NULL : PySequence_Tuple(arguments);
    if (tuple == NULL)
        return NULL;
    PyObject *handle = ta_handle_new(evloop, type, callback, &PyTuple_GET_ITEM(tuple, 0),
                                     PyTuple_GET_SIZE(tuple), Py_IsNone(context) ? NULL : context);
    Py_DECREF(tuple);
    if (handle != NULL && timer) {
        ta_handle_of(handle)->when = at;
        ta_handle_of(handle)->when_obj = PyFloat_CheckExact(when) ? NULL : Py_NewRef(when);
    }
    return handle;
}

static PyObject *handle_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return make(type, args, kwargs, false);
}

static PyObject *timer_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return make(type, args, kwargs, true);
}

/* tp_new has done it; asyncio's __init__ would do it again. */
static int nothing_to_init(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args),
                           PyObject *Py_UNUSED(kwargs))
{
    return 0;
}

static int handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_handle *own = ta_handle_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)own->loop);
    Py_VISIT(own->callback);
    Py_VISIT(own->context);
    Py_VISIT(own->args[0]);
    Py_VISIT(own->args[1]);
    Py_VISIT(own->more);
    Py_VISIT(own->when_obj);
    return 0;
}

/* The heap refers to a handle that is on it, so the collector clears such a handle only together
 * with the loop, which stays until the handle is freed. */
static int handle_clear(PyObject *self)
{
    ta_handle *own = ta_handle_of(self);
    own->cancelled = true;
    drop_call(own);
    Py_CLEAR(own->context);
    Py_CLEAR(own->when_obj);
    return 0;
}

static void handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    TA_ASSERT(ta_handle_of(self)->index < 0); /* the heap would hold a reference */
    ta_evloop *evloop = ta_handle_of(self)->loop;
    ta_handle_of(self)->loop = NULL;
    (void)handle_clear(self);
#ifndef Py_GIL_DISABLED
    if (evloop != NULL && evloop->nunused < TA_HANDLE_FREE_MAX) {
        evloop->unused[evloop->nunused++] = self;
        self = NULL;
    }
#endif
    if (self != NULL)
        PyObject_GC_Del(self);
    Py_DECREF(type);
    Py_XDECREF((PyObject *)evloop); /* last: it may be the last one, which frees what is unused */
}

int ta_handle_visit_unused(ta_evloop *evloop, visitproc visit, void *arg)
{
#ifndef Py_GIL_DISABLED
    Py_VISIT(evloop->unused_types[0]);
    Py_VISIT(evloop->unused_types[1]);
#else
    (void)evloop, (void)visit, (void)arg;
#endif
    return 0;
}

void ta_handle_free_unused(ta_evloop *evloop)
{
#ifndef Py_GIL_DISABLED
    while (evloop->nunused > 0)
        PyObject_GC_Del(evloop->unused[--evloop->nunused]); /* asks what its type is */
    Py_CLEAR(evloop->unused_types[0]);
    Py_CLEAR(evloop->unused_types[1]);
#else
    (void)evloop;
#endif
}

/* -- running -------------------------------------------------------------------------------------
 */

/* asyncio.futures._set_result_unless_cancelled(future, result), what a sleep ends with. */
static PyObject *set_result(ta_state *st, PyObject *future, PyObject *value)
{
    PyObject *args[2] = {future, value};
    PyObject *cancelled =
        PyObject_Vectorcall(ta_loop_objects_of(st)->evloop.future_cancelled, args, 1, NULL);
    if (cancelled == NULL || cancelled == Py_True)
        return cancelled;
    Py_DECREF(cancelled);
    return PyObject_Vectorcall(ta_loop_objects_of(st)->evloop.future_set_result, args, 2, NULL);
}

/* Calls the callback, whatever happens to the handle meanwhile. */
static PyObject *call(ta_state *st, ta_handle *own, PyObject *callback)
{
    PyObject *stack[3] = {NULL}, *res;
    if (own->more != NULL) {
        PyObject *more = Py_NewRef(own->more);
        res = PyObject_Call(callback, more, NULL);
        Py_DECREF(more);
        return res;
    }
    size_t n = own->nargs;
    for (size_t i = 0; i < n; i++)
        stack[i + 1] = Py_NewRef(own->args[i]);
    if (callback == ta_loop_objects_of(st)->evloop.set_result_unless_cancelled && n == 2 &&
        Py_IS_TYPE(stack[1], (PyTypeObject *)ta_loop_objects_of(st)->evloop.future_type))
        res = set_result(st, stack[1], stack[2]);
    else
        res = PyObject_Vectorcall(callback, stack + 1, n | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    for (size_t i = 0; i < n; i++)
        Py_DECREF(stack[i + 1]);
    return res;
}

static PyObject *call_in_context(ta_state *st, ta_handle *own, PyObject *callback)
{
    PyObject *context = Py_NewRef(own->context), *res = NULL;
    if (PyContext_Enter(context) == 0) {
        res = call(st, own, callback);
        PyObject *exc = res ? NULL : PyErr_GetRaisedException();
        if (PyContext_Exit(context) < 0) {
            /* As Context.run(): raises if the callback left another context entered. */
            if (exc != NULL)
                PyErr_Clear();
            Py_CLEAR(res);
        }
        if (exc != NULL)
            PyErr_SetRaisedException(exc);
    }
    Py_DECREF(context);
    return res;
}

int ta_handle_run(ta_evloop *evloop, PyObject *handle)
{
    ta_handle *own = ta_handle_of(handle);
    ta_state *st = evloop->st;
    PyObject *callback = Py_NewRef(own->callback ? own->callback : Py_None);
    PyObject *res = call_in_context(st, own, callback);
    Py_DECREF(callback);
    if (TA_LIKELY(res != NULL)) {
        Py_DECREF(res);
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit))
        return -1;
    PyObject *exc = PyErr_GetRaisedException();
    res = PyObject_CallMethod((PyObject *)evloop, "_report_failure", "OO", handle, exc);
    Py_DECREF(exc);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* -- methods -------------------------------------------------------------------------------------
 */

static PyObject *handle_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (ta_handle_run(ta_handle_of(self)->loop, self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *handle_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_handle *own = ta_handle_of(self);
    if (own->cancelled)
        Py_RETURN_NONE;
    own->cancelled = true;
    if (own->index >= 0) {
        ta_evloop_unschedule(own->loop, self); /* the caller has a reference */
    } else if (own->listed) {
        PyObject *res = PyObject_CallMethodOneArg(
            (PyObject *)own->loop, own->loop->st->names._timer_handle_cancelled, self);
        if (res == NULL)
            return NULL;
        Py_DECREF(res);
    }
    drop_call(own);
    Py_RETURN_NONE;
}

static PyObject *handle_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(ta_handle_of(self)->cancelled);
}

static PyObject *handle_get_context(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *context = ta_handle_of(self)->context;
    return Py_NewRef(context ? context : Py_None);
}

static PyObject *get_when(PyObject *self, void *Py_UNUSED(closure))
{
    ta_handle *h = ta_handle_of(self);
    return h->when_obj ? Py_NewRef(h->when_obj) : PyFloat_FromDouble(h->when);
}

static PyObject *handle_when(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return get_when(self, NULL);
}

static PyObject *get_loop(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)ta_handle_of(self)->loop);
}

static PyObject *get_callback(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *callback = ta_handle_of(self)->callback;
    return Py_NewRef(callback ? callback : Py_None);
}

static PyObject *get_context(PyObject *self, void *Py_UNUSED(closure))
{
    return handle_get_context(self, NULL);
}

static PyObject *get_args(PyObject *self, void *Py_UNUSED(closure))
{
    ta_handle *own = ta_handle_of(self);
    if (own->cancelled)
        Py_RETURN_NONE;
    if (own->more != NULL)
        return Py_NewRef(own->more);
    PyObject *args = PyTuple_New(own->nargs);
    for (Py_ssize_t i = 0; args != NULL && i < own->nargs; i++)
        PyTuple_SET_ITEM(args, i, Py_NewRef(own->args[i]));
    return args;
}

static PyObject *get_cancelled(PyObject *self, void *Py_UNUSED(closure))
{
    return handle_cancelled(self, NULL);
}

static PyObject *get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    ta_handle *h = ta_handle_of(self);
    return PyBool_FromLong(h->index >= 0 || h->listed);
}

/* asyncio's own code, in a plain loop. */
static int set_scheduled(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int yes = value ? PyObject_IsTrue(value) : 0;
    if (yes < 0)
        return -1;
    ta_handle_of(self)->listed = yes;
    return 0;
}

static PyObject *get_none(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

static PyMethodDef handle_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, PyDoc_STR("cancel() -> None: it is not called.")},
    {"cancelled", handle_cancelled, METH_NOARGS, PyDoc_STR("cancelled() -> bool")},
    {"get_context", handle_get_context, METH_NOARGS, PyDoc_STR("get_context() -> Context")},
    {"_run", handle_run, METH_NOARGS, NULL},
    {NULL},
};

static PyMethodDef timer_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, PyDoc_STR("cancel() -> None: it is not called.")},
    {"cancelled", handle_cancelled, METH_NOARGS, PyDoc_STR("cancelled() -> bool")},
    {"get_context", handle_get_context, METH_NOARGS, PyDoc_STR("get_context() -> Context")},
    {"when", handle_when, METH_NOARGS, PyDoc_STR("when() -> the loop's time of the call")},
    {"_run", handle_run, METH_NOARGS, NULL},
    {NULL},
};

#define HANDLE_GETSET                                                                              \
    {"_callback", get_callback}, {"_args", get_args}, {"_cancelled", get_cancelled},               \
        {"_loop", get_loop}, {"_context", get_context}, {"_source_traceback", get_none},           \
    {                                                                                              \
        "_repr", get_none                                                                          \
    }

static PyGetSetDef handle_getset[] = {HANDLE_GETSET, {NULL}};
static PyGetSetDef timer_getset[] = {
    HANDLE_GETSET, {"_when", get_when}, {"_scheduled", get_scheduled, set_scheduled}, {NULL}};

#define HANDLE_SLOTS(new_, methods_, getset_)                                                      \
    {Py_tp_new, new_}, {Py_tp_init, nothing_to_init}, {Py_tp_methods, methods_},                   \
        {Py_tp_getset, getset_}, {Py_tp_traverse, handle_traverse}, {Py_tp_clear, handle_clear},   \
        {Py_tp_dealloc, handle_dealloc},                                                           \
    {                                                                                              \
        0, NULL                                                                                    \
    }

static PyType_Slot handle_slots[] = {HANDLE_SLOTS(handle_make, handle_methods, handle_getset)};
static PyType_Slot timer_slots[] = {HANDLE_SLOTS(timer_make, timer_methods, timer_getset)};

/* A type on asyncio's class of that name.  `size`: at least so large, and then how large it is. */
static int add_type(PyObject *module, const char *name, PyType_Slot *slots, int *size,
                    PyTypeObject **out)
{
    PyObject *base = ta_types_import("asyncio", strrchr(name, '.') + 1);
    if (base == NULL)
        return -1;
    int needed = (int)((PyTypeObject *)base)->tp_basicsize + (int)sizeof(ta_handle);
    *size = TA_MAX(*size, needed);
    PyType_Spec spec = {
        .name = name,
        .basicsize = *size,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    *out = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, base);
    Py_DECREF(base);
    return *out ? 0 : -1;
}

int ta_handle_init(PyObject *module, ta_state *st)
{
    ta_evloop_state *objects = &ta_loop_objects_of(st)->evloop;
    int size = 0;
    /* Of one size, so that the memory of one can become the other: the larger class first. */
    if (add_type(module, "turboapi._core.TimerHandle", timer_slots, &size, &objects->timer_type) <
            0 ||
        add_type(module, "turboapi._core.Handle", handle_slots, &size, &objects->handle_type) < 0 ||
        PyModule_AddType(module, objects->timer_type) < 0 ||
        PyModule_AddType(module, objects->handle_type) < 0)
        return -1;
    if ((objects->future_type = ta_types_import("asyncio", "Future")) == NULL ||
        (objects->future_cancelled = PyObject_GetAttrString(objects->future_type, "cancelled")) ==
            NULL ||
        (objects->future_set_result = PyObject_GetAttrString(objects->future_type, "set_result")) ==
            NULL)
        return -1;
    return ta_types_import_optional("asyncio.futures", "_set_result_unless_cancelled",
                                    &objects->set_result_unless_cancelled) < 0
               ? -1
               : 0;
}
