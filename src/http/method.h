/*
 * method.h -- request methods the router knows by number.  Layer: http.
 *
 * Any RFC 9110 token is a method; those without a number of their own are TA_METHOD_OTHER and go
 * by their text.  Method names are case-sensitive.
 */
#ifndef TA_HTTP_METHOD_H
#define TA_HTTP_METHOD_H

#include "http/http.h"

ta_method ta_method_of(ta_str name);

#endif
