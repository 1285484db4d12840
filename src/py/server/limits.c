/*
 * limits.c -- the limits of HTTP, as Python gives and sees them.
 *
 * Layer: py/server.
 */
#include "py/server/limits.h"

typedef struct limit_row {
    const char *name;
    size_t offset; /* in ta_http_limits */
    bool wide;     /* a uint64_t, else a uint32_t */
    uint64_t fallback;
} limit_row;

static const limit_row limit_rows[] = {
#define X(type, name, value)                                                                       \
    {#name, offsetof(ta_http_limits, name), sizeof(type) == sizeof(uint64_t), value},
    TA_HTTP_LIMITS(X)
#undef X
};

static uint64_t highest(const limit_row *row)
{
    return row->wide ? UINT64_MAX : UINT32_MAX;
}

/* given[name], if it is there, goes to its member.  1; 0: not there; -1 with an exception. */
static int read_limit(PyObject *given, const limit_row *row, ta_http_limits *limits)
{
    PyObject *value;
    int rc = PyDict_GetItemStringRef(given, row->name, &value);
    if (rc <= 0)
        return rc;
    uint64_t n = PyLong_AsUnsignedLongLong(value);
    Py_DECREF(value);
    if (n == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    if (n > highest(row)) {
        PyErr_Format(PyExc_OverflowError, "limit %s is too large", row->name);
        return -1;
    }
    char *member = (char *)limits + row->offset;
    if (row->wide)
        *(uint64_t *)(void *)member = n;
    else
        *(uint32_t *)(void *)member = (uint32_t)n;
    return 1;
}

int ta_limits_read(PyObject *given, ta_http_limits *limits)
{
    Py_ssize_t known = 0;
    ta_http_limits_default(limits);
    if (given == NULL)
        return 0;
    for (size_t i = 0; i < TA_COUNTOF(limit_rows); i++) {
        int rc = read_limit(given, &limit_rows[i], limits);
        if (rc < 0)
            return -1;
        known += rc;
    }
    if (known != PyDict_Size(given)) {
        PyErr_SetString(PyExc_ValueError, "unknown name among the limits");
        return -1;
    }
    return 0;
}

int ta_limits_add(PyObject *module)
{
    PyObject *dict = PyDict_New(), *proxy = NULL;
    int rc = dict ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < TA_COUNTOF(limit_rows); i++) {
        const limit_row *row = &limit_rows[i];
        PyObject *pair = Py_BuildValue("(KK)", (unsigned long long)row->fallback,
                                       (unsigned long long)highest(row));
        rc = pair ? PyDict_SetItemString(dict, row->name, pair) : -1;
        Py_XDECREF(pair);
    }
    if (rc == 0)
        proxy = PyDictProxy_New(dict);
    Py_XDECREF(dict);
    return PyModule_Add(module, "HTTP_LIMITS", proxy); /* steals; NULL: -1 */
}
