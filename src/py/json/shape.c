/*
 * shape.c -- the Shape type, and what values look like that a shape encodes.
 *
 * Layer: py/json.
 */
#include "py/json/shape.h"

#include <math.h>

#include "py/json/shape_int.h"
#include "py/json/writer.h"
#include "py/support/types.h"

enum { MAX_MODELS = 1024 };

typedef struct shape {
    PyObject_HEAD
    ta_shape_node *root; /* owned */
} shape;

typedef struct enc {
    ta_writer o;
    const ta_json_objects *js; /* borrowed */
} enc;

/* -- encoding ---------------------------------------------------------------------------------- */

static int encode(enc *encoder, const ta_shape_node *node, PyObject *v, bool trusted, int depth);

static inline int put_bytes(enc *e, PyObject *bytes)
{
    return ta_writer_text(&e->o, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

static int encode_float(enc *encoder, double v)
{
    /* Out of this range pydantic's notation is not Python's. */
    double size = fabs(v);
    if (!((size >= 1e-4 && size < 1e15) || v == 0))
        return 0;
    if (ta_writer_room(&encoder->o, TA_JSON_DOUBLE_MAX) < 0)
        return -1;
    encoder->o.at = ta_json_write_double(encoder->o.at, v);
    return 1;
}

static int encode_int(enc *encoder, PyObject *v)
{
    long long n;
    if (!ta_writer_small_int(v, &n))
        return 0;
    if (ta_writer_room(&encoder->o, TA_JSON_INT_MAX) < 0)
        return -1;
    encoder->o.at = ta_json_write_i64(encoder->o.at, n);
    return 1;
}

/* An int where a float is expected becomes one. */
static int encode_int_as_float(enc *e, PyObject *v)
{
    long long n;
    return ta_writer_small_int(v, &n) && llabs(n) < 1000000000000000 ? encode_float(e, (double)n)
                                                                     : 0;
}

static int encode_decimal(enc *encoder, PyObject *v)
{
    PyObject *text = PyObject_Str(v);
    if (text == NULL)
        return ta_writer_refuse();
    /* "NaN", "-Infinity" and the like are validated. */
    Py_UCS4 last = PyUnicode_READ_CHAR(text, PyUnicode_GET_LENGTH(text) - 1);
    int rc = last >= '0' && last <= '9' ? ta_writer_str(&encoder->o, text) : 0;
    Py_DECREF(text);
    return rc;
}

static int encode_choice(enc *encoder, const ta_shape_node *node, PyObject *v)
{
    for (Py_ssize_t i = 0; i < node->n; i++) {
        PyObject *value = node->choices[i].value;
        if (v == value)
            return put_bytes(encoder, node->choices[i].text);
        if (PyUnicode_CheckExact(v) && PyUnicode_CheckExact(value) &&
            PyUnicode_Compare(v, value) == 0)
            return put_bytes(encoder, node->choices[i].text);
    }
    return 0;
}

/* jsonable_encoder drops keys with this prefix. */
static bool is_hidden_key(PyObject *key)
{
    return PyUnicode_GET_LENGTH(key) >= 3 && PyUnicode_READ_CHAR(key, 0) == '_' &&
           PyUnicode_READ_CHAR(key, 1) == 's' && PyUnicode_READ_CHAR(key, 2) == 'a';
}

/* -- containers -------------------------------------------------------------------------------- */

static int encode_list(enc *encoder, const ta_shape_node *items, PyObject *list, bool trusted,
                       int depth)
{
    if (ta_writer_put(&encoder->o, '[') < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i > 0 && ta_writer_put(&encoder->o, ',') < 0)
            return -1;
        PyObject *item = PyList_GetItemRef(list, i);
        if (item == NULL) { /* shortened by another thread since the check */
            PyErr_Clear();
            return 0;
        }
        int rc = encode(encoder, items, item, trusted, depth);
        Py_DECREF(item);
        if (rc != 1)
            return rc;
    }
    return ta_writer_put(&encoder->o, ']');
}

static int encode_dict_locked(enc *encoder, const ta_shape_node *items, PyObject *dict,
                              bool trusted, int depth)
{
    Py_ssize_t pos = 0, size = PyDict_GET_SIZE(dict);
    PyObject *key, *value;
    char before = '{';
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (!PyUnicode_CheckExact(key) || is_hidden_key(key))
            return 0;
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = ta_writer_put(&encoder->o, before);
        if (rc == 1)
            rc = ta_writer_str(&encoder->o, key);
        if (rc == 1)
            rc = ta_writer_put(&encoder->o, ':');
        if (rc == 1)
            rc = encode(encoder, items, value, trusted, depth);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc != 1)
            return rc;
        if (TA_UNLIKELY(PyDict_GET_SIZE(dict) != size))
            return 0; /* changed under us */
        before = ',';
    }
    if (before == '{' && ta_writer_put(&encoder->o, '{') < 0)
        return -1;
    return ta_writer_put(&encoder->o, '}');
}

static int encode_dict(enc *e, const ta_shape_node *items, PyObject *dict, bool trusted, int depth)
{
    int rc;
    Py_BEGIN_CRITICAL_SECTION(dict);
    rc = encode_dict_locked(e, items, dict, trusted, depth);
    Py_END_CRITICAL_SECTION();
    return rc;
}

/* Encodes a value of type Any as pydantic does when it infers the type, where that is plain. */
static int encode_any(enc *encoder, const ta_shape_node *node, PyObject *v, bool trusted, int depth)
{
    PyTypeObject *type = Py_TYPE(v);
    if (type == &PyUnicode_Type)
        return ta_writer_str(&encoder->o, v);
    if (type == &PyLong_Type)
        return encode_int(encoder, v);
    if (type == &PyFloat_Type)
        return encode_float(encoder, PyFloat_AS_DOUBLE(v));
    if (v == Py_None)
        return ta_writer_text(&encoder->o, "null", 4);
    if (v == Py_True)
        return ta_writer_text(&encoder->o, "true", 4);
    if (v == Py_False)
        return ta_writer_text(&encoder->o, "false", 5);
    if (depth >= TA_SHAPE_MAX_DEPTH)
        return 0;
    if (type == &PyList_Type)
        return encode_list(encoder, node, v, trusted, depth + 1);
    return type == &PyDict_Type ? encode_dict(encoder, node, v, trusted, depth + 1) : 0;
}

/* -- models ------------------------------------------------------------------------------------ */

/* The field's name or a comma is before it: `first` tells. */
static inline int put_field_text(enc *encoder, const ta_shape_field *field, bool first)
{
    size_t n = (size_t)PyBytes_GET_SIZE(field->text);
    if (ta_writer_room(&encoder->o, n + 1) < 0)
        return -1;
    *encoder->o.at++ = first ? '{' : ',';
    memcpy(encoder->o.at, PyBytes_AS_STRING(field->text), n);
    encoder->o.at += n;
    return 1;
}

static int end_model(enc *e, bool first)
{
    return first ? ta_writer_text(&e->o, "{}", 2) : ta_writer_put(&e->o, '}');
}

/* Writes what validating a dict and dumping the model results in.  Other keys of the dict are
 * ignored. */
static int encode_from_dict(enc *encoder, const ta_shape_node *node, PyObject *dict, int depth)
{
    bool first = true;
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_field *field = &node->fields[i];
        PyObject *value;
        if (field->key == NULL || field->text == NULL)
            return 0;
        int rc = PyDict_GetItemRef(dict, field->key, &value);
        if (rc < 0)
            return ta_writer_refuse();
        if (rc == 0 && field->dflt == NULL)
            return 0;
        rc = put_field_text(encoder, field, first);
        if (rc == 1)
            rc = value ? encode(encoder, field->type, value, false, depth)
                       : put_bytes(encoder, field->dflt);
        Py_XDECREF(value);
        if (rc != 1)
            return rc;
        first = false;
    }
    return end_model(encoder, first);
}

/* Field names are identifiers; usually they are the same object. */
static inline bool same_name(PyObject *key, PyObject *name)
{
    if (key == name)
        return true;
    return PyUnicode_CheckExact(key) && PyUnicode_Compare(key, name) == 0;
}

/* pydantic writes what is in __dict__, in its order: here that must be the fields in their order.
 */
static int encode_fields_locked(enc *encoder, const ta_shape_node *node, PyObject *dict, int depth)
{
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    bool first = true;
    if (PyDict_GET_SIZE(dict) != node->n)
        return 0;
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_field *field = &node->fields[i];
        if (!PyDict_Next(dict, &pos, &key, &value) || !same_name(key, field->name))
            return 0;
        if (field->text == NULL)
            continue;
        Py_INCREF(value);
        int rc = put_field_text(encoder, field, first);
        if (rc == 1)
            rc = encode(encoder, field->type, value, true, depth);
        Py_DECREF(value);
        if (rc != 1)
            return rc;
        first = false;
    }
    return end_model(encoder, first);
}

static int encode_instance(enc *encoder, const ta_shape_node *node, PyObject *v, int depth)
{
    PyObject *dict = PyObject_GenericGetDict(v, NULL);
    if (dict == NULL)
        return ta_writer_refuse();
    int rc = 0;
    if (PyDict_CheckExact(dict)) {
        Py_BEGIN_CRITICAL_SECTION(dict);
        rc = encode_fields_locked(encoder, node, dict, depth);
        Py_END_CRITICAL_SECTION();
    }
    Py_DECREF(dict);
    return rc;
}

static int encode_model(enc *e, const ta_shape_node *n, PyObject *v, bool trusted, int depth)
{
    if (Py_IS_TYPE(v, n->cls))
        return encode_instance(e, n, v, depth);
    if (trusted || !n->from_dict || !PyDict_CheckExact(v))
        return 0;
    return encode_from_dict(e, n, v, depth);
}

static int encode(enc *encoder, const ta_shape_node *node, PyObject *v, bool trusted, int depth)
{
    PyTypeObject *type = Py_TYPE(v);
    if (v == Py_None && node->nullable && (trusted || !node->none_checked))
        return ta_writer_text(&encoder->o, "null", 4);
    if (node->validates && !trusted)
        return 0;
    switch ((ta_shape_kind)node->kind) {
    case K_STR:
        return type == &PyUnicode_Type ? ta_writer_str(&encoder->o, v) : 0;
    case K_INT:
        return type == &PyLong_Type ? encode_int(encoder, v) : 0;
    case K_FLOAT:
        if (type == &PyFloat_Type)
            return encode_float(encoder, PyFloat_AS_DOUBLE(v));
        return type == &PyLong_Type && !trusted ? encode_int_as_float(encoder, v) : 0;
    case K_BOOL:
        if (v == Py_True)
            return ta_writer_text(&encoder->o, "true", 4);
        return v == Py_False ? ta_writer_text(&encoder->o, "false", 5) : 0;
    case K_NONE:
        return v == Py_None ? ta_writer_text(&encoder->o, "null", 4) : 0;
    case K_ANY:
        return encode_any(encoder, node, v, trusted, depth);
    case K_UUID:
        return type == encoder->js->uuid_type ? ta_writer_uuid(&encoder->o, encoder->js, v) : 0;
    case K_DATE:
    case K_TIME:
    case K_DATETIME: {
        PyTypeObject *expected = node->kind == K_DATE   ? encoder->js->date_type
                                 : node->kind == K_TIME ? encoder->js->time_type
                                                        : encoder->js->datetime_type;
        int rc = type == expected ? ta_writer_moment(&encoder->o, encoder->js, v, "Z") : 0;
        return rc == 2 ? 0 : rc;
    }
    case K_DECIMAL:
        return type == encoder->js->decimal_type ? encode_decimal(encoder, v) : 0;
    case K_LIST:
        return type == &PyList_Type ? encode_list(encoder, node->items, v, trusted, depth) : 0;
    case K_DICT:
        return type == &PyDict_Type ? encode_dict(encoder, node->items, v, trusted, depth) : 0;
    case K_CHOICE:
        return encode_choice(encoder, node, v);
    case K_MODEL:
        return encode_model(encoder, node, v, trusted, depth);
    case K_NULLABLE:
        break;
    }
    return 0;
}

int ta_shape_encode(PyObject *self, const ta_json_objects *js, PyObject *value, bool trusted,
                    ta_buf *out)
{
    size_t start = out->len;
    enc e = {.o = ta_writer_begin(out), .js = js};
    const ta_shape_node *root = ((shape *)self)->root; /* NULL once the collector has cleared it */
    int rc = root ? encode(&e, root, value, trusted, 0) : 0;
    TA_ASSERT(rc <= 1 && (rc < 0) == (PyErr_Occurred() != NULL));
    ta_writer_commit(&e.o);
    if (rc != 1)
        out->len = start;
    return rc;
}

PyObject *ta_shape_of_model(const ta_json_objects *js, PyTypeObject *model)
{
    PyObject *found = NULL;
    int rc = PyDict_GetItemRef(js->shapes, (PyObject *)model, &found);
    if (rc == 0) {
        PyObject *compile = ta_types_import("turboapi._compile.shape", "shape_of_model");
        found = compile ? PyObject_CallOneArg(compile, (PyObject *)model) : NULL;
        Py_XDECREF(compile);
        if (found == NULL)
            return NULL;
        if (found != Py_None && !Py_IS_TYPE(found, js->shape_type)) {
            PyErr_SetString(PyExc_TypeError, "shape_of_model must return a Shape or None");
            Py_DECREF(found);
            return NULL;
        }
        /* Classes that are made while serving must not be kept forever. */
        if (PyDict_GET_SIZE(js->shapes) >= MAX_MODELS)
            PyDict_Clear(js->shapes);
        if (PyDict_SetItem(js->shapes, (PyObject *)model, found) < 0)
            Py_CLEAR(found);
    }
    if (found == Py_None)
        Py_CLEAR(found);
    return found;
}

/* -- the type ---------------------------------------------------------------------------------- */

static PyObject *shape_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *spec;
    static char *names[] = {"spec", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Shape", names, &spec))
        return NULL;
    shape *self = (shape *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->root = ta_shape_node_new(spec, 0);
    if (self->root == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int shape_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return ta_shape_node_traverse(((shape *)self)->root, visit, arg);
}

static int shape_clear(PyObject *self)
{
    ta_shape_node *root = ((shape *)self)->root;
    ((shape *)self)->root = NULL;
    ta_shape_node_free(root);
    return 0;
}

static void shape_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)shape_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(encode_doc, "encode($self, value, /, *, trusted=False)\n--\n\n"
                         "Return the JSON bytes of a value, or None when pydantic must decide.\n\n"
                         "trusted: it is validated, and is dumped as it is.");

static PyObject *shape_encode(PyObject *self, PyTypeObject *cls, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t nkw = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs != 1 || nkw > 1 ||
        (nkw && !PyUnicode_EqualToUTF8AndSize(PyTuple_GET_ITEM(kwnames, 0), "trusted", 7))) {
        PyErr_SetString(PyExc_TypeError, "encode() takes a value and the keyword trusted");
        return NULL;
    }
    int trusted = nkw ? PyObject_IsTrue(args[1]) : 0;
    if (trusted < 0)
        return NULL;
    ta_buf out;
    ta_buf_init(&out);
    PyObject *result = NULL;
    int rc =
        ta_shape_encode(self, ta_json_objects_of(ta_state_of_class(cls)), args[0], trusted, &out);
    if (rc == 1) {
        ta_str bytes = ta_buf_str(&out);
        result = PyBytes_FromStringAndSize(bytes.ptr, (Py_ssize_t)bytes.len);
    } else if (rc == 0) {
        result = Py_NewRef(Py_None);
    }
    ta_buf_free(&out);
    return result;
}

static PyMethodDef shape_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))shape_encode,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, encode_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(shape_doc,
             "Shape(spec)\n--\n\nValues of a schema to JSON; see turboapi._compile.shape.");

static PyType_Slot shape_slots[] = {{Py_tp_new, shape_new},
                                    {Py_tp_doc, (void *)shape_doc},
                                    {Py_tp_dealloc, shape_dealloc},
                                    {Py_tp_traverse, shape_traverse},
                                    {Py_tp_clear, shape_clear},
                                    {Py_tp_methods, shape_methods},
                                    {0, NULL}};

static PyType_Spec shape_spec = {.name = "turboapi._core.Shape",
                                 .basicsize = sizeof(shape),
                                 .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
                                 .slots = shape_slots};

int ta_shape_init(PyObject *module, ta_state *st)
{
    ta_json_objects *js = ta_json_objects_of(st);
    js->shapes = PyDict_New();
    return js->shapes ? ta_types_add(module, &shape_spec, "Shape", &js->shape_type) : -1;
}
