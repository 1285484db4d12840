/*
 * websocket.c -- WebSockets of the native server, as ASGI has them.
 *
 * Layer: py (L4).  The exchange (ta_native) of a request that opens one has a ta_websock besides;
 * its receive() and send() are these.  Messages, texts of errors and close codes are uvicorn's.
 */
#include "py/server/native_int.h"

#include "py/server/websocket_queue.h"
#include "py/support/exc.h"

/*
 *   CONNECTING ----> OPEN ------> CLOSED        CONNECTING --> CLOSED
 *        |                          ^
 *        +---------> DENYING -------+
 */
typedef enum phase {
    CONNECTING, /* neither accepted nor refused */
    DENYING,    /* websocket.http.response.start was sent */
    OPEN,       /* accepted */
    CLOSED      /* refused, or closed by the application */
} phase;

struct ta_websock {
    ta_native *x;       /* borrowed: it owns this */
    ta_ws *conn;        /* owned; NULL before it is accepted and once the connection is gone */
    ta_ws_handshake hs; /* its slices are the request's */
    ta_list_node node;  /* in the server's websocks, all its life */
    uint8_t phase;
    bool connect_given; /* receive() has given websocket.connect */
    bool ended;         /* websocket.disconnect is due, behind what is queued */
    bool gone;          /* nobody is there to send to */
    uint16_t code;      /* of the end */
    PyObject *reason;   /* owned str, NULL: none is given */

    ta_websocket_queue queue; /* received, not yet asked for: str and bytes */
};

static void move(ta_websock *w, phase to)
{
    TA_ASSERT(to > w->phase && (w->phase == CONNECTING || to == CLOSED));
    w->phase = (uint8_t)to;
}

/* -- what has come, and the end --------------------------------------------------------------- */

static bool is_full(const ta_websock *w)
{
    const ta_server *server = w->x->server;
    return (server->ws_queue > 0 && w->queue.count >= server->ws_queue) ||
           (server->ws_buffer > 0 && w->queue.bytes >= server->ws_buffer);
}

/* Steals reason, which may be NULL.  The first end counts. */
static void set_end(ta_websock *w, unsigned code, PyObject *reason)
{
    if (w->ended) {
        Py_XDECREF(reason);
        return;
    }
    w->ended = true;
    w->code = (uint16_t)code;
    w->reason = reason;
}

static void wake(ta_websock *w)
{
    ta_waiters_wake(&w->x->in.readers);
    ta_waiters_wake(&w->x->out.writers);
}

/* -- between the protocol and the transport --------------------------------------------------- */

static void on_message(void *ctx, bool text, ta_str data)
{
    ta_websock *w = ctx;
    PyObject *obj = text ? PyUnicode_DecodeUTF8(data.ptr, (Py_ssize_t)data.len, NULL)
                         : PyBytes_FromStringAndSize(data.ptr, (Py_ssize_t)data.len);
    if (obj == NULL || ta_websocket_queue_push(&w->queue, obj) < 0) {
        ta_ls_unhandled(w->x->base.ls, "A message could not be taken");
        set_end(w, TA_WS_INTERNAL, NULL);
        w->gone = true;
        ta_ws_close(w->conn, TA_WS_INTERNAL, TA_STR(""));
        wake(w);
        return;
    }
    if (is_full(w))
        ta_ws_pause(w->conn, true);
    ta_waiters_wake(&w->x->in.readers);
}

static void on_end(void *ctx, uint16_t code, ta_str reason)
{
    ta_websock *w = ctx;
    if (code == TA_WS_ABNORMAL) {
        set_end(w, TA_WS_ABNORMAL, NULL); /* lost: RFC 6455, 7.1.5 */
    } else {
        PyObject *text = ta_scope_text(reason);
        if (text == NULL)
            PyErr_Clear();
        set_end(w, code, text);
    }
    w->gone = true;
    wake(w);
}

static int raw_write(void *ctx, ta_str data, const ta_lender *from)
{
    ta_websock *w = ctx;
    return w->x->req ? ta_raw_write_lent(w->x->req, data, from) : TA_ECLOSED;
}

static void raw_read(void *ctx, bool on)
{
    ta_websock *w = ctx;
    if (w->x->req != NULL)
        ta_raw_read(w->x->req, on);
}

static void raw_close(void *ctx)
{
    ta_websock *w = ctx;
    if (w->x->req != NULL)
        ta_raw_close(w->x->req);
}

static const ta_ws_ops conn_ops = {on_message, on_end, raw_write, raw_read, raw_close};

void ta_websock_input(ta_native *x, const char *data, size_t len)
{
    if (x->ws == NULL || x->ws->conn == NULL)
        return;
    Py_INCREF(x);
    ta_ws_input(x->ws->conn, data, len);
    Py_DECREF(x);
}

void ta_websock_drained(ta_native *x)
{
    if (x->ws->conn == NULL)
        return;
    Py_INCREF(x);
    ta_ws_drained(x->ws->conn);
    Py_DECREF(x);
}

void ta_websock_gone(ta_native *x)
{
    ta_websock *w = x->ws;
    set_end(w, TA_WS_ABNORMAL, NULL);
    w->gone = true;
    if (x->req == NULL) { /* on_close */
        ta_ws_free(w->conn);
        w->conn = NULL;
    }
    wake(w);
}

/* A server that ends waits so long for a client's close frame. */
enum { PARTING_MS = 1000 };

void ta_websock_shut_down(ta_native *x)
{
    ta_websock *w = x->ws;
    if (w->conn != NULL)
        ta_ws_hurry(w->conn, PARTING_MS);
    if (w->phase == CONNECTING)
        return; /* it is closed as soon as it is accepted */
    ta_native_told(x);
    if (w->phase != OPEN || w->gone || w->conn == NULL)
        return;
    set_end(w, TA_WS_RESTART, NULL);
    w->gone = true;
    ta_ws_close(w->conn, TA_WS_RESTART, TA_STR(""));
    wake(w);
}

void ta_websock_told(ta_native *x)
{
    ta_native_told(x);
    set_end(x->ws, TA_WS_RESTART, NULL);
    ta_waiters_wake(&x->in.readers);
}

ta_native *ta_websock_exchange(ta_list_node *node)
{
    return TA_CONTAINER_OF(node, ta_websock, node)->x;
}

/* -- opening ---------------------------------------------------------------------------------- */

static int refusal_fields(ta_fields *fields)
{
    bool upgrade = fields->status == 426;
    int rc = ta_fields_add(fields, TA_STR("content-type"), TA_STR("text/plain; charset=utf-8"));
    if (rc == TA_OK)
        rc = ta_fields_add(fields, TA_STR("connection"),
                           upgrade ? TA_STR("close, Upgrade") : TA_STR("close"));
    if (rc == TA_OK && upgrade)
        rc = ta_fields_add(fields, TA_STR("upgrade"), TA_STR("websocket"));
    if (rc == TA_OK && upgrade)
        rc = ta_fields_add(fields, TA_STR("sec-websocket-version"), TA_STR("13"));
    if (rc == TA_OK && fields->status == 405)
        rc = ta_fields_add(fields, TA_STR("allow"), TA_STR("GET"));
    return rc;
}

static void refuse(ta_native *x, const ta_ws_handshake *hs)
{
    ta_native_move(x, TA_RESPONSE_DONE);
    ta_response_started(x, hs->status);
    x->out.head.status = hs->status;
    if (refusal_fields(&x->out.head) != TA_OK) {
        ta_resp_abort(x->req);
        return;
    }
    ta_response_head head = ta_fields_head(&x->out.head);
    head.flags |= x->server->base_flags;
    (void)ta_resp_send(x->req, &head, ta_str_of(hs->reason, strlen(hs->reason)));
}

int ta_websock_open(ta_native *x)
{
    ta_ws_handshake hs;
    if (ta_ws_handshake_check(x->req, x->server->ws_deflate, &hs) != TA_OK) {
        refuse(x, &hs);
        return 0;
    }
    TA_ASSERT(x->ws == NULL);
    ta_websock *w = PyMem_Calloc(1, sizeof *w);
    if (w == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    w->x = x;
    w->hs = hs;
    x->ws = w;
    ta_list_push_back(&x->server->websocks, &w->node);
    return 1;
}

static PyObject *subprotocols(ta_native *x)
{
    size_t at = 0;
    ta_str protocol;
    PyObject *list = PyList_New(0);
    while (list != NULL && ta_ws_next_protocol(x->base.headers, x->base.nheaders, &at, &protocol)) {
        PyObject *text = PyUnicode_DecodeLatin1(protocol.ptr, (Py_ssize_t)protocol.len, NULL);
        if (text == NULL || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

int ta_websock_scope(ta_native *x, PyObject *scope)
{
    const ta_names_state *n = &x->st->names;
    int rc = -1;
    PyObject *list = subprotocols(x);
    PyObject *info = PyDict_Copy(x->server->ws_info);
    PyObject *extensions = PyDict_Copy(x->server->ws_extensions);
    if (list != NULL && info != NULL && extensions != NULL &&
        PyDict_SetItem(scope, n->type, n->websocket) == 0 &&
        PyDict_SetItem(scope, n->scheme, x->in.secure ? n->wss : n->ws) == 0 &&
        PyDict_SetItem(scope, n->asgi, info) == 0 &&
        PyDict_SetItem(scope, n->extensions, extensions) == 0 &&
        PyDict_SetItem(scope, n->subprotocols, list) == 0)
        rc = PyDict_DelItem(scope, n->method);
    Py_XDECREF(list);
    Py_XDECREF(info);
    Py_XDECREF(extensions);
    return rc;
}

/* -- receive ---------------------------------------------------------------------------------- */

static PyObject *connect_message(ta_websock *w)
{
    const ta_names_state *n = &w->x->st->names;
    PyObject *dict = PyDict_New();
    if (dict != NULL && PyDict_SetItem(dict, n->type, n->websocket_connect) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *data_message(ta_websock *w)
{
    const ta_names_state *n = &w->x->st->names;
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    PyObject *data = ta_websocket_queue_pop(&w->queue);
    if (PyDict_SetItem(dict, n->type, n->websocket_receive) < 0 ||
        PyDict_SetItem(dict, PyBytes_CheckExact(data) ? n->bytes : n->text, data) < 0)
        Py_CLEAR(dict);
    Py_DECREF(data);
    return dict;
}

static PyObject *disconnect_message(ta_websock *w)
{
    const ta_names_state *n = &w->x->st->names;
    PyObject *dict = PyDict_New();
    PyObject *code = PyLong_FromLong(w->code);
    ta_end_hears(&w->x->asgi.end);
    if (dict != NULL &&
        (code == NULL || PyDict_SetItem(dict, n->type, n->websocket_disconnect) < 0 ||
         PyDict_SetItem(dict, n->code, code) < 0 ||
         (w->reason != NULL && PyDict_SetItem(dict, n->reason, w->reason) < 0)))
        Py_CLEAR(dict);
    Py_XDECREF(code);
    return dict;
}

static ta_outcome receive_advance(ta_co *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_websock *w = io->x->ws;
    ta_outcome outcome = TA_FAILED;
    PyObject *message = NULL;
    if (value == NULL && PyErr_Occurred())
        goto done;
    Py_XDECREF(value);
    if (!w->connect_given) {
        w->connect_given = true;
        message = connect_message(w);
    } else if (w->queue.count > 0) {
        message = data_message(w);
        if (w->conn != NULL && !is_full(w))
            ta_ws_pause(w->conn, false);
    } else if (w->ended) {
        message = disconnect_message(w);
    } else {
        PyObject *waiter = ta_waiters_add(&io->x->in.readers, io->x->base.ls);
        if (waiter != NULL)
            outcome = ta_co_await(co, waiter);
        goto done;
    }
    co->result = message;
    if (message != NULL)
        outcome = TA_DONE;
done:
    if (outcome != TA_WAITS)
        Py_CLEAR(io->x);
    return outcome;
}

PyObject *ta_websock_receive(ta_native *x)
{
    return (PyObject *)ta_asgi_io_new(x, ta_server_objects_of(x->st)->xch_native.receive_type, NULL,
                                      receive_advance);
}

/* -- send ------------------------------------------------------------------------------------- */

static ta_outcome client_disconnected(ta_websock *w)
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
static int make_answer(ta_websock *w, PyObject *message)
{
    ta_native *x = w->x;
    const ta_names_state *n = &x->st->names;
    PyObject *protocol = NULL, *headers = NULL;
    ta_str name = {NULL, 0};
    int rc = -1;
    ta_fields_clear(&x->out.head);
    if (get_some(message, n->subprotocol, &protocol) < 0 ||
        get_some(message, n->headers, &headers) < 0)
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
    if (ta_ws_handshake_answer(&w->hs, name, &x->out.head) != TA_OK) {
        PyErr_NoMemory();
        goto done;
    }
    rc = headers ? ta_head_add(&x->out.head, headers) : 0;
done:
    if (rc < 0)
        ta_fields_clear(&x->out.head);
    Py_XDECREF(protocol);
    Py_XDECREF(headers);
    return rc;
}

static ta_outcome send_accept(ta_websock *w, PyObject *message)
{
    ta_native *x = w->x;
    ta_ws_cfg cfg = x->server->ws_cfg;
    if (make_answer(w, message) < 0)
        return TA_FAILED;
    if (x->req == NULL)
        return client_disconnected(w);
    TA_ASSERT(w->conn == NULL);
    cfg.deflate = w->hs.deflate;
    w->conn = ta_ws_new(x->base.ls->loop, &cfg, &conn_ops, w);
    if (w->conn == NULL) {
        PyErr_NoMemory();
        return TA_FAILED;
    }
    ta_response_head head = ta_fields_head(&x->out.head);
    head.flags |= x->server->base_flags;
    int rc = ta_resp_upgrade(x->req, &head);
    ta_fields_free(&x->out.head);
    if (rc != TA_OK && rc != TA_AGAIN) {
        ta_ws_free(w->conn);
        w->conn = NULL;
        if (rc == TA_ECLOSED) {
            ta_websock_gone(x);
            return client_disconnected(w);
        }
        PyErr_SetString(PyExc_RuntimeError, "The WebSocket could not be accepted.");
        return TA_FAILED;
    }
    move(w, OPEN);
    ta_native_move(x, TA_RESPONSE_UPGRADED);
    ta_response_started(x, 101);
    if (x->server->stopping)
        ta_websock_shut_down(x);
    return rc == TA_AGAIN ? TA_WAITS : TA_DONE;
}

/* A refusal without a response of the application's. */
static void deny(ta_websock *w)
{
    move(w, CLOSED);
    set_end(w, TA_WS_ABNORMAL, NULL);
    ta_response_plain(w->x, 403, "");
}

static ta_outcome send_denial_body(ta_websock *w, PyObject *message)
{
    ta_outcome outcome = ta_asgi_send_body(w->x, message, NULL); /* no filters there */
    if (ta_response_is_over(w->x->out.state)) {
        move(w, CLOSED);
        set_end(w, TA_WS_ABNORMAL, NULL);
    }
    return outcome;
}

static ta_outcome send_piece(ta_websock *w, bool text, const ta_piece *piece)
{
    ta_lender lender;
    switch (ta_ws_send(w->conn, text, piece->data, ta_piece_lender(piece, &lender))) {
    case TA_OK:
        return TA_DONE;
    case TA_AGAIN:
        return TA_WAITS;
    case TA_ENOMEM:
        PyErr_NoMemory();
        return TA_FAILED;
    default:
        w->gone = true;
        return client_disconnected(w);
    }
}

static ta_outcome send_bytes(ta_websock *w, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return TA_FAILED;
    ta_piece piece = {ta_str_of(view.buf, (size_t)view.len), data, NULL};
    ta_outcome outcome = send_piece(w, false, &piece);
    PyBuffer_Release(&view);
    return outcome;
}

static ta_outcome send_text(ta_websock *w, PyObject *text)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);
    ta_piece piece = {ta_str_of(utf8, (size_t)len), text, NULL};
    return utf8 ? send_piece(w, true, &piece) : TA_FAILED;
}

/* Nothing to send: taken. */
static ta_outcome send_data(ta_websock *w, PyObject *message)
{
    const ta_names_state *n = &w->x->st->names;
    PyObject *data = NULL;
    ta_outcome outcome = TA_DONE;
    int found = get_some(message, n->bytes, &data);
    if (found > 0)
        outcome = send_bytes(w, data);
    else if (found == 0 && (found = get_some(message, n->text, &data)) > 0)
        outcome = send_text(w, data);
    Py_XDECREF(data);
    return found < 0 ? TA_FAILED : outcome;
}

/* 0, or -1 with an exception. */
static int send_close(ta_websock *w, PyObject *message)
{
    const ta_names_state *n = &w->x->st->names;
    PyObject *value = NULL, *reason = NULL;
    long code = TA_WS_NORMAL;
    Py_ssize_t len = 0;
    const char *utf8 = "";
    int rc = get_some(message, n->code, &value);
    if (rc > 0)
        code = PyLong_AsLong(value);
    Py_XDECREF(value);
    if (rc < 0 || (code == -1 && PyErr_Occurred()))
        return -1;
    if (code != TA_WS_NO_STATUS && (code < 0 || !ta_ws_code_ok((unsigned)code))) {
        PyErr_Format(PyExc_RuntimeError, "Invalid close code %ld.", code);
        return -1;
    }
    if (get_some(message, n->reason, &reason) < 0 ||
        (reason == NULL && (reason = PyUnicode_FromString("")) == NULL))
        return -1;
    utf8 = PyUnicode_AsUTF8AndSize(reason, &len);
    if (utf8 == NULL) {
        Py_DECREF(reason);
        return -1;
    }
    move(w, CLOSED);
    ta_websocket_queue_clear(&w->queue);
    ta_ws_close(w->conn, (uint16_t)code, ta_str_of(utf8, (size_t)len));
    set_end(w, (unsigned)code, reason);
    ta_waiters_wake(&w->x->in.readers);
    return 0;
}

static ta_outcome unexpected(const char *wanted, PyObject *type)
{
    PyErr_Format(PyExc_RuntimeError, "Expected ASGI message %s got '%S'.", wanted, type);
    return TA_FAILED;
}

static ta_outcome take_first_message(ta_websock *w, PyObject *message, PyObject *type)
{
    const ta_names_state *n = &w->x->st->names;
    if (ta_asgi_io_same_text(type, n->websocket_accept))
        return send_accept(w, message);
    if (ta_asgi_io_same_text(type, n->websocket_close)) {
        if (ta_watch_aside(w->x, message) < 0) /* 403 tells neither code nor reason */
            return TA_FAILED;
        deny(w);
        return TA_DONE;
    }
    if (ta_asgi_io_same_text(type, n->websocket_http_response_start)) {
        if (ta_asgi_send_start(w->x, message) < 0)
            return TA_FAILED;
        move(w, DENYING);
        return TA_DONE;
    }
    return unexpected(
        "'websocket.accept', 'websocket.close' or 'websocket.http.response.start' but", type);
}

/* TA_DONE: taken; TA_WAITS: taken, but wait for room. */
static ta_outcome take_message(ta_websock *w, PyObject *message, PyObject *type)
{
    const ta_names_state *n = &w->x->st->names;
    if (w->phase != CLOSED && (w->gone || (w->phase == OPEN && w->conn == NULL))) {
        /* Closing what the client has closed is no error: many do it in a `finally`. */
        return ta_asgi_io_same_text(type, n->websocket_close) ? TA_DONE : client_disconnected(w);
    }
    switch ((phase)w->phase) {
    case CONNECTING:
        return take_first_message(w, message, type);
    case DENYING:
        if (ta_asgi_io_same_text(type, n->websocket_http_response_body))
            return send_denial_body(w, message);
        return unexpected("'websocket.http.response.body' but", type);
    case OPEN:
        if (ta_asgi_io_same_text(type, n->websocket_send))
            return send_data(w, message);
        if (ta_asgi_io_same_text(type, n->websocket_close))
            return send_close(w, message) < 0 ? TA_FAILED : TA_DONE;
        return unexpected("'websocket.send' or 'websocket.close', but", type);
    case CLOSED:
        break;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "Unexpected ASGI message '%S', after sending 'websocket.close'.", type);
    return TA_FAILED;
}

static ta_outcome send_advance(ta_co *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_websock *w = io->x->ws;
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
            outcome = take_message(w, message, type);
        Py_XDECREF(type);
        if (outcome == TA_WAITS && w->gone) {
            outcome = TA_DONE;
        } else if (outcome == TA_WAITS) {
            PyObject *waiter = ta_waiters_add(&io->x->out.writers, io->x->base.ls);
            outcome = waiter ? ta_co_await(co, waiter) : TA_FAILED;
        }
    }
    Py_XDECREF(message);
    if (outcome != TA_WAITS)
        Py_CLEAR(io->x);
    return outcome;
}

PyObject *ta_websock_send(ta_native *x, PyObject *message)
{
    return (PyObject *)ta_asgi_io_new(x, ta_server_objects_of(x->st)->xch_native.send_type, message,
                                      send_advance);
}

/* -- its end ---------------------------------------------------------------------------------- */

static void log_outcome(ta_websock *w, PyObject *result, PyObject *exc)
{
    ta_state *st = w->x->st;
    if (exc != NULL) {
        bool ended = PyErr_GivenExceptionMatches(exc, st->exc.cancelled_error) &&
                     (w->gone || w->x->server->stopping);
        if (!ended &&
            !PyErr_GivenExceptionMatches(exc, ta_server_objects_of(st)->ws.client_disconnected))
            ta_native_log(w->x, "Exception in ASGI application\n", exc);
    } else if (w->phase == CONNECTING && !w->gone && !ta_end_is_due(w->x->asgi.end)) {
        ta_native_log(w->x, "ASGI callable returned without completing handshake.", NULL);
    } else if (w->phase == DENYING && !w->gone) {
        ta_native_log(w->x, "ASGI callable returned without completing response.", NULL);
    } else if (!Py_IsNone(result)) {
        PyObject *text =
            PyUnicode_FromFormat("ASGI callable should return None, but returned '%S'.", result);
        const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
        if (utf8 != NULL)
            ta_native_log(w->x, utf8, NULL);
        else
            PyErr_Clear();
        Py_XDECREF(text);
    }
}

/* There is no answer, or not all of one. */
static void give_up(ta_native *x)
{
    if (!ta_response_is_over(x->out.state))
        ta_response_break(x);
}

void ta_websock_done(ta_native *x, PyObject *result, PyObject *exc)
{
    ta_websock *w = x->ws;
    phase was = (phase)w->phase;
    log_outcome(w, result, exc);
    if (was != CLOSED)
        move(w, CLOSED);
    ta_websocket_queue_clear(&w->queue);
    switch (was) {
    case CONNECTING:
        if (w->gone) /* did not wait for the answer: nothing that is worth a line in a log */
            give_up(x);
        else if (ta_end_is_due(x->asgi.end))
            ta_response_plain(x, 503, "Service Unavailable");
        else
            ta_response_plain(x, 500, "Internal Server Error");
        break;
    case DENYING:
        give_up(x);
        break;
    case OPEN:
        if (w->conn != NULL) {
            unsigned code = TA_WS_NORMAL;
            if (exc != NULL)
                code = x->server->stopping ? TA_WS_RESTART : TA_WS_INTERNAL;
            ta_ws_close(w->conn, (uint16_t)code, TA_STR(""));
        }
        break;
    case CLOSED:
        break;
    }
    set_end(w, TA_WS_ABNORMAL, NULL);
    wake(w);
}

int ta_websock_traverse(ta_native *x, visitproc visit, void *arg)
{
    return x->ws ? ta_websocket_queue_traverse(&x->ws->queue, visit, arg) : 0;
}

void ta_websock_free(ta_native *x)
{
    ta_websock *w = x->ws;
    x->ws = NULL;
    if (w == NULL)
        return;
    ta_list_remove(&w->node);
    ta_ws_free(w->conn);
    ta_websocket_queue_free(&w->queue);
    Py_XDECREF(w->reason);
    PyMem_Free(w);
}

int ta_ws_init(PyObject *module, ta_state *st)
{
    ta_server_objects_of(st)->ws.client_disconnected = PyErr_NewExceptionWithDoc(
        "turboapi._core.ClientDisconnected",
        "A message was sent to a WebSocket whose client has gone.", PyExc_OSError, NULL);
    if (ta_server_objects_of(st)->ws.client_disconnected == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "ClientDisconnected",
                                 ta_server_objects_of(st)->ws.client_disconnected);
}
