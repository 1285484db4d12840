/* router.c -- see router.h. */
#include "py/plan/router_int.h"

#include "http/headers.h"
#include "http/method.h"
#include "py/plan/plan_objects.h"
#include "py/support/types.h"

/* -- values ------------------------------------------------------------------------------------ */

static PyObject *convert_int(ta_str value)
{
    int64_t n;
    if (ta_conv_int(value, &n) == TA_OK)
        return PyLong_FromLongLong(n);
    PyObject *text = ta_router_str(value);
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
    PyObject *text = ta_router_str(value);
    if (text == NULL)
        return NULL;
    PyObject *res = PyFloat_FromString(text);
    Py_DECREF(text);
    return res;
}

/* Converts one value as Starlette's convertor does: new reference, or NULL with its exception. */
static PyObject *convert(PyObject *router, ta_route_conv conv, ta_str value)
{
    switch (conv) {
    case TA_CONV_INT:
        return convert_int(value);
    case TA_CONV_FLOAT:
        return convert_float(value);
    case TA_CONV_UUID: {
        PyObject *text = ta_router_str(value);
        if (text == NULL)
            return NULL;
        PyObject *res = PyObject_CallOneArg(ta_router_of(router)->uuid_type, text);
        Py_DECREF(text);
        return res;
    }
    case TA_CONV_STR:
    case TA_CONV_PATH:
        break;
    }
    return ta_router_str(value);
}

static ta_route_kind kind_of(PyObject *router, uint32_t index)
{
    return ta_route_tree_kind(ta_router_of(router)->tree, index);
}

PyObject *ta_router_path_params(PyObject *router, const ta_match *match)
{
    uint32_t n;
    const ta_route_param *params =
        ta_route_tree_params(ta_router_of(router)->tree, match->index, &n);
    PyObject *names = ta_router_of(router)->entries[match->index].names;
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
    return ta_route_tree_find(ta_router_of(router)->tree, method_id, method, path, start, out);
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
    const ta_router_entry *entry = &ta_router_of(router)->entries[index];
    char name[256];
    TA_ASSERT(index < (size_t)ta_router_of(router)->count);
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
    const ta_router_entry *entry = &ta_router_of(router)->entries[index];
    if (entry->host || entry->extra == NULL)
        return false;
    *out = ta_str_of(PyBytes_AS_STRING(entry->extra), (size_t)PyBytes_GET_SIZE(entry->extra));
    return true;
}

PyObject *ta_router_target(PyObject *router, uint32_t index)
{
    return ta_router_of(router)->entries[index].target;
}

PyObject *ta_router_path(PyObject *router, uint32_t index)
{
    return ta_router_of(router)->entries[index].path;
}

PyObject *ta_router_scope_items(PyObject *router, uint32_t index)
{
    return ta_router_of(router)->entries[index].scope_items;
}

/* -- the type ---------------------------------------------------------------------------------- */

static PyObject *router_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"entries", NULL};
    PyObject *entries;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Router", keywords, &entries))
        return NULL;
    ta_state *st = ta_state_of(type);
    if (st == NULL)
        return NULL;
    ta_router *self = (ta_router *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->uuid_type = Py_NewRef((PyObject *)ta_json_objects_of(st)->uuid_type);
    self->no_path = PyUnicode_FromString("");
    PyObject *items = self->no_path ? PySequence_Tuple(entries) : NULL;
    if (items == NULL)
        goto error;
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    self->entries = PyMem_New(ta_router_entry, n ? n : 1);
    self->tree = ta_route_tree_new();
    if (self->entries == NULL || self->tree == NULL) {
        PyErr_NoMemory();
        goto error;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (ta_router_add(self, PyTuple_GET_ITEM(items, i)) < 0)
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
    const ta_router *self = ta_router_of(obj);
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
    ta_router *self = (ta_router *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_DECREF(self->entries[i].target);
        Py_XDECREF(self->entries[i].scope_items);
        Py_XDECREF(self->entries[i].path);
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
    if (ta_router_text(args[0], "method", &method) < 0 ||
        ta_router_text(args[1], "path", &path) < 0) {
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
    if (index < 0 || index >= ta_router_of(self)->count) {
        PyErr_SetString(PyExc_IndexError, "no such route entry");
        return NULL;
    }
    return Py_NewRef(ta_router_target(self, (uint32_t)index));
}

static Py_ssize_t router_len(PyObject *self)
{
    return ta_router_of(self)->count;
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
    .basicsize = sizeof(ta_router),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = router_slots,
};

int ta_router_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &router_spec, "Router", &ta_plan_objects_of(st)->router_type);
}
