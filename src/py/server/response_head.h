/*
 * response_head.h -- a response head that waits for its body.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_SERVER_RESPONSE_HEAD_H
#define TA_PY_SERVER_RESPONSE_HEAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "http/http.h"

typedef struct ta_head_out {
    ta_buf lines;   /* owned: field lines */
    unsigned flags; /* TA_RESP_* */
    int status;
    int64_t length; /* content-length given by the application, -1: none */
} ta_head_out;

/*
 * Appends the fields of an iterable of (name, value) bytes pairs, checked.  `transfer-encoding:
 * chunked` is left out: framing is the protocol's.  -1 with RuntimeError as uvicorn's, TypeError,
 * ValueError.
 */
int ta_head_add(ta_head_out *head, PyObject *headers);
/* Takes off the content-length that a response with this status must not have, or not as it is: of
 * 204 (RFC 9110 8.6), of 205, whose content is none (15.3.6). */
void ta_head_suit(ta_head_out *head, int status);
void ta_head_reset(ta_head_out *head); /* as if nothing was added */
/* Whether it can stand in a head line: no control characters but the tab. */
bool ta_head_value_ok(ta_str value);
/* The flags that field lines made in C ask for. */
unsigned ta_head_scan(ta_str lines);

#endif
