/*
 * scope.c -- the ASGI scope of a request, and what else tells who sent it.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"
#include "py/server/request_id.h"
#include "py/server/tls_object.h"

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

static PyObject *header_list(ta_native_exchange *native)
{
    const ta_exchange *base = &native->base;
    PyObject *list = PyList_New(base->nheaders);
    if (list == NULL)
        return NULL;
    for (uint32_t i = 0; i < base->nheaders; i++) {
        PyObject *name = header_name(native->server, base->headers[i].name);
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
    PyObject *text = ta_scope_text(host), *number = PyLong_FromLong(port);
    PyObject *pair = text && number ? PyTuple_Pack(2, text, number) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(number);
    return pair;
}

PyObject *ta_scope_peer(ta_native_exchange *x)
{
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    if (x->req != NULL)
        ta_req_peer(x->req, &host, &port);
    return address(host, port);
}

/* Where the request arrived: a host of no length for a Unix socket. */
static uint16_t local_of(ta_native_exchange *x, ta_str *host)
{
    uint16_t port = 0;
    *host = ta_str_of(NULL, 0);
    if (x->req != NULL)
        ta_req_local(x->req, host, &port);
    return port;
}

PyObject *ta_scope_client(ta_native_exchange *native)
{
    PyObject *client = NULL, *res = NULL;
    if (native->base.scope_dict != NULL) /* a proxy may have corrected it */
        client =
            Py_XNewRef(PyDict_GetItemWithError(native->base.scope_dict, native->st->names.client));
    if (client == NULL && !PyErr_Occurred())
        client = ta_scope_peer(native);
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

static PyObject *method_text(ta_native_exchange *native)
{
    const ta_names_state *names = &native->st->names;
    switch (native->base.method_id) {
    case TA_METHOD_GET:
        return Py_NewRef(names->GET);
    case TA_METHOD_HEAD:
        return Py_NewRef(names->HEAD);
    case TA_METHOD_POST:
        return Py_NewRef(names->POST);
    case TA_METHOD_PUT:
        return Py_NewRef(names->PUT);
    case TA_METHOD_DELETE:
        return Py_NewRef(names->DELETE);
    default:
        return ta_scope_text(native->base.method);
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

/* Sets the client according to a proxy in front of us, or to a test. */
static int correct(ta_native_exchange *native, PyObject *scope)
{
    int rc = 0;
    if (TA_UNLIKELY(native->asgi.watch != NULL)) {
        ta_loop_state_enter(native->base.ls);
        rc = ta_test_observer_scope(native, scope);
        ta_loop_state_leave(native->base.ls);
    }
    if (rc < 0)
        return -1;
    if (!ta_scope_is_proxied(native))
        return 0;
    ta_loop_state_enter(native->base.ls);
    PyObject *res = PyObject_CallOneArg(native->server->proxy, scope);
    ta_loop_state_leave(native->base.ls);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* What the blank scope has of the first request's own address.  0, or -1 with an exception. */
static int keep_local(ta_native_exchange *native, PyObject *scope)
{
    ta_server *server = native->server;
    ta_str host;
    uint16_t port = local_of(native, &host);
    if (host.len > sizeof server->local_host)
        return 0;
    if (put(scope, native->st->names.server, address(host, port)) < 0)
        return -1;
    memcpy(server->local_host, host.ptr ? host.ptr : "", host.len);
    server->local_len = host.len;
    server->local_port = port;
    return 0;
}

/*
 * What every scope is a copy of, in uvicorn's order: it has what most requests have.  Its copies
 * need no room for further members, up to a dozen.  Borrowed, or NULL with an exception.
 */
static PyObject *blank_scope(ta_native_exchange *native)
{
    ta_server *server = native->server;
    const ta_names_state *names = &server->st->names;
    PyObject *const order[] = {
        names->type,   names->asgi,      names->http_version, names->server,     names->client,
        names->scheme, names->root_path, names->headers,      names->state,      names->method,
        names->path,   names->raw_path,  names->query_string, names->extensions,
    };
    if (server->blank_scope != NULL)
        return server->blank_scope;
    PyObject *scope = PyDict_New(), *extensions = ta_asgi_extensions_new(names);
    for (size_t i = 0; scope != NULL && i < TA_COUNTOF(order); i++)
        if ((order[i] != names->state || server->state != NULL) &&
            PyDict_SetItem(scope, order[i], Py_None) < 0)
            Py_CLEAR(scope);
    if (scope != NULL &&
        (PyDict_SetItem(scope, names->type, names->http) < 0 ||
         PyDict_SetItem(scope, names->http_version, names->v1_1) < 0 ||
         PyDict_SetItem(scope, names->scheme, names->http) < 0 ||
         PyDict_SetItem(scope, names->root_path, server->root_path) < 0 ||
         PyDict_SetItem(scope, names->method, names->GET) < 0 ||
         put(scope, names->query_string, bytes_of(TA_STR(""))) < 0 || extensions == NULL ||
         PyDict_SetItem(scope, names->extensions, extensions) < 0 || keep_local(native, scope) < 0))
        Py_CLEAR(scope);
    Py_XDECREF(extensions); /* the scope's, if there is one */
    server->blank_scope = scope;
    server->blank_extensions = scope ? extensions : NULL;
    return scope;
}

/* What is not as in the blank scope.  0, or -1 with an exception. */
static int put_unusual(ta_native_exchange *native, PyObject *scope)
{
    const ta_names_state *names = &native->st->names;
    const ta_server *server = native->server;
    ta_str host;
    uint16_t port = local_of(native, &host);
    if (TA_UNLIKELY(native->in.version != TA_HTTP_1_1) &&
        PyDict_SetItem(scope, names->http_version, version_text(native)) < 0)
        return -1;
    if (TA_UNLIKELY(port != server->local_port ||
                    !ta_str_eq(host, ta_str_of(server->local_host, server->local_len))) &&
        put(scope, names->server, address(host, port)) < 0)
        return -1;
    if (native->in.secure && PyDict_SetItem(scope, names->scheme, names->https) < 0)
        return -1;
    if (native->base.method_id != TA_METHOD_GET &&
        put(scope, names->method, method_text(native)) < 0)
        return -1;
    return native->base.query.len == 0
               ? 0
               : put(scope, names->query_string, bytes_of(native->base.query));
}

/* The name of the request, if it has one. */
static int put_id(ta_native_exchange *native, PyObject *scope)
{
    ta_str id = ta_request_id(native);
    return id.len > 0 ? put(scope, native->st->names.turboapi_request_id, ta_scope_text(id)) : 0;
}

/* What a server tells any ASGI application. */
static PyObject *plain_scope(ta_native_exchange *native)
{
    const ta_names_state *names = &native->st->names;
    ta_server *server = native->server;
    PyObject *blank = blank_scope(native);
    PyObject *scope = blank ? PyDict_Copy(blank) : NULL;
    if (scope == NULL)
        return NULL;
    if (put_unusual(native, scope) < 0 ||
        put(scope, names->asgi, PyDict_Copy(server->asgi_info)) < 0 ||
        put(scope, names->client, ta_scope_peer(native)) < 0 ||
        put(scope, names->headers, header_list(native)) < 0 ||
        (server->state != NULL && put(scope, names->state, PyDict_Copy(server->state)) < 0) ||
        put(scope, names->path, ta_scope_text(native->base.path)) < 0 ||
        put(scope, names->raw_path, bytes_of(native->in.raw_path)) < 0 ||
        put(scope, names->extensions, ta_asgi_extensions_of(native)) < 0 ||
        (native->ws != NULL && ta_websocket_scope(native, scope) < 0) ||
        put_id(native, scope) < 0 || ta_tls_object_scope(native, scope) < 0 ||
        correct(native, scope) < 0)
        Py_CLEAR(scope);
    return scope;
}

PyObject *ta_scope_path_params(ta_exchange *base)
{
    ta_native_exchange *native = ta_native_exchange_of(base);
    if (base->path_params == NULL) {
        if (native->in.place > TA_PLACE_STACK) {
            ta_match match = {.index = native->in.entry, .nparams = base->nparams};
            memcpy(match.values, base->param_values, base->nparams * sizeof *match.values);
            base->path_params = ta_router_path_params(native->app->router, &match);
        } else {
            base->path_params = PyDict_New();
        }
    }
    return Py_XNewRef(base->path_params);
}

/* What mounts tell those below them. */
static int mounted_scope(ta_native_exchange *native, PyObject *scope)
{
    const ta_names_state *names = &native->st->names;
    ta_str path = native->base.path;
    ta_str root = ta_str_of(path.ptr, TA_MIN(native->in.root_len, path.len));
    ta_str app_root = ta_str_of(path.ptr, TA_MIN(native->in.app_root_len, path.len));
    if (put(scope, names->root_path, ta_scope_text(root)) < 0)
        return -1;
    return put(scope, names->app_root_path, ta_scope_text(app_root));
}

/* What the application itself puts into every scope. */
static int own_items(ta_native_exchange *native, PyObject *scope)
{
    const ta_app *app = native->app;
    if (app->scope_items != NULL && ta_exchange_add_items(scope, app->scope_items) < 0)
        return -1;
    return app->root_len > 0 ? PyDict_SetItem(scope, native->st->names.root_path, app->root_path)
                             : 0;
}

/* What the matched entry adds to the scope. */
static int add_items_of_entry(const ta_native_exchange *native, PyObject *scope)
{
    PyObject *router = native->app->router; /* NULL: the collector takes the application apart */
    PyObject *items = router ? ta_router_scope_items(router, native->in.entry) : NULL;
    return items ? PyDict_Update(scope, items) : 0;
}

PyObject *ta_scope_of(ta_exchange *base)
{
    ta_native_exchange *native = ta_native_exchange_of(base);
    if (base->scope_dict != NULL)
        return Py_NewRef(base->scope_dict);
    PyObject *scope = plain_scope(native);
    if (scope == NULL)
        return NULL;
    if (native->in.place != TA_PLACE_NONE && own_items(native, scope) < 0) {
        Py_DECREF(scope);
        return NULL;
    }
    if (native->in.place > TA_PLACE_STACK) {
        const ta_names_state *names = &native->st->names;
        if ((native->in.place == TA_PLACE_MOUNTED && mounted_scope(native, scope) < 0) ||
            put(scope, names->path_params, ta_scope_path_params(base)) < 0 ||
            add_items_of_entry(native, scope) < 0) {
            Py_DECREF(scope);
            return NULL;
        }
    }
    base->scope_dict = scope; /* also when there is no session: it is asked for once */
    if (ta_session_filter_enter(native->out.filters, native, scope) < 0)
        return NULL;
    return Py_NewRef(scope);
}
