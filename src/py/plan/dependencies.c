/*
 * dependencies.c -- the dependency steps of a run: nodes in post-order, each extracted, cached,
 * called.
 */
#include "py/plan/run_int.h"

#include "py/loop/thread_pool.h"

/* -- injected objects ------------------------------------------------------------------------- */

static PyObject *injected(ta_plan_run *r, const ta_inject *inj)
{
    switch ((ta_inject_what)inj->what) {
    case INJECT_RESPONSE:
        return ta_plan_run_lazy(r, &r->response, H_new_response);
    case INJECT_BACKGROUND:
        return ta_plan_run_lazy(r, &r->background, H_new_background);
    case INJECT_CONST:
        return Py_NewRef(inj->obj);
    case INJECT_REQUEST:
    case INJECT_WEBSOCKET:
    case INJECT_CONNECTION:
        break;
    }
    PyObject *request = ta_plan_run_request(r);
    if (request != NULL && ta_exit_stack_offer(r, request) < 0)
        Py_CLEAR(request);
    return request;
}

static int inject(ta_plan_run *r, const ta_node *n)
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

static PyObject *vectorcall(ta_plan_run *r, const ta_node *n)
{
    return PyObject_Vectorcall(n->call, &r->values[n->first],
                               n->npos | PY_VECTORCALL_ARGUMENTS_OFFSET, n->kwnames);
}

/* An awaitable of the node's value from a hook: hook(first, values[, request]). */
static PyObject *call_hook(ta_plan_run *r, const ta_node *n, int which, PyObject *first,
                           bool request)
{
    PyObject *hook = ta_plan_hook(r->plan, which);
    PyObject *values = hook ? ta_plan_run_values(r, n) : NULL;
    PyObject *req = NULL, *aw = NULL;
    if (values != NULL && request)
        req = ta_plan_run_request(r);
    if (values != NULL && (!request || req != NULL)) {
        PyObject *args[] = {NULL, first, values, req};
        aw = PyObject_Vectorcall(hook, args + 1,
                                 (request ? 3u : 2u) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(req);
    Py_XDECREF(values);
    return aw;
}

static PyObject *call_indexed(ta_plan_run *r, const ta_node *n, int which, bool request)
{
    PyObject *index = PyLong_FromLong((long)(n - r->plan->nodes));
    PyObject *aw = index ? call_hook(r, n, which, index, request) : NULL;
    Py_XDECREF(index);
    return aw;
}

/* TA_DONE: *out is the value; TA_WAITS: *out is to be awaited. */
static ta_outcome call_sync(ta_plan_run *r, const ta_node *n, PyObject **out)
{
    if (r->x->ls != NULL) {
        return ta_thread_pool_call(r->x->ls, n->stat, n->run_mode, n->call, &r->values[n->first],
                                   n->npos, n->kwnames, out);
    }
    if (n->run_mode == RUN_INLINE) {
        *out = vectorcall(r, n);
        return *out ? TA_DONE : TA_FAILED;
    }
    *out = call_hook(r, n, H_run_sync, n->call, false);
    return *out ? TA_WAITS : TA_FAILED;
}

ta_outcome ta_dependencies_call(ta_plan_run *r, const ta_node *n, PyObject **out)
{
    bool generator = n->kind == KIND_GEN || n->kind == KIND_ASYNCGEN;
    if (generator && (r->mode == MODE_NATIVE || r->mode == MODE_ASGI))
        return ta_exit_stack_enter(r, n, out);
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

/* Node r->node has its value (steals): hands it on and goes to the next. */
static void node_done(ta_plan_run *r, PyObject *value)
{
    ta_plan *plan = r->plan;
    const ta_node *n = &plan->nodes[r->node];
    TA_ASSERT(value != NULL && n->into < (int32_t)plan->nvalues &&
              n->cache < (int32_t)plan->ncache);
    ta_plan_run_drop_args(r, n);
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

/* The body parameter of a node that has one.  0, or -1 with an exception. */
static int single_body(ta_plan_run *r, const ta_node *n)
{
    ta_state *st = r->plan->st;
    PyObject **place = &r->values[n->first + n->slots[n->body_first]];
    PyObject *value = NULL;
    int rc = 0;
    if (r->fast_value != NULL) {
        Py_XSETREF(*place, r->fast_value);
        r->fast_value = NULL;
        return 0;
    }
    if (r->body != NULL && n->body_validator != NULL)
        rc = ta_params_validate(st, n->body_validator, r->body, &value);
    if (rc == 0) {
        PyObject *values = PyDict_New();
        if (values == NULL)
            return -1;
        PyObject *args[] = {NULL, r->body ? r->body : ta_plan_objects_of(st)->missing, values};
        PyObject *pair = PyObject_Vectorcall(n->body_validate, args + 1,
                                             2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(values);
        rc = ta_params_take_pair(r, pair, &value);
    }
    if (rc < 0)
        return -1;
    /* Nobody is called with the None, but whoever looks at the solved values finds it there. */
    Py_XSETREF(*place, rc == 1 ? value : Py_NewRef(Py_None));
    return 0;
}

static ta_plan_run_state extract_body(ta_plan_run *r, const ta_node *n)
{
    PyObject *body =
        r->body ? Py_NewRef(r->body) : Py_NewRef(ta_plan_objects_of(r->plan->st)->missing);
    if (r->raw_body != NULL) {
        Py_DECREF(body);
        body = ta_body_parsed(r);
    }
    PyObject *values = body ? ta_plan_run_values(r, n) : NULL;
    PyObject *aw = NULL;
    if (values != NULL) {
        PyObject *args[] = {NULL, body, values};
        aw = PyObject_Vectorcall(n->body_extract, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                 NULL);
    }
    Py_XDECREF(values);
    Py_XDECREF(body);
    return aw ? ta_plan_run_await(r, aw, ST_NODE_BODY) : ST_FAILED;
}

/* Node r->node has all its arguments: calls it, or passes it by. */
static ta_plan_run_state call(ta_plan_run *r)
{
    ta_plan *plan = r->plan;
    const ta_node *n = &plan->nodes[r->node];
    PyObject *out = NULL;
    if (r->node + 1 == plan->nnodes)
        return ST_SOLVED;
    if (r->bad[r->node]) {
        TA_ASSERT(n->parent > (int32_t)r->node);
        r->bad[n->parent] = 1;
        ta_plan_run_drop_args(r, n);
        r->node++;
        return ST_NODE;
    }
    if (n->cache >= 0 && n->use_cache) {
        PyObject *cached = r->values[plan->nvalues + (uint32_t)n->cache];
        if (cached != NULL) {
            node_done(r, Py_NewRef(cached));
            return ST_NODE;
        }
    }
    ta_outcome outcome = ta_dependencies_call(r, n, &out);
    if (outcome == TA_FAILED)
        return ST_FAILED;
    if (outcome == TA_WAITS)
        return ta_plan_run_await(r, out, ST_NODE_VALUE);
    node_done(r, out);
    return ST_NODE;
}

/* Does the turn of a dependency begin here, before any that it depends on?  Not the endpoint's. */
static bool begins(const ta_plan *plan, uint32_t node)
{
    return node + 1 < plan->nnodes && (node == 0 || plan->nodes[node - 1].parent != (int32_t)node);
}

ta_plan_run_state ta_dependencies_begin(ta_plan_run *r, PyObject *Py_UNUSED(value))
{
    return ta_plan_run_enter_operation(r, r->plan->st->names.dependencies) < 0 ? ST_FAILED
                                                                               : ST_NODE;
}

ta_plan_run_state ta_dependencies_node(ta_plan_run *r, PyObject *Py_UNUSED(value))
{
    TA_ASSERT(r->node < r->plan->nnodes);
    if (begins(r->plan, r->node) && r->plan->hook[H_overrides] != NULL &&
        ta_overrides_follow(r) < 0)
        return ST_FAILED;
    const ta_node *n = &r->plan->nodes[r->node];
    if (n->nparams > 0 && ta_params_extract(r, r->node) < 0)
        return ST_FAILED;
    if (n->body_use == BODY_EXTRACT)
        return extract_body(r, n);
    if (n->body_use == BODY_SINGLE && single_body(r, n) < 0)
        return ST_FAILED;
    if (n->ninjects > 0 && inject(r, n) < 0)
        return ST_FAILED;
    return call(r);
}

ta_plan_run_state ta_dependencies_body(ta_plan_run *r, PyObject *pair)
{
    const ta_node *n = &r->plan->nodes[r->node];
    PyObject *values = NULL;
    int rc = ta_params_take_pair(r, pair, &values);
    if (rc < 0)
        return ST_FAILED;
    for (uint16_t i = 0; rc == 1 && i < n->nbody; i++) {
        uint16_t at = (uint16_t)(n->body_first + i);
        PyObject *value = PyObject_GetItem(values, n->names[at]);
        if (value == NULL) {
            Py_DECREF(values);
            return ST_FAILED;
        }
        Py_XSETREF(r->values[n->first + n->slots[at]], value);
    }
    Py_XDECREF(values);
    if (n->ninjects > 0 && inject(r, n) < 0)
        return ST_FAILED;
    return call(r);
}

ta_plan_run_state ta_dependencies_value(ta_plan_run *r, PyObject *value)
{
    if (r->entering != NULL)
        ta_exit_stack_entered(r);
    node_done(r, value);
    return ST_NODE;
}
