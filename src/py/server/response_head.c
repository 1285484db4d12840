/*
 * response_head.c -- header fields of a response, from Python objects to lines.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "base/swar.h"
#include "http/headers.h"
#include "http/status.h"

/* Characters that uvicorn refuses in names: separators, controls, space. */
static const bool refused_in_names[256] = {
    [0x00] = 1, [0x01] = 1, [0x02] = 1, [0x03] = 1, [0x04] = 1, [0x05] = 1, [0x06] = 1,
    [0x07] = 1, [0x08] = 1, [0x09] = 1, [0x0a] = 1, [0x0b] = 1, [0x0c] = 1, [0x0d] = 1,
    [0x0e] = 1, [0x0f] = 1, [0x10] = 1, [0x11] = 1, [0x12] = 1, [0x13] = 1, [0x14] = 1,
    [0x15] = 1, [0x16] = 1, [0x17] = 1, [0x18] = 1, [0x19] = 1, [0x1a] = 1, [0x1b] = 1,
    [0x1c] = 1, [0x1d] = 1, [0x1e] = 1, [0x1f] = 1, [' '] = 1,  ['('] = 1,  [')'] = 1,
    ['<'] = 1,  ['>'] = 1,  ['@'] = 1,  [','] = 1,  [';'] = 1,  [':'] = 1,  ['\\'] = 1,
    ['['] = 1,  [']'] = 1,  ['='] = 1,  ['{'] = 1,  ['}'] = 1,  ['"'] = 1,  [0x7f] = 1,
};

/* The bytes from the i-th on, or the last ones, of a text that has so many. */
static inline uint64_t eight_at(const char *s, size_t n, size_t i)
{
    uint64_t word;
    memcpy(&word, s + TA_MIN(i, n - sizeof word), sizeof word);
    return word;
}

/* The high bit of each byte from lo to hi, in a word of bytes below 0x80. */
static inline uint64_t between(uint64_t word, uint64_t lo, uint64_t hi)
{
    return (word + (0x80 - lo) * TA_SWAR_ONES) & ~(word + (0x7f - hi) * TA_SWAR_ONES) &
           TA_SWAR_HIGHS;
}

/* Eight bytes at once: small letters, digits, "-" and their like, which most names are of. */
static inline bool is_plain_name(uint64_t word)
{
    return (between(word, '-', '9') | between(word, '^', 'z')) == TA_SWAR_HIGHS &&
           (word & TA_SWAR_HIGHS) == 0;
}

static bool name_ok(const char *s, size_t n)
{
    if (TA_LIKELY(n >= 8)) {
        size_t i = 0;
        while (is_plain_name(eight_at(s, n, i)))
            if ((i += 8) >= n)
                return true;
    }
    for (size_t i = 0; i < n; i++)
        if (refused_in_names[(unsigned char)s[i]])
            return false;
    return n > 0;
}

/* Whether there may be a control in a word: never wrong when it says no. */
static inline bool has_control(uint64_t word)
{
    uint64_t del = word ^ (0x7f * TA_SWAR_ONES);
    return ((((word - 0x20 * TA_SWAR_ONES) & ~word) | ((del - TA_SWAR_ONES) & ~del)) &
            TA_SWAR_HIGHS) != 0;
}

/* Controls but the tab end a field or hide in it (response splitting). */
static bool value_ok(const char *s, size_t n)
{
    if (n >= 8) {
        size_t i = 0;
        while (!has_control(eight_at(s, n, i)))
            if ((i += 8) >= n)
                return true;
    }
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

static int add_objects(ta_fields *head, PyObject *name, PyObject *value)
{
    if (TA_LIKELY(PyBytes_Check(name) && PyBytes_Check(value)))
        return add_field(head, ta_str_of(PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name)),
                         ta_str_of(PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)));
    PyErr_Format(PyExc_TypeError, "header fields must be pairs of bytes, not of %.50s and %.50s",
                 Py_TYPE(name)->tp_name, Py_TYPE(value)->tp_name);
    return -1;
}

static int add_pair(ta_fields *head, PyObject *pair)
{
    if (TA_LIKELY(PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2))
        return add_objects(head, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    PyObject *seq = PySequence_Fast(pair, "header fields must be pairs of bytes");
    if (seq == NULL)
        return -1;
    int rc = -1;
    if (PySequence_Fast_GET_SIZE(seq) == 2)
        rc = add_objects(head, PySequence_Fast_GET_ITEM(seq, 0), PySequence_Fast_GET_ITEM(seq, 1));
    else
        PyErr_SetString(PyExc_ValueError, "header fields must be pairs of bytes");
    Py_DECREF(seq);
    return rc;
}

void ta_response_head_suit(ta_fields *head)
{
    if (TA_LIKELY(!ta_status_refuses_length(head->status)) || head->length < 0)
        return;
    if (!ta_status_adds_length(head->status) || head->length != 0) /* of a 205 it is 0 */
        ta_fields_remove(head, TA_STR("content-length"));
}

int ta_response_head_add(ta_fields *head, PyObject *headers)
{
    PyObject *pair;
    int rc = 0;
    if (PyList_CheckExact(headers)) { /* as it grows, or shrinks, meanwhile */
        for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(headers); i++) {
            pair = PyList_GetItemRef(headers, i);
            rc = pair ? add_pair(head, pair) : -1;
            Py_XDECREF(pair);
        }
        return rc;
    }
    PyObject *it = PyObject_GetIter(headers);
    if (it == NULL)
        return -1;
    while (rc == 0 && (pair = PyIter_Next(it)) != NULL) {
        rc = add_pair(head, pair);
        Py_DECREF(pair);
    }
    Py_DECREF(it);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}
