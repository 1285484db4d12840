/*
 * prefetch.h -- a synchronous iterator whose chunks are made in a thread, some of them ahead.
 *
 * Layer: py (L4).  A switch to the thread per chunk costs far more than most chunks.  The thread
 * therefore continues until 64 chunks or 64 KiB wait to be taken; what is there is taken at once,
 * whether the iterator is quick or slow.  When others want a thread and none is free, it is given
 * back after the next chunk (after a slice of time at most), and the iterator waits for its turn
 * behind them. All functions are for the loop's thread.
 */
#ifndef TA_PY_LOOP_PREFETCH_H
#define TA_PY_LOOP_PREFETCH_H

#include "py/loop/thread_pool.h"

typedef struct ta_prefetch ta_prefetch;

/* New; takes a reference to the iterator, which only threads of the pool will touch. */
ta_prefetch *ta_prefetch_new(ta_loop_state *ls, PyObject *iterator);
/*
 * The next piece.  TA_DONE: *out is a new reference, or NULL: there is none any more; TA_WAITS:
 * *out is a new awaitable, ask again after it; TA_FAILED: the iterator's exception is set.
 */
ta_outcome ta_prefetch_next(ta_prefetch *prefetch, PyObject **out);
/*
 * Declares that no more chunks are wanted: drops what was made and ends the iterator, in a thread
 * if it has begun, as its end may block.  Returns a new awaitable for that; NULL: it is over, or an
 * exception.
 */
PyObject *ta_prefetch_stop(ta_prefetch *prefetch);
/* The same where no thread can be requested (within a dealloc); frees `a`. */
void ta_prefetch_drop(ta_prefetch *prefetch);

int ta_prefetch_init(PyObject *module, ta_state *st);

#endif
