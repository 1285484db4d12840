/*
 * shape_walk.c -- containers of a shape, and values of type Any.
 *
 * Layer: py/json.
 */
#include "py/json/shape_int.h"

/* jsonable_encoder drops keys with this prefix. */
static bool is_hidden_key(PyObject *key)
{
    return PyUnicode_GET_LENGTH(key) >= 3 && PyUnicode_READ_CHAR(key, 0) == '_' &&
           PyUnicode_READ_CHAR(key, 1) == 's' && PyUnicode_READ_CHAR(key, 2) == 'a';
}

/* A new reference, or NULL when another thread has shortened the list since the check. */
static inline PyObject *list_item(PyObject *list, Py_ssize_t i)
{
#ifdef Py_GIL_DISABLED
    PyObject *item = PyList_GetItemRef(list, i);
    if (item == NULL)
        PyErr_Clear();
    return item;
#else
    return Py_NewRef(PyList_GET_ITEM(list, i));
#endif
}

/* pydantic reads subclasses of list past their own methods, too. */
int ta_shape_list(ta_shape_walk *walk, const ta_shape_node *node, PyObject *list, bool trusted)
{
    /* The items of Any are Any. */
    const ta_shape_node *items = node->kind == K_ANY ? node : node->items;
    if (!PyList_Check(list) ||
        (node != items && !ta_shape_fits(node, PyList_GET_SIZE(list), trusted)))
        return 0;
    if (ta_writer_put(&walk->o, '[') < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i > 0 && ta_writer_put(&walk->o, ',') < 0)
            return -1;
        PyObject *item = list_item(list, i);
        if (TA_UNLIKELY(item == NULL))
            return 0;
        int rc = ta_shape_value(walk, items, item, trusted);
        Py_DECREF(item);
        if (rc != 1)
            return rc;
    }
    return ta_writer_put(&walk->o, ']');
}

int ta_shape_tuple(ta_shape_walk *walk, const ta_shape_node *node, PyObject *tuple, bool trusted)
{
    if (!PyTuple_CheckExact(tuple) || !ta_shape_fits(node, PyTuple_GET_SIZE(tuple), trusted))
        return 0;
    if (ta_writer_put(&walk->o, '[') < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (i > 0 && ta_writer_put(&walk->o, ',') < 0)
            return -1;
        int rc = ta_shape_value(walk, node->items, PyTuple_GET_ITEM(tuple, i), trusted);
        if (rc != 1)
            return rc;
    }
    return ta_writer_put(&walk->o, ']');
}

/* The order of a set depends on how it was made: what is validated is added to a new one. */
static PyObject *made_anew(PyObject *set)
{
    PyObject *copy = PySet_New(NULL), *iter = copy ? PyObject_GetIter(set) : NULL, *item;
    bool added = iter != NULL;
    while (added && (item = PyIter_Next(iter)) != NULL) {
        added = PySet_Add(copy, item) == 0;
        Py_DECREF(item);
    }
    Py_XDECREF(iter);
    if (PyErr_Occurred())
        Py_CLEAR(copy);
    return copy;
}

/* Its items are strings or ints. */
int ta_shape_set(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    if (!Py_IS_TYPE(v, node->kind == K_SET ? &PySet_Type : &PyFrozenSet_Type) ||
        !ta_shape_fits(node, PySet_GET_SIZE(v), trusted))
        return 0;
    PyObject *set = trusted ? Py_NewRef(v) : made_anew(v);
    PyObject *iter = set ? PyObject_GetIter(set) : NULL, *item;
    int rc = iter ? ta_writer_put(&walk->o, '[') : ta_writer_refuse();
    bool first = true;
    while (rc == 1 && (item = PyIter_Next(iter)) != NULL) {
        if (!first)
            rc = ta_writer_put(&walk->o, ',');
        if (rc == 1)
            rc = ta_shape_value(walk, node->items, item, trusted);
        Py_DECREF(item);
        first = false;
    }
    if (rc == 1 && PyErr_Occurred())
        rc = ta_writer_refuse(); /* changed while iterated over */
    Py_XDECREF(iter);
    Py_XDECREF(set);
    return rc == 1 ? ta_writer_put(&walk->o, ']') : rc;
}

static int dict_locked(ta_shape_walk *walk, const ta_shape_node *items, PyObject *dict,
                       bool trusted)
{
    Py_ssize_t pos = 0, size = PyDict_GET_SIZE(dict);
    PyObject *key, *value;
    char before = '{';
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (!PyUnicode_CheckExact(key) || is_hidden_key(key))
            return 0;
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = ta_writer_put(&walk->o, before);
        if (rc == 1)
            rc = ta_writer_str(&walk->o, key);
        if (rc == 1)
            rc = ta_writer_put(&walk->o, ':');
        if (rc == 1)
            rc = ta_shape_value(walk, items, value, trusted);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc != 1)
            return rc;
        if (TA_UNLIKELY(PyDict_GET_SIZE(dict) != size))
            return 0; /* changed under us */
        before = ',';
    }
    if (before == '{' && ta_writer_put(&walk->o, '{') < 0)
        return -1;
    return ta_writer_put(&walk->o, '}');
}

int ta_shape_dict(ta_shape_walk *walk, const ta_shape_node *node, PyObject *dict, bool trusted)
{
    const ta_shape_node *items = node->kind == K_ANY ? node : node->items;
    if (!PyDict_CheckExact(dict) ||
        (node != items && !ta_shape_fits(node, PyDict_GET_SIZE(dict), trusted)))
        return 0;
    int rc;
    Py_BEGIN_CRITICAL_SECTION(dict);
    rc = dict_locked(walk, items, dict, trusted);
    Py_END_CRITICAL_SECTION();
    return rc;
}

/* Writes a value of type Any as pydantic does when it infers the type, where that is plain. */
int ta_shape_any(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    PyTypeObject *type = Py_TYPE(v);
    if (type == &PyUnicode_Type)
        return ta_writer_str(&walk->o, v);
    if (type == &PyLong_Type)
        return ta_shape_int(walk, node, v, trusted);
    if (type == &PyFloat_Type)
        return ta_shape_double(walk, PyFloat_AS_DOUBLE(v));
    if (v == Py_None)
        return ta_shape_put_null(walk);
    if (type == &PyBool_Type)
        return ta_shape_bool(walk, node, v, trusted);
    if ((type != &PyList_Type && type != &PyDict_Type) || walk->depth >= TA_SHAPE_MAX_DEPTH)
        return 0;
    walk->depth++;
    int rc = type == &PyList_Type ? ta_shape_list(walk, node, v, trusted)
                                  : ta_shape_dict(walk, node, v, trusted);
    walk->depth--;
    return rc;
}

/* Single values: the member that has exactly the value's type is the one that pydantic takes. */
int ta_shape_union(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    size_t begun = walk->o.buf->len + (size_t)(walk->o.at - walk->o.from);
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_node *member = node->members[i];
        if (member->kind == K_FLOAT && !PyFloat_CheckExact(v))
            continue; /* no int becomes a float where there may be a member for ints */
        int rc = ta_shape_value(walk, member, v, trusted);
        if (rc != 0)
            return rc;
        TA_ASSERT(begun == walk->o.buf->len + (size_t)(walk->o.at - walk->o.from));
    }
    (void)begun;
    return 0;
}
