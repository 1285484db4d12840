/*
 * asgi_exchange.c -- the exchange over an ASGI application's scope, receive and send.
 *
 * Layer: py.  The slices point into bytes objects that the exchange keeps alive.
 */
#include "py/exchange/asgi_exchange.h"

#include <structmember.h>

#include "http/method.h"
#include "py/exchange/asgi_respond.h"
#include "py/loop/loop_state.h"
#include "py/support/coroutine.h"
#include "py/support/spares.h"
#include "py/support/types.h"

enum { FEW_HEADERS = 16 };

typedef struct xch_asgi {
    ta_exchange base;
    ta_state *st;             /* borrowed: the type keeps the module */
    PyObject *receive, *send; /* owned, or NULL: over a Request, which is asked itself */
    PyObject *keep;           /* owned tuple of header pairs */
    PyObject *query_string;   /* owned bytes or NULL */
    ta_header *header_array;  /* owned, or NULL: `few` has them */
    /* Of an exchange that keeps its response: owned, or NULL. */
    PyObject *status, *raw_headers, *content;
    ta_header few[FEW_HEADERS]; /* not initialized */
} xch_asgi;

/* The callable that an application sends through: notes that the response has started. */
typedef struct asgi_send {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    xch_asgi *x; /* owned */
} asgi_send;

/* Gathers the body. */
typedef struct asgi_body {
    ta_coroutine co;
    xch_asgi *x;      /* owned */
    PyObject *first;  /* owned: the first chunk that is not empty */
    PyObject *chunks; /* owned list, or NULL before the second chunk */
} asgi_body;

static ta_outcome body_advance(ta_coroutine *co, PyObject *value);

/* A new, zeroed coroutine-like object, not tracked yet. */
static ta_coroutine *new_co(PyTypeObject *type, size_t size,
                            ta_outcome (*advance)(ta_coroutine *, PyObject *))
{
    ta_coroutine *co = PyObject_GC_New(ta_coroutine, type);
    if (co == NULL)
        return NULL;
    memset((char *)co + sizeof(PyObject), 0, size - sizeof(PyObject));
    ta_coroutine_init(co, advance);
    return co;
}

/* -- scope, receive, send ------------------------------------------------------------------ */

static PyObject *unavailable(const char *what)
{
    PyErr_Format(PyExc_RuntimeError, "%s channel has not been made available", what);
    return NULL;
}

static PyObject *asgi_scope(ta_exchange *x)
{
    return Py_NewRef(x->scope_dict);
}

static PyObject *asgi_receive(ta_exchange *x)
{
    xch_asgi *self = (xch_asgi *)x;
    return self->receive ? Py_NewRef(self->receive) : unavailable("Receive");
}

static PyObject *send_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                                 PyObject *kwnames)
{
    xch_asgi *x = ((asgi_send *)self)->x;
    ta_state *st = x->st;
    if (PyVectorcall_NARGS(nargsf) == 1 && PyDict_Check(args[0])) {
        PyObject *type;
        int rc = PyDict_GetItemRef(args[0], st->names.type, &type);
        if (rc < 0)
            return NULL;
        if (rc == 1 && PyUnicode_Check(type) &&
            PyUnicode_Compare(type, st->names.http_response_start) == 0)
            x->base.response_started = true;
        Py_XDECREF(type);
    }
    return PyObject_Vectorcall(x->send, args, nargsf, kwnames);
}

static PyObject *asgi_get_send(ta_exchange *exchange)
{
    xch_asgi *self = (xch_asgi *)exchange;
    if (self->send == NULL)
        return unavailable("Send");
    asgi_send *send = PyObject_GC_New(asgi_send, ta_exchange_objects_of(self->st)->send_type);
    if (send == NULL)
        return NULL;
    send->vectorcall = send_vectorcall;
    send->x = (xch_asgi *)Py_NewRef((PyObject *)self);
    PyObject_GC_Track(send);
    return (PyObject *)send;
}

/* scope[name]: 1 with a new reference; 0: absent; -1. */
static int scope_get(PyObject *scope, PyObject *name, PyObject **out)
{
    if (PyDict_CheckExact(scope))
        return PyDict_GetItemRef(scope, name, out);
    *out = PyObject_GetItem(scope, name);
    if (*out != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_KeyError))
        return -1;
    PyErr_Clear();
    return 0;
}

static PyObject *asgi_path_params(ta_exchange *x)
{
    PyObject *params;
    int rc = scope_get(x->scope_dict, ((xch_asgi *)x)->st->names.path_params, &params);
    if (rc < 0)
        return NULL;
    return rc ? params : PyDict_New();
}

/* -- body ---------------------------------------------------------------------------------- */

static ta_outcome asgi_body_get(ta_exchange *exchange, PyObject **out)
{
    xch_asgi *self = (xch_asgi *)exchange;
    if (exchange->body_bytes != NULL) {
        *out = Py_NewRef(exchange->body_bytes);
        return TA_DONE;
    }
    if (self->receive == NULL) {
        unavailable("Receive");
        return TA_FAILED;
    }
    asgi_body *gather = (asgi_body *)new_co(ta_exchange_objects_of(self->st)->body_type,
                                            sizeof *gather, body_advance);
    if (gather == NULL)
        return TA_FAILED;
    gather->x = (xch_asgi *)Py_NewRef((PyObject *)self);
    PyObject_GC_Track(gather);
    *out = (PyObject *)gather;
    return TA_WAITS;
}

/* Keeps a chunk (borrowed) that is not empty.  0 or -1. */
static int keep_chunk(asgi_body *gather, PyObject *chunk)
{
    if (gather->first == NULL) {
        gather->first = Py_NewRef(chunk);
        return 0;
    }
    if (gather->chunks == NULL) {
        gather->chunks = PyList_New(1);
        if (gather->chunks == NULL)
            return -1;
        PyList_SET_ITEM(gather->chunks, 0, Py_NewRef(gather->first));
    }
    return PyList_Append(gather->chunks, chunk);
}

/* Takes http.request.  TA_DONE: the body is complete; TA_WAITS: more is to come. */
static ta_outcome take_request_message(asgi_body *gather, PyObject *message)
{
    const ta_names_state *names = &gather->x->st->names;
    PyObject *chunk = NULL, *more = NULL;
    ta_outcome outcome = TA_FAILED;
    if (scope_get(message, names->body, &chunk) < 0 ||
        scope_get(message, names->more_body, &more) < 0)
        goto done;
    int some = chunk ? PyObject_IsTrue(chunk) : 0;
    int last = more ? PyObject_Not(more) : 1;
    if (some >= 0 && last >= 0 && (!some || keep_chunk(gather, chunk) == 0))
        outcome = last ? TA_DONE : TA_WAITS;
done:
    Py_XDECREF(chunk);
    Py_XDECREF(more);
    return outcome;
}

/* Takes one message (steals).  As take_request_message. */
static ta_outcome body_message(asgi_body *gather, PyObject *message)
{
    ta_state *st = gather->x->st;
    PyObject *type = PyObject_GetItem(message, st->names.type);
    ta_outcome outcome = TA_FAILED;
    if (type == NULL)
        goto done;
    int is_end = PyObject_RichCompareBool(type, st->names.http_disconnect, Py_EQ);
    int is_request = is_end ? 0 : PyObject_RichCompareBool(type, st->names.http_request, Py_EQ);
    if (is_end < 0 || is_request < 0)
        goto done;
    if (is_end) {
        PyErr_SetNone(ta_exchange_objects_of(st)->client_disconnect);
    } else if (!is_request) {
        outcome = TA_WAITS;
    } else {
        outcome = take_request_message(gather, message);
    }
done:
    Py_XDECREF(type);
    Py_DECREF(message);
    return outcome;
}

static void body_drop(asgi_body *b)
{
    Py_CLEAR(b->first);
    Py_CLEAR(b->chunks);
    Py_CLEAR(b->x);
}

static ta_outcome body_done(asgi_body *gather)
{
    PyObject *bytes;
    if (gather->first != NULL && gather->chunks == NULL && PyBytes_CheckExact(gather->first)) {
        bytes = Py_NewRef(gather->first);
    } else {
        PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
        if (empty == NULL)
            return TA_FAILED;
        if (gather->chunks != NULL) {
            bytes = PyObject_CallMethod(empty, "join", "O", gather->chunks);
            Py_DECREF(empty);
        } else if (gather->first != NULL) {
            bytes = PyBytes_FromObject(gather->first);
            Py_DECREF(empty);
        } else {
            bytes = empty;
        }
        if (bytes == NULL)
            return TA_FAILED;
    }
    if (gather->x->base.body_bytes == NULL)
        gather->x->base.body_bytes = Py_NewRef(bytes);
    gather->co.result = bytes;
    return TA_DONE;
}

static ta_outcome body_advance(ta_coroutine *co, PyObject *value)
{
    asgi_body *gather = (asgi_body *)co;
    ta_outcome outcome = TA_WAITS;
    TA_ASSERT(gather->x != NULL); /* not after its end */
    if (value != NULL)
        outcome = body_message(gather, value);
    else if (PyErr_Occurred())
        outcome = TA_FAILED;
    if (outcome == TA_WAITS) {
        PyObject *aw = PyObject_CallNoArgs(gather->x->receive);
        outcome = aw ? ta_coroutine_await(co, aw) : TA_FAILED;
    } else if (outcome == TA_DONE) {
        outcome = body_done(gather);
    }
    if (outcome != TA_WAITS)
        body_drop(gather);
    return outcome;
}

static int body_traverse(PyObject *self, visitproc visit, void *arg)
{
    asgi_body *gather = (asgi_body *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(gather->x);
    Py_VISIT(gather->first);
    Py_VISIT(gather->chunks);
    return ta_coroutine_traverse(&gather->co, visit, arg);
}

static int body_clear(PyObject *self)
{
    asgi_body *b = (asgi_body *)self;
    b->co.finished = true;
    ta_coroutine_clear(&b->co);
    body_drop(b);
    return 0;
}

/* -- respond ---------------------------------------------------------------------------------- */

static ta_outcome asgi_respond_op(ta_exchange *exchange, const ta_response_head *head,
                                  PyObject *raw_headers, const ta_piece *body, PyObject **awaitable)
{
    xch_asgi *self = (xch_asgi *)exchange;
    if (self->send == NULL) {
        unavailable("Send");
        return TA_FAILED;
    }
    ta_exchange *native = ta_asgi_respond_native(self->st, self->send, head, raw_headers, body);
    if (native != NULL) { /* no middleware wants to see the messages */
        exchange->response_started = true;
        return native->ops->respond(native, head, raw_headers, body, awaitable);
    }
    *awaitable =
        ta_asgi_respond_new(self->st, exchange, Py_NewRef(self->send), head, raw_headers, body);
    return *awaitable ? TA_WAITS : TA_FAILED;
}

/* Has it no background tasks? */
static bool is_alone(ta_state *st, PyObject *response)
{
    PyObject *background = NULL;
    if (PyObject_GetOptionalAttr(response, st->names.background, &background) < 0)
        PyErr_Clear();
    bool alone = Py_IsNone(background);
    Py_XDECREF(background);
    return alone;
}

/* A file that can be read at once is sent as if it had been opened. */
static PyObject *asgi_deliver(ta_exchange *exchange, PyObject *response)
{
    xch_asgi *self = (xch_asgi *)exchange;
    ta_state *st = self->st;
    PyObject *args[] = {exchange->scope_dict, self->receive, self->send}, *awaitable = NULL;
    ta_exchange *server = self->receive ? ta_exchange_of_method(st, self->receive) : NULL;
    if (server == NULL || self->send == NULL || !is_alone(st, response))
        return NULL;
    PyObject *file = server->ops->read_file(server, response, args);
    if (file != NULL && !Py_IsNone(file)) {
        ta_response_head head = ta_head_bare((int)PyLong_AsLong(PyTuple_GET_ITEM(file, 0)));
        awaitable = ta_asgi_respond_file(st, exchange, Py_NewRef(self->send), &head,
                                         PyTuple_GET_ITEM(file, 1), PyTuple_GET_ITEM(file, 2));
    }
    Py_XDECREF(file);
    return awaitable;
}

/* The response is not sent, but kept. */
static ta_outcome keep_response(ta_exchange *exchange, const ta_response_head *head,
                                PyObject *raw_headers, const ta_piece *body,
                                PyObject **Py_UNUSED(awaitable))
{
    xch_asgi *self = (xch_asgi *)exchange;
    TA_ASSERT(self->content == NULL);
    Py_XSETREF(self->status, PyLong_FromLong(head->status));
    if (self->status == NULL || ta_asgi_respond_parts(self->st, head, raw_headers, body,
                                                      &self->raw_headers, &self->content) < 0)
        return TA_FAILED;
    return TA_DONE;
}

/* -- making one ------------------------------------------------------------------------------- */

static const ta_exchange_ops asgi_ops = {
    .scope = asgi_scope,
    .receive = asgi_receive,
    .send = asgi_get_send,
    .path_params = asgi_path_params,
    .body = asgi_body_get,
    .respond = asgi_respond_op,
    .deliver = asgi_deliver,
};

static const ta_exchange_ops keeping_ops = {
    .scope = asgi_scope,
    .receive = asgi_receive,
    .send = asgi_get_send,
    .path_params = asgi_path_params,
    .body = asgi_body_get,
    .respond = keep_response,
};

static PyObject *copy_tuple(PyObject *tuple)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    PyObject *copy = PyTuple_New(n);
    for (Py_ssize_t i = 0; copy != NULL && i < n; i++)
        PyTuple_SET_ITEM(copy, i, Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
    return copy;
}

static ta_str bytes_str(PyObject *bytes)
{
    return ta_str_of(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

/* Slices of the i-th pair of `seq`, a tuple of ours, which keeps the pair.  0 or -1. */
static int take_header(PyObject *seq, Py_ssize_t i, ta_header *out)
{
    PyObject *pair = PyTuple_GET_ITEM(seq, i);
    if (!PyTuple_CheckExact(pair)) { /* a list might change: keep a copy */
        PyObject *copy = PySequence_Tuple(pair);
        if (copy == NULL)
            return -1;
        PyTuple_SET_ITEM(seq, i, copy);
        Py_DECREF(pair);
        pair = copy;
    }
    if (PyTuple_GET_SIZE(pair) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(pair, 0)) ||
        !PyBytes_Check(PyTuple_GET_ITEM(pair, 1))) {
        PyErr_SetString(PyExc_TypeError, "scope[\"headers\"] must be pairs of bytes");
        return -1;
    }
    out->name = bytes_str(PyTuple_GET_ITEM(pair, 0));
    out->value = bytes_str(PyTuple_GET_ITEM(pair, 1));
    return 0;
}

/* Slices of scope["headers"]. 0 or -1. */
static int take_headers(xch_asgi *self, PyObject *headers)
{
    /* Ours: what is in it may be replaced, so it must not be the caller's own tuple. */
    PyObject *seq = PyTuple_CheckExact(headers) ? copy_tuple(headers) : PySequence_Tuple(headers);
    if (seq == NULL)
        return -1;
    TA_ASSERT(self->keep == NULL && self->header_array == NULL);
    self->keep = seq;
    Py_ssize_t n = PyTuple_GET_SIZE(seq);
    if (n > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many headers");
        return -1;
    }
    ta_header *array = self->few;
    if (TA_UNLIKELY(n > FEW_HEADERS))
        array = self->header_array = PyMem_Calloc((size_t)n, sizeof *array);
    if (array == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (take_header(seq, i, &array[i]) < 0)
            return -1;
    self->base.headers = array;
    self->base.nheaders = (uint32_t)n;
    return 0;
}

static int take_scope(xch_asgi *self, PyObject *scope)
{
    ta_state *st = self->st;
    PyObject *obj;
    int rc = scope_get(scope, st->names.headers, &obj);
    if (rc > 0) {
        rc = take_headers(self, obj);
        Py_DECREF(obj);
    }
    if (rc < 0)
        return -1;
    rc = scope_get(scope, st->names.query_string, &obj);
    if (rc < 0)
        return -1;
    if (rc > 0) {
        if (!PyBytes_Check(obj)) {
            PyErr_SetString(PyExc_TypeError, "scope[\"query_string\"] must be bytes");
            Py_DECREF(obj);
            return -1;
        }
        self->query_string = obj;
        self->base.query = ta_str_of(PyBytes_AS_STRING(obj), (size_t)PyBytes_GET_SIZE(obj));
    }
    return 0;
}

ta_exchange *ta_asgi_exchange_new(ta_state *st, PyObject *scope, PyObject *receive, PyObject *send)
{
    xch_asgi *self = (xch_asgi *)ta_spares_take(ta_exchange_objects_of(st)->spare_exchanges);
    if (self == NULL)
        return NULL;
    memset((char *)self + sizeof(ta_exchange), 0, offsetof(xch_asgi, few) - sizeof(ta_exchange));
    ta_exchange_init(&self->base, &asgi_ops);
    self->st = st;
    self->receive = Py_XNewRef(receive);
    self->send = Py_XNewRef(send);
    self->base.scope_dict = Py_NewRef(scope);
    self->base.ls = ta_selector_running(st);
    PyObject_GC_Track(self);
    if (take_scope(self, scope) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return &self->base;
}

ta_exchange *ta_asgi_exchange_keeping(ta_state *st, PyObject *scope, PyObject *receive,
                                      PyObject *send)
{
    ta_exchange *exchange = ta_asgi_exchange_new(st, scope, receive, send);
    if (exchange != NULL)
        exchange->ops = &keeping_ops;
    return exchange;
}

bool ta_asgi_exchange_take_kept(ta_exchange *exchange, PyObject **status, PyObject **raw_headers,
                                PyObject **body)
{
    xch_asgi *self = (xch_asgi *)exchange;
    TA_ASSERT(exchange->ops == &keeping_ops);
    if (self->content == NULL)
        return false;
    *status = self->status;
    *raw_headers = self->raw_headers;
    *body = self->content;
    self->status = self->raw_headers = self->content = NULL;
    return true;
}

ta_exchange *ta_asgi_exchange_of(ta_state *st, PyObject *connection)
{
    PyObject *scope = PyObject_GetAttr(connection, st->names.scope);
    if (scope == NULL)
        return NULL;
    ta_exchange *exchange = ta_asgi_exchange_new(st, scope, NULL, NULL);
    Py_DECREF(scope);
    if (exchange == NULL)
        return NULL;
    exchange->request = Py_NewRef(connection);
    PyObject *type = (PyObject *)Py_TYPE(connection);
    exchange->custom_request = type != ta_exchange_objects_of(st)->request_type &&
                               type != ta_exchange_objects_of(st)->websocket_type;
    return exchange;
}

/* -- the types -------------------------------------------------------------------------------- */

static int xch_traverse(PyObject *obj, visitproc visit, void *arg)
{
    xch_asgi *self = (xch_asgi *)obj;
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->receive);
    Py_VISIT(self->send);
    Py_VISIT(self->keep);
    Py_VISIT(self->raw_headers);
    return ta_exchange_traverse(&self->base, visit, arg);
}

static int xch_clear(PyObject *obj)
{
    xch_asgi *self = (xch_asgi *)obj;
    Py_CLEAR(self->receive);
    Py_CLEAR(self->send);
    Py_CLEAR(self->status);
    Py_CLEAR(self->raw_headers);
    Py_CLEAR(self->content);
    ta_exchange_clear(&self->base);
    return 0;
}

static void xch_dealloc(PyObject *obj)
{
    xch_asgi *self = (xch_asgi *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    xch_clear(obj);
    Py_CLEAR(self->keep);
    Py_CLEAR(self->query_string);
    PyMem_Free(self->header_array);
    ta_spares_give(ta_exchange_objects_of(ta_state_of_class(type))->spare_exchanges, obj);
    Py_DECREF(type);
}

static void body_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    body_clear(obj);
    type->tp_free(obj);
    Py_DECREF(type);
}

static int send_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((asgi_send *)obj)->x);
    return 0;
}

static int send_clear(PyObject *obj)
{
    Py_CLEAR(((asgi_send *)obj)->x);
    return 0;
}

static void send_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    (void)send_clear(obj);
    type->tp_free(obj);
    Py_DECREF(type);
}

#define CO_TYPE_FLAGS (TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyMethodDef co_methods[] = {TA_COROUTINE_METHODS, {NULL, NULL, 0, NULL}};
static PyGetSetDef co_getset[] = {TA_COROUTINE_GETSET, {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot xch_slots[] = {{Py_tp_dealloc, xch_dealloc},
                                  {Py_tp_traverse, xch_traverse},
                                  {Py_tp_clear, xch_clear},
                                  {0, NULL}};
static PyType_Spec exchange_spec = {.name = "turboapi._core.AsgiExchange",
                                    .basicsize = sizeof(xch_asgi),
                                    .flags = CO_TYPE_FLAGS,
                                    .slots = xch_slots};

static PyType_Slot body_slots[] = {TA_COROUTINE_SLOTS,
                                   {Py_tp_dealloc, body_dealloc},
                                   {Py_tp_traverse, body_traverse},
                                   {Py_tp_clear, body_clear},
                                   {Py_tp_methods, co_methods},
                                   {Py_tp_getset, co_getset},
                                   {0, NULL}};
static PyType_Spec body_spec = {.name = "turboapi._core.AsgiBody",
                                .basicsize = sizeof(asgi_body),
                                .flags = CO_TYPE_FLAGS,
                                .slots = body_slots};

static PyMemberDef send_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(asgi_send, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot send_slots[] = {{Py_tp_call, PyVectorcall_Call}, {Py_tp_dealloc, send_dealloc},
                                   {Py_tp_traverse, send_traverse}, {Py_tp_clear, send_clear},
                                   {Py_tp_members, send_members},   {0, NULL}};
static PyType_Spec send_spec = {.name = "turboapi._core.AsgiSend",
                                .basicsize = sizeof(asgi_send),
                                .flags = CO_TYPE_FLAGS | Py_TPFLAGS_HAVE_VECTORCALL,
                                .slots = send_slots};

int ta_asgi_exchange_init(PyObject *module, ta_state *st)
{
    ta_exchange_objects *objects = ta_exchange_objects_of(st);
    if (ta_types_add(module, &exchange_spec, NULL, &objects->asgi_type) < 0 ||
        (objects->spare_exchanges = ta_spares_new(st, objects->asgi_type)) == NULL ||
        ta_types_add(module, &body_spec, NULL, &objects->body_type) < 0 ||
        ta_asgi_respond_init(module, st) < 0 ||
        ta_types_add(module, &send_spec, NULL, &objects->send_type) < 0)
        return -1;
    objects->client_disconnect = ta_types_import("starlette.requests", "ClientDisconnect");
    objects->request_type = ta_types_import("starlette.requests", "Request");
    objects->websocket_type = ta_types_import("starlette.websockets", "WebSocket");
    return objects->client_disconnect && objects->request_type && objects->websocket_type ? 0 : -1;
}
