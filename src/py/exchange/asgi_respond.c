/*
 * asgi_respond.c -- sends a whole response through an ASGI `send`, in two messages or, a file's, in
 * several.
 *
 * Layer: py/exchange.
 */
#include "py/exchange/asgi_respond.h"

#include "http/headers.h"
#include "http/status.h"
#include "py/support/coroutine.h"
#include "py/support/spares.h"
#include "py/support/types.h"

typedef struct asgi_respond {
    ta_coroutine co;
    ta_exchange *x;        /* owned, or NULL */
    PyObject *send;        /* owned */
    PyObject *start, *end; /* owned messages, NULL once sent */
    PyObject *file;        /* owned bytes that go in pieces, or NULL: not, or no longer */
    Py_ssize_t at;         /* what was sent of it */
} asgi_respond;

/* {"type": type, key: value}; both borrowed. */
static PyObject *message(ta_state *st, PyObject *type, PyObject *key, PyObject *value)
{
    PyObject *dict = PyDict_New();
    if (dict != NULL &&
        (PyDict_SetItem(dict, st->names.type, type) < 0 || PyDict_SetItem(dict, key, value) < 0))
        Py_CLEAR(dict);
    return dict;
}

static PyObject *bytes_of(ta_str text)
{
    return PyBytes_FromStringAndSize(text.ptr, (Py_ssize_t)text.len);
}

/* Steals name, which may be NULL with an exception. */
static PyObject *new_pair(PyObject *name, ta_str value)
{
    PyObject *text = name ? bytes_of(value) : NULL;
    PyObject *pair = text ? PyTuple_New(2) : NULL;
    if (pair == NULL) {
        Py_XDECREF(text);
        Py_XDECREF(name);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, name);
    PyTuple_SET_ITEM(pair, 1, text);
    return pair;
}

static PyObject *length_pair(const ta_exchange_objects *objects, size_t length)
{
    char text[24];
    size_t n = sizeof text;
    do {
        text[--n] = (char)('0' + length % 10);
        length /= 10;
    } while (length > 0);
    return new_pair(Py_NewRef(objects->content_length), ta_str_of(text + n, sizeof text - n));
}

/* The field of the route's own JSON, which nearly all have, is made once. */
static PyObject *field_pair(const ta_exchange_objects *objects, ta_str name, ta_str value)
{
    if (ta_str_eq(name, TA_STR("content-type")) && ta_str_eq(value, TA_STR("application/json")))
        return Py_NewRef(objects->json_type);
    return new_pair(bytes_of(name), value);
}

/* The fields as a list of pairs, content-length before them where the status allows it. */
static PyObject *header_list(const ta_exchange_objects *objects, const ta_response_head *head,
                             size_t body_len)
{
    bool adds_length = head->length < 0 && ta_status_adds_length(head->status);
    Py_ssize_t n = (Py_ssize_t)head->nfields + adds_length;
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        const ta_field *field = &head->fields[i - adds_length];
        PyObject *pair = adds_length && i == 0
                             ? length_pair(objects, body_len)
                             : field_pair(objects, ta_field_name(head->text, field),
                                          ta_field_value(head->text, field));
        if (pair == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

static PyObject *start_message(ta_state *st, int status, PyObject *headers)
{
    PyObject *code = PyLong_FromLong(status);
    PyObject *dict =
        code ? message(st, st->names.http_response_start, st->names.status, code) : NULL;
    Py_XDECREF(code);
    if (dict != NULL && PyDict_SetItem(dict, st->names.headers, headers) < 0)
        Py_CLEAR(dict);
    return dict;
}

/* The body as bytes: its owner if that is just this, else a copy.  New reference, or NULL. */
static PyObject *body_bytes(const ta_piece *body)
{
    PyObject *owner = body->owner;
    if (owner != NULL && PyBytes_CheckExact(owner) && PyBytes_AS_STRING(owner) == body->data.ptr &&
        (size_t)PyBytes_GET_SIZE(owner) == body->data.len)
        return Py_NewRef(owner);
    return PyBytes_FromStringAndSize(body->data.ptr, (Py_ssize_t)body->data.len);
}

/* The next message with a piece of the file.  As Starlette's, a last one that is full is followed
 * by an empty one. */
static PyObject *next_piece(asgi_respond *resp)
{
    ta_state *st = ta_state_of_class(Py_TYPE(resp));
    Py_ssize_t n = TA_MIN(PyBytes_GET_SIZE(resp->file) - resp->at, TA_FILE_PIECE);
    PyObject *piece = PyBytes_FromStringAndSize(PyBytes_AS_STRING(resp->file) + resp->at, n);
    PyObject *msg = piece ? message(st, st->names.http_response_body, st->names.body, piece) : NULL;
    Py_XDECREF(piece);
    bool more = n == TA_FILE_PIECE;
    if (msg != NULL && PyDict_SetItem(msg, st->names.more_body, more ? Py_True : Py_False) < 0)
        Py_CLEAR(msg);
    resp->at += n;
    if (!more)
        Py_CLEAR(resp->file);
    return msg;
}

/* The next message, a new reference; NULL: there is none, or with an exception. */
static PyObject *next_message(asgi_respond *resp)
{
    if (resp->start == NULL && resp->file != NULL)
        return next_piece(resp);
    PyObject **next = resp->start ? &resp->start : &resp->end;
    PyObject *msg = *next;
    *next = NULL;
    return msg;
}

static ta_outcome respond_advance(ta_coroutine *co, PyObject *value)
{
    asgi_respond *resp = (asgi_respond *)co;
    ta_outcome outcome = TA_FAILED;
    TA_ASSERT(resp->send != NULL); /* not after its end */
    bool failed = value == NULL && PyErr_Occurred();
    Py_XDECREF(value);
    if (!failed) {
        if (resp->x != NULL)
            resp->x->response_started = true;
        PyObject *msg = next_message(resp);
        if (msg == NULL) {
            outcome = PyErr_Occurred() ? TA_FAILED : TA_DONE;
        } else {
            PyObject *aw = PyObject_CallOneArg(resp->send, msg);
            Py_DECREF(msg);
            if (aw != NULL)
                outcome = ta_coroutine_await(co, aw);
        }
    }
    if (outcome != TA_WAITS) {
        Py_CLEAR(resp->x);
        Py_CLEAR(resp->send);
        Py_CLEAR(resp->start);
        Py_CLEAR(resp->end);
        Py_CLEAR(resp->file);
    }
    return outcome;
}

int ta_asgi_respond_parts(ta_state *st, const ta_response_head *head, PyObject *raw_headers,
                          const ta_piece *body, PyObject **list, PyObject **bytes)
{
    *bytes = body_bytes(body);
    *list = raw_headers ? Py_NewRef(raw_headers)
                        : header_list(ta_exchange_objects_of(st), head, body->data.len);
    if (*bytes != NULL && *list != NULL)
        return 0;
    Py_CLEAR(*bytes);
    Py_CLEAR(*list);
    return -1;
}

PyObject *ta_asgi_respond_new(ta_state *st, ta_exchange *exchange, PyObject *send,
                              const ta_response_head *head, PyObject *raw_headers,
                              const ta_piece *body)
{
    PyObject *list = NULL, *bytes = NULL;
    asgi_respond *resp = (asgi_respond *)ta_spares_take(ta_exchange_objects_of(st)->spare_responds);
    if (resp == NULL) {
        Py_DECREF(send);
        return NULL;
    }
    memset((char *)resp + sizeof(PyObject), 0, sizeof *resp - sizeof(PyObject));
    ta_coroutine_init(&resp->co, respond_advance);
    resp->x = (ta_exchange *)Py_XNewRef((PyObject *)exchange);
    resp->send = send;
    if (ta_asgi_respond_parts(st, head, raw_headers, body, &list, &bytes) == 0) {
        resp->start = start_message(st, head->status, list);
        resp->end = message(st, st->names.http_response_body, st->names.body, bytes);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(list);
    PyObject_GC_Track(resp);
    if (resp->start == NULL || resp->end == NULL)
        Py_CLEAR(resp);
    return (PyObject *)resp;
}

PyObject *ta_asgi_respond_file(ta_state *st, ta_exchange *exchange, PyObject *send,
                               const ta_response_head *head, PyObject *raw_headers, PyObject *file)
{
    TA_ASSERT(PyBytes_CheckExact(file));
    ta_piece body = ta_piece_bytes(file);
    PyObject *obj = ta_asgi_respond_new(st, exchange, send, head, raw_headers, &body);
    if (obj != NULL && PyBytes_GET_SIZE(file) >= TA_FILE_PIECE) {
        asgi_respond *resp = (asgi_respond *)obj;
        Py_CLEAR(resp->end);
        resp->file = Py_NewRef(file);
    }
    return obj;
}

/* Returns whether a list of pairs has a content-length that is a number, and that number. */
static bool has_length(PyObject *list, size_t length)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *pair = PyList_GET_ITEM(list, i), *name, *value;
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2)
            return false;
        name = PyTuple_GET_ITEM(pair, 0);
        value = PyTuple_GET_ITEM(pair, 1);
        int64_t said;
        if (!PyBytes_CheckExact(name) || !PyBytes_CheckExact(value))
            return false;
        if (ta_str_ieq(ta_piece_bytes(name).data, TA_STR("content-length")))
            return ta_length_of(ta_piece_bytes(value).data, &said) && (uint64_t)said == length;
    }
    return false;
}

/* Returns whether the fields tell the length of the body, or leave that to who sends it.  Of others
 * the messages may be refused, or sent in chunks. */
static bool is_measured(const ta_response_head *head, PyObject *raw_headers, const ta_piece *body)
{
    size_t length = body->data.len;
    bool known;
    if (raw_headers == NULL)
        return head->length < 0 || (uint64_t)head->length == length;
    if (!PyList_CheckExact(raw_headers))
        return false;
    Py_BEGIN_CRITICAL_SECTION(raw_headers);
    known = has_length(raw_headers, length);
    Py_END_CRITICAL_SECTION();
    return known;
}

ta_exchange *ta_asgi_respond_native(ta_state *st, PyObject *send, const ta_response_head *head,
                                    PyObject *raw_headers, const ta_piece *body)
{
    ta_exchange *x = ta_exchange_of_method(st, send);
    if (x == NULL || ((PyCFunctionObject *)send)->m_ml != x->ops->send_def ||
        !is_measured(head, raw_headers, body))
        return NULL;
    return x->ops->may_respond(x) ? x : NULL;
}

static int respond_traverse(PyObject *self, visitproc visit, void *arg)
{
    asgi_respond *resp = (asgi_respond *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(resp->x);
    Py_VISIT(resp->send);
    Py_VISIT(resp->start);
    Py_VISIT(resp->end);
    Py_VISIT(resp->file);
    return ta_coroutine_traverse(&resp->co, visit, arg);
}

static int respond_clear(PyObject *self)
{
    asgi_respond *resp = (asgi_respond *)self;
    resp->co.finished = true;
    ta_coroutine_clear(&resp->co);
    Py_CLEAR(resp->x);
    Py_CLEAR(resp->send);
    Py_CLEAR(resp->start);
    Py_CLEAR(resp->end);
    Py_CLEAR(resp->file);
    return 0;
}

static void respond_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    respond_clear(obj);
    ta_spares_give(ta_exchange_objects_of(ta_state_of_class(type))->spare_responds, obj);
    Py_DECREF(type);
}

#define CO_TYPE_FLAGS (TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyMethodDef co_methods[] = {TA_COROUTINE_METHODS, {NULL, NULL, 0, NULL}};
static PyGetSetDef co_getset[] = {TA_COROUTINE_GETSET, {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot respond_slots[] = {TA_COROUTINE_SLOTS,
                                      {Py_tp_dealloc, respond_dealloc},
                                      {Py_tp_traverse, respond_traverse},
                                      {Py_tp_clear, respond_clear},
                                      {Py_tp_methods, co_methods},
                                      {Py_tp_getset, co_getset},
                                      {0, NULL}};
static PyType_Spec respond_spec = {.name = "turboapi._core.AsgiRespond",
                                   .basicsize = sizeof(asgi_respond),
                                   .flags = CO_TYPE_FLAGS,
                                   .slots = respond_slots};

int ta_asgi_respond_init(PyObject *module, ta_state *st)
{
    ta_exchange_objects *objects = ta_exchange_objects_of(st);
    objects->content_length = PyBytes_FromString("content-length");
    objects->json_type = Py_BuildValue("(yy)", "content-type", "application/json");
    if (objects->content_length == NULL || objects->json_type == NULL)
        return -1;
    if (ta_types_add(module, &respond_spec, NULL, &objects->respond_type) < 0)
        return -1;
    objects->spare_responds = ta_spares_new(st, objects->respond_type);
    return objects->spare_responds ? 0 : -1;
}
