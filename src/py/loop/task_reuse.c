/*
 * task_reuse.c -- is a Task of the pool, after its coroutine, as it was before?
 *
 * Layer: py/loop.
 */
#include "py/loop/task_pool_int.h"

#include "py/support/types.h"

/* Returns the head of its list of weak references. */
static PyWeakReference *weakrefs(PyObject *task)
{
    PyObject **list = PyObject_GET_WEAKREFS_LISTPTR(task);
    return list ? (PyWeakReference *)*list : NULL;
}

bool ta_task_reuse_allowed(ta_state *st)
{
    return ta_loop_objects_of(st)->task.unregister_task != NULL;
}

int ta_task_reuse_register(ta_trampoline *tramp, bool yes)
{
    if (tramp->registered == yes)
        return 0;
    int rc = yes ? ta_all_tasks_add(tramp) : ta_all_tasks_discard(tramp);
    if (rc == 0)
        tramp->registered = yes;
    return rc;
}

/* Returns whether the Task has no weak reference but its own. */
static bool only_own_weakref(const ta_trampoline *t)
{
    PyWeakReference *head = weakrefs(t->task);
    return head == NULL || ((PyObject *)head == t->weak && head->wr_next == NULL);
}

/*
 * asyncio's Task is C: what its attributes and methods without arguments are is asked directly,
 * after every request.  New reference, or NULL with an exception.
 */
static PyObject *get(PyObject *descr, PyObject *task)
{
    if (TA_LIKELY(Py_IS_TYPE(descr, &PyGetSetDescr_Type))) {
        const PyGetSetDef *def = ((PyGetSetDescrObject *)descr)->d_getset;
        return def->get(task, def->closure);
    }
    return Py_TYPE(descr)->tp_descr_get(descr, task, (PyObject *)Py_TYPE(task));
}

PyObject *ta_task_reuse_ask(PyObject *method, PyObject *object)
{
    if (TA_LIKELY(Py_IS_TYPE(method, &PyMethodDescr_Type))) {
        const PyMethodDef *def = ((PyMethodDescrObject *)method)->d_method;
        if (def->ml_flags == METH_NOARGS)
            return def->ml_meth(object, NULL);
    }
    return PyObject_Vectorcall(method, &object, 1, NULL);
}

/* Is `value` (steals; NULL: an exception is set, and cleared) the very object? */
static bool is(PyObject *value, PyObject *expected)
{
    if (value == NULL)
        PyErr_Clear();
    Py_XDECREF(value);
    return value != NULL && value == expected;
}

/* Was it never cancelled, or was all of that taken back? */
static bool is_uncancelled(ta_trampoline *tramp)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(tramp->ls->st)->task;
    if (!is(get(objects->must_cancel, tramp->task), Py_False))
        return false;
    if (!tramp->waited) /* a cancellation is delivered only where it waits */
        return true;
    PyObject *n = ta_task_reuse_ask(objects->cancelling, tramp->task);
    long count = n ? PyLong_AsLong(n) : -1;
    Py_XDECREF(n);
    PyErr_Clear();
    return count == 0;
}

/*
 * Returns whether nobody could tell this Task from a new one: there is no reference to it but ours,
 * strong or weak (a registry of per-task data, anyio's scopes), and no attribute, callback, other
 * name or cancellation.
 */
bool ta_task_reuse_is_clean(ta_trampoline *tramp)
{
    const ta_task_pool_state *objects = &ta_loop_objects_of(tramp->ls->st)->task;
    PyObject *task = tramp->task;
    Py_ssize_t refs = tramp->refs;
    if (refs < 0 && tramp->waited)
        refs = tramp->ls->task_refs; /* in a later step they are those of any Task */
    if (tramp->waited && tramp->wake_up != NULL)
        refs++; /* it was woken by another callback than ours */
    if (Py_REFCNT(task) != refs)
        return false;
    PyObject **dict = _PyObject_GetDictPtr(task);
    if (dict != NULL && *dict != NULL && PyDict_GET_SIZE(*dict) != 0)
        return false;
    if (!is(get(objects->callbacks, task), Py_None) ||
        !is(ta_task_reuse_ask(objects->get_name, task), tramp->name))
        return false;
    if (!is_uncancelled(tramp))
        return false;
    if (tramp->waited && ta_task_reuse_register(tramp, false) < 0) {
        PyErr_Clear();
        return false;
    }
    return only_own_weakref(tramp);
}

bool ta_task_pool_is_marked(ta_loop_state *ls)
{
    ta_trampoline *tramp = ls->current;
    if (ls->direct)
        return false; /* no Task at all */
    if (tramp == NULL || tramp->task == NULL)
        return true; /* some other Task, of which we know nothing */
    if (only_own_weakref(tramp))
        return false;
    if (tramp->weak != NULL)
        return true;
    PyWeakReference *head = weakrefs(tramp->task); /* asyncio's set may have made one */
    return head->wr_next != NULL || !tramp->registered || TA_ALL_TASKS_LINKED;
}

int ta_task_reuse_init(ta_task_pool_state *objects)
{
    int rc[4];
    if ((rc[0] = ta_types_import_optional("asyncio.tasks", "_register_task",
                                          &objects->register_task)) < 0 ||
        (rc[1] = ta_types_import_optional("asyncio.tasks", "_unregister_task",
                                          &objects->unregister_task)) < 0 ||
        (rc[2] = PyObject_GetOptionalAttrString(objects->task_class, "_callbacks",
                                                &objects->callbacks)) < 0 ||
        (rc[3] = PyObject_GetOptionalAttrString(objects->task_class, "_must_cancel",
                                                &objects->must_cancel)) < 0)
        return -1;
    /* A Task written in Python has the latter two as attributes of the instance. */
    if (!(rc[0] && rc[1] && rc[2] && rc[3]) || Py_TYPE(objects->callbacks)->tp_descr_get == NULL ||
        Py_TYPE(objects->must_cancel)->tp_descr_get == NULL)
        Py_CLEAR(objects->unregister_task);
    return 0;
}
