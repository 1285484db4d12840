/*
 * types.c -- heap types and imports for the init functions.
 *
 * Layer: py/support.
 */
#include "py/support/types.h"

#ifdef Py_GIL_DISABLED
/*
 * Each instance counts as a reference to its type, and each request makes some, in every thread:
 * the count would go from one processor's cache to the other all the time.  CPython makes classes
 * that were defined in Python immortal for that, and this does what it does.
 * (PyUnstable_SetImmortal comes with 3.15.)
 */
static void make_immortal(PyObject *type)
{
    TA_ASSERT(type->ob_tid == (uintptr_t)_Py_ThreadId()); /* nobody else has seen it */
    PyObject_GC_UnTrack(type);
    type->ob_tid = 0;
    type->ob_ref_local = UINT32_MAX;
    type->ob_ref_shared = 0;
}
#endif

int ta_types_add(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **out)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL)
        return -1;
    *out = (PyTypeObject *)type;
#ifdef Py_GIL_DISABLED
    make_immortal(type);
#endif
    if (name != NULL && PyModule_AddObjectRef(module, name, type) < 0)
        return -1; /* *out is owned by the state, which is cleared */
    return 0;
}

PyObject *ta_types_call_by_tuple(ternaryfunc call, PyObject *self, PyObject *const *args,
                                 size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf),
               nkwargs = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    PyObject *tuple = PyTuple_New(nargs), *kwargs = nkwargs > 0 ? PyDict_New() : NULL;
    PyObject *res = NULL;
    if (tuple == NULL || (nkwargs > 0 && kwargs == NULL))
        goto done;
    for (Py_ssize_t i = 0; i < nargs; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; i < nkwargs; i++)
        if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0)
            goto done;
    res = call(self, tuple, kwargs);
done:
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return res;
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
