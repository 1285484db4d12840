/*
 * task_parking.c -- the Future-like that an idle Task of the pool waits for.
 *
 * Layer: py (L4).  asyncio uses what it uses of any Future: `_asyncio_future_blocking`, get_loop,
 * add_done_callback, result, and cancel.
 */
#include "py/loop/task_pool_int.h"

#include "py/support/types.h"

#include <structmember.h>

static PyObject *park_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *Py_UNUSED(kwnames))
{
    /* The context is not kept: the callback is a Task's wake-up, and its step enters ours. */
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback(fn, *, context=None)");
        return NULL;
    }
    Py_XSETREF(park_cast(self)->callback, Py_NewRef(args[0]));
    Py_RETURN_NONE;
}

static PyObject *park_result(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

static PyObject *park_get_loop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(park_cast(self)->aioloop ? park_cast(self)->aioloop : Py_None);
}

/*
 * The Task was cancelled as its coroutine ended (it calls this right after parking).  False: the
 * Task will throw into the trampoline at its next step, which is scheduled here.
 */
static PyObject *park_cancel(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ta_task_parking *park = park_cast(self);
    ta_trampoline *tramp = park->tramp;
    if (tramp != NULL && tramp->ls != NULL && park->callback != NULL) {
        ta_loop_state *ls = tramp->ls;
        PyObject *args[3] = {park->aioloop, park->callback, self};
        PyObject *handle = PyObject_VectorcallMethod(ls->st->names.call_soon, args, 3, NULL);
        if (handle == NULL)
            return NULL;
        Py_DECREF(handle);
        Py_CLEAR(park->callback);
        tramp->state = T_OVER;
        if (ta_list_linked(&tramp->node)) { /* ta_task_pool_start must not take it */
            ta_trampoline_list_take(tramp, &ls->nidle);
            Py_DECREF(tramp); /* the Task holds another one */
        }
    }
    Py_RETURN_FALSE;
}

static int park_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(park_cast(self)->callback);
    Py_VISIT(park_cast(self)->aioloop);
    return 0;
}

static int park_clear(PyObject *self)
{
    Py_CLEAR(park_cast(self)->callback);
    Py_CLEAR(park_cast(self)->aioloop);
    return 0;
}

static void park_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)park_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

enum { PARK_RESULT = 1 };

static PyMethodDef park_methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))park_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"result", park_result, METH_NOARGS, NULL},
    {"get_loop", park_get_loop, METH_NOARGS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))park_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL},
};

/*
 * Attributes by C strings: a Task that wakes up asks for result() in this way, and CPython would
 * make a string of the name and search the whole class for it each time.
 */
static PyObject *park_getattr(PyObject *self, char *name)
{
    if (strcmp(name, "result") == 0)
        return PyCFunction_New(&park_methods[PARK_RESULT], self);
    PyObject *key = PyUnicode_FromString(name);
    PyObject *value = key ? PyObject_GenericGetAttr(self, key) : NULL;
    Py_XDECREF(key);
    return value;
}

static PyMemberDef park_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(ta_task_parking, blocking), 0, NULL},
    {NULL},
};

static PyType_Slot park_slots[] = {
    {Py_tp_doc, "What an idle Task of the pool waits for."},
    {Py_tp_methods, park_methods},
    {Py_tp_members, park_members},
    {Py_tp_getattr, park_getattr},
    {Py_tp_getattro, PyObject_GenericGetAttr},
    {Py_tp_traverse, park_traverse},
    {Py_tp_clear, park_clear},
    {Py_tp_dealloc, park_dealloc},
    {0, NULL},
};

static PyType_Spec park_spec = {
    .name = "turboapi._core.Park",
    .basicsize = sizeof(ta_task_parking),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = park_slots,
};

ta_task_parking *ta_task_parking_new(ta_loop_state *ls)
{
    ta_task_parking *park =
        PyObject_GC_New(ta_task_parking, ta_loop_objects_of(ls->st)->task.parking_type);
    if (park == NULL)
        return NULL;
    park->callback = NULL;
    park->aioloop = Py_NewRef(ls->aioloop);
    park->blocking = 0;
    park->tramp = NULL;
    PyObject_GC_Track((PyObject *)park);
    return park;
}

void ta_task_parking_forget(ta_task_parking *park)
{
    (void)park_clear((PyObject *)park);
}

int ta_task_parking_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &park_spec, NULL, &ta_loop_objects_of(st)->task.parking_type);
}
