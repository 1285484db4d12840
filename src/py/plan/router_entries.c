/*
 * router_entries.c -- what a Router is made from: its entries, read into the tree.
 *
 * Layer: py/plan.
 */
#include "py/plan/router_int.h"

int ta_router_text(PyObject *obj, const char *what, ta_str *out)
{
    if (!PyUnicode_Check(obj)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", what, Py_TYPE(obj)->tp_name);
        return -1;
    }
    Py_ssize_t len;
    const char *ptr = PyUnicode_AsUTF8AndSize(obj, &len);
    if (ptr == NULL)
        return -1;
    *out = ta_str_of(ptr, (size_t)len);
    return 0;
}

static int parse_kind(PyObject *obj, ta_route_kind *out, bool *host)
{
    static const char *const names[] = {"route", "mount", "any", "host"};
    ta_str text;
    if (ta_router_text(obj, "kind", &text) < 0)
        return -1;
    for (size_t i = 0; i < TA_COUNTOF(names); i++) {
        if (ta_str_eq(text, ta_str_of(names[i], strlen(names[i])))) {
            *host = i == 3;
            *out = *host ? TA_ROUTE_ANY : (ta_route_kind)i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "unknown kind of route entry: %R", obj);
    return -1;
}

/* What the tree answers to an entry, as an exception. */
static int tree_error(int rc, PyObject *path)
{
    if (rc == TA_OK)
        return 0;
    if (rc == TA_EINVAL)
        PyErr_Format(PyExc_ValueError, "Duplicated param name at path %U", path);
    else
        PyErr_NoMemory();
    return -1;
}

/* `methods`: None, or an iterable of str; empty or None: every method. */
static int add_to_tree(ta_route_tree *tree, ta_route_kind kind, PyObject *path, PyObject *methods)
{
    ta_str path_text = {"", 0};
    if (ta_router_text(path, "path", &path_text) < 0)
        return -1;
    if (methods == Py_None)
        return tree_error(ta_route_tree_add(tree, kind, path_text, NULL, 0), path);

    PyObject *items = PySequence_List(methods); /* the slices below borrow from its items */
    if (items == NULL)
        return -1;
    int rc = -1;
    Py_ssize_t n = PyList_GET_SIZE(items);
    ta_str *slices = PyMem_New(ta_str, n ? n : 1);
    if (slices == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (ta_router_text(PyList_GET_ITEM(items, i), "method", &slices[i]) < 0)
            goto done;
    rc = tree_error(ta_route_tree_add(tree, kind, path_text, slices, (size_t)n), path);
done:
    PyMem_Free(slices);
    Py_DECREF(items);
    return rc;
}

/* The names of an entry's parameters, interned. */
static PyObject *param_names(const ta_route_tree *tree, uint32_t index)
{
    uint32_t n;
    const ta_route_param *params = ta_route_tree_params(tree, index, &n);
    PyObject *names = PyTuple_New((Py_ssize_t)n);
    if (names == NULL)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        PyObject *name = ta_router_str(params[i].name);
        if (name == NULL) {
            Py_DECREF(names);
            return NULL;
        }
        PyUnicode_InternInPlace(&name);
        PyTuple_SET_ITEM(names, (Py_ssize_t)i, name);
    }
    return names;
}

/*
 * The sixth member of an entry.  Of a host: its name in lower case, as bytes, or a callable that
 * matches a str; of a route: the value of `Allow`, as bytes.  0, or -1 with an exception.
 */
static int read_extra(PyObject *item, bool host, PyObject **out)
{
    PyObject *extra = PyTuple_GET_SIZE(item) > 5 ? PyTuple_GET_ITEM(item, 5) : Py_None;
    *out = NULL;
    if (Py_IsNone(extra))
        return 0;
    if (!PyBytes_CheckExact(extra) && !(host && PyCallable_Check(extra))) {
        PyErr_Format(PyExc_TypeError, "extra must be bytes%s, not %.100s",
                     host ? " or callable" : "", Py_TYPE(extra)->tp_name);
        return -1;
    }
    *out = Py_NewRef(extra);
    return 0;
}

int ta_router_add(ta_router *self, PyObject *item)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) < 5 || PyTuple_GET_SIZE(item) > 6) {
        PyErr_SetString(
            PyExc_TypeError,
            "an entry must be a tuple (kind, path, methods, target, scope_items[, extra])");
        return -1;
    }
    PyObject *target = PyTuple_GET_ITEM(item, 3);
    PyObject *scope_items = PyTuple_GET_ITEM(item, 4);
    if (scope_items != Py_None && !PyDict_Check(scope_items)) {
        PyErr_SetString(PyExc_TypeError, "scope_items must be a dict or None");
        return -1;
    }
    ta_route_kind kind;
    bool host;
    PyObject *extra, *path = PyTuple_GET_ITEM(item, 1);
    if (parse_kind(PyTuple_GET_ITEM(item, 0), &kind, &host) < 0)
        return -1;
    /* A host's pattern says nothing of paths. */
    if (add_to_tree(self->tree, kind, host ? self->no_path : path, PyTuple_GET_ITEM(item, 2)) < 0 ||
        read_extra(item, host, &extra) < 0)
        return -1;
    PyObject *names = param_names(self->tree, (uint32_t)self->count);
    if (names == NULL) {
        Py_XDECREF(extra);
        return -1;
    }
    self->entries[self->count++] = (ta_router_entry){
        .path = Py_NewRef(path),
        .target = Py_NewRef(target),
        .scope_items = scope_items == Py_None ? NULL : Py_NewRef(scope_items),
        .names = names,
        .extra = extra,
        .host = host,
    };
    return 0;
}
