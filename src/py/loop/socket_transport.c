/*
 * socket_transport.c -- a socket transport on its loop: what is watched, how it fails, how it ends.
 *
 * Layer: py/loop.  The functions are those of asyncio's _SelectorTransport, in the same order of
 * events.  A ready descriptor makes the transport's Handle ready, as asyncio's loop does: it runs
 * in the iteration after the select(), behind what was ready before, in its context, and not at
 * all when reading was stopped meanwhile.
 */
#include "py/loop/socket_transport_int.h"

#include <errno.h>

#include "py/support/exc.h"

/* -- the descriptor ------------------------------------------------------------------------------
 */

static void make_ready(ta_socket_transport *t, PyObject *handle)
{
    int rc;
    if (TA_LIKELY(!t->loop->plain)) {
        rc = ta_evloop_push(t->loop, Py_NewRef(handle));
    } else {
        ta_loop_state_enter(t->ls);
        PyObject *res = PyObject_CallMethod((PyObject *)t->loop, "_add_callback", "O", handle);
        ta_loop_state_leave(t->ls);
        Py_XDECREF(res);
        rc = res ? 0 : -1;
    }
    if (rc < 0)
        ta_loop_state_unhandled(t->ls, "A callback of a transport was lost");
}

static void on_event(ta_io *io, unsigned events)
{
    ta_socket_transport *t = TA_CONTAINER_OF(io, ta_socket_transport, io);
    PyObject *self = Py_NewRef(t->self);
    if ((events & TA_EV_READ) && t->reader != NULL)
        make_ready(t, t->reader);
    if ((events & TA_EV_WRITE) && t->writer != NULL)
        make_ready(t, t->writer);
    Py_DECREF(self);
}

static void unwatch(ta_socket_transport *t)
{
    if (!t->watched)
        return;
    t->watched = false;
    ta_loop_del(t->ls->loop, &t->io);
    ta_guest_leave(&t->guest);
    Py_DECREF(t->self);
}

static void guest_shut(ta_guest *guest)
{
    unwatch(TA_CONTAINER_OF(guest, ta_socket_transport, guest));
}

static int guest_traverse(ta_guest *guest, visitproc visit, void *arg)
{
    Py_VISIT(TA_CONTAINER_OF(guest, ta_socket_transport, guest)->self);
    return 0;
}

const ta_guest_ops ta_socket_transport_guest_ops = {guest_shut, guest_traverse};

/* Watches for what there are handles for.  0, or -1 with an exception. */
static int watch(ta_socket_transport *t)
{
    unsigned events = (t->reader ? TA_EV_READ : 0U) | (t->writer ? TA_EV_WRITE : 0U);
    if (events == 0) {
        unwatch(t);
        return 0;
    }
    if (t->loop->closed || t->ls->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    int rc;
    if (t->watched) {
        rc = ta_loop_mod(t->ls->loop, &t->io, events);
    } else {
        t->io = (ta_io){.on_event = on_event, .fd = t->fd, .lent = true};
        rc = ta_loop_add(t->ls->loop, &t->io, events);
        if (rc == TA_OK) {
            ta_guest_enter(t->ls, &t->guest);
            t->watched = true;
            Py_INCREF(t->self);
        }
    }
    if (rc < 0)
        ta_exc_set(rc, "watching a socket");
    return rc < 0 ? -1 : 0;
}

static void stop(ta_socket_transport *t, PyObject **handle)
{
    if (*handle == NULL)
        return;
    PyObject *old = *handle, *exc = PyErr_GetRaisedException();
    *handle = NULL;
    ta_handle_drop(old);
    Py_DECREF(old);
    if (watch(t) < 0) /* the socket is closed already */
        PyErr_Clear();
    ta_exc_restore(exc);
}

static int start(ta_socket_transport *t, PyObject **handle, const char *method)
{
    PyObject *callback = PyObject_GetAttrString(t->self, method);
    PyTypeObject *type = ta_loop_objects_of(t->st)->evloop.handle_type;
    PyObject *made = callback ? ta_handle_new(t->loop, type, callback, NULL, 0, t->context) : NULL;
    Py_XDECREF(callback);
    if (made == NULL)
        return -1;
    PyObject *old = *handle;
    *handle = made;
    if (old != NULL) {
        ta_handle_drop(old);
        Py_DECREF(old);
    }
    if (watch(t) == 0)
        return 0;
    PyObject *exc = PyErr_GetRaisedException();
    stop(t, handle);
    PyErr_SetRaisedException(exc);
    return -1;
}

int ta_socket_transport_start_reading(ta_socket_transport *t)
{
    return start(t, &t->reader, "_read_ready");
}

int ta_socket_transport_start_writing(ta_socket_transport *t)
{
    return start(t, &t->writer, "_write_ready");
}

void ta_socket_transport_stop_reading(ta_socket_transport *t)
{
    stop(t, &t->reader);
}

void ta_socket_transport_stop_writing(ta_socket_transport *t)
{
    stop(t, &t->writer);
}

/* Not the number that we remember: it may be another one's since somebody closed the socket. */
int ta_socket_transport_fd(ta_socket_transport *t)
{
    PyObject *res = PyObject_CallNoArgs(t->fileno);
    int fd = res ? (int)PyLong_AsLong(res) : -1;
    Py_XDECREF(res);
    errno = EBADF;
    return fd;
}

void ta_socket_transport_set_errno(void)
{
    if (!PyErr_Occurred())
        PyErr_SetFromErrno(PyExc_OSError);
}

/* -- failing -------------------------------------------------------------------------------------
 */

/* Tells the loop's exception handler of `exc`.  0 or -1. */
static int tell(ta_socket_transport *t, const char *message, PyObject *exc)
{
    if (t->loop == NULL) { /* it ended meanwhile: the handle reports it */
        PyErr_SetRaisedException(Py_NewRef(exc));
        return -1;
    }
    PyObject *context =
        Py_BuildValue("{s:s,s:O,s:O,s:O}", "message", message, "exception", exc, "transport",
                      t->self, "protocol", t->protocol ? t->protocol : Py_None);
    PyObject *res = context ? PyObject_CallMethodOneArg(
                                  (PyObject *)t->loop, t->st->names.call_exception_handler, context)
                            : NULL;
    Py_XDECREF(context);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static bool ends_the_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit) ||
           PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

int ta_socket_transport_report(ta_socket_transport *t, const char *message)
{
    if (ends_the_loop())
        return -1;
    PyObject *exc = PyErr_GetRaisedException();
    int rc = tell(t, message, exc);
    Py_DECREF(exc);
    return rc;
}

PyObject *ta_socket_transport_fail(ta_socket_transport *t, const char *message)
{
    if (ends_the_loop())
        return NULL;
    PyObject *exc = PyErr_GetRaisedException();
    int rc = 0;
    /* A connection that breaks is nothing to report. */
    if (!PyErr_GivenExceptionMatches(exc, PyExc_OSError))
        rc = tell(t, message, exc);
    if (rc == 0)
        rc = ta_socket_transport_force_close(t, exc);
    Py_DECREF(exc);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* -- ending --------------------------------------------------------------------------------------
 */

static int end_soon(ta_socket_transport *t, PyObject *exc)
{
    t->lost++;
    PyObject *end = PyObject_GetAttrString(t->self, "_call_connection_lost");
    PyObject *args[] = {(PyObject *)t->loop, end, exc, t->context};
    PyObject *names = t->context ? ta_loop_objects_of(t->st)->task.context_kwnames : NULL;
    PyObject *res = end ? PyObject_VectorcallMethod(t->st->names.call_soon, args, 3, names) : NULL;
    Py_XDECREF(end);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_socket_transport_force_close(ta_socket_transport *t, PyObject *exc)
{
    if (t->lost > 0 || t->loop == NULL)
        return 0;
    ta_socket_transport_drop(t);
    ta_socket_transport_stop_writing(t);
    t->closing = true;
    ta_socket_transport_stop_reading(t);
    return end_soon(t, exc);
}

int ta_socket_transport_close(ta_socket_transport *t)
{
    if (t->closing)
        return 0;
    t->closing = true;
    ta_socket_transport_stop_reading(t);
    if (!ta_socket_transport_is_empty(t))
        return 0;
    ta_socket_transport_stop_writing(t);
    return end_soon(t, Py_None);
}

/* server._detach(), whose argument depends on the version. */
static int detach(ta_socket_transport *t, PyObject *server)
{
    PyObject *res =
        PyObject_CallMethod((PyObject *)t->loop, "_detach_transport", "OO", server, t->self);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_socket_transport_abandon(ta_socket_transport *t)
{
    PyObject *sock = t->sock, *server = t->server;
    t->sock = t->server = NULL;
    ta_socket_transport_drop(t);
    ta_socket_transport_stop_writing(t);
    ta_socket_transport_stop_reading(t);
    PyObject *res = PyObject_CallMethodNoArgs(sock, t->st->names.close);
    int rc = res ? 0 : -1;
    Py_XDECREF(res);
    Py_DECREF(sock);
    if (rc == 0 && server != NULL)
        rc = detach(t, server);
    Py_XDECREF(server);
    Py_CLEAR(t->fileno);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->loop);
    Py_CLEAR(t->selector);
    return rc;
}

/* A sendfile() waits for the end of what was written before. */
static int fail_waiter(ta_socket_transport *t)
{
    PyObject *exc =
        PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer");
    PyObject *done = exc ? PyObject_CallMethod(t->empty_waiter, "done", NULL) : NULL;
    PyObject *res = done == Py_False
                        ? PyObject_CallMethod(t->empty_waiter, "set_exception", "O", exc)
                        : Py_XNewRef(done);
    Py_XDECREF(exc);
    Py_XDECREF(done);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_socket_transport_end(ta_socket_transport *t, PyObject *exc)
{
    if (t->sock == NULL)
        return 0;
    t->closing = true;
    PyObject *res = NULL;
    if (t->connected && t->protocol != NULL) {
        PyObject *protocol = Py_NewRef(t->protocol);
        res = PyObject_CallMethodOneArg(protocol, t->st->names.connection_lost, exc);
        Py_DECREF(protocol);
    } else {
        res = Py_NewRef(Py_None);
    }
    PyObject *raised = res ? NULL : PyErr_GetRaisedException();
    Py_XDECREF(res);
    int rc = t->sock ? ta_socket_transport_abandon(t) : 0;
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
        return -1;
    }
    return rc == 0 && t->empty_waiter != NULL ? fail_waiter(t) : rc;
}
