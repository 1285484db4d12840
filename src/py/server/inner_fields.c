/*
 * inner_fields.c -- header fields as ASGI's messages have them, for the middleware that C stands in
 * for inside of other middleware.
 *
 * Layer: py (L4).  All as Starlette's Headers and MutableHeaders do it.
 */
#include "py/server/inner_filter_int.h"

/* A pair of bytes (borrowed): false for any other object. */
static bool is_pair(PyObject *obj)
{
    return PyTuple_CheckExact(obj) && PyTuple_GET_SIZE(obj) == 2 &&
           PyBytes_CheckExact(PyTuple_GET_ITEM(obj, 0)) &&
           PyBytes_CheckExact(PyTuple_GET_ITEM(obj, 1));
}

static bool is_named(PyObject *pair, ta_str name)
{
    return ta_str_eq(ta_filters_str(PyTuple_GET_ITEM(pair, 0)), name);
}

int ta_inner_fields_find(PyObject *headers, ta_str name, PyObject **value)
{
    if (!PyList_CheckExact(headers))
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *pair = PyList_GetItemRef(headers, i);
        bool odd = pair == NULL || !is_pair(pair);
        bool found = !odd && is_named(pair, name);
        if (found)
            *value = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
        Py_XDECREF(pair);
        if (odd) {
            PyErr_Clear();
            return -1;
        }
        if (found)
            return 1;
    }
    return 0;
}

PyObject *ta_inner_fields_copy(PyObject *headers)
{
    PyObject *list = NULL;
    if (PyList_CheckExact(headers) || PyTuple_CheckExact(headers))
        list = PySequence_List(headers);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++)
        if (!is_pair(PyList_GET_ITEM(list, i)))
            Py_CLEAR(list);
    return list;
}

/* Deletes the fields of that name, from that index on. */
static int remove_from(PyObject *list, ta_str name, Py_ssize_t from)
{
    for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= from; i--)
        if (is_named(PyList_GET_ITEM(list, i), name) && PySequence_DelItem(list, i) < 0)
            return -1;
    return 0;
}

int ta_inner_fields_remove(PyObject *list, ta_str name)
{
    return remove_from(list, name, 0);
}

int ta_inner_fields_put(PyObject *list, PyObject *pair)
{
    Py_ssize_t at = 0, n = PyList_GET_SIZE(list);
    int rc = -1;
    if (pair == NULL)
        return -1;
    ta_str name = ta_filters_str(PyTuple_GET_ITEM(pair, 0));
    while (at < n && !is_named(PyList_GET_ITEM(list, at), name))
        at++;
    if (at == n)
        rc = PyList_Append(list, pair);
    else if ((rc = remove_from(list, name, at + 1)) == 0)
        rc = PyList_SetItem(list, at, Py_NewRef(pair)); /* steals */
    Py_DECREF(pair);
    return rc;
}

int ta_inner_fields_set(PyObject *list, ta_str name, ta_str value)
{
    PyObject *pair = PyTuple_New(2), *key, *text;
    if (pair == NULL)
        return -1;
    key = PyBytes_FromStringAndSize(name.ptr, (Py_ssize_t)name.len);
    text = PyBytes_FromStringAndSize(value.ptr, (Py_ssize_t)value.len);
    PyTuple_SET_ITEM(pair, 0, key);
    PyTuple_SET_ITEM(pair, 1, text);
    if (key == NULL || text == NULL)
        Py_CLEAR(pair);
    return ta_inner_fields_put(list, pair);
}

int ta_inner_fields_add_vary(PyObject *list, ta_str what)
{
    ta_buf all;
    ta_buf_init(&all);
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *pair = PyList_GET_ITEM(list, i);
        if (is_named(pair, TA_STR("vary"))) {
            rc |= ta_buf_append_str(&all, ta_filters_str(PyTuple_GET_ITEM(pair, 1)));
            rc |= ta_buf_append(&all, ", ", 2);
        }
    }
    rc |= ta_buf_append_str(&all, what);
    rc = rc ? ta_filters_no_memory() : ta_inner_fields_set(list, TA_STR("vary"), ta_buf_str(&all));
    ta_buf_free(&all);
    return rc;
}
