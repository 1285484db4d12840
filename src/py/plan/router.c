/* router.c -- see router.h. */
#include "py/plan/router.h"

#include "http/headers.h"
#include "http/method.h"
#include "py/plan/plan_objects.h"
#include "py/support/types.h"

typedef struct router_entry {
    PyObject *target;      /* owned */
    PyObject *scope_items; /* owned dict, or NULL */
    PyObject *names;       /* owned tuple of interned str */
    PyObject *extra;       /* owned: see read_extra; or NULL */
    bool host;             /* of kind "host" */
} router_entry;

typedef struct ta_RouterObject {
    PyObject_HEAD
    ta_route_tree *tree;   /* owned */
    router_entry *entries; /* owned, `count` of them */
    Py_ssize_t count;
    PyObject *uuid_type; /* owned */
    PyObject *no_path;   /* owned: the empty str */
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

/* What Starlette's convertor makes of one value: new reference, or NULL with its exception. */
static PyObject *convert(PyObject *router, ta_route_conv conv, ta_str value)
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

static ta_route_kind kind_of(PyObject *router, uint32_t index)
{
    return ta_route_tree_kind(as_router(router)->tree, index);
}

PyObject *ta_router_path_params(PyObject *router, const ta_match *match)
{
    uint32_t n;
    const ta_route_param *params = ta_route_tree_params(as_router(router)->tree, match->index, &n);
    PyObject *names = as_router(router)->entries[match->index].names;
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    n = match->nparams;
    if (kind_of(router, match->index) == TA_ROUTE_MOUNT)
        n--;
    for (uint32_t i = 0; i < n; i++) {
        PyObject *value = convert(router, params[i].conv, match->values[i]);
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

ta_route_found ta_router_find(PyObject *router, ta_method method_id, ta_str method, ta_str path,
                              uint32_t start, ta_match *out)
{
    return ta_route_tree_find(as_router(router)->tree, method_id, method, path, start, out);
}

/* "name" or "name:port" of the usual characters, with the name in lower case; Python reads others.
 * Length of the name, 0 when it is none. */
static size_t plain_host(ta_str value, char *out, size_t size)
{
    size_t n = 0;
    while (n < value.len && value.ptr[n] != ':') {
        char c = ta_ascii_lower(value.ptr[n]);
        if (n == size ||
            !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return 0;
        out[n++] = c;
    }
    if (n + 1 == value.len)
        return 0;
    for (size_t i = n + 1; i < value.len; i++)
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return 0;
    return n;
}

int ta_router_ask_host(PyObject *router, uint32_t index, const ta_str *host)
{
    const router_entry *entry = &as_router(router)->entries[index];
    char name[256];
    TA_ASSERT(index < (size_t)as_router(router)->count);
    if (!entry->host || entry->extra == NULL)
        return -1;
    if (host == NULL)
        return 0;
    size_t len = plain_host(*host, name, sizeof name);
    if (len == 0)
        return -1;
    if (PyBytes_CheckExact(entry->extra))
        return ta_str_eq(ta_str_of(name, len), ta_str_of(PyBytes_AS_STRING(entry->extra),
                                                         (size_t)PyBytes_GET_SIZE(entry->extra)));
    PyObject *text = PyUnicode_DecodeASCII(name, (Py_ssize_t)len, NULL);
    PyObject *found = text ? PyObject_CallOneArg(entry->extra, text) : NULL;
    int rc = found ? !Py_IsNone(found) : -1;
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(found);
    return rc;
}

bool ta_router_allow(PyObject *router, uint32_t index, ta_str *out)
{
    const router_entry *entry = &as_router(router)->entries[index];
    if (entry->host || entry->extra == NULL)
        return false;
    *out = ta_str_of(PyBytes_AS_STRING(entry->extra), (size_t)PyBytes_GET_SIZE(entry->extra));
    return true;
}

PyObject *ta_router_target(PyObject *router, uint32_t index)
{
    return as_router(router)->entries[index].target;
}

PyObject *ta_router_scope_items(PyObject *router, uint32_t index)
{
    return as_router(router)->entries[index].scope_items;
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

static int parse_kind(PyObject *obj, ta_route_kind *out, bool *host)
{
    static const char *const names[] = {"route", "mount", "any", "host"};
    ta_str text;
    if (text_slice(obj, "kind", &text) < 0)
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
    if (text_slice(path, "path", &path_text) < 0)
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

static int add_entry(ta_RouterObject *self, PyObject *item)
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
    self->entries[self->count++] = (router_entry){
        .target = Py_NewRef(target),
        .scope_items = scope_items == Py_None ? NULL : Py_NewRef(scope_items),
        .names = names,
        .extra = extra,
        .host = host,
    };
    return 0;
}

static PyObject *router_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"entries", NULL};
    PyObject *entries;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Router", keywords, &entries))
        return NULL;
    ta_state *st = ta_state_of(type);
    if (st == NULL)
        return NULL;
    ta_RouterObject *self = (ta_RouterObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->uuid_type = Py_NewRef((PyObject *)ta_json_objects_of(st)->uuid_type);
    self->no_path = PyUnicode_FromString("");
    PyObject *items = self->no_path ? PySequence_Tuple(entries) : NULL;
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
        Py_VISIT(self->entries[i].extra);
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
        Py_XDECREF(self->entries[i].extra);
    }
    PyMem_Free(self->entries);
    ta_route_tree_free(self->tree);
    Py_XDECREF(self->uuid_type);
    Py_XDECREF(self->no_path);
    type->tp_free(obj);
    Py_DECREF(type);
}

/* -- methods ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    match_doc,
    "match($self, method, path, /)\n--\n\n"
    "Return (index, path_params) of the first entry that matches method and path fully.\n\n"
    "None: no entry does, or an opaque one stands before it; the caller's own router decides.");

/* ta_router_find for the arguments (method, path); -1 with an exception. */
static int find_for(PyObject *self, PyObject *const *args, uint32_t start, ta_match *match)
{
    ta_str method, path;
    if (text_slice(args[0], "method", &method) < 0 || text_slice(args[1], "path", &path) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear(); /* lone surrogates: not for us */
        return TA_FOUND_GAVE_UP;
    }
    return (int)ta_router_find(self, ta_method_of(method), method, path, start, match);
}

static PyObject *router_match(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "match() takes 2 arguments (%zd given)", nargs);
        return NULL;
    }
    ta_match match;
    int found = find_for(self, args, 0, &match);
    if (found < 0)
        return NULL;
    if (found != TA_FOUND_FULL || kind_of(self, match.index) != TA_ROUTE_ROUTE)
        Py_RETURN_NONE;
    PyObject *params = ta_router_path_params(self, &match);
    return params ? Py_BuildValue("(IN)", match.index, params) : NULL;
}

PyDoc_STRVAR(
    find_doc,
    "find($self, method, path, start=0, /)\n--\n\n"
    "Return what Starlette's Router would find among the entries from `start` on, as a tuple:\n"
    "(0, None, None): nothing; (1, index, None): the first entry that matches but for the method;\n"
    "(2, index, path_params): the first that matches, path_params is None for a mount;\n"
    "(3, index, partial): that entry has to be asked, partial is the first before it that matches\n"
    "but for the method, or None.  None: it gave up.");

static PyObject *router_find(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 2 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "find() takes 2 or 3 arguments (%zd given)", nargs);
        return NULL;
    }
    uint32_t start = 0;
    if (nargs == 3) {
        unsigned long n = PyLong_AsUnsignedLong(args[2]);
        if (n == (unsigned long)-1 && PyErr_Occurred())
            return NULL;
        start = (uint32_t)TA_MIN(n, (unsigned long)UINT32_MAX);
    }
    ta_match match;
    int found = find_for(self, args, start, &match);
    switch (found) {
    case TA_FOUND_NONE:
        return Py_BuildValue("(iOO)", found, Py_None, Py_None);
    case TA_FOUND_PARTIAL:
        return Py_BuildValue("(iIO)", found, match.partial, Py_None);
    case TA_FOUND_FULL: {
        if (kind_of(self, match.index) != TA_ROUTE_ROUTE)
            return Py_BuildValue("(iIO)", found, match.index, Py_None);
        PyObject *params = ta_router_path_params(self, &match);
        return params ? Py_BuildValue("(iIN)", found, match.index, params) : NULL;
    }
    case TA_FOUND_ASK:
        if (match.partial == TA_ROUTE_NONE)
            return Py_BuildValue("(iIO)", found, match.index, Py_None);
        return Py_BuildValue("(iII)", found, match.index, match.partial);
    case TA_FOUND_GAVE_UP:
        Py_RETURN_NONE;
    default:
        return NULL;
    }
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
    {"find", (PyCFunction)(void (*)(void))router_find, METH_FASTCALL, find_doc},
    {"target", router_target, METH_O, target_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    router_doc,
    "Router(entries)\n--\n\n"
    "The route table: entries are tuples (kind, path, methods, target, scope_items, extra)\n"
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
    return ta_add_type(module, &router_spec, "Router", &ta_plan_objects_of(st)->router_type);
}
