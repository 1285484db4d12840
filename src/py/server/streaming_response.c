/*
 * streaming_response.c -- a StreamingResponse over the native server, without an ASGI message per
 * chunk.
 *
 * Layer: py (L4).  It does what Starlette's StreamingResponse.__call__ does, as an awaitable in C:
 * it sends the head, then each chunk of the iterator, and runs the background tasks at last.
 * Starlette runs the iterator in a task, beside another one that listens for the disconnect and
 * cancels it; here the request's own Task iterates, and on_disconnect cancels it at the end of the
 * batch.  A cancellation that is ours ends here (Task.uncancel), and the background tasks run, as
 * in Starlette.  The iterator has a copy of the context, as a task has.
 *
 * An _EventStream (routing/_stream.py) has pings, which are sent while the iterator makes nothing.
 * With background tasks it is left to its own code.
 *
 * Everything that is not plain (a response with methods of its own, a body that has not been read,
 * a client that has disconnected) is left to Starlette's code, with scope, receive and send.
 */
#include "py/server/native_int.h"

#include "py/loop/prefetch.h"
#include "py/loop/task_pool.h"
#include "py/support/exc.h"
#include "py/support/types.h"

enum { BEGIN, THEIRS, NEXT, MORE, ROOM, ENDING, CLOSING, FAILING, BACKGROUND, OVER };

struct ta_streamer {
    ta_coroutine co;
    ta_native_exchange *x; /* owned until it is over; x->out.stream is this one while it iterates */
    PyObject *response;    /* owned, the same */
    PyObject *iterator;    /* owned: what __aiter__ returned, or NULL */
    ta_prefetch *ahead;    /* owned: in place of an iterator that goes through a thread, or NULL */
    PyObject *piece;       /* owned: that it gave, to be sent next */
    PyObject *exc;         /* owned: to be raised when its thread is out of the iterator */
    PyObject *task;        /* owned: that which iterates */
    ta_defer leaving;      /* the client has disconnected: cancel the task */
    PyObject *ping;       /* owned: bytes to send when there was no chunk for `quiet` ms, or NULL */
    ta_timer timer;       /* for them */
    uint64_t quiet, last; /* ms; when something was sent */
    uint8_t state;
    bool cancelled; /* we cancelled it, and it has not been told */
};

/* -- the client goes -------------------------------------------------------------------------- */

static void cancel_later(ta_defer *defer)
{
    ta_streamer *streamer = TA_CONTAINER_OF(defer, ta_streamer, leaving);
    ta_native_exchange *native = streamer->x;
    TA_ASSERT(native->out.stream == streamer && !streamer->cancelled);
    if (!ta_loop_state_may_start(native->base.ls)) { /* a Task runs, and maybe this one */
        ta_loop_defer(native->base.ls->loop, defer);
        return;
    }
    Py_INCREF(streamer);
    streamer->cancelled = true;
    ta_loop_state_enter(native->base.ls);
    PyObject *res = PyObject_CallMethodNoArgs(streamer->task, native->st->names.cancel);
    ta_loop_state_leave(native->base.ls);
    if (res == NULL)
        ta_loop_state_unhandled(native->base.ls, "Exception while a stream was cancelled");
    Py_XDECREF(res);
    Py_DECREF(streamer);
}

void ta_streaming_response_left(ta_native_exchange *x)
{
    ta_streamer *s = x->out.stream;
    if (s == NULL || s->cancelled)
        return;
    s->leaving.fn = cancel_later;
    ta_loop_defer(x->base.ls->loop, &s->leaving);
}

/* Ends the iteration: nothing is sent from here on. */
static void end_iteration(ta_streamer *streamer)
{
    if (streamer->x->out.stream == streamer) {
        ta_loop *loop = streamer->x->base.ls->loop;
        streamer->x->out.stream = NULL;
        ta_loop_undefer(loop, &streamer->leaving);
        if (loop != NULL) /* else it is closed, and has forgotten them */
            ta_timer_cancel(ta_loop_timers(loop), &streamer->timer);
    }
    if (streamer->ahead != NULL) {
        ta_prefetch *ahead = streamer->ahead;
        PyObject *exc = PyErr_GetRaisedException(); /* maybe we are freed */
        streamer->ahead = NULL;
        ta_prefetch_drop(ahead);
        ta_exc_restore(exc);
    }
    Py_CLEAR(streamer->iterator);
    Py_CLEAR(streamer->piece);
    Py_CLEAR(streamer->exc);
    Py_CLEAR(streamer->task);
    Py_CLEAR(streamer->ping);
}

/* Takes back the cancellation of the task if only we cancelled it.  1: taken back; 0; -1:
 * exception. */
static int take_back(ta_streamer *streamer)
{
    if (TA_LIKELY(!streamer->cancelled))
        return 0;
    streamer->cancelled = false;
    PyObject *others = PyObject_CallMethodNoArgs(streamer->task, streamer->x->st->names.uncancel);
    if (others == NULL)
        return -1;
    long n = PyLong_AsLong(others);
    Py_DECREF(others);
    return n == -1 && PyErr_Occurred() ? -1 : n == 0;
}

/* -- pings ------------------------------------------------------------------------------------ */

static void send_ping(ta_streamer *streamer)
{
    ta_native_exchange *native = streamer->x;
    PyObject *job = NULL;
    ta_outcome outcome = TA_DONE;
    if (native->peer != TA_PEER_GONE)
        outcome = ta_response_piece(native, ta_piece_bytes(streamer->ping), true, &job);
    if (job != NULL) { /* so few bytes need no thread */
        PyObject *none = PyObject_CallNoArgs(job);
        outcome = none ? ta_response_job(native, job) : TA_FAILED;
        Py_XDECREF(none);
        Py_DECREF(job);
    }
    if (outcome == TA_FAILED)
        ta_loop_state_unhandled(native->base.ls, "Exception while a stream was kept alive");
}

static void on_quiet(ta_timer *timer)
{
    ta_streamer *streamer = TA_CONTAINER_OF(timer, ta_streamer, timer);
    ta_loop *loop = streamer->x->base.ls->loop;
    uint64_t passed = ta_loop_now(loop) - streamer->last;
    if (passed >= streamer->quiet) {
        if (streamer->state == NEXT || streamer->state == MORE)
            send_ping(streamer);
        streamer->last = ta_loop_now(loop);
        passed = 0;
    }
    ta_loop_set_timer(loop, timer, streamer->quiet - passed);
}

/* response._turboapi_keep_alive: (seconds, bytes).  0 or -1. */
static int begin_pings(ta_streamer *streamer)
{
    PyObject *keep_alive;
    if (PyObject_GetOptionalAttr(streamer->response, streamer->x->st->names.keep_alive,
                                 &keep_alive) <= 0)
        return PyErr_Occurred() ? -1 : 0;
    double seconds;
    int ok = PyArg_ParseTuple(keep_alive, "dS;(seconds, bytes)", &seconds, &streamer->ping);
    Py_XINCREF(streamer->ping);
    Py_DECREF(keep_alive);
    if (!ok)
        return -1;
    ta_loop *loop = streamer->x->base.ls->loop;
    streamer->quiet = seconds < 1e9 ? (uint64_t)TA_MAX(seconds * 1000, 1.0) : UINT32_MAX;
    streamer->last = ta_loop_now(loop);
    streamer->timer.on_expire = on_quiet;
    ta_loop_set_timer(loop, &streamer->timer, streamer->quiet);
    return 0;
}

/*
 * -- steps ------------------------------------------------------------------------------------
 *
 * DONE: the machine goes on at once, with s->piece if there is one, unless its state is OVER.
 */

/* Starlette's own code. */
static ta_outcome theirs(ta_streamer *s)
{
    PyObject *awaitable = ta_exchange_call(s->x->st, &s->x->base, s->response);
    s->state = THEIRS;
    return awaitable ? ta_coroutine_await(&s->co, awaitable) : TA_FAILED;
}

static ta_outcome ask_next(ta_streamer *streamer)
{
    PyObject *awaitable;
    streamer->state = NEXT;
    if (streamer->ahead == NULL) {
        PyAsyncMethods *async = Py_TYPE(streamer->iterator)->tp_as_async;
        awaitable = async->am_anext(streamer->iterator);
        return awaitable ? ta_coroutine_await(&streamer->co, awaitable) : TA_FAILED;
    }
    ta_outcome outcome = ta_prefetch_next(streamer->ahead, &awaitable);
    if (outcome == TA_FAILED)
        return TA_FAILED;
    if (outcome == TA_WAITS) {
        streamer->state = MORE;
        return ta_coroutine_await(&streamer->co, awaitable);
    }
    if (awaitable == NULL) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return TA_FAILED;
    }
    TA_ASSERT(streamer->piece == NULL);
    streamer->piece = awaitable;
    return TA_DONE;
}

/* What an iterate_in_threadpool() of Starlette that has not begun will iterate over, else NULL. */
static PyObject *unbegun(ta_state *st, PyObject *generator)
{
    const ta_names_state *names = &st->names;
    PyObject *code = PyObject_GetAttr(generator, names->ag_code), *iterator = NULL;
    PyObject *frame = NULL, *locals = NULL;
    Py_XDECREF(code);
    if (code == ta_server_objects_of(st)->stream.in_threadpool)
        frame = PyObject_GetAttr(generator, names->ag_frame);
    if (frame != NULL && frame != Py_None)
        locals = PyObject_GetAttr(frame, names->f_locals);
    if (locals != NULL) {
        PyObject *begun = PyObject_GetItem(locals, names->as_iterator);
        if (begun == NULL) {
            PyErr_Clear();
            iterator = PyObject_GetItem(locals, names->iterator);
        }
        Py_XDECREF(begun);
    }
    if (iterator == NULL)
        PyErr_Clear();
    Py_XDECREF(locals);
    Py_XDECREF(frame);
    return iterator;
}

/*
 * If Starlette would take each chunk of this iterator in a thread, lets a thread make some ahead.
 * 1, 0 or -1.  Not inside anyio's cancel scopes, which only its own threads know.
 */
static int open_ahead(ta_streamer *streamer, PyObject *iterable)
{
    ta_native_exchange *native = streamer->x;
    if (!PyAsyncGen_CheckExact(iterable) || ta_task_pool_is_marked(native->base.ls))
        return 0;
    PyObject *iterator = unbegun(native->st, iterable);
    if (iterator == NULL)
        return 0;
    Py_SETREF(iterator, PyObject_GetIter(iterator));
    if (iterator == NULL)
        return -1;
    streamer->ahead = ta_prefetch_new(native->base.ls, iterator);
    Py_DECREF(iterator);
    return streamer->ahead ? 1 : -1;
}

/* `async for` over response.body_iterator.  0 or -1. */
static int open_iterator(ta_streamer *streamer)
{
    const ta_names_state *names = &streamer->x->st->names;
    PyObject *iterable = PyObject_GetAttr(streamer->response, names->body_iterator);
    if (iterable == NULL)
        return -1;
    int ahead = open_ahead(streamer, iterable);
    if (ahead != 0) {
        Py_DECREF(iterable);
        return ahead < 0 ? -1 : 0;
    }
    PyAsyncMethods *async = Py_TYPE(iterable)->tp_as_async;
    if (async == NULL || async->am_aiter == NULL)
        PyErr_Format(PyExc_TypeError,
                     "'async for' requires an object with __aiter__ method, got %.100s",
                     Py_TYPE(iterable)->tp_name);
    else
        streamer->iterator = async->am_aiter(iterable);
    Py_DECREF(iterable);
    if (streamer->iterator == NULL)
        return -1;
    async = Py_TYPE(streamer->iterator)->tp_as_async;
    if (async != NULL && async->am_anext != NULL)
        return 0;
    PyErr_Format(PyExc_TypeError,
                 "'async for' received an object from __aiter__ that does not implement "
                 "__anext__: %.100s",
                 Py_TYPE(streamer->iterator)->tp_name);
    return -1;
}

/* Returns whether C iterates a stream that begins now. */
static bool may_iterate(const ta_native_exchange *x)
{
    return x->ws == NULL && !x->base.response_started && x->req != NULL &&
           x->peer != TA_PEER_GONE && !x->req->gone && x->req->body_eof &&
           !x->server->errors_on_send;
}

static ta_outcome begin(ta_streamer *streamer)
{
    ta_native_exchange *native = streamer->x;
    const ta_names_state *names = &native->st->names;
    if (!may_iterate(native))
        return theirs(streamer);
    PyObject *status = PyObject_GetAttr(streamer->response, names->status_code);
    PyObject *headers = status ? PyObject_GetAttr(streamer->response, names->raw_headers) : NULL;
    int rc = headers ? ta_response_begin(native, status, headers) : -1;
    Py_XDECREF(headers);
    Py_XDECREF(status);
    if (rc < 0)
        return TA_FAILED;
    streamer->task = PyObject_CallNoArgs(ta_server_objects_of(native->st)->stream.current_task);
    /* Starlette iterates in a task of its own: nobody sees the context variables that are set. */
    if (streamer->task == NULL || ta_coroutine_enter_context(&streamer->co) < 0 ||
        open_iterator(streamer) < 0)
        return TA_FAILED;
    TA_ASSERT(native->out.stream == NULL);
    native->out.stream = streamer;
    return begin_pings(streamer) < 0 ? TA_FAILED : ask_next(streamer);
}

/*
 * What comes after the stream may take from the iterator what it uses: not while a thread is in it.
 * DONE: no thread is; else it is waited for, in `state`.
 */
static ta_outcome leave_thread(ta_streamer *streamer, uint8_t state)
{
    if (streamer->ahead == NULL)
        return TA_DONE;
    PyObject *thread = ta_prefetch_stop(streamer->ahead);
    streamer->state = state;
    if (thread != NULL)
        return ta_coroutine_await(&streamer->co, thread);
    return PyErr_Occurred() ? TA_FAILED : TA_DONE;
}

/* Runs the background tasks: the response is sent, or nobody wants it any more. */
static ta_outcome background(ta_streamer *streamer)
{
    ta_native_exchange *native = streamer->x;
    ta_end_hears(&native->asgi.end); /* this follows the disconnect, if there was one */
    ta_outcome outcome = leave_thread(streamer, CLOSING);
    if (outcome != TA_DONE)
        return outcome;
    end_iteration(streamer);
    ta_coroutine_leave_context(&streamer->co);
    PyObject *job = PyObject_GetAttr(streamer->response, native->st->names.background);
    if (job == NULL)
        return TA_FAILED;
    if (Py_IsNone(job)) {
        Py_DECREF(job);
        streamer->state = OVER;
        return TA_DONE;
    }
    if (native->req != NULL)
        ta_resp_flush(native->req);
    PyObject *awaitable = PyObject_CallNoArgs(job);
    Py_DECREF(job);
    streamer->state = BACKGROUND;
    return awaitable ? ta_coroutine_await(&streamer->co, awaitable) : TA_FAILED;
}

/* Sends a chunk, or (`more` false) the end. */
static ta_outcome send_piece(ta_streamer *streamer, ta_piece piece, bool more)
{
    ta_native_exchange *native = streamer->x;
    PyObject *job = NULL, *awaitable = NULL;
    if (native->peer == TA_PEER_GONE)
        return background(streamer);
    if (streamer->ping != NULL)
        streamer->last = ta_loop_now(native->base.ls->loop);
    ta_outcome outcome = ta_response_piece(native, piece, more, &job);
    if (outcome == TA_FAILED)
        return TA_FAILED;
    if (outcome == TA_DONE) {
        if (!more || native->peer == TA_PEER_GONE)
            return background(streamer);
        return ask_next(streamer);
    }
    awaitable = job != NULL ? ta_asgi_send_job(native, job)
                            : (PyObject *)ta_waiters_add(&native->out.writers, native->base.ls);
    streamer->state = more ? ROOM : ENDING;
    return awaitable ? ta_coroutine_await(&streamer->co, awaitable) : TA_FAILED;
}

/* Takes what the iterator yielded: bytes, a memoryview, or something to encode. */
static ta_outcome take_piece(ta_streamer *streamer, PyObject *piece /* steals */)
{
    const ta_names_state *names = &streamer->x->st->names;
    ta_outcome outcome = TA_FAILED;
    streamer->state = ROOM;
    if (!PyBytes_Check(piece) && !PyMemoryView_Check(piece)) {
        PyObject *charset = PyObject_GetAttr(streamer->response, names->charset);
        PyObject *encoded =
            charset ? PyObject_CallMethodOneArg(piece, names->encode, charset) : NULL;
        Py_XDECREF(charset);
        Py_SETREF(piece, encoded);
        if (piece == NULL)
            return TA_FAILED;
    }
    if (TA_LIKELY(PyBytes_CheckExact(piece))) {
        outcome = send_piece(streamer, ta_piece_bytes(piece), true);
    } else {
        Py_buffer view;
        if (PyObject_GetBuffer(piece, &view, PyBUF_SIMPLE) == 0) {
            outcome = send_piece(
                streamer, (ta_piece){ta_str_of(view.buf, (size_t)view.len), piece, NULL}, true);
            PyBuffer_Release(&view);
        }
    }
    Py_DECREF(piece);
    return outcome;
}

/* The error of events leaves a task group, where there is one (_EventStream.__call__). */
static void group_error(void)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *group = PyObject_CallFunction(PyExc_BaseExceptionGroup, "s[O]",
                                            "unhandled errors in a TaskGroup", exc);
    Py_DECREF(exc);
    if (group != NULL)
        PyErr_SetRaisedException(group);
}

/* The exception that is set leaves when no thread is in the iterator; a cancellation at once. */
static ta_outcome raise_later(ta_streamer *streamer)
{
    if (streamer->ahead == NULL || !PyErr_ExceptionMatches(PyExc_Exception))
        return TA_FAILED;
    TA_ASSERT(streamer->exc == NULL);
    streamer->exc = PyErr_GetRaisedException();
    ta_outcome outcome = leave_thread(streamer, FAILING);
    if (outcome == TA_WAITS)
        return outcome;
    PyErr_Clear(); /* the first one matters more */
    PyErr_SetRaisedException(streamer->exc);
    streamer->exc = NULL;
    return TA_FAILED;
}

/* In FAILING: the thread is out, or something (maybe a cancellation of ours) was thrown in. */
static ta_outcome raise_now(ta_streamer *streamer)
{
    TA_ASSERT(streamer->exc != NULL);
    bool ours = PyErr_Occurred() != NULL && streamer->cancelled;
    PyErr_Clear();
    if (ours && take_back(streamer) >= 0 && leave_thread(streamer, FAILING) == TA_WAITS)
        return TA_WAITS;
    PyErr_Clear();
    PyErr_SetRaisedException(streamer->exc);
    streamer->exc = NULL;
    return TA_FAILED;
}

/* An exception is set, or the one that waits has its turn. */
static ta_outcome failed(ta_streamer *streamer)
{
    if (streamer->state == FAILING)
        return raise_now(streamer);
    if (streamer->state == NEXT && PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) {
        PyErr_Clear();
        int cut = take_back(streamer);
        if (cut < 0)
            return TA_FAILED;
        return cut ? background(streamer)
                   : send_piece(streamer, (ta_piece){TA_STR(""), NULL, NULL}, false);
    }
    if (streamer->cancelled) {
        bool cancelled = PyErr_ExceptionMatches(streamer->x->st->exc.cancelled_error);
        PyObject *exc = PyErr_GetRaisedException();
        int cut = take_back(streamer);
        if (cut < 0 || (cancelled && cut)) {
            Py_DECREF(exc);
            return cut < 0 ? TA_FAILED : background(streamer);
        }
        PyErr_SetRaisedException(exc);
    }
    if (streamer->ping != NULL)
        group_error();
    return raise_later(streamer);
}

static ta_outcome go_on(ta_streamer *streamer, PyObject *value /* steals */)
{
    int cut;
    switch (streamer->state) {
    case BEGIN:
        Py_XDECREF(value);
        return begin(streamer);
    case NEXT:
        if (TA_LIKELY(!streamer->cancelled))
            return take_piece(streamer, value);
        /* the iterator made nothing of its cancellation */
        Py_XDECREF(value);
        cut = take_back(streamer);
        return cut < 0 ? TA_FAILED : background(streamer);
    case ROOM:
        Py_XDECREF(value);
        return streamer->x->peer == TA_PEER_GONE ? background(streamer) : ask_next(streamer);
    case MORE:
        Py_XDECREF(value);
        cut = take_back(streamer);
        if (cut != 0)
            return cut < 0 ? TA_FAILED : background(streamer);
        return ask_next(streamer);
    case ENDING:
    case CLOSING:
        Py_XDECREF(value);
        return background(streamer);
    case FAILING:
        Py_XDECREF(value);
        return TA_FAILED;
    default: /* THEIRS, BACKGROUND */
        Py_XDECREF(value);
        streamer->state = OVER;
        return TA_DONE;
    }
}

/* -- the awaitable ---------------------------------------------------------------------------- */

static void let_go(ta_streamer *s)
{
    if (s->x == NULL)
        return;
    end_iteration(s);
    Py_CLEAR(s->response);
    Py_CLEAR(s->x);
}

static ta_outcome stream_advance(ta_coroutine *co, PyObject *value)
{
    ta_streamer *streamer = (ta_streamer *)co;
    ta_outcome outcome = value == NULL && PyErr_Occurred() ? TA_FAILED : go_on(streamer, value);
    for (;;) {
        if (outcome == TA_FAILED)
            outcome = failed(streamer);
        if (outcome != TA_DONE || streamer->state == OVER)
            break;
        PyObject *piece = streamer->piece;
        streamer->piece = NULL;
        outcome = go_on(streamer, piece);
    }
    if (outcome != TA_WAITS) {
        PyObject *exc = PyErr_GetRaisedException();
        if (streamer->ahead != NULL) { /* cancelled by others: nobody waits for its end */
            PyObject *thread = ta_prefetch_stop(streamer->ahead);
            if (thread == NULL)
                PyErr_Clear();
            Py_XDECREF(thread);
        }
        let_go(streamer);
        if (exc != NULL)
            PyErr_SetRaisedException(exc);
    }
    return outcome;
}

/* -- what is plain ---------------------------------------------------------------------------- */

/* Returns whether a call would find Starlette's own `name`. */
static bool own(PyObject *response, PyObject *name, PyObject *function)
{
    PyObject *method;
    if (PyObject_GetOptionalAttr(response, name, &method) <= 0) {
        PyErr_Clear();
        return false;
    }
    bool same = PyMethod_Check(method) && PyMethod_GET_FUNCTION(method) == function;
    Py_DECREF(method);
    return same;
}

/* An _EventStream: its __call__ is for other servers, and for background tasks, which run before
 * its iterator is told of a disconnect. */
static bool is_events(const ta_names_state *names, PyObject *response)
{
    PyObject *keep_alive, *background = NULL;
    int rc = PyObject_GetOptionalAttr(response, names->keep_alive, &keep_alive);
    if (rc > 0)
        rc = PyObject_GetOptionalAttr(response, names->background, &background);
    if (rc < 0)
        PyErr_Clear();
    bool alone = rc > 0 && Py_IsNone(background);
    Py_XDECREF(background);
    Py_XDECREF(keep_alive);
    return alone;
}

static bool is_plain(ta_state *st, PyObject *response)
{
    const ta_names_state *names = &st->names;
    if (!PyObject_TypeCheck(response,
                            (PyTypeObject *)ta_server_objects_of(st)->stream.response_type))
        return false;
    PyObject *call = PyObject_GetAttr((PyObject *)Py_TYPE(response), names->dunder_call);
    Py_XDECREF(call);
    if (call == NULL)
        PyErr_Clear();
    return (call == ta_server_objects_of(st)->stream.call || is_events(names, response)) &&
           own(response, names->stream_response,
               ta_server_objects_of(st)->stream.stream_response) &&
           own(response, names->listen_for_disconnect,
               ta_server_objects_of(st)->stream.listen_for_disconnect);
}

PyObject *ta_streaming_response_new(ta_exchange *base, PyObject *response)
{
    ta_native_exchange *native = ta_native_exchange_of(base);
    if (!may_iterate(native) || !is_plain(native->st, response))
        return NULL;
    ta_streamer *streamer =
        PyObject_GC_New(ta_streamer, ta_server_objects_of(native->st)->stream.type);
    if (streamer == NULL)
        return NULL;
    ta_coroutine_init(&streamer->co, stream_advance);
    streamer->x = (ta_native_exchange *)Py_NewRef((PyObject *)native);
    streamer->response = Py_NewRef(response);
    streamer->iterator = streamer->piece = streamer->exc = streamer->task = streamer->ping = NULL;
    streamer->ahead = NULL;
    streamer->leaving = (ta_defer){0};
    streamer->timer = (ta_timer){0};
    streamer->state = BEGIN;
    streamer->cancelled = false;
    PyObject_GC_Track((PyObject *)streamer);
    return (PyObject *)streamer;
}

/* -- the type --------------------------------------------------------------------------------- */

static int stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_streamer *streamer = (ta_streamer *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)streamer->x);
    Py_VISIT(streamer->response);
    Py_VISIT(streamer->iterator);
    Py_VISIT(streamer->piece);
    Py_VISIT(streamer->exc);
    Py_VISIT(streamer->task);
    return ta_coroutine_traverse(&streamer->co, visit, arg);
}

static int stream_clear(PyObject *self)
{
    ta_streamer *s = (ta_streamer *)self;
    s->co.finished = true;
    ta_coroutine_clear(&s->co);
    let_go(s);
    return 0;
}

static void stream_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)stream_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {TA_COROUTINE_METHODS, {NULL}};
static PyGetSetDef getset[] = {TA_COROUTINE_GETSET, {NULL}};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Awaits the end of a streamed response."},
    TA_COROUTINE_SLOTS,
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_dealloc, stream_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Stream",
    .basicsize = sizeof(ta_streamer),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_streaming_response_init(PyObject *module, ta_state *st)
{
    ta_streamer_state *objects = &ta_server_objects_of(st)->stream;
    PyObject *type = ta_types_import("starlette.responses", "StreamingResponse");
    if (type == NULL)
        return -1;
    objects->response_type = type;
    objects->current_task = ta_types_import("asyncio", "current_task");
    PyObject *function = ta_types_import("starlette.concurrency", "iterate_in_threadpool");
    if (function == NULL)
        return -1;
    objects->in_threadpool = PyObject_GetAttrString(function, "__code__");
    Py_DECREF(function);
    objects->call = PyObject_GetAttrString(type, "__call__");
    objects->stream_response = PyObject_GetAttrString(type, "stream_response");
    objects->listen_for_disconnect = PyObject_GetAttrString(type, "listen_for_disconnect");
    if (objects->current_task == NULL || objects->in_threadpool == NULL || objects->call == NULL ||
        objects->stream_response == NULL || objects->listen_for_disconnect == NULL)
        return -1;
    return ta_types_add(module, &spec, NULL, &objects->type);
}
