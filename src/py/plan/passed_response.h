/*
 * passed_response.h -- `_core.PassedResponse`: the response of an inside, as its middleware has it.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_PASSED_RESPONSE_H
#define TA_PY_PLAN_PASSED_RESPONSE_H

#include "py/plan/plan_objects.h"
#include "py/support/outcome.h"

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
 * Sends it, if it is whole.  `response` must be an instance of a subclass of ours.  TA_DONE: nobody
 * outside wants to see the messages, and it was sent; TA_WAITS: await *awaitable (new), or, where
 * that is NULL, what a call of the response gives.
 */
ta_outcome ta_passed_response_send(ta_state *st, PyObject *response, PyObject *send,
                                   PyObject **awaitable);

int ta_passed_response_init(PyObject *module, ta_state *st);

#endif
