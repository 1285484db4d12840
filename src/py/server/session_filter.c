/*
 * session_filter.c -- what Starlette's SessionMiddleware does, for requests that have no session
 * and handlers that don't touch it; for the others the middleware itself is asked.
 *
 * Layer: py (L4).  As long as nobody asks for the scope of a request nobody can see its session, so
 * that none is made.
 */
#include "py/server/filters_int.h"

#include "http/headers.h"

/* Returns whether the name occurs in a Cookie field.  Starlette takes names as they stand there. */
static bool may_have_cookie(const filter *rule, const ta_native_exchange *native)
{
    ta_str name = ta_filters_str(PyTuple_GET_ITEM(rule->texts, 0));
    for (uint32_t i = 0; i < native->base.nheaders; i++) {
        const ta_header *header = &native->base.headers[i];
        if (ta_str_ieq(header->name, TA_STR("cookie")) &&
            memmem(header->value.ptr, header->value.len, name.ptr, name.len) != NULL)
            return true;
    }
    return false;
}

static int enter(const filter *rule, ta_native_exchange *native, PyObject *scope)
{
    PyObject *made;
    if (TA_LIKELY(!may_have_cookie(rule, native))) {
        made = PyObject_CallNoArgs(rule->session_type);
        if (made == NULL || PyDict_SetItem(scope, native->st->names.session, made) < 0) {
            Py_XDECREF(made);
            return -1;
        }
    } else {
        ta_loop_state_enter(native->base.ls);
        made = PyObject_CallOneArg(rule->load, scope);
        ta_loop_state_leave(native->base.ls);
    }
    Py_XDECREF(made);
    return made ? 0 : -1;
}

int ta_session_filter_enter(const ta_filters *filters, ta_native_exchange *native, PyObject *scope)
{
    for (size_t i = 0; filters != NULL && i < filters->n; i++)
        if (filters->items[i].kind == FILTER_SESSION)
            return enter(&filters->items[i], native, scope);
    return 0;
}

/* 1: it has not been touched; 0: it has, or it is another object; -1. */
static int is_untouched(const filter *rule, const ta_names_state *names, PyObject *session)
{
    PyObject *const marks[] = {names->accessed, names->modified};
    if ((PyObject *)Py_TYPE(session) != rule->session_type)
        return 0;
    for (size_t i = 0; i < TA_COUNTOF(marks); i++) {
        PyObject *mark = PyObject_GetAttr(session, marks[i]);
        if (mark == NULL)
            return -1;
        bool touched = mark != Py_False;
        Py_DECREF(mark);
        if (touched)
            return 0;
    }
    return 1;
}

/* The values of all Vary fields: new list, or NULL with an exception. */
static PyObject *vary_of(const ta_fields *head)
{
    PyObject *list = PyList_New(0);
    ta_str value;
    for (uint32_t i = 0; list != NULL && ta_fields_find(head, TA_STR("vary"), &i, &value); i++) {
        PyObject *text = PyBytes_FromStringAndSize(value.ptr, (Py_ssize_t)value.len);
        if (text == NULL || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

/* Takes (vary, cookie) over into the head.  0, or -1 with an exception. */
static int take(ta_fields *head, PyObject *pair)
{
    PyObject *vary, *cookie;
    if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "OO:save", &vary, &cookie))
        return -1;
    int rc = TA_OK;
    if (PyBytes_Check(vary))
        rc = ta_fields_set(head, TA_STR("vary"), ta_filters_str(vary));
    if (rc == TA_OK && PyBytes_Check(cookie)) {
        if (!ta_response_head_value_ok(ta_filters_str(cookie))) {
            PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
            return -1;
        }
        rc = ta_fields_add(head, TA_STR("set-cookie"), ta_filters_str(cookie));
    }
    if (rc != TA_OK)
        PyErr_NoMemory();
    return rc == TA_OK ? 0 : -1;
}

int ta_session_filter_apply(const filter *rule, ta_native_exchange *native)
{
    PyObject *scope = native->base.scope_dict, *session;
    if (scope == NULL)
        return 0;
    int rc = PyDict_GetItemRef(scope, native->st->names.session, &session);
    if (rc > 0)
        rc = is_untouched(rule, &native->st->names, session);
    Py_XDECREF(session);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    ta_loop_state_enter(native->base.ls);
    PyObject *vary = vary_of(&native->out.head);
    PyObject *args[] = {NULL, scope, vary};
    PyObject *pair =
        vary ? PyObject_Vectorcall(rule->save, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
             : NULL;
    rc = pair ? take(&native->out.head, pair) : -1;
    Py_XDECREF(pair);
    Py_XDECREF(vary);
    ta_loop_state_leave(native->base.ls);
    return rc;
}
