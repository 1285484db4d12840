/* in_context.h -- awaiting in a context of its own, see in_context.c.  Layer: py. */
#ifndef TA_PY_SUPPORT_IN_CONTEXT_H
#define TA_PY_SUPPORT_IN_CONTEXT_H

#include "py/support/state.h"

int ta_in_context_init(PyObject *module, ta_state *st);

#endif
