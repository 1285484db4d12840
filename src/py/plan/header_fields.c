/*
 * header_fields.c -- the header fields of a response, by name: Starlette's MutableHeaders in C.
 *
 * Layer: py/plan.  What middleware does most with the fields of a response is here, for names in
 * ASCII and values in Latin-1.  The Python subclass is a MutableHeaders, whose own methods do
 * everything else: another name or value, a list that has something else than pairs of bytes.
 */
#include "py/plan/header_fields.h"

#include <structmember.h>

#include "py/support/types.h"

enum { NAME_MAX_LEN = 128 }; /* longer names are left to Starlette */

typedef struct header_fields {
    PyObject_HEAD
    PyObject *list; /* owned: of pairs of bytes, as a rule; NULL: not set */
} header_fields;

typedef struct field_name {
    size_t len;
    char text[NAME_MAX_LEN];
} field_name;

static PyObject **list_of(PyObject *self)
{
    return &((header_fields *)self)->list;
}

/* The name in lower case.  False: Starlette has to look at it. */
static bool lower_name(PyObject *key, field_name *out)
{
    if (!PyUnicode_CheckExact(key) || !PyUnicode_IS_ASCII(key) ||
        PyUnicode_GET_LENGTH(key) > NAME_MAX_LEN)
        return false;
    const Py_UCS1 *text = PyUnicode_1BYTE_DATA(key);
    out->len = (size_t)PyUnicode_GET_LENGTH(key);
    for (size_t i = 0; i < out->len; i++)
        out->text[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i]);
    return true;
}

/* The value in Latin-1: new bytes; NULL: Starlette has to look at it, or with an exception. */
static PyObject *encode_value(PyObject *value)
{
    if (!PyUnicode_CheckExact(value) || PyUnicode_KIND(value) != PyUnicode_1BYTE_KIND)
        return NULL;
    return PyBytes_FromStringAndSize((const char *)PyUnicode_1BYTE_DATA(value),
                                     PyUnicode_GET_LENGTH(value));
}

static bool has_name(PyObject *pair, const field_name *name)
{
    PyObject *key = PyTuple_GET_ITEM(pair, 0);
    return (size_t)PyBytes_GET_SIZE(key) == name->len &&
           memcmp(PyBytes_AS_STRING(key), name->text, name->len) == 0;
}

/*
 * Is it a list of pairs of bytes and nothing else?  Without the GIL another thread might change it
 * meanwhile, if it is that of a response which several requests share: Starlette's code is safe.
 */
static bool is_plain(PyObject *list)
{
#ifdef Py_GIL_DISABLED
    list = NULL;
#endif
    if (list == NULL || !PyList_CheckExact(list))
        return false;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *pair = PyList_GET_ITEM(list, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 0)) ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 1)))
            return false;
    }
    return true;
}

/* Index of the first field of that name from `start` on, -1: there is none. */
static Py_ssize_t find(PyObject *list, const field_name *name, Py_ssize_t start)
{
    for (Py_ssize_t i = start; i < PyList_GET_SIZE(list); i++)
        if (has_name(PyList_GET_ITEM(list, i), name))
            return i;
    return -1;
}

/* Removes all of that name from `start` on.  0, or -1 with an exception. */
static int remove_from(PyObject *list, const field_name *name, Py_ssize_t start)
{
    Py_ssize_t i = start;
    while ((i = find(list, name, i)) >= 0)
        if (PyList_SetSlice(list, i, i + 1, NULL) < 0)
            return -1;
    return 0;
}

/* New (name, value), or NULL with an exception.  Steals value. */
static PyObject *new_pair(const field_name *name, PyObject *value)
{
    PyObject *key = PyBytes_FromStringAndSize(name->text, (Py_ssize_t)name->len);
    PyObject *pair = key ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_DECREF(value);
    return pair;
}

/* 1: set; 0: Starlette has to do it; -1 with an exception. */
static int set_field(PyObject *list, PyObject *key, PyObject *value)
{
    field_name name;
    if (!is_plain(list) || !lower_name(key, &name))
        return 0;
    PyObject *bytes = encode_value(value);
    if (bytes == NULL)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *pair = new_pair(&name, bytes);
    if (pair == NULL)
        return -1;
    Py_ssize_t at = find(list, &name, 0);
    int rc;
    if (at < 0) {
        rc = PyList_Append(list, pair);
        Py_DECREF(pair);
    } else {
        rc = remove_from(list, &name, at + 1);
        if (rc == 0)
            rc = PyList_SetItem(list, at, pair); /* steals */
        else
            Py_DECREF(pair);
    }
    return rc < 0 ? -1 : 1;
}

static int delete_field(PyObject *list, PyObject *key)
{
    field_name name;
    if (!is_plain(list) || !lower_name(key, &name))
        return 0;
    return remove_from(list, &name, 0) < 0 ? -1 : 1;
}

static int assign(PyObject *self, PyObject *key, PyObject *value)
{
    PyObject *list = Py_XNewRef(*list_of(self));
    int rc = value ? set_field(list, key, value) : delete_field(list, key);
    Py_XDECREF(list);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    PyObject *none = value ? PyObject_CallMethod(self, "_set_other", "OO", key, value)
                           : PyObject_CallMethod(self, "_delete_other", "O", key);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

static PyObject *subscript(PyObject *self, PyObject *key)
{
    field_name name;
    PyObject *list = *list_of(self);
    if (!is_plain(list) || !lower_name(key, &name))
        return PyObject_CallMethod(self, "_get_other", "O", key);
    Py_ssize_t at = find(list, &name, 0);
    if (at < 0) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    PyObject *value = PyTuple_GET_ITEM(PyList_GET_ITEM(list, at), 1);
    return PyUnicode_DecodeLatin1(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), NULL);
}

static int contains(PyObject *self, PyObject *key)
{
    field_name name;
    PyObject *list = *list_of(self);
    if (is_plain(list) && lower_name(key, &name))
        return find(list, &name, 0) >= 0;
    PyObject *answer = PyObject_CallMethod(self, "_has_other", "O", key);
    int rc = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return rc;
}

PyObject *ta_header_fields_new(PyTypeObject *type, PyObject *list)
{
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL)
        *list_of(self) = Py_NewRef(list);
    return self;
}

/* -- the type --------------------------------------------------------------------------------- */

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(*list_of(self));
    return 0;
}

static int clear(PyObject *self)
{
    Py_CLEAR(*list_of(self));
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"_list", T_OBJECT_EX, offsetof(header_fields, list), 0, NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The header fields of a response, by name."},
    {Py_mp_subscript, subscript},
    {Py_mp_ass_subscript, assign},
    {Py_sq_contains, contains},
    {Py_tp_members, members},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.HeaderFields",
    .basicsize = sizeof(header_fields),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int ta_header_fields_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, "HeaderFields", &ta_plan_objects_of(st)->header_fields_type);
}
