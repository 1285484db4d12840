/*
 * header_fields.h -- `_core.HeaderFields`: the header fields of a response, by name.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_HEADER_FIELDS_H
#define TA_PY_PLAN_HEADER_FIELDS_H

#include "py/plan/plan_objects.h"

/* A new instance of `type`, a subclass of ours, over a list of pairs (borrowed); NULL with an
 * exception. */
PyObject *ta_header_fields_new(PyTypeObject *type, PyObject *list);
int ta_header_fields_init(PyObject *module, ta_state *st);

#endif
