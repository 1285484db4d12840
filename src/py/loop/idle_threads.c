/*
 * idle_threads.c -- what anyio takes for its idle worker threads, on our event loop.
 *
 * Layer: py/loop.  For each call anyio's to_thread.run_sync() asks a deque whether it has an idle
 * thread, pops one, looks whether others have been idle for too long, and puts the call on the
 * queue of the popped one.  This deque always has one, which stands for all threads of a CallQueue.
 * All else (checkpoints, limiters, cancel scopes, contexts) is anyio's own code.
 *
 * Where anyio's WorkerThread was replaced or patched, or methods of the loop by which its threads
 * return their results, it is a deque as any other.
 */
#include "py/loop/idle_threads.h"

#include "py/loop/call_queue.h"
#include "py/loop/evloop_int.h"
#include "py/support/types.h"

/* What it has after the deque. */
typedef struct idle_threads {
    PyObject *queue;   /* owned: a ta_call_queue, NULL once cleared */
    PyObject *backend; /* owned: the dict of anyio's module, where it looks WorkerThread up */
    PyObject *worker;  /* owned: that class as it was */
    PyObject *loop;    /* owned: a weak reference to the event loop */
    unsigned version;  /* of that */
    bool popped;       /* pop() was called, and the question that follows it was not asked yet */
} idle_threads;

static inline idle_threads *part_of(PyObject *obj)
{
    return (idle_threads *)((char *)obj + Py_TYPE(obj)->tp_basicsize - sizeof(idle_threads));
}

/* Whether a result may come back past methods of the loop: nobody has replaced them. */
static bool is_own_loop(const idle_threads *idle, PyTypeObject *type)
{
    PyObject *loop;
    ta_state *st = ta_state_of(type);
    if (st == NULL || PyWeakref_GetRef(idle->loop, &loop) <= 0) {
        PyErr_Clear();
        return false;
    }
    ta_evloop *evloop = ta_evloop_of(st, loop);
    bool own = evloop != NULL && !evloop->replaced;
    Py_DECREF(loop);
    return own;
}

/* Whether a call may go to our threads. */
static bool usable(PyObject *self)
{
    idle_threads *idle = part_of(self);
    PyObject *now = NULL;
    if (idle->queue == NULL || !ta_call_queue_is_open((ta_call_queue *)idle->queue) ||
        !is_own_loop(idle, Py_TYPE(self)))
        return false;
    if (PyDict_GetItemStringRef(idle->backend, "WorkerThread", &now) < 0)
        PyErr_Clear();
    bool same = now == idle->worker && idle->version != 0 &&
                ((PyTypeObject *)now)->tp_version_tag == idle->version;
    Py_XDECREF(now);
    return same;
}

/* `if not idle_workers`: one is idle.  `while idle_workers`, after pop(): no other one is. */
static int idle_bool(PyObject *self)
{
    idle_threads *idle = part_of(self);
    bool popped = idle->popped;
    idle->popped = false;
    if (!popped && usable(self))
        return 1;
    return PyObject_Size(self) > 0;
}

static PyObject *idle_pop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    idle_threads *idle = part_of(self);
    if (usable(self)) {
        idle->popped = true;
        return Py_NewRef(idle->queue);
    }
    ta_state *st = ta_state_of(Py_TYPE(self));
    return st ? PyObject_CallOneArg(ta_loop_objects_of(st)->call.deque_pop, self) : NULL;
}

static int idle_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"queue", "backend", "loop", NULL};
    ta_state *st = ta_state_of(Py_TYPE(self));
    PyObject *queue, *backend, *worker, *loop;
    if (st == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O:IdleThreads", keywords,
                                                   ta_loop_objects_of(st)->call.queue_type, &queue,
                                                   &PyDict_Type, &backend, &loop))
        return -1;
    if (!PyWeakref_Check(loop)) {
        PyErr_SetString(PyExc_TypeError, "loop must be a weak reference");
        return -1;
    }
    if (PyDict_GetItemStringRef(backend, "WorkerThread", &worker) <= 0 || !PyType_Check(worker)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "anyio has no class WorkerThread");
        return -1;
    }
    /* An attribute is looked up so that the class has a version. */
    Py_XDECREF(PyObject_GetAttrString(worker, "run"));
    PyErr_Clear();
    idle_threads *idle = part_of(self);
    idle->version = ((PyTypeObject *)worker)->tp_version_tag;
    Py_XSETREF(idle->worker, worker);
    Py_XSETREF(idle->queue, Py_NewRef(queue));
    Py_XSETREF(idle->backend, Py_NewRef(backend));
    Py_XSETREF(idle->loop, Py_NewRef(loop));
    return 0;
}

static inline PyTypeObject *base_of(PyObject *self)
{
    return Py_TYPE(self)->tp_base; /* deque: the class is final */
}

/* From Python 3.12 on deque is a heap type, which counts and visits the type itself. */
static inline bool base_has_type(PyObject *self)
{
    return PyType_HasFeature(base_of(self), Py_TPFLAGS_HEAPTYPE);
}

static int idle_traverse(PyObject *self, visitproc visit, void *arg)
{
    if (!base_has_type(self))
        Py_VISIT(Py_TYPE(self));
    Py_VISIT(part_of(self)->queue);
    Py_VISIT(part_of(self)->backend);
    Py_VISIT(part_of(self)->worker);
    Py_VISIT(part_of(self)->loop);
    return base_of(self)->tp_traverse(self, visit, arg);
}

static int idle_clear(PyObject *self)
{
    Py_CLEAR(part_of(self)->queue);
    Py_CLEAR(part_of(self)->backend);
    Py_CLEAR(part_of(self)->worker);
    Py_CLEAR(part_of(self)->loop);
    return base_of(self)->tp_clear(self);
}

static void idle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    bool counted = base_has_type(self);
    destructor base = base_of(self)->tp_dealloc; /* untracks it, and releases its memory */
    PyObject_GC_UnTrack(self);
    Py_CLEAR(part_of(self)->queue);
    Py_CLEAR(part_of(self)->backend);
    Py_CLEAR(part_of(self)->worker);
    Py_CLEAR(part_of(self)->loop);
    PyObject_GC_Track(self);
    base(self);
    if (!counted)
        Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"pop", idle_pop, METH_NOARGS, PyDoc_STR("pop() -> what takes the call")},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "IdleThreads(queue, backend, loop)\n--\n\nA deque in which anyio finds idle threads."},
    {Py_tp_init, idle_init},
    {Py_nb_bool, idle_bool},
    {Py_tp_methods, methods},
    {Py_tp_traverse, idle_traverse},
    {Py_tp_clear, idle_clear},
    {Py_tp_dealloc, idle_dealloc},
    {0, NULL},
};

int ta_idle_threads_init(PyObject *module, ta_state *st)
{
    ta_call_state *objects = &ta_loop_objects_of(st)->call;
    PyObject *deque = ta_types_import("collections", "deque");
    PyObject *thread = PyImport_ImportModule("concurrent.futures.thread");
    int rc = -1;
    if (deque != NULL && thread != NULL) {
        PyType_Spec spec = {
            .name = "turboapi._core.IdleThreads",
            .basicsize = (int)((PyTypeObject *)deque)->tp_basicsize + (int)sizeof(idle_threads),
            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
            .slots = slots,
        };
        objects->idle_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, deque);
        objects->deque_pop = PyObject_GetAttrString(deque, "pop");
        objects->executor_globals = Py_XNewRef(PyModule_GetDict(thread));
        if (objects->idle_type != NULL && objects->deque_pop != NULL)
            rc = PyModule_AddType(module, objects->idle_type);
    }
    Py_XDECREF(deque);
    Py_XDECREF(thread);
    return rc;
}
