/* date.h -- HTTP dates (RFC 9110 section 5.6.7).  Layer: http. */
#ifndef TA_HTTP_DATE_H
#define TA_HTTP_DATE_H

#include "base/ta_base.h"

#define TA_DATE_LEN 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

/* Writes TA_DATE_LEN bytes, no NUL; years outside 0 to 9999 are clamped. */
void ta_date_format(char *out, int64_t unix_seconds);

#endif
