/*
 * native_exchange.c -- the exchange over a request of the native server: its life.
 *
 * Layer: py (L4).  What it can do is in scope.c, request_body.c, response.c, send_file.c and
 * streaming_response.c.
 */
#include "py/server/native_int.h"

#include "py/loop/shared_refs.h"
#include "py/support/types.h"

#include <unistd.h>

static PyObject *native_deliver(ta_exchange *base, PyObject *response)
{
    ta_native_exchange *x = ta_native_exchange_of(base);
    if (x->app->pathsend && x->in.place != TA_PLACE_NONE && x->ws == NULL &&
        ta_send_file_is(x->st, response))
        return ta_send_file_call(x, response);
    return ta_streaming_response_new(base, response);
}

static void native_flush(ta_exchange *base)
{
    ta_native_exchange *x = ta_native_exchange_of(base);
    if (x->req != NULL)
        ta_resp_flush(x->req);
}

static PyObject *native_scope_item(const ta_exchange *base, PyObject *key)
{
    const ta_native_exchange *x = (const ta_native_exchange *)base;
    PyObject *items = x->in.place != TA_PLACE_NONE ? x->app->scope_items : NULL;
    PyObject *item = items ? PyDict_GetItemWithError(items, key) : NULL; /* never changed */
    TA_ASSERT(item != NULL || !PyErr_Occurred());                        /* the key is a str */
    return item;
}

static const ta_exchange_ops native_ops = {
    .scope = ta_scope_of,
    .receive = ta_asgi_io_receive,
    .send = ta_asgi_io_send,
    .path_params = ta_scope_path_params,
    .body = ta_request_body_get,
    .respond = ta_response_send,
    .send_file = ta_file_response_send,
    .deliver = native_deliver,
    .flush = native_flush,
    .scope_item = native_scope_item,
    .may_respond = ta_asgi_io_may_respond,
    .send_def = &ta_asgi_io_send_def,
    .read_file = ta_file_response_read,
};

/* -- life ------------------------------------------------------------------------------------- */

static bool is_ascii(ta_str s)
{
    unsigned char all = 0;
    for (size_t i = 0; i < s.len; i++)
        all |= (unsigned char)s.ptr[i];
    return all < 0x80;
}

/* base.path: the decoded path in valid UTF-8, behind the server's root_path. */
static int set_path(ta_native_exchange *native, ta_str path)
{
    ta_str root = native->server->root;
    if (TA_LIKELY(root.len == 0 && is_ascii(path))) {
        native->base.path = path;
        return 0;
    }
    PyObject *text = ta_scope_text(path);
    Py_ssize_t len;
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &len) : NULL;
    if (utf8 != NULL)
        native->in.path_mem = PyMem_Malloc(root.len + (size_t)len + 1);
    if (native->in.path_mem == NULL) {
        Py_XDECREF(text);
        if (utf8 != NULL)
            PyErr_NoMemory();
        return -1;
    }
    if (root.len > 0)
        memcpy(native->in.path_mem, root.ptr, root.len);
    memcpy(native->in.path_mem + root.len, utf8, (size_t)len);
    native->base.path = ta_str_of(native->in.path_mem, root.len + (size_t)len);
    Py_DECREF(text);
    return 0;
}

/* One is made and freed for each request, with memory for the head of its response: *head. */
static ta_native_exchange *allocate(ta_server *server, ta_fields *head)
{
    PyTypeObject *type = ta_server_objects_of(server->st)->native_exchange.type;
#ifndef Py_GIL_DISABLED
    if (TA_LIKELY(server->nunused > 0)) {
        ta_native_exchange *reused = server->unused[--server->nunused];
        *head = reused->out.head;
        return (ta_native_exchange *)PyObject_Init((PyObject *)reused, type);
    }
#endif
    ta_fields_init(head);
    return PyObject_GC_New(ta_native_exchange, type);
}

/* Gives the memory of a finalized exchange to the server, or frees it. */
static void give_back(ta_server *server, ta_native_exchange *finalized)
{
#ifndef Py_GIL_DISABLED
    enum { KEPT_TEXT = 2048, KEPT_PLACES = 64 }; /* more than most heads have */
    ta_fields *head = &finalized->out.head;
    if (server->nunused < TA_SERVER_UNUSED_MAX) {
        if (TA_LIKELY(head->text.cap <= KEPT_TEXT && head->cap <= KEPT_PLACES))
            ta_fields_clear(head);
        else
            ta_fields_free(head);
        head->status = 0;
        server->unused[server->nunused++] = finalized;
        return;
    }
#endif
    (void)server;
    ta_fields_free(&finalized->out.head);
    PyObject_GC_Del(finalized);
}

void ta_native_exchange_free_unused(ta_server *server)
{
#ifndef Py_GIL_DISABLED
    while (server->nunused > 0) {
        ta_native_exchange *unused = server->unused[--server->nunused];
        ta_fields_free(&unused->out.head);
        PyObject_GC_Del(unused); /* asks what its type is */
    }
    Py_CLEAR(server->unused_type);
#else
    (void)server;
#endif
}

void ta_native_exchange_use_app(ta_native_exchange *native, ta_app *app)
{
    PyObject *old = native->holder;
    native->holder = ta_shared_refs_hold(native->base.ls, (PyObject *)app);
    native->app = app;
    Py_XDECREF(old);
}

ta_native_exchange *ta_native_exchange_new(ta_server *server, ta_req *req)
{
    ta_fields head;
    ta_native_exchange *native = allocate(server, &head);
    if (native == NULL)
        return NULL;
    memset((char *)native + sizeof(ta_exchange), 0, sizeof *native - sizeof(ta_exchange));
    ta_exchange_init(&native->base, &native_ops);
    native->st = server->st;
    native->server = (ta_server *)Py_NewRef((PyObject *)server);
    native->base.ls = server->ls;
    ta_native_exchange_use_app(native, server->app);
    native->req = req;
    native->out.file = -1;
    native->out.head = head;
    native->in.version = req->version;
    native->base.method = req->method;
    native->base.method_id = req->method_id;
    native->base.query = req->query;
    native->base.headers = req->headers;
    native->base.nheaders = req->nheaders;
    native->in.raw_path = req->raw_path;
    native->in.secure = req->secure;
    /* The collector does not know it while the request owns it: none of those that wait can be
     * garbage, and each would make every collection longer. */
    if (set_path(native, req->path) < 0) {
        native->req = NULL; /* it was never ours */
        Py_DECREF(native);
        return NULL;
    }
    return native;
}

static ta_str copy_slice(char **p, ta_str s)
{
    ta_str res = {*p, s.len};
    if (s.len > 0)
        memcpy(*p, s.ptr, s.len);
    *p += s.len;
    return res;
}

/* Copies slices that pointed into the connection's buffer to memory of their own. */
static bool detach(ta_native_exchange *native)
{
    ta_exchange *exchange = &native->base;
    bool own_path = native->in.path_mem != NULL;
    size_t need = exchange->nheaders * sizeof *exchange->headers + exchange->method.len +
                  exchange->query.len + native->in.raw_path.len +
                  (own_path ? 0 : exchange->path.len);
    for (uint32_t i = 0; i < exchange->nheaders; i++)
        need += exchange->headers[i].name.len + exchange->headers[i].value.len;
    TA_ASSERT(native->in.copy == NULL);
    char *p = PyMem_Malloc(need + 1);
    if (p == NULL)
        return false;
    native->in.copy = p;
    ta_header *headers = (ta_header *)(void *)p;
    p += exchange->nheaders * sizeof *headers;
    for (uint32_t i = 0; i < exchange->nheaders; i++) {
        headers[i].name = copy_slice(&p, exchange->headers[i].name);
        headers[i].value = copy_slice(&p, exchange->headers[i].value);
    }
    exchange->headers = headers;
    exchange->method = copy_slice(&p, exchange->method);
    exchange->query = copy_slice(&p, exchange->query);
    native->in.raw_path = copy_slice(&p, native->in.raw_path);
    if (!own_path) {
        const char *old = exchange->path.ptr;
        exchange->path = copy_slice(&p, exchange->path);
        for (uint32_t i = 0; i < exchange->nparams; i++) {
            if (exchange->param_values[i].len > 0)
                exchange->param_values[i].ptr =
                    exchange->path.ptr + (exchange->param_values[i].ptr - old);
        }
    }
    return true;
}

void ta_native_exchange_closed(ta_native_exchange *native)
{
    TA_ASSERT(native->req != NULL); /* once */
    if (Py_REFCNT(native) - ta_asgi_io_own_references(native) > 1) {
        PyObject_GC_Track((PyObject *)native); /* from now on objects alone own it */
        /* A run continues (background tasks, a handler whose client has disconnected), or Python
         * keeps it. */
        if (native->base.scope_dict == NULL) {
            /* The addresses are the connection's, so they must be made now. */
            PyObject *scope = ta_scope_of(&native->base);
            if (scope == NULL)
                ta_loop_state_unhandled(native->base.ls,
                                        "The scope of a request could not be made");
            Py_XDECREF(scope);
        }
        if (!detach(native)) {
            native->base.nheaders = 0;
            native->base.method.len = native->base.query.len = native->in.raw_path.len = 0;
            native->base.nparams = 0;
            if (native->in.path_mem == NULL)
                native->base.path.len = 0;
        }
    }
    ta_loop_undefer(native->base.ls->loop, &native->later);
    native->req = NULL;
    native->peer = TA_PEER_GONE;
    if (!ta_response_is_over(native->out.state))
        ta_native_exchange_move(native, TA_RESPONSE_LOST);
    if (native->out.file >= 0)
        close(native->out.file);
    native->out.file = -1;
    if (native->ws != NULL)
        ta_websocket_gone(native);
    ta_streaming_response_left(native);
    ta_waiters_wake(&native->in.readers);
    ta_waiters_wake(&native->out.writers);
}

static int native_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_native_exchange *native = (ta_native_exchange *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)native->server);
    Py_VISIT(native->holder);
    Py_VISIT(native->asgi.watch);
    Py_VISIT(native->asgi.receive);
    Py_VISIT(native->asgi.send);
    int rc = ta_waiters_traverse(&native->in.readers, visit, arg);
    if (rc == 0)
        rc = ta_waiters_traverse(&native->out.writers, visit, arg);
    if (rc == 0)
        rc = ta_websocket_traverse(native, visit, arg);
    return rc ? rc : ta_exchange_traverse(&native->base, visit, arg);
}

static int native_clear(PyObject *self)
{
    ta_native_exchange *native = (ta_native_exchange *)self;
    ta_waiters_clear(&native->in.readers);
    ta_waiters_clear(&native->out.writers);
    Py_CLEAR(native->asgi.watch);
    ta_exchange_clear(&native->base);
    return 0;
}

static void native_dealloc(PyObject *self)
{
    ta_native_exchange *native = (ta_native_exchange *)self;
    PyTypeObject *type = Py_TYPE(self);
    ta_server *server = native->server;
    PyObject_GC_UnTrack(self);
    /* on_close has come, and nobody holds it without a reference. */
    TA_ASSERT(native->req == NULL && native->out.file < 0 && native->out.stream == NULL);
    TA_ASSERT(native->asgi.receive == NULL && native->asgi.send == NULL);
    TA_ASSERT(!ta_list_linked(&native->later.node) && !ta_work_has_task(native->asgi.work));
    (void)native_clear(self);
    ta_websocket_free(native);
    native->server = NULL;
    native->app = NULL;
    Py_CLEAR(native->holder);
    Py_XDECREF(native->out.reason);
    ta_buf_free(&native->out.packed);
    ta_packer_free(native->out.packer);
    PyMem_Free(native->in.copy);
    PyMem_Free(native->in.path_mem);
    give_back(server, native);
    Py_DECREF(type);
    Py_DECREF(server); /* last: with its last reference goes what it keeps */
}

/* New reference: the body, an awaitable of it, or None when receive() has given some of it. */
static PyObject *native_gather(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_native_exchange *x = (ta_native_exchange *)self;
    if (x->base.body_bytes == NULL && x->in.state != TA_INPUT_NONE)
        Py_RETURN_NONE;
    PyObject *out;
    return ta_request_body_get(&x->base, &out) < 0 ? NULL : out;
}

static PyObject *native_cancel(PyObject *self, PyObject *msg)
{
    ta_native_exchange *x = (ta_native_exchange *)self;
    if (ta_work_has_task(x->asgi.work) && ta_dispatch_cancel(x, msg) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"gather", native_gather, METH_NOARGS,
     "gather($self, /)\n--\n\n"
     "The whole body: bytes when it is here, else an awaitable of it; None when receive() was\n"
     "called for it before."},
    {"cancel", native_cancel, METH_O,
     "cancel($self, msg, /)\n--\n\nCancels the Task that works on it, if one does."},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "One HTTP exchange of the native server."},
    {Py_tp_methods, methods},
    {Py_tp_traverse, native_traverse},
    {Py_tp_clear, native_clear},
    {Py_tp_dealloc, native_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Exchange",
    .basicsize = sizeof(ta_native_exchange),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_native_exchange_init(PyObject *module, ta_state *st)
{
    PyObject *file = ta_types_import("starlette.responses", "FileResponse");
    if (file == NULL)
        return -1;
    ta_server_objects_of(st)->native_exchange.file_call =
        PyObject_GetAttr(file, st->names.dunder_call);
    Py_DECREF(file);
    if (ta_server_objects_of(st)->native_exchange.file_call == NULL)
        return -1;
    PyTypeObject **type = &ta_server_objects_of(st)->native_exchange.type;
    if (ta_types_add(module, &spec, "Exchange", type) < 0)
        return -1;
    ta_exchange_objects_of(st)->native_type = (PyTypeObject *)Py_NewRef((PyObject *)*type);
    return 0;
}
