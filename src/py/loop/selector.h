/*
 * selector.h -- `_core.Selector`: hosts our ta_loop inside a standard asyncio loop.
 *
 * Layer: py (L4).  See docs/loop.md.
 */
#ifndef TA_PY_LOOP_SELECTOR_H
#define TA_PY_LOOP_SELECTOR_H

#include "py/loop/loop_state.h"

/* The loopstate in a Selector; NULL with TypeError for anything else.  Borrowed from `selector`. */
ta_loop_state *ta_selector_state_of(ta_state *st, PyObject *selector);
/* Any thread: makes select() return, for what was made ready on a loop of ours just now.  False:
 * not a Selector, or closed. */
bool ta_selector_lag_kick(ta_state *st, PyObject *selector);

int ta_selector_init(PyObject *module, ta_state *st);

#endif
