/*
 * task_pool.c -- runs coroutines inside pooled asyncio Tasks.
 *
 * Layer: py (L4).
 *
 * Each Task of the pool has a *trampoline* for its coroutine.  An idle trampoline has yielded its
 * Park: a Future that is never done, to which the Task has added its wake-up callback.  To run a
 * coroutine we put it into the trampoline and call that callback: the Task steps, in the ordinary
 * way (it becomes current, cancellation is seen, KeyboardInterrupt goes where it always goes), the
 * trampoline enters the request's context and sends to the coroutine.
 *   - The coroutine waits: what it yielded is passed up, and the Task waits for it as any Task
 * does.
 *   - It is over: `done` is called, and the trampoline parks again, if the Task is as it was;
 *     else it returns, and the Task ends as any Task does.
 * So there is no emulation of a Task anywhere; only idle ones are hidden from all_tasks().
 */
#include "py/loop/task_pool_int.h"

#include "base/clock.h"
#include "py/support/coroutine.h"
#include "py/support/exc.h"
#include "py/support/types.h"

/* -- the trampoline --------------------------------------------------------------------------- */

static PySendResult park(ta_trampoline *t, PyObject **result)
{
    TA_ASSERT(t->coro == NULL && t->context == NULL && t->done == NULL);
    t->state = T_PARKED;
    if (ta_task_parking_begin(t) < 0)
        return PYGEN_ERROR;
    *result = Py_NewRef(t->park);
    return PYGEN_NEXT;
}

void ta_trampoline_leave(ta_trampoline *t)
{
    TA_ASSERT(!ta_list_linked(&t->node)); /* neither idle nor live any more */
    t->state = T_OVER;
    Py_CLEAR(t->coro);
    Py_CLEAR(t->context);
    Py_CLEAR(t->weak);
    ta_task_parking_drop(t);
    Py_CLEAR(t->wake_up);
    Py_CLEAR(t->cancelled);
    Py_CLEAR(t->task);
}

static PySendResult send_to(PyObject *coro, PyObject *value, PyObject **result)
{
    return PyIter_Send(coro, value, result);
}

static PySendResult throw_to(ta_state *st, PyObject *coro, PyObject *exc, PyObject **result)
{
    *result = PyObject_CallMethodOneArg(coro, st->names.throw, exc);
    if (*result != NULL)
        return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyObject *stop = PyErr_GetRaisedException();
    *result = PyObject_GetAttr(stop, st->names.value);
    Py_DECREF(stop);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

/* cr_frame, cr_code, cr_await, __name__, __qualname__: the running coroutine's, or None. */
static PyObject *tramp_proxy(PyObject *self, void *closure)
{
    ta_trampoline *tramp = tramp_cast(self);
    PyObject *res;
    if (tramp->coro == NULL)
        Py_RETURN_NONE;
    int rc = PyObject_GetOptionalAttrString(tramp->coro, (const char *)closure, &res);
    if (rc == 0)
        Py_RETURN_NONE;
    return rc < 0 ? NULL : res;
}

/*
 * The loop's debug mode reports a slow step when it is over, and the repr of the Task names it: the
 * Task of a coroutine that waited is not reused then, and is named after it to the end.
 */
static bool stays_named(const ta_trampoline *tramp)
{
    return tramp->ls != NULL && tramp->ls->debug && tramp->waited;
}

/* The coroutine ended with *result, or the exception that is set.  TA_WAITS: another one follows
 * in t->coro; TA_DONE: over; TA_FAILED: over, an exception is set and leaves the Task. */
static ta_outcome ended(ta_trampoline *tramp, PyObject *result)
{
    PyObject *next = NULL, *exc = result ? NULL : PyErr_GetRaisedException();
    if (TA_UNLIKELY(stays_named(tramp))) {
        Py_XSETREF(tramp->ran, tramp_proxy((PyObject *)tramp, "__qualname__"));
        PyErr_Clear(); /* it is called `turboapi` then */
    }
    Py_CLEAR(tramp->coro);
    if (exc != NULL)
        PyErr_SetRaisedException(Py_NewRef(exc));
    ta_outcome outcome = tramp->done(tramp->arg, result, &next);
    if (outcome == TA_WAITS) {
        tramp->coro = next;
        Py_XDECREF(exc);
        return TA_WAITS;
    }
    tramp->done = NULL;
    tramp->arg = NULL;
    TA_ASSERT(outcome == TA_FAILED || exc != NULL || !PyErr_Occurred());
    if (outcome == TA_DONE && exc != NULL) {
        PyErr_Clear();
        /* A cancelled coroutine leaves a cancelled Task. */
        if (tramp->ls != NULL &&
            PyErr_GivenExceptionMatches(exc, tramp->ls->st->exc.cancelled_error)) {
            PyErr_SetRaisedException(exc);
            return TA_FAILED;
        }
    }
    Py_XDECREF(exc);
    return outcome;
}

/* The coroutine is over, and no other one follows in this step: the Task parks, if `may_park` and
 * nobody could tell it from a new one, or ends. */
static PySendResult settle(ta_trampoline *tramp, bool may_park, PyObject **result)
{
    ta_loop_state *ls = tramp->ls;
    ta_trampoline_list_take(tramp, &ls->nlive);
    if (may_park && !stays_named(tramp) && ls->nidle < ls->max_idle &&
        ta_task_reuse_is_clean(tramp)) {
        ta_trampoline_list_put(tramp, &ls->idle_tasks, &ls->nidle);
        Py_DECREF(tramp); /* of the live list */
        return park(tramp, result);
    }
    ta_trampoline_leave(tramp);
    Py_DECREF(tramp);
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/*
 * One step of the coroutine; exc (borrowed): thrown into it instead of sending None.  When it is
 * over while others are waiting for a Task, the state is T_PARKED, and *result NULL.
 */
static PySendResult step(ta_trampoline *tramp, PyObject *exc, PyObject **result)
{
    ta_loop_state *ls = tramp->ls;
    ta_state *st = ls->st;
    ta_trampoline *outer = ls->current;
    ta_outcome outcome = TA_WAITS;
    PySendResult status;

    TA_ASSERT(ta_loop_state_is_ours(ls) && tramp->coro != NULL && tramp->state != T_RUNNING);
    bool entered = PyContext_Enter(tramp->context) == 0;
    ls->current = tramp;
    tramp->state = T_RUNNING;
    if (TA_UNLIKELY(!entered)) { /* another Task has entered it: the coroutine cannot continue */
        *result = NULL;
        status = PYGEN_ERROR;
    } else if (exc != NULL) {
        status = throw_to(st, tramp->coro, exc, result);
    } else {
        status = send_to(tramp->coro, Py_None, result);
    }
    while (status != PYGEN_NEXT) {
        PyObject *value = status == PYGEN_RETURN ? *result : NULL;
        outcome = ended(tramp, value);
        Py_XDECREF(value);
        if (outcome != TA_WAITS)
            break;
        status = send_to(tramp->coro, Py_None, result);
    }
    ls->current = outer;
    if (TA_UNLIKELY(outcome == TA_FAILED)) {
        PyObject *err = PyErr_GetRaisedException();
        if (entered && PyContext_Exit(tramp->context) < 0)
            PyErr_Clear();
        PyErr_SetRaisedException(err);
    } else if (entered && PyContext_Exit(tramp->context) < 0) {
        PyErr_Clear(); /* the coroutine left another context entered, which is its own fault */
    }

    if (status == PYGEN_NEXT) {
        tramp->state = T_SUSPENDED;
        tramp->waited = true;
        if (TA_UNLIKELY(tramp->ls == NULL))
            return status;
        if (!tramp->registered && ta_task_reuse_register(tramp, true) < 0)
            ta_exc_report(st, ls->aioloop, "A task could not be registered");
        return status;
    }
    Py_CLEAR(tramp->context);
    if (tramp->ls == NULL) { /* closed meanwhile, and on no list any more */
        ta_trampoline_leave(tramp);
        if (outcome == TA_FAILED)
            return PYGEN_ERROR;
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (TA_UNLIKELY(outcome == TA_FAILED)) {
        ta_trampoline_list_take(tramp, &ls->nlive);
        ta_trampoline_leave(tramp);
        Py_DECREF(tramp);
        return PYGEN_ERROR;
    }
    if (ls->starts.draining && !tramp->waited) {
        tramp->state = T_PARKED;
        *result = NULL;
        return PYGEN_NEXT;
    }
    return settle(tramp, true, result);
}

/* -- debug mode ------------------------------------------------------------------------------- */

/*
 * A step in a batch of ours is no handle of the loop, which would report a slow one, so we report
 * it.  The loop itself times steps that are handles.
 */
static PySendResult timed_step(ta_trampoline *tramp, PyObject *thrown, PyObject **result)
{
    ta_loop_state *ls = tramp->ls;
    if (!ls->in_batch)
        return step(tramp, thrown, result);
    ta_state *st = ls->st;
    PyObject *aioloop = Py_NewRef(ls->aioloop);
    PyObject *text =
        tramp->task ? PyObject_Repr(tramp->task) : NULL; /* now: it names the coroutine */
    PyErr_Clear();
    uint64_t start = ta_clock_ns();
    PySendResult status = step(tramp, thrown, result);
    PyObject *exc = PyErr_GetRaisedException(), *report = NULL, *res = NULL;
    if (text != NULL &&
        (report = ta_types_import("turboapi._serving.watchdog", "slow_step")) != NULL)
        res = PyObject_CallFunction(report, "OOd", aioloop, text,
                                    (double)(ta_clock_ns() - start) / 1e9);
    if (res == NULL && PyErr_Occurred())
        ta_exc_report(st, NULL, "Exception while a slow step was reported");
    Py_XDECREF(res);
    Py_XDECREF(report);
    Py_XDECREF(text);
    Py_DECREF(aioloop);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return status;
}

static inline PySendResult make_step(ta_trampoline *t, PyObject *exc, PyObject **result)
{
    return TA_UNLIKELY(t->ls->debug) ? timed_step(t, exc, result) : step(t, exc, result);
}

/* The first step of a coroutine, and of those that follow it in the same step of the Task. */
static PySendResult first_step(ta_trampoline *tramp, PyObject **result)
{
    for (;;) {
        PyObject *cancelled = tramp->cancelled;
        tramp->cancelled = NULL;
        PySendResult status = make_step(tramp, cancelled, result);
        Py_XDECREF(cancelled);
        if (tramp->state != T_PARKED || *result != NULL)
            return status;
        ta_outcome next = ta_starts_next(tramp);
        if (next != TA_WAITS)
            return settle(tramp, next == TA_DONE, result);
    }
}

static PySendResult tramp_send(PyObject *self, PyObject *Py_UNUSED(arg), PyObject **result)
{
    ta_trampoline *tramp = tramp_cast(self);
    if (TA_UNLIKELY(tramp->ls == NULL)) { /* its loop was closed */
        ta_trampoline_leave(tramp);
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    switch (tramp->state) {
    case T_NEW:
        if (tramp->coro == NULL)
            return park(tramp, result);
        tramp->refs = -1; /* unknown: this Task was not woken from the Park */
        return first_step(tramp, result);
    case T_PARKED:
        if (tramp->coro == NULL) /* woken by somebody unknown */
            return park(tramp, result);
        tramp->refs = Py_REFCNT(tramp->task);
        tramp->ls->task_refs = tramp->refs;
        return first_step(tramp, result);
    case T_SUSPENDED:
        return make_step(tramp, NULL, result);
    case T_RUNNING:
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    default:
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
}

static PyObject *send_result(PySendResult status, PyObject *result)
{
    if (status == PYGEN_RETURN) {
        ta_set_stop_iteration(result);
        Py_DECREF(result);
        return NULL;
    }
    return status == PYGEN_NEXT ? result : NULL;
}

static PyObject *tramp_send_method(PyObject *self, PyObject *arg)
{
    PyObject *result = NULL;
    PySendResult status = tramp_send(self, arg, &result);
    return send_result(status, result);
}

static PyObject *tramp_iternext(PyObject *self)
{
    return tramp_send_method(self, Py_None);
}

static PyObject *tramp_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    ta_trampoline *tramp = tramp_cast(self);
    PyObject *result = NULL;
    PyObject *exc = ta_coroutine_thrown(args, nargs);
    if (exc == NULL)
        return NULL;
    if (tramp->state == T_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    } else if (tramp->coro != NULL && tramp->ls != NULL) {
        if (tramp->state == T_NEW)
            tramp->refs = -1;
        PySendResult status = make_step(tramp, exc, &result);
        if (status == PYGEN_NEXT && result == NULL)
            status = settle(tramp, true, &result);
        result = send_result(status, result);
    } else {
        /* Idle: end the Task. */
        if (tramp->ls != NULL && ta_list_linked(&tramp->node)) {
            ta_trampoline_list_take(tramp, &tramp->ls->nidle);
            ta_trampoline_leave(tramp);
            Py_DECREF(tramp); /* the Task holds another one */
        } else {
            ta_trampoline_leave(tramp);
        }
        PyErr_SetRaisedException(Py_NewRef(exc));
    }
    Py_DECREF(exc);
    return result;
}

static PyObject *tramp_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_trampoline *t = tramp_cast(self);
    if (t->coro == NULL)
        Py_RETURN_NONE;
    return PyObject_CallMethodNoArgs(t->coro, ta_state_of(Py_TYPE(self))->names.close);
}

static PyObject *tramp_name(PyObject *self, void *closure)
{
    PyObject *res = tramp_proxy(self, closure);
    if (res == NULL || !Py_IsNone(res))
        return res;
    Py_DECREF(res);
    PyObject *ran = tramp_cast(self)->ran;
    return ran ? Py_NewRef(ran) : PyUnicode_FromString("turboapi");
}

/* cr_running, cr_suspended. */
static PyObject *tramp_is(PyObject *self, void *state)
{
    return PyBool_FromLong(tramp_cast(self)->state == (tramp_state)(intptr_t)state);
}

/* What inspect.getcoroutinestate() returns from Python 3.15 on. */
static PyObject *tramp_cr_state(PyObject *self, void *Py_UNUSED(closure))
{
    static const char *const names[] = {"CREATED", "CLOSED", "RUNNING", "SUSPENDED", "CLOSED"};
    return PyUnicode_FromFormat("CORO_%s", names[tramp_cast(self)->state]);
}

static PyObject *tramp_repr(PyObject *self)
{
    static const char *const names[] = {"new", "idle", "running", "suspended", "over"};
    ta_trampoline *t = tramp_cast(self);
    if (t->coro != NULL)
        return PyUnicode_FromFormat("<turboapi request %s %R>", names[t->state], t->coro);
    return PyUnicode_FromFormat("<turboapi request %s>", names[t->state]);
}

/*
 * Visits what it owns, and what its Park owns, as if they were the loop's.  The collector knows
 * neither of them: there are as many as requests that wait, and each would make every collection
 * longer.  Once it is on no list it owns nothing that could refer to it (ta_trampoline_leave).
 */
static int tramp_visit(const ta_trampoline *tramp, visitproc visit, void *arg)
{
    if (tramp->park != NULL) {
        int rc = Py_TYPE(tramp->park)->tp_traverse(tramp->park, visit, arg);
        if (rc != 0)
            return rc;
    }
    Py_VISIT(tramp->task);
    Py_VISIT(tramp->weak);
    Py_VISIT(tramp->wake_up);
    Py_VISIT(tramp->name);
    Py_VISIT(tramp->coro);
    Py_VISIT(tramp->context);
    Py_VISIT(tramp->cancelled);
    Py_VISIT(tramp->ran);
    return 0;
}

static void tramp_dealloc(PyObject *self)
{
    ta_trampoline *tramp = tramp_cast(self);
    PyTypeObject *type = Py_TYPE(self);
    ta_trampoline_leave(tramp);
    Py_CLEAR(tramp->name);
    Py_CLEAR(tramp->ran);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef tramp_methods[] = {
    {"send", tramp_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))tramp_throw, METH_FASTCALL, NULL},
    {"close", tramp_close, METH_NOARGS, NULL},
    {NULL},
};

static PyGetSetDef tramp_getset[] = {
    {"cr_frame", tramp_proxy, NULL, NULL, "cr_frame"},
    {"cr_code", tramp_proxy, NULL, NULL, "cr_code"},
    {"cr_await", tramp_proxy, NULL, NULL, "cr_await"},
    {"cr_origin", tramp_proxy, NULL, NULL, "cr_origin"},
    {"cr_running", tramp_is, NULL, NULL, (void *)T_RUNNING},
    {"cr_suspended", tramp_is, NULL, NULL, (void *)T_SUSPENDED},
    {"cr_state", tramp_cr_state, NULL, NULL, NULL},
    {"__name__", tramp_name, NULL, NULL, "__name__"},
    {"__qualname__", tramp_name, NULL, NULL, "__qualname__"},
    {NULL},
};

static PyType_Slot tramp_slots[] = {
    {Py_tp_doc, "The coroutine of a Task that serves requests; stands for the one that it runs."},
    {Py_tp_methods, tramp_methods},
    {Py_tp_getset, tramp_getset},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, tramp_iternext},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, tramp_send},
    {Py_tp_repr, tramp_repr},
    {Py_tp_dealloc, tramp_dealloc},
    {0, NULL},
};

static PyType_Spec tramp_spec = {
    .name = "turboapi._core.Trampoline",
    .basicsize = sizeof(ta_trampoline),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tramp_slots,
};

/* -- starting --------------------------------------------------------------------------------- */

static ta_trampoline *tramp_new(ta_loop_state *ls)
{
    ta_state *st = ls->st;
    PyObject *park = ta_task_parking_new(ls);
    if (park == NULL)
        return NULL;
    ta_trampoline *tramp =
        PyObject_New(ta_trampoline, ta_loop_objects_of(st)->task.trampoline_type);
    if (tramp == NULL) {
        Py_DECREF(park);
        return NULL;
    }
    memset((char *)tramp + sizeof(PyObject), 0, sizeof *tramp - sizeof(PyObject));
    tramp->ls = ls;
    tramp->park = park;
    tramp->state = T_NEW;
    return tramp;
}

static void no_destroy_message(PyObject *task)
{
    if (PyObject_SetAttrString(task, "_log_destroy_pending", Py_False) < 0)
        PyErr_Clear();
}

/* Frees a trampoline (steals) that is on no list.  Its Task, if it has one, no longer waits for
 * anything. */
static void abandon(ta_trampoline *tramp)
{
    tramp->ls = NULL;
    if (tramp->task != NULL)
        no_destroy_message(tramp->task);
    ta_task_parking_forget(tramp);
    ta_trampoline_leave(tramp);
    Py_DECREF(tramp);
}

/* It is parked, if it has made a step, and cannot be used: the loop's next iteration ends it, since
 * asyncio may know it.  An exception that is set stays set. */
static void end_later(ta_loop_state *ls, ta_trampoline *tramp)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *wake_up = tramp->state == T_PARKED ? ta_task_parking_end(tramp) : NULL;
    if (wake_up != NULL) {
        PyObject *args[3] = {ls->aioloop, wake_up, ls->woken};
        PyObject *handle = PyObject_VectorcallMethod(ls->st->names.call_soon, args, 3, NULL);
        Py_XDECREF(handle);
        Py_DECREF(wake_up);
    }
    PyErr_Clear(); /* the loop is closed and runs no more */
    abandon(tramp);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
}

ta_trampoline *ta_trampoline_make(ta_loop_state *ls)
{
    ta_state *st = ls->st;
    ta_trampoline *tramp = tramp_new(ls);
    if (tramp == NULL)
        return NULL;
    tramp->name = PyUnicode_FromFormat("turboapi-%llu", (unsigned long long)++ls->task_seq);
    if (tramp->name == NULL)
        goto error;
    ta_loop_state_enter(ls);
    if (ls->task_factory) {
        PyObject *args[4] = {ls->aioloop, (PyObject *)tramp, tramp->name, ls->context};
        tramp->task = PyObject_VectorcallMethod(st->names.create_task, args, 2,
                                                ta_loop_objects_of(st)->task.create_kwnames);
    } else {
        PyObject *args[6] = {NULL,        (PyObject *)tramp, ls->aioloop,
                             tramp->name, ls->context,       Py_True};
        tramp->task = PyObject_Vectorcall(ta_loop_objects_of(st)->task.task_class, args + 1,
                                          1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                          ta_loop_objects_of(st)->task.task_kwnames);
    }
    tramp->registered = true;
    int rc = tramp->task ? 0 : -1;
    if (rc == 0 && !ls->task_factory && ta_task_reuse_allowed(ls->st))
        rc = ta_task_reuse_register(tramp, false);
    ta_loop_state_leave(ls);
    if (rc == 0)
        return tramp;
error:
    end_later(ls, tramp);
    return NULL;
}

int ta_task_pool_cancel(ta_loop_state *ls, ta_task_pool_match match, const void *what,
                        PyObject *msg)
{
    PyObject *tasks = PyList_New(0);
    if (tasks == NULL)
        return -1;
    int rc = ta_starts_cancel(ls, match, what, msg);
    for (ta_list_node *n = ls->live_tasks.next; n != &ls->live_tasks; n = n->next) {
        ta_trampoline *tramp = ta_trampoline_of_node(n);
        if (tramp->task != NULL && match(tramp->done, tramp->arg, what) &&
            PyList_Append(tasks, tramp->task) < 0)
            rc = -1;
    }
    ta_loop_state_enter(ls);
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(tasks); i++) {
        PyObject *res =
            PyObject_CallMethodOneArg(PyList_GET_ITEM(tasks, i), ls->st->names.cancel, msg);
        rc = res ? 0 : -1;
        Py_XDECREF(res);
    }
    ta_loop_state_leave(ls);
    Py_DECREF(tasks);
    return rc;
}

/* -- of a loop -------------------------------------------------------------------------------- */

static void drop_idle(ta_loop_state *ls)
{
    while (!ta_list_empty(&ls->idle_tasks)) {
        ta_trampoline *t = ta_trampoline_of_node(ls->idle_tasks.next);
        ta_trampoline_list_take(t, &ls->nidle);
        abandon(t);
    }
}

enum { MAX_IDLE = 512 };

int ta_task_pool_check_factory(ta_loop_state *ls)
{
    ta_loop_state_check_debug(ls);
    PyObject *factory = PyObject_CallMethodNoArgs(ls->aioloop, ls->st->names.get_task_factory);
    if (factory == NULL)
        return -1;
    /* asyncio.eager_task_factory makes the same Tasks as we do. */
    ls->task_factory =
        !Py_IsNone(factory) && factory != ta_loop_objects_of(ls->st)->task.eager_factory;
    ls->max_idle = ls->task_factory || !ta_task_reuse_allowed(ls->st) ? 0 : MAX_IDLE;
    Py_DECREF(factory);
    if (ls->task_factory)
        drop_idle(ls);
    return 0;
}

int ta_task_pool_attach(ta_loop_state *ls)
{
    ta_list_init(&ls->idle_tasks);
    ta_list_init(&ls->live_tasks);
    if (ta_task_pool_check_factory(ls) < 0)
        return -1;
#if PY_VERSION_HEX < 0x030C0000
    /* Without eager start, make some Tasks in advance, so that the first requests start at once,
     * too. */
    for (int i = 0; i < 32 && ls->max_idle > 0; i++) {
        ta_trampoline *tramp = ta_trampoline_make(ls);
        if (tramp == NULL)
            return -1;
        ta_trampoline_list_put(tramp, &ls->idle_tasks, &ls->nidle);
        Py_DECREF(tramp);
    }
#endif
    return 0;
}

void ta_task_pool_detach(ta_loop_state *ls)
{
    if (ls->idle_tasks.next == NULL)
        return; /* was never attached */
    ta_starts_close(ls);
    drop_idle(ls);
    while (!ta_list_empty(&ls->live_tasks)) {
        ta_trampoline *tramp = ta_trampoline_of_node(ls->live_tasks.next);
        ta_task_pool_done done = tramp->done;
        void *arg = tramp->arg;
        PyObject *next = NULL;
        ta_trampoline_list_take(tramp, &ls->nlive);
        tramp->ls = NULL;
        tramp->done = NULL;
        if (tramp->task != NULL)
            no_destroy_message(tramp->task);
        if (done != NULL) {
            PyErr_SetNone(ls->st->exc.cancelled_error);
            (void)done(arg, NULL, &next);
            Py_XDECREF(next);
            PyErr_Clear();
        }
        ta_task_parking_forget(tramp);
        ta_trampoline_leave(tramp);
        Py_DECREF(tramp);
    }
    Py_CLEAR(ls->woken);
}

int ta_task_pool_traverse(ta_loop_state *ls, visitproc visit, void *arg)
{
    ta_list_node *const lists[] = {&ls->idle_tasks, &ls->live_tasks};
    for (size_t i = 0; i < TA_COUNTOF(lists) && lists[i]->next != NULL; i++) {
        for (ta_list_node *n = lists[i]->next; n != lists[i]; n = n->next) {
            int rc = tramp_visit(ta_trampoline_of_node(n), visit, arg);
            if (rc != 0)
                return rc;
        }
    }
    Py_VISIT(ls->woken);
    return ta_starts_traverse(ls, visit, arg);
}

int ta_task_pool_init(PyObject *module, ta_state *st)
{
    ta_task_pool_state *objects = &ta_loop_objects_of(st)->task;
    if (ta_task_parking_init(st) < 0 ||
        ta_types_add(module, &tramp_spec, NULL, &objects->trampoline_type) < 0)
        return -1;
    if ((objects->task_class = ta_types_import("asyncio", "Task")) == NULL ||
        (objects->get_name = PyObject_GetAttrString(objects->task_class, "get_name")) == NULL ||
        (objects->cancelling = PyObject_GetAttrString(objects->task_class, "cancelling")) == NULL ||
        ta_task_reuse_init(objects) < 0 || ta_all_tasks_init(module, st) < 0)
        return -1;
#if PY_VERSION_HEX >= 0x030C0000
    if ((objects->eager_factory = ta_types_import("asyncio", "eager_task_factory")) == NULL)
        return -1;
    objects->task_kwnames = Py_BuildValue("(ssss)", "loop", "name", "context", "eager_start");
#else
    objects->task_kwnames = Py_BuildValue("(sss)", "loop", "name", "context");
#endif
    if (objects->task_kwnames == NULL)
        return -1;
    objects->create_kwnames = Py_BuildValue("(ss)", "name", "context");
    return objects->create_kwnames ? 0 : -1;
}
