/*
 * thread_token.h -- what anyio.from_thread needs in a worker thread.
 *
 * Layer: py/loop.
 */
#ifndef TA_PY_LOOP_THREAD_TOKEN_H
#define TA_PY_LOOP_THREAD_TOKEN_H

#include "py/loop/loop_objects.h"

/*
 * Stands for anyio's EventLoopToken in a worker thread (anyio.from_thread reads these two
 * attributes), and notes that it was used: such a function must stay in its thread.
 */
typedef struct ta_thread_token {
    PyObject_HEAD
    PyObject *backend; /* owned */
    PyObject *loop;    /* owned */
    bool used;
} ta_thread_token;

/*
 * A new token for the thread that runs, set where anyio looks for it.  NULL without anyio, or when
 * that failed (which is reported); no exception is set.
 */
ta_thread_token *ta_thread_token_new(ta_state *st, PyObject *aioloop);

int ta_thread_token_init(PyObject *module, ta_state *st);

#endif
