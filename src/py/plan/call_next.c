/*
 * call_next.c -- call_next() of a middleware of `@app.middleware("http")`, and the endpoint.
 *
 * Layer: py/plan.  What is inside runs in a Task with a copy of the context, as Starlette's does,
 * which begins at once.  Nearly all end in their first step; what still runs is awaited by the
 * Python half (_inside_task.Level._wait), so that a caller who stops waiting does not stop it.
 */
#include "py/exchange/asgi_exchange.h"
#include "py/loop/loop_objects.h"
#include "py/plan/http_middleware_int.h"
#include "py/plan/innermost.h"
#include "py/plan/passed_response.h"
#include "py/plan/run_int.h"
#include "py/support/types.h"

#include <structmember.h>

typedef struct call_next {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    /* owned */
    ta_http_middleware *mw;
    ta_http_level *level;
    PyObject *send;
} call_next;

/* One call of it, awaited. */
typedef struct next_run {
    ta_coroutine co;
    call_next *owner; /* owned, until the end */
    bool begun;
} next_run;

typedef enum endpoint_state {
    ENDPOINT_NEW,
    ENDPOINT_RUNS, /* the plan runs */
    ENDPOINT_GIVEN /* the Python half makes the response */
} endpoint_state;

/* The innermost part: a route's plan. */
typedef struct endpoint_run {
    ta_coroutine co;
    /* owned, until the end */
    ta_http_middleware *mw;
    ta_http_level *level;
    PyObject *scope, *receive, *send, *context;
    ta_exchange *x; /* NULL before the first step */
    PyObject *plan; /* as x */
    endpoint_state state;
} endpoint_run;

ta_outcome ta_call_next_guard(const ta_http_middleware *mw, ta_coroutine *co)
{
    if (!PyErr_ExceptionMatches(PyExc_SystemExit) &&
        !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return TA_FAILED;
    PyObject *exc = PyErr_GetRaisedException();
    co->result = PyObject_CallOneArg(mw->kit.exit_type, exc);
    Py_DECREF(exc);
    return co->result ? TA_DONE : TA_FAILED;
}

/* -- the endpoint ----------------------------------------------------------------------------- */

/* Waits for a method of the Python half's, given the rest of its arguments. */
static ta_outcome ask(endpoint_run *run, PyObject *name, PyObject *about)
{
    PyObject *args[] = {
        (PyObject *)run->mw, about,     run->plan ? run->plan : Py_None, run->scope,
        run->receive,        run->send, (PyObject *)run->level,          run->context};
    PyObject *awaitable = PyObject_VectorcallMethod(name, args, 8, NULL);
    if (awaitable == NULL)
        return TA_FAILED;
    run->state = ENDPOINT_GIVEN;
    return ta_coroutine_await(&run->co, awaitable);
}

static ta_outcome begin_plan(endpoint_run *run)
{
    ta_state *st = run->mw->st;
    int rc = ta_innermost_find(run->mw->innermost, run->scope, true, &run->plan);
    if (rc == 0) /* the middleware has changed the request */
        return ask(run, st->names.private_run, Py_None);
    if (rc < 0)
        return TA_FAILED;
    run->state = ENDPOINT_RUNS;
    run->x = ta_asgi_exchange_keeping(st, run->scope, run->receive, run->send);
    if (run->x == NULL)
        return TA_FAILED;
    PyObject *plan_run = (PyObject *)ta_plan_run_new(st, (ta_plan *)run->plan, run->x, MODE_RETURN);
    return plan_run ? ta_coroutine_await(&run->co, plan_run) : TA_FAILED;
}

/* The plan has ended: with a response (borrowed), or with one that the exchange has. */
static ta_outcome take_response(endpoint_run *run, PyObject *response)
{
    const ta_http_middleware *mw = run->mw;
    PyObject *status, *headers, *body;
    if (ta_asgi_exchange_take_kept(run->x, &status, &headers, &body)) {
        run->co.result = ta_passed_response_new(mw->kit.response_type, status, headers, body);
        return run->co.result ? TA_DONE : TA_FAILED;
    }
    int rc = ta_passed_response_of(mw->st, mw->kit.response_type, response, &run->co.result);
    if (rc != 0)
        return rc == 1 ? TA_DONE : TA_FAILED;
    return ask(run, mw->st->names.private_give, response);
}

static ta_outcome endpoint_go_on(endpoint_run *run, PyObject *value)
{
    switch (run->state) {
    case ENDPOINT_NEW:
        break;
    case ENDPOINT_RUNS:
        return take_response(run, value);
    case ENDPOINT_GIVEN:
        run->co.result = Py_NewRef(value);
        return TA_DONE;
    }
    return begin_plan(run);
}

/* An exception has left the plan: the handlers are offered it, as ExceptionMiddleware does. */
static ta_outcome endpoint_failed(endpoint_run *run)
{
    if (run->state != ENDPOINT_RUNS || run->co.closing || !PyErr_ExceptionMatches(PyExc_Exception))
        return TA_FAILED;
    PyObject *exc = PyErr_GetRaisedException();
    ta_outcome outcome = ask(run, run->mw->st->names.private_failed, exc);
    Py_DECREF(exc);
    return outcome;
}

static void endpoint_drop(endpoint_run *run)
{
    Py_CLEAR(run->mw);
    Py_CLEAR(run->level);
    Py_CLEAR(run->scope);
    Py_CLEAR(run->receive);
    Py_CLEAR(run->send);
    Py_CLEAR(run->context);
    Py_CLEAR(run->x);
    Py_CLEAR(run->plan);
}

static ta_outcome endpoint_advance(ta_coroutine *co, PyObject *value)
{
    endpoint_run *run = (endpoint_run *)co;
    TA_ASSERT(run->mw != NULL); /* not after its end */
    ta_outcome outcome = TA_FAILED;
    if (value != NULL || !PyErr_Occurred())
        outcome = endpoint_go_on(run, value);
    Py_XDECREF(value);
    if (TA_UNLIKELY(outcome == TA_FAILED))
        outcome = endpoint_failed(run);
    if (TA_UNLIKELY(outcome == TA_FAILED))
        outcome = ta_call_next_guard(run->mw, co);
    if (outcome != TA_WAITS)
        endpoint_drop(run);
    return outcome;
}

static PyObject *endpoint_new(const call_next *owner, PyObject *scope, PyObject *receive,
                              PyObject *context)
{
    ta_http_middleware *mw = owner->mw;
    endpoint_run *run =
        PyObject_GC_New(endpoint_run, ta_plan_objects_of(mw->st)->inside_endpoint_type);
    if (run == NULL)
        return NULL;
    ta_coroutine_init(&run->co, endpoint_advance);
    run->mw = (ta_http_middleware *)Py_NewRef((PyObject *)mw);
    run->level = (ta_http_level *)Py_NewRef((PyObject *)owner->level);
    run->scope = Py_NewRef(scope);
    run->receive = Py_NewRef(receive);
    run->send = Py_NewRef(owner->send);
    run->context = Py_NewRef(context);
    run->x = NULL;
    run->plan = NULL;
    run->state = ENDPOINT_NEW;
    PyObject_GC_Track((PyObject *)run);
    return (PyObject *)run;
}

static int endpoint_traverse(PyObject *self, visitproc visit, void *arg)
{
    endpoint_run *run = (endpoint_run *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)run->mw);
    Py_VISIT((PyObject *)run->level);
    Py_VISIT(run->scope);
    Py_VISIT(run->receive);
    Py_VISIT(run->send);
    Py_VISIT(run->context);
    Py_VISIT(run->x);
    Py_VISIT(run->plan);
    return ta_coroutine_traverse(&run->co, visit, arg);
}

static int endpoint_clear(PyObject *self)
{
    endpoint_run *run = (endpoint_run *)self;
    run->co.finished = true;
    ta_coroutine_clear(&run->co);
    endpoint_drop(run);
    return 0;
}

static void endpoint_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)endpoint_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* -- the Task --------------------------------------------------------------------------------- */

/* A Task that has made its first step with the coroutine; a new reference, or NULL. */
static PyObject *start_task(const ta_http_middleware *mw, PyObject *coro, PyObject *context)
{
    const ta_loop_objects *objects = ta_loop_objects_of(mw->st);
    PyObject *task = NULL, *factory = NULL;
    PyObject *loop = PyObject_CallNoArgs(objects->selector.get_running_loop);
    if (loop == NULL)
        return NULL;
    bool eager = !Py_IsNone(mw->kit.eager_kwnames);
    int found =
        eager ? PyObject_GetOptionalAttr(loop, mw->st->names.private_task_factory, &factory) : 0;
    if (found > 0 && Py_IsNone(factory)) {
        PyObject *args[] = {NULL, coro, loop, context, Py_True};
        task = PyObject_Vectorcall(objects->task.task_class, args + 1,
                                   1 | PY_VECTORCALL_ARGUMENTS_OFFSET, mw->kit.eager_kwnames);
    } else if (found >= 0) {
        PyObject *args[] = {NULL, loop, coro, context};
        task =
            PyObject_Vectorcall(mw->kit.start, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(factory);
    Py_DECREF(loop);
    return task;
}

/* The coroutine of what is inside, or NULL with an exception. */
static PyObject *inside(const call_next *owner, PyObject *context)
{
    ta_http_middleware *mw = owner->mw;
    PyObject *coro = NULL, *receive = NULL;
    PyObject *scope = PyObject_GetAttr(owner->level->request, mw->st->names.scope);
    if (scope != NULL)
        receive = ta_http_level_receive(mw, owner->level);
    if (receive != NULL && mw->inner != NULL)
        coro = mw->inner->respond(mw->inner, scope, receive, owner->send, owner->level, context);
    else if (receive != NULL)
        coro = endpoint_new(owner, scope, receive, context);
    Py_XDECREF(receive);
    Py_XDECREF(scope);
    return coro;
}

/* What the Task has returned.  As advance. */
static ta_outcome take_result(next_run *run, PyObject *result /* steals */)
{
    const ta_http_middleware *mw = run->owner->mw;
    if (result == NULL)
        return TA_FAILED;
    if (TA_UNLIKELY((PyObject *)Py_TYPE(result) == mw->kit.exit_type)) {
        PyObject *error = PyObject_GetAttr(result, mw->st->names.error);
        Py_DECREF(result);
        if (error != NULL)
            PyErr_SetRaisedException(error);
        return TA_FAILED;
    }
    run->co.result = result;
    return TA_DONE;
}

static bool is_true(PyObject *answer /* steals, may be NULL with an exception */)
{
    bool yes = answer == Py_True;
    Py_XDECREF(answer);
    return yes;
}

static ta_outcome begin(next_run *run)
{
    const call_next *owner = run->owner;
    const ta_names_state *names = &owner->mw->st->names;
    if (owner->level->left) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This task group is not active; no new tasks can be started.");
        return TA_FAILED;
    }
    PyObject *context = PyContext_CopyCurrent();
    PyObject *coro = context ? inside(owner, context) : NULL;
    PyObject *task = coro ? start_task(owner->mw, coro, context) : NULL;
    Py_XDECREF(coro);
    Py_XDECREF(context);
    if (task == NULL)
        return TA_FAILED;
    ta_outcome outcome = TA_FAILED;
    if (is_true(PyObject_CallMethodNoArgs(task, names->done)) &&
        !is_true(PyObject_CallMethodNoArgs(task, names->cancelled))) {
        outcome = take_result(run, PyObject_CallMethodNoArgs(task, names->result));
    } else if (!PyErr_Occurred()) {
        PyObject *awaitable =
            PyObject_CallMethodOneArg((PyObject *)owner->level, names->private_wait, task);
        if (awaitable != NULL)
            outcome = ta_coroutine_await(&run->co, awaitable);
    }
    Py_DECREF(task);
    return outcome;
}

static ta_outcome next_advance(ta_coroutine *co, PyObject *value)
{
    next_run *run = (next_run *)co;
    ta_outcome outcome = TA_FAILED;
    TA_ASSERT(run->owner != NULL); /* not after its end */
    if (value == NULL && PyErr_Occurred()) {
        outcome = TA_FAILED;
    } else if (run->begun) {
        outcome = take_result(run, value);
    } else {
        run->begun = true;
        outcome = begin(run);
    }
    if (outcome != TA_WAITS)
        Py_CLEAR(run->owner);
    return outcome;
}

static int next_traverse(PyObject *self, visitproc visit, void *arg)
{
    next_run *run = (next_run *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)run->owner);
    return ta_coroutine_traverse(&run->co, visit, arg);
}

static int next_clear(PyObject *self)
{
    next_run *run = (next_run *)self;
    run->co.finished = true;
    ta_coroutine_clear(&run->co);
    Py_CLEAR(run->owner);
    return 0;
}

static void next_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)next_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* -- call_next -------------------------------------------------------------------------------- */

/* call_next(request): the argument is not looked at, as Starlette's does not. */
static PyObject *call(PyObject *self, PyObject *const *Py_UNUSED(args), size_t nargsf,
                      PyObject *kwnames)
{
    call_next *owner = (call_next *)self;
    ta_state *st = owner->mw->st;
    Py_ssize_t given = PyVectorcall_NARGS(nargsf);
    bool named = kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 &&
                 PyUnicode_Compare(PyTuple_GET_ITEM(kwnames, 0), st->names.request) == 0;
    if (given + named != 1 || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0 && !named)) {
        PyErr_SetString(PyExc_TypeError, "call_next() takes one argument, the request");
        return NULL;
    }
    next_run *run = PyObject_GC_New(next_run, ta_plan_objects_of(st)->call_next_run_type);
    if (run == NULL)
        return NULL;
    ta_coroutine_init(&run->co, next_advance);
    run->owner = (call_next *)Py_NewRef(self);
    run->begun = false;
    PyObject_GC_Track((PyObject *)run);
    return (PyObject *)run;
}

PyObject *ta_call_next_new(ta_http_middleware *mw, ta_http_level *level, PyObject *send)
{
    call_next *self = PyObject_GC_New(call_next, ta_plan_objects_of(mw->st)->call_next_type);
    if (self == NULL)
        return NULL;
    self->vectorcall = call;
    self->mw = (ta_http_middleware *)Py_NewRef((PyObject *)mw);
    self->level = (ta_http_level *)Py_NewRef((PyObject *)level);
    self->send = Py_NewRef(send);
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    call_next *owner = (call_next *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)owner->mw);
    Py_VISIT((PyObject *)owner->level);
    Py_VISIT(owner->send);
    return 0;
}

/* The middleware and the level are needed as long as it can be called: no cycle is of it alone. */
static void dealloc(PyObject *self)
{
    call_next *owner = (call_next *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF((PyObject *)owner->mw);
    Py_DECREF((PyObject *)owner->level);
    Py_DECREF(owner->send);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* -- the types -------------------------------------------------------------------------------- */

static PyObject *run_name(PyObject *Py_UNUSED(self), void *closure)
{
    return PyUnicode_FromString(closure);
}

static PyMethodDef co_methods[] = {TA_COROUTINE_METHODS, {NULL}};
static PyGetSetDef next_getset[] = {TA_COROUTINE_GETSET,
                                    {"__name__", run_name, NULL, NULL, "call_next"},
                                    {"__qualname__", run_name, NULL, NULL, "call_next"},
                                    {NULL}};
static PyGetSetDef endpoint_getset[] = {TA_COROUTINE_GETSET,
                                        {"__name__", run_name, NULL, NULL, "endpoint"},
                                        {"__qualname__", run_name, NULL, NULL, "endpoint"},
                                        {NULL}};

static PyType_Slot next_slots[] = {
    TA_COROUTINE_SLOTS,
    {Py_tp_methods, co_methods},
    {Py_tp_getset, next_getset},
    {Py_tp_traverse, next_traverse},
    {Py_tp_clear, next_clear},
    {Py_tp_dealloc, next_dealloc},
    {0, NULL},
};

static PyType_Slot endpoint_slots[] = {
    TA_COROUTINE_SLOTS,
    {Py_tp_methods, co_methods},
    {Py_tp_getset, endpoint_getset},
    {Py_tp_traverse, endpoint_traverse},
    {Py_tp_clear, endpoint_clear},
    {Py_tp_dealloc, endpoint_dealloc},
    {0, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(call_next, vectorcall), READONLY, NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "call_next(request): await it for the response of what is inside."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, members},
    {Py_tp_traverse, traverse},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

#define FLAGS (TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Spec next_spec = {
    .name = "turboapi._core.CallNextRun",
    .basicsize = sizeof(next_run),
    .flags = FLAGS,
    .slots = next_slots,
};

static PyType_Spec endpoint_spec = {
    .name = "turboapi._core.InsideEndpoint",
    .basicsize = sizeof(endpoint_run),
    .flags = FLAGS,
    .slots = endpoint_slots,
};

static PyType_Spec spec = {
    .name = "turboapi._core.CallNext",
    .basicsize = sizeof(call_next),
    .flags = FLAGS | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};

int ta_call_next_init(PyObject *module, ta_state *st)
{
    ta_plan_objects *objects = ta_plan_objects_of(st);
    if (ta_types_add(module, &next_spec, NULL, &objects->call_next_run_type) < 0 ||
        ta_types_add(module, &endpoint_spec, NULL, &objects->inside_endpoint_type) < 0)
        return -1;
    return ta_types_add(module, &spec, NULL, &objects->call_next_type);
}
