/* date.h -- HTTP dates (RFC 9110 section 5.6.7).  Layer: http. */
#ifndef TA_HTTP_DATE_H
#define TA_HTTP_DATE_H

#include "base/ta_base.h"

#define TA_DATE_LEN 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */

/* Writes TA_DATE_LEN bytes, no NUL; years outside 0 to 9999 are clamped. */
void ta_date_format(char *out, int64_t unix_seconds);
/*
 * Reads the three forms a recipient must accept: IMF-fixdate, RFC 850 and asctime; two-digit years
 * are placed within 50 years of `now`.  TA_OK or TA_EBAD.
 */
TA_MUST_CHECK int ta_date_parse(ta_str text, int64_t now, int64_t *out);

#endif
