/*
 * route_label.c -- the template of the route that a request was matched with, for logs and metrics.
 *
 * Layer: py/server.
 */
#include "py/server/route_label.h"

#include "py/plan/router.h"
#include "py/server/native_int.h"

/* Appends a path format without the convertors of its parameters. */
static char *put_template(char *out, const char *end, ta_str path)
{
    bool inside = false, skip = false;
    for (size_t i = 0; i < path.len && out < end; i++) {
        char c = path.ptr[i];
        inside = c == '{' || (inside && c != '}');
        skip = inside && (skip || c == ':');
        if (!skip)
            *out++ = c;
    }
    return out;
}

static ta_str text_of(PyObject *obj)
{
    Py_ssize_t len = 0;
    const char *utf8 = obj && PyUnicode_Check(obj) ? PyUnicode_AsUTF8AndSize(obj, &len) : NULL;
    return ta_str_of(utf8, utf8 ? (size_t)len : 0);
}

/* Of scope["route"], if the scope was made. */
static char *put_of_scope(char *out, const char *end, ta_native_exchange *native)
{
    PyObject *route, *path;
    if (native->base.scope_dict == NULL || !PyDict_Check(native->base.scope_dict))
        return out;
    PyObject *exc = PyErr_GetRaisedException();
    ta_loop_state_enter(native->base.ls); /* __getattr__ may be anybody's */
    if (PyDict_GetItemRef(native->base.scope_dict, native->st->names.route, &route) > 0) {
        path = PyObject_GetAttr(route, native->st->names.path);
        out = put_template(out, end, text_of(path));
        Py_XDECREF(path);
        Py_DECREF(route);
    }
    ta_loop_state_leave(native->base.ls);
    PyErr_Clear();
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return out;
}

ta_str ta_route_label(ta_native_exchange *native, char *out)
{
    const ta_req_notes *notes = &native->req->notes;
    const ta_app *app = notes->routed_by;
    char *p = out, *end = out + TA_ROUTE_LABEL_MAX;
    if (app == NULL)
        p = put_of_scope(p, end, native);
    else if (app->router != NULL) /* NULL: the collector takes it apart */
        p = put_template(put_template(p, end, text_of(app->prefix)), end,
                         text_of(ta_router_path(app->router, notes->entry)));
    return ta_str_of(out, (size_t)(p - out));
}
