/*
 * shutdown.c -- what a server that shuts down does with open requests.
 *
 * Layer: py (L4).  Requests are served to their end.  Three kinds would not end in time:
 *   WebSockets   are closed with code 1012 at once; the client's answer is awaited for a moment
 *   streams      (a response that has begun, of no known length) get a grace period; then their
 *                client counts as gone: receive() says http.disconnect, and streaming_response.c
 * cancels long polls   (a handler without a response yet, that waits for its client to go) get the
 * same message at that time; what they answer is sent A stream or a WebSocket whose application
 * takes no notice within another moment is cancelled.
 */
#include "py/server/native_int.h"

#include "py/loop/task_pool.h"
#include "py/support/exc.h"

enum {
    TICK_MS = 250,  /* between two looks, once the grace period is over */
    DEAF_MS = 1000, /* from the message to the cancellation of those that do not listen */
};

/* A download of known length has an end, and its client would have to start over. */
static bool is_stream(const ta_native_exchange *x)
{
    return x->ws == NULL && ta_response_is_open(x->out.state) && x->out.head.length < 0;
}

static void collect(ta_req *req, void *arg)
{
    ta_native_exchange *x = req->user;
    if (x != NULL && x->ws == NULL && PyList_Append(arg, (PyObject *)x) < 0)
        PyErr_Clear(); /* the next look finds it */
}

/* What is open, WebSockets included: a list, as to tell one may end another.  NULL: no memory. */
static PyObject *open_exchanges(ta_server *server)
{
    PyObject *list = PyList_New(0);
    if (list != NULL && server->http != NULL)
        ta_http_server_each(server->http, collect, list);
    ta_list_node *node = server->websocks.next;
    for (; list != NULL && node != &server->websocks; node = node->next) {
        if (PyList_Append(list, (PyObject *)ta_websocket_exchange(node)) < 0)
            PyErr_Clear();
    }
    if (list == NULL)
        PyErr_Clear();
    return list;
}

void ta_shutdown_told(ta_native_exchange *x)
{
    ta_end_falls_due(&x->asgi.end);
    x->asgi.since = ta_loop_now(x->base.ls->loop);
}

/* Makes the client count as disconnected from now on. */
static void tell(ta_native_exchange *native)
{
    ta_shutdown_told(native);
    if (native->out.stream != NULL) {
        ta_end_hears(&native->asgi.end);
        ta_streaming_response_left(native);
    }
    ta_waiters_wake(&native->in.readers);
}

static void cancel(ta_native_exchange *x)
{
    PyObject *msg = PyUnicode_FromString("The server ends, and the client was said to be gone.");
    ta_end_hears(&x->asgi.end); /* cancelled once */
    if (msg == NULL || ta_dispatch_cancel(x, msg) < 0)
        ta_loop_state_unhandled(x->base.ls, "Exception while a request was cancelled");
    Py_XDECREF(msg);
}

/* Returns whether it is a stream that must be told now. */
static bool look(ta_native_exchange *native, uint64_t now, uint64_t grace)
{
    bool stream = is_stream(native);
    if (ta_end_is_due(native->asgi.end)) {
        if ((stream || native->ws != NULL) && ta_work_has_task(native->asgi.work) &&
            native->asgi.end != TA_END_TOLD && now - native->asgi.since >= DEAF_MS)
            cancel(native);
        return false;
    }
    if (native->ws != NULL) {
        ta_websocket_told(native);
        return false;
    }
    if (native->base.response_started && (!stream || now - native->asgi.since < grace))
        return false;
    tell(native);
    return stream;
}

static void on_tick(ta_timer *timer)
{
    ta_server *server = TA_CONTAINER_OF(timer, ta_server, ending);
    ta_loop *loop = server->ls->loop;
    if (server->on_done == NULL)
        return;
    Py_INCREF(server);
    ta_loop_set_timer(loop, timer, TICK_MS);
    unsigned streams = 0;
    PyObject *list = open_exchanges(server);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++)
        streams +=
            look((ta_native_exchange *)PyList_GET_ITEM(list, i), ta_loop_now(loop), server->grace);
    Py_XDECREF(list);
    if (streams > 0)
        ta_log_printf(&server->log, TA_LOG_INFO, "Ending %u stream%s", streams,
                      streams == 1 ? "" : "s");
    Py_DECREF(server);
}

void ta_shutdown_begin(ta_server *server, int64_t grace_ms)
{
    PyObject *list = open_exchanges(server);
    uint64_t now = ta_loop_refresh(server->ls->loop);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        ta_native_exchange *native = (ta_native_exchange *)PyList_GET_ITEM(list, i);
        native->asgi.since = now;
        if (native->ws != NULL)
            ta_websocket_shut_down(native);
    }
    Py_XDECREF(list);
    if (grace_ms < 0)
        return;
    server->grace = (uint64_t)grace_ms;
    server->ending.on_expire = on_tick;
    ta_loop_set_timer(server->ls->loop, &server->ending, server->grace);
}

PyObject *ta_shutdown_pending(ta_server *server)
{
    uint64_t requests = 0, streams = 0, websockets = 0, running = 0;
    PyObject *list = open_exchanges(server);
    if (list == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        const ta_native_exchange *native = (ta_native_exchange *)PyList_GET_ITEM(list, i);
        bool runs = ta_work_has_task(native->asgi.work);
        running += runs;
        if (native->ws != NULL)
            websockets += runs || native->req != NULL;
        else if (is_stream(native))
            streams++;
        else
            requests++;
    }
    Py_DECREF(list);
    return Py_BuildValue("(KKKK)", requests, streams, websockets,
                         server->tasks > running ? server->tasks - running : 0);
}
