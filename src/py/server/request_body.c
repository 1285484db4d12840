/*
 * request_body.c -- the whole body of a request, for a plan.
 *
 * Layer: py (L4).  receive() returns it in chunks: asgi_receive.c.
 */
#include "py/server/native_int.h"

#include "py/support/types.h"

/* Waits until all of the body is there. */
typedef struct native_body {
    ta_coroutine co;
    ta_native_exchange *x; /* owned */
} native_body;

int ta_request_body_check(ta_native_exchange *native, uint64_t size)
{
    if (TA_LIKELY(size <= native->base.max_body))
        return 0;
    PyObject *exc = PyObject_CallFunction(ta_plan_objects_of(native->st)->http_exception, "i", 413);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return -1;
}

uint64_t ta_request_body_received(const ta_native_exchange *native)
{
    const ta_req *req = native->req;
    if (req->body_eof && req->content_length >= 0)
        return (uint64_t)req->content_length;
    PyObject *body = native->base.body_bytes;
    if (body != NULL && PyBytes_Check(body))
        return (uint64_t)PyBytes_GET_SIZE(body);
    return native->in.received + req->body.len;
}

PyObject *ta_request_body_wait(ta_native_exchange *x, size_t want)
{
    TA_ASSERT(x->req != NULL);
    PyObject *waiter = ta_waiters_add(&x->in.readers, x->base.ls);
    if (waiter != NULL)
        ta_req_want_body(x->req, want);
    return waiter;
}

static ta_outcome disconnected(ta_native_exchange *x)
{
    PyErr_SetNone(ta_exchange_objects_of(x->st)->client_disconnect);
    return TA_FAILED;
}

/* TA_DONE: *out is the body (new reference). */
static ta_outcome try_body(ta_native_exchange *native, PyObject **out)
{
    ta_req *req = native->req;
    if (req == NULL || (ta_native_exchange_is_left(native) && !req->body_eof))
        return disconnected(native);
    if (req->content_length >= 0 &&
        ta_request_body_check(native, (uint64_t)req->content_length) < 0)
        return TA_FAILED;
    if (ta_request_body_check(native, native->in.received + req->body.len) < 0)
        return TA_FAILED;
    if (!req->body_eof)
        return TA_WAITS;
    PyObject *bytes =
        PyBytes_FromStringAndSize(ta_buf_str(&req->body).ptr, (Py_ssize_t)req->body.len);
    if (bytes == NULL)
        return TA_FAILED;
    native->in.received += req->body.len;
    ta_req_consume(req, req->body.len);
    TA_ASSERT(native->base.body_bytes == NULL);
    native->base.body_bytes = Py_NewRef(bytes);
    ta_input_given(&native->in.state,
                   true); /* as if receive() had returned it: the disconnect comes next */
    *out = bytes;
    return TA_DONE;
}

static ta_outcome body_advance(ta_coroutine *co, PyObject *value)
{
    native_body *waiting = (native_body *)co;
    ta_outcome outcome = TA_FAILED;
    TA_ASSERT(waiting->x != NULL); /* not after its end */
    if (value == NULL && PyErr_Occurred())
        goto done;
    Py_XDECREF(value);
    PyObject *bytes = Py_XNewRef(waiting->x->base.body_bytes);
    outcome = bytes ? TA_DONE : try_body(waiting->x, &bytes);
    if (outcome == TA_DONE) {
        co->result = bytes;
    } else if (outcome == TA_WAITS) {
        PyObject *waiter = ta_request_body_wait(waiting->x, SIZE_MAX);
        outcome = waiter ? ta_coroutine_await(co, waiter) : TA_FAILED;
    }
done:
    if (outcome != TA_WAITS)
        Py_CLEAR(waiting->x);
    return outcome;
}

ta_outcome ta_request_body_get(ta_exchange *base, PyObject **out)
{
    ta_native_exchange *native = ta_native_exchange_of(base);
    if (base->body_bytes != NULL) {
        *out = Py_NewRef(base->body_bytes);
        return TA_DONE;
    }
    ta_outcome outcome = try_body(native, out);
    if (outcome != TA_WAITS)
        return outcome;
    native_body *waiting =
        PyObject_GC_New(native_body, ta_server_objects_of(native->st)->native_exchange.body_type);
    if (waiting == NULL)
        return TA_FAILED;
    ta_coroutine_init(&waiting->co, body_advance);
    waiting->x = (ta_native_exchange *)Py_NewRef((PyObject *)native);
    PyObject_GC_Track((PyObject *)waiting);
    *out = (PyObject *)waiting;
    return TA_WAITS;
}

static int body_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)((native_body *)self)->x);
    return ta_coroutine_traverse((ta_coroutine *)self, visit, arg);
}

static int body_clear(PyObject *self)
{
    ((ta_coroutine *)self)->finished = true;
    ta_coroutine_clear((ta_coroutine *)self);
    Py_CLEAR(((native_body *)self)->x);
    return 0;
}

static void body_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)body_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef co_methods[] = {TA_COROUTINE_METHODS, {NULL}};
static PyGetSetDef co_getset[] = {TA_COROUTINE_GETSET, {NULL}};

static PyType_Slot body_slots[] = {
    {Py_tp_doc, "Awaits the whole body of a request."},
    TA_COROUTINE_SLOTS,
    {Py_tp_methods, co_methods},
    {Py_tp_getset, co_getset},
    {Py_tp_traverse, body_traverse},
    {Py_tp_clear, body_clear},
    {Py_tp_dealloc, body_dealloc},
    {0, NULL},
};

static PyType_Spec body_spec = {
    .name = "turboapi._core.NativeBody",
    .basicsize = sizeof(native_body),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = body_slots,
};

int ta_request_body_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &body_spec, NULL,
                        &ta_server_objects_of(st)->native_exchange.body_type);
}
