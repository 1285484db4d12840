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

static PyObject *cache_dict(ta_plan_run *run)
{
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict != NULL && i < run->plan->ncache; i++) {
        PyObject *value = run->values[run->plan->nvalues + i];
        if (value == NULL)
            continue;
        PyObject *key = PyLong_FromUnsignedLong(i);
        if (key == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
    }
    return dict;
}

PyObject *ta_solved_new(ta_plan_run *run)
{
    ta_plan *plan = run->plan;
    ta_solved *solved = PyObject_GC_New(ta_solved, ta_plan_objects_of(plan->st)->solved_type);
    if (solved == NULL)
        return NULL;
    solved->values = ta_plan_run_values(run, &plan->nodes[plan->nnodes - 1]);
    solved->errors = run->errors ? Py_NewRef(run->errors) : PyList_New(0);
    solved->background_tasks = Py_NewRef(run->background ? run->background : Py_None);
    solved->response = ta_plan_run_lazy(run, &run->response, H_new_response);
    solved->dependency_cache = cache_dict(run);
    solved->body = run->body != NULL || run->raw_body != NULL
                       ? ta_body_parsed(run)
                       : Py_NewRef(ta_plan_objects_of(plan->st)->missing);
    PyObject_GC_Track(solved);
    if (solved->values == NULL || solved->errors == NULL || solved->response == NULL ||
        solved->dependency_cache == NULL || solved->body == NULL)
        Py_CLEAR(solved);
    return (PyObject *)solved;
}

static int solved_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_solved *solved = (ta_solved *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(solved->values);
    Py_VISIT(solved->errors);
    Py_VISIT(solved->background_tasks);
    Py_VISIT(solved->response);
    Py_VISIT(solved->dependency_cache);
    Py_VISIT(solved->body);
    return 0;
}

static int solved_clear(PyObject *self)
{
    ta_solved *solved = (ta_solved *)self;
    Py_CLEAR(solved->values);
    Py_CLEAR(solved->errors);
    Py_CLEAR(solved->background_tasks);
    Py_CLEAR(solved->response);
    Py_CLEAR(solved->dependency_cache);
    Py_CLEAR(solved->body);
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
