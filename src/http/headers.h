/*
 * headers.h -- look-ups in a header list and in comma-separated values.  Layer: http.
 *
 * Names in a ta_header list are lower case (the parser makes them so); the names asked for must be.
 */
#ifndef TA_HTTP_HEADERS_H
#define TA_HTTP_HEADERS_H

#include "http/http.h"

/* First field of that name, or NULL. */
const ta_header *ta_headers_find(const ta_header *headers, uint32_t n, ta_str name);

/* Whether `byte` may stand in a token (RFC 9110 section 5.6.2). */
bool ta_is_token_char(unsigned char byte);
/* A non-empty token. */
bool ta_is_token(ta_str s);
/* What a field value may contain: HTAB, SP, VCHAR and obs-text; no control characters. */
bool ta_is_field_value(ta_str s);
/* Lower case of a token character; 0 for every other byte. */
extern const unsigned char ta_token_lower[256];

/* The value of a Content-Length field (RFC 9110 section 8.6): decimal digits, at most INT64_MAX.
 * False, and *out as it was, for anything else. */
TA_MUST_CHECK bool ta_length_of(ta_str value, int64_t *out);

/* Without surrounding SP and HTAB. */
ta_str ta_str_trim(ta_str s);
/* ASCII case-insensitive; `lower` must be lower case. */
bool ta_str_ieq(ta_str s, ta_str lower);
static inline char ta_ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/*
 * Cuts the first element of a comma-separated list off `list`; false at its end.  Elements come
 * trimmed, empty ones are skipped.  Knows nothing of quoted strings: for lists of tokens.
 */
bool ta_list_next(ta_str *list, ta_str *element);
/* Whether the list has that token, in any case; `lower` must be lower case. */
bool ta_list_has(ta_str list, ta_str lower);

#endif
