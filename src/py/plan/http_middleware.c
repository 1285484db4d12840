/*
 * http_middleware.c -- one request in a middleware of `@app.middleware("http")`, in C.
 *
 * Layer: py/plan.  A middleware that has only such ones inside of it, and then the application's
 * own routers, needs no messages: call_next() returns the response of the route's plan
 * (call_next.c).  The outermost one is an ASGI application, and sends its response; the others
 * return theirs to the one outside of them.  What the Python half does (middleware/_http.py) is
 * called through the private methods of the middleware and its level.
 */
#include "py/plan/http_middleware_int.h"

#include "py/plan/innermost.h"
#include "py/plan/passed_response.h"
#include "py/support/types.h"

typedef enum level_state {
    LEVEL_NEW,
    LEVEL_DISPATCHED, /* the function of the middleware runs */
    LEVEL_PASSING,    /* its response is made into what the outer one gets */
    LEVEL_SENDING,    /* its response sends itself */
    LEVEL_LANDING,    /* it was sent, and something inside still runs */
    LEVEL_ENDING      /* it has failed, and something inside still runs */
} level_state;

/* One request in one middleware. */
typedef struct level_run {
    ta_coroutine co;
    /* owned, until the end */
    ta_http_middleware *mw;
    PyObject *scope, *receive, *send;
    ta_http_level *outer; /* NULL: this is the outermost one */
    ta_http_level *level; /* NULL before the first step */
    PyObject *context;    /* that in which this runs, or NULL: the outermost one's */
    PyObject *exc;        /* to be raised after LEVEL_ENDING */
    level_state state;
} level_run;

static level_run *run_cast(PyObject *obj)
{
    return (level_run *)obj;
}

/* -- one request ------------------------------------------------------------------------------ */

/* Waits for `awaitable` (steals, may be NULL with an exception) in that state. */
static ta_outcome wait_in(level_run *run, level_state state, PyObject *awaitable)
{
    if (awaitable == NULL)
        return TA_FAILED;
    run->state = state;
    return ta_coroutine_await(&run->co, awaitable);
}

static ta_outcome begin(level_run *run)
{
    ta_http_middleware *mw = run->mw;
    PyObject *awaitable = NULL, *call_next = NULL;
    run->level = ta_http_level_new(mw, run->outer, run->scope, run->receive, run->send);
    if (run->level != NULL)
        call_next = ta_call_next_new(mw, run->level, run->send);
    run->state = LEVEL_DISPATCHED; /* a failure is one of the middleware */
    if (call_next != NULL) {
        PyObject *args[] = {NULL, run->level->request, call_next};
        awaitable =
            PyObject_Vectorcall(mw->dispatch, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(call_next);
    }
    return wait_in(run, LEVEL_DISPATCHED, awaitable);
}

/* receive() of the request of this level: new reference, or NULL with an exception. */
static PyObject *own_receive(const level_run *run)
{
    return PyObject_GetAttr(run->level->request, run->mw->st->names.wrapped_receive);
}

/* The response was sent. */
static ta_outcome land(level_run *run)
{
    if (TA_LIKELY(ta_http_level_is_idle(run->level))) {
        run->level->left = run->level->answered = 1;
        return TA_DONE;
    }
    return wait_in(run, LEVEL_LANDING,
                   PyObject_CallMethodNoArgs((PyObject *)run->level, run->mw->st->names.land));
}

/* The response (borrowed) sends itself. */
static ta_outcome send_it(level_run *run, PyObject *response)
{
    const ta_http_middleware *mw = run->mw;
    PyObject *awaitable = NULL;
    ta_outcome outcome = TA_WAITS;
    run->state = LEVEL_SENDING; /* a failure is one of sending */
    if (Py_IS_TYPE(response, mw->kit.response_type))
        outcome = ta_passed_response_send(mw->st, response, run->send, &awaitable);
    if (outcome == TA_DONE)
        return land(run);
    if (awaitable == NULL && outcome != TA_FAILED) {
        PyObject *receive = own_receive(run);
        if (receive != NULL)
            awaitable =
                PyObject_CallFunctionObjArgs(response, run->scope, receive, run->send, NULL);
        Py_XDECREF(receive);
    }
    return wait_in(run, LEVEL_SENDING, awaitable);
}

/* Nothing more begins inside; the outer one deals with what still runs.  As advance. */
static ta_outcome leave(level_run *run, PyObject *passed /* steals */)
{
    if (TA_LIKELY(ta_http_level_is_idle(run->level))) {
        run->level->left = 1;
    } else {
        PyObject *none =
            PyObject_CallMethodNoArgs((PyObject *)run->level, run->mw->st->names.leave);
        if (none == NULL) {
            Py_DECREF(passed);
            return TA_FAILED;
        }
        Py_DECREF(none);
    }
    run->co.result = passed;
    return TA_DONE;
}

/* The response (borrowed) becomes what the outer one gets. */
static ta_outcome pass_on(level_run *run, PyObject *response)
{
    const ta_http_middleware *mw = run->mw;
    PyObject *out = NULL;
    int rc = ta_passed_response_of(mw->st, mw->kit.response_type, response, &out);
    if (rc == 1)
        return leave(run, out);
    if (rc < 0)
        return TA_FAILED;
    PyObject *receive = own_receive(run);
    if (receive == NULL)
        return TA_FAILED;
    PyObject *args[] = {(PyObject *)mw,         response,    run->scope, receive, run->send,
                        (PyObject *)run->level, run->context};
    PyObject *awaitable = PyObject_VectorcallMethod(mw->st->names.private_pass, args, 7, NULL);
    Py_DECREF(receive);
    return wait_in(run, LEVEL_PASSING, awaitable);
}

/* An exception is set.  What still runs inside is cancelled and awaited before it is raised. */
static ta_outcome fail(level_run *run)
{
    if (run->state == LEVEL_ENDING || run->state == LEVEL_NEW || run->level == NULL)
        return TA_FAILED;
    run->level->left = 1;
    if (TA_LIKELY(ta_http_level_is_idle(run->level)) || run->co.closing)
        return TA_FAILED;
    run->exc = PyErr_GetRaisedException();
    return wait_in(run, LEVEL_ENDING,
                   PyObject_CallMethodNoArgs((PyObject *)run->level, run->mw->st->names.end));
}

/* Goes on with what was waited for (borrowed). */
static ta_outcome go_on(level_run *run, PyObject *value)
{
    switch (run->state) {
    case LEVEL_NEW:
        break;
    case LEVEL_DISPATCHED:
        return run->outer ? pass_on(run, value) : send_it(run, value);
    case LEVEL_PASSING:
        return leave(run, Py_NewRef(value));
    case LEVEL_SENDING:
        return land(run);
    case LEVEL_LANDING:
        return TA_DONE;
    case LEVEL_ENDING:
        PyErr_SetRaisedException(run->exc);
        run->exc = NULL;
        return TA_FAILED;
    }
    return begin(run);
}

static void run_drop(level_run *run)
{
    Py_CLEAR(run->mw);
    Py_CLEAR(run->scope);
    Py_CLEAR(run->receive);
    Py_CLEAR(run->send);
    Py_CLEAR(run->outer);
    Py_CLEAR(run->level);
    Py_CLEAR(run->context);
    Py_CLEAR(run->exc);
}

static ta_outcome run_advance(ta_coroutine *co, PyObject *value)
{
    level_run *run = (level_run *)co;
    TA_ASSERT(run->mw != NULL); /* not after its end */
    ta_outcome outcome = TA_FAILED;
    if (value != NULL || !PyErr_Occurred())
        outcome = go_on(run, value);
    Py_XDECREF(value);
    if (TA_UNLIKELY(outcome == TA_FAILED))
        outcome = fail(run);
    if (outcome == TA_FAILED && run->outer != NULL)
        outcome = ta_call_next_guard(run->mw, co);
    if (outcome != TA_WAITS)
        run_drop(run);
    return outcome;
}

static int run_traverse(PyObject *self, visitproc visit, void *arg)
{
    level_run *run = run_cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)run->mw);
    Py_VISIT(run->scope);
    Py_VISIT(run->receive);
    Py_VISIT(run->send);
    Py_VISIT((PyObject *)run->outer);
    Py_VISIT((PyObject *)run->level);
    Py_VISIT(run->context);
    Py_VISIT(run->exc);
    return ta_coroutine_traverse(&run->co, visit, arg);
}

static int run_clear(PyObject *self)
{
    level_run *run = run_cast(self);
    run->co.finished = true;
    ta_coroutine_clear(&run->co);
    run_drop(run);
    return 0;
}

static void run_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)run_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* A ta_http_respond; without `outer` and context the outermost, which sends its response. */
static PyObject *respond(ta_http_middleware *mw, PyObject *scope, PyObject *receive, PyObject *send,
                         ta_http_level *outer, PyObject *context)
{
    level_run *run =
        PyObject_GC_New(level_run, ta_plan_objects_of(mw->st)->http_middleware_run_type);
    if (run == NULL)
        return NULL;
    ta_coroutine_init(&run->co, run_advance);
    run->mw = (ta_http_middleware *)Py_NewRef((PyObject *)mw);
    run->scope = Py_NewRef(scope);
    run->receive = Py_NewRef(receive);
    run->send = Py_NewRef(send);
    run->outer = (ta_http_level *)Py_XNewRef((PyObject *)outer);
    run->level = NULL;
    run->context = Py_XNewRef(context);
    run->exc = NULL;
    run->state = LEVEL_NEW;
    PyObject_GC_Track((PyObject *)run);
    return (PyObject *)run;
}

/* -- the middleware --------------------------------------------------------------------------- */

/* Does an asyncio loop run?  Under another one nothing of this works. */
static bool is_in_asyncio(const ta_http_middleware *mw)
{
    PyObject *loop = PyObject_CallNoArgs(ta_loop_objects_of(mw->st)->selector.get_running_loop);
    if (loop == NULL)
        PyErr_Clear();
    Py_XDECREF(loop); /* looked at only */
    return loop != NULL && !Py_IsNone(loop);
}

/* Returns whether the request is one for which messages are not needed. */
static int knows(const ta_http_middleware *mw, PyObject *scope)
{
    PyObject *plan = NULL;
    if (!is_in_asyncio(mw))
        return 0;
    int rc = ta_innermost_find(mw->innermost, scope, false, &plan);
    Py_XDECREF(plan);
    return rc;
}

static PyObject *call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    ta_http_middleware *mw = (ta_http_middleware *)self;
    if (mw->st != NULL && PyTuple_GET_SIZE(args) == 3 &&
        (kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0)) {
        PyObject *scope = PyTuple_GET_ITEM(args, 0);
        int rc = knows(mw, scope);
        if (rc < 0)
            return NULL;
        if (rc == 1)
            return respond(mw, scope, PyTuple_GET_ITEM(args, 1), PyTuple_GET_ITEM(args, 2), NULL,
                           NULL);
    }
    PyObject *serve = PyObject_GetAttrString(self, "_serve");
    PyObject *res = serve ? PyObject_Call(serve, args, kwargs) : NULL;
    Py_XDECREF(serve);
    return res;
}

/* Is it a subclass of the type? */
static bool is_subclass(PyObject *obj, PyTypeObject *of)
{
    return PyType_Check(obj) && (of == NULL || PyType_IsSubtype((PyTypeObject *)obj, of));
}

static int take_kit(ta_http_kit *kit, ta_state *st, PyObject *given)
{
    const ta_plan_objects *objects = ta_plan_objects_of(st);
    PyObject *request, *level, *flight, *response, *exit, *start, *receive, *kwnames;
    if (!PyArg_ParseTuple(given, "OOOOOOOO:_prepare", &request, &level, &flight, &response, &exit,
                          &start, &receive, &kwnames))
        return -1;
    if (!is_subclass(request, NULL) || !is_subclass(level, objects->http_level_type) ||
        !is_subclass(flight, objects->http_level_type) ||
        !is_subclass(response, objects->passed_response_type)) {
        PyErr_SetString(PyExc_TypeError, "_prepare(): classes of other bases");
        return -1;
    }
    *kit = (ta_http_kit){(PyTypeObject *)Py_NewRef(request),
                         (PyTypeObject *)Py_NewRef(level),
                         (PyTypeObject *)Py_NewRef(flight),
                         (PyTypeObject *)Py_NewRef(response),
                         Py_NewRef(exit),
                         Py_NewRef(start),
                         Py_NewRef(receive),
                         Py_NewRef(kwnames)};
    return 0;
}

static PyObject *prepare(PyObject *self, PyTypeObject *defining_class, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    ta_http_middleware *mw = (ta_http_middleware *)self;
    ta_state *st = ta_state_of_class(defining_class);
    if (nargs != 4 || !PyTuple_Check(args[3]) || mw->st != NULL ||
        !ta_innermost_check(st, args[1]) ||
        (!Py_IsNone(args[2]) && !PyObject_TypeCheck(args[2], defining_class))) {
        PyErr_SetString(PyExc_TypeError, "_prepare(dispatch, innermost, inner, kit), once");
        return NULL;
    }
    if (take_kit(&mw->kit, st, args[3]) < 0)
        return NULL;
    mw->dispatch = Py_NewRef(args[0]);
    mw->innermost = Py_NewRef(args[1]);
    mw->respond = respond;
    if (!Py_IsNone(args[2]))
        mw->inner = (ta_http_middleware *)Py_NewRef(args[2]);
    mw->st = st;
    Py_RETURN_NONE;
}

static PyObject *knows_method(PyObject *self, PyObject *scope)
{
    ta_http_middleware *mw = (ta_http_middleware *)self;
    int rc = mw->st ? knows(mw, scope) : 0;
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static int mw_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_http_middleware *mw = (ta_http_middleware *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(mw->dispatch);
    Py_VISIT(mw->innermost);
    Py_VISIT((PyObject *)mw->inner);
    Py_VISIT((PyObject *)mw->kit.request_type);
    Py_VISIT((PyObject *)mw->kit.level_type);
    Py_VISIT((PyObject *)mw->kit.flight_type);
    Py_VISIT((PyObject *)mw->kit.response_type);
    Py_VISIT(mw->kit.exit_type);
    Py_VISIT(mw->kit.start);
    Py_VISIT(mw->kit.receive_inside);
    Py_VISIT(mw->kit.eager_kwnames);
    return 0;
}

static int mw_clear(PyObject *self)
{
    ta_http_middleware *mw = (ta_http_middleware *)self;
    mw->st = NULL; /* not prepared any more */
    Py_CLEAR(mw->dispatch);
    Py_CLEAR(mw->innermost);
    Py_CLEAR(mw->inner);
    Py_CLEAR(mw->kit.request_type);
    Py_CLEAR(mw->kit.level_type);
    Py_CLEAR(mw->kit.flight_type);
    Py_CLEAR(mw->kit.response_type);
    Py_CLEAR(mw->kit.exit_type);
    Py_CLEAR(mw->kit.start);
    Py_CLEAR(mw->kit.receive_inside);
    Py_CLEAR(mw->kit.eager_kwnames);
    return 0;
}

static void mw_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)mw_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *respond_method(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    ta_http_middleware *mw = (ta_http_middleware *)self;
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "_respond(scope, receive, send)");
        return NULL;
    }
    if (mw->st == NULL || !is_in_asyncio(mw))
        Py_RETURN_NONE;
    return respond(mw, args[0], args[1], args[2], NULL, NULL);
}

static PyMethodDef mw_methods[] = {
    {"_prepare", (PyCFunction)(void (*)(void))prepare, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "_prepare($self, dispatch, innermost, inner, kit, /)\n--\n\n"
     "Take the function of the middleware, what is inside of it, and what the Python half gives."},
    {"_respond", (PyCFunction)(void (*)(void))respond_method, METH_FASTCALL,
     "_respond($self, scope, receive, send, /)\n--\n\n"
     "Return an awaitable that serves the request without messages; None: that can't be."},
    {"knows", knows_method, METH_O,
     "knows($self, scope, /)\n--\n\nReturn whether the request needs no messages."},
    {NULL},
};

static PyType_Slot mw_slots[] = {
    {Py_tp_doc, "A middleware of `@app.middleware(\"http\")`; see docs/engine.md."},
    {Py_tp_call, call},
    {Py_tp_methods, mw_methods},
    {Py_tp_traverse, mw_traverse},
    {Py_tp_clear, mw_clear},
    {Py_tp_dealloc, mw_dealloc},
    {0, NULL},
};

static PyType_Spec mw_spec = {
    .name = "turboapi._core.HTTPMiddleware",
    .basicsize = sizeof(ta_http_middleware),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = mw_slots,
};

static PyObject *run_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(Py_TYPE(self)->tp_name);
}

static PyMethodDef run_methods[] = {TA_COROUTINE_METHODS, {NULL}};
static PyGetSetDef run_getset[] = {TA_COROUTINE_GETSET,
                                   {"__name__", run_name, NULL, NULL, NULL},
                                   {"__qualname__", run_name, NULL, NULL, NULL},
                                   {NULL}};
static PyType_Slot run_slots[] = {
    TA_COROUTINE_SLOTS,
    {Py_tp_methods, run_methods},
    {Py_tp_getset, run_getset},
    {Py_tp_traverse, run_traverse},
    {Py_tp_clear, run_clear},
    {Py_tp_dealloc, run_dealloc},
    {0, NULL},
};

static PyType_Spec run_spec = {
    .name = "turboapi._core.HTTPMiddlewareRun",
    .basicsize = sizeof(level_run),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = run_slots,
};

int ta_http_middleware_init(PyObject *module, ta_state *st)
{
    ta_plan_objects *objects = ta_plan_objects_of(st);
    if (ta_http_levels_init(module, st) < 0 ||
        ta_types_add(module, &mw_spec, "HTTPMiddleware", &objects->http_middleware_type) < 0 ||
        ta_types_add(module, &run_spec, NULL, &objects->http_middleware_run_type) < 0)
        return -1;
    return ta_call_next_init(module, st);
}
