/*
 * plan_run.c -- ta_run: one request walking through its plan.
 *
 * body -> nodes -> endpoint -> response -> background, each a step that either goes on, or waits
 * for an awaitable (coroutine.c hands what it yields up to the Task), or fails.  A failure ends in
 * `failed`: it may become a response of handle_error; whatever happens, the form is closed and all
 * references are dropped.
 */
#include "py/loop/loop_state.h"
#include "py/plan/plan_int.h"

/* -- life ------------------------------------------------------------------------------------- */

int ta_run_use_plan(ta_run *r, ta_plan *plan)
{
    char *block = r->inline_block;
    if (plan->block > sizeof r->inline_block) {
        block = PyMem_Malloc(plan->block);
        if (block == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    memset(block, 0, plan->block);
    r->block = block;
    r->values = (PyObject **)(void *)block;
    uint32_t nexits = plan->nslots - plan->nvalues - plan->ncache;
    r->exit_kinds = (uint16_t *)(void *)(r->values + plan->nslots);
    r->bad = (uint8_t *)(r->exit_kinds + nexits);
    Py_XSETREF(r->plan, (ta_plan *)Py_NewRef(plan));
    return 0;
}

void ta_run_drop_values(ta_run *r)
{
    if (r->block == NULL)
        return;
    for (uint32_t i = 0; i < r->plan->nslots; i++)
        Py_CLEAR(r->values[i]);
    if (r->block != r->inline_block)
        PyMem_Free(r->block);
    r->block = NULL;
    r->values = NULL;
}

ta_run *ta_run_new(ta_state *st, ta_plan *plan, ta_xch *x, ta_mode mode)
{
    ta_run *r;
    PyTypeObject *run_type = ta_plan_objects_of(st)->run_type;
#ifndef Py_GIL_DISABLED
    ta_unused_runs *unused = ta_unused_runs_of(st);
    if (unused->count > 0) {
        r = unused->runs[--unused->count];
        PyObject_Init((PyObject *)r, run_type);
    } else
#endif
    {
        r = PyObject_GC_New(ta_run, run_type);
        if (r == NULL)
            return NULL;
    }
    memset((char *)r + sizeof(PyObject), 0, offsetof(ta_run, inline_block) - sizeof(PyObject));
    r->co.advance = ta_run_advance;
    r->mode = (uint8_t)mode;
    if (ta_run_use_plan(r, plan) < 0) {
        Py_DECREF(r);
        return NULL;
    }
    r->x = (ta_xch *)Py_NewRef((PyObject *)x);
    PyObject_GC_Track(r);
    return r;
}

/* Drops all that the run holds but its outcome. */
static void drop_all(ta_run *r)
{
    ta_run_drop_values(r);
    Py_CLEAR(r->body);
    Py_CLEAR(r->raw_body);
    Py_CLEAR(r->fast_value);
    Py_CLEAR(r->errors);
    Py_CLEAR(r->background);
    Py_CLEAR(r->response);
    Py_CLEAR(r->own_background);
    Py_CLEAR(r->form);
    Py_CLEAR(r->cm);
    Py_CLEAR(r->entering);
    Py_CLEAR(r->cleanup);
    for (size_t i = 0; i < TA_COUNTOF(r->stacks); i++)
        Py_CLEAR(r->stacks[i]);
    Py_CLEAR(r->pending);
    Py_CLEAR(r->exc);
    if (r->x != NULL) {
        /* the request holds the exchange, through send: no cycle is left behind */
        Py_CLEAR(r->x->request);
    }
    Py_CLEAR(r->x);
}

static int run_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_run *r = (ta_run *)self;
    Py_VISIT(Py_TYPE(self));
    if (r->block != NULL) {
        for (uint32_t i = 0; i < r->plan->nslots; i++)
            Py_VISIT(r->values[i]);
    }
    Py_VISIT(r->plan);
    Py_VISIT(r->x);
    Py_VISIT(r->body);
    Py_VISIT(r->raw_body);
    Py_VISIT(r->fast_value);
    Py_VISIT(r->errors);
    Py_VISIT(r->background);
    Py_VISIT(r->response);
    Py_VISIT(r->own_background);
    Py_VISIT(r->form);
    Py_VISIT(r->cm);
    Py_VISIT(r->entering);
    Py_VISIT(r->cleanup);
    for (size_t i = 0; i < TA_COUNTOF(r->stacks); i++)
        Py_VISIT(r->stacks[i]);
    Py_VISIT(r->pending);
    Py_VISIT(r->exc);
    return ta_co_traverse(&r->co, visit, arg);
}

static int run_clear(PyObject *self)
{
    ta_run *r = (ta_run *)self;
    r->co.finished = true; /* a run that the collector took apart cannot go on */
    ta_co_clear(&r->co);
    drop_all(r);
    return 0;
}

static void run_dealloc(PyObject *self)
{
    ta_run *r = (ta_run *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    ta_co_clear(&r->co);
    drop_all(r);
#ifndef Py_GIL_DISABLED
    ta_state *st = r->plan ? r->plan->st : NULL;
    Py_CLEAR(r->plan);
    ta_unused_runs *unused = st ? ta_unused_runs_of(st) : NULL;
    if (st != NULL && ta_plan_objects_of(st)->run_type != NULL &&
        unused->count < TA_UNUSED_RUNS_MAX) {
        unused->runs[unused->count++] = r;
        Py_DECREF(type);
        return;
    }
#else
    Py_CLEAR(r->plan);
#endif
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* -- operations (telemetry) ------------------------------------------------------------------- */

int ta_operation_enter(ta_run *r, PyObject *name)
{
    PyObject *hook = r->plan->hook[H_operation];
    if (TA_LIKELY(hook == NULL))
        return 0;
    ta_plan *plan = r->plan;
    PyObject *call = plan->nodes[plan->nnodes - 1].call;
    PyObject *args[] = {NULL, name, call ? call : Py_None};
    PyObject *cm = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (cm == NULL)
        return -1;
    if (cm == Py_None) {
        Py_DECREF(cm);
        return 0;
    }
    PyObject *entered = PyObject_CallMethodNoArgs(cm, plan->st->names.dunder_enter);
    if (entered == NULL) {
        Py_DECREF(cm);
        return -1;
    }
    Py_DECREF(entered);
    Py_XSETREF(r->cm, cm);
    return 0;
}

/* Leaves with the exception that is set, which stays set (or is replaced by the manager's own). */
int ta_operation_leave(ta_run *r)
{
    PyObject *cm = r->cm;
    if (TA_LIKELY(cm == NULL))
        return 0;
    r->cm = NULL;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *tb = exc ? PyException_GetTraceback(exc) : NULL;
    PyObject *type = exc ? (PyObject *)Py_TYPE(exc) : Py_None;
    PyObject *args[] = {cm, type, exc ? exc : Py_None, tb ? tb : Py_None};
    PyObject *res = PyObject_VectorcallMethod(r->plan->st->names.dunder_exit, args,
                                              4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(tb);
    Py_DECREF(cm);
    if (res == NULL) {
        Py_XDECREF(exc);
        return -1;
    }
    Py_DECREF(res);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return 0;
}

int ta_observe(ta_run *r, PyObject *what, PyObject *value)
{
    PyObject *hook = r->plan->hook[H_observe];
    if (TA_LIKELY(hook == NULL))
        return 0;
    PyObject *args[] = {NULL, what, value};
    PyObject *res = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* -- beginning -------------------------------------------------------------------------------- */

static ta_outcome start(ta_run *r)
{
    if (TA_UNLIKELY(r->plan->hook[H_observe] != NULL)) {
        PyObject *request = ta_deps_request(r);
        if (request == NULL)
            return TA_FAILED;
        int rc = ta_observe(r, r->plan->st->names.request, request);
        Py_DECREF(request);
        if (rc < 0)
            return TA_FAILED;
    }
    return ta_body_begin(r);
}

/* -- end -------------------------------------------------------------------------------------- */

/* What is to be closed next at the end; owned, NULL: nothing. */
static PyObject *take_last(ta_run *r)
{
    PyObject **place = r->stacks[SCOPE_ALL] ? &r->stacks[SCOPE_ALL] : &r->form;
    PyObject *last = *place;
    *place = NULL;
    return last;
}

/* Closes the outermost stack and the form, then ends with r->exc or the result. */
static ta_outcome finish(ta_run *r)
{
    for (PyObject *last; TA_UNLIKELY((last = take_last(r)) != NULL);) {
        r->state = ST_CLOSE_FORM;
        if (!r->co.closing) {
            PyObject *aw = PyObject_CallMethodNoArgs(last, r->plan->st->names.close);
            Py_DECREF(last);
            ta_outcome outcome = aw ? ta_co_await(&r->co, aw) : TA_FAILED;
            if (outcome != TA_FAILED)
                return outcome;
            /* not closable: the request's own outcome matters more, if it is an exception */
            if (r->exc == NULL)
                r->exc = PyErr_GetRaisedException();
            else
                PyErr_Clear();
        } else {
            Py_DECREF(last);
        }
    }
    r->state = ST_FINISHED;
    PyObject *exc = r->exc;
    r->exc = NULL;
    drop_all(r);
    if (exc != NULL) {
        Py_CLEAR(r->co.result);
        PyErr_SetRaisedException(exc);
        return TA_FAILED;
    }
    return TA_DONE;
}

ta_outcome ta_run_finish(ta_run *r)
{
    return finish(r);
}

ta_outcome ta_run_complete(ta_run *r)
{
    r->awaited = true;
    if (TA_UNLIKELY(ta_exits_pending(r, SCOPE_REQUEST)))
        return ta_exits_leave(r, SCOPE_REQUEST);
    return finish(r);
}

/* The exception that is set, offered to handle_error. GO: it stays set. */
static ta_outcome offer(ta_run *r)
{
    ta_plan *plan = r->plan;
    PyObject *hook = plan->hook[H_handle_error];
    if (hook == NULL || r->handled || r->co.closing ||
        (r->mode != MODE_ASGI && r->mode != MODE_NATIVE) ||
        !PyErr_ExceptionMatches(PyExc_Exception))
        return PLAN_GO;
    r->handled = true;
    PyObject *exc = PyErr_GetRaisedException();
    ta_co_handle(&r->co, exc); /* to the end: handlers log sys.exc_info() */
    PyObject *request = ta_deps_request(r);
    PyObject *aw = NULL;
    if (request != NULL) {
        PyObject *args[] = {NULL, request, exc, r->x->response_started ? Py_True : Py_False};
        aw = PyObject_Vectorcall(hook, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(request);
    }
    if (aw == Py_None) {
        Py_DECREF(aw);
        PyErr_SetRaisedException(exc);
        return PLAN_GO;
    }
    if (aw == NULL) {
        Py_DECREF(exc);
        return PLAN_GO;
    }
    Py_DECREF(exc);
    Py_CLEAR(r->own_background);
    r->state = ST_HANDLER;
    return ta_co_await(&r->co, aw);
}

/* An exception is set. */
static ta_outcome failed(ta_run *r)
{
    if (r->state == ST_CLOSE_FORM) {
        /* as an exit stack: the new one, with the old as its context */
        PyObject *exc = PyErr_GetRaisedException();
        if (r->exc != NULL && r->exc != exc)
            PyException_SetContext(exc, r->exc);
        else
            Py_XDECREF(r->exc);
        r->exc = exc;
        return finish(r);
    }
    if (r->state == ST_EXIT)
        return ta_exits_failed(r);
    if (r->state >= ST_BODY_BYTES && r->state <= ST_BODY_FORM)
        ta_body_failed(r);
    if (r->cm != NULL && ta_operation_leave(r) < 0) {
        /* the manager's own exception takes over */
    }
    Py_CLEAR(r->entering);
    Py_CLEAR(r->pending);
    if (ta_exits_pending(r, SCOPE_FUNCTION) || ta_exits_pending(r, SCOPE_REQUEST)) {
        r->exc = PyErr_GetRaisedException();
        r->in_flight = true;
        return ta_exits_leave(r, SCOPE_FUNCTION);
    }
    ta_outcome outcome = offer(r);
    if (outcome == TA_WAITS)
        return outcome;
    r->exc = PyErr_GetRaisedException();
    return finish(r);
}

/* -- the machine ------------------------------------------------------------------------------ */

static ta_outcome handled(ta_run *r, PyObject *response)
{
    if (response != Py_None)
        return ta_reply_send(r, response);
    Py_DECREF(response);
    return finish(r);
}

/* Goes on in r->state with the awaited value (steals). */
static ta_outcome resume(ta_run *r, PyObject *value)
{
    switch ((ta_run_state)r->state) {
    case ST_START:
        return start(r);
    case ST_BODY_BYTES:
        return ta_body_bytes(r, value);
    case ST_BODY_JSON:
        return ta_body_json(r, value);
    case ST_BODY_FORM:
        return ta_body_form(r, value);
    case ST_NODE:
        return ta_deps_node(r);
    case ST_NODE_BODY:
        return ta_deps_body(r, value);
    case ST_NODE_CALL:
        return ta_deps_value(r, value);
    case ST_ENDPOINT:
        return ta_reply_endpoint(r, value);
    case ST_PYTHON:
        return ta_reply_send(r, value);
    case ST_CONTENT:
        return ta_reply_content(r, value);
    case ST_MAKE:
        return ta_reply_made(r, value);
    case ST_HANDLER:
        return handled(r, value);
    case ST_SENT:
        Py_XDECREF(value);
        return ta_reply_sent(r);
    case ST_BACKGROUND:
        Py_XDECREF(value);
        return ta_run_complete(r);
    case ST_EXIT:
        return ta_exits_answer(r, value);
    case ST_CLOSE_FORM:
        Py_XDECREF(value);
        return finish(r);
    case ST_LEFT:
    case ST_FINISHED:
        break;
    }
    Py_XDECREF(value);
    PyErr_SetString(PyExc_SystemError, "a finished run was resumed");
    return TA_FAILED;
}

ta_outcome ta_run_advance(ta_co *co, PyObject *value)
{
    ta_run *r = (ta_run *)co;
    ta_outcome outcome = PLAN_GO;
    if (value == NULL && (r->state != ST_START || PyErr_Occurred()))
        outcome = TA_FAILED;
    for (;;) {
        if (outcome == PLAN_GO) {
            outcome = resume(r, value);
            value = NULL;
        }
        if (outcome == TA_FAILED) {
            if (r->state == ST_FINISHED)
                return TA_FAILED;
            outcome = failed(r);
            if (outcome == TA_FAILED && r->state != ST_FINISHED)
                continue;
        }
        if (outcome != PLAN_GO)
            return outcome;
    }
}

/* -- native entry ----------------------------------------------------------------------------- */

bool ta_plan_is_native(ta_state *st, PyObject *obj)
{
    return Py_IS_TYPE(obj, ta_plan_objects_of(st)->plan_type);
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

ta_outcome ta_plan_run(ta_state *st, PyObject *obj, ta_xch *x, PyObject **run)
{
    ta_plan *plan = (ta_plan *)obj;
    ta_run *r = ta_run_new(st, plan, x, MODE_NATIVE);
    if (r == NULL)
        return TA_FAILED;
    if (!plan->direct || x->ls->debug) { /* debug mode tells of slow steps of Tasks */
        *run = (PyObject *)r;
        return TA_WAITS;
    }
    /* Nothing here may wait, most likely: no Task. */
    PyObject *context = NULL;
    if (plan->isolate) {
        context = PyContext_Copy(x->ls->context);
        if (context == NULL || PyContext_Enter(context) < 0) {
            Py_XDECREF(context);
            Py_DECREF(r);
            return TA_FAILED;
        }
    }
    x->ls->bare = context == NULL;
    ta_co_enter(&r->co);
    ta_outcome outcome = ta_run_advance(&r->co, NULL);
    x->ls->bare = false;
    r->co.finished = outcome != TA_WAITS;
    ta_co_leave(&r->co);
    if (context != NULL && leave_context(context) < 0) {
        Py_DECREF(r);
        return TA_FAILED;
    }
    if (outcome == TA_WAITS)
        *run = (PyObject *)r; /* its first step is that of the delegate */
    else
        Py_DECREF(r);
    return outcome;
}

/* -- the type --------------------------------------------------------------------------------- */

static PyObject *run_get_name(PyObject *self, void *Py_UNUSED(ignored))
{
    ta_run *r = (ta_run *)self;
    PyObject *call = r->plan && r->plan->nnodes ? r->plan->nodes[r->plan->nnodes - 1].call : NULL;
    PyObject *name = NULL;
    if (call != NULL && PyObject_GetOptionalAttrString(call, "__qualname__", &name) < 0)
        return NULL;
    return name ? name : PyUnicode_FromString("Run");
}

static PyMethodDef run_methods[] = {TA_CO_METHODS, {NULL, NULL, 0, NULL}};

static PyGetSetDef run_getset[] = {TA_CO_GETSET,
                                   {"__name__", run_get_name, NULL, NULL, NULL},
                                   {"__qualname__", run_get_name, NULL, NULL, NULL},
                                   {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot run_slots[] = {TA_CO_SLOTS,
                                  {Py_tp_dealloc, run_dealloc},
                                  {Py_tp_traverse, run_traverse},
                                  {Py_tp_clear, run_clear},
                                  {Py_tp_methods, run_methods},
                                  {Py_tp_getset, run_getset},
                                  {0, NULL}};

PyType_Spec ta_run_spec = {.name = "turboapi._core.Run",
                           .basicsize = sizeof(ta_run),
                           .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC |
                                    Py_TPFLAGS_DISALLOW_INSTANTIATION,
                           .slots = run_slots};
