/*
 * front.c -- what a server serves before the application: an App of its own for paths below some
 * prefixes (`--static-path`).
 *
 * Layer: py (L4).  Neither the application nor its middleware sees these requests.
 */
#include "py/server/native_int.h"

bool ta_front_wants(const ta_native_exchange *native)
{
    const ta_server *server = native->server;
    if (TA_LIKELY(server->front == NULL) || native->ws != NULL)
        return false;
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

int ta_front_take(ta_server *server, PyObject *front)
{
    PyObject *app, *prefixes;
    if (front == NULL || Py_IsNone(front))
        return 0;
    if (!PyTuple_Check(front)) {
        PyErr_SetString(PyExc_TypeError, "front must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(front, "O!O!:front", ta_server_objects_of(server->st)->server.app_type,
                          &app, &PyTuple_Type, &prefixes))
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
    server->front = (ta_app *)Py_NewRef(app);
    return 0;
}
