/*
 * route_label.h -- the template of the route that a request was matched with, for logs and metrics.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_ROUTE_LABEL_H
#define TA_PY_SERVER_ROUTE_LABEL_H

#include "py/server/native_exchange.h"

enum { TA_ROUTE_LABEL_MAX = 256 };

/*
 * The path of the route as it was declared, behind the paths of the mounts that it is in, without
 * convertors: "/items/{item_id}".  Of what Python has routed it is the scope's "route".  Written to
 * `out` (TA_ROUTE_LABEL_MAX bytes) and cut to it; empty: none is known.  Sets no exception.
 */
ta_str ta_route_label(ta_native_exchange *native, char *out);

#endif
