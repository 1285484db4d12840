/*
 * node_read.c -- one node of a spec (docs/engine.md): its call, parameters, body and injected
 * objects, and the order of its arguments in the C call.
 *
 * Layer: py/plan.
 */
#include "py/plan/plan_int.h"

#include "py/plan/plan_spec.h"

/* -- the arguments of a node --------------------------------------------------------------- */

/*
 * Names in FastAPI's order while the node is read; the slots (order of the C call) are chosen at
 * the end, see assign_slots.
 */
typedef struct arg_list {
    PyObject *names; /* owned list of str */
} arg_list;

/* Adds a keyword and gives its place, or -1. */
static int add_name(arg_list *args, const ta_plan_spec *rd, const char *key, PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        ta_plan_spec_bad_type(rd, key, "a str");
        return -1;
    }
    int rc = PySequence_Contains(args->names, name);
    if (rc != 0) {
        if (rc > 0)
            PyErr_Format(PyExc_ValueError, "Plan spec: %s%s: %R is there twice", rd->where, key,
                         name);
        return -1;
    }
    PyObject *own = Py_NewRef(name);
    PyUnicode_InternInPlace(&own);
    rc = PyList_Append(args->names, own);
    Py_DECREF(own);
    return rc < 0 ? -1 : (int)PyList_GET_SIZE(args->names) - 1;
}

/* A list of new references to the names of the leading positional-or-keyword parameters. */
static PyObject *leading_names(PyObject *call)
{
    Py_ssize_t skip = 0;
    if (PyMethod_Check(call)) {
        call = PyMethod_GET_FUNCTION(call);
        skip = 1;
    }
    if (!PyFunction_Check(call))
        return PyList_New(0);
    PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(call);
    if (code->co_posonlyargcount > 0 || code->co_argcount < skip)
        return PyList_New(0);
    PyObject *names = PyCode_GetVarnames(code);
    if (names == NULL)
        return NULL;
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = skip; list != NULL && i < code->co_argcount; i++) {
        if (PyList_Append(list, PyTuple_GET_ITEM(names, i)) < 0)
            Py_CLEAR(list);
    }
    Py_DECREF(names);
    return list;
}

/*
 * A plain Python function takes as many leading arguments as possible by position: nothing is
 * matched by name then.  What follows the first parameter that the node does not give goes by
 * keyword.
 */
static int assign_slots(ta_node *node, arg_list *args)
{
    Py_ssize_t n = PyList_GET_SIZE(args->names);
    int rc = -1;
    PyObject *lead = node->call ? leading_names(node->call) : PyList_New(0);
    PyObject *kwnames = NULL;
    if (lead == NULL)
        return -1;
    node->nargs = (uint16_t)n;
    node->names = PyMem_Calloc((size_t)n + 1, sizeof *node->names);
    node->slots = PyMem_Calloc((size_t)n + 1, sizeof *node->slots);
    if (node->names == NULL || node->slots == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        node->names[i] = Py_NewRef(PyList_GET_ITEM(args->names, i));
        node->slots[i] = UINT16_MAX;
    }
    uint16_t pos = 0;
    for (; pos < PyList_GET_SIZE(lead); pos++) {
        Py_ssize_t at = PySequence_Index(args->names, PyList_GET_ITEM(lead, pos));
        if (at < 0) {
            PyErr_Clear();
            break;
        }
        node->slots[at] = pos;
    }
    node->npos = pos;
    if (pos < n) {
        kwnames = PyTuple_New(n - pos);
        if (kwnames == NULL)
            goto done;
        uint16_t slot = pos;
        for (Py_ssize_t i = 0; i < n; i++) {
            if (node->slots[i] != UINT16_MAX)
                continue;
            PyTuple_SET_ITEM(kwnames, slot - pos, Py_NewRef(node->names[i]));
            node->slots[i] = slot++;
        }
    }
    node->kwnames = kwnames;
    kwnames = NULL;
    for (uint16_t i = 0; i < node->nparams; i++)
        node->params[i].slot = node->slots[node->params[i].slot];
    for (uint16_t i = 0; i < node->ninjects; i++)
        node->injects[i].slot = node->slots[node->injects[i].slot];
    rc = 0;
done:
    Py_DECREF(lead);
    Py_XDECREF(kwnames);
    return rc;
}

/* -- parts of a node ----------------------------------------------------------------------- */

static const char *const source_names[] = {"path", "query", "header", "cookie"};
static const char *const conv_names[] = {"", "str", "int", "float", "bool"};
static const char *const kind_names[] = {"async", "sync", "inline", "gen", "asyncgen"};
static const char *const scope_names[] = {"function", "request"};
static const char *const run_names[] = {"", "inline", "thread"};
static const char *const inject_names[] = {"request", "websocket", "connection", "response",
                                           "background"};

/* The tuple under "loc", if it is there. */
static int read_loc(const ta_plan_spec *rd, PyObject **loc)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, "loc", &value);
    if (rc <= 0)
        return rc;
    if (!PyTuple_CheckExact(value)) {
        ta_plan_spec_bad_type(rd, "loc", "a tuple");
        return -1;
    }
    *loc = Py_NewRef(value);
    return 0;
}

/* The fields of a model of query parameters. */
static int read_model(const ta_plan_spec *rd, ta_param *param)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, "model", &value);
    if (rc <= 0)
        return rc;
    bool good = PyTuple_CheckExact(value) && param->source == SRC_QUERY &&
                param->validator != NULL && param->loc != NULL && param->extract != NULL;
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(value); i++) {
        PyObject *field = PyTuple_GET_ITEM(value, i);
        good = PyTuple_CheckExact(field) && PyTuple_GET_SIZE(field) == 2 &&
               PyUnicode_CheckExact(PyTuple_GET_ITEM(field, 0)) &&
               PyBool_Check(PyTuple_GET_ITEM(field, 1));
    }
    if (!good) {
        ta_plan_spec_bad_value(rd, "model",
                               "must be a tuple of (str, bool), for a query parameter that has "
                               "validator, loc and extract");
        return -1;
    }
    param->model = Py_NewRef(value);
    return 0;
}

static int read_param(ta_param *param, const ta_plan_spec *rd, arg_list *args)
{
    static const char *const known[] = {"name",     "source",  "alias",     "index",    "conv",
                                        "required", "default", "validator", "validate", "extract",
                                        "many",     "loc",     "model",     NULL};
    PyObject *value;
    int choice;
    long n;
    bool ignored;
    if (ta_plan_spec_check_keys(rd, known) < 0 ||
        ta_plan_spec_bool(rd, "required", false, &ignored) < 0)
        return -1;
    if (ta_plan_spec_choice(rd, "source", source_names, TA_COUNTOF(source_names), -1, &choice) < 0)
        return -1;
    param->source = (uint8_t)choice;
    if (ta_plan_spec_choice(rd, "conv", conv_names, TA_COUNTOF(conv_names), 0, &choice) < 0)
        return -1;
    param->conv = (uint8_t)choice;
    if (ta_plan_spec_bool(rd, "many", false, &param->many) < 0)
        return -1;
    if (param->many && param->source != SRC_QUERY && param->source != SRC_HEADER) {
        ta_plan_spec_bad_value(rd, "many", "is for query and header only");
        return -1;
    }
    if (ta_plan_spec_int(rd, "index", -1, -1, TA_EXCHANGE_MAX_PARAMS - 1, &n) < 0)
        return -1;
    param->index = (int16_t)n;
    if (ta_plan_spec_callable(rd, "validator", &param->validator) < 0 ||
        ta_plan_spec_callable(rd, "validate", &param->validate) < 0 ||
        ta_plan_spec_callable(rd, "extract", &param->extract) < 0 ||
        read_loc(rd, &param->loc) < 0 || read_model(rd, param) < 0)
        return -1;
    if (PyDict_GetItemStringRef(rd->dict, "default", &param->dflt) < 0) /* None is a default */
        return -1;
    if (param->many && param->extract == NULL) {
        ta_plan_spec_bad_value(rd, "extract", "is missing: a custom request is asked by it");
        return -1;
    }
    if (param->extract == NULL || param->many) {
        if (param->validate == NULL) {
            ta_plan_spec_bad_value(rd, "validate", "is missing (or give extract)");
            return -1;
        }
        if (ta_plan_spec_need(rd, "alias", &value) < 0)
            return -1;
        if (!PyUnicode_Check(value)) {
            ta_plan_spec_bad_type(rd, "alias", "a str");
            return -1;
        }
        Py_ssize_t len;
        param->alias = PyUnicode_AsUTF8AndSize(value, &len);
        if (param->alias == NULL)
            return -1;
        param->alias_obj = Py_NewRef(value);
        param->alias_len = (size_t)len;
    }
    if (ta_plan_spec_need(rd, "name", &value) < 0)
        return -1;
    int slot = add_name(args, rd, "name", value);
    if (slot < 0)
        return -1;
    param->slot = (uint16_t)slot;
    return 0;
}

static int read_params(ta_node *node, const ta_plan_spec *rd, arg_list *args)
{
    PyObject *seq;
    if (ta_plan_spec_seq(rd, "params", &seq) < 0)
        return -1;
    int rc = -1;
    Py_ssize_t n = PyTuple_GET_SIZE(seq);
    uint8_t last = 0;
    if (n > 0) {
        node->params = PyMem_Calloc((size_t)n, sizeof *node->params);
        if (node->params == NULL) {
            PyErr_NoMemory();
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        ta_plan_spec inner;
        if (ta_plan_spec_open(&inner, PyTuple_GET_ITEM(seq, i), "%sparams[%d].", rd->where,
                              (int)i) < 0)
            goto done;
        node->nparams++; /* before, so that a half read one is released */
        ta_param *param = &node->params[i];
        if (read_param(param, &inner, args) < 0)
            goto done;
        if (param->source < last) {
            ta_plan_spec_bad_value(&inner, "source",
                                   "is out of order (path, query, header, cookie)");
            goto done;
        }
        last = param->source;
    }
    rc = 0;
done:
    Py_DECREF(seq);
    return rc;
}

static int read_body(ta_node *node, const ta_plan_spec *rd, arg_list *args)
{
    static const char *const known[] = {"single", "extract", "names", NULL};
    static const char *const single_known[] = {"name",     "validator", "json_validator",
                                               "validate", "loc",       NULL};
    PyObject *value;
    int rc = ta_plan_spec_get(rd, "body", &value);
    if (rc <= 0)
        return rc;
    ta_plan_spec body;
    if (ta_plan_spec_open(&body, value, "%sbody.", rd->where, 0) < 0 ||
        ta_plan_spec_check_keys(&body, known) < 0)
        return -1;
    node->body_first = (uint16_t)PyList_GET_SIZE(args->names);
    if ((rc = ta_plan_spec_get(&body, "single", &value)) < 0)
        return -1;
    if (rc == 1) {
        ta_plan_spec single;
        if (ta_plan_spec_open(&single, value, "%ssingle.", body.where, 0) < 0 ||
            ta_plan_spec_check_keys(&single, single_known) < 0 ||
            ta_plan_spec_callable(&single, "validator", &node->body_validator) < 0 ||
            ta_plan_spec_callable(&single, "json_validator", &node->body_json_validator) < 0 ||
            ta_plan_spec_callable(&single, "validate", &node->body_validate) < 0 ||
            read_loc(&single, &node->body_loc) < 0 ||
            ta_plan_spec_need(&single, "name", &value) < 0 ||
            add_name(args, &single, "name", value) < 0)
            return -1;
        if (node->body_validate == NULL) {
            ta_plan_spec_bad_value(&single, "validate", "is missing");
            return -1;
        }
        node->body_use = BODY_SINGLE;
        node->nbody = 1;
        return 0;
    }
    if (ta_plan_spec_callable(&body, "extract", &node->body_extract) < 0)
        return -1;
    if (node->body_extract == NULL) {
        ta_plan_spec_bad_value(&body, "extract", "is missing (or give single)");
        return -1;
    }
    PyObject *names;
    if (ta_plan_spec_seq(&body, "names", &names) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        if (add_name(args, &body, "names", PyTuple_GET_ITEM(names, i)) < 0) {
            Py_DECREF(names);
            return -1;
        }
    }
    node->nbody = (uint16_t)PyTuple_GET_SIZE(names);
    node->body_use = BODY_EXTRACT;
    Py_DECREF(names);
    return 0;
}

static int read_inject(ta_inject *inj, const ta_plan_spec *rd, PyObject *item, arg_list *args)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
        ta_plan_spec_bad_type(rd, "inject", "a list of (keyword, what)");
        return -1;
    }
    PyObject *what = PyTuple_GET_ITEM(item, 1);
    if (PyTuple_Check(what)) {
        if (PyTuple_GET_SIZE(what) != 2 || !PyUnicode_Check(PyTuple_GET_ITEM(what, 0)) ||
            PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(what, 0), "const") != 0) {
            ta_plan_spec_bad_value(rd, "inject", "has a pair that is not (\"const\", object)");
            return -1;
        }
        inj->what = INJECT_CONST;
        inj->obj = Py_NewRef(PyTuple_GET_ITEM(what, 1));
    } else {
        int choice;
        if (ta_plan_spec_choose(rd, "inject", what, inject_names, TA_COUNTOF(inject_names),
                                &choice) < 0)
            return -1;
        inj->what = (uint8_t)choice;
    }
    int slot = add_name(args, rd, "inject", PyTuple_GET_ITEM(item, 0));
    if (slot < 0)
        return -1;
    inj->slot = (uint16_t)slot;
    return 0;
}

static int read_injects(ta_node *node, const ta_plan_spec *rd, arg_list *args)
{
    PyObject *seq;
    if (ta_plan_spec_seq(rd, "inject", &seq) < 0)
        return -1;
    int rc = 0;
    Py_ssize_t n = PyTuple_GET_SIZE(seq);
    if (n > 0) {
        node->injects = PyMem_Calloc((size_t)n, sizeof *node->injects);
        if (node->injects == NULL) {
            PyErr_NoMemory();
            rc = -1;
        }
    }
    for (Py_ssize_t i = 0; rc == 0 && i < n; i++) {
        node->ninjects++;
        rc = read_inject(&node->injects[i], rd, PyTuple_GET_ITEM(seq, i), args);
    }
    Py_DECREF(seq);
    return rc;
}

/* -- the node -----------------------------------------------------------------------------------
 */

/* (name of a header field, whether it is a bearer's, the __call__ that reads it, what makes the
 * value of a dict of scheme and credentials, or None) */
static int read_credential(ta_node *node, const ta_plan_spec *rd)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, "credential", &value);
    if (rc <= 0)
        return rc;
    if (!PyTuple_CheckExact(value) || PyTuple_GET_SIZE(value) != 4 ||
        !PyBytes_CheckExact(PyTuple_GET_ITEM(value, 0)) ||
        !PyBool_Check(PyTuple_GET_ITEM(value, 1))) {
        ta_plan_spec_bad_type(rd, "credential", "(bytes, bool, callable, callable or None)");
        return -1;
    }
    node->credential = Py_NewRef(PyTuple_GET_ITEM(value, 0));
    node->is_bearer = PyTuple_GET_ITEM(value, 1) == Py_True;
    node->credential_call = Py_NewRef(PyTuple_GET_ITEM(value, 2));
    if (PyTuple_GET_ITEM(value, 3) != Py_None) {
        if (!node->is_bearer) {
            ta_plan_spec_bad_type(rd, "credential", "a bearer's, to have a scheme");
            return -1;
        }
        node->credential_make = Py_NewRef(PyTuple_GET_ITEM(value, 3));
    }
    return 0;
}

static int read_node_head(ta_plan *plan, uint32_t index, const ta_plan_spec *rd)
{
    static const char *const known[] = {"call",  "kind",        "run",        "name",   "parent",
                                        "cache", "use_cache",   "scope",      "params", "inject",
                                        "body",  "concurrency", "credential", NULL};
    ta_node *node = &plan->nodes[index];
    bool last = index + 1 == plan->nnodes;
    int choice;
    long n;
    PyObject *value;
    if (ta_plan_spec_check_keys(rd, known) < 0 ||
        ta_plan_spec_callable(rd, "call", &node->call) < 0)
        return -1;
    if (node->call == NULL && !last) {
        ta_plan_spec_bad_value(rd, "call", "is missing");
        return -1;
    }
    if (ta_plan_spec_choice(rd, "kind", kind_names, TA_COUNTOF(kind_names), last ? KIND_ASYNC : -1,
                            &choice) < 0)
        return -1;
    node->kind = (uint8_t)choice;
    if (ta_plan_spec_choice(rd, "run", run_names, TA_COUNTOF(run_names), 0, &choice) < 0)
        return -1;
    node->run_mode = (uint8_t)choice;
    if (ta_plan_spec_bool(rd, "use_cache", true, &node->use_cache) < 0 ||
        ta_plan_spec_int(rd, "cache", -1, -1, 4096, &n) < 0)
        return -1;
    node->cache = last ? -1 : (int32_t)n;
    if (node->cache >= 0 && (uint32_t)node->cache >= plan->ncache)
        plan->ncache = (uint32_t)node->cache + 1;
    if (ta_plan_spec_int(rd, "parent", -1, -1, 4096, &n) < 0)
        return -1;
    if (last ? n != -1 : (n <= (long)index || n >= (long)plan->nnodes)) {
        ta_plan_spec_bad_value(rd, "parent",
                               last ? "of the last node must be -1"
                                    : "must be the index of a later node");
        return -1;
    }
    node->parent = (int32_t)n;
    int rc = ta_plan_spec_get(rd, "concurrency", &value);
    if (rc < 0)
        return -1;
    node->limited = rc == 1;
    rc = ta_plan_spec_get(rd, "scope", &value);
    if (rc < 0)
        return -1;
    if (rc == 1 &&
        ta_plan_spec_choose(rd, "scope", value, scope_names, TA_COUNTOF(scope_names), &choice) < 0)
        return -1;
    node->function_scope = rc == 1 && choice == 0;
    return read_credential(node, rd);
}

/* The keywords that node `index` gets from the nodes below it, in their order. */
static int add_dependency_names(ta_plan *plan, PyObject *specs, uint32_t index,
                                const ta_plan_spec *rd, arg_list *args)
{
    for (uint32_t child = 0; child < index; child++) {
        ta_node *node = &plan->nodes[child];
        if (node->parent != (int32_t)index)
            continue;
        ta_plan_spec inner = {.dict = PyTuple_GET_ITEM(specs, child)};
        PyOS_snprintf(inner.where, sizeof inner.where, "nodes[%u].", child);
        PyObject *name;
        int rc = ta_plan_spec_get(&inner, "name", &name);
        if (rc < 0)
            return -1;
        if (rc == 1) {
            int at = add_name(args, rd, "name", name);
            if (at < 0)
                return -1;
            node->into = at; /* of the parent's names; becomes a value's index in link_nodes */
        }
    }
    return 0;
}

int ta_node_read(ta_plan *plan, PyObject *specs, uint32_t index)
{
    ta_node *node = &plan->nodes[index];
    ta_plan_spec rd;
    if (ta_plan_spec_open(&rd, PyTuple_GET_ITEM(specs, index), "%snodes[%d].", "", (int)index) < 0)
        return -1;
    arg_list args = {.names = PyList_New(0)};
    if (args.names == NULL)
        return -1;
    int rc = -1;
    if (read_node_head(plan, index, &rd) == 0 &&
        add_dependency_names(plan, specs, index, &rd, &args) == 0 &&
        read_params(node, &rd, &args) == 0 && read_body(node, &rd, &args) == 0 &&
        read_injects(node, &rd, &args) == 0)
        rc = assign_slots(node, &args);
    Py_DECREF(args.names);
    return rc;
}
