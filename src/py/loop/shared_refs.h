/*
 * shared_refs.h -- references to objects that the threads of several loops use all the time.
 *
 * Layer: py/loop.
 */
#ifndef TA_PY_LOOP_SHARED_REFS_H
#define TA_PY_LOOP_SHARED_REFS_H

#include "py/loop/loop_state.h"

#ifdef Py_GIL_DISABLED
/*
 * Keeps `obj` alive for a request of this loop: a new reference to obj itself, or to something of
 * the loop's thread that has a reference to it.  Never NULL.
 */
PyObject *ta_shared_refs_hold(ta_loop_state *ls, PyObject *obj);
/* The loop is closed. */
void ta_shared_refs_clear(ta_loop_state *ls);
int ta_shared_refs_traverse(ta_loop_state *ls, visitproc visit, void *arg);
#else
static inline PyObject *ta_shared_refs_hold(ta_loop_state *Py_UNUSED(ls), PyObject *obj)
{
    return Py_NewRef(obj);
}

static inline void ta_shared_refs_clear(ta_loop_state *Py_UNUSED(ls))
{
}

static inline int ta_shared_refs_traverse(ta_loop_state *Py_UNUSED(ls), visitproc Py_UNUSED(visit),
                                          void *Py_UNUSED(arg))
{
    return 0;
}
#endif

#endif
