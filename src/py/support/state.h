/*
 * state.h -- the module's state: the only place where the extension keeps Python objects.
 *
 * Layer: py/support.  No mutable globals: what C needs to remember between calls lives in the
 * state (one per interpreter) or in an object.
 *
 * Each layer keeps its part in a header of its own, `<layer>_objects.h`, and sees those of the
 * layers below.  The parts lie one after another in one piece of memory: the state as a layer sees
 * it begins with the state as the layer below sees it, and `ta_state` here is the first piece.  So
 * a `ta_state *` is a pointer to the whole, and ta_loop_objects_of(st) costs nothing:
 *
 *     ta_state (support) | ta_json_objects | ta_loop_objects | ... | ta_server_objects
 *
 * How a file takes part:
 *   1. its layer's part gets a struct for it, of *owned object pointers only* (PyObject * or
 *      PyTypeObject *, NULL until its init): module.c visits and clears them all as one array;
 *   2. `int ta_<file>_init(PyObject *module, ta_state *st)` fills it (0, or -1 with an exception)
 *      and adds its public types to the module; one line in module.c's table calls it.
 *
 * How code reaches the state:
 *   - from a slot or a plain method: ta_state_of(Py_TYPE(self))  (walks the bases: not for the
 *     hottest paths; objects there keep a `ta_state *st`, borrowed: their type keeps the module);
 *   - from a METH_METHOD method: ta_state_of_class(defining_class), one load;
 *   - from a module function: ta_state_of_module(module).
 */
#ifndef TA_PY_SUPPORT_STATE_H
#define TA_PY_SUPPORT_STATE_H

#include "py/support/names.h"
#include "py/support/py_compat.h"

/* Interned names, see names.h. */
typedef struct ta_names_state {
#define TA_NAME(id)        PyObject *id;
#define TA_NAME2(id, text) PyObject *id;
    TA_NAMES(TA_NAME, TA_NAME2)
#undef TA_NAME
#undef TA_NAME2
} ta_names_state;

/* exc.c */
typedef struct ta_exc_state {
    PyObject *cancelled_error; /* asyncio.CancelledError */
    PyObject *error_logger;    /* logging.getLogger("turboapi.error") */
} ta_exc_state;

/* in_context.c */
typedef struct ta_in_context_state {
    PyTypeObject *type;
} ta_in_context_state;

/* pending.c */
typedef struct ta_pending_state {
    PyObject *nothing; /* a Python function that does nothing; NULL where there is a GIL */
} ta_pending_state;

/* spares.c */
typedef struct ta_spares_state {
    PyTypeObject *type;
} ta_spares_state;

/* The part of layer support, and the beginning of the whole. */
typedef struct ta_state {
    ta_names_state names;
    ta_exc_state exc;
    ta_in_context_state in_context;
    ta_pending_state pending;
    ta_spares_state spares;
} ta_state;

extern struct PyModuleDef ta_module_def; /* module.c; constant after load */

static inline ta_state *ta_state_of_module(PyObject *module)
{
    return (ta_state *)PyModule_GetState(module);
}

static inline ta_state *ta_state_of_class(PyTypeObject *defining_class)
{
    return (ta_state *)PyType_GetModuleState(defining_class);
}

/* `type` is one of ours or a subclass of one. */
static inline ta_state *ta_state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &ta_module_def); /* borrowed */
    return module ? (ta_state *)PyModule_GetState(module) : NULL;
}

#endif
