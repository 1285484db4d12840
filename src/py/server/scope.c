/*
 * scope.c -- the ASGI scope of a request, and what else is told of who sent it.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "py/plan/router.h"

PyObject *ta_scope_text(ta_str s)
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

static PyObject *header_list(ta_native_exchange *x)
{
    const ta_exchange *base = &x->base;
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
    PyObject *text = ta_scope_text(host);
    return text ? Py_BuildValue("(NI)", text, (unsigned)port) : NULL;
}

PyObject *ta_scope_peer(ta_native_exchange *x)
{
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    if (x->req != NULL)
        ta_req_peer(x->req, &host, &port);
    return address(host, port);
}

static PyObject *local_address(ta_native_exchange *x)
{
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    if (x->req != NULL)
        ta_req_local(x->req, &host, &port);
    return address(host, port);
}

PyObject *ta_scope_client(ta_native_exchange *x)
{
    PyObject *client = NULL, *res = NULL;
    if (x->base.scope_dict != NULL) /* maybe corrected by a proxy's word */
        client = Py_XNewRef(PyDict_GetItemWithError(x->base.scope_dict, x->st->names.client));
    if (client == NULL && !PyErr_Occurred())
        client = ta_scope_peer(x);
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

static PyObject *method_text(ta_native_exchange *x)
{
    const ta_names_state *n = &x->st->names;
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
        return ta_scope_text(x->base.method);
    }
}

/* Borrowed. */
static PyObject *version_text(const ta_native_exchange *x)
{
    const ta_names_state *n = &x->st->names;
    return x->in.version == TA_HTTP_1_1 ? n->v1_1 : x->in.version == TA_HTTP_2 ? n->v2 : n->v1_0;
}

bool ta_scope_is_proxied(const ta_native_exchange *x)
{
    ta_str value;
    return x->server->proxy != NULL &&
           (ta_exchange_header(&x->base, "x-forwarded-for", 15, &value) ||
            ta_exchange_header(&x->base, "x-forwarded-proto", 17, &value));
}

/* Who the client is according to a proxy in front of us, or to a test. */
static int correct(ta_native_exchange *x, PyObject *scope)
{
    int rc = 0;
    if (TA_UNLIKELY(x->asgi.watch != NULL)) {
        ta_loop_state_enter(x->base.ls);
        rc = ta_test_observer_scope(x, scope);
        ta_loop_state_leave(x->base.ls);
    }
    if (rc < 0)
        return -1;
    if (!ta_scope_is_proxied(x))
        return 0;
    ta_loop_state_enter(x->base.ls);
    PyObject *res = PyObject_CallOneArg(x->server->proxy, scope);
    ta_loop_state_leave(x->base.ls);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* What a server tells any ASGI application. */
static PyObject *plain_scope(ta_native_exchange *x)
{
    const ta_names_state *n = &x->st->names;
    ta_server *server = x->server;
    PyObject *scope = PyDict_New();
    if (scope == NULL)
        return NULL;
    if (PyDict_SetItem(scope, n->type, n->http) < 0 ||
        put(scope, n->asgi, PyDict_Copy(server->asgi_info)) < 0 ||
        PyDict_SetItem(scope, n->http_version, version_text(x)) < 0 ||
        put(scope, n->server, local_address(x)) < 0 ||
        put(scope, n->client, ta_scope_peer(x)) < 0 ||
        PyDict_SetItem(scope, n->scheme, x->in.secure ? n->https : n->http) < 0 ||
        PyDict_SetItem(scope, n->root_path, server->root_path) < 0 ||
        put(scope, n->headers, header_list(x)) < 0 ||
        (server->state != NULL && put(scope, n->state, PyDict_Copy(server->state)) < 0) ||
        put(scope, n->method, method_text(x)) < 0 ||
        put(scope, n->path, ta_scope_text(x->base.path)) < 0 ||
        put(scope, n->raw_path, bytes_of(x->in.raw_path)) < 0 ||
        put(scope, n->query_string, bytes_of(x->base.query)) < 0 ||
        (x->app->pathsend &&
         put(scope, n->extensions, Py_BuildValue("{O{}}", n->turboapi_pathsend)) < 0) ||
        (x->ws != NULL && ta_websocket_scope(x, scope) < 0) || correct(x, scope) < 0)
        Py_CLEAR(scope);
    return scope;
}

PyObject *ta_scope_path_params(ta_exchange *base)
{
    ta_native_exchange *x = ta_native_exchange_of(base);
    if (base->path_params == NULL) {
        if (x->in.place != TA_PLACE_NONE) {
            ta_match match = {.index = x->in.entry, .nparams = base->nparams};
            memcpy(match.values, base->param_values, base->nparams * sizeof *match.values);
            base->path_params = ta_router_path_params(x->app->router, &match);
        } else {
            base->path_params = PyDict_New();
        }
    }
    return Py_XNewRef(base->path_params);
}

/* What mounts tell those below them. */
static int mounted_scope(ta_native_exchange *x, PyObject *scope)
{
    const ta_names_state *n = &x->st->names;
    ta_str path = x->base.path;
    ta_str root = ta_str_of(path.ptr, TA_MIN(x->in.root_len, path.len));
    ta_str app_root = ta_str_of(path.ptr, TA_MIN(x->in.app_root_len, path.len));
    if (put(scope, n->root_path, ta_scope_text(root)) < 0)
        return -1;
    return put(scope, n->app_root_path, ta_scope_text(app_root));
}

PyObject *ta_scope_of(ta_exchange *base)
{
    ta_native_exchange *x = ta_native_exchange_of(base);
    if (base->scope_dict != NULL)
        return Py_NewRef(base->scope_dict);
    PyObject *scope = plain_scope(x);
    if (scope == NULL)
        return NULL;
    if (x->in.place != TA_PLACE_NONE) {
        const ta_names_state *n = &x->st->names;
        if ((x->app->scope_items != NULL && PyDict_Update(scope, x->app->scope_items) < 0) ||
            (x->app->root_len > 0 && PyDict_SetItem(scope, n->root_path, x->app->root_path) < 0) ||
            (x->in.place == TA_PLACE_MOUNTED && mounted_scope(x, scope) < 0) ||
            put(scope, n->path_params, ta_scope_path_params(base)) < 0 ||
            (base->scope_items != NULL && PyDict_Update(scope, base->scope_items) < 0)) {
            Py_DECREF(scope);
            return NULL;
        }
    }
    base->scope_dict = scope;
    return Py_NewRef(scope);
}
