/*
 * shape_read.c -- makes the nodes of a shape from the spec that Python gives.
 *
 * Layer: py/json.
 *
 * The spec of a node, as _compile/shape.py gives it, is a tuple (kind, checks, ...):
 *
 *     ("str" | "int" | "float" | "bool" | "none" | "any" | "uuid" | "date" | "time" | "datetime" |
 *      "decimal" | "timedelta", checks)
 *     ("nullable", checks, node)
 *     ("list" | "tuple" | "set" | "frozenset" | "dict", checks, node of the items)
 *     ("union", checks, (node, ...))                            of different single values
 *     ("choice", checks, ((object, raw, JSON bytes), ...))      the members of an enum or
 *                                                                 of a Literal
 *     ("model" | "dataclass", checks, class, from_dict, ((name, key, node, text, default), ...))
 *
 * `checks`: False when the type is all that pydantic's validator looks at; (low, high) when "int"
 * and "float" must be in this range, and the lengths of "str" and containers; True when it
 * does more, so that only a trusted value is encoded.  `raw` is what a validator makes the object
 * of, besides the object itself, or None.  `from_dict`: a dict or the attributes of another object
 * become an instance without running code of the class.  Of a field, `name` is the attribute and
 * `key` where a dict has it, or the two places where it may be (None: only pydantic knows); `text`
 * is `"name":` as it is written, None for a field that is left out of dumps; `default` is the JSON
 * of what a dict without it gets, None when pydantic must decide.
 */
#include "py/json/shape_int.h"

static const char *const kind_names[] = {
    [K_STR] = "str",
    [K_INT] = "int",
    [K_FLOAT] = "float",
    [K_BOOL] = "bool",
    [K_NONE] = "none",
    [K_ANY] = "any",
    [K_UUID] = "uuid",
    [K_DATE] = "date",
    [K_TIME] = "time",
    [K_DATETIME] = "datetime",
    [K_DECIMAL] = "decimal",
    [K_TIMEDELTA] = "timedelta",
    [K_LIST] = "list",
    [K_TUPLE] = "tuple",
    [K_SET] = "set",
    [K_FROZENSET] = "frozenset",
    [K_DICT] = "dict",
    [K_UNION] = "union",
    [K_CHOICE] = "choice",
    [K_MODEL] = "model",
    [K_DATACLASS] = "dataclass",
    [K_NULLABLE] = "nullable",
};

static ta_shape_writer *const writers[] = {
    [K_STR] = ta_shape_str,
    [K_INT] = ta_shape_int,
    [K_FLOAT] = ta_shape_float,
    [K_BOOL] = ta_shape_bool,
    [K_NONE] = ta_shape_none,
    [K_ANY] = ta_shape_any,
    [K_UUID] = ta_shape_uuid,
    [K_DATE] = ta_shape_moment,
    [K_TIME] = ta_shape_moment,
    [K_DATETIME] = ta_shape_moment,
    [K_DECIMAL] = ta_shape_decimal,
    [K_TIMEDELTA] = ta_shape_timedelta,
    [K_LIST] = ta_shape_list,
    [K_TUPLE] = ta_shape_tuple,
    [K_SET] = ta_shape_set,
    [K_FROZENSET] = ta_shape_set,
    [K_DICT] = ta_shape_dict,
    [K_UNION] = ta_shape_union,
    [K_CHOICE] = ta_shape_choose,
    [K_MODEL] = ta_shape_model,
    [K_DATACLASS] = ta_shape_dataclass,
};

void ta_shape_node_free(ta_shape_node *node)
{
    if (node == NULL)
        return;
    if (ta_shape_has_items(node))
        ta_shape_node_free(node->items);
    for (Py_ssize_t i = 0; ta_shape_has_fields(node) && i < node->n; i++) {
        Py_XDECREF(node->fields[i].name);
        Py_XDECREF(node->fields[i].key);
        Py_XDECREF(node->fields[i].second);
        PyMem_Free(node->fields[i].text);
        PyMem_Free(node->fields[i].dflt);
        ta_shape_node_free(node->fields[i].type);
    }
    for (Py_ssize_t i = 0; node->kind == K_CHOICE && i < node->n; i++) {
        Py_XDECREF(node->choices[i].value);
        Py_XDECREF(node->choices[i].raw);
        PyMem_Free(node->choices[i].text);
    }
    for (Py_ssize_t i = 0; node->kind == K_UNION && i < node->n; i++)
        ta_shape_node_free(node->members[i]);
    if (ta_shape_has_fields(node))
        PyMem_Free(node->fields);
    if (node->kind == K_CHOICE)
        PyMem_Free(node->choices);
    if (node->kind == K_UNION)
        PyMem_Free(node->members);
    Py_XDECREF(node->cls);
    PyMem_Free(node);
}

int ta_shape_node_traverse(const ta_shape_node *node, visitproc visit, void *arg)
{
    int rc = 0;
    if (node == NULL)
        return 0;
    Py_VISIT(node->cls);
    if (ta_shape_has_items(node))
        return ta_shape_node_traverse(node->items, visit, arg);
    for (Py_ssize_t i = 0; rc == 0 && ta_shape_has_fields(node) && i < node->n; i++)
        rc = ta_shape_node_traverse(node->fields[i].type, visit, arg);
    for (Py_ssize_t i = 0; rc == 0 && node->kind == K_UNION && i < node->n; i++)
        rc = ta_shape_node_traverse(node->members[i], visit, arg);
    for (Py_ssize_t i = 0; rc == 0 && node->kind == K_CHOICE && i < node->n; i++)
        Py_VISIT(node->choices[i].value);
    return rc;
}

static ta_shape_node *bad_spec(PyObject *spec)
{
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "Shape: not a spec: %R", spec);
    return NULL;
}

/* `obj` must be of this type, or None: then *out stays NULL. */
static bool take(PyObject *obj, PyTypeObject *type, PyObject **out)
{
    if (obj == Py_None)
        return true;
    if (!Py_IS_TYPE(obj, type))
        return false;
    *out = Py_NewRef(obj);
    return true;
}

/*
 * The bytes `obj`, after a comma if there is `comma`, or None: then *out stays NULL. False: not
 * that, or an exception.
 */
static bool take_text(PyObject *obj, bool comma, ta_shape_text **out)
{
    if (obj == Py_None)
        return true;
    if (!PyBytes_CheckExact(obj))
        return false;
    size_t n = (size_t)PyBytes_GET_SIZE(obj), len = n + comma;
    ta_shape_text *text = PyMem_Calloc(1, sizeof *text + len + TA_SHAPE_SLACK);
    if (text == NULL) {
        PyErr_NoMemory();
        return false;
    }
    text->len = len;
    if (comma)
        text->bytes[0] = ',';
    memcpy(text->bytes + comma, PyBytes_AS_STRING(obj), n);
    *out = text;
    return true;
}

/* A name, two of them, or None. */
static bool take_key(PyObject *obj, ta_shape_field *field)
{
    if (!PyTuple_CheckExact(obj))
        return take(obj, &PyUnicode_Type, &field->key);
    return PyTuple_GET_SIZE(obj) == 2 &&
           take(PyTuple_GET_ITEM(obj, 0), &PyUnicode_Type, &field->key) && field->key != NULL &&
           take(PyTuple_GET_ITEM(obj, 1), &PyUnicode_Type, &field->second);
}

static bool read_fields(ta_shape_node *node, PyObject *fields, int depth)
{
    if (!PyTuple_CheckExact(fields))
        return false;
    Py_ssize_t count = PyTuple_GET_SIZE(fields);
    node->fields = PyMem_Calloc(TA_MAX((size_t)count, 1), sizeof *node->fields);
    if (node->fields == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (; node->n < count; node->n++) {
        PyObject *item = PyTuple_GET_ITEM(fields, node->n);
        ta_shape_field *field = &node->fields[node->n];
        if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 5)
            return false;
        bool ok = take(PyTuple_GET_ITEM(item, 0), &PyUnicode_Type, &field->name) &&
                  field->name != NULL && take_key(PyTuple_GET_ITEM(item, 1), field) &&
                  (field->type = ta_shape_node_new(PyTuple_GET_ITEM(item, 2), depth + 1)) != NULL &&
                  take_text(PyTuple_GET_ITEM(item, 3), true, &field->text) &&
                  take_text(PyTuple_GET_ITEM(item, 4), false, &field->dflt);
        if (!ok) {
            node->n++; /* what it has is freed with the others */
            return false;
        }
        /* Nothing else has this JSON. */
        field->dflt_is_none = field->dflt != NULL && field->dflt->len == 4 &&
                              memcmp(field->dflt->bytes, "null", 4) == 0;
        PyUnicode_InternInPlace(&field->name);
        if (field->key != NULL)
            PyUnicode_InternInPlace(&field->key);
        if (field->second != NULL)
            PyUnicode_InternInPlace(&field->second);
    }
    return true;
}

static bool read_members(ta_shape_node *node, PyObject *members, int depth)
{
    if (!PyTuple_CheckExact(members))
        return false;
    Py_ssize_t count = PyTuple_GET_SIZE(members);
    node->members = PyMem_Calloc(TA_MAX((size_t)count, 1), sizeof(ta_shape_node *));
    if (node->members == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (; node->n < count; node->n++) {
        ta_shape_node *member = ta_shape_node_new(PyTuple_GET_ITEM(members, node->n), depth + 1);
        if (member == NULL)
            return false;
        node->members[node->n] = member;
    }
    return true;
}

static bool read_choices(ta_shape_node *node, PyObject *choices)
{
    if (!PyTuple_CheckExact(choices))
        return false;
    Py_ssize_t count = PyTuple_GET_SIZE(choices);
    node->choices = PyMem_Calloc(TA_MAX((size_t)count, 1), sizeof *node->choices);
    if (node->choices == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (; node->n < count; node->n++) {
        PyObject *item = PyTuple_GET_ITEM(choices, node->n);
        ta_shape_choice *choice = &node->choices[node->n];
        if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 3 ||
            PyTuple_GET_ITEM(item, 2) == Py_None ||
            !take_text(PyTuple_GET_ITEM(item, 2), false, &choice->text))
            return false;
        choice->value = Py_NewRef(PyTuple_GET_ITEM(item, 0));
        if (PyTuple_GET_ITEM(item, 1) != Py_None)
            choice->raw = Py_NewRef(PyTuple_GET_ITEM(item, 1));
    }
    return true;
}

/* False, True or (low, high): false when it is none of these. */
static bool read_checks(ta_shape_node *node, PyObject *checks)
{
    node->validates = checks == Py_True;
    if (PyBool_Check(checks))
        return true;
    if (!PyTuple_CheckExact(checks) || PyTuple_GET_SIZE(checks) != 2)
        return false;
    node->limited = true;
    PyObject *low = PyTuple_GET_ITEM(checks, 0), *high = PyTuple_GET_ITEM(checks, 1);
    if (node->kind == K_FLOAT) {
        node->float_low = PyFloat_AsDouble(low);
        node->float_high = PyFloat_AsDouble(high);
    } else if (node->kind == K_STR || node->kind == K_INT || ta_shape_has_items(node)) {
        node->low = PyLong_AsLongLong(low);
        node->high = PyLong_AsLongLong(high);
    } else {
        return false;
    }
    return PyErr_Occurred() == NULL;
}

ta_shape_node *ta_shape_node_new(PyObject *spec, int depth)
{
    if (depth > TA_SHAPE_MAX_DEPTH || !PyTuple_CheckExact(spec) || PyTuple_GET_SIZE(spec) < 2 ||
        !PyUnicode_Check(PyTuple_GET_ITEM(spec, 0)))
        return bad_spec(spec);
    static const uint8_t sizes[] = {
        [K_LIST] = 3,  [K_TUPLE] = 3,  [K_SET] = 3,   [K_FROZENSET] = 3, [K_DICT] = 3,
        [K_UNION] = 3, [K_CHOICE] = 3, [K_MODEL] = 5, [K_DATACLASS] = 5, [K_NULLABLE] = 3};
    uint8_t which = 0;
    while (which <= K_NULLABLE &&
           PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(spec, 0), kind_names[which]) != 0)
        which++;
    if (which > K_NULLABLE || PyTuple_GET_SIZE(spec) != (sizes[which] ? sizes[which] : 2))
        return bad_spec(spec);
    PyObject *checks = PyTuple_GET_ITEM(spec, 1);
    if (which == K_NULLABLE) {
        if (!PyBool_Check(checks))
            return bad_spec(spec);
        bool validates = checks == Py_True;
        ta_shape_node *inner = ta_shape_node_new(PyTuple_GET_ITEM(spec, 2), depth + 1);
        if (inner != NULL) {
            inner->nullable = true;
            inner->none_checked |= validates;
            inner->validates |= validates;
        }
        return inner;
    }
    ta_shape_node *node = PyMem_Calloc(1, sizeof *node);
    if (node == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    node->kind = which;
    node->write = writers[which];
    bool ok = read_checks(node, checks);
    if (!ok) {
        /* Its parts are not read yet. */
    } else if (ta_shape_has_items(node)) {
        ok = (node->items = ta_shape_node_new(PyTuple_GET_ITEM(spec, 2), depth + 1)) != NULL;
    } else if (which == K_CHOICE) {
        ok = read_choices(node, PyTuple_GET_ITEM(spec, 2));
    } else if (which == K_UNION) {
        ok = read_members(node, PyTuple_GET_ITEM(spec, 2), depth);
    } else if (ta_shape_has_fields(node)) {
        ok = PyType_Check(PyTuple_GET_ITEM(spec, 2));
        if (ok) {
            node->cls = (PyTypeObject *)Py_NewRef(PyTuple_GET_ITEM(spec, 2));
            node->from_dict = PyTuple_GET_ITEM(spec, 3) == Py_True;
            ok = read_fields(node, PyTuple_GET_ITEM(spec, 4), depth);
        }
    }
    if (ok)
        return node;
    ta_shape_node_free(node);
    return bad_spec(spec);
}
