/*
 * asgi_send.c -- send() of HTTP responses: what the messages of an application ask for.
 *
 * Layer: py (L4).  Texts of errors are uvicorn's.  That of WebSockets is in websocket.c.
 */
#include "py/server/native_int.h"

/* The member "reason" of http.response.start, which only our WSGI adapter sets. */
static int take_reason(ta_native_exchange *native, PyObject *message)
{
    PyObject *reason = NULL;
    int rc = ta_asgi_io_get_item(message, native->st->names.reason, &reason);
    if (rc <= 0)
        return rc;
    if (!PyBytes_Check(reason) ||
        !ta_response_head_value_ok(
            ta_str_of(PyBytes_AS_STRING(reason), (size_t)PyBytes_GET_SIZE(reason)))) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP reason phrase.");
        Py_DECREF(reason);
        return -1;
    }
    Py_XSETREF(native->out.reason, reason);
    return 0;
}

/* A member: 1 and a new reference, 0: absent, -1. */
static int get(const ta_asgi_message *message, size_t member, PyObject *name, PyObject **out)
{
    if (TA_UNLIKELY(!message->is_read))
        return ta_asgi_io_get_item(message->object, name, out);
    *out = Py_XNewRef(message->members[member]);
    return *out != NULL;
}

/* The same, KeyError when absent. */
static PyObject *need(const ta_asgi_message *message, size_t member, PyObject *name)
{
    PyObject *value;
    if (get(message, member, name, &value) == 0)
        PyErr_SetObject(PyExc_KeyError, name);
    return value;
}

/* What beginnings of responses seldom have.  0 or -1. */
static int take_rest(ta_native_exchange *native, const ta_asgi_message *message)
{
    if (message->is_read || !PyDict_Check(message->object))
        return 0;
    return take_reason(native, message->object) < 0
               ? -1
               : ta_asgi_extensions_start(native, message->object);
}

int ta_asgi_send_start(ta_native_exchange *native, const ta_asgi_message *message)
{
    const ta_names_state *names = &native->st->names;
    PyObject *headers = NULL;
    PyObject *status = need(message, TA_MEMBER_STATUS, names->status);
    if (status == NULL)
        return -1;
    int rc = get(message, TA_MEMBER_HEADERS, names->headers, &headers);
    if (rc >= 0)
        rc = take_rest(native, message);
    if (rc >= 0)
        rc = ta_response_begin(native, status, headers);
    if (rc < 0)
        Py_CLEAR(native->out.reason); /* what is sent instead has another one */
    Py_XDECREF(headers);
    Py_DECREF(status);
    return rc;
}

ta_outcome ta_asgi_send_body(ta_native_exchange *native, const ta_asgi_message *message,
                             PyObject **job)
{
    const ta_names_state *names = &native->st->names;
    PyObject *body = NULL, *more = NULL;
    ta_outcome outcome = TA_FAILED;
    int is_more = 0;
    if (get(message, TA_MEMBER_BODY, names->body, &body) < 0 ||
        get(message, TA_MEMBER_MORE, names->more_body, &more) < 0)
        goto done;
    is_more = more ? PyObject_IsTrue(more) : 0;
    if (is_more < 0)
        goto done;
    if (body == NULL) {
        outcome = ta_response_piece(native, (ta_piece){TA_STR(""), NULL, NULL}, is_more, job);
    } else if (PyBytes_CheckExact(body)) {
        outcome = ta_response_piece(native, ta_piece_bytes(body), is_more, job);
    } else {
        Py_buffer view;
        if (PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0)
            goto done;
        outcome = ta_response_piece(
            native, (ta_piece){ta_str_of(view.buf, (size_t)view.len), body, NULL}, is_more, job);
        PyBuffer_Release(&view);
    }
done:
    Py_XDECREF(body);
    Py_XDECREF(more);
    return outcome;
}

/* What a message of that type asks for.  As ta_response_piece. */
static ta_outcome obey(ta_native_exchange *native, const ta_asgi_message *read, PyObject *type,
                       PyObject **job)
{
    const ta_names_state *names = &native->st->names;
    PyObject *message = read->object;
    ta_outcome outcome = TA_FAILED;
    if (TA_UNLIKELY(native->asgi.watch != NULL) &&
        ta_asgi_io_same_text(type, names->http_response_debug)) {
        outcome = ta_test_observer_aside(native, message) < 0 ? TA_FAILED : TA_DONE;
    } else if (!native->base.response_started) {
        if (ta_asgi_io_same_text(type, names->http_response_start))
            outcome = ta_asgi_send_start(native, read) < 0 ? TA_FAILED : TA_DONE;
        else if (ta_asgi_io_same_text(type, names->http_response_early_hint))
            outcome = ta_asgi_extensions_hint(native, message);
        else
            PyErr_Format(PyExc_RuntimeError,
                         "Expected ASGI message 'http.response.start', but got '%S'.", type);
    } else if (ta_response_is_over(native->out.state)) {
        if (ta_asgi_io_same_text(type, names->http_response_trailers))
            outcome = TA_DONE; /* their place; not sent on, for nothing announced them */
        else
            PyErr_Format(PyExc_RuntimeError,
                         "Unexpected ASGI message '%S' sent, after response already completed.",
                         type);
    } else if (TA_UNLIKELY(native->out.trailers == TA_TRAILERS_NOW)) {
        if (ta_asgi_io_same_text(type, names->http_response_trailers))
            outcome = ta_asgi_extensions_trailers(native, message);
        else
            PyErr_Format(PyExc_RuntimeError,
                         "Expected ASGI message 'http.response.trailers', but got '%S'.", type);
    } else if (ta_asgi_io_same_text(type, names->http_response_body)) {
        outcome = ta_asgi_send_body(native, read, job);
    } else if (ta_asgi_io_same_text(type, names->http_response_pathsend)) {
        outcome = ta_send_file_message(native, message);
    } else if (ta_asgi_io_same_text(type, names->http_response_early_hint)) {
        outcome = ta_asgi_extensions_hint(native, message);
    } else {
        PyErr_Format(PyExc_RuntimeError,
                     "Expected ASGI message 'http.response.body', but got '%S'.", type);
    }
    return outcome;
}

/* As ta_response_piece. */
static ta_outcome take_message(ta_native_exchange *native, PyObject *message, PyObject **job)
{
    const ta_names_state *names = &native->st->names;
    if (native->peer == TA_PEER_GONE && native->out.state != TA_RESPONSE_DONE) {
        if (!native->server->errors_on_send)
            return TA_DONE; /* as uvicorn: silently */
        PyErr_SetString(PyExc_OSError, "The client has disconnected.");
        return TA_FAILED;
    }
    ta_asgi_message read;
    ta_asgi_message_read(names, message, &read);
    PyObject *type = need(&read, TA_MEMBER_TYPE, names->type);
    ta_outcome outcome = type ? obey(native, &read, type, job) : TA_FAILED;
    Py_XDECREF(type);
    ta_asgi_message_drop(&read);
    return outcome;
}

/* Takes the message, or goes on with its job.  As take_message. */
static ta_outcome go_on(ta_asgi_io *io, PyObject *message)
{
    if (io->job == NULL)
        return take_message(io->x, message, &io->job);
    if (!io->offloaded)
        return TA_WAITS;
    ta_outcome outcome = ta_response_job(io->x, io->job);
    Py_CLEAR(io->job);
    return outcome;
}

/* Waits for the thread that the job needs, or else for room. */
static ta_outcome wait(ta_asgi_io *io)
{
    PyObject *awaitable = NULL;
    if (io->job != NULL) {
        awaitable = ta_filters_offload(io->x, io->job);
        io->offloaded = true;
    } else {
        awaitable = (PyObject *)ta_waiters_add(&io->x->out.writers, io->x->base.ls);
    }
    return awaitable ? ta_coroutine_await(&io->co, awaitable) : TA_FAILED;
}

static ta_outcome send_advance(ta_coroutine *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_outcome outcome = TA_FAILED;
    PyObject *message = io->message;
    TA_ASSERT(io->x != NULL); /* not after its end */
    TA_ASSERT(message == NULL || io->job == NULL);
    io->message = NULL;
    if (value == NULL && PyErr_Occurred()) {
        Py_CLEAR(io->job); /* thrown in */
    } else if (message == NULL && io->job == NULL) {
        Py_XDECREF(value);
        outcome = TA_DONE; /* there is room now, or the client has disconnected */
    } else {
        Py_XDECREF(value);
        outcome = go_on(io, message);
        if (outcome == TA_WAITS)
            outcome = wait(io);
    }
    Py_XDECREF(message);
    if (outcome != TA_WAITS)
        Py_CLEAR(io->x);
    return outcome;
}

PyObject *ta_asgi_send_new(ta_native_exchange *x, PyObject *message)
{
    return (PyObject *)ta_asgi_io_sending(x, message, send_advance);
}

PyObject *ta_asgi_send_job(ta_native_exchange *native, PyObject *job)
{
    ta_asgi_io *io = ta_asgi_io_sending(native, NULL, send_advance);
    if (io == NULL)
        Py_DECREF(job);
    else
        io->job = job;
    return (PyObject *)io;
}
