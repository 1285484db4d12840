/*
 * convert.h -- the convertors of path parameters: how far a value reaches, and what it stands for.
 *
 * Layer: route.  All functions are pure.
 */
#ifndef TA_ROUTE_CONVERT_H
#define TA_ROUTE_CONVERT_H

#include "route/tree.h"

/* Returns the convertor of that name; -1: none of Starlette's own. */
int ta_conv_find(ta_str name);

/* Returns the length of the longest run of ASCII digits at the start of s. */
size_t ta_conv_digits(const char *s, size_t len);
/*
 * Returns the length of the UUID at the start of s, 32 hexadecimal digits with up to four hyphens
 * in their places; 0: none.
 */
size_t ta_conv_uuid_span(const char *s, size_t len);

/* Reads a text that matched its convertor.  TA_OK, or TA_ETOOLARGE: beyond int64_t. */
TA_MUST_CHECK int ta_conv_int(ta_str text, int64_t *out);

#endif
