/*
 * unpacker.c -- `_core.Unpacker`, a compressed stream of a client, and what this build can unpack.
 *
 * Layer: py (L4).  turboapi/_serving/request_encoding.py uses it.
 */
#include "py/server/native_int.h"

#include "http/decompress.h"
#include "py/support/types.h"

typedef struct unpacker {
    PyObject_HEAD
    ta_unpacker *stream; /* owned */
    ta_buf left;         /* what was fed and not taken yet */
    size_t taken;        /* of it */
    bool full;           /* the last call gave as much as there was room for */
    bool broken;
} unpacker;

static PyObject *unpacker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"coding", NULL};
    const char *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s:Unpacker", keywords, &name))
        return NULL;
    ta_coding coding = ta_coding_of(ta_str_of(name, strlen(name)));
    if (coding >= TA_CODINGS || !ta_unpacker_has(coding))
        return PyErr_Format(PyExc_ValueError, "no coding %s here", name);
    unpacker *self = (unpacker *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    ta_buf_init(&self->left);
    self->stream = ta_unpacker_new(coding);
    if (self->stream == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void unpacker_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    ta_unpacker_free(((unpacker *)obj)->stream);
    ta_buf_free(&((unpacker *)obj)->left);
    type->tp_free(obj);
    Py_DECREF(type);
}

static int feed(unpacker *self, const Py_buffer *data)
{
    if (self->taken == self->left.len) {
        ta_buf_clear(&self->left);
        self->taken = 0;
    }
    return ta_buf_append(&self->left, data->buf, (size_t)data->len);
}

static PyObject *unpacker_feed(PyObject *obj, PyObject *arg)
{
    Py_buffer data;
    int rc;
    if (PyObject_GetBuffer(arg, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(obj);
    rc = feed((unpacker *)obj, &data);
    Py_END_CRITICAL_SECTION();
    PyBuffer_Release(&data);
    if (rc != TA_OK)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* TA_OK and *len, or TA_EBAD: for good. */
static int take(unpacker *self, char *out, size_t room, size_t *len)
{
    *len = 0;
    if (self->broken)
        return TA_EBAD;
    ta_str data = ta_str_skip(ta_buf_str(&self->left), self->taken);
    while (*len < room && (data.len > 0 || self->full)) {
        size_t n = 0, before = data.len;
        if (ta_unpacker_read(self->stream, &data, out + *len, room - *len, &n) != TA_OK) {
            self->broken = true;
            return TA_EBAD;
        }
        *len += n;
        self->full = *len == room && !self->stream->ended;
        if (n == 0 && before == data.len)
            break;
    }
    self->taken = self->left.len - data.len;
    return TA_OK;
}

static PyObject *unpacker_take(PyObject *obj, PyObject *arg)
{
    Py_ssize_t room = PyLong_AsSsize_t(arg);
    size_t len = 0;
    int rc;
    if (room == -1 && PyErr_Occurred())
        return NULL;
    if (room <= 0) {
        PyErr_SetString(PyExc_ValueError, "there must be room");
        return NULL;
    }
    PyObject *out = PyBytes_FromStringAndSize(NULL, room);
    if (out == NULL)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(obj);
    rc = take((unpacker *)obj, PyBytes_AS_STRING(out), (size_t)room, &len);
    Py_END_CRITICAL_SECTION();
    if (rc != TA_OK) {
        Py_DECREF(out);
        PyErr_SetString(PyExc_ValueError, "it is no such stream");
        return NULL;
    }
    (void)_PyBytes_Resize(&out, (Py_ssize_t)len);
    return out;
}

static PyObject *unpacker_is_complete(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    bool complete;
    Py_BEGIN_CRITICAL_SECTION(obj);
    const unpacker *self = (const unpacker *)obj;
    complete = self->stream->ended && self->taken == self->left.len && !self->broken;
    Py_END_CRITICAL_SECTION();
    return PyBool_FromLong(complete);
}

static PyMethodDef unpacker_methods[] = {
    {"feed", unpacker_feed, METH_O, "feed($self, data, /)\n--\n\nTakes more of the packed bytes."},
    {"take", unpacker_take, METH_O,
     "take($self, most, /)\n--\n\n"
     "The next unpacked bytes, as many as there are and at most so many.  ValueError: it is no\n"
     "such stream."},
    {"is_complete", unpacker_is_complete, METH_NOARGS,
     "is_complete($self, /)\n--\n\nWhether the stream has ended, and nothing follows."},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Unpacker(coding)\n--\n\nA compressed stream that is unpacked: of br or zstd."},
    {Py_tp_new, unpacker_new},
    {Py_tp_methods, unpacker_methods},
    {Py_tp_dealloc, unpacker_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Unpacker",
    .basicsize = sizeof(unpacker),
    .flags = TA_TYPE_FLAGS,
    .slots = slots,
};

int ta_unpacker_init(PyObject *module, ta_state *Py_UNUSED(st))
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int rc = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    PyObject *names = rc == 0 ? PyList_New(0) : NULL;
    for (int i = 0; names != NULL && i < TA_CODINGS; i++) {
        PyObject *name = ta_unpacker_has((ta_coding)i)
                             ? PyUnicode_FromString(ta_coding_name((ta_coding)i).ptr)
                             : Py_NewRef(Py_None);
        if (name == NULL || (!Py_IsNone(name) && PyList_Append(names, name) < 0))
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    PyObject *all = names ? PyList_AsTuple(names) : NULL;
    Py_XDECREF(names);
    return PyModule_Add(module, "UNPACKED", all); /* steals; NULL: -1 */
}
