/*
 * task_pool.h -- runs coroutines inside pooled asyncio Tasks; see docs/loop.md.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_LOOP_TASK_POOL_H
#define TA_PY_LOOP_TASK_POOL_H

#include "py/loop/loop_state.h"
#include "py/support/outcome.h"

/*
 * The coroutine ended: `result` (borrowed), or NULL with the exception set.  Called in the Task, in
 * the request's context.  Returns
 *   TA_DONE    the end (the exception that it was called with is cleared by the caller),
 *   TA_WAITS   *next is a new coroutine that goes on in the same Task and context; `done` comes
 *              again,
 *   TA_FAILED  the exception that is set leaves the Task.
 */
typedef ta_outcome (*ta_task_pool_done)(void *arg, PyObject *result, PyObject **next);

/*
 * Runs `coro` (steals; anything with am_send, or send/throw) with a real asyncio.Task current, in a
 * fresh copy of ls->context: its first step now, or at the end of this batch, together with others
 * of the batch.  `followed`: more will be started when this one has ended (a pipelined request).
 * Only when ta_loop_state_may_start(ls), or ta_loop_state_may_queue(ls).
 * 0: `done` has been or will be called exactly once for each coroutine; when the Task is cancelled
 * before it ran (shutdown), or cannot be made, with that exception.  -1: exception, nothing
 * started.
 */
int ta_task_pool_start(ta_loop_state *ls, PyObject *coro, bool followed, ta_task_pool_done done,
                       void *arg);

/* Called for each suspended Task with its `done` and `arg`, and what is looked for. */
typedef bool (*ta_task_pool_match)(ta_task_pool_done done, const void *arg, const void *what);
/* Cancels those that match.  -1 with an exception when one could not be. */
int ta_task_pool_cancel(ta_loop_state *ls, ta_task_pool_match match, const void *what,
                        PyObject *msg);

/* Part of attaching and closing a loopstate. */
int ta_task_pool_attach(ta_loop_state *ls);
/* Checks whether the loop has a task factory.  Then Tasks come from it, one for each request (as
 * uvicorn's do), and start with the loop's next iteration.  Called again when a server starts,
 * since start-up code may set one. */
int ta_task_pool_check_factory(ta_loop_state *ls);
void ta_task_pool_detach(ta_loop_state *ls);
int ta_task_pool_traverse(ta_loop_state *ls, visitproc visit, void *arg);

/* Returns whether other libraries have tied objects to the current Task (anyio's scopes): see
 * thread_pool.c.
 */
bool ta_task_pool_is_marked(ta_loop_state *ls);

/*
 * Makes asyncio's set of all Tasks quicker, for as long as the process lives: an event loop of ours
 * was made.  Nothing that it does changes.  0, or -1 with an exception.
 */
TA_MUST_CHECK int ta_all_tasks_speed_up(PyObject *module);

int ta_task_pool_init(PyObject *module, ta_state *st);

#endif
