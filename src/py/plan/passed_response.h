/*
 * passed_response.h -- `_core.PassedResponse`: the response of an inside, as its middleware has it.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_PASSED_RESPONSE_H
#define TA_PY_PLAN_PASSED_RESPONSE_H

#include "py/plan/plan_objects.h"

/*
 * A new instance of `type`, a subclass of ours, for a whole response: steals the other three, and
 * the first of them may be NULL with an exception.  NULL with an exception.
 */
PyObject *ta_passed_response_new(PyTypeObject *type, PyObject *status, PyObject *raw_headers,
                                 PyObject *body);
/*
 * The same of what a middleware or an endpoint has returned, if that is a whole response without
 * background tasks.  1 and *out (new); 0: it is not; -1 with an exception.
 */
TA_MUST_CHECK int ta_passed_response_of(ta_state *st, PyTypeObject *type, PyObject *response,
                                        PyObject **out);
/*
 * An awaitable that sends it (new), if it is whole; NULL: call it, or with an exception.
 * `response` must be an instance of a subclass of ours.
 */
PyObject *ta_passed_response_send(ta_state *st, PyObject *response, PyObject *send);

int ta_passed_response_init(PyObject *module, ta_state *st);

#endif
