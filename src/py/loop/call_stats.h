/*
 * call_stats.h -- what is known about functions that no plan has a node for: handlers of
 * exceptions, background tasks.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_LOOP_CALL_STATS_H
#define TA_PY_LOOP_CALL_STATS_H

#include "py/loop/thread_pool.h"

/*
 * What inline_promotion.c knows about a function on this loop; borrowed until the next call.  NULL,
 * without an exception: it must always run in a thread.
 */
ta_callstat *ta_call_stats_get(ta_loop_state *ls, PyObject *func);

#endif
