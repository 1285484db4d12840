/*
 * shape_attributes.c -- attributes of any object, where reading them runs no code of its class.
 *
 * Layer: py/json.
 *
 * pydantic makes a model of any object that it does not take for plain data, with getattr() for
 * each field. Here only what getattr() cannot but give is read: the instance's __dict__, slots,
 * plain values of the class, and columns of SQLAlchemy that are loaded. A property, a class with
 * `__getattribute__` and the like are left to pydantic, so that their code runs once.
 */
#include "py/json/shape_int.h"
#include "py/support/types.h"

enum { MAX_GETTERS = 64 };

/* -- the type ---------------------------------------------------------------------------------- */

/* Whether pydantic takes instances of this type for objects with attributes. */
static int is_applicable(PyTypeObject *type, const ta_json_objects *js)
{
    if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE))
        return 0;
    PyObject *getter = ta_type_lookup(Py_TYPE(type), js->str_getattribute);
    Py_XDECREF(getter);
    if (getter != js->type_getattribute)
        return 0; /* a metaclass may say anything */
    PyObject *dict = PyType_GetDict(type), *module = NULL;
    int rc = dict ? PyDict_GetItemRef(dict, js->str_module, &module) : -1;
    Py_XDECREF(dict);
    if (rc == 1)
        rc = PyUnicode_CheckExact(module) &&
             PyUnicode_CompareWithASCIIString(module, "builtins") != 0 &&
             PyUnicode_CompareWithASCIIString(module, "datetime") != 0 &&
             PyUnicode_CompareWithASCIIString(module, "collections") != 0;
    Py_XDECREF(module);
    return rc;
}

/* Fills in what a source says about its type: 0, or -1 with an exception. */
static int judge(ta_shape_source *source, const ta_json_objects *js, PyObject *v)
{
    PyTypeObject *type = source->type;
    PyObject *getter = ta_type_lookup(type, js->str_getattribute);
    PyObject *hook = ta_type_lookup(type, js->str_getattr);
    PyObject *cls = ta_type_lookup(type, js->str_class);
    source->hooked = hook != NULL;
    source->model_hook = hook != NULL && hook == js->model_getattr;
    bool plain = getter == js->object_getattribute && cls == js->object_class;
    Py_XDECREF(getter);
    Py_XDECREF(hook);
    Py_XDECREF(cls);
    if (!plain)
        return 0;
    if (source->node->kind == K_DATACLASS) { /* an instance of it */
        source->safe = true;
        return 0;
    }
    int rc = is_applicable(type, js);
    if (rc <= 0)
        return rc;
    /* Instances by registration are taken as they are, and mappings by their keys. */
    rc = PyObject_IsInstance(v, js->mapping_type);
    if (rc == 0)
        rc = PyObject_IsInstance(v, (PyObject *)source->node->cls);
    source->safe = rc == 0;
    return rc < 0 ? -1 : 0;
}

const ta_shape_source *ta_shape_source_of(ta_shape_walk *walk, const ta_shape_node *node,
                                          PyObject *v)
{
    PyTypeObject *type = Py_TYPE(v);
    for (unsigned i = 0; i < TA_SHAPE_SOURCES; i++)
        if (walk->sources[i].type == type && walk->sources[i].node == node)
            return &walk->sources[i];
    ta_shape_source source = {.node = node, .type = (PyTypeObject *)Py_NewRef(type)};
    if (judge(&source, walk->js, v) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    ta_shape_source *kept = &walk->sources[walk->met++ % TA_SHAPE_SOURCES];
    PyTypeObject *old = kept->type;
    *kept = source;
    Py_XDECREF(old);
    return kept;
}

void ta_shape_sources_clear(ta_shape_walk *walk)
{
    for (unsigned i = 0; i < TA_SHAPE_SOURCES; i++)
        Py_CLEAR(walk->sources[i].type);
}

/* -- one attribute ----------------------------------------------------------------------------- */

/*
 * Whether a `__get__` is known to give what the instance's __dict__ has, if it has it: 1, 0, or -1
 * with an exception.
 */
static int reads_dict(const ta_json_objects *js, PyObject *getter)
{
    PyObject *found = NULL;
    int rc = PyDict_GetItemRef(js->getters, getter, &found);
    if (rc == 0) {
        PyObject *judge_getter = ta_types_import("turboapi._compile.shape", "reads_dict");
        found = judge_getter ? PyObject_CallOneArg(judge_getter, getter) : NULL;
        Py_XDECREF(judge_getter);
        if (found == NULL)
            return -1;
        if (PyDict_GET_SIZE(js->getters) >= MAX_GETTERS)
            PyDict_Clear(js->getters);
        rc = PyDict_SetItem(js->getters, getter, found);
    }
    bool yes = found == Py_True;
    Py_XDECREF(found);
    return rc < 0 ? -1 : yes;
}

/* Whether a data descriptor is a column of SQLAlchemy that keeps its value under `key`. */
static int is_column(const ta_json_objects *js, PyObject *descriptor, PyObject *key)
{
    PyObject *getter = ta_type_lookup(Py_TYPE(descriptor), js->str_get);
    int rc = getter && PyFunction_Check(getter) ? reads_dict(js, getter) : 0;
    Py_XDECREF(getter);
    if (rc != 1)
        return rc;
    PyObject *own_key = NULL, *impl = NULL, *populated = NULL;
    rc = PyObject_GetOptionalAttr(descriptor, js->str_key, &own_key);
    if (rc == 1)
        rc = PyUnicode_CheckExact(own_key) && PyUnicode_Compare(own_key, key) == 0;
    if (rc == 1)
        rc = PyObject_GetOptionalAttr(descriptor, js->str_impl, &impl);
    if (rc == 1)
        rc = PyObject_GetOptionalAttr(impl, js->str_supports_population, &populated);
    if (rc == 1)
        rc = populated == Py_True;
    Py_XDECREF(populated);
    Py_XDECREF(impl);
    Py_XDECREF(own_key);
    return rc;
}

/* What the instance's __dict__ has. */
static ta_shape_found from_instance(PyObject *v, PyObject *key, PyObject **out)
{
    PyObject *dict = PyObject_GenericGetDict(v, NULL);
    if (dict == NULL)
        return RAISED;
    int rc = PyDict_CheckExact(dict) ? PyDict_GetItemRef(dict, key, out) : 0;
    Py_DECREF(dict);
    return rc < 0 ? RAISED : rc ? FOUND : UNSURE;
}

/* Whether BaseModel's own `__getattr__` has nothing under a name. */
static bool is_no_extra(const ta_json_objects *js, PyObject *v, PyObject *key)
{
    /* Private attributes begin with an underscore. */
    if (PyUnicode_GET_LENGTH(key) == 0 || PyUnicode_READ_CHAR(key, 0) == '_')
        return false;
    PyObject *extra = PyObject_GenericGetAttr(v, js->str_extra);
    if (extra == NULL)
        PyErr_Clear();
    Py_XDECREF(extra);
    return extra == Py_None;
}

ta_shape_found ta_shape_attribute(const ta_json_objects *js, const ta_shape_source *source,
                                  PyObject *v, PyObject *key, PyObject **out)
{
    PyObject *of_class = ta_type_lookup(Py_TYPE(v), key);
    if (of_class != NULL) {
        PyTypeObject *kind = Py_TYPE(of_class);
        if (kind->tp_descr_get != NULL && kind != &PyMemberDescr_Type) {
            int rc = kind->tp_descr_set == NULL ? 1 : is_column(js, of_class, key);
            Py_DECREF(of_class);
            return rc < 0 ? RAISED : rc ? from_instance(v, key, out) : UNSURE;
        }
        Py_DECREF(of_class);
    }
    *out = PyObject_GenericGetAttr(v, key);
    if (*out != NULL)
        return FOUND;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return RAISED;
    PyErr_Clear();
    if (source->hooked && !(source->model_hook && is_no_extra(js, v, key)))
        return UNSURE;
    return ABSENT;
}
