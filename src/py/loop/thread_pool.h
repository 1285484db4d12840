/*
 * thread_pool.h -- `def` handlers: a pool of threads, and the promotion of quick ones to run
 * inline.
 *
 * Layer: py (L4).  See docs/loop.md.
 */
#ifndef TA_PY_LOOP_THREAD_POOL_H
#define TA_PY_LOOP_THREAD_POOL_H

#include "py/loop/loop_state.h"
#include "py/support/outcome.h"

typedef struct ta_thread_pool ta_thread_pool;

enum {
    TA_RUN_AUTO = 0,
    TA_RUN_INLINE = 1,
    TA_RUN_THREAD = 2,
    /* Added to one of them, for calls that release resources: others may hold all threads while
     * they wait for these.  Such a call is therefore the next to run, in a thread beyond the limit
     * when none is free. */
    TA_RUN_LEAVE = 4
};

/*
 * What is known about one callable: one for each sync node of a plan (which owns it), with a
 * reference count, as running calls refer to it, too.  Shared by all threads without a lock.
 */
typedef struct ta_callstat ta_callstat;    /* inline_promotion.h */
ta_callstat *ta_callstat_new(void);        /* NULL: out of memory, without an exception */
void ta_callstat_unref(ta_callstat *stat); /* NULL allowed */

/*
 * Calls func (vectorcall convention, without the PY_VECTORCALL_ARGUMENTS_OFFSET promise being
 * needed). TA_DONE: *result is a new reference; TA_WAITS: *result is a new awaitable: its result or
 * exception is the call's; TA_FAILED: *result is NULL. `ls` must not be NULL (under a foreign loop
 * the engine's hook run_sync is the way). `stat` NULL: as TA_RUN_THREAD unless TA_RUN_INLINE.  Must
 * be called on the loop's thread. With TA_RUN_INLINE the caller's context is used, as by an awaited
 * `async def`; else a copy of it, inline or in a thread alike.
 */
ta_outcome ta_thread_pool_call(ta_loop_state *ls, ta_callstat *stat, int run_mode, PyObject *func,
                               PyObject *const *args, size_t nargsf, PyObject *kwnames,
                               PyObject **result);

/*
 * Calls func() in a thread while nobody waits for it; and again, behind all others that want a
 * thread, as long as it returns True.  `leave`: as TA_RUN_LEAVE.  0, or -1 with an exception.
 */
int ta_thread_pool_run(ta_loop_state *ls, PyObject *func, bool leave);

/* StopIteration cannot pass through a coroutine: returns a RuntimeError from it, or `exc`.  Steals.
 */
PyObject *ta_thread_pool_no_stop_iteration(PyObject *exc);

/* Returns a counted reference to the loop's pool, which is made when there is none; NULL with an
 * exception. */
ta_thread_pool *ta_thread_pool_ref(ta_loop_state *ls);
void ta_thread_pool_unref(ta_thread_pool *pool);
/* Any thread: ta_wake_post to the pool's loop.  False: that is closed. */
bool ta_thread_pool_post(ta_thread_pool *pool, ta_wake_item *item);

/* Any thread: returns whether somebody waits for a thread while none is idle or about to start. */
bool ta_thread_pool_wanted(ta_thread_pool *pool);

/* Threads: 0 means anyio's default limiter decides (40). */
int ta_thread_pool_configure(ta_loop_state *ls, unsigned max_threads);
unsigned ta_thread_pool_active(const ta_loop_state *ls); /* jobs queued or running */

/* For metrics. */
typedef struct ta_thread_pool_figures {
    unsigned jobs, queued; /* queued or running; queued */
    int promoted;          /* functions that run inline since, less those that no longer do */
} ta_thread_pool_figures;
ta_thread_pool_figures ta_thread_pool_look(const ta_loop_state *ls);
void ta_thread_pool_demoted(const ta_loop_state *ls); /* a function of those */
/* Ends idle threads; those that run a job end after it.  Waits at most wait_ms for them. */
void ta_thread_pool_close(ta_loop_state *ls, unsigned wait_ms);
int ta_thread_pool_traverse(ta_loop_state *ls, visitproc visit, void *arg);

int ta_thread_pool_init(PyObject *module, ta_state *st);

#endif
