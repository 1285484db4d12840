/*
 * asgi_io.c -- receive() and send() of the native server.
 *
 * Layer: py (L4).  Both give coroutine objects of C (coroutine.h), so that create_task(receive())
 * works as with an `async def`; most of them finish without waiting.  Texts of errors are
 * uvicorn's.
 */
#include "py/server/native_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Body bytes that may wait for receive() before reading pauses. */
enum { RECEIVE_BUFFER = 65536 };

ta_asgi_io *ta_asgi_io_new(ta_native *x, PyTypeObject *type, PyObject *message,
                           ta_step (*advance)(ta_co *, PyObject *))
{
    ta_asgi_io *io = PyObject_GC_New(ta_asgi_io, type);
    if (io == NULL)
        return NULL;
    ta_co_init(&io->co, advance);
    io->x = (ta_native *)Py_NewRef((PyObject *)x);
    io->message = Py_XNewRef(message);
    io->job = NULL;
    io->offloaded = false;
    PyObject_GC_Track((PyObject *)io);
    return io;
}

/* -- receive ---------------------------------------------------------------------------------- */

static PyObject *disconnect_message(ta_native *x)
{
    const ta_names_state *n = &x->st->o.names;
    PyObject *dict = PyDict_New();
    x->heard = true;
    if (dict != NULL && PyDict_SetItem(dict, n->type, n->http_disconnect) < 0)
        Py_CLEAR(dict);
    return dict;
}

/* Steals body, which may be NULL with an exception. */
static PyObject *request_message(ta_native *x, PyObject *body, bool more)
{
    const ta_names_state *n = &x->st->o.names;
    PyObject *dict = body ? PyDict_New() : NULL;
    if (dict != NULL && (PyDict_SetItem(dict, n->type, n->http_request) < 0 ||
                         PyDict_SetItem(dict, n->body, body) < 0 ||
                         PyDict_SetItem(dict, n->more_body, more ? Py_True : Py_False) < 0))
        Py_CLEAR(dict);
    Py_XDECREF(body);
    return dict;
}

/* The next message: 1 and *out, 0: wait, -1. */
static int next_message(ta_native *x, PyObject **out)
{
    ta_req *req = x->req;
    *out = NULL;
    if (req == NULL || x->complete || (x->disconnected && (x->body_given || req->body.len == 0)) ||
        (x->told && x->body_given)) {
        *out = disconnect_message(x);
    } else if (!x->body_given && (req->body.len > 0 || req->body_eof)) {
        /* Also of a peer that has ended its side: what it has sent is there. */
        size_t len = req->body.len;
        if (ta_native_check_size(x, x->received + len) < 0)
            return -1;
        PyObject *body = PyBytes_FromStringAndSize(ta_buf_str(&req->body).ptr, (Py_ssize_t)len);
        *out = request_message(x, body, !req->body_eof);
        if (*out != NULL) {
            x->received += len;
            x->body_given = req->body_eof;
            ta_req_consume(req, len);
        }
    } else {
        return 0;
    }
    return *out ? 1 : -1;
}

static ta_step receive_advance(ta_co *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_step step = TA_STEP_ERROR;
    PyObject *message = NULL;
    if (value == NULL && PyErr_Occurred())
        goto done;
    Py_XDECREF(value);
    int rc = 0;
    if (!io->x->body_given && io->x->req != NULL && !io->x->disconnected &&
        io->x->req->content_length >= 0)
        rc = ta_native_check_size(io->x, (uint64_t)io->x->req->content_length);
    if (rc == 0)
        rc = next_message(io->x, &message);
    if (rc == 1) {
        co->result = message;
        step = TA_STEP_DONE;
    } else if (rc == 0) {
        PyObject *waiter = ta_native_await_input(io->x, RECEIVE_BUFFER);
        if (waiter != NULL)
            step = ta_co_await(co, waiter);
    }
done:
    if (step != TA_STEP_AWAIT)
        Py_CLEAR(io->x);
    return step;
}

static PyObject *receive_call(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_native *x = (ta_native *)self;
    if (x->ws != NULL)
        return ta_websock_receive(x);
    return (PyObject *)ta_asgi_io_new(x, x->st->o.xch_native.receive_type, NULL, receive_advance);
}

/* -- send ------------------------------------------------------------------------------------- */

int ta_asgi_get_item(PyObject *mapping, PyObject *key, PyObject **out)
{
    if (PyDict_CheckExact(mapping))
        return PyDict_GetItemRef(mapping, key, out);
    *out = PyObject_GetItem(mapping, key);
    if (*out != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_KeyError))
        return -1;
    PyErr_Clear();
    return 0;
}

PyObject *ta_asgi_need_item(PyObject *mapping, PyObject *key)
{
    PyObject *value;
    if (ta_asgi_get_item(mapping, key, &value) == 0)
        PyErr_SetObject(PyExc_KeyError, key);
    return value;
}

bool ta_asgi_same_text(PyObject *a, PyObject *b)
{
    return a == b || (PyUnicode_Check(a) && PyUnicode_Compare(a, b) == 0);
}

/* What a downcall's result means.  1: wait for room; 0; -1. */
static int result_of(ta_native *x, int rc)
{
    switch (rc) {
    case TA_AGAIN:
        return 1;
    case TA_ECLOSED:
        x->disconnected = x->gone = true;
        return 0;
    case TA_OK:
        return 0;
    case TA_ENOMEM:
        PyErr_NoMemory();
        return -1;
    default:
        PyErr_SetString(PyExc_RuntimeError, "The response could not be sent.");
        return -1;
    }
}

static unsigned head_flags(const ta_native *x)
{
    return x->head.flags | x->server->base_flags;
}

/* Sends the head that waits, as the beginning of a stream. */
static int begin_stream(ta_native *x)
{
    ta_loop_undefer(x->base.ls->loop, &x->later);
    x->head_waits = false;
    x->streaming = true;
    return ta_resp_start(x->req, x->head.status, ta_buf_str(&x->head.lines), head_flags(x));
}

void ta_native_break(ta_native *x)
{
    if (x->head_waits) /* the client shall see what the application has begun, as under uvicorn */
        (void)begin_stream(x);
    ta_resp_abort(x->req);
}

/* End of the batch, and no body came after the head: whoever waits for it shall see it. */
static void send_head_later(ta_defer *defer)
{
    ta_native *x = TA_CONTAINER_OF(defer, ta_native, later);
    if (!x->head_waits || x->req == NULL)
        return;
    if (begin_stream(x) == TA_ECLOSED)
        x->disconnected = x->gone = true;
}

/* The head is complete: it goes out with what comes next, or else at the end of the batch. */
static void head_ready(ta_native *x)
{
    x->head_waits = true;
    x->later.fn = send_head_later;
    ta_loop_defer(x->base.ls->loop, &x->later);
    ta_native_started(x, x->head.status);
}

/* headers: NULL: none. */
int ta_native_begin(ta_native *x, PyObject *status, PyObject *headers)
{
    long code = PyLong_AsLong(status);
    if (code == -1 && PyErr_Occurred())
        return -1;
    if (code < 200 || code > 999) {
        PyErr_Format(PyExc_RuntimeError, "Invalid HTTP status code %ld.", code);
        return -1;
    }
    int rc = headers ? ta_head_add(&x->head, headers) : 0;
    ta_head_suit(&x->head, (int)code);
    if (rc >= 0)
        rc = x->filters ? ta_filters_start(x, (int)code) : 1;
    if (rc < 0) {
        ta_head_reset(&x->head);
        return -1;
    }
    x->head.status = (int)code;
    x->base.response_started = true;
    if (x->req != NULL && x->req->body_eof) /* who only ended the sending side waits for it */
        x->disconnected = x->gone || x->req->gone;
    if (TA_UNLIKELY(x->server->stopping)) { /* a stream of its own has its own grace period */
        x->told = x->heard = false;
        x->since = ta_loop_now(x->base.ls->loop);
    }
    if (rc > 0)
        head_ready(x);
    return 0;
}

/* The member "reason" of http.response.start, which only our WSGI adapter gives. */
static int take_reason(ta_native *x, PyObject *message)
{
    PyObject *reason = NULL;
    int rc = ta_asgi_get_item(message, x->st->o.names.reason, &reason);
    if (rc <= 0)
        return rc;
    if (!PyBytes_Check(reason) ||
        !ta_head_value_ok(ta_str_of(PyBytes_AS_STRING(reason), (size_t)PyBytes_GET_SIZE(reason)))) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP reason phrase.");
        Py_DECREF(reason);
        return -1;
    }
    Py_XSETREF(x->reason, reason);
    if (x->req != NULL)
        x->req->reason = ta_str_of(PyBytes_AS_STRING(reason), (size_t)PyBytes_GET_SIZE(reason));
    return 0;
}

int ta_asgi_send_start(ta_native *x, PyObject *message)
{
    const ta_names_state *n = &x->st->o.names;
    PyObject *headers = NULL;
    PyObject *status = ta_asgi_need_item(message, n->status);
    if (status == NULL)
        return -1;
    int rc = ta_asgi_get_item(message, n->headers, &headers);
    if (rc >= 0 && TA_UNLIKELY(PyDict_Check(message) && PyDict_GET_SIZE(message) > 3))
        rc = take_reason(x, message);
    if (rc >= 0)
        rc = ta_native_begin(x, status, headers);
    if (rc < 0 && x->req != NULL)
        x->req->reason = TA_STR(""); /* what is sent instead has another one */
    Py_XDECREF(headers);
    Py_DECREF(status);
    return rc;
}

/* Checks a piece of the body against the content-length.  -1 with RuntimeError. */
static int count_body(ta_native *x, size_t len, bool more)
{
    int status = x->head.status;
    if (x->head.length < 0 || x->base.method_id == TA_METHOD_HEAD || status == 204 || status == 304)
        return 0;
    x->sent += (int64_t)len;
    if (x->sent > x->head.length) {
        PyErr_SetString(PyExc_RuntimeError, "Response content longer than Content-Length");
        return -1;
    }
    if (!more && x->sent != x->head.length) {
        PyErr_SetString(PyExc_RuntimeError, "Response content shorter than Content-Length");
        return -1;
    }
    return 0;
}

static int completed(ta_native *x)
{
    x->complete = x->done = true;
    ta_waiters_wake(&x->readers);
    return 0;
}

static int send_bytes(ta_native *x, const ta_piece *piece, bool more)
{
    int rc = TA_OK;
    ta_str data = piece->data;
    ta_lender lender;
    if (count_body(x, data.len, more) < 0)
        return -1;
    if (!more && x->head_waits) {
        ta_loop_undefer(x->base.ls->loop, &x->later);
        x->head_waits = false;
        rc = ta_resp_send_lent(x->req, x->head.status, ta_buf_str(&x->head.lines), head_flags(x),
                               data, ta_piece_lender(piece, &lender));
        rc = result_of(x, rc);
        return rc < 0 ? -1 : completed(x);
    }
    if (x->head_waits)
        rc = begin_stream(x);
    if (data.len > 0 && (rc == TA_OK || rc == TA_AGAIN))
        rc = ta_resp_data_lent(x->req, data, ta_piece_lender(piece, &lender));
    if (!more) {
        int ended = ta_resp_end(x->req);
        if (rc == TA_OK)
            rc = ended;
        rc = result_of(x, rc);
        return rc < 0 ? -1 : completed(x);
    }
    return result_of(x, rc);
}

/* Sends a piece that the filters have seen, and the head if it was held back till now. */
static int send_filtered(ta_native *x, bool held, const ta_piece *piece, bool more)
{
    if (held)
        head_ready(x);
    int rc = send_bytes(x, piece, more);
    ta_buf_free(&x->packed); /* the connection has copied or taken it */
    return rc;
}

/* 1: taken, but wait for room; 0: taken; 2: *job has to run first; -1. */
int ta_native_send_piece(ta_native *x, ta_piece piece, bool more, PyObject **job)
{
    if (TA_LIKELY(x->packing == TA_PACK_NONE))
        return send_bytes(x, &piece, more);
    bool held = x->packing == TA_PACK_HELD;
    int rc = ta_filters_body(x, &piece, more, job);
    if (rc <= 0)
        return rc < 0 ? -1 : 2;
    return send_filtered(x, held, &piece, more);
}

int ta_asgi_send_body(ta_native *x, PyObject *message, PyObject **job)
{
    const ta_names_state *n = &x->st->o.names;
    PyObject *body = NULL, *more = NULL;
    int rc = -1, is_more = 0;
    if (ta_asgi_get_item(message, n->body, &body) < 0 ||
        ta_asgi_get_item(message, n->more_body, &more) < 0)
        goto done;
    is_more = more ? PyObject_IsTrue(more) : 0;
    if (is_more < 0)
        goto done;
    if (body == NULL) {
        rc = ta_native_send_piece(x, (ta_piece){TA_STR(""), NULL, NULL}, is_more, job);
    } else if (PyBytes_CheckExact(body)) {
        rc = ta_native_send_piece(x, ta_piece_bytes(body), is_more, job);
    } else {
        Py_buffer view;
        if (PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0)
            goto done;
        rc = ta_native_send_piece(x, (ta_piece){ta_str_of(view.buf, (size_t)view.len), body, NULL},
                                  is_more, job);
        PyBuffer_Release(&view);
    }
done:
    Py_XDECREF(body);
    Py_XDECREF(more);
    return rc;
}

/* http.response.pathsend: the file is the whole body. */
static int send_path(ta_native *x, PyObject *message)
{
    PyObject *path = ta_asgi_need_item(message, x->st->o.names.path), *fs = NULL;
    if (path == NULL)
        return -1;
    int ok = PyUnicode_FSConverter(path, &fs);
    Py_DECREF(path);
    if (!ok)
        return -1;
    int fd = open(PyBytes_AS_STRING(fs), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat sb;
    if (fd < 0 || fstat(fd, &sb) < 0) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, fs);
        goto error;
    }
    if (!S_ISREG(sb.st_mode)) {
        PyErr_SetString(PyExc_RuntimeError, "http.response.pathsend: not a regular file");
        goto error;
    }
    if (x->packing == TA_PACK_HELD) {
        if (ta_filters_release(x) < 0)
            goto error;
        head_ready(x);
    }
    if (count_body(x, (size_t)sb.st_size, false) < 0)
        goto error;
    Py_DECREF(fs);
    x->file = fd; /* until on_close */
    if (x->head_waits && x->head.length < 0) {
        char line[48];
        int len =
            PyOS_snprintf(line, sizeof line, "content-length: %lld\r\n", (long long)sb.st_size);
        if (ta_buf_append(&x->head.lines, line, (size_t)len) == TA_OK)
            x->head.flags |= TA_RESP_HAS_LENGTH;
    }
    int rc = x->head_waits ? begin_stream(x) : TA_OK;
    if ((rc == TA_OK || rc == TA_AGAIN) && sb.st_size > 0 && x->base.method_id != TA_METHOD_HEAD)
        rc = ta_resp_file(x->req, fd, 0, sb.st_size);
    int ended = ta_resp_end(x->req);
    rc = result_of(x, rc == TA_OK ? ended : rc);
    return rc < 0 ? -1 : completed(x);
error:
    if (fd >= 0)
        close(fd);
    Py_DECREF(fs);
    return -1;
}

/* 1: taken, but wait for room; 0: taken; 2: *job has to run first; -1. */
static int take_message(ta_native *x, PyObject *message, PyObject **job)
{
    const ta_names_state *n = &x->st->o.names;
    if (x->gone && !x->done) {
        if (!x->server->errors_on_send)
            return 0; /* as uvicorn: silently */
        PyErr_SetString(PyExc_OSError, "The client has disconnected.");
        return -1;
    }
    PyObject *type = ta_asgi_need_item(message, n->type);
    if (type == NULL)
        return -1;
    int rc = -1;
    if (TA_UNLIKELY(x->watch != NULL) && ta_asgi_same_text(type, n->http_response_debug)) {
        rc = ta_watch_aside(x, message);
    } else if (!x->base.response_started) {
        if (ta_asgi_same_text(type, n->http_response_start))
            rc = ta_asgi_send_start(x, message);
        else
            PyErr_Format(PyExc_RuntimeError,
                         "Expected ASGI message 'http.response.start', but got '%S'.", type);
    } else if (x->complete) {
        if (ta_asgi_same_text(type, n->http_response_trailers))
            rc = 0; /* their place; not sent on, for nothing announced them */
        else
            PyErr_Format(PyExc_RuntimeError,
                         "Unexpected ASGI message '%S' sent, after response already completed.",
                         type);
    } else if (ta_asgi_same_text(type, n->http_response_body)) {
        rc = ta_asgi_send_body(x, message, job);
    } else if (ta_asgi_same_text(type, n->http_response_pathsend)) {
        rc = send_path(x, message);
    } else {
        PyErr_Format(PyExc_RuntimeError,
                     "Expected ASGI message 'http.response.body', but got '%S'.", type);
    }
    Py_DECREF(type);
    return rc;
}

int ta_native_send_job(ta_native *x, PyObject *job)
{
    ta_piece piece;
    bool more, held = x->packing == TA_PACK_HELD;
    if (x->req == NULL || x->complete || x->gone || x->req->gone)
        return 0; /* nobody is there any more */
    if (ta_filters_offloaded(x, job, &piece, &more) < 0)
        return -1;
    return send_filtered(x, held, &piece, more);
}

static ta_step send_advance(ta_co *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_step step = TA_STEP_ERROR;
    PyObject *message = io->message;
    io->message = NULL;
    if (value == NULL && PyErr_Occurred()) {
        Py_CLEAR(io->job); /* thrown in */
    } else if (message == NULL && io->job == NULL) {
        Py_XDECREF(value);
        step = TA_STEP_DONE; /* there is room now, or nobody to wait for */
    } else {
        int rc;
        Py_XDECREF(value);
        if (io->job == NULL) {
            rc = take_message(io->x, message, &io->job);
        } else if (!io->offloaded) {
            rc = 2;
        } else {
            rc = ta_native_send_job(io->x, io->job);
            Py_CLEAR(io->job);
        }
        if (rc == 2) {
            PyObject *awaitable = ta_filters_offload(io->x, io->job);
            io->offloaded = true;
            if (awaitable != NULL)
                step = ta_co_await(co, awaitable);
        } else if (rc == 0) {
            step = TA_STEP_DONE;
        } else if (rc > 0) {
            PyObject *waiter = ta_waiters_add(&io->x->writers, io->x->base.ls);
            if (waiter != NULL)
                step = ta_co_await(co, waiter);
        }
    }
    Py_XDECREF(message);
    if (step != TA_STEP_AWAIT)
        Py_CLEAR(io->x);
    return step;
}

static PyObject *send_call(PyObject *self, PyObject *message)
{
    ta_native *x = (ta_native *)self;
    if (x->ws != NULL)
        return ta_websock_send(x, message);
    return (PyObject *)ta_asgi_io_new(x, x->st->o.xch_native.send_type, message, send_advance);
}

PyObject *ta_native_send_packed(ta_native *x, PyObject *job)
{
    ta_asgi_io *io = ta_asgi_io_new(x, x->st->o.xch_native.send_type, NULL, send_advance);
    if (io == NULL)
        Py_DECREF(job);
    else
        io->job = job;
    return (PyObject *)io;
}

/* -- the callables ---------------------------------------------------------------------------- */

static PyMethodDef receive_def = {"receive", receive_call, METH_NOARGS,
                                  "receive()\n--\n\nAwaits the next ASGI message."};
static PyMethodDef send_def = {"send", send_call, METH_O,
                               "send(message, /)\n--\n\nSends an ASGI message; await it."};

PyObject *ta_native_receive(ta_xch *x)
{
    return PyCFunction_NewEx(&receive_def, (PyObject *)x, NULL);
}

PyObject *ta_native_send(ta_xch *x)
{
    return PyCFunction_NewEx(&send_def, (PyObject *)x, NULL);
}

void ta_native_plain(ta_native *x, int status, const char *text)
{
    if (x->req == NULL || x->base.response_started)
        return;
    ta_str headers = TA_STR("content-type: text/plain; charset=utf-8\r\nconnection: close\r\n");
    x->base.response_started = true;
    ta_native_started(x, status);
    (void)ta_resp_send(x->req, status, headers, TA_RESP_CLOSE | x->server->base_flags,
                       ta_str_of(text, strlen(text)));
    (void)completed(x);
}

/* -- types ------------------------------------------------------------------------------------ */

static int io_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_asgi_io *io = (ta_asgi_io *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)io->x);
    Py_VISIT(io->message);
    Py_VISIT(io->job);
    return ta_co_traverse(&io->co, visit, arg);
}

static int io_clear(PyObject *self)
{
    ta_asgi_io *io = (ta_asgi_io *)self;
    io->co.finished = true;
    ta_co_clear(&io->co);
    Py_CLEAR(io->x);
    Py_CLEAR(io->message);
    Py_CLEAR(io->job);
    return 0;
}

static void io_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)io_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *io_name(PyObject *Py_UNUSED(self), void *closure)
{
    return PyUnicode_FromString(closure);
}

static PyMethodDef co_methods[] = {TA_CO_METHODS, {NULL}};
static PyGetSetDef receive_getset[] = {TA_CO_GETSET,
                                       {"__name__", io_name, NULL, NULL, "receive"},
                                       {"__qualname__", io_name, NULL, NULL, "receive"},
                                       {NULL}};
static PyGetSetDef send_getset[] = {TA_CO_GETSET,
                                    {"__name__", io_name, NULL, NULL, "send"},
                                    {"__qualname__", io_name, NULL, NULL, "send"},
                                    {NULL}};

#define IO_SLOTS(getset)                                                                           \
    TA_CO_SLOTS, {Py_tp_methods, co_methods}, {Py_tp_getset, getset},                              \
        {Py_tp_traverse, io_traverse}, {Py_tp_clear, io_clear}, {Py_tp_dealloc, io_dealloc},       \
    {                                                                                              \
        0, NULL                                                                                    \
    }

static PyType_Slot receive_slots[] = {IO_SLOTS(receive_getset)};
static PyType_Slot send_slots[] = {IO_SLOTS(send_getset)};

static PyType_Spec receive_spec = {
    .name = "turboapi._core.Receive",
    .basicsize = sizeof(ta_asgi_io),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = receive_slots,
};

static PyType_Spec send_spec = {
    .name = "turboapi._core.Send",
    .basicsize = sizeof(ta_asgi_io),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = send_slots,
};

int ta_asgi_io_init(PyObject *module, ta_state *st)
{
    if (ta_add_type(module, &receive_spec, NULL, &st->o.xch_native.receive_type) < 0)
        return -1;
    return ta_add_type(module, &send_spec, NULL, &st->o.xch_native.send_type);
}
