/*
 * md5.h -- MD5 (RFC 1321) of a short text.  Layer: http.
 *
 * Not for security: Starlette's entity tags are MD5 sums.
 */
#ifndef TA_HTTP_MD5_H
#define TA_HTTP_MD5_H

#include "base/ta_base.h"

#define TA_MD5_HEX 32

/* Writes the sum in lower-case hexadecimal digits, no NUL.  False: OpenSSL has no MD5 (FIPS). */
TA_MUST_CHECK bool ta_md5_hex(char out[TA_MD5_HEX], ta_str text);

#endif
