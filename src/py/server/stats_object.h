/*
 * stats_object.h -- `_core.Stats`: counters in memory that processes share, as a Python object.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_STATS_OBJECT_H
#define TA_PY_SERVER_STATS_OBJECT_H

#include "base/stats.h"
#include "py/server/server_objects.h"

/* Of a Stats: borrowed, lives as long as the object.  NULL with a TypeError. */
const ta_stats *ta_stats_object_get(ta_state *st, PyObject *obj);

#endif
