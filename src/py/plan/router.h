/*
 * router.h -- `_core.Router`: the route table as a Python object (docs/engine.md, "Router").
 *
 * Layer: py.  A Router is immutable after construction: threads share it without a lock.
 */
#ifndef TA_PY_PLAN_ROUTER_H
#define TA_PY_PLAN_ROUTER_H

#include "py/support/state.h"
#include "route/convert.h"
#include "route/tree.h"

typedef ta_route_match ta_match;

/* Adds the type to the module; after encode.c's init.  0, or -1 with an exception. */
int ta_router_init(PyObject *module, ta_state *st);

/*
 * As ta_route_tree_find.  `router` must be a Router (not checked).  Sets no exception, takes no
 * lock, does not allocate.
 */
ta_route_found ta_router_find(PyObject *router, ta_method method_id, ta_str method, ta_str path,
                              uint32_t start, ta_match *out);
/*
 * Whether an entry that has to be asked is of kind "host" and its pattern fits the value of the
 * request's Host field (NULL: none).  1, 0; -1: it is of another kind, or Python must decide (no
 * exception is set).  May run a regular expression of Python's.
 */
int ta_router_ask_host(PyObject *router, uint32_t index, const ta_str *host);

/* Of entry `index` (as matched); borrowed from the router: */
PyObject *ta_router_target(PyObject *router, uint32_t index); /* a Plan, an App, or None */
PyObject *ta_router_path(PyObject *router, uint32_t index);   /* a str, as it was declared */
/* The value of `Allow` for a method that a route does not have; false: Python must make it. */
bool ta_router_allow(PyObject *router, uint32_t index, ta_str *out);
PyObject *ta_router_scope_items(PyObject *router, uint32_t index); /* a dict, or NULL */

/* A new dict name -> what Starlette's convertor makes of the value: str, int, float or UUID.  Of a
 * mount the last one, which is what is below it, is left out.  NULL with the exception that
 * Starlette would raise too (an int of more digits than sys.get_int_max_str_digits). */
PyObject *ta_router_path_params(PyObject *router, const ta_match *match);

#endif
