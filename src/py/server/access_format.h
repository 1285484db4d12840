/*
 * access_format.h -- lines of the access log in a format that the user chose.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_ACCESS_FORMAT_H
#define TA_PY_SERVER_ACCESS_FORMAT_H

#include "py/server/native_exchange.h"

typedef struct ta_access_format ta_access_format;

/*
 * `spec` is (json, pieces, after) as turboapi/_serving/access_format.py makes it: whether a field
 * that has no value is left out with the text before it; (text before, name of the field, quoted);
 * the text behind the last one.  NULL with an exception.
 */
ta_access_format *ta_access_format_new(PyObject *spec);
void ta_access_format_free(ta_access_format *format); /* NULL allowed */

/*
 * Appends the line of a request that is about to be closed.  Fields that a client sets are escaped
 * and cut to a few hundred bytes, the target to 2,000, so that a line fits into PIPE_BUF bytes.
 * `client`: its address, if that is not the peer's (native->req's); else empty.  False: no memory.
 */
TA_MUST_CHECK bool ta_access_format_put(ta_access_format *format, ta_buf *out,
                                        ta_native_exchange *native, int status, ta_str client);

#endif
