/*
 * dependencies.c -- the dependency steps of a run: nodes in post-order, each extracted, cached,
 * called.
 */
#include "py/plan/plan_int.h"

#include <structmember.h>

#include "py/loop/thread_pool.h"

PyObject *ta_deps_request(ta_run *r)
{
    if (TA_LIKELY(r->x->request != NULL))
        return Py_NewRef(r->x->request);
    PyObject *hook = ta_plan_hook(r->plan, H_new_request);
    return hook ? ta_xch_request(r->x, hook) : NULL;
}

/* -- injected objects ------------------------------------------------------------------------- */

static PyObject *lazy(ta_run *r, PyObject **place, int which)
{
    if (*place == NULL) {
        PyObject *hook = ta_plan_hook(r->plan, which);
        PyObject *made = hook ? PyObject_CallNoArgs(hook) : NULL;
        if (made == NULL)
            return NULL;
        Py_XSETREF(*place, made);
    }
    return Py_NewRef(*place);
}

static PyObject *injected(ta_run *r, const ta_inject *inj)
{
    switch ((ta_inject_what)inj->what) {
    case INJECT_RESPONSE:
        return lazy(r, &r->response, H_new_response);
    case INJECT_BACKGROUND:
        return lazy(r, &r->background, H_new_background);
    case INJECT_CONST:
        return Py_NewRef(inj->obj);
    case INJECT_REQUEST:
    case INJECT_WEBSOCKET:
    case INJECT_CONNECTION:
        break;
    }
    PyObject *request = ta_deps_request(r);
    if (request != NULL && ta_exits_offer(r, request) < 0)
        Py_CLEAR(request);
    return request;
}

static int inject(ta_run *r, const ta_node *n)
{
    for (uint16_t i = 0; i < n->ninjects; i++) {
        const ta_inject *inj = &n->injects[i];
        PyObject *value = injected(r, inj);
        if (value == NULL)
            return -1;
        Py_XSETREF(r->values[n->first + inj->slot], value);
    }
    return 0;
}

/* -- calls ------------------------------------------------------------------------------------ */

PyObject *ta_deps_values(ta_run *r, const ta_node *n)
{
    PyObject *dict = PyDict_New();
    for (uint16_t i = 0; dict != NULL && i < n->nargs; i++) {
        PyObject *value = r->values[n->first + n->slots[i]];
        if (value != NULL && PyDict_SetItem(dict, n->names[i], value) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *vectorcall(ta_run *r, const ta_node *n)
{
    return PyObject_Vectorcall(n->call, &r->values[n->first],
                               n->npos | PY_VECTORCALL_ARGUMENTS_OFFSET, n->kwnames);
}

/* An awaitable of the node's value from a hook: hook(first, values[, request]). */
static PyObject *call_hook(ta_run *r, const ta_node *n, int which, PyObject *first, bool request)
{
    PyObject *hook = ta_plan_hook(r->plan, which);
    PyObject *values = hook ? ta_deps_values(r, n) : NULL;
    PyObject *req = NULL, *aw = NULL;
    if (values != NULL && request)
        req = ta_deps_request(r);
    if (values != NULL && (!request || req != NULL)) {
        PyObject *args[] = {NULL, first, values, req};
        aw = PyObject_Vectorcall(hook, args + 1,
                                 (request ? 3u : 2u) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(req);
    Py_XDECREF(values);
    return aw;
}

static PyObject *call_indexed(ta_run *r, const ta_node *n, int which, bool request)
{
    PyObject *index = PyLong_FromLong((long)(n - r->plan->nodes));
    PyObject *aw = index ? call_hook(r, n, which, index, request) : NULL;
    Py_XDECREF(index);
    return aw;
}

/* TA_DONE: *out is the value; TA_WAITS: *out is to be awaited. */
static ta_outcome call_sync(ta_run *r, const ta_node *n, PyObject **out)
{
    if (r->x->ls != NULL) {
        return ta_call_sync(r->x->ls, n->stat, n->run_mode, n->call, &r->values[n->first], n->npos,
                            n->kwnames, out);
    }
    if (n->run_mode == RUN_INLINE) {
        *out = vectorcall(r, n);
        return *out ? TA_DONE : TA_FAILED;
    }
    *out = call_hook(r, n, H_run_sync, n->call, false);
    return *out ? TA_WAITS : TA_FAILED;
}

/* As call_sync, for any kind of node. */
static ta_outcome call_node(ta_run *r, const ta_node *n, PyObject **out)
{
    bool generator = n->kind == KIND_GEN || n->kind == KIND_ASYNCGEN;
    if (generator && (r->mode == MODE_NATIVE || r->mode == MODE_ASGI))
        return ta_exits_enter(r, n, out);
    if (n->limited && !generator) {
        *out = call_indexed(r, n, H_solve_limited, false);
        return *out ? TA_WAITS : TA_FAILED;
    }
    switch ((ta_kind)n->kind) {
    case KIND_ASYNC:
        *out = vectorcall(r, n);
        return *out ? TA_WAITS : TA_FAILED;
    case KIND_INLINE:
        *out = vectorcall(r, n);
        return *out ? TA_DONE : TA_FAILED;
    case KIND_SYNC:
        return call_sync(r, n, out);
    case KIND_GEN:
    case KIND_ASYNCGEN:
        break;
    }
    *out = call_indexed(r, n, H_solve_generator, true);
    return *out ? TA_WAITS : TA_FAILED;
}

/* -- the walk --------------------------------------------------------------------------------- */

/* The arguments of a node that was called are no longer needed. */
static void drop_args(ta_run *r, const ta_node *n)
{
    for (uint16_t i = 0; i < n->nargs; i++)
        Py_CLEAR(r->values[n->first + i]);
}

/* Node r->node has its value (steals): hands it on and goes to the next. */
static void node_done(ta_run *r, PyObject *value)
{
    ta_plan *plan = r->plan;
    const ta_node *n = &plan->nodes[r->node];
    drop_args(r, n);
    if (n->cache >= 0) {
        PyObject **slot = &r->values[plan->nvalues + (uint32_t)n->cache];
        if (*slot == NULL)
            *slot = Py_NewRef(value);
    }
    if (n->into >= 0)
        Py_XSETREF(r->values[n->into], value);
    else
        Py_DECREF(value);
    r->node++;
}

/* The body parameter of a node that has one. */
static ta_outcome single_body(ta_run *r, const ta_node *n)
{
    ta_state *st = r->plan->st;
    PyObject **place = &r->values[n->first + n->slots[n->body_first]];
    PyObject *value = NULL;
    int rc = 0;
    if (r->fast_value != NULL) {
        Py_XSETREF(*place, r->fast_value);
        r->fast_value = NULL;
        return PLAN_GO;
    }
    if (r->body != NULL && n->body_validator != NULL)
        rc = ta_validate(st, n->body_validator, r->body, &value);
    if (rc == 0) {
        PyObject *values = PyDict_New();
        if (values == NULL)
            return TA_FAILED;
        PyObject *args[] = {NULL, r->body ? r->body : ta_plan_objects_of(st)->missing, values};
        PyObject *pair = PyObject_Vectorcall(n->body_validate, args + 1,
                                             2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(values);
        rc = ta_take_pair(r, pair, &value);
    }
    if (rc < 0)
        return TA_FAILED;
    /* Nobody is called with the None, but whoever looks at the solved values finds it there. */
    Py_XSETREF(*place, rc == 1 ? value : Py_NewRef(Py_None));
    return PLAN_GO;
}

static ta_outcome extract_body(ta_run *r, const ta_node *n)
{
    PyObject *body =
        r->body ? Py_NewRef(r->body) : Py_NewRef(ta_plan_objects_of(r->plan->st)->missing);
    if (r->raw_body != NULL) {
        Py_DECREF(body);
        body = ta_body_parsed(r);
    }
    PyObject *values = body ? ta_deps_values(r, n) : NULL;
    PyObject *aw = NULL;
    if (values != NULL) {
        PyObject *args[] = {NULL, body, values};
        aw = PyObject_Vectorcall(n->body_extract, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                 NULL);
    }
    Py_XDECREF(values);
    Py_XDECREF(body);
    if (aw == NULL)
        return TA_FAILED;
    r->state = ST_NODE_BODY;
    return ta_co_await(&r->co, aw);
}

static ta_outcome invalid(ta_run *r)
{
    PyObject *hook = ta_plan_hook(r->plan, H_validation_error);
    PyObject *body = hook ? ta_body_parsed(r) : NULL;
    PyObject *request = body ? ta_deps_request(r) : NULL;
    PyObject *exc = NULL;
    if (request != NULL) {
        PyObject *args[] = {NULL, r->errors, body, request};
        exc = PyObject_Vectorcall(hook, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(body);
    Py_XDECREF(request);
    if (exc != NULL && !PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "hook validation_error must return an exception");
    } else if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_XDECREF(exc);
    return TA_FAILED;
}

/* All nodes but the last have their values, and the last one its arguments. */
static ta_outcome endpoint(ta_run *r)
{
    ta_plan *plan = r->plan;
    const ta_node *n = &plan->nodes[plan->nnodes - 1];
    if (plan->hook[H_observe] != NULL || r->mode == MODE_SOLVE) {
        PyObject *solved = ta_deps_solved(r);
        if (solved == NULL)
            return TA_FAILED;
        if (r->mode == MODE_SOLVE)
            r->co.result = Py_NewRef(solved);
        int rc = ta_observe(r, r->plan->st->names.solved, solved);
        Py_DECREF(solved);
        if (rc < 0)
            return TA_FAILED;
    }
    if (ta_operation_leave(r) < 0)
        return TA_FAILED;
    if (r->mode == MODE_SOLVE)
        return ta_run_finish(r);
    if (r->errors != NULL)
        return invalid(r);
    PyObject *out = NULL;
    if (plan->resp == RESP_PYTHON) {
        PyObject *hook = ta_plan_hook(plan, H_endpoint_response);
        PyObject *request = hook ? ta_deps_request(r) : NULL;
        PyObject *solved = request ? ta_deps_solved(r) : NULL;
        if (solved != NULL) {
            PyObject *args[] = {NULL, request, solved};
            out = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        }
        Py_XDECREF(solved);
        Py_XDECREF(request);
        if (out == NULL)
            return TA_FAILED;
        r->state = ST_PYTHON;
        return ta_co_await(&r->co, out);
    }
    if (n->call == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this plan has no endpoint, it can only be solved");
        return TA_FAILED;
    }
    /* that of a `def` runs in its thread: the compiler has put it into the callable */
    if (n->kind != KIND_SYNC && ta_operation_enter(r, r->plan->st->names.endpoint) < 0)
        return TA_FAILED;
    r->state = ST_ENDPOINT;
    ta_outcome outcome = call_node(r, n, &out);
    if (outcome == TA_FAILED)
        return TA_FAILED;
    drop_args(r, n);
    return outcome == TA_WAITS ? ta_co_await(&r->co, out) : ta_reply_endpoint(r, out);
}

/* Node r->node has all its arguments: calls it, or passes it by. */
static ta_outcome call(ta_run *r)
{
    ta_plan *plan = r->plan;
    const ta_node *n = &plan->nodes[r->node];
    PyObject *out = NULL;
    r->state = ST_NODE;
    if (r->node + 1 == plan->nnodes)
        return endpoint(r);
    if (r->bad[r->node]) {
        r->bad[n->parent] = 1;
        drop_args(r, n);
        r->node++;
        return PLAN_GO;
    }
    if (n->cache >= 0 && n->use_cache) {
        PyObject *cached = r->values[plan->nvalues + (uint32_t)n->cache];
        if (cached != NULL) {
            node_done(r, Py_NewRef(cached));
            return PLAN_GO;
        }
    }
    ta_outcome outcome = call_node(r, n, &out);
    if (outcome == TA_FAILED)
        return TA_FAILED;
    if (outcome == TA_WAITS) {
        r->state = ST_NODE_CALL;
        return ta_co_await(&r->co, out);
    }
    node_done(r, out);
    return PLAN_GO;
}

/* Does the turn of a dependency begin here, before any that it depends on?  Not the endpoint's. */
static bool begins(const ta_plan *plan, uint32_t node)
{
    return node + 1 < plan->nnodes && (node == 0 || plan->nodes[node - 1].parent != (int32_t)node);
}

ta_outcome ta_deps_node(ta_run *r)
{
    if (begins(r->plan, r->node) && r->plan->hook[H_overrides] != NULL &&
        ta_overrides_follow(r) < 0)
        return TA_FAILED;
    const ta_node *n = &r->plan->nodes[r->node];
    if (n->nparams > 0 && ta_params_extract(r, r->node) < 0)
        return TA_FAILED;
    if (n->body_use == BODY_EXTRACT)
        return extract_body(r, n);
    if (n->body_use == BODY_SINGLE && single_body(r, n) == TA_FAILED)
        return TA_FAILED;
    if (n->ninjects > 0 && inject(r, n) < 0)
        return TA_FAILED;
    return call(r);
}

ta_outcome ta_deps_body(ta_run *r, PyObject *pair)
{
    const ta_node *n = &r->plan->nodes[r->node];
    PyObject *values = NULL;
    int rc = ta_take_pair(r, pair, &values);
    if (rc < 0)
        return TA_FAILED;
    for (uint16_t i = 0; rc == 1 && i < n->nbody; i++) {
        uint16_t at = (uint16_t)(n->body_first + i);
        PyObject *value = PyObject_GetItem(values, n->names[at]);
        if (value == NULL) {
            Py_DECREF(values);
            return TA_FAILED;
        }
        Py_XSETREF(r->values[n->first + n->slots[at]], value);
    }
    Py_XDECREF(values);
    if (n->ninjects > 0 && inject(r, n) < 0)
        return TA_FAILED;
    return call(r);
}

ta_outcome ta_deps_value(ta_run *r, PyObject *value)
{
    if (r->entering != NULL)
        ta_exits_entered(r);
    node_done(r, value);
    r->state = ST_NODE;
    return PLAN_GO;
}

/* -- Solved ----------------------------------------------------------------------------------- */

static PyObject *cache_dict(ta_run *r)
{
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict != NULL && i < r->plan->ncache; i++) {
        PyObject *value = r->values[r->plan->nvalues + i];
        if (value == NULL)
            continue;
        PyObject *key = PyLong_FromUnsignedLong(i);
        if (key == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
    }
    return dict;
}

PyObject *ta_deps_solved(ta_run *r)
{
    ta_plan *plan = r->plan;
    ta_solved *s = PyObject_GC_New(ta_solved, ta_plan_objects_of(plan->st)->solved_type);
    if (s == NULL)
        return NULL;
    s->values = ta_deps_values(r, &plan->nodes[plan->nnodes - 1]);
    s->errors = r->errors ? Py_NewRef(r->errors) : PyList_New(0);
    s->background_tasks = Py_NewRef(r->background ? r->background : Py_None);
    s->response = lazy(r, &r->response, H_new_response);
    s->dependency_cache = cache_dict(r);
    s->body = r->body != NULL || r->raw_body != NULL
                  ? ta_body_parsed(r)
                  : Py_NewRef(ta_plan_objects_of(plan->st)->missing);
    PyObject_GC_Track(s);
    if (s->values == NULL || s->errors == NULL || s->response == NULL ||
        s->dependency_cache == NULL || s->body == NULL)
        Py_CLEAR(s);
    return (PyObject *)s;
}

static int solved_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_solved *s = (ta_solved *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(s->values);
    Py_VISIT(s->errors);
    Py_VISIT(s->background_tasks);
    Py_VISIT(s->response);
    Py_VISIT(s->dependency_cache);
    Py_VISIT(s->body);
    return 0;
}

static int solved_clear(PyObject *self)
{
    ta_solved *s = (ta_solved *)self;
    Py_CLEAR(s->values);
    Py_CLEAR(s->errors);
    Py_CLEAR(s->background_tasks);
    Py_CLEAR(s->response);
    Py_CLEAR(s->dependency_cache);
    Py_CLEAR(s->body);
    return 0;
}

static void solved_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    solved_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef solved_members[] = {
    {"values", T_OBJECT, offsetof(ta_solved, values), READONLY,
     PyDoc_STR("Keywords of the last node.")},
    {"errors", T_OBJECT, offsetof(ta_solved, errors), READONLY,
     PyDoc_STR("Validation errors, in order.")},
    {"background_tasks", T_OBJECT, offsetof(ta_solved, background_tasks), READONLY, NULL},
    {"response", T_OBJECT, offsetof(ta_solved, response), READONLY,
     PyDoc_STR("The injected Response.")},
    {"dependency_cache", T_OBJECT, offsetof(ta_solved, dependency_cache), READONLY, NULL},
    {"body", T_OBJECT, offsetof(ta_solved, body), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot solved_slots[] = {{Py_tp_dealloc, solved_dealloc},
                                     {Py_tp_traverse, solved_traverse},
                                     {Py_tp_clear, solved_clear},
                                     {Py_tp_members, solved_members},
                                     {0, NULL}};

PyType_Spec ta_solved_spec = {.name = "turboapi._core.Solved",
                              .basicsize = sizeof(ta_solved),
                              .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC |
                                       Py_TPFLAGS_DISALLOW_INSTANTIATION,
                              .slots = solved_slots};
