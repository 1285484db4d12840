/* status.h -- status codes: ready-made status lines, and what a response with one may have.  Layer:
 * http. */
#ifndef TA_HTTP_STATUS_H
#define TA_HTTP_STATUS_H

#include "base/ta_base.h"

/* "HTTP/1.1 404 Not Found\r\n"; an empty slice for a code without a registered phrase. */
ta_str ta_status_line(int status);

/* The rules of RFC 9110 (6.4.1, 8.6, 15.3.5, 15.3.6, 15.4.5) for a request that is not HEAD. */

/* Whether a response with that code has content: not 1xx, 204, 205, 304. */
static inline bool ta_status_has_content(int status)
{
    return status >= 200 && status != 204 && status != 205 && status != 304;
}
/* Whether a content-length is added to it: a 205 says that its content is of no length. */
static inline bool ta_status_adds_length(int status)
{
    return ta_status_has_content(status) || status == 205;
}
/* Whether a content-length that an application gave must go: that of a 304 tells what a 200 would
 * have. */
static inline bool ta_status_refuses_length(int status)
{
    return !ta_status_has_content(status) && status != 304;
}

#endif
