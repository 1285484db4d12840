/*
 * guards.h -- what must not have been replaced for a fast path to be right.
 *
 * Layer: py/support.  A guard is an entry of a namespace (a module's, an instance's) and the object
 * that was there when the fast path was prepared.  To look at all of them costs one comparison
 * where CPython tells of changes of dicts (3.12, with the GIL), and a search in a dict for each
 * elsewhere.
 */
#ifndef TA_PY_SUPPORT_GUARDS_H
#define TA_PY_SUPPORT_GUARDS_H

#include "py/support/py_compat.h"

typedef struct ta_guards ta_guards;

/*
 * `spec` is a tuple of (namespace: dict, name: str, object).  A new object, or NULL with TypeError.
 * Threads share it.
 */
ta_guards *ta_guards_new(PyObject *spec);
void ta_guards_free(ta_guards *guards);                                      /* NULL: no-op */
int ta_guards_traverse(const ta_guards *guards, visitproc visit, void *arg); /* NULL: no-op */
/* Returns whether all of them are there still.  Sets no exception. */
bool ta_guards_hold(ta_guards *guards); /* NULL: true */

#endif
