/*
 * types.c -- heap types and imports for the init functions.
 *
 * Layer: py/support.
 */
#include "py/support/types.h"

int ta_types_add(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **out)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL)
        return -1;
    *out = (PyTypeObject *)type;
    if (name != NULL && PyModule_AddObjectRef(module, name, type) < 0)
        return -1; /* *out is owned by the state, which is cleared */
    return 0;
}

PyObject *ta_types_import(const char *module, const char *attr)
{
    PyObject *mod = PyImport_ImportModule(module);
    if (mod == NULL)
        return NULL;
    PyObject *res = PyObject_GetAttrString(mod, attr);
    Py_DECREF(mod);
    return res;
}

int ta_types_import_optional(const char *module, const char *attr, PyObject **out)
{
    *out = ta_types_import(module, attr);
    if (*out != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_ImportError) && !PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}
