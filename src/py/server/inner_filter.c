/*
 * inner_filter.c -- `_core.InnerFilter`: Starlette's CORS, GZip, TrustedHost and HTTPSRedirect
 * where other middleware is outside of them, as ASGI applications that call the next one without a
 * frame of their own.
 *
 * Layer: py (L4).  Python classes derive from it and from Starlette's (middleware/_filters.py),
 * whose code does all that is not done here: `_serve` for requests which the middleware answers
 * itself, and for scopes of unusual objects, and `_send_other` and `_take_over` for messages of
 * such.
 */
#include "py/server/inner_filter_int.h"

#include <structmember.h>

#include "py/support/types.h"

/* send() inside of CORS. */
typedef struct cors_send {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    inner_filter *owner;    /* owned */
    PyObject *scope, *send; /* owned */
    PyObject *origin;       /* owned bytes, or NULL: the request has none */
} cors_send;

/* -- CORS: what is sent ----------------------------------------------------------------------- */

/* What the middleware does to the fields.  0, or -1 with an exception. */
static int change(const cors_send *self, PyObject *list)
{
    const filter *rule = &self->owner->filters->items[0];
    if (self->origin != NULL) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rule->fields); i++)
            if (ta_inner_fields_put(list, Py_NewRef(PyTuple_GET_ITEM(rule->fields, i))) < 0)
                return -1;
        ta_str origin = ta_filters_str(self->origin);
        int named = ta_filters_names_origin(rule, origin);
        if (named < 0 ||
            (named && ta_inner_fields_set(list, TA_STR("access-control-allow-origin"), origin) < 0))
            return -1;
    }
    return ta_inner_fields_add_vary(list, TA_STR("Origin"));
}

/* A new list of the fields of a message that begins a response; NULL: an exception may be set, or
 * they are not pairs of bytes. */
static PyObject *fields_of(PyObject *message, PyObject *name)
{
    PyObject *headers = NULL, *list = NULL;
    int rc = PyDict_GetItemRef(message, name, &headers);
    if (rc == 0)
        list = PyList_New(0);
    else if (rc > 0)
        list = ta_inner_fields_copy(headers);
    Py_XDECREF(headers);
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

/* Returns whether the middleware passes the request on, and the field of the request (new
 * reference, or NULL) on which the response depends: Origin for CORS, Accept-Encoding for GZip. */
static bool passes(const inner_filter *self, PyObject *scope, PyObject **field)
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
        ok = ta_inner_fields_find(headers, TA_STR("host"), &value) > 0 &&
             ta_filters_host_allowed(rule, ta_filters_str(value));
    } else if (rule->kind == FILTER_PACK) {
        ok = ta_inner_fields_find(headers, TA_STR("accept-encoding"), field) >= 0;
    } else {
        int rc = ta_inner_fields_find(headers, TA_STR("origin"), field);
        ok = rc == 0;
        /* A preflight has both. */
        if (rc == 1)
            ok =
                ta_inner_fields_find(headers, TA_STR("access-control-request-method"), &value) == 0;
    }
    Py_XDECREF(value);
    Py_DECREF(headers);
    return ok;
}

/* As Starlette's GZip asks. */
static bool has_gzip(ta_str accepted)
{
    return accepted.len >= 4 && memmem(accepted.ptr, accepted.len, "gzip", 4) != NULL;
}

/* What the middleware gives to the inside as send(): a new reference. */
static PyObject *send_for(inner_filter *self, PyObject *scope, PyObject *send, PyObject *field)
{
    switch (self->filters->items[0].kind) {
    case FILTER_CORS:
        return new_send(self, scope, send, field);
    case FILTER_PACK:
        return ta_inner_gzip_send_new(self, send, field != NULL && has_gzip(ta_filters_str(field)));
    default:
        return Py_NewRef(send);
    }
}

/* What the application inside returns for the request. */
static PyObject *pass_on(inner_filter *self, PyObject *const *args, PyObject *field)
{
    PyObject *res = NULL, *send = NULL,
             *app = PyObject_GetAttr((PyObject *)self, self->st->names.app);
    if (app == NULL)
        return NULL;
    if ((send = send_for(self, args[0], args[2], field)) != NULL)
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
    PyObject *field = NULL, *res = NULL;
    if (PyVectorcall_NARGS(nargsf) == 3 && kwnames == NULL && passes(self, args[0], &field))
        res = pass_on(self, args, field);
    else
        res = ta_types_call_by_tuple(call_other, obj, args, nargsf, kwnames);
    Py_XDECREF(field);
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
    const filter *rule = &filters->items[0];
    if (rule->kind == FILTER_SESSION || (rule->kind == FILTER_PACK && rule->chooses)) {
        ta_filters_free(filters);
        PyErr_SetString(PyExc_ValueError, "_prepare(): a filter that there is inside, too");
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
    ta_packer_free(atomic_load(&((inner_filter *)obj)->packer));
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
    if (ta_types_add(module, &send_spec, NULL, &types->cors_send_type) < 0)
        return -1;
    return ta_inner_gzip_init(module, st);
}
