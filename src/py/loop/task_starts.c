/*
 * task_starts.c -- starts coroutines in Tasks of the pool: several of a batch in one Task's step.
 *
 * Layer: py/loop.  To enter a Task, to wake it and to let it wait for the Park again costs as much
 * as a small handler.  So what a batch starts is queued, and the queue is drained at the batch's
 * end: one Task is woken and runs one coroutine after the other, each in its own context, as if it
 * had been woken for each.  A coroutine that waits keeps that Task, as does one that leaves
 * anything on it (is_clean in task_pool.c); the rest goes on in the next Task.  Nothing else is
 * run or stepped meanwhile.
 */
#include "py/loop/task_pool_int.h"

/* -- the queue -------------------------------------------------------------------------------- */

static void put(ta_loop_state *ls, const ta_start *start)
{
    ta_starts *q = &ls->starts;
    q->items[q->tail++] = *start;
}

/* Room for one more.  0, or -1 with MemoryError. */
static int reserve(ta_starts *starts)
{
    if (starts->tail < starts->size)
        return 0;
    unsigned size = starts->size ? starts->size * 2 : TA_LOOP_BATCH;
    ta_start *items = PyMem_Realloc(starts->items, size * sizeof *items);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    starts->items = items;
    starts->size = size;
    return 0;
}

/* The first one, the caller's.  Not when there is none. */
static ta_start take(ta_starts *q)
{
    TA_ASSERT(q->head < q->tail);
    ta_start start = q->items[q->head++];
    if (q->head == q->tail)
        q->head = q->tail = 0;
    return start;
}

static inline unsigned length(const ta_starts *q)
{
    return q->tail - q->head;
}

/* -- running ---------------------------------------------------------------------------------- */

static void load(ta_trampoline *tramp, const ta_start *start)
{
    TA_ASSERT(tramp->coro == NULL && tramp->context == NULL && tramp->done == NULL);
    tramp->coro = start->coro;
    tramp->context = start->context;
    tramp->done = start->done;
    tramp->arg = start->arg;
    tramp->cancelled = start->cancelled;
    tramp->waited = false;
}

/* Closes a coroutine (steals), so that nobody is told that it was never awaited. */
static void drop(const ta_loop_state *ls, PyObject *coro)
{
    PyObject *res = PyObject_CallMethodNoArgs(coro, ls->st->names.close);
    if (res == NULL)
        PyErr_Clear();
    Py_XDECREF(res);
    Py_DECREF(coro);
}

/* It is not run: its end is told, with the exception that is set. */
static void give_up(const ta_loop_state *ls, const ta_start *start)
{
    ta_outcome outcome;
    PyObject *exc = PyErr_GetRaisedException();
    do { /* what was to go on with instead is not run either */
        PyObject *next = NULL;
        PyErr_SetRaisedException(Py_NewRef(exc));
        outcome = start->done(start->arg, NULL, &next);
        PyErr_Clear();
        if (next != NULL)
            drop(ls, next);
    } while (outcome == TA_WAITS);
    Py_DECREF(exc);
    drop(ls, start->coro);
    Py_DECREF(start->context);
    Py_XDECREF(start->cancelled);
}

/* An idle Task, off their list: the caller gets its reference.  NULL: there is none. */
static ta_trampoline *idle_task(ta_loop_state *ls)
{
    while (!ta_list_empty(&ls->idle_tasks)) {
        /* the last parked one: its memory is warm */
        ta_trampoline *tramp = ta_trampoline_of_node(ls->idle_tasks.prev);
        ta_trampoline_list_take(tramp, &ls->nidle);
        if (TA_LIKELY(ta_task_parking_holds(tramp)))
            return tramp;
        ta_trampoline_leave(tramp); /* it was cancelled: the loop's next iteration ends it */
        Py_DECREF(tramp);
    }
    return NULL;
}

/* Wakes an idle Task, or makes one, for it.  Takes over what it refers to. */
static void run(ta_loop_state *ls, const ta_start *start)
{
    PyObject *wake_up = NULL;
    ta_trampoline *tramp = idle_task(ls);
    if ((tramp == NULL && (tramp = ta_trampoline_make(ls)) == NULL) ||
        (tramp->state == T_PARKED && (wake_up = ta_task_parking_end(tramp)) == NULL)) {
        give_up(ls, start);
        if (tramp != NULL) {
            ta_trampoline_leave(tramp);
            Py_DECREF(tramp);
        }
        return;
    }
    ta_trampoline_list_put(tramp, &ls->live_tasks, &ls->nlive);
    load(tramp, start);
    TA_ASSERT(tramp->state == T_PARKED || tramp->state == T_NEW);
    if (wake_up != NULL) {
        ta_loop_state_enter(ls);
        PyObject *res = PyObject_CallOneArg(wake_up, ls->woken);
        ta_loop_state_leave(ls);
        Py_DECREF(wake_up);
        if (res == NULL)
            ta_loop_state_unhandled(ls, "Exception in a step of a request's task");
        Py_XDECREF(res);
    }
    /* else: 3.11, the loop's next turn makes the Task's first step */
    Py_DECREF(tramp);
}

/*
 * Lets the connections go on whose requests have been answered meanwhile: the next pipelined
 * request of each is queued here, if it needs a Task (ta_dispatch_start).
 */
static void pull(ta_loop_state *ls)
{
    ls->starts.pulling = true;
    (void)ta_loop_run_turns(ls->loop);
    ls->starts.pulling = false;
}

ta_outcome ta_starts_next(ta_trampoline *tramp)
{
    ta_loop_state *ls = tramp->ls;
    enum { CLOCK_EVERY = 4 }; /* coroutines between two looks at the clock */
    TA_ASSERT(ls->starts.draining && tramp->state == T_PARKED && ta_list_linked(&tramp->node));
    if ((ls->starts.drained + 1) % CLOCK_EVERY == 0 && ta_loop_spent(ls->loop))
        return TA_DONE;
    if (length(&ls->starts) == 0)
        pull(ls);
    if (length(&ls->starts) == 0)
        return TA_DONE;
    /* After that: what a request had is destroyed with it, which may do anything to the Task. */
    if (!ta_task_reuse_is_clean(tramp))
        return TA_FAILED;
    ls->starts.drained++;
    ta_start start = take(&ls->starts);
    load(tramp, &start);
    return TA_WAITS;
}

/* Runs what the batch has started, for as long as the batch has time. */
static void drain(ta_defer *defer)
{
    ta_loop_state *ls = TA_CONTAINER_OF(defer, ta_loop_state, starts.drain);
    ta_starts *q = &ls->starts;
    TA_ASSERT(!q->draining && length(q) > 0);
    if (!ta_loop_state_may_start(ls) || ta_loop_spent(ls->loop)) {
        ta_loop_defer(ls->loop, defer);
        return;
    }
    q->drained = 0;
    q->draining = true;
    while (length(q) > 0) {
        ta_start start = take(q);
        run(ls, &start);
        q->drained++;
        if (length(q) > 0 && ta_loop_spent(ls->loop))
            break;
    }
    q->draining = false;
    q->last_drained = q->drained;
    q->last_batch = ls->batch;
    if (length(q) > 0)
        ta_loop_defer(ls->loop, defer);
}

/*
 * Will others of this batch be started?  If not, a start need not wait for them.  Those that follow
 * each other on one connection come one by one; those of several connections come as often as they
 * did a moment ago.
 */
static bool has_company(const ta_loop_state *ls, bool followed)
{
    const ta_starts *q = &ls->starts;
    if (ls->max_idle == 0) /* each has a Task of its own */
        return false;
    return length(q) > 0 || followed || q->pulling || q->announced > 0 ||
           ta_loop_pending(ls->loop) > 0 || (q->last_drained > 1 && ls->batch - q->last_batch <= 1);
}

int ta_task_pool_start(ta_loop_state *ls, PyObject *coro, bool followed, ta_task_pool_done done,
                       void *arg)
{
    TA_ASSERT(ta_loop_state_may_start(ls) || ta_loop_state_may_queue(ls));
    ta_start start = {.coro = coro, .done = done, .arg = arg};
    bool wait = has_company(ls, followed);
    if ((start.context = PyContext_Copy(ls->context)) == NULL ||
        (wait && reserve(&ls->starts) < 0)) {
        Py_XDECREF(start.context);
        Py_DECREF(coro);
        return -1;
    }
    if (!wait) {
        run(ls, &start);
        return 0;
    }
    put(ls, &start);
    ls->starts.drain.fn = drain;
    if (!ls->starts.draining) /* else it goes on with this one, or defers itself */
        ta_loop_defer(ls->loop, &ls->starts.drain);
    return 0;
}

/* -- of a loop -------------------------------------------------------------------------------- */

int ta_starts_cancel(ta_loop_state *ls, ta_task_pool_match match, const void *what, PyObject *msg)
{
    ta_starts *starts = &ls->starts;
    PyObject *error = ls->st->exc.cancelled_error;
    for (unsigned i = starts->head; i < starts->tail; i++) {
        if (starts->items[i].cancelled != NULL ||
            !match(starts->items[i].done, starts->items[i].arg, what))
            continue;
        PyObject *exc =
            Py_IsNone(msg) ? PyObject_CallNoArgs(error) : PyObject_CallOneArg(error, msg);
        if (exc == NULL)
            return -1;
        starts->items[i].cancelled = exc;
    }
    return 0;
}

void ta_starts_close(ta_loop_state *ls)
{
    ta_starts *starts = &ls->starts;
    while (length(starts) > 0) {
        ta_start start = take(starts);
        PyErr_SetNone(ls->st->exc.cancelled_error);
        give_up(ls, &start);
    }
    ta_loop_undefer(ls->loop, &starts->drain);
    PyMem_Free(starts->items);
    *starts = (ta_starts){0};
}

int ta_starts_traverse(ta_loop_state *ls, visitproc visit, void *arg)
{
    const ta_starts *starts = &ls->starts;
    for (unsigned i = starts->head; i < starts->tail; i++) {
        Py_VISIT(starts->items[i].coro);
        Py_VISIT(starts->items[i].context);
        Py_VISIT(starts->items[i].cancelled);
    }
    return 0;
}
