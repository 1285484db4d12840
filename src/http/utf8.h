/* utf8.h -- checks text that comes in pieces for valid UTF-8 (RFC 3629).  Layer: http. */
#ifndef TA_HTTP_UTF8_H
#define TA_HTTP_UTF8_H

#include "base/ta_base.h"

/* What is known of a character that has begun; zeroed at first, and between texts. */
typedef struct ta_utf8 {
    uint8_t need;      /* bytes that it still lacks; 0: none has begun */
    uint8_t low, high; /* what the next one may be */
} ta_utf8;

/* False as soon as what came so far cannot be the beginning of valid UTF-8; not called again then.
 * The text is complete when `need` is 0 at its end. */
bool ta_utf8_feed(ta_utf8 *state, ta_str piece);

#endif
