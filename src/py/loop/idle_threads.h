/*
 * idle_threads.h -- what anyio takes for its idle worker threads, on our event loop.
 *
 * Layer: py/loop.
 */
#ifndef TA_PY_LOOP_IDLE_THREADS_H
#define TA_PY_LOOP_IDLE_THREADS_H

#include "py/loop/loop_objects.h"

int ta_idle_threads_init(PyObject *module, ta_state *st);

#endif
