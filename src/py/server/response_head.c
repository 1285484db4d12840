/*
 * response_head.c -- header fields of a response, from Python objects to lines.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "http/headers.h"
#include "http/status.h"

/* Characters that uvicorn refuses in names: separators, controls, space. */
static bool name_ok(const char *s, size_t n)
{
    if (n == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= 0x20 || c == 0x7f || strchr("()<>@,;:\\[]={}\"", c) != NULL)
            return false;
    }
    return true;
}

/* Controls but the tab end a field or hide in it (response splitting). */
static bool value_ok(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

bool ta_response_head_value_ok(ta_str value)
{
    return value_ok(value.ptr, value.len);
}

static int add_field(ta_fields *head, ta_str name, ta_str value)
{
    if (!name_ok(name.ptr, name.len)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header name.");
        return -1;
    }
    if (!value_ok(value.ptr, value.len)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
        return -1;
    }
    if (name.len == 17 && ta_str_ieq(name, TA_STR("transfer-encoding"))) {
        /* Framing is the protocol's business; a coding that it does not apply would be false, and
         * together with a content-length could desynchronize the connection (RFC 9112 6.1). */
        if (ta_str_ieq(value, TA_STR("chunked")) || ta_str_ieq(value, TA_STR("identity")))
            return 0;
        PyErr_SetString(PyExc_RuntimeError,
                        "Transfer codings of a response other than chunked are not supported.");
        return -1;
    }
    int64_t length = head->length, other;
    int rc = ta_fields_add(head, name, value);
    if (rc == TA_OK)
        return 0;
    if (rc == TA_ENOMEM)
        PyErr_NoMemory();
    else if (length >= 0 && ta_length_of(value, &other))
        PyErr_Format(PyExc_RuntimeError, "Conflicting Content-Length headers: %lld and %lld.",
                     (long long)length, (long long)other);
    else
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
    return -1;
}

static int add_pair(ta_fields *head, PyObject *pair)
{
    PyObject *seq = PySequence_Fast(pair, "header fields must be pairs of bytes");
    if (seq == NULL)
        return -1;
    int rc = -1;
    PyObject *name, *value;
    if (PySequence_Fast_GET_SIZE(seq) != 2) {
        PyErr_SetString(PyExc_ValueError, "header fields must be pairs of bytes");
        goto done;
    }
    name = PySequence_Fast_GET_ITEM(seq, 0);
    value = PySequence_Fast_GET_ITEM(seq, 1);
    if (!PyBytes_Check(name) || !PyBytes_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "header fields must be pairs of bytes, not of %.50s and %.50s",
                     Py_TYPE(name)->tp_name, Py_TYPE(value)->tp_name);
        goto done;
    }
    rc = add_field(head, ta_str_of(PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name)),
                   ta_str_of(PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)));
done:
    Py_DECREF(seq);
    return rc;
}

void ta_response_head_suit(ta_fields *head)
{
    if (TA_UNLIKELY(ta_status_refuses_length(head->status)) && head->length >= 0)
        ta_fields_remove(head, TA_STR("content-length"));
}

int ta_response_head_add(ta_fields *head, PyObject *headers)
{
    PyObject *it = PyObject_GetIter(headers), *pair;
    if (it == NULL)
        return -1;
    int rc = 0;
    while (rc == 0 && (pair = PyIter_Next(it)) != NULL) {
        rc = add_pair(head, pair);
        Py_DECREF(pair);
    }
    Py_DECREF(it);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}
