/*
 * response_init.c -- what the constructors of JSONResponse and FileResponse do for usual arguments
 * (turboapi/_response_classes.py); anything else is left to Starlette's own.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "http/headers.h"
#include "http/status.h"
#include "py/json/encode.h"
#include "py/support/attributes.h"
#include "json/num.h"

static bool is_str(PyObject *text)
{
#if PY_VERSION_HEX < 0x030c0000
    return PyUnicode_CheckExact(text) && PyUnicode_READY(text) == 0;
#else
    return PyUnicode_CheckExact(text);
#endif
}

/* -- header fields ----------------------------------------------------------------------------- */

/* The bytes of a str in Latin-1, in lower case if it is a name.  NULL: it is another object or has
 * other characters; an exception may be set. */
static PyObject *latin1(PyObject *text, bool name)
{
    if (!is_str(text) || PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND ||
        (name && !PyUnicode_IS_ASCII(text)))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text));
    if (bytes != NULL && name) {
        char *at = PyBytes_AS_STRING(bytes); /* nobody else has seen it */
        for (Py_ssize_t i = 0; i < PyBytes_GET_SIZE(bytes); i++)
            at[i] = ta_ascii_lower(at[i]);
    }
    return bytes;
}

/* Appends a pair (steals both, which may be NULL).  0, or -1: an exception may be set. */
static int append(PyObject *list, PyObject *name, PyObject *value)
{
    PyObject *pair = name && value ? PyTuple_Pack(2, name, value) : NULL;
    int rc = pair ? PyList_Append(list, pair) : -1;
    Py_XDECREF(pair);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return rc;
}

static int append_text(PyObject *list, ta_str name, ta_str value)
{
    return append(list, PyBytes_FromStringAndSize(name.ptr, (Py_ssize_t)name.len),
                  PyBytes_FromStringAndSize(value.ptr, (Py_ssize_t)value.len));
}

static bool has(PyObject *list, ta_str name)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *key = PyTuple_GET_ITEM(PyList_GET_ITEM(list, i), 0);
        if (ta_str_eq(ta_str_of(PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key)), name))
            return true;
    }
    return false;
}

static int append_given_locked(PyObject *list, PyObject *given)
{
    PyObject *name, *value;
    Py_ssize_t at = 0;
    int rc = 0;
    while (rc == 0 && PyDict_Next(given, &at, &name, &value))
        rc = append(list, latin1(name, true), latin1(value, false));
    return rc;
}

/* The list of the fields that were given: a dict, or None.  NULL: an exception may be set. */
static PyObject *new_fields(PyObject *given)
{
    int rc;
    PyObject *list = PyList_New(0);
    if (list == NULL || Py_IsNone(given))
        return list;
    if (!PyDict_CheckExact(given)) {
        Py_DECREF(list);
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(given);
    rc = append_given_locked(list, given);
    Py_END_CRITICAL_SECTION();
    if (rc < 0)
        Py_CLEAR(list);
    return list;
}

/* Adds the content-type, unless one was given; text has a charset.  0, or -1: an exception may be
 * set. */
static int add_type(PyObject *list, PyObject *type)
{
    static const char charset[] = "; charset=utf-8";
    char text[256];
    if (!is_str(type) || !PyUnicode_IS_ASCII(type) ||
        (size_t)PyUnicode_GET_LENGTH(type) + sizeof charset > sizeof text)
        return -1;
    size_t n = (size_t)PyUnicode_GET_LENGTH(type);
    memcpy(text, PyUnicode_DATA(type), n);
    if (n >= 5 && memcmp(text, "text/", 5) == 0) {
        if (memchr(text, ';', n) != NULL)
            return -1; /* has a charset or not: Starlette's own code looks */
        memcpy(text + n, charset, sizeof charset - 1);
        n += sizeof charset - 1;
    }
    return has(list, TA_STR("content-type"))
               ? 0
               : append_text(list, TA_STR("content-type"), ta_str_of(text, n));
}

/* -- what both have ---------------------------------------------------------------------------- */

/* Sets attributes: names and values (borrowed) in turn, which end with NULL.  0, or -1. */
static int set_all(PyObject *response, PyObject *const *pairs)
{
    for (; pairs[0] != NULL; pairs += 2)
        if (PyObject_SetAttr(response, pairs[0], pairs[1]) < 0)
            return -1;
    return 0;
}

/* The answer to Python: `done`, or else an exception that is no longer of interest. */
static PyObject *answer(bool done)
{
    if (!done) {
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_MemoryError))
            return NULL;
        PyErr_Clear(); /* Starlette's constructor will raise it */
    }
    return PyBool_FromLong(done);
}

static bool read_status(PyObject *status, long *out)
{
    int overflow;
    if (!PyLong_CheckExact(status))
        return false;
    *out = PyLong_AsLongAndOverflow(status, &overflow);
    return overflow == 0 && *out >= 0 && *out <= 999;
}

static int check(Py_ssize_t given, Py_ssize_t wanted, PyObject *guards)
{
    if (given == wanted)
        return ta_attributes_check(guards);
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, not %zd", wanted, given);
    return -1;
}

/* -- JSONResponse ------------------------------------------------------------------------------ */

/* The fields of a body of that length, or NULL: an exception may be set. */
static PyObject *fields_of_body(PyObject *given, long status, size_t length, PyObject *type)
{
    char text[TA_JSON_INT_MAX];
    PyObject *list = new_fields(given);
    if (list == NULL)
        return NULL;
    char *end = ta_json_write_i64(text, (int64_t)length);
    if ((ta_status_adds_length((int)status) && !has(list, TA_STR("content-length")) &&
         append_text(list, TA_STR("content-length"), ta_str_of(text, (size_t)(end - text))) < 0) ||
        add_type(list, type) < 0)
        Py_CLEAR(list);
    return list;
}

PyDoc_STRVAR(json_doc,
             "init_json_response($module, guards, response, content, status_code, headers,\n"
             "                   media_type, background, /)\n--\n\n"
             "Do what the constructor of Starlette's JSONResponse does.\n\n"
             "False: nothing was done, as the arguments are unusual, or a guard does not hold.");

static PyObject *init_json_response(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    if (check(n, 7, args[0]) < 0)
        return NULL;
    ta_state *st = ta_state_of_module(module);
    PyObject *response = args[1], *given_type = args[5];
    PyObject *body = NULL, *fields = NULL, *type = NULL;
    bool done = false;
    long status;
    ta_buf buf;
    ta_buf_init(&buf);
    if (!read_status(args[3], &status) || !ta_attributes_hold(args[0]) ||
        ta_encode_plain(ta_json_objects_of(st), args[2], &buf) != 1)
        goto out;
    type = Py_IsNone(given_type) ? PyObject_GetAttr(response, st->names.media_type)
                                 : Py_NewRef(given_type);
    ta_str json = ta_buf_str(&buf);
    if (type == NULL || (fields = fields_of_body(args[4], status, json.len, type)) == NULL ||
        (body = PyBytes_FromStringAndSize(json.ptr, (Py_ssize_t)json.len)) == NULL)
        goto out;
    PyObject *const pairs[] = {st->names.status_code,
                               args[3],
                               st->names.background,
                               args[6],
                               st->names.body,
                               body,
                               st->names.raw_headers,
                               fields,
                               Py_IsNone(given_type) ? NULL : st->names.media_type,
                               given_type,
                               NULL};
    done = set_all(response, pairs) == 0;
out:
    ta_buf_free(&buf);
    Py_XDECREF(type);
    Py_XDECREF(fields);
    Py_XDECREF(body);
    return answer(done);
}

/* -- FileResponse ------------------------------------------------------------------------------ */

/* Whether urllib.parse.quote leaves it as it is. */
static bool is_unquoted(PyObject *text)
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789_.-~/";
    if (!is_str(text) || !PyUnicode_IS_ASCII(text))
        return false;
    const char *at = PyUnicode_DATA(text);
    size_t n = (size_t)PyUnicode_GET_LENGTH(text);
    return strspn(at, unreserved) >= n; /* a NUL is none of them */
}

/* The media type of a path or name, as a new reference; NULL: an exception may be set. */
static PyObject *type_of(ta_state *st, PyObject *path)
{
    Py_ssize_t n;
    PyObject *text = ta_path_text(st, path), *type = NULL;
    const char *at = text && PyUnicode_CheckExact(text) ? PyUnicode_AsUTF8AndSize(text, &n) : NULL;
    /* What may be a URL is one to mimetypes. */
    if (at != NULL && memchr(at, ':', (size_t)n) == NULL && strncmp(at, "//", 2) != 0) {
        const char *slash = memrchr(at, '/', (size_t)n);
        size_t dir = slash ? (size_t)(slash - at) + 1 : 0;
        if (ta_file_reply_type(st, ta_str_of(at + dir, (size_t)n - dir), &type) != 1)
            Py_CLEAR(type);
        else if (Py_IsNone(type))
            Py_SETREF(type, PyUnicode_FromString("application/octet-stream"));
    }
    Py_XDECREF(text);
    return type;
}

/* The fields of a file, or NULL: an exception may be set. */
static PyObject *fields_of_file(PyObject *given, PyObject *type, PyObject *filename,
                                PyObject *disposition)
{
    PyObject *value = NULL, *list = new_fields(given);
    if (list == NULL || add_type(list, type) < 0 ||
        (!has(list, TA_STR("accept-ranges")) &&
         append_text(list, TA_STR("accept-ranges"), TA_STR("bytes")) < 0))
        goto error;
    if (!Py_IsNone(filename) && !has(list, TA_STR("content-disposition"))) {
        if (!is_unquoted(filename) || !PyUnicode_CheckExact(disposition) ||
            (value = PyUnicode_FromFormat("%U; filename=\"%U\"", disposition, filename)) == NULL ||
            append(list, PyBytes_FromString("content-disposition"), latin1(value, false)) < 0)
            goto error;
        Py_DECREF(value);
    }
    return list;
error:
    Py_XDECREF(value);
    Py_XDECREF(list);
    return NULL;
}

PyDoc_STRVAR(file_doc,
             "init_file_response($module, guards, response, path, status_code, headers,\n"
             "                   media_type, background, filename, disposition, /)\n--\n\n"
             "Do what the constructor of Starlette's FileResponse does without a stat_result.\n\n"
             "False: nothing was done, as the arguments are unusual, or a guard does not hold.");

static PyObject *init_file_response(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    if (check(n, 9, args[0]) < 0)
        return NULL;
    ta_state *st = ta_state_of_module(module);
    PyObject *response = args[1], *path = args[2], *filename = args[7];
    PyObject *type = NULL, *fields = NULL;
    bool done = false;
    long status;
    if (!read_status(args[3], &status) || !ta_attributes_hold(args[0]) ||
        !(Py_IsNone(filename) || PyUnicode_CheckExact(filename)))
        goto out;
    if (!Py_IsNone(args[5]))
        type = Py_NewRef(args[5]);
    else if (Py_IsNone(filename) || PyUnicode_GET_LENGTH(filename) == 0)
        type = type_of(st, path);
    else
        type = type_of(st, filename);
    if (type == NULL || (fields = fields_of_file(args[4], type, filename, args[8])) == NULL)
        goto out;
    PyObject *const pairs[] = {st->names.path,
                               path,
                               st->names.status_code,
                               args[3],
                               st->names.filename,
                               filename,
                               st->names.media_type,
                               type,
                               st->names.background,
                               args[6],
                               st->names.raw_headers,
                               fields,
                               st->names.stat_result,
                               Py_None,
                               NULL};
    done = set_all(response, pairs) == 0;
out:
    Py_XDECREF(type);
    Py_XDECREF(fields);
    return answer(done);
}

static PyMethodDef functions[] = {
    {"init_json_response", (PyCFunction)(void (*)(void))init_json_response, METH_FASTCALL,
     json_doc},
    {"init_file_response", (PyCFunction)(void (*)(void))init_file_response, METH_FASTCALL,
     file_doc},
    {NULL, NULL, 0, NULL},
};

int ta_response_init_init(PyObject *module, ta_state *Py_UNUSED(st))
{
    return PyModule_AddFunctions(module, functions);
}
