/* guards.c -- what must not have been replaced for a fast path to be right.  See guards.h. */
#include "py/support/guards.h"

#include "base/mem.h"

/* CPython tells of the changes of dicts since 3.12.  Without a GIL another thread could look
 * between that and the change itself. */
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
#define TA_GUARDS_WATCH 1
#else
#define TA_GUARDS_WATCH 0
#endif

typedef struct guard {
    PyObject *space, *name, *object; /* owned */
} guard;

#if TA_GUARDS_WATCH
/* One for each interpreter. */
typedef struct watch {
    uint64_t changes; /* of all namespaces of guards, counted from 1 on */
    int id;           /* of its watcher */
} watch;
#endif

struct ta_guards {
    size_t n;
#if TA_GUARDS_WATCH
    watch *watch;     /* owned by `keeper`; NULL: nobody tells us of changes */
    PyObject *keeper; /* owned */
    size_t nsearched; /* the first ones: nobody tells of changes of their namespaces */
    uint64_t held;    /* as of that number of changes all others were there */
#endif
    guard items[];
};

#if TA_GUARDS_WATCH

/* -- telling of changes ----------------------------------------------------------------------- */

/* Where an interpreter keeps its watch; a callback has nothing else to go by. */
static const char KEY[] = "turboapi._core.guards";

/* Borrowed; NULL: there is none, or an exception, which is ignored. */
static PyObject *keeper_of_interpreter(PyObject *kept)
{
    PyObject *keeper = kept ? PyDict_GetItemString(kept, KEY) : NULL;
    return keeper != NULL && PyCapsule_IsValid(keeper, KEY) ? keeper : NULL;
}

/* Called before each change of a dict that is watched. */
static int on_change(PyDict_WatchEvent event, PyObject *Py_UNUSED(dict), PyObject *Py_UNUSED(key),
                     PyObject *Py_UNUSED(value))
{
    if (event == PyDict_EVENT_DEALLOCATED) /* of no guard's any more; also while all is torn down */
        return 0;
    PyObject *keeper = keeper_of_interpreter(PyInterpreterState_GetDict(PyInterpreterState_Get()));
    if (keeper != NULL)
        ((watch *)PyCapsule_GetPointer(keeper, KEY))->changes++;
    return 0;
}

static void free_watch(PyObject *keeper)
{
    ta_free(PyCapsule_GetPointer(keeper, KEY));
}

/* The watch of this interpreter, made at first: a new reference to its capsule.  NULL without an
 * exception: no watcher can be had. */
static PyObject *get_keeper(void)
{
    PyObject *kept = PyInterpreterState_GetDict(PyInterpreterState_Get());
    PyObject *keeper = keeper_of_interpreter(kept);
    if (keeper != NULL || kept == NULL)
        return Py_XNewRef(keeper);
    int id = PyDict_AddWatcher(on_change);
    watch *made = id >= 0 ? ta_calloc(1, sizeof *made) : NULL;
    if (made != NULL) {
        made->id = id;
        made->changes = 1;
        keeper = PyCapsule_New(made, KEY, free_watch);
        if (keeper == NULL)
            ta_free(made);
        else if (PyDict_SetItemString(kept, KEY, keeper) < 0)
            Py_CLEAR(keeper);
    }
    if (keeper == NULL && id >= 0 && PyDict_ClearWatcher(id) < 0) {
        /* it remains, and tells nobody */
    }
    PyErr_Clear();
    return keeper;
}

/*
 * Returns whether CPython will tell of all changes of a namespace.  It does not tell of an
 * attribute that is set in the values which an object shares with its dict (3.13).
 */
static bool is_told(const watch *told, PyObject *space)
{
    return ((PyDictObject *)space)->ma_values == NULL && PyDict_Watch(told->id, space) == 0;
}

/* Asks to be told of changes of the namespaces, and puts those first that are to be searched. */
static void watch_all(ta_guards *guards)
{
    guards->nsearched = guards->n;
    if (guards->n == 0 || (guards->keeper = get_keeper()) == NULL)
        return;
    guards->watch = PyCapsule_GetPointer(guards->keeper, KEY);
    guards->nsearched = 0;
    for (size_t i = 0; i < guards->n; i++) {
        guard item = guards->items[i];
        /* It stays watched: other guards may be about it. */
        if (guards->watch != NULL && is_told(guards->watch, item.space))
            continue;
        guards->items[i] = guards->items[guards->nsearched];
        guards->items[guards->nsearched++] = item;
    }
    PyErr_Clear();
}

#endif

ta_guards *ta_guards_new(PyObject *spec)
{
    size_t n = (size_t)PyTuple_GET_SIZE(spec);
    ta_guards *guards = ta_calloc(1, sizeof *guards + n * sizeof *guards->items);
    if (guards == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (; guards->n < n; guards->n++) {
        PyObject *space, *name, *object;
        PyObject *item = PyTuple_GET_ITEM(spec, (Py_ssize_t)guards->n);
        if (!PyTuple_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "guards: tuples expected");
            goto error;
        }
        if (!PyArg_ParseTuple(item, "O!UO:guard", &PyDict_Type, &space, &name, &object))
            goto error;
        guards->items[guards->n] = (guard){Py_NewRef(space), Py_NewRef(name), Py_NewRef(object)};
    }
#if TA_GUARDS_WATCH
    watch_all(guards);
#endif
    return guards;
error:
    ta_guards_free(guards);
    return NULL;
}

void ta_guards_free(ta_guards *guards)
{
    if (guards == NULL)
        return;
    for (size_t i = 0; i < guards->n; i++) {
        Py_DECREF(guards->items[i].space);
        Py_DECREF(guards->items[i].name);
        Py_DECREF(guards->items[i].object);
    }
#if TA_GUARDS_WATCH
    Py_XDECREF(guards->keeper);
#endif
    ta_free(guards);
}

int ta_guards_traverse(const ta_guards *guards, visitproc visit, void *arg)
{
    for (size_t i = 0; guards != NULL && i < guards->n; i++) {
        Py_VISIT(guards->items[i].space);
        Py_VISIT(guards->items[i].name);
        Py_VISIT(guards->items[i].object);
    }
    return 0;
}

static bool are_there(const guard *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PyObject *found = NULL;
        if (PyDict_GetItemRef(items[i].space, items[i].name, &found) < 0)
            PyErr_Clear();
        Py_XDECREF(found); /* compared only */
        if (found != items[i].object)
            return false;
    }
    return true;
}

bool ta_guards_hold(ta_guards *guards)
{
    if (guards == NULL)
        return true;
#if TA_GUARDS_WATCH
    uint64_t changes = guards->watch ? guards->watch->changes : 0;
    if (TA_LIKELY(changes == guards->held))
        return are_there(guards->items, guards->nsearched);
    if (!are_there(guards->items, guards->n))
        return false;
    guards->held = changes;
    return true;
#else
    return are_there(guards->items, guards->n);
#endif
}
