/*
 * pending.h -- what the interpreter has for a thread to do while that runs C only.
 *
 * Layer: py/support.  Without the GIL, an object whose last reference another thread dropped is
 * freed by the thread that made it (PEP 703).  That thread does so between two instructions of
 * bytecode, as it runs signal handlers and whatever else is pending.  A loop of ours that executes
 * no bytecode (each handler runs in another thread; a response is a stream in C) would never free
 * it, and has to ask here.
 */
#ifndef TA_PY_SUPPORT_PENDING_H
#define TA_PY_SUPPORT_PENDING_H

#include "py/support/state.h"

/*
 * Does what is pending for the calling thread, which must be attached: destructors may run, and
 * through them any Python code.  0, or -1 with an exception, which is one that the thread was sent.
 */
TA_MUST_CHECK static inline int ta_pending_run(ta_state *st);

#ifdef Py_GIL_DISABLED
int ta_pending_do(ta_state *st); /* pending.c */
#endif

static inline int ta_pending_run(ta_state *st)
{
#ifdef Py_GIL_DISABLED
    /* The low byte has a bit for each thing; the others tell of instrumentation. */
    uintptr_t *breaker = &PyThreadState_Get()->eval_breaker;
    if (TA_UNLIKELY((__atomic_load_n(breaker, __ATOMIC_RELAXED) & 0xff) != 0))
        return ta_pending_do(st);
#endif
    (void)st;
    return 0;
}

int ta_pending_init(PyObject *module, ta_state *st);

#endif
