/*
 * dispatch.c -- how a request begins (a plan, or the ASGI application) and how it ends.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "py/loop/task_pool.h"
#include "py/support/exc.h"

/* -- ends of a request ------------------------------------------------------------------------ */

/* The exception that is set is logged; then 500, or the connection is ended. */
static void fail(ta_native_exchange *x, PyObject *exc /* borrowed */)
{
    if (x->ws != NULL) {
        ta_websocket_done(x, NULL, exc);
        return;
    }
    ta_test_observer_log(x, "Exception in ASGI application\n", exc);
    if (x->req == NULL)
        return;
    if (!x->base.response_started)
        ta_response_plain(x, 500, "Internal Server Error");
    else if (!ta_response_is_over(x->out.state))
        ta_response_break(x);
}

/* The application has returned: what it left undone. */
static void finish(ta_native_exchange *x, PyObject *result /* borrowed */)
{
    if (TA_UNLIKELY(x->ws != NULL)) {
        ta_websocket_done(x, result, NULL);
        return;
    }
    if (TA_LIKELY(ta_response_is_over(x->out.state) && (result == NULL || Py_IsNone(result))))
        return;
    if (result != NULL && !Py_IsNone(result)) {
        PyObject *text =
            PyUnicode_FromFormat("ASGI callable should return None, but returned '%S'.", result);
        const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
        if (utf8 != NULL)
            ta_test_observer_log(x, utf8, NULL);
        else
            PyErr_Clear();
        Py_XDECREF(text);
    } else if (!ta_native_exchange_is_left(x) && !ta_end_is_due(x->asgi.end) &&
               !(x->server->stopping && x->base.response_started)) {
        ta_test_observer_log(x,
                             x->base.response_started
                                 ? "ASGI callable returned without completing response."
                                 : "ASGI callable returned without starting response.",
                             NULL);
    }
    if (ta_response_is_over(x->out.state)) /* also one that was closed */
        return;
    if (x->base.response_started || ta_native_exchange_is_left(x))
        ta_response_break(x);
    else if (ta_end_is_due(x->asgi.end)) /* it took its client for gone */
        ta_response_plain(x, 503, "Service Unavailable");
    else
        ta_response_plain(x, 500, "Internal Server Error");
}

/*
 * What an ASGI application gives when called, as something a Task can run: a coroutine, or the
 * iterator of another awaitable.  New reference.
 */
static PyObject *call_asgi(ta_native_exchange *x, PyObject *app)
{
    PyObject *res = x->asgi.watch != NULL && x->ws != NULL ? ta_test_observer_call(x, app)
                                                           : ta_exchange_call(&x->base, app);
    if (res == NULL || PyCoro_CheckExact(res))
        return res;
    PyAsyncMethods *async = Py_TYPE(res)->tp_as_async;
    if (async == NULL || async->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression",
                     Py_TYPE(res)->tp_name);
        Py_DECREF(res);
        return NULL;
    }
    PyObject *it = async->am_await(res);
    Py_DECREF(res);
    return it;
}

/* The coroutine of error_app for the exception (borrowed); NULL: it has to be logged instead. */
static PyObject *ask_error_app(ta_native_exchange *x, PyObject *exc)
{
    ta_filters_drop(x);
    if (x->in.place == TA_PLACE_NONE || x->app->error_app == NULL ||
        (x->asgi.work != TA_WORK_NONE && x->asgi.work != TA_WORK_APP) ||
        !PyErr_GivenExceptionMatches(exc, PyExc_Exception))
        return NULL;
    ta_work_asks(&x->asgi.work);
    /* That application has the middleware round it. */
    x->out.filters = NULL;
    PyObject *coro = NULL;
    ta_loop_state_enter(x->base.ls);
    PyObject *scope = x->base.ops->scope(&x->base);
    /* Handlers are called when nobody can answer any more, too: they may report the exception. */
    if (scope != NULL && PyDict_SetItem(scope, x->st->names.turboapi_exception, exc) == 0 &&
        (!x->base.response_started ||
         PyDict_SetItem(scope, x->st->names.turboapi_response_started, Py_True) == 0))
        coro = call_asgi(x, x->app->error_app);
    Py_XDECREF(scope);
    ta_loop_state_leave(x->base.ls);
    if (coro == NULL) {
        PyObject *other = PyErr_GetRaisedException();
        ta_test_observer_log(x, "Exception in ASGI application\n", other);
        Py_XDECREF(other);
    }
    return coro;
}

static void release(ta_native_exchange *x)
{
    ta_server *server = (ta_server *)Py_NewRef((PyObject *)x->server);
    TA_ASSERT(server->tasks > 0);
    server->tasks--;
    ta_work_ends(&x->asgi.work);
    if (TA_UNLIKELY(x->asgi.watch != NULL))
        ta_test_observer_ended(x);
    Py_DECREF(x);
    if (TA_UNLIKELY(server->stopping))
        ta_server_maybe_done(server);
    Py_DECREF(server);
}

static ta_outcome server_done(void *arg, PyObject *result, PyObject **next)
{
    ta_native_exchange *x = arg;
    ta_filters_drop(x); /* a head that no body followed was never sent */
    if (TA_LIKELY(result != NULL)) {
        finish(x, result);
        release(x);
        return TA_DONE;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *coro = ask_error_app(x, exc);
    if (coro != NULL) {
        Py_DECREF(exc);
        *next = coro;
        return TA_WAITS;
    }
    ta_outcome outcome = TA_DONE;
    if (x->ws == NULL && PyErr_GivenExceptionMatches(exc, x->st->exc.cancelled_error)) {
        /* The end of a stream whose client has gone, shutdown, or the handler cancelled itself. */
        if (!ta_native_exchange_is_left(x) && !x->server->stopping)
            ta_test_observer_log(x, "Exception in ASGI application\n", exc);
        if (x->req != NULL && !x->base.response_started)
            ta_response_plain(x, 500, "Internal Server Error");
        if (!ta_response_is_over(x->out.state))
            ta_response_break(x);
    } else {
        fail(x, exc);
    }
    /* SystemExit, and KeyboardInterrupt that the application raised, end their request, as under
     * uvicorn; Ctrl+C without a signal handler ends the loop. */
    if (ta_exc_is_ctrl_c(exc)) {
        PyErr_SetRaisedException(exc);
        exc = NULL;
        outcome = TA_FAILED;
    }
    Py_XDECREF(exc);
    release(x);
    return outcome;
}

static bool is_of_server(ta_task_pool_done done, const void *arg, const void *what)
{
    return done == server_done && ((const ta_native_exchange *)arg)->server == what;
}

static bool is_of_exchange(ta_task_pool_done done, const void *arg, const void *what)
{
    return done == server_done && arg == what;
}

int ta_dispatch_cancel_all(ta_server *server, PyObject *msg)
{
    return ta_task_pool_cancel(server->ls, is_of_server, server, msg);
}

int ta_dispatch_cancel(ta_native_exchange *x, PyObject *msg)
{
    return ta_task_pool_cancel(x->base.ls, is_of_exchange, x, msg);
}

/* -- its beginning ---------------------------------------------------------------------------- */

/* Runs the coroutine (steals) in a Task. */
static void run_task(ta_native_exchange *x, PyObject *coro)
{
    TA_ASSERT(coro != NULL && !PyErr_Occurred());
    Py_INCREF(x);
    x->server->tasks++;
    ta_work_begins(&x->asgi.work);
    if (ta_task_pool_start(x->base.ls, coro, server_done, x) < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        fail(x, exc);
        Py_DECREF(exc);
        release(x);
    }
}

/* An exception is set, outside of any Task: the application's handlers, or 500. */
static void failed_outside(ta_native_exchange *x)
{
    PyObject *exc = PyErr_GetRaisedException();
    TA_ASSERT(exc != NULL);
    PyObject *coro = ask_error_app(x, exc);
    if (coro != NULL) {
        Py_DECREF(exc);
        run_task(x, coro);
        return;
    }
    fail(x, exc);
    if (ta_exc_is_ctrl_c(exc)) {
        PyErr_SetRaisedException(exc);
        ta_loop_state_unhandled(x->base.ls, "");
        return;
    }
    Py_DECREF(exc);
}

static void start_asgi(ta_native_exchange *x)
{
    ta_loop_state *ls = x->base.ls;
    ta_loop_state_enter(ls);
    PyObject *coro = call_asgi(x, x->app->asgi);
    ta_loop_state_leave(ls);
    if (coro == NULL)
        failed_outside(x);
    else
        run_task(x, coro);
}

/* What C can do alone.  False: the ASGI application has to decide. */
static bool start_direct(ta_native_exchange *x)
{
    PyObject *run = NULL;
    ta_outcome outcome;
    if (!ta_routing_run(x, &run, &outcome))
        return false;
    TA_ASSERT((outcome == TA_FAILED) == (PyErr_Occurred() != NULL));
    TA_ASSERT((outcome == TA_WAITS) == (run != NULL));
    if (TA_LIKELY(outcome == TA_DONE))
        finish(x, NULL);
    else if (outcome == TA_WAITS)
        run_task(x, run);
    else
        failed_outside(x);
    return true;
}

/* Routes or middleware have changed.  -1 with an exception. */
static int rebuild(ta_server *server)
{
    ta_app *app = server->app;
    if (app->rebuild == NULL) {
        atomic_store(&app->stale, false);
        return 0;
    }
    Py_INCREF(app); /* that code may serve a request, which may rebuild, too */
    PyObject *made = PyObject_CallNoArgs(app->rebuild);
    bool same = server->app == app;
    Py_DECREF(app);
    if (made == NULL)
        return -1;
    if (!Py_IS_TYPE(made, ta_server_objects_of(server->st)->server.app_type)) {
        PyErr_Format(PyExc_TypeError, "rebuild() must give an App, not %.100s",
                     Py_TYPE(made)->tp_name);
        Py_DECREF(made);
        return -1;
    }
    if (!same) {
        Py_DECREF(made);
        return 0;
    }
    Py_BEGIN_CRITICAL_SECTION(server); /* this thread alone writes it, but others may read it */
    server->app = (ta_app *)made;
    Py_END_CRITICAL_SECTION();
    Py_DECREF(app);
    return 0;
}

static void start(ta_native_exchange *x)
{
    ta_server *server = x->server;
    if (TA_UNLIKELY(server->max_requests > 0 && server->active > server->max_requests)) {
        ta_loop_state_enter(server->ls);
        ta_exc_log(x->st, "Exceeded concurrency limit.", NULL);
        ta_loop_state_leave(server->ls);
        ta_response_plain(x, 503, "Service Unavailable");
        return;
    }
    if (TA_UNLIKELY(atomic_load_explicit(&server->app->stale, memory_order_acquire))) {
        ta_loop_state_enter(server->ls);
        int rc = rebuild(server);
        ta_loop_state_leave(server->ls);
        if (rc < 0) {
            failed_outside(x);
            return;
        }
    }
    if (x->app != server->app)
        Py_SETREF(x->app, (ta_app *)Py_NewRef((PyObject *)server->app));
    if (TA_UNLIKELY(server->watch != NULL) && ta_test_observer_begin(x) < 0) {
        failed_outside(x);
        return;
    }
    if (x->ws != NULL || !x->app->direct || !start_direct(x))
        start_asgi(x);
    if (TA_UNLIKELY(x->asgi.watch != NULL) && !ta_work_has_task(x->asgi.work))
        ta_test_observer_ended(x);
}

static void start_later(ta_defer *defer)
{
    ta_native_exchange *x = TA_CONTAINER_OF(defer, ta_native_exchange, later);
    if (x->req == NULL)
        return;
    if (ta_loop_state_may_start(x->base.ls)) {
        Py_INCREF(x);
        start(x);
        Py_DECREF(x);
    } else {
        ta_loop_defer(x->base.ls->loop, defer);
    }
}

void ta_dispatch_start(ta_native_exchange *x)
{
    TA_ASSERT(x->asgi.work == TA_WORK_NONE && x->out.state == TA_RESPONSE_NONE);
    if (TA_LIKELY(ta_loop_state_may_start(x->base.ls))) {
        start(x);
    } else {
        x->later.fn = start_later;
        ta_loop_defer(x->base.ls->loop, &x->later);
    }
}
