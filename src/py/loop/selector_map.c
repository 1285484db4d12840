/*
 * selector_map.c -- file objects and their keys, and the mapping that get_map() returns.
 *
 * Layer: py (L4).
 */
#include "py/loop/selector_int.h"

#include "py/support/types.h"

typedef struct ta_selector_map {
    PyObject_HEAD
    PyObject *keys; /* owned: the Selector's */
} ta_selector_map;

/* -- file objects and keys -------------------------------------------------------------------- */

static int fileobj_to_fd(PyObject *fileobj)
{
    long fd = -1;
    if (PyLong_Check(fileobj)) {
        fd = PyLong_AsLong(fileobj);
    } else {
        PyObject *res = PyObject_CallMethod(fileobj, "fileno", NULL);
        PyObject *num = res ? PyNumber_Long(res) : NULL;
        Py_XDECREF(res);
        if (num != NULL) {
            fd = PyLong_AsLong(num);
            Py_DECREF(num);
        } else if (PyErr_ExceptionMatches(PyExc_AttributeError) ||
                   PyErr_ExceptionMatches(PyExc_TypeError) ||
                   PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
        }
    }
    if (fd == -1 && PyErr_Occurred())
        return -1;
    if (fd < 0 || fd > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
        return -1;
    }
    return (int)fd;
}

/* A closed socket has no fileno any more: search for the key that has this object. */
int ta_selector_lookup(PyObject *keys, PyObject *fileobj, PyObject *name_fileobj)
{
    int fd = fileobj_to_fd(fileobj);
    if (fd >= 0 || !PyErr_ExceptionMatches(PyExc_ValueError))
        return fd;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *items = PyDict_Items(keys);
    if (items == NULL)
        goto done;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *obj = PyObject_GetAttr(PyTuple_GET_ITEM(pair, 1), name_fileobj);
        if (obj == NULL)
            goto done;
        Py_DECREF(obj);
        if (obj == fileobj) {
            fd = (int)PyLong_AsLong(PyTuple_GET_ITEM(pair, 0));
            Py_CLEAR(exc);
            break;
        }
    }
done:
    Py_XDECREF(items);
    if (exc != NULL && PyErr_Occurred())
        Py_CLEAR(exc);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return fd;
}

/* The key of fileobj: 1 and a new reference, 0: none, -1: exception. */
int ta_selector_find_key(PyObject *keys, PyObject *fileobj, PyObject *name_fileobj, PyObject **key)
{
    *key = NULL;
    int fd = ta_selector_lookup(keys, fileobj, name_fileobj);
    if (fd < 0)
        return -1;
    PyObject *num = PyLong_FromLong(fd);
    if (num == NULL)
        return -1;
    int rc = PyDict_GetItemRef(keys, num, key);
    Py_DECREF(num);
    return rc;
}

PyObject *ta_selector_key_error(const char *format, PyObject *fileobj)
{
    PyObject *text = PyUnicode_FromFormat(format, fileobj);
    if (text != NULL) {
        PyErr_SetObject(PyExc_KeyError, text);
        Py_DECREF(text);
    }
    return NULL;
}

/* -- the mapping ------------------------------------------------------------------------------ */

static PyObject *map_keys(PyObject *self)
{
    return ((ta_selector_map *)self)->keys;
}

static Py_ssize_t map_length(PyObject *self)
{
    return PyDict_Size(map_keys(self));
}

static int map_find(PyObject *self, PyObject *fileobj, PyObject **key)
{
    ta_state *st = ta_state_of(Py_TYPE(self));
    return ta_selector_find_key(map_keys(self), fileobj, st->names.fileobj, key);
}

static PyObject *map_subscript(PyObject *self, PyObject *fileobj)
{
    PyObject *key;
    int rc = map_find(self, fileobj, &key);
    if (rc == 0)
        ta_selector_key_error("%R is not registered", fileobj);
    return key;
}

static PyObject *map_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *key;
    if (nargs < 1 || nargs > 2) {
        PyErr_SetString(PyExc_TypeError, "get(fileobj, default=None)");
        return NULL;
    }
    int rc = map_find(self, args[0], &key);
    if (rc == 0)
        return Py_NewRef(nargs == 2 ? args[1] : Py_None);
    return key;
}

static int map_contains(PyObject *self, PyObject *fileobj)
{
    PyObject *key;
    int rc = map_find(self, fileobj, &key);
    Py_XDECREF(key);
    return rc;
}

static PyObject *map_iter(PyObject *self)
{
    return PyObject_GetIter(map_keys(self));
}

/* keys, values, items: of a read-only view of the dict. */
static PyObject *map_view(PyObject *self, const char *what)
{
    return PyObject_CallMethod(map_keys(self), what, NULL);
}

static PyObject *map_view_keys(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return map_view(self, "keys");
}

static PyObject *map_view_values(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return map_view(self, "values");
}

static PyObject *map_view_items(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return map_view(self, "items");
}

static int map_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(map_keys(self));
    return 0;
}

static int map_clear(PyObject *self)
{
    Py_CLEAR(((ta_selector_map *)self)->keys);
    return 0;
}

static void map_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)map_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef map_methods[] = {
    {"get", (PyCFunction)(void (*)(void))map_get, METH_FASTCALL, NULL},
    {"keys", map_view_keys, METH_NOARGS, NULL},
    {"values", map_view_values, METH_NOARGS, NULL},
    {"items", map_view_items, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot map_slots[] = {
    {Py_tp_doc, "Mapping of file objects to selector keys."},
    {Py_tp_methods, map_methods},
    {Py_mp_length, map_length},
    {Py_mp_subscript, map_subscript},
    {Py_sq_contains, map_contains},
    {Py_tp_iter, map_iter},
    {Py_tp_traverse, map_traverse},
    {Py_tp_clear, map_clear},
    {Py_tp_dealloc, map_dealloc},
    {0, NULL},
};

static PyType_Spec map_spec = {
    .name = "turboapi._core.SelectorMap",
    .basicsize = sizeof(ta_selector_map),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = map_slots,
};

PyObject *ta_selector_map_new(ta_state *st, PyObject *keys)
{
    PyTypeObject *type = ta_loop_objects_of(st)->selector.map_type;
    ta_selector_map *map = (ta_selector_map *)type->tp_alloc(type, 0);
    if (map != NULL)
        map->keys = Py_NewRef(keys);
    return (PyObject *)map;
}

int ta_selector_map_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &map_spec, NULL, &ta_loop_objects_of(st)->selector.map_type);
}
