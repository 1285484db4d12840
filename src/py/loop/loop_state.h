/*
 * loop_state.h -- what belongs to one event loop: our ta_loop, the asyncio loop round it, the
 * Tasks.
 *
 * Layer: py (L4).  Embedded in a Selector object (selector.c), which owns everything here; all
 * fields belong to the loop's thread.
 */
#ifndef TA_PY_LOOP_LOOP_STATE_H
#define TA_PY_LOOP_LOOP_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/list.h"
#include "net/loop.h"
#include "net/wake.h"
#include "py/loop/loop_objects.h"

struct ta_trampoline;  /* task_pool.c */
struct ta_start;       /* task_starts.c */
struct ta_thread_pool; /* thread_pool.c */

/*
 * What lives on a loop and has to end with it: a server.  Embedded in the guest, which sets `ops`
 * and lists itself with ta_guest_enter.
 */
typedef struct ta_guest ta_guest;

typedef struct ta_guest_ops {
    /* The loop ends: the guest must end, too, and take itself off the list (ta_guest_leave). */
    void (*shut)(ta_guest *guest);
    /* Visits the guest itself if the loop keeps it alive.  As tp_traverse. */
    int (*traverse)(ta_guest *guest, visitproc visit, void *arg);
} ta_guest_ops;

struct ta_guest {
    const ta_guest_ops *ops;
    ta_list_node node; /* in ta_loop_state.guests */
};

/* task_starts.c: coroutines that the batch has started, until its end. */
typedef struct ta_starts {
    struct ta_start *items; /* owned */
    unsigned head, tail, size;
    unsigned announced; /* are about to be started (spawn.c) */
    ta_defer drain;
    bool draining;         /* a Task is stepping that takes one after the other */
    bool pulling;          /* ... and is between two: connections go on, and may queue more */
    unsigned drained;      /* how many it took so far */
    unsigned last_drained; /* how many that were the last time ... */
    uint64_t last_batch;   /* ... which was in this batch */
} ta_starts;

/* Objects of other threads that a loop has a reference to; a power of two. */
enum { TA_LOOP_HOLDERS = 256 };

typedef struct ta_loop_state {
    ta_state *st;      /* borrowed: the Selector's type keeps the module */
    ta_loop *loop;     /* owned; NULL once closed */
    ta_wake *wake;     /* owned: completions of other threads */
    PyObject *aioloop; /* owned: the running asyncio (or uvloop) loop; NULL until attached */
    PyObject *context; /* owned: the contextvars.Context that requests get a copy of */
    PyObject *fatal; /* owned: an interrupt or SystemExit out of a handler: select() raises it   */
    PyObject *call_stats;        /* owned dict, or NULL: call_stats.c */
    struct ta_gc_time *gc_time;  /* borrowed: of the module's state */
    bool in_batch;               /* inside ta_loop_poll */
    _Atomic unsigned long owner; /* the thread of the batch that runs, or ran last: anyone reads */
    uint64_t batch;              /* counts them */
    unsigned running; /* > 0 while Python code that C called runs: see ta_loop_state_enter */
    bool direct;      /* a plan runs that has no Task (yet) */
    bool bare;        /* and that is in no context of its own */
    bool nested;      /* aioloop watches our descriptor (uvloop) instead of calling select() */
    bool debug;       /* aioloop is in debug mode, as far as we know: slow steps are told */
    bool peek;        /* aioloop has the private attributes that tell what is scheduled on it */
    const void *look; /* borrowed: what selector.c saw of them when select() began; or NULL */

    /* task_pool.c */
    struct ta_trampoline *current; /* borrowed: whose step is running now, or NULL */
    ta_list_node idle_tasks;       /* parked; the list owns a reference to each */
    ta_list_node live_tasks;       /* started and not ended; the same */
    unsigned nidle, nlive;
    unsigned max_idle;
    bool task_factory;    /* the loop has one: no pooling */
    PyObject *woken;      /* owned: a Future that is done, for Tasks of the pool that are woken */
    Py_ssize_t task_refs; /* references to a Task of the pool in a step, when nobody else has one */
    uint64_t task_seq;    /* for their names */
    ta_starts starts;

#ifdef Py_GIL_DISABLED
    /* shared_refs.c: owned, or NULL */
    PyObject *holders[TA_LOOP_HOLDERS];
#endif

    ta_buf encoded; /* spare memory for JSON that is sent at once, or empty (reply.c) */

    ta_list_node guests; /* of ta_guest: what lives on this loop and has not ended */

    struct ta_thread_pool *pool; /* owned: threads; NULL until first used */
    PyObject *call_queues;       /* owned: a list of the loop's CallQueues, or NULL */
    /* inline_promotion.c: state of this thread at the first inline call of a batch */
    struct {
        uint64_t batch;
        int64_t start_ns, cpu_ns;
        long switches;
    } watch;
    /* selector_lag.c: what other threads may read, under its mutex */
    struct {
        pthread_mutex_t mutex; /* never held while Python code runs */
        bool open;             /* attached, and not closed */
        bool closed;           /* `loop` and `wake` must not be used any more */
        bool nested;           /* as above */
        uint64_t asked;        /* ms: when a nested loop was last woken; 0: never */
    } lag;
} ta_loop_state;

/* Whether this thread may touch what belongs to the loop: while a batch runs, only its own. */
static inline bool ta_loop_state_is_ours(const ta_loop_state *ls)
{
    return !ls->in_batch || ls->owner == PyThread_get_thread_ident();
}

/*
 * The door through which C calls Python on the loop's thread: everything that an event, a timer, a
 * deferred call or a completion calls there is called between these two.  Between them no request,
 * no step of a Task and no other callback is started (ta_loop_state_may_start): they wait for a
 * later moment.  May be nested.  select() notices what such code schedules on the asyncio loop,
 * however it was called, by a check after each batch that served anything (docs/loop.md).
 */
static inline void ta_loop_state_enter(ta_loop_state *ls)
{
    TA_ASSERT(ta_loop_state_is_ours(ls));
    ls->running++;
}

static inline void ta_loop_state_leave(ta_loop_state *ls)
{
    TA_ASSERT(ls->running > 0);
    ls->running--;
}

/*
 * Returns whether Python code of ours may be started right here: inside a batch, on the loop's
 * thread, while no Task is current.  If not, it must wait: ta_loop_defer.
 */
static inline bool ta_loop_state_may_start(const ta_loop_state *ls)
{
    return ls->in_batch && ls->running == 0;
}

/*
 * Returns whether a coroutine may be queued though none may be started: a Task of the pool is
 * stepping, has ended one coroutine and takes another.  No Python code may run right here.
 */
static inline bool ta_loop_state_may_queue(const ta_loop_state *ls)
{
    return ls->starts.pulling;
}

static inline void ta_guest_enter(ta_loop_state *ls, ta_guest *guest)
{
    ta_list_push_back(&ls->guests, &guest->node);
}

/* Does nothing for a guest that has already left, or never entered (zeroed). */
static inline void ta_guest_leave(ta_guest *guest)
{
    ta_list_remove(&guest->node);
}

/* The loop ends: all guests do. */
void ta_loop_state_shut_guests(ta_loop_state *ls);
int ta_loop_state_traverse_guests(ta_loop_state *ls, visitproc visit, void *arg);

/* Makes a context for a call in another thread, or for a separate call here.  New reference, or
 * NULL. */
static inline PyObject *ta_loop_state_copy_context(const ta_loop_state *ls)
{
    /* The current context of a batch is not the one in which the server was started. */
    return ls->bare ? PyContext_Copy(ls->context) : PyContext_CopyCurrent();
}

/* Stores in ls->debug whether the loop is in asyncio's debug mode. */
void ta_loop_state_check_debug(ta_loop_state *ls);

/*
 * An exception out of Python code that C started in a batch, set now: Ctrl+C (ta_exc_is_ctrl_c) and
 * SystemExit are kept for select() to raise, others go to the loop's exception handler.
 */
void ta_loop_state_unhandled(ta_loop_state *ls, const char *message);

/*
 * The loopstate whose loop is running in this thread, or NULL (a foreign loop, or none).  Borrowed:
 * lives as long as that loop runs.  Sets no exception.
 */
ta_loop_state *ta_selector_running(ta_state *st);

#endif
