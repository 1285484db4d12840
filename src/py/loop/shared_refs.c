/*
 * shared_refs.c -- references to objects that the threads of several loops use all the time.
 *
 * Layer: py/loop.  Without a GIL a reference count has a part of the thread that made the object,
 * and one for all others, which is changed atomically.  Plans and Apps are made once and used by
 * each request: those two words would go from one processor's cache to the other several times a
 * request.  So each loop has a holder for each of them, made on its own thread: a tuple of one.
 * A request refers to the holder.
 */
#include "py/loop/shared_refs.h"

#ifdef Py_GIL_DISABLED

/* How many places are looked at, beginning with an object's own. */
enum { PROBES = 4 };

static unsigned place_of(const PyObject *obj)
{
    uint64_t mixed = (uint64_t)(uintptr_t)obj * UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned)(mixed >> 32) % TA_LOOP_HOLDERS;
}

PyObject *ta_shared_refs_hold(ta_loop_state *ls, PyObject *obj)
{
    if (ls == NULL || !ls->in_batch || ls->owner != PyThread_get_thread_ident())
        return Py_NewRef(obj);
    unsigned first = place_of(obj);
    PyObject **place = &ls->holders[first];
    for (unsigned i = 0; i < PROBES; i++) {
        PyObject **at = &ls->holders[(first + i) % TA_LOOP_HOLDERS];
        if (TA_LIKELY(*at != NULL && PyTuple_GET_ITEM(*at, 0) == obj))
            return Py_NewRef(*at);
        if (*at == NULL) {
            place = at;
            break;
        }
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *holder = PyTuple_Pack(1, obj), *old = *place;
    if (holder == NULL)
        PyErr_Clear();
    PyErr_SetRaisedException(exc);
    if (holder == NULL)
        return Py_NewRef(obj);
    *place = Py_NewRef(holder);
    Py_XDECREF(old); /* last: it may be the end of an application */
    return holder;
}

void ta_shared_refs_clear(ta_loop_state *ls)
{
    for (unsigned i = 0; i < TA_LOOP_HOLDERS; i++)
        Py_CLEAR(ls->holders[i]);
}

int ta_shared_refs_traverse(ta_loop_state *ls, visitproc visit, void *arg)
{
    for (unsigned i = 0; i < TA_LOOP_HOLDERS; i++)
        Py_VISIT(ls->holders[i]);
    return 0;
}

#else
typedef int ta_shared_refs_unused; /* a translation unit must not be empty */
#endif
