/*
 * file_response.c -- a FileResponse of a plan, without a call of it.
 *
 * Layer: py (L4).  Only what succeeds: for a file that can't be sent, or not at once, its __call__
 * is called (send_file.c).
 */
#include "py/server/native_int.h"

#include <unistd.h>

#include "http/status.h"
#include "py/support/types.h"
#include "json/num.h"

/* What __call__ calls of its own: none may be another's. */
static const char *const methods[] = {
    "__call__",          "set_stat_headers",    "_handle_simple", "_handle_single_range",
    "_should_use_range", "_parse_range_header", "_parse_ranges",  "_open_file"};

/* Of a class method, each look-up makes another object. */
static PyObject *function_of(PyObject *method)
{
    return PyMethod_Check(method) ? PyMethod_GET_FUNCTION(method) : method;
}

static bool has_plain_methods(const ta_file_response_state *objects, PyTypeObject *type)
{
    for (size_t i = 0; i < TA_COUNTOF(methods); i++) {
        PyObject *name = PyTuple_GET_ITEM(objects->names, (Py_ssize_t)i);
        PyObject *method = PyObject_GetAttr((PyObject *)type, name);
        if (method == NULL) {
            PyErr_Clear();
            return false;
        }
        bool same = function_of(method) == PyTuple_GET_ITEM(objects->functions, (Py_ssize_t)i);
        Py_DECREF(method);
        if (!same)
            return false;
    }
    return true;
}

/* Whether its class does what Starlette's does.  CPython gives a class another version when it, or
 * one of its bases, changes. */
static bool is_plain(ta_server *server, const ta_file_response_state *objects, PyObject *response)
{
    PyTypeObject *type = Py_TYPE(response);
    if (TA_LIKELY(server->file_response_version != 0 &&
                  server->file_response_version == type->tp_version_tag))
        return true;
    bool plain = has_plain_methods(objects, type);
    server->file_response_version = plain ? type->tp_version_tag : 0;
    return plain;
}

/* What is needed of a response; owned. */
typedef struct parts {
    PyObject *path, *headers;
    long status;
} parts;

/* False: it is an unusual one; no exception is set. */
static bool read_parts(ta_state *st, PyObject *response, parts *out)
{
    PyObject *status = NULL, *stat = NULL;
    bool usual = false;
    *out = (parts){0};
    if ((status = PyObject_GetAttr(response, st->names.status_code)) == NULL ||
        (stat = PyObject_GetAttr(response, st->names.stat_result)) == NULL ||
        (out->path = PyObject_GetAttr(response, st->names.path)) == NULL ||
        (out->headers = PyObject_GetAttr(response, st->names.raw_headers)) == NULL)
        goto done;
    /* With a stat_result the fields are those of another time. */
    if (!Py_IsNone(stat) || !PyLong_CheckExact(status) || !PyList_CheckExact(out->headers))
        goto done;
    out->status = PyLong_AsLong(status);
    usual = out->status >= 200 && out->status <= 999 && ta_status_has_content((int)out->status);
done:
    PyErr_Clear();
    Py_XDECREF(status);
    Py_XDECREF(stat);
    return usual;
}

static void drop_parts(parts *p)
{
    Py_CLEAR(p->path);
    Py_CLEAR(p->headers);
}

static ta_str bytes_of(PyObject *bytes)
{
    return ta_str_of(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

static PyObject *new_pair(ta_str name, ta_str value)
{
    PyObject *key = PyBytes_FromStringAndSize(name.ptr, (Py_ssize_t)name.len);
    PyObject *text = PyBytes_FromStringAndSize(value.ptr, (Py_ssize_t)value.len);
    PyObject *pair = key && text ? PyTuple_Pack(2, key, text) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(text);
    return pair;
}

/* The index of the first field of that name in the list of pairs of bytes; -1: none; -2: it is no
 * such list. */
static Py_ssize_t find(PyObject *headers, ta_str name)
{
    Py_ssize_t found = -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        PyObject *pair = PyList_GET_ITEM(headers, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 0)) ||
            !PyBytes_CheckExact(PyTuple_GET_ITEM(pair, 1)))
            return -2;
        if (found < 0 && ta_str_eq(bytes_of(PyTuple_GET_ITEM(pair, 0)), name))
            found = i;
    }
    return found;
}

/* headers.setdefault(name, value): *out is the field's value, borrowed from the list.  0, or -1:
 * an exception may be set. */
static int set_default(PyObject *headers, ta_str name, ta_str value, ta_str *out)
{
    Py_ssize_t at = find(headers, name);
    if (at == -2)
        return -1;
    if (at == -1) {
        PyObject *pair = new_pair(name, value);
        at = PyList_GET_SIZE(headers);
        if (pair == NULL || PyList_Append(headers, pair) < 0) {
            Py_XDECREF(pair);
            return -1;
        }
        Py_DECREF(pair);
    }
    *out = bytes_of(PyTuple_GET_ITEM(PyList_GET_ITEM(headers, at), 1));
    return 0;
}

/* As set_stat_headers.  False: leave it to Starlette. */
static bool add_stamp(ta_server *server, PyObject *headers, const ta_file *file, ta_str *modified,
                      ta_str *etag)
{
    char text[TA_JSON_INT_MAX];
    ta_str given, length = ta_str_of(text, (size_t)(ta_json_write_i64(text, file->size) - text));
    ta_file_stamp stamp;
    return ta_file_reply_stamp(server, file, &stamp) &&
           set_default(headers, TA_STR("content-length"), length, &given) == 0 &&
           ta_str_eq(given, length) &&
           set_default(headers, TA_STR("last-modified"),
                       ta_str_of(stamp.modified, sizeof stamp.modified), modified) == 0 &&
           set_default(headers, TA_STR("etag"), ta_str_of(stamp.etag, sizeof stamp.etag), etag) ==
               0;
}

/* The fields of a part of the file: a new list, or NULL (an exception may be set). */
static PyObject *fields_of_part(PyObject *headers, const ta_file_range *range, int64_t size)
{
    char text[80];
    PyObject *list = NULL, *pair = NULL;
    Py_ssize_t at = find(headers, TA_STR("content-length"));
    if (at < 0 || find(headers, TA_STR("content-range")) != -1)
        return NULL;
    list = PyList_GetSlice(headers, 0, PyList_GET_SIZE(headers));
    size_t n = (size_t)(ta_json_write_i64(text, range->length) - text);
    pair = list ? new_pair(TA_STR("content-length"), ta_str_of(text, n)) : NULL;
    if (pair == NULL || PyList_SetItem(list, at, pair) < 0) /* steals */
        goto error;
    n = ta_file_reply_range_text(text, range, size);
    pair = new_pair(TA_STR("content-range"), ta_str_of(text, n));
    if (pair == NULL || PyList_Append(list, pair) < 0) {
        Py_XDECREF(pair);
        goto error;
    }
    Py_DECREF(pair);
    return list;
error:
    Py_XDECREF(list);
    return NULL;
}

/* Sends the file, which it closes.  1; 0: Starlette has to; -1. */
static int send_opened(const ta_file_door *door, parts *p, const ta_file *file)
{
    ta_str modified, etag;
    ta_file_range range;
    ta_fields fields;
    ta_file_sent sent = TA_FILE_SENT_NOT;
    PyObject *headers = NULL;
    int fd = file->fd;
    ta_fields_init(&fields);
    if (!file->regular || !add_stamp(door->server, p->headers, file, &modified, &etag) ||
        !ta_file_reply_range(door->x, (int)p->status, file->size, modified, etag, &range))
        goto done;
    headers =
        range.partial ? fields_of_part(p->headers, &range, file->size) : Py_NewRef(p->headers);
    if (headers == NULL || ta_response_head_add(&fields, headers) < 0)
        goto done;
    fields.status = range.partial ? 206 : (int)p->status;
    ta_response_head head = ta_fields_head(&fields);
    sent = ta_file_reply_send(door, &head, fd, &range);
    fd = -1;
done:
    if (fd >= 0)
        close(fd);
    if (sent == TA_FILE_SENT_NOT)
        PyErr_Clear(); /* its own code will fail in the same way */
    ta_fields_free(&fields);
    Py_XDECREF(headers);
    return sent == TA_FILE_SENT ? 1 : sent == TA_FILE_SENT_FAILED ? -1 : 0;
}

/* As ta_file_response_send. */
static int send_response(const ta_file_door *door, PyObject *response)
{
    ta_state *st = door->server->st;
    const ta_file_response_state *objects = &ta_server_objects_of(st)->file_response;
    parts p;
    PyObject *text = NULL, *path = NULL;
    ta_file file;
    int rc = 0;
    if (!PyObject_TypeCheck(response, (PyTypeObject *)objects->type) ||
        door->x->method_id == TA_METHOD_OTHER || !is_plain(door->server, objects, response))
        return 0;
    if (read_parts(st, response, &p)) {
        if ((text = ta_path_text(st, p.path)) == NULL || !PyUnicode_FSConverter(text, &path))
            PyErr_Clear();
        else if (ta_file_open(&door->server->files, PyBytes_AS_STRING(path), &file) == TA_FILE_IS)
            rc = send_opened(door, &p, &file);
    }
    Py_XDECREF(text);
    Py_XDECREF(path);
    drop_parts(&p);
    return rc;
}

int ta_file_response_send(ta_exchange *base, PyObject *response)
{
    ta_native_exchange *native = ta_native_exchange_of(base);
    ta_file_door door = {native->server, base, native};
    if (!native->app->pathsend || native->in.place == TA_PLACE_NONE || native->ws != NULL ||
        native->req == NULL || native->out.state != TA_RESPONSE_NONE)
        return 0;
    return send_response(&door, response);
}

static PyObject *read_response(ta_state *st, PyObject *response, PyObject *const *args)
{
    ta_file_door door;
    if (!PyObject_TypeCheck(response, (PyTypeObject *)ta_server_objects_of(st)->file_response.type))
        Py_RETURN_NONE;
    int rc = ta_file_door_open(st, args, 3, &door);
    if (rc <= 0)
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    return ta_file_door_close(&door, send_response(&door, response) < 0);
}

PyObject *ta_file_response_read(ta_exchange *base, PyObject *response, PyObject *const *args)
{
    return read_response(ta_native_exchange_of(base)->st, response, args);
}

/* read_file(response, scope, receive, send) */
static PyObject *read_file(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs == 4)
        return read_response(ta_state_of_module(module), args[0], args + 1);
    PyErr_SetString(PyExc_TypeError, "read_file(response, scope, receive, send)");
    return NULL;
}

static PyMethodDef functions[] = {
    {"read_file", (PyCFunction)(void (*)(void))read_file, METH_FASTCALL,
     "read_file($module, response, scope, receive, send, /)\n--\n\n"
     "Return (status, header pairs, body) of a FileResponse, or None where it has to be called."},
    {NULL},
};

int ta_file_response_init(PyObject *module, ta_state *st)
{
    ta_file_response_state *objects = &ta_server_objects_of(st)->file_response;
    objects->type = ta_types_import("starlette.responses", "FileResponse");
    objects->names = PyTuple_New(TA_COUNTOF(methods));
    objects->functions = PyTuple_New(TA_COUNTOF(methods));
    if (objects->type == NULL || objects->names == NULL || objects->functions == NULL)
        return -1;
    for (size_t i = 0; i < TA_COUNTOF(methods); i++) {
        PyObject *name = PyUnicode_InternFromString(methods[i]);
        if (name == NULL)
            return -1;
        PyTuple_SET_ITEM(objects->names, (Py_ssize_t)i, name);
        /* A Starlette without one of them does something else: no class is plain there. */
        PyObject *method = PyObject_GetAttr(objects->type, name);
        if (method == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError))
                return -1;
            PyErr_Clear();
            method = Py_NewRef(Py_None);
        }
        PyTuple_SET_ITEM(objects->functions, (Py_ssize_t)i, Py_NewRef(function_of(method)));
        Py_DECREF(method);
    }
    return PyModule_AddFunctions(module, functions);
}
