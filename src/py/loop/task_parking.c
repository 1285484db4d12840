/*
 * task_parking.c -- the Future that an idle Task of the pool waits for, and how the Task is woken.
 *
 * Layer: py (L4).  Each idle Task waits for a Future of its own that is never done.  Its wake-up
 * callback is taken from there once; to wake the Task, the Future forgets the callback, which is
 * then called with another Future that is done.  All of them are asyncio's own, so that a Task in C
 * reads and writes their fields, where it would look for methods of any other object by name.
 */
#include "py/loop/task_pool_int.h"

#include "py/support/exc.h"
#include "py/support/types.h"

static PyObject *new_future(const ta_loop_state *ls)
{
    const ta_evloop_state *objects = &ta_loop_objects_of(ls->st)->evloop;
    PyObject *args[2] = {NULL, ls->aioloop};
    return PyObject_Vectorcall(objects->future_type, args + 1, PY_VECTORCALL_ARGUMENTS_OFFSET,
                               objects->loop_kwname);
}

PyObject *ta_task_parking_new(ta_loop_state *ls)
{
    if (ls->woken == NULL) {
        PyObject *woken = new_future(ls);
        PyObject *res = woken ? PyObject_CallMethod(woken, "set_result", "O", Py_None) : NULL;
        Py_XDECREF(res);
        if (res == NULL) {
            Py_XDECREF(woken);
            return NULL;
        }
        ls->woken = woken;
    }
    PyObject *park = new_future(ls);
    if (park != NULL)
        PyObject_GC_UnTrack(park); /* the loop visits what it refers to: task_pool.c */
    return park;
}

int ta_task_parking_begin(ta_trampoline *tramp)
{
    PyObject *blocking = ta_loop_objects_of(tramp->ls->st)->task.future_blocking;
    if (TA_LIKELY(Py_IS_TYPE(blocking, &PyGetSetDescr_Type))) {
        const PyGetSetDef *def = ((PyGetSetDescrObject *)blocking)->d_getset;
        return def->set(tramp->park, Py_True, def->closure);
    }
    return PyObject_SetAttrString(tramp->park, "_asyncio_future_blocking", Py_True);
}

bool ta_task_parking_holds(const ta_trampoline *tramp)
{
    PyObject *done =
        ta_task_reuse_ask(ta_loop_objects_of(tramp->ls->st)->task.future_done, tramp->park);
    if (done == NULL)
        PyErr_Clear();
    Py_XDECREF(done);
    return done == Py_False; /* borrowed from the interpreter */
}

/* The callback of the Task that waits for the park, from its list of (callback, context). */
static PyObject *find_callback(PyObject *park)
{
    PyObject *list = PyObject_GetAttrString(park, "_callbacks"), *first = NULL, *callback = NULL;
    if (list != NULL && !Py_IsNone(list) && (first = PySequence_GetItem(list, 0)) != NULL)
        callback = PySequence_GetItem(first, 0);
    Py_XDECREF(first);
    Py_XDECREF(list);
    if (callback == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "nobody waits for the park");
    return callback;
}

PyObject *ta_task_parking_end(ta_trampoline *tramp)
{
    if (TA_UNLIKELY(tramp->wake_up == NULL) &&
        (tramp->wake_up = find_callback(tramp->park)) == NULL)
        return NULL;
    PyObject *args[2] = {tramp->park, tramp->wake_up};
    PyObject *res = PyObject_Vectorcall(
        ta_loop_objects_of(tramp->ls->st)->task.future_remove_callback, args, 2, NULL);
    if (res == NULL)
        return NULL;
    Py_DECREF(res);
    return Py_NewRef(tramp->wake_up);
}

void ta_task_parking_forget(ta_trampoline *tramp)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (tramp->wake_up == NULL && tramp->state == T_PARKED)
        tramp->wake_up = find_callback(tramp->park);
    if (tramp->wake_up != NULL) {
        PyObject *res =
            PyObject_CallMethod(tramp->park, "remove_done_callback", "O", tramp->wake_up);
        Py_XDECREF(res);
    }
    PyErr_Clear();
    Py_CLEAR(tramp->wake_up);
    ta_exc_restore(exc);
}

void ta_task_parking_drop(ta_trampoline *tramp)
{
    PyObject *park = tramp->park;
    if (park != NULL && Py_REFCNT(park) > 1 && !PyObject_GC_IsTracked(park))
        PyObject_GC_Track(park);
    Py_CLEAR(tramp->park);
}

int ta_task_parking_init(ta_state *st)
{
    ta_task_pool_state *objects = &ta_loop_objects_of(st)->task;
    const struct {
        PyObject **place;
        const char *name;
    } wanted[] = {
        {&objects->future_blocking, "_asyncio_future_blocking"},
        {&objects->future_done, "done"},
        {&objects->future_remove_callback, "remove_done_callback"},
    };
    PyObject *type = ta_types_import("asyncio", "Future");
    int rc = type ? 0 : -1;
    for (size_t i = 0; i < TA_COUNTOF(wanted) && rc == 0; i++) {
        *wanted[i].place = PyObject_GetAttrString(type, wanted[i].name);
        rc = *wanted[i].place ? 0 : -1;
    }
    Py_XDECREF(type);
    return rc;
}
