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

bool ta_head_value_ok(ta_str value)
{
    return value_ok(value.ptr, value.len);
}

/* The flag that a field stands for. */
static unsigned field_flag(ta_str name, ta_str value)
{
    switch (name.len) {
    case 4:
        return ta_str_ieq(name, TA_STR("date")) ? TA_RESP_HAS_DATE : 0;
    case 6:
        return ta_str_ieq(name, TA_STR("server")) ? TA_RESP_HAS_SERVER : 0;
    case 10:
        return ta_str_ieq(name, TA_STR("connection")) && ta_list_has(value, TA_STR("close"))
                   ? TA_RESP_CLOSE
                   : 0;
    case 14:
        return ta_str_ieq(name, TA_STR("content-length")) ? TA_RESP_HAS_LENGTH : 0;
    default:
        return 0;
    }
}

unsigned ta_head_scan(ta_str lines)
{
    unsigned flags = 0;
    while (lines.len > 0) {
        const char *end = memchr(lines.ptr, '\n', lines.len);
        const char *colon = memchr(lines.ptr, ':', lines.len);
        if (end == NULL || colon == NULL || colon + 2 > end)
            break;
        flags |= field_flag(ta_str_of(lines.ptr, (size_t)(colon - lines.ptr)),
                            ta_str_of(colon + 2, (size_t)(end - colon - 2)));
        size_t used = (size_t)(end - lines.ptr) + 1;
        lines = ta_str_skip(lines, used);
    }
    return flags;
}

static int add_field(ta_head_out *head, ta_str name, ta_str value)
{
    if (!name_ok(name.ptr, name.len)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header name.");
        return -1;
    }
    if (!value_ok(value.ptr, value.len)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
        return -1;
    }
    unsigned flag = field_flag(name, value);
    if (flag & TA_RESP_HAS_LENGTH) {
        if (head->flags & TA_RESP_HAS_LENGTH)
            return 0; /* one is enough; two would be refused by the peer */
        if (!ta_length_of(value, &head->length)) {
            PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
            return -1;
        }
    }
    if (ta_str_ieq(name, TA_STR("transfer-encoding"))) {
        /* Framing is the protocol's; a coding that it does not do would be a lie, and beside a
         * content-length a way to desynchronise the connection (RFC 9112 6.1). */
        if (ta_str_ieq(value, TA_STR("chunked")) || ta_str_ieq(value, TA_STR("identity")))
            return 0;
        PyErr_SetString(PyExc_RuntimeError,
                        "Transfer codings of a response other than chunked are not supported.");
        return -1;
    }
    char *out = ta_buf_reserve(&head->lines, name.len + value.len + 4);
    if (out == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    char *p = out;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        *p++ = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    *p++ = ':';
    *p++ = ' ';
    if (value.len > 0)
        memcpy(p, value.ptr, value.len);
    p += value.len;
    *p++ = '\r';
    *p++ = '\n';
    ta_buf_commit(&head->lines, (size_t)(p - out));
    head->flags |= flag;
    return 0;
}

static int add_pair(ta_head_out *head, PyObject *pair)
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

void ta_head_suit(ta_head_out *head, int status)
{
    if (TA_LIKELY(!ta_status_refuses_length(status)) || !(head->flags & TA_RESP_HAS_LENGTH))
        return;
    static const char name[] = "content-length: ";
    char *start = head->lines.data + head->lines.off, *end = start + head->lines.len;
    for (char *line = start, *next; line < end; line = next) {
        next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        if ((size_t)(end - line) < sizeof name || memcmp(line, name, sizeof name - 1) != 0)
            continue;
        memmove(line, next, (size_t)(end - next));
        head->lines.len -= (size_t)(next - line);
        break; /* there is one (add_field) */
    }
    head->flags &= ~(unsigned)TA_RESP_HAS_LENGTH;
    head->length = -1;
}

void ta_head_reset(ta_head_out *head)
{
    ta_buf_clear(&head->lines);
    head->flags = 0;
    head->length = -1;
}

int ta_head_add(ta_head_out *head, PyObject *headers)
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
