/*
 * spares.h -- the memory of objects that were freed, for the next ones of their type.
 *
 * Layer: py/support.  A request makes and frees the same few objects, each of which would pass
 * through CPython's allocator.  On free-threaded builds nothing is kept.
 */
#ifndef TA_PY_SUPPORT_SPARES_H
#define TA_PY_SUPPORT_SPARES_H

#include "py/support/state.h"

enum { TA_SPARES_MAX = 128 };

/* An object, so that the module's state can own it.  All members are private. */
typedef struct ta_spares {
    PyObject_HEAD
    PyTypeObject *kind; /* owned */
    unsigned count;
    PyObject *items[TA_SPARES_MAX]; /* owned: finalized, so they are no objects any more */
} ta_spares;

/* For objects of `kind`, a type of ours that has a GC header and no subclass nor items of its own.
 * A new ta_spares, or NULL with an exception. */
PyObject *ta_spares_new(ta_state *st, PyTypeObject *kind);

/* As PyObject_GC_New of that type: not tracked, and not initialized behind its head. */
static inline PyObject *ta_spares_take(PyObject *spares)
{
    ta_spares *self = (ta_spares *)spares;
#ifndef Py_GIL_DISABLED
    if (TA_LIKELY(self->count > 0))
        return PyObject_Init(self->items[--self->count], self->kind);
#endif
    return PyObject_GC_New(PyObject, self->kind);
}

/* As PyObject_GC_Del of an object that was taken; spares: NULL once the module was cleared. */
static inline void ta_spares_give(PyObject *spares, PyObject *finalized)
{
    ta_spares *self = (ta_spares *)spares;
#ifndef Py_GIL_DISABLED
    if (TA_LIKELY(self != NULL && self->count < TA_SPARES_MAX)) {
        self->items[self->count++] = finalized;
        return;
    }
#endif
    (void)self;
    PyObject_GC_Del(finalized);
}

int ta_spares_init(PyObject *module, ta_state *st);

#endif
