/*
 * inner_filter_int.h -- the inside of `_core.InnerFilter`, shared by inner_filter.c, inner_gzip.c
 * and inner_fields.c.
 */
#ifndef TA_PY_SERVER_INNER_FILTER_INT_H
#define TA_PY_SERVER_INNER_FILTER_INT_H

#include "py/server/filters_int.h"

typedef struct inner_filter {
    PyObject_HEAD
    vectorcallfunc vectorcall;   /* NULL until prepared */
    ta_state *st;                /* borrowed: the type keeps the module; NULL until prepared */
    ta_filters *filters;         /* owned: one */
    _Atomic(ta_packer *) packer; /* owned, or NULL: a stream of gzip that no response has */
} inner_filter;

/* -- inner_gzip.c ----------------------------------------------------------------------------- */

/* send() inside of GZip, for a client that takes gzip or one that does not: new reference, or NULL
 * with an exception. */
PyObject *ta_inner_gzip_send_new(inner_filter *owner, PyObject *send, bool packs);
int ta_inner_gzip_init(PyObject *module, ta_state *st);

/* -- inner_fields.c: fields as ASGI has them, lists of pairs of bytes -------------------------- */

/*
 * The value of the first field of that name in a list: 1 and a new reference; 0: there is none; -1:
 * the list, or something in it, is another kind of object.  Sets no exception.
 */
int ta_inner_fields_find(PyObject *headers, ta_str name, PyObject **value);
/* A new list of the pairs in a list or tuple; NULL: an exception may be set, or they are not pairs
 * of bytes. */
PyObject *ta_inner_fields_copy(PyObject *headers);

/* What Starlette's MutableHeaders does, in a list of pairs that nobody else has.  0, or -1 with an
 * exception. */
int ta_inner_fields_put(PyObject *list, PyObject *pair); /* steals, also on failure; may be NULL */
int ta_inner_fields_set(PyObject *list, ta_str name, ta_str value);
int ta_inner_fields_remove(PyObject *list, ta_str name);
int ta_inner_fields_add_vary(PyObject *list, ta_str what);

#endif
