/*
 * exit_stack.c -- dependencies with `yield`: a run enters them, and leaves them in reverse order.
 *
 * It does what two nested contextlib.AsyncExitStacks around the route would do, with their
 * semantics: dependencies of the scope "function" are left before the response is sent, the others
 * after it and its background tasks.  Each gets the exception that is propagating, and may swallow
 * it or raise another.
 *
 * Under `respond` and `solve` the caller has such stacks, and hooks.solve_generator uses them.
 *
 * hooks.open_stacks makes stacks of the application's own, for code that takes them out of the
 * scope: what it puts there is left before the generators of the same scope.
 */
#include "py/plan/run_int.h"

#include "py/loop/thread_pool.h"

/* How an exit is called; any other value is the index of its node, which is left in the thread
 * pool. */
enum { EXIT_ASYNC = 0xffff, EXIT_SYNC = 0xfffe };

static PyObject **exit_slots(ta_plan_run *r, int scope)
{
    ta_plan *plan = r->plan;
    uint32_t first = plan->nvalues + plan->ncache + (scope == SCOPE_REQUEST ? plan->ngen : 0);
    return &r->values[first];
}

static uint16_t *exit_kinds(ta_plan_run *r, int scope)
{
    return r->exit_kinds + (scope == SCOPE_REQUEST ? r->plan->ngen : 0);
}

/* Keeps an entered context manager (steals). */
static void push(ta_plan_run *r, int scope, PyObject *cm, uint16_t kind)
{
    TA_ASSERT(r->nexits[scope] < r->plan->ngen + (scope == SCOPE_REQUEST));
    uint16_t i = r->nexits[scope]++;
    exit_slots(r, scope)[i] = cm;
    exit_kinds(r, scope)[i] = kind;
}

/* -- entering --------------------------------------------------------------------------------- */

/*
 * Enters the scope that shields exits of async generators from the cancellation of scopes around
 * the application, before the first of them; it is left after the last.  Only the ASGI door has
 * anything around it.
 */
static int enter_cleanup_scope(ta_plan_run *run)
{
    PyObject *hook = ta_plan_hook(run->plan, H_cleanup_scope);
    PyObject *scope = hook ? PyObject_CallNoArgs(hook) : NULL;
    if (scope == NULL)
        return -1;
    PyObject *entered = PyObject_CallMethodNoArgs(scope, run->plan->st->names.dunder_enter);
    if (entered == NULL) {
        Py_DECREF(scope);
        return -1;
    }
    Py_DECREF(entered);
    run->cleanup = Py_NewRef(scope);
    push(run, SCOPE_REQUEST, scope, EXIT_SYNC);
    return 0;
}

/* hooks.open_generator: an async context manager of any generator. */
static PyObject *open_by_hook(ta_plan_run *run, const ta_node *node)
{
    if (run->mode == MODE_ASGI && node->kind == KIND_ASYNCGEN && run->cleanup == NULL &&
        enter_cleanup_scope(run) < 0)
        return NULL;
    PyObject *hook = ta_plan_hook(run->plan, H_open_generator);
    PyObject *index = hook ? PyLong_FromLong((long)(node - run->plan->nodes)) : NULL;
    PyObject *values = index ? ta_plan_run_values(run, node) : NULL;
    PyObject *cm = NULL;
    if (values != NULL) {
        PyObject *args[] = {NULL, index, values, run->cleanup ? run->cleanup : Py_None};
        cm = PyObject_Vectorcall(hook, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(values);
    Py_XDECREF(index);
    return cm;
}

ta_outcome ta_exit_stack_enter(ta_plan_run *run, const ta_node *node, PyObject **out)
{
    ta_state *st = run->plan->st;
    bool native = run->mode == MODE_NATIVE && node->enter != NULL;
    bool threaded = native && node->kind == KIND_GEN;
    PyObject *cm =
        native ? PyObject_Vectorcall(node->enter, &run->values[node->first],
                                     node->npos | PY_VECTORCALL_ARGUMENTS_OFFSET, node->kwnames)
               : open_by_hook(run, node);
    if (cm == NULL)
        return TA_FAILED;
    ta_outcome outcome;
    if (threaded) {
        PyObject *method = PyObject_GetAttr(cm, st->names.dunder_enter);
        outcome = method ? ta_thread_pool_call(run->x->ls, node->stat, node->run_mode, method, NULL,
                                               0, NULL, out)
                         : TA_FAILED;
        Py_XDECREF(method);
    } else {
        *out = PyObject_CallMethodNoArgs(cm, st->names.dunder_aenter);
        outcome = *out ? TA_WAITS : TA_FAILED;
    }
    if (outcome == TA_FAILED) {
        Py_DECREF(cm);
        return TA_FAILED;
    }
    TA_ASSERT(run->entering == NULL); /* one at a time */
    run->entering = cm;
    run->entering_kind = threaded ? (uint16_t)(node - run->plan->nodes) : (uint16_t)EXIT_ASYNC;
    if (outcome == TA_DONE)
        ta_exit_stack_entered(run);
    return outcome;
}

void ta_exit_stack_entered(ta_plan_run *r)
{
    const ta_node *n = &r->plan->nodes[r->node];
    PyObject *cm = r->entering;
    TA_ASSERT(cm != NULL);
    r->entering = NULL;
    push(r, n->function_scope ? SCOPE_FUNCTION : SCOPE_REQUEST, cm, r->entering_kind);
}

int ta_exit_stack_offer(ta_plan_run *run, PyObject *request)
{
    PyObject *hook = run->plan->hook[H_open_stacks];
    if (TA_LIKELY(hook == NULL) || run->stacks[SCOPE_REQUEST] != NULL ||
        (run->mode != MODE_ASGI && run->mode != MODE_NATIVE))
        return 0;
    PyObject *made = PyObject_CallOneArg(hook, request);
    if (made == NULL)
        return -1;
    int rc = -1;
    if (!PyTuple_CheckExact(made) || PyTuple_GET_SIZE(made) != TA_COUNTOF(run->stacks)) {
        PyErr_SetString(PyExc_TypeError, "hook open_stacks must return three stacks");
    } else {
        for (size_t i = 0; i < TA_COUNTOF(run->stacks); i++) {
            PyObject *stack = PyTuple_GET_ITEM(made, i);
            Py_XSETREF(run->stacks[i], Py_IsNone(stack) ? NULL : Py_NewRef(stack));
        }
        rc = 0;
    }
    Py_DECREF(made);
    return rc;
}

/* -- leaving ----------------------------------------------------------------------------------- */

/* Calls the exit of `cm` with r->exc.  TA_DONE: *out is its answer; TA_WAITS: *out is to be
 * awaited. */
static ta_outcome call_exit(ta_plan_run *run, PyObject *cm, uint16_t kind, PyObject **out)
{
    ta_state *st = run->plan->st;
    PyObject *exc = run->exc;
    PyObject *tb = exc ? PyException_GetTraceback(exc) : NULL;
    PyObject *args[] = {cm, exc ? (PyObject *)Py_TYPE(exc) : Py_None, exc ? exc : Py_None,
                        tb ? tb : Py_None};
    ta_outcome outcome = TA_FAILED;
    if (kind == EXIT_ASYNC || kind == EXIT_SYNC) {
        PyObject *name = kind == EXIT_ASYNC ? st->names.dunder_aexit : st->names.dunder_exit;
        *out = PyObject_VectorcallMethod(name, args, 4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (*out != NULL)
            outcome = kind == EXIT_SYNC ? TA_DONE : TA_WAITS;
    } else {
        const ta_node *node = &run->plan->nodes[kind];
        PyObject *method = PyObject_GetAttr(cm, st->names.dunder_exit);
        if (method != NULL) {
            outcome = ta_thread_pool_call(run->x->ls, node->stat, node->run_mode | TA_RUN_LEAVE,
                                          method, args + 1, 3, NULL, out);
            Py_DECREF(method);
        }
    }
    Py_XDECREF(tb);
    return outcome;
}

/* An exit's answer (steals): true swallows the exception.  -1: the answer itself failed. */
static int answered(ta_plan_run *r, PyObject *answer)
{
    int swallow = r->exc != NULL ? PyObject_IsTrue(answer) : 0;
    Py_DECREF(answer);
    if (swallow > 0)
        Py_CLEAR(r->exc);
    return swallow < 0 ? -1 : 0;
}

/*
 * As in AsyncExitStack, the exception that was propagating becomes the context of the new one,
 * unless an exit itself raised that.
 */
static void replace_exception(ta_plan_run *run)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *old = run->exc;
    TA_ASSERT(exc != NULL);
    run->exc = exc;
    if (old == NULL || old == exc || !run->in_flight) {
        Py_XDECREF(old);
        return;
    }
    PyObject *end = Py_NewRef(exc);
    for (;;) {
        PyObject *context = PyException_GetContext(end);
        if (context == NULL)
            break;
        Py_SETREF(end, context);
        if (context == old || context == exc) {
            Py_DECREF(old);
            Py_DECREF(end);
            return;
        }
    }
    PyException_SetContext(end, old); /* steals old */
    Py_DECREF(end);
}

bool ta_exit_stack_pending(const ta_plan_run *r, int scope)
{
    return r->nexits[scope] > 0 || r->stacks[scope] != NULL;
}

/* Sets the exception for a route whose own was swallowed before it had responded. */
static PyObject *swallowed(ta_plan_run *run)
{
    PyObject *hook = ta_plan_hook(run->plan, H_swallowed);
    PyObject *exc = hook ? PyObject_CallNoArgs(hook) : NULL;
    if (exc != NULL && !PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "hook swallowed must return an exception");
        Py_CLEAR(exc);
    }
    return exc ? exc : PyErr_GetRaisedException();
}

/* All of the scope are left. */
static ta_plan_run_state left(ta_plan_run *run)
{
    bool answer = run->leaving == SCOPE_FUNCTION ? run->pending != NULL : run->awaited;
    if (run->exc == NULL && !answer)
        run->exc = swallowed(run);
    if (run->leaving == SCOPE_FUNCTION) {
        if (run->exc == NULL)
            return ST_PENDING;
        Py_CLEAR(run->pending);
        run->in_flight = true;
        return ta_exit_stack_leave(run, SCOPE_REQUEST);
    }
    if (run->exc == NULL)
        return ST_CLOSE;
    PyErr_SetRaisedException(run->exc);
    run->exc = NULL;
    return ST_FAILED; /* for handle_error */
}

ta_plan_run_state ta_exit_stack_leave(ta_plan_run *r, int scope)
{
    r->leaving = (uint8_t)scope;
    return ST_LEAVE;
}

/* Takes the next context manager of the scope (new reference) and how its exit is called. */
static PyObject *pop(ta_plan_run *run, int scope, uint16_t *kind)
{
    PyObject *cm = run->stacks[scope];
    if (TA_UNLIKELY(cm != NULL)) {
        run->stacks[scope] = NULL;
        *kind = EXIT_ASYNC;
        return cm;
    }
    TA_ASSERT(run->nexits[scope] > 0);
    uint16_t i = --run->nexits[scope];
    *kind = exit_kinds(run, scope)[i];
    cm = exit_slots(run, scope)[i];
    exit_slots(run, scope)[i] = NULL;
    return cm;
}

ta_plan_run_state ta_exit_stack_next(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    int scope = run->leaving;
    while (ta_exit_stack_pending(run, scope)) {
        bool stack = run->stacks[scope] != NULL;
        uint16_t kind;
        PyObject *cm = pop(run, scope, &kind);
        if (TA_UNLIKELY(stack)) {
            int some = PyObject_IsTrue(cm);
            if (some <= 0) { /* nothing is in it */
                Py_DECREF(cm);
                if (some < 0)
                    replace_exception(run);
                continue;
            }
        }
        PyObject *out = NULL;
        ta_outcome outcome = call_exit(run, cm, kind, &out);
        Py_DECREF(cm);
        if (outcome == TA_WAITS) {
            if (ta_coroutine_await(&run->co, out) == TA_WAITS)
                return ST_EXIT;
            outcome = TA_FAILED;
        }
        if (outcome == TA_FAILED || answered(run, out) < 0)
            replace_exception(run);
    }
    return left(run);
}

ta_plan_run_state ta_exit_stack_answer(ta_plan_run *r, PyObject *answer)
{
    if (answered(r, answer) < 0)
        replace_exception(r);
    return ST_LEAVE;
}

ta_plan_run_state ta_exit_stack_failed(ta_plan_run *r, PyObject *Py_UNUSED(value))
{
    replace_exception(r);
    return ST_LEAVE;
}
