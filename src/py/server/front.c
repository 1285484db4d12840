/*
 * front.c -- what a server has before the application: an App of its own for paths below some
 * prefixes (`--static-path`), and one for requests with a Content-Encoding.
 *
 * Server(front=(App or None, prefixes, App or None)): the first serves the paths below the prefixes
 * in place of the application, but no WebSockets, the second requests with a Content-Encoding.
 *
 * Layer: py (L4).  Neither the application nor its middleware sees requests for the first; the
 * second calls the application.
 */
#include "py/server/native_int.h"

static bool is_below_prefix(const ta_native_exchange *native)
{
    const ta_server *server = native->server;
    ta_str path = ta_exchange_route_path(native->base.path, server->root);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(server->fronted); i++) {
        Py_ssize_t n;
        const char *prefix = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(server->fronted, i), &n);
        size_t len = (size_t)n;
        TA_ASSERT(prefix != NULL); /* made by ta_front_take */
        if (path.len >= len && memcmp(path.ptr, prefix, len) == 0 &&
            (path.len == len || path.ptr[len] == '/'))
            return true;
    }
    return false;
}

ta_app **ta_front_place(const ta_native_exchange *native)
{
    ta_server *server = native->server;
    ta_str value;
    if (TA_LIKELY(server->front == NULL && server->encoded == NULL) || native->ws != NULL)
        return &server->app;
    if (server->front != NULL && is_below_prefix(native))
        return &server->front;
    if (server->encoded != NULL &&
        ta_exchange_header(&native->base, "content-encoding", 16, &value))
        return &server->encoded;
    return &server->app;
}

/* An App, or NULL for None.  0 and a new reference, or -1 with an exception. */
static int take_app(ta_state *st, PyObject *obj, ta_app **out)
{
    if (Py_IsNone(obj))
        return 0;
    if (!Py_IS_TYPE(obj, ta_server_objects_of(st)->server.app_type)) {
        PyErr_SetString(PyExc_TypeError, "front has Apps");
        return -1;
    }
    *out = (ta_app *)Py_NewRef(obj);
    return 0;
}

int ta_front_take(ta_server *server, PyObject *front)
{
    PyObject *app, *prefixes, *encoded;
    if (front == NULL || Py_IsNone(front))
        return 0;
    if (!PyTuple_Check(front)) {
        PyErr_SetString(PyExc_TypeError, "front must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(front, "OO!O:front", &app, &PyTuple_Type, &prefixes, &encoded))
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(prefixes); i++) {
        PyObject *prefix = PyTuple_GET_ITEM(prefixes, i);
        if (!PyUnicode_Check(prefix)) {
            PyErr_SetString(PyExc_TypeError, "prefixes must be strings");
            return -1;
        }
        if (PyUnicode_AsUTF8(prefix) == NULL) /* kept by the object from now on */
            return -1;
    }
    server->fronted = Py_NewRef(prefixes);
    if (take_app(server->st, app, &server->front) < 0)
        return -1;
    return take_app(server->st, encoded, &server->encoded);
}
