/*
 * evloop.c -- `_core.LoopBase`: what turboapi.loop.EventLoop has in place of asyncio's Python.
 *
 * Layer: py (L4).  The methods are those of BaseEventLoop that a waiting request passes through:
 * call_soon, call_later, call_at, call_soon_threadsafe, time, create_future, create_task and the
 * iteration itself. Two ways lead back to asyncio's own code, which knows how to do all of it:
 *   - debug mode: its handles, with tracebacks, go through our queues;
 *   - a subclass, a patch or a test replaced something that asyncio's methods would call
 *     (`overridable`): the loop becomes `plain`, with a deque and a list, for the rest of its life.
 */
#include "py/loop/evloop_int.h"

#include <time.h>

#include "py/loop/selector.h"
#include "py/loop/task_pool.h"
#include "py/support/types.h"

/* asyncio's own method of that name, with self in args[0]. */
static PyObject *call_base(ta_evloop *l, const char *name, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    PyObject *method = PyObject_GetAttrString(ta_loop_objects_of(l->st)->evloop.base_class, name);
    PyObject *res = method ? PyObject_Vectorcall(method, args, (size_t)nargs, kwnames) : NULL;
    Py_XDECREF(method);
    return res;
}

/* The same for the arguments of a method of ours: self precedes them. */
static PyObject *forward(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    PyObject **all = PyMem_New(PyObject *, (size_t)(nargs + nkw) + 1);
    if (all == NULL)
        return PyErr_NoMemory();
    all[0] = self;
    for (Py_ssize_t i = 0; i < nargs + nkw; i++)
        all[i + 1] = args[i];
    PyObject *res = call_base(ta_evloop_cast(self), name, all, nargs + 1, kwnames);
    PyMem_Free(all);
    return res;
}

static PyObject *none_or_null(int rc)
{
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* -- scheduling ----------------------------------------------------------------------------------
 */

/* The keyword `context`, the only one: borrowed, NULL when absent or None.  0 or -1. */
static int take_context(ta_evloop *evloop, const char *method, PyObject *const *kwargs,
                        PyObject *kwnames, PyObject **context)
{
    *context = NULL;
    Py_ssize_t n = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (name != evloop->st->names.context &&
            PyUnicode_CompareWithASCIIString(name, "context") != 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", method,
                         name);
            return -1;
        }
        *context = Py_IsNone(kwargs[i]) ? NULL : kwargs[i];
    }
    if (*context != NULL && !PyContext_CheckExact(*context)) {
        PyErr_Format(PyExc_TypeError, "%s(): context must be a contextvars.Context, not %.100s",
                     method, Py_TYPE(*context)->tp_name);
        return -1;
    }
    return 0;
}

static int check_open(ta_evloop *l)
{
    if (TA_LIKELY(!l->closed))
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

/* 1: asyncio's own code has to do it; 0; -1. */
static inline int is_theirs(ta_evloop *l)
{
    if (TA_UNLIKELY(ta_evloop_check_overrides(l) < 0))
        return -1;
    return l->plain || l->debug;
}

static int needs(const char *method, Py_ssize_t nargs, Py_ssize_t least)
{
    if (TA_LIKELY(nargs >= least))
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() missing %zd required positional argument%s", method,
                 least - nargs, least - nargs == 1 ? "" : "s");
    return -1;
}

static PyObject *soon(PyObject *self, const char *method, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    PyObject *context;
    if (needs(method, nargs, 1) < 0 || check_open(evloop) < 0 ||
        take_context(evloop, method, args + nargs, kwnames, &context) < 0)
        return NULL;
    PyObject *handle = ta_handle_new(evloop, ta_loop_objects_of(evloop->st)->evloop.handle_type,
                                     args[0], args + 1, nargs - 1, context);
    if (handle != NULL && ta_evloop_push(evloop, Py_NewRef(handle)) < 0)
        Py_CLEAR(handle);
    return handle;
}

static PyObject *loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    int theirs = is_theirs(ta_evloop_cast(self));
    if (TA_UNLIKELY(theirs != 0))
        return theirs < 0 ? NULL : forward(self, "call_soon", args, nargs, kwnames);
    return soon(self, "call_soon", args, nargs, kwnames);
}

/* Calls asyncio's _write_to_self, or wakes a Selector of ours in a quicker way. */
static int wake(ta_evloop *evloop)
{
    /* What a plain loop has ready is no news to the Selector: the file of asyncio's is. */
    if (!evloop->plain && evloop->selector != NULL &&
        ta_selector_lag_kick(evloop->st, evloop->selector))
        return 0;
    PyObject *res = PyObject_CallOneArg(ta_loop_objects_of(evloop->st)->evloop.write_to_self,
                                        (PyObject *)evloop);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static PyObject *loop_write_to_self(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_or_null(wake(ta_evloop_cast(self)));
}

/* As soon(), with a handle of asyncio's that another thread may cancel while it runs. */
static PyObject *soon_shared(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames, PyObject *handle_type)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    PyObject *context;
    if (needs("call_soon_threadsafe", nargs, 1) < 0 || check_open(evloop) < 0 ||
        take_context(evloop, "call_soon_threadsafe", args + nargs, kwnames, &context) < 0)
        return NULL;
    PyObject *rest = PyTuple_New(nargs - 1);
    if (rest == NULL)
        return NULL;
    for (Py_ssize_t i = 1; i < nargs; i++)
        PyTuple_SET_ITEM(rest, i - 1, Py_NewRef(args[i]));
    PyObject *handle = PyObject_CallFunctionObjArgs(handle_type, args[0], rest, self,
                                                    context ? context : Py_None, NULL);
    Py_DECREF(rest);
    if (handle != NULL && ta_evloop_push(evloop, Py_NewRef(handle)) < 0)
        Py_CLEAR(handle);
    return handle;
}

static PyObject *loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    int theirs = is_theirs(evloop);
    if (TA_UNLIKELY(theirs != 0))
        return theirs < 0 ? NULL : forward(self, "call_soon_threadsafe", args, nargs, kwnames);
    PyObject *shared = ta_loop_objects_of(evloop->st)->evloop.shared_handle;
    PyObject *handle = shared ? soon_shared(self, args, nargs, kwnames, shared)
                              : soon(self, "call_soon_threadsafe", args, nargs, kwnames);
    if (handle != NULL && wake(evloop) < 0)
        Py_CLEAR(handle);
    return handle;
}

static PyObject *at(ta_evloop *evloop, double when, PyObject *given, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *context)
{
    PyObject *handle = ta_handle_new(evloop, ta_loop_objects_of(evloop->st)->evloop.timer_type,
                                     args[0], args + 1, nargs - 1, context);
    if (handle == NULL)
        return NULL;
    ta_handle *own = ta_handle_of(handle);
    own->when = when;
    if (given != NULL && !PyFloat_CheckExact(given))
        own->when_obj = Py_NewRef(given);
    if (ta_evloop_schedule(evloop, handle, when) < 0)
        Py_CLEAR(handle);
    return handle;
}

static PyObject *loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    PyObject *context;
    int theirs = is_theirs(evloop);
    if (TA_UNLIKELY(theirs != 0))
        return theirs < 0 ? NULL : forward(self, "call_later", args, nargs, kwnames);
    if (needs("call_later", nargs, 2) < 0)
        return NULL;
    if (Py_IsNone(args[0])) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    double delay = PyFloat_AsDouble(args[0]);
    if ((delay == -1.0 && PyErr_Occurred()) || check_open(evloop) < 0 ||
        take_context(evloop, "call_later", args + nargs, kwnames, &context) < 0)
        return NULL;
    return at(evloop, ta_evloop_now() + delay, NULL, args + 1, nargs - 1, context);
}

/* A timer of asyncio's own, with its traceback, on our heap. */
static PyObject *debug_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *context)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    PyObject *rest = PyTuple_New(nargs - 2), *timer = NULL;
    for (Py_ssize_t i = 2; rest != NULL && i < nargs; i++)
        PyTuple_SET_ITEM(rest, i - 2, Py_NewRef(args[i]));
    double when = PyFloat_AsDouble(args[0]);
    if (rest != NULL && !(when == -1.0 && PyErr_Occurred()))
        timer = PyObject_CallMethod(self, "_debug_timer", "OOOO", args[0], args[1], rest,
                                    context ? context : Py_None);
    Py_XDECREF(rest);
    if (timer != NULL && (ta_evloop_schedule(evloop, timer, when) < 0 ||
                          PyObject_SetAttr(timer, evloop->st->names._scheduled, Py_True) < 0))
        Py_CLEAR(timer);
    return timer;
}

static PyObject *loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    PyObject *context;
    if (ta_evloop_check_overrides(evloop) < 0)
        return NULL;
    if (evloop->plain)
        return forward(self, "call_at", args, nargs, kwnames);
    if (needs("call_at", nargs, 2) < 0)
        return NULL;
    if (Py_IsNone(args[0])) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    if (check_open(evloop) < 0 ||
        take_context(evloop, "call_at", args + nargs, kwnames, &context) < 0)
        return NULL;
    if (evloop->debug)
        return debug_call_at(self, args, nargs, context);
    double when = PyFloat_AsDouble(args[0]);
    if (when == -1.0 && PyErr_Occurred())
        return NULL;
    return at(evloop, when, args[0], args + 1, nargs - 1, context);
}

/* -- Futures and Tasks ---------------------------------------------------------------------------
 */

PyObject *ta_evloop_create_future(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_evloop *evloop = ta_evloop_cast(self);
    const ta_evloop_state *objects = &ta_loop_objects_of(evloop->st)->evloop;
    /* Looked up each time, as asyncio does: the class may have been replaced. */
    PyObject *type;
    if (PyDict_GetItemRef(objects->futures_dict, evloop->st->names.Future, &type) == 0)
        type = PyObject_GetAttr(objects->futures_module, evloop->st->names.Future);
    if (type == NULL)
        return NULL;
    /* One dict for all: a type would make one of keywords each time, and only read it. */
    if (TA_UNLIKELY(evloop->loop_kwargs == NULL))
        evloop->loop_kwargs = Py_BuildValue("{sO}", "loop", self);
    PyObject *none = PyTuple_New(0), *future = NULL;
    if (TA_LIKELY(none != NULL && evloop->loop_kwargs != NULL))
        future = PyObject_Call(type, none, evloop->loop_kwargs);
    Py_XDECREF(none);
    Py_DECREF(type);
    return future;
}

static bool is_keyword(PyObject *given, PyObject *name)
{
    return given == name || PyUnicode_Compare(given, name) == 0;
}

/* create_task(coro, *, name=None, context=None): the plain case, else asyncio's own code. */
static PyObject *loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    const ta_evloop_state *objects = &ta_loop_objects_of(evloop->st)->evloop;
    const ta_names_state *names = &evloop->st->names;
    PyObject *name = Py_None, *context = Py_None;
    Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    bool plain = nargs == 1 && evloop->factory == NULL && !evloop->debug;
    for (Py_ssize_t i = 0; plain && i < nkw; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, i);
        if (is_keyword(keyword, names->name))
            name = args[nargs + i];
        else if (is_keyword(keyword, names->context))
            context = args[nargs + i];
        else
            plain = false; /* eager_start, or what later versions have */
    }
    if (!plain)
        return forward(self, "create_task", args, nargs, kwnames);
    if (check_open(evloop) < 0)
        return NULL;
    PyObject *type = PyObject_GetAttr(objects->tasks_module, names->Task);
    PyObject *all[5] = {NULL, args[0], self, name, context};
    /* A Task makes a dict of its keywords: none of those that say nothing. */
    PyObject *given =
        Py_IsNone(name) && Py_IsNone(context) ? objects->loop_kwname : objects->task_kwnames;
    PyObject *task =
        type ? PyObject_Vectorcall(type, all + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, given) : NULL;
    Py_XDECREF(type);
    return task;
}

/* run_in_executor(executor, func, *args) */
static PyObject *loop_run_in_executor(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    int theirs = is_theirs(evloop);
    if (theirs < 0)
        return NULL;
    if (!theirs && kwnames == NULL && nargs >= 2 && Py_IsNone(args[0])) {
        PyObject *future;
        int done = ta_evloop_run_in_executor(evloop, args[1], args + 2, nargs - 2, &future);
        if (done != 0)
            return done < 0 ? NULL : future;
    }
    return forward(self, "run_in_executor", args, nargs, kwnames);
}

/* -- small ones ----------------------------------------------------------------------------------
 */

static PyObject *loop_time(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(ta_evloop_now());
}

static PyObject *loop_process_events(PyObject *self, PyObject *events)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    if (evloop->plain)
        return PyObject_CallFunctionObjArgs(ta_loop_objects_of(evloop->st)->evloop.process_events,
                                            self, events, NULL);
    PyObject *list = PySequence_List(events);
    int rc = list ? ta_evloop_take_events(evloop, list) : -1;
    Py_XDECREF(list);
    return none_or_null(rc);
}

static PyObject *loop_add_callback(PyObject *self, PyObject *handle)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    if (evloop->plain)
        return forward(self, "_add_callback", &handle, 1, NULL);
    PyObject *cancelled = PyObject_GetAttr(handle, evloop->st->names._cancelled);
    int rc = cancelled ? PyObject_IsTrue(cancelled) : -1;
    Py_XDECREF(cancelled);
    if (rc == 0)
        rc = ta_evloop_push(evloop, Py_NewRef(handle));
    return none_or_null(rc < 0 ? -1 : 0);
}

static PyObject *loop_private_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return forward(self, "_call_soon", args, nargs, NULL);
}

static PyObject *loop_timer_handle_cancelled(PyObject *self, PyObject *handle)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    if (evloop->plain)
        return forward(self, "_timer_handle_cancelled", &handle, 1, NULL);
    if (ta_handle_is_ours(evloop->st, handle))
        ta_evloop_unschedule(evloop, handle);
    else
        ta_evloop_unschedule_foreign(evloop, handle);
    Py_RETURN_NONE;
}

static PyObject *loop_run_once(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_evloop *evloop = ta_evloop_cast(self);
    if (ta_evloop_check_overrides(evloop) < 0)
        return NULL;
    if (evloop->plain)
        return forward(self, "_run_once", NULL, 0, NULL);
    return none_or_null(ta_evloop_turn(evloop));
}

/* Iterates until stop() was called: the loop in BaseEventLoop.run_forever(). */
static PyObject *loop_spin(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_evloop *evloop = ta_evloop_cast(self);
    do {
        if (ta_evloop_check_overrides(evloop) < 0)
            return NULL;
        if (evloop->plain) {
            PyObject *res = PyObject_CallMethod(self, "_run_once", NULL);
            if (res == NULL)
                return NULL;
            Py_DECREF(res);
        } else if (ta_evloop_turn(evloop) < 0) {
            return NULL;
        }
        if (PyErr_CheckSignals() < 0)
            return NULL;
    } while (!evloop->stopping);
    Py_RETURN_NONE;
}

/* -- for the Selector ----------------------------------------------------------------------------
 */

bool ta_evloop_is_plain(const ta_evloop *l)
{
    return l->plain;
}

uint64_t ta_evloop_timers(ta_evloop *l)
{
    TA_EVLOOP_LOCK(l);
    uint64_t timers = l->timers;
    TA_EVLOOP_UNLOCK(l);
    return timers;
}

bool ta_evloop_has_news(ta_evloop *l, uint64_t timers)
{
    TA_EVLOOP_LOCK(l);
    bool news = ta_evloop_nready(l) > 0 || l->timers != timers;
    TA_EVLOOP_UNLOCK(l);
    return news || l->stopping || l->plain; /* it became plain: the caller checks again */
}

/* -- attributes ----------------------------------------------------------------------------------
 */

static PyObject *get_queue(PyObject *self, void *closure)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    bool scheduled = closure != NULL;
    if (ta_evloop_check_overrides(evloop) < 0)
        return NULL;
    if (evloop->plain)
        return Py_NewRef(scheduled ? evloop->scheduled : evloop->ready);
    return ta_evloop_view(evloop, scheduled);
}

static int set_queue(PyObject *self, PyObject *value, void *closure)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    bool scheduled = closure != NULL;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a queue of the loop cannot be deleted");
        return -1;
    }
    if (evloop->plain) {
        Py_XSETREF(*(scheduled ? &evloop->scheduled : &evloop->ready), Py_NewRef(value));
        return 0;
    }
    PyObject *items = PySequence_List(value);
    PyObject *view = items ? ta_evloop_view(evloop, scheduled) : NULL;
    int rc = view ? 0 : -1;
    if (rc == 0 && scheduled)
        ta_evloop_clear_scheduled(evloop);
    else if (rc == 0)
        ta_evloop_clear_ready(evloop);
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(items); i++) {
        PyObject *res = PyObject_CallMethod(view, "append", "O", PyList_GET_ITEM(items, i));
        rc = res ? 0 : -1;
        Py_XDECREF(res);
    }
    Py_XDECREF(view);
    Py_XDECREF(items);
    return rc;
}

static PyObject *get_flag(PyObject *self, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)self + (size_t)(uintptr_t)closure));
}

static int set_flag(PyObject *self, PyObject *value, void *closure)
{
    int yes = value ? PyObject_IsTrue(value) : 0;
    if (yes < 0)
        return -1;
    *(bool *)((char *)self + (size_t)(uintptr_t)closure) = yes;
    return 0;
}

static PyObject *get_resolution(PyObject *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(ta_evloop_cast(self)->resolution);
}

static int set_resolution(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    double seconds = value ? PyFloat_AsDouble(value) : 0;
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    ta_evloop_cast(self)->resolution = seconds;
    return 0;
}

static PyObject *get_factory(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *factory = ta_evloop_cast(self)->factory;
    return Py_NewRef(factory ? factory : Py_None);
}

static int set_factory(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    bool none = value == NULL || Py_IsNone(value);
    Py_XSETREF(ta_evloop_cast(self)->factory, none ? NULL : Py_NewRef(value));
    return 0;
}

/* -- the type ------------------------------------------------------------------------------------
 */

static PyObject *loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &ta_module_def);
    if (module == NULL || ta_all_tasks_speed_up(module) < 0)
        return NULL;
    ta_evloop *evloop = (ta_evloop *)type->tp_alloc(type, 0); /* zeroed */
    if (evloop == NULL)
        return NULL;
    evloop->st = ta_state_of_module(module);
#ifdef Py_GIL_DISABLED
    (void)pthread_mutex_init(&evloop->mutex, NULL);
#else
    ta_evloop_state *objects = &ta_loop_objects_of(evloop->st)->evloop;
    evloop->unused_types[0] = (PyTypeObject *)Py_NewRef((PyObject *)objects->handle_type);
    evloop->unused_types[1] = (PyTypeObject *)Py_NewRef((PyObject *)objects->timer_type);
#endif
    return (PyObject *)evloop;
}

static int loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    Py_VISIT(Py_TYPE(self));
    for (size_t i = evloop->head; i != evloop->tail; i++)
        Py_VISIT(evloop->ring[i & evloop->mask]);
    for (Py_ssize_t i = 0; i < evloop->nheap; i++)
        Py_VISIT(evloop->heap[i].handle);
    Py_VISIT(evloop->selector);
    Py_VISIT(evloop->select);
    Py_VISIT(evloop->factory);
    Py_VISIT(evloop->executor);
    Py_VISIT(evloop->calls);
    Py_VISIT(evloop->loop_kwargs);
    Py_VISIT(evloop->ready);
    Py_VISIT(evloop->scheduled);
    return ta_handle_visit_unused(evloop, visit, arg);
}

static int loop_clear(PyObject *self)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    ta_evloop_clear_ready(evloop);
    ta_evloop_clear_scheduled(evloop);
    Py_CLEAR(evloop->selector);
    Py_CLEAR(evloop->select);
    Py_CLEAR(evloop->factory);
    Py_CLEAR(evloop->executor);
    Py_CLEAR(evloop->calls);
    Py_CLEAR(evloop->loop_kwargs);
    Py_CLEAR(evloop->ready);
    Py_CLEAR(evloop->scheduled);
    return 0;
}

static void loop_dealloc(PyObject *self)
{
    ta_evloop *evloop = ta_evloop_cast(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)loop_clear(self);
    PyMem_RawFree(evloop->ring);
    PyMem_RawFree(evloop->heap);
    PyMem_RawFree(evloop->input);
    ta_handle_free_unused(evloop);
#ifdef Py_GIL_DISABLED
    (void)pthread_mutex_destroy(&evloop->mutex);
#endif
    type->tp_free(self);
    Py_DECREF(type);
}

#define FAST(name, function, doc)                                                                  \
    {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(doc)}

static PyMethodDef methods[] = {
    FAST("call_soon", loop_call_soon, "See asyncio.loop.call_soon."),
    FAST("call_soon_threadsafe", loop_call_soon_threadsafe,
         "See asyncio.loop.call_soon_threadsafe."),
    FAST("call_later", loop_call_later, "See asyncio.loop.call_later."),
    FAST("call_at", loop_call_at, "See asyncio.loop.call_at."),
    FAST("create_task", loop_create_task, "See asyncio.loop.create_task."),
    FAST("run_in_executor", loop_run_in_executor, "See asyncio.loop.run_in_executor."),
    {"create_future", ta_evloop_create_future, METH_NOARGS,
     PyDoc_STR("See asyncio.loop.create_future.")},
    {"time", loop_time, METH_NOARGS, PyDoc_STR("See asyncio.loop.time.")},
    {"is_running", ta_evloop_is_running, METH_NOARGS, PyDoc_STR("See asyncio.loop.is_running.")},
    {"get_debug", ta_evloop_get_debug, METH_NOARGS, PyDoc_STR("See asyncio.loop.get_debug.")},
    {"_process_events", loop_process_events, METH_O, NULL},
    {"_add_callback", loop_add_callback, METH_O, NULL},
    {"_call_soon", (PyCFunction)(void (*)(void))loop_private_call_soon, METH_FASTCALL, NULL},
    {"_timer_handle_cancelled", loop_timer_handle_cancelled, METH_O, NULL},
    {"_write_to_self", loop_write_to_self, METH_NOARGS, NULL},
    {"_run_once", loop_run_once, METH_NOARGS, NULL},
    {"_spin", loop_spin, METH_NOARGS, PyDoc_STR("Turns until stop() is called.")},
    {NULL},
};

#define FLAG(name, member)                                                                         \
    {name, get_flag, set_flag, NULL, (void *)(uintptr_t)offsetof(ta_evloop, member)}

static PyGetSetDef getset[] = {
    {"_ready", get_queue, set_queue, NULL, NULL},
    {"_scheduled", get_queue, set_queue, NULL, (void *)1},
    {"_clock_resolution", get_resolution, set_resolution},
    {"_task_factory", get_factory, set_factory},
    {"_default_executor", ta_evloop_get_executor, ta_evloop_set_executor},
    FLAG("_closed", closed),
    FLAG("_stopping", stopping),
    FLAG("_debug", debug),
    FLAG("_executor_shutdown_called", executor_shut),
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "What turboapi.loop.EventLoop is made of, beside asyncio.SelectorEventLoop."},
    {Py_tp_new, loop_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_setattro, ta_evloop_setattro},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_dealloc, loop_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.LoopBase",
    .basicsize = sizeof(ta_evloop),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int ta_evloop_init(PyObject *module, ta_state *st)
{
    ta_evloop_state *objects = &ta_loop_objects_of(st)->evloop;
    if (ta_evloop_queue_init(module, st) < 0 ||
        ta_types_add(module, &spec, "LoopBase", &objects->type) < 0)
        return -1;
    PyObject *selector_loop = ta_types_import("asyncio.selector_events", "BaseSelectorEventLoop");
    if (selector_loop == NULL)
        return -1;
    /* Private names: turboapi.loop looks whether they are there before it makes a loop. */
    int rc =
        PyObject_GetOptionalAttrString(selector_loop, "_process_events", &objects->process_events);
    if (rc >= 0)
        rc = PyObject_GetOptionalAttrString(selector_loop, "_write_to_self",
                                            &objects->write_to_self);
    Py_DECREF(selector_loop);
    PyObject *events = rc >= 0 ? PyImport_ImportModule("asyncio.events") : NULL;
    if (events == NULL)
        return -1;
    rc = PyObject_GetOptionalAttrString(events, "_ThreadSafeHandle", &objects->shared_handle);
    Py_DECREF(events);
    if (rc < 0 || (objects->base_class = ta_types_import("asyncio", "BaseEventLoop")) == NULL ||
        (objects->deque = ta_types_import("collections", "deque")) == NULL ||
        (objects->futures_module = PyImport_ImportModule("asyncio.futures")) == NULL ||
        (objects->futures_dict = PyObject_GetAttrString(objects->futures_module, "__dict__")) ==
            NULL ||
        (objects->tasks_module = PyImport_ImportModule("asyncio.tasks")) == NULL ||
        (objects->loop_kwname = Py_BuildValue("(s)", "loop")) == NULL ||
        (objects->task_kwnames = Py_BuildValue("(sss)", "loop", "name", "context")) == NULL)
        return -1;
    return ta_handle_init(module, st);
}
