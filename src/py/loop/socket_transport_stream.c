/*
 * socket_transport_stream.c -- what a socket transport reads for an asyncio.StreamReader.
 *
 * Layer: py/loop.  StreamReaderProtocol.data_received() and what it calls, where both classes and
 * their functions are asyncio's own: looked for again whenever a class has changed.  The attributes
 * of the objects remain the only place where their state is kept.
 */
#include "py/loop/socket_transport_int.h"

#include "py/support/types.h"

/* The functions that this file stands for, as of these versions. */
#define KNOWN (PY_VERSION_HEX < 0x030F0000)

enum { NFUNCTIONS = 4 };
static const char *const functions[NFUNCTIONS] = {"data_received", "_stream_reader", "feed_data",
                                                  "_wakeup_waiter"};

/* The attribute of the class that it is in, a new reference. */
static PyObject *current(const ta_evloop_state *objects, int i)
{
    return PyObject_GetAttrString(i < 2 ? objects->stream_protocol : objects->stream_reader,
                                  functions[i]);
}

/* 1, 0, or -1 with an exception. */
static int is_untouched(const ta_evloop_state *objects)
{
    for (int i = 0; i < NFUNCTIONS; i++) {
        PyObject *now = current(objects, i);
        Py_XDECREF(now);
        if (now == NULL)
            return -1;
        if (now != PyTuple_GET_ITEM(objects->stream_functions, i))
            return 0;
    }
    return 1;
}

int ta_socket_transport_is_stream(ta_evloop *loop, PyObject *protocol)
{
    const ta_evloop_state *objects = &ta_loop_objects_of(loop->st)->evloop;
    if (objects->stream_functions == NULL ||
        (PyObject *)Py_TYPE(protocol) != objects->stream_protocol)
        return 0;
    unsigned versions[2] = {((PyTypeObject *)objects->stream_protocol)->tp_version_tag,
                            ((PyTypeObject *)objects->stream_reader)->tp_version_tag};
    if (TA_UNLIKELY(versions[0] == 0 || versions[1] == 0 ||
                    versions[0] != loop->stream_versions[0] ||
                    versions[1] != loop->stream_versions[1])) {
        int untouched = is_untouched(objects);
        if (untouched < 0)
            return -1;
        loop->streams = untouched;
        loop->stream_versions[0] = ((PyTypeObject *)objects->stream_protocol)->tp_version_tag;
        loop->stream_versions[1] = ((PyTypeObject *)objects->stream_reader)->tp_version_tag;
    }
    return loop->streams;
}

/* Is the attribute true?  1, 0, -1. */
static int is_true(PyObject *obj, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(obj, name);
    int yes = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return yes;
}

/* _wakeup_waiter() */
static int wake(ta_socket_transport *t, PyObject *reader)
{
    const ta_evloop_state *objects = &ta_loop_objects_of(t->st)->evloop;
    PyObject *waiter = PyObject_GetAttr(reader, t->st->names._waiter), *res = NULL;
    if (waiter == NULL)
        return -1;
    if (Py_IsNone(waiter) || PyObject_SetAttr(reader, t->st->names._waiter, Py_None) < 0) {
        int rc = Py_IsNone(waiter) ? 0 : -1;
        Py_DECREF(waiter);
        return rc;
    }
    bool plain = Py_IS_TYPE(waiter, (PyTypeObject *)objects->future_type);
    PyObject *args[2] = {waiter, Py_None};
    PyObject *cancelled = plain ? PyObject_Vectorcall(objects->future_cancelled, args, 1, NULL)
                                : PyObject_CallMethod(waiter, "cancelled", NULL);
    int skip = cancelled ? PyObject_IsTrue(cancelled) : -1;
    Py_XDECREF(cancelled);
    if (skip == 0)
        res = plain ? PyObject_Vectorcall(objects->future_set_result, args, 2, NULL)
                    : PyObject_CallMethod(waiter, "set_result", "O", Py_None);
    Py_XDECREF(res);
    Py_DECREF(waiter);
    return skip > 0 || res != NULL ? 0 : -1;
}

/* The end of feed_data(): pauses the transport when too much is buffered. */
static int maybe_pause(ta_socket_transport *t, PyObject *reader, Py_ssize_t buffered)
{
    const ta_names_state *names = &t->st->names;
    PyObject *limit = PyObject_GetAttr(reader, names->_limit), *transport;
    /* A limit that is not a number here is one that Python compares. */
    double most = limit ? PyFloat_AsDouble(limit) : -1;
    Py_XDECREF(limit);
    if (most == -1 && PyErr_Occurred())
        return -1;
    if ((double)buffered <= 2 * most)
        return 0;
    int paused = is_true(reader, names->_paused);
    if (paused != 0)
        return paused < 0 ? -1 : 0;
    if ((transport = PyObject_GetAttr(reader, names->_transport)) == NULL)
        return -1;
    PyObject *res = Py_IsNone(transport) ? Py_NewRef(Py_None)
                                         : PyObject_CallMethod(transport, "pause_reading", NULL);
    int rc = res ? 0 : -1;
    if (rc == 0 && !Py_IsNone(transport))
        rc = PyObject_SetAttr(reader, names->_paused, Py_True);
    else if (rc < 0 && PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        PyErr_Clear();
        rc = PyObject_SetAttr(reader, names->_transport, Py_None);
    }
    Py_XDECREF(res);
    Py_DECREF(transport);
    return rc;
}

/* feed_data().  1; 0: the buffer is none that we can fill; -1. */
static int feed(ta_socket_transport *t, PyObject *reader, const char *memory, Py_ssize_t n)
{
    int ended = is_true(reader, t->st->names._eof);
    if (ended != 0) {
        if (ended > 0)
            PyErr_SetString(PyExc_AssertionError, "feed_data after feed_eof");
        return -1;
    }
    PyObject *buffer = PyObject_GetAttr(reader, t->st->names._buffer);
    if (buffer == NULL || !PyByteArray_CheckExact(buffer)) {
        int rc = buffer ? 0 : -1;
        Py_XDECREF(buffer);
        return rc;
    }
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    int rc = PyByteArray_Resize(buffer, size + n);
    if (rc == 0)
        memcpy(PyByteArray_AS_STRING(buffer) + size, memory, (size_t)n);
    Py_DECREF(buffer);
    return rc < 0 || wake(t, reader) < 0 || maybe_pause(t, reader, size + n) < 0 ? -1 : 1;
}

int ta_socket_transport_feed(ta_socket_transport *t, PyObject *protocol, const char *memory,
                             Py_ssize_t n)
{
    const ta_evloop_state *objects = &ta_loop_objects_of(t->st)->evloop;
    PyObject *ref = PyObject_GetAttr(protocol, t->st->names._stream_reader_wr), *reader = NULL;
    if (ref == NULL)
        return -1;
    int rc = PyWeakref_CheckRefExact(ref) ? PyWeakref_GetRef(ref, &reader) : 0;
    Py_DECREF(ref);
    if (rc <= 0)
        return rc;
    if ((PyObject *)Py_TYPE(reader) != objects->stream_reader)
        rc = 0;
    else
        rc = feed(t, reader, memory, n);
    Py_DECREF(reader);
    return rc;
}

/* -- asyncio's functions -------------------------------------------------------------------------
 */

/* Whether the function, or that of the property, is of asyncio's own file.  1, 0, -1. */
static int is_theirs(PyObject *function, PyObject *file)
{
    PyObject *of_property = NULL, *name = NULL;
    if (!PyFunction_Check(function) &&
        PyObject_GetOptionalAttrString(function, "fget", &of_property) < 0)
        return -1;
    function = of_property ? of_property : function;
    if (PyFunction_Check(function) &&
        (name = PyObject_GetAttrString(PyFunction_GET_CODE(function), "co_filename")) == NULL) {
        Py_XDECREF(of_property);
        return -1;
    }
    int same = name ? PyObject_RichCompareBool(name, file, Py_EQ) : 0;
    Py_XDECREF(name);
    Py_XDECREF(of_property);
    return same;
}

/* 1: `known` has all functions; 0: one of them is not asyncio's; -1. */
static int look_up(const ta_evloop_state *objects, PyObject *file, PyObject *known)
{
    for (int i = 0; i < NFUNCTIONS; i++) {
        PyObject *function = current(objects, i);
        if (function == NULL)
            return -1;
        PyTuple_SET_ITEM(known, i, function);
        int same = is_theirs(function, file);
        if (same <= 0)
            return same;
    }
    return 1;
}

int ta_socket_transport_stream_init(ta_evloop_state *objects)
{
    if ((objects->stream_protocol = ta_types_import("asyncio", "StreamReaderProtocol")) == NULL ||
        (objects->stream_reader = ta_types_import("asyncio", "StreamReader")) == NULL)
        return -1;
    PyObject *file = NULL;
    if (!KNOWN || ta_types_import_optional("asyncio.streams", "__file__", &file) <= 0)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *known = PyTuple_New(NFUNCTIONS);
    int rc = known ? look_up(objects, file, known) : -1;
    Py_DECREF(file);
    if (rc > 0)
        objects->stream_functions = Py_NewRef(known);
    else if (rc < 0 && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear(); /* another asyncio than we know */
        rc = 0;
    }
    Py_XDECREF(known);
    return rc < 0 ? -1 : 0;
}
