/*
 * native_exchange.c -- the exchange over a request of the native server.
 *
 * Layer: py (L4).  See native_int.h for the rest of the server.
 */
#include "py/server/native_int.h"

#include <structmember.h>
#include <unistd.h>

#include "py/loop/task_pool.h"
#include "py/plan/router.h"
#include "py/support/coroutine.h"

/* -- waiters ---------------------------------------------------------------------------------- */

PyObject *ta_waiters_add(ta_waiters *w, ta_loopstate *ls)
{
    ta_waiter *waiter = ta_waiter_new(ls, NULL, NULL);
    if (waiter == NULL)
        return NULL;
    if (w->first != NULL && ta_waiter_done(w->first)) /* cancelled */
        Py_CLEAR(w->first);
    if (w->first == NULL) {
        w->first = (ta_waiter *)Py_NewRef((PyObject *)waiter);
        return (PyObject *)waiter;
    }
    if (w->more == NULL && (w->more = PyList_New(0)) == NULL)
        goto error;
    if (PyList_Append(w->more, (PyObject *)waiter) < 0)
        goto error;
    return (PyObject *)waiter;
error:
    Py_DECREF(waiter);
    return NULL;
}

void ta_waiters_wake(ta_waiters *w)
{
    ta_waiter *first = w->first;
    PyObject *more = w->more;
    w->first = NULL;
    w->more = NULL;
    if (first != NULL) {
        ta_waiter_set_result(first, Py_None);
        Py_DECREF(first);
    }
    if (more != NULL) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(more); i++)
            ta_waiter_set_result((ta_waiter *)PyList_GET_ITEM(more, i), Py_None);
        Py_DECREF(more);
    }
}

int ta_waiters_traverse(ta_waiters *w, visitproc visit, void *arg)
{
    Py_VISIT(w->first);
    Py_VISIT(w->more);
    return 0;
}

void ta_waiters_clear(ta_waiters *w)
{
    Py_CLEAR(w->first);
    Py_CLEAR(w->more);
}

/* -- scope ------------------------------------------------------------------------------------ */

PyObject *ta_native_text(ta_str s)
{
    return PyUnicode_DecodeUTF8(s.ptr, (Py_ssize_t)s.len, "replace");
}

static PyObject *bytes_of(ta_str s)
{
    return PyBytes_FromStringAndSize(s.ptr, (Py_ssize_t)s.len);
}

/* The bytes object of a header name; the same few come again and again. */
static PyObject *header_name(ta_server *server, ta_str name)
{
    if (name.len == 0 || name.len > 64)
        return bytes_of(name);
    size_t h = name.len * 7 + (unsigned char)name.ptr[0] * 31 +
               (unsigned char)name.ptr[name.len - 1] * 5 + (unsigned char)name.ptr[name.len / 2];
    PyObject **slot = &server->names[h % TA_COUNTOF(server->names)];
    PyObject *known = *slot;
    if (known != NULL && (size_t)PyBytes_GET_SIZE(known) == name.len &&
        memcmp(PyBytes_AS_STRING(known), name.ptr, name.len) == 0)
        return Py_NewRef(known);
    PyObject *made = bytes_of(name);
    if (made != NULL)
        Py_XSETREF(*slot, Py_NewRef(made));
    return made;
}

static PyObject *header_list(ta_native *x)
{
    const ta_xch *base = &x->base;
    PyObject *list = PyList_New(base->nheaders);
    if (list == NULL)
        return NULL;
    for (uint32_t i = 0; i < base->nheaders; i++) {
        PyObject *name = header_name(x->server, base->headers[i].name);
        PyObject *value = name ? bytes_of(base->headers[i].value) : NULL;
        PyObject *pair = value ? PyTuple_New(2) : NULL;
        if (pair == NULL) {
            Py_XDECREF(name);
            Py_XDECREF(value);
            Py_DECREF(list);
            return NULL;
        }
        PyTuple_SET_ITEM(pair, 0, name);
        PyTuple_SET_ITEM(pair, 1, value);
        PyList_SET_ITEM(list, i, pair);
    }
    return list;
}

/* (host, port), or None for a unix socket. */
static PyObject *address(ta_str host, uint16_t port)
{
    if (host.len == 0)
        return Py_NewRef(Py_None);
    PyObject *text = ta_native_text(host);
    return text ? Py_BuildValue("(NI)", text, (unsigned)port) : NULL;
}

PyObject *ta_native_peer(ta_native *x)
{
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    if (x->req != NULL)
        ta_req_peer(x->req, &host, &port);
    return address(host, port);
}

static PyObject *local_address(ta_native *x)
{
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    if (x->req != NULL)
        ta_req_local(x->req, &host, &port);
    return address(host, port);
}

PyObject *ta_native_client_text(ta_native *x)
{
    PyObject *client = NULL, *res = NULL;
    if (x->base.scope_dict != NULL) /* maybe corrected by a proxy's word */
        client = Py_XNewRef(PyDict_GetItemWithError(x->base.scope_dict, x->st->o.names.client));
    if (client == NULL && !PyErr_Occurred())
        client = ta_native_peer(x);
    if (client == NULL)
        return NULL;
    if (PyTuple_Check(client) && PyTuple_GET_SIZE(client) == 2)
        res =
            PyUnicode_FromFormat("%S:%S", PyTuple_GET_ITEM(client, 0), PyTuple_GET_ITEM(client, 1));
    else
        res = PyUnicode_FromString("");
    Py_DECREF(client);
    return res;
}

/* dict[key] = value; steals value, which may be NULL with an exception. */
static int put(PyObject *dict, PyObject *key, PyObject *value)
{
    if (value == NULL)
        return -1;
    int rc = PyDict_SetItem(dict, key, value);
    Py_DECREF(value);
    return rc;
}

static PyObject *method_text(ta_native *x)
{
    const ta_names_state *n = &x->st->o.names;
    switch (x->base.method_id) {
    case TA_METHOD_GET:
        return Py_NewRef(n->GET);
    case TA_METHOD_HEAD:
        return Py_NewRef(n->HEAD);
    case TA_METHOD_POST:
        return Py_NewRef(n->POST);
    case TA_METHOD_PUT:
        return Py_NewRef(n->PUT);
    case TA_METHOD_DELETE:
        return Py_NewRef(n->DELETE);
    default:
        return ta_native_text(x->base.method);
    }
}

/* Borrowed. */
static PyObject *version_text(const ta_native *x)
{
    const ta_names_state *n = &x->st->o.names;
    return x->version == TA_HTTP_1_1 ? n->v1_1 : x->version == TA_HTTP_2 ? n->v2 : n->v1_0;
}

bool ta_native_proxied(const ta_native *x)
{
    ta_str value;
    return x->server->proxy != NULL && (ta_xch_header(&x->base, "x-forwarded-for", 15, &value) ||
                                        ta_xch_header(&x->base, "x-forwarded-proto", 17, &value));
}

/* Who the client is according to a proxy in front of us, or to a test. */
static int correct(ta_native *x, PyObject *scope)
{
    int rc = 0;
    if (TA_UNLIKELY(x->watch != NULL)) {
        ta_ls_enter(x->base.ls);
        rc = ta_watch_scope(x, scope);
        ta_ls_leave(x->base.ls);
    }
    if (rc < 0)
        return -1;
    if (!ta_native_proxied(x))
        return 0;
    ta_ls_enter(x->base.ls);
    PyObject *res = PyObject_CallOneArg(x->server->proxy, scope);
    ta_ls_leave(x->base.ls);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* What a server tells any ASGI application. */
static PyObject *plain_scope(ta_native *x)
{
    const ta_names_state *n = &x->st->o.names;
    ta_server *server = x->server;
    PyObject *scope = PyDict_New();
    if (scope == NULL)
        return NULL;
    if (PyDict_SetItem(scope, n->type, n->http) < 0 ||
        put(scope, n->asgi, PyDict_Copy(server->asgi_info)) < 0 ||
        PyDict_SetItem(scope, n->http_version, version_text(x)) < 0 ||
        put(scope, n->server, local_address(x)) < 0 ||
        put(scope, n->client, ta_native_peer(x)) < 0 ||
        PyDict_SetItem(scope, n->scheme, x->secure ? n->https : n->http) < 0 ||
        PyDict_SetItem(scope, n->root_path, server->root_path) < 0 ||
        put(scope, n->headers, header_list(x)) < 0 ||
        (server->state != NULL && put(scope, n->state, PyDict_Copy(server->state)) < 0) ||
        put(scope, n->method, method_text(x)) < 0 ||
        put(scope, n->path, ta_native_text(x->base.path)) < 0 ||
        put(scope, n->raw_path, bytes_of(x->raw_path)) < 0 ||
        put(scope, n->query_string, bytes_of(x->base.query)) < 0 ||
        (x->app->pathsend &&
         put(scope, n->extensions, Py_BuildValue("{O{}}", n->turboapi_pathsend)) < 0) ||
        (x->ws != NULL && ta_websock_scope(x, scope) < 0) || correct(x, scope) < 0)
        Py_CLEAR(scope);
    return scope;
}

static PyObject *native_path_params(ta_xch *base)
{
    ta_native *x = ta_native_of(base);
    if (base->path_params == NULL) {
        if (x->matched) {
            ta_match match = {.index = x->entry, .nparams = base->nparams};
            memcpy(match.values, base->param_values, base->nparams * sizeof *match.values);
            base->path_params = ta_router_path_params(x->app->router, &match);
        } else {
            base->path_params = PyDict_New();
        }
    }
    return Py_XNewRef(base->path_params);
}

/* What mounts tell those below them. */
static int mounted_scope(ta_native *x, PyObject *scope)
{
    const ta_names_state *n = &x->st->o.names;
    ta_str path = x->base.path;
    ta_str root = ta_str_of(path.ptr, TA_MIN(x->root_len, path.len));
    ta_str app_root = ta_str_of(path.ptr, TA_MIN(x->app_root_len, path.len));
    if (put(scope, n->root_path, ta_native_text(root)) < 0)
        return -1;
    return put(scope, n->app_root_path, ta_native_text(app_root));
}

static PyObject *native_scope(ta_xch *base)
{
    ta_native *x = ta_native_of(base);
    if (base->scope_dict != NULL)
        return Py_NewRef(base->scope_dict);
    PyObject *scope = plain_scope(x);
    if (scope == NULL)
        return NULL;
    if (x->matched) {
        const ta_names_state *n = &x->st->o.names;
        if ((x->app->scope_items != NULL && PyDict_Update(scope, x->app->scope_items) < 0) ||
            (x->app->root_len > 0 && PyDict_SetItem(scope, n->root_path, x->app->root_path) < 0) ||
            (x->mounted && mounted_scope(x, scope) < 0) ||
            put(scope, n->path_params, native_path_params(base)) < 0 ||
            (base->scope_items != NULL && PyDict_Update(scope, base->scope_items) < 0)) {
            Py_DECREF(scope);
            return NULL;
        }
    }
    base->scope_dict = scope;
    return Py_NewRef(scope);
}

/* -- body ------------------------------------------------------------------------------------- */

/* Waits until all of the body is there. */
typedef struct native_body {
    ta_co co;
    ta_native *x; /* owned */
} native_body;

int ta_native_check_size(ta_native *x, uint64_t size)
{
    if (TA_LIKELY(size <= x->base.max_body))
        return 0;
    PyObject *exc = PyObject_CallFunction(x->st->engine.http_exception, "i", 413);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return -1;
}

PyObject *ta_native_await_input(ta_native *x, size_t want)
{
    PyObject *waiter = ta_waiters_add(&x->readers, x->base.ls);
    if (waiter != NULL)
        ta_req_want_body(x->req, want);
    return waiter;
}

static int disconnected(ta_native *x)
{
    PyErr_SetNone(x->st->engine.client_disconnect);
    return -1;
}

/* 1: *out is the body; 0: wait; -1. */
static int try_body(ta_native *x, PyObject **out)
{
    ta_req *req = x->req;
    if (req == NULL || (x->disconnected && !req->body_eof))
        return disconnected(x);
    if (req->content_length >= 0 && ta_native_check_size(x, (uint64_t)req->content_length) < 0)
        return -1;
    if (ta_native_check_size(x, x->received + req->body.len) < 0)
        return -1;
    if (!req->body_eof)
        return 0;
    PyObject *bytes = bytes_of(ta_buf_str(&req->body));
    if (bytes == NULL)
        return -1;
    x->received += req->body.len;
    ta_req_consume(req, req->body.len);
    x->base.body_bytes = Py_NewRef(bytes);
    x->body_given = true; /* as if receive() had given it: what comes next is the disconnect */
    *out = bytes;
    return 1;
}

static ta_step body_advance(ta_co *co, PyObject *value)
{
    native_body *b = (native_body *)co;
    ta_step step = TA_STEP_ERROR;
    if (value == NULL && PyErr_Occurred())
        goto done;
    Py_XDECREF(value);
    PyObject *bytes = Py_XNewRef(b->x->base.body_bytes);
    int rc = bytes ? 1 : try_body(b->x, &bytes);
    if (rc == 1) {
        co->result = bytes;
        step = TA_STEP_DONE;
    } else if (rc == 0) {
        PyObject *waiter = ta_native_await_input(b->x, SIZE_MAX);
        if (waiter != NULL)
            step = ta_co_await(co, waiter);
    }
done:
    if (step != TA_STEP_AWAIT)
        Py_CLEAR(b->x);
    return step;
}

static int native_body_op(ta_xch *base, PyObject **out)
{
    ta_native *x = ta_native_of(base);
    if (base->body_bytes != NULL) {
        *out = Py_NewRef(base->body_bytes);
        return 1;
    }
    int rc = try_body(x, out);
    if (rc != 0)
        return rc;
    native_body *b = PyObject_GC_New(native_body, x->st->o.xch_native.body_type);
    if (b == NULL)
        return -1;
    ta_co_init(&b->co, body_advance);
    b->x = (ta_native *)Py_NewRef((PyObject *)x);
    PyObject_GC_Track((PyObject *)b);
    *out = (PyObject *)b;
    return 0;
}

static int body_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)((native_body *)self)->x);
    return ta_co_traverse((ta_co *)self, visit, arg);
}

static int body_clear(PyObject *self)
{
    ((ta_co *)self)->finished = true;
    ta_co_clear((ta_co *)self);
    Py_CLEAR(((native_body *)self)->x);
    return 0;
}

static void body_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)body_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef co_methods[] = {TA_CO_METHODS, {NULL}};
static PyGetSetDef co_getset[] = {TA_CO_GETSET, {NULL}};

static PyType_Slot body_slots[] = {
    {Py_tp_doc, "Awaits the whole body of a request."},
    TA_CO_SLOTS,
    {Py_tp_methods, co_methods},
    {Py_tp_getset, co_getset},
    {Py_tp_traverse, body_traverse},
    {Py_tp_clear, body_clear},
    {Py_tp_dealloc, body_dealloc},
    {0, NULL},
};

static PyType_Spec body_spec = {
    .name = "turboapi._core.NativeBody",
    .basicsize = sizeof(native_body),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = body_slots,
};

/* -- respond ---------------------------------------------------------------------------------- */

/* The head's lines and, maybe, the body are changed.  As ta_filters_body. */
static int filter_response(ta_native *x, int status, ta_piece *body, PyObject **job)
{
    int rc = ta_filters_start(x, status);
    return rc == 0 ? ta_filters_body(x, body, false, job) : rc;
}

static int native_respond(ta_xch *base, int status, ta_str headers, PyObject *raw_headers,
                          const ta_piece *body, PyObject **awaitable)
{
    ta_native *x = ta_native_of(base);
    ta_piece packed;
    ta_lender lender;
    unsigned flags;
    if (base->response_started) {
        PyErr_SetString(PyExc_RuntimeError, "The response has already been started.");
        return -1;
    }
    if (raw_headers != NULL) {
        if (ta_head_add(&x->head, raw_headers) < 0)
            goto refused;
        ta_head_suit(&x->head, status);
        headers = ta_buf_str(&x->head.lines);
        flags = x->head.flags;
    } else {
        flags = ta_head_scan(headers);
    }
    if (x->filters != NULL && x->req != NULL) {
        PyObject *job = NULL;
        if (raw_headers == NULL) {
            if (ta_buf_append_str(&x->head.lines, headers) != TA_OK) {
                PyErr_NoMemory();
                goto refused;
            }
            x->head.flags = flags;
        }
        packed = *body;
        body = &packed;
        int rc = filter_response(x, status, &packed, &job);
        if (rc < 0)
            goto refused;
        base->response_started = true;
        if (rc == 0) {
            *awaitable = ta_native_send_packed(x, job);
            return *awaitable ? 0 : -1;
        }
        headers = ta_buf_str(&x->head.lines);
        flags = x->head.flags;
    }
    base->response_started = true;
    x->complete = x->done = true;
    ta_native_started(x, status);
    if (x->req == NULL)
        return 1; /* the peer has gone: nobody to tell */
    int rc = ta_resp_send_lent(x->req, status, headers, flags | x->server->base_flags, body->data,
                               ta_piece_lender(body, &lender));
    if (TA_UNLIKELY(rc == TA_EINVAL)) {
        base->response_started = x->complete = x->done = false;
        ta_head_reset(&x->head);
        PyErr_Format(PyExc_RuntimeError, "Invalid response: status %d, %zu bytes", status,
                     body->data.len);
        return -1;
    }
    /* TA_AGAIN, TA_ECLOSED: taken over, or nobody there; nothing more is to be sent. */
    ta_buf_free(&x->packed);
    if (x->readers.first != NULL)
        ta_waiters_wake(&x->readers);
    return 1;
refused:
    ta_filters_drop(x);
    ta_head_reset(&x->head);
    return -1;
}

/* -- responses that are not called ------------------------------------------------------------ */

static bool is_file(ta_state *st, PyObject *response)
{
    PyObject *call = PyObject_GetAttr((PyObject *)Py_TYPE(response), st->o.names.dunder_call);
    if (call == NULL)
        PyErr_Clear();
    Py_XDECREF(call);
    return call == st->o.xch_native.file_call;
}

/*
 * A FileResponse of a plan: nothing is between it and us, so that it may send the file by its path.
 * The scope of the request does not say so: the application may use that with a send of its own.
 */
static PyObject *call_file(ta_native *x, PyObject *response)
{
    const ta_names_state *n = &x->st->o.names;
    PyObject *own = native_scope(&x->base), *extensions = NULL, *offer = NULL, *res = NULL;
    PyObject *scope = own ? PyDict_Copy(own) : NULL;
    Py_XDECREF(own);
    if (scope == NULL)
        return NULL;
    if (PyDict_GetItemRef(scope, n->extensions, &extensions) < 0)
        goto done;
    /* Copied: it is shared with the scope that Python has. */
    offer = extensions != NULL && PyDict_Check(extensions) ? PyDict_Copy(extensions) : PyDict_New();
    if (offer == NULL || put(offer, n->http_response_pathsend, PyDict_New()) < 0 ||
        PyDict_SetItem(scope, n->extensions, offer) < 0)
        goto done;
    PyObject *receive = ta_native_receive(&x->base);
    PyObject *send = receive ? ta_native_send(&x->base) : NULL;
    if (send != NULL) {
        PyObject *args[] = {NULL, scope, receive, send};
        res = PyObject_Vectorcall(response, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(send);
    Py_XDECREF(receive);
done:
    Py_XDECREF(offer);
    Py_XDECREF(extensions);
    Py_DECREF(scope);
    return res;
}

static PyObject *native_deliver(ta_xch *base, PyObject *response)
{
    ta_native *x = ta_native_of(base);
    if (x->app->pathsend && x->matched && x->ws == NULL && is_file(x->st, response))
        return call_file(x, response);
    return ta_native_stream(base, response);
}

static void native_flush(ta_xch *base)
{
    ta_native *x = ta_native_of(base);
    if (x->req != NULL)
        ta_resp_flush(x->req);
}

static const ta_xch_ops native_ops = {
    .scope = native_scope,
    .receive = ta_native_receive,
    .send = ta_native_send,
    .path_params = native_path_params,
    .body = native_body_op,
    .respond = native_respond,
    .deliver = native_deliver,
    .flush = native_flush,
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
static int set_path(ta_native *x, ta_str path)
{
    ta_str root = x->server->root;
    if (TA_LIKELY(root.len == 0 && is_ascii(path))) {
        x->base.path = path;
        return 0;
    }
    PyObject *text = ta_native_text(path);
    Py_ssize_t len;
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &len) : NULL;
    if (utf8 != NULL)
        x->path_mem = PyMem_Malloc(root.len + (size_t)len + 1);
    if (x->path_mem == NULL) {
        Py_XDECREF(text);
        if (utf8 != NULL)
            PyErr_NoMemory();
        return -1;
    }
    if (root.len > 0)
        memcpy(x->path_mem, root.ptr, root.len);
    memcpy(x->path_mem + root.len, utf8, (size_t)len);
    x->base.path = ta_str_of(x->path_mem, root.len + (size_t)len);
    Py_DECREF(text);
    return 0;
}

ta_native *ta_native_new(ta_server *server, ta_req *req)
{
    ta_native *x = PyObject_GC_New(ta_native, server->st->o.xch_native.type);
    if (x == NULL)
        return NULL;
    memset((char *)x + sizeof(ta_xch), 0, sizeof *x - sizeof(ta_xch));
    ta_xch_init(&x->base, &native_ops);
    x->st = server->st;
    x->server = (ta_server *)Py_NewRef((PyObject *)server);
    x->app = (ta_app *)Py_NewRef((PyObject *)server->app);
    x->req = req;
    x->file = -1;
    x->head.length = -1;
    x->version = req->version;
    x->base.ls = server->ls;
    x->base.method = req->method;
    x->base.method_id = req->method_id;
    x->base.query = req->query;
    x->base.headers = req->headers;
    x->base.nheaders = req->nheaders;
    x->raw_path = req->raw_path;
    x->secure = req->secure;
    PyObject_GC_Track((PyObject *)x);
    if (set_path(x, req->path) < 0) {
        Py_DECREF(x);
        return NULL;
    }
    return x;
}

static ta_str copy_slice(char **p, ta_str s)
{
    ta_str res = {*p, s.len};
    if (s.len > 0)
        memcpy(*p, s.ptr, s.len);
    *p += s.len;
    return res;
}

/* Slices that pointed into the connection's buffer get memory of their own. */
static bool detach(ta_native *x)
{
    ta_xch *b = &x->base;
    bool own_path = x->path_mem != NULL;
    size_t need = b->nheaders * sizeof *b->headers + b->method.len + b->query.len +
                  x->raw_path.len + (own_path ? 0 : b->path.len);
    for (uint32_t i = 0; i < b->nheaders; i++)
        need += b->headers[i].name.len + b->headers[i].value.len;
    char *p = PyMem_Malloc(need + 1);
    if (p == NULL)
        return false;
    x->copy = p;
    ta_header *headers = (ta_header *)(void *)p;
    p += b->nheaders * sizeof *headers;
    for (uint32_t i = 0; i < b->nheaders; i++) {
        headers[i].name = copy_slice(&p, b->headers[i].name);
        headers[i].value = copy_slice(&p, b->headers[i].value);
    }
    b->headers = headers;
    b->method = copy_slice(&p, b->method);
    b->query = copy_slice(&p, b->query);
    x->raw_path = copy_slice(&p, x->raw_path);
    if (!own_path) {
        const char *old = b->path.ptr;
        b->path = copy_slice(&p, b->path);
        for (uint32_t i = 0; i < b->nparams; i++) {
            if (b->param_values[i].len > 0)
                b->param_values[i].ptr = b->path.ptr + (b->param_values[i].ptr - old);
        }
    }
    return true;
}

void ta_native_closed(ta_native *x)
{
    if (x->req == NULL)
        return;
    if (Py_REFCNT(x) > 1) {
        /* A run goes on (background tasks, a handler whose client has gone), or Python keeps it. */
        if (x->base.scope_dict == NULL) {
            /* The addresses are the connection's: now or never. */
            PyObject *scope = native_scope(&x->base);
            if (scope == NULL)
                ta_ls_unhandled(x->base.ls, "The scope of a request could not be made");
            Py_XDECREF(scope);
        }
        if (!detach(x)) {
            x->base.nheaders = 0;
            x->base.method.len = x->base.query.len = x->raw_path.len = 0;
            x->base.nparams = 0;
            if (x->path_mem == NULL)
                x->base.path.len = 0;
        }
    }
    ta_loop_undefer(x->base.ls->loop, &x->later);
    x->req = NULL;
    x->disconnected = x->gone = true;
    x->complete = true;
    x->head_waits = false;
    if (x->file >= 0)
        close(x->file);
    x->file = -1;
    if (x->ws != NULL)
        ta_websock_gone(x);
    ta_streamer_left(x);
    ta_waiters_wake(&x->readers);
    ta_waiters_wake(&x->writers);
}

static int native_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_native *x = (ta_native *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)x->server);
    Py_VISIT((PyObject *)x->app);
    Py_VISIT(x->watch);
    int rc = ta_waiters_traverse(&x->readers, visit, arg);
    if (rc == 0)
        rc = ta_waiters_traverse(&x->writers, visit, arg);
    if (rc == 0)
        rc = ta_websock_traverse(x, visit, arg);
    return rc ? rc : ta_xch_traverse(&x->base, visit, arg);
}

static int native_clear(PyObject *self)
{
    ta_native *x = (ta_native *)self;
    ta_waiters_clear(&x->readers);
    ta_waiters_clear(&x->writers);
    Py_CLEAR(x->watch);
    ta_xch_clear(&x->base);
    return 0;
}

static void native_dealloc(PyObject *self)
{
    ta_native *x = (ta_native *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)native_clear(self);
    ta_websock_free(x);
    Py_CLEAR(x->server);
    Py_CLEAR(x->app);
    ta_buf_free(&x->head.lines);
    Py_XDECREF(x->reason);
    ta_buf_free(&x->packed);
    ta_gzip_free(x->gzip);
    PyMem_Free(x->copy);
    PyMem_Free(x->path_mem);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* New reference: the body, an awaitable of it, or None when receive() has given some of it. */
static PyObject *native_gather(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_native *x = (ta_native *)self;
    if (x->base.body_bytes == NULL && (x->received > 0 || x->body_given))
        Py_RETURN_NONE;
    PyObject *out;
    return native_body_op(&x->base, &out) < 0 ? NULL : out;
}

static PyObject *native_cancel(PyObject *self, PyObject *msg)
{
    ta_native *x = (ta_native *)self;
    if (x->running && ta_native_cancel_task(x, msg) < 0)
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
    .basicsize = sizeof(ta_native),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_native_init(PyObject *module, ta_state *st)
{
    PyObject *file = ta_import_attr("starlette.responses", "FileResponse");
    if (file == NULL)
        return -1;
    st->o.xch_native.file_call = PyObject_GetAttr(file, st->o.names.dunder_call);
    Py_DECREF(file);
    if (st->o.xch_native.file_call == NULL ||
        ta_add_type(module, &spec, "Exchange", &st->o.xch_native.type) < 0)
        return -1;
    return ta_add_type(module, &body_spec, NULL, &st->o.xch_native.body_type);
}
