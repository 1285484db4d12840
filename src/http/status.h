/* status.h -- status codes: ready-made status lines and reason phrases.  Layer: http. */
#ifndef TA_HTTP_STATUS_H
#define TA_HTTP_STATUS_H

#include "base/ta_base.h"

/* "Not Found" for 404; "" for a code without a registered phrase. */
ta_str ta_status_reason(int status);
/* "HTTP/1.1 404 Not Found\r\n"; an empty slice for a code without a registered phrase. */
ta_str ta_status_line(int status);
/* Whether a response with that code may carry a body: not 1xx, 204, 304. */
static inline bool ta_status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

#endif
