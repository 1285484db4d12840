/*
 * py_compat.h -- one Python API for 3.11 to 3.14, with the GIL and without.
 *
 * Layer: py (L4).  Includes Python.h: every file of this folder includes this (through state.h)
 * before anything else.  What newer versions have is defined here for older ones under CPython's
 * own name, with CPython's semantics.
 */
#ifndef TA_PY_SUPPORT_PY_COMPAT_H
#define TA_PY_SUPPORT_PY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/ta_base.h"

#if PY_VERSION_HEX < 0x030B0000
#error "TurboAPI needs Python 3.11 or newer"
#endif

/* PyIter_Send and am_send are there since 3.10. */

#if PY_VERSION_HEX < 0x030C0000 /* 3.11 */

static inline PyObject *PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
        Py_DECREF(tb);
    }
    Py_DECREF(type);
    return value;
}

static inline PyObject *PyType_GetDict(PyTypeObject *type)
{
    return Py_XNewRef(type->tp_dict);
}

/* Steals exc. */
static inline void PyErr_SetRaisedException(PyObject *exc)
{
    PyObject *type = Py_NewRef((PyObject *)Py_TYPE(exc));
    PyErr_Restore(type, exc, PyException_GetTraceback(exc));
}

#endif

#if PY_VERSION_HEX < 0x030D0000 /* 3.11, 3.12 */

#define Py_BEGIN_CRITICAL_SECTION(op)    {
#define Py_END_CRITICAL_SECTION()        }
#define Py_BEGIN_CRITICAL_SECTION2(a, b) {
#define Py_END_CRITICAL_SECTION2()       }

/* 1: *result is a new reference; 0: absent, *result is NULL; -1: exception, *result is NULL. */
static inline int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result)
{
    PyObject *item = PyDict_GetItemWithError(dict, key);
    if (item != NULL) {
        *result = Py_NewRef(item);
        return 1;
    }
    *result = NULL;
    return PyErr_Occurred() ? -1 : 0;
}

static inline int PyDict_GetItemStringRef(PyObject *dict, const char *key, PyObject **result)
{
    PyObject *name = PyUnicode_FromString(key);
    *result = NULL;
    int rc = name ? PyDict_GetItemRef(dict, name, result) : -1;
    Py_XDECREF(name);
    return rc;
}

static inline PyObject *PyList_GetItemRef(PyObject *list, Py_ssize_t index)
{
    return Py_XNewRef(PyList_GetItem(list, index));
}

/* 1: alive, *result is a new reference; 0: dead; -1: not a weak reference. */
static inline int PyWeakref_GetRef(PyObject *ref, PyObject **result)
{
    PyObject *obj = PyWeakref_GetObject(ref);
    if (obj == NULL) {
        *result = NULL;
        return -1;
    }
    if (obj == Py_None) {
        *result = NULL;
        return 0;
    }
    *result = Py_NewRef(obj);
    return 1;
}

/* 1: found; 0: no such attribute (no exception); -1: exception. */
static inline int PyObject_GetOptionalAttr(PyObject *obj, PyObject *name, PyObject **result)
{
    *result = PyObject_GetAttr(obj, name);
    if (*result != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}

static inline int PyObject_GetOptionalAttrString(PyObject *obj, const char *name, PyObject **result)
{
    *result = PyObject_GetAttrString(obj, name);
    if (*result != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* Steals value, also on failure. */
static inline int PyModule_Add(PyObject *module, const char *name, PyObject *value)
{
    int rc = PyModule_AddObjectRef(module, name, value);
    Py_XDECREF(value);
    return rc;
}

static inline int PyUnicode_EqualToUTF8AndSize(PyObject *unicode, const char *str, Py_ssize_t len)
{
    Py_ssize_t n;
    const char *s = PyUnicode_AsUTF8AndSize(unicode, &n);
    if (s == NULL) { /* lone surrogates: equal to no UTF-8 text */
        PyErr_Clear();
        return 0;
    }
    return n == len && memcmp(s, str, (size_t)n) == 0;
}

static inline void PyErr_FormatUnraisable(const char *format, ...)
{
    (void)format; /* older versions report the object alone */
    PyErr_WriteUnraisable(NULL);
}

#endif

/*
 * Round code that may run Python where an exception may be set, as in a destructor:
 *     PyObject *exc = PyErr_GetRaisedException();
 *     ...
 *     ta_exc_restore(exc);
 * Steals exc, which may be NULL.
 */
static inline void ta_exc_restore(PyObject *exc)
{
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
}

/* What a type's method resolution order has under a name, unbound: a new reference, or NULL
 * without exception.
 */
static inline PyObject *ta_type_lookup(PyTypeObject *type, PyObject *name)
{
#if PY_VERSION_HEX >= 0x030D0000
    return _PyType_LookupRef(type, name);
#else
    return Py_XNewRef(_PyType_Lookup(type, name));
#endif
}

/* Whether asyncio keeps its Tasks in a linked list (3.14) instead of a WeakSet. */
#define TA_ALL_TASKS_LINKED (PY_VERSION_HEX >= 0x030E0000)

/* StopIteration(value), as a coroutine that returned it raises. */
static inline void ta_set_stop_iteration(PyObject *value)
{
    if (Py_IsNone(value)) {
        PyErr_SetNone(PyExc_StopIteration);
        return;
    }
    /* Made here: PyErr_SetObject would unpack a tuple, and raise an exception instead of wrapping
     * it.
     */
    PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (exc != NULL) {
        PyErr_SetObject(PyExc_StopIteration, exc);
        Py_DECREF(exc);
    }
}

/* Slots that say what the module can do; put TA_MODULE_SLOTS before the terminating {0, NULL}. */
#if PY_VERSION_HEX >= 0x030D0000
#define TA_SLOT_GIL {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#else
#define TA_SLOT_GIL
#endif
#if PY_VERSION_HEX >= 0x030C0000
/* Not supported until a sub-interpreter test passes. */
#define TA_SLOT_INTERPRETERS                                                                       \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#else
#define TA_SLOT_INTERPRETERS
#endif
#define TA_MODULE_SLOTS TA_SLOT_GIL TA_SLOT_INTERPRETERS

/* Types whose state lives in C only and whose class attributes must not change. */
#define TA_TYPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE)

#endif
