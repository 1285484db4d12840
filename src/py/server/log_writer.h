/*
 * log_writer.h -- `_core.LogWriter`: a thread that writes the lines of the access log.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_LOG_WRITER_H
#define TA_PY_SERVER_LOG_WRITER_H

#include "base/line_writer.h"
#include "py/server/server_objects.h"

/* Of a LogWriter: borrowed, lives as long as the object.  NULL with a TypeError. */
ta_line_writer *ta_log_writer_of(ta_state *st, PyObject *obj);

#endif
