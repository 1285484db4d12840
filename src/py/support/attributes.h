/*
 * attributes.h -- whether attributes of classes and modules are still what they were: somebody may
 * have replaced what C stands in for.  (guards.h does that for dicts.)
 *
 * Layer: py/support.  Guards are a tuple of (owner, name, value): getattr(owner, name) was value.
 */
#ifndef TA_PY_SUPPORT_ATTRIBUTES_H
#define TA_PY_SUPPORT_ATTRIBUTES_H

#include "py/support/state.h"

/* Whether they are of that form.  0, or -1 with TypeError. */
TA_MUST_CHECK int ta_attributes_check(PyObject *guards);
/* Whether all of them still hold.  `guards` has been checked. */
bool ta_attributes_hold(PyObject *guards);

/* Adds the function attributes_hold to the module.  0, or -1 with an exception. */
int ta_attributes_init(PyObject *module, ta_state *st);

#endif
