/*
 * plan_read.c -- the spec of a route (docs/engine.md), checked once and kept as flat arrays.
 */
#include "py/plan/plan_int.h"

#include "py/loop/thread_pool.h"
#include "py/plan/plan_spec.h"

static const char *const hook_names[H_COUNT] = {
#define X(name) #name,
    TA_ENGINE_HOOKS(X)
#undef X
};

PyObject *ta_plan_hook(ta_plan *plan, int which)
{
    PyObject *hook = plan->hook[which];
    if (TA_UNLIKELY(hook == NULL))
        PyErr_Format(PyExc_RuntimeError, "the plan's hooks have no %s", hook_names[which]);
    return hook;
}

/* -- nodes ------------------------------------------------------------------------------------ */

/* Places of all arguments among a run's values. */
static void link_nodes(ta_plan *plan)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < plan->nnodes; i++) {
        plan->nodes[i].first = at + 1; /* vectorcall may write to the place before */
        at += 1u + plan->nodes[i].nargs;
    }
    plan->nvalues = at;
    uint32_t users = 0;
    plan->fast_body = -1;
    for (uint32_t i = 0; i < plan->nnodes; i++) {
        ta_node *node = &plan->nodes[i];
        TA_ASSERT(node->parent < 0 || (uint32_t)node->parent > i); /* post-order */
        if (node->parent >= 0 && node->into >= 0) {
            const ta_node *parent = &plan->nodes[node->parent];
            node->into = (int32_t)(parent->first + parent->slots[node->into]);
        }
        if (node->body_use != BODY_NONE) {
            users++;
            plan->fast_body = node->body_json_validator ? (int32_t)i : -1;
        }
    }
    if (users != 1 || plan->hook[H_observe] != NULL)
        plan->fast_body = -1;
    uint32_t nexits = plan->ngen > 0 ? 2 * plan->ngen + 1 : 0; /* of two scopes, and the shield */
    plan->nslots = plan->nvalues + plan->ncache + nexits;
    plan->block = plan->nslots * sizeof(PyObject *) + nexits * sizeof(uint16_t) + plan->nnodes;
}

/* What makes a context manager of the generator. */
static int make_enter(ta_plan *plan, ta_node *node)
{
    const ta_plan_objects *objects = ta_plan_objects_of(plan->st);
    PyObject *decorator = node->kind == KIND_GEN ? objects->sync_manager : objects->async_manager;
    node->enter = PyObject_CallOneArg(decorator, node->call);
    return node->enter ? 0 : -1;
}

/* Returns whether code may run that sets context variables outside of the context of a `def` call.
 */
static bool runs_user_code(const ta_node *node)
{
    if (node->kind == KIND_INLINE || node->run_mode == RUN_INLINE || node->body_use != BODY_NONE)
        return true;
    for (uint16_t i = 0; i < node->nparams; i++) {
        if (node->params[i].conv == CONV_NONE)
            return true; /* a validator may be a function */
    }
    return false;
}

static int read_nodes(ta_plan *plan, const ta_plan_spec *rd)
{
    PyObject *specs;
    if (ta_plan_spec_seq(rd, "nodes", &specs) < 0)
        return -1;
    int rc = -1;
    Py_ssize_t n = PyTuple_GET_SIZE(specs);
    if (n == 0) {
        ta_plan_spec_bad_value(rd, "nodes", "is empty");
        goto done;
    }
    plan->nodes = PyMem_Calloc((size_t)n, sizeof *plan->nodes);
    if (plan->nodes == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    plan->nnodes = (uint32_t)n;
    for (uint32_t i = 0; i < plan->nnodes; i++) {
        plan->nodes[i].into = -1;
        plan->nodes[i].stat = ta_callstat_new();
        if (plan->nodes[i].stat == NULL) {
            PyErr_NoMemory();
            goto done;
        }
    }
    for (uint32_t i = 0; i < plan->nnodes; i++) {
        if (ta_node_read(plan, specs, i) < 0)
            goto done;
        ta_node *node = &plan->nodes[i];
        bool last = i + 1 == plan->nnodes;
        bool generator = node->kind == KIND_GEN || node->kind == KIND_ASYNCGEN;
        if (generator && !last) {
            plan->needs_stacks = true;
            plan->ngen++;
            if (!node->limited && make_enter(plan, node) < 0)
                goto done;
        }
        if (generator && last && plan->resp != RESP_PYTHON && node->call != NULL) {
            PyErr_SetString(PyExc_ValueError,
                            "Plan spec: a generator endpoint needs response.kind \"python\"");
            goto done;
        }
        if (node->kind == KIND_ASYNC || generator || node->limited ||
            node->body_use == BODY_EXTRACT ||
            (plan->hook[H_open_stacks] != NULL && node->ninjects > 0))
            plan->direct = false;
        if (plan->hook[H_open_stacks] != NULL && node->ninjects > 0)
            plan->offers_stacks = true;
        if (runs_user_code(node))
            plan->isolate = true;
    }
    link_nodes(plan);
    rc = 0;
done:
    Py_DECREF(specs);
    return rc;
}

/* -- the rest of the spec --------------------------------------------------------------------- */

static int read_hooks(ta_plan *plan, const ta_plan_spec *rd)
{
    PyObject *hooks;
    if (ta_plan_spec_need(rd, "hooks", &hooks) < 0)
        return -1;
    plan->hooks_obj = Py_NewRef(hooks);
    for (int i = 0; i < H_COUNT; i++) {
        PyObject *hook;
        if (PyObject_GetOptionalAttrString(hooks, hook_names[i], &hook) < 0)
            return -1;
        if (hook == Py_None)
            Py_CLEAR(hook);
        if (hook != NULL && i != H_overrides && !PyCallable_Check(hook)) {
            Py_DECREF(hook);
            PyErr_Format(PyExc_TypeError, "Plan spec: hooks.%s must be callable or None",
                         hook_names[i]);
            return -1;
        }
        plan->hook[i] = hook;
    }
    return 0;
}

static int read_shape(ta_plan *plan, const ta_plan_spec *resp)
{
    PyObject *value;
    int rc = ta_plan_spec_get(resp, "shape", &value);
    if (rc <= 0)
        return rc;
    if (!Py_IS_TYPE(value, ta_json_objects_of(plan->st)->shape_type)) {
        ta_plan_spec_bad_type(resp, "shape", "a Shape or None");
        return -1;
    }
    plan->resp_shape = Py_NewRef(value);
    return 0;
}

static int read_text_type(ta_plan *plan, const ta_plan_spec *resp)
{
    PyObject *value;
    int rc = ta_plan_spec_get(resp, "text", &value);
    if (rc <= 0)
        return rc;
    if (!PyBytes_CheckExact(value)) {
        ta_plan_spec_bad_type(resp, "text", "bytes or None");
        return -1;
    }
    plan->resp_text_type = Py_NewRef(value);
    return 0;
}

static const char *const body_names[] = {"", "json", "form"};
static const char *const resp_names[] = {"json", "field", "class", "python"};

static int read_response(ta_plan *plan, const ta_plan_spec *rd)
{
    static const char *const known[] = {"kind", "validator",    "to_json", "shape",
                                        "text", "is_coroutine", NULL};
    PyObject *value;
    int choice;
    plan->resp = RESP_JSON;
    int rc = ta_plan_spec_get(rd, "response", &value);
    if (rc <= 0)
        return rc;
    ta_plan_spec resp;
    if (ta_plan_spec_open(&resp, value, "%sresponse.", "", 0) < 0 ||
        ta_plan_spec_check_keys(&resp, known) < 0 ||
        ta_plan_spec_choice(&resp, "kind", resp_names, TA_COUNTOF(resp_names), -1, &choice) < 0 ||
        ta_plan_spec_callable(&resp, "validator", &plan->resp_validator) < 0 ||
        ta_plan_spec_callable(&resp, "to_json", &plan->resp_to_json) < 0 ||
        read_shape(plan, &resp) < 0 || read_text_type(plan, &resp) < 0)
        return -1;
    plan->resp = (uint8_t)choice;
    if (plan->resp_validator != NULL && plan->resp_to_json == NULL) {
        ta_plan_spec_bad_value(&resp, "to_json", "is missing beside validator");
        return -1;
    }
    return 0;
}

static int read_is_coroutine(ta_plan *plan, const ta_plan_spec *rd)
{
    const ta_node *last = &plan->nodes[plan->nnodes - 1];
    PyObject *value;
    int rc = ta_plan_spec_get(rd, "response", &value);
    plan->is_coroutine = last->kind == KIND_ASYNC;
    if (rc <= 0)
        return rc;
    ta_plan_spec resp = {.dict = value, .where = "response."};
    return ta_plan_spec_bool(&resp, "is_coroutine", plan->is_coroutine, &plan->is_coroutine);
}

int ta_plan_read(ta_plan *plan, PyObject *spec)
{
    static const char *const known[] = {"nodes",         "body",        "strict_content_type",
                                        "max_body_size", "status_code", "response",
                                        "hooks",         NULL};
    ta_plan_spec rd = {.dict = spec, .where = ""};
    int choice;
    long n;
    PyObject *value;
    if (ta_plan_spec_check_keys(&rd, known) < 0 ||
        ta_plan_spec_choice(&rd, "body", body_names, TA_COUNTOF(body_names), 0, &choice) < 0)
        return -1;
    plan->body = (uint8_t)choice;
    if (ta_plan_spec_bool(&rd, "strict_content_type", true, &plan->strict_content_type) < 0 ||
        ta_plan_spec_int(&rd, "status_code", 0, 0, 999, &n) < 0)
        return -1;
    plan->status = (int)n;
    plan->max_body = UINT64_MAX;
    int rc = ta_plan_spec_get(&rd, "max_body_size", &value);
    if (rc < 0)
        return -1;
    if (rc == 1) {
        if (!PyLong_Check(value)) {
            ta_plan_spec_bad_type(&rd, "max_body_size", "an int or None");
            return -1;
        }
        plan->max_body = PyLong_AsUnsignedLongLong(value);
        if (plan->max_body == UINT64_MAX && PyErr_Occurred()) {
            PyErr_Clear();
            ta_plan_spec_bad_value(&rd, "max_body_size", "is out of range");
            return -1;
        }
    }
    plan->direct = plan->body != PLAN_BODY_FORM;
    plan->isolate = false;
    if (read_hooks(plan, &rd) < 0 || read_response(plan, &rd) < 0 || read_nodes(plan, &rd) < 0 ||
        read_is_coroutine(plan, &rd) < 0)
        return -1;
    if (plan->hook[H_operation] != NULL || plan->hook[H_observe] != NULL)
        plan->direct = false; /* spans need the request's own context */
    if (plan->resp != RESP_JSON)
        plan->isolate = true; /* serializers, response classes */
    return 0;
}
