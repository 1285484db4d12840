/*
 * forms.c -- bodies of forms into lists of their items: the functions parse_urlencoded and
 * parse_multipart of the module.
 *
 * Layer: py/plan.  Both give what Starlette's parsers make of the whole body.
 */
#include "py/plan/forms.h"

#include "http/headers.h"
#include "http/multipart.h"
#include "http/url.h"
#include "py/plan/param_text.h"

/* Appends (name, value); steals both, which may be NULL with an exception.  0 or -1. */
static int append(PyObject *items, PyObject *name, PyObject *value)
{
    PyObject *item = name && value ? PyTuple_Pack(2, name, value) : NULL;
    int rc = item ? PyList_Append(items, item) : -1;
    Py_XDECREF(item);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return rc;
}

static PyObject *decode_piece(ta_str piece)
{
    return ta_param_decode(piece.ptr ? piece : TA_STR(""), ENC_QUERY);
}

static PyObject *parse_urlencoded(PyObject *Py_UNUSED(module), PyObject *body)
{
    if (!PyBytes_Check(body)) {
        PyErr_Format(PyExc_TypeError, "body must be bytes, not %.100s", Py_TYPE(body)->tp_name);
        return NULL;
    }
    PyObject *items = PyList_New(0);
    ta_str rest = ta_str_of(PyBytes_AS_STRING(body), (size_t)PyBytes_GET_SIZE(body));
    ta_qs_pair pair;
    while (items != NULL && ta_qs_next(&rest, &pair))
        if (append(items, decode_piece(pair.name), decode_piece(pair.value)) < 0)
            Py_CLEAR(items);
    return items;
}

/* -- multipart -------------------------------------------------------------------------------- */

/* The limits of a form, and what makes an upload. */
typedef struct form_limits {
    Py_ssize_t files, fields, part_size;
    PyObject *make_file; /* borrowed: (filename, data, raw headers) -> upload */
} form_limits;

/* As UTF-8, or else as Latin-1. */
static PyObject *decode_text(ta_str text)
{
    PyObject *out = PyUnicode_DecodeUTF8(text.ptr, (Py_ssize_t)text.len, NULL);
    if (out == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        out = PyUnicode_DecodeLatin1(text.ptr, (Py_ssize_t)text.len, NULL);
    }
    return out;
}

static PyObject *bytes_of(ta_str text)
{
    return PyBytes_FromStringAndSize(text.ptr, (Py_ssize_t)text.len);
}

/* The name of a field in lower case.  Made without its text: a bytes object of one byte that has a
 * text is the interpreter's only one of that byte, which must not be written to. */
static PyObject *name_of(ta_str text)
{
    PyObject *name = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)text.len);
    for (size_t i = 0; name != NULL && i < text.len; i++)
        PyBytes_AS_STRING(name)[i] = ta_ascii_lower(text.ptr[i]);
    return name;
}

static PyObject *raw_headers(ta_str fields)
{
    PyObject *list = PyList_New(0);
    ta_str name, value;
    while (list != NULL && ta_multipart_field(&fields, &name, &value))
        if (append(list, name_of(name), bytes_of(value)) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *upload(const ta_multipart_part *part, const form_limits *limits)
{
    PyObject *args[] = {NULL, NULL, NULL, NULL}, *file = NULL;
    if ((args[1] = decode_text(part->filename)) != NULL &&
        (args[2] = bytes_of(part->data)) != NULL && (args[3] = raw_headers(part->fields)) != NULL)
        file = PyObject_Vectorcall(limits->make_file, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   NULL);
    for (size_t i = 1; i < TA_COUNTOF(args); i++)
        Py_XDECREF(args[i]);
    return file;
}

/* Whether all of the form is as expected and within the limits: nothing is made of it before. */
static bool check_parts(ta_multipart m, const form_limits *limits)
{
    Py_ssize_t files = 0, fields = 0;
    ta_multipart_part part;
    int rc;
    while ((rc = ta_multipart_next(&m, &part)) > 0) {
        bool file = part.filename.ptr != NULL;
        files += file;
        fields += !file;
        if (files > limits->files || fields > limits->fields ||
            (!file && (Py_ssize_t)part.data.len > limits->part_size))
            return false;
    }
    return rc == 0;
}

static PyObject *read_parts(ta_multipart m, const form_limits *limits)
{
    PyObject *items = PyList_New(0);
    ta_multipart_part part;
    while (items != NULL && ta_multipart_next(&m, &part) > 0) {
        PyObject *name = decode_text(part.name);
        PyObject *value = NULL;
        if (name != NULL)
            value = part.filename.ptr != NULL ? upload(&part, limits) : decode_text(part.data);
        if (append(items, name, value) < 0)
            Py_CLEAR(items);
    }
    return items;
}

static PyObject *parse_multipart(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer body, type;
    form_limits limits;
    ta_multipart m;
    ta_str boundary;
    PyObject *items = NULL;
    if (!PyArg_ParseTuple(args, "y*y*nnnO:parse_multipart", &body, &type, &limits.files,
                          &limits.fields, &limits.part_size, &limits.make_file))
        return NULL;
    if (ta_multipart_boundary(ta_str_of(type.buf, (size_t)type.len), &boundary) &&
        ta_multipart_begin(&m, ta_str_of(body.buf, (size_t)body.len), boundary) == TA_OK &&
        check_parts(m, &limits))
        items = read_parts(m, &limits);
    else
        items = Py_NewRef(Py_None);
    PyBuffer_Release(&body);
    PyBuffer_Release(&type);
    return items;
}

static PyMethodDef functions[] = {
    {"parse_urlencoded", parse_urlencoded, METH_O,
     "parse_urlencoded($module, body, /)\n--\n\nThe items of a URL-encoded form."},
    {"parse_multipart", parse_multipart, METH_VARARGS,
     "parse_multipart($module, body, content_type, max_files, max_fields, max_part_size, "
     "make_file,\n"
     "    /)\n--\n\n"
     "The items of a form as clients send it, files made by make_file(filename, data, headers);\n"
     "None for one that is unusual, wrong, or beyond the limits."},
    {NULL},
};

int ta_forms_init(PyObject *module, ta_state *Py_UNUSED(st))
{
    return PyModule_AddFunctions(module, functions);
}
