/*
 * call_queue.h -- calls in threads whose results become those of asyncio Futures: what
 * run_in_executor() and anyio.to_thread are made of on our event loop.
 *
 * Layer: py/loop.  See docs/loop.md, "Threads of the loop".
 */
#ifndef TA_PY_LOOP_CALL_QUEUE_H
#define TA_PY_LOOP_CALL_QUEUE_H

#include "py/loop/loop_state.h"

typedef struct ta_call_queue ta_call_queue;

/* What is to be called; all borrowed. */
typedef struct ta_call_spec {
    PyObject *future; /* takes the result; a cancelled one's call is not made */
    PyObject *func;
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *context; /* to call it in, or NULL: that of the thread */
    PyObject *scope;   /* anyio's cancel scope, for its check_cancelled(), or NULL: not anyio's */
} ta_call_spec;

/* On the loop's thread.  1: it is queued; 0: the queue is not open; -1 with an exception. */
TA_MUST_CHECK int ta_call_queue_call(ta_call_queue *queue, const ta_call_spec *spec);
/* On the loop's thread: returns whether calls get back to the loop. */
bool ta_call_queue_is_open(ta_call_queue *queue);
/* The loop ends: threads do, once they have done what is queued; nobody takes its results. */
void ta_call_queue_shut_all(ta_loop_state *ls);

int ta_call_queue_init(PyObject *module, ta_state *st);

#endif
