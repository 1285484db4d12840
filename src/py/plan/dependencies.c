/*
 * dependencies.c -- the dependency steps of a run: nodes in post-order, each extracted, cached,
 * called.
 */
#include "py/plan/run_int.h"

#include "py/loop/thread_pool.h"

/* -- injected objects ------------------------------------------------------------------------- */

static PyObject *injected(ta_plan_run *run, const ta_inject *inj)
{
    switch ((ta_inject_what)inj->what) {
    case INJECT_RESPONSE:
        return ta_plan_run_lazy(run, &run->response, H_new_response);
    case INJECT_BACKGROUND:
        return ta_plan_run_lazy(run, &run->background, H_new_background);
    case INJECT_CONST:
        return Py_NewRef(inj->obj);
    case INJECT_REQUEST:
    case INJECT_WEBSOCKET:
    case INJECT_CONNECTION:
        break;
    }
    PyObject *request = ta_plan_run_request(run);
    if (request != NULL && ta_exit_stack_offer(run, request) < 0)
        Py_CLEAR(request);
    return request;
}

static int inject(ta_plan_run *run, const ta_node *node)
{
    for (uint16_t i = 0; i < node->ninjects; i++) {
        const ta_inject *inj = &node->injects[i];
        PyObject *value = injected(run, inj);
        if (value == NULL)
            return -1;
        Py_XSETREF(run->values[node->first + inj->slot], value);
    }
    return 0;
}

/* -- calls ------------------------------------------------------------------------------------ */

static PyObject *vectorcall(ta_plan_run *r, const ta_node *n)
{
    return PyObject_Vectorcall(n->call, &r->values[n->first],
                               n->npos | PY_VECTORCALL_ARGUMENTS_OFFSET, n->kwnames);
}

/* Returns an awaitable of the node's value from a hook: hook(first, values[, request]). */
static PyObject *call_hook(ta_plan_run *run, const ta_node *node, int which, PyObject *first,
                           bool request)
{
    PyObject *hook = ta_plan_hook(run->plan, which);
    PyObject *values = hook ? ta_plan_run_values(run, node) : NULL;
    PyObject *req = NULL, *aw = NULL;
    if (values != NULL && request)
        req = ta_plan_run_request(run);
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
static ta_outcome call_sync(ta_plan_run *run, const ta_node *node, PyObject **out)
{
    if (run->x->ls != NULL) {
        return ta_thread_pool_call(run->x->ls, node->stat, node->run_mode, node->call,
                                   &run->values[node->first], node->npos, node->kwnames, out);
    }
    if (node->run_mode == RUN_INLINE) {
        *out = vectorcall(run, node);
        return *out ? TA_DONE : TA_FAILED;
    }
    *out = call_hook(run, node, H_run_sync, node->call, false);
    return *out ? TA_WAITS : TA_FAILED;
}

ta_outcome ta_dependencies_call(ta_plan_run *run, const ta_node *node, PyObject **out)
{
    bool generator = node->kind == KIND_GEN || node->kind == KIND_ASYNCGEN;
    if (generator && (run->mode == MODE_NATIVE || run->mode == MODE_ASGI))
        return ta_exit_stack_enter(run, node, out);
    if (node->limited && !generator) {
        *out = call_indexed(run, node, H_solve_limited, false);
        return *out ? TA_WAITS : TA_FAILED;
    }
    switch ((ta_kind)node->kind) {
    case KIND_ASYNC:
        *out = vectorcall(run, node);
        return *out ? TA_WAITS : TA_FAILED;
    case KIND_INLINE:
        *out = vectorcall(run, node);
        return *out ? TA_DONE : TA_FAILED;
    case KIND_SYNC:
        return call_sync(run, node, out);
    case KIND_GEN:
    case KIND_ASYNCGEN:
        break;
    }
    *out = call_indexed(run, node, H_solve_generator, true);
    return *out ? TA_WAITS : TA_FAILED;
}

/* -- the walk --------------------------------------------------------------------------------- */

/* Node r->node has its value (steals): passes it on and moves to the next node. */
static void node_done(ta_plan_run *run, PyObject *value)
{
    ta_plan *plan = run->plan;
    const ta_node *node = &plan->nodes[run->node];
    TA_ASSERT(value != NULL && node->into < (int32_t)plan->nvalues &&
              node->cache < (int32_t)plan->ncache);
    ta_plan_run_drop_args(run, node);
    if (node->cache >= 0) {
        PyObject **slot = &run->values[plan->nvalues + (uint32_t)node->cache];
        if (*slot == NULL)
            *slot = Py_NewRef(value);
    }
    if (node->into >= 0)
        Py_XSETREF(run->values[node->into], value);
    else
        Py_DECREF(value);
    run->node++;
}

/* Takes the body parameter of a node that has one.  0, or -1 with an exception. */
static int single_body(ta_plan_run *run, const ta_node *node)
{
    ta_state *st = run->plan->st;
    PyObject **place = &run->values[node->first + node->slots[node->body_first]];
    PyObject *value = NULL;
    int rc = 0;
    if (run->fast_value != NULL) {
        Py_XSETREF(*place, run->fast_value);
        run->fast_value = NULL;
        return 0;
    }
    if (run->body != NULL && node->body_validator != NULL)
        rc = ta_params_try(st, node->body_validator, run->body, &value);
    if (rc == 0 && PyErr_Occurred() && node->body_loc != NULL) {
        if (ta_params_reject(run, node->body_loc) < 0)
            return -1;
    } else if (rc == 0) {
        PyErr_Clear();
        PyObject *values = PyDict_New();
        if (values == NULL)
            return -1;
        PyObject *args[] = {NULL, run->body ? run->body : ta_plan_objects_of(st)->missing, values};
        PyObject *pair = PyObject_Vectorcall(node->body_validate, args + 1,
                                             2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(values);
        rc = ta_params_take_pair(run, pair, &value);
    }
    if (rc < 0)
        return -1;
    /* Nothing is called with the None, but a reader of the solved values finds it there. */
    Py_XSETREF(*place, rc == 1 ? value : Py_NewRef(Py_None));
    return 0;
}

static ta_plan_run_state extract_body(ta_plan_run *run, const ta_node *node)
{
    PyObject *body =
        run->body ? Py_NewRef(run->body) : Py_NewRef(ta_plan_objects_of(run->plan->st)->missing);
    if (run->raw_body != NULL) {
        Py_DECREF(body);
        body = ta_body_parsed(run);
    }
    PyObject *values = body ? ta_plan_run_values(run, node) : NULL;
    PyObject *aw = NULL;
    if (values != NULL) {
        PyObject *args[] = {NULL, body, values};
        aw = PyObject_Vectorcall(node->body_extract, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                 NULL);
    }
    Py_XDECREF(values);
    Py_XDECREF(body);
    if (aw == NULL)
        return ST_FAILED;
    return PyTuple_CheckExact(aw) ? ta_plan_run_give(run, aw, ST_NODE_BODY)
                                  : ta_plan_run_await(run, aw, ST_NODE_BODY);
}

/* Node r->node has all its arguments: calls it, or skips it. */
static ta_plan_run_state call(ta_plan_run *run)
{
    ta_plan *plan = run->plan;
    const ta_node *node = &plan->nodes[run->node];
    PyObject *out = NULL;
    if (run->node + 1 == plan->nnodes)
        return ST_SOLVED;
    if (run->bad[run->node]) {
        TA_ASSERT(node->parent > (int32_t)run->node);
        run->bad[node->parent] = 1;
        ta_plan_run_drop_args(run, node);
        run->node++;
        return ST_NODE;
    }
    if (node->cache >= 0 && node->use_cache) {
        PyObject *cached = run->values[plan->nvalues + (uint32_t)node->cache];
        if (cached != NULL) {
            node_done(run, Py_NewRef(cached));
            return ST_NODE;
        }
    }
    ta_outcome outcome = ta_dependencies_call(run, node, &out);
    if (outcome == TA_FAILED)
        return ST_FAILED;
    if (outcome == TA_WAITS)
        return ta_plan_run_await(run, out, ST_NODE_VALUE);
    node_done(run, out);
    return ST_NODE;
}

/* Returns whether the turn of a dependency begins here, before any that it depends on.  Not the
 * endpoint's. */
static bool begins(const ta_plan *plan, uint32_t node)
{
    return node + 1 < plan->nnodes && (node == 0 || plan->nodes[node - 1].parent != (int32_t)node);
}

ta_plan_run_state ta_dependencies_begin(ta_plan_run *r, PyObject *Py_UNUSED(value))
{
    return ta_plan_run_enter_operation(r, r->plan->st->names.dependencies) < 0 ? ST_FAILED
                                                                               : ST_NODE;
}

ta_plan_run_state ta_dependencies_node(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    TA_ASSERT(run->node < run->plan->nnodes);
    if (begins(run->plan, run->node) && run->plan->hook[H_overrides] != NULL &&
        ta_overrides_follow(run) < 0)
        return ST_FAILED;
    const ta_node *node = &run->plan->nodes[run->node];
    if (node->credential != NULL) {
        PyObject *value;
        int rc = ta_credentials_take(run, node, &value);
        if (rc < 0)
            return ST_FAILED;
        if (rc == 1) {
            node_done(run, value);
            return ST_NODE;
        }
    }
    if (node->nparams > 0 && ta_params_extract(run, run->node) < 0)
        return ST_FAILED;
    if (node->body_use == BODY_EXTRACT)
        return extract_body(run, node);
    if (node->body_use == BODY_SINGLE && single_body(run, node) < 0)
        return ST_FAILED;
    if (node->ninjects > 0 && inject(run, node) < 0)
        return ST_FAILED;
    return call(run);
}

ta_plan_run_state ta_dependencies_body(ta_plan_run *run, PyObject *pair)
{
    const ta_node *node = &run->plan->nodes[run->node];
    PyObject *values = NULL;
    int rc = ta_params_take_pair(run, pair, &values);
    if (rc < 0)
        return ST_FAILED;
    for (uint16_t i = 0; rc == 1 && i < node->nbody; i++) {
        uint16_t at = (uint16_t)(node->body_first + i);
        PyObject *value = PyObject_GetItem(values, node->names[at]);
        if (value == NULL) {
            Py_DECREF(values);
            return ST_FAILED;
        }
        Py_XSETREF(run->values[node->first + node->slots[at]], value);
    }
    Py_XDECREF(values);
    if (node->ninjects > 0 && inject(run, node) < 0)
        return ST_FAILED;
    return call(run);
}

ta_plan_run_state ta_dependencies_value(ta_plan_run *r, PyObject *value)
{
    if (r->entering != NULL)
        ta_exit_stack_entered(r);
    node_done(r, value);
    return ST_NODE;
}
