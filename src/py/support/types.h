/*
 * types.h -- makes heap types, imports what Python's modules have: for the init functions mostly.
 *
 * Layer: py/support.
 */
#ifndef TA_PY_SUPPORT_TYPES_H
#define TA_PY_SUPPORT_TYPES_H

#include "base/ta_base.h"
#include "py/support/py_compat.h"

/*
 * Makes a heap type of the module and, with `name`, adds it there.  *out is owned by the caller,
 * even when adding failed.  0, or -1 with an exception.
 */
TA_MUST_CHECK int ta_types_add(PyObject *module, PyType_Spec *spec, const char *name,
                               PyTypeObject **out);
/* What a vectorcall leaves to a tp_call: calls that with a tuple and a dict of the arguments. */
PyObject *ta_types_call_by_tuple(ternaryfunc call, PyObject *self, PyObject *const *args,
                                 size_t nargsf, PyObject *kwnames);
/* module.attr: a new reference, or NULL with an exception. */
PyObject *ta_types_import(const char *module, const char *attr);
/* The same of what need not be there: 1 and *out; 0: no such module or attribute; -1. */
TA_MUST_CHECK int ta_types_import_optional(const char *module, const char *attr, PyObject **out);

#endif
