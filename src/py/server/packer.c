/*
 * packer.c -- `_core.Packer`, a compressed stream for Python, and what this build can pack.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "http/compress.h"
#include "py/support/types.h"

enum { SHORT = 4096 }; /* below it, giving up the GIL costs more than it gives */

typedef struct packer {
    PyObject_HEAD
    ta_packer *stream; /* owned */
    atomic_bool busy;  /* a thread has it */
} packer;

static PyObject *packer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"coding", "level", NULL};
    const char *name;
    int level, lowest, highest;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "si:Packer", keywords, &name, &level))
        return NULL;
    ta_coding coding = ta_coding_of(ta_str_of(name, strlen(name)));
    if (coding >= TA_CODINGS || !ta_packer_levels(coding, &lowest, &highest) || level < lowest ||
        level > highest)
        return PyErr_Format(PyExc_ValueError, "no coding %s of level %d here", name, level);
    packer *self = (packer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->stream = ta_packer_new(coding, level);
    if (self->stream == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void packer_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    ta_packer_free(((packer *)obj)->stream);
    type->tp_free(obj);
    Py_DECREF(type);
}

static PyObject *packer_pack(PyObject *obj, PyObject *args)
{
    packer *self = (packer *)obj;
    Py_buffer data;
    int last = 0, rc;
    if (!PyArg_ParseTuple(args, "y*|p:pack", &data, &last))
        return NULL;
    if (atomic_exchange(&self->busy, true)) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_RuntimeError, "another thread is packing with it");
        return NULL;
    }
    ta_buf out;
    ta_buf_init(&out);
    ta_str text = ta_str_of(data.buf, (size_t)data.len);
    ta_pack_end end = last ? TA_PACK_FINISH : TA_PACK_FLUSH;
    if (data.len < SHORT) {
        rc = ta_packer_write(self->stream, text, end, &out);
    } else {
        Py_BEGIN_ALLOW_THREADS
        rc = ta_packer_write(self->stream, text, end, &out);
        Py_END_ALLOW_THREADS
    }
    atomic_store(&self->busy, false);
    PyBuffer_Release(&data);
    PyObject *packed = NULL;
    if (rc == TA_EINVAL)
        PyErr_SetString(PyExc_ValueError, "the stream has ended");
    else if (rc != TA_OK)
        PyErr_NoMemory();
    else
        packed = PyBytes_FromStringAndSize(ta_buf_str(&out).ptr, (Py_ssize_t)out.len);
    ta_buf_free(&out);
    return packed;
}

static PyObject *packer_coding(PyObject *obj, void *Py_UNUSED(closure))
{
    ta_str name = ta_coding_name(ta_packer_coding(((packer *)obj)->stream));
    return PyUnicode_FromStringAndSize(name.ptr, (Py_ssize_t)name.len);
}

static PyMethodDef packer_methods[] = {
    {"pack", packer_pack, METH_VARARGS,
     "pack($self, data, last=False, /)\n--\n\n"
     "The next bytes of the stream, from which all that was given can be read; with `last` they\n"
     "end it."},
    {NULL},
};

static PyGetSetDef packer_getset[] = {
    {"coding", packer_coding, NULL, "Its name, as Content-Encoding has it.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Packer(coding, level)\n--\n\nA compressed stream: of gzip, br or zstd."},
    {Py_tp_new, packer_new},
    {Py_tp_methods, packer_methods},
    {Py_tp_getset, packer_getset},
    {Py_tp_dealloc, packer_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Packer",
    .basicsize = sizeof(packer),
    .flags = TA_TYPE_FLAGS,
    .slots = slots,
};

/* -- what a client accepts -------------------------------------------------------------------- */

static PyObject *choose_coding(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *values, *names;
    ta_accepted accepted;
    ta_coding ours[TA_CODINGS];
    size_t n = 0;
    if (!PyArg_ParseTuple(args, "O!O!:choose_coding", &PyList_Type, &values, &PyTuple_Type, &names))
        return NULL;
    ta_accepted_init(&accepted);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(values); i++) {
        PyObject *value = PyList_GetItemRef(values, i);
        char *text;
        Py_ssize_t len;
        if (value == NULL || PyBytes_AsStringAndSize(value, &text, &len) < 0) {
            Py_XDECREF(value);
            return NULL;
        }
        ta_accepted_add(&accepted, ta_str_of(text, (size_t)len));
        Py_DECREF(value);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
        if (name == NULL)
            return NULL;
        ta_coding coding = ta_coding_of(ta_str_of(name, strlen(name)));
        if (coding >= TA_CODINGS || n >= TA_CODINGS)
            return PyErr_Format(PyExc_ValueError, "no coding %s", name);
        ours[n++] = coding;
    }
    ta_str best = ta_coding_name(ta_accepted_choose(&accepted, ours, n));
    return Py_BuildValue("s#N", best.ptr, (Py_ssize_t)best.len,
                         PyBool_FromLong(ta_accepted_weight(&accepted, TA_CODING_IDENTITY) > 0));
}

static PyMethodDef functions[] = {
    {"choose_coding", choose_coding, METH_VARARGS,
     "choose_coding(values, codings, /)\n--\n\n"
     "(coding, identity): which of the codings, by preference, a client gets that sent these "
     "values\n"
     "of Accept-Encoding, or 'identity'; and whether it takes that."},
    {NULL},
};

/* CODINGS: name -> (version of its library, lowest and highest level), as built. */
static PyObject *codings(void)
{
    PyObject *all = PyDict_New();
    for (int i = 0; all != NULL && i < TA_CODINGS; i++) {
        int lowest, highest;
        char version[TA_PACKER_VERSION];
        if (!ta_packer_levels((ta_coding)i, &lowest, &highest))
            continue;
        ta_packer_version((ta_coding)i, version);
        PyObject *one = Py_BuildValue("sii", version, lowest, highest);
        if (one == NULL || PyDict_SetItemString(all, ta_coding_name((ta_coding)i).ptr, one) < 0)
            Py_CLEAR(all);
        Py_XDECREF(one);
    }
    return all;
}

int ta_packer_init(PyObject *module, ta_state *Py_UNUSED(st))
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int rc = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    PyObject *all = rc == 0 ? codings() : NULL;
    if (all == NULL || PyModule_AddObjectRef(module, "CODINGS", all) < 0)
        rc = -1;
    Py_XDECREF(all);
    return rc < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
