/*
 * asgi_receive.c -- receive() of HTTP requests: the body in chunks, then the disconnect.
 *
 * Layer: py (L4).  That of WebSockets is in websocket.c.
 */
#include "py/server/native_int.h"

/* Body bytes that may wait for receive() before reading pauses. */
enum { RECEIVE_BUFFER = 65536 };

static PyObject *disconnect_message(ta_native_exchange *native)
{
    const ta_names_state *names = &native->st->names;
    PyObject *dict = PyDict_New();
    ta_end_hears(&native->asgi.end);
    if (dict != NULL && PyDict_SetItem(dict, names->type, names->http_disconnect) < 0)
        Py_CLEAR(dict);
    return dict;
}

/* Steals body, which may be NULL with an exception. */
static PyObject *request_message(ta_native_exchange *native, PyObject *body, bool more)
{
    const ta_names_state *names = &native->st->names;
    PyObject *dict = body ? PyDict_New() : NULL;
    if (dict != NULL && (PyDict_SetItem(dict, names->type, names->http_request) < 0 ||
                         PyDict_SetItem(dict, names->body, body) < 0 ||
                         PyDict_SetItem(dict, names->more_body, more ? Py_True : Py_False) < 0))
        Py_CLEAR(dict);
    Py_XDECREF(body);
    return dict;
}

/* The next message.  TA_DONE: *out (new reference). */
static ta_outcome next_message(ta_native_exchange *native, PyObject **out)
{
    ta_req *req = native->req;
    *out = NULL;
    bool given = native->in.state == TA_INPUT_ALL;
    if (req == NULL || ta_response_is_over(native->out.state) ||
        (ta_native_exchange_is_left(native) && (given || req->body.len == 0)) ||
        (ta_end_is_due(native->asgi.end) && given)) {
        *out = disconnect_message(native);
    } else if (!given && (req->body.len > 0 || req->body_eof)) {
        /* This also holds for a peer that has ended its side: what it has sent is here. */
        size_t len = req->body.len;
        if (ta_request_body_check(native, native->in.received + len) < 0)
            return TA_FAILED;
        PyObject *body = PyBytes_FromStringAndSize(ta_buf_str(&req->body).ptr, (Py_ssize_t)len);
        *out = request_message(native, body, !req->body_eof);
        if (*out != NULL) {
            native->in.received += len;
            ta_input_given(&native->in.state, req->body_eof);
            ta_req_consume(req, len);
        }
    } else {
        return TA_WAITS;
    }
    return *out ? TA_DONE : TA_FAILED;
}

static ta_outcome receive_advance(ta_coroutine *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_outcome outcome = TA_FAILED;
    PyObject *message = NULL;
    TA_ASSERT(io->x != NULL); /* not after its end */
    if (value == NULL && PyErr_Occurred())
        goto done;
    Py_XDECREF(value);
    if (io->x->in.state != TA_INPUT_ALL && io->x->req != NULL &&
        !ta_native_exchange_is_left(io->x) && io->x->req->content_length >= 0 &&
        ta_request_body_check(io->x, (uint64_t)io->x->req->content_length) < 0)
        goto done;
    outcome = next_message(io->x, &message);
    if (outcome == TA_DONE) {
        co->result = message;
    } else if (outcome == TA_WAITS) {
        PyObject *waiter = ta_request_body_wait(io->x, RECEIVE_BUFFER);
        outcome = waiter ? ta_coroutine_await(co, waiter) : TA_FAILED;
    }
done:
    if (outcome != TA_WAITS)
        Py_CLEAR(io->x);
    return outcome;
}

PyObject *ta_asgi_receive_new(ta_native_exchange *x)
{
    return (PyObject *)ta_asgi_io_receiving(x, receive_advance);
}
