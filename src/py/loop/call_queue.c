/*
 * call_queue.c -- calls in threads whose results become those of asyncio Futures.
 *
 * Layer: py/loop.  The queue has the interface that ThreadPoolExecutor expects of its
 * `_work_queue`, so that an executor's own methods (submit, shutdown, the exit of the interpreter)
 * work on it unchanged, in the same threads.  Calls of the loop go past them: a Call is queued in
 * C, and is posted back to the loop's selector when it is done.
 */
#include "py/loop/call_queue.h"

#include "base/fork_mark.h"
#include "py/loop/selector.h"
#include "py/loop/thread_pool.h"
#include "py/loop/work_queue.h"
#include "py/support/exc.h"
#include "py/support/pending.h"
#include "py/support/types.h"

struct ta_call_queue {
    PyObject_HEAD
    ta_work_queue queue;
    ta_state *st;      /* borrowed: the type keeps the module */
    ta_loop_state *ls; /* borrowed: of the loop's thread; NULL once the selector is closed */
    ta_wake *wake;     /* the same, guarded by the queue's mutex */
    ta_fork_mark mark; /* whose threads they are: a child of fork() has none, see is_forked */
    PyObject *start;   /* owned: start(held) starts a thread that calls work() */
    PyObject *extra;   /* owned: the tuple of arguments of an item's run() */
};

/* One call: queued, made, and on its way back. */
typedef struct ta_call {
    PyObject_HEAD
    ta_work work;         /* in the queue, which holds a reference */
    ta_wake_item item;    /* back to the loop's thread; holds a reference then */
    ta_call_queue *queue; /* owned */
    PyObject *future;     /* owned; NULL: an item of ThreadPoolExecutor, which has its own */
    PyObject *func;       /* owned */
    PyObject *context;    /* owned or NULL */
    PyObject *scope;      /* owned or NULL */
    PyObject *result;     /* owned: of the call */
    PyObject *exc;        /* owned: of the call */
    bool dropped;         /* by shutdown(cancel_futures=True) */
    Py_ssize_t nargs;
    PyObject *args[]; /* owned */
} ta_call;

static inline ta_call_queue *cast(PyObject *obj)
{
    return (ta_call_queue *)obj;
}

static inline const ta_call_state *objects_of(const ta_call_queue *queue)
{
    return &ta_loop_objects_of(queue->st)->call;
}

/* -- calls ------------------------------------------------------------------------------------ */

static void clear_call(ta_call *call)
{
    for (Py_ssize_t i = 0; i < call->nargs; i++)
        Py_CLEAR(call->args[i]);
    call->nargs = 0;
    Py_CLEAR(call->func);
    Py_CLEAR(call->context);
    Py_CLEAR(call->scope);
}

static void call_dealloc(PyObject *self)
{
    ta_call *call = (ta_call *)self;
    PyTypeObject *type = Py_TYPE(self);
    clear_call(call);
    Py_CLEAR(call->future);
    Py_CLEAR(call->result);
    Py_CLEAR(call->exc);
    Py_CLEAR(call->queue);
    type->tp_free(self);
    Py_DECREF(type);
}

static ta_call *call_new(ta_call_queue *queue, const ta_call_spec *spec)
{
    PyTypeObject *type = objects_of(queue)->call_type;
    ta_call *call = (ta_call *)type->tp_alloc(type, spec->nargs); /* zeroed */
    if (call == NULL)
        return NULL;
    call->queue = (ta_call_queue *)Py_NewRef((PyObject *)queue);
    call->future = Py_XNewRef(spec->future);
    call->func = Py_NewRef(spec->func);
    call->context = Py_XNewRef(spec->context);
    call->scope = Py_XNewRef(spec->scope);
    call->nargs = spec->nargs;
    for (Py_ssize_t i = 0; i < spec->nargs; i++)
        call->args[i] = Py_NewRef(spec->args[i]);
    return call;
}

/* future.method(arg), or future.method() without one: as a C function where it is asyncio's. */
static PyObject *tell(ta_call *call, PyObject *descriptor, PyObject *name, PyObject *arg)
{
    PyObject *args[3] = {NULL, call->future, arg};
    size_t n = arg ? 2 : 1;
    const ta_evloop_state *evloop = &ta_loop_objects_of(call->queue->st)->evloop;
    if (Py_IS_TYPE(call->future, (PyTypeObject *)evloop->future_type))
        return PyObject_Vectorcall(descriptor, args + 1, n | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    return PyObject_VectorcallMethod(name, args + 1, n | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* 1, 0, or -1 with an exception. */
static int is_cancelled(ta_call *call)
{
    ta_state *st = call->queue->st;
    PyObject *res =
        tell(call, ta_loop_objects_of(st)->evloop.future_cancelled, st->names.cancelled, NULL);
    int yes = res ? PyObject_IsTrue(res) : -1;
    Py_XDECREF(res);
    return yes;
}

/* What concurrent.futures raises is asyncio's own exception of that name on this side.  Steals and
 * returns. */
static PyObject *as_asyncios(const ta_call_queue *queue, PyObject *exc)
{
    const ta_call_state *objects = objects_of(queue);
    PyObject *type = (PyObject *)Py_TYPE(exc), *other = NULL;
    if (objects->convert_exc != NULL && (type == objects->cancelled || type == objects->invalid))
        other = PyObject_CallOneArg(objects->convert_exc, exc);
    if (other == NULL) {
        PyErr_Clear();
        return exc;
    }
    Py_DECREF(exc);
    return other;
}

static int settle(ta_call *call)
{
    ta_state *st = call->queue->st;
    const ta_evloop_state *evloop = &ta_loop_objects_of(st)->evloop;
    PyObject *res;
    if (call->dropped) {
        res = PyObject_CallMethod(call->future, "cancel", NULL);
    } else {
        int cancelled = is_cancelled(call);
        if (cancelled != 0)
            return cancelled < 0 ? -1 : 0;
        if (call->exc == NULL) {
            res = tell(call, evloop->future_set_result, st->names.set_result,
                       call->result ? call->result : Py_None);
        } else {
            /* Not kept by us: its traceback may refer to the future. */
            PyObject *exc = call->exc;
            call->exc = NULL;
            res = PyObject_CallMethodOneArg(call->future, st->names.set_exception, exc);
            Py_DECREF(exc);
        }
    }
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* Back on the loop's thread. */
static void call_done(ta_wake_item *item)
{
    ta_call *call = TA_CONTAINER_OF(item, ta_call, item);
    ta_loop_state *ls = call->queue->ls;
    if (ls != NULL) { /* else the loop is closed */
        ta_loop_state_enter(ls);
        if (settle(call) < 0) {
            PyObject *exc = PyErr_GetRaisedException();
            PyObject *loop = PyObject_CallMethod(call->future, "get_loop", NULL);
            if (loop == NULL)
                PyErr_Clear();
            PyErr_SetRaisedException(exc);
            ta_exc_report(call->queue->st, loop, "Exception in the result of a thread's call");
            Py_XDECREF(loop);
        }
        ta_loop_state_leave(ls);
    }
    Py_DECREF(call);
}

/* Any thread: hands the call back to the loop's; steals.  `worker`: this one of ours is free now.
 */
static void post(ta_call *call, bool worker)
{
    ta_call_queue *queue = call->queue;
    call->item.fn = call_done;
    pthread_mutex_lock(&queue->queue.mutex);
    bool open = queue->wake != NULL;
    if (worker)
        ta_work_queue_announce(&queue->queue);
    if (open)
        ta_wake_post(queue->wake, &call->item);
    pthread_mutex_unlock(&queue->queue.mutex);
    if (!open)
        Py_DECREF(call);
}

static PyObject *make_call(ta_call *call)
{
    return PyObject_Vectorcall(call->func, call->args, (size_t)call->nargs, NULL);
}

/* The same as anyio does it: in the context, with the scope where check_cancelled() looks. */
static PyObject *make_call_of_anyio(ta_call *call)
{
    ta_state *st = call->queue->st;
    PyObject *locals = ta_loop_objects_of(st)->pool.threadlocals;
    PyObject *name = objects_of(call->queue)->current_cancel_scope, *res = NULL;
    if (PyObject_SetAttr(locals, name, call->scope) < 0)
        return NULL;
    if (PyContext_Enter(call->context) == 0) {
        res = make_call(call);
        PyObject *exc = res ? NULL : PyErr_GetRaisedException();
        if (PyContext_Exit(call->context) < 0)
            PyErr_Clear();
        if (exc != NULL)
            PyErr_SetRaisedException(exc);
    }
    PyObject *exc = res ? NULL : PyErr_GetRaisedException();
    if (PyObject_DelAttr(locals, name) < 0)
        PyErr_Clear();
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return res;
}

/* In a thread; steals.  Returns whether the thread is announced. */
static bool run(ta_call *call)
{
    if (call->future == NULL) {
        PyObject *res = make_call(call);
        if (res == NULL)
            PyErr_WriteUnraisable(call->func);
        Py_XDECREF(res);
        Py_DECREF(call);
        return false;
    }
    bool anyio = call->scope != NULL;
    int cancelled = is_cancelled(call);
    if (cancelled == 0)
        call->result = anyio ? make_call_of_anyio(call) : make_call(call);
    if (cancelled < 0 || (cancelled == 0 && call->result == NULL)) {
        PyObject *exc = PyErr_GetRaisedException();
        /* On 3.11 a Future refuses StopIteration, and would never be done. */
        bool refused = anyio || PY_VERSION_HEX < 0x030C0000;
        call->exc = as_asyncios(call->queue, refused ? ta_thread_pool_no_stop_iteration(exc) : exc);
    }
    clear_call(call); /* its objects are freed where they were used, not on the loop's thread */
    if (ta_pending_run(call->queue->st) < 0) /* not once it counts as idle: this may block */
        PyErr_WriteUnraisable((PyObject *)call);
    post(call, true);
    return true;
}

/* For shutdown(cancel_futures=True), which gets it from get_nowait(): it is not called. */
static PyObject *call_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_call *call = (ta_call *)self;
    if (call->future == NULL)
        Py_RETURN_FALSE;
    call->dropped = true;
    post((ta_call *)Py_NewRef(self), false);
    Py_RETURN_TRUE;
}

/* What a work item has there: a thing with cancel().  The executor's own items have a Future. */
static PyObject *call_future(PyObject *self, void *Py_UNUSED(closure))
{
    ta_call *call = (ta_call *)self;
    if (call->future != NULL)
        return Py_NewRef(self);
    PyObject *item = PyMethod_Check(call->func) ? PyMethod_GET_SELF(call->func) : NULL;
    return item ? PyObject_GetAttrString(item, "future") : Py_NewRef(self);
}

static PyMethodDef call_methods[] = {
    {"cancel", call_cancel, METH_NOARGS, PyDoc_STR("cancel() -> True: it is not called.")},
    {NULL},
};

static PyGetSetDef call_getset[] = {{"future", call_future, NULL, NULL, NULL}, {NULL}};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, "A call that waits for a thread."},
    {Py_tp_methods, call_methods},
    {Py_tp_getset, call_getset},
    {Py_tp_dealloc, call_dealloc},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "turboapi._core.Call",
    .basicsize = offsetof(ta_call, args),
    .itemsize = sizeof(PyObject *),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* -- the queue -------------------------------------------------------------------------------- */

static inline ta_call *call_of(ta_work *work)
{
    return TA_CONTAINER_OF(work, ta_call, work);
}

static void drop_queued(ta_call_queue *queue)
{
    ta_work *work;
    while ((work = ta_work_queue_pop(&queue->queue)) != NULL)
        Py_DECREF(call_of(work));
}

/*
 * In a child of fork() the threads are gone, and with them the only ones that could release the
 * mutex, or leave the condition variables.  At its end the child tells all threads that it knows of
 * to end, and must not wait for them.
 */
static bool is_forked(const ta_call_queue *queue)
{
    return ta_fork_mark_is_child(&queue->mark);
}

/* `held`: the caller has the locks of ThreadPoolExecutor.  1, 0 (refused), -1 with an exception. */
static int put(ta_call_queue *queue, const ta_call_spec *spec, bool held)
{
    ta_call *call = call_new(queue, spec);
    if (call == NULL)
        return -1;
    if (TA_UNLIKELY(is_forked(queue))) { /* it gets threads of its own */
        ta_work_queue_forked(&queue->queue);
        ta_fork_mark_renew(&queue->mark);
    }
    ta_work_put how = ta_work_queue_put(&queue->queue, &call->work);
    if (how == TA_WORK_REFUSED)
        Py_DECREF(call);
    if (how != TA_WORK_GROW)
        return how == TA_WORK_QUEUED;
    PyObject *res = PyObject_CallOneArg(queue->start, held ? Py_True : Py_False);
    /* The call stays queued, as in ThreadPoolExecutor, for other threads if there are any. */
    if (res == NULL && ta_work_queue_not_started(&queue->queue) == 0)
        drop_queued(queue);
    Py_XDECREF(res);
    return res ? 1 : -1;
}

int ta_call_queue_call(ta_call_queue *queue, const ta_call_spec *spec)
{
    return put(queue, spec, false);
}

bool ta_call_queue_is_open(ta_call_queue *queue)
{
    return queue->ls != NULL;
}

static PyObject *queue_put(PyObject *self, PyObject *item)
{
    ta_call_queue *queue = cast(self);
    if (Py_IsNone(item)) { /* the executor was shut down, is gone, or the interpreter ends */
        if (!is_forked(queue))
            ta_work_queue_end(&queue->queue, TA_WORK_FINISHING);
        Py_RETURN_NONE;
    }
    PyObject *func = PyObject_GetAttrString(item, "run");
    if (func == NULL)
        return NULL;
    ta_call_spec spec = {.func = func,
                         .args = &PyTuple_GET_ITEM(queue->extra, 0),
                         .nargs = PyTuple_GET_SIZE(queue->extra)};
    int rc = put(queue, &spec, true);
    Py_DECREF(func);
    if (rc == 0)
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
    if (rc <= 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_get_nowait(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_work *work = ta_work_queue_pop(&cast(self)->queue);
    if (work != NULL)
        return (PyObject *)call_of(work);
    PyErr_SetNone(objects_of(cast(self))->empty);
    return NULL;
}

/* anyio: put_nowait((context, func, args, future, cancel_scope)) */
static PyObject *queue_put_nowait(PyObject *self, PyObject *item)
{
    PyObject *context, *func, *args, *future, *scope;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "put_nowait() takes what anyio gives its threads");
        return NULL;
    }
    if (!PyArg_ParseTuple(item, "OOO!OO:put_nowait", &context, &func, &PyTuple_Type, &args, &future,
                          &scope))
        return NULL;
    ta_call_spec spec = {.future = future,
                         .func = func,
                         .args = &PyTuple_GET_ITEM(args, 0),
                         .nargs = PyTuple_GET_SIZE(args),
                         .context = context,
                         .scope = scope};
    int rc = put(cast(self), &spec, false);
    if (rc == 0)
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    if (rc <= 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_size(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(cast(self)->queue.queued);
}

static PyObject *queue_limit(PyObject *self, PyObject *max)
{
    unsigned long n = PyLong_AsUnsignedLong(max);
    if (n == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    ta_work_queue_limit(&cast(self)->queue, (unsigned)TA_MIN(n, UINT_MAX));
    Py_RETURN_NONE;
}

static PyObject *queue_rest(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_forked(cast(self)))
        ta_work_queue_rest(&cast(self)->queue);
    Py_RETURN_NONE;
}

/* The body of a thread. */
static PyObject *queue_work(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    for (bool announced = false;;) {
        ta_work *work;
        Py_BEGIN_ALLOW_THREADS
        work = ta_work_queue_take(&cast(self)->queue, announced);
        Py_END_ALLOW_THREADS
        if (work == NULL)
            Py_RETURN_NONE;
        announced = run(call_of(work));
    }
}

static PyObject *queue_self(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self);
}

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"selector", "start", "max_threads", "idle_seconds", "extra", NULL};
    PyObject *selector, *start, *extra = NULL;
    unsigned max, idle_seconds;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOIIO!:CallQueue", keywords, &selector, &start,
                                     &max, &idle_seconds, &PyTuple_Type, &extra))
        return NULL;
    ta_state *st = ta_state_of(type);
    ta_loop_state *ls = st ? ta_selector_state_of(st, selector) : NULL;
    if (ls == NULL)
        return NULL;
    if (ls->wake == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Selector is closed");
        return NULL;
    }
    ta_call_queue *queue = (ta_call_queue *)type->tp_alloc(type, 0); /* zeroed */
    if (queue == NULL)
        return NULL;
    ta_work_queue_init(&queue->queue, max, idle_seconds);
    queue->st = st;
    ta_fork_mark_init(&queue->mark);
    queue->ls = ls;
    queue->wake = ls->wake;
    queue->start = Py_NewRef(start);
    queue->extra = Py_NewRef(extra);
    if ((ls->call_queues == NULL && (ls->call_queues = PyList_New(0)) == NULL) ||
        PyList_Append(ls->call_queues, (PyObject *)queue) < 0)
        Py_CLEAR(queue);
    return (PyObject *)queue;
}

void ta_call_queue_shut_all(ta_loop_state *ls)
{
    PyObject *list = ls->call_queues;
    ls->call_queues = NULL;
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        ta_call_queue *queue = cast(PyList_GET_ITEM(list, i));
        queue->ls = NULL;
        if (is_forked(queue))
            continue;
        pthread_mutex_lock(&queue->queue.mutex);
        queue->wake = NULL;
        pthread_mutex_unlock(&queue->queue.mutex);
        ta_work_queue_end(&queue->queue, TA_WORK_FINISHING);
    }
    Py_XDECREF(list);
}

static int queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cast(self)->start);
    Py_VISIT(cast(self)->extra);
    return 0;
}

static int queue_clear(PyObject *self)
{
    Py_CLEAR(cast(self)->start);
    Py_CLEAR(cast(self)->extra);
    return 0;
}

static void queue_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    /* No thread works on it, and nothing can be queued: each would hold a reference. */
    if (!is_forked(cast(self)))
        ta_work_queue_destroy(&cast(self)->queue);
    ta_fork_mark_free(&cast(self)->mark);
    (void)queue_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
    {"rest", queue_rest, METH_NOARGS, PyDoc_STR("rest() -> None: idle threads end")},
    {"put", queue_put, METH_O, PyDoc_STR("put(item) -> None: item.run() in a thread")},
    {"put_nowait", queue_put_nowait, METH_O, PyDoc_STR("put_nowait(item of anyio) -> None")},
    {"get_nowait", queue_get_nowait, METH_NOARGS, PyDoc_STR("get_nowait() -> the first call")},
    {"qsize", queue_size, METH_NOARGS, PyDoc_STR("qsize() -> how many wait for a thread")},
    {"limit", queue_limit, METH_O, PyDoc_STR("limit(threads) -> None")},
    {"work", queue_work, METH_NOARGS, PyDoc_STR("work() -> None: the body of a thread")},
    {NULL},
};

static PyGetSetDef queue_getset[] = {
    {"queue", queue_self, NULL, PyDoc_STR("Itself: for anyio it is a worker, too."), NULL},
    {NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "Calls that wait for a thread, and whose results go back to an event loop."},
    {Py_tp_new, queue_new},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_getset},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {Py_tp_dealloc, queue_dealloc},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "turboapi._core.CallQueue",
    .basicsize = sizeof(ta_call_queue),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};

int ta_call_queue_init(PyObject *module, ta_state *st)
{
    ta_call_state *objects = &ta_loop_objects_of(st)->call;
    if (ta_types_add(module, &call_spec, NULL, &objects->call_type) < 0 ||
        ta_types_add(module, &queue_spec, "CallQueue", &objects->queue_type) < 0 ||
        ta_types_import_optional("asyncio.futures", "_convert_future_exc", &objects->convert_exc) <
            0)
        return -1;
    if ((objects->cancelled = ta_types_import("concurrent.futures", "CancelledError")) == NULL ||
        (objects->invalid = ta_types_import("concurrent.futures", "InvalidStateError")) == NULL ||
        (objects->empty = ta_types_import("queue", "Empty")) == NULL ||
        (objects->current_cancel_scope = PyUnicode_InternFromString("current_cancel_scope")) ==
            NULL)
        return -1;
    return 0;
}
