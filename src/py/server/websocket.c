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

void ta_websocket_set_end(ta_websocket *ws, unsigned code, PyObject *reason)
{
    if (ws->ended) {
        Py_XDECREF(reason);
        return;
    }
    ws->ended = true;
    ws->code = (uint16_t)code;
    ws->reason = reason;
}

static void wake(ta_websocket *w)
{
    ta_waiters_wake(&w->x->in.readers);
    ta_waiters_wake(&w->x->out.writers);
}

/* -- between the protocol and the transport --------------------------------------------------- */

static void on_message(void *ctx, bool text, ta_str data)
{
    ta_websocket *ws = ctx;
    PyObject *obj = text ? PyUnicode_DecodeUTF8(data.ptr, (Py_ssize_t)data.len, NULL)
                         : PyBytes_FromStringAndSize(data.ptr, (Py_ssize_t)data.len);
    if (obj == NULL || ta_websocket_queue_push(&ws->queue, obj) < 0) {
        ta_loop_state_unhandled(ws->x->base.ls, "A message could not be taken");
        ta_websocket_set_end(ws, TA_WS_INTERNAL, NULL);
        ws->gone = true;
        ta_ws_close(ws->conn, TA_WS_INTERNAL, TA_STR(""));
        wake(ws);
        return;
    }
    if (is_full(ws))
        ta_ws_pause(ws->conn, true);
    ta_waiters_wake(&ws->x->in.readers);
}

static void on_end(void *ctx, uint16_t code, ta_str reason)
{
    ta_websocket *ws = ctx;
    if (code == TA_WS_ABNORMAL) {
        ta_websocket_set_end(ws, TA_WS_ABNORMAL, NULL); /* lost: RFC 6455, 7.1.5 */
    } else {
        PyObject *text = ta_scope_text(reason);
        if (text == NULL)
            PyErr_Clear();
        ta_websocket_set_end(ws, code, text);
    }
    ws->gone = true;
    wake(ws);
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

void ta_websocket_gone(ta_native_exchange *native)
{
    ta_websocket *ws = native->ws;
    ta_websocket_set_end(ws, TA_WS_ABNORMAL, NULL);
    ws->gone = true;
    if (native->req == NULL) { /* on_close */
        ta_ws_free(ws->conn);
        ws->conn = NULL;
    }
    wake(ws);
}

/* A server that ends waits so long for a client's close frame. */
enum { PARTING_MS = 1000 };

void ta_websocket_shut_down(ta_native_exchange *native)
{
    ta_websocket *ws = native->ws;
    if (ws->conn != NULL)
        ta_ws_hurry(ws->conn, PARTING_MS);
    if (ws->phase == TA_WEBSOCKET_CONNECTING)
        return; /* it is closed as soon as it is accepted */
    ta_shutdown_told(native);
    if (ws->phase != TA_WEBSOCKET_OPEN || ws->gone || ws->conn == NULL)
        return;
    ta_websocket_set_end(ws, TA_WS_RESTART, NULL);
    ws->gone = true;
    ta_ws_close(ws->conn, TA_WS_RESTART, TA_STR(""));
    wake(ws);
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

static void refuse(ta_native_exchange *native, const ta_ws_handshake *hs)
{
    ta_native_exchange_move(native, TA_RESPONSE_DONE);
    ta_response_started(native, hs->status);
    native->out.head.status = hs->status;
    if (refusal_fields(&native->out.head) != TA_OK) {
        ta_resp_abort(native->req);
        return;
    }
    ta_response_head head = ta_fields_head(&native->out.head);
    head.flags |= native->server->base_flags;
    (void)ta_resp_send(native->req, &head, ta_str_of(hs->reason, strlen(hs->reason)));
}

int ta_websocket_open(ta_native_exchange *native)
{
    ta_ws_handshake hs;
    if (ta_ws_handshake_check(native->req, native->server->ws_deflate, &hs) != TA_OK) {
        refuse(native, &hs);
        return 0;
    }
    TA_ASSERT(native->ws == NULL);
    ta_websocket *ws = PyMem_Calloc(1, sizeof *ws);
    if (ws == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ws->x = native;
    ws->hs = hs;
    native->ws = ws;
    ta_list_push_back(&native->server->websocks, &ws->node);
    return 1;
}

static PyObject *subprotocols(ta_native_exchange *native)
{
    size_t at = 0;
    ta_str protocol;
    PyObject *list = PyList_New(0);
    while (list != NULL &&
           ta_ws_next_protocol(native->base.headers, native->base.nheaders, &at, &protocol)) {
        PyObject *text = PyUnicode_DecodeLatin1(protocol.ptr, (Py_ssize_t)protocol.len, NULL);
        if (text == NULL || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

int ta_websocket_scope(ta_native_exchange *native, PyObject *scope)
{
    const ta_names_state *names = &native->st->names;
    int rc = -1;
    PyObject *list = subprotocols(native);
    PyObject *info = PyDict_Copy(native->server->ws_info);
    PyObject *extensions = PyDict_Copy(native->server->ws_extensions);
    if (list != NULL && info != NULL && extensions != NULL &&
        PyDict_SetItem(scope, names->type, names->websocket) == 0 &&
        PyDict_SetItem(scope, names->scheme, native->in.secure ? names->wss : names->ws) == 0 &&
        PyDict_SetItem(scope, names->asgi, info) == 0 &&
        PyDict_SetItem(scope, names->extensions, extensions) == 0 &&
        PyDict_SetItem(scope, names->subprotocols, list) == 0)
        rc = PyDict_DelItem(scope, names->method);
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

static PyObject *data_message(ta_websocket *ws)
{
    const ta_names_state *names = &ws->x->st->names;
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    PyObject *data = ta_websocket_queue_pop(&ws->queue);
    if (PyDict_SetItem(dict, names->type, names->websocket_receive) < 0 ||
        PyDict_SetItem(dict, PyBytes_CheckExact(data) ? names->bytes : names->text, data) < 0)
        Py_CLEAR(dict);
    Py_DECREF(data);
    return dict;
}

static PyObject *disconnect_message(ta_websocket *ws)
{
    const ta_names_state *names = &ws->x->st->names;
    PyObject *dict = PyDict_New();
    PyObject *code = PyLong_FromLong(ws->code);
    ta_end_hears(&ws->x->asgi.end);
    if (dict != NULL &&
        (code == NULL || PyDict_SetItem(dict, names->type, names->websocket_disconnect) < 0 ||
         PyDict_SetItem(dict, names->code, code) < 0 ||
         (ws->reason != NULL && PyDict_SetItem(dict, names->reason, ws->reason) < 0)))
        Py_CLEAR(dict);
    Py_XDECREF(code);
    return dict;
}

static ta_outcome receive_advance(ta_coroutine *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_websocket *ws = io->x->ws;
    ta_outcome outcome = TA_FAILED;
    PyObject *message = NULL;
    if (value == NULL && PyErr_Occurred())
        goto done;
    Py_XDECREF(value);
    if (!ws->connect_given) {
        ws->connect_given = true;
        message = connect_message(ws);
    } else if (ws->queue.count > 0) {
        message = data_message(ws);
        if (ws->conn != NULL && !is_full(ws))
            ta_ws_pause(ws->conn, false);
    } else if (ws->ended) {
        message = disconnect_message(ws);
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
    return (PyObject *)ta_asgi_io_receiving(x, receive_advance);
}

/* -- its end ---------------------------------------------------------------------------------- */

static void log_outcome(ta_websocket *ws, PyObject *result, PyObject *exc)
{
    ta_state *st = ws->x->st;
    if (exc != NULL) {
        bool ended = PyErr_GivenExceptionMatches(exc, st->exc.cancelled_error) &&
                     (ws->gone || ws->x->server->stopping);
        if (!ended &&
            !PyErr_GivenExceptionMatches(exc, ta_server_objects_of(st)->ws.client_disconnected))
            ta_test_observer_log(ws->x, "Exception in ASGI application\n", exc);
    } else if (ws->phase == TA_WEBSOCKET_CONNECTING && !ws->gone &&
               !ta_end_is_due(ws->x->asgi.end)) {
        ta_test_observer_log(ws->x, "ASGI callable returned without completing handshake.", NULL);
    } else if (ws->phase == TA_WEBSOCKET_DENYING && !ws->gone) {
        ta_test_observer_log(ws->x, "ASGI callable returned without completing response.", NULL);
    } else if (!Py_IsNone(result)) {
        PyObject *text =
            PyUnicode_FromFormat("ASGI callable should return None, but returned '%S'.", result);
        const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
        if (utf8 != NULL)
            ta_test_observer_log(ws->x, utf8, NULL);
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

void ta_websocket_done(ta_native_exchange *native, PyObject *result, PyObject *exc)
{
    ta_websocket *ws = native->ws;
    ta_websocket_phase was = (ta_websocket_phase)ws->phase;
    log_outcome(ws, result, exc);
    if (was != TA_WEBSOCKET_CLOSED)
        ta_websocket_move(ws, TA_WEBSOCKET_CLOSED);
    ta_websocket_queue_clear(&ws->queue);
    switch (was) {
    case TA_WEBSOCKET_CONNECTING:
        if (ws->gone) /* did not wait for the answer: nothing that is worth a line in a log */
            give_up(native);
        else if (ta_end_is_due(native->asgi.end))
            ta_response_plain(native, 503, "Service Unavailable");
        else
            ta_response_plain(native, 500, "Internal Server Error");
        break;
    case TA_WEBSOCKET_DENYING:
        give_up(native);
        break;
    case TA_WEBSOCKET_OPEN:
        if (ws->conn != NULL) {
            unsigned code = TA_WS_NORMAL;
            if (exc != NULL)
                code = native->server->stopping ? TA_WS_RESTART : TA_WS_INTERNAL;
            ta_ws_close(ws->conn, (uint16_t)code, TA_STR(""));
        }
        break;
    case TA_WEBSOCKET_CLOSED:
        break;
    }
    ta_websocket_set_end(ws, TA_WS_ABNORMAL, NULL);
    wake(ws);
}

int ta_websocket_traverse(ta_native_exchange *x, visitproc visit, void *arg)
{
    return x->ws ? ta_websocket_queue_traverse(&x->ws->queue, visit, arg) : 0;
}

void ta_websocket_free(ta_native_exchange *native)
{
    ta_websocket *ws = native->ws;
    native->ws = NULL;
    if (ws == NULL)
        return;
    ta_list_remove(&ws->node);
    ta_ws_free(ws->conn);
    ta_websocket_queue_free(&ws->queue);
    Py_XDECREF(ws->reason);
    PyMem_Free(ws);
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
