/*
 * future.h -- `_core.Waiter`: a light future, done by C and awaited by one Task (or more).
 *
 * Layer: py (L4).  asyncio takes it for a Future (`asyncio.isfuture`, wait_for, shield, gather).
 * When it is done inside a batch while no Task is current, its callbacks run at once; else by
 * call_soon.
 */
#ifndef TA_PY_LOOP_FUTURE_H
#define TA_PY_LOOP_FUTURE_H

#include "py/loop/loop_state.h"

typedef struct ta_future ta_future;

/* `cancel` (may be NULL) is told that somebody cancelled it: not from within set_*. */
ta_future *ta_future_new(ta_loop_state *ls, void (*cancel)(void *arg), void *arg);
/* Forgets `cancel`: its arg is about to die. */
void ta_future_detach(ta_future *future);
bool ta_future_done(const ta_future *future);
/* Both do nothing when it is done already.  result: borrowed.  exc: steals. */
void ta_future_set_result(ta_future *future, PyObject *result);
void ta_future_set_exception(ta_future *future, PyObject *exc);

int ta_future_init(PyObject *module, ta_state *st);

#endif
