/* exchange.c -- what both kinds of exchange share.  See exchange.h. */
#include "py/support/py_compat.h"

#include "py/exchange/exchange.h"

#include "http/headers.h"
#include "py/exchange/exchange_objects.h"

void ta_exchange_init(ta_exchange *x, const ta_exchange_ops *ops)
{
    enum { VALUES = offsetof(ta_exchange, param_values), BEHIND = VALUES + sizeof x->param_values };
    memset((char *)x + sizeof(PyObject), 0, VALUES - sizeof(PyObject));
    /* as many values are set as nparams says */
    memset((char *)x + BEHIND, 0, sizeof(ta_exchange) - BEHIND);
    x->ops = ops;
    x->max_body = UINT64_MAX;
}

int ta_exchange_traverse(ta_exchange *exchange, visitproc visit, void *arg)
{
    Py_VISIT(exchange->path_params);
    Py_VISIT(exchange->scope_dict);
    Py_VISIT(exchange->request);
    Py_VISIT(exchange->body_bytes);
    return 0;
}

void ta_exchange_clear(ta_exchange *x)
{
    Py_CLEAR(x->path_params);
    Py_CLEAR(x->scope_dict);
    Py_CLEAR(x->request);
    Py_CLEAR(x->body_bytes);
}

bool ta_exchange_scope_text(PyObject *scope, PyObject *name, PyObject **keep, ta_str *out)
{
    Py_ssize_t len = 0;
    const char *utf8 = NULL;
    if (PyDict_GetItemRef(scope, name, keep) > 0 && PyUnicode_Check(*keep))
        utf8 = PyUnicode_AsUTF8AndSize(*keep, &len);
    if (utf8 == NULL) {
        PyErr_Clear();
        return false;
    }
    *out = ta_str_of(utf8, (size_t)len);
    return true;
}

ta_exchange *ta_exchange_of_method(ta_state *st, PyObject *callable)
{
    PyObject *self = PyCFunction_CheckExact(callable) ? PyCFunction_GET_SELF(callable) : NULL;
    PyTypeObject *type = ta_exchange_objects_of(st)->native_type;
    return self != NULL && type != NULL && Py_IS_TYPE(self, type) ? (ta_exchange *)self : NULL;
}

/* -- memory that is lent ---------------------------------------------------------------------- */

static void *keep_object(void *owner)
{
    TA_ASSERT(PyBytes_CheckExact((PyObject *)owner) || PyUnicode_CheckExact((PyObject *)owner));
    return Py_NewRef((PyObject *)owner);
}

/* On the loop's thread, which has the GIL wherever a connection releases something. */
static void release_object(void *object)
{
    TA_ASSERT(PyGILState_Check());
    Py_DECREF((PyObject *)object);
}

const ta_lender *ta_piece_lender(const ta_piece *piece, ta_lender *lender)
{
    PyObject *owner = piece->owner;
    TA_ASSERT(owner == NULL || piece->buf == NULL);
    if (piece->buf != NULL) {
        *lender = ta_lend_buf(piece->buf);
        return lender;
    }
    if (owner != NULL && PyMemoryView_Check(owner))
        owner = PyMemoryView_GET_BASE(owner); /* whoever releases the view changes nothing */
    if (owner == NULL || !(PyBytes_CheckExact(owner) || PyUnicode_CheckExact(owner)))
        return NULL;
    *lender = (ta_lender){keep_object, release_object, owner};
    return lender;
}

bool ta_exchange_header(const ta_exchange *x, const char *name, size_t len, ta_str *out)
{
    const ta_header *field = ta_headers_find(x->headers, x->nheaders, ta_str_of(name, len));
    if (field == NULL)
        return false;
    *out = field->value;
    return true;
}

int ta_exchange_handlers(ta_exchange *x, PyObject *key, PyObject **out)
{
    if (x->scope_dict != NULL)
        return PyDict_GetItemRef(x->scope_dict, key, out);
    *out = x->ops->scope_item != NULL ? Py_XNewRef(x->ops->scope_item(x, key)) : NULL;
    return *out != NULL;
}

PyObject *ta_exchange_request(ta_exchange *exchange, PyObject *new_request)
{
    if (exchange->request != NULL)
        return Py_NewRef(exchange->request);
    PyObject *request = NULL;
    PyObject *scope = exchange->ops->scope(exchange);
    PyObject *receive = scope ? exchange->ops->receive(exchange) : NULL;
    PyObject *send = receive ? exchange->ops->send(exchange) : NULL;
    if (send != NULL) {
        PyObject *args[] = {NULL, scope, receive, send};
        request =
            PyObject_Vectorcall(new_request, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(send);
    Py_XDECREF(receive);
    Py_XDECREF(scope);
    if (request == NULL)
        return NULL;
    if (exchange->body_bytes != NULL &&
        PyObject_SetAttrString(request, "_body", exchange->body_bytes) < 0) {
        Py_DECREF(request);
        return NULL;
    }
    if (exchange->request != NULL) { /* made by code that ran meanwhile */
        Py_DECREF(request);
        return Py_NewRef(exchange->request);
    }
    exchange->request = request;
    return Py_NewRef(request);
}

int ta_exchange_add_items(PyObject *scope, PyObject *items)
{
    PyObject *key, *value;
    for (Py_ssize_t pos = 0; PyDict_Next(items, &pos, &key, &value);)
        if (PyDict_SetItem(scope, key, value) < 0)
            return -1;
    return 0;
}

/*
 * What a call of an instance calls, if that is a function of its class: new reference.  NULL
 * without an exception: call the object itself.
 */
static PyObject *call_of(const ta_state *st, PyObject *app)
{
    PyTypeObject *type = Py_TYPE(app);
    if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || PyVectorcall_Function(app) != NULL)
        return NULL;
    PyObject *found = ta_type_lookup(type, st->names.dunder_call);
    if (found != NULL && !PyFunction_Check(found))
        Py_CLEAR(found);
    return found;
}

PyObject *ta_exchange_call_app(const ta_state *st, PyObject *app, PyObject *scope,
                               PyObject *receive, PyObject *send)
{
    PyObject *args[] = {NULL, app, scope, receive, send};
    PyObject *function = call_of(st, app); /* without a tuple of the arguments, then */
    if (function == NULL)
        return PyObject_Vectorcall(app, args + 2, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    PyObject *res =
        PyObject_Vectorcall(function, args + 1, 4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(function);
    return res;
}

PyObject *ta_exchange_call(const ta_state *st, ta_exchange *exchange, PyObject *app)
{
    PyObject *scope = exchange->ops->scope(exchange);
    PyObject *receive = scope ? exchange->ops->receive(exchange) : NULL;
    PyObject *send = receive ? exchange->ops->send(exchange) : NULL;
    PyObject *res = NULL;
    if (send != NULL)
        res = ta_exchange_call_app(st, app, scope, receive, send);
    Py_XDECREF(send);
    Py_XDECREF(receive);
    Py_XDECREF(scope);
    return res;
}

ta_str ta_exchange_route_path(ta_str path, ta_str root)
{
    if (TA_LIKELY(root.len == 0) || path.len < root.len ||
        memcmp(path.ptr, root.ptr, root.len) != 0)
        return path;
    if (path.len == root.len || path.ptr[root.len] == '/')
        return ta_str_skip(path, root.len);
    return path;
}
