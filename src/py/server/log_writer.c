/*
 * log_writer.c -- `_core.LogWriter`: a thread that writes the lines of the access log.
 *
 * Layer: py/server.  One of a process, which its servers share; made and closed by
 * turboapi/_serving/access.py.
 */
#include "py/server/log_writer.h"

#include <unistd.h>

#include "py/support/types.h"

typedef struct log_writer {
    PyObject_HEAD
    ta_line_writer *writer; /* owned */
} log_writer;

static log_writer *of(PyObject *obj)
{
    return (log_writer *)obj;
}

ta_line_writer *ta_log_writer_of(ta_state *st, PyObject *obj)
{
    if (!Py_IS_TYPE(obj, ta_server_objects_of(st)->server.log_writer_type)) {
        PyErr_Format(PyExc_TypeError, "access_writer.sink must be a LogWriter, not %.100s",
                     Py_TYPE(obj)->tp_name);
        return NULL;
    }
    return of(obj)->writer;
}

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fd", "room", NULL};
    int fd;
    Py_ssize_t room;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "in:LogWriter", keywords, &fd, &room))
        return NULL;
    if (fd < 0 || room < 1) {
        PyErr_SetString(PyExc_ValueError, "fd and room must be positive");
        return NULL;
    }
    log_writer *self = (log_writer *)type->tp_alloc(type, 0);
    if (self != NULL && (self->writer = ta_line_writer_new(fd, (size_t)room)) == NULL) {
        Py_CLEAR(self);
        PyErr_SetString(PyExc_RuntimeError, "no thread could be started for the access log");
    }
    return (PyObject *)self;
}

static void writer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ta_line_writer_free(of(self)->writer);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *put(PyObject *self, PyObject *text)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);
    if (utf8 == NULL)
        return NULL;
    ta_line_writer_put(of(self)->writer, ta_str_of(utf8, (size_t)len));
    Py_RETURN_NONE;
}

/* Waits without the GIL. */
static PyObject *await(PyObject *self, PyObject *arg, bool (*fn)(ta_line_writer *, unsigned))
{
    double seconds = PyFloat_AsDouble(arg);
    bool done;
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    if (!(seconds >= 0 && seconds <= 3600)) {
        PyErr_SetString(PyExc_ValueError, "the time must be 0 to 3600 seconds");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    done = fn(of(self)->writer, (unsigned)(seconds * 1000));
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(done);
}

static PyObject *flush(PyObject *self, PyObject *seconds)
{
    return await(self, seconds, ta_line_writer_flush);
}

static PyObject *close_writer(PyObject *self, PyObject *seconds)
{
    return await(self, seconds, ta_line_writer_close);
}

static PyObject *untold(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(ta_line_writer_untold(of(self)->writer));
}

static PyObject *dropped(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(ta_line_writer_dropped(of(self)->writer));
}

static PyMethodDef methods[] = {
    {"put", put, METH_O,
     "put($self, lines, /)\n--\n\nTakes whole lines; never waits.  What there is no room for is "
     "dropped."},
    {"flush", flush, METH_O,
     "flush($self, seconds, /)\n--\n\nWaits at most so long until all is written; whether it is."},
    {"close", close_writer, METH_O,
     "close($self, seconds, /)\n--\n\nThe same; then the thread ends, and takes no more lines."},
    {"untold", untold, METH_NOARGS,
     "untold($self, /)\n--\n\nHow many lines were dropped since this was last more than 0; 0 while "
     "the reader is still\nbehind."},
    {NULL},
};

static PyGetSetDef getset[] = {
    {"dropped", dropped, NULL, "Lines that were dropped so far.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "LogWriter(fd, room)\n--\n\n"
                "A thread that writes lines to a descriptor (which must stay open), so that nobody "
                "else has to\nwait for its reader.  room: bytes that may wait."},
    {Py_tp_new, writer_new},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.LogWriter",
    .basicsize = sizeof(log_writer),
    .flags = TA_TYPE_FLAGS,
    .slots = slots,
};

int ta_log_writer_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, "LogWriter",
                        &ta_server_objects_of(st)->server.log_writer_type);
}
