/*
 * passed_response.c -- the response of an inside, as its middleware has it.
 *
 * Layer: py/plan.  Most responses are whole: a status, a list of header pairs and a body.  These
 * are passed from one middleware to the next without being sent, and sent in two messages, if
 * nobody has asked for their body or has given them a background.  The Python subclass
 * (middleware/_http.py) does what there is to be done for all others.
 */
#include "py/plan/passed_response.h"

#include <structmember.h>

#include "py/exchange/asgi_respond.h"
#include "py/plan/header_fields.h"
#include "py/support/types.h"

typedef struct passed_response {
    PyObject_HEAD
    /* Owned, or NULL. */
    PyObject *original; /* NULL: a whole response */
    PyObject *context;  /* that of the inside */
    PyObject *status_code, *raw_headers, *media_type, *background;
    PyObject *on_error, *iterator;
    PyObject *body;    /* bytes of a whole response */
    PyObject *headers; /* HeaderFields over raw_headers, made when asked for */
    char sent;
} passed_response;

static passed_response *cast(PyObject *obj)
{
    return (passed_response *)obj;
}

PyObject *ta_passed_response_new(PyTypeObject *type, PyObject *status, PyObject *raw_headers,
                                 PyObject *body)
{
    PyObject *obj = status ? type->tp_alloc(type, 0) : NULL;
    if (obj == NULL) {
        Py_XDECREF(status);
        Py_XDECREF(raw_headers);
        Py_XDECREF(body);
        return NULL;
    }
    passed_response *response = cast(obj);
    response->status_code = status;
    response->raw_headers = raw_headers;
    response->body = body;
    return obj;
}

/* Is it a whole response that is as it was passed but for status and headers? */
static bool is_whole(const passed_response *response)
{
    return response->body != NULL && response->iterator == NULL &&
           (response->background == NULL || Py_IsNone(response->background));
}

/* Is it one of Starlette's, whose class sends it as Response does? */
static int is_plain(ta_state *st, PyObject *response)
{
    const ta_plan_objects *objects = ta_plan_objects_of(st);
    if (!PyObject_TypeCheck(response, (PyTypeObject *)objects->response_type))
        return 0;
    PyObject *call = PyObject_GetAttr((PyObject *)Py_TYPE(response), st->names.dunder_call);
    Py_XDECREF(call); /* compared only */
    return call == NULL ? -1 : call == objects->response_call;
}

int ta_passed_response_of(ta_state *st, PyTypeObject *type, PyObject *response, PyObject **out)
{
    if (Py_IS_TYPE(response, type)) {
        passed_response *passed = cast(response);
        if (!is_whole(passed) || passed->status_code == NULL || passed->raw_headers == NULL)
            return 0;
        *out = ta_passed_response_new(type, Py_NewRef(passed->status_code),
                                      Py_NewRef(passed->raw_headers), Py_NewRef(passed->body));
        return *out ? 1 : -1;
    }
    int rc = is_plain(st, response);
    if (rc <= 0)
        return rc;
    PyObject *status = NULL, *headers = NULL, *body = NULL, *background = NULL;
    if (PyObject_GetOptionalAttr(response, st->names.background, &background) < 0)
        return -1;
    bool over = background != NULL && Py_IsNone(background);
    Py_XDECREF(background);
    if (!over)
        return 0;
    rc = -1;
    if ((body = PyObject_GetAttr(response, st->names.body)) != NULL &&
        (status = PyObject_GetAttr(response, st->names.status_code)) != NULL &&
        (headers = PyObject_GetAttr(response, st->names.raw_headers)) != NULL)
        rc = PyBytes_CheckExact(body); /* else it may change */
    if (rc == 1) {
        *out = ta_passed_response_new(type, status, headers, body);
        return *out ? 1 : -1;
    }
    Py_XDECREF(status);
    Py_XDECREF(headers);
    Py_XDECREF(body);
    return rc;
}

/* Its head but for the fields, if it is whole: it is about to be sent then. */
static bool begin(passed_response *response, ta_response_head *head)
{
    if (!is_whole(response) || response->status_code == NULL || response->raw_headers == NULL ||
        !PyLong_CheckExact(response->status_code) || !PyList_CheckExact(response->raw_headers))
        return false;
    int overflow;
    long status = PyLong_AsLongAndOverflow(response->status_code, &overflow);
    if (overflow != 0 || status < 100 || status > 999)
        return false;
    response->sent = 1;
    *head = ta_head_bare((int)status);
    return true;
}

/* An awaitable that sends it (new), if it is whole; NULL: not, or with an exception. */
static PyObject *send_messages(ta_state *st, passed_response *response, PyObject *send)
{
    ta_response_head head;
    if (!begin(response, &head))
        return NULL;
    ta_piece body = ta_piece_bytes(response->body);
    return ta_asgi_respond_new(st, NULL, Py_NewRef(send), &head, response->raw_headers, &body);
}

ta_outcome ta_passed_response_send(ta_state *st, PyObject *obj, PyObject *send,
                                   PyObject **awaitable)
{
    passed_response *response = cast(obj);
    ta_response_head head;
    *awaitable = NULL;
    if (!begin(response, &head))
        return TA_WAITS;
    ta_outcome outcome = TA_WAITS;
    PyObject *fields = Py_NewRef(response->raw_headers), *bytes = Py_NewRef(response->body);
    ta_piece body = ta_piece_bytes(bytes);
    ta_exchange *native = ta_asgi_respond_native(st, send, &head, fields, &body);
    if (native != NULL) {
        outcome = native->ops->respond(native, &head, fields, &body, awaitable);
    } else {
        *awaitable = ta_asgi_respond_new(st, NULL, Py_NewRef(send), &head, fields, &body);
        outcome = *awaitable ? TA_WAITS : TA_FAILED;
    }
    Py_DECREF(bytes);
    Py_DECREF(fields);
    return outcome;
}

/* -- the type --------------------------------------------------------------------------------- */

static PyObject *call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) == 3 && (kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0)) {
        ta_state *st = ta_state_of(Py_TYPE(self));
        PyObject *awaitable = send_messages(st, cast(self), PyTuple_GET_ITEM(args, 2));
        if (awaitable != NULL || PyErr_Occurred())
            return awaitable;
    }
    PyObject *serve = PyObject_GetAttrString(self, "_serve");
    PyObject *res = serve ? PyObject_Call(serve, args, kwargs) : NULL;
    Py_XDECREF(serve);
    return res;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    passed_response *response = cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(response->original);
    Py_VISIT(response->context);
    Py_VISIT(response->status_code);
    Py_VISIT(response->raw_headers);
    Py_VISIT(response->media_type);
    Py_VISIT(response->background);
    Py_VISIT(response->on_error);
    Py_VISIT(response->iterator);
    Py_VISIT(response->body);
    Py_VISIT(response->headers);
    return 0;
}

static int clear(PyObject *self)
{
    passed_response *response = cast(self);
    Py_CLEAR(response->original);
    Py_CLEAR(response->context);
    Py_CLEAR(response->status_code);
    Py_CLEAR(response->raw_headers);
    Py_CLEAR(response->media_type);
    Py_CLEAR(response->background);
    Py_CLEAR(response->on_error);
    Py_CLEAR(response->iterator);
    Py_CLEAR(response->body);
    Py_CLEAR(response->headers);
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

/* clang-format off */
#define MEMBER(name, field) {name, T_OBJECT, offsetof(passed_response, field), 0, NULL}
/* clang-format on */

static PyMemberDef members[] = {
    MEMBER("original", original),
    MEMBER("context", context),
    MEMBER("status_code", status_code),
    MEMBER("raw_headers", raw_headers),
    MEMBER("media_type", media_type),
    MEMBER("background", background),
    MEMBER("_on_error", on_error),
    MEMBER("_iterator", iterator),
    MEMBER("_body", body),
    {"_headers", T_OBJECT_EX, offsetof(passed_response, headers), 0, NULL},
    {"_sent", T_BOOL, offsetof(passed_response, sent), 0, NULL},
    {NULL},
};

/* Over the list that raw_headers is when this is first asked for, as Response.headers. */
static PyObject *get_headers(PyObject *self, void *Py_UNUSED(closure))
{
    passed_response *response = cast(self);
    if (response->headers != NULL)
        return Py_NewRef(response->headers);
    ta_state *st = ta_state_of(Py_TYPE(self));
    PyObject *headers = NULL, *type = PyObject_GetAttr(self, st->names.private_headers_type);
    if (type == NULL)
        return NULL;
    if (response->raw_headers == NULL)
        PyErr_SetObject(PyExc_AttributeError, st->names.raw_headers);
    else if (!PyType_Check(type) ||
             !PyType_IsSubtype((PyTypeObject *)type, ta_plan_objects_of(st)->header_fields_type))
        PyErr_SetString(PyExc_TypeError, "_headers_type must be a subclass of HeaderFields");
    else
        headers = ta_header_fields_new((PyTypeObject *)type, response->raw_headers);
    Py_DECREF(type);
    response->headers = Py_XNewRef(headers);
    return headers;
}

static PyGetSetDef getset[] = {
    {"headers", get_headers, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The response of an inside, as its middleware has it; see docs/engine.md."},
    {Py_tp_call, call},
    {Py_tp_members, members},
    {Py_tp_getset, getset},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.PassedResponse",
    .basicsize = sizeof(passed_response),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int ta_passed_response_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, "PassedResponse",
                        &ta_plan_objects_of(st)->passed_response_type);
}
