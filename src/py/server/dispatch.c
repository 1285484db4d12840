/*
 * dispatch.c -- how a request begins (a plan, or the ASGI application) and how it ends.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "py/loop/task_pool.h"
#include "py/support/exc.h"

/* -- ends of a request ------------------------------------------------------------------------ */

/* Logs the exception that is set; then answers 500, or ends the connection. */
static void fail(ta_native_exchange *native, PyObject *exc /* borrowed */)
{
    if (native->ws != NULL) {
        ta_websocket_done(native, NULL, exc);
        return;
    }
    ta_test_observer_log(native, "Exception in ASGI application\n", exc);
    if (native->req == NULL)
        return;
    if (!native->base.response_started)
        ta_response_plain(native, 500, "Internal Server Error");
    else if (!ta_response_is_over(native->out.state))
        ta_response_break(native);
}

/* Completes what the application left undone when it returned. */
static void finish(ta_native_exchange *native, PyObject *result /* borrowed */)
{
    if (TA_UNLIKELY(native->ws != NULL)) {
        ta_websocket_done(native, result, NULL);
        return;
    }
    if (TA_LIKELY(ta_response_is_over(native->out.state) && (result == NULL || Py_IsNone(result))))
        return;
    if (result != NULL && !Py_IsNone(result)) {
        PyObject *text =
            PyUnicode_FromFormat("ASGI callable should return None, but returned '%S'.", result);
        const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
        if (utf8 != NULL)
            ta_test_observer_log(native, utf8, NULL);
        else
            PyErr_Clear();
        Py_XDECREF(text);
    } else if (!ta_native_exchange_is_left(native) && !ta_end_is_due(native->asgi.end) &&
               !(native->server->stopping && native->base.response_started)) {
        ta_test_observer_log(native,
                             native->base.response_started
                                 ? "ASGI callable returned without completing response."
                                 : "ASGI callable returned without starting response.",
                             NULL);
    }
    if (ta_response_is_over(native->out.state)) /* also one that was closed */
        return;
    if (native->base.response_started || ta_native_exchange_is_left(native))
        ta_response_break(native);
    else if (ta_end_is_due(native->asgi.end)) /* it took its client for disconnected */
        ta_response_plain(native, 503, "Service Unavailable");
    else
        ta_response_plain(native, 500, "Internal Server Error");
}

/*
 * Calls an ASGI application and returns what a Task can run: a coroutine, or the iterator of
 * another awaitable.  New reference.
 */
static PyObject *call_asgi(ta_native_exchange *native, PyObject *app)
{
    PyObject *res = native->asgi.watch != NULL && native->ws != NULL
                        ? ta_test_observer_call(native, app)
                        : ta_exchange_call(native->st, &native->base, app);
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
static PyObject *ask_error_app(ta_native_exchange *native, PyObject *exc)
{
    ta_filters_drop(native);
    if (native->in.place == TA_PLACE_NONE || native->app->error_app == NULL ||
        (native->asgi.work != TA_WORK_NONE && native->asgi.work != TA_WORK_APP) ||
        !PyErr_GivenExceptionMatches(exc, PyExc_Exception))
        return NULL;
    ta_work_asks(&native->asgi.work);
    PyObject *coro = NULL;
    ta_loop_state_enter(native->base.ls);
    PyObject *scope = native->base.ops->scope(&native->base);
    if (TA_UNLIKELY(scope == NULL)) { /* of a session that can't be read: it has none, then */
        PyErr_Clear();
        scope = native->base.ops->scope(&native->base);
    }
    /* That application contains the middleware. */
    native->out.filters = NULL;
    /* Handlers are called even when no response can be sent any more: they may report the
     * exception. */
    if (scope != NULL && PyDict_SetItem(scope, native->st->names.turboapi_exception, exc) == 0 &&
        (!native->base.response_started ||
         PyDict_SetItem(scope, native->st->names.turboapi_response_started, Py_True) == 0))
        coro = call_asgi(native, native->app->error_app);
    Py_XDECREF(scope);
    ta_loop_state_leave(native->base.ls);
    if (coro == NULL) {
        PyObject *other = PyErr_GetRaisedException();
        ta_test_observer_log(native, "Exception in ASGI application\n", other);
        Py_XDECREF(other);
    }
    return coro;
}

static void release(ta_native_exchange *native)
{
    ta_server *server = (ta_server *)Py_NewRef((PyObject *)native->server);
    TA_ASSERT(server->tasks > 0);
    ta_stat_add(&server->tasks, (uint64_t)-1);
    ta_work_ends(&native->asgi.work);
    if (TA_UNLIKELY(native->asgi.watch != NULL))
        ta_test_observer_ended(native);
    Py_DECREF(native);
    if (TA_UNLIKELY(server->stopping))
        ta_server_maybe_done(server);
    Py_DECREF(server);
}

static ta_outcome server_done(void *arg, PyObject *result, PyObject **next)
{
    ta_native_exchange *native = arg;
    ta_filters_drop(native); /* a head that no body followed was never sent */
    if (TA_LIKELY(result != NULL)) {
        finish(native, result);
        release(native);
        return TA_DONE;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *coro = ask_error_app(native, exc);
    if (coro != NULL) {
        Py_DECREF(exc);
        *next = coro;
        return TA_WAITS;
    }
    ta_outcome outcome = TA_DONE;
    if (native->ws == NULL && PyErr_GivenExceptionMatches(exc, native->st->exc.cancelled_error)) {
        /* The end of a stream whose client has disconnected, a shutdown, or the handler cancelled
         * itself. */
        if (!ta_native_exchange_is_left(native) && !native->server->stopping)
            ta_test_observer_log(native, "Exception in ASGI application\n", exc);
        if (native->req != NULL && !native->base.response_started)
            ta_response_plain(native, 500, "Internal Server Error");
        if (!ta_response_is_over(native->out.state))
            ta_response_break(native);
    } else {
        fail(native, exc);
    }
    /* SystemExit, and KeyboardInterrupt that the application raised, end their request, as under
     * uvicorn; Ctrl+C without a signal handler ends the loop. */
    if (ta_exc_is_ctrl_c(exc)) {
        PyErr_SetRaisedException(exc);
        exc = NULL;
        outcome = TA_FAILED;
    }
    Py_XDECREF(exc);
    release(native);
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
static void run_task(ta_native_exchange *native, PyObject *coro)
{
    TA_ASSERT(coro != NULL && !PyErr_Occurred());
    Py_INCREF(native);
    ta_stat_add(&native->server->tasks, 1);
    ta_work_begins(&native->asgi.work);
    bool followed = native->req != NULL && native->req->followed;
    if (ta_task_pool_start(native->base.ls, coro, followed, server_done, native) < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        fail(native, exc);
        Py_DECREF(exc);
        release(native);
    }
}

/* Handles the exception that is set outside of any Task: by the application's handlers, or with
 * 500. */
static void failed_outside(ta_native_exchange *native)
{
    PyObject *exc = PyErr_GetRaisedException();
    TA_ASSERT(exc != NULL);
    PyObject *coro = ask_error_app(native, exc);
    if (coro != NULL) {
        Py_DECREF(exc);
        run_task(native, coro);
        return;
    }
    fail(native, exc);
    if (ta_exc_is_ctrl_c(exc)) {
        PyErr_SetRaisedException(exc);
        ta_loop_state_unhandled(native->base.ls, "");
        return;
    }
    Py_DECREF(exc);
}

static void start_asgi(ta_native_exchange *native)
{
    ta_loop_state *ls = native->base.ls;
    const ta_app *app = native->app;
    PyObject *called = app->asgi;
    if (app->stack != NULL && native->ws == NULL && ta_guards_hold(app->guards) &&
        (app->filters == NULL || ta_filters_admit(app->filters, native))) {
        native->in.place = TA_PLACE_STACK;
        native->out.filters = app->filters;
        called = app->stack;
    }
    ta_loop_state_enter(ls);
    PyObject *coro = call_asgi(native, called);
    ta_loop_state_leave(ls);
    if (coro == NULL)
        failed_outside(native);
    else
        run_task(native, coro);
}

/* Does what C can do alone.  False: the ASGI application must decide. */
static bool start_direct(ta_native_exchange *native)
{
    PyObject *run = NULL;
    ta_outcome outcome;
    if (!ta_routing_run(native, &run, &outcome))
        return false;
    TA_ASSERT((outcome == TA_FAILED) == (PyErr_Occurred() != NULL));
    TA_ASSERT((outcome == TA_WAITS) == (run != NULL));
    if (TA_LIKELY(outcome == TA_DONE))
        finish(native, NULL);
    else if (outcome == TA_WAITS)
        run_task(native, run);
    else
        failed_outside(native);
    return true;
}

/* Rebuilds an App of the server's after routes or middleware have changed.  -1 with an exception.
 */
static int rebuild(ta_server *server, ta_app **place)
{
    ta_app *app = *place;
    if (app->rebuild == NULL) {
        atomic_store(&app->stale, false);
        return 0;
    }
    Py_INCREF(app); /* that code may serve a request, which may rebuild, too */
    PyObject *made = PyObject_CallNoArgs(app->rebuild);
    bool same = *place == app;
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
    *place = (ta_app *)made;
    Py_END_CRITICAL_SECTION();
    Py_DECREF(app);
    return 0;
}

enum { BUSY_LOG_MS = 60000 };

/* Returns whether too many requests are in flight for a further one; this one is among them. */
static bool is_busy(const ta_server *server)
{
    return TA_UNLIKELY(server->max_requests > 0) && server->active > server->max_requests;
}

static void refuse_busy(ta_native_exchange *native)
{
    ta_server *server = native->server;
    uint64_t now = ta_loop_now(server->ls->loop);
    if (server->busy_logged == 0 || now >= server->busy_logged + BUSY_LOG_MS) {
        server->busy_logged = now ? now : 1;
        ta_log_printf(&server->log, TA_LOG_WARNING,
                      "%u requests are in flight, which is the limit (limit_concurrency): further "
                      "ones get 503 until one of them ends",
                      (unsigned)server->max_requests);
    }
    ta_response_plain(native, 503, "Service Unavailable");
}

static void start(ta_native_exchange *native)
{
    ta_server *server = native->server;
    if (is_busy(server)) {
        refuse_busy(native);
        return;
    }
    ta_app **place = ta_front_place(native);
    if (TA_UNLIKELY(atomic_load_explicit(&(*place)->stale, memory_order_acquire))) {
        ta_loop_state_enter(server->ls);
        int rc = rebuild(server, place);
        ta_loop_state_leave(server->ls);
        if (rc < 0) {
            failed_outside(native);
            return;
        }
    }
    if (native->app != *place)
        ta_native_exchange_use_app(native, *place);
    if (TA_UNLIKELY(server->watch != NULL) && ta_test_observer_begin(native) < 0) {
        failed_outside(native);
        return;
    }
    if (native->ws != NULL || !native->app->direct || !start_direct(native))
        start_asgi(native);
    if (TA_UNLIKELY(native->asgi.watch != NULL) && !ta_work_has_task(native->asgi.work))
        ta_test_observer_ended(native);
}

/*
 * The same while a Task of the pool is between two coroutines: queues the request for it.  False:
 * it needs no Task, or Python has to be asked first, so that it must wait.
 */
static bool start_in_step(ta_native_exchange *native)
{
    ta_server *server = native->server;
    PyObject *run = NULL;
    ta_outcome outcome;
    if (is_busy(server) || server->watch != NULL || native->ws != NULL || !native->app->direct ||
        ta_front_place(native) != &server->app ||
        atomic_load_explicit(&native->app->stale, memory_order_acquire) ||
        !ta_routing_run(native, &run, &outcome))
        return false;
    if (outcome == TA_WAITS)
        run_task(native, run);
    else
        failed_outside(native);
    return true;
}

static void start_later(ta_defer *defer)
{
    ta_native_exchange *native = TA_CONTAINER_OF(defer, ta_native_exchange, later);
    if (native->req == NULL)
        return;
    if (ta_loop_state_may_start(native->base.ls)) {
        Py_INCREF(native);
        start(native);
        Py_DECREF(native);
    } else {
        ta_loop_defer(native->base.ls->loop, defer);
    }
}

void ta_dispatch_start(ta_native_exchange *native)
{
    TA_ASSERT(native->asgi.work == TA_WORK_NONE && native->out.state == TA_RESPONSE_NONE);
    if (TA_LIKELY(ta_loop_state_may_start(native->base.ls))) {
        start(native);
    } else if (!ta_loop_state_may_queue(native->base.ls) || !start_in_step(native)) {
        native->later.fn = start_later;
        ta_loop_defer(native->base.ls->loop, &native->later);
    }
}
