/*
 * prefetch.h -- a synchronous iterator whose pieces are made in a thread, some of them ahead.
 *
 * Layer: py (L4).  A hop to the thread for each piece costs far more than most pieces.  So the
 * thread goes on until 64 pieces or 64 KiB wait to be taken; what is there is taken at once, be
 * the iterator quick or slow.  When others want a thread and none is free, it is given back after
 * the next piece (a slice of time at most), and the iterator waits for its turn behind them.
 * All functions are for the loop's thread.
 */
#ifndef TA_PY_LOOP_PREFETCH_H
#define TA_PY_LOOP_PREFETCH_H

#include "py/loop/thread_pool.h"

typedef struct ta_ahead ta_ahead;

/* New; takes a reference to the iterator, which only threads of the pool will touch. */
ta_ahead *ta_ahead_new(ta_loopstate *ls, PyObject *iterator);
/*
 * The next piece.  TA_DONE: *out is a new reference, or NULL: there is none any more; TA_WAITS:
 * *out is a new awaitable, ask again after it; TA_FAILED: the iterator's exception is set.
 */
ta_outcome ta_ahead_next(ta_ahead *a, PyObject **out);
/*
 * No more pieces are wanted: what it made is dropped, and the iterator is let go, in a thread once
 * it has begun, as what it does in the end may block.  A new awaitable for that; NULL: it is over,
 * or an exception.
 */
PyObject *ta_ahead_stop(ta_ahead *a);
/* The same, where no thread can be asked for (within a dealloc); and forgets `a`. */
void ta_ahead_drop(ta_ahead *a);

int ta_ahead_init(PyObject *module, ta_state *st);

#endif
