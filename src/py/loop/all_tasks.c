/*
 * all_tasks.c -- enters pooled Tasks into asyncio's set of all tasks, and takes them out.
 *
 * Layer: py (L4).  Up to Python 3.13 that set is a WeakSet, whose add() and discard() are Python
 * and cost a waiting request more than its wait.  Here a Task of the pool keeps its weak reference
 * and puts it into the set within: what add() would do.  From 3.14 on, and where the set is not as
 * known, asyncio's functions do it.
 */
#include "py/loop/task_pool_int.h"

#include "py/support/types.h"

/* asyncio's WeakSet as add() and discard() see it now: borrowed set, or NULL: ask them. */
static PyObject *data_of(const ta_task_state *s)
{
    /* Removals that were put off while somebody iterates come first. */
    return s->all_data != NULL && PyList_GET_SIZE(s->all_pending) == 0 ? s->all_data : NULL;
}

static int call(PyObject *function, PyObject *task)
{
    PyObject *res = PyObject_CallOneArg(function, task);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_all_tasks_add(ta_tramp *t)
{
    const ta_task_state *s = &ta_loop_objects_of(t->ls->st)->task;
    PyObject *data = data_of(s);
    if (data == NULL)
        return call(s->register_task, t->task);
    if (t->weak == NULL && (t->weak = PyWeakref_NewRef(t->task, s->all_remove)) == NULL)
        return -1;
    return PySet_Add(data, t->weak);
}

int ta_all_tasks_discard(ta_tramp *t)
{
    const ta_task_state *s = &ta_loop_objects_of(t->ls->st)->task;
    PyObject *data = data_of(s);
    if (data == NULL || t->weak == NULL)
        return call(s->unregister_task, t->task);
    return PySet_Discard(data, t->weak) < 0 ? -1 : 0;
}

/* The WeakSet's parts, if it is one as known.  0, or -1 with an exception. */
static int take_apart(ta_task_state *s, PyObject *weak_set)
{
    PyObject *data, *pending = NULL, *remove = NULL;
    if (PyObject_GetOptionalAttrString(weak_set, "data", &data) < 0 ||
        PyObject_GetOptionalAttrString(weak_set, "_pending_removals", &pending) < 0 ||
        PyObject_GetOptionalAttrString(weak_set, "_remove", &remove) < 0) {
        Py_XDECREF(data);
        Py_XDECREF(pending);
        return -1;
    }
    if (data != NULL && PySet_CheckExact(data) && pending != NULL && PyList_CheckExact(pending) &&
        remove != NULL && PyCallable_Check(remove)) {
        s->all_data = data;
        s->all_pending = pending;
        s->all_remove = remove;
        return 0;
    }
    Py_XDECREF(data);
    Py_XDECREF(pending);
    Py_XDECREF(remove);
    return 0;
}

int ta_all_tasks_init(ta_state *st)
{
#if TA_ALL_TASKS_LINKED
    (void)st;
    return 0;
#else
    const char *name = PY_VERSION_HEX >= 0x030C0000 ? "_scheduled_tasks" : "_all_tasks";
    PyObject *weak_set = NULL, *class = ta_import_attr("weakref", "WeakSet");
    int rc = class ? ta_import_optional("asyncio.tasks", name, &weak_set) : -1;
    if (rc > 0)
        rc = Py_IS_TYPE(weak_set, (PyTypeObject *)class)
                 ? take_apart(&ta_loop_objects_of(st)->task, weak_set)
                 : 0;
    Py_XDECREF(weak_set);
    Py_XDECREF(class);
    return rc < 0 ? -1 : 0;
#endif
}
