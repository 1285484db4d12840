/*
 * socket_transport_read.c -- a socket transport reads: for Protocols and BufferedProtocols.
 *
 * Layer: py/loop.
 */
#include "py/loop/socket_transport_int.h"

#include <errno.h>
#include <sys/socket.h>

/* recv(): bytes, or -1 with errno and perhaps an exception. */
static Py_ssize_t receive(ta_socket_transport *t, void *memory, size_t size)
{
    int fd = ta_socket_transport_fd(t);
    if (TA_UNLIKELY(fd < 0))
        return -1;
    ssize_t n;
    do {
        n = recv(fd, memory, size, 0);
    } while (TA_UNLIKELY(n < 0 && errno == EINTR) && PyErr_CheckSignals() == 0);
    return n;
}

static PyObject *read_failed(ta_socket_transport *t)
{
    /* Whatever Python makes a BlockingIOError of. */
    if (!PyErr_Occurred() && (errno == EAGAIN || errno == EALREADY || errno == EINPROGRESS))
        Py_RETURN_NONE;
    ta_socket_transport_set_errno();
    return ta_socket_transport_fail(t, "Fatal read error on socket transport");
}

static PyObject *on_eof(ta_socket_transport *t, PyObject *protocol)
{
    PyObject *keep = PyObject_CallMethodNoArgs(protocol, t->st->names.eof_received);
    int open = keep ? PyObject_IsTrue(keep) : -1;
    if (keep == NULL)
        return ta_socket_transport_fail(t, "Fatal error: protocol.eof_received() call failed.");
    Py_DECREF(keep);
    /* Kept open, it still writes. */
    if (open > 0)
        ta_socket_transport_stop_reading(t);
    else if (open == 0)
        open = ta_socket_transport_close(t);
    return open < 0 ? NULL : Py_NewRef(Py_None);
}

/* Where the loop's transports read to, one after the other. */
static char *input(ta_evloop *loop)
{
    if (TA_UNLIKELY(loop->input == NULL) &&
        (loop->input = PyMem_RawMalloc(TA_SOCKET_MAX_READ)) == NULL)
        PyErr_NoMemory();
    return loop->input;
}

static const char data_received_failed[] = "Fatal error: protocol.data_received() call failed.";

static PyObject *read_bytes(ta_socket_transport *t, PyObject *protocol)
{
    char *memory = input(t->loop);
    Py_ssize_t n = memory ? receive(t, memory, TA_SOCKET_MAX_READ) : -1;
    if (TA_UNLIKELY(n < 0))
        return read_failed(t);
    if (n == 0)
        return on_eof(t, protocol);
    int fed = ta_socket_transport_is_stream(t->loop, protocol);
    if (fed > 0)
        fed = ta_socket_transport_feed(t, protocol, memory, n);
    if (fed > 0)
        Py_RETURN_NONE;
    if (fed < 0)
        return ta_socket_transport_fail(t, data_received_failed);
    PyObject *data = PyBytes_FromStringAndSize(memory, n);
    if (data == NULL)
        return ta_socket_transport_fail(t, "Fatal read error on socket transport");
    PyObject *res = PyObject_CallMethodOneArg(protocol, t->st->names.data_received, data);
    Py_DECREF(data);
    if (TA_LIKELY(res != NULL))
        return res;
    return ta_socket_transport_fail(t, data_received_failed);
}

/* Reads into memory of the protocol. */
static PyObject *read_buffered(ta_socket_transport *t, PyObject *protocol)
{
    Py_buffer view;
    PyObject *any_size = PyLong_FromLong(-1);
    PyObject *buffer =
        any_size ? PyObject_CallMethodOneArg(protocol, t->st->names.get_buffer, any_size) : NULL;
    Py_XDECREF(any_size);
    Py_ssize_t length = buffer ? PyObject_Size(buffer) : -1;
    if (length == 0)
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    if (length <= 0) {
        Py_XDECREF(buffer);
        return ta_socket_transport_fail(t, "Fatal error: protocol.get_buffer() call failed.");
    }
    int rc = PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE);
    if (rc < 0) /* what recv_into() says of it */
        PyErr_Format(PyExc_TypeError,
                     "recv_into() argument 1 must be read-write bytes-like object, not %.50s",
                     Py_TYPE(buffer)->tp_name);
    Py_DECREF(buffer);
    if (rc < 0)
        return ta_socket_transport_fail(t, "Fatal read error on socket transport");
    Py_ssize_t n = receive(t, view.buf, (size_t)view.len);
    int err = errno;
    PyBuffer_Release(&view);
    errno = err;
    if (n < 0)
        return read_failed(t);
    if (n == 0)
        return on_eof(t, protocol);
    PyObject *size = PyLong_FromSsize_t(n);
    PyObject *res =
        size ? PyObject_CallMethodOneArg(protocol, t->st->names.buffer_updated, size) : NULL;
    Py_XDECREF(size);
    if (TA_LIKELY(res != NULL))
        return res;
    return ta_socket_transport_fail(t, "Fatal error: protocol.buffer_updated() call failed.");
}

PyObject *ta_socket_transport_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (t->lost > 0 || t->closing || t->sock == NULL)
        Py_RETURN_NONE;
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *res = (t->buffered ? read_buffered : read_bytes)(t, protocol);
    Py_DECREF(protocol);
    return res;
}
