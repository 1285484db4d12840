/*
 * all_tasks.c -- enters Tasks into asyncio's set of all tasks, and takes them out.
 *
 * Layer: py/loop.  Up to Python 3.13 that set is a WeakSet, whose add() and discard() are Python
 * and cost a waiting request more than its wait.
 *   - A Task of the pool keeps its weak reference and puts it into the set within: what add() would
 *     do.
 *   - For all other Tasks asyncio calls the set's methods by name.  Once an event loop of ours was
 *     made, the set has functions of C in the place of those methods (attributes of that one
 *     object: no class is changed), and weak references whose callback is C.
 * Whatever is not as usual (somebody iterates and removals have to wait) is left to the set's own
 * methods.  From 3.14 on, and where the set is not as known, asyncio's functions do all of it.
 */
#include "py/loop/task_pool_int.h"

#include "py/support/types.h"

/* Returns the inner set of asyncio's WeakSet, borrowed, or NULL when add() and discard() must be
 * called. */
static PyObject *data_of(const ta_task_pool_state *s)
{
    /* Removals that were deferred during an iteration come first. */
    return s->all_data != NULL && PyList_GET_SIZE(s->all_pending) == 0 ? s->all_data : NULL;
}

static int call(PyObject *function, PyObject *task)
{
    PyObject *res = PyObject_CallOneArg(function, task);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_all_tasks_add(ta_trampoline *tramp)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(tramp->ls->st)->task;
    PyObject *data = data_of(objects);
    if (data == NULL)
        return call(objects->register_task, tramp->task);
    if (tramp->weak == NULL &&
        (tramp->weak = PyWeakref_NewRef(tramp->task, objects->all_forget)) == NULL)
        return -1;
    return PySet_Add(data, tramp->weak);
}

int ta_all_tasks_discard(ta_trampoline *t)
{
    const ta_task_pool_state *s = &ta_loop_objects_of(t->ls->st)->task;
    PyObject *data = data_of(s);
    if (data == NULL || t->weak == NULL)
        return call(s->unregister_task, t->task);
    return PySet_Discard(data, t->weak) < 0 ? -1 : 0;
}

/* -- the set's methods ------------------------------------------------------------------------ */

/* WeakSet's own method. */
static PyObject *call_own(const ta_task_pool_state *objects, const char *name, PyObject *task)
{
    if (objects->all_set == NULL) /* the module is being taken down */
        Py_RETURN_NONE;
    PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(objects->all_set), name);
    PyObject *args[2] = {objects->all_set, task};
    PyObject *res = method ? PyObject_Vectorcall(method, args, 2, NULL) : NULL;
    Py_XDECREF(method);
    return res;
}

static PyObject *set_add(PyObject *module, PyObject *task)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(ta_state_of_module(module))->task;
    PyObject *data = data_of(objects);
    if (data == NULL)
        return call_own(objects, "add", task);
    PyObject *weak = PyWeakref_NewRef(task, objects->all_forget);
    int rc = weak ? PySet_Add(data, weak) : -1;
    Py_XDECREF(weak);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *set_discard(PyObject *module, PyObject *task)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(ta_state_of_module(module))->task;
    PyObject *data = data_of(objects);
    if (data == NULL)
        return call_own(objects, "discard", task);
    PyObject *weak = PyWeakref_NewRef(task, NULL); /* equal to the one in the set */
    int rc = weak ? PySet_Discard(data, weak) : -1;
    Py_XDECREF(weak);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* The callback of a weak reference: its Task is gone. */
static PyObject *forget(PyObject *module, PyObject *weak)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(ta_state_of_module(module))->task;
    if (objects->all_data == NULL)
        Py_RETURN_NONE;
    int rc = PySet_GET_SIZE(objects->all_iterating) > 0 ? PyList_Append(objects->all_pending, weak)
                                                        : PySet_Discard(objects->all_data, weak);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"add", set_add, METH_O, PyDoc_STR("See weakref.WeakSet.")},
    {"discard", set_discard, METH_O, PyDoc_STR("See weakref.WeakSet.")},
    {"_remove", forget, METH_O, NULL},
};
enum { ADD, DISCARD, FORGET };

/* An attribute of the set, unless somebody has one there already.  0, or -1 with an exception. */
static int put_in_place(PyObject *set, PyObject *module, PyMethodDef *def)
{
    PyObject *attributes = PyObject_GenericGetDict(set, NULL);
    int rc = attributes ? PyMapping_HasKeyString(attributes, def->ml_name) : -1;
    if (rc == 0) {
        PyObject *function = PyCFunction_New(def, module);
        rc = function ? PyDict_SetItemString(attributes, def->ml_name, function) : -1;
        Py_XDECREF(function);
    }
    Py_XDECREF(attributes);
    return rc < 0 ? -1 : 0;
}

int ta_all_tasks_speed_up(PyObject *module)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(ta_state_of_module(module))->task;
    if (objects->all_set == NULL)
        return 0;
    return put_in_place(objects->all_set, module, &methods[ADD]) < 0
               ? -1
               : put_in_place(objects->all_set, module, &methods[DISCARD]);
}

/* -- the beginning ---------------------------------------------------------------------------- */

#if !TA_ALL_TASKS_LINKED
/* An attribute of the set when it is there and has that type: new reference.  1, 0 or -1. */
static int take(PyObject *set, const char *name, PyTypeObject *type, PyObject **out)
{
    int rc = PyObject_GetOptionalAttrString(set, name, out);
    if (rc > 0 && !Py_IS_TYPE(*out, type)) {
        Py_CLEAR(*out);
        rc = 0;
    }
    return rc;
}

/* Takes the WeakSet's parts, if it is the known kind.  0, or -1 with an exception. */
static int take_apart(ta_task_pool_state *objects, PyObject *module, PyObject *set)
{
    int data = take(set, "data", &PySet_Type, &objects->all_data);
    int pending = take(set, "_pending_removals", &PyList_Type, &objects->all_pending);
    int iterating = take(set, "_iterating", &PySet_Type, &objects->all_iterating);
    if (data > 0 && pending > 0 && iterating > 0) {
        objects->all_set = Py_NewRef(set);
        objects->all_forget = PyCFunction_New(&methods[FORGET], module);
        return objects->all_forget ? 0 : -1;
    }
    Py_CLEAR(objects->all_data);
    return data < 0 || pending < 0 || iterating < 0 ? -1 : 0;
}
#endif

int ta_all_tasks_init(PyObject *module, ta_state *st)
{
#if TA_ALL_TASKS_LINKED
    (void)module;
    (void)st;
    return 0;
#else
    const char *name = PY_VERSION_HEX >= 0x030C0000 ? "_scheduled_tasks" : "_all_tasks";
    PyObject *set = NULL, *class = ta_types_import("weakref", "WeakSet");
    int rc = class ? ta_types_import_optional("asyncio.tasks", name, &set) : -1;
    if (rc > 0)
        rc = Py_IS_TYPE(set, (PyTypeObject *)class)
                 ? take_apart(&ta_loop_objects_of(st)->task, module, set)
                 : 0;
    Py_XDECREF(set);
    Py_XDECREF(class);
    return rc < 0 ? -1 : 0;
#endif
}
