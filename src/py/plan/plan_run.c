/*
 * plan_run.c -- ta_plan_run: one request walking through its plan.
 *
 * The machine of run_int.h: its table, what drives it, and the steps of its beginning and its ends.
 * A run is a coroutine (coroutine.c), so that a Task can wait for what a step waits for; the native
 * server makes the first steps without one.
 *
 * Layer: py/plan.
 */
#include "py/loop/loop_state.h"
#include "py/plan/run_int.h"
#include "py/support/spares.h"

/* -- life ------------------------------------------------------------------------------------- */

static ta_outcome advance(ta_coroutine *co, PyObject *value);

ta_plan_run *ta_plan_run_new(ta_state *st, ta_plan *plan, ta_exchange *exchange, ta_mode mode)
{
    ta_plan_run *run = (ta_plan_run *)ta_spares_take(ta_plan_objects_of(st)->spare_runs);
    if (run == NULL)
        return NULL;
    memset((char *)run + sizeof(PyObject), 0,
           offsetof(ta_plan_run, inline_block) - sizeof(PyObject));
    run->co.advance = advance;
    run->mode = (uint8_t)mode;
    run->x = (ta_exchange *)Py_NewRef((PyObject *)exchange);
    if (ta_plan_run_use_plan(run, plan) < 0) {
        Py_DECREF(run);
        return NULL;
    }
    /* One of the native server belongs to C, or to a Task of the pool, until its end: it cannot be
     * garbage, so the collector does not traverse it for nothing. */
    if (mode != MODE_NATIVE)
        PyObject_GC_Track(run);
    return run;
}

/* Drops all that the run holds but its outcome. */
static void drop_all(ta_plan_run *run)
{
    ta_plan_run_drop_values(run);
    Py_CLEAR(run->body);
    Py_CLEAR(run->raw_body);
    Py_CLEAR(run->fast_value);
    Py_CLEAR(run->errors);
    Py_CLEAR(run->background);
    Py_CLEAR(run->response);
    Py_CLEAR(run->own_background);
    Py_CLEAR(run->tasks);
    Py_CLEAR(run->form);
    Py_CLEAR(run->cm);
    Py_CLEAR(run->entering);
    Py_CLEAR(run->cleanup);
    for (size_t i = 0; i < TA_COUNTOF(run->stacks); i++)
        Py_CLEAR(run->stacks[i]);
    Py_CLEAR(run->pending);
    Py_CLEAR(run->exc);
    Py_CLEAR(run->handling);
    TA_ASSERT(run->given == NULL);
    if (run->x != NULL) {
        /* the request holds the exchange through send: leave no cycle behind */
        Py_CLEAR(run->x->request);
    }
    Py_CLEAR(run->x);
}

static int run_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_plan_run *run = (ta_plan_run *)self;
    Py_VISIT(Py_TYPE(self));
    if (run->block != NULL) {
        for (uint32_t i = 0; i < run->plan->nslots; i++)
            Py_VISIT(run->values[i]);
    }
    Py_VISIT(run->holder);
    Py_VISIT(run->x);
    Py_VISIT(run->body);
    Py_VISIT(run->raw_body);
    Py_VISIT(run->fast_value);
    Py_VISIT(run->errors);
    Py_VISIT(run->background);
    Py_VISIT(run->response);
    Py_VISIT(run->own_background);
    Py_VISIT(run->tasks);
    Py_VISIT(run->form);
    Py_VISIT(run->cm);
    Py_VISIT(run->entering);
    Py_VISIT(run->cleanup);
    for (size_t i = 0; i < TA_COUNTOF(run->stacks); i++)
        Py_VISIT(run->stacks[i]);
    Py_VISIT(run->pending);
    Py_VISIT(run->exc);
    Py_VISIT(run->handling);
    return ta_coroutine_traverse(&run->co, visit, arg);
}

static int run_clear(PyObject *self)
{
    ta_plan_run *r = (ta_plan_run *)self;
    r->co.finished = true; /* a run that the collector took apart cannot continue */
    ta_coroutine_clear(&r->co);
    drop_all(r);
    return 0;
}

static void run_dealloc(PyObject *self)
{
    ta_plan_run *run = (ta_plan_run *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    ta_coroutine_clear(&run->co);
    drop_all(run);
    run->plan = NULL;
    Py_CLEAR(run->holder);
    ta_spares_give(ta_plan_objects_of(ta_state_of_class(type))->spare_runs, self);
    Py_DECREF(type);
}

/* -- the beginning and the ends --------------------------------------------------------------- */

static ta_plan_run_state start(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    if (TA_LIKELY(run->plan->hook[H_observe] == NULL))
        return ST_BODY;
    PyObject *request = ta_plan_run_request(run);
    int rc = request ? ta_plan_run_observe(run, run->plan->st->names.request, request) : -1;
    Py_XDECREF(request);
    return rc < 0 ? ST_FAILED : ST_BODY;
}

/* The response and its background are done. */
static ta_plan_run_state answered(ta_plan_run *r, PyObject *value)
{
    Py_XDECREF(value);
    r->awaited = true;
    return TA_UNLIKELY(ta_exit_stack_pending(r, SCOPE_REQUEST))
               ? ta_exit_stack_leave(r, SCOPE_REQUEST)
               : ST_CLOSE;
}

static ta_plan_run_state failed(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    if (run->cm != NULL && ta_plan_run_leave_operation(run) < 0) {
        /* the manager's own exception takes over */
    }
    Py_CLEAR(run->entering);
    Py_CLEAR(run->pending);
    TA_ASSERT(run->exc == NULL);
    if (ta_exit_stack_pending(run, SCOPE_FUNCTION) || ta_exit_stack_pending(run, SCOPE_REQUEST)) {
        run->exc = PyErr_GetRaisedException();
        run->in_flight = true;
        return ta_exit_stack_leave(run, SCOPE_FUNCTION);
    }
    Py_CLEAR(run->own_background);
    ta_plan_run_state next = ta_errors_answer(run);
    if (next != ST_FAILED)
        return next;
    run->exc = PyErr_GetRaisedException();
    return ST_CLOSE;
}

/* Takes what is to be closed next at the end; owned, NULL: nothing. */
static PyObject *take_last(ta_plan_run *r)
{
    PyObject **place = r->stacks[SCOPE_ALL] ? &r->stacks[SCOPE_ALL] : &r->form;
    PyObject *last = *place;
    *place = NULL;
    return last;
}

/* Closes the outermost stack and the form, then ends with r->exc or the result. */
static ta_plan_run_state close_all(ta_plan_run *run, PyObject *value)
{
    Py_XDECREF(value);
    for (PyObject *last; TA_UNLIKELY((last = take_last(run)) != NULL);) {
        if (!run->co.closing) {
            PyObject *aw = PyObject_CallMethodNoArgs(last, run->plan->st->names.close);
            Py_DECREF(last);
            if (aw != NULL && ta_coroutine_await(&run->co, aw) == TA_WAITS)
                return ST_CLOSE;
            /* not closable: the request's own outcome matters more, if it is an exception */
            if (run->exc == NULL)
                run->exc = PyErr_GetRaisedException();
            else
                PyErr_Clear();
        } else {
            Py_DECREF(last);
        }
    }
    PyObject *exc = run->exc;
    run->exc = NULL;
    drop_all(run);
    if (exc == NULL)
        return ST_DONE;
    Py_CLEAR(run->co.result);
    PyErr_SetRaisedException(exc);
    return ST_RAISED;
}

/* As an exit stack: the new exception, with the old one as its context. */
static ta_plan_run_state close_failed(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    PyObject *exc = PyErr_GetRaisedException();
    if (run->exc != NULL && run->exc != exc)
        PyException_SetContext(exc, run->exc); /* steals */
    else
        Py_XDECREF(run->exc);
    run->exc = exc;
    return ST_CLOSE;
}

/* -- the machine ------------------------------------------------------------------------------ */

/* Never called: a run that has ended is not advanced. */
static ta_plan_run_state resumed(ta_plan_run *r, PyObject *value)
{
    Py_XDECREF(value);
    PyErr_SetString(PyExc_SystemError, "a finished run was resumed");
    return ST_RAISED;
}

#define TO(state) (1u << ST_##state)
_Static_assert(ST_COUNT <= 32, "the successors of a state are the bits of an unsigned");

/*
 * failed: the state that deals with an exception of this one, be it raised by the step or by what
 * was waited for.  next: the states that may follow.
 */
typedef struct stage {
    const char *name;
    ta_plan_run_step *step;
    ta_plan_run_state failed;
    unsigned next;
} stage;

static const stage stages[ST_COUNT] = {
    /* clang-format off */
    [ST_START] = {"start", start, ST_FAILED, TO(BODY)},
    [ST_BODY] = {"body", ta_body_begin, ST_BODY_FAILED,
                 TO(BODY_BYTES) | TO(BODY_WHOLE) | TO(BODY_FORM) | TO(DEPENDENCIES)},
    [ST_BODY_BYTES] = {"body bytes", ta_body_bytes, ST_BODY_FAILED,
                       TO(BODY_JSON) | TO(DEPENDENCIES)},
    [ST_BODY_JSON] = {"body json", ta_body_json, ST_BODY_FAILED, TO(DEPENDENCIES)},
    [ST_BODY_WHOLE] = {"body whole", ta_body_whole, ST_BODY_FAILED,
                       TO(BODY_FORM) | TO(DEPENDENCIES)},
    [ST_BODY_FORM] = {"body form", ta_body_form, ST_BODY_FAILED, TO(DEPENDENCIES)},
    [ST_BODY_FAILED] = {"body failed", ta_body_failed, ST_FAILED, 0},
    [ST_DEPENDENCIES] = {"dependencies", ta_dependencies_begin, ST_FAILED, TO(NODE)},
    [ST_NODE] = {"node", ta_dependencies_node, ST_FAILED,
                 TO(NODE) | TO(NODE_BODY) | TO(NODE_VALUE) | TO(SOLVED)},
    [ST_NODE_BODY] = {"node body", ta_dependencies_body, ST_FAILED,
                      TO(NODE) | TO(NODE_VALUE) | TO(SOLVED)},
    [ST_NODE_VALUE] = {"node value", ta_dependencies_value, ST_FAILED, TO(NODE)},
    [ST_SOLVED] = {"solved", ta_endpoint_call, ST_FAILED,
                   TO(RETURNED) | TO(RESPONSE) | TO(SENT) | TO(CLOSE)},
    [ST_RETURNED] = {"returned", ta_reply_endpoint, ST_FAILED,
                     TO(CONTENT) | TO(MADE) | TO(RESPONSE) | TO(SENT) | TO(LEAVE)},
    [ST_CONTENT] = {"content", ta_reply_content, ST_FAILED, TO(SENT) | TO(LEAVE)},
    [ST_MADE] = {"made", ta_reply_made, ST_FAILED, TO(RESPONSE)},
    [ST_RESPONSE] = {"response", ta_reply_response, ST_FAILED, TO(SENT) | TO(LEAVE) | TO(CLOSE)},
    [ST_PENDING] = {"pending", ta_reply_pending, ST_FAILED, TO(SENT)},
    [ST_SENT] = {"sent", ta_reply_sent, ST_FAILED, TO(BACKGROUND) | TO(ANSWERED)},
    [ST_BACKGROUND] = {"background", ta_background_next, ST_FAILED,
                       TO(BACKGROUND) | TO(ANSWERED)},
    [ST_ANSWERED] = {"answered", answered, ST_FAILED, TO(LEAVE) | TO(CLOSE)},
    [ST_LEAVE] = {"leave", ta_exit_stack_next, ST_FAILED,
                  TO(EXIT) | TO(LEAVE) | TO(PENDING) | TO(CLOSE)},
    [ST_EXIT] = {"exit", ta_exit_stack_answer, ST_EXIT_FAILED, TO(LEAVE)},
    [ST_EXIT_FAILED] = {"exit failed", ta_exit_stack_failed, ST_FAILED, TO(LEAVE)},
    [ST_FAILED] = {"failed", failed, ST_FAILED,
                   TO(LEAVE) | TO(HANDLED) | TO(SENT) | TO(CLOSE)},
    [ST_HANDLED] = {"handled", ta_errors_handled, ST_FAILED, TO(RESPONSE) | TO(CLOSE)},
    [ST_CLOSE] = {"close", close_all, ST_CLOSE_FAILED, TO(CLOSE) | TO(DONE) | TO(RAISED)},
    [ST_CLOSE_FAILED] = {"close failed", close_failed, ST_FAILED, TO(CLOSE)},
    [ST_DONE] = {"done", resumed, ST_RAISED, 0},
    [ST_RAISED] = {"raised", resumed, ST_RAISED, 0},
    /* clang-format on */
};

static bool has_exception(ta_plan_run_state state)
{
    return state == ST_FAILED || state == ST_BODY_FAILED || state == ST_EXIT_FAILED ||
           state == ST_CLOSE_FAILED || state == ST_RAISED;
}

/* May the run go from one state to the other?  Says it when not. */
static bool may_follow(ta_plan_run_state from, ta_plan_run_state to)
{
    bool allowed = (stages[from].next & (1u << to)) != 0 || to == stages[from].failed;
    if (!allowed || has_exception(to) != (PyErr_Occurred() != NULL))
        (void)fprintf(stderr, "plan: from \"%s\" to \"%s\", %s exception is set\n",
                      stages[from].name, stages[to].name, PyErr_Occurred() ? "an" : "no");
    return allowed && has_exception(to) == (PyErr_Occurred() != NULL);
}

static ta_outcome advance(ta_coroutine *co, PyObject *value)
{
    ta_plan_run *run = (ta_plan_run *)co;
    TA_ASSERT(co->delegate == NULL && run->given == NULL && run->state < ST_DONE);
    if (value == NULL && (run->state != ST_START || PyErr_Occurred()))
        run->state = (uint8_t)stages[run->state].failed;
    do {
        const stage *at = &stages[run->state];
        ta_plan_run_state next = at->step(run, value);
        if (TA_UNLIKELY(next == ST_FAILED))
            next = at->failed;
        TA_ASSERT(may_follow(run->state, next));
        run->state = (uint8_t)next;
        if (co->delegate != NULL)
            return TA_WAITS;
        value = run->given;
        run->given = NULL;
    } while (run->state < ST_DONE);
    return run->state == ST_DONE ? TA_DONE : TA_FAILED;
}

/* -- native entry ----------------------------------------------------------------------------- */

bool ta_plan_check(ta_state *st, PyObject *obj)
{
    return Py_IS_TYPE(obj, ta_plan_objects_of(st)->plan_type);
}

bool ta_plan_needs_task(PyObject *plan, const ta_exchange *exchange)
{
    /* debug mode reports slow steps of Tasks */
    return !((ta_plan *)plan)->direct || exchange->ls->debug;
}

/* Leaves the context (steals); the exception that is set stays set. */
static int leave_context(PyObject *context)
{
    PyObject *exc = PyErr_GetRaisedException();
    int rc = PyContext_Exit(context);
    Py_DECREF(context);
    if (exc != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(exc);
    }
    return exc ? 0 : rc;
}

ta_outcome ta_plan_run_native(ta_state *st, PyObject *obj, ta_exchange *exchange, PyObject **run)
{
    ta_plan *plan = (ta_plan *)obj;
    ta_plan_run *plan_run = ta_plan_run_new(st, plan, exchange, MODE_NATIVE);
    if (plan_run == NULL)
        return TA_FAILED;
    if (ta_plan_needs_task(obj, exchange)) {
        *run = (PyObject *)plan_run;
        return TA_WAITS;
    }
    /* Most likely nothing here waits, so there is no Task yet. */
    PyObject *context = NULL;
    if (plan->isolate) {
        context = PyContext_Copy(exchange->ls->context);
        if (context == NULL || PyContext_Enter(context) < 0) {
            Py_XDECREF(context);
            Py_DECREF(plan_run);
            return TA_FAILED;
        }
    }
    exchange->ls->bare = context == NULL;
    ta_coroutine_enter(&plan_run->co);
    ta_outcome outcome = advance(&plan_run->co, NULL);
    exchange->ls->bare = false;
    plan_run->co.finished = outcome != TA_WAITS;
    ta_coroutine_leave(&plan_run->co);
    if (context != NULL && leave_context(context) < 0) {
        Py_DECREF(plan_run);
        return TA_FAILED;
    }
    if (outcome == TA_WAITS)
        *run = (PyObject *)plan_run; /* its first step is that of the delegate */
    else
        Py_DECREF(plan_run);
    return outcome;
}

/* -- the type --------------------------------------------------------------------------------- */

static PyObject *run_get_name(PyObject *self, void *Py_UNUSED(ignored))
{
    ta_plan_run *run = (ta_plan_run *)self;
    PyObject *call =
        run->plan && run->plan->nnodes ? run->plan->nodes[run->plan->nnodes - 1].call : NULL;
    PyObject *name = NULL;
    if (call != NULL && PyObject_GetOptionalAttrString(call, "__qualname__", &name) < 0)
        return NULL;
    return name ? name : PyUnicode_FromString("Run");
}

static PyMethodDef run_methods[] = {TA_COROUTINE_METHODS, {NULL, NULL, 0, NULL}};

static PyGetSetDef run_getset[] = {TA_COROUTINE_GETSET,
                                   {"__name__", run_get_name, NULL, NULL, NULL},
                                   {"__qualname__", run_get_name, NULL, NULL, NULL},
                                   {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot run_slots[] = {TA_COROUTINE_SLOTS,
                                  {Py_tp_dealloc, run_dealloc},
                                  {Py_tp_traverse, run_traverse},
                                  {Py_tp_clear, run_clear},
                                  {Py_tp_methods, run_methods},
                                  {Py_tp_getset, run_getset},
                                  {0, NULL}};

PyType_Spec ta_plan_run_type_spec = {.name = "turboapi._core.Run",
                                     .basicsize = sizeof(ta_plan_run),
                                     .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC |
                                              Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                     .slots = run_slots};
