/*
 * innermost.c -- the application inside of all middleware: what Starlette's ExceptionMiddleware,
 * the exit stack, the router and a route's plan do for a request, in one call.
 *
 * Layer: py/plan.  A request whose route has a plan gets one coroutine, which runs the plan.  All
 * others, and other kinds of scopes, go to the Python subclass (`_serve`), which does the same step
 * by step.  An exception out of the plan, which the route's own handlers have declined or raised
 * themselves, is offered to the handlers a second time, as the middleware does (`_failed`).
 */
#include "py/plan/innermost.h"

#include <structmember.h>

#include "http/method.h"
#include "py/exchange/asgi_exchange.h"
#include "py/plan/plan.h"
#include "py/plan/router.h"
#include "py/plan/run_int.h"
#include "py/support/guards.h"
#include "py/support/spares.h"
#include "py/support/types.h"

typedef struct innermost {
    PyObject_HEAD
    vectorcallfunc vectorcall; /* NULL until prepared */
    ta_state *st;              /* borrowed: the type keeps the module; NULL until prepared */
    PyObject *router;          /* owned: the Python router, for the scope */
    PyObject *handlers;        /* owned: (by class, by status), for the scope */
    /* owned: (_core.Router, (namespace of a route, its application, what goes into the framework's
     * own part of the scope) or None for each entry); None: nothing has a plan; NULL: ask
     * _renew() */
    PyObject *table;
    ta_guards *guards; /* owned */
} innermost;

/* One request. */
typedef struct innermost_run {
    ta_coroutine co;
    innermost *app;                   /* owned */
    ta_exchange *x;                   /* owned: what the plan's run was made on */
    PyObject *scope, *receive, *send; /* owned */
    bool handled;                     /* _failed was asked */
} innermost_run;

/* -- one request ------------------------------------------------------------------------------ */

static void run_drop(innermost_run *run)
{
    Py_CLEAR(run->app);
    Py_CLEAR(run->x);
    Py_CLEAR(run->scope);
    Py_CLEAR(run->receive);
    Py_CLEAR(run->send);
}

/* The awaitable of a handler for the exception that is set; NULL: that stays set, or another. */
static PyObject *ask_handlers(innermost_run *run)
{
    if (run->handled || run->co.closing || !PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    run->handled = true;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *args[] = {
        (PyObject *)run->app, exc,          run->x->response_started ? Py_True : Py_False,
        run->scope,           run->receive, run->send};
    PyObject *aw = PyObject_VectorcallMethod(run->app->st->names.private_failed, args, 6, NULL);
    if (aw == Py_None) {
        Py_CLEAR(aw);
        PyErr_SetRaisedException(Py_NewRef(exc));
    }
    Py_DECREF(exc);
    return aw;
}

static ta_outcome run_advance(ta_coroutine *co, PyObject *value)
{
    innermost_run *run = (innermost_run *)co;
    ta_outcome outcome = TA_DONE;
    TA_ASSERT(run->app != NULL); /* not after its end */
    if (TA_UNLIKELY(value == NULL)) {
        PyObject *aw = ask_handlers(run);
        outcome = aw ? ta_coroutine_await(co, aw) : TA_FAILED;
    }
    Py_XDECREF(value); /* None: the response was sent */
    if (outcome != TA_WAITS)
        run_drop(run);
    return outcome;
}

static int run_traverse(PyObject *self, visitproc visit, void *arg)
{
    innermost_run *run = (innermost_run *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(run->app);
    Py_VISIT(run->x);
    Py_VISIT(run->scope);
    Py_VISIT(run->receive);
    Py_VISIT(run->send);
    return ta_coroutine_traverse(&run->co, visit, arg);
}

static int run_clear(PyObject *self)
{
    innermost_run *run = (innermost_run *)self;
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
    ta_spares_give(ta_plan_objects_of(ta_state_of_class(type))->spare_innermost_runs, self);
    Py_DECREF(type);
}

/* A new coroutine over a new run of the plan, or NULL with an exception. */
static PyObject *new_run(innermost *app, PyObject *plan, PyObject *const *args)
{
    ta_state *st = app->st;
    innermost_run *run =
        (innermost_run *)ta_spares_take(ta_plan_objects_of(st)->spare_innermost_runs);
    if (run == NULL)
        return NULL;
    ta_coroutine_init(&run->co, run_advance);
    run->app = (innermost *)Py_NewRef((PyObject *)app);
    run->scope = Py_NewRef(args[0]);
    run->receive = Py_NewRef(args[1]);
    run->send = Py_NewRef(args[2]);
    run->handled = false;
    run->x = ta_asgi_exchange_new(st, args[0], args[1], args[2]);
    PyObject_GC_Track((PyObject *)run);
    if (run->x != NULL)
        run->co.delegate = (PyObject *)ta_plan_run_new(st, (ta_plan *)plan, run->x, MODE_ASGI);
    if (run->co.delegate == NULL)
        Py_CLEAR(run);
    return (PyObject *)run;
}

/* -- finding the plan ------------------------------------------------------------------------- */

/*
 * The entry of the table for the request, and its path parameters (new dict).  False: the router
 * has to look, or the path parameters can't be made; no exception is set.
 */
static bool find(const innermost *app, PyObject *table, PyObject *scope, uint32_t *index,
                 PyObject **params)
{
    const ta_names_state *names = &app->st->names;
    PyObject *keep[3] = {NULL, NULL, NULL};
    ta_str method, path, root = {"", 0};
    ta_match match;
    bool found = ta_exchange_scope_text(scope, names->method, &keep[0], &method) &&
                 ta_exchange_scope_text(scope, names->path, &keep[1], &path);
    if (found && !ta_exchange_scope_text(scope, names->root_path, &keep[2], &root))
        found = keep[2] == NULL; /* it is not there */
    *params = NULL;
    if (found &&
        ta_router_find(table, ta_method_of(method), method, ta_exchange_route_path(path, root), 0,
                       &match) == TA_FOUND_FULL &&
        ta_plan_check(app->st, ta_router_target(table, match.index))) {
        *index = match.index;
        *params = ta_router_path_params(table, &match);
    }
    PyErr_Clear();
    for (size_t i = 0; i < TA_COUNTOF(keep); i++)
        Py_XDECREF(keep[i]);
    return *params != NULL;
}

/* The path parameters of what this is mounted in, and its own.  0, or -1 with an exception. */
static int put_params(const innermost *app, PyObject *scope, PyObject *own)
{
    PyObject *name = app->st->names.path_params, *outer = NULL;
    if (PyDict_GetItemRef(scope, name, &outer) < 0)
        return -1;
    if (TA_LIKELY(outer == NULL || !PyDict_Check(outer) || PyDict_GET_SIZE(outer) == 0)) {
        Py_XDECREF(outer);
        return PyDict_SetItem(scope, name, own);
    }
    PyObject *all = PyDict_Copy(outer);
    Py_DECREF(outer);
    int rc = all == NULL || PyDict_Update(all, own) < 0 ? -1 : PyDict_SetItem(scope, name, all);
    Py_XDECREF(all);
    return rc;
}

/* Returns whether nobody has replaced the application of the route: its attribute `app`. */
static bool is_own(const innermost *app, PyObject *apps, uint32_t index)
{
    PyObject *place = PyTuple_GET_ITEM(apps, index), *now = NULL;
    if (place == Py_None || PyTuple_GET_ITEM(place, 0) == Py_None)
        return true;
    if (PyDict_GetItemRef(PyTuple_GET_ITEM(place, 0), app->st->names.app, &now) < 0)
        PyErr_Clear();
    Py_XDECREF(now); /* compared only */
    return now == PyTuple_GET_ITEM(place, 1);
}

/* What the routers keep under a key of their own.  0, or -1 with an exception. */
static int put_own(const innermost *app, PyObject *scope, PyObject *items)
{
    PyObject *name = app->st->names.fastapi, *own = NULL;
    int rc = PyDict_GetItemRef(scope, name, &own);
    if (rc > 0) {
        if (PyDict_Check(own))
            rc = PyDict_Update(own, items);
    } else if (rc == 0) {
        own = PyDict_Copy(items); /* it is the request's */
        rc = own ? PyDict_SetItem(scope, name, own) : -1;
    }
    Py_XDECREF(own);
    return rc < 0 ? -1 : 0;
}

/*
 * What the middleware and the router put into the scope; `table` as in the Innermost.  0, or -1
 * with an exception.
 */
static int enter(const innermost *app, PyObject *table, uint32_t index, PyObject *scope,
                 PyObject *params)
{
    const ta_names_state *names = &app->st->names;
    PyObject *items = ta_router_scope_items(PyTuple_GET_ITEM(table, 0), index);
    PyObject *place = PyTuple_GET_ITEM(PyTuple_GET_ITEM(table, 1), index);
    PyObject *own = place == Py_None ? Py_None : PyTuple_GET_ITEM(place, 2);
    if (PyDict_SetItem(scope, names->exception_handlers, app->handlers) < 0 ||
        PyDict_SetDefault(scope, names->router, app->router) == NULL)
        return -1;
    if (items != NULL && ta_exchange_add_items(scope, items) < 0)
        return -1;
    if (own != Py_None && put_own(app, scope, own) < 0)
        return -1;
    return put_params(app, scope, params);
}

static PyObject *table_of(innermost *app)
{
    PyObject *table;
    Py_BEGIN_CRITICAL_SECTION(app);
    table = Py_XNewRef(app->table);
    Py_END_CRITICAL_SECTION();
    return table;
}

/* As table_of, after the routes have changed, too.  New reference, or NULL with an exception. */
static PyObject *current_table(innermost *app)
{
    PyObject *table = table_of(app);
    if (TA_LIKELY(table != NULL))
        return table;
    PyObject *none = PyObject_CallMethodNoArgs((PyObject *)app, app->st->names.private_renew);
    if (none == NULL)
        return NULL;
    Py_DECREF(none);
    table = table_of(app);
    return table ? table : Py_NewRef(Py_None); /* it has changed again */
}

/* Whether a plan may serve this scope at all. */
static bool is_ours(const innermost *app, PyObject *scope)
{
    const ta_names_state *names = &app->st->names;
    PyObject *type = NULL;
    if (!PyDict_CheckExact(scope) || PyDict_GetItemRef(scope, names->type, &type) <= 0)
        return false;
    bool http =
        type == names->http || (PyUnicode_Check(type) && PyUnicode_Compare(type, names->http) == 0);
    Py_DECREF(type);
    return http && PyDict_Contains(scope, names->fastapi_telemetry) == 0;
}

/* Has the plan nothing that must be done after its response was sent? */
static int is_over_with_response(const ta_plan *plan)
{
    if (plan->needs_stacks || plan->offers_stacks || plan->body == PLAN_BODY_FORM)
        return 0;
    if (plan->hook[H_overrides] == NULL)
        return 1;
    PyObject *mapping =
        PyObject_GetAttr(plan->hook[H_overrides], plan->st->names.dependency_overrides);
    int some = mapping ? PyObject_IsTrue(mapping) : -1;
    Py_XDECREF(mapping);
    return some < 0 ? -1 : !some;
}

int ta_innermost_find(PyObject *obj, PyObject *scope, bool enter_scope, PyObject **plan)
{
    innermost *app = (innermost *)obj;
    PyObject *params;
    uint32_t index;
    int rc = 0;
    if (!is_ours(app, scope) || !ta_guards_hold(app->guards)) {
        PyErr_Clear();
        return 0;
    }
    PyObject *table = current_table(app);
    if (table == NULL)
        return -1;
    PyObject *router = table != Py_None ? PyTuple_GET_ITEM(table, 0) : NULL;
    if (router != NULL && find(app, router, scope, &index, &params)) {
        PyObject *target = ta_router_target(router, index);
        if (is_own(app, PyTuple_GET_ITEM(table, 1), index))
            rc = is_over_with_response((ta_plan *)target);
        if (rc == 1 && enter_scope && enter(app, table, index, scope, params) < 0)
            rc = -1;
        if (rc == 1)
            *plan = Py_NewRef(target);
        Py_DECREF(params);
    }
    Py_DECREF(table);
    return rc;
}

bool ta_innermost_check(ta_state *st, PyObject *app)
{
    return PyObject_TypeCheck(app, ta_plan_objects_of(st)->innermost_type) &&
           ((innermost *)app)->st != NULL;
}

/* The coroutine that runs the plan; NULL without an exception: it is for _serve; or with one. */
static PyObject *start(innermost *app, PyObject *const *args)
{
    PyObject *scope = args[0], *coro = NULL, *params;
    uint32_t index;
    if (!is_ours(app, scope) || !ta_guards_hold(app->guards)) {
        PyErr_Clear();
        return NULL;
    }
    PyObject *table = current_table(app);
    PyObject *router = table != NULL && table != Py_None ? PyTuple_GET_ITEM(table, 0) : NULL;
    if (router != NULL && find(app, router, scope, &index, &params)) {
        if (is_own(app, PyTuple_GET_ITEM(table, 1), index) &&
            enter(app, table, index, scope, params) == 0)
            coro = new_run(app, ta_router_target(router, index), args);
        Py_DECREF(params);
    }
    Py_XDECREF(table);
    return coro;
}

/* What has no plan, and other arguments. */
static PyObject *serve(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *method = PyObject_GetAttrString(self, "_serve");
    PyObject *res = method ? PyObject_Call(method, args, kwargs) : NULL;
    Py_XDECREF(method);
    return res;
}

static PyObject *vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (TA_LIKELY(PyVectorcall_NARGS(nargsf) == 3 && kwnames == NULL)) {
        PyObject *coro = start((innermost *)self, args);
        if (coro != NULL || PyErr_Occurred())
            return coro;
    }
    return ta_types_call_by_tuple(serve, self, args, nargsf, kwnames);
}

static PyObject *call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return ((innermost *)self)->vectorcall ? PyVectorcall_Call(self, args, kwargs)
                                           : serve(self, args, kwargs);
}

/* -- the types -------------------------------------------------------------------------------- */

static PyObject *prepare(PyObject *self, PyTypeObject *defining_class, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    innermost *app = (innermost *)self;
    if (nargs != 3 || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]) || app->st != NULL) {
        PyErr_SetString(PyExc_TypeError, "_prepare(router, handlers, guards), once");
        return NULL;
    }
    app->guards = ta_guards_new(args[2]);
    if (app->guards == NULL)
        return NULL;
    app->router = Py_NewRef(args[0]);
    app->handlers = Py_NewRef(args[1]);
    app->st = ta_state_of_class(defining_class);
    app->vectorcall = vectorcall;
    Py_RETURN_NONE;
}

/* Replaces the table (steals). */
static void set_table(innermost *app, PyObject *table)
{
    PyObject *old;
    Py_BEGIN_CRITICAL_SECTION(app);
    old = app->table;
    app->table = table;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old);
}

/* (a dict or None, any object, a dict or None) */
static bool is_place(PyObject *place)
{
    if (!PyTuple_Check(place) || PyTuple_GET_SIZE(place) != 3)
        return false;
    PyObject *space = PyTuple_GET_ITEM(place, 0), *own = PyTuple_GET_ITEM(place, 2);
    return (space == Py_None || PyDict_Check(space)) && (own == Py_None || PyDict_Check(own));
}

/* (Router, None or a place for each entry) */
static bool is_table(const innermost *app, PyObject *table)
{
    if (!PyTuple_Check(table) || PyTuple_GET_SIZE(table) != 2 ||
        !Py_IS_TYPE(PyTuple_GET_ITEM(table, 0), ta_plan_objects_of(app->st)->router_type))
        return false;
    PyObject *apps = PyTuple_GET_ITEM(table, 1);
    if (!PyTuple_Check(apps) || PyTuple_GET_SIZE(apps) != PyObject_Size(PyTuple_GET_ITEM(table, 0)))
        return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(apps); i++) {
        PyObject *place = PyTuple_GET_ITEM(apps, i);
        if (place != Py_None && !is_place(place))
            return false;
    }
    return true;
}

static PyObject *use(PyObject *self, PyObject *table)
{
    innermost *app = (innermost *)self;
    if (app->st == NULL || (table != Py_None && !is_table(app, table))) {
        PyErr_SetString(PyExc_TypeError, "_use((Router, apps) | None), after _prepare");
        return NULL;
    }
    set_table(app, Py_NewRef(table));
    Py_RETURN_NONE;
}

static PyObject *drop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    set_table((innermost *)self, NULL);
    Py_RETURN_NONE;
}

static int app_traverse(PyObject *self, visitproc visit, void *arg)
{
    innermost *app = (innermost *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(app->router);
    Py_VISIT(app->handlers);
    Py_VISIT(app->table);
    return ta_guards_traverse(app->guards, visit, arg);
}

static int app_clear(PyObject *self)
{
    innermost *app = (innermost *)self;
    Py_CLEAR(app->router);
    Py_CLEAR(app->handlers);
    Py_CLEAR(app->table);
    return 0;
}

static void app_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)app_clear(self);
    ta_guards_free(((innermost *)self)->guards);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef app_methods[] = {
    {"_prepare", (PyCFunction)(void (*)(void))prepare, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "_prepare($self, router, handlers, guards, /)\n--\n\n"
     "Take what the scopes get, and what must not be replaced for plans to run."},
    {"_use", use, METH_O,
     "_use($self, table, /)\n--\n\nTake the table of routes, with what must be the attribute `app` "
     "of each, and\n"
     "what its requests have in the scope under `fastapi`; None: no route has a plan."},
    {"_drop", drop, METH_NOARGS,
     "_drop($self, /)\n--\n\nThe routes have changed: the next request calls _renew()."},
    {NULL},
};

static PyMemberDef app_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(innermost, vectorcall), READONLY, NULL},
    {NULL},
};

static PyType_Slot app_slots[] = {
    {Py_tp_doc, "The application inside of all middleware; see docs/engine.md."},
    {Py_tp_call, call},
    {Py_tp_methods, app_methods},
    {Py_tp_members, app_members},
    {Py_tp_traverse, app_traverse},
    {Py_tp_clear, app_clear},
    {Py_tp_dealloc, app_dealloc},
    {0, NULL},
};

static PyType_Spec app_spec = {
    .name = "turboapi._core.Innermost",
    .basicsize = sizeof(innermost),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = app_slots,
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
    .name = "turboapi._core.InnermostRun",
    .basicsize = sizeof(innermost_run),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = run_slots,
};

int ta_innermost_init(PyObject *module, ta_state *st)
{
    ta_plan_objects *objects = ta_plan_objects_of(st);
    if (ta_types_add(module, &app_spec, "Innermost", &objects->innermost_type) < 0 ||
        ta_types_add(module, &run_spec, NULL, &objects->innermost_run_type) < 0)
        return -1;
    objects->spare_innermost_runs = ta_spares_new(st, objects->innermost_run_type);
    return objects->spare_innermost_runs ? 0 : -1;
}
