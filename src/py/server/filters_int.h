/*
 * filters_int.h -- the inside of ta_filters: shared by filters.c, filters_read.c, pack_filter.c,
 * session_filter.c and the inner filters.
 */
#ifndef TA_PY_SERVER_FILTERS_INT_H
#define TA_PY_SERVER_FILTERS_INT_H

#include "py/server/native_int.h"

typedef enum filter_kind {
    FILTER_CORS,
    FILTER_PACK,
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
    /* pack: gzip, or one of several codings */
    bool chooses; /* by what the client likes best; else it is Starlette's GZip */
    uint8_t ncodings;
    ta_coding codings[TA_CODINGS]; /* the first ncodings, by preference */
    int levels[TA_CODINGS];        /* of each */
    Py_ssize_t minimum, thread_minimum;
    PyObject *offload; /* owned */
    /* session */
    PyObject *session_type; /* owned: starlette.middleware.sessions.Session */
    PyObject *load, *save;  /* owned */
    /* gzip: excluded types; compress: the only types; hosts: patterns; session: the cookie's name
     */
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

/* filters.c: the filters from `from` to the one before `to` do to the head what they do.  All: 0,
 * or -1 with an exception. */
int ta_filters_apply(ta_native_exchange *native, size_t from, size_t to);
int ta_filters_no_memory(void); /* -1 */
/* Does the value of Host name one of the rule's?  False also when in doubt. */
bool ta_filters_host_allowed(const filter *rule, ta_str host);
/* Does a response of CORS name the request's origin?  1, 0, or -1 with an exception. */
int ta_filters_names_origin(const filter *rule, ta_str origin);
/* The only field of that name from now on. */
int ta_filters_set_field(ta_fields *fields, ta_str name, ta_str value);
/* One Vary field of all that the response has, and `what`. */
int ta_filters_add_vary(ta_fields *fields, ta_str what);

/* pack_filter.c: does GZip leave a response with this Content-Type (or "") alone? */
bool ta_pack_filter_excludes(const filter *rule, ta_str content_type);
/* A new object that packs a piece of a response with *packer when it is called, as the offload has
 * a thread do.  It takes *packer; NULL with an exception. */
PyObject *ta_pack_job_new(ta_state *st, ta_packer **packer, const ta_piece *piece, bool more);
/* What has come of it, once the awaitable of the offload has returned: gives the stream back, and
 * bytes that the job keeps.  False with an exception. */
bool ta_pack_job_take(PyObject *job, ta_packer **packer, ta_str *packed);

/* session_filter.c: what the middleware does to a head that begins.  0, or -1 with an exception. */
int ta_session_filter_apply(const filter *rule, ta_native_exchange *native);

#endif
