/* guards.c -- what must not have been replaced for a fast path to be right.  See guards.h. */
#include "py/support/guards.h"

#include "base/mem.h"

typedef struct guard {
    PyObject *space, *name, *object; /* owned */
} guard;

struct ta_guards {
    size_t n;
    guard items[];
};

ta_guards *ta_guards_new(PyObject *spec)
{
    size_t n = (size_t)PyTuple_GET_SIZE(spec);
    ta_guards *guards = ta_calloc(1, sizeof *guards + n * sizeof *guards->items);
    if (guards == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (; guards->n < n; guards->n++) {
        PyObject *space, *name, *object;
        PyObject *item = PyTuple_GET_ITEM(spec, (Py_ssize_t)guards->n);
        if (!PyTuple_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "guards: tuples expected");
            goto error;
        }
        if (!PyArg_ParseTuple(item, "O!UO:guard", &PyDict_Type, &space, &name, &object))
            goto error;
        guards->items[guards->n] = (guard){Py_NewRef(space), Py_NewRef(name), Py_NewRef(object)};
    }
    return guards;
error:
    ta_guards_free(guards);
    return NULL;
}

void ta_guards_free(ta_guards *guards)
{
    if (guards == NULL)
        return;
    for (size_t i = 0; i < guards->n; i++) {
        Py_DECREF(guards->items[i].space);
        Py_DECREF(guards->items[i].name);
        Py_DECREF(guards->items[i].object);
    }
    ta_free(guards);
}

int ta_guards_traverse(const ta_guards *guards, visitproc visit, void *arg)
{
    for (size_t i = 0; guards != NULL && i < guards->n; i++) {
        Py_VISIT(guards->items[i].space);
        Py_VISIT(guards->items[i].name);
        Py_VISIT(guards->items[i].object);
    }
    return 0;
}

bool ta_guards_hold(const ta_guards *guards)
{
    for (size_t i = 0; guards != NULL && i < guards->n; i++) {
        const guard *item = &guards->items[i];
        PyObject *found = NULL;
        if (PyDict_GetItemRef(item->space, item->name, &found) < 0)
            PyErr_Clear();
        Py_XDECREF(found); /* compared only */
        if (found != item->object)
            return false;
    }
    return true;
}
