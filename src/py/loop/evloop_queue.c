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

static int grow_ring(ta_evloop *l)
{
    size_t size = l->ring ? (l->mask + 1) * 2 : 64, n = ta_evloop_nready(l);
    PyObject **ring = PyMem_RawMalloc(size * sizeof *ring);
    if (ring == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        ring[i] = l->ring[(l->head + i) & l->mask];
    PyMem_RawFree(l->ring);
    l->ring = ring;
    l->mask = size - 1;
    l->head = 0;
    l->tail = n;
    return 0;
}

int ta_evloop_push(ta_evloop *l, PyObject *handle)
{
    TA_EVLOOP_LOCK(l);
    if (TA_UNLIKELY(l->ring == NULL || ta_evloop_nready(l) > l->mask) && grow_ring(l) < 0) {
        TA_EVLOOP_UNLOCK(l);
        Py_DECREF(handle);
        PyErr_NoMemory();
        return -1;
    }
    l->ring[l->tail++ & l->mask] = handle;
    TA_EVLOOP_UNLOCK(l);
    return 0;
}

PyObject *ta_evloop_pop(ta_evloop *l)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(l);
    if (ta_evloop_nready(l) > 0)
        handle = l->ring[l->head++ & l->mask];
    TA_EVLOOP_UNLOCK(l);
    return handle;
}

PyObject *ta_evloop_pop_last(ta_evloop *l)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(l);
    if (ta_evloop_nready(l) > 0)
        handle = l->ring[--l->tail & l->mask];
    TA_EVLOOP_UNLOCK(l);
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
    l->heap[i] = slot;
    if (ta_handle_is_ours(l->st, slot.handle))
        ta_handle_of(slot.handle)->index = i;
}

static void sift_up(ta_evloop *l, Py_ssize_t i, ta_timer_slot slot)
{
    while (i > 0) {
        Py_ssize_t parent = (i - 1) / 4;
        if (!earlier(&slot, &l->heap[parent]))
            break;
        put(l, i, l->heap[parent]);
        i = parent;
    }
    put(l, i, slot);
}

static void sift_down(ta_evloop *l, Py_ssize_t i, ta_timer_slot slot)
{
    for (;;) {
        Py_ssize_t first = i * 4 + 1, best = first;
        if (first >= l->nheap)
            break;
        for (Py_ssize_t k = first + 1; k < TA_MIN(first + 4, l->nheap); k++) {
            if (earlier(&l->heap[k], &l->heap[best]))
                best = k;
        }
        if (!earlier(&l->heap[best], &slot))
            break;
        put(l, i, l->heap[best]);
        i = best;
    }
    put(l, i, slot);
}

/* Its reference becomes the caller's. */
static PyObject *take(ta_evloop *l, Py_ssize_t i)
{
    PyObject *handle = l->heap[i].handle;
    if (ta_handle_is_ours(l->st, handle))
        ta_handle_of(handle)->index = -1;
    ta_timer_slot last = l->heap[--l->nheap];
    if (i < l->nheap) {
        if (i > 0 && earlier(&last, &l->heap[(i - 1) / 4]))
            sift_up(l, i, last);
        else
            sift_down(l, i, last);
    }
    return handle;
}

static int grow_heap(ta_evloop *l)
{
    Py_ssize_t size = l->heap_size ? l->heap_size * 2 : 64;
    ta_timer_slot *heap = PyMem_RawRealloc(l->heap, (size_t)size * sizeof *heap);
    if (heap == NULL)
        return -1;
    l->heap = heap;
    l->heap_size = size;
    return 0;
}

int ta_evloop_schedule(ta_evloop *l, PyObject *handle, double when)
{
    TA_EVLOOP_LOCK(l);
    if (TA_UNLIKELY(l->nheap == l->heap_size) && grow_heap(l) < 0) {
        TA_EVLOOP_UNLOCK(l);
        PyErr_NoMemory();
        return -1;
    }
    sift_up(l, l->nheap++, (ta_timer_slot){when, l->timers++, Py_NewRef(handle)});
    TA_EVLOOP_UNLOCK(l);
    return 0;
}

void ta_evloop_unschedule(ta_evloop *l, PyObject *handle)
{
    PyObject *taken = NULL;
    TA_EVLOOP_LOCK(l);
    Py_ssize_t i = ta_handle_of(handle)->index;
    if (i >= 0)
        taken = take(l, i);
    TA_EVLOOP_UNLOCK(l);
    Py_XDECREF(taken);
}

void ta_evloop_unschedule_foreign(ta_evloop *l, PyObject *handle)
{
    PyObject *taken = NULL;
    TA_EVLOOP_LOCK(l);
    for (Py_ssize_t i = 0; i < l->nheap; i++) {
        if (l->heap[i].handle == handle) {
            taken = take(l, i);
            break;
        }
    }
    TA_EVLOOP_UNLOCK(l);
    Py_XDECREF(taken);
}

PyObject *ta_evloop_pop_due(ta_evloop *l, double end)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(l);
    if (l->nheap > 0 && l->heap[0].when < end)
        handle = take(l, 0);
    TA_EVLOOP_UNLOCK(l);
    return handle;
}

void ta_evloop_clear_scheduled(ta_evloop *l)
{
    for (;;) {
        PyObject *handle = NULL;
        TA_EVLOOP_LOCK(l);
        if (l->nheap > 0)
            handle = take(l, l->nheap - 1);
        TA_EVLOOP_UNLOCK(l);
        if (handle == NULL)
            return;
        Py_DECREF(handle);
    }
}

/* -- as lists ------------------------------------------------------------------------------------
 */

PyObject *ta_evloop_list_ready(ta_evloop *l)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL; i++) {
        PyObject *handle = NULL;
        TA_EVLOOP_LOCK(l);
        if (i < ta_evloop_nready(l))
            handle = Py_NewRef(l->ring[(l->head + i) & l->mask]);
        TA_EVLOOP_UNLOCK(l);
        if (handle == NULL)
            break;
        if (PyList_Append(list, handle) < 0)
            Py_CLEAR(list);
        Py_DECREF(handle);
    }
    return list;
}

PyObject *ta_evloop_list_scheduled(ta_evloop *l)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL; i++) {
        PyObject *handle = NULL;
        TA_EVLOOP_LOCK(l);
        if (i < l->nheap)
            handle = Py_NewRef(l->heap[i].handle);
        TA_EVLOOP_UNLOCK(l);
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

PyObject *ta_evloop_view(ta_evloop *l, bool scheduled)
{
    view *v = PyObject_GC_New(view, ta_loop_objects_of(l->st)->evloop.view_type);
    if (v == NULL)
        return NULL;
    v->loop = (ta_evloop *)Py_NewRef((PyObject *)l);
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
    return v->scheduled ? v->loop->nheap : (Py_ssize_t)ta_evloop_nready(v->loop);
}

static PyObject *ready_item(ta_evloop *l, Py_ssize_t i)
{
    PyObject *handle = NULL;
    TA_EVLOOP_LOCK(l);
    if (i >= 0 && (size_t)i < ta_evloop_nready(l))
        handle = Py_NewRef(l->ring[(l->head + (size_t)i) & l->mask]);
    TA_EVLOOP_UNLOCK(l);
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
    PyObject *handle = ta_evloop_pop_last(v->loop);
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
