/* attributes.c -- see attributes.h. */
#include "py/support/attributes.h"

int ta_attributes_check(PyObject *guards)
{
    bool good = PyTuple_CheckExact(guards);
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(guards); i++) {
        PyObject *guard = PyTuple_GET_ITEM(guards, i);
        good = PyTuple_CheckExact(guard) && PyTuple_GET_SIZE(guard) == 3 &&
               PyUnicode_Check(PyTuple_GET_ITEM(guard, 1));
    }
    if (!good)
        PyErr_SetString(PyExc_TypeError, "guards must be tuples (owner, name, value)");
    return good ? 0 : -1;
}

bool ta_attributes_hold(PyObject *guards)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(guards); i++) {
        PyObject *guard = PyTuple_GET_ITEM(guards, i);
        PyObject *now = PyObject_GetAttr(PyTuple_GET_ITEM(guard, 0), PyTuple_GET_ITEM(guard, 1));
        if (now == NULL)
            PyErr_Clear();
        Py_XDECREF(now);
        if (now != PyTuple_GET_ITEM(guard, 2))
            return false;
    }
    return true;
}

static PyObject *attributes_hold(PyObject *Py_UNUSED(module), PyObject *guards)
{
    return ta_attributes_check(guards) < 0 ? NULL : PyBool_FromLong(ta_attributes_hold(guards));
}

static PyMethodDef functions[] = {
    {"attributes_hold", attributes_hold, METH_O,
     "attributes_hold($module, guards, /)\n--\n\n"
     "Whether getattr(owner, name) is value for each (owner, name, value)."},
    {NULL},
};

int ta_attributes_init(PyObject *module, ta_state *Py_UNUSED(st))
{
    return PyModule_AddFunctions(module, functions);
}
