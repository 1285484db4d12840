/*
 * inner_filter.c -- `_core.InnerFilter`: Starlette's CORS, TrustedHost and HTTPSRedirect where
 * other middleware is outside of them, as ASGI applications that call the next one without a frame
 * of their own.
 *
 * Layer: py (L4).  Python classes derive from it and from Starlette's (middleware/_filters.py),
 * whose code does all that is not done here: `_serve` for requests which the middleware answers
 * itself, and for scopes of unusual objects, and `_send_other` for messages of such.
 */
#include "py/server/filters_int.h"

#include <structmember.h>

#include "py/support/types.h"

typedef struct inner_filter {
    PyObject_HEAD
    vectorcallfunc vectorcall; /* NULL until prepared */
    ta_state *st;              /* borrowed: the type keeps the module; NULL until prepared */
    ta_filters *filters;       /* owned: one */
} inner_filter;

/* send() inside of CORS. */
typedef struct cors_send {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    inner_filter *owner;    /* owned */
    PyObject *scope, *send; /* owned */
    PyObject *origin;       /* owned bytes, or NULL: the request has none */
} cors_send;

/* -- fields as Python has them ---------------------------------------------------------------- */

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

/*
 * The value of the first field of that name in a list: 1 and a new reference; 0: there is none; -1:
 * the list, or something in it, is another kind of object.  Sets no exception.
 */
static int find_field(PyObject *headers, ta_str name, PyObject **value)
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

/* As MutableHeaders.__setitem__, in a list of pairs that nobody else has; steals, may be NULL. */
static int set_field(PyObject *list, PyObject *pair)
{
    if (pair == NULL)
        return -1;
    ta_str name = ta_filters_str(PyTuple_GET_ITEM(pair, 0));
    Py_ssize_t first = -1;
    for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; i--) {
        if (!is_named(PyList_GET_ITEM(list, i), name))
            continue;
        if (first >= 0 && PySequence_DelItem(list, first) < 0) {
            Py_DECREF(pair);
            return -1;
        }
        first = i;
    }
    if (first >= 0)
        return PyList_SetItem(list, first, pair); /* steals */
    int rc = PyList_Append(list, pair);
    Py_DECREF(pair);
    return rc;
}

static PyObject *new_pair(ta_str name, ta_str value)
{
    PyObject *pair = PyTuple_New(2), *key, *text;
    if (pair == NULL)
        return NULL;
    key = PyBytes_FromStringAndSize(name.ptr, (Py_ssize_t)name.len);
    text = PyBytes_FromStringAndSize(value.ptr, (Py_ssize_t)value.len);
    PyTuple_SET_ITEM(pair, 0, key);
    PyTuple_SET_ITEM(pair, 1, text);
    if (key == NULL || text == NULL)
        Py_CLEAR(pair);
    return pair;
}

/* One Vary field of all that there are, and Origin. */
static int add_vary(PyObject *list)
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
    rc |= ta_buf_append_str(&all, TA_STR("Origin"));
    rc = rc ? ta_filters_no_memory() : set_field(list, new_pair(TA_STR("vary"), ta_buf_str(&all)));
    ta_buf_free(&all);
    return rc;
}

/* -- CORS: what is sent ----------------------------------------------------------------------- */

/* What the middleware does to the fields.  0, or -1 with an exception. */
static int change(const cors_send *self, PyObject *list)
{
    const filter *rule = &self->owner->filters->items[0];
    if (self->origin != NULL) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rule->fields); i++)
            if (set_field(list, Py_NewRef(PyTuple_GET_ITEM(rule->fields, i))) < 0)
                return -1;
        ta_str origin = ta_filters_str(self->origin);
        int named = ta_filters_names_origin(rule, origin);
        if (named < 0 ||
            (named && set_field(list, new_pair(TA_STR("access-control-allow-origin"), origin)) < 0))
            return -1;
    }
    return add_vary(list);
}

/* A new list of the fields of a message that begins a response; NULL: an exception may be set, or
 * they are not pairs of bytes. */
static PyObject *fields_of(PyObject *message, PyObject *name)
{
    PyObject *headers = NULL, *list = NULL;
    int rc = PyDict_GetItemRef(message, name, &headers);
    if (rc == 0)
        list = PyList_New(0);
    else if (rc > 0 && (PyList_CheckExact(headers) || PyTuple_CheckExact(headers)))
        list = PySequence_List(headers);
    Py_XDECREF(headers);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++)
        if (!is_pair(PyList_GET_ITEM(list, i)))
            Py_CLEAR(list);
    return list;
}

/* 1: the message is as it shall be sent; 0: it is for Starlette's code; -1 with an exception. */
static int prepare_message(const cors_send *self, PyObject *message)
{
    const ta_names_state *names = &self->owner->st->names;
    PyObject *type = NULL;
    if (!PyDict_CheckExact(message) || PyDict_GetItemRef(message, names->type, &type) <= 0) {
        PyErr_Clear();
        return 0;
    }
    bool starts = ta_asgi_io_same_text(type, names->http_response_start);
    Py_DECREF(type);
    if (!starts)
        return 1;
    PyObject *list = fields_of(message, names->headers);
    if (list == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int rc = change(self, list);
    if (rc == 0)
        rc = PyDict_SetItem(message, names->headers, list);
    Py_DECREF(list);
    return rc < 0 ? -1 : 1;
}

static PyObject *send_message(PyObject *obj, PyObject *message)
{
    cors_send *self = (cors_send *)obj;
    if (self->owner == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the middleware is gone");
        return NULL;
    }
    int rc = prepare_message(self, message);
    if (rc < 0)
        return NULL;
    if (rc == 1)
        return PyObject_CallOneArg(self->send, message);
    return PyObject_CallMethod((PyObject *)self->owner, "_send_other", "OOO", message, self->send,
                               self->scope);
}

/* With other arguments than one by position. */
static PyObject *send_other(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"message", NULL};
    PyObject *message;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:send", keywords, &message))
        return NULL;
    return send_message(obj, message);
}

static PyObject *send_vectorcall(PyObject *obj, PyObject *const *args, size_t nargsf,
                                 PyObject *kwnames)
{
    if (TA_LIKELY(PyVectorcall_NARGS(nargsf) == 1 && kwnames == NULL))
        return send_message(obj, args[0]);
    return ta_types_call_by_tuple(send_other, obj, args, nargsf, kwnames);
}

static PyObject *new_send(inner_filter *owner, PyObject *scope, PyObject *send, PyObject *origin)
{
    cors_send *self =
        PyObject_GC_New(cors_send, ta_server_objects_of(owner->st)->server.cors_send_type);
    if (self == NULL)
        return NULL;
    self->vectorcall = send_vectorcall;
    self->owner = (inner_filter *)Py_NewRef((PyObject *)owner);
    self->scope = Py_NewRef(scope);
    self->send = Py_NewRef(send);
    self->origin = Py_XNewRef(origin);
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

static int send_traverse(PyObject *obj, visitproc visit, void *arg)
{
    cors_send *self = (cors_send *)obj;
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT((PyObject *)self->owner);
    Py_VISIT(self->scope);
    Py_VISIT(self->send);
    return 0;
}

static int send_clear(PyObject *obj)
{
    cors_send *self = (cors_send *)obj;
    Py_CLEAR(self->owner);
    Py_CLEAR(self->scope);
    Py_CLEAR(self->send);
    return 0;
}

static void send_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    (void)send_clear(obj);
    Py_CLEAR(((cors_send *)obj)->origin);
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

/* -- requests --------------------------------------------------------------------------------- */

/* Returns whether scope[name] is a text, and one of the two. */
static bool is_one_of(PyObject *scope, PyObject *name, PyObject *one, PyObject *other, bool *there)
{
    PyObject *text = NULL;
    *there = PyDict_GetItemRef(scope, name, &text) > 0 && PyUnicode_Check(text);
    bool same = *there && (ta_asgi_io_same_text(text, one) || ta_asgi_io_same_text(text, other));
    Py_XDECREF(text);
    PyErr_Clear();
    return same;
}

/* Returns whether the middleware passes the request on; its Origin (new reference) for CORS. */
static bool passes(const inner_filter *self, PyObject *scope, PyObject **origin)
{
    const ta_names_state *names = &self->st->names;
    const filter *rule = &self->filters->items[0];
    PyObject *headers = NULL, *value = NULL;
    bool there, ok = false;
    if (!PyDict_CheckExact(scope) ||
        !is_one_of(scope, names->type, names->http, names->http, &there))
        return false;
    if (rule->kind == FILTER_HTTPS)
        return !is_one_of(scope, names->scheme, names->http, names->ws, &there) && there;
    if (PyDict_GetItemRef(scope, names->headers, &headers) <= 0) {
        PyErr_Clear();
        return false;
    }
    if (rule->kind == FILTER_HOSTS) {
        ok = find_field(headers, TA_STR("host"), &value) > 0 &&
             ta_filters_host_allowed(rule, ta_filters_str(value));
    } else {
        int rc = find_field(headers, TA_STR("origin"), origin);
        ok = rc == 0;
        /* A preflight has both. */
        if (rc == 1)
            ok = find_field(headers, TA_STR("access-control-request-method"), &value) == 0;
    }
    Py_XDECREF(value);
    Py_DECREF(headers);
    return ok;
}

/* What the application inside returns for the request. */
static PyObject *pass_on(inner_filter *self, PyObject *const *args, PyObject *origin)
{
    PyObject *res = NULL, *send = NULL,
             *app = PyObject_GetAttr((PyObject *)self, self->st->names.app);
    if (app == NULL)
        return NULL;
    if (self->filters->items[0].kind == FILTER_CORS)
        send = new_send(self, args[0], args[2], origin);
    else
        send = Py_NewRef(args[2]);
    if (send != NULL)
        res = ta_exchange_call_app(self->st, app, args[0], args[1], send);
    Py_XDECREF(send);
    Py_DECREF(app);
    return res;
}

/* Other arguments and requests, and what is not prepared. */
static PyObject *call_other(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    PyObject *serve = PyObject_GetAttrString(obj, "_serve");
    PyObject *res = serve ? PyObject_Call(serve, args, kwargs) : NULL;
    Py_XDECREF(serve);
    return res;
}

static PyObject *vectorcall(PyObject *obj, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    inner_filter *self = (inner_filter *)obj;
    PyObject *origin = NULL, *res = NULL;
    if (PyVectorcall_NARGS(nargsf) == 3 && kwnames == NULL && passes(self, args[0], &origin))
        res = pass_on(self, args, origin);
    else
        res = ta_types_call_by_tuple(call_other, obj, args, nargsf, kwnames);
    Py_XDECREF(origin);
    return res;
}

static PyObject *call(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    return ((inner_filter *)obj)->vectorcall ? PyVectorcall_Call(obj, args, kwargs)
                                             : call_other(obj, args, kwargs);
}

/* -- the types -------------------------------------------------------------------------------- */

static PyObject *prepare(PyObject *obj, PyTypeObject *defining_class, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *Py_UNUSED(kwnames))
{
    inner_filter *self = (inner_filter *)obj;
    if (nargs != 1 || !PyTuple_Check(args[0]) || PyTuple_GET_SIZE(args[0]) != 1 ||
        self->st != NULL) {
        PyErr_SetString(PyExc_TypeError, "_prepare((filter,)), once");
        return NULL;
    }
    ta_filters *filters = ta_filters_new(args[0]);
    if (filters == NULL)
        return NULL;
    filter_kind kind = filters->items[0].kind;
    if (kind != FILTER_CORS && kind != FILTER_HOSTS && kind != FILTER_HTTPS) {
        ta_filters_free(filters);
        PyErr_SetString(PyExc_ValueError, "_prepare(): a filter that only looks at fields");
        return NULL;
    }
    self->filters = filters;
    self->st = ta_state_of_class(defining_class);
    self->vectorcall = vectorcall;
    Py_RETURN_NONE;
}

static int filter_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    return ta_filters_traverse(((inner_filter *)obj)->filters, visit, arg);
}

static void filter_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    ta_filters_free(((inner_filter *)obj)->filters);
    type->tp_free(obj);
    Py_DECREF(type);
}

static PyMethodDef filter_methods[] = {
    {"_prepare", (PyCFunction)(void (*)(void))prepare, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "_prepare($self, filters, /)\n--\n\nTake the options: one filter, as `_core.App` has them."},
    {NULL},
};

static PyMemberDef filter_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(inner_filter, vectorcall), READONLY, NULL},
    {NULL},
};

static PyType_Slot filter_slots[] = {
    {Py_tp_doc, "A middleware of Starlette's inside of other middleware; see docs/engine.md."},
    {Py_tp_call, call},
    {Py_tp_methods, filter_methods},
    {Py_tp_members, filter_members},
    {Py_tp_traverse, filter_traverse},
    {Py_tp_dealloc, filter_dealloc},
    {0, NULL},
};

static PyType_Spec filter_spec = {
    .name = "turboapi._core.InnerFilter",
    .basicsize = sizeof(inner_filter),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = filter_slots,
};

static PyMemberDef send_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(cors_send, vectorcall), READONLY, NULL},
    {NULL},
};

static PyType_Slot send_slots[] = {
    {Py_tp_doc, "send() inside of CORS."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, send_members},
    {Py_tp_traverse, send_traverse},
    {Py_tp_clear, send_clear},
    {Py_tp_dealloc, send_dealloc},
    {0, NULL},
};

static PyType_Spec send_spec = {
    .name = "turboapi._core.CORSSend",
    .basicsize = sizeof(cors_send),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = send_slots,
};

int ta_inner_filter_init(PyObject *module, ta_state *st)
{
    ta_server_types *types = &ta_server_objects_of(st)->server;
    if (ta_types_add(module, &filter_spec, "InnerFilter", &types->inner_filter_type) < 0)
        return -1;
    return ta_types_add(module, &send_spec, NULL, &types->cors_send_type);
}
