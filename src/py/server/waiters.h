/*
 * waiters.h -- those who wait for the same thing: input, or room for output.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_SERVER_WAITERS_H
#define TA_PY_SERVER_WAITERS_H

#include "py/loop/future.h"

/* Each has a waiter of its own, as one may be cancelled. */
typedef struct ta_waiters {
    ta_future *first; /* owned */
    PyObject *more;   /* owned list, or NULL */
} ta_waiters;

/* A new waiter among them: two references, one for the caller. */
PyObject *ta_waiters_add(ta_waiters *waiters, ta_loop_state *ls);
void ta_waiters_wake(ta_waiters *waiters); /* and forget all */
int ta_waiters_traverse(ta_waiters *waiters, visitproc visit, void *arg);
void ta_waiters_clear(ta_waiters *waiters);

#endif
