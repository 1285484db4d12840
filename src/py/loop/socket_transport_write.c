/*
 * socket_transport_write.c -- a socket transport writes: at once, or later from a queue of chunks.
 *
 * Layer: py/loop.  What is queued is immutable: a bytes as it is, a copy of anything else.
 */
#include "py/loop/socket_transport_int.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { MOST_CHUNKS = 64 }; /* in one system call */

static const char write_error[] = "Fatal write error on socket transport";

/* -- the queue -----------------------------------------------------------------------------------
 */

static ta_chunk *chunk_at(const ta_socket_transport *t, size_t i)
{
    TA_ASSERT(t->head <= i && i < t->tail);
    return &t->chunks[i & t->mask];
}

static int grow(ta_socket_transport *t)
{
    size_t size = t->chunks ? (t->mask + 1) * 2 : 4, n = t->tail - t->head;
    ta_chunk *chunks = PyMem_RawMalloc(size * sizeof *chunks);
    if (chunks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        chunks[i] = *chunk_at(t, t->head + i);
    PyMem_RawFree(t->chunks);
    t->chunks = chunks;
    t->mask = size - 1;
    t->head = 0;
    t->tail = n;
    return 0;
}

/* Queues what comes after the first `at` bytes.  0 or -1. */
static int queue(ta_socket_transport *t, PyObject *data, const Py_buffer *view, Py_ssize_t at)
{
    if (view->len == at)
        return 0;
    if ((t->chunks == NULL || t->tail - t->head > t->mask) && grow(t) < 0)
        return -1;
    ta_chunk chunk = {Py_NewRef(data), at};
    if (!PyBytes_Check(data)) {
        Py_DECREF(data);
        chunk.at = 0;
        chunk.data = PyBytes_FromStringAndSize((const char *)view->buf + at, view->len - at);
        if (chunk.data == NULL)
            return -1;
    }
    t->chunks[t->tail++ & t->mask] = chunk;
    t->size += view->len - at;
    return 0;
}

/* The first n bytes are sent. */
static void consume(ta_socket_transport *t, Py_ssize_t n)
{
    TA_ASSERT(0 <= n && n <= t->size);
    t->size -= n;
    while (n > 0) {
        ta_chunk *chunk = chunk_at(t, t->head);
        Py_ssize_t left = PyBytes_GET_SIZE(chunk->data) - chunk->at;
        if (left > n) {
            chunk->at += n;
            break;
        }
        n -= left;
        t->head++;
        Py_DECREF(chunk->data); /* a bytes: no code runs */
    }
}

void ta_socket_transport_drop(ta_socket_transport *t)
{
    consume(t, t->size);
    PyMem_RawFree(t->chunks);
    t->chunks = NULL;
    t->mask = t->head = t->tail = 0;
}

/* -- sending -------------------------------------------------------------------------------------
 */

/* Whether it is what Python makes a BlockingIOError of, and no exception is set. */
static bool would_block(void)
{
    return !PyErr_Occurred() && (errno == EAGAIN || errno == EALREADY || errno == EINPROGRESS);
}

/* sendmsg(): how many bytes, 0 when it would block, -1 with an exception. */
static Py_ssize_t send_message(ta_socket_transport *t, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    int fd = ta_socket_transport_fd(t);
    ssize_t n = -1;
    if (TA_LIKELY(fd >= 0)) {
        do {
            n = sendmsg(fd, &message, MSG_NOSIGNAL);
        } while (TA_UNLIKELY(n < 0 && errno == EINTR) && PyErr_CheckSignals() == 0);
    }
    if (TA_LIKELY(n >= 0))
        return n;
    if (would_block())
        return 0;
    ta_socket_transport_set_errno();
    return -1;
}

static Py_ssize_t send_bytes(ta_socket_transport *t, void *memory, Py_ssize_t size)
{
    struct iovec part = {memory, (size_t)size};
    return send_message(t, &part, 1);
}

/* Sends of the queue what one call takes; as send_message(). */
static Py_ssize_t send_queue(ta_socket_transport *t)
{
    struct iovec parts[MOST_CHUNKS];
    size_t n = 0;
    for (size_t i = t->head; i != t->tail && n < MOST_CHUNKS; i++) {
        const ta_chunk *chunk = chunk_at(t, i);
        parts[n++] = (struct iovec){PyBytes_AS_STRING(chunk->data) + chunk->at,
                                    (size_t)(PyBytes_GET_SIZE(chunk->data) - chunk->at)};
    }
    Py_ssize_t sent = send_message(t, parts, n);
    if (sent > 0)
        consume(t, sent);
    return sent;
}

/* -- the protocol's flow control -----------------------------------------------------------------
 */

static int tell_protocol(ta_socket_transport *t, const char *method, const char *message)
{
    PyObject *res = t->protocol ? PyObject_CallMethod(t->protocol, method, NULL) : NULL;
    if (res == NULL && PyErr_Occurred())
        return ta_socket_transport_report(t, message);
    Py_XDECREF(res);
    return 0;
}

int ta_socket_transport_maybe_pause(ta_socket_transport *t)
{
    if (t->size <= t->high || t->protocol_paused)
        return 0;
    t->protocol_paused = true;
    return tell_protocol(t, "pause_writing", "protocol.pause_writing() failed");
}

static int maybe_resume(ta_socket_transport *t)
{
    if (!t->protocol_paused || t->size > t->low)
        return 0;
    t->protocol_paused = false;
    return tell_protocol(t, "resume_writing", "protocol.resume_writing() failed");
}

/* -- methods -------------------------------------------------------------------------------------
 */

/* Logs the writes to a lost connection from the fifth on.  0 or -1. */
static int write_to_lost(ta_socket_transport *t)
{
    PyObject *module = ta_loop_objects_of(t->st)->evloop.selector_events;
    PyObject *constants = PyObject_GetAttrString(module, "constants"), *logger, *res;
    PyObject *number =
        constants ? PyObject_GetAttrString(constants, "LOG_THRESHOLD_FOR_CONNLOST_WRITES") : NULL;
    Py_XDECREF(constants);
    unsigned long first = number ? PyLong_AsUnsignedLong(number) : 0;
    Py_XDECREF(number);
    if (PyErr_Occurred())
        return -1;
    if (t->lost++ < first)
        return 0;
    if ((logger = PyObject_GetAttrString(module, "logger")) == NULL)
        return -1;
    res = PyObject_CallMethod(logger, "warning", "s", "socket.send() raised exception.");
    Py_DECREF(logger);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* May it write?  0, or -1 with RuntimeError. */
static int check_open(const ta_socket_transport *t, const char *after_eof, const char *sendfile)
{
    if (TA_LIKELY(!t->eof && t->empty_waiter == NULL))
        return 0;
    PyErr_SetString(PyExc_RuntimeError, t->eof ? after_eof : sendfile);
    return -1;
}

/* write() of what is in view.  0, or -1 with what write() raises. */
static int write_view(ta_socket_transport *t, PyObject *data, const Py_buffer *view)
{
    Py_ssize_t sent = 0;
    if (view->len == 0)
        return 0;
    if (TA_UNLIKELY(t->lost > 0 || t->sock == NULL))
        return write_to_lost(t);
    if (TA_LIKELY(ta_socket_transport_is_empty(t))) {
        sent = send_bytes(t, view->buf, view->len);
        if (TA_LIKELY(sent == view->len))
            return 0;
        if (sent < 0) {
            PyObject *res = ta_socket_transport_fail(t, write_error);
            Py_XDECREF(res);
            return res ? 0 : -1;
        }
        if (ta_socket_transport_start_writing(t) < 0)
            return -1;
    }
    return queue(t, data, view, sent) < 0 ? -1 : ta_socket_transport_maybe_pause(t);
}

/* As asyncio's transports of this version say it. */
#if PY_VERSION_HEX >= 0x030e0000
#define BYTES_LIKE "bytes, bytearray, or memoryview object"
#else
#define BYTES_LIKE "bytes-like object"
#endif

PyObject *ta_socket_transport_write(PyObject *self, PyObject *data)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        if (name != NULL)
            PyErr_Format(PyExc_TypeError, "data argument must be a " BYTES_LIKE ", not %R", name);
        Py_XDECREF(name);
        return NULL;
    }
    if (check_open(t, "Cannot call write() after write_eof()",
                   "unable to write; sendfile is in progress") < 0)
        return NULL;
    int rc;
    if (TA_LIKELY(PyBytes_CheckExact(data))) {
        Py_buffer view = {.buf = PyBytes_AS_STRING(data), .len = PyBytes_GET_SIZE(data)};
        rc = write_view(t, data, &view);
    } else {
        Py_buffer view;
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
            return ta_socket_transport_fail(t, write_error);
        rc = write_view(t, data, &view);
        PyBuffer_Release(&view);
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* Queues all items, or none.  0 or -1. */
static int queue_all(ta_socket_transport *t, PyObject *items)
{
    size_t tail = t->tail - t->head;
    Py_ssize_t size = t->size;
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(items); i++) {
        Py_buffer view;
        PyObject *item = PyTuple_GET_ITEM(items, i);
        if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) < 0) {
            rc = -1;
            break;
        }
        rc = queue(t, item, &view, 0);
        PyBuffer_Release(&view);
    }
    while (rc < 0 && t->tail - t->head > tail)
        Py_DECREF(t->chunks[--t->tail & t->mask].data);
    if (rc < 0)
        t->size = size;
    return rc;
}

PyObject *ta_socket_transport_writelines(PyObject *self, PyObject *list)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (check_open(t, "Cannot call writelines() after write_eof()",
                   "unable to writelines; sendfile is in progress") < 0)
        return NULL;
    PyObject *items = PySequence_Tuple(list), *res = NULL;
    if (items == NULL || PyTuple_GET_SIZE(items) == 0)
        return items ? (Py_DECREF(items), Py_NewRef(Py_None)) : NULL;
    if (t->lost > 0 || t->sock == NULL) {
        int rc = write_to_lost(t);
        Py_DECREF(items);
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (queue_all(t, items) == 0)
        res = ta_socket_transport_is_empty(t) ? Py_NewRef(Py_None)
                                              : ta_socket_transport_flush(self, NULL);
    Py_DECREF(items);
    if (res != NULL && !ta_socket_transport_is_empty(t) &&
        ((t->writer == NULL && ta_socket_transport_start_writing(t) < 0) ||
         ta_socket_transport_maybe_pause(t) < 0))
        Py_CLEAR(res);
    return res;
}

static int shut(ta_socket_transport *t)
{
    PyObject *res = PyObject_CallMethod(t->sock, "shutdown", "i", SHUT_WR);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

PyObject *ta_socket_transport_write_eof(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (!t->closing && !t->eof) {
        t->eof = true;
        if (ta_socket_transport_is_empty(t) && shut(t) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* The future of a sendfile(), if there is one that waits.  0 or -1. */
static int complete_waiter(ta_socket_transport *t, const char *method, PyObject *value)
{
    if (TA_LIKELY(t->empty_waiter == NULL))
        return 0;
    PyObject *res = PyObject_CallMethod(t->empty_waiter, method, "O", value);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static PyObject *flush_failed(ta_socket_transport *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    ta_socket_transport_stop_writing(t);
    ta_socket_transport_drop(t);
    PyErr_SetRaisedException(Py_NewRef(exc));
    PyObject *res = ta_socket_transport_fail(t, write_error);
    if (res != NULL && complete_waiter(t, "set_exception", exc) < 0)
        Py_CLEAR(res);
    Py_DECREF(exc);
    return res;
}

PyObject *ta_socket_transport_flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (t->lost > 0 || ta_socket_transport_is_empty(t))
        Py_RETURN_NONE;
    if (send_queue(t) < 0)
        return flush_failed(t);
    if (maybe_resume(t) < 0) /* which may write more, or end everything */
        return NULL;
    if (!ta_socket_transport_is_empty(t) || t->lost > 0)
        Py_RETURN_NONE;
    ta_socket_transport_stop_writing(t);
    int rc = complete_waiter(t, "set_result", Py_None);
    if (rc == 0 && t->closing)
        rc = ta_socket_transport_end(t, Py_None);
    else if (rc == 0 && t->eof)
        rc = shut(t);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}
