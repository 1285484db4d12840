/*
 * solved.c -- _core.Solved: what the dependencies of a run gave, for whoever asked for no more or
 * looks on.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include <structmember.h>

typedef struct ta_solved {
    PyObject_HEAD
    /* owned */
    PyObject *values, *errors, *background_tasks, *response, *dependency_cache, *body;
} ta_solved;

static PyObject *cache_dict(ta_plan_run *r)
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

PyObject *ta_solved_new(ta_plan_run *r)
{
    ta_plan *plan = r->plan;
    ta_solved *s = PyObject_GC_New(ta_solved, ta_plan_objects_of(plan->st)->solved_type);
    if (s == NULL)
        return NULL;
    s->values = ta_plan_run_values(r, &plan->nodes[plan->nnodes - 1]);
    s->errors = r->errors ? Py_NewRef(r->errors) : PyList_New(0);
    s->background_tasks = Py_NewRef(r->background ? r->background : Py_None);
    s->response = ta_plan_run_lazy(r, &r->response, H_new_response);
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

PyType_Spec ta_solved_type_spec = {.name = "turboapi._core.Solved",
                                   .basicsize = sizeof(ta_solved),
                                   .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC |
                                            Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                   .slots = solved_slots};
