/*
 * websocket.c -- WebSockets of the native server, as ASGI has them.
 *
 * Layer: py (L4).  The exchange (ta_native_exchange) of a request that opens one has a ta_websocket
 * besides; its receive() and send() are these.  Messages, texts of errors and close codes are
 * uvicorn's.
 */
#include "py/server/websocket_int.h"

#include "py/support/exc.h"

/* -- what has come, and the end --------------------------------------------------------------- */

static bool is_full(const ta_websocket *w)
{
    const ta_server *server = w->x->server;
    return (server->ws_queue > 0 && w->queue.count >= server->ws_queue) ||
           (server->ws_buffer > 0 && w->queue.bytes >= server->ws_buffer);
}

void ta_websocket_set_end(ta_websocket *w, unsigned code, PyObject *reason)
{
    if (w->ended) {
        Py_XDECREF(reason);
        return;
    }
    w->ended = true;
    w->code = (uint16_t)code;
    w->reason = reason;
}

static void wake(ta_websocket *w)
{
    ta_waiters_wake(&w->x->in.readers);
    ta_waiters_wake(&w->x->out.writers);
}

/* -- between the protocol and the transport --------------------------------------------------- */

static void on_message(void *ctx, bool text, ta_str data)
{
    ta_websocket *w = ctx;
    PyObject *obj = text ? PyUnicode_DecodeUTF8(data.ptr, (Py_ssize_t)data.len, NULL)
                         : PyBytes_FromStringAndSize(data.ptr, (Py_ssize_t)data.len);
    if (obj == NULL || ta_websocket_queue_push(&w->queue, obj) < 0) {
        ta_loop_state_unhandled(w->x->base.ls, "A message could not be taken");
        ta_websocket_set_end(w, TA_WS_INTERNAL, NULL);
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
    ta_websocket *w = ctx;
    if (code == TA_WS_ABNORMAL) {
        ta_websocket_set_end(w, TA_WS_ABNORMAL, NULL); /* lost: RFC 6455, 7.1.5 */
    } else {
        PyObject *text = ta_scope_text(reason);
        if (text == NULL)
            PyErr_Clear();
        ta_websocket_set_end(w, code, text);
    }
    w->gone = true;
    wake(w);
}

static int raw_write(void *ctx, ta_str data, const ta_lender *from)
{
    ta_websocket *w = ctx;
    return w->x->req ? ta_raw_write_lent(w->x->req, data, from) : TA_ECLOSED;
}

static void raw_read(void *ctx, bool on)
{
    ta_websocket *w = ctx;
    if (w->x->req != NULL)
        ta_raw_read(w->x->req, on);
}

static void raw_close(void *ctx)
{
    ta_websocket *w = ctx;
    if (w->x->req != NULL)
        ta_raw_close(w->x->req);
}

const ta_ws_ops ta_websocket_conn_ops = {on_message, on_end, raw_write, raw_read, raw_close};

void ta_websocket_input(ta_native_exchange *x, const char *data, size_t len)
{
    if (x->ws == NULL || x->ws->conn == NULL)
        return;
    Py_INCREF(x);
    ta_ws_input(x->ws->conn, data, len);
    Py_DECREF(x);
}

void ta_websocket_drained(ta_native_exchange *x)
{
    if (x->ws->conn == NULL)
        return;
    Py_INCREF(x);
    ta_ws_drained(x->ws->conn);
    Py_DECREF(x);
}

void ta_websocket_gone(ta_native_exchange *x)
{
    ta_websocket *w = x->ws;
    ta_websocket_set_end(w, TA_WS_ABNORMAL, NULL);
    w->gone = true;
    if (x->req == NULL) { /* on_close */
        ta_ws_free(w->conn);
        w->conn = NULL;
    }
    wake(w);
}

/* A server that ends waits so long for a client's close frame. */
enum { PARTING_MS = 1000 };

void ta_websocket_shut_down(ta_native_exchange *x)
{
    ta_websocket *w = x->ws;
    if (w->conn != NULL)
        ta_ws_hurry(w->conn, PARTING_MS);
    if (w->phase == TA_WEBSOCKET_CONNECTING)
        return; /* it is closed as soon as it is accepted */
    ta_shutdown_told(x);
    if (w->phase != TA_WEBSOCKET_OPEN || w->gone || w->conn == NULL)
        return;
    ta_websocket_set_end(w, TA_WS_RESTART, NULL);
    w->gone = true;
    ta_ws_close(w->conn, TA_WS_RESTART, TA_STR(""));
    wake(w);
}

void ta_websocket_told(ta_native_exchange *x)
{
    ta_shutdown_told(x);
    ta_websocket_set_end(x->ws, TA_WS_RESTART, NULL);
    ta_waiters_wake(&x->in.readers);
}

ta_native_exchange *ta_websocket_exchange(ta_list_node *node)
{
    return TA_CONTAINER_OF(node, ta_websocket, node)->x;
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

static void refuse(ta_native_exchange *x, const ta_ws_handshake *hs)
{
    ta_native_exchange_move(x, TA_RESPONSE_DONE);
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

int ta_websocket_open(ta_native_exchange *x)
{
    ta_ws_handshake hs;
    if (ta_ws_handshake_check(x->req, x->server->ws_deflate, &hs) != TA_OK) {
        refuse(x, &hs);
        return 0;
    }
    TA_ASSERT(x->ws == NULL);
    ta_websocket *w = PyMem_Calloc(1, sizeof *w);
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

static PyObject *subprotocols(ta_native_exchange *x)
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

int ta_websocket_scope(ta_native_exchange *x, PyObject *scope)
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

static PyObject *connect_message(ta_websocket *w)
{
    const ta_names_state *n = &w->x->st->names;
    PyObject *dict = PyDict_New();
    if (dict != NULL && PyDict_SetItem(dict, n->type, n->websocket_connect) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *data_message(ta_websocket *w)
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

static PyObject *disconnect_message(ta_websocket *w)
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

static ta_outcome receive_advance(ta_coroutine *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_websocket *w = io->x->ws;
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
            outcome = ta_coroutine_await(co, waiter);
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

PyObject *ta_websocket_receive(ta_native_exchange *x)
{
    return (PyObject *)ta_asgi_io_new(x, ta_server_objects_of(x->st)->native_exchange.receive_type,
                                      NULL, receive_advance);
}

/* -- its end ---------------------------------------------------------------------------------- */

static void log_outcome(ta_websocket *w, PyObject *result, PyObject *exc)
{
    ta_state *st = w->x->st;
    if (exc != NULL) {
        bool ended = PyErr_GivenExceptionMatches(exc, st->exc.cancelled_error) &&
                     (w->gone || w->x->server->stopping);
        if (!ended &&
            !PyErr_GivenExceptionMatches(exc, ta_server_objects_of(st)->ws.client_disconnected))
            ta_test_observer_log(w->x, "Exception in ASGI application\n", exc);
    } else if (w->phase == TA_WEBSOCKET_CONNECTING && !w->gone && !ta_end_is_due(w->x->asgi.end)) {
        ta_test_observer_log(w->x, "ASGI callable returned without completing handshake.", NULL);
    } else if (w->phase == TA_WEBSOCKET_DENYING && !w->gone) {
        ta_test_observer_log(w->x, "ASGI callable returned without completing response.", NULL);
    } else if (!Py_IsNone(result)) {
        PyObject *text =
            PyUnicode_FromFormat("ASGI callable should return None, but returned '%S'.", result);
        const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
        if (utf8 != NULL)
            ta_test_observer_log(w->x, utf8, NULL);
        else
            PyErr_Clear();
        Py_XDECREF(text);
    }
}

/* There is no answer, or not all of one. */
static void give_up(ta_native_exchange *x)
{
    if (!ta_response_is_over(x->out.state))
        ta_response_break(x);
}

void ta_websocket_done(ta_native_exchange *x, PyObject *result, PyObject *exc)
{
    ta_websocket *w = x->ws;
    ta_websocket_phase was = (ta_websocket_phase)w->phase;
    log_outcome(w, result, exc);
    if (was != TA_WEBSOCKET_CLOSED)
        ta_websocket_move(w, TA_WEBSOCKET_CLOSED);
    ta_websocket_queue_clear(&w->queue);
    switch (was) {
    case TA_WEBSOCKET_CONNECTING:
        if (w->gone) /* did not wait for the answer: nothing that is worth a line in a log */
            give_up(x);
        else if (ta_end_is_due(x->asgi.end))
            ta_response_plain(x, 503, "Service Unavailable");
        else
            ta_response_plain(x, 500, "Internal Server Error");
        break;
    case TA_WEBSOCKET_DENYING:
        give_up(x);
        break;
    case TA_WEBSOCKET_OPEN:
        if (w->conn != NULL) {
            unsigned code = TA_WS_NORMAL;
            if (exc != NULL)
                code = x->server->stopping ? TA_WS_RESTART : TA_WS_INTERNAL;
            ta_ws_close(w->conn, (uint16_t)code, TA_STR(""));
        }
        break;
    case TA_WEBSOCKET_CLOSED:
        break;
    }
    ta_websocket_set_end(w, TA_WS_ABNORMAL, NULL);
    wake(w);
}

int ta_websocket_traverse(ta_native_exchange *x, visitproc visit, void *arg)
{
    return x->ws ? ta_websocket_queue_traverse(&x->ws->queue, visit, arg) : 0;
}

void ta_websocket_free(ta_native_exchange *x)
{
    ta_websocket *w = x->ws;
    x->ws = NULL;
    if (w == NULL)
        return;
    ta_list_remove(&w->node);
    ta_ws_free(w->conn);
    ta_websocket_queue_free(&w->queue);
    Py_XDECREF(w->reason);
    PyMem_Free(w);
}

int ta_websocket_init(PyObject *module, ta_state *st)
{
    ta_server_objects_of(st)->ws.client_disconnected = PyErr_NewExceptionWithDoc(
        "turboapi._core.ClientDisconnected",
        "A message was sent to a WebSocket whose client has gone.", PyExc_OSError, NULL);
    if (ta_server_objects_of(st)->ws.client_disconnected == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "ClientDisconnected",
                                 ta_server_objects_of(st)->ws.client_disconnected);
}
