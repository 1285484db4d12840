/*
 * selector.c -- `_core.Selector`: a selectors.BaseSelector in whose select() our server runs.
 *
 * Layer: py (L4).  Texts of errors are those of the standard library's selectors.
 */
#include "py/loop/selector_int.h"

#include <math.h>

#include "py/loop/evloop.h"
#include "py/loop/gc_time.h"
#include "py/loop/shared_refs.h"
#include "py/loop/task_pool.h"
#include "py/loop/thread_pool.h"
#include "py/support/exc.h"
#include "py/support/pending.h"
#include "py/support/types.h"

/* Batches of ta_loop_poll in one select() while nothing was scheduled on the loop. */
enum { MAX_TURNS = 64, CHECK_DEBUG = 64 };

static inline ta_selector *cast(PyObject *obj)
{
    return (ta_selector *)obj;
}

static inline ta_state *state_of(PyObject *self)
{
    return cast(self)->ls.st;
}

/* -- which loop, and what is scheduled on it --------------------------------------------------- */

/* The next one asked for is likely to be that of this loop; steals the selector. */
static void remember(ta_selector_state *objects, PyObject *loop, PyObject *selector)
{
#ifdef Py_GIL_DISABLED
    (void)objects;
    (void)loop;
    Py_DECREF(selector);
#else
    Py_XSETREF(objects->last_loop, Py_NewRef(loop));
    Py_XSETREF(objects->last, selector);
#endif
}

ta_loop_state *ta_selector_running(ta_state *st)
{
    ta_loop_state *ls = NULL;
    PyObject *selector = NULL;
    PyObject *loop = PyObject_CallNoArgs(ta_loop_objects_of(st)->selector.get_running_loop);
    if (loop == NULL) {
        PyErr_Clear();
        return NULL;
    }
    ta_selector_state *objects = &ta_loop_objects_of(st)->selector;
    if (TA_LIKELY(loop == objects->last_loop)) {
        ls = &cast(objects->last)->ls;
    } else if (!Py_IsNone(loop)) {
        if (PyDict_GetItemRef(objects->by_loop, loop, &selector) < 0)
            PyErr_Clear();
        if (selector != NULL) {
            ls = &cast(selector)->ls;
            remember(objects, loop, selector); /* attached: the dict keeps it */
        }
    }
    Py_DECREF(loop);
    return ls;
}

/* What asyncio looks at after select(), to find out whether it has changed. */
typedef struct peeked {
    ta_evloop *ours; /* borrowed: a loop of ours, which tells it without Python; or NULL */
    uint64_t timers; /* of that */
    PyObject *ready, *scheduled; /* owned */
    Py_ssize_t nready, nscheduled;
} peeked;

static bool peek(ta_loop_state *ls, peeked *p)
{
    p->ready = p->scheduled = NULL;
    p->ours = ls->aioloop ? ta_evloop_of(ls->st, ls->aioloop) : NULL;
    if (p->ours != NULL && !ta_evloop_is_plain(p->ours)) {
        p->timers = ta_evloop_timers(p->ours);
        return true;
    }
    p->ours = NULL;
    if (!ls->peek)
        return false;
    p->ready = PyObject_GetAttr(ls->aioloop, ls->st->names._ready);
    p->scheduled = PyObject_GetAttr(ls->aioloop, ls->st->names._scheduled);
    if (p->ready == NULL || p->scheduled == NULL)
        goto error;
    p->nready = PyObject_Size(p->ready);
    p->nscheduled = PyObject_Size(p->scheduled);
    if (p->nready >= 0 && p->nscheduled >= 0)
        return true;
error:
    PyErr_Clear();
    ls->peek = false;
    return false;
}

static bool scheduled_something(const ta_loop_state *ls, const peeked *p)
{
    if (p->ours != NULL)
        return ta_evloop_has_news(p->ours, p->timers);
    if (PyObject_Size(p->ready) != p->nready || PyObject_Size(p->scheduled) != p->nscheduled) {
        PyErr_Clear();
        return true;
    }
    PyObject *stopping = PyObject_GetAttr(ls->aioloop, ls->st->names._stopping);
    bool stop = stopping == NULL || !Py_IsFalse(stopping);
    Py_XDECREF(stopping);
    PyErr_Clear();
    return stop;
}

static void *detach_thread(void *ctx)
{
    ta_loop_state *ls = ctx;
    TA_ASSERT(ls->running == 0);
#ifndef Py_GIL_DISABLED
    /* What the batches have scheduled on the asyncio loop would wait as long as we do.  Without the
     * GIL other threads may have, which wake us. */
    TA_ASSERT(ls->look == NULL || !scheduled_something(ls, ls->look));
#endif
    (void)ls;
    return PyEval_SaveThread();
}

static void attach_thread(void *Py_UNUSED(ctx), void *token)
{
    PyEval_RestoreThread(token);
}

ta_loop_state *ta_selector_state_of(ta_state *st, PyObject *selector)
{
    if (!PyObject_TypeCheck(selector, ta_loop_objects_of(st)->selector.type)) {
        PyErr_Format(PyExc_TypeError, "a turboapi Selector is needed, not %.100s",
                     Py_TYPE(selector)->tp_name);
        return NULL;
    }
    return &cast(selector)->ls;
}

/* -- registering ------------------------------------------------------------------------------ */

static int check_open(ta_selector *self)
{
    if (self->ls.loop != NULL)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Selector is closed");
    return -1;
}

/* As an event mask; 0 with ValueError. */
static unsigned parse_events(PyObject *obj)
{
    long events = PyLong_AsLong(obj);
    if (events == -1 && PyErr_Occurred())
        return 0;
    /* selectors.EVENT_READ and EVENT_WRITE are 1 and 2, as ours. */
    if (events == 0 || (events & ~(long)(TA_EV_READ | TA_EV_WRITE))) {
        PyErr_Format(PyExc_ValueError, "Invalid events: %R", obj);
        return 0;
    }
    return (unsigned)events;
}

static PyObject *make_key(ta_state *st, PyObject *fileobj, int fd, unsigned events, PyObject *data)
{
    return PyObject_CallFunction(ta_loop_objects_of(st)->selector.selector_key, "OiIO", fileobj, fd,
                                 events, data);
}

static PyObject *selector_register(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fileobj", "events", "data", NULL};
    ta_selector *self = cast(obj);
    PyObject *fileobj, *events_obj, *data = Py_None, *key = NULL, *num = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:register", keywords, &fileobj, &events_obj,
                                     &data) ||
        check_open(self) < 0)
        return NULL;
    ta_state *st = self->ls.st;
    unsigned events = parse_events(events_obj);
    if (events == 0)
        return NULL;
    int fd = ta_selector_lookup(self->keys, fileobj, st->names.fileobj);
    if (fd < 0 || (num = PyLong_FromLong(fd)) == NULL)
        return NULL;
    int known = PyDict_Contains(self->keys, num);
    if (known > 0) {
        PyObject *text = PyUnicode_FromFormat("%R (FD %d) is already registered", fileobj, fd);
        if (text != NULL)
            PyErr_SetObject(PyExc_KeyError, text);
        Py_XDECREF(text);
    }
    if (known != 0)
        goto error;
    key = make_key(st, fileobj, fd, events, data);
    if (key == NULL || PyDict_SetItem(self->keys, num, key) < 0)
        goto error;
    int rc = ta_loop_add_foreign(self->ls.loop, fd, events);
    if (rc < 0) {
        if (PyDict_DelItem(self->keys, num) < 0)
            PyErr_Clear();
        ta_exc_set(rc, "register");
        goto error;
    }
    Py_DECREF(num);
    return key;
error:
    Py_XDECREF(key);
    Py_DECREF(num);
    return NULL;
}

static PyObject *selector_unregister(PyObject *obj, PyObject *fileobj)
{
    ta_selector *self = cast(obj);
    PyObject *key;
    if (check_open(self) < 0)
        return NULL;
    ta_state *st = self->ls.st;
    int fd = ta_selector_lookup(self->keys, fileobj, st->names.fileobj);
    if (fd < 0)
        return NULL;
    PyObject *num = PyLong_FromLong(fd);
    if (num == NULL)
        return NULL;
    int rc = PyDict_GetItemRef(self->keys, num, &key);
    if (rc == 0)
        ta_selector_key_error("%R is not registered", fileobj);
    if (rc > 0 && PyDict_DelItem(self->keys, num) < 0)
        Py_CLEAR(key);
    Py_DECREF(num);
    if (key != NULL)
        (void)ta_loop_del_foreign(self->ls.loop, fd); /* it may have been closed already */
    return key;
}

static PyObject *selector_modify(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fileobj", "events", "data", NULL};
    ta_selector *self = cast(obj);
    PyObject *fileobj, *events_obj, *data = Py_None, *key, *num = NULL, *made = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:modify", keywords, &fileobj, &events_obj,
                                     &data) ||
        check_open(self) < 0)
        return NULL;
    ta_state *st = self->ls.st;
    unsigned events = parse_events(events_obj);
    if (events == 0)
        return NULL;
    int rc = ta_selector_find_key(self->keys, fileobj, st->names.fileobj, &key);
    if (rc == 0)
        ta_selector_key_error("%R is not registered", fileobj);
    if (rc <= 0)
        return NULL;
    num = PyObject_GetAttr(key, st->names.fd);
    PyObject *old_file = PyObject_GetAttr(key, st->names.fileobj);
    Py_DECREF(key);
    if (num == NULL || old_file == NULL)
        goto done;
    int fd = (int)PyLong_AsLong(num);
    rc = ta_loop_mod_foreign(self->ls.loop, fd, events);
    if (rc < 0) {
        (void)ta_loop_del_foreign(self->ls.loop, fd);
        if (PyDict_DelItem(self->keys, num) < 0)
            PyErr_Clear();
        ta_exc_set(rc, "modify");
        goto done;
    }
    made = make_key(st, old_file, fd, events, data);
    if (made != NULL && PyDict_SetItem(self->keys, num, made) < 0)
        Py_CLEAR(made);
done:
    Py_XDECREF(old_file);
    Py_XDECREF(num);
    return made;
}

static PyObject *selector_get_key(PyObject *obj, PyObject *fileobj)
{
    ta_selector *self = cast(obj);
    PyObject *key;
    if (check_open(self) < 0)
        return NULL;
    int rc = ta_selector_find_key(self->keys, fileobj, state_of(obj)->names.fileobj, &key);
    if (rc == 0)
        ta_selector_key_error("%R is not registered", fileobj);
    return key;
}

static PyObject *selector_get_map(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    ta_selector *self = cast(obj);
    return Py_NewRef(self->ls.loop && self->map ? self->map : Py_None);
}

static PyObject *selector_fileno(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    if (cast(obj)->ls.loop == NULL) {
        PyErr_SetString(PyExc_ValueError, "I/O operation on closed selector");
        return NULL;
    }
    return PyLong_FromLong(ta_loop_fd(cast(obj)->ls.loop));
}

static PyObject *selector_close(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    ta_selector *self = cast(obj);
    if (self->ls.in_batch) {
        PyErr_SetString(PyExc_RuntimeError, "Selector is in use");
        return NULL;
    }
    ta_selector_detach(self);
    if (self->keys != NULL)
        PyDict_Clear(self->keys);
    Py_CLEAR(self->map);
    Py_RETURN_NONE;
}

/* -- select ----------------------------------------------------------------------------------- */

/* Runs one batch; returns how many foreign descriptors are ready, or -1 with an exception. */
static int turn(ta_loop_state *ls, int timeout_ms, ta_ready *ready, unsigned *served)
{
    if (ls->in_batch) {
        PyErr_SetString(PyExc_RuntimeError, "select() is running already");
        return -1;
    }
    unsigned running = ls->running;
    ls->in_batch = true;
    atomic_store_explicit(&ls->owner, PyThread_get_thread_ident(), memory_order_relaxed);
    ls->batch++;
    int n = ta_loop_poll(ls->loop, timeout_ms, ready, TA_LOOP_BATCH, served);
    int err = errno;
    ls->in_batch = false;
    TA_ASSERT(ls->running == running); /* whoever entered has left */
    (void)running;
    if (TA_UNLIKELY(ls->fatal != NULL)) {
        PyObject *exc = ls->fatal;
        ls->fatal = NULL;
        PyErr_SetRaisedException(exc);
        return -1;
    }
    if (PyErr_CheckSignals() < 0 || ta_pending_run(ls->st) < 0)
        return -1;
    if (n < 0) {
        errno = err;
        ta_exc_set(n, "select");
        return -1;
    }
    return n;
}

/* The (key, events) pairs for asyncio. */
static PyObject *ready_list(ta_selector *self, const ta_ready *ready, int n)
{
    ta_state *st = self->ls.st;
    PyObject *list = PyList_New(0);
    for (int i = 0; i < n && list != NULL; i++) {
        PyObject *num = PyLong_FromLong(ready[i].fd), *key = NULL;
        int rc = num ? PyDict_GetItemRef(self->keys, num, &key) : -1;
        Py_XDECREF(num);
        if (rc > 0) {
            PyObject *watched = PyObject_GetAttr(key, st->names.events);
            long mask = watched ? PyLong_AsLong(watched) : -1;
            Py_XDECREF(watched);
            unsigned events = mask < 0 ? 0 : ready[i].events & (unsigned)mask;
            PyObject *pair = mask < 0 ? NULL : Py_BuildValue("(OI)", key, events);
            rc = pair ? (events ? PyList_Append(list, pair) : 0) : -1;
            Py_XDECREF(pair);
        }
        Py_XDECREF(key);
        if (rc < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* In milliseconds, rounded up as select.epoll does; -1: forever. */
static int parse_timeout(PyObject *obj, int *ms)
{
    if (obj == NULL || Py_IsNone(obj)) {
        *ms = -1;
        return 0;
    }
    double seconds = PyFloat_AsDouble(obj);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds)) { /* as the standard library's */
        PyErr_SetString(PyExc_ValueError, "cannot convert float NaN to integer");
        return -1;
    }
    double wait = ceil(seconds * 1000.0);
    *ms = wait <= 0 ? 0 : wait > INT_MAX ? INT_MAX : (int)wait;
    return 0;
}

static PyObject *selector_select(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    ta_selector *self = cast(obj);
    ta_loop_state *ls = &self->ls;
    ta_ready ready[TA_LOOP_BATCH];
    PyObject *list = NULL;
    peeked before = {NULL};
    int wait, n = 0;
    if (nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0) > 1) {
        PyErr_SetString(PyExc_TypeError, "select(timeout=None)");
        return NULL;
    }
    if (check_open(self) < 0 || parse_timeout(nargs || kwnames ? args[0] : NULL, &wait) < 0)
        return NULL;
    Py_INCREF(self); /* handlers may close anything */
    if (wait != 0 && ls->aioloop != NULL)
        ta_loop_state_check_debug(ls);
    bool looked = wait != 0 && peek(ls, &before);
    if (looked && !ls->in_batch)
        ls->look = &before;
    uint64_t deadline = wait > 0 ? ta_loop_now(ls->loop) + (unsigned)wait : 0;
    for (int turns = 0;; turns++) {
        unsigned served = 0;
        n = turn(ls, wait, ready, &served);
        if (n != 0 || wait == 0 || served == 0 || turns == MAX_TURNS)
            break;
        /* Anything that was served may have run Python code: a handler, a destructor, a callback of
         * a logger.  Nobody has to report it; if it has scheduled something, asyncio continues. */
        if (!looked || scheduled_something(ls, &before))
            break;
        if (wait > 0) {
            uint64_t now = ta_loop_now(ls->loop);
            if (now >= deadline)
                break;
            wait = (int)(deadline - now);
        }
    }
    if (ls->look == &before)
        ls->look = NULL;
    if (n >= 0)
        list = ready_list(self, ready, n);
    Py_XDECREF(before.ready);
    Py_XDECREF(before.scheduled);
    Py_DECREF(self);
    return list;
}

static PyObject *selector_turn(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    ta_selector *self = cast(obj);
    if (check_open(self) < 0)
        return NULL;
    ta_ready ready[TA_LOOP_BATCH]; /* stays empty: nobody registers with a nested one */
    Py_INCREF(self);
    if (self->ls.batch % CHECK_DEBUG == 0 && self->ls.aioloop != NULL)
        ta_loop_state_check_debug(&self->ls);
    int n = turn(&self->ls, 0, ready, NULL);
    Py_DECREF(self);
    if (n < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* -- the type --------------------------------------------------------------------------------- */

static PyObject *selector_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *selector_exit(PyObject *self, PyObject *Py_UNUSED(args))
{
    return selector_close(self, NULL);
}

static PyObject *selector_attach(PyObject *self, PyObject *loop)
{
    if (ta_selector_attach(cast(self), loop) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* For tests: tells whether C is inside the door of src/py/loop/loop_state.h (ta_loop_state_enter).
 */
static PyObject *get_calls(PyObject *obj, void *Py_UNUSED(closure))
{
    const ta_loop_state *ls = &cast(obj)->ls;
    return ls->in_batch ? PyLong_FromUnsignedLong(ls->running) : Py_NewRef(Py_None);
}

static int traverse_loopstate(ta_loop_state *ls, visitproc visit, void *arg)
{
    Py_VISIT(ls->aioloop);
    Py_VISIT(ls->context);
    Py_VISIT(ls->fatal);
    Py_VISIT(ls->call_stats);
    Py_VISIT(ls->call_queues);
    int shared = ta_shared_refs_traverse(ls, visit, arg);
    if (shared != 0)
        return shared;
    int rc = ta_loop_state_traverse_guests(ls, visit, arg);
    if (rc == 0)
        rc = ta_task_pool_traverse(ls, visit, arg);
    return rc ? rc : ta_thread_pool_traverse(ls, visit, arg);
}

static int selector_traverse(PyObject *obj, visitproc visit, void *arg)
{
    ta_selector *self = cast(obj);
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->keys);
    Py_VISIT(self->map);
    return traverse_loopstate(&self->ls, visit, arg);
}

/* Not in a finalizer: that of a loop which is freed with us still needs us. */
static int selector_clear(PyObject *obj)
{
    ta_selector *self = cast(obj);
    PyObject *exc = PyErr_GetRaisedException();
    ta_selector_detach(self);
    ta_exc_restore(exc);
    Py_CLEAR(self->keys);
    Py_CLEAR(self->map);
    Py_CLEAR(self->ls.aioloop);
    Py_CLEAR(self->ls.context);
    Py_CLEAR(self->ls.fatal);
    Py_CLEAR(self->ls.call_stats);
    ta_shared_refs_clear(&self->ls);
    return 0;
}

static void selector_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    (void)selector_clear(obj);
    (void)pthread_mutex_destroy(&cast(obj)->ls.lag.mutex);
    type->tp_free(obj);
    Py_DECREF(type);
}

static PyObject *selector_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"backend", NULL};
    const char *backend = "auto";
    ta_backend which = TA_BACKEND_AUTO;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|s:Selector", keywords, &backend))
        return NULL;
    if (strcmp(backend, "epoll") == 0) {
        which = TA_BACKEND_EPOLL;
    } else if (strcmp(backend, "poll") == 0) {
        which = TA_BACKEND_POLL;
    } else if (strcmp(backend, "auto") != 0) {
        PyErr_Format(PyExc_ValueError, "unknown backend: %s", backend);
        return NULL;
    }
    ta_state *st = ta_state_of(type);
    if (st == NULL)
        return NULL;
    ta_selector *self = (ta_selector *)type->tp_alloc(type, 0); /* zeroed */
    if (self == NULL)
        return NULL;
    ta_loop_state *ls = &self->ls;
    ls->st = st;
    ls->gc_time = ta_gc_time_of(st);
    (void)pthread_mutex_init(&ls->lag.mutex, NULL);
    ta_list_init(&ls->guests);
    if ((ls->loop = ta_loop_new(which)) == NULL || (ls->wake = ta_wake_new(ls->loop)) == NULL) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto error;
    }
    ta_loop_set_hooks(ls->loop, &(ta_loop_hooks){detach_thread, attach_thread, ls});
    if ((self->keys = PyDict_New()) == NULL)
        goto error;
    if ((self->map = ta_selector_map_new(st, self->keys)) == NULL)
        goto error;
    return (PyObject *)self;
error:
    Py_DECREF(self);
    return NULL;
}

static PyMethodDef methods[] = {
    {"register", (PyCFunction)(void (*)(void))selector_register, METH_VARARGS | METH_KEYWORDS,
     "register($self, fileobj, events, data=None)\n--\n\nSee selectors.BaseSelector.register."},
    {"unregister", selector_unregister, METH_O,
     "unregister($self, fileobj, /)\n--\n\nSee selectors.BaseSelector.unregister."},
    {"modify", (PyCFunction)(void (*)(void))selector_modify, METH_VARARGS | METH_KEYWORDS,
     "modify($self, fileobj, events, data=None)\n--\n\nSee selectors.BaseSelector.modify."},
    {"select", (PyCFunction)(void (*)(void))selector_select, METH_FASTCALL | METH_KEYWORDS,
     "select($self, timeout=None)\n--\n\nServes our connections; gives what asyncio registered."},
    {"get_key", selector_get_key, METH_O,
     "get_key($self, fileobj, /)\n--\n\nSee selectors.BaseSelector.get_key."},
    {"get_map", selector_get_map, METH_NOARGS,
     "get_map($self, /)\n--\n\nSee selectors.BaseSelector.get_map."},
    {"close", selector_close, METH_NOARGS,
     "close($self, /)\n--\n\nSee selectors.BaseSelector.close."},
    {"fileno", selector_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe descriptor that is readable when turn() has something to do."},
    {"turn", selector_turn, METH_NOARGS,
     "turn($self, /)\n--\n\nOne batch without waiting: for loops that watch fileno()."},
    {"attach", selector_attach, METH_O,
     "attach($self, loop, /)\n--\n\nBinds it to the loop that runs in this thread (or will, if it\n"
     "was made with this Selector)."},
    {"lag", ta_selector_lag, METH_NOARGS,
     "lag($self, /)\n--\n\n"
     "For how many seconds the loop has not come back to its selector; 0.0 while it waits for\n"
     "events.  From any thread.  A loop that watches fileno() is asked to come by one call, and\n"
     "the next one tells since when it has not: each call wakes it once."},
    {"highest_lag", ta_selector_highest_lag, METH_NOARGS,
     "highest_lag($self, /)\n--\n\n"
     "The highest lag() since this was last asked.  From any thread."},
    {"spawn", (PyCFunction)(void (*)(void))ta_selector_spawn, METH_FASTCALL,
     "spawn($self, coro, callback=None, /)\n--\n\n"
     "Runs coro in a Task of the pool, from the next batch on, and calls callback(result,\n"
     "exception) when it ends; without callback an exception is the Task's."},
    {"__enter__", selector_enter, METH_NOARGS, NULL},
    {"__exit__", selector_exit, METH_VARARGS, NULL},
    {NULL},
};

static PyGetSetDef getset[] = {
    {"_calls", get_calls, NULL,
     "How many calls of Python code by C are open in this batch; None outside of one.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Selector(backend='auto')\n--\n\n"
                "A selectors.BaseSelector that serves HTTP connections in its select()."},
    {Py_tp_new, selector_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, selector_traverse},
    {Py_tp_clear, selector_clear},
    {Py_tp_dealloc, selector_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Selector",
    .basicsize = sizeof(ta_selector),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static int register_abc(const char *module, const char *name, PyTypeObject *type)
{
    PyObject *abc = ta_types_import(module, name);
    PyObject *meta = abc ? ta_types_import("abc", "ABCMeta") : NULL;
    /* Not abc.register: BaseSelector has a method of that name. */
    PyObject *res = meta ? PyObject_CallMethod(meta, "register", "OO", abc, type) : NULL;
    Py_XDECREF(meta);
    Py_XDECREF(abc);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_selector_init(PyObject *module, ta_state *st)
{
    ta_selector_state *objects = &ta_loop_objects_of(st)->selector;
    if (ta_types_add(module, &spec, "Selector", &objects->type) < 0 ||
        ta_selector_map_init(module, st) < 0)
        return -1;
    /* The private one returns None where the other one raises, which is quicker. */
    int found =
        ta_types_import_optional("asyncio", "_get_running_loop", &objects->get_running_loop);
    if (found == 0)
        objects->get_running_loop = ta_types_import("asyncio", "get_running_loop");
    if (objects->get_running_loop == NULL ||
        (objects->selector_key = ta_types_import("selectors", "SelectorKey")) == NULL ||
        (objects->by_loop = PyDict_New()) == NULL)
        return -1;
    if (register_abc("selectors", "BaseSelector", objects->type) < 0)
        return -1;
    return register_abc("collections.abc", "Mapping", objects->map_type);
}
