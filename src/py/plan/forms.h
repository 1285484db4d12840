/*
 * forms.h -- bodies of forms into lists of their items.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_FORMS_H
#define TA_PY_PLAN_FORMS_H

#include "py/plan/plan_objects.h"

/* Adds parse_urlencoded and parse_multipart to the module.  0, or -1 with an exception. */
int ta_forms_init(PyObject *module, ta_state *st);

#endif
