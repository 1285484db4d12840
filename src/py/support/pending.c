/*
 * pending.c -- see pending.h.
 *
 * Layer: py/support.  No function of the C API does all that is pending.  The call of a Python
 * function does, before its first instruction.
 */
#include "py/support/pending.h"

#ifdef Py_GIL_DISABLED

int ta_pending_do(ta_state *st)
{
    PyObject *res = PyObject_CallNoArgs(st->pending.nothing);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int ta_pending_init(PyObject *Py_UNUSED(module), ta_state *st)
{
    PyObject *globals = PyDict_New();
    if (globals == NULL)
        return -1;
    st->pending.nothing = PyRun_String("lambda: None", Py_eval_input, globals, globals);
    Py_DECREF(globals);
    return st->pending.nothing ? 0 : -1;
}

#else

int ta_pending_init(PyObject *Py_UNUSED(module), ta_state *Py_UNUSED(st))
{
    return 0;
}

#endif
