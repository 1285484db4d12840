/*
 * router_int.h -- the inside of a Router: shared by router.c and router_entries.c.
 *
 * Layer: py/plan; nobody else includes it.
 */
#ifndef TA_PY_PLAN_ROUTER_INT_H
#define TA_PY_PLAN_ROUTER_INT_H

#include "py/plan/router.h"

typedef struct ta_router_entry {
    PyObject *path;        /* owned str */
    PyObject *target;      /* owned */
    PyObject *scope_items; /* owned dict, or NULL */
    PyObject *names;       /* owned tuple of interned str */
    PyObject *extra;       /* owned: see read_extra; or NULL */
    bool host;             /* of kind "host" */
} ta_router_entry;

typedef struct ta_router {
    PyObject_HEAD
    ta_route_tree *tree;      /* owned */
    ta_router_entry *entries; /* owned, `count` of them */
    Py_ssize_t count;
    PyObject *uuid_type; /* owned */
    PyObject *no_path;   /* owned: the empty str */
} ta_router;

static inline const ta_router *ta_router_of(PyObject *obj)
{
    return (const ta_router *)obj;
}

/* The text of a value, as the server's decoding of the path gives it: bytes that are no UTF-8
 * become U+FFFD.  New str, or NULL. */
static inline PyObject *ta_router_str(ta_str value)
{
    return PyUnicode_DecodeUTF8(value.ptr, (Py_ssize_t)value.len, "replace");
}

/* -- router_entries.c -------------------------------------------------------------------------- */

/* Adds an entry, a tuple as docs/engine.md ("Router") describes it, behind the others; there is
 * room for it.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_router_add(ta_router *self, PyObject *item);
/* The UTF-8 of a str, borrowed from it; `what` names it.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_router_text(PyObject *obj, const char *what, ta_str *out);

#endif
