/*
 * call_stats.c -- see call_stats.h.
 *
 * A function without a closure is known by its code, as a new function object is made each time a
 * `lambda` or a nested `def` is reached.  What a function with a closure does depends on what it
 * closes over (every decorated function has the code of its decorator's wrapper), so that object
 * itself must prove quick.
 *
 * Layer: py (L4).
 */
#include "py/loop/call_stats.h"

#define CAPSULE "turboapi.callstat"

enum { MAX_KNOWN = 512 };

static void release(PyObject *capsule)
{
    ta_callstat_unref(PyCapsule_GetPointer(capsule, CAPSULE));
}

/* Borrowed; NULL: it is no function of Python's. */
static PyObject *key_of(PyObject *func)
{
    if (PyMethod_Check(func))
        func = PyMethod_GET_FUNCTION(func);
    if (!PyFunction_Check(func))
        return NULL;
    return PyFunction_GET_CLOSURE(func) != NULL ? func : PyFunction_GET_CODE(func);
}

static PyObject *add(ta_loop_state *ls, PyObject *key)
{
    ta_callstat *stat = ta_callstat_new();
    PyObject *capsule = stat ? PyCapsule_New(stat, CAPSULE, release) : NULL;
    if (capsule == NULL) {
        ta_callstat_unref(stat);
        return NULL;
    }
    if (PyDict_GET_SIZE(ls->call_stats) >= MAX_KNOWN)
        PyDict_Clear(ls->call_stats); /* code that is made anew all the time: so are its proofs */
    if (PyDict_SetItem(ls->call_stats, key, capsule) < 0)
        Py_CLEAR(capsule);
    return capsule;
}

ta_callstat *ta_call_stats_get(ta_loop_state *ls, PyObject *func)
{
    PyObject *key = key_of(func), *capsule = NULL;
    if (key == NULL)
        return NULL;
    if (ls->call_stats == NULL && (ls->call_stats = PyDict_New()) == NULL)
        goto error;
    if (PyDict_GetItemRef(ls->call_stats, key, &capsule) < 0)
        goto error;
    if (capsule == NULL && (capsule = add(ls, key)) == NULL)
        goto error;
    ta_callstat *stat = PyCapsule_GetPointer(capsule, CAPSULE);
    Py_DECREF(capsule); /* the dict has it */
    return stat;
error:
    PyErr_Clear();
    return NULL;
}
