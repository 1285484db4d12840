/*
 * task_pool_int.h -- what task_pool.c, task_starts.c, all_tasks.c and task_parking.c share.
 *
 * Layer: py (L4).  Nobody else includes it.
 */
#ifndef TA_PY_LOOP_TASK_POOL_INT_H
#define TA_PY_LOOP_TASK_POOL_INT_H

#include "py/loop/task_pool.h"

typedef enum {
    T_NEW,       /* its Task has not made a step */
    T_PARKED,    /* waits for the Park */
    T_RUNNING,   /* in a step */
    T_SUSPENDED, /* the coroutine waits for something */
    T_OVER       /* the Task ends or has ended */
} tramp_state;

typedef struct ta_trampoline {
    PyObject_HEAD
    ta_loop_state *ls; /* borrowed: NULL once the loop is closed */
    PyObject *task;    /* owned: makes a cycle, broken when the Task ends or the loop closes */
    PyObject *weak;    /* owned: a weak reference to it for asyncio's set, or NULL (all_tasks.c) */
    PyObject *park;    /* owned: the Future that it waits for when idle (task_parking.c) */
    PyObject *wake_up; /* owned: the Task's callback, once it has waited for that; or NULL */
    PyObject *name;    /* owned: the Task's */
    PyObject *coro;    /* owned: the one that runs, or NULL */
    PyObject *context; /* owned: the one that it runs in */
    PyObject *cancelled; /* owned: what is thrown into it instead of its first step, or NULL */
    PyObject *ran;       /* owned: the name of the coroutine that it ran, in debug mode; or NULL */
    ta_task_pool_done done;
    void *arg;         /* borrowed: until done said 0 or -1 */
    ta_list_node node; /* in ls->idle_tasks or ls->live_tasks; the list owns a reference */
    Py_ssize_t refs;   /* references to the Task during a step, when only we know it */
    tramp_state state;
    bool registered; /* in asyncio's set of all tasks */
    bool waited;     /* the coroutine was suspended at least once */
} ta_trampoline;

static inline ta_trampoline *tramp_cast(PyObject *obj)
{
    return (ta_trampoline *)obj;
}

/* -- lists ------------------------------------------------------------------------------------ */

static inline void ta_trampoline_list_put(ta_trampoline *t, ta_list_node *list, unsigned *count)
{
    Py_INCREF(t);
    ta_list_push_back(list, &t->node);
    ++*count;
}

static inline void ta_trampoline_list_take(ta_trampoline *t,
                                           unsigned *count) /* the caller gets the reference */
{
    TA_ASSERT(ta_list_linked(&t->node) && *count > 0);
    ta_list_remove(&t->node);
    --*count;
}

static inline ta_trampoline *ta_trampoline_of_node(ta_list_node *node)
{
    return TA_CONTAINER_OF(node, ta_trampoline, node);
}

/* -- task_pool.c ------------------------------------------------------------------------------ */

/*
 * A new trampoline with its Task: parked on 3.12+ (eager start); on 3.11, and when a task factory
 * makes the Task, its first step comes with the loop's next turn.  New reference, or NULL.
 */
ta_trampoline *ta_trampoline_make(ta_loop_state *ls);
/* Its Task ends, at once or when it steps next: it drops all that it owns.  It is on no list. */
void ta_trampoline_leave(ta_trampoline *tramp);

/* -- task_reuse.c ----------------------------------------------------------------------------- */

/* Idle Tasks must be hidden, and be known to be as they were: both by private names of asyncio. */
bool ta_task_reuse_allowed(ta_state *st);
/*
 * What a method of asyncio's Task or Future that takes no arguments returns; it is called without
 * detours when it is C.  New reference, or NULL with an exception.
 */
PyObject *ta_task_reuse_ask(PyObject *method, PyObject *object);
/* Enters the Task into asyncio's set of all tasks, or takes it out.  0, or -1 with an exception. */
int ta_task_reuse_register(ta_trampoline *tramp, bool yes);
/*
 * Nobody could tell this Task from a new one: no reference to it but ours, strong or weak (a
 * registry of per-task data, anyio's scopes), no attribute, callback, other name, cancellation.
 * Takes it out of the set of all tasks.
 */
bool ta_task_reuse_is_clean(ta_trampoline *tramp);
/* Looks for those private names.  0, or -1 with an exception. */
int ta_task_reuse_init(ta_task_pool_state *objects);

/* -- task_starts.c ---------------------------------------------------------------------------- */

/* A coroutine that is to be run. */
typedef struct ta_start {
    PyObject *coro, *context; /* owned */
    PyObject *cancelled;      /* owned: it was cancelled meanwhile; or NULL */
    ta_task_pool_done done;
    void *arg; /* borrowed: until done said 0 or -1 */
} ta_start;

/*
 * Puts the next one into the trampoline, whose coroutine is over.  TA_DONE: there is none, or no
 * time for it; TA_FAILED: the Task is not clean any more, and must end (no exception is set).
 */
ta_outcome ta_starts_next(ta_trampoline *tramp);
/* As ta_task_pool_cancel, of those that were not run yet: they end with CancelledError when they
 * are. */
TA_MUST_CHECK int ta_starts_cancel(ta_loop_state *ls, ta_task_pool_match match, const void *what,
                                   PyObject *msg);
/* Those that are left end with CancelledError, and are not run. */
void ta_starts_close(ta_loop_state *ls);
int ta_starts_traverse(ta_loop_state *ls, visitproc visit, void *arg);

/* -- all_tasks.c ------------------------------------------------------------------------------ */

/* As asyncio's _register_task and _unregister_task: 0, or -1 with an exception. */
TA_MUST_CHECK int ta_all_tasks_add(ta_trampoline *tramp);
TA_MUST_CHECK int ta_all_tasks_discard(ta_trampoline *tramp);
int ta_all_tasks_init(PyObject *module, ta_state *st);

/* -- task_parking.c --------------------------------------------------------------------------- */

/* What an idle Task waits for: a new Future, or NULL with an exception. */
PyObject *ta_task_parking_new(ta_loop_state *ls);
/* Makes the park ready to be yielded to the Task.  0, or -1 with an exception. */
int ta_task_parking_begin(ta_trampoline *tramp);
/* Whether the Task still waits for it: somebody may have found the Task, and cancelled it. */
bool ta_task_parking_holds(const ta_trampoline *tramp);
/*
 * The Task no longer waits for it: returns the callback that wakes the Task, to be called once with
 * ls->woken.  New reference, or NULL with an exception.
 */
PyObject *ta_task_parking_end(ta_trampoline *tramp);
/* The Task is never woken: its callback is dropped.  An exception that is set stays set. */
void ta_task_parking_forget(ta_trampoline *tramp);
/* Drops the Park.  It may live on, in a Task that waits for it: the collector knows it then. */
void ta_task_parking_drop(ta_trampoline *tramp);
int ta_task_parking_init(ta_state *st);

#endif
