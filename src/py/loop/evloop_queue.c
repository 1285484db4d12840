/*
 * evloop_queue.c -- the ready handles (a ring) and the scheduled ones (a heap) of the event loop.
 *
 * Layer: py (L4).  A cancelled timer leaves the heap at once, since each handle of ours knows its
 * position.  The views show both queues to debuggers, and to asyncio's own code.
 */
#include "py/loop/evloop_int.h"

#include "py/support/types.h"

/* -- the ring ------------------------------------------------------------------------------------
 */

static int grow_ring(ta_evloop *evloop)
{
    size_t size = evloop->ring ? (evloop->mask + 1) * 2 : 64, n = ta_evloop_nready(evloop);
    PyObject **ring = PyMem_RawMalloc(size * sizeof *ring);
    if (ring == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        ring[i] = evloop->ring[(evloop->head + i) & evloop->mask];
    PyMem_RawFree(evloop->ring);
    evloop->ring = ring;
    evloop->mask = size - 1;
    evloop->head = 0;
    evloop->tail = n;
    return 0;
}

int ta_evloop_push(ta_evloop *evloop, PyObject *handle)
{
    TA_EVLOOP_LOCK(evloop);
    if (TA_UNLIKELY(evloop->ring == NULL || ta_evloop_nready(evloop) > evloop->mask) &&
        grow_ring(evloop) < 0) {
        TA_EVLOOP_UNLOCK(evloop);
        Py_DECREF(handle);
        PyErr_NoMemory();
        return -1;
    }
    TA_ASSERT((evloop->mask & (evloop->mask + 1)) == 0);
    TA_ASSERT(ta_evloop_nready(evloop) <= evloop->mask);
    evloop->ring[evloop->tail++ & evloop->mask] = handle;
    TA_EVLOOP_UNLOCK(evloop);
    return 0;
}

PyObject *ta_evloop_pop(ta_evloop *evloop)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(evloop);
    if (ta_evloop_nready(evloop) > 0)
        handle = evloop->ring[evloop->head++ & evloop->mask];
    TA_EVLOOP_UNLOCK(evloop);
    return handle;
}

/* The last of the ready handles, the caller's; NULL: there is none.  No exception. */
static PyObject *pop_last(ta_evloop *evloop)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(evloop);
    if (ta_evloop_nready(evloop) > 0)
        handle = evloop->ring[--evloop->tail & evloop->mask];
    TA_EVLOOP_UNLOCK(evloop);
    return handle;
}

void ta_evloop_clear_ready(ta_evloop *l)
{
    PyObject *handle;
    while ((handle = ta_evloop_pop(l)) != NULL)
        Py_DECREF(handle);
}

/* -- the heap, with the mutex --------------------------------------------------------------------
 */

static inline bool earlier(const ta_timer_slot *a, const ta_timer_slot *b)
{
    return a->when < b->when || (a->when == b->when && a->number < b->number);
}

static inline void put(ta_evloop *l, Py_ssize_t i, ta_timer_slot slot)
{
    TA_ASSERT(0 <= i && i < l->nheap && l->nheap <= l->heap_size);
    l->heap[i] = slot;
    if (ta_handle_is_ours(l->st, slot.handle))
        ta_handle_of(slot.handle)->index = i;
}

static void sift_up(ta_evloop *evloop, Py_ssize_t i, ta_timer_slot slot)
{
    while (i > 0) {
        Py_ssize_t parent = (i - 1) / 4;
        if (!earlier(&slot, &evloop->heap[parent]))
            break;
        put(evloop, i, evloop->heap[parent]);
        i = parent;
    }
    put(evloop, i, slot);
}

static void sift_down(ta_evloop *evloop, Py_ssize_t i, ta_timer_slot slot)
{
    for (;;) {
        Py_ssize_t first = i * 4 + 1, best = first;
        if (first >= evloop->nheap)
            break;
        for (Py_ssize_t k = first + 1; k < TA_MIN(first + 4, evloop->nheap); k++) {
            if (earlier(&evloop->heap[k], &evloop->heap[best]))
                best = k;
        }
        if (!earlier(&evloop->heap[best], &slot))
            break;
        put(evloop, i, evloop->heap[best]);
        i = best;
    }
    put(evloop, i, slot);
}

/* Its reference becomes the caller's. */
static PyObject *take(ta_evloop *evloop, Py_ssize_t i)
{
    PyObject *handle = evloop->heap[i].handle;
    if (ta_handle_is_ours(evloop->st, handle))
        ta_handle_of(handle)->index = -1;
    ta_timer_slot last = evloop->heap[--evloop->nheap];
    if (i < evloop->nheap) {
        if (i > 0 && earlier(&last, &evloop->heap[(i - 1) / 4]))
            sift_up(evloop, i, last);
        else
            sift_down(evloop, i, last);
    }
    return handle;
}

static int grow_heap(ta_evloop *evloop)
{
    Py_ssize_t size = evloop->heap_size ? evloop->heap_size * 2 : 64;
    ta_timer_slot *heap = PyMem_RawRealloc(evloop->heap, (size_t)size * sizeof *heap);
    if (heap == NULL)
        return -1;
    evloop->heap = heap;
    evloop->heap_size = size;
    return 0;
}

int ta_evloop_schedule(ta_evloop *evloop, PyObject *handle, double when)
{
    TA_EVLOOP_LOCK(evloop);
    if (TA_UNLIKELY(evloop->nheap == evloop->heap_size) && grow_heap(evloop) < 0) {
        TA_EVLOOP_UNLOCK(evloop);
        PyErr_NoMemory();
        return -1;
    }
    sift_up(evloop, evloop->nheap++, (ta_timer_slot){when, evloop->timers++, Py_NewRef(handle)});
    TA_EVLOOP_UNLOCK(evloop);
    return 0;
}

void ta_evloop_unschedule(ta_evloop *evloop, PyObject *handle)
{
    PyObject *taken = NULL;
    TA_EVLOOP_LOCK(evloop);
    Py_ssize_t i = ta_handle_of(handle)->index;
    TA_ASSERT(i < 0 || (i < evloop->nheap && evloop->heap[i].handle == handle));
    if (i >= 0)
        taken = take(evloop, i);
    TA_EVLOOP_UNLOCK(evloop);
    Py_XDECREF(taken);
}

void ta_evloop_unschedule_foreign(ta_evloop *evloop, PyObject *handle)
{
    PyObject *taken = NULL;
    TA_EVLOOP_LOCK(evloop);
    for (Py_ssize_t i = 0; i < evloop->nheap; i++) {
        if (evloop->heap[i].handle == handle) {
            taken = take(evloop, i);
            break;
        }
    }
    TA_EVLOOP_UNLOCK(evloop);
    Py_XDECREF(taken);
}

PyObject *ta_evloop_pop_due(ta_evloop *evloop, double end)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(evloop);
    if (evloop->nheap > 0 && evloop->heap[0].when < end)
        handle = take(evloop, 0);
    TA_EVLOOP_UNLOCK(evloop);
    return handle;
}

void ta_evloop_clear_scheduled(ta_evloop *evloop)
{
    for (;;) {
        PyObject *handle = NULL;
        TA_EVLOOP_LOCK(evloop);
        if (evloop->nheap > 0)
            handle = take(evloop, evloop->nheap - 1);
        TA_EVLOOP_UNLOCK(evloop);
        if (handle == NULL)
            return;
        Py_DECREF(handle);
    }
}

/* -- as lists ------------------------------------------------------------------------------------
 */

PyObject *ta_evloop_list_ready(ta_evloop *evloop)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL; i++) {
        PyObject *handle = NULL;
        TA_EVLOOP_LOCK(evloop);
        if (i < ta_evloop_nready(evloop))
            handle = Py_NewRef(evloop->ring[(evloop->head + i) & evloop->mask]);
        TA_EVLOOP_UNLOCK(evloop);
        if (handle == NULL)
            break;
        if (PyList_Append(list, handle) < 0)
            Py_CLEAR(list);
        Py_DECREF(handle);
    }
    return list;
}

PyObject *ta_evloop_list_scheduled(ta_evloop *evloop)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL; i++) {
        PyObject *handle = NULL;
        TA_EVLOOP_LOCK(evloop);
        if (i < evloop->nheap)
            handle = Py_NewRef(evloop->heap[i].handle);
        TA_EVLOOP_UNLOCK(evloop);
        if (handle == NULL)
            break;
        if (PyList_Append(list, handle) < 0)
            Py_CLEAR(list);
        Py_DECREF(handle);
    }
    if (list != NULL && PyList_Sort(list) < 0)
        Py_CLEAR(list);
    return list;
}

/* -- the views -----------------------------------------------------------------------------------
 */

typedef struct view {
    PyObject_HEAD
    ta_evloop *loop; /* owned */
    bool scheduled;
} view;

static view *view_cast(PyObject *obj)
{
    return (view *)obj;
}

PyObject *ta_evloop_view(ta_evloop *evloop, bool scheduled)
{
    view *v = PyObject_GC_New(view, ta_loop_objects_of(evloop->st)->evloop.view_type);
    if (v == NULL)
        return NULL;
    v->loop = (ta_evloop *)Py_NewRef((PyObject *)evloop);
    v->scheduled = scheduled;
    PyObject_GC_Track((PyObject *)v);
    return (PyObject *)v;
}

static PyObject *as_list(PyObject *self)
{
    view *v = view_cast(self);
    return v->scheduled ? ta_evloop_list_scheduled(v->loop) : ta_evloop_list_ready(v->loop);
}

static Py_ssize_t view_length(PyObject *self)
{
    view *v = view_cast(self);
    TA_EVLOOP_LOCK(v->loop);
    Py_ssize_t length = v->scheduled ? v->loop->nheap : (Py_ssize_t)ta_evloop_nready(v->loop);
    TA_EVLOOP_UNLOCK(v->loop);
    return length;
}

static PyObject *ready_item(ta_evloop *evloop, Py_ssize_t i)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(evloop);
    if (i >= 0 && (size_t)i < ta_evloop_nready(evloop))
        handle = Py_NewRef(evloop->ring[(evloop->head + (size_t)i) & evloop->mask]);
    TA_EVLOOP_UNLOCK(evloop);
    if (handle == NULL)
        PyErr_SetString(PyExc_IndexError, "index out of range");
    return handle;
}

static PyObject *view_item(PyObject *self, Py_ssize_t i)
{
    view *v = view_cast(self);
    if (!v->scheduled)
        return ready_item(v->loop, i);
    PyObject *list = as_list(self);
    PyObject *item = list ? PyList_GetItemRef(list, i) : NULL;
    Py_XDECREF(list);
    return item;
}

static PyObject *view_iter(PyObject *self)
{
    PyObject *list = as_list(self);
    PyObject *iterator = list ? PyObject_GetIter(list) : NULL;
    Py_XDECREF(list);
    return iterator;
}

static PyObject *view_repr(PyObject *self)
{
    PyObject *list = as_list(self);
    PyObject *text = list ? PyUnicode_FromFormat("<LoopQueue %R>", list) : NULL;
    Py_XDECREF(list);
    return text;
}

static PyObject *view_clear_queue(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = view_cast(self);
    if (v->scheduled)
        ta_evloop_clear_scheduled(v->loop);
    else
        ta_evloop_clear_ready(v->loop);
    Py_RETURN_NONE;
}

static PyObject *view_append(PyObject *self, PyObject *handle)
{
    view *v = view_cast(self);
    int rc;
    if (v->scheduled) {
        PyObject *when = PyObject_CallMethod(handle, "when", NULL);
        double at = when ? PyFloat_AsDouble(when) : -1.0;
        Py_XDECREF(when);
        rc = PyErr_Occurred() ? -1 : ta_evloop_schedule(v->loop, handle, at);
    } else {
        rc = ta_evloop_push(v->loop, Py_NewRef(handle));
    }
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *view_popleft(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = view_cast(self);
    PyObject *handle =
        v->scheduled ? ta_evloop_pop_due(v->loop, Py_HUGE_VAL) : ta_evloop_pop(v->loop);
    if (handle == NULL)
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    return handle;
}

static PyObject *view_pop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    view *v = view_cast(self);
    if (v->scheduled) { /* a heap, whose last item is of no use to anybody */
        PyErr_SetString(PyExc_TypeError, "the scheduled handles have no pop()");
        return NULL;
    }
    PyObject *handle = pop_last(v->loop);
    if (handle == NULL)
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    return handle;
}

static int view_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)view_cast(self)->loop);
    return 0;
}

static int view_gc_clear(PyObject *self)
{
    Py_CLEAR(view_cast(self)->loop);
    return 0;
}

static void view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)view_gc_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef view_methods[] = {
    {"append", view_append, METH_O, PyDoc_STR("append(handle) -> None")},
    {"pop", view_pop, METH_NOARGS, PyDoc_STR("pop() -> the last handle")},
    {"popleft", view_popleft, METH_NOARGS, PyDoc_STR("popleft() -> the first handle")},
    {"clear", view_clear_queue, METH_NOARGS, PyDoc_STR("clear() -> None")},
    {NULL},
};

static PyType_Slot view_slots[] = {
    {Py_tp_doc, "The ready or the scheduled handles of an event loop."},
    {Py_sq_length, view_length},
    {Py_sq_item, view_item},
    {Py_tp_iter, view_iter},
    {Py_tp_repr, view_repr},
    {Py_tp_methods, view_methods},
    {Py_tp_traverse, view_traverse},
    {Py_tp_clear, view_gc_clear},
    {Py_tp_dealloc, view_dealloc},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "turboapi._core.LoopQueue",
    .basicsize = sizeof(view),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = view_slots,
};

int ta_evloop_queue_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &view_spec, NULL, &ta_loop_objects_of(st)->evloop.view_type);
}
