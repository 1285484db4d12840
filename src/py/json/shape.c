/*
 * shape.c -- the Shape type, and the shapes of models' own dumps.
 *
 * Layer: py/json.
 */
#include "py/json/shape.h"

#include "py/json/shape_int.h"
#include "py/support/types.h"

enum { MAX_MODELS = 1024 };

typedef struct shape {
    PyObject_HEAD
    ta_shape_node *root; /* owned */
    bool exclude_none, exclude_unset;
} shape;

int ta_shape_encode(PyObject *self, const ta_json_objects *js, PyObject *value, bool trusted,
                    ta_buf *out)
{
    const shape *own = (const shape *)self;
    size_t start = out->len;
    ta_shape_walk walk = {.o = ta_writer_begin(out),
                          .js = js,
                          .exclude_none = own->exclude_none,
                          .exclude_unset = own->exclude_unset};
    /* NULL once the collector has cleared it. */
    int rc = own->root ? ta_shape_value(&walk, own->root, value, trusted) : 0;
    TA_ASSERT(rc <= 1 && (rc < 0) == (PyErr_Occurred() != NULL));
    ta_writer_commit(&walk.o);
    if (walk.met > 0)
        ta_shape_sources_clear(&walk);
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
    int exclude_none = 0, exclude_unset = 0;
    static char *names[] = {"spec", "exclude_none", "exclude_unset", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$pp:Shape", names, &spec, &exclude_none,
                                     &exclude_unset))
        return NULL;
    shape *self = (shape *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->exclude_none = exclude_none;
    self->exclude_unset = exclude_unset;
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

PyDoc_STRVAR(shape_doc, "Shape(spec, *, exclude_none=False, exclude_unset=False)\n--\n\n"
                        "Values of a schema to JSON; see turboapi._compile.shape.\n\n"
                        "exclude_none, exclude_unset: fields that dumps leave out.");

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

static int intern_names(ta_json_objects *js)
{
    const struct {
        PyObject **out;
        const char *text;
    } names[] = {{&js->str_getattribute, "__getattribute__"},
                 {&js->str_getattr, "__getattr__"},
                 {&js->str_class, "__class__"},
                 {&js->str_module, "__module__"},
                 {&js->str_get, "__get__"},
                 {&js->str_key, "key"},
                 {&js->str_impl, "impl"},
                 {&js->str_supports_population, "supports_population"},
                 {&js->str_fields_set, "__pydantic_fields_set__"},
                 {&js->str_extra, "__pydantic_extra__"}};
    for (size_t i = 0; i < TA_COUNTOF(names); i++)
        if ((*names[i].out = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    return 0;
}

int ta_shape_init(PyObject *module, ta_state *st)
{
    ta_json_objects *js = ta_json_objects_of(st);
    if (intern_names(js) < 0 || (js->shapes = PyDict_New()) == NULL ||
        (js->getters = PyDict_New()) == NULL ||
        (js->mapping_type = ta_types_import("collections.abc", "Mapping")) == NULL)
        return -1;
    js->object_getattribute = ta_type_lookup(&PyBaseObject_Type, js->str_getattribute);
    js->type_getattribute = ta_type_lookup(&PyType_Type, js->str_getattribute);
    js->object_class = ta_type_lookup(&PyBaseObject_Type, js->str_class);
    if (js->model_type != NULL)
        js->model_getattr = ta_type_lookup(js->model_type, js->str_getattr);
    return ta_types_add(module, &shape_spec, "Shape", &js->shape_type);
}
