/*
 * response_head.h -- fields of a response, from Python objects.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_SERVER_RESPONSE_HEAD_H
#define TA_PY_SERVER_RESPONSE_HEAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "http/http.h"

/*
 * Appends the fields of an iterable of (name, value) bytes pairs, checked.  `transfer-encoding:
 * chunked` is left out: framing is the protocol's.  -1 with RuntimeError as uvicorn's, TypeError,
 * ValueError.
 */
int ta_response_head_add(ta_fields *head, PyObject *headers);
/* Takes off the content-length that a response with its status must not have, or not as it is: of
 * 204 (RFC 9110 8.6), of 205, whose content is none (15.3.6). */
void ta_response_head_suit(ta_fields *head);
/* Whether it can stand in a head line: no control characters but the tab. */
bool ta_response_head_value_ok(ta_str value);

#endif
