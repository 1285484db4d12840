/*
 * gc_time.c -- see gc_time.h.
 *
 * gc.callbacks is told before and after each collection, by the thread that collects.  The entry
 * there keeps only the two numbers alive, not the module: it stays until the interpreter ends.
 *
 * Layer: py/loop.
 */
#include "py/loop/gc_time.h"

#include <time.h>

#include "py/support/types.h"

#define CAPSULE "turboapi.gc_time"

static PyObject *told(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    ta_gc_time *gc = PyCapsule_GetPointer(self, CAPSULE);
    if (gc == NULL)
        return NULL;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t now = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    if (nargs > 0 && PyUnicode_Check(args[0]) &&
        PyUnicode_CompareWithASCIIString(args[0], "start") == 0) {
        atomic_store_explicit(&gc->begun, now, memory_order_release);
        Py_RETURN_NONE;
    }
    int64_t begun = atomic_exchange_explicit(&gc->begun, 0, memory_order_acq_rel);
    if (begun != 0)
        atomic_fetch_add_explicit(&gc->total, now - begun, memory_order_acq_rel);
    Py_RETURN_NONE;
}

static void release(PyObject *capsule)
{
    PyMem_RawFree(PyCapsule_GetPointer(capsule, CAPSULE));
}

static PyMethodDef told_def = {
    "_turboapi_gc_time",
    (PyCFunction)(void (*)(void))told,
    METH_FASTCALL,
    "Notes how long the garbage collector takes.",
};

ta_gc_time *ta_gc_time_of(ta_state *st)
{
    ta_gc_time *gc = PyCapsule_GetPointer(ta_loop_objects_of(st)->pool.gc_time, CAPSULE);
    TA_ASSERT(gc != NULL);
    return gc;
}

int ta_gc_time_init(PyObject *Py_UNUSED(module), ta_state *st)
{
    ta_gc_time *gc = PyMem_RawCalloc(1, sizeof *gc);
    PyObject *capsule = gc ? PyCapsule_New(gc, CAPSULE, release) : PyErr_NoMemory();
    if (capsule == NULL) {
        PyMem_RawFree(gc);
        return -1;
    }
    ta_loop_objects_of(st)->pool.gc_time = capsule;
    PyObject *callbacks = ta_types_import("gc", "callbacks");
    PyObject *func = callbacks ? PyCFunction_NewEx(&told_def, capsule, NULL) : NULL;
    int rc = func ? PyList_Append(callbacks, func) : -1;
    Py_XDECREF(func);
    Py_XDECREF(callbacks);
    return rc;
}
