/* py_router.c -- see py_router.h. */
#include "py/py_router.h"

#include "py/state.h"

typedef struct router_entry {
    PyObject *target;      /* owned */
    PyObject *scope_items; /* owned dict, or NULL */
    PyObject *names;       /* owned tuple of interned str */
} router_entry;

typedef struct ta_RouterObject {
    PyObject_HEAD ta_route_tree *tree; /* owned */
    router_entry *entries;             /* owned, `count` of them */
    Py_ssize_t count;
    PyObject *uuid_type; /* owned */
} ta_RouterObject;

static inline const ta_RouterObject *as_router(PyObject *obj)
{
    return (const ta_RouterObject *)obj;
}

/* -- values ------------------------------------------------------------------------------------ */

/* The text of a value, as the server's decoding of the path gives it: bytes that are no UTF-8
 * become U+FFFD. */
static PyObject *value_text(ta_str value)
{
    return PyUnicode_DecodeUTF8(value.ptr, (Py_ssize_t)value.len, "replace");
}

static PyObject *convert_int(ta_str value)
{
    int64_t n;
    if (ta_conv_int(value, &n) == TA_OK)
        return PyLong_FromLongLong(n);
    PyObject *text = value_text(value);
    if (text == NULL)
        return NULL;
    PyObject *res = PyLong_FromUnicodeObject(text, 10);
    Py_DECREF(text);
    return res;
}

static PyObject *convert_float(ta_str value)
{
    char small[64];
    if (value.len < sizeof small) {
        memcpy(small, value.ptr, value.len);
        small[value.len] = '\0';
        double v = PyOS_string_to_double(small, NULL, NULL);
        return v == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(v);
    }
    PyObject *text = value_text(value);
    if (text == NULL)
        return NULL;
    PyObject *res = PyFloat_FromString(text);
    Py_DECREF(text);
    return res;
}

PyObject *ta_router_convert(PyObject *router, ta_route_conv conv, ta_str value)
{
    switch (conv) {
    case TA_CONV_INT:
        return convert_int(value);
    case TA_CONV_FLOAT:
        return convert_float(value);
    case TA_CONV_UUID: {
        PyObject *text = value_text(value);
        if (text == NULL)
            return NULL;
        PyObject *res = PyObject_CallOneArg(as_router(router)->uuid_type, text);
        Py_DECREF(text);
        return res;
    }
    case TA_CONV_STR:
    case TA_CONV_PATH:
        break;
    }
    return value_text(value);
}

PyObject *ta_router_path_params(PyObject *router, const ta_match *match)
{
    uint32_t n;
    const ta_route_param *params = ta_router_params(router, match->index, &n);
    PyObject *names = ta_router_param_names(router, match->index);
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    for (uint32_t i = 0; i < match->nparams; i++) {
        PyObject *value = ta_router_convert(router, params[i].conv, match->values[i]);
        if (value == NULL || PyDict_SetItem(dict, PyTuple_GET_ITEM(names, i), value) < 0) {
            Py_XDECREF(value);
            Py_DECREF(dict);
            return NULL;
        }
        Py_DECREF(value);
    }
    return dict;
}

/* -- access ------------------------------------------------------------------------------------ */

int ta_router_match(PyObject *router, ta_method method_id, ta_str method, ta_str path,
                    ta_match *out)
{
    return ta_route_tree_match(as_router(router)->tree, method_id, method, path, out);
}

PyObject *ta_router_target(PyObject *router, uint32_t index)
{
    return as_router(router)->entries[index].target;
}

PyObject *ta_router_scope_items(PyObject *router, uint32_t index)
{
    return as_router(router)->entries[index].scope_items;
}

PyObject *ta_router_param_names(PyObject *router, uint32_t index)
{
    return as_router(router)->entries[index].names;
}

const ta_route_param *ta_router_params(PyObject *router, uint32_t index, uint32_t *count)
{
    return ta_route_tree_params(as_router(router)->tree, index, count);
}

/* -- construction ------------------------------------------------------------------------------ */

/* A str's UTF-8, borrowed from it.  0, or -1 with an exception. */
static int text_slice(PyObject *obj, const char *what, ta_str *out)
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

static int parse_kind(PyObject *obj, ta_route_kind *out)
{
    static const char *const names[] = {"route", "mount", "any"};
    ta_str text;
    if (text_slice(obj, "kind", &text) < 0)
        return -1;
    for (size_t i = 0; i < TA_COUNTOF(names); i++) {
        if (ta_str_eq(text, ta_str_of(names[i], strlen(names[i])))) {
            *out = (ta_route_kind)i;
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
    if (kind != TA_ROUTE_ANY && text_slice(path, "path", &path_text) < 0)
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
        if (text_slice(PyList_GET_ITEM(items, i), "method", &slices[i]) < 0)
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
        PyObject *name = value_text(params[i].name);
        if (name == NULL) {
            Py_DECREF(names);
            return NULL;
        }
        PyUnicode_InternInPlace(&name);
        PyTuple_SET_ITEM(names, (Py_ssize_t)i, name);
    }
    return names;
}

static int add_entry(ta_RouterObject *self, PyObject *item)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 5) {
        PyErr_SetString(PyExc_TypeError,
                        "an entry must be a tuple (kind, path, methods, target, scope_items)");
        return -1;
    }
    PyObject *target = PyTuple_GET_ITEM(item, 3);
    PyObject *scope_items = PyTuple_GET_ITEM(item, 4);
    if (scope_items != Py_None && !PyDict_Check(scope_items)) {
        PyErr_SetString(PyExc_TypeError, "scope_items must be a dict or None");
        return -1;
    }
    ta_route_kind kind;
    if (parse_kind(PyTuple_GET_ITEM(item, 0), &kind) < 0 ||
        add_to_tree(self->tree, kind, PyTuple_GET_ITEM(item, 1), PyTuple_GET_ITEM(item, 2)) < 0)
        return -1;
    PyObject *names = param_names(self->tree, (uint32_t)self->count);
    if (names == NULL)
        return -1;
    self->entries[self->count++] = (router_entry){
        .target = Py_NewRef(target),
        .scope_items = scope_items == Py_None ? NULL : Py_NewRef(scope_items),
        .names = names,
    };
    return 0;
}

static PyObject *router_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"entries", NULL};
    PyObject *entries;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Router", keywords, &entries))
        return NULL;
    const ta_state *st = ta_state_of(type);
    if (st == NULL)
        return NULL;
    ta_RouterObject *self = (ta_RouterObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->uuid_type = Py_NewRef((PyObject *)st->o.json.uuid_type);
    PyObject *items = PySequence_Tuple(entries);
    if (items == NULL)
        goto error;
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    self->entries = PyMem_New(router_entry, n ? n : 1);
    self->tree = ta_route_tree_new();
    if (self->entries == NULL || self->tree == NULL) {
        PyErr_NoMemory();
        goto error;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (add_entry(self, PyTuple_GET_ITEM(items, i)) < 0)
            goto error;
    if (ta_route_tree_finish(self->tree) != TA_OK) {
        PyErr_NoMemory();
        goto error;
    }
    Py_DECREF(items);
    return (PyObject *)self;
error:
    Py_XDECREF(items);
    Py_DECREF(self);
    return NULL;
}

static int router_traverse(PyObject *obj, visitproc visit, void *arg)
{
    const ta_RouterObject *self = as_router(obj);
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->uuid_type);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_VISIT(self->entries[i].target);
        Py_VISIT(self->entries[i].scope_items);
        Py_VISIT(self->entries[i].names);
    }
    return 0;
}

/*
 * No tp_clear: a cycle through a Router runs through the dicts and objects of its targets, which
 * the collector clears, and so a Router is whole for as long as anybody can reach it.
 */
static void router_dealloc(PyObject *obj)
{
    ta_RouterObject *self = (ta_RouterObject *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_DECREF(self->entries[i].target);
        Py_XDECREF(self->entries[i].scope_items);
        Py_DECREF(self->entries[i].names);
    }
    PyMem_Free(self->entries);
    ta_route_tree_free(self->tree);
    Py_XDECREF(self->uuid_type);
    type->tp_free(obj);
    Py_DECREF(type);
}

/* -- methods ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    match_doc,
    "match($self, method, path, /)\n--\n\n"
    "Return (index, path_params) of the first entry that matches method and path fully.\n\n"
    "None: no entry does, or an opaque one stands before it; the caller's own router decides.");

static PyObject *router_match(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "match() takes 2 arguments (%zd given)", nargs);
        return NULL;
    }
    ta_str method, path;
    if (text_slice(args[0], "method", &method) < 0 || text_slice(args[1], "path", &path) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return NULL;
        PyErr_Clear(); /* lone surrogates: not for us */
        Py_RETURN_NONE;
    }
    ta_match match;
    if (ta_router_match(self, ta_route_method(method), method, path, &match) != TA_OK)
        Py_RETURN_NONE;
    PyObject *params = ta_router_path_params(self, &match);
    if (params == NULL)
        return NULL;
    PyObject *index = PyLong_FromUnsignedLong(match.index);
    PyObject *res = index ? PyTuple_Pack(2, index, params) : NULL;
    Py_XDECREF(index);
    Py_DECREF(params);
    return res;
}

PyDoc_STRVAR(target_doc, "target($self, index, /)\n--\n\nReturn the target of entry `index`.");

static PyObject *router_target(PyObject *self, PyObject *arg)
{
    Py_ssize_t index = PyNumber_AsSsize_t(arg, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return NULL;
    if (index < 0 || index >= as_router(self)->count) {
        PyErr_SetString(PyExc_IndexError, "no such route entry");
        return NULL;
    }
    return Py_NewRef(ta_router_target(self, (uint32_t)index));
}

static Py_ssize_t router_len(PyObject *self)
{
    return as_router(self)->count;
}

static PyMethodDef router_methods[] = {
    {"match", (PyCFunction)(void (*)(void))router_match, METH_FASTCALL, match_doc},
    {"target", router_target, METH_O, target_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(router_doc,
             "Router(entries)\n--\n\n"
             "The route table: entries are tuples (kind, path, methods, target, scope_items)\n"
             "in declaration order, the first that matches wins.  Immutable.");

static PyType_Slot router_slots[] = {
    {Py_tp_doc, (void *)router_doc},
    {Py_tp_new, router_new},
    {Py_tp_dealloc, router_dealloc},
    {Py_tp_traverse, router_traverse},
    {Py_tp_methods, router_methods},
    {Py_sq_length, router_len},
    {0, NULL},
};

static PyType_Spec router_spec = {
    .name = "turboapi._core.Router",
    .basicsize = sizeof(ta_RouterObject),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = router_slots,
};

int ta_router_init(PyObject *module, ta_state *st)
{
    return ta_add_type(module, &router_spec, "Router", &st->o.router.type);
}
