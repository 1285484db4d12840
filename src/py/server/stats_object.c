/*
 * stats_object.c -- `_core.Stats`: counters in memory that processes share, as a Python object.
 *
 * Layer: py/server.  turboapi/_serving/metrics.py makes it, and reads it for others.
 */
#include "py/server/stats_object.h"

#include "base/clock.h"
#include "py/support/types.h"

typedef struct stats_object {
    PyObject_HEAD
    ta_stats stats;
} stats_object;

static const ta_stats *stats_of(PyObject *obj)
{
    return &((stats_object *)obj)->stats;
}

const ta_stats *ta_stats_object_get(ta_state *st, PyObject *obj)
{
    if (!Py_IS_TYPE(obj, ta_server_objects_of(st)->server.stats_type)) {
        PyErr_Format(PyExc_TypeError, "stats must be a Stats, not %.100s", Py_TYPE(obj)->tp_name);
        return NULL;
    }
    return stats_of(obj);
}

/* -- life ------------------------------------------------------------------------------------- */

static PyObject *stats_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fd", "slots", "routes", NULL};
    int fd;
    unsigned slots, routes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iII:Stats", keywords, &fd, &slots, &routes))
        return NULL;
    stats_object *self = (stats_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    int rc = slots < 2 ? TA_EINVAL : ta_stats_map(&self->stats, fd, slots, routes);
    if (rc == TA_OK)
        return (PyObject *)self;
    Py_DECREF(self);
    if (rc == TA_ESYS)
        return PyErr_SetFromErrno(PyExc_OSError);
    PyErr_SetString(PyExc_ValueError, "the memory is not as large as that");
    return NULL;
}

static void stats_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ta_stats_unmap(&((stats_object *)self)->stats);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *stats_size(PyObject *type, PyObject *args)
{
    unsigned slots, routes;
    if (!PyArg_ParseTuple(args, "II:size", &slots, &routes))
        return NULL;
    return PyLong_FromSize_t(ta_stats_size(slots, routes));
}

/* -- slots ------------------------------------------------------------------------------------ */

static ta_stats_slot *slot_at(PyObject *self, unsigned slot)
{
    if (slot < stats_of(self)->slots)
        return ta_stats_slot_of(stats_of(self), slot);
    PyErr_SetString(PyExc_IndexError, "there is no such slot");
    return NULL;
}

static PyObject *claim(PyObject *self, PyObject *arg)
{
    unsigned long thread = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(ta_stats_claim(stats_of(self), (uint32_t)thread));
}

static PyObject *pid_of(PyObject *self, PyObject *arg)
{
    unsigned long number = PyLong_AsUnsignedLong(arg);
    ta_stats_slot *slot = PyErr_Occurred() ? NULL : slot_at(self, (unsigned)number);
    return slot ? PyLong_FromUnsignedLong(atomic_load_explicit(&slot->pid, memory_order_acquire))
                : NULL;
}

static PyObject *set_state(PyObject *self, PyObject *args)
{
    unsigned slot, state;
    if (!PyArg_ParseTuple(args, "II:set_state", &slot, &state))
        return NULL;
    ta_stats_slot *s = slot_at(self, slot);
    if (s == NULL)
        return NULL;
    atomic_store_explicit(&s->state, state, memory_order_relaxed);
    Py_RETURN_NONE;
}

static PyObject *retire(PyObject *self, PyObject *arg)
{
    unsigned long slot = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred())
        return NULL;
    if (slot == 0 || slot_at(self, (unsigned)slot) == NULL) {
        PyErr_SetString(PyExc_IndexError, "there is no such slot");
        return NULL;
    }
    ta_stats_retire(stats_of(self), (uint32_t)slot);
    Py_RETURN_NONE;
}

static PyObject *count_restart(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_stats_slot *kept = ta_stats_slot_of(stats_of(self), 0);
    ta_stat_add(&kept->values[TA_STAT_RESTARTS], 1);
    Py_RETURN_NONE;
}

/* -- reading ---------------------------------------------------------------------------------- */

static PyObject *numbers(const _Atomic uint64_t *values, unsigned n)
{
    PyObject *list = PyList_New(n);
    for (unsigned i = 0; list != NULL && i < n; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(ta_stat_get(&values[i]));
        if (number == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, number);
    }
    return list;
}

/* {status: count} */
static PyObject *statuses(const ta_stats_series *series)
{
    PyObject *found = PyDict_New();
    for (unsigned i = 0; found != NULL && i < TA_STATS_STATUSES; i++) {
        const ta_stats_status *s = &series->statuses[i];
        uint64_t n = ta_stat_get(&s->count);
        if (n == 0)
            continue;
        PyObject *key =
            PyLong_FromUnsignedLong(atomic_load_explicit(&s->status, memory_order_relaxed));
        PyObject *count = key ? PyLong_FromUnsignedLongLong(n) : NULL;
        if (count == NULL || PyDict_SetItem(found, key, count) < 0)
            Py_CLEAR(found);
        Py_XDECREF(key);
        Py_XDECREF(count);
    }
    return found;
}

static PyObject *route_text(const ta_stats *stats, const ta_stats_slot *slot,
                            const ta_stats_series *series)
{
    ta_str route = ta_stats_route(stats, slot, series);
    return PyUnicode_DecodeUTF8(route.ptr, (Py_ssize_t)route.len, "replace");
}

/* (route, method, {status: count}, [bucket, ...], ns) */
static PyObject *series_tuple(const ta_stats *stats, const ta_stats_slot *slot,
                              const ta_stats_series *s)
{
    size_t len = strnlen(s->method, sizeof s->method);
    return Py_BuildValue("(Ns#NNK)", route_text(stats, slot, s), s->method, (Py_ssize_t)len,
                         statuses(s), numbers(s->buckets, TA_STATS_BUCKETS),
                         (unsigned long long)ta_stat_get(&s->sum_ns));
}

static int append(PyObject *list, PyObject *item) /* steals item */
{
    int rc = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    return rc;
}

static PyObject *all_series(const ta_stats *stats, const ta_stats_slot *slot)
{
    uint32_t n = atomic_load_explicit(&slot->nseries, memory_order_acquire);
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < TA_MIN(n, stats->routes); i++)
        if (append(list, series_tuple(stats, slot, &slot->series[i])) < 0)
            Py_CLEAR(list);
    return list;
}

/* [(seconds, route or None, method or None), ...] */
static PyObject *in_flight(const ta_stats *stats, const ta_stats_slot *slot, uint64_t now)
{
    uint32_t n = atomic_load_explicit(&slot->nseries, memory_order_acquire);
    PyObject *list = PyList_New(0);
    for (unsigned i = 0; list != NULL && i < TA_STATS_SEATS; i++) {
        uint64_t began = ta_stat_get(&slot->seats[i].began);
        uint32_t number = atomic_load_explicit(&slot->seats[i].series, memory_order_relaxed);
        if (began == 0)
            continue;
        double age = began < now ? (double)(now - began) / 1e9 : 0.0;
        const ta_stats_series *s = number > 0 && number <= n ? &slot->series[number - 1] : NULL;
        PyObject *item = s ? Py_BuildValue("(dNs#)", age, route_text(stats, slot, s), s->method,
                                           (Py_ssize_t)strnlen(s->method, sizeof s->method))
                           : Py_BuildValue("(dOO)", age, Py_None, Py_None);
        if (append(list, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *read_slot(PyObject *self, PyObject *arg)
{
    unsigned long number = PyLong_AsUnsignedLong(arg);
    ta_stats_slot *slot = PyErr_Occurred() ? NULL : slot_at(self, (unsigned)number);
    if (slot == NULL)
        return NULL;
    uint32_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
    if (state == TA_STATS_FREE && number != 0)
        Py_RETURN_NONE;
    uint64_t now = ta_clock_ns(), ticked = ta_stat_get(&slot->ticked_ns);
    return Py_BuildValue(
        "{s:I,s:I,s:I,s:d,s:N,s:N,s:d,s:d,s:d,s:N,s:N}", "state", state, "pid", (unsigned)slot->pid,
        "thread", (unsigned)slot->thread, "since", (double)ta_stat_get(&slot->since) / 1e3,
        "values", numbers(slot->values, TA_STAT_COUNT), "lag", numbers(slot->lag, TA_STATS_BUCKETS),
        "lag_sum", (double)ta_stat_get(&slot->lag_sum_ns) / 1e9, "lag_last",
        (double)ta_stat_get(&slot->lag_last_ns) / 1e9, "silent",
        ticked && ticked < now ? (double)(now - ticked) / 1e9 : 0.0, "series",
        all_series(stats_of(self), slot), "in_flight", in_flight(stats_of(self), slot, now));
}

static PyMethodDef methods[] = {
    {"size", stats_size, METH_VARARGS | METH_STATIC,
     "size(slots, routes, /)\n--\n\nBytes of memory that are needed; 0: too many."},
    {"claim", claim, METH_O,
     "claim($self, thread, /)\n--\n\nTakes a free slot for this thread of the process; 0: there is "
     "none."},
    {"pid", pid_of, METH_O,
     "pid($self, slot, /)\n--\n\nThe process that has claimed a slot; 0: none."},
    {"set_state", set_state, METH_VARARGS,
     "set_state($self, slot, state, /)\n--\n\n1: starting, 2: ready, 3: draining."},
    {"retire", retire, METH_O,
     "retire($self, slot, /)\n--\n\nFrees a slot whose process has ended; slot 0 keeps what it "
     "counted.\nNot while another thread reads."},
    {"count_restart", count_restart, METH_NOARGS,
     "count_restart($self, /)\n--\n\nA worker has died."},
    {"read", read_slot, METH_O,
     "read($self, slot, /)\n--\n\nWhat a slot has, as a dict; None: it is free."},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Stats(fd, slots, routes)\n--\n\nCounters in memory that processes share; "
                "src/base/stats.h."},
    {Py_tp_new, stats_new},
    {Py_tp_dealloc, stats_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Stats",
    .basicsize = sizeof(stats_object),
    .flags = TA_TYPE_FLAGS,
    .slots = slots,
};

int ta_stats_object_init(PyObject *module, ta_state *st)
{
    PyObject *bounds = PyTuple_New(TA_STATS_BUCKETS - 1);
    for (unsigned i = 0; bounds != NULL && i < TA_STATS_BUCKETS - 1; i++) {
        PyObject *bound = PyFloat_FromDouble((double)ta_stats_bounds[i] / 1e9);
        if (bound == NULL)
            Py_CLEAR(bounds);
        else
            PyTuple_SET_ITEM(bounds, i, bound);
    }
    int rc = bounds ? PyModule_AddObjectRef(module, "STATS_BOUNDS", bounds) : -1;
    Py_XDECREF(bounds);
    if (rc < 0)
        return -1;
    return ta_types_add(module, &spec, "Stats", &ta_server_objects_of(st)->server.stats_type);
}
