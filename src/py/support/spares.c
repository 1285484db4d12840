/* spares.c -- the memory of objects that were freed, for the next ones.  See spares.h. */
#include "py/support/spares.h"

#include "py/support/types.h"

PyObject *ta_spares_new(ta_state *st, PyTypeObject *kind)
{
    ta_spares *self = PyObject_GC_New(ta_spares, st->spares.type);
    if (self == NULL)
        return NULL;
    self->kind = (PyTypeObject *)Py_NewRef((PyObject *)kind);
    self->count = 0;
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

static int spares_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((ta_spares *)obj)->kind);
    return 0;
}

/* There is no tp_clear: the module's state breaks the cycle, and the memory needs its type. */
static void spares_dealloc(PyObject *obj)
{
    ta_spares *self = (ta_spares *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    while (self->count > 0)
        PyObject_GC_Del(self->items[--self->count]); /* asks what its type is */
    Py_DECREF(self->kind);
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_traverse, spares_traverse},
    {Py_tp_dealloc, spares_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Spares",
    .basicsize = sizeof(ta_spares),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_spares_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, NULL, &st->spares.type);
}
