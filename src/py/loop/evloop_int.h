/*
 * evloop_int.h -- what the files of the event loop share: evloop.c, evloop_run.c, evloop_queue.c,
 * handle.c.
 *
 * Layer: py (L4).  Nobody else includes it.
 */
#ifndef TA_PY_LOOP_EVLOOP_INT_H
#define TA_PY_LOOP_EVLOOP_INT_H

#include "py/loop/evloop.h"

#include <pthread.h>
#include <time.h>

/* A timer in the heap.  Equal times keep the order in which they were scheduled. */
typedef struct ta_timer_slot {
    double when;
    uint64_t number;
    PyObject *handle; /* owned */
} ta_timer_slot;

enum { TA_HANDLE_FREE_MAX = 256 };

/*
 * All but the queues belongs to the loop's thread.  On free-threaded builds `mutex` guards the
 * queues, since call_soon_threadsafe() and a careless cancel() come from other threads; with the
 * GIL that is what guards them.  No Python code runs while it is held.
 */
struct ta_evloop {
    PyObject_HEAD
    ta_state *st;            /* borrowed: the type keeps the module */
    PyObject **ring;         /* ready handles: owned; a power of two, or NULL */
    size_t mask, head, tail; /* head and tail count up; their difference is the length */
    ta_timer_slot *heap;     /* scheduled handles, the earliest first; 4 children a node */
    Py_ssize_t nheap, heap_size;
    uint64_t timers;       /* how many were ever scheduled */
    PyObject *selector;    /* owned: what `select` was taken from, or NULL */
    PyObject *select;      /* owned: its bound method */
    PyObject *factory;     /* owned: of Tasks, or NULL */
    PyObject *loop_kwargs; /* owned: {"loop": this}, for Futures; NULL until the first */
    PyObject *ready;     /* owned: a deque and a list in place of ring and heap once the loop is */
    PyObject *scheduled; /* `plain`, else NULL */
    PyObject *executor;  /* owned: the default one, or NULL */
    PyObject *calls;     /* owned: its ta_call_queue, when it is of ours, else NULL */
    char *input;         /* owned: what transports read to, or NULL */
    double resolution;   /* seconds */
    unsigned version;    /* of the type, when overrides were last looked for */
    bool looked;         /* they were */
    unsigned submit_version;     /* of the executor's type, when submit() was last looked at */
    unsigned stream_versions[2]; /* the same for socket_transport_stream.c ... */
    bool streams;                /* ... and what it found */
    bool closed, stopping, debug, executor_shut;
    bool replaced; /* what asyncio's run_in_executor() calls is: it does everything */
    bool plain;    /* an internal of asyncio was replaced: its own code does everything */
#ifdef Py_GIL_DISABLED
    pthread_mutex_t mutex;
#else
    PyObject *unused[TA_HANDLE_FREE_MAX]; /* memory of handles, to be reused */
    unsigned nunused;
    PyTypeObject *unused_types[2]; /* owned: those handles were of them */
#endif
};

#ifdef Py_GIL_DISABLED
#define TA_EVLOOP_LOCK(l)   pthread_mutex_lock(&(l)->mutex)
#define TA_EVLOOP_UNLOCK(l) pthread_mutex_unlock(&(l)->mutex)
#else
#define TA_EVLOOP_LOCK(l)   ((void)(l))
#define TA_EVLOOP_UNLOCK(l) ((void)(l))
#endif

static inline ta_evloop *ta_evloop_cast(PyObject *obj)
{
    return (ta_evloop *)obj;
}

/* With the mutex: other threads add handles. */
static inline size_t ta_evloop_nready(const ta_evloop *l)
{
    return l->tail - l->head;
}

/* Seconds of CLOCK_MONOTONIC, as time.monotonic(). */
static inline double ta_evloop_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* -- handle.c ------------------------------------------------------------------------------------
 */

/*
 * What a handle of ours has after the slots of asyncio's class, which stay empty: descriptors with
 * the same names in our classes shadow them.
 */
typedef struct ta_handle {
    ta_evloop *loop;    /* owned */
    PyObject *callback; /* owned; NULL once cancelled */
    PyObject *context;  /* owned */
    PyObject *args[2];  /* owned: when there are at most two */
    PyObject *more;     /* owned: the tuple of arguments when there are more, else NULL */
    PyObject *when_obj; /* owned: what call_at() was given, when that is not a float */
    double when;        /* of a TimerHandle */
    Py_ssize_t index;   /* in the heap, or -1 */
    uint8_t nargs;      /* in args */
    bool cancelled;
    bool listed; /* in the list of a plain loop */
} ta_handle;

/* The classes are final, so their size tells where our part begins. */
static inline ta_handle *ta_handle_of(PyObject *handle)
{
    return (ta_handle *)((char *)handle + Py_TYPE(handle)->tp_basicsize - sizeof(ta_handle));
}

static inline bool ta_handle_is_ours(ta_state *st, PyObject *handle)
{
    return Py_IS_TYPE(handle, ta_loop_objects_of(st)->evloop.handle_type) ||
           Py_IS_TYPE(handle, ta_loop_objects_of(st)->evloop.timer_type);
}

/* A new Handle or TimerHandle; `context` may be NULL: a copy of the current one. */
PyObject *ta_handle_new(ta_evloop *evloop, PyTypeObject *type, PyObject *callback,
                        PyObject *const *args, Py_ssize_t nargs, PyObject *context);
/* Calls it in its context; an exception goes to the loop's handler.  -1: one that ends the loop. */
int ta_handle_run(ta_evloop *evloop, PyObject *handle);
/* Cancels one of ours that is not scheduled.  It keeps its callback's reference no longer. */
void ta_handle_drop(PyObject *handle);
/* For the loop's tp_traverse: what the memory kept for new handles holds. */
int ta_handle_visit_unused(ta_evloop *evloop, visitproc visit, void *arg);
/* Frees the memory that was kept for new handles. */
void ta_handle_free_unused(ta_evloop *evloop);

/* -- evloop_queue.c ------------------------------------------------------------------------------
 */

/* Appends to the ready handles; steals `handle`, also on failure.  0, or -1 with MemoryError. */
TA_MUST_CHECK int ta_evloop_push(ta_evloop *evloop, PyObject *handle);
/* Takes the first of them (a reference for the caller); NULL: there is none.  No exception. */
PyObject *ta_evloop_pop(ta_evloop *evloop);
/* Schedules it; a reference is added.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_evloop_schedule(ta_evloop *evloop, PyObject *handle, double when);
/* Takes a handle of ours off the heap, if it is there. */
void ta_evloop_unschedule(ta_evloop *evloop, PyObject *handle);
/* The same for asyncio's own, which don't know where they are. */
void ta_evloop_unschedule_foreign(ta_evloop *evloop, PyObject *handle);
/* Takes the earliest one if it is due before `end` (a reference for the caller); NULL: none is.  No
 * exception. */
PyObject *ta_evloop_pop_due(ta_evloop *evloop, double end);
/* Both queues as new lists: ready handles in order, scheduled ones with the earliest first. */
PyObject *ta_evloop_list_ready(ta_evloop *evloop);
PyObject *ta_evloop_list_scheduled(ta_evloop *evloop);
void ta_evloop_clear_ready(ta_evloop *evloop);
void ta_evloop_clear_scheduled(ta_evloop *evloop);
int ta_evloop_queue_init(PyObject *module, ta_state *st);
/* Returns a view of a queue, as `_ready` and `_scheduled` do. */
PyObject *ta_evloop_view(ta_evloop *evloop, bool scheduled);

/* -- evloop_run.c --------------------------------------------------------------------------------
 */

/* Runs one iteration of the loop.  0, or -1 with an exception that ends it. */
int ta_evloop_turn(ta_evloop *evloop);
/* [(key, events), ...] of select(): makes the handles of the files ready. */
int ta_evloop_take_events(ta_evloop *evloop, PyObject *events);

/* -- evloop_executor.c ---------------------------------------------------------------------------
 */

/* run_in_executor(None, func, *args) in threads of ours.  1 and *future; 0: asyncio's own code has
 * to do it; -1 with an exception. */
TA_MUST_CHECK int ta_evloop_run_in_executor(ta_evloop *evloop, PyObject *func,
                                            PyObject *const *args, Py_ssize_t nargs,
                                            PyObject **future);
PyObject *ta_evloop_get_executor(PyObject *self, void *closure);
int ta_evloop_set_executor(PyObject *self, PyObject *executor, void *closure);
/* loop.create_future(): a new reference. */
PyObject *ta_evloop_create_future(PyObject *self, PyObject *ignored);
/* evloop_run.c: is_running() and get_debug(). */
PyObject *ta_evloop_is_running(PyObject *self, PyObject *ignored);
PyObject *ta_evloop_get_debug(PyObject *self, PyObject *ignored);

/* -- evloop_overrides.c --------------------------------------------------------------------------
 */

/* Looks for replaced methods, whether or not the class has changed.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_evloop_look_for_overrides(ta_evloop *evloop);
/* tp_setattro: sees a method that is replaced in the object itself, as tests do with mocks. */
int ta_evloop_setattro(PyObject *self, PyObject *name, PyObject *value);

/* Looks for replaced methods if the class has changed; afterwards `plain` is up to date.  0 or -1.
 */
static inline int ta_evloop_check_overrides(ta_evloop *l)
{
    if (TA_LIKELY(l->looked && l->version == Py_TYPE(l)->tp_version_tag && l->version != 0))
        return 0;
    return ta_evloop_look_for_overrides(l);
}

#endif
