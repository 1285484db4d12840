/*
 * test_observer.c -- what a test client in the same process sees of a request besides its response.
 *
 * Layer: py (L4).  Server(watch=...) is called for an object when a request is started; the methods
 * of that object are called in the loop's thread:
 *   scope(scope)                     a scope was made, and may be changed wrap(app)
 *   the application to be called in its place for a WebSocket aside(message)                   a
 *   message that no client could get failed(text, exc, answered)      what would have been logged;
 *   answered: a response has begun ended()                          the application has nothing
 *   more to do for it
 */
#include "py/server/native_int.h"
#include "py/server/request_id.h"

#include "py/support/exc.h"

/* Steals res, which may be NULL with an exception: it has no caller. */
static void done_with(ta_native_exchange *x, PyObject *res)
{
    if (res == NULL)
        ta_exc_report(x->st, x->base.ls->aioloop, "Exception in a test's watch");
    Py_XDECREF(res);
}

int ta_test_observer_begin(ta_native_exchange *native)
{
    TA_ASSERT(native->asgi.watch == NULL);
    PyObject *address = ta_scope_peer(native);
    PyObject *made = NULL;
    if (address != NULL) {
        PyObject *args[] = {NULL, (PyObject *)native, address};
        ta_loop_state_enter(native->base.ls);
        made = PyObject_Vectorcall(native->server->watch, args + 1,
                                   2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        ta_loop_state_leave(native->base.ls);
        Py_DECREF(address);
    }
    if (made == NULL)
        return -1;
    if (Py_IsNone(made))
        Py_DECREF(made);
    else
        native->asgi.watch = made;
    return 0;
}

int ta_test_observer_scope(ta_native_exchange *x, PyObject *scope)
{
    PyObject *res = PyObject_CallMethod(x->asgi.watch, "scope", "O", scope);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

PyObject *ta_test_observer_call(ta_native_exchange *x, PyObject *app)
{
    PyObject *wrapped = PyObject_CallMethod(x->asgi.watch, "wrap", "O", app);
    PyObject *res = wrapped ? ta_exchange_call(x->st, &x->base, wrapped) : NULL;
    Py_XDECREF(wrapped);
    return res;
}

int ta_test_observer_aside(ta_native_exchange *x, PyObject *message)
{
    if (TA_LIKELY(x->asgi.watch == NULL))
        return 0;
    PyObject *res = PyObject_CallMethod(x->asgi.watch, "aside", "O", message);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

void ta_test_observer_log(ta_native_exchange *native, const char *text, PyObject *exc)
{
    ta_loop_state_enter(native->base.ls);
    ta_str id = ta_request_id(native);
    char named[128 + TA_REQUEST_ID_MAX];
    if (TA_UNLIKELY(id.len > 0)) {
        size_t len = strcspn(text, "\n");
        snprintf(named, sizeof named, "%.*s (request %.*s)%s", (int)TA_MIN(len, (size_t)100), text,
                 (int)id.len, id.ptr, text + len);
        text = named;
    }
    if (TA_LIKELY(native->asgi.watch == NULL))
        ta_exc_log(native->st, text, exc);
    else
        done_with(native, PyObject_CallMethod(native->asgi.watch, "failed", "sOO", text,
                                              exc ? exc : Py_None,
                                              native->base.response_started ? Py_True : Py_False));
    ta_loop_state_leave(native->base.ls);
}

void ta_test_observer_ended(ta_native_exchange *native)
{
    PyObject *watch = native->asgi.watch;
    TA_ASSERT(watch != NULL);
    native->asgi.watch = NULL;
    ta_loop_state_enter(native->base.ls);
    done_with(native, PyObject_CallMethod(watch, "ended", NULL));
    Py_DECREF(watch);
    ta_loop_state_leave(native->base.ls);
}
