/*
 * request_id.h -- names of requests: taken from a trusted proxy, or made.
 *
 * Layer: py/server.  The name is in scope["turboapi.request_id"], in lines of the access log and of
 * errors, and if wanted in a field of the response.
 */
#ifndef TA_PY_SERVER_REQUEST_ID_H
#define TA_PY_SERVER_REQUEST_ID_H

#include "py/server/native_exchange.h"

typedef struct ta_request_ids ta_request_ids;

enum { TA_REQUEST_ID_MAX = 128 };

/* `spec` is (field that names come in, or None; trusts(host) or None; field of the response, or
 * None), the names of fields as bytes in lower case.  NULL with an exception. */
ta_request_ids *ta_request_ids_new(PyObject *spec);
void ta_request_ids_free(ta_request_ids *ids);                                /* NULL allowed */
int ta_request_ids_traverse(ta_request_ids *ids, visitproc visit, void *arg); /* NULL allowed */

/* Gives a request that has come its name (notes.id); no memory: it has none. */
void ta_request_ids_give(ta_request_ids *ids, ta_native_exchange *native);
/* Empty: it has none. */
ta_str ta_request_id(const ta_native_exchange *native);

/* Adds the field to a head whose fields are in `fields` if `own`, else are copied there; unless the
 * application has set it.  The head follows. */
void ta_request_ids_answer(const ta_request_ids *ids, const ta_native_exchange *native,
                           ta_fields *fields, ta_response_head *head);

#endif
