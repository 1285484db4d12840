/*
 * server.c -- the Server type: settings, its end.
 *
 * Layer: py (L4).  A Server belongs to one loop and its thread.
 */
#include "py/server/native_int.h"

#include "http/h2/conn.h"
#include "py/loop/selector.h"
#include "py/loop/task_pool.h"
#include "py/loop/thread_pool.h"
#include "py/server/limits.h"
#include "py/server/listening.h"
#include "py/server/recorder.h"
#include "py/server/request_id.h"
#include "py/server/tls_object.h"
#include "py/support/exc.h"
#include "py/support/types.h"

void ta_server_maybe_done(ta_server *server)
{
    if (server->on_done == NULL || !server->http_done || server->tasks > 0)
        return;
    TA_ASSERT(server->stopping);
    PyObject *fn = server->on_done;
    server->on_done = NULL;
    ta_loop_state *ls = server->ls;
    ta_loop_state_enter(ls);
    PyObject *res = PyObject_CallMethodOneArg(ls->aioloop, server->st->names.call_soon, fn);
    ta_loop_state_leave(ls);
    if (res == NULL)
        ta_loop_state_unhandled(ls, "Exception while the server ended");
    Py_XDECREF(res);
    Py_DECREF(fn);
}

/* Passes the protocol's messages to a Python logger. */
static void write_log(void *ctx, ta_log_level level, ta_str line)
{
    static const int levels[] = {10, 20, 30, 40, 50};
    ta_server *server = ctx;
    if (server->logger == NULL)
        return;
    PyObject *exc = PyErr_GetRaisedException();
    ta_loop_state_enter(server->ls);
    PyObject *res = PyObject_CallMethod(server->logger, "log", "iss#", levels[level], "%s",
                                        line.ptr, (Py_ssize_t)line.len);
    ta_loop_state_leave(server->ls);
    if (res == NULL)
        ta_exc_report(server->st, NULL, "Exception in the server's log");
    Py_XDECREF(res);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
}

int ta_server_check_open(ta_server *server)
{
    if (server->http != NULL)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "the server is closed");
    return -1;
}

/* -- ending ----------------------------------------------------------------------------------- */

static void http_done(void *arg)
{
    ta_server *server = arg;
    server->http_done = true;
    ta_server_maybe_done(server);
}

static PyObject *server_shutdown(PyObject *self, PyObject *args)
{
    ta_server *server = (ta_server *)self;
    PyObject *on_done, *grace = Py_None;
    if (!PyArg_ParseTuple(args, "O|O:shutdown", &on_done, &grace) ||
        ta_server_check_open(server) < 0)
        return NULL;
    double seconds = Py_IsNone(grace) ? -1.0 : PyFloat_AsDouble(grace);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    int64_t grace_ms = seconds < 0 ? -1 : (int64_t)(TA_MIN(seconds, 1e9) * 1000.0);
    if (server->stopping) {
        PyErr_SetString(PyExc_RuntimeError, "the server is shutting down already");
        return NULL;
    }
    server->stopping = true;
    server->on_done = Py_NewRef(on_done);
    ta_listening_stop(server);
    ta_shutdown_begin(server, grace_ms);
    ta_http_server_shutdown(server->http, http_done, server);
    Py_RETURN_NONE;
}

static PyObject *server_pending(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return ta_shutdown_pending((ta_server *)self);
}

static PyObject *server_cancel(PyObject *self, PyObject *msg)
{
    if (ta_dispatch_cancel_all((ta_server *)self, msg) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* The caller has a reference, since the loop's goes. */
static void shut(ta_server *server)
{
    ta_listening_stop(server);
    ta_http_server *http = server->http;
    Py_BEGIN_CRITICAL_SECTION(server); /* another thread may ask for a count */
    server->http = NULL;
    Py_END_CRITICAL_SECTION();
    if (http != NULL)
        ta_http_server_free(http); /* each open request gets its on_close */
    if (server->ls->loop != NULL)
        ta_timer_cancel(ta_loop_timers(server->ls->loop), &server->ending);
    if (server->access_log != NULL)
        ta_access_log_flush(server->access_log);
    ta_recorder *recorder = server->recorder;
    server->recorder = NULL;
    ta_recorder_free(recorder);
    Py_CLEAR(server->on_done);
    ta_guest_leave(&server->guest);
    TA_ASSERT(server->active == 0); /* each request has had its on_close */
    if (server->kept) {
        server->kept = false;
        Py_DECREF(server);
    }
}

static void guest_shut(ta_guest *guest)
{
    ta_server *server = TA_CONTAINER_OF(guest, ta_server, guest);
    Py_INCREF(server);
    shut(server);
    Py_DECREF(server);
}

static int guest_traverse(ta_guest *guest, visitproc visit, void *arg)
{
    ta_server *server = TA_CONTAINER_OF(guest, ta_server, guest);
    if (server->kept)
        Py_VISIT(server);
    return 0;
}

static const ta_guest_ops guest_ops = {guest_shut, guest_traverse};

static PyObject *server_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_server *server = (ta_server *)self;
    if (server->ls->in_batch) {
        PyErr_SetString(PyExc_RuntimeError, "the server is in use");
        return NULL;
    }
    shut(server);
    Py_RETURN_NONE;
}

/* -- the type --------------------------------------------------------------------------------- */

static int server_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_server *server = (ta_server *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(server->selector);
    Py_VISIT((PyObject *)server->app);
    Py_VISIT((PyObject *)server->front);
    Py_VISIT((PyObject *)server->encoded);
    Py_VISIT(server->logger);
    Py_VISIT(server->proxy);
    Py_VISIT(server->watch);
    Py_VISIT(server->proxy_trusts);
    Py_VISIT(server->access);
    int rc = ta_access_log_traverse(server->access_log, visit, arg);
    if (rc == 0)
        rc = ta_request_ids_traverse(server->ids, visit, arg);
    if (rc != 0)
        return rc;
    Py_VISIT(server->state);
    Py_VISIT(server->asgi_info);
    Py_VISIT(server->blank_scope);
    Py_VISIT(server->ws_info);
    Py_VISIT(server->ws_extensions);
    Py_VISIT(server->on_done);
#ifndef Py_GIL_DISABLED
    Py_VISIT(server->unused_type);
#endif
    return ta_filters_traverse(server->filters, visit, arg);
}

/* Closes a server that was never closed, while everything that it refers to is intact. */
static void server_finalize(PyObject *self)
{
    ta_server *s = (ta_server *)self;
    PyObject *exc = PyErr_GetRaisedException();
    if (s->ls != NULL)
        shut(s);
    ta_exc_restore(exc);
}

static int server_clear(PyObject *self)
{
    ta_server *server = (ta_server *)self;
    server_finalize(self);
    Py_CLEAR(server->app);
    Py_CLEAR(server->front);
    Py_CLEAR(server->encoded);
    Py_CLEAR(server->logger);
    Py_CLEAR(server->proxy);
    Py_CLEAR(server->watch);
    Py_CLEAR(server->proxy_trusts);
    Py_CLEAR(server->access);
    ta_access_log *log = server->access_log;
    server->access_log = NULL;
    ta_access_log_free(log);
    ta_request_ids *ids = server->ids;
    server->ids = NULL;
    ta_request_ids_free(ids);
    Py_CLEAR(server->state);
    Py_CLEAR(server->on_done);
    return 0;
}

static void server_dealloc(PyObject *self)
{
    ta_server *server = (ta_server *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return; /* somebody has it again */
    PyObject_GC_UnTrack(self);
    (void)server_clear(self);
    /* An exchange and a Task of one keep the server. */
    TA_ASSERT(server->active == 0 && server->tasks == 0 && server->http == NULL);
    Py_CLEAR(server->asgi_info);
    Py_CLEAR(server->blank_scope);
    Py_CLEAR(server->ws_info);
    Py_CLEAR(server->ws_extensions);
    Py_CLEAR(server->access_format);
    Py_CLEAR(server->root_path);
    Py_CLEAR(server->fronted);
    Py_CLEAR(server->selector);
    for (size_t i = 0; i < TA_COUNTOF(server->packers); i++)
        ta_packer_free(server->packers[i]);
    ta_filters_free(server->filters);
    ta_file_stamps_free(server->stamps);
    ta_tls_unref(server->tls);
    ta_native_exchange_free_unused(server);
    for (size_t i = 0; i < TA_COUNTOF(server->names); i++)
        Py_CLEAR(server->names[i]);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *or_null(PyObject *obj)
{
    return obj == NULL || Py_IsNone(obj) ? NULL : Py_NewRef(obj);
}

/* ASGI's versions and what we offer besides. */
static int make_infos(ta_server *server, const char *spec_version)
{
    server->asgi_info = Py_BuildValue("{s:s,s:s}", "version", "3.0", "spec_version", spec_version);
    server->access_format = PyUnicode_FromString("%s - \"%s %s HTTP/%s\" %d");
    server->errors_on_send = strcmp(spec_version, "2.4") >= 0;
    server->ws_info = Py_BuildValue("{s:s,s:s}", "version", "3.0", "spec_version", "2.4");
    server->ws_extensions = Py_BuildValue("{s:{}}", "websocket.http.response");
    return server->asgi_info && server->access_format && server->ws_info && server->ws_extensions
               ? 0
               : -1;
}

static int take_root(ta_server *server, PyObject *root_path)
{
    Py_ssize_t len;
    server->root_path = root_path ? Py_NewRef(root_path) : PyUnicode_FromString("");
    const char *utf8 = server->root_path ? PyUnicode_AsUTF8AndSize(server->root_path, &len) : NULL;
    if (utf8 == NULL)
        return -1;
    server->root = ta_str_of(utf8, (size_t)len);
    return 0;
}

/* What Server(...) was called with; objects are borrowed, NULL: not given. */
typedef struct server_args {
    PyObject *selector, *app, *limits, *root, *state, *access, *logger, *proxy, *watch, *writer;
    PyObject *more_headers, *stats, *ids, *compress, *front;
    const char *header, *spec_version;
    int date, level, ws_deflate, http2;
    unsigned max_requests, threads, stats_slot;
} server_args;

static int read_args(ta_state *st, PyObject *args, PyObject *kwargs, server_args *a)
{
    static char *keywords[] = {
        "selector",      "app",        "limits",       "server_header", "date_header",
        "root_path",     "state",      "access_log",   "logger",        "log_level",
        "max_requests",  "threads",    "spec_version", "proxy",         "watch",
        "access_writer", "ws_deflate", "more_headers", "stats",         "stats_slot",
        "request_ids",   "http2",      "compress",     "front",         NULL};
    *a = (server_args){
        .header = "turboapi", .spec_version = "2.3", .date = 1, .level = 30, .ws_deflate = 1};
    return PyArg_ParseTupleAndKeywords(
               args, kwargs, "OO!|$O!zpUOOOiIIsOOOpOOIOpOO:Server", keywords, &a->selector,
               ta_server_objects_of(st)->server.app_type, &a->app, &PyDict_Type, &a->limits,
               &a->header, &a->date, &a->root, &a->state, &a->access, &a->logger, &a->level,
               &a->max_requests, &a->threads, &a->spec_version, &a->proxy, &a->watch, &a->writer,
               &a->ws_deflate, &a->more_headers, &a->stats, &a->stats_slot, &a->ids, &a->http2,
               &a->compress, &a->front)
               ? 0
               : -1;
}

/* The loop of the Selector, with what the server asks of it.  Borrowed; NULL with an exception. */
static ta_loop_state *prepare_loop(ta_state *st, const server_args *a)
{
    ta_loop_state *ls = ta_selector_state_of(st, a->selector);
    if (ls == NULL)
        return NULL;
    if (ls->loop == NULL || ls->aioloop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the Selector is not attached to a loop");
        return NULL;
    }
    if (ta_task_pool_check_factory(ls) < 0 || ta_thread_pool_configure(ls, a->threads) < 0)
        return NULL;
    return ls;
}

static ta_log_level log_level_of(int level)
{
    if (level <= 10)
        return TA_LOG_DEBUG;
    if (level <= 20)
        return TA_LOG_INFO;
    return level <= 30 ? TA_LOG_WARNING : TA_LOG_ERROR;
}

static void take_settings(ta_server *server, const server_args *a, const ta_http_limits *limits)
{
    server->selector = Py_NewRef(a->selector);
    server->app = (ta_app *)Py_NewRef(a->app);
    server->state = or_null(a->state);
    server->access = or_null(a->access);
    server->logger = or_null(a->logger);
    server->proxy = or_null(a->proxy);
    server->watch = or_null(a->watch);
    server->max_requests = a->max_requests;
    server->ws_cfg = (ta_ws_cfg){
        .max_size = limits->ws_max_size,
        .ping_interval_ms = limits->ws_ping_interval_ms,
        .ping_timeout_ms = limits->ws_ping_timeout_ms,
        .close_timeout_ms = limits->ws_close_timeout_ms,
    };
    server->ws_queue = limits->ws_max_queue;
    server->ws_buffer = limits->body_buffer;
    server->ws_deflate = a->ws_deflate;
    server->base_flags = a->date ? 0 : TA_RESP_HAS_DATE;
    server->log = (ta_log){log_level_of(a->level), write_log, server};
}

/* 0, or -1 with an exception. */
static int make_http(ta_server *server, const server_args *a, const ta_http_limits *limits)
{
    ta_fields more;
    ta_fields_init(&more);
    if (a->more_headers != NULL && !Py_IsNone(a->more_headers) &&
        ta_response_head_add(&more, a->more_headers) < 0) {
        ta_fields_free(&more);
        return -1;
    }
    ta_response_head more_head = ta_fields_head(&more);
    ta_http_cfg cfg = {
        .limits = limits,
        .ops = &ta_upcalls,
        .ctx = server,
        .server_name = a->header ? ta_str_of(a->header, strlen(a->header)) : (ta_str){NULL, 0},
        .more = &more_head,
        .log = &server->log,
        .http2 = a->http2 && ta_h2_version() != NULL,
        .on_room = ta_listening_on_room,
    };
    ta_mem_tune();
    server->http = ta_http_server_new(server->ls->loop, &cfg);
    ta_fields_free(&more);
    if (server->http != NULL)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the server could not be made: out of memory, or "
                                      "server_header is no field value");
    return -1;
}

static int take_compress(ta_server *server, PyObject *spec)
{
    if (spec == NULL || Py_IsNone(spec))
        return 0;
    PyObject *specs = PyTuple_Pack(1, spec);
    server->filters = specs ? ta_filters_new(specs) : NULL;
    Py_XDECREF(specs);
    return server->filters ? 0 : -1;
}

static PyObject *server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    ta_state *st = ta_state_of(type);
    server_args a;
    ta_http_limits limits;
    if (read_args(st, args, kwargs, &a) < 0 || ta_limits_read(a.limits, &limits) < 0)
        return NULL;
    ta_loop_state *ls = prepare_loop(st, &a);
    ta_server *server = ls ? (ta_server *)type->tp_alloc(type, 0) : NULL;
    if (server == NULL)
        return NULL;
    server->st = st;
#ifndef Py_GIL_DISABLED
    server->unused_type =
        (PyTypeObject *)Py_NewRef((PyObject *)ta_server_objects_of(st)->native_exchange.type);
#endif
    server->ls = ls;
    ta_list_init(&server->websocks);
    take_settings(server, &a, &limits);
    if (make_infos(server, a.spec_version) < 0 || take_root(server, a.root) < 0)
        goto error;
    if (a.writer != NULL && !Py_IsNone(a.writer) &&
        (server->access_log = ta_access_log_new(server, a.writer)) == NULL)
        goto error;
    if (a.stats != NULL && !Py_IsNone(a.stats) &&
        (server->recorder = ta_recorder_new(server, a.stats, a.stats_slot)) == NULL)
        goto error;
    if (a.ids != NULL && !Py_IsNone(a.ids) && (server->ids = ta_request_ids_new(a.ids)) == NULL)
        goto error;
    server->timed = server->recorder != NULL || ta_access_log_is_timed(server->access_log);
    if (take_compress(server, a.compress) < 0 || ta_front_take(server, a.front) < 0 ||
        make_http(server, &a, &limits) < 0)
        goto error;
    server->guest.ops = &guest_ops;
    ta_guest_enter(ls, &server->guest);
    return (PyObject *)server;
error:
    Py_DECREF(server);
    return NULL;
}

static PyObject *get_count(PyObject *self, void *closure)
{
    ta_server *server = (ta_server *)self;
    size_t connections;
    switch ((intptr_t)closure) {
    case 0:
        return PyLong_FromUnsignedLongLong(ta_stat_get(&server->served));
    case 1:
        return PyLong_FromUnsignedLongLong(ta_stat_get(&server->active));
    case 2:
        Py_BEGIN_CRITICAL_SECTION(self);
        connections = server->http ? ta_http_server_connections(server->http) : 0;
        Py_END_CRITICAL_SECTION();
        return PyLong_FromSize_t(connections);
    default:
        return PyLong_FromUnsignedLongLong(ta_stat_get(&server->tasks));
    }
}

static PyObject *get_app(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *app;
    Py_BEGIN_CRITICAL_SECTION(self); /* maybe not the thread that replaces it: dispatch.c */
    app = Py_XNewRef((PyObject *)((ta_server *)self)->app);
    Py_END_CRITICAL_SECTION();
    return app ? app : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"listen", ta_listening_listen, METH_VARARGS,
     "listen($self, fd, shared=False, /)\n--\n\n"
     "Accepts connections from a listening, non-blocking socket, which becomes the server's.\n"
     "`shared`: other threads or processes accept from the same one, each in its turn."},
    {"use_tls", ta_listening_use_tls, METH_O,
     "use_tls($self, tls, /)\n--\n\n"
     "Encrypts the connections that are accepted from now on.  Those that are open keep what they\n"
     "have."},
    {"use_proxy_protocol", ta_listening_use_proxy_protocol, METH_O,
     "use_proxy_protocol($self, trusts, /)\n--\n\n"
     "Connections come from proxies, which say whose they are (the PROXY protocol); trusts(host)\n"
     "tells whether one is believed.  Others are closed."},
    {"shutdown", server_shutdown, METH_VARARGS,
     "shutdown($self, on_done, stream_grace=None, /)\n--\n\n"
     "Stops accepting; requests in flight are served; then on_done() is called, once.  Streams\n"
     "end after `stream_grace` seconds (None: in their own time)."},
    {"pending", server_pending, METH_NOARGS,
     "pending($self, /)\n--\n\n"
     "What is open: (requests, streams, WebSockets, background work of requests that are over)."},
    {"cancel", server_cancel, METH_O,
     "cancel($self, msg, /)\n--\n\nCancels the Tasks of its requests."},
    {"close", server_close, METH_NOARGS, "close($self, /)\n--\n\nEnds all connections at once."},
    {NULL},
};

static PyGetSetDef getset[] = {
    {"requests", get_count, NULL, "Requests so far.", (void *)0},
    {"active", get_count, NULL, "Requests whose response is not complete.", (void *)1},
    {"connections", get_count, NULL, "Open connections.", (void *)2},
    {"tasks", get_count, NULL, "Requests that a Task works on.", (void *)3},
    {"app", get_app, NULL, "The App that serves now.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "Server(selector, app, *, limits={}, server_header='turboapi', date_header=True,\n"
     "       root_path='', state=None, access_log=None, logger=None, log_level=30,\n"
     "       max_requests=0, threads=0, spec_version='2.3', proxy=None, watch=None,\n"
     "       access_writer=None, ws_deflate=True, more_headers=None, stats=None,\n"
     "       stats_slot=0, request_ids=None, http2=False, compress=None, front=None)\n--\n\n"
     "An HTTP server on the Selector's loop, which must be running in this thread.\n\n"
     "limits: members of ta_http_limits by name (src/http/http_limits.h).  access_log: called "
     "with\n"
     "(format, client, method, path, version, status).  threads: for `def` handlers; 0: 40.\n"
     "proxy: called with the scope of requests that have X-Forwarded-For or -Proto, to correct "
     "it.\n"
     "access_writer: see turboapi._serving.access; used in place of access_log as long as it "
     "wants.\n"
     "watch: called with (exchange, address of the client) of each request: gives None, or what "
     "learns more of it (for tests; src/py/server/test_observer.c).\n"
     "stats, stats_slot: a Stats to count in, and a slot that this thread has claimed.\n"
     "request_ids: (field they come in, trusts(host), field of the response), each may be None.\n"
     "ws_deflate: agree on permessage-deflate with clients of WebSockets that offer it.\n"
     "more_headers: pairs of bytes that every response has besides its own.\n"
     "http2: clients of plain connections may begin with its preface; TLS offers it by ALPN.\n"
     "compress: a filter that compresses (src/py/server/filters.h), behind the application's.\n"
     "front: (App or None, prefixes, App or None): see src/py/server/front.c."},
    {Py_tp_new, server_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_finalize, server_finalize},
    {Py_tp_dealloc, server_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Server",
    .basicsize = sizeof(ta_server),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

/* What the server was built with: {name: version or None}. */
static int add_libraries(PyObject *module)
{
    PyObject *dict =
        Py_BuildValue("{s:s,s:z}", "openssl", ta_tls_version(), "nghttp2", ta_h2_version());
    PyObject *proxy = dict ? PyDictProxy_New(dict) : NULL;
    Py_XDECREF(dict);
    return PyModule_Add(module, "LIBRARIES", proxy); /* steals; NULL: -1 */
}

int ta_server_init(PyObject *module, ta_state *st)
{
    if (ta_limits_add(module) < 0 || add_libraries(module) < 0)
        return -1;
    return ta_types_add(module, &spec, "Server", &ta_server_objects_of(st)->server.server_type);
}
