/*
 * websocket_send.c -- send() of a WebSocket: the answer to its handshake, messages, the close.
 *
 * Layer: py/server.  Texts of errors and close codes are uvicorn's.
 */
#include "py/server/websocket_int.h"

static ta_outcome client_disconnected(ta_websocket *w)
{
    ta_end_hears(&w->x->asgi.end);
    PyErr_SetNone(ta_server_objects_of(w->x->st)->ws.client_disconnected);
    return TA_FAILED;
}

/* mapping[key] if it is there and not None: 1, 0, -1. */
static int get_some(PyObject *message, PyObject *key, PyObject **out)
{
    int rc = ta_asgi_io_get_item(message, key, out);
    if (rc == 1 && Py_IsNone(*out)) {
        Py_CLEAR(*out);
        rc = 0;
    }
    return rc;
}

/* The fields of the 101 answer in x->out.head. */
static int make_answer(ta_websocket *ws, PyObject *message)
{
    ta_native_exchange *native = ws->x;
    const ta_names_state *names = &native->st->names;
    PyObject *protocol = NULL, *headers = NULL;
    ta_str name = {NULL, 0};
    int rc = -1;
    ta_fields_clear(&native->out.head);
    if (get_some(message, names->subprotocol, &protocol) < 0 ||
        get_some(message, names->headers, &headers) < 0)
        goto done;
    if (protocol != NULL) {
        Py_ssize_t len;
        name.ptr = PyUnicode_AsUTF8AndSize(protocol, &len);
        if (name.ptr == NULL)
            goto done;
        name.len = (size_t)len;
        if (name.len > 0 && !ta_ws_protocol_ok(name)) {
            PyErr_Format(PyExc_RuntimeError, "Invalid subprotocol %R.", protocol);
            goto done;
        }
    }
    if (ta_ws_handshake_answer(&ws->hs, name, &native->out.head) != TA_OK) {
        PyErr_NoMemory();
        goto done;
    }
    rc = headers ? ta_response_head_add(&native->out.head, headers) : 0;
done:
    if (rc < 0)
        ta_fields_clear(&native->out.head);
    Py_XDECREF(protocol);
    Py_XDECREF(headers);
    return rc;
}

static ta_outcome send_accept(ta_websocket *ws, PyObject *message)
{
    ta_native_exchange *native = ws->x;
    ta_ws_cfg cfg = native->server->ws_cfg;
    if (make_answer(ws, message) < 0)
        return TA_FAILED;
    if (native->req == NULL)
        return client_disconnected(ws);
    TA_ASSERT(ws->conn == NULL);
    cfg.deflate = ws->hs.deflate;
    ws->conn = ta_ws_new(native->base.ls->loop, &cfg, &ta_websocket_conn_ops, ws);
    if (ws->conn == NULL) {
        PyErr_NoMemory();
        return TA_FAILED;
    }
    ta_response_head head = ta_fields_head(&native->out.head);
    head.flags |= native->server->base_flags;
    int rc = ta_resp_upgrade(native->req, &head);
    ta_fields_free(&native->out.head);
    if (rc != TA_OK && rc != TA_AGAIN) {
        ta_ws_free(ws->conn);
        ws->conn = NULL;
        if (rc == TA_ECLOSED) {
            ta_websocket_gone(native);
            return client_disconnected(ws);
        }
        PyErr_SetString(PyExc_RuntimeError, "The WebSocket could not be accepted.");
        return TA_FAILED;
    }
    ta_websocket_move(ws, TA_WEBSOCKET_OPEN);
    ta_native_exchange_move(native, TA_RESPONSE_UPGRADED);
    ta_response_started(native, 101);
    if (native->server->stopping)
        ta_websocket_shut_down(native);
    return rc == TA_AGAIN ? TA_WAITS : TA_DONE;
}

/* A refusal without a response of the application's. */
static void deny(ta_websocket *w)
{
    ta_websocket_move(w, TA_WEBSOCKET_CLOSED);
    ta_websocket_set_end(w, TA_WS_ABNORMAL, NULL);
    ta_response_plain(w->x, 403, "");
}

static ta_outcome send_denial_body(ta_websocket *ws, PyObject *message)
{
    ta_asgi_message body = {.object = message};
    ta_outcome outcome = ta_asgi_send_body(ws->x, &body, NULL); /* no filters there */
    if (ta_response_is_over(ws->x->out.state)) {
        ta_websocket_move(ws, TA_WEBSOCKET_CLOSED);
        ta_websocket_set_end(ws, TA_WS_ABNORMAL, NULL);
    }
    return outcome;
}

static ta_outcome send_piece(ta_websocket *ws, bool text, const ta_piece *piece)
{
    ta_lender lender;
    switch (ta_ws_send(ws->conn, text, piece->data, ta_piece_lender(piece, &lender))) {
    case TA_OK:
        return TA_DONE;
    case TA_AGAIN:
        return TA_WAITS;
    case TA_ENOMEM:
        PyErr_NoMemory();
        return TA_FAILED;
    default:
        ws->gone = true;
        return client_disconnected(ws);
    }
}

static ta_outcome send_bytes(ta_websocket *ws, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return TA_FAILED;
    ta_piece piece = {ta_str_of(view.buf, (size_t)view.len), data, NULL};
    ta_outcome outcome = send_piece(ws, false, &piece);
    PyBuffer_Release(&view);
    return outcome;
}

static ta_outcome send_text(ta_websocket *w, PyObject *text)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);
    ta_piece piece = {ta_str_of(utf8, (size_t)len), text, NULL};
    return utf8 ? send_piece(w, true, &piece) : TA_FAILED;
}

/* Nothing to send: taken. */
static ta_outcome send_data(ta_websocket *ws, PyObject *message)
{
    const ta_names_state *names = &ws->x->st->names;
    PyObject *data = NULL;
    ta_outcome outcome = TA_DONE;
    int found = get_some(message, names->bytes, &data);
    if (found > 0)
        outcome = send_bytes(ws, data);
    else if (found == 0 && (found = get_some(message, names->text, &data)) > 0)
        outcome = send_text(ws, data);
    Py_XDECREF(data);
    return found < 0 ? TA_FAILED : outcome;
}

/* 0, or -1 with an exception. */
static int send_close(ta_websocket *ws, PyObject *message)
{
    const ta_names_state *names = &ws->x->st->names;
    PyObject *value = NULL, *reason = NULL;
    long code = TA_WS_NORMAL;
    Py_ssize_t len = 0;
    const char *utf8 = "";
    int rc = get_some(message, names->code, &value);
    if (rc > 0)
        code = PyLong_AsLong(value);
    Py_XDECREF(value);
    if (rc < 0 || (code == -1 && PyErr_Occurred()))
        return -1;
    if (code != TA_WS_NO_STATUS && (code < 0 || !ta_ws_code_ok((unsigned)code))) {
        PyErr_Format(PyExc_RuntimeError, "Invalid close code %ld.", code);
        return -1;
    }
    if (get_some(message, names->reason, &reason) < 0 ||
        (reason == NULL && (reason = PyUnicode_FromString("")) == NULL))
        return -1;
    utf8 = PyUnicode_AsUTF8AndSize(reason, &len);
    if (utf8 == NULL) {
        Py_DECREF(reason);
        return -1;
    }
    ta_websocket_move(ws, TA_WEBSOCKET_CLOSED);
    ta_websocket_queue_clear(&ws->queue);
    ta_ws_close(ws->conn, (uint16_t)code, ta_str_of(utf8, (size_t)len));
    ta_websocket_set_end(ws, (unsigned)code, reason);
    ta_waiters_wake(&ws->x->in.readers);
    return 0;
}

static ta_outcome unexpected(const char *wanted, PyObject *type)
{
    PyErr_Format(PyExc_RuntimeError, "Expected ASGI message %s got '%S'.", wanted, type);
    return TA_FAILED;
}

static ta_outcome take_first_message(ta_websocket *ws, PyObject *message, PyObject *type)
{
    const ta_names_state *names = &ws->x->st->names;
    if (ta_asgi_io_same_text(type, names->websocket_accept))
        return send_accept(ws, message);
    if (ta_asgi_io_same_text(type, names->websocket_close)) {
        if (ta_test_observer_aside(ws->x, message) < 0) /* 403 tells neither code nor reason */
            return TA_FAILED;
        deny(ws);
        return TA_DONE;
    }
    if (ta_asgi_io_same_text(type, names->websocket_http_response_start)) {
        ta_asgi_message start = {.object = message};
        if (ta_asgi_send_start(ws->x, &start) < 0)
            return TA_FAILED;
        ta_websocket_move(ws, TA_WEBSOCKET_DENYING);
        return TA_DONE;
    }
    return unexpected(
        "'websocket.accept', 'websocket.close' or 'websocket.http.response.start' but", type);
}

/* TA_DONE: taken; TA_WAITS: taken, but wait for room. */
static ta_outcome take_message(ta_websocket *ws, PyObject *message, PyObject *type)
{
    const ta_names_state *names = &ws->x->st->names;
    if (ws->phase != TA_WEBSOCKET_CLOSED &&
        (ws->gone || (ws->phase == TA_WEBSOCKET_OPEN && ws->conn == NULL))) {
        /* Closing what the client has closed is no error: many do it in a `finally`. */
        return ta_asgi_io_same_text(type, names->websocket_close) ? TA_DONE
                                                                  : client_disconnected(ws);
    }
    switch ((ta_websocket_phase)ws->phase) {
    case TA_WEBSOCKET_CONNECTING:
        return take_first_message(ws, message, type);
    case TA_WEBSOCKET_DENYING:
        if (ta_asgi_io_same_text(type, names->websocket_http_response_body))
            return send_denial_body(ws, message);
        return unexpected("'websocket.http.response.body' but", type);
    case TA_WEBSOCKET_OPEN:
        if (ta_asgi_io_same_text(type, names->websocket_send))
            return send_data(ws, message);
        if (ta_asgi_io_same_text(type, names->websocket_close))
            return send_close(ws, message) < 0 ? TA_FAILED : TA_DONE;
        return unexpected("'websocket.send' or 'websocket.close', but", type);
    case TA_WEBSOCKET_CLOSED:
        break;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "Unexpected ASGI message '%S', after sending 'websocket.close'.", type);
    return TA_FAILED;
}

static ta_outcome send_advance(ta_coroutine *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_websocket *ws = io->x->ws;
    ta_outcome outcome = TA_FAILED;
    PyObject *message = io->message;
    io->message = NULL;
    if (value == NULL && PyErr_Occurred()) {
        /* thrown in */
    } else if (message == NULL) {
        Py_XDECREF(value);
        outcome = TA_DONE; /* there is room now, or nobody to wait for */
    } else {
        PyObject *type = ta_asgi_io_need_item(message, io->x->st->names.type);
        if (type != NULL)
            outcome = take_message(ws, message, type);
        Py_XDECREF(type);
        if (outcome == TA_WAITS && ws->gone) {
            outcome = TA_DONE;
        } else if (outcome == TA_WAITS) {
            PyObject *waiter = ta_waiters_add(&io->x->out.writers, io->x->base.ls);
            outcome = waiter ? ta_coroutine_await(co, waiter) : TA_FAILED;
        }
    }
    Py_XDECREF(message);
    if (outcome != TA_WAITS)
        Py_CLEAR(io->x);
    return outcome;
}

PyObject *ta_websocket_send(ta_native_exchange *x, PyObject *message)
{
    return (PyObject *)ta_asgi_io_sending(x, message, send_advance);
}
