/*
 * filters_int.h -- the inside of ta_filters: shared by filters.c, filters_read.c and
 * session_filter.c.
 */
#ifndef TA_PY_SERVER_FILTERS_INT_H
#define TA_PY_SERVER_FILTERS_INT_H

#include "py/server/native_int.h"

typedef enum filter_kind {
    FILTER_CORS,
    FILTER_GZIP,
    FILTER_HOSTS,
    FILTER_HTTPS,
    FILTER_SESSION
} filter_kind;

typedef struct filter {
    filter_kind kind;
    /* cors */
    PyObject *origins;   /* owned: container; NULL: every origin */
    PyObject *fullmatch; /* owned: callable, or NULL */
    bool credentials;
    PyObject *fields; /* owned tuple of (name, value) bytes */
    /* gzip */
    Py_ssize_t minimum, thread_minimum;
    int level;
    PyObject *offload; /* owned */
    /* session */
    PyObject *session_type; /* owned: starlette.middleware.sessions.Session */
    PyObject *load, *save;  /* owned */
    /* gzip: excluded types; hosts: patterns; session: the cookie's name */
    PyObject *texts; /* owned tuple of bytes */
} filter;

struct ta_filters {
    size_t n;
    filter items[]; /* innermost first */
};

static inline ta_str ta_filters_str(PyObject *bytes)
{
    return ta_str_of(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

/* session_filter.c: what the middleware does to a head that begins.  0, or -1 with an exception. */
int ta_session_filter_apply(const filter *rule, ta_native_exchange *native);

#endif
