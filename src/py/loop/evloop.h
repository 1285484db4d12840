/*
 * evloop.h -- turboapi's event loop: asyncio's, with queues, handles and iterations in C.
 *
 * Layer: py (L4).  `turboapi.loop.EventLoop` is a class on `_core.LoopBase` (here) and
 * `asyncio.SelectorEventLoop`: what is not overridden here is asyncio's own code, Futures and
 * Tasks are CPython's.  See docs/loop.md.
 */
#ifndef TA_PY_LOOP_EVLOOP_H
#define TA_PY_LOOP_EVLOOP_H

#include "py/loop/loop_objects.h"

typedef struct ta_evloop ta_evloop;

/* The loop as a ta_evloop (borrowed), or NULL when it is some other kind of loop. */
static inline ta_evloop *ta_evloop_of(ta_state *st, PyObject *aioloop)
{
    return PyObject_TypeCheck(aioloop, ta_loop_objects_of(st)->evloop.type) ? (ta_evloop *)aioloop
                                                                            : NULL;
}

/* Returns whether asyncio's own code runs it, because something of that was replaced. */
bool ta_evloop_is_plain(const ta_evloop *loop);
/* Returns how many timers were ever scheduled. */
uint64_t ta_evloop_timers(ta_evloop *loop);
/*
 * Returns whether a select() that may block must return: because of ready callbacks, a timer that
 * was scheduled after `timers` of them were, or stop().
 */
bool ta_evloop_has_news(ta_evloop *loop, uint64_t timers);

int ta_handle_init(PyObject *module, ta_state *st);
int ta_evloop_init(PyObject *module, ta_state *st);

#endif
