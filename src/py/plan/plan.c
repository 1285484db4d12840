/*
 * plan.c -- _core.Plan: a compiled route and the ways to run it.
 */
#include "py/plan/run_int.h"

#include <structmember.h>

#include "py/exchange/asgi_exchange.h"
#include "py/loop/thread_pool.h"

/* -- the type --------------------------------------------------------------------------------- */

static void clear_node(ta_node *node)
{
    for (uint16_t i = 0; i < node->nparams; i++) {
        ta_param *param = &node->params[i];
        Py_CLEAR(param->alias_obj);
        Py_CLEAR(param->dflt);
        Py_CLEAR(param->validator);
        Py_CLEAR(param->validate);
        Py_CLEAR(param->extract);
        Py_CLEAR(param->loc);
        Py_CLEAR(param->model);
    }
    for (uint16_t i = 0; i < node->ninjects; i++)
        Py_CLEAR(node->injects[i].obj);
    Py_CLEAR(node->call);
    Py_CLEAR(node->enter);
    Py_CLEAR(node->body_validator);
    Py_CLEAR(node->body_json_validator);
    Py_CLEAR(node->body_validate);
    Py_CLEAR(node->body_extract);
    Py_CLEAR(node->body_loc);
    Py_CLEAR(node->credential);
    Py_CLEAR(node->credential_call);
    Py_CLEAR(node->credential_make);
}

static int plan_clear(PyObject *self)
{
    ta_plan *plan = (ta_plan *)self;
    for (uint32_t i = 0; i < plan->nnodes; i++)
        clear_node(&plan->nodes[i]);
    for (int i = 0; i < H_COUNT; i++)
        Py_CLEAR(plan->hook[i]);
    Py_CLEAR(plan->spec);
    Py_CLEAR(plan->hooks_obj);
    Py_CLEAR(plan->resp_validator);
    Py_CLEAR(plan->resp_to_json);
    Py_CLEAR(plan->resp_shape);
    Py_CLEAR(plan->resp_text_type);
    return 0;
}

static int plan_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_plan *plan = (ta_plan *)self;
    Py_VISIT(Py_TYPE(self));
    for (uint32_t i = 0; i < plan->nnodes; i++) {
        ta_node *node = &plan->nodes[i];
        for (uint16_t j = 0; j < node->nparams; j++) {
            ta_param *param = &node->params[j];
            Py_VISIT(param->dflt);
            Py_VISIT(param->validator);
            Py_VISIT(param->validate);
            Py_VISIT(param->extract);
        }
        for (uint16_t j = 0; j < node->ninjects; j++)
            Py_VISIT(node->injects[j].obj);
        Py_VISIT(node->call);
        Py_VISIT(node->enter);
        Py_VISIT(node->body_validator);
        Py_VISIT(node->body_json_validator);
        Py_VISIT(node->body_validate);
        Py_VISIT(node->body_extract);
    }
    for (int i = 0; i < H_COUNT; i++)
        Py_VISIT(plan->hook[i]);
    Py_VISIT(plan->spec);
    Py_VISIT(plan->hooks_obj);
    Py_VISIT(plan->resp_validator);
    Py_VISIT(plan->resp_to_json);
    Py_VISIT(plan->resp_shape);
    return 0;
}

static void plan_dealloc(PyObject *self)
{
    ta_plan *plan = (ta_plan *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    plan_clear(self);
    for (uint32_t i = 0; i < plan->nnodes; i++) {
        ta_node *node = &plan->nodes[i];
        for (uint16_t j = 0; node->names != NULL && j < node->nargs; j++)
            Py_XDECREF(node->names[j]);
        Py_XDECREF(node->kwnames);
        PyMem_Free(node->names);
        PyMem_Free(node->slots);
        PyMem_Free(node->params);
        PyMem_Free(node->injects);
        ta_callstat_unref(node->stat);
    }
    PyMem_Free(plan->nodes);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0) {
        PyErr_SetString(PyExc_TypeError, "Plan() takes keyword arguments only");
        return NULL;
    }
    ta_plan *plan = (ta_plan *)type->tp_alloc(type, 0); /* zeroed */
    if (plan == NULL)
        return NULL;
    plan->st = ta_state_of(type);
    plan->spec = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    if (plan->st == NULL || plan->spec == NULL || ta_plan_read(plan, plan->spec) < 0) {
        Py_DECREF(plan);
        return NULL;
    }
    return (PyObject *)plan;
}

/* -- methods ---------------------------------------------------------------------------------- */

static PyObject *start_run(ta_plan *plan, ta_exchange *exchange /* steals, may be NULL */,
                           ta_mode mode, PyObject *body)
{
    if (exchange == NULL)
        return NULL;
    ta_plan_run *run = ta_plan_run_new(plan->st, plan, exchange, mode);
    Py_DECREF(exchange);
    if (run != NULL && body != NULL && body != ta_plan_objects_of(plan->st)->missing)
        run->body = Py_NewRef(body);
    return (PyObject *)run;
}

static PyObject *plan_asgi(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    ta_plan *plan = (ta_plan *)self;
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "asgi() takes scope, receive and send");
        return NULL;
    }
    return start_run(plan, ta_asgi_exchange_new(plan->st, args[0], args[1], args[2]), MODE_ASGI,
                     NULL);
}

static PyObject *plan_respond(PyObject *self, PyObject *request)
{
    ta_plan *plan = (ta_plan *)self;
    return start_run(plan, ta_asgi_exchange_of(plan->st, request), MODE_RESPOND, NULL);
}

static PyObject *plan_solve(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"connection", "body", NULL};
    ta_plan *plan = (ta_plan *)self;
    PyObject *connection, *body = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:solve", keywords, &connection, &body))
        return NULL;
    return start_run(plan, ta_asgi_exchange_of(plan->st, connection), MODE_SOLVE, body);
}

static PyMethodDef plan_methods[] = {
    {"asgi", (PyCFunction)(void (*)(void))plan_asgi, METH_FASTCALL,
     PyDoc_STR("asgi(scope, receive, send) -> Coroutine[None]\n\nRuns the route as an ASGI "
               "application.")},
    {"respond", plan_respond, METH_O,
     PyDoc_STR("respond(request) -> Coroutine[Response]\n\nRuns the route up to its response, "
               "which the caller sends.")},
    {"solve", (PyCFunction)(void (*)(void))plan_solve, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "solve(connection, body=MISSING) -> Coroutine[Solved]\n\nRuns the dependencies only.")},
    {NULL, NULL, 0, NULL}};

static PyMemberDef plan_members[] = {
    {"needs_stacks", T_BOOL, offsetof(ta_plan, needs_stacks), READONLY,
     PyDoc_STR("Whether respond() and solve() need exit stacks in the scope.")},
    {"spec", T_OBJECT, offsetof(ta_plan, spec), READONLY,
     PyDoc_STR("The keywords the plan was made from.")},
    {"hooks", T_OBJECT, offsetof(ta_plan, hooks_obj), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

PyDoc_STRVAR(plan_doc, "Plan(**spec)\n\nA compiled route: see docs/engine.md for the keywords.\n\n"
                       "Raises TypeError or ValueError naming the key that is wrong.");

static PyType_Slot plan_slots[] = {{Py_tp_doc, (void *)plan_doc}, {Py_tp_new, plan_new},
                                   {Py_tp_dealloc, plan_dealloc}, {Py_tp_traverse, plan_traverse},
                                   {Py_tp_clear, plan_clear},     {Py_tp_methods, plan_methods},
                                   {Py_tp_members, plan_members}, {0, NULL}};

PyType_Spec ta_plan_type_spec = {.name = "turboapi._core.Plan",
                                 .basicsize = sizeof(ta_plan),
                                 .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
                                 .slots = plan_slots};
